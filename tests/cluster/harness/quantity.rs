//! Kubernetes quantities for the audit. In: text such as `100m`, `1.5Gi`, `2e3`. Out: an exact count of nanos. Written here rather than taken from
//! the scheduler under test, so that one mistake cannot hide in both.

use anyhow::{Context as _, Result, bail};

const NANOS: i128 = 1_000_000_000;

/// The value in units of 10^-9, rounded up, as the API server does for what is finer.
pub fn nanos(text: &str) -> Result<i128> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (factor, divisor) = scale(suffix).with_context(|| format!("quantity {text:?}"))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let digits = format!("{}{fraction}", whole.trim_start_matches(['+', '-']));
    if digits.is_empty() {
        bail!("quantity {text:?} has no digits");
    }
    let units: i128 = digits.parse().with_context(|| format!("quantity {text:?}"))?;
    let divisor = divisor * 10_i128.pow(u32::try_from(fraction.len())?);
    let scaled = units * NANOS * factor;
    Ok(sign * ((scaled + divisor - 1) / divisor))
}

/// Factor and divisor that a suffix stands for.
fn scale(suffix: &str) -> Result<(i128, i128)> {
    Ok(match suffix {
        "" => (1, 1),
        "n" => (1, NANOS),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
            Some(Ok(exponent)) if exponent.abs() <= 18 => {
                let power = 10_i128.pow(exponent.unsigned_abs());
                if exponent < 0 { (1, power) } else { (power, 1) }
            }
            _ => bail!("unknown suffix {suffix:?}"),
        },
    })
}

#[test]
fn exact_values() -> Result<()> {
    for (text, expected) in [
        ("1", NANOS),
        ("100m", NANOS / 10),
        ("1.5Gi", 3 * (1 << 29) * NANOS),
        ("0.1", NANOS / 10),
        ("2e3", 2000 * NANOS),
        ("5E-1", NANOS / 2),
        ("1n", 1),
        ("0.5n", 1),
        ("-1", -NANOS),
        ("110", 110 * NANOS),
    ] {
        assert_eq!(nanos(text)?, expected, "{text}");
    }
    for bad in ["", "Gi", "1x", "1e99", "one"] {
        assert!(nanos(bad).is_err(), "{bad:?}");
    }
    Ok(())
}

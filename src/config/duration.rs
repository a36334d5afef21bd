//! Go's text form of durations (`1m30s`, `100ms`), as Kubernetes' configuration has it. In: text. Out: milliseconds, and back.

use crate::model::time::DurationMs;

const NANOS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of a duration text; may be negative. The error is Go's `time.ParseDuration`'s.
pub fn parse_signed(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if number.is_empty() {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, scale)) = NANOS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let nanos = scaled(number, *scale).ok_or_else(invalid)?;
        total = total.checked_add(nanos).ok_or_else(invalid)?;
        rest = after;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

/// `number` (digits with at most one point) times `scale`, fractions of a nanosecond cut off.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(u128::from(digit - b'0') * place)?;
    }
    Some(nanos)
}

/// A duration that is not negative, fractions of a millisecond rounded up; `None` for everything else.
pub fn parse(text: &str) -> Option<DurationMs> {
    u64::try_from(parse_signed(text).ok()?).ok().map(|nanos| DurationMs(nanos.div_ceil(1_000_000)))
}

/// Go's text form: `1m30s`, `1.5s`, `100ms`, `0s`.
pub fn format(duration: DurationMs) -> String {
    let millis = duration.0;
    if (1..1_000).contains(&millis) {
        return format!("{millis}ms");
    }
    let fraction = format!(".{:03}", millis % 1_000);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let (seconds, minutes) = (millis / 1_000 % 60, millis / 60_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, minutes) => format!("{minutes}m{seconds}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_gos_form() {
        for (text, nanos) in [
            ("15s", Ok(15_000_000_000)),
            ("1m30s", Ok(90_000_000_000)),
            ("1.5h", Ok(5_400_000_000_000)),
            (".5s", Ok(500_000_000)),
            ("100ms", Ok(100_000_000)),
            ("1\u{b5}s", Ok(1_000)),
            ("0", Ok(0)),
            ("-2s", Ok(-2_000_000_000)),
            ("15", Err("time: missing unit in duration \"15\"")),
            ("15 s", Err("time: unknown unit \" s\" in duration \"15 s\"")),
            ("1d", Err("time: unknown unit \"d\" in duration \"1d\"")),
            ("", Err("time: invalid duration \"\"")),
            ("s", Err("time: invalid duration \"s\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("1..2s", Err("time: invalid duration \"1..2s\"")),
            ("99999999999h", Err("time: invalid duration \"99999999999h\"")),
        ] {
            assert_eq!(parse_signed(text), nanos.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn writes_gos_form() {
        for (millis, text) in
            [(0, "0s"), (100, "100ms"), (1_500, "1.5s"), (15_000, "15s"), (1_050, "1.05s"), (600_000, "10m0s"), (3_661_000, "1h1m1s")]
        {
            assert_eq!(format(DurationMs(millis)), text);
            assert_eq!(parse(text), Some(DurationMs(millis)));
        }
        assert_eq!(parse("1ns"), Some(DurationMs(1)), "never rounded to nothing");
        assert_eq!(parse("-1s"), None);
    }
}

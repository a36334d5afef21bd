//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`): text in, an exact number of nano-units out.
//!
//! Grammar and rounding of apimachinery's `resource.Quantity`: suffixes n u m "" k M G T P E, Ki Mi Gi Ti Pi Ei, and decimal exponents.
//! Everything is kept exactly, so that sums round once, at the end, as upstream does. Finer than a nano rounds up, as upstream's parser does.

use std::{fmt, iter::Sum, ops::Add};

const NANOS: i128 = 1_000_000_000;
/// Upstream caps what it parses at 2^63-1 units.
const NANOS_MAX: i128 = (i64::MAX as i128) * NANOS;

/// An exact amount, in nano-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i128);

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a quantity: {why}; write a number with one of the suffixes m, k, M, G, T, Ki, Mi, Gi, Ti")]
pub struct QuantityError {
    text: String,
    why: &'static str,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A whole number of units.
    pub const fn from_units(units: i64) -> Self {
        Self(units as i128 * NANOS)
    }

    /// A whole number of thousandths.
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli as i128 * (NANOS / 1000))
    }

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse(text).map(Self).map_err(|why| QuantityError { text: text.chars().take(64).collect(), why })
    }

    /// Whole units, rounded up (away from zero).
    pub fn units(self) -> i64 {
        ceil_div(self.0, NANOS)
    }

    /// Thousandths, rounded up (away from zero).
    pub fn milli(self) -> i64 {
        ceil_div(self.0, NANOS / 1000)
    }

    /// This without `other`, at least nothing.
    #[must_use]
    pub fn saturating_less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// Whether this is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Quantity {
    /// Units if whole, else thousandths rounded up: for people, not for round trips.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % NANOS == 0 { write!(f, "{}", self.units()) } else { write!(f, "{}m", self.milli()) }
    }
}

fn ceil_div(nanos: i128, by: i128) -> i64 {
    let whole = nanos / by;
    let rounded = if nanos % by == 0 { whole } else { whole + nanos.signum() };
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

fn parse(text: &str) -> Result<i128, &'static str> {
    let (negative, rest) = match text.as_bytes().first() {
        None => return Err("it is empty"),
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
    };
    let number_len = rest.bytes().position(|b| !(b.is_ascii_digit() || b == b'.')).unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err("it has no digits");
    }
    if fraction.contains('.') {
        return Err("it has two decimal points");
    }
    let nanos = scale(whole, fraction, Suffix::parse(suffix)?);
    Ok(if negative { -nanos } else { nanos })
}

/// A factor of ten to a power or of two to a power.
#[derive(Clone, Copy)]
enum Suffix {
    Decimal { exponent: i32 },
    Binary { shift: u32 },
}

impl Suffix {
    fn parse(suffix: &str) -> Result<Self, &'static str> {
        let decimal = |exponent| Ok(Self::Decimal { exponent });
        let binary = |shift| Ok(Self::Binary { shift });
        match suffix {
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "" => decimal(0),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
                Some(Ok(exponent)) => decimal(exponent),
                _ => Err("its suffix is unknown"),
            },
        }
    }
}

/// (whole + 0.fraction) x factor, in nanos, rounded up and capped at what upstream can hold.
fn scale(whole: &str, fraction: &str, suffix: Suffix) -> i128 {
    let whole = whole.trim_start_matches('0');
    if whole.len() > WHOLE_DIGITS_MAX {
        return NANOS_MAX;
    }
    let (kept, dropped) = fraction.split_at(fraction.len().min(FRACTION_DIGITS_MAX));
    let lost = dropped.bytes().any(|digit| digit != b'0');
    let (whole, numerator) = (digits(whole), digits(kept));
    let places = u32::try_from(kept.len()).unwrap_or(0);
    let nanos = match suffix {
        Suffix::Binary { shift } => shifted(whole, numerator, places, shift),
        Suffix::Decimal { exponent } => {
            let value = whole * 10_i128.pow(places) + numerator;
            times_ten_to(value, exponent.saturating_add(9).saturating_sub_unsigned(places))
        }
    };
    nanos.saturating_add(i128::from(lost)).min(NANOS_MAX)
}

/// 10^20 units are over upstream's cap whatever follows, unless a tiny exponent does, which nobody writes.
const WHOLE_DIGITS_MAX: usize = 20;
/// Further digits are below a nano even of an exbibyte; they only round up.
const FRACTION_DIGITS_MAX: usize = 18;

fn digits(text: &str) -> i128 {
    text.bytes().fold(0, |value, digit| value * 10 + i128::from(digit - b'0'))
}

fn shifted(whole: i128, numerator: i128, places: u32, shift: u32) -> i128 {
    let whole = whole.checked_mul(1 << shift).and_then(|units| units.checked_mul(NANOS)).unwrap_or(NANOS_MAX);
    // Below 10^18 x 2^60, which an i128 holds.
    let fraction = times_ten_to(numerator << shift, 9_i32.saturating_sub_unsigned(places));
    whole.saturating_add(fraction)
}

/// value x 10^power; a negative power divides and rounds up; what does not fit is capped.
fn times_ten_to(value: i128, power: i32) -> i128 {
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    match (power >= 0, factor) {
        _ if value == 0 => 0,
        (true, Some(factor)) => value.checked_mul(factor).unwrap_or(NANOS_MAX),
        (true, None) => NANOS_MAX,
        (false, Some(factor)) => value / factor + i128::from(value % factor != 0),
        (false, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_upstream_reads() {
        for (text, milli, units) in [
            ("0", 0, 0),
            ("100m", 100, 1),
            ("1", 1000, 1),
            ("1.5", 1500, 2),
            (".5", 500, 1),
            ("1.", 1000, 1),
            ("+2", 2000, 2),
            ("-1.5", -1500, -2),
            ("1Ki", 1_024_000, 1024),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("0.1Gi", 107_374_182_400, 107_374_183),
            ("2e3", 2_000_000, 2000),
            ("2E3", 2_000_000, 2000),
            ("1e-3", 1, 1),
            ("12k", 12_000_000, 12_000),
            ("100u", 1, 1),
            ("1n", 1, 1),
            ("0.0000000001", 1, 1),
            ("00012", 12_000, 12),
        ] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!((quantity.milli(), quantity.units()), (milli, units), "{text}");
        }
    }

    #[test]
    fn caps_what_is_beyond_64_bits() {
        for text in ["9223372036854775808", "1e40", "99999999999999999999999999Ei", "8Ei", "1e2000000000"] {
            assert_eq!(Quantity::parse(text).unwrap().units(), i64::MAX, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", "-", ".", "m", "1.2.3", "1 Gi", "1gi", "0x10", "1e", "1e1.5", "١", "1K", "NaN"] {
            let error = Quantity::parse(text).unwrap_err().to_string();
            assert!(error.contains("is not a quantity"), "{error}");
        }
    }

    #[test]
    fn sums_exactly_and_rounds_once() {
        let total: Quantity = ["500u", "500u"].iter().map(|text| Quantity::parse(text).unwrap()).sum();
        assert_eq!(total.milli(), 1);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn whole_numbers_survive(units in 0..i64::MAX) {
            prop_assert_eq!(Quantity::parse(&units.to_string()).unwrap().units(), units);
        }
    }
}

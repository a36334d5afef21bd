//! Points and spans of time as plain integers. The pure rooms are told what time it is; they never ask.

use std::ops::{Add, Sub};

/// Milliseconds since the Unix epoch, or since the start of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A span in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationMs(pub u64);

impl DurationMs {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// The span in seconds, for metrics.
    #[allow(clippy::cast_precision_loss)] // spans stay far below 2^53 ms
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Timestamp {
    /// Time passed since `earlier`, zero when the clock went back.
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }

    /// The whole second at or before this time.
    pub fn floor_to_second(self) -> Self {
        Self(self.0 / 1000 * 1000)
    }
}

/// Days from 1970-01-01 to the first of March of year 0 and back: with March as first month the leap day is the last day of a year.
const DAYS_TO_EPOCH: i64 = 719_468;
/// Days in 400 years.
const DAYS_OF_ERA: i64 = 146_097;

impl Timestamp {
    /// Reads RFC 3339 (`2024-02-29T12:00:00.5Z`, `…+02:00`); fractions beyond milliseconds are cut off. `None` for anything else and for times before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, time) = text.split_once(['T', 't'])?;
        let [year, month, day] = fixed(date, '-', [4, 2, 2])?;
        let zone_at = time.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = time.split_at(zone_at);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let [hour, minute, second] = fixed(clock, ':', [2, 2, 2])?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let millis: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
        let offset_minutes = match zone.as_bytes().first()? {
            b'Z' | b'z' if zone.len() == 1 => 0,
            sign @ (b'+' | b'-') => {
                let [hours, minutes] = fixed(&zone[1..], ':', [2, 2])?;
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 60 + minutes) * if *sign == b'+' { 1 } else { -1 }
            }
            _ => return None,
        };
        let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
        u64::try_from(seconds * 1_000 + millis).ok().map(Self)
    }

    /// As Kubernetes writes times: RFC 3339 in UTC, whole seconds.
    pub fn to_rfc3339(self) -> String {
        let seconds = i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX);
        let (year, month, day) = date_of(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Numbers of exactly so many digits.
fn fixed<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * DAYS_OF_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - DAYS_TO_EPOCH
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, day) = (days.div_euclid(DAYS_OF_ERA), days.rem_euclid(DAYS_OF_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl Add<DurationMs> for Timestamp {
    type Output = Self;
    fn add(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<DurationMs> for Timestamp {
    type Output = Self;
    fn sub(self, span: DurationMs) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_times_as_kubernetes_does() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:34:56Z", Some(951_827_696_000)),
            ("2024-12-31T23:59:59.123456Z", Some(1_735_689_599_123)),
            ("2024-03-01T01:30:00+02:00", Some(1_709_249_400_000)),
            ("2024-02-29T23:30:00Z", Some(1_709_249_400_000)),
            ("2100-03-01T00:00:00.5Z", Some(4_107_542_400_500)),
            ("1969-12-31T23:59:59Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01 00:00:00Z", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01T00:00:00.Z", None),
            ("2024-01-01T00:00:00+2:00", None),
            ("é024-01-01T00:00:00Z", None),
            ("", None),
        ] {
            let got = Timestamp::parse_rfc3339(text);
            assert_eq!(got, millis.map(Timestamp), "{text}");
        }
        for days in (0..60_000).step_by(7) {
            let at = Timestamp(days * 86_400_000 + 3_661_000);
            assert_eq!(Timestamp::parse_rfc3339(&at.to_rfc3339()), Some(at));
        }
    }
}

//! The calendar: which instants a cron schedule means in a zone. In: the schedule's text, an IANA name. Out: the next instant after another.
//!
//! What happens when clocks are changed is ours to say, once for every schedule:
//!
//! - A schedule for every hour goes by elapsed time: the hour that comes twice counts twice, the one that is left out does not count.
//! - Any other names local times. One that is left out runs once, at the first instant after the gap; one that comes twice runs the first time.

use std::sync::LazyLock;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    SignedDuration, Timestamp as Instant, ToSpan as _, Zoned,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::model::time::Timestamp;

/// The zones that this program was built with.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
/// Local time may go back by so much.
const FOLD_HOURS_MAX: i64 = 3;
/// Local times that are asked for one instant: those of a gap mean one and the same.
const TRIES_MAX: usize = 2_000;

/// A schedule in its zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    every_hour: bool,
}

/// Why a schedule has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// Its text.
    #[error("{0:?} is not a schedule: {1}; give minute, hour, day of month, month and day of week")]
    Text(String, String),
    /// It names no time at all.
    #[error("{0:?} never comes: no such day exists")]
    Never(String),
    /// Its zone.
    #[error("{0:?} is not a time zone; give an IANA name such as Europe/Berlin")]
    Zone(String),
}

impl Schedule {
    /// Reads a schedule; an empty zone is UTC.
    pub fn parse(schedule: &str, zone: &str) -> Result<Self, BadSchedule> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(schedule).map_err(|error| BadSchedule::Text(schedule.to_owned(), error.to_string()))?;
        let name = if zone.is_empty() { "UTC" } else { zone };
        let zone = ZONES.get(name).map_err(|_| BadSchedule::Zone(name.to_owned()))?;
        let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        let read = Self { cron, zone, every_hour };
        // February has 29 days within eight years of any time.
        if read.next_after(Timestamp(946_684_800_000)).is_none() {
            return Err(BadSchedule::Never(schedule.to_owned()));
        }
        Ok(read)
    }

    /// The first instant of the schedule after another one.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let instant = Instant::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
        if self.every_hour {
            let next = self.cron.find_next_occurrence(&instant.to_zoned(self.zone.clone()), false).ok()?;
            return stamp(next.timestamp());
        }
        let local = self.zone.to_datetime(instant).checked_sub(FOLD_HOURS_MAX.hours()).ok()?;
        // Local times are walked as if they were times of a zone without changes.
        let mut walked = local.to_zoned(TimeZone::UTC).ok()?;
        for _ in 0..TRIES_MAX {
            walked = self.cron.find_next_occurrence(&walked, false).ok()?;
            let meant = self.meant(&walked)?;
            if meant > instant {
                return stamp(meant);
            }
        }
        None
    }

    /// The instant that a local time means.
    fn meant(&self, walked: &Zoned) -> Option<Instant> {
        let local: DateTime = walked.datetime();
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().ok(),
            AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
            AmbiguousOffset::Gap { .. } => {
                let beyond = ambiguous.later().ok()?.checked_add(SignedDuration::from_nanos(1)).ok()?;
                self.zone.preceding(beyond).next().map(|change| change.timestamp())
            }
        }
    }
}

fn stamp(instant: Instant) -> Option<Timestamp> {
    u64::try_from(instant.as_millisecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        let mut at = Timestamp::parse_rfc3339(from).unwrap();
        let mut next = || {
            at = schedule.next_after(at).unwrap();
            at.to_rfc3339()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn days_on_which_clocks_change() {
        for (schedule, zone, from, wanted) in [
            // Berlin: 02:00 to 03:00 is left out on 29 March 2026.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"][..]),
            ("*/20 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
            ("30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]),
            ("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]),
            // And comes twice on 25 October.
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
            ("0 2,3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"]),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-24T23:59:00Z",
                &["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"],
            ),
            // New York: 8 March and 1 November 2026.
            ("15 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &["2026-03-08T07:00:00Z", "2026-03-09T06:15:00Z"]),
            ("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
            // Lord Howe changes by half an hour: 02:00 to 02:30 is left out on 4 October, 01:30 to 02:00 comes twice on 5 April.
            ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]),
            ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]),
        ] {
            assert_eq!(times(schedule, zone, from, wanted.len()), wanted, "{schedule} {zone}");
        }
    }

    #[test]
    fn a_whole_day_that_is_left_out_counts_once() {
        assert_eq!(
            times("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 3),
            ["2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"]
        );
    }

    #[test]
    fn what_has_no_meaning_is_refused_in_words() {
        for (schedule, zone, wanted) in [
            ("every day", "", "is not a schedule"),
            ("61 * * * *", "", "is not a schedule"),
            ("* * * *", "", "is not a schedule"),
            ("0 0 * * * *", "", "is not a schedule"),
            ("", "", "is not a schedule"),
            ("0 0 31 2 *", "", "never comes"),
            ("0 0 * * *", "Mars/Olympus", "\"Mars/Olympus\" is not a time zone"),
        ] {
            let error = Schedule::parse(schedule, zone).unwrap_err().to_string();
            assert!(error.contains(wanted), "{schedule}: {error}");
        }
    }
}

//! Every expected cycle is there exactly once under its policy: outages replayed in virtual time, against a list made without them.

use std::collections::BTreeSet;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::tasks::{spec::Missed, time::Span};

const DAY: u64 = 86_400_000;
/// How late a look may be.
const LOOK_MS: u64 = 45_000;

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn clockwork(schedule: &str, zone: &str, policy: MissedPolicy, deadline: &str, max: Option<u32>) -> Clockwork {
    let missed = Missed { policy, deadline: Span::new(deadline), max };
    Clockwork::new(&Cron { schedule: schedule.into(), time_zone: zone.into(), cycle_offset: "-6m".into(), missed }).unwrap()
}

/// All scheduled times of (from, until].
fn all(clock: &Clockwork, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    std::iter::successors(clock.next_after(from), |at| clock.next_after(*at)).take_while(|at| *at <= until).collect()
}

/// Looks some time after each time that is due, but not during outages; a crash may hit between a start and the watermark.
fn replay(clock: &Clockwork, from: Timestamp, until: Timestamp, outages: &[(Timestamp, Timestamp)], seed: u64) -> Vec<Timestamp> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let (mut now, mut watermark) = (from, from);
    let mut started = BTreeSet::new();
    while now < until {
        let next = clock.next_after(watermark).unwrap().max(now);
        now = Timestamp((next + DurationMs(rng.random_range(0..LOOK_MS))).0.min(until.0));
        if let Some((_, end)) = outages.iter().find(|(start, end)| *start <= now && now < *end) {
            now = *end;
        }
        let due = clock.due(watermark, now);
        // The names of runs make a start that is repeated harmless: a set.
        started.extend(due.start);
        if rng.random_range(0..10) > 0 {
            watermark = due.until.unwrap_or(watermark);
        }
    }
    started.extend(clock.due(watermark, now).start);
    started.into_iter().collect()
}

fn outages(from: Timestamp, days: u64, count: u64, seed: u64) -> Vec<(Timestamp, Timestamp)> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let share = days * DAY / count;
    let mut outage = |n: u64| {
        let start = from + DurationMs(n * share + rng.random_range(0..share / 2));
        (start, start + DurationMs(rng.random_range(60_000..share / 2)))
    };
    (0..count).map(&mut outage).collect()
}

#[test]
fn thirty_one_days_of_every_five_minutes_with_ten_outages() {
    let from = at("2026-10-10T00:00:30Z");
    let until = from + DurationMs(31 * DAY);
    for seed in 0..2 {
        let gaps = outages(from, 31, 10, seed);
        for zone in ["UTC", "Europe/Berlin"] {
            let clock = clockwork("*/5 * * * *", zone, MissedPolicy::All, "", Some(1_000));
            let expected = all(&clock, from, until);
            assert_eq!(expected.len(), 31 * 288);
            assert_eq!(replay(&clock, from, until, &gaps, seed), expected, "All: nothing is missing, nothing is there twice");

            // Times that an outage may cost, with its end.
            let hit = |t: &Timestamp| gaps.iter().find(|(start, end)| *start <= *t + DurationMs(LOOK_MS) && t <= end).map(|(_, end)| *end);
            let latest = clockwork("*/5 * * * *", zone, MissedPolicy::Latest, "", None);
            let is_last = |t: &Timestamp, end: Timestamp| latest.next_after(*t).unwrap() > end;
            within(&replay(&latest, from, until, &gaps, seed), &expected, |t| hit(t).is_none_or(|end| is_last(t, end)), |_| true);
            let skip = clockwork("*/5 * * * *", zone, MissedPolicy::Skip, "", None);
            let late = |t: &Timestamp| hit(t).is_some_and(|end| end.since(*t) > SKIP_LATE);
            let began = |t: &Timestamp| gaps.iter().any(|(start, _)| *t < *start);
            within(&replay(&skip, from, until, &gaps, seed), &expected, |t| !late(t), |t| !late(t) || began(t));
        }
    }
}

/// All that must be there is, nothing else than may be.
fn within(got: &[Timestamp], expected: &[Timestamp], must: impl Fn(&Timestamp) -> bool, may: impl Fn(&Timestamp) -> bool) {
    let missing: Vec<_> = expected.iter().filter(|t| must(t) && got.binary_search(t).is_err()).collect();
    let extra: Vec<_> = got.iter().filter(|t| !may(t) || expected.binary_search(t).is_err()).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    assert!(got.len() < expected.len(), "the outages cost something");
}

#[test]
fn days_of_changing_clocks_lose_and_double_nothing() {
    for (zone, day) in [
        ("Europe/Berlin", "2026-03-28T20:00:00Z"),
        ("Europe/Berlin", "2026-10-24T20:00:00Z"),
        ("America/New_York", "2026-03-08T00:00:00Z"),
        ("America/New_York", "2026-10-31T20:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T06:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T06:00:00Z"),
    ] {
        let from = at(day);
        for schedule in ["*/6 * * * *", "30 2 * * *", "15 1,2,3 * * *", "0 */2 * * *", "50 0-23 * * *"] {
            let clock = clockwork(schedule, zone, MissedPolicy::All, "", Some(1_000));
            let until = from + DurationMs(2 * DAY);
            let expected = all(&clock, from, until);
            assert!(expected.windows(2).all(|pair| pair[0] < pair[1]), "{schedule} {zone}");
            for seed in 0..3 {
                assert_eq!(replay(&clock, from, until, &outages(from, 2, 3, seed), seed), expected, "{schedule} {zone}");
            }
        }
        let six = all(&clockwork("*/6 * * * *", zone, MissedPolicy::All, "", None), from, from + DurationMs(2 * DAY));
        assert_eq!(six.len(), 480, "every six minutes of elapsed time in {zone}");
        let daily = all(&clockwork("30 2 * * *", zone, MissedPolicy::All, "", None), from, from + DurationMs(2 * DAY));
        assert_eq!(daily.len(), 2, "once a day in {zone}");
    }
}

#[test]
fn years_of_outage_are_not_walked_through_and_never_refused() {
    let clock = clockwork("* * * * *", "", MissedPolicy::All, "", Some(24));
    let due = clock.due(at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:30Z"));
    assert_eq!(due.start.len(), 24);
    assert_eq!(due.start.last(), due.until.as_ref());
    assert!(due.missed > 0);
    let yearly = clockwork("0 0 29 2 *", "", MissedPolicy::All, "", Some(3));
    assert_eq!(yearly.due(at("1980-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")).start.len(), 3);
}

#[test]
fn deadlines_and_cycles() {
    let clock = clockwork("0 */6 * * *", "", MissedPolicy::Latest, "10m", None);
    let watermark = at("2026-01-01T00:00:00Z");
    for (now, starts) in [("2026-01-01T06:10:00Z", 1), ("2026-01-01T06:10:01Z", 0), ("2026-01-01T05:59:59Z", 0)] {
        assert_eq!(clock.due(watermark, at(now)).start.len(), starts, "{now}");
    }
    assert_eq!(clock.cycle(at("2026-01-01T06:00:00Z")), at("2026-01-01T05:54:00Z"));
    assert_eq!(clock.due(watermark, watermark), Due::default());
}

//! Starts by the clock. In: schedule, watermark, now. Out: which scheduled times start a run, and the new watermark.
//!
//! | missed policy | of the times since the watermark, these start a run |
//! |---|---|
//! | Skip | those that are at most `deadline` (1m) ago |
//! | Latest | the last one, if it is at most `deadline` (no bound) ago |
//! | All | the last `max` (24) that are at most `deadline` (no bound) ago |

use super::calendar::{BadSchedule, Schedule};
use crate::{
    config::duration,
    model::time::{DurationMs, Timestamp},
    tasks::spec::{Cron, MissedPolicy},
};

/// How late a start may be with Skip.
const SKIP_LATE: DurationMs = DurationMs(60_000);
/// Runs that are made up for at once with All.
const ALL_MAX: u32 = 24;
/// The first look back; it doubles until it has seen enough.
const LOOK_BACK: DurationMs = DurationMs(3_600_000);
/// How long nothing may be scheduled before the search for what was missed ends.
const LOOK_BACK_MAX: DurationMs = DurationMs(40 * 366 * 86_400_000);

/// A start by the clock that can be asked.
#[derive(Clone, Debug)]
pub struct Clockwork {
    schedule: Schedule,
    policy: MissedPolicy,
    deadline: Option<DurationMs>,
    max: usize,
    offset_ms: i64,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Scheduled times that start a run, in order.
    pub start: Vec<Timestamp>,
    /// Times that are left out; at least so many.
    pub missed: usize,
    /// The new watermark, when there is one: everything up to it is settled as soon as `start` is.
    pub until: Option<Timestamp>,
}

impl Clockwork {
    /// Reads a trigger; what is wrong with offset and spans is found by validation.
    pub fn new(cron: &Cron) -> Result<Self, BadSchedule> {
        let deadline = cron.missed.deadline.ms().or((cron.missed.policy == MissedPolicy::Skip).then_some(SKIP_LATE));
        let nanos = duration::parse_signed(&cron.cycle_offset).unwrap_or(0);
        Ok(Self {
            schedule: Schedule::parse(&cron.schedule, &cron.time_zone)?,
            policy: cron.missed.policy,
            deadline,
            max: usize::try_from(cron.missed.max.unwrap_or(ALL_MAX)).unwrap_or(usize::MAX),
            offset_ms: nanos / 1_000_000,
        })
    }

    /// The cycle of a scheduled time.
    pub fn cycle(&self, scheduled: Timestamp) -> Timestamp {
        Timestamp(scheduled.0.saturating_add_signed(self.offset_ms))
    }

    /// The next scheduled time.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next_after(after)
    }

    /// What is due since the watermark.
    pub fn due(&self, watermark: Timestamp, now: Timestamp) -> Due {
        let wanted = if self.policy == MissedPolicy::Latest { 1 } else { self.max };
        let times = self.last(wanted, watermark, now);
        let Some(until) = times.last().copied() else { return Due::default() };
        let in_time = |at: &Timestamp| self.deadline.is_none_or(|deadline| now.since(*at) <= deadline);
        let late = times.len().saturating_sub(wanted);
        let start: Vec<Timestamp> = times[late..].iter().copied().filter(in_time).collect();
        Due { missed: times.len() - start.len(), start, until: Some(until) }
    }

    /// The last `wanted` times after the watermark, and perhaps some before them: years of outage are not walked through.
    fn last(&self, wanted: usize, watermark: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let mut back = LOOK_BACK;
        loop {
            let from = watermark.max(now - back);
            let mut times = Vec::new();
            let mut at = from;
            while let Some(next) = self.schedule.next_after(at).filter(|next| *next <= now) {
                times.push(next);
                at = next;
            }
            if times.len() >= wanted || from <= watermark || back >= LOOK_BACK_MAX {
                return times;
            }
            back = DurationMs(back.0 * 2);
        }
    }
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;

//! The only clocks: time since a start for decisions and deadlines, wall-clock time for what people read.
//!
//! Deadlines are [`Instant`]s: on Linux that is `CLOCK_MONOTONIC`, which goes on while the process is stopped, so that after a pause a passed
//! deadline is seen as passed. Under tokio's paused time both clocks follow the paused one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::model::time::Timestamp;

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: Timestamp,
    simulated: bool,
}

impl Clock {
    /// The machine's clocks. Steps of the wall clock after the start do not reach [`Clock::now`].
    pub fn system() -> Self {
        Self { started: Instant::now(), started_at: wall_clock(), simulated: false }
    }

    /// Starts at a given time and then follows tokio's clock, for people as well: the same run twice tells the same times.
    pub fn simulated(started_at: Timestamp) -> Self {
        Self { started: Instant::now(), started_at, simulated: true }
    }

    /// Now, never going back.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.started_at.0.saturating_add(millis(self.started.elapsed())))
    }

    /// The instant at which [`Clock::now`] reaches a time; in the past as the start.
    pub fn instant_of(&self, time: Timestamp) -> Instant {
        self.started + Duration::from_millis(time.since(self.started_at).0)
    }

    /// Now, for people and for other hosts.
    pub fn wall(&self) -> jiff::Timestamp {
        let Timestamp(millis) = if self.simulated { self.now() } else { wall_clock() };
        i64::try_from(millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

/// `MicroTime` of the API: RFC 3339 with six digits after the second.
pub fn micro_time(time: jiff::Timestamp) -> String {
    format!("{time:.6}")
}

/// `Time` of the API: RFC 3339 in whole seconds.
pub fn whole_second_time(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks what time it is")]
fn wall_clock() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_paused_time() {
        let clock = Clock::simulated(Timestamp(1_000_000_000_000));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(clock.now(), Timestamp(1_000_000_001_500));
        assert_eq!(micro_time(clock.wall()), "2001-09-09T01:46:41.500000Z");
        assert_eq!(whole_second_time(clock.wall()), "2001-09-09T01:46:41Z");
        assert_eq!(clock.instant_of(Timestamp(1_000_000_001_500)), Instant::now());
    }
}

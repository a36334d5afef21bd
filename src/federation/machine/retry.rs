//! Patience. In: orders that failed, or that were done and do not show yet. Out: until when the same order waits.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::is_same;
use crate::{
    federation::effect::Effect,
    model::time::{DurationMs, Timestamp},
};

/// First wait after a failure.
const FIRST: DurationMs = DurationMs(500);
/// Longest wait before jitter.
const LONGEST: DurationMs = DurationMs(30_000);
/// A wait is stretched by up to this share in percent, so that pods that failed together do not come back together.
const JITTER_PERCENT: u64 = 50;
/// Time given to a watch to show what an order has done.
const SETTLE: DurationMs = DurationMs(10_000);
/// Doublings of [`SETTLE`].
const SETTLE_DOUBLINGS_MAX: u32 = 5;

/// The last failure of each kind of order.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Failure>);

#[derive(Debug)]
struct Failure {
    order: &'static str,
    count: u32,
    until: Timestamp,
}

impl Failures {
    /// Notes a failure; how many in a row it is.
    pub fn add(&mut self, effect: &Effect, now: Timestamp, rng: &mut Pcg64Mcg) -> u32 {
        let order = effect.name();
        let count = self.0.iter().find(|failure| failure.order == order).map_or(0, |failure| failure.count);
        let wait = (FIRST.0 << count.min(16)).min(LONGEST.0);
        let jitter = rng.random_range(0..=wait * JITTER_PERCENT / 100);
        self.0.retain(|failure| failure.order != order);
        self.0.push(Failure { order, count: count + 1, until: now + DurationMs(wait + jitter) });
        count + 1
    }

    /// Repeating it soon is pointless.
    pub fn add_long(&mut self, effect: &Effect, now: Timestamp, rng: &mut Pcg64Mcg) {
        self.0.retain(|failure| failure.order != effect.name());
        self.0.push(Failure { order: effect.name(), count: 16, until: now });
        self.add(effect, now, rng);
    }

    pub fn clear_of(&mut self, effect: &Effect) {
        self.0.retain(|failure| failure.order != effect.name());
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn until(&self, effect: &Effect) -> Option<Timestamp> {
        self.0.iter().find(|failure| failure.order == effect.name()).map(|failure| failure.until)
    }

    /// Whether anything has failed often.
    pub fn is_stuck(&self, count: u32) -> bool {
        self.0.iter().any(|failure| failure.count >= count)
    }
}

/// The order that was done last.
#[derive(Debug)]
pub(super) struct LastDone {
    effect: Effect,
    until: Timestamp,
    pub repeats: u32,
}

impl LastDone {
    /// Follows another one, which counts if it was the same.
    pub fn after(before: Option<Self>, effect: Effect, now: Timestamp) -> Self {
        let repeats = before.filter(|before| is_same(&before.effect, &effect)).map_or(0, |before| before.repeats + 1);
        let until = now + DurationMs(SETTLE.0 << repeats.min(SETTLE_DOUBLINGS_MAX));
        Self { effect, until, repeats }
    }

    pub fn until(&self, effect: &Effect) -> Option<Timestamp> {
        is_same(&self.effect, effect).then_some(self.until)
    }
}

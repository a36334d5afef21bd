//! How long decisions take by the machine's clock. In: the engine's reports. Out: nanoseconds, one a decision. Measured, so never the same twice, and
//! kept apart from everything that is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::scheduler::observe::Observer;

/// Collects what [`Stopwatch`] measures.
#[derive(Clone, Debug, Default)]
pub struct Laps(Arc<Mutex<Vec<u64>>>);

impl Laps {
    /// All of them, shortest first.
    pub fn sorted(&self) -> Vec<u64> {
        let mut laps = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        laps.sort_unstable();
        laps
    }
}

/// Measures decisions: from taking a pod from the queue to its node.
#[derive(Debug)]
pub struct Stopwatch {
    started: Instant,
    laps: Laps,
}

impl Stopwatch {
    /// Writes into `laps`.
    #[expect(clippy::disallowed_methods, reason = "the stopwatch of `Observer::ticks`; no decision reads it")]
    pub fn new(laps: Laps) -> Self {
        Self { started: Instant::now(), laps }
    }
}

impl Observer for Stopwatch {
    fn ticks(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn algorithm(&mut self, nanos: u64) {
        self.laps.0.lock().unwrap_or_else(PoisonError::into_inner).push(nanos);
    }
}

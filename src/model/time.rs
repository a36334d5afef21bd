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

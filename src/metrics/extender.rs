//! Calls of extenders, as metrics. In: what became of each. Out: `isobar_extender_*`.

use std::time::Duration;

use super::{
    Metrics,
    table::{EXTENDER_CALL_DURATION, EXTENDER_CALLS},
};

/// Handles of one extender.
#[derive(Clone)]
pub struct ExtenderMetrics {
    metrics: Metrics,
    extender: Box<str>,
}

impl ExtenderMetrics {
    /// Of the extender with this prefix.
    pub fn new(metrics: &Metrics, extender: &str) -> Self {
        Self { metrics: metrics.clone(), extender: extender.into() }
    }

    /// It was called for so long. Each call goes over a network: looking up the series is nothing beside that.
    pub fn called(&self, verb: &str, is_answered: bool, duration: Duration) {
        let result = if is_answered { "answered" } else { "failed" };
        self.metrics.counter(&EXTENDER_CALLS, &[&self.extender, verb, result]).increment(1);
        self.metrics.histogram(&EXTENDER_CALL_DURATION, &[&self.extender, verb]).record(duration.as_secs_f64());
    }

    /// Its answer made no sense, or said that it failed.
    pub fn refused(&self, verb: &str) {
        self.metrics.counter(&EXTENDER_CALLS, &[&self.extender, verb, "refused"]).increment(1);
    }
}

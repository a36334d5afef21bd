//! What the talk to API servers counts, for metrics. Handles are made once, by name; nothing else here records by name.

use metrics::{Counter, Histogram, counter, histogram};

/// Handles of all counters of this room. Without a recorder they count nothing and cost nothing.
#[derive(Clone)]
pub struct Counts {
    /// Events of watches, by what they say.
    pub watch_events: Counter,
    /// Watches opened anew, for whatever reason.
    pub watch_restarts: Counter,
    /// Complete lists.
    pub lists: Counter,
    /// Objects that could not be read.
    pub bad_objects: Counter,
    /// Bindings acknowledged.
    pub binds_done: Counter,
    /// Bindings that did not happen.
    pub binds_failed: Counter,
    /// Bindings whose outcome had to be read back.
    pub binds_unclear: Counter,
    /// Bindings not sent, as we did not lead.
    pub binds_not_sent: Counter,
    /// Seconds from the order of a binding to its outcome.
    pub bind_seconds: Histogram,
    /// Conditions written.
    pub conditions_written: Counter,
    /// Conditions not written: the queue was full, or the API server would not have them.
    pub conditions_dropped: Counter,
    /// Events written, series updates among them.
    pub events_written: Counter,
    /// Events not written: the queue was full, or the API server would not have them.
    pub events_dropped: Counter,
}

impl Counts {
    /// Handles from the recorder in force.
    pub fn new() -> Self {
        Self {
            watch_events: counter!("isobar_watch_events_total"),
            watch_restarts: counter!("isobar_watch_restarts_total"),
            lists: counter!("isobar_lists_total"),
            bad_objects: counter!("isobar_bad_objects_total"),
            binds_done: counter!("isobar_binds_total", "result" => "bound"),
            binds_failed: counter!("isobar_binds_total", "result" => "failed"),
            binds_unclear: counter!("isobar_binds_unclear_total"),
            binds_not_sent: counter!("isobar_binds_total", "result" => "not_sent"),
            bind_seconds: histogram!("isobar_bind_duration_seconds"),
            conditions_written: counter!("isobar_conditions_total", "result" => "written"),
            conditions_dropped: counter!("isobar_conditions_total", "result" => "dropped"),
            events_written: counter!("isobar_events_total", "result" => "written"),
            events_dropped: counter!("isobar_events_total", "result" => "dropped"),
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

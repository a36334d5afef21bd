//! Triggers as functions: what the clock, other runs and arriving data start. In: specs, times, names. Out: firings, each with the key that its run's name
//! is made of, so that whoever fires it again meets the run that is there.

pub mod after;
pub mod arrival;
pub mod calendar;
pub mod cron;
pub mod directory;
pub mod pattern;
pub mod remembered;

use std::collections::BTreeMap;

use super::run::{TriggerKind, WaitsFor};
use crate::model::time::Timestamp;

/// One reason for one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firing {
    /// What it was.
    pub kind: TriggerKind,
    /// Equal keys of one task are one run.
    pub key: String,
    /// The time that the data is about.
    pub cycle: Option<Timestamp>,
    /// When it was to start: the scheduled time, or the time of the event.
    pub time: Option<Timestamp>,
    /// Values of parameters.
    pub params: BTreeMap<String, String>,
    /// What the run waits for, if not all is there.
    pub waits_for: Option<WaitsFor>,
    /// Which of it is there: entries of `waits_for`.
    pub arrived: Option<String>,
}

//! The rules that hold for all tasks of a cluster. In: the admin's configuration, and priority classes. Out: plain values with every default filled in.

use std::collections::BTreeMap;

use crate::model::time::DurationMs;

/// The rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Names of data sources.
    pub sources: Vec<String>,
    /// Names of log sinks.
    pub sinks: Vec<String>,
    /// Quotas by account; one without an entry has none.
    pub accounts: BTreeMap<String, Quota>,
    /// Pods created a second, on average.
    pub pods_per_second: u32,
    /// Pods created at once.
    pub pods_burst: u32,
    /// Pods of one profile that wait for a node.
    pub unscheduled_max: u32,
    /// Runs of one namespace that have not ended.
    pub live_runs_max: u32,
    /// Values of priority classes.
    pub priorities: BTreeMap<String, i32>,
    /// A run that waited so long counts as one of the next higher class.
    pub aging: DurationMs,
    /// Profile of tasks that name none.
    pub profile: String,
    /// A pod that does not go is deleted without its node's word, when its node is gone.
    pub force_stuck: bool,
    /// The next attempt may begin while the pod before does not go.
    pub allow_overlap: bool,
    /// A pod without a run is deleted after so long.
    pub orphan_after: DurationMs,
    /// Ends are announced; a run is not deleted before.
    pub announce: bool,
    /// How long after its end that is tried.
    pub announce_within: DurationMs,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            sinks: vec!["default".to_owned()],
            accounts: BTreeMap::new(),
            pods_per_second: 20,
            pods_burst: 50,
            unscheduled_max: 200,
            live_runs_max: 10_000,
            priorities: BTreeMap::new(),
            aging: DurationMs(3_600_000),
            profile: "isobar-scheduler".to_owned(),
            force_stuck: false,
            allow_overlap: false,
            orphan_after: DurationMs(600_000),
            announce: false,
            announce_within: DurationMs(3_600_000),
        }
    }
}

/// What an account may have at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Runs that have not begun: more are refused when they are submitted.
    pub queued_max: Option<u32>,
    /// Runs with a pod: more wait.
    pub running_max: Option<u32>,
    /// Requests of all pods, in thousandths, by resource: more wait.
    pub requests_max: BTreeMap<String, u64>,
}

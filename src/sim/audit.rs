//! What really ran. In: each start of a pod's containers, written by the kubelet at the moment it happens. Out: a list that no API object and no outage can
//! change, for the one question that matters: did anything run twice?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// The containers of a pod started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// UID of the pod that a user created: the label of a run, or the pod's own.
    pub home_uid: String,
    /// The pod that the kubelet ran: namespace and name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Where.
    pub node: String,
    /// When.
    pub at: Timestamp,
    /// How often the same pod was started before, in place.
    pub restarts: u32,
}

/// All starts of a cluster. Cheap to clone; all clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct AuditSink(Arc<Mutex<Vec<Start>>>);

impl AuditSink {
    /// Writes one down.
    pub fn record(&self, start: Start) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(start);
    }

    /// All of them, in the order of time.
    pub fn starts(&self) -> Vec<Start> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Home pods whose containers were started in more than one pod, with those pods. Restarts in place are what a restart policy asks for and not counted.
pub fn started_twice<'a>(sinks: impl IntoIterator<Item = &'a AuditSink>) -> Vec<(String, Vec<String>)> {
    let mut pods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for start in sinks.into_iter().flat_map(AuditSink::starts).filter(|start| start.restarts == 0) {
        pods.entry(start.home_uid).or_default().push(format!("{} on {}", start.pod, start.node));
    }
    pods.into_iter().filter(|(_, starts)| starts.len() > 1).collect()
}

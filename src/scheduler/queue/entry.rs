//! A pod in the queue, and how long it must wait after a failure.

use std::sync::Arc;

use crate::model::{
    ids::{ClassIx, PodKey, PodUid, ProfileIx},
    time::{DurationMs, Timestamp},
};
use crate::scheduler::preemption::NodeName;

/// A pod that waits for a node. Holds its class.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    /// Namespace and name.
    pub key: PodKey,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// Its class.
    pub class: ClassIx,
    /// Its profile.
    pub profile: ProfileIx,
    /// `spec.priority`.
    pub priority: i32,
    /// Names of `spec.schedulingGates`.
    pub gates: Box<[Box<str>]>,
    /// Reason and message of condition `PodScheduled=False` as last written or seen, so that an equal one is not written again.
    pub condition: Option<(&'static str, Arc<str>)>,
    /// When it first became ready to be scheduled.
    pub first_queued: Option<Timestamp>,
    /// When it last came into a queue.
    pub queued: Timestamp,
    /// How often it was popped.
    pub attempts: u32,
    /// Failures for which a plugin was to blame.
    pub unschedulable_count: u32,
    /// Failures in a row for which no plugin was to blame.
    pub errors_in_a_row: u32,
    /// Whether the five-minute flush brought it back.
    pub flushed: bool,
    /// The node for which it is nominated.
    pub nominated: Option<NodeName>,
    /// `status.nominatedNodeName` as last seen; empty without one.
    pub nominated_seen: Box<str>,
    /// Number of its last run in a compute cluster, zero before the first.
    pub run_attempt: u32,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// When a binding was not answered clearly; it may still come.
    pub unclear_binding: Option<Timestamp>,
}

/// Which plugins of a profile refused a pod: one bit each, by the plugin's place in the profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rejectors(pub u64);

/// A profile has at most this many plugins, so that a set of them is one word.
pub const PLUGINS_PER_PROFILE_MAX: usize = 64;

impl Rejectors {
    /// Adds a plugin.
    pub fn insert(&mut self, plugin: usize) {
        self.0 |= 1 << (plugin % PLUGINS_PER_PROFILE_MAX);
    }

    /// Whether no plugin is to blame.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The plugins, in profile order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..PLUGINS_PER_PROFILE_MAX).filter(move |plugin| self.0 & (1 << plugin) != 0)
    }
}

/// Bounds of the backoff: `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub initial: DurationMs,
    /// At most; zero switches backoff off.
    pub max: DurationMs,
}

impl Default for Backoff {
    /// Upstream's 1 s and 10 s.
    fn default() -> Self {
        Self { initial: DurationMs::from_secs(1), max: DurationMs::from_secs(10) }
    }
}

impl Backoff {
    /// When the pod may be tried again: doubled with every failure, rounded down to a whole second as upstream does (`SchedulerPopFromBackoffQ`).
    pub fn expiry(self, pod: &QueuedPod) -> Timestamp {
        let failures = if pod.errors_in_a_row > 0 { pod.errors_in_a_row } else { pod.unschedulable_count };
        if failures == 0 || self.max.0 == 0 {
            return pod.queued;
        }
        let doubled = self.initial.0.checked_shl(failures - 1).filter(|doubled| doubled >> (failures - 1) == self.initial.0);
        let wait = doubled.unwrap_or(u64::MAX).min(self.max.0);
        (pod.queued + DurationMs(wait)).floor_to_second()
    }
}

//! What the engine reports of its work for metrics. Reports go one way: nothing that an observer does can change a decision.

use crate::model::time::DurationMs;

/// How an attempt ended: the label of `scheduler_schedule_attempts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptResult {
    /// A binding was acknowledged.
    Scheduled,
    /// No node takes the pod.
    Unschedulable,
    /// Something broke.
    Error,
}

impl AttemptResult {
    /// Upstream's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// Sizes of what the engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Pods in the active queue.
    pub active: usize,
    /// Pods in backoff.
    pub backoff: usize,
    /// Pods that no node takes.
    pub unschedulable: usize,
    /// Pods held back before the queue.
    pub gated: usize,
    /// Node objects.
    pub nodes: usize,
    /// Pods on nodes, assumed ones included.
    pub pods: usize,
    /// Pods with a node that the API server has not confirmed yet.
    pub assumed: usize,
    /// Pods held by Permit plugins.
    pub waiting: usize,
    /// Live pod classes.
    pub classes: usize,
    /// Bytes held by class views.
    pub view_bytes: usize,
    /// Interned strings.
    pub symbols: usize,
}

/// Receives reports. All methods have empty defaults. Times come from [`Observer::ticks`], which the engine only subtracts and hands back.
#[allow(unused_variables)]
pub trait Observer: Send {
    /// A stopwatch in nanoseconds; never read to decide anything.
    fn ticks(&self) -> u64 {
        0
    }
    /// One scheduling cycle is over: from popping the pod to the decision.
    fn algorithm(&mut self, nanos: u64) {}
    /// An attempt ended without a binding, or with one acknowledged.
    fn attempt(&mut self, profile: &str, result: AttemptResult, nanos: u64) {}
    /// A step of the cycle: `PreFilter`, `Filter`, `PostFilter`, `Score`, `Reserve`, `Permit`; status `Success`, `Unschedulable`, `Error`.
    fn extension_point(&mut self, profile: &str, point: &'static str, status: &'static str, nanos: u64) {}
    /// A plugin was compiled for a class (`PreFilter`, `PreScore`) or asked about all nodes (`Filter`, `Score`); timed on a tenth of the cycles.
    fn plugin(&mut self, profile: &str, plugin: &str, point: &'static str, nanos: Option<u64>) {}
    /// A pod entered a queue (`active`, `backoff`, `unschedulable`, `gated`) because of an event with upstream's label.
    fn queued(&mut self, queue: &'static str, event: &'static str) {}
    /// A pod is bound: how many attempts it took, and how long since it was first queued.
    fn scheduled(&mut self, profile: &str, attempts: u32, since_first_queued: DurationMs) {}
    /// Pods held as unschedulable because of a plugin: one more or one less.
    fn unschedulable_pods(&mut self, profile: &str, plugin: &str, change: i64) {}
    /// A queueing hint was asked.
    fn hint(&mut self, plugin: &str, event: &'static str, queue: bool) {}
    /// A class view was brought up to date: how many nodes were evaluated, and whether from scratch.
    fn view(&mut self, nodes_evaluated: usize, from_scratch: bool) {}
    /// A placed pod that Permit plugins held is let go (`allowed`), refused (`rejected`) or waited too long (`timeout`).
    fn permit_wait(&mut self, result: &'static str, nanos: u64) {}
    /// A bound pod's last attempt was begun by the periodic flush, not by an event that a hint took up.
    fn scheduled_after_flush(&mut self) {}
    /// A search for victims ended: how many pods are to be evicted, `None` when no node would do.
    fn preemption(&mut self, victims: Option<usize>) {}
    /// Something that cannot happen did, and was refused safely. A bug: please report it with the log.
    fn impossible(&mut self, what: &'static str) {}
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

//! Compute clusters, as metrics. In: what their supervisors find. Out: `isobar_cluster_*`.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::{
    Metrics,
    table::{
        CLUSTER_CONTACT, CLUSTER_DEBTS, CLUSTER_NODES, CLUSTER_PROBE_DURATION, CLUSTER_REACHABLE, CLUSTER_READY, CLUSTER_RESTARTS,
        CLUSTER_RUNS,
    },
};
use crate::model::time::Timestamp;

/// Handles of one compute cluster.
pub struct ClusterMetrics {
    ready: Gauge,
    reachable: Gauge,
    nodes: Gauge,
    runs: [Gauge; 3],
    debts: Gauge,
    contact: Gauge,
    probes: [Histogram; 2],
    watches: Counter,
    workers: Counter,
    trees: Counter,
}

impl ClusterMetrics {
    /// Takes the handles; nothing is known.
    pub fn new(metrics: &Metrics, cluster: &str) -> Self {
        let made = Self {
            ready: metrics.gauge(&CLUSTER_READY, &[cluster]),
            reachable: metrics.gauge(&CLUSTER_REACHABLE, &[cluster]),
            nodes: metrics.gauge(&CLUSTER_NODES, &[cluster]),
            runs: ["active", "pending", "ended"].map(|state| metrics.gauge(&CLUSTER_RUNS, &[cluster, state])),
            debts: metrics.gauge(&CLUSTER_DEBTS, &[cluster]),
            contact: metrics.gauge(&CLUSTER_CONTACT, &[cluster]),
            probes: ["success", "error"].map(|result| metrics.histogram(&CLUSTER_PROBE_DURATION, &[cluster, result])),
            watches: metrics.counter(&CLUSTER_RESTARTS, &[cluster, "watches"]),
            workers: metrics.counter(&CLUSTER_RESTARTS, &[cluster, "runs"]),
            trees: metrics.counter(&CLUSTER_RESTARTS, &[cluster, "tree"]),
        };
        made.state(false, false);
        made
    }

    /// Whether pods can be placed there, and whether it answers.
    pub fn state(&self, ready: bool, reachable: bool) {
        self.ready.set(f64::from(u8::from(ready)));
        self.reachable.set(f64::from(u8::from(reachable)));
    }

    /// What is there: usable nodes; runs that are active, pending and ended; debts.
    pub fn sizes(&self, nodes: u32, runs: [u32; 3], debts: u32) {
        self.nodes.set(f64::from(nodes));
        for (gauge, count) in self.runs.iter().zip(runs) {
            gauge.set(f64::from(count));
        }
        self.debts.set(f64::from(debts));
    }

    /// A probe ended.
    pub fn probed(&self, good: bool, took: Duration) {
        self.probes[usize::from(!good)].record(took);
    }

    /// It answered.
    pub fn answered(&self, at: Timestamp) {
        self.contact.set(at.since(Timestamp::default()).as_secs_f64());
    }

    /// Its watches were begun anew.
    pub fn watches_restarted(&self) {
        self.watches.increment(1);
    }

    /// The worker of its runs ended and was started again.
    pub fn worker_restarted(&self) {
        self.workers.increment(1);
    }

    /// All of its tasks were started again.
    pub fn tree_restarted(&self) {
        self.trees.increment(1);
    }

    /// The cluster was removed: nothing of it counts any more.
    pub fn gone(&self) {
        self.state(false, false);
        self.sizes(0, [0; 3], 0);
    }
}

//! Tasks at work: what the machine of [`crate::tasks`] orders is carried out on the API server. In: Tasks, `TaskRuns`, their pods, nodes, arrivals. Out: runs,
//! their statuses, pods made and deleted, logs kept, events for people; one answer for each arrival.
//!
//! ```text
//! tasks, runs, pods, nodes --watched--> worker + machine --Order--> lanes --> execute --> API server, archive of logs
//! arrivals ---------------------------->|  ^                                     |
//! arrivals' senders <------Answer-------+  +---------------- outcome ------------+
//! ```
//!
//! Arrivals come from HTTP, from directories that are polled, and from brokers ([`broker`]), which ends of runs are told to as well.

mod announce;
mod arriving;
pub mod broker;
mod events;
mod execute;
mod known;
mod lanes;
mod logs;
mod report;
mod served;
mod watched;
mod worker;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use self::{
    announce::{Receivers, ReportOptions},
    arriving::{Arriving, Settled, settle},
    logs::{KeptLog, RunLogs},
};
use super::{
    api::Api,
    clock::Clock,
    leadership::{Leadership, Permission},
};
use crate::{
    metrics::Metrics,
    tasks::{facts::Key, rules::Rules},
};

/// Arrivals that may wait for the machine; then their senders wait.
pub const ARRIVALS_MAX: usize = 1024;

/// What the room works with.
pub struct TasksContext {
    /// The API server.
    pub home: Api,
    /// Whether we lead: a standby reads everything and writes nothing.
    pub leadership: watch::Receiver<Leadership>,
    /// Tells the time.
    pub clock: Clock,
    /// What the admin wants.
    pub rules: Rules,
    /// What arrives.
    pub arrivals: mpsc::Receiver<Arriving>,
    /// Where logs are kept, if they are.
    pub logs: Option<Arc<dyn RunLogs>>,
    /// Who is told of ends.
    pub receivers: Receivers,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Part of the reporting instance of events.
    pub hostname: String,
    /// Equal seeds wait equally.
    pub seed: u64,
}

/// Works for ever, from when the API server knows the kinds.
pub async fn run(context: TasksContext) {
    served::wait(&context.home).await;
    worker::Worker::start(context).run().await;
}

fn permission(context: &TasksContext) -> Permission {
    Permission::new(context.leadership.clone())
}

/// Path of a task.
pub(super) fn task_path(key: &Key) -> String {
    format!("/apis/isobar.dev/v1alpha1/namespaces/{}/tasks/{}", key.namespace, key.name)
}

/// Path of all runs of a namespace.
pub(super) fn runs_path(namespace: &str) -> String {
    format!("/apis/isobar.dev/v1alpha1/namespaces/{namespace}/taskruns")
}

/// Path of a run.
pub(super) fn run_path(key: &Key) -> String {
    format!("{}/{}", runs_path(&key.namespace), key.name)
}

/// Path of all pods of a namespace.
fn pods_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

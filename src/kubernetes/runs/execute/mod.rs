//! Carries orders out. In: one [`Order`]; both API servers as they are at that moment. Out: its one [`Outcome`].
//!
//! Nothing is done from memory: each effect reads what it is about, and each write says of which incarnation (and, where it matters, of which version) it
//! means. A POST is never repeated blindly: the run's name is made of pod and attempt, so what has it already says whether it is ours.

mod create;
mod home;
mod reap;
mod references;
mod remote;

pub(super) use reap::{delete_bundle, is_of};

use std::sync::Arc;

use super::{
    logs::LogDesk,
    placing::Placings,
    port::{Port, Trouble},
};
use crate::{
    federation::{
        effect::{Effect, Order, Outcome},
        facts::RunName,
    },
    kubernetes::{bind::Binder, cluster::directory::ClusterEntry},
    metrics::RunsMetrics,
};

/// What orders are carried out with. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    /// The cluster.
    pub entry: Arc<ClusterEntry>,
    /// Home's API server.
    pub home: Port,
    /// The cluster's.
    pub remote: Port,
    /// Writes bindings at home.
    pub binder: Binder,
    /// Questions to the engine.
    pub placings: Placings,
    /// Copies of logs.
    pub logs: LogDesk,
    /// What is counted.
    pub metrics: RunsMetrics,
}

impl Executor {
    /// Carries out one order.
    pub async fn carry_out(&self, order: &Order) -> Outcome {
        self.attempt(order).await.unwrap_or_else(Trouble::outcome)
    }

    async fn attempt(&self, order: &Order) -> Result<Outcome, Trouble> {
        match &order.effect {
            Effect::Intend(decision) => self.intend(order, decision).await,
            Effect::Withdraw => self.withdraw(order).await,
            Effect::Bind(decision) => self.bind(order, decision).await,
            Effect::CreateRun(decision) => self.create_run(order, decision).await,
            Effect::CheckRun(run) => self.check_run(order, run).await,
            Effect::CheckHome => self.check_home(order).await,
            Effect::CountAttempt { resource_version, decision } => self.count_attempt(order, resource_version, decision).await,
            Effect::PlaceAgain { not_on } => Ok(self.placings.ask(&order.home, &order.uid, self.entry.id, not_on).await),
            Effect::Mirror(patch) => self.mirror(order, patch).await,
            Effect::SetPatience => self.set_patience(order).await,
            Effect::Propagate(run) => self.propagate(order, run).await,
            Effect::DeleteRun { run, uid, resource_version, grace_seconds, release } => {
                let version = resource_version.as_deref();
                self.delete_run(order, run, uid, version, *grace_seconds, *release).await
            }
            Effect::ArchiveLogs(run) => self.logs.archive(&self.remote, order, run).await,
            Effect::Reap { run, uid } => self.reap(order, run, uid).await,
            Effect::Confirm => self.confirm(order).await,
            Effect::DeleteHome => self.delete_home(order, None).await,
            Effect::EvictHome => self.evict_home(order).await,
        }
    }
}

/// Path of a run.
pub(super) fn run_path(run: &RunName) -> String {
    format!("{}/{}", collection(&run.namespace, "pods"), run.name)
}

/// Path of a collection of the core group in a namespace.
pub(super) fn collection(namespace: &str, resource: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{resource}")
}

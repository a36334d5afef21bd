//! The runs of one compute cluster: what the machine of [`crate::federation`] orders is carried out on both API servers. In: decisions of the engine, home pods
//! on the virtual Node, runs and their events over there. Out: bindings, runs, mirrored statuses, copied logs, and nothing left behind.
//!
//! ```text
//! home pods, runs, events --watched--> worker + machine --Order--> lanes --> execute --> home and compute API servers
//! engine --Place, Placed--------------^     ^                                  |
//!                                           +------------- outcome ------------+
//! ```

mod events;
mod execute;
mod lanes;
pub(super) mod logs;
mod placing;
pub(super) mod port;
mod record;
mod sweep;
#[cfg(test)]
mod tests;
pub(super) mod watched;
mod worker;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use self::{
    logs::{LogBody, LogOf, LogStore},
    worker::{Machine, run, run_machine},
};
use super::{
    api::Api,
    bind::Binder,
    clock::Clock,
    cluster::{RunCounts, directory::ClusterEntry},
    events::EventDesk,
    leadership::{Leadership, Permission},
};
use crate::{
    federation::effect::{Input, Policy},
    metrics::RunsMetrics,
    model::ids::PodUid,
    scheduler,
};

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// A fact for the machine: placements, contact, policy.
    Fact(Input),
    /// The engine's answer to [`PlaceAgain`](crate::scheduler::input::Input::PlaceAgain).
    Placed(PodUid, Option<Box<str>>),
    /// The cluster's object or credentials changed: this entry counts from now on.
    Entry(Arc<ClusterEntry>),
}

impl From<Input> for Message {
    fn from(fact: Input) -> Self {
        Self::Fact(fact)
    }
}

/// What a worker works with.
pub struct RunsContext {
    /// Home's API server.
    pub home: Api,
    /// The cluster.
    pub entry: Arc<ClusterEntry>,
    /// What comes through [`ClusterEntry::runs`].
    pub inputs: mpsc::UnboundedReceiver<Message>,
    /// What the admin wants as of now; changes come as [`Input::Policy`].
    pub policy: Policy,
    /// For answers and questions.
    pub engine: mpsc::Sender<scheduler::input::Input>,
    /// Where logs are kept, if they are.
    pub logs: Option<Arc<dyn LogStore>>,
    /// For news of pods.
    pub events: EventDesk,
    /// Writes bindings at home, on the one desk of conditions.
    pub binder: Binder,
    /// Asked before each write.
    pub permission: Permission,
    /// Whether we lead.
    pub leadership: watch::Receiver<Leadership>,
    /// Tells the time.
    pub clock: Clock,
    /// Told the sizes.
    pub counts: watch::Sender<RunCounts>,
    /// What is measured.
    pub metrics: RunsMetrics,
    /// Equal seeds wait equally.
    pub seed: u64,
}

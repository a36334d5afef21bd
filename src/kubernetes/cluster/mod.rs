//! Compute clusters, from their objects to their connections. In: `ComputeCluster` objects and Secrets. Out: a supervised tree of watches and workers for each,
//! its conditions, its virtual Node.
//!
//! ```text
//! ComputeCluster objects --> supervisor --> tree, one a cluster --> probes, identity, permissions
//!                                             |-- link: credentials that can be exchanged -- watches --> feed --> engine
//!                                             |-- worker of the runs (kubernetes/runs)
//!                                             '-- publisher: status, virtual Node, Lease
//! ```
//!
//! Trees share nothing but [`census`]: one that waits for its cluster keeps no other waiting.

pub mod access;
mod census;
pub(super) mod changes;
mod contact;
pub mod crd;
pub mod debts;
pub mod directory;
mod facts;
mod feed;
pub mod glance;
mod link;
pub mod object;
mod probe;
mod publish;
pub mod rest;
pub mod role;
pub mod status;
pub mod supervisor;
mod tree;
pub mod virtual_node;
mod wipe;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::{
    federation::{effect::Policy, spec::ComputeClusterSpec},
    kubernetes::{api::Api, runs::Message},
};

/// Makes a connection of a kubeconfig's text: [`access::connect`], or what a simulation has instead.
pub type Connect = Arc<dyn Fn(&str, &ComputeClusterSpec) -> Result<Api, access::AccessError> + Send + Sync>;

/// Starts the worker of a cluster's runs. It is told [`Message`]s, and tells how many runs there are.
pub type SpawnRuns = Arc<dyn Fn(RunsStart) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the worker of a cluster's runs begins with.
pub struct RunsStart {
    /// The cluster.
    pub entry: Arc<directory::ClusterEntry>,
    /// Facts: contact, policy, suspicion, leading; placements of the dispatcher.
    pub inputs: mpsc::UnboundedReceiver<Message>,
    /// What the admin wants at first.
    pub policy: Policy,
    /// To be kept current.
    pub counts: watch::Sender<RunCounts>,
}

/// How many runs there are, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// Not ended.
    pub active: u32,
    /// Of these, waiting for their first container to run.
    pub pending: u32,
    /// Ended, not yet wiped.
    pub ended: u32,
    /// Given up while the cluster did not answer, and still to be wiped.
    pub debts: u32,
}

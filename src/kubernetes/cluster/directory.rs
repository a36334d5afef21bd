//! The compute clusters that are connected now. In: what supervisors enter and take out. Out: for a number or a name, how to talk to the cluster and to the
//! worker that looks after its runs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::mpsc;

use crate::{
    federation::spec::ComputeClusterSpec,
    kubernetes::{api::Api, runs::Message},
    model::ids::ClusterId,
};

/// A connected cluster. A change of its object or credentials replaces the entry as a whole.
pub struct ClusterEntry {
    /// Its number in the engine.
    pub id: ClusterId,
    /// Name of the `ComputeCluster`.
    pub name: Box<str>,
    /// UID of its `kube-system`.
    pub uid: Box<str>,
    /// UID of home's `kube-system`.
    pub home_uid: Box<str>,
    /// The Node at home that stands for it.
    pub virtual_node: Box<str>,
    /// Namespace of all runs.
    pub run_namespace: Box<str>,
    /// What its object says.
    pub spec: Arc<ComputeClusterSpec>,
    /// Its API server, at the rate that `spec.limits` allows.
    pub api: Api,
    /// The worker of its runs: placements, answers of the engine, what its supervisor knows.
    pub runs: mpsc::UnboundedSender<Message>,
}

impl fmt::Debug for ClusterEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterEntry").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// All of them. Cheap to clone; all clones are the same directory.
#[derive(Clone, Default)]
pub struct ClusterDirectory(Arc<RwLock<BTreeMap<ClusterId, Arc<ClusterEntry>>>>);

impl ClusterDirectory {
    /// Enters a cluster, or replaces its entry.
    pub fn enter(&self, entry: Arc<ClusterEntry>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(entry.id, entry);
    }

    /// Takes a cluster out.
    pub fn remove(&self, id: ClusterId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// By number.
    pub fn get(&self, id: ClusterId) -> Option<Arc<ClusterEntry>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// By the name of its `ComputeCluster`.
    pub fn named(&self, name: &str) -> Option<Arc<ClusterEntry>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().find(|entry| *entry.name == *name).cloned()
    }

    /// All, by number.
    pub fn all(&self) -> Vec<Arc<ClusterEntry>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

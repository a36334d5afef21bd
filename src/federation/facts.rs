//! What the machine knows of a home pod and of its run. In: their JSON objects (`read.rs`). Out: the few fields that its rules read.

use serde_json::Value;

use crate::model::{
    ids::{PodKey, PodUid},
    time::{DurationMs, Timestamp},
};

/// The record of a decision, as it stands in the home pod's annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Name of the `ComputeCluster`.
    pub cluster: Box<str>,
    /// UID of its `kube-system`: a cluster that was replaced under the same name is not the one that was decided.
    pub cluster_uid: Box<str>,
    /// The node over there.
    pub node: Box<str>,
    /// Number of the run, from 1.
    pub attempt: u32,
    /// The run.
    pub run: RunName,
}

/// Namespace and name of a run over there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunName {
    /// The run namespace.
    pub namespace: Box<str>,
    /// See [`super::names::run_name`].
    pub name: Box<str>,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Also what is not said.
    #[default]
    Pending,
    /// At least one container runs or is being restarted.
    Running,
    /// All containers ended with 0.
    Succeeded,
    /// At least one container failed.
    Failed,
    /// The node cannot be asked.
    Unknown,
}

impl Phase {
    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A deletion that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// `metadata.deletionTimestamp`: when the grace is over.
    pub due: Timestamp,
    /// `metadata.deletionGracePeriodSeconds`.
    pub grace: DurationMs,
}

/// A home pod that is bound to the cluster's virtual Node, or about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, read one by one
pub struct HomePod {
    /// Namespace and name.
    pub key: PodKey,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `metadata.generation`: changes of images, resources and ephemeral containers.
    pub generation: i64,
    /// What its annotations record; `None` if somebody else put it on the virtual Node.
    pub decision: Option<Decision>,
    /// `spec.nodeName` is the virtual Node.
    pub bound: bool,
    /// It is being deleted.
    pub deletion: Option<Deletion>,
    /// `status.phase`.
    pub phase: Phase,
    /// Its status says that a container ran once.
    pub started: bool,
    /// The status of the very run that the decision names was mirrored: that run existed.
    pub mirrored: bool,
    /// `spec.restartPolicy: Always`: a run that vanished may be created again.
    pub restarts_always: bool,
    /// Somebody holds it until its logs are saved.
    pub waits_for_logs: bool,
    /// A ReplicaSet or StatefulSet owns it: evicting it makes a replacement.
    pub is_replaced: bool,
    /// Digest of the part of its status that is mirrored, so that an equal one is not written again.
    pub status_digest: u64,
    /// The least time that it tolerates a node which is not ready or unreachable; `None` is for ever.
    pub patience_seconds: Option<u64>,
    /// Restarts by container, those above 0: what is shown never goes down.
    pub restarts: Vec<(Box<str>, i64)>,
}

/// A run over there.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPod {
    /// Namespace and name.
    pub name: RunName,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// UID of its home pod.
    pub home_uid: PodUid,
    /// Namespace and name of its home pod.
    pub home: PodKey,
    /// Its number.
    pub attempt: u32,
    /// Generation of the home pod that it reflects.
    pub home_generation: i64,
    /// It is being deleted.
    pub deletion: Option<Deletion>,
    /// It bears our finalizer.
    pub is_held: bool,
    /// `spec.nodeName`, once bound.
    pub node: Option<Box<str>>,
    /// `status.phase`. A run whose deletion the kubelet has confirmed, and which only our finalizer keeps, counts as failed.
    pub phase: Phase,
    /// A container runs, ran or was restarted.
    pub started: bool,
    /// It failed before any container started: why (`OutOfcpu`, `NodeAffinity`, `UnexpectedAdmissionError`, `Deleted` and the like).
    pub rejected: Option<Box<str>>,
    /// What of `status` is mirrored, see [`super::status::mirrored`].
    pub status: Value,
}

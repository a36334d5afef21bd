//! `ComputeCluster` objects (`isobar.dev/v1alpha1`, cluster-scoped). In: JSON from the API server. Out: the spec, or why it cannot be read; and the status
//! that we write.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::config::structural::{GROUP, VERSION};
use crate::federation::{names, spec::ComputeClusterSpec};

/// Kind.
pub const KIND: &str = "ComputeCluster";
/// Plural.
pub const PLURAL: &str = "computeclusters";
/// Path of the collection.
pub const COLLECTION: &str = "/apis/isobar.dev/v1alpha1/computeclusters";

/// Path of an object.
pub fn path(name: &str) -> String {
    format!("{COLLECTION}/{name}")
}

/// An object as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterObject {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `metadata.creationTimestamp`, for the order in which two objects claim one cluster.
    pub created: String,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// What is wanted, or why that cannot be read.
    pub spec: Result<Arc<ComputeClusterSpec>, String>,
    /// What we wrote last; what cannot be read counts as nothing.
    pub status: ComputeClusterStatus,
}

impl ClusterObject {
    /// Reads an object; `None` for one without a name.
    pub fn read(object: &Value) -> Option<Self> {
        let metadata = ObjectMeta::deserialize(&object["metadata"]).unwrap_or_default();
        let name: Box<str> = metadata.name.filter(|name| !name.is_empty())?.into();
        let spec = match ComputeClusterSpec::deserialize(&object["spec"]) {
            Ok(_) if *name == *names::HOME_CLUSTER => Err("the name home stands for this cluster: choose another".to_owned()),
            Ok(spec) => Ok(Arc::new(spec)),
            Err(error) => Err(format!("spec cannot be read: {error}")),
        };
        Some(Self {
            name,
            uid: metadata.uid.unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default().into(),
            created: metadata.creation_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            spec,
            status: ComputeClusterStatus::deserialize(&object["status"]).unwrap_or_default(),
        })
    }

    /// Whether our finalizer holds it.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == names::WIPE_FINALIZER)
    }
}

/// What we know of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ComputeClusterStatus {
    /// The generation of the spec that this is about.
    pub observed_generation: i64,
    /// Authenticated, Authorized, Reachable, Synced, Ready, Drained, Wiped.
    pub conditions: Vec<Condition>,
    /// UID of the cluster's kube-system namespace: who it is. A cluster with another one is not touched.
    #[serde(rename = "clusterUID")]
    pub cluster_uid: Option<String>,
    /// Version of its API server.
    pub server_version: Option<String>,
    /// Architectures of its usable nodes.
    pub architectures: Vec<String>,
    /// Usable nodes.
    pub nodes: u32,
    /// What they have in sum.
    pub capacity: Option<Capacity>,
    /// Runs of ours.
    pub runs: Runs,
    /// When it last answered, to the minute.
    pub last_contact: Option<String>,
    /// Since when it does not answer. Kept here so that a restart of Isobar does not start the time anew.
    pub not_ready_since: Option<String>,
    /// Runs that are still to be wiped, as they were given up while it did not answer.
    pub debts: u32,
}

/// What usable nodes have in sum, for display.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Capacity {
    /// Processors.
    pub cpu: String,
    /// Memory.
    pub memory: String,
    /// Pods that its nodes take.
    pub pods: u32,
    /// Extended resources whose name ends in gpu.
    pub gpus: u32,
}

/// How many runs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Runs {
    /// Not ended.
    pub active: u32,
    /// Of these, waiting for their first container to run.
    pub pending: u32,
    /// Ended, and not yet wiped.
    pub ended: u32,
}

/// One condition, as all Kubernetes objects have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: Option<String>,
    /// The generation that it is about.
    pub observed_generation: i64,
}

impl ComputeClusterStatus {
    /// A condition by its type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether a condition is true.
    pub fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == "True")
    }
}

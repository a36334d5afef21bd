//! `ComputeCluster.spec` (`isobar.dev/v1alpha1`) as it is written. In: serde. Out: plain structs with every default filled in; the CRD's schema is made of
//! them, so the comments here are what `kubectl explain computecluster.spec` says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A compute cluster: how it is reached, what of it may be used, and what becomes of pods there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ComputeClusterSpec {
    /// How its API server is reached.
    pub access: Access,
    /// Active: takes pods. Cordoned: keeps those that it has. Draining: gets rid of them as `drain` says.
    pub state: ClusterState,
    /// What draining does.
    pub drain: Drain,
    /// Remove the cluster although it cannot be reached: its pods fail at home, and what is left over there is wiped when it comes back.
    pub force: bool,
    /// Only nodes with these labels are used.
    pub node_selector: BTreeMap<String, String>,
    /// Nodes with a taint of one of these keys are not used.
    pub excluded_taints: Vec<String>,
    /// `NodeName`: the run is created on its node, for clusters that are ours alone. Affinity: the cluster's own scheduler binds it there, for shared ones.
    pub pin: Pin,
    /// `BindFirst`: the home pod is bound, then the run created. `CreateFirst`: the other way round. Default: `BindFirst` with `NodeName`, else `CreateFirst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Namespace of all runs over there. Default: isobar- and the first eight characters of the home cluster's UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_namespace: Option<String>,
    /// Kept free on each node, as quantities by resource.
    pub reserve: BTreeMap<String, String>,
    /// Most runs at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_max: Option<u32>,
    /// Most of each resource that all runs together may request, as quantities.
    pub resource_cap: BTreeMap<String, String>,
    /// How much the cluster is preferred, 0 to 100; the home cluster has 50.
    pub preference: Preference,
    /// Names of data sets that are near; pods name theirs in the annotation isobar.dev/data.
    pub data: Vec<String>,
    /// Translations of names that differ over there.
    pub maps: Maps,
    /// What claims of home are over there; the first match counts, a claim without one keeps its pod away.
    pub volumes: Vec<VolumeRule>,
    /// What pods may ask for beyond plain containers.
    pub allow: Allow,
    /// Labels of home pods that may travel, by key.
    pub exported_labels: Vec<String>,
    /// Follow: logs are copied while containers run, and survive whatever happens over there. `AtEnd`: they are read when the run has ended.
    pub logs: LogCopy,
    /// What happens when the cluster cannot be reached.
    pub lost: Lost,
    /// Bounds of our calls.
    pub limits: CallLimits,
}

/// How much a cluster is preferred, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Preference(#[schemars(range(min = 0, max = 100))] pub u8);

impl Default for Preference {
    fn default() -> Self {
        Self(50)
    }
}

/// How the API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Access {
    /// A Secret with a kubeconfig that bears its credentials inline: no programs, no files, no insecure TLS.
    pub kubeconfig_secret_ref: SecretKeyRef,
}

/// One key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key. Default: kubeconfig.
    pub key: String,
}

impl Default for SecretKeyRef {
    fn default() -> Self {
        Self { namespace: String::new(), name: String::new(), key: "kubeconfig".to_owned() }
    }
}

/// Whether the cluster takes pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterState {
    /// Takes pods.
    #[default]
    Active,
    /// Keeps what it has.
    Cordoned,
    /// Gets rid of what it has.
    Draining,
}

/// What draining does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Drain {
    /// Wait: until pods end by themselves. Evict: through the eviction API, disruption budgets respected.
    pub mode: DrainMode,
    /// After this long the rest is deleted, as a duration such as 30m; empty: never.
    pub deadline: String,
}

/// See [`Drain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrainMode {
    /// Until pods end by themselves.
    #[default]
    Wait,
    /// Through the eviction API.
    Evict,
}

/// How a run is tied to its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Pin {
    /// `spec.nodeName`.
    #[default]
    NodeName,
    /// Required node affinity to the node's name; the cluster's scheduler binds.
    Affinity,
}

/// Which write comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Commit {
    /// The binding at home.
    BindFirst,
    /// The run over there.
    CreateFirst,
}

/// Translations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Maps {
    /// `PriorityClass` at home to `PriorityClass` over there; one without an entry is left out.
    pub priority_classes: BTreeMap<String, String>,
    /// `RuntimeClass` at home to `RuntimeClass` over there; a pod with one without an entry stays away.
    pub runtime_classes: BTreeMap<String, String>,
    /// Rewrites of the beginnings of image names, first match wins.
    pub images: Vec<ImageRewrite>,
    /// Where pull secrets come from.
    pub pull_secrets: PullSecrets,
}

/// One rewrite of image names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ImageRewrite {
    /// Beginning of the name.
    pub prefix: String,
    /// What stands there instead.
    pub replacement: String,
}

/// Where pull secrets come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PullSecrets {
    /// Copy: the pod's own travel with the run and are wiped with it. Local: `names` are there already.
    pub mode: PullSecretMode,
    /// Secrets of the run namespace.
    pub names: Vec<String>,
}

/// See [`PullSecrets`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullSecretMode {
    /// The pod's own travel.
    #[default]
    Copy,
    /// Those of the run namespace.
    Local,
}

/// What a claim of home is over there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VolumeRule {
    /// Which claims.
    #[serde(rename = "match")]
    pub matches: ClaimMatch,
    /// What they are. Exactly one of the three.
    pub source: VolumeSource,
    /// Mounted read-only whatever the pod says. Default true: data sets are for reading; a workspace says false.
    pub read_only: ReadOnly,
}

/// A switch that is on unless it is turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ReadOnly(pub bool);

impl Default for ReadOnly {
    fn default() -> Self {
        Self(true)
    }
}

/// Which claims a rule is about: all parts that are given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimMatch {
    /// Namespace with `*` for any text; empty: every one.
    pub namespace: String,
    /// Name with `*` for any text; empty: every one.
    pub claim_name: String,
    /// Labels of the `PersistentVolumeClaim`.
    pub labels: BTreeMap<String, String>,
}

/// What a claim is over there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VolumeSource {
    /// An NFS export; `{namespace}` and `{claim}` in the path stand for the claim's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NfsSource>,
    /// An inline CSI volume; `{namespace}` and `{claim}` in attribute values stand for the claim's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csi: Option<CsiSource>,
    /// A claim of the run namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimSource>,
}

/// An NFS export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NfsSource {
    /// Host name or address.
    pub server: String,
    /// Exported path.
    pub path: String,
}

/// An inline CSI volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CsiSource {
    /// Name of the driver.
    pub driver: String,
    /// What the driver is told.
    pub volume_attributes: BTreeMap<String, String>,
    /// Secret of the run namespace that the driver needs; empty: none.
    pub node_publish_secret: String,
}

/// A claim of the run namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimSource {
    /// Its name.
    pub name: String,
}

/// What pods may ask for beyond plain containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Allow {
    /// Host ports.
    pub host_ports: bool,
    /// Drivers of inline CSI volumes that pods bring along.
    pub csi_drivers: Vec<String>,
    /// Servers of inline NFS volumes that pods bring along.
    pub nfs_servers: Vec<String>,
}

/// How logs come home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogCopy {
    /// While containers run.
    Follow,
    /// When the run has ended.
    #[default]
    AtEnd,
}

/// What happens when the cluster cannot be reached. Nothing is evicted and nothing started a second time unless it says so here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Lost {
    /// After this long without an answer the cluster is not ready.
    pub not_ready_after: String,
    /// After this long its pods that a `ReplicaSet` or StatefulSet owns are deleted at home, so that they are replaced; empty: never.
    pub evict_after: String,
    /// After this long pods that are being deleted count as gone, with a debt to be wiped on return; empty: never.
    pub forget_after: String,
}

impl Default for Lost {
    fn default() -> Self {
        Self { not_ready_after: "15s".to_owned(), evict_after: String::new(), forget_after: String::new() }
    }
}

/// Bounds of our calls to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CallLimits {
    /// Calls at once.
    #[schemars(range(min = 1, max = 1024))]
    pub in_flight: u32,
    /// Calls a second on average; 0: as many as the server takes.
    pub per_second: u32,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { in_flight: 64, per_second: 0 }
    }
}

impl ComputeClusterSpec {
    /// Which write comes first.
    pub fn commit_order(&self) -> Commit {
        self.commit.unwrap_or(match self.pin {
            Pin::NodeName => Commit::BindFirst,
            Pin::Affinity => Commit::CreateFirst,
        })
    }
}

//! `KubeSchedulerConfiguration` (`kubescheduler.config.k8s.io/v1`) as it is written. In: serde. Out: plain structs, everything optional.
//!
//! The whole form of v1.37, no field left out: an admin's file must be read as it is. The JSON Schema made from these structs is what `shape.rs` checks
//! files by, so a field added here is known everywhere. Numbers that upstream checks after decoding are wide here; `validate.rs` has the ranges.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Group and version of the file.
pub const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
/// Kind of the file.
pub const KIND: &str = "KubeSchedulerConfiguration";

/// Configures a scheduler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct KubeSchedulerConfiguration {
    /// `kubescheduler.config.k8s.io/v1`.
    pub api_version: String,
    /// `KubeSchedulerConfiguration`.
    pub kind: String,
    /// Accepted and checked; Isobar scores all nodes on one thread. Default 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// Which of several replicas schedules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_election: Option<LeaderElection>,
    /// How the API server is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_connection: Option<ClientConnection>,
    /// Profiling endpoints. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_profiling: Option<bool>,
    /// Lock contention profiling. Default true when profiling is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_contention_profiling: Option<bool>,
    /// Percent of nodes, once found feasible, after which the search ends. Default 0: Isobar looks at all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage_of_nodes_to_score: Option<i32>,
    /// First wait of a pod that could not be scheduled. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_initial_backoff_seconds: Option<i64>,
    /// Longest wait of a pod that could not be scheduled. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_max_backoff_seconds: Option<i64>,
    /// Profiles, each for the pods that name it as their scheduler.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
    /// Webhooks that take part in decisions, shared by all profiles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extenders: Vec<Extender>,
    /// With leader election: start watching only when leading. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_cache_until_active: Option<bool>,
}

/// Leader election on a Lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LeaderElection {
    /// Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_elect: Option<bool>,
    /// How long others wait for a leader that is silent. Default 15s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub lease_duration: Option<String>,
    /// How long a leader tries to renew before it gives up. Default 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub renew_deadline: Option<String>,
    /// Time between tries. Default 2s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub retry_period: Option<String>,
    /// `leases`, the only one there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_lock: Option<String>,
    /// Name of the Lease. Default `kube-scheduler` when the profile `default-scheduler` is served, else `isobar-scheduler`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// Namespace of the Lease. Default `kube-system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_namespace: Option<String>,
}

/// How the API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientConnection {
    /// Path of a kubeconfig file; empty: in-cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// Accepted, not used: Isobar speaks JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_content_types: Option<String>,
    /// Accepted, not used: Isobar speaks JSON. Default `application/vnd.kubernetes.protobuf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Requests per second; negative: unlimited. Default 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qps: Option<f64>,
    /// Requests at once before the rate counts. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<i32>,
}

/// A scheduling profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Profile {
    /// Pods whose `spec.schedulerName` is this. May be left out when there is one profile only: `default-scheduler`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Overrides the one of the whole configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage_of_nodes_to_score: Option<i32>,
    /// Plugins enabled in addition to, or disabled from, the default ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Plugins>,
    /// Arguments of plugins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugin_config: Vec<PluginConfig>,
}

/// Plugins by extension point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs)] // Each point is documented at `scheduler::registry::ExtensionPoint`.
pub struct Plugins {
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub pre_enqueue: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub queue_sort: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub pre_filter: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub filter: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub post_filter: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub pre_score: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub score: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub reserve: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub permit: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub pre_bind: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub bind: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub post_bind: PluginSet,
    /// Plugins for every point that they implement; the default plugins are here.
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub multi_point: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub placement_generate: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub placement_score: PluginSet,
    #[serde(skip_serializing_if = "PluginSet::is_empty")]
    pub pod_group_post_filter: PluginSet,
}

/// Plugins of one extension point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PluginSet {
    /// Enabled in addition to the default ones; a default one named here takes this weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enabled: Vec<Plugin>,
    /// Default plugins that are disabled; `*` disables all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disabled: Vec<Plugin>,
}

impl PluginSet {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.enabled.is_empty() && self.disabled.is_empty()
    }
}

/// A plugin in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Only at `score`, `placementScore` and `multiPoint`; 0 or nothing counts as 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// Arguments of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PluginConfig {
    /// The plugin's name.
    pub name: String,
    /// Of kind `<name>Args` for in-tree plugins, anything for others.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub args: serde_json::Value,
}

/// A webhook that takes part in decisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Extender {
    /// Where it is.
    pub url_prefix: String,
    /// Appended to the prefix for filtering; empty: not called.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_verb: String,
    /// Appended to the prefix for preemption; empty: not called.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preempt_verb: String,
    /// Appended to the prefix for scoring; empty: not called.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prioritize_verb: String,
    /// Multiplies its scores; at least 1 with a prioritizeVerb.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight: i64,
    /// Appended to the prefix for binding; only one extender may bind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bind_verb: String,
    /// Whether HTTPS is spoken.
    #[serde(rename = "enableHTTPS", skip_serializing_if = "is_false")]
    pub enable_https: bool,
    /// How it is trusted, and how we prove ourselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<ExtenderTls>,
    /// Longest call. Default 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub http_timeout: Option<String>,
    /// It knows the nodes itself, so names are enough.
    #[serde(skip_serializing_if = "is_false")]
    pub node_cache_capable: bool,
    /// Only pods that want one of these are sent; empty: all pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub managed_resources: Vec<ManagedResource>,
    /// Whether a pod can be scheduled while it is out of order.
    #[serde(skip_serializing_if = "is_false")]
    pub ignorable: bool,
}

/// An extended resource that an extender manages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ManagedResource {
    /// Name of the resource.
    pub name: String,
    /// Whether the resource fit filter skips it.
    #[serde(skip_serializing_if = "is_false")]
    pub ignored_by_scheduler: bool,
}

/// TLS towards an extender. Data wins over files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ExtenderTls {
    /// Does not check the certificate; for tests only.
    #[serde(skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Name expected in the certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// Path of our certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_file: String,
    /// Path of our key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_file: String,
    /// Path of the trusted roots.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca_file: String,
    /// Our certificate, PEM in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(extend("format" = "byte"))]
    pub cert_data: String,
    /// Our key, PEM in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(extend("format" = "byte"))]
    pub key_data: String,
    /// The trusted roots, PEM in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(extend("format" = "byte"))]
    pub ca_data: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(value: &i64) -> bool {
    *value == 0
}

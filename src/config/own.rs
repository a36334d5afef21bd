//! `IsobarConfiguration` (`isobar.dev/v1alpha1`), the second document of a configuration, as it is written. In: serde. Out: plain structs, everything optional.
//!
//! Only what kube-scheduler has no field for. It may be left out altogether.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{own_federation::Federation, own_tasks::Tasks};

/// Group and version of the document.
pub const API_VERSION: &str = "isobar.dev/v1alpha1";
/// Kind of the document.
pub const KIND: &str = "IsobarConfiguration";

/// What Isobar has beyond kube-scheduler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct IsobarConfiguration {
    /// `isobar.dev/v1alpha1`.
    pub api_version: String,
    /// `IsobarConfiguration`.
    pub kind: String,
    /// Additions to the profiles of the `KubeSchedulerConfiguration`, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<OwnProfile>,
    /// Bounds, each with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The HTTPS endpoint for health, metrics and configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
    /// Compute clusters beside the home cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federation: Option<Federation>,
    /// Tasks and their runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Tasks>,
    /// How edits of this file are taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_reload: Option<ConfigReload>,
}

/// Additions to one profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OwnProfile {
    /// Names the profile.
    pub scheduler_name: String,
    /// Which of several best nodes is taken. Default `Random`: uniform among them. `StableRank`: a fixed order drawn from node UID and seed, for packing.
    /// `First`: node order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Random", "StableRank", "First"]))]
    pub tie_break: Option<String>,
    /// Seed of the tie-break. Default: drawn at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Bindings that wait for the API server's answer at the same time. Default 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binds_in_flight_max: Option<u32>,
    /// Longest wait for the answer to one binding. Default 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub bind_timeout: Option<String>,
    /// Events written a second, on average; more are aggregated or dropped, never waited for. Default 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u32>,
    /// Bytes that remembered answers of plugins may take; past it the least used are forgotten and computed again. Default 536870912.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_bytes_max: Option<u64>,
    /// Longest stay of an unschedulable pod before it is tried again without a reason. Default 5m, as kube-scheduler's
    /// `--pod-max-in-unschedulable-pods-duration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub unschedulable_pod_stay_max: Option<String>,
}

/// The HTTPS endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Serving {
    /// Address to listen on. Default 0.0.0.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_address: Option<String>,
    /// Port; 0: no endpoint. Default 10259.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_port: Option<u16>,
    /// Paths that need no authorisation. Default /healthz, /livez, /readyz; add /metrics to open the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_allow_paths: Option<Vec<String>>,
    /// Whether callers without credentials are `system:anonymous`, who may what the cluster's RBAC lets it, instead of being refused. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
}

/// How edits are taken up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigReload {
    /// How often the files are read again; 0s: never. Default 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub poll_interval: Option<String>,
}

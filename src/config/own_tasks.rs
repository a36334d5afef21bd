//! The section `tasks` of `IsobarConfiguration`, as it is written. In: serde. Out: plain structs, everything optional.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::own_federation::Archive;

/// Tasks and their runs. Needs manifests/crds and the rights of manifests/overlays/tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tasks {
    /// Whether Task and `TaskRun` objects are looked after. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where logs of runs are kept. Default: where federation.archive says; without either none are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// From where data arrive, for triggers that name it. Each takes events by `POST /events/NAME` on the HTTPS endpoint; one with a directory is polled too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<Source>>,
    /// What accounts may have at once; one that is not named has no quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Vec<Account>>,
    /// Pods created a second, on average. Default 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods_per_second: Option<u32>,
    /// Pods created at once. Default 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods_burst: Option<u32>,
    /// Pods of one scheduling profile that wait for a node; further runs stay queued. Default 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unscheduled_max: Option<u32>,
    /// Runs of one namespace that have not ended; more are refused. Default 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_runs_max: Option<u32>,
    /// Who is told of ends of runs, as `CloudEvents` over HTTP. Default: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// Whether a pod that does not go is deleted without its node's word, when its node is gone. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_stuck: Option<bool>,
}

/// Who is told of ends of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Report {
    /// Addresses that events are posted to, each to all of them.
    pub urls: Vec<String>,
    /// A file with a bearer token for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// How long after the end of a run that is tried; the run is not deleted before. Default 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub give_up_after: Option<String>,
}

/// From where data arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Source {
    /// Its name: small letters, digits and hyphens.
    pub name: String,
    /// A directory that is polled. Every replica needs the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<Directory>,
}

/// A directory that is polled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Directory {
    /// An absolute path.
    pub path: String,
    /// Which files below it: `*` is any text without `/`, `**` any text, `?` one character. Default `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// A file is complete when it has not changed for so long. Default 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub settle: Option<String>,
    /// A file is complete when another one of its name and `.done` is there. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked: Option<bool>,
    /// Between two looks. Default 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub poll: Option<String>,
}

/// What an account may have at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Runs that have not begun; more are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_max: Option<u32>,
    /// Runs with a pod; more wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    /// Requests of all their pods by resource, as `cpu: "40"`; more wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_max: Option<BTreeMap<String, String>>,
}

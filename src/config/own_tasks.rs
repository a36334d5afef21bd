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
    /// A subject of a NATS JetStream that gets all of them, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSubject>,
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
    /// A stream of a NATS JetStream whose messages are read; by the leader alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsStream>,
}

/// Servers of one NATS, and who we are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NatsServers {
    /// Addresses of its servers, as `nats://nats.example:4222`; with `tls://` nothing is said without TLS.
    pub urls: Vec<String>,
    /// A file with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// A user, whose password is in passwordFile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A file with the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// A file with the certificates (PEM) that the servers' are signed by. Default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// A file with our certificate (PEM), whose key is in keyFile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<String>,
    /// A file with the certificate's key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
}

/// A stream whose messages are data that arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NatsStream {
    /// Where.
    pub servers: NatsServers,
    /// Its name. It must be there.
    pub stream: String,
    /// Which of its subjects: `*` is any word, `>` all the rest. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Vec<String>>,
    /// Name of the durable consumer, which is made if it is not there, and is nobody else's. Default: `isobar-` and the source's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
}

/// A subject that a stream keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NatsSubject {
    /// Where.
    pub servers: NatsServers,
    /// Its name; a stream must take it.
    pub subject: String,
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

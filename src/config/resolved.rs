//! A configuration that is complete and checked: what `app` and the rooms are started with. In: nothing but `load`. Out: plain values with units.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::problem::Problem;
use super::wire::{ExtenderTls, ManagedResource};
use crate::model::quantity::Quantity;
use crate::model::time::DurationMs;
use crate::scheduler::profile::ProfileSpec;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// At least one, names unique, in the order of the files.
    pub profiles: Vec<ProfileSpec>,
    /// Accepted, not used.
    pub parallelism: u32,
    /// Which of several replicas schedules.
    pub leader_election: LeaderElection,
    /// How the API server is reached.
    pub client_connection: ClientConnection,
    /// How long pods that could not be scheduled wait.
    pub backoff: Backoff,
    /// Webhooks; those that are not ignorable come first, as upstream calls them.
    pub extenders: Vec<Extender>,
    /// The one of all profiles, 0..=100; each profile holds the one that counts.
    pub percentage_of_nodes_to_score: u8,
    /// Profiling endpoints.
    pub enable_profiling: bool,
    /// Lock contention profiling.
    pub enable_contention_profiling: bool,
    /// With leader election: start watching only when leading.
    pub delay_cache_until_active: bool,
    /// What is Isobar's own.
    pub isobar: IsobarSettings,
    /// What is applied but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Leader election on a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Whether there is one.
    pub leader_elect: bool,
    /// How long others wait for a silent leader; more than `renew_deadline`.
    pub lease_duration: DurationMs,
    /// How long a leader tries to renew; more than 1.2 times `retry_period`.
    pub renew_deadline: DurationMs,
    /// Time between tries.
    pub retry_period: DurationMs,
    /// Name of the Lease.
    pub resource_name: String,
    /// Namespace of the Lease.
    pub resource_namespace: String,
}

/// How the API server is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConnection {
    /// Path of a kubeconfig; `None`: in-cluster.
    pub kubeconfig: Option<String>,
    /// Accepted, not used.
    pub accept_content_types: String,
    /// Accepted, not used.
    pub content_type: String,
    /// Requests per second; `None`: unlimited.
    pub qps: Option<f64>,
    /// Requests at once before the rate counts.
    pub burst: u32,
}

/// How long pods that could not be scheduled wait: doubling from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// First wait.
    pub initial: DurationMs,
    /// Longest wait, at least `initial`.
    pub max: DurationMs,
}

/// A webhook that takes part in decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extender {
    /// Where it is, with scheme.
    pub url_prefix: String,
    /// Appended for filtering.
    pub filter_verb: Option<String>,
    /// Appended for preemption.
    pub preempt_verb: Option<String>,
    /// Appended for scoring.
    pub prioritize_verb: Option<String>,
    /// Appended for binding; at most one extender has it.
    pub bind_verb: Option<String>,
    /// Multiplies its scores; at least 1 where `prioritize_verb` is set.
    pub weight: i64,
    /// Whether TLS is spoken.
    pub enable_https: bool,
    /// How it is trusted.
    pub tls: Option<ExtenderTls>,
    /// Longest call.
    pub http_timeout: DurationMs,
    /// Names of nodes are enough for it.
    pub node_cache_capable: bool,
    /// Only pods that want one of these are sent; empty: all.
    pub managed_resources: Vec<ManagedResource>,
    /// Whether pods are scheduled while it is out of order.
    pub ignorable: bool,
}

/// What is Isobar's own, apart from tie-break and seed, which are in the profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsobarSettings {
    /// Bounds.
    pub limits: Limits,
    /// The HTTPS endpoint.
    pub serving: Serving,
    /// Compute clusters.
    pub federation: FederationSettings,
    /// Tasks and their runs.
    pub tasks: TaskSettings,
    /// How often the files are read again; `None`: never.
    pub config_poll_interval: Option<DurationMs>,
}

/// Bounds, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bindings that wait for an answer at the same time.
    pub binds_in_flight_max: u32,
    /// Longest wait for the answer to a binding.
    pub bind_timeout: DurationMs,
    /// Events written a second, on average.
    pub events_per_second: u32,
    /// Bytes of remembered answers.
    pub view_bytes_max: u64,
    /// Longest stay of an unschedulable pod before it is tried again without a reason.
    pub unschedulable_pod_stay_max: DurationMs,
}

/// The HTTPS endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Address to listen on.
    pub bind_address: IpAddr,
    /// Port; `None`: no endpoint.
    pub secure_port: Option<u16>,
    /// Paths that need no authorisation.
    pub always_allow_paths: Vec<String>,
    /// Callers without credentials are `system:anonymous`.
    pub anonymous: bool,
}

impl Configuration {
    /// The profile of pods with that `spec.schedulerName`.
    pub fn profile(&self, scheduler_name: &str) -> Option<&ProfileSpec> {
        self.profiles.iter().find(|profile| profile.scheduler_name == scheduler_name)
    }
}

/// Compute clusters beside the home cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationSettings {
    /// Whether there are any.
    pub enabled: bool,
    /// Where the kubelet endpoint listens.
    pub bind_address: IpAddr,
    /// Its port.
    pub port: u16,
    /// By which address the home API server reaches it; `None`: the environment's `POD_IP`.
    pub advertise_address: Option<IpAddr>,
    /// Its certificate is made at start instead of being asked for.
    pub self_signed: bool,
    /// Where logs are kept, if they are.
    pub archive: Option<ArchiveSettings>,
    /// Whether registries are asked about platforms.
    pub resolve_images: bool,
    /// Registries that are asked by http.
    pub insecure_registries: Vec<String>,
}

/// How logs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// Where.
    pub place: ArchivePlace,
    /// How much longer than their pods.
    pub keep_for: DurationMs,
    /// All logs together.
    pub bytes_max: Option<u64>,
    /// A longer log is cut.
    pub log_bytes_max: u64,
}

/// Where logs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchivePlace {
    /// An absolute path.
    Folder(String),
    /// A bucket.
    S3(S3Bucket),
}

/// A bucket and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Bucket {
    /// Its name.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// Where it is if not at AWS.
    pub endpoint: Option<String>,
    /// Its region, if not the environment's.
    pub region: Option<String>,
}

/// Tasks and their runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSettings {
    /// Whether they are looked after.
    pub enabled: bool,
    /// Where logs are kept, if not where the federation keeps them.
    pub archive: Option<ArchiveSettings>,
    /// From where data arrive.
    pub sources: Vec<DataSource>,
    /// Quotas by account.
    pub accounts: BTreeMap<String, AccountQuota>,
    /// Pods created a second, on average.
    pub pods_per_second: u32,
    /// Pods created at once.
    pub pods_burst: u32,
    /// Pods of one profile that wait for a node.
    pub unscheduled_max: u32,
    /// Runs of one namespace that have not ended.
    pub live_runs_max: u32,
    /// Who is told of ends, if anybody is.
    pub report: Option<ReportSettings>,
    /// A pod that does not go is deleted without its node's word, when its node is gone.
    pub force_stuck: bool,
}

/// Who is told of ends of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// Addresses.
    pub urls: Vec<String>,
    /// A file with a bearer token.
    pub token_file: Option<String>,
    /// A subject of a broker.
    pub nats: Option<NatsSubjectSettings>,
    /// How long after the end that is tried.
    pub give_up_after: DurationMs,
}

/// From where data arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    /// Its name.
    pub name: String,
    /// It is polled, too.
    pub directory: Option<PolledDirectory>,
    /// Messages of a broker are read, too.
    pub nats: Option<NatsStreamSettings>,
}

/// Servers of one NATS, and who we are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsServerSettings {
    /// Their addresses.
    pub urls: Vec<String>,
    /// A file with a token.
    pub token_file: Option<String>,
    /// A user and the file with its password.
    pub user: Option<(String, String)>,
    /// A file with the certificates that the servers' are signed by, if not the system's.
    pub ca_file: Option<String>,
    /// Files with our certificate and its key.
    pub certificate: Option<(String, String)>,
}

/// A stream whose messages are data that arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsStreamSettings {
    /// Where.
    pub servers: NatsServerSettings,
    /// Its name.
    pub stream: String,
    /// Which of its subjects; none is all.
    pub subjects: Vec<String>,
    /// The durable consumer.
    pub consumer: String,
}

/// A subject that a stream keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsSubjectSettings {
    /// Where.
    pub servers: NatsServerSettings,
    /// Its name.
    pub subject: String,
}

/// A directory that is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolledDirectory {
    /// An absolute path.
    pub path: String,
    /// Which files.
    pub glob: String,
    /// Unchanged for so long, a file is complete.
    pub settle: DurationMs,
    /// Or when its marker is there.
    pub marked: bool,
    /// Between two looks.
    pub poll: DurationMs,
}

/// What an account may have at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountQuota {
    /// Runs that have not begun.
    pub queued_max: Option<u32>,
    /// Runs with a pod.
    pub running_max: Option<u32>,
    /// Requests of all pods by resource.
    pub requests_max: BTreeMap<String, Quantity>,
}

//! What counts where a file is silent. Source: kube-scheduler v1.37.1 `SetDefaults_KubeSchedulerConfiguration`; those of `IsobarConfiguration` are our own.

use crate::model::time::DurationMs;

/// The profile of a `KubeSchedulerConfiguration` with a single one that has no name: upstream's.
pub const SCHEDULER_NAME: &str = "default-scheduler";
/// The profile when there is no `KubeSchedulerConfiguration` at all: pods must ask for it, so that starting Isobar in a cluster changes nothing.
pub const OWN_SCHEDULER_NAME: &str = "isobar-scheduler";

/// Accepted for upstream's sake.
pub const PARALLELISM: i32 = 16;
/// Upstream reads this as "adaptive"; Isobar looks at all nodes.
pub const PERCENTAGE_OF_NODES_TO_SCORE: i32 = 0;
/// Seconds.
pub const POD_INITIAL_BACKOFF: i64 = 1;
/// Seconds.
pub const POD_MAX_BACKOFF: i64 = 10;

/// How long others wait for a silent leader.
pub const LEASE_DURATION: DurationMs = DurationMs::from_secs(15);
/// How long a leader tries to renew.
pub const RENEW_DEADLINE: DurationMs = DurationMs::from_secs(10);
/// Time between tries.
pub const RETRY_PERIOD: DurationMs = DurationMs::from_secs(2);
/// The only kind of lock.
pub const RESOURCE_LOCK: &str = "leases";
/// Namespace of the Lease.
pub const RESOURCE_NAMESPACE: &str = "kube-system";
/// The Lease of whoever serves `default-scheduler`: shared with kube-scheduler on purpose, so that the two never schedule the same pods.
pub const RESOURCE_NAME: &str = "kube-scheduler";
/// The Lease of everyone else: with kube-scheduler's they would stand by for ever.
pub const OWN_RESOURCE_NAME: &str = "isobar-scheduler";

/// Accepted for upstream's sake.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Requests per second.
pub const QPS: f64 = 50.0;
/// Requests at once.
pub const BURST: i32 = 100;
/// Longest call of an extender.
pub const EXTENDER_TIMEOUT: DurationMs = DurationMs::from_secs(5);

/// Bindings at the same time: past this an API server on a small machine only queues them.
pub const BINDS_IN_FLIGHT_MAX: u32 = 256;
/// Upstream waits as long as its client does; a binding that takes longer than this is looked up again.
pub const BIND_TIMEOUT: DurationMs = DurationMs::from_secs(30);
/// Of all objects together, in the long run: twice kube-scheduler's default for each source, and a small share of what an API server takes.
pub const EVENTS_PER_SECOND: u32 = 100;
/// 512 MiB: some ten thousand classes on 5,000 nodes.
pub const VIEW_BYTES_MAX: u64 = 512 << 20;
/// Upstream's `--pod-max-in-unschedulable-pods-duration`.
pub const UNSCHEDULABLE_POD_STAY_MAX: DurationMs = DurationMs::from_secs(300);
/// Upstream's `--bind-address`.
pub const BIND_ADDRESS: &str = "0.0.0.0";
/// Upstream's `--secure-port`.
pub const SECURE_PORT: u16 = 10259;
/// Beside the port of metrics; a kubelet's own 10250 may be taken on the host network.
pub const KUBELET_PORT: u16 = 10260;
/// Long enough to look at yesterday's.
pub const LOGS_KEEP_FOR: DurationMs = DurationMs::from_secs(24 * 3600);
/// A longer log of one container is cut.
pub const LOG_BYTES_MAX: u64 = 256 << 20;
/// How long after the end of a run its announcement is tried.
pub const TASK_REPORT_GIVE_UP: DurationMs = DurationMs::from_secs(3_600);
/// Pods of tasks created a second, and at once.
pub const TASK_PODS_PER_SECOND: u32 = 20;
/// See above.
pub const TASK_PODS_BURST: u32 = 50;
/// Pods of tasks of one profile that wait for a node.
pub const TASK_UNSCHEDULED_MAX: u32 = 200;
/// Runs of one namespace that have not ended.
pub const TASK_LIVE_RUNS_MAX: u32 = 10_000;
/// A file in a directory that is polled is complete when it has not changed for so long.
pub const TASK_SETTLE: DurationMs = DurationMs::from_secs(10);
/// Between two looks into a directory.
pub const TASK_POLL: DurationMs = DurationMs::from_secs(5);
/// Upstream's `--authorization-always-allow-paths`.
pub const ALWAYS_ALLOW_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];
/// A kubelet takes up to a minute to update a mounted `ConfigMap` anyway.
pub const CONFIG_POLL_INTERVAL: DurationMs = DurationMs::from_secs(10);

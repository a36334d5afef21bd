//! The one table of everything measured: name, kind, labels, buckets, stability, meaning. Handles, `/metrics`, `docs/metrics.md`, and the
//! checks of dashboards and alerts all come from it; nothing records by a name that is not here.
//!
//! Names, labels and buckets of `scheduler_*` are kube-scheduler's (v1.37), so dashboards that people have keep working. Ours begin `isobar_`.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted by bucket.
    Histogram,
}

impl Kind {
    /// The word in a `# TYPE` line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// How much a name can be relied on, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Name and labels stay.
    Stable,
    /// May change with notice.
    Beta,
    /// May change.
    Alpha,
}

impl Stability {
    /// Upstream's word, as it begins every help text.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stable => "STABLE",
            Self::Beta => "BETA",
            Self::Alpha => "ALPHA",
        }
    }
}

/// Upper bounds of a histogram's buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buckets {
    /// Not a histogram.
    None,
    /// `start`, `start * factor`, ... , `count` bounds: Go's `ExponentialBuckets`, computed by the same multiplications.
    Exponential {
        /// First upper bound.
        start: f64,
        /// Each bound is this many times the one before.
        factor: f64,
        /// How many bounds.
        count: usize,
    },
    /// Given one by one.
    Explicit(&'static [f64]),
}

impl Buckets {
    /// The bounds in ascending order, without `+Inf`.
    pub fn bounds(self) -> Vec<f64> {
        match self {
            Self::None => Vec::new(),
            Self::Exponential { start, factor, count } => {
                std::iter::successors(Some(start), |bound| Some(bound * factor)).take(count).collect()
            }
            Self::Explicit(bounds) => bounds.to_vec(),
        }
    }
}

const fn exponential(start: f64, factor: f64, count: usize) -> Buckets {
    Buckets::Exponential { start, factor, count }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// The full name as scraped, unit included.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// Upper bounds, for histograms.
    pub buckets: Buckets,
    /// How much to rely on it.
    pub stability: Stability,
    /// What it says, for `# HELP` and the reference page.
    pub help: &'static str,
}

/// Declares the constants and the table together, so that none can be missing from it.
macro_rules! metrics_table {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal)*] $buckets:expr, $stability:ident, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Spec = Spec {
                name: $name, kind: Kind::$kind, labels: &[$($label),*], buckets: $buckets, stability: Stability::$stability, help: $help,
            };
        )*
        /// Every metric, in the order of the reference page.
        pub static TABLE: &[&Spec] = &[$(&$constant),*];
    };
}

/// client-go's bounds for requests, in seconds.
const REQUEST_SECONDS: Buckets = Buckets::Explicit(&[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 45.0, 60.0]);

metrics_table! {
    SCHEDULE_ATTEMPTS = Counter "scheduler_schedule_attempts_total" ["result" "profile"] Buckets::None, Stable,
        "Attempts to schedule pods, by result: `scheduled`, `unschedulable` (no node takes the pod), `error`.";
    SCHEDULING_ATTEMPT_DURATION = Histogram "scheduler_scheduling_attempt_duration_seconds" ["result" "profile"] exponential(0.001, 2.0, 15), Stable,
        "One attempt, from taking the pod out of the queue to the acknowledged binding or the refusal.";
    SCHEDULING_ALGORITHM_DURATION = Histogram "scheduler_scheduling_algorithm_duration_seconds" [] exponential(0.001, 2.0, 15), Alpha,
        "The decision alone, without the binding.";
    POD_SCHEDULING_SLI_DURATION = Histogram "scheduler_pod_scheduling_sli_duration_seconds" ["attempts"] exponential(0.01, 2.0, 20), Beta,
        "From the pod's first entry into the queue to its binding, by how many attempts that took (`1` to `14`, `15+`).";
    POD_SCHEDULING_ATTEMPTS = Histogram "scheduler_pod_scheduling_attempts" [] exponential(1.0, 2.0, 5), Stable,
        "Attempts that a bound pod needed.";
    POD_SCHEDULED_AFTER_FLUSH = Counter "scheduler_pod_scheduled_after_flush_total" [] Buckets::None, Alpha,
        "Pods that were bound only because the five-minute flush tried them again: each one hints at a missing queueing hint.";
    EXTENSION_POINT_DURATION = Histogram "scheduler_framework_extension_point_duration_seconds" ["extension_point" "status" "profile"] exponential(0.0001, 2.0, 12), Stable,
        "All plugins of one extension point, for one pod.";
    PLUGIN_EXECUTION_DURATION = Histogram "scheduler_plugin_execution_duration_seconds" ["plugin" "extension_point" "status"] exponential(0.00001, 1.5, 20), Alpha,
        "One plugin at one extension point, timed on a tenth of the cycles. `status` is always `Success`: a plugin is asked about all nodes in one go.";
    PLUGIN_EVALUATION = Counter "scheduler_plugin_evaluation_total" ["plugin" "extension_point" "profile"] Buckets::None, Beta,
        "How often a plugin was asked, by extension point.";
    QUEUE_INCOMING_PODS = Counter "scheduler_queue_incoming_pods_total" ["queue" "event"] Buckets::None, Stable,
        "Pods that entered a queue, by the event that moved them there.";
    PENDING_PODS = Gauge "scheduler_pending_pods" ["queue"] Buckets::None, Stable,
        "Pods waiting, by queue: `active` (next), `backoff`, `unschedulable` (no node takes them), `gated` (scheduling gates).";
    UNSCHEDULABLE_PODS = Gauge "scheduler_unschedulable_pods" ["plugin" "profile"] Buckets::None, Beta,
        "Pods held as unschedulable, by refusing plugin. A pod refused by several plugins counts for each.";
    CACHE_SIZE = Gauge "scheduler_cache_size" ["type"] Buckets::None, Alpha,
        "What the cache holds: `nodes`, `pods` (on nodes), `assumed_pods` (placed, not yet confirmed by the API server).";
    EVENT_HANDLING_DURATION = Histogram "scheduler_event_handling_duration_seconds" ["event"] exponential(0.0001, 2.0, 12), Alpha,
        "Taking one fact from the API server into cache and queue.";
    PERMIT_WAIT_DURATION = Histogram "scheduler_permit_wait_duration_seconds" ["result"] exponential(0.001, 2.0, 15), Beta,
        "How long placed pods were held by Permit plugins.";
    PREEMPTION_ATTEMPTS = Counter "scheduler_preemption_attempts_total" [] Buckets::None, Stable,
        "Searches for pods of lower priority to evict.";
    PREEMPTION_VICTIMS = Histogram "scheduler_preemption_victims" [] exponential(1.0, 2.0, 7), Stable,
        "Pods chosen for eviction, for each preemption that found a place.";
    ASYNC_API_CALL_EXECUTION = Counter "scheduler_async_api_call_execution_total" ["call_type" "result"] Buckets::None, Alpha,
        "Finished writes, by kind (`pod_binding`, `pod_status_patch`) and result (`success`, `error`).";
    ASYNC_API_CALL_DURATION = Histogram "scheduler_async_api_call_execution_duration_seconds" ["call_type" "result"] exponential(0.001, 2.0, 15), Alpha,
        "Duration of finished writes.";
    PENDING_ASYNC_API_CALLS = Gauge "scheduler_pending_async_api_calls" ["call_type"] Buckets::None, Alpha,
        "Writes that wait or are under way.";
    LEADER_ELECTION_STATUS = Gauge "leader_election_master_status" ["name"] Buckets::None, Alpha,
        "1 on the replica that holds the lease `name`, 0 on others.";
    REST_CLIENT_REQUESTS = Counter "rest_client_requests_total" ["code" "method" "host"] Buckets::None, Alpha,
        "Requests to API servers, by status code (`<error>` when there was no answer), method and host.";
    REST_CLIENT_REQUEST_DURATION = Histogram "rest_client_request_duration_seconds" ["verb" "host"] REQUEST_SECONDS, Alpha,
        "Duration of requests to API servers until the answer's head, by method and host.";
    REST_CLIENT_RATE_LIMITER_DURATION = Histogram "rest_client_rate_limiter_duration_seconds" ["verb" "host"] REQUEST_SECONDS, Alpha,
        "How long requests waited for our own rate limit (`clientConnection.qps` and `burst`).";
    BUILD_INFO = Gauge "isobar_build_info" ["version" "revision"] Buckets::None, Alpha,
        "Always 1; the labels say what runs.";
    NODES = Gauge "isobar_nodes" ["cluster" "architecture" "os" "gpu"] Buckets::None, Alpha,
        "Nodes by cluster, processor architecture, operating system and GPU model (`none` without one): what the fleet is made of.";
    QUEUEING_HINTS = Counter "isobar_queueing_hints_total" ["plugin" "event" "hint"] Buckets::None, Alpha,
        "Questions whether an event may cure a refusal, by plugin, event and answer (`Queue`, `QueueSkip`).";
    VIEW_UPDATES = Counter "isobar_view_updates_total" ["kind"] Buckets::None, Alpha,
        "Class views brought up to date: `full` (built from all nodes) or `incremental` (only what changed).";
    VIEW_EVALUATIONS = Counter "isobar_view_evaluations_total" ["kind"] Buckets::None, Alpha,
        "Nodes evaluated for class views. Far above the attempts means that few pods share a class, or nodes change a lot.";
    CLASSES = Gauge "isobar_pod_classes" [] Buckets::None, Alpha, "Live pod classes: sets of pods that no plugin can tell apart.";
    VIEW_BYTES = Gauge "isobar_view_bytes" [] Buckets::None, Alpha, "Memory held by class views.";
    SYMBOLS = Gauge "isobar_symbols" [] Buckets::None, Alpha, "Interned strings: label keys, values, names.";
    WAITING_PODS = Gauge "isobar_permit_waiting_pods" [] Buckets::None, Alpha, "Placed pods that Permit plugins hold.";
    IMPOSSIBLE_STATES = Counter "isobar_impossible_states_total" ["state"] Buckets::None, Alpha,
        "States that cannot be, met and refused safely. Any is a bug: please report it with the log.";
    BINDS_IN_FLIGHT = Gauge "isobar_binds_in_flight" [] Buckets::None, Alpha, "Bindings sent and not answered.";
    WATCH_RESTARTS = Counter "isobar_watch_restarts_total" ["cluster" "resource" "reason"] Buckets::None, Alpha,
        "Watches begun anew, by reason: `closed` (by the server, in good order), `expired` (410: listed again), `error`, `idle`.";
    WATCH_SYNCED = Gauge "isobar_watch_synced" ["cluster" "resource"] Buckets::None, Alpha,
        "1 when the resource has been listed whole and is being watched, 0 while a list is under way.";
    DECODE_REJECTS = Counter "isobar_decode_rejects_total" ["cluster" "resource"] Buckets::None, Alpha,
        "Objects from the API server that could not be read, and were left out.";
    EVENTS_DROPPED = Counter "isobar_events_dropped_total" ["reason"] Buckets::None, Alpha,
        "Kubernetes Events not written, so that they never delay a binding: `full` (queue), `rate` (limit), `failed` (refused by the API server).";
    EVENTS_SENT = Counter "isobar_events_sent_total" [] Buckets::None, Alpha, "Kubernetes Events written, aggregated ones counted once.";
    RUNS = Gauge "isobar_runs" ["cluster"] Buckets::None, Alpha, "Runs of ours on a compute cluster.";
    RUNS_HOME_PODS = Gauge "isobar_runs_home_pods" ["cluster"] Buckets::None, Alpha, "Home pods that are bound to a compute cluster.";
    RUNS_CREATED = Counter "isobar_runs_creations_total" ["cluster" "result"] Buckets::None, Alpha,
        "Runs created, by result: `created`, `adopted` (an earlier try had succeeded), `refused`, `name_taken` (by something that is not ours).";
    RUNS_MIRRORED = Counter "isobar_runs_mirrored_total" ["cluster"] Buckets::None, Alpha, "Statuses of runs written to their home pods.";
    RUNS_REAPED = Counter "isobar_runs_reaped_total" ["cluster"] Buckets::None, Alpha, "Runs of which nothing is left on their cluster.";
    RUNS_ORDERS_IN_FLIGHT = Gauge "isobar_runs_orders_in_flight" ["cluster"] Buckets::None, Alpha, "Steps of runs that are being carried out.";
    RUNS_ORDER_DURATION = Histogram "isobar_runs_order_duration_seconds" ["cluster" "effect" "outcome"] exponential(0.001, 2.0, 15), Alpha,
        "Duration of finished steps of runs, by what was done and what became of it.";
    RUNS_DECISION_TO_RUN = Histogram "isobar_runs_decision_to_run_seconds" ["cluster"] exponential(0.01, 2.0, 15), Alpha,
        "From the decision for a node of a compute cluster until the run exists there.";
    RUNS_LOG_BYTES = Counter "isobar_runs_log_bytes_total" ["cluster"] Buckets::None, Alpha, "Bytes of logs copied from runs.";
    RUNS_ORPHANS = Counter "isobar_runs_orphans_deleted_total" ["cluster"] Buckets::None, Alpha,
        "Bundles on a compute cluster that belonged to no run and no pod, and were deleted.";
    RUNS_DEBTS = Counter "isobar_runs_debts_total" ["cluster"] Buckets::None, Alpha,
        "Runs given up while their cluster could not be reached; they are wiped when it comes back.";
    RUNS_EVENTS_TOLD = Counter "isobar_runs_events_told_total" ["cluster"] Buckets::None, Alpha, "Events of runs written to their home pods.";
    RUNS_EVENTS_DROPPED = Counter "isobar_runs_events_dropped_total" ["cluster" "reason"] Buckets::None, Alpha,
        "Events of runs that were not: `full` (queue), `rate` (limit), `failed` (refused by the API server).";
    EXTENDER_CALLS = Counter "isobar_extender_calls_total" ["extender" "verb" "result"] Buckets::None, Alpha,
        "Calls of HTTP extenders: `answered`, `failed` (no answer, or not with 200), `refused` (of the answered ones: nonsense, or an error of its own).";
    EXTENDER_CALL_DURATION = Histogram "isobar_extender_call_duration_seconds" ["extender" "verb"] exponential(0.001, 2.0, 15), Alpha,
        "Duration of calls of HTTP extenders, by verb (`filter`, `prioritize`, `preempt`, `bind`).";
    IMAGE_LOOKUPS = Counter "isobar_image_lookups_total" ["result"] Buckets::None, Alpha,
        "Questions for an image's platforms: `cached` (nobody was asked), `known`, `unknown` (refused, not there, unreadable), `timeout`.";
    IMAGE_LOOKUP_DURATION = Histogram "isobar_image_lookup_duration_seconds" ["result"] exponential(0.01, 2.0, 12), Alpha,
        "Duration of lookups of an image's platforms that asked a registry, by result.";
    CONFIG_RELOADS = Counter "isobar_config_reloads_total" ["result"] Buckets::None, Alpha,
        "Changed configuration files read while running: `applied`, or `refused` (the last good one stays).";
    CONFIG_VALID = Gauge "isobar_config_last_reload_successful" [] Buckets::None, Alpha,
        "1 when the configuration file as it is now is the one in use, 0 when it was refused.";
    CONFIG_TIME = Gauge "isobar_config_last_reload_success_timestamp_seconds" [] Buckets::None, Alpha,
        "When the configuration in use was taken up, in seconds since 1970.";
    CONFIG_HASH = Gauge "isobar_config_hash" [] Buckets::None, Alpha,
        "48 bits of a hash of the configuration in use: replicas that differ read different files.";
    HTTP_REQUESTS = Counter "isobar_http_requests_total" ["path" "code"] Buckets::None, Alpha,
        "Requests answered by our own server, by path (unknown ones as `other`) and status code.";
    HTTP_CONNECTIONS = Gauge "isobar_http_connections" [] Buckets::None, Alpha, "Open connections to our own server.";
    HTTP_CONNECTIONS_REFUSED = Counter "isobar_http_connections_refused_total" ["reason"] Buckets::None, Alpha,
        "Connections closed unanswered: `limit` (too many open), `tls` (handshake failed or took too long).";
    HTTP_REVIEWS = Counter "isobar_http_reviews_total" ["review" "result"] Buckets::None, Alpha,
        "Questions to the API server about our own callers (`token`, `access`): `allowed`, `denied`, `error`. Cached answers do not count.";
    CLUSTER_READY = Gauge "isobar_cluster_ready" ["cluster"] Buckets::None, Alpha, "1 when pods can be placed on the compute cluster, as its condition `Ready` says.";
    CLUSTER_REACHABLE = Gauge "isobar_cluster_reachable" ["cluster"] Buckets::None, Alpha, "1 when the compute cluster answers, 0 when it is lost or was never reached.";
    CLUSTER_NODES = Gauge "isobar_cluster_nodes" ["cluster"] Buckets::None, Alpha, "Usable nodes of the compute cluster.";
    CLUSTER_RUNS = Gauge "isobar_cluster_runs" ["cluster" "state"] Buckets::None, Alpha,
        "Runs on the compute cluster: `active` (not ended), `pending` (of these, waiting for their first container), `ended` (not yet wiped).";
    CLUSTER_DEBTS = Gauge "isobar_cluster_debts" ["cluster"] Buckets::None, Alpha, "Runs that were given up while the compute cluster did not answer, and are still to be wiped.";
    CLUSTER_CONTACT = Gauge "isobar_cluster_last_contact_timestamp_seconds" ["cluster"] Buckets::None, Alpha,
        "When the compute cluster last answered, in seconds since 1970; 0 before the first answer.";
    CLUSTER_PROBE_DURATION = Histogram "isobar_cluster_probe_duration_seconds" ["cluster" "result"] exponential(0.001, 2.0, 13), Alpha,
        "Probes of the compute cluster, by result (`success`, `error`).";
    CLUSTER_RESTARTS = Counter "isobar_cluster_restarts_total" ["cluster" "part"] Buckets::None, Alpha,
        "Parts of the compute cluster's tasks begun anew: `watches` (after a loss, a rotation, a change of the selector), `runs` and `tree` (ended by themselves: a bug).";
    CERTIFICATE_EXPIRY = Gauge "isobar_http_certificate_expiry_timestamp_seconds" [] Buckets::None, Alpha,
        "When the certificate in use by our own server ends, in seconds since 1970.";
    CERTIFICATE_RELOADS = Counter "isobar_http_certificate_reloads_total" ["result"] Buckets::None, Alpha,
        "Changed certificate files read while running: `applied`, or `refused` (the last good pair stays).";
    KUBELET_REQUESTS = Counter "isobar_kubelet_requests_total" ["path" "code"] Buckets::None, Alpha,
        "Requests answered for virtual Nodes, by what was asked for (`containerLogs`, `exec`, `attach`, `portForward`, `healthz`, `pods`, `other`) and status code.";
    KUBELET_TUNNELS = Gauge "isobar_kubelet_tunnels" [] Buckets::None, Alpha,
        "Open sessions of exec, attach and port-forward to pods on compute clusters.";
    KUBELET_CONNECTIONS_REFUSED = Counter "isobar_kubelet_connections_refused_total" ["reason"] Buckets::None, Alpha,
        "Connections to the port of the virtual Nodes closed unanswered: `limit` (too many open), `tls` (handshake failed or took too long).";
    KUBELET_CERTIFICATE_EXPIRY = Gauge "isobar_kubelet_certificate_expiry_timestamp_seconds" [] Buckets::None, Alpha,
        "When the serving certificate of the virtual Nodes ends, in seconds since 1970.";
    TASK_RUN_PHASES = Gauge "isobar_task_run_phases" ["phase"] Buckets::None, Alpha,
        "Runs of tasks there are, by phase; `New` is one that nobody has looked at yet.";
    TASK_RUNS_STARTED = Counter "isobar_task_runs_started_total" ["trigger"] Buckets::None, Alpha,
        "Runs that were created for a firing, by trigger (`Cron`, `After`, `Data`). Those that people create are not counted here.";
    TASK_RUNS_FINISHED = Counter "isobar_task_runs_total" ["task" "outcome" "trigger"] Buckets::None, Alpha,
        "Runs that have ended, by task (namespace/name), outcome and trigger.";
    TASK_ATTEMPTS = Counter "isobar_task_attempts_total" ["ended"] Buckets::None, Alpha,
        "Attempts that have ended, by how: `Succeeded`, `Application` (exit code), `Infrastructure` (the cluster failed it), `Requeued` (a limit), and so on.";
    TASK_CLOCKS = Histogram "isobar_task_clock_seconds" ["clock"] exponential(1.0, 2.0, 16), Alpha,
        "How long attempts spent on each of their three clocks: `queue` (until a node), `start` (until it ran), `run`. In whole seconds.";
    TASK_REAPS = Counter "isobar_task_reaps_total" ["result"] Buckets::None, Alpha,
        "Pods of attempts by what became of them: `Deleted`, `AlreadyGone`, `Kept`, `Stuck`, `Forced`, `Forbidden`, `Replaced`.";
    TASK_REAP_SECONDS = Histogram "isobar_task_reap_seconds" [] exponential(1.0, 2.0, 12), Alpha,
        "How long pods of attempts took to go, from the order to delete them. In whole seconds.";
    TASK_LATE = Counter "isobar_task_late_total" ["task" "clock"] Buckets::None, Alpha,
        "Alarms of runs, by task (namespace/name) and clock: `queue`, `start`, `run`, `deadline` (of what it waits for).";
    TASK_MISSED = Counter "isobar_task_missed_total" ["task"] Buckets::None, Alpha,
        "Scheduled times that went by and are not made up for, by task (namespace/name).";
    TASK_OLDEST_WAITING = Gauge "isobar_task_oldest_waiting_seconds" [] Buckets::None, Alpha,
        "For how long the run that has waited longest has been waiting for quota, pace, its pod or a node; 0 if none waits.";
    TASK_REPORTS = Counter "isobar_task_reports_total" ["result"] Buckets::None, Alpha,
        "Announcements of ends to `tasks.report`: `delivered` to all, `failed` (tried again), `given_up` (after `giveUpAfter`).";
    TASK_LOG_BYTES = Counter "isobar_task_log_bytes_total" [] Buckets::None, Alpha, "Bytes of logs of attempts that were kept.";
    TASK_LOGS_INCOMPLETE = Counter "isobar_task_logs_incomplete_total" [] Buckets::None, Alpha,
        "Attempts whose logs were not kept, or not to their end.";
    TASK_ARRIVALS = Counter "isobar_task_arrivals_total" ["answer"] Buckets::None, Alpha,
        "Arrivals of data by answer: `accepted` (its runs exist), `duplicate`, `unwanted` (no task wants it), `refused`, `again` (it has to be sent again).";
    TASK_BROKER_MESSAGES = Counter "isobar_task_broker_messages_total" ["source" "result"] Buckets::None, Alpha,
        "Messages of brokers by source and result: `acknowledged`, `again` (asked for again), `refused` (no run can be made of it), `unreadable`. The last two are never delivered again.";
    TASK_BROKER_UP = Gauge "isobar_task_broker_up" ["source"] Buckets::None, Alpha,
        "Whether this replica reads messages of the source's broker. Only the leader does: the greatest of all replicas' values counts.";
    TASK_ORDER_DURATION = Histogram "isobar_task_order_duration_seconds" ["effect" "outcome"] exponential(0.001, 2.0, 15), Alpha,
        "Effects of the task machine carried out, by effect and outcome.";
    TASK_ORDERS_IN_FLIGHT = Gauge "isobar_task_orders_in_flight" [] Buckets::None, Alpha,
        "Effects of the task machine that wait or are under way.";
    KUBELET_CERTIFICATES = Counter "isobar_kubelet_certificates_total" ["result"] Buckets::None, Alpha,
        "Serving certificates asked for or read anew: `applied`, or `failed` (what was in use stays; at first a self-signed one).";
}

/// Metrics of the process itself, read from the operating system at each scrape. Names are those of every Prometheus client library.
pub static PROCESS_TABLE: &[Spec] = &[
    process("process_cpu_seconds_total", Kind::Counter, "Processor time used, user and system, in seconds."),
    process("process_resident_memory_bytes", Kind::Gauge, "Memory in use."),
    process("process_virtual_memory_bytes", Kind::Gauge, "Address space in use."),
    process("process_open_fds", Kind::Gauge, "Open file descriptors."),
    process("process_max_fds", Kind::Gauge, "Limit of open file descriptors."),
    process("process_start_time_seconds", Kind::Gauge, "When the process started, in seconds since 1970."),
    process("process_threads", Kind::Gauge, "Threads."),
];

const fn process(name: &'static str, kind: Kind, help: &'static str) -> Spec {
    Spec { name, kind, labels: &[], buckets: Buckets::None, stability: Stability::Stable, help }
}

/// Names of kube-scheduler that we do not have, and why: for the reference page.
pub static LEFT_OUT: &[(&str, &str)] = &[
    ("scheduler_goroutines, scheduler_preemption_goroutines_*", "there are no goroutines"),
    ("scheduler_inflight_events", "the engine takes one event at a time and holds none back"),
    ("scheduler_queueing_hint_execution_duration_seconds", "hints take nanoseconds; `isobar_queueing_hints_total` counts them"),
    (
        "scheduler_batch_*, scheduler_get_node_hint_duration_seconds, scheduler_store_schedule_results_duration_seconds",
        "opportunistic batching is replaced by class views: see `isobar_view_*`",
    ),
    ("scheduler_resourceclaim_*, scheduler_dra_*", "devices are not allocated yet"),
    ("scheduler_podgroup_*", "a group is counted by the attempts of its pods"),
    ("scheduler_volume_*", "a volume that is not bound is an attempt with the result error: scheduler_schedule_attempts_total"),
    ("workqueue_*, kubernetes_feature_enabled, go_*", "parts of Go's client library that have no counterpart here"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let all: Vec<&Spec> = TABLE.iter().copied().chain(PROCESS_TABLE).collect();
        let names: BTreeSet<_> = all.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), all.len(), "a name twice");
        for spec in all {
            let word = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            assert!(word(spec.name) && spec.labels.iter().all(|label| word(label)), "{}", spec.name);
            assert_eq!(spec.name.ends_with("_total"), spec.kind == Kind::Counter, "{}: _total is for counters", spec.name);
            assert_eq!(
                spec.buckets == Buckets::None,
                spec.kind != Kind::Histogram,
                "{}: without buckets it prints as a summary",
                spec.name
            );
            assert!(spec.help.ends_with('.') && !spec.help.contains('\n'), "{}", spec.name);
        }
    }

    #[test]
    fn buckets_are_upstreams() {
        let attempt = SCHEDULING_ATTEMPT_DURATION.buckets.bounds();
        assert_eq!((attempt.len(), attempt[0], attempt[14]), (15, 0.001, 16.384));
        let sli = POD_SCHEDULING_SLI_DURATION.buckets.bounds();
        assert_eq!((sli.len(), sli[0], sli[19]), (20, 0.01, 5242.88));
        assert_eq!(POD_SCHEDULING_ATTEMPTS.buckets.bounds(), [1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(PREEMPTION_VICTIMS.buckets.bounds(), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        let plugin = PLUGIN_EXECUTION_DURATION.buckets.bounds();
        assert_eq!((plugin.len(), plugin[0]), (20, 0.00001));
    }
}

//! From what is written to what counts. In: both documents in their wire form. Out: a complete `Configuration`, or every finding.
//!
//! Source of rules and words: kube-scheduler v1.37.1 `ValidateKubeSchedulerConfiguration` and component-base's `ValidateLeaderElectionConfiguration`.

use super::path::Path;
use super::report::Report;
use super::resolved::{Backoff, ClientConnection, Configuration, LeaderElection};
use super::{args, defaults, duration, extenders, own, plugins, resolve_own, wire};
use crate::model::time::DurationMs;
use crate::scheduler::profile::{ProfileSpec, TieBreak};
use crate::scheduler::registry::Registry;

/// Most seconds of a backoff: a day. More is a typing error, and would not fit milliseconds.
const BACKOFF_SECONDS_MAX: i64 = 86_400;

/// Resolves a `KubeSchedulerConfiguration`; `None` when no file has one. Findings are in `report`; with errors among them the result means nothing.
pub fn kube_scheduler(written: Option<wire::KubeSchedulerConfiguration>, registry: &Registry, report: &mut Report) -> Configuration {
    let silent = written.is_none();
    let written = written.unwrap_or_default();
    let percentage = percentage(written.percentage_of_nodes_to_score, &Path::root(), report);
    let mut profiles = profiles(&written, silent, registry, report);
    let extenders = extenders::resolve(&written.extenders, report);
    extenders::apply_ignored_resources(&extenders, &mut profiles);
    let parallelism = written.parallelism.unwrap_or(defaults::PARALLELISM);
    if parallelism <= 0 {
        report.invalid(&Path::root().field("parallelism"), parallelism, "should be an integer value greater than zero");
    }
    let enable_profiling = written.enable_profiling.unwrap_or(true);
    Configuration {
        parallelism: parallelism.unsigned_abs(),
        leader_election: leader_election(written.leader_election.unwrap_or_default(), &profiles, report),
        client_connection: client_connection(written.client_connection.unwrap_or_default(), report),
        backoff: backoff(written.pod_initial_backoff_seconds, written.pod_max_backoff_seconds, report),
        profiles,
        extenders,
        percentage_of_nodes_to_score: percentage.unwrap_or(0),
        enable_profiling,
        enable_contention_profiling: written.enable_contention_profiling.unwrap_or(enable_profiling),
        delay_cache_until_active: written.delay_cache_until_active.unwrap_or(false),
        isobar: resolve_own::settings(&own::IsobarConfiguration::default(), &mut Report::default()),
        warnings: Vec::new(),
    }
}

fn percentage(written: Option<i32>, path: &Path, report: &mut Report) -> Option<u8> {
    let given = written?;
    let percent = u8::try_from(given).ok().filter(|percent| *percent <= 100);
    if percent.is_none() {
        let help = "0, or leaving it away, makes Isobar look at all nodes";
        report.invalid(&path.field("percentageOfNodesToScore"), given, "not in valid range [0-100]").help(help);
    }
    percent
}

fn profiles(written: &wire::KubeSchedulerConfiguration, silent: bool, registry: &Registry, report: &mut Report) -> Vec<ProfileSpec> {
    let root = Path::root().field("profiles");
    let one_unnamed = [wire::Profile::default()];
    let list = if written.profiles.is_empty() { &one_unnamed[..] } else { &written.profiles[..] };
    let mut resolved: Vec<ProfileSpec> = Vec::with_capacity(list.len());
    let mut sorts = Vec::with_capacity(list.len());
    for (i, profile) in list.iter().enumerate() {
        let path = root.index(i);
        let name = scheduler_name(profile, list, silent, &path.field("schedulerName"), report);
        let plugins = plugins::resolve(&name, &profile.plugins.clone().unwrap_or_default(), &path, registry, report);
        let of_sort = profile.plugin_config.iter().find(|config| plugins.queue_sort.contains(&config.name.as_str()));
        sorts.push((plugins.clone(), of_sort.map(|config| &config.args)));
        let own_percentage = percentage(profile.percentage_of_nodes_to_score, &path, report);
        let all = written.percentage_of_nodes_to_score.and_then(|percent| u8::try_from(percent).ok());
        resolved.push(ProfileSpec {
            scheduler_name: name,
            percentage_of_nodes_to_score: own_percentage.or(all).filter(|percent| *percent > 0),
            tie_break: TieBreak::default(),
            seed: None,
            plugins,
            args: args::resolve(&profile.plugin_config, &path.field("pluginConfig"), registry, report),
        });
    }
    if !report.is_wrong(&root) {
        plugins::check_common_queue_sort(&sorts, report);
    }
    resolved
}

fn scheduler_name(profile: &wire::Profile, all: &[wire::Profile], silent: bool, path: &Path, report: &mut Report) -> String {
    let name = match &profile.scheduler_name {
        None if all.len() == 1 && silent => defaults::OWN_SCHEDULER_NAME,
        None if all.len() == 1 => defaults::SCHEDULER_NAME,
        None => "",
        Some(name) => name,
    };
    if name.is_empty() {
        report.required(path, "").help("name the profile: pods choose it by spec.schedulerName");
    }
    name.to_owned()
}

/// Duplicate names, with the place of the first: `place` says in words where a profile stands, as it may be in another file.
pub fn check_unique_names(profiles: &[ProfileSpec], place: impl Fn(usize) -> String, report: &mut Report) {
    for (i, profile) in profiles.iter().enumerate() {
        let name = &profile.scheduler_name;
        let Some(first) = profiles[..i].iter().position(|other| other.scheduler_name == *name && !name.is_empty()) else { continue };
        let path = Path::root().field("profiles").index(i).field("schedulerName");
        report.duplicate(&path, name).help(format!("{} has this name; give every profile a name of its own", place(first)));
    }
}

fn leader_election(written: wire::LeaderElection, profiles: &[ProfileSpec], report: &mut Report) -> LeaderElection {
    let path = Path::root().field("leaderElection");
    let serves_default = profiles.iter().any(|profile| profile.scheduler_name == defaults::SCHEDULER_NAME);
    let name = if serves_default { defaults::RESOURCE_NAME } else { defaults::OWN_RESOURCE_NAME };
    let or = |text: Option<String>, default: &str| text.filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned());
    let lock = or(written.resource_lock, defaults::RESOURCE_LOCK);
    let elect = written.leader_elect.unwrap_or(true);
    if elect && lock != defaults::RESOURCE_LOCK {
        let help = "there is no other lock";
        report.invalid_text(&path.field("resourceLock"), &lock, "resourceLock value must be \"leases\"").help(help);
    }
    let mut span = |field: &str, text: Option<&String>, default: DurationMs| {
        let Some(text) = text else { return default };
        match duration::parse_signed(text) {
            // Upstream cannot tell 0s from nothing.
            Ok(0) => default,
            Ok(1..) => duration::parse(text).unwrap_or(default),
            _ => {
                if elect {
                    report
                        .invalid_text(&path.field(field), text, "must be greater than zero")
                        .help(format!("the default is {}", duration::format(default)));
                }
                default
            }
        }
    };
    let lease_duration = span("leaseDuration", written.lease_duration.as_ref(), defaults::LEASE_DURATION);
    let renew_deadline = span("renewDeadline", written.renew_deadline.as_ref(), defaults::RENEW_DEADLINE);
    let retry_period = span("retryPeriod", written.retry_period.as_ref(), defaults::RETRY_PERIOD);
    let election = LeaderElection {
        leader_elect: elect,
        lease_duration,
        renew_deadline,
        retry_period,
        resource_name: or(written.resource_name, name),
        resource_namespace: or(written.resource_namespace, defaults::RESOURCE_NAMESPACE),
    };
    let known = |field: &str| !report.is_wrong(&path.field(field));
    if elect && known("leaseDuration") && known("renewDeadline") && known("retryPeriod") {
        check_spans(&election, &path, report);
    }
    election
}

fn check_spans(election: &LeaderElection, path: &Path, report: &mut Report) {
    let (lease, renew, retry) = (election.lease_duration, election.renew_deadline, election.retry_period);
    let text = duration::format;
    if lease <= renew {
        let help = format!("renewDeadline is {}: a leader must give up before another takes over", text(renew));
        report.invalid(&path.field("leaseDuration"), text(lease), "must be greater than `RenewDeadline`").help(help);
    }
    if lease < DurationMs::from_secs(1) {
        report.invalid(&path.field("leaseDuration"), text(lease), "must be at least 1s").help("a Lease counts whole seconds");
    }
    if renew.0.saturating_mul(10) <= retry.0.saturating_mul(12) {
        let help = format!("retryPeriod is {} and the factor 1.2: there must be time for a second try", text(retry));
        report.invalid(&path.field("renewDeadline"), text(renew), "must be greater than retryPeriod*JitterFactor").help(help);
    }
}

fn client_connection(written: wire::ClientConnection, report: &mut Report) -> ClientConnection {
    let path = Path::root().field("clientConnection");
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let burst = written.burst.filter(|burst| *burst != 0).unwrap_or(defaults::BURST);
    if burst < 0 {
        report.invalid(&path.field("burst"), burst, "must be non-negative").help(format!("the default is {}", defaults::BURST));
    }
    let qps = written.qps.filter(|qps| *qps != 0.0).unwrap_or(defaults::QPS);
    ClientConnection {
        kubeconfig: some(written.kubeconfig),
        accept_content_types: some(written.accept_content_types).unwrap_or_default(),
        content_type: some(written.content_type).unwrap_or_else(|| defaults::CONTENT_TYPE.to_owned()),
        qps: (qps > 0.0).then_some(qps),
        burst: burst.unsigned_abs(),
    }
}

fn backoff(initial: Option<i64>, max: Option<i64>, report: &mut Report) -> Backoff {
    let (initial_path, max_path) = (Path::root().field("podInitialBackoffSeconds"), Path::root().field("podMaxBackoffSeconds"));
    let max_is_given = max.is_some();
    let (initial, max) = (initial.unwrap_or(defaults::POD_INITIAL_BACKOFF), max.unwrap_or(defaults::POD_MAX_BACKOFF));
    if initial <= 0 {
        report.invalid(&initial_path, initial, "must be greater than 0").help("the default is 1");
    }
    if max < initial && max_is_given {
        let help = format!("podInitialBackoffSeconds is {initial}");
        report.invalid(&max_path, max, "must be greater than or equal to PodInitialBackoffSeconds").help(help);
    } else if max < initial {
        let help = format!("raise podMaxBackoffSeconds, too: its default is {max}");
        report.invalid(&initial_path, initial, "must be less than or equal to podMaxBackoffSeconds").help(help);
    }
    for (path, seconds) in [(&initial_path, initial), (&max_path, max)] {
        if seconds > BACKOFF_SECONDS_MAX {
            report
                .invalid(path, seconds, "must be at most 86400")
                .help("a pod that waits longer than a day is forgotten rather than retried");
        }
    }
    let span = |seconds: i64| DurationMs::from_secs(u64::try_from(seconds.min(BACKOFF_SECONDS_MAX)).unwrap_or(1));
    Backoff { initial: span(initial), max: span(max) }
}

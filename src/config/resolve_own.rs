//! The rules of `IsobarConfiguration`. In: its wire form. Out: settings, tie-break and seed of profiles, or findings.

use core::net::IpAddr;

use super::path::Path;
use super::report::Report;
use super::resolved::{IsobarSettings, Limits, Serving};
use super::{defaults, duration, own, resolve_federation, resolve_tasks};
use crate::model::time::DurationMs;
use crate::scheduler::profile::{ProfileSpec, TieBreak};

/// Least time between two looks at the files, so that a typing error does not keep a core busy.
const CONFIG_POLL_INTERVAL_MIN: DurationMs = DurationMs::from_secs(1);
/// Fewer bytes hold no class of a thousand nodes; each would be computed anew for each pod.
const VIEW_BYTES_MIN: u64 = 1 << 20;
/// Past this the API server only queues.
const BINDS_IN_FLIGHT_LIMIT: u32 = 10_000;

/// Everything but the profiles.
pub fn settings(written: &own::IsobarConfiguration, report: &mut Report) -> IsobarSettings {
    let reload = written.config_reload.clone().unwrap_or_default();
    let path = Path::root().field("configReload").field("pollInterval");
    let poll = not_negative(reload.poll_interval.as_deref(), defaults::CONFIG_POLL_INTERVAL, &path, report);
    if poll.0 > 0 && poll < CONFIG_POLL_INTERVAL_MIN {
        report.invalid(&path, duration::format(poll), "must be at least 1s").help("0s turns reloading off");
    }
    IsobarSettings {
        limits: limits(&written.limits.clone().unwrap_or_default(), report),
        serving: serving(written.serving.clone().unwrap_or_default(), report),
        federation: resolve_federation::settings(written.federation.clone().unwrap_or_default(), report),
        tasks: resolve_tasks::settings(written.tasks.clone().unwrap_or_default(), report),
        config_poll_interval: (poll.0 > 0).then_some(poll),
    }
}

fn limits(written: &own::Limits, report: &mut Report) -> Limits {
    let path = Path::root().field("limits");
    let binds = written.binds_in_flight_max.unwrap_or(defaults::BINDS_IN_FLIGHT_MAX);
    if !(1..=BINDS_IN_FLIGHT_LIMIT).contains(&binds) {
        report.invalid(&path.field("bindsInFlightMax"), binds, "not in valid range [1, 10000]").help("the default is 256");
    }
    let events = written.events_per_second.unwrap_or(defaults::EVENTS_PER_SECOND);
    if events == 0 {
        report
            .invalid(&path.field("eventsPerSecond"), events, "must be greater than 0")
            .help("without events nobody learns why a pod waits");
    }
    let bytes = written.view_bytes_max.unwrap_or(defaults::VIEW_BYTES_MAX);
    if bytes < VIEW_BYTES_MIN {
        report.invalid(&path.field("viewBytesMax"), bytes, "must be at least 1048576").help("it is in bytes; the default is 536870912");
    }
    let bind_timeout = positive(written.bind_timeout.as_deref(), defaults::BIND_TIMEOUT, &path.field("bindTimeout"), report);
    let stay_path = path.field("unschedulablePodStayMax");
    let stay = positive(written.unschedulable_pod_stay_max.as_deref(), defaults::UNSCHEDULABLE_POD_STAY_MAX, &stay_path, report);
    Limits { binds_in_flight_max: binds, bind_timeout, events_per_second: events, view_bytes_max: bytes, unschedulable_pod_stay_max: stay }
}

fn serving(written: own::Serving, report: &mut Report) -> Serving {
    let path = Path::root().field("serving");
    let address = written.bind_address.unwrap_or_else(|| defaults::BIND_ADDRESS.to_owned());
    let bind_address = address.parse::<IpAddr>().unwrap_or_else(|_| {
        report
            .invalid_text(&path.field("bindAddress"), &address, "must be an IP address")
            .help("0.0.0.0 is every IPv4 interface, :: every one");
        IpAddr::from([0, 0, 0, 0])
    });
    let paths = written.always_allow_paths.unwrap_or_else(|| defaults::ALWAYS_ALLOW_PATHS.map(str::to_owned).to_vec());
    for (i, allowed) in paths.iter().enumerate().filter(|(_, allowed)| !allowed.starts_with('/')) {
        report.invalid_text(&path.field("alwaysAllowPaths").index(i), allowed, "must begin with a slash");
    }
    let port = written.secure_port.unwrap_or(defaults::SECURE_PORT);
    Serving {
        bind_address,
        secure_port: (port != 0).then_some(port),
        always_allow_paths: paths,
        anonymous: written.anonymous.unwrap_or(false),
    }
}

pub(super) fn not_negative(written: Option<&str>, default: DurationMs, path: &Path, report: &mut Report) -> DurationMs {
    let Some(text) = written else { return default };
    duration::parse(text).unwrap_or_else(|| {
        report.invalid_text(path, text, "must be zero or positive");
        default
    })
}

/// A file or folder is named from the root: where a process happens to run says nothing.
pub(super) fn absolute(file: &str, path: &Path, report: &mut Report) {
    if !file.starts_with('/') {
        report.invalid_text(path, file, "must be an absolute path");
    }
}

fn positive(written: Option<&str>, default: DurationMs, path: &Path, report: &mut Report) -> DurationMs {
    let span = not_negative(written, default, path, report);
    if span.0 == 0 {
        report.invalid(path, "0s", "must be greater than zero").help(format!("the default is {}", duration::format(default)));
    }
    span
}

/// Tie-break and seed, by name.
pub fn apply_to_profiles(written: &[own::OwnProfile], profiles: &mut [ProfileSpec], report: &mut Report) {
    let known: Vec<_> = profiles.iter().map(|profile| profile.scheduler_name.clone()).collect();
    for (i, own) in written.iter().enumerate() {
        let path = Path::root().field("profiles").index(i).field("schedulerName");
        let name = own.scheduler_name.as_str();
        if name.is_empty() {
            report.required(&path, "").help("name the profile that is meant");
        } else if written[..i].iter().any(|other| other.scheduler_name == name) {
            report.duplicate(&path, name).help("say everything about a profile in one entry");
        } else if let Some(profile) = profiles.iter_mut().find(|profile| profile.scheduler_name == name) {
            profile.tie_break = match own.tie_break.as_deref() {
                Some("StableRank") => TieBreak::StableRank,
                Some("First") => TieBreak::First,
                _ => TieBreak::Random,
            };
            profile.seed = own.seed;
        } else {
            let help = super::shape::suggestion(name, "the profiles are", known.iter().map(String::as_str));
            report.invalid_text(&path, name, "no profile of the KubeSchedulerConfiguration has this name").help(help);
        }
    }
}

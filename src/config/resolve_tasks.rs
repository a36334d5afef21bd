//! The rules of the section `tasks`. In: its wire form. Out: settings, or findings; and the wire form of settings again.

use std::collections::BTreeMap;

use super::{
    defaults, duration,
    own_tasks::{self as own, Account, Directory, Source},
    path::Path,
    report::Report,
    resolve_federation::{place, written_archive},
    resolve_nats::{stream, subject, written_stream, written_subject},
    resolve_own::{absolute, not_negative},
    resolved::{AccountQuota, DataSource, NatsStreamSettings, PolledDirectory, ReportSettings, TaskSettings},
};
use crate::model::{quantity::Quantity, time::DurationMs};

/// A directory that is looked at more often only keeps a disk busy.
const POLL_MIN: DurationMs = DurationMs(100);

/// The section as it counts.
pub fn settings(written: own::Tasks, report: &mut Report) -> TaskSettings {
    let path = Path::root().field("tasks");
    let mut positive = |number: Option<u32>, default: u32, field: &'static str| {
        let number = number.unwrap_or(default);
        if number == 0 {
            report.invalid(&path.field(field), number, "must be greater than 0").help(format!("the default is {default}"));
        }
        number
    };
    let pods_per_second = positive(written.pods_per_second, defaults::TASK_PODS_PER_SECOND, "podsPerSecond");
    let pods_burst = positive(written.pods_burst, defaults::TASK_PODS_BURST, "podsBurst");
    let unscheduled_max = positive(written.unscheduled_max, defaults::TASK_UNSCHEDULED_MAX, "unscheduledMax");
    let live_runs_max = positive(written.live_runs_max, defaults::TASK_LIVE_RUNS_MAX, "liveRunsMax");
    TaskSettings {
        enabled: written.enabled.unwrap_or(false),
        archive: written.archive.and_then(|archive| place(archive, &path.field("archive"), report)),
        sources: sources(written.sources.unwrap_or_default(), &path.field("sources"), report),
        accounts: accounts(written.accounts.unwrap_or_default(), &path.field("accounts"), report),
        pods_per_second,
        pods_burst,
        unscheduled_max,
        live_runs_max,
        report: written.report.and_then(|written| receivers(written, &path.field("report"), report)),
        force_stuck: written.force_stuck.unwrap_or(false),
    }
}

fn receivers(written: own::Report, path: &Path, report: &mut Report) -> Option<ReportSettings> {
    for (at, url) in written.urls.iter().enumerate() {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let is_plain = |rest: &str| {
            !rest.starts_with('/') && !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()) && !rest.contains('@')
        };
        if !rest.is_some_and(is_plain) {
            report
                .invalid_text(
                    &path.field("urls").index(at),
                    url,
                    "must be an address such as https://receiver.example/events, without credentials",
                )
                .help("a bearer token is read from tokenFile");
        }
    }
    if let Some(file) = &written.token_file {
        absolute(file, &path.field("tokenFile"), report);
    }
    let give_up_after = not_negative(written.give_up_after.as_deref(), defaults::TASK_REPORT_GIVE_UP, &path.field("giveUpAfter"), report);
    let nats = written.nats.map(|nats| subject(nats, &path.field("nats"), report));
    let settings = ReportSettings { urls: written.urls, token_file: written.token_file, nats, give_up_after };
    Some(settings).filter(|settings| !settings.urls.is_empty() || settings.nats.is_some())
}

fn sources(written: Vec<Source>, path: &Path, report: &mut Report) -> Vec<DataSource> {
    let mut sources: Vec<DataSource> = Vec::new();
    for (at, source) in written.into_iter().enumerate() {
        let path = path.index(at);
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if source.name.is_empty() {
            report.required(&path.field("name"), "").help("triggers name it, and so does the address POST /events/NAME");
        } else if !is_name(&source.name) {
            report.invalid_text(&path.field("name"), &source.name, "must consist of small letters, digits and hyphens");
        } else if sources.iter().any(|other| other.name == source.name) {
            report.duplicate(&path.field("name"), &source.name).help("say everything about a source in one entry");
        }
        let directory = source.directory.map(|directory| polled(directory, &path.field("directory"), report));
        let nats = source.nats.map(|nats| stream(nats, &source.name, &path.field("nats"), report));
        let key = |one: &NatsStreamSettings| (one.servers.urls.clone(), one.stream.clone(), one.consumer.clone());
        let is_other = |other: &&NatsStreamSettings| nats.as_ref().is_some_and(|nats| key(nats) == key(other));
        if let Some(other) = sources.iter().filter_map(|source| source.nats.as_ref()).find(is_other) {
            let path = path.field("nats").field("consumer");
            report.duplicate(&path, &other.consumer).help("two that share a consumer take each other's messages");
        }
        sources.push(DataSource { name: source.name, directory, nats });
    }
    sources
}

fn polled(written: Directory, path: &Path, report: &mut Report) -> PolledDirectory {
    absolute(&written.path, &path.field("path"), report);
    let poll = not_negative(written.poll.as_deref(), defaults::TASK_POLL, &path.field("poll"), report);
    if poll < POLL_MIN {
        report.invalid(&path.field("poll"), duration::format(poll), "must be at least 100ms").help("the default is 5s");
    }
    PolledDirectory {
        path: written.path,
        glob: written.glob.unwrap_or_else(|| "*".to_owned()),
        settle: not_negative(written.settle.as_deref(), defaults::TASK_SETTLE, &path.field("settle"), report),
        marked: written.marked.unwrap_or(false),
        poll,
    }
}

fn accounts(written: Vec<Account>, path: &Path, report: &mut Report) -> BTreeMap<String, AccountQuota> {
    let mut accounts = BTreeMap::new();
    for (at, account) in written.into_iter().enumerate() {
        let path = path.index(at);
        let mut requests_max = BTreeMap::new();
        for (resource, text) in account.requests_max.unwrap_or_default() {
            match Quantity::parse(&text) {
                Ok(amount) => drop(requests_max.insert(resource, amount)),
                Err(_) => {
                    report.invalid_text(&path.field("requestsMax"), &format!("{resource}: {text}"), "is not a quantity such as 40 or 16Gi");
                }
            }
        }
        let quota = AccountQuota { queued_max: account.queued_max, running_max: account.running_max, requests_max };
        if account.name.is_empty() {
            report.required(&path.field("name"), "").help("tasks name their account");
        } else if accounts.insert(account.name.clone(), quota).is_some() {
            report.duplicate(&path.field("name"), &account.name).help("say everything about an account in one entry");
        }
    }
    accounts
}

/// The section as a file would say it.
pub fn written(settings: &TaskSettings) -> own::Tasks {
    let source = |source: &DataSource| Source {
        name: source.name.clone(),
        directory: source.directory.as_ref().map(|directory| Directory {
            path: directory.path.clone(),
            glob: Some(directory.glob.clone()),
            settle: Some(duration::format(directory.settle)),
            marked: Some(directory.marked),
            poll: Some(duration::format(directory.poll)),
        }),
        nats: source.nats.as_ref().map(written_stream),
    };
    let account = |(name, quota): (&String, &AccountQuota)| Account {
        name: name.clone(),
        queued_max: quota.queued_max,
        running_max: quota.running_max,
        requests_max: Some(quota.requests_max.iter().map(|(name, amount)| (name.clone(), amount.to_string())).collect::<BTreeMap<_, _>>())
            .filter(|requests| !requests.is_empty()),
    };
    own::Tasks {
        enabled: Some(settings.enabled),
        archive: settings.archive.as_ref().map(written_archive),
        sources: Some(settings.sources.iter().map(source).collect::<Vec<_>>()).filter(|sources| !sources.is_empty()),
        accounts: Some(settings.accounts.iter().map(account).collect::<Vec<_>>()).filter(|accounts| !accounts.is_empty()),
        pods_per_second: Some(settings.pods_per_second),
        pods_burst: Some(settings.pods_burst),
        unscheduled_max: Some(settings.unscheduled_max),
        live_runs_max: Some(settings.live_runs_max),
        report: settings.report.as_ref().map(|report| own::Report {
            urls: report.urls.clone(),
            token_file: report.token_file.clone(),
            nats: report.nats.as_ref().map(written_subject),
            give_up_after: Some(duration::format(report.give_up_after)),
        }),
        force_stuck: Some(settings.force_stuck),
    }
}

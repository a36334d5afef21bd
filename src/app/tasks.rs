//! What `isobar run` has beyond a scheduler when it looks after tasks. In: the section `tasks` of the configuration. Out: the room of tasks, the way in for
//! events, and directories that are polled.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use super::{hostname, logs, random_seed};
use crate::{
    archive::LogArchive,
    config::{
        defaults,
        resolved::{ArchiveSettings, DataSource, IsobarSettings, PolledDirectory, TaskSettings},
    },
    http::{EventIntake, TaskApi, kubelet::ArchivedLogs},
    kubernetes::{
        api::Api,
        clock::Clock,
        leadership::Leadership,
        tasks::{self, ARRIVALS_MAX, Arriving, Receivers, ReportOptions, RunLogs, TasksContext, broker::Inbox, settle},
    },
    metrics::{BrokerMetrics, Metrics},
    model::time::Timestamp,
    tasks::{
        rules::{Quota, Rules},
        trigger::{
            arrival::Arrival,
            directory::{File, Seen, Watched},
        },
    },
};

/// Files that one look reads; more than that is no inbox.
const FILES_MAX: usize = 100_000;
/// Folders below folders that one look goes down.
const DEPTH_MAX: usize = 16;

/// The room, to be started once the scheduler runs.
pub(super) struct TaskRoom {
    settings: TaskSettings,
    archive: Option<(LogArchive, ArchiveSettings)>,
    /// The federation drops logs of the same archive.
    swept: bool,
    federated: bool,
    arriving: mpsc::Receiver<Arriving>,
    intake: EventIntake,
}

/// Prepares the room, if there is to be one.
pub(super) async fn prepare(settings: &IsobarSettings) -> anyhow::Result<Option<TaskRoom>> {
    let (tasks, federation) = (&settings.tasks, &settings.federation);
    if !tasks.enabled {
        return Ok(None);
    }
    let place = tasks.archive.as_ref().or(federation.archive.as_ref());
    let archive = match place {
        Some(place) => {
            let archive = logs::open(place)?;
            archive.probe().await.context("the archive of logs of tasks cannot be used")?;
            Some((archive, place.clone()))
        }
        None => None,
    };
    let swept = federation.enabled && place == federation.archive.as_ref();
    let (arrivals, arriving) = mpsc::channel(ARRIVALS_MAX);
    let intake = EventIntake { sources: tasks.sources.iter().map(|source| source.name.clone()).collect(), arrivals };
    Ok(Some(TaskRoom { settings: tasks.clone(), archive, swept, federated: federation.enabled, arriving, intake }))
}

impl TaskRoom {
    /// The way in for events.
    pub(super) fn intake(&self) -> EventIntake {
        self.intake.clone()
    }

    /// Tasks over HTTPS.
    pub(super) fn api(&self, home: &Api) -> TaskApi {
        let logs = self.archive.as_ref().map(|(archive, _)| Arc::new(archive.clone()) as Arc<dyn ArchivedLogs>);
        TaskApi::new(home, logs, self.federated)
    }

    /// Starts everything. A part that ends, ends in vain: its name is the answer.
    pub(super) fn start(
        self,
        home: &Api,
        leadership: watch::Receiver<Leadership>,
        profile: &str,
        metrics: &Metrics,
    ) -> anyhow::Result<JoinSet<&'static str>> {
        let mut parts = JoinSet::new();
        for DataSource { name, directory, nats } in &self.settings.sources {
            if let Some(directory) = directory {
                let watched = Watched::new(name, &directory.glob, directory.settle, directory.marked);
                let watched = watched.map_err(|why| anyhow::anyhow!("tasks.sources: the glob of {name}: {why}"))?;
                parts.spawn(poll(watched, directory.clone(), self.intake.arrivals.clone(), leadership.clone()));
            }
            if let Some(nats) = nats {
                let inbox = Inbox {
                    source: name.clone(),
                    settings: nats.clone(),
                    arrivals: self.intake.arrivals.clone(),
                    leadership: leadership.clone(),
                    metrics: BrokerMetrics::new(metrics),
                    seed: random_seed(),
                };
                parts.spawn(async move {
                    inbox.run().await;
                    "tasks.sources"
                });
            }
        }
        if let Some((archive, settings)) = self.archive.clone().filter(|_| !self.swept) {
            parts.spawn(logs::sweep(archive, home.clone(), settings, true));
        }
        let context = TasksContext {
            home: home.clone(),
            leadership,
            clock: Clock::system(),
            rules: rules(&self.settings, profile),
            arrivals: self.arriving,
            receivers: Receivers::new(&report_options(&self.settings)).context("tasks.report")?,
            logs: self.archive.map(|(archive, _)| Arc::new(archive) as Arc<dyn RunLogs>),
            metrics: metrics.clone(),
            hostname: hostname(),
            seed: random_seed(),
        };
        parts.spawn(async move {
            tasks::run(context).await;
            "tasks"
        });
        Ok(parts)
    }
}

fn report_options(settings: &TaskSettings) -> ReportOptions {
    settings.report.as_ref().map_or_else(ReportOptions::default, |report| ReportOptions {
        urls: report.urls.clone(),
        token_file: report.token_file.as_ref().map(PathBuf::from),
        nats: report.nats.clone(),
    })
}

fn rules(settings: &TaskSettings, profile: &str) -> Rules {
    let quota = |(name, quota): (&String, &crate::config::resolved::AccountQuota)| {
        let milli = |amount: &crate::model::quantity::Quantity| u64::try_from(amount.milli()).unwrap_or(0);
        let requests_max = quota.requests_max.iter().map(|(resource, amount)| (resource.clone(), milli(amount))).collect();
        (name.clone(), Quota { queued_max: quota.queued_max, running_max: quota.running_max, requests_max })
    };
    Rules {
        sources: settings.sources.iter().map(|source| source.name.clone()).collect(),
        accounts: settings.accounts.iter().map(quota).collect(),
        pods_per_second: settings.pods_per_second,
        pods_burst: settings.pods_burst,
        unscheduled_max: settings.unscheduled_max,
        live_runs_max: settings.live_runs_max,
        force_stuck: settings.force_stuck,
        announce_within: settings.report.as_ref().map_or(defaults::TASK_REPORT_GIVE_UP, |report| report.give_up_after),
        profile: profile.to_owned(),
        ..Rules::default()
    }
}

// === directories ===

/// Looks into a directory again and again, while we lead. What was not acknowledged is told again at the next look.
async fn poll(
    watched: Watched,
    directory: PolledDirectory,
    arrivals: mpsc::Sender<Arriving>,
    leadership: watch::Receiver<Leadership>,
) -> &'static str {
    let mut seen = Seen::default();
    let mut ticks = interval(Duration::from_millis(directory.poll.0));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        ticks.tick().await;
        if !leadership.borrow().allows(tokio::time::Instant::now()) {
            continue;
        }
        let root = PathBuf::from(&directory.path);
        let files = match spawn_blocking(move || files(&root)).await {
            Ok(Ok(files)) => files,
            Ok(Err(error)) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(source = watched.source, directory = directory.path, "cannot be read, and is tried again: {error}");
                }
                continue;
            }
            Err(error) => {
                tracing::error!("a look into {} panicked; this is a bug: {error}", directory.path);
                continue;
            }
        };
        failed = false;
        for arrival in watched.look(&mut seen, &files, Clock::system().now()) {
            let name = arrival.name.clone();
            if !is_settled(arrival, &arrivals, &watched.source).await {
                Watched::forget(&mut seen, &name);
            }
        }
    }
}

/// Whether a file needs not be told again.
async fn is_settled(arrival: Arrival, arrivals: &mpsc::Sender<Arriving>, source: &str) -> bool {
    let name = arrival.name.clone();
    let Ok(settled) = settle(arrivals, vec![arrival]).await else { return false };
    for why in settled.refused {
        tracing::warn!(source, file = name, "starts no run: {why}");
    }
    true
}

/// Files below a folder, without following links to other folders.
fn files(root: &std::path::Path) -> std::io::Result<Vec<File>> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // It has gone since its name was read.
            Err(_) if depth > 0 => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            let Some(path) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && depth < DEPTH_MAX {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            } else if metadata.is_file() && found.len() < FILES_MAX {
                found.push(File { path, bytes: metadata.len(), modified: changed(&metadata) });
            }
        }
    }
    Ok(found)
}

fn changed(metadata: &std::fs::Metadata) -> Timestamp {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Timestamp(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0)))
}

//! Logs that are kept: where, and for how long. In: the configuration's archives, pods and runs at home. Out: archives, and logs whose time is over dropped.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde::Deserialize;
use tokio::time::sleep;

use crate::{
    archive::{LogArchive, S3Options, SweepRules},
    config::resolved::{ArchivePlace, ArchiveSettings},
    kubernetes::{api::Api, clock::Clock, watch::escaped},
};

/// Between two looks for logs whose time is over.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Objects a page.
const PAGE_OBJECTS: usize = 500;
const PODS: &str = "/api/v1/pods";
const RUNS: &str = "/apis/isobar.dev/v1alpha1/taskruns";

/// The archive of a configuration. What is wrong with it is said at start, not when the first log is lost.
pub(super) fn open(settings: &ArchiveSettings) -> anyhow::Result<LogArchive> {
    let archive = match &settings.place {
        ArchivePlace::Folder(path) => LogArchive::folder(Path::new(path))?,
        ArchivePlace::S3(bucket) => LogArchive::s3(&S3Options {
            bucket: bucket.bucket.clone(),
            prefix: bucket.prefix.clone(),
            endpoint: bucket.endpoint.clone(),
            region: bucket.region.clone(),
            credentials: None,
            allow_http: bucket.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
        })?,
    };
    Ok(archive.with_log_bytes_max(settings.log_bytes_max))
}

/// Drops logs for ever: a log is kept as long as its pod, or the run of a task that names the pod, and for so long after that.
pub(super) async fn sweep(archive: LogArchive, home: Api, settings: ArchiveSettings, with_runs: bool) -> &'static str {
    let rules = SweepRules { keep_for: settings.keep_for, bytes_max: settings.bytes_max };
    loop {
        sleep(SWEEP_EVERY).await;
        let swept = match alive(&home, with_runs).await {
            Ok(alive) => archive.sweep(Clock::system().now(), rules, |uid| alive.contains(uid)).await.map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match swept {
            Ok(swept) if swept.pods > 0 => tracing::info!(pods = swept.pods, bytes = swept.bytes, "logs whose time is over were dropped"),
            Ok(_) => {}
            Err(why) => tracing::warn!("logs were not looked through: {why}"),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
    #[serde(default)]
    status: Option<RunStatus>,
}

#[derive(Deserialize)]
struct ItemMeta {
    uid: String,
}

#[derive(Deserialize)]
struct RunStatus {
    #[serde(default)]
    attempts: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Attempt {
    #[serde(default, rename = "podUID")]
    pod_uid: String,
}

/// UIDs of all pods at home, and of those that runs name, by whole lists: half of one would make the rest look gone.
async fn alive(home: &Api, with_runs: bool) -> Result<BTreeSet<String>, String> {
    let mut uids = BTreeSet::new();
    let collections = if with_runs { &[PODS, RUNS][..] } else { &[PODS] };
    for collection in collections {
        let mut next = String::new();
        loop {
            let path = format!("{collection}?limit={PAGE_OBJECTS}&continue={}", escaped(&next));
            let answer = home.page(path, PAGE_TIMEOUT).await.map_err(|error| error.to_string())?;
            if !answer.status.is_success() {
                return Err(answer.failure());
            }
            let page: Page = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            for item in page.items {
                uids.insert(item.metadata.uid);
                uids.extend(item.status.into_iter().flat_map(|status| status.attempts).map(|attempt| attempt.pod_uid));
            }
            if page.metadata.next.is_empty() {
                break;
            }
            next = page.metadata.next;
        }
    }
    Ok(uids)
}

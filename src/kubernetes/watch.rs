//! List and watch of one kind in one cluster: JSON from the API server in, inputs out, for the engine or for whoever else the kind is for.
//!
//! kube's own watcher is not used: it decodes into owned objects with a full `ObjectMeta` (managed fields, annotations) and cannot fall back from
//! streaming to paged lists. Here a line becomes facts straight from the buffer.
//!
//! The rules: an object is handed on as soon as it is read, but what the list does *not* have is declared gone only when the list is complete. A
//! watch goes on from the last version seen; a version that is too old (410) asks for a new list. Whatever fails is tried again after a growing,
//! jittered wait, and a stream that ends at once counts as a failure, so that nothing ever spins.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use rustc_hash::FxHashSet;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    api::{Answer, Api, CallError},
    backoff::Backoff,
    lines::{Lines, LinesError},
    wire::{BadObject, Happening, Watched, read_happening, read_page},
};
use crate::{metrics::WatchRestart, model::ids::ClusterId};

/// How long the API server keeps one watch open. Just below the five minutes after which proxies like to cut.
const WATCH_SECONDS: u64 = 290;
/// A watch that outlives its term in silence is dead.
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS + 10);
/// Servers that send bookmarks do so each minute; more than two missing ones mean that the connection is dead.
const SILENCE_MAX_WITH_BOOKMARKS: Duration = Duration::from_secs(150);
/// While a list streams in, a pause as long as this means that the end will not come.
const LIST_SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long until the head of a stream's answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long until a page has come whole.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Objects a page, as client-go asks for.
const PAGE_OBJECTS: usize = 500;
/// A page is asked for this often before the list starts over.
const PAGE_TRIES_MAX: u32 = 3;
/// A server that has never finished a streaming list is believed not to, after so many breaks.
const STREAMING_BREAKS_MAX: u32 = 3;
/// After so many failures in a row the version itself is suspect (a cluster restored from a backup): list anew.
const FAILURES_BEFORE_LIST: u32 = 5;
/// How often a kind that the API server does not know is asked for again.
const UNKNOWN_KIND_WAIT: Duration = Duration::from_secs(60);
/// A stream shorter than this that brought nothing is a failure.
const STREAM_WORTHWHILE: Duration = Duration::from_secs(1);

/// Whether a watch has seen everything once, for readiness.
#[derive(Clone, Debug, Default)]
pub struct Synced(Arc<AtomicBool>);

impl Synced {
    /// Whether the first list was complete.
    pub fn is_synced(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One watch, to be run.
pub struct Watch<K: Watched> {
    api: Api,
    cluster: ClusterId,
    inputs: mpsc::Sender<K::Input>,
    /// The cluster's name, for metrics and logs.
    cluster_name: Arc<str>,
    backoff: Backoff,
    synced: Synced,
    way: Way,
    /// Where the collection is.
    collection: Box<str>,
    /// What of it is watched, as a part of a query.
    selection: Box<str>,
    kind: PhantomData<fn() -> K>,
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As the beginning of a watch (KEP-3157): little memory on either side.
    Streaming { proven: bool, breaks: u32 },
    /// In pages, for servers that cannot stream.
    Paged,
}

/// From where a watch goes on.
struct Position {
    resource_version: Box<str>,
    /// A streaming list goes on as a watch.
    lines: Option<Lines>,
    bookmarks: bool,
}

/// Why a list or a stream did not go on.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("nobody listens any more")]
    Closed,
    #[error("the version is too old")]
    Expired,
    #[error("{0}")]
    Refused(String, Option<Duration>),
    #[error("the API server does not know the kind: {0}")]
    UnknownKind(String),
    #[error("streaming lists are not supported: {0}")]
    NoStreaming(String),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Lines(#[from] LinesError),
    #[error("the stream ended before the list was complete")]
    HalfList,
    #[error("the page is no list: {0}")]
    Page(#[from] serde_json::Error),
    #[error("the stream ended at once")]
    Short,
}

impl Stop {
    fn retry_after(&self) -> Option<Duration> {
        if let Self::Refused(_, retry_after) = self { *retry_after } else { None }
    }
}

impl<K: Watched> Watch<K> {
    /// A watch of all objects of a kind. Equal seeds wait equally.
    pub fn new(api: Api, cluster: ClusterId, cluster_name: &str, inputs: mpsc::Sender<K::Input>, seed: u64) -> Self {
        let way = Way::Streaming { proven: false, breaks: 0 };
        api.metrics().watch_synced(cluster_name, K::RESOURCE, false);
        Self {
            api,
            cluster,
            cluster_name: cluster_name.into(),
            inputs,
            backoff: Backoff::seeded(seed),
            synced: Synced::default(),
            way,
            collection: K::PATH.into(),
            selection: if K::FIELD_SELECTOR.is_empty() { "".into() } else { format!("&fieldSelector={}", K::FIELD_SELECTOR).into() },
            kind: PhantomData,
        }
    }

    /// The same of one namespace alone.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self { collection: format!("/api/v1/namespaces/{namespace}/{}", K::RESOURCE).into(), ..self }
    }

    /// The same of objects with these fields, as `spec.nodeName=n`.
    #[must_use]
    pub fn with_fields(self, selector: &str) -> Self {
        Self { selection: format!("&fieldSelector={}", escaped(selector)).into(), ..self }
    }

    /// The same of objects with these labels, as `key=value`.
    #[must_use]
    pub fn with_labels(self, selector: &str) -> Self {
        Self { selection: format!("{}&labelSelector={}", self.selection, escaped(selector)).into(), ..self }
    }

    /// Tells whether the first list was complete.
    pub fn synced(&self) -> Synced {
        self.synced.clone()
    }

    /// Lists and watches until nobody listens any more.
    pub async fn run(mut self) {
        loop {
            let Some(position) = self.list_until_complete().await else { return };
            match self.follow(position).await {
                Stop::Closed => return,
                stop => {
                    tracing::info!(kind = K::KIND, cluster = &*self.cluster_name, "listing again: {stop}");
                    self.restarted(&stop);
                }
            }
        }
    }

    fn restarted(&self, stop: &Stop) {
        let reason = match stop {
            Stop::Expired => WatchRestart::Expired,
            Stop::Lines(LinesError::Silent(_)) => WatchRestart::Idle,
            _ => WatchRestart::Error,
        };
        self.api.metrics().watch_restarted(&self.cluster_name, K::RESOURCE, reason);
    }

    /// `None` when nobody listens any more.
    async fn list_until_complete(&mut self) -> Option<Position> {
        loop {
            let listed = match self.way {
                Way::Streaming { .. } => self.list_streaming().await,
                Way::Paged => self.list_paged().await,
            };
            match listed {
                Ok(position) => {
                    self.synced.0.store(true, Ordering::Relaxed);
                    self.api.metrics().watch_synced(&self.cluster_name, K::RESOURCE, true);
                    self.backoff.reset();
                    return Some(position);
                }
                Err(Stop::Closed) => return None,
                Err(Stop::UnknownKind(_)) if K::OPTIONAL => {
                    self.send(K::listed(self.cluster, Vec::new())).await.ok()?;
                    self.synced.0.store(true, Ordering::Relaxed);
                    sleep(UNKNOWN_KIND_WAIT).await;
                }
                Err(stop) => {
                    let at_once = self.reconsider(&stop);
                    if !at_once {
                        self.wait(&stop, "list").await;
                    }
                }
            }
        }
    }

    /// Learns from a failed list whether streaming works here. True if the next try needs no wait.
    fn reconsider(&mut self, stop: &Stop) -> bool {
        let Way::Streaming { proven: false, breaks } = &mut self.way else { return false };
        let unsupported = match stop {
            Stop::NoStreaming(_) | Stop::Lines(LinesError::Silent(_)) => true,
            Stop::HalfList | Stop::Lines(_) => {
                *breaks += 1;
                *breaks >= STREAMING_BREAKS_MAX
            }
            _ => false,
        };
        if unsupported {
            tracing::info!(kind = K::KIND, cluster = &*self.cluster_name, "listing in pages: {stop}");
            self.way = Way::Paged;
        }
        unsupported
    }

    async fn wait(&mut self, stop: &Stop, what: &str) {
        let wait = self.backoff.next_wait().max(stop.retry_after().unwrap_or_default());
        tracing::warn!(kind = K::KIND, cluster = &*self.cluster_name, wait_ms = wait.as_millis(), "{what} failed, trying again: {stop}");
        sleep(wait).await;
    }

    // === lists ===

    async fn list_streaming(&mut self) -> Result<Position, Stop> {
        let path =
            self.path("watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", Some(WATCH_SECONDS));
        let body = self.api.open(path, OPEN_TIMEOUT).await?.map_err(|answer| refused(&answer, true))?;
        let mut lines = Lines::new(body);
        let mut keys = FxHashSet::default();
        loop {
            let line = lines.next(LIST_SILENCE_MAX).await?.ok_or(Stop::HalfList)?;
            match read_happening::<K>(line, self.cluster) {
                Ok(Happening::Seen { facts, key, .. }) => {
                    keys.insert(key);
                    self.send(facts.seen()).await?;
                }
                Ok(Happening::Gone { key, .. }) => {
                    keys.remove(&key);
                    self.send(K::gone(self.cluster, key)).await?;
                }
                Ok(Happening::Bookmark { resource_version, initial_end: true }) => {
                    self.way = Way::Streaming { proven: true, breaks: 0 };
                    self.send(K::listed(self.cluster, keys.into_iter().collect())).await?;
                    return Ok(Position { resource_version, lines: Some(lines), bookmarks: true });
                }
                Ok(Happening::Bookmark { .. } | Happening::Unknown(_)) => {}
                Ok(Happening::Failed { code, reason, message }) => return Err(failed(code, &reason, &message)),
                Err(bad) => {
                    self.skip(&bad);
                    keys.insert(bad.key);
                }
            }
        }
    }

    async fn list_paged(&mut self) -> Result<Position, Stop> {
        let mut keys = Vec::new();
        let mut next = String::new();
        loop {
            let query = format!("limit={PAGE_OBJECTS}{}{}", if next.is_empty() { "" } else { "&continue=" }, escaped(&next));
            let path = self.path(&query, None);
            let answer = self.page(path).await?;
            let page = read_page::<K>(&answer.body, self.cluster)?;
            drop(answer);
            for item in page.items {
                match item {
                    Ok((facts, key)) => {
                        keys.push(key);
                        self.send(facts.seen()).await?;
                    }
                    Err(bad) => {
                        self.skip(&bad);
                        keys.push(bad.key);
                    }
                }
            }
            if page.next.is_empty() {
                self.send(K::listed(self.cluster, keys)).await?;
                return Ok(Position { resource_version: page.resource_version, lines: None, bookmarks: false });
            }
            next = page.next.into();
        }
    }

    /// One page; a stumbling server is asked again before the whole list starts over.
    async fn page(&mut self, path: String) -> Result<Answer, Stop> {
        for attempt in 1.. {
            let stop = match self.api.page(path.clone(), PAGE_TIMEOUT).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) if answer.is_transient() => refused(&answer, false),
                Ok(answer) => return Err(refused(&answer, false)),
                Err(error) => Stop::Call(error),
            };
            if attempt >= PAGE_TRIES_MAX {
                return Err(stop);
            }
            self.wait(&stop, "page").await;
        }
        Err(Stop::Short)
    }

    // === watch ===

    /// Follows changes until a new list is needed, and says why.
    async fn follow(&mut self, mut position: Position) -> Stop {
        let mut failures = 0;
        loop {
            let opened = Instant::now();
            let version_before = position.resource_version.clone();
            let stop = match self.follow_stream(&mut position).await {
                Ok(()) => None,
                Err(stop @ (Stop::Closed | Stop::Expired)) => return stop,
                Err(stop) => Some(stop),
            };
            match &stop {
                None => self.api.metrics().watch_restarted(&self.cluster_name, K::RESOURCE, WatchRestart::Closed),
                Some(stop) => self.restarted(stop),
            }
            let lasted = stop.is_none() && opened.elapsed() >= STREAM_WORTHWHILE;
            if lasted || position.resource_version != version_before {
                failures = 0;
                self.backoff.reset();
            } else {
                failures += 1;
            }
            // A dead connection is opened anew at once; its silence was wait enough.
            let stop = match stop {
                None if lasted => continue,
                Some(Stop::Lines(LinesError::Silent(_))) => continue,
                stop => stop.unwrap_or(Stop::Short),
            };
            self.wait(&stop, "watch").await;
            if failures >= FAILURES_BEFORE_LIST {
                return stop;
            }
        }
    }

    /// One stream until the server closes it.
    async fn follow_stream(&mut self, position: &mut Position) -> Result<(), Stop> {
        let mut lines = if let Some(lines) = position.lines.take() {
            lines
        } else {
            let query = format!("watch=true&allowWatchBookmarks=true&resourceVersion={}", escaped(&position.resource_version));
            let path = self.path(&query, Some(WATCH_SECONDS));
            Lines::new(self.api.open(path, OPEN_TIMEOUT).await?.map_err(|answer| refused(&answer, false))?)
        };
        loop {
            let silence_max = if position.bookmarks { SILENCE_MAX_WITH_BOOKMARKS } else { SILENCE_MAX };
            let Some(line) = lines.next(silence_max).await? else { return Ok(()) };
            let resource_version = match read_happening::<K>(line, self.cluster) {
                Ok(Happening::Seen { facts, resource_version, .. }) => {
                    self.send(facts.seen()).await?;
                    resource_version
                }
                Ok(Happening::Gone { key, resource_version }) => {
                    self.send(K::gone(self.cluster, key)).await?;
                    resource_version
                }
                Ok(Happening::Bookmark { resource_version, .. }) => {
                    position.bookmarks = true;
                    resource_version
                }
                Ok(Happening::Unknown(_)) => continue,
                Ok(Happening::Failed { code, reason, message }) => return Err(failed(code, &reason, &message)),
                Err(bad) => {
                    self.skip(&bad);
                    bad.resource_version
                }
            };
            if !resource_version.is_empty() {
                position.resource_version = resource_version;
            }
        }
    }

    async fn send(&self, input: K::Input) -> Result<(), Stop> {
        self.inputs.send(input).await.map_err(|_| Stop::Closed)
    }

    fn skip(&self, bad: &BadObject) {
        self.api.metrics().decode_rejected(&self.cluster_name, K::RESOURCE);
        tracing::warn!(cluster = &*self.cluster_name, "{bad}");
    }

    fn path(&self, query: &str, seconds: Option<u64>) -> String {
        let seconds = seconds.map(|seconds| format!("&timeoutSeconds={seconds}")).unwrap_or_default();
        format!("{}?{query}{seconds}{}", self.collection, self.selection)
    }
}

fn refused(answer: &Answer, streaming: bool) -> Stop {
    match answer.status {
        StatusCode::GONE => Stop::Expired,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNPROCESSABLE_ENTITY
            if streaming =>
        {
            Stop::NoStreaming(answer.failure())
        }
        StatusCode::NOT_FOUND => Stop::UnknownKind(answer.failure()),
        _ => Stop::Refused(answer.failure(), answer.retry_after),
    }
}

/// What an ERROR event means.
fn failed(code: u16, reason: &str, message: &str) -> Stop {
    if code == StatusCode::GONE.as_u16() || matches!(reason, "Expired" | "Gone") {
        Stop::Expired
    } else {
        Stop::Refused(format!("the API server ended the watch with {code} {reason}: {message}"), None)
    }
}

/// Text made safe for a query.
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

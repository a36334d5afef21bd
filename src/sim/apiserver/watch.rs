//! Watches. In: a type, a selector and a starting version. Out: a stream of JSON lines that follows the store's history at the reader's pace.
//!
//! A watcher owns no queue: it keeps the version it has told about and reads the shared history behind it, so a slow reader costs nothing and one
//! that falls out of the history ends, as upstream ends a watcher that cannot keep up.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until};

use super::ApiServer;
use super::encode::Encoder;
use super::read::{invalid_version, refuse_options};
use super::request::{Form, Query};
use super::resources::ResourceType;
use super::selectors::Selector;
use super::status::{ApiError, FieldError, bytes_response};
use super::store::{Change, ChangeKind, HistoryError, Snapshot, Stored};
use crate::sim::signal::Listener;

/// Changes read from the history in one go, so that a long history is not held in one buffer.
const BATCH_MAX: usize = 512;
/// Initial objects a frame of the body: a first frame arrives before all are encoded.
const INITIAL_BATCH_MAX: usize = 512;
/// Upstream sends a last bookmark this long before a watch's end.
const LAST_BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Where a watch starts.
enum Start {
    /// With the present state as ADDED events, then everything behind it.
    State,
    /// With what happened after a version.
    After(u64),
}

struct Watcher {
    server: Arc<ApiServer>,
    resource: Arc<ResourceType>,
    namespace: String,
    selector: Selector,
    form: Form,
    bookmarks: bool,
    /// Everything up to here has been told.
    told: u64,
    /// Where `told` stood once the past had been caught up with: upstream sends bookmarks only for what is newer.
    caught_up: Option<u64>,
    /// The present state while it is being told; its end is marked.
    initial: Option<VecDeque<Arc<Stored>>>,
    signal: Listener,
    deadline: Instant,
    next_bookmark: Instant,
    first_line: bool,
    ended: bool,
}

impl ApiServer {
    pub(super) fn watch(
        self: &Arc<Self>,
        resource: &Arc<ResourceType>,
        namespace: &str,
        query: &Query,
        form: Form,
    ) -> Result<Response<Body>, ApiError> {
        check_watch_options(query)?;
        let selector = Selector::parse(resource, query.text("labelSelector"), query.text("fieldSelector"))?;
        let version = query.resource_version().map_err(|why| invalid_version(query, &why))?;
        let start = start_of(query, version, self.store.resource_version());
        let seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        let length = seconds.map_or_else(|| self.ids.up_to_double(self.options.watch_timeout_min), Duration::from_secs);
        let signal = self.store.subscribe(resource.table).ok_or_else(|| ApiError::internal("the type has no table"))?;
        let (initial, told) = match start {
            Start::State => {
                let snapshot = self.store.snapshot(resource.table, namespace, None);
                let snapshot = snapshot.unwrap_or(Snapshot { resource_version: 0, objects: Vec::new() });
                let selected = snapshot.objects.into_iter().filter(|stored| selector.matches(&stored.selectable));
                (Some(selected.collect()), snapshot.resource_version)
            }
            Start::After(version) => (None, version),
        };
        if let Err(HistoryError::TooOld { oldest }) = self.store.changes(resource.table, told, 0) {
            return Ok(stream_response(error_line(&ApiError::expired(format!("too old resource version: {told} ({oldest})")))));
        }
        let now = Instant::now();
        let watcher = Watcher {
            server: self.clone(),
            resource: resource.clone(),
            namespace: namespace.to_string(),
            selector,
            form,
            bookmarks: query.flag("allowWatchBookmarks"),
            told,
            caught_up: None,
            initial,
            signal,
            deadline: now + length,
            next_bookmark: now + self.options.bookmark_interval,
            first_line: true,
            ended: false,
        };
        Ok(watcher.into_response())
    }
}

fn start_of(query: &Query, version: Option<u64>, current: u64) -> Start {
    let initial = query.has("sendInitialEvents");
    match version {
        _ if initial && query.flag("sendInitialEvents") => Start::State,
        None | Some(0) if initial => Start::After(current),
        // Upstream's default for old clients: initial events, and their end is marked as well.
        None | Some(0) => Start::State,
        Some(version) => Start::After(version),
    }
}

/// Upstream's `validateWatchOptions`.
fn check_watch_options(query: &Query) -> Result<(), ApiError> {
    let (field, matching) = ("resourceVersionMatch", query.text("resourceVersionMatch"));
    let initial = query.has("sendInitialEvents");
    let mut errors = Vec::new();
    if initial && matching != "NotOlderThan" {
        errors.push(FieldError::forbidden(field, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if !matching.is_empty() {
        if !initial {
            errors.push(FieldError::forbidden(field, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(field, &json!(matching), &["NotOlderThan"]));
        }
        if !query.text("continue").is_empty() {
            errors.push(FieldError::forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    refuse_options(&errors)
}

impl Watcher {
    fn into_response(self) -> Response<Body> {
        let lines = futures::stream::unfold(self, |mut watcher| async move {
            let frame = watcher.next_frame().await?;
            Some((Ok::<_, std::io::Error>(frame), watcher))
        });
        stream_response_of(Body::from_stream(lines))
    }

    /// The next lines, or `None` at the end.
    async fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(frame) = self.initial_frame() {
                return Some(frame);
            }
            self.signal.catch_up();
            if let Some(frame) = self.history_frame() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            self.caught_up.get_or_insert(self.told);
            let wake = self.deadline.min(self.bookmark_due());
            tokio::select! {
                biased;
                () = self.signal.changed() => {}
                () = sleep_until(wake) => {
                    if wake >= self.deadline {
                        return None;
                    }
                    self.next_bookmark = Instant::now() + self.server.options.bookmark_interval;
                    if self.caught_up.is_some_and(|start| self.told > start) {
                        return Some(self.bookmark_line(false));
                    }
                }
            }
        }
    }

    /// When to send a bookmark: at the interval, and once shortly before the end.
    fn bookmark_due(&self) -> Instant {
        if !self.bookmarks {
            return self.deadline;
        }
        let last = self.deadline.checked_sub(LAST_BOOKMARK_BEFORE_END).filter(|last| *last > Instant::now());
        last.map_or(self.next_bookmark, |last| last.min(self.next_bookmark))
    }

    fn initial_frame(&mut self) -> Option<Bytes> {
        let initial = self.initial.as_mut()?;
        let objects: Vec<_> = initial.drain(..initial.len().min(INITIAL_BATCH_MAX)).collect();
        let complete = initial.is_empty();
        let mut frame = BytesMut::new();
        for stored in objects {
            frame.extend_from_slice(&self.line("ADDED", &stored));
        }
        if complete {
            self.initial = None;
            if self.bookmarks {
                frame.extend_from_slice(&self.bookmark_line(true));
            }
        }
        (!frame.is_empty()).then(|| frame.freeze())
    }

    fn history_frame(&mut self) -> Option<Bytes> {
        let Ok((changes, told)) = self.server.store.changes(self.resource.table, self.told, BATCH_MAX) else {
            self.ended = true;
            return None;
        };
        let mut frame = BytesMut::new();
        for change in &changes {
            if let Some(line) = self.line_for(change) {
                frame.extend_from_slice(&line);
            }
        }
        let more = changes.len() == BATCH_MAX;
        self.told = told;
        if frame.is_empty() && more {
            return self.history_frame_again();
        }
        (!frame.is_empty()).then(|| frame.freeze())
    }

    /// A full batch without a matching change: go on at once, as no signal will come for what is already there.
    fn history_frame_again(&mut self) -> Option<Bytes> {
        self.signal.look_again();
        None
    }

    /// What this watcher is told of a change: entering its selector is ADDED, leaving it DELETED.
    fn line_for(&mut self, change: &Change) -> Option<Bytes> {
        if !self.namespace.is_empty() && change.object.key.namespace() != self.namespace {
            return None;
        }
        let before = change.previous.as_ref().is_some_and(|previous| self.selector.matches(&previous.selectable));
        let after = change.kind != ChangeKind::Deleted && self.selector.matches(&change.object.selectable);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", &change.object)),
            (true, true) => Some(self.line("MODIFIED", &change.object)),
            (true, false) if change.kind == ChangeKind::Deleted => Some(self.line("DELETED", &change.object)),
            (true, false) => Some(self.line("DELETED", &change.object_that_left())),
        }
    }

    fn line(&mut self, kind: &str, stored: &Stored) -> Bytes {
        let with_columns = std::mem::take(&mut self.first_line);
        let encoder = Encoder { resource: &self.resource, form: self.form, now_seconds: self.server.clock.now().as_second() };
        encoder.watch_line(kind, stored, with_columns)
    }

    fn bookmark_line(&self, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.told.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Object => bookmark_object(&self.resource, &metadata),
            Form::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            Form::Table(_) => {
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": [], "rows": []})
            }
        };
        Bytes::from(format!("{}\n", json!({"type": "BOOKMARK", "object": object})))
    }
}

/// An object of the type with nothing but its version, printed with the fields that Go prints even when empty.
fn bookmark_object(resource: &ResourceType, metadata: &Value) -> Value {
    let mut object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
    super::defaults::fill_always_printed(&mut object);
    object
}

fn error_line(error: &ApiError) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": error.to_status()})))
}

fn stream_response(line: Bytes) -> Response<Body> {
    stream_response_of(Body::from(line))
}

fn stream_response_of(body: Body) -> Response<Body> {
    let mut response = bytes_response(StatusCode::OK, Bytes::new());
    *response.body_mut() = body;
    response
}

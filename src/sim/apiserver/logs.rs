//! Logs of containers. In: from the fake kubelet, when containers started and ended and how often they speak. Out: `pods/log` with the options that kubectl
//! and Isobar use.
//!
//! Lines are not stored: their text follows from the container's name and the time, so an hour of logs costs nothing until someone reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use super::request::Query;
use super::resources::ResourceType;
use super::status::{ApiError, FieldError, bytes_response};
use super::store::Key;
use super::{ApiServer, SimClock};
use crate::sim::signal::Signal;

/// One life of a container.
#[derive(Clone, Debug)]
struct Life {
    started: Timestamp,
    /// Time between two lines; none between the first and the last when absent.
    interval: Option<Duration>,
    ended: Option<(Timestamp, i32)>,
}

/// A container of a pod: the pod's UID and the container's name.
type ContainerKey = (String, String);

#[derive(Debug)]
struct Inner {
    lives: Mutex<BTreeMap<ContainerKey, Vec<Life>>>,
    /// Wakes those who follow.
    changed: Signal,
}

/// What all containers of a cluster wrote. Cheap to clone; all clones are the same book.
#[derive(Clone, Debug)]
pub struct LogBook(Arc<Inner>);

impl Default for LogBook {
    fn default() -> Self {
        Self(Arc::new(Inner { lives: Mutex::default(), changed: Signal::default() }))
    }
}

impl LogBook {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerKey, Vec<Life>>> {
        self.0.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container starts, for the first time or again.
    pub fn start(&self, pod_uid: &str, container: &str, now: Timestamp, interval: Option<Duration>) {
        self.lock().entry((pod_uid.into(), container.into())).or_default().push(Life { started: now, interval, ended: None });
        self.0.changed.raise();
    }

    /// It ends.
    pub fn end(&self, pod_uid: &str, container: &str, now: Timestamp, exit_code: i32) {
        if let Some(life) = self.lock().get_mut(&(pod_uid.to_string(), container.to_string())).and_then(|lives| lives.last_mut()) {
            life.ended.get_or_insert((now, exit_code));
        }
        self.0.changed.raise();
    }

    /// The pod is gone, and its logs with it.
    pub fn forget(&self, pod_uid: &str) {
        self.lock().retain(|(uid, _), _| uid != pod_uid);
        self.0.changed.raise();
    }

    /// The life with this number from the end; 0 is the present one.
    fn life(&self, key: &ContainerKey, from_end: usize) -> Option<Life> {
        self.lock().get(key)?.iter().rev().nth(from_end).cloned()
    }

    fn count(&self, key: &ContainerKey) -> usize {
        self.lock().get(key).map_or(0, Vec::len)
    }
}

/// One line and when it was written.
type Line = (Timestamp, String);

impl Life {
    /// What was written up to now, and when the next line is due.
    fn lines(&self, container: &str, number: usize, now: Timestamp) -> (Vec<Line>, Option<Duration>) {
        let mut lines = vec![(self.started, format!("{container} starts, life {number}"))];
        let until = self.ended.map_or(now, |(ended, _)| ended);
        let mut next = None;
        for (count, interval) in (1_u32..).zip(std::iter::repeat(self.interval.filter(|interval| !interval.is_zero()))) {
            let Some(at) = interval.and_then(|interval| self.started.checked_add(interval.checked_mul(count)?).ok()) else { break };
            if at > until {
                next = Duration::try_from(at.duration_since(now)).ok();
                break;
            }
            lines.push((at, format!("{container} works, line {count}")));
        }
        if let Some((at, code)) = self.ended {
            lines.push((at, format!("{container} exits with {code}")));
            return (lines, None);
        }
        (lines, next)
    }
}

/// The parts of `PodLogOptions` that are honoured.
#[derive(Clone, Debug, Default)]
struct LogOptions {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    limit_bytes: Option<u64>,
    since: Option<Timestamp>,
}

impl LogOptions {
    fn read(query: &Query, name: &str, now: Timestamp) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        for (field, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
            if let Ok(number) = query.text(field).parse::<i64>()
                && number < least
            {
                let why = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
                errors.push(FieldError::invalid(field, &json!(number), why));
            }
        }
        if query.has("sinceSeconds") && query.has("sinceTime") {
            errors.push(FieldError::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("PodLogOptions", "", name, &errors));
        }
        let since_seconds = query.number("sinceSeconds")?.map(Duration::from_secs);
        let since_seconds = since_seconds.and_then(|seconds| now.checked_sub(seconds).ok());
        Ok(Self {
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            tail_lines: query.number("tailLines")?,
            limit_bytes: query.number("limitBytes")?,
            since: query.text("sinceTime").parse().ok().or(since_seconds),
        })
    }
}

/// One reader of a log.
struct Reader {
    book: LogBook,
    clock: SimClock,
    key: ContainerKey,
    /// Number of the life that is read, from 1.
    number: usize,
    options: LogOptions,
    /// Lines that were read.
    told: usize,
    bytes_left: u64,
    done: bool,
}

impl Reader {
    fn life(&self) -> Option<Life> {
        let from_end = self.book.count(&self.key).checked_sub(self.number)?;
        self.book.life(&self.key, from_end)
    }

    fn text(&self, lines: &[Line]) -> String {
        let mut text = String::new();
        for (at, line) in lines.iter().filter(|(at, _)| self.options.since.is_none_or(|since| *at >= since)) {
            if self.options.timestamps {
                let _ = write!(text, "{at:.9} ");
            }
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The next piece, or `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.done && self.bytes_left > 0 {
            let mut changed = self.book.0.changed.listen();
            let life = self.life()?;
            let (lines, next) = life.lines(&self.key.1, self.number, self.clock.now());
            if self.told == 0
                && let Some(tail) = self.options.tail_lines
            {
                self.told = lines.len().saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
            }
            let mut text = self.text(lines.get(self.told..).unwrap_or_default());
            self.told = lines.len();
            self.done = life.ended.is_some() || !self.options.follow;
            if !text.is_empty() {
                text.truncate(usize::try_from(self.bytes_left).unwrap_or(usize::MAX).min(text.len()));
                self.bytes_left -= u64::try_from(text.len()).unwrap_or(self.bytes_left).min(self.bytes_left);
                return Some(Bytes::from(text));
            }
            if !self.done {
                tokio::select! {
                    biased;
                    () = changed.changed() => {}
                    () = sleep(next.unwrap_or(Duration::from_secs(3600))) => {}
                }
            }
        }
        None
    }
}

impl ApiServer {
    /// `GET pods/NAME/log`.
    pub(super) fn pod_log(&self, pods: &ResourceType, namespace: &str, name: &str, query: &Query) -> Result<Response<Body>, ApiError> {
        let options = LogOptions::read(query, name, self.clock.now())?;
        let pod = self.store.get(pods.table, &Key::new(namespace, name)).ok_or_else(|| ApiError::not_found(pods, name))?.value();
        let container = container_of(&pod, name, query.text("container"))?;
        if pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
            return Ok(bytes_response(StatusCode::NO_CONTENT, Bytes::new()));
        }
        let key = (pod["metadata"]["uid"].as_str().unwrap_or_default().to_string(), container.clone());
        let number = match (self.logs.count(&key), options.previous) {
            (0, false) => {
                let why = waiting_reason(&pod, &container).unwrap_or_else(|| "ContainerCreating".into());
                return Err(ApiError::bad_request(format!("container {container:?} in pod {name:?} is waiting to start: {why}")));
            }
            (0 | 1, true) => {
                return Err(ApiError::bad_request(format!("previous terminated container {container:?} in pod {name:?} not found")));
            }
            (lives, previous) => lives - usize::from(previous),
        };
        let bytes_left = options.limit_bytes.unwrap_or(u64::MAX);
        let reader = Reader { book: self.logs.clone(), clock: self.clock, key, number, options, told: 0, bytes_left, done: false };
        let pieces = futures::stream::unfold(reader, |mut reader| async move {
            let piece = reader.next().await?;
            Some((Ok::<_, std::io::Error>(piece), reader))
        });
        let mut response = Response::new(Body::from_stream(pieces));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
        Ok(response)
    }
}

/// The container that is meant, as upstream's `validateContainer` finds it.
fn container_of(pod: &Value, name: &str, asked: &str) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        pod["spec"][list].as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
    };
    let lists = [names("containers"), names("initContainers"), names("ephemeralContainers")];
    if !asked.is_empty() {
        return match lists.iter().flatten().find(|known| **known == asked) {
            Some(_) => Ok(asked.to_string()),
            None => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}"))),
        };
    }
    let [containers, init, _] = &lists;
    if let [only] = containers.as_slice() {
        Ok((*only).to_string())
    } else {
        let mut why = format!("a container name must be specified for pod {name}, choose one of: [{}]", containers.join(" "));
        if !init.is_empty() {
            let _ = write!(why, " or one of the init containers: [{}]", init.join(" "));
        }
        Err(ApiError::bad_request(why))
    }
}

fn waiting_reason(pod: &Value, container: &str) -> Option<String> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut statuses = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    let status = statuses.find(|status| status["name"] == container)?;
    status["state"]["waiting"]["reason"].as_str().map(str::to_string)
}

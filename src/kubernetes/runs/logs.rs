//! Copies of logs, so that they outlive their run. In: a run; its log, read from the cluster. Out: one log a container in the store.
//!
//! A copy that is made when a run has ended is read from the beginning to the end. With `logs: Follow` a copy is also made while a container runs: it is what
//! is left if the run is deleted over there before its end was read. If it ended well, the end need not be read again; if it broke, it is replaced by a
//! whole copy.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use http::StatusCode;
use http_body_util::BodyExt;
use kube::client::Body;
use rustc_hash::FxHashMap;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    execute::run_path,
    port::{Port, Trouble, text},
};
use crate::{
    federation::{
        effect::{Order, Outcome},
        facts::{RunName, RunPod},
    },
    kubernetes::api::with_causes,
    metrics::RunsMetrics,
    model::ids::{PodKey, PodUid},
};

/// A log that is read to its end and pauses this long has lost its connection.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Logs followed at once for each cluster, a connection each; further ones are copied at their end.
const FOLLOWED_MAX: usize = 512;
/// Where a pod's status tells of its containers.
const STATUSES: [&str; 3] = ["/initContainerStatuses", "/containerStatuses", "/ephemeralContainerStatuses"];

/// Whose log, by the names at home.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogOf {
    /// The home pod.
    pub home: PodKey,
    /// Its UID.
    pub uid: PodUid,
    /// The container.
    pub container: Box<str>,
    /// Its life before the last restart.
    pub previous: bool,
}

/// A log as it comes.
pub type LogBody = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// Where logs are kept.
pub trait LogStore: Send + Sync {
    /// Keeps a log, in place of what is kept of it. The bytes kept, and whether the body came to its end. A body that breaks is kept as far as it came.
    fn keep(&self, log: LogOf, body: LogBody) -> BoxFuture<'_, Result<(u64, bool), String>>;
}

/// Copies logs into a store, if there is one. Cheap to clone.
#[derive(Clone)]
pub struct LogDesk {
    store: Option<Arc<dyn LogStore>>,
    followed: Arc<Mutex<FxHashMap<LogOf, Followed>>>,
    metrics: RunsMetrics,
}

/// A copy made while the container runs.
#[derive(Debug)]
struct Followed {
    /// Which life of the container.
    container_id: Box<str>,
    /// It came to its end.
    complete: bool,
    /// It is still being made.
    under_way: bool,
}

/// A container that has a log.
pub struct Logged<'a> {
    /// Its name.
    pub name: &'a str,
    /// Which life.
    pub id: &'a str,
    /// There was one before.
    pub restarted: bool,
    /// It has not ended.
    pub running: bool,
}

impl LogDesk {
    /// Keeps logs there; without a store none are kept.
    pub fn new(store: Option<Arc<dyn LogStore>>, metrics: RunsMetrics) -> Self {
        Self { store, followed: Arc::default(), metrics }
    }

    /// Whether logs are kept at all.
    pub fn keeps(&self) -> bool {
        self.store.is_some()
    }

    /// Copies all logs of a run that has ended.
    pub(super) async fn archive(&self, remote: &Port, order: &Order, run: &RunName) -> Result<Outcome, Trouble> {
        let Some(store) = &self.store else { return Ok(Outcome::Done) };
        let Some(pod) = remote.get(run_path(run)).await? else {
            tracing::warn!(pod = %order.home, run = &*run.name, "the run is gone: its log is what was copied before");
            self.forget(&order.uid);
            return Ok(Outcome::Done);
        };
        for container in logged(&pod["status"]) {
            let lives: &[bool] = if container.restarted { &[true, false] } else { &[false] };
            for previous in lives {
                let log = LogOf { home: order.home.clone(), uid: order.uid.clone(), container: container.name.into(), previous: *previous };
                if *previous || !self.is_complete(&log, container.id) {
                    self.copy(&**store, remote, run, log).await?;
                }
            }
        }
        self.forget(&order.uid);
        Ok(Outcome::Done)
    }

    async fn copy(&self, store: &dyn LogStore, remote: &Port, run: &RunName, log: LogOf) -> Result<(), Trouble> {
        let body = match remote.open(log_path(run, &log, false)).await {
            // Told by the server: this container has no such log (any more).
            Err(Trouble::Refused(StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND, why)) => {
                tracing::warn!(pod = %log.home, container = &*log.container, previous = log.previous, "there is no log to keep: {why}");
                return Ok(());
            }
            other => other?,
        };
        let (bytes, complete) = store.keep(log, stream(body, Some(SILENCE_MAX))).await.map_err(Trouble::Unclear)?;
        self.metrics.logs_kept(bytes);
        if complete { Ok(()) } else { Err(Trouble::Unclear("the log broke off before its end".to_owned())) }
    }

    /// Copies to be made while containers of this run run, each to be awaited on a task of its own.
    pub(super) fn follow(&self, remote: &Port, run: &RunPod) -> Vec<impl Future<Output = ()> + Send + use<>> {
        let Some(store) = &self.store else { return Vec::new() };
        let mut begun = Vec::new();
        let mut followed = self.lock();
        for container in logged(&run.status).into_iter().filter(|container| container.running) {
            let log = LogOf { home: run.home.clone(), uid: run.home_uid.clone(), container: container.name.into(), previous: false };
            let known = followed.get(&log).is_some_and(|known| known.under_way || *known.container_id == *container.id);
            if known || followed.values().filter(|followed| followed.under_way).count() >= FOLLOWED_MAX {
                continue;
            }
            followed.insert(log.clone(), Followed { container_id: container.id.into(), complete: false, under_way: true });
            let (desk, store, remote, run) = (self.clone(), store.clone(), remote.clone(), run.name.clone());
            begun.push(async move {
                let complete = desk.follow_one(&*store, &remote, &run, &log).await;
                if let Some(followed) = desk.lock().get_mut(&log) {
                    (followed.complete, followed.under_way) = (complete, false);
                }
            });
        }
        begun
    }

    async fn follow_one(&self, store: &dyn LogStore, remote: &Port, run: &RunName, log: &LogOf) -> bool {
        let kept = match remote.open(log_path(run, log, true)).await {
            Ok(body) => store.keep(log.clone(), stream(body, None)).await,
            Err(trouble) => Err(trouble.to_string()),
        };
        match kept {
            Ok((bytes, complete)) => {
                self.metrics.logs_kept(bytes);
                complete
            }
            Err(why) => {
                tracing::info!(pod = %log.home, container = &*log.container, "its log is copied at its end, as it cannot be followed: {why}");
                false
            }
        }
    }

    fn is_complete(&self, log: &LogOf, container_id: &str) -> bool {
        self.lock().get(log).is_some_and(|followed| followed.complete && *followed.container_id == *container_id)
    }

    fn forget(&self, uid: &PodUid) {
        self.lock().retain(|log, _| log.uid != *uid);
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<LogOf, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The containers of a status that ever started.
pub fn logged(status: &Value) -> Vec<Logged<'_>> {
    let lists = STATUSES.iter().filter_map(|list| status.pointer(list)?.as_array());
    let read = |status: &'_ Value| -> (bool, bool) {
        let is = |pointer: &str| status.pointer(pointer).is_some_and(|state| !state.is_null());
        let restarted = is("/lastState/terminated") || status["restartCount"].as_u64().unwrap_or(0) > 0;
        (restarted, is("/state/running"))
    };
    let container = |status| {
        let (restarted, running) = read(status);
        let ended = status.pointer("/state/terminated").is_some_and(|state| !state.is_null());
        let logged = Logged { name: text(status, "/name"), id: text(status, "/containerID"), restarted, running };
        (restarted || running || ended).then_some(logged)
    };
    lists.flatten().filter_map(container).collect()
}

fn log_path(run: &RunName, log: &LogOf, follow: bool) -> String {
    let previous = if log.previous { "&previous=true" } else { "" };
    let follow = if follow { "&follow=true" } else { "" };
    format!("{}/log?container={}&timestamps=true{previous}{follow}", run_path(run), log.container)
}

/// The frames of an answer; a pause beyond the bound is a broken connection.
pub fn stream(body: Body, silence_max: Option<Duration>) -> LogBody {
    let frames = futures::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        let next = async { body.frame().await };
        let frame = match silence_max {
            Some(silence_max) => timeout(silence_max, next).await.unwrap_or_else(|_| {
                let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, format!("nothing came for {} s", silence_max.as_secs()));
                Some(Err(kube::Error::ReadEvents(silent)))
            }),
            None => next.await,
        };
        match frame? {
            Ok(frame) => Some((Ok(frame.into_data().unwrap_or_default()), Some(body))),
            Err(error) => Some((Err(std::io::Error::other(with_causes(&error))), None)),
        }
    });
    frames.boxed()
}

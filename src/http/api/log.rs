//! Logs of runs. In: a run, an attempt, perhaps a container. Out: text, from the pod while there is one, then from the archive.

use std::{collections::VecDeque, io, time::Duration};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    Call, TaskApi, failed,
    objects::{self, text},
};
use crate::{
    http::{
        kubelet::{ArchivedLog, LogStream, without_times},
        status::Refusal,
    },
    kubernetes::{api::with_causes, cluster::rest::RestError, watch::escaped},
};

/// How long the head of a log may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a log that is to be followed may take to begin, and how often it is looked for.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is wanted.
#[derive(Clone)]
struct Wanted {
    api: TaskApi,
    namespace: String,
    pod: String,
    uid: String,
    /// The pod is there.
    is_there: bool,
    follow: bool,
    timestamps: bool,
}

pub(super) async fn answer(api: &TaskApi, call: &Call) -> Result<Response, Refusal> {
    let (follow, timestamps, number) = (call.flag("follow")?, call.flag("timestamps")?, call.number("attempt")?);
    let run = begun(api, call, follow, number).await?;
    let attempt = attempt(&run, number).ok_or_else(|| none(&run, number))?;
    let mut containers = containers(&run);
    if let Some(container) = call.query.get("container") {
        if !containers.contains(container) {
            return Err(Refusal::Absent(format!(
                "the run has no container {container:?}; it has: {}",
                containers.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        containers = VecDeque::from([container.clone()]);
    }
    let (namespace, pod, uid) = (call.namespace().to_owned(), text(attempt, "/podName").to_owned(), text(attempt, "/podUID").to_owned());
    let found = api.rest.get(&format!("/api/v1/namespaces/{namespace}/pods/{pod}")).await.map_err(failed)?;
    let is_there = found.is_some_and(|found| text(&found, "/metadata/uid") == uid);
    if !is_there && api.logs.is_none() {
        return Err(Refusal::Absent("the pod is gone, and no archive of logs is configured".to_owned()));
    }
    let wanted = Wanted { api: api.clone(), namespace, pod, uid, is_there, follow, timestamps };
    // What is wrong with the first one is said before anything is.
    let first = match containers.pop_front() {
        Some(first) => wanted.open(&first).await?,
        None => stream::empty().boxed(),
    };
    let rest = stream::iter(containers).then(move |container| {
        let wanted = wanted.clone();
        async move { wanted.open(&container).await.map_err(|refusal| io::Error::other(refusal.to_string())) }
    });
    let body = Body::from_stream(first.chain(rest.try_flatten()));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// The run, when the attempt has begun, if that is to be waited for.
async fn begun(api: &TaskApi, call: &Call, follow: bool, number: Option<u64>) -> Result<Value, Refusal> {
    let deadline = Instant::now() + BEGIN_TIMEOUT;
    loop {
        let run = objects::run(api, call).await?;
        let waits = attempt(&run, number).is_none_or(|attempt| attempt["started"].is_null() && attempt["ended"].is_null());
        if !follow || !waits || run["status"]["outcome"].is_string() {
            return Ok(run);
        }
        if Instant::now() > deadline {
            return Err(none(&run, number));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn none(run: &Value, number: Option<u64>) -> Refusal {
    let attempt = number.map_or_else(|| "attempt".to_owned(), |number| format!("attempt {number}"));
    let (phase, message) = (text(run, "/status/phase"), text(run, "/status/message"));
    Refusal::Conflict(format!("the run has no {attempt} that has begun: it is {phase} ({message})"))
}

fn attempt(run: &Value, number: Option<u64>) -> Option<&Value> {
    let attempts = run["status"]["attempts"].as_array()?;
    match number {
        None => attempts.last(),
        Some(number) => attempts.iter().find(|attempt| attempt["number"] == number),
    }
}

fn containers(run: &Value) -> VecDeque<String> {
    let spec = &run["spec"]["frozen"]["template"]["spec"];
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| spec[list].as_array());
    lists.flatten().map(|container| text(container, "/name").to_owned()).collect()
}

impl Wanted {
    async fn open(&self, container: &str) -> Result<LogStream, Refusal> {
        if self.is_there { self.of_pod(container).await.map(|log| log.boxed() as LogStream) } else { self.archived(container).await }
    }

    async fn of_pod(&self, container: &str) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, Refusal> {
        let Self { namespace, pod, follow, timestamps, .. } = self;
        let container = escaped(container);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&follow={follow}&timestamps={timestamps}");
        let opened = self.api.rest.api().open(path, OPEN_TIMEOUT).await.map_err(|error| failed(error.into()))?;
        let body = opened.map_err(|answer| failed(RestError::Refused { status: answer.status, text: answer.failure() }))?;
        Ok(body.into_data_stream().map_err(|error| io::Error::other(with_causes(&error))))
    }

    async fn archived(&self, container: &str) -> Result<LogStream, Refusal> {
        let wanted = ArchivedLog {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            container: container.to_owned(),
            previous: false,
        };
        let Some(archive) = &self.api.logs else { return Ok(stream::empty().boxed()) };
        let log = archive.read(&wanted).await.map_err(|error| Refusal::Upstream(error.to_string()))?;
        let log = log.ok_or_else(|| Refusal::Absent(format!("the pod is gone, and no log of container {container:?} is kept")))?;
        Ok(if self.timestamps { log } else { without_times(log) })
    }
}

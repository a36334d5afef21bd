//! Ends of runs, told to other programs as `CloudEvents` over HTTP and by a broker. In: a run as the API server has it. Out: one event for each receiver,
//! acknowledged by all of them, or why not.
//!
//! A receiver that fails is left alone for a while, whichever run is to be told: so a dead one costs a call now and then, and no run waits for it.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use kube::{Client, client::Body};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{broker::Outbox, report};
use crate::{
    config::resolved::NatsSubjectSettings,
    kubernetes::{
        api::with_causes,
        client::{ClientError, elsewhere},
        runs::port::text,
    },
    tasks::run::TaskRunStatus,
};

/// How long a receiver may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one that fails is left alone: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What an event is called in `Content-Type`.
pub(super) const EVENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";
/// Events of which is remembered who has them already, while others do not.
const HALF_TOLD_MAX: usize = 10_000;

/// Who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// Addresses; each gets every event.
    pub urls: Vec<String>,
    /// A file with a bearer token, read for each call.
    pub token_file: Option<PathBuf>,
    /// A subject of a broker, which gets every event, too.
    pub nats: Option<NatsSubjectSettings>,
}

/// Whoever is to be told.
pub struct Receivers {
    all: Vec<Receiver>,
    token_file: Option<PathBuf>,
    /// Receivers that have an event while others do not, by the event's ID.
    half_told: Mutex<FxHashMap<String, Vec<usize>>>,
}

struct Receiver {
    way: Way,
    /// How it is called in messages.
    name: String,
    health: Mutex<Health>,
}

/// The bearer token, if one is to be sent, or why there is none.
type Token = Result<Option<String>, String>;

/// How an event gets there.
enum Way {
    Http {
        client: Client,
        /// Path and query.
        path: String,
    },
    Broker(Box<Outbox>),
}

/// Why an event was not told.
#[derive(Debug)]
pub(super) enum Failure {
    /// It dislikes this very event; others may please it.
    OfThisEvent(String),
    /// It cannot be told anything now.
    OfReceiver(String),
}

#[derive(Default)]
struct Health {
    failures: u32,
    /// It is left alone until then.
    until: Option<Instant>,
}

impl Receivers {
    /// Connections are made when there is something to tell. Must be called within a tokio runtime.
    pub fn new(options: &ReportOptions) -> Result<Self, ClientError> {
        let mut all = options.urls.iter().map(|url| Receiver::over_http(url)).collect::<Result<Vec<_>, _>>()?;
        all.extend(options.nats.clone().map(|nats| {
            let outbox = Outbox::new(nats);
            Receiver { name: outbox.name(), way: Way::Broker(Box::new(outbox)), health: Mutex::default() }
        }));
        Ok(Self { all, token_file: options.token_file.clone(), half_told: Mutex::default() })
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Why nobody needs to be asked now: all that can be told may be told later.
    pub(super) fn paused(&self) -> Option<String> {
        let now = Instant::now();
        let paused = |receiver: &Receiver| lock(&receiver.health).until.is_some_and(|until| until > now);
        let all = !self.all.is_empty() && self.all.iter().all(paused);
        all.then(|| "no receiver of reports answers; they are asked again in a while".to_owned())
    }

    /// Read anew each time, as whoever rotates it only writes the file. The broker needs none, so a file that cannot be read is no matter for it.
    async fn token(&self) -> Token {
        let Some(file) = &self.token_file else { return Ok(None) };
        tokio::fs::read_to_string(file).await.map(Some).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Tells all that do not know yet.
    pub(super) async fn tell(&self, run: &Value, state: &str) -> Result<(), String> {
        let event = event(run, state);
        let id = text(&event, "/id").to_owned();
        let mut told = lock(&self.half_told).get(&id).cloned().unwrap_or_default();
        let token = self.token().await;
        let mut failed = Vec::new();
        for (at, receiver) in self.all.iter().enumerate() {
            if told.contains(&at) {
                continue;
            }
            match receiver.tell(&event, &token).await {
                Ok(()) => told.push(at),
                Err(why) => failed.push(format!("{}: {why}", receiver.name)),
            }
        }
        let mut half_told = lock(&self.half_told);
        half_told.remove(&id);
        if failed.is_empty() {
            return Ok(());
        }
        if half_told.len() >= HALF_TOLD_MAX {
            // Some will be told twice, which they have to expect anyway.
            half_told.clear();
        }
        if !told.is_empty() {
            half_told.insert(id, told);
        }
        Err(failed.join("; "))
    }
}

impl Receiver {
    fn over_http(url: &str) -> Result<Self, ClientError> {
        let bad = |why: String| ClientError::Setup(format!("{url}: {why}"));
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| bad(error.to_string()))?;
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let base = Uri::from_parts(parts).map_err(|error| bad(error.to_string()))?;
        Ok(Self { way: Way::Http { client: elsewhere(base)?, path }, name: url.to_owned(), health: Mutex::default() })
    }

    async fn tell(&self, event: &Value, token: &Token) -> Result<(), String> {
        let paused = lock(&self.health).until.filter(|until| *until > Instant::now());
        if paused.is_some() {
            return Err("it has failed a moment ago, and is asked again in a while".to_owned());
        }
        let answer = if let Ok(answer) = timeout(ANSWER_TIMEOUT, self.way.carry(event, token)).await {
            answer
        } else {
            self.way.gave_no_answer().await;
            Err(Failure::OfReceiver(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
        };
        match answer {
            Ok(()) => {
                *lock(&self.health) = Health::default();
                Ok(())
            }
            Err(Failure::OfThisEvent(why)) => Err(why),
            Err(Failure::OfReceiver(why)) => {
                self.failed();
                Err(why)
            }
        }
    }

    fn failed(&self) {
        let mut health = lock(&self.health);
        let pause = PAUSE_FIRST.saturating_mul(1 << health.failures.min(10)).min(PAUSE_MAX);
        health.failures = health.failures.saturating_add(1);
        health.until = Some(Instant::now() + pause);
    }
}

impl Way {
    async fn carry(&self, event: &Value, token: &Token) -> Result<(), Failure> {
        let body = event.to_string().into_bytes();
        match self {
            Self::Http { client, path } => post(client, path, body, token).await,
            Self::Broker(outbox) => outbox.tell(text(event, "/id"), body).await,
        }
    }

    async fn gave_no_answer(&self) {
        if let Self::Broker(outbox) = self {
            outbox.forget().await;
        }
    }
}

async fn post(client: &Client, path: &str, event: Vec<u8>, token: &Token) -> Result<(), Failure> {
    let mut request = Request::builder().method(Method::POST).uri(path).header(header::CONTENT_TYPE, EVENT_TYPE);
    if let Some(token) = token.as_ref().map_err(|why| Failure::OfReceiver(why.clone()))? {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| Failure::OfReceiver("the token has characters that no header can have".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request.body(Body::from(event)).map_err(|error| Failure::OfReceiver(error.to_string()))?;
    let status = client.send(request).await.map_err(|error| Failure::OfReceiver(with_causes(&error)))?.status();
    if status.is_success() {
        return Ok(());
    }
    let why = format!("it answered {status}");
    let of_this_event = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
    Err(if of_this_event.contains(&status) { Failure::OfThisEvent(why) } else { Failure::OfReceiver(why) })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The event. Its ID stays the same when it is told again; `resourceversion` says which of several is the newest.
fn event(run: &Value, state: &str) -> Value {
    let namespace = text(run, "/metadata/namespace");
    let status: TaskRunStatus = serde_json::from_value(run["status"].clone()).unwrap_or_default();
    let mut event = json!({
        "specversion": "1.0",
        "id": format!("{}/{state}", text(run, "/metadata/uid")),
        "source": format!("/apis/isobar.dev/v1alpha1/namespaces/{namespace}/taskruns"),
        "type": format!("dev.isobar.taskrun.{}", state.to_ascii_lowercase()),
        "subject": text(run, "/metadata/name"),
        "datacontenttype": "application/json",
        "resourceversion": text(run, "/metadata/resourceVersion"),
        "data": report::summary(run, &status),
    });
    if let Some(at) = status.finished_at {
        event["time"] = json!(at);
    }
    event
}

#[cfg(test)]
#[path = "announce_tests.rs"]
mod tests;

//! Writes events for people: [`EventOrder`]s in, `events.k8s.io/v1` objects and series updates out.
//!
//! Fields, names, series and note length as client-go's events recorder has them, so that `kubectl describe` reads as with kube-scheduler. Events
//! come last: bounded queues, a bounded rate and few requests at once; what does not fit is dropped and counted, and no binding ever waits for one.
//! What is said once (`Scheduled`, `Preempted`, our own news) has a queue of its own and goes first: a crowd of pods that find no node says so again at
//! every attempt, and must not drown the one event of a pod that found its node.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    api::{Api, Call, JSON, STRATEGIC_MERGE, beginning},
    clock::{Clock, micro_time},
    limiter::TokenBucket,
    series::{Series, SeriesTable, Write},
};
use crate::{
    metrics::{ApiMetrics, EventDrop},
    scheduler::input::{EventOrder, PodRef},
};

/// Events of each queue that may wait, some 400 bytes each: after a burst of so many pods each gets its event, though the last after minutes.
const WAITING_MAX: usize = 16_384;
/// The one event that is said again at each attempt; whoever reads the next one has missed nothing.
const SAID_AGAIN: &str = "FailedScheduling";
/// Events at once, as seconds of that rate: for a Deployment that is scaled up.
const BURST_SECONDS: f64 = 5.0;
/// Requests at once: two leave the API server to the bindings.
const IN_FLIGHT_MAX: usize = 2;
/// How long one event may take.
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server may not make us wait longer than this for an event.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// How often series are looked at for an end.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);
/// Upstream's `noteLengthLimit`, bytes.
const NOTE_BYTES_MAX: usize = 1024;
/// What a shortened note ends with.
const SHORTENED: &str = " ...";
/// The API's limit on `reportingInstance`, bytes.
const INSTANCE_BYTES_MAX: usize = 128;
/// What an event's name keeps of its object's: the API's limit is 253 bytes; `.` and 16 digits follow.
pub(super) const OBJECT_NAME_BYTES_MAX: usize = 236;

/// News of our own: who leads, which configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Namespace and name of the Lease.
    pub lease: (String, String),
    /// Who reports: the first scheduler name that we serve.
    pub reporter: String,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub note: String,
}

enum Message {
    Pod(Box<EventOrder>),
    News(Box<News>),
}

/// Where events wait for their turn. Cheap to clone.
#[derive(Clone)]
pub struct EventDesk {
    once: mpsc::Sender<Message>,
    again: mpsc::Sender<Message>,
    metrics: ApiMetrics,
}

impl EventDesk {
    /// Leaves an event, or drops and counts it when too many wait.
    pub fn put(&self, order: Box<EventOrder>) {
        let queue = if order.reason == SAID_AGAIN { &self.again } else { &self.once };
        self.leave(queue, Message::Pod(order));
    }

    /// Leaves news of our own, about the Lease that stands for all replicas.
    pub fn tell(&self, news: News) {
        self.leave(&self.once, Message::News(Box::new(news)));
    }

    fn leave(&self, queue: &mpsc::Sender<Message>, message: Message) {
        if queue.try_send(message).is_err() {
            self.metrics.event_dropped(EventDrop::Full);
        }
    }
}

/// Writes what lies on the desk.
pub struct EventWriter {
    once: mpsc::Receiver<Message>,
    again: mpsc::Receiver<Message>,
    table: SeriesTable,
    bucket: TokenBucket,
    sender: Sender,
}

#[derive(Clone)]
struct Sender {
    api: Api,
    clock: Clock,
    hostname: Arc<str>,
}

/// A desk and the writer that empties it.
pub fn event_desk(api: Api, clock: Clock, hostname: &str, per_second: f64) -> (EventDesk, EventWriter) {
    let (put_once, once) = mpsc::channel(WAITING_MAX);
    let (put_again, again) = mpsc::channel(WAITING_MAX);
    let desk = EventDesk { once: put_once, again: put_again, metrics: api.metrics().clone() };
    let sender = Sender { api, clock, hostname: hostname.into() };
    let bucket = TokenBucket::new(per_second, per_second * BURST_SECONDS);
    (desk, EventWriter { once, again, table: SeriesTable::default(), bucket, sender })
}

impl EventWriter {
    /// Works until all desks are gone; what waits then is written first.
    pub async fn run(mut self) {
        let mut under_way = JoinSet::new();
        let mut sweep = interval(SWEEP_PERIOD);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let writes = tokio::select! {
                biased;
                // First: a crowd that never ends must not keep the ends of series from being written.
                _ = sweep.tick() => self.table.sweep(self.sender.clock.now()),
                message = self.next() => match message {
                    Some(message) => self.taken(message).await,
                    None => break,
                },
            };
            for (write, order) in writes {
                if matches!(write, Write::Nothing) {
                    continue;
                }
                self.bucket.take().await;
                while under_way.len() >= IN_FLIGHT_MAX {
                    under_way.join_next().await;
                }
                let sender = self.sender.clone();
                under_way.spawn(async move { sender.send(&order, write).await });
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// None when all desks are gone and nothing waits.
    async fn next(&mut self) -> Option<Message> {
        tokio::select! {
            biased;
            Some(message) = self.once.recv() => Some(message),
            Some(message) = self.again.recv() => Some(message),
            else => None,
        }
    }

    async fn taken(&mut self, message: Message) -> Vec<(Write, Box<EventOrder>)> {
        let now = self.sender.clock.now();
        match message {
            Message::Pod(order) => vec![(self.table.record(&order, now), order)],
            Message::News(news) => {
                self.sender.tell(&news, self.table.name(&news.lease.1, now)).await;
                Vec::new()
            }
        }
    }
}

impl Sender {
    async fn send(&self, order: &EventOrder, write: Write) {
        let written = match &write {
            Write::Create { name } => self.create(order, name, None).await,
            Write::Series { name, series } => match self.update(order, name, series).await {
                // It has aged out of the API server meanwhile.
                Err(StatusCode::NOT_FOUND) => self.create(order, name, Some(series)).await,
                other => other,
            },
            Write::Nothing => return,
        };
        match written {
            Ok(()) => self.api.metrics().event_sent(),
            Err(_) => self.api.metrics().event_dropped(EventDrop::Failed),
        }
    }

    async fn tell(&self, news: &News, event_name: String) {
        let (namespace, name) = &news.lease;
        let body = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": event_name, "namespace": namespace},
            "eventTime": micro_time(self.clock.wall()),
            "reportingController": news.reporter,
            "reportingInstance": self.instance(&news.reporter),
            "action": news.reason,
            "reason": news.reason,
            "regarding": {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "namespace": namespace, "name": name},
            "note": shortened(&news.note),
            "type": news.kind,
        });
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        match self.write(Method::POST, path, JSON, &body).await {
            Ok(()) => self.api.metrics().event_sent(),
            Err(_) => self.api.metrics().event_dropped(EventDrop::Failed),
        }
    }

    async fn create(&self, order: &EventOrder, name: &str, series: Option<&Series>) -> Result<(), StatusCode> {
        let body = self.event(order, name, series);
        self.write(Method::POST, events_path(&order.pod), JSON, &body).await
    }

    async fn update(&self, order: &EventOrder, name: &str, series: &Series) -> Result<(), StatusCode> {
        let path = format!("{}/{name}", events_path(&order.pod));
        self.write(Method::PATCH, path, STRATEGIC_MERGE, &json!({"series": self.series(series)})).await
    }

    /// One try, and one more when the server asks for patience.
    async fn write(&self, method: Method, path: String, content_type: &'static str, body: &Value) -> Result<(), StatusCode> {
        let call =
            || Call { method: method.clone(), path: path.clone(), content_type, body: body.to_string().into(), timeout: EVENT_TIMEOUT };
        let mut answer = self.api.tell(call()).await;
        if let Ok(busy) = &answer
            && let (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(wait)) = (busy.status, busy.retry_after)
        {
            sleep(wait.min(RETRY_AFTER_MAX)).await;
            answer = self.api.tell(call()).await;
        }
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => {
                tracing::debug!("event not written: {}", answer.failure());
                Err(answer.status)
            }
            Err(error) => {
                tracing::debug!("event not written: {error}");
                Err(StatusCode::GATEWAY_TIMEOUT)
            }
        }
    }

    fn event(&self, order: &EventOrder, name: &str, series: Option<&Series>) -> Value {
        let scheduler_name = &order.pod.scheduler_name;
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": &*order.pod.key.namespace},
            "eventTime": micro_time(self.clock.wall()),
            "series": series.map(|series| self.series(series)),
            "reportingController": &**scheduler_name,
            "reportingInstance": self.instance(scheduler_name),
            "action": order.action,
            "reason": order.reason,
            "regarding": reference(&order.pod),
            "note": shortened(&order.note),
            "type": order.kind,
        });
        if let Some(related) = &order.related {
            event["related"] = reference(related);
        }
        event
    }

    fn instance(&self, reporter: &str) -> String {
        reporting_instance(reporter, &self.hostname)
    }

    fn series(&self, series: &Series) -> Value {
        let ago = self.clock.now().since(series.last_seen);
        let last = self.clock.wall() - Duration::from_millis(ago.0);
        json!({"count": series.count, "lastObservedTime": micro_time(last)})
    }
}

fn reference(pod: &PodRef) -> Value {
    let PodRef { key, uid, .. } = pod;
    json!({"kind": "Pod", "apiVersion": "v1", "namespace": &*key.namespace, "name": &*key.name, "uid": &*uid.0})
}

fn events_path(pod: &PodRef) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{}/events", pod.key.namespace)
}

/// Which process of those that report so.
pub(super) fn reporting_instance(reporter: &str, hostname: &str) -> String {
    beginning(&format!("{reporter}-{hostname}"), INSTANCE_BYTES_MAX).to_owned()
}

/// As upstream's `truncateMessage`: at most 1,024 bytes, the end marked.
pub(super) fn shortened(note: &str) -> String {
    if note.len() <= NOTE_BYTES_MAX {
        return note.to_owned();
    }
    format!("{}{SHORTENED}", beginning(note, NOTE_BYTES_MAX - SHORTENED.len()))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;

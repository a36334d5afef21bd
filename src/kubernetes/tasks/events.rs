//! What happens to runs and tasks, told as Kubernetes Events. In: news of the machine. Out: `events.k8s.io/v1` objects about them.
//!
//! Events come last: a bounded queue, a bounded rate; what does not fit is dropped and counted, and no run waits for one.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    kubernetes::{
        api::{Api, Call, JSON, beginning},
        clock::{Clock, micro_time},
        events::{OBJECT_NAME_BYTES_MAX, reporting_instance, shortened},
        limiter::TokenBucket,
    },
    metrics::EventDrop,
    tasks::{
        effect::{News, Subject},
        facts::Key,
        names::API_VERSION,
    },
};

/// Events that may wait.
const WAITING_MAX: usize = 4096;
const PER_SECOND: f64 = 50.0;
const BURST: f64 = 500.0;
const TIMEOUT: Duration = Duration::from_secs(10);
const REPORTER: &str = "isobar-tasks";

/// Where news wait. Cheap to clone.
#[derive(Clone)]
pub(super) struct NewsDesk {
    sender: mpsc::Sender<News>,
    api: Api,
}

/// Tells them.
pub(super) struct Teller {
    waiting: mpsc::Receiver<News>,
    api: Api,
    clock: Clock,
    instance: Arc<str>,
    told: u64,
}

/// A desk, and what empties it. `api` asks for permission before it writes.
pub(super) fn news_desk(api: Api, clock: Clock, hostname: &str) -> (NewsDesk, Teller) {
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    let instance = reporting_instance(REPORTER, hostname).into();
    (NewsDesk { sender, api: api.clone() }, Teller { waiting, api, clock, instance, told: 0 })
}

impl NewsDesk {
    pub(super) fn put(&self, news: News) {
        if self.sender.try_send(news).is_err() {
            self.api.metrics().event_dropped(EventDrop::Full);
        }
    }
}

impl Teller {
    /// Works until the desk is gone.
    pub(super) async fn run(mut self) {
        let bucket = TokenBucket::new(PER_SECOND, BURST);
        while let Some(news) = self.waiting.recv().await {
            let Some((kind, version, key)) = regarding(&news.subject) else { continue };
            bucket.take().await;
            let body = self.event(&news, kind, version, key);
            let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", key.namespace);
            let call = Call { method: Method::POST, path, content_type: JSON, body: body.to_string().into(), timeout: TIMEOUT };
            match self.api.tell(call).await {
                Ok(answer) if answer.status.is_success() => self.api.metrics().event_sent(),
                Ok(answer) => self.failed(&answer.failure()),
                Err(error) => self.failed(&error.to_string()),
            }
        }
    }

    fn failed(&self, why: &str) {
        tracing::debug!("event not written: {why}");
        self.api.metrics().event_dropped(EventDrop::Failed);
    }

    fn event(&mut self, news: &News, kind: &str, version: &str, key: &Key) -> Value {
        self.told += 1;
        // Unlike any other of this object: the time, and which one of this process.
        let number = self.clock.now().0.wrapping_mul(1_000).wrapping_add(self.told % 1_000);
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": format!("{}.{number:016x}", beginning(&key.name, OBJECT_NAME_BYTES_MAX)), "namespace": &*key.namespace},
            "eventTime": micro_time(self.clock.wall()),
            "reportingController": REPORTER,
            "reportingInstance": &*self.instance,
            "action": &news.reason,
            "reason": &news.reason,
            "regarding": {"kind": kind, "apiVersion": version, "namespace": &*key.namespace, "name": &*key.name, "uid": &*news.uid},
            "note": shortened(&news.note),
            "type": news.kind,
        })
    }
}

fn regarding(subject: &Subject) -> Option<(&'static str, &'static str, &Key)> {
    match subject {
        Subject::Task(key) => Some(("Task", API_VERSION, key)),
        Subject::Run(key) => Some(("TaskRun", API_VERSION, key)),
        Subject::Orphan(key) => Some(("Pod", "v1", key)),
        Subject::Arrival(_) => None,
    }
}

//! What happens to a run over there, told at home. In: events of the run namespace. Out: the same events on the home pod; and for the engine, what a kubelet
//! found of an image.
//!
//! A home event is named after the remote one, so that telling it again, after a new list or by a new leader, meets the one that is there. Events come last:
//! a bounded queue, a bounded rate; what does not fit is dropped and counted.

use std::{hash::BuildHasher, sync::Arc};

use http::StatusCode;
use rustc_hash::FxBuildHasher;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    execute::collection,
    port::{Port, Select, text},
    watched::RunEvent,
};
use crate::{
    kubernetes::{
        api::{MERGE, beginning},
        bind::pod_path,
        cluster::directory::ClusterEntry,
        events::OBJECT_NAME_BYTES_MAX,
        limiter::TokenBucket,
    },
    metrics::{EventDrop, RunsMetrics},
    model::{
        ids::{PodKey, PodUid},
        image::Platforms,
    },
    scheduler::input::Input,
};

/// Events that may wait, some 500 bytes each.
const WAITING_MAX: usize = 4096;
/// Events a second in the long run, and at once.
const PER_SECOND: f64 = 50.0;
const BURST: f64 = 500.0;
/// Requests at once.
const IN_FLIGHT_MAX: usize = 4;
/// Where the pod went is told by our own event; what their scheduler says of it only confuses.
const OURS_ALREADY: [&str; 2] = ["Scheduled", "FailedScheduling"];
/// What a kubelet says when an image is not for its platform.
const WRONG_PLATFORM: [&str; 2] = ["no match for platform", "no matching manifest"];

/// An event of a run, and whose run it is.
#[derive(Debug)]
pub(super) struct Happened {
    pub(super) home: PodKey,
    pub(super) uid: PodUid,
    /// The node over there.
    pub(super) node: Option<Box<str>>,
    pub(super) event: Box<RunEvent>,
}

/// Where events wait to be told at home.
#[derive(Clone)]
pub(super) struct EventMirror {
    sender: mpsc::Sender<Happened>,
    metrics: RunsMetrics,
}

/// Tells them.
pub(super) struct Teller {
    waiting: mpsc::Receiver<Happened>,
    sender: Sender,
}

#[derive(Clone)]
struct Sender {
    entry: Arc<ClusterEntry>,
    home: Port,
    remote: Port,
    engine: mpsc::Sender<Input>,
    metrics: RunsMetrics,
}

/// A mirror, and what empties it.
pub(super) fn event_mirror(
    entry: Arc<ClusterEntry>,
    home: Port,
    remote: Port,
    engine: mpsc::Sender<Input>,
    metrics: RunsMetrics,
) -> (EventMirror, Teller) {
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    let mirror = EventMirror { sender, metrics: metrics.clone() };
    (mirror, Teller { waiting, sender: Sender { entry, home, remote, engine, metrics } })
}

impl EventMirror {
    /// Leaves an event to be told.
    pub(super) fn put(&self, happened: Happened) {
        if OURS_ALREADY.contains(&&*happened.event.reason) {
            return;
        }
        if self.sender.try_send(happened).is_err() {
            self.metrics.event_dropped(EventDrop::Full);
        }
    }
}

impl Teller {
    /// Works until the mirror is gone.
    pub(super) async fn run(mut self) {
        let bucket = TokenBucket::new(PER_SECOND, BURST);
        let mut under_way = JoinSet::new();
        while let Some(happened) = self.waiting.recv().await {
            bucket.take().await;
            while under_way.len() >= IN_FLIGHT_MAX {
                under_way.join_next().await;
            }
            let sender = self.sender.clone();
            under_way.spawn(async move {
                sender.tell(&happened).await;
                sender.learn(&happened).await;
            });
        }
    }
}

impl Sender {
    async fn tell(&self, happened: &Happened) {
        let (namespace, event) = (&happened.home.namespace, &happened.event);
        let name = event_name(happened);
        let told = match self.home.post(collection(namespace, "events"), &self.home_event(happened, &name)).await {
            Err(trouble) if trouble.is(StatusCode::CONFLICT) && event.count > 1 => {
                let patch = json!({"count": event.count, "lastTimestamp": time(&event.seen[1]), "message": &*event.message});
                self.home.patch(format!("{}/{name}", collection(namespace, "events")), MERGE, &patch).await
            }
            Err(trouble) if trouble.is(StatusCode::CONFLICT) => return,
            told => told,
        };
        match told {
            Ok(()) => self.metrics.event_told(),
            Err(trouble) => {
                tracing::debug!(pod = %happened.home, "an event of its run was not told: {trouble}");
                self.metrics.event_dropped(EventDrop::Failed);
            }
        }
    }

    fn home_event(&self, Happened { home, uid, event, .. }: &Happened, name: &str) -> Value {
        let path = event.container.as_ref().map(|container| format!("spec.containers{{{container}}}"));
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": &*home.namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": &*home.namespace, "name": &*home.name, "uid": &*uid.0, "fieldPath": path,
            },
            "type": &*event.kind,
            "reason": &*event.reason,
            "message": &*event.message,
            "source": {"component": format!("isobar/{}/{}", self.entry.name, event.component)},
            "count": event.count,
            "firstTimestamp": time(&event.seen[0]),
            "lastTimestamp": time(&event.seen[1]),
        })
    }

    /// A kubelet that finds no match knows better than the registry's index.
    async fn learn(&self, happened: &Happened) {
        let message = &happened.event.message;
        let (Some(container), Some(node)) = (&happened.event.container, &happened.node) else { return };
        if !WRONG_PLATFORM.iter().any(|words| message.contains(words)) {
            return;
        }
        let Ok(Some(pod)) = self.home.get(pod_path(&happened.home)).await else { return };
        // A list, as rights for it are there anyway.
        let Ok(nodes) = self.remote.list("/api/v1/nodes", Select::Field("metadata.name", node)).await else { return };
        let architecture = nodes.first().map_or("", |node| text(node, "/status/nodeInfo/architecture"));
        let image = image_of(&pod, container);
        if let (Some(image), false) = (image, architecture.is_empty()) {
            // Nobody listens only when the process ends.
            let _ = self.engine.send(Input::ImagePlatforms(image.into(), Platforms::Lacks(format!("linux/{architecture}").into()))).await;
        }
    }
}

/// The image as the home pod names it: over there it may have another name.
fn image_of<'a>(pod: &'a Value, container: &str) -> Option<&'a str> {
    let lists = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    let mut containers = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    containers.find(|candidate| text(candidate, "/name") == container).map(|found| text(found, "/image"))
}

fn event_name(Happened { home, event, .. }: &Happened) -> String {
    format!("{}.{:016x}", beginning(&home.name, OBJECT_NAME_BYTES_MAX), FxBuildHasher.hash_one(&event.uid))
}

/// A `Time` in whole seconds: `MicroTime`s are cut. Null when it was not said.
fn time(text: &str) -> Value {
    match text.split_once('.') {
        _ if text.is_empty() => Value::Null,
        Some((seconds, _)) => format!("{seconds}Z").into(),
        None => text.into(),
    }
}

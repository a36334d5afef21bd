//! Looks on from outside. In: watches of home's pods and runs of tasks, and of everybody's nodes, through the API, as any client has them. Out: the
//! [`History`].

use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;
use http::Request;
use kube::Client;
use kube::api::WatchEvent;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::history::History;
use crate::kubernetes::wire::{Watched, read_value};
use crate::model::{ids::ClusterId, node::NodeFacts, pod::PodFacts};

/// Before a watch that broke is opened anew.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The history while it is written.
#[derive(Clone, Debug, Default)]
pub struct Chronicle(Arc<Mutex<History>>);

impl Chronicle {
    /// Looks at it.
    pub fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes down everything from `start` on until it is dropped. The cluster has to be empty at the start, so that no event is missed.
pub async fn chronicle(clients: Vec<(&'static str, Client)>, chronicle: Chronicle, start: Instant) {
    let Some((_, home)) = clients.first() else { return };
    let pods = follow(
        home,
        "/api/v1/pods",
        |at_ms, event| see_pod(&chronicle, at_ms, event),
        || chronicle.with(|history| history.gaps += 1),
        start,
    );
    let runs = follow(
        home,
        "/apis/isobar.dev/v1alpha1/taskruns",
        |at_ms, event| see_run(&chronicle, at_ms, event),
        || chronicle.with(|history| history.gaps += 1),
        start,
    );
    let nodes = clients.iter().map(|(cluster, client)| {
        let chronicle = &chronicle;
        follow(
            client,
            NodeFacts::PATH,
            move |at_ms, event| see_node(chronicle, at_ms, cluster, event),
            move || chronicle.with(|history| history.gaps += 1),
            start,
        )
    });
    tokio::join!(futures::future::join_all(nodes), pods, runs);
}

fn see_pod(chronicle: &Chronicle, at_ms: u64, event: &WatchEvent<Value>) {
    let text = |object: &Value, path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    match event {
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => match read_value::<PodFacts>(pod, ClusterId::HOME) {
            Ok(facts) => {
                let exit_code = pod.pointer("/status/containerStatuses/0/state/terminated/exitCode").and_then(Value::as_i64);
                chronicle.with(|history| {
                    history.see_pod(at_ms, &facts, &text(pod, "/status/phase"), exit_code);
                    history.tasks.see_pod(at_ms, pod);
                });
            }
            Err(_) => chronicle.with(|history| history.gaps += 1),
        },
        WatchEvent::Deleted(pod) => chronicle.with(|history| {
            history.lose_pod(at_ms, &text(pod, "/metadata/uid"));
            history.tasks.lose_pod(pod);
        }),
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => {}
    }
}

/// A run that retention deletes stays as it was seen last.
fn see_run(chronicle: &Chronicle, at_ms: u64, event: &WatchEvent<Value>) {
    if let WatchEvent::Added(run) | WatchEvent::Modified(run) = event {
        chronicle.with(|history| {
            if history.tasks.see_run(at_ms, run).is_err() {
                history.gaps += 1;
            }
        });
    }
}

fn see_node(chronicle: &Chronicle, at_ms: u64, cluster: &str, event: &WatchEvent<Value>) {
    if let WatchEvent::Added(node) | WatchEvent::Modified(node) = event {
        match read_value::<NodeFacts>(node, ClusterId::HOME) {
            Ok(facts) => chronicle.with(|history| history.see_node(at_ms, cluster, &facts)),
            Err(_) => chronicle.with(|history| history.gaps += 1),
        }
    }
}

/// Every event of a collection, in order. `gap` is called when some may have been missed.
async fn follow(client: &Client, path: &str, mut see: impl FnMut(u64, &WatchEvent<Value>), gap: impl Fn(), start: Instant) {
    let mut version = "0".to_owned();
    loop {
        let request = Request::get(format!("{path}?watch=true&resourceVersion={version}")).body(Vec::new());
        let Ok(request) = request else { return gap() };
        if let Ok(events) = client.request_events::<Value>(request).await {
            let mut events = std::pin::pin!(events);
            while let Ok(Some(event)) = events.try_next().await {
                if let WatchEvent::Error(_) = event {
                    gap();
                    break;
                }
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) = &event {
                    version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or(&version).to_owned();
                }
                see(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX), &event);
            }
        }
        sleep(RETRY_DELAY).await;
    }
}

//! What the API server tells of bound pods. In: a namespace. Out: which pod came to which node when, and any pod whose node ever changed.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures::{TryStreamExt as _, pin_mut};
use kube::{Client, core::WatchEvent};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

/// Only what is needed is decoded: this client shares the machine with the scheduler that is measured.
#[derive(Clone, Deserialize)]
struct SlimPod {
    metadata: SlimMetadata,
    #[serde(default)]
    spec: SlimSpec,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimMetadata {
    #[serde(default)]
    name: String,
    resource_version: String,
}

#[derive(Clone, Default, Deserialize)]
struct SlimSpec {
    #[serde(rename = "nodeName")]
    node: Option<String>,
}

#[derive(Deserialize)]
struct SlimList {
    metadata: ListMetadata,
    items: Vec<SlimPod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
}

/// Where a pod went, and when this watcher heard of it.
#[derive(Clone, Debug)]
pub struct Bound {
    pub node: String,
    pub at: Instant,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub bound: BTreeMap<String, Bound>,
    /// `pod: first node, then other node`. The API server promises that this stays empty.
    pub moved: Vec<String>,
}

pub struct BindingWatch {
    seen: Arc<Mutex<Seen>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<Result<()>>,
}

impl BindingWatch {
    /// Returns once everything bound before is known.
    pub async fn start(client: Client, namespace: &str) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, count) = watch::channel(0);
        let path = format!("/api/v1/namespaces/{namespace}/pods?fieldSelector=spec.nodeName!%3D");
        let version = list(&client, &path, &seen, &sender).await?;
        let state = Arc::clone(&seen);
        let task = tokio::spawn(async move { follow(client, path, version, &state, &sender).await });
        Ok(Self { seen, count, task })
    }

    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until `wanted` pods are bound; an error says how far it came when nothing was bound for `patience`.
    pub async fn wait_for(&mut self, wanted: usize, patience: Duration) -> Result<()> {
        while *self.count.borrow_and_update() < wanted {
            match tokio::time::timeout(patience, self.count.changed()).await {
                Ok(changed) => changed.context("the watch of bindings ended")?,
                Err(_) => bail!("{} of {wanted} pods are bound and none more for {patience:?}", self.count()),
            }
        }
        Ok(())
    }

    pub async fn wait_for_pod(&self, pod: &str, patience: Duration) -> Result<Bound> {
        let mut count = self.count.clone();
        let found = async {
            loop {
                count.borrow_and_update();
                if let Some(bound) = self.seen.lock().await.bound.get(pod) {
                    return anyhow::Ok(bound.clone());
                }
                count.changed().await.context("the watch of bindings ended")?;
            }
        };
        tokio::time::timeout(patience, found).await.with_context(|| format!("{pod} is not bound after {patience:?}"))?
    }

    pub async fn seen(&self) -> tokio::sync::MutexGuard<'_, Seen> {
        self.seen.lock().await
    }
}

impl Drop for BindingWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn list(client: &Client, path: &str, seen: &Mutex<Seen>, sender: &watch::Sender<usize>) -> Result<String> {
    let list: SlimList = client.request(http::Request::get(path).body(Vec::new())?).await.context("list bound pods")?;
    for pod in list.items {
        note(pod, seen, sender).await;
    }
    Ok(list.metadata.resource_version)
}

async fn follow(client: Client, path: String, mut version: String, seen: &Mutex<Seen>, sender: &watch::Sender<usize>) -> Result<()> {
    loop {
        let from = format!("{path}&watch=1&allowWatchBookmarks=true&resourceVersion={version}");
        let events = client.request_events::<SlimPod>(http::Request::get(from).body(Vec::new())?).await;
        let Ok(events) = events else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        pin_mut!(events);
        loop {
            match events.try_next().await {
                Ok(Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                    version.clone_from(&pod.metadata.resource_version);
                    note(pod, seen, sender).await;
                }
                Ok(Some(WatchEvent::Deleted(pod))) => version.clone_from(&pod.metadata.resource_version),
                Ok(Some(WatchEvent::Bookmark(bookmark))) => version.clone_from(&bookmark.metadata.resource_version),
                // Too old, or broken: what happened meanwhile is in a new list.
                Ok(Some(WatchEvent::Error(_))) | Err(_) => {
                    version = list(&client, &path, seen, sender).await?;
                    break;
                }
                Ok(None) => break,
            }
        }
    }
}

async fn note(pod: SlimPod, seen: &Mutex<Seen>, sender: &watch::Sender<usize>) {
    let Some(node) = pod.spec.node.filter(|node| !node.is_empty()) else { return };
    let mut seen = seen.lock().await;
    match seen.bound.get(&pod.metadata.name) {
        None => {
            seen.bound.insert(pod.metadata.name, Bound { node, at: Instant::now() });
            sender.send_replace(seen.bound.len());
        }
        Some(before) if before.node != node => {
            let change = format!("{}: {}, then {node}", pod.metadata.name, before.node);
            seen.moved.push(change);
        }
        Some(_) => {}
    }
}

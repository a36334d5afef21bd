//! What ran where at every moment, not only in the end. In: the API server's watch of a namespace's pods, in the order of its store. Out: each moment at
//! which a node held more than it has or a pod changed its node, gangs that were begun before they were whole, and who had to leave a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{TryStreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Client, core::WatchEvent};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    creation::post,
    placement_rules::{Amounts, amounts, demand},
};

/// One change of one pod, as the store took it.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    pub pod: String,
    pub node: Option<String>,
    /// Takes something of its node: not ended, not gone.
    pub runs: bool,
    pub gone: bool,
    pub demand: Amounts,
}

impl Moment {
    fn of(pod: &Pod, gone: bool) -> Result<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
        Ok(Self {
            pod: pod.metadata.name.clone().context("a pod without a name")?,
            runs: node.is_some() && !gone && !matches!(phase, Some("Succeeded" | "Failed")),
            node,
            gone,
            demand: demand(pod)?,
        })
    }
}

pub struct Ledger {
    client: Client,
    path: String,
    moments: Arc<Mutex<Vec<Moment>>>,
    task: JoinHandle<Result<()>>,
}

/// A pod that nobody places: what was done before it was made has been seen when it is seen.
const LAST: &str = "ledger-is-closed";
const CLOSED_WITHIN: Duration = Duration::from_secs(60);

impl Ledger {
    /// Returns once nothing more can be missed. The namespace must be empty.
    pub async fn start(client: Client, namespace: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let list: Value = client.request(http::Request::get(&path).body(Vec::new())?).await?;
        ensure!(list["items"].as_array().is_some_and(Vec::is_empty), "a ledger begins before the first pod");
        let version = list["metadata"]["resourceVersion"].as_str().context("a list without version")?.to_owned();
        let moments = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(follow(client.clone(), path.clone(), version, Arc::clone(&moments)));
        Ok(Self { client, path, moments, task })
    }

    /// All moments up to now. A watch that could not go on where it stopped has missed some, which is an error.
    pub async fn close(mut self) -> Result<Vec<Moment>> {
        let container = json!({ "name": "c", "image": "i" });
        let last = json!({ "metadata": { "name": LAST }, "spec": { "schedulerName": "nobody", "containers": [container] } });
        post(&self.client, &self.path, &last).await?;
        let begin = Instant::now();
        loop {
            if self.task.is_finished() {
                (&mut self.task).await??;
            }
            let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if moments.iter().rev().any(|moment| moment.pod == LAST) {
                return Ok(moments);
            }
            ensure!(begin.elapsed() < CLOSED_WITHIN, "the watch of pods is late by more than {CLOSED_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A watch that ends is taken up behind what it showed last, so that nothing is missed between two.
async fn follow(client: Client, path: String, mut version: String, moments: Arc<Mutex<Vec<Moment>>>) -> Result<()> {
    loop {
        let from = format!("{path}?watch=1&resourceVersion={version}");
        if let Ok(events) = client.request_events::<Pod>(http::Request::get(from).body(Vec::new())?).await {
            pin_mut!(events);
            while let Ok(Some(event)) = events.try_next().await {
                let (pod, gone) = match event {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
                    WatchEvent::Deleted(pod) => (pod, true),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(error) => bail!("the watch of pods broke: {error:?}"),
                };
                moments.lock().unwrap_or_else(PoisonError::into_inner).push(Moment::of(&pod, gone)?);
                version = pod.metadata.resource_version.context("a pod without version")?;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Each moment at which a node was over its allocatable, which no later moment makes good, and each pod that was on two nodes.
pub fn crowded(nodes: &[Node], moments: &[Moment]) -> Result<Vec<String>> {
    let mut free: BTreeMap<&str, Amounts> = BTreeMap::new();
    for node in nodes {
        let allocatable = amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))?;
        free.insert(node.metadata.name.as_deref().context("a node without a name")?, allocatable);
    }
    let mut running: BTreeMap<&str, (&str, &Amounts)> = BTreeMap::new();
    let mut violations = Vec::new();
    for moment in moments {
        let before = running.remove(moment.pod.as_str());
        if let Some((node, given_back)) = before {
            let free = free.entry(node).or_default();
            given_back.iter().for_each(|(resource, amount)| *free.entry(resource.clone()).or_default() += amount);
        }
        let Some(node) = moment.node.as_deref().filter(|_| moment.runs) else { continue };
        if let Some((other, _)) = before.filter(|(other, _)| *other != node) {
            violations.push(format!("pod {} was on node {other}, then on {node}", moment.pod));
        }
        running.insert(&moment.pod, (node, &moment.demand));
        let free = free.entry(node).or_default();
        for (resource, amount) in &moment.demand {
            let left = free.entry(resource.clone()).or_default();
            *left -= amount;
            if *left < 0 && before.is_none() {
                violations.push(format!("node {node} was over its {resource} by {} nanos when pod {} came", -*left, moment.pod));
            }
        }
    }
    Ok(violations)
}

/// Whether the pods whose names begin so are `count`, and none was on a node before the last of them was there.
pub fn begun_whole(moments: &[Moment], prefix: &str, count: usize) -> Result<()> {
    let mut members: BTreeMap<&str, usize> = BTreeMap::new();
    let mut first_placed = None;
    for (at, moment) in moments.iter().enumerate().filter(|(_, moment)| moment.pod.starts_with(prefix)) {
        members.entry(&moment.pod).or_insert(at);
        first_placed = first_placed.or(moment.node.is_some().then_some(at));
    }
    let last_came = members.values().max().copied().unwrap_or_default();
    ensure!(members.len() == count, "{} pods of {prefix} were there, not {count}", members.len());
    let first_placed = first_placed.with_context(|| format!("no pod of {prefix} was placed"))?;
    ensure!(first_placed > last_came, "{prefix} was begun at moment {first_placed}, and its last member came at {last_came}");
    Ok(())
}

/// Every pod that was on a node at some time.
pub fn placed(moments: &[Moment]) -> BTreeSet<&str> {
    moments.iter().filter(|moment| moment.node.is_some()).map(|moment| moment.pod.as_str()).collect()
}

/// How many pods whose names begin so were taken off a node before they had ended.
pub fn displaced(moments: &[Moment], prefix: &str) -> usize {
    let mut running: BTreeMap<&str, bool> = BTreeMap::new();
    moments
        .iter()
        .filter(|moment| moment.pod.starts_with(prefix))
        .filter(|moment| running.insert(&moment.pod, moment.runs) == Some(true) && moment.gone)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(told: &[(&str, Option<&str>, &str)]) -> Result<Vec<Moment>> {
        let container = json!({ "name": "c", "resources": { "requests": { "cpu": "2" } } });
        let moment = |(name, node, phase): &(&str, Option<&str>, &str)| {
            let spec = json!({ "nodeName": node, "containers": [container] });
            let pod = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec, "status": { "phase": phase } }))?;
            Moment::of(&pod, *phase == "Gone")
        };
        told.iter().map(moment).collect()
    }

    #[test]
    fn a_node_that_was_over_its_allocatable_for_a_moment_is_seen() -> Result<()> {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "n" }, "status": { "allocatable": { "cpu": "4", "pods": "10" } },
        }))?;
        let judge =
            |told: &[(&str, Option<&str>, &str)]| -> Result<usize> { Ok(crowded(std::slice::from_ref(&node), &moments(told)?)?.len()) };
        let [a, b] = [("a", Some("n"), "Running"), ("b", Some("n"), "Running")];
        assert_eq!(judge(&[("a", None, "Pending"), a, b, a])?, 0, "two fit, and a change is not a second pod");
        assert_eq!(judge(&[a, b, ("a", Some("n"), "Succeeded"), ("c", Some("n"), "Pending")])?, 0, "one has ended");
        assert_eq!(judge(&[a, b, ("a", Some("n"), "Gone"), ("c", Some("n"), "Pending")])?, 0, "one is gone");
        assert_eq!(judge(&[a, b, ("c", Some("n"), "Pending"), ("a", Some("n"), "Gone")])?, 1, "three for a moment");
        assert_eq!(judge(&[a, ("a", Some("other"), "Running")])?, 1, "on two nodes");
        assert_eq!(judge(&[("a", Some("nowhere"), "Running")])?, 2, "neither CPU nor room for a pod on a node that is none");
        Ok(())
    }

    #[test]
    fn who_began_too_early_and_who_had_to_go() -> Result<()> {
        let (a, b) = (("g-a", Some("n"), "Pending"), ("g-b", Some("n"), "Pending"));
        let (waits_a, waits_b) = (("g-a", None, "Pending"), ("g-b", None, "Pending"));
        assert!(begun_whole(&moments(&[waits_a, waits_b, a, b])?, "g-", 2).is_ok());
        assert!(begun_whole(&moments(&[waits_a, a, waits_b, b])?, "g-", 2).is_err(), "the first was placed alone");
        assert!(begun_whole(&moments(&[waits_a, a])?, "g-", 2).is_err(), "one of two");
        assert!(begun_whole(&moments(&[waits_a, waits_b])?, "g-", 2).is_err(), "none was placed");
        let gone = |name| (name, Some("n"), "Gone");
        assert_eq!(displaced(&moments(&[a, gone("g-a"), waits_b, ("g-b", None, "Gone")])?, "g-"), 1, "one never ran");
        assert_eq!(displaced(&moments(&[a, ("g-a", Some("n"), "Succeeded"), gone("g-a")])?, "g-"), 0, "it had ended");
        Ok(())
    }
}

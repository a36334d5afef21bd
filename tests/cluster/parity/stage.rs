//! Plays rows on a control plane with one scheduler. In: a row. Out: nothing, or which step did not come true and what was there instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use super::table::{PodShape, Row, Step, priority_class};
use crate::harness::creation::post;

const LOOK_EVERY: Duration = Duration::from_millis(50);
const STAYS_FOR: Duration = Duration::from_secs(1);

/// Kind, path of its collection up to the namespace, whether it lies in one, plural.
const KINDS: [(&str, &str, bool, &str); 14] = [
    ("Node", "/api/v1", false, "nodes"),
    ("Namespace", "/api/v1", false, "namespaces"),
    ("Pod", "/api/v1", true, "pods"),
    ("Service", "/api/v1", true, "services"),
    ("ReplicationController", "/api/v1", true, "replicationcontrollers"),
    ("PersistentVolumeClaim", "/api/v1", true, "persistentvolumeclaims"),
    ("PersistentVolume", "/api/v1", false, "persistentvolumes"),
    ("ReplicaSet", "/apis/apps/v1", true, "replicasets"),
    ("StatefulSet", "/apis/apps/v1", true, "statefulsets"),
    ("PodDisruptionBudget", "/apis/policy/v1", true, "poddisruptionbudgets"),
    ("PriorityClass", "/apis/scheduling.k8s.io/v1", false, "priorityclasses"),
    ("StorageClass", "/apis/storage.k8s.io/v1", false, "storageclasses"),
    ("CSINode", "/apis/storage.k8s.io/v1", false, "csinodes"),
    ("CSIDriver", "/apis/storage.k8s.io/v1", false, "csidrivers"),
];

/// Where rows are played.
pub struct Stage {
    pub client: Client,
    pub scheduler_name: String,
    /// Namespaces of this stage begin so.
    pub prefix: String,
    /// What is to come true does so within this time.
    pub within: Duration,
    /// Values of the priority classes that are there.
    pub priorities: BTreeSet<i64>,
}

/// A row being played.
struct Play<'s> {
    stage: &'s mut Stage,
    namespace: String,
    /// Namespaces that have pods of the row.
    namespaces: BTreeSet<String>,
    /// Paths of objects outside namespaces, which go when the row ends.
    made: Vec<String>,
}

impl Stage {
    pub async fn play(&mut self, number: usize, row: &Row) -> Result<()> {
        let namespace = format!("{}-{number}", self.prefix);
        let mut play = Play { stage: self, namespace: namespace.clone(), namespaces: BTreeSet::new(), made: Vec::new() };
        let played = play.all(row).await;
        let cleared = play.clear().await;
        played.and(cleared.context("clear away"))
    }
}

impl Play<'_> {
    async fn all(&mut self, row: &Row) -> Result<()> {
        self.namespace_of(&self.namespace.clone(), &Value::Null).await?;
        for (name, shape) in &row.nodes {
            self.create(&with_kind(shape.object(name), "v1", "Node")).await?;
        }
        for (at, step) in row.steps.iter().enumerate() {
            self.step(step).await.with_context(|| format!("step {} of {:?}: {step:?}", at + 1, row.name))?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Pod(shape) => self.pods(shape).await,
            Step::Create(object) => self.create(object).await,
            Step::Namespace(suffix, labels) => {
                let name = format!("{}-{suffix}", self.namespace);
                self.namespace_of(&name, &json!(labels)).await
            }
            Step::Patch(what, patch) => self.patch(what, "", patch).await,
            Step::PatchStatus(what, patch) => self.patch(what, "/status", patch).await,
            Step::Delete(what) => self.delete(&self.path(what)?).await,
            Step::Stays(names) => {
                tokio::time::sleep(STAYS_FOR).await;
                for name in names {
                    let node = node_of(&self.get(name).await?.context("the pod is gone")?);
                    ensure!(node.is_none(), "{name} is on {node:?}");
                }
                Ok(())
            }
            Step::There(names) => {
                for name in names {
                    let pod = self.get(name).await?.with_context(|| format!("{name} is gone"))?;
                    ensure!(pod.metadata.deletion_timestamp.is_none(), "{name} is being deleted");
                }
                Ok(())
            }
            Step::On(_) | Step::Pending(_) | Step::Gone(_) | Step::Tainted(_) | Step::Nominated(_) | Step::Counts { .. } => {
                self.wait(step).await
            }
        }
    }

    /// Looks until it is so, or says what is there instead.
    async fn wait(&self, step: &Step) -> Result<()> {
        let begin = Instant::now();
        loop {
            let Err(why) = self.look(step).await else { return Ok(()) };
            if begin.elapsed() > self.stage.within {
                return Err(why);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, step: &Step) -> Result<()> {
        match step {
            Step::On(wanted) => {
                for (name, nodes) in wanted {
                    let pod = self.get(name).await?.with_context(|| format!("{name} is gone"))?;
                    let node = node_of(&pod);
                    let good = node.as_deref().is_some_and(|node| nodes.has(node));
                    ensure!(good, "{name} is on {node:?}: {:?}", message_of(&pod));
                }
            }
            Step::Pending(wanted) => {
                for (name, message) in wanted {
                    let pod = self.get(name).await?.with_context(|| format!("{name} is gone"))?;
                    let found = message_of(&pod);
                    ensure!(node_of(&pod).is_none(), "{name} is on {:?}", node_of(&pod));
                    ensure!(found.as_deref().is_some_and(|found| found.starts_with(message)), "{name} says {found:?}");
                }
            }
            Step::Gone(names) => {
                for name in names {
                    let pod = self.get(name).await?;
                    ensure!(pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()), "{name} is still there");
                }
            }
            Step::Tainted(wanted) => {
                for (name, keys) in wanted {
                    let node = Api::<Node>::all(self.stage.client.clone()).get(name).await?;
                    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
                    let found: BTreeSet<String> = taints.into_iter().map(|taint| taint.key).collect();
                    ensure!(found == *keys, "{name} has {found:?}");
                }
            }
            Step::Nominated(wanted) => {
                for (name, node) in wanted {
                    let pod = self.get(name).await?.with_context(|| format!("{name} is gone"))?;
                    let found = pod.status.and_then(|status| status.nominated_node_name).unwrap_or_default();
                    ensure!(found == *node, "{name} is nominated for {found:?}");
                }
            }
            Step::Counts { pods, by, are } => {
                let found = self.count(pods, by).await?;
                ensure!(found == *are, "by {by}: {found:?}");
            }
            _ => bail!("not a step that waits"),
        }
        Ok(())
    }

    async fn count(&self, prefix: &str, by: &str) -> Result<BTreeMap<String, usize>> {
        let nodes = Api::<Node>::all(self.stage.client.clone()).list(&ListParams::default()).await?;
        let value = |name: &str| {
            let node = nodes.items.iter().find(|node| node.metadata.name.as_deref() == Some(name))?;
            node.metadata.labels.as_ref()?.get(by).cloned()
        };
        let mut found = BTreeMap::new();
        for pod in Api::<Pod>::namespaced(self.stage.client.clone(), &self.namespace).list(&ListParams::default()).await?.items {
            if pod.metadata.name.as_deref().is_some_and(|name| name.starts_with(prefix)) {
                let place =
                    node_of(&pod).map_or_else(|| "nowhere".to_owned(), |node| value(&node).unwrap_or_else(|| "no label".to_owned()));
                *found.entry(place).or_insert(0) += 1;
            }
        }
        Ok(found)
    }

    // === objects ===

    async fn namespace_of(&mut self, name: &str, labels: &Value) -> Result<()> {
        self.namespaces.insert(name.to_owned());
        post(&self.stage.client, "/api/v1/namespaces", &json!({ "metadata": { "name": name, "labels": labels } })).await
    }

    async fn pods(&mut self, shape: &PodShape) -> Result<()> {
        if let Some(value) = shape.priority.filter(|value| self.stage.priorities.insert(*value)) {
            let class = json!({ "metadata": { "name": priority_class(value) }, "value": value });
            post(&self.stage.client, "/apis/scheduling.k8s.io/v1/priorityclasses", &class).await?;
        }
        let namespace = shape.namespace.as_ref().map_or_else(|| self.namespace.clone(), |suffix| format!("{}-{suffix}", self.namespace));
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        for name in shape.names() {
            post(&self.stage.client, &path, &shape.object(&name, &self.stage.scheduler_name)).await?;
        }
        Ok(())
    }

    async fn create(&mut self, object: &Value) -> Result<()> {
        let kind = object["kind"].as_str().context("an object without kind")?;
        let name = object["metadata"]["name"].as_str().context("an object without name")?;
        let path = self.path(&format!("{kind}/{name}"))?;
        let collection = path.trim_end_matches(name).trim_end_matches('/');
        if !path.contains("/namespaces/") {
            self.made.push(path.clone());
        }
        let text = object.to_string().replace("{namespace}", &self.namespace);
        post(&self.stage.client, collection, &serde_json::from_str(&text)?).await?;
        // The API server takes a PersistentVolumeClaim's or a PDB's status only by itself.
        if let Some(status) = object.get("status").filter(|_| kind != "Node") {
            self.patch(&format!("{kind}/{name}"), "/status", &json!({ "status": status })).await?;
        }
        Ok(())
    }

    fn path(&self, what: &str) -> Result<String> {
        let (kind, name) = what.split_once('/').with_context(|| format!("{what:?} is no kind/name"))?;
        let (_, root, is_namespaced, plural) =
            KINDS.iter().find(|(known, ..)| *known == kind).with_context(|| format!("no row may use a {kind} yet: add it to KINDS"))?;
        Ok(if *is_namespaced { format!("{root}/namespaces/{}/{plural}/{name}", self.namespace) } else { format!("{root}/{plural}/{name}") })
    }

    async fn patch(&self, what: &str, subresource: &str, patch: &Value) -> Result<()> {
        let request = http::Request::patch(format!("{}{subresource}", self.path(what)?))
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(serde_json::to_vec(patch)?)?;
        self.stage.client.request_text(request).await.with_context(|| format!("patch {what}"))?;
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let request = http::Request::delete(path).header(http::header::CONTENT_TYPE, "application/json");
        let now = serde_json::to_vec(&json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 }))?;
        self.stage.client.request_text(request.body(now)?).await.with_context(|| format!("delete {path}"))?;
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Option<Pod>> {
        Ok(Api::namespaced(self.stage.client.clone(), &self.namespace).get_opt(name).await?)
    }

    /// Pods first, so that no scheduler has anything left to do; then what the next row must not find.
    async fn clear(&self) -> Result<()> {
        let now = DeleteParams::default().grace_period(0);
        for namespace in &self.namespaces {
            let pods = Api::<Pod>::namespaced(self.stage.client.clone(), namespace);
            pods.delete_collection(&now, &ListParams::default()).await?;
            // A volume stays as long as a claim has it.
            let claims = Api::<PersistentVolumeClaim>::namespaced(self.stage.client.clone(), namespace);
            claims.delete_collection(&now, &ListParams::default()).await?;
        }
        for path in self.made.iter().rev() {
            // A row may have deleted it itself.
            if let Err(problem) = self.delete(path).await
                && !format!("{problem:#}").contains("NotFound")
            {
                return Err(problem);
            }
        }
        for path in &self.made {
            self.wait_gone(path).await?;
        }
        Ok(())
    }

    /// The next row may use the name, and a finalizer holds a volume until its controller has looked.
    async fn wait_gone(&self, path: &str) -> Result<()> {
        let begin = Instant::now();
        while self.stage.client.request_text(http::Request::get(path).body(Vec::new())?).await.is_ok() {
            ensure!(begin.elapsed() < self.stage.within, "{path} does not go");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

fn with_kind(mut object: Value, version: &str, kind: &str) -> Value {
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone())
}

/// What `PodScheduled` says while it is false.
fn message_of(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref())?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    scheduled.message.clone().or_else(|| scheduled.reason.clone())
}

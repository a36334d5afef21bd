//! Full objects for extenders: names in, JSON as the API server has it out. What the engine keeps of an object is too little for them.
//!
//! The pod in question is read for each question. Nodes are listed as a whole, from the API server's own cache, and kept for a moment; only where an
//! extender wants nodes as objects is any read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    kubernetes::api::{Api, Call},
    model::ids::{PodKey, PodUid},
    scheduler::framework::Victim,
};

/// How long one object may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the list of nodes may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Nodes are as they were this long ago at most. A list costs the API server what upstream's watch costs in a busy cluster, and nothing in a quiet one.
const NODES_STAY: Duration = Duration::from_secs(1);
/// Victims that are read at the same time.
const READS_MAX: usize = 16;

/// Nodes by name, each as JSON.
pub type NodeObjects = Arc<BTreeMap<Box<str>, String>>;

struct Kept {
    at: Instant,
    /// Which change of nodes the engine knew of when they were listed.
    changed: u64,
    nodes: NodeObjects,
}

/// Reads objects.
pub struct Objects {
    api: Api,
    nodes: Mutex<Option<Kept>>,
}

impl Objects {
    pub(super) fn new(api: Api) -> Self {
        Self { api, nodes: Mutex::default() }
    }

    /// This very pod.
    pub(super) async fn pod(&self, key: &PodKey, uid: &PodUid) -> Result<String, String> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name);
        let answer = self.api.call(Call::get(path, READ_TIMEOUT)).await.map_err(|error| format!("pod {key} cannot be read: {error}"))?;
        if !answer.status.is_success() {
            return Err(format!("pod {key} cannot be read: {}", answer.failure()));
        }
        let pod: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("pod {key} cannot be understood: {error}"))?;
        match pod.pointer("/metadata/uid").and_then(Value::as_str) {
            Some(found) if *found == *uid.0 => Ok(pod.to_string()),
            _ => Err(format!("pod {key} is gone: another one has its name")),
        }
    }

    /// Victims by UID; those that are gone by now are left out.
    pub(super) async fn victims(&self, victims: impl Iterator<Item = &Victim>) -> BTreeMap<PodUid, String> {
        let wanted: BTreeMap<PodUid, PodKey> = victims.map(|victim| (victim.uid.clone(), victim.key.clone())).collect();
        let read = stream::iter(wanted).map(|(uid, key)| async move {
            let object = self.pod(&key, &uid).await;
            (uid, object)
        });
        let all: Vec<_> = read.buffer_unordered(READS_MAX).collect().await;
        all.into_iter().filter_map(|(uid, object)| Some((uid, object.ok()?))).collect()
    }

    /// All nodes, of which these are wanted: if one is not among those that are kept, or the engine has seen it change since, all are listed anew.
    pub(super) async fn nodes(&self, names: &[Box<str>], changed: u64) -> Result<NodeObjects, String> {
        let mut kept = self.nodes.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.at.elapsed() < NODES_STAY && kept.changed >= changed)
            && names.iter().all(|name| kept.nodes.contains_key(name))
        {
            tracing::trace!(age_ms = kept.at.elapsed().as_millis(), "nodes for extenders are taken from the list that is kept");
            return Ok(kept.nodes.clone());
        }
        let answer = self.api.call(Call::get("/api/v1/nodes?resourceVersion=0".to_owned(), LIST_TIMEOUT)).await;
        let answer = answer.map_err(|error| format!("nodes cannot be listed: {error}"))?;
        if !answer.status.is_success() {
            return Err(format!("nodes cannot be listed: {}", answer.failure()));
        }
        let list: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("nodes cannot be understood: {error}"))?;
        let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let named = |node: &Value| Some((node.pointer("/metadata/name")?.as_str()?.into(), node.to_string()));
        let nodes: NodeObjects = Arc::new(items.iter().filter_map(named).collect());
        *kept = Some(Kept { at: Instant::now(), changed, nodes: nodes.clone() });
        Ok(nodes)
    }
}

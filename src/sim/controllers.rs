//! The controllers at home that a federation has to live with. In: Nodes with Leases, and pods. Out: what kube-controller-manager does to Nodes that fall
//! silent and to their pods: conditions, taints, evictions after `tolerationSeconds`, and the collection of pods whose Node is gone.
//!
//! Only Nodes with a Lease are looked at: simulated machines have none and are always well.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::SimCluster;

/// Between two looks; upstream's `--node-monitor-period`.
const INTERVAL: Duration = Duration::from_secs(5);
/// A Node whose Lease was not seen to change for so long is not known to be well; upstream's `--node-monitor-grace-period`.
const GRACE: Duration = Duration::from_secs(50);
/// A pod whose Node is not there is collected after this; upstream's quarantine.
const QUARANTINE: Duration = Duration::from_secs(40);

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// What was seen, and since when by our own clock.
#[derive(Default)]
struct Memory {
    /// Node: renewal of its Lease.
    renewals: BTreeMap<String, (String, Instant)>,
    /// Node and taint: since when.
    tainted: BTreeMap<(String, &'static str), Instant>,
    /// Node that pods name and that is not there.
    missing: BTreeMap<String, Instant>,
}

/// Works until it is dropped.
pub async fn control_nodes(cluster: SimCluster) {
    let mut memory = Memory::default();
    loop {
        watch_leases(&cluster, &mut memory).await;
        evict(&cluster, &memory).await;
        collect(&cluster, &mut memory).await;
        sleep(INTERVAL).await;
    }
}

async fn watch_leases(cluster: &SimCluster, memory: &mut Memory) {
    for lease in cluster.server().objects("coordination.k8s.io", "leases") {
        if lease["metadata"]["namespace"] != "kube-node-lease" {
            continue;
        }
        let name = text(&lease["metadata"]["name"]);
        let renewed = text(&lease["spec"]["renewTime"]);
        match memory.renewals.get_mut(&name) {
            Some((known, _)) if *known == renewed => {}
            _ => drop(memory.renewals.insert(name, (renewed, Instant::now()))),
        }
    }
    let nodes = cluster.server().objects("", "nodes");
    for node in nodes {
        let name = text(&node["metadata"]["name"]);
        let Some((_, seen)) = memory.renewals.get(&name) else { continue };
        let silent = seen.elapsed() > GRACE;
        let ready = node["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
        let ready = ready.map(|condition| text(&condition["status"])).unwrap_or_default();
        if silent && ready != "Unknown" {
            let condition = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": cluster.server().clock().now_text()});
            patch(cluster, &format!("/api/v1/nodes/{name}/status"), &json!({"status": {"conditions": [condition]}})).await;
        }
        let wanted = match (silent, ready.as_str()) {
            (true, _) | (_, "Unknown") => Some(UNREACHABLE),
            (_, "False") => Some(NOT_READY),
            _ => None,
        };
        taint(cluster, memory, &name, &node, wanted).await;
    }
}

async fn taint(cluster: &SimCluster, memory: &mut Memory, name: &str, node: &Value, wanted: Option<&'static str>) {
    memory.tainted.retain(|(known, taint), _| known != name || Some(*taint) == wanted);
    if let Some(taint) = wanted {
        memory.tainted.entry((name.to_string(), taint)).or_insert_with(Instant::now);
    }
    let ours = |taint: &Value| taint["key"] == UNREACHABLE || taint["key"] == NOT_READY;
    let present: Vec<Value> = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let mut taints: Vec<Value> = present.iter().filter(|taint| !ours(taint)).cloned().collect();
    taints.extend(wanted.map(|key| json!({"key": key, "effect": "NoExecute"})));
    let keys = |taints: &[Value]| taints.iter().map(|taint| text(&taint["key"])).collect::<BTreeSet<_>>();
    if keys(&present) != keys(&taints) {
        let version = node["metadata"]["resourceVersion"].clone();
        merge(cluster, &format!("/api/v1/nodes/{name}"), &json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}}))
            .await;
    }
}

/// Upstream's taint manager.
async fn evict(cluster: &SimCluster, memory: &Memory) {
    for ((node, taint), since) in &memory.tainted {
        for pod in cluster.server().objects_where("", "pods", &[("spec.nodeName", node)]) {
            let is_over = patience(&pod, taint).is_some_and(|patience| since.elapsed() >= patience);
            if is_over && pod["metadata"]["deletionTimestamp"].is_null() {
                remove(cluster, &pod, None).await;
            }
        }
    }
}

/// How long a pod stays on a node with a taint; `None` is for ever.
fn patience(pod: &Value, taint: &str) -> Option<Duration> {
    let tolerations = pod["spec"]["tolerations"].as_array().into_iter().flatten();
    let mut shortest = None;
    let mut is_tolerated = false;
    for toleration in tolerations.filter(|toleration| toleration["key"] == *taint || toleration["key"].is_null()) {
        is_tolerated = true;
        let seconds = toleration["tolerationSeconds"].as_u64()?;
        shortest = Some(shortest.map_or(seconds, |known: u64| known.min(seconds)));
    }
    if is_tolerated { shortest.map(Duration::from_secs) } else { Some(Duration::ZERO) }
}

/// Upstream's `PodGC`.
async fn collect(cluster: &SimCluster, memory: &mut Memory) {
    let nodes = cluster.server().field_values("", "nodes", "metadata.name");
    let mut named = cluster.server().field_values("", "pods", "spec.nodeName");
    named.remove("");
    memory.missing.retain(|node, _| !nodes.contains(node) && named.contains(node));
    for node in named.difference(&nodes) {
        memory.missing.entry(node.clone()).or_insert_with(Instant::now);
    }
    for node in memory.missing.iter().filter(|(_, since)| since.elapsed() >= QUARANTINE).map(|(node, _)| node) {
        for pod in cluster.server().objects_where("", "pods", &[("spec.nodeName", node)]) {
            remove(cluster, &pod, Some(0)).await;
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn patch(cluster: &SimCluster, path: &str, body: &Value) {
    send(cluster, "PATCH", path, "application/strategic-merge-patch+json", body).await;
}

async fn merge(cluster: &SimCluster, path: &str, body: &Value) {
    send(cluster, "PATCH", path, "application/merge-patch+json", body).await;
}

async fn remove(cluster: &SimCluster, pod: &Value, grace_seconds: Option<u64>) {
    let metadata = &pod["metadata"];
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": metadata["uid"]}});
    if let Some(seconds) = grace_seconds {
        options["gracePeriodSeconds"] = seconds.into();
    }
    let path = format!("/api/v1/namespaces/{}/pods/{}", text(&metadata["namespace"]), text(&metadata["name"]));
    send(cluster, "DELETE", &path, "application/json", &options).await;
}

/// What fails is tried again at the next look.
async fn send(cluster: &SimCluster, method: &str, path: &str, content_type: &str, body: &Value) {
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", content_type).body(body.to_string().into_bytes());
    let Ok(request) = request else { return };
    if let Err(error) = cluster.faultless_client().request_text(request).await {
        tracing::debug!(%error, path, "a controller's write failed");
    }
}

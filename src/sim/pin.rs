//! The scheduler of a simulated compute cluster, as far as runs with `pin: Affinity` need it. In: unbound pods of the default scheduler that name their node
//! by required affinity. Out: bindings to nodes that are there, open to new pods and have room; everything else waits and is looked at again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use super::SimCluster;
use super::apiserver::ApiServer;
use crate::model::quantity::Quantity;

/// Between two looks at what waits.
const INTERVAL: Duration = Duration::from_millis(250);
const SCHEDULER: &str = "default-scheduler";

/// Binds pinned pods until it is dropped. Beside the API server's HTTP side it reads the store: it is part of the world, not of what is tested.
pub async fn bind_pinned(cluster: SimCluster) {
    let client = cluster.faultless_client();
    loop {
        for (namespace, name, node) in pinned(cluster.server()) {
            let binding =
                json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
            let request = http::Request::post(path).header("content-type", "application/json").body(binding.to_string().into_bytes());
            if let Ok(request) = request
                && let Err(error) = client.request_text(request).await
            {
                tracing::debug!(%error, name, "the pinned pod could not be bound");
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Pods that can be bound now, and where.
fn pinned(server: &Arc<ApiServer>) -> Vec<(String, String, String)> {
    let unbound = server.objects_where("", "pods", &[("spec.nodeName", ""), ("spec.schedulerName", SCHEDULER)]);
    if unbound.is_empty() {
        return Vec::new();
    }
    let pods = server.objects("", "pods");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let waits = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))) {
        *used.entry(text(&pod["spec"]["nodeName"])).or_default() += cpu_of(pod);
    }
    let mut found = Vec::new();
    for pod in unbound.iter().filter(waits) {
        let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
        let Some(name) = pod.pointer(terms).and_then(Value::as_str) else { continue };
        let Some(node) = server.object("", "nodes", "", name).filter(|node| node["spec"]["unschedulable"] != true) else { continue };
        let tolerated = |taint: &Value| {
            let tolerations = pod["spec"]["tolerations"].as_array().into_iter().flatten();
            tolerations.into_iter().any(|toleration| toleration["key"] == taint["key"] || toleration["key"].is_null())
        };
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let closed = taints.into_iter().any(|taint| taint["effect"] != "PreferNoSchedule" && !tolerated(taint));
        let room = milli(&node["status"]["allocatable"]["cpu"]) - used.get(name).copied().unwrap_or_default();
        if !closed && cpu_of(pod) <= room {
            *used.entry(name.to_string()).or_default() += cpu_of(pod);
            found.push((text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]), name.to_string()));
        }
    }
    found
}

fn cpu_of(pod: &Value) -> i64 {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.map(|container| milli(&container["resources"]["requests"]["cpu"])).sum()
}

fn milli(quantity: &Value) -> i64 {
    quantity.as_str().and_then(|text| Quantity::parse(text).ok()).map_or(0, Quantity::milli)
}

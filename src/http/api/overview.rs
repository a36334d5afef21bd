//! What people want to see first. In: nodes, pods and compute clusters of the home API server. Out: groups of nodes with what is requested of them, and pods
//! that wait for a node, with the reason. One look serves all callers for some seconds, as it reads every pod.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::failed;
use crate::{
    http::status::Refusal,
    kubernetes::{clock::Clock, cluster::rest::Rest},
    model::{
        ids::ClusterId,
        node::{ARCH_LABEL, GPU_MODEL_LABELS, NodeFacts},
        placement::CLUSTER,
        pod::PodFacts,
        resources::ResourceList,
    },
};

/// For how long a look serves.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Pods that are named; the others are counted.
const QUEUE_MAX: usize = 100;
const CLUSTERS: &str = "/apis/isobar.dev/v1alpha1/computeclusters";
/// Taints of nodes that are not ready.
const NOT_READY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct Overview {
    rest: Rest,
    with_clusters: bool,
    last: Mutex<Option<(Instant, Value)>>,
}

/// Nodes that are alike.
#[derive(Default)]
struct Group {
    count: u64,
    not_ready: u64,
    cordoned: u64,
    pods: u64,
    allocatable: ResourceList,
    requested: ResourceList,
}

/// Compute cluster, architecture, model of GPU.
type GroupKey = (String, String, String);

impl Overview {
    pub(super) fn new(rest: Rest, with_clusters: bool) -> Self {
        Self { rest, with_clusters, last: Mutex::default() }
    }

    /// The last look, or a new one. Who comes meanwhile waits for it.
    pub(super) async fn look(&self) -> Result<Value, Refusal> {
        let mut last = self.last.lock().await;
        if let Some((_, look)) = last.as_ref().filter(|(at, _)| at.elapsed() < LOOK_EVERY) {
            return Ok(look.clone());
        }
        let (nodes, _) = self.rest.facts::<NodeFacts>("/api/v1/nodes", ClusterId::HOME).await.map_err(failed)?;
        let (pods, _) = self.rest.facts::<PodFacts>("/api/v1/pods", ClusterId::HOME).await.map_err(failed)?;
        let clusters = if self.with_clusters { self.rest.list(CLUSTERS, "").await.map_err(failed)? } else { Vec::new() };
        let mut look = told(&nodes, &pods);
        look["at"] = Clock::system().now().to_rfc3339().into();
        look["clusters"] = clusters.iter().map(cluster).collect();
        *last = Some((Instant::now(), look.clone()));
        Ok(look)
    }
}

fn told(nodes: &[NodeFacts], pods: &[PodFacts]) -> Value {
    let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
    let mut of_node: BTreeMap<&str, GroupKey> = BTreeMap::new();
    for node in nodes {
        let key = group_of(node);
        let group = groups.entry(key.clone()).or_default();
        group.count += 1;
        group.not_ready += u64::from(node.taints.iter().any(|taint| NOT_READY.contains(&&*taint.key)));
        group.cordoned += u64::from(node.unschedulable);
        group.allocatable.add(&node.allocatable);
        of_node.insert(&node.name, key);
    }
    let mut waiting = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.finished) {
        match &pod.node_name {
            None => waiting.push(pod),
            Some(node) => {
                if let Some(group) = of_node.get(&**node).and_then(|key| groups.get_mut(key)) {
                    group.pods += 1;
                    group.requested.add(&pod.spec.requests.effective);
                }
            }
        }
    }
    waiting.sort_by_key(|pod| (pod.created, pod.key.clone()));
    json!({
        "nodes": groups.iter().map(|(key, group)| group_told(key, group)).collect::<Vec<_>>(),
        "waiting": waiting.len(),
        "queue": waiting.iter().take(QUEUE_MAX).map(|pod| waits(pod)).collect::<Vec<_>>(),
    })
}

fn group_of(node: &NodeFacts) -> GroupKey {
    let label = |key: &str| node.label(key).unwrap_or_default().to_owned();
    let cluster = if node.is_virtual {
        Some(label(CLUSTER)).filter(|name| !name.is_empty()).unwrap_or_else(|| node.name.to_string())
    } else {
        String::new()
    };
    let architecture = Some(label(ARCH_LABEL)).filter(|one| !one.is_empty()).unwrap_or_else(|| node.architecture.to_string());
    let model = GPU_MODEL_LABELS.into_iter().map(label).find(|model| !model.is_empty());
    let gpu = model.unwrap_or_else(|| if gpus(&node.allocatable) > 0 { "GPU".to_owned() } else { String::new() });
    (cluster, architecture, gpu)
}

fn gpus(list: &ResourceList) -> i64 {
    list.iter().filter(|(name, _)| name.ends_with("/gpu")).map(|(_, quantity)| quantity.units()).sum()
}

fn group_told((cluster, architecture, gpu): &GroupKey, group: &Group) -> Value {
    let used =
        |amount: &dyn Fn(&ResourceList) -> i64| json!({"allocatable": amount(&group.allocatable), "requested": amount(&group.requested)});
    let mut told = json!({
        "architecture": architecture, "gpu": gpu,
        "count": group.count, "notReady": group.not_ready, "cordoned": group.cordoned, "pods": group.pods,
        "cpuMilli": used(&|list| list.get("cpu").map_or(0, crate::model::quantity::Quantity::milli)),
        "memoryBytes": used(&|list| list.get("memory").map_or(0, crate::model::quantity::Quantity::units)),
        "gpus": used(&gpus),
    });
    if !cluster.is_empty() {
        told["cluster"] = cluster.as_str().into();
    }
    told
}

fn waits(pod: &PodFacts) -> Value {
    let (reason, message) = match &pod.unscheduled_condition {
        Some((reason, message)) => (&**reason, &**message),
        None if !pod.gates.is_empty() => ("SchedulingGated", "it is held by scheduling gates"),
        None => ("", "nobody has looked at it yet"),
    };
    json!({
        "namespace": &*pod.key.namespace, "pod": &*pod.key.name, "since": pod.created.to_rfc3339(), "priority": pod.spec.priority,
        "reason": reason, "message": message,
    })
}

fn cluster(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let of = |field: &str| ready.map(|ready| ready[field].clone()).unwrap_or_default();
    json!({"name": object["metadata"]["name"], "ready": of("status") == "True", "reason": of("reason"), "message": of("message")})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ids::PodKey,
        pod::PodSpecFacts,
        quantity::Quantity,
        requests::PodRequestSums,
        taints::{Effect, TaintFacts},
        time::Timestamp,
    };

    fn list(pairs: &[(&str, &str)]) -> ResourceList {
        pairs.iter().map(|(name, amount)| (Box::from(*name), Quantity::parse(amount).unwrap())).collect()
    }

    fn node(name: &str, labels: &[(&str, &str)], allocatable: &[(&str, &str)]) -> NodeFacts {
        let labels = labels.iter().map(|(key, value)| (Box::from(*key), Box::from(*value))).collect();
        NodeFacts { name: name.into(), labels, allocatable: list(allocatable), ..NodeFacts::default() }
    }

    fn pod(name: &str, node: Option<&str>, requests: &[(&str, &str)]) -> PodFacts {
        let requests = PodRequestSums { effective: list(requests), ..PodRequestSums::default() };
        let spec = PodSpecFacts { requests, ..PodSpecFacts::default() };
        PodFacts { key: PodKey::new("ns", name), node_name: node.map(Into::into), spec, ..PodFacts::default() }
    }

    #[test]
    fn nodes_are_grouped_and_pods_that_wait_say_why() {
        let gpu = [(ARCH_LABEL, "amd64"), ("nvidia.com/gpu.product", "A100")];
        let mut tainted = node("c", &gpu, &[("cpu", "16"), ("nvidia.com/gpu", "4")]);
        tainted.taints.push(TaintFacts { key: NOT_READY[0].into(), value: "".into(), effect: Effect::NoExecute });
        tainted.unschedulable = true;
        let nodes = [
            node("a", &[(ARCH_LABEL, "arm64")], &[("cpu", "4"), ("memory", "8Gi")]),
            node("b", &gpu, &[("cpu", "16"), ("nvidia.com/gpu", "4")]),
            tainted,
        ];
        let mut waiting = pod("w", None, &[("cpu", "1")]);
        waiting.unscheduled_condition = Some(("Unschedulable".into(), "0/3 nodes are available".into()));
        let mut done = pod("d", Some("a"), &[("cpu", "4")]);
        done.finished = true;
        let older = PodFacts { created: Timestamp(0), gates: vec!["g".into()], ..pod("o", None, &[]) };
        waiting.created = Timestamp(1_000);
        let pods = [
            waiting,
            pod("p", Some("a"), &[("cpu", "1500m"), ("memory", "1Gi")]),
            pod("q", Some("c"), &[("nvidia.com/gpu", "3")]),
            done,
            older,
        ];
        let told = told(&nodes, &pods);
        assert_eq!(
            told["nodes"],
            json!([
                {"architecture": "amd64", "gpu": "A100", "count": 2, "notReady": 1, "cordoned": 1, "pods": 1,
                    "cpuMilli": {"allocatable": 32_000, "requested": 0}, "memoryBytes": {"allocatable": 0, "requested": 0},
                    "gpus": {"allocatable": 8, "requested": 3}},
                {"architecture": "arm64", "gpu": "", "count": 1, "notReady": 0, "cordoned": 0, "pods": 1,
                    "cpuMilli": {"allocatable": 4_000, "requested": 1_500}, "memoryBytes": {"allocatable": 8_589_934_592_i64, "requested": 1_073_741_824},
                    "gpus": {"allocatable": 0, "requested": 0}},
            ])
        );
        assert_eq!(
            (&told["waiting"], &told["queue"][0]["pod"], &told["queue"][1]["message"]),
            (&json!(2), &json!("o"), &json!("0/3 nodes are available"))
        );
        assert_eq!(told["queue"][0]["reason"], "SchedulingGated");
    }
}

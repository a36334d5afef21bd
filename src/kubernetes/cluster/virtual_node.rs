//! The Node at home that stands for a cluster, and its Lease. In: what the cluster is like. Out: both objects, made anew when somebody deletes them.
//!
//! It exists so that pods have a node, and `kubectl logs` an address. The engine never places a pod by it. Its taint keeps other schedulers and `DaemonSets`
//! off; its Lease goes on while the cluster is lost, as otherwise home's controllers would evict its pods.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

use super::{
    object::Capacity,
    publish::NodeSeen,
    rest::{Rest, RestError},
};
use crate::{
    federation::names,
    kubernetes::clock::{Clock, micro_time, whole_second_time},
    model::time::{DurationMs, Timestamp},
};

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// kubelet's.
const LEASE_SECONDS: u64 = 40;
/// A status that did not change is written this often, as kubelets do.
const HEARTBEAT: DurationMs = DurationMs::from_secs(300);

/// Where the kubelet endpoint of all virtual Nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeletAddress {
    /// As API servers reach it.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What is to be seen of a cluster at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Name of the `ComputeCluster`.
    pub cluster: Box<str>,
    /// It answers.
    pub ready: bool,
    /// Why it does, or does not.
    pub message: String,
    /// Sum of its usable nodes.
    pub capacity: Capacity,
    /// The one architecture that they have, if it is one.
    pub architecture: Option<String>,
    /// Version of its API server.
    pub version: String,
    /// Where `kubectl logs` and the like are answered.
    pub kubelet: Option<KubeletAddress>,
}

/// Keeps one virtual Node.
pub struct VirtualNode {
    name: String,
    cluster: Box<str>,
    home: Rest,
    clock: Clock,
    written: Option<(NodeView, Timestamp)>,
}

impl VirtualNode {
    /// Of a cluster, over a connection that asks for permission before each write.
    pub fn new(cluster: &str, home: Rest, clock: Clock) -> Self {
        Self { name: names::virtual_node(cluster), cluster: cluster.into(), home, clock, written: None }
    }

    /// Renews the Lease, and brings the Node to what it should be. What was seen of it.
    pub async fn keep(&mut self, view: &NodeView) -> Result<NodeSeen, RestError> {
        let node = if let Some(node) = self.home.get(&format!("{NODES}/{}", self.name)).await? {
            node
        } else {
            self.written = None;
            self.home.create(NODES, &self.object(view)).await?.unwrap_or_default()
        };
        if !is_ours(&node, &self.cluster) {
            let why = format!("Node {} exists and does not stand for this cluster: rename or delete it", self.name);
            return Ok(NodeSeen { taken: Some(why.into()), ..NodeSeen::default() });
        }
        self.renew(&node).await?;
        self.mark(&node).await?;
        let now = self.clock.now();
        let said = node["status"]["conditions"].as_array().into_iter().flatten();
        let as_said = said.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == truth(view.ready));
        let current = self.written.as_ref().is_some_and(|(written, at)| written == view && now.since(*at) < HEARTBEAT);
        if !current || !as_said {
            let patch = json!({"status": self.status(view, &node)});
            self.home.strategic_merge(&format!("{NODES}/{}/status", self.name), &patch).await?;
            self.written = Some((view.clone(), now));
        }
        Ok(NodeSeen { there: true, cordoned: node["spec"]["unschedulable"] == true, ..NodeSeen::default() })
    }

    /// Deletes both. Only a Node that stands for this cluster.
    pub async fn remove(&mut self) -> Result<(), RestError> {
        self.written = None;
        let path = format!("{NODES}/{}", self.name);
        if let Some(node) = self.home.get(&path).await?
            && is_ours(&node, &self.cluster)
        {
            self.home.delete(&path, node["metadata"]["uid"].as_str(), None).await?;
        }
        self.home.delete(&format!("{LEASES}/{}", self.name), None, None).await?;
        Ok(())
    }

    async fn renew(&self, node: &Value) -> Result<(), RestError> {
        let renewed = micro_time(self.clock.wall());
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": node["metadata"]["uid"]}]);
        let patch = json!({"metadata": {"ownerReferences": owner}, "spec": {"renewTime": renewed}});
        if self.home.merge(&format!("{LEASES}/{}", self.name), &patch).await?.is_some() {
            return Ok(());
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name, "namespace": "kube-node-lease", "ownerReferences": owner},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": renewed},
        });
        self.home.create(LEASES, &lease).await?;
        Ok(())
    }

    /// Puts back labels and the taint that somebody took away; others' stay.
    async fn mark(&self, node: &Value) -> Result<(), RestError> {
        let labels = labels(&self.cluster, &self.name);
        let labelled = labels.iter().all(|(key, value)| node["metadata"]["labels"][key] == value.as_str());
        let tainted = node["spec"]["taints"].as_array().is_some_and(|taints| taints.iter().any(|taint| is_our_taint(taint, &self.cluster)));
        if labelled && tainted {
            return Ok(());
        }
        let patch = json!({"metadata": {"labels": labels}, "spec": {"taints": [taint(&self.cluster)]}});
        self.home.strategic_merge(&format!("{NODES}/{}", self.name), &patch).await?;
        Ok(())
    }

    fn object(&self, view: &NodeView) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": labels(&self.cluster, &self.name)},
            "spec": {"providerID": format!("isobar://{}", self.cluster), "taints": [taint(&self.cluster)]},
            "status": self.status(view, &Value::Null),
        })
    }

    fn status(&self, view: &NodeView, before: &Value) -> Value {
        let now = whole_second_time(self.clock.wall());
        let condition = |kind: &str, value: bool, reason: &str, message: &str| {
            let known = before["status"]["conditions"].as_array().into_iter().flatten();
            let same = known.into_iter().find(|known| known["type"] == kind && known["status"] == truth(value));
            let since = same.and_then(|known| known["lastTransitionTime"].as_str()).unwrap_or(&now);
            json!({
                "type": kind, "status": truth(value), "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since,
            })
        };
        let reason = if view.ready { "ClusterReachable" } else { "ClusterNotReachable" };
        let mut amounts = BTreeMap::from([("pods", view.capacity.pods.to_string())]);
        for (name, amount) in [("cpu", &view.capacity.cpu), ("memory", &view.capacity.memory)] {
            amounts.insert(name, if amount.is_empty() { "0".to_owned() } else { amount.clone() });
        }
        let architecture = view.architecture.as_deref().unwrap_or_default();
        let mut status = json!({
            "capacity": amounts, "allocatable": amounts,
            "conditions": [
                condition("Ready", view.ready, reason, &view.message),
                condition("MemoryPressure", false, "SeeTheNodes", "a cluster has none by itself"),
                condition("DiskPressure", false, "SeeTheNodes", "a cluster has none by itself"),
                condition("PIDPressure", false, "SeeTheNodes", "a cluster has none by itself"),
            ],
            "nodeInfo": {
                "architecture": architecture, "operatingSystem": "linux", "osImage": "compute cluster",
                "kubeletVersion": format!("{}-isobar", if view.version.is_empty() { "v0.0.0" } else { &view.version }), "kubeProxyVersion": "",
                "containerRuntimeVersion": "isobar://", "kernelVersion": "", "bootID": "", "machineID": "", "systemUUID": "",
            },
        });
        if let Some(KubeletAddress { address, port }) = view.kubelet {
            // No Hostname: API servers would prefer it, and nobody resolves it.
            status["addresses"] = json!([{"type": "InternalIP", "address": address}]);
            status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": port}});
        }
        status
    }
}

/// Names of clusters that have a virtual Node.
pub async fn standing(home: &Rest) -> Result<Vec<String>, RestError> {
    let nodes = home.list(NODES, &format!("labelSelector={}", crate::kubernetes::watch::escaped(names::VIRTUAL_NODE))).await?;
    Ok(nodes.iter().filter_map(|node| node["metadata"]["labels"][names::VIRTUAL_NODE].as_str().map(str::to_owned)).collect())
}

fn is_ours(node: &Value, cluster: &str) -> bool {
    node["metadata"]["labels"][names::VIRTUAL_NODE] == cluster
}

fn labels(cluster: &str, node: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (names::CLUSTER, cluster.to_owned()),
        (names::VIRTUAL_NODE, cluster.to_owned()),
        // Home's controllers bound evictions by zone: a cluster that is lost must not count for home's own zones.
        ("topology.kubernetes.io/zone", cluster.to_owned()),
        ("node.kubernetes.io/exclude-from-external-load-balancers", "true".to_owned()),
        ("kubernetes.io/hostname", node.to_owned()),
        ("kubernetes.io/role", "compute-cluster".to_owned()),
        ("type", "virtual-kubelet".to_owned()),
    ])
}

fn taint(cluster: &str) -> Value {
    json!({"key": names::CLUSTER, "value": cluster, "effect": "NoSchedule"})
}

fn is_our_taint(taint: &Value, cluster: &str) -> bool {
    taint["key"] == names::CLUSTER && taint["value"] == cluster && taint["effect"] == "NoSchedule"
}

fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

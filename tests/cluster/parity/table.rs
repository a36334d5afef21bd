//! Rows of the black-box suite. In: a YAML file of an area. Out: for each row the nodes it wants and its steps, in order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::harness::workload::node;

/// An area: rows that share a configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Laid over the profile of both schedulers: `plugins`, `pluginConfig`.
    #[serde(default)]
    pub profile: Value,
    /// Further profiles of both.
    #[serde(default, rename = "moreProfiles")]
    pub more_profiles: Vec<Value>,
    /// kube-controller-manager's `--controllers`; without it, none runs.
    #[serde(default)]
    pub controllers: Option<String>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    #[serde(default)]
    pub nodes: BTreeMap<String, NodeShape>,
    #[serde(rename = "do")]
    pub steps: Vec<Step>,
}

/// A node in short. The API server keeps what it is created with: there is no kubelet.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeShape {
    pub cpu: Option<String>,
    pub memory: Option<String>,
    pub pods: Option<String>,
    /// More capacity, by name.
    pub capacity: Map<String, Value>,
    pub zone: Option<String>,
    pub labels: Map<String, Value>,
    /// As kubectl writes them: `key=value:Effect`.
    pub taints: Vec<String>,
    pub unschedulable: bool,
    /// `[names, bytes]`, as a kubelet reports them.
    pub images: Vec<(Vec<String>, u64)>,
}

/// A pod in short; `spec` is laid over what the short forms give.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PodShape {
    pub name: String,
    /// So many of them, named `name-0` and on.
    pub count: Option<usize>,
    pub cpu: Option<String>,
    pub memory: Option<String>,
    pub image: Option<String>,
    pub labels: Map<String, Value>,
    /// Another namespace than the row's: its suffix.
    pub namespace: Option<String>,
    /// By a PriorityClass of that value.
    pub priority: Option<i64>,
    /// Placed by hand.
    pub node: Option<String>,
    /// Claims that it mounts.
    pub claims: Vec<String>,
    pub spec: Map<String, Value>,
}

/// One thing to do or to wait for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Creates a pod or some.
    Pod(Box<PodShape>),
    /// Creates any other object.
    Create(Value),
    /// A namespace beside the row's own: suffix and labels.
    Namespace(String, Map<String, Value>),
    /// Merges into an object: `kind/name`, patch, and `status` where that is meant.
    Patch(String, Value),
    PatchStatus(String, Value),
    /// Deletes `kind/name` without grace.
    Delete(String),
    /// Each pod is on one of these nodes before long.
    On(BTreeMap<String, Nodes>),
    /// Each pod's condition begins so before long.
    Pending(BTreeMap<String, String>),
    /// None of the pods is bound after a second.
    Stays(Vec<String>),
    /// The pods are deleted, or being deleted, before long.
    Gone(Vec<String>),
    /// The pods are still there, not being deleted.
    There(Vec<String>),
    /// Keys of the taints of each node before long.
    Tainted(BTreeMap<String, BTreeSet<String>>),
    /// `status.nominatedNodeName` of each pod before long; empty: none.
    Nominated(BTreeMap<String, String>),
    /// Pods whose names begin so, counted by a label of their nodes.
    Counts {
        pods: String,
        by: String,
        are: BTreeMap<String, usize>,
    },
}

/// One node or several that are as good.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Nodes {
    One(String),
    Any(Vec<String>),
}

impl Nodes {
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Any(any) => any.iter().any(|one| one == name),
        }
    }
}

pub fn read(name: &str, text: &str) -> Result<Table> {
    serde_saphyr::from_str(text).with_context(|| format!("tests/cluster/parity/{name}.yaml"))
}

impl NodeShape {
    pub fn object(&self, name: &str) -> Value {
        let or = |given: &Option<String>, default: &str| json!(given.clone().unwrap_or_else(|| default.to_owned()));
        let mut labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux" });
        if let Some(zone) = &self.zone {
            labels["topology.kubernetes.io/zone"] = json!(zone);
        }
        lay_over(&mut labels, &Value::Object(self.labels.clone()));
        let mut capacity = json!({ "cpu": or(&self.cpu, "4"), "memory": or(&self.memory, "8Gi"), "pods": or(&self.pods, "110") });
        lay_over(&mut capacity, &Value::Object(self.capacity.clone()));
        let taints: Vec<Value> = self.taints.iter().map(|text| taint(text)).collect();
        let mut object = node(name, &labels, &capacity, &taints);
        if self.unschedulable {
            object["spec"]["unschedulable"] = json!(true);
        }
        object["status"]["images"] = self.images.iter().map(|(names, bytes)| json!({ "names": names, "sizeBytes": bytes })).collect();
        object
    }
}

fn taint(text: &str) -> Value {
    let (head, effect) = text.rsplit_once(':').unwrap_or((text, "NoSchedule"));
    let (key, value) = head.split_once('=').unwrap_or((head, ""));
    json!({ "key": key, "value": value, "effect": effect })
}

impl PodShape {
    /// The names of its pods.
    pub fn names(&self) -> Vec<String> {
        self.count.map_or_else(|| vec![self.name.clone()], |count| (0..count).map(|at| format!("{}-{at}", self.name)).collect())
    }

    pub fn object(&self, name: &str, scheduler_name: &str) -> Value {
        let requests = json!({ "cpu": self.cpu, "memory": self.memory });
        let requests: Map<String, Value> = requests
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, amount)| !amount.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let image = self.image.as_deref().unwrap_or("registry.example/app:1");
        let mut spec = json!({
            "schedulerName": scheduler_name,
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": image, "resources": { "requests": requests } }],
        });
        if let Some(node) = &self.node {
            spec["nodeName"] = json!(node);
        }
        if let Some(priority) = self.priority {
            spec["priorityClassName"] = json!(priority_class(priority));
        }
        if !self.claims.is_empty() {
            let volume = |claim: &String| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } });
            spec["volumes"] = self.claims.iter().map(volume).collect();
        }
        lay_over(&mut spec, &Value::Object(self.spec.clone()));
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": self.labels }, "spec": spec })
    }
}

pub fn priority_class(value: i64) -> String {
    format!("priority{value}").replace('-', "-minus-")
}

/// Maps into maps; anything else replaces.
pub fn lay_over(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            over.iter().for_each(|(key, value)| lay_over(under.entry(key).or_insert(Value::Null), value));
        }
        (under, over) => under.clone_from(over),
    }
}

//! What is to be scheduled, and on what. In: counts and a kind. Out: the i-th node and the i-th pod as JSON, the same for every run.
//!
//! `Mixed` is a fleet of both architectures, GPUs, zones and a dedicated pool, under pods that need them; at ten pods a node it is six tenths full.
//! `Basic` is one node shape under one pod shape, the same as the plainest workload of upstream's scheduler benchmark.

use serde_json::{Value, json};

pub const ARCH_LABEL: &str = "kubernetes.io/arch";
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// What a pod's template promises about its node, said once more for the audit: it compares these with the node's labels.
pub const EXPECT_ARCH_LABEL: &str = "isobar.dev/expect-arch";
pub const EXPECT_GPU_LABEL: &str = "isobar.dev/expect-gpu";
const GPU_PRODUCT_LABEL: &str = "nvidia.com/gpu.product";
const DEDICATED: &str = "dedicated";
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mixed,
    Basic,
}

#[derive(Clone, Debug)]
pub struct Workload {
    pub kind: Kind,
    pub nodes: usize,
    pub pods: usize,
    pub namespace: String,
    pub scheduler_name: String,
}

struct Shape {
    arch: &'static str,
    cpu: &'static str,
    memory: &'static str,
    pods: &'static str,
    gpus: Option<&'static str>,
    dedicated: bool,
}

const fn shape(arch: &'static str, cpu: &'static str, memory: &'static str, pods: &'static str) -> Shape {
    Shape { arch, cpu, memory, pods, gpus: None, dedicated: false }
}

/// One in ten nodes each; the order of creation interleaves them.
const SHAPES: [Shape; 10] = [
    shape("amd64", "4", "16Gi", "110"),
    shape("arm64", "16", "32Gi", "110"),
    shape("amd64", "8", "32Gi", "110"),
    shape("amd64", "4", "16Gi", "110"),
    Shape { arch: "amd64", cpu: "16", memory: "64Gi", pods: "64", gpus: Some("8"), dedicated: false },
    shape("arm64", "4", "8Gi", "30"),
    shape("amd64", "4", "16Gi", "110"),
    shape("arm64", "16", "32Gi", "110"),
    shape("amd64", "8", "32Gi", "110"),
    Shape { arch: "amd64", cpu: "8", memory: "32Gi", pods: "110", gpus: None, dedicated: true },
];

impl Workload {
    pub fn node(&self, index: usize) -> Value {
        let basic = shape("amd64", "4", "32Gi", "110");
        let shape = match self.kind {
            Kind::Mixed => &SHAPES[index % SHAPES.len()],
            Kind::Basic => &basic,
        };
        let name = node_name(index);
        let mut labels = json!({
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            (ARCH_LABEL): shape.arch,
            "topology.kubernetes.io/zone": ZONES[(index / SHAPES.len()) % ZONES.len()],
        });
        let mut capacity = json!({ "cpu": shape.cpu, "memory": shape.memory, "ephemeral-storage": "100Gi", "pods": shape.pods });
        let mut taints = Vec::new();
        if let Some(gpus) = shape.gpus {
            labels[GPU_PRODUCT_LABEL] = json!(if (index / SHAPES.len()).is_multiple_of(2) { "A100" } else { "H100" });
            capacity[GPU_RESOURCE] = json!(gpus);
            taints.push(json!({ "key": GPU_RESOURCE, "value": "present", "effect": "NoSchedule" }));
        }
        if shape.dedicated {
            labels[DEDICATED] = json!("batch");
            taints.push(json!({ "key": DEDICATED, "value": "batch", "effect": "NoSchedule" }));
        }
        node(&name, &labels, &capacity, &taints)
    }

    pub fn pod(&self, index: usize) -> Value {
        let (labels, mut spec) = match self.kind {
            Kind::Mixed => template(mixed_slot(index)),
            Kind::Basic => (json!({ "template": "basic" }), containers("100m", "500Mi")),
        };
        spec["schedulerName"] = json!(self.scheduler_name);
        // There is no kubelet: without this a delete would wait for one.
        spec["terminationGracePeriodSeconds"] = json!(0);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod_name(index), "namespace": self.namespace, "labels": labels },
            "spec": spec,
        })
    }

    /// A pod that no node takes, of ten templates with as many reasons.
    pub fn hopeless(&self, index: usize) -> Value {
        let mut spec = hopeless(index % 10);
        spec["schedulerName"] = json!(self.scheduler_name);
        spec["terminationGracePeriodSeconds"] = json!(0);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("{HOPELESS}{index:06}"), "namespace": self.namespace, "labels": { "template": "hopeless" } },
            "spec": spec,
        })
    }
}

/// What names of pods that no node takes begin with.
pub const HOPELESS: &str = "hopeless-";

fn hopeless(template: usize) -> Value {
    let asks = |resource: &str, amount: &str| json!({ "containers": [{ "name": "main", "image": "i", "resources": { "requests": { (resource): amount }, "limits": { (resource): amount } } }] });
    let mut spec = containers("100m", "128Mi");
    let absent = json!({ "matchLabels": { "app": "absent" } });
    let terms = |requirement: Value| {
        let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [requirement] }] });
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
    };
    match template {
        0 => return asks("cpu", "500"),
        1 => return asks("memory", "1Ti"),
        2 => return asks("example.com/fpga", "1"),
        3 => return asks("ephemeral-storage", "10Ti"),
        4 => spec["nodeSelector"] = json!({ (ARCH_LABEL): "s390x" }),
        5 => spec["nodeSelector"] = json!({ "kubernetes.io/hostname": "node-of-yesterday" }),
        6 => {
            spec = asks("cpu", "400");
            spec["nodeSelector"] = json!({ (ARCH_LABEL): "amd64" });
        }
        7 => {
            let term = json!({ "topologyKey": "topology.kubernetes.io/zone", "labelSelector": absent });
            spec["affinity"] = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        }
        8 => {
            let rack =
                json!({ "maxSkew": 1, "topologyKey": "example.com/rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": absent });
            spec["topologySpreadConstraints"] = json!([rack]);
        }
        _ => spec["affinity"] = terms(json!({ "key": "disk", "operator": "In", "values": ["ssd"] })),
    }
    spec
}

pub fn node_name(index: usize) -> String {
    format!("node-{index:05}")
}

pub fn pod_name(index: usize) -> String {
    format!("pod-{index:06}")
}

/// A node as one POST: the API server keeps a Node's status on create, so nothing needs to fill it in.
pub fn node(name: &str, labels: &Value, capacity: &Value, taints: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": taints },
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fake kubelet is ready" }],
            "nodeInfo": {
                "architecture": labels[ARCH_LABEL], "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "v1.37.1", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
            },
        },
    })
}

/// Spreads the templates over the order of creation: 37 has no factor in common with 100, so each hundred pods hold each slot once.
const fn mixed_slot(index: usize) -> usize {
    (index * 37) % 100
}

/// Labels and spec of the template that owns `slot` of 100.
fn template(slot: usize) -> (Value, Value) {
    match slot {
        0..30 => (json!({ "template": "small" }), containers("100m", "128Mi")),
        30..50 => (json!({ "template": "medium" }), containers("500m", "1Gi")),
        50..68 => arm64(),
        68..78 => amd64_in_two_zones(),
        78..83 => with_init_container(),
        83..85 => host_port(),
        85..89 => gpu("1"),
        89..90 => gpu("2"),
        90..95 => dedicated(),
        _ => scratch_space(),
    }
}

fn containers(cpu: &str, memory: &str) -> Value {
    json!({ "containers": [{ "name": "main", "image": "registry.example/app:1", "resources": { "requests": { "cpu": cpu, "memory": memory } } }] })
}

fn arm64() -> (Value, Value) {
    let mut spec = containers("250m", "512Mi");
    spec["nodeSelector"] = json!({ (ARCH_LABEL): "arm64" });
    (json!({ "template": "arm64", (EXPECT_ARCH_LABEL): "arm64" }), spec)
}

fn amd64_in_two_zones() -> (Value, Value) {
    let zone = "topology.kubernetes.io/zone";
    let mut spec = containers("500m", "1Gi");
    spec["affinity"] = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": ARCH_LABEL, "operator": "In", "values": ["amd64"] },
            { "key": zone, "operator": "NotIn", "values": ["zone-c"] },
            { "key": GPU_PRODUCT_LABEL, "operator": "DoesNotExist" },
        ] }] },
        "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 50, "preference": { "matchExpressions": [{ "key": zone, "operator": "In", "values": ["zone-a"] }] } },
        ],
    } });
    (json!({ "template": "amd64", (EXPECT_ARCH_LABEL): "amd64" }), spec)
}

fn with_init_container() -> (Value, Value) {
    let mut spec = containers("2", "4Gi");
    // Needs more than the main container, so it alone decides the CPU request.
    spec["initContainers"] =
        json!([{ "name": "fetch", "image": "registry.example/fetch:1", "resources": { "requests": { "cpu": "3", "memory": "1Gi" } } }]);
    (json!({ "template": "init" }), spec)
}

fn host_port() -> (Value, Value) {
    let mut spec = containers("100m", "128Mi");
    spec["containers"][0]["ports"] = json!([{ "containerPort": 9100, "hostPort": 9100, "protocol": "TCP" }]);
    (json!({ "template": "host-port" }), spec)
}

fn gpu(count: &str) -> (Value, Value) {
    let mut spec = containers("2", "8Gi");
    spec["containers"][0]["resources"]["requests"][GPU_RESOURCE] = json!(count);
    spec["containers"][0]["resources"]["limits"] = json!({ (GPU_RESOURCE): count });
    spec["tolerations"] = json!([{ "key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule" }]);
    (json!({ "template": "gpu", (EXPECT_GPU_LABEL): "true" }), spec)
}

fn dedicated() -> (Value, Value) {
    let mut spec = containers("1", "2Gi");
    spec["nodeSelector"] = json!({ (DEDICATED): "batch" });
    spec["tolerations"] = json!([{ "key": DEDICATED, "operator": "Equal", "value": "batch", "effect": "NoSchedule" }]);
    (json!({ "template": "dedicated" }), spec)
}

fn scratch_space() -> (Value, Value) {
    let mut spec = containers("250m", "512Mi");
    spec["containers"][0]["resources"]["requests"]["ephemeral-storage"] = json!("8Gi");
    (json!({ "template": "scratch" }), spec)
}

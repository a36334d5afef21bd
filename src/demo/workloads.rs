//! The work of a weather service, one function a kind. In: what differs from pod to pod. Out: Pod objects.

use serde_json::{Value, json};

use super::cluster::{A100, DATASET, GH200, GPU, MODEL_IMAGE, NOTEBOOK_IMAGE, PEOPLE};
use crate::federation::names::{DATA, HOME_CLUSTER, PLACEMENT};
use crate::sim::behaviour::{EXIT_CODE, RUN_MS, variable};

/// Kinds of work in the order of the report: the label `app` of their pods, or that they are pods of tasks.
pub const KINDS: [&str; 10] =
    ["radar", "forecast", "post-processing", "ai-forecast", "training", "notebook", "reanalysis", "portal", "impossible", TASK];
/// The kind of pods that runs of tasks have.
pub const TASK: &str = "task";

/// Milliseconds of a minute.
pub const MINUTE: u64 = 60_000;

/// The gate of post-processing: opened when the forecast that it works on has ended.
pub const FORECAST_GATE: &str = "weather.example/forecast-done";

/// What must not wait.
const URGENT: &str = "urgent";
/// What may wait a little.
const ROUTINE: &str = "routine";
/// What takes what is left.
const IDLE: &str = "idle";

/// The priority classes of the service.
pub fn priority_classes() -> Vec<Value> {
    let class = |(name, value): (&str, i32)| json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value});
    [(URGENT, 100_000), (ROUTINE, 10_000), (IDLE, -100)].into_iter().map(class).collect()
}

/// A pod to be finished by the functions below.
struct Draft {
    kind: &'static str,
    name: String,
    cpu: &'static str,
    memory: &'static str,
    /// Its priority class.
    priority: &'static str,
    /// How long it runs; `None`: until it is deleted.
    run_ms: Option<u64>,
}

impl Draft {
    fn pod(self, image: &str, spec: Value) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "default", "labels": {"app": self.kind}, "annotations": {}},
            "spec": {
                "schedulerName": "isobar-scheduler", "priorityClassName": self.priority, "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": image, "resources": {"requests": {"cpu": self.cpu, "memory": self.memory}}}],
            },
        });
        if let Some(run_ms) = self.run_ms {
            set_variable(&mut pod, RUN_MS, &run_ms.to_string());
        }
        if let Value::Object(fields) = spec {
            fields.into_iter().for_each(|(name, value)| pod["spec"][name] = value);
        }
        pod
    }
}

/// Told to the fake kubelet by the environment, which travels where annotations do not.
fn set_variable(pod: &mut Value, annotation: &str, value: &str) {
    let variables = &mut pod["spec"]["containers"][0]["env"];
    if !variables.is_array() {
        *variables = json!([]);
    }
    if let Some(variables) = variables.as_array_mut() {
        variables.push(json!({"name": variable(annotation), "value": value}));
    }
}

/// Mounts claims.
fn with_claims(mut pod: Value, claims: &[&str]) -> Value {
    let volume = |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
    let mount = |claim: &&str| json!({"name": claim, "mountPath": format!("/mnt/{claim}"), "readOnly": **claim == *DATASET});
    pod["spec"]["volumes"] = claims.iter().map(volume).collect();
    pod["spec"]["containers"][0]["volumeMounts"] = claims.iter().map(mount).collect();
    pod
}

fn on_architecture(architecture: &str) -> Value {
    json!({"kubernetes.io/arch": architecture})
}

fn with_gpus(mut pod: Value, gpus: u32) -> Value {
    pod["spec"]["containers"][0]["resources"]["requests"][GPU] = gpus.to_string().into();
    pod["spec"]["containers"][0]["resources"]["limits"] = json!({GPU: gpus.to_string()});
    pod["spec"]["tolerations"] = json!([{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]);
    pod
}

fn gpu_model(model: &str) -> Value {
    json!({"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "In", "values": [model]}]})
}

/// A composite of radar images: urgent, on either architecture.
pub fn radar(cycle: u64, tile: u64, run_ms: u64) -> Value {
    let name = format!("radar-{cycle:02}-{tile:02}");
    Draft { kind: "radar", name, cpu: "4", memory: "8Gi", priority: URGENT, run_ms: Some(run_ms) }
        .pod("registry.example/radar:4", json!({}))
}

/// A member of the forecast ensemble: built for x86 only.
pub fn forecast(cycle: u64, member: u64, run_ms: u64) -> Value {
    let name = format!("forecast-{cycle}-member-{member:02}");
    let spec = json!({"nodeSelector": on_architecture("amd64")});
    Draft { kind: "forecast", name, cpu: "16", memory: "48Gi", priority: ROUTINE, run_ms: Some(run_ms) }
        .pod("registry.example/icon:11", spec)
}

/// Products made of a forecast: built for ARM only, held back by a gate until the forecast is there. One in twenty fails.
pub fn post_processing(cycle: u64, product: u64, run_ms: u64) -> Value {
    let name = format!("post-{cycle}-product-{product:02}");
    let spec = json!({"nodeSelector": on_architecture("arm64"), "schedulingGates": [{"name": FORECAST_GATE}]});
    let draft = Draft { kind: "post-processing", name, cpu: "6", memory: "12Gi", priority: ROUTINE, run_ms: Some(run_ms) };
    let mut pod = draft.pod("registry.example/products:29", spec);
    if product % 20 == 19 {
        set_variable(&mut pod, EXIT_CODE, "1");
    }
    pod
}

/// Inference of a learned model: one GPU of either kind, the ARM one rather, as it is faster.
pub fn ai_forecast(cycle: u64, region: u64, run_ms: u64) -> Value {
    let name = format!("ai-forecast-{cycle:02}-region-{region}");
    let spec = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50, "preference": gpu_model(GH200)}]}}});
    let draft = Draft { kind: "ai-forecast", name, cpu: "8", memory: "64Gi", priority: URGENT, run_ms: Some(run_ms) };
    with_gpus(draft.pod(MODEL_IMAGE, spec), 1)
}

/// Training: several GPUs of one kind, for long.
pub fn training(number: u64, gpus: u32, run_ms: u64) -> Value {
    let name = format!("training-{number}");
    let spec =
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [gpu_model(A100)]}}}});
    let draft = Draft { kind: "training", name, cpu: "16", memory: "128Gi", priority: IDLE, run_ms: Some(run_ms) };
    with_gpus(draft.pod(MODEL_IMAGE, spec), gpus)
}

/// A notebook: runs until its user closes it, on the user's workspace and the data set. Some have a GPU.
pub fn notebook(number: u64, gpu: bool) -> Value {
    let name = format!("notebook-{number:03}");
    let pod = Draft { kind: "notebook", name, cpu: "2", memory: "8Gi", priority: ROUTINE, run_ms: None }.pod(NOTEBOOK_IMAGE, json!({}));
    let pod = with_claims(pod, &[&format!("workspace-{}", number % PEOPLE), DATASET]);
    if gpu { with_gpus(pod, 1) } else { pod }
}

/// Years of old observations computed anew, from a data set: takes what is left where that is near.
pub fn reanalysis(year: u64, run_ms: u64) -> Value {
    let name = format!("reanalysis-{year}");
    let draft = Draft { kind: "reanalysis", name, cpu: "12", memory: "24Gi", priority: IDLE, run_ms: Some(run_ms) };
    let mut pod = with_claims(draft.pod("registry.example/era:6", json!({})), &[DATASET]);
    pod["metadata"]["annotations"][DATA] = DATASET.into();
    pod
}

/// The portal: at home, one on a node, as it takes the node's own port.
pub fn portal(number: u64) -> Value {
    let name = format!("portal-{number}");
    let mut pod =
        Draft { kind: "portal", name, cpu: "2", memory: "4Gi", priority: URGENT, run_ms: None }.pod("registry.example/portal:3", json!({}));
    pod["metadata"]["annotations"][PLACEMENT] = HOME_CLUSTER.into();
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 443, "hostPort": 443}]);
    pod
}

/// What no node will ever take, each for another reason.
pub fn impossible() -> Vec<Value> {
    let draft =
        |name: &str, cpu| Draft { kind: "impossible", name: name.to_owned(), cpu, memory: "1Gi", priority: ROUTINE, run_ms: Some(MINUTE) };
    vec![
        draft("wants-1000-cores", "1000").pod("registry.example/tool:1", json!({})),
        draft("wants-riscv", "1").pod("registry.example/tool:1", json!({"nodeSelector": on_architecture("riscv64")})),
        with_gpus(draft("wants-16-gpus", "1").pod("registry.example/tool:1", json!({})), 16),
        draft("wants-hall-z", "1").pod("registry.example/tool:1", json!({"nodeSelector": {"topology.kubernetes.io/zone": "hall-z"}})),
    ]
}

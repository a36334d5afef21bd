//! The machines of the demo's cluster. In: nothing. Out: Node objects: ARM, x86 and two kinds of GPU nodes in three halls.

use serde_json::{Value, json};

/// A kind of machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Beginning of the nodes' names.
    pub name: &'static str,
    /// `kubernetes.io/arch`.
    pub architecture: &'static str,
    /// Cores.
    pub cpu: u32,
    /// Memory in GiB.
    pub memory_gib: u32,
    /// GPUs, and their model as the vendor's discovery names it.
    pub gpus: Option<(u32, &'static str)>,
    /// How many there are at the start.
    pub count: u32,
}

/// GPU model of the x86 machines.
pub const A100: &str = "NVIDIA-A100-SXM4-80GB";
/// GPU model of the ARM machines.
pub const GH200: &str = "NVIDIA-GH200-480GB";
/// The extended resource that both offer.
pub const GPU: &str = "nvidia.com/gpu";
/// Where machines stand.
pub const HALLS: [&str; 3] = ["hall-a", "hall-b", "hall-c"];

/// The machines of the service.
pub const MACHINES: [Machine; 4] = [
    Machine { name: "arm", architecture: "arm64", cpu: 80, memory_gib: 256, gpus: None, count: 8 },
    Machine { name: "x86", architecture: "amd64", cpu: 64, memory_gib: 256, gpus: None, count: 10 },
    Machine { name: "a100", architecture: "amd64", cpu: 64, memory_gib: 512, gpus: Some((8, A100)), count: 3 },
    Machine { name: "gh200", architecture: "arm64", cpu: 72, memory_gib: 480, gpus: Some((1, GH200)), count: 6 },
];

/// Images of notebooks and GPU work, large enough that it pays to start where they are.
pub const NOTEBOOK_IMAGE: &str = "registry.example/notebook:2026.3";
const NOTEBOOK_BYTES: u64 = 3_800_000_000;
/// As above.
pub const MODEL_IMAGE: &str = "registry.example/ai-forecast:7";
const MODEL_BYTES: u64 = 9_400_000_000;

impl Machine {
    /// One machine as a Node object. GPU machines keep others away by a taint; every third machine holds the large images already.
    pub fn node(&self, number: u32) -> Value {
        let name = format!("{}-{number:02}", self.name);
        let hall = HALLS[number as usize % HALLS.len()];
        let mut labels = json!({
            "kubernetes.io/arch": self.architecture, "kubernetes.io/os": "linux", "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": hall, "node.kubernetes.io/instance-type": self.name,
        });
        let mut spec = json!({});
        let mut resources =
            json!({"cpu": self.cpu.to_string(), "memory": format!("{}Gi", self.memory_gib), "ephemeral-storage": "800Gi", "pods": "250"});
        if let Some((gpus, model)) = self.gpus {
            labels["nvidia.com/gpu.product"] = model.into();
            resources[GPU] = gpus.to_string().into();
            spec["taints"] = json!([{"key": GPU, "value": "present", "effect": "NoSchedule"}]);
        }
        let image = |name: &str, bytes: u64| json!({"names": [name], "sizeBytes": bytes});
        let mut images = Vec::new();
        if number.is_multiple_of(3) {
            images.push(image(NOTEBOOK_IMAGE, NOTEBOOK_BYTES));
            images.extend(self.gpus.map(|_| image(MODEL_IMAGE, MODEL_BYTES)));
        }
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec,
            "status": {
                "capacity": resources, "allocatable": resources, "images": images,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the fake kubelet is always ready"}],
                "nodeInfo": {"architecture": self.architecture, "operatingSystem": "linux", "kubeletVersion": "v1.37.1", "kernelVersion": "6.12",
                    "osImage": "demo", "containerRuntimeVersion": "sim://1", "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": ""},
            },
        })
    }

    /// All of them at the start.
    pub fn nodes(&self) -> impl Iterator<Item = Value> + '_ {
        (1..=self.count).map(|number| self.node(number))
    }
}

//! The machines of the demo. In: nothing. Out: nodes of a service cluster and of three compute clusters: an ARM hall, an x86 cloud, a GPU cloud; and what
//! is said of these clusters at home.

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
/// Name of the service cluster.
pub const HOME: &str = "home";
/// The ARM machines in another room.
pub const HALL: &str = "arm-hall";
/// The rented x86 machines. Its line is cut half-way.
pub const X86_CLOUD: &str = "x86-cloud";
/// The rented machines with GPUs.
pub const GPU_CLOUD: &str = "gpu-cloud";
/// The reanalysis' data, a claim at home.
pub const DATASET: &str = "era5";
/// The data sets that the example of a notebook mounts, and its workspace: claims at home as well.
const DATASETS: &str = "datasets";
const WORKSPACE: &str = "workspace";
/// How many people have a workspace, a claim each.
pub const PEOPLE: u64 = 8;

/// A cluster and its machines.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Its name.
    pub name: &'static str,
    /// Its machines.
    pub machines: &'static [Machine],
}

const fn machine(name: &'static str, architecture: &'static str, cpu: u32, memory_gib: u32, count: u32) -> Machine {
    Machine { name, architecture, cpu, memory_gib, gpus: None, count }
}

/// All of them, home first.
pub const SITES: [Site; 4] = [
    Site { name: HOME, machines: &[machine("arm", "arm64", 80, 256, 3), machine("x86", "amd64", 64, 256, 3)] },
    Site { name: HALL, machines: &[machine("arm", "arm64", 80, 256, 8)] },
    Site { name: X86_CLOUD, machines: &[machine("x86", "amd64", 64, 256, 10)] },
    Site {
        name: GPU_CLOUD,
        machines: &[
            Machine { gpus: Some((8, A100)), ..machine("a100", "amd64", 64, 512, 3) },
            Machine { gpus: Some((1, GH200)), ..machine("gh200", "arm64", 72, 480, 6) },
        ],
    },
];

/// What the admin says of a compute cluster: where people's files are over there, and how much it is liked.
pub fn spec(site: &str) -> Value {
    let nfs = |path: &str| json!({"nfs": {"server": "files.example", "path": path}});
    json!({
        "preference": if site == HALL { 60 } else { 40 },
        "data": [DATASET],
        "volumes": [
            {"match": {"claimName": "workspace*"}, "source": nfs("/people/{namespace}/{claim}"), "readOnly": false},
            {"match": {"claimName": DATASET}, "source": nfs("/datasets/{claim}")},
            {"match": {"claimName": DATASETS}, "source": nfs("/datasets")},
        ],
    })
}

/// The claims at home: workspaces, and data sets.
pub fn claims() -> Vec<Value> {
    let claim = |name: String| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}}})
    };
    let names = (0..PEOPLE).map(|person| format!("workspace-{person}")).chain([DATASET, DATASETS, WORKSPACE].map(str::to_owned));
    names.map(claim).collect()
}

/// Images of notebooks and GPU work, large enough that it pays to start where they are.
pub const NOTEBOOK_IMAGE: &str = "registry.example/notebook:2026.3";
const NOTEBOOK_BYTES: u64 = 3_800_000_000;
/// As above.
pub const MODEL_IMAGE: &str = "registry.example/ai-forecast:7";
const MODEL_BYTES: u64 = 9_400_000_000;

impl Machine {
    /// One machine of a site as a Node object. GPU machines keep others away by a taint; every third machine holds the large images already.
    pub fn node(&self, site: &str, number: u32) -> Value {
        let name = format!("{}-{number:02}", self.name);
        let mut labels = json!({
            "kubernetes.io/arch": self.architecture, "kubernetes.io/os": "linux", "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": site, "node.kubernetes.io/instance-type": self.name,
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
}

impl Site {
    /// All its machines at the start.
    pub fn nodes(&self) -> impl Iterator<Item = Value> + '_ {
        self.machines.iter().flat_map(|machine| (1..=machine.count).map(|number| machine.node(self.name, number)))
    }
}

//! A node: as its object says it ([`NodeFacts`]), and as the cache keeps it ([`NodeRecord`]).

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    class::PodClass,
    features::NodeFeatures,
    fnv::fnv1a,
    ids::{ClusterId, NodeKey},
    intern::{Interner, Sym},
    labels::{LabelFacts, Labels},
    ports::HostPort,
    resources::{ResourceList, ResourceVec},
    taints::{Effect, Taint, TaintFacts},
    volumes::PodVolumes,
};

/// Label that carries the architecture, `amd64` or `arm64`.
pub const ARCH_LABEL: &str = "kubernetes.io/arch";
/// Label that carries the operating system.
pub const OS_LABEL: &str = "kubernetes.io/os";
/// Label that carries the name of the host.
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
/// Label that carries the availability zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Labels that GPU vendors' discovery sets to the model, first match wins.
pub const GPU_MODEL_LABELS: [&str; 3] = ["nvidia.com/gpu.product", "amd.com/gpu.product-name", "gpu.isobar.dev/model"];

/// One node object, reduced to what scheduling reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`: a stable random rank comes from it.
    pub uid: Box<str>,
    /// `metadata.labels`.
    pub labels: LabelFacts,
    /// `spec.taints`, those with a known effect.
    pub taints: Vec<TaintFacts>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// `status.allocatable`.
    pub allocatable: ResourceList,
    /// `status.images`: all names of an image, and its size in bytes.
    pub images: Vec<ImageFacts>,
    /// `status.nodeInfo.architecture`, if the label is absent.
    pub architecture: Box<str>,
    /// `status.nodeInfo.operatingSystem`, if the label is absent.
    pub operating_system: Box<str>,
    /// `status.declaredFeatures`, those that some pod may need.
    pub features: NodeFeatures,
    /// The object stands for a compute cluster and is no place for pods by itself.
    pub is_virtual: bool,
}

/// One entry of `status.images`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageFacts {
    /// Tags and digests.
    pub names: Vec<Box<str>>,
    /// `sizeBytes`.
    pub size_bytes: i64,
}

impl NodeFacts {
    /// The key under which the cache files it.
    pub fn key(&self) -> NodeKey {
        NodeKey { cluster: self.cluster, name: self.name.clone() }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }
}

/// A node in the cache. The hot fields stand first: filters and scores of a whole cluster stream through them.
#[derive(Clone, Debug)]
pub struct NodeRecord {
    /// What pods may use in sum.
    pub allocatable: ResourceVec,
    /// What the pods on it request, with overhead; assumed pods included.
    pub requested: ResourceVec,
    /// As `requested`, with the small-pod defaults: millicores.
    pub nonzero_cpu_milli: i64,
    /// As `requested`, with the small-pod defaults: bytes.
    pub nonzero_memory_bytes: i64,
    /// How many pods are on it.
    pub pods_used: u32,
    /// How many pods it takes.
    pub pods_max: u32,
    /// Whether the object exists. A node that is gone stays as a shell until its last pod has left.
    pub present: bool,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Features that it declares.
    pub features: NodeFeatures,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// `metadata.name`.
    pub name: Sym,
    /// `metadata.uid`.
    pub uid: Sym,
    /// Hash of the UID, the same in every run: what a stable random rank is made of.
    pub uid_hash: u64,
    /// Taints in the object's order.
    pub taints: Box<[Taint]>,
    /// Labels.
    pub labels: Labels,
    /// Images by name, sorted by symbol.
    pub images: Box<[Sym]>,
    /// Host ports in use, one entry per pod and port.
    pub ports: Vec<HostPort>,
    /// Namespace and volumes of each of its pods that has some.
    pub volumes: Vec<(Sym, Arc<PodVolumes>)>,
    /// How many of its pods have which priority, lowest first: whether preemption could find victims.
    pub priorities: SmallVec<[(i32, u32); 2]>,
    /// Architecture, empty if unknown.
    pub architecture: Sym,
    /// Operating system, empty if unknown.
    pub operating_system: Sym,
    /// GPU model, empty if it has none or does not say.
    pub gpu_model: Sym,
    /// Change number of the object: labels, taints, allocatable, images.
    pub object_changed: u64,
    /// Change number of what runs on it.
    pub usage_changed: u64,
}

impl NodeRecord {
    /// A shell: a node of which only the name is known, as pods on it were seen first.
    pub fn shell(cluster: ClusterId, name: Sym) -> Self {
        Self {
            allocatable: ResourceVec::default(),
            requested: ResourceVec::default(),
            nonzero_cpu_milli: 0,
            nonzero_memory_bytes: 0,
            pods_used: 0,
            pods_max: 0,
            present: false,
            unschedulable: false,
            features: NodeFeatures::default(),
            cluster,
            name,
            uid: Sym::EMPTY,
            uid_hash: 0,
            taints: Box::default(),
            labels: Labels::default(),
            images: Box::default(),
            ports: Vec::new(),
            volumes: Vec::new(),
            priorities: SmallVec::new(),
            architecture: Sym::EMPTY,
            operating_system: Sym::EMPTY,
            gpu_model: Sym::EMPTY,
            object_changed: 0,
            usage_changed: 0,
        }
    }

    /// Takes over what the object says; usage stays.
    pub fn apply(&mut self, facts: &NodeFacts, table: &mut Interner) {
        self.present = true;
        self.unschedulable = facts.unschedulable;
        self.features = facts.features;
        self.uid = table.intern(&facts.uid);
        self.uid_hash = fnv1a(0, if facts.uid.is_empty() { &facts.name } else { &facts.uid }.bytes());
        self.allocatable = ResourceVec::from_list(&facts.allocatable, |name| table.intern(name));
        self.pods_max = facts.allocatable.get("pods").map_or(0, |pods| u32::try_from(pods.units().max(0)).unwrap_or(u32::MAX));
        self.labels = Labels::intern(&facts.labels, table);
        self.taints = facts.taints.iter().map(|taint| Taint::intern(taint, table)).collect();
        let mut images: Vec<Sym> = facts.images.iter().flat_map(|image| &image.names).map(|name| table.intern(name)).collect();
        images.sort_unstable();
        images.dedup();
        self.images = images.into_boxed_slice();
        self.architecture = table.intern(facts.label(ARCH_LABEL).unwrap_or(&facts.architecture));
        self.operating_system = table.intern(facts.label(OS_LABEL).unwrap_or(&facts.operating_system));
        self.gpu_model = table.intern(GPU_MODEL_LABELS.iter().find_map(|key| facts.label(key)).unwrap_or(""));
    }

    /// The object is gone; what runs there is still counted until its pods are gone too.
    pub fn withdraw(&mut self) {
        let (requested, ports) = (std::mem::take(&mut self.requested), std::mem::take(&mut self.ports));
        let (volumes, priorities) = (std::mem::take(&mut self.volumes), std::mem::take(&mut self.priorities));
        *self = Self {
            requested,
            ports,
            volumes,
            priorities,
            nonzero_cpu_milli: self.nonzero_cpu_milli,
            nonzero_memory_bytes: self.nonzero_memory_bytes,
            pods_used: self.pods_used,
            object_changed: self.object_changed,
            usage_changed: self.usage_changed,
            ..Self::shell(self.cluster, self.name)
        };
    }

    /// Counts one more pod.
    pub fn count_pod(&mut self, class: &PodClass) {
        self.requested.add(&class.requests);
        self.nonzero_cpu_milli = self.nonzero_cpu_milli.saturating_add(class.nonzero_cpu_milli);
        self.nonzero_memory_bytes = self.nonzero_memory_bytes.saturating_add(class.nonzero_memory_bytes);
        self.pods_used += 1;
        self.ports.extend(class.host_ports.iter().cloned());
        self.count_priority(class.priority);
        if let Some(volumes) = &class.volumes {
            self.mount(class.namespace, volumes);
        }
    }

    /// Counts one pod less; it must have been counted.
    pub fn uncount_pod(&mut self, class: &PodClass) {
        self.requested.sub(&class.requests);
        self.nonzero_cpu_milli = self.nonzero_cpu_milli.saturating_sub(class.nonzero_cpu_milli);
        self.nonzero_memory_bytes = self.nonzero_memory_bytes.saturating_sub(class.nonzero_memory_bytes);
        self.pods_used = self.pods_used.saturating_sub(1);
        self.uncount_priority(class.priority);
        if let Some(volumes) = &class.volumes {
            self.unmount(class.namespace, volumes);
        }
        for port in &class.host_ports {
            if let Some(at) = self.ports.iter().position(|used| used == port) {
                self.ports.swap_remove(at);
            }
        }
    }

    /// Counts one more pod of a priority.
    pub fn count_priority(&mut self, priority: i32) {
        match self.priorities.binary_search_by_key(&priority, |(known, _)| *known) {
            Ok(at) => self.priorities[at].1 += 1,
            Err(at) => self.priorities.insert(at, (priority, 1)),
        }
    }

    /// Counts one pod of a priority less.
    pub fn uncount_priority(&mut self, priority: i32) {
        let Ok(at) = self.priorities.binary_search_by_key(&priority, |(known, _)| *known) else { return };
        self.priorities[at].1 -= 1;
        if self.priorities[at].1 == 0 {
            self.priorities.remove(at);
        }
    }

    /// One pod more that has volumes.
    pub fn mount(&mut self, namespace: Sym, volumes: &Arc<PodVolumes>) {
        self.volumes.push((namespace, volumes.clone()));
    }

    /// One pod less that has such volumes.
    pub fn unmount(&mut self, namespace: Sym, volumes: &PodVolumes) {
        if let Some(at) = self.volumes.iter().position(|(known, used)| *known == namespace && **used == *volumes) {
            self.volumes.swap_remove(at);
        }
    }

    /// Whether a pod of lower priority runs here, which preemption may evict.
    pub fn has_pods_below(&self, priority: i32) -> bool {
        self.priorities.first().is_some_and(|(lowest, _)| *lowest < priority)
    }

    /// Whether pods are kept away unless they tolerate it.
    pub fn has_hard_taint(&self) -> bool {
        self.taints.iter().any(|taint| taint.effect != Effect::PreferNoSchedule)
    }

    /// Whether pods are asked to stay away softly: then a profile that scores taints has to normalise.
    pub fn has_soft_taint(&self) -> bool {
        self.taints.iter().any(|taint| taint.effect == Effect::PreferNoSchedule)
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        for sym in [self.name, self.uid, self.architecture, self.operating_system, self.gpu_model] {
            mark(sym);
        }
        self.labels.iter().for_each(|(key, value)| {
            mark(key);
            mark(value);
        });
        self.taints.iter().for_each(|taint| {
            mark(taint.key);
            mark(taint.value);
        });
        self.images.iter().for_each(|image| mark(*image));
        self.volumes.iter().for_each(|(namespace, _)| mark(*namespace));
        self.allocatable.scalars.iter().chain(&self.requested.scalars).for_each(|(name, _)| mark(*name));
    }
}

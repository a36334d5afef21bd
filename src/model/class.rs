//! Pod classes: everything that any rule reads of a pod, held once for all pods cut from one template.
//!
//! In: [`PodFacts`](super::pod::PodFacts). Out: a [`ClassIx`] that equal pods share. Names and labels that no live selector reads are not part of a class,
//! or every pod would be a class of its own. Names of claims are, as rules read the claims: a replica that has its own claim is a class of one pod.

use std::{hash::BuildHasher, sync::Arc};

use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::{
    affinity::{PreferredTerms, SelectorMatcher, preferred_terms},
    devices::PodDevices,
    features::NodeFeatures,
    ids::ClassIx,
    intern::{Interner, Sym},
    labels::Labels,
    placement::TravelFacts,
    pod::{PodSpecFacts, Wants},
    ports::HostPort,
    resources::ResourceVec,
    taints::Toleration,
    terms::{PodTerms, SelectingKind, Spread},
    volumes::PodVolumes,
};

/// What rules read of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodClass {
    /// `metadata.namespace`.
    pub namespace: Sym,
    /// Those of `metadata.labels` that a live selector reads.
    pub labels: Labels,
    /// `metadata.deletionTimestamp` is set: spreading does not count it.
    pub is_terminating: bool,
    /// `spec.schedulerName`.
    pub scheduler_name: Sym,
    /// `spec.priority`.
    pub priority: i32,
    /// `spec.preemptionPolicy: Never`.
    pub never_preempts: bool,
    /// What the node pays for it.
    pub requests: ResourceVec,
    /// What the node pays for it with small-pod defaults: millicores.
    pub nonzero_cpu_milli: i64,
    /// What the node pays for it with small-pod defaults: bytes.
    pub nonzero_memory_bytes: i64,
    /// What scores count for it before it is placed (container sums with small-pod defaults).
    pub score_requests: ResourceVec,
    /// `spec.nodeName` of a pod that names its node and is asked about all the same (`explain`); pending pods have none.
    pub node_name: Option<Sym>,
    /// `spec.nodeSelector`, in the object's order.
    pub node_selector: Box<[(Sym, Sym)]>,
    /// Required node affinity.
    pub required_affinity: Option<SelectorMatcher>,
    /// Preferred node affinity; `None` if the pod names no terms at all.
    pub preferred_affinity: Option<PreferredTerms>,
    /// Pod affinity and anti-affinity.
    pub pod_terms: Option<Box<PodTerms>>,
    /// Topology spread constraints; empty if the pod has none of its own.
    pub spread: Box<[Spread]>,
    /// The controller whose selector counts for default spreading; not kept where the pod has constraints of its own.
    pub owner: Option<(SelectingKind, Sym)>,
    /// Tolerations that can match anything.
    pub tolerations: Box<[Toleration]>,
    /// Host ports wanted.
    pub host_ports: Box<[HostPort]>,
    /// Normalised image names, one entry per container, init container and image volume.
    pub images: Box<[Sym]>,
    /// Volumes that rules read something of.
    pub volumes: Option<Arc<PodVolumes>>,
    /// Claims of devices.
    pub devices: Option<Arc<PodDevices>>,
    /// Features that its node must declare.
    pub features: NodeFeatures,
    /// What needs other rules.
    pub wants: Wants,
    /// What matters only where the pod may leave home.
    pub travel: Option<Box<TravelFacts>>,
}

impl PodClass {
    /// The shared part of a pod that is only counted, as others have placed it and nothing decides about it: what its node pays, and what terms of other
    /// pods and its own towards them ask for.
    pub fn counted(namespace: &str, spec: &PodSpecFacts, table: &mut Interner) -> Self {
        let nonzero = ResourceVec::from_list(&spec.requests.nonzero, |name| table.intern(name));
        let namespace = table.intern(namespace);
        Self {
            namespace,
            labels: Labels::default(),
            is_terminating: false,
            scheduler_name: Sym::EMPTY,
            priority: spec.priority,
            never_preempts: false,
            requests: ResourceVec::from_list(&spec.requests.effective, |name| table.intern(name)),
            nonzero_cpu_milli: nonzero.cpu_milli,
            nonzero_memory_bytes: nonzero.memory_bytes,
            score_requests: ResourceVec::default(),
            node_name: None,
            node_selector: Box::default(),
            required_affinity: None,
            preferred_affinity: None,
            pod_terms: spec.pod_affinity.as_ref().map(|facts| Box::new(PodTerms::new(facts, namespace, table))),
            spread: Box::default(),
            owner: None,
            tolerations: Box::default(),
            host_ports: spec.host_ports.clone().into_boxed_slice(),
            images: Box::default(),
            volumes: None,
            devices: None,
            features: NodeFeatures::default(),
            wants: Wants::default(),
            travel: None,
        }
    }

    /// The images of its containers, sidecars and init containers: those that have a platform.
    pub fn container_images(&self) -> &[Sym] {
        let volumes = self.travel.as_ref().map_or(0, |travel| travel.image_volumes);
        &self.images[..self.images.len().saturating_sub(volumes)]
    }

    /// Interns the shared part of a pod, without its labels.
    pub fn new(namespace: &str, spec: &PodSpecFacts, table: &mut Interner) -> Self {
        let effective = ResourceVec::from_list(&spec.requests.effective, |name| table.intern(name));
        let nonzero = ResourceVec::from_list(&spec.requests.nonzero, |name| table.intern(name));
        let affinity = spec.node_affinity.as_deref();
        let namespace = table.intern(namespace);
        let owner = spec.owner.as_ref().filter(|_| spec.spread.is_empty());
        Self {
            namespace,
            labels: Labels::default(),
            is_terminating: false,
            scheduler_name: table.intern(&spec.scheduler_name),
            priority: spec.priority,
            never_preempts: spec.never_preempts,
            requests: effective,
            nonzero_cpu_milli: nonzero.cpu_milli,
            nonzero_memory_bytes: nonzero.memory_bytes,
            score_requests: ResourceVec::from_list(&spec.requests.nonzero_incoming, |name| table.intern(name)),
            node_name: None,
            node_selector: spec.node_selector.iter().map(|(key, value)| (table.intern(key), table.intern(value))).collect(),
            required_affinity: affinity
                .and_then(|affinity| affinity.required.as_ref())
                .map(|required| SelectorMatcher::new(required, table)),
            preferred_affinity: affinity
                .filter(|affinity| !affinity.preferred.is_empty())
                .map(|affinity| preferred_terms(&affinity.preferred, table)),
            pod_terms: spec.pod_affinity.as_ref().map(|facts| Box::new(PodTerms::new(facts, namespace, table))),
            spread: spec.spread.iter().map(|facts| Spread::new(facts, table)).collect(),
            owner: owner.map(|owner| (owner.kind, table.intern(&owner.name))),
            tolerations: spec.tolerations.iter().filter_map(|facts| Toleration::intern(facts, table)).collect(),
            host_ports: spec.host_ports.clone().into_boxed_slice(),
            images: spec.images.iter().map(|image| table.intern(&normalised_image(image))).collect(),
            volumes: spec.volumes.clone(),
            devices: spec.devices.clone(),
            features: spec.features,
            wants: spec.wants,
            travel: spec.travel.clone(),
        }
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        mark(self.namespace);
        mark(self.scheduler_name);
        self.node_name.iter().for_each(|name| mark(*name));
        self.node_selector.iter().for_each(|(key, value)| {
            mark(*key);
            mark(*value);
        });
        self.required_affinity.iter().for_each(|required| required.symbols(mark));
        self.preferred_affinity.iter().flatten().flatten().for_each(|(_, term)| term.symbols(mark));
        self.tolerations.iter().for_each(|toleration| {
            toleration.key.iter().chain(&toleration.value).for_each(|sym| mark(*sym));
        });
        self.images.iter().for_each(|image| mark(*image));
        self.labels.symbols(mark);
        self.owner.iter().for_each(|(_, name)| mark(*name));
        for term in self.pod_terms.iter().flat_map(|terms| terms.iter()) {
            mark(term.topology_key);
            term.pods.symbols(mark);
        }
        for spread in &self.spread {
            mark(spread.topology_key);
            spread.selector.iter().for_each(|selector| selector.symbols(mark));
        }
        self.requests.scalars.iter().chain(&self.score_requests.scalars).for_each(|(name, _)| mark(*name));
    }
}

/// `name` becomes `name:latest` when it has neither tag nor digest: nodes list images that way.
fn normalised_image(image: &str) -> std::borrow::Cow<'_, str> {
    if image.rfind(':').unwrap_or(0) <= image.rfind('/').unwrap_or(0) { format!("{image}:latest").into() } else { image.into() }
}

/// All live classes, each held once and counted.
#[derive(Debug, Default)]
pub struct ClassTable {
    slots: Vec<Option<(PodClass, u32)>>,
    /// Hash of a class to the slots that have it: classes are compared in place, never stored twice.
    by_hash: FxHashMap<u64, SmallVec<[ClassIx; 1]>>,
    free: Vec<ClassIx>,
}

impl ClassTable {
    /// The index of a class, made if it is new; one more pod holds it.
    pub fn acquire(&mut self, class: PodClass) -> ClassIx {
        let hash = FxBuildHasher.hash_one(&class);
        let same = self.by_hash.get(&hash).and_then(|list| list.iter().copied().find(|ix| self.get(*ix) == Some(&class)));
        if let Some(ix) = same {
            self.hold(ix);
            return ix;
        }
        let ix = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            ClassIx(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        self.slots[ix.at()] = Some((class, 1));
        self.by_hash.entry(hash).or_default().push(ix);
        ix
    }

    /// One more pod holds the class.
    pub fn hold(&mut self, ix: ClassIx) {
        if let Some(Some((_, count))) = self.slots.get_mut(ix.at()) {
            *count += 1;
        }
    }

    /// One pod less holds the class. True when it was the last and the class is gone, so that what others keep under this index must go too.
    pub fn release(&mut self, ix: ClassIx) -> bool {
        let Some(slot) = self.slots.get_mut(ix.at()) else { return false };
        match slot {
            Some((_, count)) if *count > 1 => {
                *count -= 1;
                false
            }
            Some((class, _)) => {
                let hash = FxBuildHasher.hash_one(&*class);
                *slot = None;
                if let Some(list) = self.by_hash.get_mut(&hash) {
                    list.retain(|other| *other != ix);
                    if list.is_empty() {
                        self.by_hash.remove(&hash);
                    }
                }
                self.free.push(ix);
                true
            }
            None => {
                debug_assert!(false, "a class was released once too often");
                false
            }
        }
    }

    /// How many pods hold the class.
    pub fn holds(&self, ix: ClassIx) -> u32 {
        self.slots.get(ix.at()).and_then(Option::as_ref).map_or(0, |(_, count)| *count)
    }

    /// The class at an index, if alive.
    pub fn get(&self, ix: ClassIx) -> Option<&PodClass> {
        self.slots.get(ix.at())?.as_ref().map(|(class, _)| class)
    }

    /// All live classes with the number of pods that hold each, by index.
    pub fn iter(&self) -> impl Iterator<Item = (ClassIx, &PodClass, u32)> {
        let live = |(at, slot): (usize, &'_ Option<(PodClass, u32)>)| slot.as_ref().map(|_| at);
        self.slots.iter().enumerate().filter_map(live).filter_map(|at| {
            let (class, count) = self.slots[at].as_ref()?;
            Some((ClassIx(u32::try_from(at).ok()?), class, *count))
        })
    }

    /// How many classes are alive.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

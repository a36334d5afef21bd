//! What is known of storage at home: objects of storage in; for rules, records that can be asked about nodes, and a version that says when an answer made
//! from them is outdated.
//!
//! On top lies what decisions have booked and the API server does not show yet ([`booking`]): a volume that is given to a claim, a claim that waits for a
//! volume near a node. An object that is seen in another version than it was booked in has the last word, as in upstream's assume cache.

mod apply;
mod booking;
mod devices;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashMap;

pub use self::{apply::StorageChange, booking::Found, devices::DeviceClaimRecord, settle::Settled};
use self::{booking::Booked, devices::DeviceClaims};
use crate::model::{
    affinity::SelectorMatcher,
    ids::PodUid,
    in_tree::{REGION, REGION_BETA, ZONE, ZONE_BETA, ZONES_DELIMITER},
    intern::{Interner, Sym},
    labels::Labels,
    selector::Selector,
    storage::{AttachmentFacts, CapacityFacts, ClaimFacts, ClaimRef, ClassFacts, CsiDriverFacts, CsiNodeFacts, VolumeFacts, VolumeSource},
    volumes::PodVolumes,
};

/// Objects of storage of the home cluster.
#[derive(Debug, Default)]
pub struct Storage {
    /// Grows with every change that an answer may rest on, those on single nodes left out.
    version: u64,
    claims: FxHashMap<Box<str>, ClaimEntry>,
    volumes: FxHashMap<Box<str>, VolumeEntry>,
    /// Names of volumes by class.
    volumes_by_class: FxHashMap<Box<str>, BTreeSet<Box<str>>>,
    classes: FxHashMap<Box<str>, Arc<ClassRecord>>,
    csi_nodes: FxHashMap<Box<str>, Arc<CsiNodeFacts>>,
    csi_drivers: FxHashMap<Box<str>, Arc<CsiDriverFacts>>,
    capacities: BTreeMap<Box<str>, Arc<CapacityRecord>>,
    attachments: FxHashMap<Box<str>, Arc<AttachmentFacts>>,
    /// Names of attachments by node.
    attached: FxHashMap<Box<str>, BTreeSet<Box<str>>>,
    /// How many volumes of pods on nodes of home are which claim, by `namespace/name`.
    used: FxHashMap<Box<str>, u32>,
    booked: FxHashMap<PodUid, Booked>,
    /// Claims of devices.
    pub devices: DeviceClaims,
}

#[derive(Debug)]
struct ClaimEntry {
    record: Arc<ClaimRecord>,
    /// The node that a decision has chosen for it.
    booked: Option<Sym>,
}

#[derive(Debug)]
struct VolumeEntry {
    record: Arc<VolumeRecord>,
    /// The claim that a decision has given it to.
    booked: Option<ClaimRef>,
}

/// A claim, interned where rules ask it about volumes.
#[derive(Debug)]
pub struct ClaimRecord {
    /// As the object says it.
    pub facts: Arc<ClaimFacts>,
    /// `spec.selector`; absent admits every volume.
    pub selector: Option<Result<Selector, Box<str>>>,
    selected_node: Option<Sym>,
}

/// A volume, interned where rules ask it about nodes.
#[derive(Debug)]
pub struct VolumeRecord {
    /// As the object says it.
    pub facts: Arc<VolumeFacts>,
    /// Its labels.
    pub labels: Labels,
    /// Zones and regions of its labels.
    pub topologies: Box<[Topology]>,
    affinity: Option<SelectorMatcher>,
    /// In the words of the driver, on nodes that leave it to that.
    translated: Option<SelectorMatcher>,
}

/// A zone or region label of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The label.
    pub key: Sym,
    /// The same label by today's name.
    pub key_today: Sym,
    /// The places that it names.
    pub values: Box<[Sym]>,
}

/// A class, interned where rules ask it about nodes.
#[derive(Debug)]
pub struct ClassRecord {
    /// As the object says it.
    pub facts: Arc<ClassFacts>,
    /// `allowedTopologies`; absent admits every node.
    pub topologies: Option<SelectorMatcher>,
}

/// What a driver can still make, interned where rules ask it about nodes.
#[derive(Debug)]
pub struct CapacityRecord {
    /// As the object says it.
    pub facts: Arc<CapacityFacts>,
    /// `nodeTopology`; what is absent or does not parse is nowhere.
    pub topology: Selector,
}

/// Labels of volumes that name a place, each with its name of today.
const TOPOLOGY_LABELS: [(&str, &str); 4] = [(ZONE_BETA, ZONE), (REGION_BETA, REGION), (ZONE, ZONE), (REGION, REGION)];

impl Storage {
    /// See the field.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A claim, with the node that is chosen for it, by the object or by a decision.
    pub fn claim(&self, key: &str) -> Option<(&Arc<ClaimRecord>, Option<Sym>)> {
        self.claims.get(key).map(|entry| (&entry.record, entry.booked.or(entry.record.selected_node)))
    }

    /// A claim as its object says it.
    pub fn claim_object(&self, key: &str) -> Option<&ClaimFacts> {
        self.claims.get(key).map(|entry| &*entry.record.facts)
    }

    /// A volume.
    pub fn volume(&self, name: &str) -> Option<&Arc<VolumeRecord>> {
        self.volumes.get(name).map(|entry| &entry.record)
    }

    /// Volumes of a class by name, each with the claim that it belongs to, by the object or by a decision.
    pub fn volumes_of(&self, class: &str) -> impl Iterator<Item = (&Arc<VolumeRecord>, Option<&ClaimRef>)> {
        let names = self.volumes_by_class.get(class).into_iter().flatten();
        let entries = names.filter_map(|name| self.volumes.get(name));
        entries.map(|entry| (&entry.record, entry.booked.as_ref().or(entry.record.facts.claim_ref.as_ref())))
    }

    /// A class.
    pub fn class(&self, name: &str) -> Option<&Arc<ClassRecord>> {
        self.classes.get(name)
    }

    /// What drivers tell of a node.
    pub fn csi_node(&self, name: &str) -> Option<&CsiNodeFacts> {
        self.csi_nodes.get(name).map(|facts| &**facts)
    }

    /// A driver.
    pub fn csi_driver(&self, name: &str) -> Option<&CsiDriverFacts> {
        self.csi_drivers.get(name).map(|facts| &**facts)
    }

    /// What drivers can still make for a class, by name.
    pub fn capacities_of(&self, class: &str) -> impl Iterator<Item = &Arc<CapacityRecord>> {
        self.capacities.values().filter(move |record| *record.facts.class == *class)
    }

    /// What is attached to a node, or is to be.
    pub fn attached_to(&self, node: &str) -> impl Iterator<Item = &AttachmentFacts> {
        let names = self.attached.get(node).into_iter().flatten();
        names.filter_map(|name| self.attachments.get(name)).map(|facts| &**facts)
    }

    /// Whether a pod on a node of home uses the claim.
    pub fn is_used(&self, key: &str) -> bool {
        self.used.contains_key(key)
    }

    /// A pod with these volumes is on a node of home from now on.
    pub fn mount(&mut self, namespace: &str, volumes: &PodVolumes) {
        for claim in volumes.claims() {
            *self.used.entry(format!("{namespace}/{claim}").into()).or_default() += 1;
        }
    }

    /// A pod with these volumes is gone from a node of home.
    pub fn unmount(&mut self, namespace: &str, volumes: &PodVolumes) {
        for claim in volumes.claims() {
            let key = format!("{namespace}/{claim}");
            let left = self.used.get_mut(&*key).map_or(0, |used| {
                *used -= 1;
                *used
            });
            if left == 0 {
                self.used.remove(&*key);
            }
        }
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        for entry in self.claims.values() {
            entry.booked.iter().chain(&entry.record.selected_node).for_each(|node| mark(*node));
            entry.record.selector.iter().flatten().for_each(|selector| selector.symbols(mark));
        }
        for VolumeEntry { record, .. } in self.volumes.values() {
            record.labels.symbols(mark);
            record.affinity.iter().chain(&record.translated).for_each(|affinity| affinity.symbols(mark));
            for topology in &record.topologies {
                mark(topology.key);
                mark(topology.key_today);
                topology.values.iter().for_each(|value| mark(*value));
            }
        }
        self.classes.values().flat_map(|record| &record.topologies).for_each(|topologies| topologies.symbols(mark));
        self.capacities.values().for_each(|record| record.topology.symbols(mark));
        self.devices.symbols(mark);
    }

    /// Recounts what is derived from `mounted`: namespace and volumes of each pod on a node of home. Empty when all is well.
    pub fn consistency_check<'a>(&self, mounted: impl Iterator<Item = (&'a str, &'a PodVolumes)>) -> Vec<String> {
        let mut used: FxHashMap<Box<str>, u32> = FxHashMap::default();
        for (namespace, volumes) in mounted {
            volumes.claims().for_each(|claim| *used.entry(format!("{namespace}/{claim}").into()).or_default() += 1);
        }
        let mut faults = Vec::new();
        if used != self.used {
            faults.push("claims are not counted as the pods on nodes use them".into());
        }
        if self.volumes_by_class.values().map(BTreeSet::len).sum::<usize>() != self.volumes.len() {
            faults.push("volumes by class are not the volumes".into());
        }
        faults
    }
}

impl ClaimRecord {
    fn new(facts: ClaimFacts, table: &mut Interner) -> Self {
        let selector = facts.selector.as_ref().map(|selector| Selector::parse(Some(selector), table));
        let selected_node = facts.selected_node.as_ref().map(|node| table.intern(node));
        Self { facts: Arc::new(facts), selector, selected_node }
    }
}

impl VolumeRecord {
    fn new(facts: VolumeFacts, table: &mut Interner) -> Self {
        let labels = Labels::intern(&facts.labels, table);
        let affinity = facts.node_affinity.as_ref().map(|affinity| SelectorMatcher::new(affinity, table));
        let translated = if let VolumeSource::InTree { plugin, .. } = facts.source
            && plugin.is_migrated()
        {
            plugin.translated(facts.node_affinity.as_ref(), &facts.labels).map(|affinity| SelectorMatcher::new(&affinity, table))
        } else {
            None
        };
        let topologies = TOPOLOGY_LABELS.into_iter().filter_map(|(key, today)| topology(&facts, key, today, table)).collect();
        Self { facts: Arc::new(facts), labels, topologies, affinity, translated }
    }

    /// Whether a node with these labels can reach it.
    pub fn is_reachable(&self, labels: &Labels, csi_node: Option<&CsiNodeFacts>, table: &Interner) -> bool {
        let affinity = match &self.facts.source {
            VolumeSource::InTree { plugin, .. } if plugin.is_migrated() && csi_node.is_some_and(|node| node.has_migrated(*plugin)) => {
                &self.translated
            }
            _ => &self.affinity,
        };
        affinity.as_ref().is_none_or(|affinity| affinity.matches_labels(labels, table))
    }

    /// The one value of a label that a node must have to reach it, if there is such a value, by what the object itself says.
    pub fn only_value_of(&self, key: Sym) -> Option<Sym> {
        self.affinity.as_ref().and_then(|affinity| affinity.only_value_of(key))
    }

    /// Whether a node with these labels can reach it, by what the object itself says.
    pub fn is_near(&self, labels: &Labels, table: &Interner) -> bool {
        self.affinity.as_ref().is_none_or(|affinity| affinity.matches_labels(labels, table))
    }
}

/// What one label of a volume says; nothing if it is not there, or names a place that has no name.
fn topology(facts: &VolumeFacts, key: &str, today: &str, table: &mut Interner) -> Option<Topology> {
    let (_, text) = facts.labels.iter().find(|(name, _)| **name == *key)?;
    let zones: Vec<&str> = text.split(ZONES_DELIMITER).map(str::trim).collect();
    if zones.iter().any(|zone| zone.is_empty()) {
        return None;
    }
    let values = zones.into_iter().map(|zone| table.intern(zone)).collect();
    Some(Topology { key: table.intern(key), key_today: table.intern(today), values })
}

impl ClassRecord {
    fn new(facts: ClassFacts, table: &mut Interner) -> Self {
        let terms = &facts.allowed_topologies;
        let topologies = (!terms.terms.is_empty()).then(|| SelectorMatcher::new(terms, table));
        Self { facts: Arc::new(facts), topologies }
    }
}

impl CapacityRecord {
    fn new(facts: CapacityFacts, table: &mut Interner) -> Self {
        let topology = Selector::parse(facts.node_topology.as_ref(), table).unwrap_or_default();
        Self { facts: Arc::new(facts), topology }
    }
}

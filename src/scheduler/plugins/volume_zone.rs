//! `VolumeZone`: bound volumes are in the node's zone and region. Claims of the pod in, a rule about labels of nodes out.
//!
//! Source: kube-scheduler v1.37.1 `VolumeZone`.

use crate::{
    model::{
        class::PodClass,
        in_tree::{REGION, REGION_BETA, ZONE, ZONE_BETA},
        intern::Sym,
        node::NodeRecord,
        storage::{BindingMode, VolumeFacts},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Reads, Refusal},
        nodes::Nodes,
        plugins::storage_rules::{at_home, nowhere_at_home, until_changed},
        storage::{StorageChange, Topology},
    },
};

const REASON: &str = "node(s) had no available volume zone";
const LABELS: [&str; 4] = [ZONE_BETA, REGION_BETA, ZONE, REGION];

/// See the module.
pub struct VolumeZone;

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_LABEL | Changes::STORAGE
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        match change {
            Change::Storage(StorageChange::Class(None, new)) => new.binding_mode == BindingMode::WaitForFirstConsumer,
            Change::Storage(StorageChange::Claim(_, claim)) => {
                let is_own = || *claim.namespace == *nodes.symbols.text(class.namespace);
                class.volumes.as_ref().is_some_and(|volumes| is_own() && volumes.claims().any(|name| *name == *claim.name))
            }
            Change::Storage(StorageChange::Volume(None, _)) => true,
            Change::Storage(StorageChange::Volume(Some(old), new)) => places(old).ne(places(new)),
            Change::Storage(_) => false,
            _ => true,
        }
    }
}

/// What a volume says of zones and regions.
fn places(facts: &VolumeFacts) -> impl Iterator<Item = Option<&str>> {
    LABELS.into_iter().map(|key| facts.labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value))
}

impl FilterPlugin for VolumeZone {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        let Some(volumes) = &class.volumes else { return CompiledFilter::Skip };
        let namespace = nodes.symbols.text(class.namespace);
        let mut topologies = Vec::new();
        let mut any = false;
        for claim in volumes.claims() {
            any = true;
            match of_claim(namespace, claim, nodes) {
                Ok(places) => topologies.extend_from_slice(places),
                Err(why) => return until_changed(nowhere_at_home(Refusal::unresolvable(why), nodes), nodes),
            }
        }
        match (any, topologies.is_empty()) {
            (false, _) => CompiledFilter::Skip,
            (true, true) => until_changed(CompiledFilter::Skip, nodes),
            (true, false) => {
                let labels = LABELS.into_iter().filter_map(|key| nodes.symbols.get(key)).collect();
                until_changed(at_home(InZone { topologies: topologies.into(), labels }), nodes)
            }
        }
    }
}

/// Where the volume of a claim is. The error says why that cannot be told.
fn of_claim<'n>(namespace: &str, claim: &str, nodes: &'n Nodes) -> Result<&'n [Topology], String> {
    if claim.is_empty() {
        return Err("PersistentVolumeClaim had no name".into());
    }
    let storage = &nodes.storage;
    let facts = storage.claim_object(&format!("{namespace}/{claim}"));
    let facts = facts.ok_or_else(|| format!("persistentvolumeclaim {claim:?} not found"))?;
    if !facts.volume.is_empty() {
        let volume = storage.volume(&facts.volume).ok_or_else(|| format!("persistentvolume {:?} not found", facts.volume))?;
        return Ok(&volume.topologies);
    }
    if facts.class.is_empty() {
        return Err("PersistentVolumeClaim had no pv name and storageClass name".into());
    }
    let class = storage.class(&facts.class).ok_or_else(|| format!("storageclass.storage.k8s.io {:?} not found", facts.class))?;
    match class.facts.binding_mode {
        BindingMode::WaitForFirstConsumer => Ok(&[]),
        BindingMode::Immediate => Err("PersistentVolume had no name".into()),
    }
}

struct InZone {
    topologies: Box<[Topology]>,
    /// Labels that name a place. A node without any takes every volume.
    labels: Box<[Sym]>,
}

impl NodeRule for InZone {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        let value = |key: Sym| node.labels.get(key);
        if self.labels.iter().all(|key| value(*key).is_none()) {
            return true;
        }
        self.topologies.iter().all(|topology| {
            let place = value(topology.key).or_else(|| value(topology.key_today));
            place.is_some_and(|place| topology.values.contains(&place))
        })
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        (!self.admits(node, nodes)).then(|| Refusal::unresolvable(REASON))
    }
}

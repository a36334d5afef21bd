//! `NodeVolumeLimits`: no more volumes of a CSI driver on a node than it can attach. Volumes of the pod in, a rule about what runs on a node out.
//!
//! A volume counts once per node, however many pods use it. Claims without a volume count as one that the class's provisioner will make; disks of
//! plugins that were built in as those of the driver that replaced them. Source: kube-scheduler v1.37.1 `NodeVolumeLimits`.

use std::collections::BTreeSet;

use crate::{
    model::{
        class::PodClass,
        in_tree::InTreePlugin,
        node::NodeRecord,
        storage::{ClaimFacts, VolumeSource},
        volumes::{PodVolume, PodVolumes},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Reads, Refusal},
        nodes::Nodes,
        plugins::storage_rules::{at_home, until_changed},
        storage::{Storage, StorageChange},
    },
};

const REASON: &str = "node(s) exceed max volume count";

/// See the module.
pub struct NodeVolumeLimits;

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::POD_DELETE | Changes::STORAGE
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        let Some(volumes) = &class.volumes else { return false };
        match change {
            Change::PodDelete { class: gone, .. } => gone.volumes.as_ref().is_some_and(|freed| freed.is_attached()),
            Change::Storage(StorageChange::CsiNode(None, _)) => true,
            Change::Storage(StorageChange::CsiNode(Some(old), new)) => new.drivers.iter().any(|(driver, limit)| {
                let before = old.drivers.iter().rev().find(|(name, _)| name == driver);
                limit.unwrap_or(0) > before.and_then(|(_, limit)| *limit).unwrap_or(0)
            }),
            Change::Storage(StorageChange::Claim(None, claim)) => {
                *claim.namespace == *nodes.symbols.text(class.namespace) && volumes.all_claims().any(|(name, _)| name == &*claim.name)
            }
            Change::Storage(StorageChange::Detached(gone)) => {
                volumes.claims().next().is_some() || volumes.in_tree().any(|(plugin, _)| plugin.driver() == &*gone.attacher)
            }
            _ => false,
        }
    }
}

impl FilterPlugin for NodeVolumeLimits {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        let Some(volumes) = class.volumes.as_ref().filter(|volumes| volumes.is_attached()) else { return CompiledFilter::Skip };
        let namespace = nodes.symbols.text(class.namespace);
        let unusable = volumes.all_claims().find_map(|(claim, is_ephemeral)| {
            let missing = || Some(format!("looking up PVC {namespace}/{claim}: persistentvolumeclaim {claim:?} not found"));
            let facts = nodes.storage.claim_object(&format!("{namespace}/{claim}"));
            facts.map_or_else(missing, |facts| not_own(volumes, facts, namespace).filter(|_| is_ephemeral))
        });
        if let Some(why) = unusable {
            return until_changed(at_home(Unusable(Refusal::unresolvable(why))), nodes);
        }
        let of = |migrated: bool| counted(namespace, volumes, migrated, &nodes.storage);
        let rule = Limits { plain: of(false).collect(), migrated: of(true).collect() };
        if rule.migrated.is_empty() { until_changed(CompiledFilter::Skip, nodes) } else { until_changed(at_home(rule), nodes) }
    }
}

/// Why an ephemeral claim is not the pod's own, if so.
pub fn not_own(volumes: &PodVolumes, claim: &ClaimFacts, namespace: &str) -> Option<String> {
    let (name, uid) = volumes.owner.as_ref()?;
    let why = || format!("PVC {namespace}/{} was not created for pod {namespace}/{name} (pod is not owner)", claim.name);
    (claim.controller_uid.as_ref() != Some(uid)).then(why)
}

/// A claim is not there, or another pod's, so how it counts cannot be told.
struct Unusable(Refusal);

impl NodeRule for Unusable {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn refuses(&self, _node: &NodeRecord, _nodes: &Nodes) -> Option<Refusal> {
        Some(self.0.clone())
    }
}

/// A volume as a node counts it: the driver, and what it calls the volume.
type Counted = (Box<str>, Box<str>);

/// What of a pod's volumes counts. `migrated`: on a node that tells of its drivers, where disks of old count too.
fn counted<'a>(namespace: &'a str, volumes: &'a PodVolumes, migrated: bool, storage: &'a Storage) -> impl Iterator<Item = Counted> + 'a {
    volumes.list.iter().filter_map(move |volume| match volume {
        PodVolume::Claim(claim) | PodVolume::Ephemeral(claim) => {
            of_claim(storage.claim_object(&format!("{namespace}/{claim}"))?, migrated, storage)
        }
        PodVolume::Disk(crate::model::volumes::Disk::InTree { plugin, id, .. }) if migrated && plugin.is_migrated() => {
            Some((plugin.driver().into(), plugin.inline_handle(id)?))
        }
        PodVolume::Disk(_) | PodVolume::Csi(_) => None,
    })
}

fn of_claim(claim: &ClaimFacts, migrated: bool, storage: &Storage) -> Option<Counted> {
    let Some(volume) = storage.volume(&claim.volume).filter(|_| !claim.volume.is_empty()) else {
        return to_be_made(claim, migrated, storage);
    };
    let found: Counted = match &volume.facts.source {
        VolumeSource::Csi { driver, handle } => (driver.clone(), handle.clone()),
        VolumeSource::InTree { plugin, id } if migrated && plugin.is_migrated() => {
            (plugin.driver().into(), plugin.handle(id, &volume.facts.labels)?)
        }
        VolumeSource::InTree { .. } | VolumeSource::Other => return None,
    };
    (!found.0.is_empty() && !found.1.is_empty()).then_some(found)
}

/// A claim that has no volume: one of its class's provisioner, under a name that no volume has.
fn to_be_made(claim: &ClaimFacts, migrated: bool, storage: &Storage) -> Option<Counted> {
    let class = storage.class(&claim.class).filter(|_| !claim.class.is_empty())?;
    let handle = format!("\0{}/{}", claim.namespace, claim.name).into();
    match InTreePlugin::named(&class.facts.provisioner) {
        Some(plugin) if migrated && plugin.is_migrated() => Some((plugin.driver().into(), handle)),
        Some(_) => None,
        None => (!class.facts.provisioner.is_empty()).then(|| (class.facts.provisioner.clone(), handle)),
    }
}

struct Limits {
    /// The pod's volumes on a node of whose drivers nothing is known.
    plain: BTreeSet<Counted>,
    /// On any other.
    migrated: BTreeSet<Counted>,
}

impl NodeRule for Limits {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        let (storage, name) = (&nodes.storage, nodes.symbols.text(node.name));
        let csi_node = storage.csi_node(name);
        let wanted = if csi_node.is_some() { &self.migrated } else { &self.plain };
        let missing = wanted.iter().map(|(driver, _)| driver).find(|driver| {
            let is_needed = storage.csi_driver(driver).is_some_and(|driver| driver.needed_on_node);
            is_needed && csi_node.is_none_or(|node| !node.has(driver))
        });
        if let Some(driver) = missing {
            return Some(Refusal::unschedulable(format!("{driver} CSI driver is not installed on the node")));
        }
        let csi_node = csi_node?;
        if wanted.iter().all(|(driver, _)| csi_node.limit(driver).is_none()) {
            return None;
        }
        let mut attached: BTreeSet<Counted> = BTreeSet::new();
        for (namespace, volumes) in &node.volumes {
            attached.extend(counted(nodes.symbols.text(*namespace), volumes, true, storage));
        }
        let new: Vec<&Counted> = wanted.iter().filter(|volume| !attached.contains(*volume)).collect();
        attached.extend(storage.attached_to(name).filter_map(|attachment| {
            let volume = storage.volume(attachment.volume.as_ref()?)?;
            let VolumeSource::Csi { handle, .. } = &volume.facts.source else { return None };
            (!attachment.attacher.is_empty()).then(|| (attachment.attacher.clone(), handle.clone()))
        }));
        let too_many = |driver: &str| {
            let used = attached.iter().filter(|(known, _)| **known == *driver).count();
            let more = new.iter().filter(|(known, _)| **known == *driver).count();
            csi_node.limit(driver).is_some_and(|limit| i64::try_from(used + more).unwrap_or(i64::MAX) > limit)
        };
        new.iter().any(|(driver, _)| too_many(driver)).then(|| Refusal::unschedulable(REASON))
    }
}

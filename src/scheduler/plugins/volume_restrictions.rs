//! `VolumeRestrictions`: disks that one node, and claims that one pod may use. Volumes of the pod in, a rule about what runs on a node out.
//!
//! Source: kube-scheduler v1.37.1 `VolumeRestrictions`; which disks are in each other's way is [`Disk::conflicts`].

use std::ptr;

use crate::{
    model::{
        class::PodClass,
        node::NodeRecord,
        volumes::{Disk, PodVolumes},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Premise, Reads, Refusal},
        nodes::Nodes,
        plugins::storage_rules::{at_home, nowhere_at_home, until_changed},
        storage::StorageChange,
    },
};

const DISK: &str = "node(s) had no available disk";
const ONE_POD: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

/// See the module.
pub struct VolumeRestrictions;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::POD_DELETE | Changes::NODE_ADD | Changes::STORAGE
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        let Some(volumes) = &class.volumes else { return !matches!(change, Change::Storage(_)) };
        match change {
            Change::PodDelete { class: gone, .. } => {
                let freed = gone.volumes.as_ref().filter(|_| gone.namespace == class.namespace);
                freed.is_some_and(|freed| {
                    conflict(volumes, freed) || volumes.claims().any(|claim| freed.claims().any(|other| other == claim))
                })
            }
            Change::Storage(StorageChange::Claim(None, claim)) => {
                *claim.namespace == *nodes.symbols.text(class.namespace) && volumes.claims().any(|name| name == &*claim.name)
            }
            Change::Storage(_) => false,
            _ => true,
        }
    }
}

fn conflict(wanted: &PodVolumes, used: &PodVolumes) -> bool {
    wanted.disks().any(|disk| used.disks().any(|used| disk.conflicts(used)))
}

impl FilterPlugin for VolumeRestrictions {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        let Some(volumes) = &class.volumes else { return CompiledFilter::Skip };
        let disks: Box<[Disk]> = volumes.disks().filter(|disk| disk.is_exclusive()).cloned().collect();
        if disks.is_empty() && volumes.claims().next().is_none() {
            return CompiledFilter::Skip;
        }
        let namespace = nodes.symbols.text(class.namespace);
        let mut one_pod: Vec<Box<str>> = Vec::new();
        for claim in volumes.claims() {
            let Some(facts) = nodes.storage.claim_object(&format!("{namespace}/{claim}")) else {
                let refusal = Refusal::unresolvable(format!("persistentvolumeclaim {claim:?} not found"));
                return until_changed(nowhere_at_home(refusal, nodes), nodes);
            };
            if facts.is_for_one_pod() && !one_pod.iter().any(|known| **known == *claim) {
                one_pod.push(claim.into());
            }
        }
        let keys: Box<[String]> = one_pod.iter().map(|claim| format!("{namespace}/{claim}")).collect();
        let conflicts = in_use(&keys, nodes);
        let outcome = if disks.is_empty() && conflicts == 0 {
            CompiledFilter::Skip
        } else {
            at_home(Restrictions { disks, one_pod: one_pod.into(), conflicts })
        };
        let outcome = CompiledFilter::Until(Box::new(InUse { keys, conflicts }), Box::new(outcome));
        until_changed(outcome, nodes)
    }
}

fn in_use(keys: &[String], nodes: &Nodes) -> usize {
    keys.iter().filter(|key| nodes.storage.is_used(key)).count()
}

/// How many of the claims for one pod are in use.
struct InUse {
    keys: Box<[String]>,
    conflicts: usize,
}

impl Premise for InUse {
    fn outdated(&self, nodes: &Nodes) -> bool {
        in_use(&self.keys, nodes) != self.conflicts
    }
}

struct Restrictions {
    disks: Box<[Disk]>,
    /// Names of claims that one pod alone may use.
    one_pod: Box<[Box<str>]>,
    /// How many of them are in use, wherever.
    conflicts: usize,
}

impl Restrictions {
    /// How many volumes on a node are one of the claims. By name alone, as upstream counts when it takes pods away.
    fn uses(&self, node: &NodeRecord) -> usize {
        let claims = node.volumes.iter().flat_map(|(_, volumes)| volumes.claims());
        claims.filter(|claim| self.one_pod.iter().any(|name| **name == **claim)).count()
    }

    /// Claims in use, if the node is as given: preemption asks about nodes without some of their pods.
    fn conflicts_with(&self, node: &NodeRecord, nodes: &Nodes) -> usize {
        let real = nodes.find_sym(node.cluster, node.name).map(|ix| nodes.get(ix));
        match real.filter(|real| !ptr::eq(*real, node)) {
            Some(real) => (self.conflicts + self.uses(node)).saturating_sub(self.uses(real)),
            None => self.conflicts,
        }
    }
}

impl NodeRule for Restrictions {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        let mut used = node.volumes.iter().flat_map(|(_, volumes)| volumes.disks());
        if !self.disks.is_empty() && used.any(|used| self.disks.iter().any(|disk| disk.conflicts(used))) {
            return Some(Refusal::unschedulable(DISK));
        }
        (self.conflicts > 0 && self.conflicts_with(node, nodes) > 0).then(|| Refusal::unschedulable(ONE_POD))
    }
}

//! Whether what was written for a pod's volumes has come true: objects as the watch shows them in; done, not yet, or why it never will be, out.
//!
//! Source: `checkBindings` of kube-scheduler v1.37.1, with its texts.

use super::{VolumeRecord, booking::Object};
use crate::{
    model::{
        ids::{ClusterId, NodeIx, PodUid},
        node::NodeRecord,
    },
    scheduler::nodes::Nodes,
};

/// How far the volumes of a pod are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// All are bound.
    Done,
    /// Some are not bound yet.
    NotYet,
    /// They will not be; the pod is to be decided about again.
    Failed(String),
}

impl Nodes {
    /// How far the volumes are that were booked for a pod.
    pub fn volumes_settled(&self, uid: &PodUid) -> Settled {
        let Some(booked) = self.storage.booked.get(uid) else { return Settled::Done };
        let ix = self.find_sym(ClusterId::HOME, booked.node).filter(|ix| self.get(*ix).present);
        let Some(ix) = ix else {
            let name = self.symbols.text(booked.node);
            return Settled::Failed(format!("failed to get node {name:?}: node {name:?} not found"));
        };
        for step in &booked.steps {
            let settled = match &step.object {
                Object::Volume(volume, claim) => self.binding_settled(volume, claim, &step.shown_in, ix),
                Object::Claim(claim) => self.provision_settled(claim, &step.shown_in, ix),
            };
            if settled != Settled::Done {
                return settled;
            }
        }
        Settled::Done
    }

    fn binding_settled(&self, volume: &str, claim: &str, shown_in: &str, node: NodeIx) -> Settled {
        let Some(record) = self.storage.volume(volume) else {
            return Settled::Failed(format!("failed to check binding: persistentvolumes {volume:?} not found"));
        };
        let Some(claim) = self.storage.claim_object(claim) else {
            return Settled::Failed(format!("failed to check binding: persistentvolumeclaims {claim:?} not found"));
        };
        if is_older(&record.facts.resource_version, shown_in) {
            return Settled::NotYet;
        }
        if !self.reaches(self.get(node), record) {
            return self.out_of_reach(volume, node);
        }
        if record.facts.claim_ref.as_ref().is_none_or(|claim_ref| claim_ref.uid.is_empty()) {
            return Settled::Failed(format!("ClaimRef got reset for pv {volume:?}"));
        }
        if claim.is_fully_bound() { Settled::Done } else { Settled::NotYet }
    }

    fn provision_settled(&self, claim: &str, shown_in: &str, node: NodeIx) -> Settled {
        let Some(claim) = self.storage.claim_object(claim) else {
            return Settled::Failed(format!("failed to check provisioning pvc: persistentvolumeclaims {claim:?} not found"));
        };
        if is_older(&claim.resource_version, shown_in) {
            return Settled::NotYet;
        }
        // A provisioner that cannot takes the annotation away.
        if claim.selected_node.as_deref() != Some(self.name(node)) {
            return Settled::Failed(format!("provisioning failed for PVC {:?}", claim.name));
        }
        if !claim.volume.is_empty() {
            let Some(record) = self.storage.volume(&claim.volume) else { return Settled::NotYet };
            if !self.reaches(self.get(node), record) {
                return self.out_of_reach(&claim.volume, node);
            }
        }
        if claim.is_fully_bound() { Settled::Done } else { Settled::NotYet }
    }

    fn out_of_reach(&self, volume: &str, node: NodeIx) -> Settled {
        let name = self.name(node);
        Settled::Failed(format!("pv {volume:?} node affinity doesn't match node {name:?}: no matching NodeSelectorTerms"))
    }

    /// Whether a node can reach a volume.
    pub fn reaches(&self, node: &NodeRecord, volume: &VolumeRecord) -> bool {
        volume.is_reachable(&node.labels, self.storage.csi_node(self.symbols.text(node.name)), &self.symbols)
    }
}

/// Whether one version of an object came before another. API servers count them.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u128>(), than.parse::<u128>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

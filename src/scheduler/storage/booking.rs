//! What decisions book of storage before the API server shows it: volumes given to claims, nodes chosen for claims that wait for a volume. In: what was
//! found for a pod on its node, and what became of the writes. Out: booked objects that rules see at once, and the patches that make it true.

use super::Storage;
use crate::{
    model::{
        ids::{NodeIx, PodUid},
        intern::Sym,
        storage::{ClaimFacts, ClaimRef, VolumeFacts},
    },
    scheduler::nodes::Nodes,
};

/// How a pod gets its volumes on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Volumes that are there, each with the claim that gets it, as `namespace/name`.
    pub bindings: Vec<(Box<str>, Box<str>)>,
    /// Claims for which a volume is to be made.
    pub provisions: Vec<Box<str>>,
}

/// What is booked for one pod.
#[derive(Debug)]
pub(super) struct Booked {
    /// Name of its node.
    pub node: Sym,
    pub steps: Vec<Step>,
}

/// One object that is booked.
#[derive(Debug)]
pub(super) struct Step {
    pub object: Object,
    /// Path and patch; none if the object says it already.
    patch: Option<(String, String)>,
    /// The version that it was booked in.
    booked_in: Box<str>,
    /// The version from which on the object shows it.
    pub shown_in: Box<str>,
    is_written: bool,
}

#[derive(Debug)]
pub(super) enum Object {
    /// A volume and its claim.
    Volume(Box<str>, Box<str>),
    /// A claim that a volume is made for.
    Claim(Box<str>),
}

impl Nodes {
    /// Books what was found for a pod on a node, in place of what it had booked before. The error says what is not as it was found.
    pub fn book_volumes(&mut self, uid: &PodUid, node: NodeIx, found: &Found) -> Result<(), String> {
        self.storage.give_back(uid);
        let (node, name) = (self.get(node).name, self.name(node).to_owned());
        let mut booked = Booked { node, steps: Vec::new() };
        let outcome = self.storage.book(&mut booked, found, &name);
        self.storage.booked.insert(uid.clone(), booked);
        if outcome.is_err() {
            self.storage.give_back(uid);
        }
        outcome
    }
}

impl Storage {
    fn book(&mut self, booked: &mut Booked, found: &Found, node: &str) -> Result<(), String> {
        let missing = |what: &str, name: &str| format!("{what} {name:?} not found");
        for (volume, claim) in &found.bindings {
            let facts =
                self.claims.get(claim).map(|entry| entry.record.facts.clone()).ok_or_else(|| missing("persistentvolumeclaims", claim))?;
            let entry = self.volumes.get_mut(volume).ok_or_else(|| missing("persistentvolumes", volume))?;
            let version = entry.record.facts.resource_version.clone();
            let patch = volume_patch(&entry.record.facts, &facts);
            if patch.is_some() {
                entry.booked = Some(ClaimRef { namespace: facts.namespace.clone(), name: facts.name.clone(), uid: facts.uid.clone() });
                self.version += 1;
            }
            booked.steps.push(Step::new(Object::Volume(volume.clone(), claim.clone()), patch, version));
        }
        for claim in &found.provisions {
            let entry = self.claims.get_mut(claim).ok_or_else(|| missing("persistentvolumeclaims", claim))?;
            let version = entry.record.facts.resource_version.clone();
            let patch = claim_patch(&entry.record.facts, node);
            entry.booked = Some(booked.node);
            self.version += 1;
            booked.steps.push(Step::new(Object::Claim(claim.clone()), patch, version));
        }
        Ok(())
    }

    /// The patches that make true what is booked for a pod, in order. Empty if every object says it already; `None` if nothing is booked.
    pub fn patches_for(&self, uid: &PodUid) -> Option<Vec<(String, String)>> {
        self.booked.get(uid).map(|booked| booked.steps.iter().filter_map(|step| step.patch.clone()).collect())
    }

    /// The API server took the first of a pod's patches, and answered with these versions of the objects.
    pub fn note_written(&mut self, uid: &PodUid, versions: &[Box<str>]) {
        let Some(booked) = self.booked.get_mut(uid) else { return };
        let steps = booked.steps.iter_mut().filter(|step| step.patch.is_some());
        for (step, version) in steps.zip(versions) {
            step.shown_in = version.clone();
            step.is_written = true;
        }
    }

    /// Gives back what is booked for a pod, unless it is written already: then the object itself will tell. True if there was something.
    pub fn give_back(&mut self, uid: &PodUid) -> bool {
        let Some(booked) = self.booked.remove(uid) else { return false };
        let mut was_any = false;
        for step in booked.steps.iter().filter(|step| !step.is_written) {
            was_any |= match &step.object {
                Object::Volume(volume, _) => self
                    .volumes
                    .get_mut(volume)
                    .is_some_and(|entry| entry.record.facts.resource_version == step.booked_in && entry.booked.take().is_some()),
                Object::Claim(claim) => self
                    .claims
                    .get_mut(claim)
                    .is_some_and(|entry| entry.record.facts.resource_version == step.booked_in && entry.booked.take().is_some()),
            };
        }
        self.version += u64::from(was_any);
        was_any
    }

    /// Pods for which something is booked, in no order that matters.
    pub fn booked_pods(&self) -> impl Iterator<Item = &PodUid> {
        self.booked.keys()
    }
}

impl Step {
    fn new(object: Object, patch: Option<(String, String)>, version: Box<str>) -> Self {
        Self { object, patch, booked_in: version.clone(), shown_in: version, is_written: false }
    }
}

/// Gives a volume to a claim, as upstream's `GetBindVolumeToClaim`; only this version of the volume.
fn volume_patch(volume: &VolumeFacts, claim: &ClaimFacts) -> Option<(String, String)> {
    let reserved = volume.claim_ref.as_ref().filter(|claim_ref| claim_ref.is_for(claim));
    let mut metadata = serde_json::json!({ "resourceVersion": &*volume.resource_version });
    if !volume.uid.is_empty() {
        metadata["uid"] = (&*volume.uid).into();
    }
    let marks = reserved.is_none() && !volume.bound_by_controller;
    if marks {
        metadata["annotations"] = serde_json::json!({ "pv.kubernetes.io/bound-by-controller": "yes" });
    }
    let mut patch = serde_json::json!({ "metadata": metadata });
    let refers = reserved.is_none_or(|claim_ref| claim_ref.uid != claim.uid);
    if refers {
        patch["spec"]["claimRef"] = serde_json::json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": &*claim.namespace,
            "name": &*claim.name,
            "uid": &*claim.uid,
            "resourceVersion": &*claim.resource_version,
        });
    }
    (marks || refers).then(|| (format!("/api/v1/persistentvolumes/{}", volume.name), patch.to_string()))
}

/// Names the node near which a claim wants its volume; only this version of the claim.
fn claim_patch(claim: &ClaimFacts, node: &str) -> Option<(String, String)> {
    if claim.selected_node.as_deref() == Some(node) {
        return None;
    }
    let patch = serde_json::json!({ "metadata": {
        "resourceVersion": &*claim.resource_version,
        "annotations": { "volume.kubernetes.io/selected-node": node },
    }});
    let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/{}", claim.namespace, claim.name);
    Some((path, patch.to_string()))
}

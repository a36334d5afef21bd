//! Pods by node, as preemption looks at them. In: pods as they come, change and go. Out: who is on a node, in upstream's order, and what is known of each.

use super::Cache;
use crate::model::{
    ids::{ClassIx, NodeIx, PodUid},
    labels::Labels,
    pod::PodFacts,
    short_text::ShortText,
    time::Timestamp,
};

/// When a pod began that does not say it: after all others.
pub const NOT_STARTED: Timestamp = Timestamp(u64::MAX);

/// A pod on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// The pod.
    pub uid: PodUid,
    /// Its class.
    pub class: ClassIx,
    /// Its priority.
    pub priority: i32,
    /// `status.startTime`, or [`NOT_STARTED`].
    pub started: Timestamp,
    /// It is a pod of the home cluster, which we may end.
    pub is_home: bool,
    /// A scheduler preempted it, and it is being deleted.
    pub is_leaving: bool,
}

/// What is kept of a pod beside its place, whether it is on a node or waits.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// All its labels.
    pub labels: Labels,
    /// `metadata.name`; empty for pods of compute clusters.
    pub name: ShortText,
    started: Option<Timestamp>,
    is_leaving: bool,
}

impl Cache {
    /// Who is on a node. A pod that leaves is replaced by the last one, as upstream's list has it.
    pub fn residents(&self, node: NodeIx) -> &[Resident] {
        self.residents.get(node.at()).map_or(&[], Vec::as_slice)
    }

    /// All labels of a pod.
    pub fn labels_of(&self, uid: &PodUid) -> Option<&Labels> {
        self.known.get(uid).map(|known| &known.labels)
    }

    /// `metadata.name` of a pod of the home cluster.
    pub fn name_of(&self, uid: &PodUid) -> &str {
        self.known.get(uid).map_or("", |known| &known.name)
    }

    /// Keeps what a pod's object says beside its class.
    pub(super) fn note(&mut self, facts: &PodFacts, labels: Labels) {
        let known = self.known.entry(facts.uid.clone()).or_default();
        let is_relabelled = known.labels != labels;
        known.labels = labels;
        if facts.cluster == crate::model::ids::ClusterId::HOME && known.name != facts.key.name {
            known.name = facts.key.name.clone();
        }
        let is_leaving = facts.deleting && facts.preempted;
        if !is_relabelled && (known.started, known.is_leaving) == (facts.started, is_leaving) {
            return;
        }
        (known.started, known.is_leaving) = (facts.started, is_leaving);
        let Some(node) = self.pods.get(&facts.uid).map(|placed| placed.node) else { return };
        if let Some(resident) = self.resident_mut(node, &facts.uid) {
            resident.started = facts.started.unwrap_or(NOT_STARTED);
            resident.is_leaving = is_leaving;
            // What dry runs have found on the node may not hold any more.
            self.nodes.touch_usage(node);
        }
    }

    /// We have ordered a pod's end, or the order failed: the watch has not told yet.
    pub fn set_leaving(&mut self, uid: &PodUid, is_leaving: bool) {
        let known = self.known.get(uid).is_some_and(|known| known.is_leaving);
        let Some(node) = self.pods.get(uid).map(|placed| placed.node) else { return };
        if let Some(resident) = self.resident_mut(node, uid) {
            resident.is_leaving = is_leaving || known;
        }
    }

    pub(super) fn settle(&mut self, uid: &PodUid, node: NodeIx, class: ClassIx, is_home: bool) {
        let known = self.known.get(uid);
        let resident = Resident {
            uid: uid.clone(),
            class,
            priority: self.classes.get(class).map_or(0, |class| class.priority),
            started: known.and_then(|known| known.started).unwrap_or(NOT_STARTED),
            is_home,
            is_leaving: known.is_some_and(|known| known.is_leaving),
        };
        if self.residents.len() <= node.at() {
            self.residents.resize_with(node.at() + 1, Vec::new);
        }
        self.residents[node.at()].push(resident);
    }

    pub(super) fn unsettle(&mut self, uid: &PodUid, node: NodeIx) {
        let Some(here) = self.residents.get_mut(node.at()) else { return };
        if let Some(at) = here.iter().position(|resident| resident.uid == *uid) {
            here.swap_remove(at);
        }
    }

    pub(super) fn resettle(&mut self, uid: &PodUid, node: NodeIx, class: ClassIx) {
        let priority = self.classes.get(class).map_or(0, |class| class.priority);
        if let Some(resident) = self.resident_mut(node, uid) {
            (resident.class, resident.priority) = (class, priority);
        }
    }

    fn resident_mut(&mut self, node: NodeIx, uid: &PodUid) -> Option<&mut Resident> {
        self.residents.get_mut(node.at())?.iter_mut().find(|resident| resident.uid == *uid)
    }

    pub(super) fn check_residents(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut count = 0;
        for (at, here) in self.residents.iter().enumerate() {
            count += here.len();
            for resident in here {
                let placed = self.pods.get(&resident.uid);
                let priority = self.classes.get(resident.class).map(|class| class.priority);
                if placed.is_none_or(|placed| placed.node.at() != at || placed.class != resident.class)
                    || priority != Some(resident.priority)
                {
                    faults.push(format!("pod {} is listed on a node otherwise than it is placed", resident.uid));
                }
            }
        }
        if count != self.pods.len() {
            faults.push("pods listed on nodes are not those that are placed".into());
        }
        faults
    }
}

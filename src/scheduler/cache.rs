//! Which pods use which node: watched placements and our own assumptions in, counted nodes out.
//!
//! A pod is *assumed* on its node from the decision until the watch shows it there (*confirm*) or the binding fails (*forget*). Every derived number
//! is recomputed and compared by [`Cache::consistency_check`].
//!
//! A home pod that runs in a compute cluster is counted on its node there under its own UID. The pod that runs for it over there is seen by that cluster's
//! watch as well: it is the *shadow* of the home pod and counts only while the home pod does not count in that cluster ([`runs`]).

use std::collections::BTreeMap;

mod residents;
mod runs;
mod shapes;

use residents::Known;
pub use residents::{NOT_STARTED, Resident};
use runs::Runs;

use super::{clusters::Told, nodes::Nodes};
use crate::model::{
    class::{ClassTable, PodClass},
    ids::{ByPodUid, ClassIx, ClusterId, NodeIx, PodUid, by_pod_uid},
    intern::Sym,
    node::NodeRecord,
    resources::ResourceVec,
};

/// Nodes, pods on them, and the classes of all pods known.
#[derive(Debug, Default)]
pub struct Cache {
    /// The nodes.
    pub nodes: Nodes,
    /// The classes of pods on nodes and of pods in the queue.
    pub classes: ClassTable,
    pods: ByPodUid<Placed>,
    assumed: usize,
    runs: Runs,
    /// Of pods whose class was asked for and that are not gone, also of those that wait.
    known: ByPodUid<Known>,
    /// By node index.
    residents: Vec<Vec<Resident>>,
}

/// A pod on a node. Holds its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its class.
    pub class: ClassIx,
    /// Its node.
    pub node: NodeIx,
    /// The cluster whose API server knows the pod.
    pub cluster: ClusterId,
    /// Decided by us, not seen there yet.
    pub assumed: bool,
    /// Which telling of the cluster's quota it counts against.
    told: Told,
}

/// What an observation of a bound pod meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A pod that was not known on a node.
    Added,
    /// Our assumption came true.
    Confirmed,
    /// It is on another node than was assumed or known.
    Moved {
        /// Where it was counted before.
        from: NodeIx,
    },
    /// It asks for something else now (a resize); the class that it had is still held by the caller.
    Changed {
        /// Its class before, to be released by the caller.
        old: ClassIx,
    },
    /// Nothing that matters here.
    Unchanged,
}

impl Cache {
    /// An empty cache with room for the pods of a large cluster.
    pub fn with_room() -> Self {
        Self { pods: by_pod_uid(), known: by_pod_uid(), ..Self::default() }
    }

    /// Where a pod is, if it is on a node.
    pub fn placed(&self, uid: &PodUid) -> Option<Placed> {
        self.pods.get(uid).copied()
    }

    /// How many pods are on nodes, assumed ones included.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// How many of them are assumed.
    pub fn assumed(&self) -> usize {
        self.assumed
    }

    /// A pod of `cluster` was seen bound to a node there. Takes over one hold of `class`.
    pub fn observe(&mut self, uid: &PodUid, cluster: ClusterId, node: Sym, class: ClassIx) -> Observed {
        self.observe_at(uid, cluster, (cluster, node), class)
    }

    /// As [`Self::observe`], where the node may be of another cluster than the one whose API server knows the pod.
    pub fn observe_at(&mut self, uid: &PodUid, cluster: ClusterId, (node_cluster, node): (ClusterId, Sym), class: ClassIx) -> Observed {
        let at = self.nodes.find_sym(node_cluster, node);
        let Some(known) = self.pods.get(uid).copied() else {
            self.insert(uid, Place { cluster, node: (node_cluster, node), assumed: false }, class);
            return Observed::Added;
        };
        if at == Some(known.node) && known.class == class {
            self.release(class);
            return if self.confirm(uid) { Observed::Confirmed } else { Observed::Unchanged };
        }
        self.confirm(uid);
        if at == Some(known.node) {
            self.recount(uid, known, class);
            return Observed::Changed { old: known.class };
        }
        self.remove(uid);
        self.insert(uid, Place { cluster, node: (node_cluster, node), assumed: false }, class);
        Observed::Moved { from: known.node }
    }

    /// Counts a decided pod of home on its node before anybody else knows. Takes over one hold of `class`. False if the pod is on a node already.
    pub fn assume(&mut self, uid: &PodUid, node: NodeIx, class: ClassIx) -> bool {
        let at = (self.nodes.get(node).cluster, self.nodes.get(node).name);
        self.assume_at(uid, at, class).is_some()
    }

    /// As [`Self::assume`], on a node that may not be known yet.
    pub fn assume_at(&mut self, uid: &PodUid, node: (ClusterId, Sym), class: ClassIx) -> Option<NodeIx> {
        if self.pods.contains_key(uid) {
            return None;
        }
        self.insert(uid, Place { cluster: ClusterId::HOME, node, assumed: true }, class);
        self.pods.get(uid).map(|placed| placed.node)
    }

    /// Counts a pod again that was taken off its node, there or on another one; all else of it stays.
    pub fn put_back(&mut self, uid: &PodUid, node: (ClusterId, Sym), taken: &Placed) {
        self.insert(uid, Place { cluster: taken.cluster, node, assumed: taken.assumed }, taken.class);
    }

    /// Takes an assumed pod off its node and gives its class hold to the caller. `None` if it is not assumed (any more).
    pub fn forget(&mut self, uid: &PodUid) -> Option<Placed> {
        self.pods.get(uid).filter(|placed| placed.assumed)?;
        self.take(uid)
    }

    /// A pod is gone. Its class is released; true in the second place when that was the class's last hold.
    pub fn remove(&mut self, uid: &PodUid) -> Option<(Placed, bool)> {
        let placed = self.take(uid)?;
        let last = self.release(placed.class);
        Some((placed, last))
    }

    /// Takes a pod off its node and gives its class hold to the caller.
    pub fn take(&mut self, uid: &PodUid) -> Option<Placed> {
        let placed = self.pods.swap_remove(uid)?;
        self.assumed -= usize::from(placed.assumed);
        self.unsettle(uid, placed.node);
        if let Some(cluster) = self.abroad(&placed) {
            if let Some(class) = self.classes.get(placed.class) {
                self.nodes.clusters.uncount(cluster, class, placed.told);
            }
            self.uncount(placed.node, placed.class);
            self.settle_runs_of(uid, cluster);
        } else {
            self.uncount(placed.node, placed.class);
        }
        Some(placed)
    }

    /// The cluster in which a home pod is placed, if not at home.
    fn abroad(&self, placed: &Placed) -> Option<ClusterId> {
        let at = self.nodes.get(placed.node).cluster;
        (placed.cluster == ClusterId::HOME && at != ClusterId::HOME).then_some(at)
    }

    /// Home pods that are placed in a cluster, with whether they are assumed; sorted.
    pub fn home_pods_in(&self, cluster: ClusterId) -> Vec<(PodUid, bool)> {
        let there = self.pods.iter().filter(|(_, placed)| self.abroad(placed) == Some(cluster));
        let mut there: Vec<_> = there.map(|(uid, placed)| (uid.clone(), placed.assumed)).collect();
        there.sort_unstable();
        there
    }

    /// Assumed pods, in no order that matters.
    pub fn assumed_uids(&self) -> impl Iterator<Item = &PodUid> {
        self.pods.iter().filter(|(_, placed)| placed.assumed).map(|(uid, _)| uid)
    }

    /// How many placed pods hold a class; a walk, for checks.
    pub fn placed_of_class(&self, class: ClassIx) -> usize {
        self.pods.values().filter(|placed| placed.class == class).count()
    }

    /// Pods of a cluster that are not in a complete list, and were seen there before; sorted, as their removal is visible.
    pub fn missing_from(&self, cluster: ClusterId, listed: impl Fn(&PodUid) -> bool) -> Vec<PodUid> {
        let gone = self.pods.iter().filter(|(uid, placed)| placed.cluster == cluster && !listed(uid));
        let mut gone: Vec<PodUid> = gone.map(|(uid, _)| uid.clone()).collect();
        gone.sort_unstable();
        gone
    }

    fn confirm(&mut self, uid: &PodUid) -> bool {
        let Some(placed) = self.pods.get_mut(uid).filter(|placed| placed.assumed) else { return false };
        placed.assumed = false;
        self.assumed -= 1;
        true
    }

    fn insert(&mut self, uid: &PodUid, place: Place, class: ClassIx) {
        let Some(record) = self.classes.get(class) else {
            debug_assert!(false, "a pod of a dead class");
            return;
        };
        let Place { cluster, node: (at, name), assumed } = place;
        let node = self.nodes.add_pod(at, name, record);
        self.nodes.terms.count(class, node);
        let is_abroad = cluster == ClusterId::HOME && at != ClusterId::HOME;
        let told = if is_abroad { self.nodes.clusters.count(at, record, assumed) } else { Told::BEFORE };
        self.assumed += usize::from(assumed);
        self.pods.insert(uid.clone(), Placed { class, node, cluster, assumed, told });
        self.settle(uid, node, class, cluster == ClusterId::HOME);
        if is_abroad {
            self.settle_runs_of(uid, at);
        }
    }

    fn recount(&mut self, uid: &PodUid, known: Placed, class: ClassIx) {
        // The new class first, so that the slot is never empty in between and given away.
        let (cluster, name) = (self.nodes.get(known.node).cluster, self.nodes.get(known.node).name);
        if let Some(record) = self.classes.get(class) {
            self.nodes.add_pod(cluster, name, record);
            self.nodes.terms.count(class, known.node);
        }
        if self.abroad(&known).is_some() {
            if let Some(old) = self.classes.get(known.class) {
                self.nodes.clusters.uncount(cluster, old, known.told);
            }
            if let Some(new) = self.classes.get(class) {
                self.nodes.clusters.add(cluster, new, known.told);
            }
        }
        self.uncount(known.node, known.class);
        if let Some(placed) = self.pods.get_mut(uid) {
            placed.class = class;
        }
        self.resettle(uid, known.node, class);
    }

    fn uncount(&mut self, node: NodeIx, class: ClassIx) {
        let Some(record) = self.classes.get(class) else {
            debug_assert!(false, "a pod of a dead class");
            return;
        };
        self.nodes.terms.uncount(class, node);
        let counted = self.nodes.remove_pod(node, record);
        debug_assert!(counted, "a pod was taken off a node that had none");
    }

    /// Gives back symbols that no record holds any more, when it is worth its while.
    pub fn sweep_symbols(&mut self, others: impl FnOnce(&mut dyn FnMut(Sym))) {
        if !self.nodes.symbols.sweep_is_due() {
            return;
        }
        self.nodes.terms.forget_reads(self.classes.iter().map(|(_, class, _)| class));
        let mut table = std::mem::take(&mut self.nodes.symbols);
        table.sweep(|mark| {
            (0..self.nodes.slots()).for_each(|at| self.nodes.at(at).symbols(mark));
            self.classes.iter().for_each(|(_, class, _)| class.symbols(mark));
            self.nodes.clusters.symbols(mark);
            self.nodes.platforms.symbols(mark);
            self.nodes.terms.symbols(mark);
            self.nodes.storage.symbols(mark);
            self.known.values().for_each(|known| known.labels.symbols(mark));
            self.runs.symbols(mark);
            others(mark);
        });
        self.nodes.symbols = table;
    }

    /// Recomputes every derived number from the pods and compares. Empty when all is well. For tests, debugging and support.
    pub fn consistency_check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut sums: BTreeMap<NodeIx, Sums<'_>> = BTreeMap::new();
        for (uid, placed) in &self.pods {
            match self.classes.get(placed.class) {
                Some(class) => sums.entry(placed.node).or_default().add(class),
                None => faults.push(format!("pod {uid} has a class that is gone")),
            }
        }
        for at in 0..self.nodes.slots() {
            let ix = NodeIx(u32::try_from(at).unwrap_or(u32::MAX));
            let node = self.nodes.get(ix);
            if !sums.remove(&ix).unwrap_or_default().agrees(node) {
                faults.push(format!("node {} does not count what its pods sum up to", self.nodes.symbols.text(node.name)));
            }
        }
        if !sums.is_empty() {
            faults.push("pods are on nodes that have no slot".into());
        }
        if self.assumed != self.pods.values().filter(|placed| placed.assumed).count() {
            faults.push("the count of assumed pods is wrong".into());
        }
        let abroad = self.pods.values().filter_map(|placed| Some((self.abroad(placed)?, self.classes.get(placed.class)?, placed.told)));
        faults.extend(self.nodes.clusters.consistency_check(abroad));
        faults.extend(self.check_runs());
        faults.extend(self.check_residents());
        let placed = self.pods.values().map(|placed| (placed.class, placed.node));
        faults.extend(self.nodes.terms.consistency_check(&self.classes, placed));
        faults.extend(self.nodes.consistency_check());
        faults.sort_unstable();
        faults
    }
}

/// Where a pod is put: who knows it, on which node, and whether only we know.
#[derive(Clone, Copy)]
struct Place {
    cluster: ClusterId,
    node: (ClusterId, Sym),
    assumed: bool,
}

#[derive(Default)]
struct Sums<'a> {
    requested: ResourceVec,
    nonzero: (i64, i64),
    pods: u32,
    ports: Vec<&'a crate::model::ports::HostPort>,
    volumes: usize,
}

impl<'a> Sums<'a> {
    fn add(&mut self, class: &'a PodClass) {
        self.requested.add(&class.requests);
        self.nonzero.0 += class.nonzero_cpu_milli;
        self.nonzero.1 += class.nonzero_memory_bytes;
        self.pods += 1;
        self.ports.extend(&class.host_ports);
        self.volumes += usize::from(class.volumes.is_some());
    }

    fn agrees(mut self, node: &NodeRecord) -> bool {
        self.requested.scalars.retain(|(_, amount)| *amount != 0);
        let mut counted = node.requested.clone();
        counted.scalars.retain(|(_, amount)| *amount != 0);
        self.ports.sort_unstable();
        let mut ports: Vec<_> = node.ports.iter().collect();
        ports.sort_unstable();
        counted == self.requested
            && (node.nonzero_cpu_milli, node.nonzero_memory_bytes) == self.nonzero
            && node.pods_used == self.pods
            && node.volumes.len() == self.volumes
            && ports == self.ports
    }
}

#[cfg(test)]
mod tests;

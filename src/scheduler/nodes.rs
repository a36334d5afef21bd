//! Every node of every cluster, densely indexed, with a log of which ones changed. Node facts and pod placements in; records and change numbers out.

use std::{borrow::Cow, collections::VecDeque};

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashMap;

use crate::model::{
    class::PodClass,
    ids::{ClusterId, NodeIx, NodeKey},
    intern::{Interner, Sym},
    node::{ImageFacts, NodeFacts, NodeRecord},
};

use super::{change::Changes, clusters::Clusters, platforms::PlatformTable, storage::Storage, terms::Terms};

/// How many changes the log remembers. A view that is further behind walks all nodes once instead, so the length only trades memory for time:
/// at 5,000 nodes a walk costs as much as some hundred re-evaluations.
const LOG_LEN_MAX: usize = 4096;

/// The nodes, the images they hold, and the table of interned strings.
#[derive(Debug, Default)]
pub struct Nodes {
    records: Vec<NodeRecord>,
    index: FxHashMap<(ClusterId, Sym), NodeIx>,
    free: Vec<NodeIx>,
    present: usize,
    soft_tainted: usize,
    /// Nodes with a `NoSchedule` or `NoExecute` taint, by dense index: few, so rules about taints need not read the others.
    hard_tainted: FixedBitSet,
    /// Nodes whose object exists.
    present_set: FixedBitSet,
    /// Nodes with `spec.unschedulable`, by dense index.
    cordoned: FixedBitSet,
    images: FxHashMap<Sym, ImageState>,
    /// Number of the last change; every change has its own.
    changed: u64,
    /// The last changes in order, ending with `changed`.
    log: VecDeque<NodeIx>,
    /// Grows when a node appears, goes, or moves to another index: what sizes and orders depend on.
    membership: u64,
    /// The highest cluster id seen.
    clusters_max: u16,
    /// The strings of all records.
    pub symbols: Interner,
    /// The compute clusters that nodes beside those of home belong to.
    pub clusters: Clusters,
    /// Platforms of present nodes and of images.
    pub platforms: PlatformTable,
    /// Claims, volumes and what drivers tell, of home.
    pub storage: Storage,
    /// Which pods match which terms, by node. Whoever counts a pod on a node counts it there as well.
    pub terms: Terms,
}

/// What is known of an image across nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageState {
    /// Size as the first node that reported it said.
    pub size_bytes: i64,
    /// How many present nodes hold it.
    pub nodes: u32,
}

impl Nodes {
    /// The record at a dense index, present or not.
    pub fn at(&self, at: usize) -> &NodeRecord {
        &self.records[at]
    }

    /// The record of a node.
    pub fn get(&self, ix: NodeIx) -> &NodeRecord {
        &self.records[ix.at()]
    }

    /// The node's name.
    pub fn name(&self, ix: NodeIx) -> &str {
        self.symbols.text(self.get(ix).name)
    }

    /// One more than the largest dense index in use.
    pub fn slots(&self) -> usize {
        self.records.len()
    }

    /// The nodes whose object exists, as a set of indices.
    pub fn present_set(&self) -> &FixedBitSet {
        &self.present_set
    }

    /// How many node objects there are.
    pub fn present(&self) -> usize {
        self.present
    }

    /// How many nodes have a `PreferNoSchedule` taint.
    pub fn soft_tainted(&self) -> usize {
        self.soft_tainted
    }

    /// The nodes with a `NoSchedule` or `NoExecute` taint, by dense index.
    pub fn hard_tainted(&self) -> &FixedBitSet {
        &self.hard_tainted
    }

    /// The nodes with `spec.unschedulable`, by dense index.
    pub fn cordoned(&self) -> &FixedBitSet {
        &self.cordoned
    }

    /// All records by dense index, present or not: for loops over whole clusters.
    pub fn records(&self) -> &[NodeRecord] {
        &self.records
    }

    /// All present nodes, by index.
    pub fn iter(&self) -> impl Iterator<Item = (NodeIx, &NodeRecord)> {
        let indexed = self.records.iter().enumerate();
        indexed.filter(|(_, node)| node.present).map(|(at, node)| (NodeIx(u32::try_from(at).unwrap_or(u32::MAX)), node))
    }

    /// Finds a node by name, present or a shell.
    pub fn find(&self, cluster: ClusterId, name: &str) -> Option<NodeIx> {
        self.index.get(&(cluster, self.symbols.get(name)?)).copied()
    }

    /// Finds a node by symbol, present or a shell.
    pub fn find_sym(&self, cluster: ClusterId, name: Sym) -> Option<NodeIx> {
        self.index.get(&(cluster, name)).copied()
    }

    /// The nodes of that name, at most one per cluster.
    pub fn named(&self, name: Sym) -> impl Iterator<Item = NodeIx> + '_ {
        (0..=self.clusters_max).filter_map(move |cluster| self.find_sym(ClusterId(cluster), name))
    }

    /// The node's name; behind that of its cluster unless that is home.
    pub fn full_name(&self, ix: NodeIx) -> Cow<'_, str> {
        let cluster = self.get(ix).cluster;
        match self.clusters.name(cluster) {
            Some(_) if cluster == ClusterId::HOME => self.name(ix).into(),
            Some(cluster) => format!("{cluster}/{}", self.name(ix)).into(),
            None => NodeKey { cluster, name: self.name(ix).into() }.to_string().into(),
        }
    }

    /// What is known of an image.
    pub fn image(&self, name: Sym) -> ImageState {
        self.images.get(&name).copied().unwrap_or_default()
    }

    /// Number of the last change.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// See the field.
    pub fn membership(&self) -> u64 {
        self.membership
    }

    /// The nodes that changed after change number `since`, with repetitions, oldest first; `None` when the log does not reach back that far.
    pub fn changed_since(&self, since: u64) -> Option<impl ExactSizeIterator<Item = NodeIx> + '_> {
        let behind = usize::try_from(self.changed.saturating_sub(since)).unwrap_or(usize::MAX);
        let start = self.log.len().checked_sub(behind)?;
        Some(self.log.range(start..).copied())
    }

    /// As [`Self::changed_since`], unless looking at all nodes is less work.
    pub fn few_changed_since(&self, since: u64) -> Option<impl ExactSizeIterator<Item = NodeIx> + '_> {
        self.changed_since(since).filter(|changed| changed.len() < self.slots())
    }

    /// As [`Self::apply`] for an object whose images are not at hand: those known stay.
    pub fn apply_without_images(&mut self, mut facts: NodeFacts) -> (NodeIx, Changes, Option<NodeRecord>) {
        let known = self.find(facts.cluster, &facts.name).map(|ix| self.get(ix));
        let image = |sym: &Sym| ImageFacts { names: vec![self.symbols.text(*sym).into()], size_bytes: self.image(*sym).size_bytes };
        facts.images = known.iter().flat_map(|node| &node.images).map(image).collect();
        self.apply(&facts)
    }

    /// Takes over a node object. Says what changed against before, and what the record was; nothing is logged when nothing changed.
    pub fn apply(&mut self, facts: &NodeFacts) -> (NodeIx, Changes, Option<NodeRecord>) {
        let name = self.symbols.intern(&facts.name);
        let ix = self.slot(facts.cluster, name);
        let old = self.records[ix.at()].clone();
        self.uncount(ix);
        self.records[ix.at()].apply(facts, &mut self.symbols);
        self.count(ix, facts);
        let what = difference(&old, &self.records[ix.at()]);
        if !what.is_none() {
            let number = self.log_change(ix);
            self.records[ix.at()].object_changed = number;
        }
        if !old.present {
            self.membership += 1;
        }
        (ix, what, old.present.then_some(old))
    }

    /// The node object is gone. Its slot stays while pods are counted on it.
    pub fn remove(&mut self, ix: NodeIx) {
        if !self.records[ix.at()].present {
            return;
        }
        self.uncount(ix);
        self.records[ix.at()].withdraw();
        self.membership += 1;
        let number = self.log_change(ix);
        self.records[ix.at()].object_changed = number;
        self.reclaim(ix);
    }

    /// Counts a pod on a node, making a shell if the node is not known yet.
    pub fn add_pod(&mut self, cluster: ClusterId, name: Sym, class: &PodClass) -> NodeIx {
        let ix = self.slot(cluster, name);
        self.records[ix.at()].count_pod(class);
        if let Some(volumes) = class.volumes.as_ref().filter(|_| cluster == ClusterId::HOME) {
            self.storage.mount(self.symbols.text(class.namespace), volumes);
        }
        self.touch_usage(ix);
        ix
    }

    /// Takes a pod off its node. Returns false if the node had none, which is a bug of the caller.
    pub fn remove_pod(&mut self, ix: NodeIx, class: &PodClass) -> bool {
        let node = &mut self.records[ix.at()];
        if node.pods_used == 0 {
            return false;
        }
        node.uncount_pod(class);
        if let Some(volumes) = class.volumes.as_ref().filter(|_| node.cluster == ClusterId::HOME) {
            self.storage.unmount(self.symbols.text(class.namespace), volumes);
        }
        self.touch_usage(ix);
        self.reclaim(ix);
        true
    }

    /// What runs on a node means something else now.
    pub fn touch_usage(&mut self, ix: NodeIx) {
        let number = self.log_change(ix);
        self.records[ix.at()].usage_changed = number;
    }

    fn log_change(&mut self, ix: NodeIx) -> u64 {
        if self.log.len() == LOG_LEN_MAX {
            self.log.pop_front();
        }
        self.log.push_back(ix);
        self.changed += 1;
        self.changed
    }

    fn slot(&mut self, cluster: ClusterId, name: Sym) -> NodeIx {
        if let Some(&ix) = self.index.get(&(cluster, name)) {
            return ix;
        }
        let shell = NodeRecord::shell(cluster, name);
        self.clusters_max = self.clusters_max.max(cluster.0);
        let ix = if let Some(ix) = self.free.pop() {
            self.records[ix.at()] = shell;
            ix
        } else {
            self.records.push(shell);
            NodeIx(u32::try_from(self.records.len() - 1).unwrap_or(u32::MAX))
        };
        self.index.insert((cluster, name), ix);
        // A view may have kept answers under this index, for the node that had it before.
        let number = self.log_change(ix);
        self.records[ix.at()].object_changed = number;
        ix
    }

    /// Gives the slot of a node back when neither its object nor a pod on it is left.
    fn reclaim(&mut self, ix: NodeIx) {
        let node = &self.records[ix.at()];
        if node.present || node.pods_used > 0 {
            return;
        }
        self.index.remove(&(node.cluster, node.name));
        self.free.push(ix);
    }

    fn count(&mut self, ix: NodeIx, facts: &NodeFacts) {
        self.present += 1;
        let node = &self.records[ix.at()];
        self.soft_tainted += usize::from(node.has_soft_taint());
        self.platforms.count(node);
        note(&mut self.present_set, ix, true);
        note(&mut self.hard_tainted, ix, node.has_hard_taint());
        note(&mut self.cordoned, ix, node.unschedulable);
        for &image in &self.records[ix.at()].images {
            self.images.entry(image).or_default().nodes += 1;
        }
        for image in &facts.images {
            for name in &image.names {
                let state = self.symbols.get(name).and_then(|sym| self.images.get_mut(&sym));
                if let Some(state) = state.filter(|state| state.nodes == 1 || state.size_bytes == 0) {
                    state.size_bytes = image.size_bytes;
                }
            }
        }
    }

    fn uncount(&mut self, ix: NodeIx) {
        let node = &self.records[ix.at()];
        if !node.present {
            return;
        }
        self.present -= 1;
        self.platforms.uncount(node);
        self.soft_tainted -= usize::from(node.has_soft_taint());
        note(&mut self.present_set, ix, false);
        note(&mut self.hard_tainted, ix, false);
        note(&mut self.cordoned, ix, false);
        for image in &node.images {
            if let Some(state) = self.images.get_mut(image) {
                state.nodes -= 1;
                if state.nodes == 0 {
                    self.images.remove(image);
                }
            }
        }
    }
}

impl Nodes {
    /// Recounts what is derived from the records. Empty when all is well.
    pub fn consistency_check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.present != self.iter().count() {
            faults.push("the count of present nodes is wrong".into());
        }
        if self.soft_tainted != self.iter().filter(|(_, node)| node.has_soft_taint()).count() {
            faults.push("the count of softly tainted nodes is wrong".into());
        }
        let noted = |set: &FixedBitSet, has: fn(&NodeRecord) -> bool| {
            self.records.iter().enumerate().all(|(at, node)| set.contains(at) == (node.present && has(node)))
        };
        if !noted(&self.present_set, |node| node.present)
            || !noted(&self.hard_tainted, NodeRecord::has_hard_taint)
            || !noted(&self.cordoned, |node| node.unschedulable)
        {
            faults.push("the sets of tainted or cordoned nodes are wrong".into());
        }
        if !self.records.iter().all(|node| node.priorities.iter().map(|(_, pods)| pods).sum::<u32>() == node.pods_used) {
            faults.push("a node's pods by priority do not add up to its pods".into());
        }
        for (&image, state) in &self.images {
            let holders = self.iter().filter(|(_, node)| node.images.binary_search(&image).is_ok()).count();
            if holders != state.nodes as usize {
                faults.push(format!("image {} is counted on {} nodes and is on {holders}", self.symbols.text(image), state.nodes));
            }
        }
        if self.index.len() + self.free.len() != self.records.len() {
            faults.push("the index of node names does not cover the slots in use".into());
        }
        faults.extend(self.platforms.consistency_check(self.iter().map(|(_, node)| node)));
        let home = self.records.iter().filter(|node| node.cluster == ClusterId::HOME).flat_map(|node| &node.volumes);
        faults.extend(self.storage.consistency_check(home.map(|(namespace, volumes)| (self.symbols.text(*namespace), &**volumes))));
        faults
    }
}

fn note(set: &mut FixedBitSet, ix: NodeIx, is: bool) {
    if is {
        set.grow_and_insert(ix.at());
    } else if set.contains(ix.at()) {
        set.set(ix.at(), false);
    }
}

fn difference(old: &NodeRecord, new: &NodeRecord) -> Changes {
    if !old.present {
        return Changes::NODE_ADD;
    }
    let mut what = Changes::NONE;
    let mut note = |changed: bool, kind: Changes| {
        if changed {
            what |= kind;
        }
    };
    note(old.allocatable != new.allocatable || old.pods_max != new.pods_max, Changes::NODE_ALLOCATABLE);
    note(old.labels != new.labels, Changes::NODE_LABEL);
    note(old.taints != new.taints || old.unschedulable != new.unschedulable, Changes::NODE_TAINT);
    note(old.images != new.images, Changes::NODE_IMAGES);
    note(old.features != new.features, Changes::NODE_FEATURES);
    what
}

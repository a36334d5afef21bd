//! Pods that are to get a node but do not have it yet, by node. In: nominations as they are made, seen and withdrawn. Out: whom a pod must make way for.
//!
//! Source: `pkg/scheduler/backend/queue/nominator.go` v1.37. A nominated pod waits in the queue; on its node the filters count it for pods of no higher
//! priority.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::{
    model::{
        ids::{ClassIx, ClusterId, NodeIx, PodUid},
        intern::Sym,
    },
    scheduler::nodes::Nodes,
};

/// A node by its name, as a nomination may outlive the node.
pub type NodeName = (ClusterId, Sym);

/// A pod that waits for its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nominee {
    /// The pod.
    pub uid: PodUid,
    /// Its class, which the queue holds.
    pub class: ClassIx,
    /// Its priority.
    pub priority: i32,
}

/// Pods that count on a node although they are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// Each by its class.
    pub classes: SmallVec<[ClassIx; 2]>,
    /// Another one whenever the nominations of the node have changed. `None` where the pod in question is nominated itself: others of its class have
    /// other guests there.
    pub stamp: Option<u64>,
}

/// Parties by node.
pub type Guests = BTreeMap<NodeIx, Party>;

/// Who is nominated for one node, and the number of the last change of that.
#[derive(Debug, Default)]
struct Here {
    nominees: Vec<Nominee>,
    stamp: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Nominations {
    by_node: BTreeMap<NodeName, Here>,
    version: u64,
}

impl Nominations {
    /// A pod is nominated for a node, after all others of that node. It must not be nominated already.
    pub fn insert(&mut self, node: NodeName, nominee: Nominee) {
        self.version += 1;
        let here = self.by_node.entry(node).or_default();
        here.nominees.push(nominee);
        here.stamp = self.version;
    }

    /// A pod is not nominated any more. False if it was not.
    pub fn remove(&mut self, node: NodeName, uid: &PodUid) -> bool {
        let Some(here) = self.by_node.get_mut(&node) else { return false };
        let Some(at) = here.nominees.iter().position(|nominee| nominee.uid == *uid) else { return false };
        self.version += 1;
        here.nominees.remove(at);
        here.stamp = self.version;
        if here.nominees.is_empty() {
            self.by_node.remove(&node);
        }
        true
    }

    /// A nominated pod has another class.
    pub fn recast(&mut self, node: NodeName, uid: &PodUid, class: ClassIx) {
        let Some(here) = self.by_node.get_mut(&node) else { return };
        self.version += 1;
        here.stamp = self.version;
        here.nominees.iter_mut().filter(|nominee| nominee.uid == *uid).for_each(|nominee| nominee.class = class);
    }

    /// Nominated pods of lower priority on a node.
    pub fn below(&self, node: NodeName, priority: i32) -> Vec<PodUid> {
        let here = self.by_node.get(&node).into_iter().flat_map(|here| &here.nominees);
        here.filter(|nominee| nominee.priority < priority).map(|nominee| nominee.uid.clone()).collect()
    }

    /// Who counts on which node for a pod of this priority; never the pod itself.
    pub fn guests(&self, priority: i32, except: &PodUid, nodes: &Nodes) -> Guests {
        let mut guests = Guests::new();
        for ((cluster, name), here) in &self.by_node {
            let counting = here.nominees.iter().filter(|nominee| nominee.priority >= priority && nominee.uid != *except);
            let classes: SmallVec<_> = counting.map(|nominee| nominee.class).collect();
            if classes.is_empty() {
                continue;
            }
            if let Some(ix) = nodes.find_sym(*cluster, *name).filter(|ix| nodes.get(*ix).present) {
                let is_among = here.nominees.iter().any(|nominee| nominee.uid == *except);
                guests.insert(ix, Party { classes, stamp: (!is_among).then_some(here.stamp) });
            }
        }
        guests
    }

    /// Whether nobody is nominated.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All of them, for checks.
    pub fn iter(&self) -> impl Iterator<Item = (NodeName, &Nominee)> {
        self.by_node.iter().flat_map(|(node, here)| here.nominees.iter().map(|nominee| (*node, nominee)))
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.by_node.keys().for_each(|(_, name)| mark(*name));
    }
}

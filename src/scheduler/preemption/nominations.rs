//! Pods that are to get a node but do not have it yet, by node. In: nominations as they are made, seen and withdrawn. Out: whom a pod must make way for.
//!
//! Source: `pkg/scheduler/backend/queue/nominator.go` v1.37. A nominated pod waits in the queue; on its node the filters count it for pods of no higher
//! priority.

use std::collections::BTreeMap;

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

/// Pods that count on a node although they are not there, each by its class.
pub type Guests = BTreeMap<NodeIx, Vec<ClassIx>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Nominations {
    by_node: BTreeMap<NodeName, Vec<Nominee>>,
    version: u64,
}

impl Nominations {
    /// A pod is nominated for a node, after all others of that node. It must not be nominated already.
    pub fn insert(&mut self, node: NodeName, nominee: Nominee) {
        self.by_node.entry(node).or_default().push(nominee);
        self.version += 1;
    }

    /// A pod is not nominated any more. False if it was not.
    pub fn remove(&mut self, node: NodeName, uid: &PodUid) -> bool {
        let Some(here) = self.by_node.get_mut(&node) else { return false };
        let Some(at) = here.iter().position(|nominee| nominee.uid == *uid) else { return false };
        here.remove(at);
        if here.is_empty() {
            self.by_node.remove(&node);
        }
        self.version += 1;
        true
    }

    /// A nominated pod has another class.
    pub fn recast(&mut self, node: NodeName, uid: &PodUid, class: ClassIx) {
        let here = self.by_node.get_mut(&node).into_iter().flatten();
        here.filter(|nominee| nominee.uid == *uid).for_each(|nominee| nominee.class = class);
    }

    /// Nominated pods of lower priority on a node.
    pub fn below(&self, node: NodeName, priority: i32) -> Vec<PodUid> {
        let here = self.by_node.get(&node).into_iter().flatten();
        here.filter(|nominee| nominee.priority < priority).map(|nominee| nominee.uid.clone()).collect()
    }

    /// Who counts on which node for a pod of this priority; never the pod itself.
    pub fn guests(&self, priority: i32, except: &PodUid, nodes: &Nodes) -> Guests {
        let mut guests = Guests::new();
        for ((cluster, name), here) in &self.by_node {
            let counting = here.iter().filter(|nominee| nominee.priority >= priority && nominee.uid != *except);
            let mut counting = counting.map(|nominee| nominee.class).peekable();
            if counting.peek().is_none() {
                continue;
            }
            if let Some(ix) = nodes.find_sym(*cluster, *name).filter(|ix| nodes.get(*ix).present) {
                guests.insert(ix, counting.collect());
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
        self.by_node.iter().flat_map(|(node, here)| here.iter().map(|nominee| (*node, nominee)))
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.by_node.keys().for_each(|(_, name)| mark(*name));
    }
}

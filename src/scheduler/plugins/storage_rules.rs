//! What the rules about volumes share: they speak of home alone, and what they are made from may change. In: what one of them says. Out: the same with
//! its bounds.
//!
//! On the nodes of a compute cluster a claim is what the cluster's object maps it to, so there only `ClusterFit` asks about it.

use crate::{
    model::{ids::ClusterId, node::NodeRecord},
    scheduler::{
        framework::{CompiledFilter, NodeRule, Premise, Reads, Refusal},
        nodes::Nodes,
    },
};

/// Holds as long as nothing of storage has changed.
struct Unchanged(u64);

impl Premise for Unchanged {
    fn outdated(&self, nodes: &Nodes) -> bool {
        nodes.storage.version() != self.0
    }
}

/// An outcome that holds until something of storage changes.
pub fn until_changed(outcome: CompiledFilter, nodes: &Nodes) -> CompiledFilter {
    CompiledFilter::Until(Box::new(Unchanged(nodes.storage.version())), Box::new(outcome))
}

/// A rule for the nodes of home.
pub fn at_home(rule: impl NodeRule + 'static) -> CompiledFilter {
    CompiledFilter::Rule(Box::new(AtHome(rule)))
}

/// No node of home takes the class; no node at all, where there is no other cluster.
pub fn nowhere_at_home(refusal: Refusal, nodes: &Nodes) -> CompiledFilter {
    if nodes.clusters.any() { at_home(Nowhere(refusal)) } else { CompiledFilter::Refused(refusal) }
}

struct AtHome<R>(R);

impl<R: NodeRule> NodeRule for AtHome<R> {
    fn reads(&self) -> Reads {
        self.0.reads()
    }

    fn admits(&self, node: &NodeRecord, nodes: &Nodes) -> bool {
        node.cluster != ClusterId::HOME || self.0.admits(node, nodes)
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        if node.cluster == ClusterId::HOME { self.0.refuses(node, nodes) } else { None }
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        self.0.outdated(nodes)
    }
}

struct Nowhere(Refusal);

impl NodeRule for Nowhere {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn refuses(&self, _node: &NodeRecord, _nodes: &Nodes) -> Option<Refusal> {
        Some(self.0.clone())
    }
}

//! `NodeName`: only the node that `spec.nodeName` names. A class that names one in, that name and a rule out.
//!
//! Source: kube-scheduler v1.37 `NodeName`. A pending pod has no node name, so this speaks only where a placed pod is asked about (`explain`).

use crate::{
    model::{class::PodClass, intern::Sym, node::NodeRecord},
    scheduler::{
        change::Changes,
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Reads, Refusal},
        nodes::Nodes,
    },
};

const REASON: &str = "node(s) didn't match the requested node name";

/// See the module.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    /// Upstream has no finer hint: every new node may be the one.
    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD
    }
}

impl FilterPlugin for NodeName {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledFilter {
        match class.node_name {
            None => CompiledFilter::Skip,
            Some(name) => CompiledFilter::Only(Box::new([name]), Box::new(Named(name))),
        }
    }
}

struct Named(Sym);

impl NodeRule for Named {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        node.name == self.0
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        (!self.admits(node, nodes)).then(|| Refusal::unresolvable(REASON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::plugins::fixtures::{World, node, pod};

    #[test]
    fn only_the_named_node() {
        let mut world = World::new([node("a"), node("b")]);
        let mut class = world.class(&pod(&[]));
        assert_eq!(world.ask_with(&NodeName, &class), ["skip"]);
        for (name, want) in [("a", ["ok", "!node(s) didn't match the requested node name"]), ("c", [REFUSED, REFUSED])] {
            class.node_name = Some(world.nodes.symbols.intern(name));
            assert_eq!(world.ask_with(&NodeName, &class), want, "{name}");
        }
    }

    const REFUSED: &str = "!node(s) didn't match the requested node name";
}

//! `NodeUnschedulable`: no cordoned node, unless the pod tolerates the taint that goes with it. Tolerations in, a rule out.
//!
//! Source: kube-scheduler v1.37 `NodeUnschedulable`.

use fixedbitset::FixedBitSet;

use crate::{
    model::{
        class::PodClass,
        intern::{Interner, Sym},
        node::NodeRecord,
        taints::{Effect, Taint},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Reads, Refusal},
        nodes::Nodes,
    },
};

/// The taint that the node controller puts on a cordoned node.
const TAINT_KEY: &str = "node.kubernetes.io/unschedulable";
const REASON: &str = "node(s) were unschedulable";

/// See the module.
pub struct NodeUnschedulable {
    taint: Taint,
}

impl NodeUnschedulable {
    /// Interns the taint that a pod may tolerate.
    pub fn new(symbols: &mut Interner) -> Self {
        Self { taint: Taint { key: symbols.pin(TAINT_KEY), value: Sym::EMPTY, effect: Effect::NoSchedule } }
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_TAINT
    }

    fn cures(&self, _class: &PodClass, change: &Change<'_>, _nodes: &Nodes) -> bool {
        match change {
            Change::Node { old, new, .. } => !new.unschedulable && old.is_none_or(|old| old.unschedulable),
            _ => true,
        }
    }
}

impl FilterPlugin for NodeUnschedulable {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledFilter {
        if class.tolerations.iter().any(|toleration| toleration.tolerates(&self.taint)) {
            return CompiledFilter::Skip;
        }
        CompiledFilter::Rule(Box::new(NotCordoned))
    }
}

struct NotCordoned;

impl NodeRule for NotCordoned {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        !node.unschedulable
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        (!self.admits(node, nodes)).then(|| Refusal::unresolvable(REASON))
    }

    fn keep_admitted(&self, nodes: &Nodes, set: &mut FixedBitSet) {
        set.difference_with(nodes.cordoned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{node::NodeFacts, pod::PodSpecFacts},
        scheduler::plugins::fixtures::{World, node, pod, toleration},
    };

    fn cordoned(name: &str) -> NodeFacts {
        NodeFacts { unschedulable: true, ..node(name) }
    }

    #[test]
    fn refuses_cordoned_nodes_unless_tolerated() {
        let mut world = World::new([node("a"), cordoned("b")]);
        let refused = ["ok", "!node(s) were unschedulable"].as_slice();
        for (tolerations, want) in [
            (vec![], refused),
            (vec![toleration(TAINT_KEY, "Exists", "", "NoSchedule")], &["skip"]),
            (vec![toleration(TAINT_KEY, "Equal", "", "")], &["skip"]),
            (vec![toleration("", "Exists", "", "")], &["skip"]),
            (vec![toleration(TAINT_KEY, "Exists", "", "NoExecute")], refused),
            (vec![toleration(TAINT_KEY, "Equal", "true", "")], refused),
        ] {
            let spec = PodSpecFacts { tolerations, ..pod(&[]) };
            assert_eq!(world.ask("NodeUnschedulable", &spec), want, "{:?}", spec.tolerations);
        }
    }

    #[test]
    fn only_a_node_that_became_schedulable_cures() {
        let mut world = World::new([node("a"), cordoned("b")]);
        let plugin = NodeUnschedulable::new(&mut world.nodes.symbols);
        let class = world.class(&pod(&[]));
        let (open, shut) = (world.nodes.at(0), world.nodes.at(1));
        for (old, new, want) in
            [(None, open, true), (None, shut, false), (Some(shut), open, true), (Some(open), open, false), (Some(shut), shut, false)]
        {
            assert_eq!(plugin.cures(&class, &Change::Node { old, new, what: Changes::NODE_TAINT }, &world.nodes), want);
        }
    }
}

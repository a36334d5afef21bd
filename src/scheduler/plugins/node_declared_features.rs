//! `NodeDeclaredFeatures`: no node that lacks a feature which the pod's specification needs. Features in, a rule out.
//!
//! Source: kube-scheduler v1.37.1 `NodeDeclaredFeatures`.

use crate::{
    model::{class::PodClass, features::NodeFeatures, node::NodeRecord},
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Reads, Refusal},
        nodes::Nodes,
    },
};

const REASON: &str = "node(s) didn't match Pod's required features";

/// See the module.
pub struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_FEATURES
    }

    /// Narrower than upstream, which takes any change of the list: a node that lacks the same feature as before helps nobody.
    fn cures(&self, class: &PodClass, change: &Change<'_>, _nodes: &Nodes) -> bool {
        match change {
            Change::Node { old: Some(old), new, .. } => old.features != new.features && new.features.has_all(class.features),
            Change::Node { old: None, new, .. } => new.features.has_all(class.features),
            _ => true,
        }
    }
}

impl FilterPlugin for NodeDeclaredFeatures {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledFilter {
        if class.features.is_empty() { CompiledFilter::Skip } else { CompiledFilter::Rule(Box::new(Declares(class.features))) }
    }
}

struct Declares(NodeFeatures);

impl NodeRule for Declares {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn refuses(&self, node: &NodeRecord, _nodes: &Nodes) -> Option<Refusal> {
        (!node.features.has_all(self.0)).then(|| Refusal::unresolvable(REASON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            features::{BIND_MOUNT_OPTIONS, RESTART_ALL},
            node::NodeFacts,
            pod::PodSpecFacts,
        },
        scheduler::plugins::fixtures::{World, node, pod},
    };

    fn declaring(name: &str, names: &[&str]) -> NodeFacts {
        NodeFacts { features: NodeFeatures::declared(names.iter().copied()), ..node(name) }
    }

    fn needing(features: NodeFeatures) -> PodSpecFacts {
        PodSpecFacts { features, ..pod(&[]) }
    }

    const RESTART: &str = "RestartAllContainersOnContainerExits";

    #[test]
    fn every_needed_feature_has_to_be_declared() {
        let both = [RESTART, "VolumeBindMountOptions", "SomethingNewer"];
        let mut world = World::new([node("a"), declaring("b", &[RESTART]), declaring("c", &both)]);
        let no = "!node(s) didn't match Pod's required features";
        for (needed, want) in [
            (NodeFeatures::default(), ["skip"].as_slice()),
            (RESTART_ALL, &[no, "ok", "ok"]),
            (RESTART_ALL.with(BIND_MOUNT_OPTIONS, true), &[no, no, "ok"]),
        ] {
            assert_eq!(world.ask("NodeDeclaredFeatures", &needing(needed)), want, "{needed:?}");
        }
    }

    #[test]
    fn only_a_node_that_declares_what_was_missing_cures() {
        let mut world = World::new([node("a"), declaring("b", &[RESTART]), declaring("c", &["VolumeBindMountOptions"])]);
        let class = world.class(&needing(RESTART_ALL));
        let (without, with, other) = (world.nodes.at(0), world.nodes.at(1), world.nodes.at(2));
        for (old, new, want) in [
            (None, without, false),
            (None, with, true),
            (Some(without), with, true),
            (Some(with), with, false),
            (Some(without), other, false),
        ] {
            let change = Change::Node { old, new, what: Changes::NODE_FEATURES };
            assert_eq!(NodeDeclaredFeatures.cures(&class, &change, &world.nodes), want);
        }
    }
}

//! `TaintToleration`: no node with a hard taint that the pod does not tolerate; the fewer soft ones the better. Tolerations in, a rule and a score out.
//!
//! Source: kube-scheduler v1.37 `TaintToleration`. Most nodes have no taints: the batch forms look only at those that do.

use fixedbitset::FixedBitSet;

use crate::{
    model::{
        class::PodClass,
        node::NodeRecord,
        taints::{Effect, Taint, Toleration},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{
            CompiledFilter, CompiledScore, FilterPlugin, NodeRule, NodeScore, Normalise, Plugin, Reads, Refusal, ScorePlugin,
            by_max_reversed,
        },
        nodes::Nodes,
    },
};

const REASON: &str = "node(s) had untolerated taint(s)";

/// See the module.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_TAINT
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, _nodes: &Nodes) -> bool {
        let untolerated = |node: &NodeRecord| has_untolerated(node, &class.tolerations);
        match change {
            Change::Node { old, new, .. } => !untolerated(new) && old.is_none_or(untolerated),
            _ => true,
        }
    }
}

fn is_hard(taint: &Taint) -> bool {
    taint.effect != Effect::PreferNoSchedule
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// Whether a hard taint of the node is not tolerated.
pub(super) fn has_untolerated(node: &NodeRecord, tolerations: &[Toleration]) -> bool {
    node.taints.iter().any(|taint| is_hard(taint) && !tolerated(taint, tolerations))
}

/// Tolerations that can cover a taint of which `effects` holds.
fn relevant(class: &PodClass, effects: fn(Effect) -> bool) -> Box<[Toleration]> {
    class.tolerations.iter().filter(|toleration| toleration.effect.is_none_or(effects)).copied().collect()
}

// === filter ===

impl FilterPlugin for TaintToleration {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledFilter {
        let all = Toleration { key: None, value: None, effect: None };
        if class.tolerations.contains(&all) {
            return CompiledFilter::Skip;
        }
        CompiledFilter::Rule(Box::new(Tolerant(relevant(class, |effect| effect != Effect::PreferNoSchedule))))
    }
}

struct Tolerant(Box<[Toleration]>);

impl NodeRule for Tolerant {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        !has_untolerated(node, &self.0)
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        (!self.admits(node, nodes)).then(|| Refusal::unresolvable(REASON))
    }

    fn keep_admitted(&self, nodes: &Nodes, set: &mut FixedBitSet) {
        if self.0.is_empty() {
            set.difference_with(nodes.hard_tainted());
            return;
        }
        for at in nodes.hard_tainted().ones() {
            if set.contains(at) && !self.admits(nodes.at(at), nodes) {
                set.set(at, false);
            }
        }
    }
}

// === score ===

impl ScorePlugin for TaintToleration {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledScore {
        let tolerations = relevant(class, |effect| effect == Effect::PreferNoSchedule);
        CompiledScore::Score(Box::new(SoftTaints { tolerations, any: nodes.soft_tainted() > 0 }))
    }
}

struct SoftTaints {
    tolerations: Box<[Toleration]>,
    /// Whether any node had a soft taint when this was compiled.
    any: bool,
}

impl NodeScore for SoftTaints {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn raw(&self, node: &NodeRecord, _nodes: &Nodes) -> i64 {
        let counts = |taint: &&Taint| !is_hard(taint) && !tolerated(taint, &self.tolerations);
        i64::try_from(node.taints.iter().filter(counts).count()).unwrap_or(i64::MAX)
    }

    fn normalise(&self) -> Normalise {
        Normalise::Extremes(by_max_reversed)
    }

    fn uniform(&self) -> Option<i64> {
        (!self.any).then_some(0)
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        (nodes.soft_tainted() > 0) != self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::pod::PodSpecFacts,
        scheduler::{
            framework::Extremes,
            plugins::fixtures::{World, node, pod, tainted, toleration},
            profile::PluginArgs,
        },
    };

    const HARD: Effect = Effect::NoSchedule;
    const SOFT: Effect = Effect::PreferNoSchedule;

    fn tolerating(tolerations: &[(&str, &str, &str, &str)]) -> PodSpecFacts {
        let tolerations = tolerations.iter().map(|(key, operator, value, effect)| toleration(key, operator, value, effect)).collect();
        PodSpecFacts { tolerations, ..pod(&[]) }
    }

    #[test]
    fn refuses_what_is_not_tolerated() {
        let no = "!node(s) had untolerated taint(s)";
        let mut world = World::new([
            node("plain"),
            tainted("gpu", &[("gpu", "yes", HARD)]),
            tainted("evicting", &[("gpu", "yes", HARD), ("gone", "", Effect::NoExecute)]),
            tainted("soft", &[("gpu", "yes", SOFT)]),
        ]);
        for (tolerations, want) in [
            (&[][..], &["ok", no, no, "ok"][..]),
            (&[("gpu", "Equal", "yes", "NoSchedule")], &["ok", "ok", no, "ok"]),
            (&[("gpu", "", "yes", "")], &["ok", "ok", no, "ok"]),
            (&[("gpu", "Equal", "no", "")], &["ok", no, no, "ok"]),
            (&[("gpu", "Exists", "", "NoExecute")], &["ok", no, no, "ok"]),
            (&[("gpu", "Lt", "7", "")], &["ok", no, no, "ok"]),
            (&[("", "Exists", "", "NoSchedule")], &["ok", "ok", no, "ok"]),
            (&[("gpu", "Exists", "", ""), ("gone", "Exists", "", "NoExecute")], &["ok", "ok", "ok", "ok"]),
            (&[("", "Exists", "", "")], &["skip"]),
        ] {
            assert_eq!(world.ask("TaintToleration", &tolerating(tolerations)), want, "{tolerations:?}");
        }
    }

    #[test]
    fn counts_soft_taints_and_turns_the_scale() {
        let mut world =
            World::new([node("a"), tainted("b", &[("x", "", SOFT), ("y", "1", SOFT), ("z", "", HARD)]), tainted("c", &[("y", "1", SOFT)])]);
        for (tolerations, want) in [
            (&[][..], [0, 2, 1]),
            (&[("x", "Exists", "", "")], [0, 1, 1]),
            (&[("x", "Exists", "", "NoSchedule")], [0, 2, 1]),
            (&[("", "Exists", "", "PreferNoSchedule")], [0, 0, 0]),
        ] {
            assert_eq!(world.score("TaintToleration", &PluginArgs::default(), &tolerating(tolerations)), want, "{tolerations:?}");
        }
        let extremes = Extremes { min: 0, max: 3 };
        assert_eq!([0, 1, 2, 3].map(|raw| by_max_reversed(raw, extremes)), [100, 67, 34, 0]);
        assert_eq!(by_max_reversed(0, Extremes { min: 0, max: 0 }), 100);
    }

    #[test]
    fn the_first_soft_taint_outdates_a_uniform_score() {
        let mut world = World::new([node("a")]);
        let class = world.class(&pod(&[]));
        let CompiledScore::Score(score) = ScorePlugin::compile(&TaintToleration, &class, &world.nodes) else { panic!("skipped") };
        assert_eq!((score.uniform(), score.outdated(&world.nodes)), (Some(0), false));
        world.add(&tainted("b", &[("x", "", SOFT)]));
        assert!(score.outdated(&world.nodes));
    }

    #[test]
    fn a_node_cures_when_it_becomes_tolerable() {
        let mut world = World::new([node("free"), tainted("shut", &[("x", "", HARD)])]);
        let class = world.class(&pod(&[]));
        let (free, shut) = (world.nodes.at(0), world.nodes.at(1));
        for (old, new, want) in
            [(None, free, true), (None, shut, false), (Some(shut), free, true), (Some(free), free, false), (Some(free), shut, false)]
        {
            let change = Change::Node { old, new, what: Changes::NODE_TAINT };
            assert_eq!(TaintToleration.cures(&class, &change, &world.nodes), want);
        }
    }
}

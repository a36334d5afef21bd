//! `DefaultPreemption`: what a pod is told when no node takes it. The refusals of all nodes in, upstream's text out.
//!
//! Source: kube-scheduler v1.37 `DefaultPreemption`. This version evicts nobody. Where upstream would find no victims the text is upstream's; where pods
//! of lower priority run, and upstream would try which of them must go, the node counts as one for which preemption is not built.

use std::borrow::Cow;

use crate::scheduler::{
    change::Changes,
    framework::{Plugin, PodInHand, PostFilter, Reason, Refusal, RefusalCode, RoomMade},
    nodes::Nodes,
    view::message,
};

const NEVER: &str = "preemption: not eligible due to preemptionPolicy=Never.";
const NO_VICTIMS: Reason = Cow::Borrowed("No preemption victims found for incoming pod");
const NOT_HELPFUL: Reason = Cow::Borrowed("Preemption is not helpful for scheduling");
const NOT_BUILT: Reason = Cow::Borrowed("Preemption is not built into this version for this pod");

/// See the module.
pub struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn post_filter(&mut self) -> Option<&mut dyn PostFilter> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl PostFilter for DefaultPreemption {
    fn make_room(&mut self, pod: PodInHand<'_>, refusals: &[Option<Refusal>], nodes: &Nodes) -> RoomMade {
        if pod.class.never_preempts {
            return RoomMade { nominated: None, message: NEVER.to_owned() };
        }
        // Nodes that PreFilter left out have no refusal of their own; upstream takes them for unresolvable.
        let reasons: Vec<Reason> = nodes
            .iter()
            .map(|(ix, node)| match refusals.get(ix.at()) {
                Some(Some(refusal)) if refusal.code == RefusalCode::Unschedulable => {
                    if node.has_pods_below(pod.class.priority) {
                        NOT_BUILT
                    } else {
                        NO_VICTIMS
                    }
                }
                _ => NOT_HELPFUL,
            })
            .collect();
        RoomMade { nominated: None, message: format!("preemption: {}", message(nodes.present(), reasons.iter())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            ids::{NodeIx, PodKey, PodUid},
            pod::PodSpecFacts,
        },
        scheduler::plugins::fixtures::{World, node, pod},
    };

    fn told(world: &mut World, spec: &PodSpecFacts, refusals: &[Option<Refusal>]) -> String {
        let class = world.class(spec);
        let (key, uid) = (PodKey::new("default", "a"), PodUid::from("u"));
        DefaultPreemption.make_room(PodInHand { key: &key, uid: &uid, class: &class, gates: &[] }, refusals, &world.nodes).message
    }

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let mut world = World::new(["a", "b", "c"].map(node));
        world.run("a", &PodSpecFacts { priority: 5, ..pod(&[]) });
        let (yes, no) = (|| Some(Refusal::unschedulable("x")), || Some(Refusal::unresolvable("x")));
        let at = |priority| PodSpecFacts { priority, ..pod(&[]) };
        for (spec, refusals, want) in [
            (
                at(5),
                vec![yes(), yes(), no()],
                "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.",
            ),
            (at(5), vec![no(), no(), no()], "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."),
            (at(5), vec![], "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."),
            (
                at(6),
                vec![yes(), None, None],
                "preemption: 0/3 nodes are available: 1 Preemption is not built into this version for this pod, 2 Preemption is not helpful for \
                 scheduling.",
            ),
            (
                PodSpecFacts { never_preempts: true, ..at(6) },
                vec![yes(), yes(), yes()],
                "preemption: not eligible due to preemptionPolicy=Never.",
            ),
        ] {
            assert_eq!(told(&mut world, &spec, &refusals), want);
        }
    }

    #[test]
    fn ten_sorts_before_two() {
        let mut world = World::new((0..12).map(|i| node(&format!("n{i}"))));
        let refusals: Vec<_> = (0..12).map(|i| (i < 10).then(|| Refusal::unschedulable("x"))).collect();
        assert_eq!(
            told(&mut world, &pod(&[]), &refusals),
            "preemption: 0/12 nodes are available: 10 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
        );
    }

    #[test]
    fn pods_that_left_are_no_victims() {
        let mut world = World::new([node("a")]);
        let refusals = [Some(Refusal::unschedulable("x"))];
        let spec = PodSpecFacts { priority: 1, ..pod(&[]) };
        let low = world.class(&pod(&[]));
        world.run("a", &pod(&[]));
        world.run("a", &pod(&[]));
        for want in ["1 Preemption is not built", "1 Preemption is not built", "1 No preemption victims"] {
            let text = told(&mut world, &spec, &refusals);
            assert!(text.contains(want), "{text}");
            world.nodes.remove_pod(NodeIx(0), &low);
        }
    }
}

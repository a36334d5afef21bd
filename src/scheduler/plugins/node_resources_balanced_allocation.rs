//! `NodeResourcesBalancedAllocation`: prefers nodes whose resources the pod brings into balance. Shares in, raw scores 50..=100 out.
//!
//! Source: kube-scheduler v1.37 `balancedResourceScorer` (the formula since v1.36: balance with the pod against balance without it). The same
//! floating operations in the same order as there, on amd64, where Go fuses none: equal inputs give equal bits.

use fixedbitset::FixedBitSet;
use smallvec::SmallVec;

use super::{
    resource_shares::{Scored, Share, cpu_and_memory, scored, shares},
    sweep,
};
use crate::{
    model::{class::PodClass, intern::Interner, node::NodeRecord},
    scheduler::{
        change::Changes,
        framework::{CompiledScore, NodeScore, Normalise, Plugin, Reads, SCORE_MAX, ScorePlugin},
        nodes::Nodes,
        profile::NodeResourcesBalancedAllocationArgs,
    },
};

/// So many resources are balanced without an allocation; profiles name two to four.
const RESOURCES_INLINE: usize = 8;

/// See the module.
pub struct NodeResourcesBalancedAllocation {
    resources: Box<[Scored]>,
}

impl NodeResourcesBalancedAllocation {
    /// Interns the profile's resources.
    pub fn new(args: &NodeResourcesBalancedAllocationArgs, symbols: &mut Interner) -> Self {
        Self { resources: scored(&args.resources, symbols) }
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl ScorePlugin for NodeResourcesBalancedAllocation {
    /// A pod that requests nothing of these resources is skipped: it would drag all its kind to one node.
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledScore {
        let shares = shares(&self.resources, &class.requests);
        if shares.iter().all(|share| share.wanted == 0) {
            return CompiledScore::Skip;
        }
        CompiledScore::Score(Box::new(Balance(shares)))
    }
}

struct Balance(Box<[Share]>);

impl NodeScore for Balance {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn raw(&self, node: &NodeRecord, _nodes: &Nodes) -> i64 {
        let (mut with, mut without) = (Fractions::new(), Fractions::new());
        for share in &self.0 {
            let (total, used) = share.requested(node);
            if total != 0 {
                with.push(fraction(used.saturating_add(share.wanted), total));
                without.push(fraction(used, total));
            }
        }
        improvement(balance(&with), balance(&without))
    }

    fn raw_all(&self, nodes: &Nodes, set: &FixedBitSet, lane: &mut [i64]) {
        let Some([cpu, memory]) = cpu_and_memory(&self.0) else {
            return sweep::fill(nodes, set, lane, |node| self.raw(node, nodes));
        };
        sweep::fill(nodes, set, lane, |node| {
            let (total, used) = (&node.allocatable, &node.requested);
            if total.cpu_milli == 0 || total.memory_bytes == 0 {
                return self.raw(node, nodes);
            }
            let with = balance_of_two(
                fraction(used.cpu_milli.saturating_add(cpu.wanted), total.cpu_milli),
                fraction(used.memory_bytes.saturating_add(memory.wanted), total.memory_bytes),
            );
            let without = balance_of_two(fraction(used.cpu_milli, total.cpu_milli), fraction(used.memory_bytes, total.memory_bytes));
            improvement(with, without)
        });
    }

    fn normalise(&self) -> Normalise {
        Normalise::AsIs
    }
}

type Fractions = SmallVec<[f64; RESOURCES_INLINE]>;

#[allow(clippy::cast_precision_loss)] // upstream's conversion
fn fraction(used: i64, total: i64) -> f64 {
    let fraction = used as f64 / total as f64;
    if fraction > 1.0 { 1.0 } else { fraction }
}

/// One less the standard deviation of the fractions, as a percentage: 50..=100.
#[allow(clippy::cast_precision_loss)] // a handful
fn balance(fractions: &[f64]) -> i64 {
    match fractions {
        [] | [_] => scaled(0.0),
        [one, other] => balance_of_two(*one, *other),
        many => {
            let count = many.len() as f64;
            let mean = many.iter().fold(0.0, |sum, fraction| sum + fraction) / count;
            let squares = many.iter().fold(0.0, |sum, fraction| sum + (fraction - mean) * (fraction - mean));
            scaled((squares / count).sqrt())
        }
    }
}

fn balance_of_two(one: f64, other: f64) -> i64 {
    scaled(((one - other) / 2.0).abs())
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // 0..=100
fn scaled(deviation: f64) -> i64 {
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

fn improvement(with: i64, without: i64) -> i64 {
    SCORE_MAX / 2 + (SCORE_MAX / 2 + with - without) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::{
        plugins::fixtures::{World, node_with, pod},
        profile::{PluginArgs, ResourceWeight},
    };

    fn args(resources: &[&str]) -> PluginArgs {
        let resources = resources.iter().map(|name| ResourceWeight { name: (*name).into(), weight: 1 }).collect();
        PluginArgs { node_resources_balanced_allocation: NodeResourcesBalancedAllocationArgs { resources }, ..Default::default() }
    }

    #[test]
    fn balance_with_the_pod_against_balance_without() {
        let default = ["cpu", "memory"].as_slice();
        let gpu = ["cpu", "memory", "nvidia.com/gpu"].as_slice();
        for (resources, used, wanted, want) in [
            // 0.5 | 0.5 on an empty node: no change.
            (default, &[][..], &[("cpu", "5"), ("memory", "50Mi")][..], &[75][..]),
            // 0.5 | 0: deviation 0.25, so 75 against 100.
            (default, &[], &[("cpu", "5")], &[62]),
            // 0.5 | 0.5 after 0.5 | 0.
            (default, &[("cpu", "5")], &[("memory", "50Mi")], &[87]),
            // More than everything counts as everything.
            (default, &[("cpu", "10")], &[("cpu", "10"), ("memory", "100Mi")], &[100]),
            // Real requests count, not the small-pod defaults: with those the node would not be empty.
            (default, &[], &[("cpu", "1"), ("memory", "10Mi")], &[75]),
            (default, &[], &[], &[]),
            (default, &[], &[("nvidia.com/gpu", "1")], &[]),
            (&["cpu"], &[], &[("cpu", "10")], &[75]),
            // Not requested scalars and resources that the node lacks are left out.
            (gpu, &[], &[("cpu", "5")], &[62]),
            (&["cpu", "ephemeral-storage"], &[], &[("cpu", "5")], &[75]),
            // 0.5, 0.5, 0.5 is balanced; 0, 0, 0.5 deviates by 0.2357: 76 against 100.
            (gpu, &[], &[("cpu", "5"), ("memory", "50Mi"), ("nvidia.com/gpu", "2")], &[75]),
            (gpu, &[], &[("nvidia.com/gpu", "2")], &[63]),
        ] {
            let mut world = World::new([node_with("a", &[("cpu", "10"), ("memory", "100Mi"), ("nvidia.com/gpu", "4")])]);
            world.run("a", &pod(used));
            assert_eq!(world.score("NodeResourcesBalancedAllocation", &args(resources), &pod(wanted)), want, "{used:?} {wanted:?}");
        }
    }

    #[test]
    fn cuts_fractions_off() {
        // (1 - |0.3 - 0.1| / 2) x 100 is 90.00000000000001 or 90 by order of operations; one step less is 89.
        assert_eq!(balance(&[0.3, 0.1]), 90);
        assert_eq!(balance(&[0.1, 0.3]), 90);
        assert_eq!(balance(&[0.301, 0.1]), 89);
        assert_eq!(balance(&[1.0, 0.0]), 50);
        assert_eq!(balance(&[0.7]), 100);
    }
}

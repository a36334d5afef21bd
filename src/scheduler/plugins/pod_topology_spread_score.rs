//! The score of `PodTopologySpread`: soft constraints of a class in; for each feasible node how many pods of the kind are near it, weighted, out. Fewer is
//! better.
//!
//! Source: `podtopologyspread/scoring.go` v1.37. A domain weighs the more, the more of its kind there are among the feasible nodes. Numbers are upstream's
//! to the last bit, logarithm included.

use fixedbitset::FixedBitSet;

use super::{
    pod_topology_spread::{DefaultSelector, Inclusion, has_all, tally},
    topology::{NOWHERE, Topology, is_hostname},
};
use crate::{
    model::{class::PodClass, intern::Sym, node::NodeRecord, selector::Selector, terms::Spread},
    scheduler::{
        framework::{Changed, DomainScore, Extremes, Normalise, Premise, SCORE_MAX, UNSCORED},
        nodes::Nodes,
    },
};

/// Soft constraints of a class.
pub(super) struct Soft {
    keys: Box<[Sym]>,
    constraints: Box<[Constraint]>,
    inclusion: Inclusion,
    /// Nodes that lack one of the keys take no part.
    needs_all: bool,
    premise: Option<DefaultSelector>,
    /// What each node adds up to, in memory that is used again.
    sums: Vec<f64>,
}

struct Constraint {
    spread: Spread,
    /// The domain is the node itself: pods are those on it, and domains are nodes.
    is_hostname: bool,
    topology: Topology,
}

impl Soft {
    pub(super) fn new(
        class: &PodClass,
        constraints: Vec<(Spread, Selector)>,
        needs_all: bool,
        premise: Option<DefaultSelector>,
        nodes: &Nodes,
    ) -> Self {
        let constraint = |(spread, selector): (Spread, Selector)| {
            let mut topology = Topology::new(spread.topology_key);
            topology.add(tally(class, &selector, nodes));
            Constraint { is_hostname: is_hostname(spread.topology_key, nodes), spread, topology }
        };
        Self {
            keys: constraints.iter().map(|(spread, _)| spread.topology_key).collect(),
            constraints: constraints.into_iter().map(constraint).collect(),
            inclusion: Inclusion::new(class),
            needs_all,
            premise,
            sums: Vec::new(),
        }
    }

    /// Whether a feasible node takes no part.
    fn ignores(&self, at: usize) -> bool {
        self.needs_all && self.constraints.iter().any(|constraint| constraint.topology.domain(at) == NOWHERE)
    }
}

impl Constraint {
    /// How many domains there are among nodes; nodes without the label are one more, that of the empty value.
    fn size(&self, scored: &FixedBitSet) -> usize {
        if self.is_hostname {
            return scored.count_ones(..);
        }
        let mut seen = vec![false; self.topology.nodes().len()];
        scored.ones().for_each(|at| seen[self.topology.domain(at)] = true);
        let empty = self.topology.numbered(Sym::EMPTY).filter(|empty| seen[*empty]);
        seen.iter().filter(|seen| **seen).count() - usize::from(seen[NOWHERE] && empty.is_some())
    }

    /// What the constraint adds to a node, by domain.
    fn by_domain(&self, weight: f64) -> Vec<f64> {
        let sum = self.topology.sum(0).by_domain();
        let mut added: Vec<f64> = sum.iter().map(|pods| self.value(*pods, weight)).collect();
        if let Some(empty) = self.topology.numbered(Sym::EMPTY) {
            added[empty] = self.value(sum[empty] + sum[NOWHERE], weight);
        }
        added[NOWHERE] = 0.0;
        added
    }

    fn value(&self, pods: u32, weight: f64) -> f64 {
        f64::from(pods) * weight + f64::from(self.spread.max_skew - 1)
    }
}

impl DomainScore for Soft {
    fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes) {
        for Constraint { spread, topology, .. } in &mut self.constraints {
            let has_keys = |node: &NodeRecord| !self.needs_all || has_all(&self.keys, node);
            let counts = |node: &NodeRecord| has_keys(node) && self.inclusion.includes(spread, node, nodes);
            match changed {
                Changed::All => topology.restart(nodes, counts),
                Changed::Nodes(list) => list.iter().for_each(|ix| topology.touch(*ix, nodes, counts)),
            }
        }
    }

    fn raw_all(&mut self, set: &FixedBitSet, lane: &mut [i64]) -> bool {
        let mut scored = set.clone();
        if self.needs_all {
            for at in set.ones().filter(|at| self.ignores(*at)) {
                scored.set(at, false);
                lane[at] = UNSCORED;
            }
        }
        let mut sums = std::mem::take(&mut self.sums);
        sums.clear();
        sums.resize(lane.len(), 0.0);
        for constraint in &self.constraints {
            let weight = normalising_weight(constraint.size(&scored));
            if constraint.is_hostname {
                let pods = constraint.topology.sum(0);
                for at in scored.ones().filter(|at| constraint.topology.domain(*at) != NOWHERE) {
                    sums[at] += constraint.value(pods.on(at), weight);
                }
            } else {
                let added = constraint.by_domain(weight);
                scored.ones().for_each(|at| sums[at] += added[constraint.topology.domain(at)]);
            }
        }
        scored.ones().for_each(|at| lane[at] = rounded(sums[at]));
        self.sums = sums;
        true
    }

    fn normalise(&self) -> Normalise {
        Normalise::Extremes(fewest)
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        self.premise.as_ref().is_some_and(|premise| premise.outdated(nodes))
    }

    fn bytes(&self) -> usize {
        self.sums.len() * 8 + self.constraints.iter().map(|constraint| constraint.topology.bytes() + 128).sum::<usize>()
    }
}

/// Upstream's `NormalizeScore`: the fewest pods become 100; the most, what the fewest are to them.
fn fewest(raw: i64, extremes: Extremes) -> i64 {
    // Upstream's largest begins at zero.
    let max = extremes.max.max(0);
    if max == 0 { SCORE_MAX } else { SCORE_MAX * (max + extremes.min - raw) / max }
}

/// Go's `math.Round` of what is not negative: halves go up.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // pods times a small weight
fn rounded(value: f64) -> i64 {
    let whole = value as i64;
    whole + i64::from(value - whole as f64 >= 0.5)
}

#[allow(clippy::cast_precision_loss)] // nodes
fn normalising_weight(domains: usize) -> f64 {
    go_log((domains + 2) as f64)
}

/// Go's `math.Log` of a normal number above zero, step by step: the last bit can decide how a half is rounded, and other libraries differ in it.
#[allow(clippy::cast_possible_wrap, clippy::many_single_char_names)] // names of the original, FreeBSD's e_log.c
fn go_log(x: f64) -> f64 {
    const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LO: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    const L1: f64 = f64::from_bits(0x3fe5_5555_5555_5593);
    const L2: f64 = f64::from_bits(0x3fd9_9999_9997_fa04);
    const L3: f64 = f64::from_bits(0x3fd2_4924_9422_9359);
    const L4: f64 = f64::from_bits(0x3fcc_71c5_1d8e_78af);
    const L5: f64 = f64::from_bits(0x3fc7_4664_96cb_03de);
    const L6: f64 = f64::from_bits(0x3fc3_9a09_d078_c69f);
    const L7: f64 = f64::from_bits(0x3fc2_f112_df3e_5244);
    let bits = x.to_bits();
    let mut fraction = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0.5_f64.to_bits());
    let mut k = f64::from(i32::try_from(bits >> 52).unwrap_or(0) - 0x3fe);
    if fraction < std::f64::consts::FRAC_1_SQRT_2 {
        fraction *= 2.0;
        k -= 1.0;
    }
    let f = fraction - 1.0;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let t1 = s2 * (L1 + s4 * (L3 + s4 * (L5 + s4 * L7)));
    let t2 = s4 * (L2 + s4 * (L4 + s4 * L6));
    let r = t1 + t2;
    let half_square = 0.5 * f * f;
    k * LN2_HI - ((half_square - (s * (half_square + r) + k * LN2_LO)) - f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits printed by Go 1.26's `math.Log` on amd64.
    #[test]
    fn logarithms_are_those_of_go() {
        for (x, bits) in GO_LOGS {
            assert_eq!(go_log(x).to_bits(), bits, "{x}");
        }
        assert!((1..100_000_u32).all(|n| (go_log(f64::from(n)) - f64::from(n).ln()).abs() < 1e-14));
    }

    const GO_LOGS: [(f64, u64); 14] = [
        (2.0, 0x3fe6_2e42_fefa_39ef),
        (3.0, 0x3ff1_93ea_7aad_030a),
        (5.0, 0x3ff9_c041_f7ed_8d33),
        (7.0, 0x3fff_2272_ae32_5a57),
        (8.0, 0x4000_a2b2_3f3b_ab73),
        (12.0, 0x4003_e116_bcd3_9e7d),
        (33.0, 0x400b_f8d8_f4d5_b8d1),
        (62.0, 0x4010_822f_8427_dceb),
        (102.0, 0x4012_7ff8_df87_c7bd),
        (1001.0, 0x401b_a290_9ce4_f864),
        (1667.0, 0x401d_acd4_e54e_6b2f),
        (4999.0, 0x4021_08b3_5436_f406),
        (5002.0, 0x4021_0901_f6dc_84b9),
        (15002.0, 0x4023_3b5c_54bb_9573),
    ];

    #[test]
    fn halves_are_rounded_up() {
        for (value, want) in [(0.0, 0), (0.499_999_999_999_999_94, 0), (0.5, 1), (1.5, 2), (2.5, 3), (2.4, 2)] {
            assert_eq!(rounded(value), want, "{value}");
        }
    }
}

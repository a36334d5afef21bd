//! The score of `InterPodAffinity`: weighted terms of the pod and of pods that are there in; for each feasible node the weights of all pods in its domains out.
//!
//! Source: `interpodaffinity/scoring.go` v1.37. A required affinity term of a pod that is there counts with the profile's `hardPodAffinityWeight`.

use fixedbitset::FixedBitSet;

use super::inter_pod_affinity::{HeldTowards, SumAt, Topologies};
use crate::{
    model::{class::PodClass, intern::Sym},
    scheduler::{
        framework::{Changed, DomainScore, Extremes, Normalise, Premise, SCORE_MAX},
        nodes::Nodes,
        terms::{Counted, Role, TallyIx},
    },
};

/// Weight, topology key and pods of every term that counts for a class.
pub(super) fn weighted(class: &PodClass, hard_weight: i64, nodes: &Nodes) -> Vec<(i64, Sym, Option<TallyIx>)> {
    let mut found = Vec::new();
    if let Some(own) = &class.pod_terms {
        for (list, sign) in [(&own.preferred, 1), (&own.anti_preferred, -1)] {
            for (weight, term) in list.iter().flatten() {
                let tally = nodes.terms.tally(&Counted::found_by(std::iter::once(term)));
                found.push((sign * i64::from(*weight), term.topology_key, tally));
            }
        }
    }
    for (tally, term, role) in nodes.terms.held_towards(class) {
        let weight = match role {
            Role::AntiRequired => continue,
            Role::Required if hard_weight == 0 => continue,
            Role::Required => hard_weight,
            Role::Preferred(weight) => weight,
        };
        found.push((weight, term.topology_key, Some(tally)));
    }
    found
}

/// Terms of a class and towards it.
pub(super) struct Near {
    topologies: Topologies,
    terms: Box<[(i64, SumAt)]>,
    premise: HeldTowards,
}

impl Near {
    pub(super) fn new(topologies: Topologies, terms: Box<[(i64, SumAt)]>, premise: HeldTowards) -> Self {
        Self { topologies, terms, premise }
    }
}

impl DomainScore for Near {
    fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes) {
        self.topologies.catch_up(changed, nodes);
    }

    /// While no pod counts for any term, there is no score.
    fn raw_all(&mut self, set: &FixedBitSet, lane: &mut [i64]) -> bool {
        if self.terms.iter().all(|(_, sum)| self.topologies.total(*sum) == 0) {
            return false;
        }
        for (place, topology) in self.topologies.0.iter().enumerate() {
            // No pods count where there is no label.
            let mut by_domain = vec![0_i64; topology.nodes().len()];
            for (weight, (_, sum)) in self.terms.iter().filter(|(_, (at, _))| *at == place) {
                let pods = topology.sum(*sum).by_domain();
                by_domain.iter_mut().zip(pods).for_each(|(value, pods)| *value += weight * i64::from(*pods));
            }
            for at in set.ones() {
                let here = by_domain[topology.domain(at)];
                lane[at] = if place == 0 { here } else { lane[at] + here };
            }
        }
        true
    }

    fn normalise(&self) -> Normalise {
        Normalise::Extremes(between)
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        self.premise.outdated(nodes)
    }

    fn bytes(&self) -> usize {
        self.topologies.bytes() + self.terms.len() * 24
    }
}

/// Upstream's `NormalizeScore`: the lowest becomes 0, the highest 100; all are 0 when they are equal.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // upstream's conversions
fn between(raw: i64, extremes: Extremes) -> i64 {
    let span = extremes.max - extremes.min;
    if span > 0 { (SCORE_MAX as f64 * ((raw - extremes.min) as f64 / span as f64)) as i64 } else { 0 }
}

//! Which of the best nodes is taken: an up-to-date view in, one node out.

use std::{cmp::Reverse, collections::BTreeMap};

use rand::{Rng, RngExt};

use super::{
    framework::{Extremes, UNSCORED},
    nodes::Nodes,
    profile::TieBreak,
    profiles::Profile,
    view::{ClassView, Lane},
};
use crate::model::ids::NodeIx;

/// Below this many nodes upstream looks at all of them whatever the percentage says (`minFeasibleNodesToFind`).
const NODES_TO_FIND_MIN: usize = 100;

/// Takes one node of the best. `start` is where a sampled search begins; it moves on, as upstream's does.
pub fn choose(view: &mut ClassView, profile: &Profile, nodes: &Nodes, rng: &mut impl Rng, start: &mut usize) -> Option<NodeIx> {
    if let Some(percent) = profile.percentage_of_nodes_to_score {
        let sample = sample(|at| view.feasible().contains(at), nodes, percent, start);
        if sample.len() < view.feasible_count() {
            view.answer_for(&sample);
            let best = best_of_sample(view, &sample);
            return break_tie(&best, profile, nodes, rng);
        }
    }
    if view.is_repeated() { break_tie(view.best(), profile, nodes, rng) } else { break_tie(&view.best_once(), profile, nodes, rng) }
}

/// As [`choose`], of these nodes alone, as if no other were feasible. Sorted by index.
pub fn choose_among(
    view: &mut ClassView,
    open: &[NodeIx],
    profile: &Profile,
    nodes: &Nodes,
    rng: &mut impl Rng,
    start: &mut usize,
) -> Option<NodeIx> {
    if let [one] = open {
        return Some(*one);
    }
    let is_open = |at: usize| open.binary_search_by_key(&at, |ix| ix.at()).is_ok();
    let sample = profile.percentage_of_nodes_to_score.map(|percent| sample(is_open, nodes, percent, start));
    let sample = sample.as_deref().unwrap_or(open);
    view.answer_for(sample);
    let best = best_of_sample(view, sample);
    break_tie(&best, profile, nodes, rng)
}

/// As [`choose_among`], with what extenders add to the totals, and of all of these nodes.
pub fn choose_scored(
    view: &mut ClassView,
    open: &[NodeIx],
    added: &BTreeMap<NodeIx, i64>,
    profile: &Profile,
    nodes: &Nodes,
    rng: &mut impl Rng,
) -> Option<NodeIx> {
    if let [one] = open {
        return Some(*one);
    }
    view.answer_for(open);
    let best = best_with(view, open, |ix| added.get(&ix).copied().unwrap_or(0));
    break_tie(&best, profile, nodes, rng)
}

/// As many of these nodes as the profile looks at, from `start` on; it moves on.
pub fn looked_at(open: &[NodeIx], profile: &Profile, nodes: &Nodes, start: &mut usize) -> Vec<NodeIx> {
    let is_open = |at: usize| open.binary_search_by_key(&at, |ix| ix.at()).is_ok();
    profile.percentage_of_nodes_to_score.map_or_else(|| open.to_vec(), |percent| sample(is_open, nodes, percent, start))
}

/// One of nodes that are equally good.
pub fn break_tie(best: &[NodeIx], profile: &Profile, nodes: &Nodes, rng: &mut impl Rng) -> Option<NodeIx> {
    match (profile.tie_break, best) {
        (_, []) => None,
        (_, [one]) => Some(*one),
        (TieBreak::Random, many) => many.get(rng.random_range(0..many.len())).copied(),
        (TieBreak::StableRank, many) => many.iter().copied().min_by_key(|ix| stable_rank(profile.seed, *ix, nodes)),
        (TieBreak::First, many) => many.iter().copied().min_by_key(|ix| (nodes.get(*ix).cluster, nodes.name(*ix))),
    }
}

/// A node's place in an order that is random but the same for every pod: packing depends on it.
fn stable_rank(seed: u64, ix: NodeIx, nodes: &Nodes) -> (u64, NodeIx) {
    // The finaliser of SplitMix64: every bit of the hash and the seed reaches every bit of the rank.
    let mut mixed = nodes.get(ix).uid_hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31), ix)
}

/// How many feasible nodes are enough (upstream's `numFeasibleNodesToFind` with a percentage set).
fn nodes_to_find(nodes: usize, percent: u8) -> usize {
    if nodes < NODES_TO_FIND_MIN { nodes } else { (nodes * usize::from(percent) / 100).max(NODES_TO_FIND_MIN) }
}

/// The first feasible nodes from `start` on, round the ring of all nodes.
fn sample(is_feasible: impl Fn(usize) -> bool, nodes: &Nodes, percent: u8, start: &mut usize) -> Vec<NodeIx> {
    let slots = nodes.slots().max(1);
    let wanted = nodes_to_find(nodes.present(), percent);
    let mut sample = Vec::with_capacity(wanted);
    let mut looked_at = 0;
    while sample.len() < wanted && looked_at < slots {
        let at = (*start + looked_at) % slots;
        if is_feasible(at) {
            sample.push(NodeIx(u32::try_from(at).unwrap_or(u32::MAX)));
        }
        looked_at += 1;
    }
    *start = (*start + looked_at) % slots;
    sample
}

/// Normalising sees only the sample, as upstream's does.
fn best_of_sample(view: &ClassView, sample: &[NodeIx]) -> Vec<NodeIx> {
    best_with(view, sample, |_| 0)
}

fn best_with(view: &ClassView, sample: &[NodeIx], added: impl Fn(NodeIx) -> i64) -> Vec<NodeIx> {
    let extremes: Vec<Option<Extremes>> = view.lanes().map(|lane| extremes_of(lane, sample)).collect();
    let total = |ix: NodeIx| -> i64 {
        let weighted = view.lanes().zip(&extremes).map(|(lane, extremes)| lane.weight * lane.normalised(lane.raw(ix), *extremes));
        added(ix).saturating_add(weighted.sum())
    };
    let totals: Vec<(i64, NodeIx)> = sample.iter().map(|ix| (total(*ix), *ix)).collect();
    let highest = totals.iter().map(|(total, _)| Reverse(*total)).min();
    totals.into_iter().filter(|(total, _)| Some(Reverse(*total)) == highest).map(|(_, ix)| ix).collect()
}

pub(super) fn extremes_of(lane: &Lane, sample: &[NodeIx]) -> Option<Extremes> {
    let raws = || sample.iter().map(|ix| lane.raw(*ix)).filter(|raw| *raw != UNSCORED);
    Some(Extremes { min: raws().min()?, max: raws().max()? })
}

//! Who would have to go from one node, and which node is the best to be cleared. In: a pod that no node takes, a node. Out: the fewest victims there.
//!
//! Source: `SelectVictimsOnNode` and `pickOneNodeForPreemption` v1.37. All pods of lower priority are taken away in thought; if the pod fits then, they
//! are put back one by one as long as it still fits: first those whose end would violate a budget, the more important before the less.

use std::{borrow::Cow, cmp::Reverse};

use super::Ledger;
use crate::{
    model::ids::NodeIx,
    scheduler::{
        cache::Resident,
        framework::{Plight, Reason, Refusal, Stage},
    },
};

/// A node without anybody to evict.
pub const NO_VICTIMS: Reason = Cow::Borrowed("No preemption victims found for incoming pod");

/// A node that could be cleared.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The node.
    pub ix: NodeIx,
    /// Who would go, the most important first; at least one.
    pub victims: Vec<&'a Resident>,
    /// How many of them violate a budget.
    pub violations: usize,
}

/// What a dry run on a node says.
pub enum DryRun<'a> {
    /// It could be cleared.
    Cleared(Candidate<'a>),
    /// Not for this pod.
    Refused(Refusal),
    /// The pod fits with everybody there, which cannot be where it was refused.
    NobodyToGo,
}

/// Looks for the fewest pods that would have to go from a node, or remembers.
pub fn dry_run<'a>(plight: &Plight<'a>, ix: NodeIx) -> DryRun<'a> {
    let (Some(memo), Some(stamp)) = (plight.memo, plight.rules.guests_stamp(ix)) else { return run(plight, ix) };
    let mut memo = memo.borrow_mut();
    let (node, residents) = (plight.cache.nodes.get(ix), plight.cache.residents(ix));
    match memo.dry_run(plight.budgets.version(), ix, node, stamp) {
        Some(Err(refusal)) => return DryRun::Refused(refusal.clone()),
        Some(Ok((places, violations))) => {
            let victims = places.iter().filter_map(|at| residents.get(*at as usize)).collect();
            return DryRun::Cleared(Candidate { ix, victims, violations: *violations });
        }
        None => {}
    }
    let found = run(plight, ix);
    let place = |victim: &&Resident| residents.iter().position(|resident| std::ptr::eq(resident, *victim));
    let cleared = match &found {
        DryRun::Refused(refusal) => Err(refusal.clone()),
        DryRun::NobodyToGo => return found,
        DryRun::Cleared(Candidate { victims, violations, .. }) => {
            Ok((victims.iter().filter_map(place).filter_map(|at| u32::try_from(at).ok()).collect(), *violations))
        }
    };
    memo.keep_dry_run(ix, node, stamp, cleared);
    found
}

fn run<'a>(plight: &Plight<'a>, ix: NodeIx) -> DryRun<'a> {
    let priority = plight.pod.class.priority;
    let mut lower: Vec<&Resident> = Vec::new();
    if plight.cache.nodes.get(ix).has_pods_below(priority) {
        lower.extend(plight.cache.residents(ix).iter().filter(|resident| resident.is_home && resident.priority < priority));
    }
    if lower.is_empty() {
        return DryRun::Refused(Refusal::unresolvable(NO_VICTIMS));
    }
    let mut stage = plight.rules.set(ix);
    lower.iter().for_each(|resident| plight.rules.take(&mut stage, resident.class));
    if !plight.rules.admits(&stage)
        && let Some(refusal) = plight.rules.refusal(&stage)
    {
        return DryRun::Refused(refusal);
    }
    // Stable, as the order of arrival decides among equals.
    lower.sort_by_key(|resident| importance(resident));
    let (violating, others) = split(plight, lower);
    let is_mixed = !violating.is_empty() && !others.is_empty();
    let mut victims = Vec::new();
    for resident in violating {
        if !reprieve(plight, &mut stage, resident) {
            victims.push(resident);
        }
    }
    let violations = victims.len();
    for resident in others {
        if !reprieve(plight, &mut stage, resident) {
            victims.push(resident);
        }
    }
    if is_mixed {
        victims.sort_by_key(|resident| importance(resident));
    }
    if victims.is_empty() { DryRun::NobodyToGo } else { DryRun::Cleared(Candidate { ix, victims, violations }) }
}

/// The more important, the smaller.
fn importance(resident: &Resident) -> impl Ord + use<> {
    (Reverse(resident.priority), resident.started)
}

/// Those whose end violates a budget, and the others.
fn split<'a>(plight: &Plight<'a>, lower: Vec<&'a Resident>) -> (Vec<&'a Resident>, Vec<&'a Resident>) {
    let mut ledger = plight.budgets.ledger();
    lower.into_iter().partition(|resident| violates(plight, &mut ledger, resident))
}

fn violates(plight: &Plight<'_>, ledger: &mut Ledger<'_>, resident: &Resident) -> bool {
    let Some(class) = plight.cache.classes.get(resident.class).filter(|class| ledger.concerns(class.namespace)) else { return false };
    let labels = plight.cache.labels_of(&resident.uid);
    labels.is_some_and(|labels| ledger.violates(class.namespace, plight.cache.name_of(&resident.uid), labels))
}

/// Puts a pod back if the other one still fits.
fn reprieve(plight: &Plight<'_>, stage: &mut Stage, resident: &Resident) -> bool {
    plight.rules.put(stage, resident.class);
    let fits = plight.rules.admits(stage);
    if !fits {
        plight.rules.take(stage, resident.class);
    }
    fits
}

/// The places of the best candidates, those that nothing tells apart: the fewest violations, then the least important first victim, the smallest sum of
/// priorities, the fewest victims, the latest start among the most important.
pub fn best(candidates: &[Candidate<'_>]) -> Vec<usize> {
    let ranked = candidates.iter().map(rank);
    let Some(highest) = ranked.clone().min() else { return Vec::new() };
    ranked.enumerate().filter(|(_, rank)| *rank == highest).map(|(at, _)| at).collect()
}

type Rank = (usize, i32, i64, usize, Reverse<u64>);

fn rank(candidate: &Candidate<'_>) -> Rank {
    let victims = &candidate.victims;
    let highest = victims.first().map_or(i32::MIN, |victim| victim.priority);
    // So that none counts below zero, or more victims would be better than fewer.
    let sum = victims.iter().map(|victim| i64::from(victim.priority) + (1 << 31)).sum();
    let most = victims.iter().map(|victim| victim.priority).max();
    let earliest = victims.iter().filter(|victim| Some(victim.priority) == most).map(|victim| victim.started.0).min();
    (candidate.violations, highest, sum, victims.len(), Reverse(earliest.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ids::{ClassIx, PodUid},
        time::Timestamp,
    };

    /// Victims by priority and start, the most important first.
    fn residents(victims: &[(i32, u64)]) -> Vec<Resident> {
        let resident = |(priority, started): &(i32, u64)| Resident {
            uid: PodUid::from(""),
            class: ClassIx(0),
            priority: *priority,
            started: Timestamp(*started),
            is_home: true,
            is_leaving: false,
        };
        victims.iter().map(resident).collect()
    }

    #[test]
    fn each_rule_decides_where_those_before_it_do_not() {
        type Node = (usize, &'static [(i32, u64)]);
        let cases: [(&str, [Node; 2], &[usize]); 8] = [
            ("violations", [(1, &[(0, 1)]), (0, &[(9, 1), (9, 1)])], &[1]),
            ("first victim's priority", [(0, &[(5, 1)]), (0, &[(4, 1), (4, 1), (4, 1)])], &[1]),
            ("sum of priorities", [(0, &[(5, 1), (4, 1)]), (0, &[(5, 1), (3, 1)])], &[1]),
            ("negative priorities: fewer are better", [(0, &[(-5, 1), (-5, 1)]), (0, &[(-5, 1)])], &[1]),
            ("number, as each counts in the sum", [(0, &[(5, 1), (0, 1)]), (0, &[(5, 1), (-9, 1), (-9, 1)])], &[0]),
            ("start of the most important", [(0, &[(5, 10), (1, 30)]), (0, &[(5, 20), (1, 0)])], &[1]),
            ("the earliest of these", [(0, &[(5, 10), (5, 90)]), (0, &[(5, 20), (5, 20)])], &[1]),
            ("nothing", [(0, &[(5, 1)]), (0, &[(5, 1)])], &[0, 1]),
        ];
        for (rule, nodes, want) in cases {
            let all = nodes.map(|(violations, victims)| (violations, residents(victims)));
            let mut candidates = Vec::new();
            for (violations, victims) in &all {
                candidates.push(Candidate { ix: NodeIx(0), victims: victims.iter().collect(), violations: *violations });
            }
            assert_eq!(best(&candidates), want, "{rule}");
        }
    }
}

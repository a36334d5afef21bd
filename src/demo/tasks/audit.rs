//! What must never be of tasks, counted. In: what was seen, the runs that had to come, what the archive holds. Out: counts that must be zero.

use std::collections::BTreeMap;

use super::ledger::{Ledger, PodSeen, RunSeen};
use crate::tasks::run::{Outcome, Phase};

/// A run that has to come, once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Awaited {
    /// Of this task.
    pub task: String,
    /// For this cycle; empty without one.
    pub cycle: String,
}

/// A run of one task begins after the run of another one of the same cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follows {
    /// Which begins.
    pub task: String,
    /// After which.
    pub after: String,
    /// And only if that succeeded.
    pub well: bool,
}

/// What has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Runs.
    pub runs: Vec<Awaited>,
    /// Their order.
    pub follows: Vec<Follows>,
    /// Logs that the archive holds of each pod (by UID), and their bytes.
    pub archived: BTreeMap<String, (usize, usize)>,
}

/// Counts that must be zero, and what they are counts of.
pub fn faults(ledger: &Ledger, wanted: &Wanted) -> Vec<(&'static str, usize)> {
    let (missing, surplus) = awaited(ledger, wanted);
    let runs = || ledger.runs.values();
    vec![
        ("runs missing", missing),
        ("runs too many", surplus),
        ("runs with two live pods at once", runs().filter(|run| overlaps(&ledger.pods_of(&run.name))).count()),
        ("products begun before their model had succeeded", runs().filter(|run| is_early(ledger, wanted, run)).count()),
        ("pods gone before their logs were kept", ledger.pods.iter().filter(|(uid, pod)| went_unlogged(ledger, uid, pod)).count()),
        ("logs that are not as the run says", runs().map(|run| misreported(wanted, run)).sum()),
        ("runs that do not say what became of their pods", runs().filter(|run| !is_reaped(run)).count()),
        ("pods left over", ledger.pods.values().filter(|pod| pod.gone.is_none()).count()),
    ]
}

/// How many runs are missing, and how many nobody asked for.
fn awaited(ledger: &Ledger, wanted: &Wanted) -> (usize, usize) {
    let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for run in &wanted.runs {
        counts.entry((&run.task, &run.cycle)).or_default().0 += 1;
    }
    for run in ledger.runs.values() {
        counts.entry((&run.task, &run.cycle)).or_default().1 += 1;
    }
    let sum = |part: fn(&(usize, usize)) -> usize| counts.values().map(part).sum();
    (sum(|(wanted, seen)| wanted.saturating_sub(*seen)), sum(|(wanted, seen)| seen.saturating_sub(*wanted)))
}

/// Whether a pod was made before the one before it was gone.
fn overlaps(pods: &[(&str, &PodSeen)]) -> bool {
    pods.windows(2).any(|pair| pair[0].1.gone.is_none_or(|gone| gone > pair[1].1.made))
}

fn is_early(ledger: &Ledger, wanted: &Wanted, run: &RunSeen) -> bool {
    let pods = ledger.pods_of(&run.name);
    let Some((_, first)) = pods.first() else { return false };
    let had_ended = |edge: &Follows| {
        let mut before = ledger.runs.values().filter(|other| other.task == edge.after && other.cycle == run.cycle);
        before.any(|other| other.decided.is_some_and(|at| at < first.made) && (!edge.well || other.outcome == Some(Outcome::Succeeded)))
    };
    wanted.follows.iter().filter(|edge| edge.task == run.task).any(|edge| !had_ended(edge))
}

/// Whether a pod that ran is gone, and no run said before that its logs are kept whole.
fn went_unlogged(ledger: &Ledger, uid: &str, pod: &PodSeen) -> bool {
    let Some(gone) = pod.gone.filter(|_| pod.ran_ms.is_some()) else { return false };
    let logged = ledger.runs.values().find_map(|run| run.logged.get(uid));
    logged.is_none_or(|at| *at > gone)
}

/// Attempts whose logs have other sizes in the archive than in the run.
fn misreported(wanted: &Wanted, run: &RunSeen) -> usize {
    let archived = |uid: &str| wanted.archived.get(uid).map_or(0, |(_, bytes)| *bytes);
    let differs = |uid: &str, bytes: u64| usize::try_from(bytes).ok() != Some(archived(uid));
    run.attempts.values().filter(|attempt| attempt.logs.as_ref().is_some_and(|logs| differs(&attempt.pod_uid, logs.bytes))).count()
}

fn is_reaped(run: &RunSeen) -> bool {
    let told = |reap: &crate::tasks::run::Reap| reap.result.is_some();
    run.phase == Some(Phase::Reaped)
        && run.attempts.values().all(|attempt| attempt.pod_uid.is_empty() || attempt.reap.as_ref().is_some_and(told))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;

//! Runs that count together. In: the live runs of one task and scope. Out: whose turn it is, and whose place is taken.

use super::{
    facts::Run,
    life::{Turn, is_complete},
    run::Phase,
    spec::ConcurrencyPolicy,
};
use crate::model::time::Timestamp;

/// Whether a run counts: from the queue until nothing of it runs any more.
pub fn is_live(run: &Run) -> bool {
    match run.phase() {
        None | Some(Phase::Waiting | Phase::Reaped) => false,
        Some(Phase::Recycling) => run.status.outcome.is_none(),
        Some(_) => true,
    }
}

/// What the others see of a run: while it stays so, none of them has to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    live: bool,
    waits: bool,
    stopped: bool,
    arrived: usize,
}

impl Standing {
    /// Of a run as it is.
    pub fn of(run: &Run) -> Self {
        let waits = matches!(run.phase(), None | Some(Phase::Waiting));
        Self { live: is_live(run), waits, stopped: run.cancel || run.deleting, arrived: run.status.arrived.len() }
    }
}

fn is_ready(run: &Run, now: Timestamp) -> bool {
    matches!(run.phase(), None | Some(Phase::Waiting)) && run.frozen.is_some() && !run.cancel && !run.deleting && is_complete(run, now)
}

fn rule(run: &Run) -> (ConcurrencyPolicy, usize) {
    let rule = run.frozen.as_ref().map(|frozen| &frozen.concurrency);
    let max = rule.map_or(0, |rule| usize::try_from(rule.max).unwrap_or(usize::MAX));
    (rule.and_then(|rule| rule.policy).unwrap_or(ConcurrencyPolicy::Forbid), if max == 0 { usize::MAX } else { max })
}

/// What happens while others are live.
pub fn policy(run: &Run) -> ConcurrencyPolicy {
    rule(run).0
}

/// Whether any number of runs may live: nobody has to look at the others.
pub fn is_unbounded(run: &Run) -> bool {
    rule(run) == (ConcurrencyPolicy::Allow, usize::MAX)
}

/// Whether it is a run's turn. `group`: all runs of its task and scope, itself among them.
pub fn turn(run: &Run, group: &[&Run], now: Timestamp) -> Turn {
    let (policy, max) = rule(run);
    let live = group.iter().filter(|other| is_live(other)).count();
    let before = group.iter().filter(|other| is_ready(other, now) && other.order() < run.order()).count();
    if live.saturating_add(before) < max {
        return Turn::Go;
    }
    let others = group.iter().find(|other| is_live(other)).or_else(|| group.iter().find(|other| other.order() < run.order()));
    let other = others.map(|other| &*other.key.name).unwrap_or_default();
    let why = format!("{} of {max} runs are live, {other} among them", live + before);
    match policy {
        ConcurrencyPolicy::Forbid => Turn::Skip(why),
        _ => Turn::Wait(why),
    }
}

/// The run that takes this one's place: with Replace only the newest live on.
pub fn replaced_by<'a>(run: &Run, group: &[&'a Run], now: Timestamp) -> Option<&'a str> {
    let mut all: Vec<&&Run> = group.iter().filter(|other| is_live(other) || is_ready(other, now)).collect();
    all.sort_by_key(|other| other.order());
    let newest = all.last()?;
    let (policy, max) = rule(newest);
    let at = all.iter().position(|other| other.key == run.key)?;
    (policy == ConcurrencyPolicy::Replace && at.saturating_add(max) < all.len()).then_some(&*newest.key.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tasks::{
        facts::Key,
        run::{Frozen, Outcome, RunConcurrency},
        time::Time,
    };

    fn run(name: &str, policy: ConcurrencyPolicy, max: u32, phase: Option<Phase>) -> Run {
        let concurrency = RunConcurrency { policy: Some(policy), max, scope: "task".into() };
        let place = Time::from(Timestamp(u64::from(name.as_bytes()[0]) * 1_000));
        let mut run = Run::read(&serde_json::json!({"metadata": {"name": name}, "spec": {"taskRef": {"name": "t"}}})).unwrap();
        run.key = Key::new("ns", name);
        run.frozen = Some(Arc::new(Frozen { concurrency, priority_time: place, ..Frozen::default() }));
        run.status.phase = phase;
        run
    }

    fn turns(runs: &[Run]) -> Vec<&'static str> {
        let group: Vec<&Run> = runs.iter().collect();
        let word = |run: &Run| match turn(run, &group, Timestamp(0)) {
            Turn::Go => "go",
            Turn::Wait(_) => "wait",
            Turn::Skip(_) => "skip",
        };
        runs.iter().filter(|run| !is_live(run)).map(word).collect()
    }

    #[test]
    fn each_policy_has_its_say() {
        use ConcurrencyPolicy::{Allow, Forbid, Queue, Replace};
        for (policy, max, live, wanted) in [
            (Forbid, 1, 0, ["go", "skip"]),
            (Forbid, 1, 1, ["skip", "skip"]),
            (Forbid, 2, 0, ["go", "go"]),
            (Queue, 1, 0, ["go", "wait"]),
            (Queue, 1, 1, ["wait", "wait"]),
            (Queue, 2, 1, ["go", "wait"]),
            (Allow, 0, 1, ["go", "go"]),
            (Allow, 2, 1, ["go", "wait"]),
            (Replace, 1, 1, ["wait", "wait"]),
        ] {
            let mut runs = vec![run("x", policy, max, None), run("y", policy, max, Some(Phase::Waiting))];
            runs.extend((0..live).map(|_| run("a", policy, max, Some(Phase::Running))));
            assert_eq!(turns(&runs), wanted, "{policy:?} {max} {live}");
        }
    }

    #[test]
    fn with_replace_the_newest_live_on() {
        let runs = [
            run("a", ConcurrencyPolicy::Replace, 1, Some(Phase::Running)),
            run("b", ConcurrencyPolicy::Replace, 1, None),
            run("c", ConcurrencyPolicy::Replace, 1, None),
        ];
        let group: Vec<&Run> = runs.iter().collect();
        let by: Vec<Option<&str>> = runs.iter().map(|run| replaced_by(run, &group, Timestamp(0))).collect();
        assert_eq!(by, [Some("c"), Some("c"), None]);
    }

    #[test]
    fn what_has_ended_holds_up_nobody_what_is_tried_again_does() {
        let mut ended = run("a", ConcurrencyPolicy::Forbid, 1, Some(Phase::Recycling));
        assert!(is_live(&ended));
        ended.status.outcome = Some(Outcome::Succeeded);
        assert!(!is_live(&ended));
    }
}

//! Runs that count together. In: what each run of one task and scope is at the moment. Out: whose turn it is, and whose place is taken.
//!
//! Kept in the order of their places, so that a change costs the same beside ten runs and beside ten thousand.

use std::collections::BTreeMap;

use super::{
    facts::{Key, Run},
    life::{Turn, is_complete},
    run::Phase,
    spec::{ConcurrencyPolicy, OnDeadline},
};
use crate::model::time::Timestamp;

/// Runs that are looked at when one of their peers changes: those whose turn is next.
const NEXT_MAX: usize = 2;

/// Whether a run counts: from the queue until nothing of it runs any more.
pub fn is_live(run: &Run) -> bool {
    match run.phase() {
        None | Some(Phase::Waiting | Phase::Reaped) => false,
        Some(Phase::Recycling) => run.status.outcome.is_none(),
        Some(_) => true,
    }
}

/// What happens while others are live, and how many may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    policy: ConcurrencyPolicy,
    max: usize,
}

impl Rule {
    fn of(run: &Run) -> Self {
        let rule = run.frozen.as_ref().map(|frozen| &frozen.concurrency);
        let max = rule.map_or(0, |rule| usize::try_from(rule.max).unwrap_or(usize::MAX));
        Self {
            policy: rule.and_then(|rule| rule.policy).unwrap_or(ConcurrencyPolicy::Forbid),
            max: if max == 0 { usize::MAX } else { max },
        }
    }
}

/// What happens while others are live.
pub fn policy(run: &Run) -> ConcurrencyPolicy {
    Rule::of(run).policy
}

/// Whether any number of runs may live: nobody has to look at the others.
pub fn is_unbounded(run: &Run) -> bool {
    Rule::of(run) == Rule { policy: ConcurrencyPolicy::Allow, max: usize::MAX }
}

/// As [`Run::order`].
type Place = (Timestamp, Key);

fn place(run: &Run) -> Place {
    let (at, key) = run.order();
    (at, key.clone())
}

/// What the others see of a run: while it stays so, none of them has to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    place: Place,
    rule: Rule,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It counts.
    Live,
    /// It waits for its turn alone.
    Ready,
    /// It waits for data, and does without from then on.
    Dated(Timestamp),
    /// It is nothing to the others: over, stopped, or without its data.
    Apart,
}

impl Standing {
    /// Of a run as it is.
    pub fn of(run: &Run) -> Self {
        Self { place: place(run), rule: Rule::of(run), state: State::of(run) }
    }
}

impl State {
    fn of(run: &Run) -> Self {
        if is_live(run) {
            return Self::Live;
        }
        let waits = matches!(run.phase(), None | Some(Phase::Waiting)) && !run.cancel && !run.deleting;
        let Some(frozen) = run.frozen.as_ref().filter(|_| waits) else { return Self::Apart };
        if is_complete(run, Timestamp(0)) {
            return Self::Ready;
        }
        let waits_for = frozen.waits_for.as_ref().filter(|waits| waits.on_deadline == OnDeadline::Run);
        waits_for.and_then(|waits| waits.deadline).map_or(Self::Apart, |deadline| Self::Dated(deadline.0))
    }
}

/// The runs of one task and scope that are something to each other.
#[derive(Debug, Default)]
pub struct Peers {
    live: BTreeMap<Place, Rule>,
    ready: BTreeMap<Place, Rule>,
    dated: BTreeMap<Place, (Timestamp, Rule)>,
}

impl Peers {
    /// A run comes, or is not what it was.
    pub fn enter(&mut self, standing: Standing) {
        let Standing { place, rule, state } = standing;
        match state {
            State::Live => drop(self.live.insert(place, rule)),
            State::Ready => drop(self.ready.insert(place, rule)),
            State::Dated(at) => drop(self.dated.insert(place, (at, rule))),
            State::Apart => {}
        }
    }

    /// What it was is over.
    pub fn leave(&mut self, standing: &Standing) {
        match standing.state {
            State::Live => drop(self.live.remove(&standing.place)),
            State::Ready => drop(self.ready.remove(&standing.place)),
            State::Dated(_) => drop(self.dated.remove(&standing.place)),
            State::Apart => {}
        }
    }

    /// Nobody is here.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.ready.is_empty() && self.dated.is_empty()
    }

    /// Whether it is the turn of a run that is not live.
    pub fn turn(&self, run: &Run, now: Timestamp) -> Turn {
        let (Rule { policy, max }, place, live) = (Rule::of(run), place(run), self.live.len());
        let due = self.due(now).filter(|(other, _)| **other < place).map(|(other, _)| other);
        // No more than are needed to say that there is no room.
        let before = self.ready.range(..&place).map(|(other, _)| other).chain(due).take(max.saturating_sub(live));
        let before: Vec<&Place> = before.collect();
        if live.saturating_add(before.len()) < max {
            return Turn::Go;
        }
        let other = self.live.keys().next().or(before.first().copied()).map(|(_, key)| &*key.name).unwrap_or_default();
        let why = format!("{} of {max} runs are live, {other} among them", live + before.len());
        match policy {
            ConcurrencyPolicy::Forbid => Turn::Skip(why),
            _ => Turn::Wait(why),
        }
    }

    /// The run that takes this one's place: with Replace only the newest live on.
    pub fn replaced_by(&self, run: &Run, now: Timestamp) -> Option<&str> {
        let ((_, newest), rule) = self.newest(now)?;
        let place = place(run);
        let is_due = |(at, _): &(Timestamp, Rule)| *at <= now;
        let counts = self.live.contains_key(&place) || self.ready.contains_key(&place) || self.dated.get(&place).is_some_and(is_due);
        let newer = |other: &&Place| **other > place;
        let others = self.live.keys().rev().take_while(newer).chain(self.ready.keys().rev().take_while(newer));
        let newer = others.chain(self.due(now).map(|(other, _)| other).filter(newer)).take(rule.max).count();
        (rule.policy == ConcurrencyPolicy::Replace && counts && newer >= rule.max).then_some(&*newest.name)
    }

    /// Who has to look when one of them has changed.
    pub fn next(&self) -> Vec<Key> {
        // Those with a date wake by it, and are few.
        let dated = self.dated.keys();
        let replaces = self.newest(Timestamp(u64::MAX)).is_some_and(|(_, rule)| rule.policy == ConcurrencyPolicy::Replace);
        let (live, ready) = if replaces { (usize::MAX, usize::MAX) } else { (0, NEXT_MAX) };
        self.ready.keys().take(ready).chain(dated).chain(self.live.keys().take(live)).map(|(_, key)| key.clone()).collect()
    }

    fn due(&self, now: Timestamp) -> impl Iterator<Item = (&Place, Rule)> {
        self.dated.iter().filter(move |(_, (at, _))| *at <= now).map(|(place, (_, rule))| (place, *rule))
    }

    fn newest(&self, now: Timestamp) -> Option<(&Place, Rule)> {
        let last = [self.live.last_key_value(), self.ready.last_key_value()].into_iter().flatten().map(|(place, rule)| (place, *rule));
        last.chain(self.due(now)).max_by_key(|(place, _)| *place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tasks::{
        facts::Key,
        run::{Frozen, Outcome, RunConcurrency, WaitsFor},
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

    fn peers(runs: &[Run]) -> Peers {
        let mut peers = Peers::default();
        runs.iter().for_each(|run| peers.enter(Standing::of(run)));
        peers
    }

    fn turns(runs: &[Run]) -> Vec<&'static str> {
        let peers = peers(runs);
        let word = |run: &Run| match peers.turn(run, Timestamp(0)) {
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
        let peers = peers(&runs);
        let by: Vec<Option<&str>> = runs.iter().map(|run| peers.replaced_by(run, Timestamp(0))).collect();
        assert_eq!(by, [Some("c"), Some("c"), None]);
        assert_eq!(peers.next().len(), 3, "each has to look whether its place is taken");
    }

    #[test]
    fn those_whose_turn_is_next_look_and_nothing_is_left_of_those_that_leave() {
        let queued = |name| run(name, ConcurrencyPolicy::Queue, 1, None);
        let runs = [run("a", ConcurrencyPolicy::Queue, 1, Some(Phase::Running)), queued("d"), queued("c"), queued("b")];
        let mut peers = peers(&runs);
        assert_eq!(peers.next().iter().map(|key| &*key.name).collect::<Vec<_>>(), ["b", "c"]);
        let why = "1 of 1 runs are live, a among them";
        assert!(matches!(peers.turn(&runs[1], Timestamp(0)), Turn::Wait(text) if text == why));
        for run in &runs {
            assert!(!peers.is_empty());
            peers.leave(&Standing::of(run));
        }
        assert!(peers.is_empty());
    }

    #[test]
    fn one_that_waits_for_data_counts_from_its_deadline_on() {
        let deadline = Some(Time::from(Timestamp(5_000)));
        let mut dated = run("a", ConcurrencyPolicy::Queue, 1, Some(Phase::Waiting));
        let waits = WaitsFor { all_of: vec!["model".into()], deadline, on_deadline: OnDeadline::Run };
        dated.frozen = Some(Arc::new(Frozen { waits_for: Some(waits), ..Frozen::clone(dated.frozen.as_ref().unwrap()) }));
        let runs = [dated, run("b", ConcurrencyPolicy::Queue, 1, None)];
        let peers = peers(&runs);
        assert_eq!(peers.turn(&runs[1], Timestamp(4_999)), Turn::Go);
        assert!(matches!(peers.turn(&runs[1], Timestamp(5_000)), Turn::Wait(_)));
        assert_eq!(peers.next().len(), 2);
    }

    #[test]
    fn what_has_ended_holds_up_nobody_what_is_tried_again_does() {
        let mut ended = run("a", ConcurrencyPolicy::Forbid, 1, Some(Phase::Recycling));
        assert!(is_live(&ended));
        ended.status.outcome = Some(Outcome::Succeeded);
        assert!(!is_live(&ended));
    }
}

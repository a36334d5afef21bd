//! Starts after runs of other tasks. In: how a run ended, and the tasks that wait for such. Out: firings; and circles among tasks, which would never end.

use std::collections::{BTreeMap, BTreeSet};

use super::Firing;
use crate::{
    model::time::Timestamp,
    tasks::{
        run::{Outcome, TriggerKind, WaitsFor},
        spec::{After, TaskSpec, When},
        time::Time,
    },
};

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream<'a> {
    /// Its task.
    pub task: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Its cycle.
    pub cycle: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub finished: Timestamp,
}

/// Whether an end is the one that is waited for. A run that was skipped was none.
pub fn is_met(when: When, outcome: Outcome) -> bool {
    match (when, outcome) {
        (_, Outcome::Skipped) => false,
        (When::Finished, _) | (When::Succeeded, Outcome::Succeeded) => true,
        (When::Failed, outcome) => outcome != Outcome::Succeeded,
        (When::Succeeded, _) => false,
    }
}

/// What the end of a run starts by one trigger. With several tasks the run is one for the cycle, so that a run without a cycle starts none.
pub fn firing(after: &After, upstream: &Upstream) -> Option<Firing> {
    let waited = after.tasks.iter().find(|one| one.name == upstream.task)?;
    if !is_met(waited.when, upstream.outcome) {
        return None;
    }
    let mut firing = Firing {
        kind: TriggerKind::After,
        cycle: upstream.cycle,
        time: Some(upstream.finished),
        key: upstream.uid.to_owned(),
        ..Firing::default()
    };
    if after.tasks.len() > 1 {
        firing.key = format!("cycle/{}", upstream.cycle?.to_rfc3339());
        firing.waits_for = Some(WaitsFor {
            all_of: after.tasks.iter().map(|one| one.name.clone()).collect(),
            deadline: after.deadline.ms().map(|span| Time::from(upstream.finished + span)),
            on_deadline: after.on_deadline,
        });
        firing.arrived = Some(upstream.task.to_owned());
    }
    Some(firing)
}

/// A circle that the task is part of: `a -> b -> a`, each waiting for the one before.
pub fn circle(tasks: &BTreeMap<&str, &TaskSpec>, from: &str) -> Option<String> {
    let followers = |name: &str| -> Vec<&str> {
        let waits = |spec: &TaskSpec| {
            spec.triggers.iter().filter_map(|one| one.after.as_ref()).any(|after| after.tasks.iter().any(|one| one.name == name))
        };
        tasks.iter().filter(|(_, spec)| waits(spec)).map(|(name, _)| *name).collect()
    };
    // Breadth first: the shortest circle is told.
    let mut paths = vec![vec![from]];
    let mut seen = BTreeSet::new();
    let mut at = 0;
    while let Some(path) = paths.get(at).cloned() {
        at += 1;
        for next in followers(path.last().copied().unwrap_or(from)) {
            let longer: Vec<&str> = path.iter().copied().chain([next]).collect();
            if next == from {
                return Some(longer.join(" -> "));
            }
            if seen.insert(next) {
                paths.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{spec, time::Span};

    fn after(tasks: &[(&str, When)]) -> After {
        let tasks = tasks.iter().map(|(name, when)| spec::Upstream { name: (*name).into(), when: *when }).collect();
        After { tasks, deadline: Span::new("30m"), on_deadline: spec::OnDeadline::Run }
    }

    #[test]
    fn each_end_meets_what_waits_for_it() {
        use Outcome::{Cancelled, Failed, Lost, Skipped, Succeeded, TimedOut};
        for outcome in [Succeeded, Failed, TimedOut, Cancelled, Lost, Skipped] {
            assert_eq!(is_met(When::Succeeded, outcome), outcome == Succeeded);
            assert_eq!(is_met(When::Finished, outcome), outcome != Skipped);
            assert_eq!(is_met(When::Failed, outcome), outcome != Skipped && outcome != Succeeded);
        }
    }

    #[test]
    fn one_upstream_starts_a_run_each_time_several_one_for_the_cycle() {
        let cycle = Timestamp::parse_rfc3339("2026-11-28T06:00:00Z").unwrap();
        let mut upstream = Upstream { task: "a", uid: "u1", cycle: Some(cycle), outcome: Outcome::Succeeded, finished: cycle };
        let one = firing(&after(&[("a", When::Succeeded)]), &upstream).unwrap();
        assert_eq!((one.key.as_str(), one.cycle, one.waits_for), ("u1", Some(cycle), None));
        let two = after(&[("a", When::Succeeded), ("b", When::Finished)]);
        let first = firing(&two, &upstream).unwrap();
        let waits = first.waits_for.clone().unwrap();
        assert_eq!(waits.all_of, ["a", "b"]);
        assert_eq!(waits.deadline.unwrap().0, cycle + crate::model::time::DurationMs(1_800_000));
        upstream = Upstream { task: "b", uid: "u2", ..upstream };
        let second = firing(&two, &upstream).unwrap();
        assert_eq!((second.key, second.arrived.as_deref()), (first.key, Some("b")));
        assert_eq!(firing(&two, &Upstream { cycle: None, ..upstream.clone() }), None);
        assert_eq!(firing(&two, &Upstream { task: "c", ..upstream }), None);
    }

    #[test]
    fn circles_are_found_and_told() {
        let waiting = |on: &[&str]| {
            let tasks: Vec<(&str, When)> = on.iter().map(|name| (*name, When::Succeeded)).collect();
            let trigger = spec::Trigger { after: Some(after(&tasks)), ..spec::Trigger::default() };
            TaskSpec { triggers: vec![trigger], ..TaskSpec::default() }
        };
        let (a, b, c, d) = (waiting(&["c"]), waiting(&["a"]), waiting(&["b"]), waiting(&["a", "d2"]));
        let tasks = BTreeMap::from([("a", &a), ("b", &b), ("c", &c), ("d", &d)]);
        assert_eq!(circle(&tasks, "a").as_deref(), Some("a -> b -> c -> a"));
        assert_eq!(circle(&tasks, "d"), None, "it waits for a circle, but is none itself");
        let me = waiting(&["e"]);
        assert_eq!(circle(&BTreeMap::from([("e", &me)]), "e").as_deref(), Some("e -> e"));
    }
}

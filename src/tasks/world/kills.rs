//! The leader is killed once at each effect, before it and after it, for each kind of trigger. In: the list of effects. Out: worlds that must come to rest.

use std::collections::BTreeSet;

use super::{World, executor::Flight, server::Kind};
use crate::tasks::{
    effect::{Effect, Subject},
    trigger::arrival::Arrival,
};

/// Where the leader dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The n-th order on the way of the task's runs.
    pub nth: usize,
    /// Before or after it takes effect.
    pub after: bool,
    /// Only orders of this task and its runs count.
    pub task: &'static str,
    pub seen: Vec<String>,
}

impl World {
    /// Counts orders of the task that is looked at; the leader dies at the one that was chosen.
    pub fn is_killed(&mut self, flight: &Flight, after: bool) -> bool {
        let Some(kill) = self.kill.as_mut().filter(|_| flight.awaited) else { return false };
        let of = |name: &str| name == kill.task || name.starts_with(&format!("{}-", kill.task));
        let is_its = match (&flight.subject, &flight.effect) {
            (_, Effect::CreateRun(run)) => of(run["metadata"]["name"].as_str().unwrap()),
            (Subject::Run(key) | Subject::Task(key), _) => of(&key.name),
            _ => false,
        };
        if !is_its {
            return false;
        }
        if !after {
            kill.seen.push(flight.effect.name().to_owned());
        }
        let dies = !self.killed && kill.after == after && kill.seen.len() == kill.nth + 1;
        if dies {
            self.killed = true;
            self.take_over(false);
        }
        dies
    }
}

/// One run by one kind of trigger, from nothing to its end; the effects on the way.
fn lived(task: &'static str, nth: usize, after: bool) -> (bool, Vec<String>) {
    let tasks: &[&str] = if task == "follow" { &["clock", "follow"] } else { &[task] };
    let mut world = World::with(u64::try_from(nth).unwrap() * 2 + u64::from(after), tasks);
    world.calm = true;
    world.kill = Some(Kill { nth, after, task, seen: Vec::new() });
    match task {
        "hand" => world.user_runs(),
        "file" => world.unsent.push(Arrival { source: "s".into(), id: "f1".into(), name: "f1".into(), time: Some(world.now) }),
        _ => {}
    }
    world.calm_down();
    let kinds: BTreeSet<String> = world.ever.iter().filter(|(name, ..)| name == task).map(|(_, kind, _)| kind.clone()).collect();
    assert!(task == "hand" || kinds.len() == 1, "{task}: {kinds:?}");
    assert!(world.server.all(Kind::Run).count() > 0);
    (world.killed, world.kill.take().unwrap().seen)
}

#[test]
fn a_death_at_any_effect_of_any_trigger_does_no_harm() {
    let mut names = BTreeSet::new();
    for task in ["clock", "follow", "file", "hand"] {
        for nth in 0.. {
            let deaths = [false, true].map(|after| lived(task, nth, after));
            names.extend(deaths.iter().flat_map(|(_, seen)| seen.clone()));
            if nth > 20 || deaths.iter().any(|(killed, _)| !killed) {
                break;
            }
        }
    }
    let wanted =
        ["Announce", "CreatePod", "CreateRun", "DeletePod", "FillIn", "ReadPod", "ReleasePod", "SaveLogs", "WriteRun", "WriteTask"];
    assert!(wanted.iter().all(|name| names.contains(*name)), "{names:?}");
}

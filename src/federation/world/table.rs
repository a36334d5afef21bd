//! The leader dies at each write of the protocol, in both commit orders. In: how many writes have been done when it dies, and whether the last one was
//! answered. Out: the same end as if it had lived: one run, nothing left.

use serde_json::json;

use super::{CALM, World, executor};
use crate::{
    federation::{
        effect::{Command, Effect, Input},
        machine::Machine,
        spec::Commit,
    },
    model::time::DurationMs,
};

/// More writes than the longest life of a pod has.
const WRITES_MAX: usize = 24;

fn is_write(effect: &Effect) -> bool {
    !matches!(effect, Effect::CheckRun(_) | Effect::CheckHome | Effect::PlaceAgain { .. })
}

/// One pod from creation to deletion, a batch pod after its end, another one while it runs; the leader dies after so many writes. Which write was the last.
fn life(commit: Commit, restart_policy: &str, dies_after: usize, is_done: bool) -> Option<&'static str> {
    let mut world = World::new(7);
    world.calm = true;
    world.pins = commit == Commit::BindFirst;
    world.policy.commit = commit;
    world.policy.archive_logs = true;
    let policy = world.policy.clone();
    world.machine = Machine::new(policy.clone(), 1);
    world.take_over();
    let pod = json!({
        "metadata": { "namespace": "ns", "name": "p", "annotations": {} },
        "spec": { "restartPolicy": restart_policy, "tolerations": executor::tolerations(Some(300)) },
        "status": { "phase": "Pending" },
    });
    world.home.create(pod, "h").unwrap();
    let (mut writes, mut died_at, mut deleted) = (0, None, false);
    let until = world.now + CALM;
    while world.now < until && !world.home.pods.is_empty() {
        world.now = world.now + DurationMs(300);
        world.schedule();
        world.live();
        let about = world.flights.iter().find(|flight| is_write(&flight.order.effect)).map(|flight| flight.order.effect.name());
        if let Some(name) = about.filter(|_| died_at.is_none()) {
            writes += 1;
            if writes == dies_after {
                died_at = Some(name);
                if is_done {
                    world.flights.iter_mut().for_each(|flight| flight.is_awaited = false);
                    world.now = world.now + DurationMs(1_000);
                    world.land();
                }
                world.flights.clear();
                world.take_over();
                continue;
            }
        }
        world.now = world.now + DurationMs(300);
        world.land();
        world.deliver(100);
        world.give(Input::Tick);
        let ended = world.home.pods.get("p").is_some_and(|pod| pod["status"]["phase"] != "Pending" && pod["status"]["phase"] != "Running");
        let runs = restart_policy == "Always" && world.home.pods.get("p").is_some_and(|pod| pod["status"]["phase"] == "Running");
        if (runs || (ended && world.compute.pods.is_empty())) && !deleted {
            deleted = true;
            world.home.delete("p", "h", None, Some(30), world.now).unwrap();
        }
    }
    assert!(world.home.pods.is_empty() && world.compute.pods.is_empty(), "{commit:?} {dies_after} {is_done}: something is left");
    died_at
}

#[test]
fn a_leader_may_die_at_every_write() {
    for commit in [Commit::BindFirst, Commit::CreateFirst] {
        let mut seen = Vec::new();
        for dies_after in 1..WRITES_MAX {
            for (is_done, restart_policy) in [(false, "Never"), (true, "Never"), (false, "Always"), (true, "Always")] {
                let at = life(commit, restart_policy, dies_after, is_done);
                seen.extend(at.filter(|name| !seen.contains(name)));
            }
        }
        let first = if commit == Commit::BindFirst { vec!["Bind"] } else { vec!["Intend", "CreateRun", "Bind"] };
        let all = first.into_iter().chain(["CreateRun", "SetPatience", "Mirror", "ArchiveLogs", "Reap", "DeleteRun", "Confirm"]);
        all.for_each(|name| assert!(seen.contains(&name), "{commit:?}: no leader died at {name}: {seen:?}"));
    }
}

#[test]
fn a_standby_orders_nothing() {
    let mut world = World::new(3);
    let mut standby = Machine::new(world.policy.clone(), 1);
    for _ in 0..200 {
        world.step();
        let mut out: Vec<Command> = Vec::new();
        for pod in world.home.pods.values() {
            let home = crate::federation::facts::HomePod::read(pod, super::VIRTUAL_NODE).unwrap();
            standby.handle(world.now, Input::Home(Box::new(home)), &mut out);
        }
        standby.handle(world.now, Input::Tick, &mut out);
        assert!(out.is_empty() && standby.consistency_check().is_ok());
    }
}

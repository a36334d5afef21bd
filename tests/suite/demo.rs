//! The demo as a newcomer runs it, shortened: repeatable, nothing lost or doubled, and everything where it belongs.

use isobar::{
    demo::{DemoOptions, Outcome, faults, render, run, svg},
    tasks::run::{Ended, Outcome as RunOutcome},
};

/// Simulated minutes of arrivals: a forecast cycle, training, notebooks, a line that is cut half-way; of tasks a radar volume, a model cycle with its products,
/// files, an overrun and a notebook.
const MINUTES: u64 = 8;

fn play(seed: u64) -> Outcome {
    let mut told = 0;
    let outcome = run(DemoOptions { seed, minutes: MINUTES }, &mut |progress| {
        assert!(progress.bound <= progress.created && progress.minute <= progress.minutes);
        told += 1;
    });
    let outcome = outcome.expect("the demo runs");
    assert!(told >= 3, "progress was told {told} times");
    outcome
}

#[test]
fn a_seed_gives_one_story_in_which_nothing_is_lost_or_doubled() {
    let (one, two) = (play(1), play(1));
    assert_eq!(one.history.placements(), two.history.placements());
    assert_eq!(render(&one), render(&two));
    assert_eq!(svg(&one).expect("a picture"), svg(&two).expect("a picture"));
    nothing_is_lost_or_doubled_and_everything_runs_where_it_can(&one);
    tasks_ran_and_left_their_logs(&one);
}

fn tasks_ran_and_left_their_logs(outcome: &Outcome) {
    let ledger = &outcome.history.tasks;
    let ended =
        |task: &str| -> Vec<Option<RunOutcome>> { ledger.runs.values().filter(|run| run.task == task).map(|run| run.outcome).collect() };
    for (task, count) in [
        ("radar-volume", 1),
        ("model", 1),
        ("surface-maps", 1),
        ("station-forecasts", 1),
        ("bulletin", 1),
        ("ingest", 2),
        ("composite", 1),
        ("overrun", 1),
    ] {
        assert_eq!(ended(task), vec![Some(RunOutcome::Succeeded); count], "{task}");
    }
    assert_eq!(ended("notebook"), [Some(RunOutcome::Cancelled)]);
    let only = |task: &str| ledger.runs.values().find(|run| run.task == task).expect("a run");
    let ends: Vec<_> = only("overrun").attempts.values().map(|attempt| attempt.ended).collect();
    assert_eq!(ends, [Some(Ended::Requeued), Some(Ended::Succeeded)], "over time, back to the queue, and well");

    // Kernel, proxy, sidecar and file server, where its claims are mapped to.
    let pods = ledger.pods_of(&only("notebook").name);
    let [(uid, _)] = pods.as_slice() else { panic!("one pod: {pods:?}") };
    let life = &outcome.history.pods[*uid];
    assert!(life.bound.is_some() && !life.is_in("home"), "{life:?}");
    assert_eq!(outcome.wanted.archived[*uid].0, 4);
    assert_eq!(outcome.wanted.runs.len(), ledger.runs.len());
}

fn nothing_is_lost_or_doubled_and_everything_runs_where_it_can(outcome: &Outcome) {
    assert!(faults(outcome).iter().all(|(_, count)| *count == 0), "{:?}", faults(outcome));
    let history = &outcome.history;
    let mut bound = 0;
    for life in history.pods.values() {
        let Some((_, node)) = &life.bound else {
            assert_eq!(life.kind, "impossible", "{} is pending: {}", life.name, life.message);
            continue;
        };
        let (cluster, _) = node.split_once('/').expect("a cluster and a node");
        let kind = &history.nodes[node].kind;
        let (amd, arm, gpu) = (kind.contains("amd64"), kind.contains("arm64"), kind.contains(" + "));
        let right = match life.kind.as_str() {
            "forecast" => amd && !gpu,
            "post-processing" => arm && !gpu,
            "training" => kind.contains("A100"),
            "ai-forecast" => gpu,
            "radar" | "task" => !gpu,
            // Their files are where a compute cluster says they are.
            "reanalysis" => !gpu && cluster != "home",
            "notebook" => cluster != "home",
            "portal" => cluster == "home",
            other => panic!("{other} must not be placed"),
        };
        assert!(right, "{} is on {node}, {kind}", life.name);
        bound += 1;
    }
    assert!(bound > 90, "{bound} pods are bound");
    assert!(outcome.events.iter().any(|(reason, count)| reason == "Scheduled" && *count == bound), "{:?}", outcome.events);
    let abroad = &outcome.abroad;
    assert!(abroad.starts.len() == 4, "{:?}", abroad.starts);
    assert!(abroad.cut.there > 0 && abroad.cut.elsewhere > 0 && abroad.logs.0 > 10, "{abroad:?}");
}

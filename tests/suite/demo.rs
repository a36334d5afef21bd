//! The demo as a newcomer runs it, shortened: repeatable, nothing lost or doubled, and everything where it belongs.

use isobar::demo::{DemoOptions, Outcome, faults, render, run, svg};

/// Simulated minutes of arrivals: a forecast cycle, its products, training, and nodes that change half-way.
const MINUTES: u64 = 16;

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
fn the_same_seed_gives_the_same_placements_and_report() {
    let (one, two) = (play(1), play(1));
    assert_eq!(one.history.placements(), two.history.placements());
    assert_eq!(render(&one), render(&two));
    assert_eq!(svg(&one).expect("a picture"), svg(&two).expect("a picture"));
    assert_ne!(one.history.digest(), play(2).history.digest());
}

#[test]
fn nothing_is_lost_or_doubled_and_everything_runs_where_it_can() {
    let outcome = play(3);
    assert!(faults(&outcome).iter().all(|(_, count)| *count == 0), "{:?}", faults(&outcome));
    let history = &outcome.history;
    let mut bound = 0;
    for life in history.pods.values() {
        let Some((_, node)) = &life.bound else {
            assert_eq!(life.kind, "impossible", "{} is pending: {}", life.name, life.message);
            continue;
        };
        let kind = &history.nodes[node].kind;
        let right = match life.kind.as_str() {
            "forecast" => kind == "amd64",
            "post-processing" => kind == "arm64",
            "training" => kind.contains("A100"),
            "ai-forecast" => kind.contains("NVIDIA"),
            "radar" | "reanalysis" | "portal" => !kind.contains("NVIDIA"),
            "notebook" => true,
            other => panic!("{other} must not be placed"),
        };
        assert!(right, "{} is on {node}, {kind}", life.name);
        bound += 1;
    }
    assert!(bound > 200, "{bound} pods are bound");
    assert!(outcome.events.iter().any(|(reason, count)| reason == "Scheduled" && *count == bound), "{:?}", outcome.events);
}

//! What happens when. In: a seed, a length, the tasks. Out: a list of deeds in the order of time, the same for the same seed.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};

use super::cluster::{HALL, SITES, X86_CLOUD};
use super::tasks::{Service, Wanted};
use super::workloads::{self as work, MINUTE};

/// Something done through the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// A node is added to a cluster.
    AddNode(&'static str, Value),
    /// A node of a cluster is closed to new pods, or opened again.
    Cordon(&'static str, String, bool),
    /// The line to a compute cluster is cut, or healed.
    Cut(&'static str, bool),
    /// A pod is created.
    CreatePod(Value),
    /// A pod's scheduling gates are removed.
    Ungate(String),
    /// A pod is deleted by its user.
    DeletePod(String),
    /// A task is registered.
    ApplyTask(Value),
    /// A run of a task is started by hand.
    StartRun(Value),
    /// All runs of a task are ended by their users.
    CancelRuns(&'static str),
    /// The clock starts no more runs of a task.
    Suspend(&'static str),
    /// Something arrives at a source: an event as it would be posted to `/events/SOURCE`.
    Arrive(&'static str, Value),
}

/// A deed and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Milliseconds from the start.
    pub at_ms: u64,
    /// What is done.
    pub deed: Deed,
}

/// A cluster and what is asked of it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// In the order of time.
    pub steps: Vec<Step>,
    /// What must come of the tasks.
    pub wanted: Wanted,
}

/// Time between two radar composites; the real one is five minutes as well.
const RADAR_MINUTES: u64 = 5;
const RADAR_TILES: u64 = 16;
/// Time between two forecast cycles; in reality six hours.
const FORECAST_MINUTES: u64 = 20;
const FORECAST_MEMBERS: u64 = 30;
const PRODUCTS: u64 = 60;
/// Time between two runs of the learned model.
const AI_MINUTES: u64 = 6;
const AI_REGIONS: u64 = 9;
/// Mean time between two people who open a notebook.
const NOTEBOOK_MS: u64 = 25_000;
const REANALYSIS_YEARS: std::ops::Range<u64> = 1940..2030;
const PORTALS: u64 = 3;
/// When the line is cut, after half of the time: a little into what happens then.
const CUT_DELAY_MS: u64 = 10_000;
/// For how long.
const CUT_MINUTES: u64 = 6;

/// The scenario of a seed, over so many minutes of arrivals.
pub fn scenario(seed: u64, minutes: u64, tasks: &Service) -> Scenario {
    let mut writer = Writer { rng: Pcg64Mcg::seed_from_u64(seed), steps: Vec::new(), end: minutes * MINUTE };
    (0..PORTALS).for_each(|number| writer.at(0, Deed::CreatePod(work::portal(number))));
    writer.radar();
    writer.forecasts();
    writer.gpu_work();
    writer.notebooks();
    writer.reanalysis();
    writer.changes();
    let Writer { mut steps, end, .. } = writer;
    let (of_tasks, wanted) = tasks.plan(minutes);
    steps.extend(of_tasks);
    steps.retain(|step| step.at_ms <= end || !matches!(step.deed, Deed::CreatePod(_)));
    // Stable: what is planned for the same moment happens in the order of planning.
    steps.sort_by_key(|step| step.at_ms);
    Scenario { steps, wanted }
}

/// The pods that stand around when the cluster is served to kubectl.
pub fn standing() -> Vec<Value> {
    let portals = (0..PORTALS).map(work::portal);
    let notebooks = (0..4).map(|number| work::notebook(number, number == 3));
    let forecasts = (0..4).map(|member| work::forecast(0, member, 10 * MINUTE));
    portals.chain(notebooks).chain(forecasts).chain(work::impossible().into_iter().take(2)).collect()
}

struct Writer {
    rng: Pcg64Mcg,
    steps: Vec<Step>,
    end: u64,
}

impl Writer {
    fn at(&mut self, at_ms: u64, deed: Deed) {
        self.steps.push(Step { at_ms, deed });
    }

    /// A time around a mean, evenly within a third of it.
    fn around(&mut self, mean_ms: u64) -> u64 {
        self.rng.random_range(mean_ms * 2 / 3..=mean_ms * 4 / 3)
    }

    fn radar(&mut self) {
        for (cycle, at) in (0..).zip((0..self.end).step_by(ms(RADAR_MINUTES))) {
            for tile in 0..RADAR_TILES {
                let run_ms = self.around(2 * MINUTE);
                let arrival = at + self.rng.random_range(0..20_000);
                self.at(arrival, Deed::CreatePod(work::radar(cycle, tile, run_ms)));
            }
        }
    }

    /// Members at once; products are created with them, and their gates opened when the last member should be done.
    fn forecasts(&mut self) {
        for (cycle, at) in (0..).zip((MINUTE..self.end).step_by(ms(FORECAST_MINUTES))) {
            for member in 0..FORECAST_MEMBERS {
                let run_ms = self.around(9 * MINUTE);
                self.at(at, Deed::CreatePod(work::forecast(cycle, member, run_ms)));
            }
            for product in 0..PRODUCTS {
                let run_ms = self.around(2 * MINUTE);
                let pod = work::post_processing(cycle, product, run_ms);
                let name = name(&pod);
                self.at(at, Deed::CreatePod(pod));
                self.at(at + 13 * MINUTE + product * 500, Deed::Ungate(name));
            }
        }
    }

    fn gpu_work(&mut self) {
        for (cycle, at) in (0..).zip((2 * MINUTE..self.end).step_by(ms(AI_MINUTES))) {
            for region in 0..AI_REGIONS {
                let run_ms = self.around(3 * MINUTE);
                self.at(at, Deed::CreatePod(work::ai_forecast(cycle, region, run_ms)));
            }
        }
        for number in 0..6 {
            let run_ms = self.around(14 * MINUTE);
            let gpus = if number % 3 == 2 { 8 } else { 4 };
            self.at(3 * MINUTE + number * 7 * MINUTE, Deed::CreatePod(work::training(number, gpus, run_ms)));
        }
    }

    /// People come and go: a pause of exponential length between two of them.
    fn notebooks(&mut self) {
        let (mut at, mut number) = (0, 0);
        loop {
            let even: f64 = self.rng.random_range(0.001..1.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // some minutes at most
            let pause = (-even.ln() * NOTEBOOK_MS as f64) as u64;
            at += pause;
            if at >= self.end {
                return;
            }
            let pod = work::notebook(number, self.rng.random_range(0..8) == 0);
            let closes = at + self.around(18 * MINUTE);
            let name = name(&pod);
            self.at(at, Deed::CreatePod(pod));
            self.at(closes, Deed::DeletePod(name));
            number += 1;
        }
    }

    fn reanalysis(&mut self) {
        for year in REANALYSIS_YEARS {
            let run_ms = self.around(7 * MINUTE);
            self.at(8 * MINUTE + (year - REANALYSIS_YEARS.start) * 1000, Deed::CreatePod(work::reanalysis(year, run_ms)));
        }
    }

    /// What no node takes, and what changes half-way: two nodes come, one is closed and opened again, a line is cut and healed.
    fn changes(&mut self) {
        for (number, pod) in (0..).zip(work::impossible()) {
            self.at(4 * MINUTE + number * MINUTE, Deed::CreatePod(pod));
        }
        let half = self.end / 2;
        for number in 1..=2 {
            let machine = SITES[1].machines[0];
            self.at(half, Deed::AddNode(HALL, machine.node(HALL, machine.count + number)));
        }
        self.at(half, Deed::Cordon(X86_CLOUD, "x86-01".to_owned(), true));
        self.at(half + self.end / 4, Deed::Cordon(X86_CLOUD, "x86-01".to_owned(), false));
        let cut = half + CUT_DELAY_MS;
        self.at(cut, Deed::Cut(X86_CLOUD, true));
        self.at(cut + CUT_MINUTES * MINUTE, Deed::Cut(X86_CLOUD, false));
    }
}

fn ms(minutes: u64) -> usize {
    usize::try_from(minutes * MINUTE).unwrap_or(usize::MAX)
}

/// `metadata.name`.
pub fn name(object: &Value) -> String {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The patch that removes scheduling gates.
pub fn without_gates() -> Value {
    json!({"spec": {"schedulingGates": null}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn scenario(seed: u64, minutes: u64) -> Scenario {
        super::scenario(seed, minutes, &Service::read().unwrap())
    }

    #[test]
    fn a_seed_means_the_same_for_ever_and_another_one_something_else() {
        assert_eq!(scenario(1, 60).steps, scenario(1, 60).steps);
        assert_ne!(scenario(1, 60).steps, scenario(2, 60).steps);
    }

    #[test]
    fn names_are_unique_and_every_kind_occurs() {
        let scenario = scenario(3, 60);
        let pods: Vec<&Value> =
            scenario.steps.iter().filter_map(|step| if let Deed::CreatePod(pod) = &step.deed { Some(pod) } else { None }).collect();
        let names: BTreeSet<String> = pods.iter().map(|pod| name(pod)).collect();
        assert_eq!(names.len(), pods.len());
        let kinds: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.pointer("/metadata/labels/app")?.as_str()).collect();
        assert_eq!(kinds, work::KINDS.into_iter().filter(|kind| *kind != work::TASK).collect());
        assert!(scenario.steps.is_sorted_by_key(|step| step.at_ms));
    }
}

//! The tasks of the demo and what happens to them. In: the example manifests, as people copy them. Out: Tasks for the demo's clusters, deeds, and the runs that
//! must come of them.
//!
//! Changed in the examples is only what the stand-in for clusters needs: how long pods run, as there is nothing in them that would, and the six hours between
//! two model cycles, which are twenty minutes here.

use serde_json::{Value, json};

use super::audit::{Awaited, Follows, Wanted};
use crate::{
    demo::{
        run::{DemoError, START},
        scenario::{Deed, Step, name},
        workloads::MINUTE,
    },
    model::time::Timestamp,
    sim::behaviour::{RUN_MS, variable},
};

const EXAMPLES: [&str; 5] = [
    include_str!("../../../manifests/examples/radar.yaml"),
    include_str!("../../../manifests/examples/model-cycle.yaml"),
    include_str!("../../../manifests/examples/data-arrival.yaml"),
    include_str!("../../../manifests/examples/overrun.yaml"),
    include_str!("../../../manifests/examples/notebook.yaml"),
];

const RADAR: &str = "radar-volume";
const MODEL: &str = "model";
const INGEST: &str = "ingest";
const COMPOSITE: &str = "composite";
const OVERRUN: &str = "overrun";
const NOTEBOOK: &str = "notebook";
/// Tasks that the clock starts.
const CLOCKED: [&str; 2] = [RADAR, MODEL];
/// What has one run for each cycle of the model: itself, and what follows it.
const OF_MODEL: [&str; 4] = [MODEL, "surface-maps", "station-forecasts", "bulletin"];

/// Milliseconds that the pods of a task run; a notebook until its user ends it. The first attempt of the overrun is longer than the task may take.
const RUNS: [(&str, &str); 8] = [
    (RADAR, "120000"),
    (MODEL, "300000"),
    ("surface-maps", "90000"),
    ("station-forecasts", "150000"),
    ("bulletin", "20000"),
    (INGEST, "40000"),
    (COMPOSITE, "60000"),
    (OVERRUN, "600000,20000"),
];

/// As the radar's example says.
const RADAR_MINUTES: u64 = 6;
/// The model's schedule here, and what its cycle is before it.
const MODEL_MINUTES: u64 = 20;
const MODEL_DELAY_MINUTES: u64 = 3;
/// Between two files of a radar, and between two pairs of products.
const FILE_MINUTES: usize = 7;
const PAIR_MINUTES: usize = 15;
/// Senders that have heard nothing send again.
const AGAIN_MS: u64 = 2_000;
/// After the last minute the clock starts nothing more.
const SUSPENDED_AFTER_MS: u64 = 30_000;

/// The tasks.
#[derive(Clone, Debug)]
pub struct Service {
    tasks: Vec<Value>,
    notebook: Value,
}

impl Service {
    /// Reads the examples.
    pub fn read() -> Result<Self, DemoError> {
        let (mut tasks, mut notebook) = (Vec::new(), Value::Null);
        for text in EXAMPLES {
            let objects = serde_saphyr::from_multiple::<Value>(text).map_err(|error| DemoError::Example(error.to_string()))?;
            for object in objects {
                if object["kind"] == "TaskRun" { notebook = object } else { tasks.push(adapted(object)) }
            }
        }
        Ok(Self { tasks, notebook })
    }

    /// What is begun when the clusters are served in real time.
    pub fn standing(&self) -> Vec<Deed> {
        let tasks = self.tasks.iter().cloned().map(Deed::ApplyTask);
        tasks.chain([Deed::StartRun(overrun()), Deed::StartRun(self.notebook.clone())]).collect()
    }

    /// What happens in so many minutes, and what must come of it.
    pub fn plan(&self, minutes: u64) -> (Vec<Step>, Wanted) {
        let mut plan = Plan::default();
        for task in &self.tasks {
            plan.at(0, Deed::ApplyTask(task.clone()));
        }
        plan.clocks(minutes);
        plan.files(minutes);
        plan.people(minutes, &self.notebook);
        plan.wanted.follows = self.follows();
        (plan.steps, plan.wanted)
    }

    fn follows(&self) -> Vec<Follows> {
        let mut follows = Vec::new();
        for task in &self.tasks {
            let triggers = task["spec"]["triggers"].as_array().into_iter().flatten();
            for after in triggers.filter_map(|trigger| trigger["after"]["tasks"].as_array()).flatten() {
                follows.push(Follows { task: name(task), after: text(&after["name"]), well: after["when"] != "Finished" });
            }
        }
        follows
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn adapted(mut task: Value) -> Value {
    let name = name(&task);
    if name == MODEL {
        let minutes: Vec<String> = (0..60 / MODEL_MINUTES).map(|at| (at * MODEL_MINUTES + MODEL_DELAY_MINUTES).to_string()).collect();
        let cron = &mut task["spec"]["triggers"][0]["cron"];
        cron["schedule"] = format!("{} * * * *", minutes.join(",")).into();
        cron["cycleOffset"] = format!("-{MODEL_DELAY_MINUTES}m").into();
    }
    if let Some((_, run_ms)) = RUNS.iter().find(|(task, _)| *task == name) {
        let container = &mut task["spec"]["template"]["spec"]["containers"][0];
        let told = json!({"name": variable(RUN_MS), "value": run_ms});
        container["env"] = container["env"].as_array().cloned().unwrap_or_default().into_iter().chain([told]).collect();
    }
    task
}

fn overrun() -> Value {
    json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"generateName": "overrun-"}, "spec": {"taskRef": {"name": OVERRUN}}})
}

/// The time at a minute of the demo.
fn time(minute: u64) -> Timestamp {
    Timestamp(START.0 + minute * MINUTE)
}

#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    wanted: Wanted,
}

impl Plan {
    fn at(&mut self, at_ms: u64, deed: Deed) {
        self.steps.push(Step { at_ms, deed });
    }

    fn await_run(&mut self, task: &str, cycle: Option<Timestamp>) {
        self.wanted.runs.push(Awaited { task: task.to_owned(), cycle: cycle.map(Timestamp::to_rfc3339).unwrap_or_default() });
    }

    fn clocks(&mut self, minutes: u64) {
        let before = |at: Timestamp, minutes: u64| Some(Timestamp(at.0 - minutes * MINUTE));
        for at in (1..=minutes).map(time) {
            let minute = at.0 / MINUTE % 60;
            if minute.is_multiple_of(RADAR_MINUTES) {
                self.await_run(RADAR, before(at, RADAR_MINUTES));
            }
            if minute % MODEL_MINUTES == MODEL_DELAY_MINUTES {
                OF_MODEL.iter().for_each(|task| self.await_run(task, before(at, MODEL_DELAY_MINUTES)));
            }
        }
        for task in CLOCKED {
            self.at(minutes * MINUTE + SUSPENDED_AFTER_MS, Deed::Suspend(task));
        }
    }

    /// Files of radars, each told twice; and pairs of products, of which every second one stays incomplete.
    fn files(&mut self, minutes: u64) {
        for (station, minute) in (0..).zip((1..=minutes).step_by(FILE_MINUTES)) {
            let name = format!("Z90{:02}_{}.bz2", 10 + station % 3 * 10, digits(time(minute)));
            self.arrive(minute, "radar-in", &name);
            self.await_run(INGEST, Some(time(minute)));
        }
        for (pair, minute) in (0_u32..).zip((3..=minutes).step_by(PAIR_MINUTES)) {
            let cycle = digits(time(minute));
            self.arrive(minute, "products", &format!("reflectivity_{cycle}"));
            if pair.is_multiple_of(2) {
                self.arrive(minute + 1, "products", &format!("velocity_{cycle}"));
            }
            self.await_run(COMPOSITE, Some(time(minute)));
        }
    }

    fn arrive(&mut self, minute: u64, source: &'static str, name: &str) {
        let event = json!({"specversion": "1.0", "type": "example.object.created", "source": format!("/{source}"), "id": name, "subject": name,
            "time": time(minute).to_rfc3339()});
        for at_ms in [minute * MINUTE, minute * MINUTE + AGAIN_MS] {
            self.at(at_ms, Deed::Arrive(source, event.clone()));
        }
    }

    fn people(&mut self, minutes: u64, notebook: &Value) {
        for (minute, task, run) in [(2, OVERRUN, overrun()), (3, NOTEBOOK, notebook.clone())] {
            if minute <= minutes {
                self.at(minute * MINUTE, Deed::StartRun(run));
                self.await_run(task, None);
            }
        }
        self.at(minutes * MINUTE, Deed::CancelRuns(NOTEBOOK));
    }
}

/// A time as names of files have it: `202603010606`.
fn digits(at: Timestamp) -> String {
    at.to_rfc3339().chars().filter(char::is_ascii_digit).take(12).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tasks::{rules::Rules, spec::TaskSpec, validate};

    #[test]
    fn the_examples_as_changed_are_valid_and_all_of_them_run() {
        let service = Service::read().unwrap();
        let specs: BTreeMap<String, TaskSpec> =
            service.tasks.iter().map(|task| (name(task), serde_json::from_value(task["spec"].clone()).unwrap())).collect();
        let others = specs.iter().map(|(name, spec)| (name.as_str(), spec)).collect();
        let rules = Rules { sources: super::super::room::SOURCES.map(str::to_owned).to_vec(), ..Rules::default() };
        let (_, wanted) = service.plan(60);
        for (name, spec) in &specs {
            assert_eq!(validate::task(name, spec, &rules, &others), [], "{name}");
            assert!(wanted.runs.iter().any(|run| run.task == *name), "{name} has no run");
            assert!(name == NOTEBOOK || RUNS.iter().any(|(task, _)| task == name), "{name} would run for ever");
        }
        assert_eq!(RUNS.len() + 1, specs.len());
    }

    #[test]
    fn an_hour_has_ten_volumes_and_three_cycles_with_their_products() {
        let (steps, wanted) = Service::read().unwrap().plan(60);
        let cycles = |task: &str| -> Vec<&str> {
            wanted.runs.iter().filter(|run| run.task == task).map(|run| run.cycle.get(11..16).unwrap_or_default()).collect()
        };
        assert_eq!(cycles(RADAR), ["06:00", "06:06", "06:12", "06:18", "06:24", "06:30", "06:36", "06:42", "06:48", "06:54"]);
        assert_eq!((cycles(MODEL), cycles("bulletin")), (vec!["06:00", "06:20", "06:40"], vec!["06:00", "06:20", "06:40"]));
        assert_eq!((cycles(INGEST).len(), cycles(COMPOSITE).len(), cycles(OVERRUN).len()), (9, 4, 1));
        let events = steps.iter().filter(|step| matches!(step.deed, Deed::Arrive(..))).count();
        assert_eq!(events, 2 * (9 + 4 + 2));
        assert!(wanted.follows.iter().any(|edge| edge.task == "bulletin" && edge.after == "station-forecasts" && !edge.well));
    }
}

//! What became of tasks, as the API server told it. In: `TaskRuns` and their pods as they were seen. Out: the life of every run, with the versions of objects
//! in which something first stood, so that what came before what can be told even within one moment.
//!
//! The server in memory counts all writes by one number, which is what makes versions of two kinds comparable.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::Value;

use crate::demo::run::START;
use crate::tasks::{
    names,
    run::{Attempt, Outcome, Phase, TaskRunSpec, TaskRunStatus, TriggerKind},
};

/// A run.
#[derive(Clone, Debug, Default)]
pub struct RunSeen {
    /// Its name.
    pub name: String,
    /// Its task.
    pub task: String,
    /// Its cycle; empty without one.
    pub cycle: String,
    /// When the clock was to start it, or when it was first seen, in milliseconds from the start.
    pub ordered_ms: u64,
    /// Where it stands.
    pub phase: Option<Phase>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The version in which that first stood.
    pub decided: Option<u64>,
    /// Its attempts by number.
    pub attempts: BTreeMap<u32, Attempt>,
    /// UIDs of pods whose logs are kept whole, with the version in which that first stood.
    pub logged: BTreeMap<String, u64>,
}

/// A pod of a run.
#[derive(Clone, Debug, Default)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// Name of its run.
    pub run: String,
    /// The version in which it was made.
    pub made: u64,
    /// When it was first seen to run or to have run.
    pub ran_ms: Option<u64>,
    /// The version in which it went.
    pub gone: Option<u64>,
}

/// All runs and their pods, by UID.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The runs.
    pub runs: BTreeMap<String, RunSeen>,
    /// The pods.
    pub pods: BTreeMap<String, PodSeen>,
}

fn text(object: &Value, path: &str) -> String {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

impl Ledger {
    /// A run was made or changed.
    pub fn see_run(&mut self, at_ms: u64, run: &Value) -> Result<(), serde_json::Error> {
        let spec = TaskRunSpec::deserialize(&run["spec"])?;
        let status = run.get("status").map(TaskRunStatus::deserialize).transpose()?.unwrap_or_default();
        let version = version(run);
        let seen = self.runs.entry(text(run, "/metadata/uid")).or_insert_with(|| {
            let by_clock = spec.scheduled_time.filter(|_| spec.trigger.kind == TriggerKind::Cron);
            RunSeen {
                name: text(run, "/metadata/name"),
                task: spec.task_ref.name,
                cycle: spec.cycle.map(|cycle| cycle.0.to_rfc3339()).unwrap_or_default(),
                ordered_ms: by_clock.map_or(at_ms, |time| time.0.since(START).0),
                ..RunSeen::default()
            }
        });
        seen.phase = status.phase;
        seen.outcome = status.outcome;
        if status.outcome.is_some() {
            seen.decided.get_or_insert(version);
        }
        for attempt in status.attempts {
            if attempt.logs.as_ref().is_some_and(|logs| logs.complete) {
                seen.logged.entry(attempt.pod_uid.clone()).or_insert(version);
            }
            seen.attempts.insert(attempt.number, attempt);
        }
        Ok(())
    }

    /// A pod was made or changed; those of no run are nobody's business here.
    pub fn see_pod(&mut self, at_ms: u64, pod: &Value) {
        let run = pod["metadata"]["labels"][names::RUN].as_str().unwrap_or_default();
        if run.is_empty() {
            return;
        }
        let seen = self.pods.entry(text(pod, "/metadata/uid")).or_insert_with(|| PodSeen {
            name: text(pod, "/metadata/name"),
            run: run.to_owned(),
            made: version(pod),
            ..PodSeen::default()
        });
        if matches!(text(pod, "/status/phase").as_str(), "Running" | "Succeeded" | "Failed") {
            seen.ran_ms.get_or_insert(at_ms);
        }
    }

    /// A pod is gone.
    pub fn lose_pod(&mut self, pod: &Value) {
        if let Some(seen) = self.pods.get_mut(&text(pod, "/metadata/uid")) {
            seen.gone.get_or_insert(version(pod));
        }
    }

    /// Pods of a run in the order in which they were made.
    pub fn pods_of(&self, run: &str) -> Vec<(&str, &PodSeen)> {
        let mut pods: Vec<_> = self.pods.iter().filter(|(_, pod)| pod.run == run).map(|(uid, pod)| (&**uid, pod)).collect();
        pods.sort_by_key(|(_, pod)| pod.made);
        pods
    }
}

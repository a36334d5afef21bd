//! What must never be. In: what happens in a world. Out: a panic with the seed and the story.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{World, server::is_ended};
use crate::federation::{
    facts::{HomePod, RunPod},
    names,
};

#[derive(Debug, Default)]
pub struct Judge {
    /// Runs in which something started, by home pod; batch pods only.
    starts: BTreeMap<String, BTreeSet<String>>,
    /// Exit codes by run.
    pub exits: BTreeMap<String, i64>,
}

impl Judge {
    pub fn started(&mut self, home: &str, run: &str, is_batch: bool) {
        if is_batch {
            let runs = self.starts.entry(home.to_owned()).or_default();
            runs.insert(run.to_owned());
            assert_eq!(runs.len(), 1, "home pod {home} was started twice");
        }
    }
}

impl World {
    pub fn home_of(&self, run: &Value) -> Option<&Value> {
        let name = run["metadata"]["annotations"][names::RUN_HOME_NAME].as_str().unwrap();
        self.home.get(name, run["metadata"]["labels"][names::RUN_HOME_UID].as_str().unwrap())
    }

    fn home_facts(&self, run: &Value) -> Option<HomePod> {
        self.home_of(run).map(|pod| HomePod::read(pod, super::VIRTUAL_NODE).unwrap())
    }

    /// Before a run is deleted or released by an order of ours.
    pub fn judge_deletion(&self, run: &Value, release: bool, has_version: bool) {
        let facts = RunPod::read(run.clone()).unwrap();
        let is_live = facts.deletion.is_none() && !facts.phase.is_terminal();
        let Some(home) = self.home_facts(run) else { return };
        let is_past = home.decision.as_ref().is_none_or(|decision| facts.attempt < decision.attempt);
        let may = home.deletion.is_some() || home.phase.is_terminal() || is_past || (has_version && !facts.started && !home.bound);
        assert!(!is_live || may, "a healthy run is deleted: {run} of {:?}", self.home_of(run));
        let is_batch = facts.is_held;
        if release && is_batch && facts.started && facts.phase.is_terminal() && !is_past {
            assert!(home.phase.is_terminal(), "the end of {run} is released before it is at home: {:?}", self.home_of(run));
            self.judge_exit(run);
        }
    }

    fn judge_exit(&self, run: &Value) {
        let Some(home) = self.home_of(run) else { return };
        let declared = matches!(
            home["status"]["reason"].as_str(),
            Some("RemoteRunDeleted" | "RemoteRunLost" | "ClusterRemoved" | "RunRefused" | "NoFitOnCluster")
        );
        if let Some(code) = self.judge.exits.get(run["metadata"]["uid"].as_str().unwrap()).filter(|_| !declared) {
            let shown = &home["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
            assert_eq!(shown, code, "an exit code is lost: {run} of {home}");
        }
    }

    /// Before a run is created.
    pub fn judge_creation(&self, run: &Value) {
        let label = |pod: &Value, key: &str| pod["metadata"]["labels"][key].as_str().unwrap().to_owned();
        for other in self.compute.pods.values().filter(|other| label(other, names::RUN_HOME_UID) == label(run, names::RUN_HOME_UID)) {
            assert_eq!(label(other, names::ATTEMPT), label(run, names::ATTEMPT), "{run} is created while {other} is not gone");
        }
    }

    /// Before the deletion of a home pod is confirmed.
    pub fn judge_confirmation(&self, home: &Value) {
        let uid = home["metadata"]["uid"].as_str().unwrap();
        let running = self
            .compute
            .pods
            .values()
            .find(|run| run["metadata"]["labels"][names::RUN_HOME_UID] == *uid && run["status"]["phase"] == "Running" && !self.forgets);
        assert!(running.is_none(), "{home} is confirmed while {running:?} runs");
    }

    /// After calm: everything is as it should be.
    pub fn judge_calm(&self) {
        for home in self.home.pods.values() {
            let facts = HomePod::read(home, super::VIRTUAL_NODE).unwrap();
            assert!(facts.deletion.is_none(), "{home} is stuck in its deletion; runs {:?}", self.compute.pods);
            assert!(facts.bound, "{home} was never placed");
            let runs: Vec<&Value> =
                self.compute.pods.values().filter(|run| run["metadata"]["labels"][names::RUN_HOME_UID] == *facts.uid.0).collect();
            if facts.phase.is_terminal() {
                assert!(runs.is_empty(), "{home} has ended, its runs are left: {runs:?}");
                continue;
            }
            let [run] = runs[..] else { panic!("{home} has runs {runs:?}") };
            assert!(!is_ended(run) && run["status"]["phase"] == home["status"]["phase"], "{home} shows something else than {run}");
        }
        for run in self.compute.pods.values() {
            assert!(self.home_of(run).is_some(), "{run} is left");
        }
        assert_eq!(self.machine.counts().held_up, 0, "something is held up");
    }
}

//! What must never be. In: what happens in a world. Out: a panic with the seed and the story.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    World,
    server::{Kind, is_over, name_of},
};
use crate::{model::time::Timestamp, tasks::run::ReapResult};

impl World {
    /// A run was created: its firing was none before.
    pub fn judge_run(&mut self, run: &Value) {
        let key = key_of(run);
        assert!(self.ever.insert(key.clone()), "a firing has become a second run: {key:?}");
    }

    /// A pod was created: no other of its run is there.
    pub fn judge_pod(&self, pod: &Value) {
        let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
        let others: Vec<String> =
            self.server.all(Kind::Pod).filter(|other| other["metadata"]["ownerReferences"][0]["uid"] == *owner).map(name_of).collect();
        assert!(others.len() <= 1, "two pods of one run at once: {others:?}");
    }

    /// The finalizer is taken from a pod: its logs are saved if it ever ran.
    pub fn judge_release(&self, pod: &Value) {
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let ran = !pod["status"]["containerStatuses"].is_null();
        let run = self.server.all(Kind::Run).find(|run| run["metadata"]["uid"] == pod["metadata"]["ownerReferences"][0]["uid"]);
        let attempts = run.and_then(|run| run["status"]["attempts"].as_array()).into_iter().flatten();
        let told = attempts.filter(|attempt| attempt["podUID"] == *uid).any(|attempt| !attempt["logs"].is_null());
        // Of a run that was deleted by hand nobody can be told.
        assert!(!ran || self.saved.contains(uid) || told, "a pod goes before its logs are saved: {pod}");
        assert!(run.is_none() || is_over(pod) || !pod["metadata"]["deletionTimestamp"].is_null(), "a live pod is released: {pod}");
    }

    /// A run is deleted by retention: its firing cannot come again, and it was over.
    pub fn judge_retention(run: &Value) {
        assert_eq!(run["status"]["phase"], "Reaped");
        assert_eq!(run["status"]["followed"], true, "it goes before those that follow it are there: {run}");
    }

    /// Faults have stopped and all has come to rest.
    pub fn judge_calm(&self) {
        for run in self.server.all(Kind::Run) {
            assert_eq!(run["status"]["phase"], "Reaped", "not over: {run}");
            assert!(run["status"]["outcome"].is_string(), "{run}");
            for attempt in run["status"]["attempts"].as_array().into_iter().flatten() {
                let result = attempt["reap"]["result"].as_str().unwrap_or_default();
                let known = [ReapResult::Deleted, ReapResult::AlreadyGone, ReapResult::Forced].map(|one| format!("{one:?}"));
                assert!(known.iter().any(|one| one == result), "no result of the deletion: {run}");
                assert!(attempt["started"].is_null() || attempt["logs"].is_object(), "no word of the logs: {run}");
            }
            let name = name_of(run);
            assert!(self.announced.contains(&(name.clone(), "Reaped".to_owned())), "not announced: {name}");
        }
        assert_eq!(self.server.all(Kind::Pod).map(name_of).collect::<Vec<_>>(), [""; 0], "pods are left");
        self.judge_firings();
    }

    /// Every firing that should have become a run has.
    fn judge_firings(&self) {
        let of = |task: &str, kind: &str| -> BTreeSet<&str> {
            self.ever.iter().filter(|(name, of, _)| name == task && of == kind).map(|(_, _, key)| key.as_str()).collect()
        };
        let cycles = of("clock", "Cron");
        let is_there = self.server.get(Kind::Task, "clock").is_some();
        let until = if is_there { self.now.0 / 300_000 * 300_000 } else { 0 };
        let mut expected = BTreeSet::new();
        let mut at = super::START.0 / 300_000 * 300_000 + 300_000;
        while at <= until {
            expected.insert(Timestamp(at).to_rfc3339());
            at += 300_000;
        }
        assert_eq!(cycles, expected.iter().map(String::as_str).collect(), "cycles of the clock");
        let after = of("follow", "After");
        let follows = self.server.get(Kind::Task, "follow").is_some();
        for (name, uid, outcome) in &self.ended {
            if follows && name.starts_with("clock-") && outcome == "Succeeded" {
                assert!(after.contains(uid.as_str()), "nothing follows {name} {uid}");
            }
        }
        for (task, key) in &self.promised {
            assert!(
                self.ever.contains(&(task.clone(), "Data".to_owned(), key.clone())),
                "an arrival was acknowledged and lost: {task} {key}"
            );
        }
    }

    /// Ends are remembered: retention takes the objects away.
    pub fn remember_ends(&mut self) {
        for run in self.server.all(Kind::Run).filter(|run| run["status"]["outcome"].is_string()) {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            self.ended.insert((name_of(run), text(&run["metadata"]["uid"]), text(&run["status"]["outcome"])));
        }
    }
}

/// Task, kind of trigger, key.
pub fn key_of(run: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&run["spec"]["taskRef"]["name"]), text(&run["spec"]["trigger"]["type"]), text(&run["spec"]["trigger"]["key"]))
}

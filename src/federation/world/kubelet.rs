//! The cluster's own life: its scheduler and its kubelet. In: a run as it is. Out: what becomes of it next, drawn at random.

use rand::RngExt;
use serde_json::{Value, json};

use super::{World, server::is_ended};
use crate::federation::names;

impl World {
    /// One run takes one step.
    pub fn live(&mut self) {
        let names: Vec<String> = self.compute.pods.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = &names[self.rng.random_range(0..names.len())];
        let pod = self.compute.pods[name].clone();
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let is_deleted = !pod["metadata"]["deletionTimestamp"].is_null();
        if pod["spec"]["nodeName"].is_null() {
            // Now and then a cluster's scheduler cannot.
            if !is_deleted && !self.unbindable.contains(&uid) {
                if !self.calm && self.chance(15) {
                    self.unbindable.insert(uid);
                } else {
                    self.compute.update(name, &uid, |pod| pod["spec"]["nodeName"] = "n".into()).unwrap();
                }
            }
            return;
        }
        if is_ended(&pod) {
            if is_deleted {
                self.compute.update(name, &uid, |pod| pod["metadata"]["deletionGracePeriodSeconds"] = 0.into()).unwrap();
            }
            return;
        }
        let runs = pod["status"]["phase"] == "Running";
        match (runs, is_deleted) {
            (false, true) => self.end(name, &uid, None, "Failed", ""),
            (false, false) if !self.calm && self.chance(12) => self.end(name, &uid, None, "Failed", "OutOfcpu"),
            (false, false) => self.start(name, &uid, &pod),
            (true, true) => self.end(name, &uid, Some(137), "Failed", ""),
            (true, false) => self.go_on(name, &uid, &pod),
        }
    }

    fn start(&mut self, name: &str, uid: &str, pod: &Value) {
        let home = pod["metadata"]["labels"][names::RUN_HOME_UID].as_str().unwrap().to_owned();
        self.judge.started(&home, uid, pod["spec"]["restartPolicy"] != "Always");
        let status = json!({
            "phase": "Running", "startTime": self.now.to_rfc3339(),
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": "c", "restartCount": 0, "ready": true, "started": true,
                                    "state": { "running": { "startedAt": self.now.to_rfc3339() } } }],
        });
        self.compute.update(name, uid, |pod| pod["status"] = status).unwrap();
    }

    fn go_on(&mut self, name: &str, uid: &str, pod: &Value) {
        if pod["spec"]["restartPolicy"] == "Always" {
            if self.chance(20) {
                let at = self.now.to_rfc3339();
                let change = |pod: &mut Value| {
                    let container = &mut pod["status"]["containerStatuses"][0];
                    container["restartCount"] = (container["restartCount"].as_i64().unwrap() + 1).into();
                    container["lastState"] = json!({ "terminated": { "exitCode": 1 } });
                    container["state"] = json!({ "running": { "startedAt": at } });
                };
                self.compute.update(name, uid, change).unwrap();
            }
        } else if self.chance(40) {
            let code = self.rng.random_range(0..4);
            self.end(name, uid, Some(code), if code == 0 { "Succeeded" } else { "Failed" }, "");
        }
    }

    /// The kubelet is done with a pod; one that is being deleted it lets go.
    pub fn end(&mut self, name: &str, uid: &str, code: Option<i64>, phase: &str, reason: &str) {
        if let Some(code) = code {
            self.judge.exits.insert(uid.to_owned(), code);
        }
        let change = |pod: &mut Value| {
            pod["status"]["phase"] = phase.into();
            if !reason.is_empty() {
                pod["status"]["reason"] = reason.into();
            }
            pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
            if let Some(code) = code {
                pod["status"]["containerStatuses"] =
                    json!([{ "name": "c", "restartCount": 0, "ready": false, "state": { "terminated": { "exitCode": code } } }]);
            }
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                pod["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            }
        };
        self.compute.update(name, uid, change).unwrap();
    }
}

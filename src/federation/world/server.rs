//! An API server as far as the protocol needs one. In: writes with their preconditions. Out: objects, and a log of changes for watches.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::time::{DurationMs, Timestamp};

/// A write that did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    Exists,
    Conflict,
}

/// A change: the object after it, or its name and UID when it is gone.
#[derive(Clone, Debug)]
pub enum Change {
    Set(Value),
    Gone(String, String),
}

#[derive(Debug, Default)]
pub struct Server {
    pub pods: BTreeMap<String, Value>,
    pub changes: Vec<Change>,
    version: u64,
}

impl Server {
    pub fn create(&mut self, mut pod: Value, uid: &str) -> Result<Value, Refusal> {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        if self.pods.contains_key(&name) {
            return Err(Refusal::Exists);
        }
        pod["metadata"]["uid"] = uid.into();
        if pod["metadata"]["generation"].is_null() {
            pod["metadata"]["generation"] = 1.into();
        }
        self.put(&name, pod);
        Ok(self.pods[&name].clone())
    }

    /// The pod, if it is this incarnation.
    pub fn get(&self, name: &str, uid: &str) -> Option<&Value> {
        self.pods.get(name).filter(|pod| pod["metadata"]["uid"] == *uid)
    }

    pub fn update(&mut self, name: &str, uid: &str, change: impl FnOnce(&mut Value)) -> Result<(), Refusal> {
        let mut pod = self.get(name, uid).ok_or(Refusal::NotFound)?.clone();
        change(&mut pod);
        if Some(&pod) != self.pods.get(name) {
            self.put(name, pod);
        }
        Ok(())
    }

    fn put(&mut self, name: &str, mut pod: Value) {
        self.version += 1;
        pod["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.changes.push(Change::Set(pod.clone()));
        self.pods.insert(name.to_owned(), pod);
        self.collect(name);
    }

    /// An object that is being deleted goes when its grace is 0 and nothing holds it.
    fn collect(&mut self, name: &str) {
        let meta = &self.pods[name]["metadata"];
        let is_held = meta["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        if !meta["deletionTimestamp"].is_null() && meta["deletionGracePeriodSeconds"] == 0 && !is_held {
            let uid = meta["uid"].as_str().unwrap().to_owned();
            self.pods.remove(name);
            self.version += 1;
            self.changes.push(Change::Gone(name.to_owned(), uid));
        }
    }

    /// A deletion as kube-apiserver does it: unbound and ended pods go without grace, grace is only ever shortened.
    pub fn delete(&mut self, name: &str, uid: &str, version: Option<&str>, grace: Option<u64>, now: Timestamp) -> Result<(), Refusal> {
        let pod = self.get(name, uid).ok_or(Refusal::NotFound)?;
        if version.is_some_and(|version| pod["metadata"]["resourceVersion"] != *version) {
            return Err(Refusal::Conflict);
        }
        let is_idle = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() || is_ended(pod);
        let grace = if is_idle { 0 } else { grace.unwrap_or(30) };
        self.update(name, uid, |pod| {
            let meta = &mut pod["metadata"];
            let before = meta["deletionGracePeriodSeconds"].as_u64();
            if before.is_none_or(|before| grace < before) {
                meta["deletionTimestamp"] = (now + DurationMs::from_secs(grace)).to_rfc3339().into();
                meta["deletionGracePeriodSeconds"] = grace.into();
            }
        })
    }

    pub fn release(&mut self, name: &str, uid: &str) -> Result<(), Refusal> {
        self.update(name, uid, |pod| pod["metadata"]["finalizers"] = json!([]))
    }
}

pub fn is_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// A strategic merge of a status: conditions by type, the rest replaced, null taken away.
pub fn merge_status(pod: &mut Value, patch: &Value) {
    let before = pod["status"]["phase"].clone();
    for (field, value) in patch["status"].as_object().unwrap() {
        if field == "conditions" {
            let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            for condition in value.as_array().unwrap() {
                conditions.retain(|known| known["type"] != condition["type"]);
                conditions.push(condition.clone());
            }
            pod["status"]["conditions"] = conditions.into();
        } else {
            pod["status"][field] = value.clone();
        }
    }
    let ended = matches!(before.as_str(), Some("Succeeded" | "Failed"));
    assert!(!ended || pod["status"]["phase"] == before, "an ended pod changed its phase from {before} to {}", pod["status"]["phase"]);
}

//! An API server as far as tasks need one. In: writes with their preconditions. Out: objects, and a log of changes for watches.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::model::time::{DurationMs, Timestamp};

pub const NAMESPACE: &str = "ns";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Task,
    Run,
    Pod,
}

#[derive(Clone, Debug)]
pub enum Change {
    Set(Kind, Arc<Value>),
    Gone(Kind, String, String),
}

#[derive(Clone, Debug, Default)]
pub struct Server {
    objects: [BTreeMap<String, Arc<Value>>; 3],
    pub changes: Vec<Change>,
    version: u64,
}

impl Server {
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.objects[kind as usize].get(name).map(|object| &**object)
    }

    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects[kind as usize].values().map(|object| &**object)
    }

    /// Everything, kind by kind.
    pub fn list(&self) -> Vec<(Kind, Arc<Value>)> {
        let of = |kind: Kind| self.objects[kind as usize].values().map(move |object| (kind, object.clone()));
        of(Kind::Task).chain(of(Kind::Run)).chain(of(Kind::Pod)).collect()
    }

    pub fn create(&mut self, kind: Kind, mut object: Value, now: Timestamp) -> Result<Value, Value> {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if let Some(there) = self.get(kind, &name) {
            return Err(there.clone());
        }
        object["metadata"]["uid"] = format!("u{}", self.version + 1).into();
        object["metadata"]["creationTimestamp"] = now.to_rfc3339().into();
        object["metadata"]["namespace"] = NAMESPACE.into();
        object["metadata"]["generation"] = 1.into();
        self.put(kind, &name, object);
        Ok(self.get(kind, &name).unwrap().clone())
    }

    pub fn update(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let Some(object) = self.get(kind, name) else { return };
        let mut object = object.clone();
        change(&mut object);
        if Some(&object) != self.get(kind, name) {
            self.put(kind, name, object);
        }
        self.sweep(name);
    }

    fn put(&mut self, kind: Kind, name: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        self.changes.push(Change::Set(kind, object.clone()));
        self.objects[kind as usize].insert(name.to_owned(), object);
    }

    /// Grace counts only where a kubelet could still stop something.
    pub fn delete_pod(&mut self, name: &str, grace_seconds: u64, now: Timestamp) {
        self.update(Kind::Pod, name, |pod| {
            let idle = is_over(pod) || pod["spec"]["nodeName"].is_null();
            let due = now + DurationMs(if idle { 0 } else { grace_seconds * 1_000 });
            if pod["metadata"]["deletionTimestamp"].is_null() || grace_seconds == 0 {
                pod["metadata"]["deletionTimestamp"] = due.to_rfc3339().into();
                pod["metadata"]["deletionGracePeriodSeconds"] = grace_seconds.into();
            }
        });
    }

    /// What is deleted and held by nothing is gone.
    fn sweep(&mut self, name: &str) {
        let Some(pod) = self.get(Kind::Pod, name) else { return };
        let metadata = &pod["metadata"];
        let held = metadata["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        let stopped = is_over(pod) || pod["spec"]["nodeName"].is_null() || metadata["deletionGracePeriodSeconds"] == 0;
        if !metadata["deletionTimestamp"].is_null() && !held && stopped {
            self.remove(Kind::Pod, name);
        }
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        let Some(object) = self.objects[kind as usize].remove(name) else { return };
        self.version += 1;
        let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
        self.changes.push(Change::Gone(kind, name.to_owned(), uid));
    }

    /// A run goes, and the garbage collector deletes its pods.
    pub fn delete_run(&mut self, name: &str, now: Timestamp) {
        let Some(uid) = self.get(Kind::Run, name).map(|run| run["metadata"]["uid"].clone()) else { return };
        self.remove(Kind::Run, name);
        let owned = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["uid"] == uid;
        let pods: Vec<String> = self.all(Kind::Pod).filter(owned).map(name_of).collect();
        pods.iter().for_each(|pod| self.delete_pod(pod, 30, now));
    }
}

pub fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

pub fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Ends a pod's only container.
pub fn end(pod: &mut Value, code: i64, reason: &str, now: Timestamp) {
    let started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].clone();
    pod["status"]["phase"] = if code == 0 { "Succeeded" } else { "Failed" }.into();
    if !started.is_null() {
        pod["status"]["containerStatuses"] = json!([{"name": "main", "state": {"terminated": {
            "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "startedAt": started, "finishedAt": now.to_rfc3339()}}}]);
    }
    if !reason.is_empty() {
        pod["status"]["reason"] = reason.into();
    }
}

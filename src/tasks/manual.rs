//! Runs that people or programs start by hand. In: a task, parameters, perhaps a key. Out: the run to create; and whether what has its name is the same run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    names::{self, API_VERSION},
    run::TriggerKind,
};

/// A start by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manual {
    /// The task.
    pub task: String,
    /// Values of parameters.
    pub params: BTreeMap<String, String>,
    /// The time that its data is about, in RFC 3339.
    pub cycle: Option<String>,
    /// The same key is the same run.
    pub key: String,
    /// The run that it repeats.
    pub rerun_of: Option<String>,
}

/// What has the name of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// The same run.
    Same,
    /// A run with the same key and other parameters, or another cycle.
    OtherContent,
    /// A run with another key: the longer name is free of it.
    OtherKey,
}

impl Manual {
    /// The same task, parameters and cycle as another run's.
    pub fn repeat(run: &Value, key: String) -> Self {
        let text = |pointer: &str| run.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let params = run["spec"]["params"].as_object().into_iter().flatten();
        Self {
            task: text("/spec/taskRef/name").unwrap_or_default(),
            params: params.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
            cycle: text("/spec/cycle"),
            key,
            rerun_of: text("/metadata/name"),
        }
    }

    /// Its run's name; the longer one if another key has the short one.
    pub fn name(&self, longer: bool) -> String {
        names::run_name(&self.task, TriggerKind::Manual, &self.key, longer)
    }

    /// The run to create.
    pub fn run(&self, longer: bool) -> Value {
        let mut spec = json!({
            "taskRef": {"name": self.task}, "params": self.params, "trigger": {"type": "Manual", "key": self.key},
        });
        if let Some(cycle) = &self.cycle {
            spec["cycle"] = cycle.as_str().into();
        }
        if let Some(run) = &self.rerun_of {
            spec["rerunOf"] = run.as_str().into();
        }
        json!({"apiVersion": API_VERSION, "kind": "TaskRun", "metadata": {"name": self.name(longer)}, "spec": spec})
    }

    /// What a run that has this one's name is.
    pub fn compare(&self, there: &Value) -> There {
        let spec = &there["spec"];
        if spec["trigger"]["key"] != *self.key {
            return There::OtherKey;
        }
        let params = spec["params"].as_object().cloned().unwrap_or_default();
        let same_params = params.len() == self.params.len()
            && self.params.iter().all(|(name, value)| params.get(name).is_some_and(|one| *one == **value));
        let same_cycle = spec["cycle"].as_str() == self.cycle.as_deref();
        if same_params && same_cycle { There::Same } else { There::OtherContent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_run() {
        let params = BTreeMap::from([("station".to_owned(), "Z9010".to_owned())]);
        let manual = Manual { task: "radar".into(), params, cycle: Some("2026-11-28T06:00:00Z".into()), key: "k".into(), rerun_of: None };
        let run = manual.run(false);
        assert_eq!(run["metadata"]["name"], manual.name(false));
        assert_ne!(manual.name(false), manual.name(true));
        assert_eq!(manual.compare(&run), There::Same);
        let other = |pointer: &str, value: Value| {
            let mut run = run.clone();
            *run.pointer_mut(pointer).unwrap() = value;
            manual.compare(&run)
        };
        assert_eq!(other("/spec/trigger/key", json!("l")), There::OtherKey);
        assert_eq!(other("/spec/params", json!({"station": "Z9011"})), There::OtherContent);
        assert_eq!(other("/spec/params", Value::Null), There::OtherContent);
        assert_eq!(other("/spec/cycle", Value::Null), There::OtherContent);
        let again = Manual::repeat(&run, "m".into());
        assert_eq!((again.params, again.cycle, again.rerun_of), (manual.params.clone(), manual.cycle.clone(), Some(manual.name(false))));
    }
}

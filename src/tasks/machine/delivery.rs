//! A firing becomes a run, once. In: a task and a firing. Out: that its run is there, the run to create, or that it was settled before.

use serde_json::Value;

use super::Machine;
use crate::{
    model::time::Timestamp,
    tasks::{
        effect::Subject,
        facts::Key,
        freeze::{self, Owner},
        names,
        run::{Phase, TriggerKind},
        trigger::{
            Firing,
            remembered::{Known, Remembered},
        },
    },
};

/// How far a firing has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Delivery {
    /// Its run is there and knows of it.
    There(Key),
    /// It was, and is not any more.
    Settled,
    /// This run is to be created.
    Create(Box<Value>),
    /// The run is there and has to record what has arrived.
    Recording(Key),
    /// No run can be made of it: why.
    Refused(String),
    /// Not now: why.
    Hold(String),
}

impl Machine {
    pub(super) fn deliver(&mut self, task: &Key, firing: &Firing, by: &Subject, now: Timestamp) -> Delivery {
        let Some(record) = self.tasks.get(task) else { return Delivery::Settled };
        let Ok(spec) = record.task.spec.clone() else { return Delivery::Settled };
        let mut longer = false;
        for is_longer in [false, true] {
            let name = names::run_name(&task.name, firing.kind, &firing.key, is_longer);
            let key = Key::new(&task.namespace, &name);
            let Some(there) = self.runs.get_mut(&key) else { break };
            let run = &there.run;
            if (run.trigger.kind, run.trigger.key.as_str()) != (firing.kind, firing.key.as_str()) {
                longer = true;
                continue;
            }
            if run.frozen.as_ref().is_some_and(|frozen| *frozen.task_uid != *record.task.uid) {
                return Delivery::Hold(format!("run {name} of an earlier task of this name is being deleted"));
            }
            let waits = matches!(run.phase(), None | Some(Phase::Waiting));
            let Some(arrived) = firing.arrived.as_ref().filter(|one| waits && !run.status.arrived.contains(one)) else {
                return Delivery::There(key);
            };
            if there.notes.arriving.insert(arrived.clone()) {
                self.dirty.insert(Subject::Run(key.clone()));
            }
            self.watchers.entry(key.clone()).or_default().insert(by.clone());
            return Delivery::Recording(key);
        }
        if matches!(firing.kind, TriggerKind::Data | TriggerKind::After) {
            let known = Remembered::read(&record.task.status).ask(&names::key_hash(&firing.key), firing.time.unwrap_or(now));
            match known {
                Known::New => {}
                Known::Settled => return Delivery::Settled,
                Known::TooOld => {
                    return Delivery::Refused(
                        "it is from a time whose events are not remembered any more: it may have run already".to_owned(),
                    );
                }
            }
        }
        let owner = Owner { namespace: &task.namespace, name: &task.name, uid: &record.task.uid, generation: record.task.generation };
        let made = freeze::task_run(&owner, &spec, firing, &self.rules, longer, now);
        let account = &spec.account;
        match made {
            Err(fault) => Delivery::Refused(format!("{}: {}", fault.path, fault.message)),
            Ok(run) => self.may_submit(&task.namespace, account).map_or_else(Delivery::Hold, |()| Delivery::Create(Box::new(run))),
        }
    }
}

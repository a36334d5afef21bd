//! Orders are carried out, more or less. In: commands of a machine. Out: writes on both servers, at once, late, half or never, and outcomes, true or unclear.

use rand::RngExt;
use serde_json::{Value, json};

use super::{
    RUNS, VIRTUAL_NODE, World,
    server::{Refusal, is_ended, merge_status},
};
use crate::{
    federation::{
        effect::{Effect, Order, Outcome},
        facts::{Decision, HomePod, RunPod},
        names,
    },
    model::time::{DurationMs, Timestamp},
};

/// An order on its way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub order: Order,
    pub at: Timestamp,
    /// Whether anybody still waits for its outcome.
    pub is_awaited: bool,
    pub fault: Fault,
    /// A creation that has read the home pod and is about to write.
    pub prepared: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing is done, and an error said.
    Before,
    /// It is done, and an error said.
    Unclear,
    /// An error is said, and it is done later.
    Late,
}

/// How late an order can take effect: its time-out, after its leader was followed by another.
const LATE_MAX_MS: u64 = 25_000;

impl World {
    pub fn take_off(&mut self, order: Order) {
        let fault = match self.rng.random_range(0..100) {
            _ if self.calm => Fault::None,
            0..8 => Fault::Before,
            8..16 => Fault::Unclear,
            16..20 => Fault::Late,
            _ => Fault::None,
        };
        let at = self.now + DurationMs(self.rng.random_range(1..if self.calm { 200 } else { 3_000 }));
        self.flights.push(Flight { order, at, is_awaited: true, fault, prepared: None });
    }

    /// The leader is gone: what is on its way may still arrive, or not.
    pub fn orphan_flights(&mut self) {
        for at in (0..self.flights.len()).rev() {
            if self.chance(50) {
                self.flights.remove(at);
                continue;
            }
            let late = self.now + DurationMs(self.rng.random_range(0..LATE_MAX_MS));
            let order = self.flights[at].order.clone();
            // It may have read what it needs long before it writes.
            let prepared = if let Effect::CreateRun(decision) = &order.effect { self.prepare(&order, decision).ok() } else { None };
            self.flights[at] = Flight { order, at: late, is_awaited: false, prepared, fault: self.flights[at].fault };
        }
    }

    pub fn land(&mut self) {
        while let Some(at) = self.flights.iter().position(|flight| flight.at <= self.now) {
            let mut flight = self.flights.remove(at);
            let is_remote = is_remote(&flight.order.effect);
            if (is_remote && self.partitioned) || flight.fault == Fault::Before {
                self.report(&flight, Outcome::Retry("no answer".to_owned()));
                continue;
            }
            if flight.fault == Fault::Late {
                self.report(&flight, Outcome::Retry("no answer".to_owned()));
                if let Effect::CreateRun(decision) = &flight.order.effect.clone() {
                    flight.prepared = self.prepare(&flight.order, decision).ok();
                }
                flight.is_awaited = false;
                flight.fault = Fault::None;
                flight.at = self.now + DurationMs(self.rng.random_range(0..LATE_MAX_MS));
                self.flights.push(flight);
                continue;
            }
            let outcome = self.carry_out(&flight);
            self.note(|| format!("{}{:?} -> {outcome:?}", if flight.is_awaited { "" } else { "late " }, flight.order.effect));
            let outcome = if flight.fault == Fault::Unclear { Outcome::Retry("unclear".to_owned()) } else { outcome };
            self.report(&flight, outcome);
        }
    }

    fn report(&mut self, flight: &Flight, outcome: Outcome) {
        if flight.is_awaited {
            self.give(crate::federation::effect::Input::Done(flight.order.id, outcome));
        }
    }

    fn home_pod(&self, order: &Order) -> Option<&Value> {
        self.home.get(&order.home.name, &order.uid.0)
    }

    /// What a creation reads before it writes.
    fn prepare(&self, order: &Order, decision: &Decision) -> Result<Value, Outcome> {
        let pod = self.home_pod(order).ok_or(Outcome::Gone)?;
        let home = HomePod::read(pod, VIRTUAL_NODE).unwrap();
        if home.deletion.is_some() {
            return Err(Outcome::Gone);
        }
        if !home.may_create(decision) {
            return Err(Outcome::Conflict);
        }
        let policy = &pod["spec"]["restartPolicy"];
        Ok(json!({
            "metadata": {
                "namespace": RUNS, "name": &*decision.run.name,
                "labels": { names::RUN_HOME_UID: &*order.uid.0, names::ATTEMPT: decision.attempt.to_string() },
                "annotations": { names::RUN_HOME_NAMESPACE: "ns", names::RUN_HOME_NAME: &*order.home.name,
                                 names::RUN_HOME_GENERATION: home.generation.to_string() },
                "finalizers": if *policy == "Always" { json!([]) } else { json!([names::RUN_FINALIZER]) },
            },
            "spec": { "restartPolicy": policy, "nodeName": if self.pins { json!(&*decision.node) } else { Value::Null } },
            "status": { "phase": "Pending" },
        }))
    }

    fn create(&mut self, run: &Value) -> Outcome {
        let name = run["metadata"]["name"].as_str().unwrap();
        if let Some(there) = self.compute.pods.get(name) {
            let is_ours = there["metadata"]["labels"] == run["metadata"]["labels"];
            return if is_ours { Outcome::Run(Box::new(RunPod::read(there.clone()).unwrap())) } else { Outcome::NameTaken };
        }
        self.judge_creation(run);
        self.next_uid += 1;
        let uid = format!("r{}", self.next_uid);
        let made = self.compute.create(run.clone(), &uid).unwrap();
        Outcome::Run(Box::new(RunPod::read(made).unwrap()))
    }

    fn carry_out(&mut self, flight: &Flight) -> Outcome {
        let order = &flight.order;
        let (name, uid) = (order.home.name.to_string(), order.uid.0.to_string());
        match &order.effect {
            Effect::CreateRun(decision) => match flight.prepared.clone().map_or_else(|| self.prepare(order, decision), Ok) {
                Ok(run) => self.create(&run),
                Err(outcome) => outcome,
            },
            Effect::CheckRun(run) => match self.compute.pods.get(&*run.name) {
                Some(pod) => Outcome::Run(Box::new(RunPod::read(pod.clone()).unwrap())),
                None => Outcome::Absent,
            },
            Effect::CheckHome => match self.home_pod(order) {
                Some(pod) => Outcome::Home(Box::new(HomePod::read(pod, VIRTUAL_NODE).unwrap())),
                None => Outcome::Absent,
            },
            Effect::PlaceAgain { not_on } => {
                let node = format!("n{}", not_on.len() + 1);
                Outcome::Node((self.calm || self.chance(90)).then(|| node.into()))
            }
            Effect::DeleteRun { run, uid, resource_version, grace_seconds, release } => {
                let Some(pod) = self.compute.get(&run.name, uid).cloned() else { return Outcome::Absent };
                if resource_version.as_deref().is_none_or(|version| pod["metadata"]["resourceVersion"] == *version) {
                    self.judge_deletion(&pod, *release, resource_version.is_some());
                }
                let done = self.compute.delete(&run.name, uid, resource_version.as_deref(), *grace_seconds, self.now);
                if *release && done.is_ok() {
                    // It may be gone with the deletion.
                    let _ = self.compute.release(&run.name, uid);
                }
                if done == Err(Refusal::Conflict) { Outcome::Conflict } else { Outcome::Done }
            }
            Effect::Reap { run, uid } => {
                if let Some(pod) = self.compute.get(&run.name, uid).cloned() {
                    assert!(is_ended(&pod) || pod["metadata"]["deletionGracePeriodSeconds"] == 0, "a run is reaped alive: {pod}");
                    self.judge_deletion(&pod, true, false);
                    let _ = self.compute.delete(&run.name, uid, None, Some(0), self.now);
                    let _ = self.compute.release(&run.name, uid);
                }
                Outcome::Done
            }
            Effect::Propagate(run) => {
                let Some(generation) = self.home_pod(order).map(|pod| pod["metadata"]["generation"].clone()) else { return Outcome::Gone };
                let Some(run_uid) = self.compute.pods.get(&*run.name).map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()) else {
                    return Outcome::Absent;
                };
                let text = generation.to_string();
                let change = |pod: &mut Value| pod["metadata"]["annotations"][names::RUN_HOME_GENERATION] = text.into();
                self.compute.update(&run.name, &run_uid, change).unwrap();
                Outcome::Done
            }
            Effect::ArchiveLogs(_) => Outcome::Done,
            _ => self.write_home(order, &name, &uid),
        }
    }

    fn write_home(&mut self, order: &Order, name: &str, uid: &str) -> Outcome {
        let Some(pod) = self.home_pod(order).cloned() else { return Outcome::Gone };
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let is_deleted = !pod["metadata"]["deletionTimestamp"].is_null();
        let update = |world: &mut Self, change: &dyn Fn(&mut Value)| {
            let _ = world.home.update(name, uid, change);
            Outcome::Done
        };
        match &order.effect {
            Effect::Intend(_) | Effect::Bind(_) if is_deleted => Outcome::Gone,
            Effect::Intend(decision) if node.is_empty() => update(self, &|pod| record(pod, decision, true)),
            Effect::Intend(_) => Outcome::BoundElsewhere,
            Effect::Bind(decision) if node.is_empty() => update(self, &|pod| {
                record(pod, decision, false);
                pod["spec"]["nodeName"] = VIRTUAL_NODE.into();
            }),
            Effect::Bind(decision) => {
                let is_ours = HomePod::read(&pod, VIRTUAL_NODE).unwrap().decision.as_ref() == Some(decision);
                if is_ours { Outcome::Done } else { Outcome::BoundElsewhere }
            }
            Effect::Withdraw if node.is_empty() => update(self, &|pod| {
                for key in [names::CLUSTER, names::CLUSTER_UID, names::NODE, names::RUN, names::INTENT] {
                    pod["metadata"]["annotations"].as_object_mut().unwrap().remove(key);
                }
            }),
            Effect::Withdraw => Outcome::Done,
            Effect::CountAttempt { resource_version, decision } => {
                if pod["metadata"]["resourceVersion"] != **resource_version {
                    return Outcome::Conflict;
                }
                update(self, &|pod| record(pod, decision, false))
            }
            Effect::Mirror(patch) if patch["metadata"]["resourceVersion"] != pod["metadata"]["resourceVersion"] => Outcome::Conflict,
            Effect::Mirror(patch) => update(self, &|pod| merge_status(pod, patch)),
            Effect::SetPatience => update(self, &|pod| pod["spec"]["tolerations"] = tolerations(None)),
            Effect::Confirm => {
                assert!(is_deleted, "a home pod that nobody deletes is confirmed: {pod}");
                self.judge_confirmation(&pod);
                self.home.delete(name, uid, None, Some(0), self.now).unwrap();
                Outcome::Done
            }
            Effect::DeleteHome | Effect::EvictHome => {
                self.home.delete(name, uid, None, None, self.now).unwrap();
                Outcome::Done
            }
            _ => Outcome::Retry("unknown".to_owned()),
        }
    }
}

fn is_remote(effect: &Effect) -> bool {
    use Effect::{ArchiveLogs, CheckRun, CreateRun, DeleteRun, Propagate, Reap};
    matches!(effect, ArchiveLogs(_) | CheckRun(_) | CreateRun(_) | DeleteRun { .. } | Propagate(_) | Reap { .. })
}

pub fn tolerations(seconds: Option<u64>) -> Value {
    json!([{ "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds }])
}

fn record(pod: &mut Value, decision: &Decision, intent: bool) {
    let notes = &mut pod["metadata"]["annotations"];
    notes[names::CLUSTER] = (*decision.cluster).into();
    notes[names::CLUSTER_UID] = (*decision.cluster_uid).into();
    notes[names::NODE] = (*decision.node).into();
    notes[names::ATTEMPT] = decision.attempt.to_string().into();
    notes[names::RUN] = format!("{}/{}", decision.run.namespace, decision.run.name).into();
    if intent {
        notes[names::INTENT] = "true".into();
    }
}

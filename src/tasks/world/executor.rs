//! Orders are carried out, more or less. In: commands of machines. Out: writes, at once, late, half or never, and outcomes, true or unclear.

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{
    World,
    server::{Kind, is_over},
};
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        effect::{Effect, Input, OrderId, Outcome, Subject},
        facts::{Pod, Task},
        freeze,
        run::SavedLogs,
    },
};

/// How late an order can take effect after its leader is gone or has given it up.
const LATE_MAX_MS: u64 = 12_000;

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

/// An order on its way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub leader: u64,
    pub id: OrderId,
    pub subject: Subject,
    pub effect: Effect,
    pub at: Timestamp,
    pub fault: Fault,
    pub awaited: bool,
    /// A creation that has read the run and is about to write.
    pub prepared: Option<Value>,
}

impl World {
    pub fn take_off(&mut self, leader: u64, id: OrderId, subject: Subject, effect: Effect) {
        let fault = match self.rng.random_range(0..100) {
            _ if self.calm => Fault::None,
            0..6 => Fault::Before,
            6..12 => Fault::Unclear,
            12..16 => Fault::Late,
            _ => Fault::None,
        };
        let at = self.now + DurationMs(self.rng.random_range(1..if self.calm { 100 } else { 2_000 }));
        self.flights.push(Flight { leader, id, subject, effect, at, fault, awaited: true, prepared: None });
    }

    /// The leader is gone: what is on its way may still arrive, or not.
    pub fn orphan_flights(&mut self, leader: u64) {
        for at in (0..self.flights.len()).rev().filter(|at| *at < usize::MAX) {
            if self.flights[at].leader != leader || !self.flights[at].awaited {
                continue;
            }
            if self.chance(50) {
                self.flights.remove(at);
                continue;
            }
            let mut flight = self.flights[at].clone();
            self.delay(&mut flight);
            self.flights[at] = flight;
        }
    }

    /// It may have read what it needs long before it writes.
    fn delay(&mut self, flight: &mut Flight) {
        if let Effect::CreatePod { attempt } = flight.effect {
            flight.prepared = self.prepare(&flight.subject, attempt).ok();
        }
        flight.awaited = false;
        flight.fault = Fault::None;
        flight.at = self.now + DurationMs(self.rng.random_range(0..LATE_MAX_MS));
    }

    pub fn land(&mut self) {
        while let Some(at) = self.flights.iter().position(|flight| flight.at <= self.now) {
            let mut flight = self.flights.remove(at);
            if self.is_killed(&flight, false) {
                continue;
            }
            match flight.fault {
                Fault::Before => self.report(&flight, Outcome::Retry("no answer".to_owned())),
                Fault::Late => {
                    self.report(&flight, Outcome::Retry("no answer".to_owned()));
                    self.delay(&mut flight);
                    self.flights.push(flight);
                }
                Fault::None | Fault::Unclear => {
                    let outcome = self.carry_out(&flight);
                    self.note(|| {
                        format!(
                            "{}{:?} {} -> {}",
                            if flight.awaited { "" } else { "late " },
                            flight.subject,
                            shown(&flight.effect),
                            short(&outcome)
                        )
                    });
                    let outcome = if flight.fault == Fault::Unclear { Outcome::Retry("unclear".to_owned()) } else { outcome };
                    if !self.is_killed(&flight, true) {
                        self.report(&flight, outcome);
                    }
                }
            }
        }
    }

    fn report(&mut self, flight: &Flight, outcome: Outcome) {
        if flight.awaited {
            self.give(flight.leader, Input::Done(flight.id, outcome));
        }
    }

    fn run_of(&self, subject: &Subject) -> Option<&Value> {
        let Subject::Run(key) = subject else { return None };
        self.server.get(Kind::Run, &key.name)
    }

    /// What a creation reads before it writes.
    fn prepare(&self, subject: &Subject, attempt: u32) -> Result<Value, Outcome> {
        let run = self.run_of(subject).ok_or(Outcome::Gone)?;
        if run["status"]["phase"] != "Launching" || run["status"]["attempt"] != attempt {
            return Err(Outcome::Conflict);
        }
        freeze::pod(run, attempt).map_err(Outcome::Refused)
    }

    fn pod(&self, name: &str, uid: &str) -> Option<&Value> {
        self.server.get(Kind::Pod, name).filter(|pod| pod["metadata"]["uid"] == *uid)
    }

    fn carry_out(&mut self, flight: &Flight) -> Outcome {
        let now = self.now;
        match &flight.effect {
            Effect::CreateRun(run) => match self.server.create(Kind::Run, (**run).clone(), now) {
                Ok(made) => {
                    self.judge_run(&made);
                    Outcome::Run(Box::new(made))
                }
                Err(there) => Outcome::Run(Box::new(there)),
            },
            Effect::CreatePod { attempt } => self.create_pod(flight, *attempt),
            Effect::ReadPod(name) => match self.server.get(Kind::Pod, name) {
                Some(pod) => Outcome::Pod(Box::new(Pod::read(pod).unwrap())),
                None => Outcome::Absent,
            },
            Effect::SaveLogs { pod, uid, .. } => {
                let complete = self.pod(pod, uid).is_some_and(is_over);
                self.saved.insert(uid.to_string());
                Outcome::Logs(Box::new(SavedLogs { uri: format!("file:///{pod}"), complete, ..SavedLogs::default() }))
            }
            Effect::DeletePod { pod, uid, grace_seconds } => {
                if self.pod(pod, uid).is_none() {
                    return Outcome::Absent;
                }
                self.server.delete_pod(pod, *grace_seconds, now);
                Outcome::Done
            }
            Effect::ReleasePod { pod, uid } => {
                let Some(object) = self.pod(pod, uid).cloned() else { return Outcome::Absent };
                self.judge_release(&object);
                self.server.update(Kind::Pod, pod, |object| object["metadata"]["finalizers"] = json!([]));
                Outcome::Done
            }
            Effect::Announce(state) => {
                let Subject::Run(key) = &flight.subject else { return Outcome::Done };
                self.announced.insert((key.name.to_string(), (*state).to_owned()));
                Outcome::Done
            }
            Effect::DeleteRun { uid } => {
                let Some(run) = self.run_of(&flight.subject).filter(|run| run["metadata"]["uid"] == **uid).cloned() else {
                    return Outcome::Absent;
                };
                Self::judge_retention(&run);
                let name = super::server::name_of(&run);
                self.server.delete_run(&name, now);
                Outcome::Done
            }
            Effect::ReadRun => self.run_of(&flight.subject).map_or(Outcome::Absent, |run| Outcome::Run(Box::new(run.clone()))),
            Effect::FillIn { resource_version, patch } => self.write(flight, Kind::Run, resource_version, |run| {
                run["spec"]["frozen"] = patch["spec"]["frozen"].clone();
                run["metadata"]["labels"] = patch["metadata"]["labels"].clone();
            }),
            Effect::WriteRun { resource_version, status, .. } => {
                self.write(flight, Kind::Run, resource_version, |run| run["status"] = json!(status))
            }
            Effect::ReadTask => self.task_of(&flight.subject),
            Effect::WriteTask { resource_version, status } => {
                self.write(flight, Kind::Task, resource_version, |task| task["status"] = json!(status))
            }
        }
    }

    fn task_of(&self, subject: &Subject) -> Outcome {
        let Subject::Task(key) = subject else { return Outcome::Absent };
        self.server.get(Kind::Task, &key.name).map_or(Outcome::Absent, |task| Outcome::Task(Box::new(Task::read(task).unwrap())))
    }

    fn write(&mut self, flight: &Flight, kind: Kind, version: &str, change: impl FnOnce(&mut Value)) -> Outcome {
        let (Subject::Run(key) | Subject::Task(key)) = &flight.subject else { return Outcome::Gone };
        let Some(object) = self.server.get(kind, &key.name) else { return Outcome::Gone };
        if object["metadata"]["resourceVersion"] != *version {
            return Outcome::Conflict;
        }
        self.server.update(kind, &key.name, change);
        match kind {
            Kind::Task => self.task_of(&flight.subject),
            _ => self.run_of(&flight.subject).map_or(Outcome::Gone, |run| Outcome::Run(Box::new(run.clone()))),
        }
    }

    fn create_pod(&mut self, flight: &Flight, attempt: u32) -> Outcome {
        if !self.calm && self.chance(4) {
            return Outcome::Wait("Quota".to_owned(), "exceeded quota: pods".to_owned());
        }
        let pod = match flight.prepared.clone().map_or_else(|| self.prepare(&flight.subject, attempt), Ok) {
            Ok(pod) => pod,
            Err(outcome) => return outcome,
        };
        match self.server.create(Kind::Pod, pod, self.now) {
            Ok(made) => {
                self.judge_pod(&made);
                Outcome::Pod(Box::new(Pod::read(&made).unwrap()))
            }
            Err(there) => Outcome::Pod(Box::new(Pod::read(&there).unwrap())),
        }
    }
}

/// An effect without what is in it.
pub fn shown(effect: &Effect) -> String {
    match effect {
        Effect::WriteRun { status, .. } => {
            format!("WriteRun {:?} {:?} attempt {}: {}", status.phase, status.outcome, status.attempt, status.reason)
        }
        Effect::CreateRun(run) => format!("CreateRun {}", run["metadata"]["name"]),
        Effect::FillIn { .. } | Effect::WriteTask { .. } => effect.name().to_owned(),
        other => format!("{other:?}"),
    }
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Run(run) => format!("Run {}", run["metadata"]["resourceVersion"]),
        Outcome::Task(_) => "Task".to_owned(),
        Outcome::Pod(pod) => format!("Pod {} {:?}", pod.uid, pod.phase),
        other => format!("{other:?}"),
    }
}

//! What became of an order. In: its outcome. Out: the record brought up to date; the next step follows from that.

use super::{Machine, Subject};
use crate::{
    model::time::Timestamp,
    tasks::{
        effect::{Command, Effect, OrderId, Outcome},
        facts::{Key, Pod, Run},
        freeze::{Met, met},
        life::Notes,
        names,
    },
};

impl Machine {
    pub(super) fn done(&mut self, now: Timestamp, id: OrderId, outcome: Outcome, out: &mut Vec<Command>) {
        // Orders of an earlier term: what they did, the watches tell.
        let Some(subject) = self.orders.remove(&id) else { return };
        self.busy.remove(&subject);
        self.dirty.insert(subject.clone());
        self.plan_wanted = true;
        match &subject {
            Subject::Task(key) => {
                let effect = self.tasks.get_mut(key).and_then(|record| record.order.take_if(|(order, _)| *order == id));
                if let Some((_, effect)) = effect {
                    self.task_done(now, key, &effect, outcome, out);
                }
            }
            Subject::Run(key) => {
                let effect = self.runs.get_mut(key).and_then(|record| record.order.take_if(|(order, _)| *order == id));
                if let Some((_, effect)) = effect {
                    self.run_done(now, key, &effect, outcome, out);
                }
            }
            Subject::Arrival(arrival) => {
                let Some(record) = self.arrivals.get_mut(arrival) else { return };
                let Some((_, effect)) = record.order.take_if(|(order, _)| *order == id) else { return };
                if let Some(made) = self.created(&effect, &outcome) {
                    if let Some(record) = self.arrivals.get_mut(arrival) {
                        record.created.push(made);
                    }
                    return;
                }
                if let (Effect::CreateRun(run), Outcome::Refused(why)) = (&effect, &outcome) {
                    let task = self.refused(run, why, out);
                    if let Some(record) = self.arrivals.get_mut(arrival) {
                        record.refused.insert(task, why.clone());
                    }
                    return;
                }
                if let Some(record) = self.arrivals.get_mut(arrival) {
                    record.not_before = Some(now + super::records::retry_after(record.failures));
                    record.failures += 1;
                }
            }
            Subject::Orphan(key) => {
                let effect = self.orphans.get_mut(key).and_then(|record| record.order.take_if(|(order, _)| *order == id));
                if let Some((_, effect)) = effect {
                    self.orphan_done(now, key, &effect, outcome);
                }
            }
        }
    }

    /// A run that was to be created is there, or what has its name: that is looked at by whoever ordered it. `None`: nothing is known.
    fn created(&mut self, effect: &Effect, outcome: &Outcome) -> Option<Key> {
        let (Effect::CreateRun(wanted), Outcome::Run(there)) = (effect, outcome) else { return None };
        let run = Run::read(there)?;
        let key = run.key.clone();
        self.run(run);
        (met(there, wanted) != Met::OtherTask).then_some(key)
    }

    /// The API server does not take a run, and would not if it were asked again: its task says so. Out: the task.
    fn refused(&self, run: &serde_json::Value, why: &str, out: &mut Vec<Command>) -> Key {
        let text = |place: &str| run.pointer(place).and_then(serde_json::Value::as_str).unwrap_or_default();
        let task = Key::new(text("/metadata/namespace"), text("/spec/taskRef/name"));
        self.tell_task(&task, "NotStarted", format!("{}: its run is refused: {why}", text("/spec/trigger/key")), out);
        task
    }

    fn task_done(&mut self, now: Timestamp, key: &Key, effect: &Effect, outcome: Outcome, out: &mut Vec<Command>) {
        let created = self.created(effect, &outcome).is_some();
        if let (Effect::CreateRun(run), Outcome::Refused(why)) = (effect, &outcome) {
            self.refused(run, why, out);
        }
        let Some(record) = self.tasks.get_mut(key) else { return };
        match (effect, outcome) {
            (Effect::CreateRun(wanted), Outcome::Run(there)) if created => {
                if met(&there, wanted) != Met::OtherKey {
                    record.started.extend(scheduled(wanted));
                }
                record.failures = 0;
            }
            // It is not tried again, and the watermark passes it.
            (Effect::CreateRun(wanted), Outcome::Refused(_)) => record.started.extend(scheduled(wanted)),
            (_, Outcome::Task(task)) => {
                record.failures = 0;
                record.stale = false;
                let settled = task.status.last_scheduled.map_or(Timestamp(0), |time| time.0);
                record.started.retain(|at| *at > settled);
                record.see(*task);
                // Runs that wait for the task's condition.
                let waiting = self.runs.values().filter(|run| run.run.frozen.is_none() && !run.run.is_reaped());
                self.dirty.extend(waiting.map(|run| Subject::Run(run.run.key.clone())).collect::<Vec<_>>());
            }
            (Effect::ReadTask, Outcome::Absent) => self.task_gone(key),
            (_, Outcome::Conflict | Outcome::Gone) => record.stale = true,
            _ => record.failed(now),
        }
    }

    fn run_done(&mut self, now: Timestamp, key: &Key, effect: &Effect, outcome: Outcome, out: &mut Vec<Command>) {
        if let Effect::CreateRun(wanted) = effect {
            let created = self.created(effect, &outcome).is_some();
            if let Outcome::Refused(why) = outcome {
                let task = self.refused(wanted, &why, out);
                if let Some(record) = self.runs.get_mut(key) {
                    record.notes.unfollowed.insert(task.name, why);
                }
                return;
            }
            if let Some(record) = self.runs.get_mut(key) {
                if created { record.notes.failures = 0 } else { record.failed(now, format!("{outcome:?}")) }
            }
            return;
        }
        self.admitted.remove(key);
        let Some(record) = self.runs.get_mut(key) else { return };
        match (effect, outcome) {
            (_, Outcome::Run(value)) => self.run_read(now, key, effect, &value, out),
            (Effect::ReadRun, Outcome::Absent) => {
                let uid = record.run.uid.clone();
                self.run_gone(now, key, &uid);
            }
            (_, Outcome::Conflict | Outcome::Gone) => record.stale = true,
            (Effect::CreatePod { .. } | Effect::ReadPod(_), Outcome::Pod(pod)) => self.pod_read(now, key, effect, *pod),
            (Effect::ReadPod(name), Outcome::Absent) => {
                record.pod_absent(name, now);
                record.notes.failures = 0;
            }
            (Effect::CreatePod { .. } | Effect::FillIn { .. }, Outcome::Refused(why)) => record.notes.refused = Some(why),
            (Effect::CreatePod { .. }, Outcome::Wait(reason, why)) => record.notes.held = Some((reason, why)),
            (Effect::SaveLogs { .. }, Outcome::Logs(logs)) => {
                record.notes.logs = Some(*logs);
                record.notes.failures = 0;
            }
            (Effect::DeletePod { uid, grace_seconds, .. }, Outcome::Done) => {
                record.notes.deleted = Some((uid.clone(), *grace_seconds));
                record.notes.tries += 1;
                record.notes.failures = 0;
            }
            (Effect::DeletePod { .. }, Outcome::Refused(why)) => record.notes.forbidden = Some(why),
            (Effect::ReleasePod { pod, .. }, Outcome::Done) => {
                record.notes.failures = 0;
                record.pods.entry(pod.clone()).and_modify(|pod| pod.held = false);
            }
            (Effect::DeletePod { pod, .. } | Effect::ReleasePod { pod, .. }, Outcome::Absent) => record.pod_absent(pod, now),
            (Effect::Announce(state), Outcome::Done) => {
                record.notes.announced = Some(state);
                record.notes.failures = 0;
            }
            // Nothing waits for this one: the next announcement says all of it again.
            (Effect::Announce("Finished"), _) => record.notes.unheard = true,
            (Effect::DeleteRun { .. }, Outcome::Done | Outcome::Absent) => record.run.deleting = true,
            (effect, outcome) => {
                if let Effect::CreatePod { .. } = effect {
                    record.notes.unclear = Some(now);
                }
                let why = if let Outcome::Retry(why) | Outcome::Refused(why) = outcome { why } else { format!("{outcome:?}") };
                record.failed(now, why);
            }
        }
    }

    /// The run as it is after a write, or as it was read.
    fn run_read(&mut self, now: Timestamp, key: &Key, effect: &Effect, value: &serde_json::Value, out: &mut Vec<Command>) {
        let Some(run) = Run::read(value) else { return };
        let Some(record) = self.runs.get_mut(key) else { return };
        record.stale = false;
        record.blocked = None;
        let notes = std::mem::take(&mut record.notes);
        let same_attempt = run.status.attempt == record.run.status.attempt;
        let told = if let Effect::WriteRun { before, status, .. } = effect {
            let news = before.pending != status.pending;
            Self::tell_run(key, &run.uid, before, status, out);
            if news { Some(now) } else { notes.told }
        } else {
            notes.told
        };
        record.notes = Notes {
            unclear: notes.unclear,
            absent: notes.absent,
            deleted: notes.deleted,
            tries: if same_attempt { notes.tries } else { 0 },
            forbidden: notes.forbidden.filter(|_| same_attempt),
            announced: notes.announced,
            logs: notes.logs.filter(|_| same_attempt && !matches!(effect, Effect::WriteRun { .. })),
            arriving: notes.arriving.into_iter().filter(|one| !run.status.arrived.contains(one)).collect(),
            told,
            unfollowed: notes.unfollowed,
            ..Notes::default()
        };
        if run.uid != record.run.uid {
            return self.run(run);
        }
        record.see(run);
        self.changed(key);
    }

    fn pod_read(&mut self, now: Timestamp, key: &Key, effect: &Effect, pod: Pod) {
        let Some(record) = self.runs.get_mut(key) else { return };
        record.notes.failures = 0;
        if pod.owner == record.run.uid {
            record.notes.created = record.notes.created.or_else(|| matches!(effect, Effect::CreatePod { .. }).then_some(now));
            record.see_pod(pod);
        } else if let Effect::ReadPod(name) = effect {
            record.pod_absent(name, now);
        } else if *pod.run == *key.name && !pod.owner.is_empty() {
            // Of a run that had the name before; it goes.
            record.notes.held =
                Some(("NameTaken".to_owned(), format!("the pod {} of an earlier run of this name is being deleted", pod.key.name)));
        } else {
            debug_assert_eq!(*pod.key.name, names::pod_name(&key.name, record.run.status.attempt));
            record.notes.foreign = true;
        }
    }
}

fn scheduled(run: &serde_json::Value) -> Option<Timestamp> {
    run["spec"]["scheduledTime"].as_str().and_then(Timestamp::parse_rfc3339)
}

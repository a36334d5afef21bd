//! Tasks: their condition, their clocks, the runs that they need no longer. In: a task. Out: creations of runs, and one status after they are acknowledged.

use std::collections::BTreeMap;

use super::Machine;
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        effect::{Command, Effect, News, Subject},
        facts::Key,
        run::TriggerKind,
        spec::{Condition, TaskSpec, TaskStatus, set_condition},
        time::Time,
        trigger::{Firing, remembered::Remembered},
        validate,
    },
};

use super::delivery::Delivery;

/// Retention of a task is looked at no more often.
const LOOK_EVERY: DurationMs = DurationMs(1_000);

/// What the clocks of a task say.
#[derive(Debug, Default)]
struct Ticks {
    /// Firings in order.
    due: Vec<Firing>,
    missed: usize,
    until: Option<Timestamp>,
    next: Option<Timestamp>,
}

impl Machine {
    pub(super) fn step_task(&mut self, now: Timestamp, key: &Key, out: &mut Vec<Command>) {
        let subject = Subject::Task(key.clone());
        let Some(record) = self.tasks.get(key).filter(|record| !record.task.deleting) else { return };
        if let Some(at) = record.not_before.filter(|at| *at > now) {
            return self.wake(at, subject);
        }
        if record.stale {
            return self.order_for_task(key, Effect::ReadTask, out);
        }
        let mut status = record.task.status.clone();
        let spec = record.task.spec.clone();
        status.observed_generation = record.task.generation;
        self.judge(now, key, &mut status);
        let Some(record) = self.tasks.get(key) else { return };
        let Ok(spec) = spec else { return self.write_task(key, status, out) };
        let watermark = status.last_scheduled.map_or(record.task.created, |time| time.0);
        status.last_scheduled = Some(Time::from(watermark));
        if spec.suspend {
            status.suspended = true;
            status.next_scheduled = None;
        } else if status.suspended {
            // What the clock would have started meanwhile is not made up for.
            status.suspended = false;
            status.last_scheduled = Some(Time::from(now));
        } else if record.is_valid && self.tick(now, key, watermark, &mut status, out) {
            return;
        }
        self.retain(now, key, &spec, &mut status);
        if let Some(at) =
            status.next_scheduled.map(|time| time.0).into_iter().chain(self.tasks.get(key).and_then(|record| record.look_at)).min()
        {
            self.wake(at.max(now), subject);
        }
        self.write_task(key, status, out);
    }

    /// Whether runs can be made of it.
    fn judge(&mut self, now: Timestamp, key: &Key, status: &mut TaskStatus) {
        if let Some(condition) = self.tasks.get(key).and_then(|record| record.judged.clone()) {
            return set_condition(&mut status.conditions, condition);
        }
        let others: BTreeMap<&str, &TaskSpec> = self
            .tasks
            .values()
            .filter(|other| other.task.key.namespace == key.namespace)
            .filter_map(|other| Some((&*other.task.key.name, &**other.task.spec.as_ref().ok()?)))
            .collect();
        let Some(record) = self.tasks.get(key) else { return };
        let condition = match &record.task.spec {
            Ok(spec) => validate::condition(&validate::task(&key.name, spec, &self.rules, &others), now),
            Err(why) => Condition {
                kind: "Valid".to_owned(),
                status: "False".to_owned(),
                reason: "Unreadable".to_owned(),
                message: format!("spec cannot be read: {why}"),
                last_transition_time: Time::from(now),
            },
        };
        let is_valid = condition.status == "True";
        set_condition(&mut status.conditions, condition.clone());
        if let Some(record) = self.tasks.get_mut(key) {
            record.is_valid = is_valid;
            record.judged = Some(condition);
        }
    }

    fn write_task(&mut self, key: &Key, status: TaskStatus, out: &mut Vec<Command>) {
        let Some(record) = self.tasks.get(key).filter(|record| record.task.status != status) else { return };
        let resource_version = record.task.resource_version.clone();
        self.order_for_task(key, Effect::WriteTask { resource_version, status: Box::new(status) }, out);
    }

    fn order_for_task(&mut self, key: &Key, effect: Effect, out: &mut Vec<Command>) {
        let order = self.order(Subject::Task(key.clone()), effect, out);
        if let Some(record) = self.tasks.get_mut(key) {
            record.order = Some(order);
        }
    }

    fn ticks(&self, now: Timestamp, key: &Key, watermark: Timestamp) -> Ticks {
        let mut ticks = Ticks::default();
        let Some(record) = self.tasks.get(key) else { return ticks };
        for clock in &record.clocks {
            let due = clock.due(watermark, now);
            ticks.missed += due.missed;
            ticks.until = ticks.until.max(due.until);
            let next = clock.next_after(now);
            ticks.next = ticks.next.into_iter().chain(next).min();
            for at in due.start {
                let firing = Firing {
                    kind: TriggerKind::Cron,
                    key: at.to_rfc3339(),
                    cycle: Some(clock.cycle(at)),
                    time: Some(at),
                    ..Firing::default()
                };
                if !ticks.due.iter().any(|other| other.key == firing.key) {
                    ticks.due.push(firing);
                }
            }
        }
        ticks.due.sort_by_key(|firing| firing.time);
        ticks
    }

    /// What the clock starts. The watermark moves when every run of it was acknowledged; true: that is still to come.
    fn tick(&mut self, now: Timestamp, key: &Key, watermark: Timestamp, status: &mut TaskStatus, out: &mut Vec<Command>) -> bool {
        let subject = Subject::Task(key.clone());
        let is_due = status.next_scheduled.is_none_or(|next| next.0 <= now);
        let edited = self.tasks.get(key).is_some_and(|record| record.task.status.observed_generation != record.task.generation);
        if !is_due && !edited {
            return false;
        }
        let ticks = self.ticks(now, key, watermark);
        for firing in &ticks.due {
            let started = self.tasks.get(key).zip(firing.time).is_some_and(|(record, at)| record.started.contains(&at));
            if started {
                continue;
            }
            match self.deliver(key, firing, &subject, now) {
                Delivery::There(_) | Delivery::Settled | Delivery::Recording(_) => {}
                Delivery::Create(run) => {
                    self.order_for_task(key, Effect::CreateRun(run), out);
                    return true;
                }
                Delivery::Hold(why) => {
                    self.tell_task(key, "Held", why, out);
                    if let Some(record) = self.tasks.get_mut(key) {
                        record.failed(now);
                    }
                    self.dirty.insert(subject);
                    return true;
                }
                Delivery::Refused(why) => self.tell_task(key, "NotStarted", format!("{}: {why}", firing.key), out),
            }
        }
        if let Some(until) = ticks.until {
            status.last_scheduled = Some(Time::from(until));
            if ticks.missed > 0 {
                out.push(Command::Missed(key.clone(), ticks.missed));
                self.tell_task(key, "Missed", format!("{} scheduled times went by and are not made up for", ticks.missed), out);
            }
        }
        status.next_scheduled = ticks.next.map(Time::from);
        false
    }

    pub(super) fn tell_task(&self, key: &Key, reason: &str, note: String, out: &mut Vec<Command>) {
        let Some(record) = self.tasks.get(key) else { return };
        let (subject, uid) = (Subject::Task(key.clone()), record.task.uid.clone());
        out.push(Command::Tell(News { subject, uid, kind: "Warning", reason: reason.to_owned(), note }));
    }

    fn retain(&mut self, now: Timestamp, key: &Key, spec: &TaskSpec, status: &mut TaskStatus) {
        // What counts is what the API server has acknowledged, not what is about to be written.
        let Some(record) = self.tasks.get_mut(key) else { return };
        // Each run that ends asks for it, and it goes over all of them.
        if let Some(next) = record.looked.map(|looked| looked + LOOK_EVERY).filter(|next| *next > now) {
            record.look_at = Some(record.look_at.map_or(next, |at| at.min(next)));
            return;
        }
        record.looked = Some(now);
        let watermark = record.task.status.last_scheduled.map_or(Timestamp(0), |time| time.0);
        let remembered = Remembered::read(&record.task.status);
        let passed = self.passed(key, &spec.retention, watermark, &remembered, now);
        if !passed.remember.is_empty() {
            let mut next = remembered;
            passed.remember.into_iter().for_each(|(hash, at)| next.settle(hash, at));
            next.write(status);
        }
        for run in passed.delete {
            if let Some(record) = self.runs.get_mut(&run).filter(|record| !record.expired) {
                record.expired = true;
                self.dirty.insert(Subject::Run(run));
            }
        }
        if let Some(record) = self.tasks.get_mut(key) {
            record.look_at = passed.next;
        }
    }
}

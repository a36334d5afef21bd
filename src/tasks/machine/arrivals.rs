//! Arrivals: answered when their runs exist. In: one that came. Out: creations, then one answer.

use super::{Machine, delivery::Delivery};
use crate::{
    model::time::Timestamp,
    tasks::{
        effect::{Answer, ArrivalId, Command, Subject},
        facts::Key,
        trigger::Firing,
    },
};

/// Failures after which the sender is asked to send it again.
const FAILURES_MAX: u32 = 4;

impl Machine {
    pub(super) fn step_arrival(&mut self, now: Timestamp, id: ArrivalId, out: &mut Vec<Command>) {
        let subject = Subject::Arrival(id);
        let Some(record) = self.arrivals.get(&id) else { return };
        if record.failures >= FAILURES_MAX {
            return self.answer(id, Answer::Again("the API server does not take its runs: send it again".to_owned()), out);
        }
        if let Some(at) = record.not_before.filter(|at| *at > now) {
            return self.wake(at, subject);
        }
        let firings = record.firings.clone().unwrap_or_else(|| self.firings(id));
        if firings.is_empty() {
            return self.answer(id, Answer::Unwanted, out);
        }
        let (mut recording, mut refused) = (false, Vec::new());
        let refusals = record.refused.clone();
        for (task, firing) in &firings {
            if let Some(why) = refusals.get(task) {
                refused.push(format!("{}: {why}", task.name));
                continue;
            }
            match self.deliver(task, firing, &subject, now) {
                Delivery::There(_) | Delivery::Settled => {}
                Delivery::Recording(_) => recording = true,
                Delivery::Refused(why) => refused.push(format!("{}: {why}", task.name)),
                Delivery::Hold(why) => return self.answer(id, Answer::Again(why), out),
                Delivery::Create(run) => {
                    let order = self.order(subject, crate::tasks::effect::Effect::CreateRun(run), out);
                    if let Some(record) = self.arrivals.get_mut(&id) {
                        record.order = Some(order);
                        record.firings = Some(firings);
                    }
                    return;
                }
            }
        }
        let Some(record) = self.arrivals.get_mut(&id) else { return };
        record.firings = Some(firings.clone());
        if recording {
            return;
        }
        let answer = match (record.created.is_empty(), refused.len() == firings.len()) {
            (_, true) => Answer::Refused(refused.join("; ")),
            (true, false) => Answer::Duplicate,
            (false, false) => Answer::Accepted(record.created.clone()),
        };
        self.answer(id, answer, out);
    }

    fn firings(&self, id: ArrivalId) -> Vec<(Key, Firing)> {
        let Some(record) = self.arrivals.get(&id) else { return Vec::new() };
        let active = self.tasks.values().filter(|task| task.is_active());
        let made = |task: &super::TaskRecord| {
            let firing = task.matchers.iter().find_map(|matcher| matcher.firing(&record.arrival, record.at))?;
            Some((task.task.key.clone(), firing))
        };
        active.filter_map(made).collect()
    }

    fn answer(&mut self, id: ArrivalId, answer: Answer, out: &mut Vec<Command>) {
        self.arrivals.remove(&id);
        out.push(Command::Answer(id, answer));
    }
}

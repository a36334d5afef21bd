//! The machine of all tasks of a cluster. In: facts ([`Input`]) in any order, also late and twice. Out: at most one order at a time for each task, run, arrival
//! and orphan ([`Command`]), such that each firing is one run, each run has one live pod at most, and nothing is lost or left over.
//!
//! The next step is derived from what the objects say. What is remembered besides only saves questions: all of it may be forgotten at any time, as when the
//! next leader takes over.

mod arrivals;
mod delivery;
mod done;
mod orphans;
mod records;
mod retention;
mod runs;
mod tally;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    records::{ArrivalRecord, Group, OrphanRecord, RunRecord, TaskRecord},
    tally::Tally,
};
use super::{
    admission::{self, Bucket, Candidate},
    concurrency::Peers,
    effect::{Answer, Command, Effect, Input, Listing, OrderId, Subject},
    facts::{Key, Pod, Task},
    rules::Rules,
};
use crate::model::time::{DurationMs, Timestamp};

/// Starts are decided at most so often.
const PLAN_EVERY: DurationMs = DurationMs(50);
/// Steps taken for one fact; more is a circle in the rules.
const STEPS_MAX: usize = 200_000;

/// The machine.
#[derive(Debug, Default)]
pub struct Machine {
    rules: Rules,
    leading: Option<Timestamp>,
    listed: bool,
    tasks: BTreeMap<Key, TaskRecord>,
    runs: BTreeMap<Key, RunRecord>,
    orphans: BTreeMap<Key, OrphanRecord>,
    arrivals: BTreeMap<super::effect::ArrivalId, ArrivalRecord>,
    groups: BTreeMap<Group, Peers>,
    tally: Tally,
    /// Whoever waits for a run to record something.
    watchers: BTreeMap<Key, BTreeSet<Subject>>,
    lost_nodes: BTreeSet<Box<str>>,
    orders: BTreeMap<OrderId, Subject>,
    /// Of what these are. What has the name of something that is gone waits for the answer to the last order about that.
    busy: BTreeSet<Subject>,
    wakes: BTreeSet<(Timestamp, Subject)>,
    dirty: BTreeSet<Subject>,
    /// Runs that could start and of which nothing is under way.
    ready: BTreeMap<Key, Candidate>,
    /// Runs that start: until the write that says so is done.
    admitted: BTreeSet<Key>,
    bucket: Bucket,
    plan_wanted: bool,
    plan_at: Timestamp,
    next_order: u64,
}

impl Machine {
    /// A machine that knows nothing yet and does not lead. Numbers of orders begin at `first_order`.
    pub fn new(rules: Rules, first_order: u64) -> Self {
        Self { rules, next_order: first_order, ..Self::default() }
    }

    /// Takes in one fact and appends what is to be done.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>) {
        match input {
            Input::Task(task) => self.task(now, *task),
            Input::TaskGone(key) => self.task_gone(&key),
            Input::Run(run) => self.run(*run),
            Input::RunGone(key, uid) => self.run_gone(now, &key, &uid),
            Input::Pod(pod) => self.pod(now, *pod),
            Input::PodGone(key, uid) => self.pod_gone(now, &key, &uid),
            Input::Listed(listing) => self.listed(now, &listing),
            Input::Arrival(id, arrival) => {
                if self.leading.is_some() && self.listed {
                    self.arrivals.insert(id, ArrivalRecord::new(*arrival, now));
                    self.dirty.insert(Subject::Arrival(id));
                } else {
                    out.push(Command::Answer(id, Answer::Again("this process does not lead: send it again".to_owned())));
                }
            }
            Input::Done(id, outcome) => self.done(now, id, outcome, out),
            Input::Leading(true) if self.leading.is_none() => {
                self.leading = Some(now);
                self.all_dirty();
            }
            Input::Leading(true) | Input::Tick => {}
            Input::Leading(false) => self.stop_leading(out),
            Input::Rules(rules) => {
                self.rules = *rules;
                self.tasks.values_mut().for_each(|record| record.judged = None);
                self.all_dirty();
            }
            Input::NodeLost(node, true) => {
                let on = |record: &&RunRecord| record.pods.values().any(|pod| pod.node == node);
                self.dirty.extend(self.runs.values().filter(on).map(|record| Subject::Run(record.run.key.clone())));
                self.lost_nodes.insert(node);
            }
            Input::NodeLost(node, false) => {
                self.lost_nodes.remove(&node);
            }
        }
        self.settle(now, out);
    }

    /// When something is due although nothing comes in.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let plan = self.plan_wanted.then_some(self.plan_at);
        self.leading?;
        self.wakes.first().map(|(at, _)| *at).into_iter().chain(plan).min()
    }

    /// Whether an account may submit one more run in a namespace; the text is for the sender.
    pub fn may_submit(&self, namespace: &str, account: &str) -> Result<(), String> {
        admission::may_submit(&self.rules, account, self.tally.queued_of(account), self.tally.live_in(namespace))
    }

    fn stop_leading(&mut self, out: &mut Vec<Command>) {
        self.leading = None;
        self.orders.clear();
        self.busy.clear();
        self.wakes.clear();
        self.ready.clear();
        self.admitted.clear();
        self.watchers.clear();
        self.runs.values_mut().for_each(RunRecord::forget);
        self.tasks.values_mut().for_each(TaskRecord::forget);
        self.orphans.values_mut().for_each(|record| *record = OrphanRecord::new(record.pod.clone(), record.since));
        let again = |id| Command::Answer(id, Answer::Again("this process does not lead any more: send it again".to_owned()));
        out.extend(std::mem::take(&mut self.arrivals).into_keys().map(again));
    }

    fn all_dirty(&mut self) {
        self.dirty.extend(self.tasks.keys().cloned().map(Subject::Task));
        self.dirty.extend(self.runs.keys().cloned().map(Subject::Run));
        self.dirty.extend(self.orphans.keys().cloned().map(Subject::Orphan));
        self.plan_wanted = true;
    }

    fn task(&mut self, now: Timestamp, task: Task) {
        let key = task.key.clone();
        let is_news = self.tasks.get(&key).is_none_or(|record| record.is_news(&task));
        match self.tasks.get_mut(&key) {
            Some(record) => record.see(task),
            None => {
                self.tasks.insert(key.clone(), TaskRecord::new(task, now));
            }
        }
        self.dirty.insert(Subject::Task(key.clone()));
        if !is_news {
            return;
        }
        self.revalidate(&key.namespace);
        self.dirty
            .extend(self.runs.values().filter(|record| record.run.frozen.is_none()).map(|record| Subject::Run(record.run.key.clone())));
    }

    fn task_gone(&mut self, key: &Key) {
        self.tasks.remove(key);
        self.revalidate(&key.namespace);
    }

    /// Tasks judge each other: they may wait in a circle.
    fn revalidate(&mut self, namespace: &str) {
        for (key, record) in self.tasks.iter_mut().filter(|(key, _)| *key.namespace == *namespace) {
            record.judged = None;
            self.dirty.insert(Subject::Task(key.clone()));
        }
    }

    fn listed(&mut self, now: Timestamp, listing: &Listing) {
        let tasks: Vec<Key> =
            self.tasks.values().filter(|one| !listing.tasks.contains(&one.task.uid)).map(|one| one.task.key.clone()).collect();
        tasks.iter().for_each(|key| self.task_gone(key));
        let runs: Vec<(Key, Box<str>)> = self
            .runs
            .values()
            .map(|one| (one.run.key.clone(), one.run.uid.clone()))
            .filter(|(_, uid)| !listing.runs.contains(uid))
            .collect();
        runs.iter().for_each(|(key, uid)| self.run_gone(now, key, uid));
        let pods = self.runs.values().flat_map(|one| one.pods.values()).chain(self.orphans.values().map(|one| &one.pod));
        let pods: Vec<(Key, Box<str>)> =
            pods.map(|pod| (pod.key.clone(), pod.uid.clone())).filter(|(_, uid)| !listing.pods.contains(uid)).collect();
        pods.iter().for_each(|(key, uid)| self.pod_gone(now, key, uid));
        self.listed = true;
        self.all_dirty();
    }

    fn settle(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.leading.is_none() || !self.listed {
            self.dirty.clear();
            return;
        }
        while let Some((at, _)) = self.wakes.first()
            && *at <= now
            && let Some((_, subject)) = self.wakes.pop_first()
        {
            self.dirty.insert(subject);
        }
        for _ in 0..STEPS_MAX {
            if let Some(subject) = self.dirty.pop_first() {
                if let Subject::Run(key) = &subject {
                    self.recount(key);
                }
                // It is looked at again when its order is done.
                if self.busy.contains(&subject) {
                    continue;
                }
                match &subject {
                    Subject::Task(key) => self.step_task(now, key, out),
                    Subject::Run(key) => self.step_run(now, key, out),
                    Subject::Arrival(id) => self.step_arrival(now, *id, out),
                    Subject::Orphan(key) => self.step_orphan(now, key, out),
                }
            } else if self.plan_wanted && self.plan_at <= now {
                self.plan(now);
            } else {
                return;
            }
        }
        debug_assert!(false, "the machine turns in a circle");
    }

    fn order(&mut self, subject: Subject, effect: Effect, out: &mut Vec<Command>) -> (OrderId, Effect) {
        let id = OrderId(self.next_order);
        self.next_order += 1;
        self.orders.insert(id, subject.clone());
        self.busy.insert(subject.clone());
        out.push(Command::Order(id, subject, effect.clone()));
        (id, effect)
    }

    fn wake(&mut self, at: Timestamp, subject: Subject) {
        self.wakes.insert((at, subject));
    }

    /// Whether what is counted as runs change is what there is. Who does not lead does not look at pods.
    #[cfg(test)]
    pub fn counts_right(&self) -> bool {
        let mut tally = Tally::default();
        let same = |record: &RunRecord| record.share == Some(tally.count(&record.run, record.has_node(), None));
        self.leading.is_none() || !self.listed || (self.runs.values().all(same) && tally == self.tally)
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.orders.is_empty() && self.arrivals.is_empty()
    }

    fn owner_of(&self, pod: &Pod) -> Option<Key> {
        let key = Key { namespace: pod.key.namespace.clone(), name: pod.run.clone() };
        self.runs.get(&key).filter(|record| record.run.uid == pod.owner).map(|_| key)
    }
}

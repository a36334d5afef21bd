//! What the machine keeps of each object. In: facts. Out: records; everything in them beside the facts themselves only saves questions.

use std::collections::{BTreeMap, BTreeSet};

use super::tally::Share;
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        admission::Why,
        concurrency::Standing,
        effect::{Effect, OrderId},
        facts::{Key, Pod, Run, Task, is_older},
        life::Notes,
        spec::Condition,
        trigger::{
            Firing,
            arrival::{Arrival, Matcher},
            cron::Clockwork,
        },
    },
};

/// Waits between tries of an order: the first, and the most.
const RETRY_FIRST: DurationMs = DurationMs(250);
const RETRY_MAX: DurationMs = DurationMs(20_000);

/// How long an order that failed so often in a row waits.
pub(super) fn retry_after(failures: u32) -> DurationMs {
    DurationMs(RETRY_FIRST.0.saturating_mul(1 << failures.min(10)).min(RETRY_MAX.0))
}

/// Runs that count together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub namespace: Box<str>,
    pub task: Box<str>,
    pub scope: String,
}

impl Group {
    pub fn of(run: &Run) -> Option<Self> {
        let scope = run.frozen.as_ref()?.concurrency.scope.clone();
        Some(Self { namespace: run.key.namespace.clone(), task: run.task.clone(), scope })
    }
}

#[derive(Debug)]
pub(super) struct RunRecord {
    pub run: Run,
    pub pods: BTreeMap<Box<str>, Pod>,
    pub notes: Notes,
    pub order: Option<(OrderId, Effect)>,
    /// What we know is not what the API server has.
    pub stale: bool,
    pub blocked: Option<Why>,
    pub expired: bool,
    /// What the others that count together with it were told last.
    pub standing: Option<Standing>,
    /// As what it counts.
    pub share: Option<Share>,
    /// UIDs of pods that are gone: what is said of them later is past.
    pub past_pods: BTreeSet<Box<str>>,
}

impl RunRecord {
    pub fn new(run: Run) -> Self {
        Self {
            run,
            pods: BTreeMap::new(),
            notes: Notes::default(),
            order: None,
            stale: false,
            blocked: None,
            expired: false,
            standing: None,
            share: None,
            past_pods: BTreeSet::new(),
        }
    }

    /// Everything that only saves questions.
    pub fn forget(&mut self) {
        self.notes = Notes::default();
        self.order = None;
        self.stale = false;
        self.blocked = None;
        self.expired = false;
    }

    /// Whether the object is news.
    pub fn see(&mut self, run: Run) -> bool {
        if is_older(&run.resource_version, &self.run.resource_version) {
            return false;
        }
        let is_news = run.resource_version != self.run.resource_version;
        self.run = run;
        is_news
    }

    /// Whether the pod of its attempt has a node, written down or not.
    pub fn has_node(&self) -> bool {
        let pod = || self.run.status.current().and_then(|attempt| self.pods.get(attempt.pod_name.as_str()));
        !self.run.status.node.is_empty() || pod().is_some_and(|pod| !pod.node.is_empty())
    }

    pub fn failed(&mut self, now: Timestamp, why: String) {
        self.notes.not_before = Some(now + retry_after(self.notes.failures));
        self.notes.failures = self.notes.failures.saturating_add(1);
        self.notes.failure = why;
    }

    pub fn pod_absent(&mut self, name: &str, now: Timestamp) {
        if let Some(pod) = self.pods.remove(name) {
            self.past_pods.insert(pod.uid);
        }
        self.notes.absent.insert(name.into(), now);
    }

    pub fn see_pod(&mut self, pod: Pod) -> bool {
        let known = self.pods.get(&pod.key.name);
        if self.past_pods.contains(&pod.uid)
            || known.is_some_and(|known| known.uid == pod.uid && is_older(&pod.resource_version, &known.resource_version))
        {
            return false;
        }
        self.notes.absent.remove(&pod.key.name);
        self.pods.insert(pod.key.name.clone(), pod);
        true
    }
}

#[derive(Debug)]
pub(super) struct TaskRecord {
    pub task: Task,
    pub clocks: Vec<Clockwork>,
    pub matchers: Vec<Matcher>,
    pub order: Option<(OrderId, Effect)>,
    pub stale: bool,
    pub failures: u32,
    pub not_before: Option<Timestamp>,
    /// Since when we know it; for the watermark of one that has none.
    pub seen: Timestamp,
    /// Scheduled times whose run was acknowledged, until the watermark passes them.
    pub started: BTreeSet<Timestamp>,
    pub is_valid: bool,
    /// The condition, until this task, another of its namespace or the rules change.
    pub judged: Option<Condition>,
    /// Retention is looked at again then.
    pub look_at: Option<Timestamp>,
    /// It was looked at then.
    pub looked: Option<Timestamp>,
}

impl TaskRecord {
    pub fn new(task: Task, now: Timestamp) -> Self {
        let mut record = Self {
            task,
            clocks: Vec::new(),
            matchers: Vec::new(),
            order: None,
            stale: false,
            failures: 0,
            not_before: None,
            seen: now,
            started: BTreeSet::new(),
            is_valid: false,
            judged: None,
            look_at: None,
            looked: None,
        };
        record.compile();
        record
    }

    pub fn forget(&mut self) {
        self.order = None;
        self.stale = false;
        self.failures = 0;
        self.not_before = None;
        self.looked = None;
        self.started.clear();
    }

    pub fn see(&mut self, task: Task) {
        if task.uid != self.task.uid {
            *self = Self::new(task, self.seen);
            return;
        }
        if is_older(&task.resource_version, &self.task.resource_version) {
            return;
        }
        let changed = task.generation != self.task.generation;
        self.task = task;
        if changed {
            self.compile();
        }
    }

    /// Whether something is not what the condition was about.
    pub fn is_news(&self, task: &Task) -> bool {
        task.uid != self.task.uid || task.generation != self.task.generation
    }

    /// Triggers that cannot be read are left out: the condition says so.
    pub fn compile(&mut self) {
        let triggers = self.task.spec.as_ref().map(|spec| spec.triggers.clone()).unwrap_or_default();
        self.clocks = triggers.iter().filter_map(|trigger| Clockwork::new(trigger.cron.as_ref()?).ok()).collect();
        self.matchers = triggers.iter().filter_map(|trigger| Matcher::new(trigger.data.as_ref()?).ok()).collect();
    }

    pub fn failed(&mut self, now: Timestamp) {
        self.not_before = Some(now + retry_after(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether its triggers start runs.
    pub fn is_active(&self) -> bool {
        self.is_valid && !self.task.deleting && self.task.spec.as_ref().is_ok_and(|spec| !spec.suspend)
    }
}

#[derive(Debug)]
pub(super) struct ArrivalRecord {
    pub arrival: Arrival,
    pub at: Timestamp,
    pub firings: Option<Vec<(Key, Firing)>>,
    pub created: Vec<Key>,
    /// Tasks whose run the API server does not take: why.
    pub refused: BTreeMap<Key, String>,
    pub failures: u32,
    pub not_before: Option<Timestamp>,
    pub order: Option<(OrderId, Effect)>,
}

impl ArrivalRecord {
    pub fn new(arrival: Arrival, at: Timestamp) -> Self {
        Self { arrival, at, firings: None, created: Vec::new(), refused: BTreeMap::new(), failures: 0, not_before: None, order: None }
    }
}

/// A pod without a run.
#[derive(Debug)]
pub(super) struct OrphanRecord {
    pub pod: Pod,
    pub since: Timestamp,
    pub order: Option<(OrderId, Effect)>,
    pub logs_tried: bool,
    pub deleted: bool,
    pub failures: u32,
    pub not_before: Option<Timestamp>,
}

impl OrphanRecord {
    pub fn new(pod: Pod, since: Timestamp) -> Self {
        Self { pod, since, order: None, logs_tried: false, deleted: false, failures: 0, not_before: None }
    }
}

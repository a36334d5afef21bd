//! How many runs there are of what somebody asks about, counted as they change. In: runs. Out: counts by namespace and account, what those with a pod use, and
//! the runs of a task.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::tasks::{
    admission::{Used, less},
    facts::{Demand, Key, Run},
    run::Phase,
};

/// As what a run counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    live: bool,
    /// The account in whose queue it stands.
    queued: Option<Box<str>>,
    holds: Option<Held>,
}

/// What a run with a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    account: Box<str>,
    demand: Arc<Demand>,
    /// The profile, while the pod has no node.
    unscheduled_of: Option<Box<str>>,
}

impl Held {
    fn of(run: &Run, has_node: bool) -> Option<Self> {
        let phase = run.phase().filter(|phase| (Phase::Launching..Phase::Reaped).contains(phase))?;
        let frozen = run.frozen.as_ref()?;
        let unscheduled = matches!(phase, Phase::Launching | Phase::Pending) && !has_node;
        let unscheduled_of = unscheduled.then(|| frozen.profile.as_str().into());
        Some(Self { account: frozen.account.as_str().into(), demand: run.demand.clone(), unscheduled_of })
    }
}

impl Share {
    fn of(run: &Run, has_node: bool) -> Self {
        let queued = run.frozen.as_ref().filter(|_| run.phase() <= Some(Phase::Queued)).map(|frozen| frozen.account.as_str().into());
        Self { live: !run.is_reaped(), queued, holds: Held::of(run, has_node) }
    }
}

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    live: BTreeMap<Box<str>, u32>,
    queued: BTreeMap<Box<str>, u32>,
    used: Used,
    of_task: BTreeMap<Key, BTreeSet<Box<str>>>,
}

impl Tally {
    /// A run is there, or is not what it was when it counted as `before`. Out: as what it counts now.
    pub(super) fn count(&mut self, run: &Run, has_node: bool, before: Option<&Share>) -> Share {
        let now = Share::of(run, has_node);
        if before != Some(&now) {
            if let Some(before) = before {
                self.take(&run.key.namespace, before);
            } else {
                self.of_task.entry(task_of(run)).or_default().insert(run.key.name.clone());
            }
            self.give(&run.key.namespace, &now);
        }
        now
    }

    /// A run is gone.
    pub(super) fn forget(&mut self, run: &Run, before: Option<&Share>) {
        let Some(before) = before else { return };
        self.take(&run.key.namespace, before);
        let task = task_of(run);
        if let Some(runs) = self.of_task.get_mut(&task) {
            runs.remove(&run.key.name);
            if runs.is_empty() {
                self.of_task.remove(&task);
            }
        }
    }

    /// Runs of a namespace that are not reaped.
    pub(super) fn live_in(&self, namespace: &str) -> u32 {
        self.live.get(namespace).copied().unwrap_or_default()
    }

    /// Runs of an account that have not begun.
    pub(super) fn queued_of(&self, account: &str) -> u32 {
        self.queued.get(account).copied().unwrap_or_default()
    }

    /// What those with a pod use.
    pub(super) fn used(&self) -> &Used {
        &self.used
    }

    /// Names of the runs of a task.
    pub(super) fn runs_of(&self, task: &Key) -> impl Iterator<Item = &str> {
        self.of_task.get(task).into_iter().flatten().map(|name| &**name)
    }

    fn give(&mut self, namespace: &str, share: &Share) {
        if share.live {
            *self.live.entry(namespace.into()).or_default() += 1;
        }
        if let Some(account) = &share.queued {
            *self.queued.entry(account.clone()).or_default() += 1;
        }
        if let Some(held) = &share.holds {
            self.used.add(&held.account, &held.demand.requests, held.unscheduled_of.as_deref());
        }
    }

    fn take(&mut self, namespace: &str, share: &Share) {
        if share.live {
            less(&mut self.live, namespace);
        }
        if let Some(account) = &share.queued {
            less(&mut self.queued, account);
        }
        if let Some(held) = &share.holds {
            self.used.remove(&held.account, &held.demand.requests, held.unscheduled_of.as_deref());
        }
    }
}

fn task_of(run: &Run) -> Key {
    Key { namespace: run.key.namespace.clone(), name: run.task.clone() }
}

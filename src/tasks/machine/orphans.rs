//! Pods that bear our label and have no run. In: such a pod. Out: its logs are saved if that is still possible, and it goes.

use super::{Machine, OrphanRecord, Subject};
use crate::{
    model::time::Timestamp,
    tasks::{
        effect::{Command, Effect, Outcome, settled_after},
        facts::{Key, Pod},
    },
};

/// Grace of a pod that nobody owns.
const GRACE_SECONDS: u64 = 30;
/// How often its logs are tried again, which takes a minute and a half.
const LOG_TRIES_MAX: u32 = 10;

impl Machine {
    pub(super) fn orphan(&mut self, now: Timestamp, pod: Pod) {
        let key = pod.key.clone();
        match self.orphans.get_mut(&key) {
            Some(record) if record.pod.uid == pod.uid => record.pod = pod,
            _ => drop(self.orphans.insert(key.clone(), OrphanRecord::new(pod, now))),
        }
        self.dirty.insert(Subject::Orphan(key));
    }

    pub(super) fn step_orphan(&mut self, now: Timestamp, key: &Key, out: &mut Vec<Command>) {
        let subject = Subject::Orphan(key.clone());
        let Some(record) = self.orphans.get(key) else { return };
        if let Some(owner) = self.owner_of(&record.pod) {
            let Some(record) = self.orphans.remove(key) else { return };
            if let Some(run) = self.runs.get_mut(&owner) {
                run.see_pod(record.pod);
            }
            self.dirty.insert(Subject::Run(owner));
            return;
        }
        // One whose run was deleted is deleted by the garbage collector; any other waits until nobody can claim it.
        let due = if record.pod.deletion.is_some() {
            self.leading.map_or(now, settled_after)
        } else {
            record.since.max(self.leading.unwrap_or(now)) + self.rules.orphan_after
        };
        if let Some(at) = Some(due).into_iter().chain(record.not_before).max().filter(|at| *at > now) {
            return self.wake(at, subject);
        }
        let (pod, uid) = (record.pod.key.name.clone(), record.pod.uid.clone());
        let ran = record.pod.started.is_some();
        let effect = if record.pod.deletion.is_none() && !record.deleted {
            Effect::DeletePod { pod, uid, grace_seconds: GRACE_SECONDS }
        } else if !record.pod.held {
            return;
        } else if ran && !record.logs_tried {
            Effect::SaveLogs { pod, uid, bytes_max: 0 }
        } else {
            Effect::ReleasePod { pod, uid }
        };
        let order = self.order(subject, effect, out);
        if let Some(record) = self.orphans.get_mut(key) {
            record.order = Some(order);
        }
    }

    pub(super) fn orphan_done(&mut self, now: Timestamp, key: &Key, effect: &Effect, outcome: Outcome) {
        let Some(record) = self.orphans.get_mut(key) else { return };
        if let Effect::SaveLogs { .. } = effect {
            // What cannot be saved after all has nowhere to be told, and a pod cannot be kept for ever.
            record.logs_tried = !matches!(outcome, Outcome::Retry(_)) || record.failures >= LOG_TRIES_MAX;
        }
        match (effect, outcome) {
            (_, Outcome::Absent) => drop(self.orphans.remove(key)),
            (Effect::DeletePod { .. }, Outcome::Done) => (record.deleted, record.failures) = (true, 0),
            (Effect::ReleasePod { .. }, Outcome::Done) => record.pod.held = false,
            (_, Outcome::Retry(_) | Outcome::Refused(_)) => {
                record.not_before = Some(now + super::records::retry_after(record.failures));
                record.failures = record.failures.saturating_add(1);
            }
            _ => {}
        }
        self.dirty.insert(Subject::Orphan(key.clone()));
    }
}

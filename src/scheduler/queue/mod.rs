//! Pods that wait: seen, failed and cured ones in, the next one to try out.
//!
//! Four places, each pod in exactly one: *active* (by priority, then time), *backoff* (until its time is over), *unschedulable* (grouped by class and
//! by the plugins that refused it, so that a change asks one question per group, not per pod) and *gated* (not let in by a PreEnqueue plugin).
//! Source: `pkg/scheduler/backend/queue` v1.37; since our cycle is never interrupted by events, upstream's in-flight event replay has no counterpart.

mod entry;

use std::collections::{BTreeMap, BTreeSet};

pub use entry::{Backoff, PLUGINS_PER_PROFILE_MAX, QueuedPod, Rejectors};

use super::framework::SortKey;
use crate::model::{
    ids::{ByPodUid, ClassIx, PodUid, ProfileIx, by_pod_uid},
    time::{DurationMs, Timestamp},
};

/// Unschedulable pods are tried again after this long even if nothing seems to have cured them (upstream's default).
pub const FLUSH_AFTER: DurationMs = DurationMs::from_secs(300);

/// A pod's index in the queue's slab.
type Slot = u32;
/// Arrival number: the order among equals.
type Arrival = u64;
/// Pods that one change cures or does not cure together.
type GroupKey = (ProfileIx, ClassIx, Rejectors);

#[derive(Debug)]
struct Entry {
    pod: QueuedPod,
    arrival: Arrival,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active(SortKey),
    Backoff { until: Timestamp, error: bool },
    Unschedulable { rejectors: Rejectors, since: Timestamp },
    Gated,
}

/// Where a pod went, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// Into the active queue.
    Active,
    /// Into backoff.
    Backoff,
    /// Nowhere: it stays unschedulable.
    Unschedulable,
    /// Held back by a PreEnqueue plugin.
    Gated,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    by_uid: ByPodUid<Slot>,
    active: BTreeMap<(SortKey, Arrival), Slot>,
    backoff: BTreeMap<(Timestamp, Arrival), Slot>,
    backoff_errors: BTreeMap<(Timestamp, Arrival), Slot>,
    unschedulable: BTreeMap<GroupKey, BTreeSet<(Arrival, Slot)>>,
    oldest_unschedulable: BTreeSet<(Timestamp, Arrival, Slot)>,
    gated: BTreeSet<(Arrival, Slot)>,
    next_arrival: Arrival,
    bounds: Backoff,
}

impl Queue {
    /// An empty queue.
    pub fn new(bounds: Backoff) -> Self {
        Self { bounds, by_uid: by_pod_uid(), ..Self::default() }
    }

    /// Whether the pod waits here.
    pub fn contains(&self, uid: &PodUid) -> bool {
        self.by_uid.contains_key(uid)
    }

    /// The pod, if it waits here.
    pub fn get(&self, uid: &PodUid) -> Option<&QueuedPod> {
        self.by_uid.get(uid).and_then(|slot| self.entry(*slot)).map(|entry| &entry.pod)
    }

    /// Pods in (active, backoff, unschedulable, gated).
    pub fn sizes(&self) -> (usize, usize, usize, usize) {
        (self.active.len(), self.backoff.len() + self.backoff_errors.len(), self.oldest_unschedulable.len(), self.gated.len())
    }

    /// Puts a pod into the active queue.
    pub fn push_active(&mut self, mut pod: QueuedPod, key: SortKey, now: Timestamp) {
        pod.first_queued.get_or_insert(now);
        self.put(pod, Place::Active(key));
    }

    /// Holds a pod back until [`Self::remove`] takes it for another try.
    pub fn push_gated(&mut self, pod: QueuedPod) {
        self.put(pod, Place::Gated);
    }

    /// A try failed and plugins are to blame: the pod waits for a change that cures it. `queued` must have been set to now.
    pub fn push_unschedulable(&mut self, pod: QueuedPod, rejectors: Rejectors) {
        let since = pod.queued;
        self.put(pod, Place::Unschedulable { rejectors, since });
    }

    /// A try failed with nobody to blame, or the pod was cured while backing off: it waits for its time.
    pub fn push_backoff(&mut self, pod: QueuedPod) {
        let place = Place::Backoff { until: self.bounds.expiry(&pod), error: pod.errors_in_a_row > 0 };
        self.put(pod, place);
    }

    /// Takes the next pod to try: the first active one, else the first in backoff (upstream's `SchedulerPopFromBackoffQ`), never one that backs
    /// off from an error.
    pub fn pop(&mut self) -> Option<QueuedPod> {
        let slot = self.active.first_key_value().map(|(_, slot)| *slot);
        let slot = slot.or_else(|| self.backoff.first_key_value().map(|(_, slot)| *slot))?;
        let mut pod = self.take(slot)?;
        pod.attempts = pod.attempts.saturating_add(1);
        Some(pod)
    }

    /// Whether [`Self::pop`] would give a pod.
    pub fn has_next(&self) -> bool {
        !self.active.is_empty() || !self.backoff.is_empty()
    }

    /// Takes a pod out, wherever it is.
    pub fn remove(&mut self, uid: &PodUid) -> Option<QueuedPod> {
        let slot = *self.by_uid.get(uid)?;
        self.take(slot)
    }

    /// Takes out a pod if it is held back by a PreEnqueue plugin.
    pub fn is_gated(&self, uid: &PodUid) -> bool {
        self.place(uid) == Some(Place::Gated)
    }

    /// The plugins that refused the pod, while it is unschedulable.
    pub fn rejectors(&self, uid: &PodUid) -> Option<Rejectors> {
        match self.place(uid)? {
            Place::Unschedulable { rejectors, .. } => Some(rejectors),
            _ => None,
        }
    }

    /// The groups of unschedulable pods with the uid-free part of what a hint needs.
    pub fn groups(&self) -> Vec<(ProfileIx, ClassIx, Rejectors)> {
        self.unschedulable.keys().copied().collect()
    }

    /// Takes all pods of a group out, in order of arrival.
    pub fn take_group(&mut self, group: (ProfileIx, ClassIx, Rejectors)) -> Vec<QueuedPod> {
        let slots: Vec<Slot> = self.unschedulable.get(&group).into_iter().flatten().map(|(_, slot)| *slot).collect();
        slots.into_iter().filter_map(|slot| self.take(slot)).collect()
    }

    /// Whether a cured pod must still wait.
    pub fn backing_off(&self, pod: &QueuedPod, now: Timestamp) -> bool {
        self.bounds.expiry(pod) > now
    }

    /// Takes the pods out whose backoff is over.
    pub fn take_expired(&mut self, now: Timestamp) -> Vec<QueuedPod> {
        let mut slots: Vec<Slot> = Vec::new();
        for heap in [&self.backoff, &self.backoff_errors] {
            slots.extend(heap.iter().take_while(|((until, _), _)| *until <= now).map(|(_, slot)| *slot));
        }
        slots.into_iter().filter_map(|slot| self.take(slot)).collect()
    }

    /// Takes the pods out that were unschedulable for longer than [`FLUSH_AFTER`].
    pub fn take_stale(&mut self, now: Timestamp) -> Vec<(QueuedPod, Rejectors)> {
        let stale = self.oldest_unschedulable.iter().take_while(|(since, ..)| now.since(*since) > FLUSH_AFTER);
        let slots: Vec<Slot> = stale.map(|(.., slot)| *slot).collect();
        let blamed = |queue: &Self, slot| match queue.entry(slot).map(|entry| entry.place) {
            Some(Place::Unschedulable { rejectors, .. }) => rejectors,
            _ => Rejectors::default(),
        };
        slots.into_iter().filter_map(|slot| Some((blamed(self, slot), self.take(slot)?))).map(|(blamed, pod)| (pod, blamed)).collect()
    }

    /// Whether a change can cure anybody.
    pub fn has_unschedulable(&self) -> bool {
        !self.unschedulable.is_empty()
    }

    /// When something here changes by time alone.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let expiries =
            [&self.backoff, &self.backoff_errors].into_iter().filter_map(|heap| heap.first_key_value()).map(|((until, _), _)| *until);
        let flush = self.oldest_unschedulable.first().map(|(since, ..)| *since + FLUSH_AFTER + DurationMs(1));
        expiries.chain(flush).min()
    }

    /// All pods that wait, in no order that matters, for the mark of symbols and for lists.
    pub fn iter(&self) -> impl Iterator<Item = &QueuedPod> {
        self.entries.iter().flatten().map(|entry| &entry.pod)
    }

    /// Gives a waiting pod's record for small changes that do not move it.
    pub fn get_mut(&mut self, uid: &PodUid) -> Option<&mut QueuedPod> {
        let slot = *self.by_uid.get(uid)?;
        self.entries.get_mut(slot as usize)?.as_mut().map(|entry| &mut entry.pod)
    }

    /// A pod has another class: it stays where it is, among those of that class. The class that it had.
    pub fn recast(&mut self, uid: &PodUid, class: ClassIx) -> Option<ClassIx> {
        let slot = *self.by_uid.get(uid)?;
        let Entry { pod, arrival, place } = self.entries.get_mut(slot as usize)?.as_mut()?;
        let old = std::mem::replace(&mut pod.class, class);
        if let Place::Unschedulable { rejectors, .. } = place {
            let (from, to) = ((pod.profile, old, *rejectors), (pod.profile, class, *rejectors));
            let arrival = *arrival;
            if let Some(group) = self.unschedulable.get_mut(&from) {
                group.remove(&(arrival, slot));
                if group.is_empty() {
                    self.unschedulable.remove(&from);
                }
            }
            self.unschedulable.entry(to).or_default().insert((arrival, slot));
        }
        Some(old)
    }

    fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    fn place(&self, uid: &PodUid) -> Option<Place> {
        self.by_uid.get(uid).and_then(|slot| self.entry(*slot)).map(|entry| entry.place)
    }

    fn put(&mut self, pod: QueuedPod, place: Place) {
        if let Some(&slot) = self.by_uid.get(&pod.uid) {
            debug_assert!(false, "a pod was queued twice");
            self.take(slot);
        }
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot::try_from(self.entries.len() - 1).unwrap_or(Slot::MAX)
        });
        match place {
            Place::Active(key) => drop(self.active.insert((key, arrival), slot)),
            Place::Backoff { until, error: false } => drop(self.backoff.insert((until, arrival), slot)),
            Place::Backoff { until, error: true } => drop(self.backoff_errors.insert((until, arrival), slot)),
            Place::Unschedulable { rejectors, since } => {
                self.unschedulable.entry((pod.profile, pod.class, rejectors)).or_default().insert((arrival, slot));
                self.oldest_unschedulable.insert((since, arrival, slot));
            }
            Place::Gated => drop(self.gated.insert((arrival, slot))),
        }
        self.by_uid.insert(pod.uid.clone(), slot);
        self.entries[slot as usize] = Some(Entry { pod, arrival, place });
    }

    fn take(&mut self, slot: Slot) -> Option<QueuedPod> {
        let Entry { pod, arrival, place } = self.entries.get_mut(slot as usize)?.take()?;
        match place {
            Place::Active(key) => drop(self.active.remove(&(key, arrival))),
            Place::Backoff { until, error: false } => drop(self.backoff.remove(&(until, arrival))),
            Place::Backoff { until, error: true } => drop(self.backoff_errors.remove(&(until, arrival))),
            Place::Unschedulable { rejectors, since } => {
                let key = (pod.profile, pod.class, rejectors);
                if let Some(group) = self.unschedulable.get_mut(&key) {
                    group.remove(&(arrival, slot));
                    if group.is_empty() {
                        self.unschedulable.remove(&key);
                    }
                }
                self.oldest_unschedulable.remove(&(since, arrival, slot));
            }
            Place::Gated => drop(self.gated.remove(&(arrival, slot))),
        }
        self.by_uid.swap_remove(&pod.uid);
        self.free.push(slot);
        Some(pod)
    }

    /// Each pod in exactly one place, no place without its pod. Empty when all is well.
    pub fn consistency_check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (active, backoff, unschedulable, gated) = self.sizes();
        let live = self.entries.iter().flatten().count();
        let grouped: usize = self.unschedulable.values().map(BTreeSet::len).sum();
        if active + backoff + unschedulable + gated != live || grouped != unschedulable || self.by_uid.len() != live {
            faults.push("a queued pod is in no place or in two".into());
        }
        if self.free.len() + live != self.entries.len() {
            faults.push("slots of the queue have leaked".into());
        }
        faults
    }
}

#[cfg(test)]
mod tests;

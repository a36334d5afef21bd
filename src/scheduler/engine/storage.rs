//! Objects of storage, and pods that wait for their volumes: facts in; whoever they may help tried again, and bindings ordered once volumes are bound, out.

use rustc_hash::FxHashSet;

use super::{Engine, Stage};
use crate::{
    model::{
        ids::PodUid,
        storage::{StorageFacts, StorageKind},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        change::Change,
        framework::PodInHand,
        input::{BindFailure, Command, List},
        storage::{Settled, StorageChange},
    },
};

/// How often pods that wait for their volumes are looked at though no claim of theirs has changed, as upstream does.
pub(super) const LOOK_PERIOD: DurationMs = DurationMs::from_secs(1);

impl Engine {
    pub(super) fn on_storage(&mut self, now: Timestamp, facts: StorageFacts, out: &mut Vec<Command>) {
        if let StorageFacts::Claim(claim) = &facts {
            self.on_claim(now, &claim.namespace.clone(), claim.name.clone(), Some(claim.labels.clone()));
        }
        if let Some(change) = self.cache.nodes.apply_storage(facts) {
            self.wake(now, &Change::Storage(&change));
            self.settle_after(now, &change, out);
        }
    }

    pub(super) fn on_storage_gone(&mut self, now: Timestamp, kind: StorageKind, key: &str, out: &mut Vec<Command>) {
        if kind == StorageKind::Claim
            && let Some((namespace, name)) = key.split_once('/')
        {
            self.on_claim(now, namespace, name.into(), None);
        }
        if let Some(change) = self.cache.nodes.remove_storage(kind, key) {
            self.wake(now, &Change::Storage(&change));
            self.settle_after(now, &change, out);
        }
    }

    pub(super) fn on_storage_listed(&mut self, now: Timestamp, kind: StorageKind, listed: &FxHashSet<Box<str>>, out: &mut Vec<Command>) {
        for key in self.cache.nodes.storage_missing_from(kind, listed) {
            self.on_storage_gone(now, kind, &key, out);
        }
        self.lists_due.remove(&List::Storage(kind));
        self.resume_intents(now, out);
    }

    /// PreBind plugins have written what they had to: the binding is ordered, or what they wrote has to come true first.
    pub(super) fn settle(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        let Some(flight) = self.flights.get_mut(uid) else { return };
        match flight.settles_within {
            Some(span) => {
                flight.stage = Stage::Settle(now + span);
                self.settling.insert(uid.clone());
                self.look_whether_settled(now, uid, out);
            }
            None => self.order_binding(now, uid, out),
        }
    }

    fn order_binding(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        self.settling.remove(uid);
        if !self.waits_for_group(now, uid, out) {
            self.send_binding(now, uid, out);
        }
    }

    /// All is done that had to be done before.
    pub(super) fn send_binding(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        if let Some(flight) = self.flights.get_mut(uid) {
            flight.stage = Stage::Bind;
            flight.since = now;
        }
        if let Some(flight) = self.flights.get(uid) {
            out.push(self.bind_order(flight));
        }
    }

    fn look_whether_settled(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        let Self { flights, profiles, cache, .. } = self;
        let Some(flight) = flights.get(uid) else { return };
        let Stage::Settle(until) = flight.stage else { return };
        let (Some(profile), Some(class)) = (profiles.get_mut(flight.pod.profile), cache.classes.get(flight.pod.class)) else { return };
        let hand = PodInHand { key: &flight.pod.key, uid, class, gates: &flight.pod.gates };
        let mut is_done = true;
        let mut failure = None;
        for at in 0..profile.pre_bind.len() {
            let plugin = profile.pre_bind[at];
            let name = profile.plugins[plugin].name();
            let Some(pre_bind) = profile.plugins[plugin].pre_bind() else { continue };
            match pre_bind.settled(hand, until <= now, &cache.nodes) {
                Settled::Done => {}
                Settled::NotYet => is_done = false,
                Settled::Failed(why) => {
                    failure.get_or_insert_with(|| format!("running PreBind plugin {name:?}: {why}"));
                }
            }
        }
        if let Some(why) = failure {
            self.on_bind_failed(now, uid, BindFailure::Failed(why), out);
        } else if is_done {
            self.order_binding(now, uid, out);
        }
    }

    /// A claim has changed, or a volume of one: the pods that wait for it are looked at.
    fn settle_after(&mut self, now: Timestamp, change: &StorageChange, out: &mut Vec<Command>) {
        let (namespace, name) = match change {
            StorageChange::Claim(_, claim) => (&claim.namespace, &claim.name),
            StorageChange::Volume(_, volume) => match &volume.claim_ref {
                Some(claim) => (&claim.namespace, &claim.name),
                None => return,
            },
            _ => return,
        };
        let waits = |uid: &&PodUid| {
            let class = self.flights.get(*uid).and_then(|flight| self.cache.classes.get(flight.pod.class));
            class.is_some_and(|class| {
                let volumes = class.volumes.as_ref().filter(|_| *self.cache.nodes.symbols.text(class.namespace) == **namespace);
                volumes.is_some_and(|volumes| volumes.all_claims().any(|(claim, _)| *claim == **name))
            })
        };
        let concerned: Vec<PodUid> = self.settling.iter().filter(waits).cloned().collect();
        concerned.iter().for_each(|uid| self.look_whether_settled(now, uid, out));
    }

    /// Time has passed: all that wait are looked at, now and then.
    pub(super) fn look_at_settling(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let is_due = |flight: &super::Flight| matches!(flight.stage, Stage::Settle(until) if until <= now);
        let is_time = now.since(self.settle_looked) >= LOOK_PERIOD;
        let late = self.settling.iter().filter(|uid| is_time || self.flights.get(*uid).is_some_and(is_due));
        let late: Vec<PodUid> = late.cloned().collect();
        if is_time {
            self.settle_looked = now;
        }
        late.iter().for_each(|uid| self.look_whether_settled(now, uid, out));
    }
}

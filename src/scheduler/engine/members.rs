//! Members of groups, from the first that is seen to the last that is bound. In: pods, `PodGroup`s, time. Out: pods held back and let in, conditions that say
//! why, bindings that wait for each other, and what the status of a `PodGroup` is to say.
//!
//! How a group gets its nodes is in [`together`](super::together).

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{
    Engine, Stage,
    attempt::{CONDITION_REASONS, Failure},
};
use crate::{
    model::{
        gang::PodGroupFacts,
        ids::{ClusterId, PodKey, PodUid, ProfileIx},
        pod::PodFacts,
        time::Timestamp,
    },
    scheduler::{
        gangs::{Form, GroupKey, Policy, Touched},
        input::{Command, ConditionOrder, GroupConditionOrder},
        queue::{QueuedPod, Rejectors},
    },
};

/// Upstream's name for what is done here.
pub const PLUGIN: &str = "GangScheduling";
/// Reason of a pod that is held back for its group.
const HELD: &str = CONDITION_REASONS[2];

impl Engine {
    /// Whether `PodGroup`s count for pods of this profile.
    pub(super) fn heeds_pod_groups(&self, profile: ProfileIx) -> bool {
        self.profiles.get(profile).is_some_and(|profile| profile.plugins.iter().any(|plugin| plugin.name() == PLUGIN))
    }

    /// A pod was seen: the groups for which that is news.
    pub(super) fn see_member(&mut self, facts: &PodFacts) -> Touched {
        // What is on its way stays what it was when it was decided.
        let flies = || facts.node_name.is_none() && self.flights.contains_key(&facts.uid);
        if facts.cluster != ClusterId::HOME || (facts.group.is_none() && self.gangs.is_empty()) || flies() {
            return Touched::default();
        }
        let is_ours = || self.cache.nodes.symbols.get(&facts.spec.scheduler_name).is_some_and(|name| self.profiles.named(name).is_some());
        let is_ready = !facts.deleting && (facts.node_name.is_some() || (facts.gates.is_empty() && is_ours()));
        let mut touched = self.gangs.see(&facts.uid, &facts.key.namespace, facts.group.as_deref(), is_ready);
        touched.is_another &= self.queue.contains(&facts.uid);
        touched
    }

    /// Something changed in these groups: whoever was held back for them is let in if they are complete by now.
    pub(super) fn regroup(&mut self, now: Timestamp, touched: Touched, uid: &PodUid, out: &mut Vec<Command>) {
        for key in touched.groups {
            self.release_held(now, &key);
            self.open_gate(now, &key, out);
        }
        if touched.is_another {
            self.file_anew(now, uid, "UnscheduledPodUpdate", false);
        }
        if self.gangs.is_faulty(uid) {
            self.tell_held(uid, out);
        }
    }

    fn release_held(&mut self, now: Timestamp, key: &GroupKey) {
        if self.gangs.shortage(key, self.gangs.ready(key).count()).is_some() {
            // Whoever has a node kept free for it gives that up: a part of a group holds nothing.
            let keeps = |uid: &&PodUid| self.queue.get(uid).is_some_and(|pod| pod.nominated.is_some());
            let keepers: Vec<PodUid> = self.gangs.members(key).filter(keeps).cloned().collect();
            return keepers.iter().for_each(|uid| self.file_anew(now, uid, "GangIncomplete", false));
        }
        for uid in self.gangs.take_held(key) {
            if self.queue.is_gated(&uid) {
                self.file_anew(now, &uid, "UnscheduledPodAdd", false);
            }
        }
    }

    /// A pod that waits finds its place in the queue anew.
    fn file_anew(&mut self, now: Timestamp, uid: &PodUid, event: &'static str, backoff: bool) {
        if let Some(pod) = self.unqueue(uid) {
            self.admit(now, pod, event, backoff);
        }
    }

    /// Whether the pod is held back because of its group. Then it keeps no node free.
    pub(super) fn hold_for_group(&mut self, now: Timestamp, pod: &mut QueuedPod) -> bool {
        if self.group_hold(&pod.uid, pod.profile).is_none() {
            return false;
        }
        self.gangs.put_held(&pod.uid, now);
        if pod.nominated.is_some() {
            self.withdraw_nomination(now, pod);
        }
        true
    }

    /// Why the pod is not let into the queue because of its group.
    pub(super) fn group_hold(&self, uid: &PodUid, profile: ProfileIx) -> Option<Arc<str>> {
        if self.gangs.is_empty() {
            return None;
        }
        self.gangs.hold(uid, self.heeds_pod_groups(profile))
    }

    /// Why a pod that is not known would be held back for its group if it came now.
    pub(in crate::scheduler) fn held_for_group(&self, facts: &PodFacts) -> Option<Arc<str>> {
        let profile = self.cache.nodes.symbols.get(&facts.spec.scheduler_name).and_then(|name| self.profiles.named(name))?;
        self.gangs.hold_newcomer(&facts.key.namespace, facts.group.as_deref()?, self.heeds_pod_groups(profile))
    }

    /// The group of a pod and how many of its members have to be placed at once now; `None` where the pod can go by itself.
    pub(super) fn group_in_need(&self, pod: &QueuedPod) -> Option<(Arc<GroupKey>, usize)> {
        if self.gangs.is_empty() {
            return None;
        }
        let key = self.gangs.of(&pod.uid, self.heeds_pod_groups(pod.profile))?;
        let Policy::Gang { min, .. } = self.gangs.policy(key) else { return None };
        let placed = self.gangs.ready(key).filter(|uid| self.has_node(uid)).count();
        (placed < min).then(|| (key.clone(), min - placed))
    }

    fn has_node(&self, uid: &PodUid) -> bool {
        self.cache.placed(uid).is_some() || self.held.contains_key(uid)
    }

    // === conditions of pods ===

    /// Those that have been held back for a while say so.
    pub(super) fn tell_held_pods(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        for uid in self.gangs.take_untold(now) {
            self.tell_held(&uid, out);
        }
    }

    fn tell_held(&mut self, uid: &PodUid, out: &mut Vec<Command>) {
        // Of gates the API server says it itself.
        let gated = self.queue.get(uid).filter(|pod| pod.gates.is_empty() && self.queue.is_gated(uid));
        let Some((why, pod)) = gated.and_then(|pod| Some((self.group_hold(uid, pod.profile)?, self.pod_ref(pod)))) else { return };
        let Some(queued) = self.queue.get_mut(uid) else { return };
        let nominated_node = (queued.nominated.is_none() && !queued.nominated_seen.is_empty()).then(Box::default);
        let is_said = queued.condition.as_ref().is_some_and(|(reason, said)| *reason == HELD && **said == *why);
        if is_said && nominated_node.is_none() {
            return;
        }
        queued.condition = Some((HELD, why));
        let order = ConditionOrder { pod, condition: queued.condition.clone(), nominated_node };
        out.push(Command::Condition(Box::new(order)));
    }

    // === bindings ===

    /// All else is done for a pod: it waits if too few of its group are as far.
    pub(super) fn waits_for_group(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) -> bool {
        if self.gangs.is_empty() {
            return false;
        }
        let Some(profile) = self.flights.get(uid).map(|flight| flight.pod.profile) else { return false };
        let Some(key) = self.gangs.of(uid, self.heeds_pod_groups(profile)).cloned() else { return false };
        let Policy::Gang { min, timeout } = self.gangs.policy(&key) else { return false };
        // While a group sets out, less than it needs are placed: that is why.
        if !self.launching_group && self.bound(&key) >= min {
            return false;
        }
        let until = self.gangs.gather(uid, &key, now, timeout);
        if let Some(flight) = self.flights.get_mut(uid) {
            flight.stage = Stage::Gathered(until);
            flight.since = now;
        }
        if !self.launching_group {
            self.open_gate(now, &key, out);
        }
        true
    }

    /// Members that are bound, or as good as.
    fn bound(&self, key: &GroupKey) -> usize {
        let is_bound = |uid: &&PodUid| match self.flights.get(*uid) {
            Some(flight) => flight.stage == Stage::Bind,
            None => self.has_node(uid),
        };
        self.gangs.ready(key).filter(is_bound).count()
    }

    /// Those that wait are bound as soon as there are enough.
    pub(super) fn open_gate(&mut self, now: Timestamp, key: &GroupKey, out: &mut Vec<Command>) {
        let waiting = self.gangs.gathered_of(key).count();
        if waiting == 0 {
            return;
        }
        let needed = match self.gangs.policy(key) {
            Policy::Gang { min, .. } => min,
            Policy::Basic => 0,
            Policy::Missing | Policy::NotFollowed(_) => return,
        };
        if waiting + self.bound(key) >= needed {
            for uid in self.gangs.take_gathered(key) {
                self.send_binding(now, &uid, out);
            }
        }
    }

    /// The others did not come in time: whoever waits for them gives its node back, and so do those that are not even as far.
    pub(super) fn give_back_group(&mut self, now: Timestamp, late: &PodUid, out: &mut Vec<Command>) {
        let Some(key) = self.gangs.of(late, true).cloned() else { return };
        let is_held = |stage: &Stage| matches!(stage, Stage::Permit(_) | Stage::Settle(_) | Stage::Gathered(_));
        let members: Vec<PodUid> =
            self.gangs.members(&key).filter(|uid| self.flights.get(*uid).is_some_and(|flight| is_held(&flight.stage))).cloned().collect();
        let Policy::Gang { timeout, .. } = self.gangs.policy(&key) else { return };
        for uid in members {
            let Some(flight) = self.land(&uid) else { continue };
            self.observer.permit_wait("timeout", now.since(flight.since).0.saturating_mul(1_000_000));
            self.take_back(now, &flight);
            let waited = timeout.0 / 1000;
            let reason = format!("0/1 nodes are available: 1 rejected due to timeout after waiting {waited}s at plugin {PLUGIN}.");
            self.fail(now, flight.pod, &Failure::clear(Rejectors::default(), reason.into()), flight.started_ticks, out);
        }
    }

    // === PodGroups ===

    pub(super) fn on_pod_group(&mut self, now: Timestamp, facts: PodGroupFacts, out: &mut Vec<Command>) {
        let fewer = |old: &PodGroupFacts, new: &PodGroupFacts| old.min_count.is_some_and(|old| new.min_count.is_some_and(|new| new < old));
        let min_count = facts.min_count;
        let (key, old) = self.gangs.set_pod_group(facts);
        self.release_held(now, &key);
        self.open_gate(now, &key, out);
        let new = PodGroupFacts { min_count, ..PodGroupFacts::default() };
        if old.is_some_and(|old| fewer(&old, &new)) {
            let members: Vec<PodUid> = self.gangs.members(&key).filter(|uid| self.queue.rejectors(uid).is_some()).cloned().collect();
            members.iter().for_each(|uid| self.file_anew(now, uid, "PodGroupUpdate", true));
        }
    }

    pub(super) fn on_pod_groups_listed(&mut self, listed: &FxHashSet<Box<str>>) {
        for (namespace, name) in self.gangs.pod_groups_missing_from(|key| listed.contains(key)) {
            self.gangs.remove_pod_group(&namespace, &name);
        }
    }

    /// The status of a `PodGroup` says how it went, until it was scheduled once.
    pub(super) fn report_group(&mut self, key: &GroupKey, reason: &'static str, message: &Arc<str>, out: &mut Vec<Command>) {
        let Some(facts) = self.gangs.pod_group_mut(key).filter(|_| key.form == Form::PodGroup) else { return };
        let is_scheduled = reason == "Scheduled";
        let said = Some((is_scheduled, Box::from(reason), Box::from(&**message)));
        if facts.condition == said || facts.condition.as_ref().is_some_and(|(is_scheduled, ..)| *is_scheduled) {
            return;
        }
        let is_turn = facts.condition.as_ref().is_none_or(|(before, ..)| *before != is_scheduled);
        facts.condition = said;
        out.push(Command::GroupCondition(Box::new(GroupConditionOrder {
            namespace: facts.namespace.clone(),
            name: facts.name.clone(),
            uid: facts.uid.clone(),
            generation: facts.generation,
            is_scheduled,
            is_turn,
            reason,
            message: message.clone(),
        })));
    }

    /// A member of a group that asks for nothing together is on its way, or was refused.
    pub(super) fn report_single(&mut self, pod: &QueuedPod, reason: &'static str, message: &Arc<str>, out: &mut Vec<Command>) {
        if self.gangs.is_empty() {
            return;
        }
        if let Some(key) = self.gangs.of(&pod.uid, self.heeds_pod_groups(pod.profile)).cloned()
            && self.gangs.policy(&key) == Policy::Basic
        {
            self.report_group(&key, reason, message, out);
        }
    }

    /// Pods that are to go, and those of less importance than `priority` that go with them because their groups are ended whole.
    pub(super) fn with_their_groups(&self, priority: i32, mut victims: Vec<(PodKey, PodUid)>) -> Vec<(PodKey, PodUid)> {
        if self.gangs.is_empty() {
            return victims;
        }
        let others: Vec<PodUid> = victims.iter().flat_map(|(_, uid)| self.gangs.ended_with(uid)).cloned().collect();
        for uid in others {
            let class = self.cache.placed(&uid).and_then(|placed| self.cache.classes.get(placed.class));
            let Some(class) = class.filter(|class| class.priority < priority && !class.is_terminating) else { continue };
            if !victims.iter().any(|(_, known)| *known == uid) {
                let namespace = self.cache.nodes.symbols.text(class.namespace);
                victims.push((PodKey::new(namespace, self.cache.name_of(&uid)), uid));
            }
        }
        victims
    }
}

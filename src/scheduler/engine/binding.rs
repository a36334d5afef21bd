//! From a chosen node to a bound pod: answers of plugins and of the API server in; the binding ordered, confirmed or taken back.

use std::sync::Arc;

use super::{Engine, Flight, Stage, attempt::Failure};
use crate::{
    model::{
        ids::{NodeIx, PodKey, PodUid},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        framework::PodInHand,
        input::{BindFailure, Command, EventOrder, PermitVerdict, PreBindDone},
        observe::AttemptResult,
        queue::{QueuedPod, Rejectors},
    },
};

/// The API server tells times of creation in whole seconds.
const CREATED_WITHIN: DurationMs = DurationMs::from_secs(1);
/// No plugin may hold a pod longer than this (upstream's `maxTimeout`).
pub(super) const PERMIT_WAIT_MAX: DurationMs = DurationMs::from_secs(15 * 60);

impl Engine {
    /// Orders the work of PreBind plugins, or the binding if there is none.
    pub(super) fn pre_bind(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        let Some(mut flight) = self.flights.remove(uid) else { return };
        let mut works = Vec::new();
        if let (Some(profile), Some(class)) = (self.profiles.get_mut(flight.pod.profile), self.cache.classes.get(flight.pod.class)) {
            let hand = PodInHand { key: &flight.pod.key, uid, class, gates: &flight.pod.gates };
            for at in 0..profile.pre_bind.len() {
                if let Some(plugin) = profile.plugins[profile.pre_bind[at]].pre_bind() {
                    works.extend(plugin.work(hand, flight.node, &self.cache.nodes));
                }
            }
        }
        flight.since = now;
        flight.settles_within = works.iter().filter_map(|work| work.settles_within).max();
        works.retain(|work| !work.patches.is_empty());
        flight.stage = Stage::PreBind(works.len());
        let is_written = works.is_empty();
        if !is_written || flight.settles_within.is_some() {
            self.announce(&mut flight.pod, flight.node, out);
        }
        out.extend(works.into_iter().map(|work| Command::PreBind(self.pod_ref(&flight.pod), work)));
        self.flights.insert(uid.clone(), flight);
        if is_written {
            self.settle(now, uid, out);
        }
    }

    pub(super) fn on_pre_bound(&mut self, now: Timestamp, uid: &PodUid, done: PreBindDone, out: &mut Vec<Command>) {
        let Self { flights, profiles, cache, .. } = self;
        let Some(flight) = flights.get_mut(uid) else { return };
        let Stage::PreBind(left) = &mut flight.stage else { return self.observer.impossible("pre_bound_out_of_turn") };
        *left = left.saturating_sub(1);
        let is_last = *left == 0;
        let (nodes, classes) = (&mut cache.nodes, &cache.classes);
        if let (Some(profile), Some(class)) = (profiles.get_mut(flight.pod.profile), classes.get(flight.pod.class)) {
            let hand = PodInHand { key: &flight.pod.key, uid, class, gates: &flight.pod.gates };
            let plugin = profile.plugins.iter_mut().find(|plugin| plugin.name() == done.plugin);
            if let Some(plugin) = plugin.and_then(|plugin| plugin.pre_bind()) {
                plugin.written(hand, &done.versions, nodes);
            }
        }
        match done.failure {
            Some(BindFailure::Failed(why)) => {
                let why = format!("running PreBind plugin {:?}: {why}", done.plugin);
                self.on_bind_failed(now, uid, BindFailure::Failed(why), out);
            }
            Some(failure) => self.on_bind_failed(now, uid, failure, out),
            None if is_last => self.settle(now, uid, out),
            None => {}
        }
    }

    pub(super) fn on_permit(&mut self, now: Timestamp, uid: &PodUid, verdict: PermitVerdict, out: &mut Vec<Command>) {
        let Some(flight) = self.flights.get_mut(uid) else { return };
        let Stage::Permit(waits) = &mut flight.stage else { return };
        match verdict {
            PermitVerdict::Allowed(plugin) => {
                waits.retain(|(waiting, _)| *waiting != plugin);
                if waits.is_empty() {
                    self.pre_bind(now, uid, out);
                }
            }
            PermitVerdict::Refused(plugin, reason) => {
                let Some(flight) = self.land(uid) else { return };
                let profile = self.profiles.get(flight.pod.profile);
                let blamed = profile.and_then(|profile| profile.plugins.iter().position(|known| known.name() == plugin));
                let mut rejectors = Rejectors::default();
                blamed.iter().for_each(|plugin| rejectors.insert(*plugin));
                self.take_back(now, &flight);
                let message: Arc<str> = format!("0/1 nodes are available: 1 {reason}.").into();
                self.fail(now, flight.pod, &Failure::clear(rejectors, message), flight.started_ticks, out);
            }
        }
    }

    pub(super) fn on_bound(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        // Gone meanwhile: the pod was deleted, which the watch has told.
        let Some(flight) = self.land(uid) else { return };
        // What was booked is written, so that nothing is free again; and what is not is nobody's any more.
        self.cache.nodes.storage.give_back(uid);
        if self.cache.placed(uid).is_some_and(|placed| placed.assumed) {
            self.acknowledged.insert(uid.clone());
        }
        self.observe_attempt(&flight.pod, AttemptResult::Scheduled, flight.started_ticks);
        let pod = &flight.pod;
        if let Some(profile) = self.profiles.get_mut(pod.profile) {
            self.observer.scheduled(&profile.name, pod.attempts, now.since(pod.first_queued.unwrap_or(now)));
            if let Some(class) = self.cache.classes.get(pod.class) {
                let hand = PodInHand { key: &pod.key, uid, class, gates: &pod.gates };
                for at in 0..profile.post_bind.len() {
                    if let Some(plugin) = profile.plugins[profile.post_bind[at]].post_bind() {
                        plugin.bound(hand, flight.node);
                    }
                }
            }
        }
        let note = assigned(&pod.key, &self.cache.nodes.full_name(flight.node));
        let class = pod.class;
        let pod = self.last_pod_ref(flight.pod);
        let event = EventOrder { pod, reason: "Scheduled", kind: "Normal", action: "Binding", related: None, note };
        out.push(Command::Event(Box::new(event)));
        self.release_class(class);
    }

    pub(super) fn on_bind_failed(&mut self, now: Timestamp, uid: &PodUid, failure: BindFailure, out: &mut Vec<Command>) {
        let Some(mut flight) = self.land(uid) else { return };
        if self.held.contains_key(uid) || self.cache.placed(uid).is_some_and(|placed| !placed.assumed) {
            // The watch has seen it bound, whatever the answer says.
            self.cache.nodes.storage.give_back(uid);
            self.release_class(flight.pod.class);
            return;
        }
        self.take_back(now, &flight);
        let update = flight.update.take();
        if matches!(failure, BindFailure::Unclear(_)) {
            flight.pod.unclear_binding = Some(now);
        }
        match failure {
            // The watch tells the rest: a deletion, or where it runs.
            BindFailure::PodGone | BindFailure::BoundElsewhere => self.release_class(flight.pod.class),
            BindFailure::NotSent => match flight.resumes.take() {
                None => self.admit(now, flight.pod, "BindingNotSent", false),
                Some(facts) => {
                    self.release_class(flight.pod.class);
                    return self.hold_intent(now, *update.unwrap_or(facts), out);
                }
            },
            BindFailure::Failed(why) | BindFailure::Unclear(why) => {
                let why = if flight.stage == Stage::Bind { format!("binding rejected: {why}") } else { why };
                self.fail_with_error(now, flight.pod, &why, flight.started_ticks, out);
            }
        }
        // Only for a pod that waits again: the watch tells what became of the others.
        if let Some(facts) = update.filter(|facts| self.queue.contains(&facts.uid)) {
            self.on_pending_pod(now, *facts, out);
        }
    }

    /// Until when another binding of the pod may have been ordered whose outcome is not known: by us without a clear answer, or by an earlier leader,
    /// of whose orders we know nothing, if the pod was there before us.
    pub(super) fn earlier_binding(&self, pod: &QueuedPod) -> Option<Timestamp> {
        let is_older = pod.created <= self.leading_since + CREATED_WITHIN;
        pod.unclear_binding.max(is_older.then_some(self.leading_since))
    }

    /// A pod is not on its way any more.
    pub(super) fn land(&mut self, uid: &PodUid) -> Option<Flight> {
        self.settling.remove(uid);
        self.gangs.ungather(uid);
        self.flights.remove(uid)
    }

    pub(super) fn take_back(&mut self, now: Timestamp, flight: &Flight) {
        self.unreserve(&flight.pod, flight.node);
        self.forget(now, &flight.pod.uid, flight.node);
    }

    /// Undoes an assumption; what it held may cure others.
    pub(super) fn forget(&mut self, now: Timestamp, uid: &PodUid, node: NodeIx) {
        if let Some(placed) = self.cache.forget(uid) {
            self.left_nodes.remove(uid);
            self.wake_for_pod(now, placed.class, node, true);
            self.release_class(placed.class);
        }
    }
}

/// What people read of a pod that has its node. As long at once as it will be: there is one for each pod.
fn assigned(pod: &PodKey, node: &str) -> Arc<str> {
    let parts = ["Successfully assigned ", &*pod.namespace, "/", &*pod.name, " to ", node];
    parts.concat().into()
}

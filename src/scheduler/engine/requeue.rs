//! Who is tried again, and when: changes and time in, pods moved between the places of the queue.

use super::{Engine, Flight, Stage};
use crate::{
    model::{
        class::PodClass,
        ids::{ClassIx, PodUid, ProfileIx},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        change::Change,
        framework::PodInHand,
        input::{BindFailure, Command, PermitVerdict},
        profiles::{Profile, Profiles},
        queue::{QueuedPod, Rejectors},
    },
};

impl Engine {
    /// Lets a pod into the active queue, or holds it back if a PreEnqueue plugin says so. `backoff`: it waits for its time first if that is not over.
    pub(super) fn admit(&mut self, now: Timestamp, mut pod: QueuedPod, event: &'static str, backoff: bool) {
        let is_short = self.hold_for_group(now, &mut pod);
        let (Some(profile), Some(class)) = (self.profiles.get(pod.profile), self.cache.classes.get(pod.class)) else {
            self.observer.impossible("queued_pod_without_profile");
            return;
        };
        if is_short || self.preempting.contains_key(&pod.uid) || gate(profile, &pod, class) {
            self.observer.queued("gated", event);
            self.queue.push_gated(pod);
        } else if backoff && self.queue.backing_off(&pod, now) {
            self.observer.queued("backoff", event);
            self.queue.push_backoff(pod);
        } else {
            let sort = profile.plugins[profile.queue_sort].queue_sort();
            let key = sort.map_or((0, pod.queued.0), |sort| sort.key(pod.priority, pod.queued));
            self.observer.queued("active", event);
            self.queue.push_active(pod, key, now);
        }
    }

    /// Something changed: every group of unschedulable pods whose refusing plugins say that this may cure it is tried again.
    pub(super) fn wake(&mut self, now: Timestamp, change: &Change<'_>) {
        if !self.queue.has_unschedulable() {
            return;
        }
        for (profile, class, rejectors) in self.queue.groups() {
            if self.may_cure(profile, class, rejectors, change) {
                for pod in self.queue.take_group((profile, class, rejectors)) {
                    self.count_unschedulable(pod.profile, rejectors, -1);
                    self.admit(now, pod, change.label(), true);
                }
            }
        }
    }

    fn may_cure(&mut self, profile: ProfileIx, class: ClassIx, rejectors: Rejectors, change: &Change<'_>) -> bool {
        let (Some(profile), Some(class)) = (self.profiles.get(profile), self.cache.classes.get(class)) else { return true };
        let asked = rejectors.iter().filter_map(|plugin| profile.plugins.get(plugin));
        for plugin in asked.filter(|plugin| plugin.curing_changes().intersects(change.kinds())) {
            let cures = plugin.cures(class, change, &self.cache.nodes);
            self.observer.hint(plugin.name(), change.label(), cures);
            if cures {
                return true;
            }
        }
        false
    }

    /// Takes a pod out of the queue, wherever it is.
    pub(super) fn unqueue(&mut self, uid: &PodUid) -> Option<QueuedPod> {
        self.extenders.withdraw(uid);
        let rejectors = self.queue.rejectors(uid);
        let pod = self.queue.remove(uid)?;
        if let Some(rejectors) = rejectors {
            self.count_unschedulable(pod.profile, rejectors, -1);
        }
        Some(pod)
    }

    pub(super) fn count_unschedulable(&mut self, profile: ProfileIx, rejectors: Rejectors, change: i64) {
        if let Some(profile) = self.profiles.get(profile) {
            for plugin in rejectors.iter().filter(|plugin| *plugin < profile.plugins.len()) {
                self.observer.unschedulable_pods(&profile.name, profile.plugin_name(plugin), change);
            }
        }
    }

    /// Time has passed.
    pub(super) fn on_tick(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        for pod in self.queue.take_expired(now) {
            self.admit(now, pod, "BackoffComplete", false);
        }
        for (mut pod, rejectors) in self.queue.take_stale(now) {
            self.count_unschedulable(pod.profile, rejectors, -1);
            pod.flushed = true;
            self.admit(now, pod, "UnschedulableTimeout", true);
        }
        self.tell_held_pods(now, out);
        self.retry_intents(now, out);
        self.time_out_platforms(now);
        self.look_at_settling(now, out);
        self.time_out_evictions(now);
        self.time_out_questions(now, out);
        self.time_out_flights(now, out);
    }

    fn time_out_flights(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let overdue = self.settings.answer_overdue;
        let mut late: Vec<_> = self.flights.iter().filter(|(_, flight)| flight.is_late(now, overdue)).map(|(uid, _)| uid.clone()).collect();
        late.sort_unstable();
        for uid in late {
            if self.gangs.is_gathered(&uid) {
                self.give_back_group(now, &uid, out);
                continue;
            }
            let waited_for = self.flights.get(&uid).and_then(|flight| flight.permit_expired(now));
            if let Some((plugin, since)) = waited_for {
                let waited = now.since(since).0 / 1000;
                let reason = format!("rejected due to timeout after waiting {waited}s at plugin {plugin}");
                self.on_permit(now, &uid, PermitVerdict::Refused(plugin, reason), out);
            } else {
                self.observer.impossible("binding_without_answer");
                self.on_bind_failed(now, &uid, BindFailure::Failed("no answer to the binding came in time".into()), out);
            }
        }
    }

    /// Profiles have changed: every waiting pod finds its place anew, with its history.
    pub(super) fn refile_queue(&mut self, now: Timestamp, old: &Profiles) {
        let mut uids: Vec<_> = self.queue.iter().map(|pod| (pod.queued, pod.uid.clone())).collect();
        uids.sort_unstable();
        for (_, uid) in uids {
            self.extenders.withdraw(&uid);
            let Some(mut pod) = self.queue.remove(&uid) else { continue };
            let name = old.get(pod.profile).map(|profile| profile.name_sym);
            if let Some(profile) = name.and_then(|name| self.profiles.named(name)) {
                pod.profile = profile;
                self.admit(now, pod, "ConfigurationReload", false);
            } else {
                self.preempting.remove(&uid);
                self.nominate(&mut pod, None);
                self.cache.forget_labels(&uid);
                self.release_class(pod.class);
            }
        }
        for flight in self.flights.values_mut() {
            let name = old.get(flight.pod.profile).map(|profile| profile.name_sym);
            flight.pod.profile = name.and_then(|name| self.profiles.named(name)).unwrap_or(ProfileIx(u16::MAX));
        }
    }
}

impl Flight {
    fn is_late(&self, now: Timestamp, overdue: DurationMs) -> bool {
        match &self.stage {
            Stage::Permit(waits) => waits.iter().any(|(_, until)| *until <= now),
            Stage::PreBind(_) | Stage::Bind => now.since(self.since) >= overdue,
            Stage::Settle(_) => false,
            Stage::Gathered(until) => *until <= now,
        }
    }

    fn permit_expired(&self, now: Timestamp) -> Option<(&'static str, Timestamp)> {
        match &self.stage {
            Stage::Permit(waits) => waits.iter().find(|(_, until)| *until <= now).map(|(plugin, _)| (*plugin, self.since)),
            Stage::PreBind(_) | Stage::Settle(_) | Stage::Gathered(_) | Stage::Bind => None,
        }
    }
}

/// Whether a PreEnqueue plugin holds the pod back.
fn gate(profile: &Profile, pod: &QueuedPod, class: &PodClass) -> bool {
    let hand = PodInHand { key: &pod.key, uid: &pod.uid, class, gates: &pod.gates };
    profile.pre_enqueue.iter().filter_map(|plugin| profile.plugins[*plugin].pre_enqueue()).any(|plugin| plugin.gate(hand).is_some())
}

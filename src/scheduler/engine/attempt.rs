//! One attempt to place one pod: popped in; a binding on its way, or a reason why not, out.

use std::sync::Arc;

use super::{Engine, Flight, Stage};
use crate::{
    model::{ids::NodeIx, time::Timestamp},
    scheduler::{
        framework::{Permission, PodInHand, Refusal},
        input::{BindOrder, Command, ConditionOrder, EventOrder},
        observe::AttemptResult,
        profiles::PluginIx,
        queue::{QueuedPod, Rejectors},
        select,
        view::{Outlook, failure_message},
    },
};

/// Reasons of condition `PodScheduled=False` that we write: nobody fits, or something broke.
pub(super) const CONDITION_REASONS: [&str; 2] = ["Unschedulable", "SchedulerError"];

/// How an attempt went before anything was booked.
enum Decision {
    Node(NodeIx),
    Unschedulable { message: Arc<str>, rejectors: Rejectors },
    Broken(String),
}

impl Engine {
    /// Tries pods until there is none, no room for bindings, or the bound on this call is reached.
    pub(super) fn schedule(&mut self, now: Timestamp, attempts_max: u32, out: &mut Vec<Command>) {
        for _ in 0..attempts_max {
            if !self.wants_schedule() {
                return;
            }
            let Some(pod) = self.queue.pop() else { return };
            self.attempt(now, pod, out);
        }
    }

    fn attempt(&mut self, now: Timestamp, pod: QueuedPod, out: &mut Vec<Command>) {
        let started = self.observer.ticks();
        self.ask_platforms(now, pod.class, |engine| engine.pod_ref(&pod), out);
        let decision = self.decide(&pod);
        self.observer.algorithm(self.observer.ticks() - started);
        match decision {
            Decision::Node(node) => self.place(now, pod, node, started, out),
            Decision::Unschedulable { message, rejectors } => self.fail(now, pod, rejectors, &message, started, out),
            Decision::Broken(why) => self.fail_with_error(now, pod, &why, started, out),
        }
    }

    /// Filter, score, select. Reads everything, changes nothing but views.
    fn decide(&mut self, pod: &QueuedPod) -> Decision {
        let Self { cache, profiles, views, observer, rng, sample_start, .. } = self;
        let (Some(profile), Some(class)) = (profiles.get_mut(pod.profile), cache.classes.get(pod.class)) else {
            observer.impossible("popped_pod_without_profile");
            return Decision::Broken("the profile of the pod is gone".into());
        };
        let started = observer.ticks();
        cache.nodes.terms.prepare(Some(pod.class), class);
        let (view, effort) = views.up_to_date((pod.profile, pod.class), profile, class, &cache.nodes);
        let filtered = observer.ticks();
        observer.view(effort.nodes, effort.from_scratch);
        match view.outlook() {
            Outlook::Feasible(_) => {
                observer.extension_point(&profile.name, "Filter", "Success", filtered - started);
                let chosen = select::choose(view, profile, &cache.nodes, rng, sample_start);
                observer.extension_point(&profile.name, "Score", "Success", observer.ticks() - filtered);
                // A class of one pod, or of one node: nobody comes back for the kept answers.
                if view.is_restricted() || cache.classes.holds(pod.class) == 1 {
                    views.forget((pod.profile, pod.class));
                }
                chosen.map_or_else(|| Decision::Broken("no node was chosen of those that fit".into()), Decision::Node)
            }
            Outlook::Broken(plugin, why) => {
                observer.extension_point(&profile.name, "PreFilter", "Error", filtered - started);
                Decision::Broken(format!("running plugin {:?}: {why}", profile.plugins[plugin].name()))
            }
            Outlook::Infeasible => {
                observer.extension_point(&profile.name, "Filter", "Unschedulable", filtered - started);
                let diagnosis = view.diagnosis(profile, &cache.nodes);
                let mut rejectors = diagnosis.rejectors;
                if rejectors.is_empty() {
                    // No node at all: any new node may help. Upstream blames nobody here and waits for its backoff.
                    profile.filter.iter().for_each(|plugin| rejectors.insert(*plugin));
                }
                if let Some(message) = view.kept_message(&cache.nodes) {
                    return Decision::Unschedulable { message, rejectors };
                }
                let hand = PodInHand { key: &pod.key, uid: &pod.uid, class, gates: &pod.gates };
                let message: Arc<str> = failure_message(&diagnosis, &diagnosis.refusals_by_node(), profile, hand, &cache.nodes).into();
                view.keep_message(&cache.nodes, message.clone());
                Decision::Unschedulable { message, rejectors }
            }
        }
    }

    /// Books the node and sends the pod on its way.
    fn place(&mut self, now: Timestamp, pod: QueuedPod, node: NodeIx, started: u64, out: &mut Vec<Command>) {
        self.cache.classes.hold(pod.class);
        if !self.cache.assume(&pod.uid, node, pod.class) {
            self.observer.impossible("assumed_twice");
            self.release_class(pod.class);
            return self.fail_with_error(now, pod, "the pod is on a node already", started, out);
        }
        if let Err((plugin, refusal)) = self.reserve(&pod, node) {
            return self.give_back(now, pod, node, plugin, &refusal, started, out);
        }
        let waits = match self.permit(now, &pod, node) {
            Ok(waits) => waits,
            Err((plugin, refusal)) => {
                self.unreserve(&pod, node);
                return self.give_back(now, pod, node, plugin, &refusal, started, out);
            }
        };
        let uid = pod.uid.clone();
        let stage = if waits.is_empty() { Stage::PreBind(0) } else { Stage::Permit(waits) };
        let proceed = matches!(stage, Stage::PreBind(_));
        self.flights.insert(
            uid.clone(),
            Flight { pod, node, stage, since: now, started_ticks: started, resumes: false, settles_within: None, update: None },
        );
        if proceed {
            self.pre_bind(now, &uid, out);
        }
    }

    fn reserve(&mut self, pod: &QueuedPod, node: NodeIx) -> Result<(), (PluginIx, Refusal)> {
        let Self { profiles, cache, .. } = self;
        let (nodes, classes) = (&mut cache.nodes, &cache.classes);
        let (Some(profile), Some(class)) = (profiles.get_mut(pod.profile), classes.get(pod.class)) else { return Ok(()) };
        let hand = PodInHand { key: &pod.key, uid: &pod.uid, class, gates: &pod.gates };
        let mut refused = None;
        for at in 0..profile.reserve.len() {
            let plugin = profile.reserve[at];
            let Some(reserve) = profile.plugins[plugin].reserve() else { continue };
            if let Err(refusal) = reserve.reserve(hand, node, nodes) {
                refused = Some((plugin, refusal));
                break;
            }
        }
        match refused {
            None => Ok(()),
            Some(refused) => {
                self.unreserve(pod, node);
                Err(refused)
            }
        }
    }

    /// Every Reserve plugin gives back, in reverse order.
    pub(super) fn unreserve(&mut self, pod: &QueuedPod, node: NodeIx) {
        let Self { profiles, cache, .. } = self;
        let (nodes, classes) = (&mut cache.nodes, &cache.classes);
        let (Some(profile), Some(class)) = (profiles.get_mut(pod.profile), classes.get(pod.class)) else {
            cache.nodes.storage.give_back(&pod.uid);
            return;
        };
        let hand = PodInHand { key: &pod.key, uid: &pod.uid, class, gates: &pod.gates };
        for at in (0..profile.reserve.len()).rev() {
            if let Some(reserve) = profile.plugins[profile.reserve[at]].reserve() {
                reserve.unreserve(hand, node, nodes);
            }
        }
        // A profile that came meanwhile may be without the plugin that booked it.
        cache.nodes.storage.give_back(&pod.uid);
    }

    /// Asks every Permit plugin; the waits of those that hold the pod.
    fn permit(&mut self, now: Timestamp, pod: &QueuedPod, node: NodeIx) -> Result<Vec<(&'static str, Timestamp)>, (PluginIx, Refusal)> {
        let Self { profiles, cache, .. } = self;
        let mut waits = Vec::new();
        let (Some(profile), Some(class)) = (profiles.get_mut(pod.profile), cache.classes.get(pod.class)) else { return Ok(waits) };
        let hand = PodInHand { key: &pod.key, uid: &pod.uid, class, gates: &pod.gates };
        for at in 0..profile.permit.len() {
            let plugin = profile.permit[at];
            let name = profile.plugins[plugin].name();
            let Some(permit) = profile.plugins[plugin].permit() else { continue };
            match permit.permit(hand, node, &cache.nodes) {
                Permission::Allow => {}
                Permission::Wait(span) => waits.push((name, now + span.min(super::binding::PERMIT_WAIT_MAX))),
                Permission::Refuse(refusal) => return Err((plugin, refusal)),
            }
        }
        Ok(waits)
    }

    /// The chosen node was refused after all.
    #[allow(clippy::too_many_arguments)] // one call site each for reserve and permit
    fn give_back(
        &mut self,
        now: Timestamp,
        pod: QueuedPod,
        node: NodeIx,
        plugin: PluginIx,
        refusal: &Refusal,
        started: u64,
        out: &mut Vec<Command>,
    ) {
        self.forget(now, &pod.uid, node);
        let mut rejectors = Rejectors::default();
        rejectors.insert(plugin);
        let message: Arc<str> = crate::scheduler::view::message(1, refusal.reasons.iter()).into();
        self.fail(now, pod, rejectors, &message, started, out);
    }

    /// No node takes the pod: it waits for a change, and says why.
    pub(super) fn fail(
        &mut self,
        now: Timestamp,
        mut pod: QueuedPod,
        rejectors: Rejectors,
        message: &Arc<str>,
        started: u64,
        out: &mut Vec<Command>,
    ) {
        pod.queued = now;
        pod.unschedulable_count = pod.unschedulable_count.saturating_add(1);
        pod.errors_in_a_row = 0;
        self.report_failure(&mut pod, CONDITION_REASONS[0], message, out);
        self.observe_attempt(&pod, AttemptResult::Unschedulable, started);
        self.count_unschedulable(pod.profile, rejectors, 1);
        self.observer.queued("unschedulable", "ScheduleAttemptFailure");
        self.queue.push_unschedulable(pod, rejectors);
    }

    /// Something broke: the pod is tried again after its backoff.
    pub(super) fn fail_with_error(&mut self, now: Timestamp, mut pod: QueuedPod, why: &str, started: u64, out: &mut Vec<Command>) {
        pod.queued = now;
        pod.errors_in_a_row = pod.errors_in_a_row.saturating_add(1);
        self.report_failure(&mut pod, CONDITION_REASONS[1], &why.into(), out);
        self.observe_attempt(&pod, AttemptResult::Error, started);
        self.observer.queued("backoff", "ScheduleAttemptFailure");
        self.queue.push_backoff(pod);
    }

    /// Condition and event, neither when it says what it said before.
    fn report_failure(&mut self, pod: &mut QueuedPod, reason: &'static str, message: &Arc<str>, out: &mut Vec<Command>) {
        let said = pod.condition.as_ref().is_some_and(|(old_reason, old)| *old_reason == reason && **old == **message);
        let pod_ref = self.pod_ref(pod);
        if !said {
            pod.condition = Some((reason, message.clone()));
            let condition = ConditionOrder { pod: pod_ref.clone(), reason, message: message.clone(), nominated_node: None };
            out.push(Command::Condition(Box::new(condition)));
        }
        let note = message.clone();
        let event = EventOrder { pod: pod_ref, reason: "FailedScheduling", kind: "Warning", action: "Scheduling", note };
        out.push(Command::Event(Box::new(event)));
    }

    pub(super) fn observe_attempt(&mut self, pod: &QueuedPod, result: AttemptResult, started: u64) {
        let nanos = self.observer.ticks() - started;
        if let Some(profile) = self.profiles.get(pod.profile) {
            self.observer.attempt(&profile.name, result, nanos);
        }
    }

    /// The order to bind a pod that flies.
    pub(super) fn bind_order(&self, flight: &Flight) -> Command {
        let node = self.cache.nodes.get(flight.node);
        let key = crate::model::ids::NodeKey { cluster: node.cluster, name: self.cache.nodes.name(flight.node).into() };
        Command::Bind(Box::new(BindOrder {
            pod: self.pod_ref(&flight.pod),
            node: key,
            attempt: flight.pod.attempts,
            run_attempt: flight.pod.run_attempt.saturating_add(1),
            resumes: flight.resumes,
        }))
    }
}

//! One attempt to place one pod: popped in; a binding on its way, or a reason why not, out.

use std::sync::Arc;

use rand::RngExt;

use super::{
    Engine, Flight, Stage,
    extend::{Heard, Interest, Wanted},
    room::{self, Crowd, Scene, Verdict},
};
use crate::{
    model::{
        ids::{ClusterId, NodeIx},
        time::Timestamp,
    },
    scheduler::{
        framework::{Nomination, Permission, PodInHand, Refusal, RoomMade},
        input::{BindOrder, Command, ConditionOrder, EventOrder},
        nodes::Nodes,
        observe::AttemptResult,
        profiles::{PluginIx, Profile},
        queue::{QueuedPod, Rejectors},
        select,
        view::{ClassView, Outlook},
    },
};

/// Reasons of condition `PodScheduled=False` that we write: nobody fits, something broke, or it is not to be tried yet.
pub(super) const CONDITION_REASONS: [&str; 3] = ["Unschedulable", "SchedulerError", "SchedulingGated"];

/// How an attempt went before anything was booked.
pub(super) enum Decision {
    Node(NodeIx),
    Unschedulable {
        message: Arc<str>,
        rejectors: Rejectors,
        room: RoomMade,
    },
    Broken(String),
    /// Extenders have to be asked first.
    Ask(Wanted),
    /// What extenders said is outdated.
    Again,
}

/// Why a pod waits.
pub(super) struct Failure {
    /// Who is to blame.
    pub(super) rejectors: Rejectors,
    /// In upstream's words.
    pub(super) message: Arc<str>,
    /// What becomes of its nomination.
    pub(super) nomination: Nomination,
}

impl Failure {
    /// Of a pod that had a node already.
    pub(super) fn clear(rejectors: Rejectors, message: Arc<str>) -> Self {
        Self { rejectors, message, nomination: Nomination::Clear }
    }
}

impl Engine {
    /// Tries pods until there is none, no room for bindings, or the bound on this call is reached.
    pub(super) fn schedule(&mut self, now: Timestamp, attempts_max: u32, out: &mut Vec<Command>) {
        for _ in 0..attempts_max {
            if !self.wants_schedule() {
                return;
            }
            let next = self.take_turn().or_else(|| self.queue.pop().and_then(|pod| self.line_up(pod)));
            if let Some(pod) = next {
                self.attempt(now, pod, out);
            }
        }
    }

    fn attempt(&mut self, now: Timestamp, pod: QueuedPod, out: &mut Vec<Command>) {
        if self.group_hold(&pod.uid, pod.profile).is_some() {
            return self.admit(now, pod, "GangIncomplete", false);
        }
        if let Some((key, need)) = self.group_in_need(&pod) {
            return self.attempt_group(now, pod, &key, need, out);
        }
        let started = self.observer.ticks();
        self.ask_platforms(now, pod.class, |engine| engine.pod_ref(&pod), out);
        self.proceed(now, pod, Heard::default(), started, out);
    }

    /// An attempt from its beginning, or from where extenders were asked.
    pub(super) fn proceed(&mut self, now: Timestamp, pod: QueuedPod, heard: Heard, started: u64, out: &mut Vec<Command>) {
        let began = self.observer.ticks();
        let decision = self.decide(&pod, &heard, true);
        self.observer.algorithm(self.observer.ticks() - began);
        match decision {
            Decision::Ask(wanted) => self.ask_extenders(now, pod, heard, wanted, started, out),
            Decision::Again => self.admit(now, pod, "ExtendersAnswered", false),
            Decision::Node(node) => self.place(now, pod, node, started, out),
            Decision::Unschedulable { message, rejectors, room } => {
                let (preemptor, priority) = (self.pod_ref(&pod), pod.priority);
                self.fail(now, pod, &Failure { rejectors, message, nomination: room.nomination }, started, out);
                self.make_way(now, &preemptor, priority, room, out);
            }
            Decision::Broken(why) => self.fail_with_error(now, pod, &why, started, out),
        }
    }

    /// Filter, score, select; and look for room that others could make, if that is wanted. Reads everything, changes nothing but views.
    pub(super) fn decide(&mut self, pod: &QueuedPod, heard: &Heard, seeks_room: bool) -> Decision {
        let own = self.nominated_node(pod);
        let Self { cache, profiles, views, observer, rng, sample_start, nominations, extenders, .. } = self;
        let (Some(profile), Some(class)) = (profiles.get_mut(pod.profile), cache.classes.get(pod.class)) else {
            observer.impossible("popped_pod_without_profile");
            return Decision::Broken("the profile of the pod is gone".into());
        };
        let started = observer.ticks();
        cache.nodes.terms.prepare(Some(pod.class), class);
        let (view, effort) = views.up_to_date((pod.profile, pod.class), profile, class, &cache.nodes);
        let mut crowd = Crowd::new(view, class, &pod.uid, nominations, cache);
        let interest = extenders.interest(class, &cache.nodes);
        heard.close(&mut crowd, view, &interest, profile.extender, &cache.nodes);
        let filtered = observer.ticks();
        observer.view(effort.nodes, effort.from_scratch);
        // The node that was cleared for the pod is tried before all others, and not compared with them.
        if let Some(own) = own.filter(|ix| !heard.own_refused && crowd.leaves(view, *ix)) {
            if interest.filters && !heard.knows_nodes() {
                return Decision::Ask(Wanted::Own(own));
            }
            observer.extension_point(&profile.name, "Filter", "Success", filtered - started);
            return Decision::Node(own);
        }
        let open = view.feasible_count().saturating_sub(crowd.closed);
        match view.outlook() {
            Outlook::Broken(plugin, why) if open != 1 => {
                observer.extension_point(&profile.name, "PreFilter", "Error", filtered - started);
                Decision::Broken(format!("running plugin {:?}: {why}", profile.plugins[plugin].name()))
            }
            Outlook::Feasible(_) | Outlook::Broken(..) if open > 0 => {
                observer.extension_point(&profile.name, "Filter", "Success", filtered - started);
                if !interest.asked.is_empty()
                    && let Some(wanted) = still_to_ask(view, &crowd, &interest, heard, profile, &cache.nodes, sample_start)
                {
                    return Decision::Ask(wanted);
                }
                let chosen = if heard.knows_nodes() {
                    select::choose_scored(view, &crowd.open(view), &heard.scores(&cache.nodes), profile, &cache.nodes, rng)
                } else if crowd.closed == 0 {
                    select::choose(view, profile, &cache.nodes, rng, sample_start)
                } else {
                    select::choose_among(view, &crowd.open(view), profile, &cache.nodes, rng, sample_start)
                };
                observer.extension_point(&profile.name, "Score", "Success", observer.ticks() - filtered);
                // A class of one pod, or of one node: nobody comes back for the kept answers.
                if view.is_restricted() || cache.classes.holds(pod.class) == 1 {
                    views.forget((pod.profile, pod.class));
                }
                chosen.map_or_else(|| Decision::Broken("no node was chosen of those that fit".into()), Decision::Node)
            }
            _ => {
                if heard.is_outdated(view, &cache.nodes) {
                    return Decision::Again;
                }
                observer.extension_point(&profile.name, "Filter", "Unschedulable", filtered - started);
                if seeks_room { self.seek_room(pod, own, &crowd, heard, &interest) } else { self.refuse(pod, &crowd) }
            }
        }
    }

    /// No node is left: why, and nothing else.
    fn refuse(&mut self, pod: &QueuedPod, crowd: &Crowd) -> Decision {
        let Self { cache, profiles, views, .. } = self;
        let (Some(profile), Some(class)) = (profiles.get_mut(pod.profile), cache.classes.get(pod.class)) else {
            return Decision::Broken("the profile of the pod is gone".into());
        };
        let (view, _) = views.up_to_date((pod.profile, pod.class), profile, class, &cache.nodes);
        let (message, rejectors) = room::refusal(view, profile, cache, crowd);
        let room = RoomMade { nomination: Nomination::Clear, ..RoomMade::default() };
        Decision::Unschedulable { message, rejectors: rejectors.or_all(profile), room }
    }

    /// No node is left: why, and whether others can make room.
    fn seek_room(&mut self, pod: &QueuedPod, own: Option<NodeIx>, crowd: &Crowd, heard: &Heard, interest: &Interest) -> Decision {
        let Self { cache, profiles, views, observer, nominations, budgets, room_rng, .. } = self;
        let (Some(profile), Some(class)) = (profiles.get_mut(pod.profile), cache.classes.get(pod.class)) else {
            return Decision::Broken("the profile of the pod is gone".into());
        };
        let (view, _) = views.up_to_date((pod.profile, pod.class), profile, class, &cache.nodes);
        // Pods of a class get one answer as long as nothing is nominated that concerns some of them alone.
        let moment = (cache.nodes.changed(), nominations.version(), budgets.version());
        let is_shared = own.is_none() && crowd.is_empty() && !interest.preempts;
        if is_shared && let Some((message, rejectors)) = view.kept_message(moment) {
            observer.preemption(None);
            let room = RoomMade { nomination: Nomination::Clear, ..RoomMade::default() };
            return Decision::Unschedulable { message, rejectors, room };
        }
        let started = observer.ticks();
        let hand = PodInHand { key: &pod.key, uid: &pod.uid, class, gates: &pod.gates };
        let wants_offers = interest.preempts && heard.room.is_none();
        let cleared = heard.room.as_ref().map(|room| room.as_deref().map_err(String::as_str));
        let scene = Scene { cache, budgets, crowd, nominated: own, draw: room_rng.random(), cleared, wants_offers };
        let Verdict { message, rejectors, mut room } = room::seek(view, profile, hand, &scene);
        if !room.offers.is_empty() {
            return Decision::Ask(Wanted::Room(std::mem::take(&mut room.offers)));
        }
        let rejectors = rejectors.or_all(profile);
        let made = matches!(room.nomination, Nomination::Node(_));
        observer.preemption(made.then_some(room.victims.len()));
        observer.extension_point(&profile.name, "PostFilter", if made { "Success" } else { "Unschedulable" }, observer.ticks() - started);
        if is_shared && !made {
            view.keep_message(moment, message.clone(), rejectors);
        }
        Decision::Unschedulable { message, rejectors, room }
    }

    /// Books the node and sends the pod on its way.
    fn place(&mut self, now: Timestamp, mut pod: QueuedPod, node: NodeIx, started: u64, out: &mut Vec<Command>) {
        match self.book(&mut pod, node) {
            Ok(()) => self.launch(now, pod, node, started, out),
            Err(Some((plugin, refusal))) => self.give_back(now, pod, node, plugin, &refusal, started, out),
            Err(None) => self.fail_with_error(now, pod, "the pod is on a node already", started, out),
        }
    }

    /// Counts the pod on its node and lets Reserve plugins book for it. Refused by one of them, it is still counted.
    pub(super) fn book(&mut self, pod: &mut QueuedPod, node: NodeIx) -> Result<(), Option<(PluginIx, Refusal)>> {
        self.nominate(pod, None);
        self.cache.classes.hold(pod.class);
        if !self.cache.assume(&pod.uid, node, pod.class) {
            self.observer.impossible("assumed_twice");
            self.release_class(pod.class);
            return Err(None);
        }
        self.reserve(pod, node).map_err(Some)
    }

    /// Sends a pod on its way for which all is booked.
    pub(super) fn launch(&mut self, now: Timestamp, mut pod: QueuedPod, node: NodeIx, started: u64, out: &mut Vec<Command>) {
        self.report_single(&pod, "Scheduled", &Arc::from(""), out);
        let waits = match self.permit(now, &pod, node) {
            Ok(waits) => waits,
            Err((plugin, refusal)) => {
                self.unreserve(&pod, node);
                return self.give_back(now, pod, node, plugin, &refusal, started, out);
            }
        };
        let uid = pod.uid.clone();
        if !waits.is_empty() {
            self.announce(&mut pod, node, out);
        }
        let stage = if waits.is_empty() { Stage::PreBind(0) } else { Stage::Permit(waits) };
        let proceed = matches!(stage, Stage::PreBind(_));
        self.flights.insert(
            uid.clone(),
            Flight { pod, node, stage, since: now, started_ticks: started, resumes: None, settles_within: None, update: None },
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
        self.fail(now, pod, &Failure::clear(rejectors, message), started, out);
    }

    /// No node takes the pod: it waits for a change, and says why.
    pub(super) fn fail(&mut self, now: Timestamp, mut pod: QueuedPod, failure: &Failure, started: u64, out: &mut Vec<Command>) {
        let rejectors = failure.rejectors;
        pod.queued = now;
        pod.unschedulable_count = pod.unschedulable_count.saturating_add(1);
        pod.errors_in_a_row = 0;
        self.report_single(&pod, CONDITION_REASONS[0], &failure.message, out);
        let nominated = self.renominate(now, &mut pod, failure.nomination);
        self.report_failure(&mut pod, CONDITION_REASONS[0], &failure.message, nominated, out);
        self.observe_attempt(&pod, AttemptResult::Unschedulable, started);
        self.count_unschedulable(pod.profile, rejectors, 1);
        if rejectors.is_empty() {
            // Nobody to blame, whom a change could satisfy: time alone may help.
            self.observer.queued("backoff", "ScheduleAttemptFailure");
            return self.queue.push_backoff(pod);
        }
        self.observer.queued("unschedulable", "ScheduleAttemptFailure");
        self.queue.push_unschedulable(pod, rejectors);
    }

    /// Something broke: the pod is tried again after its backoff.
    pub(super) fn fail_with_error(&mut self, now: Timestamp, mut pod: QueuedPod, why: &str, started: u64, out: &mut Vec<Command>) {
        pod.queued = now;
        pod.errors_in_a_row = pod.errors_in_a_row.saturating_add(1);
        let nominated = self.renominate(now, &mut pod, Nomination::Clear);
        self.report_failure(&mut pod, CONDITION_REASONS[1], &why.into(), nominated, out);
        self.observe_attempt(&pod, AttemptResult::Error, started);
        self.observer.queued("backoff", "ScheduleAttemptFailure");
        self.queue.push_backoff(pod);
    }

    /// Condition and nomination, neither when it is what it was; and an event.
    fn report_failure(
        &mut self,
        pod: &mut QueuedPod,
        reason: &'static str,
        message: &Arc<str>,
        nominated_node: Option<Box<str>>,
        out: &mut Vec<Command>,
    ) {
        let said = pod.condition.as_ref().is_some_and(|(old_reason, old)| *old_reason == reason && **old == **message);
        let pod_ref = self.pod_ref(pod);
        if !said || nominated_node.is_some() {
            pod.condition = Some((reason, message.clone()));
            let condition = ConditionOrder { pod: pod_ref.clone(), condition: pod.condition.clone(), nominated_node };
            out.push(Command::Condition(Box::new(condition)));
        }
        let (note, related) = (message.clone(), None);
        let event = EventOrder { pod: pod_ref, reason: "FailedScheduling", kind: "Warning", action: "Scheduling", related, note };
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
        let order = Box::new(BindOrder {
            pod: self.pod_ref(&flight.pod),
            node: key,
            attempt: flight.pod.attempts,
            run_attempt: flight.pod.run_attempt.saturating_add(1),
            resumes: flight.resumes.is_some(),
            earlier_binding: self.earlier_binding(&flight.pod),
        });
        let class = self.cache.classes.get(flight.pod.class).filter(|_| order.node.cluster == ClusterId::HOME);
        match class.and_then(|class| self.extenders.binder(class, &self.cache.nodes)) {
            Some(extender) => Command::BindThrough(extender, order),
            None => Command::Bind(order),
        }
    }
}

/// What extenders have to be asked about the nodes that are left, if anything.
#[allow(clippy::too_many_arguments)] // parts of the engine that are borrowed apart
fn still_to_ask(
    view: &ClassView,
    crowd: &Crowd,
    interest: &Interest,
    heard: &Heard,
    profile: &Profile,
    nodes: &Nodes,
    sample_start: &mut usize,
) -> Option<Wanted> {
    let open = crowd.open(view);
    if !interest.has_say(heard, open.len()) {
        return None;
    }
    let looked_at = select::looked_at(&open, profile, nodes, sample_start);
    let is_sample = looked_at.len() < open.len();
    let known: Vec<NodeIx> = looked_at.into_iter().filter(|ix| nodes.get(*ix).cluster == ClusterId::HOME).collect();
    (!known.is_empty()).then_some(Wanted::Nodes(known, is_sample))
}

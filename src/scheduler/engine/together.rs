//! One attempt to place a group: a member that was popped in; all that have to be placed at once on their way, or none and a reason why, out.
//!
//! The members are decided upon one after the other, each with those before it counted on their nodes, and all within one step of the engine, so that nobody
//! sees a part of it. If too few fit, everything is taken off again as if nothing had been; then the same is tried with less important pods gone, and only
//! if that is enough they are really asked to go. Source: `schedule_one_podgroup.go` v1.37.

use std::{cmp::Reverse, sync::Arc};

use super::{
    Engine,
    attempt::{Decision, Failure},
    extend::Heard,
};
use crate::{
    model::{
        ids::{NodeIx, PodUid},
        intern::Sym,
        time::Timestamp,
    },
    scheduler::{
        cache::Placed,
        framework::{Nomination, RoomMade, Victim},
        gangs::GroupKey,
        input::Command,
        preemption::NodeName,
        queue::{QueuedPod, Rejectors},
    },
};

const EXTENDERS: &str = "pods of a group are not placed where an extender has a say";

/// What came of trying a group.
#[derive(Default)]
struct Trial {
    /// Members that were placed: which, where, and what they were nominated for.
    places: Vec<(usize, NodeIx, Option<NodeName>)>,
    /// Room that has to be made for one of them.
    rooms: Vec<(usize, RoomMade)>,
    /// Pods that were taken off their nodes for that, with whether they were known to leave.
    removed: Vec<(PodUid, Placed, bool)>,
    /// Members that were not placed, and why.
    refused: Vec<(usize, Arc<str>, Rejectors)>,
    /// The question itself is broken: which member's, and how.
    broken: Option<(usize, String)>,
}

impl Trial {
    fn rejectors(&self) -> Rejectors {
        Rejectors(self.refused.iter().fold(0, |all, (.., rejectors)| all | rejectors.0))
    }
}

impl Engine {
    pub(super) fn attempt_group(&mut self, now: Timestamp, first: QueuedPod, key: &GroupKey, need: usize, out: &mut Vec<Command>) {
        let started = self.observer.ticks();
        let mut pods = self.gather_waiting(first, key);
        if pods.len() < need {
            return self.wait_for_members(now, pods);
        }
        for pod in &pods {
            self.ask_platforms(now, pod.class, |engine| engine.pod_ref(pod), out);
        }
        let trial = self.try_group(&mut pods, need, false);
        self.observer.algorithm(self.observer.ticks() - started);
        if trial.broken.is_none() && trial.places.len() >= need {
            return self.launch_group(now, pods, trial, key, started, out);
        }
        self.undo(&mut pods, &trial);
        if let Some((at, why)) = &trial.broken {
            let why: Arc<str> = format!("{key} cannot be placed: pod {}: {why}", pods[*at].key.name).into();
            self.report_group(key, "SchedulerError", &why, out);
            return pods.into_iter().for_each(|pod| self.fail_with_error(now, pod, &why, started, out));
        }
        let is_awaiting = pods.iter().any(|pod| self.waits_for_victims(pod));
        if !is_awaiting && self.may_preempt(&pods) {
            let mut second = self.try_group(&mut pods, need, true);
            self.undo(&mut pods, &second);
            if second.broken.is_none() && second.places.len() >= need {
                let message = why_not(key, &pods, &trial, need);
                let victims: usize = second.rooms.iter().map(|(_, room)| room.victims.len()).sum();
                let message: Arc<str> = format!("{message} preemption: found room for all of them, preempting {victims} victims").into();
                self.report_group(key, "Unschedulable", &message, out);
                second.refused = trial.refused;
                return self.make_way_for_group(now, pods, second, &message, started, out);
            }
        }
        let message: Arc<str> = why_not(key, &pods, &trial, need).into();
        self.report_group(key, "Unschedulable", &message, out);
        let nomination = if is_awaiting { Nomination::Keep } else { Nomination::Clear };
        for pod in pods {
            let failure = Failure { rejectors: trial.rejectors(), message: message.clone(), nomination };
            self.fail(now, pod, &failure, started, out);
        }
    }

    /// The members that wait for a node, whatever for, but those that are kept out of the queue. The most important first, then the ones that wait longest.
    fn gather_waiting(&mut self, first: QueuedPod, key: &GroupKey) -> Vec<QueuedPod> {
        let with_api = |engine: &Self, pod: &QueuedPod| engine.gangs.of(&pod.uid, engine.heeds_pod_groups(pod.profile)).is_some();
        let waits = |uid: &&PodUid| self.queue.get(uid).is_some_and(|pod| !self.queue.is_gated(uid) && with_api(self, pod));
        let others: Vec<PodUid> = self.gangs.ready(key).filter(waits).cloned().collect();
        let mut pods = vec![first];
        for uid in others {
            if let Some(mut pod) = self.unqueue(&uid) {
                pod.attempts = pod.attempts.saturating_add(1);
                pods.push(pod);
            }
        }
        pods.sort_by(|one, other| {
            let rank = |pod: &QueuedPod| (Reverse(pod.priority), pod.first_queued);
            rank(one).cmp(&rank(other)).then_with(|| one.key.name.len().cmp(&other.key.name.len())).then_with(|| one.key.cmp(&other.key))
        });
        pods
    }

    /// Some members are known and cannot be tried now: their victims are on their way out, or an earlier decision is being taken up. Looked at again soon.
    fn wait_for_members(&mut self, now: Timestamp, pods: Vec<QueuedPod>) {
        for mut pod in pods {
            pod.queued = now;
            pod.errors_in_a_row = 1;
            self.observer.queued("backoff", "GangIncomplete");
            self.queue.push_backoff(pod);
        }
    }

    /// Places one member after the other, until all were tried or too few can be placed.
    fn try_group(&mut self, pods: &mut [QueuedPod], need: usize, may_evict: bool) -> Trial {
        let mut trial = Trial::default();
        for at in 0..pods.len() {
            if trial.places.len() + (pods.len() - at) < need {
                break;
            }
            match self.decide(&pods[at], &Heard::default(), may_evict) {
                Decision::Node(node) => self.try_on(pods, at, node, &mut trial),
                Decision::Unschedulable { room, .. } if may_evict && matches!(room.nomination, Nomination::Node(_)) => {
                    let Nomination::Node(node) = room.nomination else { continue };
                    self.take_off(&room.victims, &mut trial);
                    let placed = trial.places.len();
                    self.try_on(pods, at, node, &mut trial);
                    if trial.places.len() > placed {
                        trial.rooms.push((at, room));
                    }
                }
                Decision::Unschedulable { message, rejectors, .. } => trial.refused.push((at, message, rejectors)),
                // A group is tried in one step, in which nobody can be asked.
                Decision::Ask(_) | Decision::Again => {
                    let mut rejectors = Rejectors::default();
                    self.profiles.get(pods[at].profile).into_iter().for_each(|profile| rejectors.insert(profile.extender));
                    trial.refused.push((at, EXTENDERS.into(), rejectors));
                }
                Decision::Broken(why) => {
                    trial.broken = Some((at, why));
                    break;
                }
            }
        }
        trial
    }

    fn try_on(&mut self, pods: &mut [QueuedPod], at: usize, node: NodeIx, trial: &mut Trial) {
        let pod = &mut pods[at];
        let nominated = pod.nominated;
        match self.book(pod, node) {
            Ok(()) => return trial.places.push((at, node, nominated)),
            Err(Some((plugin, refusal))) => {
                let mut rejectors = Rejectors::default();
                rejectors.insert(plugin);
                trial.refused.push((at, refusal.message().into(), rejectors));
                self.unbook(&pod.uid);
            }
            Err(None) => trial.broken = Some((at, "the pod is on a node already".to_owned())),
        }
        self.nominate(pod, nominated);
    }

    /// An assumption that nobody has seen is taken back without a word.
    fn unbook(&mut self, uid: &PodUid) {
        if let Some(placed) = self.cache.forget(uid) {
            self.release_class(placed.class);
        }
    }

    /// Victims are gone, in thought.
    fn take_off(&mut self, victims: &[Victim], trial: &mut Trial) {
        for Victim { uid, .. } in victims {
            let Some(placed) = self.cache.placed(uid) else { continue };
            let is_leaving = self.cache.residents(placed.node).iter().any(|resident| resident.uid == *uid && resident.is_leaving);
            if let Some(placed) = self.cache.take(uid) {
                trial.removed.push((uid.clone(), placed, is_leaving));
            }
        }
    }

    /// Takes everything back, the last thing first.
    fn undo(&mut self, pods: &mut [QueuedPod], trial: &Trial) {
        for (at, node, nominated) in trial.places.iter().rev() {
            let pod = &mut pods[*at];
            self.unreserve(pod, *node);
            self.unbook(&pod.uid);
            self.nominate(pod, *nominated);
        }
        for (uid, placed, is_leaving) in trial.removed.iter().rev() {
            let node = self.cache.nodes.get(placed.node);
            let name: (_, Sym) = (node.cluster, node.name);
            self.cache.put_back(uid, name, placed);
            if *is_leaving {
                self.cache.set_leaving(uid, true);
            }
        }
    }

    /// What is booked by now is meant.
    fn launch_group(&mut self, now: Timestamp, pods: Vec<QueuedPod>, trial: Trial, key: &GroupKey, started: u64, out: &mut Vec<Command>) {
        self.report_group(key, "Scheduled", &Arc::from(""), out);
        let mut pods: Vec<Option<QueuedPod>> = pods.into_iter().map(Some).collect();
        self.launching_group = true;
        for (at, node, _) in trial.places {
            if let Some(pod) = pods[at].take() {
                self.launch(now, pod, node, started, out);
            }
        }
        self.launching_group = false;
        // Others than these are not needed, and go by themselves.
        for (at, message, rejectors) in trial.refused {
            if let Some(pod) = pods[at].take() {
                self.fail(now, pod, &Failure::clear(rejectors, message), started, out);
            }
        }
        self.open_gate(now, key, out);
    }

    // === preemption ===

    /// Room was made for the pod before, and it is not free yet.
    fn waits_for_victims(&self, pod: &QueuedPod) -> bool {
        let residents = self.nominated_node(pod).map(|node| self.cache.residents(node)).unwrap_or_default();
        residents.iter().any(|resident| resident.is_leaving && resident.is_home && resident.priority < pod.priority)
    }

    /// Whether some member may have others evicted, and whether there is anybody less important at all.
    fn may_preempt(&self, pods: &[QueuedPod]) -> bool {
        let never = |pod: &QueuedPod| self.cache.classes.get(pod.class).is_none_or(|class| class.never_preempts);
        pods.iter().any(|pod| !never(pod) && self.cache.classes.iter().any(|(_, class, _)| class.priority < pod.priority))
    }

    /// With these pods gone the group fits: they are asked to go, and each member keeps its node free from less important ones until then.
    fn make_way_for_group(
        &mut self,
        now: Timestamp,
        pods: Vec<QueuedPod>,
        mut plan: Trial,
        message: &Arc<str>,
        started: u64,
        out: &mut Vec<Command>,
    ) {
        let rejectors = plan.rejectors();
        for (at, pod) in pods.into_iter().enumerate() {
            let place = plan.places.iter().find(|(member, ..)| *member == at).map(|(_, node, _)| *node);
            let room = plan.rooms.iter().position(|(member, _)| *member == at).map(|room| plan.rooms.swap_remove(room).1);
            let (preemptor, priority) = (self.pod_ref(&pod), pod.priority);
            let nomination = place.map_or(Nomination::Clear, Nomination::Node);
            self.fail(now, pod, &Failure { rejectors, message: message.clone(), nomination }, started, out);
            self.make_way(now, &preemptor, priority, RoomMade { nomination, ..room.unwrap_or_default() }, out);
        }
    }
}

/// How many fit, and what the first that did not says.
fn why_not(key: &GroupKey, pods: &[QueuedPod], trial: &Trial, need: usize) -> String {
    let fits = trial.places.len();
    let first = trial.refused.first().map(|(at, message, _)| format!("pod {}: {message}", pods[*at].key.name));
    format!("{key} cannot be placed: {fits} of {need} pods that have to be placed at once fit; {}", first.unwrap_or_default())
}

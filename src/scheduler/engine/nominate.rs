//! Nominations and what follows from room that was made. In: answers of PostFilter plugins, what pods say of themselves, what became of evictions. Out:
//! nominations in memory and in the pods' status, victims on their way out, preemptors that wait for that and come back.
//!
//! Source: `nominator.go`, `preemption/executor.go` and `schedule_one.go` v1.37 with asynchronous preemption. Memory and the API agree but for the time a
//! write takes; where they differ, memory counts, unless the API's value has changed.

use super::{Engine, Stage};
use crate::{
    model::{
        ids::{ClusterId, NodeIx, PodUid},
        placement,
        time::Timestamp,
    },
    scheduler::{
        framework::{Nomination, RoomMade},
        input::{Command, ConditionOrder, EventOrder, EvictOrder, PodRef},
        preemption::{NodeName, Nominee},
        queue::QueuedPod,
    },
};

/// A pod whose victims the API server is being asked to delete: it is not tried meanwhile.
#[derive(Debug)]
pub(super) struct Preempting {
    pub(super) since: Timestamp,
    victims: Vec<PodUid>,
}

impl Engine {
    /// The present node for which a pod is nominated.
    pub(super) fn nominated_node(&self, pod: &QueuedPod) -> Option<NodeIx> {
        let (cluster, name) = pod.nominated?;
        self.cache.nodes.find_sym(cluster, name).filter(|ix| self.cache.nodes.get(*ix).present)
    }

    /// A pod is nominated for this node from now on, or for none.
    pub(super) fn nominate(&mut self, pod: &mut QueuedPod, node: Option<NodeName>) {
        if let Some(old) = pod.nominated.take() {
            self.nominations.remove(old, &pod.uid);
        }
        if let Some(node) = node {
            self.nominations.insert(node, Nominee { uid: pod.uid.clone(), class: pod.class, priority: pod.priority });
            pod.nominated = Some(node);
        }
    }

    /// A pod that was nominated does not wait any more: what it kept others from is free.
    pub(super) fn withdraw_nomination(&mut self, now: Timestamp, pod: &mut QueuedPod) {
        let node = self.nominated_node(pod);
        self.nominate(pod, None);
        if let Some(node) = node {
            self.wake_for_pod(now, pod.class, node, true);
        }
    }

    /// Takes over what PostFilter plugins say about the nomination. What the pod's status is to say of it, if that is news: empty clears.
    pub(super) fn renominate(&mut self, now: Timestamp, pod: &mut QueuedPod, nomination: Nomination) -> Option<Box<str>> {
        let node = match nomination {
            Nomination::Keep => return None,
            Nomination::Clear => None,
            Nomination::Node(ix) => Some((self.cache.nodes.get(ix).cluster, self.cache.nodes.get(ix).name)),
        };
        let (before, old) = (pod.nominated, self.nominated_node(pod));
        self.nominate(pod, node);
        if let Some(old) = old.filter(|_| before != node) {
            self.wake_for_pod(now, pod.class, old, true);
        }
        let name = node.map_or_else(Box::default, |node| self.written_name(node));
        (*name != *pod.nominated_seen).then_some(name)
    }

    /// The name of a nominated node as a pod's status can have it: for a node of a compute cluster that of the cluster's virtual Node.
    fn written_name(&self, (cluster, name): NodeName) -> Box<str> {
        match self.cache.nodes.clusters.name(cluster) {
            Some(cluster_name) if cluster != ClusterId::HOME => placement::virtual_node(cluster_name).into(),
            _ => self.cache.nodes.symbols.text(name).into(),
        }
    }

    /// What the status of a waiting pod says of its nomination.
    pub(super) fn see_nomination(&mut self, now: Timestamp, pod: &mut QueuedPod, seen: Box<str>) {
        let before = std::mem::replace(&mut pod.nominated_seen, seen);
        let seen = &pod.nominated_seen;
        // An update that does not know of our decision yet; or our own writing.
        if (before.is_empty() && seen.is_empty()) || pod.nominated.is_some_and(|node| *self.written_name(node) == **seen) {
            return;
        }
        let of_cluster = self
            .cache
            .nodes
            .clusters
            .iter()
            .any(|(id, _)| self.cache.nodes.clusters.name(id).is_some_and(|cluster| placement::is_virtual_node(seen, cluster)));
        let node = (!seen.is_empty() && !of_cluster).then(|| self.cache.nodes.symbols.intern(seen));
        let old = self.nominated_node(pod);
        self.nominate(pod, node.map(|name| (ClusterId::HOME, name)));
        if let Some(old) = old {
            self.wake_for_pod(now, pod.class, old, true);
        }
    }

    /// A pod that waits for something before its binding says where it will go, so that others can see it (`NominatedNodeNameForExpectation`).
    pub(super) fn announce(&self, pod: &mut QueuedPod, node: NodeIx, out: &mut Vec<Command>) {
        let name = self.written_name((self.cache.nodes.get(node).cluster, self.cache.nodes.get(node).name));
        pod.nominated_seen.clone_from(&name);
        let order = ConditionOrder { pod: self.pod_ref(pod), condition: None, nominated_node: Some(name) };
        out.push(Command::Condition(Box::new(order)));
    }

    // === room ===

    /// Room was made for a pod, which waits by now: others give up their claims, and victims go.
    pub(super) fn make_way(&mut self, now: Timestamp, preemptor: &PodRef, priority: i32, room: RoomMade, out: &mut Vec<Command>) {
        let Nomination::Node(node) = room.nomination else { return };
        self.displace_nominees(now, node, priority, out);
        let name: Box<str> = self.cache.nodes.full_name(node).into();
        let victims = room.victims.into_iter().filter(|victim| !victim.is_terminating).map(|victim| (victim.key, victim.uid));
        let victims = self.with_their_groups(priority, victims.collect()).into_iter();
        let (held, victims): (Vec<_>, Vec<_>) = victims.partition(|(_, uid)| self.is_held_before_binding(uid));
        if !victims.is_empty() {
            // They are going, whether the watch knows it yet or not.
            let uids: Vec<PodUid> = victims.iter().map(|(_, uid)| uid.clone()).collect();
            uids.iter().for_each(|uid| self.cache.set_leaving(uid, true));
            self.preempting.insert(preemptor.uid.clone(), Preempting { since: now, victims: uids });
            out.push(Command::Evict(Box::new(EvictOrder { preemptor: preemptor.clone(), node: name.clone(), victims })));
        }
        held.iter().for_each(|(_, uid)| self.preempt_in_memory(now, uid, preemptor, &name, out));
    }

    /// Pods of lower priority lose their nomination for the node, and look for another one.
    fn displace_nominees(&mut self, now: Timestamp, node: NodeIx, priority: i32, out: &mut Vec<Command>) {
        let name = (self.cache.nodes.get(node).cluster, self.cache.nodes.get(node).name);
        for uid in self.nominations.below(name, priority) {
            let Some(pod) = self.queue.get_mut(&uid) else { continue };
            self.nominations.remove(name, &uid);
            pod.nominated = None;
            let (class, pod) = (pod.class, pod.clone());
            let order = ConditionOrder { pod: self.pod_ref(&pod), condition: None, nominated_node: Some(Box::default()) };
            out.push(Command::Condition(Box::new(order)));
            self.wake_for_pod(now, class, node, true);
        }
    }

    fn is_held_before_binding(&self, uid: &PodUid) -> bool {
        self.flights.get(uid).is_some_and(|flight| !matches!(flight.stage, Stage::Bind))
    }

    /// A victim that is held before its binding need not be deleted: it gives its node back, and looks for another one.
    fn preempt_in_memory(&mut self, now: Timestamp, uid: &PodUid, preemptor: &PodRef, node: &str, out: &mut Vec<Command>) {
        let Some(flight) = self.land(uid) else { return };
        let is_waiting = matches!(flight.stage, Stage::Permit(_));
        let why = if is_waiting { "waiting on permit for pod: preempted" } else { "preempted by DefaultPreemption" };
        let mut victim = self.pod_ref(&flight.pod);
        victim.scheduler_name = preemptor.scheduler_name.clone();
        let note = format!("Preempted by pod {} on node {node} (in kube-scheduler memory).", preemptor.uid).into();
        let related = Some(Box::new(preemptor.clone()));
        out.push(Command::Event(Box::new(EventOrder {
            pod: victim,
            reason: "Preempted",
            kind: "Normal",
            action: "Preempting",
            related,
            note,
        })));
        self.take_back(now, &flight);
        self.fail_with_error(now, flight.pod, why, flight.started_ticks, out);
    }

    /// The API server has taken the deletions, or not.
    pub(super) fn on_evicted(&mut self, now: Timestamp, uid: &PodUid, outcome: &Result<(), String>) {
        let Some(preempting) = self.preempting.remove(uid) else { return };
        if outcome.is_err() {
            preempting.victims.iter().for_each(|victim| self.cache.set_leaving(victim, false));
        }
        match outcome {
            // What waited for this only; the others are woken by the victims that go.
            Ok(()) if !self.queue.is_gated(uid) => {}
            Ok(()) => self.admit_again(now, uid, "Preempted", true),
            Err(why) => {
                tracing::warn!(preemptor = %uid, "pods that were to make room were not all deleted: {why}");
                self.admit_again(now, uid, "PreemptionFailed", false);
            }
        }
    }

    fn admit_again(&mut self, now: Timestamp, uid: &PodUid, event: &'static str, backoff: bool) {
        if let Some(pod) = self.unqueue(uid) {
            self.admit(now, pod, event, backoff);
        }
    }

    /// Evictions that are never answered, which only a bug can cause, must not hold a pod for ever.
    pub(super) fn time_out_evictions(&mut self, now: Timestamp) {
        let overdue = self.settings.answer_overdue;
        let late: Vec<PodUid> =
            self.preempting.iter().filter(|(_, preempting)| now.since(preempting.since) >= overdue).map(|(uid, _)| uid.clone()).collect();
        for uid in late {
            self.observer.impossible("eviction_without_answer");
            self.on_evicted(now, &uid, &Err("no answer came in time".to_owned()));
        }
    }

    pub(super) fn check_nominations(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut count = 0;
        for (node, nominee) in self.nominations.iter() {
            count += 1;
            let pod = self.queue.get(&nominee.uid);
            let agrees = |pod: &QueuedPod| pod.nominated == Some(node) && pod.class == nominee.class && pod.priority == nominee.priority;
            if !pod.is_some_and(agrees) {
                faults.push(format!("pod {} is nominated otherwise than it says", nominee.uid));
            }
        }
        if self.queue.iter().filter(|pod| pod.nominated.is_some()).count() != count {
            faults.push("pods that are nominated are not those that say so".into());
        }
        let lost = self.preempting.keys().filter(|uid| !self.queue.contains(uid));
        faults.extend(lost.map(|uid| format!("pod {uid} waits for victims and is not queued")));
        faults
    }
}

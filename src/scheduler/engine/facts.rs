//! What observed nodes and pods change: facts in; cache and queue brought in line, and the cured woken up.

use rustc_hash::FxHashSet;

use super::Engine;
use crate::{
    model::{
        budget::BudgetFacts,
        ids::{ClassIx, ClusterId, NodeIx, NodeKey, PodUid, ProfileIx},
        labels::{LabelFacts, Labels},
        node::NodeFacts,
        placement::{PLACEMENT, RUN_HOME_UID},
        pod::PodFacts,
        selector::LabelSelectorFacts,
        terms::SelectingKind,
        time::Timestamp,
    },
    scheduler::{
        cache::Observed,
        change::{Change, Changes},
        gangs::Touched,
        input::{Command, List},
        queue::QueuedPod,
    },
};

impl Engine {
    pub(super) fn on_node(&mut self, now: Timestamp, facts: NodeFacts) {
        let (cluster, name) = (facts.cluster, facts.name.clone());
        let Some(facts) = self.usable(facts) else { return self.drop_unusable(now, cluster, &name) };
        let (ix, what, old) = self.cache.nodes.apply(&facts);
        if !what.is_none() {
            self.wake_for_node(now, ix, what, old.as_ref());
        }
        self.sweep_symbols();
    }

    pub(super) fn on_node_gone(&mut self, now: Timestamp, key: &NodeKey) {
        self.cache.nodes.clusters.forget_node(key);
        if let Some(ix) = self.cache.nodes.find(key.cluster, &key.name) {
            self.remove_node(now, ix);
        }
    }

    /// A node is gone: whoever it kept waiting is tried again.
    pub(super) fn remove_node(&mut self, now: Timestamp, ix: NodeIx) {
        let old = self.queue.has_unschedulable().then(|| self.cache.nodes.get(ix).clone());
        self.cache.nodes.remove(ix);
        self.wake(now, &Change::NodeDelete(old.as_ref().filter(|node| node.present)));
    }

    pub(super) fn on_nodes_listed(&mut self, now: Timestamp, cluster: ClusterId, names: &FxHashSet<Box<str>>, out: &mut Vec<Command>) {
        self.cache.nodes.clusters.retain_nodes(cluster, |name| names.contains(name));
        let known = self.cache.nodes.iter().filter(|(_, node)| node.cluster == cluster);
        let gone: Vec<NodeIx> = known.map(|(ix, _)| ix).filter(|ix| !names.contains(self.cache.nodes.name(*ix))).collect();
        for ix in gone {
            self.remove_node(now, ix);
        }
        self.nodes_listed.insert(cluster);
        self.resume_intents(now, out);
    }

    pub(super) fn on_pod(&mut self, now: Timestamp, facts: PodFacts, out: &mut Vec<Command>) {
        if facts.finished {
            return self.on_pod_gone(now, facts.cluster, &facts.uid, out);
        }
        let (touched, uid) = (self.see_member(&facts), facts.uid.clone());
        match facts.node_name.clone() {
            Some(node) if facts.cluster == ClusterId::HOME => self.on_bound_pod(now, &facts, &node),
            Some(node) => self.on_pod_abroad(now, &facts, &node),
            None if facts.cluster == ClusterId::HOME => self.on_pending_pod(now, facts, out),
            None => {}
        }
        self.regroup(now, touched, &uid, out);
        self.sweep_symbols();
    }

    /// A pod of a compute cluster counts on its node there, unless it runs for a home pod that counts itself.
    fn on_pod_abroad(&mut self, now: Timestamp, facts: &PodFacts, node: &str) {
        if self.cache.nodes.clusters.get(facts.cluster).is_none() {
            return;
        }
        let class = self.cache.counted_class_of(facts);
        match facts.labels.iter().find(|(key, _)| **key == *RUN_HOME_UID) {
            Some((_, home)) => {
                let node = self.cache.nodes.symbols.intern(node);
                self.cache.observe_run(&facts.uid, &PodUid::from(&**home), facts.cluster, node, class);
            }
            None => self.on_counted_pod(now, facts, node, class),
        }
    }

    fn on_bound_pod(&mut self, now: Timestamp, facts: &PodFacts, node: &str) {
        self.drop_queued(now, &facts.uid);
        self.intents.remove(&facts.uid);
        if !self.is_held(facts, node) {
            let class = self.class_of(facts);
            self.on_counted_pod(now, facts, node, class);
        }
    }

    fn on_counted_pod(&mut self, now: Timestamp, facts: &PodFacts, node: &str, class: ClassIx) {
        let place = self.place_of(facts, node);
        let observed = self.cache.observe_at(&facts.uid, facts.cluster, place, class);
        self.acknowledged.remove(&facts.uid);
        let at = self.cache.placed(&facts.uid).map(|placed| placed.node);
        match (observed, at) {
            // What the decision has counted already may cure others from now on: affinity to it.
            (Observed::Added | Observed::Confirmed, Some(at)) => self.wake_for_pod(now, class, at, false),
            (Observed::Moved { from }, Some(at)) => {
                self.wake_for_pod(now, class, from, true);
                self.wake_for_pod(now, class, at, false);
            }
            (Observed::Changed { old }, Some(at)) => {
                self.wake_for_update(now, old, class, at);
                self.release_class(old);
            }
            (Observed::Unchanged, _) | (_, None) => {}
        }
    }

    pub(super) fn on_pending_pod(&mut self, now: Timestamp, facts: PodFacts, out: &mut Vec<Command>) {
        self.intents.remove(&facts.uid);
        self.drop_held(&facts.uid);
        if let Some(flight) = self.flights.get_mut(&facts.uid) {
            // On its way already. What changed meanwhile matters only if the binding fails.
            tracing::trace!(pod = %facts.key, since = flight.since.0, "an update of a pod on its way is put aside");
            if self.cache.nodes.get(flight.node).cluster != ClusterId::HOME {
                flight.update = Some(Box::new(facts));
            }
            return;
        }
        if self.acknowledged.contains(&facts.uid) {
            return;
        }
        if let Some((placed, last)) = self.cache.remove(&facts.uid) {
            // An object cannot lose its node; whoever made this happen, the pod is schedulable again.
            self.observer.impossible("bound_pod_became_pending");
            self.left_nodes.remove(&facts.uid);
            self.after_release(placed.class, last);
        }
        let scheduler = self.cache.nodes.symbols.get(&facts.spec.scheduler_name);
        let profile = scheduler.and_then(|name| self.profiles.named(name));
        match profile {
            Some(profile) if !facts.deleting && facts.recorded.as_ref().is_some_and(|recorded| recorded.intent) => {
                self.resume(now, profile, facts, out);
            }
            Some(profile) if !facts.deleting => self.enqueue(now, profile, facts, out),
            _ => {
                self.drop_queued(now, &facts.uid);
                self.cache.forget_labels(&facts.uid);
            }
        }
    }

    fn enqueue(&mut self, now: Timestamp, profile: ProfileIx, facts: PodFacts, out: &mut Vec<Command>) {
        let class = self.class_of(&facts);
        let nominated = facts.nominated_node.clone().unwrap_or_default();
        let unchanged = |old: &QueuedPod| old.class == class && *old.gates == *facts.gates && old.profile == profile;
        if self.queue.get(&facts.uid).is_some_and(unchanged) {
            self.cache.release(class);
            self.queue.get_mut(&facts.uid).into_iter().for_each(|pod| pod.run_attempt = facts.run_attempt);
            return self.see_nomination_of(now, &facts.uid, nominated);
        }
        let old = self.unqueue(&facts.uid);
        let event = if old.is_some() { "UnscheduledPodUpdate" } else { "UnscheduledPodAdd" };
        let mut pod = match old {
            Some(mut old) => {
                let nominated = old.nominated;
                self.nominate(&mut old, None);
                self.release_class(old.class);
                old.class = class;
                old.priority = facts.spec.priority;
                self.nominate(&mut old, nominated);
                let (priority, run_attempt) = (facts.spec.priority, facts.run_attempt);
                QueuedPod { class, profile, priority, gates: facts.gates.into(), queued: now, run_attempt, ..old }
            }
            None => new_pod(now, profile, class, facts),
        };
        self.see_nomination(now, &mut pod, nominated);
        self.ask_platforms(now, class, |engine| engine.pod_ref(&pod), out);
        self.admit(now, pod, event, false);
    }

    /// The same of a pod that stays where it is in the queue.
    fn see_nomination_of(&mut self, now: Timestamp, uid: &PodUid, seen: Box<str>) {
        let Some(mut pod) = self.queue.get(uid).filter(|pod| pod.nominated_seen != seen).cloned() else { return };
        self.see_nomination(now, &mut pod, seen);
        if let Some(queued) = self.queue.get_mut(uid) {
            (queued.nominated, queued.nominated_seen) = (pod.nominated, pod.nominated_seen);
        }
    }

    pub(super) fn on_pod_gone(&mut self, now: Timestamp, cluster: ClusterId, uid: &PodUid, out: &mut Vec<Command>) {
        self.cache.forget_labels(uid);
        self.acknowledged.remove(uid);
        if cluster == ClusterId::HOME {
            self.drop_queued(now, uid);
            self.drop_held(uid);
            self.intents.remove(uid);
            self.left_nodes.remove(uid);
            let flight = self.land(uid);
            let touched = self.gangs.forget(uid);
            self.regroup(now, Touched { groups: touched.into_iter().collect(), is_another: false }, uid, out);
            if let Some(flight) = flight {
                // The answer to its binding will find nobody.
                self.unreserve(&flight.pod, flight.node);
                self.release_class(flight.pod.class);
            }
        }
        // Not what the home pod of a run is counted as: a run that is gone leaves that to the home watch.
        if cluster != ClusterId::HOME && self.cache.forget_run(uid) {
            return;
        }
        if let Some(placed) = self.cache.take(uid) {
            self.wake_for_pod(now, placed.class, placed.node, true);
            self.release_class(placed.class);
        }
    }

    pub(super) fn on_pods_listed(&mut self, now: Timestamp, cluster: ClusterId, uids: &FxHashSet<PodUid>, out: &mut Vec<Command>) {
        let mut gone = self.cache.missing_from(cluster, |uid| uids.contains(uid));
        if cluster == ClusterId::HOME {
            gone.extend(self.queue.iter().filter(|pod| !uids.contains(&pod.uid)).map(|pod| pod.uid.clone()));
            gone.extend(self.held.keys().chain(self.intents.keys()).filter(|uid| !uids.contains(uid)).cloned());
            gone.extend(self.gangs.missing_from(|uid| uids.contains(uid)));
        } else {
            gone.extend(self.cache.runs_missing_from(cluster, |uid| uids.contains(uid)));
        }
        gone.sort_unstable();
        gone.dedup();
        for uid in gone {
            self.on_pod_gone(now, cluster, &uid, out);
        }
        self.pods_listed.insert(cluster);
        self.resume_intents(now, out);
    }

    pub(super) fn drop_queued(&mut self, now: Timestamp, uid: &PodUid) {
        self.preempting.remove(uid);
        if let Some(mut queued) = self.unqueue(uid) {
            self.withdraw_nomination(now, &mut queued);
            self.release_class(queued.class);
        }
    }

    /// The class of a pod, with one hold for the caller.
    pub(super) fn class_of(&mut self, facts: &PodFacts) -> ClassIx {
        self.cache.class_of(facts)
    }

    /// Gives one hold of a class back; the last one takes what was kept for the class along.
    pub(super) fn release_class(&mut self, class: ClassIx) {
        let last = self.cache.release(class);
        self.after_release(class, last);
    }

    pub(super) fn after_release(&mut self, class: ClassIx, last: bool) {
        if last {
            self.views.forget_class(class, self.specs.len());
        }
    }

    fn wake_for_node(&mut self, now: Timestamp, ix: NodeIx, what: Changes, old: Option<&crate::model::node::NodeRecord>) {
        if what == Changes::NODE_IMAGES {
            return;
        }
        let new = self.cache.nodes.get(ix).clone();
        self.wake(now, &Change::Node { old, new: &new, what });
    }

    pub(super) fn wake_for_pod(&mut self, now: Timestamp, class: ClassIx, node: NodeIx, gone: bool) {
        if !self.queue.has_unschedulable() {
            return;
        }
        let Some(class) = self.cache.classes.get(class).cloned() else { return };
        let change = if gone { Change::PodDelete { class: &class, node } } else { Change::PodAdd { class: &class, node } };
        self.wake(now, &change);
    }

    /// A bound pod has another class: one change for each kind of it, as upstream tells them.
    fn wake_for_update(&mut self, now: Timestamp, old: ClassIx, new: ClassIx, node: NodeIx) {
        if !self.queue.has_unschedulable() {
            return;
        }
        let (Some(old), Some(new)) = (self.cache.classes.get(old).cloned(), self.cache.classes.get(new).cloned()) else { return };
        if old.labels != new.labels {
            self.wake(now, &Change::PodLabels { old: &old, new: &new, node });
        }
        if old.requests != new.requests {
            self.wake(now, &Change::PodScaleDown { old: &old, new: &new, node });
        }
    }

    /// Pods that have a label which nobody read until now get the classes that tell them apart by it.
    pub(super) fn recast_pods(&mut self) {
        for uid in self.cache.take_miscast() {
            if let Some(placed) = self.cache.placed(&uid)
                && let Some(class) = self.cache.recast(&uid, placed.class)
            {
                let old = self.cache.recast_placed(&uid, placed, class);
                self.release_class(old);
            }
            let run = self.cache.class_of_run(&uid).and_then(|class| self.cache.recast(&uid, class));
            let run = run.and_then(|class| self.cache.recast_run(&uid, class));
            let waiting = self.queue.get(&uid).map(|pod| pod.class).and_then(|class| self.cache.recast(&uid, class));
            let waiting = waiting.and_then(|class| self.recast_queued(&uid, class));
            let flying = self.flights.get(&uid).map(|flight| flight.pod.class).and_then(|class| self.cache.recast(&uid, class));
            let flying = flying.and_then(|class| Some(std::mem::replace(&mut self.flights.get_mut(&uid)?.pod.class, class)));
            let held = self.held.get(&uid).map(|held| held.class).and_then(|class| self.cache.recast(&uid, class));
            let held = held.and_then(|class| Some(std::mem::replace(&mut self.held.get_mut(&uid)?.class, class)));
            for old in [run, waiting, flying, held].into_iter().flatten() {
                self.release_class(old);
            }
        }
    }

    fn recast_queued(&mut self, uid: &PodUid, class: ClassIx) -> Option<ClassIx> {
        let node = self.queue.get(uid).and_then(|pod| pod.nominated);
        node.into_iter().for_each(|node| self.nominations.recast(node, uid, class));
        self.queue.recast(uid, class)
    }

    // === what selectors read ===

    pub(super) fn on_namespace(&mut self, now: Timestamp, name: &str, labels: Option<&LabelFacts>) {
        let placement = labels.and_then(|labels| labels.iter().find(|(key, _)| **key == *PLACEMENT)).map(|(_, value)| value.clone());
        let nodes = &mut self.cache.nodes;
        let is_moved = nodes.clusters.set_namespace(name, placement.filter(|placement| !placement.is_empty()));
        let labels = labels.map(|labels| Labels::intern(labels, &mut nodes.symbols));
        let (sym, before) = (nodes.symbols.intern(name), nodes.terms.namespaces_version());
        let touched = nodes.terms.set_namespace(sym, labels);
        touched.into_iter().for_each(|ix| nodes.touch_usage(ix));
        if is_moved || before != nodes.terms.namespaces_version() {
            self.wake(now, &Change::Namespace(name));
        }
    }

    pub(super) fn on_namespaces_listed(&mut self, now: Timestamp, listed: &FxHashSet<Box<str>>, out: &mut Vec<Command>) {
        let nodes = &self.cache.nodes;
        let gone = nodes.terms.namespaces_missing_from(|name| listed.contains(nodes.symbols.text(name)));
        let gone: Vec<String> = gone.into_iter().map(|name| nodes.symbols.text(name).to_owned()).collect();
        gone.iter().for_each(|name| self.on_namespace(now, name, None));
        self.lists_due.remove(&List::Namespaces);
        self.resume_intents(now, out);
    }

    pub(super) fn on_selects(&mut self, kind: SelectingKind, namespace: &str, name: &str, selector: Option<&LabelSelectorFacts>) {
        let nodes = &mut self.cache.nodes;
        nodes.terms.set_selector(kind, namespace, name, selector, &mut nodes.symbols);
    }

    pub(super) fn on_selects_listed(&mut self, now: Timestamp, kind: SelectingKind, listed: &FxHashSet<Box<str>>, out: &mut Vec<Command>) {
        let nodes = &mut self.cache.nodes;
        let text = |sym| nodes.symbols.text(sym);
        nodes.terms.retain_selectors(kind, |namespace, name| listed.contains(&*format!("{}/{}", text(namespace), text(name))));
        self.lists_due.remove(&List::Selecting(kind));
        self.resume_intents(now, out);
    }

    // === budgets ===

    pub(super) fn on_budget(&mut self, facts: BudgetFacts) {
        self.budgets.apply(facts, &mut self.cache.nodes.symbols);
    }

    pub(super) fn on_budgets_listed(&mut self, now: Timestamp, listed: &FxHashSet<Box<str>>, out: &mut Vec<Command>) {
        self.budgets.retain(listed, &self.cache.nodes.symbols);
        self.lists_due.remove(&List::Budgets);
        self.resume_intents(now, out);
    }

    fn sweep_symbols(&mut self) {
        let Self { cache, nominations, budgets, .. } = self;
        cache.sweep_symbols(|mark| {
            nominations.symbols(mark);
            budgets.symbols(mark);
        });
    }
}

pub(super) fn new_pod(now: Timestamp, profile: ProfileIx, class: ClassIx, facts: PodFacts) -> QueuedPod {
    let condition = facts.unscheduled_condition.and_then(|(reason, message)| {
        let reason = super::attempt::CONDITION_REASONS.into_iter().find(|known| **known == *reason)?;
        Some((reason, message.into()))
    });
    QueuedPod {
        key: facts.key,
        uid: facts.uid,
        class,
        profile,
        priority: facts.spec.priority,
        gates: facts.gates.into(),
        condition,
        first_queued: None,
        queued: now,
        attempts: 0,
        unschedulable_count: 0,
        errors_in_a_row: 0,
        flushed: false,
        nominated: None,
        nominated_seen: Box::default(),
        run_attempt: facts.run_attempt,
        created: facts.created,
        unclear_binding: None,
    }
}

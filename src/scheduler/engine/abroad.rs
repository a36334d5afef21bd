//! Compute clusters in the engine: what supervisors say of them, home pods that are placed there, intents of an earlier leader, and a second choice within
//! a cluster. Facts in; cache, queue and what is held brought in line, and the cured woken up, out.

use super::{Engine, Flight, Stage};
use crate::{
    model::{
        cluster::ClusterFacts,
        ids::{ClassIx, ClusterId, NodeIx, PodKey, PodUid},
        image::Platforms,
        intern::Sym,
        labels::LabelFacts,
        placement::{self, RecordedPlacement},
        pod::PodFacts,
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        change::Change,
        clusters,
        input::{Command, PodRef},
        plugins::platforms_matter,
        queue::QueuedPod,
        view::ClassView,
    },
};

/// A home pod that is bound into a cluster which is not connected: counted when it comes. Holds its class.
#[derive(Debug)]
pub(super) struct Held {
    /// Name of the cluster.
    cluster: Box<str>,
    /// The node over there.
    node: Box<str>,
    pub(super) class: ClassIx,
}

/// How often intents are tried again for which nobody worked.
const INTENTS_EVERY: DurationMs = DurationMs::from_secs(1);

impl Engine {
    pub(super) fn on_cluster(&mut self, now: Timestamp, facts: ClusterFacts, out: &mut Vec<Command>) {
        let (id, name) = (facts.id, facts.name.clone());
        if id == ClusterId::HOME {
            return self.observer.impossible("home_as_compute_cluster");
        }
        let nodes = &mut self.cache.nodes;
        let reselected = nodes.clusters.apply(facts, &mut nodes.symbols);
        for key in reselected.remove {
            if let Some(ix) = self.cache.nodes.find(key.cluster, &key.name) {
                self.cache.nodes.remove(ix);
            }
        }
        for node in reselected.apply {
            self.cache.nodes.apply_without_images(node);
        }
        let held: Vec<PodUid> = self.held.iter().filter(|(_, held)| held.cluster == name).map(|(uid, _)| uid.clone()).collect();
        for uid in held {
            if let Some(Held { node, class, .. }) = self.held.remove(&uid) {
                let node = self.cache.nodes.symbols.intern(&node);
                self.cache.observe_at(&uid, ClusterId::HOME, (id, node), class);
            }
        }
        self.resume_intents(now, out);
        self.wake(now, &Change::Cluster(id));
    }

    /// Its nodes and what others run there are forgotten; home pods there are held until it comes back. One that is on its way has its answer to come.
    pub(super) fn on_cluster_gone(&mut self, now: Timestamp, id: ClusterId) {
        let Some(facts) = self.cache.nodes.clusters.remove(id) else { return };
        let nodes: Vec<NodeIx> = self.cache.nodes.iter().filter(|(_, node)| node.cluster == id).map(|(ix, _)| ix).collect();
        nodes.into_iter().for_each(|ix| self.cache.nodes.remove(ix));
        for uid in self.cache.runs_missing_from(id, |_| false) {
            self.cache.forget_labels(&uid);
            self.cache.forget_run(&uid);
        }
        for uid in self.cache.missing_from(id, |_| false) {
            self.cache.forget_labels(&uid);
            self.cache.remove(&uid);
        }
        for (uid, assumed) in self.cache.home_pods_in(id) {
            if assumed && self.flights.contains_key(&uid) {
                continue;
            }
            let Some(placed) = self.cache.take(&uid) else { continue };
            self.acknowledged.remove(&uid);
            self.left_nodes.remove(&uid);
            let node = self.cache.nodes.name(placed.node).into();
            self.held.insert(uid, Held { cluster: facts.name.clone(), node, class: placed.class });
        }
        self.nodes_listed.remove(&id);
        self.pods_listed.remove(&id);
        self.wake(now, &Change::NodeDelete(None));
    }

    pub(super) fn on_claim(&mut self, now: Timestamp, namespace: &str, name: Box<str>, labels: Option<LabelFacts>) {
        if self.cache.nodes.clusters.set_claim(namespace, name, labels) {
            self.wake(now, &Change::Claim { namespace });
        }
    }

    /// A node of home with our label, or one of a compute cluster as its object may be used. `None`: it is none to place pods on.
    pub(super) fn usable(&mut self, facts: crate::model::node::NodeFacts) -> Option<crate::model::node::NodeFacts> {
        match facts.cluster {
            ClusterId::HOME if facts.is_virtual => None,
            ClusterId::HOME => Some(clusters::labelled(facts, placement::HOME_CLUSTER)),
            _ => self.cache.nodes.clusters.admit(facts),
        }
    }

    // === home pods in clusters ===

    /// A home pod is bound to a virtual Node. True if it needs no further look: held until its cluster comes, or counted where we know better.
    pub(super) fn is_held(&mut self, facts: &PodFacts, node: &str) -> bool {
        let uid = &facts.uid;
        let Some(recorded) = recorded_at(facts, node) else {
            // Annotations come with the binding. Without them somebody else bound it, unless it is one of ours whose annotations are being rewritten.
            self.drop_held(uid);
            return self.cache.placed(uid).is_some_and(|placed| {
                let cluster = self.cache.nodes.get(placed.node).cluster;
                let name = self.cache.nodes.clusters.name(cluster).filter(|_| cluster != ClusterId::HOME);
                name.is_some_and(|name| placement::is_virtual_node(node, name))
            });
        };
        if self.left_nodes.get(uid).is_some_and(|left| left.contains(&recorded.node)) {
            // Written before the pod was given another node; that one counts, and its annotation is to come.
            return true;
        }
        if self.cache.nodes.clusters.named(&recorded.cluster).is_some() {
            self.left_nodes.remove(uid);
            self.drop_held(uid);
            return false;
        }
        let (cluster, node) = (recorded.cluster.clone(), recorded.node.clone());
        let class = self.class_of(facts);
        self.drop_held(uid);
        self.acknowledged.remove(uid);
        self.left_nodes.remove(uid);
        if let Some((placed, last)) = self.cache.remove(uid) {
            self.after_release(placed.class, last);
        }
        self.held.insert(uid.clone(), Held { cluster, node, class });
        true
    }

    /// Where a bound pod counts.
    pub(super) fn place_of(&mut self, facts: &PodFacts, node: &str) -> (ClusterId, Sym) {
        let recorded = recorded_at(facts, node);
        let abroad = recorded.and_then(|recorded| Some((self.cache.nodes.clusters.named(&recorded.cluster)?, &*recorded.node)));
        let (cluster, name) = abroad.unwrap_or((facts.cluster, node));
        (cluster, self.cache.nodes.symbols.intern(name))
    }

    /// A pod is held no more.
    pub(super) fn drop_held(&mut self, uid: &PodUid) {
        if let Some(held) = self.held.remove(uid) {
            self.release_class(held.class);
        }
    }

    // === intents ===

    /// Takes up intents that waited for their cluster, for leadership, or for the first lists.
    pub(super) fn resume_intents(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if !self.may_decide() {
            return;
        }
        let known =
            |facts: &PodFacts| facts.recorded.as_ref().is_some_and(|recorded| self.cache.nodes.clusters.named(&recorded.cluster).is_some());
        let ready: Vec<PodUid> = self.intents.iter().filter(|(_, facts)| known(facts)).map(|(uid, _)| uid.clone()).collect();
        for uid in ready {
            if let Some(facts) = self.intents.remove(&uid) {
                self.on_pending_pod(now, *facts, out);
            }
        }
    }

    /// A pending pod bears an intent: it is on its way to that node already, and the order says so again. Held while that cannot be.
    pub(super) fn resume(&mut self, now: Timestamp, profile: crate::model::ids::ProfileIx, facts: PodFacts, out: &mut Vec<Command>) {
        let recorded = facts.recorded.clone().unwrap_or_default();
        let cluster = self.cache.nodes.clusters.named(&recorded.cluster);
        let (true, Some(cluster)) = (self.may_decide(), cluster) else {
            self.drop_queued(now, &facts.uid);
            self.intents.insert(facts.uid.clone(), Box::new(facts));
            return;
        };
        let node = self.cache.nodes.symbols.intern(&recorded.node);
        let class = self.class_of(&facts);
        let run_attempt = facts.run_attempt.saturating_sub(1);
        self.preempting.remove(&facts.uid);
        let mut old = self.unqueue(&facts.uid);
        if let Some(old) = &mut old {
            self.nominate(old, None);
            self.release_class(old.class);
        }
        let resumes = Some(Box::new(facts.clone()));
        let fresh = super::facts::new_pod(now, profile, class, facts);
        let pod = match old {
            Some(old) => QueuedPod { class, profile, queued: now, ..old },
            None => fresh,
        };
        let uid = pod.uid.clone();
        let pod = QueuedPod { run_attempt, attempts: pod.attempts.saturating_add(1), first_queued: pod.first_queued.or(Some(now)), ..pod };
        self.cache.classes.hold(class);
        let Some(node) = self.cache.assume_at(&uid, (cluster, node), class) else {
            self.observer.impossible("assumed_twice");
            self.release_class(class);
            return self.admit(now, pod, "IntentRefused", false);
        };
        let flight = Flight {
            pod,
            node,
            stage: Stage::Bind,
            since: now,
            started_ticks: self.observer.ticks(),
            resumes,
            settles_within: None,
            update: None,
        };
        out.push(self.bind_order(&flight));
        self.flights.insert(uid, flight);
    }

    /// An order to go on with an intent found nobody who works for its cluster, as right after a change of leaders. The run may be there already: until
    /// somebody can look, the pod goes nowhere else.
    pub(super) fn hold_intent(&mut self, now: Timestamp, facts: PodFacts, out: &mut Vec<Command>) {
        if facts.recorded.as_ref().is_none_or(|recorded| !recorded.intent) {
            return self.on_pending_pod(now, facts, out);
        }
        self.intents.insert(facts.uid.clone(), Box::new(facts));
        self.intents_due.get_or_insert(now + INTENTS_EVERY);
    }

    pub(super) fn retry_intents(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.intents_due.is_some_and(|due| due <= now) {
            self.intents_due = None;
            self.resume_intents(now, out);
        }
    }

    // === another node of the same cluster ===

    /// Rules are asked about every node, as `explain` does it: this is rare.
    pub(super) fn on_place_again(
        &mut self,
        now: Timestamp,
        key: PodKey,
        uid: PodUid,
        cluster: ClusterId,
        not_on: Vec<Box<str>>,
        out: &mut Vec<Command>,
    ) {
        let here = self.cache.placed(&uid).filter(|placed| self.cache.nodes.get(placed.node).cluster == cluster);
        let Some(placed) = here.filter(|placed| placed.cluster == ClusterId::HOME) else {
            return out.push(Command::PlacedAgain(uid, cluster, None));
        };
        // An engine that has just begun knows no image of pods that were placed before.
        let reference = |engine: &Self| engine.reference(key, uid.clone(), placed.class);
        self.ask_platforms(now, placed.class, reference, out);
        // Its own usage must not stand in its way.
        let (at, name) = (self.cache.nodes.get(placed.node).cluster, self.cache.nodes.get(placed.node).name);
        self.cache.take(&uid);
        // What keeps new pods away (contact that must settle, a cordon) does not concern one that is bound there and can go nowhere else.
        let closed = self.cache.nodes.clusters.open(cluster);
        let chosen = self.best_in(cluster, placed.class, &not_on);
        self.cache.nodes.clusters.close(cluster, closed);
        let name = chosen.map_or(name, |ix| self.cache.nodes.get(ix).name);
        self.cache.put_back(&uid, (at, name), &placed);
        let answer = chosen.map(|ix| Box::from(self.cache.nodes.name(ix)));
        if let (Some(node), Some(now_at)) = (chosen, self.cache.placed(&uid)) {
            if let Some(flight) = self.flights.get_mut(&uid) {
                flight.node = now_at.node;
            }
            self.left_nodes.insert(uid.clone(), not_on);
            self.wake_for_pod(now, placed.class, placed.node, true);
            debug_assert_eq!(node, now_at.node, "a slot moved");
        }
        out.push(Command::PlacedAgain(uid, cluster, answer));
    }

    fn reference(&self, key: PodKey, uid: PodUid, class: ClassIx) -> PodRef {
        let scheduler_name = self.cache.classes.get(class).map_or("", |class| self.cache.nodes.symbols.text(class.scheduler_name));
        PodRef { key, uid, scheduler_name: scheduler_name.into() }
    }

    fn best_in(&mut self, cluster: ClusterId, class: ClassIx, not_on: &[Box<str>]) -> Option<NodeIx> {
        let Self { cache, profiles, .. } = self;
        let ix = class;
        let class = cache.classes.get(ix)?;
        cache.nodes.terms.prepare(Some(ix), class);
        let profile = profiles.get(profiles.named(class.scheduler_name)?)?;
        let nodes = &cache.nodes;
        let view = ClassView::new(profile, class, nodes);
        if !matches!(view.outlook(), crate::scheduler::view::Outlook::Feasible(_)) {
            return None;
        }
        let feasible = view.feasible().ones().filter_map(|at| u32::try_from(at).ok().map(NodeIx));
        let wanted = feasible.filter(|ix| nodes.get(*ix).cluster == cluster && !not_on.iter().any(|name| **name == *nodes.name(*ix)));
        wanted.min_by(|one, other| view.total(*other).cmp(&view.total(*one)).then_with(|| nodes.name(*one).cmp(nodes.name(*other))))
    }

    // === platforms of images ===

    /// Somebody should find out about images of the class, if their platforms matter to it. Each image is asked about once.
    pub(super) fn ask_platforms(&mut self, now: Timestamp, class: ClassIx, pod: impl FnOnce(&Self) -> PodRef, out: &mut Vec<Command>) {
        let nodes = &mut self.cache.nodes;
        if !nodes.clusters.any() || !self.leading {
            return;
        }
        let Some(class) = self.cache.classes.get(class) else { return };
        if !platforms_matter(class, nodes) {
            return;
        }
        let asked = nodes.platforms.ask(now, class.container_images());
        if asked.is_empty() {
            return;
        }
        let images = asked.into_iter().map(|image| nodes.symbols.text(image).into()).collect();
        out.push(Command::ResolveImages(pod(self), images));
        self.sweep_images();
    }

    pub(super) fn on_platforms(&mut self, now: Timestamp, image: &str, platforms: Platforms) {
        let Some(image) = self.cache.nodes.symbols.get(image) else { return };
        if self.cache.nodes.platforms.told(now, image, platforms) {
            self.wake(now, &Change::Platforms(image));
        }
    }

    pub(super) fn time_out_platforms(&mut self, now: Timestamp) {
        for image in self.cache.nodes.platforms.take_overdue(now) {
            self.wake(now, &Change::Platforms(image));
        }
    }

    /// Forgets images that no pod has any more, when it is worth its while.
    fn sweep_images(&mut self) {
        if self.cache.nodes.platforms.sweep_is_due() {
            let used: rustc_hash::FxHashSet<Sym> =
                self.cache.classes.iter().flat_map(|(_, class, _)| class.container_images().iter().copied()).collect();
            self.cache.nodes.platforms.retain(|image| used.contains(&image));
        }
    }

    /// A node of a compute cluster ceased to be usable.
    pub(super) fn drop_unusable(&mut self, now: Timestamp, cluster: ClusterId, name: &str) {
        if let Some(ix) = self.cache.nodes.find(cluster, name).filter(|ix| self.cache.nodes.get(*ix).present) {
            self.remove_node(now, ix);
        }
    }
}

/// The recorded decision of a home pod, if `node` is the virtual Node that it speaks of: on any other node its annotations were copied from somewhere.
fn recorded_at<'a>(facts: &'a PodFacts, node: &str) -> Option<&'a RecordedPlacement> {
    let recorded = facts.recorded.as_deref().filter(|_| facts.cluster == ClusterId::HOME)?;
    placement::is_virtual_node(node, &recorded.cluster).then_some(recorded)
}

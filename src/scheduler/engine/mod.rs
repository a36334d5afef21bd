//! The engine: every [`Input`] in, every [`Command`] out. It owns cache, queue, profiles and views; nothing else writes them.
//!
//! One attempt, top to bottom, is in [`attempt`]; what observed objects change in [`facts`]; who is tried again because of it in [`requeue`]; what
//! becomes of a binding in [`binding`], what extenders have to do with it in [`extend`], and of volumes before it in [`storage`]; what compute clusters add to
//! all of it in [`abroad`]. Pods that are placed together or not at all are in [`members`] and [`together`].

mod abroad;
mod attempt;
mod binding;
mod extend;
mod facts;
mod members;
mod nominate;
mod requeue;
pub(super) mod room;
mod storage;
mod together;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use abroad::Held;
use extend::Extenders;
pub use members::PLUGIN as GROUP_PLUGIN;
use nominate::Preempting;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    cache::Cache,
    gangs::Gangs,
    input::{Command, Input, List, PodRef},
    observe::{Gauges, Observer},
    preemption::{Budgets, Nominations},
    profile::ProfileSpec,
    profiles::{OutOfTree, ProfileError, Profiles},
    queue::{Backoff, Queue, QueuedPod},
    view::Views,
};
use crate::model::{
    ids::{ClusterId, NodeIx, PodUid},
    pod::PodFacts,
    time::{DurationMs, Timestamp},
};

/// Tells the generator of searches for room from that of ties.
const ROOM_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bounds and seeds of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Seed of tie-breaks, for profiles that do not set their own.
    pub seed: u64,
    /// How long failed pods wait.
    pub backoff: Backoff,
    /// Decisions that wait for the API server at any time. More would only age in a line; fewer would leave the server idle.
    pub binds_in_flight_max: usize,
    /// Bytes of kept answers; the least recently used classes are asked about anew beyond it.
    pub view_bytes_max: usize,
    /// A binding without any answer for this long counts as failed: far beyond the binder's own time-out, so only a bug gets here.
    pub answer_overdue: DurationMs,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            backoff: Backoff::default(),
            binds_in_flight_max: 256,
            view_bytes_max: 64 << 20,
            answer_overdue: DurationMs::from_secs(300),
        }
    }
}

/// See [`Engine::parts_to_explain`].
pub(super) struct Parts<'a> {
    pub(super) cache: &'a mut Cache,
    pub(super) profiles: &'a mut Profiles,
    pub(super) nominations: &'a Nominations,
    pub(super) budgets: &'a Budgets,
}

/// A pod that has its node and is on its way to being bound.
#[derive(Debug)]
struct Flight {
    pod: QueuedPod,
    node: NodeIx,
    stage: Stage,
    since: Timestamp,
    started_ticks: u64,
    /// The pod as it was seen, when the decision was made by an earlier leader and its annotations say so.
    resumes: Option<Box<PodFacts>>,
    /// How long what PreBind plugins write may take to come true, if it has to.
    settles_within: Option<DurationMs>,
    /// What the watch said last while it was on its way to a compute cluster: an intent may be written by then, and the number of a run used up.
    update: Option<Box<PodFacts>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Held by Permit plugins, each until its deadline.
    Permit(Vec<(&'static str, Timestamp)>),
    /// Work of PreBind plugins that is still to be answered.
    PreBind(usize),
    /// What they wrote has to come true, until this time.
    Settle(Timestamp),
    /// Ready to be bound, and waits for others of its group until this time.
    Gathered(Timestamp),
    /// The binding was ordered.
    Bind,
}

/// The scheduler without its clock, its threads and its API server.
pub struct Engine {
    cache: Cache,
    queue: Queue,
    profiles: Profiles,
    specs: Vec<ProfileSpec>,
    out_of_tree: OutOfTree,
    views: Views,
    flights: FxHashMap<PodUid, Flight>,
    /// Those of them that wait for what PreBind plugins wrote to come true. They may be many and wait for long, and hold up nobody.
    settling: BTreeSet<PodUid>,
    /// When all of these were looked at last.
    settle_looked: Timestamp,
    /// Bound as far as the API server answered, not yet seen so by the watch.
    acknowledged: FxHashSet<PodUid>,
    /// Bound into clusters that are not connected.
    held: BTreeMap<PodUid, Held>,
    /// Pending pods with an intent that cannot be resumed yet.
    intents: BTreeMap<PodUid, Box<PodFacts>>,
    /// When those are tried again for which nobody worked yet.
    intents_due: Option<Timestamp>,
    /// Nodes that a pod in a cluster has left for another one, until its annotations say so too.
    left_nodes: FxHashMap<PodUid, Vec<Box<str>>>,
    /// Pods that are to get a node which they do not have yet.
    nominations: Nominations,
    budgets: Budgets,
    gangs: Gangs,
    /// A group is on its way: who waits for whom is looked at when all of it is.
    launching_group: bool,
    preempting: BTreeMap<PodUid, Preempting>,
    extenders: Extenders,
    settings: EngineSettings,
    rng: Pcg64Mcg,
    /// Where searches for room begin; a generator of its own, so that they do not change which nodes win ties.
    room_rng: Pcg64Mcg,
    sample_start: usize,
    leading: bool,
    leading_since: Timestamp,
    pods_listed: BTreeSet<ClusterId>,
    nodes_listed: BTreeSet<ClusterId>,
    /// Lists of home that are to come before anything is decided.
    lists_due: BTreeSet<List>,
    observer: Box<dyn Observer>,
}

impl Engine {
    /// An engine that knows nothing yet and does not lead.
    pub fn new(
        specs: Vec<ProfileSpec>,
        out_of_tree: OutOfTree,
        settings: EngineSettings,
        observer: Box<dyn Observer>,
    ) -> Result<Self, ProfileError> {
        let mut cache = Cache::with_room();
        let profiles = Profiles::build(&specs, &out_of_tree, settings.seed, &mut cache.nodes.symbols)?;
        Ok(Self {
            cache,
            queue: Queue::new(settings.backoff),
            profiles,
            specs,
            out_of_tree,
            views: Views::new(settings.view_bytes_max),
            flights: FxHashMap::default(),
            settling: BTreeSet::new(),
            settle_looked: Timestamp(0),
            acknowledged: FxHashSet::default(),
            held: BTreeMap::new(),
            intents: BTreeMap::new(),
            intents_due: None,
            left_nodes: FxHashMap::default(),
            nominations: Nominations::default(),
            budgets: Budgets::default(),
            gangs: Gangs::default(),
            launching_group: false,
            preempting: BTreeMap::new(),
            extenders: Extenders::default(),
            rng: Pcg64Mcg::seed_from_u64(settings.seed),
            room_rng: Pcg64Mcg::seed_from_u64(settings.seed ^ ROOM_SEED),
            settings,
            sample_start: 0,
            leading: false,
            leading_since: Timestamp(0),
            pods_listed: BTreeSet::new(),
            nodes_listed: BTreeSet::new(),
            lists_due: BTreeSet::new(),
            observer,
        })
    }

    /// Takes in one fact and appends the effects that follow from it.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>) {
        match input {
            Input::Node(facts) => self.on_node(now, *facts),
            Input::NodeGone(key) => self.on_node_gone(now, &key),
            Input::NodesListed(cluster, names) => self.on_nodes_listed(now, cluster, &names, out),
            Input::Pod(facts) => self.on_pod(now, *facts, out),
            Input::PodGone(cluster, uid) => self.on_pod_gone(now, cluster, &uid, out),
            Input::PodsListed(cluster, uids) => self.on_pods_listed(now, cluster, &uids, out),
            Input::Bound(uid) => self.on_bound(now, &uid, out),
            Input::BindFailed(uid, failure) => self.on_bind_failed(now, &uid, failure, out),
            Input::PreBound(uid, done) => self.on_pre_bound(now, &uid, done, out),
            Input::Permit(uid, verdict) => self.on_permit(now, &uid, verdict, out),
            Input::Leading(leading) => {
                self.leading = leading;
                self.leading_since = now;
                self.resume_intents(now, out);
            }
            Input::Profiles(specs) => self.on_profiles(now, specs),
            Input::Extenders(generation, specs) => self.on_extenders(now, generation, specs),
            Input::Extended(uid, number, answer) => self.on_extended(now, &uid, number, answer, out),
            Input::Cluster(facts) => self.on_cluster(now, *facts, out),
            Input::ClusterGone(cluster) => self.on_cluster_gone(now, cluster),
            Input::AwaitLists => self.lists_due.extend(List::all()),
            Input::Namespace(name, labels) => self.on_namespace(now, &name, labels.as_ref()),
            Input::NamespacesListed(names) => self.on_namespaces_listed(now, &names, out),
            Input::Selects(kind, namespace, name, selector) => self.on_selects(kind, &namespace, &name, selector.as_ref()),
            Input::SelectsListed(kind, names) => self.on_selects_listed(now, kind, &names, out),
            Input::Storage(facts) => self.on_storage(now, facts, out),
            Input::StorageGone(kind, key) => self.on_storage_gone(now, kind, &key, out),
            Input::StorageListed(kind, keys) => self.on_storage_listed(now, kind, &keys, out),
            Input::Budget(facts) => self.on_budget(*facts),
            Input::BudgetGone(namespace, name) => self.budgets.remove(&namespace, &name, &self.cache.nodes.symbols),
            Input::BudgetsListed(names) => self.on_budgets_listed(now, &names, out),
            Input::PodGroup(facts) => self.on_pod_group(now, *facts, out),
            Input::PodGroupGone(namespace, name) => self.gangs.remove_pod_group(&namespace, &name),
            Input::PodGroupsListed(names) => self.on_pod_groups_listed(&names),
            Input::Evicted(uid, outcome) => self.on_evicted(now, &uid, &outcome),
            Input::ImagePlatforms(image, platforms) => self.on_platforms(now, &image, platforms),
            Input::PlaceAgain { key, uid, cluster, not_on } => self.on_place_again(now, key, uid, cluster, not_on, out),
            Input::Tick => self.on_tick(now, out),
            Input::Schedule { attempts_max } => self.schedule(now, attempts_max, out),
        }
        // While lists are still coming, labels begin to be read one after the other: that is done once, at their end.
        if self.cache.nodes.terms.has_newly_read() && self.has_lists() {
            self.recast_pods();
        }
    }

    /// Whether there is a pod to try and room to bind it.
    pub fn wants_schedule(&self) -> bool {
        let has_next = || self.queue.has_next() || self.extenders.has_turn();
        let waiting = self.settling.len() + self.gangs.gathered();
        self.may_decide() && has_next() && self.flights.len() - waiting < self.settings.binds_in_flight_max
    }

    /// Nothing is decided before we lead and have seen the whole of the home cluster.
    fn may_decide(&self) -> bool {
        self.leading && self.has_lists()
    }

    fn has_lists(&self) -> bool {
        self.lists_due.is_empty() && self.pods_listed.contains(&ClusterId::HOME) && self.nodes_listed.contains(&ClusterId::HOME)
    }

    /// When time alone will have something to do.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let flights = self.flights.values().map(|flight| match &flight.stage {
            Stage::Permit(waits) => waits.iter().map(|(_, until)| *until).min().unwrap_or(flight.since),
            Stage::PreBind(_) | Stage::Bind => flight.since + self.settings.answer_overdue,
            Stage::Settle(until) => (*until).min(self.settle_looked + storage::LOOK_PERIOD),
            Stage::Gathered(until) => *until,
        });
        let evictions = self.preempting.values().map(|preempting| preempting.since + self.settings.answer_overdue);
        let questions = self.extenders.next_wake(self.settings.answer_overdue);
        flights
            .chain(evictions)
            .chain(questions)
            .chain(self.intents_due)
            .chain(self.gangs.next_wake())
            .chain(self.queue.next_wake())
            .chain(self.cache.nodes.platforms.next_wake())
            .min()
    }

    /// Sizes of everything held.
    pub fn gauges(&self) -> Gauges {
        let (active, backoff, unschedulable, gated) = self.queue.sizes();
        // Pods that extenders are asked about lie where the queue holds pods back, and are being tried.
        let held = self.extenders.held().min(gated);
        let (active, gated) = (active + held, gated - held);
        let waiting = self.flights.values().filter(|flight| matches!(flight.stage, Stage::Permit(_) | Stage::Gathered(_))).count();
        Gauges {
            active,
            backoff,
            unschedulable,
            gated,
            nodes: self.cache.nodes.present(),
            pods: self.cache.pods(),
            assumed: self.cache.assumed(),
            waiting,
            classes: self.cache.classes.len(),
            view_bytes: self.views.bytes(),
            symbols: self.cache.nodes.symbols.len(),
        }
    }

    /// The cache, to read.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The profiles in force.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The queue, to read.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What `explain` works on: it interns the strings of the pod it is asked about. Classes are as the labels that are read by now make them.
    pub(super) fn parts_to_explain(&mut self) -> Parts<'_> {
        self.recast_pods();
        let Self { cache, profiles, nominations, budgets, .. } = self;
        Parts { cache, profiles, nominations, budgets }
    }

    /// Recomputes every derived state and compares: an empty list when all is well.
    pub fn consistency_check(&self) -> Vec<String> {
        let mut faults = self.cache.consistency_check();
        faults.extend(self.queue.consistency_check());
        let lost = self.cache.assumed_uids().filter(|uid| !self.flights.contains_key(*uid) && !self.acknowledged.contains(*uid));
        faults.extend(lost.map(|uid| format!("pod {uid} is assumed and on its way nowhere")));
        let stale = self.acknowledged.iter().filter(|uid| self.cache.placed(uid).is_none_or(|placed| !placed.assumed));
        faults.extend(stale.map(|uid| format!("pod {uid} is awaited by nobody")));
        for (ix, _, holds) in self.cache.classes.iter() {
            let queued = self.queue.iter().filter(|pod| pod.class == ix).count();
            let flying = self.flights.values().filter(|flight| flight.pod.class == ix).count();
            let placed = self.cache.placed_of_class(ix);
            let other = self.cache.runs_of_class(ix) + self.held.values().filter(|held| held.class == ix).count();
            if queued + flying + placed + other != holds as usize {
                faults.push(format!(
                    "class {} is held {holds} times by {placed} placed, {queued} queued, {flying} flying, {other} other pods",
                    ix.0
                ));
            }
        }
        faults.extend(self.check_nominations());
        faults.extend(self.extenders.consistency_check(|uid| self.queue.is_gated(uid)));
        faults.extend(self.flights.keys().filter(|uid| self.queue.contains(uid)).map(|uid| format!("pod {uid} flies and is queued")));
        let settling: BTreeSet<PodUid> =
            self.flights.iter().filter(|(_, flight)| matches!(flight.stage, Stage::Settle(_))).map(|(uid, _)| uid.clone()).collect();
        if settling != self.settling {
            faults.push("pods that wait for their volumes are not those that are said to".into());
        }
        faults.extend(self.gangs.consistency_check());
        let gathered = |(uid, flight): (&PodUid, &Flight)| matches!(flight.stage, Stage::Gathered(_)) != self.gangs.is_gathered(uid);
        if self.flights.iter().any(gathered) || self.gangs.gathered() > self.flights.len() {
            faults.push("pods that wait for their group are not those that are said to".into());
        }
        let booked = self.cache.nodes.storage.booked_pods().filter(|uid| !self.flights.contains_key(*uid));
        faults.extend(booked.map(|uid| format!("storage is booked for pod {uid}, which is not on its way")));
        let counted_too = self.held.keys().filter(|uid| self.cache.placed(uid).is_some() || self.queue.contains(uid));
        faults.extend(counted_too.map(|uid| format!("pod {uid} is held for its cluster and known elsewhere")));
        let queued_too = self.intents.keys().filter(|uid| self.cache.placed(uid).is_some() || self.queue.contains(uid));
        faults.extend(queued_too.map(|uid| format!("pod {uid} is held for its intent and known elsewhere")));
        let left = self.left_nodes.keys().filter(|uid| self.cache.placed(uid).is_none());
        faults.extend(left.map(|uid| format!("pod {uid} left nodes and is on none")));
        faults.sort_unstable();
        faults
    }

    fn on_profiles(&mut self, now: Timestamp, specs: Vec<ProfileSpec>) {
        match Profiles::build(&specs, &self.out_of_tree, self.settings.seed, &mut self.cache.nodes.symbols) {
            Ok(profiles) => {
                let old = std::mem::replace(&mut self.profiles, profiles);
                self.specs = specs;
                self.views.clear();
                self.refile_queue(now, &old);
            }
            // The configuration was validated before it came here.
            Err(error) => {
                tracing::error!(%error, "the new profiles cannot be built; the old ones stay");
                self.observer.impossible("profiles_refused");
            }
        }
    }

    fn pod_ref(&self, pod: &QueuedPod) -> PodRef {
        PodRef { key: pod.key.clone(), uid: pod.uid.clone(), scheduler_name: self.scheduler_name(pod) }
    }

    fn last_pod_ref(&self, pod: QueuedPod) -> PodRef {
        let scheduler_name = self.scheduler_name(&pod);
        PodRef { key: pod.key, uid: pod.uid, scheduler_name }
    }

    fn scheduler_name(&self, pod: &QueuedPod) -> Arc<str> {
        self.profiles.get(pod.profile).map_or_else(|| Arc::from(""), |profile| profile.name.clone())
    }
}

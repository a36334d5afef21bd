//! The engine in worlds that go wrong: an API server in miniature whose watch lags, whose answers get lost or come after the effect, whose pods and
//! nodes vanish at the worst moment. After every step the engine's books must balance; at the end nothing may be lost, doubled or leaked.
//!
//! Every third world has compute clusters as well, in miniature: they come and go, their watches lag and overtake that of home, intents are left behind by a
//! leader that died, and runs are refused and placed again. An order for a cluster is carried out as its runs worker would, without its details.

mod abroad;

use std::collections::{BTreeMap, VecDeque};

use isobar::{
    model::{
        ids::{ClusterId, NodeKey, PodKey, PodUid},
        node::NodeFacts,
        placement::is_virtual_node,
        pod::{PodFacts, PodSpecFacts},
        quantity::Quantity,
        requests::{ContainerRequests, PodRequests},
        selector::LabelSelectorFacts,
        terms::{AffinityTermFacts, PodAffinityFacts, SelectingKind, SpreadFacts, WhenUnsatisfiable},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        engine::{Engine, EngineSettings},
        input::{BindFailure, BindOrder, Command, ConditionOrder, EvictOrder, Input},
        observe::Silent,
        profile::ProfileSpec,
        profiles::OutOfTree,
        registry::Registry,
    },
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::first_lists::first_lists;

/// Seeds tried in a normal test run; `ISOBAR_SEEDS` sets another number.
const SEEDS: u64 = 1500;
const STEPS: usize = 120;
const NODES: u64 = 5;
/// One world in so many has pods of several priorities.
const PRIORITIES_EVERY: u64 = 2;
/// One world in so many has compute clusters.
const ABROAD_EVERY: u64 = 3;

struct World {
    rng: Pcg64Mcg,
    now: Timestamp,
    engine: Engine,
    /// The truth: what the API server has stored.
    pods: BTreeMap<PodUid, PodFacts>,
    nodes: BTreeMap<Box<str>, NodeFacts>,
    /// What the watches have not delivered yet, in order of each kind.
    pod_events: VecDeque<Input>,
    node_events: VecDeque<Input>,
    /// Orders on their way to the API server, and answers on their way back.
    orders: VecDeque<BindOrder>,
    evictions: VecDeque<EvictOrder>,
    answers: Vec<Input>,
    bindings: BTreeMap<PodUid, u32>,
    created: u64,
    seed: u64,
    /// The compute clusters that are connected.
    clusters: BTreeMap<ClusterId, abroad::Cluster>,
    /// What their watches have not delivered yet, and what supervisors say, in order.
    cluster_events: VecDeque<Input>,
    connected: u16,
    /// Answers to the question for another node.
    placed_again: Vec<(PodUid, ClusterId, Option<Box<str>>)>,
}

fn node(number: u64, cordoned: bool) -> NodeFacts {
    NodeFacts {
        name: format!("n{number}").into(),
        uid: format!("node-uid-{number}").into(),
        unschedulable: cordoned,
        labels: vec![("host".into(), format!("h{number}").into())],
        architecture: "amd64".into(),
        operating_system: "linux".into(),
        allocatable: [("cpu", 2), ("memory", 4 << 30), ("pods", 5)]
            .map(|(name, amount)| (name.into(), Quantity::from_units(amount)))
            .into_iter()
            .collect(),
        ..NodeFacts::default()
    }
}

fn pod(number: u64, cpu_milli: i64, gated: bool) -> PodFacts {
    let spec = [("cpu".into(), Quantity::from_milli(cpu_milli))].into_iter().collect();
    let requests =
        PodRequests { containers: vec![ContainerRequests { spec, ..ContainerRequests::default() }], ..PodRequests::default() }.sums();
    PodFacts {
        key: PodKey::new("default", &format!("p{number}")),
        uid: PodUid::from(&*format!("pod-uid-{number:06}")),
        gates: if gated { vec!["example.com/wait".into()] } else { Vec::new() },
        spec: PodSpecFacts { scheduler_name: "isobar-scheduler".into(), requests, ..PodSpecFacts::default() },
        ..PodFacts::default()
    }
}

/// Pods of the first application, or the first pod.
fn selecting(key: &str) -> LabelSelectorFacts {
    let value = if key == "app" { "app-0" } else { "p1" };
    LabelSelectorFacts { match_labels: vec![(key.into(), value.into())], ..LabelSelectorFacts::default() }
}

impl World {
    fn new(seed: u64) -> Self {
        let configuration = isobar::config::load(&[], &Registry::in_tree()).expect("the defaults are valid");
        let profile = ProfileSpec { scheduler_name: "isobar-scheduler".into(), ..configuration.profiles[0].clone() };
        let settings = EngineSettings { seed, binds_in_flight_max: 4, ..EngineSettings::default() };
        let engine = Engine::new(vec![profile], OutOfTree::default(), settings, Box::new(Silent)).expect("the profile builds");
        let mut world = Self {
            rng: Pcg64Mcg::seed_from_u64(seed),
            now: Timestamp(1_000_000),
            engine,
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pod_events: VecDeque::new(),
            node_events: VecDeque::new(),
            orders: VecDeque::new(),
            evictions: VecDeque::new(),
            answers: Vec::new(),
            bindings: BTreeMap::new(),
            created: 0,
            seed,
            clusters: BTreeMap::new(),
            cluster_events: VecDeque::new(),
            connected: 0,
            placed_again: Vec::new(),
        };
        first_lists([]).into_iter().for_each(|input| world.tell(input));
        if seed % ABROAD_EVERY == 1 {
            world.begin_abroad();
        }
        world
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.engine.handle(self.now, input, &mut out);
        for command in out {
            match command {
                Command::Bind(order) => self.orders.push_back(*order),
                Command::PlacedAgain(uid, cluster, node) => self.placed_again.push((uid, cluster, node)),
                Command::ResolveImages(_, images) => self.resolve(images),
                Command::Evict(order) => self.evictions.push_back(*order),
                Command::Condition(order) => self.note_nomination(&order),
                Command::PreBind(..) | Command::Event(_) | Command::GroupCondition(_) => {}
                Command::AskExtenders(_) | Command::BindThrough(..) => panic!("there are no extenders"),
            }
        }
        let faults = self.engine.consistency_check();
        assert!(faults.is_empty(), "seed {}: {faults:?}", self.seed);
    }

    fn step(&mut self) {
        if self.seed % ABROAD_EVERY == 1 && self.rng.random_bool(0.4) {
            return self.step_abroad();
        }
        match self.rng.random_range(0..16) {
            15 => self.serve_eviction(true),
            14 => self.choose_pods(),
            0..=2 => self.create_pod(),
            3 => self.change_node(),
            4 => self.delete_pod(),
            5 => self.ungate(),
            6..=7 => self.deliver(1),
            8 => self.tell(Input::Schedule { attempts_max: 3 }),
            9 => self.serve_order(),
            10 => self.answer(),
            11 => self.relist(),
            12 => {
                self.now = self.now + DurationMs(self.rng.random_range(0..4000));
                self.tell(Input::Tick);
            }
            _ => self.change_leader(),
        }
    }

    fn create_pod(&mut self) {
        self.created += 1;
        let mut pod = pod(self.created, self.rng.random_range(1..12) * 100, self.rng.random_bool(0.1));
        if self.seed % ABROAD_EVERY == 1 && self.rng.random_bool(0.3) {
            pod.spec.images = vec![abroad::IMAGES[self.rng.random_range(0..abroad::IMAGES.len())].0.into()];
        }
        if self.seed.is_multiple_of(PRIORITIES_EVERY) {
            pod.spec.priority = self.rng.random_range(0..3) * 10;
        }
        self.add_terms(&mut pod);
        self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Labels, one of them the pod's own; and wishes about other pods, which keep nobody from a node. Now and then somebody reads the own label.
    fn add_terms(&mut self, pod: &mut PodFacts) {
        pod.labels = vec![("app".into(), format!("app-{}", self.created % 2).into()), ("pod".into(), pod.key.name.clone().into())];
        let selector = Some(selecting(if self.rng.random_bool(0.1) { "pod" } else { "app" }));
        if self.rng.random_bool(0.3) {
            let term = AffinityTermFacts { label_selector: selector.clone(), topology_key: "host".into(), ..AffinityTermFacts::default() };
            pod.spec.pod_affinity = Some(Box::new(PodAffinityFacts { anti_preferred: vec![(3, term)], ..PodAffinityFacts::default() }));
        }
        if self.rng.random_bool(0.3) {
            pod.spec.spread.push(SpreadFacts {
                max_skew: 1,
                topology_key: "host".into(),
                when: WhenUnsatisfiable::ScheduleAnyway,
                min_domains: None,
                honor_node_affinity: true,
                honor_node_taints: false,
                selector,
            });
        }
    }

    /// A Service comes or goes, or a namespace changes its labels.
    fn choose_pods(&mut self) {
        let there = self.rng.random_bool(0.7);
        if self.rng.random_bool(0.5) {
            let selector = there.then(|| selecting(if self.rng.random_bool(0.2) { "pod" } else { "app" }));
            self.tell(Input::Selects(SelectingKind::Service, "default".into(), "s".into(), selector));
        } else {
            let labels = if there { vec![("team".into(), "a".into())] } else { Vec::new() };
            self.tell(Input::Namespace("default".into(), Some(labels)));
        }
    }

    fn delete_pod(&mut self) {
        let at = self.rng.random_range(0..self.pods.len().max(1));
        if let Some(uid) = self.pods.keys().nth(at).cloned() {
            self.pods.remove(&uid);
            self.pod_events.push_back(Input::PodGone(ClusterId::HOME, uid));
        }
    }

    fn ungate(&mut self) {
        if let Some(pod) = self.pods.values_mut().find(|pod| !pod.gates.is_empty()) {
            pod.gates.clear();
            self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
        }
    }

    fn change_node(&mut self) {
        let number = self.rng.random_range(0..NODES);
        let facts = node(number, self.rng.random_bool(0.2));
        if self.rng.random_bool(0.3) && self.nodes.remove(&facts.name).is_some() {
            // Whoever removes a node removes its pods, in time: here they stay, as pod garbage collection is late.
            self.node_events.push_back(Input::NodeGone(NodeKey::home(&facts.name)));
        } else {
            self.nodes.insert(facts.name.clone(), facts.clone());
            self.node_events.push_back(Input::Node(Box::new(facts)));
        }
    }

    fn deliver(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let event = if self.rng.random_bool(0.5) { self.pod_events.pop_front() } else { self.node_events.pop_front() };
            if let Some(event) = event {
                self.tell(event);
            }
        }
    }

    /// A nomination lands in the pod's status.
    fn note_nomination(&mut self, order: &ConditionOrder) {
        let Some(node) = &order.nominated_node else { return };
        if let Some(pod) = self.pods.get_mut(&order.pod.uid).filter(|pod| pod.node_name.is_none()) {
            pod.nominated_node = Some(node.clone()).filter(|node| !node.is_empty());
            self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
        }
    }

    /// The API server ends victims, or fails before, or in between, or after all is done.
    fn serve_eviction(&mut self, may_fail: bool) {
        let Some(order) = self.evictions.pop_front() else { return };
        let fate = if may_fail { self.rng.random_range(0..5) } else { 4 };
        let count = match fate {
            0 => 0,
            1 => order.victims.len() / 2,
            _ => order.victims.len(),
        };
        for (_, uid) in &order.victims[..count] {
            if self.pods.remove(uid).is_some() {
                self.pod_events.push_back(Input::PodGone(ClusterId::HOME, uid.clone()));
            }
        }
        let outcome = if fate < 3 { Err("500".to_owned()) } else { Ok(()) };
        self.answers.push(Input::Evicted(order.preemptor.uid, outcome));
    }

    /// The API server takes an order, or fails before, or fails after the effect.
    fn serve_order(&mut self) {
        let Some(order) = self.orders.pop_front() else { return };
        if order.node.cluster != ClusterId::HOME {
            return self.serve_abroad(&order, false);
        }
        let uid = order.pod.uid.clone();
        let fate = self.rng.random_range(0..10);
        if fate == 0 {
            self.answers.push(Input::BindFailed(uid, BindFailure::Failed("500 before the effect".into())));
            return;
        }
        if fate == 1 {
            self.answers.push(Input::BindFailed(uid, BindFailure::NotSent));
            return;
        }
        let answer = match self.pods.get_mut(&uid) {
            None => Input::BindFailed(uid.clone(), BindFailure::PodGone),
            Some(pod) if pod.node_name.is_some() => Input::BindFailed(uid.clone(), BindFailure::BoundElsewhere),
            Some(pod) => {
                abroad::bind_at_home(pod, &order);
                *self.bindings.entry(uid.clone()).or_default() += 1;
                self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
                // The answer may be lost even though the effect took place, and the look that follows too.
                if fate == 2 {
                    Input::BindFailed(uid.clone(), BindFailure::Failed("500 after the effect".into()))
                } else {
                    Input::Bound(uid.clone())
                }
            }
        };
        self.answers.push(answer);
    }

    fn answer(&mut self) {
        if !self.answers.is_empty() {
            let at = self.rng.random_range(0..self.answers.len());
            let answer = self.answers.swap_remove(at);
            self.tell(answer);
        }
    }

    /// The watch broke: everything undelivered is lost, and a complete list comes instead.
    fn relist(&mut self) {
        self.pod_events.clear();
        self.node_events.clear();
        for facts in self.nodes.values().cloned().collect::<Vec<_>>() {
            self.tell(Input::Node(Box::new(facts)));
        }
        let names = self.nodes.keys().cloned().collect();
        self.tell(Input::NodesListed(ClusterId::HOME, names));
        for facts in self.pods.values().cloned().collect::<Vec<_>>() {
            self.tell(Input::Pod(Box::new(facts)));
        }
        let uids = self.pods.keys().cloned().collect();
        self.tell(Input::PodsListed(ClusterId::HOME, uids));
    }

    fn change_leader(&mut self) {
        let leading = self.rng.random_bool(0.7);
        self.tell(Input::Leading(leading));
    }

    /// Faults end; everything under way arrives; time passes until nothing more happens.
    fn settle(&mut self) {
        self.tell(Input::Leading(true));
        self.open_clusters();
        for _ in 0..60 {
            self.reap();
            self.deliver_all();
            self.tell(Input::Schedule { attempts_max: 100 });
            while let Some(order) = self.orders.pop_front() {
                self.serve_honestly(&order);
            }
            while !self.evictions.is_empty() {
                self.serve_eviction(false);
            }
            while !self.answers.is_empty() {
                self.answer();
            }
            self.now = self.now + DurationMs::from_secs(11);
            self.tell(Input::Tick);
        }
        self.deliver_all();
    }

    fn deliver_all(&mut self) {
        while !(self.pod_events.is_empty() && self.node_events.is_empty() && self.cluster_events.is_empty()) {
            self.deliver(4);
            self.deliver_abroad();
        }
    }

    fn serve_honestly(&mut self, order: &BindOrder) {
        if order.node.cluster != ClusterId::HOME {
            return self.serve_abroad(order, true);
        }
        let uid = order.pod.uid.clone();
        let answer = match self.pods.get_mut(&uid) {
            None => Input::BindFailed(uid, BindFailure::PodGone),
            Some(pod) if pod.node_name.as_ref() == Some(&order.node.name) => Input::Bound(uid),
            Some(pod) if pod.node_name.is_some() => Input::BindFailed(uid, BindFailure::BoundElsewhere),
            Some(pod) => {
                abroad::bind_at_home(pod, order);
                *self.bindings.entry(uid.clone()).or_default() += 1;
                self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
                Input::Bound(uid)
            }
        };
        self.answers.push(answer);
    }

    fn audit(&self) {
        let seed = self.seed;
        assert!(self.bindings.values().all(|count| *count == 1), "seed {seed}: a pod was bound twice");
        let assumed: Vec<_> = self.engine.cache().assumed_uids().map(|uid| (uid, self.pods.get(uid))).collect();
        assert!(assumed.is_empty(), "seed {seed}: an assumption leaked: {assumed:?}");
        let gauges = self.engine.gauges();
        let waits = |pod: &&PodFacts| pod.node_name.is_none() && !self.awaits_cluster(pod);
        let pending: Vec<&PodFacts> = self.pods.values().filter(waits).collect();
        assert_eq!(gauges.active + gauges.backoff + gauges.unschedulable + gauges.gated, pending.len(), "seed {seed}: a pod was lost");
        for pod in pending.iter().filter(|pod| pod.gates.is_empty()) {
            let room = self.has_room(pod) || self.has_room_abroad(pod);
            assert!(!room, "seed {seed}: {} waits although a node has room", pod.key);
        }
        self.audit_abroad();
    }

    /// Straight from the truth: is there a node that takes the pod?
    fn has_room(&self, pod: &PodFacts) -> bool {
        let cpu = |pod: &PodFacts| pod.spec.requests.effective.get("cpu").unwrap_or_default().milli();
        self.nodes.values().filter(|node| !node.unschedulable).any(|node| {
            let on_node = || self.pods.values().filter(|other| other.node_name.as_deref() == Some(&*node.name));
            on_node().count() < 5 && on_node().map(cpu).sum::<i64>() + cpu(pod) <= 2000
        })
    }
}

#[test]
fn books_balance_whatever_goes_wrong() {
    let seeds = std::env::var("ISOBAR_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        world.audit();
    }
}

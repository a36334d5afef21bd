//! The cache against plain maps: random histories of nodes and pods in, the same sums on every node and no slot, class or symbol leaked out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        cluster::ClusterFacts,
        labels::Labels,
        node::{ImageFacts, NodeFacts},
        pod::PodSpecFacts,
        ports::{HostPort, Protocol},
        quantity::Quantity,
        requests::{ContainerRequests, PodRequests},
        selector::LabelSelectorFacts,
        taints::{Effect, TaintFacts},
        terms::{AffinityTermFacts, PodAffinityFacts},
    },
    scheduler::change::Changes,
};

const CLUSTERS: u16 = 2;
const NAMES: u8 = 3;
const PODS: u8 = 6;
const SPECS: u8 = 4;
const RUNS: u8 = 4;
const GPU: &str = "nvidia.com/gpu";

type Place = (u16, u8);

#[derive(Clone, Debug)]
enum Step {
    Apply {
        place: Place,
        shape: u8,
    },
    Gone {
        place: Place,
    },
    /// Seen by the watch of its node's cluster, or by that of home.
    Observe {
        pod: u8,
        place: Place,
        spec: u8,
        by_home: bool,
    },
    /// The watch of cluster 1 shows a run for a pod.
    Run {
        run: u8,
        home: u8,
        name: u8,
        spec: u8,
    },
    RunGone {
        run: u8,
    },
    /// Cluster 1 says what is left of its quota, or goes.
    Told {
        left: u8,
    },
    ClusterGone,
    Assume {
        pod: u8,
        place: Place,
        spec: u8,
    },
    Forget {
        pod: u8,
    },
    Remove {
        pod: u8,
    },
    Take {
        pod: u8,
    },
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..CLUSTERS, 0..NAMES);
    let step = prop_oneof![
        4 => (place(), 0..5_u8).prop_map(|(place, shape)| Step::Apply { place, shape }),
        3 => place().prop_map(|place| Step::Gone { place }),
        5 => (0..PODS, place(), 0..SPECS, any::<bool>()).prop_map(|(pod, place, spec, by_home)| Step::Observe { pod, place, spec, by_home }),
        3 => (0..RUNS, 0..PODS, 0..NAMES, 0..SPECS).prop_map(|(run, home, name, spec)| Step::Run { run, home, name, spec }),
        2 => (0..RUNS).prop_map(|run| Step::RunGone { run }),
        2 => (0..3_u8).prop_map(|left| Step::Told { left }),
        1 => Just(Step::ClusterGone),
        5 => (0..PODS, place(), 0..SPECS).prop_map(|(pod, place, spec)| Step::Assume { pod, place, spec }),
        3 => (0..PODS).prop_map(|pod| Step::Forget { pod }),
        3 => (0..PODS).prop_map(|pod| Step::Remove { pod }),
        2 => (0..PODS).prop_map(|pod| Step::Take { pod }),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 0..60)
}

/// The shapes differ in each kind of change, and every one brings strings of its own.
fn node(place: Place, shape: u8) -> NodeFacts {
    let (cluster, name) = place;
    let image = |name: &str| ImageFacts { names: vec![name.into()], size_bytes: i64::try_from(name.len()).unwrap_or(0) };
    NodeFacts {
        cluster: ClusterId(cluster),
        name: format!("n{name}").into(),
        uid: format!("uid-{cluster}-{name}").into(),
        labels: vec![("zone".into(), format!("zone-{}", shape % 2).into()), ("host".into(), format!("h-{cluster}-{name}").into())],
        taints: (shape == 2)
            .then(|| TaintFacts { key: "soft".into(), value: "".into(), effect: Effect::PreferNoSchedule })
            .into_iter()
            .collect(),
        unschedulable: shape == 3,
        allocatable: [("cpu", i64::from(shape) + 1), ("pods", 5), (GPU, i64::from(shape % 2))]
            .map(|(name, amount)| (name.into(), Quantity::from_units(amount)))
            .into_iter()
            .collect(),
        images: if shape == 4 { vec![image("app:1"), image("tool:2")] } else { vec![image("app:1")] },
        architecture: "arm64".into(),
        ..NodeFacts::default()
    }
}

fn spec(number: u8) -> PodSpecFacts {
    let (cpu, gpus, ports) = [(100, 0, vec![]), (200, 1, vec![80]), (0, 0, vec![80, 443]), (100, 2, vec![])][usize::from(number)].clone();
    let amounts = [("cpu", Quantity::from_milli(cpu)), (GPU, Quantity::from_units(gpus))];
    let spec =
        amounts.map(|(name, amount)| (name.into(), amount)).into_iter().filter(|(_, amount)| *amount != Quantity::default()).collect();
    let requests = PodRequests { containers: vec![ContainerRequests { spec, ..ContainerRequests::default() }], ..PodRequests::default() };
    PodSpecFacts {
        scheduler_name: "isobar-scheduler".into(),
        requests: requests.sums(),
        host_ports: ports.into_iter().map(|port| HostPort::new("", Protocol::Tcp, port)).collect(),
        node_selector: vec![("zone".into(), format!("zone-{number}").into())],
        pod_affinity: (number > 0)
            .then(|| Box::new(PodAffinityFacts { anti_required: vec![away_from(number)], ..PodAffinityFacts::default() })),
        ..PodSpecFacts::default()
    }
}

/// Away from pods of one application, or of the own one by another label.
fn away_from(number: u8) -> AffinityTermFacts {
    let match_labels = vec![("app".into(), format!("app-{}", number / 2).into())];
    let label_selector = Some(LabelSelectorFacts { match_labels, ..LabelSelectorFacts::default() });
    AffinityTermFacts { label_selector, topology_key: "zone".into(), ..AffinityTermFacts::default() }
}

/// What a spec costs a node: millicores, millicores with the small-pod default, GPUs, ports.
fn cost(number: u8) -> (i64, i64, i64, &'static [u16]) {
    [(100, 100, 0, &[][..]), (200, 200, 1, &[80]), (0, 100, 0, &[80, 443]), (100, 100, 2, &[])][usize::from(number)]
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Pod {
    place: Place,
    spec: u8,
    assumed: bool,
    /// The cluster whose watch shows it.
    known_in: u16,
}

/// For which pod, where, what it asks for.
type RunOf = (u8, Place, u8);

/// Cache and maps side by side.
#[derive(Default)]
struct Pair {
    cache: Cache,
    nodes: BTreeMap<Place, u8>,
    pods: BTreeMap<u8, Pod>,
    runs: BTreeMap<u8, RunOf>,
    /// The most node slots that were in use at once.
    most_slots: usize,
    sweeps: usize,
}

fn uid(pod: u8) -> PodUid {
    PodUid::from(format!("uid-{pod}").as_str())
}

fn run_uid(run: u8) -> PodUid {
    PodUid::from(format!("run-{run}").as_str())
}

impl Pair {
    /// One hold of a spec's class.
    fn acquire(&mut self, number: u8) -> ClassIx {
        let mut class = PodClass::new("ns", &spec(number), &mut self.cache.nodes.symbols);
        let labels = Labels::intern(&[("app".into(), format!("app-{}", number % 2).into())], &mut self.cache.nodes.symbols);
        class.labels = labels;
        let ix = self.cache.acquire(class);
        // As if it were decided about: what its terms ask for is counted from now on.
        if let Some(class) = self.cache.classes.get(ix) {
            self.cache.nodes.terms.prepare(Some(ix), class);
        }
        ix
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Apply { place, shape } => self.apply_node(place, shape)?,
            Step::Gone { place } => {
                if let Some(ix) = self.cache.nodes.find(ClusterId(place.0), &format!("n{}", place.1)) {
                    self.cache.nodes.remove(ix);
                }
                self.nodes.remove(&place);
            }
            Step::Observe { pod, place, spec, by_home } => self.observe(pod, place, spec, by_home)?,
            Step::Run { run, home, name, spec } => {
                let (class, node) = (self.acquire(spec), self.cache.nodes.symbols.intern(&format!("n{name}")));
                self.cache.observe_run(&run_uid(run), &uid(home), ClusterId(1), node, class);
                self.runs.insert(run, (home, (1, name), spec));
            }
            Step::RunGone { run } => {
                let known = self.runs.remove(&run).is_some();
                prop_assert_eq!(self.cache.forget_run(&run_uid(run)), known);
            }
            Step::Told { left } => {
                let quota_left = [("cpu".into(), Quantity::from_units(i64::from(left)))].into_iter().collect();
                let facts = ClusterFacts { id: ClusterId(1), name: "one".into(), quota_left, ..ClusterFacts::default() };
                let nodes = &mut self.cache.nodes;
                // A cluster comes before its pods, or what is counted in it would be counted out of nothing.
                if nodes.clusters.any() || self.pods.values().all(|pod| pod.place.0 != 1) {
                    nodes.clusters.apply(facts, &mut nodes.symbols);
                }
            }
            Step::ClusterGone => drop(self.cache.nodes.clusters.remove(ClusterId(1))),
            Step::Assume { pod, place, spec } => {
                let Some(node) = self.cache.nodes.find(ClusterId(place.0), &format!("n{}", place.1)) else { return Ok(()) };
                let class = self.acquire(spec);
                let assumed = self.cache.assume(&uid(pod), node, class);
                prop_assert_eq!(assumed, !self.pods.contains_key(&pod), "a pod is on one node only");
                if assumed {
                    self.pods.insert(pod, Pod { place, spec, assumed: true, known_in: 0 });
                } else {
                    self.cache.release(class);
                }
            }
            Step::Forget { pod } => {
                let forgotten = self.cache.forget(&uid(pod));
                let known = self.pods.get(&pod).filter(|known| known.assumed).copied();
                prop_assert_eq!(forgotten.is_some(), known.is_some(), "only an assumed pod is forgotten");
                if let Some(placed) = forgotten {
                    self.cache.release(placed.class);
                    self.pods.remove(&pod);
                }
            }
            Step::Remove { pod } => {
                let removed = self.cache.remove(&uid(pod));
                let known = self.pods.remove(&pod);
                prop_assert_eq!(removed.is_some(), known.is_some());
                let last = known.is_some_and(|known| self.holders().all(|spec| spec != known.spec));
                prop_assert_eq!(removed.is_some_and(|(_, last)| last), last, "the last hold of a class is told");
            }
            Step::Take { pod } => {
                let taken = self.cache.take(&uid(pod));
                let known = self.pods.remove(&pod);
                prop_assert_eq!(taken.map(|placed| placed.assumed), known.map(|known| known.assumed));
                if let Some(placed) = taken {
                    self.cache.release(placed.class);
                }
            }
            Step::Sweep => self.sweep(),
        }
        Ok(())
    }

    fn apply_node(&mut self, place: Place, shape: u8) -> Result<(), TestCaseError> {
        let (_, what, old) = self.cache.nodes.apply(&node(place, shape));
        let before = self.nodes.insert(place, shape);
        prop_assert_eq!(old.is_some(), before.is_some());
        prop_assert_eq!(what.intersects(Changes::NODE_ADD), before.is_none());
        let Some(before) = before else { return Ok(()) };
        let zones_differ = before % 2 != shape % 2;
        prop_assert_eq!(what.intersects(Changes::NODE_ALLOCATABLE), before != shape);
        prop_assert_eq!(what.intersects(Changes::NODE_LABEL), zones_differ);
        let tainted = |shape: u8| (shape == 2, shape == 3);
        prop_assert_eq!(what.intersects(Changes::NODE_TAINT), tainted(before) != tainted(shape));
        prop_assert_eq!(what.intersects(Changes::NODE_IMAGES), (before == 4) != (shape == 4));
        Ok(())
    }

    fn observe(&mut self, pod: u8, place: Place, spec: u8, by_home: bool) -> Result<(), TestCaseError> {
        // Who knows a pod is for ever.
        let known_in = self.pods.get(&pod).map_or(if by_home { 0 } else { place.0 }, |known| known.known_in);
        let place = if known_in == 0 { place } else { (known_in, place.1) };
        let class = self.acquire(spec);
        let name = self.cache.nodes.symbols.intern(&format!("n{}", place.1));
        let before = self.cache.placed(&uid(pod));
        let observed = self.cache.observe_at(&uid(pod), ClusterId(known_in), (ClusterId(place.0), name), class);
        let known = self.pods.insert(pod, Pod { place, spec, assumed: false, known_in });
        let wanted = match (known, before) {
            (None, _) | (_, None) => Observed::Added,
            (Some(known), Some(before)) if known.place != place => Observed::Moved { from: before.node },
            (Some(known), Some(before)) if known.spec != spec => Observed::Changed { old: before.class },
            (Some(known), _) if known.assumed => Observed::Confirmed,
            (Some(_), _) => Observed::Unchanged,
        };
        prop_assert_eq!(observed, wanted);
        if let Observed::Changed { old } = observed {
            self.cache.release(old);
        }
        Ok(())
    }

    /// Makes a sweep due with strings that nobody holds, and sweeps.
    fn sweep(&mut self) {
        self.sweeps += 1;
        for filler in 0..5000 {
            self.cache.nodes.symbols.intern(&format!("nobody-{}-{filler}", self.sweeps));
        }
        self.cache.sweep_symbols(|_| {});
    }

    /// The runs that count: those whose home pod does not, in their cluster.
    fn counted_runs(&self) -> impl Iterator<Item = (u8, Place, u8)> {
        let counts = |home: &u8| self.pods.get(home).is_some_and(|pod| pod.known_in == 0 && pod.place.0 == 1);
        self.runs.iter().filter(move |(_, (home, ..))| !counts(home)).map(|(run, (_, place, spec))| (*run, *place, *spec))
    }

    /// Place and spec of everything that counts.
    fn counted(&self) -> impl Iterator<Item = (Place, u8)> {
        self.pods.values().map(|pod| (pod.place, pod.spec)).chain(self.counted_runs().map(|(_, place, spec)| (place, spec)))
    }

    /// The specs of everything that holds a class, once for each hold.
    fn holders(&self) -> impl Iterator<Item = u8> {
        self.counted().map(|(_, spec)| spec).chain(self.runs.values().map(|(.., spec)| *spec))
    }

    fn live_places(&self) -> BTreeSet<Place> {
        self.nodes.keys().copied().chain(self.counted().map(|(place, _)| place)).collect()
    }

    /// Everything that can be read of the cache is what the maps say.
    fn compare(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.cache.consistency_check(), Vec::<String>::new());
        prop_assert_eq!(self.cache.pods(), self.counted().count());
        prop_assert_eq!(self.cache.assumed(), self.pods.values().filter(|pod| pod.assumed).count());
        prop_assert_eq!(self.cache.assumed_uids().count(), self.cache.assumed());
        prop_assert_eq!(self.cache.nodes.present(), self.nodes.len());
        self.most_slots = self.most_slots.max(self.live_places().len());
        // Between a home pod and its run both may count for a moment.
        let slots = self.cache.nodes.slots();
        prop_assert!(slots >= self.most_slots && slots <= self.most_slots + usize::from(RUNS), "slots are reused before new ones are made");
        let classes: BTreeSet<u8> = self.holders().collect();
        prop_assert_eq!(self.cache.classes.len(), classes.len(), "a class lives as long as a pod holds it");
        let holds: u32 = self.cache.classes.iter().map(|(_, _, holds)| holds).sum();
        prop_assert_eq!(holds as usize, self.holders().count());
        for cluster in 0..CLUSTERS {
            for name in 0..NAMES {
                self.compare_node((cluster, name))?;
            }
            let runs = self.counted_runs().filter(|_| cluster == 1).map(|(run, ..)| run_uid(run));
            let pods = self.pods.iter().filter(|(_, pod)| pod.known_in == cluster).map(|(number, _)| uid(*number));
            let all = runs.chain(pods).collect::<Vec<_>>();
            prop_assert_eq!(self.cache.missing_from(ClusterId(cluster), |_| false), all);
        }
        for image in ["app:1", "tool:2"] {
            let holders = self.nodes.values().filter(|shape| image == "app:1" || **shape == 4).count();
            let state = self.cache.nodes.symbols.get(image).map(|sym| self.cache.nodes.image(sym)).unwrap_or_default();
            prop_assert_eq!(
                (state.nodes as usize, state.size_bytes),
                (holders, if holders > 0 { i64::try_from(image.len()).unwrap_or(0) } else { 0 })
            );
        }
        Ok(())
    }

    fn compare_node(&self, place: Place) -> Result<(), TestCaseError> {
        let nodes = &self.cache.nodes;
        let name = format!("n{}", place.1);
        let Some(ix) = nodes.find(ClusterId(place.0), &name) else {
            prop_assert!(!self.live_places().contains(&place), "{name} is lost");
            return Ok(());
        };
        prop_assert!(self.live_places().contains(&place), "nothing is left of {name}, and its slot is still taken");
        let record = nodes.get(ix);
        let costs: Vec<_> = self.counted().filter(|(at, _)| *at == place).map(|(_, spec)| cost(spec)).collect();
        prop_assert_eq!(record.requested.cpu_milli, costs.iter().map(|cost| cost.0).sum::<i64>());
        prop_assert_eq!(record.nonzero_cpu_milli, costs.iter().map(|cost| cost.1).sum::<i64>());
        let gpu = nodes.symbols.get(GPU).map_or(0, |gpu| record.requested.scalar(gpu));
        prop_assert_eq!(gpu, costs.iter().map(|cost| cost.2).sum::<i64>());
        let mut ports: Vec<u16> = record.ports.iter().map(|port| port.port).collect();
        let mut wanted: Vec<u16> = costs.iter().flat_map(|cost| cost.3).copied().collect();
        ports.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(ports, wanted);
        prop_assert_eq!(record.pods_used as usize, costs.len());
        prop_assert_eq!(nodes.name(ix), &name);
        prop_assert_eq!(record.present, self.nodes.contains_key(&place));
        if let Some(shape) = self.nodes.get(&place) {
            self.compare_object(record, &node(place, *shape))?;
        } else {
            prop_assert!(record.labels.iter().next().is_none() && record.taints.is_empty() && record.allocatable == ResourceVec::default());
        }
        Ok(())
    }

    /// Also after a sweep every symbol of a record still has its text.
    fn compare_object(&self, record: &NodeRecord, facts: &NodeFacts) -> Result<(), TestCaseError> {
        let text = |sym: Sym| self.cache.nodes.symbols.text(sym);
        let mut labels: Vec<(&str, &str)> = record.labels.iter().map(|(key, value)| (text(key), text(value))).collect();
        let mut wanted: Vec<(&str, &str)> = facts.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        labels.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(labels, wanted);
        prop_assert_eq!(text(record.uid), &*facts.uid);
        prop_assert_eq!(text(record.architecture), "arm64");
        prop_assert_eq!(
            record.taints.iter().map(|taint| text(taint.key)).collect::<Vec<_>>(),
            facts.taints.iter().map(|taint| &*taint.key).collect::<Vec<_>>()
        );
        let mut images: Vec<&str> = record.images.iter().map(|image| text(*image)).collect();
        images.sort_unstable();
        prop_assert_eq!(images, facts.images.iter().flat_map(|image| &image.names).map(|name| &**name).collect::<Vec<_>>());
        prop_assert_eq!(record.allocatable.cpu_milli, facts.allocatable.get("cpu").map_or(0, Quantity::milli));
        Ok(())
    }
}

/// What answers about a node depend on: the object's side and the usage's side.
fn sides(nodes: &Nodes) -> Vec<(String, String)> {
    let side = |at: usize| {
        let node = nodes.at(at);
        let object = format!(
            "{:?}",
            (
                node.present,
                node.cluster,
                node.name,
                &node.labels,
                &node.taints,
                node.unschedulable,
                &node.allocatable,
                node.pods_max,
                &node.images
            )
        );
        let usage = format!("{:?}", (&node.requested, node.nonzero_cpu_milli, node.nonzero_memory_bytes, node.pods_used, &node.ports));
        (object, usage)
    };
    (0..nodes.slots()).map(side).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_equals_plain_maps(steps in steps()) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.apply(step)?;
            pair.compare()?;
        }
        for pod in 0..PODS {
            pair.cache.remove(&uid(pod));
        }
        for run in 0..RUNS {
            pair.cache.forget_run(&run_uid(run));
        }
        prop_assert!(pair.cache.classes.is_empty());
        let idle: Vec<NodeIx> = pair.cache.nodes.iter().map(|(ix, _)| ix).collect();
        for ix in idle {
            pair.cache.nodes.remove(ix);
        }
        prop_assert_eq!((pair.cache.pods(), pair.cache.assumed(), pair.cache.nodes.present()), (0, 0, 0));
        prop_assert_eq!(pair.cache.consistency_check(), Vec::<String>::new());
    }

    #[test]
    fn every_change_of_a_node_is_in_the_log(steps in steps()) {
        let mut pair = Pair::default();
        for step in steps.iter().filter(|step| !matches!(step, Step::Sweep)) {
            let (before, since) = (sides(&pair.cache.nodes), pair.cache.nodes.changed());
            pair.apply(step)?;
            let nodes = &pair.cache.nodes;
            let logged: BTreeSet<usize> = nodes.changed_since(since).expect("the log reaches back a step").map(NodeIx::at).collect();
            for (at, after) in sides(nodes).into_iter().enumerate() {
                let before = before.get(at).cloned().unwrap_or_default();
                prop_assert!(before == after || logged.contains(&at), "{step:?} changed node {at} and did not log it");
                prop_assert!(before.0 == after.0 || nodes.at(at).object_changed > since, "{step:?} changed the object of node {at}");
                prop_assert!(before.1 == after.1 || nodes.at(at).object_changed.max(nodes.at(at).usage_changed) > since, "{step:?} changed what runs on node {at}");
            }
        }
    }
}

#[test]
fn the_log_says_when_it_does_not_reach_back() {
    let mut pair = Pair::default();
    pair.apply_node((0, 0), 0).expect("a node");
    let since = pair.cache.nodes.changed();
    for turn in 0..4096_u32 {
        assert!(pair.cache.nodes.changed_since(since).is_some_and(|changed| changed.count() == turn as usize));
        pair.apply_node((0, 0), u8::try_from((turn + 1) % 2).expect("0 or 1")).expect("a node");
    }
    assert!(pair.cache.nodes.changed_since(since).is_some());
    pair.apply_node((0, 0), 1).expect("a node");
    assert!(pair.cache.nodes.changed_since(since).is_none(), "a reader that is further behind must look at everything");
}

#[test]
fn an_unchanged_object_is_not_a_change() {
    let mut pair = Pair::default();
    pair.apply_node((0, 0), 1).expect("a node");
    let since = pair.cache.nodes.changed();
    pair.apply_node((0, 0), 1).expect("a node");
    assert_eq!(pair.cache.nodes.changed(), since);
}

#[test]
fn faults_are_found() {
    let mut pair = Pair::default();
    pair.observe(0, (0, 0), 1, true).expect("a pod");
    pair.apply_node((0, 0), 2).expect("a node");
    assert_eq!(pair.cache.consistency_check(), Vec::<String>::new());
    let class = pair.cache.placed(&uid(0)).expect("placed").class;
    let record = pair.cache.classes.get(class).expect("alive").clone();
    let name = pair.cache.nodes.symbols.intern("n0");
    let ix = pair.cache.nodes.add_pod(ClusterId::HOME, name, &record);
    assert_eq!(pair.cache.consistency_check(), ["node n0 does not count what its pods sum up to"]);
    pair.cache.nodes.remove_pod(ix, &record);
    pair.cache.assumed = 1;
    assert_eq!(pair.cache.consistency_check(), ["the count of assumed pods is wrong"]);
    pair.cache.assumed = 0;
    pair.cache.classes.release(class);
    assert!(pair.cache.consistency_check().iter().any(|fault| fault.contains("has a class that is gone")));
}

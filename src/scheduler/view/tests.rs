//! A view after any history equals asking every rule about every node from nothing.

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        affinity::{NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredTerm},
        class::ClassTable,
        cluster::ClusterFacts,
        ids::{ClassIx, ClusterId},
        image::Platforms,
        node::{ImageFacts, NodeFacts},
        placement::TravelFacts,
        pod::PodSpecFacts,
        ports::{HostPort, Protocol},
        quantity::Quantity,
        requests::{ContainerRequests, PodRequests},
        taints::{Effect, TaintFacts, TolerationFacts},
        time::Timestamp,
    },
    scheduler::{
        profile::{NodeResourcesFitArgs, ProfileSpec, ScoringStrategy},
        profiles::{OutOfTree, Profiles},
        registry::Registry,
    },
};

#[derive(Clone, Debug)]
enum Step {
    Apply(Box<NodeFacts>),
    Remove(u8),
    /// Cluster 1 appears or changes, or goes.
    Cluster(Option<Box<ClusterFacts>>),
    /// Somebody tells which platforms an image has, or that nobody knows.
    Told(Platforms),
    Place {
        node: u8,
        class: u8,
    },
    Leave {
        which: u8,
    },
    /// Brings the view of a class up to date, so that it later has something to catch up with.
    Look(u8),
}

fn node() -> impl Strategy<Value = NodeFacts> {
    let taints = prop::sample::subsequence(vec![Effect::NoSchedule, Effect::PreferNoSchedule], 0..=2);
    (0..6_u8, 0..3_u8, 1..4_i64, 0..4_i64, taints, any::<bool>(), 0..2_usize).prop_map(
        |(name, zone, cores, pods, taints, cordoned, images)| NodeFacts {
            cluster: ClusterId(u16::from(name % 2)),
            name: format!("n{name}").into(),
            uid: format!("uid-{name}").into(),
            architecture: if zone == 1 { "arm64" } else { "amd64" }.into(),
            operating_system: "linux".into(),
            labels: vec![("zone".into(), format!("z{zone}").into()), ("kubernetes.io/hostname".into(), format!("n{name}").into())],
            taints: taints.into_iter().map(|effect| TaintFacts { key: "t".into(), value: "".into(), effect }).collect(),
            unschedulable: cordoned && zone == 2,
            allocatable: [("cpu", cores), ("memory", 1 << 30), ("pods", pods + 1), ("example.com/gpu", cores - 1)]
                .map(|(name, amount)| (name.into(), Quantity::from_units(amount)))
                .into_iter()
                .collect(),
            images: (0..images).map(|_| ImageFacts { names: vec!["app:1".into()], size_bytes: 500 << 20 }).collect(),
            ..NodeFacts::default()
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => node().prop_map(|facts| Step::Apply(Box::new(facts))),
        1 => (0..6_u8).prop_map(Step::Remove),
        1 => prop::option::weighted(0.7, cluster()).prop_map(|facts| Step::Cluster(facts.map(Box::new))),
        1 => prop::sample::subsequence(vec!["linux/amd64", "linux/arm64"], 0..=2).prop_map(|known| match known.as_slice() {
            [] => Step::Told(Platforms::Unknown("nobody knows".into())),
            known => Step::Told(Platforms::Known(known.iter().map(|name| Box::from(*name)).collect())),
        }),
        4 => (0..6_u8, 0..CLASSES).prop_map(|(node, class)| Step::Place { node, class }),
        2 => any::<u8>().prop_map(|which| Step::Leave { which }),
        4 => (0..CLASSES).prop_map(Step::Look),
    ]
}

fn cluster() -> impl Strategy<Value = ClusterFacts> {
    (any::<bool>(), prop::option::of(0..4_u32), 0..3_i64, 0..3_u8).prop_map(|(closed, runs_max, quota, preference)| ClusterFacts {
        id: ClusterId(1),
        name: "one".into(),
        closed: closed.then(|| "cluster is cordoned".into()),
        runs_max,
        quota_left: (quota > 0).then(|| ("cpu".into(), Quantity::from_units(quota))).into_iter().collect(),
        preference: preference * 50,
        data: vec!["icon".into()],
        ..ClusterFacts::default()
    })
}

const CLASSES: u8 = 9;

/// One class for every kind of rule.
fn class(number: u8) -> PodSpecFacts {
    let cpu = |milli| {
        let spec = [("cpu".into(), Quantity::from_milli(milli)), ("memory".into(), Quantity::from_units(100 << 20))].into_iter().collect();
        PodRequests { containers: vec![ContainerRequests { spec, ..ContainerRequests::default() }], ..PodRequests::default() }.sums()
    };
    let zone = |value: &str| NodeSelectorTerm {
        match_expressions: vec![NodeSelectorRequirement { key: "zone".into(), operator: "In".into(), values: vec![value.into()] }],
        match_fields: Vec::new(),
    };
    let named = NodeSelectorTerm {
        match_fields: vec![NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: vec!["n1".into()] }],
        ..NodeSelectorTerm::default()
    };
    let mut spec = PodSpecFacts { scheduler_name: "s".into(), requests: cpu(300), images: vec!["app:1".into()], ..PodSpecFacts::default() };
    match number {
        0 => {}
        1 => spec.requests = PodRequests::default().sums(),
        2 => spec.tolerations = vec![TolerationFacts { operator: "Exists".into(), ..TolerationFacts::default() }],
        3 => {
            spec.node_affinity =
                Some(Box::new(NodeAffinity { required: None, preferred: vec![PreferredTerm { weight: 7, term: zone("z1") }] }));
        }
        4 => spec.node_selector = vec![("zone".into(), "z0".into())],
        5 => spec.host_ports = vec![HostPort::new("", Protocol::Tcp, 80)],
        6 => spec.travel = Some(Box::new(TravelFacts { placement: Some("remote".into()), ..TravelFacts::default() })),
        7 => spec.travel = Some(Box::new(TravelFacts { data: vec!["icon".into()], ..TravelFacts::default() })),
        _ => spec.node_affinity = Some(Box::new(NodeAffinity { required: Some(NodeSelector { terms: vec![named] }), preferred: vec![] })),
    }
    spec
}

fn profile(strategy: ScoringStrategy) -> ProfileSpec {
    let configuration = crate::config::load(&[], &Registry::in_tree()).expect("the defaults are valid");
    let mut spec = configuration.profiles[0].clone();
    spec.args.node_resources_fit = NodeResourcesFitArgs { strategy, ..NodeResourcesFitArgs::default() };
    spec
}

struct World {
    nodes: Nodes,
    classes: ClassTable,
    placed: Vec<(NodeIx, ClassIx)>,
    views: Vec<ClassView>,
    profiles: Profiles,
}

impl World {
    fn new(strategy: ScoringStrategy) -> Self {
        let (mut nodes, mut classes) = (Nodes::default(), ClassTable::default());
        let profiles =
            Profiles::build(&[profile(strategy)], &OutOfTree::default(), 0, &mut nodes.symbols).expect("the default profile builds");
        for number in 0..CLASSES {
            let class = PodClass::new("ns", &class(number), &mut nodes.symbols);
            assert_eq!(classes.acquire(class).0, u32::from(number));
        }
        let mut world = Self { nodes, classes, placed: Vec::new(), views: Vec::new(), profiles };
        world.views = (0..CLASSES).map(|number| world.fresh(number)).collect();
        world
    }

    fn profile(&self) -> &Profile {
        self.profiles.iter().next().expect("there is one")
    }

    fn class(&self, number: u8) -> &PodClass {
        self.classes.get(ClassIx(u32::from(number))).expect("held for ever")
    }

    fn fresh(&self, number: u8) -> ClassView {
        ClassView::new(self.profile(), self.class(number), &self.nodes)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(facts) => drop(self.nodes.apply(&facts)),
            Step::Remove(name) => {
                if let Some(ix) = self.nodes.find(ClusterId(u16::from(name % 2)), &format!("n{name}")) {
                    self.nodes.remove(ix);
                }
            }
            Step::Cluster(Some(facts)) => drop(self.nodes.clusters.apply(*facts, &mut self.nodes.symbols)),
            Step::Cluster(None) => drop(self.nodes.clusters.remove(ClusterId(1))),
            Step::Told(platforms) => {
                let image = self.nodes.symbols.intern("app:1");
                self.nodes.platforms.ask(Timestamp(0), &[image]);
                self.nodes.platforms.told(Timestamp(0), image, platforms);
            }
            Step::Place { node, class } => {
                let name = self.nodes.symbols.intern(&format!("n{node}"));
                let record = self.class(class).clone();
                let cluster = ClusterId(u16::from(node % 2));
                let ix = self.nodes.add_pod(cluster, name, &record);
                self.nodes.clusters.count(cluster, &record, true);
                self.placed.push((ix, ClassIx(u32::from(class))));
            }
            Step::Leave { which } if !self.placed.is_empty() => {
                let (node, class) = self.placed.swap_remove(usize::from(which) % self.placed.len());
                let record = self.classes.get(class).expect("held for ever").clone();
                assert!(self.nodes.remove_pod(node, &record));
            }
            Step::Leave { .. } => {}
            Step::Look(class) => self.look(class),
        }
    }

    fn look(&mut self, number: u8) {
        if self.views[usize::from(number)].outdated(&self.nodes) {
            self.views[usize::from(number)] = self.fresh(number);
        }
        let nodes = &self.nodes;
        self.views[usize::from(number)].catch_up(nodes);
        self.views[usize::from(number)].best();
    }

    /// The kept view, a fresh one, and the rules asked one node at a time all say the same.
    fn check(&mut self, number: u8) {
        self.look(number);
        let fresh = self.fresh(number);
        let mut best = sorted(self.views[usize::from(number)].best());
        let kept = &self.views[usize::from(number)];
        assert_eq!(kept.feasible().ones().collect::<Vec<_>>(), fresh.feasible().ones().collect::<Vec<_>>(), "class {number}");
        assert_eq!(kept.feasible_count(), fresh.feasible().count_ones(..));
        assert_eq!(best, sorted(&fresh.best_once()));
        let naive = self.naive(number);
        let totals: Vec<(NodeIx, i64)> = kept.feasible().ones().map(ix).map(|ix| (ix, kept.total(ix))).collect();
        assert_eq!(totals, naive, "class {number}");
        let highest = naive.iter().map(|(_, total)| *total).max();
        let mut expected: Vec<NodeIx> = naive.iter().filter(|(_, total)| Some(*total) == highest).map(|(ix, _)| *ix).collect();
        expected.sort_unstable();
        best.sort_unstable();
        assert_eq!(best, expected);
    }

    fn naive(&self, number: u8) -> Vec<(NodeIx, i64)> {
        let fresh = self.fresh(number);
        let allowed = |name: &Sym| fresh.only.as_ref().is_none_or(|(names, _)| names.contains(name));
        let admitted =
            |node: &crate::model::node::NodeRecord| fresh.rules.iter().all(|(_, rule)| rule.refuses(node, &self.nodes).is_none());
        if !matches!(fresh.verdict, Verdict::AskNodes) {
            return Vec::new();
        }
        let feasible: Vec<NodeIx> = self.nodes.iter().filter(|(_, node)| allowed(&node.name) && admitted(node)).map(|(ix, _)| ix).collect();
        let mut totals: Vec<(NodeIx, i64)> = feasible.iter().map(|ix| (*ix, 0)).collect();
        for lane in &fresh.lanes {
            let raws: Vec<i64> = feasible.iter().map(|ix| lane.score.raw(self.nodes.get(*ix), &self.nodes)).collect();
            let extremes =
                raws.iter().min().zip(raws.iter().max()).map(|(min, max)| crate::scheduler::framework::Extremes { min: *min, max: *max });
            for ((_, total), raw) in totals.iter_mut().zip(&raws) {
                *total += lane.weight * lane.normalised(*raw, extremes);
            }
        }
        totals
    }
}

fn ix(at: usize) -> NodeIx {
    NodeIx(u32::try_from(at).expect("few nodes"))
}

fn sorted(nodes: &[NodeIx]) -> Vec<NodeIx> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn equals_naive_evaluation(steps in prop::collection::vec(step(), 1..60), packing in any::<bool>()) {
        let mut world = World::new(if packing { ScoringStrategy::MostAllocated } else { ScoringStrategy::LeastAllocated });
        for step in steps {
            world.step(step);
        }
        (0..CLASSES).for_each(|number| world.check(number));
        prop_assert!(world.nodes.consistency_check().is_empty());
    }
}

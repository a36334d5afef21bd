//! A view after any history equals asking every rule about every node from nothing. Rules over domains are held to a walk over all pods besides.

use proptest::prelude::*;

use super::{naive::Naive, *};
use crate::{
    model::{
        affinity::{NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredTerm},
        class::ClassTable,
        cluster::ClusterFacts,
        ids::{ClassIx, ClusterId},
        image::Platforms,
        labels::Labels,
        node::{HOSTNAME_LABEL, ImageFacts, NodeFacts, ZONE_LABEL},
        placement::TravelFacts,
        pod::PodSpecFacts,
        ports::{HostPort, Protocol},
        quantity::Quantity,
        requests::{ContainerRequests, PodRequests},
        selector::LabelSelectorFacts,
        taints::{Effect, TaintFacts, TolerationFacts},
        terms::{AffinityTermFacts, PodAffinityFacts, SelectingKind, SpreadFacts, WhenUnsatisfiable},
        time::Timestamp,
    },
    scheduler::{
        framework::{Extremes, UNSCORED},
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
    /// A namespace gets this label, or is gone.
    Namespace(u8, Option<bool>),
    /// A Service chooses pods of an application, or is gone.
    Service(u8, bool),
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
    (0..6_u8, 0..4_u8, 1..4_i64, 0..4_i64, taints, any::<bool>(), 0..2_usize).prop_map(
        |(name, zone, cores, pods, taints, cordoned, images)| NodeFacts {
            cluster: ClusterId(u16::from(name % 2)),
            name: format!("n{name}").into(),
            uid: format!("uid-{name}").into(),
            architecture: if zone == 1 { "arm64" } else { "amd64" }.into(),
            operating_system: "linux".into(),
            labels: labels(name, zone, cordoned),
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

/// Now and then one of the labels is missing, or has no value.
fn labels(name: u8, zone: u8, without: bool) -> Vec<(Box<str>, Box<str>)> {
    let zone = if zone == 3 { String::new() } else { format!("z{zone}") };
    let all = [("zone", zone.clone()), (ZONE_LABEL, zone), (HOSTNAME_LABEL, format!("n{name}"))];
    let kept = all.into_iter().enumerate().filter(|(at, _)| !without || *at != usize::from(name % 4));
    kept.map(|(_, (key, value))| (key.into(), value.into())).collect()
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
        6 => (0..6_u8, 0..CLASSES).prop_map(|(node, class)| Step::Place { node, class }),
        1 => (0..3_u8, prop::option::weighted(0.8, any::<bool>())).prop_map(|(name, labelled)| Step::Namespace(name, labelled)),
        1 => (0..3_u8, any::<bool>()).prop_map(|(app, there)| Step::Service(app, there)),
        2 => any::<u8>().prop_map(|which| Step::Leave { which }),
        6 => (0..CLASSES).prop_map(Step::Look),
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

const CLASSES: u8 = 22;

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
        8 => spec.node_affinity = Some(Box::new(NodeAffinity { required: Some(NodeSelector { terms: vec![named] }), preferred: vec![] })),
        _ => {
            spec.pod_affinity = Some(Box::new(pod_affinity(number))).filter(|facts| **facts != PodAffinityFacts::default());
            spec.spread = spread(number);
            if number % 3 == 1 {
                spec.node_selector = vec![("zone".into(), "z0".into())];
            }
        }
    }
    spec
}

/// Namespace, label and whether the pods are being deleted.
fn identity(number: u8) -> (&'static str, &'static str, bool) {
    let app = ["a", "b", "c"][usize::from(number % 3)];
    let namespace = if number == 18 || number == 20 { "other" } else { "ns" };
    (namespace, app, number == 21)
}

fn selecting(apps: &[&str]) -> LabelSelectorFacts {
    let values = apps.iter().map(|app| Box::from(*app)).collect();
    let requirement = NodeSelectorRequirement { key: "app".into(), operator: "In".into(), values };
    LabelSelectorFacts { match_expressions: vec![requirement], ..LabelSelectorFacts::default() }
}

fn term(key: &str, apps: &[&str]) -> AffinityTermFacts {
    AffinityTermFacts { label_selector: Some(selecting(apps)), topology_key: key.into(), ..AffinityTermFacts::default() }
}

/// A term about pods of namespaces that have the label, or all.
fn term_of_teams(key: &str, apps: &[&str], all: bool) -> AffinityTermFacts {
    let labelled = NodeSelectorRequirement { key: "team".into(), operator: "Exists".into(), values: Vec::new() };
    let match_expressions = if all { Vec::new() } else { vec![labelled] };
    AffinityTermFacts {
        namespace_selector: Some(LabelSelectorFacts { match_expressions, ..LabelSelectorFacts::default() }),
        ..term(key, apps)
    }
}

fn pod_affinity(number: u8) -> PodAffinityFacts {
    let none = PodAffinityFacts::default();
    match number {
        12 => PodAffinityFacts { required: vec![term("zone", &["a", "b"])], ..none },
        13 => PodAffinityFacts { anti_required: vec![term(HOSTNAME_LABEL, &["b"]), term("zone", &["c"])], ..none },
        14 => PodAffinityFacts {
            preferred: vec![(5, term("zone", &["a"])), (1, term_of_teams(HOSTNAME_LABEL, &["b"], true))],
            anti_preferred: vec![(3, term(HOSTNAME_LABEL, &["b", "c"]))],
            ..none
        },
        15 => PodAffinityFacts { required: vec![term("zone", &["a"]), term(HOSTNAME_LABEL, &["a", "c"])], ..none },
        16 => PodAffinityFacts {
            required: vec![term_of_teams("zone", &["a", "b", "c"], false)],
            anti_preferred: vec![(7, term("zone", &["c"]))],
            ..none
        },
        18 => PodAffinityFacts { anti_required: vec![term_of_teams("zone", &["a"], false)], ..none },
        _ => none,
    }
}

fn spread(number: u8) -> Vec<SpreadFacts> {
    let spread = |key: &str, max_skew, when, apps: &[&str]| SpreadFacts {
        max_skew,
        topology_key: key.into(),
        when,
        min_domains: None,
        honor_node_affinity: true,
        honor_node_taints: false,
        selector: Some(selecting(apps)),
    };
    let (hard, soft) = (WhenUnsatisfiable::DoNotSchedule, WhenUnsatisfiable::ScheduleAnyway);
    match number {
        9 => vec![spread("zone", 1, hard, &["a"])],
        10 => vec![
            SpreadFacts { min_domains: Some(3), honor_node_taints: true, ..spread("zone", 2, hard, &["b", "a"]) },
            SpreadFacts { honor_node_affinity: false, ..spread(HOSTNAME_LABEL, 1, hard, &["b"]) },
        ],
        11 => vec![spread("zone", 1, soft, &["a", "c"]), spread(HOSTNAME_LABEL, 4, soft, &["c"])],
        16 => vec![spread("zone", 1, hard, &["a"]), spread("zone", 3, soft, &["b"])],
        17 => vec![SpreadFacts { selector: Some(LabelSelectorFacts::default()), ..spread("zone", 1, hard, &[]) }],
        19 => vec![SpreadFacts { selector: None, ..spread(ZONE_LABEL, 1, soft, &[]) }],
        _ => Vec::new(),
    }
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
            let (namespace, app, is_terminating) = identity(number);
            let mut class = PodClass::new(namespace, &class(number), &mut nodes.symbols);
            class.labels = Labels::intern(&[("app".into(), app.into())], &mut nodes.symbols);
            class.is_terminating = is_terminating;
            nodes.terms.enter(ClassIx(u32::from(number)), &class);
            assert_eq!(classes.acquire(class).0, u32::from(number));
        }
        let mut world = Self { nodes, classes, placed: Vec::new(), views: Vec::new(), profiles };
        world.views = (0..CLASSES)
            .map(|number| {
                world.prepare(number);
                world.fresh(number)
            })
            .collect();
        world
    }

    fn profile(&self) -> &Profile {
        self.profiles.iter().next().expect("there is one")
    }

    fn class(&self, number: u8) -> &PodClass {
        self.classes.get(ClassIx(u32::from(number))).expect("held for ever")
    }

    fn prepare(&mut self, number: u8) {
        let ix = ClassIx(u32::from(number));
        let class = self.classes.get(ix).expect("held for ever");
        self.nodes.terms.prepare(Some(ix), class);
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
            Step::Namespace(name, labelled) => {
                let name = self.nodes.symbols.intern(["ns", "other", "third"][usize::from(name)]);
                let team = |labelled| if labelled { vec![("team".into(), "x".into())] } else { Vec::new() };
                let labels = labelled.map(|labelled| Labels::intern(&team(labelled), &mut self.nodes.symbols));
                let touched = self.nodes.terms.set_namespace(name, labels);
                touched.into_iter().for_each(|ix| self.nodes.touch_usage(ix));
            }
            Step::Service(app, there) => {
                let app = ["a", "b", "c"][usize::from(app)];
                let match_labels = vec![("app".into(), app.into())];
                let selector = there.then(|| LabelSelectorFacts { match_labels, ..LabelSelectorFacts::default() });
                let nodes = &mut self.nodes;
                nodes.terms.set_selector(SelectingKind::Service, "ns", app, selector.as_ref(), &mut nodes.symbols);
            }
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
                self.nodes.terms.count(ClassIx(u32::from(class)), ix);
                self.nodes.clusters.count(cluster, &record, true);
                self.placed.push((ix, ClassIx(u32::from(class))));
            }
            Step::Leave { which } if !self.placed.is_empty() => {
                let (node, class) = self.placed.swap_remove(usize::from(which) % self.placed.len());
                let record = self.classes.get(class).expect("held for ever").clone();
                self.nodes.terms.uncount(class, node);
                assert!(self.nodes.remove_pod(node, &record));
            }
            Step::Leave { .. } => {}
            Step::Look(class) => self.look(class),
        }
    }

    fn look(&mut self, number: u8) {
        self.prepare(number);
        if self.views[usize::from(number)].outdated(&self.nodes) {
            self.views[usize::from(number)] = self.fresh(number);
        }
        let nodes = &self.nodes;
        self.views[usize::from(number)].catch_up(nodes);
        self.views[usize::from(number)].best();
        self.views[usize::from(number)].diagnosis(self.profiles.iter().next().expect("there is one"), nodes);
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
        self.check_refusals(number);
        self.check_diagnosis(number);
        let kept = &self.views[usize::from(number)];
        let naive = self.naive(number);
        let totals: Vec<(NodeIx, i64)> = kept.feasible().ones().map(ix).map(|ix| (ix, kept.total(ix))).collect();
        assert_eq!(totals, naive, "class {number}");
        let highest = naive.iter().map(|(_, total)| *total).max();
        let mut expected: Vec<NodeIx> = naive.iter().filter(|(_, total)| Some(*total) == highest).map(|(ix, _)| *ix).collect();
        expected.sort_unstable();
        best.sort_unstable();
        assert_eq!(best, expected);
    }

    /// What is kept of the reasons equals what all nodes say now.
    fn check_diagnosis(&mut self, number: u8) {
        let profile = self.profiles.iter().next().expect("there is one");
        let kept = self.views[usize::from(number)].diagnosis(profile, &self.nodes);
        let fresh = self.fresh(number).diagnosis(profile, &self.nodes);
        assert_eq!((&kept.text, kept.rejectors, &kept.pre_filter), (&fresh.text, fresh.rejectors, &fresh.pre_filter), "class {number}");
        for (ix, _) in self.nodes.iter() {
            assert_eq!(kept.of(ix), fresh.of(ix), "class {number}, node {}", self.nodes.name(ix));
        }
    }

    fn pods(&self) -> Vec<(NodeIx, &PodClass)> {
        self.placed.iter().map(|(node, class)| (*node, self.classes.get(*class).expect("held for ever"))).collect()
    }

    /// Rules over domains of the kept view say about every node what a walk over all pods says.
    fn check_refusals(&self, number: u8) {
        let pods = self.pods();
        let walk = Naive { nodes: &self.nodes, pods: &pods, class: self.class(number) };
        let kept = &self.views[usize::from(number)];
        for (ix, _) in self.nodes.iter() {
            for (plugin, walked) in [("PodTopologySpread", walk.spread(ix)), ("InterPodAffinity", walk.affinity(ix))] {
                let rule = kept.rules.iter().find(|(ix, _)| self.profile().plugin_name(*ix) == plugin);
                let said = rule.and_then(|(_, rule)| rule.refuses(ix, &self.nodes));
                assert_eq!(said, walked, "class {number}, {plugin}, node {}", self.nodes.name(ix));
            }
        }
    }

    fn naive(&self, number: u8) -> Vec<(NodeIx, i64)> {
        let fresh = self.fresh(number);
        let pods = self.pods();
        let walk = Naive { nodes: &self.nodes, pods: &pods, class: self.class(number) };
        let allowed = |name: &Sym| fresh.only.as_ref().is_none_or(|(names, _)| names.contains(name));
        let admitted = |ix: NodeIx| {
            let local = fresh.rules.iter().all(|(_, rule)| matches!(rule, Rule::Domains(_)) || rule.refuses(ix, &self.nodes).is_none());
            local && walk.spread(ix).is_none() && walk.affinity(ix).is_none()
        };
        if !matches!(fresh.verdict, Verdict::AskNodes) {
            return Vec::new();
        }
        let nodes = self.nodes.iter().filter(|(ix, node)| allowed(&node.name) && admitted(*ix));
        let feasible: Vec<NodeIx> = nodes.map(|(ix, _)| ix).collect();
        let mut totals: Vec<(NodeIx, i64)> = feasible.iter().map(|ix| (*ix, 0)).collect();
        for (name, raws) in [("PodTopologySpread", walk.spread_raw(&feasible)), ("InterPodAffinity", walk.affinity_raw(&feasible))] {
            let lane = fresh.lanes().find(|lane| self.profile().plugin_name(lane.plugin) == name);
            let said = lane.map(|lane| feasible.iter().map(|ix| lane.raw(*ix)).collect::<Vec<i64>>());
            assert_eq!(said, raws, "class {number}: raw scores of {name}");
        }
        for lane in fresh.lanes() {
            let asked = |ix: &NodeIx| lane.asked(self.nodes.get(*ix), &self.nodes).unwrap_or_else(|| lane.raw(*ix));
            let raws: Vec<i64> = feasible.iter().map(asked).collect();
            let counted = || raws.iter().copied().filter(|raw| *raw != UNSCORED);
            let extremes = counted().min().zip(counted().max()).map(|(min, max)| Extremes { min, max });
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
        let placed = world.placed.iter().map(|(node, class)| (*class, *node));
        prop_assert_eq!(world.nodes.terms.consistency_check(&world.classes, placed), Vec::<String>::new());
    }
}

//! What holds for all rules together: the registry's table, and batch forms that equal the single ones in random worlds.

use proptest::prelude::*;

use super::{
    build,
    fixtures::{Dice, MI, World, node_with, pod},
};
use crate::{
    model::{
        affinity::{NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredTerm},
        devices::{PodDeviceClaim, PodDevices},
        node::{ImageFacts, NodeFacts},
        pod::PodSpecFacts,
        ports::{HostPort, Protocol},
        taints::{Effect, TaintFacts, TolerationFacts},
    },
    scheduler::{
        framework::{CompiledFilter, CompiledScore},
        profile::{NodeResourcesFitArgs, PluginArgs, ResourceWeight, ScoringStrategy, ShapePoint},
        registry::{ExtensionPoint as P, IN_TREE},
    },
};

#[test]
fn every_plugin_of_the_registry_builds_as_its_line_says() {
    let mut world = World::default();
    for info in IN_TREE {
        let mut plugin = world.plugin(info.name, &PluginArgs::default());
        assert_eq!(plugin.name(), info.name);
        // Who waits for victims to be deleted, or for others of its group, is held by the engine, which knows when they are.
        let is_held_by_engine = |names: &[&str]| names.contains(&info.name);
        // PreFilter and Filter are one trait, as are PreScore and Score; placements are not asked of plugins yet.
        let implemented = [
            (P::PreEnqueue, plugin.pre_enqueue().is_some() || is_held_by_engine(&["DefaultPreemption", "GangScheduling"])),
            (P::QueueSort, plugin.queue_sort().is_some()),
            (P::Filter, plugin.filter().is_some()),
            (P::PostFilter, plugin.post_filter().is_some()),
            (P::Score, plugin.score().is_some()),
            (P::Reserve, plugin.reserve().is_some()),
            (P::Permit, plugin.permit().is_some() || is_held_by_engine(&["GangScheduling"])),
            (P::PreBind, plugin.pre_bind().is_some()),
            (P::Bind, plugin.bind().is_some()),
            (P::PostBind, plugin.post_bind().is_some()),
        ];
        for (point, is) in implemented {
            if info.built {
                assert_eq!(is, info.implements(point), "{} at {point}", info.name);
            } else {
                assert!(!is || info.implements(point), "{} at {point}", info.name);
            }
        }
    }
    assert!(build("NoSuchPlugin", &PluginArgs::default(), &mut world.nodes.symbols).is_none());
}

/// What upstream would filter by and this version does not is refused by some plugin of the default profile.
#[test]
fn no_filter_is_forgotten() {
    let devices = PodDevices { claims: [PodDeviceClaim::Awaited].into(), ..PodDevices::default() };
    let mut world = World::default();
    let class = world.class(&PodSpecFacts { devices: Some(devices.into()), ..pod(&[]) });
    let refused = IN_TREE.iter().any(|info| {
        let plugin = world.plugin(info.name, &PluginArgs::default());
        plugin.filter().is_some_and(|filter| match filter.compile(&class, &world.nodes) {
            CompiledFilter::Until(_, outcome) => matches!(*outcome, CompiledFilter::Refused(_)),
            outcome => matches!(outcome, CompiledFilter::Refused(_)),
        })
    });
    assert!(refused, "a claim of devices");
}

const KEYS: [&str; 3] = ["zone", "disk", "gpu"];
const VALUES: [&str; 3] = ["a", "b", "7"];
const EFFECTS: [Effect; 3] = [Effect::NoSchedule, Effect::PreferNoSchedule, Effect::NoExecute];

fn random_node(dice: &mut Dice, at: u64) -> NodeFacts {
    let cpu = format!("{}m", dice.pick(&[0, 1, 999, 4000, 64_000]));
    let memory = dice.pick(&["0", "1", "8Gi", "17592186044417", "256Gi"]);
    let gpus = dice.pick(&["0", "1", "8"]);
    let mut node = node_with(&format!("n{at}"), &[("cpu", &cpu), ("memory", memory), ("example.com/gpu", gpus), ("pods", "4")]);
    let pairs = KEYS.iter().filter(|_| dice.one_in(2)).collect::<Vec<_>>();
    node.labels = pairs.into_iter().map(|key| (Box::from(*key), Box::from(dice.pick(&VALUES)))).collect();
    if dice.one_in(3) {
        let taint =
            |dice: &mut Dice| TaintFacts { key: dice.pick(&KEYS).into(), value: dice.pick(&VALUES).into(), effect: dice.pick(&EFFECTS) };
        node.taints = (0..=dice.roll(3)).map(|_| taint(dice)).collect();
    }
    node.unschedulable = dice.one_in(6);
    let image = |dice: &mut Dice| ImageFacts { names: vec![dice.pick(&["x:1", "y:1"]).into()], size_bytes: 900 * MI };
    node.images = (0..dice.roll(3)).map(|_| image(dice)).collect();
    node
}

fn random_term(dice: &mut Dice) -> NodeSelectorTerm {
    let operator = dice.pick(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]);
    let values = match operator {
        "Gt" | "Lt" => vec!["5".into()],
        "Exists" | "DoesNotExist" => Vec::new(),
        _ => vec![dice.pick(&VALUES).into()],
    };
    let requirement = NodeSelectorRequirement { key: dice.pick(&KEYS).into(), operator: operator.into(), values };
    NodeSelectorTerm { match_expressions: vec![requirement], match_fields: Vec::new() }
}

fn random_pod(dice: &mut Dice) -> PodSpecFacts {
    let cpu = format!("{}m", dice.pick(&[0, 1, 500, 4000, 9000]));
    let mut spec = pod(&[("cpu", &cpu), ("memory", dice.pick(&["0", "1", "1Gi", "9Gi"])), ("example.com/gpu", dice.pick(&["0", "1"]))]);
    spec.priority = dice.pick(&[0, 5]);
    if dice.one_in(3) {
        spec.host_ports = vec![HostPort::new(dice.pick(&["", "10.0.0.1"]), Protocol::Tcp, 80)];
    }
    if dice.one_in(2) {
        let preferred = (0..dice.roll(3)).map(|_| PreferredTerm { weight: 3, term: random_term(dice) }).collect();
        let required = dice.one_in(2).then(|| NodeSelector { terms: vec![random_term(dice), random_term(dice)] });
        spec.node_affinity = Some(Box::new(NodeAffinity { required, preferred }));
    }
    if dice.one_in(3) {
        let keys = KEYS.iter().filter(|_| dice.one_in(2)).collect::<Vec<_>>();
        spec.node_selector = keys.into_iter().map(|key| (Box::from(*key), Box::from(dice.pick(&VALUES)))).collect();
    }
    let toleration = |dice: &mut Dice| TolerationFacts {
        key: dice.pick(&KEYS).into(),
        operator: dice.pick(&["", "Exists"]).into(),
        value: dice.pick(&VALUES).into(),
        effect: dice.pick(&["", "NoSchedule", "PreferNoSchedule", "NoExecute"]).into(),
    };
    spec.tolerations = (0..dice.roll(3)).map(|_| toleration(dice)).collect();
    spec.images = (0..dice.roll(3)).map(|_| dice.pick(&["x:1", "y:1", "z"]).into()).collect();
    spec
}

/// Up to 200 nodes, some of which went away again, with pods on them.
fn random_world(dice: &mut Dice) -> World {
    let mut world = World::default();
    for at in 0..=dice.roll(200) {
        let ix = world.add(&random_node(dice, at));
        for _ in 0..dice.roll(4) {
            world.run(&format!("n{at}"), &random_pod(dice));
        }
        if dice.one_in(8) {
            world.nodes.remove(ix);
        }
    }
    world
}

fn strategies() -> Vec<PluginArgs> {
    let shape = vec![ShapePoint { utilization: 10, score: 9 }, ShapePoint { utilization: 75, score: 0 }];
    let strategies = [ScoringStrategy::LeastAllocated, ScoringStrategy::MostAllocated, ScoringStrategy::RequestedToCapacityRatio(shape)];
    let lists: [&[(&str, u32)]; 3] =
        [&[("cpu", 1), ("memory", 1)], &[("memory", 3), ("cpu", 2)], &[("cpu", 1), ("example.com/gpu", 5), ("memory", 1)]];
    let mut all = Vec::new();
    for strategy in &strategies {
        for list in lists {
            let resources: Vec<_> = list.iter().map(|(name, weight)| ResourceWeight { name: (*name).into(), weight: *weight }).collect();
            let mut args = PluginArgs {
                node_resources_fit: NodeResourcesFitArgs { strategy: strategy.clone(), resources: resources.clone(), ..Default::default() },
                ..PluginArgs::default()
            };
            args.node_resources_balanced_allocation.resources = resources;
            all.push(args);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `World::ask_rule` and `World::score_with` compare the batch forms with the single ones, node by node.
    #[test]
    fn batches_equal_single_questions(seed: u64) {
        let mut dice = Dice(seed);
        let mut world = random_world(&mut dice);
        prop_assert_eq!(world.nodes.consistency_check(), Vec::<String>::new());
        for args in strategies() {
            let class = world.class(&random_pod(&mut dice));
            for info in IN_TREE {
                let plugin = world.plugin(info.name, &args);
                if let Some(filter) = plugin.filter()
                    && let CompiledFilter::Rule(rule) | CompiledFilter::Only(_, rule) = filter.compile(&class, &world.nodes)
                {
                    world.ask_rule(&*rule);
                }
                if let Some(score) = plugin.score()
                    && let CompiledScore::Score(score) = score.compile(&class, &world.nodes)
                {
                    world.score_with(&*score);
                    prop_assert!(!score.outdated(&world.nodes));
                }
            }
        }
    }
}

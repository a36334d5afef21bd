//! Small worlds of five nodes in; what `PodTopologySpread` says about each of them, its scores and its hints, out.

use super::*;
use crate::{
    model::{
        affinity::NodeSelectorRequirement,
        node::NodeFacts,
        pod::PodSpecFacts,
        selector::LabelSelectorFacts,
        taints::Effect,
        terms::{OwnerFacts, SelectingKind, SpreadFacts},
    },
    scheduler::{
        framework::UNSCORED,
        plugins::fixtures::{World, labelled, pod, tainted},
        profile::PluginArgs,
    },
};

const SKEW: &str = "-node(s) didn't match pod topology spread constraints";
const LABEL: &str = "!node(s) didn't match pod topology spread constraints (missing required label)";

fn app(name: &str) -> LabelSelectorFacts {
    LabelSelectorFacts { match_labels: vec![("app".into(), name.into())], match_expressions: Vec::new() }
}

fn hard(key: &str, max_skew: i32) -> SpreadFacts {
    SpreadFacts {
        max_skew,
        topology_key: key.into(),
        when: WhenUnsatisfiable::DoNotSchedule,
        min_domains: None,
        honor_node_affinity: true,
        honor_node_taints: false,
        selector: Some(app("web")),
    }
}

fn soft(key: &str, max_skew: i32) -> SpreadFacts {
    SpreadFacts { when: WhenUnsatisfiable::ScheduleAnyway, ..hard(key, max_skew) }
}

fn spreading(spread: &[SpreadFacts]) -> PodSpecFacts {
    PodSpecFacts { spread: spread.to_vec(), ..pod(&[]) }
}

/// Nodes `a1 a2 b1 c1` in zones `a`, `b` and `c`, and `x` in none; as many pods of `web` on the first four.
fn world(pods: [usize; 4]) -> World {
    let in_zone = |name: &str| labelled(name, &[("zone", &name[..1]), (HOSTNAME_LABEL, name)]);
    let mut world = World::new([in_zone("a1"), in_zone("a2"), in_zone("b1"), in_zone("c1"), labelled("x", &[(HOSTNAME_LABEL, "x")])]);
    let web = world.class_in("default", &[("app", "web")], &pod(&[]));
    for (node, pods) in ["a1", "a2", "b1", "c1"].into_iter().zip(pods) {
        (0..pods).for_each(|_| world.run_class(node, &web));
    }
    world
}

fn ask(world: &mut World, labels: &[(&str, &str)], spec: &PodSpecFacts) -> Vec<String> {
    let plugin = world.plugin("PodTopologySpread", &PluginArgs::default());
    let class = world.class_in("default", labels, spec);
    world.ask_with(&*plugin, &class)
}

const WEB: [(&str, &str); 1] = [("app", "web")];

#[test]
fn skew_is_counted_over_domains_and_with_the_pod_itself() {
    for (pods, spread, labels, want) in [
        ([0, 0, 0, 0], hard("zone", 1), &WEB[..], ["ok", "ok", "ok", "ok", LABEL]),
        ([1, 0, 0, 0], hard("zone", 1), &WEB, [SKEW, SKEW, "ok", "ok", LABEL]),
        ([1, 0, 1, 1], hard("zone", 1), &WEB, ["ok", "ok", "ok", "ok", LABEL]),
        ([1, 1, 1, 1], hard("zone", 1), &WEB, [SKEW, SKEW, "ok", "ok", LABEL]),
        ([1, 1, 1, 1], hard("zone", 2), &WEB, ["ok", "ok", "ok", "ok", LABEL]),
        // A pod that is not one of those it counts may go one further.
        ([1, 0, 0, 0], hard("zone", 1), &[], ["ok", "ok", "ok", "ok", LABEL]),
        ([2, 0, 0, 0], hard("zone", 1), &[], [SKEW, SKEW, "ok", "ok", LABEL]),
        // Fewer domains than wanted count as an empty one.
        ([1, 0, 1, 1], SpreadFacts { min_domains: Some(3), ..hard("zone", 1) }, &WEB, ["ok", "ok", "ok", "ok", LABEL]),
        ([1, 0, 1, 1], SpreadFacts { min_domains: Some(4), ..hard("zone", 1) }, &WEB, [SKEW, SKEW, SKEW, SKEW, LABEL]),
        ([1, 0, 0, 0], hard(HOSTNAME_LABEL, 1), &WEB, [SKEW, "ok", "ok", "ok", "ok"]),
        ([3, 0, 0, 0], hard("no-such-key", 1), &WEB, [LABEL; 5]),
        // Nothing is counted by a selector that is empty, but it matches the pod; an absent one does neither.
        (
            [9, 0, 0, 0],
            SpreadFacts { selector: Some(LabelSelectorFacts::default()), ..hard("zone", 1) },
            &WEB,
            ["ok", "ok", "ok", "ok", LABEL],
        ),
        (
            [9, 0, 0, 0],
            SpreadFacts { selector: Some(LabelSelectorFacts::default()), ..hard("zone", 0) },
            &WEB,
            [SKEW, SKEW, SKEW, SKEW, LABEL],
        ),
        ([9, 0, 0, 0], SpreadFacts { selector: None, ..hard("zone", 0) }, &WEB, ["ok", "ok", "ok", "ok", LABEL]),
    ] {
        assert_eq!(ask(&mut world(pods), labels, &spreading(std::slice::from_ref(&spread))), want, "{pods:?} {spread:?}");
    }
    assert_eq!(ask(&mut world([9, 0, 0, 0]), &WEB, &spreading(&[soft("zone", 1)])), ["skip"]);
    assert_eq!(ask(&mut world([9, 0, 0, 0]), &WEB, &pod(&[])), ["skip"]);
}

/// Constraints are asked in order, the label before the skew; and only nodes with the keys of all count.
#[test]
fn several_constraints() {
    let both = spreading(&[hard("zone", 1), hard(HOSTNAME_LABEL, 1)]);
    assert_eq!(ask(&mut world([1, 0, 1, 1]), &WEB, &both), [SKEW, "ok", SKEW, SKEW, LABEL]);
    let mut world = World::new([labelled("a", &[("zone", "a")]), labelled("b", &[("zone", "b"), ("rack", "r")])]);
    let web = world.class_in("default", &WEB, &pod(&[]));
    (0..5).for_each(|_| world.run_class("a", &web));
    // Node `a` has no rack: its pods do not count, its zone is none, and its own zone counts zero.
    assert_eq!(ask(&mut world, &WEB, &spreading(&[hard("zone", 1), hard("rack", 1)])), [LABEL, "ok"]);
    (0..2).for_each(|_| world.run_class("b", &web));
    assert_eq!(ask(&mut world, &WEB, &spreading(&[hard("rack", 9), hard("zone", 0)])), [LABEL, SKEW]);
}

#[test]
fn only_live_pods_of_the_namespace_that_match_count() {
    let mut world = world([0, 0, 0, 0]);
    let mut terminating = world.class_in("default", &WEB, &pod(&[]));
    terminating.is_terminating = true;
    let elsewhere = world.class_in("other", &WEB, &pod(&[]));
    let other = world.class_in("default", &[("app", "db")], &pod(&[]));
    [terminating, elsewhere, other].iter().for_each(|class| world.run_class("a1", class));
    assert_eq!(ask(&mut world, &WEB, &spreading(&[hard("zone", 1)])), ["ok", "ok", "ok", "ok", LABEL]);
    let expression = |operator: &str, values: &[&str]| {
        let values = values.iter().map(|value| Box::from(*value)).collect();
        let requirement = NodeSelectorRequirement { key: "app".into(), operator: operator.into(), values };
        let selector = Some(LabelSelectorFacts { match_labels: Vec::new(), match_expressions: vec![requirement] });
        spreading(&[SpreadFacts { selector, ..hard("zone", 1) }])
    };
    for (operator, values) in [("Exists", &[][..]), ("In", &["db", "web"]), ("NotIn", &["x"])] {
        assert_eq!(ask(&mut world, &WEB, &expression(operator, values))[..3], [SKEW, SKEW, "ok"], "{operator}");
    }
}

#[test]
fn policies_say_which_nodes_count() {
    // Zone c is empty, but the pod cannot go there: by default it is no domain then.
    let selecting = |spread: SpreadFacts| PodSpecFacts { node_selector: vec![("disk".into(), "ssd".into())], ..spreading(&[spread]) };
    let node = |name: &str, disk: &str| labelled(name, &[("zone", name), ("disk", disk)]);
    let mut world = World::new([node("a", "ssd"), node("b", "ssd"), node("c", "hdd")]);
    let web = world.class_in("default", &WEB, &pod(&[]));
    ["a", "b"].iter().for_each(|node| world.run_class(node, &web));
    assert_eq!(ask(&mut world, &WEB, &selecting(hard("zone", 1))), ["ok", "ok", "ok"]);
    let ignore = SpreadFacts { honor_node_affinity: false, ..hard("zone", 1) };
    assert_eq!(ask(&mut world, &WEB, &selecting(ignore)), [SKEW, SKEW, "ok"]);

    let in_zone = |node: NodeFacts| NodeFacts { labels: vec![("zone".into(), node.name.clone())], ..node };
    let mut world = World::new([in_zone(labelled("a", &[])), in_zone(tainted("b", &[("k", "", Effect::NoExecute)]))]);
    let web = world.class_in("default", &WEB, &pod(&[]));
    world.run_class("a", &web);
    assert_eq!(ask(&mut world, &WEB, &spreading(&[hard("zone", 1)])), [SKEW, "ok"]);
    let honor = SpreadFacts { honor_node_taints: true, ..hard("zone", 1) };
    assert_eq!(ask(&mut world, &WEB, &spreading(std::slice::from_ref(&honor))), ["ok", "ok"]);
    let tolerating =
        PodSpecFacts { tolerations: vec![crate::scheduler::plugins::fixtures::toleration("k", "Exists", "", "")], ..spreading(&[honor]) };
    assert_eq!(ask(&mut world, &WEB, &tolerating), [SKEW, "ok"]);
}

#[test]
fn a_selector_that_does_not_parse_is_an_error() {
    let bad = NodeSelectorRequirement { key: "app".into(), operator: "Like".into(), values: vec!["x".into()] };
    let selector = Some(LabelSelectorFacts { match_labels: Vec::new(), match_expressions: vec![bad] });
    let constraint = |spread: SpreadFacts| spreading(&[SpreadFacts { selector: selector.clone(), ..spread }]);
    let mut world = world([0, 0, 0, 0]);
    let why = "obtaining pod's hard topology spread constraints: \"Like\" is not a valid label selector operator";
    assert_eq!(ask(&mut world, &WEB, &constraint(hard("zone", 1))), [format!("failed: get constraints from pod: {why}")]);
    // A soft one is nothing to the filter.
    assert_eq!(ask(&mut world, &WEB, &constraint(soft("zone", 1))), ["skip"]);
    let class = world.class_in("default", &WEB, &constraint(soft("zone", 1)));
    let plugin = world.plugin("PodTopologySpread", &PluginArgs::default());
    let CompiledScore::Failed(why) = plugin.score().unwrap().compile(&class, &world.nodes) else { panic!("no error") };
    assert!(why.starts_with("calculating preScoreState: obtaining pod's soft topology spread constraints: \"Like\""), "{why}");
}

fn score(world: &mut World, args: &PluginArgs, spec: &PodSpecFacts) -> Vec<i64> {
    let (plugin, class) = (world.plugin("PodTopologySpread", args), world.class_in("default", &WEB, spec));
    world.score_class(&*plugin, &class)
}

#[test]
fn pods_near_a_node_add_up_with_the_weight_of_the_topology() {
    let args = PluginArgs::default();
    // Three zones among the nodes that have one: ln 5 = 1.609 for each pod.
    let zones = score(&mut world([2, 1, 1, 0]), &args, &spreading(&[soft("zone", 1)]));
    assert_eq!(zones, [5, 5, 2, 0, UNSCORED]);
    // And one less than the skew besides.
    assert_eq!(score(&mut world([2, 1, 1, 0]), &args, &spreading(&[soft("zone", 4)])), [8, 8, 5, 3, UNSCORED]);
    // Each node is a domain of its own: ln 7 = 1.946.
    assert_eq!(score(&mut world([2, 1, 0, 0]), &args, &spreading(&[soft(HOSTNAME_LABEL, 1)])), [4, 2, 0, 0, 0]);
    // Four nodes have both: 3 ln 5 + 2 ln 6 = 8.41 on the first.
    let both = spreading(&[soft("zone", 1), soft(HOSTNAME_LABEL, 1)]);
    assert_eq!(score(&mut world([2, 1, 0, 0]), &args, &both), [8, 7, 0, 0, UNSCORED]);
    assert!(score(&mut world([2, 1, 0, 0]), &args, &spreading(&[hard("zone", 1)])).is_empty());
}

#[test]
fn fewest_pods_are_best() {
    let extremes = |min, max| Extremes { min, max };
    for (raw, min, max, want) in [(0, 0, 5, 100), (5, 0, 5, 0), (2, 0, 5, 60), (3, 3, 4, 100), (4, 3, 4, 75), (0, 0, 0, 100)] {
        let CompiledScore::Domains(score) = compiled() else { panic!("a score") };
        let crate::scheduler::framework::Normalise::Extremes(by) = score.normalise() else { panic!("it normalises") };
        assert_eq!(by(raw, extremes(min, max)), want, "{raw} of {min}..{max}");
    }
}

fn compiled() -> CompiledScore {
    let mut world = world([0, 0, 0, 0]);
    let (plugin, class) = (world.plugin("PodTopologySpread", &PluginArgs::default()), world.class(&spreading(&[soft("zone", 1)])));
    plugin.score().unwrap().compile(&class, &world.nodes)
}

use crate::scheduler::framework::Extremes;

fn select(world: &mut World, kind: SelectingKind, name: &str, selector: &LabelSelectorFacts) {
    let nodes = &mut world.nodes;
    nodes.terms.set_selector(kind, "default", name, Some(selector), &mut nodes.symbols);
}

/// Upstream's own: by host with skew 3 and by zone with skew 5, for what Services and the controller choose.
#[test]
fn pods_without_constraints_are_spread_by_what_chooses_them() {
    let in_zone = |name: &str| labelled(name, &[(ZONE_LABEL, &name[..1]), (HOSTNAME_LABEL, name)]);
    let mut world = World::new([in_zone("a1"), in_zone("a2"), in_zone("b1"), labelled("x", &[(HOSTNAME_LABEL, "x")])]);
    let web = world.class_in("default", &WEB, &pod(&[]));
    ["a1", "a1", "b1"].iter().for_each(|node| world.run_class(node, &web));
    let args = PluginArgs::default();
    assert!(score(&mut world, &args, &pod(&[])).is_empty(), "nothing chooses it");
    select(&mut world, SelectingKind::Service, "db", &app("db"));
    select(&mut world, SelectingKind::Service, "empty", &LabelSelectorFacts::default());
    assert!(score(&mut world, &args, &pod(&[])).is_empty(), "nothing that chooses it");
    select(&mut world, SelectingKind::Service, "web", &app("web"));
    // By host ln 6 for each pod and 2; by zone, of which `x` without one makes the third, ln 5 and 4.
    assert_eq!(score(&mut world, &args, &pod(&[])), [13, 9, 9, 2]);
    // A constraint of its own, of whatever kind, takes the place of the default ones.
    assert!(score(&mut world, &args, &spreading(&[hard("zone", 1)])).is_empty());

    select(
        &mut world,
        SelectingKind::ReplicaSet,
        "web-1",
        &LabelSelectorFacts { match_labels: vec![("hash".into(), "1".into())], match_expressions: Vec::new() },
    );
    let owned = |kind, name: &str| PodSpecFacts { owner: Some(Box::new(OwnerFacts { kind, name: name.into() })), ..pod(&[]) };
    assert_eq!(score(&mut world, &args, &owned(SelectingKind::ReplicaSet, "web-1")), [6, 6, 6, 2], "pods of both Service and ReplicaSet");
    assert_eq!(score(&mut world, &args, &owned(SelectingKind::ReplicaSet, "gone")), [13, 9, 9, 2]);
    assert_eq!(score(&mut world, &args, &owned(SelectingKind::StatefulSet, "web-1")), [13, 9, 9, 2]);
}

#[test]
fn default_constraints_of_the_profile() {
    let constraint = |hard| DefaultConstraint {
        max_skew: 1,
        topology_key: "zone".into(),
        hard,
        min_domains: None,
        honor_node_affinity: true,
        honor_node_taints: false,
        match_label_keys: Vec::new(),
    };
    let args = |list| PluginArgs { pod_topology_spread: PodTopologySpreadArgs::List(list), ..PluginArgs::default() };
    let mut world = world([1, 0, 1, 0]);
    let plugin = world.plugin("PodTopologySpread", &args(vec![constraint(true), constraint(false)]));
    let class = world.class_in("default", &WEB, &pod(&[]));
    let CompiledFilter::SkipUntil(premise) = plugin.filter().unwrap().compile(&class, &world.nodes) else { panic!("nothing chooses it") };
    assert!(!premise.outdated(&world.nodes));
    select(&mut world, SelectingKind::Service, "other", &app("db"));
    assert!(!premise.outdated(&world.nodes));
    select(&mut world, SelectingKind::Service, "web", &app("web"));
    assert!(premise.outdated(&world.nodes));
    let class = world.class_in("default", &WEB, &pod(&[]));
    assert_eq!(world.ask_with(&*plugin, &class), [SKEW, SKEW, SKEW, "ok", LABEL]);
    // Nodes without the key take no part, as the constraints are not upstream's own.
    assert_eq!(world.score_class(&*plugin, &class), [2, 2, 2, 0, UNSCORED]);
    let none = world.plugin("PodTopologySpread", &args(Vec::new()));
    assert_eq!(world.ask_with(&*none, &class), ["skip"]);
    assert!(world.score_class(&*none, &class).is_empty());
}

#[test]
fn what_cures() {
    let mut world = world([0, 0, 0, 0]);
    let plugin = world.plugin("PodTopologySpread", &PluginArgs::default());
    let class = world.class_in("default", &WEB, &spreading(&[hard("zone", 1)]));
    let [web, db, elsewhere] = [("default", "web"), ("default", "db"), ("other", "web")]
        .map(|(namespace, name)| world.class_in(namespace, &[("app", name)], &pod(&[])));
    let node = NodeIx(0);
    let cures = |change: &Change<'_>| plugin.cures(&class, change, &world.nodes);
    for (other, want) in [(&web, true), (&db, false), (&elsewhere, false)] {
        assert_eq!(cures(&Change::PodAdd { class: other, node }), want);
        assert_eq!(cures(&Change::PodDelete { class: other, node }), want);
    }
    assert!(cures(&Change::PodLabels { old: &web, new: &db, node }) && cures(&Change::PodLabels { old: &db, new: &web, node }));
    assert!(!cures(&Change::PodLabels { old: &db, new: &db, node }));
    let [a1, a2, b1, x] = [0, 1, 2, 4].map(|at| world.nodes.at(at));
    let changed = |old, new| Change::Node { old, new, what: Changes::NODE_LABEL };
    for (old, new, want) in [
        (None, a1, true),
        (None, x, false),
        (Some(a1), b1, true),
        (Some(a1), a2, false),
        (Some(a1), x, true),
        (Some(x), a1, true),
        (Some(x), x, false),
    ] {
        assert_eq!(cures(&changed(old, new)), want);
    }
    let mut cordoned = a1.clone();
    cordoned.taints = [crate::model::taints::Taint { key: Sym::EMPTY, value: Sym::EMPTY, effect: Effect::NoSchedule }].into();
    assert!(cures(&Change::Node { old: Some(&cordoned), new: a1, what: Changes::NODE_TAINT }));
    assert!(cures(&Change::NodeDelete(Some(a1))) && !cures(&Change::NodeDelete(Some(x))) && cures(&Change::NodeDelete(None)));
}

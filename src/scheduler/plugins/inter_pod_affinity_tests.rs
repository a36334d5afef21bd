//! Small worlds of four nodes in; what `InterPodAffinity` says about each of them, its scores and its hints, out.

use super::*;
use crate::{
    model::{
        affinity::NodeSelectorRequirement,
        node::HOSTNAME_LABEL,
        pod::PodSpecFacts,
        selector::LabelSelectorFacts,
        terms::{AffinityTermFacts, PodAffinityFacts},
    },
    scheduler::{
        plugins::fixtures::{World, labelled, pod},
        profile::PluginArgs,
    },
};

const NEAR: &str = "!node(s) didn't match pod affinity rules";
const FAR: &str = "-node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "-node(s) didn't satisfy existing pods anti-affinity rules";

fn labels(name: &str) -> [(&str, &str); 1] {
    [("app", name)]
}

fn term(key: &str, app: &str) -> AffinityTermFacts {
    let selector = LabelSelectorFacts { match_labels: vec![("app".into(), app.into())], ..LabelSelectorFacts::default() };
    AffinityTermFacts { label_selector: Some(selector), topology_key: key.into(), ..AffinityTermFacts::default() }
}

fn with(facts: PodAffinityFacts) -> PodSpecFacts {
    PodSpecFacts { pod_affinity: Some(Box::new(facts)), ..pod(&[]) }
}

fn near(terms: &[AffinityTermFacts]) -> PodSpecFacts {
    with(PodAffinityFacts { required: terms.to_vec(), ..PodAffinityFacts::default() })
}

fn far(terms: &[AffinityTermFacts]) -> PodSpecFacts {
    with(PodAffinityFacts { anti_required: terms.to_vec(), ..PodAffinityFacts::default() })
}

/// Nodes `a1 a2 b1` in zones `a` and `b`, and `x` in none; the pods run where they are said to.
fn world(pods: &[(&str, &str)]) -> World {
    let in_zone = |name: &str| labelled(name, &[("zone", &name[..1]), (HOSTNAME_LABEL, name)]);
    let mut world = World::new([in_zone("a1"), in_zone("a2"), in_zone("b1"), labelled("x", &[(HOSTNAME_LABEL, "x")])]);
    for (node, app) in pods {
        let class = world.class_in("default", &labels(app), &pod(&[]));
        world.run_class(node, &class);
    }
    world
}

fn ask(world: &mut World, app: &str, spec: &PodSpecFacts) -> Vec<String> {
    let plugin = world.plugin("InterPodAffinity", &PluginArgs::default());
    let class = world.class_in("default", &labels(app), spec);
    world.ask_with(&*plugin, &class)
}

#[test]
fn near_pods_that_all_terms_find() {
    for (pods, app, terms, want) in [
        (&[("a1", "db")][..], "web", vec![term("zone", "db")], ["ok", "ok", NEAR, NEAR]),
        (&[("a1", "db")], "web", vec![term(HOSTNAME_LABEL, "db")], ["ok", NEAR, NEAR, NEAR]),
        (&[], "web", vec![term("zone", "db")], [NEAR, NEAR, NEAR, NEAR]),
        // The first pod of a group needs the labels only.
        (&[], "web", vec![term("zone", "web")], ["ok", "ok", "ok", NEAR]),
        (&[("b1", "web")], "web", vec![term("zone", "web")], [NEAR, NEAR, "ok", NEAR]),
        // Where there is no label, there is no pod either.
        (&[("x", "web")], "web", vec![term("zone", "web")], ["ok", "ok", "ok", NEAR]),
        (&[("x", "web")], "web", vec![term(HOSTNAME_LABEL, "web")], [NEAR, NEAR, NEAR, "ok"]),
        // Both terms must find the same pod, and it may be near by one key and not by the other.
        (&[("a1", "db")], "web", vec![term("zone", "db"), term(HOSTNAME_LABEL, "db")], ["ok", NEAR, NEAR, NEAR]),
        (&[("a1", "db"), ("a1", "web")], "web", vec![term("zone", "db"), term("zone", "web")], [NEAR, NEAR, NEAR, NEAR]),
        // A pod on a node with one of the keys makes the group no first one.
        (&[("x", "web")], "web", vec![term("zone", "web"), term(HOSTNAME_LABEL, "web")], [NEAR, NEAR, NEAR, NEAR]),
    ] {
        assert_eq!(ask(&mut world(pods), app, &near(&terms)), want, "{pods:?} {terms:?}");
    }
}

#[test]
fn far_from_pods_that_a_term_finds_and_from_those_that_want_it() {
    for (pods, terms, want) in [
        (&[("a1", "db")][..], vec![term("zone", "db")], [FAR, FAR, "ok", "ok"]),
        (&[("a1", "db")], vec![term(HOSTNAME_LABEL, "db")], [FAR, "ok", "ok", "ok"]),
        (&[("a1", "db"), ("x", "cache")], vec![term("zone", "db"), term(HOSTNAME_LABEL, "cache")], [FAR, FAR, "ok", FAR]),
        (&[("x", "db")], vec![term("zone", "db")], ["ok", "ok", "ok", "ok"]),
        (&[], vec![term("zone", "web")], ["ok", "ok", "ok", "ok"]),
    ] {
        assert_eq!(ask(&mut world(pods), "web", &far(&terms)), want, "{pods:?} {terms:?}");
    }
    // A pod that is there keeps others away, which ask for nothing themselves.
    let mut world = world(&[]);
    assert_eq!(ask(&mut world, "web", &pod(&[])), ["skip"]);
    let alone = world.class_in("default", &labels("db"), &far(&[term("zone", "web"), term(HOSTNAME_LABEL, "db")]));
    world.run_class("a1", &alone);
    assert_eq!(ask(&mut world, "web", &pod(&[])), [EXISTING, EXISTING, "ok", "ok"]);
    assert_eq!(ask(&mut world, "db", &pod(&[])), [EXISTING, "ok", "ok", "ok"]);
    assert_eq!(ask(&mut world, "cache", &pod(&[])), ["skip"]);
    // Its own reason comes first.
    assert_eq!(ask(&mut world, "web", &far(&[term("zone", "db")])), [FAR, FAR, "ok", "ok"]);
    assert_eq!(ask(&mut world, "web", &near(&[term(HOSTNAME_LABEL, "db")])), [EXISTING, NEAR, NEAR, NEAR]);
}

fn of(namespaces: &[&str], selector: Option<(&str, &str)>, term: AffinityTermFacts) -> AffinityTermFacts {
    let requirement =
        |(key, operator): (&str, &str)| NodeSelectorRequirement { key: key.into(), operator: operator.into(), values: Vec::new() };
    let namespace_selector = selector.map(|selector| LabelSelectorFacts {
        match_expressions: Some(requirement(selector)).filter(|requirement| !requirement.key.is_empty()).into_iter().collect(),
        ..LabelSelectorFacts::default()
    });
    AffinityTermFacts { namespaces: namespaces.iter().map(|name| Box::from(*name)).collect(), namespace_selector, ..term }
}

#[test]
fn namespaces_are_the_own_the_named_and_the_chosen() {
    let mut world = world(&[]);
    let there = world.class_in("other", &labels("db"), &pod(&[]));
    world.run_class("a1", &there);
    let (yes, no) = (["ok", NEAR, NEAR, NEAR], [NEAR; 4]);
    let host = || term(HOSTNAME_LABEL, "db");
    let everywhere = Some(("", ""));
    for (known, terms, want) in [
        (false, host(), no),
        (false, of(&["other"], None, host()), yes),
        (false, of(&[], everywhere, host()), yes),
        (false, of(&[], Some(("team", "Exists")), host()), no),
        (false, of(&[], Some(("team", "DoesNotExist")), host()), no),
        (true, of(&[], Some(("team", "Exists")), host()), yes),
        (true, of(&["default"], Some(("team", "Exists")), host()), yes),
        (true, of(&[], Some(("team", "DoesNotExist")), host()), no),
    ] {
        let labels = known.then(|| Labels::intern(&[("team".into(), "a".into())], &mut world.nodes.symbols));
        let name = world.nodes.symbols.intern("other");
        world.nodes.terms.set_namespace(name, labels);
        assert_eq!(ask(&mut world, "web", &near(std::slice::from_ref(&terms))), want, "{known} {terms:?}");
    }
}

#[test]
fn what_does_not_parse_is_refused_in_upstreams_words() {
    let bad = |key: &str| {
        let requirement = NodeSelectorRequirement { key: "app".into(), operator: "Like".into(), values: Vec::new() };
        let selector = LabelSelectorFacts { match_expressions: vec![requirement], ..LabelSelectorFacts::default() };
        AffinityTermFacts { label_selector: Some(selector), topology_key: key.into(), ..AffinityTermFacts::default() }
    };
    let why = "\"Like\" is not a valid label selector operator";
    let mut world = world(&[]);
    assert_eq!(ask(&mut world, "web", &near(&[bad("zone")])), [format!("all!parsing pod: requiredAffinityTerms: {why}")]);
    let several = PodAffinityFacts { anti_required: vec![bad("zone")], preferred: vec![(1, bad("zone"))], ..PodAffinityFacts::default() };
    let want = format!("all!parsing pod: [requiredAntiAffinityTerms: {why}, preferredAffinityTerms: {why}]");
    assert_eq!(ask(&mut world, "web", &with(several.clone())), [want]);
    // Once it runs, the lists that parse count.
    let mixed = PodAffinityFacts { anti_required: vec![term("zone", "web")], preferred: several.preferred, ..PodAffinityFacts::default() };
    let class = world.class_in("default", &labels("db"), &with(mixed));
    world.run_class("b1", &class);
    assert_eq!(ask(&mut world, "web", &pod(&[])), ["ok", "ok", EXISTING, "ok"]);
}

fn score(world: &mut World, args: InterPodAffinityArgs, app: &str, spec: &PodSpecFacts) -> Vec<i64> {
    let args = PluginArgs { inter_pod_affinity: args, ..PluginArgs::default() };
    let (plugin, class) = (world.plugin("InterPodAffinity", &args), world.class_in("default", &labels(app), spec));
    world.score_class(&*plugin, &class)
}

#[test]
fn weights_of_all_pods_in_the_domains_add_up() {
    let none = PodAffinityFacts::default();
    let prefers = |list: &[(i32, AffinityTermFacts)]| with(PodAffinityFacts { preferred: list.to_vec(), ..none.clone() });
    let avoids = |list: &[(i32, AffinityTermFacts)]| with(PodAffinityFacts { anti_preferred: list.to_vec(), ..none.clone() });
    let args = InterPodAffinityArgs::default();
    let pods = [("a1", "db"), ("a2", "db"), ("b1", "db"), ("x", "db")];
    assert_eq!(score(&mut world(&pods), args, "web", &prefers(&[(5, term("zone", "db"))])), [10, 10, 5, 0]);
    assert_eq!(score(&mut world(&pods), args, "web", &avoids(&[(5, term("zone", "db"))])), [-10, -10, -5, 0]);
    let both = prefers(&[(5, term("zone", "db")), (1, term(HOSTNAME_LABEL, "db"))]);
    assert_eq!(score(&mut world(&pods), args, "web", &both), [11, 11, 6, 1]);
    // Sums that come to nothing are a score all the same; no pod at all is none.
    let balanced =
        with(PodAffinityFacts { preferred: vec![(5, term("zone", "db"))], anti_preferred: vec![(5, term("zone", "db"))], ..none.clone() });
    assert_eq!(score(&mut world(&pods), args, "web", &balanced), [0, 0, 0, 0]);
    assert!(score(&mut world(&[]), args, "web", &prefers(&[(5, term("zone", "db"))])).is_empty());
    assert!(score(&mut world(&pods), args, "web", &pod(&[])).is_empty());

    let mut world = world(&[]);
    for (node, spec) in [
        ("a1", prefers(&[(3, term("zone", "web"))])),
        ("a2", avoids(&[(2, term(HOSTNAME_LABEL, "web"))])),
        ("b1", near(&[term("zone", "web")])),
        ("x", far(&[term(HOSTNAME_LABEL, "web")])),
    ] {
        let class = world.class_in("default", &labels("db"), &spec);
        world.run_class(node, &class);
    }
    assert_eq!(score(&mut world, args, "web", &pod(&[])), [3, 1, 1, 0]);
    assert_eq!(score(&mut world, InterPodAffinityArgs { hard_pod_affinity_weight: 50, ..args }, "web", &pod(&[])), [3, 1, 50, 0]);
    assert_eq!(score(&mut world, InterPodAffinityArgs { hard_pod_affinity_weight: 0, ..args }, "web", &pod(&[])), [3, 1, 0, 0]);
    assert!(score(&mut world, args, "cache", &pod(&[])).is_empty());
    let ignoring = InterPodAffinityArgs { ignore_preferred_terms_of_existing_pods: true, ..args };
    assert!(score(&mut world, ignoring, "web", &pod(&[])).is_empty());
    assert_eq!(
        score(&mut world, ignoring, "web", &prefers(&[(9, term("zone", "db"))])),
        [3 + 18, 1 + 18, 1 + 9, 0],
        "not of those who prefer themselves"
    );
}

#[test]
fn lowest_is_0_and_highest_100() {
    let mut world = world(&[("a1", "db")]);
    let spec = with(PodAffinityFacts { preferred: vec![(1, term("zone", "db"))], ..PodAffinityFacts::default() });
    let (plugin, class) = (world.plugin("InterPodAffinity", &PluginArgs::default()), world.class_in("default", &labels("web"), &spec));
    let CompiledScore::Domains(score) = plugin.score().unwrap().compile(&class, &world.nodes) else { panic!("a score") };
    let crate::scheduler::framework::Normalise::Extremes(by) = score.normalise() else { panic!("it normalises") };
    for (raw, min, max, want) in [(0, 0, 0, 0), (7, 7, 7, 0), (-4, -4, 8, 0), (8, -4, 8, 100), (0, -4, 8, 33), (29, 0, 100, 28)] {
        // 100 * 0.29 is 28.999999999999996.
        assert_eq!(by(raw, crate::scheduler::framework::Extremes { min, max }), want, "{raw} of {min}..{max}");
    }
}

#[test]
fn what_cures() {
    let mut world = world(&[]);
    let plugin = world.plugin("InterPodAffinity", &PluginArgs::default());
    let [web, db] = ["web", "db"].map(|app| world.class_in("default", &labels(app), &pod(&[])));
    let near = world.class_in("default", &labels("p"), &near(&[term("zone", "web")]));
    let away = world.class_in("default", &labels("p"), &far(&[term("zone", "web")]));
    let hates = world.class_in("default", &labels("q"), &far(&[term("zone", "web")]));
    let node = NodeIx(0);
    let nodes = &world.nodes;
    let add = |class| Change::PodAdd { class, node };
    let gone = |class| Change::PodDelete { class, node };
    assert!(plugin.cures(&near, &add(&web), nodes) && !plugin.cures(&near, &add(&db), nodes) && !plugin.cures(&away, &add(&web), nodes));
    assert!(plugin.cures(&away, &gone(&web), nodes) && !plugin.cures(&away, &gone(&db), nodes) && !plugin.cures(&near, &gone(&web), nodes));
    assert!(plugin.cures(&web, &gone(&hates), nodes) && !plugin.cures(&db, &gone(&hates), nodes));
    let relabelled = |old, new| Change::PodLabels { old, new, node };
    assert!(plugin.cures(&near, &relabelled(&db, &web), nodes) && !plugin.cures(&near, &relabelled(&web, &db), nodes));
    assert!(plugin.cures(&away, &relabelled(&web, &db), nodes) && !plugin.cures(&away, &relabelled(&db, &web), nodes));
    let [a1, a2, b1, x] = [0, 1, 2, 3].map(|at| nodes.at(at));
    for (old, new, near_wants, away_wants) in [
        (None, a1, true, true),
        (None, x, false, true),
        (Some(x), a1, true, false),
        (Some(a1), x, false, true),
        (Some(a1), b1, true, true),
        (Some(a1), a2, false, false),
    ] {
        let change = Change::Node { old, new, what: Changes::NODE_LABEL };
        assert_eq!((plugin.cures(&near, &change, nodes), plugin.cures(&away, &change, nodes)), (near_wants, away_wants));
    }
}

#[test]
fn a_term_that_speaks_of_a_class_ends_its_rest() {
    let mut world = world(&[]);
    let plugin = world.plugin("InterPodAffinity", &PluginArgs::default());
    let class = world.class_in("default", &labels("web"), &pod(&[]));
    let CompiledFilter::SkipUntil(premise) = plugin.filter().unwrap().compile(&class, &world.nodes) else { panic!("nothing to say") };
    let other = world.class_in("default", &labels("p"), &far(&[term("zone", "db")]));
    world.run_class("a1", &other);
    assert!(!premise.outdated(&world.nodes), "not of this one");
    let other = world.class_in("default", &labels("p"), &near(&[term("zone", "web")]));
    world.run_class("a1", &other);
    assert!(!premise.outdated(&world.nodes), "affinity is the score's business");
    let other = world.class_in("default", &labels("p"), &far(&[term("zone", "web")]));
    world.run_class("a1", &other);
    assert!(premise.outdated(&world.nodes));
}

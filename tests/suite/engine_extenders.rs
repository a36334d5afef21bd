//! Extenders through the engine, answered by a script: who is asked about what and in which order, what answers do, who goes on meanwhile; and worlds in
//! which answers come late and in any order, with the books balanced after each step.

use std::collections::{BTreeMap, BTreeSet};

use isobar::{
    model::{
        ids::{ClusterId, PodKey, PodUid},
        node::NodeFacts,
        pod::{PodFacts, PodSpecFacts},
        quantity::Quantity,
        requests::{ContainerRequests, PodRequests},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        engine::{Engine, EngineSettings},
        extenders::{Answer, Cleared, ExtenderSpec, NodesVerdict, Question, Topic},
        framework::Refusal,
        input::{BindOrder, Command, Input},
        observe::Silent,
        profile::ProfileSpec,
        profiles::OutOfTree,
        registry::Registry,
    },
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::first_lists::first_lists;

/// A node takes so many pods of these tests.
const SEATS: i64 = 2;
const GPU: &str = "example.com/gpu";
const FPGA: &str = "example.com/fpga";

struct World {
    engine: Engine,
    now: Timestamp,
    questions: Vec<Question>,
    /// Where pods are, by name.
    bound: BTreeMap<String, String>,
    /// Who was bound by an extender.
    through: BTreeSet<String>,
    evictions: Vec<String>,
    said: BTreeMap<String, String>,
}

impl World {
    fn new(nodes: usize, extenders: Vec<ExtenderSpec>) -> Self {
        let configuration = isobar::config::load(&[], &Registry::in_tree()).unwrap();
        let mut profile = ProfileSpec { scheduler_name: "s".into(), ..configuration.profiles[0].clone() };
        // As the configuration does with resources that are marked so.
        profile.args.node_resources_fit.ignored_resources = vec![GPU.into(), FPGA.into()];
        let engine = Engine::new(vec![profile], OutOfTree::default(), EngineSettings::default(), Box::new(Silent)).unwrap();
        let mut world = Self {
            engine,
            now: Timestamp(1_000_000),
            questions: Vec::new(),
            bound: BTreeMap::new(),
            through: BTreeSet::new(),
            evictions: Vec::new(),
            said: BTreeMap::new(),
        };
        world.tell(Input::Extenders(1, extenders));
        for number in 0..nodes {
            world.tell(Input::Node(Box::new(node(&format!("n{number}")))));
        }
        first_lists((0..nodes).map(|number| format!("n{number}").into())).into_iter().for_each(|input| world.tell(input));
        world
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.engine.handle(self.now, input, &mut out);
            let faults = self.engine.consistency_check();
            assert!(faults.is_empty(), "{faults:?}");
            for command in out {
                match command {
                    Command::Bind(order) => inputs.push(self.bind(*order, false)),
                    Command::BindThrough(_, order) => inputs.push(self.bind(*order, true)),
                    Command::AskExtenders(question) => self.questions.push(*question),
                    Command::Condition(order) => {
                        let text = order.condition.map(|(reason, message)| format!("{reason}: {message}"));
                        self.said.extend(text.map(|text| (order.pod.key.name.to_string(), text)));
                    }
                    Command::Evict(order) => {
                        let victims: Vec<_> = order.victims.iter().map(|(key, _)| &*key.name).collect();
                        self.evictions.push(format!("{} on {}: {}", order.preemptor.key.name, order.node, victims.join(" ")));
                    }
                    _ => {}
                }
            }
        }
    }

    fn bind(&mut self, order: BindOrder, through: bool) -> Input {
        let name = order.pod.key.name.to_string();
        assert!(self.bound.insert(name.clone(), order.node.name.to_string()).is_none(), "{name} is bound twice");
        if through {
            self.through.insert(name);
        }
        Input::Bound(order.pod.uid)
    }

    fn add(&mut self, pod: PodFacts) {
        self.tell(Input::Pod(Box::new(pod)));
        self.schedule();
    }

    fn run(&mut self, name: &str, priority: i32, node: &str) {
        self.tell(Input::Pod(Box::new(PodFacts { node_name: Some(node.into()), ..pod(name, priority, None) })));
    }

    fn schedule(&mut self) {
        while self.engine.wants_schedule() {
            self.tell(Input::Schedule { attempts_max: 1 });
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + DurationMs::from_secs(seconds);
        self.tell(Input::Tick);
        self.schedule();
    }

    fn answer(&mut self, question: &Question, answer: Answer) {
        self.tell(Input::Extended(question.pod.uid.clone(), question.number, answer));
        self.schedule();
    }

    /// The one question that is out.
    fn question(&mut self) -> Question {
        assert_eq!(self.questions.len(), 1, "{:?}", self.questions);
        self.questions.remove(0)
    }

    fn at(&self, name: &str) -> Option<&str> {
        self.bound.get(name).map(String::as_str)
    }
}

fn node(name: &str) -> NodeFacts {
    let allocatable = [("cpu", SEATS), ("memory", 64 << 30), ("pods", 110)];
    NodeFacts {
        name: name.into(),
        uid: name.into(),
        allocatable: allocatable.map(|(name, amount)| (name.into(), Quantity::from_units(amount))).into_iter().collect(),
        ..NodeFacts::default()
    }
}

/// One seat wide; `wants` is what an extender manages.
fn pod(name: &str, priority: i32, wants: Option<&str>) -> PodFacts {
    let one = |name: &str| (name.into(), Quantity::from_units(1));
    let spec = [one("cpu")].into_iter().chain(wants.map(one)).collect();
    let container = ContainerRequests { spec, ..ContainerRequests::default() };
    let requests = PodRequests { containers: vec![container], ..PodRequests::default() }.sums();
    PodFacts {
        key: PodKey::new("default", name),
        uid: PodUid::from(name),
        spec: PodSpecFacts { scheduler_name: "s".into(), priority, requests, ..PodSpecFacts::default() },
        ..PodFacts::default()
    }
}

fn gpu(name: &str) -> PodFacts {
    pod(name, 0, Some(GPU))
}

fn filter(resource: &str) -> ExtenderSpec {
    ExtenderSpec { filters: true, managed_resources: vec![resource.into()], ..ExtenderSpec::default() }
}

fn nodes(question: &Question) -> Vec<&str> {
    let Topic::Nodes(names) = &question.topic else { panic!("{question:?}") };
    names.iter().map(|name| &**name).collect()
}

fn left(names: &[&str]) -> Answer {
    Answer::Nodes(NodesVerdict { left: names.iter().map(|name| (*name).into()).collect(), ..NodesVerdict::default() })
}

#[test]
fn only_pods_that_are_its_business_are_asked_about_and_only_what_passes_is_taken() {
    let mut world = World::new(3, vec![filter(GPU)]);
    world.add(pod("plain", 0, None));
    assert!(world.at("plain").is_some() && world.questions.is_empty());
    world.add(gpu("a"));
    let question = world.question();
    assert_eq!((nodes(&question), &question.extenders[..]), (vec!["n0", "n1", "n2"], [0].as_slice()));
    world.answer(&question, left(&["n2"]));
    assert_eq!(world.at("a"), Some("n2"));
    world.answer(&question, left(&["n1"]));
    assert_eq!(world.bound.len(), 2, "an answer counts once");
}

#[test]
fn scores_of_extenders_are_added_to_ours() {
    let extender = ExtenderSpec { prioritizes: true, ..ExtenderSpec::default() };
    for (scores, want) in [([("n0", 0), ("n1", 100)], "n1"), ([("n0", 300), ("n1", 100)], "n0")] {
        let mut world = World::new(2, vec![extender.clone()]);
        world.add(pod("p", 0, None));
        let question = world.question();
        let scores = scores.map(|(name, score)| (name.into(), score)).into();
        let verdict = NodesVerdict { left: vec!["n0".into(), "n1".into()], scores, ..NodesVerdict::default() };
        world.answer(&question, Answer::Nodes(verdict));
        assert_eq!(world.at("p"), Some(want));
    }
    // One node alone needs no scores.
    let mut world = World::new(1, vec![extender]);
    world.add(pod("p", 0, None));
    assert_eq!(world.at("p"), Some("n0"));
}

#[test]
fn refusals_are_told_and_any_change_brings_the_pod_back() {
    let mut world = World::new(3, vec![filter(GPU)]);
    world.run("full", 0, "n2");
    world.run("full-too", 0, "n2");
    world.add(gpu("a"));
    let question = world.question();
    let refused = vec![("n0".into(), Refusal::unschedulable("no device")), ("n1".into(), Refusal::unresolvable("no driver"))];
    world.answer(&question, Answer::Nodes(NodesVerdict { refused, ..NodesVerdict::default() }));
    let want = "Unschedulable: 0/3 nodes are available: 1 Insufficient cpu, 1 no device, 1 no driver. preemption: 0/3 nodes are available: \
                1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.";
    assert_eq!(world.said["a"], want);
    world.tell(Input::Node(Box::new(NodeFacts { labels: vec![("new".into(), "1".into())], ..node("n1") })));
    world.wait(11);
    assert_eq!(nodes(&world.question()), ["n0", "n1"]);
}

#[test]
fn a_node_that_filled_up_meanwhile_is_not_taken_and_others_do_not_wait() {
    let mut world = World::new(1, vec![filter(GPU)]);
    world.add(gpu("a"));
    let question = world.question();
    world.add(pod("b", 0, None));
    world.add(pod("c", 0, None));
    assert!(world.at("b").is_some() && world.at("c").is_some());
    world.answer(&question, left(&["n0"]));
    assert_eq!(world.at("a"), None);
    assert!(world.said["a"].starts_with("Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."), "{}", world.said["a"]);
    // A node that came while the extender was thinking has to be asked about before the pod is refused.
    world.tell(Input::PodGone(ClusterId::HOME, PodUid::from("b")));
    world.wait(11);
    let question = world.question();
    world.tell(Input::Node(Box::new(node("n1"))));
    world.answer(&question, left(&[]));
    assert_eq!(nodes(&world.question()), ["n0", "n1"]);
}

#[test]
fn an_extender_thinks_of_one_pod_at_a_time_in_the_order_of_the_queue() {
    let mut world = World::new(4, vec![filter(GPU), filter(FPGA)]);
    for pod in [gpu("first"), gpu("low"), pod("high", 5, Some(GPU)), pod("other", 0, Some(FPGA))] {
        world.add(pod);
    }
    let names = |world: &World| world.questions.iter().map(|question| question.pod.key.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&world), ["first", "other"], "extenders do not wait for each other");
    let first = world.questions.remove(0);
    world.answer(&first, left(&["n0"]));
    assert_eq!(names(&world), ["other", "high"]);
    let high = world.questions.remove(1);
    assert!(nodes(&high).contains(&"n0"), "one seat is left");
    world.answer(&high, left(&["n0"]));
    let low = world.questions.remove(1);
    assert!(!nodes(&low).contains(&"n0"), "both decisions count before the next question");
    assert_eq!((world.at("first"), world.at("high")), (Some("n0"), Some("n0")));
    world.answer(&low, left(&["n1"]));
    let other = world.question();
    world.answer(&other, left(&["n2"]));
    assert_eq!(world.bound.len(), 4);
}

#[test]
fn one_that_fails_breaks_the_attempt_and_holds_up_nobody() {
    let mut world = World::new(2, vec![filter(GPU)]);
    world.add(gpu("a"));
    let question = world.question();
    world.answer(&question, Answer::Failed("extender at URL http://e gave no answer within 5000 ms".into()));
    assert_eq!(world.said["a"], "SchedulerError: extender at URL http://e gave no answer within 5000 ms");
    world.add(pod("plain", 0, None));
    assert!(world.at("plain").is_some());
    assert!(world.questions.is_empty(), "not before its backoff");
    world.wait(11);
    assert_eq!(nodes(&world.question()).len(), 2);
    // No answer at all, which only a bug can cause.
    world.wait(301);
    assert_eq!(world.said["a"], "SchedulerError: extenders gave no answer in time");
}

#[test]
fn who_goes_or_changes_while_being_asked_about_is_forgotten() {
    let mut world = World::new(2, vec![filter(GPU)]);
    for name in ["a", "b", "c"] {
        world.add(gpu(name));
    }
    let about_a = world.question();
    world.tell(Input::PodGone(ClusterId::HOME, PodUid::from("b")));
    world.tell(Input::PodGone(ClusterId::HOME, PodUid::from("a")));
    world.schedule();
    let about_c = world.question();
    assert_eq!(&*about_c.pod.key.name, "c", "b was in line and is gone");
    world.answer(&about_a, left(&["n0"]));
    assert!(world.bound.is_empty());
    // It is another pod for every rule now.
    world.add(PodFacts { gates: vec![], ..pod("c", 7, Some(GPU)) });
    let anew = world.question();
    world.answer(&about_c, left(&["n0"]));
    assert!(world.bound.is_empty());
    world.answer(&anew, left(&["n1"]));
    assert_eq!(world.at("c"), Some("n1"));
}

#[test]
fn other_extenders_are_asked_anew() {
    let mut world = World::new(2, vec![filter(GPU)]);
    world.add(gpu("a"));
    world.add(gpu("b"));
    let before = world.question();
    world.tell(Input::Extenders(2, vec![ExtenderSpec { binds: true, ..filter(GPU) }]));
    world.answer(&before, left(&["n0"]));
    assert_eq!(world.bound.len(), 0);
    let question = world.question();
    assert_eq!(question.generation, 2);
    world.answer(&question, left(&["n0"]));
    assert_eq!(world.through.iter().collect::<Vec<_>>(), ["a"]);
    world.tell(Input::Extenders(3, Vec::new()));
    world.schedule();
    assert!(world.at("b").is_some() && !world.through.contains("b"), "nobody is asked any more");
}

#[test]
fn the_nominated_node_is_asked_about_first() {
    for (passes, want) in [(true, "n1"), (false, "n0")] {
        let mut world = World::new(2, vec![filter(GPU)]);
        world.add(PodFacts { nominated_node: Some("n1".into()), ..gpu("a") });
        let own = world.question();
        assert_eq!(nodes(&own), ["n1"]);
        world.answer(&own, left(if passes { &["n1"] } else { &[] }));
        if !passes {
            let all = world.question();
            assert_eq!(nodes(&all), ["n0", "n1"]);
            world.answer(&all, left(&["n0"]));
        }
        assert_eq!(world.at("a"), Some(want));
    }
}

fn crowded() -> World {
    let mut world = World::new(2, vec![ExtenderSpec { preempts: true, ..ExtenderSpec::default() }]);
    for (name, priority, node) in [("zero", 0, "n0"), ("one", 1, "n0"), ("two", 2, "n1"), ("three", 3, "n1")] {
        world.run(name, priority, node);
    }
    world.add(pod("high", 10, None));
    world
}

#[test]
fn extenders_have_a_word_in_preemption() {
    let cleared = |node: &str, victims: &[&str]| Cleared {
        node: node.into(),
        victims: victims.iter().map(|uid| PodUid::from(*uid)).collect(),
        violations: 0,
    };
    let no_candidate = "preemption: no candidate node for preemption";
    for (answer, evicted, said) in [
        (Ok(vec![cleared("n0", &["zero"]), cleared("n1", &["two"])]), Some("high on n0: zero"), "preempting 1 victims"),
        (Ok(vec![cleared("n1", &["two"])]), Some("high on n1: two"), "preempting 1 victims"),
        (Ok(vec![cleared("n1", &["gone"])]), None, no_candidate),
        (Ok(vec![]), None, no_candidate),
        (Err("extender at URL http://e cannot be reached".to_owned()), None, "preemption: extender at URL http://e cannot be reached"),
    ] {
        let mut world = crowded();
        let question = world.question();
        let Topic::Room(offers) = &question.topic else { panic!("{question:?}") };
        let mut offered: Vec<_> = offers.iter().map(|offer| format!("{} {}", offer.node, offer.victims[0].uid)).collect();
        offered.sort();
        assert_eq!(offered, ["n0 zero", "n1 two"]);
        assert!(world.evictions.is_empty(), "not before the extender has spoken");
        world.answer(&question, Answer::Room(answer));
        assert_eq!(world.evictions.first().map(String::as_str), evicted);
        assert!(world.said["high"].ends_with(said), "{}", world.said["high"]);
    }
}

/// Answers come late, in any order, with anything; pods go and nodes come. Each pod is bound once at most and no node gets more than it takes.
#[test]
fn worlds_in_which_answers_come_late() {
    for seed in 0..100 {
        let mut draw = Pcg64Mcg::seed_from_u64(seed);
        let mut extenders = vec![filter(GPU), ExtenderSpec { prioritizes: true, ..filter(FPGA) }];
        extenders.truncate(draw.random_range(1..=2));
        let mut world = World::new(draw.random_range(1..4), extenders);
        for step in 0..40 {
            match draw.random_range(0..6) {
                0 | 1 => {
                    let wants = [None, Some(GPU), Some(FPGA)][draw.random_range(0..3)];
                    let mut pod = pod(&format!("p{step}"), draw.random_range(0..3), wants);
                    pod.spec.never_preempts = true;
                    world.add(pod);
                }
                2 | 3 if !world.questions.is_empty() => {
                    let question = world.questions.swap_remove(draw.random_range(0..world.questions.len()));
                    let answer = random_answer(&question, &mut draw);
                    world.answer(&question, answer);
                }
                4 => {
                    let uid = PodUid::from(&*format!("p{}", draw.random_range(0..=step)));
                    world.tell(Input::PodGone(ClusterId::HOME, uid.clone()));
                    world.bound.remove(&*uid.0);
                }
                _ => world.wait(draw.random_range(1..30)),
            }
            let mut seats: BTreeMap<&str, i64> = BTreeMap::new();
            world.bound.values().for_each(|node| *seats.entry(node).or_default() += 1);
            assert!(seats.values().all(|taken| *taken <= SEATS), "seed {seed}: {seats:?}");
        }
        // In the end everybody is asked about and answered.
        for _ in 0..60 {
            while let Some(question) = world.questions.pop() {
                let names = nodes(&question).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
                world.answer(&question, left(&names.iter().map(String::as_str).collect::<Vec<_>>()));
            }
            world.wait(11);
        }
        let sizes = world.engine.gauges();
        assert_eq!((sizes.active, sizes.gated), (0, 0), "seed {seed}: nobody is held for ever");
    }
}

fn random_answer(question: &Question, draw: &mut Pcg64Mcg) -> Answer {
    let Topic::Nodes(names) = &question.topic else { return Answer::Room(Ok(Vec::new())) };
    if draw.random_bool(0.2) {
        return Answer::Failed("out of order".into());
    }
    let mut verdict = NodesVerdict::default();
    for name in names {
        match draw.random_range(0..4) {
            0 => verdict.refused.push((name.clone(), Refusal::unschedulable("no device"))),
            1 => {}
            _ => verdict.left.push(name.clone()),
        }
    }
    verdict.scores = verdict.left.iter().map(|name| (name.clone(), draw.random_range(0..1000))).collect();
    Answer::Nodes(verdict)
}

//! Groups of pods through the engine: who is held for whom, all or nothing, what becomes of bindings that fail, preemption for a whole group; and worlds by
//! seed, in which at no moment a part of a group is bound or holds room for longer than it may.

mod worlds;

use std::{collections::BTreeMap, sync::Arc};

use isobar::{
    model::{
        gang::{Membership, PodGroupFacts},
        ids::{ClusterId, NodeIx, NodeKey, PodKey, PodUid},
        node::NodeFacts,
        pod::{PodFacts, PodSpecFacts},
        quantity::Quantity,
        requests::{ContainerRequests, PodRequests},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        engine::{Engine, EngineSettings},
        framework::{Plugin, PodInHand, PreBind, PreBindWork},
        input::{BindFailure, BindOrder, Command, EvictOrder, GroupConditionOrder, Input, PreBindDone},
        nodes::Nodes,
        observe::Silent,
        profile::ProfileSpec,
        profiles::OutOfTree,
        registry::Registry,
    },
};

use crate::first_lists::first_lists;

/// A node takes so many pods of these tests.
const SEATS: usize = 4;

/// Pods that are slow have something to be written before they are bound.
struct Slow;

impl Plugin for Slow {
    fn name(&self) -> &'static str {
        "Slow"
    }
    fn pre_bind(&mut self) -> Option<&mut dyn PreBind> {
        Some(self)
    }
}

impl PreBind for Slow {
    fn work(&mut self, pod: PodInHand<'_>, _: NodeIx, _: &Nodes) -> Option<PreBindWork> {
        let patches = vec![("/x".to_owned(), "{}".to_owned())];
        pod.key.name.starts_with("slow").then_some(PreBindWork { plugin: "Slow", patches, settles_within: None })
    }
}

struct World {
    engine: Engine,
    now: Timestamp,
    /// What the API server has.
    pods: BTreeMap<PodUid, PodFacts>,
    nodes: BTreeMap<Box<str>, NodeFacts>,
    orders: Vec<BindOrder>,
    evictions: Vec<EvictOrder>,
    /// Slow pods whose write is under way.
    writes: Vec<PodUid>,
    /// Reason and text of the conditions written, by pod.
    said: BTreeMap<PodUid, (&'static str, String)>,
    groups: Vec<GroupConditionOrder>,
}

impl World {
    fn new(nodes: usize, seed: u64) -> Self {
        let configuration = isobar::config::load(&[], &Registry::in_tree()).unwrap();
        let mut profile = ProfileSpec { scheduler_name: "s".into(), ..configuration.profiles[0].clone() };
        profile.plugins.pre_bind.push("Slow");
        profile.plugins.permit.push("GangScheduling");
        let mut out_of_tree = OutOfTree::default();
        out_of_tree.register("Slow", Arc::new(|_, _| Box::new(Slow)));
        let settings = EngineSettings { seed, binds_in_flight_max: 8, ..EngineSettings::default() };
        let engine = Engine::new(vec![profile], out_of_tree, settings, Box::new(Silent)).unwrap();
        let mut world = Self {
            engine,
            now: Timestamp(1_000_000),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            orders: Vec::new(),
            evictions: Vec::new(),
            writes: Vec::new(),
            said: BTreeMap::new(),
            groups: Vec::new(),
        };
        for number in 0..nodes {
            world.add_node(number);
        }
        first_lists(world.nodes.keys().cloned()).into_iter().for_each(|input| world.tell(input));
        world
    }

    fn add_node(&mut self, number: usize) {
        let facts = node(&format!("n{number}"));
        self.nodes.insert(facts.name.clone(), facts.clone());
        self.tell(Input::Node(Box::new(facts)));
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.engine.handle(self.now, input, &mut out);
        let faults = self.engine.consistency_check();
        assert!(faults.is_empty(), "{faults:?}");
        for command in out {
            match command {
                Command::Bind(order) => self.orders.push(*order),
                Command::PreBind(pod, _) => self.writes.push(pod.uid),
                Command::Condition(order) => {
                    if let Some((reason, message)) = order.condition {
                        self.said.insert(order.pod.uid.clone(), (reason, message.to_string()));
                    }
                    if let (Some(node), Some(pod)) = (order.nominated_node, self.pods.get_mut(&order.pod.uid)) {
                        pod.nominated_node = Some(node).filter(|node| !node.is_empty());
                    }
                }
                Command::GroupCondition(order) => self.groups.push(*order),
                Command::Evict(order) => self.evictions.push(*order),
                Command::Event(_) | Command::PlacedAgain(..) | Command::ResolveImages(..) => {}
                Command::AskExtenders(_) | Command::BindThrough(..) => panic!("there are no extenders"),
            }
        }
    }

    fn add(&mut self, pod: PodFacts) {
        self.pods.insert(pod.uid.clone(), pod.clone());
        self.tell(Input::Pod(Box::new(pod)));
    }

    fn gone(&mut self, uid: &str) {
        self.pods.remove(&PodUid::from(uid));
        self.tell(Input::PodGone(ClusterId::HOME, PodUid::from(uid)));
    }

    fn run(&mut self, pod: PodFacts, node: &str) {
        self.add(PodFacts { node_name: Some(node.into()), ..pod });
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

    fn bind(&mut self, order: BindOrder) {
        let pod = self.pods.get_mut(&order.pod.uid).unwrap();
        assert!(pod.node_name.is_none(), "{} is bound twice", pod.key);
        pod.node_name = Some(order.node.name);
        let pod = pod.clone();
        self.tell(Input::Pod(Box::new(pod)));
        self.tell(Input::Bound(order.pod.uid));
    }

    /// All that is ordered is done, and the victims go.
    fn serve(&mut self) {
        for uid in std::mem::take(&mut self.writes) {
            self.tell(Input::PreBound(uid, PreBindDone { plugin: "Slow", versions: vec!["1".into()], failure: None }));
        }
        for order in std::mem::take(&mut self.orders) {
            self.bind(order);
        }
        for order in std::mem::take(&mut self.evictions) {
            order.victims.iter().for_each(|(_, uid)| self.gone(&uid.0));
            self.tell(Input::Evicted(order.preemptor.uid, Ok(())));
        }
        self.schedule();
    }

    fn bound(&self) -> Vec<&str> {
        self.pods.values().filter(|pod| pod.node_name.is_some()).map(|pod| &*pod.uid.0).collect()
    }

    fn ordered(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.orders.iter().map(|order| &*order.pod.key.name).collect();
        names.sort_unstable();
        names
    }

    fn assumed(&self) -> usize {
        self.engine.cache().assumed()
    }

    fn said(&self, name: &str) -> (&str, &str) {
        let (reason, text) = &self.said[&PodUid::from(name)];
        (reason, text)
    }
}

fn node(name: &str) -> NodeFacts {
    let allocatable = [("cpu", 4), ("memory", 64 << 30), ("pods", 110)];
    NodeFacts {
        name: name.into(),
        uid: name.into(),
        allocatable: allocatable.map(|(name, amount)| (name.into(), Quantity::from_units(amount))).into_iter().collect(),
        ..NodeFacts::default()
    }
}

/// One seat wide.
fn pod(name: &str) -> PodFacts {
    let spec = [("cpu".into(), Quantity::from_units(1))].into_iter().collect();
    let container = ContainerRequests { spec, ..ContainerRequests::default() };
    let requests = PodRequests { containers: vec![container], ..PodRequests::default() }.sums();
    PodFacts {
        key: PodKey::new("default", name),
        uid: PodUid::from(name),
        spec: PodSpecFacts { scheduler_name: "s".into(), requests, ..PodSpecFacts::default() },
        ..PodFacts::default()
    }
}

fn said(membership: Membership, pod: PodFacts) -> PodFacts {
    PodFacts { group: Some(Box::new(membership)), ..pod }
}

fn gang(min_count: u32, pod: PodFacts) -> PodFacts {
    said(Membership::Gang { name: "g".into(), min_count, timeout: DurationMs::from_secs(60) }, pod)
}

fn important(priority: i32, mut pod: PodFacts) -> PodFacts {
    pod.spec.priority = priority;
    pod
}

fn pod_group(min_count: Option<u32>) -> PodGroupFacts {
    PodGroupFacts {
        namespace: "default".into(),
        name: "g".into(),
        uid: "group".into(),
        generation: 1,
        min_count,
        ..PodGroupFacts::default()
    }
}

#[test]
fn members_are_held_until_all_that_are_needed_are_there() {
    let mut world = World::new(2, 1);
    world.add(gang(3, pod("a")));
    world.add(PodFacts { gates: vec!["wait".into()], ..gang(3, pod("b")) });
    world.add(gang(3, pod("c")));
    world.add(PodFacts { key: PodKey::new("other", "d"), ..gang(3, pod("d")) });
    world.schedule();
    assert!(world.orders.is_empty() && world.said.is_empty(), "two, one that is gated, and one elsewhere are not three");
    world.wait(2);
    let text = "waiting for members of gang \"g\": at least 3 have to be there before any is placed";
    assert_eq!(world.said("a"), ("SchedulingGated", text));
    assert_eq!(world.said.len(), 3, "{:?}", world.said);
    world.add(gang(3, pod("b")));
    world.schedule();
    assert_eq!(world.ordered(), ["a", "b", "c"]);
    assert_eq!(world.assumed(), 3);
}

#[test]
fn what_does_not_fit_as_a_whole_holds_nothing() {
    let mut world = World::new(1, 1);
    (0..5).for_each(|number| world.add(gang(5, pod(&format!("p{number}")))));
    world.schedule();
    assert_eq!((world.assumed(), world.orders.len()), (0, 0));
    let text =
        "gang \"g\" cannot be placed: 4 of 5 pods that have to be placed at once fit; pod p4: 0/1 nodes are available: 1 Insufficient cpu.";
    for name in ["p0", "p4"] {
        assert_eq!(world.said(name), ("Unschedulable", text));
    }
    // The room is there for others meanwhile.
    world.add(pod("single"));
    world.schedule();
    assert_eq!(world.ordered(), ["single"]);
    world.serve();
    world.add_node(1);
    world.wait(11);
    assert_eq!(world.ordered(), ["p0", "p1", "p2", "p3", "p4"]);
}

#[test]
fn more_than_are_needed_go_if_there_is_room_and_later_ones_by_themselves() {
    let mut world = World::new(1, 1);
    world.run(pod("other"), "n0");
    (0..4).for_each(|number| world.add(gang(2, pod(&format!("p{number}")))));
    world.schedule();
    // The first two that came were enough; the others followed.
    assert_eq!(world.ordered(), ["p0", "p1", "p2"]);
    assert_eq!(world.said("p3").1, "0/1 nodes are available: 1 Insufficient cpu.");
    world.serve();
    world.gone("other");
    world.wait(11);
    assert_eq!(world.ordered(), ["p3"]);
}

#[test]
fn members_on_nodes_count_and_those_that_end_do_not() {
    let mut world = World::new(2, 1);
    world.run(gang(3, pod("a")), "n0");
    world.add(gang(3, pod("b")));
    world.run(PodFacts { deleting: true, ..gang(3, pod("old")) }, "n0");
    world.schedule();
    assert!(world.orders.is_empty());
    world.add(gang(3, pod("c")));
    world.schedule();
    assert_eq!(world.ordered(), ["b", "c"]);
}

#[test]
fn annotations_that_cannot_be_followed_hold_their_pod_alone() {
    let mut world = World::new(1, 1);
    world.add(said(Membership::Faulty("annotation x is wrong".into()), pod("bad")));
    world.add(gang(1, pod("good")));
    world.add(pod("single"));
    world.schedule();
    assert_eq!(world.said("bad"), ("SchedulingGated", "annotation x is wrong"));
    assert_eq!(world.ordered(), ["good", "single"]);
    world.add(pod("bad"));
    world.schedule();
    assert_eq!(world.ordered(), ["bad", "good", "single"]);
}

#[test]
fn the_largest_number_asked_for_counts_while_its_pod_is_there() {
    let mut world = World::new(1, 1);
    world.add(gang(2, pod("a")));
    world.add(gang(3, pod("b")));
    world.schedule();
    assert!(world.orders.is_empty());
    world.gone("b");
    world.add(gang(2, pod("c")));
    world.schedule();
    assert_eq!(world.ordered(), ["a", "c"]);
}

#[test]
fn nobody_is_bound_before_all_have_what_they_need() {
    let mut world = World::new(1, 1);
    for name in ["a", "slow-b", "slow-c"] {
        world.add(gang(3, pod(name)));
    }
    world.schedule();
    assert_eq!((world.orders.len(), world.writes.len(), world.assumed()), (0, 2, 3));
    let done = |failure| PreBindDone { plugin: "Slow", versions: Vec::new(), failure };
    world.tell(Input::PreBound("slow-b".into(), done(None)));
    assert!(world.orders.is_empty());
    // One fails, and is tried again; the others wait for it with their nodes.
    world.tell(Input::PreBound("slow-c".into(), done(Some(BindFailure::Failed("500".into())))));
    assert_eq!(world.assumed(), 2);
    world.writes.clear();
    world.wait(2);
    assert_eq!((world.writes.len(), world.assumed()), (1, 3));
    world.tell(Input::PreBound("slow-c".into(), done(None)));
    assert_eq!(world.ordered(), ["a", "slow-b", "slow-c"]);
}

#[test]
fn all_is_given_back_when_the_others_do_not_come_in_time() {
    let mut world = World::new(1, 1);
    for name in ["a", "b", "slow-c"] {
        world.add(gang(3, pod(name)));
    }
    world.schedule();
    assert_eq!(world.assumed(), 3);
    world.gone("slow-c");
    world.wait(59);
    assert_eq!(world.assumed(), 2);
    world.add(pod("wide"));
    world.wait(1);
    assert_eq!(world.assumed(), 1, "only the pod that has nothing to do with it");
    let text = "0/1 nodes are available: 1 rejected due to timeout after waiting 60s at plugin GangScheduling.";
    assert_eq!(world.said("a"), ("Unschedulable", text));
    world.serve();
    world.add(gang(3, pod("d")));
    world.wait(11);
    assert_eq!(world.ordered(), ["a", "b", "d"]);
}

#[test]
fn a_binding_that_fails_is_made_up_for_without_the_others() {
    let mut world = World::new(1, 1);
    (0..3).for_each(|number| world.add(gang(3, pod(&format!("p{number}")))));
    world.schedule();
    let order = world.orders.remove(0);
    world.tell(Input::BindFailed(order.pod.uid.clone(), BindFailure::Failed("500".into())));
    world.serve();
    assert_eq!(world.bound().len(), 2);
    world.wait(2);
    assert_eq!(world.ordered(), [&*order.pod.key.name]);
    world.serve();
    assert_eq!(world.bound(), ["p0", "p1", "p2"]);
}

#[test]
fn a_group_makes_room_for_all_of_it_or_ends_nobody() {
    for (members, evicted) in [(4, 3), (8, 7), (9, 0)] {
        let mut world = World::new(2, 1);
        for number in 0..7 {
            world.run(pod(&format!("low-{number}")), if number < 4 { "n0" } else { "n1" });
        }
        (0..members).for_each(|number| world.add(important(10, gang(members, pod(&format!("p{number}"))))));
        world.schedule();
        let victims: usize = world.evictions.iter().map(|order| order.victims.len()).sum();
        assert_eq!(victims, evicted, "{members} members: {:?}", world.said);
        assert_eq!(world.assumed(), 0);
        let ends =
            if evicted == 0 { "Insufficient cpu.".to_owned() } else { format!("found room for all of them, preempting {evicted} victims") };
        assert!(world.said("p0").1.ends_with(&ends), "{members} members: {:?}", world.said("p0"));
        // What is cleared is kept for them.
        world.add(important(5, pod("between")));
        world.schedule();
        let between = world.orders.len();
        assert_eq!(between, usize::from(evicted == 0), "{members} members: {:?}", world.said.get(&PodUid::from("between")));
        for _ in 0..3 {
            world.serve();
            world.wait(11);
        }
        let placed = world.bound().iter().filter(|name| name.starts_with('p')).count();
        assert_eq!(placed, if evicted == 0 { 0 } else { members as usize }, "{members} members: {:?}", world.said);
    }
}

#[test]
fn victims_that_take_their_time_are_waited_for() {
    let mut world = World::new(1, 1);
    (0..4).for_each(|number| world.run(pod(&format!("low-{number}")), "n0"));
    (0..2).for_each(|number| world.add(important(10, gang(2, pod(&format!("p{number}"))))));
    world.schedule();
    let orders = std::mem::take(&mut world.evictions);
    let victims: Vec<String> = orders.iter().flat_map(|order| &order.victims).map(|(_, uid)| uid.0.to_string()).collect();
    assert_eq!(victims.len(), 2);
    for name in &victims {
        let facts = PodFacts { deleting: true, preempted: true, ..world.pods[&PodUid::from(&**name)].clone() };
        world.add(facts);
    }
    orders.iter().for_each(|order| world.tell(Input::Evicted(order.preemptor.uid.clone(), Ok(()))));
    (0..4).for_each(|_| world.wait(310));
    assert!(world.evictions.is_empty() && world.assumed() == 0);
    world.gone(&victims[0]);
    world.wait(11);
    assert_eq!(world.assumed(), 0, "one place is none for two");
    world.gone(&victims[1]);
    world.wait(11);
    assert_eq!(world.ordered(), ["p0", "p1"]);
    assert!(world.evictions.is_empty());
}

// === PodGroups ===

fn member(name: &str) -> PodFacts {
    said(Membership::PodGroup("g".into()), pod(name))
}

#[test]
fn a_pod_group_is_waited_for_and_its_status_says_how_it_went() {
    let mut world = World::new(1, 1);
    world.add(member("a"));
    world.wait(2);
    assert_eq!(world.said("a"), ("SchedulingGated", "waiting for pods's pod group \"g\" to appear in scheduling queue"));
    world.tell(Input::PodGroup(Box::new(pod_group(Some(5)))));
    (1..5).for_each(|number| world.add(member(&format!("p{number}"))));
    world.schedule();
    assert_eq!(world.assumed(), 0);
    let order = world.groups.pop().unwrap();
    assert_eq!((order.is_scheduled, order.is_turn, order.reason, order.generation), (false, true, "Unschedulable", 1));
    assert!(order.message.starts_with("pod group \"g\" cannot be placed: 4 of 5 pods"), "{}", order.message);
    // Fewer are asked for.
    let condition = Some((false, order.reason.into(), (*order.message).into()));
    world.tell(Input::PodGroup(Box::new(PodGroupFacts { condition, ..pod_group(Some(4)) })));
    world.wait(11);
    assert_eq!(world.orders.len(), 4);
    let order = world.groups.pop().unwrap();
    assert_eq!((order.is_scheduled, order.is_turn, order.reason, world.groups.len()), (true, true, "Scheduled", 0));
}

#[test]
fn a_basic_pod_group_holds_nobody() {
    let mut world = World::new(1, 1);
    world.tell(Input::PodGroup(Box::new(pod_group(None))));
    (0..5).for_each(|number| world.add(member(&format!("p{number}"))));
    world.schedule();
    assert_eq!(world.orders.len(), 4);
    assert!(world.groups.len() == 1 && world.groups[0].is_scheduled, "{:?}", world.groups);
}

#[test]
fn what_a_pod_group_asks_for_beyond_this_version_keeps_its_pods_pending() {
    let mut world = World::new(1, 1);
    world.tell(Input::PodGroup(Box::new(PodGroupFacts { not_followed: Some("no such thing".into()), ..pod_group(Some(1)) })));
    world.add(member("a"));
    world.wait(2);
    assert_eq!((world.said("a"), world.orders.len()), (("SchedulingGated", "no such thing"), 0));
}

#[test]
fn a_group_that_is_ended_whole_goes_whole() {
    for (whole, preemptor, want) in [(true, 0, 2), (false, 0, 1), (true, 1, 2), (false, 1, 1)] {
        let mut world = World::new(1, 1);
        world.tell(Input::PodGroup(Box::new(PodGroupFacts { is_disrupted_whole: whole, ..pod_group(Some(2)) })));
        (0..2).for_each(|number| world.run(member(&format!("victim-{number}")), "n0"));
        (0..2).for_each(|number| world.run(important(20, pod(&format!("other-{number}"))), "n0"));
        let high = important(10, pod("high"));
        world.add(if preemptor == 0 { high } else { gang(1, high) });
        world.schedule();
        let victims: usize = world.evictions.iter().map(|order| order.victims.len()).sum();
        assert_eq!(victims, want, "whole: {whole}, by a group: {}", preemptor == 1);
        (0..2).for_each(|_| {
            world.serve();
            world.wait(11);
        });
        assert!(world.bound().contains(&"high"));
    }
}

#[test]
fn without_the_plugin_a_pod_group_is_not_heeded() {
    let mut world = World::new(1, 1);
    let mut profile =
        ProfileSpec { scheduler_name: "s".into(), ..isobar::config::load(&[], &Registry::in_tree()).unwrap().profiles[0].clone() };
    profile.plugins.permit.clear();
    world.tell(Input::Profiles(vec![profile]));
    world.add(member("a"));
    world.schedule();
    assert_eq!(world.ordered(), ["a"]);
}

#[test]
fn a_node_that_goes_leaves_a_group_that_fits_elsewhere() {
    let mut world = World::new(2, 1);
    world.tell(Input::NodeGone(NodeKey::home("n0")));
    (0..SEATS).for_each(|number| world.add(gang(4, pod(&format!("p{number}")))));
    world.schedule();
    assert!(world.orders.iter().all(|order| &*order.node.name == "n1") && world.orders.len() == SEATS);
}

//! Pods that want something of other pods, through the engine: which labels tell classes apart, what is waited for, and who is tried again.

use isobar::{
    model::{
        cluster::ClusterFacts,
        ids::{ClusterId, PodKey, PodUid},
        node::NodeFacts,
        placement::{CLUSTER, RUN_HOME_UID, RecordedPlacement, virtual_node},
        pod::{PodFacts, PodSpecFacts},
        quantity::Quantity,
        selector::LabelSelectorFacts,
        storage::StorageKind,
        terms::{AffinityTermFacts, PodAffinityFacts, SelectingKind, SpreadFacts, WhenUnsatisfiable},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        engine::{Engine, EngineSettings},
        input::{BindFailure, Command, Input},
        observe::Silent,
        profile::ProfileSpec,
        profiles::OutOfTree,
        registry::Registry,
    },
};
use rustc_hash::FxHashSet;

use crate::first_lists::first_lists;

const ZONE: &str = "topology.kubernetes.io/zone";
const OWN_NAME: &str = "statefulset.kubernetes.io/pod-name";

struct World {
    engine: Engine,
    now: Timestamp,
}

impl World {
    /// A leading engine with the first lists, and as many nodes in each of the zones a, b and c.
    fn new(nodes_per_zone: usize) -> Self {
        let configuration = isobar::config::load(&[], &Registry::in_tree()).unwrap();
        let profile = ProfileSpec { scheduler_name: "s".into(), ..configuration.profiles[0].clone() };
        let engine = Engine::new(vec![profile], OutOfTree::default(), EngineSettings::default(), Box::new(Silent)).unwrap();
        let mut world = Self { engine, now: Timestamp(1_000_000) };
        for number in 0..nodes_per_zone {
            for zone in ["a", "b", "c"] {
                world.tell(Input::Node(Box::new(node(ClusterId::HOME, &format!("{zone}{number}"), zone))));
            }
        }
        let nodes = &world.engine.cache().nodes;
        first_lists(nodes.iter().map(|(ix, _)| nodes.name(ix).into())).into_iter().for_each(|input| drop(world.tell(input)));
        world
    }

    fn tell(&mut self, input: Input) -> Vec<Command> {
        let mut out = Vec::new();
        self.engine.handle(self.now, input, &mut out);
        let faults = self.engine.consistency_check();
        assert!(faults.is_empty(), "{faults:?}");
        out
    }

    fn add(&mut self, pod: &PodFacts) {
        self.tell(Input::Pod(Box::new(pod.clone())));
    }

    /// Decides about all pods that are ready, and lets the watch show every binding. Pods with their clusters and nodes.
    fn schedule(&mut self, pods: &[PodFacts]) -> Vec<(PodUid, ClusterId, Box<str>)> {
        let mut bound = Vec::new();
        while self.engine.wants_schedule() {
            for command in self.tell(Input::Schedule { attempts_max: 1 }) {
                let Command::Bind(order) = command else { continue };
                bound.push((order.pod.uid.clone(), order.node.cluster, order.node.name.clone()));
                self.tell(Input::Bound(order.pod.uid.clone()));
                let pod = pods.iter().find(|pod| pod.uid == order.pod.uid).unwrap();
                if order.node.cluster == ClusterId::HOME {
                    self.add(&PodFacts { node_name: Some(order.node.name), ..pod.clone() });
                }
            }
        }
        bound
    }

    /// Enough time for every backoff.
    fn wait(&mut self) {
        self.now = self.now + DurationMs::from_secs(20);
        self.tell(Input::Tick);
    }
}

fn node(cluster: ClusterId, name: &str, zone: &str) -> NodeFacts {
    NodeFacts {
        cluster,
        name: name.into(),
        uid: name.into(),
        labels: vec![(ZONE.into(), zone.into()), ("kubernetes.io/hostname".into(), name.into())],
        allocatable: [("cpu", 64), ("memory", 64 << 30), ("pods", 110)]
            .map(|(name, amount)| (name.into(), Quantity::from_units(amount)))
            .into_iter()
            .collect(),
        ..NodeFacts::default()
    }
}

fn pod(name: &str, app: &str) -> PodFacts {
    PodFacts {
        key: PodKey::new("default", name),
        uid: PodUid::from(name),
        labels: vec![("app".into(), app.into()), (OWN_NAME.into(), name.into())],
        spec: PodSpecFacts { scheduler_name: "s".into(), ..PodSpecFacts::default() },
        ..PodFacts::default()
    }
}

fn selecting(key: &str, value: &str) -> LabelSelectorFacts {
    LabelSelectorFacts { match_labels: vec![(key.into(), value.into())], ..LabelSelectorFacts::default() }
}

fn term(key: &str, app: &str) -> AffinityTermFacts {
    AffinityTermFacts { label_selector: Some(selecting("app", app)), topology_key: key.into(), ..AffinityTermFacts::default() }
}

fn spreading(mut pod: PodFacts) -> PodFacts {
    pod.spec.spread = vec![SpreadFacts {
        max_skew: 1,
        topology_key: ZONE.into(),
        when: WhenUnsatisfiable::DoNotSchedule,
        min_domains: None,
        honor_node_affinity: true,
        honor_node_taints: false,
        selector: Some(selecting("app", "web")),
    }];
    pod
}

fn near(mut pod: PodFacts, term: AffinityTermFacts) -> PodFacts {
    pod.spec.pod_affinity = Some(Box::new(PodAffinityFacts { required: vec![term], ..PodAffinityFacts::default() }));
    pod
}

fn far(mut pod: PodFacts, term: AffinityTermFacts) -> PodFacts {
    pod.spec.pod_affinity = Some(Box::new(PodAffinityFacts { anti_required: vec![term], ..PodAffinityFacts::default() }));
    pod
}

#[test]
fn a_hard_spread_is_kept_pod_by_pod() {
    let mut world = World::new(2);
    let pods: Vec<PodFacts> = (0..10).map(|number| spreading(pod(&format!("web-{number}"), "web"))).collect();
    pods.iter().for_each(|pod| world.add(pod));
    let mut zones = [0_u32; 3];
    for (_, _, node) in world.schedule(&pods) {
        zones[usize::from(node.as_bytes()[0] - b'a')] += 1;
        assert!(zones.iter().max().unwrap() - zones.iter().min().unwrap() <= 1, "{zones:?}");
    }
    assert_eq!(zones.iter().sum::<u32>(), 10);
}

/// Replicas of a `StatefulSet` are one class until somebody reads the label in which they differ, and then only in that namespace.
#[test]
fn labels_tell_classes_apart_where_they_are_read() {
    let mut world = World::new(1);
    let mut pods: Vec<PodFacts> = (0..20).map(|number| spreading(pod(&format!("web-{number}"), "web"))).collect();
    for number in 0..5 {
        let elsewhere = pod(&format!("other-{number}"), "web");
        pods.push(PodFacts { key: PodKey::new("other", &elsewhere.key.name), ..elsewhere });
    }
    pods.iter().take(15).for_each(|pod| world.add(pod));
    world.schedule(&pods);
    pods.iter().skip(15).for_each(|pod| world.add(pod));
    assert_eq!(world.engine.gauges().classes, 2, "one for each namespace");
    let select = |selector| Input::Selects(SelectingKind::Service, "default".into(), "web-3".into(), selector);
    world.tell(select(Some(selecting(OWN_NAME, "web-3"))));
    assert_eq!(world.engine.gauges().classes, 21, "each replica, and the other namespace");
    world.tell(select(None));
    assert_eq!(world.schedule(&pods).len(), 10);
    pods.iter().for_each(|pod| drop(world.tell(Input::PodGone(ClusterId::HOME, pod.uid.clone()))));
    assert_eq!(world.engine.gauges().classes, 0);
}

#[test]
fn nothing_is_decided_before_everything_is_listed() {
    let mut world = World::new(1);
    world.tell(Input::AwaitLists);
    world.add(&pod("p", "web"));
    for kind in StorageKind::ALL {
        assert!(!world.engine.wants_schedule(), "before the list of {kind:?}");
        world.tell(Input::StorageListed(kind, FxHashSet::default()));
    }
    for kind in SelectingKind::ALL {
        assert!(!world.engine.wants_schedule(), "before the list of {kind:?}");
        world.tell(Input::SelectsListed(kind, FxHashSet::default()));
    }
    assert!(!world.engine.wants_schedule(), "before the list of namespaces");
    world.tell(Input::NamespacesListed(FxHashSet::default()));
    assert!(!world.engine.wants_schedule(), "before the list of budgets");
    world.tell(Input::BudgetsListed(FxHashSet::default()));
    assert!(world.engine.wants_schedule());
}

#[test]
fn a_pod_waits_for_the_one_it_wants_to_be_near() {
    let mut world = World::new(1);
    let pods = [near(pod("web", "web"), term(ZONE, "db")), pod("db", "db")];
    world.add(&pods[0]);
    assert!(world.schedule(&pods).is_empty());
    world.add(&pods[1]);
    let bound = world.schedule(&pods);
    assert_eq!(bound.iter().map(|(uid, ..)| uid.clone()).collect::<Vec<_>>(), ["db", "web"].map(PodUid::from));
    assert_eq!(bound[0].2, bound[1].2, "one node is one zone here");
}

/// As above, where the other pod is there and only its labels are not what they should be.
#[test]
fn labels_of_a_running_pod_that_change_cure_and_those_of_a_namespace_too() {
    let mut world = World::new(1);
    let db = PodFacts { node_name: Some("a0".into()), ..pod("db", "nothing yet") };
    world.add(&db);
    let mut wanted = term(ZONE, "db");
    wanted.namespace_selector = Some(selecting("team", "a"));
    let pods = [near(pod("web", "web"), term(ZONE, "db")), near(pod("far-web", "web"), wanted)];
    pods.iter().for_each(|pod| world.add(pod));
    assert!(world.schedule(&pods).is_empty());
    world.add(&PodFacts { labels: pod("db", "db").labels, ..db });
    world.wait();
    assert_eq!(world.schedule(&pods), [(PodUid::from("web"), ClusterId::HOME, "a0".into())]);
    world.tell(Input::Namespace("default".into(), Some(vec![("team".into(), "a".into())])));
    world.wait();
    assert_eq!(world.schedule(&pods), [(PodUid::from("far-web"), ClusterId::HOME, "a0".into())]);
}

#[test]
fn a_pod_that_is_being_deleted_counts_for_affinity_and_not_for_spread() {
    let mut world = World::new(1);
    let running = PodFacts { node_name: Some("a0".into()), ..pod("old", "web") };
    world.add(&PodFacts { deleting: true, ..running });
    let pods = [near(pod("near", "p"), term(ZONE, "web")), far(pod("far", "p"), term(ZONE, "web"))];
    pods.iter().for_each(|pod| world.add(pod));
    let bound = world.schedule(&pods);
    assert!(bound.iter().any(|(uid, _, node)| *uid == PodUid::from("near") && **node == *"a0"));
    assert!(bound.iter().any(|(uid, _, node)| *uid == PodUid::from("far") && **node != *"a0"));
    world.tell(Input::PodGone(ClusterId::HOME, PodUid::from("far")));
    let spread: Vec<PodFacts> = (0..3).map(|number| spreading(pod(&format!("web-{number}"), "web"))).collect();
    spread.iter().for_each(|pod| world.add(pod));
    let zones: FxHashSet<_> = world.schedule(&spread).into_iter().map(|(_, _, node)| node).collect();
    assert_eq!(zones.len(), 3, "the old one is no third in its zone");
}

/// A home pod that runs abroad counts there once, with its own namespace and labels; its run has neither.
#[test]
fn a_pod_on_a_compute_cluster_counts_as_the_home_pod_that_it_is() {
    let cloud = ClusterId(1);
    let mut world = World::new(1);
    world.tell(Input::Cluster(Box::new(ClusterFacts { id: cloud, name: "cloud".into(), preference: 100, ..ClusterFacts::default() })));
    world.tell(Input::Node(Box::new(node(cloud, "r0", "z"))));
    let recorded = RecordedPlacement { cluster: "cloud".into(), node: "r0".into(), intent: false };
    let home =
        PodFacts { node_name: Some(virtual_node("cloud").into()), recorded: Some(Box::new(recorded)), run_attempt: 1, ..pod("db", "db") };
    let run = PodFacts {
        cluster: cloud,
        key: PodKey::new("isobar-runs", "db-1"),
        uid: PodUid::from("run"),
        node_name: Some("r0".into()),
        labels: vec![(RUN_HOME_UID.into(), "db".into())],
        ..pod("run", "")
    };
    // The run is seen first: nobody knows yet what it is.
    world.add(&run);
    let pods = [far(pod("away", "web"), term(CLUSTER, "db")), near(pod("near", "web"), term(CLUSTER, "db"))];
    world.add(&pods[1]);
    assert!(world.schedule(&pods).is_empty(), "a run has no labels of home");
    world.add(&home);
    world.wait();
    assert_eq!(world.schedule(&pods), [(PodUid::from("near"), cloud, "r0".into())]);
    world.add(&pods[0]);
    let bound = world.schedule(&pods);
    assert!(bound.len() == 1 && bound[0].1 == ClusterId::HOME, "{bound:?}");
}

/// After a change of leaders nobody works for the cluster at first: the run may be there already, so that the pod must go nowhere else.
#[test]
fn an_intent_for_which_nobody_works_yet_is_held_and_tried_again() {
    let cloud = ClusterId(1);
    let mut world = World::new(1);
    world.tell(Input::Cluster(Box::new(ClusterFacts { id: cloud, name: "cloud".into(), ..ClusterFacts::default() })));
    let recorded = RecordedPlacement { cluster: "cloud".into(), node: "r0".into(), intent: true };
    let intended = PodFacts { recorded: Some(Box::new(recorded)), run_attempt: 1, ..pod("p", "web") };
    let orders = |commands: Vec<Command>| -> Vec<(ClusterId, bool)> {
        let order = |command| if let Command::Bind(order) = command { Some((order.node.cluster, order.resumes)) } else { None };
        commands.into_iter().filter_map(order).collect()
    };
    assert_eq!(orders(world.tell(Input::Pod(Box::new(intended.clone())))), [(cloud, true)]);
    for _ in 0..3 {
        let failed = world.tell(Input::BindFailed(PodUid::from("p"), BindFailure::NotSent));
        assert_eq!(orders(failed), []);
        assert!(!world.engine.wants_schedule(), "it goes nowhere else");
        let due = world.engine.next_wake().expect("it is tried again");
        assert!(due <= world.now + DurationMs::from_secs(1), "soon");
        world.now = due;
        assert_eq!(orders(world.tell(Input::Tick)), [(cloud, true)]);
    }
    // Taken back by whoever worked for it, and then refused: now it is free.
    let mut free = PodFacts { recorded: None, ..intended };
    world.add(&free);
    world.tell(Input::BindFailed(PodUid::from("p"), BindFailure::NotSent));
    free.recorded = None;
    let bound = world.schedule(&[free]);
    assert!(bound.len() == 1 && bound[0].1 == ClusterId::HOME, "{bound:?}");
}

/// Whoever starts something before the pod is bound waits until other bindings of it cannot come any more; so the order says until when there may be one.
#[test]
fn an_order_says_until_when_another_binding_may_have_been_ordered() {
    let mut world = World::new(1);
    let began = world.now;
    let order = |world: &mut World, pod: &PodFacts| -> Option<Timestamp> {
        world.add(pod);
        let commands = world.tell(Input::Schedule { attempts_max: 1 });
        let order = commands.into_iter().find_map(|command| if let Command::Bind(order) = command { Some(order) } else { None });
        order.expect("an order").earlier_binding
    };
    let older = PodFacts { created: Timestamp(began.0 - 5_000), ..pod("older", "web") };
    assert_eq!(order(&mut world, &older), Some(began), "an earlier leader may have bound it");
    world.now = world.now + DurationMs::from_secs(60);
    let younger = PodFacts { created: Timestamp(began.0 + 59_000), ..pod("younger", "web") };
    assert_eq!(order(&mut world, &younger), None);
    let (failed, unclear) = (BindFailure::Failed("no".into()), BindFailure::Unclear("no answer".into()));
    for (failure, expected) in [(failed, None), (unclear, Some(world.now + DurationMs::from_secs(20)))] {
        world.tell(Input::BindFailed(younger.uid.clone(), failure));
        world.wait();
        let told = world.tell(Input::Schedule { attempts_max: 1 });
        let Some(Command::Bind(order)) = told.into_iter().find(|command| matches!(command, Command::Bind(_))) else { panic!("no order") };
        assert_eq!(order.earlier_binding, expected);
    }
}

//! Pods whose volumes are bound with them: objects of storage in; patches, waiting and bindings out, step by step, with all that can go wrong on the way.
#![allow(clippy::needless_pass_by_value)] // a fact is told once

use std::sync::Arc;

use isobar::{
    model::{
        ids::{ClusterId, PodKey, PodUid},
        labels::LabelFacts,
        node::NodeFacts,
        pod::{PodFacts, PodSpecFacts},
        quantity::Quantity,
        storage::{BindingMode, ClaimFacts, ClaimRef, ClassFacts, StorageFacts, StorageKind, VolumeFacts},
        time::{DurationMs, Timestamp},
        volumes::{PodVolume, PodVolumes},
    },
    scheduler::{
        engine::{Engine, EngineSettings},
        input::{BindFailure, Command, Input, PreBindDone},
        observe::Silent,
        profile::ProfileSpec,
        profiles::OutOfTree,
        registry::Registry,
    },
};

use crate::first_lists::first_lists;

const GI: i64 = 1 << 30;

struct World {
    engine: Engine,
    now: Timestamp,
}

impl World {
    /// Two nodes, a class that waits for pods and makes volumes, and one whose volumes are there or not.
    fn new() -> Self {
        let configuration = isobar::config::load(&[], &Registry::in_tree()).unwrap();
        let settings = EngineSettings { binds_in_flight_max: 1, ..EngineSettings::default() };
        let profile = ProfileSpec { scheduler_name: "s".into(), ..configuration.profiles[0].clone() };
        let engine = Engine::new(vec![profile], OutOfTree::default(), settings, Box::new(Silent)).unwrap();
        let mut world = Self { engine, now: Timestamp(1_000) };
        for name in ["a", "b"] {
            let mut facts = NodeFacts { name: name.into(), labels: labels(&[("kubernetes.io/hostname", name)]), ..NodeFacts::default() };
            facts.allocatable.set("pods", Quantity::from_units(10));
            world.tell(Input::Node(Box::new(facts)));
        }
        for (name, provisioner) in [("local", "kubernetes.io/no-provisioner"), ("made", "csi.example.com")] {
            let binding_mode = BindingMode::WaitForFirstConsumer;
            let facts = ClassFacts { name: name.into(), provisioner: provisioner.into(), binding_mode, ..ClassFacts::default() };
            world.tell(Input::Storage(StorageFacts::Class(Box::new(facts))));
        }
        first_lists(["a".into(), "b".into()]).into_iter().for_each(|input| drop(world.tell(input)));
        world
    }

    fn tell(&mut self, input: Input) -> Vec<Command> {
        let mut out = Vec::new();
        self.engine.handle(self.now, input, &mut out);
        assert_eq!(self.engine.consistency_check(), Vec::<String>::new());
        out
    }

    fn claim(&mut self, facts: ClaimFacts) -> Vec<Command> {
        self.tell(Input::Storage(StorageFacts::Claim(Box::new(facts))))
    }

    fn volume(&mut self, facts: VolumeFacts) -> Vec<Command> {
        self.tell(Input::Storage(StorageFacts::Volume(Box::new(facts))))
    }

    fn schedule(&mut self) -> Vec<Command> {
        self.tell(Input::Schedule { attempts_max: 10 })
    }

    fn wait(&mut self, span: DurationMs) -> Vec<Command> {
        self.now = self.now + span;
        self.tell(Input::Tick)
    }

    fn written(&mut self, pod: &str, versions: &[&str], failure: Option<BindFailure>) -> Vec<Command> {
        let versions = versions.iter().map(|version| Box::from(*version)).collect();
        self.tell(Input::PreBound(PodUid::from(pod), PreBindDone { plugin: "VolumeBinding", versions, failure }))
    }
}

fn labels(pairs: &[(&str, &str)]) -> LabelFacts {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn pod(name: &str, claims: &[&str]) -> Input {
    let list = claims.iter().map(|claim| PodVolume::Claim((*claim).into())).collect();
    let volumes = Some(Arc::new(PodVolumes { list, owner: None }));
    let spec = PodSpecFacts { scheduler_name: "s".into(), volumes, ..PodSpecFacts::default() };
    Input::Pod(Box::new(PodFacts { key: PodKey::new("d", name), uid: PodUid::from(name), spec, ..PodFacts::default() }))
}

fn claim(name: &str, class: &str, version: &str) -> ClaimFacts {
    ClaimFacts {
        namespace: "d".into(),
        name: name.into(),
        uid: format!("uid-{name}").into(),
        resource_version: version.into(),
        class: class.into(),
        requested: Some(Quantity::from_units(GI)),
        ..ClaimFacts::default()
    }
}

fn bound(claim: ClaimFacts, volume: &str, version: &str) -> ClaimFacts {
    ClaimFacts { volume: volume.into(), bind_completed: true, resource_version: version.into(), ..claim }
}

fn volume(name: &str, version: &str) -> VolumeFacts {
    VolumeFacts {
        name: name.into(),
        resource_version: version.into(),
        class: "local".into(),
        capacity: Quantity::from_units(GI),
        is_available: true,
        ..VolumeFacts::default()
    }
}

fn given(volume: VolumeFacts, claim: &str, version: &str) -> VolumeFacts {
    let claim_ref = Some(ClaimRef { namespace: "d".into(), name: claim.into(), uid: format!("uid-{claim}").into() });
    VolumeFacts { claim_ref, is_available: false, resource_version: version.into(), ..volume }
}

/// Paths of the patches that are ordered, nodes of the bindings, and conditions.
fn said(commands: &[Command]) -> Vec<String> {
    let text = |command: &Command| match command {
        Command::PreBind(pod, work) => Some(format!(
            "{}: {}",
            pod.uid,
            work.patches.iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect::<Vec<_>>().join(" ")
        )),
        Command::Bind(order) => Some(format!("{}: bind", order.pod.uid)),
        Command::Condition(order) => order.condition.as_ref().map(|(_, message)| format!("{}: {message}", order.pod.uid)),
        _ => None,
    };
    commands.iter().filter_map(text).collect()
}

#[test]
fn a_volume_is_given_and_the_pod_bound_once_the_claim_is() {
    let mut world = World::new();
    world.claim(claim("c", "local", "1"));
    world.volume(volume("v", "2"));
    world.tell(pod("p", &["c"]));
    assert_eq!(said(&world.schedule()), ["p: v"]);
    assert!(said(&world.written("p", &["3"], None)).is_empty(), "the controller has its part to do");
    assert!(said(&world.volume(given(volume("v", "2"), "c", "3"))).is_empty());
    // Nobody is held up by a pod that waits, though one binding is all that may be under way.
    world.tell(pod("other", &[]));
    assert_eq!(said(&world.schedule()), ["other: bind"]);
    world.tell(Input::Bound(PodUid::from("other")));
    assert_eq!(said(&world.claim(bound(claim("c", "local", "1"), "v", "4"))), ["p: bind"]);
    assert!(said(&world.tell(Input::Bound(PodUid::from("p")))).is_empty());
}

#[test]
fn two_pods_do_not_get_one_volume() {
    let mut world = World::new();
    for name in ["c1", "c2"] {
        world.claim(claim(name, "local", "1"));
    }
    world.volume(volume("v", "2"));
    world.tell(pod("p1", &["c1"]));
    assert_eq!(said(&world.schedule()), ["p1: v"]);
    world.tell(pod("p2", &["c2"]));
    // A write under way takes the one place that there is.
    assert!(said(&world.schedule()).is_empty());
    world.written("p1", &["3"], None);
    let refused = "p2: 0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.";
    let commands = said(&world.schedule());
    assert!(commands.len() == 1 && commands[0].starts_with(refused), "{commands:?}");
    // Another volume comes, and the pod gets it.
    world.volume(volume("w", "5"));
    world.wait(DurationMs::from_secs(2));
    assert_eq!(said(&world.schedule()), ["p2: w"]);
}

#[test]
fn a_claim_gets_its_node_and_a_provisioner_that_gives_up_sends_the_pod_back() {
    let mut world = World::new();
    world.claim(claim("c", "made", "1"));
    world.tell(pod("p", &["c"]));
    assert_eq!(said(&world.schedule()), ["p: c"]);
    world.written("p", &["2"], None);
    // On whichever node: it is the one that the claim has been given.
    let node = |world: &World| world.engine.cache().nodes.storage.claim("d/c").and_then(|(_, node)| node);
    let chosen = world.engine.cache().nodes.symbols.text(node(&world).unwrap()).to_owned();
    let selected = ClaimFacts { selected_node: Some(chosen.as_str().into()), resource_version: "2".into(), ..claim("c", "made", "1") };
    assert!(said(&world.claim(selected.clone())).is_empty());
    let failed = said(&world.claim(claim("c", "made", "3")));
    assert_eq!(failed, [r#"p: running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "c""#]);
    assert_eq!(node(&world), None);
    world.wait(DurationMs::from_secs(2));
    assert_eq!(said(&world.schedule()), ["p: c"]);
    world.written("p", &["4"], None);
    world.volume(given(VolumeFacts { class: "made".into(), ..volume("v", "5") }, "c", "5"));
    let selected = world.engine.cache().nodes.symbols.text(node(&world).unwrap()).to_owned();
    let done = ClaimFacts { selected_node: Some(selected.as_str().into()), ..bound(claim("c", "made", "1"), "v", "6") };
    assert_eq!(said(&world.claim(done)), ["p: bind"]);
}

#[test]
fn volumes_that_are_never_bound_give_the_node_back_in_time() {
    let mut world = World::new();
    world.claim(claim("c", "local", "1"));
    world.volume(volume("v", "2"));
    world.tell(pod("p", &["c"]));
    world.schedule();
    world.written("p", &["3"], None);
    world.volume(given(volume("v", "2"), "c", "3"));
    assert!(said(&world.wait(DurationMs::from_secs(599))).is_empty());
    let late = said(&world.wait(DurationMs::from_secs(1)));
    assert_eq!(late, [r#"p: running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded"#]);
    assert_eq!(world.engine.gauges().assumed, 0);
    // The volume is the claim's by now: it is taken up again, and nothing is written twice.
    world.wait(DurationMs::from_secs(2));
    assert!(said(&world.schedule()).is_empty());
    assert_eq!(said(&world.claim(bound(claim("c", "local", "1"), "v", "4"))), ["p: bind"]);
}

#[test]
fn a_write_that_is_not_taken_gives_back_what_was_not_written() {
    let mut world = World::new();
    for name in ["c1", "c2"] {
        world.claim(claim(name, "local", "1"));
    }
    for name in ["v", "w"] {
        world.volume(volume(name, "2"));
    }
    world.tell(pod("p", &["c1", "c2"]));
    assert_eq!(said(&world.schedule()), ["p: v w"]);
    let conflict = BindFailure::Failed("the API server answered 409: changed".into());
    let failed = said(&world.written("p", &["3"], Some(conflict)));
    assert_eq!(failed, [r#"p: running PreBind plugin "VolumeBinding": the API server answered 409: changed"#]);
    let owners: Vec<bool> = world.engine.cache().nodes.storage.volumes_of("local").map(|(_, owner)| owner.is_some()).collect();
    assert_eq!(owners, [true, false], "the first is written, the second is free");
    assert_eq!(world.engine.gauges().assumed, 0);
}

#[test]
fn a_pod_that_is_deleted_while_it_waits_gives_everything_back() {
    let mut world = World::new();
    world.claim(claim("c", "made", "1"));
    world.tell(pod("p", &["c"]));
    world.schedule();
    assert!(world.engine.cache().nodes.storage.claim("d/c").is_some_and(|(_, node)| node.is_some()));
    world.tell(Input::PodGone(ClusterId::HOME, PodUid::from("p")));
    assert!(world.engine.cache().nodes.storage.claim("d/c").is_some_and(|(_, node)| node.is_none()));
    assert!(said(&world.written("p", &["2"], None)).is_empty(), "nobody is there any more");
}

/// What waits hears of what it waits for, and of nothing else.
#[test]
fn a_claim_that_is_missing_or_waits_for_its_class_is_told_of_them() {
    let mut world = World::new();
    world.tell(pod("p", &["c"]));
    let refused = said(&world.schedule());
    assert!(refused[0].starts_with("p: 0/2 nodes are available: persistentvolumeclaim \"c\" not found."), "{refused:?}");
    world.claim(claim("d", "made", "1"));
    world.wait(DurationMs::from_secs(20));
    assert!(said(&world.schedule()).is_empty(), "another claim");
    world.claim(claim("c", "later", "1"));
    let refused = said(&world.schedule());
    assert!(refused[0].starts_with("p: 0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."), "{refused:?}");
    let mode = BindingMode::WaitForFirstConsumer;
    let class = ClassFacts { name: "later".into(), provisioner: "x".into(), binding_mode: mode, ..ClassFacts::default() };
    world.tell(Input::Storage(StorageFacts::Class(Box::new(class))));
    world.wait(DurationMs::from_secs(20));
    assert_eq!(said(&world.schedule()), ["p: c"]);
    world.tell(Input::StorageGone(StorageKind::Claim, "d/c".into()));
    let failed = said(&world.written("p", &["2"], None));
    assert_eq!(
        failed,
        [
            r#"p: running PreBind plugin "VolumeBinding": binding volumes: failed to check provisioning pvc: persistentvolumeclaims "d/c" not found"#
        ]
    );
}

//! Clusters and pods for the benches: a size and a seed in, engine inputs out. Mixed as a real fleet is: architectures, GPUs, zones, sizes, taints.
#![allow(clippy::expect_used)] // the worlds are made here, and a bench that cannot make its world has nothing to measure

use isobar::{
    federation::{
        self,
        effect::{Contact, Policy},
        facts::{Decision, HomePod, RunName, RunPod},
        machine::Machine,
        names,
        spec::{Commit, Lost},
        status,
    },
    model::{
        affinity::{NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        cluster::ClusterFacts,
        ids::{ClusterId, PodKey, PodUid},
        image::Platforms,
        node::NodeFacts,
        placement::{RUN_HOME_UID, RecordedPlacement, virtual_node},
        pod::{PodFacts, PodSpecFacts},
        quantity::Quantity,
        requests::{ContainerRequests, PodRequests},
        resources::ResourceList,
        selector::LabelSelectorFacts,
        taints::{Effect, TaintFacts, TolerationFacts},
        terms::{AffinityTermFacts, PodAffinityFacts, SpreadFacts, WhenUnsatisfiable},
        time::Timestamp,
    },
    scheduler::{
        engine::{Engine, EngineSettings},
        input::Input,
        observe::Silent,
        profile::ProfileSpec,
        profiles::OutOfTree,
    },
};
use rustc_hash::FxHashSet;
use serde_json::json;

/// The profile that a configuration without any file gives.
pub fn default_profile() -> ProfileSpec {
    let configuration = isobar::config::load(&[], &isobar::scheduler::registry::Registry::in_tree()).expect("the defaults are valid");
    ProfileSpec { scheduler_name: "isobar-scheduler".into(), ..configuration.profiles[0].clone() }
}

/// A list of resources from (name, amount) pairs.
pub fn resources(amounts: &[(&str, Quantity)]) -> ResourceList {
    amounts.iter().map(|(name, amount)| ((*name).into(), *amount)).collect()
}

/// One node of a mixed fleet: a third ARM, a tenth with GPUs and a taint, four sizes, three zones.
pub fn node(number: usize) -> NodeFacts {
    let cores = [16, 32, 64, 96][number % 4];
    let arch = if number.is_multiple_of(3) { "arm64" } else { "amd64" };
    let gpu = number % 10 == 7;
    let mut allocatable = vec![
        ("cpu", Quantity::from_units(cores)),
        ("memory", Quantity::from_units((cores * 4) << 30)),
        ("ephemeral-storage", Quantity::from_units(500 << 30)),
        ("pods", Quantity::from_units(250)),
    ];
    allocatable.extend(gpu.then_some(("nvidia.com/gpu", Quantity::from_units(8))));
    let label = |key: &str, value: String| (key.into(), value.into());
    NodeFacts {
        cluster: ClusterId::HOME,
        name: format!("node-{number:05}").into(),
        uid: format!("8e0e5c1a-0000-4000-8000-{number:012}").into(),
        labels: vec![
            label("kubernetes.io/hostname", format!("node-{number:05}")),
            label("kubernetes.io/arch", arch.into()),
            label("kubernetes.io/os", "linux".into()),
            label("topology.kubernetes.io/zone", format!("zone-{}", number % 3)),
            label("node.isobar.dev/size", cores.to_string()),
        ],
        taints: gpu
            .then(|| TaintFacts { key: "nvidia.com/gpu".into(), value: "".into(), effect: Effect::NoSchedule })
            .into_iter()
            .collect(),
        allocatable: resources(&allocatable),
        ..NodeFacts::default()
    }
}

/// A pod of one of many templates: template number `class` asks for its own mix of cores and memory.
pub fn pod(number: usize, class: usize) -> PodFacts {
    let spec = [
        ("cpu", Quantity::from_milli(10 + i64::try_from(class % 100).unwrap_or(0))),
        ("memory", Quantity::from_units((16 << 20) + (i64::try_from(class % 100_000).unwrap_or(0) << 10))),
    ];
    let container = ContainerRequests { spec: resources(&spec), ..ContainerRequests::default() };
    let requests = PodRequests { containers: vec![container], ..PodRequests::default() }.sums();
    PodFacts {
        key: PodKey::new("default", &format!("pod-{number}")),
        uid: PodUid::from(&*format!("5f1d2c3b-0000-4000-8000-{number:012}")),
        created: Timestamp(0),
        spec: PodSpecFacts {
            scheduler_name: "isobar-scheduler".into(),
            requests,
            tolerations: vec![TolerationFacts {
                key: "node.kubernetes.io/not-ready".into(),
                operator: "Exists".into(),
                effect: "NoExecute".into(),
                ..TolerationFacts::default()
            }],
            images: vec!["registry.example/forecast:1".into()],
            ..PodSpecFacts::default()
        },
        ..PodFacts::default()
    }
}

/// Pods on each full node.
const SEATS: usize = 10;

/// Nodes without room: ten pods on each, of three priorities and as many sizes.
#[allow(dead_code)] // one bench has such nodes
pub fn full_engine(nodes: usize) -> Engine {
    let mut engine = self::engine(0, EngineSettings::default());
    let mut out = Vec::new();
    for number in 0..nodes {
        let mut node = node(number);
        node.taints = Vec::new();
        node.allocatable = resources(&[
            ("cpu", Quantity::from_milli(10_010)),
            ("memory", Quantity::from_units(64 << 30)),
            ("pods", Quantity::from_units(110)),
        ]);
        let name = node.name.clone();
        engine.handle(Timestamp(0), Input::Node(Box::new(node)), &mut out);
        for seat in 0..SEATS {
            let mut pod = sized(nodes * 100 + number * SEATS + seat, seat % 3);
            (pod.node_name, pod.spec.priority) = (Some(name.clone()), i32::try_from(seat % 3).unwrap_or(0));
            pod.started = Some(Timestamp((number * 7 + seat) as u64 % 1000 * 1000));
            engine.handle(Timestamp(0), Input::Pod(Box::new(pod)), &mut out);
        }
    }
    engine
}

/// A pod that may displace those of [`full_engine`]: a little more than one of them wants.
#[allow(dead_code)] // one bench has such pods
pub fn important(number: usize, class: usize) -> PodFacts {
    let mut pod = sized(number, class % 100);
    pod.spec.priority = 1000;
    pod
}

/// A pod of about one core.
fn sized(number: usize, size: usize) -> PodFacts {
    let mut pod = pod(number, 0);
    let spec = [
        ("cpu", Quantity::from_milli(1000 + i64::try_from(size).unwrap_or(0))),
        ("memory", Quantity::from_units((1 << 30) + (i64::try_from(size).unwrap_or(0) << 10))),
    ];
    let container = ContainerRequests { spec: resources(&spec), ..ContainerRequests::default() };
    pod.spec.requests = PodRequests { containers: vec![container], ..PodRequests::default() }.sums();
    pod
}

/// A pod that no node of [`engine`] takes, of ten templates with as many reasons.
#[allow(dead_code)] // one bench has such pods
pub fn hopeless(number: usize) -> PodFacts {
    let mut pod = pod(3_000_000_000 + number, 0);
    let asks = |amounts: &[(&str, Quantity)]| {
        let container = ContainerRequests { spec: resources(amounts), ..ContainerRequests::default() };
        PodRequests { containers: vec![container], ..PodRequests::default() }.sums()
    };
    let label = |key: &str, value: &str| vec![(key.into(), value.into())];
    let selector = || Some(LabelSelectorFacts { match_labels: vec![("app".into(), "absent".into())], ..LabelSelectorFacts::default() });
    let spec = &mut pod.spec;
    match number % 10 {
        0 => spec.requests = asks(&[("cpu", Quantity::from_units(97))]),
        1 => spec.requests = asks(&[("memory", Quantity::from_units(1 << 40))]),
        2 => spec.requests = asks(&[("example.com/fpga", Quantity::from_units(1))]),
        // Nodes that have some are tainted.
        3 => spec.requests = asks(&[("nvidia.com/gpu", Quantity::from_units(1))]),
        4 => spec.node_selector = label("kubernetes.io/arch", "s390x"),
        5 => spec.node_selector = label("kubernetes.io/hostname", "node-of-yesterday"),
        6 => {
            spec.requests = asks(&[("cpu", Quantity::from_units(65))]);
            spec.node_selector = label("node.isobar.dev/size", "64");
        }
        7 => {
            let term = AffinityTermFacts {
                label_selector: selector(),
                topology_key: "topology.kubernetes.io/zone".into(),
                ..AffinityTermFacts::default()
            };
            spec.pod_affinity = Some(Box::new(PodAffinityFacts { required: vec![term], ..PodAffinityFacts::default() }));
        }
        8 => {
            spec.spread = vec![SpreadFacts {
                max_skew: 1,
                topology_key: "example.com/rack".into(),
                when: WhenUnsatisfiable::DoNotSchedule,
                min_domains: None,
                honor_node_affinity: true,
                honor_node_taints: false,
                selector: selector(),
            }];
        }
        _ => {
            let disk = NodeSelectorRequirement { key: "disk".into(), operator: "In".into(), values: vec!["ssd".into()] };
            let term = NodeSelectorTerm { match_expressions: vec![disk], ..NodeSelectorTerm::default() };
            let required = Some(NodeSelector { terms: vec![term] });
            spec.node_affinity = Some(Box::new(NodeAffinity { required, ..NodeAffinity::default() }));
        }
    }
    pod
}

/// What pods of an application want of each other.
#[allow(dead_code)] // one bench has such pods
#[derive(Clone, Copy, Debug)]
pub enum Together {
    /// Nothing: what the others are to be compared with.
    Nothing,
    /// Even over zones, at most one more in one than in another.
    HardSpread,
    /// The same as a wish, over hosts too.
    SoftSpread,
    /// In the zone where the others are.
    Affinity,
    /// On nodes where no other is.
    AntiAffinity,
}

/// A pod of an application.
#[allow(dead_code)] // one bench has such pods
pub fn member(number: usize, together: Together) -> PodFacts {
    const ZONE: &str = "topology.kubernetes.io/zone";
    const HOST: &str = "kubernetes.io/hostname";
    let selector = || Some(LabelSelectorFacts { match_labels: vec![("app".into(), "web".into())], ..LabelSelectorFacts::default() });
    let spread = |key: &str, when| SpreadFacts {
        max_skew: 1,
        topology_key: key.into(),
        when,
        min_domains: None,
        honor_node_affinity: true,
        honor_node_taints: false,
        selector: selector(),
    };
    let term = |key: &str| AffinityTermFacts { label_selector: selector(), topology_key: key.into(), ..AffinityTermFacts::default() };
    let mut pod = pod(number, 0);
    // A label of its own, as a StatefulSet gives one.
    pod.labels = vec![("app".into(), "web".into()), ("statefulset.kubernetes.io/pod-name".into(), pod.key.name.clone().into())];
    match together {
        Together::Nothing => {}
        Together::HardSpread => pod.spec.spread = vec![spread(ZONE, WhenUnsatisfiable::DoNotSchedule)],
        Together::SoftSpread => pod.spec.spread = [ZONE, HOST].map(|key| spread(key, WhenUnsatisfiable::ScheduleAnyway)).to_vec(),
        Together::Affinity => {
            pod.spec.pod_affinity = Some(Box::new(PodAffinityFacts { required: vec![term(ZONE)], ..PodAffinityFacts::default() }));
        }
        Together::AntiAffinity => {
            pod.spec.pod_affinity = Some(Box::new(PodAffinityFacts { anti_required: vec![term(HOST)], ..PodAffinityFacts::default() }));
        }
    }
    pod
}

/// An engine as [`engine`] makes it, with pods of ten templates on its nodes.
#[allow(dead_code)] // one bench has such pods
pub fn engine_with_pods(nodes: usize, pods: usize) -> Engine {
    let mut engine = engine(nodes, EngineSettings::default());
    let mut out = Vec::new();
    for number in 0..pods {
        let mut pod = pod(1_000_000_000 + number, number % 10);
        pod.labels = vec![("app".into(), format!("app-{}", number % 10).into())];
        pod.node_name = Some(node(number % nodes).name);
        engine.handle(Timestamp(0), Input::Pod(Box::new(pod)), &mut out);
    }
    engine
}

/// A leading engine with an empty home and compute clusters of `nodes` nodes each, on which `running` pods run in all: half of them others', the other half
/// runs of ours that both watches show.
#[allow(dead_code)] // one bench has clusters
pub fn federation(clusters: u16, nodes: usize, running: usize) -> Engine {
    let mut engine = engine(0, EngineSettings::default());
    let mut out = Vec::new();
    let mut tell = |input| engine.handle(Timestamp(0), input, &mut out);
    for id in (1..=clusters).map(ClusterId) {
        let facts = ClusterFacts {
            id,
            name: format!("cluster-{}", id.0).into(),
            preference: 50,
            runs_max: Some(1_000_000),
            ..ClusterFacts::default()
        };
        tell(Input::Cluster(Box::new(facts)));
        for number in 0..nodes {
            tell(Input::Node(Box::new(NodeFacts { cluster: id, ..node(number) })));
        }
        tell(Input::NodesListed(id, (0..nodes).map(|number| node(number).name).collect()));
    }
    for number in 0..running {
        let id = ClusterId(u16::try_from(number % usize::from(clusters)).unwrap_or(0) + 1);
        let on = node(number / usize::from(clusters) % nodes).name;
        let there = PodFacts { cluster: id, node_name: Some(on.clone()), ..pod(1_000_000_000 + number, number % 100) };
        if number % 2 == 0 {
            tell(Input::Pod(Box::new(there)));
            continue;
        }
        let home = pod(2_000_000_000 + number, number % 100);
        let recorded = RecordedPlacement { cluster: format!("cluster-{}", id.0).into(), node: on, intent: false };
        let run = PodFacts { labels: vec![(RUN_HOME_UID.into(), home.uid.0.clone().into())], ..there };
        let virtual_node = virtual_node(&recorded.cluster);
        let home = PodFacts { node_name: Some(virtual_node.into()), recorded: Some(Box::new(recorded)), run_attempt: 1, ..home };
        tell(Input::Pod(Box::new(run)));
        tell(Input::Pod(Box::new(home)));
    }
    // What pods ask for is known of their image, as after the first of them.
    let image = pod(0, 0).spec.images.swap_remove(0);
    tell(Input::Pod(Box::new(pod(0, 0))));
    let both = ["linux/amd64", "linux/arm64"].map(Box::from).to_vec();
    tell(Input::ImagePlatforms(image, Platforms::Known(both)));
    tell(Input::PodGone(ClusterId::HOME, pod(0, 0).uid));
    engine
}

/// The machines of as many clusters, with the half of `running` pods that is ours: what the process remembers of home pods and their runs besides the engine.
#[allow(dead_code)] // one bench has clusters
pub fn machines(clusters: u16, nodes: usize, running: usize) -> Vec<Machine> {
    let mut out = Vec::new();
    let mut machines: Vec<Machine> = (1..=clusters).map(|id| Machine::new(policy(id), u64::from(id))).collect();
    for machine in &mut machines {
        for input in [federation::effect::Input::Leading(true), federation::effect::Input::Contact(Contact::Reachable)] {
            machine.handle(Timestamp(0), input, &mut out);
        }
    }
    for number in (1..running).step_by(2) {
        let at = number % usize::from(clusters);
        let (home, run) =
            home_and_run(&policy(u16::try_from(at).unwrap_or(0) + 1), number, &node(number / usize::from(clusters) % nodes).name);
        for input in [federation::effect::Input::Run(Box::new(run)), federation::effect::Input::Home(Box::new(home))] {
            machines[at].handle(Timestamp(0), input, &mut out);
        }
        out.clear();
    }
    machines
}

fn policy(cluster: u16) -> Policy {
    Policy {
        cluster: format!("cluster-{cluster}").into(),
        cluster_uid: format!("5f1d2c3b-0000-4000-8000-{cluster:012}").into(),
        run_namespace: "isobar-5f1d2c3b".into(),
        commit: Commit::BindFirst,
        lost: Lost::default(),
        drain: None,
        abandoned: false,
        archive_logs: true,
    }
}

/// A home pod that shows what its run says.
fn home_and_run(policy: &Policy, number: usize, node: &str) -> (HomePod, RunPod) {
    let (key, uid) = (PodKey::new("default", &format!("pod-{number}")), PodUid::from(&*format!("5f1d2c3b-0000-4000-9000-{number:012}")));
    let name = RunName { namespace: policy.run_namespace.clone(), name: names::run_name(&key, &uid, 1).into() };
    let decision = Decision {
        cluster: policy.cluster.clone(),
        cluster_uid: policy.cluster_uid.clone(),
        node: node.into(),
        attempt: 1,
        run: name.clone(),
    };
    let run = RunPod::read(json!({
        "metadata": {"namespace": &*name.namespace, "name": &*name.name, "uid": format!("5f1d2c3b-0000-4000-a000-{number:012}"), "resourceVersion": "1",
            "labels": {names::RUN_HOME_UID: &*uid.0, names::ATTEMPT: "1"}, "finalizers": [names::RUN_FINALIZER],
            "annotations": {names::RUN_HOME_NAMESPACE: "default", names::RUN_HOME_NAME: &*key.name, names::RUN_HOME_GENERATION: "1"}},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "startTime": "2026-03-01T06:00:00Z", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": true, "started": true, "restartCount": 0, "image": "registry.example/forecast:1",
                "imageID": "registry.example/forecast@sha256:1", "containerID": format!("containerd://{number}"),
                "state": {"running": {"startedAt": "2026-03-01T06:00:01Z"}}}]}
    }))
    .expect("a run");
    let shown = status::mirror(&run.status, &[], &decision, Timestamp(0));
    let home = HomePod::read(
        &json!({
            "metadata": {"namespace": "default", "name": &*key.name, "uid": &*uid.0, "resourceVersion": "2", "generation": 1, "annotations": {
                names::CLUSTER: &*decision.cluster, names::CLUSTER_UID: &*decision.cluster_uid, names::NODE: node, names::ATTEMPT: "1",
                names::RUN: format!("{}/{}", name.namespace, name.name)}},
            "spec": {"nodeName": virtual_node(&policy.cluster), "restartPolicy": "Never"},
            "status": shown["status"]
        }),
        &virtual_node(&policy.cluster),
    )
    .expect("a home pod");
    (home, run)
}

/// A leading engine that knows `nodes` nodes and nothing else.
pub fn engine(nodes: usize, settings: EngineSettings) -> Engine {
    let mut engine =
        Engine::new(vec![default_profile()], OutOfTree::default(), settings, Box::new(Silent)).expect("the default profile builds");
    let mut out = Vec::new();
    for number in 0..nodes {
        engine.handle(Timestamp(0), Input::Node(Box::new(node(number))), &mut out);
    }
    let names = (0..nodes).map(|number| node(number).name).collect();
    engine.handle(Timestamp(0), Input::NodesListed(ClusterId::HOME, names), &mut out);
    engine.handle(Timestamp(0), Input::PodsListed(ClusterId::HOME, FxHashSet::default()), &mut out);
    engine.handle(Timestamp(0), Input::Leading(true), &mut out);
    engine
}

//! Explanations over a service cluster and its compute clusters, in memory. In: clusters of which some cannot be read. Out: what people are told.

use serde_json::{Value, json};

use super::{
    case::{Answer, World, pod_key},
    cluster, default_profiles, table,
};
use crate::kubernetes::{
    api::Api,
    cluster::{object, rest::Rest},
};
use crate::metrics::{ApiMetrics, Metrics};
use crate::model::{image::Platforms, time::Timestamp};
use crate::sim::{
    SimCluster,
    federation::{NAMESPACE, SimFederation, create},
    link::LinkState,
};

fn node(name: &str, architecture: &str, cpu: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/arch": architecture, "kubernetes.io/os": "linux"}},
        "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"}},
    })
}

fn pod(name: &str, cpu: &str, node: Option<&str>) -> Value {
    let container = json!({"name": "c", "image": "registry.example/radar:2", "resources": {"requests": {"cpu": cpu}}});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "weather", "uid": format!("uid-{name}")},
        "spec": {"containers": [container]},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

/// Everything of one cluster.
async fn fill(cluster: &SimCluster, nodes: &[Value], pods: &[Value]) {
    create(cluster, "/api/v1/namespaces", &json!({"metadata": {"name": "weather"}})).await.unwrap();
    for node in nodes {
        create(cluster, "/api/v1/nodes", node).await.unwrap();
    }
    for pod in pods {
        create(cluster, "/api/v1/namespaces/weather/pods", pod).await.unwrap();
    }
}

/// Home, past all faults and rights.
fn home(world: &SimFederation) -> Rest {
    Rest::new(Api::new(world.home().faultless_client(), "home", ApiMetrics::new(&Metrics::new())))
}

/// One condition of an object at home is true, and that is all it says.
async fn say(world: &SimFederation, path: &str, condition: &str) {
    let status = json!({"status": {"conditions": [{"type": condition, "status": "True", "reason": condition, "message": ""}]}});
    assert!(home(world).merge(&format!("{path}/status"), &status).await.unwrap().is_some());
}

/// A service cluster that is too small, and compute clusters of all sorts.
async fn world() -> SimFederation {
    let names = ["arm", "cloud", "far", "gpu", "new"].map(str::to_owned);
    let world = SimFederation::new(7, Timestamp(1_800_000_000_000), &names, 1024).await.unwrap();
    fill(world.home(), &[node("x86-1", "amd64", "4")], &[pod("radar", "8", None)]).await;
    fill(&world.clusters()["arm"], &[node("a1", "arm64", "64"), node("a2", "arm64", "64")], &[]).await;
    fill(&world.clusters()["cloud"], &[node("c1", "amd64", "16"), node("c2", "amd64", "16")], &[pod("theirs", "12", Some("c2"))]).await;
    fill(&world.clusters()["far"], &[node("f1", "amd64", "64")], &[]).await;
    fill(&world.clusters()["gpu"], &[node("g1", "amd64", "64")], &[]).await;
    fill(&world.clusters()["new"], &[node("n1", "amd64", "64")], &[]).await;
    for (name, spec) in [
        ("arm", json!({})),
        ("cloud", json!({"preference": 80})),
        ("far", json!({})),
        ("gpu", json!({"state": "Cordoned"})),
        ("new", json!({})),
    ] {
        world.register(name, &spec).await.unwrap();
    }
    for name in ["arm", "cloud", "far", "gpu"] {
        // What the scheduler that looks after it last said.
        say(&world, &object::path(name), "Ready").await;
    }
    world.clusters()["far"].link().set(LinkState::Refused);
    world
}

/// The answer, and the notes beside it.
async fn explain(world: &SimFederation, pod: &str) -> (Answer, Vec<String>) {
    let metrics = ApiMetrics::new(&Metrics::new());
    let home = Api::new(world.home().client(), "home", metrics.clone());
    let key = pod_key(pod).unwrap();
    let objects = cluster::objects(&home, &world.connect(metrics), &key).await.unwrap();
    let notes = objects.notes();
    let mut case = World::new(&default_profiles().unwrap(), objects, &key).unwrap();
    for image in case.images().into_iter().flat_map(|(_, images)| images) {
        case.learn(image, Platforms::Known(vec!["linux/amd64".into()]));
    }
    (case.answer(0, ""), notes)
}

fn reason<'a>(answer: &'a Answer, node: &str) -> (&'a str, &'a str) {
    let refused = &answer.explanation.infeasible[node];
    (&refused.plugin, &refused.reasons[0])
}

/// `docs/explain.md` shows this very answer.
#[tokio::test(start_paused = true)]
async fn nodes_of_all_clusters_are_explained() {
    let world = world().await;
    let (answer, notes) = explain(&world, "weather/radar").await;
    assert_eq!(answer.explanation.chosen.as_deref(), Some("cloud/c1"));
    assert_eq!(reason(&answer, "x86-1"), ("NodeResourcesFit", "Insufficient cpu"));
    assert_eq!(reason(&answer, "cloud/c2"), ("NodeResourcesFit", "Insufficient cpu"));
    assert_eq!(reason(&answer, "gpu/g1"), ("ClusterFit", "node(s) in cluster gpu: cluster is cordoned"));
    assert_eq!(reason(&answer, "new/n1"), ("ClusterFit", "node(s) in cluster new: cluster is not ready (Connecting)"));
    let (plugin, why) = reason(&answer, "arm/a1");
    assert_eq!((plugin, why), ("ImagePlatform", "node(s) had no matching platform of image \"registry.example/radar:2\" (linux/arm64)"));
    let page = include_str!("../../../docs/explain.md");
    let shown = format!("{}\n{}", notes.join("\n"), table::render(&answer));
    for line in shown.lines() {
        assert!(page.lines().any(|written| written.trim() == line.trim()), "docs/explain.md lacks {line:?} of\n{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_cannot_be_read_is_named() {
    let world = world().await;
    let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    home(&world).delete(&format!("{secrets}/arm"), None, None).await.unwrap();
    world.clusters()["gpu"].permissions().deny("list", "nodes");
    world.clusters()["new"].permissions().deny("list", "resourcequotas");
    let (answer, notes) = explain(&world, "weather/radar").await;
    assert_eq!(answer.explanation.chosen.as_deref(), Some("cloud/c1"));
    let all = notes.join("\n");
    for (cluster, why) in [
        ("arm", "is left out: there is no Secret isobar-system/arm"),
        ("far", "is left out: it does not answer as it should: "),
        ("gpu", "is left out: its nodes cannot be listed: "),
    ] {
        assert!(all.contains(&format!("note: cluster {cluster} {why}")), "{all}");
        assert!(!answer.explanation.infeasible.keys().any(|node| node.starts_with(&format!("{cluster}/"))));
    }
    assert!(all.contains("note: cluster new: quotas of its run namespace are not known: "), "{all}");
    world.home().permissions().deny("get", "secrets");
    let (answer, notes) = explain(&world, "weather/radar").await;
    assert_eq!(answer.explanation.chosen, None);
    assert_eq!(notes.iter().filter(|note| note.contains("may not be read")).count(), 5, "{notes:?}");
    world.home().permissions().deny("list", "computeclusters");
    let (answer, notes) = explain(&world, "weather/radar").await;
    assert!(notes[0].starts_with("note: compute clusters are left out, as they cannot be listed: "), "{notes:?}");
    assert_eq!(answer.explanation.infeasible.keys().collect::<Vec<_>>(), ["x86-1"]);
}

/// A pod that runs on a compute cluster is asked about as if it were still to be placed: neither it nor its run takes room.
#[tokio::test(start_paused = true)]
async fn what_runs_there_already_does_not_stand_in_its_own_way() {
    let world = world().await;
    let mut placed = pod("placed", "10", Some("isobar-cloud"));
    placed["metadata"]["annotations"] =
        json!({"isobar.dev/cluster": "cloud", "isobar.dev/cluster-uid": "u", "isobar.dev/node": "c1", "isobar.dev/attempt": "1"});
    let mut run = pod("placed-run", "10", Some("c1"));
    run["metadata"]["labels"] = json!({"isobar.dev/home-pod-uid": "uid-placed"});
    create(world.home(), "/api/v1/namespaces/weather/pods", &placed).await.unwrap();
    say(&world, "/api/v1/namespaces/weather/pods/placed", "PodScheduled").await;
    let uid = world.home().server().object("", "pods", "weather", "placed").unwrap()["metadata"]["uid"].clone();
    run["metadata"]["labels"]["isobar.dev/home-pod-uid"] = uid;
    create(&world.clusters()["cloud"], "/api/v1/namespaces/weather/pods", &run).await.unwrap();
    let (answer, _) = explain(&world, "weather/placed").await;
    assert_eq!(answer.explanation.chosen.as_deref(), Some("cloud/c1"), "{:?}", answer.explanation.infeasible);
    assert_eq!(answer.runs_on.as_deref(), Some("cloud/c1"));
    let (other, _) = explain(&world, "weather/radar").await;
    assert_eq!(reason(&other, "cloud/c1"), ("NodeResourcesFit", "Insufficient cpu"), "for others it counts, once");
    assert_eq!(other.explanation.chosen, None);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_a_cluster_leaves_out_are_counted() {
    let world = world().await;
    home(&world).merge(&object::path("cloud"), &json!({"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}})).await.unwrap();
    let (answer, notes) = explain(&world, "weather/radar").await;
    assert!(notes.contains(&"note: cluster cloud: its nodeSelector or excludedTaints leave out 2 of 2 nodes".to_owned()), "{notes:?}");
    assert!(!answer.explanation.infeasible.contains_key("cloud/c1"));
}

//! Who a cluster is, and what we may do there.

use std::time::Duration;

use isobar::{
    kubernetes::leadership::Leadership,
    scheduler::input::Input,
    sim::faults::{Fault, Target},
};
use serde_json::json;
use tokio::time::sleep;

use super::world::{World, delete, patch, post};

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_added_is_ready_at_once() {
    let world = World::new(1).await;
    world.add("arm", 0, json!({"preference": 70, "reserve": {"cpu": "500m"}})).await;
    world.until("arm", "Ready", "True Ready", 10).await;

    let status = world.object("arm").unwrap()["status"].clone();
    let remote_uid = world.remotes[0].sim.server().object("", "namespaces", "", "kube-system").unwrap()["metadata"]["uid"].clone();
    assert_eq!(status["clusterUID"], remote_uid);
    assert_eq!(
        (&status["nodes"], &status["capacity"]["cpu"], &status["capacity"]["gpus"]),
        (&json!(2), &json!("8"), &json!(2)),
        "{status}"
    );
    assert_eq!((&status["architectures"], &status["runs"]["active"]), (&json!(["arm64"]), &json!(3)));
    assert!(status["serverVersion"].as_str().unwrap().starts_with("v1."), "{status}");
    assert_eq!(world.object("arm").unwrap()["metadata"]["finalizers"], json!(["isobar.dev/wipe"]));

    let entry = world.directory.named("arm").unwrap();
    assert_eq!((entry.id.0, &*entry.virtual_node), (1, "isobar-arm"));
    assert!(world.remotes[0].sim.server().object("", "namespaces", "", &entry.run_namespace).is_some(), "the run namespace was made");
    let facts = world.facts("arm").unwrap();
    assert_eq!((facts.preference, facts.closed), (70, None));
    let told = world.told_engine.lock().unwrap();
    let at = |wanted: fn(&Input) -> bool| told.iter().position(wanted).unwrap();
    assert!(at(|input| matches!(input, Input::Cluster(_))) < at(|input| matches!(input, Input::Node(_))), "the cluster before its nodes");
    assert!(
        at(|input| matches!(input, Input::Cluster(facts) if facts.closed.is_none())) > at(|input| matches!(input, Input::PodsListed(..)))
    );
    drop(told);
    assert!(world.runs_were_told("arm Contact(Reachable)") && world.runs_were_told("arm Leading(true)"));

    let node = world.virtual_node("arm").unwrap();
    assert_eq!(node["metadata"]["labels"]["isobar.dev/virtual-node"], "arm");
    assert_eq!(node["spec"]["taints"], json!([{"key": "isobar.dev/cluster", "value": "arm", "effect": "NoSchedule"}]));
    assert_eq!((&node["spec"]["providerID"], &node["status"]["nodeInfo"]["architecture"]), (&json!("isobar://arm"), &json!("arm64")));
    assert!(world.home.server().object("coordination.k8s.io", "leases", "kube-node-lease", "isobar-arm").is_some());
    assert!(world.metrics.render().contains("isobar_cluster_ready{cluster=\"arm\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn credentials_are_exchanged_and_the_cluster_stays_the_same() {
    let world = World::new(1).await;
    world.add("arm", 0, json!({})).await;
    world.until("arm", "Ready", "True Ready", 10).await;
    world.secret("arm", "0#rotated").await;
    sleep(Duration::from_secs(60)).await;
    world.until("arm", "Ready", "True Ready", 1).await;
    assert_eq!(world.directory.all().len(), 1);
    assert_eq!(world.directory.named("arm").unwrap().id.0, 1);
    assert!(world.metrics.render().contains("isobar_cluster_restarts_total{cluster=\"arm\",part=\"watches\"} 1"));
    // A bad one stops placements, and nothing else.
    world.secret("arm", "nonsense").await;
    world.until("arm", "Ready", "False BadKubeconfig", 40).await;
    assert!(world.message("arm", "Authenticated").contains("nonsense is no cluster"));
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is not ready (BadKubeconfig)"));
    assert_eq!(world.condition("arm", "Reachable"), "True Reachable");
    delete(&world.home, "/api/v1/namespaces/isobar-system/secrets/arm").await;
    world.until("arm", "Ready", "False SecretMissing", 40).await;
    world.secret("arm", "0#again").await;
    world.until("arm", "Ready", "True Ready", 60).await;
    assert!(!world.told_runs.lock().unwrap().iter().any(|told| told.contains("Lost")), "{:?}", world.told_runs.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_cluster_is_added_once_and_home_never() {
    let mut world = World::new(2).await;
    world.add("first", 0, json!({})).await;
    world.until("first", "Ready", "True Ready", 10).await;
    world.add("again", 0, json!({})).await;
    world.until("again", "Ready", "False DuplicateCluster", 10).await;
    assert!(world.message("again", "Ready").contains("ComputeCluster first"), "{}", world.message("again", "Ready"));
    assert!(world.virtual_node("again").is_none() && world.directory.named("again").is_none());
    // The same after a restart, though names are read in another order.
    world.start();
    sleep(Duration::from_secs(30)).await;
    world.until("first", "Ready", "True Ready", 1).await;
    world.until("again", "Ready", "False DuplicateCluster", 1).await;

    let home: std::sync::Arc<_> = super::world::Remote { sim: world.home.clone(), refused: super::world::Refused::default() }.into();
    world.remotes.push(home);
    world.start();
    world.add("self", 2, json!({})).await;
    world.until("self", "Ready", "False HomeCluster", 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_kubeconfig_that_leads_elsewhere_reaches_nobody() {
    let mut world = World::new(2).await;
    world.add("arm", 0, json!({})).await;
    world.until("arm", "Ready", "True Ready", 10).await;
    let before = world.remotes[1].sim.server().store().resource_version();
    world.secret("arm", "1").await;
    world.until("arm", "Ready", "False IdentityChanged", 60).await;
    for _ in 0..40 {
        sleep(Duration::from_secs(5)).await;
        world.until("arm", "Ready", "False IdentityChanged", 1).await;
        world.until("arm", "Reachable", "True Reachable", 1).await;
    }
    // What is known of it goes on after a restart, and the other cluster is still not touched.
    world.start();
    sleep(Duration::from_secs(60)).await;
    world.until("arm", "Ready", "False IdentityChanged", 1).await;
    assert_eq!(world.remotes[1].sim.server().store().resource_version(), before, "nothing was written there");
    assert!(world.virtual_node("arm").is_some(), "its pods keep their node");
    world.secret("arm", "0").await;
    world.until("arm", "Ready", "True Ready", 90).await;
}

#[tokio::test(start_paused = true)]
async fn missing_permissions_are_named() {
    let world = World::new(1).await;
    let refused = &world.remotes[0].refused;
    refused.add("create", "secrets", true);
    refused.add("list", "pods", false);
    refused.add("create", "namespaces", false);
    world.add("arm", 0, json!({})).await;
    world.until("arm", "Ready", "False MissingPermissions", 10).await;
    assert!(world.message("arm", "Authorized").contains("create secrets in isobar-"), "{}", world.message("arm", "Authorized"));
    refused.clear();
    refused.add("list", "pods", false);
    refused.add("create", "namespaces", false);
    world.until("arm", "Ready", "False RunNamespaceMissing", 60).await;
    refused.clear();
    refused.add("list", "pods", false);
    world.until("arm", "Ready", "True Ready", 60).await;
    assert!(world.message("arm", "Authorized").contains("pods of other namespaces are not seen"), "{}", world.message("arm", "Authorized"));
}

#[tokio::test(start_paused = true)]
async fn a_standby_reads_everything_and_writes_nothing() {
    let world = World::new(1).await;
    world.leadership.send_replace(Leadership::Standby);
    world.add("arm", 0, json!({"runNamespace": "default"})).await;
    let versions = || (world.home.server().store().resource_version(), world.remotes[0].sim.server().store().resource_version());
    let before = versions();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(versions(), before, "nothing was written");
    assert_eq!(world.closed("arm"), None, "and everything is known");
    assert!(world.runs_were_told("arm Leading(false)") && world.runs_were_told("arm Contact(Reachable)"));
    world.leadership.send_replace(Leadership::Unlimited);
    world.until("arm", "Ready", "True Ready", 10).await;
    assert!(world.virtual_node("arm").is_some() && world.runs_were_told("arm Leading(true)"));
}

#[tokio::test(start_paused = true)]
async fn cordoned_by_its_object_or_by_its_node() {
    let world = World::new(1).await;
    world.add("arm", 0, json!({"state": "Cordoned"})).await;
    world.until("arm", "Ready", "True Ready", 10).await;
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is cordoned"));
    world.change("arm", json!({"state": "Active"})).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.closed("arm"), None);
    patch(&world.home, "/api/v1/nodes/isobar-arm", &json!({"spec": {"unschedulable": true}})).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is cordoned"));
    delete(&world.home, "/api/v1/nodes/isobar-arm").await;
    sleep(Duration::from_secs(15)).await;
    assert!(world.virtual_node("arm").is_some(), "made anew");
    patch(&world.home, "/api/v1/nodes/isobar-arm", &json!({"spec": {"taints": null}})).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(world.virtual_node("arm").unwrap()["spec"]["taints"][0]["key"], "isobar.dev/cluster");
    world.change("arm", json!({"reserve": {"cpu": "lots"}})).await;
    world.until("arm", "Ready", "False BadSpec", 5).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_placed_where_no_node_of_ours_can_be() {
    let world = World::new(1).await;
    post(&world.home, "/api/v1/nodes", &json!({"metadata": {"name": "isobar-arm"}})).await;
    world.add("arm", 0, json!({})).await;
    world.until("arm", "Ready", "False NodeTaken", 10).await;
    assert!(
        world.message("arm", "Ready").contains("Node isobar-arm exists and does not stand for this cluster"),
        "{}",
        world.message("arm", "Ready")
    );
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is not ready (NodeTaken)"));
    delete(&world.home, "/api/v1/nodes/isobar-arm").await;
    world.until("arm", "Ready", "True Ready", 30).await;
    assert_eq!(world.closed("arm"), None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_placed_before_the_node_is_there() {
    let world = World::new(1).await;
    world.home.faults().often(Target::of("create", "nodes"), Fault::Refused, 1.0);
    world.add("arm", 0, json!({})).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is not ready (NoNode)"));
    world.home.faults().clear();
    sleep(Duration::from_secs(15)).await;
    assert!(world.virtual_node("arm").is_some());
    assert_eq!(world.closed("arm"), None);
}

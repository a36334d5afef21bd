//! The end of a cluster.

use std::time::Duration;

use isobar::{
    scheduler::input::Input,
    sim::faults::{Fault, Target},
};
use serde_json::json;
use tokio::time::sleep;

use super::world::{World, delete, post, post_run};

const GONE_SECONDS: u64 = 30;

async fn until_gone(world: &World, name: &str, seconds: u64) {
    for _ in 0..seconds {
        if world.object(name).is_none() {
            sleep(Duration::from_secs(2)).await;
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("{name} is still there after {seconds} s: {:#}", world.object(name).unwrap()["status"]);
}

#[tokio::test(start_paused = true)]
async fn drained_wiped_and_gone() {
    let world = World::new(1).await;
    world.add("arm", 0, json!({})).await;
    world.until("arm", "Ready", "True Ready", 10).await;
    let entry = world.directory.named("arm").unwrap();
    let namespace = entry.run_namespace.clone();
    let spec = json!({"nodeName": "isobar-arm", "containers": [{"name": "c", "image": "i"}]});
    post(&world.home, "/api/v1/namespaces/default/pods", &json!({"metadata": {"name": "web"}, "spec": spec})).await;
    post_run(&world, 0, &namespace, "web").await;

    world.delete("arm").await;
    world.until("arm", "Drained", "False Draining", 10).await;
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is being removed"));
    assert!(world.runs_were_told("arm policy drain=true abandoned=false"));
    delete(&world.home, "/api/v1/namespaces/default/pods/web").await;
    world.until("arm", "Wiped", "False Wiping", 10).await;
    assert!(world.virtual_node("arm").is_some(), "the node stays as long as anything of ours is left");
    until_gone(&world, "arm", 300).await;
    let remote = world.remotes[0].sim.server();
    assert!(remote.objects("", "pods").is_empty() && remote.objects("", "secrets").is_empty());
    assert!(remote.object("", "namespaces", "", &namespace).is_none(), "the namespace that we made");
    assert!(world.virtual_node("arm").is_none());
    assert!(world.home.server().object("coordination.k8s.io", "leases", "kube-node-lease", "isobar-arm").is_none());
    assert!(world.directory.all().is_empty());
    assert!(matches!(world.told_engine.lock().unwrap().last(), Some(Input::ClusterGone(id)) if id.0 == 1));

    world.add("arm", 0, json!({})).await;
    world.until("arm", "Ready", "True Ready", 10).await;
    assert_eq!(world.directory.named("arm").unwrap().id.0, 2, "a number is never given twice");
}

#[tokio::test(start_paused = true)]
async fn by_force_with_a_debt_that_is_paid_on_return() {
    let world = World::new(1).await;
    post(&world.remotes[0].sim, "/api/v1/namespaces", &json!({"metadata": {"name": "runs"}})).await;
    world.add("arm", 0, json!({"runNamespace": "runs"})).await;
    world.until("arm", "Ready", "True Ready", 10).await;
    post_run(&world, 0, "runs", "web").await;
    let uid = world.object("arm").unwrap()["status"]["clusterUID"].as_str().unwrap().to_owned();
    world.remotes[0].sim.faults().often(Target::ANY, Fault::Refused, 1.0);
    world.until("arm", "Ready", "False NotResponding", 30).await;

    world.delete("arm").await;
    world.until("arm", "Wiped", "False NotReachable", 20).await;
    assert!(world.message("arm", "Wiped").contains("spec.force: true"));
    sleep(Duration::from_secs(600)).await;
    assert!(world.object("arm").is_some(), "not without being told");
    world.change("arm", json!({"force": true})).await;
    until_gone(&world, "arm", GONE_SECONDS).await;
    assert!(world.runs_were_told("arm policy drain=true abandoned=true"));
    assert!(world.virtual_node("arm").is_none());
    let debts = || world.home.server().object("", "configmaps", "isobar-system", "isobar-cluster-debts").unwrap();
    assert!(debts()["data"][&uid].as_str().unwrap().contains("\"runNamespace\":\"runs\""), "{}", debts());

    world.remotes[0].sim.faults().clear();
    let remote = world.remotes[0].sim.server();
    assert_eq!(remote.objects("", "pods").len(), 1, "still there");
    world.add("back", 0, json!({"runNamespace": "runs"})).await;
    world.until("back", "Ready", "False WipingDebts", 10).await;
    world.until("back", "Ready", "True Ready", 60).await;
    assert!(remote.objects("", "pods").is_empty() && remote.objects("", "secrets").is_empty());
    assert!(debts()["data"][&uid].is_null(), "paid");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_never_reached_goes_at_once_and_left_over_nodes_go_too() {
    let mut world = World::new(1).await;
    world.add("typo", 9, json!({})).await;
    world.until("typo", "Ready", "False BadKubeconfig", 10).await;
    world.delete("typo").await;
    until_gone(&world, "typo", GONE_SECONDS).await;

    world.add("arm", 0, json!({})).await;
    world.until("arm", "Ready", "True Ready", 10).await;
    let path = "/apis/isobar.dev/v1alpha1/computeclusters/arm";
    // Somebody drops the finalizer by hand.
    world.leadership.send_replace(isobar::kubernetes::leadership::Leadership::Standby);
    super::world::patch(&world.home, path, &json!({"metadata": {"finalizers": null}})).await;
    delete(&world.home, path).await;
    sleep(Duration::from_secs(5)).await;
    assert!(world.virtual_node("arm").is_some());
    world.leadership.send_replace(isobar::kubernetes::leadership::Leadership::Unlimited);
    world.start();
    sleep(Duration::from_secs(15)).await;
    assert!(world.virtual_node("arm").is_none());
}

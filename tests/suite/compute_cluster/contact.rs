//! Clusters that are lost and come back.

use std::time::Duration;

use isobar::sim::faults::{Fault, Target};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::world::World;

fn cut(world: &World, remote: usize) {
    world.remotes[remote].sim.faults().often(Target::ANY, Fault::Refused, 1.0);
}

fn heal(world: &World, remote: usize) {
    world.remotes[remote].sim.faults().clear();
}

#[tokio::test(start_paused = true)]
async fn lost_and_healed_with_a_wait() {
    let mut world = World::new(3).await;
    for (number, name) in ["arm", "x86", "gpu"].into_iter().enumerate() {
        world.add(name, number, json!({})).await;
    }
    for name in ["arm", "x86", "gpu"] {
        world.until(name, "Ready", "True Ready", 10).await;
    }
    cut(&world, 0);
    world.until("arm", "Ready", "False NotResponding", 30).await;
    let since = world.object("arm").unwrap()["status"]["notReadySince"].as_str().unwrap().to_owned();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.virtual_node("arm").unwrap()["status"]["conditions"][0]["status"], "False");
    assert!(world.told_runs.lock().unwrap().iter().any(|told| told.starts_with("arm Contact(Lost(")));
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is not ready (NotResponding)"));
    assert_eq!((world.condition("x86", "Ready").as_str(), world.closed("gpu")), ("True Ready", None), "others do not notice");
    assert!(!world.runs_were_told("arm Suspicion(true)"), "one of three may well be lost");

    // A restart knows since when, and keeps Node, Lease and worker.
    world.start();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.object("arm").unwrap()["status"]["notReadySince"], since.as_str());
    assert!(world.directory.named("arm").is_some());
    let lease = world.home.server().object("coordination.k8s.io", "leases", "kube-node-lease", "isobar-arm").unwrap();
    sleep(Duration::from_secs(30)).await;
    let renewed = world.home.server().object("coordination.k8s.io", "leases", "kube-node-lease", "isobar-arm").unwrap();
    assert_ne!(lease["spec"]["renewTime"], renewed["spec"]["renewTime"], "the Lease goes on");

    heal(&world, 0);
    world.told_runs.lock().unwrap().clear();
    world.until("arm", "Ready", "False Settling", 15).await;
    let healed = Instant::now();
    sleep(Duration::from_secs(5)).await;
    assert!(world.runs_were_told("arm Contact(Reachable)"), "the machine works at once; only placements wait");
    world.until("arm", "Ready", "True Ready", 40).await;
    assert!(healed.elapsed() >= Duration::from_secs(25), "{:?}", healed.elapsed());
    assert_eq!(world.object("arm").unwrap()["status"].get("notReadySince"), None);
}

#[tokio::test(start_paused = true)]
async fn several_at_once_is_rather_us() {
    let world = World::new(3).await;
    for (number, name) in ["arm", "x86", "gpu"].into_iter().enumerate() {
        world.add(name, number, json!({})).await;
        world.until(name, "Ready", "True Ready", 10).await;
    }
    cut(&world, 0);
    cut(&world, 1);
    world.until("arm", "Ready", "False NotResponding", 30).await;
    world.until("x86", "Ready", "False NotResponding", 30).await;
    sleep(Duration::from_secs(1)).await;
    assert!(world.runs_were_told("arm Suspicion(true)") && world.runs_were_told("gpu Suspicion(true)"));
    heal(&world, 0);
    sleep(Duration::from_secs(15)).await;
    assert!(world.runs_were_told("x86 Suspicion(false)"));
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_keeps_nobody_waiting() {
    let world = World::new(2).await;
    let hour = Duration::from_secs(3600);
    world.remotes[0].sim.faults().often(Target::ANY, Fault::Slow { low: hour, high: hour }, 1.0);
    world.add("arm", 0, json!({})).await;
    world.add("x86", 1, json!({})).await;
    world.until("x86", "Ready", "True Ready", 10).await;
    world.until("arm", "Reachable", "False NotResponding", 60).await;
    assert_eq!(world.closed("arm").as_deref(), Some("cluster is not ready (NotResponding)"));
}

//! A pod that nothing can hold is bound within a second of the change that cures it: each cure is one event, and a timer would come too late.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::harness::{
    assets::{Program, available},
    bindings::BindingWatch,
    control_plane::{ControlPlane, Options},
    creation::post,
    scheduler::{self, Scheduler},
    workload::node,
};

const NAMESPACE: &str = "cures";
const SCHEDULER_NAME: &str = "default-scheduler";
/// The first backoff lasts 1 s; a change that comes during it is answered after it.
const PAST_BACKOFF: Duration = Duration::from_millis(2500);
const WITHIN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isobar_binds_within_a_second_of_the_cure() -> Result<()> {
    binds_within_a_second_of_the_cure("isobar_binds_within_a_second_of_the_cure", scheduler::Kind::Isobar).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "checks this test against kube-scheduler"]
async fn kube_scheduler_binds_within_a_second_of_the_cure() -> Result<()> {
    binds_within_a_second_of_the_cure("kube_scheduler_binds_within_a_second_of_the_cure", scheduler::Kind::KubeScheduler).await
}

enum Cure {
    Node(&'static str, Value),
    NodeStatus(&'static str, Value),
    NewNode(Value),
    DeletePod(&'static str),
}

/// Pod, what it asks for, and what cures it. Each has a node of its own by the label `slot`.
fn cases() -> Vec<(&'static str, Value, Cure)> {
    vec![
        ("untaint", json!({}), Cure::Node("tainted", json!({ "spec": { "taints": null } }))),
        ("uncordon", json!({}), Cure::Node("cordoned", json!({ "spec": { "unschedulable": null } }))),
        ("label", json!({ "disk": "ssd" }), Cure::Node("unlabelled", json!({ "metadata": { "labels": { "disk": "ssd" } } }))),
        ("grow", json!({}), Cure::NodeStatus("small", json!({ "status": { "allocatable": { "cpu": "4" }, "capacity": { "cpu": "4" } } }))),
        ("new-node", json!({}), Cure::NewNode(slot_node("new", "new-node", "4", &[]))),
        ("free", json!({}), Cure::DeletePod("occupant")),
    ]
}

fn slot_node(name: &str, slot: &str, cpu: &str, taints: &[Value]) -> Value {
    let labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "slot": slot });
    node(name, &labels, &json!({ "cpu": cpu, "memory": "8Gi", "pods": "10" }), taints)
}

fn slot_pod(name: &str, slot: &str, selector: &Value) -> Value {
    let mut selector = selector.clone();
    selector["slot"] = json!(slot);
    json!({
        "metadata": { "name": name },
        "spec": {
            "schedulerName": SCHEDULER_NAME, "nodeSelector": selector, "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "2" } } }],
        },
    })
}

async fn binds_within_a_second_of_the_cure(test: &str, kind: scheduler::Kind) -> Result<()> {
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) || !kind.available(test) {
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    plane.create_namespace(NAMESPACE).await?;
    let taint = json!({ "key": "broken", "effect": "NoSchedule" });
    let mut cordoned = slot_node("cordoned", "uncordon", "4", &[]);
    cordoned["spec"]["unschedulable"] = json!(true);
    let nodes = [
        slot_node("tainted", "untaint", "4", &[taint]),
        cordoned,
        slot_node("unlabelled", "label", "4", &[]),
        slot_node("small", "grow", "1", &[]),
        slot_node("full", "free", "3", &[]),
    ];
    for node in &nodes {
        post(&client, "/api/v1/nodes", node).await?;
    }
    let watch = BindingWatch::start(client.clone(), NAMESPACE).await?;
    let _scheduler = Scheduler::start(&plane, kind, &scheduler::Options::new(kind.name(), SCHEDULER_NAME)).await?;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    post(&client, &pods, &slot_pod("occupant", "free", &json!({}))).await?;
    watch.wait_for_pod("occupant", Duration::from_secs(10)).await?;
    for (name, selector, _) in cases() {
        post(&client, &pods, &slot_pod(name, name, &selector)).await?;
    }
    for (name, ..) in cases() {
        wait_unschedulable(&client, name).await?;
    }
    tokio::time::sleep(PAST_BACKOFF).await;
    ensure!(watch.count() == 1, "a pod was bound before its cure: {:?}", watch.seen().await.bound);
    for (name, _, cure) in cases() {
        let begin = Instant::now();
        apply(&client, cure).await?;
        let bound = watch.wait_for_pod(name, Duration::from_secs(15)).await?;
        let took = bound.at.saturating_duration_since(begin);
        println!("{}: {name} bound to {} {took:?} after its cure was sent", kind.name(), bound.node);
        ensure!(took < WITHIN, "{name} was bound {took:?} after its cure");
    }
    Ok(())
}

async fn apply(client: &Client, cure: Cure) -> Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    let params = PatchParams::default();
    match cure {
        Cure::Node(name, patch) => drop(nodes.patch(name, &params, &Patch::Merge(patch)).await?),
        Cure::NodeStatus(name, patch) => drop(nodes.patch_status(name, &params, &Patch::Merge(patch)).await?),
        Cure::NewNode(node) => post(client, "/api/v1/nodes", &node).await?,
        Cure::DeletePod(name) => drop(Api::<Pod>::namespaced(client.clone(), NAMESPACE).delete(name, &DeleteParams::default()).await?),
    }
    Ok(())
}

async fn wait_unschedulable(client: &Client, name: &str) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let refused = async {
        loop {
            let conditions = pods.get(name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            if conditions.iter().any(|condition| condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable"))
            {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), refused).await.with_context(|| format!("{name} is not reported unschedulable"))?
}

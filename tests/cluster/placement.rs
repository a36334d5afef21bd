//! Where pods go: a mixed workload under either scheduler passes the same audit, and the audit sees each rule broken.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::harness::{
    assets::{Program, available},
    audit::audit,
    control_plane::{ControlPlane, Options},
    creation::{create_nodes, post},
    experiment::{self, Hold, Mode},
    scheduler,
    workload::{Kind, Workload, node_name},
};

/// A size that the environment may set.
pub fn sized(name: &str, default: usize) -> Result<usize> {
    Ok(std::env::var(name).map_or(Ok(default), |text| text.parse())?)
}

/// Ten pods a node by default, as full as the workload is meant to be.
fn workload(scheduler_name: &str) -> Result<Workload> {
    Ok(Workload {
        kind: Kind::Mixed,
        nodes: sized("ISOBAR_CLUSTER_NODES", 50)?,
        pods: sized("ISOBAR_CLUSTER_PODS", 500)?,
        namespace: "workload".to_owned(),
        scheduler_name: scheduler_name.to_owned(),
    })
}

async fn places_rightly(test: &str, kind: scheduler::Kind, mode: Mode) -> Result<()> {
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) || !kind.available(test) {
        return Ok(());
    }
    let measured = experiment::run(kind, &workload("mixed-scheduler")?, mode, 0).await?;
    println!("{measured}");
    measured.audit.ensure_clean()?;
    ensure!(measured.audit.bound == measured.pods, "{} of {} pods are bound", measured.audit.bound, measured.pods);
    for template in ["small", "medium", "arm64", "amd64", "init", "host-port", "gpu", "dedicated", "scratch"] {
        ensure!(measured.audit.templates.contains_key(template), "the audit never saw a pod of template {template}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_scheduler_streams_a_mixed_workload() -> Result<()> {
    places_rightly("kube_scheduler_streams_a_mixed_workload", scheduler::Kind::KubeScheduler, Mode::Stream { pods_per_second: None }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isobar_streams_a_mixed_workload() -> Result<()> {
    places_rightly("isobar_streams_a_mixed_workload", scheduler::Kind::Isobar, Mode::Stream { pods_per_second: None }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isobar_drains_a_mixed_backlog() -> Result<()> {
    places_rightly("isobar_drains_a_mixed_backlog", scheduler::Kind::Isobar, Mode::Backlog { hold: Hold::NotStarted }).await
}

/// Binds pods by hand against one rule each, and expects the audit to name just that rule. The API server itself refuses none of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_sees_every_rule_broken() -> Result<()> {
    if !available("the_audit_sees_every_rule_broken", &[Program::Etcd, Program::KubeApiserver]) {
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    let mixed = Workload { nodes: 10, ..workload("nobody")? };
    plane.create_namespace(&mixed.namespace).await?;
    create_nodes(&client, &mixed).await?;
    ensure!(audit(&client).await?.violations.is_empty(), "an empty cluster has violations");

    // Of the ten shapes: 0, 3, 6 small amd64, 1, 7 arm64, 5 small arm64 with 30 pods, 4 GPU, 9 dedicated.
    let container = |cpu: &str| json!([{ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } }]);
    let port = json!([{ "name": "c", "image": "i", "ports": [{ "containerPort": 1, "hostPort": 8080 }] }]);
    let gpus = json!([{ "name": "c", "image": "i", "resources": { "limits": { "nvidia.com/gpu": "9" } } }]);
    let tolerates = json!([{ "operator": "Exists" }]);
    let only_c = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-c"] }] },
    ] } } });
    let cases = [
        (0, json!({ "containers": container("4001m") }), "over its cpu"),
        (
            1,
            json!({ "containers": container("1"), "nodeSelector": { "kubernetes.io/arch": "amd64" } }),
            "node selector kubernetes.io/arch=amd64",
        ),
        (2, json!({ "containers": container("1"), "affinity": only_c }), "required node affinity"),
        (3, json!({ "containers": port }), ""),
        (3, json!({ "containers": port }), "host port 8080/TCP"),
        (9, json!({ "containers": container("1") }), "taint dedicated=batch:NoSchedule"),
        (4, json!({ "containers": gpus, "tolerations": tolerates }), "over its nvidia.com/gpu"),
        (6, json!({ "containers": container("1"), "overhead": { "memory": "17Gi" } }), "over its memory"),
        (77, json!({ "containers": container("1") }), "which does not exist"),
    ];
    let mut expected = Vec::new();
    for (index, (node, spec, sign)) in cases.iter().enumerate() {
        let mut spec = spec.clone();
        if spec.get("overhead").is_some() {
            // Overhead is only admitted with its RuntimeClass.
            let class = json!({ "metadata": { "name": "heavy" }, "handler": "heavy", "overhead": { "podFixed": spec["overhead"] } });
            post(&client, "/apis/node.k8s.io/v1/runtimeclasses", &class).await?;
            spec["runtimeClassName"] = json!("heavy");
        }
        bind_by_hand(&client, &mixed.namespace, &format!("wrong-{index}"), &spec, &node_name(*node)).await?;
        expected.extend((!sign.is_empty()).then_some(*sign));
        let found = audit(&client).await?.violations;
        ensure!(found.len() == expected.len(), "after case {index} ({sign}): {found:#?}");
        ensure!(expected.iter().all(|sign| found.iter().any(|violation| violation.contains(sign))), "{sign} not in {found:#?}");
    }
    // The thirty-first pod of a node for thirty.
    for index in 0..31 {
        ensure!(audit(&client).await?.violations.len() == expected.len(), "the pod count is judged too early");
        let spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
        bind_by_hand(&client, &mixed.namespace, &format!("crowd-{index}"), &spec, &node_name(5)).await?;
    }
    let found = audit(&client).await?.violations;
    ensure!(found.len() == expected.len() + 1 && found.iter().any(|violation| violation.contains("over its pods")), "{found:#?}");
    Ok(())
}

async fn bind_by_hand(client: &kube::Client, namespace: &str, name: &str, spec: &serde_json::Value, node: &str) -> Result<()> {
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let mut spec = spec.clone();
    spec["schedulerName"] = json!("nobody");
    post(client, &pods, &json!({ "metadata": { "name": name }, "spec": spec })).await?;
    let target = json!({ "apiVersion": "v1", "kind": "Node", "name": node });
    post(client, &format!("{pods}/{name}/binding"), &json!({ "metadata": { "name": name }, "target": target })).await
}

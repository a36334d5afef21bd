//! Gangs on the real API server with kwok: 64 pods at once; one that does not fit holds nothing, and is placed when a node comes; `PodGroup`s as served under
//! their gate, with their status.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};

use crate::harness::{
    apiserver::ApiserverOptions,
    assets::{Program, available},
    bindings::BindingWatch,
    control_plane::{ControlPlane, Options},
    creation::post,
    scheduler::{self, Scheduler},
    waiting::eventually,
    workload::node,
};

const NAMESPACE: &str = "gangs";
const SCHEDULER_NAME: &str = "default-scheduler";
const PATIENCE: Duration = Duration::from_secs(30);
/// A node takes so many of the pods here.
const SEATS: usize = 16;
/// Long enough for whatever was going to be bound.
const QUIET: Duration = Duration::from_secs(4);

fn machine(name: &str) -> Value {
    let labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64" });
    node(name, &labels, &json!({ "cpu": SEATS.to_string(), "memory": "64Gi", "pods": "110" }), &[])
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "schedulerName": SCHEDULER_NAME, "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "1" } } }],
        },
    })
}

fn member(name: &str, gang: &str, min_count: usize) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["annotations"] = json!({ "isobar.dev/gang": gang, "isobar.dev/gang-min-count": min_count.to_string() });
    pod
}

fn path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

async fn start(test: &str, options: Options, profile: Value) -> Result<Option<(ControlPlane, Scheduler)>> {
    let kind = scheduler::Kind::Isobar;
    if !available(test, &[Program::Etcd, Program::KubeApiserver, Program::Kwok]) || !kind.available(test) {
        return Ok(None);
    }
    let plane = ControlPlane::start(Options { kwok: true, ..options }).await?;
    plane.create_namespace(NAMESPACE).await?;
    let options = scheduler::Options::new(kind.name(), SCHEDULER_NAME).with_profile(profile);
    let scheduler = Scheduler::start(&plane, kind, &options).await?;
    Ok(Some((plane, scheduler)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_of_64_is_placed_whole_or_holds_nothing() -> Result<()> {
    let test = "a_gang_of_64_is_placed_whole_or_holds_nothing";
    let Some((plane, _scheduler)) = start(test, Options::default(), json!({})).await? else { return Ok(()) };
    let client = plane.client();
    for number in 0..4 {
        post(&client, "/api/v1/nodes", &machine(&format!("n{number}"))).await?;
    }
    let watch = BindingWatch::start(client.clone(), NAMESPACE).await?;
    for number in 0..63 {
        post(&client, &path(), &member(&format!("model-{number:02}"), "model", 64)).await?;
    }
    says(&client, "model-00", "SchedulingGated", "waiting for members of gang \"model\": at least 64").await?;
    ensure!(watch.count() == 0, "63 of 64 are none, and {} were bound", watch.count());
    post(&client, &path(), &member("model-63", "model", 64)).await?;
    for number in 0..64 {
        watch.wait_for_pod(&format!("model-{number:02}"), PATIENCE).await?;
    }
    runs(&client, 64).await?;

    // A second one finds 8 seats of the 12 that it needs.
    post(&client, "/api/v1/nodes", &machine("n4")).await?;
    for number in 0..8 {
        post(&client, &path(), &pod(&format!("single-{number}"))).await?;
        watch.wait_for_pod(&format!("single-{number}"), PATIENCE).await?;
    }
    for number in 0..12 {
        post(&client, &path(), &member(&format!("late-{number:02}"), "late", 12)).await?;
    }
    says(
        &client,
        "late-11",
        "Unschedulable",
        "gang \"late\" cannot be placed: 8 of 12 pods that have to be placed at once fit; pod late-08: 0/5",
    )
    .await?;
    tokio::time::sleep(QUIET).await;
    ensure!(watch.count() == 72, "a part of a gang that does not fit was bound: {:?}", watch.seen().await.bound);
    // What it does not hold another pod gets.
    post(&client, &path(), &pod("between")).await?;
    watch.wait_for_pod("between", PATIENCE).await?;
    post(&client, "/api/v1/nodes", &machine("n5")).await?;
    for number in 0..12 {
        watch.wait_for_pod(&format!("late-{number:02}"), PATIENCE).await?;
    }
    println!("64 pods were bound as one gang; 12 that did not fit held nothing and were bound when a node came");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pod_groups_are_heeded_where_they_are_served() -> Result<()> {
    let test = "pod_groups_are_heeded_where_they_are_served";
    let flags = vec!["--feature-gates=GenericWorkload=true".to_owned(), "--runtime-config=scheduling.k8s.io/v1beta1=true".to_owned()];
    let apiserver = ApiserverOptions { flags, ..ApiserverOptions::default() };
    let profile = json!({ "plugins": { "multiPoint": { "enabled": [{ "name": "GangScheduling" }] } } });
    let options = Options { apiserver, ..Options::default() };
    let Some((plane, _scheduler)) = start(test, options, profile).await? else { return Ok(()) };
    let client = plane.client();
    post(&client, "/api/v1/nodes", &machine("n0")).await?;
    let watch = BindingWatch::start(client.clone(), NAMESPACE).await?;
    let grouped = |name: &str, group: &str| {
        let mut pod = pod(name);
        pod["spec"]["schedulingGroup"] = json!({ "podGroupName": group });
        pod
    };
    let group = |name: &str, policy: Value| json!({ "metadata": { "name": name }, "spec": { "schedulingPolicy": policy } });
    let groups = format!("/apis/scheduling.k8s.io/v1beta1/namespaces/{NAMESPACE}/podgroups");
    post(&client, &groups, &group("pair", json!({ "gang": { "minCount": 2 } }))).await?;
    post(&client, &groups, &group("loose", json!({ "basic": {} }))).await?;
    post(&client, &path(), &grouped("pair-0", "pair")).await?;
    post(&client, &path(), &grouped("loose-0", "loose")).await?;
    watch.wait_for_pod("loose-0", PATIENCE).await?;
    says(&client, "pair-0", "SchedulingGated", "waiting for minCount pods from a gang to appear in scheduling queue").await?;
    post(&client, &path(), &grouped("pair-1", "pair")).await?;
    watch.wait_for_pod("pair-0", PATIENCE).await?;
    watch.wait_for_pod("pair-1", PATIENCE).await?;
    status(&client, &groups, "pair", "True", "Scheduled").await?;

    post(&client, &groups, &group("wide", json!({ "gang": { "minCount": SEATS } }))).await?;
    for number in 0..SEATS {
        post(&client, &path(), &grouped(&format!("wide-{number}"), "wide")).await?;
    }
    status(&client, &groups, "wide", "False", "Unschedulable").await?;
    post(&client, "/api/v1/nodes", &machine("n1")).await?;
    for number in 0..SEATS {
        watch.wait_for_pod(&format!("wide-{number}"), PATIENCE).await?;
    }
    status(&client, &groups, "wide", "True", "Scheduled").await
}

/// The pod's condition has this reason and begins with this text.
async fn says(client: &Client, name: &str, reason: &str, begins: &str) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    eventually(PATIENCE, name, async || {
        let conditions = pods.get(name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
        let is_said = conditions.iter().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.reason.as_deref() == Some(reason)
                && condition.message.as_deref().is_some_and(|text| text.starts_with(begins))
        });
        Ok(is_said.then_some(()).ok_or(format!("{conditions:?}")))
    })
    .await
}

async fn runs(client: &Client, count: usize) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    eventually(PATIENCE, "the gang", async || {
        let running = pods.list(&ListParams::default().fields("status.phase=Running")).await?.items.len();
        Ok((running == count).then_some(()).ok_or(format!("{running} run")))
    })
    .await
}

async fn status(client: &Client, groups: &str, name: &str, status: &str, reason: &str) -> Result<()> {
    eventually(PATIENCE, name, async || {
        let request = http::Request::get(format!("{groups}/{name}")).body(Vec::new())?;
        let group: Value = client.request(request).await?;
        let conditions = group["status"]["conditions"].clone();
        let is_said = conditions.as_array().into_iter().flatten().any(|condition| {
            condition["type"] == "PodGroupInitiallyScheduled" && condition["status"] == status && condition["reason"] == reason
        });
        Ok(is_said.then_some(()).ok_or(conditions.to_string()))
    })
    .await
}

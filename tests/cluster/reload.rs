//! The configuration file is edited under a running Isobar: a good edit counts from the next pod on; a broken one changes nothing and says so in the
//! log, as an event and in the metrics.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::{
    harness::{
        assets::{Program, available},
        bindings::BindingWatch,
        control_plane::{ControlPlane, Options},
        creation::post,
        events::wait_for_event,
        scheduler::{self, Kind, LeaseTimings, Scheduler},
        workload::node,
    },
    serving::token,
};

const NAMESPACE: &str = "reload";
const SCHEDULER_NAME: &str = "isobar-scheduler";
/// The file is polled each few seconds by default.
const WITHIN: Duration = Duration::from_secs(40);

fn pod(name: &str, cpu: &str, selector: &Value) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "schedulerName": SCHEDULER_NAME, "nodeSelector": selector,
            "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu, "memory": "1Gi" } } }],
        },
    })
}

/// The same file, ranking nodes by how full they are.
fn packing(file: &PathBuf) -> Result<String> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let resources = json!([{ "name": "cpu", "weight": 1 }, { "name": "memory", "weight": 1 }]);
    config["profiles"][0]["pluginConfig"] =
        json!([{ "name": "NodeResourcesFit", "args": { "scoringStrategy": { "type": "MostAllocated", "resources": resources } } }]);
    Ok(serde_json::to_string_pretty(&config)?)
}

async fn wait_for_reason(client: &Client, reason: &str) -> Result<()> {
    wait_for_event(&Api::all(client.clone()), WITHIN, |_, event| event.reason.as_deref() == Some(reason)).await
}

async fn metric(scheduler: &Scheduler, token: &str, line: &str) -> Result<bool> {
    let request = http::Request::get("/metrics").header("Authorization", format!("Bearer {token}")).body(Vec::new())?;
    Ok(scheduler.serving_client()?.request_text(request).await?.lines().any(|found| found == line))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_counts_from_the_next_pod_on_and_a_broken_one_changes_nothing() -> Result<()> {
    let test = "an_edit_counts_from_the_next_pod_on_and_a_broken_one_changes_nothing";
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) || !Kind::Isobar.available(test) {
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    plane.create_namespace(NAMESPACE).await?;
    for name in ["busy", "idle"] {
        let labels = json!({ "kubernetes.io/hostname": name, "node": name });
        post(&client, "/api/v1/nodes", &node(name, &labels, &json!({ "cpu": "64", "memory": "64Gi", "pods": "50" }), &[])).await?;
    }
    let options = scheduler::Options::new("isobar", SCHEDULER_NAME).with_leases(LeaseTimings::from_environment()?);
    let scheduler = Scheduler::start(&plane, Kind::Isobar, &options).await?;
    let watch = BindingWatch::start(client.clone(), NAMESPACE).await?;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let placed = async |name: &str| -> Result<String> {
        post(&client, &pods, &pod(name, "1", &json!({}))).await?;
        Ok(watch.wait_for_pod(name, Duration::from_secs(20)).await?.node)
    };
    post(&client, &pods, &pod("occupant", "32", &json!({ "node": "busy" }))).await?;
    watch.wait_for_pod("occupant", Duration::from_secs(20)).await?;
    ensure!(placed("spread").await? == "idle", "LeastAllocated prefers the emptier node");

    let file = plane.folder().join("isobar.config.json");
    fs::write(&file, packing(&file)?)?;
    wait_for_reason(&client, "ConfigurationApplied").await?;
    ensure!(placed("packed").await? == "busy", "MostAllocated prefers the fuller node");

    fs::write(&file, "profiles: [}\n")?;
    wait_for_reason(&client, "ConfigurationRefused").await?;
    ensure!(placed("still-packed").await? == "busy", "the last good configuration stays");
    ensure!(scheduler.process.log().contains("a changed configuration is refused"), "the log says nothing of the refusal");
    plane.kubectl(["create", "serviceaccount", "reader", "--namespace=default"])?;
    let account = plane.service_account_kubeconfig("default", "reader").await?;
    let output =
        plane.kubectl(["create", "clusterrolebinding", "reader", "--clusterrole=cluster-admin", "--serviceaccount=default:reader"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = token(&account)?;
    for line in ["isobar_config_reloads_total{result=\"refused\"} 1", "isobar_config_last_reload_successful 0"] {
        ensure!(metric(&scheduler, &token, line).await?, "the metrics have no line {line}");
    }
    Ok(())
}

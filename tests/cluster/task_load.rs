//! Many runs on the real API server: created at a pace, each with its pod, its log, its deletion. In: nodes that kwok plays, one Isobar. Out: how many runs
//! were over a second, and what Isobar used.
//!
//! `ISOBAR_TASK_LOAD=3000,50`: so many runs, so many created a second; by default few, for a machine that does other things.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    harness::{
        apiserver::ApiserverOptions,
        assets::{Program, available, isobar_available},
        command::kubectl,
        control_plane::{ControlPlane, Options},
        creation::{create, post},
        measure::Usage,
        ports::free_port,
        process::Process,
    },
    serving::NAMESPACE,
    task_room::{RUNS, TASKS, kwok_answering, node, prepare, start_isobar, task},
};

const NODES: usize = 10;
/// Beyond the time that the pace takes.
const PATIENCE: Duration = Duration::from_secs(240);
/// A list of all runs costs the API server as much as the end of some tens of them.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::cast_precision_loss)] // far below 2^52
async fn runs_at_a_pace_are_started_logged_and_reaped() -> Result<()> {
    let test = "runs_at_a_pace_are_started_logged_and_reaped";
    let programs = [Program::Etcd, Program::KubeApiserver, Program::Kubectl, Program::Kwok];
    if !available(test, &programs) || !isobar_available(test) {
        return Ok(());
    }
    let (count, pace) = size()?;
    let plane = ControlPlane::start(Options {
        apiserver: ApiserverOptions { kubelets: true, ..ApiserverOptions::default() },
        ..Options::default()
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let kubelet_port = free_port()?;
    let _kwok = kwok_answering(&plane, folder.path(), kubelet_port)?;
    prepare(&plane, &[]).await?;
    for number in 0..NODES {
        node(&plane.client(), &format!("n{number}"), kubelet_port).await?;
    }
    let mut isobar = isobar_of(&plane, folder.path()).await?;
    let client = plane.client();
    post(&client, TASKS, &task("load", json!([]), json!({"concurrency": {"policy": "Allow"}}))).await?;
    kubectl(&plane, &["wait", "--for=condition=Valid", "tasks", "--all", "--timeout=120s"]).await?;
    // What a leader before this one might have done is over: the first pods would wait for that.
    tokio::time::sleep(Duration::from_secs(31)).await;

    let before = Usage::of(isobar.pid())?;
    let begin = Instant::now();
    let creation = tokio::spawn({
        let client = client.clone();
        async move {
            create(&client, RUNS, count, Some(pace), |number| {
                json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"name": format!("load-{number:05}")},
                    "spec": {"taskRef": {"name": "load"}}})
            })
            .await
        }
    });
    let mut over = Vec::new();
    let runs = loop {
        isobar.ensure_running()?;
        let request = http::Request::get(format!("{RUNS}?resourceVersion=0")).body(Vec::new())?;
        let list: Value = client.request(request).await?;
        let runs = list["items"].as_array().cloned().unwrap_or_default();
        over.push((begin.elapsed(), runs.iter().filter(|run| run["status"]["phase"] == "Reaped").count()));
        if over.last().is_some_and(|(_, over)| *over == count) {
            break runs;
        }
        let patience = PATIENCE + Duration::from_secs_f64(count as f64 / pace);
        ensure!(begin.elapsed() < patience, "{over:?}\n{}", isobar.log_tail());
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let took = begin.elapsed();
    let created = creation.await??.last().context("a creation")?.duration_since(begin);
    let after = Usage::of(isobar.pid())?;

    for run in &runs {
        let attempt = &run["status"]["attempts"][0];
        ensure!(run["status"]["outcome"] == "Succeeded" && run["status"]["attempt"] == 1, "{run:#}");
        ensure!(attempt["logs"]["complete"] == true && attempt["reap"]["result"] == "Deleted", "{run:#}");
    }
    let status_bytes = runs.iter().map(|run| run["status"].to_string().len()).max().unwrap_or_default();
    println!(
        "{count} runs at {pace} a second: created in {:.1} s, all over after {:.1} s ({:.1} a second); status at most {status_bytes} bytes\n{before:?}\n{after:?}\n{over:?}",
        created.as_secs_f64(),
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
    );
    let pods = kubectl(&plane, &["get", "pods", "-o", "name"]).await?.stdout;
    ensure!(pods.is_empty(), "pods are left: {}", String::from_utf8_lossy(&pods));
    Ok(())
}

fn size() -> Result<(usize, f64)> {
    let Ok(text) = std::env::var("ISOBAR_TASK_LOAD") else { return Ok((60, 10.0)) };
    let (count, pace) = text.split_once(',').context("ISOBAR_TASK_LOAD is like 3000,50")?;
    Ok((count.parse()?, pace.parse()?))
}

async fn isobar_of(plane: &ControlPlane, folder: &Path) -> Result<Process> {
    let tasks = json!({
        "enabled": true, "archive": {"folder": folder.join("archive")}, "podsPerSecond": 200, "podsBurst": 200, "unscheduledMax": 1000,
    });
    let kubeconfig = plane.service_account_kubeconfig(NAMESPACE, "isobar").await?;
    start_isobar("isobar", plane, folder, &kubeconfig, &json!({"leaderElect": false}), &tasks, &["--secure-port=0".to_owned()])
}

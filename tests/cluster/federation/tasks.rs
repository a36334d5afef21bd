//! Tasks with a compute cluster: home has no nodes, so the pods of runs go there. By hand and after another, one pod at home and one over there for each run;
//! when both are gone, the log is at home.

use anyhow::{Context as _, Result, ensure};
use isobar::federation::names;
use serde_json::{Value, json};

use super::{
    NEEDS,
    world::{TEAM, Wanted, World},
};
use crate::{
    harness::assets::{available, isobar_available},
    task_room::task,
};

/// Runs by hand.
const RUNS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_tasks_go_to_a_compute_cluster_and_their_logs_stay() -> Result<()> {
    let test = "runs_of_tasks_go_to_a_compute_cluster_and_their_logs_stay";
    if !available(test, &NEEDS) || !isobar_available(test) {
        return Ok(());
    }
    let wanted = Wanted { name: "x86", nodes: vec![(2, "amd64", 0)], spec: json!({}) };
    let world = World::start_with(&[wanted], json!({"resolve": false}), json!({"enabled": true})).await?;
    if let Err(problem) = live_through(&world).await {
        return Err(problem.context(world.told().await));
    }
    Ok(())
}

async fn live_through(world: &World) -> Result<()> {
    let allow = json!({"concurrency": {"policy": "Allow"}});
    let tasks = [task("hand", json!([]), allow.clone()), task("follow", json!([{"after": {"tasks": [{"name": "hand"}]}}]), allow)];
    let file = world.folder.path().join("tasks.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": tasks}).to_string())?;
    world.kubectl(&["apply", "-n", TEAM, "-f", file.to_str().context("a path")?]).await?;
    world.kubectl(&["wait", "-n", TEAM, "--for=condition=Valid", "tasks", "--all", &world.timeout_flag()]).await?;
    for number in 0..RUNS {
        world.isobar(&["task", "run", "hand", "-n", TEAM, "--key", &number.to_string()]).await?;
    }
    world
        .until("all runs are over", || async {
            let runs = runs(world).await?;
            let over = runs.iter().filter(|run| run["status"]["phase"] == "Reaped").count();
            let first = runs.iter().find(|run| run["status"]["phase"] != "Reaped").map(|run| run["status"].to_string());
            Ok((over < 2 * RUNS).then(|| format!("{over} of {} are over; {}", runs.len(), first.unwrap_or_default())))
        })
        .await?;

    let runs = runs(world).await?;
    ensure!(runs.len() == 2 * RUNS, "{} runs", runs.len());
    for run in &runs {
        let attempt = &run["status"]["attempts"][0];
        ensure!(run["status"]["outcome"] == "Succeeded" && run["status"]["attempt"] == 1, "{run:#}");
        ensure!(attempt["node"] == names::virtual_node("x86"), "{run:#}");
        ensure!(attempt["reap"]["result"] == "Deleted", "{run:#}");
        ensure!(attempt["logs"]["complete"] == true && attempt["logs"]["bytes"].as_u64() > Some(0), "{run:#}");
    }
    let pods = world.shows(&["get", "pods", "-n", TEAM, "-o", "name"]).await?;
    ensure!(pods.is_empty(), "pods are left at home: {pods}");
    world
        .until("nothing is left over there", || async {
            let left = world.leftovers().await?;
            Ok((!left.is_empty()).then(|| left.join(", ")))
        })
        .await?;
    for run in &runs {
        let name = run["metadata"]["name"].as_str().context("a name")?;
        let log = String::from_utf8(world.isobar(&["task", "logs", name, "-n", TEAM]).await?.stdout)?;
        ensure!(log.contains("one\ntwo\n"), "{name}: {log}");
    }
    println!("{}", world.shows(&["get", "taskruns", "-n", TEAM]).await?);
    Ok(())
}

async fn runs(world: &World) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&world.shows(&["get", "taskruns", "-n", TEAM, "-o", "json"]).await?)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

//! The federation on four real control planes: a home cluster and three compute clusters of ARM, x86 and GPU nodes that kwok plays. Everything a person does
//! with a pod is done at home, with the real kubectl and the real controllers; over there nothing is left.
//!
//! `ISOBAR_FEDERATION_PODS=500,1000` sets the sizes of the Deployment and the Job; by default they are small, for a machine of two cores.

mod images;
mod tasks;
mod workloads;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream};
use isobar::federation::names;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Node, Pod, Secret},
};
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use serde_json::{Value, json};

use self::{
    workloads::{chosen, deployment, job, notebook, stateful_set, training, volume_rules},
    world::{Compute, TEAM, Wanted, World},
};
use crate::harness::{
    assets::{Program, available, isobar_available},
    quantity::nanos,
};

/// The three clusters: name, architecture, GPUs on each node.
const CLUSTERS: [(&str, &str, u32); 3] = [("arm", "arm64", 0), ("x86", "amd64", 0), ("gpu", "amd64", 4)];
/// Nodes on each compute cluster: 100 pods each.
const NODES: usize = 12;
/// Of ended pods, read from the archive.
const LOGS_AT_ONCE: usize = 16;
/// What these tests need.
const NEEDS: [Program; 5] = [Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager, Program::Kwok, Program::Kubectl];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_home_run_on_three_clusters() -> Result<()> {
    let test = "pods_of_home_run_on_three_clusters";
    if !available(test, &NEEDS) || !isobar_available(test) {
        return Ok(());
    }
    let (replicas, completions) = sizes()?;
    let wanted = CLUSTERS.map(|(name, architecture, gpus)| {
        let spec = if name == "arm" { json!({"volumes": volume_rules()}) } else { json!({}) };
        Wanted { name, nodes: vec![(NODES, architecture, gpus)], spec }
    });
    let world = World::start(&wanted, json!({"resolve": false})).await?.with_pods(replicas + completions);
    if let Err(problem) = live_through(&world, replicas, completions).await {
        return Err(problem.context(world.told().await));
    }
    Ok(())
}

async fn live_through(world: &World, replicas: usize, completions: usize) -> Result<()> {
    let mut begin = Instant::now();
    let mut took = |what: &str| println!("{what}: {:.1} s", std::mem::replace(&mut begin, Instant::now()).elapsed().as_secs_f64());
    submit(world, replicas, completions).await?;
    everything_runs(world, replicas, completions).await?;
    took("all pods placed, the Job complete");
    what_fits_nowhere_waits(world).await?;
    the_notebook_has_what_it_needs(world).await?;
    kubectl_works_as_at_home(world).await?;
    took("kubectl at home");
    ended_runs_are_reaped_and_their_logs_kept(world, completions).await?;
    took("ended runs reaped");
    everything_is_deleted(world).await?;
    took("everything deleted, nothing left");
    Ok(())
}

fn sizes() -> Result<(usize, usize)> {
    let Ok(text) = std::env::var("ISOBAR_FEDERATION_PODS") else { return Ok((60, 60)) };
    let (replicas, completions) = text.split_once(',').context("ISOBAR_FEDERATION_PODS is like 500,1000")?;
    Ok((replicas.parse()?, completions.parse()?))
}

async fn submit(world: &World, replicas: usize, completions: usize) -> Result<()> {
    let mut objects = vec![deployment(replicas), job(completions), stateful_set(3)];
    objects.extend((0..3).map(|number| training(&number.to_string(), 1)));
    objects.extend(CLUSTERS.map(|(name, ..)| chosen(name)));
    objects.extend(notebook());
    let file = world.folder.path().join("workloads.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    world.kubectl(&["apply", "-f", file.to_str().context("a path")?]).await?;
    Ok(())
}

/// All pods of the team, as home shows them.
async fn pods(world: &World) -> Result<Vec<Pod>> {
    Ok(Api::<Pod>::namespaced(world.home.client(), TEAM).list(&ListParams::default()).await?.items)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> &'a str {
    pod.metadata.annotations.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

async fn everything_runs(world: &World, replicas: usize, completions: usize) -> Result<()> {
    let jobs = Api::<Job>::namespaced(world.home.client(), TEAM);
    world
        .until("the Job is complete", || async {
            let status = jobs.get("batch").await?.status.unwrap_or_default();
            ensure!(status.failed.unwrap_or(0) == 0, "pods of the Job failed: {status:?}");
            let succeeded = status.succeeded.and_then(|count| usize::try_from(count).ok());
            Ok((succeeded != Some(completions)).then(|| format!("{succeeded:?} of {completions} succeeded")))
        })
        .await?;
    world
        .until("all pods run", || async {
            let pods = pods(world).await?;
            let waiting: Vec<_> = pods.iter().filter(|pod| !matches!(phase(pod), "Running" | "Succeeded")).collect();
            let short = pods.len() < replicas + completions + 3 + 3 + CLUSTERS.len() + 1;
            let first = waiting.first().map(|pod| format!("{} is {}: {:?}", name(pod), phase(pod), pod.status));
            Ok((short || first.is_some()).then(|| format!("{} pods, {} wait; {}", pods.len(), waiting.len(), first.unwrap_or_default())))
        })
        .await?;
    world.kubectl(&["rollout", "status", "deployment/web", "statefulset/store", "-n", TEAM, &world.timeout_flag()]).await?;
    let pods = pods(world).await?;
    placed_as_asked(&pods)?;
    no_node_is_overfull(world).await?;
    one_run_each(world, &pods).await
}

/// Each pod is on the cluster that its template asks for; what may go anywhere is everywhere.
fn placed_as_asked(pods: &[Pod]) -> Result<()> {
    let mut by_app: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for pod in pods {
        let app = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).map_or(name(pod), String::as_str);
        let cluster = annotation(pod, names::CLUSTER);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        ensure!(node == names::virtual_node(cluster), "{} is on {node} and says {cluster}", name(pod));
        ensure!(annotation(pod, names::NODE).starts_with(cluster), "{} is on node {}", name(pod), annotation(pod, names::NODE));
        ensure!(pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none()), "{} shows an address of another network", name(pod));
        *by_app.entry(app).or_default().entry(cluster).or_default() += 1;
    }
    println!("placements: {by_app:?}");
    let clusters = |app: &str| by_app.get(app).map(|counts| counts.keys().copied().collect::<Vec<_>>()).unwrap_or_default();
    ensure!(clusters("web").len() == 3, "the Deployment is on {:?}", clusters("web"));
    ensure!(!clusters("batch").contains(&"arm"), "the Job of x86 is on {:?}", clusters("batch"));
    ensure!(clusters("store") == ["arm"] && clusters("notebook") == ["arm"], "store is on {:?}", clusters("store"));
    for number in 0..3 {
        ensure!(clusters(&format!("training-{number}")) == ["gpu"]);
    }
    for (cluster, ..) in CLUSTERS {
        ensure!(clusters(&format!("on-{cluster}")) == [cluster]);
    }
    Ok(())
}

/// What the pods on each node over there ask for together is there.
async fn no_node_is_overfull(world: &World) -> Result<()> {
    for Compute { name, plane, .. } in &world.clusters {
        let mut asked: BTreeMap<(String, String), i128> = BTreeMap::new();
        for pod in Api::<Pod>::all(plane.client()).list(&ListParams::default()).await?.items.iter().filter(|pod| phase(pod) == "Running") {
            let spec = pod.spec.as_ref().context("a pod has a spec")?;
            let node = spec.node_name.clone().unwrap_or_default();
            *asked.entry((node.clone(), "pods".to_owned())).or_default() += nanos("1")?;
            for requests in spec.containers.iter().filter_map(|container| container.resources.as_ref()?.requests.as_ref()) {
                for (resource, quantity) in requests {
                    *asked.entry((node.clone(), resource.clone())).or_default() += nanos(&quantity.0)?;
                }
            }
        }
        for ((node, resource), asked) in asked {
            let node: Node = Api::all(plane.client()).get(&node).await?;
            let there = node.status.and_then(|status| status.allocatable).and_then(|there| there.get(&resource).cloned());
            let there = nanos(there.context("a resource that the node has")?.0.as_str())?;
            ensure!(asked <= there, "{name}: {asked} nanos of {resource} are asked of a node with {there}");
        }
    }
    Ok(())
}

/// More GPUs than any node of any cluster has.
async fn what_fits_nowhere_waits(world: &World) -> Result<()> {
    let file = world.folder.path().join("huge.json");
    std::fs::write(&file, training("huge", 5).to_string())?;
    world.kubectl(&["apply", "-f", file.to_str().context("a path")?]).await?;
    let wanted = format!("0/{0} nodes are available: {0} Insufficient nvidia.com/gpu", NODES * CLUSTERS.len());
    world
        .until("the pod says that there are not so many GPUs", || async {
            let described = world.shows(&["describe", "pod", "training-huge", "-n", TEAM]).await?;
            Ok((!(described.contains("FailedScheduling") && described.contains(&wanted))).then_some(described))
        })
        .await?;
    world.kubectl(&["delete", "pod", "training-huge", "-n", TEAM, &world.timeout_flag()]).await?;
    Ok(())
}

/// As many runs as home pods, each for another one.
async fn one_run_each(world: &World, pods: &[Pod]) -> Result<()> {
    let mut homes = BTreeSet::new();
    for Compute { plane, .. } in &world.clusters {
        for run in Api::<Pod>::namespaced(plane.client(), &world.runs).list(&ListParams::default()).await?.items {
            let home = run.metadata.labels.as_ref().and_then(|labels| labels.get(names::RUN_HOME_UID)).cloned().unwrap_or_default();
            ensure!(homes.insert(home), "{} is a second run of its pod", name(&run));
        }
    }
    let known: BTreeSet<String> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
    ensure!(homes.is_subset(&known), "there are runs that nobody asked for");
    let alive = pods.iter().filter(|pod| phase(pod) == "Running").filter_map(|pod| pod.metadata.uid.as_ref());
    ensure!(alive.into_iter().all(|uid| homes.contains(uid)), "a running pod has no run");
    Ok(())
}

async fn the_notebook_has_what_it_needs(world: &World) -> Result<()> {
    let arm = &world.clusters[0].plane;
    let pod = Api::<Pod>::namespaced(world.home.client(), TEAM).get("notebook").await?;
    let run = annotation(&pod, names::RUN).split_once('/').context("the run has a namespace")?.1.to_owned();
    let run: Value = serde_json::to_value(Api::<Pod>::namespaced(arm.client(), &world.runs).get(&run).await?)?;
    let volumes = run["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let of = |name: &str| volumes.iter().find(|volume| volume["name"] == name).cloned().unwrap_or_default();
    let workspace = json!({"server": "nas.example", "path": format!("/export/{TEAM}/ws-anna")});
    ensure!(of("workspace")["nfs"] == workspace, "{}", of("workspace"));
    ensure!(of("data")["nfs"] == json!({"server": "nas.example", "path": "/data/era5", "readOnly": true}), "{}", of("data"));
    let env = &run["spec"]["containers"][0]["env"];
    ensure!(env[2] == json!({"name": "POD", "value": "notebook"}), "{env}");
    let secrets = Api::<Secret>::namespaced(arm.client(), &world.runs).list(&ListParams::default().labels(names::RUN_HOME_UID)).await?;
    let carried: Vec<String> = secrets
        .items
        .iter()
        .flat_map(|secret| secret.data.iter().flatten())
        .map(|(_, value)| String::from_utf8_lossy(&value.0).into_owned())
        .collect();
    ensure!(carried.len() == 3 && !carried.iter().any(|text| text.contains("stays at home")), "what travelled: {carried:?}");
    ensure!(run["spec"]["automountServiceAccountToken"] == false);
    Ok(())
}

async fn kubectl_works_as_at_home(world: &World) -> Result<()> {
    let wide = world.shows(&["get", "pod", "notebook", "-n", TEAM, "-o", "wide", "--no-headers"]).await?;
    ensure!(wide.contains("1/1") && wide.contains("Running") && wide.contains("isobar-arm"), "{wide}");
    world
        .until("the pod's events tell where it went", || async {
            let described = world.shows(&["describe", "pod", "notebook", "-n", TEAM]).await?;
            let told = described.contains("Successfully assigned") && described.contains(names::NODE);
            Ok((!told).then_some(described))
        })
        .await?;
    let log = world.shows(&["logs", "notebook", "-n", TEAM]).await?;
    ensure!(log == "one\ntwo\n", "{log:?}");
    let tail = world.shows(&["logs", "deployment/web", "-n", TEAM, "--tail=1"]).await?;
    ensure!(tail == "two\n", "{tail:?}");
    let echo = world.shows(&["exec", "notebook", "-n", TEAM, "--", "echo", "over there"]).await?;
    ensure!(echo == "over there\n", "{echo:?}");
    world.kubectl(&["delete", "pod", "store-2", "on-x86", "-n", TEAM, &world.timeout_flag()]).await?;
    world
        .until("the StatefulSet has its pod again", || async {
            let ready = world.shows(&["get", "statefulset", "store", "-n", TEAM, "-o", "jsonpath={.status.readyReplicas}"]).await?;
            Ok((ready != "3").then_some(format!("{ready} are ready")))
        })
        .await?;
    let shown = world.isobar(&["cluster", "list"]).await?;
    let shown = String::from_utf8(shown.stdout)?;
    ensure!(CLUSTERS.iter().all(|(name, ..)| shown.contains(name)), "{shown}");
    Ok(())
}

/// Runs of the Job vanish over there; at home its pods stay with their exit codes, and all their logs are read from the archive.
async fn ended_runs_are_reaped_and_their_logs_kept(world: &World, completions: usize) -> Result<()> {
    let ended: Vec<String> = pods(world).await?.iter().filter(|pod| phase(pod) == "Succeeded").map(|pod| name(pod).to_owned()).collect();
    ensure!(ended.len() == completions, "{} pods have ended", ended.len());
    world
        .until("the ended runs are gone", || async {
            let mut left = 0;
            for Compute { plane, .. } in &world.clusters {
                let runs = Api::<Pod>::namespaced(plane.client(), &world.runs).list_metadata(&ListParams::default()).await?;
                left += runs.items.iter().filter(|run| run.metadata.name.as_deref().is_some_and(|name| name.starts_with("batch-"))).count();
            }
            Ok((left > 0).then(|| format!("{left} are left")))
        })
        .await?;
    let home = &Api::<Pod>::namespaced(world.home.client(), TEAM);
    let logs = ended.iter().map(|name| async move { (name, home.logs(name, &LogParams::default()).await) });
    let mut logs = stream::iter(logs).buffer_unordered(LOGS_AT_ONCE);
    while let Some((name, log)) = logs.next().await {
        let log = log.with_context(|| format!("the log of {name}, whose run is gone"))?;
        ensure!(log == "one\ntwo\n", "of {name}, whose run is gone: {log:?}");
    }
    let log = world.shows(&["logs", &ended[0], "-n", TEAM]).await?;
    ensure!(log == "one\ntwo\n", "of a run that is gone: {log:?}");
    for pod in pods(world).await?.iter().filter(|pod| phase(pod) == "Succeeded") {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).and_then(|all| all.first());
        let ended = statuses.and_then(|status| status.state.as_ref()?.terminated.as_ref());
        ensure!(ended.is_some_and(|ended| ended.exit_code == 0), "{} has no exit code: {statuses:?}", name(pod));
    }
    Ok(())
}

async fn everything_is_deleted(world: &World) -> Result<()> {
    // Owners take their pods along; pods without owners have no labels. By `pod --all` kubectl would delete every one itself, five in a second.
    world.kubectl(&["delete", "deployment,job,statefulset", "--all", "-n", TEAM, &world.timeout_flag()]).await?;
    world.kubectl(&["delete", "pod", "--selector=!app", "-n", TEAM, &world.timeout_flag()]).await?;
    world
        .until("the team has no pods", || async {
            let left = Api::<Pod>::namespaced(world.home.client(), TEAM).list_metadata(&ListParams::default()).await?.items.len();
            Ok((left > 0).then(|| format!("{left} are left")))
        })
        .await?;
    world
        .until("nothing bears our label over there", || async {
            let left = world.leftovers().await?;
            Ok((!left.is_empty()).then(|| format!("{left:?}")))
        })
        .await?;
    for (name, ..) in CLUSTERS {
        world.isobar(&["cluster", "remove", name, "--wait"]).await?;
    }
    let nodes = world.shows(&["get", "nodes", "-o", "name"]).await?;
    ensure!(nodes.is_empty(), "virtual Nodes are left: {nodes}");
    Ok(())
}

//! The leader dies at each effect of the life of a run, once before it and once after it, on the real API server: two replicas under one lease, a line to each
//! that knows which request it is (`harness/gate.rs`), kwok for a kubelet. What a firing was stays one run with one pod, whose log is kept.
//!
//! `ISOBAR_LEASE_MS=duration,renew-deadline,retry-period` gives a slow machine more time; with `ISOBAR_DEATHS_LEASE=0` there is no lease, and one replica,
//! which is started again.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use isobar::model::time::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use crate::{
    harness::{
        apiserver::ApiserverOptions,
        assets::{Program, available, isobar_available},
        control_plane::{ControlPlane, Options},
        creation::post,
        gate::{Gate, Trap, Traps},
        ports::free_port,
        process::Process,
        scheduler::LeaseTimings,
    },
    serving::NAMESPACE,
    task_room::{RUNS, TASKS, kwok_answering, node, prepare, start_isobar, task},
};

/// From one death to the next: a lease, a start on two busy cores, and half a minute in which no pod is let go.
const PATIENCE: Duration = Duration::from_secs(180);

/// The pod is there.
const PENDING: &str = "WriteRun Pending";

/// What starts a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Manual,
    Cron,
    After,
    Data,
}

/// Each effect of docs/tasks.md that changes something, by what starts the runs in which the leader dies before it and after it.
const EFFECTS: [(&str, Kind, Kind); 16] = [
    ("CreateRun", Kind::Cron, Kind::After),
    ("CreateRun", Kind::Data, Kind::Cron),
    ("FillIn", Kind::Manual, Kind::Manual),
    ("WriteRun Launching", Kind::After, Kind::Data),
    (PENDING, Kind::Manual, Kind::Cron),
    ("WriteRun Finishing", Kind::After, Kind::Data),
    ("WriteRun Recycling", Kind::Manual, Kind::Cron),
    ("WriteRun Reaped", Kind::After, Kind::Data),
    ("WriteTask", Kind::Cron, Kind::Cron),
    ("CreatePod", Kind::Manual, Kind::Cron),
    ("SaveLogs", Kind::After, Kind::Data),
    ("DeletePod", Kind::Manual, Kind::Cron),
    ("ReleasePod", Kind::After, Kind::Data),
    ("Announce Finished", Kind::Manual, Kind::Cron),
    ("Announce Reaped", Kind::After, Kind::Data),
    ("DeleteRun", Kind::Manual, Kind::Data),
];

#[derive(Clone, Debug)]
struct Death {
    task: String,
    kind: Kind,
    trap: Trap,
}

fn deaths() -> Vec<Death> {
    let mut deaths = Vec::new();
    for (at, (effect, before, after)) in EFFECTS.into_iter().enumerate() {
        for (kind, after) in [(before, false), (after, true)] {
            let task = format!("t{at:02}{}{}", effect.replace(' ', "").to_lowercase(), if after { "after" } else { "before" });
            // The first status of a task comes before its runs; what is meant is the one that settles a firing.
            let once = (effect == "WriteTask").then_some("CreateRun");
            deaths.push(Death { task: task.clone(), kind, trap: Trap { task, effect, after, once } });
        }
    }
    // Whoever comes after a leader that died with a pod let go has not seen it go, and looks.
    let released = deaths.iter().find(|death| death.trap.effect == "ReleasePod" && death.trap.after).cloned();
    deaths.extend(
        released.map(|death| Death { trap: Trap { effect: "ReadPod", after: false, once: Some("ReleasePod"), ..death.trap }, ..death }),
    );
    deaths
}

struct Replica {
    process: Process,
    _gate: Gate,
}

struct Stage {
    replicas: Vec<Replica>,
    started: usize,
    _kwok: Process,
    plane: ControlPlane,
    client: Client,
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    traps: Traps,
    has_lease: bool,
    kubelet_port: u16,
}

impl Stage {
    async fn start() -> Result<Self> {
        let apiserver = ApiserverOptions { kubelets: true, ..ApiserverOptions::default() };
        let controllers = Some("serviceaccount-controller,garbage-collector-controller".to_owned());
        let plane = ControlPlane::start(Options { apiserver, controllers, ..Options::default() }).await?;
        let folder = tempfile::tempdir()?;
        let kubelet_port = free_port()?;
        let kwok = kwok_answering(&plane, folder.path(), kubelet_port)?;
        prepare(&plane, &["base/lease-role.yaml"]).await?;
        node(&plane.client(), "n1", kubelet_port).await?;
        fs::create_dir_all(folder.path().join("inbox"))?;
        let kubeconfig = plane.service_account_kubeconfig(NAMESPACE, "isobar").await?;
        let client = plane.client();
        let (replicas, traps, has_lease) = (Vec::new(), Traps::default(), std::env::var("ISOBAR_DEATHS_LEASE").as_deref() != Ok("0"));
        let mut stage = Self { replicas, started: 0, _kwok: kwok, plane, client, folder, kubeconfig, traps, has_lease, kubelet_port };
        for _ in 0..=usize::from(has_lease) {
            stage.add().await?;
        }
        Ok(stage)
    }

    async fn add(&mut self) -> Result<()> {
        let (number, folder) = (self.started, self.folder.path());
        self.started += 1;
        let archive = folder.join("archive");
        let gate = Gate::open(self.plane.admin_kubeconfig(), &self.traps, &archive).await?;
        let kubeconfig = folder.join(format!("isobar-{number}.kubeconfig"));
        fs::write(&kubeconfig, fs::read_to_string(&self.kubeconfig)?.replace(&self.plane.url(), &gate.url))?;
        let (leases, ms) = (LeaseTimings::from_environment()?, |span: Duration| format!("{}ms", span.as_millis()));
        let election = json!({
            "leaderElect": self.has_lease, "resourceName": "isobar-scheduler", "resourceNamespace": NAMESPACE, "leaseDuration": ms(leases.duration),
            "renewDeadline": ms(leases.renew_deadline), "retryPeriod": ms(leases.retry_period),
        });
        let directory = json!({"path": folder.join("inbox"), "glob": "*", "settle": "200ms", "poll": "200ms"});
        let tasks = json!({
            "enabled": true, "archive": {"folder": archive}, "report": {"urls": [format!("{}/reports", gate.url)]},
            "sources": [{"name": "products", "directory": directory}],
        });
        let name = format!("isobar-{number}");
        let process = start_isobar(&name, &self.plane, folder, &kubeconfig, &election, &tasks, &["--secure-port=0".to_owned()])?;
        gate.is_of(process.pid());
        self.replicas.push(Replica { process, _gate: gate });
        Ok(())
    }

    /// What a kubelet does: whoever died is there again.
    async fn tend(&mut self) -> Result<()> {
        for at in (0..self.replicas.len()).rev() {
            if self.replicas[at].process.has_ended()?.is_some() {
                self.replicas.remove(at);
                self.add().await?;
            }
        }
        Ok(())
    }

    fn told(&self) -> String {
        self.replicas.iter().map(|replica| replica.process.log_tail()).collect::<Vec<_>>().join("\n--\n")
    }

    /// Tends the replicas until something holds; patience begins anew with each death.
    async fn until<F: Future<Output = Result<Option<String>>>>(&mut self, what: &str, problem: impl Fn(Client) -> F) -> Result<()> {
        let (mut since, mut died) = (Instant::now(), 0);
        loop {
            self.tend().await?;
            let Some(problem) = problem(self.client.clone()).await? else { return Ok(()) };
            let (deaths, left) = {
                let ledger = self.traps.look();
                (ledger.sprung.len(), ledger.set.clone())
            };
            if deaths > died {
                (since, died) = (Instant::now(), deaths);
            }
            ensure!(since.elapsed() < PATIENCE, "{what}: {problem}; set: {left:?}\n{}", self.told());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn runs(client: &Client) -> Result<Vec<Value>> {
        let list: Value = client.request(http::Request::get(RUNS).body(Vec::new())?).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    async fn patch_status(&self, path: &str, status: &Value) -> Result<()> {
        let request = http::Request::patch(format!("{path}/status")).header("content-type", "application/merge-patch+json");
        let body = json!({ "status": status }).to_string().into_bytes();
        self.client.request_text(request.body(body)?).await.with_context(|| path.to_owned())?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_may_die_at_any_effect() -> Result<()> {
    let test = "a_leader_may_die_at_any_effect";
    let programs = [Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager, Program::Kubectl, Program::Kwok];
    if !available(test, &programs) || !isobar_available(test) {
        return Ok(());
    }
    let begin = Instant::now();
    let mut stage = Stage::start().await?;
    let deaths = deaths();
    register(&mut stage, &deaths).await?;
    stage.traps.look().set = deaths.iter().map(|death| death.trap.clone()).filter(|trap| trap.effect != "DeleteRun").collect();
    fire(&stage, &deaths).await?;
    let runs = all_over(&mut stage, &deaths).await?;
    one_run_one_pod(&stage, &deaths, &runs)?;
    retention(&mut stage, &deaths, &runs).await?;

    let ledger = stage.traps.look();
    ensure!(ledger.set.is_empty() && ledger.sprung.len() == deaths.len(), "not everybody died: {:?}", ledger.set);
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    ledger.sprung.iter().for_each(|trap| counts.entry(trap.effect).or_default()[usize::from(trap.after)] += 1);
    println!("{} leaders died in {:.0} s, before and after: {counts:?}", ledger.sprung.len(), begin.elapsed().as_secs_f64());
    let others = stage.started - 1 - usize::from(stage.has_lease) - ledger.sprung.len();
    println!("{others} replicas ended by themselves, as one does whose lease ran out on a busy machine");
    Ok(())
}

/// All tasks, and one more that those that follow have in common.
async fn register(stage: &mut Stage, deaths: &[Death]) -> Result<()> {
    let mut tasks: BTreeMap<&str, Value> = BTreeMap::from([("first", task("first", json!([]), json!({})))]);
    for death in deaths {
        let triggers = match death.kind {
            Kind::Manual => json!([]),
            // Once a year: a firing that was missed, and no other.
            Kind::Cron => json!([{"cron": {"schedule": "0 0 1 1 *", "missed": {"policy": "Latest"}}}]),
            Kind::After => json!([{"after": {"tasks": [{"name": "first"}]}}]),
            Kind::Data => json!([{"data": {"source": "products", "match": format!("^{}_(?<cycle>\\d{{12}})", death.task)}}]),
        };
        let mut object = task(&death.task, triggers, json!({"retention": {"succeeded": {"ttl": "10m"}}}));
        if death.trap.effect == PENDING {
            object["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n2"});
        }
        tasks.insert(&death.task, object);
    }
    for object in tasks.values() {
        post(&stage.client, TASKS, object).await?;
    }
    stage
        .until("tasks are valid", async |client| {
            let list: Value = client.request(http::Request::get(TASKS).body(Vec::new())?).await?;
            let waits = list["items"].as_array().into_iter().flatten().find(|task| task["status"]["conditions"][0]["status"] != "True");
            Ok(waits.map(ToString::to_string))
        })
        .await
}

/// Everything happens at once.
async fn fire(stage: &Stage, deaths: &[Death]) -> Result<()> {
    let run = |task: &str| json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"name": format!("{task}-1")}, "spec": {"taskRef": {"name": task}}});
    post(&stage.client, RUNS, &run("first")).await?;
    for death in deaths.iter().filter(|death| death.trap.effect != "ReadPod") {
        match death.kind {
            Kind::Manual => post(&stage.client, RUNS, &run(&death.task)).await?,
            // Nobody led for two years.
            Kind::Cron => {
                let status = json!({"lastScheduled": "2025-06-01T00:00:00Z", "nextScheduled": "2026-01-01T00:00:00Z"});
                stage.patch_status(&format!("{TASKS}/{}", death.task), &status).await?;
            }
            Kind::After => {}
            Kind::Data => fs::write(stage.folder.path().join("inbox").join(format!("{}_202611280600", death.task)), "data")?,
        }
    }
    Ok(())
}

async fn all_over(stage: &mut Stage, deaths: &[Death]) -> Result<Vec<Value>> {
    let tasks = deaths.iter().filter(|death| death.trap.effect != "ReadPod").count() + 1;
    let traps = stage.traps.clone();
    // A pod that has a node at once may be over before anybody has written that it is there.
    stage
        .until("pods are seen that have no node", async |_| {
            let left = traps.look().set.iter().filter(|trap| trap.effect == PENDING).count();
            Ok((left > 0).then(|| format!("{left} traps are left")))
        })
        .await?;
    node(&stage.client, "n2", stage.kubelet_port).await?;
    stage
        .until("all runs are over", async |client| {
            let runs = Stage::runs(&client).await?;
            let is_over = |run: &&Value| run["status"]["phase"] == "Reaped" && run["status"]["announced"] == "Reaped";
            let over = runs.iter().filter(is_over).count();
            let left = traps.look().set.len();
            Ok((over < tasks || left > 0)
                .then(|| format!("{over} of {} runs of {tasks} tasks are over, {left} traps are left", runs.len())))
        })
        .await?;
    Stage::runs(&stage.client).await
}

/// What must hold of every run.
fn one_run_one_pod(stage: &Stage, deaths: &[Death], runs: &[Value]) -> Result<()> {
    let ledger = stage.traps.look();
    ensure!(ledger.silent.is_empty(), "pods went before their logs: {:?}", ledger.silent);
    for death in deaths {
        let of: Vec<&Value> = runs.iter().filter(|run| run["spec"]["taskRef"]["name"] == *death.task).collect();
        let [run] = of[..] else { anyhow::bail!("{death:?}: {} runs", of.len()) };
        ensure!(run["metadata"]["labels"]["isobar.dev/trigger"] == format!("{:?}", death.kind), "{run:#}");
        let (attempts, attempt) = (&run["status"]["attempts"], &run["status"]["attempts"][0]);
        ensure!(run["status"]["outcome"] == "Succeeded" && attempts.as_array().is_some_and(|all| all.len() == 1), "{run:#}");
        ensure!(attempt["logs"]["complete"] == true && attempt["logs"]["bytes"].as_u64() > Some(0), "{run:#}");
        let reaped = attempt["reap"]["result"].as_str().unwrap_or_default();
        ensure!(["Deleted", "AlreadyGone", "Forced"].contains(&reaped), "{death:?}: {reaped:?}: {run:#}");
        let uid = run["metadata"]["uid"].as_str().unwrap_or_default();
        let told = |state: &str| ledger.heard.iter().filter(|event| event["id"] == format!("{uid}/{state}")).count();
        ensure!(told("Reaped") > 0, "nobody was told of {run:#}");
        let pod = attempt["podName"].as_str().unwrap_or_default();
        let pods = ledger.made("CreatePod").into_iter().filter(|(name, _)| name.starts_with(&*death.task)).collect::<Vec<_>>();
        ensure!(pods == [(pod.to_owned(), 1)], "{death:?}: pods {pods:?}");
        if death.kind != Kind::Manual {
            let name = run["metadata"]["name"].as_str().unwrap_or_default();
            let made = ledger.made("CreateRun").into_iter().filter(|(name, _)| name.starts_with(&*death.task)).collect::<Vec<_>>();
            ensure!(made == [(name.to_owned(), 1)], "{death:?}: runs {made:?}");
        }
    }
    Ok(())
}

/// Runs that ended an hour ago go, and do not come again.
async fn retention(stage: &mut Stage, deaths: &[Death], runs: &[Value]) -> Result<()> {
    let old: Vec<&Death> = deaths.iter().filter(|death| death.trap.effect == "DeleteRun").collect();
    stage.traps.look().set = old.iter().map(|death| death.trap.clone()).collect();
    let hour_ago = Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond())?.saturating_sub(3_600_000)).to_rfc3339();
    for death in &old {
        let run = runs.iter().find(|run| run["spec"]["taskRef"]["name"] == *death.task).context("its run")?;
        let name = run["metadata"]["name"].as_str().unwrap_or_default();
        stage.patch_status(&format!("{RUNS}/{name}"), &json!({"finishedAt": hour_ago})).await?;
    }
    let traps = stage.traps.clone();
    let is_of_old = |run: &Value| old.iter().any(|death| run["spec"]["taskRef"]["name"] == *death.task);
    stage
        .until("old runs are deleted", async |client| {
            let left = Stage::runs(&client).await?.iter().filter(|run| is_of_old(run)).count();
            let set = traps.look().set.len();
            Ok((left > 0 || set > 0).then(|| format!("{left} are left, {set} traps")))
        })
        .await?;
    // The file that started one of them is still in the directory, and is looked at again and again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let back: Vec<Value> = Stage::runs(&stage.client).await?.into_iter().filter(is_of_old).collect();
    ensure!(back.is_empty(), "they are there again: {back:#?}");
    Ok(())
}

//! Tasks on the real API server, from `kubectl apply` to the log that outlives its pod: the real `isobar`, with what the manifests grant and nothing else, on
//! nodes that kwok plays.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream::{self, stream};
use axum::{Json, Router, routing::post as on_post};
use http::StatusCode;
use isobar::kubernetes::permissions::{PERMISSIONS, TASKS};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    cylc, ecflow,
    harness::{
        apiserver::ApiserverOptions,
        assets::{Program, available, isobar, isobar_available},
        audit_log::AuditLog,
        command::{kubectl, succeeded},
        control_plane::{ControlPlane, Options},
        ports::free_port,
        process::Process,
        stores::Store,
    },
    serving::{NAMESPACE, token},
    task_room::{kwok_answering, node, prepare, start_isobar, task},
};

const USER: &str = "system:serviceaccount:isobar-system:isobar";
/// How long anything may take on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

struct Stage {
    isobar: Process,
    _kwok: Process,
    plane: ControlPlane,
    folder: tempfile::TempDir,
    port: u16,
    kubelet_port: u16,
    heard: Heard,
    broker: Store,
}

async fn jetstream_of(broker: &Store) -> Result<jetstream::Context> {
    Ok(jetstream::new(async_nats::connect(format!("nats://{}", broker.address())).await?))
}

/// Reports that a receiver has acknowledged; it fails at first.
type Heard = Arc<Mutex<Vec<Value>>>;

/// A receiver of reports. Out: its address.
async fn receiver(heard: Heard) -> Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/reports", listener.local_addr()?);
    let failures = Arc::new(Mutex::new(3_u32));
    let take = on_post(async move |Json(event): Json<Value>| {
        let mut left = failures.lock().unwrap_or_else(PoisonError::into_inner);
        if *left > 0 {
            *left -= 1;
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        StatusCode::ACCEPTED
    });
    let router = Router::new().route("/reports", take);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

impl Stage {
    async fn start() -> Result<Self> {
        let apiserver = ApiserverOptions { audit_log: true, kubelets: true, ..ApiserverOptions::default() };
        let controllers = Some("serviceaccount-controller,garbage-collector-controller".to_owned());
        let plane = ControlPlane::start(Options { apiserver, controllers, ..Options::default() }).await?;
        let folder = tempfile::tempdir()?;
        let (port, kubelet_port) = (free_port()?, free_port()?);
        let kwok = kwok_answering(&plane, folder.path(), kubelet_port)?;
        prepare(&plane, &["overlays/tasks/sender.yaml"]).await?;
        kubectl(&plane, &["create", "serviceaccount", "radar-ingest"]).await?;
        kubectl(&plane, &["create", "serviceaccount", "operator"]).await?;
        kubectl(&plane, &["create", "clusterrolebinding", "operator", "--clusterrole=cluster-admin", "--serviceaccount=default:operator"])
            .await?;
        let heard = Heard::default();
        let url = receiver(heard.clone()).await?;
        let broker = Store::nats(folder.path(), None, "").await?;
        for (name, subject) in [("RADAR", "radar"), ("RUNS", "isobar.runs")] {
            let config = stream::Config { name: name.to_owned(), subjects: vec![subject.to_owned()], ..stream::Config::default() };
            jetstream_of(&broker).await?.create_stream(config).await?;
        }
        let isobar = isobar_of(&plane, folder.path(), port, &url, &broker).await?;
        let stage = Self { isobar, _kwok: kwok, plane, folder, port, kubelet_port, heard, broker };
        stage.node("n1").await?;
        Ok(stage)
    }

    async fn node(&self, name: &str) -> Result<()> {
        node(&self.plane.client(), name, self.kubelet_port).await
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8(kubectl(&self.plane, arguments).await?.stdout)?)
    }

    /// `isobar task` as the admin.
    async fn task(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(isobar());
        command.env("KUBECONFIG", self.plane.admin_kubeconfig()).arg("task").args(arguments);
        Ok(String::from_utf8(succeeded(command, arguments).await?.stdout)?)
    }

    async fn apply(&self, objects: &[Value]) -> Result<()> {
        let file = self.folder.path().join("objects.yaml");
        fs::write(&file, objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n"))?;
        self.kubectl(&["apply", "-f", text(&file)?]).await?;
        Ok(())
    }

    async fn runs(&self) -> Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.kubectl(&["get", "taskruns", "-o", "json"]).await?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits for a run that is so.
    async fn run(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let begin = Instant::now();
        loop {
            let runs = self.runs().await?;
            if let Some(found) = runs.iter().find(|run| wanted(run)) {
                return Ok(found.clone());
            }
            if begin.elapsed() > PATIENCE {
                bail!(
                    "{what}: not within {PATIENCE:?}\n{}\n{}",
                    self.kubectl(&["get", "taskruns,pods", "-o", "wide"]).await?,
                    self.isobar.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn reaped(&self, task: &str, trigger: &str) -> Result<Value> {
        let is_it = |run: &Value| run["spec"]["taskRef"]["name"] == task && run["spec"]["trigger"]["type"] == trigger;
        let run = self.run(&format!("{task} {trigger}"), |run| is_it(run) && run["status"]["phase"] == "Reaped").await?;
        let attempt = &run["status"]["attempts"][0];
        ensure!(run["status"]["outcome"] == "Succeeded" && run["status"]["attempt"] == 1, "{run:#}");
        // A second node comes in the middle of the test.
        ensure!(attempt["reap"]["result"] == "Deleted" && (attempt["node"] == "n1" || attempt["node"] == "n2"), "{run:#}");
        ensure!(attempt["logs"]["complete"] == true && attempt["logs"]["bytes"].as_u64() > Some(0), "{run:#}");
        let name = run["metadata"]["name"].as_str().context("a name")?;
        let log = self.task(&["logs", name]).await?;
        ensure!(log.contains("one\ntwo\n"), "{log}");
        Ok(run)
    }

    /// Sends an event as its sender does. Out: HTTP status and body.
    async fn send(&self, token: Option<&str>, headers: &[&str], body: &str) -> Result<(String, String)> {
        let mut arguments = vec!["--http1.1", "--data-binary", body];
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        self.curl(token, "events/radar-in", &arguments).await
    }

    async fn curl(&self, token: Option<&str>, path: &str, arguments: &[&str]) -> Result<(String, String)> {
        let mut command = Command::new("curl");
        let url = format!("https://127.0.0.1:{}/{path}", self.port);
        command.args(["--silent", "--show-error", "--insecure", "--write-out", "\n%{http_code}", &url]).args(arguments);
        if let Some(token) = token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let output = String::from_utf8(succeeded(command, &["curl"]).await?.stdout)?;
        let (body, status) = output.rsplit_once('\n').context("a status")?;
        Ok((status.to_owned(), body.to_owned()))
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

async fn isobar_of(plane: &ControlPlane, folder: &Path, port: u16, receiver: &str, broker: &Store) -> Result<Process> {
    fs::create_dir_all(folder.join("inbox"))?;
    let directory = json!({"path": folder.join("inbox"), "glob": "*_*", "settle": "200ms", "poll": "200ms"});
    let servers = json!({"urls": [format!("nats://{}", broker.address())]});
    let tasks = json!({
        "enabled": true, "archive": {"folder": folder.join("archive")},
        "report": {"urls": [receiver], "nats": {"servers": servers, "subject": "isobar.runs"}},
        "sources": [{"name": "radar-in", "nats": {"servers": servers, "stream": "RADAR"}}, {"name": "products", "directory": directory}],
    });
    let kubeconfig = plane.service_account_kubeconfig(NAMESPACE, "isobar").await?;
    let flags = ["--bind-address=127.0.0.1".to_owned(), format!("--secure-port={port}")];
    start_isobar("isobar", plane, folder, &kubeconfig, &json!({"leaderElect": false}), &tasks, &flags)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_run_by_every_trigger_and_leave_their_logs() -> Result<()> {
    let test = "tasks_run_by_every_trigger_and_leave_their_logs";
    let programs = [Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager, Program::Kubectl, Program::Kwok, Program::Nats];
    if !available(test, &programs) || !isobar_available(test) {
        return Ok(());
    }
    let stage = Stage::start().await?;
    examples(&stage).await?;
    triggers(&stage).await?;
    capacity(&stage).await?;
    command_line(&stage).await?;
    over_https(&stage).await?;
    adapters(&stage).await?;
    reports(&stage).await?;

    let pods = stage.kubectl(&["get", "pods", "-l", "isobar.dev/task-run", "-o", "name"]).await?;
    let live: Vec<String> = stage
        .runs()
        .await?
        .iter()
        .filter(|run| run["status"]["phase"] != "Reaped")
        .map(|run| run["metadata"]["name"].to_string())
        .collect();
    ensure!(pods.is_empty() || !live.is_empty(), "pods are left of runs that are over: {pods}");
    let mut log = AuditLog::of(stage.plane.folder());
    log.refresh()?;
    ensure!(log.refused(USER).is_empty(), "refused: {:?}", log.refused(USER));
    let listed =
        |call: &String| PERMISSIONS.iter().chain(TASKS).any(|known| *call == format!("{} {}/{}", known.verb, known.group, known.resource));
    let beyond: Vec<String> = log.permissions_used(USER).into_iter().filter(|call| !call.ends_with(" /") && !listed(call)).collect();
    ensure!(beyond.is_empty(), "used and not listed: {beyond:?}");
    Ok(())
}

/// Schedulers that weather services have, and what they killed.
async fn adapters(stage: &Stage) -> Result<()> {
    let never =
        json!({"template": {"spec": {"containers": [{"name": "main", "image": "i"}], "nodeSelector": {"kubernetes.io/hostname": "n9"}}}});
    let job = json!({"params": [{"name": "p", "default": "a"}], "concurrency": {"policy": "Allow"}});
    stage.apply(&[task("never", json!([]), never), task("job", json!([]), job)]).await?;
    let (folder, kubeconfig) = (stage.folder.path(), stage.plane.admin_kubeconfig());
    ecflow::suite(folder, kubeconfig).await?;
    if cylc::suite(folder, kubeconfig).await? {
        let is_long = |run: &Value| run["spec"]["trigger"]["key"] == "s/20261128T0600Z/long/1";
        let killed = stage.run("Cylc's long job", |run| is_long(run) && run["status"]["phase"] == "Reaped").await?;
        ensure!(killed["status"]["outcome"] == "Cancelled", "{killed:#}");
    }
    Ok(())
}

/// The examples of the manifests are taken, valid, and can be run.
async fn examples(stage: &Stage) -> Result<()> {
    for file in ["data-arrival", "model-cycle", "overrun", "radar"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("manifests/examples/{file}.yaml"));
        stage.kubectl(&["apply", "-f", text(&path)?]).await?;
    }
    let notebook = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/examples/notebook.yaml");
    stage.kubectl(&["create", "-f", text(&notebook)?]).await?;
    let waited = stage.kubectl(&["wait", "--for=condition=Valid", "tasks", "--all", "--timeout=60s"]).await;
    waited.with_context(|| stage.isobar.log_tail())?;
    let run = stage.run("the notebook", |run| run["spec"]["taskRef"]["name"] == "notebook" && run["status"]["phase"].is_string()).await?;
    let name = run["metadata"]["name"].as_str().context("a name")?;
    stage.task(&["cancel", name]).await?;
    let ended = stage.run("the notebook's end", |run| run["metadata"]["name"] == name && run["status"]["phase"] == "Reaped").await?;
    ensure!(["Cancelled", "Succeeded"].map(Value::from).contains(&ended["status"]["outcome"]), "{ended:#}");
    Ok(())
}

/// By hand, by the clock, after another, and by data in three ways: one run and one pod each.
async fn triggers(stage: &Stage) -> Result<()> {
    let file = |name: &str, source: &str| {
        task(
            name,
            json!([{"data": {"source": source, "match": "^(?<station>Z\\d{4})_(?<cycle>\\d{12})"}}]),
            json!({"params": [{"name": "station"}]}),
        )
    };
    stage
        .apply(&[
            task("tick", json!([{"cron": {"schedule": "* * * * *", "cycleOffset": "-10m"}}]), json!({"concurrency": {"policy": "Allow"}})),
            task("tock", json!([{"after": {"tasks": [{"name": "tick"}]}}]), json!({"concurrency": {"policy": "Allow"}})),
            file("volume", "radar-in"),
            file("product", "products"),
        ])
        .await?;
    stage.kubectl(&["wait", "--for=condition=Valid", "tasks", "--all", "--timeout=60s"]).await?;

    let sender = token(&stage.plane.service_account_kubeconfig("default", "radar-ingest").await?)?;
    let event = json!({"specversion": "1.0", "type": "t", "source": "/radar", "id": "1", "subject": "Z9010_202611280600.bz2"}).to_string();
    let kind = "Content-Type: application/cloudevents+json";
    let (status, body) = stage.send(Some(&sender), &[kind], &event).await?;
    ensure!(status == "200" && body.contains("default/volume-d"), "{status} {body}");
    let (status, body) = stage.send(Some(&sender), &[kind], &event).await?;
    ensure!(status == "200" && body.contains("\"duplicates\":1"), "{status} {body}");
    let attributes = ["ce-specversion: 1.0", "ce-type: t", "ce-source: /radar", "ce-id: 1", "ce-subject: Z9010_202611280600.bz2"];
    let (status, body) = stage.send(Some(&sender), &attributes, "anything").await?;
    ensure!(status == "200" && body.contains("\"duplicates\":1"), "the same event in its binary form: {status} {body}");
    let broker = jetstream_of(&stage.broker).await?;
    broker.publish("radar", event.clone().into()).await?.await?;
    broker.publish("radar", event.replace("\"1\"", "\"2\"").replace("0600", "0620").into()).await?.await?;
    let by_broker = |run: &Value| run["spec"]["taskRef"]["name"] == "volume" && run["spec"]["cycle"] == "2026-11-28T06:20:00Z";
    stage.run("the run by the broker", |run| by_broker(run) && run["status"]["phase"] == "Reaped").await?;
    for (token, body, wanted, part) in [
        (Some(sender.as_str()), "{", "400", "not JSON"),
        (Some(&*sender), "{\"specversion\": \"1.0\", \"type\": \"t\", \"source\": \"s\"}", "400", "id must be a text"),
        (Some(&*sender), "{\"Records\": [{\"eventName\": \"ObjectCreated:Put\", \"s3\": {}}]}", "400", "Records[0].s3.bucket.name"),
        (Some("wrong"), &*event, "401", "Unauthorized"),
        (None, &*event, "401", "Unauthorized"),
    ] {
        let (status, said) = stage.send(token, &[kind], body).await?;
        ensure!(status == wanted && said.contains(part), "{body}: {status} {said}");
    }
    let other = token(&stage.plane.service_account_kubeconfig("default", "default").await?)?;
    let (status, said) = stage.send(Some(&other), &[kind], &event).await?;
    ensure!(status == "403" && said.contains("radar-in"), "{status} {said}");
    let huge = stage.folder.path().join("huge");
    fs::write(&huge, "x".repeat(10 << 20))?;
    for protocol in ["--http1.1", "--http2"] {
        for expect in ["Expect:", "Expect: 100-continue"] {
            let arguments = [protocol, "-H", kind, "-H", expect, "--data-binary", &format!("@{}", huge.display())];
            let (status, said) = stage.curl(Some(&sender), "events/radar-in", &arguments).await?;
            ensure!(status == "413" && said.contains("not the data"), "{protocol} {expect}: {status} {said}");
        }
    }
    fs::write(stage.folder.path().join("inbox/Z9020_202611280610"), "data")?;

    let is_first = |run: &Value| run["spec"]["taskRef"]["name"] == "volume" && run["spec"]["cycle"] == "2026-11-28T06:00:00Z";
    let volume = stage.run("the run over HTTP", |run| is_first(run) && run["status"]["phase"] == "Reaped").await?;
    ensure!(volume["spec"]["params"]["station"] == "Z9010" && volume["status"]["outcome"] == "Succeeded", "{volume:#}");
    stage.reaped("product", "Data").await?;
    let tick = stage.reaped("tick", "Cron").await?;
    let tock = stage.reaped("tock", "After").await?;
    ensure!(stage.runs().await?.iter().filter(|run| run["spec"]["taskRef"]["name"] == "volume").count() == 2, "one run for one event");
    ensure!(tock["spec"]["cycle"].is_string() && tick["spec"]["cycle"].is_string(), "{tock:#}");
    let table = stage.kubectl(&["get", "taskruns"]).await?;
    println!("{table}");
    ensure!(table.contains("Reaped") && table.contains("Succeeded") && table.contains("volume"), "{table}");
    Ok(())
}

/// No room: the run says why, as `explain` does; room: it starts. A queue limit puts a run back with its place.
async fn capacity(stage: &Stage) -> Result<()> {
    let big = |cpu: &str| json!({"containers": [{"name": "main", "image": "i", "resources": {"requests": {"cpu": cpu}}}], "nodeSelector": {"kubernetes.io/hostname": "n2"}});
    let limited = json!({
        "limits": {"run": {"limit": "5m"}, "queue": {"limit": "2s"}}, "retry": {"requeues": 1, "backoff": {"initial": "1s"}},
        "template": {"spec": big("64")},
    });
    stage.apply(&[task("big", json!([]), json!({"template": {"spec": big("2")}})), task("limited", json!([]), limited)]).await?;
    stage.task(&["run", "big", "--key", "one"]).await?;
    stage.task(&["run", "limited", "--key", "two"]).await?;
    let is = |run: &Value, task: &str| run["spec"]["taskRef"]["name"] == task;
    let waiting = stage.run("why it waits", |run| is(run, "big") && run["status"]["pending"]["detail"].is_string()).await?;
    let detail = waiting["status"]["pending"]["detail"].as_str().unwrap_or_default().to_owned();
    ensure!(detail.starts_with("0/1 nodes are available") && detail.contains("didn't match Pod's node affinity/selector"), "{detail}");

    let limited = stage.run("the queue limit", |run| is(run, "limited") && run["status"]["phase"] == "Reaped").await?;
    ensure!(limited["status"]["outcome"] == "TimedOut" && limited["status"]["attempt"] == 2, "{limited:#}");
    ensure!(limited["spec"]["frozen"]["priorityTime"] == limited["metadata"]["creationTimestamp"], "it has kept its place: {limited:#}");

    stage.node("n2").await?;
    let room = Instant::now();
    stage.run("its start", |run| is(run, "big") && run["status"]["attempts"][0]["bound"].is_string()).await?;
    println!("from room to a node, as kubectl sees it: {} ms", room.elapsed().as_millis());
    stage.run("its end", |run| is(run, "big") && run["status"]["outcome"] == "Succeeded").await?;
    Ok(())
}

async fn command_line(stage: &Stage) -> Result<()> {
    let file = stage.folder.path().join("hand.yaml");
    fs::write(&file, task("hand", json!([]), json!({"params": [{"name": "p", "default": "a"}]})).to_string())?;
    ensure!(stage.task(&["apply", "-f", text(&file)?]).await? == "hand: registered\n");
    ensure!(stage.task(&["apply", "-f", text(&file)?]).await? == "hand: unchanged\n");
    let shown = stage.task(&["run", "hand", "-p", "p=b", "--key", "k", "--wait", "--timeout", "2m"]).await?;
    ensure!(shown.contains("State         Succeeded") && shown.contains("p=b"), "{shown}");
    ensure!(stage.task(&["run", "hand", "-p", "p=b", "--key", "k"]).await?.contains("was started before"));
    ensure!(stage.task(&["run", "hand", "-p", "p=c", "--key", "k"]).await.is_err(), "the same key with other parameters");
    let bad = stage.task(&["run", "hand", "-p", "q=1", "--wait", "--timeout", "2m"]).await;
    ensure!(bad.is_err(), "a parameter that there is none of: {bad:?}");
    let runs = stage.task(&["runs", "hand", "-o", "json"]).await?;
    let runs: Value = serde_json::from_str(&runs)?;
    // The other one was refused; names are in no order of time.
    let succeeded = runs["items"].as_array().into_iter().flatten().find(|run| run["status"]["outcome"] == "Succeeded");
    let first = succeeded.and_then(|run| run["metadata"]["name"].as_str()).context("a run that succeeded")?.to_owned();
    // Its result is known before its pod is gone, and one run at a time is live.
    stage.run("nothing live", |run| run["metadata"]["name"] == *first && run["status"]["phase"] == "Reaped").await?;
    let again = stage.task(&["rerun", &first, "--wait", "--timeout", "2m"]).await?;
    ensure!(again.contains(&format!("Rerun of      {first}")), "{again}");
    stage.task(&["suspend", "tick"]).await?;
    let list = stage.task(&["list"]).await?;
    ensure!(list.lines().any(|line| line.starts_with("tick") && line.contains("yes")) && list.contains("cron * * * * *"), "{list}");
    stage.task(&["resume", "tick"]).await?;
    let events = stage.task(&["events", &first]).await?;
    ensure!(events.contains("Started") && events.contains("PodReaped"), "{events}");
    ensure!(stage.task(&["show", "hand"]).await?.contains("Triggers      by hand"));
    println!("{list}{}", stage.task(&["runs"]).await?);
    Ok(())
}

/// The same verbs over HTTPS, with a token of the cluster.
async fn over_https(stage: &Stage) -> Result<()> {
    let operator = token(&stage.plane.service_account_kubeconfig("default", "operator").await?)?;
    let nobody = token(&stage.plane.service_account_kubeconfig("default", "default").await?)?;
    let base = "api/v1/namespaces/default";
    let web = json!({"params": [{"name": "p", "default": "a"}], "limits": {"run": {"limit": "5m"}}, "template": {"spec": {"containers": [{"name": "main", "image": "i"}]}}});
    let web = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "metadata": {"name": "web"}, "spec": web}).to_string();
    for (who, path, arguments, wanted, part) in [
        (Some(&operator), format!("{base}/tasks/web"), vec!["-X", "PUT", "--data-binary", &web], "200", "\"web\""),
        (Some(&operator), format!("{base}/tasks/web"), vec!["-X", "PUT", "--data-binary", "{"], "400", "cannot be read"),
        (
            Some(&operator),
            format!("{base}/tasks/bad"),
            vec![
                "-X",
                "PUT",
                "--data-binary",
                "{\"apiVersion\": \"isobar.dev/v1alpha1\", \"kind\": \"Task\", \"metadata\": {\"name\": \"bad\"}, \"spec\": {\"misspelt\": 1}}",
            ],
            "422",
            "misspelt",
        ),
        (
            Some(&operator),
            format!("{base}/tasks/web/runs"),
            vec!["-d", "{\"params\": {\"p\": \"b\"}, \"key\": \"k\"}"],
            "201",
            "\"key\":\"k\"",
        ),
        (
            Some(&operator),
            format!("{base}/tasks/web/runs"),
            vec!["-d", "{\"params\": {\"p\": \"b\"}, \"key\": \"k\"}"],
            "200",
            "\"key\":\"k\"",
        ),
        (
            Some(&operator),
            format!("{base}/tasks/web/runs"),
            vec!["-d", "{\"params\": {\"p\": \"c\"}, \"key\": \"k\"}"],
            "409",
            "other parameters",
        ),
        (Some(&operator), format!("{base}/tasks/web/runs"), vec!["-d", "{\"params\": {\"q\": \"c\"}}"], "422", "no parameter q"),
        (Some(&operator), format!("{base}/tasks/none/runs"), vec!["-d", "{}"], "404", "no task"),
        (Some(&nobody), format!("{base}/tasks/web/runs"), vec!["-d", "{}"], "403", "cannot get resource tasks"),
        (Some(&nobody), "api/v1/overview".to_owned(), vec![], "403", "cannot list resource nodes"),
        (None, format!("{base}/tasks"), vec![], "401", "a bearer token is needed"),
        (Some(&operator), "api/v1/overview".to_owned(), vec![], "200", "\"architecture\":\"amd64\""),
        (Some(&operator), "api/v1/tasks".to_owned(), vec![], "200", "\"web\""),
        (Some(&operator), format!("{base}/tasks/tick/suspend"), vec!["-X", "POST"], "200", "\"suspend\":true"),
        (None, "ui/".to_owned(), vec![], "200", "<title>Isobar</title>"),
    ] {
        let (status, said) = stage.curl(who.map(String::as_str), &path, &arguments).await?;
        ensure!(status == wanted && said.contains(part), "{path} {arguments:?}: {status} {said}");
    }
    let run = stage.reaped("web", "Manual").await?;
    let name = run["metadata"]["name"].as_str().context("a name")?;
    let (status, log) = stage.curl(Some(&operator), &format!("{base}/runs/{name}/log?follow=true"), &[]).await?;
    ensure!(status == "200" && log == "one\ntwo\n", "{status} {log:?}");
    let (status, events) = stage.curl(Some(&operator), &format!("{base}/runs/{name}/events"), &[]).await?;
    ensure!(status == "200" && events.contains("PodReaped"), "{status} {events}");
    let (status, again) = stage.curl(Some(&operator), &format!("{base}/runs/{name}/rerun"), &["-X", "POST"]).await?;
    ensure!(status == "201" && again.contains(&format!("\"rerunOf\":\"{name}\"")), "{status} {again}");
    Ok(())
}

/// Every run that is over is announced, although the receiver failed at first.
async fn reports(stage: &Stage) -> Result<()> {
    let begin = Instant::now();
    loop {
        let heard: Vec<String> =
            stage.heard.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|event| event["id"].to_string()).collect();
        let runs = stage.runs().await?;
        let over: Vec<&Value> = runs.iter().filter(|run| run["status"]["phase"] == "Reaped").collect();
        let told =
            |run: &&&Value| heard.contains(&json!(format!("{}/Reaped", run["metadata"]["uid"].as_str().unwrap_or_default())).to_string());
        let (announced, untold) = (over.iter().filter(told).count(), over.iter().filter(|run| !told(run)).count());
        if announced > 5 && untold == 0 {
            println!("{announced} runs announced, {} events", heard.len());
            return reports_by_broker(stage, &over).await;
        }
        ensure!(begin.elapsed() < PATIENCE, "{untold} of {} runs are not announced\n{}", over.len(), stage.isobar.log_tail());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What the receiver has heard, the stream has kept, each event once.
async fn reports_by_broker(stage: &Stage, over: &[&Value]) -> Result<()> {
    let kept = jetstream_of(&stage.broker).await?.get_stream("RUNS").await?;
    let mut ids = Vec::new();
    for sequence in 1..=kept.get_info().await?.state.last_sequence {
        let message = kept.get_raw_message(sequence).await?;
        let event: Value = serde_json::from_slice(&message.payload)?;
        let header = message.headers.get("Nats-Msg-Id").context("an ID for the stream")?.to_string();
        ensure!(event["id"] == *header && event["specversion"] == "1.0" && event["data"]["outcome"].is_string(), "{header}: {event:#}");
        ids.push(header);
    }
    for run in over {
        let id = format!("{}/Reaped", run["metadata"]["uid"].as_str().unwrap_or_default());
        ensure!(ids.iter().filter(|one| **one == id).count() == 1, "{id} in {ids:?}");
    }
    println!("{} events kept by the stream", ids.len());
    Ok(())
}

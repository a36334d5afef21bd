//! The HTTP API over real sockets and TLS, on a cluster in memory: every verb, who may what, and every kind of bad input.
#![allow(clippy::disallowed_methods)] // real sockets are waited for in real time

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::Request;
use http_body_util::BodyExt as _;
use isobar::{
    archive::{LogArchive, LogKey},
    http::{Decision, GateOptions, HealthChecks, HttpOptions, HttpState, Reviewer, Reviewing, Target, TaskApi, User, openapi, serve},
    kubernetes::api::Api,
    metrics::{ApiMetrics, Metrics},
    model::ids::{PodKey, PodUid},
    sim::{SimCluster, SimOptions, apiserver::ApiServerOptions, federation::create},
    tasks::crd,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::tools;

const TASKS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/tasks";
const RUNS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/taskruns";

/// `admin` may everything, `reader` may read tasks, runs and logs of `default`; other tokens are nobody's.
struct Rights;

impl Reviewer for Rights {
    fn authenticate<'a>(&'a self, token: &'a str) -> Reviewing<'a, Option<User>> {
        let known = ["admin", "reader"].contains(&token);
        Box::pin(async move { Ok(known.then(|| User { name: token.into(), ..User::default() })) })
    }

    fn authorize<'a>(&'a self, user: &'a User, verb: &'a str, target: &'a Target) -> Reviewing<'a, Decision> {
        let may = match (target, user.name.as_str()) {
            (_, "admin") => true,
            (Target::Resource { group, resource, namespace, .. }, "reader") => {
                let known = (*group == "isobar.dev" && ["tasks", "taskruns"].contains(resource)) || *resource == "pods";
                known && namespace == "default" && ["get", "list"].contains(&verb)
            }
            (Target::Resource { resource, .. }, "system:anonymous") => verb == "list" && *resource == "tasks",
            _ => false,
        };
        Box::pin(async move { Ok(if may { Decision::Allowed } else { Decision::Denied("no rule".into()) }) })
    }
}

/// A server on a cluster that knows our kinds.
pub struct Served {
    pub cluster: SimCluster,
    pub archive: LogArchive,
    pub address: SocketAddr,
    client: kube::Client,
    stop: CancellationToken,
}

impl Served {
    pub async fn start(anonymous: bool) -> Self {
        let api_server = ApiServerOptions { epoch: jiff::Timestamp::now(), ..ApiServerOptions::default() };
        let cluster = SimCluster::new(SimOptions { api_server, ..SimOptions::default() });
        for definition in [crd::task(), crd::task_run()] {
            create(&cluster, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.unwrap();
        }
        let (metrics, stop, archive) = (Metrics::new(), CancellationToken::new(), LogArchive::in_memory());
        let home = Api::new(cluster.client(), "home.sim:443", ApiMetrics::new(&metrics));
        let state = HttpState {
            health: HealthChecks::default(),
            metrics,
            configuration: Arc::new(|| json!({})),
            events: None,
            api: Some(TaskApi::new(&home, Some(Arc::new(archive.clone())), false)),
            reviewer: Arc::new(Rights),
            draining: CancellationToken::new(),
            stop: stop.clone(),
        };
        let options = HttpOptions {
            address: "127.0.0.1:0".parse().unwrap(),
            gate: GateOptions { anonymous, ..GateOptions::default() },
            ..HttpOptions::default()
        };
        let (bound, run) = serve(options, state).await.unwrap();
        tokio::spawn(run);
        let mut config = kube::Config::new(format!("https://{}", bound.secure).parse().unwrap());
        config.accept_invalid_certs = true;
        let client = kube::Client::try_from(config).unwrap();
        Self { cluster, archive, address: bound.secure, client, stop }
    }

    /// Out: status, and the body as JSON or as text.
    async fn ask(&self, token: &str, method: &str, path: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = self.client.send(request.body(kube::client::Body::from(body.into())).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn admin(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask("admin", method, &format!("/api/v1/namespaces/default/{path}"), body).await
    }

    pub async fn object(&self, collection: &str, object: &Value) {
        create(&self.cluster, collection, object).await.unwrap();
    }

    /// A run that is over, with its status.
    pub async fn ended_run(&self, name: &str, task: &str, status: &Value) {
        let spec = json!({"taskRef": {"name": task}, "params": {}, "trigger": {"type": "Manual", "key": name},
            "frozen": {"template": {"spec": {"containers": [{"name": "main", "image": "i"}]}}}});
        let object = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.object(RUNS, &object).await;
        let patch = Request::patch(format!("{RUNS}/{name}/status")).header("content-type", "application/merge-patch+json");
        let patch = patch.body(json!({"status": status}).to_string().into_bytes()).unwrap();
        self.cluster.faultless_client().request_text(patch).await.unwrap();
    }

    pub async fn keep_log(&self, pod: &str, uid: &str, text: &'static str) {
        let key = LogKey { pod: PodKey::new("default", pod), uid: PodUid::from(uid), container: "main".into(), previous: false };
        self.archive.write(&key, stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))])).await.unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A task as its author writes it.
pub fn task(name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "limits": {"run": {"limit": "5m"}},
        "template": {"spec": {"containers": [{"name": "main", "image": "i", "args": ["$(station)"]}]}},
    });
    more.as_object().into_iter().flatten().for_each(|(key, value)| spec[key] = value.clone());
    json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec})
}

fn station() -> Value {
    json!({"params": [{"name": "station", "required": true, "pattern": "^Z[0-9]{4}$"}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_does_what_the_command_does() {
    let served = Served::start(false).await;
    let radar = task("radar", &station());
    let (code, made) = served.admin("PUT", "tasks/radar", &radar).await;
    assert_eq!((code, &made["metadata"]["name"]), (200, &json!("radar")), "{made}");
    let (code, list) = served.admin("GET", "tasks", &Value::Null).await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(1)));
    assert!(list["items"][0]["spec"].get("template").is_none() && list["items"][0]["spec"]["limits"].is_object(), "{list}");
    let (code, one) = served.admin("GET", "tasks/radar", &Value::Null).await;
    assert_eq!((code, &one["spec"]["template"]["spec"]["containers"][0]["name"]), (200, &json!("main")));
    for (verb, suspended) in [("suspend", true), ("resume", false)] {
        let (code, task) = served.admin("POST", &format!("tasks/radar/{verb}"), &Value::Null).await;
        assert_eq!((code, &task["spec"]["suspend"]), (200, &json!(suspended)), "{task}");
    }

    let start = json!({"params": {"station": "Z9010"}, "cycle": "2026-11-28T06:00:00Z", "key": "once"});
    let (code, run) = served.admin("POST", "tasks/radar/runs", &start).await;
    let name = run["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!((code, &run["spec"]["params"]["station"], &run["spec"]["trigger"]["key"]), (201, &json!("Z9010"), &json!("once")), "{run}");
    let (code, again) = served.admin("POST", "tasks/radar/runs", &start).await;
    assert_eq!((code, &again["metadata"]["uid"]), (200, &run["metadata"]["uid"]), "the same key is the same run");
    let (code, rerun) = served.admin("POST", &format!("runs/{name}/rerun"), &Value::Null).await;
    assert_eq!((code, &rerun["spec"]["rerunOf"], &rerun["spec"]["cycle"]), (201, &json!(name), &start["cycle"]), "{rerun}");
    let (code, stopped) = served.admin("POST", &format!("runs/{name}/cancel"), &Value::Null).await;
    assert_eq!((code, &stopped["spec"]["cancel"]), (200, &json!(true)));
    let (_, runs) = served.admin("GET", "runs?task=radar&limit=1", &Value::Null).await;
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(1), "{runs}");
    let (_, runs) = served.admin("GET", "runs?task=other", &Value::Null).await;
    assert_eq!(runs["items"], json!([]));
    let (code, all) = served.ask("admin", "GET", "/api/v1/runs?phase=", "").await;
    assert_eq!((code, all["items"].as_array().map(Vec::len)), (200, Some(2)), "no phase yet: {all}");
    let (code, events) = served.admin("GET", &format!("runs/{name}/events"), &Value::Null).await;
    assert_eq!((code, &events["items"]), (200, &json!([])));
    let (code, overview) = served.ask("admin", "GET", "/api/v1/overview", "").await;
    assert_eq!((code, &overview["clusters"], &overview["waiting"]), (200, &json!([]), &json!(0)), "{overview}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_outlive_their_pods() {
    let served = Served::start(false).await;
    let attempt = |number: u32| json!({"number": number, "podName": format!("r-{number}"), "podUID": format!("u{number}"), "started": "2026-11-28T06:00:00Z"});
    let status = json!({"phase": "Reaped", "outcome": "Failed", "attempt": 2, "attempts": [attempt(1), attempt(2)]});
    served.ended_run("r", "radar", &status).await;
    served.keep_log("r-1", "u1", "2026-11-28T06:00:00Z first\n").await;
    served.keep_log("r-2", "u2", "2026-11-28T06:05:00Z one\n2026-11-28T06:05:01Z two\n").await;
    for (query, code, text) in [
        ("", 200, "one\ntwo\n"),
        ("?attempt=1", 200, "first\n"),
        ("?container=main&timestamps=true", 200, "2026-11-28T06:05:00Z one\n2026-11-28T06:05:01Z two\n"),
        ("?follow=true", 200, "one\ntwo\n"),
    ] {
        assert_eq!(served.admin("GET", &format!("runs/r/log{query}"), &Value::Null).await, (code, json!(text)), "{query}");
    }
    for (query, wanted, part) in [
        ("?container=other", 404, "it has: main"),
        ("?attempt=3", 409, "no attempt 3"),
        ("?attempt=x", 400, "must be a number"),
        ("?follow=perhaps", 400, "true or false"),
        ("?previous=true", 400, "it takes: container, attempt, follow, timestamps"),
    ] {
        let (code, body) = served.admin("GET", &format!("runs/r/log{query}"), &Value::Null).await;
        assert!(code == wanted && body["message"].as_str().unwrap().contains(part), "{query}: {code} {body}");
    }
    let lost = json!({"phase": "Reaped", "outcome": "Failed", "attempts": [{"number": 1, "podName": "l-1", "podUID": "gone", "started": "2026-11-28T06:00:00Z"}]});
    served.ended_run("l", "radar", &lost).await;
    let (code, body) = served.admin("GET", "runs/l/log", &Value::Null).await;
    assert!(code == 404 && body["message"].as_str().unwrap().contains("no log of container"), "{code} {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_so_and_nothing_happens() {
    let served = Served::start(false).await;
    served.object(TASKS, &task("radar", &Value::Null)).await;
    let base = "/api/v1/namespaces/default";
    for (token, method, path, wanted, part) in [
        ("", "GET", "/tasks", 401, "a bearer token is needed"),
        ("wrong", "GET", "/tasks", 401, "does not accept the bearer token"),
        ("reader", "GET", "/tasks", 200, ""),
        ("reader", "GET", "/runs", 200, ""),
        (
            "reader",
            "GET",
            "/tasks/radar/events",
            403,
            "cannot list resource events in API group \"events.k8s.io\" in namespace \"default\"",
        ),
        ("reader", "POST", "/tasks/radar/runs", 403, "cannot create resource taskruns"),
        ("reader", "POST", "/tasks/radar/suspend", 403, "cannot patch resource tasks \"radar\" in API group \"isobar.dev\""),
        ("reader", "PUT", "/tasks/radar", 403, "cannot create resource tasks"),
        ("reader", "POST", "/runs/r/cancel", 403, "cannot patch resource taskruns \"r\""),
    ] {
        let (code, body) = served.ask(token, method, &format!("{base}{path}"), "").await;
        assert_eq!(code, wanted, "{token} {method} {path}: {body}");
        if wanted != 200 {
            assert_eq!((&body["kind"], &body["code"]), (&json!("Status"), &json!(wanted)), "{body}");
            assert!(body["message"].as_str().unwrap().contains(part), "{body}");
        }
    }
    for path in ["/api/v1/tasks", "/api/v1/runs", "/api/v1/overview", "/api/v1/namespaces/other/tasks"] {
        let (code, body) = served.ask("reader", "GET", path, "").await;
        assert_eq!(code, 403, "{path}: {body}");
    }
    let foreign =
        Request::post(format!("{base}/tasks/radar/suspend")).header("authorization", "Bearer admin").header("sec-fetch-site", "cross-site");
    let answer = served.client.send(foreign.body(kube::client::Body::from(Vec::new())).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 403, "a page of another origin");
    let tasks = served.cluster.server().objects("isobar.dev", "tasks");
    assert!(
        tasks.len() == 1 && tasks[0]["spec"]["suspend"] != true && served.cluster.server().objects("isobar.dev", "taskruns").is_empty()
    );

    let open = Served::start(true).await;
    assert_eq!(open.ask("", "GET", "/api/v1/tasks", "").await.0, 200, "anonymous, and the cluster lets it");
    assert_eq!(open.ask("", "GET", "/api/v1/runs", "").await.0, 403, "anonymous, and the cluster does not");
    assert_eq!(open.ask("wrong", "GET", "/api/v1/tasks", "").await.0, 401, "a wrong token is not nobody's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_in_words() {
    let served = Served::start(false).await;
    served.object(TASKS, &task("radar", &station())).await;
    let good = json!({"params": {"station": "Z9010"}, "key": "k"});
    assert_eq!(served.admin("POST", "tasks/radar/runs", &good).await.0, 201);
    let text = |value: Value| value.to_string().into_bytes();
    let with = |station: &str, more: Value| {
        let mut body = json!({"params": {"station": station}});
        more.as_object().into_iter().flatten().for_each(|(key, value)| body[key] = value.clone());
        text(body)
    };
    for (method, path, body, wanted, part) in [
        ("GET", "tasks/nothing", vec![], 404, "no task \"nothing\" in namespace default"),
        ("GET", "runs/nothing", vec![], 404, "no run \"nothing\""),
        ("POST", "tasks/nothing/runs", with("Z9010", Value::Null), 404, "no task"),
        ("POST", "runs/nothing/cancel", vec![], 404, "nothing"),
        ("POST", "runs/nothing/rerun", vec![], 404, "no run"),
        ("POST", "tasks/nothing/suspend", vec![], 404, "nothing"),
        ("GET", "tasks/Radar", vec![], 400, "is no name"),
        ("GET", "tasks/..%2Fradar", vec![], 400, "is no name"),
        ("GET", "tasks/radar%3Fx", vec![], 400, "is no name"),
        ("GET", "runs?limit=0", vec![], 400, "from 1 to 1000"),
        ("GET", "runs?limit=many", vec![], 400, "must be a number"),
        ("GET", "runs?color=red", vec![], 400, "it takes: task, phase, limit"),
        ("GET", "tasks?x=1", vec![], 400, "it takes none"),
        ("POST", "tasks/radar/runs", b"{".to_vec(), 400, "cannot be read"),
        ("POST", "tasks/radar/runs", text(json!([])), 400, "cannot be read"),
        ("POST", "tasks/radar/runs", text(json!({"parms": {}})), 400, "unknown field `parms`"),
        ("POST", "tasks/radar/runs", text(json!({"params": {"station": 1}})), 400, "invalid type"),
        ("POST", "tasks/radar/runs", vec![], 422, "station is required"),
        ("POST", "tasks/radar/runs", with("Paris", Value::Null), 422, "spec.params.station"),
        ("POST", "tasks/radar/runs", text(json!({"params": {"station": "Z9010", "statoin": "x"}})), 422, "statoin"),
        ("POST", "tasks/radar/runs", with("Z9010", json!({"cycle": "yesterday"})), 422, "is not a time"),
        ("POST", "tasks/radar/runs", with("Z9010", json!({"key": ""})), 422, "from 1 to 1024 bytes"),
        ("POST", "tasks/radar/runs", with("Z9011", json!({"key": "k"})), 409, "choose another key"),
        ("POST", "tasks/radar/runs", with(&"Z".repeat(2 << 20), Value::Null), 413, "524288 are taken"),
        ("PUT", "tasks/radar", text(json!({"kind": "Pod"})), 422, "must be a Task"),
        ("PUT", "tasks/other", text(task("radar", &Value::Null)), 422, "metadata.name must be the name of the path"),
        ("PUT", "tasks/radar", vec![b' '; 1 << 20], 413, "524288 are taken"),
        ("DELETE", "tasks/radar", vec![], 405, "not supported"),
    ] {
        let (code, said) = served.ask("admin", method, &format!("/api/v1/namespaces/default/{path}"), body).await;
        assert!(code == wanted && said["message"].as_str().is_some_and(|message| message.contains(part)), "{method} {path}: {code} {said}");
    }
    assert_eq!(served.cluster.server().objects("isobar.dev", "taskruns").len(), 1, "nothing bad became a run");
}

#[test]
fn the_document_is_current_and_lints_clean() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let document = openapi();
    let wanted = format!("{document:#}\n");
    if std::env::var_os("ISOBAR_UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not current; run: ISOBAR_UPDATE=1 cargo test --test suite tasks::api", path.display());

    let mut ids = std::collections::BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let place = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{place}: the id is taken");
            let declared = operation["parameters"].as_array().unwrap().iter().filter(|one| one["in"] == "path").count();
            assert_eq!(declared, path.matches('{').count(), "{place}");
            for code in ["401", "403", "500", "502"] {
                assert!(operation["responses"].get(code).is_some(), "{place} lacks {code}");
            }
        }
    }
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        if let Some(reference) = value["$ref"].as_str() {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
        match value {
            Value::Array(list) => pending.extend(list),
            Value::Object(map) => pending.extend(map.values()),
            _ => {}
        }
    }
    let Some(program) = tools::find("openapi-spec-validator", "the_document_is_current_and_lints_clean (its second half)") else { return };
    let lint = std::process::Command::new(program).arg(&path).output().unwrap();
    assert!(lint.status.success(), "{} {}", String::from_utf8_lossy(&lint.stdout), String::from_utf8_lossy(&lint.stderr));
}

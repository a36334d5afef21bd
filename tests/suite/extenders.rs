//! Extenders over real HTTP, on loopback: what they are sent, what their answers do, TLS, and what becomes of pods when one fails, hangs, or is gone. The
//! scheduler is the whole of it, on the API server in memory.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use isobar::{
    config::Source,
    extenders::Extenders,
    kubernetes::{api::Api, clock::Clock},
    live::{Live, LiveOptions},
    metrics::{ApiMetrics, Metrics},
    scheduler::{
        engine::{Engine, EngineSettings},
        observe::Silent,
        profiles::OutOfTree,
        registry::Registry,
    },
    sim::{SimCluster, SimOptions},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::outside::{ask, until};

const GPU: &str = "example.com/gpu";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// What an extender answers with.
enum Reply {
    Body(Value),
    Text(String),
    Code(u16),
    Hang,
}

type Script = Arc<dyn Fn(&str, &Value) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Extender {
    script: Script,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Extender {
    fn new(script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), asked: Arc::default() }
    }

    fn router(&self) -> Router {
        Router::new().route("/scheduler/{verb}", post(called)).with_state(self.clone())
    }

    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/scheduler/", listener.local_addr().unwrap());
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// Returns the URL and the certificate, PEM in base64.
    async fn serve_tls(&self) -> (String, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["extender.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/scheduler", listener.local_addr().unwrap());
        let router = self.router();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (url, STANDARD.encode(made.cert.pem()))
    }

    fn asked(&self, verb: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(of, _)| of == verb).map(|(_, body)| body.clone()).collect()
    }
}

async fn called(State(extender): State<Extender>, Path(verb): Path<String>, Json(body): Json<Value>) -> Response {
    let reply = (extender.script)(&verb, &body);
    extender.asked.lock().unwrap().push((verb, body));
    match reply {
        Reply::Body(body) => Json(body).into_response(),
        Reply::Text(text) => text.into_response(),
        Reply::Code(code) => StatusCode::from_u16(code).unwrap().into_response(),
        Reply::Hang => std::future::pending().await,
    }
}

struct World {
    cluster: SimCluster,
    metrics: Metrics,
    _live: Live,
}

impl World {
    /// Two nodes and a scheduler with these extenders.
    async fn new(extenders: &Value) -> Self {
        let cluster = SimCluster::new(SimOptions::default());
        for name in ["n0", "n1"] {
            let capacity = json!({"cpu": "4", "memory": "8Gi", "pods": "20"});
            let status = json!({"capacity": capacity, "allocatable": capacity});
            let labels = json!({"kubernetes.io/hostname": name});
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status});
            ask(&cluster, "POST", "/api/v1/nodes", &node).await;
        }
        let file = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", "extenders": extenders});
        let content = file.to_string();
        let sources = [Source { name: "f", content: content.as_bytes() }];
        let configuration = isobar::config::load(&sources, &Registry::in_tree()).unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Metrics::new();
        let extenders = Extenders::new(&configuration.extenders, &metrics).unwrap();
        let settings = EngineSettings::default();
        let engine = Engine::new(configuration.profiles.clone(), OutOfTree::default(), settings, Box::new(Silent)).unwrap();
        let api = Api::new(cluster.client(), "sim:443", ApiMetrics::new(&metrics));
        let options = LiveOptions { extenders, ..LiveOptions::default() };
        let live = Live::start(&api, Clock::system(), engine, |_| {}, &options).unwrap();
        Self { cluster, metrics, _live: live }
    }

    async fn add(&self, name: &str, resource: Option<&str>) {
        let amounts: Value = resource.map_or_else(|| json!({"cpu": "1"}), |resource| json!({"cpu": "1", resource: "1"}));
        let container = json!({"name": "c", "image": "i", "resources": {"requests": amounts, "limits": amounts}});
        let metadata = json!({"name": name, "namespace": "default", "annotations": {"kept": "yes"}});
        let spec = json!({"schedulerName": "default-scheduler", "containers": [container]});
        ask(&self.cluster, "POST", PODS, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
    }

    async fn pod(&self, name: &str) -> Value {
        ask(&self.cluster, "GET", &format!("{PODS}/{name}"), &Value::Null).await
    }

    /// Where the pod is, once it is anywhere.
    async fn node_of(&self, name: &str) -> String {
        until(&self.cluster, &format!("{PODS}/{name}"), |pod| pod.pointer("/spec/nodeName").and_then(Value::as_str).map(str::to_owned))
            .await
    }

    /// Why it is nowhere, once it says so.
    async fn why(&self, name: &str) -> String {
        let said = |pod: &Value| {
            let conditions = pod.pointer("/status/conditions")?.as_array()?;
            let condition = conditions.iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")?;
            Some(format!("{}: {}", condition["reason"].as_str()?, condition["message"].as_str()?))
        };
        until(&self.cluster, &format!("{PODS}/{name}"), said).await
    }
}

fn config(url: &str, rest: &Value) -> Value {
    let mut extender = json!({"urlPrefix": url, "managedResources": [{"name": GPU, "ignoredByScheduler": true}], "nodeCacheCapable": true});
    for (name, value) in rest.as_object().unwrap() {
        extender[name] = value.clone();
    }
    json!([extender])
}

#[tokio::test]
async fn names_are_sent_and_the_answers_decide() {
    let extender = Extender::new(|verb, body| match verb {
        "filter" => Reply::Body(json!({"NodeNames": body["NodeNames"], "FailedNodes": {}})),
        "prioritize" => Reply::Body(json!([{"Host": "n0", "Score": 1}, {"Host": "n1", "Score": 10}])),
        _ => Reply::Code(404),
    });
    let verbs = json!({"filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 5});
    let world = World::new(&config(&extender.serve().await, &verbs)).await;
    world.add("a", Some(GPU)).await;
    assert_eq!(world.node_of("a").await, "n1");
    let filters = extender.asked("filter");
    assert_eq!(filters.len(), 1);
    assert_eq!((&filters[0]["NodeNames"], &filters[0]["Nodes"]), (&json!(["n0", "n1"]), &Value::Null));
    assert_eq!(filters[0]["Pod"]["metadata"]["annotations"]["kept"], "yes", "the whole object is sent");
    assert_eq!(extender.asked("prioritize").len(), 1);
    world.add("plain", None).await;
    world.node_of("plain").await;
    assert_eq!(extender.asked("filter").len(), 1, "a pod that is not its business");
    let page = world.metrics.render();
    assert!(page.contains("verb=\"filter\",result=\"answered\"} 1"), "{page}");
}

#[tokio::test]
async fn objects_are_sent_to_whoever_knows_no_nodes() {
    let extender = Extender::new(|_, body| {
        let items = body["Nodes"]["items"].as_array().unwrap();
        let kept: Vec<_> = items.iter().filter(|node| node["metadata"]["labels"]["kubernetes.io/hostname"] == "n0").cloned().collect();
        Reply::Body(json!({"nodes": {"items": kept}, "failedNodes": {"n1": "no driver"}}))
    });
    let world = World::new(&config(&extender.serve().await, &json!({"filterVerb": "filter", "nodeCacheCapable": false}))).await;
    world.add("a", Some(GPU)).await;
    assert_eq!(world.node_of("a").await, "n0");
    let filters = extender.asked("filter");
    assert_eq!(filters[0]["NodeNames"], Value::Null);
    assert_eq!(filters[0]["Nodes"]["items"][1]["status"]["allocatable"]["cpu"], "4");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_extenders_words() {
    let extender = Extender::new(|_, _| Reply::Body(json!({"NodeNames": [], "FailedNodes": {"n0": "busy", "n1": "busy"}})));
    let world = World::new(&config(&extender.serve().await, &json!({"filterVerb": "filter"}))).await;
    world.add("a", Some(GPU)).await;
    let why = world.why("a").await;
    assert!(why.starts_with("Unschedulable: 0/2 nodes are available: 2 busy."), "{why}");
}

#[tokio::test]
async fn a_pod_can_be_bound_by_an_extender() {
    let cluster: Arc<Mutex<Option<SimCluster>>> = Arc::default();
    let there = cluster.clone();
    let extender = Extender::new(move |_, body| {
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let (pod, node) = (text("PodName"), text("Node"));
        let metadata =
            json!({"name": pod, "namespace": text("PodNamespace"), "uid": text("PodUID"), "annotations": {"bound-by": "extender"}});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": {"kind": "Node", "name": node}});
        let cluster = there.lock().unwrap().clone().unwrap();
        tokio::spawn(async move { ask(&cluster, "POST", &format!("{PODS}/{pod}/binding"), &binding).await });
        Reply::Body(json!({}))
    });
    let world = World::new(&config(&extender.serve().await, &json!({"bindVerb": "bind"}))).await;
    *cluster.lock().unwrap() = Some(world.cluster.clone());
    world.add("a", Some(GPU)).await;
    world.node_of("a").await;
    assert_eq!(world.pod("a").await["metadata"]["annotations"]["bound-by"], "extender");
    world.add("plain", None).await;
    world.node_of("plain").await;
    assert_eq!(extender.asked("bind").len(), 1);
}

/// What fails, with what answer, and what the pod says.
type Failure = (&'static str, fn() -> Reply, &'static str);

fn failures() -> [Failure; 6] {
    [
        ("error", || Reply::Code(500), "code 500"),
        ("hang", || Reply::Hang, "gave no answer within 300 ms"),
        ("nonsense", || Reply::Text("<html>".into()), "the answer is no JSON"),
        ("wrong", || Reply::Body(json!({"NodeNames": ["elsewhere"]})), "not found in the input node list"),
        ("long", || Reply::Text("x".repeat(10 << 20)), "is longer than 4194304 bytes"),
        ("its own", || Reply::Body(json!({"Error": "no device plugin"})), "no device plugin"),
    ]
}

/// Only where time is to run out it may.
fn timeout_of(what: &str) -> &'static str {
    if what == "hang" { "300ms" } else { "20s" }
}

#[tokio::test]
async fn one_that_fails_is_named_and_holds_up_nobody() {
    for (what, script, words) in failures() {
        let extender = Extender::new(move |_, _| script());
        let rest = json!({"filterVerb": "filter", "httpTimeout": timeout_of(what)});
        let world = World::new(&config(&extender.serve().await, &rest)).await;
        world.add("a", Some(GPU)).await;
        world.add("plain", None).await;
        world.node_of("plain").await;
        let why = world.why("a").await;
        assert!(why.starts_with("SchedulerError: ") && why.contains(words), "{what}: {why}");
        let page = world.metrics.render();
        let counted = ["failed", "refused"].iter().any(|result| page.contains(&format!("verb=\"filter\",result=\"{result}\"}}")));
        assert!(counted, "{what}: {page}");
    }
    let gone = World::new(&config("http://127.0.0.1:1/scheduler", &json!({"filterVerb": "filter"}))).await;
    gone.add("a", Some(GPU)).await;
    let why = gone.why("a").await;
    assert!(why.contains("cannot be reached"), "{why}");
}

#[tokio::test]
async fn one_that_fails_is_passed_over_if_it_can_be_ignored() {
    for (what, script, _) in failures() {
        let extender = Extender::new(move |_, _| script());
        // What "wrong" answers to a binding is no error.
        let bind = if what == "wrong" { "" } else { "bind" };
        let rest = json!({"filterVerb": "filter", "bindVerb": bind, "httpTimeout": timeout_of(what), "ignorable": true});
        let world = World::new(&config(&extender.serve().await, &rest)).await;
        world.add("a", Some(GPU)).await;
        world.node_of("a").await;
        assert_eq!((extender.asked("filter").len(), extender.asked("bind").len()), (1, bind.len() / 4), "{what}");
    }
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_configured_authority() {
    let extender = Extender::new(|_, _| Reply::Body(json!({"NodeNames": ["n1"]})));
    let (url, authority) = extender.serve_tls().await;
    let (_, other_authority) = extender.serve_tls().await;
    for (tls, trusted) in [
        (json!({"enableHTTPS": true, "tlsConfig": {"caData": authority, "serverName": "extender.test"}}), true),
        (json!({"enableHTTPS": true, "tlsConfig": {"caData": other_authority, "serverName": "extender.test"}}), false),
        (json!({"enableHTTPS": true, "tlsConfig": {"caData": authority}}), false),
        (json!({"enableHTTPS": true}), true),
        (json!({"tlsConfig": {"insecure": true}}), true),
    ] {
        let mut rest = tls.clone();
        rest["filterVerb"] = "filter".into();
        let world = World::new(&config(&url, &rest)).await;
        world.add("a", Some(GPU)).await;
        if trusted {
            assert_eq!(world.node_of("a").await, "n1", "{tls}");
        } else {
            let why = world.why("a").await;
            assert!(why.contains("cannot be reached"), "{tls}: {why}");
        }
    }
}

#[test]
fn certificates_that_cannot_be_used_are_refused_at_the_start() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let refused = |tls: Value, words: &str| {
        let file = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "extenders": [{"urlPrefix": "https://127.0.0.1:1", "filterVerb": "filter", "tlsConfig": tls}]});
        let content = file.to_string();
        let sources = [Source { name: "f", content: content.as_bytes() }];
        let configuration = isobar::config::load(&sources, &Registry::in_tree()).unwrap_or_else(|problems| panic!("{problems}"));
        let error = Extenders::new(&configuration.extenders, &Metrics::new()).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(json!({"caFile": "/nowhere/ca.pem"}), "caFile /nowhere/ca.pem");
    refused(json!({"caData": STANDARD.encode("no certificate")}), "holds no certificate");
    refused(json!({"certFile": "/nowhere/tls.crt", "keyFile": "/nowhere/tls.key"}), "tlsConfig cannot be used");
}

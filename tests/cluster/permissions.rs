//! Isobar as the manifests run it: their service account, their configuration, nothing more. What it asked for in one life, by the API server's audit
//! log, is exactly what their roles grant: nothing refused, nothing granted and unused.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use axum::{extract::State, response::IntoResponse as _};
use isobar::kubernetes::permissions::PERMISSIONS;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    harness::{
        apiserver::ApiserverOptions,
        assets::{Program, available, isobar, isobar_available},
        audit_log::AuditLog,
        bindings::BindingWatch,
        control_plane::{ControlPlane, Options, client_for},
        creation::post,
        events::wait_for_event,
        ports::free_port,
        process::Process,
        workload::node,
    },
    serving::{NAMESPACE, apply, curl, token},
};

const USER: &str = "system:serviceaccount:isobar-system:isobar";
const PODS: &str = "/api/v1/namespaces/default/pods";
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isobar_uses_what_the_manifests_grant_and_nothing_else() -> Result<()> {
    let test = "isobar_uses_what_the_manifests_grant_and_nothing_else";
    if !available(test, &[Program::Etcd, Program::KubeApiserver, Program::Kubectl]) || !isobar_available(test) {
        return Ok(());
    }
    let apiserver = ApiserverOptions { audit_log: true, priority: true, ..ApiserverOptions::default() };
    let plane = ControlPlane::start(Options { apiserver, ..Options::default() }).await?;
    apply(&plane, "base")?;
    apply(&plane, "overlays/monitoring/reader.yaml")?;
    let client = plane.client();
    let watch = BindingWatch::start(client.clone(), "default").await?;
    post(&client, "/api/v1/nodes", &machine("small", "1")).await?;

    let gateway = Gateway::start(client_for(&plane.service_account_kubeconfig(NAMESPACE, "isobar").await?).await?).await?;
    let (mut process, port) = start(&plane, &gateway.kubeconfig(plane.folder())?)?;
    post(&client, PODS, &pod("fits", "100m")).await?;
    watch.wait_for_pod("fits", PATIENCE).await.with_context(|| process.log_tail())?;

    is_asked_for_its_metrics(&plane, port).await?;
    repeats_an_event(&client).await?;
    binds_without_hearing_the_answer(&client, &watch).await?;
    mounts(&client).await?;
    displaces(&client).await?;
    process.stop(PATIENCE).await?;

    // Nobody allocates devices here, so no claim is reserved; `tests/suite/device_claims.rs` has the call, on an API server in memory.
    let exercised = PERMISSIONS.iter().filter(|call| !matches!(call.resource, "resourceclaims/status" | "resourceclaims/binding"));
    let granted: BTreeSet<_> = exercised.map(|call| format!("{} {}/{}", call.verb, call.group, call.resource)).collect();
    let (used, refused) = settled(&plane, &granted).await?;
    ensure!(refused.is_empty(), "refused: {refused:?}");
    let difference: Vec<_> = granted.symmetric_difference(&used).collect();
    ensure!(difference.is_empty(), "granted but unused, or used but not listed: {difference:?}\nused: {used:?}");
    println!("{} kinds of call granted, all used, nothing else asked for", granted.len());
    Ok(())
}

/// The configuration of the base, as the Deployment's one argument names it.
fn start(plane: &ControlPlane, kubeconfig: &Path) -> Result<(Process, u16)> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base/config.yaml");
    let port = free_port()?;
    let arguments = [
        "run".to_owned(),
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
    ];
    Ok((Process::start("isobar", &isobar(), arguments, plane.folder())?, port))
}

/// Stands between Isobar and the API server, with the service account's token. It plays an older server, which has no streaming
/// lists: for those `list` is granted. And it loses one answer.
struct Gateway {
    address: SocketAddr,
}

impl Gateway {
    async fn start(client: Client) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = axum::Router::new().fallback(forward).with_state(client);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address })
    }

    fn kubeconfig(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("gateway.kubeconfig");
        isobar::sim::kubeconfig::write_kubeconfig(&path, self.address)?;
        Ok(path)
    }
}

/// No scheduler sends more.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// What the server says to the binding of this pod is not passed on: it is done, and whoever asked cannot know.
const UNANSWERED: &str = "/api/v1/namespaces/default/pods/unanswered/binding";

async fn forward(State(client): State<Client>, request: http::Request<axum::body::Body>) -> http::Response<axum::body::Body> {
    if request.uri().query().is_some_and(|query| query.contains("sendInitialEvents")) {
        return (http::StatusCode::UNPROCESSABLE_ENTITY, "sendInitialEvents is forbidden").into_response();
    }
    let lost = request.uri().path() == UNANSWERED;
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, REQUEST_BYTES_MAX).await else { return http::StatusCode::BAD_REQUEST.into_response() };
    match client.send(http::Request::from_parts(head, body.to_vec().into())).await {
        Ok(answer) if !lost => answer.map(axum::body::Body::new),
        _ => (http::StatusCode::GATEWAY_TIMEOUT, "the answer was lost").into_response(),
    }
}

fn machine(name: &str, cpu: &str) -> Value {
    let labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64" });
    node(name, &labels, &json!({ "cpu": cpu, "memory": "8Gi", "pods": "10" }), &[])
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "schedulerName": "isobar-scheduler",
            "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } }],
        },
    })
}

/// Whose token it is, and whether that account may read: two questions to the API server.
async fn is_asked_for_its_metrics(plane: &ControlPlane, port: u16) -> Result<()> {
    let token = token(&plane.service_account_kubeconfig(NAMESPACE, "isobar-metrics-reader").await?)?;
    let (code, page) = curl(SocketAddr::from(([127, 0, 0, 1], port)), "/metrics", Some(&token)).await?;
    ensure!(code == "200" && page.contains("scheduler_schedule_attempts_total"), "/metrics: {code} {page}");
    Ok(())
}

/// A pod that no node holds gets a second `FailedScheduling` in the same words, which is a higher count in the first: a node that gets its label back is
/// a reason to look again, though it is too small.
async fn repeats_an_event(client: &Client) -> Result<()> {
    let mut waits = pod("waits", "50");
    waits["spec"]["nodeSelector"] = json!({ "disk": "ssd" });
    let labelled = |disk: Value| Patch::Merge(json!({ "metadata": { "labels": { "disk": disk } } }));
    let (nodes, events) = (Api::<Node>::all(client.clone()), Api::namespaced(client.clone(), "default"));
    // One that never matches, so that the label is among the causes.
    post(client, "/api/v1/nodes", &machine("other", "1")).await?;
    nodes.patch("small", &PatchParams::default(), &labelled(json!("ssd"))).await?;
    post(client, PODS, &waits).await?;
    wait_for_event(&events, PATIENCE, |about, event| about == "waits" && event.reason.as_deref() == Some("FailedScheduling")).await?;
    nodes.patch("small", &PatchParams::default(), &labelled(Value::Null)).await?;
    nodes.patch("small", &PatchParams::default(), &labelled(json!("ssd"))).await?;
    wait_for_event(&events, PATIENCE, |about, event| about == "waits" && event.series.as_ref().is_some_and(|series| series.count > 1)).await
}

/// A binding that arrives and whose answer does not: the pod is read back. The event says that Isobar knows.
async fn binds_without_hearing_the_answer(client: &Client, watch: &BindingWatch) -> Result<()> {
    post(client, PODS, &pod("unanswered", "100m")).await?;
    watch.wait_for_pod("unanswered", PATIENCE).await?;
    let events = Api::namespaced(client.clone(), "default");
    wait_for_event(&events, PATIENCE, |about, event| about == "unanswered" && event.reason.as_deref() == Some("Scheduled")).await
}

/// Pods whose volume is there and has to be made. Nobody here makes it: what is written towards that is all.
async fn mounts(client: &Client) -> Result<()> {
    let is_here = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["small"] });
    let volume = json!({ "metadata": { "name": "disk" }, "spec": {
        "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "there", "local": { "path": "/disk" },
        "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [is_here] }] } },
    } });
    post(client, "/api/v1/persistentvolumes", &volume).await?;
    // What a controller would say of it.
    let available = serde_json::to_vec(&json!({ "status": { "phase": "Available" } }))?;
    let says = http::Request::patch("/api/v1/persistentvolumes/disk/status").header("content-type", "application/merge-patch+json");
    client.request_text(says.body(available)?).await?;
    for (class, provisioner) in [("there", "kubernetes.io/no-provisioner"), ("made", "example.com/disk")] {
        let object = json!({ "metadata": { "name": class }, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer" });
        post(client, "/apis/storage.k8s.io/v1/storageclasses", &object).await?;
        let claim = json!({ "metadata": { "name": class }, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": { "requests": { "storage": "1Gi" } },
        } });
        post(client, "/api/v1/namespaces/default/persistentvolumeclaims", &claim).await?;
        let mut mounting = pod(&format!("mounts-{class}"), "1m");
        mounting["spec"]["volumes"] = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": class } }]);
        post(client, PODS, &mounting).await?;
    }
    is_written(client, "/api/v1/persistentvolumes/disk", "/spec/claimRef/name").await?;
    let claim = "/api/v1/namespaces/default/persistentvolumeclaims/made";
    is_written(client, claim, "/metadata/annotations/volume.kubernetes.io~1selected-node").await
}

async fn is_written(client: &Client, path: &str, place: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let object: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
        if object.pointer(place).is_some() {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "nobody wrote {place} of {path}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A pod that is more important than those on its node.
async fn displaces(client: &Client) -> Result<()> {
    post(client, "/apis/scheduling.k8s.io/v1/priorityclasses", &json!({ "metadata": { "name": "urgent" }, "value": 1000 })).await?;
    let mut urgent = pod("urgent", "1");
    urgent["spec"]["priorityClassName"] = json!("urgent");
    urgent["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": "small" });
    post(client, PODS, &urgent).await?;
    let events = Api::namespaced(client.clone(), "default");
    wait_for_event(&events, PATIENCE, |_, event| event.reason.as_deref() == Some("Preempted")).await
}

/// What was used and what was refused, once the log has caught up.
async fn settled(plane: &ControlPlane, granted: &BTreeSet<String>) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let mut log = AuditLog::of(plane.folder());
    let begin = Instant::now();
    loop {
        log.refresh()?;
        // Discovery and probes (`get /`) are every account's.
        let resources = |kinds: BTreeSet<String>| -> BTreeSet<String> { kinds.into_iter().filter(|kind| !kind.ends_with(" /")).collect() };
        let (used, refused) = (resources(log.permissions_used(USER)), resources(log.refused(USER)));
        if used == *granted || begin.elapsed() > Duration::from_secs(5) {
            return Ok((used, refused));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

//! Our own server asks the real API server about its callers, with no other permissions than the manifests give.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use isobar::{
    http::{Bound, HealthChecks, HttpOptions, HttpState, PlainOptions, serve},
    kubernetes::{
        permissions::{PERMISSIONS, Scope},
        review::ApiReviewer,
    },
    metrics::Metrics,
};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use serde_json::Value;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    assets::{Program, available},
    control_plane::{ControlPlane, Options, client_for},
};

/// The namespace of the manifests.
pub const NAMESPACE: &str = "isobar-system";

/// How long the API server may take to know new RBAC objects.
const RBAC_DEADLINE: Duration = Duration::from_secs(15);

/// The token in a kubeconfig of a service account.
pub fn token(kubeconfig: &Path) -> Result<String> {
    let value: Value = serde_json::from_slice(&std::fs::read(kubeconfig)?)?;
    Ok(value["users"][0]["user"]["token"].as_str().context("the kubeconfig has no token")?.to_owned())
}

/// Applies a file, or a folder as a kustomization.
pub fn apply(plane: &ControlPlane, file: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(file);
    let how = if path.is_dir() { "-k" } else { "-f" };
    let path = path.to_str().context("the checkout's path is not text")?;
    let output = plane.kubectl(["apply", how, path, "--namespace", NAMESPACE])?;
    ensure!(output.status.success(), "kubectl apply {file}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn may(client: &Client, attributes: ResourceAttributes) -> Result<bool> {
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn attributes(group: &str, resource: &str, verb: &str, namespace: Option<&str>, name: Option<&str>) -> ResourceAttributes {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(resource, sub)| (resource, Some(sub.to_owned())));
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        ..Default::default()
    }
}

/// What the service account may is what the list of calls says, and a few things that it must not are refused.
async fn check_permissions(isobar: &Client) -> Result<()> {
    for call in PERMISSIONS {
        let (namespace, name) = match call.scope {
            Scope::Cluster => (None, None),
            Scope::LeaseNamespace => (Some(NAMESPACE), None),
            Scope::Lease => (Some(NAMESPACE), Some("isobar-scheduler")),
            other => anyhow::bail!("{call:?}: calls of the scheduler alone have no scope {other:?}"),
        };
        ensure!(may(isobar, attributes(call.group, call.resource, call.verb, namespace, name)).await?, "not allowed: {call:?}");
    }
    for (group, resource, verb, namespace, name) in [
        ("", "pods", "patch", None, None),
        ("", "pods", "create", Some(NAMESPACE), None),
        ("", "nodes", "patch", None, None),
        ("", "secrets", "get", Some(NAMESPACE), None),
        ("coordination.k8s.io", "leases", "update", Some(NAMESPACE), Some("another")),
        ("coordination.k8s.io", "leases", "update", Some("kube-system"), Some("kube-scheduler")),
        ("coordination.k8s.io", "leases", "delete", Some(NAMESPACE), Some("isobar-scheduler")),
    ] {
        ensure!(
            !may(isobar, attributes(group, resource, verb, namespace, name)).await?,
            "allowed: {verb} {resource} {namespace:?} {name:?}"
        );
    }
    Ok(())
}

async fn start(client: Client, stop: CancellationToken) -> Result<Bound> {
    let address = "127.0.0.1:0".parse()?;
    let options = HttpOptions { address, plain: Some(PlainOptions { address, metrics: false }), ..HttpOptions::default() };
    let state = HttpState {
        health: HealthChecks::default(),
        metrics: Metrics::new(),
        configuration: Arc::new(|| Value::Null),
        events: None,
        api: None,
        reviewer: Arc::new(ApiReviewer::new(client)),
        draining: CancellationToken::new(),
        stop,
    };
    let (bound, run) = serve(options, state).await?;
    tokio::spawn(run);
    Ok(bound)
}

/// A token whose signature is another. Not its last character: that one has bits which no byte holds, and a decoder may ignore them.
fn forged(token: &str) -> Result<String> {
    let (content, signature) = token.rsplit_once('.').context("the token has no signature")?;
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    Ok(format!("{content}.{other}{}", &signature[1..]))
}

/// Status and body of a request by curl, as the acceptance of an operator would do it.
pub async fn curl(address: SocketAddr, path: &str, token: Option<&str>) -> Result<(String, String)> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--max-time", "15", "--write-out", "\n%{http_code}", &format!("https://{address}{path}")]);
    if let Some(token) = token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let output = String::from_utf8(command.output().await.context("run curl")?.stdout)?;
    let (body, code) = output.rsplit_once('\n').context("curl said nothing")?;
    Ok((code.to_owned(), body.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_checked_at_the_api_server_with_the_manifests_permissions() -> Result<()> {
    let test = "callers_are_checked_at_the_api_server_with_the_manifests_permissions";
    if !available(test, &[Program::Etcd, Program::KubeApiserver, Program::Kubectl]) {
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    apply(&plane, "base")?;
    apply(&plane, "overlays/monitoring/reader.yaml")?;
    let isobar_config = plane.service_account_kubeconfig(NAMESPACE, "isobar").await?;
    let (isobar, own) = (client_for(&isobar_config).await?, token(&isobar_config)?);
    let reader = token(&plane.service_account_kubeconfig(NAMESPACE, "isobar-metrics-reader").await?)?;

    let known = async {
        while let Err(error) = check_permissions(&isobar).await {
            println!("waiting: {error:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if tokio::time::timeout(RBAC_DEADLINE, known).await.is_err() {
        check_permissions(&isobar).await?;
    }
    let stop = CancellationToken::new();
    let bound = start(isobar, stop.clone()).await?;
    let (reader, own, forged) = (reader.as_str(), own.as_str(), forged(&reader)?);
    for (path, token, code, text) in [
        ("/healthz", None, "200", "ok"),
        ("/metrics", None, "401", "a bearer token is needed"),
        ("/metrics", Some(&forged[..]), "401", "does not accept the bearer token"),
        ("/metrics", Some(own), "403", "system:serviceaccount:isobar-system:isobar\\\" cannot get path"),
        ("/metrics", Some(reader), "200", "isobar_build_info"),
        ("/configz", Some(reader), "403", "cannot get path"),
    ] {
        let (got, body) = curl(bound.secure, path, token).await?;
        ensure!(got == code && body.contains(text), "{path}: {got} {body}");
    }
    drop(plane);
    let (got, body) = curl(bound.secure, "/metrics", Some("another")).await?;
    ensure!(got == "500" && body.contains("cannot check the caller"), "with the API server down: {got} {body}");
    stop.cancel();
    Ok(())
}

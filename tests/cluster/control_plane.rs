//! The harness itself: a control plane comes up, knows its users, carries pods to Running with kwok, and leaves nothing behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::harness::{
    assets::{Program, available},
    control_plane::{ControlPlane, Options, client_for},
    creation::{create_nodes, post},
    workload::{Kind, Workload, node_name},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_knows_its_users() -> Result<()> {
    if !available("starts_and_knows_its_users", &[Program::Etcd, Program::KubeApiserver]) {
        return Ok(());
    }
    let begin = Instant::now();
    let plane = ControlPlane::start(Options::default()).await?;
    let version = plane.client().apiserver_version().await?;
    println!("{} ready after {:?}", version.git_version, begin.elapsed());
    ensure!(version.git_version.starts_with("v1."), "unstamped version {}", version.git_version);

    let user = client_for(&plane.user_kubeconfig("someone", &["some-group"])?).await?;
    ensure!(user.list_core_api_versions().await.is_ok());
    ensure!(Api::<Pod>::all(user).list(&ListParams::default()).await.is_err(), "a user without a role may list pods");

    let account: ServiceAccount = serde_json::from_value(json!({ "metadata": { "name": "robot" } }))?;
    Api::namespaced(plane.client(), "default").create(&PostParams::default(), &account).await?;
    let robot = client_for(&plane.service_account_kubeconfig("default", "robot").await?).await?;
    let review = Api::<SelfSubjectReview>::all(robot).create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let name = review.status.and_then(|status| status.user_info?.username);
    ensure!(name.as_deref() == Some("system:serviceaccount:default:robot"), "{name:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kwok_and_controllers_carry_pods_through_their_life() -> Result<()> {
    let needs = [Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager, Program::Kwok];
    if !available("kwok_and_controllers_carry_pods_through_their_life", &needs) {
        return Ok(());
    }
    let controllers = "job-controller,serviceaccount-controller,garbage-collector-controller";
    let mut options = Options { controllers: Some(controllers.to_owned()), kwok: true, ..Options::default() };
    options.apiserver.service_accounts = true;
    let plane = ControlPlane::start(options).await?;
    let client = plane.client();
    let workload = Workload { kind: Kind::Basic, nodes: 1, pods: 1, namespace: "default".to_owned(), scheduler_name: "nobody".to_owned() };
    create_nodes(&client, &workload).await?;
    // Bound from the start, so that no scheduler is needed.
    let mut pod = workload.pod(0);
    pod["spec"]["nodeName"] = json!(node_name(0));
    pod["metadata"]["name"] = json!("plain");
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    eventually("the default service account exists", async || Ok(accounts.get_opt("default").await?.is_some())).await?;
    post(&client, "/api/v1/namespaces/default/pods", &pod).await?;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "job" },
        "spec": { "template": { "spec": { "nodeName": node_name(0), "restartPolicy": "Never", "containers": pod["spec"]["containers"] } } },
    });
    post(&client, "/apis/batch/v1/namespaces/default/jobs", &job).await?;

    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let phase = async |name: &str| anyhow::Ok(pods.get_opt(name).await?.and_then(|pod| pod.status?.phase));
    eventually("the plain pod runs", async || Ok(phase("plain").await?.as_deref() == Some("Running"))).await?;
    let jobs = Api::<k8s_openapi::api::batch::v1::Job>::namespaced(client.clone(), "default");
    eventually("the job succeeds", async || Ok(jobs.get_status("job").await?.status.and_then(|status| status.succeeded) == Some(1)))
        .await?;
    pods.delete("plain", &DeleteParams::default().grace_period(30)).await?;
    eventually("the plain pod is gone", async || Ok(pods.get_opt("plain").await?.is_none())).await
}

/// Asks until it holds; 30 s is far beyond what any of these takes on a busy machine.
async fn eventually(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let asking = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.with_context(|| format!("not within 30 s: {what}"))?
}

//! What every test of tasks on the real API server begins with: definitions and rights, nodes of a kwok that answers for logs, the real `isobar` with its
//! section `tasks`. In: a control plane. Out: running programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use kube::Client;
use serde_json::{Value, json};

use crate::{
    harness::{assets::isobar, control_plane::ControlPlane, creation::post, kwok, process::Process},
    serving::apply,
};

/// Where runs are.
pub const RUNS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/taskruns";
/// Where tasks are.
pub const TASKS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/tasks";
const LOG: &str = "2026-01-01T00:00:00.000000000Z stdout F one\n2026-01-01T00:00:01.000000000Z stderr F two\n";

/// The kinds, and what Isobar's account may do; then these files of the manifests, too.
pub async fn prepare(plane: &ControlPlane, more: &[&str]) -> Result<()> {
    let files = [
        "crds/task.yaml",
        "crds/taskrun.yaml",
        "base/namespace.yaml",
        "base/serviceaccount.yaml",
        "base/rbac.yaml",
        "overlays/tasks/rbac.yaml",
    ];
    for file in files.iter().chain(more) {
        apply(plane, file)?;
    }
    kwok::let_apiserver_ask(plane).await
}

/// The real program with these tasks and this leader election. `name` is that of its log and its configuration.
pub fn start_isobar(
    name: &str,
    plane: &ControlPlane,
    folder: &Path,
    kubeconfig: &Path,
    election: &Value,
    tasks: &Value,
    flags: &[String],
) -> Result<Process> {
    let scheduler = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "leaderElection": election, "profiles": [{"schedulerName": "isobar-scheduler"}],
    });
    let own = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "IsobarConfiguration", "tasks": tasks});
    let config = folder.join(format!("{name}.yaml"));
    fs::write(&config, format!("{scheduler:#}\n---\n{own:#}\n"))?;
    let arguments = ["run".to_owned(), format!("--config={}", config.display()), format!("--kubeconfig={}", kubeconfig.display())];
    Process::start(name, &isobar(), arguments.into_iter().chain(flags.iter().cloned()), plane.folder())
}

/// kwok as the kubelet of all nodes, with a log for every container.
pub fn kwok_answering(plane: &ControlPlane, folder: &Path, kubelet_port: u16) -> Result<Process> {
    let answers = kwok_answers(folder)?;
    let serving = plane.authority().server("kwok", &["127.0.0.1"])?;
    kwok::start_answering(plane.admin_kubeconfig(), plane.folder(), &serving, kubelet_port, &answers)
}

/// A node of kwok's.
pub async fn node(client: &Client, name: &str, kubelet_port: u16) -> Result<()> {
    let resources = json!({"cpu": "16", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let labels = json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": name});
    let ready = json!([{"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": null, "lastTransitionTime": null}]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": {
        "capacity": resources, "allocatable": resources, "conditions": ready,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
    }});
    post(client, "/api/v1/nodes", &node).await
}

/// What kwok answers with: the same log for every container.
fn kwok_answers(folder: &Path) -> Result<PathBuf> {
    let log = folder.join("container.log");
    fs::write(&log, LOG)?;
    let spec = json!({"logs": [{"logsFile": log, "follow": false}]});
    let path = folder.join("kwok-answers.yaml");
    fs::write(
        &path,
        json!({"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterLogs", "metadata": {"name": "all"}, "spec": spec}).to_string(),
    )?;
    Ok(path)
}

#[allow(clippy::needless_pass_by_value)] // tables of JSON read better so
pub fn task(name: &str, triggers: Value, more: Value) -> Value {
    let mut spec = json!({
        "triggers": triggers, "limits": {"run": {"limit": "5m"}},
        "template": {"spec": {"containers": [{"name": "main", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}},
    });
    more.as_object().into_iter().flatten().for_each(|(key, value)| spec[key] = value.clone());
    json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec})
}

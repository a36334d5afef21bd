//! kwok, the kubelet of nodes that do not exist. In: a kubeconfig. Out: a process that plays the stages of `testbed/kwok/stages.yaml` on every
//! pod with a node. It doubles the API server's writes, so measurements leave it out.

use std::path::Path;

use anyhow::Result;

use super::{
    assets::Program,
    certificates::{Identity, KUBELET_CLIENT},
    command::kubectl,
    control_plane::ControlPlane,
    process::Process,
};

pub fn start(kubeconfig: &Path, folder: &Path) -> Result<Process> {
    start_with(kubeconfig, folder, vec!["--server-address=".to_owned()])
}

/// The same, and as a kubelet that answers for logs, exec, attach and port-forward what the objects in `answers` say (`ClusterLogs`, `ClusterExec`,
/// `ClusterAttach`, `ClusterPortForward`).
pub fn start_answering(kubeconfig: &Path, folder: &Path, serving: &Identity, port: u16, answers: &Path) -> Result<Process> {
    serving.write(folder, "kwok")?;
    let file = |name: &str| folder.join(name).display().to_string();
    let more = vec![
        format!("--config={}", answers.display()),
        format!("--server-address=127.0.0.1:{port}"),
        format!("--tls-cert-file={}", file("kwok.crt")),
        format!("--tls-private-key-file={}", file("kwok.key")),
    ];
    start_with(kubeconfig, folder, more)
}

/// What every installer of Kubernetes gives its API server: it may ask kubelets everything.
pub async fn let_apiserver_ask(plane: &ControlPlane) -> Result<()> {
    let user = format!("--user={KUBELET_CLIENT}");
    kubectl(plane, &["create", "clusterrolebinding", "kubelets", "--clusterrole=system:kubelet-api-admin", &user]).await?;
    Ok(())
}

fn start_with(kubeconfig: &Path, folder: &Path, more: Vec<String>) -> Result<Process> {
    let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("testbed/kwok/stages.yaml");
    let mut arguments = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", stages.display()),
        "--manage-all-nodes=true".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
    ];
    arguments.extend(more);
    Process::start("kwok", &Program::Kwok.path()?, arguments, folder)
}

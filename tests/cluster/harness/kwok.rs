//! kwok, the kubelet of nodes that do not exist. In: a kubeconfig. Out: a process that plays the stages of `testbed/kwok/stages.yaml` on every
//! pod with a node. It doubles the API server's writes, so measurements leave it out.

use std::path::Path;

use anyhow::Result;

use super::{assets::Program, process::Process};

pub fn start(kubeconfig: &Path, folder: &Path) -> Result<Process> {
    let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("testbed/kwok/stages.yaml");
    let arguments = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", stages.display()),
        "--manage-all-nodes=true".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
        "--server-address=".to_owned(),
    ];
    Process::start("kwok", &Program::Kwok.path()?, arguments, folder)
}

//! Programs run as a person would. In: a program and its arguments. Out: what it wrote, or an error with all that it said.

use std::process::{Output, Stdio};

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::{assets::Program, control_plane::ControlPlane};

/// kubectl as the administrator.
pub async fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(Program::Kubectl.path()?);
    command.env("KUBECONFIG", plane.admin_kubeconfig()).args(arguments);
    succeeded(command, arguments).await
}

/// Runs it to its end, which has to be a success.
pub async fn succeeded(mut command: Command, arguments: &[&str]) -> Result<Output> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{arguments:?}: {}", said());
    Ok(output)
}

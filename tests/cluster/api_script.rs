//! The in-memory API server held to the real one: the script of `tests/suite/api_script.rs` runs on both and has to give one transcript.

use anyhow::{Result, ensure};
use isobar::sim::{SimCluster, SimOptions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

#[path = "../suite/api_script.rs"]
mod script;

use crate::harness::{
    assets::{Program, available},
    control_plane::{ControlPlane, Options},
};

/// What `cargo test` compares with where there is no real server.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/api_script.kube-apiserver-1.37.1.jsonl");

/// With `API_SCRIPT_RECORD` set, the real server's transcript becomes the recording: for when the script or the version has changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_servers_give_one_transcript() -> Result<()> {
    if !available("both_servers_give_one_transcript", &[Program::Etcd, Program::KubeApiserver]) {
        return Ok(());
    }
    let mut options = Options::default();
    options.apiserver.priority = true;
    let plane = ControlPlane::start(options).await?;
    let mut config =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(plane.admin_kubeconfig())?, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let real = script::transcript(&kube::Client::try_from(config)?, script::QUIET).await;
    if std::env::var_os("API_SCRIPT_RECORD").is_some() {
        let lines: Vec<String> = real.iter().map(Value::to_string).collect();
        std::fs::write(RECORDING, lines.join("\n") + "\n")?;
    }
    let cluster = SimCluster::new(SimOptions::default());
    let ours = script::transcript(&cluster.client(), std::time::Duration::from_millis(100)).await;
    ensure!(real.len() == ours.len());
    let differing: Vec<String> = ours
        .iter()
        .zip(&real)
        .filter(|(ours, real)| ours != real)
        .map(|(ours, real)| format!("in memory {ours}\nreal      {real}"))
        .collect();
    ensure!(differing.is_empty(), "{} steps differ\n{}", differing.len(), differing.join("\n"));
    let recorded = std::fs::read_to_string(RECORDING)?;
    let recorded: Vec<Value> = recorded.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(recorded == real, "the recording is not what this server says: set API_SCRIPT_RECORD and look at the change");
    Ok(())
}

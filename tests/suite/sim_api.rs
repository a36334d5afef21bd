//! The in-memory API server held to the real one. In: the script of API calls. Out: its transcript, equal to the recorded one of kube-apiserver 1.37.1.

use std::path::Path;
use std::time::Duration;

use isobar::sim::{SimCluster, SimOptions};
use serde_json::Value;

use crate::api_script::{QUIET, transcript};

/// Recorded by `tests/cluster/api_script.rs`, which compares the two servers directly where there is a real one.
const RECORDED: &str = include_str!("../golden/api_script.kube-apiserver-1.37.1.jsonl");

#[tokio::test(start_paused = true)]
async fn the_script_gives_the_transcript_of_the_real_server() {
    let cluster = SimCluster::new(SimOptions::default());
    let lines = transcript(&cluster.client(), QUIET).await;
    if let Ok(path) = std::env::var("API_SCRIPT_SIM_OUT") {
        write(Path::new(&path), &lines);
    }
    let recorded: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).expect("the recording is JSON lines")).collect();
    assert_eq!(lines.len(), recorded.len(), "the script has changed: record it again");
    for (at, (ours, real)) in lines.iter().zip(&recorded).enumerate() {
        assert_eq!(ours, real, "step {at}, {}: in memory (left) and real (right) differ", real["step"]);
    }
}

/// Over a socket the same script gives the same answers as in process.
#[tokio::test]
async fn the_script_over_tcp() {
    let cluster = SimCluster::new(SimOptions::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    let served = cluster.clone();
    let server = tokio::spawn(async move { served.serve(listener).await });
    let mut config = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
    config.default_retry = false;
    let lines = transcript(&kube::Client::try_from(config).expect("a client"), Duration::from_millis(40)).await;
    let recorded: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).expect("the recording is JSON lines")).collect();
    let differing: Vec<&Value> = lines.iter().zip(&recorded).filter(|(ours, real)| ours != real).map(|(ours, _)| &ours["step"]).collect();
    assert!(differing.is_empty(), "{differing:?}");
    server.abort();
}

fn write(path: &Path, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n") + "\n").expect("the transcript is written");
}

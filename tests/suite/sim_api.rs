//! The in-memory API server held to the real one. In: the script of API calls. Out: its transcript, equal to the recorded one of kube-apiserver 1.37.1.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use isobar::sim::faults::{Fault, Target};
use isobar::sim::kubeconfig::kubeconfig;
use isobar::sim::{SimCluster, SimOptions};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
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

/// Over a socket: calls, a watch, and a fault that closes the connection without an answer.
#[tokio::test]
async fn the_server_on_a_socket() {
    let cluster = SimCluster::new(SimOptions::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let kubeconfig = kubeconfig(listener.local_addr().expect("an address"));
    let served = cluster.clone();
    let server = tokio::spawn(async move { served.serve(listener).await });
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
    let maps: Api<ConfigMap> = Api::default_namespaced(kube::Client::try_from(config).expect("a client"));

    let mut events = Box::pin(maps.watch(&WatchParams::default().disable_bookmarks(), "0").await.expect("a watch"));
    let map = ConfigMap { metadata: ObjectMeta { name: Some("m".into()), ..ObjectMeta::default() }, ..ConfigMap::default() };
    maps.create(&PostParams::default(), &map).await.expect("created");
    let seen = tokio::time::timeout(Duration::from_secs(30), events.next()).await.expect("in time").expect("an event").expect("a good one");
    assert!(matches!(&seen, WatchEvent::Added(map) if map.metadata.name.as_deref() == Some("m")), "{seen:?}");

    cluster.faults().once(Target::verb("list"), Fault::Refused);
    assert!(maps.list(&ListParams::default()).await.is_err());
    assert_eq!(maps.list(&ListParams::default()).await.expect("a list").items.len(), 1);
    server.abort();
}

fn write(path: &Path, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n") + "\n").expect("the transcript is written");
}

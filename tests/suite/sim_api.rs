//! The in-memory API server, driven over HTTP by the script that also runs on the real one.

use isobar::sim::{SimCluster, SimOptions};

use crate::api_script::transcript;

#[tokio::test(start_paused = true)]
async fn the_script_gives_the_transcript_of_the_real_server() {
    let cluster = SimCluster::new(SimOptions::default());
    let lines = transcript(&cluster.client()).await;
    if let Ok(path) = std::env::var("ISOBAR_TRANSCRIPT_OUT") {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text).expect("the transcript is written");
    }
    assert!(lines.iter().all(|line| line.get("transport").is_none()), "a call failed");
}

/// Runs the script on a real server named by KUBECONFIG; a tool, not a test.
#[tokio::test]
#[ignore = "needs a real API server: set API_SCRIPT_KUBECONFIG and ISOBAR_TRANSCRIPT_OUT"]
async fn record_from_a_real_server() {
    let path = std::env::var("API_SCRIPT_KUBECONFIG").expect("API_SCRIPT_KUBECONFIG");
    let kubeconfig = kube::config::Kubeconfig::read_from(path).expect("kubeconfig");
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await.expect("config");
    config.default_retry = false;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lines = transcript(&kube::Client::try_from(config).expect("client")).await;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(std::env::var("ISOBAR_TRANSCRIPT_OUT").expect("ISOBAR_TRANSCRIPT_OUT"), text).expect("written");
}

//! The fake kubelet on the in-memory server. In: bound pods. Out: the lives their annotations describe.

use isobar::sim::kubelet::{EXIT_CODE, KubeletOptions, RUN_MS};
use isobar::sim::{SimCluster, SimOptions};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

fn pod(name: &str, annotations: &Value) -> Pod {
    let pod = json!({"metadata": {"name": name, "annotations": annotations},
        "spec": {"nodeName": "n1", "restartPolicy": "Never", "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]}});
    serde_json::from_value(pod).expect("a pod")
}

/// A cluster with the node of all pods: without it there is no kubelet.
async fn cluster() -> SimCluster {
    let cluster = SimCluster::new(SimOptions::default());
    let node = serde_json::from_value(json!({"metadata": {"name": "n1"}})).expect("a node");
    Api::<Node>::all(cluster.client()).create(&PostParams::default(), &node).await.expect("created");
    cluster
}

fn phase(cluster: &SimCluster, name: &str) -> Option<String> {
    cluster.server().object("", "pods", "default", name)?["status"]["phase"].as_str().map(str::to_string)
}

#[tokio::test(start_paused = true)]
async fn pods_live_as_their_annotations_say() {
    let cluster = cluster().await;
    tokio::spawn(cluster.kubelet(KubeletOptions::default()).run());
    let api: Api<Pod> = Api::default_namespaced(cluster.client());
    for (name, annotations) in
        [("forever", json!({})), ("short", json!({RUN_MS: "5000"})), ("failing", json!({RUN_MS: "5000", EXIT_CODE: "3"}))]
    {
        api.create(&PostParams::default(), &pod(name, &annotations)).await.expect("created");
    }
    let phases = || ["forever", "short", "failing"].map(|name| phase(&cluster, name).unwrap_or_default());
    assert_eq!(phases(), ["Pending"; 3]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(phases(), ["Running"; 3]);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(phases(), ["Running", "Succeeded", "Failed"]);
    let failed = cluster.server().object("", "pods", "default", "failing").expect("the pod");
    assert_eq!(failed["status"]["containerStatuses"][1]["state"]["terminated"]["exitCode"], 3);
    api.delete("forever", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(phase(&cluster, "forever").as_deref(), Some("Running"), "the grace period holds it");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(phase(&cluster, "forever"), None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_same_name_is_another_pod() {
    let cluster = cluster().await;
    tokio::spawn(cluster.kubelet(KubeletOptions { start_delay: Duration::from_secs(10), ..KubeletOptions::default() }).run());
    let api: Api<Pod> = Api::default_namespaced(cluster.client());
    api.create(&PostParams::default(), &pod("p", &json!({}))).await.expect("created");
    sleep(Duration::from_secs(9)).await;
    api.delete("p", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    api.create(&PostParams::default(), &pod("p", &json!({}))).await.expect("created again");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(phase(&cluster, "p").as_deref(), Some("Pending"), "the second pod's start is its own");
    sleep(Duration::from_secs(6)).await;
    assert_eq!(phase(&cluster, "p").as_deref(), Some("Running"));
}

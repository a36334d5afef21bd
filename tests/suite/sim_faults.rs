//! Faults between a client and the in-memory server. In: one scripted fault a case. Out: whether the request took effect, and what its caller was told.

use isobar::sim::faults::{Fault, Faults, Target};
use isobar::sim::{SimCluster, SimOptions};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

fn cluster() -> SimCluster {
    SimCluster::new(SimOptions { faults: Some(Faults::seeded(1)), ..SimOptions::default() })
}

async fn create_pod(cluster: &SimCluster) {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i:1"}]}})).expect("a pod");
    Api::default_namespaced(cluster.faultless_client()).create(&PostParams::default(), &pod).await.expect("created");
}

/// Binds the pod through the faults; the answer's code, or 0 for none.
async fn bind(cluster: &SimCluster) -> u16 {
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}).to_string();
    let request = http::Request::post("/api/v1/namespaces/default/pods/p/binding").body(binding.into_bytes().into()).expect("a request");
    cluster.client().send(request).await.map_or(0, |response| response.status().as_u16())
}

fn node_of(cluster: &SimCluster) -> Value {
    cluster.server().object("", "pods", "default", "p").expect("the pod")["spec"]["nodeName"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_bind_takes_effect_or_not_whatever_the_answer_says() {
    let table = [
        (Fault::Refused, 0, false),
        (Fault::ErrorBefore, 500, false),
        (Fault::Unavailable, 503, false),
        (Fault::TooManyRequests { retry_after_seconds: 3 }, 429, false),
        (Fault::ErrorAfter, 500, true),
        (Fault::LostAfter, 0, true),
        (Fault::SlowAnswer(Duration::from_secs(9)), 201, true),
        // Faults of other verbs leave a bind alone.
        (Fault::WatchExpired, 201, true),
    ];
    for (fault, code, bound) in table {
        let cluster = cluster();
        create_pod(&cluster).await;
        cluster.faults().once(Target::of("create", "pods/binding"), fault.clone());
        assert_eq!(bind(&cluster).await, code, "{fault:?}");
        assert_eq!(node_of(&cluster) == "n1", bound, "{fault:?}");
        assert_eq!(cluster.faults().struck(), 1, "{fault:?}");
        assert_eq!(bind(&cluster).await, if bound { 409 } else { 201 }, "again after {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_takes_effect_late() {
    let cluster = cluster();
    create_pod(&cluster).await;
    let low = Duration::from_secs(5);
    cluster.faults().once(Target::of("create", "pods/binding"), Fault::Slow { low, high: low });
    let begin = Instant::now();
    let binding = tokio::spawn({
        let cluster = cluster.clone();
        async move { bind(&cluster).await }
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(node_of(&cluster), Value::Null);
    assert_eq!(binding.await.expect("no panic"), 201);
    assert_eq!(begin.elapsed(), low);
}

#[tokio::test(start_paused = true)]
async fn a_list_expires_once() {
    let cluster = cluster();
    cluster.faults().once(Target::verb("list"), Fault::ListExpired);
    let maps: Api<ConfigMap> = Api::all(cluster.client());
    let refused = maps.list(&ListParams::default()).await.expect_err("expired");
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 410 && status.reason == "Expired"));
    assert!(maps.list(&ListParams::default()).await.is_ok());
}

//! Claims of devices, end to end on the API server in memory: a pod waits until its claim is allocated, goes where the devices are, and the claim is
//! reserved for it before it is bound.

use isobar::{
    kubernetes::{api::Api, clock::Clock},
    live::{Live, LiveOptions},
    metrics::{ApiMetrics, Metrics},
    scheduler::{
        engine::{Engine, EngineSettings},
        observe::Silent,
        profiles::OutOfTree,
        registry::Registry,
    },
    sim::{SimCluster, SimOptions},
};
use serde_json::{Value, json};

use crate::outside::{ask, until};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";

struct World {
    cluster: SimCluster,
    _live: Live,
}

impl World {
    async fn new() -> Self {
        let cluster = SimCluster::new(SimOptions::default());
        let configuration = isobar::config::load(&[], &Registry::in_tree()).unwrap();
        let settings = EngineSettings::default();
        let engine = Engine::new(configuration.profiles, OutOfTree::default(), settings, Box::new(Silent)).unwrap();
        let api = Api::new(cluster.client(), "sim:443", ApiMetrics::new(&Metrics::new()));
        let live = Live::start(&api, Clock::system(), engine, |_| {}, &LiveOptions::default()).unwrap();
        let world = Self { cluster, _live: live };
        for (name, zone) in [("n0", "a"), ("n1", "b")] {
            let capacity = json!({"cpu": "4", "memory": "8Gi", "pods": "20"});
            let status = json!({"capacity": capacity, "allocatable": capacity});
            let metadata = json!({"name": name, "labels": {"zone": zone}});
            ask(
                &world.cluster,
                "POST",
                "/api/v1/nodes",
                &json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}),
            )
            .await;
        }
        world
    }
}

#[tokio::test]
async fn a_pod_waits_for_the_allocation_of_its_claim_and_goes_where_the_devices_are() {
    let world = World::new().await;
    let spec = json!({
        "schedulerName": "isobar-scheduler",
        "containers": [{"name": "c", "image": "i"}],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "shared"}],
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    let uid = ask(&world.cluster, "POST", PODS, &pod).await["metadata"]["uid"].clone();
    let pod = format!("{PODS}/p");
    let says = |words: &'static str| {
        move |pod: &Value| {
            let message = pod.pointer("/status/conditions/0/message")?.as_str()?;
            message.contains(words).then_some(())
        }
    };
    until(&world.cluster, &pod, says("could not find ResourceClaim \"default/shared\"")).await;

    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "shared", "namespace": "default"}, "spec": {}});
    ask(&world.cluster, "POST", CLAIMS, &claim).await;
    until(&world.cluster, &pod, says("resourceclaim \"shared\" has no devices")).await;

    let selector = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]});
    let other = json!({"resource": "pods", "name": "other", "uid": "other"});
    let status = json!({"allocation": {"devices": {"results": []}, "nodeSelector": selector}, "reservedFor": [other]});
    ask(&world.cluster, "PATCH", &format!("{CLAIMS}/shared/status"), &json!({"status": status})).await;
    let node = until(&world.cluster, &pod, |pod| pod.pointer("/spec/nodeName").cloned()).await;
    assert_eq!(node, "n1");
    let claim = ask(&world.cluster, "GET", &format!("{CLAIMS}/shared"), &Value::Null).await;
    let users: Vec<_> = claim["status"]["reservedFor"].as_array().unwrap().iter().map(|user| user["uid"].clone()).collect();
    assert_eq!(users, [json!("other"), uid]);
}

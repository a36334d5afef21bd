//! Volumes with the real controller: a StatefulSet whose claims wait for their pods gets volumes that are there, each on the node of its pod; a pod whose
//! claim has no class stays, and says why, until the class comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};

use crate::harness::{
    assets::{Program, available},
    bindings::BindingWatch,
    control_plane::{ControlPlane, Options},
    creation::post,
    scheduler::{self, Scheduler},
    workload::node,
};

const NAMESPACE: &str = "volumes";
const SCHEDULER_NAME: &str = "default-scheduler";
const NODES: usize = 3;
/// Two volumes on each node, and a replica for each.
const REPLICAS: usize = 2 * NODES;
const PATIENCE: Duration = Duration::from_secs(60);
const CONTROLLERS: &str = "persistentvolume-binder-controller,statefulset-controller";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isobar_binds_pods_with_their_volumes() -> Result<()> {
    binds_pods_with_their_volumes("isobar_binds_pods_with_their_volumes", scheduler::Kind::Isobar).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "checks this test against kube-scheduler"]
async fn kube_scheduler_binds_pods_with_their_volumes() -> Result<()> {
    binds_pods_with_their_volumes("kube_scheduler_binds_pods_with_their_volumes", scheduler::Kind::KubeScheduler).await
}

/// A storage class whose claims wait for their pods.
pub fn class(name: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"})
}

/// A disk of one node.
pub fn volume(name: &str, class: &str, node: &str) -> Value {
    let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class, "local": {"path": "/disk"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
        },
    })
}

fn pod_spec() -> Value {
    json!({
        "schedulerName": SCHEDULER_NAME, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    })
}

pub fn claim_spec(class: &str) -> Value {
    json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}})
}

async fn binds_pods_with_their_volumes(test: &str, kind: scheduler::Kind) -> Result<()> {
    if !available(test, &[Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager]) || !kind.available(test) {
        return Ok(());
    }
    let plane = ControlPlane::start(Options { controllers: Some(CONTROLLERS.to_owned()), ..Options::default() }).await?;
    let client = plane.client();
    plane.create_namespace(NAMESPACE).await?;
    for at in 0..NODES {
        let name = format!("n{at}");
        let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64"});
        post(&client, "/api/v1/nodes", &node(&name, &labels, &json!({"cpu": "4", "memory": "8Gi", "pods": "10"}), &[])).await?;
    }
    post(&client, "/apis/storage.k8s.io/v1/storageclasses", &class("local")).await?;
    for at in 0..REPLICAS {
        post(&client, "/api/v1/persistentvolumes", &volume(&format!("v{at}"), "local", &format!("n{}", at % NODES))).await?;
    }
    let mut watch = BindingWatch::start(client.clone(), NAMESPACE).await?;
    let _scheduler = Scheduler::start(&plane, kind, &scheduler::Options::new(kind.name(), SCHEDULER_NAME)).await?;

    let mut template = pod_spec();
    template["volumes"] = Value::Null;
    let set = json!({
        "metadata": {"name": "db"},
        "spec": {
            "replicas": REPLICAS, "serviceName": "db", "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "db"}}, "template": {"metadata": {"labels": {"app": "db"}}, "spec": template},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim_spec("local")}],
        },
    });
    let begin = Instant::now();
    post(&client, &format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"), &set).await?;
    watch.wait_for(REPLICAS, PATIENCE).await?;
    println!("{}: {REPLICAS} pods with a claim each are bound after {:?}", kind.name(), begin.elapsed());
    each_pod_is_where_its_volume_is(&client, NAMESPACE, "db", REPLICAS).await?;
    the_class_comes_late(&client, &watch).await
}

/// The pods of an application are on the nodes of their volumes, and each has one for itself.
pub async fn each_pod_is_where_its_volume_is(client: &Client, namespace: &str, app: &str, replicas: usize) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default().labels(&format!("app={app}"))).await?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    let volumes = Api::<PersistentVolume>::all(client.clone()).list(&ListParams::default()).await?;
    let node_of: BTreeMap<String, String> = volumes
        .items
        .iter()
        .filter_map(|volume| {
            let terms = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
            let values = terms.node_selector_terms.first()?.match_expressions.as_ref()?.first()?.values.as_ref()?;
            Some((volume.metadata.name.clone()?, values.first()?.clone()))
        })
        .collect();
    let mut used = BTreeSet::new();
    for pod in &pods.items {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let claim = claims.items.iter().find(|claim| claim.metadata.name.as_deref() == Some(&format!("data-{name}")));
        let claim = claim.with_context(|| format!("{name} has no claim"))?;
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        ensure!(phase == Some("Bound"), "the claim of {name} is {phase:?}");
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).context("a bound claim has no volume")?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        ensure!(node == node_of.get(&volume), "{name} is on {node:?}, its volume {volume} on {:?}", node_of.get(&volume));
        ensure!(used.insert(volume.clone()), "{volume} is used twice");
    }
    ensure!(used.len() == replicas, "{} volumes are used", used.len());
    Ok(())
}

async fn the_class_comes_late(client: &Client, watch: &BindingWatch) -> Result<()> {
    let claims = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims");
    post(client, &claims, &json!({"metadata": {"name": "late"}, "spec": claim_spec("later")})).await?;
    let mut spec = pod_spec();
    spec["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "late"}}]);
    post(client, &format!("/api/v1/namespaces/{NAMESPACE}/pods"), &json!({"metadata": {"name": "late"}, "spec": spec})).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let said = tokio::time::timeout(PATIENCE, async {
        loop {
            let conditions = pods.get("late").await?.status.and_then(|status| status.conditions).unwrap_or_default();
            if let Some(message) =
                conditions.into_iter().find(|condition| condition.type_ == "PodScheduled").and_then(|condition| condition.message)
            {
                return anyhow::Ok(message);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let said = said.await.context("the pod without a class says nothing")??;
    ensure!(said.starts_with("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."), "{said}");
    post(client, "/api/v1/persistentvolumes", &volume("late", "later", "n1")).await?;
    post(client, "/apis/storage.k8s.io/v1/storageclasses", &class("later")).await?;
    let bound = watch.wait_for_pod("late", PATIENCE).await?;
    ensure!(&*bound.node == "n1", "the volume is on n1, the pod on {}", bound.node);
    Ok(())
}

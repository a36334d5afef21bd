//! Important pods displace others on the real API server, a budget in the way: who goes, what the victims and the preemptors say while they go, and who is
//! where in the end. The same checks for either scheduler.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::harness::{
    assets::{Program, available},
    bindings::BindingWatch,
    control_plane::{ControlPlane, Options},
    creation::post,
    events::wait_for_event,
    scheduler::{self, Scheduler},
    waiting::eventually,
    workload::node,
};

const NAMESPACE: &str = "preemption";
const SCHEDULER_NAME: &str = "default-scheduler";
const PATIENCE: Duration = Duration::from_secs(20);
/// Keeps a victim in sight after its deletion.
const FINALIZER: &str = "example.com/seen";
/// A node takes so many of the pods here.
const SEATS: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isobar_displaces_whom_no_budget_guards() -> Result<()> {
    displaces_whom_no_budget_guards("isobar_displaces_whom_no_budget_guards", scheduler::Kind::Isobar).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "checks this test against kube-scheduler"]
async fn kube_scheduler_displaces_whom_no_budget_guards() -> Result<()> {
    displaces_whom_no_budget_guards("kube_scheduler_displaces_whom_no_budget_guards", scheduler::Kind::KubeScheduler).await
}

fn machine(name: &str) -> Value {
    let labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64" });
    node(name, &labels, &json!({ "cpu": SEATS.to_string(), "memory": "8Gi", "pods": "10" }), &[])
}

fn pod(name: &str, class: Option<&str>, labels: &Value, node: Option<&str>) -> Value {
    let finalizers = if class.is_none() { json!([FINALIZER]) } else { json!([]) };
    json!({
        "metadata": { "name": name, "labels": labels, "finalizers": finalizers },
        "spec": {
            "schedulerName": SCHEDULER_NAME, "terminationGracePeriodSeconds": 0, "priorityClassName": class,
            "nodeSelector": node.map(|node| json!({ "kubernetes.io/hostname": node })),
            "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "1" } } }],
        },
    })
}

async fn displaces_whom_no_budget_guards(test: &str, kind: scheduler::Kind) -> Result<()> {
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) || !kind.available(test) {
        return Ok(());
    }
    let mut options = Options::default();
    options.apiserver.priority = true;
    let plane = ControlPlane::start(options).await?;
    let client = plane.client();
    plane.create_namespace(NAMESPACE).await?;
    let urgent = json!({ "metadata": { "name": "urgent" }, "value": 1000 });
    post(&client, "/apis/scheduling.k8s.io/v1/priorityclasses", &urgent).await?;
    // Nobody fills its status in, so it allows nothing.
    let budget = json!({ "metadata": { "name": "b" }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "guarded" } } } });
    post(&client, &format!("/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"), &budget).await?;
    for name in ["n0", "n1", "n2"] {
        post(&client, "/api/v1/nodes", &machine(name)).await?;
    }
    let watch = BindingWatch::start(client.clone(), NAMESPACE).await?;
    let _scheduler = Scheduler::start(&plane, kind, &scheduler::Options::new(kind.name(), SCHEDULER_NAME)).await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    for (name, app) in [("n0", "guarded"), ("n1", "guarded"), ("n2", "open")] {
        for seat in 0..SEATS {
            let occupant = format!("{app}-{name}-{seat}");
            post(&client, &path, &pod(&occupant, None, &json!({ "app": app }), Some(name))).await?;
            watch.wait_for_pod(&occupant, PATIENCE).await?;
        }
    }

    for seat in 0..SEATS {
        post(&client, &path, &pod(&format!("urgent-{seat}"), Some("urgent"), &json!({}), None)).await?;
    }
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    for seat in 0..SEATS {
        says_where_it_will_go(&pods, &format!("urgent-{seat}")).await?;
        says_why_it_goes(&client, &pods, &format!("open-n2-{seat}")).await?;
    }
    ensure!(watch.count() == 3 * SEATS, "a pod was bound before its victim was gone: {:?}", watch.seen().await.bound);
    for seat in 0..SEATS {
        let seen = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        pods.patch(&format!("open-n2-{seat}"), &PatchParams::default(), &seen).await?;
    }
    for seat in 0..SEATS {
        let bound = watch.wait_for_pod(&format!("urgent-{seat}"), PATIENCE).await?;
        ensure!(bound.node == "n2", "urgent-{seat} is on {}", bound.node);
    }
    let left: BTreeSet<String> = pods.list(&ListParams::default()).await?.into_iter().filter_map(|pod| pod.metadata.name).collect();
    ensure!(left.len() == 3 * SEATS && !left.iter().any(|name| name.starts_with("open")), "there are {left:?}");
    println!("{}: {SEATS} urgent pods displaced {SEATS} that no budget guards", kind.name());
    Ok(())
}

/// Its status names the node, and its condition says what is done for it.
async fn says_where_it_will_go(pods: &Api<Pod>, name: &str) -> Result<()> {
    eventually(PATIENCE, name, async || {
        let status = pods.get(name).await?.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let message = conditions.iter().find(|condition| condition.type_ == "PodScheduled").and_then(|condition| condition.message.clone());
        let text = message.unwrap_or_default();
        let is_told = text.contains("found a potential placement for pod on node n2, preempting 1 victims")
            || text.contains("not eligible due to a terminating pod on the nominated node");
        Ok((status.nominated_node_name.as_deref() == Some("n2") && is_told).then_some(()).ok_or(text))
    })
    .await
}

/// It is being deleted, its condition says by whom, and an event for whom.
async fn says_why_it_goes(client: &Client, pods: &Api<Pod>, name: &str) -> Result<()> {
    eventually(PATIENCE, name, async || {
        let pod = pods.get(name).await?;
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let is_marked = conditions.iter().any(|condition| {
            (&*condition.type_, &*condition.status, condition.reason.as_deref(), condition.message.as_deref())
                == (
                    "DisruptionTarget",
                    "True",
                    Some("PreemptionByScheduler"),
                    Some("default-scheduler: preempting to accommodate a higher priority pod"),
                )
        });
        Ok((pod.metadata.deletion_timestamp.is_some() && is_marked).then_some(()).ok_or(format!("{conditions:?}")))
    })
    .await?;
    let events = Api::namespaced(client.clone(), NAMESPACE);
    wait_for_event(&events, PATIENCE, |about, event| {
        let related = event.related.as_ref().and_then(|object| object.name.as_deref());
        about == name
            && event.reason.as_deref() == Some("Preempted")
            && event.note.as_deref().is_some_and(|note| note.starts_with("Preempted by pod ") && note.ends_with(" on node n2"))
            && related.is_some_and(|related| related.starts_with("urgent-"))
    })
    .await
}

//! `kubectl describe pod` reads the same whoever scheduled: the same objects are given to kube-scheduler and then to Isobar, and the text, the
//! events and the `PodScheduled` conditions are compared, word for word.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::harness::{
    assets::{Program, available},
    control_plane::{ControlPlane, Options},
    creation::post,
    scheduler::{self, Scheduler},
    workload::node,
};

const SCHEDULER_NAME: &str = "default-scheduler";
/// Longer than an event waits in kube-scheduler's broadcaster.
const EVENTS_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_describe_reads_as_with_kube_scheduler() -> Result<()> {
    let test = "kubectl_describe_reads_as_with_kube_scheduler";
    let needs = [Program::Etcd, Program::KubeApiserver, Program::KubeScheduler, Program::Kubectl];
    if !available(test, &needs) || !scheduler::Kind::Isobar.available(test) {
        return Ok(());
    }
    compare(scheduler::Kind::KubeScheduler, scheduler::Kind::Isobar).await
}

/// Against itself: the comparison is then known not to trip over times and names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_describe_of_kube_scheduler_is_repeatable() -> Result<()> {
    let needs = [Program::Etcd, Program::KubeApiserver, Program::KubeScheduler, Program::Kubectl];
    if !available("kubectl_describe_of_kube_scheduler_is_repeatable", &needs) {
        return Ok(());
    }
    compare(scheduler::Kind::KubeScheduler, scheduler::Kind::KubeScheduler).await
}

async fn compare(reference: scheduler::Kind, other: scheduler::Kind) -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    for node in nodes() {
        post(&plane.client(), "/api/v1/nodes", &node).await?;
    }
    let expected = observe(&plane, reference, "first").await?;
    let found = observe(&plane, other, "other").await?;
    let mut differences = Vec::new();
    for (name, expected) in &expected {
        let found = &found[name];
        if expected != found {
            differences.push(format!("pod {name}\n{}", difference(reference.name(), expected, other.name(), found)));
        }
    }
    ensure!(differences.is_empty(), "{} of {} pods read differently\n{}", differences.len(), expected.len(), differences.join("\n"));
    println!("{} pods read the same; of kube-scheduler, for example:\n{}", expected.len(), expected["mixed-reasons"].join("\n"));
    Ok(())
}

/// The lines that only one of them has.
fn difference(expected_name: &str, expected: &[String], found_name: &str, found: &[String]) -> String {
    let only = |one: &[String], other: &[String], name: &str| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).map(|line| format!("  {name} only: {line}")).collect()
    };
    let lines = [only(expected, found, expected_name), only(found, expected, found_name)].concat();
    if lines.is_empty() { "  the same lines in another order or number".to_owned() } else { lines.join("\n") }
}

fn nodes() -> Vec<Value> {
    let make = |name: &str, arch: &str, cpu: &str, taints: &[Value]| {
        let labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/arch": arch, "kubernetes.io/os": "linux" });
        node(name, &labels, &json!({ "cpu": cpu, "memory": "8Gi", "pods": "10" }), taints)
    };
    let mut cordoned = make("cordoned", "amd64", "4", &[]);
    cordoned["spec"]["unschedulable"] = json!(true);
    vec![
        make("amd", "amd64", "4", &[]),
        make("arm", "arm64", "4", &[]),
        make("small", "amd64", "1", &[]),
        make("tainted", "amd64", "4", &[json!({ "key": "dedicated", "value": "batch", "effect": "NoSchedule" })]),
        make("leaving", "amd64", "4", &[json!({ "key": "maintenance", "effect": "NoExecute" })]),
        cordoned,
    ]
}

/// Name and spec. Those that can be bound fit one node only, so that chance has no part.
fn pods() -> Vec<(&'static str, Value)> {
    let container = |requests: Value| json!([{ "name": "main", "image": "registry.example/app:1", "resources": { "requests": requests } }]);
    let on = |host: &str| json!({ "kubernetes.io/hostname": host });
    let port = json!([{ "name": "main", "image": "registry.example/app:1", "ports": [{ "containerPort": 80, "hostPort": 8080 }] }]);
    let affinity = |key: &str, value: &str| {
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchExpressions": [{ "key": key, "operator": "In", "values": [value] }] }] } } })
    };
    vec![
        ("bound", json!({ "containers": container(json!({ "cpu": "100m" })), "nodeSelector": on("arm") })),
        ("bound-with-port", json!({ "containers": port, "nodeSelector": on("amd") })),
        ("port-taken", json!({ "containers": port, "nodeSelector": on("amd") })),
        ("no-such-arch", json!({ "containers": container(json!({ "cpu": "1" })), "nodeSelector": { "kubernetes.io/arch": "riscv64" } })),
        ("affinity-to-nothing", json!({ "containers": container(json!({})), "affinity": affinity("disk", "ssd") })),
        ("too-much-cpu", json!({ "containers": container(json!({ "cpu": "100" })) })),
        ("too-much-of-all", json!({ "containers": container(json!({ "cpu": "100", "memory": "1Ti" })) })),
        ("no-gpu", json!({ "containers": [{ "name": "main", "image": "i", "resources": { "limits": { "nvidia.com/gpu": "1" } } }] })),
        (
            "mixed-reasons",
            json!({ "containers": container(json!({ "cpu": "2" })), "affinity": affinity("kubernetes.io/arch", "amd64"),
            "nodeSelector": { "kubernetes.io/os": "linux" }, "tolerations": [{ "key": "nothing", "operator": "Exists" }] }),
        ),
        ("only-the-tainted", json!({ "containers": container(json!({})), "nodeSelector": on("tainted") })),
        ("only-the-cordoned", json!({ "containers": container(json!({})), "nodeSelector": on("cordoned") })),
        ("gated", json!({ "containers": container(json!({})), "schedulingGates": [{ "name": "example.com/wait" }] })),
    ]
}

/// `mixed-reasons` fits `amd` until this has taken it.
const OCCUPANT: &str = "occupant";

async fn observe(plane: &ControlPlane, kind: scheduler::Kind, namespace: &str) -> Result<BTreeMap<&'static str, Vec<String>>> {
    let client = plane.client();
    plane.create_namespace(namespace).await?;
    let identity = format!("{}-{namespace}", kind.name());
    let mut scheduler = Scheduler::start(plane, kind, &scheduler::Options::new(&identity, SCHEDULER_NAME)).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let occupant = json!({ "nodeName": "amd", "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "3" } } }],
        "terminationGracePeriodSeconds": 0 });
    post(&client, &path, &json!({ "metadata": { "name": OCCUPANT }, "spec": occupant })).await?;
    for (name, mut spec) in pods() {
        spec["schedulerName"] = json!(SCHEDULER_NAME);
        spec["terminationGracePeriodSeconds"] = json!(0);
        post(&client, &path, &json!({ "metadata": { "name": name, "labels": { "case": name } }, "spec": spec })).await?;
        if name.starts_with("bound") {
            wait_for_events(plane, namespace, &[name]).await?;
        }
    }
    let with_events: Vec<_> = pods().into_iter().map(|(name, _)| name).filter(|name| *name != "gated").collect();
    wait_for_events(plane, namespace, &with_events).await.with_context(|| scheduler.process.log_tail())?;
    let mut seen = BTreeMap::new();
    for (name, _) in pods() {
        let mut lines = describe(plane, namespace, name)?;
        lines.extend(event_lines(plane, namespace, name).await?);
        lines.extend(condition_lines(plane, namespace, name).await?);
        seen.insert(name, lines.into_iter().map(|line| line.replace(namespace, "NAMESPACE")).collect());
    }
    scheduler.process.stop(Duration::from_secs(20)).await?;
    let all = Api::<Pod>::namespaced(client, namespace);
    all.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
    Ok(seen)
}

async fn wait_for_events(plane: &ControlPlane, namespace: &str, names: &[&str]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let events = Api::<Event>::namespaced(plane.client(), namespace).list(&ListParams::default()).await?;
        let has = |name: &str| events.items.iter().any(|event| event.regarding.as_ref().and_then(|pod| pod.name.as_deref()) == Some(name));
        let missing: Vec<_> = names.iter().filter(|name| !has(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < EVENTS_WITHIN, "no event of {missing:?} within {EVENTS_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// kubectl's own text, without what time writes into it.
fn describe(plane: &ControlPlane, namespace: &str, name: &str) -> Result<Vec<String>> {
    let answer = plane.kubectl(["describe", "pod", name, "--namespace", namespace])?;
    ensure!(answer.status.success(), "kubectl describe: {}", String::from_utf8_lossy(&answer.stderr));
    let text = String::from_utf8(answer.stdout)?;
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((head, table)) = text.split_once("\nEvents:") else { return Ok(text.lines().map(squeezed).collect()) };
    let mut lines: Vec<_> = head.lines().map(squeezed).collect();
    // The table is aligned, so its header says where the column of ages begins and ends.
    let header = table.lines().find(|line| line.contains("Age")).unwrap_or_default();
    let (age, from) = (header.find("Age").unwrap_or(0), header.find("From").unwrap_or(0));
    for line in table.lines().filter(|line| !line.contains("----")) {
        let (before, after) = (line.get(..age).unwrap_or(line), line.get(from..).unwrap_or_default());
        lines.push(format!("Events: {}", squeezed(&format!("{before} {after}"))));
    }
    Ok(lines)
}

/// Everything of an event that does not depend on when and how often.
async fn event_lines(plane: &ControlPlane, namespace: &str, name: &str) -> Result<Vec<String>> {
    let events = Api::<Event>::namespaced(plane.client(), namespace);
    let list = events.list(&ListParams::default()).await?;
    let of_pod = list.items.iter().filter(|event| event.regarding.as_ref().and_then(|pod| pod.name.as_deref()) == Some(name));
    let mut lines: Vec<_> = of_pod
        .map(|event| {
            let regarding = event.regarding.clone().unwrap_or_default();
            format!(
                "event: type {:?} reason {:?} action {:?} controller {:?} instance {:?} regarding {:?} {:?} field {:?} note {:?}",
                event.type_,
                event.reason,
                event.action,
                event.reporting_controller,
                event.reporting_instance,
                regarding.api_version,
                regarding.kind,
                regarding.field_path,
                event.note,
            )
        })
        .collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

async fn condition_lines(plane: &ControlPlane, namespace: &str, name: &str) -> Result<Vec<String>> {
    let pod = Api::<Pod>::namespaced(plane.client(), namespace).get(name).await?;
    let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
    let line = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        format!("condition: {} {} {:?} {:?}", condition.type_, condition.status, condition.reason, condition.message)
    };
    Ok(conditions.iter().map(line).collect())
}

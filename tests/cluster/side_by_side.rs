//! Everything at once, as a cluster has it: a StatefulSet whose claims wait for their pods, a Deployment spread over zones, a DaemonSet, a Job of 1,000
//! pods, a gang of 64 and three priorities that displace each other, all made by the real controllers. Each reaches its state within one time; then all
//! that was done is judged: by what there is, by the order of every change, by the API server's audit log and by what Isobar says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    harness::{
        apiserver::ApiserverOptions,
        assets::{Program, available},
        audit::{audit, list_all},
        audit_log::{AuditLog, Request},
        control_plane::{ControlPlane, Options},
        creation::post,
        ledger::{Ledger, Moment, begun_whole, crowded, displaced, placed},
        scheduler::{self, Scheduler},
        waiting::eventually,
        workload::node,
    },
    volumes,
};

const NAMESPACE: &str = "mixed";
/// The only scheduler there, with its name, its user and the rights that Kubernetes gives to it.
const SCHEDULER_NAME: &str = "default-scheduler";
const USER: &str = "system:kube-scheduler";
const CONTROLLERS: &str = "persistentvolume-binder-controller,statefulset-controller,deployment-controller,replicaset-controller,daemonset-controller,\
    job-controller";
/// For everything: ten times what two cores take that do nothing else.
const WITHIN: Duration = Duration::from_secs(420);
const ZONE: &str = "topology.kubernetes.io/zone";
const ZONES: [&str; 3] = ["a", "b", "c"];
/// Nodes for all but the three priorities. The Job alone asks for twice what they have.
const OPEN_NODES: usize = 12;
/// Nodes of the three priorities, full with the lowest; a seat is a core.
const STAIRS: usize = 6;
const SEATS: usize = 4 * STAIRS;
const HIGH: usize = SEATS / 2;
const REPLICAS: usize = 12;
const SPREAD: usize = 30;
const JOB_PODS: usize = 1000;
const GANG: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_side_by_side_reaches_its_state_and_the_audit_is_clean() -> Result<()> {
    let test = "everything_side_by_side_reaches_its_state_and_the_audit_is_clean";
    let kind = scheduler::Kind::Isobar;
    let programs = [Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager, Program::Kwok, Program::Kubectl];
    if !available(test, &programs) || !kind.available(test) {
        return Ok(());
    }
    let apiserver = ApiserverOptions { audit_log: true, priority: true, ..ApiserverOptions::default() };
    let plane = ControlPlane::start(Options { apiserver, controllers: Some(CONTROLLERS.to_owned()), kwok: true }).await?;
    let client = plane.client();
    plane.create_namespace(NAMESPACE).await?;
    furnish(&client).await?;
    let ledger = Ledger::start(client.clone(), NAMESPACE).await?;
    let kubeconfig = Some(plane.user_kubeconfig(USER, &[])?);
    let options = scheduler::Options { kubeconfig, ..scheduler::Options::new(kind.name(), SCHEDULER_NAME) };
    let scheduler = Scheduler::start(&plane, kind, &options).await?;

    let show = Show { client: client.clone(), begin: Instant::now() };
    let reached = tokio::try_join!(climb(&show), applications(&show));
    reached.with_context(|| scheduler.process.log_tail())?;
    println!("everything was in its state after {:.0?}", show.begin.elapsed());

    what_there_is_is_right(&client).await?;
    let moments = ledger.close().await?;
    every_moment_was_right(&client, &moments).await?;
    let late = every_call_was_right(&plane, &moments).await?;
    nothing_is_counted_that_must_not_be(&scheduler.scrape(&plane).await?, placed(&moments).len(), late)
}

/// What is to be reached, in one time for all of it.
struct Show {
    client: Client,
    begin: Instant,
}

impl Show {
    async fn make(&self, kind: &str, object: &Value) -> Result<()> {
        post(&self.client, &path(kind), object).await
    }

    /// Waits until the object's status says so; a number that is not there is none. Looks seldom, as the API server has enough to do.
    async fn is(&self, kind: &str, name: &str, field: &str, wanted: usize) -> Result<()> {
        eventually(WITHIN.saturating_sub(self.begin.elapsed()), &format!("{kind}/{name}"), async || {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let request = http::Request::get(format!("{}/{name}", path(kind))).body(Vec::new())?;
            let object: Value = self.client.request(request).await?;
            let there = object["status"][field].as_u64().unwrap_or(0);
            Ok((there == wanted as u64).then_some(()).ok_or(format!("{field} {there}, not {wanted}: {}", object["status"])))
        })
        .await?;
        println!("{:5.1} s: {kind}/{name}: {field} is {wanted}", self.begin.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Nodes, volumes, classes.
async fn furnish(client: &Client) -> Result<()> {
    let machine = |name: &str, at: usize, cpu: &str, pool: &str, taints: &[Value]| {
        let labels =
            json!({ "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", (ZONE): ZONES[at % ZONES.len()], "pool": pool });
        node(name, &labels, &json!({ "cpu": cpu, "memory": "64Gi", "pods": "110" }), taints)
    };
    // A tenth of a core is for the DaemonSet.
    for at in 0..OPEN_NODES {
        post(client, "/api/v1/nodes", &machine(&format!("open-{at:02}"), at, "8100m", "open", &[])).await?;
    }
    let taint = json!({ "key": "pool", "value": "stairs", "effect": "NoSchedule" });
    for at in 0..STAIRS {
        let machine = machine(&format!("stairs-{at}"), at, "4100m", "stairs", std::slice::from_ref(&taint));
        post(client, "/api/v1/nodes", &machine).await?;
    }
    post(client, "/apis/storage.k8s.io/v1/storageclasses", &volumes::class("local")).await?;
    for at in 0..REPLICAS {
        let volume = volumes::volume(&format!("v{at}"), "local", &format!("open-{:02}", at % OPEN_NODES));
        post(client, "/api/v1/persistentvolumes", &volume).await?;
    }
    for (name, value) in [("low", 10), ("middle", 100), ("high", 1000)] {
        let class = json!({ "metadata": { "name": name }, "value": value });
        post(client, "/apis/scheduling.k8s.io/v1/priorityclasses", &class).await?;
    }
    Ok(())
}

fn path(kind: &str) -> String {
    let group = if kind == "jobs" { "batch" } else { "apps" };
    format!("/apis/{group}/v1/namespaces/{NAMESPACE}/{kind}")
}

/// Labels and spec of a pod.
fn template(app: &str, cpu: &str, more: &Value) -> Value {
    let mut spec = json!({
        "schedulerName": SCHEDULER_NAME, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
        "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu, "memory": "64Mi" } } }],
    });
    more.as_object().into_iter().flatten().for_each(|(field, value)| spec[field] = value.clone());
    json!({ "metadata": { "labels": { "app": app } }, "spec": spec })
}

fn replicated(app: &str, replicas: usize, template: &Value) -> Value {
    let selector = json!({ "matchLabels": { "app": app } });
    // Pods that wait for seats are no failure of a roll-out.
    let spec = json!({ "replicas": replicas, "selector": selector, "template": template, "progressDeadlineSeconds": 3600 });
    json!({ "metadata": { "name": app }, "spec": spec })
}

/// Low fills the nodes, middle displaces low, high displaces half of middle; when high goes, middle has its seats again.
async fn climb(show: &Show) -> Result<()> {
    let step = async |class: &str, replicas: usize| {
        let more = json!({
            "priorityClassName": class, "nodeSelector": { "pool": "stairs" }, "tolerations": [{ "key": "pool", "operator": "Exists" }],
        });
        show.make("deployments", &replicated(class, replicas, &template(class, "1", &more))).await
    };
    step("low", SEATS).await?;
    show.is("deployments", "low", "readyReplicas", SEATS).await?;
    step("middle", SEATS).await?;
    show.is("deployments", "middle", "readyReplicas", SEATS).await?;
    show.is("deployments", "low", "readyReplicas", 0).await?;
    step("high", HIGH).await?;
    show.is("deployments", "high", "readyReplicas", HIGH).await?;
    show.is("deployments", "middle", "readyReplicas", SEATS - HIGH).await?;
    let nobody = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    let deployments = Api::<Deployment>::namespaced(show.client.clone(), NAMESPACE);
    deployments.patch("high", &PatchParams::default(), &nobody).await?;
    show.is("deployments", "middle", "readyReplicas", SEATS).await?;
    show.is("deployments", "low", "readyReplicas", 0).await
}

/// All others, in one go.
async fn applications(show: &Show) -> Result<()> {
    let spread = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "web" } },
    }] });
    let web = replicated("web", SPREAD, &template("web", "200m", &spread));
    let mut agent = replicated("agent", 0, &template("agent", "100m", &json!({ "tolerations": [{ "operator": "Exists" }] })));
    for field in ["replicas", "progressDeadlineSeconds"] {
        agent["spec"].as_object_mut().context("a spec")?.remove(field);
    }
    let mut stored = template("db", "500m", &json!({}));
    stored["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    let mut db = replicated("db", REPLICAS, &stored);
    db["spec"].as_object_mut().context("a spec")?.remove("progressDeadlineSeconds");
    db["spec"]["serviceName"] = json!("db");
    db["spec"]["podManagementPolicy"] = json!("Parallel");
    db["spec"]["volumeClaimTemplates"] = json!([{ "metadata": { "name": "data" }, "spec": volumes::claim_spec("local") }]);
    let job = |name: &str, pods: usize, template: &Value| {
        let spec = json!({ "completionMode": "Indexed", "completions": pods, "parallelism": pods, "template": template });
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    let once = json!({ "restartPolicy": "Never" });
    let mut gang = template("gang", "1", &once);
    gang["metadata"]["annotations"] = json!({ "isobar.dev/gang": "forecast", "isobar.dev/gang-min-count": GANG.to_string() });

    show.make("jobs", &job("many", JOB_PODS, &template("many", "200m", &once))).await?;
    show.make("jobs", &job("gang", GANG, &gang)).await?;
    show.make("statefulsets", &db).await?;
    show.make("deployments", &web).await?;
    show.make("daemonsets", &agent).await?;
    show.is("daemonsets", "agent", "numberReady", OPEN_NODES + STAIRS).await?;
    show.is("statefulsets", "db", "readyReplicas", REPLICAS).await?;
    show.is("deployments", "web", "readyReplicas", SPREAD).await?;
    show.is("jobs", "gang", "succeeded", GANG).await?;
    show.is("jobs", "many", "succeeded", JOB_PODS).await
}

/// By the objects: selectors, taints and capacity; volumes; zones; who waits, and that it says why.
async fn what_there_is_is_right(client: &Client) -> Result<()> {
    let audit = audit(client).await?;
    println!("{audit}");
    audit.ensure_clean()?;
    ensure!(audit.bound == SEATS + REPLICAS + SPREAD + OPEN_NODES + STAIRS + JOB_PODS + GANG, "{} pods are bound", audit.bound);
    volumes::each_pod_is_where_its_volume_is(client, NAMESPACE, "db", REPLICAS).await?;

    let nodes: Vec<Node> = list_all(&Api::all(client.clone())).await?;
    let zone_of: BTreeMap<_, _> =
        nodes.into_iter().filter_map(|node| Some((node.metadata.name?, node.metadata.labels?.remove(ZONE)?))).collect();
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let mut zones: BTreeMap<&str, usize> = ZONES.iter().map(|zone| (*zone, 0)).collect();
    for pod in pods.list(&ListParams::default().labels("app=web")).await? {
        let node = pod.spec.and_then(|spec| spec.node_name).context("a pod of the Deployment has no node")?;
        *zones.get_mut(zone_of.get(&node).context("a node without zone")?.as_str()).context("an unknown zone")? += 1;
    }
    let skew = zones.values().max().unwrap_or(&0) - zones.values().min().unwrap_or(&0);
    ensure!(skew <= 1, "the Deployment is not spread over the zones: {zones:?}");

    let waiting = pods.list(&ListParams::default().labels("app=low")).await?.items;
    ensure!(waiting.len() == SEATS, "{} pods of the lowest priority wait", waiting.len());
    for pod in waiting {
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let says = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled").and_then(|condition| condition.message);
        let says = says.unwrap_or_default();
        ensure!(says.starts_with("0/18 nodes are available: ") && says.contains("Insufficient cpu"), "a pod waits and says {says:?}");
    }
    Ok(())
}

/// By the order of all changes: nobody came before there was room, the gang began whole, nobody had to leave without need.
async fn every_moment_was_right(client: &Client, moments: &[Moment]) -> Result<()> {
    let nodes: Vec<Node> = list_all(&Api::all(client.clone())).await?;
    let violations = crowded(&nodes, moments)?;
    ensure!(
        violations.is_empty(),
        "{} violations in {} changes: {:#?}",
        violations.len(),
        moments.len(),
        &violations[..violations.len().min(10)]
    );
    begun_whole(moments, "gang-", GANG)?;
    for (app, victims) in [("middle-", HIGH), ("web-", 0), ("db-", 0), ("agent-", 0), ("many-", 0), ("gang-", 0)] {
        let there = displaced(moments, app);
        ensure!(there == victims, "{there} pods of {app} had to leave their nodes, not {victims}");
    }
    // While the middle ones back off, low ones may take seats that high ones left, and lose them again.
    let low = displaced(moments, "low-");
    ensure!((SEATS..=SEATS + HIGH).contains(&low), "{low} pods of the lowest priority had to leave their nodes, not {SEATS}");
    println!("{} changes of pods: no node was over its allocatable at any of them, {} pods displaced", moments.len(), low + HIGH);
    Ok(())
}

/// By the API server's log: each pod bound once, nothing of ours refused but what the world made untrue meanwhile. How many bindings came too late: a pod that
/// is displaced while its binding is on the way.
async fn every_call_was_right(plane: &ControlPlane, moments: &[Moment]) -> Result<usize> {
    let bound = placed(moments).len();
    let mut log = AuditLog::of(plane.folder());
    // A pod that is bound has its line soon after; the last ones may still be on their way to the file.
    let begin = Instant::now();
    let times = loop {
        log.refresh()?;
        let times = log.times_bound();
        if times.len() >= bound || begin.elapsed() > Duration::from_secs(5) {
            break times;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ensure!(times.len() == bound, "{} pods were bound, and {bound} were seen on nodes", times.len());
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(twice.is_empty(), "bound more than once: {twice:?}");
    let mut answers: BTreeMap<(u16, String), usize> = BTreeMap::new();
    for request in log.requests.iter().filter(|request| request.user() == USER) {
        *answers.entry((request.code(), request.permission())).or_default() += 1;
    }
    let refused: BTreeMap<_, _> = answers.iter().filter(|((code, _), _)| !(200..300).contains(code)).collect();
    println!("{} calls of Isobar, of these not done: {refused:?}", answers.values().sum::<usize>());
    // A victim or a claim may have gone or changed between the decision and the call, and a server without time is no refusal; anything else is a
    // mistake of ours.
    let wrong: Vec<_> = refused.keys().filter(|(code, _)| !matches!(code, 404 | 409 | 429 | 500..)).collect();
    ensure!(wrong.is_empty(), "calls of Isobar were refused: {wrong:?}");
    let gone: BTreeSet<_> = moments.iter().filter(|moment| moment.gone).map(|moment| format!("{NAMESPACE}/{}", moment.pod)).collect();
    let refused = log.bindings().filter(|request| matches!(request.code(), 404 | 409)).map(Request::object);
    let (late, wrong): (Vec<_>, Vec<_>) = refused.partition(|pod| gone.contains(pod));
    ensure!(wrong.is_empty(), "bindings of pods that were there were refused: {wrong:?}");
    Ok(late.len())
}

/// By what Isobar says of itself.
#[allow(clippy::cast_precision_loss)] // some thousand pods
fn nothing_is_counted_that_must_not_be(page: &str, bound: usize, late: usize) -> Result<()> {
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    let counted = |name: &str, label: &str| -> f64 {
        page.lines().filter(|line| line.starts_with(name) && line.contains(label)).filter_map(value).sum()
    };
    for name in ["isobar_impossible_states_total", "isobar_decode_rejects_total"] {
        ensure!(counted(name, "") == 0.0, "Isobar counts {name}: {}", counted(name, ""));
    }
    let errors = counted("scheduler_schedule_attempts_total", "result=\"error\"");
    ensure!(errors <= late as f64, "{errors} attempts ended in an error, and {late} bindings came too late");
    // Events come last, by design: with hundreds of pods that want the same cores there are more than are ever written.
    let [dropped, sent] = ["isobar_events_dropped_total", "isobar_events_sent_total"].map(|name| counted(name, ""));
    let failed = counted("scheduler_schedule_attempts_total", "result=\"unschedulable\"");
    println!("{failed} attempts found no node; {sent} events were written, {dropped} dropped");
    let placed = counted("scheduler_schedule_attempts_total", "result=\"scheduled\"");
    ensure!((placed - bound as f64).abs() < 0.5, "Isobar counts {placed} pods that it placed, and {bound} were seen on nodes");
    Ok(())
}

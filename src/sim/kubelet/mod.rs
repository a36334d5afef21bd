//! The fake kubelet of all nodes. In: bound pods, seen through a watch. Out: containers that start, run and end, their status reported, their logs written,
//! each start recorded in the [`AuditSink`], and the end of graceful deletions. Driven by tokio's clock alone.
//!
//! What runs does not depend on the API server: when it cannot be reached, containers end in time and are reported later. [`super::behaviour`] says how a pod
//! tells what it does.

mod bound;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until};

use super::apiserver::ApiServer;
use super::audit::{AuditSink, Start};
use super::behaviour::Behaviour;
pub use super::behaviour::{EXIT_CODE, RUN_MS};
use crate::federation::names::VIRTUAL_NODE;
use bound::{BoundPod, amount};
use status::{Report, Stage};

/// How fast the kubelet is.
#[derive(Clone, Debug)]
pub struct KubeletOptions {
    /// From bound to Running: pulling images and starting containers.
    pub start_delay: Duration,
    /// From a deletion's mark to its confirmation; never longer than the grace period.
    pub stop_delay: Duration,
    /// From a container's end to its next start.
    pub restart_delay: Duration,
    /// Requests in flight at once.
    pub in_flight_max: usize,
    /// Wait before a failed request is tried again, and before missing Secrets are looked for again.
    pub retry_delay: Duration,
    /// Also tell of what goes well, as an event on the pod.
    pub started_events: bool,
}

impl Default for KubeletOptions {
    fn default() -> Self {
        Self {
            start_delay: Duration::from_millis(300),
            stop_delay: Duration::from_millis(200),
            restart_delay: Duration::from_secs(10),
            in_flight_max: 32,
            retry_delay: Duration::from_millis(500),
            started_events: false,
        }
    }
}

/// Nodes that have died: their containers are gone and nobody reports it. Cheap to clone; all clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct DeadNodes(Arc<Mutex<BTreeSet<String>>>);

impl DeadNodes {
    /// A node dies, for ever.
    pub fn kill(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_string());
    }

    fn contains(&self, node: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(node)
    }
}

/// What a kubelet exits containers with that it stops.
const STOPPED_CODE: i32 = 143;

/// What falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Admit the pod and start its containers, for the first time or again.
    Start,
    /// Containers end by themselves.
    Exit,
    /// Containers are stopped, as the pod is being deleted.
    Stop,
    /// Report the status, or confirm the deletion when that is done.
    Report,
}

/// A pod on a node.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts
struct Life {
    pod: BoundPod,
    behaviour: Behaviour,
    stage: Stage,
    last: Option<(i32, String, String)>,
    restarts: u32,
    address: u32,
    /// The status is not what was reported last.
    dirty: bool,
    /// A request is under way.
    busy: bool,
    stopping: bool,
    /// The deletion is confirmed.
    confirmed: bool,
}

type Uid = String;

/// A request of the kubelet.
enum Call {
    Status(Value),
    Confirm,
}

type Done = (Uid, Result<(), kube::Error>);

/// Runs what is bound, on all nodes.
pub struct Kubelet {
    client: Client,
    server: Arc<ApiServer>,
    audit: AuditSink,
    dead: DeadNodes,
    options: KubeletOptions,
    pods: BTreeMap<Uid, Life>,
    /// What falls due when; the number keeps equal moments apart and in order.
    agenda: BTreeMap<(Instant, u64), (Uid, Act)>,
    planned_count: u64,
    addresses: u32,
    /// How often a home pod was refused because its behaviour asks for it.
    rejections: BTreeMap<String, u32>,
    /// Events to be sent.
    news: Vec<(String, Event)>,
}

impl Kubelet {
    /// A kubelet that talks through a client; the server lends it logs and the cluster's time. [`Kubelet::run`] starts it.
    pub fn new(client: Client, server: Arc<ApiServer>, audit: AuditSink, dead: DeadNodes, options: KubeletOptions) -> Self {
        Self {
            client,
            server,
            audit,
            dead,
            options,
            pods: BTreeMap::new(),
            agenda: BTreeMap::new(),
            planned_count: 0,
            addresses: 0,
            rejections: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Works until it is dropped. Errors of the API server are waited out and tried again.
    pub async fn run(mut self) {
        let pods: Api<BoundPod> = Api::all(self.client.clone());
        let mut events = Box::pin(watcher(pods, watcher::Config::default().fields("spec.nodeName!=")));
        let mut in_flight = FuturesUnordered::new();
        let mut telling = FuturesUnordered::new();
        let mut relisted: Option<BTreeSet<Uid>> = None;
        loop {
            while in_flight.len() < self.options.in_flight_max
                && let Some((uid, act)) = self.next_due()
            {
                in_flight.extend(self.act(&uid, act).map(|call| self.send(uid, call)));
            }
            for (namespace, event) in self.news.drain(..) {
                let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
                telling.push(async move { api.create(&PostParams::default(), &event).await.map(|_| ()) });
            }
            let due = self.agenda.keys().next().map(|(due, _)| *due).filter(|_| in_flight.len() < self.options.in_flight_max);
            tokio::select! {
                biased;
                event = events.try_next() => match event {
                    Ok(Some(event)) => self.see(event, &mut relisted),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%error, "the kubelet's watch failed");
                        tokio::time::sleep(self.options.retry_delay).await;
                    }
                },
                Some((uid, done)) = in_flight.next(), if !in_flight.is_empty() => self.done(&uid, done),
                Some(_) = telling.next(), if !telling.is_empty() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn see(&mut self, event: watcher::Event<BoundPod>, relisted: &mut Option<BTreeSet<Uid>>) {
        match event {
            watcher::Event::Apply(pod) => self.see_pod(pod),
            watcher::Event::Delete(pod) => self.forget(pod.uid()),
            watcher::Event::Init => *relisted = Some(BTreeSet::new()),
            watcher::Event::InitApply(pod) => {
                relisted.get_or_insert_default().insert(pod.uid().to_string());
                self.see_pod(pod);
            }
            watcher::Event::InitDone => {
                let listed = relisted.take().unwrap_or_default();
                let gone: Vec<Uid> = self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.forget(uid));
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.server.logs().forget(uid);
    }

    fn see_pod(&mut self, pod: BoundPod) {
        let uid = pod.uid().to_string();
        if !self.pods.contains_key(&uid) {
            // Virtual Nodes have no kubelet, and Nodes that are not there have none either.
            let node = self.server.object("", "nodes", "", &pod.spec.node_name);
            if node.is_none_or(|node| node["metadata"]["labels"].get(VIRTUAL_NODE).is_some()) {
                return;
            }
            self.meet(&uid, pod.clone());
        }
        let Some(life) = self.pods.get_mut(&uid) else { return };
        let changed = life.pod.metadata.generation != pod.metadata.generation;
        life.pod = pod;
        let metadata = &life.pod.metadata;
        if metadata.deletion_timestamp.is_some() && !life.stopping {
            life.stopping = true;
            let grace = u64::try_from(metadata.deletion_grace_period_seconds.unwrap_or(0)).unwrap_or(0);
            // With no grace left the server has removed the pod, or a finalizer holds it; containers are stopped all the same.
            life.confirmed = grace == 0;
            let delay = self.options.stop_delay.min(Duration::from_secs(grace));
            self.plan(uid, Act::Stop, delay);
        } else if changed && matches!(life.stage, Stage::Running(_)) {
            self.report(&uid);
        }
    }

    /// A pod is seen for the first time.
    fn meet(&mut self, uid: &str, pod: BoundPod) {
        self.addresses = self.addresses.wrapping_add(1);
        let behaviour = pod.behaviour();
        let since = pod.status.start_time.clone();
        let stage = match pod.status.phase.as_str() {
            "Succeeded" => Stage::Ended(0, since.clone(), since),
            "Failed" => Stage::Ended(1, since.clone(), since),
            _ => Stage::Admitting,
        };
        let starts = stage == Stage::Admitting;
        let life = Life {
            pod,
            behaviour,
            stage,
            last: None,
            restarts: 0,
            address: self.addresses,
            dirty: false,
            busy: false,
            stopping: false,
            confirmed: false,
        };
        self.pods.insert(uid.to_string(), life);
        if starts {
            self.plan(uid.to_string(), Act::Start, self.options.start_delay);
        }
    }

    fn plan(&mut self, uid: Uid, act: Act, delay: Duration) {
        self.planned_count += 1;
        self.agenda.insert((Instant::now() + delay, self.planned_count), (uid, act));
    }

    fn next_due(&mut self) -> Option<(Uid, Act)> {
        let entry = self.agenda.first_entry().filter(|entry| entry.key().0 <= Instant::now())?;
        Some(entry.remove())
    }

    /// Does what fell due, and gives the request that follows from it.
    fn act(&mut self, uid: &str, act: Act) -> Option<Call> {
        let life = self.pods.get(uid).filter(|life| !self.dead.contains(&life.pod.spec.node_name))?;
        match (act, &life.stage) {
            (Act::Start, Stage::Admitting | Stage::Waiting(..) | Stage::Restarting(..)) if !life.stopping => self.start(uid),
            (Act::Exit, Stage::Running(_)) if !life.stopping => self.exit(uid, None),
            (Act::Stop, _) => self.exit(uid, Some(STOPPED_CODE)),
            _ => {}
        }
        self.next_call(uid)
    }

    fn report(&mut self, uid: &str) {
        if let Some(life) = self.pods.get_mut(uid) {
            life.dirty = true;
            self.plan(uid.to_string(), Act::Report, Duration::ZERO);
        }
    }

    /// Status first, then the confirmation; one request for a pod at a time.
    fn next_call(&mut self, uid: &str) -> Option<Call> {
        let now = self.server.clock().now_text();
        let life = self.pods.get_mut(uid).filter(|life| !life.busy)?;
        if life.dirty {
            (life.dirty, life.busy) = (false, true);
            let Life { pod, stage, restarts, address, .. } = &*life;
            let report = Report { pod, stage, last: life.last.as_ref(), restarts: *restarts, address: *address, now: &now };
            return Some(Call::Status(report.patch()));
        }
        if life.stopping && life.stage.is_over() && !life.confirmed {
            life.busy = true;
            return Some(Call::Confirm);
        }
        None
    }

    fn start(&mut self, uid: &str) {
        let now = self.server.clock().now();
        let Some(stage) = self.obstacle(uid) else { return self.start_containers(uid, now) };
        if let Stage::Waiting(reason, _) = &stage
            && reason == "CreateContainerConfigError"
        {
            self.plan(uid.to_string(), Act::Start, self.options.retry_delay);
        }
        let Some(life) = self.pods.get_mut(uid).filter(|life| life.stage != stage) else { return };
        if let Stage::Rejected(reason, message) | Stage::Waiting(reason, message) = &stage {
            let event = event_of(&life.pod, "Warning", reason, message, &self.server.clock().now_text());
            self.news.push((life.pod.namespace().to_string(), event));
        }
        life.stage = stage;
        life.dirty = true;
    }

    fn start_containers(&mut self, uid: &str, now: jiff::Timestamp) {
        let Some(life) = self.pods.get_mut(uid) else { return };
        if matches!(life.stage, Stage::Restarting(..)) {
            life.restarts += 1;
        }
        let spec = &life.pod.spec;
        self.audit.record(Start {
            home_uid: life.pod.home_uid().to_string(),
            pod: format!("{}/{}", life.pod.namespace(), life.pod.name()),
            uid: uid.to_string(),
            node: spec.node_name.clone(),
            at: now,
            restarts: life.restarts,
        });
        for container in spec.init_containers.iter().filter(|_| life.restarts == 0) {
            self.server.logs().start(uid, &container.name, now, None);
            self.server.logs().end(uid, &container.name, now, 0);
        }
        for container in &spec.containers {
            self.server.logs().start(uid, &container.name, now, life.behaviour.log_interval);
        }
        life.stage = Stage::Running(self.server.clock().now_text());
        life.dirty = true;
        if self.options.started_events {
            let event = event_of(&life.pod, "Normal", "Started", "Container started", &self.server.clock().now_text());
            self.news.push((life.pod.namespace().to_string(), event));
        }
        if let Some(run) = life.behaviour.run {
            self.plan(uid.to_string(), Act::Exit, run);
        }
    }

    /// Containers end, by themselves or stopped with a code.
    fn exit(&mut self, uid: &str, stopped: Option<i32>) {
        let (now, now_text) = (self.server.clock().now(), self.server.clock().now_text());
        let Some(life) = self.pods.get_mut(uid).filter(|life| !life.stage.is_over()) else { return };
        life.dirty = true;
        let Stage::Running(since) = &life.stage else {
            life.stage = match life.last.take() {
                Some((code, since, until)) => Stage::Ended(code, since, until),
                None => Stage::NeverStarted,
            };
            return;
        };
        let code = stopped.unwrap_or_else(|| life.behaviour.exit_code(life.restarts));
        for container in &life.pod.spec.containers {
            self.server.logs().end(uid, &container.name, now, code);
        }
        let ended = (code, since.clone(), now_text);
        let again = stopped.is_none()
            && match life.pod.spec.restart_policy.as_str() {
                "Never" => false,
                "OnFailure" => code != 0,
                _ => true,
            };
        let (code, since, until) = ended.clone();
        if again {
            life.last = Some(ended);
            life.stage = Stage::Restarting(code, since, until);
            self.plan(uid.to_string(), Act::Start, self.options.restart_delay);
        } else {
            life.stage = Stage::Ended(code, since, until);
        }
    }

    /// Why a pod cannot start now.
    fn obstacle(&mut self, uid: &str) -> Option<Stage> {
        let life = self.pods.get(uid)?;
        let (pod, node_name) = (&life.pod, &life.pod.spec.node_name);
        let before = self.rejections.get(pod.home_uid()).copied().unwrap_or(0);
        if let Some(reason) = life.behaviour.rejection(node_name, before).filter(|_| life.restarts == 0) {
            let reason = reason.to_string();
            *self.rejections.entry(pod.home_uid().to_string()).or_default() += 1;
            return Some(Stage::Rejected(reason.clone(), format!("Pod was rejected: {reason} on {node_name}")));
        }
        if let Some(node) = self.server.object("", "nodes", "", node_name) {
            if life.stage == Stage::Admitting
                && let Some(lacking) = self.lacking(uid, &node)
            {
                return Some(lacking);
            }
            let info = &node["status"]["nodeInfo"];
            let word = |field: &str, label: &str| info[field].as_str().or_else(|| node["metadata"]["labels"][label].as_str()).unwrap_or("");
            let platform = format!("{}/{}", word("operatingSystem", "kubernetes.io/os"), word("architecture", "kubernetes.io/arch"));
            if !life.behaviour.runs_on(&platform) {
                let image = pod.spec.containers.first().map(|container| container.image.as_str()).unwrap_or_default();
                let why = format!(
                    "Back-off pulling image {image:?}: ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image {image:?}: no match for platform in manifest: not found"
                );
                return Some(Stage::Waiting("ImagePullBackOff".into(), why));
            }
        }
        let missing = pod.references().into_iter().find(|(plural, name)| self.server.object("", plural, pod.namespace(), name).is_none());
        let (plural, name) = missing?;
        let kind = plural.strip_suffix('s').unwrap_or(plural);
        Some(Stage::Waiting("CreateContainerConfigError".into(), format!("{kind} {name:?} not found")))
    }

    /// What the node has not enough of.
    fn lacking(&self, uid: &str, node: &Value) -> Option<Stage> {
        let pod = &self.pods.get(uid)?.pod;
        let on_node =
            |life: &&Life| life.pod.spec.node_name == pod.spec.node_name && !life.stage.is_over() && life.stage != Stage::Admitting;
        let mut used: BTreeMap<String, i64> = BTreeMap::new();
        for life in self.pods.values().filter(on_node) {
            for (resource, requested) in life.pod.requests() {
                *used.entry(resource).or_default() += requested;
            }
        }
        let allocatable = &node["status"]["allocatable"];
        let (resource, requested) = pod.requests().into_iter().find(|(resource, requested)| {
            let capacity = allocatable.get(resource).map_or(0, |quantity| amount(resource, quantity));
            used.get(resource).copied().unwrap_or_default() + requested > capacity
        })?;
        let (used, capacity) = (used.get(&resource).copied().unwrap_or_default(), amount(&resource, &allocatable[&resource]));
        let why = format!("Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}");
        Some(Stage::Rejected(format!("OutOf{resource}"), format!("Pod was rejected: {why}")))
    }

    fn done(&mut self, uid: &str, done: Result<(), kube::Error>) {
        let Some(life) = self.pods.get_mut(uid) else { return };
        life.busy = false;
        match done {
            Ok(()) => {}
            // Gone, or another pod of the name by now: nothing of this is left to do.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                tracing::debug!(%status, "the kubelet's pod is gone");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "the kubelet tries again");
                (life.dirty, life.confirmed) = (true, false);
                self.plan(uid.to_string(), Act::Report, self.options.retry_delay);
                return;
            }
        }
        if life.dirty || (life.stopping && life.stage.is_over() && !life.confirmed) {
            self.plan(uid.to_string(), Act::Report, Duration::ZERO);
        }
    }

    /// One request, on its own so that many are in flight.
    fn send(&mut self, uid: Uid, call: Call) -> impl Future<Output = Done> + use<> {
        let life = self.pods.get_mut(&uid);
        let (namespace, name) =
            life.as_ref().map(|life| (life.pod.namespace().to_string(), life.pod.name().to_string())).unwrap_or_default();
        if let (Call::Confirm, Some(life)) = (&call, life) {
            life.confirmed = true;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        async move {
            let done = match call {
                Call::Confirm => {
                    let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: None });
                    let now = DeleteParams { preconditions, ..DeleteParams::default().grace_period(0) };
                    api.delete(&name, &now).await.map(|_| ())
                }
                Call::Status(patch) => api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(|_| ()),
            };
            (uid, done)
        }
    }
}

/// A core event about a pod.
fn event_of(pod: &BoundPod, kind: &str, reason: &str, message: &str, now: &str) -> Event {
    // The beginning of a name may end with a dash, not with a dot.
    let event = json!({"metadata": {"generateName": format!("{}-", pod.name())}, "type": kind, "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now, "source": {"component": "kubelet", "host": pod.spec.node_name}, "reportingComponent": "kubelet",
        "reportingInstance": pod.spec.node_name,
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid()}});
    serde_json::from_value(event).unwrap_or_default()
}

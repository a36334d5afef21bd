//! The fake kubelet of all nodes. In: bound pods, seen through a watch. Out: their status, moved from Pending over Running to Succeeded or Failed, and the
//! end of graceful deletions. Driven by tokio's clock alone.
//!
//! A pod says by annotations how it behaves: [`RUN_MS`] how long it runs (for ever when absent) and [`EXIT_CODE`] how it ends (0 when absent).

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until};

use super::apiserver::SimClock;

/// Annotation: milliseconds from Running to the end.
pub const RUN_MS: &str = "sim.isobar.dev/run-ms";
/// Annotation: the exit code of all containers.
pub const EXIT_CODE: &str = "sim.isobar.dev/exit-code";

/// How fast the kubelet is.
#[derive(Clone, Debug)]
pub struct KubeletOptions {
    /// From bound to Running: pulling images and starting containers.
    pub start_delay: Duration,
    /// From a deletion's mark to its confirmation; never longer than the grace period.
    pub stop_delay: Duration,
    /// Requests in flight at once.
    pub in_flight_max: usize,
    /// Wait before a failed request is tried again.
    pub retry_delay: Duration,
}

impl Default for KubeletOptions {
    fn default() -> Self {
        Self {
            start_delay: Duration::from_millis(300),
            stop_delay: Duration::from_millis(200),
            in_flight_max: 32,
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// What the kubelet reads of a pod; everything else is skipped while decoding.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Pod)]
struct BoundPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: BoundSpec,
    #[serde(default)]
    status: BoundStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BoundSpec {
    node_name: String,
    containers: Vec<BoundContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct BoundContainer {
    name: String,
    image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BoundStatus {
    phase: String,
    start_time: String,
}

/// What is done to a pod next. The order is the order of a pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Start,
    Finish,
    Remove,
}

type PodKey = (String, String);

/// A pod the kubelet knows.
#[derive(Debug)]
struct Known {
    pod: BoundPod,
    /// The act that is planned or in flight, so that a repeated event plans nothing twice.
    planned: Option<Act>,
}

/// Runs what is bound, on all nodes.
pub struct Kubelet {
    client: Client,
    clock: SimClock,
    options: KubeletOptions,
    pods: BTreeMap<PodKey, Known>,
    /// What falls due when; the number keeps equal moments apart and in order.
    agenda: BTreeMap<(Instant, u64), (PodKey, String, Act)>,
    planned_count: u64,
    /// Address of the next pod.
    addresses: u32,
}

impl Kubelet {
    /// A kubelet that talks through a client and tells the cluster's time; [`Kubelet::run`] starts it.
    pub fn new(client: Client, clock: SimClock, options: KubeletOptions) -> Self {
        Self { client, clock, options, pods: BTreeMap::new(), agenda: BTreeMap::new(), planned_count: 0, addresses: 0 }
    }

    /// Works until it is dropped. Errors of the API server are waited out and tried again.
    pub async fn run(mut self) {
        let pods: Api<BoundPod> = Api::all(self.client.clone());
        let config = watcher::Config::default().fields("spec.nodeName!=");
        let mut events = Box::pin(watcher(pods, config));
        let mut in_flight = FuturesUnordered::new();
        let mut relisted: Option<BTreeSet<PodKey>> = None;
        loop {
            while in_flight.len() < self.options.in_flight_max
                && let Some((key, uid, act)) = self.next_due()
            {
                in_flight.push(self.perform(key, uid, act));
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
                Some((key, uid, act, done)) = in_flight.next(), if !in_flight.is_empty() => self.done(&key, &uid, act, done),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn see(&mut self, event: watcher::Event<BoundPod>, relisted: &mut Option<BTreeSet<PodKey>>) {
        match event {
            watcher::Event::Apply(pod) => self.see_pod(pod),
            watcher::Event::Delete(pod) => {
                self.pods.remove(&key_of(&pod));
            }
            watcher::Event::Init => *relisted = Some(BTreeSet::new()),
            watcher::Event::InitApply(pod) => {
                if let Some(listed) = relisted {
                    listed.insert(key_of(&pod));
                }
                self.see_pod(pod);
            }
            watcher::Event::InitDone => {
                if let Some(listed) = relisted.take() {
                    self.pods.retain(|key, _| listed.contains(key));
                }
            }
        }
    }

    fn see_pod(&mut self, pod: BoundPod) {
        let key = key_of(&pod);
        if pod.spec.node_name.is_empty() {
            self.pods.remove(&key);
            return;
        }
        let known = self.pods.remove(&key).filter(|known| known.pod.metadata.uid == pod.metadata.uid);
        let mut known = Known { pod, planned: known.and_then(|known| known.planned) };
        if let Some((act, delay)) = self.next_act(&known)
            && known.planned.is_none_or(|planned| planned < act)
        {
            known.planned = Some(act);
            let uid = known.pod.metadata.uid.clone().unwrap_or_default();
            self.plan(key.clone(), uid, act, delay);
        }
        self.pods.insert(key, known);
    }

    /// What the pod's state calls for, and after what time.
    fn next_act(&self, known: &Known) -> Option<(Act, Duration)> {
        let metadata = &known.pod.metadata;
        if metadata.deletion_timestamp.is_some() {
            let grace = u64::try_from(metadata.deletion_grace_period_seconds.unwrap_or(0)).unwrap_or(0);
            // With no grace left the server removes the pod itself, or a finalizer holds it: nothing to confirm.
            return (grace > 0).then(|| (Act::Remove, self.options.stop_delay.min(Duration::from_secs(grace))));
        }
        match known.pod.status.phase.as_str() {
            "" | "Pending" => Some((Act::Start, self.options.start_delay)),
            "Running" => annotation(metadata, RUN_MS).map(|run_ms: u64| (Act::Finish, Duration::from_millis(run_ms))),
            _ => None,
        }
    }

    fn plan(&mut self, key: PodKey, uid: String, act: Act, delay: Duration) {
        self.planned_count += 1;
        self.agenda.insert((Instant::now() + delay, self.planned_count), (key, uid, act));
    }

    fn next_due(&mut self) -> Option<(PodKey, String, Act)> {
        let entry = self.agenda.first_entry().filter(|entry| entry.key().0 <= Instant::now())?;
        Some(entry.remove())
    }

    fn done(&mut self, key: &PodKey, uid: &str, act: Act, done: Result<(), kube::Error>) {
        let Some(known) = self.pods.get_mut(key).filter(|known| known.pod.metadata.uid.as_deref() == Some(uid)) else { return };
        match done {
            Ok(()) => {}
            // Gone, or another pod of the name by now: nothing of this act is left to do.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {}
            Err(error) => {
                tracing::debug!(%error, ?act, "the kubelet tries again");
                if known.planned == Some(act) {
                    self.plan(key.clone(), uid.to_string(), act, self.options.retry_delay);
                }
            }
        }
    }

    /// The request for one act, on its own so that many are in flight. Acts that the pod has outlived come back done at once.
    fn perform(
        &mut self,
        key: PodKey,
        uid: String,
        act: Act,
    ) -> impl Future<Output = (PodKey, String, Act, Result<(), kube::Error>)> + use<> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        self.addresses = self.addresses.wrapping_add(1);
        let address = self.addresses;
        let known = self.pods.get_mut(&key).filter(|known| known.pod.metadata.uid.as_deref() == Some(&uid) && known.planned == Some(act));
        let now = self.clock.now_text();
        let body = known.map(|known| match act {
            Act::Start => running(&known.pod, &now, address),
            Act::Finish => finished(&known.pod, &now),
            Act::Remove => Value::Null,
        });
        async move {
            let done = match (act, body) {
                (_, None) => Ok(()),
                (Act::Remove, Some(_)) => {
                    let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: None });
                    let now = DeleteParams { preconditions, ..DeleteParams::default().grace_period(0) };
                    api.delete(&key.1, &now).await.map(|_| ())
                }
                (_, Some(body)) => api.patch_status(&key.1, &PatchParams::default(), &Patch::Strategic(body)).await.map(|_| ()),
            };
            (key, uid, act, done)
        }
    }
}

fn key_of(pod: &BoundPod) -> PodKey {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

fn annotation<T: std::str::FromStr>(metadata: &ObjectMeta, name: &str) -> Option<T> {
    metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

fn condition(kind: &str, true_now: bool, reason: &str, now: &str) -> Value {
    let mut condition = json!({"type": kind, "status": if true_now { "True" } else { "False" }, "lastTransitionTime": now});
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    condition
}

/// The status of a pod whose containers have just started. Addresses are counted through 10.64.0.0/10, which is nobody's.
fn running(pod: &BoundPod, now: &str, address: u32) -> Value {
    let address = format!("10.{}.{}.{}", 64 + ((address >> 16) & 0x3f), (address >> 8) & 0xff, address & 0xff);
    let container = |container: &BoundContainer| {
        json!({"name": container.name, "image": container.image, "imageID": container.image, "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": now}}, "lastState": {}, "containerID": format!("sim://{}/{}", pod.metadata.uid.as_deref().unwrap_or_default(), container.name)})
    };
    let conditions: Vec<Value> = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"]
        .into_iter()
        .map(|kind| condition(kind, true, "", now))
        .collect();
    json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Running", "startTime": now, "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions, "containerStatuses": pod.spec.containers.iter().map(container).collect::<Vec<_>>()}})
}

/// The status of a pod whose containers have just ended.
fn finished(pod: &BoundPod, now: &str) -> Value {
    let exit_code: i32 = annotation(&pod.metadata, EXIT_CODE).unwrap_or(0);
    let (phase, reason) = if exit_code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
    let container = |container: &BoundContainer| {
        json!({"name": container.name, "image": container.image, "imageID": container.image, "ready": false, "started": false, "restartCount": 0, "lastState": {},
            "state": {"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": pod.status.start_time, "finishedAt": now}}})
    };
    let conditions: Vec<Value> = ["Ready", "ContainersReady"].into_iter().map(|kind| condition(kind, false, "PodCompleted", now)).collect();
    json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": phase, "conditions": conditions,
        "containerStatuses": pod.spec.containers.iter().map(container).collect::<Vec<_>>()}})
}

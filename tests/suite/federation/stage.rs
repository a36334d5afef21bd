//! A federation in memory with schedulers that come and go, and somebody who does things to it. In: deeds. Out: a world to look at.

use std::{collections::BTreeMap, time::Duration};

use http::Request;
use isobar::{
    federation::names,
    live::Stopped,
    model::time::Timestamp,
    sim::{
        SimCluster,
        faults::{Fault, Target},
        federation::{NAMESPACE, Replica, SimFederation, create},
        kubelet::KubeletOptions,
    },
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::file::{ClusterDef, Pods, span};

/// 2026-03-01T06:00:00Z.
const START: Timestamp = Timestamp(1_772_344_800_000);
/// How often replicas are looked after.
const TICK: Duration = Duration::from_millis(100);
/// A process that ended is started again after this.
const RESTART: Duration = Duration::from_secs(5);

/// `ISOBAR_LOG=1` tells everything that the schedulers log.
fn tell() {
    if std::env::var_os("ISOBAR_LOG").is_some() {
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false).try_init();
    }
}

/// All of it.
pub struct Stage {
    pub federation: SimFederation,
    pub replicas: Vec<(String, Replica)>,
    /// UIDs of home pods by name, the newest last.
    pub uids: BTreeMap<String, Vec<String>>,
    /// Kill the leader when the cluster's faults have struck so often.
    armed: Vec<(String, u64)>,
    started: u32,
    starts_due: Vec<Instant>,
}

impl Stage {
    pub async fn new(seed: u64, clusters: &BTreeMap<String, ClusterDef>, home_cpu: Option<&str>, history_max: usize) -> Self {
        tell();
        let names: Vec<String> = clusters.keys().cloned().collect();
        let mut federation = SimFederation::new(seed, START, &names, history_max).await.expect("a federation");
        if let Some(cpu) = home_cpu {
            create(federation.home(), "/api/v1/nodes", &node("home-1", cpu, "amd64")).await.expect("a node");
        }
        for (name, def) in clusters {
            for number in 1..=def.nodes {
                create(&federation.clusters()[name], "/api/v1/nodes", &node(&format!("n{number}"), &def.cpu, &def.arch))
                    .await
                    .expect("a node");
            }
            if def.register {
                federation.register(name, &def.spec).await.expect("registered");
            }
        }
        federation.start_world(&KubeletOptions { started_events: true, ..KubeletOptions::default() });
        Self { federation, replicas: Vec::new(), uids: BTreeMap::new(), armed: Vec::new(), started: 0, starts_due: Vec::new() }
    }

    pub fn start_replica(&mut self) {
        self.started += 1;
        let seed = self.federation.seed() ^ u64::from(self.started);
        let identity = format!("replica-{}", self.started);
        let replica = self.federation.start_scheduler(&identity, seed, false).expect("no thread is started");
        self.replicas.push((identity, replica));
    }

    /// The replica that the Lease names.
    fn leader(&self) -> Option<usize> {
        let lease = self.federation.home().server().object("coordination.k8s.io", "leases", NAMESPACE, "isobar")?;
        self.replicas.iter().position(|(identity, _)| lease["spec"]["holderIdentity"] == **identity)
    }

    /// Kills the leader; a new process comes a little later.
    pub fn kill_leader(&mut self) {
        let at = self.leader().unwrap_or(0);
        if at < self.replicas.len() {
            self.replicas.remove(at).1.abort();
            self.starts_due.push(Instant::now() + RESTART);
        }
    }

    /// Ends all, for so long.
    pub fn leave(&mut self, span: Duration) {
        for (_, replica) in self.replicas.drain(..) {
            replica.abort();
            self.starts_due.push(Instant::now() + span);
        }
    }

    /// Kills the leader when it sends the request that the faults of a cluster hang.
    pub fn kill_at(&mut self, on: &str, target: Target, after: bool, skip: u32) {
        let faults = self.cluster(on).faults();
        faults.scripted(target, if after { Fault::HangAfter } else { Fault::Hang }, skip, 1);
        let struck = faults.struck();
        self.armed.push((on.to_owned(), struck));
    }

    /// Lets time pass.
    pub async fn pass(&mut self, until: Instant) {
        while Instant::now() < until {
            let now = Instant::now();
            let due = self.starts_due.iter().filter(|due| **due <= now).count();
            self.starts_due.retain(|due| *due > now);
            (0..due).for_each(|_| self.start_replica());
            let struck: Vec<usize> =
                (0..self.armed.len()).filter(|at| self.cluster(&self.armed[*at].0).faults().struck() > self.armed[*at].1).collect();
            for at in struck.into_iter().rev() {
                self.armed.remove(at);
                self.kill_leader();
            }
            let ended = {
                let stops = self.replicas.iter_mut().map(|(_, replica)| Box::pin(replica.live.stopped()));
                let any = async {
                    let stops: Vec<_> = stops.collect();
                    if stops.is_empty() { std::future::pending().await } else { futures::future::select_all(stops).await }
                };
                tokio::select! {
                    biased;
                    (stopped, at, _) = any => Some((stopped, at)),
                    () = sleep_until((now + TICK).min(until)) => None,
                }
            };
            if let Some((stopped, at)) = ended {
                assert_eq!(stopped, Stopped::LeaseLost, "a part of a replica ended");
                self.replicas.remove(at).1.abort();
                self.starts_due.push(Instant::now() + RESTART);
            }
        }
    }

    pub fn cluster(&self, name: &str) -> &SimCluster {
        self.federation.cluster(name).unwrap_or_else(|| panic!("there is no cluster {name:?}"))
    }

    /// Creates home pods and notes their UIDs.
    pub async fn create(&mut self, pods: &Pods) {
        if !pods.secret.is_empty() {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": pods.secret}, "stringData": {"key": "value", "other": "not read"}});
            let path = format!("/api/v1/namespaces/{}/secrets", pods.namespace);
            let _ = create(self.federation.home(), &path, &secret).await;
        }
        for number in 1..=pods.count {
            let name = if pods.count == 1 { pods.name.clone() } else { format!("{}-{number}", pods.name) };
            let path = format!("/api/v1/namespaces/{}/pods", pods.namespace);
            let done = create(self.federation.home(), &path, &pod(pods, &name)).await;
            assert_eq!(done.is_err(), pods.refused, "{name}: {done:?}");
            let made = self.federation.home().server().object("", "pods", &pods.namespace, &name);
            if let Some(made) = made {
                self.uids.entry(name).or_default().push(text(&made["metadata"]["uid"]));
            }
        }
    }

    /// A request past all faults.
    pub async fn ask(&self, on: &str, method: &str, path: &str, body: &Value) -> Result<String, kube::Error> {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { self.filled(&body.to_string()) };
        let path = self.filled(path);
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        self.cluster(on).faultless_client().request_text(request.body(body.into_bytes()).expect("a request")).await
    }

    /// Text with what only the world knows: `$RUNS` is the namespace of runs, `$(pod)` the UID of a home pod without dashes.
    pub fn filled(&self, text: &str) -> String {
        let text = text.replace("$RUNS", &self.run_namespace());
        self.uids.iter().fold(text, |text, (name, uids)| {
            let uid = uids.last().cloned().unwrap_or_default();
            text.replace(&format!("$({name})"), &uid.replace('-', ""))
        })
    }

    /// How often each home pod was started, restarts in place not counted.
    pub fn starts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, start) in self.federation.starts().into_iter().filter(|(_, start)| start.restarts == 0) {
            *counts.entry(start.home_uid).or_default() += 1;
        }
        counts
    }

    /// The namespace of runs.
    pub fn run_namespace(&self) -> String {
        let home = self.federation.home().server().object("", "namespaces", "", "kube-system").unwrap_or_default();
        names::run_namespace(&text(&home["metadata"]["uid"]))
    }

    /// Runs in a cluster of the newest home pod of a name.
    pub fn runs_of(&self, on: &str, pod: &str) -> Vec<Value> {
        let uid = self.uids.get(pod).and_then(|uids| uids.last()).cloned().unwrap_or_default();
        let pods = self.cluster(on).server().objects("", "pods");
        pods.into_iter().filter(|pod| pod["metadata"]["labels"][names::RUN_HOME_UID] == *uid).collect()
    }

    /// Home pods by UID.
    pub fn home_pods(&self) -> BTreeMap<String, Value> {
        let pods = self.federation.home().server().objects("", "pods");
        pods.into_iter().map(|pod| (text(&pod["metadata"]["uid"]), pod)).collect()
    }

    /// A condition of a `ComputeCluster`.
    pub fn condition(&self, cluster: &str, kind: &str) -> Value {
        let object = self.federation.home().server().object("isobar.dev", "computeclusters", "", cluster).unwrap_or_default();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == *kind).unwrap_or_default()
    }

    /// Waits until clusters are ready.
    pub async fn until_ready(&mut self, clusters: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let waiting: Vec<_> = clusters.iter().filter(|cluster| self.condition(cluster, "Ready")["status"] != "True").collect();
            if waiting.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "not ready: {waiting:?}: {}", self.condition(waiting[0], "Ready"));
            let soon = Instant::now() + Duration::from_secs(1);
            self.pass(soon).await;
        }
    }

    pub fn end(mut self) {
        for (_, replica) in self.replicas.drain(..) {
            replica.abort();
        }
    }
}

pub fn node(name: &str, cpu: &str, arch: &str) -> Value {
    let amounts = json!({"cpu": cpu, "memory": "64Gi", "pods": "110"});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/arch": arch, "kubernetes.io/os": "linux", "kubernetes.io/hostname": name}},
        "status": {"capacity": amounts, "allocatable": amounts, "nodeInfo": {"architecture": arch, "operatingSystem": "linux", "kubeletVersion": "v1.37.1",
            "kernelVersion": "", "osImage": "", "containerRuntimeVersion": "", "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": ""},
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(pods: &Pods, name: &str) -> Value {
    let mut env: Vec<Value> = Vec::new();
    let mut say = |name: &str, value: &str| {
        if !value.is_empty() {
            env.push(json!({"name": name, "value": value}));
        }
    };
    if !pods.run.is_empty() {
        say("SIM_RUN_MS", &span(&pods.run).as_millis().to_string());
    }
    say("SIM_EXIT_CODE", &pods.exit);
    for (name, value) in &pods.sim {
        say(name, value);
    }
    if !pods.secret.is_empty() {
        env.push(json!({"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": pods.secret, "key": "key"}}}));
    }
    let mut annotations = json!(pods.annotations);
    if !pods.anywhere && annotations.get(names::PLACEMENT).is_none() {
        annotations[names::PLACEMENT] = "remote".into();
    }
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": pods.labels, "annotations": annotations},
        "spec": {"schedulerName": "isobar-scheduler", "restartPolicy": pods.restart, "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": pods.image, "env": env, "resources": {"requests": {"cpu": pods.cpu}}}]},
    });
    if !pods.owner.is_empty() {
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": pods.owner, "name": "owner", "uid": "00000000-0000-4000-8000-000000000001", "controller": true}]);
    }
    for (field, value) in pods.spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

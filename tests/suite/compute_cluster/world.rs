//! A home cluster and compute clusters in memory, the supervisor between them, and what it told the engine and the workers of runs.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::Engine as _;
use isobar::{
    federation::effect,
    kubernetes::{
        api::Api,
        clock::Clock,
        cluster::{
            RunCounts, RunsStart,
            access::AccessError,
            directory::ClusterDirectory,
            supervisor::{SuperviseOptions, supervise},
        },
        leadership::Leadership,
        runs::Message,
    },
    metrics::{ApiMetrics, Metrics},
    model::{cluster::ClusterFacts, time::Timestamp},
    scheduler::input::Input,
    sim::{
        SimCluster, SimOptions,
        apiserver::{AccessPolicy, ApiServerOptions, Attributes, Identity, resources::ResourceType},
    },
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::outside::ask;

pub const START: Timestamp = Timestamp(1_800_000_000_000);
pub const OWN: &str = "isobar-system";

/// What is refused: verb and resource.
#[derive(Clone, Default)]
pub struct Refused(Arc<Mutex<BTreeSet<(String, String, bool)>>>);

impl Refused {
    /// Refuses a verb on a resource, in namespaces or in all.
    pub fn add(&self, verb: &str, resource: &str, namespaced: bool) {
        self.0.lock().unwrap().insert((verb.into(), resource.into(), namespaced));
    }
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl AccessPolicy for Refused {
    fn authenticate(&self, _token: &str) -> Option<Identity> {
        None
    }
    fn authorize(&self, asked: &Attributes) -> bool {
        !self.0.lock().unwrap().contains(&(asked.verb.clone(), asked.resource.clone(), !asked.namespace.is_empty()))
    }
}

/// A compute cluster.
pub struct Remote {
    pub sim: SimCluster,
    pub refused: Refused,
}

/// All of it.
pub struct World {
    pub home: SimCluster,
    pub remotes: Vec<Arc<Remote>>,
    pub directory: ClusterDirectory,
    pub leadership: watch::Sender<Leadership>,
    pub told_engine: Arc<Mutex<Vec<Input>>>,
    pub told_runs: Arc<Mutex<Vec<String>>>,
    pub metrics: Metrics,
    tasks: JoinSet<()>,
}

impl World {
    /// Home and so many compute clusters with two nodes each; nothing is added yet.
    pub async fn new(remotes: u64) -> Self {
        let sim = |seed, access: Refused| {
            let api_server = ApiServerOptions { seed, ..ApiServerOptions::default() };
            SimCluster::new(SimOptions { api_server, access: Some(Box::new(access)), ..SimOptions::default() })
        };
        let home = sim(1, Refused::default());
        let mut kind = ResourceType::custom("isobar.dev", "v1alpha1", "ComputeCluster", "computeclusters", false, true);
        kind.short_names = vec!["cc".into()];
        home.server().register(kind);
        post(&home, "/api/v1/namespaces", &json!({"metadata": {"name": OWN}})).await;
        let mut made = Vec::new();
        for number in 1..=remotes {
            let refused = Refused::default();
            let remote = Remote { sim: sim(number + 1, refused.clone()), refused };
            for node in ["a", "b"] {
                post(&remote.sim, "/api/v1/nodes", &node_object(node, if number == 1 { "arm64" } else { "amd64" })).await;
            }
            made.push(Arc::new(remote));
        }
        let mut world = Self {
            home,
            remotes: made,
            directory: ClusterDirectory::default(),
            leadership: watch::Sender::new(Leadership::Unlimited),
            told_engine: Arc::default(),
            told_runs: Arc::default(),
            metrics: Metrics::new(),
            tasks: JoinSet::new(),
        };
        world.start();
        world
    }

    /// Starts the supervisor; again, as a restart would.
    pub fn start(&mut self) {
        self.tasks.abort_all();
        self.directory = ClusterDirectory::default();
        let (inputs, mut received) = mpsc::channel(16);
        let told = self.told_engine.clone();
        self.tasks.spawn(async move {
            while let Some(input) = received.recv().await {
                told.lock().unwrap().push(input);
            }
        });
        let (remotes, metrics) = (self.remotes.clone(), ApiMetrics::new(&self.metrics));
        let remote_metrics = metrics.clone();
        let connect = move |text: &str, _: &_| {
            let number: Option<usize> = text.split('#').next().and_then(|text| text.parse().ok());
            let client = number.and_then(|number| remotes.get(number)).map(|remote| remote.sim.client());
            let client = client.ok_or_else(|| AccessError::Unreadable(format!("{text} is no cluster")))?;
            Ok(Api::new(client, "remote", remote_metrics.clone()))
        };
        let told = self.told_runs.clone();
        let spawn_runs = move |mut start: RunsStart| -> futures::future::BoxFuture<'static, ()> {
            let told = told.clone();
            Box::pin(async move {
                start.counts.send_replace(RunCounts { active: 3, pending: 1, ended: 1, debts: 0 });
                while let Some(input) = start.inputs.recv().await {
                    let word = match input {
                        Message::Fact(effect::Input::Policy(policy)) => {
                            format!("policy drain={} abandoned={}", policy.drain.is_some(), policy.abandoned)
                        }
                        Message::Fact(other) => format!("{other:?}"),
                        Message::Entry(_) => "entry".to_owned(),
                        Message::Placed(..) => "placed".to_owned(),
                    };
                    told.lock().unwrap().push(format!("{} {word}", start.entry.name));
                }
            })
        };
        let options = SuperviseOptions {
            home: Api::new(self.home.client(), "home", metrics),
            clock: Clock::simulated(START),
            leadership: self.leadership.subscribe(),
            inputs,
            directory: self.directory.clone(),
            spawn_runs: Arc::new(spawn_runs),
            connect: Arc::new(connect),
            kubelet: watch::Sender::new(None).subscribe(),
            namespace: OWN.into(),
            metrics: self.metrics.clone(),
            seed: 7,
        };
        self.tasks.spawn(supervise(options));
    }

    /// A Secret with the kubeconfig of a compute cluster, and the object that names it.
    pub async fn add(&self, name: &str, remote: usize, more: Value) {
        self.secret(name, &remote.to_string()).await;
        let mut spec = json!({"access": {"kubeconfigSecretRef": {"namespace": OWN, "name": name}}});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let object = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": name}, "spec": spec});
        post(&self.home, "/apis/isobar.dev/v1alpha1/computeclusters", &object).await;
    }

    /// Writes a kubeconfig: the number of a compute cluster, and anything after `#`.
    pub async fn secret(&self, name: &str, text: &str) {
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        let path = format!("/api/v1/namespaces/{OWN}/secrets");
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"kubeconfig": data}});
        if self.home.server().object("", "secrets", OWN, name).is_some() {
            patch(&self.home, &format!("{path}/{name}"), &json!({"data": {"kubeconfig": data}})).await;
        } else {
            post(&self.home, &path, &object).await;
        }
    }

    pub async fn change(&self, name: &str, spec: Value) {
        patch(&self.home, &format!("/apis/isobar.dev/v1alpha1/computeclusters/{name}"), &json!({"spec": spec})).await;
    }

    pub async fn delete(&self, name: &str) {
        delete(&self.home, &format!("/apis/isobar.dev/v1alpha1/computeclusters/{name}")).await;
    }

    pub fn object(&self, name: &str) -> Option<Value> {
        self.home.server().object("isobar.dev", "computeclusters", "", name)
    }

    /// `status reason` of a condition.
    pub fn condition(&self, name: &str, kind: &str) -> String {
        let object = self.object(name).unwrap_or_default();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        format!("{} {}", found["status"].as_str().unwrap_or_default(), found["reason"].as_str().unwrap_or_default())
    }

    pub fn message(&self, name: &str, kind: &str) -> String {
        let object = self.object(name).unwrap_or_default();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        found["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a condition says so.
    pub async fn until(&self, name: &str, kind: &str, wanted: &str, seconds: u64) {
        let begin = Instant::now();
        while self.condition(name, kind) != wanted {
            let object = || serde_json::to_string_pretty(&self.object(name).unwrap_or_default()["status"]).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(seconds), "{name} {kind} is not {wanted} after {seconds} s: {}", object());
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub fn virtual_node(&self, name: &str) -> Option<Value> {
        self.home.server().object("", "nodes", "", &format!("isobar-{name}"))
    }

    /// What the engine was last told of a cluster.
    pub fn facts(&self, name: &str) -> Option<ClusterFacts> {
        let told = self.told_engine.lock().unwrap();
        told.iter().rev().find_map(|input| match input {
            Input::Cluster(facts) if *facts.name == *name => Some((**facts).clone()),
            _ => None,
        })
    }

    pub fn closed(&self, name: &str) -> Option<String> {
        self.facts(name).and_then(|facts| facts.closed.map(String::from))
    }

    pub fn runs_were_told(&self, word: &str) -> bool {
        self.told_runs.lock().unwrap().iter().any(|told| told == word)
    }
}

pub fn node_object(name: &str, architecture: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/arch": architecture}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", "nvidia.com/gpu": "1"}, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A run of ours over there, and its bundle.
pub async fn post_run(world: &World, remote: usize, namespace: &str, name: &str) {
    let home_uid = world.home.server().object("", "namespaces", "", "kube-system").unwrap()["metadata"]["uid"].clone();
    let labels = json!({"isobar.dev/home-cluster": home_uid, "isobar.dev/home-pod-uid": format!("uid-of-{name}")});
    let metadata = json!({
        "name": name, "labels": labels, "finalizers": ["isobar.dev/run"],
        "annotations": {"isobar.dev/home-namespace": "default", "isobar.dev/home-name": name},
    });
    let sim = &world.remotes[remote].sim;
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    post(sim, &format!("/api/v1/namespaces/{namespace}/pods"), &json!({"metadata": metadata, "spec": spec})).await;
    post(sim, &format!("/api/v1/namespaces/{namespace}/secrets"), &json!({"metadata": {"name": name, "labels": labels}})).await;
}

pub async fn post(cluster: &SimCluster, path: &str, object: &Value) -> Value {
    ask(cluster, "POST", path, object).await
}

pub async fn patch(cluster: &SimCluster, path: &str, object: &Value) -> Value {
    ask(cluster, "PATCH", path, object).await
}

pub async fn delete(cluster: &SimCluster, path: &str) -> Value {
    ask(cluster, "DELETE", path, &json!({"gracePeriodSeconds": 0})).await
}

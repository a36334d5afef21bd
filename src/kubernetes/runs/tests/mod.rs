//! Two in-memory clusters, home and cloud, under paused time: effects one by one, whole lives of pods, and how many runs a second.

mod create;
mod effects;
mod life;
mod logs;
mod throughput;

use std::{sync::Arc, time::Duration};

use http::{Method, Request};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{LogStore, Message, RunsContext, execute::Executor, logs::LogDesk, placing::Placings, port::Port, worker};
use crate::{
    federation::{
        effect::{Contact, Effect, Input, Order, OrderId, Outcome, Policy},
        facts::{Decision, RunName},
        names,
        spec::{ComputeClusterSpec, Drain},
    },
    kubernetes::{
        api::Api,
        bind::Binder,
        clock::Clock,
        cluster::{RunCounts, directory::ClusterEntry},
        events::event_desk,
        leadership::{Leadership, Permission},
        patch::ConditionDesk,
    },
    metrics::{ApiMetrics, Metrics, RunsMetrics},
    model::{
        ids::{ClusterId, PodKey, PodUid},
        time::Timestamp,
    },
    scheduler::input::Input as EngineInput,
    sim::{SimCluster, SimOptions, behaviour::variable, kubelet::KubeletOptions},
};

const RUNS: &str = "isobar-runs";
const HOME_UID: &str = "home-uid";
const CLOUD_UID: &str = "cloud-uid";

/// Home, a compute cluster, and how we see both.
struct World {
    home: SimCluster,
    cloud: SimCluster,
    metrics: Metrics,
    leadership: watch::Sender<Leadership>,
    entry: Arc<ClusterEntry>,
    messages: Option<mpsc::UnboundedReceiver<Message>>,
    engine: mpsc::Sender<EngineInput>,
    /// What the engine was told.
    told: mpsc::Receiver<EngineInput>,
    store: Option<Arc<dyn LogStore>>,
    tasks: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(ComputeClusterSpec::default()).await
    }

    async fn with(spec: ComputeClusterSpec) -> Self {
        let (home, cloud) = (SimCluster::new(SimOptions::default()), SimCluster::new(SimOptions::default()));
        let metrics = Metrics::new();
        let (runs, messages) = mpsc::unbounded_channel();
        let (engine, told) = mpsc::channel(65_536);
        let entry = Arc::new(entry(api(&cloud, &metrics), spec, runs));
        let (leadership, _) = watch::channel(Leadership::Unlimited);
        let world =
            Self { home, cloud, metrics, leadership, entry, messages: Some(messages), engine, told, store: None, tasks: JoinSet::new() };
        world.at(&world.cloud, Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": RUNS}})).await;
        for (cluster, node) in [(&world.home, "isobar-cloud"), (&world.cloud, "n1"), (&world.cloud, "n2")] {
            let status = json!({"allocatable": {"cpu": "100", "memory": "100Gi", "pods": "5000"}, "nodeInfo": {"architecture": "arm64"}});
            world.at(cluster, Method::POST, "/api/v1/nodes", &json!({"metadata": {"name": node}, "status": status})).await;
        }
        world
    }

    /// A request that no fault reaches. Null when it failed.
    async fn at(&self, cluster: &SimCluster, method: Method, path: &str, body: &Value) -> Value {
        let content_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", content_type).body(body).unwrap();
        cluster.faultless_client().request::<Value>(request).await.unwrap_or(Value::Null)
    }

    async fn get(&self, cluster: &SimCluster, path: &str) -> Value {
        self.at(cluster, Method::GET, path, &Value::Null).await
    }

    fn permission(&self) -> Permission {
        Permission::new(self.leadership.subscribe())
    }

    fn executor(&self) -> Executor {
        let metrics = RunsMetrics::new(&self.metrics, "cloud");
        let home = api(&self.home, &self.metrics);
        Executor {
            entry: self.entry.clone(),
            home: Port::new(&home, self.permission(), 64),
            remote: Port::new(&self.entry.api, self.permission(), 64),
            binder: Binder::new(home, self.permission(), ConditionDesk::default()),
            placings: Placings::new(self.engine.clone()),
            logs: LogDesk::new(self.store.clone(), metrics.clone()),
            metrics,
        }
    }

    /// Starts a worker, as a new leader does. Ends with the returned set.
    fn worker(&mut self) -> JoinSet<()> {
        let home = api(&self.home, &self.metrics);
        let clock = clock();
        let (events, writer) = event_desk(home.while_permitted(self.permission()), clock, "here", 100.0);
        let messages = self.messages.take().unwrap_or_else(|| {
            let (runs, messages) = mpsc::unbounded_channel();
            self.entry = Arc::new(entry(self.entry.api.clone(), (*self.entry.spec).clone(), runs));
            messages
        });
        let context = RunsContext {
            home: home.clone(),
            entry: self.entry.clone(),
            inputs: messages,
            policy: policy(&self.entry),
            engine: self.engine.clone(),
            logs: self.store.clone(),
            events,
            binder: Binder::new(home, self.permission(), ConditionDesk::default()),
            permission: self.permission(),
            leadership: self.leadership.subscribe(),
            clock,
            counts: watch::channel(RunCounts::default()).0,
            metrics: RunsMetrics::new(&self.metrics, "cloud"),
            seed: 1,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run());
        tasks.spawn(worker::run(context));
        self.tell(Input::Contact(Contact::Reachable));
        tasks
    }

    /// Runs what is bound over there.
    fn kubelet(&mut self) {
        let kubelet = self.cloud.kubelet(KubeletOptions::default());
        self.tasks.spawn(kubelet.run());
    }

    fn tell(&self, fact: Input) {
        self.entry.runs.send(fact.into()).unwrap();
    }

    async fn pod(&self, name: &str, restart_policy: &str, annotations: Value) -> Placed {
        // How it behaves travels in the environment only.
        let behaviour: Vec<Value> = annotations
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.starts_with("sim."))
            .map(|(key, value)| json!({"name": variable(key), "value": value}))
            .collect();
        let spec = json!({
            "restartPolicy": restart_policy, "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "main", "image": "app", "env": behaviour, "resources": {"requests": {"cpu": "100m"}}}],
        });
        self.pod_of(name, annotations, spec).await
    }

    async fn pod_of(&self, name: &str, annotations: Value, spec: Value) -> Placed {
        let pod = json!({"metadata": {"name": name, "namespace": "default", "annotations": annotations}, "spec": spec});
        let pod = self.at(&self.home, Method::POST, "/api/v1/namespaces/default/pods", &pod).await;
        let (key, uid) = (PodKey::new("default", name), PodUid::from(pod["metadata"]["uid"].as_str().expect("a pod was created")));
        let decision = decision(&key, &uid, 1);
        Placed { key, uid, decision }
    }

    async fn home_pod(&self, pod: &Placed) -> Value {
        self.get(&self.home, &format!("/api/v1/namespaces/default/pods/{}", pod.key.name)).await
    }

    async fn run_of(&self, pod: &Placed) -> Value {
        self.get(&self.cloud, &run_path(pod)).await
    }

    /// A bound pod whose run is there.
    async fn running(&self, name: &str) -> Placed {
        let pod = self.pod(name, "Never", json!({})).await;
        let executor = self.executor();
        assert_eq!(executor.carry_out(&pod.order(Effect::Bind(pod.decision.clone()))).await, Outcome::Done);
        let created = executor.carry_out(&pod.order(Effect::CreateRun(pod.decision.clone()))).await;
        assert!(matches!(created, Outcome::Run(_)), "{created:?}");
        pod
    }

    /// Waits until something holds; ten minutes at most, as a finished run is kept for a while.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..1200 {
            if holds(self).await {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
        panic!("not within ten minutes: {what}");
    }
}

/// A pod with its decision.
#[derive(Clone, Debug)]
struct Placed {
    key: PodKey,
    uid: PodUid,
    decision: Decision,
}

impl Placed {
    fn order(&self, effect: Effect) -> Order {
        Order { id: OrderId(1), home: self.key.clone(), uid: self.uid.clone(), effect }
    }

    fn place(&self) -> Input {
        Input::Place { key: self.key.clone(), uid: self.uid.clone(), node: "n1".into(), attempt: 1, resumes: false, earlier_binding: None }
    }
}

fn decision(key: &PodKey, uid: &PodUid, attempt: u32) -> Decision {
    let run = RunName { namespace: RUNS.into(), name: names::run_name(key, uid, attempt).into() };
    Decision { cluster: "cloud".into(), cluster_uid: CLOUD_UID.into(), node: "n1".into(), attempt, run }
}

fn run_path(pod: &Placed) -> String {
    format!("/api/v1/namespaces/{RUNS}/pods/{}", pod.decision.run.name)
}

fn clock() -> Clock {
    Clock::simulated(Timestamp(0))
}

fn api(cluster: &SimCluster, metrics: &Metrics) -> Api {
    Api::new(cluster.client(), "sim:1", ApiMetrics::new(metrics))
}

fn entry(api: Api, spec: ComputeClusterSpec, runs: mpsc::UnboundedSender<Message>) -> ClusterEntry {
    ClusterEntry {
        id: ClusterId(1),
        name: "cloud".into(),
        uid: CLOUD_UID.into(),
        home_uid: HOME_UID.into(),
        virtual_node: "isobar-cloud".into(),
        run_namespace: RUNS.into(),
        spec: Arc::new(spec),
        api,
        runs,
    }
}

fn policy(entry: &ClusterEntry) -> Policy {
    Policy {
        cluster: entry.name.clone(),
        cluster_uid: entry.uid.clone(),
        run_namespace: entry.run_namespace.clone(),
        commit: entry.spec.commit_order(),
        lost: entry.spec.lost.clone(),
        drain: None::<Drain>,
        abandoned: false,
        archive_logs: true,
    }
}

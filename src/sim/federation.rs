//! A service cluster and compute clusters in memory. In: names, a seed, and what a kubeconfig would say. Out: everything that [`Live::start_federated`] wants,
//! a world that goes on by itself around it (kubelets, schedulers, controllers), and audits over all of it.
//!
//! A kubeconfig is checked as strictly as any; the first word of its server's name is the cluster that it leads to: `https://cloud.sim`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::apiserver::ApiServerOptions;
use super::audit::{Start, started_twice};
use super::controllers::control_nodes;
use super::faults::Faults;
use super::kubelet::KubeletOptions;
use super::pin::bind_pinned;
use super::{SimCluster, SimOptions};
use crate::config::{self, defaults::OWN_SCHEDULER_NAME};
use crate::driver::Machine;
use crate::federation::names;
use crate::kubernetes::api::Api;
use crate::kubernetes::clock::Clock;
use crate::kubernetes::cluster::access::{self, AccessError};
use crate::kubernetes::cluster::{Connect, crd, directory::ClusterDirectory};
use crate::kubernetes::election::ElectionSettings;
use crate::kubernetes::runs::{LogBody, LogOf, LogStore};
use crate::kubernetes::tasks::{KeptLog, RunLogs};
use crate::live::{FederationOptions, ImageQuestion, Live, LiveOptions};
use crate::metrics::{ApiMetrics, Metrics};
use crate::model::ids::{PodKey, PodUid};
use crate::model::image::Platforms;
use crate::model::time::Timestamp;
use crate::scheduler::engine::{Engine, EngineSettings};
use crate::scheduler::input::Input;
use crate::scheduler::observe::{Gauges, Silent};
use crate::scheduler::profile::ProfileSpec;
use crate::scheduler::profiles::OutOfTree;
use crate::scheduler::registry::Registry;

/// Our own namespace at home.
pub const NAMESPACE: &str = "isobar-system";
/// Kubeconfigs' Secrets have one key.
const KEY: &str = "kubeconfig";

/// Everything.
pub struct SimFederation {
    home: SimCluster,
    clusters: BTreeMap<String, SimCluster>,
    images: Images,
    logs: KeptLogs,
    clock: Clock,
    seed: u64,
    world: JoinSet<()>,
}

/// A scheduler at work on a federation.
pub struct Replica {
    /// The scheduler.
    pub live: Live,
    /// What it counts.
    pub metrics: Metrics,
    images: tokio::task::JoinHandle<()>,
}

impl Replica {
    /// Ends at once, as a crash would.
    pub fn abort(self) {
        self.images.abort();
        self.live.abort();
    }

    /// Ends in good order.
    pub async fn shut_down(self) {
        self.images.abort();
        self.live.shut_down().await;
    }
}

impl SimFederation {
    /// Clusters without nodes; `home` is there by itself. Each has its own identity and plan of faults, from the one seed.
    pub async fn new(seed: u64, start: Timestamp, names: &[String], history_max: usize) -> Result<Self, kube::Error> {
        let epoch = i64::try_from(start.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        let cluster = |number: u64| {
            let seed = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let api_server = ApiServerOptions { seed, epoch, history_max, ..ApiServerOptions::default() };
            SimCluster::new(SimOptions { api_server, faults: Some(Faults::seeded(seed)), ..SimOptions::default() })
        };
        let clusters = names.iter().zip(2..).map(|(name, number)| (name.clone(), cluster(number))).collect();
        let home = cluster(1);
        let federation = Self {
            home,
            clusters,
            images: Images::default(),
            logs: KeptLogs::default(),
            clock: Clock::simulated(start),
            seed,
            world: JoinSet::new(),
        };
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        create(&federation.home, definitions, &crd::definition()).await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        create(&federation.home, "/api/v1/namespaces", &namespace).await?;
        Ok(federation)
    }

    /// The service cluster.
    pub fn home(&self) -> &SimCluster {
        &self.home
    }

    /// The compute clusters by name.
    pub fn clusters(&self) -> &BTreeMap<String, SimCluster> {
        &self.clusters
    }

    /// `home` or a compute cluster.
    pub fn cluster(&self, name: &str) -> Option<&SimCluster> {
        if name == names::HOME_CLUSTER { Some(&self.home) } else { self.clusters.get(name) }
    }

    /// What registries say about images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Logs that came home.
    pub fn logs(&self) -> &KeptLogs {
        &self.logs
    }

    /// Everybody's time.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Starts kubelets everywhere, schedulers of compute clusters and controllers at home.
    pub fn start_world(&mut self, options: &KubeletOptions) {
        for cluster in std::iter::once(&self.home).chain(self.clusters.values()) {
            self.world.spawn(cluster.kubelet(options.clone()).run());
        }
        for cluster in self.clusters.values() {
            self.world.spawn(bind_pinned(cluster.clone()));
        }
        self.world.spawn(control_nodes(self.home.clone()));
    }

    /// Registers a compute cluster at home: a Secret and a `ComputeCluster` with `spec` beside its access.
    pub async fn register(&self, name: &str, spec: &Value) -> Result<(), kube::Error> {
        let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
        create(&self.home, &secrets, &kubeconfig_secret(name, &kubeconfig(name))).await?;
        create(&self.home, "/apis/isobar.dev/v1alpha1/computeclusters", &compute_cluster(name, spec)).await
    }

    /// The scheduler of `isobar run` on this federation, with the default profile for pods that name [`OWN_SCHEDULER_NAME`], one of those that a Lease chooses
    /// the leader from.
    pub fn start_scheduler(&self, identity: &str, seed: u64, own_thread: bool) -> std::io::Result<Replica> {
        let configuration = config::load(&[], &Registry::in_tree()).map_err(std::io::Error::other)?;
        let named = |profile| ProfileSpec { scheduler_name: OWN_SCHEDULER_NAME.to_owned(), ..profile };
        let profiles = configuration.profiles.into_iter().take(1).map(named).collect();
        let settings = EngineSettings { seed, ..EngineSettings::default() };
        let engine = Engine::new(profiles, OutOfTree::default(), settings, Box::new(Silent)).map_err(std::io::Error::other)?;
        let election = Some(ElectionSettings::new(identity.to_owned(), NAMESPACE, "isobar"));
        let options = LiveOptions { election, seed, own_thread, hostname: identity.to_owned(), ..LiveOptions::default() };
        self.start_replica(engine, &options)
    }

    /// A scheduler on this federation, with what it shares with no other.
    pub fn start_replica<M>(&self, machine: M, options: &LiveOptions) -> std::io::Result<Replica>
    where
        M: Machine + Send + 'static,
    {
        let metrics = Metrics::new();
        let api_metrics = ApiMetrics::new(&metrics);
        let (images, questions) = mpsc::channel(1024);
        let federation = FederationOptions {
            connect: self.connect(api_metrics.clone()),
            kubelet: watch::channel(None).1,
            logs: Some(Arc::new(self.logs.clone())),
            images: Some(images),
            namespace: NAMESPACE.to_owned(),
            metrics: metrics.clone(),
            directory: ClusterDirectory::default(),
        };
        let home = Api::new(self.home.client(), "home.sim:443", api_metrics);
        let live = Live::start_federated(&home, self.clock, machine, |_: &Gauges| {}, options, Some(&federation))?;
        let images = tokio::spawn(self.images.clone().answer(questions, live.inputs.clone()));
        Ok(Replica { live, metrics, images })
    }

    /// Clients of the clusters that kubeconfigs lead to.
    pub fn connect(&self, metrics: ApiMetrics) -> Connect {
        let clusters = self.clusters.clone();
        Arc::new(move |text: &str, _: &_| {
            access::check(text)?;
            let host = text.split("https://").nth(1).unwrap_or_default();
            let name = host.split(['.', ':', '\n']).next().unwrap_or_default();
            let cluster = clusters.get(name).ok_or_else(|| AccessError::Setup(format!("there is no cluster {name:?}")))?;
            Ok(Api::new(cluster.client(), name, metrics.clone()))
        })
    }

    /// Everything that was ever started, anywhere, with the cluster.
    pub fn starts(&self) -> Vec<(String, Start)> {
        let everywhere =
            std::iter::once((names::HOME_CLUSTER, &self.home)).chain(self.clusters.iter().map(|(name, cluster)| (&**name, cluster)));
        everywhere.flat_map(|(name, cluster)| cluster.audit().starts().into_iter().map(move |start| (name.to_owned(), start))).collect()
    }

    /// Home pods that were started in more than one place.
    pub fn started_twice(&self) -> Vec<(String, Vec<String>)> {
        started_twice(std::iter::once(self.home.audit()).chain(self.clusters.values().map(SimCluster::audit)))
    }

    /// What bears our labels in a compute cluster: pods and Secrets, as `kind namespace/name`.
    pub fn leftovers(&self, name: &str) -> Vec<String> {
        let Some(cluster) = self.clusters.get(name) else { return Vec::new() };
        let objects = ["pods", "secrets"].into_iter().flat_map(|plural| {
            let found = cluster.server().objects("", plural).into_iter();
            found.map(move |object| (plural, object))
        });
        let ours = |object: &Value| object["metadata"]["labels"].get(names::RUN_HOME_CLUSTER).is_some();
        objects
            .filter(|(_, object)| ours(object))
            .map(|(plural, object)| {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                format!("{plural} {}/{}", text("namespace"), text("name"))
            })
            .collect()
    }

    /// The seed of all this.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// A kubeconfig that leads to a simulated cluster.
pub fn kubeconfig(name: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": format!("https://{name}.sim")}}],
        "users": [{"name": name, "user": {"token": "simulated"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    })
    .to_string()
}

/// The Secret that holds a kubeconfig.
pub fn kubeconfig_secret(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": {KEY: STANDARD.encode(text)}})
}

/// The object that names it.
pub fn compute_cluster(name: &str, spec: &Value) -> Value {
    let mut spec = if spec.is_object() { spec.clone() } else { json!({}) };
    spec["access"] = json!({"kubeconfigSecretRef": {"namespace": NAMESPACE, "name": name, "key": KEY}});
    json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": name}, "spec": spec})
}

/// Creates an object past all faults.
pub async fn create(cluster: &SimCluster, collection: &str, object: &Value) -> Result<(), kube::Error> {
    let request = http::Request::post(collection).header("content-type", "application/json").body(object.to_string().into_bytes());
    cluster.faultless_client().request_text(request.map_err(kube::Error::HttpError)?).await.map(|_| ())
}

/// What registries know of images: all platforms unless told otherwise. Cheap to clone; all clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Images(Arc<Mutex<BTreeMap<String, Platforms>>>);

impl Images {
    /// Says which platforms an image has.
    pub fn set(&self, image: &str, platforms: Platforms) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned(), platforms);
    }

    fn platforms(&self, image: &str) -> Platforms {
        let both = || Platforms::Known(vec!["linux/amd64".into(), "linux/arm64".into()]);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(image).cloned().unwrap_or_else(both)
    }

    async fn answer(self, mut questions: mpsc::Receiver<ImageQuestion>, engine: mpsc::Sender<Input>) {
        while let Some((_, images)) = questions.recv().await {
            for image in images {
                let platforms = self.platforms(&image);
                if engine.send(Input::ImagePlatforms(image, platforms)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Logs that came home, kept in memory. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct KeptLogs(Arc<Mutex<Logs>>);

/// UID of the home pod, container and whether it is its previous life, to the text and whether it is whole.
type Logs = BTreeMap<(String, String, bool), (String, bool)>;

impl KeptLogs {
    /// Home pods (UIDs) of which a log is kept.
    pub fn pods(&self) -> BTreeSet<String> {
        self.lock(|logs| logs.keys().map(|(uid, ..)| uid.clone()).collect())
    }

    /// How many logs there are of each home pod (by UID), and their bytes.
    pub fn sizes(&self) -> BTreeMap<String, (usize, usize)> {
        let mut sizes: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        self.lock(|logs| {
            for ((uid, ..), (text, _)) in &*logs {
                let size = sizes.entry(uid.clone()).or_default();
                *size = (size.0 + 1, size.1 + text.len());
            }
        });
        sizes
    }

    /// One log.
    pub fn text(&self, uid: &str, container: &str) -> Option<String> {
        self.lock(|logs| logs.get(&(uid.to_owned(), container.to_owned(), false)).map(|(text, _)| text.clone()))
    }

    fn lock<T>(&self, look: impl FnOnce(&mut Logs) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogStore for KeptLogs {
    fn keep(&self, log: LogOf, mut body: LogBody) -> BoxFuture<'_, Result<(u64, bool), String>> {
        async move {
            let (mut text, mut whole) = (String::new(), true);
            while let Some(piece) = body.next().await {
                if let Ok(piece) = piece {
                    text.push_str(&String::from_utf8_lossy(&piece));
                } else {
                    whole = false;
                    break;
                }
            }
            let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
            self.lock(|logs| logs.insert((log.uid.0.to_string(), log.container.to_string(), log.previous), (text, whole)));
            Ok((bytes, whole))
        }
        .boxed()
    }
}

impl RunLogs for KeptLogs {
    fn keep(&self, log: LogOf, body: LogBody, _: u64) -> BoxFuture<'_, Result<KeptLog, String>> {
        async move {
            LogStore::keep(self, log.clone(), body).await?;
            RunLogs::kept(self, &log).await?.ok_or_else(|| "it was dropped at once".to_owned())
        }
        .boxed()
    }

    fn kept<'a>(&'a self, log: &'a LogOf) -> BoxFuture<'a, Result<Option<KeptLog>, String>> {
        let found = self.lock(|logs| logs.get(&(log.uid.0.to_string(), log.container.to_string(), log.previous)).cloned());
        let kept = |(text, complete): (String, bool)| KeptLog {
            bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
            sha256: Sha256::digest(text.as_bytes()).into(),
            complete,
        };
        async move { Ok(found.map(kept)) }.boxed()
    }

    fn address(&self, pod: &PodKey, uid: &PodUid) -> String {
        format!("memory://{}/{}_{}", pod.namespace, pod.name, uid.0)
    }
}

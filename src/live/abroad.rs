//! The federation of a live scheduler: the supervisor of compute clusters, the workers of their runs, and the way there for the engine's commands. In: what
//! connects, keeps logs and looks up images. Out: parts that run until they are dropped, and a desk for commands that concern a compute cluster.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

use crate::{
    federation::effect,
    kubernetes::{
        api::Api,
        bind::Binder,
        clock::Clock,
        cluster::{
            Connect, RunsStart, SpawnRuns,
            directory::ClusterDirectory,
            supervisor::{SuperviseOptions, supervise},
            virtual_node::KubeletAddress,
        },
        events::EventDesk,
        leadership::{Leadership, Permission},
        runs::{self, LogStore, Message, RunsContext},
    },
    metrics::{Metrics, RunsMetrics},
    model::{
        ids::{ClusterId, PodUid},
        image::Platforms,
    },
    scheduler::input::{BindFailure, BindOrder, Input, PodRef},
};

/// What a federation is made of beyond a scheduler.
#[derive(Clone)]
pub struct FederationOptions {
    /// Makes connections of kubeconfigs.
    pub connect: Connect,
    /// Where the kubelet endpoint is, once it is known.
    pub kubelet: watch::Receiver<Option<KubeletAddress>>,
    /// Where logs are kept, if they are.
    pub logs: Option<Arc<dyn LogStore>>,
    /// Who finds out about platforms of images; nobody leaves them unknown.
    pub images: Option<mpsc::Sender<ImageQuestion>>,
    /// Our own namespace at home.
    pub namespace: String,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Which clusters are connected: shared with the kubelet endpoint.
    pub directory: ClusterDirectory,
}

/// Images of a pod, to be looked up.
pub type ImageQuestion = (PodRef, Vec<Box<str>>);

/// What the federation shares with the rest of a live scheduler.
pub(super) struct Shared {
    pub(super) home: Api,
    pub(super) clock: Clock,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) engine: mpsc::Sender<Input>,
    pub(super) events: EventDesk,
    pub(super) binder: Binder,
    pub(super) seed: u64,
}

/// The supervisor, with workers that share what the scheduler has.
pub(super) fn supervisor(options: &FederationOptions, shared: Shared) -> impl Future<Output = ()> + Send + use<> {
    let metrics = options.metrics.clone();
    let (home, clock, leadership, inputs, seed) =
        (shared.home.clone(), shared.clock, shared.leadership.clone(), shared.engine.clone(), shared.seed);
    let logs = options.logs.clone();
    let spawn_runs: SpawnRuns = Arc::new(move |start| worker(start, &shared, logs.clone(), &metrics));
    supervise(SuperviseOptions {
        home,
        clock,
        leadership,
        inputs,
        directory: options.directory.clone(),
        spawn_runs,
        connect: options.connect.clone(),
        kubelet: options.kubelet.clone(),
        namespace: options.namespace.clone(),
        metrics: options.metrics.clone(),
        seed,
    })
}

fn worker(start: RunsStart, shared: &Shared, logs: Option<Arc<dyn LogStore>>, metrics: &Metrics) -> BoxFuture<'static, ()> {
    let seed = shared.seed ^ (u64::from(start.entry.id.0) << 32);
    let metrics = RunsMetrics::new(metrics, &start.entry.name);
    runs::run(RunsContext {
        home: shared.home.clone(),
        entry: start.entry,
        inputs: start.inputs,
        policy: start.policy,
        engine: shared.engine.clone(),
        logs,
        events: shared.events.clone(),
        binder: shared.binder.clone(),
        permission: Permission::new(shared.leadership.clone()),
        leadership: shared.leadership.clone(),
        clock: shared.clock,
        counts: start.counts,
        metrics,
        seed,
    })
    .boxed()
}

/// Takes the engine's commands about compute clusters to their workers. It is asked on the engine's thread and never waits.
#[derive(Clone)]
pub(super) struct Dispatch {
    directory: ClusterDirectory,
    images: Option<mpsc::Sender<ImageQuestion>>,
    /// Answers of our own, where there is no worker to give one.
    answers: mpsc::UnboundedSender<Input>,
}

impl Dispatch {
    /// A desk, and the part that brings its own answers back to the engine.
    pub(super) fn new(options: Option<&FederationOptions>, engine: mpsc::Sender<Input>) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (answers, mut answered) = mpsc::unbounded_channel();
        let forward = async move {
            while let Some(answer) = answered.recv().await {
                if engine.send(answer).await.is_err() {
                    return;
                }
            }
        };
        let directory = options.map(|options| options.directory.clone()).unwrap_or_default();
        (Self { directory, images: options.and_then(|options| options.images.clone()), answers }, forward)
    }

    /// A pod has its node in a compute cluster.
    pub(super) fn place(&self, order: BindOrder) {
        let BindOrder { pod, node, run_attempt, resumes, earlier_binding, .. } = order;
        let uid = pod.uid.clone();
        let place = effect::Input::Place { key: pod.key, uid: pod.uid, node: node.name, attempt: run_attempt, resumes, earlier_binding };
        if !self.tell(node.cluster, place.into()) {
            // The cluster went as the decision was made: the pod is decided about anew.
            let _ = self.answers.send(Input::BindFailed(uid, BindFailure::NotSent));
        }
    }

    /// The engine named another node, or none. A worker that is gone asks again when it is back.
    pub(super) fn placed_again(&self, uid: PodUid, cluster: ClusterId, node: Option<Box<str>>) {
        self.tell(cluster, Message::Placed(uid, node));
    }

    /// Somebody should look up images. Where nobody does, or too many questions wait, nobody waits for an answer.
    pub(super) fn resolve(&self, pod: PodRef, images: Vec<Box<str>>) {
        let (images, why) = match &self.images {
            None => (images, "images are not looked up"),
            Some(desk) => match desk.try_send((pod, images)) {
                Ok(()) => return,
                Err(TrySendError::Full((_, images)) | TrySendError::Closed((_, images))) => (images, "too many images are being looked up"),
            },
        };
        for image in images {
            let _ = self.answers.send(Input::ImagePlatforms(image, Platforms::Unknown(why.into())));
        }
    }

    fn tell(&self, cluster: ClusterId, message: Message) -> bool {
        self.directory.get(cluster).is_some_and(|entry| entry.runs.send(message).is_ok())
    }
}

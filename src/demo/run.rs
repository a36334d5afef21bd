//! One run of the demo under paused time. In: a seed and a length. Out: what happened.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::abroad::{Abroad, Cut};
use super::author::Author;
use super::cluster::{SITES, claims, spec};
use super::history::History;
use super::observe::{Chronicle, chronicle};
use super::scenario::{Deed, scenario};
use super::stopwatch::{Laps, Stopwatch};
use super::tasks::{Room, Service, Wanted};
use super::workloads::{MINUTE, priority_classes};
use crate::config::{self, defaults};
use crate::kubernetes::tasks::ARRIVALS_MAX;
use crate::live::LiveOptions;
use crate::model::time::Timestamp;
use crate::scheduler::{
    engine::{Engine, EngineSettings},
    observe::Observer,
    profile::ProfileSpec,
    profiles::{OutOfTree, ProfileError},
    registry::Registry,
};
use crate::sim::apiserver::ApiServerOptions;
use crate::sim::federation::{Replica, SimFederation, create};
use crate::sim::kubelet::KubeletOptions;
use crate::tasks::crd;

/// After the last arrival the cluster works on for so long, so that most of what runs comes to its end.
const AFTERWARDS_MS: u64 = 20 * MINUTE;
/// Before anything arrives the clusters are found and listed.
const WARM_UP_MS: u64 = MINUTE;
/// In the end everything is deleted, and so much later nothing may be left.
const CLEARING_MS: u64 = 5 * MINUTE;
/// Simulated time between two lines of progress.
const PROGRESS_MS: u64 = 5 * MINUTE;
/// When the simulated hour begins, in milliseconds since 1970: 2026-03-01T06:00:00Z.
const EPOCH_MS: u64 = 1_772_344_800_000;
/// When work begins to arrive: what milliseconds from the start are counted from.
pub(super) const START: Timestamp = Timestamp(EPOCH_MS + WARM_UP_MS);

/// What is to be shown.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// The same seed, the same placements.
    pub seed: u64,
    /// For how many simulated minutes work arrives.
    pub minutes: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// As asked for.
    pub options: DemoOptions,
    /// Everything seen through the API.
    pub history: History,
    /// Events recorded, by reason.
    pub events: Vec<(String, usize)>,
    /// What compute clusters were asked, and what is left of it.
    pub abroad: Abroad,
    /// What had to come of tasks, and what the archive holds of them.
    pub wanted: Wanted,
    /// Nanoseconds of each decision, measured.
    pub laps: Vec<u64>,
    /// How long it took, measured.
    pub took: Duration,
    /// The simulated time at the end.
    pub end_ms: u64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Simulated minutes so far.
    pub minute: u64,
    /// Simulated minutes in all.
    pub minutes: u64,
    /// Pods created.
    pub created: usize,
    /// Pods bound.
    pub bound: usize,
    /// Pods that wait.
    pub waiting: usize,
    /// Pods that run now.
    pub running: usize,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A call of the in-memory API server failed.
    #[error("{doing} failed")]
    Api {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An event was not taken in.
    #[error("{doing} failed: {why}")]
    Arrival {
        /// What was being done.
        doing: String,
        /// Why.
        why: String,
    },
    /// An example cannot be read.
    #[error("an example of a task cannot be read; this is a bug: {0}")]
    Example(String),
    /// The default configuration makes no profiles.
    #[error("the default profile cannot be built")]
    Profile(#[from] ProfileError),
    /// The default configuration is wrong.
    #[error("the default configuration is wrong; this is a bug: {0}")]
    Config(String),
    /// A thread, a socket or a file.
    #[error("{doing} failed")]
    Io {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl DemoError {
    /// An error of the system while doing something.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Io { doing: doing.into(), source }
    }

    /// A refusal of the API server while doing something.
    pub fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        |source| Self::Api { doing: doing.into(), source: Box::new(source) }
    }
}

/// Runs the demo. `progress` is told how far it is.
#[expect(clippy::disallowed_methods, reason = "how long the demo itself took; nothing that is simulated reads it")]
pub fn run(options: DemoOptions, progress: &mut dyn FnMut(Progress)) -> Result<Outcome, DemoError> {
    let began = std::time::Instant::now();
    // One thread and paused time: nothing depends on how fast the machine is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(DemoError::io("starting the runtime"))?;
    let mut outcome = runtime.block_on(play(options, progress))?;
    outcome.took = began.elapsed();
    Ok(outcome)
}

async fn play(options: DemoOptions, progress: &mut dyn FnMut(Progress)) -> Result<Outcome, DemoError> {
    let scenario = scenario(options.seed, options.minutes, &Service::read()?);
    let mut federation = federation(options.seed, Timestamp(EPOCH_MS)).await?;
    let (arrivals, arriving) = mpsc::channel(ARRIVALS_MAX);
    let (author, seen) = (Author::new(&federation, arrivals), Chronicle::default());
    let start = Instant::now() + Duration::from_millis(WARM_UP_MS);
    let watcher = tokio::spawn(chronicle(clients(&federation), seen.clone(), start));
    furnish(&author, &federation).await?;
    federation.start_world(&KubeletOptions::default());

    let laps = Laps::default();
    let engine = engine(options.seed, Box::new(Stopwatch::new(laps.clone())))?;
    let replica = start_replica(&federation, engine, options.seed, false)?;
    let room = Room::start(&federation, &replica, arriving, options.seed)?;

    let end_ms = options.minutes * MINUTE + AFTERWARDS_MS;
    let mut stage = Stage { start, next_progress: PROGRESS_MS, end_ms, seen: &seen, progress };
    let mut cut = Cut::default();
    for step in &scenario.steps {
        stage.until(step.at_ms).await;
        author.perform(&step.deed).await?;
        if let Deed::Cut(cluster, is_cut) = &step.deed {
            seen.with(|history| cut.note(history, cluster, *is_cut, step.at_ms));
        }
    }
    stage.until(end_ms).await;
    let history = seen.with(|history| history.clone());
    let events = author.events().await.map_err(DemoError::api("listing events"))?;
    watcher.abort();
    author.clear().await.map_err(DemoError::api("clearing away"))?;
    sleep_until(Instant::now() + Duration::from_millis(CLEARING_MS)).await;
    let abroad = Abroad::of(&federation, cut.outcome(&history));
    let wanted = Wanted { archived: federation.logs().sizes(), ..scenario.wanted };
    room.end();
    replica.shut_down().await;
    Ok(Outcome { options, history, events, abroad, wanted, laps: laps.sorted(), took: Duration::ZERO, end_ms })
}

/// Time, with a report of progress on the way.
struct Stage<'a> {
    start: Instant,
    next_progress: u64,
    end_ms: u64,
    seen: &'a Chronicle,
    progress: &'a mut dyn FnMut(Progress),
}

impl Stage<'_> {
    async fn until(&mut self, at_ms: u64) {
        while self.next_progress <= at_ms {
            sleep_until(self.start + Duration::from_millis(self.next_progress)).await;
            let (minute, minutes) = (self.next_progress / MINUTE, self.end_ms / MINUTE);
            let now = self.seen.with(|history| {
                let lives = || history.pods.values();
                let bound = lives().filter(|life| life.bound.is_some()).count();
                let running = lives().filter(|life| life.bound.is_some() && life.ended.is_none()).count();
                let waiting = history.moments.last().map_or(0, |moment| moment.waiting);
                Progress { minute, minutes, created: history.pods.len(), bound, waiting, running }
            });
            (self.progress)(now);
            self.next_progress += PROGRESS_MS;
        }
        sleep_until(self.start + Duration::from_millis(at_ms)).await;
    }
}

/// A service cluster that knows tasks, and three compute clusters, without nodes.
pub(super) async fn federation(seed: u64, start: Timestamp) -> Result<SimFederation, DemoError> {
    let names: Vec<String> = SITES.iter().skip(1).map(|site| site.name.to_owned()).collect();
    let federation = SimFederation::new(seed, start, &names, ApiServerOptions::default().history_max).await;
    let federation = federation.map_err(DemoError::api("making the clusters"))?;
    for definition in [crd::task(), crd::task_run()] {
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        create(federation.home(), definitions, &definition).await.map_err(DemoError::api("defining the kinds of tasks"))?;
    }
    Ok(federation)
}

fn clients(federation: &SimFederation) -> Vec<(&'static str, kube::Client)> {
    SITES.iter().filter_map(|site| Some((site.name, federation.cluster(site.name)?.faultless_client()))).collect()
}

/// Nodes, priority classes, claims, and the compute clusters' registration at home.
pub(super) async fn furnish(author: &Author, federation: &SimFederation) -> Result<(), DemoError> {
    for class in priority_classes() {
        author.priority_class(&class).await.map_err(DemoError::api("creating a priority class"))?;
    }
    for claim in claims() {
        author.claim(&claim).await.map_err(DemoError::api("creating a claim"))?;
    }
    for site in &SITES {
        for node in site.nodes() {
            author.perform(&Deed::AddNode(site.name, node)).await?;
        }
    }
    for site in SITES.iter().skip(1) {
        federation.register(site.name, &spec(site.name)).await.map_err(DemoError::api(format!("registering {}", site.name)))?;
    }
    Ok(())
}

/// The engine of `isobar run` with the default profile, under both names that pods are likely to ask for.
pub(super) fn engine(seed: u64, observer: Box<dyn Observer>) -> Result<Engine, DemoError> {
    let configuration = config::load(&[], &Registry::in_tree()).map_err(|problems| DemoError::Config(problems.to_string()))?;
    let also =
        configuration.profiles.iter().map(|profile| ProfileSpec { scheduler_name: defaults::SCHEDULER_NAME.to_owned(), ..profile.clone() });
    let profiles = configuration.profiles.iter().cloned().chain(also).collect();
    Ok(Engine::new(profiles, OutOfTree::default(), EngineSettings { seed, ..EngineSettings::default() }, observer)?)
}

/// Watches, engine, binder, compute clusters, workers: what `isobar run` starts, on a federation that is given.
pub(super) fn start_replica(federation: &SimFederation, engine: Engine, seed: u64, own_thread: bool) -> Result<Replica, DemoError> {
    let options = LiveOptions { hostname: "isobar-demo".to_owned(), seed, own_thread, ..LiveOptions::default() };
    federation.start_replica(engine, &options).map_err(DemoError::io("starting the scheduler"))
}

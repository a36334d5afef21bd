//! The composition root of `isobar run`: configuration, client, engine, election, endpoint, reload. Reads top to bottom and ends in one `select!`.

mod abroad;
mod logs;
mod tasks;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use rustc_hash::FxHasher;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{
        Configuration, Reload, Reloader, Source, defaults, load,
        reload::Applied,
        resolved::{ClientConnection, LeaderElection},
        show,
    },
    extenders::Extenders,
    http::{self, CertificateSource, GateOptions, HealthChecks, HttpOptions, HttpState, LeaseWatchdog, Probe},
    kubernetes::{
        api::Api,
        client::{ConnectionOptions, connect},
        clock::Clock,
        election::ElectionSettings,
        events::{EventDesk, News},
        leadership::Leadership,
        review::ApiReviewer,
        watch::Synced,
    },
    live::{Live, LiveOptions, Stopped},
    metrics::{ApiMetrics, ConfigMetrics, EngineGauges, EngineMetrics, LeaderMetrics, Metrics},
    model::time::Timestamp,
    scheduler::{
        engine::{Engine, EngineSettings, GROUP_PLUGIN},
        input::Input,
        observe::Gauges,
        profile::PluginPoints,
        profiles::OutOfTree,
        queue::Backoff,
        registry::Registry,
    },
};

/// What the command line says beside the configuration files.
#[derive(Clone, Debug, Default)]
pub struct AppOptions {
    /// Configuration files, read again while running.
    pub config_files: Vec<PathBuf>,
    /// Reaches the API server; wins over the configuration's.
    pub kubeconfig: Option<PathBuf>,
    /// Overrides of the configuration's election.
    pub election: ElectionOverrides,
    /// Overrides of the configuration's endpoint. Port 0 means none, as with kube-scheduler.
    pub secure_port: Option<u16>,
    /// Address of the endpoint.
    pub bind_address: Option<std::net::IpAddr>,
    /// Certificate and key of the endpoint; made at start if absent.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Client certificates that are believed.
    pub client_ca_file: Option<PathBuf>,
    /// Paths that need no authorisation.
    pub always_allow_paths: Option<Vec<String>>,
}

/// The flags `--leader-elect*`.
#[derive(Clone, Debug, Default)]
pub struct ElectionOverrides {
    /// Whether there is an election.
    pub leader_elect: Option<bool>,
    /// How long others wait for a silent leader.
    pub lease_duration: Option<Duration>,
    /// How long a leader tries to renew.
    pub renew_deadline: Option<Duration>,
    /// Time between tries.
    pub retry_period: Option<Duration>,
    /// Name of the Lease.
    pub resource_name: Option<String>,
    /// Namespace of the Lease.
    pub resource_namespace: Option<String>,
}

/// Runs the scheduler until it is told to stop (exit code 0) or must (1).
pub async fn run(options: AppOptions) -> anyhow::Result<ExitCode> {
    let files = read_files(&options.config_files)?;
    let sources = sources(&files);
    let configuration = load(&sources, &Registry::in_tree()).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    for warning in &configuration.warnings {
        tracing::warn!("{warning}");
    }
    let election = election(&configuration.leader_election, &options.election)?;
    let metrics = Metrics::new();
    let config_metrics = ConfigMetrics::new(&metrics);
    config_metrics.loaded(wall_clock(), content_hash(&files));
    let kubeconfig = options.kubeconfig.clone().or_else(|| configuration.client_connection.kubeconfig.clone().map(PathBuf::from));
    let api = connect(kubeconfig.as_deref(), &connection(&configuration.client_connection), ApiMetrics::new(&metrics)).await?;
    let gauges = EngineGauges::new(&metrics);
    let engine = engine(&configuration, &metrics)?;
    let publish = move |sizes: &Gauges| gauges.set(sizes);
    let abroad = abroad::prepare(&configuration.isobar, &metrics).await?;
    let federation = abroad.as_ref().map(|abroad| &abroad.options);
    let tasks = tasks::prepare(&configuration.isobar).await?;
    let extenders = Extenders::new(&configuration.extenders, &metrics).context("the extenders of the configuration cannot be used")?;
    let options_of_live = live_options(&configuration, election.clone(), extenders.clone());
    let mut live = Live::start_federated(&api, Clock::system(), engine, publish, &options_of_live, federation)
        .context("the engine's thread cannot be started")?;

    let in_force = InForce::new(&configuration);
    let state = http_state(&live, &api, &metrics, in_force.clone(), tasks.as_ref());
    let (health, draining, http_stop) = (state.health.clone(), state.draining.clone(), state.stop.clone());
    let server = serve(http_options(&configuration, &options), state);
    let mut parts_abroad = match abroad {
        Some(abroad) => abroad.start(&api, live.inputs.clone(), &metrics, http_stop.clone()).await?,
        None => JoinSet::new(),
    };
    let profile = configuration.profiles.first().map(|profile| profile.scheduler_name.clone()).unwrap_or_default();
    let mut task_parts = match tasks {
        Some(tasks) => tasks.start(&api, live.leadership.clone(), &profile, &metrics)?,
        None => JoinSet::new(),
    };
    let news = NewsRoom::new(&live, &configuration, election.as_ref());
    let leader = tokio::spawn(report_leader(live.leadership.clone(), election, metrics.clone(), health, news.clone()));
    let reload = ConfigFollower {
        paths: options.config_files,
        poll: configuration.isobar.config_poll_interval.map(|interval| Duration::from_millis(interval.0)),
        reloader: Reloader::new(&sources, configuration, Registry::in_tree()),
        inputs: live.inputs.clone(),
        extenders,
        metrics: config_metrics,
        in_force,
        news,
    };
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be awaited")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");

    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        stopped = live.stopped() => Some(stopped),
        error = server => return Err(error),
        Some(part) = parts_abroad.join_next() => Some(Stopped::PartEnded(part.unwrap_or("a part of the federation"))),
        Some(part) = task_parts.join_next() => Some(Stopped::PartEnded(part.unwrap_or("a part of tasks"))),
        () = reload.run() => Some(Stopped::PartEnded("reload")),
        () = metrics.upkeep() => Some(Stopped::PartEnded("metrics")),
    };
    draining.cancel();
    leader.abort();
    task_parts.shutdown().await;
    let code = end(live, ended).await;
    http_stop.cancel();
    Ok(code)
}

async fn end(live: Live, ended: Option<Stopped>) -> ExitCode {
    match ended {
        None => {
            tracing::info!("asked to stop");
            live.shut_down().await;
            ExitCode::SUCCESS
        }
        // What we hold in memory may be behind what the next leader does: begin anew, at once.
        Some(Stopped::LeaseLost) => ExitCode::FAILURE,
        Some(Stopped::PartEnded(part)) => {
            tracing::error!(part, "ended by itself; this is a bug");
            live.shut_down().await;
            ExitCode::FAILURE
        }
    }
}

fn engine(configuration: &Configuration, metrics: &Metrics) -> anyhow::Result<Engine> {
    let names = configuration.profiles.iter().map(|profile| profile.scheduler_name.as_str());
    let observer = Box::new(EngineMetrics::new(metrics, names));
    Engine::new(configuration.profiles.clone(), OutOfTree::default(), engine_settings(configuration), observer)
        .context("the profiles cannot be built")
}

/// As the engine heeds them: wherever the plugin is named.
fn heeds_pod_groups(points: &PluginPoints) -> bool {
    points.permit.iter().chain(&points.pre_enqueue).any(|plugin| *plugin == GROUP_PLUGIN)
}

fn live_options(configuration: &Configuration, election: Option<ElectionSettings>, extenders: Extenders) -> LiveOptions {
    let limits = &configuration.isobar.limits;
    LiveOptions {
        election,
        bind_timeout: Duration::from_millis(limits.bind_timeout.0),
        events_per_second: f64::from(limits.events_per_second),
        hostname: hostname(),
        seed: random_seed(),
        extenders,
        own_thread: true,
        pod_groups: configuration.profiles.iter().any(|profile| heeds_pod_groups(&profile.plugins)),
    }
}

// === configuration ===

fn read_files(paths: &[PathBuf]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &PathBuf| {
        let content =
            std::fs::read(path).with_context(|| format!("cannot read {}: does it exist, and may you read it?", path.display()))?;
        Ok((path.display().to_string(), content))
    };
    paths.iter().map(read).collect()
}

fn sources(files: &[(String, Vec<u8>)]) -> Vec<Source<'_>> {
    files.iter().map(|(name, content)| Source { name, content }).collect()
}

fn content_hash(files: &[(String, Vec<u8>)]) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = FxHasher::default();
    for (_, content) in files {
        hasher.write(content);
    }
    hasher.finish()
}

/// The election by configuration and flags; flags win. `None` without one.
fn election(configured: &LeaderElection, flags: &ElectionOverrides) -> anyhow::Result<Option<ElectionSettings>> {
    if !flags.leader_elect.unwrap_or(configured.leader_elect) {
        return Ok(None);
    }
    let span = |flag: Option<Duration>, configured: crate::model::time::DurationMs| flag.unwrap_or(Duration::from_millis(configured.0));
    let settings = ElectionSettings {
        identity: format!("{}_{}", hostname(), uuid::Uuid::new_v4()),
        namespace: flags.resource_namespace.clone().unwrap_or_else(|| configured.resource_namespace.clone()),
        name: flags.resource_name.clone().unwrap_or_else(|| configured.resource_name.clone()),
        lease_duration: span(flags.lease_duration, configured.lease_duration),
        renew_deadline: span(flags.renew_deadline, configured.renew_deadline),
        retry_period: span(flags.retry_period, configured.retry_period),
    };
    match settings.problem() {
        Some(problem) => Err(anyhow::anyhow!("leader election: {problem}")),
        None => Ok(Some(settings)),
    }
}

/// Upstream's defaults for rate and burst are for its own client; here they mean that the admin has not chosen any, and the server's own fairness
/// sets the pace.
fn connection(configured: &ClientConnection) -> ConnectionOptions {
    let chosen = configured.qps != Some(defaults::QPS) || configured.burst != defaults::BURST.unsigned_abs();
    ConnectionOptions { qps: configured.qps.filter(|_| chosen), burst: configured.burst }
}

fn engine_settings(configuration: &Configuration) -> EngineSettings {
    let limits = &configuration.isobar.limits;
    EngineSettings {
        seed: random_seed(),
        backoff: Backoff { initial: configuration.backoff.initial, max: configuration.backoff.max },
        binds_in_flight_max: usize::try_from(limits.binds_in_flight_max).unwrap_or(usize::MAX),
        view_bytes_max: usize::try_from(limits.view_bytes_max).unwrap_or(usize::MAX),
        ..EngineSettings::default()
    }
}

/// The configuration in force, as `/configz` shows it.
#[derive(Clone)]
struct InForce(Arc<RwLock<serde_json::Value>>);

impl InForce {
    fn new(configuration: &Configuration) -> Self {
        Self(Arc::new(RwLock::new(show::json(configuration).unwrap_or_default())))
    }

    fn set(&self, configuration: &Configuration) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = show::json(configuration).unwrap_or_default();
    }

    fn get(&self) -> serde_json::Value {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads the files again and again; what is right counts from the next pod on, what is wrong changes nothing and is said once.
struct ConfigFollower {
    paths: Vec<PathBuf>,
    poll: Option<Duration>,
    reloader: Reloader,
    inputs: mpsc::Sender<Input>,
    extenders: Extenders,
    metrics: ConfigMetrics,
    in_force: InForce,
    news: NewsRoom,
}

impl ConfigFollower {
    async fn run(mut self) {
        let (Some(poll), false) = (self.poll, self.paths.is_empty()) else { return std::future::pending().await };
        let mut ticks = interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let files = match read_files(&self.paths) {
                Ok(files) => files,
                // In the middle of a swap, or gone: what is in force stays.
                Err(error) => {
                    tracing::warn!("configuration not read again: {error:#}");
                    continue;
                }
            };
            match self.reloader.observe(&sources(&files)) {
                Reload::Unchanged => {}
                Reload::Applied(applied) => self.apply(*applied, content_hash(&files)).await,
                Reload::Refused(problems) => {
                    self.metrics.refused();
                    tracing::error!("a changed configuration is refused, the last good one stays:\n{problems}");
                    self.news.tell("Warning", "ConfigurationRefused", format!("The last good configuration stays: {problems}"));
                }
            }
        }
    }

    async fn apply(&self, applied: Applied, hash: u64) {
        self.metrics.applied(wall_clock(), hash);
        self.in_force.set(&applied.configuration);
        // Nobody listens only when the process ends.
        let _ = self.inputs.send(Input::Profiles(applied.configuration.profiles)).await;
        match self.extenders.replace(&applied.configuration.extenders) {
            Ok(()) => drop(self.inputs.send(self.extenders.input()).await),
            Err(error) => {
                tracing::error!("changed extenders are refused, the last good ones stay: {error}");
                self.news.tell("Warning", "ConfigurationRefused", format!("The last good extenders stay: {error}"));
            }
        }
        let later = applied.restart_needed.join(", ");
        tracing::info!(needs_restart = later, "a changed configuration is in force");
        let note = if later.is_empty() { String::new() } else { format!("; only after a restart: {later}") };
        self.news.tell("Normal", "ConfigurationApplied", format!("A changed configuration is in force{note}"));
    }
}

// === endpoint ===

fn http_options(configuration: &Configuration, options: &AppOptions) -> Option<HttpOptions> {
    let serving = &configuration.isobar.serving;
    let port = options.secure_port.or(serving.secure_port).filter(|port| *port != 0)?;
    let certificate = options.certificate.clone().map(|(certificate, key)| CertificateSource::Files { certificate, key });
    Some(HttpOptions {
        address: SocketAddr::new(options.bind_address.unwrap_or(serving.bind_address), port),
        certificate: certificate.unwrap_or_else(|| CertificateSource::SelfSigned { names: vec![hostname()] }),
        client_ca_file: options.client_ca_file.clone(),
        gate: GateOptions {
            always_allow_paths: options.always_allow_paths.clone().unwrap_or_else(|| serving.always_allow_paths.clone()),
            anonymous: serving.anonymous,
            ..GateOptions::default()
        },
        plain: None,
    })
}

fn http_state(live: &Live, api: &Api, metrics: &Metrics, in_force: InForce, tasks: Option<&tasks::TaskRoom>) -> HttpState {
    let health = HealthChecks::default();
    let mut lists = live.others_synced.clone();
    lists.extend([live.pods_synced.clone(), live.nodes_synced.clone()]);
    health.add("sched-handler-sync", &[Probe::Readyz], move || {
        if lists.iter().all(Synced::is_synced) {
            Ok(())
        } else {
            Err("pods, nodes, what chooses pods and storage are not listed yet".to_owned())
        }
    });
    HttpState {
        health,
        metrics: metrics.clone(),
        configuration: Arc::new(move || in_force.get()),
        events: tasks.map(tasks::TaskRoom::intake),
        api: tasks.map(|tasks| tasks.api(api)),
        reviewer: Arc::new(ApiReviewer::new(api.client())),
        draining: CancellationToken::new(),
        stop: CancellationToken::new(),
    }
}

/// Serves for ever; the answer is why that ended.
async fn serve(options: Option<HttpOptions>, state: HttpState) -> anyhow::Error {
    let Some(options) = options else { return std::future::pending().await };
    match http::serve(options, state).await {
        Ok((bound, server)) => {
            tracing::info!(address = %bound.secure, "serving probes and metrics");
            server.await;
            anyhow::anyhow!("the endpoint ended by itself; this is a bug")
        }
        Err(error) => error.into(),
    }
}

// === leadership ===

/// Tells people about ourselves.
#[derive(Clone)]
struct NewsRoom {
    events: EventDesk,
    lease: Option<(String, String)>,
    reporter: String,
}

impl NewsRoom {
    fn new(live: &Live, configuration: &Configuration, election: Option<&ElectionSettings>) -> Self {
        Self {
            events: live.events.clone(),
            lease: election.map(|settings| (settings.namespace.clone(), settings.name.clone())),
            reporter: configuration.profiles.first().map(|profile| profile.scheduler_name.clone()).unwrap_or_default(),
        }
    }

    fn tell(&self, kind: &'static str, reason: &'static str, note: String) {
        if let Some(lease) = self.lease.clone() {
            self.events.tell(News { lease, reporter: self.reporter.clone(), kind, reason, note });
        }
    }
}

/// Keeps metric and watchdog in step with the election.
async fn report_leader(
    mut leadership: watch::Receiver<Leadership>,
    election: Option<ElectionSettings>,
    metrics: Metrics,
    health: HealthChecks,
    news: NewsRoom,
) {
    let Some(election) = election else { return };
    let gauge = LeaderMetrics::new(&metrics, &election.name);
    let watchdog = LeaseWatchdog::default();
    watchdog.register(&health);
    let mut led = false;
    loop {
        let now = *leadership.borrow_and_update();
        match now {
            Leadership::Until(until) => watchdog.renewed(until),
            Leadership::Standby | Leadership::Unlimited => watchdog.released(),
        }
        let leads = now != Leadership::Standby;
        gauge.set(leads);
        if leads && !led {
            news.tell("Normal", "LeaderElection", format!("{} became leader", election.identity));
        }
        led = leads;
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

// === the process ===

/// The host's name, as it stands in identities and events.
pub fn hostname() -> String {
    let name = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

fn random_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

fn wall_clock() -> Timestamp {
    Clock::system().now()
}

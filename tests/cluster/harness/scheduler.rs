//! A scheduler as a process. In: which one, under which profile name, with what leader election. Out: a running program that is ready, and what it
//! has cost. Every scheduler gets the same configuration file.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::{
    assets::{self, Program},
    control_plane::ControlPlane,
    measure::Usage,
    ports::free_port,
    process::Process,
};

const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Isobar,
    KubeScheduler,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Isobar => "isobar",
            Self::KubeScheduler => "kube-scheduler",
        }
    }

    pub fn program(self) -> Result<PathBuf> {
        match self {
            Self::Isobar => Ok(assets::isobar()),
            Self::KubeScheduler => Program::KubeScheduler.path(),
        }
    }

    /// Whether it can run here; says so where not.
    pub fn available(self, test: &str) -> bool {
        match self {
            Self::Isobar => assets::isobar_available(test),
            Self::KubeScheduler => assets::available(test, &[Program::KubeScheduler]),
        }
    }
}

/// client-go's three durations. Upstream's defaults are 15 s, 10 s, 2 s: too long for a test that waits for them often.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimings {
    pub duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl LeaseTimings {
    /// The shortest that whole seconds allow the lease: `leaseDurationSeconds` is an integer in the Lease object.
    pub const fn quick() -> Self {
        Self { duration: Duration::from_secs(3), renew_deadline: Duration::from_secs(2), retry_period: Duration::from_millis(400) }
    }

    /// `quick`, unless `ISOBAR_LEASE_MS` gives `duration,renew-deadline,retry-period` in milliseconds.
    pub fn from_environment() -> Result<Self> {
        let Ok(text) = std::env::var("ISOBAR_LEASE_MS") else { return Ok(Self::quick()) };
        let parts: Vec<_> = text.split(',').map(|part| part.trim().parse().map(Duration::from_millis)).collect::<Result<_, _>>()?;
        let [duration, renew_deadline, retry_period] = parts[..] else { bail!("ISOBAR_LEASE_MS wants three numbers, not {text:?}") };
        Ok(Self { duration, renew_deadline, retry_period })
    }

    /// The longest that client-go's rules allow between the leader's last renewal and the next one's first: its last renewal may be heard of one
    /// retry late, and each retry is stretched by up to 1.2 retry periods.
    pub fn takeover_bound(&self) -> Duration {
        self.duration + self.retry_period.mul_f64(2.2 * 2.0)
    }
}

pub const LEASE_NAME: &str = "isobar-testbed-scheduler";
pub const LEASE_NAMESPACE: &str = "kube-system";

#[derive(Clone, Debug)]
pub struct Options {
    /// Names the process's log, its files and its user, so it must differ between replicas.
    pub identity: String,
    /// `profiles[0].schedulerName`.
    pub scheduler_name: String,
    pub leases: Option<LeaseTimings>,
    /// Whose rights it has; `None`: a certificate in system:masters.
    pub kubeconfig: Option<PathBuf>,
    /// More of the profile: `plugins`, `pluginConfig`.
    pub profile: Value,
    /// Further profiles, whole.
    pub more_profiles: Vec<Value>,
    /// Webhooks that take part.
    pub extenders: Value,
}

impl Options {
    pub fn new(identity: &str, scheduler_name: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            scheduler_name: scheduler_name.to_owned(),
            leases: None,
            kubeconfig: None,
            profile: Value::Null,
            more_profiles: Vec::new(),
            extenders: Value::Null,
        }
    }

    pub fn with_leases(mut self, leases: LeaseTimings) -> Self {
        self.leases = Some(leases);
        self
    }

    pub fn with_extenders(mut self, extenders: Value) -> Self {
        self.extenders = extenders;
        self
    }

    /// Its fields beside `schedulerName`.
    pub fn with_profile(mut self, profile: Value) -> Self {
        self.profile = profile;
        self
    }

    pub fn with_more_profiles(mut self, profiles: &[Value]) -> Self {
        self.more_profiles = profiles.to_vec();
        self
    }
}

pub struct Scheduler {
    pub process: Process,
    pub kind: Kind,
    pub identity: String,
    pub port: u16,
}

impl Scheduler {
    /// Starts it without waiting.
    pub fn launch(plane: &ControlPlane, kind: Kind, options: &Options) -> Result<Self> {
        let folder = plane.folder();
        let kubeconfig = match &options.kubeconfig {
            Some(path) => path.clone(),
            None => plane.user_kubeconfig(&options.identity, &["system:masters"])?,
        };
        let config = folder.join(format!("{}.config.json", options.identity));
        fs::write(&config, format!("{:#}\n", configuration(options, &kubeconfig.display().to_string())))?;
        let port = free_port()?;
        let mut arguments = vec![format!("--config={}", config.display()), format!("--secure-port={port}")];
        match kind {
            Kind::Isobar => {
                arguments.insert(0, "run".to_owned());
                arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
            }
            Kind::KubeScheduler => {
                arguments.push("--bind-address=127.0.0.1".to_owned());
                arguments.push(format!("--cert-dir={}", folder.join(format!("{}-certificates", options.identity)).display()));
                arguments.push(format!("--authentication-kubeconfig={}", kubeconfig.display()));
                arguments.push(format!("--authorization-kubeconfig={}", kubeconfig.display()));
                arguments.push("--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics".to_owned());
            }
        }
        let process = Process::start(&options.identity, &kind.program()?, arguments, folder)?;
        Ok(Self { process, kind, identity: options.identity.clone(), port })
    }

    /// Starts it and waits for `/readyz`.
    pub async fn start(plane: &ControlPlane, kind: Kind, options: &Options) -> Result<Self> {
        let mut scheduler = Self::launch(plane, kind, options)?;
        scheduler.wait_ready().await?;
        Ok(scheduler)
    }

    pub async fn wait_ready(&mut self) -> Result<()> {
        let client = self.serving_client()?;
        let begin = Instant::now();
        loop {
            self.process.ensure_running()?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(request).await.is_ok() {
                return Ok(());
            }
            if begin.elapsed() > READY_WITHIN {
                bail!("{} not ready within {READY_WITHIN:?}\n{}", self.identity, self.process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.pid())
    }

    /// What it measures, as a service account is told that may read everything.
    pub async fn scrape(&self, plane: &ControlPlane) -> Result<String> {
        let binding = ["create", "clusterrolebinding", "scrape", "--clusterrole=cluster-admin", "--serviceaccount=default:scrape"];
        for command in [&["create", "serviceaccount", "scrape", "--namespace=default"][..], &binding] {
            let output = plane.kubectl(command.iter().copied())?;
            ensure!(output.status.success(), "kubectl {command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let account: Value = serde_json::from_slice(&fs::read(plane.service_account_kubeconfig("default", "scrape").await?)?)?;
        let token = account["users"][0]["user"]["token"].as_str().context("the kubeconfig has no token")?;
        let request = http::Request::get("/metrics").header(http::header::AUTHORIZATION, format!("Bearer {token}")).body(Vec::new())?;
        Ok(self.serving_client()?.request_text(request).await?)
    }

    /// For what the scheduler itself serves. Its certificate is self-signed, and nobody else is on loopback.
    pub fn serving_client(&self) -> Result<Client> {
        let mut config = Config::new(format!("https://127.0.0.1:{}", self.port).parse()?);
        config.accept_invalid_certs = true;
        Ok(Client::try_from(config)?)
    }
}

/// The file that both read. 5000 requests a second: the default of 50 would be what is measured.
fn configuration(options: &Options, kubeconfig: &str) -> Value {
    let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
    let election = match options.leases {
        None => json!({ "leaderElect": false }),
        Some(leases) => json!({
            "leaderElect": true,
            "leaseDuration": milliseconds(leases.duration),
            "renewDeadline": milliseconds(leases.renew_deadline),
            "retryPeriod": milliseconds(leases.retry_period),
            "resourceLock": "leases",
            "resourceName": LEASE_NAME,
            "resourceNamespace": LEASE_NAMESPACE,
        }),
    };
    let mut profile = json!({ "schedulerName": options.scheduler_name });
    for (field, value) in options.profile.as_object().into_iter().flatten() {
        profile[field] = value.clone();
    }
    let profiles: Vec<&Value> = std::iter::once(&profile).chain(&options.more_profiles).collect();
    let mut file = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig, "qps": 5000, "burst": 5000 },
        "leaderElection": election,
        "profiles": profiles,
    });
    if !options.extenders.is_null() {
        file["extenders"] = options.extenders.clone();
    }
    file
}

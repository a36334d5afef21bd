//! What `isobar run` has beyond a scheduler when there is a federation: archive, image look-ups, kubelet endpoint. In: the section `federation` of the
//! configuration. Out: options for the live part, and parts that run beside it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    archive::{LogArchive, S3Options, SweepRules},
    config::resolved::{ArchivePlace, ArchiveSettings, FederationSettings},
    http::kubelet::{self, ArchivedLogs, ClientCa, KubeletCertificate, KubeletLimits, KubeletOptions},
    kubernetes::{
        api::Api,
        clock::Clock,
        cluster::{access, directory::ClusterDirectory, virtual_node::KubeletAddress},
        images::{self, Resolver, ResolverOptions},
        review::ApiReviewer,
        runs::LogStore,
        watch::escaped,
    },
    live::{FederationOptions, ImageQuestion},
    metrics::{ApiMetrics, Metrics},
    scheduler::input::Input,
};

/// Questions about images that may wait; past it the engine goes on without an answer.
const IMAGE_QUESTIONS_MAX: usize = 1024;
/// Between two looks for logs whose time is over.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// How long one page of pods may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pods a page.
const PAGE_PODS: usize = 500;
/// Where a pod finds its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// The namespace of the manifests.
const NAMESPACE: &str = "isobar-system";

/// What the live part is started with, and what is started once it runs.
pub(super) struct Abroad {
    pub(super) options: FederationOptions,
    settings: FederationSettings,
    archive: Option<LogArchive>,
    questions: Option<mpsc::Receiver<ImageQuestion>>,
    address: watch::Sender<Option<KubeletAddress>>,
}

/// Prepares the federation, if there is one. What is wrong with the archive is said here, not when the first log is lost.
pub(super) async fn prepare(settings: &FederationSettings, metrics: &Metrics) -> anyhow::Result<Option<Abroad>> {
    if !settings.enabled {
        return Ok(None);
    }
    let archive = match &settings.archive {
        Some(settings) => {
            let archive = open(settings)?;
            archive.probe().await.context("federation.archive cannot be used")?;
            Some(archive)
        }
        None => None,
    };
    let (address, kubelet) = watch::channel(None);
    let (images, questions) = mpsc::channel(IMAGE_QUESTIONS_MAX);
    let api_metrics = ApiMetrics::new(metrics);
    let options = FederationOptions {
        connect: Arc::new(move |text, _| access::connect(text, api_metrics.clone())),
        kubelet,
        logs: archive.clone().map(|archive| Arc::new(archive) as Arc<dyn LogStore>),
        images: settings.resolve_images.then_some(images),
        namespace: std::fs::read_to_string(NAMESPACE_FILE).map_or_else(|_| NAMESPACE.to_owned(), |text| text.trim().to_owned()),
        metrics: metrics.clone(),
        directory: ClusterDirectory::default(),
    };
    let questions = settings.resolve_images.then_some(questions);
    Ok(Some(Abroad { options, settings: settings.clone(), archive, questions, address }))
}

fn open(settings: &ArchiveSettings) -> anyhow::Result<LogArchive> {
    let archive = match &settings.place {
        ArchivePlace::Folder(path) => LogArchive::folder(Path::new(path))?,
        ArchivePlace::S3(bucket) => LogArchive::s3(&S3Options {
            bucket: bucket.bucket.clone(),
            prefix: bucket.prefix.clone(),
            endpoint: bucket.endpoint.clone(),
            region: bucket.region.clone(),
            credentials: None,
            allow_http: bucket.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
        })?,
    };
    Ok(archive.with_log_bytes_max(settings.log_bytes_max))
}

impl Abroad {
    /// Starts what runs beside the scheduler. A part that ends, ends in vain: its name is the answer.
    pub(super) async fn start(
        self,
        home: &Api,
        engine: mpsc::Sender<Input>,
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> anyhow::Result<JoinSet<&'static str>> {
        let mut parts = JoinSet::new();
        if let Some(questions) = self.questions {
            let options = ResolverOptions { insecure_registries: self.settings.insecure_registries.clone() };
            let resolver = Resolver::new(&options, Some(home.clone()), metrics);
            parts.spawn(async move {
                images::run(resolver, questions, engine).await;
                "image look-ups"
            });
        }
        if let Some((archive, settings)) = self.archive.clone().zip(self.settings.archive.as_ref()) {
            let rules = SweepRules { keep_for: settings.keep_for, bytes_max: settings.bytes_max };
            parts.spawn(sweep(archive, home.clone(), rules));
        }
        let archive = self.archive.map(|archive| Arc::new(archive) as Arc<dyn ArchivedLogs>);
        let advertised = advertised(&self.settings);
        let (bound, serving) = kubelet::serve(KubeletOptions {
            address: SocketAddr::new(self.settings.bind_address, self.settings.port),
            home: home.clone(),
            directory: self.options.directory,
            archive,
            reviewer: Arc::new(ApiReviewer::new(home.client())),
            certificate: certificate(&self.settings, advertised),
            client_ca: ClientCa::ConfigMap,
            limits: KubeletLimits::default(),
            clock: Clock::system(),
            metrics: metrics.clone(),
            stop,
        })
        .await?;
        tracing::info!(address = %bound.0, "serving the kubelet API of virtual Nodes");
        if let Some(address) = advertised {
            self.address.send_replace(Some(KubeletAddress { address, port: bound.0.port() }));
        } else {
            tracing::warn!(
                "neither federation.kubeletEndpoint.advertiseAddress nor the environment's POD_IP says how the API server reaches us: \
             logs and exec of pods on compute clusters will not work"
            );
        }
        // The virtual Nodes read the address as long as we run.
        let address = self.address;
        parts.spawn(async move {
            serving.await;
            drop(address);
            "kubelet endpoint"
        });
        Ok(parts)
    }
}

fn advertised(settings: &FederationSettings) -> Option<IpAddr> {
    settings.advertise_address.or_else(|| std::env::var("POD_IP").ok()?.parse().ok())
}

fn certificate(settings: &FederationSettings, advertised: Option<IpAddr>) -> KubeletCertificate {
    let names: Vec<String> = advertised.iter().map(ToString::to_string).collect();
    if settings.self_signed || names.is_empty() {
        return KubeletCertificate::SelfSigned { names };
    }
    KubeletCertificate::Csr { node: "isobar".to_owned(), names }
}

// === logs whose time is over ===

async fn sweep(archive: LogArchive, home: Api, rules: SweepRules) -> &'static str {
    loop {
        sleep(SWEEP_EVERY).await;
        let swept = match alive(&home).await {
            Ok(alive) => archive.sweep(Clock::system().now(), rules, |uid| alive.contains(uid)).await.map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match swept {
            Ok(swept) if swept.pods > 0 => tracing::info!(pods = swept.pods, bytes = swept.bytes, "logs whose time is over were dropped"),
            Ok(_) => {}
            Err(why) => tracing::warn!("logs were not looked through: {why}"),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
}

#[derive(Deserialize)]
struct ItemMeta {
    uid: String,
}

/// UIDs of all pods at home, by a whole list: half of one would make the rest look gone.
async fn alive(home: &Api) -> Result<BTreeSet<String>, String> {
    let (mut uids, mut next) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("/api/v1/pods?limit={PAGE_PODS}&continue={}", escaped(&next));
        let answer = home.page(path, PAGE_TIMEOUT).await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(answer.failure());
        }
        let page: Page = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        uids.extend(page.items.into_iter().map(|item| item.metadata.uid));
        if page.metadata.next.is_empty() {
            return Ok(uids);
        }
        next = page.metadata.next;
    }
}

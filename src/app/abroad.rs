//! What `isobar run` has beyond a scheduler when there is a federation: archive, image look-ups, kubelet endpoint. In: the section `federation` of the
//! configuration. Out: options for the live part, and parts that run beside it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::logs;
use crate::{
    archive::LogArchive,
    config::resolved::{FederationSettings, IsobarSettings},
    http::kubelet::{self, ArchivedLogs, ClientCa, KubeletCertificate, KubeletLimits, KubeletOptions},
    kubernetes::{
        api::Api,
        clock::Clock,
        cluster::{access, directory::ClusterDirectory, virtual_node::KubeletAddress},
        images::{self, Resolver, ResolverOptions},
        review::ApiReviewer,
        runs::LogStore,
    },
    live::{FederationOptions, ImageQuestion},
    metrics::{ApiMetrics, Metrics},
    scheduler::input::Input,
};

/// Questions about images that may wait; past it the engine goes on without an answer.
const IMAGE_QUESTIONS_MAX: usize = 1024;
/// Where a pod finds its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// The namespace of the manifests.
const NAMESPACE: &str = "isobar-system";

/// What the live part is started with, and what is started once it runs.
pub(super) struct Abroad {
    pub(super) options: FederationOptions,
    settings: FederationSettings,
    /// Runs of tasks name pods whose logs are kept as long as they.
    with_tasks: bool,
    archive: Option<LogArchive>,
    questions: Option<mpsc::Receiver<ImageQuestion>>,
    address: watch::Sender<Option<KubeletAddress>>,
}

/// Prepares the federation, if there is one. What is wrong with the archive is said here, not when the first log is lost.
pub(super) async fn prepare(settings: &IsobarSettings, metrics: &Metrics) -> anyhow::Result<Option<Abroad>> {
    let with_tasks = settings.tasks.enabled;
    let settings = &settings.federation;
    if !settings.enabled {
        return Ok(None);
    }
    let archive = match &settings.archive {
        Some(settings) => {
            let archive = logs::open(settings)?;
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
    Ok(Some(Abroad { options, settings: settings.clone(), with_tasks, archive, questions, address }))
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
            parts.spawn(logs::sweep(archive, home.clone(), settings.clone(), self.with_tasks));
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

//! What we serve: probes, metrics, configuration, version, tasks, over HTTPS. In: requests. Out: answers to those who may have them.
//!
//! ```text
//! socket -> listener (bounds) -> tls (who, by certificate) -> gate (who, by token; may they) -> routes -> answer
//! ```
//!
//! The rest of the program hands in [`HttpState`]: what is to be shown. [`serve`] binds, says where, and gives the future that serves.

mod answers;
mod api;
mod body;
mod events;
mod gate;
mod health;
pub mod kubelet;
mod listener;
mod review;
mod routes;
mod status;
mod tls;
mod ui;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::{
    api::{TaskApi, document as openapi},
    events::EventIntake,
    gate::GateOptions,
    health::{HealthChecks, LeaseWatchdog, Probe, Report},
    review::{Decision, ReviewError, Reviewer, Reviewing, Target, User},
    status::Refusal,
    tls::{CertificateSource, TlsError},
};
use self::{gate::Gate, listener::Listener, tls::Tls};
use crate::metrics::{HttpMetrics, Metrics};

/// kube-scheduler's port.
pub const DEFAULT_PORT: u16 = 10259;

/// Connections open at once on a listener. Probes and scrapers need a few; the rest protects our file descriptors.
const CONNECTIONS_MAX: usize = 256;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// HTTPS address; port 0 takes a free one.
    pub address: SocketAddr,
    /// The server's certificate.
    pub certificate: CertificateSource,
    /// Client certificates signed by these (PEM) are believed: common name is the user, organisations are the groups.
    pub client_ca_file: Option<PathBuf>,
    /// What is open, and for how long answers about callers hold.
    pub gate: GateOptions,
    /// A second listener without TLS and without questions.
    pub plain: Option<PlainOptions>,
}

/// A listener without TLS, open to whoever reaches it.
#[derive(Clone, Debug)]
pub struct PlainOptions {
    /// Address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Metrics, too, not only probes.
    pub metrics: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)),
            certificate: CertificateSource::SelfSigned { names: Vec::new() },
            client_ca_file: None,
            gate: GateOptions::default(),
            plain: None,
        }
    }
}

/// What is shown, and who is asked about callers. Cloning shares all of it.
#[derive(Clone)]
pub struct HttpState {
    /// Checks behind the probes. `shutdown` is added by [`serve`].
    pub health: HealthChecks,
    /// The registry behind `/metrics`.
    pub metrics: Metrics,
    /// The resolved configuration in use, for `/configz`; without secrets.
    pub configuration: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Who takes in data that arrive, if tasks are looked after.
    pub events: Option<EventIntake>,
    /// Tasks over HTTPS, and the page, if tasks are looked after.
    pub api: Option<TaskApi>,
    /// Who is asked about callers: `kubernetes::review::ApiReviewer`.
    pub reviewer: Arc<dyn Reviewer>,
    /// From now on `/readyz` fails: nobody should count on this process any more. The server still answers.
    pub draining: CancellationToken,
    /// The server ends.
    pub stop: CancellationToken,
}

/// Where it serves: real ports, when 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// HTTPS.
    pub secure: SocketAddr,
    /// The plain listener.
    pub plain: Option<SocketAddr>,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another address or port")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Binds the listeners, and returns where, with the future that serves until `state.stop`. Connections that are busy then get 5 s.
pub async fn serve(options: HttpOptions, state: HttpState) -> Result<(Bound, impl Future<Output = ()> + Send + 'static), HttpError> {
    let metrics = HttpMetrics::new(&state.metrics);
    let draining = state.draining.clone();
    state.health.add("shutdown", &[Probe::Readyz], move || if draining.is_cancelled() { Err("shutting down".into()) } else { Ok(()) });

    let (tls, followed) = Tls::new(options.certificate, options.client_ca_file, metrics.clone()).await?;
    let gate = Arc::new(Gate::new(options.gate, state.reviewer.clone(), metrics.clone()));
    let listener = |socket, router, tls| Listener {
        socket,
        router,
        tls,
        connections_max: CONNECTIONS_MAX,
        metrics: metrics.clone(),
        stop: state.stop.clone(),
    };
    let (socket, secure_address) = listen(options.address).await?;
    let secure = listener(socket, routes::secure(&state, &gate, metrics.clone()), Some(tls.clone()));
    let (plain, plain_address) = match options.plain {
        None => (None, None),
        Some(PlainOptions { address, metrics: with_metrics }) => {
            let (socket, address) = listen(address).await?;
            (Some(listener(socket, routes::plain(&state, with_metrics, metrics.clone()), None)), Some(address))
        }
    };
    let run = async move {
        let plain = async move {
            if let Some(plain) = plain {
                plain.run().await;
            }
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(secure.run(), plain) } => {}
            () = tls.follow(followed) => {}
        }
    };
    Ok((Bound { secure: secure_address, plain: plain_address }, run))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), HttpError> {
    let failed = |source| HttpError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

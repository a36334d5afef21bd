//! The kubelet's API for all virtual Nodes, on one port. In: what the home API server asks a kubelet (`kubectl logs`, `exec`, `attach`, `cp`,
//! `port-forward`). Out: the answers of the clusters where the pods run, or of the archive once a run is gone.
//!
//! ```text
//! socket -> tls (certificate) -> callers (who) -> path (what) -> home pod (where) -> gate (may they) -> log | tunnel -> compute cluster
//!                                                                                                       \-> archive
//! ```
//!
//! A path names namespace, pod and container, but no Node: the home pod's record says where it runs. Every replica serves, the standby as well:
//! nothing here writes to a pod.

mod answer;
mod archived;
mod callers;
mod certificate;
mod log;
mod path;
mod place;
mod server;
#[cfg(test)]
mod tests;
mod tunnel;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use self::archived::{ArchiveError, ArchivedLog, ArchivedLogs, LogStream, without_times};
use self::{callers::Callers, certificate::Certificates, server::Server};
use super::{
    gate::{Gate, GateOptions},
    review::Reviewer,
    tls::TlsError,
};
use crate::{
    kubernetes::{api::Api, clock::Clock, cluster::directory::ClusterDirectory},
    metrics::{HttpMetrics, KubeletMetrics, Metrics},
};

/// A kubelet's port.
pub const DEFAULT_KUBELET_PORT: u16 = 10250;

/// Where and how to serve, and who is asked for what.
pub struct KubeletOptions {
    /// HTTPS address; port 0 takes a free one.
    pub address: SocketAddr,
    /// The home API server, without leadership: every replica serves.
    pub home: Api,
    /// The compute clusters.
    pub directory: ClusterDirectory,
    /// Logs of runs that are gone.
    pub archive: Option<Arc<dyn ArchivedLogs>>,
    /// Who is asked about callers: `kubernetes::review::ApiReviewer`.
    pub reviewer: Arc<dyn Reviewer>,
    /// The serving certificate.
    pub certificate: KubeletCertificate,
    /// Whose client certificates are believed.
    pub client_ca: ClientCa,
    /// Bounds.
    pub limits: KubeletLimits,
    /// What time it is, for logs `since` some time ago and for the life of certificates.
    pub clock: Clock,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// The server ends; open sessions get 5 s.
    pub stop: CancellationToken,
}

/// Where the serving certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubeletCertificate {
    /// From the home cluster's signer `kubernetes.io/kubelet-serving`: asked for, approved by ourselves, renewed in time. Until it is there, and
    /// whenever the signer does not answer, a self-signed one.
    Csr {
        /// The common name is `system:node:` and this: a virtual Node, or `isobar`.
        node: String,
        /// Addresses and DNS names that the home API server may reach us by: at least one.
        names: Vec<String>,
    },
    /// Made at start. An API server without `--kubelet-certificate-authority`, upstream's default, accepts it.
    SelfSigned {
        /// Addresses and DNS names besides `localhost`.
        names: Vec<String>,
    },
    /// PEM files, read anew when they change.
    Files {
        /// The certificate, then those above it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Which authority signs the certificates of callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCa {
    /// `client-ca-file` of the home cluster's `ConfigMap` `kube-system/extension-apiserver-authentication`, read every minute.
    ConfigMap,
    /// A PEM file, read every minute.
    File(PathBuf),
    /// None: callers need a token.
    None,
}

/// Bounds: callers that are let in can hold so much of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeletLimits {
    /// Connections at once, those of sessions included.
    pub connections_max: usize,
    /// Sessions of exec, attach and port-forward at once. An idle one stays as long as both ends want it.
    pub tunnels_max: usize,
}

impl Default for KubeletLimits {
    /// 200 people with a shell each, and as much again, twice.
    fn default() -> Self {
        Self { connections_max: 1024, tunnels_max: 512 }
    }
}

/// Where it serves: the real port, when 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundAddress(pub SocketAddr);

/// Why the endpoint cannot start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The address cannot be had.
    #[error("cannot listen for the virtual nodes on {address}: {source}; choose another address or port")]
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

/// Binds, and returns where, with the future that serves until `options.stop`.
pub async fn serve(options: KubeletOptions) -> Result<(BoundAddress, impl Future<Output = ()> + Send + 'static), KubeletError> {
    let metrics = KubeletMetrics::new(&options.metrics);
    let home = options.home.unlimited();
    let certificates = Certificates::new(options.certificate, home.clone(), options.clock, metrics.clone()).await?;
    let callers = Arc::new(Callers::new(options.client_ca, home.clone()));
    callers.refresh().await;
    let gate = Gate::new(gate_options(), options.reviewer, HttpMetrics::new(&options.metrics));
    let failed = |source| KubeletError::Listen { address: options.address, source };
    let socket = server::listen(options.address).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    let server = Server::new(
        server::Parts {
            tls: server::tls_config(&certificates)?,
            callers: callers.clone(),
            gate,
            home,
            directory: options.directory,
            archive: options.archive,
            clock: options.clock,
            metrics,
            stop: options.stop,
        },
        options.limits,
    );
    let run = async move {
        tokio::select! {
            () = server.run(socket) => {}
            () = certificates.follow() => {}
            () = callers.follow() => {}
        }
    };
    Ok((BoundAddress(bound), run))
}

/// A kubelet's: a permission is believed for 5 min, a refusal for 30 s. No path is open.
fn gate_options() -> GateOptions {
    let (allowed_for, denied_for) = (std::time::Duration::from_secs(300), std::time::Duration::from_secs(30));
    GateOptions { always_allow_paths: Vec::new(), anonymous: false, allowed_for, denied_for }
}

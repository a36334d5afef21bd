//! Clients of API servers, from a kubeconfig file or from the service account of our own pod.
//!
//! kube's hidden retries are off (a repeated POST can bind twice as far as we can tell), its long time-outs are replaced by one per request, and
//! there is no token bucket by default: the API server's own fairness (APF) slows us down with 429 and `Retry-After`, which we honour, and the
//! number of requests in flight is bounded per purpose. An admin's `clientConnection.qps` and `burst` are kept to when they are set.

use std::{path::Path, time::Duration};

use http::{HeaderValue, header};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::ConfigExt as _,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, ServiceBuilder};

use super::{
    api::{Api, with_causes},
    fence::{FencedBody, fenced},
};
use crate::metrics::ApiMetrics;

/// A connection that takes longer to set up is tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A write that makes no progress means that the other side is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which nothing comes is asked after this whether the other side is there, and given up after so many unanswered questions.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;
/// A connection that a burst of bindings needed is closed after this; each holds some 40 KiB.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How we reach an API server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionOptions {
    /// Requests a second; `None` or 0 leaves the rate to the server.
    pub qps: Option<f64>,
    /// Requests at once beyond that rate.
    pub burst: u32,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig file cannot be read or used.
    #[error("cannot use kubeconfig {path}: {why}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// The cause, with its causes.
        why: String,
    },
    /// There is no service account to use.
    #[error("no --kubeconfig was given and this is not a pod with a service account: {0}")]
    InCluster(String),
    /// The configuration was read but no client can be made of it.
    #[error("cannot set up the connection to the API server: {0}")]
    Setup(String),
}

/// A client from a kubeconfig file, or from the pod's service account when there is none.
///
/// Must be called within a tokio runtime. Credential plugins of the kubeconfig run here, so it may take a while.
pub async fn connect(kubeconfig: Option<&Path>, options: &ConnectionOptions, metrics: ApiMetrics) -> Result<Api, ClientError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster().map_err(|error| ClientError::InCluster(with_causes(&error)))?,
    };
    let api = from_config(config, metrics)?;
    Ok(match options.qps {
        Some(qps) if qps > 0.0 => api.limited(qps, f64::from(options.burst)),
        _ => api,
    })
}

/// The same from what a kubeconfig said, at no bounded rate. Must be called within a tokio runtime.
pub(super) fn from_config(config: Config, metrics: ApiMetrics) -> Result<Api, ClientError> {
    // Two providers of cryptography could be linked in; this is the one. Already set is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let client = client(ours(config)).map_err(|error| ClientError::Setup(with_causes(&error)))?;
    Ok(Api::new(client, &host, metrics))
}

/// A client of some other server: no credentials. Must be called within a tokio runtime.
pub(super) fn elsewhere(base: http::Uri) -> Result<Client, ClientError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    client(ours(Config::new(base))).map_err(|error| ClientError::Setup(with_causes(&error)))
}

/// kube's parts on our own connections: no delay for small requests, dead peers noticed, idle connections closed, and a last look before each write.
fn client(config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        // Through a proxy kube's own stack does it all but the last look.
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(WRITE_TIMEOUT));
    let connections = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build::<_, FencedBody>(config.rustls_https_connector_with_connector(tcp)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .map_request(fenced)
        .service(connections);
    Ok(Client::new(service, config.default_namespace))
}

async fn from_file(path: &Path) -> Result<Config, ClientError> {
    let failed = |error: &dyn std::error::Error| ClientError::Kubeconfig { path: path.display().to_string(), why: with_causes(error) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|error| failed(&error))
}

fn ours(mut config: Config) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = None;
    config.write_timeout = Some(WRITE_TIMEOUT);
    config.disable_compression = true;
    config.headers.push((header::USER_AGENT, HeaderValue::from_static(concat!("isobar/", env!("CARGO_PKG_VERSION")))));
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn metrics() -> ApiMetrics {
        ApiMetrics::new(&Metrics::new())
    }

    #[tokio::test]
    async fn says_which_file_is_wrong() {
        let missing = connect(Some(Path::new("/nowhere/kubeconfig")), &ConnectionOptions::default(), metrics()).await.err().unwrap();
        assert!(missing.to_string().starts_with("cannot use kubeconfig /nowhere/kubeconfig: "), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "apiVersion: v1\nkind: Config\ncurrent-context: none\n").unwrap();
        let empty = connect(Some(file.path()), &ConnectionOptions::default(), metrics()).await.err().unwrap();
        assert!(matches!(empty, ClientError::Kubeconfig { .. }), "{empty}");
    }

    #[tokio::test]
    async fn retries_are_off_and_the_agent_names_us() {
        let config = ours(Config::new("http://127.0.0.1:1".parse().unwrap()));
        assert!(!config.default_retry);
        assert!(config.headers.iter().any(|(name, value)| name == header::USER_AGENT && value.as_bytes().starts_with(b"isobar/")));
    }
}

//! One extender over HTTP. In: its configuration, a verb, a body. Out: the answer's body within its time and size, or why there is none, counted.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{Config, client::ConfigExt as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::{Instant, timeout};

use super::protocol::Verb;
use crate::{
    config::{resolved::Extender, wire::ExtenderTls},
    kubernetes::api::with_causes,
    metrics::ExtenderMetrics,
};

/// An answer may be as long as this, or twice as long as what was sent: who gets nodes may send them back.
const ANSWER_BYTES: usize = 4 << 20;
/// A connection that nothing was sent on is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Why an extender of a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExtenderError {
    /// The prefix is no URL.
    #[error("extender {url:?}: urlPrefix cannot be used: {why}; write it as http://host:port/path")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Certificates or keys cannot be read or used.
    #[error("extender {url:?}: tlsConfig cannot be used: {why}; give PEM files that this process may read, or PEM in base64")]
    Tls {
        /// As configured.
        url: String,
        /// What is wrong.
        why: String,
    },
}

/// Sends one request.
type Caller = Box<dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Result<Response<Incoming>, Error>> + Send + Sync>;

/// An extender that can be called.
pub struct Remote {
    pub(super) configured: Extender,
    send: Caller,
    metrics: ExtenderMetrics,
}

impl Remote {
    /// Reads certificates. Must be called within a tokio runtime.
    pub(super) fn new(configured: Extender, metrics: ExtenderMetrics) -> Result<Self, ExtenderError> {
        // Two providers of cryptography could be linked in; this is the one. Already set is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = configured.url_prefix.clone();
        let uri = url.parse().map_err(|error: http::uri::InvalidUri| ExtenderError::Url { url: url.clone(), why: error.to_string() })?;
        let config = tls(uri, &configured).map_err(|why| ExtenderError::Tls { url: url.clone(), why })?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = config.rustls_https_connector_with_connector(tcp);
        let connector = connector.map_err(|error| ExtenderError::Tls { url, why: with_causes(&error) })?;
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
        let send = Box::new(move |request| client.request(request).boxed());
        Ok(Self { configured, send, metrics })
    }

    /// The path of a verb, if the extender has it.
    pub(super) fn verb(&self, verb: Verb) -> Option<&str> {
        let configured = match verb {
            Verb::Filter => &self.configured.filter_verb,
            Verb::Prioritize => &self.configured.prioritize_verb,
            Verb::Preempt => &self.configured.preempt_verb,
            Verb::Bind => &self.configured.bind_verb,
        };
        configured.as_deref()
    }

    /// One call. It is never repeated: what it did is not known.
    pub(super) async fn call(&self, verb: Verb, body: String) -> Result<Bytes, String> {
        let url = format!("{}/{}", self.configured.url_prefix.trim_end_matches('/'), self.verb(verb).unwrap_or_default());
        let limit = Duration::from_millis(self.configured.http_timeout.0);
        let started = Instant::now();
        let outcome = timeout(limit, self.exchange(&url, verb, body)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("extender at URL {url} gave no answer within {} ms", limit.as_millis())));
        self.metrics.called(verb.label(), outcome.is_ok(), started.elapsed());
        outcome
    }

    async fn exchange(&self, url: &str, verb: Verb, body: String) -> Result<Bytes, String> {
        let answer_max = ANSWER_BYTES.max(2 * body.len());
        let request = Request::builder().method(Method::POST).uri(url).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Full::from(body)).map_err(|error| format!("extender at URL {url} cannot be called: {error}"))?;
        let response =
            (self.send)(request).await.map_err(|error| format!("extender at URL {url} cannot be reached: {}", with_causes(&error)))?;
        if response.status() != StatusCode::OK {
            let action = self.verb(verb).unwrap_or_default();
            return Err(format!("failed {action} with extender at URL {url}, code {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), answer_max).collect().await;
        body.map(|body| body.to_bytes())
            .map_err(|error| format!("extender at URL {url}: the answer broke off or is longer than {answer_max} bytes: {error}"))
    }

    /// An answer that made no sense, with the extender's name.
    pub(super) fn nonsense(&self, verb: Verb, why: &str) -> String {
        self.metrics.refused(verb.label());
        format!("extender at URL {}: {}: {why}", self.configured.url_prefix, verb.label())
    }
}

/// Upstream's rules: HTTPS by `enableHTTPS` without any authority checks nothing.
fn tls(uri: http::Uri, configured: &Extender) -> Result<Config, String> {
    let none = ExtenderTls::default();
    let tls = configured.tls.as_ref().unwrap_or(&none);
    let mut config = Config::new(uri);
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    config.root_cert = authorities(tls)?;
    config.accept_invalid_certs = tls.insecure || (configured.enable_https && config.root_cert.is_none());
    config.tls_server_name = some(&tls.server_name);
    config.auth_info.client_certificate = some(&tls.cert_file);
    config.auth_info.client_certificate_data = some(&tls.cert_data);
    config.auth_info.client_key = some(&tls.key_file);
    config.auth_info.client_key_data = some(&tls.key_data).map(Into::into);
    Ok(config)
}

/// The authorities to trust, as kube wants them. Data wins over files.
fn authorities(tls: &ExtenderTls) -> Result<Option<Vec<Vec<u8>>>, String> {
    use base64::Engine as _;
    let pem = if !tls.ca_data.is_empty() {
        base64::engine::general_purpose::STANDARD.decode(&tls.ca_data).map_err(|error| format!("caData: {error}"))?
    } else if !tls.ca_file.is_empty() {
        std::fs::read(&tls.ca_file).map_err(|error| format!("caFile {}: {error}", tls.ca_file))?
    } else {
        return Ok(None);
    };
    let found: Result<Vec<Vec<u8>>, _> = CertificateDer::pem_slice_iter(&pem).map(|found| found.map(|found| found.to_vec())).collect();
    match found {
        Ok(found) if found.is_empty() => Err("the certificate authority holds no certificate".to_owned()),
        Ok(found) => Ok(Some(found)),
        Err(error) => Err(format!("the certificate authority is no PEM: {error}")),
    }
}

//! The server's certificate. In: files, or nothing. Out: a rustls configuration that always works, changed when the files change.
//!
//! Files are compared by content every 30 s, as mounted Secrets swap by a link that file watching misses. What cannot be used is refused and
//! the last good pair stays.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::review::User;
use crate::metrics::HttpMetrics;

/// How often files are read again.
const POLL_EVERY: Duration = Duration::from_secs(30);

/// How long our own certificate lasts: longer than any process, as nothing renews it while the process runs.
const OWN_CERTIFICATE_YEARS: i16 = 10;

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Made at start and kept in memory, for `localhost`, `127.0.0.1`, `::1` and these names (the host's, a Service's).
    SelfSigned {
        /// Further DNS names or addresses.
        names: Vec<String>,
    },
    /// PEM files.
    Files {
        /// The certificate, then those above it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; give PEM files that this process may read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not PEM, or holds nothing of what is needed.
    #[error("{path} holds no {wanted}: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What was found.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file is empty of certificates.
    #[error("{path} holds no certificate")]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used: {0}; check that they belong together")]
    Unusable(#[from] rustls::Error),
    /// The certificates for verifying clients cannot be used.
    #[error("the client CA cannot be used: {0}")]
    ClientCa(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Our own certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Own(#[from] rcgen::Error),
}

/// What is served with now, and the files that it follows.
pub(super) struct Tls {
    source: CertificateSource,
    client_ca: Option<PathBuf>,
    current: ArcSwap<ServerConfig>,
    metrics: HttpMetrics,
}

/// The files' contents, to see whether anything changed.
#[derive(PartialEq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads or makes the first pair. Returns what was read, for [`Self::follow`].
    pub(super) async fn new(
        source: CertificateSource,
        client_ca: Option<PathBuf>,
        metrics: HttpMetrics,
    ) -> Result<(Arc<Self>, Followed), TlsError> {
        let contents = read(&source, client_ca.as_deref(), None).await?;
        let (config, expiry) = build(&source, client_ca.as_ref(), &contents)?;
        metrics.certificate_expiry.set(expiry);
        Ok((Arc::new(Self { source, client_ca, current: ArcSwap::from_pointee(config), metrics }), Followed(contents)))
    }

    /// The configuration for the next connection.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Follows the files for ever.
    pub(super) async fn follow(self: Arc<Self>, Followed(mut seen): Followed) {
        let mut last_error = String::new();
        loop {
            tokio::time::sleep(POLL_EVERY).await;
            match self.poll(&mut seen).await {
                Ok(()) => last_error.clear(),
                Err(error) => {
                    let error = error.to_string();
                    if error != last_error {
                        self.metrics.certificates_refused.increment(1);
                        tracing::error!(%error, "the server's changed certificate is refused; the last good one stays in use");
                    }
                    last_error = error;
                }
            }
        }
    }

    async fn poll(&self, seen: &mut Contents) -> Result<(), TlsError> {
        let contents = read(&self.source, self.client_ca.as_deref(), Some(seen)).await?;
        if contents == *seen {
            return Ok(());
        }
        // A Secret's files swap together, files copied by hand do not: a pair that does not match is tried again at the next poll.
        let (config, expiry) = build(&self.source, self.client_ca.as_ref(), &contents)?;
        self.current.store(Arc::new(config));
        self.metrics.certificate_expiry.set(expiry);
        self.metrics.certificates_applied.increment(1);
        tracing::info!("the server's certificate was renewed");
        *seen = contents;
        Ok(())
    }
}

/// What was read last.
pub(super) struct Followed(Contents);

/// Reads the files; our own pair is made once and then stays what it was.
async fn read(source: &CertificateSource, client_ca: Option<&std::path::Path>, before: Option<&Contents>) -> Result<Contents, TlsError> {
    let file =
        async |path: &std::path::Path| tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source });
    let (certificate, key) = match (source, before) {
        (CertificateSource::Files { certificate, key }, _) => (file(certificate).await?, file(key).await?),
        (CertificateSource::SelfSigned { .. }, Some(before)) => (before.certificate.clone(), before.key.clone()),
        (CertificateSource::SelfSigned { names }, None) => self_signed(names)?,
    };
    let client_ca = match client_ca {
        Some(path) => Some(file(path).await?),
        None => None,
    };
    Ok(Contents { certificate, key, client_ca })
}

pub(super) fn self_signed(names: &[String]) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = rcgen::CertificateParams::new(own.iter().chain(names).cloned().collect::<Vec<_>>())?;
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    // From the first of January before last midnight in any time zone, so that a clock that runs behind does not refuse it.
    params.not_before = rcgen::date_time_ymd(i32::from(today.year()) - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(i32::from(today.year() + OWN_CERTIFICATE_YEARS), 1, 1);
    params.distinguished_name.push(rcgen::DnType::CommonName, "isobar (self-signed)");
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let key = rcgen::KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem().into_bytes(), key.serialize_pem().into_bytes()))
}

/// Builds the configuration, and says when the certificate ends, in seconds since 1970.
fn build(source: &CertificateSource, client_ca: Option<&PathBuf>, contents: &Contents) -> Result<(ServerConfig, f64), TlsError> {
    let (certificate_path, key_path) = match source {
        CertificateSource::Files { certificate, key } => (certificate.clone(), key.clone()),
        CertificateSource::SelfSigned { .. } => ("(own certificate)".into(), "(own key)".into()),
    };
    let chain = certificates(certificate_path, &contents.certificate)?;
    let expiry = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok()).map_or(f64::NAN, |(_, leaf)| {
        #[allow(clippy::cast_precision_loss)] // seconds since 1970
        let end = leaf.validity().not_after.timestamp() as f64;
        end
    });
    let key =
        PrivateKeyDer::from_pem_slice(&contents.key).map_err(|source| TlsError::Pem { path: key_path, wanted: "private key", source })?;

    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match client_ca.zip(contents.client_ca.as_ref()) {
        None => builder.with_no_client_auth(),
        Some((path, pem)) => builder.with_client_cert_verifier(client_verifier(provider, certificates(path.clone(), pem)?)?),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, expiry))
}

pub(super) fn client_verifier(
    provider: Arc<CryptoProvider>,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| TlsError::ClientCa(error.into()))?;
    }
    // A client may also come without a certificate and bring a token.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    verifier.build().map(|verifier| verifier as _).map_err(|error| TlsError::ClientCa(error.into()))
}

pub(super) fn certificates(path: PathBuf, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if chain.is_empty() => Err(TlsError::NoCertificate { path }),
        Ok(chain) => Ok(chain),
        Err(source) => Err(TlsError::Pem { path, wanted: "certificate", source }),
    }
}

/// The caller that the handshake verified: common name and organisations, as Kubernetes reads client certificates.
pub(super) fn client_of(connection: &ServerConnection) -> Option<User> {
    let leaf = connection.peer_certificates()?.first()?;
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let name = leaf.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = leaf.subject().iter_organization().filter_map(|group| Some(group.as_str().ok()?.to_owned())).collect();
    (!name.is_empty()).then(|| User { name, groups, ..User::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    async fn write(directory: &std::path::Path, (certificate, key): &(Vec<u8>, Vec<u8>)) -> CertificateSource {
        let paths = (directory.join("tls.crt"), directory.join("tls.key"));
        tokio::fs::write(&paths.0, certificate).await.unwrap();
        tokio::fs::write(&paths.1, key).await.unwrap();
        CertificateSource::Files { certificate: paths.0, key: paths.1 }
    }

    #[tokio::test]
    async fn a_changed_pair_is_taken_up_and_a_bad_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let (first, second) = (self_signed(&[]).unwrap(), self_signed(&[]).unwrap());
        let source = write(directory.path(), &first).await;
        let (tls, Followed(mut seen)) = Tls::new(source, None, HttpMetrics::new(&metrics)).await.unwrap();
        let before = tls.current();
        tls.poll(&mut seen).await.unwrap();
        assert!(Arc::ptr_eq(&before, &tls.current()), "unchanged files change nothing");

        write(directory.path(), &(second.0.clone(), first.1.clone())).await;
        let error = tls.poll(&mut seen).await.unwrap_err().to_string();
        assert!(error.contains("belong together"), "{error}");
        write(directory.path(), &(b"nonsense".to_vec(), second.1.clone())).await;
        let error = tls.poll(&mut seen).await.unwrap_err().to_string();
        assert!(error.contains("tls.crt holds no certificate"), "{error}");
        std::fs::remove_file(directory.path().join("tls.key")).unwrap();
        let error = tls.poll(&mut seen).await.unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains("tls.key"), "{error}");
        assert!(Arc::ptr_eq(&before, &tls.current()), "the last good pair stays");

        write(directory.path(), &second).await;
        tls.poll(&mut seen).await.unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.current()));
        assert!(metrics.render().contains("isobar_http_certificate_reloads_total{result=\"applied\"} 1\n"));
    }

    #[tokio::test]
    async fn our_own_certificate_lasts_and_its_end_is_a_metric() {
        let metrics = Metrics::new();
        let names = vec!["host.example".to_owned(), "10.0.0.1".to_owned()];
        Tls::new(CertificateSource::SelfSigned { names }, None, HttpMetrics::new(&metrics)).await.unwrap();
        let text = metrics.render();
        let line = text.lines().find(|line| line.starts_with("isobar_http_certificate_expiry_timestamp_seconds ")).unwrap();
        let end: f64 = line.split_once(' ').unwrap().1.parse().unwrap();
        let years = (end - f64::from(u32::try_from(jiff::Timestamp::now().as_second()).unwrap())) / (365.25 * 86400.0);
        assert!((8.9..10.1).contains(&years), "{years}");
    }
}

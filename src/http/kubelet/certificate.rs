//! The serving certificate of the virtual Nodes. In: the home cluster's signer, files, or nothing. Out: for each handshake the pair in use, always one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::KubeletCertificate;
use crate::{
    http::tls::{TlsError, certificates, self_signed},
    kubernetes::{api::Api, clock::Clock, serving_certificate},
    metrics::KubeletMetrics,
};

/// How often files are compared.
const POLL_EVERY: Duration = Duration::from_secs(30);

/// The signer did not answer, or refused: it is asked again after this, twice as long each time, up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The pair in use.
#[derive(Debug)]
pub(super) struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The pair in use, and where the next one comes from.
pub(super) struct Certificates {
    source: KubeletCertificate,
    home: Api,
    clock: Clock,
    metrics: KubeletMetrics,
    current: Arc<Current>,
}

/// A chain and its key, in PEM.
type Pair = (Vec<u8>, Vec<u8>);

impl Certificates {
    /// The first pair: from the files, or self-signed. A signer is asked by [`Self::follow`].
    pub(super) async fn new(source: KubeletCertificate, home: Api, clock: Clock, metrics: KubeletMetrics) -> Result<Self, TlsError> {
        let pair = match &source {
            KubeletCertificate::SelfSigned { names } | KubeletCertificate::Csr { names, .. } => self_signed(names)?,
            KubeletCertificate::Files { certificate, key } => read(certificate, key).await?,
        };
        let (pair, life) = certified(&pair)?;
        metrics.certificate_expiry.set(life.end_seconds());
        Ok(Self { source, home, clock, metrics, current: Arc::new(Current(ArcSwap::from_pointee(pair))) })
    }

    /// What rustls asks at each handshake.
    pub(super) fn resolver(&self) -> Arc<Current> {
        self.current.clone()
    }

    /// Renews for ever.
    pub(super) async fn follow(&self) {
        match &self.source {
            KubeletCertificate::SelfSigned { .. } => std::future::pending().await,
            KubeletCertificate::Files { certificate, key } => self.follow_files(certificate, key).await,
            KubeletCertificate::Csr { node, names } => self.follow_signer(node, names).await,
        }
    }

    async fn follow_files(&self, certificate: &PathBuf, key: &PathBuf) {
        let (mut seen, mut last_error) = (None, String::new());
        loop {
            let outcome = match read(certificate, key).await {
                Ok(pair) if seen.as_ref() == Some(&pair) => Ok(()),
                Ok(pair) => self.take(&pair).map(|_| seen = Some(pair)),
                Err(error) => Err(error),
            };
            let error = outcome.err().map(|error| error.to_string()).unwrap_or_default();
            if !error.is_empty() && error != last_error {
                self.metrics.certificates_failed.increment(1);
                tracing::error!(%error, "the changed serving certificate of the virtual nodes is refused; the last good one stays in use");
            }
            last_error = error;
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    async fn follow_signer(&self, node: &str, names: &[String]) {
        let mut retry = RETRY_FIRST;
        loop {
            let outcome = match serving_certificate::request(&self.home, node, names).await {
                Ok(issued) => self.take(&(issued.chain_pem, issued.key_pem)).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let wait = match outcome {
                Ok(life) => {
                    retry = RETRY_FIRST;
                    life.renew_after(self.clock.wall())
                }
                Err(error) => {
                    self.metrics.certificates_failed.increment(1);
                    tracing::warn!(%error, "no serving certificate for the virtual nodes from the signer kubernetes.io/kubelet-serving; the one in use stays");
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn take(&self, pair: &Pair) -> Result<Life, TlsError> {
        let (pair, life) = certified(pair)?;
        self.current.0.store(Arc::new(pair));
        self.metrics.certificate_expiry.set(life.end_seconds());
        self.metrics.certificates_applied.increment(1);
        Ok(life)
    }
}

async fn read(certificate: &PathBuf, key: &PathBuf) -> Result<Pair, TlsError> {
    let file = async |path: &PathBuf| tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.clone(), source });
    Ok((file(certificate).await?, file(key).await?))
}

/// From when until when a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    begin: i64,
    end: i64,
    /// Part of 256, from the certificate itself: replicas do not renew together.
    spread: u8,
}

impl Life {
    fn of(leaf: &CertificateDer<'_>) -> Self {
        let spread = leaf.last().copied().unwrap_or_default();
        X509Certificate::from_der(leaf).map_or(Self { begin: 0, end: 0, spread }, |(_, leaf)| Self {
            begin: leaf.validity().not_before.timestamp(),
            end: leaf.validity().not_after.timestamp(),
            spread,
        })
    }

    #[allow(clippy::cast_precision_loss)] // seconds since 1970
    fn end_seconds(self) -> f64 {
        self.end as f64
    }

    /// How long until 70 to 90 % of it are over; a while even for one that is over, as the signer must not be asked in a row.
    fn renew_after(self, now: jiff::Timestamp) -> Duration {
        let life = self.end.saturating_sub(self.begin);
        let at = self.begin + life / 10 * 7 + life / 5 * i64::from(self.spread) / 256;
        Duration::from_secs(u64::try_from(at.saturating_sub(now.as_second())).unwrap_or_default()).max(RETRY_FIRST)
    }
}

fn certified((chain, key): &Pair) -> Result<(CertifiedKey, Life), TlsError> {
    let chain = certificates("(serving certificate)".into(), chain)?;
    let pem = |source| TlsError::Pem { path: "(serving key)".into(), wanted: "private key", source };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(pem)?;
    let life = chain.first().map_or(Life { begin: 0, end: 0, spread: 0 }, Life::of);
    Ok((CertifiedKey::from_der(chain, key, &ring::default_provider())?, life))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{
        Json, Router,
        http::StatusCode,
        routing::{get, post, put},
    };
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::{Value, json};
    use x509_parser::certification_request::X509CertificationRequest;

    use super::*;
    use crate::{
        metrics::{ApiMetrics, Metrics},
        model::time::Timestamp,
    };

    #[test]
    fn a_certificate_is_renewed_between_seven_and_nine_tenths_of_its_life() {
        let now = jiff::Timestamp::from_second(1_000).unwrap();
        for (spread, expected) in [(0, 700), (128, 800), (255, 899)] {
            assert_eq!(Life { begin: 1_000, end: 2_000, spread }.renew_after(now).as_secs(), expected, "{spread}");
        }
        assert_eq!(Life { begin: 0, end: 500, spread: 0 }.renew_after(now), RETRY_FIRST, "never in a row");
    }

    /// The public key of a request.
    struct Asked(Vec<u8>);

    impl rcgen::PublicKeyData for Asked {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }

        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }

    /// Signs as the controller manager does, for ten days, after checking what that one checks.
    fn sign(object: &Value) -> String {
        assert_eq!(object["spec"]["signerName"], "kubernetes.io/kubelet-serving");
        assert_eq!(object["spec"]["usages"], json!(["digital signature", "server auth"]));
        let pem = STANDARD.decode(object["spec"]["request"].as_str().unwrap()).unwrap();
        let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(&pem).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        let info = &request.certification_request_info;
        assert_eq!(info.subject.to_string(), "O=system:nodes, CN=system:node:isobar-cloud");
        assert!(request.requested_extensions().unwrap().any(|extension| format!("{extension:?}").contains("IPAddress([10, 0, 0, 1])")));
        let mut params = rcgen::CertificateParams::new(vec!["10.0.0.1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 11);
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(rcgen::CertificateParams::new(Vec::new()).unwrap(), key);
        let signed = params.signed_by(&Asked(info.subject_pki.subject_public_key.data.to_vec()), &issuer).unwrap();
        STANDARD.encode(signed.pem())
    }

    /// An API server whose first request for a certificate is refused.
    fn signer(asked: Arc<AtomicUsize>) -> Router {
        let object = Arc::new(std::sync::Mutex::new(json!({})));
        let (created, approved) = (object.clone(), object.clone());
        let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        let create = async move |Json(mut wanted): Json<Value>| {
            if asked.fetch_add(1, Ordering::Relaxed) == 0 {
                return (StatusCode::FORBIDDEN, Json(json!({"message": "no RBAC rule"})));
            }
            wanted["metadata"]["name"] = "csr-1".into();
            *created.lock().unwrap() = wanted.clone();
            (StatusCode::CREATED, Json(wanted))
        };
        let approve = async move |Json(mut wanted): Json<Value>| {
            assert_eq!(wanted["status"]["conditions"][0]["type"], "Approved");
            wanted["status"]["certificate"] = sign(&wanted).into();
            *approved.lock().unwrap() = wanted.clone();
            Json(wanted)
        };
        let show = async move || Json(object.lock().unwrap().clone());
        Router::new()
            .route(path, post(create))
            .route(&format!("{path}/csr-1/approval"), put(approve))
            .route(&format!("{path}/csr-1"), get(show))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_certificate_is_asked_for_again_and_a_signed_one_renewed_in_time() {
        let (asked, metrics) = (Arc::new(AtomicUsize::new(0)), Metrics::new());
        let client = kube::Client::new(signer(asked.clone()), "default");
        let home = Api::new(client, "home", ApiMetrics::new(&metrics));
        let start: jiff::Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::simulated(Timestamp(u64::try_from(start.as_millisecond()).unwrap()));
        let source = KubeletCertificate::Csr { node: "isobar-cloud".into(), names: vec!["10.0.0.1".into()] };
        let certificates = Certificates::new(source, home, clock, KubeletMetrics::new(&metrics)).await.unwrap();
        let own = certificates.current.0.load_full();
        let look = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(Arc::ptr_eq(&own, &certificates.current.0.load_full()), "refused: the self-signed one stays");
            tokio::time::sleep(RETRY_FIRST).await;
            let first = certificates.current.0.load_full();
            assert!(!Arc::ptr_eq(&own, &first));
            tokio::time::sleep(Duration::from_secs(86_400 * 699 / 100)).await;
            assert!(Arc::ptr_eq(&first, &certificates.current.0.load_full()), "not before seven tenths");
            tokio::time::sleep(Duration::from_secs(86_400 * 202 / 100)).await;
            assert!(!Arc::ptr_eq(&first, &certificates.current.0.load_full()), "at nine tenths at the latest");
        };
        tokio::select! {
            () = certificates.follow() => {}
            () = look => {}
        }
        let text = metrics.render();
        for line in [
            "isobar_kubelet_certificates_total{result=\"failed\"} 1\n",
            "isobar_kubelet_certificates_total{result=\"applied\"}",
            "isobar_kubelet_certificate_expiry_timestamp_seconds 1894320000\n",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }
}

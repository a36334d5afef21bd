//! Who calls, by client certificate. In: the certificate of a handshake. Out: its subject, if the home cluster's authority signed it.
//!
//! As a kubelet does, the handshake takes any certificate whose key the caller holds, and a stranger's is the same as none: the answer is then 401, not a
//! broken connection. The authority is looked up every minute.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::StatusCode;
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConnection, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;

use super::ClientCa;
use crate::{
    http::{
        review::User,
        tls::{certificates, client_of, client_verifier},
    },
    kubernetes::api::{Api, Call},
};

/// How often the authority is looked up.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// As long as there is none, more often.
const RETRY_EVERY: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Where API servers publish the authority of their clients.
const CONFIG_MAP: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

/// The authority in use.
struct Authority {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Tells callers by their certificates.
pub(super) struct Callers {
    source: ClientCa,
    home: Api,
    authority: ArcSwapOption<Authority>,
}

#[derive(Deserialize)]
struct ConfigMapWire {
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default, rename = "client-ca-file")]
    client_ca: String,
}

impl Callers {
    pub(super) fn new(source: ClientCa, home: Api) -> Self {
        Self { source, home, authority: ArcSwapOption::empty() }
    }

    /// The subject of the caller's certificate, if it can be believed.
    pub(super) fn of(&self, connection: &ServerConnection) -> Option<User> {
        let authority = self.authority.load_full()?;
        let (leaf, above) = connection.peer_certificates()?.split_first()?;
        authority.verifier.verify_client_cert(leaf, above, UnixTime::now()).ok()?;
        client_of(connection)
    }

    /// Looks the authority up. What cannot be read changes nothing.
    pub(super) async fn refresh(&self) {
        let read = match &self.source {
            ClientCa::None => return,
            ClientCa::ConfigMap => self.read_config_map().await,
            ClientCa::File(path) => tokio::fs::read(path).await.map_err(|error| format!("cannot read {}: {error}", path.display())),
        };
        if let Err(why) = read.and_then(|pem| self.take(pem)) {
            let effect = if self.authority.load().is_some() { "the last good one stays" } else { "callers need a token until then" };
            tracing::warn!(%why, "the authority that signs client certificates cannot be read; {effect}");
        }
    }

    /// Looks the authority up for ever.
    pub(super) async fn follow(&self) {
        if self.source == ClientCa::None {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(if self.authority.load().is_some() { REFRESH_EVERY } else { RETRY_EVERY }).await;
            self.refresh().await;
        }
    }

    async fn read_config_map(&self) -> Result<Vec<u8>, String> {
        let answer = self.home.call(Call::get(CONFIG_MAP.to_owned(), READ_TIMEOUT)).await.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(answer.failure());
        }
        let map: ConfigMapWire = serde_json::from_slice(&answer.body).map_err(|error| format!("the ConfigMap cannot be read: {error}"))?;
        if map.data.client_ca.is_empty() {
            return Err("the ConfigMap kube-system/extension-apiserver-authentication has no client-ca-file".to_owned());
        }
        Ok(map.data.client_ca.into_bytes())
    }

    fn take(&self, pem: Vec<u8>) -> Result<(), String> {
        if self.authority.load().as_ref().is_some_and(|authority| authority.pem == pem) {
            return Ok(());
        }
        let name = PathBuf::from("client-ca-file");
        let authorities = certificates(name, &pem).map_err(|error| error.to_string())?;
        let verifier = client_verifier(Arc::new(ring::default_provider()), authorities).map_err(|error| error.to_string())?;
        self.authority.store(Some(Arc::new(Authority { pem, verifier })));
        Ok(())
    }
}

/// Takes any certificate whose key the caller proves to hold. Whether it means anything is said by [`Callers::of`].
#[derive(Debug)]
pub(super) struct AnyHolder(pub(super) Arc<CryptoProvider>);

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

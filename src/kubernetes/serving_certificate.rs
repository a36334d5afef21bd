//! A kubelet's serving certificate from the home cluster's signer. In: the names it is to hold. Out: the signed chain with its key.
//!
//! Create a `CertificateSigningRequest`, approve it, wait for the controller manager to sign. Nothing of it can be lost: a request that is left over is
//! cleaned up by Kubernetes within hours.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    api::{Answer, Api, Call, CallError, JSON},
    clock::{Clock, whole_second_time},
};

/// Signs certificates that kubelets serve with.
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The signer runs in the controller manager and takes a second; without one it never comes.
const SIGN_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(500);

/// A signed certificate.
pub struct Issued {
    /// The certificate, then those above it, as PEM.
    pub chain_pem: Vec<u8>,
    /// Its private key, as PEM.
    pub key_pem: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Key or request cannot be made.
    #[error("cannot make a request for a certificate: {0}")]
    Request(#[from] rcgen::Error),
    /// The API server cannot be asked.
    #[error("{doing}: {source}")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: CallError,
    },
    /// The API server refuses.
    #[error("{doing}: {why}; grant it, or choose another source of the certificate")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// Somebody denied the request, or the signer failed.
    #[error("the request {name} was not signed: {why}")]
    NotSigned {
        /// The request.
        name: String,
        /// Their words.
        why: String,
    },
    /// The API server's answer makes no sense.
    #[error("{0} is not what was expected")]
    Unexpected(&'static str),
}

/// Asks for a certificate of `system:node:<node>` for these addresses and DNS names, approves it and waits for it.
pub async fn request(api: &Api, node: &str, names: &[String]) -> Result<Issued, CertificateError> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(names.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let pem = params.serialize_request(&key)?.pem()?;

    let wanted = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "isobar-kubelet-serving-", "labels": {"app.kubernetes.io/managed-by": "isobar"}},
        "spec": {"request": STANDARD.encode(pem), "signerName": SIGNER, "usages": ["digital signature", "server auth"]},
    });
    let mut object = write(api, Method::POST, PATH.to_owned(), &wanted, "creating a CertificateSigningRequest").await?;
    let name = object["metadata"]["name"].as_str().ok_or(CertificateError::Unexpected("the new CertificateSigningRequest"))?.to_owned();
    let now = whole_second_time(Clock::system().wall());
    object["status"]["conditions"] = json!([{
        "type": "Approved", "status": "True", "reason": "IsobarVirtualNode", "lastUpdateTime": now,
        "message": "Isobar serves the kubelet API of its virtual nodes with this certificate.",
    }]);
    write(api, Method::PUT, format!("{PATH}/{name}/approval"), &object, "approving our CertificateSigningRequest").await?;
    let chain_pem = signed(api, &name).await?;
    Ok(Issued { chain_pem, key_pem: key.serialize_pem().into_bytes() })
}

/// Waits for the signer.
async fn signed(api: &Api, name: &str) -> Result<Vec<u8>, CertificateError> {
    let doing = "looking at our CertificateSigningRequest";
    let until = Instant::now() + SIGN_TIMEOUT;
    loop {
        let object = accepted(api.call(Call::get(format!("{PATH}/{name}"), CALL_TIMEOUT)).await, doing)?;
        let status = &object["status"];
        if let Some(chain) = status["certificate"].as_str() {
            return STANDARD.decode(chain).map_err(|_| CertificateError::Unexpected("the signed certificate"));
        }
        let refused = |condition: &&Value| matches!(condition["type"].as_str(), Some("Denied" | "Failed"));
        let why = if let Some(condition) = status["conditions"].as_array().and_then(|conditions| conditions.iter().find(refused)) {
            condition["message"].as_str().unwrap_or("no reason was given").to_owned()
        } else if Instant::now() >= until {
            format!("nobody signed it within {} s; is the signer {SIGNER} on (kube-controller-manager)?", SIGN_TIMEOUT.as_secs())
        } else {
            tokio::time::sleep(POLL_EVERY).await;
            continue;
        };
        return Err(CertificateError::NotSigned { name: name.to_owned(), why });
    }
}

async fn write(api: &Api, method: Method, path: String, object: &Value, doing: &'static str) -> Result<Value, CertificateError> {
    let body = object.to_string().into_bytes();
    accepted(api.call(Call { method, path, content_type: JSON, body, timeout: CALL_TIMEOUT }).await, doing)
}

fn accepted(answer: Result<Answer, CallError>, doing: &'static str) -> Result<Value, CertificateError> {
    let answer = answer.map_err(|source| CertificateError::Call { doing, source })?;
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => {
            serde_json::from_slice(&answer.body).map_err(|_| CertificateError::Unexpected("the API server's answer"))
        }
        _ => Err(CertificateError::Refused { doing, why: answer.failure() }),
    }
}

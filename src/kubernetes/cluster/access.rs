//! A kubeconfig that somebody else wrote. In: its text. Out: a connection, or the one thing that is wrong with it. No program is run and no file read, whatever
//! it says: it comes out of a Secret and would do so with our rights.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use kube::{
    Config,
    config::{AuthInfo, Cluster, Kubeconfig},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;

use super::rest::{Rest, RestError};
use crate::{
    federation::spec::SecretKeyRef,
    kubernetes::{api::Api, client},
    metrics::ApiMetrics,
};

/// A longer text is no kubeconfig; a Secret holds at most 1 MiB.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// What is wrong with a kubeconfig, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Too long.
    #[error(
        "the kubeconfig has {0} bytes, more than {TEXT_BYTES_MAX}: keep only the one cluster in it (kubectl config view --minify --flatten)"
    )]
    TooLong(usize),
    /// Not a kubeconfig.
    #[error("the kubeconfig cannot be read: {0}")]
    Unreadable(String),
    /// Something that it names is not in it.
    #[error("{0} is not in the kubeconfig")]
    Missing(String),
    /// Something that is not done.
    #[error("{what} is refused: {instead}")]
    Refused {
        /// The field.
        what: &'static str,
        /// What to write instead.
        instead: &'static str,
    },
    /// A value that is not what it should be.
    #[error("{field}: {why}")]
    BadValue {
        /// The field.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// Everything is there, and yet no client can be made of it.
    #[error("{0}")]
    Setup(String),
}

/// Why there is no text of a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none, or we may not see it: what to do about is up to people.
    #[error("{0}")]
    Missing(String),
    /// Home did not answer as it should.
    #[error("its Secret cannot be read: {0}")]
    Home(RestError),
}

/// The kubeconfig that a Secret of home holds.
pub async fn secret_text(home: &Rest, reference: &SecretKeyRef) -> Result<String, SecretError> {
    let SecretKeyRef { namespace, name, key } = reference;
    match home.get(&format!("/api/v1/namespaces/{namespace}/secrets/{name}")).await {
        Ok(Some(secret)) => decoded(&secret["data"][key])
            .ok_or_else(|| SecretError::Missing(format!("Secret {namespace}/{name} has no text under the key {key}"))),
        Ok(None) => Err(SecretError::Missing(format!("there is no Secret {namespace}/{name}"))),
        Err(error) if error.is(StatusCode::FORBIDDEN) => {
            Err(SecretError::Missing(format!("Secret {namespace}/{name} may not be read: {error}")))
        }
        Err(error) => Err(SecretError::Home(error)),
    }
}

fn decoded(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok().filter(|text| !text.is_empty())
}

const INLINE: &str = "write its content inline (kubectl config view --minify --flatten)";
const TOKEN: &str = "use the token of a service account (isobar cluster role makes one)";

/// A connection from a kubeconfig's text. Must be called within a tokio runtime.
pub fn connect(text: &str, metrics: ApiMetrics) -> Result<Api, AccessError> {
    client::from_config(configuration(text)?, metrics).map_err(|error| AccessError::Setup(error.to_string()))
}

/// Says what is wrong with a kubeconfig, if anything.
pub fn check(text: &str) -> Result<(), AccessError> {
    configuration(text).map(|_| ())
}

fn configuration(text: &str) -> Result<Config, AccessError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(AccessError::TooLong(text.len()));
    }
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| AccessError::Unreadable(crate::kubernetes::api::with_causes(&error)))?;
    let (cluster, user) = current(&kubeconfig)?;
    refuse_cluster(&cluster)?;
    refuse_user(&user)?;
    let server = cluster.server.unwrap_or_default();
    let url: http::Uri = server.parse().map_err(|error| bad("server", &format!("{server:?} is not an address: {error}")))?;
    if url.scheme_str() != Some("https") {
        return Err(bad("server", &format!("{server:?} is not https: credentials would travel in the clear")));
    }
    let mut config = Config::new(url);
    config.root_cert = cluster.certificate_authority_data.as_deref().map(authority).transpose()?;
    config.tls_server_name = cluster.tls_server_name;
    config.auth_info = credentials(&user)?;
    Ok(config)
}

/// Cluster and user of the current context; of a single context when none is current.
fn current(kubeconfig: &Kubeconfig) -> Result<(Cluster, AuthInfo), AccessError> {
    let name = match (kubeconfig.current_context.as_deref().filter(|name| !name.is_empty()), kubeconfig.contexts.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => &only.name,
        (None, _) => return Err(AccessError::Missing("current-context".to_owned())),
    };
    let missing = |kind: &str, name: &str| AccessError::Missing(format!("{kind} {name:?}"));
    let context = kubeconfig.contexts.iter().find(|context| context.name == name).and_then(|context| context.context.as_ref());
    let context = context.ok_or_else(|| missing("context", name))?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster).and_then(|named| named.cluster.clone());
    let cluster = cluster.ok_or_else(|| missing("cluster", &context.cluster))?;
    let user = context.user.clone().unwrap_or_default();
    let auth = kubeconfig.auth_infos.iter().find(|auth| auth.name == user).and_then(|named| named.auth_info.clone());
    Ok((cluster, auth.ok_or_else(|| missing("user", &user))?))
}

fn refuse_cluster(cluster: &Cluster) -> Result<(), AccessError> {
    let refusals = [
        (cluster.insecure_skip_tls_verify == Some(true), "insecure-skip-tls-verify", "give the cluster's certificate-authority-data"),
        (cluster.certificate_authority.is_some(), "certificate-authority (a file)", INLINE),
        (cluster.proxy_url.is_some(), "proxy-url", "the API server must be reached directly"),
    ];
    refuse(&refusals)
}

fn refuse_user(user: &AuthInfo) -> Result<(), AccessError> {
    let impersonates = user.impersonate.is_some()
        || user.impersonate_uid.is_some()
        || user.impersonate_groups.is_some()
        || user.impersonate_user_extra.is_some();
    let refusals = [
        (user.exec.is_some(), "exec (a program)", TOKEN),
        (user.auth_provider.is_some(), "auth-provider", TOKEN),
        (user.token_file.is_some(), "tokenFile", INLINE),
        (user.client_certificate.is_some(), "client-certificate (a file)", INLINE),
        (user.client_key.is_some(), "client-key (a file)", INLINE),
        (user.username.is_some() || user.password.is_some(), "username and password", TOKEN),
        (impersonates, "as (impersonation)", "use credentials of the account itself"),
    ];
    refuse(&refusals)
}

fn refuse(refusals: &[(bool, &'static str, &'static str)]) -> Result<(), AccessError> {
    match refusals.iter().find(|(refused, ..)| *refused) {
        Some(&(_, what, instead)) => Err(AccessError::Refused { what, instead }),
        None => Ok(()),
    }
}

/// The certificates as kube wants them. Without any, those that the system trusts would do; a service account's token then has to match one of those.
fn authority(encoded: &str) -> Result<Vec<Vec<u8>>, AccessError> {
    const FIELD: &str = "certificate-authority-data";
    let pem = STANDARD.decode(encoded.trim()).map_err(|error| bad(FIELD, &format!("is not base64: {error}")))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| bad(FIELD, &format!("is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(bad(FIELD, "holds no certificate"));
    }
    Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// A token, or a certificate and its key.
fn credentials(user: &AuthInfo) -> Result<AuthInfo, AccessError> {
    let mut auth = AuthInfo::default();
    match (&user.token, &user.client_certificate_data, &user.client_key_data) {
        (Some(_), _, _) => auth.token.clone_from(&user.token),
        (None, Some(_), Some(_)) => {
            auth.client_certificate_data.clone_from(&user.client_certificate_data);
            auth.client_key_data.clone_from(&user.client_key_data);
        }
        (None, Some(_), None) => return Err(bad("client-key-data", "is missing beside client-certificate-data")),
        (None, None, Some(_)) => return Err(bad("client-certificate-data", "is missing beside client-key-data")),
        (None, None, None) => return Err(bad("user", "has no token and no client certificate: Isobar would be nobody over there")),
    }
    Ok(auth)
}

fn bad(field: &'static str, why: &str) -> AccessError {
    AccessError::BadValue { field, why: why.to_owned() }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

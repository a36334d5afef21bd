//! Credentials for registries. In: a pod's pull secrets, as kubelets read them. Out: for an image, who we are there.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci_client::{Reference, secrets::RegistryAuth};
use serde_json::Value;

use crate::{
    kubernetes::api::{Api, Call},
    scheduler::input::PodRef,
};

/// Longest reading of one object.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Secrets of one pod that are looked at.
const SECRETS_MAX: usize = 16;
/// Docker Hub's name in references, and what `docker login` calls it.
const HUB: (&str, &str) = ("docker.io", "index.docker.io");

/// Who we are at which registry.
#[derive(Clone, Default)]
pub struct Credentials(Vec<Login>);

#[derive(Clone)]
struct Login {
    /// Host with the beginning of a path, without scheme.
    place: String,
    auth: RegistryAuth,
}

/// A pull secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No JSON.
    #[error("the pull secret is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON, but not of the agreed form.
    #[error("the pull secret has no `auths`: make it with `kubectl create secret docker-registry`")]
    NoAuths,
}

impl Credentials {
    /// Reads `.dockerconfigjson`. Entries that cannot be understood are passed over, as kubelets do.
    pub fn from_docker_config(text: &[u8]) -> Result<Self, CredentialsError> {
        let config: Value = serde_json::from_slice(text)?;
        Self::from_auths(&config["auths"])
    }

    /// Reads the older `.dockercfg`, which is the inner part of the newer.
    pub fn from_old_docker_config(text: &[u8]) -> Result<Self, CredentialsError> {
        Self::from_auths(&serde_json::from_slice(text)?)
    }

    fn from_auths(auths: &Value) -> Result<Self, CredentialsError> {
        let auths = auths.as_object().ok_or(CredentialsError::NoAuths)?;
        Ok(Self(auths.iter().filter_map(|(place, entry)| Some(Login { place: normal(place), auth: auth(entry)? })).collect()))
    }

    /// Adds others; where both know a place, ours count.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Who we are for an image: the longest place that its name begins with.
    pub(super) fn of(&self, image: &Reference) -> RegistryAuth {
        let path = image.repository();
        let names: Vec<String> = if image.registry() == HUB.0 {
            vec![format!("{}/{path}", HUB.0), format!("{}/{path}", HUB.1)]
        } else {
            vec![format!("{}/{path}", image.registry())]
        };
        let matching = self.0.iter().filter(|login| names.iter().any(|name| covers(&login.place, name)));
        // Of equals the first counts.
        matching.rev().max_by_key(|login| login.place.len()).map_or(RegistryAuth::Anonymous, |login| login.auth.clone())
    }
}

/// `https://index.docker.io/v1/` is `index.docker.io`.
fn normal(place: &str) -> String {
    let place = place.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    place.strip_suffix("/v1").or_else(|| place.strip_suffix("/v2")).unwrap_or(place).to_owned()
}

/// Whether the parts of a name begin with the parts of a place. `*` stands for anything within one part of the host's name: `*.example.org`.
fn covers(place: &str, name: &str) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let Some((name_host, name_path)) = name.split_once('/') else { return false };
    let hosts_match = host.split('.').count() == name_host.split('.').count()
        && host.split('.').zip(name_host.split('.')).all(|(pattern, part)| wildcard(pattern, part));
    let rest = name_path.strip_prefix(path);
    hosts_match && rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

fn wildcard(pattern: &str, text: &str) -> bool {
    let Some((start, end)) = pattern.split_once('*') else { return pattern == text };
    text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
}

fn auth(entry: &Value) -> Option<RegistryAuth> {
    let said = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let Some(token) = said("registrytoken") {
        return Some(RegistryAuth::Bearer(token.to_owned()));
    }
    if let (Some(user), Some(password)) = (said("username"), said("password")) {
        return Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()));
    }
    let both = String::from_utf8(STANDARD.decode(said("auth")?.trim()).ok()?).ok()?;
    let (user, password) = both.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// The credentials of a pod: of the secrets that it names, or, if it names none, of those that its service account names. What cannot be read is passed
/// over: the look-up then says who refused it.
pub(super) async fn of_pod(home: &Api, pod: &PodRef) -> Credentials {
    let namespace = format!("/api/v1/namespaces/{}", pod.key.namespace);
    let mut credentials = Credentials::default();
    let Some(object) = read(home, format!("{namespace}/pods/{}", pod.key.name)).await else { return credentials };
    if object["metadata"]["uid"].as_str() != Some(&*pod.uid.0) {
        return credentials;
    }
    let mut names = secret_names(&object["spec"]);
    if names.is_empty() {
        let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        names =
            read(home, format!("{namespace}/serviceaccounts/{account}")).await.map(|account| secret_names(&account)).unwrap_or_default();
    }
    for name in names {
        let Some(secret) = read(home, format!("{namespace}/secrets/{name}")).await else { continue };
        let data = |key: &str| secret["data"][key].as_str().and_then(|text| STANDARD.decode(text).ok());
        let read = match (data(".dockerconfigjson"), data(".dockercfg")) {
            (Some(text), _) => Credentials::from_docker_config(&text),
            (None, Some(text)) => Credentials::from_old_docker_config(&text),
            (None, None) => Err(CredentialsError::NoAuths),
        };
        match read {
            Ok(more) => credentials.extend(more),
            Err(error) => tracing::warn!(pod = %pod.key, secret = name, "a pull secret is of no use: {error}"),
        }
    }
    credentials
}

/// Names that become part of a path; a name with other characters is nobody's.
fn secret_names(holder: &Value) -> Vec<String> {
    let names = holder["imagePullSecrets"].as_array().into_iter().flatten().filter_map(|secret| secret["name"].as_str());
    let plain = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    names.filter(plain).take(SECRETS_MAX).map(str::to_owned).collect()
}

async fn read(home: &Api, path: String) -> Option<Value> {
    let answer = match home.call(Call::get(path.clone(), READ_TIMEOUT)).await {
        Ok(answer) if answer.status.is_success() => answer,
        Ok(answer) => {
            tracing::debug!(path, status = answer.status.as_u16(), "an object with pull secrets cannot be read");
            return None;
        }
        Err(error) => {
            tracing::debug!(path, "an object with pull secrets cannot be read: {error}");
            return None;
        }
    };
    serde_json::from_slice(&answer.body).ok()
}

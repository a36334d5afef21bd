//! Questions to a compute cluster about itself. In: a connection. Out: whether it answers, who it is, what we may do there.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kubernetes::{
    api::{Answer, Api, Call, CallError, JSON},
    permissions::{REMOTE, RemotePermission, Scope},
};

/// An answer to a probe that takes longer is a miss.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long other questions may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The namespace whose UID says which cluster it is: every cluster has it, and it is never made anew.
const IDENTITY_PATH: &str = "/api/v1/namespaces/kube-system";

/// Why there is no answer to use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It does not know us.
    #[error("{0}")]
    Unauthorized(String),
    /// It knows us, and we may not.
    #[error("{0}")]
    Forbidden(String),
    /// It does not answer, or is not well.
    #[error("{0}")]
    Silent(String),
}

/// Whether it answers; if so, what time it has, as it wrote it.
pub async fn ready(api: &Api) -> Result<Option<Box<str>>, ProbeError> {
    let answer = heard(api.call(Call::get("/readyz".to_owned(), PROBE_TIMEOUT)).await)?;
    match answer.status {
        // Whoever may not read `/readyz` is answered all the same.
        status if status.is_success() || status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND => Ok(answer.date),
        StatusCode::UNAUTHORIZED => Err(ProbeError::Unauthorized(answer.failure())),
        _ => Err(ProbeError::Silent(format!("/readyz: {}", answer.failure()))),
    }
}

/// Who it is: the UID of `kube-system`.
pub async fn identity(api: &Api) -> Result<Box<str>, ProbeError> {
    let namespace = object(api.call(Call::get(IDENTITY_PATH.to_owned(), PROBE_TIMEOUT)).await)?;
    match namespace["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
        Some(uid) => Ok(uid.into()),
        None => Err(ProbeError::Silent("kube-system has no UID".to_owned())),
    }
}

/// Its version, such as `v1.37.1`.
pub async fn version(api: &Api) -> Result<String, ProbeError> {
    let version = object(api.call(Call::get("/version".to_owned(), QUESTION_TIMEOUT)).await)?;
    Ok(version["gitVersion"].as_str().unwrap_or_default().to_owned())
}

/// What we may not do there that we need, and what we may not do that is only useful.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Without these no pod is placed.
    pub needed: Vec<String>,
    /// Without these something is missing, which is said.
    pub useful: Vec<String>,
    /// Whether pods of other namespaces can be seen.
    pub sees_all_pods: bool,
}

/// Asks for every call that is made there.
pub async fn missing(api: &Api, run_namespace: &str) -> Result<Missing, ProbeError> {
    let asked = join_all(REMOTE.iter().map(|permission| may(api, permission, run_namespace))).await;
    let (mut needed, mut useful, mut sees_all_pods) = (BTreeSet::new(), BTreeSet::new(), true);
    for (permission, allowed) in REMOTE.iter().zip(asked) {
        if allowed? {
            continue;
        }
        let call = &permission.call;
        if let Some(without) = permission.without {
            useful.insert(without.to_owned());
            sees_all_pods &= !(call.resource == "pods" && call.scope == Scope::Cluster);
        } else {
            let group = if call.group.is_empty() { String::new() } else { format!(".{}", call.group) };
            let place = if call.scope == Scope::RunNamespace { format!(" in {run_namespace}") } else { String::new() };
            needed.insert(format!("{} {}{group}{place}", call.verb, call.resource));
        }
    }
    Ok(Missing { needed: needed.into_iter().collect(), useful: useful.into_iter().collect(), sees_all_pods })
}

async fn may(api: &Api, permission: &RemotePermission, run_namespace: &str) -> Result<bool, ProbeError> {
    let call = &permission.call;
    let (resource, subresource) = call.resource.split_once('/').unwrap_or((call.resource, ""));
    let namespace = if call.scope == Scope::RunNamespace { run_namespace } else { "" };
    let attributes = json!({
        "verb": call.verb, "group": call.group, "resource": resource, "subresource": subresource, "namespace": namespace,
    });
    review(api, &attributes).await
}

/// Whether we may do something there.
pub async fn review(api: &Api, attributes: &Value) -> Result<bool, ProbeError> {
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
    let call = Call { method: Method::POST, path, content_type: JSON, body: body.to_string().into(), timeout: QUESTION_TIMEOUT };
    Ok(object(api.call(call).await)?["status"]["allowed"] == true)
}

fn object(answer: Result<Answer, CallError>) -> Result<Value, ProbeError> {
    let answer = heard(answer)?;
    match answer.status {
        status if status.is_success() => serde_json::from_slice(&answer.body).map_err(|error| ProbeError::Silent(error.to_string())),
        StatusCode::UNAUTHORIZED => Err(ProbeError::Unauthorized(answer.failure())),
        StatusCode::FORBIDDEN => Err(ProbeError::Forbidden(answer.failure())),
        _ => Err(ProbeError::Silent(answer.failure())),
    }
}

fn heard(answer: Result<Answer, CallError>) -> Result<Answer, ProbeError> {
    answer.map_err(|error| ProbeError::Silent(error.to_string()))
}

/// How far another clock is from ours, when that is worth a word: seconds ahead.
pub fn skew(date: &str, wall: jiff::Timestamp) -> Option<i64> {
    const WORTH_A_WORD_SECONDS: i64 = 30;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let seconds = theirs.as_second() - wall.as_second();
    (seconds.abs() > WORTH_A_WORD_SECONDS).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_noticed() {
        let wall: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(skew("Fri, 02 Jan 2026 03:04:20 GMT", wall), None);
        assert_eq!(skew("Fri, 02 Jan 2026 03:14:05 GMT", wall), Some(600));
        assert_eq!(skew("whenever", wall), None);
    }
}

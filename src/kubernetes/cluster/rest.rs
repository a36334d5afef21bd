//! Objects as JSON, one call at a time, for the few and small ones of this room. In: paths and objects. Out: objects, or why not.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    kubernetes::{
        api::{Answer, Api, Call, CallError, JSON, MERGE, STRATEGIC_MERGE},
        watch::escaped,
        wire::{BadObject, Watched, read_page},
    },
    model::ids::ClusterId,
};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page of nodes or pods may take, which are many and large.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Objects a page.
const PAGE_OBJECTS: usize = 500;

/// An API server, asked for objects.
#[derive(Clone)]
pub struct Rest(Api);

/// Why there is no object.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server said no.
    #[error("{text}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// The answer is not JSON.
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl RestError {
    /// Whether the server answered with this status.
    pub fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }
}

impl Rest {
    /// Over a connection.
    pub fn new(api: Api) -> Self {
        Self(api)
    }

    /// The connection.
    pub fn api(&self) -> &Api {
        &self.0
    }

    /// Reads an object; `None` when there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, RestError> {
        some(self.ask(Method::GET, path.to_owned(), JSON, None).await)
    }

    /// Reads a whole collection. `query` is a selector, already escaped, or empty.
    pub async fn list(&self, path: &str, query: &str) -> Result<Vec<Value>, RestError> {
        Ok(self.list_versioned(path, query).await?.0)
    }

    /// As [`Self::list`], with the version to watch from.
    pub async fn list_versioned(&self, path: &str, query: &str) -> Result<(Vec<Value>, String), RestError> {
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let and = if query.is_empty() { "" } else { "&" };
            let page = if next.is_empty() { String::new() } else { format!("&continue={}", escaped(&next)) };
            let answer = self.0.page(format!("{path}?limit={PAGE_OBJECTS}{page}{and}{query}"), CALL_TIMEOUT).await?;
            let mut list: Value = serde_json::from_slice(&accepted(answer)?.body)?;
            if let Value::Array(page) = list["items"].take() {
                items.extend(page);
            }
            list["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut next);
            if next.is_empty() {
                return Ok((items, list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()));
            }
        }
    }

    /// Reads what matters of a whole collection, such as [`Watched::PATH`]; and which objects of it cannot be read.
    pub async fn facts<K: Watched>(&self, path: &str, cluster: ClusterId) -> Result<(Vec<K>, Vec<BadObject>), RestError> {
        let (mut found, mut bad, mut next) = (Vec::new(), Vec::new(), String::new());
        let selector = if K::FIELD_SELECTOR.is_empty() { String::new() } else { format!("&fieldSelector={}", K::FIELD_SELECTOR) };
        loop {
            let page = if next.is_empty() { String::new() } else { format!("&continue={}", escaped(&next)) };
            let answer = self.0.page(format!("{path}?limit={PAGE_OBJECTS}{selector}{page}"), PAGE_TIMEOUT).await?;
            let page = read_page::<K>(&accepted(answer)?.body, cluster)?;
            for item in page.items {
                match item {
                    Ok((facts, _)) => found.push(facts),
                    Err(unreadable) => bad.push(unreadable),
                }
            }
            if page.next.is_empty() {
                return Ok((found, bad));
            }
            next = page.next.into();
        }
    }

    /// Creates an object; `None` when one of its name exists.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Option<Value>, RestError> {
        match self.ask(Method::POST, path.to_owned(), JSON, Some(object)).await {
            Err(error) if error.is(StatusCode::CONFLICT) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Patches by JSON merge: lists are replaced. `None` when there is no such object.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Option<Value>, RestError> {
        some(self.ask(Method::PATCH, path.to_owned(), MERGE, Some(patch)).await)
    }

    /// Patches by strategic merge: lists are merged by their keys. `None` when there is no such object.
    pub async fn strategic_merge(&self, path: &str, patch: &Value) -> Result<Option<Value>, RestError> {
        some(self.ask(Method::PATCH, path.to_owned(), STRATEGIC_MERGE, Some(patch)).await)
    }

    /// Deletes an object, only this incarnation if its UID is given. `false` when it is gone.
    pub async fn delete(&self, path: &str, uid: Option<&str>, grace_seconds: Option<u64>) -> Result<bool, RestError> {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(uid) = uid {
            options["preconditions"] = json!({"uid": uid});
        }
        if let Some(grace) = grace_seconds {
            options["gracePeriodSeconds"] = grace.into();
        }
        match some(self.ask(Method::DELETE, path.to_owned(), JSON, Some(&options)).await) {
            // Another incarnation has the name: the one that was meant is gone.
            Err(error) if uid.is_some() && error.is(StatusCode::CONFLICT) => Ok(false),
            other => Ok(other?.is_some()),
        }
    }

    async fn ask(&self, method: Method, path: String, content_type: &'static str, body: Option<&Value>) -> Result<Value, RestError> {
        let body = body.map(|body| body.to_string().into()).unwrap_or_default();
        let answer = self.0.call(Call { method, path, content_type, body, timeout: CALL_TIMEOUT }).await?;
        Ok(serde_json::from_slice(&accepted(answer)?.body)?)
    }
}

fn accepted(answer: Answer) -> Result<Answer, RestError> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(RestError::Refused { status: answer.status, text: answer.failure() })
}

fn some(answer: Result<Value, RestError>) -> Result<Option<Value>, RestError> {
    match answer {
        Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(None),
        other => other.map(Some),
    }
}

/// A label selector for a query: objects with this label and value.
pub fn labelled(key: &str, value: &str) -> String {
    format!("labelSelector={}", escaped(&format!("{key}={value}")))
}

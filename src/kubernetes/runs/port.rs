//! One side's API server as orders use it: so many calls at once, each with a time-out, none repeated, none written without permission. In: paths and
//! objects. Out: objects, or the trouble.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    federation::effect::Outcome,
    kubernetes::{
        api::{Answer, Api, Call, CallError, JSON},
        leadership::Permission,
        watch::escaped,
    },
};

/// How long one call may take. A leader that is replaced has no call under way any more when the finished run is forgotten.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Objects a page.
const PAGE_OBJECTS: usize = 500;
/// What may not be sent is handed back only after this, so that machine and worker do not run in a circle until the loss of the lease is known.
const NOT_SENT_PAUSE: Duration = Duration::from_millis(100);

/// An API server with a bound on the calls under way. Cheap to clone; clones share the bound.
#[derive(Clone)]
pub struct Port {
    reader: Api,
    writer: Api,
    permission: Permission,
    slots: Arc<Semaphore>,
}

/// Why there is no object.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// We do not lead any more; nothing was done.
    #[error("not sent, as the lease ran out")]
    NotSent,
    /// No answer, or one that cannot be read: it may have been done.
    #[error("{0}")]
    Unclear(String),
    /// The server said no.
    #[error("{1}")]
    Refused(StatusCode, String),
}

/// What a deletion asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deletion<'a> {
    /// Only this incarnation.
    pub uid: Option<&'a str>,
    /// Only this version.
    pub resource_version: Option<&'a str>,
    /// `None` leaves it to the object.
    pub grace_seconds: Option<u64>,
}

/// Which objects of a collection.
#[derive(Clone, Copy, Debug)]
pub enum Select<'a> {
    /// Those with this label and value.
    Label(&'a str, &'a str),
    /// Those with this field and value.
    Field(&'a str, &'a str),
}

impl Trouble {
    /// The status of a refusal is this one.
    pub fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused(status, _) if *status == wanted)
    }

    /// The object may not be the one that was meant: a precondition failed, or (of a patch) the UID is another one and cannot be changed.
    pub fn is_other(&self) -> bool {
        self.is(StatusCode::CONFLICT)
            || matches!(self, Self::Refused(StatusCode::UNPROCESSABLE_ENTITY, why) if why.contains("metadata.uid"))
    }

    /// For effects that are repeated until they succeed or their object is gone.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::NotSent => Outcome::NotSent,
            Self::Unclear(why) | Self::Refused(_, why) => Outcome::Retry(why),
        }
    }

    /// For effects that a person has to look at when the server says no for good.
    pub fn verdict(self) -> Outcome {
        match self {
            Self::Refused(status, why) if is_for_good(status, &why) => Outcome::Refused(why),
            other => other.outcome(),
        }
    }
}

/// Whether repeating the same request will get the same answer: a quota may be raised or freed, a namespace made again.
fn is_for_good(status: StatusCode, why: &str) -> bool {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE => true,
        StatusCode::FORBIDDEN => !why.contains("exceeded quota") && !why.contains("is being terminated"),
        _ => false,
    }
}

impl Port {
    /// So many calls at once through `api`; writes only while permitted.
    pub fn new(api: &Api, permission: Permission, in_flight_max: usize) -> Self {
        let writer = api.while_permitted(permission.clone());
        Self { reader: api.clone(), writer, permission, slots: Arc::new(Semaphore::new(in_flight_max.max(1))) }
    }

    /// Reads an object; `None` when there is none.
    pub async fn get(&self, path: String) -> Result<Option<Value>, Trouble> {
        let _slot = self.slots.acquire().await;
        match read(self.reader.call(Call::get(path, CALL_TIMEOUT)).await) {
            Err(trouble) if trouble.is(StatusCode::NOT_FOUND) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Reads all objects of a collection that are selected.
    pub async fn list(&self, path: &str, selection: Select<'_>) -> Result<Vec<Value>, Trouble> {
        let selector = match selection {
            Select::Label(key, value) => format!("labelSelector={}", escaped(&format!("{key}={value}"))),
            Select::Field(path, value) => format!("fieldSelector={}", escaped(&format!("{path}={value}"))),
        };
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let page = if next.is_empty() { String::new() } else { format!("&continue={}", escaped(&next)) };
            let path = format!("{path}?limit={PAGE_OBJECTS}&{selector}{page}");
            let slot = self.slots.acquire().await;
            let mut list = read(self.reader.page(path, CALL_TIMEOUT).await)?;
            drop(slot);
            if let Some(Value::Array(page)) = list.get_mut("items").map(Value::take) {
                items.extend(page);
            }
            text(&list, "/metadata/continue").clone_into(&mut next);
            if next.is_empty() {
                return Ok(items);
            }
        }
    }

    /// Opens a stream, as of a log.
    pub async fn open(&self, path: String) -> Result<Body, Trouble> {
        let _slot = self.slots.acquire().await;
        self.reader.open(path, CALL_TIMEOUT).await.map_err(trouble)?.map_err(|answer| refusal(&answer))
    }

    /// Creates an object in a collection; the answer is the object as it is then.
    pub async fn create(&self, path: String, object: &Value) -> Result<Value, Trouble> {
        read(self.write(Method::POST, path, JSON, object, true).await?)
    }

    /// As [`Self::create`], when nobody reads the answer.
    pub async fn post(&self, path: String, object: &Value) -> Result<(), Trouble> {
        accepted(self.write(Method::POST, path, JSON, object, false).await?).map(drop)
    }

    /// Patches an object.
    pub async fn patch(&self, path: String, content_type: &'static str, patch: &Value) -> Result<(), Trouble> {
        accepted(self.write(Method::PATCH, path, content_type, patch, false).await?).map(drop)
    }

    /// As [`Self::patch`]; the answer is the object as it is then.
    pub async fn change(&self, path: String, content_type: &'static str, patch: &Value) -> Result<Value, Trouble> {
        read(self.write(Method::PATCH, path, content_type, patch, true).await?)
    }

    /// Puts an object, or a part of one, in place of what is there; the answer is the object as it is then.
    pub async fn replace(&self, path: String, object: &Value) -> Result<Value, Trouble> {
        read(self.write(Method::PUT, path, JSON, object, true).await?)
    }

    /// Deletes an object.
    pub async fn delete(&self, path: String, deletion: Deletion<'_>) -> Result<(), Trouble> {
        let Deletion { uid, resource_version, grace_seconds } = deletion;
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        for (key, value) in [("uid", uid), ("resourceVersion", resource_version)] {
            if let Some(value) = value {
                options["preconditions"][key] = value.into();
            }
        }
        if let Some(seconds) = grace_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        accepted(self.write(Method::DELETE, path, JSON, &options, false).await?).map(drop)
    }

    async fn write(
        &self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: &Value,
        wanted: bool,
    ) -> Result<Result<Answer, CallError>, Trouble> {
        let _slot = self.slots.acquire().await;
        if !self.permission.granted() {
            sleep(NOT_SENT_PAUSE).await;
            return Err(Trouble::NotSent);
        }
        let call = Call { method, path, content_type, body: body.to_string().into(), timeout: CALL_TIMEOUT };
        Ok(if wanted { self.writer.call(call).await } else { self.writer.tell(call).await })
    }
}

fn read(answer: Result<Answer, CallError>) -> Result<Value, Trouble> {
    serde_json::from_slice(&accepted(answer)?.body).map_err(|error| Trouble::Unclear(format!("the answer cannot be read: {error}")))
}

fn accepted(answer: Result<Answer, CallError>) -> Result<Answer, Trouble> {
    let answer = answer.map_err(trouble)?;
    if answer.status.is_success() { Ok(answer) } else { Err(refusal(&answer)) }
}

fn trouble(error: CallError) -> Trouble {
    match error {
        CallError::NotPermitted => Trouble::NotSent,
        error => Trouble::Unclear(error.to_string()),
    }
}

fn refusal(answer: &Answer) -> Trouble {
    Trouble::Refused(answer.status, answer.failure())
}

/// Text at a JSON pointer; empty when there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An annotation; empty when there is none.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// A label; empty when there is none.
pub fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key].as_str().unwrap_or_default()
}

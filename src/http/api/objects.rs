//! Tasks, runs and events. In: calls that may be carried out. Out: objects as the API server has them, lists of them without templates.

use std::collections::BTreeMap;

use axum::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, TaskApi, Unread, failed};
use crate::{
    http::status::Refusal,
    kubernetes::{
        api::{self, MERGE},
        cluster::rest::RestError,
        watch::escaped,
    },
    model::time::Timestamp,
    tasks::{
        facts::Task,
        manual::{Manual, There},
        names::API_VERSION,
        params,
    },
};

const GROUP: &str = "/apis/isobar.dev/v1alpha1";
/// Who owns the fields of tasks that are applied.
const FIELD_MANAGER: &str = "isobar-api";
const APPLY: &str = "application/apply-patch+yaml";
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Runs of one answer.
const RUNS: u64 = 200;
const RUNS_MAX: u64 = 1_000;
const KEY_BYTES_MAX: usize = 1_024;

/// Path of a kind: in the call's namespace, or in all.
fn collection(call: &Call, plural: &str) -> String {
    match call.namespace() {
        "" => format!("{GROUP}/{plural}"),
        namespace => format!("{GROUP}/namespaces/{namespace}/{plural}"),
    }
}

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What nobody reads in a list, or at all.
fn trimmed(mut object: Value, template: &str) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if let Some(parent) = object.pointer_mut(template).and_then(Value::as_object_mut) {
        parent.remove("template");
    }
    object
}

fn whole(object: Value) -> Value {
    trimmed(object, "/none")
}

pub(super) async fn tasks(api: &TaskApi, call: &Call) -> Result<Value, Refusal> {
    let tasks = api.rest.list(&collection(call, "tasks"), "").await.map_err(failed)?;
    Ok(json!({"items": tasks.into_iter().map(|task| trimmed(task, "/spec")).collect::<Vec<_>>()}))
}

pub(super) async fn task(api: &TaskApi, call: &Call) -> Result<Value, Refusal> {
    let (namespace, name) = (call.namespace(), call.name("task"));
    let found = api.rest.get(&format!("{}/{name}", collection(call, "tasks"))).await.map_err(failed)?;
    found.map(whole).ok_or_else(|| Refusal::Absent(format!("there is no task {name:?} in namespace {namespace}")))
}

pub(super) async fn runs(api: &TaskApi, call: &Call) -> Result<Value, Refusal> {
    let limit = call.number("limit")?.unwrap_or(RUNS);
    if limit == 0 || limit > RUNS_MAX {
        return Err(Refusal::BadRequest(format!("limit must be from 1 to {RUNS_MAX}")));
    }
    let mut runs = api.rest.list(&collection(call, "taskruns"), "").await.map_err(failed)?;
    let wanted = |run: &Value, key: &str, pointer: &str| call.query.get(key).is_none_or(|wanted| text(run, pointer) == wanted);
    runs.retain(|run| wanted(run, "task", "/spec/taskRef/name") && wanted(run, "phase", "/status/phase"));
    let born = |run: &Value| (text(run, "/metadata/creationTimestamp").to_owned(), text(run, "/metadata/name").to_owned());
    runs.sort_by_cached_key(|run| std::cmp::Reverse(born(run)));
    runs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(json!({"items": runs.into_iter().map(|run| trimmed(run, "/spec/frozen")).collect::<Vec<_>>()}))
}

pub(super) async fn run(api: &TaskApi, call: &Call) -> Result<Value, Refusal> {
    let (namespace, name) = (call.namespace(), call.name("run"));
    let found = api.rest.get(&format!("{}/{name}", collection(call, "taskruns"))).await.map_err(failed)?;
    found.map(whole).ok_or_else(|| Refusal::Absent(format!("there is no run {name:?} in namespace {namespace}")))
}

pub(super) async fn apply(api: &TaskApi, call: &Call, body: Unread) -> Result<Value, Refusal> {
    let (path, name) = (collection(call, "tasks"), call.name("task").to_owned());
    let namespace = call.namespace().to_owned();
    let mut task: Value = body.json().await?;
    let wrong = |what: &str| Err(Refusal::Unprocessable(what.to_owned()));
    if task["apiVersion"] != API_VERSION || task["kind"] != "Task" {
        return wrong("the body must be a Task of isobar.dev/v1alpha1");
    }
    if text(&task, "/metadata/name") != name {
        return wrong("metadata.name must be the name of the path");
    }
    if !["", &*namespace].contains(&text(&task, "/metadata/namespace")) {
        return wrong("metadata.namespace must be that of the path");
    }
    if let Some(object) = task.as_object_mut() {
        object.remove("status");
    }
    let path = format!("{path}/{name}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict");
    let call = api::Call { method: Method::PATCH, path, content_type: APPLY, body: task.to_string().into(), timeout: TIMEOUT };
    sent(api, call).await.map(whole)
}

pub(super) async fn suspend(api: &TaskApi, call: &Call, suspend: bool) -> Result<Value, Refusal> {
    change(api, format!("{}/{}", collection(call, "tasks"), call.name("task")), &json!({"spec": {"suspend": suspend}})).await
}

pub(super) async fn cancel(api: &TaskApi, call: &Call) -> Result<Value, Refusal> {
    change(api, format!("{}/{}", collection(call, "taskruns"), call.name("run")), &json!({"spec": {"cancel": true}})).await
}

async fn change(api: &TaskApi, path: String, patch: &Value) -> Result<Value, Refusal> {
    let call = api::Call { method: Method::PATCH, path, content_type: MERGE, body: patch.to_string().into(), timeout: TIMEOUT };
    sent(api, call).await.map(whole)
}

async fn sent(api: &TaskApi, call: api::Call) -> Result<Value, Refusal> {
    let answer = api.rest.api().call(call).await.map_err(|error| failed(error.into()))?;
    if !answer.status.is_success() {
        return Err(failed(RestError::Refused { status: answer.status, text: answer.failure() }));
    }
    serde_json::from_slice(&answer.body).map_err(|error| failed(error.into()))
}

/// What a start by hand says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Start {
    params: BTreeMap<String, String>,
    cycle: Option<String>,
    key: Option<String>,
}

/// What a repetition says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rerun {
    key: Option<String>,
}

pub(super) async fn start(api: &TaskApi, call: &Call, body: Unread) -> Result<(Value, bool), Refusal> {
    let task = task(api, call).await?;
    let (path, name) = (collection(call, "taskruns"), call.name("task").to_owned());
    let start: Start = body.json().await?;
    let cycle = match &start.cycle {
        Some(text) => Some(
            Timestamp::parse_rfc3339(text)
                .map(Timestamp::to_rfc3339)
                .ok_or_else(|| Refusal::Unprocessable(format!("cycle {text:?} is not a time such as 2026-11-28T06:00:00Z")))?,
        ),
        None => None,
    };
    // What can be said now is said now; a run that waits in the queue would fail with it later.
    if let Some(Ok(spec)) = Task::read(&task).map(|task| task.spec) {
        params::resolve(&spec, &start.params).map_err(|fault| Refusal::Unprocessable(format!("{}: {}", fault.path, fault.message)))?;
    }
    let is_given = start.key.is_some();
    let manual = Manual { task: name, params: start.params, cycle, key: key(start.key)?, rerun_of: None };
    create(api, &path, &manual, is_given).await
}

pub(super) async fn rerun(api: &TaskApi, call: &Call, body: Unread) -> Result<(Value, bool), Refusal> {
    let before = run(api, call).await?;
    let path = collection(call, "taskruns");
    let Rerun { key: given } = body.json().await?;
    let is_given = given.is_some();
    create(api, &path, &Manual::repeat(&before, key(given)?), is_given).await
}

fn key(given: Option<String>) -> Result<String, Refusal> {
    match given {
        None => Ok(uuid::Uuid::new_v4().to_string()),
        Some(key) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Ok(key),
        Some(_) => Err(Refusal::Unprocessable(format!("key must have from 1 to {KEY_BYTES_MAX} bytes"))),
    }
}

/// The run, and whether it is new. If another key has the short name, it gets the longer one.
async fn create(api: &TaskApi, path: &str, manual: &Manual, is_given: bool) -> Result<(Value, bool), Refusal> {
    for longer in [false, true] {
        if let Some(run) = api.rest.create(path, &manual.run(longer)).await.map_err(failed)? {
            return Ok((whole(run), true));
        }
        let name = manual.name(longer);
        let Some(there) = api.rest.get(&format!("{path}/{name}")).await.map_err(failed)? else {
            return Err(Refusal::Conflict(format!("run {name} has just gone: start it again")));
        };
        match manual.compare(&there) {
            There::OtherKey => {}
            There::Same => return Ok((whole(there), !is_given)),
            There::OtherContent => {
                return Err(Refusal::Conflict(format!(
                    "run {name} has this key, with other parameters or another cycle: choose another key"
                )));
            }
        }
    }
    Err(Refusal::Conflict("both names for this key are taken by runs of other keys: choose another key".to_owned()))
}

pub(super) async fn events(api: &TaskApi, call: &Call, kind: &str) -> Result<Value, Refusal> {
    let selector = format!("regarding.kind={kind},regarding.name={}", call.target());
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", call.namespace());
    let mut events = api.rest.list(&path, &format!("fieldSelector={}", escaped(&selector))).await.map_err(failed)?;
    events.sort_by_cached_key(|event| text(event, "/eventTime").to_owned());
    Ok(json!({"items": events.into_iter().map(whole).collect::<Vec<_>>()}))
}

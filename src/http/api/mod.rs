//! Tasks over HTTPS: the verbs of `isobar task`. In: requests, checked route by route against the caller's rights on our kinds. Out: objects as JSON, logs as
//! text, refusals in words.
//!
//! ```text
//! table --> router --> who is it, may they (gate) --> objects, log, overview --> API server, archive
//!   \-----> OpenAPI document
//! ```

mod log;
mod objects;
mod openapi;
mod overview;
mod table;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, Query, Request},
    http::{HeaderMap, StatusCode, Uri, Version},
    response::{IntoResponse, Response},
    routing::{MethodFilter, get, on},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::openapi::document;
use self::{
    overview::Overview,
    table::{Need, Operation, ROUTES, Route},
};
use super::{body, gate::Gate, kubelet::ArchivedLogs, review::Target, routes::Peer, status::Refusal};
use crate::kubernetes::{
    api::Api,
    cluster::rest::{Rest, RestError},
};

/// Where the document is.
const DOCUMENT: &str = "/api/v1/openapi.json";
/// A task has at most 128 KiB of template; parameters of a run together 64 KiB.
const BODY_BYTES_MAX: usize = 512 << 10;
/// Bytes of a name of Kubernetes.
const NAME_BYTES_MAX: usize = 253;

/// What the API works with. Cloning shares it.
#[derive(Clone)]
pub struct TaskApi {
    rest: Rest,
    logs: Option<Arc<dyn ArchivedLogs>>,
    overview: Arc<Overview>,
}

impl TaskApi {
    /// Over the home cluster's API server. Without an archive there are logs only while there is a pod.
    pub fn new(home: &Api, logs: Option<Arc<dyn ArchivedLogs>>, with_clusters: bool) -> Self {
        let rest = Rest::new(home.clone());
        Self { rest: rest.clone(), logs, overview: Arc::new(Overview::new(rest, with_clusters)) }
    }
}

/// A request that may be answered.
struct Call {
    names: HashMap<String, String>,
    query: HashMap<String, String>,
}

impl Call {
    fn name(&self, of: &str) -> &str {
        self.names.get(of).map(String::as_str).unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.name("namespace")
    }

    /// The name that a permission is asked on.
    fn target(&self) -> String {
        ["task", "run"].into_iter().map(|of| self.name(of)).find(|name| !name.is_empty()).unwrap_or_default().to_owned()
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.query.get(name).map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Refusal::BadRequest(format!("{name} must be true or false, not {other:?}"))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.query.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Refusal::BadRequest(format!("{name} must be a number, not {text:?}")))
    }
}

/// A body that has not been read.
struct Unread {
    version: Version,
    headers: HeaderMap,
    body: Body,
}

impl Unread {
    /// As JSON; none is an empty object.
    async fn json<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        let bytes = body::take(self.version, &self.headers, self.body, BODY_BYTES_MAX, "pass the address of what is large").await?;
        let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
        let wrong = |error: serde_json::Error| Refusal::BadRequest(format!("the body cannot be read: {error}"));
        let value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
        // A list would do for a struct.
        if !value.is_object() {
            return Err(Refusal::BadRequest("the body cannot be read: it must be a JSON object".to_owned()));
        }
        serde_json::from_value(value).map_err(wrong)
    }
}

/// All routes, and the document. Each checks its caller.
pub(super) fn router(api: &TaskApi, gate: &Arc<Gate>) -> Router {
    let document = openapi::document();
    let router = Router::new().route(DOCUMENT, get(async move || Json(document.clone())));
    ROUTES.iter().fold(router, |router, route| {
        let (api, gate) = (api.clone(), gate.clone());
        let answer = async move |Extension(Peer(peer)): Extension<Peer>, Path(names): Path<HashMap<String, String>>, request: Request| {
            let (head, body) = request.into_parts();
            let body = Unread { version: head.version, headers: head.headers, body };
            let answer = async {
                let call = read(route, names, head.uri.query().unwrap_or_default())?;
                own_origin(route, &body.headers)?;
                let user = gate.identify(&body.headers, peer.as_ref()).await?;
                for need in route.needs {
                    gate.authorize(user.clone(), need.verb, target(need, &call)).await?;
                }
                carry_out(&api, route.operation, &call, body).await
            };
            answer.await.unwrap_or_else(|refusal: Refusal| refusal.into_response())
        };
        router.route(route.path, on(filter(route), answer))
    })
}

/// A browser shows its client certificate to us whichever page asks: pages of others change nothing.
fn own_origin(route: &Route, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_foreign = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if is_foreign && route.method != "get" {
        return Err(Refusal::Forbidden("a page of another origin may not ask for this".to_owned()));
    }
    Ok(())
}

fn filter(route: &Route) -> MethodFilter {
    match route.method {
        "put" => MethodFilter::PUT,
        "post" => MethodFilter::POST,
        _ => MethodFilter::GET,
    }
}

/// Names go into paths of the API server: whatever is no name is refused.
fn read(route: &Route, names: HashMap<String, String>, query: &str) -> Result<Call, Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = |name: &str| {
        let inner = name.bytes().all(|byte| is_plain(byte) || matches!(byte, b'-' | b'.'));
        inner && name.len() <= NAME_BYTES_MAX && name.bytes().next().is_some_and(is_plain) && name.bytes().last().is_some_and(is_plain)
    };
    if let Some((of, name)) = names.iter().find(|(_, name)| !is_name(name)) {
        return Err(Refusal::BadRequest(format!(
            "{of} {name:?} is no name: lower-case letters, digits, inner hyphens and dots, {NAME_BYTES_MAX} at most"
        )));
    }
    let query = pairs(query).ok_or_else(|| Refusal::BadRequest("the query cannot be read".to_owned()))?;
    if let Some(unknown) = query.keys().find(|key| !route.query.iter().any(|known| known.name == **key)) {
        let known: Vec<&str> = route.query.iter().map(|query| query.name).collect();
        let known = if known.is_empty() { "it takes none".to_owned() } else { format!("it takes: {}", known.join(", ")) };
        return Err(Refusal::BadRequest(format!("the query has {unknown:?}; {known}")));
    }
    Ok(Call { names, query })
}

fn pairs(query: &str) -> Option<HashMap<String, String>> {
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build().ok()?;
    Query::<HashMap<String, String>>::try_from_uri(&uri).ok().map(|query| query.0)
}

fn target(need: &Need, call: &Call) -> Target {
    Target::Resource {
        group: need.group,
        resource: need.resource,
        subresource: need.subresource,
        namespace: call.namespace().to_owned(),
        name: if need.named { call.target() } else { String::new() },
    }
}

async fn carry_out(api: &TaskApi, operation: Operation, call: &Call, body: Unread) -> Result<Response, Refusal> {
    let json = |value: Value| Json(value).into_response();
    Ok(match operation {
        Operation::Overview => json(api.overview.look().await?),
        Operation::AllTasks | Operation::Tasks => json(objects::tasks(api, call).await?),
        Operation::AllRuns | Operation::Runs => json(objects::runs(api, call).await?),
        Operation::Task => json(objects::task(api, call).await?),
        Operation::Run => json(objects::run(api, call).await?),
        Operation::Apply => json(objects::apply(api, call, body).await?),
        Operation::Suspend => json(objects::suspend(api, call, true).await?),
        Operation::Resume => json(objects::suspend(api, call, false).await?),
        Operation::TaskEvents => json(objects::events(api, call, "Task").await?),
        Operation::RunEvents => json(objects::events(api, call, "TaskRun").await?),
        Operation::Cancel => json(objects::cancel(api, call).await?),
        Operation::Start => started(objects::start(api, call, body).await?),
        Operation::Rerun => started(objects::rerun(api, call, body).await?),
        Operation::Log => log::answer(api, call).await?,
    })
}

fn started((run, is_new): (Value, bool)) -> Response {
    (if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(run)).into_response()
}

/// What the API server said of the request stays so; that it has refused *us* is not the caller's fault.
fn failed(error: RestError) -> Refusal {
    let RestError::Refused { status, text } = error else { return Refusal::Upstream(error.to_string()) };
    match status {
        StatusCode::BAD_REQUEST => Refusal::BadRequest(text),
        StatusCode::NOT_FOUND => Refusal::Absent(text),
        StatusCode::CONFLICT => Refusal::Conflict(text),
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge(text),
        StatusCode::UNPROCESSABLE_ENTITY => Refusal::Unprocessable(text),
        // What it says to a server-side apply of a field that the definition does not have.
        StatusCode::INTERNAL_SERVER_ERROR if text.contains("failed to create typed patch object") => Refusal::Unprocessable(text),
        StatusCode::FORBIDDEN => Refusal::Upstream(format!("the API server does not let Isobar do that: {text}")),
        other => Refusal::Upstream(format!("{other}: {text}")),
    }
}

//! One request to an API server and its answer, with our own time-out, limits and no hidden retry.
//!
//! Bodies are built and read by the rooms that know them; an answer that nobody reads is drained, so that its connection can be used again, and
//! never kept.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use tokio::time::{Instant, timeout};

use super::{fence::NotPermitted, leadership::Permission, limiter::TokenBucket, wire::StatusWire};
use crate::metrics::ApiMetrics;

/// `Content-Type` of a whole object.
pub const JSON: &str = "application/json";
/// `Content-Type` of a patch that merges lists by their keys: conditions of a status, for one.
pub const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";
/// `Content-Type` of a patch that replaces lists.
pub const MERGE: &str = "application/merge-patch+json";

/// An answer about one object larger than this is refused: etcd takes 1.5 MiB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A page of a list larger than this is refused: 500 objects of 512 KiB each, far beyond what clusters hold.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// A failure's text is shown to people up to here.
const MESSAGE_BYTES_MAX: usize = 1024;

/// An API server as we talk to it. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: Client,
    /// Host and port, for metrics.
    host: Arc<str>,
    metrics: ApiMetrics,
    /// `clientConnection.qps` and `burst`, when an admin set them.
    limiter: Option<Arc<TokenBucket>>,
    /// Asked once more right before a request is written.
    permission: Option<Permission>,
}

/// What to ask.
#[derive(Debug)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Kind of the body.
    pub content_type: &'static str,
    /// JSON, or nothing.
    pub body: Vec<u8>,
    /// How long until the whole answer is there.
    pub timeout: Duration,
}

impl Call {
    /// Reads something.
    pub fn get(path: String, timeout: Duration) -> Self {
        Self { method: Method::GET, path, content_type: JSON, body: Vec::new(), timeout }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// How long the server asks us to wait before another try.
    pub retry_after: Option<Duration>,
    /// What time the server has, as it wrote it.
    pub date: Option<Box<str>>,
    /// The body; empty if the caller did not want that of a success.
    pub body: Bytes,
}

/// Why there is no answer. What was asked may have been done all the same.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing, or not all of it, came in time.
    #[error("no answer from the API server within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection could not be made, or broke. The cause says more.
    #[error("the connection to the API server failed: {0}")]
    Connection(String),
    /// We do not lead any more; nothing was sent.
    #[error("not sent, as the lease ran out")]
    NotPermitted,
    /// The request could not be built.
    #[error("the request is malformed")]
    Request(#[from] http::Error),
    /// The answer is beyond all reason.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Api {
    /// Talks through a client that does not retry by itself. `host` (with port) names the server in metrics.
    pub fn new(client: Client, host: &str, metrics: ApiMetrics) -> Self {
        Self { client, host: host.into(), metrics, limiter: None, permission: None }
    }

    /// The same, at a bounded rate.
    #[must_use]
    pub fn limited(self, per_second: f64, burst: f64) -> Self {
        self.limited_by(Arc::new(TokenBucket::new(per_second, burst)))
    }

    /// The same, at a rate that others may change.
    #[must_use]
    pub fn limited_by(self, limiter: Arc<TokenBucket>) -> Self {
        Self { limiter: Some(limiter), ..self }
    }

    /// The same, but nothing is written without permission.
    #[must_use]
    pub fn while_permitted(&self, permission: Permission) -> Self {
        Self { permission: Some(permission), ..self.clone() }
    }

    /// The same without the rate limit: a renewal of the lease never waits behind bindings.
    #[must_use]
    pub fn unlimited(&self) -> Self {
        Self { limiter: None, ..self.clone() }
    }

    /// The client itself, for rare calls on typed objects.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where what happens here is counted.
    pub fn metrics(&self) -> &ApiMetrics {
        &self.metrics
    }

    /// Asks and reads the whole answer.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        self.exchange(call, Keep::UpTo(ANSWER_BYTES_MAX)).await
    }

    /// Asks for a page of a list.
    pub async fn page(&self, path: String, limit: Duration) -> Result<Answer, CallError> {
        self.exchange(Call::get(path, limit), Keep::UpTo(PAGE_BYTES_MAX)).await
    }

    /// Asks; of a success only the status is kept.
    pub async fn tell(&self, call: Call) -> Result<Answer, CallError> {
        self.exchange(call, Keep::Nothing).await
    }

    async fn exchange(&self, call: Call, success: Keep) -> Result<Answer, CallError> {
        self.allowed(&call.method).await;
        let limit = call.timeout;
        let exchange = async {
            let response = self.send(call).await?;
            let (head, body) = response.into_parts();
            let keep = if head.status.is_success() { success } else { Keep::UpTo(ANSWER_BYTES_MAX) };
            let body = read_body(body, keep).await?;
            Ok(Answer { status: head.status, retry_after: retry_after(&head.headers), date: date(&head.headers), body })
        };
        timeout(limit, exchange).await.map_err(|_| CallError::Timeout(limit))?
    }

    /// Opens a stream; the time-out covers only the head of the answer. A failure's body is read as an answer.
    pub async fn open(&self, path: String, limit: Duration) -> Result<Result<Body, Answer>, CallError> {
        self.allowed(&Method::GET).await;
        let exchange = async {
            let (head, body) = self.send(Call::get(path, limit)).await?.into_parts();
            if head.status.is_success() {
                return Ok(Ok(body));
            }
            let body = read_body(body, Keep::UpTo(ANSWER_BYTES_MAX)).await?;
            Ok(Err(Answer { status: head.status, retry_after: retry_after(&head.headers), date: date(&head.headers), body }))
        };
        timeout(limit, exchange).await.map_err(|_| CallError::Timeout(limit))?
    }

    /// Passes a request on as it is, and hands back the answer with its body still to come: streams, and connections that change their protocol. The
    /// time-out covers the head of the answer; without one, whoever asks gives up by dropping this. Reads only, or what no lease protects: there is no
    /// rate limit, and no permission is asked for.
    pub async fn forward(&self, request: Request<Body>, limit: Option<Duration>) -> Result<http::Response<Body>, CallError> {
        let (sent, method) = (Instant::now(), request.method().clone());
        let answer = match limit {
            Some(limit) => timeout(limit, self.client.send(request)).await.map_err(|_| CallError::Timeout(limit)),
            None => Ok(self.client.send(request).await),
        };
        let code = answer.as_ref().ok().and_then(|answer| answer.as_ref().ok()).map(|response| response.status().as_u16());
        self.metrics.request(&self.host, method.as_str(), code, sent.elapsed());
        answer?.map_err(|error| CallError::Connection(with_causes(&error)))
    }

    async fn allowed(&self, method: &Method) {
        if let Some(limiter) = &self.limiter {
            let asked = Instant::now();
            limiter.take().await;
            self.metrics.limited(&self.host, method.as_str(), asked.elapsed());
        }
    }

    async fn send(&self, call: Call) -> Result<http::Response<Body>, CallError> {
        let (sent, method) = (Instant::now(), call.method.clone());
        let request = Request::builder().method(call.method).uri(call.path).header(header::ACCEPT, JSON);
        let request = if call.body.is_empty() { request } else { request.header(header::CONTENT_TYPE, call.content_type) };
        let mut request = request.body(Body::from(call.body))?;
        if let Some(permission) = &self.permission {
            request.extensions_mut().insert(permission.clone());
        }
        let answer = self.client.send(request).await;
        let code = answer.as_ref().ok().map(|response| response.status().as_u16());
        self.metrics.request(&self.host, method.as_str(), code, sent.elapsed());
        answer.map_err(|error| if is_not_permitted(&error) { CallError::NotPermitted } else { CallError::Connection(with_causes(&error)) })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    UpTo(usize),
    Nothing,
}

async fn read_body(mut body: Body, keep: Keep) -> Result<Bytes, CallError> {
    let mut kept = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Connection(with_causes(&error)))?;
        let (Keep::UpTo(bytes_max), Some(data)) = (keep, frame.data_ref()) else { continue };
        if kept.len() + data.len() > bytes_max {
            return Err(CallError::TooLarge(bytes_max));
        }
        kept.extend_from_slice(data);
    }
    Ok(kept.freeze())
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn date(headers: &http::HeaderMap) -> Option<Box<str>> {
    Some(headers.get(header::DATE)?.to_str().ok()?.into())
}

fn is_not_permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if inner.is::<NotPermitted>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// As much of a text as fits into so many bytes, cut between two characters.
pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// An error with what caused it, in one line: kube's own texts leave the cause out.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

impl Answer {
    /// A failure in one line: what the server's `Status` says, or the bare HTTP status.
    pub fn failure(&self) -> String {
        let status: StatusWire<'_> = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = if status.message.is_empty() {
            format!("the API server answered {}", self.status)
        } else {
            format!("the API server answered {}: {}", self.status.as_u16(), status.message.as_str())
        };
        beginning(&text, MESSAGE_BYTES_MAX).to_owned()
    }

    /// Whether another try later may help: the server is busy, ending, or stumbled.
    pub fn is_transient(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }
}

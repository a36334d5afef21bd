//! Answers as a kubelet gives them: streams, or a line of plain text that says what is wrong.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use tower::BoxError;

use crate::http::status::Refusal;

/// A body of any kind.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Plain text.
pub(super) fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    typed(code, "text/plain; charset=utf-8", text.into())
}

/// JSON.
pub(super) fn json(text: String) -> Response<Body> {
    typed(StatusCode::OK, "application/json", text)
}

fn typed(code: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    with_type(code, HeaderValue::from_static(content_type), body)
}

/// No body.
pub(super) fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body with its type.
pub(super) fn with_type(code: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: StatusCode,
    pub(super) why: String,
}

impl Refused {
    pub(super) fn new(code: StatusCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }

    /// Not ours, or not there.
    pub(super) fn not_found(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, why)
    }

    /// Ours, but out of reach now.
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

impl From<Refused> for Response<Body> {
    fn from(refused: Refused) -> Self {
        text(refused.code, refused.why + "\n")
    }
}

/// What the gate says, as a kubelet would say it: the code, and plain text.
impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code_and_reason().0, refusal.to_string())
    }
}

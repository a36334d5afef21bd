//! Refusals as Kubernetes clients read them: the JSON of a `Status` object, with the HTTP code and a message for people.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 401: who asks is not known.
    #[error("Unauthorized: {0}")]
    Unauthenticated(String),
    /// 403: who asks may not.
    #[error("{0}")]
    Forbidden(String),
    /// 500: nobody could say whether who asks may. Never taken as a yes.
    #[error("cannot check the caller: {0}")]
    ReviewFailed(String),
    /// 404: there is no such path.
    #[error("the server has nothing at {0}")]
    NotFound(String),
    /// 404: there is no such object.
    #[error("{0}")]
    Absent(String),
    /// 409: it contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// 502: the API server did not do its part.
    #[error("the API server: {0}")]
    Upstream(String),
    /// 400: it cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// 413: it is too long.
    #[error("{0}")]
    TooLarge(String),
    /// 422: it can be read, and nothing can be done with it.
    #[error("{0}")]
    Unprocessable(String),
    /// 503: not now.
    #[error("{0}")]
    Unavailable(String),
    /// 405: the path answers others.
    #[error("{0} is not supported here")]
    MethodNotAllowed(String),
}

impl Refusal {
    pub(super) fn code_and_reason(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::ReviewFailed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::NotFound(_) | Self::Absent(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            Self::Upstream(_) => (StatusCode::BAD_GATEWAY, "BadGateway"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::Unprocessable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, reason) = self.code_and_reason();
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code.as_u16(),
        });
        let mut response = (code, Json(status)).into_response();
        if code == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

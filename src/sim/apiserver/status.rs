//! Error answers. In: what went wrong. Out: the `Status` object that kube-apiserver would send, with its reason, message and details.

use axum::body::Body;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::resources::ResourceType;

/// A refused request, as a `Status` of kind Failure.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`; empty for none.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `details` of the Status, or null.
    pub details: Box<Value>,
    /// `metadata.continue` of the Status: set when a list token has expired but the remainder can be had.
    pub continue_token: Option<String>,
}

/// One problem of one field, as in `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// Path, such as `spec.containers[0].name`.
    pub field: String,
    /// Text with upstream's leading words (`Required value: ...`).
    pub message: String,
}

impl FieldError {
    /// The field is missing.
    pub fn required(field: &str, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".to_string() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// The value is wrong. Strings are quoted in the text, everything else is printed as JSON.
    pub fn invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {detail}") }
    }

    /// The value is given twice.
    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self { reason: "FieldValueDuplicate", field: field.into(), message: format!("Duplicate value: {value}") }
    }

    /// The value is none of the supported ones.
    pub fn not_supported(field: &str, value: &Value, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// The field must not be set, or not be set to this.
    pub fn forbidden(field: &str, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// `a` alone, or `[a, b]`: how upstream joins several errors. Doubles are dropped, as there.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: String, details: Value) -> Self {
        Self { code, reason, message, details: Box::new(details), continue_token: None }
    }

    fn of_resource(code: u16, reason: &'static str, resource: &ResourceType, name: &str, message: String) -> Self {
        Self::new(code, reason, message, details_of(name, &resource.group, &resource.plural))
    }

    /// 404 for a named object.
    pub fn not_found(resource: &ResourceType, name: &str) -> Self {
        Self::of_resource(404, "NotFound", resource, name, format!("{} {name:?} not found", resource.qualified()))
    }

    /// 409 for a name that is taken.
    pub fn already_exists(resource: &ResourceType, name: &str) -> Self {
        Self::of_resource(409, "AlreadyExists", resource, name, format!("{} {name:?} already exists", resource.qualified()))
    }

    /// 409 for a write that lost.
    pub fn conflict(resource: &ResourceType, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::of_resource(409, "Conflict", resource, name, message)
    }

    /// 409 of a delete whose preconditions fail; upstream names the kind here.
    pub fn delete_conflict(resource: &ResourceType, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified_kind());
        Self::new(409, "Conflict", message, details_of(name, &resource.group, &resource.kind))
    }

    /// 409 of a binding; upstream names the resource `pods/binding`.
    pub fn binding_conflict(name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
        Self::new(409, "Conflict", message, details_of(name, "", "pods/binding"))
    }

    /// 422 with one cause a field.
    pub fn invalid(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> Self {
        let qualified = if group.is_empty() { kind.to_string() } else { format!("{kind}.{group}") };
        let message = format!("{qualified} {name:?} is invalid: {}", aggregate(errors));
        let mut details = details_of(name, group, kind);
        details["causes"] =
            errors.iter().map(|error| json!({"reason": error.reason, "message": error.message, "field": error.field})).collect();
        Self::new(422, "Invalid", message, details)
    }

    /// 422 for an object of a served type.
    pub fn invalid_object(resource: &ResourceType, name: &str, errors: &[FieldError]) -> Self {
        // Events are validated in their core form, whichever group they came by.
        let group = if resource.kind == "Event" { "" } else { &resource.group };
        Self::invalid(&resource.kind, group, name, errors)
    }

    /// 403.
    pub fn forbidden(resource: &ResourceType, name: &str, why: &str) -> Self {
        let quoted = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        Self::of_resource(403, "Forbidden", resource, name, format!("{}{quoted} is forbidden: {why}", resource.qualified()))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into(), Value::Null)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource".into(), json!({}))
    }

    /// 404 for a resource that its group does not have.
    pub fn unknown_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource".into(), json!({}))
    }

    /// 406.
    pub fn not_acceptable(message: &str) -> Self {
        Self::new(406, "NotAcceptable", message.to_string(), json!({}))
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {}", message.into()), Value::Null)
    }

    /// 415 of a patch: refused by upstream's router, before it knows what is served.
    pub fn unsupported_patch_type() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type".into(), json!({}))
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!("the body of the request was in an unknown format - accepted media types include: {}", accepted.join(", "));
        Self::new(415, "UnsupportedMediaType", message, Value::Null)
    }

    /// 410: the history that the request needs is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message.into(), Value::Null)
    }

    /// 422 without causes, as a failing JSON patch gives.
    pub fn unprocessable(message: &str) -> Self {
        let message = format!("the server rejected our request due to an error in our request ({message})");
        Self::new(422, "Invalid", message, Value::Null)
    }

    /// 500.
    pub fn internal(message: &str) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"), json!({"causes": [{"message": message}]}))
    }

    /// 429 as a server under pressure gives.
    pub fn too_many_requests(retry_after_seconds: u64) -> Self {
        let details = json!({"retryAfterSeconds": retry_after_seconds});
        Self::new(429, "TooManyRequests", "Too many requests, please try again later.".into(), details)
    }

    /// 503.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "The server is currently unable to handle the request".into(), Value::Null)
    }

    /// 504: a list or watch asks for a version that does not exist yet.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::new(504, "Timeout", message, json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// A 500 or 409 without reason and details, whatever the caller says.
    pub fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, reason, message.into(), Value::Null)
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message});
        if let Some(token) = &self.continue_token {
            status["metadata"]["continue"] = json!(token);
        }
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            status["details"] = (*self.details).clone();
        }
        status["code"] = json!(self.code);
        status
    }

    /// The whole HTTP answer.
    pub fn into_response(self) -> Response<Body> {
        let mut response = json_response(StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &self.to_status());
        if let Some(seconds) = self.details["retryAfterSeconds"].as_u64() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// `{name, group, kind}` without empty members.
pub fn details_of(name: &str, group: &str, kind: &str) -> Value {
    let mut details = serde_json::Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.into(), value.into());
        }
    }
    Value::Object(details)
}

/// A JSON answer.
pub fn json_response(code: StatusCode, value: &Value) -> Response<Body> {
    bytes_response(code, value.to_string().into())
}

/// An answer of bytes that already are JSON.
pub fn bytes_response(code: StatusCode, bytes: bytes::Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

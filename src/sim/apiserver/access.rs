//! Who may do what, for those who ask. In: `TokenReview`, `SubjectAccessReview` and its siblings. Out: the same objects with a status, as the
//! configured [`AccessPolicy`] decides. The server itself serves everyone.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::ApiServer;
use super::resources::ResourceType;
use super::status::{ApiError, json_response};

/// Whom a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// What someone wants to do, as a `SubjectAccessReview` asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// User name.
    pub user: String,
    /// Verb.
    pub verb: String,
    /// API group; empty for core and for paths.
    pub group: String,
    /// Plural; empty for paths.
    pub resource: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// Such as `/metrics`; empty for resources.
    pub path: String,
}

/// Decides reviews.
pub trait AccessPolicy: Send + Sync {
    /// Whom a token stands for, or `None` for a token that is not known.
    fn authenticate(&self, token: &str) -> Option<Identity>;
    /// Whether it is allowed.
    fn authorize(&self, attributes: &Attributes) -> bool;
}

/// Every token is good for an administrator, and everyone may do everything.
#[derive(Clone, Copy, Debug)]
pub struct AllowAll;

impl AccessPolicy for AllowAll {
    fn authenticate(&self, token: &str) -> Option<Identity> {
        (!token.is_empty())
            .then(|| Identity { user: "kubernetes-admin".into(), groups: vec!["system:masters".into(), "system:authenticated".into()] })
    }

    fn authorize(&self, _attributes: &Attributes) -> bool {
        true
    }
}

impl ApiServer {
    /// Answers a review of any kind.
    pub(super) fn review(&self, resource: &ResourceType, mut review: Value) -> Result<Response<Body>, ApiError> {
        review["kind"] = resource.kind.clone().into();
        review["apiVersion"] = resource.api_version().into();
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        review["status"] = match resource.kind.as_str() {
            "TokenReview" => self.review_token(&review["spec"])?,
            "SelfSubjectReview" => {
                json!({"userInfo": {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]}})
            }
            _ => json!({"allowed": self.access.authorize(&attributes(&review["spec"]))}),
        };
        Ok(json_response(StatusCode::CREATED, &super::defaults::in_order(resource, review)))
    }

    fn review_token(&self, spec: &Value) -> Result<Value, ApiError> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        Ok(match self.access.authenticate(token) {
            Some(identity) => json!({"authenticated": true, "user": {"username": identity.user, "groups": identity.groups}}),
            None => json!({"user": {}, "error": "[invalid bearer token, token lookup failed]"}),
        })
    }
}

fn attributes(spec: &Value) -> Attributes {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let verb = if path.is_object() { &path["verb"] } else { &resource["verb"] };
    Attributes {
        user: text(&spec["user"]),
        verb: text(verb),
        group: text(&resource["group"]),
        resource: text(&resource["resource"]),
        namespace: text(&resource["namespace"]),
        path: text(&path["path"]),
    }
}

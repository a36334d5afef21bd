//! Who may do what, for those who ask. In: `TokenReview`, `SubjectAccessReview` and its siblings. Out: the same objects with a status, as the
//! configured [`AccessPolicy`] decides. The server itself serves everyone.

use std::sync::{Arc, PoisonError, RwLock};

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
    /// Plural, with the subresource behind a slash where there is one; empty for paths.
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

/// What one client may do, for tests that take rights away while it works: answers reviews, and [`crate::sim::SimCluster`] refuses calls by it. Cheap to
/// clone; all clones are the same rights. Grants everything at first.
#[derive(Clone, Debug, Default)]
pub struct Permissions(Arc<RwLock<Denials>>);

#[derive(Debug, Default)]
struct Denials {
    revoked: bool,
    denied: Vec<(String, String)>,
}

impl Permissions {
    /// Denies a verb on a resource (`pods/log` for a subresource); `*` stands for any.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.change(|denials| denials.denied.push((verb.into(), resource.into())));
    }

    /// Grants everything again.
    pub fn allow_all(&self) {
        self.change(|denials| *denials = Denials::default());
    }

    /// The credentials are not known any more.
    pub fn revoke(&self) {
        self.change(|denials| denials.revoked = true);
    }

    /// Whether a call is refused, and how.
    pub fn refusal(&self, verb: &str, resource: &str) -> Option<ApiError> {
        let denials = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if denials.revoked {
            return Some(ApiError::plain(401, "Unauthorized", "Unauthorized"));
        }
        let means = |word: &str, asked: &str| word == "*" || word == asked;
        let denied = denials.denied.iter().any(|(verbs, resources)| means(verbs, verb) && means(resources, resource));
        denied.then(|| {
            let who = "User \"isobar\"";
            ApiError::plain(403, "Forbidden", format!("{resource} is forbidden: {who} cannot {verb} resource {resource:?}"))
        })
    }

    fn change(&self, change: impl FnOnce(&mut Denials)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl AccessPolicy for Permissions {
    fn authenticate(&self, token: &str) -> Option<Identity> {
        AllowAll.authenticate(token)
    }

    fn authorize(&self, attributes: &Attributes) -> bool {
        self.refusal(&attributes.verb, &attributes.resource).is_none()
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
        resource: match text(&resource["subresource"]) {
            subresource if subresource.is_empty() => text(&resource["resource"]),
            subresource => format!("{}/{subresource}", text(&resource["resource"])),
        },
        namespace: text(&resource["namespace"]),
        path: text(&path["path"]),
    }
}

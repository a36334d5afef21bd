//! Callers of our own server, asked about at the API server. In: a token, or a user and a path. Out: `TokenReview`'s and `SubjectAccessReview`'s answers.

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

use crate::http::{Decision, ReviewError, Reviewer, Reviewing, Target, User};

/// Asks the API server. Needs `create` on both kinds of review. The caller bounds time and number of questions and remembers answers.
#[derive(Clone)]
pub struct ApiReviewer {
    tokens: Api<TokenReview>,
    access: Api<SubjectAccessReview>,
}

impl ApiReviewer {
    /// Over a client of the home cluster.
    pub fn new(client: Client) -> Self {
        Self { tokens: Api::all(client.clone()), access: Api::all(client) }
    }
}

impl Reviewer for ApiReviewer {
    fn authenticate<'a>(&'a self, token: &'a str) -> Reviewing<'a, Option<User>> {
        Box::pin(async move {
            let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
            let review = TokenReview { spec, ..TokenReview::default() };
            let answer = self.tokens.create(&PostParams::default(), &review).await;
            let answer = answer.map_err(|source| ReviewError { doing: "asking whose token it is (TokenReview)", source: source.into() })?;
            let status = answer.status.unwrap_or_default();
            Ok(if status.authenticated == Some(true) { status.user.and_then(user) } else { None })
        })
    }

    fn authorize<'a>(&'a self, user: &'a User, verb: &'a str, target: &'a Target) -> Reviewing<'a, Decision> {
        Box::pin(async move {
            let answer = self.access.create(&PostParams::default(), &question(user, verb, target)).await;
            let doing = "asking what a user may (SubjectAccessReview)";
            let status = answer.map_err(|source| ReviewError { doing, source: source.into() })?.status.unwrap_or_default();
            if status.allowed && status.denied != Some(true) {
                return Ok(Decision::Allowed);
            }
            let reason = [status.reason, status.evaluation_error].into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>();
            Ok(Decision::Denied(reason.join("; ")))
        })
    }
}

/// A user without a name is nobody.
fn user(info: UserInfo) -> Option<User> {
    let name = info.username.filter(|name| !name.is_empty())?;
    Some(User { name, uid: info.uid.unwrap_or_default(), groups: info.groups.unwrap_or_default(), extra: info.extra.unwrap_or_default() })
}

fn question(user: &User, verb: &str, target: &Target) -> SubjectAccessReview {
    let verb = Some(verb.to_owned());
    let (non_resource_attributes, resource_attributes) = match target {
        Target::Path(path) => (Some(NonResourceAttributes { verb, path: Some(path.clone()) }), None),
        Target::Node { name, subresource } => {
            let (version, resource) = (Some("v1".to_owned()), Some("nodes".to_owned()));
            let (subresource, name) = (Some((*subresource).to_owned()), Some(name.clone()));
            (None, Some(ResourceAttributes { verb, version, resource, subresource, name, ..ResourceAttributes::default() }))
        }
        Target::Resource { group, resource, subresource, namespace, name } => {
            let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let attributes = ResourceAttributes {
                verb,
                group: said(group),
                resource: said(resource),
                subresource: said(subresource),
                namespace: said(namespace),
                name: said(name),
                ..ResourceAttributes::default()
            };
            (None, Some(attributes))
        }
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        non_resource_attributes,
        resource_attributes,
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::StatusCode, routing::post};
    use serde_json::{Value, json};

    use super::*;

    /// A client whose API server answers both reviews so.
    fn reviewer(code: StatusCode, status: &Value) -> ApiReviewer {
        let body = json!({"metadata": {}, "spec": {}, "status": status});
        let answer = post(async move |Json(asked): Json<Value>| {
            let mut body = body.clone();
            body["apiVersion"] = asked["apiVersion"].clone();
            body["kind"] = asked["kind"].clone();
            (code, Json(body))
        });
        let router = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", answer.clone())
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", answer);
        ApiReviewer::new(Client::new(router, "default"))
    }

    #[tokio::test]
    async fn tokens() {
        let known = Some(User { name: "u".into(), groups: vec!["g".into()], ..User::default() });
        for (status, expected) in [
            (json!({"authenticated": true, "user": {"username": "u", "groups": ["g"]}}), known),
            (json!({"authenticated": true, "user": {"username": ""}}), None),
            (json!({"authenticated": true}), None),
            (json!({"authenticated": false, "user": {"username": "u"}}), None),
            (json!({"error": "token has expired", "user": {"username": "u"}}), None),
            (json!({}), None),
        ] {
            assert_eq!(reviewer(StatusCode::CREATED, &status).authenticate("t").await.unwrap(), expected, "{status}");
        }
        assert!(reviewer(StatusCode::FORBIDDEN, &json!({})).authenticate("t").await.is_err());
    }

    #[tokio::test]
    async fn permissions() {
        for (status, expected) in [
            (json!({"allowed": true}), Decision::Allowed),
            (json!({"allowed": true, "denied": true, "reason": "r"}), Decision::Denied("r".into())),
            (json!({"allowed": false, "reason": "r", "evaluationError": "e"}), Decision::Denied("r; e".into())),
            (json!({"allowed": false}), Decision::Denied(String::new())),
        ] {
            let got =
                reviewer(StatusCode::CREATED, &status).authorize(&User::default(), "get", &Target::Path("/metrics".into())).await.unwrap();
            assert_eq!(got, expected, "{status}");
        }
        let down = reviewer(StatusCode::INTERNAL_SERVER_ERROR, &json!({}));
        assert!(down.authorize(&User::default(), "get", &Target::Path("/metrics".into())).await.is_err());
    }

    #[test]
    fn the_question_carries_all_that_is_known_of_the_user() {
        let user = User { name: "u".into(), uid: "1".into(), groups: vec!["g".into()], extra: [("k".into(), vec!["v".into()])].into() };
        let spec = serde_json::to_value(question(&user, "get", &Target::Path("/metrics".into()))).unwrap()["spec"].clone();
        let expected = json!({
            "user": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}, "nonResourceAttributes": {"path": "/metrics", "verb": "get"}
        });
        assert_eq!(spec, expected);
        let node = Target::Node { name: "isobar-cloud".into(), subresource: "proxy" };
        let attributes = serde_json::to_value(question(&user, "create", &node)).unwrap()["spec"]["resourceAttributes"].clone();
        let expected = json!({"verb": "create", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": "isobar-cloud"});
        assert_eq!(attributes, expected);
    }
}

//! Who may read what: authentication, then authorisation, as kube-scheduler delegates them. In: a request's head. Out: passage or a [`Refusal`].
//!
//! Listed paths are open to all. Otherwise the caller is a verified client certificate's subject, or the owner of a bearer token (`TokenReview`),
//! and needs `get` on the path (`SubjectAccessReview`), unless in group `system:masters`. Answers are remembered for seconds; failures never are,
//! and never open anything.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    answers::Answers,
    review::{Decision, ReviewError, Reviewer, Reviewing, Target, User},
    status::Refusal,
};
use crate::metrics::HttpMetrics;

/// Kubernetes' group of those who may do everything; it is never asked about.
const MASTERS: &str = "system:masters";

/// Kubernetes' name and group for who shows nothing.
const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// A longer token is nobody's: service account tokens have about 1 KB, certificates of cloud providers some more.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// How long a caller waits for the API server's word, waiting for a place among the reviews included.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// Questions to the API server at once: made-up tokens must not take it from the scheduler.
const REVIEWS_AT_ONCE: usize = 8;

/// What is open to whom, and for how long an answer holds.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Paths open to everybody; a `*` at the end means every path that begins so.
    pub always_allow_paths: Vec<String>,
    /// Who shows neither token nor certificate is `system:anonymous`, and may what the cluster lets it.
    pub anonymous: bool,
    /// For how long a good token or a permission is believed.
    pub allowed_for: Duration,
    /// For how long a bad token or a refusal is believed.
    pub denied_for: Duration,
}

impl Default for GateOptions {
    /// kube-scheduler's: the probes are open, answers hold for 10 s.
    fn default() -> Self {
        let always_allow_paths = ["/healthz", "/readyz", "/livez"].map(str::to_owned).to_vec();
        Self { always_allow_paths, anonymous: false, allowed_for: Duration::from_secs(10), denied_for: Duration::from_secs(10) }
    }
}

/// The head of a request, as far as passage depends on it.
pub(super) struct Asking<'a> {
    pub(super) verb: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// Subject of the verified client certificate.
    pub(super) certificate: Option<&'a User>,
}

type Question = (User, String, Target);

pub(super) struct Gate {
    options: GateOptions,
    reviewer: Arc<dyn Reviewer>,
    metrics: HttpMetrics,
    tokens: Mutex<Answers<String, Option<User>>>,
    permissions: Mutex<Answers<Question, Decision>>,
    reviews: Semaphore,
}

impl Gate {
    pub(super) fn new(options: GateOptions, reviewer: Arc<dyn Reviewer>, metrics: HttpMetrics) -> Self {
        let (tokens, permissions) = (Mutex::new(Answers::new()), Mutex::new(Answers::new()));
        Self { options, reviewer, metrics, tokens, permissions, reviews: Semaphore::new(REVIEWS_AT_ONCE) }
    }

    pub(super) async fn admit(&self, asking: Asking<'_>) -> Result<(), Refusal> {
        if self.is_open(asking.path) {
            return Ok(());
        }
        let user = self.identify(asking.headers, asking.certificate).await?;
        self.authorize(user, asking.verb, Target::Path(asking.path.to_owned())).await
    }

    /// Who asks: the verified certificate's subject, or the token's owner.
    pub(super) async fn identify(&self, headers: &HeaderMap, certificate: Option<&User>) -> Result<User, Refusal> {
        match certificate {
            Some(user) => Ok(user.clone()),
            None if self.options.anonymous && !headers.contains_key(header::AUTHORIZATION) => {
                Ok(User { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..User::default() })
            }
            None => self.owner_of(bearer_token(headers)?).await,
        }
    }

    /// Whether callers without credentials are anybody.
    pub(super) fn lets_anonymous(&self) -> bool {
        self.options.anonymous
    }

    fn is_open(&self, path: &str) -> bool {
        self.options.always_allow_paths.iter().any(|rule| rule.strip_suffix('*').map_or(rule == path, |prefix| path.starts_with(prefix)))
    }

    async fn owner_of(&self, token: &str) -> Result<User, Refusal> {
        let remembered = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(token);
        let owner = if let Some(owner) = remembered {
            owner
        } else {
            let owner = self.review("token", self.reviewer.authenticate(token), Option::is_some).await?;
            let good_for = if owner.is_some() { self.options.allowed_for } else { self.options.denied_for };
            self.tokens.lock().unwrap_or_else(PoisonError::into_inner).put(token.to_owned(), owner.clone(), good_for);
            owner
        };
        owner.ok_or_else(|| {
            Refusal::Unauthenticated("the API server does not accept the bearer token (wrong, expired, or for another audience)".into())
        })
    }

    /// Whether that user may.
    pub(super) async fn authorize(&self, user: User, verb: &str, target: Target) -> Result<(), Refusal> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let question = (user, verb.to_owned(), target);
        let remembered = self.permissions.lock().unwrap_or_else(PoisonError::into_inner).get(&question);
        let decision = if let Some(decision) = remembered {
            decision
        } else {
            let answer = self.reviewer.authorize(&question.0, verb, &question.2);
            let decision = self.review("access", answer, |decision| *decision == Decision::Allowed).await?;
            let good_for = if decision == Decision::Allowed { self.options.allowed_for } else { self.options.denied_for };
            self.permissions.lock().unwrap_or_else(PoisonError::into_inner).put(question.clone(), decision.clone(), good_for);
            decision
        };
        match decision {
            Decision::Allowed => Ok(()),
            Decision::Denied(reason) => Err(forbidden(&question.0.name, verb, &question.2, &reason)),
        }
    }

    /// One question to the API server: bounded in number and time, counted.
    async fn review<T>(&self, what: &'static str, answer: Reviewing<'_, T>, allowed: impl Fn(&T) -> bool) -> Result<T, Refusal> {
        let bounded = async {
            let _place =
                self.reviews.acquire().await.map_err(|source| ReviewError { doing: "waiting for a review", source: source.into() })?;
            answer.await
        };
        let answer = match timeout(REVIEW_TIMEOUT, bounded).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the API server did not answer within {} s", REVIEW_TIMEOUT.as_secs())),
        };
        let result = answer.as_ref().map_or("error", |answer| if allowed(answer) { "allowed" } else { "denied" });
        self.metrics.reviewed(what, result);
        answer.map_err(|message| {
            tracing::warn!(review = what, error = %message, "cannot check a caller of our own server; refused it");
            Refusal::ReviewFailed(message)
        })
    }
}

fn forbidden(user: &str, verb: &str, target: &Target, reason: &str) -> Refusal {
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let what = match target {
        Target::Path(path) => format!("path \"{path}\""),
        Target::Node { name, subresource } => format!("resource nodes/{subresource} of \"{name}\""),
        Target::Resource { group, resource, subresource, namespace, name } => {
            let slash = if subresource.is_empty() { "" } else { "/" };
            let one = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
            let place = if namespace.is_empty() { "in all namespaces".to_owned() } else { format!("in namespace \"{namespace}\"") };
            format!("resource {resource}{slash}{subresource}{one} in API group \"{group}\" {place}")
        }
    };
    Refusal::Forbidden(format!("forbidden: User \"{user}\" cannot {verb} {what}{because}"))
}

fn bearer_token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let refuse = |why: &str| Err(Refusal::Unauthenticated(why.to_owned()));
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return refuse("a bearer token is needed (Authorization: Bearer ...)") };
    if values.next().is_some() {
        return refuse("more than one Authorization header");
    }
    let Ok(value) = value.to_str() else { return refuse("the Authorization header is not plain text") };
    let Some((scheme, token)) = value.split_once(' ') else { return refuse("the Authorization header is not of the form: Bearer TOKEN") };
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return refuse("the Authorization header is not of the form: Bearer TOKEN");
    }
    if token.len() > TOKEN_BYTES_MAX {
        return refuse("the bearer token is too long");
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::HeaderValue;

    use super::*;
    use crate::metrics::Metrics;

    /// Token `good` belongs to prometheus, which may get /metrics; `admin` to a master; `down` and `slow` break the review.
    #[derive(Default)]
    struct Scripted {
        tokens_asked: AtomicUsize,
        access_asked: AtomicUsize,
        /// The API server is down for access reviews.
        down: bool,
    }

    fn failed<T>() -> Result<T, ReviewError> {
        Err(ReviewError { doing: "asking", source: "connection refused".into() })
    }

    impl Reviewer for Scripted {
        fn authenticate<'a>(&'a self, token: &'a str) -> Reviewing<'a, Option<User>> {
            self.tokens_asked.fetch_add(1, Ordering::Relaxed);
            let user = |name: &str, group: &str| Some(User { name: name.into(), groups: vec![group.into()], ..User::default() });
            Box::pin(async move {
                match token {
                    "good" => Ok(user("prometheus", "system:authenticated")),
                    "poor" => Ok(user("poor", "system:authenticated")),
                    "admin" => Ok(user("admin", MASTERS)),
                    "down" => failed(),
                    "slow" => std::future::pending().await,
                    _ => Ok(None),
                }
            })
        }

        fn authorize<'a>(&'a self, user: &'a User, verb: &'a str, target: &'a Target) -> Reviewing<'a, Decision> {
            self.access_asked.fetch_add(1, Ordering::Relaxed);
            let may = user.name == "prometheus" && verb == "get" && *target == Target::Path("/metrics".into());
            let down = self.down;
            Box::pin(async move {
                if down { failed() } else { Ok(if may { Decision::Allowed } else { Decision::Denied("no RBAC rule".into()) }) }
            })
        }
    }

    fn gate(reviewer: Arc<Scripted>) -> Gate {
        Gate::new(GateOptions::default(), reviewer, HttpMetrics::new(&Metrics::new()))
    }

    async fn ask(gate: &Gate, path: &str, authorization: &[&str]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        gate.admit(Asking { verb: "get", path, headers: &headers, certificate: None }).await
    }

    fn code(answer: &Result<(), Refusal>) -> u16 {
        match answer {
            Ok(()) => 200,
            Err(Refusal::Unauthenticated(_)) => 401,
            Err(Refusal::Forbidden(_)) => 403,
            Err(_) => 500,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_what() {
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        for (path, authorization, expected) in [
            ("/healthz", vec![], 200),
            ("/readyz", vec![], 200),
            ("/livez", vec!["Bearer bad"], 200),
            ("/healthz/ping", vec![], 401), // only the listed paths themselves
            ("/healthzz", vec![], 401),
            ("/metrics", vec![], 401),
            ("/metrics", vec!["Bearer bad"], 401),
            ("/metrics", vec!["Bearer "], 401),
            ("/metrics", vec!["Bearer"], 401),
            ("/metrics", vec!["Basic Z29vZA=="], 401),
            ("/metrics", vec!["Bearer good", "Bearer good"], 401),
            ("/metrics", vec![&long], 401),
            ("/metrics", vec!["Bearer poor"], 403),
            ("/metrics", vec!["Bearer good"], 200),
            ("/metrics", vec!["bearer good"], 200),
            ("/configz", vec!["Bearer good"], 403),
            ("/configz", vec!["Bearer admin"], 200),
            ("/metrics", vec!["Bearer down"], 500),
            ("/metrics", vec!["Bearer slow"], 500),
        ] {
            let answer = ask(&gate(Arc::default()), path, &authorization).await;
            assert_eq!(code(&answer), expected, "{path} {authorization:?}: {answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_say_what_to_do() {
        let gate = gate(Arc::default());
        for (authorization, message) in [
            ("Bearer poor", "forbidden: User \"poor\" cannot get path \"/metrics\": no RBAC rule"),
            ("Bearer down", "cannot check the caller: asking: connection refused"),
            ("Bearer slow", "cannot check the caller: the API server did not answer within 10 s"),
        ] {
            assert_eq!(ask(&gate, "/metrics", &[authorization]).await.unwrap_err().to_string(), message);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn access_review_down_is_never_open() {
        let gate = gate(Arc::new(Scripted { down: true, ..Scripted::default() }));
        assert_eq!(code(&ask(&gate, "/metrics", &["Bearer good"]).await), 500);
        assert_eq!(code(&ask(&gate, "/metrics", &["Bearer admin"]).await), 200, "masters are not asked about");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_remembered_for_ten_seconds_and_failures_not_at_all() {
        let reviewer = Arc::new(Scripted::default());
        let gate = gate(reviewer.clone());
        let asked = || (reviewer.tokens_asked.load(Ordering::Relaxed), reviewer.access_asked.load(Ordering::Relaxed));
        for (token, seconds_later, expected) in [
            ("good", 0, (1, 1)),
            ("good", 9, (1, 1)),
            ("good", 1, (2, 2)),
            ("poor", 0, (3, 3)),
            ("poor", 9, (3, 3)),
            ("poor", 1, (4, 4)),
            ("bad", 0, (5, 4)),
            ("bad", 9, (5, 4)),
            ("bad", 1, (6, 4)),
            ("down", 0, (7, 4)),
            ("down", 0, (8, 4)),
        ] {
            tokio::time::advance(Duration::from_secs(seconds_later)).await;
            let _ = ask(&gate, "/metrics", &[&format!("Bearer {token}")]).await;
            assert_eq!(asked(), expected, "{token} {seconds_later} s later");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificates_subject_needs_permission_too() {
        let gate = gate(Arc::default());
        for (name, group, expected) in [("prometheus", "", 200), ("poor", "", 403), ("poor", MASTERS, 200)] {
            let user = User { name: name.into(), groups: vec![group.into()], ..User::default() };
            let asking = Asking { verb: "get", path: "/metrics", headers: &HeaderMap::new(), certificate: Some(&user) };
            assert_eq!(code(&gate.admit(asking).await), expected, "{name} {group}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_shows_nothing_is_anonymous_only_when_that_is_configured() {
        for (anonymous, authorization, expected) in [(false, vec![], 401), (true, vec![], 403), (true, vec!["Bearer bad"], 401)] {
            let options = GateOptions { anonymous, ..GateOptions::default() };
            let gate = Gate::new(options, Arc::new(Scripted::default()), HttpMetrics::new(&Metrics::new()));
            assert_eq!(code(&ask(&gate, "/metrics", &authorization).await), expected, "{anonymous} {authorization:?}");
        }
    }

    #[test]
    fn a_star_at_the_end_opens_what_begins_so() {
        let options = GateOptions { always_allow_paths: vec!["/readyz*".into()], ..GateOptions::default() };
        let gate = Gate::new(options, Arc::new(Scripted::default()), HttpMetrics::new(&Metrics::new()));
        for (path, open) in [("/readyz", true), ("/readyz/ping", true), ("/ready", false), ("/healthz", false)] {
            assert_eq!(gate.is_open(path), open, "{path}");
        }
    }
}

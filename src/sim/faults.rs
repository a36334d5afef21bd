//! Faults on the way to the API server. In: a seeded plan of what goes wrong where. Out: requests refused before they take effect, answers lost
//! after it, delays, watches cut or expired.
//!
//! Deterministic: one generator for each rule, seeded from the plan's seed and the rule's place, so that adding a rule moves no other rule's draws.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;
use tokio::time::{Duration, sleep};
use tower::BoxError;

use super::apiserver::ApiError;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// No connection: the caller gets an error, nothing happened.
    Refused,
    /// 500 before any effect.
    ErrorBefore,
    /// 503 before any effect.
    Unavailable,
    /// The request takes effect and is answered with 500.
    ErrorAfter,
    /// The request takes effect and the connection breaks before the answer.
    LostAfter,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// The request waits before it takes effect: between `low` and `high`, drawn evenly.
    Slow {
        /// Shortest delay.
        low: Duration,
        /// Longest delay.
        high: Duration,
    },
    /// The answer waits after the effect.
    SlowAnswer(Duration),
    /// The request is never answered and has no effect.
    Hang,
    /// The request takes effect and is never answered.
    HangAfter,
    /// The request is never answered and takes effect so much later, whether or not its sender still waits or lives: it was in a socket's buffer.
    Late(Duration),
    /// A watch breaks after this many frames of its body, as when a connection is reset.
    WatchDropped {
        /// Frames that still arrive.
        after_frames: usize,
    },
    /// A watch is answered with 410 in the stream.
    WatchExpired,
    /// A list is answered with 410 (its continue token or version is too old).
    ListExpired,
}

/// Which requests a rule is about; absent parts match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: Option<&'static str>,
    /// Plural, with the subresource behind a slash where there is one: `pods/binding`.
    pub resource: Option<&'static str>,
}

impl Target {
    /// All requests.
    pub const ANY: Self = Self { verb: None, resource: None };

    /// Requests of one verb on one resource (`pods/binding` for a subresource).
    pub const fn of(verb: &'static str, resource: &'static str) -> Self {
        Self { verb: Some(verb), resource: Some(resource) }
    }

    /// Requests of one verb.
    pub const fn verb(verb: &'static str) -> Self {
        Self { verb: Some(verb), resource: None }
    }

    fn matches(&self, verb: &str, resource: &str) -> bool {
        self.verb.is_none_or(|wanted| wanted == verb) && self.resource.is_none_or(|wanted| wanted == resource)
    }
}

#[derive(Debug)]
struct Rule {
    target: Target,
    fault: Fault,
    probability: f64,
    /// How often it may still strike; `None` for ever.
    left: Option<u32>,
    /// How many matching requests pass unharmed first.
    skip: u32,
    random: Pcg64Mcg,
}

#[derive(Debug, Default)]
struct Plan {
    seed: u64,
    rules: Vec<Rule>,
    /// Total of strikes, to tell a quiet plan from one that never ran.
    struck: u64,
    paused: bool,
}

/// A shared plan of faults. The default plan is empty.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
}

impl Faults {
    /// An empty plan with a seed.
    pub fn seeded(seed: u64) -> Self {
        Self { plan: Arc::new(Mutex::new(Plan { seed, ..Plan::default() })) }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, target: Target, fault: Fault, probability: f64, left: Option<u32>, skip: u32) {
        let mut plan = self.lock();
        let place = u64::try_from(plan.rules.len()).unwrap_or(u64::MAX);
        // An odd constant spreads neighbouring places over the seed space.
        let random = Pcg64Mcg::seed_from_u64(plan.seed ^ place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        plan.rules.push(Rule { target, fault, probability, left, skip, random });
    }

    /// Strikes each matching request with a probability of 0 to 1. Of several rules the first that strikes wins.
    pub fn often(&self, target: Target, fault: Fault, probability: f64) -> &Self {
        self.add(target, fault, probability.clamp(0.0, 1.0), None, 0);
        self
    }

    /// Strikes the next matching request, once.
    pub fn once(&self, target: Target, fault: Fault) -> &Self {
        self.add(target, fault, 1.0, Some(1), 0);
        self
    }

    /// Lets `skip` matching requests pass, then strikes `times` of them.
    pub fn scripted(&self, target: Target, fault: Fault, skip: u32, times: u32) -> &Self {
        self.add(target, fault, 1.0, Some(times), skip);
        self
    }

    /// Forgets all rules: from now on nothing goes wrong.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Holds all rules back, or lets them strike again.
    pub fn pause(&self, paused: bool) {
        self.lock().paused = paused;
    }

    /// How often a fault struck.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// The fault for one request, and a delay drawn for it.
    fn strike(&self, verb: &str, resource: &str) -> Option<(Fault, Duration)> {
        let mut plan = self.lock();
        if plan.paused {
            return None;
        }
        let matching = plan.rules.iter_mut().filter(|rule| rule.left != Some(0) && rule.target.matches(verb, resource));
        let struck = matching.into_iter().find_map(Rule::draw)?;
        plan.struck += 1;
        Some(struck)
    }

    /// Sends a request onward through the plan.
    pub(crate) async fn around<F>(
        &self,
        request: Request<Body>,
        onward: impl FnOnce(Request<Body>) -> F + Send + 'static,
    ) -> Result<Response<Body>, BoxError>
    where
        F: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
    {
        let (verb, resource) = describe(request.method(), request.uri());
        let Some((fault, delay)) = self.strike(verb, &resource) else { return onward(request).await };
        tracing::debug!(verb, resource, ?fault, "a fault strikes");
        match fault {
            Fault::Refused => Err(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))),
            Fault::ErrorBefore => Ok(ApiError::internal("etcdserver: request timed out").into_response()),
            Fault::Unavailable => Ok(ApiError::unavailable().into_response()),
            Fault::ErrorAfter => {
                onward(request).await?;
                Ok(ApiError::internal("etcdserver: request timed out").into_response())
            }
            Fault::LostAfter => {
                onward(request).await?;
                Err(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
            }
            Fault::TooManyRequests { retry_after_seconds } => Ok(ApiError::too_many_requests(retry_after_seconds).into_response()),
            Fault::Slow { .. } => {
                sleep(delay).await;
                onward(request).await
            }
            Fault::SlowAnswer(delay) => {
                let response = onward(request).await;
                sleep(delay).await;
                response
            }
            Fault::Hang => std::future::pending().await,
            Fault::Late(delay) => {
                tokio::spawn(async move {
                    sleep(delay).await;
                    let _ = onward(request).await;
                });
                std::future::pending().await
            }
            Fault::HangAfter => {
                onward(request).await?;
                std::future::pending().await
            }
            Fault::WatchDropped { after_frames } if verb == "watch" => Ok(onward(request).await?.map(|body| cut(body, after_frames))),
            Fault::WatchExpired if verb == "watch" => {
                let error = json!({"type": "ERROR", "object": ApiError::expired("too old resource version: 1 (2)").to_status()});
                Ok(Response::new(Body::from(format!("{error}\n"))))
            }
            Fault::ListExpired if verb == "list" => {
                Ok(ApiError::expired("The resourceVersion for the provided list is too old.").into_response())
            }
            Fault::WatchDropped { .. } | Fault::WatchExpired | Fault::ListExpired => onward(request).await,
        }
    }
}

impl Rule {
    fn draw(&mut self) -> Option<(Fault, Duration)> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if !self.random.random_bool(self.probability) {
            return None;
        }
        self.left = self.left.map(|left| left - 1);
        let delay = match self.fault {
            Fault::Slow { low, high } => {
                let span_us = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX);
                low + Duration::from_micros(self.random.random_range(0..=span_us))
            }
            _ => Duration::ZERO,
        };
        Some((self.fault.clone(), delay))
    }
}

/// The body up to a number of frames, then a broken connection.
fn cut(body: Body, after_frames: usize) -> Body {
    let reset = || Err::<Bytes, _>(axum::Error::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    Body::from_stream(body.into_data_stream().take(after_frames).chain(futures::stream::once(async move { reset() })))
}

/// Verb and resource (with subresource) of a request, as RBAC names them.
pub(super) fn describe(method: &Method, uri: &http::Uri) -> (&'static str, String) {
    let mut segments =
        uri.path().split('/').filter(|segment| !segment.is_empty()).skip(if uri.path().starts_with("/apis/") { 3 } else { 2 }).peekable();
    let mut parts: Vec<&str> = segments.by_ref().collect();
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    let resource = parts.first().copied().unwrap_or_default();
    let resource = parts.get(2).map_or_else(|| resource.to_string(), |subresource| format!("{resource}/{subresource}"));
    let named = parts.len() > 1;
    let watch = uri.query().is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch")));
    let verb = match (method.as_str(), named) {
        ("GET", false) if watch => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "deletecollection",
        ("DELETE", true) => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_described() {
        let table = [
            ("GET", "/api/v1/pods?watch=true&x=1", "watch", "pods"),
            ("GET", "/api/v1/namespaces/a/pods?limit=5", "list", "pods"),
            ("GET", "/api/v1/namespaces/a", "get", "namespaces"),
            ("POST", "/api/v1/namespaces/a/pods/p/binding", "create", "pods/binding"),
            ("PATCH", "/api/v1/namespaces/a/pods/p/status", "patch", "pods/status"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", "update", "leases"),
            ("DELETE", "/api/v1/nodes/n", "delete", "nodes"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "pods"),
        ];
        for (method, path, verb, resource) in table {
            let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
            assert_eq!(describe(&method, &http::Uri::from_static(path)), (verb, resource.to_string()), "{path}");
        }
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let draws = |seed| {
            let faults = Faults::seeded(seed);
            faults.often(Target::verb("create"), Fault::ErrorAfter, 0.3).once(Target::of("list", "pods"), Fault::ListExpired);
            (0..64).map(|_| faults.strike("create", "pods").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    #[test]
    fn a_scripted_fault_strikes_when_told_and_then_no_more() {
        let faults = Faults::default();
        faults.scripted(Target::ANY, Fault::Refused, 2, 1);
        let struck: Vec<bool> = (0..5).map(|_| faults.strike("get", "pods").is_some()).collect();
        assert_eq!(struck, [false, false, true, false, false]);
        assert_eq!(faults.struck(), 1);
    }
}

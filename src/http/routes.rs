//! Which path answers what. In: a request that was admitted. Out: probes, metrics, configuration, version.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use super::{
    HttpState, api, events,
    gate::{Asking, Gate},
    health::{Probe, Report},
    review::User,
    status::Refusal,
    ui,
};
use crate::metrics::HttpMetrics;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The caller that the connection's handshake verified, if any.
#[derive(Clone)]
pub(super) struct Peer(pub(super) Option<User>);

/// Everything, behind the gate.
pub(super) fn secure(state: &HttpState, gate: &Arc<Gate>, metrics: HttpMetrics) -> Router {
    let router = probes(state)
        .route("/metrics", metrics_route(state))
        .route("/configz", configuration_route(state))
        .route("/version", get(async || Json(version())));
    let router = match &state.events {
        Some(intake) => router.merge(events::router(intake.clone())),
        None => router,
    };
    let gated = finish(router, metrics.clone()).layer(from_fn_with_state(gate.clone(), admit));
    match &state.api {
        // These check their callers route by route, and the page has nothing to hide.
        Some(api) => {
            let open = api::router(api, gate).merge(ui::router(gate.lets_anonymous()));
            gated.merge(open.method_not_allowed_fallback(not_allowed).layer(from_fn_with_state(metrics, count)))
        }
        None => gated,
    }
}

/// What a plain listener shows to everybody: probes, and metrics when asked for.
pub(super) fn plain(state: &HttpState, with_metrics: bool, metrics: HttpMetrics) -> Router {
    let router = probes(state);
    finish(if with_metrics { router.route("/metrics", metrics_route(state)) } else { router }, metrics)
}

fn finish(router: Router, metrics: HttpMetrics) -> Router {
    router.fallback(not_found).method_not_allowed_fallback(not_allowed).layer(from_fn_with_state(metrics, count))
}

async fn not_found(request: Request) -> Refusal {
    Refusal::NotFound(request.uri().path().to_owned())
}

async fn not_allowed(request: Request) -> Refusal {
    Refusal::MethodNotAllowed(request.method().to_string())
}

async fn admit(State(gate): State<Arc<Gate>>, Extension(Peer(peer)): Extension<Peer>, request: Request, next: Next) -> Response {
    let verb = request.method().as_str().to_ascii_lowercase();
    let asking = Asking { verb: &verb, path: request.uri().path(), headers: request.headers(), certificate: peer.as_ref() };
    match gate.admit(asking).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn count(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let known =
        ["healthz", "livez", "readyz", "metrics", "configz", "version", "events", "api", "ui"].into_iter().find(|known| *known == first);
    let path = known.map_or_else(|| "other".to_owned(), |known| format!("/{known}"));
    let response = next.run(request).await;
    metrics.answered(&path, response.status().as_u16());
    response
}

fn metrics_route(state: &HttpState) -> MethodRouter {
    let metrics = state.metrics.clone();
    get(async move || ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics.render()))
}

fn configuration_route(state: &HttpState) -> MethodRouter {
    let configuration = state.configuration.clone();
    get(async move || Json(configuration()))
}

fn probes(state: &HttpState) -> Router {
    let mut router = Router::new();
    for probe in Probe::ALL {
        let (all, single) = (state.health.clone(), state.health.clone());
        let whole = async move |RawQuery(query): RawQuery| {
            let (verbose, exclude) = probe_query(query.as_deref().unwrap_or_default());
            answer_whole(all.report(probe, &exclude), verbose)
        };
        let part = async move |Path(name): Path<String>| match single.single(probe, &name) {
            Some(report) => answer(report.healthy, report.text),
            None => Refusal::NotFound(format!("/{}/{name}", probe.name())).into_response(),
        };
        let path = format!("/{}", probe.name());
        router = router.route(&path, get(whole)).route(&format!("{path}/{{name}}"), get(part));
    }
    router
}

/// `verbose` and any number of `exclude=NAME`. Names of checks need no decoding.
fn probe_query(query: &str) -> (bool, Vec<String>) {
    let pairs: Vec<(&str, &str)> = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let verbose = pairs.iter().any(|(key, _)| *key == "verbose");
    (verbose, pairs.iter().filter(|(key, _)| *key == "exclude").map(|(_, value)| (*value).to_owned()).collect())
}

fn answer_whole(report: Report, verbose: bool) -> Response {
    let text = if report.healthy && !verbose { "ok".to_owned() } else { report.text };
    answer(report.healthy, text)
}

fn answer(healthy: bool, text: String) -> Response {
    let code = if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache, private")];
    (code, headers, text).into_response()
}

fn version() -> serde_json::Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("ISOBAR_REVISION").unwrap_or("unknown"),
        "platform": format!("{}/{architecture}", std::env::consts::OS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_queries() {
        for (query, verbose, exclude) in [
            ("", false, vec![]),
            ("verbose", true, vec![]),
            ("verbose=true&exclude=a&exclude=b", true, vec!["a", "b"]),
            ("&&=&exclude", false, vec![""]),
        ] {
            assert_eq!(probe_query(query), (verbose, exclude.into_iter().map(str::to_owned).collect()), "{query}");
        }
    }
}

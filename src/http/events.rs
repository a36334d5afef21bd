//! Data that arrive over HTTP: `POST /events/NAME`. In: a `CloudEvent` (structured, batched or binary) or a notification of an S3 store, from a caller that the
//! gate has let through. Out: 200 when the runs that it starts exist; 4xx when sending it again is no use; 503 when it has to be sent again.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Version, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::{body, status::Refusal};
use crate::{
    kubernetes::tasks::{Arriving, settle},
    tasks::trigger::arrival::{self, Arrival, BODY_BYTES_MAX, BadBody},
};

/// How long the machine may take for all arrivals of one body.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long senders are asked to wait before they send again.
const RETRY_AFTER_SECONDS: &str = "5";

/// Who takes arrivals in.
#[derive(Clone)]
pub struct EventIntake {
    /// Names of data sources.
    pub sources: Vec<String>,
    /// To the machine.
    pub arrivals: mpsc::Sender<Arriving>,
}

/// The route.
pub(super) fn router(intake: EventIntake) -> Router {
    Router::new().route("/events/{source}", post(take)).with_state(intake)
}

async fn take(State(intake): State<EventIntake>, Path(source): Path<String>, request: Request) -> Response {
    if !intake.sources.contains(&source) {
        return Refusal::NotFound(format!("/events/{source}; sources are those of the configuration's tasks.sources")).into_response();
    }
    let (head, body) = request.into_parts();
    let arrivals = match read(&source, head.version, &head.headers, body).await {
        Ok(arrivals) => arrivals,
        Err(refusal) => return refusal.into_response(),
    };
    timeout(ANSWER_TIMEOUT, answer(&intake, arrivals))
        .await
        .unwrap_or_else(|_| again(&format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
}

async fn read(source: &str, version: Version, headers: &HeaderMap, body: Body) -> Result<Vec<Arrival>, Refusal> {
    let wrong = |bad: BadBody| match bad {
        BadBody::TooLong(_) => Refusal::TooLarge(bad.to_string()),
        bad => Refusal::BadRequest(bad.to_string()),
    };
    let body = body::take(version, headers, body, BODY_BYTES_MAX, "send the address of the data, not the data").await?;
    if headers.contains_key("ce-specversion") {
        let attributes = headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix("ce-")?, value.to_str().ok()?)));
        return Ok(vec![arrival::from_headers(source, attributes).map_err(wrong)?]);
    }
    arrival::read(source, &body).map_err(wrong)
}

async fn answer(intake: &EventIntake, arrivals: Vec<Arrival>) -> Response {
    let settled = match settle(&intake.arrivals, arrivals).await {
        Ok(settled) => settled,
        Err(why) => return again(&why),
    };
    if !settled.refused.is_empty() {
        return Refusal::Unprocessable(settled.refused.join("; ")).into_response();
    }
    let runs: Vec<String> = settled.runs.iter().map(|key| format!("{}/{}", key.namespace, key.name)).collect();
    Json(json!({"runs": runs, "duplicates": settled.duplicates, "unwanted": settled.unwanted})).into_response()
}

fn again(why: &str) -> Response {
    let mut response = Refusal::Unavailable(why.to_owned()).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    response
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;

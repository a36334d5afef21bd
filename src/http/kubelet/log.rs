//! Logs. In: a located home pod and what part of which container's log is wanted. Out: the text from the compute cluster, or from the archive.
//!
//! Of an error, kubectl shows only the text of codes 400 and 500. So a log that is not there is a 400, as with a kubelet, and one that is out of reach
//! a 500.

use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;

use super::{
    answer::{Body, Refused, with_type},
    archived::{ArchivedLog, ArchivedLogs, LogOptions},
    path::log_query,
    place::{Located, Run},
};

/// How long the first byte of a log may take. One that is followed may be silent for ever.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A failure's text is read up to here.
const FAILURE_BYTES_MAX: usize = 64 << 10;

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

#[derive(Deserialize)]
struct StatusWire {
    message: String,
}

/// Answers a request for a log.
pub(super) async fn answer(
    located: &Located,
    container: &str,
    uri: &Uri,
    now: jiff::Timestamp,
    archive: Option<&dyn ArchivedLogs>,
) -> Result<Response<Body>, Refused> {
    let options = LogOptions::of(uri, now)?;
    let refused = match remote(located, container, uri, options).await {
        Ok(response) => return Ok(response),
        Err(refused) => refused,
    };
    // While a container may still write, half of its log is worse than none.
    let over = located.finished || refused.code == StatusCode::NOT_FOUND;
    if let Some(archive) = archive.filter(|_| over && !located.node.is_empty())
        && let Some(response) = archived(located, container, options, archive).await?
    {
        return Ok(response);
    }
    Err(match (refused.code, &located.run) {
        (StatusCode::NOT_FOUND, Ok(_)) => {
            Refused::new(StatusCode::BAD_REQUEST, refused.why + ", and the archive holds no log of that container")
        }
        (StatusCode::SERVICE_UNAVAILABLE, _) => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, refused.why),
        _ => refused,
    })
}

async fn remote(located: &Located, container: &str, uri: &Uri, options: LogOptions) -> Result<Response<Body>, Refused> {
    let run = located.run.as_ref().map_err(Clone::clone)?;
    run.check().await?;
    let target = format!("{}/log?{}", run.path, log_query(uri.query().unwrap_or_default(), container));
    let bad = |error: http::Error| Refused::new(StatusCode::BAD_REQUEST, format!("the request cannot be passed on: {error}"));
    let request = Request::get(target).body(kube::client::Body::empty()).map_err(bad)?;
    let limit = (!options.follow).then_some(HEAD_TIMEOUT);
    let response = run.cluster.api.forward(request, limit).await.map_err(|error| run.unreachable(&error.to_string()))?;
    if response.status().is_success() {
        let body = response.into_body().map_err(Into::into).boxed_unsync();
        return Ok(with_type(StatusCode::OK, PLAIN_TEXT, body));
    }
    let code = response.status();
    let body =
        Limited::new(response.into_body(), FAILURE_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Err(Refused::new(code, message(&body, run, located)))
}

/// What the API server over there says, under the name that the caller knows.
fn message(body: &[u8], run: &Run, located: &Located) -> String {
    let message = serde_json::from_slice::<StatusWire>(body).map(|status| status.message);
    message.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned()).replace(&run.name, &located.name)
}

async fn archived(
    located: &Located,
    container: &str,
    options: LogOptions,
    archive: &dyn ArchivedLogs,
) -> Result<Option<Response<Body>>, Refused> {
    let wanted = ArchivedLog {
        namespace: located.namespace.clone(),
        pod: located.name.clone(),
        uid: located.uid.clone(),
        container: container.to_owned(),
        previous: options.previous,
    };
    let text = archive.read(&wanted).await.map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(text.map(|text| {
        let frames = futures::StreamExt::map(options.cut(text), |chunk| chunk.map(Frame::data).map_err(Into::into));
        with_type(StatusCode::OK, PLAIN_TEXT, StreamBody::new(frames).boxed_unsync())
    }))
}

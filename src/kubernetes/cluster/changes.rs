//! A collection of few objects, whole, whenever something of it changed. In: a path. Out: all its objects, as JSON.
//!
//! A watch is only the bell here: each ring is answered by a new list, so that there is no state that could drift. For collections of a handful of objects.

use std::time::Duration;

use serde_json::Value;
use tokio::{sync::watch, time::sleep};

use super::rest::{Rest, RestError};
use crate::kubernetes::{
    backoff::Backoff,
    lines::{Lines, LinesError},
    watch::escaped,
};

/// Without a ring the list is read again after this.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// At least so long between two lists: what changes together is read together, and a server that ends each watch at once costs little.
const PAUSE: Duration = Duration::from_millis(200);
/// How long until the head of a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Lists until nobody listens. `None` until the first list has come.
pub async fn follow(rest: Rest, path: String, lists: watch::Sender<Option<Vec<Value>>>, seed: u64) {
    let mut backoff = Backoff::seeded(seed);
    while !lists.is_closed() {
        match rest.list_versioned(&path, "").await {
            Ok((items, version)) => {
                lists.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&items);
                    if changed {
                        *known = Some(items);
                    }
                    changed
                });
                backoff.reset();
                if let Err(error) = ring(&rest, &path, &version).await {
                    tracing::debug!(path, "watch ended: {error}");
                    sleep(backoff.next_wait()).await;
                }
                sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::warn!(path, "cannot be listed, trying again: {error}");
                sleep(backoff.next_wait()).await;
            }
        }
    }
}

/// Waits until something changes, or long enough.
async fn ring(rest: &Rest, path: &str, version: &str) -> Result<(), RestError> {
    let query = format!("{path}?watch=true&timeoutSeconds={}&resourceVersion={}", LIST_EVERY.as_secs(), escaped(version));
    let body = match rest.api().open(query, OPEN_TIMEOUT).await? {
        Ok(body) => body,
        Err(answer) => return Err(RestError::Refused { status: answer.status, text: answer.failure() }),
    };
    match Lines::new(body).next(LIST_EVERY).await {
        Ok(_) | Err(LinesError::Silent(_)) => Ok(()),
        Err(error) => Err(RestError::Refused { status: http::StatusCode::BAD_GATEWAY, text: error.to_string() }),
    }
}

//! What somebody outside does with an API server in memory. In: requests, which no fault strikes. Out: its answers; what an object comes to in time.

use isobar::sim::SimCluster;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

/// Far beyond what anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks, and must be answered. A patch is a merge patch.
pub async fn ask(cluster: &SimCluster, method: &str, path: &str, body: &Value) -> Value {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = cluster.faultless_client().request(request.body(body).unwrap()).await;
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// What is looked for in an object, once it is there.
pub async fn until<T>(cluster: &SimCluster, path: &str, look: impl Fn(&Value) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let object = ask(cluster, "GET", path, &Value::Null).await;
        if let Some(found) = look(&object) {
            return found;
        }
        assert!(Instant::now() < deadline, "{path} does not get there: {object}");
        sleep(Duration::from_millis(20)).await;
    }
}

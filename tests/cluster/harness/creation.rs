//! Objects made by another client than the scheduler's, as cheaply as possible. In: JSON objects and a pace. Out: when each was sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use kube::{Client, client::Body};
use serde_json::Value;

use super::workload::Workload;

/// As upstream's benchmark has.
const WORKERS: usize = 30;

/// POSTs one object; the answer's body is not decoded.
pub async fn post(client: &Client, path: &str, object: &Value) -> Result<()> {
    let request =
        http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json").body(Body::from(serde_json::to_vec(object)?))?;
    let answer = client.send(request).await.with_context(|| format!("POST {path}"))?;
    let status = answer.status();
    let body = answer.into_body().collect_bytes().await?;
    if !status.is_success() {
        bail!("POST {path}: {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

pub async fn create_nodes(client: &Client, workload: &Workload) -> Result<()> {
    let shared = workload.clone();
    create(client, "/api/v1/nodes", workload.nodes, None, move |index| shared.node(index)).await?;
    Ok(())
}

/// Creates the pods, at `per_second` where given, else as fast as the server takes them. Returns when the POST of each was sent.
pub async fn create_pods(client: &Client, workload: &Workload, per_second: Option<f64>) -> Result<Vec<Instant>> {
    let shared = workload.clone();
    let path = format!("/api/v1/namespaces/{}/pods", workload.namespace);
    create(client, &path, workload.pods, per_second, move |index| shared.pod(index)).await
}

/// Creates pods that no node takes, as fast as the server takes them.
pub async fn create_hopeless(client: &Client, workload: &Workload, count: usize) -> Result<()> {
    let shared = workload.clone();
    let path = format!("/api/v1/namespaces/{}/pods", workload.namespace);
    create(client, &path, count, None, move |index| shared.hopeless(index)).await?;
    Ok(())
}

/// Creates what `object` makes of each number, at `per_second` where given, else as fast as the server takes it. Out: when each was sent.
pub async fn create(
    client: &Client,
    path: &str,
    count: usize,
    per_second: Option<f64>,
    object: impl Fn(usize) -> Value + Send + Sync + 'static,
) -> Result<Vec<Instant>> {
    let next = Arc::new(AtomicUsize::new(0));
    let object = Arc::new(object);
    let begin = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (client, path, next, object) = (client.clone(), path.to_owned(), Arc::clone(&next), Arc::clone(&object));
        workers.spawn(async move {
            let mut sent = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return anyhow::Ok(sent);
                }
                if let Some(rate) = per_second {
                    #[allow(clippy::cast_precision_loss)] // far below 2^52
                    let due = begin + Duration::from_secs_f64(index as f64 / rate);
                    tokio::time::sleep_until(due.into()).await;
                }
                sent.push((index, Instant::now()));
                post(&client, &path, &object(index)).await?;
            }
        });
    }
    let mut sent = vec![begin; count];
    while let Some(worker) = workers.join_next().await {
        for (index, at) in worker?? {
            sent[index] = at;
        }
    }
    Ok(sent)
}

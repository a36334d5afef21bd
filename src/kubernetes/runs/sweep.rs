//! Finds bundles that belong to nothing. In: a list of our bundles over there, slowly. Out: those without a run and without a home pod are deleted.
//!
//! A bundle is made before its run, so one that is new may just be waiting for it: only what two sweeps in a row have seen is looked at. Absence is never
//! taken from a list: run and home pod are asked for, one by one.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use rustc_hash::FxHashSet;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    execute::collection,
    port::{Deletion, Port, Select, Trouble, annotation, label, text},
};
use crate::{
    federation::names,
    kubernetes::{backoff::Backoff, bind::pod_path, cluster::directory::ClusterEntry},
    metrics::RunsMetrics,
    model::ids::PodKey,
};

/// Between two sweeps.
const PERIOD: Duration = Duration::from_secs(600);
/// Stretched by up to this share, so that clusters do not sweep together.
const JITTER: f64 = 0.2;

/// Sweeps for ever.
pub(super) async fn run(entry: Arc<ClusterEntry>, home: Port, remote: Port, metrics: RunsMetrics, seed: u64) {
    let mut backoff = Backoff::seeded(seed);
    let mut suspects = FxHashSet::default();
    loop {
        sleep(backoff.jittered(PERIOD, JITTER)).await;
        match sweep(&entry, &home, &remote, &metrics, &suspects).await {
            Ok(seen) => suspects = seen,
            Err(trouble) => tracing::debug!(cluster = &*entry.name, "no sweep this time: {trouble}"),
        }
    }
}

/// One sweep. Out: the bundles that the next one looks at.
async fn sweep(
    entry: &ClusterEntry,
    home: &Port,
    remote: &Port,
    metrics: &RunsMetrics,
    suspects: &FxHashSet<Box<str>>,
) -> Result<FxHashSet<Box<str>>, Trouble> {
    let secrets =
        remote.list(&collection(&entry.run_namespace, "secrets"), Select::Label(names::RUN_HOME_CLUSTER, &entry.home_uid)).await?;
    let mut seen = FxHashSet::default();
    for secret in &secrets {
        let uid = text(secret, "/metadata/uid");
        if !suspects.contains(uid) {
            seen.insert(uid.into());
            continue;
        }
        if !has_run(entry, remote, secret).await? && !has_home(home, secret).await? {
            let path = format!("{}/{}", collection(&entry.run_namespace, "secrets"), text(secret, "/metadata/name"));
            match remote.delete(path, Deletion { uid: Some(uid), ..Deletion::default() }).await {
                Err(trouble) if !trouble.is(StatusCode::NOT_FOUND) && !trouble.is(StatusCode::CONFLICT) => return Err(trouble),
                _ => metrics.orphan_deleted(),
            }
        } else {
            seen.insert(uid.into());
        }
    }
    Ok(seen)
}

/// Whether any run of the bundle's home pod is there.
async fn has_run(entry: &ClusterEntry, remote: &Port, secret: &Value) -> Result<bool, Trouble> {
    let uid = label(secret, names::RUN_HOME_UID);
    Ok(uid.is_empty() || !remote.list(&collection(&entry.run_namespace, "pods"), Select::Label(names::RUN_HOME_UID, uid)).await?.is_empty())
}

/// Whether the bundle's home pod is there, the very one.
async fn has_home(home: &Port, secret: &Value) -> Result<bool, Trouble> {
    let key = PodKey::new(annotation(secret, names::RUN_HOME_NAMESPACE), annotation(secret, names::RUN_HOME_NAME));
    if key.namespace.is_empty() || key.name.is_empty() {
        return Ok(true);
    }
    let pod = home.get(pod_path(&key)).await?;
    Ok(pod.is_some_and(|pod| text(&pod, "/metadata/uid") == label(secret, names::RUN_HOME_UID)))
}

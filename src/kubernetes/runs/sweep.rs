//! Finds bundles that belong to nothing. In: a list of our bundles over there, slowly. Out: those without a run, past or to come, are deleted.
//!
//! A bundle is made before its run, so one that is new may just be waiting for it: only what two sweeps in a row have seen is looked at. Absence is never
//! taken from a list: run and home pod are asked for, one by one.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashSet;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    execute::{collection, delete_bundle, is_of},
    port::{Port, Select, Trouble, annotation, label, text},
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
        if !suspects.contains(uid) || is_needed(entry, home, remote, secret).await? {
            seen.insert(uid.into());
            continue;
        }
        delete_bundle(remote, &entry.run_namespace, secret).await?;
        metrics.orphan_deleted();
    }
    Ok(seen)
}

/// Whether a run lives on the bundle, or is still to be created with it: its home pod has not ended and names that very run.
async fn is_needed(entry: &ClusterEntry, home: &Port, remote: &Port, secret: &Value) -> Result<bool, Trouble> {
    let uid = label(secret, names::RUN_HOME_UID);
    let key = PodKey::new(annotation(secret, names::RUN_HOME_NAMESPACE), annotation(secret, names::RUN_HOME_NAME));
    if [uid, &*key.namespace, &*key.name].contains(&"") {
        return Ok(true);
    }
    let runs = remote.list(&collection(&entry.run_namespace, "pods"), Select::Label(names::RUN_HOME_UID, uid)).await?;
    if runs.iter().any(|run| is_of(text(run, "/metadata/name"), secret)) {
        return Ok(true);
    }
    let Some(pod) = home.get(pod_path(&key)).await?.filter(|pod| text(pod, "/metadata/uid") == uid) else { return Ok(false) };
    let has_ended = matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed");
    let named = annotation(&pod, names::RUN).split_once('/');
    Ok(!has_ended && named.is_some_and(|(namespace, run)| namespace == &*entry.run_namespace && is_of(run, secret)))
}

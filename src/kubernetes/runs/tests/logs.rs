//! Copies of logs into a store that is a map.

use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, future::BoxFuture};
use rustc_hash::FxHashMap;
use serde_json::json;

use super::*;
use crate::{
    federation::spec::LogCopy,
    kubernetes::runs::{LogBody, LogOf},
    sim::behaviour::{LOG_MS, RUN_MS},
};

/// What was kept of each log, and whether to its end.
#[derive(Default)]
struct Shelf(Mutex<FxHashMap<LogOf, (Vec<u8>, bool)>>);

impl LogStore for Shelf {
    fn keep(&self, log: LogOf, mut body: LogBody) -> BoxFuture<'_, Result<(u64, bool), String>> {
        Box::pin(async move {
            let (mut kept, mut complete) = (Vec::new(), true);
            while let Some(part) = body.next().await {
                match part {
                    Ok(part) => kept.extend_from_slice(&part),
                    Err(_) => complete = false,
                }
            }
            let bytes = kept.len() as u64;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(log, (kept, complete));
            Ok((bytes, complete))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn logs_are_at_home_before_the_run_is_gone() {
    for logs in [LogCopy::AtEnd, LogCopy::Follow] {
        let mut world = World::with(ComputeClusterSpec { logs, ..ComputeClusterSpec::default() }).await;
        let shelf = Arc::new(Shelf::default());
        world.store = Some(shelf.clone());
        world.kubelet();
        let _worker = world.worker();
        let pod = world.pod("job", "Never", json!({RUN_MS: "10000", LOG_MS: "1000"})).await;
        world.tell(pod.place());
        world
            .until("nothing is left over there", async |world| {
                world.home_pod(&pod).await["status"]["phase"] == "Succeeded" && world.run_of(&pod).await.is_null()
            })
            .await;
        let shelf = shelf.0.lock().unwrap();
        let log = LogOf { home: pod.key.clone(), uid: pod.uid.clone(), container: "main".into(), previous: false };
        let (text, complete) = shelf.get(&log).expect("a log was kept");
        let lines = String::from_utf8_lossy(text).lines().count();
        assert!(*complete && lines >= 9, "{logs:?}: {lines} lines");
    }
}

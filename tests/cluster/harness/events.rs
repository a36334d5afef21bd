//! Events as people would find them. In: where to look and what for. Out: that it came, or what there is instead.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;

use super::audit::list_all;

/// Waits for an event; `wanted` is given the name of the object that it is about, too.
pub async fn wait_for_event(events: &Api<Event>, patience: Duration, wanted: impl Fn(&str, &Event) -> bool) -> Result<()> {
    let begin = Instant::now();
    loop {
        let known: Vec<Event> = list_all(events).await?;
        let about = |event: &Event| event.regarding.as_ref().and_then(|object| object.name.clone()).unwrap_or_default();
        if known.iter().any(|event| wanted(&about(event), event)) {
            return Ok(());
        }
        let told: Vec<_> = known.iter().map(|event| (about(event), &event.reason, &event.series)).collect();
        ensure!(begin.elapsed() < patience, "the event did not come within {patience:?}; there are {told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

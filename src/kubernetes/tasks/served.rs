//! Whether the API server knows the kinds `Task` and `TaskRun`. In: its discovery, which needs no rights. Out: an end, when it does.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::kubernetes::{api::Api, cluster::rest::Rest};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const DISCOVERY: &str = "/apis/isobar.dev/v1alpha1";

/// Waits until both kinds are served; says once that it waits.
pub(super) async fn wait(home: &Api) {
    let rest = Rest::new(home.clone());
    let mut told = false;
    loop {
        match rest.get(DISCOVERY).await {
            Ok(Some(found)) if serves(&found, "tasks") && serves(&found, "taskruns") => return tracing::info!("looking after tasks"),
            Ok(_) if !told => {
                tracing::info!("no tasks: the API server does not know Task and TaskRun; they begin when manifests/crds are applied");
            }
            Err(error) if !told => tracing::warn!("whether the API server knows Task and TaskRun is not known yet: {error}"),
            _ => {}
        }
        told = true;
        sleep(LOOK_EVERY).await;
    }
}

fn serves(found: &Value, plural: &str) -> bool {
    found["resources"].as_array().into_iter().flatten().any(|resource| resource["name"] == plural)
}

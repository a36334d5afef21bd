//! Objects from a live cluster: a kubeconfig and the pod's name in; all nodes, all pods on them, and the pod itself out. Nothing is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use http::StatusCode;
use serde_json::Value;

use super::objects::{Objects, PodObject, is_scheduled};
use crate::kubernetes::api::{Answer, Api, Call};
use crate::kubernetes::client::{ConnectionOptions, connect};
use crate::kubernetes::wire::{Watched, read_page, read_value};
use crate::metrics::{ApiMetrics, Metrics};
use crate::model::{
    ids::{ClusterId, PodKey},
    node::NodeFacts,
    pod::PodFacts,
};

/// How long one answer may take: someone is waiting at a terminal.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects a page, as client-go asks for.
const PAGE_OBJECTS: usize = 500;

/// Reads everything that the answer needs.
pub fn objects(kubeconfig: Option<&Path>, pod: &PodKey) -> anyhow::Result<Objects> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let found = kubeconfig.map(Path::to_owned).or_else(usual_kubeconfig);
        let metrics = ApiMetrics::new(&Metrics::new());
        let api = connect(found.as_deref(), &ConnectionOptions::default(), metrics).await?;
        let asked = pod_itself(&api, pod).await?;
        let nodes = all::<NodeFacts>(&api).await?;
        let mut pods: Vec<PodObject> = all::<PodFacts>(&api).await?.into_iter().map(|facts| PodObject { facts, scheduled: true }).collect();
        pods.retain(|other| other.facts.key != asked.facts.key);
        pods.push(asked);
        Ok(Objects { nodes, pods, ..Objects::default() })
    })
}

/// Where kubectl would look. Without any, the service account of the pod we may run in is tried.
fn usual_kubeconfig() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).chain(home).find(|path| path.exists())
}

async fn pod_itself(api: &Api, pod: &PodKey) -> anyhow::Result<PodObject> {
    let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
    let answer = api.call(Call::get(path, TIMEOUT)).await.with_context(|| format!("reading pod {pod}"))?;
    if answer.status == StatusCode::NOT_FOUND {
        bail!("there is no pod {pod} in this cluster");
    }
    let value: Value = serde_json::from_slice(&good(answer)?.body).with_context(|| format!("reading pod {pod}"))?;
    Ok(PodObject { facts: read_value::<PodFacts>(&value, ClusterId::HOME)?, scheduled: is_scheduled(&value) })
}

/// Every object of a kind, page by page. One that cannot be read is named and left out, as the scheduler itself would.
async fn all<K: Watched>(api: &Api) -> anyhow::Result<Vec<K>> {
    let mut objects = Vec::new();
    let mut next = String::new();
    loop {
        let selector = if K::FIELD_SELECTOR.is_empty() { String::new() } else { format!("&fieldSelector={}", K::FIELD_SELECTOR) };
        // The token of a page is made of letters that are safe in a query.
        let onward = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let path = format!("{}?limit={PAGE_OBJECTS}{selector}{onward}", K::PATH);
        let answer = api.page(path, TIMEOUT).await.with_context(|| format!("listing {}", K::RESOURCE))?;
        let page = read_page::<K>(&good(answer)?.body, ClusterId::HOME).with_context(|| format!("listing {}", K::RESOURCE))?;
        for item in page.items {
            match item {
                Ok((facts, _)) => objects.push(facts),
                Err(bad) => eprintln!("note: {bad}"),
            }
        }
        if page.next.is_empty() {
            return Ok(objects);
        }
        next = page.next.into();
    }
}

fn good(answer: Answer) -> anyhow::Result<Answer> {
    if answer.status.is_success() { Ok(answer) } else { bail!("{}", answer.failure()) }
}

//! Where a home pod runs. In: its name. Out: its Node and its run on a compute cluster, each checked against what nobody but us can have written.
//!
//! Whoever owns a pod may edit its annotations. So a run counts only if it is in our run namespace and its own labels say that it stands for this very
//! pod: else an annotation would open the door to somebody else's run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use super::{answer::Refused, path::PodPath};
use crate::{
    federation::names,
    kubernetes::{
        api::{Answer, Api, Call, CallError},
        cluster::directory::{ClusterDirectory, ClusterEntry},
    },
};

/// The home API server's time to show a pod, and a compute cluster's to show a run. Together below 5 s: people wait.
const HOME_TIMEOUT: Duration = Duration::from_millis(2_000);
const RUN_TIMEOUT: Duration = Duration::from_millis(2_500);

#[derive(Deserialize)]
struct PodWire {
    metadata: MetaWire,
    #[serde(default)]
    spec: SpecWire,
    #[serde(default)]
    status: StatusWire,
}

#[derive(Deserialize)]
struct MetaWire {
    uid: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct SpecWire {
    #[serde(default, rename = "nodeName")]
    node_name: String,
}

#[derive(Default, Deserialize)]
struct StatusWire {
    #[serde(default)]
    phase: String,
}

/// A home pod, with its run if it has one.
pub(super) struct Located {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// The Node that it is bound to; empty when it is not.
    pub(super) node: String,
    /// It will not run again.
    pub(super) finished: bool,
    /// Its run, not yet looked at.
    pub(super) run: Result<Run, Refused>,
}

/// A run as the home pod names it.
pub(super) struct Run {
    pub(super) cluster: Arc<ClusterEntry>,
    /// `/api/v1/namespaces/NAMESPACE/pods/RUN`.
    pub(super) path: String,
    pub(super) name: String,
    home_uid: String,
}

/// Looks a home pod up, live.
pub(super) async fn locate(home: &Api, directory: &ClusterDirectory, wanted: &PodPath) -> Result<Located, Refused> {
    let PodPath { namespace, pod: name, .. } = wanted;
    let answer = home.call(Call::get(format!("/api/v1/namespaces/{namespace}/pods/{name}"), HOME_TIMEOUT)).await;
    let pod = match read(answer) {
        Ok(Some(pod)) => pod,
        Ok(None) => return Err(Refused::not_found(format!("pod {namespace}/{name} does not exist"))),
        Err(why) => return Err(Refused::unavailable(format!("cannot look up pod {namespace}/{name} in the home cluster: {why}"))),
    };
    if let Some(uid) = wanted.uid.as_ref().filter(|uid| **uid != pod.metadata.uid) {
        return Err(Refused::not_found(format!("pod {namespace}/{name} with UID {uid} does not exist: it is another one now")));
    }
    let run = run_of(&pod, directory, namespace, name);
    let finished = matches!(&pod.status.phase[..], "Succeeded" | "Failed");
    Ok(Located { namespace: namespace.clone(), name: name.clone(), uid: pod.metadata.uid, node: pod.spec.node_name, finished, run })
}

fn run_of(pod: &PodWire, directory: &ClusterDirectory, namespace: &str, name: &str) -> Result<Run, Refused> {
    let not_ours = || Refused::not_found(format!("pod {namespace}/{name} does not run on a compute cluster"));
    let annotation = |key| pod.metadata.annotations.get(key).map(String::as_str).filter(|value: &&str| !value.is_empty());
    let cluster_name = annotation(names::CLUSTER).ok_or_else(not_ours)?;
    let node = &pod.spec.node_name[..];
    if node.is_empty() {
        return Err(Refused::not_found(format!("pod {namespace}/{name} is not placed yet")));
    }
    let Some(cluster) = directory.named(cluster_name) else {
        let ours = node == names::virtual_node(cluster_name);
        return Err(if ours { Refused::unavailable(format!("compute cluster {cluster_name} is not connected")) } else { not_ours() });
    };
    if node != &*cluster.virtual_node {
        return Err(not_ours());
    }
    if annotation(names::CLUSTER_UID).is_some_and(|uid| uid != &*cluster.uid) {
        return Err(Refused::unavailable(format!(
            "{cluster_name} is another cluster now than the one where pod {namespace}/{name} was placed"
        )));
    }
    let run = annotation(names::RUN).and_then(|run| run.split_once('/'));
    let Some((_, run)) =
        run.filter(|(run_namespace, run)| *run_namespace == &*cluster.run_namespace && !run.contains(['/', '?', '#', '%']))
    else {
        return Err(Refused::not_found(format!("pod {namespace}/{name} has no run on compute cluster {cluster_name}")));
    };
    let path = format!("/api/v1/namespaces/{}/pods/{run}", cluster.run_namespace);
    Ok(Run { path, name: run.to_owned(), home_uid: pod.metadata.uid.clone(), cluster })
}

impl Run {
    /// Looks at it: within seconds it is there and ours, or there is a reason. 404 means that the cluster said so.
    pub(super) async fn check(&self) -> Result<(), Refused> {
        let answer = self.cluster.api.unlimited().call(Call::get(self.path.clone(), RUN_TIMEOUT)).await;
        let run = read(answer).map_err(|why| self.unreachable(&why))?;
        let labels = run.map(|run| run.metadata.labels).ok_or_else(|| self.gone())?;
        let is = |key, value: &str| labels.get(key).is_some_and(|label| label == value);
        if is(names::RUN_HOME_UID, &self.home_uid) && is(names::RUN_HOME_CLUSTER, &self.cluster.home_uid) {
            Ok(())
        } else {
            Err(self.gone())
        }
    }

    /// The cluster does not answer.
    pub(super) fn unreachable(&self, why: &str) -> Refused {
        Refused::unavailable(format!("compute cluster {} cannot be reached: {why}", self.cluster.name))
    }

    fn gone(&self) -> Refused {
        Refused::not_found(format!("the run is gone from compute cluster {}", self.cluster.name))
    }
}

/// The pod of an answer; `None` when there is none.
fn read(answer: Result<Answer, CallError>) -> Result<Option<PodWire>, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !answer.status.is_success() {
        return Err(answer.failure());
    }
    parse(&answer.body).map(Some)
}

fn parse(body: &Bytes) -> Result<PodWire, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer is not a pod: {error}"))
}

//! Objects from a live cluster and from its compute clusters: connections and the pod's name in; all nodes, all pods on them, and the pod itself out. Nothing
//! is written. What of a compute cluster cannot be seen is said, and the rest counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::{runtime::Runtime, sync::mpsc};

use super::objects::{Objects, PodObject, is_scheduled};
use crate::config::resolved::FederationSettings;
use crate::kubernetes::api::Api;
use crate::kubernetes::client::{ConnectionOptions, connect};
use crate::kubernetes::cluster::{Connect, access, glance, rest::Rest};
use crate::kubernetes::images::{self, Resolver, ResolverOptions};
use crate::kubernetes::wire::{
    NamespaceFacts, ReplicaSet, ReplicationController, Selecting, SelectingFacts, Service, StatefulSet, Watched, read_value,
};
use crate::metrics::{ApiMetrics, Metrics};
use crate::model::{
    budget::BudgetFacts,
    gang::{Membership, PodGroupFacts},
    ids::{ClusterId, PodKey},
    image::Platforms,
    node::NodeFacts,
    placement,
    pod::PodFacts,
    storage::{AttachmentFacts, CapacityFacts, ClaimFacts, ClassFacts, CsiDriverFacts, CsiNodeFacts, VolumeFacts},
};
use crate::scheduler::input::{Input, PodRef};

/// A connection to home, for one question.
pub struct Home {
    runtime: Runtime,
    api: Api,
    metrics: Metrics,
}

impl Home {
    /// Connects to the cluster of a kubeconfig.
    pub fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = kubeconfig.map(Path::to_owned).or_else(usual_kubeconfig);
        let metrics = Metrics::new();
        let api = runtime.block_on(connect(found.as_deref(), &ConnectionOptions::default(), ApiMetrics::new(&metrics)))?;
        Ok(Self { runtime, api, metrics })
    }

    /// Reads everything that the answer needs.
    pub fn objects(&self, pod: &PodKey) -> anyhow::Result<Objects> {
        let metrics = self.api.metrics().clone();
        let connect: Connect = Arc::new(move |text, _| access::connect(text, metrics.clone()));
        self.runtime.block_on(objects(&self.api, &connect, pod))
    }

    /// Finds out about images of a pod as the scheduler would.
    pub fn platforms(&self, settings: &FederationSettings, (pod, images): (PodRef, Vec<Box<str>>)) -> Vec<(Box<str>, Platforms)> {
        if !settings.resolve_images {
            return images.into_iter().map(|image| (image, Platforms::Unknown("images are not looked up".into()))).collect();
        }
        self.runtime.block_on(async {
            let options = ResolverOptions { insecure_registries: settings.insecure_registries.clone() };
            let resolver = Resolver::new(&options, Some(self.api.clone()), &self.metrics);
            let (questions, asked) = mpsc::channel(1);
            let (told, mut answers) = mpsc::channel(images.len().max(1));
            // Both ends are there, and there is room.
            let _ = questions.send((pod, images)).await;
            drop(questions);
            images::run(resolver, asked, told).await;
            let mut found = Vec::new();
            while let Some(answer) = answers.recv().await {
                if let Input::ImagePlatforms(image, platforms) = answer {
                    found.push((image, platforms));
                }
            }
            found
        })
    }
}

/// Where kubectl would look. Without any, the service account of the pod we may run in is tried.
fn usual_kubeconfig() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).chain(home).find(|path| path.exists())
}

/// The pod, and everything that decides where it goes.
pub(super) async fn objects(home: &Api, connect: &Connect, pod: &PodKey) -> anyhow::Result<Objects> {
    let home = Rest::new(home.clone());
    let asked = pod_itself(&home, pod).await?;
    let (nodes, bad_nodes) = home.facts::<NodeFacts>(NodeFacts::PATH, ClusterId::HOME).await.context("listing nodes")?;
    let (pods, bad_pods) = home.facts::<PodFacts>(PodFacts::PATH, ClusterId::HOME).await.context("listing pods")?;
    // What cannot be read is left out, as the scheduler itself would.
    let mut objects = Objects { remarks: bad_nodes.iter().chain(&bad_pods).map(ToString::to_string).collect(), ..Objects::default() };
    add_selecting(&home, &asked.facts.key.namespace, &mut objects).await;
    add_storage(&home, &asked.facts, &mut objects).await;
    if matches!(asked.facts.group.as_deref(), Some(Membership::PodGroup(_))) {
        add::<PodGroupFacts>(&home, PodGroupFacts::PATH, &mut objects).await;
    }
    add_clusters(&home, connect, &nodes, &mut objects).await;
    objects.nodes = nodes;
    objects.pods = pods.into_iter().map(|facts| PodObject { facts, scheduled: true }).collect();
    objects.pods.retain(|other| other.facts.key != asked.facts.key);
    objects.pods.push(asked);
    Ok(objects)
}

async fn pod_itself(home: &Rest, pod: &PodKey) -> anyhow::Result<PodObject> {
    let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
    let Some(value) = home.get(&path).await.with_context(|| format!("reading pod {pod}"))? else {
        bail!("there is no pod {pod} in this cluster");
    };
    Ok(PodObject { facts: read_value::<PodFacts>(&value, ClusterId::HOME)?, scheduled: is_scheduled(&value) })
}

/// Labels of namespaces, and what of the pod's own one chooses pods.
async fn add_selecting(home: &Rest, namespace: &str, objects: &mut Objects) {
    add::<NamespaceFacts>(home, NamespaceFacts::PATH, objects).await;
    add::<BudgetFacts>(home, BudgetFacts::PATH, objects).await;
    add_of::<Service>(home, namespace, objects).await;
    add_of::<ReplicationController>(home, namespace, objects).await;
    add_of::<ReplicaSet>(home, namespace, objects).await;
    add_of::<StatefulSet>(home, namespace, objects).await;
}

async fn add_of<K: Selecting>(home: &Rest, namespace: &str, objects: &mut Objects) {
    let group = K::PATH.trim_end_matches(K::RESOURCE);
    add::<SelectingFacts<K>>(home, &format!("{group}namespaces/{namespace}/{}", K::RESOURCE), objects).await;
}

async fn add<K: Watched<Input = Input>>(home: &Rest, path: &str, objects: &mut Objects) {
    match home.facts::<K>(path, ClusterId::HOME).await {
        Ok((found, bad)) => {
            objects.others.extend(found.into_iter().map(Watched::seen));
            objects.remarks.extend(bad.iter().map(ToString::to_string));
        }
        Err(error) => objects.remarks.push(format!("{} are not known, which rules may read: {error}", K::RESOURCE)),
    }
}

/// Compute clusters, and labels of home that choose among them.
async fn add_clusters(home: &Rest, connect: &Connect, nodes: &[NodeFacts], objects: &mut Objects) {
    let cordoned =
        |name: &str| nodes.iter().any(|node| node.is_virtual && node.unschedulable && placement::is_virtual_node(&node.name, name));
    let glances = match glance::all(home, connect, cordoned).await {
        Ok(glances) => glances,
        Err(error) => return objects.remarks.push(format!("compute clusters are left out, as they cannot be listed: {error}")),
    };
    if glances.is_empty() {
        return;
    }
    for glance in glances {
        objects.abroad.extend(glance.inputs);
        objects.remarks.extend(glance.remarks);
    }
}

/// Claims of the pod's namespace and of pods beside it, volumes, and what drivers tell: only if the pod has volumes.
async fn add_storage(home: &Rest, asked: &PodFacts, objects: &mut Objects) {
    if asked.spec.volumes.is_none() {
        return;
    }
    add::<ClaimFacts>(home, ClaimFacts::PATH, objects).await;
    add::<VolumeFacts>(home, VolumeFacts::PATH, objects).await;
    add::<ClassFacts>(home, ClassFacts::PATH, objects).await;
    add::<CsiNodeFacts>(home, CsiNodeFacts::PATH, objects).await;
    add::<CsiDriverFacts>(home, CsiDriverFacts::PATH, objects).await;
    add::<CapacityFacts>(home, CapacityFacts::PATH, objects).await;
    add::<AttachmentFacts>(home, AttachmentFacts::PATH, objects).await;
}

//! Does what the scenario says. In: deeds. Out: calls of the API, as any client makes them.

use std::collections::BTreeMap;

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use super::scenario::{Deed, name, without_gates};
use crate::sim::federation::SimFederation;
use crate::sim::link::{Link, LinkState};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// The users and admins of the demo, who can reach every cluster.
pub struct Author {
    client: Client,
    clusters: BTreeMap<String, (Client, Link)>,
}

impl Author {
    /// Calls past all faults.
    pub fn new(federation: &SimFederation) -> Self {
        let clusters = federation.clusters().iter();
        let clusters = clusters.map(|(name, cluster)| (name.clone(), (cluster.faultless_client(), cluster.link().clone()))).collect();
        Self { client: federation.home().faultless_client(), clusters }
    }

    fn of(&self, cluster: &str) -> &Client {
        self.clusters.get(cluster).map_or(&self.client, |(client, _)| client)
    }

    /// Creates a priority class.
    pub async fn priority_class(&self, class: &Value) -> Result<(), kube::Error> {
        self.send(&self.client, Method::POST, PRIORITY_CLASSES, Some(class)).await
    }

    /// Creates a claim.
    pub async fn claim(&self, claim: &Value) -> Result<(), kube::Error> {
        self.send(&self.client, Method::POST, CLAIMS, Some(claim)).await
    }

    /// Deletes every pod that is still there: people go home, and the day's work is cleared away.
    pub async fn clear(&self) -> Result<(), kube::Error> {
        self.send(&self.client, Method::DELETE, PODS, None).await
    }

    /// Does one deed. What is gone already need not be deleted or opened.
    pub async fn perform(&self, deed: &Deed) -> Result<(), kube::Error> {
        let done = match deed {
            Deed::AddNode(cluster, node) => self.send(self.of(cluster), Method::POST, NODES, Some(node)).await,
            Deed::CreatePod(pod) => self.send(&self.client, Method::POST, PODS, Some(pod)).await,
            Deed::Cordon(cluster, node, cordoned) => {
                let change = json!({"spec": {"unschedulable": cordoned}});
                self.send(self.of(cluster), Method::PATCH, &format!("{NODES}/{node}"), Some(&change)).await
            }
            Deed::Cut(cluster, cut) => {
                if let Some((_, link)) = self.clusters.get(*cluster) {
                    link.set(if *cut { LinkState::Silent } else { LinkState::Up });
                }
                Ok(())
            }
            Deed::Ungate(pod) => self.send(&self.client, Method::PATCH, &format!("{PODS}/{pod}"), Some(&without_gates())).await,
            Deed::DeletePod(pod) => self.send(&self.client, Method::DELETE, &format!("{PODS}/{pod}"), None).await,
        };
        match done {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => done,
        }
    }

    /// How many events of each reason there are.
    pub async fn events(&self) -> Result<Vec<(String, usize)>, kube::Error> {
        let request = Request::get("/apis/events.k8s.io/v1/events").body(Vec::new()).map_err(kube::Error::HttpError)?;
        let list: Value = self.client.request(request).await?;
        let mut counts = BTreeMap::<String, usize>::new();
        for event in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            *counts.entry(event["reason"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn send(&self, client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<(), kube::Error> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let request =
            Request::builder().method(method).uri(path).header("content-type", kind).body(body).map_err(kube::Error::HttpError)?;
        client.request_text(request).await.map(|_| ())
    }
}

/// What a deed is called in messages.
pub fn described(deed: &Deed) -> String {
    match deed {
        Deed::AddNode(cluster, node) => format!("adding node {} to {cluster}", name(node)),
        Deed::Cordon(cluster, node, true) => format!("cordoning node {node} of {cluster}"),
        Deed::Cordon(cluster, node, false) => format!("uncordoning node {node} of {cluster}"),
        Deed::Cut(cluster, true) => format!("cutting the line to {cluster}"),
        Deed::Cut(cluster, false) => format!("healing the line to {cluster}"),
        Deed::CreatePod(pod) => format!("creating pod {}", name(pod)),
        Deed::Ungate(pod) => format!("ungating pod {pod}"),
        Deed::DeletePod(pod) => format!("deleting pod {pod}"),
    }
}

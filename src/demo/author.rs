//! Does what the scenario says. In: deeds. Out: calls of the API, as any client makes them; and what arrives for tasks, read and handed on as the endpoint for
//! events does it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::run::DemoError;
use super::scenario::{Deed, name, without_gates};
use crate::kubernetes::tasks::{Arriving, settle};
use crate::sim::federation::SimFederation;
use crate::sim::link::{Link, LinkState};
use crate::tasks::{names, trigger::arrival};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const TASKS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/tasks";
const RUNS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/taskruns";
/// How long senders of events wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The users and admins of the demo, who can reach every cluster.
pub struct Author {
    client: Client,
    clusters: BTreeMap<String, (Client, Link)>,
    arrivals: mpsc::Sender<Arriving>,
}

impl Author {
    /// Calls past all faults; what arrives goes to `arrivals`.
    pub fn new(federation: &SimFederation, arrivals: mpsc::Sender<Arriving>) -> Self {
        let clusters = federation.clusters().iter();
        let clusters = clusters.map(|(name, cluster)| (name.clone(), (cluster.faultless_client(), cluster.link().clone()))).collect();
        Self { client: federation.home().faultless_client(), clusters, arrivals }
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
    pub async fn perform(&self, deed: &Deed) -> Result<(), DemoError> {
        if let Deed::Arrive(source, event) = deed {
            return self.arrive(source, event).await.map_err(|why| DemoError::Arrival { doing: described(deed), why });
        }
        match self.call(deed).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => done.map_err(DemoError::api(described(deed))),
        }
    }

    async fn call(&self, deed: &Deed) -> Result<(), kube::Error> {
        let change = async |path: String, change: Value| self.send(&self.client, Method::PATCH, &path, Some(&change)).await;
        match deed {
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
            Deed::Ungate(pod) => change(format!("{PODS}/{pod}"), without_gates()).await,
            Deed::DeletePod(pod) => self.send(&self.client, Method::DELETE, &format!("{PODS}/{pod}"), None).await,
            Deed::ApplyTask(task) => self.send(&self.client, Method::POST, TASKS, Some(task)).await,
            Deed::StartRun(run) => self.send(&self.client, Method::POST, RUNS, Some(run)).await,
            Deed::Suspend(task) => change(format!("{TASKS}/{task}"), json!({"spec": {"suspend": true}})).await,
            Deed::CancelRuns(task) => {
                for run in self.list(&format!("{RUNS}?labelSelector={}%3D{task}", names::TASK)).await? {
                    change(format!("{RUNS}/{}", name(&run)), json!({"spec": {"cancel": true}})).await?;
                }
                Ok(())
            }
            // It is no call of the API.
            Deed::Arrive(..) => Ok(()),
        }
    }

    async fn arrive(&self, source: &str, event: &Value) -> Result<(), String> {
        let arrivals = arrival::read(source, event.to_string().as_bytes()).map_err(|bad| bad.to_string())?;
        let settled = timeout(ANSWER_TIMEOUT, settle(&self.arrivals, arrivals)).await;
        let settled = settled.map_err(|_| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))??;
        if settled.refused.is_empty() { Ok(()) } else { Err(settled.refused.join("; ")) }
    }

    /// How many events of each reason there are.
    pub async fn events(&self) -> Result<Vec<(String, usize)>, kube::Error> {
        let mut counts = BTreeMap::<String, usize>::new();
        for event in self.list("/apis/events.k8s.io/v1/events").await? {
            *counts.entry(event["reason"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, kube::Error> {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let mut list: Value = self.client.request(request).await?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
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
        Deed::ApplyTask(task) => format!("registering task {}", name(task)),
        Deed::StartRun(run) => format!("starting a run of task {}", run["spec"]["taskRef"]["name"].as_str().unwrap_or_default()),
        Deed::CancelRuns(task) => format!("ending runs of task {task}"),
        Deed::Suspend(task) => format!("suspending task {task}"),
        Deed::Arrive(source, event) => format!("telling {source} of {}", event["subject"].as_str().unwrap_or_default()),
    }
}

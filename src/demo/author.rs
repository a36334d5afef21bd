//! Does what the scenario says. In: deeds. Out: calls of the API, as any client makes them.

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use super::scenario::{Deed, name, without_gates};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// The users and admins of the demo.
#[derive(Clone)]
pub struct Author {
    client: Client,
}

impl Author {
    /// Calls through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a priority class.
    pub async fn priority_class(&self, class: &Value) -> Result<(), kube::Error> {
        self.send(Method::POST, PRIORITY_CLASSES, Some(class)).await
    }

    /// Does one deed. What is gone already need not be deleted or opened.
    pub async fn perform(&self, deed: &Deed) -> Result<(), kube::Error> {
        let done = match deed {
            Deed::AddNode(node) => self.send(Method::POST, NODES, Some(node)).await,
            Deed::CreatePod(pod) => self.send(Method::POST, PODS, Some(pod)).await,
            Deed::Cordon(node, cordoned) => {
                self.send(Method::PATCH, &format!("{NODES}/{node}"), Some(&json!({"spec": {"unschedulable": cordoned}}))).await
            }
            Deed::Ungate(pod) => self.send(Method::PATCH, &format!("{PODS}/{pod}"), Some(&without_gates())).await,
            Deed::DeletePod(pod) => self.send(Method::DELETE, &format!("{PODS}/{pod}"), None).await,
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
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for event in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            *counts.entry(event["reason"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(), kube::Error> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let request =
            Request::builder().method(method).uri(path).header("content-type", kind).body(body).map_err(kube::Error::HttpError)?;
        self.client.request_text(request).await.map(|_| ())
    }
}

/// What a deed is called in messages.
pub fn described(deed: &Deed) -> String {
    match deed {
        Deed::AddNode(node) => format!("adding node {}", name(node)),
        Deed::Cordon(node, true) => format!("cordoning node {node}"),
        Deed::Cordon(node, false) => format!("uncordoning node {node}"),
        Deed::CreatePod(pod) => format!("creating pod {}", name(pod)),
        Deed::Ungate(pod) => format!("ungating pod {pod}"),
        Deed::DeletePod(pod) => format!("deleting pod {pod}"),
    }
}

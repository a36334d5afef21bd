//! The API server as `isobar task` uses it. In: names. Out: objects, or in words that help why there are none.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use http::{Method, StatusCode};
use kube::config::Kubeconfig;
use serde_json::Value;

use crate::{
    cli::cluster::usual_kubeconfig,
    kubernetes::{
        api::{Call, MERGE},
        client::{ConnectionOptions, connect},
        cluster::rest::{Rest, RestError},
        watch::escaped,
    },
    metrics::{ApiMetrics, Metrics},
};

const GROUP: &str = "/apis/isobar.dev/v1alpha1";
/// Who owns the fields of tasks that are applied.
const FIELD_MANAGER: &str = "isobar-task";
const APPLY: &str = "application/apply-patch+yaml";
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// An API server, and the namespace that is meant.
pub(super) struct Server {
    pub rest: Rest,
    pub namespace: String,
}

impl Server {
    pub(super) async fn connect(kubeconfig: Option<PathBuf>, namespace: Option<String>) -> anyhow::Result<Self> {
        let file = kubeconfig.or_else(usual_kubeconfig);
        let api = connect(file.as_deref(), &ConnectionOptions::default(), ApiMetrics::new(&Metrics::new())).await;
        let namespace = namespace.or_else(|| context_namespace(file.as_deref()?)).unwrap_or_else(|| "default".to_owned());
        Ok(Self { rest: Rest::new(api.context("the cluster cannot be reached")?), namespace })
    }

    pub(super) fn path(&self, plural: &str) -> String {
        format!("{GROUP}/namespaces/{}/{plural}", self.namespace)
    }

    fn of(&self, plural: &str, name: &str) -> String {
        format!("{}/{name}", self.path(plural))
    }

    pub(super) async fn tasks(&self) -> anyhow::Result<Vec<Value>> {
        self.rest.list(&self.path("tasks"), "").await.map_err(explained)
    }

    /// Runs by age, the newest last.
    pub(super) async fn runs(&self, task: Option<&str>) -> anyhow::Result<Vec<Value>> {
        let mut runs = self.rest.list(&self.path("taskruns"), "").await.map_err(explained)?;
        runs.retain(|run| task.is_none_or(|task| run["spec"]["taskRef"]["name"] == task));
        let age = |run: &Value| run["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        runs.sort_by_key(age);
        Ok(runs)
    }

    pub(super) async fn find_run(&self, name: &str) -> anyhow::Result<Option<Value>> {
        self.rest.get(&self.of("taskruns", name)).await.map_err(explained)
    }

    pub(super) async fn task(&self, name: &str) -> anyhow::Result<Value> {
        if let Some(found) = self.rest.get(&self.of("tasks", name)).await.map_err(explained)? {
            return Ok(found);
        }
        self.nothing("task", name, &self.tasks().await?)
    }

    pub(super) async fn run(&self, name: &str) -> anyhow::Result<Value> {
        if let Some(found) = self.find_run(name).await? {
            return Ok(found);
        }
        self.nothing("run", name, &self.runs(None).await?)
    }

    fn nothing(&self, kind: &str, name: &str, others: &[Value]) -> anyhow::Result<Value> {
        let names: Vec<&str> = others.iter().rev().take(10).filter_map(|other| other["metadata"]["name"].as_str()).collect();
        let others = if names.is_empty() { "there is none".to_owned() } else { format!("there are: {}", names.join(", ")) };
        bail!("there is no {kind} {name:?} in namespace {}; {others}", self.namespace)
    }

    pub(super) async fn change_task(&self, name: &str, patch: &Value, done: &str) -> anyhow::Result<()> {
        self.task(name).await?;
        self.change("tasks", name, patch, done).await
    }

    pub(super) async fn change_run(&self, name: &str, patch: &Value, done: &str) -> anyhow::Result<()> {
        self.run(name).await?;
        self.change("taskruns", name, patch, done).await
    }

    async fn change(&self, plural: &str, name: &str, patch: &Value, done: &str) -> anyhow::Result<()> {
        let body = patch.to_string().into();
        self.ask(Call { method: Method::PATCH, path: self.of(plural, name), content_type: MERGE, body, timeout: TIMEOUT }).await?;
        println!("{name}: {done}");
        Ok(())
    }

    /// Creates a run; `None` when one of its name exists.
    pub(super) async fn create_run(&self, run: &Value) -> anyhow::Result<Option<Value>> {
        self.rest.create(&self.path("taskruns"), run).await.map_err(explained)
    }

    /// Creates a task or changes it to be so.
    pub(super) async fn apply_task(&self, name: &str, namespace: &str, task: &Value) -> anyhow::Result<Value> {
        let path = format!("{GROUP}/namespaces/{namespace}/tasks/{name}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict");
        self.ask(Call { method: Method::PATCH, path, content_type: APPLY, body: task.to_string().into(), timeout: TIMEOUT }).await
    }

    async fn ask(&self, call: Call) -> anyhow::Result<Value> {
        let answer = self.rest.api().call(call).await?;
        if !answer.status.is_success() {
            return Err(explained(RestError::Refused { status: answer.status, text: answer.failure() }));
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Events about tasks or runs of this name, the newest last.
    pub(super) async fn events(&self, name: &str) -> anyhow::Result<Vec<Value>> {
        let query = format!("fieldSelector={}", escaped(&format!("regarding.name={name}")));
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace);
        let mut events = self.rest.list(&path, &query).await?;
        events.sort_by_key(|event| event["eventTime"].as_str().unwrap_or_default().to_owned());
        Ok(events)
    }
}

fn context_namespace(file: &Path) -> Option<String> {
    let config = Kubeconfig::read_from(file).ok()?;
    let current = config.current_context?;
    config.contexts.into_iter().find(|context| context.name == current)?.context?.namespace
}

fn explained(error: RestError) -> anyhow::Error {
    if error.is(StatusCode::NOT_FOUND) {
        return anyhow::anyhow!("the cluster does not know Task and TaskRun: apply manifests/crds first ({error})");
    }
    error.into()
}

//! Executes [`BindOrder`]s and the work before them: orders in; exactly one [`Input::Bound`], [`Input::BindFailed`] or [`Input::PreBound`] out for each.
//!
//! A binding is one compare-and-swap on the API server: it takes at most one per incarnation of a pod. So nothing is ever bound twice; the care
//! taken here is for knowing the outcome. A POST is never repeated blindly: after a conflict or an answer that leaves the outcome open (time-out,
//! 5xx, broken connection) the pod is read back and says what happened.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    api::{Answer, Api, Call, CallError, JSON, MERGE},
    leadership::Permission,
    patch::ConditionDesk,
    wire::NamedWire,
};
use crate::{
    metrics::CallType,
    model::ids::{ClusterId, PodKey, PodUid},
    scheduler::{
        framework::PreBindWork,
        input::{BindFailure, BindOrder, Input, PodRef, PreBindDone},
    },
};

/// Requests at once. HTTP/1.1 needs a connection for each; more than this only queues inside the API server (measured on loopback: 16 to 64 in
/// flight give the highest rate).
pub const IN_FLIGHT_MAX: usize = 64;
/// How long a binding may take, a wait that the server asks for included. The API server is told, so that it does not bind after we gave up.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one reading back may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long we try to learn an unclear outcome. The node's room stays taken meanwhile, so that nobody is placed upon a pod that may be there.
const READ_BACK_MAX: Duration = Duration::from_secs(30);
/// First wait between two readings; doubles.
const READ_BACK_WAIT: Duration = Duration::from_millis(200);
/// A 429 without `Retry-After` means this.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// How often a patch before the binding is sent. It is a merge patch for one version of its object, so sending it again changes nothing more.
const PATCH_TRIES_MAX: u32 = 3;
/// An order that may not be sent is handed back only after this, so that engine and binder do not run in a circle until the loss of the lease is known.
const NOT_SENT_PAUSE: Duration = Duration::from_millis(100);

/// Something to be done for a pod that has its node.
#[derive(Debug)]
pub enum BindWork {
    /// Write the binding.
    Bind(Box<BindOrder>),
    /// Do a plugin's work before it.
    PreBind(PodRef, PreBindWork),
}

/// One binding.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The pod.
    pub pod: &'a PodKey,
    /// Only this incarnation of it.
    pub uid: &'a PodUid,
    /// Name of the Node object.
    pub node: &'a str,
    /// Annotations that the pod gets in the same write.
    pub annotations: &'a Annotations,
}

/// Annotations that are written together.
pub type Annotations = BTreeMap<&'static str, String>;

/// Carries out bindings. Cheap to clone.
#[derive(Clone)]
pub struct Binder {
    api: Api,
    /// For what changes something: looks at the permission once more right before the bytes leave.
    writer: Api,
    permission: Permission,
    conditions: ConditionDesk,
    timeout: Duration,
    outstanding: Arc<AtomicUsize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BindingBody<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: BindingMeta<'a>,
    target: BindingTarget<'a>,
}

#[derive(Serialize)]
struct BindingMeta<'a> {
    name: &'a str,
    namespace: &'a str,
    /// Only this incarnation of the pod.
    uid: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a Annotations,
}

#[derive(Serialize)]
struct BindingTarget<'a> {
    kind: &'static str,
    name: &'a str,
}

impl Binder {
    /// Writes through `api` as long as `permission` is granted; conditions that wait on the desk are withdrawn before the binding of their pod.
    pub fn new(api: Api, permission: Permission, conditions: ConditionDesk) -> Self {
        let writer = api.while_permitted(permission.clone());
        Self { api, writer, permission, conditions, timeout: BIND_TIMEOUT, outstanding: Arc::default() }
    }

    /// Another time-out for one binding.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Counts down by one for each outcome told, so that a shutdown sees when all are.
    #[must_use]
    pub fn counting(self, outstanding: Arc<AtomicUsize>) -> Self {
        Self { outstanding, ..self }
    }

    /// Works until no orders can come any more and the last outcome is told. The engine bounds how many orders wait.
    pub async fn run(self, mut orders: mpsc::UnboundedReceiver<BindWork>, inputs: mpsc::Sender<Input>) {
        let binder = Arc::new(self);
        let mut under_way = JoinSet::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            binder.api.metrics().binds_in_flight(under_way.len());
            tokio::select! {
                biased;
                Some(done) = under_way.join_next(), if !under_way.is_empty() => {
                    if let Err(error) = done {
                        tracing::error!(%error, "a binding ended without an outcome; this is a bug");
                    }
                }
                order = orders.recv(), if open && under_way.len() < IN_FLIGHT_MAX => match order {
                    None => open = false,
                    Some(work) => {
                        let (binder, inputs) = (binder.clone(), inputs.clone());
                        under_way.spawn(async move {
                            let outcome = binder.carry_out(work).await;
                            // Nobody listens only when the process ends.
                            let _ = inputs.send(outcome).await;
                            binder.outstanding.fetch_sub(1, Ordering::AcqRel);
                        });
                    }
                },
            }
        }
    }

    /// Carries out one order; the outcome is what the engine is told.
    pub async fn carry_out(&self, work: BindWork) -> Input {
        match work {
            BindWork::Bind(order) => {
                let outcome = self.bind_at_home(&order).await;
                told(order.pod.uid, outcome, Input::Bound)
            }
            BindWork::PreBind(pod, work) => {
                let (versions, outcome) = self.prepare(&work).await;
                Input::PreBound(pod.uid, PreBindDone { plugin: work.plugin, versions, failure: outcome.err() })
            }
        }
    }

    async fn bind_at_home(&self, order: &BindOrder) -> Result<(), BindFailure> {
        if order.node.cluster != ClusterId::HOME {
            return Err(BindFailure::Failed(format!("cluster {} is not connected", order.node.cluster.0)));
        }
        let PodRef { key, uid, .. } = &order.pod;
        self.bind(&Binding { pod: key, uid, node: &order.node.name, annotations: &Annotations::new() }).await
    }

    /// Writes one binding, and reads back what became of it when the answer leaves that open. No condition of the pod is written afterwards.
    pub async fn bind(&self, binding: &Binding<'_>) -> Result<(), BindFailure> {
        let started = Instant::now();
        self.api.metrics().call_began(CallType::PodBinding);
        self.conditions.withdraw(binding.uid).await;
        let outcome = self.write(binding).await;
        self.api.metrics().call_ended(CallType::PodBinding, outcome.is_ok(), started.elapsed());
        outcome
    }

    async fn write(&self, binding: &Binding<'_>) -> Result<(), BindFailure> {
        let deadline = Instant::now() + self.timeout;
        let body = binding_body(binding)?;
        let mut answer = self.post(binding, body.clone(), deadline).await?;
        if let Ok(Answer { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. }) = &answer {
            // Turned away before anything was done, so this is no repetition.
            let until = Instant::now() + retry_after.unwrap_or(RETRY_AFTER_DEFAULT);
            if until < deadline {
                sleep_until(until).await;
                answer = self.post(binding, body, deadline).await?;
            }
        }
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) if is_clear_refusal(answer.status) => Err(BindFailure::Failed(answer.failure())),
            Ok(answer) => self.read_back(binding, answer.failure()).await,
            Err(CallError::NotPermitted) => Err(BindFailure::NotSent),
            Err(CallError::Request(error)) => Err(BindFailure::Failed(error.to_string())),
            Err(error) => self.read_back(binding, error.to_string()).await,
        }
    }

    /// Sends the binding, if we may.
    async fn post(&self, binding: &Binding<'_>, body: Vec<u8>, deadline: Instant) -> Result<Result<Answer, CallError>, BindFailure> {
        let timeout = deadline.duration_since(Instant::now());
        let path = format!("{}/binding?timeout={}ms", pod_path(binding.pod), timeout.as_millis());
        self.still_permitted().await?;
        Ok(self.writer.tell(Call { method: Method::POST, path, content_type: JSON, body, timeout }).await)
    }

    async fn still_permitted(&self) -> Result<(), BindFailure> {
        if self.permission.granted() {
            return Ok(());
        }
        sleep(NOT_SENT_PAUSE).await;
        Err(BindFailure::NotSent)
    }

    /// What became of a binding, by what the pod says.
    async fn read_back(&self, binding: &Binding<'_>, why: String) -> Result<(), BindFailure> {
        tracing::info!(pod = %binding.pod, "reading back whether it is bound: {why}");
        let give_up = Instant::now() + READ_BACK_MAX;
        let mut wait = READ_BACK_WAIT;
        loop {
            let answer = self.api.call(Call::get(pod_path(binding.pod), READ_TIMEOUT)).await;
            let unread = match answer {
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => return Err(BindFailure::PodGone),
                Ok(answer) if answer.status.is_success() => return outcome_by(&answer.body, binding, why),
                Ok(answer) if !answer.is_transient() => answer.failure(),
                Ok(answer) if Instant::now() + wait >= give_up => answer.failure(),
                Err(error) if Instant::now() + wait >= give_up => error.to_string(),
                Ok(answer) => {
                    wait = wait.max(answer.retry_after.unwrap_or_default()).min(READ_BACK_MAX);
                    String::new()
                }
                Err(_) => String::new(),
            };
            if !unread.is_empty() {
                return Err(BindFailure::Unclear(format!("{why}; and the pod cannot be read back: {unread}")));
            }
            sleep(wait).await;
            wait *= 2;
        }
    }

    /// Patches of a `PreBind` plugin, in order, until one is not taken.
    async fn prepare(&self, work: &PreBindWork) -> (Vec<Box<str>>, Result<(), BindFailure>) {
        let mut versions = Vec::with_capacity(work.patches.len());
        for (path, patch) in &work.patches {
            match self.patch(path, patch).await {
                Ok(version) => versions.push(version),
                Err(failure) => return (versions, Err(failure)),
            }
        }
        (versions, Ok(()))
    }

    /// The version of the object that the patch made.
    async fn patch(&self, path: &str, patch: &str) -> Result<Box<str>, BindFailure> {
        let mut wait = READ_BACK_WAIT;
        for attempt in 1.. {
            self.still_permitted().await?;
            let call =
                Call { method: Method::PATCH, path: path.to_owned(), content_type: MERGE, body: patch.into(), timeout: BIND_TIMEOUT };
            let why = match self.writer.call(call).await {
                Ok(answer) if answer.status.is_success() => return Ok(version_of(&answer.body)),
                Ok(answer) if !answer.is_transient() => return Err(BindFailure::Failed(answer.failure())),
                Ok(answer) => {
                    wait = wait.max(answer.retry_after.unwrap_or_default());
                    answer.failure()
                }
                Err(CallError::NotPermitted) => return Err(BindFailure::NotSent),
                Err(error) => error.to_string(),
            };
            if attempt >= PATCH_TRIES_MAX {
                return Err(BindFailure::Failed(why));
            }
            sleep(wait.min(BIND_TIMEOUT)).await;
            wait *= 2;
        }
        Err(BindFailure::Failed("no patch was tried".to_owned()))
    }
}

/// `metadata.resourceVersion`; empty if the answer does not say.
fn version_of(body: &[u8]) -> Box<str> {
    let object: NamedWire<'_> = serde_json::from_slice(body).unwrap_or_default();
    object.metadata.resource_version.boxed()
}

fn told(uid: PodUid, outcome: Result<(), BindFailure>, done: fn(PodUid) -> Input) -> Input {
    match outcome {
        Ok(()) => done(uid),
        Err(failure) => {
            tracing::debug!(pod = %uid, ?failure, "not bound");
            Input::BindFailed(uid, failure)
        }
    }
}

fn binding_body(binding: &Binding<'_>) -> Result<Vec<u8>, BindFailure> {
    let Binding { pod, uid, node, annotations } = *binding;
    let body = BindingBody {
        api_version: "v1",
        kind: "Binding",
        metadata: BindingMeta { name: &pod.name, namespace: &pod.namespace, uid: &uid.0, annotations },
        target: BindingTarget { kind: "Node", name: node },
    };
    serde_json::to_vec(&body).map_err(|error| BindFailure::Failed(error.to_string()))
}

/// Path of a pod object.
pub(super) fn pod_path(key: &PodKey) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name)
}

/// The server said no and did nothing. A conflict may be our own earlier success, a missing pod may be missing since; 5xx may have come after the deed.
fn is_clear_refusal(status: StatusCode) -> bool {
    let reread = matches!(status, StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::REQUEST_TIMEOUT);
    status.is_client_error() && !reread
}

/// What a binding leaves in a pod.
#[derive(Default, Deserialize)]
#[serde(default)]
struct BoundPod {
    metadata: BoundMeta,
    spec: BoundSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BoundMeta {
    uid: Box<str>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BoundSpec {
    node_name: Box<str>,
}

fn outcome_by(body: &[u8], binding: &Binding<'_>, why: String) -> Result<(), BindFailure> {
    let pod: BoundPod =
        serde_json::from_slice(body).map_err(|bad| BindFailure::Unclear(format!("{why}; and the pod cannot be understood: {bad}")))?;
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let same_record = || binding.annotations.iter().all(|(key, value)| annotations.get(*key) == Some(value));
    if *pod.metadata.uid != *binding.uid.0 {
        Err(BindFailure::PodGone)
    } else if pod.spec.node_name.is_empty() {
        Err(BindFailure::Unclear(why))
    } else if *pod.spec.node_name == *binding.node && same_record() {
        Ok(())
    } else {
        Err(BindFailure::BoundElsewhere)
    }
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;

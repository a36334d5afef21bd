//! Carries orders out. In: one order of the machine; the API server as it is at that moment. Out: its one [`Outcome`].
//!
//! Nothing is repeated here, and no write begins so late that it could take effect after [`LATE`](crate::tasks::effect::LATE).

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{announce::Receivers, logs::LogDesk, pods_path, report, run_path, runs_path, task_path};
use crate::{
    kubernetes::{
        api::MERGE,
        runs::port::{Deletion, Port, Trouble, text},
    },
    metrics::TaskMetrics,
    tasks::{
        effect::{Effect, OrderId, Outcome, Subject},
        facts::{Key, Pod, Task},
        freeze, names,
    },
};

/// No write begins later than this after it was ordered: with the ten seconds that a call may take, it is over before anything counts on that.
const BEGINS_WITHIN: Duration = Duration::from_secs(18);
/// And nothing is sent later than this, whatever a call waits for.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(28);

/// An order.
#[derive(Debug)]
pub(super) struct Order {
    pub id: OrderId,
    pub subject: Subject,
    pub effect: Effect,
    pub ordered: Instant,
}

/// What orders are carried out with.
pub(super) struct Executor {
    pub port: Port,
    pub logs: LogDesk,
    pub receivers: Receivers,
    pub metrics: TaskMetrics,
}

impl Order {
    /// Asked right before a write.
    fn in_time(&self) -> Result<(), Trouble> {
        if self.ordered.elapsed() < BEGINS_WITHIN {
            return Ok(());
        }
        Err(Trouble::Unclear(format!("not sent: it waited longer than {} s for its turn", BEGINS_WITHIN.as_secs())))
    }

    /// Of what it is about. An arrival has neither namespace nor name.
    fn key(&self) -> Key {
        match &self.subject {
            Subject::Task(key) | Subject::Run(key) | Subject::Orphan(key) => key.clone(),
            Subject::Arrival(_) => Key::default(),
        }
    }

    fn pod_path(&self, pod: &str) -> String {
        format!("{}/{pod}", pods_path(&self.key().namespace))
    }
}

impl Executor {
    /// Carries out one order.
    pub(super) async fn carry_out(&self, order: &Order) -> Outcome {
        let attempt = self.attempt(order);
        let carried = if let Effect::SaveLogs { .. } = order.effect {
            attempt.await
        } else {
            // A call may also wait for our own rate limit.
            let given_up = || Trouble::Unclear(format!("no answer within {} s", GIVEN_UP_AFTER.as_secs()));
            timeout_at(order.ordered + GIVEN_UP_AFTER, attempt).await.unwrap_or_else(|_| Err(given_up()))
        };
        carried.unwrap_or_else(|trouble| Outcome::Retry(trouble.to_string()))
    }

    async fn attempt(&self, order: &Order) -> Result<Outcome, Trouble> {
        let key = order.key();
        match &order.effect {
            Effect::CreateRun(run) => self.create_run(order, run).await,
            Effect::FillIn { resource_version, patch } => {
                let mut patch = (**patch).clone();
                patch["metadata"]["resourceVersion"] = json!(resource_version);
                order.in_time()?;
                Ok(run_written(self.port.change(run_path(&key), MERGE, &patch).await))
            }
            Effect::WriteRun { resource_version, before, status } => {
                order.in_time()?;
                let path = format!("{}/status", run_path(&key));
                let written = self.port.replace(path, &new_status("TaskRun", &key, resource_version, status)).await;
                if let Ok(run) = &written {
                    report::written(&self.metrics, run, before, status);
                }
                Ok(run_written(written))
            }
            Effect::WriteTask { resource_version, status } => {
                order.in_time()?;
                let path = format!("{}/status", task_path(&key));
                Ok(match self.port.replace(path, &new_status("Task", &key, resource_version, status)).await {
                    Ok(task) => task_seen(&task),
                    Err(trouble) => refused_write(trouble),
                })
            }
            Effect::ReadRun => Ok(self.port.get(run_path(&key)).await?.map_or(Outcome::Absent, |run| Outcome::Run(Box::new(run)))),
            Effect::ReadTask => Ok(self.port.get(task_path(&key)).await?.map_or(Outcome::Absent, |task| task_seen(&task))),
            Effect::ReadPod(pod) => Ok(self.port.get(order.pod_path(pod)).await?.map_or(Outcome::Absent, |pod| pod_seen(&pod))),
            Effect::CreatePod { attempt } => self.create_pod(order, *attempt).await,
            Effect::SaveLogs { pod, uid, bytes_max } => {
                self.logs.save(&self.port, &order.subject, &Key::new(&key.namespace, pod), uid, *bytes_max).await
            }
            Effect::DeletePod { pod, uid, grace_seconds } => {
                let deletion = Deletion { uid: Some(uid), grace_seconds: Some(*grace_seconds), ..Deletion::default() };
                order.in_time()?;
                match self.port.delete(order.pod_path(pod), deletion).await {
                    Err(trouble) if trouble.is(StatusCode::FORBIDDEN) => Ok(Outcome::Refused(trouble.to_string())),
                    deleted => done_or_absent(deleted),
                }
            }
            Effect::ReleasePod { pod, uid } => self.release_pod(order, pod, uid).await,
            Effect::DeleteRun { uid } => {
                order.in_time()?;
                let deletion = Deletion { uid: Some(uid), ..Deletion::default() };
                done_or_absent(self.port.delete(run_path(&key), deletion).await)
            }
            Effect::Announce(state) => self.announce(order, state).await,
        }
    }

    /// What waited long for its turn is tried again later: the lane of reports must not grow while no receiver answers.
    async fn announce(&self, order: &Order, state: &str) -> Result<Outcome, Trouble> {
        let paused = self.receivers.paused();
        if let Some(why) = paused.or_else(|| order.in_time().err().map(|trouble| trouble.to_string())) {
            return Ok(Outcome::Retry(why));
        }
        let Some(run) = self.port.get(run_path(&order.key())).await? else { return Ok(Outcome::Done) };
        let told = self.receivers.tell(&run, state).await;
        self.metrics.report(if told.is_ok() { "delivered" } else { "failed" });
        Ok(told.map_or_else(Outcome::Retry, |()| Outcome::Done))
    }

    async fn create_run(&self, order: &Order, run: &Value) -> Result<Outcome, Trouble> {
        let key = Key::new(text(run, "/metadata/namespace"), text(run, "/metadata/name"));
        order.in_time()?;
        match self.port.create(runs_path(&key.namespace), run).await {
            Ok(made) => {
                self.metrics.started(text(run, "/spec/trigger/type"));
                Ok(Outcome::Run(Box::new(made)))
            }
            Err(trouble) if trouble.is(StatusCode::CONFLICT) => {
                let there = self.port.get(run_path(&key)).await?.ok_or(trouble)?;
                Ok(Outcome::Run(Box::new(there)))
            }
            Err(trouble) => Ok(refused_for_good(trouble)),
        }
    }

    /// The run is read first: nothing but its own word starts an attempt.
    async fn create_pod(&self, order: &Order, attempt: u32) -> Result<Outcome, Trouble> {
        let key = order.key();
        let Some(run) = self.port.get(run_path(&key)).await? else { return Ok(Outcome::Gone) };
        if text(&run, "/status/phase") != "Launching" || run["status"]["attempt"] != attempt {
            return Ok(Outcome::Conflict);
        }
        let pod = match freeze::pod(&run, attempt) {
            Ok(pod) => pod,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        order.in_time()?;
        let trouble = match self.port.create(pods_path(&key.namespace), &pod).await {
            Ok(made) => return Ok(pod_seen(&made)),
            Err(trouble) => trouble,
        };
        Ok(match trouble {
            // Something has the name, or the quota was changed at the same moment.
            Trouble::Refused(StatusCode::CONFLICT, why) => match self.port.get(order.pod_path(text(&pod, "/metadata/name"))).await? {
                Some(there) => pod_seen(&there),
                None => Outcome::Wait("Conflict".to_owned(), why),
            },
            Trouble::Refused(StatusCode::FORBIDDEN, why) => {
                Outcome::Wait(if why.contains("exceeded quota") { "Quota" } else { "Forbidden" }.to_owned(), why)
            }
            Trouble::Refused(StatusCode::TOO_MANY_REQUESTS, why) => Outcome::Wait("TooManyRequests".to_owned(), why),
            other => refused_for_good(other),
        })
    }

    async fn release_pod(&self, order: &Order, pod: &str, uid: &str) -> Result<Outcome, Trouble> {
        let Some(found) = self.port.get(order.pod_path(pod)).await?.filter(|found| text(found, "/metadata/uid") == uid) else {
            return Ok(Outcome::Absent);
        };
        let all: Vec<&Value> = found["metadata"]["finalizers"].as_array().into_iter().flatten().collect();
        let left: Vec<&Value> = all.iter().copied().filter(|one| *one != names::LOGS_FINALIZER).collect();
        if left.len() == all.len() {
            return Ok(Outcome::Done);
        }
        let version = text(&found, "/metadata/resourceVersion");
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": left}});
        order.in_time()?;
        match self.port.patch(order.pod_path(pod), MERGE, &patch).await {
            Ok(()) => Ok(Outcome::Done),
            Err(trouble) if trouble.is(StatusCode::NOT_FOUND) => Ok(Outcome::Absent),
            Err(trouble) => Err(trouble),
        }
    }
}

/// A whole status in place of what is there, if the object is still of that version. Of the rest an API server takes nothing by that path, so that it may be
/// left out; and it has less work with it than with a patch, which it applies to the object as text.
fn new_status(kind: &str, key: &Key, resource_version: &str, status: &impl Serialize) -> Value {
    let metadata = json!({"namespace": key.namespace, "name": key.name, "resourceVersion": resource_version});
    json!({"apiVersion": names::API_VERSION, "kind": kind, "metadata": metadata, "status": status})
}

fn run_written(written: Result<Value, Trouble>) -> Outcome {
    written.map_or_else(refused_write, |run| Outcome::Run(Box::new(run)))
}

fn task_seen(task: &Value) -> Outcome {
    Task::read(task).map_or_else(|| Outcome::Retry("the answer is not a task".to_owned()), |task| Outcome::Task(Box::new(task)))
}

fn pod_seen(pod: &Value) -> Outcome {
    Pod::read(pod).map_or_else(|| Outcome::Retry("the answer is not a pod".to_owned()), |pod| Outcome::Pod(Box::new(pod)))
}

fn refused_write(trouble: Trouble) -> Outcome {
    match trouble {
        Trouble::Refused(StatusCode::CONFLICT, _) => Outcome::Conflict,
        Trouble::Refused(StatusCode::NOT_FOUND, _) => Outcome::Gone,
        other => refused_for_good(other),
    }
}

/// What the API server says of the request itself stays so; anything else may pass: quotas, rights and the server's own state change.
fn refused_for_good(trouble: Trouble) -> Outcome {
    match trouble {
        Trouble::Refused(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE, why) => {
            Outcome::Refused(why)
        }
        other => Outcome::Retry(other.to_string()),
    }
}

/// Another incarnation has the name: the one that was meant is gone.
fn done_or_absent(deleted: Result<(), Trouble>) -> Result<Outcome, Trouble> {
    match deleted {
        Ok(()) => Ok(Outcome::Done),
        Err(trouble) if trouble.is(StatusCode::NOT_FOUND) || trouble.is(StatusCode::CONFLICT) => Ok(Outcome::Absent),
        Err(trouble) => Err(trouble),
    }
}

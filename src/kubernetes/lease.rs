//! Holds the election on a Lease object: reads and writes it in time; tells what we may do. The rules are in [`election`](super::election).
//!
//! Out: [`Leadership`] with the instant until which we may write, renewed with each successful renewal, and [`Input::Leading`] for the engine.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    api::{Answer, Api, Call, CallError, JSON},
    backoff::Backoff,
    clock::{Clock, micro_time},
    election::{ElectionSettings, LeaseRecord, Observed, Step, decide, next_record, observe, released},
    leadership::Leadership,
};
use crate::scheduler::input::Input;

/// Candidates wait up to this share of the retry period more, so that they do not ask in step. client-go's is 1.2; a smaller one finds a leader's end
/// sooner, and two candidates in step cost one conflict.
const WAIT_JITTER: f64 = 0.2;
/// How long giving up the lease may take; the process is ending.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// A release that meets our own late renewal is tried again.
const RELEASE_TRIES_MAX: u32 = 3;

/// How an election ended for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We led and do not any more. The process must end: what it holds in memory may be behind.
    Lost,
    /// We were asked to stop; a lease of ours was given up.
    Released,
}

/// A candidate, to be run.
pub struct Elector {
    api: Api,
    settings: ElectionSettings,
    clock: Clock,
    /// Our own clock: time since this instant.
    started: Instant,
    leadership: watch::Sender<Leadership>,
    inputs: mpsc::Sender<Input>,
    jitter: Backoff,
    observed: Option<Observed>,
    /// The object as last read: what we do not know of it is written back as it was.
    object: Value,
    /// We lead until then.
    until: Option<Instant>,
}

/// Why a try brought nothing.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Refused(String),
    #[error("the Lease cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Elector {
    /// A candidate that has not asked yet. Equal seeds wait equally.
    pub fn new(
        api: Api,
        settings: ElectionSettings,
        clock: Clock,
        leadership: watch::Sender<Leadership>,
        inputs: mpsc::Sender<Input>,
        seed: u64,
    ) -> Self {
        let jitter = Backoff::seeded(seed);
        Self { api, settings, clock, started: Instant::now(), leadership, inputs, jitter, observed: None, object: Value::Null, until: None }
    }

    /// Stands for election until we lose what we won or are asked to stop.
    pub async fn run(mut self, stop: CancellationToken) -> Ended {
        loop {
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => Some(Ended::Released),
                ended = self.round() => ended,
            };
            match ended {
                None => {}
                Some(Ended::Lost) => {
                    self.step_down();
                    return Ended::Lost;
                }
                Some(Ended::Released) => {
                    self.step_down();
                    self.release().await;
                    return Ended::Released;
                }
            }
        }
    }

    /// One try, and the wait between two.
    async fn round(&mut self) -> Option<Ended> {
        let Some(until) = self.until else {
            self.try_once_and_say().await;
            if self.until.is_none() {
                sleep(self.standby_wait()).await;
            }
            return None;
        };
        // Whatever is tried, our time ends at the deadline.
        let renewed = timeout_at(until, async {
            sleep(self.settings.retry_period).await;
            self.try_once_and_say().await;
        });
        let in_time = renewed.await.is_ok();
        let still_leading = self.until.is_some_and(|until| Instant::now() < until);
        if still_leading {
            return None;
        }
        let why = if in_time { "somebody else holds it" } else { "it could not be renewed in time" };
        tracing::error!(lease = %self.settings.name, "the lease is lost: {why}");
        Some(Ended::Lost)
    }

    /// Until the next look at somebody else's lease: the retry period, or the moment at which it ends.
    fn standby_wait(&mut self) -> Duration {
        let wait = self.jitter.jittered(self.settings.retry_period, WAIT_JITTER);
        let Some(Observed { record, since, .. }) = &self.observed else { return wait };
        let ends_in = (*since + Duration::from_secs(record.duration_seconds)).saturating_sub(self.started.elapsed());
        if ends_in.is_zero() { wait } else { wait.min(ends_in) }
    }

    async fn try_once_and_say(&mut self) {
        if let Err(error) = self.try_once().await {
            tracing::warn!(lease = %self.settings.name, leading = self.until.is_some(), "no progress with the lease: {error}");
        }
    }

    async fn try_once(&mut self) -> Result<(), TryError> {
        // A leader knows the object already; only if somebody wrote meanwhile it has to be read.
        if self.until.is_some() && self.write(Step::Renew).await? {
            return Ok(());
        }
        self.read().await?;
        match decide(self.observed.as_ref(), &self.settings.identity, self.started.elapsed()) {
            Step::Wait => {
                self.until = None;
                Ok(())
            }
            step => self.write(step).await.map(|_| ()),
        }
    }

    async fn read(&mut self) -> Result<(), TryError> {
        let answer = self.api.call(Call::get(self.path(true), self.request_timeout())).await?;
        if answer.status == StatusCode::NOT_FOUND {
            (self.observed, self.object) = (None, Value::Null);
            return Ok(());
        }
        if !answer.status.is_success() {
            return Err(TryError::Refused(answer.failure()));
        }
        self.take_in(&answer)
    }

    /// Writes ourselves in. False on a conflict: somebody wrote since we read.
    async fn write(&mut self, step: Step) -> Result<bool, TryError> {
        let wall = micro_time(self.clock.wall());
        let record = next_record(&step, self.observed.as_ref().map(|seen| &seen.record), &self.settings, &wall);
        // The deadline counts from before the request: the server can only write later, and others only see it later still.
        let sent = Instant::now();
        let answer = self.put(&record, self.request_timeout()).await?;
        if answer.status == StatusCode::CONFLICT {
            return Ok(false);
        }
        if !answer.status.is_success() {
            return Err(TryError::Refused(answer.failure()));
        }
        self.take_in(&answer)?;
        self.lead_until(sent + self.settings.renew_deadline).await;
        Ok(true)
    }

    async fn put(&self, record: &LeaseRecord, timeout: Duration) -> Result<Answer, CallError> {
        let create = self.object.is_null();
        let (method, path) = if create { (Method::POST, self.path(false)) } else { (Method::PUT, self.path(true)) };
        let body = self.lease_object(record).to_string().into();
        self.api.call(Call { method, path, content_type: JSON, body, timeout }).await
    }

    fn take_in(&mut self, answer: &Answer) -> Result<(), TryError> {
        let object: Value = serde_json::from_slice(&answer.body)?;
        let record = record_of(&object);
        let resource_version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        self.observed = Some(observe(self.observed.take(), record, resource_version, self.started.elapsed()));
        self.object = object;
        Ok(())
    }

    async fn lead_until(&mut self, until: Instant) {
        let won = self.until.is_none();
        self.until = Some(until);
        self.leadership.send_replace(Leadership::Until(until));
        if won {
            tracing::info!(identity = %self.settings.identity, lease = %self.settings.name, "leading");
            // Nobody listens only when the process ends.
            let _ = self.inputs.send(Input::Leading(true)).await;
        }
    }

    fn step_down(&mut self) {
        self.leadership.send_replace(Leadership::Standby);
        if self.until.is_some() {
            let _ = self.inputs.try_send(Input::Leading(false));
        }
    }

    /// Gives the lease up, if it is ours, so that the next candidate need not wait.
    async fn release(&mut self) {
        if self.until.take().is_none() {
            return;
        }
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        for _ in 0..RELEASE_TRIES_MAX {
            // A renewal of ours may have been under way: what counts is what the server has.
            let released = timeout_at(deadline, async {
                self.read().await?;
                let Some(seen) = self.observed.as_ref().filter(|seen| seen.record.holder == self.settings.identity) else {
                    return Ok(true);
                };
                let record = released(&seen.record, &micro_time(self.clock.wall()));
                let answer = self.put(&record, RELEASE_TIMEOUT).await?;
                Ok::<_, TryError>(answer.status.is_success())
            });
            match released.await {
                Ok(Ok(true)) => {
                    tracing::info!(lease = %self.settings.name, "the lease is given up");
                    return;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!("the lease is not given up yet: {error}"),
                Err(_) => break,
            }
        }
        tracing::warn!(lease = %self.settings.name, "the lease could not be given up; it ends by itself");
    }

    fn request_timeout(&self) -> Duration {
        self.settings.renew_deadline / 2
    }

    fn path(&self, named: bool) -> String {
        let ElectionSettings { namespace, name, .. } = &self.settings;
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        if named { format!("{collection}/{name}") } else { collection }
    }

    fn lease_object(&self, record: &LeaseRecord) -> Value {
        let mut object = if self.object.is_null() {
            let metadata = json!({"namespace": self.settings.namespace, "name": self.settings.name});
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}})
        } else {
            self.object.clone()
        };
        let spec = &mut object["spec"];
        spec["holderIdentity"] = record.holder.as_str().into();
        spec["leaseDurationSeconds"] = record.duration_seconds.into();
        spec["acquireTime"] = record.acquired.as_str().into();
        spec["renewTime"] = record.renewed.as_str().into();
        spec["leaseTransitions"] = record.transitions.into();
        object
    }
}

fn record_of(object: &Value) -> LeaseRecord {
    let spec = &object["spec"];
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let number = |field: &str| spec[field].as_u64().unwrap_or_default();
    LeaseRecord {
        holder: text("holderIdentity"),
        duration_seconds: number("leaseDurationSeconds"),
        acquired: text("acquireTime"),
        renewed: text("renewTime"),
        transitions: number("leaseTransitions"),
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

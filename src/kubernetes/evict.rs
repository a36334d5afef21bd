//! Ends pods that make room for a more important one: [`EvictOrder`]s in; deletions, an event for each victim, and exactly one [`Input::Evicted`] for each
//! order out.
//!
//! As upstream does it: condition `DisruptionTarget` first, so that controllers can tell why the pod ended, then the deletion with the pod's own grace. All
//! victims but the last at once; the last one only when the API server has taken the others, so that the preemptor is tried when all are on their way.
//! Both writes bear the UID: another pod of the same name is left alone, and a pod that is gone already is as good as one that was deleted.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};

use super::{
    api::{Answer, Api, Call, CallError, JSON, STRATEGIC_MERGE},
    bind::pod_path,
    clock::{Clock, whole_second_time},
    events::EventDesk,
    leadership::Permission,
};
use crate::{
    model::ids::{PodKey, PodUid},
    scheduler::input::{EventOrder, EvictOrder, Input, PodRef},
};

/// Victims dealt with at once, over all orders: as upstream's parallelism.
const IN_FLIGHT_MAX: usize = 16;
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one write is tried.
const TRIES_MAX: u32 = 3;
/// First wait between two tries; doubles.
const TRY_WAIT: Duration = Duration::from_millis(250);
/// A server may not make us wait longer than this.
const TRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where orders wait. The engine gives one for each pod that waits at most, so there is no other bound.
#[derive(Clone)]
pub struct EvictionDesk(mpsc::UnboundedSender<EvictOrder>);

impl EvictionDesk {
    /// Leaves an order.
    pub fn put(&self, order: EvictOrder) {
        // Nobody takes orders only when the process ends.
        let _ = self.0.send(order);
    }
}

/// Carries out what lies on the desk.
pub struct Evictor {
    orders: mpsc::UnboundedReceiver<EvictOrder>,
    inputs: mpsc::Sender<Input>,
    hands: Hands,
}

#[derive(Clone)]
struct Hands {
    api: Api,
    clock: Clock,
    events: EventDesk,
    turns: Arc<Semaphore>,
}

/// What became of a victim.
enum End {
    Deleted,
    /// It was gone, or another pod has its name.
    Gone,
}

/// A desk and who empties it, as long as `permission` is granted.
pub fn eviction_desk(
    api: &Api,
    permission: Permission,
    clock: Clock,
    events: EventDesk,
    inputs: mpsc::Sender<Input>,
) -> (EvictionDesk, Evictor) {
    let (sender, orders) = mpsc::unbounded_channel();
    let turns = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    (EvictionDesk(sender), Evictor { orders, inputs, hands: Hands { api: api.while_permitted(permission), clock, events, turns } })
}

impl Evictor {
    /// Works until no orders can come any more.
    pub async fn run(mut self) {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = under_way.join_next(), if !under_way.is_empty() => {}
                order = self.orders.recv() => {
                    let Some(order) = order else { return };
                    let (hands, inputs) = (self.hands.clone(), self.inputs.clone());
                    under_way.spawn(async move {
                        let uid = order.preemptor.uid.clone();
                        let outcome = hands.carry_out(order).await;
                        // Nobody listens only when the process ends.
                        let _ = inputs.send(Input::Evicted(uid, outcome)).await;
                    });
                }
            }
        }
    }
}

impl Hands {
    async fn carry_out(&self, mut order: EvictOrder) -> Result<(), String> {
        let last = order.victims.pop();
        let order = Arc::new(order);
        let mut under_way = JoinSet::new();
        for victim in order.victims.clone() {
            let (hands, order) = (self.clone(), order.clone());
            under_way.spawn(async move { hands.end(&order, &victim).await });
        }
        let mut outcome = Ok(());
        while let Some(ended) = under_way.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(error.to_string()));
            outcome = outcome.and(ended);
        }
        outcome?;
        match last {
            Some(victim) => self.end(&order, &victim).await,
            None => Ok(()),
        }
    }

    async fn end(&self, order: &EvictOrder, (key, uid): &(PodKey, PodUid)) -> Result<(), String> {
        let Ok(_turn) = self.turns.acquire().await else { return Err("the process ends".to_owned()) };
        let end = match self.mark(order, key, uid).await? {
            End::Deleted => self.delete(key, uid).await?,
            End::Gone => End::Gone,
        };
        if let End::Deleted = end {
            self.tell(order, key, uid);
        }
        Ok(())
    }

    /// Writes the condition. A conflict that stays is left to the deletion, which says whether it is the same pod.
    async fn mark(&self, order: &EvictOrder, key: &PodKey, uid: &PodUid) -> Result<End, String> {
        let body = json!({
            "metadata": {"uid": &*uid.0},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", order.preemptor.scheduler_name),
                "lastTransitionTime": whole_second_time(self.clock.wall()),
            }]},
        });
        let answer = self.write(Method::PATCH, format!("{}/status", pod_path(key)), STRATEGIC_MERGE, &body).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(End::Gone),
            StatusCode::CONFLICT => Ok(End::Deleted),
            status if status.is_success() => Ok(End::Deleted),
            _ => Err(format!("condition DisruptionTarget of pod {key}: {}", answer.failure())),
        }
    }

    async fn delete(&self, key: &PodKey, uid: &PodUid) -> Result<End, String> {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": &*uid.0}});
        let answer = self.write(Method::DELETE, pod_path(key), JSON, &body).await?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(End::Gone),
            status if status.is_success() => Ok(End::Deleted),
            _ => Err(format!("deletion of pod {key}: {}", answer.failure())),
        }
    }

    /// Both writes say the same however often they are sent.
    async fn write(&self, method: Method, path: String, content_type: &'static str, body: &Value) -> Result<Answer, String> {
        let mut wait = TRY_WAIT;
        for tried in 1.. {
            let call =
                Call { method: method.clone(), path: path.clone(), content_type, body: body.to_string().into(), timeout: WRITE_TIMEOUT };
            let why = match self.api.tell(call).await {
                Ok(answer) if answer.is_transient() || (answer.status == StatusCode::CONFLICT && method == Method::PATCH) => {
                    if tried >= TRIES_MAX {
                        return Ok(answer);
                    }
                    wait = wait.max(answer.retry_after.unwrap_or_default());
                    answer.failure()
                }
                Ok(answer) => return Ok(answer),
                Err(error) if tried >= TRIES_MAX || matches!(error, CallError::NotPermitted) => return Err(error.to_string()),
                Err(error) => error.to_string(),
            };
            tracing::debug!(path, "a victim of preemption is not dealt with yet: {why}");
            sleep(wait.min(TRY_WAIT_MAX)).await;
            wait *= 2;
        }
        Err("nothing was tried".to_owned())
    }

    fn tell(&self, order: &EvictOrder, key: &PodKey, uid: &PodUid) {
        let EvictOrder { preemptor, node, .. } = order;
        let pod = PodRef { key: key.clone(), uid: uid.clone(), scheduler_name: preemptor.scheduler_name.clone() };
        let note = format!("Preempted by pod {} on node {node}", preemptor.uid).into();
        let related = Some(Box::new(preemptor.clone()));
        self.events.put(Box::new(EventOrder { pod, reason: "Preempted", kind: "Normal", action: "Preempting", related, note }));
    }
}

#[cfg(test)]
#[path = "evict_tests.rs"]
mod tests;

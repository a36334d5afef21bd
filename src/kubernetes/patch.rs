//! Writes condition `PodScheduled=False` and the nominated node into the status of pods: [`ConditionOrder`]s in, patches out.
//!
//! People read these, nobody decides by them; so they wait for their turn, the newest per pod wins, and beyond a bound they are dropped and counted.
//! One rule is hard: a condition must never land after the binding of its pod, where it would say of a running pod that it is not scheduled. So the
//! binder withdraws what waits, and waits for what is under way, before it binds.

use std::{
    collections::VecDeque,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    api::{Answer, Api, Call, STRATEGIC_MERGE},
    bind::pod_path,
    clock::{Clock, whole_second_time},
    leadership::Permission,
};
use crate::{metrics::CallType, model::ids::PodUid, scheduler::input::ConditionOrder};

/// Patches at once: people's reading never takes a worthwhile share of the API server from binding.
const IN_FLIGHT_MAX: usize = 8;
/// Pods whose condition may wait, some 400 bytes each: whoever is dropped says nothing until the next try, five minutes later.
const WAITING_MAX: usize = 65_536;
/// Pods whose last written condition is remembered; 16 bytes each. Forgetting only costs a patch and a fresh `lastTransitionTime`.
const WRITTEN_MAX: usize = 100_000;
/// How long one patch may take; short, as a binding may wait for it.
const PATCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often one patch is tried, as upstream retries conflicts and stumbles.
const TRIES_MAX: u32 = 3;
/// First wait between two tries; doubles.
const TRY_WAIT: Duration = Duration::from_millis(250);
/// A server may not make us wait longer than this for a condition.
const TRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where conditions wait for their turn. Cheap to clone.
#[derive(Clone, Default)]
pub struct ConditionDesk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
    finished: Notify,
}

#[derive(Default)]
struct State {
    order: VecDeque<PodUid>,
    waiting: FxHashMap<PodUid, ConditionOrder>,
    in_flight: FxHashSet<PodUid>,
    /// Hash of what was last written for a pod.
    written: FxHashMap<PodUid, u64>,
}

impl ConditionDesk {
    /// Leaves a condition; an older one of the same pod is replaced, but for what the newer one does not speak of. False if there was no room.
    pub fn put(&self, mut order: ConditionOrder) -> bool {
        let mut state = self.lock();
        if let Some(older) = state.waiting.get(&order.pod.uid) {
            order.condition = order.condition.or_else(|| older.condition.clone());
            order.nominated_node = order.nominated_node.or_else(|| older.nominated_node.clone());
        }
        if state.written.get(&order.pod.uid) == Some(&content_hash(&order)) {
            state.waiting.remove(&order.pod.uid);
            return true;
        }
        let uid = order.pod.uid.clone();
        if state.waiting.len() >= WAITING_MAX && !state.waiting.contains_key(&uid) {
            return false;
        }
        if state.waiting.insert(uid.clone(), order).is_none() {
            state.order.push_back(uid);
        }
        drop(state);
        self.0.arrived.notify_one();
        true
    }

    /// Takes back what waits for a pod and waits for what is under way: afterwards nothing of ours touches its condition.
    pub async fn withdraw(&self, uid: &PodUid) {
        loop {
            let finished = self.0.finished.notified();
            tokio::pin!(finished);
            {
                let mut state = self.lock();
                state.waiting.remove(uid);
                state.written.remove(uid);
                if !state.in_flight.contains(uid) {
                    return;
                }
                // Registered while the lock is held, so that the end cannot slip by.
                finished.as_mut().enable();
            }
            finished.await;
        }
    }

    /// How many conditions wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The next condition whose pod has none under way, and whether the pod's last state that we know is the same status.
    fn take(&self) -> Option<(ConditionOrder, bool)> {
        let mut state = self.lock();
        for _ in 0..state.order.len() {
            let uid = state.order.pop_front()?;
            if state.in_flight.contains(&uid) {
                state.order.push_back(uid);
                continue;
            }
            // Withdrawn ones leave their place in the order behind.
            let Some(order) = state.waiting.remove(&uid) else { continue };
            let known = state.written.contains_key(&uid) || order.condition.is_none();
            state.in_flight.insert(uid);
            return Some((order, known));
        }
        None
    }

    fn done(&self, order: &ConditionOrder, written: bool) {
        let mut state = self.lock();
        state.in_flight.remove(&order.pod.uid);
        // Without a condition nothing is known of the pod's.
        if written && order.condition.is_some() {
            if state.written.len() >= WRITTEN_MAX {
                state.written.clear();
            }
            state.written.insert(order.pod.uid.clone(), content_hash(order));
        }
        drop(state);
        self.0.finished.notify_waiters();
        self.0.arrived.notify_one();
    }

    fn is_outdated(&self, uid: &PodUid) -> bool {
        self.lock().waiting.contains_key(uid)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn content_hash(order: &ConditionOrder) -> u64 {
    FxBuildHasher.hash_one((&order.condition, &order.nominated_node))
}

/// Writes what lies on the desk.
#[derive(Clone)]
pub struct Patcher {
    api: Api,
    permission: Permission,
    desk: ConditionDesk,
    clock: Clock,
}

impl Patcher {
    /// Writes through `api` as long as `permission` is granted.
    pub fn new(api: &Api, permission: Permission, desk: ConditionDesk, clock: Clock) -> Self {
        Self { api: api.while_permitted(permission.clone()), permission, desk, clock }
    }

    /// Works for ever.
    pub async fn run(self) {
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < IN_FLIGHT_MAX {
                let Some((order, known)) = self.desk.take() else { break };
                let patcher = self.clone();
                under_way.spawn(async move {
                    let (started, metrics) = (Instant::now(), patcher.api.metrics());
                    metrics.call_began(CallType::PodStatusPatch);
                    let written = patcher.write(&order, known).await;
                    metrics.call_ended(CallType::PodStatusPatch, written, started.elapsed());
                    patcher.desk.done(&order, written);
                });
            }
            tokio::select! {
                biased;
                Some(_) = under_way.join_next(), if !under_way.is_empty() => {}
                () = self.desk.0.arrived.notified(), if under_way.len() < IN_FLIGHT_MAX => {}
            }
        }
    }

    /// True when the API server took it.
    async fn write(&self, order: &ConditionOrder, known: bool) -> bool {
        let transition = (!known).then(|| whole_second_time(self.clock.wall()));
        let body = patch_body(order, transition.as_deref()).to_string();
        let mut wait = TRY_WAIT;
        for _ in 0..TRIES_MAX {
            if !self.permission.granted() {
                return false;
            }
            let call = Call {
                method: Method::PATCH,
                path: format!("{}/status", pod_path(&order.pod.key)),
                content_type: STRATEGIC_MERGE,
                body: body.clone().into(),
                timeout: PATCH_TIMEOUT,
            };
            let why = match self.api.tell(call).await {
                Ok(answer) if answer.status.is_success() => return true,
                Ok(answer) if !may_work_later(&answer) => {
                    if answer.status != StatusCode::NOT_FOUND {
                        tracing::warn!(pod = %order.pod.key, "condition PodScheduled=False not written: {}", answer.failure());
                    }
                    return false;
                }
                Ok(answer) => {
                    wait = wait.max(answer.retry_after.unwrap_or_default());
                    answer.failure()
                }
                Err(error) => error.to_string(),
            };
            tracing::debug!(pod = %order.pod.key, "condition PodScheduled=False not written yet: {why}");
            sleep(wait.min(TRY_WAIT_MAX)).await;
            wait *= 2;
            if self.desk.is_outdated(&order.pod.uid) {
                return false;
            }
        }
        false
    }
}

fn may_work_later(answer: &Answer) -> bool {
    answer.is_transient() || answer.status == StatusCode::CONFLICT
}

/// The patch. The uid makes it fail on another incarnation of the pod; `lastTransitionTime` is given only when the status turns.
fn patch_body(order: &ConditionOrder, transition: Option<&str>) -> Value {
    let mut status = json!({});
    if let Some((reason, message)) = &order.condition {
        let mut condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": &**message});
        if let Some(time) = transition {
            condition["lastTransitionTime"] = time.into();
        }
        status["conditions"] = json!([condition]);
    }
    if let Some(node) = &order.nominated_node {
        status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { (&**node).into() };
    }
    json!({"metadata": {"uid": &*order.pod.uid.0}, "status": status})
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;

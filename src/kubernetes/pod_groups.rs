//! `PodGroup`s of the home API server, where it serves them. In: its discovery, its objects, [`GroupConditionOrder`]s. Out: inputs for the engine, and
//! condition `PodGroupInitiallyScheduled` in the status of groups.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use super::{
    api::Api,
    clock::{Clock, whole_second_time},
    cluster::rest::Rest,
    leadership::Permission,
    watch::Watch,
    wire::POD_GROUP_CONDITION,
};
use crate::{
    model::{gang::PodGroupFacts, ids::ClusterId},
    scheduler::input::{GroupConditionOrder, Input},
};

/// Between two looks at the discovery.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const DISCOVERY: &str = "/apis/scheduling.k8s.io/v1beta1";
/// Conditions that may wait. People read them, nobody decides by them: beyond this they are dropped.
const WAITING_MAX: usize = 1024;
/// How often one is tried.
const TRIES_MAX: u32 = 3;
/// First wait between two tries; doubles.
const TRY_WAIT: Duration = Duration::from_millis(250);

/// Watches them for ever, once they are served.
pub async fn watch(home: Api, name: &'static str, inputs: mpsc::Sender<Input>, seed: u64) {
    wait_until_served(&home).await;
    Watch::<PodGroupFacts>::new(home, ClusterId::HOME, name, inputs, seed).run().await;
}

async fn wait_until_served(home: &Api) {
    let rest = Rest::new(home.clone());
    let mut told = false;
    loop {
        match rest.get(DISCOVERY).await {
            Ok(Some(found)) if serves(&found) => return tracing::info!("heeding PodGroups"),
            Ok(_) if !told => {
                tracing::info!("the API server knows no PodGroups: it needs the feature gate GenericWorkload and {DISCOVERY}");
            }
            Err(error) if !told => tracing::warn!("whether the API server knows PodGroups is not known yet: {error}"),
            _ => {}
        }
        told = true;
        sleep(LOOK_EVERY).await;
    }
}

fn serves(found: &Value) -> bool {
    found["resources"].as_array().into_iter().flatten().any(|resource| resource["name"] == "podgroups")
}

/// Where conditions wait.
#[derive(Clone)]
pub struct GroupDesk(mpsc::Sender<GroupConditionOrder>);

impl GroupDesk {
    /// Leaves one. False if there was no room.
    pub fn put(&self, order: GroupConditionOrder) -> bool {
        self.0.try_send(order).is_ok()
    }
}

/// Writes what lies on the desk.
pub struct GroupWriter {
    orders: mpsc::Receiver<GroupConditionOrder>,
    rest: Rest,
    permission: Permission,
    clock: Clock,
}

/// A desk and who empties it, as long as `permission` is granted.
pub fn group_desk(api: &Api, permission: Permission, clock: Clock) -> (GroupDesk, GroupWriter) {
    let (sender, orders) = mpsc::channel(WAITING_MAX);
    let rest = Rest::new(api.while_permitted(permission.clone()));
    (GroupDesk(sender), GroupWriter { orders, rest, permission, clock })
}

impl GroupWriter {
    /// Works until no orders can come any more.
    pub async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            self.write(&order).await;
        }
    }

    async fn write(&self, order: &GroupConditionOrder) {
        let path = format!("{DISCOVERY}/namespaces/{}/podgroups/{}/status", order.namespace, order.name);
        let body = patch_body(order, &whole_second_time(self.clock.wall()));
        let mut wait = TRY_WAIT;
        for _ in 0..TRIES_MAX {
            if !self.permission.granted() {
                return;
            }
            match self.rest.strategic_merge(&path, &body).await {
                Ok(_) => return,
                Err(error) if error.is(StatusCode::FORBIDDEN) || error.is(StatusCode::UNPROCESSABLE_ENTITY) => {
                    return tracing::warn!(group = %format!("{}/{}", order.namespace, order.name), "its condition is not written: {error}");
                }
                Err(error) => tracing::debug!("the condition of a PodGroup is not written yet: {error}"),
            }
            sleep(wait).await;
            wait *= 2;
        }
    }
}

/// The uid makes it fail on another group of the name; `lastTransitionTime` is given only when the status turns.
fn patch_body(order: &GroupConditionOrder, now: &str) -> Value {
    let mut condition = json!({
        "type": POD_GROUP_CONDITION,
        "status": if order.is_scheduled { "True" } else { "False" },
        "reason": order.reason,
        "message": &*order.message,
        "observedGeneration": order.generation,
    });
    if order.is_turn {
        condition["lastTransitionTime"] = now.into();
    }
    json!({"metadata": {"uid": &*order.uid}, "status": {"conditions": [condition]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_condition_is_that_of_its_turn() {
        let order = GroupConditionOrder {
            namespace: "ns".into(),
            name: "g".into(),
            uid: "u".into(),
            generation: 2,
            is_scheduled: false,
            is_turn: true,
            reason: "Unschedulable",
            message: "no room".into(),
        };
        let want = json!({"metadata": {"uid": "u"}, "status": {"conditions": [{
            "type": "PodGroupInitiallyScheduled", "status": "False", "reason": "Unschedulable", "message": "no room",
            "observedGeneration": 2, "lastTransitionTime": "t",
        }]}});
        assert_eq!(patch_body(&order, "t"), want);
        let again = patch_body(&GroupConditionOrder { is_turn: false, is_scheduled: true, ..order }, "t");
        let condition = &again["status"]["conditions"][0];
        assert_eq!((&condition["status"], condition.get("lastTransitionTime")), (&json!("True"), None));
    }

    #[test]
    fn discovery_tells_whether_they_are_served() {
        assert!(serves(&json!({"resources": [{"name": "workloads"}, {"name": "podgroups"}]})));
        assert!(!serves(&json!({"resources": [{"name": "priorityclasses"}]})));
        assert!(!serves(&json!({})));
    }
}

//! In: the canonical status of a run, or a reason. Out: strategic-merge patches of a home pod's status.

use serde_json::{Value, json};

use super::{CONTAINER_LISTS, DISRUPTION_TARGET, items};
use crate::{
    federation::{facts::Decision, names},
    model::time::Timestamp,
};

/// Beginning of the reason of [`names::PLACED_CONDITION`]; the number of the attempt follows.
pub(super) const ATTEMPT_REASON: &str = "Attempt";

/// Reasons of a kubelet that ends a pod for the node's sake.
const DISRUPTIONS: [&str; 5] = ["Evicted", "Preempting", "Preempted", "NodeShutdown", "Terminated"];

/// What a run says (see [`super::mirrored`]), as a patch of the home pod. `restarts` are those that the home pod shows already.
pub fn mirror(run: &Value, restarts: &[(Box<str>, i64)], decision: &Decision, now: Timestamp) -> Value {
    let mut status = run.clone();
    for field in ["reason", "message"] {
        // Null takes away what stood there before.
        if status.get(field).is_none() {
            status[field] = Value::Null;
        }
    }
    for list in CONTAINER_LISTS {
        for container in status.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let shown = restarts.iter().find(|(name, _)| container["name"] == **name).map_or(0, |(_, count)| *count);
            if container["restartCount"].as_i64().is_none_or(|count| count < shown) {
                container["restartCount"] = shown.into();
            }
        }
    }
    let mut conditions = items(run, "conditions").to_vec();
    let reason = run["reason"].as_str().unwrap_or_default();
    let is_disrupted = conditions.iter().any(|condition| condition["type"] == DISRUPTION_TARGET);
    if run["phase"] == "Failed" && DISRUPTIONS.contains(&reason) && !is_disrupted {
        conditions.push(condition(DISRUPTION_TARGET, "True", reason, run["message"].as_str().unwrap_or_default(), now));
    }
    let where_it_is = format!("{}/{}, attempt {}", decision.cluster, decision.node, decision.attempt);
    let mut placed = condition(names::PLACED_CONDITION, "True", "", &where_it_is, now);
    placed["reason"] = format!("{ATTEMPT_REASON}{}", decision.attempt).into();
    // The time of the decision is not known here, and a time that changes with each patch would be none.
    placed.as_object_mut().map(|placed| placed.remove("lastTransitionTime"));
    conditions.push(placed);
    status["conditions"] = conditions.into();
    json!({ "status": status })
}

/// The home pod has failed, and not by its own fault.
pub fn failed(reason: &str, message: &str, now: Timestamp) -> Value {
    let conditions = [
        condition(DISRUPTION_TARGET, "True", reason, message, now),
        condition("Ready", "False", "PodFailed", "", now),
        condition("ContainersReady", "False", "PodFailed", "", now),
    ];
    json!({ "status": { "phase": "Failed", "reason": reason, "message": message, "conditions": conditions } })
}

/// The cluster does not answer: the pod may run, but nobody should count on it.
pub fn unreachable(cluster: &str, now: Timestamp) -> Value {
    let message = format!("compute cluster {cluster} cannot be reached; the pod may go on running there");
    json!({ "status": { "conditions": [condition("Ready", "False", "ClusterUnreachable", &message, now)] } })
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now.to_rfc3339() })
}

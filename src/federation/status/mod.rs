//! The way home of a run's status. In: `status` of a run or of a home pod. Out: the part of it that is mirrored, its digest, and patches for the home pod.
//!
//! Addresses, `PodScheduled`, nominations and observed generations never travel: what they say is true over there only.

mod patch;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use patch::{failed, mirror, unreachable};

use super::names;
use crate::model::fnv::fnv1a;

/// The lists of container statuses.
pub(super) const CONTAINER_LISTS: [&str; 3] = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
/// Conditions that are the run's to say.
const CONDITIONS: [&str; 4] = ["Initialized", "Ready", "ContainersReady", DISRUPTION_TARGET];
/// The condition that owners read as: not the pod's own fault.
pub(super) const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// What of a container's status every supported version has.
const CONTAINER_FIELDS: [&str; 11] = [
    "name",
    "state",
    "lastState",
    "ready",
    "restartCount",
    "image",
    "imageID",
    "containerID",
    "started",
    "allocatedResources",
    "resources",
];
/// Reason of a pod whose run was deleted before it could say how it ended.
pub(super) const RUN_DELETED: &str = "RemoteRunDeleted";
/// Plain fields.
const PLAIN_FIELDS: [&str; 4] = ["phase", "reason", "message", "startTime"];

/// The part of a status that is mirrored, in one canonical form.
pub fn mirrored(status: &Value) -> Value {
    let mut part = Map::new();
    for field in PLAIN_FIELDS {
        if let Some(text) = status[field].as_str().filter(|text| !text.is_empty()) {
            part.insert(field.to_owned(), text.into());
        }
    }
    let conditions: Vec<Value> = CONDITIONS
        .iter()
        .filter_map(|kind| items(status, "conditions").iter().find(|condition| condition["type"] == *kind))
        .map(|condition| picked(condition, &["type", "status", "reason", "message", "lastTransitionTime"]))
        .collect();
    if !conditions.is_empty() {
        part.insert("conditions".to_owned(), conditions.into());
    }
    for list in CONTAINER_LISTS {
        let containers: Vec<Value> = items(status, list).iter().map(|container| picked(container, &CONTAINER_FIELDS)).collect();
        if !containers.is_empty() {
            part.insert(list.to_owned(), containers.into());
        }
    }
    Value::Object(part)
}

/// A canonical status of a run that was deleted before it could say how it ended.
pub(super) fn deleted(mut status: Value) -> Value {
    status["phase"] = "Failed".into();
    status["reason"] = RUN_DELETED.into();
    status["message"] = "the run was deleted on its cluster before it could say how it ended".into();
    let mut conditions: Vec<Value> =
        items(&status, "conditions").iter().filter(|condition| condition["type"] != DISRUPTION_TARGET).cloned().collect();
    conditions.push(json!({ "type": DISRUPTION_TARGET, "status": "True", "reason": RUN_DELETED }));
    status["conditions"] = conditions.into();
    status
}

/// A number for what a canonical status says, the same for a run and for the home pod that shows it. Left out is what may differ although all was mirrored:
/// times of transitions, restarts (never shown lower than before), and the disruption, which stays at home once it is there.
pub fn digest(mirrored: &Value) -> u64 {
    let mut part = mirrored.clone();
    if let Some(conditions) = part.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| condition["type"] != DISRUPTION_TARGET);
        for condition in conditions {
            condition.as_object_mut().map(|condition| condition.remove("lastTransitionTime"));
        }
    }
    for list in CONTAINER_LISTS {
        for container in part.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container.as_object_mut().map(|container| container.remove("restartCount"));
        }
    }
    // An empty list and none are the same.
    if let Some(part) = part.as_object_mut() {
        part.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
    }
    let mut text = String::new();
    canonical(&part, &mut text);
    fnv1a(0, text.bytes())
}

/// Whether a container runs, ran, or was restarted.
pub fn has_started(status: &Value) -> bool {
    let ran = |container: &Value| {
        let (state, last) = (&container["state"], &container["lastState"]);
        !state["running"].is_null()
            || !state["terminated"].is_null()
            || !last["terminated"].is_null()
            || container["restartCount"].as_i64().is_some_and(|count| count > 0)
            || container["started"].as_bool() == Some(true)
    };
    CONTAINER_LISTS.iter().any(|list| items(status, list).iter().any(ran))
}

/// Restarts by container, those above 0.
pub(super) fn restarts(status: &Value) -> Vec<(Box<str>, i64)> {
    let containers = CONTAINER_LISTS.iter().flat_map(|list| items(status, list));
    let count = |container: &Value| {
        let restarts = container["restartCount"].as_i64().filter(|count| *count > 0)?;
        Some((container["name"].as_str()?.into(), restarts))
    };
    containers.filter_map(count).collect()
}

/// The attempt whose status a home pod shows.
pub(super) fn shown_attempt(status: &Value) -> Option<u32> {
    let placed = items(status, "conditions").iter().find(|condition| condition["type"] == names::PLACED_CONDITION)?;
    placed["reason"].as_str()?.strip_prefix(patch::ATTEMPT_REASON)?.parse().ok()
}

fn items<'a>(value: &'a Value, list: &str) -> &'a [Value] {
    value[list].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The named fields, those that say nothing left out.
fn picked(object: &Value, fields: &[&str]) -> Value {
    let says = |value: &&Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    fields.iter().filter_map(|field| Some(((*field).to_owned(), object.get(field).filter(says)?.clone()))).collect::<Map<_, _>>().into()
}

/// JSON with sorted keys, without nulls and empty objects.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, value)| !value.is_null() && **value != json!({})).collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (key, value) in entries {
                out.push_str(key);
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

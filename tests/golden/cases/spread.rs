//! Pods spread over domains: constraints with every field, and what default constraints select by. In: a cluster. Out: the same with a pod that
//! spreads, and objects that select it.

use serde_json::{Value, json};

use super::{
    cluster::{APPS, HOSTNAME, NAMESPACES, World, ZONE},
    draw::Draw,
};

pub fn dress(draw: &mut Draw, world: &mut World) {
    // Most pods in one namespace: those of others never count.
    for pod in &mut world.pods {
        if draw.chance(75) {
            pod["metadata"]["namespace"] = "web".into();
        }
    }
    world.asked["metadata"]["namespace"] = "web".into();
    if draw.chance(40) {
        label_revisions(draw, world);
    }
    if draw.chance(85) {
        world.asked["spec"]["topologySpreadConstraints"] = constraints(draw).into();
    }
}

/// For default constraints: Services that select the pod, and the controller that owns it.
pub fn dress_owners(draw: &mut Draw, world: &mut World) {
    if draw.chance(60) {
        world.asked["spec"]["topologySpreadConstraints"] = Value::Null;
    }
    for number in 0..draw.between(0, 2) {
        let selector = draw.maybe(90, |draw| json!({"app": draw.pick(&APPS)}));
        let namespace = draw.pick(&["web", "web", NAMESPACES[0]]);
        world.others.push(json!({
            "kind": "Service", "apiVersion": "v1", "metadata": {"name": format!("s{number}"), "namespace": namespace}, "spec": {"selector": selector},
        }));
    }
    if draw.chance(60) {
        own(draw, world);
    }
}

fn own(draw: &mut Draw, world: &mut World) {
    let (kind, version) = draw.pick(&[("ReplicaSet", "apps/v1"), ("StatefulSet", "apps/v1"), ("ReplicationController", "v1")]);
    let app = draw.pick(&APPS);
    let selector = if kind == "ReplicationController" { json!({"app": app}) } else { json!({"matchLabels": {"app": app}}) };
    if draw.chance(90) {
        world.others.push(json!({
            "kind": kind, "apiVersion": version, "metadata": {"name": "owner", "namespace": "web", "uid": "owner"}, "spec": {"selector": selector},
        }));
    }
    let owner = json!([{"apiVersion": version, "kind": kind, "name": "owner", "uid": "owner", "controller": draw.chance(90)}]);
    world.asked["metadata"]["ownerReferences"] = owner;
}

fn label_revisions(draw: &mut Draw, world: &mut World) {
    for pod in world.pods.iter_mut().chain([&mut world.asked]) {
        if pod["metadata"]["labels"].is_object() && draw.chance(80) {
            pod["metadata"]["labels"]["revision"] = draw.pick(&["1", "2"]).into();
        }
    }
}

fn constraints(draw: &mut Draw) -> Vec<Value> {
    // A key stands once with each effect: the API server refuses more.
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for key in [ZONE, HOSTNAME, "rack", "nowhere"] {
        for when in ["DoNotSchedule", "ScheduleAnyway"] {
            if draw.chance(if key == "nowhere" { 4 } else { 30 }) {
                pairs.push((key, when));
            }
        }
    }
    if pairs.is_empty() {
        pairs.push((ZONE, draw.pick(&["DoNotSchedule", "ScheduleAnyway"])));
    }
    pairs.into_iter().map(|(key, when)| constraint(draw, key, when)).collect()
}

fn constraint(draw: &mut Draw, key: &str, when: &str) -> Value {
    let hard = when == "DoNotSchedule";
    let min_domains = if hard { draw.maybe(35, |draw| draw.between(1, 4)) } else { None };
    json!({
        "maxSkew": draw.pick(&[1, 1, 2, 3]), "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector(draw),
        "minDomains": min_domains,
        "nodeAffinityPolicy": draw.maybe(40, |draw| draw.pick(&["Honor", "Ignore"])),
        "nodeTaintsPolicy": draw.maybe(40, |draw| draw.pick(&["Honor", "Ignore"])),
        "matchLabelKeys": draw.maybe(20, |draw| draw.pick(&[&["revision"][..], &["revision", "absent"][..]])),
    })
}

/// None selects nothing, an empty one everything.
pub fn selector(draw: &mut Draw) -> Option<Value> {
    let app = draw.pick(&APPS);
    Some(match draw.between(0, 9) {
        0 => return None,
        1 => json!({}),
        2 => json!({"matchExpressions": [{"key": "app", "operator": "In", "values": [app, "other"]}]}),
        3 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [app]}]}),
        4 => json!({"matchExpressions": [{"key": "tier", "operator": draw.pick(&["Exists", "DoesNotExist"])}]}),
        5 => json!({"matchLabels": {"app": app, "tier": "front"}}),
        _ => json!({"matchLabels": {"app": app}}),
    })
}

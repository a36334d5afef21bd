//! Full nodes and a pod that is more important. In: a cluster. Out: the same with priorities, budgets and nominations, and no room.

use serde_json::{Value, json};

use super::{
    cluster::{APPS, World},
    draw::Draw,
};

pub fn dress(draw: &mut Draw, world: &mut World) {
    world.pods.clear();
    for at in 0..world.nodes.len() {
        let name = world.nodes[at]["metadata"]["name"].clone();
        world.nodes[at]["status"]["allocatable"] = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        for number in 0..draw.between(1, 5) {
            let pod = victim(draw, &name, number);
            world.pods.push(pod);
        }
    }
    world.asked["metadata"]["namespace"] = "web".into();
    world.asked["spec"]["priority"] = draw.pick(&[0, 5, 10, 1000]).into();
    world.asked["spec"]["preemptionPolicy"] = json!(draw.maybe(8, |_| "Never"));
    world.asked["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": draw.pick(&["2", "3", "4", "5"])}}}]);
    for number in 0..draw.between(0, 2) {
        world.others.push(budget(draw, number));
    }
    if draw.chance(20) {
        nominate(draw, world);
    }
}

fn victim(draw: &mut Draw, node: &Value, number: i64) -> Value {
    let started = format!("2026-01-01T0{}:00:00Z", draw.between(0, 5));
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": format!("p{}-{number}", node.as_str().unwrap_or_default()), "namespace": "web", "labels": {"app": draw.pick(&APPS)},
            "deletionTimestamp": draw.maybe(4, |_| "2026-01-02T00:00:00Z")},
        "spec": {"nodeName": node, "priority": draw.pick(&[-5, 0, 0, 5, 10]), "containers": [{"name": "c",
            "resources": {"requests": {"cpu": draw.pick(&["500m", "1", "2"])}}}]},
        "status": {"phase": "Running", "startTime": started},
    })
}

fn budget(draw: &mut Draw, number: i64) -> Value {
    json!({
        "kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": format!("b{number}"), "namespace": "web"},
        "spec": {"selector": {"matchLabels": {"app": draw.pick(&APPS)}}}, "status": {"disruptionsAllowed": draw.between(0, 2)},
    })
}

fn nominate(draw: &mut Draw, world: &mut World) {
    let node = world.nodes[draw.index(world.nodes.len())]["metadata"]["name"].clone();
    world.pods.push(json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "nominated", "namespace": "web"},
        "spec": {"priority": draw.pick(&[0, 10, 2000]), "containers": [{"name": "c", "resources": {"requests": {"cpu": draw.pick(&["1", "3"])}}}]},
        "status": {"phase": "Pending", "nominatedNodeName": node},
    }));
}

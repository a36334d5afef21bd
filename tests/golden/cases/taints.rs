//! Taints of every effect, tolerations of every operator, and nodes closed for new pods. In: a cluster. Out: the same with both.

use serde_json::{Map, Value, json};

use super::{cluster::World, draw::Draw};

const KEYS: [&str; 3] = ["dedicated", "example.com/maintenance", "node.kubernetes.io/not-ready"];
const VALUES: [&str; 3] = ["", "gpu", "infra"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub fn dress(draw: &mut Draw, world: &mut World) {
    for node in &mut world.nodes {
        let mut taints = draw.maybe(65, |draw| draw.list(1, 4, taint)).unwrap_or_default();
        if draw.chance(15) {
            node["spec"]["unschedulable"] = true.into();
            if draw.chance(70) {
                taints.push(json!({"key": UNSCHEDULABLE, "effect": "NoSchedule"}));
            }
        }
        if !taints.is_empty() {
            node["spec"]["taints"] = taints.into();
        }
    }
    if draw.chance(80) {
        world.asked["spec"]["tolerations"] = draw.list(0, 5, toleration).into();
    }
}

fn taint(draw: &mut Draw) -> Value {
    let mut taint = json!({"key": draw.pick(&KEYS), "value": draw.pick(&VALUES), "effect": draw.pick(&EFFECTS)});
    if taint["value"] == "" {
        taint["value"] = Value::Null;
    }
    if draw.chance(10) {
        taint["timeAdded"] = "2026-01-01T00:00:00Z".into();
    }
    taint
}

fn toleration(draw: &mut Draw) -> Value {
    let mut fields = Map::new();
    let key = draw.pick(&[KEYS[0], KEYS[0], KEYS[1], KEYS[2], UNSCHEDULABLE, ""]);
    // Without a key only Exists is valid, and it tolerates everything.
    let operator = if key.is_empty() { "Exists" } else { draw.pick(&["Equal", "Exists", ""]) };
    for (name, value) in [("key", key), ("operator", operator), ("effect", draw.pick(&["", EFFECTS[0], EFFECTS[1], EFFECTS[2]]))] {
        if !value.is_empty() {
            fields.insert(name.into(), value.into());
        }
    }
    if operator != "Exists" {
        fields.insert("value".into(), draw.pick(&VALUES).into());
    }
    if fields.get("effect").is_some_and(|effect| effect == "NoExecute") && draw.chance(30) {
        fields.insert("tolerationSeconds".into(), draw.between(0, 300).into());
    }
    fields.into()
}

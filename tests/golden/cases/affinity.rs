//! Where a pod may or would rather run: node selectors and node affinity with every operator, by label and by name, and `nodeName`. In: a cluster.
//! Out: the same with labels to select by, and a pod that selects.

use serde_json::{Value, json};

use super::{cluster::World, draw::Draw};

const NUMBERS: [&str; 6] = ["1", "2", "10", "-3", "many", ""];

pub fn dress(draw: &mut Draw, world: &mut World) {
    for node in &mut world.nodes {
        label_node(draw, node);
    }
    let names = world.nodes.len();
    let spec = &mut world.asked["spec"];
    if draw.chance(30) {
        let (key, value) = draw.pick(&[("disk", "ssd"), ("disk", "hdd"), ("gpu", ""), ("rank", "2"), ("nowhere", "x")]);
        spec["nodeSelector"] = json!({key: value});
    }
    let required = draw.maybe(60, |draw| json!({"nodeSelectorTerms": draw.list(1, 3, |draw| term(draw, names))}));
    let preferred = draw.maybe(60, |draw| draw.list(1, 4, |draw| json!({"weight": draw.between(1, 100), "preference": label_term(draw)})));
    if required.is_some() || preferred.is_some() {
        spec["affinity"]["nodeAffinity"] = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": required, "preferredDuringSchedulingIgnoredDuringExecution": preferred,
        });
    }
    if draw.chance(8) {
        spec["nodeName"] = format!("n{:02}", draw.index(names + 1)).into();
    }
}

fn label_node(draw: &mut Draw, node: &mut Value) {
    for (key, values) in [("disk", &["ssd", "hdd"][..]), ("gpu", &["", "h100"][..]), ("rank", &NUMBERS[..])] {
        if draw.chance(60) {
            node["metadata"]["labels"][key] = draw.pick(values).into();
        }
    }
}

/// A term of labels, of names, or of both; empty ones match nothing.
fn term(draw: &mut Draw, names: usize) -> Value {
    let fields = draw.maybe(25, |draw| draw.list(1, 2, |draw| by_name(draw, names)));
    let mut term = if fields.is_some() && draw.chance(70) { json!({}) } else { label_term(draw) };
    term["matchFields"] = json!(fields);
    term
}

fn label_term(draw: &mut Draw) -> Value {
    match draw.between(0, 19) {
        0 => json!({}),
        1 => json!({"matchExpressions": []}),
        _ => json!({"matchExpressions": draw.list(1, 2, expression)}),
    }
}

fn by_name(draw: &mut Draw, names: usize) -> Value {
    let name = format!("n{:02}", draw.index(names + 1));
    json!({"key": "metadata.name", "operator": draw.pick(&["In", "In", "In", "NotIn"]), "values": [name]})
}

fn expression(draw: &mut Draw) -> Value {
    let (key, values) = draw.pick(&[("disk", &["ssd", "hdd", "tape"][..]), ("gpu", &["", "h100"][..]), ("rank", &NUMBERS[..])]);
    let operator = draw.pick(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]);
    let values = match operator {
        "In" | "NotIn" => Some(draw.list(1, 3, |draw| draw.pick(values))),
        "Gt" | "Lt" => Some(vec![if draw.chance(90) { draw.pick(&["0", "1", "5", "-4"]) } else { "five" }]),
        _ => None,
    };
    json!({"key": if draw.chance(60) && matches!(operator, "Gt" | "Lt") { "rank" } else { key }, "operator": operator, "values": values})
}

//! Pods that want to be near pods, or far from them. In: a cluster. Out: the same with terms of every form, at the pod that is asked about and at those
//! that run.

use serde_json::{Value, json};

use super::{
    cluster::{HOSTNAME, NAMESPACES, World, ZONE},
    draw::Draw,
    spread::selector,
};

pub fn dress(draw: &mut Draw, world: &mut World) {
    for name in draw.some(85, &NAMESPACES) {
        let labels = draw.maybe(70, |draw| json!({"team": draw.pick(&["red", "blue"])}));
        world.others.push(json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}}));
    }
    for pod in &mut world.pods {
        if draw.chance(40) {
            wish(draw, pod);
        }
    }
    if draw.chance(80) {
        wish(draw, &mut world.asked);
    }
}

fn wish(draw: &mut Draw, pod: &mut Value) {
    let own = pod["metadata"]["labels"].clone();
    for (field, required_chance) in [("podAffinity", 40), ("podAntiAffinity", 40)] {
        let required = draw.maybe(required_chance, |draw| draw.list(1, 2, |draw| term(draw, &own)));
        let preferred =
            draw.maybe(40, |draw| draw.list(1, 3, |draw| json!({"weight": draw.between(1, 100), "podAffinityTerm": term(draw, &own)})));
        if required.is_some() || preferred.is_some() {
            pod["spec"]["affinity"][field] = json!({
                "requiredDuringSchedulingIgnoredDuringExecution": required, "preferredDuringSchedulingIgnoredDuringExecution": preferred,
            });
        }
    }
}

fn term(draw: &mut Draw, own: &Value) -> Value {
    let namespace_selector = draw.maybe(35, |draw| match draw.between(0, 3) {
        0 => json!({}),
        1 => json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}),
        _ => json!({"matchLabels": {"team": draw.pick(&["red", "blue"])}}),
    });
    let mut term = json!({
        "topologyKey": draw.pick(&[ZONE, ZONE, HOSTNAME, "rack", "nowhere"]),
        "labelSelector": selector(draw),
        "namespaces": draw.maybe(30, |draw| draw.some(60, &NAMESPACES)),
        "namespaceSelector": namespace_selector,
    });
    if draw.chance(15) {
        merge_label_key(draw, &mut term, own);
    }
    term
}

/// `matchLabelKeys` as the API server leaves them: merged into the selector, with the pod's own value.
fn merge_label_key(draw: &mut Draw, term: &mut Value, own: &Value) {
    let (Some(value), false) = (own.get("app").cloned(), term["labelSelector"].is_null()) else { return };
    let (field, operator) = draw.pick(&[("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")]);
    term[field] = json!(["app"]);
    let expressions = super::cluster::list_at(term, &["labelSelector", "matchExpressions"]);
    expressions.push(json!({"key": "app", "operator": operator, "values": [value]}));
}

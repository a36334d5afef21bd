//! What a pod's `matchLabelKeys` and `mismatchLabelKeys` stand for: a pod as it is created in; requirements in its selectors, with the pod's own labels, out.
//!
//! Source: `pkg/registry/core/pod/strategy.go` v1.37. An absent selector goes on matching nothing.

use serde_json::{Value, json};

/// Adds the requirements to every affinity term and topology spread constraint.
pub(super) fn merge(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    for side in ["podAffinity", "podAntiAffinity"] {
        for term in list(spec.pointer_mut(&format!("/affinity/{side}/requiredDuringSchedulingIgnoredDuringExecution"))) {
            merge_into(term, &labels);
        }
        for term in list(spec.pointer_mut(&format!("/affinity/{side}/preferredDuringSchedulingIgnoredDuringExecution"))) {
            merge_into(&mut term["podAffinityTerm"], &labels);
        }
    }
    for constraint in list(spec.get_mut("topologySpreadConstraints")) {
        merge_into(constraint, &labels);
    }
}

fn list(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

fn merge_into(term: &mut Value, labels: &Value) {
    if !term["labelSelector"].is_object() {
        return;
    }
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<String> = term[field].as_array().into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)).collect();
        for key in keys {
            let Some(value) = labels.get(&key) else { continue };
            let requirement = json!({"key": key, "operator": operator, "values": [value]});
            match term["labelSelector"]["matchExpressions"].as_array_mut() {
                Some(expressions) => expressions.push(requirement),
                None => term["labelSelector"]["matchExpressions"] = json!([requirement]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_requirements_with_the_pods_labels() {
        let term = json!({"topologyKey": "zone", "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"],
            "labelSelector": {"matchExpressions": [{"key": "tenant", "operator": "Exists"}]}});
        let mut pod = json!({
            "metadata": {"labels": {"hash": "1", "tenant": "a"}},
            "spec": {
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}},
                "topologySpreadConstraints": [{"matchLabelKeys": ["hash"], "labelSelector": {}}, {"matchLabelKeys": ["hash"]}],
            },
        });
        merge(&mut pod);
        let merged = &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        let want = json!([
            {"key": "tenant", "operator": "Exists"},
            {"key": "hash", "operator": "In", "values": ["1"]},
            {"key": "tenant", "operator": "NotIn", "values": ["a"]},
        ]);
        assert_eq!(merged["labelSelector"]["matchExpressions"], want);
        let spread = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(spread[0]["labelSelector"], json!({"matchExpressions": [{"key": "hash", "operator": "In", "values": ["1"]}]}));
        assert_eq!(spread[1], json!({"matchLabelKeys": ["hash"]}));
    }
}

//! Strategic merge patch. In: an object and a patch. Out: the object with lists merged by their keys and `$patch`, `$retainKeys`,
//! `$setElementOrder/...` and `$deleteFromPrimitiveList/...` directives obeyed.
//!
//! Upstream finds merge keys in Go struct tags; here they are the table below, by field name. A list that is not in it is replaced.

use serde_json::{Map, Value};

use super::status::ApiError;

/// Field name and merge key. `ports` is the one name with two keys: containers merge by containerPort, services by port.
const MERGE_KEYS: &[(&str, &str)] = &[
    ("conditions", "type"),
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("hostIPs", "ip"),
    ("podIPs", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("schedulingGates", "name"),
    ("resourceClaims", "name"),
    ("resourceClaimStatuses", "name"),
    ("ownerReferences", "uid"),
    ("addresses", "type"),
    ("secrets", "name"),
];

/// Lists of plain values that merge as sets.
const PRIMITIVE_SETS: &[&str] = &["finalizers", "podCIDRs"];

fn merge_key(field: &str, items: &[Value]) -> Option<&'static str> {
    if field == "ports" {
        let by_container = items.iter().any(|item| item.get("containerPort").is_some());
        return Some(if by_container { "containerPort" } else { "port" });
    }
    MERGE_KEYS.iter().find(|(known, _)| *known == field).map(|(_, key)| *key)
}

/// Applies `patch` to `target`.
pub(super) fn merge(target: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Some(patch) = patch.as_object() else { return Err(ApiError::bad_request("a strategic merge patch has to be an object")) };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let kept = patch.iter().filter(|(name, _)| !name.starts_with('$')).map(|(name, value)| (name.clone(), value.clone()));
            *target = Value::Object(kept.collect());
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Null;
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(ApiError::plain(500, "", format!("unknown patch type found: {other}"))),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return Ok(()) };
    retain_keys(fields, patch);
    delete_from_sets(fields, patch);
    for (name, change) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        merge_field(fields, name, change)?;
    }
    order_elements(fields, patch)
}

fn merge_field(fields: &mut Map<String, Value>, name: &str, change: &Value) -> Result<(), ApiError> {
    match change {
        Value::Null => {
            fields.shift_remove(name);
        }
        Value::Object(_) => {
            let entry = fields.entry(name).or_insert(Value::Null);
            merge(entry, change)?;
            if entry.is_null() {
                fields.shift_remove(name);
            }
        }
        Value::Array(changes) => {
            let entry = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(entry, name, changes)?;
        }
        plain => {
            fields.insert(name.to_string(), plain.clone());
        }
    }
    Ok(())
}

fn merge_list(entry: &mut Value, name: &str, changes: &[Value]) -> Result<(), ApiError> {
    let present = entry.as_array().cloned().unwrap_or_default();
    let replaces = changes.iter().any(|change| change["$patch"] == "replace");
    let plain: Vec<Value> = changes.iter().filter(|change| change["$patch"] != "replace").cloned().collect();
    if PRIMITIVE_SETS.contains(&name) && !replaces {
        let added = plain.iter().filter(|value| !present.contains(value));
        let merged = present.iter().chain(added).cloned().collect();
        *entry = Value::Array(in_patch_order(merged, &plain, &present, Value::clone));
        return Ok(());
    }
    match merge_key(name, if plain.is_empty() { &present } else { &plain }) {
        Some(key) if !replaces => *entry = Value::Array(merge_keyed(&present, key, &plain)?),
        _ => *entry = Value::Array(plain.iter().map(strip_directives).collect()),
    }
    Ok(())
}

fn merge_keyed(present: &[Value], key: &str, changes: &[Value]) -> Result<Vec<Value>, ApiError> {
    let mut items = present.to_vec();
    for change in changes {
        let Some(wanted) = change.get(key) else {
            let text = format!("map: {change} does not contain declared merge key: {key}");
            return Err(ApiError::plain(500, "", text));
        };
        let at = items.iter().position(|item| item.get(key) == Some(wanted));
        match (change["$patch"].as_str(), at) {
            (Some("delete"), Some(_)) => items.retain(|item| item.get(key) != Some(wanted)),
            (Some("delete"), None) => {}
            (_, Some(at)) => merge(&mut items[at], change)?,
            (_, None) => {
                let mut added = Value::Object(Map::new());
                merge(&mut added, change)?;
                items.push(added);
            }
        }
    }
    let identity = |item: &Value| item.get(key).cloned().unwrap_or_default();
    Ok(in_patch_order(items, changes, present, identity))
}

/// Upstream's `normalizeElementOrder`: elements that the patch names in its order, the others in theirs; of two heads the patched one goes first unless both
/// were there before and stood the other way round.
fn in_patch_order(items: Vec<Value>, patch: &[Value], before: &[Value], identity: impl Fn(&Value) -> Value) -> Vec<Value> {
    let rank = |list: &[Value], item: &Value| list.iter().position(|other| identity(other) == identity(item));
    let (mut patched, others): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| rank(patch, item).is_some());
    patched.sort_by_key(|item| rank(patch, item));
    let (mut patched, mut others) = (patched.into_iter().peekable(), others.into_iter().peekable());
    let mut merged = Vec::new();
    while let (Some(left), Some(right)) = (others.peek(), patched.peek()) {
        let left_first = matches!((rank(before, left), rank(before, right)), (Some(left), Some(right)) if left < right);
        merged.extend(if left_first { others.next() } else { patched.next() });
    }
    merged.extend(others);
    merged.extend(patched);
    merged
}

fn strip_directives(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !name.starts_with('$'));
            Value::Object(kept.map(|(name, value)| (name.clone(), strip_directives(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(strip_directives).collect()),
        plain => plain.clone(),
    }
}

/// `$retainKeys`: fields not named go (volumes, deployment strategies).
fn retain_keys(fields: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(Value::Array(kept)) = patch.get("$retainKeys") {
        fields.retain(|name, _| kept.iter().any(|known| known == name));
    }
}

fn delete_from_sets(fields: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, gone) in patch.iter().filter_map(|(name, gone)| Some((name.strip_prefix("$deleteFromPrimitiveList/")?, gone.as_array()?))) {
        if let Some(Value::Array(items)) = fields.get_mut(name) {
            items.retain(|item| !gone.contains(item));
        }
    }
}

/// `$setElementOrder/LIST`: the order that the patch wants for elements it may not have touched.
fn order_elements(fields: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, order) in patch.iter().filter_map(|(name, order)| Some((name.strip_prefix("$setElementOrder/")?, order.as_array()?))) {
        let Some(Value::Array(items)) = fields.get_mut(name) else { continue };
        let key = merge_key(name, items);
        if let Some(Value::Array(changes)) = patch.get(name) {
            check_order(changes, order, key)?;
        }
        let identity = |item: &Value| key.and_then(|key| item.get(key)).unwrap_or(item).clone();
        let before = items.clone();
        *items = in_patch_order(std::mem::take(items), order, &before, identity);
    }
    Ok(())
}

/// The patch's own elements have to stand in the order that it asks for.
fn check_order(changes: &[Value], order: &[Value], key: Option<&str>) -> Result<(), ApiError> {
    let identity = |item: &Value| key.and_then(|key| item.get(key)).unwrap_or(item).clone();
    let kept = changes.iter().filter(|change| change["$patch"].is_null());
    let ranks: Vec<Option<usize>> = kept.map(|change| order.iter().position(|wanted| identity(wanted) == identity(change))).collect();
    if ranks.is_sorted() && ranks.iter().all(Option::is_some) {
        return Ok(());
    }
    let (changes, order) = (Value::from(changes), Value::from(order));
    Err(ApiError::plain(500, "", format!("The order in patch list:\n{changes}\n doesn't match $setElementOrder list:\n{order}\n")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules() {
        let table = [
            (
                "a condition is replaced by type",
                json!({"conditions": [{"type": "A", "status": "False", "reason": "x"}, {"type": "B", "status": "True"}]}),
                json!({"conditions": [{"type": "A", "status": "True", "reason": null}]}),
                json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}),
            ),
            (
                "an element is deleted",
                json!({"containers": [{"name": "a"}, {"name": "b"}]}),
                json!({"containers": [{"name": "a", "$patch": "delete"}]}),
                json!({"containers": [{"name": "b"}]}),
            ),
            (
                "a keyed list is replaced",
                json!({"containers": [{"name": "a"}]}),
                json!({"containers": [{"$patch": "replace"}, {"name": "b"}]}),
                json!({"containers": [{"name": "b"}]}),
            ),
            (
                "an atomic list is replaced",
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "b"}]}),
                json!({"tolerations": [{"key": "b"}]}),
            ),
            ("taints are atomic", json!({"taints": [{"key": "a"}]}), json!({"taints": [{"key": "b"}]}), json!({"taints": [{"key": "b"}]})),
            (
                "a set grows, named values first",
                json!({"finalizers": ["a"]}),
                json!({"finalizers": ["b", "a"]}),
                json!({"finalizers": ["b", "a"]}),
            ),
            (
                "a set shrinks",
                json!({"finalizers": ["a", "b"]}),
                json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
                json!({"finalizers": ["b"]}),
            ),
            (
                "a map is replaced",
                json!({"labels": {"a": "1"}}),
                json!({"labels": {"$patch": "replace", "b": "2"}}),
                json!({"labels": {"b": "2"}}),
            ),
            (
                "keys are retained",
                json!({"strategy": {"type": "R", "rollingUpdate": {}}}),
                json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
                json!({"strategy": {"type": "Recreate"}}),
            ),
            (
                "an order is set",
                json!({"env": [{"name": "a"}, {"name": "b"}]}),
                json!({"$setElementOrder/env": [{"name": "b"}, {"name": "a"}]}),
                json!({"env": [{"name": "b"}, {"name": "a"}]}),
            ),
            ("null removes", json!({"a": 1, "b": {"c": 1}}), json!({"a": null, "b": {"c": null}}), json!({"b": {}})),
        ];
        for (rule, mut object, patch, wanted) in table {
            assert_eq!(merge(&mut object, &patch), Ok(()), "{rule}");
            assert_eq!(object, wanted, "{rule}");
        }
    }

    #[test]
    fn an_element_without_its_key_is_refused() {
        assert!(merge(&mut json!({}), &json!({"containers": [{"image": "x"}]})).is_err());
    }
}

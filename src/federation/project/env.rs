//! Environment variables. In: `env` and `envFrom` of a container. Out: one list: configuration by reference into the bundles, never as text in the run; facts
//! about the home pod as text, since nobody over there knows them.

use serde_json::{Map, Value, json};

use super::{Kind, Obstacle, Travel, bundle::keys_of, fields};

/// The sources of a value.
const SOURCES: fields::Fields = fields::Fields { kept: &["resourceFieldRef"], handled: &["configMapKeyRef", "secretKeyRef", "fieldRef"] };
const FROM: fields::Fields = fields::Fields { kept: &[], handled: &["prefix", "configMapRef", "secretRef"] };
/// Facts that are the run's own.
const LOCAL_FIELDS: [&str; 5] = ["spec.nodeName", "status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs"];

pub(super) fn variables(travel: &mut Travel<'_>, container: &Map<String, Value>, path: &str) -> Result<Vec<Value>, Obstacle> {
    let mut list: Vec<Value> = Vec::new();
    for (source, path) in fields::objects(container, "envFrom", path)? {
        for variable in all_of(travel, source, &path)? {
            // Of equal names the last one counts.
            list.retain(|before| before["name"] != variable["name"]);
            list.push(variable);
        }
    }
    for (variable, path) in fields::objects(container, "env", path)? {
        list.extend(one(travel, variable, &path)?);
    }
    Ok(list)
}

fn all_of(travel: &mut Travel<'_>, source: &Map<String, Value>, path: &str) -> Result<Vec<Value>, Obstacle> {
    FROM.copy(source, path)?;
    let prefix = source.get("prefix").and_then(Value::as_str).unwrap_or_default();
    let mut list = Vec::new();
    for (kind, field) in [(Kind::ConfigMap, "configMapRef"), (Kind::Secret, "secretRef")] {
        let Some(reference) = source.get(field).filter(|value| !value.is_null()) else { continue };
        let (reference, path) = fields::object(reference, format!("{path}.{field}"))?;
        let name = fields::text(reference, "name", &path)?;
        let Some(object) = travel.bundles.source(kind, name, fields::is_on(reference, "optional"), &path)? else { continue };
        for key in keys_of(object) {
            let variable = format!("{prefix}{key}");
            if !is_name(&variable) {
                continue;
            }
            if let Some(place) = travel.bundles.key(kind, name, key, object) {
                list.push(json!({ "name": variable, "valueFrom": { "secretKeyRef": { "name": place.secret, "key": place.key } } }));
            }
        }
    }
    Ok(list)
}

/// As kubelets judge keys: others are passed over.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && name != "." && !name.starts_with("..")
}

fn one(travel: &mut Travel<'_>, variable: &Map<String, Value>, path: &str) -> Result<Option<Value>, Obstacle> {
    let name = fields::text(variable, "name", path)?;
    fields::Fields { kept: &["name", "value"], handled: &["valueFrom"] }.copy(variable, path)?;
    let Some(from) = variable.get("valueFrom").filter(|from| !from.is_null()) else { return Ok(Some(Value::Object(variable.clone()))) };
    let (from, path) = fields::object(from, format!("{path}.valueFrom"))?;
    let mut kept = SOURCES.copy(from, &path)?;
    for (kind, field) in [(Kind::ConfigMap, "configMapKeyRef"), (Kind::Secret, "secretKeyRef")] {
        let Some(reference) = from.get(field).filter(|value| !value.is_null()) else { continue };
        let (reference, path) = fields::object(reference, format!("{path}.{field}"))?;
        let (object, key) = (fields::text(reference, "name", &path)?, fields::text(reference, "key", &path)?);
        let optional = fields::is_on(reference, "optional");
        let Some(source) = travel.bundles.source(kind, object, optional, &path)? else { return Ok(None) };
        match travel.bundles.key(kind, object, key, source) {
            Some(place) => kept.insert("secretKeyRef".to_owned(), json!({ "name": place.secret, "key": place.key })),
            None if optional => return Ok(None),
            None => return Err(Obstacle::missing(&path, format!("{object} has no key {key}"))),
        };
    }
    if let Some(reference) = from.get("fieldRef").filter(|value| !value.is_null()) {
        let (reference, path) = fields::object(reference, format!("{path}.fieldRef"))?;
        let field = fields::text(reference, "fieldPath", &path)?;
        if LOCAL_FIELDS.contains(&field) {
            kept.insert("fieldRef".to_owned(), json!({ "fieldPath": field }));
        } else {
            let text =
                field_of_home(travel.home, field).ok_or_else(|| Obstacle::field(&path, format!("{field} cannot be told over there")))?;
            // A reference is taken as it is; a text would be searched for `$(VARIABLE)`.
            return Ok(Some(json!({ "name": name, "value": text.replace('$', "$$") })));
        }
    }
    Ok(Some(json!({ "name": name, "valueFrom": kept })))
}

/// A field of the home pod as the downward API gives it; `None` for one that is not known.
pub(super) fn field_of_home(home: &Value, field: &str) -> Option<String> {
    let metadata = &home["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match field {
        "metadata.name" => Some(text(&metadata["name"])),
        "metadata.namespace" => Some(text(&metadata["namespace"])),
        "metadata.uid" => Some(text(&metadata["uid"])),
        "spec.serviceAccountName" => Some(text(&home["spec"]["serviceAccountName"])),
        "metadata.labels" => Some(lines(&metadata["labels"])),
        "metadata.annotations" => Some(lines(&metadata["annotations"])),
        _ => {
            let (map, key) = field.strip_prefix("metadata.")?.split_once("['")?;
            matches!(map, "labels" | "annotations").then(|| text(&metadata[map][key.strip_suffix("']").unwrap_or(key)]))
        }
    }
}

/// A map in the downward API's form, without what is ours or kubectl's.
fn lines(map: &Value) -> String {
    let ours = |key: &str| key.starts_with("isobar.dev/") || key.starts_with("kubectl.kubernetes.io/");
    let mut lines: Vec<String> = Vec::new();
    for (key, value) in map.as_object().into_iter().flatten().filter(|(key, _)| !ours(key)) {
        lines.push(format!("{key}={}", Value::from(value.as_str().unwrap_or_default())));
    }
    lines.sort_unstable();
    lines.join("\n")
}

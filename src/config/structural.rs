//! Schemas as the API server wants them. In: our structs. Out: the structural subset of JSON schema, and the definitions of our kinds around it.
//!
//! Structural schemas are narrower than what `schemars` makes: no references, no null types, enums without alternatives, nothing said by `additionalProperties:
//! false`. Everything that a rule looks at is bounded, as the API server refuses rules whose cost it cannot bound.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// Bounds of everything that has none of its own.
const TEXT_CHARS_MAX: u32 = 253;
const ITEMS_MAX: u32 = 64;

/// Go's spans of time, or nothing.
pub const SPAN: &str = r"^(([0-9]+(\.[0-9]+)?(ms|s|m|h))+)?$";

/// Group of our kinds.
pub const GROUP: &str = "isobar.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";

/// The manifest that defines one of our kinds: its names, where it lives, what lists show of it, and the schema of an object.
pub fn definition(names: &Value, scope: &str, columns: &Value, schema: &Value) -> Value {
    let plural = names["plural"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{GROUP}"),
            "labels": {"app.kubernetes.io/name": "isobar", "app.kubernetes.io/part-of": "isobar"},
        },
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": names,
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// A struct's schema without references, in the structural subset.
pub fn schema_of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    narrow(&mut schema);
    schema
}

/// Takes away what the structural subset does not have, and says the rest as it wants it.
fn narrow(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for key in ["$schema", "title", "default"] {
        fields.shift_remove(key);
    }
    one_type(fields);
    some_alternative(fields);
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        fields.shift_remove("additionalProperties");
    }
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        fields.shift_remove("format");
    }
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = fields.get_mut(key) {
            properties.values_mut().for_each(narrow);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            narrow(inner);
        }
    }
}

/// `["string", "null"]` is a string that may be absent.
fn one_type(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get("type")
        && let Some(one) = types.iter().find(|one| *one != "null").cloned()
    {
        fields.insert("type".to_owned(), one);
    }
}

/// Alternatives of constants are an enum; one alternative beside null is itself.
fn some_alternative(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(alternatives)) = fields.shift_remove("anyOf")
        && let Some(Value::Object(mut one)) = alternatives.into_iter().find(|one| one["type"] != "null")
    {
        if fields.contains_key("description") {
            one.shift_remove("description");
        }
        fields.extend(one);
        one_type(fields);
    }
    if let Some(Value::Array(alternatives)) = fields.shift_remove("oneOf") {
        let constants = alternatives.iter().flat_map(|one| match &one["const"] {
            Value::Null => one["enum"].as_array().cloned().unwrap_or_default(),
            constant => vec![constant.clone()],
        });
        fields.insert("enum".to_owned(), constants.collect());
        fields.insert("type".to_owned(), json!("string"));
    }
}

/// Bounds texts, lists and maps that have no bounds of their own.
pub fn bound(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "string" if !fields.contains_key("enum") => {
            fields.entry("maxLength").or_insert(TEXT_CHARS_MAX.into());
        }
        "array" => {
            fields.entry("maxItems").or_insert(ITEMS_MAX.into());
        }
        "object" if fields.contains_key("additionalProperties") => {
            fields.entry("maxProperties").or_insert(ITEMS_MAX.into());
        }
        _ => {}
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(bound);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            bound(inner);
        }
    }
}

/// Sets a key of the schema at a place, which is there: a test looks for each.
pub fn set(schema: &mut Value, place: &str, key: &str, value: &Value) {
    if let Some(Value::Object(fields)) = schema.pointer_mut(place) {
        fields.insert(key.to_owned(), value.clone());
    }
}

/// Panics unless the schema of an object, of so many schemas at least, keeps to the structural subset.
#[cfg(test)]
pub fn assert_structural(schema: &Value, more_than: usize) {
    let mut found = Vec::new();
    walk(schema, "", &mut found);
    assert!(found.len() > more_than, "{}", found.len());
    for (place, schema) in found {
        assert!(schema["type"].is_string(), "{place} has no type: {schema}");
        for forbidden in ["$ref", "$schema", "oneOf", "anyOf", "allOf", "title", "const"] {
            assert!(schema.get(forbidden).is_none(), "{place} has {forbidden}: {schema}");
        }
        assert_ne!(schema["additionalProperties"], false, "{place}");
    }
}

/// Every schema of the tree with its place.
#[cfg(test)]
fn walk(schema: &Value, place: &str, found: &mut Vec<(String, Value)>) {
    found.push((place.to_owned(), schema.clone()));
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &format!("{place}.{name}"), found);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&schema[key], &format!("{place}[]"), found);
        }
    }
}

//! The definition of `ComputeCluster`, made of the structs. In: their schemas. Out: the manifest, as committed in `manifests/crds/`; a test holds it current.
//!
//! Structural schemas are narrower than what `schemars` makes: no references, no null types, enums without alternatives, nothing said by `additionalProperties:
//! false`. Everything that a rule looks at is bounded, as the API server refuses rules whose cost it cannot bound.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::object::{ComputeClusterStatus, GROUP, KIND, PLURAL, VERSION};
use crate::federation::spec::ComputeClusterSpec;

/// Bounds of everything in a spec that has none of its own.
const TEXT_CHARS_MAX: u32 = 253;
const ITEMS_MAX: u32 = 64;

/// Go's spans of time, or nothing.
const SPAN: &str = r"^(([0-9]+(\.[0-9]+)?(ms|s|m|h))+)?$";
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const QUANTITY: &str = r"^\+?[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?$";

/// The manifest.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{PLURAL}.{GROUP}"),
            "labels": {"app.kubernetes.io/name": "isobar", "app.kubernetes.io/part-of": "isobar"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {"kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL, "singular": KIND.to_lowercase(), "shortNames": ["cc"]},
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(),
                "schema": {"openAPIV3Schema": schema()},
            }],
        },
    })
}

/// The manifest as text, as committed.
pub fn text() -> Result<String, serde_saphyr::ser_error::Error> {
    let yaml = serde_saphyr::to_string(&definition())?;
    Ok(format!(
        "# Generated from src/federation/spec.rs and src/kubernetes/cluster/{{object,crd}}.rs: change it there, then run\n\
         # `ISOBAR_UPDATE=1 cargo test --test suite compute_cluster`.\n{yaml}"
    ))
}

fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let ready = |field: &str| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
    json!([
        column("State", "string", ".spec.state"),
        column("Ready", "string", &ready("status")),
        column("Nodes", "integer", ".status.nodes"),
        column("Runs", "integer", ".status.runs.active"),
        column("Version", "string", ".status.serverVersion"),
        column("Age", "date", ".metadata.creationTimestamp"),
        column("Reason", "string", &ready("reason")),
    ])
}

fn schema() -> Value {
    let mut spec = schema_of::<ComputeClusterSpec>();
    bound(&mut spec);
    refine(&mut spec);
    json!({
        "type": "object",
        "description": "A cluster that Isobar places pods on, beside its own.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": schema_of::<ComputeClusterStatus>(),
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
                "message": "the name is part of names and labels: a lower-case letter, then at most 39 letters, digits and inner hyphens",
            },
            {"rule": "self.metadata.name != 'home'", "message": "home stands for the home cluster: choose another name"},
        ],
    })
}

/// A struct's schema without references, in the structural subset.
fn schema_of<T: JsonSchema>() -> Value {
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

/// Bounds texts, lists and maps.
fn bound(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "string" if !fields.contains_key("enum") => drop(fields.insert("maxLength".to_owned(), TEXT_CHARS_MAX.into())),
        "array" => drop(fields.insert("maxItems".to_owned(), ITEMS_MAX.into())),
        "object" if fields.contains_key("additionalProperties") => drop(fields.insert("maxProperties".to_owned(), ITEMS_MAX.into())),
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

/// What the structs cannot say.
fn refine(spec: &mut Value) {
    spec["required"] = json!(["access"]);
    set(spec, "/properties/state", "default", &json!("Active"));
    set(spec, "/properties/access", "required", &json!(["kubeconfigSecretRef"]));
    let reference = "/properties/access/properties/kubeconfigSecretRef";
    set(spec, reference, "required", &json!(["namespace", "name"]));
    for field in ["namespace", "name"] {
        set(spec, &format!("{reference}/properties/{field}"), "minLength", &json!(1));
    }
    set(spec, &format!("{reference}/properties/key"), "default", &json!("kubeconfig"));
    set(spec, "/properties/runNamespace", "maxLength", &json!(63));
    set(spec, "/properties/runNamespace", "pattern", &json!(DNS_LABEL));
    for span in ["drain/properties/deadline", "lost/properties/notReadyAfter", "lost/properties/evictAfter", "lost/properties/forgetAfter"]
    {
        set(spec, &format!("/properties/{span}"), "pattern", &json!(SPAN));
        set(spec, &format!("/properties/{span}"), "maxLength", &json!(32));
    }
    for list in ["reserve", "resourceCap"] {
        set(spec, &format!("/properties/{list}/additionalProperties"), "pattern", &json!(QUANTITY));
    }
    refine_volumes(spec);
    spec["x-kubernetes-validations"] = json!([{
        "rule": "has(self.runNamespace) == has(oldSelf.runNamespace) && (!has(self.runNamespace) || self.runNamespace == oldSelf.runNamespace)",
        "message": "runNamespace cannot be changed: runs are in it; remove the cluster and add it again",
    }]);
}

fn refine_volumes(spec: &mut Value) {
    let rule = "/properties/volumes/items";
    let source = format!("{rule}/properties/source");
    set(spec, rule, "required", &json!(["source"]));
    set(
        spec,
        &source,
        "x-kubernetes-validations",
        &json!([{
            "rule": "(has(self.nfs) ? 1 : 0) + (has(self.csi) ? 1 : 0) + (has(self.claim) ? 1 : 0) == 1",
            "message": "a volume's source is exactly one of nfs, csi and claim",
        }]),
    );
    for (kind, fields) in [("nfs", &["server", "path"][..]), ("csi", &["driver"]), ("claim", &["name"])] {
        let kind = format!("{source}/properties/{kind}");
        set(spec, &kind, "required", &json!(fields));
        for field in fields {
            set(spec, &format!("{kind}/properties/{field}"), "minLength", &json!(1));
        }
    }
    let path = format!("{source}/properties/nfs/properties/path");
    set(spec, &path, "pattern", &json!("^/"));
    set(spec, &path, "maxLength", &json!(4096));
    set(spec, &format!("{source}/properties/csi/properties/volumeAttributes/additionalProperties"), "maxLength", &json!(4096));
}

/// Sets a key of the schema at a place, which is there: a test looks for each.
fn set(schema: &mut Value, place: &str, key: &str, value: &Value) {
    if let Some(Value::Object(fields)) = schema.pointer_mut(place) {
        fields.insert(key.to_owned(), value.clone());
    }
}

#[cfg(test)]
#[path = "crd_tests.rs"]
mod tests;

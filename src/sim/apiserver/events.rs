//! Events have two API groups and one store. In: an event in one form. Out: the same event in the other. The stored form is core/v1.

use serde_json::{Map, Value, json};

/// core/v1 name, events.k8s.io/v1 name.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// As events.k8s.io/v1.
pub fn to_events_v1(core: &Value) -> Value {
    let mut renamed = rename(core, |name| RENAMED.iter().find(|(core, _)| *core == name).map(|(_, events)| *events));
    renamed["apiVersion"] = "events.k8s.io/v1".into();
    // What core/v1 prints even when empty, and events.k8s.io/v1 does not.
    for name in ["reportingController", "reportingInstance"] {
        if renamed[name] == "" {
            remove(&mut renamed, name);
        }
    }
    renamed
}

/// As core/v1, the stored form.
pub fn to_core(events: &Value) -> Value {
    let mut renamed = rename(events, |name| RENAMED.iter().find(|(_, events)| *events == name).map(|(core, _)| *core));
    renamed["apiVersion"] = "v1".into();
    renamed
}

fn rename(object: &Value, new_name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let fields = object.as_object().into_iter().flatten();
    let renamed: Map<String, Value> =
        fields.map(|(name, value)| (new_name(name).map_or_else(|| name.clone(), str::to_string), value.clone())).collect();
    Value::Object(renamed)
}

fn remove(object: &mut Value, name: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove(name);
    }
}

/// Fields that core/v1 events print even when nobody set them.
pub fn fill_core_event(event: &mut Value) {
    let empty = [
        ("involvedObject", json!({})),
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("eventTime", Value::Null),
        ("reportingComponent", json!("")),
        ("reportingInstance", json!("")),
    ];
    let Some(fields) = event.as_object_mut() else { return };
    for (name, value) in empty {
        fields.entry(name).or_insert(value);
    }
}

//! Lists of what may travel. In: a JSON object and such a list. Out: the copy, or the first field that is not on it.

use serde_json::{Map, Value};

use super::Obstacle;

/// What becomes of the fields of one kind of object.
pub(super) struct Fields {
    /// Copied as they are.
    pub kept: &'static [&'static str],
    /// Somebody else makes something of them, or nothing.
    pub handled: &'static [&'static str],
}

impl Fields {
    /// The kept fields. Whatever is neither kept nor handled is refused by name.
    pub fn copy(&self, object: &Map<String, Value>, path: &str) -> Result<Map<String, Value>, Obstacle> {
        let mut copy = Map::new();
        for (field, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            if self.kept.contains(&field.as_str()) {
                copy.insert(field.clone(), value.clone());
            } else if !self.handled.contains(&field.as_str()) {
                return Err(Obstacle::field(format!("{path}.{field}"), "is not known to this version and is not dropped silently"));
            }
        }
        Ok(copy)
    }
}

/// An object and its path.
pub(super) type Located<'a> = (&'a Map<String, Value>, String);

/// A list of objects; absent is empty.
pub(super) fn objects<'a>(of: &'a Map<String, Value>, field: &str, path: &str) -> Result<Vec<Located<'a>>, Obstacle> {
    let path = format!("{path}.{field}");
    match of.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().enumerate().map(|(at, item)| object(item, format!("{path}[{at}]"))).collect(),
        Some(_) => Err(Obstacle::field(path, "must be a list")),
    }
}

/// An object with its path.
pub(super) fn object(value: &Value, path: String) -> Result<(&Map<String, Value>, String), Obstacle> {
    match value {
        Value::Object(map) => Ok((map, path)),
        _ => Err(Obstacle::field(path, "must be an object")),
    }
}

/// A text that must be there.
pub(super) fn text<'a>(of: &'a Map<String, Value>, field: &str, path: &str) -> Result<&'a str, Obstacle> {
    let found = of.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.ok_or_else(|| Obstacle::field(format!("{path}.{field}"), "must be a text"))
}

/// Whether a switch is on.
pub(super) fn is_on(of: &Map<String, Value>, field: &str) -> bool {
    of.get(field).and_then(Value::as_bool) == Some(true)
}

/// Whether anything is said: not null, empty or zero.
pub(super) fn says(of: &Map<String, Value>, field: &str) -> bool {
    of.get(field).is_some_and(|value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_i64() != Some(0),
    })
}

//! Label and field selectors of lists, watches and collection deletes. In: the query's text and what an object offers. Out: match or not,
//! or upstream's 400 for a selector that does not parse or a field that cannot be selected.

use serde_json::Value;

use super::resources::{Behaviour, ResourceType, TableId};
use super::status::ApiError;

/// What selectors can ask of an object, taken out once when it is stored.
#[derive(Debug, Default)]
pub struct Selectable {
    labels: Vec<(Box<str>, Box<str>)>,
    fields: Vec<(&'static str, Box<str>)>,
}

/// Fields beyond metadata that upstream indexes, by kind: label, JSON pointer.
const POD_FIELDS: &[(&str, &str)] = &[
    ("spec.nodeName", "/spec/nodeName"),
    ("spec.restartPolicy", "/spec/restartPolicy"),
    ("spec.schedulerName", "/spec/schedulerName"),
    ("spec.serviceAccountName", "/spec/serviceAccountName"),
    ("spec.hostNetwork", "/spec/hostNetwork"),
    ("status.phase", "/status/phase"),
    ("status.podIP", "/status/podIP"),
    ("status.nominatedNodeName", "/status/nominatedNodeName"),
];
const NODE_FIELDS: &[(&str, &str)] = &[("spec.unschedulable", "/spec/unschedulable")];
const NAMESPACE_FIELDS: &[(&str, &str)] = &[("status.phase", "/status/phase")];
const SECRET_FIELDS: &[(&str, &str)] = &[("type", "/type")];
const JOB_FIELDS: &[(&str, &str)] = &[("status.successful", "/status/succeeded")];
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject.kind", "/involvedObject/kind"),
    ("involvedObject.namespace", "/involvedObject/namespace"),
    ("involvedObject.name", "/involvedObject/name"),
    ("involvedObject.uid", "/involvedObject/uid"),
    ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    ("involvedObject.resourceVersion", "/involvedObject/resourceVersion"),
    ("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    ("reason", "/reason"),
    ("reportingComponent", "/reportingComponent"),
    ("source", "/source/component"),
    ("type", "/type"),
];

/// The selectable fields of a kind. Objects are stored in core form, so events have one list.
fn fields_of_kind(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "Pod" => POD_FIELDS,
        "Node" => NODE_FIELDS,
        "Namespace" => NAMESPACE_FIELDS,
        "Secret" => SECRET_FIELDS,
        "Job" => JOB_FIELDS,
        "Event" => EVENT_FIELDS,
        _ => &[],
    }
}

impl Selectable {
    /// Takes labels and fields out of an object.
    pub fn of(object: &Value, _table: TableId) -> Self {
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into())).collect();
        let mut fields =
            vec![("metadata.name", text_at(object, "/metadata/name")), ("metadata.namespace", text_at(object, "/metadata/namespace"))];
        let kind = object["kind"].as_str().unwrap_or_default();
        fields.extend(fields_of_kind(kind).iter().map(|&(label, pointer)| (label, text_at(object, pointer))));
        Self { labels, fields }
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| &**known == key).map(|(_, value)| &**value)
    }

    pub(super) fn field(&self, label: &str) -> &str {
        self.fields.iter().find(|(known, _)| *known == label).map_or("", |(_, value)| value)
    }
}

/// The value as upstream's field maps print it: absent numbers are 0, absent flags false, absent text empty.
fn text_at(object: &Value, pointer: &str) -> Box<str> {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Bool(flag)) => flag.to_string().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        _ if pointer == "/spec/unschedulable" || pointer == "/spec/hostNetwork" => "false".into(),
        _ if pointer == "/status/succeeded" => "0".into(),
        _ => "".into(),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Greater(String, i64),
    Less(String, i64),
}

impl LabelRule {
    fn matches(&self, object: &Selectable) -> bool {
        let number = |key: &str| object.label(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(key, values) => object.label(key).is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Self::NotIn(key, values) => object.label(key).is_none_or(|value| values.iter().all(|wanted| wanted != value)),
            Self::Exists(key) => object.label(key).is_some(),
            Self::Absent(key) => object.label(key).is_none(),
            Self::Greater(key, bound) => number(key).is_some_and(|value| value > *bound),
            Self::Less(key, bound) => number(key).is_some_and(|value| value < *bound),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRule {
    label: String,
    equal: bool,
    value: String,
}

/// A parsed pair of selectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

impl Selector {
    /// Parses `labelSelector` and `fieldSelector` for a type.
    pub fn parse(resource: &ResourceType, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = parse_labels(labels).map_err(|why| ApiError::bad_request(format!("unable to parse requirement: {why}")))?;
        Ok(Self { labels, fields: parse_fields(resource, fields)? })
    }

    /// Whether everything matches, so that nothing has to be asked.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object matches all rules.
    pub fn matches(&self, object: &Selectable) -> bool {
        self.labels.iter().all(|rule| rule.matches(object))
            && self.fields.iter().all(|rule| (object.field(&rule.label) == rule.value) == rule.equal)
    }
}

fn parse_fields(resource: &ResourceType, text: &str) -> Result<Vec<FieldRule>, ApiError> {
    let mut rules = Vec::new();
    for term in text.split(',').filter(|term| !term.is_empty()) {
        let (label, equal, value) =
            split_term(term).ok_or_else(|| ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'")))?;
        let label = stored_label(resource, label).ok_or_else(|| ApiError::bad_request(unsupported(resource, label)))?;
        rules.push(FieldRule { label, equal, value: value.to_string() });
    }
    Ok(rules)
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    if let Some((label, value)) = term.split_once("!=") {
        return Some((label, false, value));
    }
    term.split_once("==").or_else(|| term.split_once('=')).map(|(label, value)| (label, true, value))
}

fn unsupported(resource: &ResourceType, label: &str) -> String {
    match resource.behaviour {
        Behaviour::Pod
        | Behaviour::Node
        | Behaviour::Namespace
        | Behaviour::Secret
        | Behaviour::EventCore
        | Behaviour::EventV1
        | Behaviour::Custom => {
            format!("field label not supported: {label}")
        }
        _ => format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
    }
}

/// The label under which an object keeps the field, or `None` if the type does not offer it.
fn stored_label(resource: &ResourceType, label: &str) -> Option<String> {
    if label == "metadata.name" || (label == "metadata.namespace" && (resource.namespaced || !resource.group.is_empty())) {
        return Some(label.to_string());
    }
    let label = match resource.behaviour {
        Behaviour::EventV1 => match label.strip_prefix("regarding.") {
            Some(rest) => format!("involvedObject.{rest}"),
            None if label == "reportingController" => "reportingComponent".to_string(),
            None => label.to_string(),
        },
        Behaviour::Namespace if label == "name" => "metadata.name".to_string(),
        _ => label.to_string(),
    };
    let known = label == "metadata.name" || fields_of_kind(&resource.kind).iter().any(|(known, _)| *known == label);
    (known && resource.behaviour != Behaviour::Custom).then_some(label)
}

/// The grammar of `labels.Parse`: terms joined by commas, sets in parentheses.
fn parse_labels(text: &str) -> Result<Vec<LabelRule>, String> {
    split_outside_parentheses(text).into_iter().map(|term| parse_label_term(term.trim())).collect()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn parse_label_term(term: &str) -> Result<LabelRule, String> {
    if let Some(key) = term.strip_prefix('!') {
        return Ok(LabelRule::Absent(label_key(key)?));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(LabelRule::NotIn(label_key(key)?, vec![label_value(value)?]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(LabelRule::In(label_key(key)?, vec![label_value(value)?]));
    }
    for (sign, greater) in [('>', true), ('<', false)] {
        if let Some((key, bound)) = term.split_once(sign) {
            let bound = bound.trim().parse().map_err(|_| format!("found '{}', expected: an integer", bound.trim()))?;
            let key = label_key(key)?;
            return Ok(if greater { LabelRule::Greater(key, bound) } else { LabelRule::Less(key, bound) });
        }
    }
    parse_set_term(term)
}

fn parse_set_term(term: &str) -> Result<LabelRule, String> {
    let Some((key, rest)) = term.split_once(char::is_whitespace) else { return Ok(LabelRule::Exists(label_key(term)?)) };
    let key = label_key(key)?;
    let rest = rest.trim();
    let (negated, set) = match (rest.strip_prefix("notin"), rest.strip_prefix("in")) {
        (Some(set), _) => (true, set),
        (None, Some(set)) => (false, set),
        (None, None) => {
            let word = rest.split_whitespace().next().unwrap_or_default();
            return Err(format!("found '{word}', expected: in, notin, =, ==, !=, gt, lt"));
        }
    };
    let inner = set.trim().strip_prefix('(').and_then(|set| set.strip_suffix(')'));
    let inner = inner.ok_or_else(|| format!("found '{}', expected: '('", set.trim()))?;
    let values = inner.split(',').map(label_value).collect::<Result<Vec<_>, _>>()?;
    Ok(if negated { LabelRule::NotIn(key, values) } else { LabelRule::In(key, values) })
}

fn label_key(text: &str) -> Result<String, String> {
    let key = text.trim();
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(legal) { Err(format!("invalid label key {key:?}")) } else { Ok(key.to_string()) }
}

fn label_value(text: &str) -> Result<String, String> {
    let value = text.trim();
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if value.chars().all(legal) { Ok(value.to_string()) } else { Err(format!("invalid label value: {value:?}")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sim::apiserver::resources::Registry;

    fn matches(labels: &str, fields: &str) -> Option<bool> {
        let pod = json!({"kind": "Pod", "metadata": {"name": "a", "namespace": "x", "labels": {"app": "web", "tier": "1"}},
            "spec": {"schedulerName": "isobar-scheduler"}, "status": {"phase": "Running"}});
        let resource = Registry::built_in().find("", "v1", "pods")?;
        let selector = Selector::parse(&resource, labels, fields).ok()?;
        Some(selector.matches(&Selectable::of(&pod, TableId(0))))
    }

    #[test]
    fn label_selectors() {
        let table = [
            ("", Some(true)),
            ("app=web", Some(true)),
            ("app==web,tier=1", Some(true)),
            ("app!=web", Some(false)),
            ("other!=web", Some(true)),
            ("app", Some(true)),
            ("!app", Some(false)),
            ("!other", Some(true)),
            ("app in (web, db)", Some(true)),
            ("app in (db),tier", Some(false)),
            ("app notin (db)", Some(true)),
            ("other notin (db)", Some(true)),
            ("tier>0", Some(true)),
            ("tier<1", Some(false)),
            ("app near (x)", None),
            ("app in web", None),
            ("=x", None),
        ];
        for (text, wanted) in table {
            assert_eq!(matches(text, ""), wanted, "{text}");
        }
    }

    #[test]
    fn field_selectors() {
        let table = [
            ("metadata.name=a", Some(true)),
            ("spec.nodeName=", Some(true)),
            ("spec.nodeName!=", Some(false)),
            ("status.phase!=Succeeded,status.phase!=Failed", Some(true)),
            ("spec.schedulerName=isobar-scheduler,spec.nodeName=", Some(true)),
            ("spec.hostNetwork=false", Some(true)),
            ("spec.priority=1", None),
            ("nonsense", None),
        ];
        for (text, wanted) in table {
            assert_eq!(matches("", text), wanted, "{text}");
        }
    }
}

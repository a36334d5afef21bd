//! What is wrong with a node selector term, in upstream's words: terms as written in, one text for each fault out.
//!
//! Source: `labels.NewRequirement` and `nodeaffinity.NewPreferredSchedulingTerms` v1.37. Of what these refuse, an API server lets through only numbers
//! that are none (`Gt`, `Lt`) and values that no label can have; the rest is for objects that come from files.

use super::affinity::{NodeSelectorRequirement, NodeSelectorTerm};

const LABEL_VALUE_BYTES_MAX: usize = 63;

/// Whether a label can have this value.
pub fn is_label_value(value: &str) -> bool {
    value.len() <= LABEL_VALUE_BYTES_MAX && has_label_form(value)
}

fn has_label_form(value: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = [value.bytes().next(), value.bytes().last()];
    value.bytes().all(inside) && ends.into_iter().flatten().all(|byte| byte.is_ascii_alphanumeric())
}

/// Everything that is wrong with the term at a place of its list.
pub fn faults(term: &NodeSelectorTerm, at: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (i, requirement) in term.match_expressions.iter().enumerate() {
        label_faults(requirement, &format!("[{at}].matchExpressions[{i}]."), &mut found);
    }
    for (i, requirement) in term.match_fields.iter().enumerate() {
        field_faults(requirement, &format!("[{at}].matchFields[{i}]"), &mut found);
    }
    found
}

/// Everything that is wrong with one requirement of a label selector.
pub fn requirement_faults(requirement: &NodeSelectorRequirement) -> Vec<String> {
    let mut found: Vec<String> =
        label_key_fault(&requirement.key).map(|why| format!("key: Invalid value: {:?}: {why}", requirement.key)).into_iter().collect();
    label_faults(requirement, "", &mut found);
    found
}

/// `path` is what stands before the field's name.
fn label_faults(requirement: &NodeSelectorRequirement, path: &str, found: &mut Vec<String>) {
    let NodeSelectorRequirement { key, operator, values } = requirement;
    let mut wrong = |why: &str| found.push(format!("{path}values: Invalid value: {}: {why}", list(values)));
    match &**operator {
        "In" | "NotIn" if values.is_empty() => wrong("for 'in', 'notin' operators, values set can't be empty"),
        "Exists" | "DoesNotExist" if !values.is_empty() => wrong("values set must be empty for exists and does not exist"),
        "Gt" | "Lt" if values.len() != 1 => wrong("for 'Gt', 'Lt' operators, exactly one value is required"),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let known = r#"supported values: "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt""#;
            found.push(format!("{path}operator: Unsupported value: {other:?}: {known}"));
            return;
        }
    }
    let numbers = matches!(&**operator, "Gt" | "Lt");
    for (i, value) in values.iter().enumerate().filter(|(_, value)| numbers && value.parse::<i64>().is_err()) {
        let why = "for 'Gt', 'Lt' operators, the value must be an integer";
        found.push(format!("{path}values[{i}]: Invalid value: {value:?}: {why}"));
    }
    for (i, value) in values.iter().enumerate().filter(|(_, value)| !is_label_value(value)) {
        found.push(format!("{path}values[{i}][{key}]: Invalid value: {value:?}: {}", label_value_faults(value)));
    }
}

fn label_value_faults(value: &str) -> String {
    let long = (value.len() > LABEL_VALUE_BYTES_MAX).then(|| format!("must be no more than {LABEL_VALUE_BYTES_MAX} bytes"));
    let form = (!has_label_form(value)).then(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
         '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .to_owned()
    });
    long.into_iter().chain(form).collect::<Vec<_>>().join("; ")
}

/// Why a label cannot have this key: the common faults, in the words of `content.IsLabelKey`.
fn label_key_fault(key: &str) -> Option<String> {
    const FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
         (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let parts: Vec<&str> = key.split('/').collect();
    let (prefix, name) = match parts.as_slice() {
        [name] => (None, *name),
        [prefix, name] => (Some(*prefix), *name),
        _ => {
            return Some(format!("a valid label key {FORM} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"));
        }
    };
    let mut faults: Vec<String> = Vec::new();
    if prefix == Some("") {
        faults.push("prefix part must be non-empty".into());
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if name.len() > LABEL_VALUE_BYTES_MAX {
        faults.push(format!("name part must be no more than {LABEL_VALUE_BYTES_MAX} bytes"));
    }
    if name.is_empty() || !has_label_form(name) {
        faults.push(format!("name part {FORM}"));
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn field_faults(requirement: &NodeSelectorRequirement, path: &str, found: &mut Vec<String>) {
    let NodeSelectorRequirement { key, operator, values } = requirement;
    if !matches!(&**operator, "In" | "NotIn") {
        let known = r#"supported values: "In", "NotIn""#;
        found.push(format!("{path}.operator: Unsupported value: {operator:?}: {known}"));
    } else if values.len() != 1 {
        found.push(format!("{path}.values: Invalid value: {}: must have one element", list(values)));
    } else if &**key != "metadata.name" {
        // Upstream takes any field here and finds it empty on every node; an API server lets none but this through.
        found.push(format!("{path}.key: Invalid value: {key:?}: not a valid field selector key"));
    }
}

/// Values as upstream prints them; an absent list is `null`.
fn list(values: &[Box<str>]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    if quoted.is_empty() { "null".to_owned() } else { format!("[{}]", quoted.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(operator: &str, values: &[&str]) -> NodeSelectorTerm {
        let values = values.iter().map(|value| Box::from(*value)).collect();
        let requirement = NodeSelectorRequirement { key: "size".into(), operator: operator.into(), values };
        NodeSelectorTerm { match_expressions: vec![requirement], match_fields: Vec::new() }
    }

    #[test]
    fn faults_are_in_upstreams_words() {
        for (term, want) in [
            (term("Gt", &["5"]), ""),
            (
                term("Gt", &["abc"]),
                r#"[3].matchExpressions[0].values[0]: Invalid value: "abc": for 'Gt', 'Lt' operators, the value must be an integer"#,
            ),
            (
                term("Lt", &[]),
                "[3].matchExpressions[0].values: Invalid value: null: for 'Gt', 'Lt' operators, exactly one value is required",
            ),
            (
                term("In", &["a", "a b"]),
                "[3].matchExpressions[0].values[1][size]: Invalid value: \"a b\": a valid label must be an empty string or \
              consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
              'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (
                term("Like", &["a"]),
                "[3].matchExpressions[0].operator: Unsupported value: \"Like\": supported values: \"In\", \"NotIn\", \
              \"Exists\", \"DoesNotExist\", \"Gt\", \"Lt\"",
            ),
        ] {
            assert_eq!(faults(&term, 3).join(" | "), want);
        }
    }

    #[test]
    fn label_values() {
        for (value, is) in [("", true), ("a", true), ("a.b-c_D9", true), ("-a", false), ("a.", false), ("é", false), ("a b", false)] {
            assert_eq!(is_label_value(value), is, "{value}");
        }
        assert!(is_label_value(&"a".repeat(63)) && !is_label_value(&"a".repeat(64)));
    }
}

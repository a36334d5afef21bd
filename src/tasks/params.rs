//! Parameters: what a run's are, and where they go. In: a task's parameters, what a firing gives, a template. Out: values of all of them; the template with
//! `$(name)` replaced in args, values of env and annotations; or the first fault with its path.
//!
//! A `$(name)` that is no parameter is left as it is: Kubernetes replaces names of environment variables the same way, and shells have their own use for it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    crd::VALUE_CHARS_MAX,
    spec::{Param, ParamKind, TaskSpec},
    trigger::pattern,
    validate::Fault,
};
use crate::model::time::Timestamp;

/// Bytes of all values together.
pub const VALUES_BYTES_MAX: usize = 64 << 10;
/// Names that stand for something already.
pub const BUILT_IN: [&str; 5] = ["cycle", "cycleDate", "cycleHour", "cycleMinute", "run"];

/// Values of a task's parameters for one run.
pub fn resolve(spec: &TaskSpec, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Fault> {
    let place = |name: &str| format!("spec.params.{name}");
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > VALUES_BYTES_MAX {
        let message =
            format!("all parameters together have {bytes} bytes; {VALUES_BYTES_MAX} are the limit: pass the address of what is large");
        return Err(Fault::new("ParamsTooLarge", "spec.params", message));
    }
    let declared = |name: &str| spec.params.iter().find(|param| param.name == name);
    for name in given.keys() {
        if declared(name).is_none() {
            let near = spec.params.iter().map(|param| param.name.as_str()).find(|known| strsim::levenshtein(known, name) <= 2);
            let known: Vec<&str> = spec.params.iter().map(|param| param.name.as_str()).collect();
            let hint = near.map_or_else(|| format!("it has: {}", known.join(", ")), |near| format!("did you mean {near}?"));
            return Err(Fault::new("ParamUnknown", place(name), format!("the task has no parameter {name}; {hint}")));
        }
    }
    let mut values = BTreeMap::new();
    for param in &spec.params {
        match given.get(&param.name).or(param.default.as_ref()) {
            Some(value) => {
                check(param, value).map_err(|(reason, message)| Fault::new(reason, place(&param.name), message))?;
                values.insert(param.name.clone(), value.clone());
            }
            None if param.required => {
                return Err(Fault::new("ParamMissing", place(&param.name), format!("{} is required: give it a value", param.name)));
            }
            None => drop(values.insert(param.name.clone(), String::new())),
        }
    }
    Ok(values)
}

/// Whether a parameter may have this value.
pub fn check(param: &Param, value: &str) -> Result<(), (&'static str, String)> {
    let chars = value.chars().count();
    if chars > VALUE_CHARS_MAX {
        return Err((
            "ParamTooLong",
            format!("the value has {chars} characters; {VALUE_CHARS_MAX} are the limit: pass the address of what is large"),
        ));
    }
    if value.contains('\0') {
        return Err(("ParamPattern", "the value contains a NUL byte, which no program can be given".to_owned()));
    }
    match param.kind {
        ParamKind::Integer if value.parse::<i64>().is_err() => return Err(("ParamType", format!("{value:?} is not a whole number"))),
        ParamKind::Boolean if !matches!(value, "true" | "false") => {
            return Err(("ParamType", format!("{value:?} is neither true nor false")));
        }
        _ => {}
    }
    if param.pattern.is_empty() {
        return Ok(());
    }
    match pattern::whole(&param.pattern) {
        Ok(expression) if expression.is_match(value) => Ok(()),
        Ok(_) => Err(("ParamPattern", format!("{value:?} does not match {}", param.pattern))),
        Err(message) => Err(("ParamPattern", message)),
    }
}

/// What `$(name)` stands for in one run: parameters, and the run itself.
pub fn values(params: &BTreeMap<String, String>, run: &str, cycle: Option<Timestamp>) -> BTreeMap<String, String> {
    let cycle = cycle.map(Timestamp::to_rfc3339).unwrap_or_default();
    let part = |from: usize, to: usize| cycle.get(from..to).unwrap_or_default().replace('-', "");
    let built_in = [part(0, 20), part(0, 10), part(11, 13), part(14, 16)];
    let mut values = params.clone();
    values.extend(BUILT_IN.iter().map(|name| (*name).to_owned()).zip(built_in));
    values.insert("cycle".to_owned(), cycle.clone());
    values.insert("run".to_owned(), run.to_owned());
    values
}

/// Replaces every `$(name)` of the values; `$$(name)` is left for Kubernetes.
pub fn replaced(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let name = from[2..].split(')').next().unwrap_or_default();
        let value = values.get(name).filter(|_| from[2..].len() > name.len() && !before.ends_with('$'));
        let end = if let Some(value) = value {
            out.push_str(value);
            name.len() + 3
        } else {
            out.push_str("$(");
            2
        };
        rest = &from[end..];
    }
    out + rest
}

/// Whether a text has a `$(name)` of one of the names; the name.
fn asks_for<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    names.iter().copied().find(|name| text.contains(&format!("$({name})")) && !text.contains(&format!("$$({name})")))
}

/// A step on the way to a value of a template.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    At(usize),
}

/// Whether parameters are replaced there.
fn is_open(path: &[Step]) -> bool {
    let key = |at: usize, wanted: &[&str]| matches!(path.get(at), Some(Step::Key(key)) if wanted.contains(&key.as_str()));
    if key(0, &["metadata"]) {
        return key(1, &["annotations"]) && path.len() == 3;
    }
    let is_container = key(0, &["spec"]) && key(1, &["containers", "initContainers"]);
    is_container && ((key(3, &["args"]) && path.len() == 5) || (key(3, &["env"]) && key(5, &["value"]) && path.len() == 6))
}

fn shown(path: &[Step]) -> String {
    path.iter().fold("spec.template".to_owned(), |text, step| match step {
        Step::Key(key) => format!("{text}.{key}"),
        Step::At(at) => format!("{text}[{at}]"),
    })
}

fn walk(value: &mut Value, path: &mut Vec<Step>, visit: &mut impl FnMut(&[Step], &mut String)) {
    match value {
        Value::String(text) => visit(path, text),
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                path.push(Step::At(at));
                walk(item, path, visit);
                path.pop();
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                path.push(Step::Key(key.clone()));
                walk(field, path, visit);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The template with its parameters.
pub fn fill(template: &Value, values: &BTreeMap<String, String>) -> Value {
    let mut filled = template.clone();
    walk(&mut filled, &mut Vec::new(), &mut |path, text| {
        if is_open(path) && text.contains("$(") {
            *text = replaced(text, values);
        }
    });
    filled
}

/// Every place where a parameter is used but not replaced.
pub fn misplaced(spec: &TaskSpec) -> Vec<Fault> {
    let names: Vec<&str> = spec.params.iter().map(|param| param.name.as_str()).chain(BUILT_IN).collect();
    let mut faults = Vec::new();
    walk(&mut spec.template.0.clone(), &mut Vec::new(), &mut |path, text| {
        if let Some(name) = asks_for(text, &names).filter(|_| !is_open(path)) {
            let message = format!("$({name}) is replaced in args, values of env and annotations only: pass it through env");
            faults.push(Fault::new("SubstitutionForbidden", shown(path), message));
        }
    });
    faults
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;

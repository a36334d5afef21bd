//! Whether a document has the right shape. In: a tree and the JSON Schema. Out: the document as JSON with everything wrong cut out, and every fault.
//!
//! What is cut out counts as not said, so that the checks of meaning that follow still see the rest, and one run finds all there is to find. It knows the
//! part of JSON Schema that `schema.rs` makes: type, properties, items, `$ref`, `anyOf` with null, enum, format, and `if`/`then` on a field's constant.

use serde_json::{Map, Value as Json, json};

use crate::config::duration;
use crate::config::path::Path;
use crate::config::scalar;
use crate::config::tree::{Entry, Fault, Node, Spot, Value};

/// The known name that was probably meant. Too different a name is no help: one letter in four may differ, or the end be missing.
pub fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any name there is, and the comparison takes time by the product of lengths.
    if name.len() > 100 {
        return None;
    }
    let lower = name.to_lowercase();
    let distance = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        if lower.len() >= 4 && candidate.starts_with(&lower) { 1 } else { strsim::damerau_levenshtein(&lower, &candidate) }
    };
    let (distance, best) = known.map(|candidate| (distance(candidate), candidate)).min()?;
    (distance <= (name.chars().count() / 4).max(1)).then_some(best)
}

/// `did you mean "x"?`, or the list of what is known.
pub fn suggestion<'a>(name: &str, what: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match did_you_mean(name, known.clone()) {
        Some(best) => format!("did you mean \"{best}\"?"),
        None => format!("{what}: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// Checks `node` against the definition of that name.
pub fn check(node: &Node, definition: &str, schema: &Json, faults: &mut Vec<Fault>) -> Json {
    let mut checker = Checker { definitions: &schema["$defs"], faults };
    let root = json!({ "$ref": format!("#/$defs/{definition}") });
    checker.value(node, &root, &Path::root()).unwrap_or_else(|| Json::Object(Map::new()))
}

struct Checker<'a> {
    definitions: &'a Json,
    faults: &'a mut Vec<Fault>,
}

impl Checker<'_> {
    /// The value as JSON; `None` when nothing is said or what is said is of the wrong shape.
    fn value(&mut self, node: &Node, schema: &Json, path: &Path) -> Option<Json> {
        let definitions = self.definitions;
        let schema = resolved(definitions, schema);
        if node.value == Value::Null {
            return None;
        }
        let types = types(schema);
        let json = match &node.value {
            _ if types.is_empty() => return Some(anything(node)),
            Value::Map(entries) if types.contains(&"object") => Some(self.object(entries, schema, path)),
            Value::List(items) if types.contains(&"array") => Some(self.list(items, &schema["items"], path)),
            Value::Text(text) if types.contains(&"string") => Some(Json::String(text.clone())),
            Value::Plain(text) => plain(text, &types),
            _ => None,
        };
        let Some(json) = json else {
            let (message, help) = mismatch(node, &types, schema["format"].as_str());
            self.fault(node.at, path, message, help);
            return None;
        };
        match constraint(&json, schema) {
            Ok(()) => Some(json),
            Err((message, help)) => {
                self.fault(node.at, path, message, help);
                None
            }
        }
    }

    fn object(&mut self, entries: &[Entry], schema: &Json, path: &Path) -> Json {
        let mut fields = Map::new();
        let conditional = conditional(entries, schema);
        for entry in entries {
            let path = path.field(&entry.name);
            let known = schema["properties"].get(&entry.name);
            let by_condition = conditional.as_ref().and_then(|then| then["properties"].get(&entry.name));
            let schema = match (by_condition.or(known), &schema["additionalProperties"]) {
                (Some(known), _) => known,
                (None, Json::Object(_)) => &schema["additionalProperties"],
                (None, Json::Bool(false)) => {
                    self.unknown(entry, schema, &path);
                    continue;
                }
                (None, _) => &Json::Bool(true),
            };
            if let Some(value) = self.value(&entry.value, schema, &path) {
                fields.insert(entry.name.clone(), value);
            }
        }
        Json::Object(fields)
    }

    /// A field that does not exist. What stands there is checked as the field that was probably meant, so that its faults are found, too.
    fn unknown(&mut self, entry: &Entry, schema: &Json, path: &Path) {
        let names = schema["properties"].as_object().map(Map::keys).into_iter().flatten().map(String::as_str);
        let meant = did_you_mean(&entry.name, names.clone());
        let help = suggestion(&entry.name, "the fields here are", names);
        self.fault(entry.name_at, path, format!("unknown field {}", shortened(&entry.name)), Some(help));
        if let (Some(meant), Value::Map(_) | Value::List(_)) = (meant, &entry.value.value) {
            self.value(&entry.value, &schema["properties"][meant], path);
        }
    }

    /// Entries keep their index: what is wrong is replaced by an empty one.
    fn list(&mut self, items: &[Node], schema: &Json, path: &Path) -> Json {
        let mut list = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let path = path.index(i);
            if item.value == Value::Null {
                self.fault(
                    item.at,
                    &path,
                    "an empty list entry".to_owned(),
                    Some("write a value after the dash, or remove the dash".to_owned()),
                );
            }
            list.push(self.value(item, schema, &path).unwrap_or_else(|| empty(resolved(self.definitions, schema))));
        }
        Json::Array(list)
    }

    fn fault(&mut self, at: Spot, path: &Path, message: String, help: Option<String>) {
        self.faults.push(Fault { at, path: path.clone(), message, help });
    }
}

/// Where everything is allowed: arguments of out-of-tree plugins.
fn anything(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Plain(text) => scalar::resolve(text),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => items.iter().map(anything).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.name.clone(), anything(&entry.value))).collect(),
    }
}

/// Follows references, and steps over "or null": a null counts as nothing said.
fn resolved<'a>(definitions: &'a Json, schema: &'a Json) -> &'a Json {
    let mut schema = schema;
    loop {
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
            schema = &definitions[name];
        } else if let Some(some) = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null")) {
            schema = some;
        } else {
            return schema;
        }
    }
}

/// The types allowed; none: any.
fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(one) => vec![one.as_str()],
        Json::Array(several) => several.iter().filter_map(Json::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    }
}

/// The `then` whose `if` holds.
fn conditional<'a>(entries: &[Entry], schema: &'a Json) -> Option<&'a Json> {
    let holds = |branch: &&Json| {
        let Some(wanted) = branch["if"]["properties"].as_object() else { return false };
        wanted.iter().all(|(field, wanted)| {
            entries.iter().any(|entry| {
                let text = match &entry.value.value {
                    Value::Plain(text) | Value::Text(text) => Some(text.as_str()),
                    _ => None,
                };
                entry.name == *field && text == wanted["const"].as_str()
            })
        })
    };
    schema["allOf"].as_array()?.iter().find(holds).map(|branch| &branch["then"])
}

fn plain(text: &str, types: &[&str]) -> Option<Json> {
    let value = scalar::resolve(text);
    let fits = match &value {
        Json::Bool(_) => types.contains(&"boolean"),
        Json::Number(number) if number.is_f64() => types.contains(&"number"),
        Json::Number(_) => types.contains(&"integer") || types.contains(&"number"),
        Json::String(_) => types.contains(&"string"),
        _ => false,
    };
    fits.then_some(value)
}

fn empty(schema: &Json) -> Json {
    match types(schema).first().copied() {
        Some("object") => json!({}),
        Some("array") => json!([]),
        Some("string") => json!(""),
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(0),
        _ => Json::Null,
    }
}

fn mismatch(node: &Node, types: &[&str], format: Option<&str>) -> (String, Option<String>) {
    let expected: Vec<_> = types.iter().map(|name| type_words(name)).collect();
    let (found, quotes) = match &node.value {
        Value::Null => ("nothing".to_owned(), false),
        Value::List(_) => ("a list".to_owned(), false),
        Value::Map(_) => ("a mapping".to_owned(), false),
        Value::Text(text) => (format!("the string {}", shortened(text)), false),
        Value::Plain(text) => match scalar::resolve(text) {
            Json::Bool(_) => (format!("the boolean {text}"), true),
            Json::Number(_) => (format!("the number {text}"), true),
            _ => (format!("the word {}", shortened(text)), false),
        },
    };
    let help = match (types, &node.value) {
        _ if format == Some("duration-go") => Some(DURATION_HELP.to_owned()),
        (["integer"], Value::Plain(text)) if text.bytes().all(|b| b.is_ascii_digit()) => Some("no whole number is as large".to_owned()),
        (["string"], _) if quotes => Some("put quotes round it to make it a string".to_owned()),
        (["array"], Value::Map(_)) => Some("begin each entry with a dash".to_owned()),
        (["boolean" | "integer" | "number"], Value::Text(text)) if plain(text, types).is_some() => Some("leave the quotes away".to_owned()),
        _ => None,
    };
    (format!("expected {}, found {found}", expected.join(" or ")), help)
}

fn type_words(name: &str) -> &str {
    match name {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}

/// Longest part of a value that a message repeats, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// A value in quotes, cut when long, control characters escaped.
pub fn shortened(text: &str) -> String {
    let escaped = |text: &str| format!("\"{}\"", text.escape_debug());
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}...", escaped(&text[..end])),
        None => escaped(text),
    }
}

const DURATION_HELP: &str = "write a number with its unit, such as 15s, 1m30s or 100ms";

type Refusal = (String, Option<String>);

/// Enumerations, formats and the range of the integer type.
fn constraint(json: &Json, schema: &Json) -> Result<(), Refusal> {
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(json)
    {
        let supported: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        let help = json.as_str().and_then(|text| did_you_mean(text, allowed.iter().filter_map(Json::as_str)));
        let message = format!("Unsupported value: {json}: supported values: {}", supported.join(", "));
        return Err((message, help.map(|best| format!("did you mean \"{best}\"?"))));
    }
    match (schema["format"].as_str(), json) {
        (Some("duration-go"), Json::String(text)) => match duration::parse_signed(text) {
            Ok(_) => Ok(()),
            Err(message) => Err((message, Some(DURATION_HELP.to_owned()))),
        },
        (Some("byte"), Json::String(text)) if !is_base64(text) => {
            Err((format!("Invalid value: {}: illegal base64 data", shortened(text)), Some("encode the PEM text with base64".to_owned())))
        }
        (Some(format), Json::Number(number)) => in_range(number, format),
        _ => Ok(()),
    }
}

fn in_range(number: &serde_json::Number, format: &str) -> Result<(), Refusal> {
    let (min, max): (i128, i128) = match format {
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "int64" => (i64::MIN.into(), i64::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint64" => (0, u64::MAX.into()),
        _ => return Ok(()),
    };
    let value = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match value {
        Some(value) if (min..=max).contains(&value) => Ok(()),
        _ => Err((format!("Invalid value: {number}: expected a whole number from {min} to {max}"), None)),
    }
}

/// Standard alphabet, padded; line breaks are allowed, as Go's decoder does.
fn is_base64(text: &str) -> bool {
    let text: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(&text);
    text.len().is_multiple_of(4) && body.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::schema;
    use crate::config::tree;

    fn faults(text: &str) -> Vec<String> {
        let (documents, mut faults) = tree::read(text);
        assert_eq!(faults, [], "not YAML");
        check(&documents[0], "KubeSchedulerConfiguration", schema(), &mut faults);
        faults
            .iter()
            .map(|f| format!("{}:{} {}: {} ({})", f.at.line, f.at.column, f.path, f.message, f.help.clone().unwrap_or_default()))
            .collect()
    }

    #[test]
    fn every_rule_has_its_message() {
        for (text, expected) in [
            ("paralelism: 3", "1:1 paralelism: unknown field \"paralelism\" (did you mean \"parallelism\"?)"),
            ("parallelism: many", "1:14 parallelism: expected a whole number, found the word \"many\" ()"),
            ("parallelism: '3'", "1:14 parallelism: expected a whole number, found the string \"3\" (leave the quotes away)"),
            ("parallelism: 1.5", "1:14 parallelism: expected a whole number, found the number 1.5 ()"),
            (
                "parallelism: 2147483648",
                "1:14 parallelism: Invalid value: 2147483648: expected a whole number from -2147483648 to 2147483647 ()",
            ),
            ("profiles: {a: 1}", "1:11 profiles: expected a list, found a mapping (begin each entry with a dash)"),
            (
                "profiles: [{schedulerName: 12}]",
                "1:28 profiles[0].schedulerName: expected a string, found the number 12 (put quotes round it to make it a string)",
            ),
            ("profiles: [3]", "1:12 profiles[0]: expected a mapping, found the number 3 ()"),
            ("profiles: [~]", "1:12 profiles[0]: an empty list entry (write a value after the dash, or remove the dash)"),
            (
                "leaderElection: {leaseDuration: 15}",
                "1:33 leaderElection.leaseDuration: expected a string, found the number 15 (write a number with its unit, such as 15s, 1m30s or 100ms)",
            ),
        ] {
            assert_eq!(faults(text), [expected]);
        }
    }

    #[test]
    fn what_is_wrong_is_cut_out_and_the_rest_stays() {
        let (documents, mut faults) =
            tree::read("parallelism: x\nprofiles:\n- schedulerName: a\n- 3\n- schedulerName: on\n- schedulerName: 'on'\n");
        let json = check(&documents[0], "KubeSchedulerConfiguration", schema(), &mut faults);
        assert_eq!(json, json!({"profiles": [{"schedulerName": "a"}, {}, {}, {"schedulerName": "on"}]}));
        assert_eq!(faults.len(), 3);
    }

    #[test]
    fn base64_as_go_reads_it() {
        for (text, good) in
            [("", true), ("QQ==", true), ("QUI=", true), ("QUJD", true), ("QU\nJD", true), ("QQ", false), ("Q===", false), ("QU-D", false)]
        {
            assert_eq!(is_base64(text), good, "{text}");
        }
    }
}

//! The smallest case that still differs. In: a case and a judge of many cases at once. Out: the case with everything gone that does not matter.

use serde_json::Value;

/// Removals tried at once: each round costs a start of both programs and a copy of the case for each.
const TRIED_MAX: usize = 48;
/// Rounds; a case of some hundred fields needs some dozens.
const ROUNDS_MAX: usize = 150;

/// Says of each case whether it still differs.
type Judge<'a> = &'a dyn Fn(&[Value]) -> Vec<bool>;

/// Takes away halves of the objects, then quarters, then single ones; after that one field after the other.
pub fn shrink(case: &Value, differ: Judge<'_>) -> Value {
    let mut smallest = case.clone();
    let mut size = objects(&smallest).div_ceil(2);
    while size > 0 {
        let starts: Vec<usize> = (0..objects(&smallest)).step_by(size).collect();
        let candidates: Vec<Value> = starts.iter().take(TRIED_MAX).map(|from| without_objects(&smallest, *from, size)).collect();
        match differ(&candidates).into_iter().position(|differs| differs) {
            Some(at) => smallest = candidates[at].clone(),
            None => size /= 2,
        }
    }
    fields(smallest, differ)
}

fn objects(case: &Value) -> usize {
    case["objects"].as_array().map_or(0, Vec::len)
}

fn without_objects(case: &Value, from: usize, count: usize) -> Value {
    let mut smaller = case.clone();
    if let Some(objects) = smaller["objects"].as_array_mut() {
        objects.drain(from..objects.len().min(from + count));
    }
    smaller
}

fn fields(case: Value, differ: Judge<'_>) -> Value {
    let (mut smallest, mut from) = (case, 0);
    for _ in 0..ROUNDS_MAX {
        let places = places(&smallest);
        if from >= places.len() {
            break;
        }
        let tried = &places[from..places.len().min(from + TRIED_MAX)];
        let candidates: Vec<Value> = tried.iter().map(|place| without(&smallest, place)).collect();
        match differ(&candidates).into_iter().position(|differs| differs) {
            // What comes before is needed: it was tried, and what is gone since makes it no less so in most cases.
            Some(at) => {
                smallest = candidates[at].clone();
                from += at;
            }
            None => from += tried.len(),
        }
    }
    smallest
}

/// Everything that can be left out, whole objects first.
fn places(case: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(&case["objects"], "/objects", &mut found);
    if !case["config"].is_null() {
        found.push("/config".to_owned());
        walk(&case["config"]["profiles"], "/config/profiles", &mut found);
    }
    found.sort_by_key(|place| place.matches('/').count());
    found
}

fn walk(value: &Value, place: &str, found: &mut Vec<String>) {
    let mut below = |key: String, child: &Value| {
        let at = format!("{place}/{key}");
        found.push(at.clone());
        walk(child, &at, found);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| below(at.to_string(), item)),
        Value::Object(fields) => {
            let kept = ["kind", "apiVersion", "name", "namespace"];
            let fields = fields.iter().filter(|(key, _)| !kept.contains(&key.as_str()));
            fields.for_each(|(key, field)| below(key.replace('~', "~0").replace('/', "~1"), field));
        }
        _ => {}
    }
}

fn without(case: &Value, place: &str) -> Value {
    let mut smaller = case.clone();
    let Some((parent, key)) = place.rsplit_once('/') else { return smaller };
    match smaller.pointer_mut(parent) {
        Some(Value::Array(items)) => drop(key.parse().ok().filter(|at| *at < items.len()).map(|at: usize| items.remove(at))),
        Some(Value::Object(fields)) => drop(fields.shift_remove(&key.replace("~1", "/").replace("~0", "~"))),
        _ => {}
    }
    smaller
}

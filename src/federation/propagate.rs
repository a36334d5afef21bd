//! What changes of a pod that runs already. In: the home pod, its run, the cluster's wishes. Out: patches of the run by subresource, the last of them saying
//! which generation of the home pod it reflects now.

use serde_json::{Map, Value, json};

use super::{names, project::rewritten, spec::ComputeClusterSpec};

/// Fields of an ephemeral container that travel: those that need nothing of home.
const EPHEMERAL_FIELDS: [&str; 15] = [
    "name",
    "command",
    "args",
    "workingDir",
    "resizePolicy",
    "restartPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
    "resources",
];

/// The patches (strategic merge), in the order in which they are made: `ephemeralcontainers`, `resize`, and the run itself (an empty name).
pub fn patches(home: &Value, run: &Value, spec: &ComputeClusterSpec) -> Vec<(&'static str, Value)> {
    let mut patches = Vec::new();
    let added = ephemeral(home, run, spec);
    if !added.is_empty() {
        patches.push(("ephemeralcontainers", json!({ "spec": { "ephemeralContainers": added } })));
    }
    let (mut resized, mut changed) = (Map::new(), Map::new());
    for list in ["initContainers", "containers"] {
        let (mut resources, mut images) = (Vec::new(), Vec::new());
        for (from, to) in pairs(home, run, list) {
            let (wanted, has) = (resources_of(from), resources_of(to));
            if wanted != has {
                resources.push(json!({ "name": from["name"], "resources": wanted }));
            }
            let image = rewritten(from["image"].as_str().unwrap_or_default(), &spec.maps.images);
            if !image.is_empty() && to["image"] != *image {
                images.push(json!({ "name": from["name"], "image": image }));
            }
        }
        if !resources.is_empty() {
            resized.insert(list.to_owned(), resources.into());
        }
        if !images.is_empty() {
            changed.insert(list.to_owned(), images.into());
        }
    }
    if !resized.is_empty() {
        patches.push(("resize", json!({ "spec": resized })));
    }
    let generation = home["metadata"]["generation"].as_i64().unwrap_or_default().to_string();
    let mut own = json!({ "metadata": { "annotations": { names::RUN_HOME_GENERATION: generation } } });
    if !changed.is_empty() {
        own["spec"] = Value::Object(changed);
    }
    patches.push(("", own));
    patches
}

fn items<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    pod["spec"][list].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Containers that both have.
fn pairs<'a>(home: &'a Value, run: &'a Value, list: &'a str) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    items(home, list).iter().filter_map(move |from| Some((from, items(run, list).iter().find(|to| to["name"] == from["name"])?)))
}

fn resources_of(container: &Value) -> Value {
    let of = |field: &str| container["resources"].get(field).filter(|map| map.as_object().is_some_and(|map| !map.is_empty())).cloned();
    let fields = ["requests", "limits"].into_iter().filter_map(|field| Some((field.to_owned(), of(field)?)));
    Value::Object(fields.collect())
}

/// Ephemeral containers that the run does not have.
fn ephemeral(home: &Value, run: &Value, spec: &ComputeClusterSpec) -> Vec<Value> {
    let has = |name: &Value| items(run, "ephemeralContainers").iter().any(|container| container["name"] == *name);
    let new = items(home, "ephemeralContainers").iter().filter(|container| container["name"].is_string() && !has(&container["name"]));
    let copy = |from: &Value| {
        let mut container: Map<String, Value> =
            EPHEMERAL_FIELDS.iter().filter_map(|field| Some(((*field).to_owned(), from.get(*field)?.clone()))).collect();
        container.insert("image".to_owned(), rewritten(from["image"].as_str().unwrap_or_default(), &spec.maps.images).into());
        // Only texts: references would lead to objects that did not travel.
        let plain = |variable: &&Value| variable["valueFrom"].is_null();
        let env: Vec<Value> = from["env"].as_array().into_iter().flatten().filter(plain).cloned().collect();
        if !env.is_empty() {
            container.insert("env".to_owned(), env.into());
        }
        Value::Object(container)
    };
    new.map(copy).collect()
}

//! The kinds `Task` and `TaskRun`: the committed definitions are current, and every example is good.

mod api;
mod live;
mod page;

use std::{collections::BTreeMap, path::Path};

use isobar::tasks::{crd, params, rules::Rules, run::TaskRunSpec, spec::TaskSpec, validate};
use serde_json::Value;

fn manifests() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

#[test]
fn the_committed_definitions_are_current() {
    for (name, wanted) in crd::texts().unwrap() {
        let path = manifests().join("crds").join(name);
        if std::env::var_os("ISOBAR_UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "{} is not current; run: ISOBAR_UPDATE=1 cargo test --test suite tasks", path.display());
    }
}

#[test]
fn every_example_is_good() {
    let mut objects: Vec<Value> = Vec::new();
    for entry in std::fs::read_dir(manifests().join("examples")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        objects.extend(serde_saphyr::from_multiple::<Value>(&text).unwrap());
    }
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let tasks: BTreeMap<String, TaskSpec> =
        of_kind("Task").map(|object| (name(object), serde_json::from_value(object["spec"].clone()).unwrap())).collect();
    assert!(tasks.len() >= 9 && of_kind("TaskRun").count() > 0, "{:?}", tasks.keys());
    let others: BTreeMap<&str, &TaskSpec> = tasks.iter().map(|(name, spec)| (name.as_str(), spec)).collect();
    let rules = Rules { sources: ["radar-in", "products"].map(str::to_owned).to_vec(), ..Rules::default() };
    for (name, spec) in &tasks {
        assert_eq!(validate::task(name, spec, &rules, &others), [], "{name}");
    }
    for object in of_kind("TaskRun") {
        let run: TaskRunSpec = serde_json::from_value(object["spec"].clone()).unwrap();
        assert!(params::resolve(&tasks[&run.task_ref.name], &run.params).is_ok(), "{object}");
    }
}

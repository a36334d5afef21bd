//! What is wrong with a task's pod template, as far as we and not the API server must know. In: the spec. Out: faults.

use serde_json::Value;

use super::Fault;
use crate::tasks::{names, params, spec::TaskSpec};

/// Bytes of a template as JSON: with everything else a run must fit into the store.
const TEMPLATE_BYTES_MAX: usize = 128 << 10;
/// Labels and annotations that are ours.
const RESERVED: [&str; 6] = [names::TASK, names::RUN, names::ATTEMPT, names::CYCLE, names::ACCOUNT, names::TRIGGER];
/// Environment that we give.
pub const ENV: [&str; 4] = ["RUN_ID", "ATTEMPT", "CYCLE", "TASK"];

pub(super) fn faults(spec: &TaskSpec) -> Vec<Fault> {
    let template = &spec.template.0;
    let mut faults = params::misplaced(spec);
    let bytes = template.to_string().len();
    if bytes > TEMPLATE_BYTES_MAX {
        let message = format!("it has {bytes} bytes; {TEMPLATE_BYTES_MAX} are the limit: put what is large into a ConfigMap");
        faults.push(Fault::new("TemplateTooLarge", "spec.template", message));
    }
    for field in fields(template).filter(|field| !matches!(*field, "metadata" | "spec")) {
        faults.push(Fault::new("TemplateField", format!("spec.template.{field}"), "a pod template has metadata and spec only"));
    }
    for field in fields(&template["metadata"]).filter(|field| !matches!(*field, "labels" | "annotations" | "creationTimestamp")) {
        let message = "names, owners and finalizers of pods are given by Isobar: a template has labels and annotations only";
        faults.push(Fault::new("TemplateField", format!("spec.template.metadata.{field}"), message));
    }
    for (list, field) in
        ["labels", "annotations"].into_iter().flat_map(|list| fields(&template["metadata"][list]).map(move |field| (list, field)))
    {
        if RESERVED.contains(&field) {
            faults.push(Fault::new(
                "ReservedLabel",
                format!("spec.template.metadata.{list}.{field}"),
                "it is given by Isobar: leave it out",
            ));
        }
    }
    if !template["spec"]["nodeName"].is_null() {
        let message = "a pod with a node is not scheduled at all: use nodeSelector or affinity";
        faults.push(Fault::new("TemplateField", "spec.template.spec.nodeName", message));
    }
    faults.extend(containers(&template["spec"]));
    faults.extend(architectures(spec));
    faults
}

fn fields(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

fn containers(spec: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        faults.push(Fault::new("NoContainers", "spec.template.spec.containers", "a pod needs a container"));
    }
    let mut names = std::collections::BTreeSet::new();
    for list in ["initContainers", "containers"] {
        for (at, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let place = |field: &str| format!("spec.template.spec.{list}[{at}].{field}");
            let name = container["name"].as_str().unwrap_or_default();
            if name.is_empty() || !names.insert(name.to_owned()) {
                faults.push(Fault::new("ContainerName", place("name"), "every container needs a name of its own"));
            }
            if container["image"].as_str().unwrap_or_default().is_empty() {
                faults.push(Fault::new("NoImage", place("image"), "a container needs an image"));
            }
            for env in container["env"].as_array().into_iter().flatten().filter_map(|env| env["name"].as_str()) {
                if ENV.contains(&env) {
                    faults.push(Fault::new("ReservedEnv", place("env"), format!("{env} is given by Isobar: leave it out")));
                }
            }
        }
    }
    faults
}

fn architectures(spec: &TaskSpec) -> Vec<Fault> {
    let is_word = |text: &str| !text.is_empty() && text.len() <= 63 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bad = spec.architectures.iter().enumerate().filter(|(_, one)| !is_word(one));
    bad.map(|(at, one)| Fault::new("BadArchitecture", format!("spec.architectures[{at}]"), format!("{one:?} is none: amd64, arm64, ...")))
        .collect()
}

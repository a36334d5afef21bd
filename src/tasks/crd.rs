//! The definitions of `Task` and `TaskRun`, made of the structs. In: their schemas. Out: the manifests, as committed in `manifests/crds/`; a test holds them
//! current. What one object can say is refused here; what needs the calendar, a regular expression or another object is a condition (`validate/`).

use serde_json::{Value, json};

use super::{
    names::TASK_CHARS_MAX,
    run::{TaskRunSpec, TaskRunStatus},
    spec::{TaskSpec, TaskStatus},
};
use crate::config::structural::{self, SPAN, bound, schema_of, set};

/// Names of parameters, which may become names of environment variables.
const PARAM: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
const LABEL: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// Characters of one parameter's value.
pub const VALUE_CHARS_MAX: usize = 4096;

/// The two manifests as text, with the files' names.
pub fn texts() -> Result<[(&'static str, String); 2], serde_saphyr::ser_error::Error> {
    let text = |definition: &Value| -> Result<String, serde_saphyr::ser_error::Error> {
        let yaml = serde_saphyr::to_string(definition)?;
        Ok(format!(
            "# Generated from src/tasks/{{spec,run,crd}}.rs: change it there, then run\n# `ISOBAR_UPDATE=1 cargo test --test suite tasks`.\n{yaml}"
        ))
    };
    Ok([("task.yaml", text(&task())?), ("taskrun.yaml", text(&task_run())?)])
}

/// The definition of `Task`.
pub fn task() -> Value {
    let mut spec = schema_of::<TaskSpec>();
    refine_task(&mut spec);
    bound(&mut spec);
    let columns = json!([
        column("Account", "string", ".spec.account", 0),
        column("Suspended", "boolean", ".spec.suspend", 0),
        column("Last", "date", ".status.lastScheduled", 0),
        column("Next", "string", ".status.nextScheduled", 0),
        column("Valid", "string", ".status.conditions[?(@.type==\"Valid\")].status", 0),
        column("Age", "date", ".metadata.creationTimestamp", 0),
        column("Schedule", "string", ".spec.triggers[0].cron.schedule", 1),
        column("Why", "string", ".status.conditions[?(@.type==\"Valid\")].message", 1),
    ]);
    let rules = json!([{
        "rule": format!("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= {TASK_CHARS_MAX}"),
        "message": format!("names of runs and pods are made of the name: a lower-case letter, then letters, digits and inner hyphens, {TASK_CHARS_MAX} at most"),
    }]);
    let about = "A task: registered once, each run gets a pod of its own.";
    definition("Task", "tasks", "task", &columns, &schema(about, &spec, &schema_of::<TaskStatus>(), &rules))
}

/// The definition of `TaskRun`.
pub fn task_run() -> Value {
    let mut spec = schema_of::<TaskRunSpec>();
    refine_run(&mut spec);
    bound(&mut spec);
    let columns = json!([
        column("Task", "string", ".spec.taskRef.name", 0),
        column("Cycle", "string", ".spec.cycle", 0),
        column("Phase", "string", ".status.phase", 0),
        column("Outcome", "string", ".status.outcome", 0),
        column("Attempt", "integer", ".status.attempt", 0),
        column("Node", "string", ".status.node", 0),
        column("Age", "date", ".metadata.creationTimestamp", 0),
        column("Reason", "string", ".status.reason", 0),
        column("Trigger", "string", ".spec.trigger.type", 1),
        column("Finished", "date", ".status.finishedAt", 1),
        column("Message", "string", ".status.message", 1),
    ]);
    let rules =
        json!([{"rule": "self.metadata.name.size() <= 56", "message": "names of pods are made of the name: 56 characters at most"}]);
    let about = "One run of a task.";
    definition("TaskRun", "taskruns", "trun", &columns, &schema(about, &spec, &schema_of::<TaskRunStatus>(), &rules))
}

fn column(name: &str, kind: &str, path: &str, priority: u8) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path, "priority": priority})
}

fn definition(kind: &str, plural: &str, short: &str, columns: &Value, schema: &Value) -> Value {
    let short: &[&str] = if kind.eq_ignore_ascii_case(short) { &[] } else { &[short] };
    let names = json!({
        "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(), "shortNames": short,
        "categories": ["isobar"],
    });
    structural::definition(&names, "Namespaced", columns, schema)
}

/// A status has one writer, who writes all of it: an API server need not keep, with each object, who wrote which field.
fn schema(about: &str, spec: &Value, status: &Value, rules: &Value) -> Value {
    let mut status = status.clone();
    set(&mut status, "", "x-kubernetes-map-type", &json!("atomic"));
    json!({
        "type": "object",
        "description": about,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": spec, "status": status,
        },
        "x-kubernetes-validations": rules,
    })
}

fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

fn refine_task(spec: &mut Value) {
    spec["required"] = json!(["template", "limits"]);
    let at = |path: &str| format!("/properties/{}", path.replace('.', "/properties/").replace("/properties/[]", "/items"));
    for (path, key, value) in [
        ("account", "pattern", json!(LABEL)),
        ("account", "maxLength", json!(63)),
        ("suspend", "default", json!(false)),
        ("params", "x-kubernetes-list-type", json!("map")),
        ("params", "x-kubernetes-list-map-keys", json!(["name"])),
        ("params.[]", "required", json!(["name"])),
        ("params.[].name", "pattern", json!(PARAM)),
        ("params.[].name", "maxLength", json!(63)),
        ("params.[].default", "maxLength", json!(VALUE_CHARS_MAX)),
        ("params.[].pattern", "maxLength", json!(1024)),
        ("params.[].description", "maxLength", json!(1024)),
        ("architectures", "maxItems", json!(8)),
        ("triggers", "maxItems", json!(16)),
        ("triggers.[].cron", "required", json!(["schedule"])),
        ("triggers.[].cron.cycleOffset", "pattern", json!(SPAN.replacen('^', "^-?", 1))),
        ("triggers.[].after", "required", json!(["tasks"])),
        ("triggers.[].after.tasks", "minItems", json!(1)),
        ("triggers.[].after.tasks", "maxItems", json!(16)),
        ("triggers.[].after.tasks.[]", "required", json!(["name"])),
        ("triggers.[].data", "required", json!(["source", "match"])),
        ("triggers.[].data.match", "maxLength", json!(1024)),
        ("triggers.[].data.allOf", "maxItems", json!(16)),
        ("triggers.[].data.allOf.[]", "maxLength", json!(1024)),
        ("concurrency.scope", "pattern", json!("^(task|param:[A-Za-z_][A-Za-z0-9_]*)$")),
        ("limits", "required", json!(["run"])),
        ("limits.run", "required", json!(["limit"])),
        ("limits.run.limit", "minLength", json!(2)),
    ] {
        set(spec, &at(path), key, &value);
    }
    let one = "(has(self.cron) ? 1 : 0) + (has(self.after) ? 1 : 0) + (has(self.data) ? 1 : 0) == 1";
    set(spec, &at("triggers.[]"), "x-kubernetes-validations", &json!([rule(one, "a trigger is exactly one of cron, after and data")]));
    let both = "!(has(self.required) && self.required && has(self.default))";
    set(spec, &at("params.[]"), "x-kubernetes-validations", &json!([rule(both, "a parameter that is required has no use for a default")]));
    spec["x-kubernetes-validations"] = json!([rule(
        "!has(self.concurrency) || !has(self.concurrency.scope) || self.concurrency.scope == 'task' || \
         (has(self.params) && self.params.exists(p, 'param:' + p.name == self.concurrency.scope))",
        "concurrency.scope names a parameter that params does not have"
    )]);
}

fn refine_run(spec: &mut Value) {
    spec["required"] = json!(["taskRef"]);
    set(spec, "/properties/taskRef", "required", &json!(["name"]));
    set(spec, "/properties/taskRef/properties/name", "minLength", &json!(1));
    set(spec, "/properties/cancel", "default", &json!(false));
    set(spec, "/properties/frozen", "x-kubernetes-map-type", &json!("atomic"));
    set(spec, "/properties/params/additionalProperties", "maxLength", &json!(VALUE_CHARS_MAX));
    set(spec, "/properties/trigger/properties/key", "maxLength", &json!(1024));
    let all_of = "/properties/frozen/properties/waitsFor/properties/allOf";
    set(spec, &format!("{all_of}/items"), "maxLength", &json!(1024));
    set(spec, all_of, "maxItems", &json!(32));
    set(spec, "/properties/frozen/properties/concurrency/properties/scope", "maxLength", &json!(VALUE_CHARS_MAX + 70));
    let fixed = ["trigger", "cycle", "scheduledTime", "params", "rerunOf"].map(|field| {
        rule(
            &format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"),
            &format!("{field} cannot be changed: start another run"),
        )
    });
    let mut rules = vec![
        rule("self.taskRef == oldSelf.taskRef", "taskRef cannot be changed: start another run"),
        rule("!oldSelf.cancel || self.cancel", "a cancellation cannot be taken back: start another run"),
        rule(
            "!has(oldSelf.frozen) || (has(self.frozen) && self.frozen == oldSelf.frozen)",
            "what a run took from its task cannot be changed",
        ),
    ];
    rules.extend(fixed);
    spec["x-kubernetes-validations"] = json!(rules);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_are_structural() {
        for definition in [task(), task_run()] {
            structural::assert_structural(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], 80);
        }
    }

    #[test]
    fn each_refinement_has_its_place() {
        let definition = task();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        assert_eq!(spec["params"]["items"]["properties"]["name"]["pattern"], PARAM);
        assert_eq!(spec["triggers"]["items"]["properties"]["after"]["properties"]["tasks"]["items"]["required"], json!(["name"]));
        assert_eq!(spec["triggers"]["items"]["properties"]["data"]["properties"]["allOf"]["items"]["maxLength"], 1024);
        assert_eq!(spec["limits"]["properties"]["run"]["properties"]["limit"]["minLength"], 2);
        assert_eq!(spec["concurrency"]["properties"]["scope"]["maxLength"], 253);
        let definition = task_run();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        assert_eq!(spec["params"]["additionalProperties"]["maxLength"], VALUE_CHARS_MAX);
        assert_eq!(spec["frozen"]["properties"]["waitsFor"]["properties"]["allOf"]["maxItems"], 32);
    }
}

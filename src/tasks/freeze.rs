//! From a task to a run, and from a run to a pod. In: a task and a firing, or a run as it was read. Out: the `TaskRun` to create with everything that it takes
//! from its task, or the pod of an attempt.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    facts::Run,
    names, params,
    rules::Rules,
    run::{Frozen, RunConcurrency, TaskRef, TaskRunSpec, TriggerKind, TriggerRef, WaitsFor},
    spec::{ConcurrencyPolicy, MissedPolicy, PodTemplate, TaskSpec},
    time::Time,
    trigger::Firing,
    validate::Fault,
};
use crate::model::time::Timestamp;

/// Label of nodes with their architecture.
const ARCH: &str = "kubernetes.io/arch";

/// The task that a run is of.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Generation of its spec.
    pub generation: i64,
}

/// The run that a firing starts. `longer`: the shorter name belongs to another key.
pub fn task_run(owner: &Owner, spec: &TaskSpec, firing: &Firing, rules: &Rules, longer: bool, now: Timestamp) -> Result<Value, Fault> {
    let name = names::run_name(owner.name, firing.kind, &firing.key, longer);
    let mut run = TaskRunSpec {
        task_ref: TaskRef { name: owner.name.to_owned() },
        trigger: TriggerRef { kind: firing.kind, key: firing.key.clone() },
        cycle: firing.cycle.map(Time::from),
        scheduled_time: firing.time.map(Time::from),
        params: firing.params.clone(),
        ..TaskRunSpec::default()
    };
    // Runs that are made up for keep the order of their cycles.
    let place = if firing.kind == TriggerKind::Cron { firing.time.unwrap_or(now) } else { now };
    run.frozen = Some(frozen(owner, spec, &run, &name, firing.waits_for.clone(), rules, place)?);
    Ok(json!({
        "apiVersion": names::API_VERSION,
        "kind": "TaskRun",
        "metadata": {
            "namespace": owner.namespace,
            "name": name,
            "labels": labels(&run),
            "ownerReferences": [owned_by(owner)],
        },
        "spec": run,
    }))
}

fn owned_by(owner: &Owner) -> Value {
    json!({"apiVersion": names::API_VERSION, "kind": "Task", "name": owner.name, "uid": owner.uid, "controller": true, "blockOwnerDeletion": false})
}

/// What is filled into a run that people have created with task and parameters only.
pub fn fill_in(owner: &Owner, spec: &TaskSpec, run: &Run, rules: &Rules) -> Result<Value, Fault> {
    let mut filled = TaskRunSpec {
        task_ref: TaskRef { name: owner.name.to_owned() },
        trigger: run.trigger.clone(),
        cycle: run.cycle.map(Time::from),
        params: run.given.clone(),
        ..TaskRunSpec::default()
    };
    filled.frozen = Some(frozen(owner, spec, &filled, &run.key.name, None, rules, run.created)?);
    let metadata = json!({"labels": labels(&filled), "ownerReferences": [owned_by(owner)]});
    Ok(json!({"metadata": metadata, "spec": {"frozen": filled.frozen}}))
}

/// What a run takes from its task.
pub fn frozen(
    owner: &Owner,
    spec: &TaskSpec,
    run: &TaskRunSpec,
    name: &str,
    waits_for: Option<WaitsFor>,
    rules: &Rules,
    place: Timestamp,
) -> Result<Frozen, Fault> {
    let values = params::resolve(spec, &run.params)?;
    let mut template = params::fill(&spec.template.0, &params::values(&values, name, run.cycle.map(|time| time.0)));
    require_architecture(&mut template, &spec.architectures);
    let own = template["spec"]["schedulerName"].as_str().unwrap_or(&rules.profile);
    let profile = if spec.profile.is_empty() { own.to_owned() } else { spec.profile.clone() };
    template["spec"]["schedulerName"] = profile.clone().into();
    if template["spec"]["restartPolicy"].is_null() {
        template["spec"]["restartPolicy"] = "Never".into();
    }
    let text = canonical(&template);
    Ok(Frozen {
        task_uid: owner.uid.to_owned(),
        task_generation: owner.generation,
        account: spec.account.clone(),
        profile,
        template_hash: names::sha256(&text),
        template: PodTemplate(template),
        waits_for,
        concurrency: concurrency(spec, &values, run.trigger.kind),
        limits: spec.limits.clone(),
        retry: spec.retry.clone(),
        logs: spec.logs.clone(),
        keep_pod: spec.retention.pod.clone(),
        priority_time: place.into(),
    })
}

fn concurrency(spec: &TaskSpec, values: &BTreeMap<String, String>, kind: TriggerKind) -> RunConcurrency {
    let mut crons = spec.triggers.iter().filter_map(|trigger| trigger.cron.as_ref());
    // Runs that are made up for come all at once: they wait for each other.
    let makes_up = kind == TriggerKind::Cron && crons.any(|cron| cron.missed.policy == MissedPolicy::All);
    let by_kind = if kind == TriggerKind::Data || makes_up { ConcurrencyPolicy::Queue } else { ConcurrencyPolicy::Forbid };
    let policy = spec.concurrency.policy.unwrap_or(by_kind);
    let unbounded = u32::from(policy != ConcurrencyPolicy::Allow);
    let scope = spec
        .concurrency
        .scope
        .strip_prefix("param:")
        .map_or_else(|| "task".to_owned(), |name| format!("{name}={}", values.get(name).map(String::as_str).unwrap_or_default()));
    RunConcurrency { policy: Some(policy), max: spec.concurrency.max.unwrap_or(unbounded), scope }
}

fn labels(run: &TaskRunSpec) -> Map<String, Value> {
    let kind = format!("{:?}", run.trigger.kind);
    let mut labels = Map::from_iter([(names::TASK.to_owned(), run.task_ref.name.clone().into()), (names::TRIGGER.to_owned(), kind.into())]);
    if let Some(cycle) = run.cycle {
        labels.insert(names::CYCLE.to_owned(), names::cycle_label(cycle.0).into());
    }
    if let Some(frozen) = run.frozen.as_ref().filter(|frozen| !frozen.account.is_empty()) {
        labels.insert(names::ACCOUNT.to_owned(), frozen.account.clone().into());
    }
    labels
}

/// Every alternative of the node affinity gets the requirement: alternatives are any-of.
fn require_architecture(template: &mut Value, architectures: &[String]) {
    if architectures.is_empty() {
        return;
    }
    let required = &mut template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    if required["nodeSelectorTerms"].as_array().is_none_or(Vec::is_empty) {
        required["nodeSelectorTerms"] = json!([{}]);
    }
    for term in required["nodeSelectorTerms"].as_array_mut().into_iter().flatten() {
        let mut all = term["matchExpressions"].as_array().cloned().unwrap_or_default();
        all.push(json!({"key": ARCH, "operator": "In", "values": architectures}));
        term["matchExpressions"] = all.into();
    }
}

/// The same text for the same template, whatever order the API server gives its fields.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().filter(|(_, field)| !field.is_null()).collect();
            fields.sort_by_key(|(key, _)| *key);
            let inner: Vec<String> =
                fields.into_iter().map(|(key, field)| format!("{}:{}", Value::from(key.as_str()), canonical(field))).collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// The pod of an attempt, from the run as the API server has it. Refused when the template is not the one that was frozen.
pub fn pod(run: &Value, attempt: u32) -> Result<Value, String> {
    let spec: TaskRunSpec =
        serde_json::from_value(run["spec"].clone()).map_err(|error| format!("the run's spec cannot be read: {error}"))?;
    let Some(frozen) = &spec.frozen else { return Err("the run has no template yet".to_owned()) };
    if names::sha256(&canonical(&frozen.template.0)) != frozen.template_hash {
        return Err("the run's template was changed after the run began: start another run".to_owned());
    }
    let name = run["metadata"]["name"].as_str().unwrap_or_default();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": frozen.template.0["metadata"], "spec": frozen.template.0["spec"]});
    let metadata = &mut pod["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata["name"] = names::pod_name(name, attempt).into();
    metadata["namespace"] = run["metadata"]["namespace"].clone();
    metadata["finalizers"] = json!([names::LOGS_FINALIZER]);
    metadata["ownerReferences"] = json!([{
        "apiVersion": names::API_VERSION, "kind": "TaskRun", "name": name, "uid": run["metadata"]["uid"], "controller": true, "blockOwnerDeletion": false,
    }]);
    if !metadata["labels"].is_object() {
        metadata["labels"] = json!({});
    }
    for (key, value) in labels(&spec) {
        metadata["labels"][key] = value;
    }
    metadata["labels"][names::RUN] = name.into();
    metadata["labels"][names::ATTEMPT] = attempt.to_string().into();
    let cycle = spec.cycle.map(|time| time.0.to_rfc3339()).unwrap_or_default();
    let attempt = attempt.to_string();
    let given = [("RUN_ID", name), ("ATTEMPT", attempt.as_str()), ("CYCLE", cycle.as_str()), ("TASK", spec.task_ref.name.as_str())];
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            // First, so that the template's own variables can use them.
            let ours = given.iter().map(|(name, value)| json!({"name": name, "value": value}));
            let all: Vec<Value> = ours.chain(container["env"].as_array().cloned().unwrap_or_default()).collect();
            container["env"] = all.into();
        }
    }
    Ok(pod)
}

/// What is there under a name that a run was to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// The very run.
    Same,
    /// The same key with other parameters: the second submission is refused.
    OtherContent,
    /// Another key: this one takes the longer name.
    OtherKey,
    /// A run of an earlier task of the name, which is going.
    OtherTask,
}

/// Compares the run that is there with the one that was to be created.
pub fn met(there: &Value, wanted: &Value) -> Met {
    let (there, wanted) = (&there["spec"], &wanted["spec"]);
    if there["trigger"] != wanted["trigger"] {
        return Met::OtherKey;
    }
    let uid = |spec: &Value| spec["frozen"]["taskUid"].as_str().unwrap_or_default().to_owned();
    if uid(there) != uid(wanted) {
        return Met::OtherTask;
    }
    let is_manual = wanted["trigger"]["type"] == "Manual";
    let params = |spec: &Value| spec["params"].as_object().cloned().unwrap_or_default();
    if is_manual && (params(there) != params(wanted) || there["cycle"] != wanted["cycle"]) { Met::OtherContent } else { Met::Same }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TaskSpec {
        serde_json::from_value(json!({
            "account": "radar", "params": [{"name": "station", "default": "Z9010"}], "architectures": ["arm64"],
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "containers": [{"name": "main", "image": "a", "args": ["$(station)"], "env": [{"name": "X", "value": "$(cycle)"}]}],
                "initContainers": [{"name": "first", "image": "a"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}, {"matchFields": []}]}}},
            }},
            "concurrency": {"scope": "param:station"}, "limits": {"run": {"limit": "5m"}},
        }))
        .unwrap()
    }

    fn made(firing: &Firing) -> Value {
        let owner = Owner { namespace: "ns", name: "radar", uid: "t1", generation: 3 };
        let mut run = task_run(&owner, &spec(), firing, &Rules::default(), false, Timestamp(1_700_000_000_000)).unwrap();
        run["metadata"]["uid"] = "r1".into();
        run
    }

    fn firing() -> Firing {
        let at = Timestamp::parse_rfc3339("2026-11-28T06:00:00Z");
        Firing { kind: TriggerKind::Cron, key: "2026-11-28T06:00:00Z".into(), cycle: at, time: at, ..Firing::default() }
    }

    #[test]
    fn a_run_takes_everything_from_its_task_and_a_pod_from_the_run() {
        let run = made(&firing());
        let frozen = &run["spec"]["frozen"];
        assert_eq!(run["metadata"]["labels"][names::CYCLE], "20261128T0600Z");
        assert_eq!(frozen["concurrency"], json!({"policy": "Forbid", "max": 1, "scope": "station=Z9010"}));
        assert_eq!(frozen["priorityTime"], "2026-11-28T06:00:00Z");
        let terms =
            &frozen["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchExpressions"][1]["values"], json!(["arm64"]));
        assert_eq!(terms[1]["matchExpressions"][0]["key"], ARCH, "every alternative");

        let pod = pod(&run, 2).unwrap();
        assert_eq!(pod["metadata"]["name"], "radar-chtiq0-2");
        assert_eq!(pod["metadata"]["labels"]["a"], "b");
        assert_eq!(pod["metadata"]["labels"][names::RUN], "radar-chtiq0");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "r1");
        assert_eq!((&pod["spec"]["schedulerName"], &pod["spec"]["restartPolicy"]), (&json!("isobar-scheduler"), &json!("Never")));
        let main = &pod["spec"]["containers"][0];
        assert_eq!(main["args"], json!(["Z9010"]));
        let env: Vec<&str> = main["env"].as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap()).collect();
        assert_eq!(env, ["radar-chtiq0", "2", "2026-11-28T06:00:00Z", "radar", "2026-11-28T06:00:00Z"]);
        assert_eq!(pod["spec"]["initContainers"][0]["env"][1]["value"], "2");
    }

    #[test]
    fn a_template_in_another_order_is_the_same_and_a_changed_one_is_refused() {
        let run = made(&firing());
        let sorted: BTreeMap<String, Value> = serde_json::from_value(run["spec"]["frozen"]["template"]["spec"].clone()).unwrap();
        let mut other = run.clone();
        other["spec"]["frozen"]["template"]["spec"] = json!(sorted);
        assert_eq!(pod(&other, 1).unwrap()["spec"]["containers"], pod(&run, 1).unwrap()["spec"]["containers"]);
        other["spec"]["frozen"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
        assert!(pod(&other, 1).unwrap_err().contains("was changed"));
    }

    #[test]
    fn what_has_the_name_is_told_apart() {
        let run = made(&firing());
        let with = |place: &str, value: Value| {
            let mut other = run.clone();
            *other.pointer_mut(place).unwrap() = value;
            other
        };
        assert_eq!(met(&run, &run), Met::Same);
        assert_eq!(met(&with("/spec/trigger/key", json!("k")), &run), Met::OtherKey);
        assert_eq!(met(&with("/spec/frozen/taskUid", json!("t0")), &run), Met::OtherTask);
        assert_eq!(met(&with("/spec/params", json!({"station": "Z1"})), &run), Met::Same, "the clock gives no parameters");
        let manual = made(&Firing {
            kind: TriggerKind::Manual,
            key: "k".into(),
            params: BTreeMap::from([("station".into(), "Z1".into())]),
            ..Firing::default()
        });
        let mut other = manual.clone();
        other["spec"]["params"]["station"] = "Z2".into();
        assert_eq!(met(&other, &manual), Met::OtherContent);
    }
}

//! Every bad field in turn: one word, its path, what to do.

use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "account": "radar",
        "params": [{"name": "station", "pattern": "Z[0-9]{4}", "default": "Z9010"}],
        "template": {"spec": {"containers": [{"name": "main", "image": "a", "args": ["$(station)", "$(cycle)"]}]}},
        "architectures": ["arm64"],
        "triggers": [
            {"cron": {"schedule": "*/6 * * * *", "timeZone": "Europe/Berlin", "cycleOffset": "-6m", "missed": {"deadline": "5m"}}},
            {"after": {"tasks": [{"name": "decode"}]}},
            {"data": {"source": "radar-in", "match": "^(?<station>Z\\d{4})_(?<cycle>\\d{12})$"}},
        ],
        "concurrency": {"policy": "Queue", "scope": "param:station"},
        "limits": {"run": {"limit": "20m"}},
    })
}

fn faults(spec: &Value) -> Vec<Fault> {
    let spec: TaskSpec = serde_json::from_value(spec.clone()).unwrap();
    let rules = Rules { sources: vec!["radar-in".into()], ..Rules::default() };
    let decode: TaskSpec = serde_json::from_value(json!({"triggers": [{"after": {"tasks": [{"name": "late"}]}}]})).unwrap();
    task("radar", &spec, &rules, &BTreeMap::from([("radar", &spec), ("decode", &decode)]))
}

#[test]
fn every_bad_field_is_told_with_its_path() {
    assert_eq!(faults(&good()), []);
    for (place, value, reason, path, part) in [
        ("/params/0/name", json!("9a"), "BadParamName", "spec.params[0].name", "is no name"),
        ("/params/0/name", json!("cycle"), "BadParamName", "spec.params[0].name", "stands for something"),
        ("/params/0/pattern", json!("Z[0-9"), "BadPattern", "spec.params[0].pattern", "unclosed character class"),
        ("/params/0/default", json!("9010"), "BadDefault", "spec.params[0].default", "does not match Z[0-9]{4}"),
        ("/params/0/required", json!(true), "RequiredWithDefault", "spec.params[0].default", "no use for a default"),
        ("/params", json!([{"name": "station"}, {"name": "station"}]), "DuplicateParam", "spec.params[1].name", "twice"),
        ("/params/1", json!({"name": "need", "required": true}), "ParamMissing", "spec.triggers[0]", "need is required"),
        ("/template/spec/containers", json!([]), "NoContainers", "spec.template.spec.containers", "needs a container"),
        (
            "/template/spec/containers/0/image",
            json!("a:$(station)"),
            "SubstitutionForbidden",
            "spec.template.spec.containers[0].image",
            "env",
        ),
        ("/template/spec/containers/0/image", json!(""), "NoImage", "spec.template.spec.containers[0].image", "needs an image"),
        (
            "/template/spec/containers/1",
            json!({"name": "main", "image": "b"}),
            "ContainerName",
            "spec.template.spec.containers[1].name",
            "of its own",
        ),
        (
            "/template/spec/containers/0/env",
            json!([{"name": "RUN_ID"}]),
            "ReservedEnv",
            "spec.template.spec.containers[0].env",
            "RUN_ID is given",
        ),
        ("/template/spec/nodeName", json!("n1"), "TemplateField", "spec.template.spec.nodeName", "nodeSelector"),
        ("/template/metadata", json!({"name": "x"}), "TemplateField", "spec.template.metadata.name", "labels and annotations only"),
        (
            "/template/metadata",
            json!({"labels": {"isobar.dev/task": "x"}}),
            "ReservedLabel",
            "spec.template.metadata.labels.isobar.dev/task",
            "leave it out",
        ),
        ("/template/status", json!({}), "TemplateField", "spec.template.status", "metadata and spec only"),
        ("/template/spec/note", json!("x".repeat(130 << 10)), "TemplateTooLarge", "spec.template", "131072 are the limit"),
        ("/architectures/0", json!("x86 64"), "BadArchitecture", "spec.architectures[0]", "amd64"),
        ("/triggers/0", json!({}), "NotOneTrigger", "spec.triggers[0]", "exactly one"),
        ("/triggers/0/cron/schedule", json!("every day"), "BadSchedule", "spec.triggers[0].cron.schedule", "is not a schedule"),
        ("/triggers/0/cron/schedule", json!("0 0 30 2 *"), "BadSchedule", "spec.triggers[0].cron.schedule", "never comes"),
        ("/triggers/0/cron/timeZone", json!("Berlin"), "UnknownTimeZone", "spec.triggers[0].cron.timeZone", "Europe/Berlin"),
        ("/triggers/0/cron/cycleOffset", json!("-PT6M"), "BadOffset", "spec.triggers[0].cron.cycleOffset", "-6m"),
        ("/triggers/0/cron/cycleOffset", json!("9999h"), "BadOffset", "spec.triggers[0].cron.cycleOffset", "31 days"),
        ("/triggers/0/cron/missed/deadline", json!("soon"), "BadSpan", "spec.triggers[0].cron.missed.deadline", "90s"),
        ("/triggers/0/cron/missed", json!({"policy": "All"}), "AllWithForbid", "spec.triggers[0].cron.missed.policy", "use Queue"),
        ("/triggers/1/after/tasks", json!([]), "NoUpstream", "spec.triggers[1].after.tasks", "name the tasks"),
        ("/triggers/1/after/tasks/0/name", json!("radar"), "BadUpstream", "spec.triggers[1].after.tasks[0].name", "another task"),
        ("/triggers/1/after/tasks/1", json!({"name": "decode"}), "DuplicateUpstream", "spec.triggers[1].after.tasks[1].name", "twice"),
        ("/triggers/2/data/source", json!("elsewhere"), "UnknownSource", "spec.triggers[2].data.source", "there are: radar-in"),
        ("/triggers/2/data/match", json!("("), "BadMatch", "spec.triggers[2].data.match", "unclosed group"),
        ("/triggers/2/data/match", json!(""), "BadMatch", "spec.triggers[2].data.match", "write .*"),
        ("/triggers/2/data/match", json!("(?<other>.)"), "UnknownGroup", "spec.triggers[2].data.match", "the group other"),
        ("/triggers/2/data/allOf", json!(["^model$"]), "NoCycle", "spec.triggers[2].data.allOf[0]", "(?<cycle>...)"),
        ("/concurrency/scope", json!("param:other"), "UnknownScope", "spec.concurrency.scope", "a parameter's name"),
        ("/limits/run/limit", json!(""), "NoRunLimit", "spec.limits.run.limit", "20m"),
        ("/limits/run/limit", json!("0s"), "NoRunLimit", "spec.limits.run.limit", "20m"),
        ("/limits/run/limit", json!("20"), "BadSpan", "spec.limits.run.limit", "no span of time"),
        ("/limits/queue", json!({"alarm": "-1s"}), "BadSpan", "spec.limits.queue.alarm", "no span of time"),
        ("/limits/grace", json!("99999h"), "BadSpan", "spec.limits.grace", "longer than a year"),
        ("/retry", json!({"backoff": {"initial": "x"}}), "BadSpan", "spec.retry.backoff.initial", "no span of time"),
        ("/retention", json!({"failed": {"ttl": "1d"}}), "BadSpan", "spec.retention.failed.ttl", "no span of time"),
        ("/logs", json!({"sink": "tape"}), "UnknownSink", "spec.logs.sink", "there are: default"),
        ("/logs", json!({"deadline": "x"}), "BadSpan", "spec.logs.deadline", "no span of time"),
    ] {
        let mut spec = good();
        if reason == "AllWithForbid" {
            spec["concurrency"]["policy"] = "Forbid".into();
        }
        let (parent, last) = place.rsplit_once('/').unwrap();
        match spec.pointer_mut(parent).unwrap() {
            Value::Array(items) if last.parse::<usize>().unwrap() == items.len() => items.push(value),
            Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
            parent => parent[last] = value,
        }
        let found = faults(&spec);
        let told = found.iter().find(|fault| fault.reason == reason).unwrap_or_else(|| panic!("{place}: {found:?}"));
        assert_eq!(told.path, path);
        assert!(told.message.contains(part), "{place}: {}", told.message);
    }
}

#[test]
fn a_circle_of_tasks_is_told_on_each_of_them() {
    let mut spec = good();
    spec["triggers"][1]["after"]["tasks"][0]["name"] = "late".into();
    let waits = |name: &str| -> TaskSpec { serde_json::from_value(json!({"triggers": [{"after": {"tasks": [{"name": name}]}}]})).unwrap() };
    let (radar, late): (TaskSpec, TaskSpec) = (serde_json::from_value(spec).unwrap(), waits("radar"));
    let rules = Rules { sources: vec!["radar-in".into()], ..Rules::default() };
    let all = BTreeMap::from([("radar", &radar), ("late", &late)]);
    let circles: Vec<Fault> = task("radar", &radar, &rules, &all).into_iter().filter(|fault| fault.reason == "AfterCircle").collect();
    assert!(circles[0].message.contains("radar -> late -> radar"), "{circles:?}");
}

#[test]
fn the_condition_tells_the_first_reason_and_most_of_the_rest() {
    let now = Timestamp(0);
    assert_eq!((condition(&[], now).status.as_str(), condition(&[], now).reason.as_str()), ("True", "Valid"));
    let many = vec![Fault::new("BadSpan", "spec.x", "bad"); 10];
    let told = condition(&many, now);
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "BadSpan"));
    assert!(told.message.starts_with("spec.x: bad; ") && told.message.ends_with("; and 2 more"), "{}", told.message);
}

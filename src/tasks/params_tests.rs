//! Values of parameters, good and bad, and where they go.

use serde_json::json;

use super::*;
use crate::tasks::spec::PodTemplate;

fn spec() -> TaskSpec {
    let param = |name: &str, kind, default: Option<&str>, pattern: &str, required| Param {
        name: name.into(),
        kind,
        default: default.map(str::to_owned),
        pattern: pattern.into(),
        required,
        description: String::new(),
    };
    let params = vec![
        param("station", ParamKind::String, None, "Z[0-9]{4}", true),
        param("members", ParamKind::Integer, Some("20"), "", false),
        param("dry", ParamKind::Boolean, None, "", false),
        param("note", ParamKind::String, None, "", false),
    ];
    TaskSpec { params, ..TaskSpec::default() }
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_bad_value_is_refused_with_its_path() {
    let huge = "x".repeat(2 << 20);
    let long = "x".repeat(VALUE_CHARS_MAX + 1);
    for (values, reason, path, part) in [
        (given(&[]), "ParamMissing", "spec.params.station", "station is required"),
        (given(&[("station", "Z9010"), ("membres", "5")]), "ParamUnknown", "spec.params.membres", "did you mean members?"),
        (given(&[("station", "Z9010"), ("other", "5")]), "ParamUnknown", "spec.params.other", "it has: station, members, dry, note"),
        (given(&[("station", "Z90100")]), "ParamPattern", "spec.params.station", "\"Z90100\" does not match Z[0-9]{4}"),
        (given(&[("station", "Z9010\n")]), "ParamPattern", "spec.params.station", "does not match"),
        (given(&[("station", "Z9010"), ("members", "many")]), "ParamType", "spec.params.members", "not a whole number"),
        (given(&[("station", "Z9010"), ("dry", "yes"), ("note", "")]), "ParamType", "spec.params.dry", "neither true nor false"),
        (given(&[("station", "Z9010"), ("note", "a\0b")]), "ParamPattern", "spec.params.note", "NUL"),
        (given(&[("station", "Z9010"), ("note", &long)]), "ParamTooLong", "spec.params.note", "4097 characters"),
        (given(&[("station", "Z9010"), ("note", &huge)]), "ParamsTooLarge", "spec.params", "65536 are the limit"),
    ] {
        let fault = resolve(&spec(), &values).unwrap_err();
        assert_eq!((fault.reason, fault.path.as_str()), (reason, path));
        assert!(fault.message.contains(part), "{}", fault.message);
    }
    let good = resolve(&spec(), &given(&[("station", "Z9010")])).unwrap();
    assert_eq!(good, given(&[("station", "Z9010"), ("members", "20"), ("dry", ""), ("note", "")]));
}

#[test]
fn parameters_go_into_args_env_and_annotations_and_nowhere_else() {
    let container = json!({
        "name": "$(station)", "image": "a", "command": ["sh", "-c", "date"], "args": ["--at=$(cycleDate)T$(cycleHour)", "$(HOME) $$(station) $(date +%s) $(station"],
        "env": [{"name": "S", "value": "$(station)"}, {"name": "R", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    });
    let template = json!({
        "metadata": {"annotations": {"note": "$(run) of $(cycle)"}, "labels": {"a": "b"}},
        "spec": {"containers": [container.clone()], "initContainers": [container]},
    });
    let cycle = Timestamp::parse_rfc3339("2026-11-28T06:00:00Z");
    let filled = fill(&template, &values(&given(&[("station", "Z9010 $(run)")]), "radar-1", cycle));
    assert_eq!(filled["metadata"]["annotations"]["note"], "radar-1 of 2026-11-28T06:00:00Z");
    for list in ["containers", "initContainers"] {
        let one = &filled["spec"][list][0];
        assert_eq!(one["args"], json!(["--at=20261128T06", "$(HOME) $$(station) $(date +%s) $(station"]));
        assert_eq!(one["env"][0]["value"], "Z9010 $(run)", "a value is not looked at again");
        assert_eq!(one["name"], "$(station)");
    }
    let spec = TaskSpec { template: PodTemplate(template), ..spec() };
    let places: Vec<String> = misplaced(&spec).into_iter().map(|fault| fault.path).collect();
    assert_eq!(places, ["spec.template.spec.containers[0].name", "spec.template.spec.initContainers[0].name"]);
}

#[test]
fn forbidden_places_are_named() {
    for (template, place) in [
        (json!({"spec": {"serviceAccountName": "$(station)"}}), "spec.template.spec.serviceAccountName"),
        (json!({"spec": {"imagePullSecrets": [{"name": "$(note)"}]}}), "spec.template.spec.imagePullSecrets[0].name"),
        (json!({"spec": {"containers": [{"image": "a:$(cycleHour)"}]}}), "spec.template.spec.containers[0].image"),
        (json!({"spec": {"containers": [{"command": ["$(run)"]}]}}), "spec.template.spec.containers[0].command[0]"),
        (json!({"metadata": {"labels": {"a": "$(station)"}}}), "spec.template.metadata.labels.a"),
        (json!({"spec": {"volumes": [{"hostPath": {"path": "/$(station)"}}]}}), "spec.template.spec.volumes[0].hostPath.path"),
    ] {
        let faults = misplaced(&TaskSpec { template: PodTemplate(template), ..spec() });
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), [place]);
        assert_eq!(faults[0].reason, "SubstitutionForbidden");
    }
}

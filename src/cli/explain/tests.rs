//! Cases as people keep them, and properties of explanations. `tests/explain/NAME.json` is one line of a batch, `NAME.expected.json` its answer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{batch::Batch, case, default_profiles, objects, table};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| !path.to_string_lossy().ends_with(".expected.json"));
    cases.sort();
    cases
}

fn batch() -> Batch {
    Batch::new(default_profiles().unwrap(), 0)
}

/// After a change that is meant: run with `ISOBAR_BLESS=1` and read the difference.
#[test]
fn every_case_has_its_expected_answer() {
    let cases = cases();
    assert!(cases.len() >= 20, "the cases are not there");
    let mut batch = batch();
    let mut wrong = Vec::new();
    for path in cases {
        let (answer, good) = batch.answer(&std::fs::read(&path).unwrap());
        assert!(good, "{}: {answer}", path.display());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let expected_at = path.with_extension("expected.json");
        if std::env::var_os("ISOBAR_BLESS").is_some() {
            std::fs::write(&expected_at, serde_json::to_string_pretty(&answer).unwrap() + "\n").unwrap();
        }
        let expected: Value = serde_json::from_slice(&std::fs::read(&expected_at).unwrap()).unwrap();
        if answer != expected {
            wrong.push(format!("{}: {answer}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The fields and their order are a promise; see `docs/explain.md`.
#[test]
fn every_answer_has_the_documented_fields_in_order() {
    let fields = [
        "id",
        "pod",
        "profile",
        "error",
        "gated",
        "prefilter",
        "infeasible",
        "feasible",
        "scores",
        "total",
        "best",
        "chosen",
        "preemption",
        "message",
    ];
    for path in cases() {
        let (answer, _) = batch().answer(&std::fs::read(&path).unwrap());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), fields);
    }
}

fn tie_of_seven(repeat: u32) -> Value {
    let node = |number| json!({"kind": "Node", "metadata": {"name": format!("n{number}")}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
    let mut objects: Vec<Value> = (0..7).map(node).collect();
    objects.push(json!({"kind": "Pod", "metadata": {"namespace": "x", "name": "p", "uid": "u"}, "spec": {"containers": [{"name": "c"}]}}));
    json!({"id": repeat, "objects": objects, "pod": "x/p"})
}

#[test]
fn ties_are_uniform_over_ids_and_the_same_for_the_same_id() {
    const REPEATS: u32 = 10_000;
    let objects = objects::from_value("objects", &tie_of_seven(0)["objects"]).unwrap();
    let mut world = case::World::new(&default_profiles().unwrap(), objects, &case::pod_key("x/p").unwrap()).unwrap();
    let mut counts = [0_u32; 7];
    for repeat in 0..REPEATS {
        let explanation = world.explain(0, &repeat.to_string());
        assert_eq!(explanation.best.len(), 7);
        counts[explanation.chosen.unwrap()[1..].parse::<usize>().unwrap()] += 1;
    }
    let expected = f64::from(REPEATS) / 7.0;
    let chi_square: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    // 22.46 is the 0.999 quantile of the chi-square distribution with 6 degrees of freedom. Below 0.5 it would be too even to be random.
    assert!((0.5..22.46).contains(&chi_square), "{chi_square}: {counts:?}");
    for repeat in 0..20 {
        let (answer, _) = batch().answer(tie_of_seven(repeat).to_string().as_bytes());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            answer["chosen"].as_str(),
            world.explain(0, &repeat.to_string()).chosen.as_deref(),
            "a batch draws as a single question does"
        );
    }
}

#[test]
fn other_seeds_give_other_outcomes() {
    let chosen = |seed| {
        let (answer, _) = Batch::new(default_profiles().unwrap(), seed).answer(tie_of_seven(1).to_string().as_bytes());
        serde_json::from_str::<Value>(&answer).unwrap()["chosen"].clone()
    };
    let outcomes: Vec<Value> = (0..20).map(chosen).collect();
    assert!(outcomes.iter().any(|outcome| *outcome != outcomes[0]));
}

#[test]
fn a_bad_line_is_answered_and_the_stream_goes_on() {
    let good = tie_of_seven(3).to_string();
    let lines = format!(
        "{good}\nnot json\n\n{}\n{}\n{}\n{}\n{good}",
        json!({"id": "no-pod", "objects": []}),
        json!({"id": "gone", "objects": [], "pod": "x/p"}),
        json!({"id": "bad-config", "objects": [], "pod": "x/p", "config": {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", "profils": []}}),
        json!({"id": "bad-object", "objects": [{"kind": "Node"}], "pod": "x/p"}),
    );
    let mut out = Vec::new();
    assert_eq!(batch().run(lines.as_bytes(), &mut out).unwrap(), 5);
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[0], lines[6]);
    insta::assert_snapshot!(lines[1..6].join("\n"));
}

#[test]
fn a_configuration_may_be_yaml_text() {
    let mut case = tie_of_seven(1);
    case["config"] = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- plugins:\n    score:\n      disabled: [{name: '*'}]\n      enabled: [{name: ImageLocality, weight: 3}]\n".into();
    let (answer, good) = batch().answer(case.to_string().as_bytes());
    assert!(good, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["scores"].as_object().unwrap().keys().all(|plugin| plugin == "ImageLocality"), "{answer}");
}

#[test]
fn tables() {
    let shown = [
        "default-profile",
        "taint-toleration-score",
        "node-resources-fit-filter",
        "node-resources-fit-filter-nowhere",
        "taint-toleration-filter",
        "bound-pod-is-asked-anew",
        "node-name-unknown",
        "scheduling-gates",
        "scheduler-nobody-serves",
        "no-nodes",
    ];
    for name in shown {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain").join(format!("{name}.json"));
        let case: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let profiles = default_profiles().unwrap();
        let objects = objects::from_value("objects", &case["objects"]).unwrap();
        let pod = case::pod_key(case["pod"].as_str().unwrap()).unwrap();
        let answer = case::World::new(&profiles, objects, &pod).unwrap().answer(0, name);
        insta::assert_snapshot!(format!("table_{name}"), table::render(&answer));
    }
}

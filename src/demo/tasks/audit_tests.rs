//! Each fault is found in a history that has it, and none in the one that has not.

use serde_json::{Value, json};

use super::*;

/// What a watch showed, in the order of versions.
enum Shown {
    Run(Value),
    Pod(Value),
    PodGone(Value),
}

fn run(name: &str, task: &str, version: u64, status: &Value) -> Shown {
    let spec = json!({"taskRef": {"name": task}, "cycle": "2026-03-01T06:00:00Z", "trigger": {"type": "Cron", "key": "k"}});
    Shown::Run(json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string()}, "spec": spec, "status": status}))
}

fn pod_object(run: &str, attempt: u32, version: u64, phase: &str) -> Value {
    let name = format!("{run}-{attempt}");
    json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(), "labels": {"isobar.dev/task-run": run}}, "status": {"phase": phase}})
}

fn pod(run: &str, attempt: u32, version: u64, phase: &str) -> Shown {
    Shown::Pod(pod_object(run, attempt, version, phase))
}

fn gone(run: &str, attempt: u32, version: u64) -> Shown {
    Shown::PodGone(pod_object(run, attempt, version, "Succeeded"))
}

fn attempt(run: &str, number: u32, logs: bool, reaped: bool) -> Value {
    let mut attempt = json!({"number": number, "podName": format!("{run}-{number}"), "podUID": format!("{run}-{number}")});
    if logs {
        attempt["logs"] = json!({"uri": "memory://x", "bytes": 10, "complete": true});
    }
    if reaped {
        attempt["reap"] = json!({"result": "Deleted"});
    }
    attempt
}

fn reaped(run: &str) -> Value {
    json!({"phase": "Reaped", "outcome": "Succeeded", "attempts": [attempt(run, 1, true, true)]})
}

/// A model at its second attempt, and a product after it.
fn good() -> Vec<Shown> {
    let attempts = |logs, reaped| json!([attempt("m", 1, true, true), attempt("m", 2, logs, reaped)]);
    vec![
        run("m", "model", 1, &json!({})),
        pod("m", 1, 2, "Pending"),
        pod("m", 1, 3, "Running"),
        run("m", "model", 4, &json!({"phase": "Recycling", "attempts": [attempt("m", 1, true, false)]})),
        gone("m", 1, 5),
        pod("m", 2, 6, "Running"),
        run("m", "model", 7, &json!({"phase": "Finishing", "outcome": "Succeeded", "attempts": attempts(true, false)})),
        gone("m", 2, 8),
        pod("p", 1, 9, "Running"),
        run("p", "product", 10, &json!({"phase": "Recycling", "outcome": "Succeeded", "attempts": [attempt("p", 1, true, false)]})),
        gone("p", 1, 11),
        run("p", "product", 12, &reaped("p")),
        run("m", "model", 13, &json!({"phase": "Reaped", "outcome": "Succeeded", "attempts": attempts(true, true)})),
    ]
}

fn wanted() -> Wanted {
    let awaited = |task: &str| Awaited { task: task.to_owned(), cycle: "2026-03-01T06:00:00Z".to_owned() };
    Wanted {
        runs: vec![awaited("model"), awaited("product")],
        follows: vec![Follows { task: "product".to_owned(), after: "model".to_owned(), well: true }],
        archived: ["m-1", "m-2", "p-1"].map(|uid| (uid.to_owned(), (1, 10))).into(),
    }
}

fn found(shown: Vec<Shown>, wanted: &Wanted) -> Vec<(&'static str, usize)> {
    let mut ledger = Ledger::default();
    for (at_ms, one) in (0..).zip(shown) {
        match one {
            Shown::Run(run) => ledger.see_run(at_ms, &run).unwrap(),
            Shown::Pod(pod) => ledger.see_pod(at_ms, &pod),
            Shown::PodGone(pod) => ledger.lose_pod(&pod),
        }
    }
    faults(&ledger, wanted).into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn a_good_history_has_no_faults() {
    assert_eq!(found(good(), &wanted()), []);
}

#[test]
fn each_fault_is_told() {
    /// How a good history is made bad.
    type Doctor = fn(&mut Vec<Shown>, &mut Wanted);
    let cases: [(&str, Doctor); 14] = [
        ("runs missing", |_, wanted| wanted.runs.push(Awaited { task: "model".into(), cycle: "2026-03-01T06:06:00Z".into() })),
        ("runs missing", |_, wanted| wanted.runs.push(wanted.runs[0].clone())),
        ("runs too many", |shown, _| shown.push(run("m2", "model", 20, &json!({"phase": "Reaped", "outcome": "Skipped"})))),
        ("runs too many", |_, wanted| _ = wanted.runs.pop()),
        ("runs with two live pods at once", |shown, _| shown[4] = gone("m", 1, 7)),
        ("products begun before their model had succeeded", |shown, _| shown[8] = pod("p", 1, 6, "Running")),
        ("products begun before their model had succeeded", |shown, _| {
            shown[12] = run("m", "model", 13, &json!({"phase": "Reaped", "outcome": "Failed", "attempts": [attempt("m", 2, true, true)]}));
        }),
        ("products begun before their model had succeeded", |_, wanted| wanted.follows[0].after = "another".into()),
        ("pods gone before their logs were kept", |shown, _| shown[7] = gone("m", 2, 6)),
        ("pods gone before their logs were kept", |shown, _| {
            let mut partly = reaped("p");
            partly["attempts"][0]["logs"]["complete"] = json!(false);
            shown[9] = run("p", "product", 10, &partly);
            shown[11] = run("p", "product", 12, &partly);
        }),
        ("logs that are not as the run says", |_, wanted| _ = wanted.archived.insert("p-1".into(), (1, 9))),
        ("logs that are not as the run says", |_, wanted| _ = wanted.archived.remove("m-1")),
        ("runs that do not say what became of their pods", |shown, _| _ = shown.pop()),
        ("pods left over", |shown, _| _ = shown.remove(10)),
    ];
    for (at, (what, doctor)) in cases.into_iter().enumerate() {
        let (mut shown, mut wanted) = (good(), wanted());
        doctor(&mut shown, &mut wanted);
        assert_eq!(found(shown, &wanted), [(what, 1)], "case {at}");
    }
}

#[test]
fn a_product_may_begin_after_any_end_where_its_task_says_so() {
    let (mut shown, mut wanted) = (good(), wanted());
    let both = |reaped| json!([attempt("m", 1, true, true), attempt("m", 2, true, reaped)]);
    shown[6] = run("m", "model", 7, &json!({"phase": "Finishing", "outcome": "Failed", "attempts": both(false)}));
    shown[12] = run("m", "model", 13, &json!({"phase": "Reaped", "outcome": "Failed", "attempts": both(true)}));
    wanted.follows[0].well = false;
    assert_eq!(found(shown, &wanted), []);
}

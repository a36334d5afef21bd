//! The definitions of Task and `TaskRun` on the real API server: they are taken, their rules cost little enough, they refuse what they should, and every
//! example is accepted, as the pods are that are made of them.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use isobar::tasks::{crd, freeze, rules::Rules, spec::TaskSpec, trigger::Firing};
use serde_json::{Value, json};

use crate::{
    harness::{
        assets::{Program, available},
        control_plane::{ControlPlane, Options},
        creation::post,
    },
    task_room::{RUNS, TASKS},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_definitions_of_tasks_take_good_objects_and_refuse_bad_ones() -> Result<()> {
    let test = "the_definitions_of_tasks_take_good_objects_and_refuse_bad_ones";
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) {
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    for definition in [crd::task(), crd::task_run()] {
        post(&client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
    }
    for (collection, plural) in [(TASKS, "tasks"), (RUNS, "taskruns")] {
        served(&client, collection).await?;
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.isobar.dev");
        let created: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
        let structural = created["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "NonStructuralSchema");
        ensure!(structural.is_none(), "{structural:?}");
    }
    examples(&client).await?;
    bad_tasks(&client).await?;
    immutable_runs(&client).await
}

/// Every example is taken, and the API server takes the pod of its first attempt.
async fn examples(client: &kube::Client) -> Result<()> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    // A control plane without controllers has none.
    let _ = send(client, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/examples"))? {
        let path = entry?.path();
        for object in serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(&path)?)? {
            let collection = if object["kind"] == "Task" { TASKS } else { RUNS };
            let taken = send(client, "POST", collection, &object).await;
            let taken = taken.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
            if object["kind"] == "Task" {
                pod_of(client, &taken).await.map_err(|error| error.context(path.display().to_string()))?;
            }
        }
    }
    Ok(())
}

async fn pod_of(client: &kube::Client, task: &Value) -> Result<()> {
    let spec: TaskSpec = serde_json::from_value(task["spec"].clone())?;
    let text = |field: &str| task["metadata"][field].as_str().unwrap_or_default();
    let given = spec
        .params
        .iter()
        .filter(|param| param.required)
        .map(|param| (param.name.clone(), if param.name == "user" { "ada" } else { "Z9010" }.to_owned()));
    let firing = Firing {
        key: "once".into(),
        cycle: Some(isobar::model::time::Timestamp(1_700_000_000_000)),
        params: given.collect(),
        ..Firing::default()
    };
    let owner = freeze::Owner { namespace: "default", name: text("name"), uid: text("uid"), generation: 1 };
    let now = isobar::model::time::Timestamp(1_700_000_000_000);
    let run = freeze::task_run(&owner, &spec, &firing, &Rules::default(), false, now).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
    let run = send(client, "POST", RUNS, &run).await.map_err(anyhow::Error::msg)?;
    let mut pod = freeze::pod(&run, 1).map_err(anyhow::Error::msg)?;
    // Nothing gives out priority classes here but the two that are built in.
    pod["metadata"]["namespace"] = "default".into();
    if pod["spec"]["priorityClassName"].is_string() {
        pod["spec"].as_object_mut().map(|spec| spec.shift_remove("priorityClassName"));
    }
    send(client, "POST", "/api/v1/namespaces/default/pods", &pod).await.map_err(anyhow::Error::msg)?;
    Ok(())
}

async fn bad_tasks(client: &kube::Client) -> Result<()> {
    let good = json!({"limits": {"run": {"limit": "5m"}}, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}});
    let with = |key: &str, value: Value| {
        let mut spec = good.clone();
        spec[key] = value;
        spec
    };
    ensure!(create(client, "minimal", &good).await.is_ok(), "a minimal task");
    let kept: Value = client.request(http::Request::get(format!("{TASKS}/minimal")).body(Vec::new())?).await?;
    ensure!(kept["spec"]["template"] == good["template"], "a template is kept as it is: {kept}");
    for (name, spec, wanted) in [
        ("Upper", good.clone(), "lower"),
        ("nine.dots", good.clone(), "names of runs and pods are made of the name"),
        ("forty-one-characters-are-one-more-than-fit", good.clone(), "40 at most"),
        ("a", json!({"limits": good["limits"]}), "spec.template: Required"),
        ("a", with("template", json!({"spec": {"containers": []}})), "should have at least 1 items"),
        ("a", with("limits", json!({})), "spec.limits.run: Required"),
        ("a", with("limits", json!({"run": {}})), "spec.limits.run.limit: Required"),
        ("a", with("limits", json!({"run": {"limit": "soon"}})), "spec.limits.run.limit"),
        ("a", with("limits", json!({"run": {"limit": "5m", "action": "Retry"}})), "supported values: \"Requeue\", \"Fail\""),
        ("a", with("triggers", json!([{}])), "exactly one of cron, after and data"),
        ("a", with("triggers", json!([{"cron": {}}])), "schedule: Required"),
        ("a", with("triggers", json!([{"cron": {"schedule": "* * * * *", "cycleOffset": "-PT6M"}}])), "cycleOffset"),
        ("a", with("triggers", json!([{"after": {"tasks": []}}])), "should have at least 1 items"),
        ("a", with("triggers", json!([{"data": {"source": "s"}}])), "match: Required"),
        ("a", with("params", json!([{"name": "9"}])), "spec.params[0].name"),
        ("a", with("params", json!([{"name": "p"}, {"name": "p"}])), "Duplicate value"),
        ("a", with("params", json!([{"name": "p", "required": true, "default": "x"}])), "no use for a default"),
        ("a", with("concurrency", json!({"scope": "param:p"})), "names a parameter that params does not have"),
        ("a", with("retry", json!({"application": 1000})), "less than or equal to 100"),
        ("a", with("misspelt", json!(1)), "unknown field \"spec.misspelt\""),
    ] {
        match create(client, name, &spec).await {
            Ok(taken) => anyhow::bail!("{wanted}: taken: {taken}"),
            Err(text) => ensure!(text.contains(wanted), "{text}\nwanted: {wanted}"),
        }
    }
    Ok(())
}

async fn immutable_runs(client: &kube::Client) -> Result<()> {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "b"}]}});
    let frozen =
        json!({"template": template, "templateHash": "h", "limits": {"run": {"limit": "5m"}}, "priorityTime": "2026-11-28T06:00:00Z"});
    let spec = json!({"taskRef": {"name": "minimal"}, "params": {"p": "1"}, "cycle": "2026-11-28T06:00:00Z"});
    let object = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"name": "r"}, "spec": spec});
    send(client, "POST", RUNS, &object).await.map_err(anyhow::Error::msg)?;
    let huge = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"name": "huge"},
        "spec": {"taskRef": {"name": "minimal"}, "params": {"p": "x".repeat(2 << 20)}}});
    ensure!(send(client, "POST", RUNS, &huge).await.is_err(), "a parameter of two megabytes is refused");
    let patch = |spec: Value| json!({ "spec": spec });
    let path = format!("{RUNS}/r");
    send(client, "PATCH", &path, &patch(json!({ "frozen": frozen }))).await.map_err(anyhow::Error::msg)?;
    for (spec, wanted) in [
        (json!({"taskRef": {"name": "other"}}), "taskRef cannot be changed"),
        (json!({"params": {"p": "2"}}), "params cannot be changed"),
        (json!({"params": {"q": "2"}}), "params cannot be changed"),
        (json!({"cycle": "2026-11-28T12:00:00Z"}), "cycle cannot be changed"),
        (json!({"cycle": null}), "cycle cannot be changed"),
        (json!({"trigger": {"type": "Cron"}}), "trigger cannot be changed"),
        (json!({"frozen": null}), "what a run took from its task"),
        (json!({"frozen": {"templateHash": "i"}}), "what a run took from its task"),
        (json!({"frozen": {"limits": {"run": {"limit": "9m"}}}}), "what a run took from its task"),
    ] {
        let answer = send(client, "PATCH", &path, &patch(spec)).await;
        ensure!(answer.as_ref().is_err_and(|error| error.contains(wanted)), "{answer:?}\nwanted: {wanted}");
    }
    // The rules of the API server do not look into what they do not know: that is why the template's hash is kept beside it.
    let inside = json!({"frozen": {"template": {"spec": {"containers": [{"name": "a", "image": "evil"}]}}}});
    if let Ok(changed) = send(client, "PATCH", &path, &patch(inside)).await {
        ensure!(freeze::pod(&changed, 1).is_err(), "no pod is made of a template that was changed");
    }
    send(client, "PATCH", &path, &patch(json!({"cancel": true}))).await.map_err(anyhow::Error::msg)?;
    let back = send(client, "PATCH", &path, &patch(json!({"cancel": false}))).await;
    ensure!(back.as_ref().is_err_and(|error| error.contains("cannot be taken back")), "{back:?}");
    Ok(())
}

async fn create(client: &kube::Client, name: &str, spec: &Value) -> std::result::Result<Value, String> {
    let object = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec});
    send(client, "POST", TASKS, &object).await
}

/// As kubectl does: strict about fields.
async fn send(client: &kube::Client, method: &str, path: &str, body: &Value) -> std::result::Result<Value, String> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(format!("{path}?fieldValidation=Strict")).header("Content-Type", kind);
    let request = request.body(body.to_string().into_bytes()).map_err(|error| error.to_string())?;
    client.request(request).await.map_err(|error| error.to_string())
}

async fn served(client: &kube::Client, collection: &str) -> Result<()> {
    for _ in 0..100 {
        if client.request_text(http::Request::get(collection).body(Vec::new())?).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{collection} is not served")
}

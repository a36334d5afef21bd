//! The page at `/ui/` in a real headless Chromium, driven over its debugging pipe: what a person sees, by keyboard and at phone width, without one error on the
//! console. `ISOBAR_UPDATE=1` writes the pictures of `docs/`.

mod browser;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::browser::Browser;
use super::api::{Served, task};
use crate::tools;

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";
const TASKS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/tasks";

async fn node(served: &Served, name: &str, arch: &str, gpu: Option<&str>, state: &str) {
    let mut resources = json!({"cpu": "32", "memory": "128Gi", "pods": "110"});
    let mut labels = json!({"kubernetes.io/arch": arch, "kubernetes.io/os": "linux"});
    if let Some(model) = gpu {
        resources["nvidia.com/gpu"] = "4".into();
        labels["nvidia.com/gpu.product"] = model.into();
    }
    let taints = if state == "down" { json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]) } else { json!([]) };
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints},
        "status": {"capacity": resources, "allocatable": resources, "conditions": [{"type": "Ready", "status": "True"}]}});
    served.object(NODES, &object).await;
}

#[allow(clippy::needless_pass_by_value)] // JSON reads better so
async fn pod(served: &Served, name: &str, node: Option<&str>, requests: Value) {
    let mut spec = json!({"containers": [{"name": "main", "image": "i", "resources": {"requests": requests, "limits": requests}}]});
    if let Some(node) = node {
        spec["nodeName"] = node.into();
    }
    served
        .object(PODS, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}))
        .await;
}

/// A weather service in the middle of its day.
async fn fill(served: &Served) {
    for at in 0..6 {
        node(served, &format!("x-{at}"), "amd64", None, "").await;
    }
    for at in 0..4 {
        node(served, &format!("a-{at}"), "arm64", None, if at == 0 { "down" } else { "" }).await;
    }
    node(served, "g-0", "amd64", Some("NVIDIA-A100-SXM4-80GB"), "").await;
    pod(served, "model-1-1", Some("x-0"), json!({"cpu": "24", "memory": "96Gi"})).await;
    pod(served, "radar-1-1", Some("a-1"), json!({"cpu": "2", "memory": "4Gi"})).await;
    pod(served, "training-1-1", Some("g-0"), json!({"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "3"})).await;
    pod(served, "training-2-1", None, json!({"cpu": "8", "nvidia.com/gpu": "4"})).await;
    let why = "0/11 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 9 node(s) do not have nvidia.com/gpu. no new claims to deallocate, preemption: 0/11 nodes are available: 11 Preemption is not helpful for scheduling.";
    let patch = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}]}});
    let request = http::Request::patch(format!("{PODS}/training-2-1/status")).header("content-type", "application/merge-patch+json");
    served.cluster.faultless_client().request_text(request.body(patch.to_string().into_bytes()).unwrap()).await.unwrap();
    for (name, triggers) in [
        ("radar", json!([{"cron": {"schedule": "*/6 * * * *"}}])),
        ("model", json!([{"cron": {"schedule": "0 */6 * * *", "timeZone": "Europe/Berlin"}}])),
        ("products", json!([{"after": {"tasks": [{"name": "model"}]}}])),
        ("volume", json!([{"data": {"source": "radar-in", "match": "^Z"}}])),
        ("notebook", json!([])),
    ] {
        served.object(TASKS, &task(name, &json!({"triggers": triggers}))).await;
    }
    let over = |outcome: &str, code: i32, name: &str| {
        json!({"phase": "Reaped", "outcome": outcome, "attempt": 1, "node": "a-1", "reason": if code == 0 { "Completed" } else { "Error" },
            "message": if code == 0 { String::new() } else { format!("exit code {code}.") },
            "attempts": [{"number": 1, "podName": format!("{name}-1"), "podUID": name, "node": "a-1", "started": "2026-11-28T06:00:10Z",
                "finished": "2026-11-28T06:01:12Z", "ended": outcome, "exitCode": code, "logs": {"uri": "memory://x", "bytes": 61, "sha256": "", "complete": true},
                "reap": {"result": "Deleted"}}]})
    };
    for at in 0..8 {
        let (name, bad) = (format!("radar-c{at}"), at == 5);
        served.ended_run(&name, "radar", &over(if bad { "Failed" } else { "Succeeded" }, i32::from(bad), &name)).await;
    }
    served.keep_log("radar-c7-1", "radar-c7", "2026-11-28T06:00:10Z volume Z9010 is read\n2026-11-28T06:01:11Z wrote 12 products\n").await;
    served.ended_run("products-a1", "products", &over("Succeeded", 0, "products-a1")).await;
    let waits = json!({"phase": "Pending", "attempt": 1, "reason": "Unschedulable", "pending": {"since": "2026-11-28T06:00:00Z", "reason": "Unschedulable", "detail": why},
        "attempts": [{"number": 1, "podName": "training-2-1"}]});
    served.ended_run("training-2", "notebook", &waits).await;
}

fn picture(name: &str) -> Option<PathBuf> {
    std::env::var_os("ISOBAR_UPDATE").map(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_the_service_by_keyboard_and_on_a_phone() {
    let Some(program) = tools::find("chromium", "a_person_sees_the_service_by_keyboard_and_on_a_phone") else { return };
    let served = Served::start(false).await;
    fill(&served).await;
    let url = format!("https://{}/ui/", served.address);
    tokio::task::spawn_blocking(move || {
        let mut browser = Browser::start(&program, 1280, 1400);
        browser.go(&url);
        browser.until("!document.getElementById('door').hidden && document.activeElement.id === 'token'");
        browser.write("admin");
        browser.press("Enter");
        browser.until("document.querySelectorAll('[data-part=runs] tbody tr').length === 10");
        for (part, text) in [
            ("nodes", "NVIDIA-A100-SXM4-80GB"),
            ("nodes", "1 not ready"),
            ("nodes", "3 of 4"),
            ("queue", "Insufficient nvidia.com/gpu"),
            ("tasks", "*/6 * * * *"),
            ("tasks", "after model"),
            ("runs", "exit code 1."),
        ] {
            let content = browser.evaluate(&format!("document.querySelector('[data-part={part}]').innerText"));
            assert!(content.as_str().unwrap().contains(text), "{part} lacks {text:?}: {content}");
        }
        browser.picture(picture("page.png").as_deref());

        // By keyboard alone to the newest run and its log.
        browser.evaluate("document.activeElement.blur()");
        let wanted = "document.activeElement.getAttribute('data-key') === 'default/radar-c7'";
        assert!(
            (0..120).any(|_| {
                browser.press("Tab");
                browser.evaluate(wanted) == true
            }),
            "the run cannot be reached by Tab"
        );
        let ring = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
        assert_eq!(ring, "solid", "one sees where the focus is");
        browser.press("Enter");
        browser.until("document.getElementById('run').open");
        assert!(
            (0..20).any(|_| {
                browser.press("Tab");
                browser.evaluate("document.activeElement.id") == "show-log"
            }),
            "no way to the log"
        );
        browser.press("Enter");
        browser.until("document.getElementById('log').textContent.includes('wrote 12 products')");
        browser.picture(picture("page-run.png").as_deref());
        browser.press("Escape");
        browser.until("!document.getElementById('run').open");

        browser.resize(390, 1400, true);
        let width = browser.evaluate("document.documentElement.scrollWidth");
        assert!(width.as_u64().unwrap() <= 390, "wider than a phone: {width}");
        browser.picture(picture("page-phone.png").as_deref());

        let kept = browser
            .evaluate("localStorage.length + sessionStorage.length + document.cookie.length + (location.href.includes('admin') ? 1 : 0)");
        assert_eq!(kept, 0, "the token is in memory alone");
        assert_eq!(browser.complaints(), [""; 0], "the console has errors");
    })
    .await
    .unwrap();
}

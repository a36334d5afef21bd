//! What people run at home in the test of the federation. In: sizes. Out: objects for `kubectl apply`.

use serde_json::{Value, json};

use super::world::TEAM;

/// Class-less pods that need no kubelet of their own.
fn spec(requests: &Value) -> Value {
    json!({
        "schedulerName": "isobar-scheduler", "terminationGracePeriodSeconds": 2,
        "containers": [{"name": "main", "image": "registry.example/work:1", "resources": {"requests": requests, "limits": requests}}],
    })
}

fn template(app: &str, spec: &Value) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": spec})
}

fn workload(api_version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": TEAM}, "spec": spec})
}

/// Runs anywhere.
pub fn deployment(replicas: usize) -> Value {
    let spec = json!({
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": template("web", &spec(&json!({"cpu": "200m", "memory": "128Mi"}))),
    });
    workload("apps/v1", "Deployment", "web", &spec)
}

/// Ends well, on x86 alone. Losses of infrastructure do not count as failures.
pub fn job(completions: usize) -> Value {
    let mut pod = spec(&json!({"cpu": "100m", "memory": "64Mi"}));
    pod["restartPolicy"] = json!("Never");
    pod["nodeSelector"] = json!({"kubernetes.io/arch": "amd64"});
    let spec = json!({
        "completions": completions, "parallelism": completions.div_ceil(4), "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]},
        "template": template("batch", &pod),
    });
    workload("batch/v1", "Job", "batch", &spec)
}

/// One after the other, on ARM alone.
pub fn stateful_set(replicas: usize) -> Value {
    let mut pod = spec(&json!({"cpu": "1", "memory": "1Gi"}));
    pod["nodeSelector"] = json!({"kubernetes.io/arch": "arm64"});
    let spec = json!({
        "replicas": replicas, "serviceName": "store", "selector": {"matchLabels": {"app": "store"}}, "template": template("store", &pod),
    });
    workload("apps/v1", "StatefulSet", "store", &spec)
}

/// Needs GPUs.
pub fn training(name: &str, gpus: u32) -> Value {
    let pod = spec(&json!({"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": gpus.to_string()}));
    workload("v1", "Pod", &format!("training-{name}"), &pod)
}

/// Names its cluster.
pub fn chosen(cluster: &str) -> Value {
    let mut pod = spec(&json!({"cpu": "100m"}));
    pod["nodeSelector"] = json!({"isobar.dev/cluster": cluster});
    workload("v1", "Pod", &format!("on-{cluster}"), &pod)
}

/// A notebook: configuration, a password, a data set and a workspace.
pub fn notebook() -> [Value; 5] {
    let mut pod = spec(&json!({"cpu": "1", "memory": "2Gi"}));
    pod["containers"][0]["env"] = json!([
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "notebook", "key": "mode"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "notebook", "key": "password"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    pod["containers"][0]["volumeMounts"] = json!([
        {"name": "settings", "mountPath": "/settings"}, {"name": "workspace", "mountPath": "/home"}, {"name": "data", "mountPath": "/data"},
    ]);
    pod["volumes"] = json!([
        {"name": "settings", "configMap": {"name": "notebook", "items": [{"key": "settings.json", "path": "settings.json"}]}},
        {"name": "workspace", "persistentVolumeClaim": {"claimName": "ws-anna"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "era5"}},
    ]);
    let claim = |name: &str, labels: &Value| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": TEAM, "labels": labels},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        })
    };
    [
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notebook", "namespace": TEAM},
            "data": {"mode": "lab", "settings.json": "{}", "unrelated": "stays at home"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notebook", "namespace": TEAM},
            "stringData": {"password": "one", "unrelated": "stays at home"},
        }),
        claim("ws-anna", &json!({})),
        claim("era5", &json!({"kind": "dataset"})),
        workload("v1", "Pod", "notebook", &pod),
    ]
}

/// What claims of home are on the ARM cluster; on the others they are nothing.
pub fn volume_rules() -> Value {
    json!([
        {"match": {"claimName": "ws-*"}, "source": {"nfs": {"server": "nas.example", "path": "/export/{namespace}/{claim}"}}, "readOnly": false},
        {"match": {"labels": {"kind": "dataset"}}, "source": {"nfs": {"server": "nas.example", "path": "/data/{claim}"}}},
    ])
}

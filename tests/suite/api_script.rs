//! One script of API calls, written as data. Its transcript on the in-memory server has to be that on the real one: `tests/suite/sim_api.rs` compares with a
//! recording, `tests/cluster/api_script.rs` runs the same file on a real kube-apiserver.
#![allow(clippy::needless_pass_by_value, reason = "steps read best when bodies are written in place")]

use http::Method;
use serde_json::{Value, json};

// Named here because two test binaries include this file.
#[path = "api_script_runner.rs"]
mod runner;

pub use runner::{QUIET, transcript};

pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// What a step does.
pub enum Action {
    /// One request.
    Call { method: Method, path: String, content_type: &'static str, accept: &'static str, body: String },
    /// Asks until the answer is 200.
    Await { path: String },
    /// Opens a watch under a name.
    Open { watch: &'static str, path: String },
    /// Reads a watch until it is quiet.
    Read { watch: &'static str },
    /// Reads a watch until the server ends it.
    End { watch: &'static str },
    /// Closes a watch.
    Close { watch: &'static str },
}

/// One step: what, and what to remember of the answer.
pub struct Step {
    pub name: &'static str,
    pub action: Action,
    /// Variable and JSON pointer into the answer; `${variable}` stands for it in later paths and bodies.
    pub save: Vec<(&'static str, &'static str)>,
    /// The message's wording is Go's (parser positions, diffs) and not compared.
    pub free_wording: bool,
    /// Only the status code is compared: the answer is the work of controllers.
    pub unrecorded: bool,
}

impl Step {
    fn unrecorded(mut self) -> Self {
        self.unrecorded = true;
        self
    }

    fn saving(mut self, variable: &'static str, pointer: &'static str) -> Self {
        self.save.push((variable, pointer));
        self
    }

    fn free_wording(mut self) -> Self {
        self.free_wording = true;
        self
    }
}

fn step(name: &'static str, action: Action) -> Step {
    Step { name, action, save: Vec::new(), free_wording: false, unrecorded: false }
}

fn call(name: &'static str, method: Method, path: &str, content_type: &'static str, body: impl ToString) -> Step {
    step(name, Action::Call { method, path: path.to_string(), content_type, accept: "", body: body.to_string() })
}

fn get(name: &'static str, path: &str) -> Step {
    call(name, Method::GET, path, "", "")
}

/// A GET with an Accept header.
fn get_as(name: &'static str, path: &str, wanted: &'static str) -> Step {
    let mut asked = get(name, path);
    if let Action::Call { accept, .. } = &mut asked.action {
        *accept = wanted;
    }
    asked
}

fn post(name: &'static str, path: &str, body: Value) -> Step {
    call(name, Method::POST, path, JSON, body)
}

fn put(name: &'static str, path: &str, body: Value) -> Step {
    call(name, Method::PUT, path, JSON, body)
}

fn patch(name: &'static str, path: &str, content_type: &'static str, body: Value) -> Step {
    call(name, Method::PATCH, path, content_type, body)
}

fn delete(name: &'static str, path: &str, body: Value) -> Step {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    call(name, Method::DELETE, path, JSON, body)
}

fn open(name: &'static str, watch: &'static str, path: &str) -> Step {
    step(name, Action::Open { watch, path: path.to_string() })
}

fn read(name: &'static str, watch: &'static str) -> Step {
    step(name, Action::Read { watch })
}

fn end(name: &'static str, watch: &'static str) -> Step {
    step(name, Action::End { watch })
}

fn close(name: &'static str, watch: &'static str) -> Step {
    step(name, Action::Close { watch })
}

const PODS: &str = "/api/v1/namespaces/api-script/pods";
const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/api-script/leases";
const CONFIG_MAPS: &str = "/api/v1/namespaces/api-script/configmaps";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/api-script/events";
const CUSTOM: &str = "/apis/script.isobar.dev/v1/namespaces/api-script/storms";
const CORE_EVENTS: &str = "/api/v1/namespaces/api-script/events";

fn at(collection: &str, name: &str) -> String {
    format!("{collection}/{name}")
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "registry.example/web:1", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}})
}

fn pod_with(name: &str, pointer: &str, value: Value) -> Value {
    let mut pod = pod(name);
    let (parent, field) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if let Some(parent) = pod.pointer_mut(parent) {
        parent[field] = value;
    }
    pod
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn binding(pod: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"apiVersion": "v1", "kind": "Node", "name": node}})
}

fn event(name: &str) -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal",
        "reason": "Scheduled", "action": "Binding", "note": "Successfully assigned", "reportingController": "isobar-scheduler",
        "reportingInstance": "isobar-scheduler-0", "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "p1", "namespace": "api-script"}})
}

/// The whole script.
pub fn script() -> Vec<Step> {
    let mut steps = set_up();
    steps.extend(creating());
    steps.extend(bad_bodies());
    steps.extend(updating());
    steps.extend(patching());
    steps.extend(pod_updates());
    steps.extend(binding_pods());
    steps.extend(deleting());
    steps.extend(finalizing());
    steps.extend(listing());
    steps.extend(watching());
    steps.extend(custom_types());
    steps.extend(ending_watches());
    steps.extend(other_types());
    steps.extend(other_forms());
    steps.extend(more_of_lists());
    steps.extend(more_of_writes());
    steps.extend(clean_up());
    steps
}

fn set_up() -> Vec<Step> {
    let node = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z1", "kubernetes.io/arch": "arm64"}},
            "status": {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    };
    vec![
        post("create a pod in a namespace that is not there", PODS, pod("early")),
        post(
            "create the namespace",
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "api-script"}}),
        ),
        post(
            "create the namespace again",
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "api-script"}}),
        ),
        post("create a node with status", NODES, node("script-node-a")),
        post("create a bare node", NODES, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "script-node-b"}})),
        get("read a node", &at(NODES, "script-node-a")),
    ]
}

fn creating() -> Vec<Step> {
    vec![
        open("watch pods from now", "all", &format!("{PODS}?watch=true")),
        read("nothing yet", "all"),
        post("create a pod", PODS, pod("p1")).saving("p1.uid", "/metadata/uid").saving("p1.rv", "/metadata/resourceVersion"),
        post("create it again", PODS, pod("p1")),
        get("read it", &at(PODS, "p1")),
        get("read one that is not there", &at(PODS, "nope")),
        post(
            "create with every default to fill",
            PODS,
            json!({"metadata": {"name": "p2"}, "spec": {"containers": [
            {"name": "main", "image": "nginx", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
             "readinessProbe": {"httpGet": {"port": 80}}, "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}],
            "volumes": [{"name": "scratch"}, {"name": "settings", "configMap": {"name": "x"}}],
            "nodeName": "", "nodeSelector": {}, "tolerations": [], "hostNetwork": true}}),
        ),
        post(
            "create with a status and system fields",
            PODS,
            json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p3", "uid": "11111111-1111-1111-1111-111111111111", "creationTimestamp": "2020-01-01T00:00:00Z", "generation": 7, "deletionTimestamp": "2020-01-01T00:00:00Z", "selfLink": "x"},
            "spec": {"containers": [{"name": "main", "image": "a/b:latest"}], "restartPolicy": "Never", "schedulerName": "isobar-scheduler"},
            "status": {"phase": "Running", "nominatedNodeName": "n"}}),
        ),
        post("create with a field of the wrong type", PODS, pod_with("x", "/spec/terminationGracePeriodSeconds", json!("soon")))
            .free_wording(),
        post(
            "create with gates",
            PODS,
            pod_with("gated", "/spec/schedulingGates", json!([{"name": "example.com/wait"}, {"name": "example.com/more"}])),
        ),
        post("create a pod that names its node", PODS, pod_with("placed", "/spec/nodeName", json!("script-node-a"))),
        post(
            "create guaranteed",
            PODS,
            pod_with("guaranteed", "/spec/containers/0/resources", json!({"limits": {"cpu": "1", "memory": "1Gi"}})),
        ),
        post("create with generateName", PODS, pod_with("x", "/metadata", json!({"generateName": "gen-"}))).saving("gen", "/metadata/name"),
        delete("delete the generated one", "/api/v1/namespaces/api-script/pods/${gen}", Value::Null),
        post("create with a known priority class", PODS, pod_with("critical", "/spec/priorityClassName", json!("system-cluster-critical"))),
        post("create with an unknown priority class", PODS, pod_with("x", "/spec/priorityClassName", json!("no-such-class"))),
        post("create with a priority of its own", PODS, pod_with("x", "/spec/priority", json!(5))),
        post(
            "create with own tolerations",
            PODS,
            pod_with(
                "tolerant",
                "/spec/tolerations",
                json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}, {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}]),
            ),
        ),
        post("dry run", &format!("{PODS}?dryRun=All"), pod("dry")),
        get("a dry run leaves nothing", &at(PODS, "dry")),
        post("dry run of an unknown kind", &format!("{PODS}?dryRun=Some"), pod("dry")),
        read("what the watch saw", "all"),
    ]
}

fn bad_bodies() -> Vec<Step> {
    let raw = |name, content_type, body: &str| call(name, Method::POST, PODS, content_type, body);
    vec![
        raw("malformed JSON", JSON, "{\"kind\": \"Pod\",").free_wording(),
        raw("no JSON at all", JSON, "hello").free_wording(),
        raw("an empty body", JSON, "").free_wording(),
        raw("an array", JSON, "[]").free_wording(),
        raw("another kind", JSON, "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"x\"}}").free_wording(),
        raw("another version", JSON, "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"x\"}}").free_wording(),
        raw("a kind that nobody knows", JSON, "{\"apiVersion\":\"v1\",\"kind\":\"Pot\",\"metadata\":{\"name\":\"x\"}}").free_wording(),
        raw("an unknown content type", "text/plain", "x"),
        raw(
            "YAML",
            "application/yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: from-yaml}\nspec:\n  containers:\n  - {name: a, image: \"b:1\"}\n",
        ),
        post("no name", PODS, pod_with("x", "/metadata", json!({}))),
        post("a name that is none", PODS, pod("Not_A_Name")),
        post("no containers", PODS, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": []}})),
        post("no spec", PODS, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}})),
        post("a container without name and image", PODS, pod_with("x", "/spec/containers", json!([{}]))),
        post(
            "two containers of one name",
            PODS,
            pod_with("x", "/spec/containers", json!([{"name": "a", "image": "b"}, {"name": "a", "image": "b"}])),
        ),
        post("a bad label", PODS, pod_with("x", "/metadata/labels", json!({"-bad-": "?!"}))),
        post(
            "requests over limits",
            PODS,
            pod_with("x", "/spec/containers/0/resources", json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
        ),
        post("an unknown restart policy", PODS, pod_with("x", "/spec/restartPolicy", json!("Sometimes"))),
        post("a text where a list belongs", PODS, pod_with("x", "/spec/containers", json!("none"))).free_wording(),
        post("another namespace in the body", PODS, pod_with("x", "/metadata/namespace", json!("elsewhere"))),
        post("a resourceVersion on create", PODS, pod_with("x", "/metadata/resourceVersion", json!("5"))),
        post("gates and a node", PODS, {
            let mut both = pod_with("x", "/spec/schedulingGates", json!([{"name": "example.com/wait"}]));
            both["spec"]["nodeName"] = json!("script-node-a");
            both
        }),
        get("an unknown resource", "/api/v1/namespaces/api-script/potatoes"),
        get("an unknown group", "/apis/example.com/v1/potatoes"),
        put("PUT on a collection", PODS, pod("x")),
        post("POST on an object", &at(PODS, "p1"), pod("p1")),
        post("POST a namespaced object outside of namespaces", "/api/v1/pods", pod("x")),
        get_as("an answer in a form that is not served", &at(PODS, "p1"), "text/plain"),
    ]
}

fn updating() -> Vec<Step> {
    let map = at(CONFIG_MAPS, "m1");
    let with = |version: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m1", "resourceVersion": version}, "data": data});
    vec![
        open("watch configmaps by name", "maps", &format!("{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Dm1")),
        post("create a configmap", CONFIG_MAPS, config_map("m1")).saving("m1.rv", "/metadata/resourceVersion").saving("m1.uid", "/metadata/uid"),
        put("update it", &map, with("${m1.rv}", json!({"a": "2"}))),
        put("update it with the old version", &map, with("${m1.rv}", json!({"a": "3"}))),
        put("update it without a version", &map, with("", json!({"a": "4"}))).saving("m1.rv2", "/metadata/resourceVersion"),
        put("update it to what it is", &map, with("", json!({"a": "4"}))),
        put("update with a version that is no number", &map, with("abc", json!({"a": "5"}))).free_wording(),
        put("update under another name", &map, config_map("m2")),
        put("update without a name", &map, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {}})),
        put("update with another uid", &map, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m1", "uid": "22222222-2222-2222-2222-222222222222"}})),
        put("update in another namespace", &map, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m1", "namespace": "other"}})),
        put("update what is not there", &at(CONFIG_MAPS, "m9"), config_map("m9")),
        put("update a pod's status through the object", &at(PODS, "p1"), {
            let mut changed = pod("p1");
            changed["status"] = json!({"phase": "Failed"});
            changed["metadata"]["labels"] = json!({"app": "web", "more": "1"});
            changed
        }).free_wording(),
        put("a lease is created by PUT", &at(LEASES, "l1"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l1"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0, "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z"}})).saving("l1.rv", "/metadata/resourceVersion"),
        put("a lease needs its version", &at(LEASES, "l1"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l1"}, "spec": {"holderIdentity": "b"}})),
        put("a lease with its version", &at(LEASES, "l1"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l1", "resourceVersion": "${l1.rv}"}, "spec": {"holderIdentity": "b", "leaseDurationSeconds": 15}})),
        put("a lease lost to another", &at(LEASES, "l1"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l1", "resourceVersion": "${l1.rv}"}, "spec": {"holderIdentity": "c", "leaseDurationSeconds": 15}})),
        put("a lease of no length", &at(LEASES, "l2"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l2"}, "spec": {"leaseDurationSeconds": 0}})),
        read("what the watch saw", "maps"),
        close("close", "maps"),
    ]
}

fn patching() -> Vec<Step> {
    let map = at(CONFIG_MAPS, "m1");
    let (p1, status) = (at(PODS, "p1"), format!("{PODS}/p1/status"));
    let condition = |value: &str| json!({"status": {"conditions": [{"type": "PodScheduled", "status": value, "reason": "Unschedulable", "message": "0/2 nodes are available"}]}});
    vec![
        patch("merge patch", &map, MERGE, json!({"data": {"a": null, "b": "1"}, "metadata": {"labels": {"x": "y"}}})),
        patch("merge patch that changes nothing", &map, MERGE, json!({"data": {"b": "1"}})),
        patch("merge patch with an old version", &map, MERGE, json!({"metadata": {"resourceVersion": "${m1.rv}"}, "data": {"b": "2"}})),
        patch("merge patch of the uid", &map, MERGE, json!({"metadata": {"uid": "33333333-3333-3333-3333-333333333333"}})),
        patch("merge patch of the name", &map, MERGE, json!({"metadata": {"name": "other"}})),
        patch("JSON patch", &map, JSON_PATCH, json!([{"op": "add", "path": "/data/c", "value": "3"}, {"op": "remove", "path": "/data/b"}])),
        patch("JSON patch whose test fails", &map, JSON_PATCH, json!([{"op": "test", "path": "/data/c", "value": "4"}])).free_wording(),
        patch("JSON patch of a path that is not there", &map, JSON_PATCH, json!([{"op": "remove", "path": "/data/zzz"}])).free_wording(),
        patch("JSON patch that is an object", &map, JSON_PATCH, json!({"data": {}})).free_wording(),
        call("a patch that is no JSON", Method::PATCH, &map, MERGE, "{").free_wording(),
        call("a patch of an unknown type", Method::PATCH, &map, JSON, "{}"),
        patch("a patch of what is not there", &at(CONFIG_MAPS, "m9"), MERGE, json!({"data": {}})),
        patch("strategic patch of labels", &p1, STRATEGIC, json!({"metadata": {"labels": {"tier": "front"}, "annotations": {"a": "b"}}})),
        patch("a condition appears", &status, STRATEGIC, condition("False")),
        patch("the same condition again", &status, STRATEGIC, condition("False")),
        patch(
            "another condition joins it",
            &status,
            STRATEGIC,
            json!({"status": {"conditions": [{"type": "example.com/Other", "status": "True"}], "nominatedNodeName": "script-node-a"}}),
        ),
        patch(
            "a condition goes",
            &status,
            STRATEGIC,
            json!({"status": {"conditions": [{"type": "example.com/Other", "$patch": "delete"}], "nominatedNodeName": null}}),
        ),
        patch("a status patch may not touch the spec", &status, MERGE, json!({"spec": {"nodeName": "x"}, "status": {"phase": "Pending"}})),
        patch("an object patch may not touch the status", &p1, MERGE, json!({"status": {"phase": "Failed"}})),
        patch("an empty nomination", &status, MERGE, json!({"status": {"nominatedNodeName": ""}})),
        patch("a strategic element without its key", &p1, STRATEGIC, json!({"spec": {"containers": [{"image": "x"}]}})).free_wording(),
        patch(
            "a new image by container name",
            &p1,
            STRATEGIC,
            json!({"spec": {"containers": [{"name": "main", "image": "registry.example/web:2"}]}}),
        ),
        patch("the whole label map", &p1, STRATEGIC, json!({"metadata": {"labels": {"$patch": "replace", "app": "web"}}})),
        patch(
            "node status by patch",
            "/api/v1/nodes/script-node-b/status",
            STRATEGIC,
            json!({"status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}, "conditions": [{"type": "Ready", "status": "True"}]}}),
        ),
        patch(
            "node object patch leaves the status",
            "/api/v1/nodes/script-node-b",
            MERGE,
            json!({"spec": {"unschedulable": true}, "status": {"capacity": {"cpu": "3"}}}),
        ),
        patch(
            "node status patch leaves the spec",
            "/api/v1/nodes/script-node-b/status",
            MERGE,
            json!({"spec": {"unschedulable": false}, "metadata": {"labels": {"set": "by-status"}}}),
        ),
        patch(
            "taints are one value",
            "/api/v1/nodes/script-node-b",
            STRATEGIC,
            json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
        ),
        read("what the watch saw", "all"),
    ]
}

fn pod_updates() -> Vec<Step> {
    let p1 = at(PODS, "p1");
    vec![
        patch("a pod's node may not be patched in", &p1, MERGE, json!({"spec": {"nodeName": "script-node-a"}})).free_wording(),
        patch(
            "a pod's requests may not change",
            &p1,
            STRATEGIC,
            json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "200m"}}}]}}),
        )
        .free_wording(),
        patch("containers may not be added", &p1, STRATEGIC, json!({"spec": {"containers": [{"name": "more", "image": "x"}]}})),
        patch(
            "tolerations may be added",
            &p1,
            JSON_PATCH,
            json!([{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "extra", "operator": "Exists"}}]),
        ),
        patch("tolerations may not go", &p1, MERGE, json!({"spec": {"tolerations": []}})),
        patch("a gate goes", &at(PODS, "gated"), MERGE, json!({"spec": {"schedulingGates": [{"name": "example.com/more"}]}})),
        patch(
            "gates may not come",
            &at(PODS, "gated"),
            MERGE,
            json!({"spec": {"schedulingGates": [{"name": "example.com/more"}, {"name": "example.com/new"}]}}),
        ),
        patch(
            "a gated pod takes a selector",
            &at(PODS, "gated"),
            MERGE,
            json!({"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}}),
        ),
        patch("a pod without gates does not", &p1, MERGE, json!({"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}}))
            .free_wording(),
        read("what the watch saw", "all"),
    ]
}

fn binding_pods() -> Vec<Step> {
    let bind = |name: &str| format!("{PODS}/{name}/binding");
    vec![
        post("bind a gated pod", &bind("gated"), binding("gated", "script-node-a")),
        patch("the last gate goes", &at(PODS, "gated"), MERGE, json!({"spec": {"schedulingGates": null}})),
        patch("a nomination", &format!("{PODS}/p1/status"), MERGE, json!({"status": {"nominatedNodeName": "script-node-b"}})),
        post("bind with a wrong uid", &bind("p1"), {
            let mut wrong = binding("p1", "script-node-a");
            wrong["metadata"]["uid"] = json!("44444444-4444-4444-4444-444444444444");
            wrong
        }),
        post("bind with a wrong version", &bind("p1"), {
            let mut wrong = binding("p1", "script-node-a");
            wrong["metadata"]["resourceVersion"] = json!("1");
            wrong
        }),
        post("bind under another name", &bind("p1"), binding("p2", "script-node-a")),
        post("bind to no node", &bind("p1"), binding("p1", "")),
        post(
            "bind to something else",
            &bind("p1"),
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p1"}, "target": {"kind": "Rack", "name": "r"}}),
        ),
        post("bind another kind", &bind("p1"), pod("p1")).free_wording(),
        post("dry-run bind", &format!("{}?dryRun=All", bind("p1")), binding("p1", "script-node-a")),
        post("bind", &bind("p1"), {
            let mut right = binding("p1", "script-node-a");
            right["metadata"]["uid"] = json!("${p1.uid}");
            right["metadata"]["annotations"] = json!({"isobar.dev/attempt": "1"});
            right
        }),
        get("the bound pod", &at(PODS, "p1")),
        post("bind twice", &bind("p1"), binding("p1", "script-node-b")),
        post("bind twice to the same node", &bind("p1"), binding("p1", "script-node-a")),
        post("bind what is not there", &bind("nope"), binding("nope", "script-node-a")),
        post("bind to a node that is not there", &bind("p3"), binding("p3", "no-such-node")),
        post("bind by the older path", "/api/v1/namespaces/api-script/bindings", binding("gated", "script-node-b")),
        get("binding has no GET", &bind("p1")),
        read("what the watch saw", "all"),
    ]
}

fn deleting() -> Vec<Step> {
    let (p1, bound) = (at(PODS, "p1"), at(PODS, "p3"));
    let wrong = json!({"preconditions": {"uid": "55555555-5555-5555-5555-555555555555"}});
    vec![
        delete("delete with a wrong uid", &p1, wrong),
        delete("delete with a wrong version", &p1, json!({"preconditions": {"resourceVersion": "1"}})),
        delete("dry-run delete", &format!("{p1}?dryRun=All"), Value::Null),
        delete("delete a bound pod", &p1, json!({"preconditions": {"uid": "${p1.uid}"}})),
        delete("delete it again", &p1, Value::Null),
        delete("delete it with a longer grace", &p1, json!({"gracePeriodSeconds": 60})),
        delete("delete it with a shorter grace", &p1, json!({"gracePeriodSeconds": 5})),
        post("bind a pod that is going", &format!("{PODS}/p1/binding"), binding("p1", "script-node-a")),
        patch("finalizers may not come now", &p1, MERGE, json!({"metadata": {"finalizers": ["example.com/late"]}})),
        delete("delete it now", &p1, json!({"gracePeriodSeconds": 0})),
        get("it is gone", &p1),
        delete("delete what is not there", &p1, Value::Null),
        delete("delete an unscheduled pod", &at(PODS, "p2"), Value::Null),
        patch("a bound pod ends", &format!("{PODS}/p3/status"), MERGE, json!({"status": {"phase": "Succeeded"}})),
        delete("delete a pod that has ended", &bound, Value::Null),
        delete("delete with grace in the query", &format!("{PODS}/placed?gracePeriodSeconds=3"), Value::Null),
        delete("delete with a negative grace", &at(PODS, "gated"), json!({"gracePeriodSeconds": -1})),
        delete("an unknown propagation policy", &at(PODS, "tolerant"), json!({"propagationPolicy": "Sideways"})),
        delete("a malformed grace", &format!("{PODS}/tolerant?gracePeriodSeconds=soon"), Value::Null).free_wording(),
        delete("delete a configmap", &at(CONFIG_MAPS, "m1"), Value::Null),
        delete("delete a lease", &at(LEASES, "l1"), Value::Null),
        call("delete with a bad body", Method::DELETE, &at(PODS, "tolerant"), JSON, "{").free_wording(),
        read("what the watch saw", "all"),
    ]
}

fn finalizing() -> Vec<Step> {
    let map = at(CONFIG_MAPS, "held");
    let held = at(PODS, "held");
    vec![
        open("watch configmaps", "maps", &format!("{CONFIG_MAPS}?watch=true&labelSelector=app%3Dheld")),
        post(
            "create with finalizers",
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "labels": {"app": "held"}, "finalizers": ["example.com/a", "example.com/b"]}}),
        ),
        delete("delete it", &map, Value::Null),
        delete("delete it again", &map, Value::Null),
        patch(
            "new finalizers are refused",
            &map,
            MERGE,
            json!({"metadata": {"finalizers": ["example.com/a", "example.com/b", "example.com/c"]}}),
        ),
        patch("one finalizer goes", &map, MERGE, json!({"metadata": {"finalizers": ["example.com/b"]}})),
        patch("other changes are fine", &map, MERGE, json!({"data": {"x": "y"}})),
        patch("the last one goes", &map, MERGE, json!({"metadata": {"finalizers": null}})),
        get("and so does the object", &map),
        read("what the watch saw", "maps"),
        close("close", "maps"),
        post("create a pod with a finalizer", PODS, pod_with("held", "/metadata/finalizers", json!(["example.com/a"]))),
        delete("delete it unscheduled", &held, Value::Null),
        delete("delete it once more", &held, json!({"gracePeriodSeconds": 0})),
        get("it waits", &held),
        patch(
            "the pod's finalizer goes",
            &held,
            STRATEGIC,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}}),
        ),
        post("create a placed pod with a finalizer", PODS, {
            let mut both = pod_with("held2", "/metadata/finalizers", json!(["example.com/a"]));
            both["spec"]["nodeName"] = json!("script-node-a");
            both
        }),
        delete("delete it with grace", &at(PODS, "held2"), Value::Null),
        patch("its finalizer goes first", &at(PODS, "held2"), MERGE, json!({"metadata": {"finalizers": null}})),
        get("grace still holds it", &at(PODS, "held2")),
        delete("the kubelet confirms", &at(PODS, "held2"), json!({"gracePeriodSeconds": 0})),
        read("what the watch saw", "all"),
        delete("a foreground delete waits for a collector", &format!("{CONFIG_MAPS}/fore?propagationPolicy=Foreground"), Value::Null),
        post("create one to orphan", CONFIG_MAPS, config_map("orphan")),
        delete("delete it orphaning", &at(CONFIG_MAPS, "orphan"), json!({"propagationPolicy": "Orphan"})),
        patch("let it go", &at(CONFIG_MAPS, "orphan"), MERGE, json!({"metadata": {"finalizers": null}})),
    ]
}

fn listing() -> Vec<Step> {
    let mut steps: Vec<Step> = [("a", "1"), ("b", "2"), ("c", "1"), ("d", "2"), ("e", "1")]
        .into_iter()
        .map(|(name, tier)| {
            post(
                "create one of a list",
                CONFIG_MAPS,
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"tier": tier, "list": "yes"}}}),
            )
        })
        .collect();
    let list = format!("{CONFIG_MAPS}?labelSelector=list%3Dyes");
    steps.extend([
        get("list all", &list).saving("list.rv", "/metadata/resourceVersion"),
        get("an empty list", "/api/v1/namespaces/no-such-namespace/configmaps"),
        get("equality", &format!("{CONFIG_MAPS}?labelSelector=tier%3D1")),
        get("inequality", &format!("{CONFIG_MAPS}?labelSelector=tier!%3D1,list")),
        get("a set", &format!("{CONFIG_MAPS}?labelSelector=tier%20in%20(1,3)")),
        get("not in a set", &format!("{list},tier%20notin%20(1)")),
        get("absence", &format!("{list},!tier")),
        get("a selector that is none", &format!("{CONFIG_MAPS}?labelSelector=%3D%3D%3D")).free_wording(),
        get("a field", &format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Db")),
        get("a field that cannot be selected", &format!("{CONFIG_MAPS}?fieldSelector=data.a%3Db")),
        get("a pod field that cannot be selected", &format!("{PODS}?fieldSelector=spec.priority%3D1")),
        get("pods without a node", &format!("{PODS}?fieldSelector=spec.nodeName%3D")),
        get("pods with a node", &format!("{PODS}?fieldSelector=spec.nodeName!%3D")),
        get(
            "pods of a scheduler that are pending",
            &format!("{PODS}?fieldSelector=spec.schedulerName%3Ddefault-scheduler,status.phase!%3DSucceeded"),
        ),
        get("the first page", &format!("{CONFIG_MAPS}?limit=2&labelSelector=list")).saving("page", "/metadata/continue"),
        delete("delete one that is on the second page", &at(CONFIG_MAPS, "c"), Value::Null),
        post("create one that would be on it", CONFIG_MAPS, config_map("c2")),
        get("the second page", &format!("{CONFIG_MAPS}?limit=2&labelSelector=list&continue=${{page}}"))
            .saving("page", "/metadata/continue"),
        get("the last page", &format!("{CONFIG_MAPS}?limit=2&labelSelector=list&continue=${{page}}")),
        get("a page and how much is left", &format!("{CONFIG_MAPS}?limit=1")),
        get("a token that is none", &format!("{CONFIG_MAPS}?limit=1&continue=abc")).free_wording(),
        get("a limit that is no number", &format!("{CONFIG_MAPS}?limit=many")).free_wording(),
        get("an exact version", &format!("{list}&resourceVersion=${{list.rv}}&resourceVersionMatch=Exact")),
        get("not older than a version", &format!("{list}&resourceVersion=${{list.rv}}&resourceVersionMatch=NotOlderThan")),
        get("any version", &format!("{CONFIG_MAPS}?resourceVersion=0&fieldSelector=metadata.name%3Db")),
        get("a match without a version", &format!("{list}&resourceVersionMatch=Exact")),
        get("a match of an unknown kind", &format!("{list}&resourceVersion=1&resourceVersionMatch=Roughly")),
        get("a version that is no number", &format!("{list}&resourceVersion=abc")).free_wording(),
        get("initial events in a list", &format!("{list}&sendInitialEvents=true")),
        delete("delete a collection", &list, Value::Null),
        get("nothing is left of it", &list),
    ]);
    steps
}

fn watching() -> Vec<Step> {
    let pending = "fieldSelector=status.phase%3DPending";
    vec![
        close("close", "all"),
        post("create", CONFIG_MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "w1", "labels": {"w": "1"}}}))
            .saving("w1.rv", "/metadata/resourceVersion"),
        post(
            "create another",
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "w2", "labels": {"w": "2"}}}),
        )
        .saving("w2.rv", "/metadata/resourceVersion"),
        open("resume behind the first", "resumed", &format!("{CONFIG_MAPS}?watch=true&resourceVersion=${{w1.rv}}")),
        open("from any version, with a selector", "selected", &format!("{CONFIG_MAPS}?watch=true&labelSelector=w%3D1&resourceVersion=0")),
        open("without a version", "state", &format!("{CONFIG_MAPS}?watch=true&labelSelector=w")),
        read("resumed", "resumed"),
        read("selected", "selected"),
        read("state", "state"),
        patch("one leaves the selector", &at(CONFIG_MAPS, "w1"), MERGE, json!({"metadata": {"labels": {"w": "3"}}, "data": {"k": "v"}})),
        patch("one changes outside of it", &at(CONFIG_MAPS, "w1"), MERGE, json!({"data": {"k": "v2"}})),
        patch("another enters it", &at(CONFIG_MAPS, "w2"), MERGE, json!({"metadata": {"labels": {"w": "1"}}})),
        delete("it is deleted", &at(CONFIG_MAPS, "w2"), Value::Null),
        delete("so is the other", &at(CONFIG_MAPS, "w1"), Value::Null),
        read("resumed saw all", "resumed"),
        read("selected saw what concerned it", "selected"),
        read("state as well", "state"),
        close("close", "resumed"),
        close("close", "selected"),
        close("close", "state"),
        open("pending pods", "pending", &format!("{PODS}?watch=true&{pending}&resourceVersion=${{w2.rv}}")),
        post("a pod", PODS, pod("wp")),
        patch("it starts", &format!("{PODS}/wp/status"), MERGE, json!({"status": {"phase": "Running"}})),
        patch("it changes", &at(PODS, "wp"), MERGE, json!({"metadata": {"labels": {"x": "y"}}})),
        read("it left with its last state", "pending"),
        close("close", "pending"),
        open("one object by its path", "single", &format!("{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Dw3")),
        post("create w3", CONFIG_MAPS, config_map("w3")),
        read("seen", "single"),
        close("close", "single"),
    ]
}

fn custom_types() -> Vec<Step> {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "storms.script.isobar.dev"}, "spec": {
        "group": "script.isobar.dev", "scope": "Namespaced", "names": {"kind": "Storm", "plural": "storms", "singular": "storm", "listKind": "StormList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let storm = |version: &str, force: i64| json!({"apiVersion": "script.isobar.dev/v1", "kind": "Storm", "metadata": {"name": "s1", "resourceVersion": version}, "spec": {"force": force}, "status": {"seen": true}});
    let created = json!({"apiVersion": "script.isobar.dev/v1", "kind": "Storm", "metadata": {"name": "s1", "labels": {"a": "b"}}, "spec": {"force": 9, "gone": null, "list": []}, "status": {"seen": true}});
    let s1 = at(CUSTOM, "s1");
    vec![
        get("a type that is not there yet", CUSTOM),
        call("define a type", Method::POST, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", JSON, definition).unrecorded(),
        step("wait until it is served", Action::Await { path: CUSTOM.to_string() }),
        post("create one", CUSTOM, created).saving("s1.rv", "/metadata/resourceVersion"),
        post("create one of no kind", CUSTOM, json!({"metadata": {"name": "s2"}})).free_wording(),
        get("list them", CUSTOM),
        put("update without a version", &s1, storm("", 10)),
        put("update", &s1, storm("${s1.rv}", 10)),
        patch(
            "patch the status",
            &format!("{s1}/status"),
            MERGE,
            json!({"status": {"eye": "calm"}, "spec": {"force": 11}, "metadata": {"labels": {"c": "d"}}}),
        ),
        patch("patch the object", &s1, MERGE, json!({"status": {"eye": "wild"}, "metadata": {"labels": {"c": "d"}}})),
        patch("no strategic patches", &s1, STRATEGIC, json!({"spec": {"force": 12}})),
        get("a field that cannot be selected", &format!("{CUSTOM}?fieldSelector=spec.force%3D1")),
        delete("delete", &s1, Value::Null),
        get("gone", &s1),
    ]
}

fn ending_watches() -> Vec<Step> {
    let streaming = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    vec![
        open("a version that is too old", "old", &format!("{CUSTOM}?watch=true&resourceVersion=1")),
        end("ends with 410 in the stream", "old"),
        open(
            "a watch that ends by itself",
            "short",
            &format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion=${{w2.rv}}&fieldSelector=metadata.name%3Dw3"),
        ),
        end("after its timeout", "short"),
        open(
            "a watch with bookmarks",
            "marked",
            &format!(
                "{CONFIG_MAPS}?watch=true&timeoutSeconds=5&allowWatchBookmarks=true&resourceVersion=${{w2.rv}}&fieldSelector=metadata.name%3Dw3"
            ),
        ),
        post("something happens that it does not select", CONFIG_MAPS, config_map("w4")),
        end("has one before its end", "marked"),
        open(
            "a watch with bookmarks and no news",
            "quiet",
            &format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=5&allowWatchBookmarks=true&fieldSelector=metadata.name%3Dw3"),
        ),
        end("has none", "quiet"),
        open("a streaming list", "streaming", &format!("{CONFIG_MAPS}?{streaming}&fieldSelector=metadata.name%3Dw3")),
        read("state, then the mark", "streaming"),
        patch("a change after it", &at(CONFIG_MAPS, "w3"), MERGE, json!({"data": {"k": "v"}})),
        read("arrives", "streaming"),
        close("close", "streaming"),
        open("a streaming list of pods", "pods", &format!("{PODS}?{streaming}&fieldSelector=metadata.name%3Dnothing")),
        read("an empty one has its mark", "pods"),
        close("close", "pods"),
        open("a streaming list of nodes", "nodes", &format!("{NODES}?{streaming}&labelSelector=no-such-label")),
        read("an empty one of nodes", "nodes"),
        close("close", "nodes"),
        open(
            "a streaming list without bookmarks",
            "unmarked",
            &format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Dw3"),
        ),
        read("has no mark", "unmarked"),
        close("close", "unmarked"),
        get("initial events without a match", &format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true")),
        get("a match without initial events", &format!("{CONFIG_MAPS}?watch=true&resourceVersionMatch=NotOlderThan&resourceVersion=1")),
        get("a watch of a version that is no number", &format!("{CONFIG_MAPS}?watch=true&resourceVersion=abc")).free_wording(),
        get("a watch with a selector that is none", &format!("{CONFIG_MAPS}?watch=true&fieldSelector=data.a%3Db")),
    ]
}

fn other_types() -> Vec<Step> {
    let mut without_reason = event("e2");
    without_reason["reason"] = json!("");
    let mut elsewhere = event("e3");
    elsewhere["type"] = json!("Loud");
    let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e4"}, "involvedObject": {"kind": "Pod", "name": "p1", "namespace": "api-script"}, "reason": "Pulled", "message": "m", "type": "Normal",
        "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1});
    vec![
        post("an event", EVENTS, event("e1")),
        get("as core sees it", &at(CORE_EVENTS, "e1")),
        post("an event without a reason", EVENTS, without_reason),
        post("an event of an unknown type", EVENTS, elsewhere),
        post("an event in the old form", CORE_EVENTS, core),
        get("as events.k8s.io sees it", &at(EVENTS, "e4")),
        patch("an event becomes a series", &at(EVENTS, "e1"), STRATEGIC, json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:05.000000Z"}})),
        patch("an event's note is fixed", &at(EVENTS, "e1"), MERGE, json!({"note": "other"})),
        get("events of an object", &format!("{CORE_EVENTS}?fieldSelector=involvedObject.name%3Dp1,involvedObject.kind%3DPod")),
        get("events of an object by the new name", &format!("{EVENTS}?fieldSelector=regarding.name%3Dp1")).free_wording(),
        post("a secret", "/api/v1/namespaces/api-script/secrets", json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s1"}, "stringData": {"a": "b"}, "data": {"c": "ZA=="}})),
        delete("a secret goes", "/api/v1/namespaces/api-script/secrets/s1", Value::Null),
        post("a service account", "/api/v1/namespaces/api-script/serviceaccounts", json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa1"}})),
        delete("a service account goes", "/api/v1/namespaces/api-script/serviceaccounts/sa1", Value::Null),
        post("a priority class", "/apis/scheduling.k8s.io/v1/priorityclasses", json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "script-high"}, "value": 1000})),
        post("a pod of that class", PODS, pod_with("high", "/spec/priorityClassName", json!("script-high"))),
        delete("the class goes", "/apis/scheduling.k8s.io/v1/priorityclasses/script-high", Value::Null),
        post("a budget", "/apis/policy/v1/namespaces/api-script/poddisruptionbudgets", json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b1"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}}})),
        post("an eviction", &format!("{PODS}/high/eviction"), json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "high"}})),
        get("evicted", &at(PODS, "high")),
        post("an access review", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}})).free_wording(),
        get("a review cannot be read", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        call("server-side apply creates", Method::PATCH, &format!("{}?fieldManager=script", at(CONFIG_MAPS, "applied")), APPLY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: \"1\"}\n"),
        call("server-side apply updates", Method::PATCH, &format!("{}?fieldManager=script", at(CONFIG_MAPS, "applied")), APPLY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: \"2\", b: \"3\"}\n"),
        call("server-side apply without a manager", Method::PATCH, &at(CONFIG_MAPS, "applied"), APPLY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\n"),
    ]
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

fn other_forms() -> Vec<Step> {
    vec![
        post("a pod to print", PODS, pod_with("printed", "/spec/nodeName", json!("script-node-a"))),
        patch(
            "it runs",
            &format!("{PODS}/printed/status"),
            MERGE,
            json!({"status": {"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}],
            "containerStatuses": [{"name": "main", "ready": true, "started": true, "restartCount": 1, "image": "i", "imageID": "", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}}),
        ),
        get_as("pods as a table", PODS, TABLE),
        get_as("one pod as a table", &at(PODS, "printed"), TABLE),
        get_as("a table with whole objects", &format!("{PODS}?includeObject=Object&fieldSelector=metadata.name%3Dprinted"), TABLE),
        get_as("a table without objects", &format!("{PODS}?includeObject=None&fieldSelector=metadata.name%3Dprinted"), TABLE),
        get_as("nodes as a table", NODES, TABLE),
        get_as("events as a table", CORE_EVENTS, TABLE),
        get_as("new events as a table", EVENTS, TABLE),
        get_as("a namespace as a table", "/api/v1/namespaces/api-script", TABLE),
        get_as("leases as a table", LEASES, TABLE),
        post(
            "a low class",
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "script-low"}, "value": -5, "preemptionPolicy": "Never"}),
        ),
        get_as("a priority class as a table", "/apis/scheduling.k8s.io/v1/priorityclasses/script-low", TABLE),
        delete("the low class goes", "/apis/scheduling.k8s.io/v1/priorityclasses/script-low", Value::Null),
        get_as("metadata of one", &at(PODS, "printed"), METADATA),
        get_as("metadata of a list", &format!("{PODS}?fieldSelector=metadata.name%3Dprinted"), METADATA_LIST),
        delete("it ends", &at(PODS, "printed"), json!({"gracePeriodSeconds": 0})),
    ]
}

fn more_of_lists() -> Vec<Step> {
    let (map, node) = (at(CONFIG_MAPS, "w3"), at(NODES, "script-node-a"));
    vec![
        get("a list of a version to come", &format!("{CONFIG_MAPS}?resourceVersion=999999999")),
        get("an exact list of a version to come", &format!("{CONFIG_MAPS}?resourceVersion=999999999&resourceVersionMatch=Exact")),
        get("a limit at any version", &format!("{CONFIG_MAPS}?limit=1&resourceVersion=0")),
        get("a limit of nothing", &format!("{CONFIG_MAPS}?limit=0&fieldSelector=metadata.name%3Dw3")),
        get("a negative limit", &format!("{CONFIG_MAPS}?limit=-1&fieldSelector=metadata.name%3Dw3")),
        get("two selectors", &format!("{PODS}?labelSelector=app%3Dweb&fieldSelector=spec.nodeName!%3D,status.phase%3DPending")),
        put("dry-run update", &format!("{map}?dryRun=All"), config_map("w3")),
        patch("dry-run patch", &format!("{map}?dryRun=All"), MERGE, json!({"data": {"dry": "run"}})),
        get("nothing came of it", &map),
        delete("delete options as kubectl sends them", &map, json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "dryRun": ["All"]})),
        delete("a dry run in the query does not count beside a body", &format!("{}?dryRun=All", at(CONFIG_MAPS, "w4")), json!({"propagationPolicy": "Background"})),
        get("so it is gone", &at(CONFIG_MAPS, "w4")),
        delete("delete options of another kind", &map, json!({"kind": "Pod", "apiVersion": "v1"})).free_wording(),
        delete("delete with the right version only", &map, json!({"preconditions": {"resourceVersion": "7"}})),
        put(
            "update a node's spec and status",
            &node,
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "script-node-a", "labels": {"kubernetes.io/arch": "amd64"}}, "spec": {"unschedulable": true}, "status": {"capacity": {"cpu": "99"}}}),
        ),
        put(
            "update a node's status",
            &format!("{node}/status"),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "script-node-a"}, "status": {"capacity": {"cpu": "8", "pods": "10"}, "allocatable": {"cpu": "7", "pods": "10"}}}),
        ),
        patch(
            "a node's conditions in an order that is not theirs",
            &format!("{node}/status"),
            STRATEGIC,
            json!({"status": {"$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}], "conditions": [{"type": "Ready", "status": "False"}, {"type": "MemoryPressure", "status": "False"}]}}),
        ).free_wording(),
        patch(
            "a node's conditions merge by type",
            &format!("{node}/status"),
            STRATEGIC,
            json!({"status": {"$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}], "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "False"}]}}),
        ),
    ]
}

fn more_of_writes() -> Vec<Step> {
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l3"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}});
    let storage_class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "script-fast"}, "provisioner": "example.com/disk"});
    vec![
        post("a pod for a status update", PODS, pod("st")).saving("st.rv", "/metadata/resourceVersion"),
        put("update a pod's status", &format!("{PODS}/st/status"), {
            let mut changed = pod("st");
            changed["metadata"]["resourceVersion"] = json!("${st.rv}");
            changed["status"] = json!({"phase": "Failed", "reason": "Evicted", "message": "gone"});
            changed
        }),
        put("update it with the old version", &format!("{PODS}/st/status"), {
            let mut changed = pod("st");
            changed["metadata"]["resourceVersion"] = json!("${st.rv}");
            changed
        }),
        post("create a lease", LEASES, lease),
        patch("a lease by merge patch", &at(LEASES, "l3"), MERGE, json!({"spec": {"holderIdentity": "b", "leaseTransitions": 1}})),
        patch("a lease released", &at(LEASES, "l3"), MERGE, json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})),
        post("an event that nobody reports", EVENTS, {
            let mut event = event("e5");
            event["reportingController"] = json!("");
            event
        }),
        post("an event without a time", EVENTS, {
            let mut event = event("e6");
            event["eventTime"] = Value::Null;
            event
        }),
        post("an event about something elsewhere", EVENTS, {
            let mut event = event("e7");
            event["regarding"]["namespace"] = json!("default");
            event
        }),
        post("an event with a long note", EVENTS, {
            let mut event = event("e8");
            event["note"] = json!("x".repeat(1025));
            event
        }),
        post("a storage class", "/apis/storage.k8s.io/v1/storageclasses", storage_class),
        delete("a storage class goes", "/apis/storage.k8s.io/v1/storageclasses/script-fast", Value::Null),
        post(
            "a token review",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}}),
        )
        .free_wording(),
        post(
            "an access review of a path",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "x", "groups": ["system:masters"], "nonResourceAttributes": {"path": "/metrics", "verb": "get"}}}),
        ),
        post(
            "a body over the limit",
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"x": "y".repeat(3 * 1024 * 1024)}}),
        ),
        call("an unknown method", Method::OPTIONS, PODS, "", "").free_wording(),
        delete("two of a collection by field", &format!("{PODS}?fieldSelector=status.phase%3DFailed"), Value::Null),
    ]
}

fn clean_up() -> Vec<Step> {
    vec![
        delete("pods go", &format!("{PODS}?gracePeriodSeconds=0"), Value::Null),
        get("all of them", PODS),
        delete("the type goes", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/storms.script.isobar.dev", Value::Null)
            .unrecorded(),
        delete("a node goes", &at(NODES, "script-node-a"), Value::Null),
        delete("so does the other", &at(NODES, "script-node-b"), Value::Null),
        delete("a node that is not there", &at(NODES, "script-node-b"), Value::Null),
    ]
}

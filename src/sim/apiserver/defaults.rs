//! What Go's typed objects do to JSON. In: an object as a client sent it. Out: fields in Go's order, empty ones left out, defaults filled in.
//!
//! Only what users and schedulers see of pods, nodes, namespaces, services, secrets and priority classes; everything else is stored as it came.

use serde_json::{Map, Value, json};

use super::events::fill_core_event;
use super::resources::{Behaviour, ResourceType};

const METADATA_ORDER: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
];

/// kind and apiVersion first, metadata in Go's order and without what is not kept (managedFields); the rest follows.
pub(super) fn in_order(resource: &ResourceType, object: Value) -> Value {
    let Value::Object(mut fields) = object else { return object };
    let mut ordered = Map::with_capacity(fields.len());
    let stored_version = if resource.behaviour == Behaviour::EventV1 { "v1".to_string() } else { resource.api_version() };
    ordered.insert("kind".into(), resource.kind.clone().into());
    ordered.insert("apiVersion".into(), stored_version.into());
    let mut metadata = fields.shift_remove("metadata").unwrap_or_default();
    let known = METADATA_ORDER.iter().filter_map(|name| Some(((*name).to_string(), metadata.get_mut(*name)?.take())));
    ordered.insert("metadata".into(), Value::Object(known.filter(|(_, value)| !value.is_null()).collect()));
    let mut rest: Vec<(String, Value)> = fields.into_iter().filter(|(name, _)| name != "kind" && name != "apiVersion").collect();
    rest.sort_by_key(|(name, _)| name == "status");
    ordered.extend(rest);
    Value::Object(ordered)
}

/// Maps that Go leaves out when empty. Other empty maps are pointers to structs and mean something (`emptyDir: {}`).
const OMITTED_EMPTY_MAPS: &[&str] =
    &["labels", "annotations", "nodeSelector", "matchLabels", "limits", "requests", "data", "binaryData", "overhead"];

/// Drops nulls, and for built-in types empty lists, maps and texts that Go would not print.
pub(super) fn tidy(resource: &ResourceType, object: &mut Value) {
    let typed = resource.behaviour != Behaviour::Custom;
    if let Some(fields) = object["metadata"].as_object_mut() {
        fields.retain(|_, value| !is_empty(value));
    }
    if !typed {
        return;
    }
    let texts_left_out: &[&str] = if resource.behaviour == Behaviour::Pod { &["spec", "status"] } else { &[] };
    for part in texts_left_out {
        if let Some(fields) = object.get_mut(*part).and_then(Value::as_object_mut) {
            fields.retain(|_, value| value != "");
        }
    }
    drop_unprinted(object);
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn drop_unprinted(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(inner) => !(inner.is_empty() && OMITTED_EMPTY_MAPS.contains(&name.as_str())),
                _ => true,
            });
            fields.values_mut().for_each(drop_unprinted);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_unprinted),
        _ => {}
    }
}

/// Inserts `value` where nothing is.
fn or_else(target: &mut Value, field: &str, value: Value) {
    if let Some(fields) = target.as_object_mut() {
        fields.entry(field).or_insert(value);
    }
}

/// Fills in the defaults of the type and what Go prints even when empty.
pub(super) fn apply(resource: &ResourceType, object: &mut Value) {
    match resource.behaviour {
        Behaviour::Pod => {
            if object["spec"].is_object() {
                pod_spec(&mut object["spec"]);
            }
            pod_status(&mut object["status"]);
        }
        Behaviour::Node => node_status(object),
        Behaviour::Secret => or_else(object, "type", json!("Opaque")),
        Behaviour::PriorityClass => {
            or_else(object, "value", json!(0));
            or_else(object, "preemptionPolicy", json!("PreemptLowerPriority"));
        }
        Behaviour::Service => service(object),
        Behaviour::Plain if resource.kind == "StorageClass" => {
            or_else(object, "reclaimPolicy", json!("Delete"));
            or_else(object, "volumeBindingMode", json!("Immediate"));
        }
        _ => {}
    }
    fill_always_printed(object);
}

/// Fields without `omitempty` in Go.
pub(super) fn fill_always_printed(object: &mut Value) {
    let kind = (object["apiVersion"].as_str().unwrap_or_default().to_string(), object["kind"].as_str().unwrap_or_default().to_string());
    match (kind.0.as_str(), kind.1.as_str()) {
        ("v1", "Pod") => {
            or_else(object, "spec", json!({"containers": null}));
            or_else(object, "status", json!({}));
        }
        ("v1", "Node") => {
            or_else(object, "spec", json!({}));
            or_else(object, "status", json!({}));
            node_always_printed(&mut object["status"]);
        }
        ("v1", "Namespace") => {
            or_else(object, "spec", json!({}));
            or_else(object, "status", json!({}));
        }
        ("policy/v1", "PodDisruptionBudget") => {
            or_else(object, "status", json!({}));
            for field in ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"] {
                or_else(&mut object["status"], field, json!(0));
            }
        }
        ("coordination.k8s.io/v1", "Lease") => or_else(object, "spec", json!({})),
        ("v1", "Event") => fill_core_event(object),
        ("events.k8s.io/v1", "Event") => {
            for (field, empty) in [
                ("eventTime", Value::Null),
                ("regarding", json!({})),
                ("deprecatedSource", json!({})),
                ("deprecatedFirstTimestamp", Value::Null),
                ("deprecatedLastTimestamp", Value::Null),
            ] {
                or_else(object, field, empty);
            }
        }
        _ => {}
    }
}

fn pod_spec(spec: &mut Value) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        or_else(spec, field, value);
    }
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        or_else(spec, "serviceAccount", account);
    }
    let host_network = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter(|container| container.is_object()) {
            default_container(container, host_network);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        default_volume(volume);
    }
}

fn default_container(container: &mut Value, host_network: bool) {
    or_else(container, "resources", json!({}));
    or_else(container, "terminationMessagePath", json!("/dev/termination-log"));
    or_else(container, "terminationMessagePolicy", json!("File"));
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && tag.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    or_else(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().filter(|port| port.is_object()) {
        or_else(port, "protocol", json!("TCP"));
        if host_network {
            let number = port["containerPort"].clone();
            or_else(port, "hostPort", number);
        }
    }
    let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
    for (resource, limit) in limits {
        if container["resources"]["requests"].get(&resource).is_none() {
            container["resources"]["requests"][&resource] = limit;
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(probe).is_some_and(Value::is_object) {
            default_probe(&mut container[probe]);
        }
    }
    for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if variable["valueFrom"]["fieldRef"].is_object() {
            or_else(&mut variable["valueFrom"]["fieldRef"], "apiVersion", json!("v1"));
        }
    }
}

fn default_probe(probe: &mut Value) {
    for (field, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)] {
        or_else(probe, field, json!(value));
    }
    if probe["httpGet"].is_object() {
        or_else(&mut probe["httpGet"], "path", json!("/"));
        or_else(&mut probe["httpGet"], "scheme", json!("HTTP"));
    }
}

fn default_volume(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else { return };
    if fields.keys().all(|name| name == "name") {
        fields.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(source) = fields.get_mut(source).filter(|source| source.is_object()) {
            or_else(source, "defaultMode", json!(420));
        }
    }
    if let Some(source) = fields.get_mut("hostPath").filter(|source| source.is_object()) {
        or_else(source, "type", json!(""));
    }
}

/// Conditions print `lastProbeTime` and `lastTransitionTime` even when nobody set them.
fn pod_status(status: &mut Value) {
    for condition in
        status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten().filter(|condition| condition.is_object())
    {
        or_else(condition, "lastProbeTime", Value::Null);
        or_else(condition, "lastTransitionTime", Value::Null);
    }
    for list in ["containerStatuses", "initContainerStatuses"] {
        for container in status.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter(|container| container.is_object())
        {
            for (field, value) in [
                ("state", json!({})),
                ("lastState", json!({})),
                ("ready", json!(false)),
                ("restartCount", json!(0)),
                ("image", json!("")),
                ("imageID", json!("")),
            ] {
                or_else(container, field, value);
            }
        }
    }
}

fn node_status(node: &mut Value) {
    or_else(node, "spec", json!({}));
    or_else(node, "status", json!({}));
    let status = &mut node["status"];
    if let Some(capacity) = status.get("capacity").cloned() {
        or_else(status, "allocatable", capacity);
    }
    for condition in
        status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten().filter(|condition| condition.is_object())
    {
        or_else(condition, "lastHeartbeatTime", Value::Null);
        or_else(condition, "lastTransitionTime", Value::Null);
    }
}

fn node_always_printed(status: &mut Value) {
    or_else(status, "daemonEndpoints", json!({"kubeletEndpoint": {"Port": 0}}));
    or_else(status, "nodeInfo", json!({}));
    for field in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        or_else(&mut status["nodeInfo"], field, json!(""));
    }
}

fn service(object: &mut Value) {
    or_else(object, "spec", json!({}));
    let spec = &mut object["spec"];
    or_else(spec, "type", json!("ClusterIP"));
    or_else(spec, "sessionAffinity", json!("None"));
    or_else(spec, "internalTrafficPolicy", json!("Cluster"));
    or_else(spec, "ipFamilies", json!(["IPv4"]));
    or_else(spec, "ipFamilyPolicy", json!("SingleStack"));
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().filter(|port| port.is_object()) {
        or_else(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        or_else(port, "targetPort", number);
    }
}

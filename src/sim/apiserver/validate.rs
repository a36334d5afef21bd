//! Validation. In: an object to be stored, and for updates the one before. Out: upstream's field errors, in upstream's words.
//!
//! Metadata of every type; of pods what a scheduler's tests and users stumble over; events, leases and priority classes as far as Isobar writes or reads them.

use serde_json::{Value, json};

use super::resources::{Behaviour, ResourceType};
use super::status::FieldError;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Problems of a new object.
pub(super) fn create(resource: &ResourceType, object: &Value) -> Vec<FieldError> {
    let mut errors = metadata(resource, &object["metadata"]);
    errors.extend(of_kind(resource, object));
    errors
}

/// Problems of a changed object.
pub(super) fn update(resource: &ResourceType, subresource: &str, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = labels_of(&new["metadata"]);
    if old["metadata"]["uid"] != new["metadata"]["uid"] {
        errors.push(FieldError::invalid("metadata.uid", &new["metadata"]["uid"], "field is immutable"));
    }
    if subresource == "status" {
        return errors;
    }
    errors.extend(of_kind(resource, new));
    match resource.behaviour {
        Behaviour::Pod if subresource == "ephemeralcontainers" => errors.extend(ephemeral_update(&old["spec"], &new["spec"])),
        Behaviour::Pod if subresource == "resize" => errors.extend(resize(old, new)),
        Behaviour::Pod => errors.extend(pod_update(&old["spec"], &new["spec"])),
        Behaviour::Secret => {
            errors.extend(immutable(old, new, &["type"]));
            errors.extend(frozen(old, new));
        }
        Behaviour::Plain if resource.kind == "ConfigMap" => errors.extend(frozen(old, new)),
        Behaviour::PriorityClass => errors.extend(immutable(old, new, &["value", "preemptionPolicy"])),
        Behaviour::EventV1 => errors.extend(immutable(old, new, &["involvedObject", "reason", "message", "type", "action", "eventTime"])),
        _ => {}
    }
    errors
}

fn immutable(old: &Value, new: &Value, fields: &[&str]) -> Vec<FieldError> {
    let changed = fields.iter().filter(|field| old.get(**field) != new.get(**field));
    changed.map(|field| FieldError::invalid(field, &new[*field], "field is immutable")).collect()
}

/// Secrets and `ConfigMap`s that were declared immutable.
fn frozen(old: &Value, new: &Value) -> Vec<FieldError> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let thawed = new["immutable"] != true;
    let changed = ["data", "binaryData"].into_iter().filter(|field| old[*field] != new[*field]);
    let fields = thawed.then_some("immutable").into_iter().chain(changed);
    fields.map(|field| FieldError::forbidden(field, "field is immutable when `immutable` is set")).collect()
}

/// Upstream's `ValidatePodEphemeralContainersUpdate`.
fn ephemeral_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let list = |spec: &Value| spec["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let (known, wanted) = (list(old), list(new));
    let mut errors = Vec::new();
    for container in &known {
        let name = container["name"].as_str().unwrap_or_default();
        let word = match wanted.iter().find(|wanted| wanted["name"] == container["name"]) {
            None => "removed",
            Some(wanted) if wanted != container => "changed",
            Some(_) => continue,
        };
        errors.push(FieldError::forbidden(
            "spec.ephemeralContainers",
            &format!("existing ephemeral containers {name:?} may not be {word}\n"),
        ));
    }
    errors
}

/// Upstream's `ValidatePodResize`, as far as it concerns cpu and memory.
fn resize(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if super::qos::class_of(old) != super::qos::class_of(new) {
        errors.push(FieldError::invalid("spec", &new["status"]["qosClass"], "Pod QOS Class may not change as a result of resizing"));
    }
    let stripped = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            for kind in ["requests", "limits"] {
                if let Some(amounts) = container["resources"][kind].as_object_mut() {
                    amounts.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
                }
            }
            for kind in ["requests", "limits"] {
                if container["resources"][kind].as_object().is_none_or(serde_json::Map::is_empty) {
                    container["resources"][kind] = Value::Null;
                }
            }
        }
        spec
    };
    if stripped(old) != stripped(new) {
        errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
    }
    errors
}

fn of_kind(resource: &ResourceType, object: &Value) -> Vec<FieldError> {
    match resource.behaviour {
        Behaviour::Pod => pod_spec(&object["spec"]),
        Behaviour::Lease => lease(&object["spec"]),
        Behaviour::EventCore => event(object, false),
        Behaviour::EventV1 => event(object, true),
        _ => Vec::new(),
    }
}

fn metadata(resource: &ResourceType, metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    let base = metadata["generateName"].as_str().unwrap_or_default();
    if !base.is_empty() {
        // A trailing dash is fine in a prefix: letters follow.
        errors.extend(name_rule(
            resource,
            "metadata.generateName",
            base.strip_suffix('-').map_or(base.to_string(), |base| format!("{base}a")).as_str(),
            base,
        ));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        errors.extend(name_rule(resource, "metadata.name", name, name));
    }
    errors.extend(labels_of(metadata));
    errors
}

fn name_rule(resource: &ResourceType, field: &str, checked: &str, shown: &str) -> Vec<FieldError> {
    if resource.group == "rbac.authorization.k8s.io" {
        return Vec::new();
    }
    let wrong = if resource.behaviour == Behaviour::Namespace { !is_dns_label(checked) } else { !is_subdomain(checked) };
    let text = if resource.behaviour == Behaviour::Namespace { LABEL } else { SUBDOMAIN };
    if wrong { vec![FieldError::invalid(field, &json!(shown), text)] } else { Vec::new() }
}

/// The rule of object names, for one field.
pub(super) fn subdomain(field: &str, name: &str) -> Vec<FieldError> {
    if is_subdomain(name) { Vec::new() } else { vec![FieldError::invalid(field, &json!(name), SUBDOMAIN)] }
}

fn is_dns_label(text: &str) -> bool {
    let inner = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn is_name_part(text: &str) -> bool {
    let edge = |letter: Option<u8>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let inner = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
    text.len() <= 63 && edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(inner)
}

fn labels_of(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        let name = key.split_once('/').map_or(key.as_str(), |(_, name)| name);
        if !is_name_part(name) {
            errors.push(FieldError::invalid("metadata.labels", &json!(key), QUALIFIED));
        }
        let text = value.as_str().unwrap_or_default();
        if !text.is_empty() && !is_name_part(text) {
            errors.push(FieldError::invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
    errors
}

fn pod_spec(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let containers = spec["containers"].as_array();
    if containers.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required("spec.containers", ""));
    }
    let mut names: Vec<&str> = Vec::new();
    let others = ["spec.initContainers", "spec.ephemeralContainers"].map(|list| (list, spec[&list[5..]].as_array()));
    for (list, containers) in std::iter::once(("spec.containers", containers)).chain(others) {
        for (at, container) in containers.into_iter().flatten().enumerate() {
            let path = format!("{list}[{at}]");
            errors.extend(check_container(&path, container, &names));
            names.extend(container["name"].as_str());
        }
    }
    let policy = &spec["restartPolicy"];
    if !matches!(policy.as_str(), None | Some("Always" | "OnFailure" | "Never")) {
        errors.push(FieldError::not_supported("spec.restartPolicy", policy, &["Always", "OnFailure", "Never"]));
    }
    if let Some(node) = spec["nodeName"].as_str() {
        errors.extend(subdomain("spec.nodeName", node));
        if spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            errors.push(FieldError::forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"));
        }
    }
    errors
}

fn check_container(path: &str, container: &Value, names: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match container["name"].as_str().unwrap_or_default() {
        "" => errors.push(FieldError::required(&format!("{path}.name"), "")),
        name if !is_dns_label(name) => errors.push(FieldError::invalid(&format!("{path}.name"), &json!(name), LABEL)),
        name if names.contains(&name) => errors.push(FieldError::duplicate(&format!("{path}.name"), &json!(name))),
        _ => {}
    }
    if container["image"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&format!("{path}.image"), ""));
    }
    let resources = &container["resources"];
    for (resource, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][resource];
        let over = super::qos::amount(request).zip(super::qos::amount(limit)).is_some_and(|(request, limit)| request > limit);
        if over {
            let detail = format!("must be less than or equal to {resource} limit of {}", limit.as_str().unwrap_or_default());
            errors.push(FieldError::invalid(&format!("{path}.resources.requests"), request, &detail));
        }
    }
    errors
}

/// Upstream's `ValidatePodUpdate`: few fields of a pod's spec may change, more of them while it is gated.
fn pod_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Vec::new();
    let list = |spec: &'_ Value, field: &str| spec[field].as_array().cloned().unwrap_or_default();
    for field in ["containers", "initContainers"] {
        if list(old, field).len() != list(new, field).len() {
            errors.push(FieldError::forbidden(&format!("spec.{field}"), "pod updates may not add or remove containers"));
            return errors;
        }
    }
    let (old_tolerations, new_tolerations) = (list(old, "tolerations"), list(new, "tolerations"));
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.as_object_mut().map(|fields| fields.shift_remove("tolerationSeconds"));
        toleration
    };
    if old_tolerations.iter().any(|known| !new_tolerations.iter().any(|kept| bare(known) == bare(kept))) {
        errors.push(FieldError::forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"));
    }
    let old_gates = old["schedulingGates"].as_array().unwrap_or(&empty);
    for (at, gate) in new["schedulingGates"].as_array().into_iter().flatten().enumerate().filter(|(_, gate)| !old_gates.contains(gate)) {
        let text = format!("only deletion is allowed, but found new scheduling gate '{}'", gate["name"].as_str().unwrap_or_default());
        errors.push(FieldError::forbidden(&format!("spec.schedulingGates[{at}].name"), &text));
    }
    let mut munged = new.clone();
    put_back_updatable(old, &mut munged, !old_gates.is_empty());
    if munged != *old {
        let text = format!("pod updates may not change fields other than {UPDATABLE}\n");
        errors.push(FieldError::forbidden("spec", &text));
    }
    errors
}

fn put_back_updatable(old: &Value, munged: &mut Value, gated: bool) {
    for field in ["containers", "initContainers"] {
        for (at, container) in munged.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            container["image"] = old[field][at]["image"].clone();
        }
    }
    let mut fields = vec!["tolerations", "schedulingGates", "activeDeadlineSeconds"];
    if gated {
        fields.extend(["nodeSelector", "affinity"]);
    }
    for field in fields {
        match old.get(field) {
            Some(value) => munged[field] = value.clone(),
            None => {
                if let Some(fields) = munged.as_object_mut() {
                    fields.shift_remove(field);
                }
            }
        }
    }
}

fn lease(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", &spec["leaseDurationSeconds"], "must be greater than 0"));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        errors.push(FieldError::invalid("spec.leaseTransitions", &spec["leaseTransitions"], "must be greater than or equal to 0"));
    }
    errors
}

const NOTE_BYTES_MAX: usize = 1024;
const WORD_BYTES_MAX: usize = 128;

/// Upstream's `legacyValidateEvent` and, for events.k8s.io, the strict rules on top. The event is in core form.
fn event(event: &Value, strict: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let involved = event["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let elsewhere = FieldError::invalid("involvedObject.namespace", &json!(involved), "does not match event.namespace");
    let controller_field = if strict { "reportingController" } else { "reportingComponent" };
    if event["eventTime"].is_null() {
        let fits = if involved.is_empty() { namespace == "default" } else { involved == namespace };
        if !fits {
            errors.push(elsewhere);
        }
    } else {
        if involved.is_empty() && !matches!(namespace, "default" | "kube-system") {
            errors.push(elsewhere);
        }
        match text("reportingComponent") {
            "" => {
                errors.push(FieldError::required(controller_field, ""));
                errors.push(FieldError::invalid(controller_field, &json!(""), "name part must be non-empty"));
                errors.push(FieldError::invalid(controller_field, &json!(""), QUALIFIED));
            }
            name if !is_name_part(name.split_once('/').map_or(name, |(_, name)| name)) => {
                errors.push(FieldError::invalid(controller_field, &json!(name), QUALIFIED));
            }
            _ => {}
        }
        for (field, bytes_max) in [("reportingInstance", WORD_BYTES_MAX), ("action", WORD_BYTES_MAX), ("reason", WORD_BYTES_MAX)] {
            if text(field).is_empty() {
                errors.push(FieldError::required(field, ""));
            }
            if text(field).len() > bytes_max {
                errors.push(FieldError::invalid(field, &json!(""), &format!("can have at most {bytes_max} characters")));
            }
        }
        if text("message").len() > NOTE_BYTES_MAX {
            errors.push(FieldError::invalid("message", &json!(""), &format!("can have at most {NOTE_BYTES_MAX} characters")));
        }
    }
    if strict {
        errors.extend(strict_event(event));
    }
    errors
}

fn strict_event(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(series) = event.get("series").filter(|series| series.is_object()) {
        if series["count"].as_i64().unwrap_or(0) < 2 {
            errors.push(FieldError::invalid("series.count", &json!(""), "should be at least 2"));
        }
        if series["lastObservedTime"].is_null() {
            errors.push(FieldError::required("series.lastObservedTime", ""));
        }
    }
    if event["eventTime"].is_null() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = event["type"].as_str().unwrap_or_default();
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", &json!(""), &format!("has invalid value: {kind}")));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count"] {
        if !event[field].is_null() && event[field] != 0 {
            errors.push(FieldError::invalid(field, &json!(""), "needs to be unset"));
        }
    }
    if event["source"].as_object().is_some_and(|source| !source.is_empty()) {
        errors.push(FieldError::invalid("source", &json!(""), "needs to be unset"));
    }
    errors
}

//! What only pods have. In: pods to admit, bindings, evictions. Out: pods with priority, tolerations and conditions set; bound pods; refusals in
//! upstream's words.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::delete::DeleteOptions;
use super::request::Form;
use super::resources::ResourceType;
use super::status::{ApiError, FieldError, aggregate, json_response};
use super::store::{Key, Transaction};
use super::update::{keep, precondition_failed};
use super::{ApiServer, qos, validate};

/// Labels that upstream's `PodTopologyLabels` admission copies from the node to the pod at binding.
const TOPOLOGY_LABELS: &[&str] = &["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];
/// Upstream's `DefaultTolerationSeconds`.
const TOLERATED_SECONDS: i64 = 300;

/// Admission and preparation of a pod that is being created.
pub(super) fn admit(server: &ApiServer, tx: &Transaction<'_>, resource: &ResourceType, pod: &mut Value) -> Result<(), ApiError> {
    set_priority(server, tx, resource, pod)?;
    tolerate_for_a_while(pod);
    let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_string();
    if !node_name.is_empty() {
        copy_topology_labels(server, tx, &node_name, &mut pod["metadata"]);
    }
    let since = server.clock.now_text();
    let mut status = json!({"phase": "Pending"});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        let reason = "SchedulingGated";
        status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": since, "reason": reason, "message": message}]);
    }
    status["qosClass"] = qos::class_of(pod).into();
    pod["status"] = status;
    Ok(())
}

/// Upstream's `Priority` admission.
fn set_priority(server: &ApiServer, tx: &Transaction<'_>, resource: &ResourceType, pod: &mut Value) -> Result<(), ApiError> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default().to_string();
    let Some(classes) = server.resource("scheduling.k8s.io", "v1", "priorityclasses") else { return Ok(()) };
    let spec = &mut pod["spec"];
    let class_name = spec["priorityClassName"].as_str().unwrap_or_default().to_string();
    let class = if class_name.is_empty() {
        let mut defaults: Vec<Value> =
            tx.all(classes.table).map(|stored| stored.value()).filter(|class| class["globalDefault"] == true).collect();
        defaults.sort_by_key(|class| class["value"].as_i64());
        defaults.into_iter().next()
    } else {
        let found = tx.get(classes.table, &Key::new("", &class_name)).map(|stored| stored.value());
        Some(found.ok_or_else(|| ApiError::forbidden(resource, &pod_name, &format!("no PriorityClass with name {class_name} was found")))?)
    };
    let priority = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden(resource, &pod_name, &why));
    }
    spec["priority"] = priority.into();
    if let Some(name) = class.as_ref().filter(|_| class_name.is_empty()).map(|class| class["metadata"]["name"].clone()) {
        spec["priorityClassName"] = name;
    }
    let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority").to_string();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}

/// Admission of a pod that is being changed: what a client left out of priority and tolerations is put back.
pub(super) fn readmit(old: &Value, pod: &mut Value) {
    for field in ["priority", "preemptionPolicy"] {
        if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
            pod["spec"][field] = old["spec"][field].clone();
        }
    }
    tolerate_for_a_while(pod);
}

/// What `pods/ephemeralcontainers` and `pods/resize` may change, and nothing else.
pub(super) fn keep_all_but(part: &str, old: &Value, new: &mut Value) {
    let asked = new.take();
    *new = old.clone();
    keep(&asked["metadata"], &mut new["metadata"], "resourceVersion");
    if part == "ephemeralcontainers" {
        keep(&asked["spec"], &mut new["spec"], "ephemeralContainers");
        return;
    }
    let wanted = asked["spec"]["containers"].as_array().cloned().unwrap_or_default();
    for container in new["spec"]["containers"].as_array_mut().into_iter().flatten() {
        if let Some(wanted) = wanted.iter().find(|wanted| wanted["name"] == container["name"]) {
            keep(wanted, container, "resources");
            keep(wanted, container, "resizePolicy");
        }
    }
}

fn tolerate_for_a_while(pod: &mut Value) {
    let spec = &mut pod["spec"];
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(tolerations) = spec["tolerations"].as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let key_matches = toleration["key"].as_str().is_none_or(|known| known.is_empty() || known == key);
            key_matches && toleration["effect"].as_str().is_none_or(|effect| effect.is_empty() || effect == "NoExecute")
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED_SECONDS}));
        }
    }
}

fn copy_topology_labels(server: &ApiServer, tx: &Transaction<'_>, node_name: &str, metadata: &mut Value) {
    let Some(nodes) = server.resource("", "v1", "nodes") else { return };
    let Some(node) = tx.get(nodes.table, &Key::new("", node_name)).map(|stored| stored.value()) else { return };
    for label in TOPOLOGY_LABELS {
        if let Some(value) = node["metadata"]["labels"].get(*label) {
            metadata["labels"][*label] = value.clone();
        }
    }
}

impl ApiServer {
    /// `POST pods/NAME/binding`, and the older `POST bindings` with the pod's name in the body.
    pub(super) fn bind(
        &self,
        pods: &ResourceType,
        namespace: &str,
        name: &str,
        binding: &Value,
        dry_run: bool,
    ) -> Result<Response<Body>, ApiError> {
        let given_namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
        if !given_namespace.is_empty() && given_namespace != namespace {
            return Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
        }
        if binding["metadata"]["name"].as_str().unwrap_or_default() != name {
            return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
        }
        let errors = check_target(&binding["target"]);
        if !errors.is_empty() {
            return Err(ApiError::plain(500, "", aggregate(&errors)));
        }
        self.store.transaction(|tx| self.bind_in(tx, pods, namespace, name, binding, dry_run))?;
        let answer = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(json_response(StatusCode::CREATED, &answer))
    }

    fn bind_in(
        &self,
        tx: &mut Transaction<'_>,
        pods: &ResourceType,
        namespace: &str,
        name: &str,
        binding: &Value,
        dry_run: bool,
    ) -> Result<(), ApiError> {
        let key = Key::new(namespace, name);
        let existing = tx.get(pods.table, &key).cloned().ok_or_else(|| ApiError::not_found(pods, name))?;
        let mut pod = existing.value();
        check_binding_preconditions(pods, namespace, name, &pod, &binding["metadata"])?;
        check_bindable(name, &pod)?;
        let node_name = binding["target"]["name"].as_str().unwrap_or_default();
        pod["spec"]["nodeName"] = node_name.into();
        if let Some(status) = pod["status"].as_object_mut() {
            status.shift_remove("nominatedNodeName");
        }
        let metadata = &mut pod["metadata"];
        for part in ["annotations", "labels"] {
            for (field, value) in binding["metadata"][part].as_object().into_iter().flatten() {
                metadata[part][field] = value.clone();
            }
        }
        if binding["target"]["kind"] == "Node" {
            copy_topology_labels(self, tx, node_name, metadata);
        }
        set_scheduled(&mut pod, &self.clock.now_text());
        let pod = super::defaults::in_order(pods, pod);
        if !dry_run {
            tx.put(pods.table, key, pod);
        }
        Ok(())
    }

    /// `POST pods/NAME/eviction`: a delete that a `PodDisruptionBudget` may refuse; budgets are read, never computed.
    pub(super) fn evict(
        &self,
        pods: &ResourceType,
        namespace: &str,
        name: &str,
        eviction: &Value,
        options: &DeleteOptions,
    ) -> Result<Response<Body>, ApiError> {
        let key = Key::new(namespace, name);
        let pod = self.store.get(pods.table, &key).ok_or_else(|| ApiError::not_found(pods, name))?.value();
        if eviction["metadata"]["name"].as_str().unwrap_or_default() != name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        if self.budget_is_used_up(namespace, &pod) {
            let mut error = ApiError::too_many_requests(10);
            error.message = "Cannot evict pod as it would violate the pod's disruption budget.".into();
            return Err(error);
        }
        self.delete(pods, namespace, name, options, Form::Object)?;
        let answer = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(json_response(StatusCode::CREATED, &answer))
    }

    fn budget_is_used_up(&self, namespace: &str, pod: &Value) -> bool {
        let Some(budgets) = self.resource("policy", "v1", "poddisruptionbudgets") else { return false };
        let Ok(snapshot) = self.store.snapshot(budgets.table, namespace, None) else { return false };
        snapshot.objects.iter().map(|stored| stored.value()).any(|budget| {
            let wanted = budget["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
            let mut wanted = wanted.peekable();
            let selected = wanted.peek().is_some() && wanted.all(|(label, value)| pod["metadata"]["labels"][label] == *value);
            selected && budget["status"]["disruptionsAllowed"].as_i64() == Some(0)
        })
    }
}

fn check_target(target: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = target["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", &json!(kind), &["Node", "<empty>"]));
    }
    match target["name"].as_str().unwrap_or_default() {
        "" => errors.push(FieldError::required("target.name", "")),
        name => errors.extend(validate::subdomain("target.name", name)),
    }
    errors
}

fn check_binding_preconditions(pods: &ResourceType, namespace: &str, name: &str, pod: &Value, given: &Value) -> Result<(), ApiError> {
    for (field, words) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let known = pod["metadata"][field].as_str().unwrap_or_default();
        if let Some(asked) = given[field].as_str().filter(|asked| !asked.is_empty() && *asked != known) {
            let what = format!("{words} in precondition: {asked}, {words} in object meta: {known}");
            return Err(ApiError::conflict(pods, name, &precondition_failed(pods, namespace, name, &what)));
        }
    }
    Ok(())
}

fn check_bindable(name: &str, pod: &Value) -> Result<(), ApiError> {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return Err(ApiError::binding_conflict(name, &format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        return Err(ApiError::binding_conflict(name, &format!("pod {name} is already assigned to node {node:?}")));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return Err(ApiError::binding_conflict(name, &format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    Ok(())
}

/// Upstream's `UpdatePodCondition` for `PodScheduled=True`.
fn set_scheduled(pod: &mut Value, now: &str) {
    let status = &mut pod["status"];
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else { return };
    let known = conditions.iter().position(|condition| condition["type"] == "PodScheduled");
    let since = match known {
        Some(at) if conditions[at]["status"] == "True" => conditions[at]["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": since});
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

//! The `OpenAPI` 3.1 document. In: the table of routes, the schemas of our kinds. Out: JSON, as committed in `docs/openapi.json`; a test holds it current.

use serde_json::{Value, json};

use super::table::{ROUTES, Route};
use crate::tasks::crd;

/// The document.
pub fn document() -> Value {
    let mut paths = json!({});
    for route in ROUTES {
        paths[route.path][route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Isobar: tasks",
            "version": "v1",
            "summary": "The verbs of `isobar task` over HTTPS.",
            "description": "Callers show a bearer token that the cluster's API server accepts (TokenReview), or a client certificate. What they may is \
                asked of the API server as well (SubjectAccessReview): each operation says which permission it takes. Any replica answers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": "tasks"}, {"name": "runs"}, {"name": "overview"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
            "responses": failures(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let tag = ["runs", "tasks"].into_iter().find(|tag| route.path.contains(&format!("/{tag}"))).unwrap_or("overview");
    let mut answers = json!({});
    for (code, about) in route.good {
        let content = match route.gives {
            Some(schema) => json!({"application/json": {"schema": reference("schemas", schema)}}),
            None => json!({"text/plain": {"schema": {"type": "string"}}}),
        };
        answers[code.to_string()] = json!({"description": about, "content": content});
    }
    for code in [401, 403, 500, 502].iter().chain(route.bad) {
        answers[code.to_string()] = reference("responses", &code.to_string());
    }
    let permission = |need: &super::table::Need| {
        let slash = if need.subresource.is_empty() { "" } else { "/" };
        let group = if need.group.is_empty() { String::new() } else { format!(".{}", need.group) };
        format!("{} {}{group}{slash}{}", need.verb, need.resource, need.subresource)
    };
    let needs: Vec<String> = route.needs.iter().map(permission).collect();
    let in_path = route.path.split('{').skip(1).filter_map(|part| part.split('}').next());
    let mut parameters: Vec<Value> =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    parameters.extend(
        route
            .query
            .iter()
            .map(|query| json!({"name": query.name, "in": "query", "description": query.about, "schema": {"type": query.kind}})),
    );
    let mut operation = json!({
        "operationId": route.id, "tags": [tag], "summary": route.about,
        "description": format!("Takes the permission: {}.", needs.join(", ")),
        "parameters": parameters, "responses": answers,
    });
    if let Some(schema) = route.takes {
        let content = json!({"application/json": {"schema": reference("schemas", schema)}});
        operation["requestBody"] = json!({"required": route.method == "put", "content": content});
    }
    operation
}

fn reference(of: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{of}/{name}")})
}

fn failures() -> Value {
    let mut failures = json!({});
    for (code, about) in [
        (400, "It cannot be read: the message says where."),
        (401, "Who asks is not known: show a bearer token that the cluster accepts."),
        (403, "Who asks may not: the message says what is missing."),
        (404, "There is no such thing."),
        (409, "It contradicts what is there."),
        (413, "The body is too long."),
        (422, "It can be read, and nothing can be made of it: the message says why."),
        (500, "The caller could not be checked. Nothing was done."),
        (502, "The API server did not answer, or refused what Isobar asked of it."),
    ] {
        let content = json!({"application/json": {"schema": reference("schemas", "Status")}});
        failures[code.to_string()] = json!({"description": about, "content": content});
    }
    failures
}

fn schemas() -> Value {
    let kind = |definition: &Value| definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let list = |of: &str| object(&json!({"items": {"type": "array", "items": reference("schemas", of)}}), &["items"]);
    let text = || json!({"type": "string"});
    let number = || json!({"type": "integer", "minimum": 0});
    let used = || object(&json!({"allocatable": number(), "requested": number()}), &["allocatable", "requested"]);
    let params = json!({"type": "object", "additionalProperties": {"type": "string"}, "description": "Values of parameters by name."});
    let key = json!({"type": "string", "minLength": 1, "maxLength": 1024, "description": "The same key is the same run."});
    json!({
        "Task": kind(&crd::task()),
        "TaskRun": kind(&crd::task_run()),
        "TaskList": list("Task"),
        "TaskRunList": list("TaskRun"),
        "EventList": object(&json!({"items": {"type": "array", "items": {"type": "object", "description": "An event of events.k8s.io/v1."}}}), &["items"]),
        "Start": object(&json!({
            "params": params, "key": key,
            "cycle": {"type": "string", "format": "date-time", "description": "The time that its data is about."},
        }), &[]),
        "Rerun": object(&json!({"key": key}), &[]),
        "Status": object(&json!({
            "kind": text(), "apiVersion": text(), "metadata": {"type": "object"}, "status": text(),
            "message": {"type": "string", "description": "For people."},
            "reason": {"type": "string", "description": "One word, for programs."},
            "code": {"type": "integer", "description": "The HTTP status."},
        }), &["kind", "status", "message", "reason", "code"]),
        "Overview": object(&json!({
            "at": {"type": "string", "format": "date-time"},
            "clusters": {"type": "array", "items": object(&json!({"name": text(), "ready": {"type": "boolean"}, "reason": text(), "message": text()}), &["name", "ready"])},
            "nodes": {"type": "array", "items": object(&json!({
                "cluster": {"type": "string", "description": "A compute cluster as a whole; absent: nodes of the home cluster."},
                "architecture": text(), "gpu": {"type": "string", "description": "Model; empty: none."},
                "count": number(), "notReady": number(), "cordoned": number(), "pods": number(),
                "cpuMilli": used(), "memoryBytes": used(), "gpus": used(),
            }), &["architecture", "gpu", "count"])},
            "waiting": number(),
            "queue": {"type": "array", "description": "Pods without a node that have waited longest.", "items": object(&json!({
                "namespace": text(), "pod": text(), "since": {"type": "string", "format": "date-time"}, "priority": {"type": "integer"},
                "reason": text(), "message": text(),
            }), &["namespace", "pod", "since"])},
        }), &["at", "clusters", "nodes", "waiting", "queue"]),
    })
}

fn object(properties: &Value, required: &[&str]) -> Value {
    let mut object = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

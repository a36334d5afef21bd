//! Discovery. In: the served types. Out: `/api`, `/apis`, the resource list of each version, both aggregated forms, and `/version`.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::ApiServer;
use super::resources::{Behaviour, ResourceType};
use super::status::json_response;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SUBRESOURCE_VERBS: &[&str] = &["get", "patch", "update"];

/// The version that `/version` states and whose behaviour is followed.
pub const KUBERNETES_VERSION: &str = "v1.37.1";

fn verbs(resource: &ResourceType) -> &'static [&'static str] {
    if resource.behaviour == Behaviour::Review { &["create"] } else { VERBS }
}

/// Subresource, its kind, its verbs.
fn subresources(resource: &ResourceType) -> Vec<(&'static str, String, &'static [&'static str])> {
    let mut parts = Vec::new();
    if resource.behaviour == Behaviour::Pod {
        parts.push(("binding", "Binding".to_string(), ["create"].as_slice()));
        parts.push(("ephemeralcontainers", resource.kind.clone(), SUBRESOURCE_VERBS));
        parts.push(("eviction", "Eviction".to_string(), ["create"].as_slice()));
        parts.push(("log", resource.kind.clone(), ["get"].as_slice()));
        parts.push(("resize", resource.kind.clone(), SUBRESOURCE_VERBS));
    }
    if resource.behaviour == Behaviour::CertificateRequest {
        parts.push(("approval", resource.kind.clone(), SUBRESOURCE_VERBS));
    }
    if resource.has_status {
        parts.push(("status", resource.kind.clone(), SUBRESOURCE_VERBS));
    }
    parts
}

/// `/version`.
pub(super) fn version() -> Value {
    json!({"major": "1", "minor": "37", "gitVersion": KUBERNETES_VERSION, "gitCommit": "in-memory", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64"})
}

/// Groups in order, each with its versions.
fn groups(types: &[Arc<ResourceType>], core: bool) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for row in types.iter().filter(|row| row.group.is_empty() == core) {
        match groups.last_mut().filter(|(group, _)| *group == row.group) {
            Some((_, versions)) if versions.contains(&row.version) => {}
            Some((_, versions)) => versions.push(row.version.clone()),
            None => groups.push((row.group.clone(), vec![row.version.clone()])),
        }
    }
    groups
}

fn group_value((group, versions): &(String, Vec<String>)) -> Value {
    let version = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": all, "preferredVersion": all[0]})
}

impl ApiServer {
    /// `/api` and `/apis`.
    pub(super) fn discover_roots(&self, core: bool, aggregated: Option<&'static str>) -> Response<Body> {
        let types = self.resources();
        if let Some(version) = aggregated {
            return aggregated_response(version, &types, core);
        }
        let value = if core {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}]})
        } else {
            let groups: Vec<Value> = groups(&types, false).iter().map(group_value).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        };
        json_response(StatusCode::OK, &value)
    }

    /// `/apis/GROUP`.
    pub(super) fn discover_group(&self, group: &str) -> Option<Response<Body>> {
        let groups = groups(&self.resources(), false);
        let found = groups.iter().find(|(name, _)| name == group)?;
        let mut value = json!({"kind": "APIGroup", "apiVersion": "v1"});
        for (field, part) in group_value(found).as_object().into_iter().flatten() {
            value[field] = part.clone();
        }
        Some(json_response(StatusCode::OK, &value))
    }

    /// `/api/v1` and `/apis/GROUP/VERSION`.
    pub(super) fn discover_version(&self, group: &str, version: &str) -> Option<Response<Body>> {
        let types = self.resources();
        let mut listed = Vec::new();
        let mut api_version = None;
        for row in types.iter().filter(|row| row.group == group && row.version == version) {
            api_version = Some(row.api_version());
            listed.push(resource_value(row));
            for (part, kind, verbs) in subresources(row) {
                listed.push(json!({"name": format!("{}/{part}", row.plural), "singularName": "", "namespaced": row.namespaced, "kind": kind, "verbs": verbs}));
            }
        }
        let value = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version?, "resources": listed});
        Some(json_response(StatusCode::OK, &value))
    }
}

fn resource_value(row: &ResourceType) -> Value {
    let mut value = json!({"name": row.plural, "singularName": row.kind.to_lowercase(), "namespaced": row.namespaced, "kind": row.kind, "verbs": verbs(row)});
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
    value
}

fn aggregated_response(version: &'static str, types: &[Arc<ResourceType>], core: bool) -> Response<Body> {
    let items: Vec<Value> = groups(types, core)
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions.iter().map(|version| aggregated_version(types, group, version)).collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let api_version = format!("apidiscovery.k8s.io/{version}");
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items});
    let mut response = json_response(StatusCode::OK, &list);
    let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    if let Ok(content_type) = HeaderValue::from_str(&content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

fn aggregated_version(types: &[Arc<ResourceType>], group: &str, version: &str) -> Value {
    let resources: Vec<Value> =
        types.iter().filter(|row| row.group == group && row.version == version).map(|row| aggregated_resource(row)).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn aggregated_resource(row: &ResourceType) -> Value {
    let kind = |kind: &str| json!({"group": row.group, "version": row.version, "kind": kind});
    let parts: Vec<Value> = subresources(row)
        .iter()
        .map(|(part, part_kind, verbs)| json!({"subresource": part, "responseKind": kind(part_kind), "verbs": verbs}))
        .collect();
    let scope = if row.namespaced { "Namespaced" } else { "Cluster" };
    let mut value = json!({"resource": row.plural, "responseKind": kind(&row.kind), "scope": scope, "singularResource": row.kind.to_lowercase(), "verbs": verbs(row)});
    for (field, words) in [("shortNames", &row.short_names), ("categories", &row.categories)] {
        if !words.is_empty() {
            value[field] = json!(words);
        }
    }
    if !parts.is_empty() {
        value["subresources"] = json!(parts);
    }
    value
}

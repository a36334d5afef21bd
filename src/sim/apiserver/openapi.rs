//! As much `OpenAPI` v3 as kubectl asks for before it sends anything: which patch operations take `fieldValidation`, so that it leaves validation to
//! the server. There are no schemas, so `kubectl explain` has nothing to show.

use serde_json::{Map, Value, json};

use super::ApiServer;

impl ApiServer {
    /// `/openapi/v3`: where each version's document lies.
    pub(super) fn openapi_index(&self) -> Value {
        let mut paths = Map::new();
        for row in self.resources() {
            let path = if row.group.is_empty() { format!("api/{}", row.version) } else { format!("apis/{}/{}", row.group, row.version) };
            let url = format!("/openapi/v3/{path}?hash=0");
            paths.entry(path).or_insert_with(|| json!({"serverRelativeURL": url}));
        }
        json!({"paths": paths})
    }

    /// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/VERSION`.
    pub(super) fn openapi_document(&self, group: &str, version: &str) -> Value {
        let mut paths = Map::new();
        for row in self.resources().iter().filter(|row| row.group == group && row.version == version) {
            let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
            let namespaces = if row.namespaced { "/namespaces/{namespace}" } else { "" };
            let path = format!("{root}{namespaces}/{}/{{name}}", row.plural);
            let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
            let kind = json!({"group": group, "version": version, "kind": row.kind});
            let operation = json!({"operationId": format!("patch{}", row.kind), "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
                "responses": {"200": {"description": "OK"}}, "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind});
            paths.insert(path, json!({"patch": operation}));
        }
        json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": super::discovery::KUBERNETES_VERSION}, "paths": paths, "components": {}})
    }
}

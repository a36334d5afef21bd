//! The way of a request. In: any HTTP request. Out: discovery, or the verb on the addressed resource, or the Status of a refusal.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::delete::DeleteOptions;
use super::discovery;
use super::patch::{Patch, read_yaml};
use super::request::{Form, Query, ResourcePath, aggregated_discovery, negotiate};
use super::resources::{Behaviour, ResourceType};
use super::status::{ApiError, bytes_response, json_response};
use super::update::Update;
use super::{ApiServer, FieldError, is_dry_run, protobuf, typed};

const ACCEPTED: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

pub(super) fn router(server: Arc<ApiServer>) -> Router {
    Router::new().fallback(answer).with_state(server)
}

async fn answer(State(server): State<Arc<ApiServer>>, request: Request<Body>) -> Response<Body> {
    server.serve(request).await.unwrap_or_else(ApiError::into_response)
}

/// A request with its body read.
struct Call {
    method: Method,
    path: ResourcePath,
    query: Query,
    form: Form,
    content_type: String,
    body: Bytes,
}

impl ApiServer {
    async fn serve(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        if let Some(response) = self.discover(&request) {
            return Ok(response);
        }
        let Some(path) = ResourcePath::parse(request.uri().path()) else { return Ok(unknown_path()) };
        let found = self.resource(&path.group, &path.version, &path.resource);
        let query = Query::parse(request.uri())?;
        let form = negotiate(request.headers(), &query)?;
        let (parts, body) = request.into_parts();
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
        let body = self.read_body(body).await?;
        let call = Call { method: parts.method, path, query, form, content_type, body };
        match found {
            Some(resource) if fits_scope(&resource, &call) => self.dispatch(&resource, &call),
            None if call.path.group.is_empty() && call.path.resource == "bindings" => self.legacy_binding(&call),
            _ if self.resources().iter().any(|row| row.group == call.path.group && row.version == call.path.version) => {
                Err(ApiError::unknown_resource())
            }
            _ => Ok(unknown_path()),
        }
    }

    async fn read_body(&self, body: Body) -> Result<Bytes, ApiError> {
        let bytes_max = self.options.body_bytes_max;
        match Limited::new(body, bytes_max).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(format!("limit is {bytes_max}"))),
            Err(error) => Err(ApiError::bad_request(format!("unable to read the body: {error}"))),
        }
    }

    fn discover(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let path = request.uri().path().trim_end_matches('/');
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let aggregated = aggregated_discovery(request.headers());
        match segments.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Some(bytes_response(StatusCode::OK, Bytes::from_static(b"ok"))),
            ["version"] => Some(json_response(StatusCode::OK, &discovery::version())),
            ["api"] => Some(self.discover_roots(true, aggregated)),
            ["apis"] => Some(self.discover_roots(false, aggregated)),
            ["api", version] => self.discover_version("", version).or_else(|| Some(unknown_path())),
            ["apis", group] => self.discover_group(group).or_else(|| Some(unknown_path())),
            ["apis", group, version] => self.discover_version(group, version).or_else(|| Some(unknown_path())),
            ["openapi", "v3"] => Some(json_response(StatusCode::OK, &self.openapi_index())),
            ["openapi", "v3", "api", version] => Some(json_response(StatusCode::OK, &self.openapi_document("", version))),
            ["openapi", "v3", "apis", group, version] => Some(json_response(StatusCode::OK, &self.openapi_document(group, version))),
            _ => None,
        }
    }

    fn dispatch(self: &Arc<Self>, resource: &Arc<ResourceType>, call: &Call) -> Result<Response<Body>, ApiError> {
        if resource.behaviour == Behaviour::Review {
            return match call.method {
                Method::POST if call.path.name.is_empty() => self.review(resource, Self::read_object(resource, call)?),
                _ => Err(ApiError::method_not_allowed()),
            };
        }
        match (call.path.name.is_empty(), call.path.subresource.as_str()) {
            (true, _) => self.on_collection(resource, call),
            (false, "") => self.on_object(resource, call),
            (false, subresource) => self.on_subresource(resource, call, subresource),
        }
    }

    fn on_collection(self: &Arc<Self>, resource: &Arc<ResourceType>, call: &Call) -> Result<Response<Body>, ApiError> {
        let namespace = &call.path.namespace;
        match call.method {
            Method::GET if call.query.flag("watch") => self.watch(resource, namespace, &call.query, call.form),
            Method::GET => self.list(resource, namespace, &call.query, call.form),
            Method::POST if resource.namespaced && namespace.is_empty() => Err(ApiError::method_not_allowed()),
            Method::POST => {
                let object = Self::read_object(resource, call)?;
                let created = self.create_object(resource, namespace, object, is_dry_run(&call.query)?)?;
                Ok(bytes_response(StatusCode::CREATED, self.encoder(resource, call.form).object(&created)))
            }
            Method::DELETE => self.delete_collection(resource, namespace, &call.query, &read_delete_options(call)?, call.form),
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn on_object(self: &Arc<Self>, resource: &Arc<ResourceType>, call: &Call) -> Result<Response<Body>, ApiError> {
        let (namespace, name) = (call.path.namespace.as_str(), call.path.name.as_str());
        match call.method {
            Method::GET => self.get(resource, namespace, name, call.form),
            Method::PUT => self.put(resource, call, ""),
            Method::PATCH => self.patch(resource, call, ""),
            Method::DELETE => self.delete(resource, namespace, name, &read_delete_options(call)?, call.form),
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn on_subresource(self: &Arc<Self>, resource: &Arc<ResourceType>, call: &Call, subresource: &str) -> Result<Response<Body>, ApiError> {
        let (namespace, name) = (call.path.namespace.as_str(), call.path.name.as_str());
        match (resource.behaviour, subresource, &call.method) {
            (Behaviour::Pod, "binding", &Method::POST) => {
                let binding = Self::read_value("Binding", "v1", call)?;
                self.bind(resource, namespace, name, &binding, is_dry_run(&call.query)?)
            }
            (Behaviour::Pod, "eviction", &Method::POST) => {
                let eviction = Self::read_value("Eviction", "policy/v1", call)?;
                let options = DeleteOptions::read(Some(&eviction["deleteOptions"]), &call.query)?;
                self.evict(resource, namespace, name, &eviction, &options)
            }
            (Behaviour::Pod, "log", &Method::GET) => self.pod_log(resource, namespace, name, &call.query),
            (Behaviour::Namespace, "finalize", &Method::PUT) => self.put(resource, call, ""),
            (behaviour, part, method) if has_part(resource, behaviour, part) => match *method {
                Method::GET => self.get(resource, namespace, name, call.form),
                Method::PUT => self.put(resource, call, part),
                Method::PATCH => self.patch(resource, call, part),
                _ => Err(ApiError::method_not_allowed()),
            },
            (Behaviour::Pod, "binding" | "eviction" | "log", _) | (Behaviour::Namespace, "finalize", _) => {
                Err(ApiError::method_not_allowed())
            }
            _ => Err(ApiError::unknown_resource()),
        }
    }

    /// `POST /api/v1/namespaces/NS/bindings`: the pod's name is in the body.
    fn legacy_binding(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let Some(pods) = self.resource("", "v1", "pods") else { return Ok(unknown_path()) };
        if call.method != Method::POST || call.path.namespace.is_empty() || !call.path.name.is_empty() {
            return Ok(unknown_path());
        }
        let binding = Self::read_value("Binding", "v1", call)?;
        let name = binding["metadata"]["name"].as_str().unwrap_or_default().to_string();
        self.bind(&pods, &call.path.namespace, &name, &binding, is_dry_run(&call.query)?)
    }

    fn put(&self, resource: &ResourceType, call: &Call, subresource: &str) -> Result<Response<Body>, ApiError> {
        let object = Self::read_object(resource, call)?;
        let update = Update {
            resource,
            namespace: &call.path.namespace,
            name: &call.path.name,
            subresource,
            is_put: true,
            dry_run: is_dry_run(&call.query)?,
        };
        let (stored, created) = self.update_object(&update, |_| Ok(object))?;
        let code = if created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(bytes_response(code, self.encoder(resource, call.form).object(&stored)))
    }

    fn patch(&self, resource: &ResourceType, call: &Call, subresource: &str) -> Result<Response<Body>, ApiError> {
        let patch = Patch::read(resource, &call.content_type, &call.body)?;
        if patch.as_created().is_some() && call.query.text("fieldManager").is_empty() {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid("PatchOptions", "meta.k8s.io", "", &[error]));
        }
        let dry_run = is_dry_run(&call.query)?;
        let update = Update { resource, namespace: &call.path.namespace, name: &call.path.name, subresource, is_put: false, dry_run };
        let result = self.update_object(&update, |object| {
            let patched = patch.apply(object)?;
            match typed::misfit(resource, &patched) {
                None => Ok(patched),
                Some(why) => Err(ApiError::invalid("", "", "", &[FieldError::invalid("patch", &patched, &why)])),
            }
        });
        let encoder = self.encoder(resource, call.form);
        match (result, patch.as_created()) {
            (Err(error), Some(object)) if error.code == 404 && subresource.is_empty() => {
                let mut object = object.clone();
                object["metadata"]["name"] = call.path.name.clone().into();
                let created = self.create_object(resource, &call.path.namespace, object, dry_run)?;
                Ok(bytes_response(StatusCode::CREATED, encoder.object(&created)))
            }
            (result, _) => result.map(|(stored, _)| bytes_response(StatusCode::OK, encoder.object(&stored))),
        }
    }

    fn read_object(resource: &ResourceType, call: &Call) -> Result<Value, ApiError> {
        let mut object = Self::read_value(&resource.kind, &resource.api_version(), call)?;
        if resource.behaviour == Behaviour::Custom {
            for (field, words) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
                if object[field].as_str().is_none_or(str::is_empty) {
                    return Err(ApiError::bad_request(format!("Object '{words}' is missing in '{object}'")));
                }
            }
        } else {
            object["kind"] = resource.kind.clone().into();
            object["apiVersion"] = resource.api_version().into();
        }
        match typed::misfit(resource, &object) {
            None => Ok(object),
            Some(why) => {
                let (kind, version) = (&resource.kind, resource.api_version());
                Err(ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}")))
            }
        }
    }

    /// Decodes a body that has to be of one kind, if it says so at all.
    fn read_value(kind: &str, api_version: &str, call: &Call) -> Result<Value, ApiError> {
        let object = decode(&call.content_type, &call.body)?;
        let given_kind = object["kind"].as_str().unwrap_or_default();
        let given_version = object["apiVersion"].as_str().unwrap_or_default();
        if !given_version.is_empty() && given_version != api_version {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({given_version}) does not match the expected API version ({api_version})"
            )));
        }
        if !given_kind.is_empty() && given_kind != kind {
            return Err(ApiError::bad_request(format!(
                "{given_kind} in version {api_version:?} cannot be handled as a {kind}: converting to {kind} is not possible"
            )));
        }
        Ok(object)
    }
}

/// Whether a part of the object is read and written like the object itself.
fn has_part(resource: &ResourceType, behaviour: Behaviour, part: &str) -> bool {
    match (behaviour, part) {
        (_, "status") => resource.has_status,
        (Behaviour::Pod, "ephemeralcontainers" | "resize") | (Behaviour::CertificateRequest, "approval") => true,
        _ => false,
    }
}

fn fits_scope(resource: &ResourceType, call: &Call) -> bool {
    let in_namespace = !call.path.namespace.is_empty();
    let named = !call.path.name.is_empty();
    if resource.namespaced { in_namespace || !named } else { !in_namespace }
}

fn decode(content_type: &str, body: &[u8]) -> Result<Value, ApiError> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let object: Value = match media_type {
        "" | "application/json" | "*/*" => serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?,
        "application/vnd.kubernetes.protobuf" => protobuf::read(body)?,
        "application/yaml" | "application/apply-patch+yaml" => read_yaml(body)?,
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    if object.is_object() {
        Ok(object)
    } else {
        Err(ApiError::bad_request("couldn't get version/kind; json parse error: the body is not an object"))
    }
}

fn read_delete_options(call: &Call) -> Result<DeleteOptions, ApiError> {
    if call.body.is_empty() {
        return DeleteOptions::read(None, &call.query);
    }
    let options = decode(&call.content_type, &call.body)?;
    if !matches!(options["kind"].as_str(), None | Some("" | "DeleteOptions")) {
        return Err(ApiError::bad_request(format!("decoded object cannot be converted to DeleteOptions: {}", options["kind"])));
    }
    DeleteOptions::read(Some(&options), &call.query)
}

/// What is served nowhere gets plain text, as the real server's mux does.
fn unknown_path() -> Response<Body> {
    let mut response = bytes_response(StatusCode::NOT_FOUND, Bytes::from_static(b"404 page not found\n"));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies() {
        assert_eq!(decode("", b"{\"a\":1}"), Ok(json!({"a": 1})));
        assert_eq!(decode("application/yaml", b"a: 1"), Ok(json!({"a": 1})));
        assert_eq!(decode("text/plain", b"{}").map_err(|error| error.code), Err(415));
        assert_eq!(decode("", b"[1]").map_err(|error| error.code), Err(400));
    }
}

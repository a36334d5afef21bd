//! Patches. In: a patch of one of the four content types and the present object. Out: the patched object, or upstream's refusal.
//!
//! Server-side apply is a merge that may create: field ownership is not tracked, so there are no conflicts between appliers, and a field that an
//! applier no longer names stays.

use serde_json::Value;

use super::resources::{Behaviour, ResourceType};
use super::status::ApiError;
use super::strategic;

/// Most operations of a JSON patch, as upstream.
const OPERATIONS_MAX: usize = 10_000;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// A decoded patch.
#[derive(Debug)]
pub(super) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    /// Reads a request body by its content type.
    pub(super) fn read(resource: &ResourceType, content_type: &str, body: &[u8]) -> Result<Self, ApiError> {
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let strategic = resource.behaviour != Behaviour::Custom;
        match content_type {
            JSON_PATCH => Ok(Self::Json(read_operations(body)?)),
            MERGE_PATCH => read_object(body).map(Self::Merge),
            STRATEGIC_PATCH if strategic => read_object(body).map(Self::Strategic),
            APPLY_PATCH => read_yaml(body).map(Self::Apply),
            // Upstream's router knows the types of built-in resources; those of custom ones are checked by the handler.
            _ if strategic => Err(ApiError::unsupported_patch_type()),
            _ => Err(ApiError::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, APPLY_PATCH])),
        }
    }

    /// For apply: what to create when there is nothing to patch.
    pub(super) fn as_created(&self) -> Option<&Value> {
        if let Self::Apply(object) = self { Some(object) } else { None }
    }

    /// The patched object.
    pub(super) fn apply(&self, object: &Value) -> Result<Value, ApiError> {
        let mut patched = object.clone();
        match self {
            Self::Json(operations) => {
                json_patch::patch(&mut patched, operations).map_err(|error| ApiError::unprocessable(&error.to_string()))?;
            }
            Self::Merge(patch) => json_patch::merge(&mut patched, patch),
            Self::Strategic(patch) | Self::Apply(patch) => strategic::merge(&mut patched, patch)?,
        }
        Ok(patched)
    }
}

fn read_operations(body: &[u8]) -> Result<json_patch::Patch, ApiError> {
    let operations: json_patch::Patch =
        serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if operations.0.len() > OPERATIONS_MAX {
        let message = format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}", operations.0.len());
        return Err(ApiError::too_large(message));
    }
    Ok(operations)
}

fn read_object(body: &[u8]) -> Result<Value, ApiError> {
    let patch: Value = serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if patch.is_object() {
        Ok(patch)
    } else {
        Err(ApiError::bad_request("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}"))
    }
}

/// YAML or JSON, which is YAML too.
pub(super) fn read_yaml(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::bad_request("error decoding YAML: invalid UTF-8"))?;
    if text.trim_start().starts_with('{') {
        return read_object(body);
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(ApiError::bad_request("error decoding YAML: the document is not an object")) }
}

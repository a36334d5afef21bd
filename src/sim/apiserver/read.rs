//! Get and list. In: the addressed type, namespace and options. Out: one object, or a consistent page of a list.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::ApiServer;
use super::encode::Encoder;
use super::request::{Form, Query};
use super::resources::{Behaviour, ResourceType};
use super::selectors::Selector;
use super::status::{ApiError, FieldError, bytes_response};
use super::store::{HistoryError, Key, Snapshot, Stored};

/// Upstream waits three seconds for a version that is not there yet; nothing here can bring it, so there is no wait.
const EXPIRED_CONTINUE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token \
results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show \
up in the list.";
const EXPIRED_LIST: &str = "The resourceVersion for the provided list is too old.";

/// Where a page starts: the version of the whole list (`None`: whatever is newest) and the first key.
struct Page {
    at: Option<u64>,
    start: String,
}

impl ApiServer {
    pub(super) fn encoder<'a>(&self, resource: &'a ResourceType, form: Form) -> Encoder<'a> {
        Encoder { resource, form, now_seconds: self.clock.now().as_second() }
    }

    pub(super) fn get(&self, resource: &ResourceType, namespace: &str, name: &str, form: Form) -> Result<Response<Body>, ApiError> {
        let stored = self.store.get(resource.table, &Key::new(namespace, name)).ok_or_else(|| ApiError::not_found(resource, name))?;
        Ok(bytes_response(StatusCode::OK, self.encoder(resource, form).object(&stored)))
    }

    pub(super) fn list(&self, resource: &ResourceType, namespace: &str, query: &Query, form: Form) -> Result<Response<Body>, ApiError> {
        check_list_options(query)?;
        let selector = Selector::parse(resource, query.text("labelSelector"), query.text("fieldSelector"))?;
        // Upstream answers "any version" from its cache, which knows no pages.
        let from_cache = query.text("resourceVersion") == "0" && query.text("continue").is_empty();
        let limit = query.number("limit")?.filter(|limit| *limit > 0 && !from_cache);
        let page = read_page(query, namespace)?;
        let snapshot = self.snapshot_for(resource, namespace, query, &page)?;
        let (chosen, rest) = cut(&snapshot, &page.start, &selector, limit);
        let mut metadata = json!({"resourceVersion": snapshot.resource_version.to_string()});
        if let (Some(rest), Some(last)) = (rest, chosen.last()) {
            metadata["continue"] = continue_token(&last.key, namespace, snapshot.resource_version).into();
            if selector.is_empty() {
                metadata["remainingItemCount"] = rest.into();
            }
        }
        if resource.behaviour == Behaviour::Custom && metadata.get("continue").is_none() {
            metadata["continue"] = "".into();
        }
        Ok(bytes_response(StatusCode::OK, self.encoder(resource, form).list(&chosen, &metadata)))
    }

    fn snapshot_for(&self, resource: &ResourceType, namespace: &str, query: &Query, page: &Page) -> Result<Snapshot, ApiError> {
        let asked = query.resource_version().map_err(|why| invalid_version(query, &why))?;
        let exact = query.text("resourceVersionMatch") == "Exact"
            || (query.has("limit") && query.text("limit") != "0" && query.text("resourceVersionMatch").is_empty());
        let asked = asked.filter(|version| *version > 0);
        let at = page.at.or(if exact { asked } else { None });
        if let (Some(version), None) = (asked, at) {
            let current = self.store.resource_version();
            if version > current {
                return Err(ApiError::too_large_resource_version(version, current));
            }
        }
        self.store.snapshot(resource.table, namespace, at).map_err(|why| match why {
            HistoryError::TooNew { current } => ApiError::too_large_resource_version(at.unwrap_or_default(), current),
            HistoryError::TooOld { .. } if page.at.is_some() => {
                let mut error = ApiError::expired(EXPIRED_CONTINUE);
                error.continue_token = Some(encode_token(-1, &page.start));
                error
            }
            HistoryError::TooOld { .. } => ApiError::expired(EXPIRED_LIST),
        })
    }

    /// The objects that a collection delete addresses, now.
    pub(super) fn select(&self, resource: &ResourceType, namespace: &str, query: &Query) -> Result<Vec<Arc<Stored>>, ApiError> {
        let selector = Selector::parse(resource, query.text("labelSelector"), query.text("fieldSelector"))?;
        let snapshot = self.store.snapshot(resource.table, namespace, None).map_err(|_| ApiError::expired(EXPIRED_LIST))?;
        Ok(snapshot.objects.into_iter().filter(|stored| selector.matches(&stored.selectable)).collect())
    }
}

/// The objects of a page, and how many follow when there is more.
fn cut<'a>(snapshot: &'a Snapshot, start: &str, selector: &Selector, limit: Option<u64>) -> (Vec<&'a Stored>, Option<usize>) {
    let from = snapshot.objects.partition_point(|stored| stored.key.as_str() < start);
    let behind = &snapshot.objects[from..];
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut chosen = Vec::new();
    for (at, stored) in behind.iter().enumerate() {
        if !selector.matches(&stored.selectable) {
            continue;
        }
        chosen.push(&**stored);
        if chosen.len() == limit {
            let rest = behind.len() - at - 1;
            return (chosen, (rest > 0).then_some(rest));
        }
    }
    (chosen, None)
}

fn read_page(query: &Query, namespace: &str) -> Result<Page, ApiError> {
    let token = query.text("continue");
    if token.is_empty() {
        return Ok(Page { at: None, start: String::new() });
    }
    let asked = query.text("resourceVersion");
    if !asked.is_empty() && asked != "0" {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    let bad = || ApiError::bad_request("continue key is not valid: illegal base64 data at input byte 0");
    let decoded = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let decoded: Value = serde_json::from_slice(&decoded).map_err(|_| bad())?;
    let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let start = decoded["start"].as_str().ok_or_else(bad)?;
    match decoded["rv"].as_i64() {
        Some(version) if version > 0 => Ok(Page { at: u64::try_from(version).ok(), start: format!("{prefix}{start}") }),
        Some(-1) => Ok(Page { at: None, start: format!("{prefix}{start}") }),
        _ => Err(ApiError::bad_request("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
    }
}

fn continue_token(last: &Key, namespace: &str, resource_version: u64) -> String {
    let start = last.as_str();
    let start = if namespace.is_empty() { start } else { last.name() };
    encode_token(i64::try_from(resource_version).unwrap_or(i64::MAX), &format!("{start}\0"))
}

fn encode_token(resource_version: i64, start: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": resource_version, "start": start}).to_string())
}

pub(super) fn invalid_version(query: &Query, why: &str) -> ApiError {
    let text = format!("resourceVersion: Invalid value: {:?}: {why}", query.text("resourceVersion"));
    // Upstream's cacher parses it for a list, its storage for a watch, and only one of them answers with a Status of its own.
    if query.flag("watch") { ApiError::plain(500, "", text) } else { ApiError::bad_request(text) }
}

/// Upstream's `ValidateListOptions` for lists.
fn check_list_options(query: &Query) -> Result<(), ApiError> {
    let matching = query.text("resourceVersionMatch");
    let mut errors = Vec::new();
    if !matching.is_empty() {
        let field = "resourceVersionMatch";
        if query.text("resourceVersion").is_empty() {
            errors.push(FieldError::forbidden(field, "resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if !query.text("continue").is_empty() {
            errors.push(FieldError::forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(field, &json!(matching), &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && query.text("resourceVersion") == "0" {
            errors.push(FieldError::forbidden(field, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
    }
    if query.has("sendInitialEvents") {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    refuse_options(&errors)
}

pub(super) fn refuse_options(errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("ListOptions", "meta.k8s.io", "", errors)) }
}

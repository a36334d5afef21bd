//! Delete. In: an object's name and `DeleteOptions`. Out: the object marked as being deleted, or gone. Follows upstream's `rest.BeforeDelete` and
//! `Store.Delete`: preconditions, grace periods, finalizers, and the write that marks an object before its removal.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::clock::later;
use super::request::{Form, Query};
use super::resources::{Behaviour, ResourceType};
use super::status::{ApiError, FieldError, bytes_response, details_of, json_response};
use super::store::{Key, Stored, Transaction};
use super::{ApiServer, is_dry_run};

/// The parts of `DeleteOptions` that are honoured.
#[derive(Clone, Debug, Default)]
pub(super) struct DeleteOptions {
    grace_seconds: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
    propagation: Option<String>,
    dry_run: bool,
}

/// What became of a delete.
enum Outcome {
    /// Removed; the last state.
    Gone(Arc<Stored>),
    /// Still there, marked.
    Marked(Arc<Stored>),
}

impl DeleteOptions {
    /// The body alone when there is one, else the query, as upstream reads them: a `dryRun` in the query of a request with a body deletes.
    pub(super) fn read(body: Option<&Value>, query: &Query) -> Result<Self, ApiError> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_string);
        if let Some(body) = body {
            let dry_run = body["dryRun"].as_array().is_some_and(|words| words.contains(&json!("All")));
            return Self {
                grace_seconds: body["gracePeriodSeconds"].as_i64(),
                uid: text(&body["preconditions"]["uid"]),
                resource_version: text(&body["preconditions"]["resourceVersion"]),
                propagation: text(&body["propagationPolicy"]),
                dry_run,
            }
            .checked();
        }
        let grace = query.text("gracePeriodSeconds");
        let grace_seconds = if grace.is_empty() {
            None
        } else {
            let why = || ApiError::bad_request(format!("strconv.ParseInt: parsing {grace:?}: invalid syntax"));
            Some(grace.parse().map_err(|_| why())?)
        };
        let dry_run = is_dry_run(query)?;
        let propagation = Some(query.text("propagationPolicy").to_string()).filter(|policy| !policy.is_empty());
        Self { grace_seconds, propagation, dry_run, ..Self::default() }.checked()
    }

    fn checked(self) -> Result<Self, ApiError> {
        match self.propagation.as_deref() {
            None | Some("Orphan" | "Background" | "Foreground") => Ok(self),
            Some(other) => {
                let error = FieldError::not_supported("propagationPolicy", &json!(other), &["Foreground", "Background", "Orphan", "nil"]);
                Err(ApiError::invalid("DeleteOptions", "meta.k8s.io", "", &[error]))
            }
        }
    }
}

impl ApiServer {
    pub(super) fn delete(
        &self,
        resource: &ResourceType,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        form: Form,
    ) -> Result<Response<Body>, ApiError> {
        let outcome = self.store.transaction(|tx| self.delete_in(tx, resource, namespace, name, options))?;
        let encoder = self.encoder(resource, form);
        Ok(match outcome {
            Outcome::Gone(stored) if resource.returns_deleted_object() => bytes_response(StatusCode::OK, encoder.object(&stored)),
            Outcome::Gone(stored) => {
                let mut details = details_of(name, &resource.group, &resource.plural);
                details["uid"] = stored.value()["metadata"]["uid"].clone();
                json_response(
                    StatusCode::OK,
                    &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
                )
            }
            Outcome::Marked(stored) => bytes_response(StatusCode::OK, encoder.object(&stored)),
        })
    }

    pub(super) fn delete_collection(
        &self,
        resource: &ResourceType,
        namespace: &str,
        query: &Query,
        options: &DeleteOptions,
        form: Form,
    ) -> Result<Response<Body>, ApiError> {
        let selected = self.select(resource, namespace, query)?;
        let mut deleted = Vec::with_capacity(selected.len());
        for stored in &selected {
            let (namespace, name) = (stored.key.namespace().to_string(), stored.key.name().to_string());
            match self.store.transaction(|tx| self.delete_in(tx, resource, &namespace, &name, options)) {
                // Upstream answers with the objects as they were listed.
                Ok(_) => deleted.push(stored),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let objects: Vec<&Stored> = deleted.iter().map(|stored| &***stored).collect();
        let metadata = json!({"resourceVersion": self.store.resource_version().to_string()});
        Ok(bytes_response(StatusCode::OK, self.encoder(resource, form).list(&objects, &metadata)))
    }

    /// Deletes under the store's lock.
    fn delete_in(
        &self,
        tx: &mut Transaction<'_>,
        resource: &ResourceType,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Outcome, ApiError> {
        let key = Key::new(namespace, name);
        let existing = tx.get(resource.table, &key).cloned().ok_or_else(|| ApiError::not_found(resource, name))?;
        let mut object = existing.value();
        check_preconditions(resource, name, &object, options)?;
        if resource.behaviour == Behaviour::Namespace {
            return self.delete_namespace(tx, resource, &key, name, options.dry_run);
        }
        let Mark { pending, marked } = self.mark_graceful(resource, &mut object, options);
        if pending {
            return Ok(Outcome::Marked(existing));
        }
        let finalizers_changed = set_propagation_finalizer(&mut object, options);
        let has_finalizers = object["metadata"]["finalizers"].as_array().is_some_and(|names| !names.is_empty());
        if !marked && has_finalizers {
            self.mark_now(&mut object);
        }
        let grace_left = marked && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
        let stays = has_finalizers || grace_left;
        if options.dry_run {
            let stored = Arc::new(Stored::unsaved(key, &object, resource.table));
            return Ok(if stays { Outcome::Marked(stored) } else { Outcome::Gone(stored) });
        }
        if stays || marked {
            let unchanged = !finalizers_changed && object == existing.value();
            let stored = if unchanged { existing } else { tx.put(resource.table, key.clone(), object) };
            if stays {
                return Ok(Outcome::Marked(stored));
            }
        }
        let gone = tx.remove(resource.table, &key).map(Outcome::Gone).ok_or_else(|| ApiError::not_found(resource, name));
        self.finish_namespace(tx, namespace);
        gone
    }

    /// Upstream's graceful half of `BeforeDelete`. Only pods have a grace period.
    fn mark_graceful(&self, resource: &ResourceType, object: &mut Value, options: &DeleteOptions) -> Mark {
        if resource.behaviour != Behaviour::Pod {
            return Mark { pending: false, marked: false };
        }
        let asked = options.grace_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
        if let Some(deletion) = object["metadata"]["deletionTimestamp"].as_str() {
            let Some(current) = object["metadata"]["deletionGracePeriodSeconds"].as_i64() else {
                return Mark { pending: false, marked: false };
            };
            let Some(seconds) = asked.filter(|seconds| *seconds < current) else { return Mark { pending: true, marked: false } };
            let deletion: jiff::Timestamp = deletion.parse().unwrap_or_else(|_| self.clock.now());
            object["metadata"]["deletionTimestamp"] = later(deletion, seconds - current).into();
            object["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
            return Mark { pending: false, marked: true };
        }
        let seconds = grace_of_pod(object, asked);
        let metadata = &mut object["metadata"];
        metadata["deletionTimestamp"] = self.clock.later_text(seconds).into();
        metadata["deletionGracePeriodSeconds"] = seconds.into();
        if let Some(generation) = metadata["generation"].as_i64().filter(|generation| *generation > 0) {
            metadata["generation"] = (generation + 1).into();
        }
        Mark { pending: false, marked: true }
    }

    /// Upstream's `markAsDeleting`, for what has finalizers and no grace period.
    fn mark_now(&self, object: &mut Value) {
        let metadata = &mut object["metadata"];
        if !metadata["deletionTimestamp"].is_string() {
            metadata["deletionTimestamp"] = self.clock.now_text().into();
            if let Some(generation) = metadata["generation"].as_i64().filter(|generation| *generation > 0) {
                metadata["generation"] = (generation + 1).into();
            }
        }
        metadata["deletionGracePeriodSeconds"] = 0.into();
    }

    /// The namespace controller's work in one step: everything inside is deleted as a client would, and the namespace goes with the last of it. Pods that
    /// run have their grace, and finalizers are waited for.
    fn delete_namespace(
        &self,
        tx: &mut Transaction<'_>,
        resource: &ResourceType,
        key: &Key,
        name: &str,
        dry_run: bool,
    ) -> Result<Outcome, ApiError> {
        if matches!(name, "default" | "kube-system" | "kube-public") {
            return Err(ApiError::forbidden(resource, name, "this namespace may not be deleted"));
        }
        let existing = tx.get(resource.table, key).cloned().ok_or_else(|| ApiError::not_found(resource, name))?;
        let mut object = existing.value();
        if dry_run || object["metadata"]["deletionTimestamp"].is_string() {
            return Ok(Outcome::Marked(existing));
        }
        self.mark_now(&mut object);
        object["status"]["phase"] = "Terminating".into();
        let marked = tx.put(resource.table, key.clone(), object);
        for inside in self.resources().iter().filter(|inside| inside.namespaced && inside.behaviour != Behaviour::EventV1) {
            for stored in tx.in_namespace(inside.table, name) {
                // One that is held, or gone already, is no reason to stop.
                let _ = self.delete_in(tx, inside, name, stored.key.name(), &DeleteOptions::default());
            }
        }
        self.finish_namespace(tx, name);
        Ok(Outcome::Marked(marked))
    }

    /// Removes a namespace that is being deleted once nothing is left in it.
    pub(super) fn finish_namespace(&self, tx: &mut Transaction<'_>, name: &str) {
        let Some(namespaces) = self.resource("", "v1", "namespaces").filter(|_| !name.is_empty()) else { return };
        let key = Key::new("", name);
        let terminating = tx.get(namespaces.table, &key).is_some_and(|found| found.value()["metadata"]["deletionTimestamp"].is_string());
        if terminating && tx.table_ids().all(|table| tx.in_namespace(table, name).is_empty()) {
            tx.remove(namespaces.table, &key);
        }
    }
}

/// What the graceful half decided: nothing more to do, or the object now carries a grace period.
struct Mark {
    pending: bool,
    marked: bool,
}

/// Upstream's `CheckGracefulDelete` of pods.
fn grace_of_pod(pod: &Value, asked: Option<i64>) -> i64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || ended {
        return 0;
    }
    let seconds = asked.unwrap_or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0));
    if seconds < 0 { 1 } else { seconds }
}

fn check_preconditions(resource: &ResourceType, name: &str, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let metadata = &object["metadata"];
    if let Some(uid) = options.uid.as_deref().filter(|uid| metadata["uid"] != *uid) {
        let known = metadata["uid"].as_str().unwrap_or_default();
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({known}). The object might have been deleted and then recreated"
        );
        return Err(ApiError::delete_conflict(resource, name, &why));
    }
    if let Some(version) = options.resource_version.as_deref().filter(|version| metadata["resourceVersion"] != *version) {
        let known = metadata["resourceVersion"].as_str().unwrap_or_default();
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({known}). The object might have been modified"
        );
        return Err(ApiError::delete_conflict(resource, name, &why));
    }
    Ok(())
}

/// `Orphan` and `Foreground` are finalizers that the garbage collector takes away; there is none here, so such objects wait, as on a real server without one.
fn set_propagation_finalizer(object: &mut Value, options: &DeleteOptions) -> bool {
    let wanted = match options.propagation.as_deref() {
        Some("Orphan") => "orphan",
        Some("Foreground") => "foregroundDeletion",
        _ => return false,
    };
    let metadata = &mut object["metadata"];
    if !metadata["finalizers"].is_array() {
        metadata["finalizers"] = json!([]);
    }
    let Some(finalizers) = metadata["finalizers"].as_array_mut() else { return false };
    if finalizers.contains(&json!(wanted)) {
        return false;
    }
    finalizers.push(json!(wanted));
    true
}

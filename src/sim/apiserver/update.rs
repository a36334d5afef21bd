//! Update. In: a way to make the new object out of the stored one (a PUT body or a patch), and the subresource. Out: the object as stored, or
//! what was refused. Follows upstream's generic registry: version check, what each subresource may touch, generation, deletion at the last finalizer.

use std::sync::Arc;

use serde_json::{Value, json};

use super::create::{check_name, must_have_version};
use super::resources::{Behaviour, ResourceType};
use super::status::{ApiError, FieldError};
use super::store::{Key, Stored, Transaction};
use super::{ApiServer, defaults, events, pods, validate};

const LOST_UPDATE: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// What to write where.
pub(super) struct Update<'a> {
    pub resource: &'a ResourceType,
    pub namespace: &'a str,
    pub name: &'a str,
    pub subresource: &'a str,
    /// A PUT: may create where the type allows, and its uid is a precondition.
    pub is_put: bool,
    pub dry_run: bool,
}

impl ApiServer {
    /// Writes what `change` makes of the stored object. The flag says whether the object was created by it.
    pub(super) fn update_object(
        &self,
        update: &Update<'_>,
        change: impl FnOnce(&Value) -> Result<Value, ApiError>,
    ) -> Result<(Arc<Stored>, bool), ApiError> {
        let resource = update.resource;
        let key = Key::new(update.namespace, update.name);
        self.store.transaction(|tx| {
            let Some(existing) = tx.get(resource.table, &key).cloned() else {
                return self.create_by_update(tx, update, change);
            };
            let old = existing.value();
            let shown = if resource.behaviour == Behaviour::EventV1 { events::to_events_v1(&old) } else { old.clone() };
            let changed = change(&shown)?;
            let changed = if resource.behaviour == Behaviour::EventV1 { events::to_core(&changed) } else { changed };
            let new = Self::checked(update, &old, changed)?;
            if deletes(&old, &new) {
                let stored = Arc::new(Stored::unsaved(key.clone(), &new, resource.table));
                if !update.dry_run {
                    tx.remove(resource.table, &key);
                    self.finish_namespace(tx, update.namespace);
                }
                return Ok((stored, false));
            }
            if new == old {
                return Ok((existing, false));
            }
            let stored = if update.dry_run {
                Arc::new(Stored::unsaved(key.clone(), &new, resource.table))
            } else {
                tx.put(resource.table, key.clone(), new)
            };
            Ok((stored, false))
        })
    }

    fn create_by_update(
        &self,
        tx: &mut Transaction<'_>,
        update: &Update<'_>,
        change: impl FnOnce(&Value) -> Result<Value, ApiError>,
    ) -> Result<(Arc<Stored>, bool), ApiError> {
        let resource = update.resource;
        if !update.is_put || !update.subresource.is_empty() || !resource.create_on_update() {
            return Err(ApiError::not_found(resource, update.name));
        }
        let mut object = change(&Value::Null)?;
        check_name(&object, update.name)?;
        if resource.behaviour == Behaviour::EventV1 {
            object = events::to_core(&object);
        }
        let object = self.prepare(resource, update.namespace, object)?;
        self.create_in(tx, resource, update.namespace, object, update.dry_run).map(|stored| (stored, true))
    }

    /// The new object, after all checks, as it would be stored (with the old resourceVersion).
    fn checked(update: &Update<'_>, old: &Value, mut new: Value) -> Result<Value, ApiError> {
        let resource = update.resource;
        check_name(&new, update.name)?;
        let metadata = &new["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        if resource.namespaced && !namespace.is_empty() && namespace != update.namespace {
            return Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
        }
        check_preconditions(update, old, metadata)?;
        if resource.namespaced {
            new["metadata"]["namespace"] = update.namespace.into();
        }
        let mut new = defaults::in_order(resource, new);
        defaults::tidy(resource, &mut new);
        defaults::apply(resource, &mut new);
        if resource.behaviour == Behaviour::Pod && update.subresource.is_empty() {
            pods::readmit(old, &mut new);
        }
        keep_untouchable(update, old, &mut new);
        if old["metadata"]["deletionTimestamp"].is_string() {
            let added = added_finalizers(old, &new);
            if !added.is_empty() {
                let text = format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    added.join(", ")
                );
                return Err(ApiError::invalid_object(resource, update.name, &[FieldError::forbidden("metadata.finalizers", &text)]));
            }
        }
        let errors = validate::update(resource, update.subresource, old, &new);
        if errors.is_empty() { Ok(new) } else { Err(ApiError::invalid_object(resource, update.name, &errors)) }
    }
}

fn check_preconditions(update: &Update<'_>, old: &Value, metadata: &Value) -> Result<(), ApiError> {
    let resource = update.resource;
    let given_uid = metadata["uid"].as_str().unwrap_or_default();
    let known_uid = old["metadata"]["uid"].as_str().unwrap_or_default();
    if update.is_put && !given_uid.is_empty() && given_uid != known_uid {
        return Err(ApiError::conflict(
            resource,
            update.name,
            &uid_mismatch(resource, update.namespace, update.name, given_uid, known_uid),
        ));
    }
    match metadata["resourceVersion"].as_str().unwrap_or_default() {
        "" | "0" if resource.unconditional_update() => Ok(()),
        "" | "0" => Err(must_have_version(resource, update.name)),
        given if old["metadata"]["resourceVersion"] == given => Ok(()),
        given if given.parse::<u64>().is_err() => {
            Err(ApiError::plain(500, "", format!("strconv.ParseUint: parsing {given:?}: invalid syntax")))
        }
        _ => Err(ApiError::conflict(resource, update.name, LOST_UPDATE)),
    }
}

/// etcd3's words for a failed precondition.
pub(super) fn uid_mismatch(resource: &ResourceType, namespace: &str, name: &str, given: &str, known: &str) -> String {
    precondition_failed(resource, namespace, name, &format!("UID in precondition: {given}, UID in object meta: {known}"))
}

/// etcd3's words for a failed precondition.
pub(super) fn precondition_failed(resource: &ResourceType, namespace: &str, name: &str, what: &str) -> String {
    let group = if resource.group.is_empty() { String::new() } else { format!("{}/", resource.group) };
    let key = Key::new(namespace, name);
    format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{group}{}/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what}",
        resource.plural,
        key.as_str()
    )
}

/// Puts back what the caller may not change through this subresource, and counts the generation.
fn keep_untouchable(update: &Update<'_>, old: &Value, new: &mut Value) {
    let resource = update.resource;
    match update.subresource {
        "status" => keep_all_but_status(resource, old, new),
        "ephemeralcontainers" | "resize" => pods::keep_all_but(update.subresource, old, new),
        "approval" => keep_all_but_approval(old, new),
        _ if resource.has_status => keep(old, new, "status"),
        _ => {}
    }
    let (old_meta, new_meta) = (&old["metadata"], &mut new["metadata"]);
    for field in ["generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"] {
        keep(old_meta, new_meta, field);
    }
    if new_meta["uid"].as_str().is_none_or(str::is_empty) {
        keep(old_meta, new_meta, "uid");
    }
    if resource.has_generation && spec_of(old) != spec_of(new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = generation.into();
    }
    *new = defaults::in_order(resource, new.take());
}

fn keep_all_but_status(resource: &ResourceType, old: &Value, new: &mut Value) {
    let mut kept = old.clone();
    kept["status"] = new["status"].take();
    if resource.behaviour == Behaviour::Custom {
        kept["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].take();
    } else {
        kept["metadata"] = new["metadata"].take();
    }
    if resource.behaviour == Behaviour::Pod {
        keep(&old["metadata"], &mut kept["metadata"], "ownerReferences");
        if kept["status"]["qosClass"].as_str().is_none_or(str::is_empty) {
            keep(&old["status"], &mut kept["status"], "qosClass");
        }
    }
    if kept["status"].is_null() {
        keep(&Value::Null, &mut kept, "status");
    }
    *new = kept;
}

/// Upstream's `certificates` strategy for approvals: conditions alone.
fn keep_all_but_approval(old: &Value, new: &mut Value) {
    let conditions = new["status"]["conditions"].take();
    let version = new["metadata"]["resourceVersion"].take();
    *new = old.clone();
    new["status"]["conditions"] = conditions;
    new["metadata"]["resourceVersion"] = version;
}

/// Makes a field what it was, absent included.
pub(super) fn keep(old: &Value, new: &mut Value, field: &str) {
    match old.get(field) {
        Some(value) => new[field] = value.clone(),
        None => {
            if let Some(fields) = new.as_object_mut() {
                fields.shift_remove(field);
            }
        }
    }
}

/// Everything whose change counts as a new generation.
fn spec_of(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    let mut spec: Vec<_> = fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "kind" | "apiVersion")).collect();
    spec.sort_by_key(|(name, _)| *name);
    spec
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn added_finalizers(old: &Value, new: &Value) -> Vec<String> {
    let known = finalizers(old);
    finalizers(new).into_iter().filter(|name| !known.contains(name)).map(|name| json!(name).to_string()).collect()
}

/// Whether this write takes away what kept a deleted object alive.
fn deletes(old: &Value, new: &Value) -> bool {
    let metadata = &old["metadata"];
    let no_grace_left = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
    metadata["deletionTimestamp"].is_string() && no_grace_left && finalizers(new).is_empty()
}

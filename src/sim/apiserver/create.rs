//! Create. In: an object for a type and namespace. Out: the stored object with everything that the server adds, or a refusal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::resources::{Behaviour, ResourceType};
use super::status::ApiError;
use super::store::{Key, Stored, Transaction};
use super::{ApiServer, FieldError, defaults, events, label_keys, pods, validate};

/// Tries at a free generated name before giving up, as upstream.
const GENERATE_TRIES: usize = 8;

impl ApiServer {
    /// Creates an object. A dry run does everything but storing.
    pub(super) fn create_object(
        &self,
        resource: &ResourceType,
        namespace: &str,
        object: Value,
        dry_run: bool,
    ) -> Result<Arc<Stored>, ApiError> {
        let strict_event = resource.behaviour == Behaviour::EventV1;
        let object = if strict_event { events::to_core(&object) } else { object };
        let object = self.prepare(resource, namespace, object)?;
        let created = self.store.transaction(|tx| self.create_in(tx, resource, namespace, object, dry_run))?;
        if resource.behaviour == Behaviour::CustomResourceDefinition && !dry_run {
            self.register_definition(&created.value());
        }
        Ok(created)
    }

    /// What needs no look at other objects: order of fields, system fields, defaults.
    pub(super) fn prepare(&self, resource: &ResourceType, namespace: &str, mut object: Value) -> Result<Value, ApiError> {
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let metadata = &mut object["metadata"];
        match metadata["namespace"].as_str().unwrap_or_default() {
            given if given.is_empty() || given == namespace => {}
            _ if resource.namespaced => {
                return Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
            }
            _ => {}
        }
        if metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty() && version != "0") {
            return Err(ApiError::plain(500, "", "resourceVersion should not be set on objects to be created"));
        }
        let Some(fields) = metadata.as_object_mut() else { return Err(ApiError::bad_request("metadata is not an object")) };
        for system in
            ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "resourceVersion"]
        {
            fields.shift_remove(system);
        }
        if resource.namespaced {
            fields.insert("namespace".into(), namespace.into());
        } else {
            fields.shift_remove("namespace");
        }
        fields.insert("uid".into(), self.ids.uid().into());
        fields.insert("creationTimestamp".into(), self.clock.now_text().into());
        if resource.has_generation {
            fields.insert("generation".into(), 1.into());
        }
        let mut object = defaults::in_order(resource, object);
        defaults::tidy(resource, &mut object);
        defaults::apply(resource, &mut object);
        self.prepare_kind(resource, &mut object);
        Ok(object)
    }

    fn prepare_kind(&self, resource: &ResourceType, object: &mut Value) {
        match resource.behaviour {
            Behaviour::Namespace => {
                let name = object["metadata"]["name"].clone();
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
                object["spec"]["finalizers"] = json!(["kubernetes"]);
                object["status"] = json!({"phase": "Active"});
            }
            Behaviour::Pod => label_keys::merge(object),
            Behaviour::Secret => fold_string_data(object),
            Behaviour::Service => self.give_cluster_ip(object),
            Behaviour::CustomResourceDefinition => {
                let names = object["spec"]["names"].clone();
                let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": self.clock.now_text()});
                object["status"] = json!({"acceptedNames": names, "storedVersions": [], "conditions": [condition("NamesAccepted"), condition("Established")]});
            }
            Behaviour::Custom | Behaviour::CertificateRequest if resource.has_status => {
                if let Some(fields) = object.as_object_mut() {
                    fields.shift_remove("status");
                }
            }
            Behaviour::Plain if resource.has_status && resource.group != "policy" => {
                // Controllers write status; clients cannot bring one along.
                if let Some(fields) = object.as_object_mut() {
                    fields.insert("status".into(), json!({}));
                }
                defaults::apply(resource, object);
            }
            _ => {}
        }
    }

    /// Cluster IPs are handed out in order from upstream's usual test range; there is no allocator that could run dry or be raced.
    fn give_cluster_ip(&self, object: &mut Value) {
        let spec = &mut object["spec"];
        if spec["clusterIP"].is_null() && spec["type"] != "ExternalName" {
            let number = self.services.fetch_add(1, Ordering::Relaxed);
            let address = format!("10.0.{}.{}", (number >> 8) & 0xff, number & 0xff);
            spec["clusterIP"] = json!(address);
            spec["clusterIPs"] = json!([address]);
        }
        object["status"] = json!({"loadBalancer": {}});
    }

    /// The rest of a create, under the store's lock.
    pub(super) fn create_in(
        &self,
        tx: &mut Transaction<'_>,
        resource: &ResourceType,
        namespace: &str,
        mut object: Value,
        dry_run: bool,
    ) -> Result<Arc<Stored>, ApiError> {
        if resource.namespaced {
            self.check_namespace(tx, resource, namespace, &object)?;
        }
        if resource.behaviour == Behaviour::Pod {
            pods::admit(self, tx, resource, &mut object)?;
        }
        self.name_it(tx, resource, namespace, &mut object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
        let errors = validate::create(resource, &object);
        if !errors.is_empty() {
            return Err(ApiError::invalid_object(resource, &name, &errors));
        }
        let key = Key::new(namespace, &name);
        if tx.get(resource.table, &key).is_some() {
            return Err(ApiError::already_exists(resource, &name));
        }
        Ok(if dry_run { Arc::new(Stored::unsaved(key, &object, resource.table)) } else { tx.put(resource.table, key, object) })
    }

    /// Upstream's `NamespaceLifecycle` admission.
    fn check_namespace(&self, tx: &Transaction<'_>, resource: &ResourceType, namespace: &str, object: &Value) -> Result<(), ApiError> {
        let Some(namespaces) = self.resource("", "v1", "namespaces") else { return Ok(()) };
        match tx.get(namespaces.table, &Key::new("", namespace)) {
            None => Err(ApiError::not_found(&namespaces, namespace)),
            Some(found) if found.value()["metadata"]["deletionTimestamp"].is_string() => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
                let mut error = ApiError::forbidden(resource, name, &why);
                error.details["causes"] = json!([{"reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace"}]);
                Err(error)
            }
            Some(_) => Ok(()),
        }
    }

    fn name_it(&self, tx: &Transaction<'_>, resource: &ResourceType, namespace: &str, object: &mut Value) {
        let metadata = &mut object["metadata"];
        let base = metadata["generateName"].as_str().unwrap_or_default().to_string();
        if metadata["name"].as_str().is_some_and(|name| !name.is_empty()) || base.is_empty() {
            return;
        }
        // 58 + 5: what a label value holds.
        let base: String = base.chars().take(58).collect();
        for _ in 0..GENERATE_TRIES {
            let name = format!("{base}{}", self.ids.suffix());
            let taken = tx.get(resource.table, &Key::new(namespace, &name)).is_some();
            metadata["name"] = name.into();
            if !taken {
                break;
            }
        }
    }

    fn register_definition(&self, definition: &Value) {
        let spec = &definition["spec"];
        let names = &spec["names"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        for version in spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true) {
            let namespaced = spec["scope"] == "Namespaced";
            let has_status = version["subresources"]["status"].is_object();
            let mut added = ResourceType::custom(
                &text(&spec["group"]),
                &text(&version["name"]),
                &text(&names["kind"]),
                &text(&names["plural"]),
                namespaced,
                has_status,
            );
            added.short_names = names["shortNames"].as_array().into_iter().flatten().map(text).collect();
            added.categories = names["categories"].as_array().into_iter().flatten().map(text).collect();
            self.register(added);
        }
    }
}

fn fold_string_data(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    let Some(Value::Object(plain)) = fields.shift_remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
    for (name, text) in plain {
        data[name] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
}

/// A refusal for a name in the body that is not the one in the path.
pub(super) fn check_name(object: &Value, name: &str) -> Result<(), ApiError> {
    let given = object["metadata"]["name"].as_str().unwrap_or_default();
    if given.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if given == name {
        Ok(())
    } else {
        Err(ApiError::bad_request(format!("the name of the object ({given}) does not match the name on the URL ({name})")))
    }
}

/// For update errors that upstream reports under the resource instead of the kind.
pub(super) fn must_have_version(resource: &ResourceType, name: &str) -> ApiError {
    let error = FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
    ApiError::invalid(&resource.plural, &resource.group, name, &[error])
}

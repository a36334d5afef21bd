//! What of ours is over there, and how it goes. In: connections to both sides. Out: the run namespace made, counted, wiped, deleted.
//!
//! Only what bears the UID of our home cluster is ever touched, and a run only when no pod at home is behind it: asked live, one by one.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    probe,
    rest::{Rest, RestError, labelled},
    status::Finding,
};
use crate::{federation::names, kubernetes::watch::escaped};

/// Pod Security level that a run namespace gets when we make it; the remote kit's says the same.
pub const POD_SECURITY: &str = "baseline";

/// Whether the run namespace exists; made if we may and lead.
pub async fn ensure_namespace(remote: &Rest, writes: &Rest, namespace: &str, home_uid: &str, leads: bool) -> Result<Finding, RestError> {
    let path = format!("/api/v1/namespaces/{namespace}");
    match remote.get(&path).await? {
        Some(found) if found["metadata"]["deletionTimestamp"].is_string() => {
            Ok(Finding::Bad("RunNamespaceMissing", format!("namespace {namespace} is being deleted over there")))
        }
        Some(_) => Ok(Finding::Good(String::new())),
        None => {
            let missing = |why: &str| {
                Finding::Bad("RunNamespaceMissing", format!("there is no namespace {namespace} over there, and {why}; create it"))
            };
            let asked = json!({"verb": "create", "group": "", "resource": "namespaces"});
            if !probe::review(remote.api(), &asked).await.unwrap_or(false) {
                return Ok(missing("we may not create it"));
            }
            if !leads {
                return Ok(missing("a standby does not create it"));
            }
            writes.create("/api/v1/namespaces", &namespace_object(namespace, home_uid)).await?;
            Ok(Finding::Good(String::new()))
        }
    }
}

fn namespace_object(namespace: &str, home_uid: &str) -> Value {
    let labels = json!({
        names::MANAGED_BY: names::MANAGER,
        names::RUN_HOME_CLUSTER: home_uid,
        "pod-security.kubernetes.io/enforce": POD_SECURITY,
    });
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
}

/// Deletes the run namespace if it was us who made it.
pub async fn drop_namespace(remote: &Rest, namespace: &str, home_uid: &str) -> Result<(), RestError> {
    let path = format!("/api/v1/namespaces/{namespace}");
    let Some(found) = remote.get(&path).await? else { return Ok(()) };
    let labels = &found["metadata"]["labels"];
    if labels[names::MANAGED_BY] == names::MANAGER && labels[names::RUN_HOME_CLUSTER] == home_uid {
        match remote.delete(&path, found["metadata"]["uid"].as_str(), None).await {
            // We could make it and may not delete it: nothing of ours is in it.
            Err(error) if error.is(StatusCode::FORBIDDEN) => tracing::warn!(namespace, "left behind, empty: {error}"),
            other => drop(other?),
        }
    }
    Ok(())
}

/// Pods of home on the virtual Node that have not ended.
pub async fn pods_on(home: &Rest, virtual_node: &str) -> Result<usize, RestError> {
    let selector = format!("spec.nodeName={virtual_node},status.phase!=Succeeded,status.phase!=Failed");
    Ok(home.list("/api/v1/pods", &format!("fieldSelector={}", escaped(&selector))).await?.len())
}

/// What of ours is over there.
pub struct Leftovers {
    pods: Vec<Value>,
    secrets: Vec<Value>,
}

impl Leftovers {
    /// Lists them.
    pub async fn find(remote: &Rest, namespace: &str, home_uid: &str) -> Result<Self, RestError> {
        let ours = labelled(names::RUN_HOME_CLUSTER, home_uid);
        let pods = remote.list(&format!("/api/v1/namespaces/{namespace}/pods"), &ours).await?;
        let secrets = remote.list(&format!("/api/v1/namespaces/{namespace}/secrets"), &ours).await?;
        Ok(Self { pods, secrets })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.pods.len() + self.secrets.len()
    }

    /// Without those behind which a pod at home still is.
    pub async fn orphans(self, home: &Rest) -> Result<Self, RestError> {
        let (mut pods, mut alive) = (Vec::new(), BTreeSet::new());
        for pod in self.pods {
            let metadata = &pod["metadata"];
            let uid = metadata["labels"][names::RUN_HOME_UID].as_str().unwrap_or_default().to_owned();
            let text = |key: &str| metadata["annotations"][key].as_str().unwrap_or_default();
            let (namespace, name) = (text(names::RUN_HOME_NAMESPACE), text(names::RUN_HOME_NAME));
            let behind = if namespace.is_empty() || name.is_empty() {
                None
            } else {
                home.get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await?
            };
            if behind.is_some_and(|behind| behind["metadata"]["uid"] == uid.as_str()) {
                alive.insert(uid);
            } else {
                pods.push(pod);
            }
        }
        let orphaned = |secret: &Value| !alive.contains(secret["metadata"]["labels"][names::RUN_HOME_UID].as_str().unwrap_or_default());
        Ok(Self { pods, secrets: self.secrets.into_iter().filter(orphaned).collect() })
    }

    /// Deletes them. What is left for a while are pods that are given their time to end.
    pub async fn wipe(&self, remote: &Rest) -> Result<(), RestError> {
        for (plural, objects) in [("secrets", &self.secrets), ("pods", &self.pods)] {
            for object in objects {
                let metadata = &object["metadata"];
                let text = |key: &str| metadata[key].as_str().unwrap_or_default();
                let path = format!("/api/v1/namespaces/{}/{plural}/{}", text("namespace"), text("name"));
                let finalizers: Vec<&str> = metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                if finalizers.contains(&names::RUN_FINALIZER) {
                    let others: Vec<_> = finalizers.into_iter().filter(|finalizer| *finalizer != names::RUN_FINALIZER).collect();
                    let version = text("resourceVersion");
                    remote.merge(&path, &json!({"metadata": {"finalizers": others, "resourceVersion": version}})).await?;
                }
                if metadata["deletionTimestamp"].is_null() {
                    remote.delete(&path, metadata["uid"].as_str(), None).await?;
                }
            }
        }
        Ok(())
    }
}

//! What the kubelet reads of a pod; everything else is skipped while decoding.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use crate::federation::names::RUN_HOME_UID;
use crate::model::quantity::Quantity;
use crate::sim::behaviour::Behaviour;

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Pod)]
pub(super) struct BoundPod {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: BoundSpec,
    #[serde(default)]
    pub status: BoundStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct BoundSpec {
    pub node_name: String,
    pub restart_policy: String,
    pub containers: Vec<BoundContainer>,
    pub init_containers: Vec<BoundContainer>,
    pub ephemeral_containers: Vec<BoundContainer>,
    pub volumes: Vec<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct BoundContainer {
    pub name: String,
    pub image: String,
    pub env: Vec<Variable>,
    pub env_from: Vec<Value>,
    pub resources: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Variable {
    pub name: String,
    pub value: String,
    pub value_from: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct BoundStatus {
    pub phase: String,
    pub start_time: String,
}

impl BoundPod {
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// UID of the pod that a user created.
    pub fn home_uid(&self) -> &str {
        self.metadata.labels.as_ref().and_then(|labels| labels.get(RUN_HOME_UID)).map_or(self.uid(), String::as_str)
    }

    pub fn behaviour(&self) -> Behaviour {
        let environment: BTreeMap<String, String> = self
            .spec
            .containers
            .iter()
            .flat_map(|container| &container.env)
            .map(|known| (known.name.clone(), known.value.clone()))
            .collect();
        Behaviour::read(self.metadata.annotations.as_ref().unwrap_or(&BTreeMap::new()), &environment)
    }

    /// Secrets and `ConfigMap`s (by plural) without which containers cannot be created.
    pub fn references(&self) -> Vec<(&'static str, String)> {
        let mut wanted = Vec::new();
        let mut want = |plural: &'static str, source: &Value, field: &str| {
            if let Some(name) = source[field].as_str().filter(|_| source["optional"] != true) {
                wanted.push((plural, name.to_string()));
            }
        };
        for container in self.spec.init_containers.iter().chain(&self.spec.containers) {
            for source in container.env.iter().map(|known| &known.value_from) {
                want("secrets", &source["secretKeyRef"], "name");
                want("configmaps", &source["configMapKeyRef"], "name");
            }
            for source in &container.env_from {
                want("secrets", &source["secretRef"], "name");
                want("configmaps", &source["configMapRef"], "name");
            }
        }
        for volume in &self.spec.volumes {
            want("secrets", &volume["secret"], "secretName");
            want("configmaps", &volume["configMap"], "name");
            for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
                want("secrets", &source["secret"], "name");
                want("configmaps", &source["configMap"], "name");
            }
        }
        wanted
    }

    /// Requests of all containers, by resource: thousandths of a core, units of everything else.
    pub fn requests(&self) -> BTreeMap<String, i64> {
        let mut total = BTreeMap::new();
        for container in &self.spec.containers {
            for (resource, quantity) in container.resources["requests"].as_object().into_iter().flatten() {
                *total.entry(resource.clone()).or_insert(0) += amount(resource, quantity);
            }
        }
        total
    }
}

/// A quantity in the unit that kubelets count the resource in.
pub(super) fn amount(resource: &str, quantity: &Value) -> i64 {
    let parsed = quantity.as_str().and_then(|text| Quantity::parse(text).ok());
    parsed.map_or(0, |quantity| if resource == "cpu" { quantity.milli() } else { quantity.units() })
}

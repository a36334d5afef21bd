//! In: a home pod. Out: the `ConfigMaps`, Secrets and claims of its namespace that its run needs to be made.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Kind, Reference, volumes::is_injected};

/// What has to be read before the pod can travel, each once, in a fixed order.
pub fn references(home: &Value) -> Vec<Reference> {
    let mut found: BTreeMap<(Kind, Box<str>), bool> = BTreeMap::new();
    let mut add = |kind: Kind, name: &Value, optional: bool| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            *found.entry((kind, name.into())).or_insert(true) &= optional;
        }
    };
    let spec = &home["spec"];
    for container in ["initContainers", "containers"].iter().flat_map(|list| items(&spec[*list])) {
        for variable in items(&container["env"]) {
            let from = &variable["valueFrom"];
            add(Kind::ConfigMap, &from["configMapKeyRef"]["name"], is_optional(&from["configMapKeyRef"]));
            add(Kind::Secret, &from["secretKeyRef"]["name"], is_optional(&from["secretKeyRef"]));
        }
        for source in items(&container["envFrom"]) {
            add(Kind::ConfigMap, &source["configMapRef"]["name"], is_optional(&source["configMapRef"]));
            add(Kind::Secret, &source["secretRef"]["name"], is_optional(&source["secretRef"]));
        }
    }
    for volume in items(&spec["volumes"]).iter().filter(|volume| !is_injected(volume)) {
        add(Kind::ConfigMap, &volume["configMap"]["name"], is_optional(&volume["configMap"]));
        add(Kind::Secret, &volume["secret"]["secretName"], is_optional(&volume["secret"]));
        add(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"], false);
        for source in items(&volume["projected"]["sources"]) {
            add(Kind::ConfigMap, &source["configMap"]["name"], is_optional(&source["configMap"]));
            add(Kind::Secret, &source["secret"]["name"], is_optional(&source["secret"]));
        }
    }
    // As on any node: a pull secret that is not there is passed over.
    items(&spec["imagePullSecrets"]).iter().for_each(|secret| add(Kind::Secret, &secret["name"], true));
    found.into_iter().map(|((kind, name), optional)| Reference { kind, name, optional }).collect()
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_optional(source: &Value) -> bool {
    source["optional"].as_bool() == Some(true)
}

//! `DynamicResources`: claims of devices. In: the claims that a pod names. Out: a rule about where its allocated devices can be used, and before the
//! binding the patch that reserves each claim for the pod.
//!
//! Source: kube-scheduler v1.37.1 `DynamicResources`, with its reasons, but for one thing: **devices are not allocated here**. A claim that has none yet
//! keeps its pod pending, and the reason says so; a claim that somebody else has allocated (another scheduler, a pod that used it before) is honoured.
//! Upstream holds a pod whose claims are missing before the queue, in silence; here it is refused like any other, so that the pod says what it waits for.

use std::sync::Arc;

use serde_json::json;

use crate::{
    model::{
        affinity::SelectorMatcher,
        class::PodClass,
        devices::{CONSUMERS_MAX, DeviceClaimFacts, PodDeviceClaim, PodDevices},
        features::OPTIONAL_NODE_OPERATIONS,
        ids::{ClusterId, NodeIx},
        node::NodeRecord,
    },
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, PodInHand, PreBind, PreBindWork, Premise, Reads, Refusal},
        nodes::Nodes,
        storage::StorageChange,
    },
};

const NOT_HERE: &str = "resourceclaim not available on the node";
const AT_HOME_ONLY: &str = "resourceclaim not available on nodes of compute clusters";

/// See the module.
pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn pre_bind(&mut self) -> Option<&mut dyn PreBind> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_LABEL | Changes::NODE_FEATURES | Changes::STORAGE
    }

    /// Only a claim of its own helps a pod: what others give back is nothing to it, as nothing is allocated here.
    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        match change {
            Change::Storage(StorageChange::DeviceClaim(_, claim)) => {
                let is_near = *claim.namespace == *nodes.symbols.text(class.namespace);
                is_near && class.devices.as_ref().is_some_and(|devices| devices.names().any(|name| *name == *claim.name))
            }
            Change::Storage(_) => false,
            _ => true,
        }
    }
}

impl FilterPlugin for DynamicResources {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        let Some(devices) = &class.devices else { return CompiledFilter::Skip };
        let outcome = match allocated(devices, nodes.symbols.text(class.namespace), nodes) {
            Ok(claims) if claims.is_empty() => CompiledFilter::Skip,
            Ok(claims) => CompiledFilter::Rule(Box::new(Usable(claims))),
            Err(why) => CompiledFilter::Refused(Refusal::unresolvable(why)),
        };
        CompiledFilter::Until(Box::new(Unchanged(nodes.storage.devices.version())), Box::new(outcome))
    }
}

/// Where each claim of a pod can be used; or the first reason why one cannot be used at all.
fn allocated(devices: &PodDevices, namespace: &str, nodes: &Nodes) -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    for claim in &devices.claims {
        let (name, is_generated) = match claim {
            PodDeviceClaim::Named(name) => (name, false),
            PodDeviceClaim::Generated(name) => (name, true),
            PodDeviceClaim::NotNeeded => continue,
            PodDeviceClaim::Awaited => return Err(format!("pod \"{namespace}/{}\": ResourceClaim not created yet", devices.pod_name)),
            PodDeviceClaim::Unknown(entry) => {
                let pod = format!("pod \"{namespace}/{}\", spec.resourceClaim {entry:?}", devices.pod_name);
                return Err(format!("{pod}: none of the supported fields are set"));
            }
        };
        let key = format!("{namespace}/{name}");
        let Some(record) = nodes.storage.devices.get(&key) else { return Err(format!("could not find ResourceClaim {key:?}")) };
        let facts = &record.facts;
        if facts.deleting {
            return Err(format!("resourceclaim {name:?} is being deleted"));
        }
        if is_generated && facts.controller_uid.as_ref() != Some(&devices.pod_uid) {
            return Err(format!("ResourceClaim {key} was not created for Pod {namespace}/{} (Pod is not owner)", devices.pod_name));
        }
        let Some(allocation) = &facts.allocation else {
            return Err(format!("resourceclaim {name:?} has no devices, and allocating them is not built into this version"));
        };
        if !facts.is_reserved_for(&devices.pod_uid) && facts.reserved_for.len() >= CONSUMERS_MAX {
            return Err("resourceclaim in use".to_owned());
        }
        if let Some(device) = &allocation.unready_device {
            return Err(format!("resourceclaim {name:?}: device {device:?} does not meet its binding conditions"));
        }
        places.push(Place { usable_on: record.usable_on.clone(), skips_node_operations: allocation.skips_node_operations });
    }
    Ok(places)
}

/// Holds as long as no claim of devices has changed.
struct Unchanged(u64);

impl Premise for Unchanged {
    fn outdated(&self, nodes: &Nodes) -> bool {
        nodes.storage.devices.version() != self.0
    }
}

/// Where an allocated claim can be used.
struct Place {
    usable_on: Option<Arc<SelectorMatcher>>,
    skips_node_operations: bool,
}

struct Usable(Vec<Place>);

impl NodeRule for Usable {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        if node.cluster != ClusterId::HOME {
            return Some(Refusal::unresolvable(AT_HOME_ONLY));
        }
        let is_usable = |place: &Place| {
            let is_near = place.usable_on.as_ref().is_none_or(|places| places.matches(node.name, &node.labels, &nodes.symbols));
            is_near && (!place.skips_node_operations || node.features.has_all(OPTIONAL_NODE_OPERATIONS))
        };
        (!self.0.iter().all(is_usable)).then(|| Refusal::unresolvable(NOT_HERE))
    }
}

impl PreBind for DynamicResources {
    /// A reservation is never taken back here: it does not allocate, and the controller of claims ends it with the pod.
    fn work(&mut self, pod: PodInHand<'_>, _node: NodeIx, nodes: &Nodes) -> Option<PreBindWork> {
        let devices = pod.class.devices.as_ref()?;
        let claims = devices.names().filter_map(|name| nodes.storage.devices.get(&format!("{}/{name}", pod.key.namespace)));
        let unreserved = claims.map(|record| &record.facts).filter(|facts| !facts.is_reserved_for(&pod.uid.0));
        let patches: Vec<_> = unreserved.map(|facts| reservation(facts, pod)).collect();
        (!patches.is_empty()).then_some(PreBindWork { plugin: "DynamicResources", patches, settles_within: None })
    }
}

/// One more user of a claim, if it still is in the version that was decided upon.
fn reservation(claim: &DeviceClaimFacts, pod: PodInHand<'_>) -> (String, String) {
    let mut users: Vec<_> = claim
        .reserved_for
        .iter()
        .map(|user| json!({"apiGroup": user.api_group, "resource": user.resource, "name": user.name, "uid": user.uid}))
        .collect();
    users.push(json!({"resource": "pods", "name": pod.key.name, "uid": &*pod.uid.0}));
    let path = format!("/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims/{}/status", claim.namespace, claim.name);
    let metadata = json!({"uid": claim.uid, "resourceVersion": claim.resource_version});
    (path, json!({"metadata": metadata, "status": {"reservedFor": users}}).to_string())
}

#[cfg(test)]
#[path = "dynamic_resources_tests.rs"]
mod tests;

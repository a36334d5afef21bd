//! Claims of devices: entries of a pod and `ResourceClaim` objects in JSON in, facts out.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    json::{Text, or_default},
    meta::MetaWire,
    pod::SelectorWire,
};
use crate::model::devices::{DeviceAllocation, DeviceClaimFacts, DeviceConsumer, PodDeviceClaim, PodDevices};

/// An entry of `spec.resourceClaims`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodClaimWire<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    resource_claim_name: Option<Text<'a>>,
    #[serde(borrow)]
    resource_claim_template_name: Option<Text<'a>>,
}

/// An entry of `status.resourceClaimStatuses`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatusWire<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    resource_claim_name: Option<Text<'a>>,
}

/// What a pod claims; `None` if nothing.
pub fn pod_devices(meta: &MetaWire<'_>, claims: &[PodClaimWire<'_>], statuses: &[ClaimStatusWire<'_>]) -> Option<Arc<PodDevices>> {
    if claims.is_empty() {
        return None;
    }
    let claims = claims.iter().map(|claim| claim.facts(statuses)).collect();
    Some(Arc::new(PodDevices { claims, pod_name: meta.name.boxed(), pod_uid: meta.uid.boxed() }))
}

impl PodClaimWire<'_> {
    fn facts(&self, statuses: &[ClaimStatusWire<'_>]) -> PodDeviceClaim {
        if let Some(name) = &self.resource_claim_name {
            return PodDeviceClaim::Named(name.boxed());
        }
        if self.resource_claim_template_name.is_none() {
            return PodDeviceClaim::Unknown(self.name.boxed());
        }
        match statuses.iter().find(|status| status.name == self.name) {
            Some(status) => {
                status.resource_claim_name.as_ref().map_or(PodDeviceClaim::NotNeeded, |name| PodDeviceClaim::Generated(name.boxed()))
            }
            None => PodDeviceClaim::Awaited,
        }
    }
}

/// What scheduling reads of a `ResourceClaim`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct DeviceClaimWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(super) metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    status: StatusWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusWire<'a> {
    #[serde(borrow)]
    allocation: Option<AllocationWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    reserved_for: Vec<ConsumerWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    devices: Vec<DeviceStatusWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AllocationWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    devices: DevicesWire<'a>,
    #[serde(borrow)]
    node_selector: Option<SelectorWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DevicesWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    results: Vec<ResultWire<'a>>,
}

/// Which device it is.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeviceWire<'a> {
    #[serde(borrow)]
    driver: Text<'a>,
    #[serde(borrow)]
    pool: Text<'a>,
    #[serde(borrow)]
    device: Text<'a>,
    #[serde(rename = "shareID", borrow)]
    share_id: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResultWire<'a> {
    #[serde(flatten, borrow)]
    device: DeviceWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    binding_conditions: Vec<Text<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    binding_failure_conditions: Vec<Text<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    skip_node_operations: Vec<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeviceStatusWire<'a> {
    #[serde(flatten, borrow)]
    device: DeviceWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    conditions: Vec<ConditionWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionWire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConsumerWire<'a> {
    #[serde(borrow)]
    api_group: Text<'a>,
    #[serde(borrow)]
    resource: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    uid: Text<'a>,
}

impl DeviceClaimWire<'_> {
    pub(super) fn facts(&self) -> DeviceClaimFacts {
        let (meta, status) = (&self.metadata, &self.status);
        let consumer = |consumer: &ConsumerWire<'_>| DeviceConsumer {
            api_group: consumer.api_group.boxed(),
            resource: consumer.resource.boxed(),
            name: consumer.name.boxed(),
            uid: consumer.uid.boxed(),
        };
        DeviceClaimFacts {
            namespace: meta.namespace.boxed(),
            name: meta.name.boxed(),
            uid: meta.uid.boxed(),
            resource_version: meta.resource_version.boxed(),
            deleting: meta.deleting,
            controller_uid: meta.owner_references.iter().find(|owner| owner.controller).map(|owner| owner.uid.boxed()),
            allocation: status.allocation.as_ref().map(|allocation| allocation.facts(&status.devices)),
            reserved_for: status.reserved_for.iter().map(consumer).collect(),
        }
    }
}

impl AllocationWire<'_> {
    fn facts(&self, statuses: &[DeviceStatusWire<'_>]) -> DeviceAllocation {
        let results = &self.devices.results;
        let unready = results.iter().find(|result| !result.is_ready(statuses));
        DeviceAllocation {
            node_selector: self.node_selector.as_ref().map(SelectorWire::facts),
            unready_device: unready.map(|result| result.device.device.boxed()),
            skips_node_operations: results.iter().any(|result| !result.skip_node_operations.is_empty()),
        }
    }
}

impl ResultWire<'_> {
    fn is_ready(&self, statuses: &[DeviceStatusWire<'_>]) -> bool {
        if self.binding_conditions.is_empty() {
            return true;
        }
        let Some(status) = statuses.iter().find(|status| status.device == self.device) else { return false };
        let holds = |wanted: &Text<'_>| {
            let found = status.conditions.iter().find(|condition| condition.kind == *wanted);
            found.is_some_and(|condition| condition.status.as_str() == "True")
        };
        self.binding_conditions.iter().all(holds) && !self.binding_failure_conditions.iter().any(holds)
    }
}

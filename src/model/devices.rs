//! Claims of devices (`resource.k8s.io` ResourceClaim), reduced to what scheduling reads: what a pod names, and what such an object says.

use super::affinity::NodeSelector;

/// `spec.resourceClaims` of a pod, with what its status says of those that are made for it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodDevices {
    /// In the order of the specification.
    pub claims: Box<[PodDeviceClaim]>,
    /// `metadata.name` of the pod, which generated claims belong to.
    pub pod_name: Box<str>,
    /// `metadata.uid` of the pod: claims are reserved for it.
    pub pod_uid: Box<str>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PodDeviceClaim {
    /// A claim that somebody made.
    Named(Box<str>),
    /// A claim that was made from a template for this pod.
    Generated(Box<str>),
    /// A template for which nothing was made yet.
    Awaited,
    /// A template from which nothing needs to be made.
    NotNeeded,
    /// Neither a claim nor a template is named: a form of a later API.
    Unknown(Box<str>),
}

impl PodDevices {
    /// Names of the claims that are known by name, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let known = |claim: &PodDeviceClaim| matches!(claim, PodDeviceClaim::Named(_) | PodDeviceClaim::Generated(_));
        let firsts = self.claims.iter().enumerate().filter(move |(at, claim)| known(claim) && !self.claims[..*at].contains(claim));
        firsts.filter_map(|(_, claim)| match claim {
            PodDeviceClaim::Named(name) | PodDeviceClaim::Generated(name) => Some(&**name),
            PodDeviceClaim::Awaited | PodDeviceClaim::NotNeeded | PodDeviceClaim::Unknown(_) => None,
        })
    }
}

/// A `ResourceClaim`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceClaimFacts {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// UID of the owner that controls it.
    pub controller_uid: Option<Box<str>>,
    /// `status.allocation`.
    pub allocation: Option<DeviceAllocation>,
    /// `status.reservedFor`.
    pub reserved_for: Vec<DeviceConsumer>,
}

/// Which devices a claim has, as far as it matters for where its pods can be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceAllocation {
    /// `nodeSelector`: where they can be used; `None`: everywhere.
    pub node_selector: Option<NodeSelector>,
    /// A device whose binding condition is not met, or whose failure condition is.
    pub unready_device: Option<Box<str>>,
    /// A device is used without the node's driver taking part: the node has to know of that.
    pub skips_node_operations: bool,
}

/// Who uses a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceConsumer {
    /// `apiGroup`; empty for pods.
    pub api_group: Box<str>,
    /// `resource`: the plural, `pods`.
    pub resource: Box<str>,
    /// `name`.
    pub name: Box<str>,
    /// `uid`.
    pub uid: Box<str>,
}

/// So many may use a claim at the same time (`ResourceClaimReservedForMaxSize`).
pub const CONSUMERS_MAX: usize = 256;

impl DeviceClaimFacts {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether this pod is among its users.
    pub fn is_reserved_for(&self, pod_uid: &str) -> bool {
        self.reserved_for.iter().any(|consumer| *consumer.uid == *pod_uid)
    }
}

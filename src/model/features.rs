//! Features that a node declares and a pod may need (KEP-5328): names in, a small set out.
//!
//! Source: `component-helpers/nodedeclaredfeatures` v1.37.1, of which these are the ones that scheduling asks for; the others are about updates of pods.

/// Containers that restart all others when they end in a certain way.
pub const RESTART_ALL: NodeFeatures = NodeFeatures(1);
/// A user namespace in the network of the host.
pub const USER_NAMESPACES_HOST_NETWORK: NodeFeatures = NodeFeatures(1 << 1);
/// Mount options of a container's mount.
pub const BIND_MOUNT_OPTIONS: NodeFeatures = NodeFeatures(1 << 2);
/// Devices that are used without the node's driver taking part. No pod says so: the allocation of a claim does.
pub const OPTIONAL_NODE_OPERATIONS: NodeFeatures = NodeFeatures(1 << 3);

const NAMES: [(&str, NodeFeatures); 4] = [
    ("RestartAllContainersOnContainerExits", RESTART_ALL),
    ("UserNamespacesHostNetworkSupport", USER_NAMESPACES_HOST_NETWORK),
    ("VolumeBindMountOptions", BIND_MOUNT_OPTIONS),
    ("DRAOptionalNodeOperations", OPTIONAL_NODE_OPERATIONS),
];

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeFeatures(u8);

impl NodeFeatures {
    /// Those of `status.declaredFeatures` that are known here.
    pub fn declared<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let known = |name: &str| NAMES.iter().find(|(known, _)| *known == name).map_or(0, |(_, feature)| feature.0);
        Self(names.fold(0, |set, name| set | known(name)))
    }

    /// With this one too, if it is so.
    #[must_use]
    pub fn with(self, feature: Self, is: bool) -> Self {
        if is { Self(self.0 | feature.0) } else { self }
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of the other set is in it.
    pub fn has_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

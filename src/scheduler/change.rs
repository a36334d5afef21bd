//! What happened in the cluster, in the words of queueing hints: each kind of change is one bit, and carries what a hint may look at.
//!
//! Source: `framework.ClusterEvent` v1.37; labels are upstream's (`NodeUpdateNodeTaint`), as they are metric labels.

use std::ops::{BitOr, BitOrAssign};

use super::storage::StorageChange;
use crate::model::{
    class::PodClass,
    ids::{ClusterId, NodeIx},
    intern::Sym,
    node::NodeRecord,
};

/// A set of kinds of change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes(u16);

impl Changes {
    /// No change.
    pub const NONE: Self = Self(0);
    /// A node appeared.
    pub const NODE_ADD: Self = Self(1);
    /// A node's allocatable changed.
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    /// A node's labels changed.
    pub const NODE_LABEL: Self = Self(1 << 2);
    /// A node's taints changed, or it became schedulable.
    pub const NODE_TAINT: Self = Self(1 << 3);
    /// A node went away.
    pub const NODE_DELETE: Self = Self(1 << 4);
    /// A pod was bound.
    pub const POD_ADD: Self = Self(1 << 5);
    /// A bound pod asks for less.
    pub const POD_SCALE_DOWN: Self = Self(1 << 6);
    /// A bound pod went away, finished, or gave its node back.
    pub const POD_DELETE: Self = Self(1 << 7);
    /// A node's images changed: nothing that a filter reads, but scores do.
    pub const NODE_IMAGES: Self = Self(1 << 8);
    /// A compute cluster appeared, changed or has more room.
    pub const CLUSTER: Self = Self(1 << 9);
    /// A claim of home appeared, went or changed its labels.
    pub const CLAIM: Self = Self(1 << 10);
    /// The labels of a home namespace changed.
    pub const NAMESPACE: Self = Self(1 << 11);
    /// More is known of the platforms of an image.
    pub const PLATFORMS: Self = Self(1 << 12);
    /// The labels of a bound pod changed.
    pub const POD_LABEL: Self = Self(1 << 13);
    /// An object of storage appeared or changed, or a volume was detached.
    pub const STORAGE: Self = Self(1 << 14);
    /// The features that a node declares changed.
    pub const NODE_FEATURES: Self = Self(1 << 15);
    /// Every kind.
    pub const ALL: Self = Self(u16::MAX);

    /// Whether the sets share a kind.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no kind is in it.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Changes {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Changes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// One change, with what hints may compare.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A node appeared or changed. `old` is what was known before; `None` when it is new.
    Node {
        /// Before.
        old: Option<&'a NodeRecord>,
        /// After.
        new: &'a NodeRecord,
        /// In what.
        what: Changes,
    },
    /// A node went away: as it was, or several.
    NodeDelete(Option<&'a NodeRecord>),
    /// A pod was bound by somebody.
    PodAdd {
        /// Its class.
        class: &'a PodClass,
        /// Where.
        node: NodeIx,
    },
    /// A bound pod asks for less than before.
    PodScaleDown {
        /// Its class before.
        old: &'a PodClass,
        /// Its class now.
        new: &'a PodClass,
        /// Where.
        node: NodeIx,
    },
    /// The labels of a bound pod are others than before.
    PodLabels {
        /// Its class before.
        old: &'a PodClass,
        /// Its class now.
        new: &'a PodClass,
        /// Where.
        node: NodeIx,
    },
    /// A bound or assumed pod is gone from its node.
    PodDelete {
        /// Its class.
        class: &'a PodClass,
        /// Where it was.
        node: NodeIx,
    },
    /// A compute cluster appeared, changed, or its quota was told anew.
    Cluster(ClusterId),
    /// A claim of home appeared, went or changed its labels.
    Claim {
        /// Its namespace.
        namespace: &'a str,
    },
    /// The labels of this home namespace changed.
    Namespace(&'a str),
    /// More is known of the platforms of this image.
    Platforms(Sym),
    /// An object of storage appeared or changed.
    Storage(&'a StorageChange),
}

impl Change<'_> {
    /// The kinds of change that this is.
    pub fn kinds(&self) -> Changes {
        match self {
            Self::Node { what, .. } => *what,
            Self::NodeDelete(_) => Changes::NODE_DELETE,
            Self::PodAdd { .. } => Changes::POD_ADD,
            Self::PodScaleDown { .. } => Changes::POD_SCALE_DOWN,
            Self::PodLabels { .. } => Changes::POD_LABEL,
            Self::PodDelete { .. } => Changes::POD_DELETE,
            Self::Cluster(_) => Changes::CLUSTER,
            Self::Claim { .. } => Changes::CLAIM,
            Self::Namespace(_) => Changes::NAMESPACE,
            Self::Platforms(_) => Changes::PLATFORMS,
            Self::Storage(_) => Changes::STORAGE,
        }
    }

    /// Upstream's label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Node { what, .. } if what.intersects(Changes::NODE_ADD) => "NodeAdd",
            Self::Node { what, .. } if what.intersects(Changes::NODE_ALLOCATABLE) => "NodeUpdateNodeAllocatable",
            Self::Node { what, .. } if what.intersects(Changes::NODE_LABEL) => "NodeUpdateNodeLabel",
            Self::Node { what, .. } if what.intersects(Changes::NODE_TAINT) => "NodeUpdateNodeTaint",
            Self::Node { what, .. } if what.intersects(Changes::NODE_FEATURES) => "NodeUpdateNodeDeclaredFeature",
            Self::Node { .. } => "NodeUpdate",
            Self::NodeDelete(_) => "NodeDelete",
            Self::PodAdd { .. } => "AssignedPodAdd",
            Self::PodScaleDown { .. } => "AssignedPodUpdatePodScaleDown",
            Self::PodLabels { .. } => "AssignedPodUpdatePodLabel",
            Self::PodDelete { .. } => "AssignedPodDelete",
            Self::Cluster(_) => "ComputeClusterUpdate",
            Self::Claim { .. } => "PersistentVolumeClaimUpdate",
            Self::Namespace(_) => "NamespaceUpdate",
            Self::Platforms(_) => "ImagePlatformsKnown",
            Self::Storage(change) => change.label(),
        }
    }
}

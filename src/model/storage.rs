//! Objects of storage as they say it, reduced to what scheduling reads: claims, volumes, classes, and what drivers tell of nodes; claims of devices go
//! the same way.

use super::{
    affinity::NodeSelector, devices::DeviceClaimFacts, in_tree::InTreePlugin, labels::LabelFacts, quantity::Quantity,
    selector::LabelSelectorFacts,
};

/// A kind of object of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StorageKind {
    /// `PersistentVolumeClaim`.
    Claim,
    /// `PersistentVolume`.
    Volume,
    /// `StorageClass`.
    Class,
    /// `CSINode`.
    CsiNode,
    /// `CSIDriver`.
    CsiDriver,
    /// `CSIStorageCapacity`.
    Capacity,
    /// `VolumeAttachment`.
    Attachment,
    /// `ResourceClaim`.
    DeviceClaim,
}

impl StorageKind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Claim, Self::Volume, Self::Class, Self::CsiNode, Self::CsiDriver, Self::Capacity, Self::Attachment, Self::DeviceClaim];
}

/// An object of storage.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // one for each kind
pub enum StorageFacts {
    Claim(Box<ClaimFacts>),
    Volume(Box<VolumeFacts>),
    Class(Box<ClassFacts>),
    CsiNode(Box<CsiNodeFacts>),
    CsiDriver(Box<CsiDriverFacts>),
    Capacity(Box<CapacityFacts>),
    Attachment(Box<AttachmentFacts>),
    DeviceClaim(Box<DeviceClaimFacts>),
}

/// `volumeMode` of what does not say.
pub const FILESYSTEM: &str = "Filesystem";

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimFacts {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `metadata.labels`.
    pub labels: LabelFacts,
    /// UID of the owner that controls it.
    pub controller_uid: Option<Box<str>>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Name of its class, by annotation or field; empty if it has none.
    pub class: Box<str>,
    /// `spec.volumeName`; empty if it has none.
    pub volume: Box<str>,
    /// `spec.accessModes`.
    pub access_modes: Vec<Box<str>>,
    /// `spec.resources.requests.storage`.
    pub requested: Option<Quantity>,
    /// `spec.selector`.
    pub selector: Option<LabelSelectorFacts>,
    /// `spec.volumeMode`.
    pub volume_mode: Box<str>,
    /// `spec.volumeAttributesClassName`; empty if it has none.
    pub attributes_class: Box<str>,
    /// Phase `Lost`.
    pub is_lost: bool,
    /// Annotation `pv.kubernetes.io/bind-completed`.
    pub bind_completed: bool,
    /// Annotation `volume.kubernetes.io/selected-node`.
    pub selected_node: Option<Box<str>>,
}

impl ClaimFacts {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether the controller has done all that binding it takes.
    pub fn is_fully_bound(&self) -> bool {
        !self.volume.is_empty() && self.bind_completed
    }

    /// Whether only one pod in the cluster may use it.
    pub fn is_for_one_pod(&self) -> bool {
        self.access_modes.iter().any(|mode| &**mode == "ReadWriteOncePod")
    }
}

/// Whose a volume is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRef {
    /// Namespace of the claim.
    pub namespace: Box<str>,
    /// Name of the claim.
    pub name: Box<str>,
    /// UID of the claim; empty if somebody reserved the volume beforehand.
    pub uid: Box<str>,
}

impl ClaimRef {
    /// Whether the volume is reserved for, or bound to, this claim.
    pub fn is_for(&self, claim: &ClaimFacts) -> bool {
        self.name == claim.name && self.namespace == claim.namespace && (self.uid.is_empty() || self.uid == claim.uid)
    }
}

/// A `PersistentVolume`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeFacts {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `metadata.labels`.
    pub labels: LabelFacts,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Annotation `pv.kubernetes.io/bound-by-controller`.
    pub bound_by_controller: bool,
    /// Name of its class, by annotation or field.
    pub class: Box<str>,
    /// `spec.claimRef`.
    pub claim_ref: Option<ClaimRef>,
    /// `spec.capacity.storage`.
    pub capacity: Quantity,
    /// `spec.accessModes`.
    pub access_modes: Vec<Box<str>>,
    /// `spec.volumeMode`.
    pub volume_mode: Box<str>,
    /// `spec.volumeAttributesClassName`; empty if it has none.
    pub attributes_class: Box<str>,
    /// `spec.nodeAffinity.required`.
    pub node_affinity: Option<NodeSelector>,
    /// Phase `Available`.
    pub is_available: bool,
    /// What it is made of.
    pub source: VolumeSource,
}

/// What a volume is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VolumeSource {
    /// `csi`.
    Csi {
        /// The driver.
        driver: Box<str>,
        /// Its handle.
        handle: Box<str>,
    },
    /// A plugin that was built in.
    InTree {
        /// Which.
        plugin: InTreePlugin,
        /// Name, id or URI of the disk.
        id: Box<str>,
    },
    /// Anything else.
    #[default]
    Other,
}

/// When claims of a class are bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingMode {
    /// At once.
    #[default]
    Immediate,
    /// When a pod that uses them has its node.
    WaitForFirstConsumer,
}

/// A `StorageClass`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassFacts {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `provisioner`.
    pub provisioner: Box<str>,
    /// `volumeBindingMode`.
    pub binding_mode: BindingMode,
    /// `allowedTopologies`; no terms admit every node.
    pub allowed_topologies: NodeSelector,
}

/// A `CSINode`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiNodeFacts {
    /// `metadata.name`: that of the node.
    pub name: Box<str>,
    /// Drivers, and how many volumes of each the node takes, if that is limited.
    pub drivers: Vec<(Box<str>, Option<i32>)>,
    /// Annotation `storage.alpha.kubernetes.io/migrated-plugins`: names with commas between them.
    pub migrated: Box<str>,
}

impl CsiNodeFacts {
    /// Whether the node's kubelet leaves volumes of the plugin to the driver.
    pub fn has_migrated(&self, plugin: InTreePlugin) -> bool {
        self.migrated.split(',').any(|name| name == plugin.name())
    }

    /// How many volumes of a driver the node takes; `None` if nothing limits it.
    pub fn limit(&self, driver: &str) -> Option<i64> {
        let last = self.drivers.iter().rev().find(|(name, count)| **name == *driver && count.is_some());
        last.and_then(|(_, count)| count.map(i64::from))
    }

    /// Whether the driver runs there.
    pub fn has(&self, driver: &str) -> bool {
        self.drivers.iter().any(|(name, _)| **name == *driver)
    }
}

/// A `CSIDriver`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiDriverFacts {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `spec.storageCapacity`.
    pub storage_capacity: bool,
    /// `spec.preventPodSchedulingIfMissing`.
    pub needed_on_node: bool,
}

/// A `CSIStorageCapacity`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CapacityFacts {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `storageClassName`.
    pub class: Box<str>,
    /// `nodeTopology`.
    pub node_topology: Option<LabelSelectorFacts>,
    /// `capacity`.
    pub capacity: Option<Quantity>,
    /// `maximumVolumeSize`.
    pub volume_max: Option<Quantity>,
}

impl CapacityFacts {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The largest volume that fits, in bytes.
    pub fn limit_bytes(&self) -> Option<i64> {
        self.volume_max.or(self.capacity).map(Quantity::units)
    }
}

/// A `VolumeAttachment`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachmentFacts {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `spec.attacher`: the driver.
    pub attacher: Box<str>,
    /// `spec.nodeName`.
    pub node: Box<str>,
    /// `spec.source.persistentVolumeName`.
    pub volume: Option<Box<str>>,
}

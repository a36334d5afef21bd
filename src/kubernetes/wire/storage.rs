//! Objects of storage: JSON in, facts out. What the API server defaults is filled in here as well, for objects that come from files.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Watched,
    devices::DeviceClaimWire,
    json::{Pairs, QuantityText, Text, or_default, present},
    meta::MetaWire,
    pod::{SelectorWire, quantity},
    terms::{LabelSelectorWire, RequirementWire},
    volume::DiskWire,
};
use crate::{
    model::{
        affinity::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        devices::DeviceClaimFacts,
        ids::ClusterId,
        quantity::Quantity,
        storage::{
            AttachmentFacts, BindingMode, CapacityFacts, ClaimFacts, ClaimRef, ClassFacts, CsiDriverFacts, CsiNodeFacts, FILESYSTEM,
            StorageFacts, StorageKind, VolumeFacts, VolumeSource,
        },
    },
    scheduler::input::Input,
};

/// What is wrong with an object.
type Wrong = Cow<'static, str>;

/// Names a class where no field does, or another one.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

// === claims ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: ClaimSpec<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    status: PhaseWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    access_modes: Vec<Text<'a>>,
    #[serde(borrow)]
    selector: Option<LabelSelectorWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    resources: RequestsWire<'a>,
    #[serde(borrow)]
    storage_class_name: Text<'a>,
    #[serde(borrow)]
    volume_name: Text<'a>,
    #[serde(borrow)]
    volume_mode: Text<'a>,
    #[serde(borrow)]
    volume_attributes_class_name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestsWire<'a> {
    #[serde(borrow)]
    requests: Pairs<'a, QuantityText<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PhaseWire<'a> {
    #[serde(borrow)]
    phase: Text<'a>,
}

fn storage_of(place: &str, pairs: &Pairs<'_, QuantityText<'_>>) -> Result<Option<Quantity>, Wrong> {
    let storage = pairs.0.iter().find(|(name, _)| name.as_str() == "storage");
    storage.map(|(_, text)| quantity(place, "storage", text)).transpose()
}

fn class_of(meta: &MetaWire<'_>, field: &Text<'_>) -> Box<str> {
    meta.annotations.find(CLASS).map_or_else(|| field.boxed(), Box::from)
}

fn mode_of(field: &Text<'_>) -> Box<str> {
    field.some().unwrap_or_else(|| FILESYSTEM.into())
}

impl ClaimWire<'_> {
    fn facts(&self) -> Result<ClaimFacts, Wrong> {
        let (meta, spec) = (&self.metadata, &self.spec);
        Ok(ClaimFacts {
            namespace: meta.namespace.boxed(),
            name: meta.name.boxed(),
            uid: meta.uid.boxed(),
            resource_version: meta.resource_version.boxed(),
            labels: meta.labels.boxed(),
            controller_uid: meta.owner_references.iter().find(|owner| owner.controller).map(|owner| owner.uid.boxed()),
            deleting: meta.deleting,
            class: class_of(meta, &spec.storage_class_name),
            volume: spec.volume_name.boxed(),
            access_modes: spec.access_modes.iter().map(Text::boxed).collect(),
            requested: storage_of("spec.resources.requests", &spec.resources.requests)?,
            selector: spec.selector.as_ref().map(LabelSelectorWire::facts),
            volume_mode: mode_of(&spec.volume_mode),
            attributes_class: spec.volume_attributes_class_name.boxed(),
            is_lost: self.status.phase.as_str() == "Lost",
            bind_completed: meta.annotations.find("pv.kubernetes.io/bind-completed").is_some(),
            selected_node: meta.annotations.find("volume.kubernetes.io/selected-node").map(Box::from),
        })
    }
}

// === volumes ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct VolumeObjectWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: VolumeSpec<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    status: PhaseWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeSpec<'a> {
    #[serde(borrow)]
    capacity: Pairs<'a, QuantityText<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    access_modes: Vec<Text<'a>>,
    #[serde(borrow)]
    claim_ref: Option<ClaimRefWire<'a>>,
    #[serde(borrow)]
    storage_class_name: Text<'a>,
    #[serde(borrow)]
    volume_mode: Text<'a>,
    #[serde(borrow)]
    volume_attributes_class_name: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    node_affinity: VolumeAffinityWire<'a>,
    #[serde(borrow)]
    csi: Option<CsiSourceWire<'a>>,
    #[serde(borrow)]
    gce_persistent_disk: Option<DiskWire<'a>>,
    #[serde(borrow)]
    aws_elastic_block_store: Option<DiskWire<'a>>,
    #[serde(borrow)]
    cinder: Option<DiskWire<'a>>,
    #[serde(borrow)]
    azure_disk: Option<DiskWire<'a>>,
    #[serde(borrow)]
    azure_file: Option<DiskWire<'a>>,
    #[serde(borrow)]
    vsphere_volume: Option<DiskWire<'a>>,
    #[serde(borrow)]
    portworx_volume: Option<DiskWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClaimRefWire<'a> {
    #[serde(borrow)]
    namespace: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    uid: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VolumeAffinityWire<'a> {
    #[serde(borrow)]
    required: Option<SelectorWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CsiSourceWire<'a> {
    #[serde(borrow)]
    driver: Text<'a>,
    #[serde(borrow)]
    volume_handle: Text<'a>,
}

impl VolumeSpec<'_> {
    fn source(&self) -> VolumeSource {
        if let Some(csi) = &self.csi {
            return VolumeSource::Csi { driver: csi.driver.boxed(), handle: csi.volume_handle.boxed() };
        }
        let disks = [
            ("gcePersistentDisk", &self.gce_persistent_disk),
            ("awsElasticBlockStore", &self.aws_elastic_block_store),
            ("cinder", &self.cinder),
            ("azureDisk", &self.azure_disk),
            ("azureFile", &self.azure_file),
            ("vsphereVolume", &self.vsphere_volume),
            ("portworxVolume", &self.portworx_volume),
        ];
        let found = disks.into_iter().find_map(|(field, disk)| disk.as_ref()?.in_tree(field));
        found.map_or(VolumeSource::Other, |(plugin, id)| VolumeSource::InTree { plugin, id })
    }
}

impl VolumeObjectWire<'_> {
    fn facts(&self) -> Result<VolumeFacts, Wrong> {
        let (meta, spec) = (&self.metadata, &self.spec);
        let claim_ref =
            |wire: &ClaimRefWire<'_>| ClaimRef { namespace: wire.namespace.boxed(), name: wire.name.boxed(), uid: wire.uid.boxed() };
        Ok(VolumeFacts {
            name: meta.name.boxed(),
            uid: meta.uid.boxed(),
            resource_version: meta.resource_version.boxed(),
            labels: meta.labels.boxed(),
            deleting: meta.deleting,
            bound_by_controller: meta.annotations.find("pv.kubernetes.io/bound-by-controller").is_some(),
            class: class_of(meta, &spec.storage_class_name),
            claim_ref: spec.claim_ref.as_ref().map(claim_ref),
            capacity: storage_of("spec.capacity", &spec.capacity)?.unwrap_or_default(),
            access_modes: spec.access_modes.iter().map(Text::boxed).collect(),
            volume_mode: mode_of(&spec.volume_mode),
            attributes_class: spec.volume_attributes_class_name.boxed(),
            node_affinity: spec.node_affinity.required.as_ref().map(SelectorWire::facts),
            is_available: self.status.phase.as_str() == "Available",
            source: spec.source(),
        })
    }
}

// === classes and drivers ===

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow)]
    provisioner: Text<'a>,
    #[serde(borrow)]
    volume_binding_mode: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    allowed_topologies: Vec<TopologyWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TopologyWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    match_label_expressions: Vec<RequirementWire<'a>>,
}

impl TopologyWire<'_> {
    fn term(&self) -> NodeSelectorTerm {
        let within = |requirement: NodeSelectorRequirement| NodeSelectorRequirement { operator: "In".into(), ..requirement };
        let expressions = self.match_label_expressions.iter().map(RequirementWire::facts).map(within);
        NodeSelectorTerm { match_expressions: expressions.collect(), match_fields: Vec::new() }
    }
}

impl ClassWire<'_> {
    fn facts(&self) -> ClassFacts {
        ClassFacts {
            name: self.metadata.name.boxed(),
            provisioner: self.provisioner.boxed(),
            binding_mode: match self.volume_binding_mode.as_str() {
                "WaitForFirstConsumer" => BindingMode::WaitForFirstConsumer,
                // The API server writes `Immediate` into a class that says nothing.
                _ => BindingMode::Immediate,
            },
            allowed_topologies: NodeSelector { terms: self.allowed_topologies.iter().map(TopologyWire::term).collect() },
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CsiNodeWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: CsiNodeSpec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CsiNodeSpec<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    drivers: Vec<NodeDriverWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeDriverWire<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    allocatable: CountWire,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CountWire {
    count: Option<i32>,
}

impl CsiNodeWire<'_> {
    fn facts(&self) -> CsiNodeFacts {
        CsiNodeFacts {
            name: self.metadata.name.boxed(),
            drivers: self.spec.drivers.iter().map(|driver| (driver.name.boxed(), driver.allocatable.count)).collect(),
            migrated: self.metadata.annotations.find("storage.alpha.kubernetes.io/migrated-plugins").unwrap_or_default().into(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CsiDriverWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(deserialize_with = "or_default")]
    spec: CsiDriverSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CsiDriverSpec {
    #[serde(deserialize_with = "or_default")]
    storage_capacity: bool,
    #[serde(deserialize_with = "or_default")]
    prevent_pod_scheduling_if_missing: bool,
}

impl CsiDriverWire<'_> {
    fn facts(&self) -> CsiDriverFacts {
        CsiDriverFacts {
            name: self.metadata.name.boxed(),
            storage_capacity: self.spec.storage_capacity,
            needed_on_node: self.spec.prevent_pod_scheduling_if_missing,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CapacityWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow)]
    storage_class_name: Text<'a>,
    #[serde(borrow)]
    node_topology: Option<LabelSelectorWire<'a>>,
    #[serde(borrow)]
    capacity: Option<QuantityText<'a>>,
    #[serde(borrow)]
    maximum_volume_size: Option<QuantityText<'a>>,
}

impl CapacityWire<'_> {
    fn facts(&self) -> Result<CapacityFacts, Wrong> {
        let amount = |field: &str, text: &Option<QuantityText<'_>>| text.as_ref().map(|text| quantity(field, "", text)).transpose();
        Ok(CapacityFacts {
            namespace: self.metadata.namespace.boxed(),
            name: self.metadata.name.boxed(),
            class: self.storage_class_name.boxed(),
            node_topology: self.node_topology.as_ref().map(LabelSelectorWire::facts),
            capacity: amount("capacity", &self.capacity)?,
            volume_max: amount("maximumVolumeSize", &self.maximum_volume_size)?,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AttachmentWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: AttachmentSpec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AttachmentSpec<'a> {
    #[serde(borrow)]
    attacher: Text<'a>,
    #[serde(borrow)]
    node_name: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    source: AttachedWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AttachedWire<'a> {
    #[serde(borrow)]
    persistent_volume_name: Option<Text<'a>>,
    #[serde(deserialize_with = "present")]
    inline_volume_spec: bool,
}

impl AttachmentWire<'_> {
    fn facts(&self) -> AttachmentFacts {
        let source = &self.spec.source;
        AttachmentFacts {
            name: self.metadata.name.boxed(),
            attacher: self.spec.attacher.boxed(),
            node: self.spec.node_name.boxed(),
            volume: source.persistent_volume_name.as_ref().filter(|_| !source.inline_volume_spec).map(Text::boxed),
        }
    }
}

// === watches ===

macro_rules! watched {
    ($($facts:ident, $wire:ident, $of:ident, $kind:literal, $plural:literal, $path:literal, |$object:ident| $read:expr;)*) => {$(
        impl Watched for $facts {
            const KIND: &'static str = $kind;
            const RESOURCE: &'static str = $plural;
            const PATH: &'static str = $path;
            const FIELD_SELECTOR: &'static str = "";
            // All others are older than any Kubernetes that is supported, or part of it at every setting.
            const OPTIONAL: bool = matches!(StorageKind::$of, StorageKind::DeviceClaim);
            type Wire<'a> = $wire<'a>;
            type Input = Input;

            fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
                &wire.metadata
            }
            fn facts($object: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
                $read
            }
            fn of(self, _cluster: ClusterId) -> Self {
                self
            }
            fn key(meta: &MetaWire<'_>) -> Box<str> {
                meta.display().into()
            }
            fn seen(self) -> Input {
                Input::Storage(StorageFacts::$of(Box::new(self)))
            }
            fn gone(_cluster: ClusterId, key: Box<str>) -> Input {
                Input::StorageGone(StorageKind::$of, key)
            }
            fn listed(_cluster: ClusterId, keys: Vec<Box<str>>) -> Input {
                Input::StorageListed(StorageKind::$of, keys.into_iter().collect())
            }
        }
    )*};
}

watched! {
    ClaimFacts, ClaimWire, Claim, "PersistentVolumeClaim", "persistentvolumeclaims", "/api/v1/persistentvolumeclaims", |wire| wire.facts();
    DeviceClaimFacts, DeviceClaimWire, DeviceClaim, "ResourceClaim", "resourceclaims", "/apis/resource.k8s.io/v1/resourceclaims", |wire| Ok(wire.facts());
    VolumeFacts, VolumeObjectWire, Volume, "PersistentVolume", "persistentvolumes", "/api/v1/persistentvolumes", |wire| wire.facts();
    ClassFacts, ClassWire, Class, "StorageClass", "storageclasses", "/apis/storage.k8s.io/v1/storageclasses", |wire| Ok(wire.facts());
    CsiNodeFacts, CsiNodeWire, CsiNode, "CSINode", "csinodes", "/apis/storage.k8s.io/v1/csinodes", |wire| Ok(wire.facts());
    CsiDriverFacts, CsiDriverWire, CsiDriver, "CSIDriver", "csidrivers", "/apis/storage.k8s.io/v1/csidrivers", |wire| Ok(wire.facts());
    CapacityFacts, CapacityWire, Capacity, "CSIStorageCapacity", "csistoragecapacities", "/apis/storage.k8s.io/v1/csistoragecapacities",
        |wire| wire.facts();
    AttachmentFacts, AttachmentWire, Attachment, "VolumeAttachment", "volumeattachments", "/apis/storage.k8s.io/v1/volumeattachments",
        |wire| Ok(wire.facts());
}

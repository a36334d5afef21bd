//! Objects of storage as they come and go: facts in; records brought in line, and what has changed for whoever waits, out.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{CapacityRecord, ClaimEntry, ClaimRecord, ClassRecord, Storage, VolumeEntry, VolumeRecord};
use crate::{
    model::{
        devices::DeviceClaimFacts,
        ids::ClusterId,
        storage::{
            AttachmentFacts, CapacityFacts, ClaimFacts, ClassFacts, CsiDriverFacts, CsiNodeFacts, StorageFacts, StorageKind, VolumeFacts,
        },
    },
    scheduler::nodes::Nodes,
};

/// An object of storage appeared or changed, in the words of queueing hints: what was known before, `None` if it is new; and what is known now.
#[derive(Clone, Debug, PartialEq)]
pub enum StorageChange {
    /// A claim.
    Claim(Option<Arc<ClaimFacts>>, Arc<ClaimFacts>),
    /// A volume.
    Volume(Option<Arc<VolumeFacts>>, Arc<VolumeFacts>),
    /// A class.
    Class(Option<Arc<ClassFacts>>, Arc<ClassFacts>),
    /// What drivers tell of a node.
    CsiNode(Option<Arc<CsiNodeFacts>>, Arc<CsiNodeFacts>),
    /// A driver.
    CsiDriver(Option<Arc<CsiDriverFacts>>, Arc<CsiDriverFacts>),
    /// What a driver can still make.
    Capacity(Option<Arc<CapacityFacts>>, Arc<CapacityFacts>),
    /// A volume is not attached to its node any more.
    Detached(Arc<AttachmentFacts>),
    /// A claim of devices.
    DeviceClaim(Option<Arc<DeviceClaimFacts>>, Arc<DeviceClaimFacts>),
}

impl StorageChange {
    /// Upstream's label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Claim(None, _) => "PersistentVolumeClaimAdd",
            Self::Claim(Some(_), _) => "PersistentVolumeClaimUpdate",
            Self::Volume(None, _) => "PersistentVolumeAdd",
            Self::Volume(Some(_), _) => "PersistentVolumeUpdate",
            Self::Class(None, _) => "StorageClassAdd",
            Self::Class(Some(_), _) => "StorageClassUpdate",
            Self::CsiNode(None, _) => "CSINodeAdd",
            Self::CsiNode(Some(_), _) => "CSINodeUpdate",
            Self::CsiDriver(None, _) => "CSIDriverAdd",
            Self::CsiDriver(Some(_), _) => "CSIDriverUpdate",
            Self::Capacity(None, _) => "CSIStorageCapacityAdd",
            Self::Capacity(Some(_), _) => "CSIStorageCapacityUpdate",
            Self::Detached(_) => "VolumeAttachmentDelete",
            Self::DeviceClaim(None, _) => "ResourceClaimAdd",
            Self::DeviceClaim(Some(_), _) => "ResourceClaimUpdate",
        }
    }
}

impl Nodes {
    /// Takes over an object of storage; what has changed, if anything that is read.
    pub fn apply_storage(&mut self, facts: StorageFacts) -> Option<StorageChange> {
        let (storage, table) = (&mut self.storage, &mut self.symbols);
        let change = match facts {
            StorageFacts::Claim(facts) => storage.apply_claim(ClaimRecord::new(*facts, table)),
            StorageFacts::Volume(facts) => storage.apply_volume(VolumeRecord::new(*facts, table)),
            StorageFacts::Class(facts) => {
                let record = Arc::new(ClassRecord::new(*facts, table));
                let (name, new) = (record.facts.name.clone(), record.facts.clone());
                let old = storage.classes.insert(name, record).map(|record| record.facts.clone());
                (old.as_ref() != Some(&new)).then_some(StorageChange::Class(old, new))
            }
            StorageFacts::CsiNode(facts) => {
                let new: Arc<CsiNodeFacts> = Arc::from(facts);
                let old = storage.csi_nodes.insert(new.name.clone(), new.clone());
                (old.as_ref() != Some(&new)).then_some(StorageChange::CsiNode(old, new))
            }
            StorageFacts::CsiDriver(facts) => {
                let new: Arc<CsiDriverFacts> = Arc::from(facts);
                let old = storage.csi_drivers.insert(new.name.clone(), new.clone());
                (old.as_ref() != Some(&new)).then_some(StorageChange::CsiDriver(old, new))
            }
            StorageFacts::Capacity(facts) => {
                let record = Arc::new(CapacityRecord::new(*facts, table));
                let new = record.facts.clone();
                let old = storage.capacities.insert(new.key().into(), record).map(|record| record.facts.clone());
                (old.as_ref() != Some(&new)).then_some(StorageChange::Capacity(old, new))
            }
            StorageFacts::Attachment(facts) => {
                self.attach(*facts);
                return None;
            }
            StorageFacts::DeviceClaim(facts) => {
                return storage.devices.apply(*facts, table).map(|(old, new)| StorageChange::DeviceClaim(old, new));
            }
        };
        storage.version += u64::from(change.is_some());
        change
    }

    /// An object of storage is gone.
    pub fn remove_storage(&mut self, kind: StorageKind, key: &str) -> Option<StorageChange> {
        let storage = &mut self.storage;
        let known = match kind {
            StorageKind::Claim => storage.claims.remove(key).is_some(),
            StorageKind::Volume => storage.remove_volume(key),
            StorageKind::Class => storage.classes.remove(key).is_some(),
            StorageKind::CsiNode => storage.csi_nodes.remove(key).is_some(),
            StorageKind::CsiDriver => storage.csi_drivers.remove(key).is_some(),
            StorageKind::Capacity => storage.capacities.remove(key).is_some(),
            StorageKind::Attachment => return self.detach(key).map(StorageChange::Detached),
            StorageKind::DeviceClaim => {
                storage.devices.remove(key);
                return None;
            }
        };
        storage.version += u64::from(known);
        None
    }

    /// A list is complete: the keys of what is known beyond it, sorted.
    pub fn storage_missing_from(&self, kind: StorageKind, listed: &FxHashSet<Box<str>>) -> Vec<Box<str>> {
        let storage = &self.storage;
        let mut missing: Vec<Box<str>> = match kind {
            StorageKind::Claim => storage.claims.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
            StorageKind::Volume => storage.volumes.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
            StorageKind::Class => storage.classes.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
            StorageKind::CsiNode => storage.csi_nodes.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
            StorageKind::CsiDriver => storage.csi_drivers.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
            StorageKind::Capacity => storage.capacities.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
            StorageKind::Attachment => storage.attachments.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
            StorageKind::DeviceClaim => storage.devices.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
        };
        missing.sort_unstable();
        missing
    }

    /// What is attached counts on one node alone.
    fn attach(&mut self, facts: AttachmentFacts) {
        let facts = Arc::new(facts);
        if self.storage.attachments.get(&facts.name) == Some(&facts) {
            return;
        }
        self.detach(&facts.name.clone());
        self.storage.attached.entry(facts.node.clone()).or_default().insert(facts.name.clone());
        self.touch(&facts.node);
        self.storage.attachments.insert(facts.name.clone(), facts);
    }

    fn detach(&mut self, name: &str) -> Option<Arc<AttachmentFacts>> {
        let facts = self.storage.attachments.remove(name)?;
        if let Some(names) = self.storage.attached.get_mut(&facts.node) {
            names.remove(name);
            if names.is_empty() {
                self.storage.attached.remove(&facts.node);
            }
        }
        self.touch(&facts.node);
        Some(facts)
    }

    fn touch(&mut self, node: &str) {
        if let Some(ix) = self.find(ClusterId::HOME, node) {
            self.touch_usage(ix);
        }
    }
}

impl Storage {
    /// What was booked in another version of the object is forgotten.
    fn apply_claim(&mut self, record: ClaimRecord) -> Option<StorageChange> {
        let new = record.facts.clone();
        let entry = ClaimEntry { record: Arc::new(record), booked: None };
        let Some(known) = self.claims.get_mut(&*new.key()) else {
            self.claims.insert(new.key().into(), entry);
            return Some(StorageChange::Claim(None, new));
        };
        let old = known.record.facts.clone();
        if old == new {
            return None;
        }
        let is_freed = std::mem::replace(known, entry).booked.is_some();
        let is_news = is_freed || ClaimFacts { resource_version: new.resource_version.clone(), ..(*old).clone() } != *new;
        is_news.then_some(StorageChange::Claim(Some(old), new))
    }

    fn apply_volume(&mut self, record: VolumeRecord) -> Option<StorageChange> {
        let new = record.facts.clone();
        let entry = VolumeEntry { record: Arc::new(record), booked: None };
        let Some(known) = self.volumes.get_mut(&new.name) else {
            self.volumes_by_class.entry(new.class.clone()).or_default().insert(new.name.clone());
            self.volumes.insert(new.name.clone(), entry);
            return Some(StorageChange::Volume(None, new));
        };
        let old = known.record.facts.clone();
        if old == new {
            return None;
        }
        let is_freed = std::mem::replace(known, entry).booked.is_some();
        if old.class != new.class {
            self.leave_class(&old);
            self.volumes_by_class.entry(new.class.clone()).or_default().insert(new.name.clone());
        }
        let is_news = is_freed || VolumeFacts { resource_version: new.resource_version.clone(), ..(*old).clone() } != *new;
        is_news.then_some(StorageChange::Volume(Some(old), new))
    }

    fn remove_volume(&mut self, name: &str) -> bool {
        let Some(entry) = self.volumes.remove(name) else { return false };
        self.leave_class(&entry.record.facts);
        true
    }

    fn leave_class(&mut self, facts: &VolumeFacts) {
        if let Some(names) = self.volumes_by_class.get_mut(&facts.class) {
            names.remove(&facts.name);
            if names.is_empty() {
                self.volumes_by_class.remove(&facts.class);
            }
        }
    }
}

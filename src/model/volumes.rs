//! Volumes of a pod, as far as placing it depends on them. In: what the object lists. Out: claims by name, and disks that a pod names itself.

use super::in_tree::InTreePlugin;

/// What a pod mounts of which rules read something; never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodVolumes {
    /// In the object's order.
    pub list: Box<[PodVolume]>,
    /// Name and UID of the pod, where it has ephemeral claims: these must be its own.
    pub owner: Option<(Box<str>, Box<str>)>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PodVolume {
    /// `persistentVolumeClaim`, by its name.
    Claim(Box<str>),
    /// `ephemeral`: a claim that is made for the pod, by the name that it gets.
    Ephemeral(Box<str>),
    /// A disk that the pod names itself.
    Disk(Disk),
    /// `csi`: an inline volume of this driver.
    Csi(Box<str>),
}

/// A disk that a pod names itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Disk {
    /// One of a plugin that was built in.
    InTree {
        /// Which.
        plugin: InTreePlugin,
        /// Name, id or URI of the disk.
        id: Box<str>,
        /// Mounted for reading alone.
        read_only: bool,
    },
    /// `iscsi`.
    Iscsi {
        /// The target.
        iqn: Box<str>,
        /// Mounted for reading alone.
        read_only: bool,
    },
    /// `rbd`.
    Rbd {
        /// Addresses of the cluster.
        monitors: Box<[Box<str>]>,
        /// The pool.
        pool: Box<str>,
        /// The image.
        image: Box<str>,
        /// Mounted for reading alone.
        read_only: bool,
    },
}

impl Disk {
    /// Whether two pods that name these disks cannot both run on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::InTree { plugin: InTreePlugin::GcePd, id, read_only },
                Self::InTree { plugin: InTreePlugin::GcePd, id: other_id, read_only: other_read_only },
            ) => id == other_id && !(*read_only && *other_read_only),
            (Self::InTree { plugin: InTreePlugin::AwsEbs, id, .. }, Self::InTree { plugin: InTreePlugin::AwsEbs, id: other, .. }) => {
                id == other
            }
            (Self::Iscsi { iqn, read_only }, Self::Iscsi { iqn: other_iqn, read_only: other_read_only }) => {
                iqn == other_iqn && !(*read_only && *other_read_only)
            }
            (
                Self::Rbd { monitors, pool, image, read_only },
                Self::Rbd { monitors: other_monitors, pool: other_pool, image: other_image, read_only: other_read_only },
            ) => {
                let overlap = monitors.iter().any(|monitor| other_monitors.contains(monitor));
                overlap && pool == other_pool && image == other_image && !(*read_only && *other_read_only)
            }
            _ => false,
        }
    }

    /// Whether two pods could be in each other's way because of it.
    pub fn is_exclusive(&self) -> bool {
        !matches!(self, Self::InTree { plugin, .. } if !matches!(plugin, InTreePlugin::GcePd | InTreePlugin::AwsEbs))
    }
}

impl PodVolumes {
    /// Names of claims, those of ephemeral volumes left out.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter_map(|volume| if let PodVolume::Claim(name) = volume { Some(&**name) } else { None })
    }

    /// Names of all claims, and whether each is ephemeral.
    pub fn all_claims(&self) -> impl Iterator<Item = (&str, bool)> {
        self.list.iter().filter_map(|volume| match volume {
            PodVolume::Claim(name) => Some((&**name, false)),
            PodVolume::Ephemeral(name) => Some((&**name, true)),
            PodVolume::Disk(_) | PodVolume::Csi(_) => None,
        })
    }

    /// Whether there is a claim of any kind.
    pub fn has_claims(&self) -> bool {
        self.all_claims().next().is_some()
    }

    /// Disks that the pod names itself.
    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.list.iter().filter_map(|volume| if let PodVolume::Disk(disk) = volume { Some(disk) } else { None })
    }

    /// Disks of plugins that were built in, with their ids.
    pub fn in_tree(&self) -> impl Iterator<Item = (InTreePlugin, &str)> {
        self.disks().filter_map(|disk| if let Disk::InTree { plugin, id, .. } = disk { Some((*plugin, &**id)) } else { None })
    }

    /// Whether anything of it is attached to the node by a driver.
    pub fn is_attached(&self) -> bool {
        self.has_claims() || self.in_tree().next().is_some()
    }
}

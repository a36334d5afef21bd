//! One entry of a pod's `volumes`: JSON in; of which kind it is, and what of it matters to scheduling, out.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::json::{Text, or_default, present};
use crate::model::{
    in_tree::InTreePlugin,
    placement::{TravelFacts, generalised_claim},
    volumes::{Disk, PodVolume},
};

/// The volume that the API server adds to every pod for its service account's token.
const OWN_TOKEN: &str = "kube-api-access-";

/// A volume. Its kind is the one field beside `name`; read by hand, so that a kind that we do not know is seen as one.
#[derive(Debug, Default)]
pub struct VolumeWire<'a> {
    name: Text<'a>,
    kind: Kind<'a>,
}

#[derive(Debug, Default)]
enum Kind<'a> {
    /// Travels with the pod as it is: `emptyDir`, `configMap`, `secret`, `downwardAPI`; also a volume that says nothing, which is an `emptyDir`.
    #[default]
    Portable,
    Projected(ProjectedWire),
    Claim(ClaimWire<'a>),
    Image(ImageWire<'a>),
    HostPath,
    Csi(CsiWire<'a>),
    Nfs(NfsWire<'a>),
    /// A disk, by its field.
    Disk(Text<'a>, Box<DiskWire<'a>>),
    /// Any other, by its field.
    Other(Text<'a>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimWire<'a> {
    #[serde(borrow)]
    claim_name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageWire<'a> {
    #[serde(borrow)]
    reference: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CsiWire<'a> {
    #[serde(borrow)]
    driver: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NfsWire<'a> {
    #[serde(borrow)]
    server: Text<'a>,
}

/// What disks of all kinds say of themselves; the field in which a `PersistentVolume` has one is the same.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DiskWire<'a> {
    #[serde(borrow)]
    pd_name: Text<'a>,
    #[serde(rename = "volumeID", borrow)]
    volume_id: Text<'a>,
    #[serde(borrow)]
    volume_path: Text<'a>,
    #[serde(rename = "diskURI", borrow)]
    disk_uri: Text<'a>,
    #[serde(borrow)]
    share_name: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    iqn: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    monitors: Vec<Text<'a>>,
    #[serde(borrow)]
    pool: Text<'a>,
    #[serde(borrow)]
    image: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    read_only: bool,
}

/// The pool of an RBD image that names none.
const RBD_POOL: &str = "rbd";

impl DiskWire<'_> {
    /// The plugin, and what it calls the disk. A disk of Azure that is not managed never became one of the driver.
    pub(super) fn in_tree(&self, field: &str) -> Option<(InTreePlugin, Box<str>)> {
        let (plugin, id) = match field {
            "gcePersistentDisk" => (InTreePlugin::GcePd, &self.pd_name),
            "awsElasticBlockStore" => (InTreePlugin::AwsEbs, &self.volume_id),
            "cinder" => (InTreePlugin::Cinder, &self.volume_id),
            "azureDisk" if self.kind.is_empty() || self.kind.as_str().eq_ignore_ascii_case("managed") => {
                (InTreePlugin::AzureDisk, &self.disk_uri)
            }
            "azureFile" => (InTreePlugin::AzureFile, &self.share_name),
            "vsphereVolume" => (InTreePlugin::Vsphere, &self.volume_path),
            "portworxVolume" => (InTreePlugin::Portworx, &self.volume_id),
            _ => return None,
        };
        Some((plugin, id.boxed()))
    }

    fn disk(&self, field: &str) -> Option<Disk> {
        let read_only = self.read_only;
        match field {
            "iscsi" => Some(Disk::Iscsi { iqn: self.iqn.boxed(), read_only }),
            "rbd" => Some(Disk::Rbd {
                monitors: self.monitors.iter().map(Text::boxed).collect(),
                pool: self.pool.some().unwrap_or_else(|| RBD_POOL.into()),
                image: self.image.boxed(),
                read_only,
            }),
            _ => self.in_tree(field).map(|(plugin, id)| Disk::InTree { plugin, id, read_only }),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProjectedWire {
    #[serde(deserialize_with = "or_default")]
    sources: Vec<SourceWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SourceWire {
    #[serde(deserialize_with = "present")]
    service_account_token: bool,
}

impl VolumeWire<'_> {
    /// What rules read of it. A claim that is made for the pod bears its name.
    pub fn mounted(&self, pod: &str) -> Option<PodVolume> {
        match &self.kind {
            Kind::Claim(claim) => Some(PodVolume::Claim(claim.claim_name.boxed())),
            Kind::Other(kind) if kind.as_str() == "ephemeral" => Some(PodVolume::Ephemeral(format!("{pod}-{}", self.name.as_str()).into())),
            Kind::Disk(field, disk) => disk.disk(field.as_str()).map(PodVolume::Disk),
            Kind::Csi(csi) => Some(PodVolume::Csi(csi.driver.boxed())),
            _ => None,
        }
    }

    /// The image, if it is one.
    pub fn image(&self) -> Option<&Text<'_>> {
        if let Kind::Image(image) = &self.kind { Some(&image.reference) } else { None }
    }

    /// Notes what matters where the pod may leave home.
    pub fn travel(&self, pod: &str, facts: &mut TravelFacts) {
        let note = |list: &mut Vec<Box<str>>, text: &str| {
            if !list.iter().any(|known| **known == *text) {
                list.push(text.into());
            }
        };
        match &self.kind {
            Kind::Portable => {}
            Kind::Projected(projected) => {
                facts.token |= !self.name.as_str().starts_with(OWN_TOKEN) && projected.sources.iter().any(|one| one.service_account_token);
            }
            Kind::Claim(claim) => note(&mut facts.claims, &generalised_claim(claim.claim_name.as_str(), pod)),
            Kind::Image(_) => facts.image_volumes += 1,
            Kind::HostPath => facts.host_path = true,
            Kind::Csi(csi) => note(&mut facts.csi_drivers, csi.driver.as_str()),
            Kind::Nfs(nfs) => note(&mut facts.nfs_servers, nfs.server.as_str()),
            Kind::Other(kind) | Kind::Disk(kind, _) => drop(facts.fixed_volume.get_or_insert_with(|| kind.boxed())),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for VolumeWire<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VolumeVisitor)
    }
}

struct VolumeVisitor;

impl<'de> Visitor<'de> for VolumeVisitor {
    type Value = VolumeWire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a volume")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut volume = VolumeWire::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let kind = match key.as_str() {
                "name" => {
                    volume.name = map.next_value()?;
                    None
                }
                "emptyDir" | "configMap" | "secret" | "downwardAPI" => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
                "projected" => map.next_value::<Option<_>>()?.map(Kind::Projected),
                "persistentVolumeClaim" => map.next_value::<Option<_>>()?.map(Kind::Claim),
                "image" => map.next_value::<Option<_>>()?.map(Kind::Image),
                "csi" => map.next_value::<Option<_>>()?.map(Kind::Csi),
                "nfs" => map.next_value::<Option<_>>()?.map(Kind::Nfs),
                "gcePersistentDisk"
                | "awsElasticBlockStore"
                | "azureDisk"
                | "azureFile"
                | "cinder"
                | "vsphereVolume"
                | "portworxVolume"
                | "iscsi"
                | "rbd" => map.next_value::<Option<_>>()?.map(|disk| Kind::Disk(key, disk)),
                "hostPath" => map.next_value::<Option<IgnoredAny>>()?.map(|_| Kind::HostPath),
                _ => map.next_value::<Option<IgnoredAny>>()?.map(|_| Kind::Other(key)),
            };
            volume.kind = kind.unwrap_or(volume.kind);
        }
        Ok(volume)
    }
}

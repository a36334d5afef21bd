//! One entry of a pod's `volumes`: JSON in; of which kind it is, and what of it matters to scheduling, out.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::json::{Text, or_default, present};
use crate::model::placement::{TravelFacts, generalised_claim};

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
    /// Whether it is a claim, or makes one.
    pub fn is_claim(&self) -> bool {
        matches!(&self.kind, Kind::Claim(_)) || matches!(&self.kind, Kind::Other(kind) if kind.as_str() == "ephemeral")
    }

    /// Whether only one node or pod may use it.
    pub fn is_exclusive_disk(&self) -> bool {
        let disks = ["gcePersistentDisk", "awsElasticBlockStore", "rbd", "iscsi"];
        matches!(&self.kind, Kind::Other(kind) if disks.contains(&kind.as_str()))
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
            Kind::Other(kind) => drop(facts.fixed_volume.get_or_insert_with(|| kind.boxed())),
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
                "hostPath" => map.next_value::<Option<IgnoredAny>>()?.map(|_| Kind::HostPath),
                _ => map.next_value::<Option<IgnoredAny>>()?.map(|_| Kind::Other(key)),
            };
            volume.kind = kind.unwrap_or(volume.kind);
        }
        Ok(volume)
    }
}

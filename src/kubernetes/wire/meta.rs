//! The parts that all objects share: metadata, list metadata and the `Status` that stands for a failure.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::json::{Pairs, Text, or_default, present};
use crate::model::time::Timestamp;

/// What we read of `metadata`. `managedFields` is skipped by the parser and never allocated.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetaWire<'a> {
    /// `metadata.name`.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// `metadata.namespace`.
    #[serde(borrow)]
    pub namespace: Text<'a>,
    /// `metadata.uid`.
    #[serde(borrow)]
    pub uid: Text<'a>,
    /// `metadata.resourceVersion`.
    #[serde(borrow)]
    pub resource_version: Text<'a>,
    /// `metadata.generation`.
    #[serde(deserialize_with = "or_default")]
    pub generation: i64,
    /// `metadata.creationTimestamp`, RFC 3339.
    #[serde(borrow)]
    pub creation_timestamp: Text<'a>,
    /// Whether `metadata.deletionTimestamp` is set.
    #[serde(rename = "deletionTimestamp", deserialize_with = "present")]
    pub deleting: bool,
    /// `metadata.labels`.
    #[serde(borrow)]
    pub labels: Pairs<'a>,
    /// Those of `metadata.annotations` that mean something here.
    #[serde(borrow)]
    pub annotations: Annotations<'a>,
    /// `metadata.ownerReferences`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub owner_references: Vec<OwnerWire<'a>>,
}

/// An owner.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OwnerWire<'a> {
    /// `kind`.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// `apiVersion`.
    #[serde(rename = "apiVersion", borrow)]
    pub api_version: Text<'a>,
    /// `name`.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// `uid`.
    #[serde(borrow)]
    pub uid: Text<'a>,
    /// `controller`: the one owner that manages the object.
    #[serde(deserialize_with = "or_default")]
    pub controller: bool,
}

/// A condition of a status.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConditionWire<'a> {
    /// `type`.
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    /// `status`.
    #[serde(borrow)]
    pub status: Text<'a>,
    /// `reason`.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// `message`.
    #[serde(borrow)]
    pub message: Text<'a>,
}

/// Annotations with our prefix, those about storage, and the mark of mirror pods; all others are skipped unread. They may be long and many.
#[derive(Debug, Default)]
pub struct Annotations<'a>(Vec<(Text<'a>, Text<'a>)>);

/// Our own annotations.
const OURS: &str = "isobar.dev/";
/// On the mirror that a kubelet makes of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// About claims, volumes and nodes with drivers.
const OF_STORAGE: [&str; 5] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.beta.kubernetes.io/storage-class",
    "storage.alpha.kubernetes.io/migrated-plugins",
];

impl Annotations<'_> {
    /// The value under a key, be it empty.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.as_str() == key).map(|(_, value)| value.as_str())
    }

    /// The value under one of our keys, unless it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.as_str() == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether the pod mirrors a static one.
    pub fn is_mirror(&self) -> bool {
        self.0.iter().any(|(name, _)| name.as_str() == MIRROR)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if key.as_str().starts_with(OURS) || key.as_str() == MIRROR || OF_STORAGE.contains(&key.as_str()) {
                kept.push((key, map.next_value()?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Annotations(kept))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Annotations::default())
    }
}

impl MetaWire<'_> {
    /// When the object was made; the epoch if it does not say.
    pub fn created(&self) -> Timestamp {
        let millis = self.creation_timestamp.as_str().parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
        Timestamp(u64::try_from(millis).unwrap_or(0))
    }

    /// `namespace/name`, or the name alone of what has no namespace.
    pub fn display(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.as_str().to_owned(),
            namespace => format!("{namespace}/{}", self.name.as_str()),
        }
    }
}

/// An object of which only the metadata counts: one that is gone, or one that cannot be read as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NamedWire<'a> {
    /// `metadata`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub metadata: MetaWire<'a>,
}

/// A bookmark: how far the stream is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct BookmarkWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(super) metadata: BookmarkMetaWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BookmarkMetaWire<'a> {
    #[serde(borrow)]
    pub(super) resource_version: Text<'a>,
    #[serde(borrow)]
    pub(super) annotations: Pairs<'a>,
}

/// `metadata` of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMetaWire<'a> {
    /// The version from which to watch on.
    #[serde(borrow)]
    pub resource_version: Text<'a>,
    /// Token of the next page, empty at the end.
    #[serde(rename = "continue", borrow)]
    pub next: Text<'a>,
}

/// A failure as API servers describe it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StatusWire<'a> {
    /// The HTTP status it stands for.
    #[serde(deserialize_with = "or_default")]
    pub code: u16,
    /// One word.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// For people.
    #[serde(borrow)]
    pub message: Text<'a>,
}

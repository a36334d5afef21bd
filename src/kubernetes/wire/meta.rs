//! The parts that all objects share: metadata, list metadata and the `Status` that stands for a failure.

use serde::Deserialize;

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
    /// `metadata.creationTimestamp`, RFC 3339.
    #[serde(borrow)]
    pub creation_timestamp: Text<'a>,
    /// Whether `metadata.deletionTimestamp` is set.
    #[serde(rename = "deletionTimestamp", deserialize_with = "present")]
    pub deleting: bool,
    /// `metadata.labels`.
    #[serde(borrow)]
    pub labels: Pairs<'a>,
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

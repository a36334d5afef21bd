//! Slim wire types: JSON of pods and nodes in, facts out, and nothing allocated for what scheduling does not read.
//!
//! A typed Pod costs 60-110 us and 40 KB to decode (measured, 5.2 KB of JSON); most of it is thrown away at once. Here every field is optional,
//! unknown ones are skipped by the parser, texts borrow from the buffer, and only the facts are allocated. What cannot be read (a wrong type, a
//! bad quantity) is a [`BadObject`] with the object's name: counted and skipped by the watch, never a reason to stop.

mod budget;
mod devices;
mod json;
mod meta;
mod named;
mod node;
mod pod;
mod pod_group;
mod storage;
mod stream;
mod terms;
#[cfg(test)]
mod tests;
mod volume;

use std::borrow::Cow;

use serde::Deserialize;

pub use self::{
    json::Text,
    meta::{MetaWire, NamedWire, StatusWire},
    named::NamespaceFacts,
    pod_group::CONDITION as POD_GROUP_CONDITION,
    stream::{Happening, Page, read_happening, read_page},
    terms::{ReplicaSet, ReplicationController, Selecting, SelectingFacts, Service, StatefulSet},
};
use crate::model::{
    ids::{ClusterId, NodeKey, PodUid},
    node::NodeFacts,
    pod::PodFacts,
};
use crate::scheduler::input::Input;

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?} cannot be read and is ignored: {why}")]
pub struct BadObject {
    /// `Pod` or `Node`.
    pub kind: &'static str,
    /// `namespace/name` as far as it can be told.
    pub name: String,
    /// What is wrong.
    pub why: String,
    /// `metadata.uid` or name under which the object is known; kept so that a list does not declare it gone.
    pub key: Box<str>,
    /// `metadata.resourceVersion`, so that the stream goes on after it.
    pub resource_version: Box<str>,
}

/// A kind of object that is listed and watched.
pub trait Watched: Sized + Send + 'static {
    /// For logs.
    const KIND: &'static str;
    /// For metrics: the plural.
    const RESOURCE: &'static str;
    /// Path of the collection.
    const PATH: &'static str;
    /// Field selector, already escaped for a query; empty for everything.
    const FIELD_SELECTOR: &'static str;
    /// An API server may not know the kind; then there are none.
    const OPTIONAL: bool = false;
    /// What is read of the JSON.
    type Wire<'a>: Deserialize<'a>;
    /// What is made of it, for whoever it is for.
    type Input: Send;

    /// Metadata of what was read.
    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a>;
    /// Facts from what was read, as of the home cluster. The error is what is wrong.
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>>;
    /// The same in another cluster.
    #[must_use]
    fn of(self, cluster: ClusterId) -> Self;
    /// Under which name the cache files the object.
    fn key(meta: &MetaWire<'_>) -> Box<str>;
    /// The object was seen.
    fn seen(self) -> Self::Input;
    /// The object is gone.
    fn gone(cluster: ClusterId, key: Box<str>) -> Self::Input;
    /// The list is complete.
    fn listed(cluster: ClusterId, keys: Vec<Box<str>>) -> Self::Input;
}

impl Watched for PodFacts {
    const KIND: &'static str = "Pod";
    const RESOURCE: &'static str = "pods";
    const PATH: &'static str = "/api/v1/pods";
    /// A pod that ends leaves the selection and arrives as deleted, as kube-scheduler's informer has it.
    const FIELD_SELECTOR: &'static str = "status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
    type Wire<'a> = pod::PodWire<'a>;
    type Input = Input;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.metadata
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        wire.facts()
    }
    fn of(self, cluster: ClusterId) -> Self {
        Self { cluster, ..self }
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.uid.boxed()
    }
    fn seen(self) -> Input {
        Input::Pod(Box::new(self))
    }
    fn gone(cluster: ClusterId, key: Box<str>) -> Input {
        Input::PodGone(cluster, key.into())
    }
    fn listed(cluster: ClusterId, keys: Vec<Box<str>>) -> Input {
        Input::PodsListed(cluster, keys.into_iter().map(PodUid::from).collect())
    }
}

impl Watched for NodeFacts {
    const KIND: &'static str = "Node";
    const RESOURCE: &'static str = "nodes";
    const PATH: &'static str = "/api/v1/nodes";
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = node::NodeWire<'a>;
    type Input = Input;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.metadata
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        wire.facts()
    }
    fn of(self, cluster: ClusterId) -> Self {
        Self { cluster, ..self }
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.name.boxed()
    }
    fn seen(self) -> Input {
        Input::Node(Box::new(self))
    }
    fn gone(cluster: ClusterId, key: Box<str>) -> Input {
        Input::NodeGone(NodeKey { cluster, name: key })
    }
    fn listed(cluster: ClusterId, keys: Vec<Box<str>>) -> Input {
        Input::NodesListed(cluster, keys.into_iter().collect())
    }
}

/// Reads one object from its JSON: what `explain` does with files, and the bench with samples.
pub fn read_object<K: Watched>(json: &[u8], cluster: ClusterId) -> Result<K, BadObject> {
    let why = match serde_json::from_slice::<K::Wire<'_>>(json) {
        Ok(wire) => match K::facts(&wire) {
            Ok(facts) => return Ok(facts.of(cluster)),
            Err(why) => why,
        },
        Err(error) => error.to_string().into(),
    };
    let named: meta::NamedWire<'_> = serde_json::from_slice(json).unwrap_or_default();
    Err(bad::<K>(&named.metadata, why.into_owned()))
}

/// As [`read_object`], from a tree that was parsed before (YAML files, or a page of which one object is bad).
pub fn read_value<K: Watched>(value: &serde_json::Value, cluster: ClusterId) -> Result<K, BadObject> {
    let why = match K::Wire::deserialize(value) {
        Ok(wire) => match K::facts(&wire) {
            Ok(facts) => return Ok(facts.of(cluster)),
            Err(why) => why,
        },
        Err(error) => error.to_string().into(),
    };
    let named = meta::NamedWire::deserialize(value).unwrap_or_default();
    Err(bad::<K>(&named.metadata, why.into_owned()))
}

fn bad<K: Watched>(meta: &MetaWire<'_>, why: String) -> BadObject {
    BadObject { kind: K::KIND, name: meta.display(), why, key: K::key(meta), resource_version: meta.resource_version.boxed() }
}

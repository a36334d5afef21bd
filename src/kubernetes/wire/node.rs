//! A Node object: JSON in, [`NodeFacts`] out.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    json::{Pairs, QuantityText, Text, or_default},
    meta::MetaWire,
    pod::resource_list,
};
use crate::model::{
    features::NodeFeatures,
    ids::ClusterId,
    node::{ImageFacts, NodeFacts},
    placement::VIRTUAL_NODE,
    taints::{Effect, TaintFacts},
};

/// What scheduling reads of a Node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(super) metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: NodeSpecWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    status: NodeStatusWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpecWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    taints: Vec<TaintWire<'a>>,
    #[serde(deserialize_with = "or_default")]
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TaintWire<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    value: Text<'a>,
    #[serde(borrow)]
    effect: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatusWire<'a> {
    #[serde(borrow)]
    allocatable: Pairs<'a, QuantityText<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    images: Vec<ImageWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    node_info: NodeInfoWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    declared_features: Vec<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ImageWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    names: Vec<Text<'a>>,
    #[serde(deserialize_with = "or_default")]
    size_bytes: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeInfoWire<'a> {
    #[serde(borrow)]
    architecture: Text<'a>,
    #[serde(borrow)]
    operating_system: Text<'a>,
}

impl NodeWire<'_> {
    pub(super) fn facts(&self) -> Result<NodeFacts, Cow<'static, str>> {
        let taint = |taint: &TaintWire<'_>| {
            // A taint with an effect that we do not know keeps nobody away, as upstream has it.
            let effect = Effect::parse(taint.effect.as_str())?;
            Some(TaintFacts { key: taint.key.boxed(), value: taint.value.boxed(), effect })
        };
        let image =
            |image: &ImageWire<'_>| ImageFacts { names: image.names.iter().map(Text::boxed).collect(), size_bytes: image.size_bytes };
        if self.metadata.name.is_empty() {
            return Err("it has no name".into());
        }
        Ok(NodeFacts {
            cluster: ClusterId::HOME,
            name: self.metadata.name.boxed(),
            uid: self.metadata.uid.boxed(),
            labels: self.metadata.labels.boxed(),
            taints: self.spec.taints.iter().filter_map(taint).collect(),
            unschedulable: self.spec.unschedulable,
            allocatable: resource_list("status.allocatable", &self.status.allocatable)?,
            images: self.status.images.iter().map(image).collect(),
            architecture: self.status.node_info.architecture.boxed(),
            operating_system: self.status.node_info.operating_system.boxed(),
            features: NodeFeatures::declared(self.status.declared_features.iter().map(Text::as_str)),
            is_virtual: self.metadata.labels.get(VIRTUAL_NODE).is_some(),
        })
    }
}

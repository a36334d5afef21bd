//! Home objects of which only name and labels count: namespaces, for their placement and for terms that choose them. JSON in, facts out.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Watched, json::or_default, meta::MetaWire};
use crate::{
    model::{ids::ClusterId, labels::LabelFacts},
    scheduler::input::Input,
};

/// What is read of a Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.labels`.
    pub labels: LabelFacts,
}

/// An object of which only the metadata is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LabelledWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
}

impl Watched for NamespaceFacts {
    const KIND: &'static str = "Namespace";
    const RESOURCE: &'static str = "namespaces";
    const PATH: &'static str = "/api/v1/namespaces";
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = LabelledWire<'a>;
    type Input = Input;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.metadata
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        Ok(Self { name: wire.metadata.name.boxed(), labels: wire.metadata.labels.boxed() })
    }
    fn of(self, _cluster: ClusterId) -> Self {
        self
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.name.boxed()
    }
    fn seen(self) -> Input {
        Input::Namespace(self.name, Some(self.labels))
    }
    fn gone(_cluster: ClusterId, key: Box<str>) -> Input {
        Input::Namespace(key, None)
    }
    fn listed(_cluster: ClusterId, keys: Vec<Box<str>>) -> Input {
        Input::NamespacesListed(keys.into_iter().collect())
    }
}

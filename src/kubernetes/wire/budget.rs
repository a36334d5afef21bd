//! `PodDisruptionBudgets` of home: JSON in, [`BudgetFacts`] out.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Watched,
    json::{Pairs, or_default},
    meta::MetaWire,
    terms::LabelSelectorWire,
};
use crate::{
    model::{budget::BudgetFacts, ids::ClusterId},
    scheduler::input::Input,
};

/// What preemption reads of a `PodDisruptionBudget`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct BudgetWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: BudgetSpec<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    status: BudgetStatus<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BudgetSpec<'a> {
    #[serde(borrow)]
    selector: Option<LabelSelectorWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus<'a> {
    #[serde(deserialize_with = "or_default")]
    disruptions_allowed: i32,
    /// Name to time; only the names count.
    #[serde(borrow)]
    disrupted_pods: Pairs<'a, IgnoredAny>,
}

impl Watched for BudgetFacts {
    const KIND: &'static str = "PodDisruptionBudget";
    const RESOURCE: &'static str = "poddisruptionbudgets";
    const PATH: &'static str = "/apis/policy/v1/poddisruptionbudgets";
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = BudgetWire<'a>;
    type Input = Input;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.metadata
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        let BudgetWire { metadata, spec, status } = wire;
        Ok(Self {
            namespace: metadata.namespace.boxed(),
            name: metadata.name.boxed(),
            selector: spec.selector.as_ref().map(LabelSelectorWire::facts),
            allowed: status.disruptions_allowed,
            disrupted: status.disrupted_pods.0.iter().map(|(name, _)| name.boxed()).collect(),
        })
    }
    fn of(self, _cluster: ClusterId) -> Self {
        self
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.display().into()
    }
    fn seen(self) -> Input {
        Input::Budget(Box::new(self))
    }
    fn gone(_cluster: ClusterId, key: Box<str>) -> Input {
        let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
        Input::BudgetGone(namespace.into(), name.into())
    }
    fn listed(_cluster: ClusterId, keys: Vec<Box<str>>) -> Input {
        Input::BudgetsListed(keys.into_iter().collect())
    }
}

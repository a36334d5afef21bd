//! What pods want of other pods, and the objects whose selectors choose pods: JSON in, facts out.

use std::{borrow::Cow, marker::PhantomData};

use serde::Deserialize;

use super::{
    Watched,
    json::{Pairs, Text, or_default},
    meta::MetaWire,
};
use crate::{
    model::{
        affinity::NodeSelectorRequirement,
        ids::ClusterId,
        selector::LabelSelectorFacts,
        terms::{AffinityTermFacts, OwnerFacts, PodAffinityFacts, SelectingKind, SpreadFacts, WhenUnsatisfiable},
    },
    scheduler::input::Input,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RequirementWire<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    operator: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    values: Vec<Text<'a>>,
}

impl RequirementWire<'_> {
    pub(super) fn facts(&self) -> NodeSelectorRequirement {
        NodeSelectorRequirement {
            key: self.key.boxed(),
            operator: self.operator.boxed(),
            values: self.values.iter().map(Text::boxed).collect(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LabelSelectorWire<'a> {
    #[serde(borrow)]
    match_labels: Pairs<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    match_expressions: Vec<RequirementWire<'a>>,
}

impl LabelSelectorWire<'_> {
    pub(super) fn facts(&self) -> LabelSelectorFacts {
        LabelSelectorFacts {
            match_labels: self.match_labels.boxed(),
            match_expressions: self.match_expressions.iter().map(RequirementWire::facts).collect(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodAffinityWire<'a> {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution", borrow, deserialize_with = "or_default")]
    required: Vec<AffinityTermWire<'a>>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution", borrow, deserialize_with = "or_default")]
    preferred: Vec<WeightedTermWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WeightedTermWire<'a> {
    #[serde(deserialize_with = "or_default")]
    weight: i32,
    #[serde(borrow, deserialize_with = "or_default")]
    pod_affinity_term: AffinityTermWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AffinityTermWire<'a> {
    #[serde(borrow)]
    label_selector: Option<LabelSelectorWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    namespaces: Vec<Text<'a>>,
    #[serde(borrow)]
    topology_key: Text<'a>,
    #[serde(borrow)]
    namespace_selector: Option<LabelSelectorWire<'a>>,
}

impl AffinityTermWire<'_> {
    fn facts(&self) -> AffinityTermFacts {
        AffinityTermFacts {
            namespaces: self.namespaces.iter().map(Text::boxed).collect(),
            namespace_selector: self.namespace_selector.as_ref().map(LabelSelectorWire::facts),
            label_selector: self.label_selector.as_ref().map(LabelSelectorWire::facts),
            topology_key: self.topology_key.boxed(),
        }
    }
}

/// Affinity and anti-affinity; nothing where there are no terms.
pub(super) fn pod_affinity(with: &PodAffinityWire<'_>, without: &PodAffinityWire<'_>) -> Option<Box<PodAffinityFacts>> {
    let hard = |wire: &PodAffinityWire<'_>| wire.required.iter().map(AffinityTermWire::facts).collect();
    let soft = |wire: &PodAffinityWire<'_>| wire.preferred.iter().map(|term| (term.weight, term.pod_affinity_term.facts())).collect();
    let facts =
        PodAffinityFacts { required: hard(with), anti_required: hard(without), preferred: soft(with), anti_preferred: soft(without) };
    (facts != PodAffinityFacts::default()).then(|| Box::new(facts))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SpreadWire<'a> {
    #[serde(deserialize_with = "or_default")]
    max_skew: i32,
    #[serde(borrow)]
    topology_key: Text<'a>,
    #[serde(borrow)]
    when_unsatisfiable: Text<'a>,
    #[serde(borrow)]
    label_selector: Option<LabelSelectorWire<'a>>,
    min_domains: Option<i32>,
    #[serde(borrow)]
    node_affinity_policy: Text<'a>,
    #[serde(borrow)]
    node_taints_policy: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    match_label_keys: Vec<Text<'a>>,
}

impl SpreadWire<'_> {
    /// `matchLabelKeys` become requirements of the selector for those labels that the pod has; an absent selector goes on matching nothing.
    pub(super) fn facts(&self, labels: &Pairs<'_>) -> SpreadFacts {
        let mut selector = self.label_selector.as_ref().map(LabelSelectorWire::facts);
        for key in &self.match_label_keys {
            if let (Some(selector), Some(value)) = (&mut selector, labels.get(key.as_str())) {
                selector.match_labels.push((key.boxed(), value.into()));
            }
        }
        SpreadFacts {
            max_skew: self.max_skew,
            topology_key: self.topology_key.boxed(),
            when: match self.when_unsatisfiable.as_str() {
                "DoNotSchedule" => WhenUnsatisfiable::DoNotSchedule,
                "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
                _ => WhenUnsatisfiable::Unknown,
            },
            min_domains: self.min_domains,
            honor_node_affinity: matches!(self.node_affinity_policy.as_str(), "" | "Honor"),
            honor_node_taints: self.node_taints_policy.as_str() == "Honor",
            selector,
        }
    }
}

/// The owner that controls an object, if its selector counts.
pub(super) fn owner(meta: &MetaWire<'_>) -> Option<Box<OwnerFacts>> {
    let owner = meta.owner_references.iter().find(|owner| owner.controller)?;
    let kind = SelectingKind::of_owner(owner.api_version.as_str(), owner.kind.as_str())?;
    Some(Box::new(OwnerFacts { kind, name: owner.name.boxed() }))
}

// === objects whose selectors choose pods ===

/// What is read of a Service, a `ReplicationController`, a `ReplicaSet` or a `StatefulSet`.
#[derive(Debug)]
pub struct SelectingFacts<K> {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `spec.selector`.
    pub selector: Option<LabelSelectorFacts>,
    kind: PhantomData<fn() -> K>,
}

/// One of the kinds.
pub trait Selecting: Send + 'static {
    /// What is read of `spec`.
    type Spec<'a>: Deserialize<'a> + Default;
    /// Which it is, for the engine.
    const OF: SelectingKind;
    /// For logs.
    const KIND: &'static str;
    /// The plural.
    const RESOURCE: &'static str;
    /// Path of the collection.
    const PATH: &'static str;
    /// Its selector.
    fn selector(spec: &Self::Spec<'_>) -> Option<LabelSelectorFacts>;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LabelsSpec<'a> {
    #[serde(borrow)]
    selector: Option<Pairs<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SelectorSpec<'a> {
    #[serde(borrow)]
    selector: Option<LabelSelectorWire<'a>>,
}

fn of_labels(spec: &LabelsSpec<'_>) -> Option<LabelSelectorFacts> {
    spec.selector.as_ref().map(|labels| LabelSelectorFacts { match_labels: labels.boxed(), match_expressions: Vec::new() })
}

fn of_selector(spec: &SelectorSpec<'_>) -> Option<LabelSelectorFacts> {
    spec.selector.as_ref().map(LabelSelectorWire::facts)
}

macro_rules! selecting {
    ($($(#[$doc:meta])* $name:ident, $plural:literal, $path:literal, $spec:ident, $selector:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Selecting for $name {
            type Spec<'a> = $spec<'a>;
            const OF: SelectingKind = SelectingKind::$name;
            const KIND: &'static str = stringify!($name);
            const RESOURCE: &'static str = $plural;
            const PATH: &'static str = $path;
            fn selector(spec: &Self::Spec<'_>) -> Option<LabelSelectorFacts> {
                $selector(spec)
            }
        }
    )*};
}

selecting! {
    /// `v1` Service.
    Service, "services", "/api/v1/services", LabelsSpec, of_labels;
    /// `v1` `ReplicationController`.
    ReplicationController, "replicationcontrollers", "/api/v1/replicationcontrollers", LabelsSpec, of_labels;
    /// `apps/v1` `ReplicaSet`.
    ReplicaSet, "replicasets", "/apis/apps/v1/replicasets", SelectorSpec, of_selector;
    /// `apps/v1` `StatefulSet`.
    StatefulSet, "statefulsets", "/apis/apps/v1/statefulsets", SelectorSpec, of_selector;
}

#[derive(Debug, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default, 'de: 'a"))]
pub struct SelectingWire<'a, S: Default> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(deserialize_with = "or_default")]
    spec: S,
}

impl<S: Default> Default for SelectingWire<'_, S> {
    fn default() -> Self {
        Self { metadata: MetaWire::default(), spec: S::default() }
    }
}

impl<K: Selecting> Watched for SelectingFacts<K> {
    const KIND: &'static str = K::KIND;
    const RESOURCE: &'static str = K::RESOURCE;
    const PATH: &'static str = K::PATH;
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = SelectingWire<'a, K::Spec<'a>>;
    type Input = Input;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.metadata
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        let MetaWire { namespace, name, .. } = &wire.metadata;
        Ok(Self { namespace: namespace.boxed(), name: name.boxed(), selector: K::selector(&wire.spec), kind: PhantomData })
    }
    fn of(self, _cluster: ClusterId) -> Self {
        self
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.display().into()
    }
    fn seen(self) -> Input {
        Input::Selects(K::OF, self.namespace, self.name, Some(self.selector.unwrap_or_default()))
    }
    fn gone(_cluster: ClusterId, key: Box<str>) -> Input {
        let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
        Input::Selects(K::OF, namespace.into(), name.into(), None)
    }
    fn listed(_cluster: ClusterId, keys: Vec<Box<str>>) -> Input {
        Input::SelectsListed(K::OF, keys.into_iter().collect())
    }
}

//! `PodGroup`s of home (`scheduling.k8s.io/v1beta1`): JSON in, [`PodGroupFacts`] out.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Watched,
    json::{Text, or_default},
    meta::{ConditionWire, MetaWire},
};
use crate::{
    model::{
        gang::PodGroupFacts,
        ids::{ClusterId, PodKey},
    },
    scheduler::input::Input,
};

/// Upstream's condition.
pub const CONDITION: &str = "PodGroupInitiallyScheduled";

/// What scheduling reads of a `PodGroup`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodGroupWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: SpecWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    status: StatusWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecWire<'a> {
    #[serde(deserialize_with = "or_default")]
    scheduling_policy: PolicyWire,
    #[serde(deserialize_with = "or_default")]
    scheduling_constraints: ConstraintsWire,
    #[serde(borrow)]
    parent_composite_pod_group_name: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    disruption_mode: DisruptionWire,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyWire {
    gang: Option<GangWire>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GangWire {
    min_count: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConstraintsWire {
    #[serde(deserialize_with = "or_default")]
    topology: Vec<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DisruptionWire {
    all: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatusWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    conditions: Vec<ConditionWire<'a>>,
}

impl SpecWire<'_> {
    /// What a version that knows more would do otherwise: nobody is placed as if it were not asked for.
    fn not_followed(&self, name: &str) -> Option<Box<str>> {
        let what = if !self.scheduling_constraints.topology.is_empty() {
            "asks for a topology constraint, which this version does not follow: take schedulingConstraints away"
        } else if !self.parent_composite_pod_group_name.is_empty() {
            "is part of a composite pod group, which this version does not follow: make it a group of its own"
        } else {
            return None;
        };
        Some(format!("pod group {name:?} {what}").into())
    }
}

impl Watched for PodGroupFacts {
    const KIND: &'static str = "PodGroup";
    const RESOURCE: &'static str = "podgroups";
    const PATH: &'static str = "/apis/scheduling.k8s.io/v1beta1/podgroups";
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = PodGroupWire<'a>;
    type Input = Input;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.metadata
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        let PodGroupWire { metadata, spec, status } = wire;
        let condition = status.conditions.iter().find(|condition| condition.kind.as_str() == CONDITION);
        Ok(Self {
            namespace: metadata.namespace.boxed(),
            name: metadata.name.boxed(),
            uid: metadata.uid.boxed(),
            generation: metadata.generation,
            min_count: spec.scheduling_policy.gang.as_ref().map(|gang| gang.min_count.max(1)),
            not_followed: spec.not_followed(metadata.name.as_str()),
            is_disrupted_whole: spec.disruption_mode.all.is_some(),
            condition: condition
                .map(|condition| (condition.status.as_str() == "True", condition.reason.boxed(), condition.message.boxed())),
        })
    }
    fn of(self, _cluster: ClusterId) -> Self {
        self
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        PodKey::new(meta.namespace.as_str(), meta.name.as_str()).to_string().into()
    }
    fn seen(self) -> Input {
        Input::PodGroup(Box::new(self))
    }
    fn gone(_cluster: ClusterId, key: Box<str>) -> Input {
        let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
        Input::PodGroupGone(namespace.into(), name.into())
    }
    fn listed(_cluster: ClusterId, keys: Vec<Box<str>>) -> Input {
        Input::PodGroupsListed(keys.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::wire::read_value;

    fn read(spec: &Value, status: &Value) -> PodGroupFacts {
        let metadata = json!({"namespace": "ns", "name": "g", "uid": "u", "generation": 3});
        let object = json!({"kind": "PodGroup", "metadata": metadata, "spec": spec, "status": status});
        read_value(&object, ClusterId::HOME).expect("it is a PodGroup")
    }

    #[test]
    fn policies_modes_and_conditions() {
        let spec = json!({"schedulingPolicy": {"gang": {"minCount": 4}}, "disruptionMode": {"all": {}}, "priority": 7});
        let conditions = json!({"conditions": [
            {"type": "Other", "status": "True"},
            {"type": "PodGroupInitiallyScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"},
        ]});
        let want = PodGroupFacts {
            namespace: "ns".into(),
            name: "g".into(),
            uid: "u".into(),
            generation: 3,
            min_count: Some(4),
            is_disrupted_whole: true,
            condition: Some((false, "Unschedulable".into(), "no room".into())),
            ..PodGroupFacts::default()
        };
        assert_eq!(read(&spec, &conditions), want);
        let basic = read(&json!({"schedulingPolicy": {"basic": {}}, "disruptionMode": {"single": {}}}), &json!({}));
        assert_eq!((basic.min_count, basic.is_disrupted_whole, basic.condition, basic.not_followed), (None, false, None, None));
    }

    #[test]
    fn what_is_not_followed_is_told() {
        let gang = json!({"gang": {"minCount": 2}});
        for (field, value, want) in [
            (
                "schedulingConstraints",
                json!({"topology": [{"key": "zone"}]}),
                Some("asks for a topology constraint, which this version does not follow: take schedulingConstraints away"),
            ),
            ("schedulingConstraints", json!({"topology": []}), None),
            (
                "parentCompositePodGroupName",
                json!("c"),
                Some("is part of a composite pod group, which this version does not follow: make it a group of its own"),
            ),
        ] {
            let facts = read(&json!({"schedulingPolicy": gang, field: value}), &json!({}));
            assert_eq!(facts.not_followed, want.map(|what| format!("pod group \"g\" {what}").into()));
        }
    }
}

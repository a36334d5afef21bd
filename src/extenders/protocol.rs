//! What is said to extenders and what they answer: questions in, JSON with the field names of Go's types out, and back.
//!
//! Source: `k8s.io/kube-scheduler/extender/v1`. Names of fields in answers are compared without regard to case, as Go does: older extenders write them small.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    model::ids::PodUid,
    scheduler::{
        extenders::{Cleared, Offer},
        framework::Refusal,
        input::BindOrder,
    },
};

/// What an extender is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Which nodes may take the pod.
    Filter,
    /// How good they are.
    Prioritize,
    /// Which nodes may be cleared.
    Preempt,
    /// The binding.
    Bind,
}

impl Verb {
    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Prioritize => "prioritize",
            Self::Preempt => "preempt",
            Self::Bind => "bind",
        }
    }
}

/// Highest score of an extender; ours go to 100.
const SCALE: i64 = 10;

/// `ExtenderArgs`: the pod and names of nodes, or nodes as objects. All are JSON already.
pub fn nodes_args(pod: &str, names: &[&str], objects: Option<&[&str]>) -> String {
    match objects {
        None => format!("{{\"Pod\":{pod},\"Nodes\":null,\"NodeNames\":{}}}", json!(names)),
        Some(objects) => format!("{{\"Pod\":{pod},\"Nodes\":{{\"metadata\":{{}},\"items\":[{}]}},\"NodeNames\":null}}", objects.join(",")),
    }
}

/// `ExtenderPreemptionArgs`. `pods`: the victims as objects by UID, for those who do not know pods by UID.
pub fn preempt_args(pod: &str, offers: &[Offer], pods: Option<&BTreeMap<PodUid, String>>) -> String {
    let mut victims = Vec::new();
    for offer in offers {
        let list: Vec<String> = match pods {
            None => offer.victims.iter().map(|victim| json!({"UID": *victim.uid.0}).to_string()).collect(),
            Some(pods) => offer.victims.iter().filter_map(|victim| pods.get(&victim.uid).cloned()).collect(),
        };
        let name = json!(offer.node);
        victims.push(format!("{name}:{{\"Pods\":[{}],\"NumPDBViolations\":{}}}", list.join(","), offer.violations));
    }
    let victims = format!("{{{}}}", victims.join(","));
    let (full, meta) = if pods.is_some() { (victims.as_str(), "null") } else { ("null", victims.as_str()) };
    format!("{{\"Pod\":{pod},\"NodeNameToVictims\":{full},\"NodeNameToMetaVictims\":{meta}}}")
}

/// `ExtenderBindingArgs`.
pub fn bind_args(order: &BindOrder) -> String {
    let pod = &order.pod;
    let args = json!({"PodName": pod.key.name, "PodNamespace": pod.key.namespace, "PodUID": *pod.uid.0, "Node": order.node.name});
    args.to_string()
}

/// What one extender says of nodes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// Those that pass.
    pub left: Vec<Box<str>>,
    /// Why others do not.
    pub refused: Vec<(Box<str>, Refusal)>,
}

/// `ExtenderFilterResult`. `asked`: the nodes that it was asked about; any other one is nonsense.
pub fn read_filter(body: &[u8], asked: &[&str], by_name: bool) -> Result<Filtered, String> {
    let result = object(body)?;
    no_error(&result)?;
    let names: Vec<Box<str>> = match (field(&result, "NodeNames"), field(&result, "Nodes")) {
        (Some(names), _) if by_name => strings(names, "NodeNames")?,
        (_, Some(nodes)) => {
            let nodes = nodes.as_object().ok_or("Nodes is no object")?;
            let items =
                field(nodes, "items").map_or(Ok(&[][..]), |items| items.as_array().map(Vec::as_slice).ok_or("Nodes.items is no list"))?;
            items.iter().filter_map(|node| node.pointer("/metadata/name")?.as_str().map(Box::from)).collect()
        }
        _ => Vec::new(),
    };
    if let Some(name) = names.iter().find(|name| !asked.contains(&&***name)) {
        return Err(format!("it claims a filtered node {name:?} which is not found in the input node list"));
    }
    let refused = |name: &str, refusal: fn(String) -> Refusal| -> Result<Vec<(Box<str>, Refusal)>, String> {
        let Some(failed) = field(&result, name) else { return Ok(Vec::new()) };
        let failed = failed.as_object().ok_or_else(|| format!("{name} is no object"))?;
        let text = |why: &Value| why.as_str().map_or_else(|| why.to_string(), str::to_owned);
        Ok(failed.iter().map(|(node, why)| (node.as_str().into(), refusal(text(why)))).collect())
    };
    let mut all = refused("FailedAndUnresolvableNodes", |why| Refusal::unresolvable(why))?;
    for (node, why) in refused("FailedNodes", |why| Refusal::unschedulable(why))? {
        if !all.iter().any(|(known, _)| *known == node) {
            all.push((node, why));
        }
    }
    Ok(Filtered { left: names, refused: all })
}

/// `HostPriorityList`: what the scores add to the totals, with the extender's weight.
pub fn read_priorities(body: &[u8], weight: i64) -> Result<Vec<(Box<str>, i64)>, String> {
    let list: Value = serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
    let list = match &list {
        Value::Null => &[],
        Value::Array(list) => list.as_slice(),
        _ => return Err("the answer is no list".to_owned()),
    };
    let score = |entry: &Value| {
        let entry = entry.as_object()?;
        let score = field(entry, "Score").map_or(Some(0), Value::as_i64)?;
        Some((field(entry, "Host")?.as_str()?.into(), score.saturating_mul(weight).saturating_mul(SCALE)))
    };
    list.iter().map(|entry| score(entry).ok_or_else(|| format!("{entry} is no score of a host"))).collect()
}

/// `ExtenderPreemptionResult`. A node without victims is nonsense, or left out if the extender can be ignored.
pub fn read_preempt(body: &[u8], offers: &[Offer], ignorable: bool) -> Result<Vec<Offer>, String> {
    let result = object(body)?;
    let Some(nodes) = field(&result, "NodeNameToMetaVictims") else { return Ok(Vec::new()) };
    let nodes = nodes.as_object().ok_or("NodeNameToMetaVictims is no object")?;
    let mut left = Vec::new();
    for (name, victims) in nodes {
        let offer = offers.iter().find(|offer| *offer.node == **name);
        let offer = offer.ok_or_else(|| format!("it claims a node {name:?} which was not offered"))?;
        let pods = victims.as_object().and_then(|victims| field(victims, "Pods")).and_then(Value::as_array);
        let uids = pods.into_iter().flatten().map(|pod| pod.as_object().and_then(|pod| field(pod, "UID")).and_then(Value::as_str));
        let mut victims_left = Vec::new();
        for uid in uids {
            let known = uid.and_then(|uid| offer.victims.iter().find(|victim| *victim.uid.0 == *uid));
            let uid = uid.unwrap_or_default();
            victims_left
                .push(known.ok_or_else(|| format!("it claims to preempt pod {uid} on node {name:?}, which was not offered"))?.clone());
        }
        if victims_left.is_empty() {
            if ignorable {
                continue;
            }
            return Err(format!("expected at least one victim pod on node {name:?}"));
        }
        let violations = victims.as_object().and_then(|victims| field(victims, "NumPDBViolations")).and_then(Value::as_u64);
        let violations = violations.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        left.push(Offer { node: name.as_str().into(), victims: victims_left, violations });
    }
    Ok(left)
}

/// `ExtenderBindingResult`.
pub fn read_bind(body: &[u8]) -> Result<(), String> {
    no_error(&object(body)?)
}

/// An offer as the engine takes it back.
pub fn cleared(offer: Offer) -> Cleared {
    let victims = offer.victims.into_iter().map(|victim| victim.uid).collect();
    Cleared { node: offer.node, victims, violations: offer.violations }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the answer is no object".to_owned()),
        Err(error) => Err(format!("the answer is no JSON: {error}")),
    }
}

fn no_error(result: &Map<String, Value>) -> Result<(), String> {
    match field(result, "Error").map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned)) {
        Some(error) if !error.is_empty() => Err(error),
        _ => Ok(()),
    }
}

/// A field by its name in whatever case; `null` is as if it were not there.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

fn strings(value: &Value, name: &str) -> Result<Vec<Box<str>>, String> {
    let list = value.as_array().ok_or_else(|| format!("{name} is no list"))?;
    list.iter().map(|text| text.as_str().map(Box::from).ok_or_else(|| format!("{name} is no list of names"))).collect()
}

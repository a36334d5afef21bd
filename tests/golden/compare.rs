//! Bit for bit. In: the engine's answer and that of the real plugins. Out: every difference, in words.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::cases::NOT_SCORED;

const NULL: Value = Value::Null;
/// See docs/differences.md.
const DELIBERATE: &str = "not found";

/// All differences; none when both decide the same for the same reasons.
pub fn differences(ours: &Value, real: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(why) = real.get("broken") {
        return vec![format!("the oracle cannot answer: {why}")];
    }
    if ours.get("pod").is_none() {
        return vec![format!("the engine cannot answer: {}", ours["error"])];
    }
    let mut unequal = |what: &str, ours: &Value, real: &Value| {
        if ours != real {
            found.push(format!("{what}\n    isobar: {ours}\n    real:   {real}"));
        }
    };
    error(ours, real, &mut unequal);
    unequal("gated by", &ours["gated"], &real["gated"]);
    refusal("refused everywhere", &ours["prefilter"], &real["prefilter"], &mut unequal);
    for node in keys(&ours["infeasible"]).union(&keys(&real["infeasible"])) {
        refusal(&format!("refused by {node}"), &ours["infeasible"][node], &real["infeasible"][node], &mut unequal);
    }
    let empty = Value::Array(Vec::new());
    let list = |value: &Value| if value.is_null() { empty.clone() } else { value.clone() };
    // An attempt that ended in an error has no nodes for the pod; the oracle lists those that had passed the filters by then.
    if real["error"].is_null() {
        unequal("feasible nodes", &list(&ours["feasible"]), &list(&real["feasible"]));
    }
    if real["error"].is_null() && real["feasible"].is_array() {
        scores(ours, real, &mut unequal);
        unequal("best nodes", &list(&ours["best"]), &list(&real["best"]));
    }
    preemption(ours, real, &mut unequal);
    message(ours, real, &mut unequal);
    found
}

/// What went wrong is the same; in what words the step is called is not.
fn error(ours: &Value, real: &Value, unequal: &mut impl FnMut(&str, &Value, &Value)) {
    let said = ours["error"].as_str().and_then(|text| text.split_once("\": ")).map(|(_, why)| why);
    if !said.is_some_and(|why| real["error"].as_str().is_some_and(|text| text.ends_with(why))) {
        unequal("error", &ours["error"], &real["error"]);
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

/// Reasons are compared as a set: some of upstream's come in the order of a map. Where several PreFilter plugins left a node out, any of them may be
/// named.
fn refusal(what: &str, ours: &Value, real: &Value, unequal: &mut impl FnMut(&str, &Value, &Value)) {
    if ours.is_null() || real.is_null() {
        return unequal(what, ours, real);
    }
    let (plugin, blamed) = (ours["plugin"].as_str().unwrap_or_default(), real["plugin"].as_str().unwrap_or_default());
    if !blamed.split(',').any(|name| name == plugin) {
        unequal(&format!("{what}: plugin"), &ours["plugin"], &real["plugin"]);
    }
    unequal(&format!("{what}: code"), &ours["code"], &real["code"]);
    let sorted = |value: &Value| {
        let mut reasons: Vec<String> = value["reasons"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        reasons.sort_unstable();
        Value::from(reasons)
    };
    unequal(&format!("{what}: reasons"), &sorted(ours), &sorted(real));
}

fn scores(ours: &Value, real: &Value, unequal: &mut impl FnMut(&str, &Value, &Value)) {
    let nodes: Vec<&str> = real["feasible"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    // A single node is taken without scores when they fail.
    if real["scores"].is_null() {
        return;
    }
    for plugin in keys(&ours["scores"]).union(&keys(&real["scores"])) {
        let given = &real["scores"][plugin];
        let zero = given.as_array().is_some_and(|all| all.iter().all(|score| score[1] == 0));
        if ours["scores"][plugin].is_null() && zero && NOT_SCORED.contains(&plugin.as_str()) {
            continue;
        }
        for (at, node) in nodes.iter().enumerate() {
            let one = &ours["scores"][plugin][*node];
            let three = if one.is_null() {
                NULL
            } else {
                Value::from(vec![one["raw"].clone(), one["normalized"].clone(), one["weighted"].clone()])
            };
            unequal(&format!("{plugin} scores {node} (raw, normalised, weighted)"), &three, given.get(at).unwrap_or(&NULL));
        }
    }
    let total: Map<String, Value> =
        nodes.iter().zip(real["total"].as_array().into_iter().flatten()).map(|(node, sum)| ((*node).to_owned(), sum.clone())).collect();
    unequal("total", &ours["total"], &total.into());
}

/// Nominated node and victims. Where nothing tells nodes apart upstream takes one at random: any of those is right, with its own victims, and both must know
/// the same ones.
fn preemption(ours: &Value, real: &Value, unequal: &mut impl FnMut(&str, &Value, &Value)) {
    let (ours, real) = (&ours["preemption"], &real["preemption"]);
    let node = real["nominated"].as_str().unwrap_or_default();
    if node.is_empty() || ours.is_null() {
        let none = if node.is_empty() { &NULL } else { &real["nominated"] };
        return unequal("nominated node", &ours["nominated"], none);
    }
    let victims = if ours["nominated"] == node { &ours["victims"] } else { &ours["equally_good"][node] };
    if victims.is_null() {
        return unequal("nominated node", ours, real);
    }
    let sorted = |list: &Value| {
        let mut names: Vec<String> = list.as_array().into_iter().flatten().map(ToString::to_string).collect();
        names.sort_unstable();
        Value::from(names)
    };
    unequal("victims", &sorted(victims), &sorted(&real["victims"]));
    let mut equal: Vec<&str> = ours["equally_good"].as_object().into_iter().flatten().map(|(node, _)| node.as_str()).collect();
    equal.extend(ours["nominated"].as_str());
    equal.retain(|one| *one != node);
    let real: Vec<&str> = real["equally_good"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    equal.sort_unstable();
    unequal("equally good nodes", &equal.into(), &real.into());
}

/// The text of the pod's condition: the reasons, then what preemption says, of whichever of equal nodes.
fn message(ours: &Value, real: &Value, unequal: &mut impl FnMut(&str, &Value, &Value)) {
    let (Some(said), Some(filters)) = (ours["message"].as_str(), real["message"].as_str()) else {
        return unequal("message", &ours["message"], &real["message"]);
    };
    let made = &real["preemption"];
    let preemption = made["message"].as_str().unwrap_or_default();
    let whole = format!("{filters} {preemption}").trim_end().to_owned();
    let of = |node: &Value| format!(" on node {}, preempting ", node.as_str().unwrap_or_default());
    let said = said.replace(&of(&ours["preemption"]["nominated"]), &of(&made["nominated"]));
    if preemption == DELIBERATE {
        let begins: String = said.chars().take(filters.chars().count()).collect();
        unequal("message", &begins.into(), &filters.into());
    } else {
        unequal("message", &said.into(), &whole.into());
    }
}

//! What is said to extenders and what is made of their answers.

use serde_json::{Value, json};

use super::protocol::{bind_args, nodes_args, preempt_args, read_bind, read_filter, read_preempt, read_priorities};
use crate::{
    model::ids::{ClusterId, NodeKey, PodKey, PodUid},
    scheduler::{
        extenders::Offer,
        framework::{Refusal, Victim},
        input::{BindOrder, PodRef},
    },
};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn victim(uid: &str) -> Victim {
    Victim { key: PodKey::new("n", uid), uid: PodUid::from(uid), is_terminating: false }
}

fn offer(node: &str, victims: &[&str]) -> Offer {
    Offer { node: node.into(), victims: victims.iter().map(|uid| victim(uid)).collect(), violations: 1 }
}

#[test]
fn questions_have_the_names_of_gos_types() {
    let pod = r#"{"metadata":{"name":"p"}}"#;
    let by_name = json!({"Pod": parsed(pod), "Nodes": null, "NodeNames": ["a", "b"]});
    assert_eq!(parsed(&nodes_args(pod, &["a", "b"], None)), by_name);
    let as_objects = parsed(&nodes_args(pod, &["a"], Some(&[r#"{"metadata":{"name":"a"}}"#])));
    assert_eq!(
        as_objects,
        json!({"Pod": parsed(pod), "Nodes": {"metadata": {}, "items": [{"metadata": {"name": "a"}}]}, "NodeNames": null})
    );

    let offers = [offer("a\"b", &["u", "v"])];
    let meta = json!({"a\"b": {"Pods": [{"UID": "u"}, {"UID": "v"}], "NumPDBViolations": 1}});
    let want = json!({"Pod": parsed(pod), "NodeNameToVictims": null, "NodeNameToMetaVictims": meta});
    assert_eq!(parsed(&preempt_args(pod, &offers, None)), want);
    let pods = [(PodUid::from("v"), "{\"v\":1}".to_owned())].into_iter().collect();
    let full = json!({"a\"b": {"Pods": [{"v": 1}], "NumPDBViolations": 1}});
    let want = json!({"Pod": parsed(pod), "NodeNameToVictims": full, "NodeNameToMetaVictims": null});
    assert_eq!(parsed(&preempt_args(pod, &offers, Some(&pods))), want);

    let pod = PodRef { key: PodKey::new("n", "p"), uid: PodUid::from("u"), scheduler_name: "s".into() };
    let node = NodeKey { cluster: ClusterId::HOME, name: "a".into() };
    let order = BindOrder { pod, node, attempt: 1, run_attempt: 1, resumes: false, earlier_binding: None };
    assert_eq!(parsed(&bind_args(&order)), json!({"PodName": "p", "PodNamespace": "n", "PodUID": "u", "Node": "a"}));
}

#[test]
fn an_answer_about_nodes_is_read_in_whatever_case_and_nonsense_is_refused() {
    let names = |answer: &Value, by_name| {
        let filtered = read_filter(answer.to_string().as_bytes(), &["a", "b", "c"], by_name)?;
        Ok::<_, String>(filtered.left.into_iter().map(String::from).collect::<Vec<_>>())
    };
    let items = json!({"items": [{"metadata": {"name": "b"}}]});
    for (answer, by_name, want) in [
        (json!({"NodeNames": ["a", "c"]}), true, Ok(vec!["a", "c"])),
        (json!({"nodenames": ["a"], "failedNodes": {}, "error": ""}), true, Ok(vec!["a"])),
        (json!({"Nodes": items}), false, Ok(vec!["b"])),
        (json!({"Nodes": items, "NodeNames": null}), true, Ok(vec!["b"])),
        (json!({"NodeNames": ["a"]}), false, Ok(vec![])),
        (json!({}), true, Ok(vec![])),
        (json!({"NodeNames": ["z"]}), true, Err("it claims a filtered node \"z\" which is not found in the input node list")),
        (json!({"Error": "out of order"}), true, Err("out of order")),
        (json!({"NodeNames": 7}), true, Err("NodeNames is no list")),
        (json!([1]), true, Err("the answer is no object")),
    ] {
        let want = want.map(|names| names.into_iter().map(String::from).collect::<Vec<_>>()).map_err(String::from);
        assert_eq!(names(&answer, by_name), want, "{answer}");
    }
    assert!(read_filter(b"<html>", &["a"], true).unwrap_err().starts_with("the answer is no JSON: "));
    let both = json!({"FailedNodes": {"a": "busy", "b": "full"}, "FailedAndUnresolvableNodes": {"a": "never"}});
    let refused = read_filter(both.to_string().as_bytes(), &["a", "b"], true).unwrap().refused;
    assert_eq!(refused, [("a".into(), Refusal::unresolvable("never")), ("b".into(), Refusal::unschedulable("full"))]);
}

#[test]
fn scores_are_weighted_and_scaled() {
    let read = |answer: Value, weight| read_priorities(answer.to_string().as_bytes(), weight);
    assert_eq!(read(json!([{"Host": "a", "Score": 3}, {"host": "b"}]), 2), Ok(vec![("a".into(), 60), ("b".into(), 0)]));
    assert_eq!(read(json!([{"Host": "a", "Score": i64::MAX}]), 2), Ok(vec![("a".into(), i64::MAX)]));
    assert_eq!(read(Value::Null, 1), Ok(vec![]));
    assert!(read(json!([{"Score": 3}]), 1).is_err());
    assert!(read(json!([{"Host": "a", "Score": "high"}]), 1).is_err());
    assert!(read(json!({"Host": "a"}), 1).is_err());
}

#[test]
fn victims_are_those_that_were_offered() {
    let offers = [offer("a", &["u", "v"]), offer("b", &["w"])];
    let read = |nodes: Value, ignorable| {
        let left = read_preempt(json!({"NodeNameToMetaVictims": nodes}).to_string().as_bytes(), &offers, ignorable)?;
        Ok::<_, String>(left.iter().map(|offer| format!("{} {} {}", offer.node, offer.victims.len(), offer.violations)).collect::<Vec<_>>())
    };
    let pods = |uids: &[&str]| json!({"Pods": uids.iter().map(|uid| json!({"UID": uid})).collect::<Vec<_>>(), "NumPDBViolations": 3});
    assert_eq!(read(json!({"a": pods(&["v"])}), false), Ok(vec!["a 1 3".to_owned()]));
    assert_eq!(read(json!({}), false), Ok(vec![]));
    assert_eq!(read(json!({"a": pods(&[]), "b": pods(&["w"])}), true), Ok(vec!["b 1 3".to_owned()]));
    assert_eq!(read(json!({"a": pods(&[])}), false), Err("expected at least one victim pod on node \"a\"".to_owned()));
    assert_eq!(read(json!({"z": pods(&["u"])}), true), Err("it claims a node \"z\" which was not offered".to_owned()));
    let other = read(json!({"a": pods(&["w"])}), true);
    assert_eq!(other, Err("it claims to preempt pod w on node \"a\", which was not offered".to_owned()));
}

#[test]
fn a_binding_is_done_unless_the_answer_says_otherwise() {
    assert_eq!(read_bind(b"{}"), Ok(()));
    assert_eq!(read_bind(br#"{"Error": null}"#), Ok(()));
    assert_eq!(read_bind(br#"{"error": "no device left"}"#), Err("no device left".to_owned()));
    assert!(read_bind(b"").is_err());
}

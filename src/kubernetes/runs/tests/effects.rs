//! Each effect on objects as they may be found.

use serde_json::{Value, json};

use super::*;
use crate::{
    federation::LOST_TAINTS,
    sim::faults::{Fault, Target},
};

#[tokio::test(start_paused = true)]
async fn an_intent_is_written_once_and_taken_back_with_its_number_kept() {
    let world = World::new().await;
    let (executor, pod) = (world.executor(), world.pod("p", "Always", json!({"theirs": "kept"})).await);
    let intend = pod.order(Effect::Intend(pod.decision.clone()));
    assert_eq!(executor.carry_out(&intend).await, Outcome::Done);
    let written = world.home_pod(&pod).await;
    assert_eq!(written["metadata"]["annotations"][names::INTENT], "true");
    assert_eq!(executor.carry_out(&intend).await, Outcome::Done);
    assert_eq!(world.home_pod(&pod).await, written, "nothing is written twice");
    let Outcome::Home(home) = executor.carry_out(&pod.order(Effect::CheckHome)).await else { panic!() };
    assert_eq!((home.decision.as_ref(), home.bound), (Some(&pod.decision), false));
    assert_eq!(executor.carry_out(&pod.order(Effect::Withdraw)).await, Outcome::Done);
    let annotations = world.home_pod(&pod).await["metadata"]["annotations"].clone();
    assert_eq!(annotations, json!({"theirs": "kept", names::ATTEMPT: "1"}));
}

/// A late binding of an earlier leader meets the intent of a later one.
#[tokio::test(start_paused = true)]
async fn an_intent_is_taken_back_from_a_pod_that_home_has_bound() {
    let world = World::new().await;
    let (executor, pod) = (world.executor(), world.pod("p", "Always", json!({})).await);
    assert_eq!(executor.carry_out(&pod.order(Effect::Intend(pod.decision.clone()))).await, Outcome::Done);
    let target = json!({"metadata": {"name": "p"}, "target": {"apiVersion": "v1", "kind": "Node", "name": "home-1"}});
    world.at(&world.home, Method::POST, "/api/v1/namespaces/default/pods/p/binding", &target).await;
    assert_eq!(executor.carry_out(&pod.order(Effect::Withdraw)).await, Outcome::Done);
    let written = world.home_pod(&pod).await;
    assert_eq!((&written["spec"]["nodeName"], &written["metadata"]["annotations"]), (&json!("home-1"), &json!({names::ATTEMPT: "1"})));
}

#[tokio::test(start_paused = true)]
async fn a_binding_bears_the_decision_and_is_read_back() {
    for fault in [None, Some(Fault::LostAfter), Some(Fault::ErrorAfter)] {
        let world = World::new().await;
        let (executor, pod) = (world.executor(), world.pod("p", "Always", json!({})).await);
        if let Some(fault) = fault.clone() {
            world.home.faults().once(Target::of("create", "pods/binding"), fault);
        }
        assert_eq!(executor.carry_out(&pod.order(Effect::Bind(pod.decision.clone()))).await, Outcome::Done, "{fault:?}");
        let home = world.home_pod(&pod).await;
        assert_eq!(home["spec"]["nodeName"], "isobar-cloud");
        assert_eq!(home["metadata"]["annotations"][names::RUN], format!("{RUNS}/{}", pod.decision.run.name));
        let other = Decision { node: "n2".into(), ..pod.decision.clone() };
        let bound = executor.carry_out(&pod.order(Effect::Bind(other.clone()))).await;
        assert_eq!(bound, Outcome::BoundElsewhere, "the same Node with another decision is not ours");
        assert_eq!(executor.carry_out(&pod.order(Effect::Intend(other))).await, Outcome::BoundElsewhere);
        assert_eq!(executor.carry_out(&pod.order(Effect::Withdraw)).await, Outcome::Done);
        assert_eq!(world.home_pod(&pod).await, home, "a binding is not taken back");
    }
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_is_never_touched() {
    let world = World::new().await;
    let (executor, mut pod) = (world.executor(), world.running("p").await);
    let (home, run) = (world.home_pod(&pod).await, world.run_of(&pod).await);
    pod.uid = PodUid::from("an-earlier-one");
    let mirror = Effect::Mirror(json!({"status": {"phase": "Failed"}}));
    let effects = [Effect::Intend(pod.decision.clone()), Effect::Withdraw, mirror, Effect::SetPatience, Effect::Confirm];
    for effect in effects.into_iter().chain([Effect::DeleteHome, Effect::EvictHome, Effect::Propagate(pod.decision.run.clone())]) {
        assert_eq!(executor.carry_out(&pod.order(effect.clone())).await, Outcome::Gone, "{effect:?}");
    }
    let version = home["metadata"]["resourceVersion"].as_str().unwrap();
    let count = Effect::CountAttempt { resource_version: version.into(), decision: decision(&pod.key, &pod.uid, 2) };
    assert_eq!(executor.carry_out(&pod.order(count)).await, Outcome::Conflict);
    assert_eq!(executor.carry_out(&pod.order(Effect::CheckHome)).await, Outcome::Absent);
    let delete = Effect::DeleteRun {
        run: pod.decision.run.clone(),
        uid: "another".into(),
        resource_version: None,
        grace_seconds: Some(0),
        release: true,
    };
    assert_eq!(executor.carry_out(&pod.order(delete)).await, Outcome::Absent);
    assert_eq!((world.home_pod(&pod).await, world.run_of(&pod).await), (home, run));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_by_compare_and_swap() {
    let world = World::new().await;
    let (executor, pod) = (world.executor(), world.running("p").await);
    let next = decision(&pod.key, &pod.uid, 2);
    let version = world.home_pod(&pod).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let count = pod.order(Effect::CountAttempt { resource_version: version.into(), decision: next });
    assert_eq!(executor.carry_out(&count).await, Outcome::Done);
    assert_eq!(world.home_pod(&pod).await["metadata"]["annotations"][names::ATTEMPT], "2");
    assert_eq!(executor.carry_out(&count).await, Outcome::Conflict, "once only");
}

#[tokio::test(start_paused = true)]
async fn status_and_patience_are_written() {
    let world = World::new().await;
    let (executor, pod) = (world.executor(), world.running("p").await);
    let mirror = Effect::Mirror(json!({"status": {"phase": "Running", "reason": "Mirrored"}}));
    assert_eq!(executor.carry_out(&pod.order(mirror)).await, Outcome::Done);
    let written = world.home_pod(&pod).await;
    assert_eq!(written["status"]["reason"], "Mirrored");
    let of_version = |version: &str| Effect::Mirror(json!({"metadata": {"resourceVersion": version}, "status": {"reason": "Judged"}}));
    assert_eq!(executor.carry_out(&pod.order(of_version("1"))).await, Outcome::Conflict, "the pod has changed since the verdict");
    assert_eq!(world.home_pod(&pod).await, written);
    let version = written["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(executor.carry_out(&pod.order(of_version(version))).await, Outcome::Done);
    let patience = |world: Value| -> Vec<Value> {
        world["spec"]["tolerations"].as_array().unwrap().iter().map(|toleration| toleration["tolerationSeconds"].clone()).collect()
    };
    assert_eq!(patience(world.home_pod(&pod).await), [Value::Null, Value::Null], "before it was bound");
    let limits = json!({"spec": {"tolerations": LOST_TAINTS.map(|key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}))}});
    world.at(&world.home, Method::PATCH, "/api/v1/namespaces/default/pods/p", &limits).await;
    assert_eq!(patience(world.home_pod(&pod).await), [json!(300), json!(300)]);
    assert_eq!(executor.carry_out(&pod.order(Effect::SetPatience)).await, Outcome::Done);
    assert_eq!(patience(world.home_pod(&pod).await), [Value::Null, Value::Null]);
}

#[tokio::test(start_paused = true)]
async fn a_home_pod_goes_as_asked() {
    let world = World::new().await;
    let (executor, pod) = (world.executor(), world.running("p").await);
    assert_eq!(executor.carry_out(&pod.order(Effect::EvictHome)).await, Outcome::Done);
    assert_eq!(world.home_pod(&pod).await["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(executor.carry_out(&pod.order(Effect::DeleteHome)).await, Outcome::Done);
    assert!(!world.home_pod(&pod).await.is_null(), "nothing is confirmed yet");
    assert_eq!(executor.carry_out(&pod.order(Effect::Confirm)).await, Outcome::Done);
    assert!(world.home_pod(&pod).await.is_null());
    assert_eq!(executor.carry_out(&pod.order(Effect::Confirm)).await, Outcome::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_deleted_only_as_it_was_judged() {
    let world = World::new().await;
    let (executor, pod) = (world.executor(), world.running("p").await);
    let Outcome::Run(run) = executor.carry_out(&pod.order(Effect::CheckRun(pod.decision.run.clone()))).await else { panic!() };
    let delete = |version: Option<&str>, release| {
        let (run, uid) = (run.name.clone(), run.uid.clone());
        pod.order(Effect::DeleteRun { run, uid, resource_version: version.map(Into::into), grace_seconds: Some(0), release })
    };
    assert_eq!(executor.carry_out(&delete(Some("1"), false)).await, Outcome::Conflict, "it has changed since");
    assert_eq!(executor.carry_out(&delete(Some(&run.resource_version), false)).await, Outcome::Done);
    assert!(world.run_of(&pod).await["metadata"]["deletionTimestamp"].is_string(), "our finalizer holds it");
    assert_eq!(executor.carry_out(&delete(None, true)).await, Outcome::Done);
    assert!(world.run_of(&pod).await.is_null());
    assert_eq!(executor.carry_out(&delete(None, true)).await, Outcome::Absent);
    assert_eq!(executor.carry_out(&pod.order(Effect::CheckRun(run.name.clone()))).await, Outcome::Absent);
}

#[tokio::test(start_paused = true)]
async fn reaping_leaves_nothing_and_says_so_only_when_it_has_looked() {
    let world = World::new().await;
    let (executor, pod) = (world.executor(), world.running("p").await);
    let uid = world.run_of(&pod).await["metadata"]["uid"].as_str().unwrap().to_owned();
    let ended = json!({"status": {"phase": "Succeeded"}});
    world.at(&world.cloud, Method::PATCH, &format!("{}/status", run_path(&pod)), &ended).await;
    let event = json!({
        "metadata": {"name": "e", "namespace": RUNS}, "involvedObject": {"kind": "Pod", "namespace": RUNS, "name": "p", "uid": uid},
        "reason": "Started", "type": "Normal", "message": "m",
    });
    world.at(&world.cloud, Method::POST, &format!("/api/v1/namespaces/{RUNS}/events"), &event).await;
    let reap = pod.order(Effect::Reap { run: pod.decision.run.clone(), uid: uid.into() });
    world.cloud.faults().once(Target::of("list", "pods"), Fault::Unavailable);
    let unseen = executor.carry_out(&reap).await;
    assert!(matches!(unseen, Outcome::Retry(_)), "{unseen:?}");
    assert_eq!(executor.carry_out(&reap).await, Outcome::Done);
    for resource in ["pods", "secrets", "events"] {
        assert!(world.cloud.server().objects("", resource).is_empty(), "{resource}");
    }
    assert_eq!(executor.carry_out(&reap).await, Outcome::Done, "twice is once");
}

#[tokio::test(start_paused = true)]
async fn the_engine_is_asked_for_another_node() {
    let mut world = World::new().await;
    let (executor, pod) = (world.executor(), world.pod("p", "Always", json!({})).await);
    let order = pod.order(Effect::PlaceAgain { not_on: vec!["n1".into()] });
    let asked = tokio::spawn({
        let (executor, order) = (executor.clone(), order.clone());
        async move { executor.carry_out(&order).await }
    });
    let question = world.told.recv().await;
    assert!(matches!(&question, Some(EngineInput::PlaceAgain { uid, .. }) if *uid == pod.uid), "{question:?}");
    executor.placings.answer(&pod.uid, Some("n2".into()));
    assert_eq!(asked.await.unwrap(), Outcome::Node(Some("n2".into())));
    let unanswered = executor.carry_out(&order).await;
    assert!(matches!(unanswered, Outcome::Retry(_)), "{unanswered:?}");
}

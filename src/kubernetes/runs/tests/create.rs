//! Creations of runs under everything that may happen to them.

use serde_json::{Value, json};

use super::*;
use crate::sim::faults::{Fault, Target};

async fn bound(world: &World, name: &str) -> Placed {
    let pod = world.pod(name, "Never", json!({})).await;
    let done = world.executor().carry_out(&pod.order(Effect::Bind(pod.decision.clone()))).await;
    assert_eq!(done, Outcome::Done);
    pod
}

fn create(pod: &Placed) -> Order {
    pod.order(Effect::CreateRun(pod.decision.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_run_is_created_once_whatever_becomes_of_the_answer() {
    for fault in [None, Some(Fault::ErrorAfter)] {
        let world = World::new().await;
        let pod = bound(&world, "p").await;
        if let Some(fault) = fault.clone() {
            world.cloud.faults().once(Target::of("create", "pods"), fault);
        }
        let executor = world.executor();
        let Outcome::Run(first) = executor.carry_out(&create(&pod)).await else { panic!("{fault:?}") };
        assert_eq!((&*first.name.name, first.attempt, &first.home), (&*pod.decision.run.name, 1, &pod.key));
        let Outcome::Run(again) = executor.carry_out(&create(&pod)).await else { panic!("{fault:?}") };
        assert_eq!(again.uid, first.uid, "the second creation meets the first");
        let text = world.metrics.render();
        let adopted = if fault.is_some() { 2 } else { 1 };
        assert!(text.contains(&format!("isobar_runs_creations_total{{cluster=\"cloud\",result=\"adopted\"}} {adopted}\n")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_without_an_answer_is_never_taken_for_over() {
    let world = World::new().await;
    let pod = bound(&world, "p").await;
    // The first comes when the second has been sent, and the second when both were given up.
    world.cloud.faults().scripted(Target::of("create", "pods"), Fault::Late(Duration::from_secs(12)), 0, 2);
    let executor = world.executor();
    for number in ["first", "second"] {
        let outcome = executor.carry_out(&create(&pod)).await;
        assert!(matches!(outcome, Outcome::Retry(_)), "{number}: {outcome:?}");
    }
    assert!(!world.run_of(&pod).await.is_null(), "the first one has come");
    assert!(matches!(executor.carry_out(&create(&pod)).await, Outcome::Run(_)), "an answer counts");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_done_is_tried_again() {
    for fault in [Fault::Refused, Fault::ErrorBefore, Fault::Unavailable, Fault::TooManyRequests { retry_after_seconds: 1 }] {
        let world = World::new().await;
        let pod = bound(&world, "p").await;
        world.cloud.faults().once(Target::of("create", "pods"), fault.clone());
        let executor = world.executor();
        let outcome = executor.carry_out(&create(&pod)).await;
        assert!(matches!(outcome, Outcome::Retry(_)), "{fault:?}: {outcome:?}");
        assert!(world.run_of(&pod).await.is_null(), "{fault:?}");
        assert!(matches!(executor.carry_out(&create(&pod)).await, Outcome::Run(_)), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn something_that_is_not_ours_keeps_its_name() {
    let world = World::new().await;
    let pod = bound(&world, "p").await;
    let spec = json!({"containers": [{"name": "c", "image": "theirs"}]});
    let theirs = json!({"metadata": {"name": &*pod.decision.run.name, "namespace": RUNS, "labels": {"isobar.dev/home-cluster": "another"}}, "spec": spec});
    let before = world.at(&world.cloud, Method::POST, &format!("/api/v1/namespaces/{RUNS}/pods"), &theirs).await;
    assert_eq!(world.executor().carry_out(&create(&pod)).await, Outcome::NameTaken);
    assert_eq!(world.run_of(&pod).await, before);
}

#[tokio::test(start_paused = true)]
async fn no_run_for_a_pod_that_is_not_there_any_more_or_not_decided_so() {
    let world = World::new().await;
    let executor = world.executor();
    let unbound = world.pod("unbound", "Never", json!({})).await;
    assert_eq!(executor.carry_out(&create(&unbound)).await, Outcome::Conflict, "nothing records the decision");
    let mut other = bound(&world, "other").await;
    other.decision = decision(&other.key, &other.uid, 2);
    assert_eq!(executor.carry_out(&create(&other)).await, Outcome::Conflict, "another attempt is recorded");
    let deleting = bound(&world, "deleting").await;
    world.at(&world.home, Method::DELETE, "/api/v1/namespaces/default/pods/deleting", &Value::Null).await;
    assert_eq!(executor.carry_out(&create(&deleting)).await, Outcome::Gone);
    let mut reborn = bound(&world, "reborn").await;
    reborn.uid = PodUid::from("an-earlier-one");
    assert_eq!(executor.carry_out(&create(&reborn)).await, Outcome::Gone);
    assert!(world.cloud.server().objects("", "pods").is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_sends_nothing() {
    let world = World::new().await;
    let pod = bound(&world, "p").await;
    world.leadership.send_replace(Leadership::Standby);
    assert_eq!(world.executor().carry_out(&create(&pod)).await, Outcome::NotSent);
    assert!(world.cloud.server().objects("", "pods").is_empty());
}

#[tokio::test(start_paused = true)]
async fn configuration_travels_before_the_run_and_is_then_its_own() {
    let world = World::new().await;
    let spec = json!({
        "restartPolicy": "Never", "containers": [{"name": "main", "image": "app", "volumeMounts": [{"name": "s", "mountPath": "/s"}]}],
        "volumes": [{"name": "s", "secret": {"secretName": "token"}}],
    });
    let pod = world.pod_of("p", json!({}), spec).await;
    let executor = world.executor();
    executor.carry_out(&pod.order(Effect::Bind(pod.decision.clone()))).await;
    let missing = executor.carry_out(&create(&pod)).await;
    assert!(matches!(&missing, Outcome::Retry(why) if why.contains("default/token")), "{missing:?}");
    let secret = json!({"metadata": {"name": "token", "namespace": "default"}, "data": {"key": "dmFsdWU="}});
    world.at(&world.home, Method::POST, "/api/v1/namespaces/default/secrets", &secret).await;
    world.cloud.faults().once(Target::of("create", "secrets"), Fault::LostAfter);
    let Outcome::Run(run) = executor.carry_out(&create(&pod)).await else { panic!() };
    world
        .until("the bundle is the run's own", async |world| {
            let bundles = world.cloud.server().objects("", "secrets");
            bundles.len() == 1 && bundles[0]["metadata"]["ownerReferences"][0]["uid"] == *run.uid
        })
        .await;
    let reaped = executor.carry_out(&pod.order(Effect::Reap { run: run.name.clone(), uid: run.uid.clone() })).await;
    assert!(matches!(reaped, Outcome::Retry(_)), "the run has not ended: {reaped:?}");
    assert!(world.cloud.server().objects("", "secrets").is_empty());
}

//! Conditions: what is written, in which order, and what is not.

use tokio::sync::watch;

use super::*;
use crate::{
    kubernetes::{
        leadership::Leadership,
        script::{Reply, Script},
    },
    model::{ids::PodKey, time::Timestamp},
    scheduler::input::PodRef,
};

fn order(uid: &str, message: &str) -> ConditionOrder {
    let pod = PodRef { key: PodKey::new("ns", uid), uid: PodUid::from(uid), scheduler_name: "s".into() };
    ConditionOrder { pod, condition: Some(("Unschedulable", message.into())), nominated_node: None }
}

fn ok() -> Reply {
    Reply::Json(200, Value::Null)
}

fn slow() -> Reply {
    Reply::After(Duration::from_secs(1), Box::new(ok()))
}

/// Starts a patcher; the sender keeps the leadership alive.
fn start(script: Vec<Reply>) -> (Arc<Script>, ConditionDesk, watch::Sender<Leadership>) {
    let (server, api) = Script::new(script);
    let (leadership, leads) = watch::channel(Leadership::Unlimited);
    let desk = ConditionDesk::default();
    let clock = Clock::simulated(Timestamp(1_000_000_000_000));
    tokio::spawn(Patcher::new(&api, Permission::new(leads), desk.clone(), clock).run());
    (server, desk, leadership)
}

async fn settle() {
    sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn writes_the_condition_as_upstream_does() {
    let (server, desk, _keep) = start(vec![ok(), ok()]);
    desk.put(ConditionOrder { nominated_node: Some("n1".into()), ..order("a", "0/1 nodes are available") });
    settle().await;
    desk.put(ConditionOrder { nominated_node: Some("".into()), ..order("a", "0/2 nodes are available") });
    settle().await;
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("PATCH", "/api/v1/namespaces/ns/pods/a/status"));
    assert_eq!(asked[0].content_type, STRATEGIC_MERGE);
    let want = json!({"metadata": {"uid": "a"}, "status": {"nominatedNodeName": "n1", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available",
        "lastTransitionTime": "2001-09-09T01:46:40Z"}]}});
    assert_eq!(asked[0].body, want);
    assert_eq!(asked[1].body["status"]["nominatedNodeName"], Value::Null);
    assert_eq!(asked[1].body["status"]["conditions"][0].get("lastTransitionTime"), None, "the status did not turn");
}

#[tokio::test(start_paused = true)]
async fn the_newest_wins_and_an_equal_one_is_not_written_again() {
    let (server, desk, _keep) = start(vec![slow(), ok()]);
    desk.put(order("a", "one"));
    sleep(Duration::from_millis(10)).await;
    desk.put(order("a", "two"));
    desk.put(order("a", "three"));
    settle().await;
    desk.put(order("a", "three"));
    settle().await;
    let messages: Vec<_> = server.asked().iter().map(|asked| asked.body["status"]["conditions"][0]["message"].clone()).collect();
    assert_eq!(messages, ["one", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_binding_withdraws_what_waits_and_awaits_what_is_under_way() {
    let (server, desk, _keep) = start(vec![slow(); 9]);
    let started = Instant::now();
    for uid in ["a", "b", "c", "d", "e", "f", "g", "h", "waits"] {
        desk.put(order(uid, "m"));
    }
    sleep(Duration::from_millis(10)).await;
    desk.withdraw(&PodUid::from("waits")).await;
    assert!(started.elapsed() < Duration::from_millis(20), "nothing to wait for");
    desk.withdraw(&PodUid::from("a")).await;
    assert_eq!(started.elapsed().as_secs(), 1, "until the patch under way is over");
    settle().await;
    assert!(!server.trace().iter().any(|line| line.contains("waits")), "{:?}", server.trace());
}

#[tokio::test(start_paused = true)]
async fn stumbles_are_retried_and_refusals_are_not() {
    for (script, want) in [
        (vec![Reply::Json(409, Value::Null), Reply::Json(500, Value::Null), ok()], 3),
        (vec![Reply::Busy(429, 1), Reply::Refuse, Reply::Json(503, Value::Null), ok()], 3),
        (vec![Reply::Json(403, Value::Null), ok()], 1),
        (vec![Reply::Json(404, Value::Null), ok()], 1),
    ] {
        let (server, desk, _keep) = start(script);
        desk.put(order("a", "m"));
        settle().await;
        assert_eq!(server.asked().len(), want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_writes_nothing_and_the_desk_is_bounded() {
    let (server, desk, leadership) = start(vec![ok()]);
    leadership.send_replace(Leadership::Standby);
    desk.put(order("a", "m"));
    settle().await;
    assert_eq!(server.asked().len(), 0);
    let desk = ConditionDesk::default();
    let taken = (0..=WAITING_MAX).filter(|n| desk.put(order(&n.to_string(), "m"))).count();
    assert_eq!((taken, desk.waiting()), (WAITING_MAX, WAITING_MAX));
    assert!(desk.put(order("0", "newer")), "a pod that waits already keeps its place");
}

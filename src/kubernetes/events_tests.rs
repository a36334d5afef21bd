//! Events as they reach the API server.

use tokio::time::Instant;

use super::*;
use crate::{
    kubernetes::script::{Reply, Script},
    model::{
        ids::{PodKey, PodUid},
        time::Timestamp,
    },
};

fn order(uid: &str, reason: &'static str, note: &str) -> EventOrder {
    let pod = PodRef { key: PodKey::new("ns", uid), uid: PodUid::from(uid), scheduler_name: "isobar-scheduler".into() };
    EventOrder { pod, reason, kind: "Warning", action: "Scheduling", related: None, note: note.into() }
}

fn start(script: Vec<Reply>) -> (Arc<Script>, EventDesk) {
    let (server, api) = Script::new(script);
    let (desk, writer) = event_desk(api, Clock::simulated(Timestamp(1_000_000_000_000)), "host-1", 100.0);
    tokio::spawn(writer.run());
    (server, desk)
}

#[tokio::test(start_paused = true)]
async fn an_event_and_its_repetitions_read_as_upstream() {
    let created = Reply::Json(201, Value::Null);
    let (server, desk) = start(vec![created.clone(), Reply::Json(200, Value::Null), Reply::Json(404, Value::Null), created]);
    for _ in 0..3 {
        desk.put(Box::new(order("p", "FailedScheduling", "0/1 nodes are available")));
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(600)).await;
    let asked = server.asked();
    let want = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "p.de0b6b3a7640000", "namespace": "ns"},
        "eventTime": "2001-09-09T01:46:40.000000Z", "series": null, "reportingController": "isobar-scheduler",
        "reportingInstance": "isobar-scheduler-host-1", "action": "Scheduling", "reason": "FailedScheduling",
        "regarding": {"kind": "Pod", "apiVersion": "v1", "namespace": "ns", "name": "p", "uid": "p"},
        "note": "0/1 nodes are available", "type": "Warning",
    });
    assert_eq!((asked[0].path.as_str(), &asked[0].body), ("/apis/events.k8s.io/v1/namespaces/ns/events", &want));
    assert_eq!((asked[1].method.as_str(), asked[1].content_type.as_str()), ("PATCH", STRATEGIC_MERGE));
    assert_eq!(asked[1].path, "/apis/events.k8s.io/v1/namespaces/ns/events/p.de0b6b3a7640000");
    assert_eq!(asked[1].body, json!({"series": {"count": 2, "lastObservedTime": "2001-09-09T01:46:41.000000Z"}}));
    // The end of the series; the event has aged out meanwhile and is made anew.
    assert_eq!(asked[2].body, json!({"series": {"count": 3, "lastObservedTime": "2001-09-09T01:46:42.000000Z"}}));
    assert_eq!((asked[3].method.as_str(), &asked[3].body["series"]["count"]), ("POST", &json!(3)));
    assert_eq!(asked.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_bounded_and_too_many_are_dropped() {
    let sent = WAITING_MAX + 1000;
    let (server, desk) = start(vec![Reply::Json(201, Value::Null); sent]);
    let started = Instant::now();
    for n in 0..sent {
        desk.put(Box::new(order(&n.to_string(), "Scheduled", "x")));
    }
    while server.count() < WAITING_MAX {
        sleep(Duration::from_millis(100)).await;
        assert!(started.elapsed() < Duration::from_secs(300), "{}", server.count());
    }
    let least = (WAITING_MAX - 500) as u64 / 100;
    assert!(started.elapsed().as_secs() >= least, "{:?}", started.elapsed());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server.count(), WAITING_MAX, "the rest was dropped");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_without_a_node_drowns_no_event_of_a_pod_that_found_one() {
    let (server, desk) = start(vec![Reply::Json(201, Value::Null); 2 * WAITING_MAX]);
    for n in 0..WAITING_MAX + 1000 {
        desk.put(Box::new(order(&n.to_string(), "FailedScheduling", "x")));
    }
    for n in 0..300 {
        desk.put(Box::new(order(&format!("found-{n}"), "Scheduled", "x")));
    }
    sleep(Duration::from_secs(1)).await;
    let reasons: Vec<_> = server.asked().iter().map(|asked| asked.body["reason"].clone()).collect();
    assert!(reasons.len() >= 300, "{}", reasons.len());
    assert!(reasons[..300].iter().all(|reason| reason == "Scheduled"), "said once, so written first");
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_asked_once_more() {
    let (server, desk) = start(vec![Reply::Busy(429, 2), Reply::Busy(429, 2), Reply::Json(201, Value::Null)]);
    desk.put(Box::new(order("a", "Scheduled", "x")));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(server.count(), 2);
}

#[test]
fn notes_are_cut_at_a_character() {
    assert_eq!(shortened(&"x".repeat(1024)).len(), 1024);
    let cut = shortened(&"x".repeat(1025));
    assert_eq!((cut.len(), &cut[1019..]), (1024, "x ..."));
    let cut = shortened(&"é".repeat(1024));
    assert!(cut.len() <= 1024 && cut.ends_with("é ..."));
}

//! What the API server can say to an eviction, and what the engine is told.

use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::{
    kubernetes::{
        events::event_desk,
        leadership::Leadership,
        script::{Asked, Reply, Script},
    },
    model::time::Timestamp,
};

fn pod(name: &str) -> (PodKey, PodUid) {
    (PodKey::new("ns", name), PodUid::from(&*format!("uid-{name}")))
}

fn order(victims: &[&str]) -> EvictOrder {
    let (key, uid) = pod("high");
    let preemptor = PodRef { key, uid, scheduler_name: "s".into() };
    EvictOrder { preemptor, node: "n1".into(), victims: victims.iter().map(|name| pod(name)).collect() }
}

fn status(code: u16) -> Reply {
    Reply::Json(code, json!({"kind": "Status", "code": code, "message": "scripted"}))
}

/// The outcome, what was asked of the API server for it, and the events that came of it.
async fn carry_out(victims: &[&str], script: Vec<Reply>, leadership: Leadership) -> (Result<(), String>, Vec<Asked>, Vec<Asked>) {
    let (server, api) = Script::new(script);
    let (events_server, events_api) = Script::new(vec![status(201); 8]);
    let clock = Clock::simulated(Timestamp(0));
    let (events, writer) = event_desk(events_api, clock, "h", 100.0);
    let (_keep, leads) = watch::channel(leadership);
    let (sender, mut inputs) = mpsc::channel(8);
    let (desk, evictor) = eviction_desk(&api, Permission::new(leads), clock, events, sender);
    let task = tokio::spawn(evictor.run());
    desk.put(order(victims));
    let Some(Input::Evicted(uid, outcome)) = inputs.recv().await else { panic!("no outcome") };
    assert_eq!(uid, pod("high").1);
    drop(desk);
    task.await.unwrap();
    writer.run().await;
    (outcome, server.asked(), events_server.asked())
}

fn calls(asked: &[Asked]) -> Vec<String> {
    asked.iter().map(|asked| format!("{} {}", asked.method, asked.path.trim_start_matches("/api/v1/namespaces/ns/pods/"))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_one_outcome() {
    let failed = |what: &str, code: u16| Err(format!("{what} of pod ns/a: the API server answered {code}: scripted"));
    let (mark, delete) = ("PATCH a/status", "DELETE a");
    for (name, script, want, asked, events) in [
        ("taken", vec![status(200), status(200)], Ok(()), vec![mark, delete], 1),
        ("gone before", vec![status(404)], Ok(()), vec![mark], 0),
        ("gone in between", vec![status(200), status(404)], Ok(()), vec![mark, delete], 0),
        ("another pod of that name", vec![status(409); 4], Ok(()), vec![mark, mark, mark, delete], 0),
        ("changed under our hands", vec![status(409), status(200), status(200)], Ok(()), vec![mark, mark, delete], 1),
        (
            "stumbles",
            vec![status(500), Reply::Refuse, status(200), Reply::Busy(429, 1), status(200)],
            Ok(()),
            vec![mark, mark, mark, delete, delete],
            1,
        ),
        ("forbidden", vec![status(403)], failed("condition DisruptionTarget", 403), vec![mark], 0),
        ("forbidden later", vec![status(200), status(403)], failed("deletion", 403), vec![mark, delete], 0),
        ("down", vec![status(500); 3], failed("condition DisruptionTarget", 500), vec![mark, mark, mark], 0),
    ] {
        let (outcome, seen, told) = carry_out(&["a"], script, Leadership::Unlimited).await;
        assert_eq!(outcome, want, "{name}");
        assert_eq!(calls(&seen), asked, "{name}");
        assert_eq!(told.len(), events, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_upstreams() {
    let (_, asked, events) = carry_out(&["a"], vec![status(200), status(200)], Leadership::Unlimited).await;
    let condition = &asked[0].body["status"]["conditions"][0];
    assert_eq!(asked[0].body["metadata"]["uid"], "uid-a");
    for (field, want) in [
        ("type", "DisruptionTarget"),
        ("status", "True"),
        ("reason", "PreemptionByScheduler"),
        ("message", "s: preempting to accommodate a higher priority pod"),
    ] {
        assert_eq!(condition[field], want);
    }
    assert_eq!(asked[1].body["preconditions"], json!({"uid": "uid-a"}));
    let event = &events[0].body;
    for (place, want) in [
        ("/reason", "Preempted"),
        ("/type", "Normal"),
        ("/action", "Preempting"),
        ("/note", "Preempted by pod uid-high on node n1"),
        ("/reportingController", "s"),
        ("/regarding/name", "a"),
        ("/related/name", "high"),
    ] {
        assert_eq!(event.pointer(place).and_then(Value::as_str), Some(want), "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_victim_is_spared_when_another_could_not_be_ended() {
    let (outcome, asked, _) = carry_out(&["a", "b"], vec![status(403)], Leadership::Unlimited).await;
    assert!(outcome.is_err());
    assert_eq!(calls(&asked), ["PATCH a/status"]);
    let (outcome, asked, events) = carry_out(&["a", "b"], vec![status(200); 4], Leadership::Unlimited).await;
    assert_eq!((outcome, events.len()), (Ok(()), 2));
    assert_eq!(calls(&asked), ["PATCH a/status", "DELETE a", "PATCH b/status", "DELETE b"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_without_the_lead() {
    let (outcome, asked, _) = carry_out(&["a"], vec![status(200); 2], Leadership::Standby).await;
    assert_eq!(outcome, Err("not sent, as the lease ran out".to_owned()));
    assert!(asked.is_empty());
}

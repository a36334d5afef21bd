//! Reports to real receivers over real sockets: those that answer, fail, hang, and come back.
#![allow(clippy::disallowed_methods)] // real sockets are waited for in real time

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use axum::{Json, Router, extract::State, http::HeaderMap, routing::post};
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::config::resolved::NatsServerSettings;

/// What receivers have heard: authorisation, content type, event.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(String, String, Value)>>>, Arc<AtomicU16>);

impl Heard {
    fn ids(&self) -> Vec<String> {
        lock(&self.0).iter().map(|(_, _, event)| text(event, "/id").to_owned()).collect()
    }
}

/// A receiver that answers with the status it is told to; 0 is never.
async fn receiver(heard: &Heard, address: &str) -> (String, JoinHandle<()>) {
    async fn take(State(heard): State<Heard>, headers: HeaderMap, Json(event): Json<Value>) -> StatusCode {
        let status = heard.1.load(Ordering::Relaxed);
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        lock(&heard.0).push((header("authorization"), header("content-type"), event));
        StatusCode::from_u16(status).unwrap()
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/hook", post(take)).with_state(heard.clone());
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

fn run(name: &str) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7"},
        "spec": {"taskRef": {"name": "radar"}, "trigger": {"type": "Cron", "key": "k"}, "cycle": "2026-11-28T06:00:00Z"},
        "status": {"phase": "Finishing", "outcome": "Failed", "attempt": 2, "finishedAt": "2026-11-28T06:05:00Z",
            "attempts": [{"number": 2, "podName": "radar-1-2", "node": "n1", "exitCode": 3}]},
    })
}

fn receivers(addresses: &[&str], token_file: Option<PathBuf>) -> Receivers {
    let urls = addresses.iter().map(|address| format!("http://{address}/hook?a=b")).collect();
    Receivers::new(&ReportOptions { urls, token_file, nats: None }).unwrap()
}

#[tokio::test]
async fn a_receiver_gets_a_whole_event_with_our_token() {
    let heard = Heard::default();
    heard.1.store(204, Ordering::Relaxed);
    let (address, server) = receiver(&heard, "127.0.0.1:0").await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "secret\n").unwrap();
    receivers(&[&address], Some(token.path().to_owned())).tell(&run("r"), "Finished").await.unwrap();
    let (authorization, kind, event) = lock(&heard.0)[0].clone();
    assert_eq!((&*authorization, &*kind), ("Bearer secret", "application/cloudevents+json; charset=utf-8"));
    for (pointer, wanted) in [
        ("/specversion", json!("1.0")),
        ("/id", json!("uid-r/Finished")),
        ("/source", json!("/apis/isobar.dev/v1alpha1/namespaces/ns/taskruns")),
        ("/type", json!("dev.isobar.taskrun.finished")),
        ("/subject", json!("r")),
        ("/time", json!("2026-11-28T06:05:00Z")),
        ("/resourceversion", json!("7")),
        ("/data/outcome", json!("Failed")),
        ("/data/task", json!("radar")),
        ("/data/exitCode", json!(3)),
        ("/data/attempts", json!(2)),
    ] {
        assert_eq!(event.pointer(pointer), Some(&wanted), "{pointer} of {event:#}");
    }
    server.abort();
}

#[tokio::test]
async fn a_receiver_that_fails_is_left_alone_for_a_while_and_the_other_is_told_once() {
    let (good, bad) = (Heard::default(), Heard::default());
    good.1.store(200, Ordering::Relaxed);
    bad.1.store(500, Ordering::Relaxed);
    let ((one, first), (other, second)) = (receiver(&good, "127.0.0.1:0").await, receiver(&bad, "127.0.0.1:0").await);
    let receivers = receivers(&[&one, &other], None);
    let why = receivers.tell(&run("r"), "Reaped").await.unwrap_err();
    assert!(why.contains("it answered 500") && !why.contains(&one), "{why}");
    let why = receivers.tell(&run("r"), "Reaped").await.unwrap_err();
    assert!(why.contains("a moment ago"), "{why}");
    assert_eq!((good.ids().len(), bad.ids().len(), receivers.paused()), (1, 1, None));
    // It is there again, at the same address, with all that it had forgotten.
    second.abort();
    let _ = second.await;
    bad.1.store(200, Ordering::Relaxed);
    let (_, second) = receiver(&bad, &other).await;
    tokio::time::sleep(PAUSE_FIRST + Duration::from_millis(100)).await;
    receivers.tell(&run("r"), "Reaped").await.unwrap();
    assert_eq!((good.ids(), bad.ids()), (vec!["uid-r/Reaped".to_owned()], vec!["uid-r/Reaped".to_owned(); 2]));
    assert!(lock(&receivers.half_told).is_empty());
    first.abort();
    second.abort();
}

#[tokio::test]
async fn what_it_says_of_one_event_is_not_held_against_it() {
    let heard = Heard::default();
    heard.1.store(422, Ordering::Relaxed);
    let (address, server) = receiver(&heard, "127.0.0.1:0").await;
    let receivers = receivers(&[&address], None);
    assert!(receivers.tell(&run("a"), "Reaped").await.unwrap_err().contains("422"));
    heard.1.store(202, Ordering::Relaxed);
    receivers.tell(&run("b"), "Reaped").await.unwrap();
    server.abort();
}

#[tokio::test]
async fn one_that_hangs_or_is_not_there_costs_seconds_once() {
    let heard = Heard::default();
    let (address, server) = receiver(&heard, "127.0.0.1:0").await;
    let receivers = receivers(&[&address, "127.0.0.1:1"], None);
    let began = Instant::now();
    let why = receivers.tell(&run("r"), "Finished").await.unwrap_err();
    assert!(why.contains("no answer within 5 s") && why.contains("127.0.0.1:1"), "{why}");
    assert!(began.elapsed() < ANSWER_TIMEOUT + Duration::from_secs(3));
    let began = Instant::now();
    assert!(receivers.paused().is_some() && receivers.tell(&run("s"), "Finished").await.is_err());
    assert!(began.elapsed() < Duration::from_millis(500));
    server.abort();
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_no_matter_for_the_broker() {
    let heard = Heard::default();
    heard.1.store(204, Ordering::Relaxed);
    let (address, server) = receiver(&heard, "127.0.0.1:0").await;
    let servers = NatsServerSettings { urls: vec!["nats://127.0.0.1:1".to_owned()], ..NatsServerSettings::default() };
    let options = ReportOptions {
        urls: vec![format!("http://{address}/hook")],
        token_file: Some(PathBuf::from("/nowhere/token")),
        nats: Some(NatsSubjectSettings { servers, subject: "runs".to_owned() }),
    };
    let why = Receivers::new(&options).unwrap().tell(&run("a"), "Reaped").await.unwrap_err();
    let of = |name: &str| why.split("; ").any(|part| part.starts_with(name));
    assert!(why.contains("/nowhere/token") && of("http://") && of("subject "), "{why}");
    assert!(heard.ids().is_empty(), "no call without the token: {:?}", heard.ids());
    server.abort();
}

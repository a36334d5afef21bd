//! Bodies and answers, with a machine that says what it is told to.

use axum::{body::to_bytes, http::StatusCode};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::tasks::{effect::Answer, facts::Key};

/// Sends a body; the machine answers each arrival so. Out: status, body, how many arrivals the machine saw.
async fn send(path: &str, headers: &[(&str, &str)], body: Vec<u8>, answers: Vec<Answer>) -> (StatusCode, Value, usize) {
    let (arrivals, mut arriving) = mpsc::channel::<Arriving>(8);
    let machine = tokio::spawn(async move {
        let mut seen = 0;
        let mut answers = answers.into_iter();
        while let Some(arriving) = arriving.recv().await {
            seen += 1;
            let _ = arriving.answer.send(answers.next().unwrap_or(Answer::Unwanted));
        }
        seen
    });
    let router = router(EventIntake { sources: vec!["radar-in".to_owned()], arrivals });
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = response.status();
    assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == StatusCode::SERVICE_UNAVAILABLE);
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default(), machine.await.unwrap())
}

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "type": "t", "source": "s", "id": id})
}

#[tokio::test]
async fn an_event_is_acknowledged_when_the_machine_says_so() {
    let accepted = || Answer::Accepted(vec![Key::new("ns", "radar-d1")]);
    let binary = [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "s"), ("ce-id", "1")];
    let batch = json!([event("1"), event("2"), event("3")]);
    let s3 = json!({"Records": [
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}, {"eventName": "ObjectRemoved:Delete"},
    ]});
    for (headers, body, answers, status, said, seen) in [
        (&[][..], event("1"), vec![accepted()], 200, json!({"runs": ["ns/radar-d1"], "duplicates": 0, "unwanted": 0}), 1),
        (&binary, Value::Null, vec![Answer::Duplicate], 200, json!({"runs": [], "duplicates": 1, "unwanted": 0}), 1),
        (&[], batch, vec![accepted(), Answer::Duplicate], 200, json!({"runs": ["ns/radar-d1"], "duplicates": 1, "unwanted": 1}), 3),
        (&[], s3, vec![Answer::Unwanted], 200, json!({"runs": [], "duplicates": 0, "unwanted": 1}), 1),
        (&[], event("1"), vec![Answer::Again("no leader".into())], 503, json!("no leader"), 1),
        (&[], event("1"), vec![Answer::Refused("too old".into())], 422, json!("too old"), 1),
        (&[], json!({"specversion": "1.0"}), vec![], 400, json!("type must be a text that is not empty"), 0),
        (&[], json!({"other": 1}), vec![], 400, json!("the body is neither"), 0),
    ] {
        let (code, body, arrivals) = send("/events/radar-in", headers, body.to_string().into_bytes(), answers).await;
        assert_eq!((code.as_u16(), arrivals), (status, seen), "{body}");
        match said.as_str() {
            Some(part) => assert!(body["message"].as_str().unwrap().contains(part), "{body}"),
            None => assert_eq!(body, said),
        }
    }
}

#[tokio::test]
async fn what_is_too_long_or_for_nobody_is_refused_before_the_machine_sees_it() {
    let (code, body, seen) = send("/events/radar-in", &[], vec![b' '; BODY_BYTES_MAX + 1], Vec::new()).await;
    assert_eq!((code, seen), (StatusCode::PAYLOAD_TOO_LARGE, 0), "{body}");
    let (code, body, seen) =
        send("/events/radar-in", &[("expect", "100-continue"), ("content-length", "10485760")], Vec::new(), Vec::new()).await;
    assert_eq!((code, seen), (StatusCode::PAYLOAD_TOO_LARGE, 0), "{body}");
    let (code, body, seen) = send("/events/other", &[], event("1").to_string().into_bytes(), Vec::new()).await;
    assert_eq!((code, seen), (StatusCode::NOT_FOUND, 0), "{body}");
}

//! Watches against scripted servers, under paused time.

use serde_json::{Value, json};

use super::*;
use crate::{
    kubernetes::script::{FOREVER, Piece, Reply, Script},
    model::pod::PodFacts,
    scheduler::input::Input,
};

const NO_STREAMING: u16 = 422;

fn object(uid: &str, version: u32) -> Value {
    json!({"metadata": {"uid": uid, "name": uid, "namespace": "n", "resourceVersion": version.to_string()}})
}

fn event(kind: &str, uid: &str, version: u32) -> Piece {
    Piece::Line(json!({"type": kind, "object": object(uid, version)}))
}

fn bookmark(version: u32, end: bool) -> Piece {
    let annotations = if end { json!({"k8s.io/initial-events-end": "true"}) } else { Value::Null };
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    Piece::Line(json!({"type": "BOOKMARK", "object": {"metadata": metadata}}))
}

fn error(code: u16) -> Piece {
    Piece::Line(json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": code, "message": "m"}}))
}

fn page(uids: &[&str], next: &str) -> Reply {
    let items: Vec<_> = uids.iter().map(|uid| object(uid, 1)).collect();
    Reply::Json(200, json!({"metadata": {"resourceVersion": "50", "continue": next}, "items": items}))
}

fn status(code: u16) -> Reply {
    Reply::Json(code, json!({"kind": "Status", "code": code, "message": "scripted"}))
}

/// Runs a watch over the script and prints the first inputs: `+uid`, `-uid`, `=uids`. Returns also the requests and the virtual time taken.
async fn run(script: Vec<Reply>, inputs_wanted: usize) -> (Vec<String>, Vec<String>, Duration) {
    let (server, api) = Script::new(script);
    let (inputs, mut received) = mpsc::channel(8);
    let watch = Watch::<PodFacts>::new(api, ClusterId::HOME, "home", inputs, 1);
    let started = Instant::now();
    let task = tokio::spawn(watch.run());
    let mut got = Vec::new();
    while got.len() < inputs_wanted {
        let input = tokio::time::timeout(FOREVER / 2, received.recv()).await;
        got.push(match input.expect("more inputs") {
            Some(Input::Pod(pod)) => format!("+{}", pod.uid),
            Some(Input::PodGone(_, uid)) => format!("-{uid}"),
            Some(Input::PodsListed(_, uids)) => {
                let mut uids: Vec<_> = uids.into_iter().map(|uid| uid.to_string()).collect();
                uids.sort();
                format!("={}", uids.join(","))
            }
            other => panic!("unexpected {other:?}"),
        });
    }
    let took = started.elapsed();
    task.abort();
    (got, server.asked().into_iter().map(|asked| asked.path).collect(), took)
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_goes_on_as_a_watch() {
    let first =
        vec![event("ADDED", "a", 3), event("ADDED", "b", 2), bookmark(7, true), event("DELETED", "a", 8), event("MODIFIED", "b", 9)];
    let second = vec![event("ADDED", "c", 10), Piece::Pause(FOREVER)];
    let (got, paths, _) =
        run(vec![Reply::Stream([first, vec![Piece::Pause(Duration::from_secs(5))]].concat()), Reply::Stream(second)], 6).await;
    assert_eq!(got, ["+a", "+b", "=a,b", "-a", "+b", "+c"]);
    assert!(
        paths[0].starts_with("/api/v1/pods?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
    );
    assert!(paths[0].ends_with("&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"));
    assert!(paths[1].contains("&resourceVersion=9&"), "goes on after the last event: {}", paths[1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_asked_for_pages() {
    let watch = vec![event("ADDED", "c", 51), Piece::Pause(FOREVER)];
    let (got, paths, took) = run(vec![status(NO_STREAMING), page(&["a"], "t/1"), page(&["b"], ""), Reply::Stream(watch)], 4).await;
    assert_eq!(got, ["+a", "+b", "=a,b", "+c"]);
    assert!(paths[1].starts_with("/api/v1/pods?limit=500&field"), "{}", paths[1]);
    assert!(paths[2].contains("&continue=t%2F1&"), "{}", paths[2]);
    assert!(paths[3].contains("&resourceVersion=50&"), "{}", paths[3]);
    assert!(took < Duration::from_millis(1), "no failure, no wait");
}

#[tokio::test(start_paused = true)]
async fn half_a_list_declares_nothing_gone() {
    // A list that breaks, one that ends early, one whose first page alone comes, one whose second page has expired.
    let script = vec![
        Reply::Stream(vec![event("ADDED", "a", 1), Piece::Break]),
        Reply::Stream(vec![event("ADDED", "b", 1)]),
        Reply::Stream(vec![event("ADDED", "c", 1), Piece::Raw("{\"type\":\"ADDED\",\"obj".into())]),
        page(&["d"], "t"),
        status(500),
        status(503),
        status(500),
        page(&["e"], "t"),
        status(410),
        page(&["f"], ""),
    ];
    let (got, _, _) = run(script, 7).await;
    assert_eq!(got, ["+a", "+b", "+c", "+d", "+e", "+f", "=f"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_never_ends_is_no_streaming_list() {
    let endless = vec![event("ADDED", "a", 1), Piece::Pause(FOREVER)];
    let (got, _, took) = run(vec![Reply::Stream(endless), page(&["a"], "")], 3).await;
    assert_eq!(got, ["+a", "+a", "=a"]);
    assert_eq!(took.as_secs(), LIST_SILENCE_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_asks_for_a_new_list() {
    let listed = |uid: &str| vec![event("ADDED", uid, 3), bookmark(3, true)];
    for expired in [vec![Reply::Stream([listed("a"), vec![error(410)]].concat())], vec![Reply::Stream(listed("a")), status(410)]] {
        let script = [expired, vec![Reply::Stream([listed("b"), vec![Piece::Pause(FOREVER)]].concat())]].concat();
        let (got, _, _) = run(script, 4).await;
        assert_eq!(got, ["+a", "=a", "+b", "=b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_waited_out_and_never_spin() {
    let listed = vec![event("ADDED", "a", 3), bookmark(3, true), bookmark(6, false)];
    let failures = vec![status(500), Reply::Refuse, Reply::Busy(429, 20), Reply::Stream(vec![])];
    let script = [vec![Reply::Stream(listed)], failures, vec![Reply::Stream(vec![event("ADDED", "b", 7), Piece::Pause(FOREVER)])]].concat();
    let (got, paths, took) = run(script, 3).await;
    assert_eq!(got, ["+a", "=a", "+b"]);
    assert_eq!(paths.len(), 6);
    assert!(paths[1..].iter().all(|path| path.contains("&resourceVersion=6&")), "a bookmark moves the version: {paths:?}");
    // The end of the first stream and four failures: waits of at least 0.8, 1.6, 3.2, 20 (asked for) and 12.8 s.
    assert!((30..120).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_never_taken_is_given_up() {
    let listed =
        |uid: &str| Reply::Stream(vec![event("ADDED", uid, 3), bookmark(3, true), Piece::Pause(Duration::from_secs(9)), Piece::Break]);
    let script = [vec![listed("a")], vec![status(504); 5], vec![listed("b")]].concat();
    assert_eq!(run(script, 4).await.0, ["+a", "=a", "+b", "=b"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_noticed_by_missing_bookmarks() {
    let dead = vec![event("ADDED", "a", 3), bookmark(3, true), Piece::Pause(FOREVER)];
    let (got, _, took) = run(vec![Reply::Stream(dead), Reply::Stream(vec![event("ADDED", "b", 4), Piece::Pause(FOREVER)])], 3).await;
    assert_eq!(got, ["+a", "=a", "+b"]);
    assert_eq!(took.as_secs(), SILENCE_MAX_WITH_BOOKMARKS.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_bad_object_is_skipped_and_not_declared_gone() {
    let bad = |version: u32| {
        let mut object = object("bad", version);
        object["spec"] = json!({"overhead": {"cpu": "?"}});
        Piece::Line(json!({"type": "ADDED", "object": object}))
    };
    let stream = vec![bad(1), event("ADDED", "a", 3), bookmark(3, true), bad(8), event("MODIFIED", "a", 9), Piece::Pause(FOREVER)];
    assert_eq!(run(vec![Reply::Stream(stream)], 3).await.0, ["+a", "=a,bad", "+a"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_server_does_not_know_is_an_empty_list_if_it_may_be_missing() {
    use crate::model::{devices::DeviceClaimFacts, storage::StorageKind};
    let (server, api) = Script::new(vec![status(404), status(404), page(&["late"], ""), Reply::Hang]);
    let (inputs, mut received) = mpsc::channel(8);
    let watch = Watch::<DeviceClaimFacts>::new(api, ClusterId::HOME, "home", inputs, 1);
    let synced = watch.synced();
    let task = tokio::spawn(watch.run());
    let Some(Input::StorageListed(StorageKind::DeviceClaim, keys)) = received.recv().await else { panic!("not an empty list") };
    assert!(keys.is_empty());
    let asked_at = Instant::now();
    assert!(matches!(received.recv().await, Some(Input::Storage(_))), "the kind has come");
    assert!(synced.is_synced() && asked_at.elapsed() >= UNKNOWN_KIND_WAIT);
    assert!(server.asked().len() >= 3, "a streaming list, a page, and later a page again");
    task.abort();
}

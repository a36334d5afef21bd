//! The loop around the rules, against scripted servers under paused time.

use std::sync::Arc;

use super::*;
use crate::{
    kubernetes::script::{Reply, Script},
    model::time::Timestamp,
};

fn lease(holder: &str, version: u32) -> Reply {
    Reply::Json(200, lease_json(holder, version))
}

fn lease_json(holder: &str, version: u32) -> Value {
    json!({
        "metadata": {"name": "isobar-scheduler", "namespace": "kube-system", "resourceVersion": version.to_string(), "labels": {"keep": "me"}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3, "renewTime": version.to_string()},
    })
}

fn status(code: u16) -> Reply {
    Reply::Json(code, json!({"kind": "Status", "code": code, "message": "scripted"}))
}

struct Stage {
    server: Arc<Script>,
    leadership: watch::Receiver<Leadership>,
    inputs: mpsc::Receiver<Input>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Ended>,
    started: Instant,
}

fn start(script: Vec<Reply>) -> Stage {
    let (server, api) = Script::new(script);
    let (sender, leadership) = watch::channel(Leadership::Standby);
    let (input_sender, inputs) = mpsc::channel(8);
    let settings = ElectionSettings::new("me".to_owned(), "kube-system", "isobar-scheduler");
    let elector = Elector::new(api, settings, Clock::simulated(Timestamp(1_000_000_000_000)), sender, input_sender, 1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(elector.run(stop.clone()));
    Stage { server, leadership, inputs, stop, task, started: Instant::now() }
}

#[tokio::test(start_paused = true)]
async fn makes_the_lease_renews_it_and_gives_it_up() {
    let script = vec![status(404), lease("me", 1), lease("me", 2), lease("me", 3), lease("me", 3), lease("", 4)];
    let mut stage = start(script);
    assert!(matches!(stage.inputs.recv().await, Some(Input::Leading(true))));
    sleep(Duration::from_secs(5)).await;
    let Leadership::Until(until) = *stage.leadership.borrow() else { panic!("not leading") };
    assert_eq!((until - stage.started).as_secs(), 14, "renewed at 4 s");
    stage.stop.cancel();
    assert_eq!(stage.task.await.unwrap(), Ended::Released);
    assert!(!stage.leadership.borrow().allows(Instant::now()));
    let asked = stage.server.asked();
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let named = format!("{path}/isobar-scheduler");
    let methods: Vec<_> = asked.iter().map(|asked| (asked.method.as_str(), asked.path.as_str())).collect();
    assert_eq!(methods, [("GET", &*named), ("POST", path), ("PUT", &named), ("PUT", &named), ("GET", &named), ("PUT", &named)]);
    assert_eq!(asked[1].body["spec"]["holderIdentity"], "me");
    assert_eq!(asked[2].body["metadata"]["labels"]["keep"], "me", "what others wrote stays");
    assert_eq!(asked[2].body["metadata"]["resourceVersion"], "1", "a write goes through only on what was read");
    assert_eq!(asked[5].body["spec"]["holderIdentity"], "");
}

#[tokio::test(start_paused = true)]
async fn takes_over_when_the_other_has_been_silent_for_its_whole_duration() {
    let silent = vec![lease("other", 7); 8];
    let mut stage = start([silent, vec![Reply::Json(200, lease_json("me", 8))]].concat());
    assert!(matches!(stage.inputs.recv().await, Some(Input::Leading(true))));
    let took = stage.started.elapsed().as_millis();
    assert!((15_000..15_100).contains(&took), "{took}");
    let asked = stage.server.asked();
    let put = asked.last().unwrap();
    assert_eq!((put.method.as_str(), &put.body["spec"]["leaseTransitions"]), ("PUT", &json!(4)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_is_left_alone() {
    let renewed: Vec<_> = (0..40).map(|version| lease("other", version)).collect();
    let stage = start(renewed);
    sleep(Duration::from_secs(60)).await;
    assert!(stage.server.asked().iter().all(|asked| asked.method == "GET"));
    assert_eq!(*stage.leadership.borrow(), Leadership::Standby);
    stage.stop.cancel();
    assert_eq!(stage.task.await.unwrap(), Ended::Released);
    assert!(stage.server.asked().iter().all(|asked| asked.method == "GET"), "nothing of ours to give up");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_its_lease_ends() {
    for failures in [vec![status(500); 9], vec![Reply::Refuse; 9], vec![Reply::Hang; 9]] {
        let mut stage = start([vec![status(404), lease("me", 1)], failures].concat());
        assert!(matches!(stage.inputs.recv().await, Some(Input::Leading(true))));
        assert_eq!(stage.task.await.unwrap(), Ended::Lost);
        assert_eq!(stage.started.elapsed().as_secs(), 10);
        assert_eq!(*stage.leadership.borrow(), Leadership::Standby);
        assert!(matches!(stage.inputs.recv().await, Some(Input::Leading(false))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_in_its_place_ends_at_once() {
    let stage = start(vec![status(404), lease("me", 1), status(409), lease("other", 9)]);
    assert_eq!(stage.task.await.unwrap(), Ended::Lost);
    assert_eq!(stage.started.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_is_taken_up_again() {
    let stage = start(vec![status(404), lease("me", 1), Reply::Refuse, status(409), lease("me", 2), lease("me", 3)]);
    sleep(Duration::from_secs(5)).await;
    assert!(stage.leadership.borrow().allows(Instant::now() + Duration::from_secs(8)));
    assert!(!stage.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_the_deadline_has_passed() {
    let mut stage = start(vec![status(404), lease("me", 1)]);
    assert!(matches!(stage.inputs.recv().await, Some(Input::Leading(true))));
    let permission = crate::kubernetes::leadership::Permission::new(stage.leadership.clone());
    assert!(permission.granted());
    // Time goes on while no task runs, as it does for a stopped process.
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(!permission.granted(), "before the election has noticed anything");
    assert_eq!(stage.task.await.unwrap(), Ended::Lost);
}

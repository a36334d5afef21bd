//! Every answer to a binding, and what the engine is told.

use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::{
    kubernetes::{
        leadership::Leadership,
        script::{Reply, Script},
    },
    model::ids::NodeKey,
};

fn order() -> BindOrder {
    let pod = PodRef { key: PodKey::new("ns", "p"), uid: PodUid::from("u"), scheduler_name: "s".into() };
    BindOrder { pod, node: NodeKey::home("n1"), attempt: 1, run_attempt: 0, resumes: false, earlier_binding: None }
}

fn pod(uid: &str, node: &str) -> Reply {
    Reply::Json(200, json!({"metadata": {"name": "p", "namespace": "ns", "uid": uid}, "spec": {"nodeName": node}}))
}

fn status(code: u16) -> Reply {
    Reply::Json(code, json!({"kind": "Status", "code": code, "message": "scripted"}))
}

fn late(reply: Reply) -> Reply {
    Reply::After(BIND_TIMEOUT * 2, Box::new(reply))
}

async fn carry_out(script: Vec<Reply>, leadership: Leadership) -> (Result<(), BindFailure>, Arc<Script>) {
    let (server, api) = Script::new(script);
    let (_keep, leads) = watch::channel(leadership);
    let binder = Binder::new(api, Permission::new(leads), ConditionDesk::default());
    let outcome = match binder.carry_out(BindWork::Bind(Box::new(order()))).await {
        Input::Bound(_) => Ok(()),
        Input::BindFailed(_, failure) => Err(failure),
        other => panic!("{other:?}"),
    };
    (outcome, server)
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_one_outcome() {
    let failed = |why: &str| Err(BindFailure::Failed(why.to_owned()));
    let said = |code: u16| failed(&format!("the API server answered {code}: scripted"));
    let unclear = |why: &str| Err(BindFailure::Unclear(why.to_owned()));
    let not_done = |code: u16| unclear(&format!("the API server answered {code}: scripted"));
    let no_answer = || unclear("no answer from the API server within 10000 ms");
    for (name, script, want, posts) in [
        ("created", vec![status(201)], Ok(()), 1),
        ("conflict, ours already", vec![status(409), pod("u", "n1")], Ok(()), 1),
        ("conflict, another node", vec![status(409), pod("u", "n2")], Err(BindFailure::BoundElsewhere), 1),
        ("conflict, another incarnation", vec![status(409), pod("v", "")], Err(BindFailure::PodGone), 1),
        ("conflict, not bound", vec![status(409), pod("u", "")], not_done(409), 1),
        ("gone", vec![status(404), status(404)], Err(BindFailure::PodGone), 1),
        ("failed after the deed", vec![status(500), pod("u", "n1")], Ok(()), 1),
        ("failed before the deed", vec![status(500), pod("u", "")], not_done(500), 1),
        ("no answer, done", vec![late(status(201)), pod("u", "n1")], Ok(()), 1),
        ("no answer, not done", vec![Reply::Hang, pod("u", "")], no_answer(), 1),
        ("connection broke, done", vec![Reply::Refuse, pod("u", "n1")], Ok(()), 1),
        ("hard to read back", vec![status(503), Reply::Refuse, status(500), Reply::Busy(429, 2), pod("u", "n1")], Ok(()), 1),
        ("forbidden", vec![status(403)], said(403), 1),
        ("invalid", vec![status(422)], said(422), 1),
        ("busy, then created", vec![Reply::Busy(429, 3), status(201)], Ok(()), 2),
        ("busy twice", vec![Reply::Busy(429, 1), status(429)], said(429), 2),
        ("busy for too long", vec![Reply::Busy(429, 60)], failed("the API server answered 429 Too Many Requests"), 1),
    ] {
        let (outcome, server) = carry_out(script, Leadership::Unlimited).await;
        assert_eq!(outcome, want, "{name}");
        assert_eq!(server.asked().iter().filter(|asked| asked.method == "POST").count(), posts, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_nobody_can_tell_is_a_failure_in_the_end() {
    let started = Instant::now();
    let (outcome, server) = carry_out([vec![status(500)], vec![Reply::Refuse; 60]].concat(), Leadership::Unlimited).await;
    assert!(matches!(outcome, Err(BindFailure::Unclear(why)) if why.contains("cannot be read back")));
    assert!(started.elapsed() <= READ_BACK_MAX && server.asked().len() < 12, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_binding_names_pod_incarnation_and_node() {
    let (_, server) = carry_out(vec![status(201)], Leadership::Unlimited).await;
    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/api/v1/namespaces/ns/pods/p/binding?timeout=10000ms"));
    let want: Value = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
                             "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(asked.body, want);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_without_the_lease() {
    let passed = Leadership::Until(Instant::now());
    for leadership in [Leadership::Standby, passed] {
        let (outcome, server) = carry_out(vec![status(201)], leadership).await;
        assert_eq!((outcome, server.asked().len()), (Err(BindFailure::NotSent), 0), "{leadership:?}");
    }
    // The lease runs out while the server makes us wait.
    let soon = Leadership::Until(Instant::now() + Duration::from_secs(2));
    let (outcome, server) = carry_out(vec![Reply::Busy(429, 3), status(201)], soon).await;
    assert_eq!((outcome, server.asked().len()), (Err(BindFailure::NotSent), 1));
}

#[tokio::test(start_paused = true)]
async fn work_before_the_binding_is_done_in_order_and_retried() {
    let object = Reply::Json(200, serde_json::json!({"metadata": {"resourceVersion": "7"}}));
    let (server, api) = Script::new(vec![object, status(503), status(200), status(422)]);
    let (_keep, leads) = watch::channel(Leadership::Unlimited);
    let binder = Binder::new(api, Permission::new(leads), ConditionDesk::default());
    let patches = ["/a", "/b", "/c"].map(|path| (path.to_owned(), r#"{"x":1}"#.to_owned())).to_vec();
    let work = PreBindWork { plugin: "Volumes", patches, settles_within: None };
    let Input::PreBound(_, done) = binder.carry_out(BindWork::PreBind(order().pod, work)).await else { panic!("another answer") };
    let failure = Some(BindFailure::Failed("the API server answered 422: scripted".into()));
    assert_eq!(done, PreBindDone { plugin: "Volumes", versions: vec!["7".into(), "".into()], failure });
    assert_eq!(server.trace(), ["PATCH /a", "PATCH /b", "PATCH /b", "PATCH /c"]);
    assert_eq!(server.asked()[0].content_type, MERGE);
}

#[tokio::test(start_paused = true)]
async fn all_orders_are_answered_with_bounded_concurrency() {
    const ORDERS: usize = 200;
    let (_, api) = Script::new(vec![Reply::After(Duration::from_secs(1), Box::new(status(201))); ORDERS]);
    let (_keep, leads) = watch::channel(Leadership::Unlimited);
    let binder = Binder::new(api, Permission::new(leads), ConditionDesk::default());
    let (orders, receiver) = mpsc::unbounded_channel();
    let (inputs, mut outcomes) = mpsc::channel(1);
    for _ in 0..ORDERS {
        orders.send(BindWork::Bind(Box::new(order()))).unwrap();
    }
    drop(orders);
    let answered = Mutex::new(0);
    let count = async {
        while let Some(Input::Bound(_)) = outcomes.recv().await {
            *answered.lock().unwrap() += 1;
        }
    };
    let started = Instant::now();
    tokio::join!(binder.run(receiver, inputs), count);
    assert_eq!(*answered.lock().unwrap(), ORDERS);
    assert_eq!(started.elapsed().as_secs(), ORDERS.div_ceil(IN_FLIGHT_MAX) as u64);
}

//! The machine with bad input, foreign objects and bounds, order by order.

use serde_json::{Value, json};

use super::*;
use crate::tasks::{
    effect::{ArrivalId, News, Outcome},
    facts::Run,
    rules::Quota,
    run::Phase,
    trigger::arrival::Arrival,
};

const NOW: Timestamp = Timestamp(1_795_867_230_000);

struct Stage {
    machine: Machine,
    now: Timestamp,
    orders: Vec<(OrderId, Subject, Effect)>,
    answers: Vec<Answer>,
    told: Vec<News>,
}

impl Stage {
    fn new(rules: Rules, objects: &[Value]) -> Self {
        let (orders, answers, told) = (Vec::new(), Vec::new(), Vec::new());
        let mut stage = Self { machine: Machine::new(rules, 0), now: NOW, orders, answers, told };
        stage.give(Input::Leading(true));
        let mut listing = Listing::default();
        for object in objects {
            let uid: Box<str> = object["metadata"]["uid"].as_str().unwrap().into();
            if object["kind"] == "Task" {
                listing.tasks.insert(uid);
                stage.give(Input::Task(Box::new(Task::read(object).unwrap())));
            } else {
                listing.runs.insert(uid);
                stage.give(Input::Run(Box::new(Run::read(object).unwrap())));
            }
        }
        stage.give(Input::Listed(Box::new(listing)));
        stage
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        for command in out {
            match command {
                Command::Order(id, subject, effect) => self.orders.push((id, subject, effect)),
                Command::Answer(_, answer) => self.answers.push(answer),
                Command::Missed(..) => {}
                Command::Tell(news) => self.told.push(news),
            }
        }
    }

    fn arrive(&mut self, name: &str) {
        let arrival = Arrival { source: "s".into(), id: name.into(), name: name.into(), time: None };
        self.give(Input::Arrival(ArrivalId(1), Box::new(arrival)));
    }

    /// The one order with this effect.
    fn take(&mut self, name: &str) -> (OrderId, Effect) {
        let at = self.orders.iter().position(|(_, _, effect)| effect.name() == name);
        let (id, _, effect) = self.orders.remove(at.unwrap_or_else(|| panic!("no {name}: {:?}", self.orders)));
        (id, effect)
    }

    /// A task's status is written as it was ordered.
    fn settle_task(&mut self, task: &Value) {
        let (id, effect) = self.take("WriteTask");
        let Effect::WriteTask { status, .. } = effect else { panic!() };
        let mut task = task.clone();
        task["status"] = json!(status);
        task["metadata"]["resourceVersion"] = "9".into();
        self.give(Input::Done(id, Outcome::Task(Box::new(Task::read(&task).unwrap()))));
    }
}

fn task(change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({
        "params": [{"name": "p", "pattern": "[a-z]*"}], "limits": {"run": {"limit": "5m"}},
        "triggers": [{"data": {"source": "s", "match": "^(?<p>.)"}}],
        "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}},
    });
    change(&mut spec);
    json!({"kind": "Task", "metadata": {"namespace": "ns", "name": "t", "uid": "t1", "generation": 1, "resourceVersion": "1"}, "spec": spec})
}

#[allow(clippy::needless_pass_by_value)] // tables of JSON read better so
fn run(name: &str, spec: Value) -> Value {
    json!({"kind": "TaskRun", "metadata": {"namespace": "ns", "name": name, "uid": format!("u-{name}"), "resourceVersion": "2"}, "spec": spec})
}

fn rules() -> Rules {
    Rules { sources: vec!["s".to_owned()], ..Rules::default() }
}

#[test]
fn a_bare_run_that_is_wrong_ends_before_anything_begins() {
    for (spec, change, reason, part) in [
        (json!({"taskRef": {"name": "other"}}), None, "TaskUnknown", "no task other"),
        (json!({"taskRef": {"name": "t"}, "params": {"q": "1"}}), None, "ParamUnknown", "spec.params.q"),
        (json!({"taskRef": {"name": "t"}, "params": {"p": "1"}}), None, "ParamPattern", "does not match"),
        (json!({"taskRef": {"name": "t"}}), Some(json!({"run": {"limit": "soon"}})), "TaskInvalid", "spec.limits.run.limit"),
        (json!({"taskRef": {"name": 7}}), None, "Unreadable", "invalid type"),
    ] {
        let task = task(|spec| spec["limits"] = change.unwrap_or_else(|| spec["limits"].clone()));
        let mut stage = Stage::new(rules(), &[task.clone(), run("r", spec)]);
        if !stage.orders.iter().any(|(_, _, effect)| effect.name() == "WriteRun") {
            stage.settle_task(&task);
        }
        let (_, Effect::WriteRun { status, .. }) = stage.take("WriteRun") else { panic!() };
        assert_eq!((status.phase, status.reason.as_str()), (Some(Phase::Reaped), reason));
        assert!(status.message.contains(part), "{}", status.message);
    }
}

#[test]
fn an_arrival_is_answered_once_its_run_exists_and_refused_in_words() {
    let mut stage = Stage::new(rules(), &[task(|_| {})]);
    stage.arrive("x1");
    let (id, Effect::CreateRun(wanted)) = stage.take("CreateRun") else { panic!() };
    assert!(stage.answers.is_empty());
    let mut there = *wanted;
    there["metadata"]["uid"] = "r1".into();
    stage.give(Input::Done(id, Outcome::Run(Box::new(there))));
    assert!(matches!(&stage.answers[..], [Answer::Accepted(runs)] if runs.len() == 1));
    stage.arrive("x1");
    assert_eq!(stage.answers[1], Answer::Duplicate);
    stage.arrive("9");
    assert!(matches!(&stage.answers[2], Answer::Refused(why) if why.contains("spec.params.p")), "{:?}", stage.answers);
    stage.give(Input::Arrival(ArrivalId(2), Box::new(Arrival { source: "elsewhere".into(), ..Arrival::default() })));
    assert_eq!(stage.answers[3], Answer::Unwanted);
    stage.give(Input::Leading(false));
    stage.arrive("y");
    assert!(matches!(&stage.answers[4], Answer::Again(_)));
}

#[test]
fn an_arrival_whose_run_is_not_taken_is_to_be_sent_again() {
    let mut stage = Stage::new(rules(), &[task(|_| {})]);
    stage.arrive("x1");
    while stage.answers.is_empty() {
        let (id, _) = stage.take("CreateRun");
        stage.give(Input::Done(id, Outcome::Retry("503".to_owned())));
        stage.now = stage.now + DurationMs(60_000);
        stage.give(Input::Tick);
    }
    assert!(matches!(&stage.answers[..], [Answer::Again(_)]));
}

#[test]
fn what_is_said_late_of_an_earlier_run_of_the_name_takes_nothing_from_the_later_one() {
    let mut stage = Stage::new(rules(), &[task(|_| {}), run("r", json!({"taskRef": {"name": "t"}}))]);
    let mut later = run("r", json!({"taskRef": {"name": "t"}}));
    (later["metadata"]["uid"], later["metadata"]["resourceVersion"]) = ("u-later".into(), "7".into());
    stage.give(Input::Run(Box::new(Run::read(&later).unwrap())));
    let key = Key::new("ns", "r");
    stage.give(Input::RunGone(key.clone(), "u-r".into()));
    assert_eq!(stage.machine.runs.get(&key).map(|record| &*record.run.uid), Some("u-later"));
    assert!(stage.machine.counts_right());
    stage.give(Input::RunGone(key.clone(), "u-later".into()));
    assert!(!stage.machine.runs.contains_key(&key) && stage.machine.counts_right());
}

#[test]
fn bounds_hold_back_and_say_so() {
    let quota = Quota { queued_max: Some(1), ..Quota::default() };
    let full = Rules { accounts: BTreeMap::from([("a".to_owned(), quota)]), ..rules() };
    let mut stage = Stage::new(full, &[task(|spec| spec["account"] = "a".into())]);
    stage.arrive("x1");
    let (id, Effect::CreateRun(wanted)) = stage.take("CreateRun") else { panic!() };
    let mut there = *wanted;
    there["metadata"]["uid"] = "r1".into();
    stage.give(Input::Done(id, Outcome::Run(Box::new(there))));
    assert_eq!(stage.machine.may_submit("ns", "b"), Ok(()));
    stage.arrive("x2");
    assert!(matches!(&stage.answers[1], Answer::Again(why) if why.contains("account a has 1 queued runs")), "{:?}", stage.answers);
}

#[test]
fn a_pod_without_a_run_goes_when_nobody_can_claim_it() {
    let mut stage = Stage::new(rules(), &[]);
    let pod = Pod {
        key: Key::new("ns", "x-1"),
        uid: "p".into(),
        run: "x".into(),
        owner: "gone".into(),
        held: true,
        started: Some(NOW),
        ..Pod::default()
    };
    stage.give(Input::Pod(Box::new(pod.clone())));
    assert!(stage.orders.is_empty());
    stage.now = stage.now + DurationMs(600_000);
    stage.give(Input::Tick);
    let (id, _) = stage.take("DeletePod");
    stage.give(Input::Done(id, Outcome::Done));
    // An API server that stumbles loses no log; one that never answers keeps no pod.
    for _ in 0..=10 {
        let (id, _) = stage.take("SaveLogs");
        stage.give(Input::Done(id, Outcome::Retry("no answer".to_owned())));
        stage.now = stage.now + DurationMs(60_000);
        stage.give(Input::Tick);
    }
    let (id, _) = stage.take("ReleasePod");
    stage.give(Input::Done(id, Outcome::Done));
    stage.give(Input::PodGone(pod.key, pod.uid));
    assert!(stage.machine.is_idle() && stage.machine.orphans.is_empty());
}

#[test]
fn a_pod_that_is_claimed_and_left_again_has_one_order_at_a_time() {
    let mut stage = Stage::new(rules(), &[]);
    let pod = Pod { key: Key::new("ns", "x-1"), uid: "p".into(), run: "x".into(), owner: "u-x".into(), held: true, ..Pod::default() };
    stage.give(Input::Pod(Box::new(pod.clone())));
    stage.now = stage.now + DurationMs(600_000);
    stage.give(Input::Tick);
    // Its run is shown by a watch that lags, and is gone: the first order was not answered yet.
    stage.give(Input::Run(Box::new(Run::read(&run("x", json!({"taskRef": {"name": "t"}}))).unwrap())));
    stage.give(Input::Pod(Box::new(pod.clone())));
    stage.give(Input::RunGone(Key::new("ns", "x"), "u-x".into()));
    stage.now = stage.now + DurationMs(600_000);
    stage.give(Input::Tick);
    let of_pod = |stage: &Stage| stage.orders.iter().filter(|(_, subject, _)| *subject == Subject::Orphan(pod.key.clone())).count();
    assert_eq!(of_pod(&stage), 1, "{:?}", stage.orders);
    let (id, _) = stage.take("DeletePod");
    stage.give(Input::Done(id, Outcome::Retry("no answer".to_owned())));
    assert_eq!(of_pod(&stage), 1, "and is asked for again: {:?}", stage.orders);
}

#[test]
fn thousands_of_runs_are_started_in_order_without_looking_at_all_for_each() {
    let rules = Rules { pods_per_second: 1_000, pods_burst: 500, unscheduled_max: 100_000, ..rules() };
    let frozen = json!({"taskUid": "t1", "concurrency": {"policy": "Allow"}, "limits": {"run": {"limit": "5m"}}});
    let mut runs = vec![task(|_| {})];
    runs.extend((0..2_000).map(|n| {
        let mut frozen = frozen.clone();
        frozen["priorityTime"] = Timestamp(NOW.0 - n * 1_000).to_rfc3339().into();
        run(&format!("r{n:04}"), json!({"taskRef": {"name": "t"}, "frozen": frozen}))
    }));
    let mut stage = Stage::new(rules, &runs);
    let launched = |stage: &Stage| {
        let is_launch = |effect: &Effect| matches!(effect, Effect::WriteRun { status, .. } if status.phase == Some(Phase::Launching));
        stage.orders.iter().filter(|(_, _, effect)| is_launch(effect)).map(|(_, subject, _)| subject.clone()).collect::<Vec<_>>()
    };
    let first = launched(&stage);
    assert_eq!(first.len(), 500, "the burst");
    assert!(
        first.contains(&Subject::Run(Key::new("ns", "r1999"))) && !first.contains(&Subject::Run(Key::new("ns", "r0000"))),
        "oldest first"
    );
    // The others have been told why they wait; those writes have to be answered first.
    let waiting: Vec<(OrderId, Subject, Effect)> = stage.orders.drain(..).collect();
    for (id, subject, effect) in waiting {
        let (Subject::Run(key), Effect::WriteRun { status, .. }) = (subject, effect) else { continue };
        let mut object = runs.iter().find(|run| run["metadata"]["name"] == *key.name).unwrap().clone();
        object["status"] = json!(status);
        object["metadata"]["resourceVersion"] = "3".into();
        stage.give(Input::Done(id, Outcome::Run(Box::new(object))));
    }
    stage.now = stage.now + DurationMs(1_000);
    stage.give(Input::Tick);
    assert_eq!(launched(&stage).len(), 500);
}

#[test]
fn a_run_that_the_api_server_refuses_is_told_and_not_tried_again() {
    let refused = || Outcome::Refused("spec.params: Too long".to_owned());
    // By the clock: the watermark passes it.
    let clock = task(|spec| spec["triggers"] = json!([{"cron": {"schedule": "* * * * *"}}]));
    let mut stage = Stage::new(rules(), std::slice::from_ref(&clock));
    let (id, _) = stage.take("CreateRun");
    stage.give(Input::Done(id, refused()));
    assert!(stage.told.iter().any(|news| news.reason == "NotStarted" && news.note.contains("Too long")), "{:?}", stage.told);
    let (_, Effect::WriteTask { status, .. }) = stage.take("WriteTask") else { panic!() };
    assert!(status.last_scheduled.is_some_and(|at| at.0 > Timestamp(0)) && stage.orders.is_empty(), "{:?}", stage.orders);
    // By data: its sender is told.
    let data = task(|_| {});
    let mut stage = Stage::new(rules(), std::slice::from_ref(&data));
    stage.settle_task(&data);
    stage.arrive("a");
    let (id, _) = stage.take("CreateRun");
    stage.give(Input::Done(id, refused()));
    assert!(matches!(&stage.answers[..], [Answer::Refused(why)] if why.contains("Too long")), "{:?}", stage.answers);
    // Of people, when it is filled in: it fails with the reason.
    let mut stage = Stage::new(rules(), &[data.clone(), run("r", json!({"taskRef": {"name": "t"}}))]);
    stage.settle_task(&data);
    let (id, _) = stage.take("FillIn");
    stage.give(Input::Done(id, refused()));
    let (_, Effect::WriteRun { status, .. }) = stage.take("WriteRun") else { panic!() };
    assert_eq!((status.phase, status.reason.as_str()), (Some(Phase::Reaped), "Refused"));
}

#[test]
fn a_follower_that_the_api_server_refuses_is_a_condition_of_the_run_that_has_ended() {
    let mut next = task(|spec| spec["triggers"] = json!([{"after": {"tasks": [{"name": "t"}]}}]));
    (next["metadata"]["name"], next["metadata"]["uid"]) = (json!("next"), json!("t2"));
    let first = task(|spec| spec["triggers"] = json!([]));
    let mut ended = run("r", json!({"taskRef": {"name": "t"}}));
    ended["status"] = json!({"phase": "Reaped", "outcome": "Succeeded", "finishedAt": "2026-11-28T06:00:00Z"});
    let mut stage = Stage::new(rules(), &[first, next, ended]);
    let (id, _) = stage.take("CreateRun");
    stage.give(Input::Done(id, Outcome::Refused("no".to_owned())));
    let (_, Effect::WriteRun { status, .. }) = stage.take("WriteRun") else { panic!() };
    let condition = status.conditions.iter().find(|condition| condition.kind == "Followed").unwrap();
    assert!(status.followed && condition.status == "False" && condition.message.contains("task next"), "{condition:?}");
}

#[test]
fn a_run_that_is_seen_before_its_task_waits_for_it_a_little() {
    let mut bare = run("r", json!({"taskRef": {"name": "t"}}));
    bare["metadata"]["creationTimestamp"] = NOW.to_rfc3339().into();
    let mut stage = Stage::new(rules(), &[bare.clone()]);
    assert!(stage.orders.is_empty(), "{:?}", stage.orders);
    let task = task(|_| {});
    stage.give(Input::Task(Box::new(Task::read(&task).unwrap())));
    stage.settle_task(&task);
    stage.take("FillIn");
    let mut stage = Stage::new(rules(), &[bare]);
    stage.now = stage.machine.next_wake().unwrap();
    stage.give(Input::Tick);
    let (_, Effect::WriteRun { status, .. }) = stage.take("WriteRun") else { panic!() };
    assert_eq!(status.reason, "TaskUnknown");
}

//! Steps of runs, one by one: clocks, budgets, limits, ends, and what is written before what is done.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::tasks::{
    facts::{Key, PodPhase},
    run::{Frozen, ReapResult, SavedLogs},
    spec::{Limits, Retry},
    time::{Span, Time},
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A run on its way, which carries out its own writes.
struct Life {
    run: Run,
    pods: BTreeMap<Box<str>, Pod>,
    notes: Notes,
    rules: Rules,
    now: Timestamp,
    admitted: bool,
    node_lost: bool,
}

#[allow(clippy::needless_pass_by_value)] // tables of JSON read better so
impl Life {
    fn new(spec: Value) -> Self {
        let mut run =
            Run::read(&json!({"metadata": {"namespace": "ns", "name": "r", "uid": "u"}, "spec": {"taskRef": {"name": "t"}}})).unwrap();
        let limits: Limits = serde_json::from_value(spec["limits"].clone()).unwrap_or_default();
        let retry: Retry = serde_json::from_value(spec["retry"].clone()).unwrap_or_default();
        run.frozen = Some(Arc::new(Frozen { limits, retry, priority_time: Time(NOW), ..Frozen::default() }));
        let (notes, pods) = (Notes::default(), BTreeMap::new());
        Self { run, pods, notes, rules: Rules::default(), now: NOW, admitted: true, node_lost: false }
    }

    fn step(&self) -> Step {
        let around = Around {
            now: self.now,
            rules: &self.rules,
            leading_since: Timestamp(0),
            turn: Turn::Go,
            replaced_by: None,
            admitted: self.admitted,
            blocked: None,
            follower: None,
            node_lost: self.node_lost,
            expired: false,
        };
        step(Subject { run: &self.run, pods: &self.pods, notes: &self.notes }, &around)
    }

    /// The next step must be a write; it is carried out.
    fn write(&mut self) -> &TaskRunStatus {
        match self.step() {
            Step::Write(status) => self.run.status = *status,
            other => panic!("{other:?}"),
        }
        &self.run.status
    }

    fn order(&self) -> Effect {
        match self.step() {
            Step::Order(effect) => effect,
            other => panic!("{other:?}"),
        }
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now + DurationMs(seconds * 1_000);
        self
    }

    fn pod(&mut self, change: impl FnOnce(&mut Pod)) {
        let name = names::pod_name("r", self.run.status.attempt);
        let uid: Box<str> = format!("p{}", self.run.status.attempt).into();
        let fresh = Pod { key: Key::new("ns", &name), uid, owner: "u".into(), held: true, ..Pod::default() };
        change(self.pods.entry(name.into()).or_insert(fresh));
    }

    fn launched(mut self) -> Self {
        assert_eq!(self.write().phase, Some(Phase::Launching));
        assert_eq!(self.order(), Effect::CreatePod { attempt: self.run.status.attempt });
        self.pod(|_| {});
        assert_eq!(self.write().phase, Some(Phase::Pending));
        self
    }

    fn running(mut self) -> Self {
        self = self.launched();
        let now = self.now;
        self.pod(|pod| (pod.node, pod.phase, pod.started) = ("n".into(), PodPhase::Running, Some(now)));
        assert_eq!(self.write().phase, Some(Phase::Running));
        self
    }

    fn over(&mut self, code: i32) {
        let now = self.now;
        self.pod(|pod| {
            pod.phase = if code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
            pod.finished = Some(now);
            pod.exit = (code != 0).then(|| Exit { code, ..Exit::default() });
        });
    }

    /// From Finishing until the pod is gone.
    fn recycled(&mut self) -> &TaskRunStatus {
        let name: Box<str> = names::pod_name("r", self.run.status.attempt).into();
        if let Step::Order(Effect::DeletePod { .. }) = self.step() {
            let now = self.now;
            self.pod(|pod| (pod.deletion, pod.phase, pod.finished) = (Some(now), PodPhase::Failed, Some(now)));
        }
        if let Step::Order(Effect::SaveLogs { .. }) = self.step() {
            self.notes.logs = Some(SavedLogs { complete: true, ..SavedLogs::default() });
        }
        assert_eq!(self.write().phase, Some(Phase::Recycling));
        self.notes.logs = None;
        if self.pods[&name].deletion.is_none() {
            assert!(matches!(self.order(), Effect::DeletePod { .. }));
            let now = self.now;
            self.pod(|pod| pod.deletion = Some(now));
        }
        assert!(matches!(self.order(), Effect::ReleasePod { .. }));
        self.pods.clear();
        self.notes.absent.insert(name, self.now);
        self.write()
    }
}

use crate::tasks::facts::Exit;

#[test]
fn a_run_that_succeeds_is_written_down_before_each_effect() {
    let mut life = Life::new(json!({})).running();
    life.later(60).over(0);
    let status = life.write();
    assert_eq!((status.phase, status.outcome), (Some(Phase::Finishing), Some(Outcome::Succeeded)));
    assert_eq!(status.current().unwrap().exit_code, Some(0));
    let status = life.recycled().clone();
    assert_eq!(status.phase, Some(Phase::Reaped));
    let attempt = status.current().unwrap();
    assert_eq!(attempt.reap.as_ref().unwrap().result, Some(ReapResult::Deleted));
    assert!(attempt.logs.as_ref().unwrap().complete);
    let conditions: Vec<(&str, &str)> = status.conditions.iter().map(|one| (one.kind.as_str(), one.status.as_str())).collect();
    let wanted = ["Queued", "Launched", "Started", "Finished", "LogsSaved", "Reaped"].map(|kind| (kind, "True"));
    assert_eq!(conditions, wanted);
    assert!(serde_json::to_string(&status).unwrap().len() < 16 << 10);
}

#[test]
fn a_status_has_an_end_whatever_others_say() {
    let mut life = Life::new(json!({"retry": {"application": 9, "backoff": {"initial": "1s", "max": "1s"}}}));
    for attempt in 1..=9_u32 {
        life = life.running();
        let now = life.now;
        life.pod(|pod| {
            let exit = Exit { code: 1, reason: "Error".into(), message: "m".repeat(10_000).into(), ..Exit::default() };
            (pod.node, pod.phase, pod.finished, pod.exit) = ("n".repeat(253).into(), PodPhase::Failed, Some(now), Some(exit));
        });
        life.write();
        let logs = SavedLogs { uri: "u".repeat(500), sha256: "0".repeat(64), message: "w".repeat(10_000), ..SavedLogs::default() };
        life.notes.logs = Some(logs);
        assert_eq!(life.write().phase, Some(Phase::Recycling));
        life.notes.logs = None;
        life.pod(|pod| pod.deletion = Some(now));
        life.pods.clear();
        let name = names::pod_name("r", attempt);
        life.notes.absent.insert(name.into(), now);
        let status = life.write();
        let bytes = serde_json::to_string(&status).unwrap().len();
        assert!(bytes < 16 << 10, "{bytes} bytes after attempt {attempt}");
        life.later(5);
    }
    let messages = life.run.status.attempts.iter().map(|attempt| attempt.message.len());
    assert_eq!(messages.collect::<Vec<_>>(), [1_024; 5]);
}

#[test]
fn a_start_is_told_once_of_an_attempt_even_when_its_end_is_seen_first() {
    let told = |before: &TaskRunStatus, after: &TaskRunStatus| {
        writing::transitions(before, after).into_iter().map(|(_, reason, _)| reason).collect::<Vec<_>>()
    };
    let mut life = Life::new(json!({})).running();
    let running = life.run.status.clone();
    life.over(0);
    let over = life.write().clone();
    assert_eq!(told(&running, &over), ["Succeeded"]);
    let mut unseen = running.clone();
    unseen.phase = Some(Phase::Launching);
    unseen.attempts.last_mut().unwrap().started = None;
    assert_eq!(told(&unseen, &running), ["Started"]);
    assert_eq!(told(&unseen, &over), ["Started", "Succeeded"]);
}

#[test]
fn what_a_new_pod_comes_to_within_a_second_is_one_write() {
    for (change, until) in [
        ((|pod| pod.node = "n".into()) as fn(&mut Pod), None),
        (|pod| (pod.node, pod.phase, pod.started) = ("n".into(), PodPhase::Running, Some(NOW)), Some(Phase::Running)),
        (|pod| (pod.phase, pod.finished) = (PodPhase::Succeeded, Some(NOW)), Some(Phase::Finishing)),
        // Others delete it: its end is waited for, and it is written down that it was there.
        (|pod| (pod.node, pod.deletion) = ("n".into(), Some(NOW)), Some(Phase::Pending)),
    ] {
        let mut life = Life::new(json!({}));
        assert_eq!(life.write().phase, Some(Phase::Launching));
        life.pod(|_| {});
        life.notes.created = Some(life.now);
        assert_eq!(life.step(), Step::Until(life.now + DurationMs(1_000)));
        life.pod(change);
        let at_once = if let Step::Write(status) = life.step() { status.phase } else { None };
        assert_eq!(at_once, until);
        if until.is_none() {
            life.later(1);
            assert_eq!((life.write().phase, life.run.status.node.as_str()), (Some(Phase::Pending), "n"));
        }
    }
    let mut life = Life::new(json!({}));
    life.write();
    life.pod(|_| {});
    life.notes.created = Some(life.now);
    life.run.cancel = true;
    assert_eq!(life.write().phase, Some(Phase::Finishing));
}

#[test]
fn retries_are_counted_by_class() {
    let spec = json!({"retry": {"application": 1, "infrastructure": 1, "fatalExitCodes": [2]}});
    let mut life = Life::new(spec.clone()).running();
    life.over(1);
    assert_eq!(life.write().outcome, None, "tried again");
    let status = life.recycled();
    assert_eq!((status.phase, status.budget.application), (Some(Phase::Queued), 1));
    let wait = status.next_attempt_at.unwrap().0.since(NOW).0;
    assert!((27_000..=33_000).contains(&wait), "30 s, spread by 20 %: {wait}");
    let mut life = life.running();
    assert_eq!(life.run.status.attempt, 2);
    life.over(1);
    assert_eq!(life.write().outcome, Some(Outcome::Failed));

    let mut life = Life::new(spec.clone()).running();
    life.over(2);
    let status = life.write();
    assert_eq!((status.outcome, status.current().unwrap().ended), (Some(Outcome::Failed), Some(Ended::Fatal)));

    let mut life = Life::new(spec).running();
    for outcome in [None, Some(Outcome::Lost)] {
        life.over(137);
        life.pod(|pod| pod.disruption = Some(("Evicted".into(), "out of disk".into())));
        let status = life.write();
        assert_eq!((status.outcome, status.current().unwrap().ended), (outcome, Some(Ended::Infrastructure)));
        if outcome.is_none() {
            life.recycled();
            life = life.running();
        }
    }
}

#[test]
fn over_time_it_goes_back_to_the_queue_in_its_old_place() {
    let spec = json!({"limits": {"run": {"alarm": "30s", "limit": "1m", "action": "Requeue"}}, "retry": {"requeues": 1}});
    let mut life = Life::new(spec).running();
    assert_eq!(life.step(), Step::Until(life.now + DurationMs(30_000)));
    assert_eq!(life.later(30).write().late, ["run"]);
    assert_eq!(life.later(29).step(), Step::Until(life.now + DurationMs(1_000)));
    let status = life.later(1).write();
    assert_eq!((status.reason.as_str(), status.outcome), ("RunLimit", None));
    assert!(matches!(life.order(), Effect::DeletePod { grace_seconds: 30, .. }));
    let place = life.run.order().0;
    let status = life.recycled();
    assert_eq!((status.phase, status.budget.requeues, status.late.len()), (Some(Phase::Queued), 1, 0));
    assert_eq!(life.run.order().0, place);
    let mut life = life.running();
    life.later(30).write();
    assert_eq!(life.later(30).write().outcome, Some(Outcome::TimedOut), "not for ever");
}

#[test]
fn each_clock_has_its_limit_and_its_action() {
    for (limits, bound, wait, reason, outcome) in [
        (json!({"queue": {"limit": "5m"}}), false, 300, "QueueLimit", None),
        (json!({"queue": {"alarm": "0s", "limit": "5m", "action": "Fail"}}), false, 300, "QueueLimit", Some(Outcome::TimedOut)),
        (json!({}), true, 900, "StartLimit", None),
        (json!({"start": {"limit": "10s", "action": "Fail"}}), true, 10, "StartLimit", Some(Outcome::TimedOut)),
    ] {
        let mut life = Life::new(json!({ "limits": limits })).launched();
        if bound {
            life.pod(|pod| (pod.node, pod.waiting) = ("n".into(), Some(("ImagePullBackOff".into(), "no such image".into()))));
            life.write();
        }
        let status = life.later(wait).write();
        assert_eq!((status.reason.as_str(), status.outcome), (reason, outcome), "{limits}");
        assert_eq!(status.message.contains("ImagePullBackOff"), bound, "{}", status.message);
    }
    let mut life = Life::new(json!({"limits": {"start": {"limit": "0s"}}})).launched();
    life.pod(|pod| pod.node = "n".into());
    life.write();
    assert_eq!(life.later(100_000).step(), Step::Rest, "0s is no limit");
    life.node_lost = true;
    assert_eq!(life.write().reason, "NodeLost");
}

#[test]
fn refusals_wait_or_end_it() {
    let mut life = Life::new(json!({}));
    life.write();
    life.notes.held = Some(("Quota".into(), "exceeded quota".into()));
    let status = life.write();
    assert_eq!((status.phase, status.refusals, status.attempt), (Some(Phase::Queued), 1, 1));
    assert_eq!(status.pending.as_ref().unwrap().reason, "Quota");
    life.notes = Notes::default();
    let status = life.write();
    assert_eq!((status.phase, status.attempt), (Some(Phase::Launching), 1), "one that never got its pod keeps its number");
    life.notes.refused = Some("spec.containers[0].image: Required".into());
    let status = life.write();
    assert_eq!((status.outcome, status.reason.as_str()), (Some(Outcome::Failed), "PodRefused"));
    let mut life = Life::new(json!({}));
    life.write();
    life.notes.foreign = true;
    let status = life.write();
    assert_eq!((status.outcome, status.reason.as_str()), (Some(Outcome::Failed), "NameTaken"));
    assert_eq!(status.current().unwrap().reap.as_ref().unwrap().result, Some(ReapResult::Replaced));
}

#[test]
fn a_pod_that_vanished_is_looked_up_before_it_is_believed() {
    let mut life = Life::new(json!({})).running();
    life.pods.clear();
    assert_eq!(life.order(), Effect::ReadPod("r-1".into()));
    life.notes.absent.insert("r-1".into(), life.now);
    let status = life.write();
    assert_eq!((status.outcome, status.reason.as_str()), (None, "PodLost"));
    assert!(matches!(life.order(), Effect::SaveLogs { .. }), "what was followed of them");
    life.notes.logs = Some(SavedLogs::default());
    life.write();
    assert_eq!(life.write().attempts[0].reap.as_ref().unwrap().result, Some(ReapResult::AlreadyGone));
}

#[test]
fn it_can_be_cancelled_in_every_phase() {
    let cancelled = |mut life: Life| {
        life.run.cancel = true;
        life.write().outcome
    };
    assert_eq!(cancelled(Life::new(json!({}))), Some(Outcome::Cancelled));
    assert_eq!(cancelled(Life::new(json!({})).launched()), Some(Outcome::Cancelled));
    assert_eq!(cancelled(Life::new(json!({})).running()), Some(Outcome::Cancelled));
    let mut life = Life::new(json!({}));
    life.write();
    assert_eq!(cancelled(life), Some(Outcome::Cancelled), "launching");
    let mut life = Life::new(json!({"retry": {"application": 1}})).running();
    life.over(1);
    life.write();
    life.run.cancel = true;
    let status = life.recycled();
    assert_eq!((status.phase, status.outcome), (Some(Phase::Reaped), Some(Outcome::Cancelled)), "between two attempts");
}

#[test]
fn a_pod_that_does_not_go_is_told_and_never_overlapped() {
    for (retries, phase) in [(0, Phase::Reaped), (1, Phase::Recycling)] {
        let mut life = Life::new(json!({"retry": {"application": retries}})).running();
        life.over(1);
        life.write();
        life.notes.logs = Some(SavedLogs::default());
        life.write();
        let now = life.now;
        life.pod(|pod| (pod.deletion, pod.held) = (Some(now), false));
        assert_eq!(life.step(), Step::Until(now + DurationMs(90_000)));
        let status = life.later(90).write();
        assert_eq!((status.phase, status.current().unwrap().reap.as_ref().unwrap().result), (Some(phase), Some(ReapResult::Stuck)));
        assert!(!matches!(life.step(), Step::Write(status) if status.phase == Some(Phase::Queued)));
        life.rules.force_stuck = true;
        life.node_lost = true;
        assert!(matches!(life.order(), Effect::DeletePod { grace_seconds: 0, .. }), "{retries}");
    }
}

#[test]
fn logs_that_cannot_be_saved_hold_up_nothing_for_ever() {
    let mut life = Life::new(json!({})).running();
    life.over(0);
    life.write();
    life.notes.failures = 1;
    life.notes.failure = "the archive does not answer".into();
    assert!(matches!(life.order(), Effect::SaveLogs { .. }));
    let status = life.later(121).write();
    let logs = status.current().unwrap().logs.as_ref().unwrap();
    assert!(!logs.complete && logs.message.contains("the archive does not answer"), "{logs:?}");
    assert_eq!(Span::default().ms(), None);
}

#[test]
fn a_receiver_that_is_dead_holds_up_neither_logs_nor_pod_and_is_given_up_in_the_end() {
    for hears_at_last in [true, false] {
        let mut life = Life::new(json!({})).running();
        life.rules.announce = true;
        life.later(5).over(0);
        assert_eq!(life.write().outcome, Some(Outcome::Succeeded));
        assert_eq!(life.order(), Effect::Announce("Finished"));
        // Nobody hears it.
        life.notes.unheard = true;
        life.recycled();
        assert_eq!(life.run.status.announced, "");
        while life.run.status.phase != Some(Phase::Reaped) || !life.run.status.followed {
            life.write();
        }
        for failures in 0..3 {
            life.notes.failures = failures;
            assert_eq!(life.order(), Effect::Announce("Reaped"));
            life.later(600);
        }
        if hears_at_last {
            life.notes.announced = Some("Reaped");
        } else {
            life.later(2_000);
            life.notes.failures = 0;
            assert_eq!(life.order(), Effect::Announce("Reaped"), "it is asked once more before it is given up");
            life.notes.failures = 1;
        }
        let status = life.write().clone();
        let given_up = status.conditions.iter().any(|one| one.kind == "Announced" && one.status == "False" && one.reason == "GivenUp");
        assert_eq!((&*status.announced, given_up), ("Reaped", !hears_at_last));
        assert_eq!(life.step(), Step::Rest);
    }
}

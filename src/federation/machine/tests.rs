//! Rules of single situations: two facts in, one order out. What only shows over time is in `federation/world/`.

use serde_json::{Value, json};

use super::Machine;
use crate::{
    federation::{
        effect::{Command, Contact, Effect, Input, OrderId, Outcome, Policy},
        facts::{Decision, Deletion, HomePod, Phase, RunName, RunPod},
        names,
        spec::{Commit, Drain, DrainMode, Lost},
        status,
    },
    model::{
        ids::{PodKey, PodUid},
        time::{DurationMs, Timestamp},
    },
    scheduler::input::BindFailure,
};

/// Long after the machine began to lead: nothing comes late any more.
const START: Timestamp = Timestamp(1_700_000_000_000);

fn key() -> PodKey {
    PodKey::new("ns", "p")
}

fn uid() -> PodUid {
    PodUid::from("u")
}

fn decision(attempt: u32) -> Decision {
    let run = RunName { namespace: "runs".into(), name: names::run_name(&key(), &uid(), attempt).into() };
    Decision { cluster: "cloud".into(), cluster_uid: "cu".into(), node: "n1".into(), attempt, run }
}

fn home() -> HomePod {
    HomePod {
        key: key(),
        uid: uid(),
        resource_version: "1".into(),
        generation: 1,
        decision: Some(decision(1)),
        bound: true,
        deletion: None,
        phase: Phase::Pending,
        started: false,
        mirrored: false,
        restarts_always: false,
        waits_for_logs: false,
        is_replaced: false,
        status_digest: status::digest(&json!({})),
        patience_seconds: None,
        restarts: Vec::new(),
    }
}

/// A home pod that shows a run which runs.
fn shown() -> HomePod {
    HomePod { phase: Phase::Running, started: true, mirrored: true, status_digest: status::digest(&running()), ..home() }
}

fn running() -> Value {
    json!({ "phase": "Running" })
}

fn run() -> RunPod {
    RunPod {
        name: decision(1).run,
        uid: "r".into(),
        resource_version: "1".into(),
        home_uid: uid(),
        home: key(),
        attempt: 1,
        home_generation: 1,
        deletion: None,
        is_held: true,
        node: Some("n1".into()),
        phase: Phase::Running,
        started: true,
        rejected: None,
        status: running(),
    }
}

fn policy() -> Policy {
    Policy {
        cluster: "cloud".into(),
        cluster_uid: "cu".into(),
        run_namespace: "runs".into(),
        commit: Commit::BindFirst,
        lost: Lost::default(),
        drain: None,
        abandoned: false,
        archive_logs: true,
    }
}

struct Case {
    machine: Machine,
    now: Timestamp,
    out: Vec<Command>,
}

impl Case {
    fn new(policy: Policy) -> Self {
        let mut case = Self { machine: Machine::new(policy, 1), now: START, out: Vec::new() };
        case.give(Input::Leading(true));
        case.give(Input::Contact(Contact::Reachable));
        case.give(Input::HomesListed([uid()].into_iter().collect()));
        case.give(Input::RunsListed(["r".into()].into_iter().collect()));
        case.now = START + DurationMs::from_secs(3_600);
        case.out.clear();
        case
    }

    fn with(policy: Policy, home: HomePod, run: Option<RunPod>) -> Self {
        let mut case = Self::new(policy);
        run.into_iter().for_each(|run| case.give(Input::Run(Box::new(run))));
        case.out.clear();
        // The look at the unknown home pod that the run caused.
        case.answer(Outcome::Home(Box::new(home.clone())));
        if case.orders().is_empty() {
            case.give(Input::Home(Box::new(home)));
        }
        case
    }

    fn give(&mut self, input: Input) {
        self.machine.handle(self.now, input, &mut self.out);
        self.machine.consistency_check().unwrap();
    }

    fn answer(&mut self, outcome: Outcome) {
        let id = self.machine.orders.keys().next().copied().unwrap_or(OrderId(u64::MAX));
        self.out.clear();
        self.give(Input::Done(id, outcome));
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now + DurationMs::from_secs(seconds);
        self.out.clear();
        self.give(Input::Tick);
    }

    fn orders(&self) -> Vec<&'static str> {
        let name = |command: &Command| match command {
            Command::Order(order) => order.effect.name(),
            Command::Answer(_, Ok(())) => "ok",
            Command::Answer(_, Err(_)) => "failed",
            Command::Tell(news) => news.reason,
            Command::Debt(..) => "debt",
        };
        self.out.iter().map(name).collect()
    }

    fn effect(&self) -> &Effect {
        let order = self.out.iter().find_map(|command| if let Command::Order(order) = command { Some(order) } else { None });
        &order.unwrap().effect
    }
}

#[allow(clippy::unnecessary_wraps)] // as the field has it
fn deleting(seconds: u64) -> Option<Deletion> {
    let grace = DurationMs::from_secs(seconds);
    Some(Deletion { due: START + DurationMs::from_secs(3_600) + grace, grace })
}

#[test]
fn each_situation_has_its_step() {
    let ended = RunPod { phase: Phase::Succeeded, status: json!({ "phase": "Succeeded" }), ..run() };
    let shows_end = HomePod { phase: Phase::Succeeded, status_digest: status::digest(&ended.status), ..shown() };
    let pending = RunPod { phase: Phase::Pending, started: false, status: json!({ "phase": "Pending" }), ..run() };
    let rejected =
        RunPod { phase: Phase::Failed, rejected: Some("OutOfcpu".into()), status: json!({ "phase": "Failed" }), ..pending.clone() };
    for (what, home, run, want) in [
        ("new", home(), None, "CreateRun"),
        ("new, run there", home(), Some(run()), "Mirror"),
        ("shown", shown(), Some(run()), ""),
        ("changed at home", HomePod { generation: 2, ..shown() }, Some(run()), "Propagate"),
        ("impatient", HomePod { patience_seconds: Some(300), ..shown() }, Some(run()), "SetPatience"),
        ("vanished", shown(), None, "CheckRun"),
        ("refused by its node", home(), Some(rejected.clone()), "PlaceAgain"),
        ("deleted over there", shown(), Some(RunPod { deletion: deleting(30), ..run() }), "DeleteHome"),
        ("deleted over there before it started", home(), Some(RunPod { deletion: deleting(30), ..pending.clone() }), "Mirror"),
        ("being deleted", HomePod { deletion: deleting(30), ..shown() }, Some(run()), "DeleteRun"),
        ("being deleted, told", HomePod { deletion: deleting(30), ..shown() }, Some(RunPod { deletion: deleting(30), ..run() }), ""),
        ("being deleted, ended", HomePod { deletion: deleting(30), ..shown() }, Some(ended.clone()), "Mirror"),
        ("being deleted, end shown", HomePod { deletion: deleting(30), ..shows_end.clone() }, Some(ended.clone()), "Reap"),
        (
            "being deleted, its logs awaited",
            HomePod { deletion: deleting(30), waits_for_logs: true, ..shows_end.clone() },
            Some(ended.clone()),
            "ArchiveLogs",
        ),
        (
            "being deleted, its logs awaited for long",
            HomePod {
                deletion: Some(Deletion { due: START + DurationMs::from_secs(3_500), grace: DurationMs::from_secs(30) }),
                waits_for_logs: true,
                ..shows_end.clone()
            },
            Some(ended.clone()),
            "Reap",
        ),
        ("being deleted, nothing there", HomePod { deletion: deleting(30), ..shown() }, None, "CheckRun"),
        ("ended", shows_end.clone(), Some(ended), "ArchiveLogs"),
        ("ended, run lives", shows_end.clone(), Some(run()), "DeleteRun"),
        ("ended, reaped", shows_end, None, ""),
        ("not ours", HomePod { decision: None, ..home() }, None, "NotPlaced"),
        ("not ours, being deleted", HomePod { decision: None, deletion: deleting(30), ..home() }, None, "Confirm"),
        (
            "another cluster",
            HomePod { decision: Some(Decision { cluster_uid: "other".into(), ..decision(1) }), ..home() },
            None,
            "IdentityChanged",
        ),
    ] {
        let case = Case::with(policy(), home, run);
        assert_eq!(case.orders().join(" "), want, "{what}");
    }
}

#[test]
fn grace_that_is_left_travels_and_never_becomes_force() {
    for (due_in, grace, want) in [(30, 30, 30), (5, 30, 5), (0, 30, 1)] {
        let deletion = Some(Deletion { due: START + DurationMs::from_secs(3_600 + due_in), grace: DurationMs::from_secs(grace) });
        let case = Case::with(policy(), HomePod { deletion, ..shown() }, Some(run()));
        assert!(matches!(case.effect(), Effect::DeleteRun { grace_seconds: Some(got), release: false, .. } if *got == want));
    }
}

#[test]
fn what_was_lost_fails_and_what_restarts_is_placed_again() {
    let mut case = Case::with(policy(), shown(), None);
    case.answer(Outcome::Absent);
    let Effect::Mirror(patch) = case.effect() else { panic!("{:?}", case.out) };
    assert_eq!((&patch["status"]["reason"], &patch["metadata"]["resourceVersion"]), (&json!("RemoteRunLost"), &json!("1")));
    let mut case = Case::with(policy(), HomePod { restarts_always: true, ..shown() }, None);
    case.answer(Outcome::Absent);
    assert_eq!(case.orders(), ["PlaceAgain"]);
}

#[test]
fn a_refused_run_gets_another_node_once_it_is_gone() {
    let rejected = RunPod { phase: Phase::Failed, started: false, rejected: Some("OutOfcpu".into()), ..run() };
    let mut case = Case::with(policy(), home(), Some(rejected.clone()));
    assert_eq!(*case.effect(), Effect::PlaceAgain { not_on: vec!["n1".into()] });
    case.answer(Outcome::Node(Some("n2".into())));
    let Effect::CountAttempt { resource_version, decision: next } = case.effect().clone() else { panic!("{:?}", case.out) };
    assert_eq!((&*resource_version, &*next.node, next.attempt), ("1", "n2", 2));
    case.answer(Outcome::Done);
    assert_eq!(case.orders(), ["DeleteRun"]);
    case.answer(Outcome::Done);
    assert!(case.orders().is_empty(), "it is not gone yet");
    case.give(Input::RunGone { name: rejected.name, uid: "r".into() });
    assert_eq!(*case.effect(), Effect::CheckRun(decision(1).run));
    case.answer(Outcome::Absent);
    assert_eq!(*case.effect(), Effect::CreateRun(next));
    let rejected = RunPod { phase: Phase::Failed, started: false, rejected: Some("OutOfcpu".into()), ..run() };
    let mut case = Case::with(policy(), home(), Some(rejected));
    case.answer(Outcome::Node(None));
    assert_eq!(case.orders(), ["NoFitOnCluster"], "people are told once, and nothing is given up yet");
    for _ in 0..9 {
        case.later(45);
        assert_eq!(*case.effect(), Effect::PlaceAgain { not_on: Vec::new() }, "what refused it may take it now");
        case.answer(Outcome::Node(None));
        if !case.orders().is_empty() {
            break;
        }
    }
    assert!(matches!(case.effect(), Effect::Mirror(patch) if patch["status"]["reason"] == "NoFitOnCluster"));
}

#[test]
fn a_cluster_that_has_room_again_in_time_gets_the_next_attempt() {
    let mut case = Case::with(policy(), HomePod { restarts_always: true, ..shown() }, None);
    case.answer(Outcome::Absent);
    case.answer(Outcome::Node(None));
    case.later(45);
    assert_eq!(*case.effect(), Effect::PlaceAgain { not_on: Vec::new() }, "its own node did not refuse it");
    case.answer(Outcome::Node(Some("n1".into())));
    assert_eq!(case.orders(), ["CountAttempt"]);
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let mut case = Case::with(policy(), home(), None);
    case.answer(Outcome::NameTaken);
    assert_eq!(case.orders(), ["Refused"]);
    case.later(20);
    assert!(case.orders().is_empty());
    case.later(60);
    assert_eq!(case.orders(), ["CreateRun"]);
}

#[test]
fn a_run_without_a_home_pod_goes_only_after_a_live_look() {
    let mut case = Case::new(policy());
    case.give(Input::Run(Box::new(run())));
    assert_eq!(case.orders(), ["CheckHome"]);
    case.answer(Outcome::Retry("no answer".to_owned()));
    assert!(case.orders().is_empty());
    case.later(10);
    case.answer(Outcome::Absent);
    assert!(matches!(case.effect(), Effect::DeleteRun { release: true, .. }));
    // An intent of an earlier leader is left to the engine, which resumes it.
    let mut case = Case::new(policy());
    case.give(Input::Run(Box::new(run())));
    case.answer(Outcome::Home(Box::new(HomePod { bound: false, ..home() })));
    assert!(case.orders().is_empty());
    case.later(31);
    assert_eq!(case.orders(), ["CheckHome"]);
    case.answer(Outcome::Home(Box::new(HomePod { bound: false, decision: None, resource_version: "2".into(), ..home() })));
    assert_eq!(case.orders(), ["DeleteRun"]);
}

#[test]
fn a_lost_cluster_freezes_unless_the_policy_says_otherwise() {
    let lost = |evict_after: &str, forget_after: &str| {
        let lost = Lost { evict_after: evict_after.to_owned(), forget_after: forget_after.to_owned(), ..Lost::default() };
        Policy { lost, ..policy() }
    };
    let mut case = Case::with(policy(), shown(), Some(run()));
    case.give(Input::Contact(Contact::Lost(case.now)));
    assert!(matches!(case.effect(), Effect::Mirror(patch) if patch["status"]["conditions"][0]["reason"] == "ClusterUnreachable"));
    case.answer(Outcome::Done);
    case.later(100_000);
    assert!(case.orders().is_empty(), "never evicted: {:?}", case.out);

    for (is_replaced, suspicion, want) in [(true, false, vec!["DeleteHome"]), (false, false, vec![]), (true, true, vec![])] {
        let mut case = Case::with(lost("60s", ""), HomePod { is_replaced, ..shown() }, Some(run()));
        case.give(Input::Contact(Contact::Lost(case.now)));
        case.give(Input::Suspicion(suspicion));
        case.answer(Outcome::Done);
        case.later(59);
        assert!(case.orders().is_empty());
        case.later(2);
        assert_eq!(case.orders(), want, "replaced {is_replaced}, suspicion {suspicion}");
        if suspicion {
            case.give(Input::Suspicion(false));
            case.later(59);
            assert!(case.orders().is_empty(), "the time is counted anew");
            case.later(2);
            assert_eq!(case.orders(), ["DeleteHome"]);
        }
    }

    for (forget_after, want) in [("", vec![]), ("60s", vec!["debt", "Confirm"])] {
        let mut case = Case::with(lost("", forget_after), shown(), Some(run()));
        case.give(Input::Contact(Contact::Lost(case.now)));
        case.answer(Outcome::Done);
        case.give(Input::Home(Box::new(HomePod { deletion: deleting(30), resource_version: "2".into(), ..shown() })));
        case.later(61);
        assert_eq!(case.orders(), want);
    }
}

#[test]
fn draining_waits_evicts_or_ends() {
    for (mode, deadline, at_once, late) in [
        (DrainMode::Wait, "", vec![], vec![]),
        (DrainMode::Wait, "10m", vec![], vec!["DeleteHome"]),
        (DrainMode::Evict, "10m", vec!["EvictHome"], vec!["DeleteHome"]),
    ] {
        let mut case = Case::with(policy(), shown(), Some(run()));
        case.give(Input::Policy(Box::new(Policy { drain: Some(Drain { mode, deadline: deadline.to_owned() }), ..policy() })));
        assert_eq!(case.orders(), at_once, "{mode:?}");
        case.answer(Outcome::Retry("its budget forbids it".to_owned()));
        case.later(601);
        assert_eq!(case.orders(), late, "{mode:?}");
    }
}

#[test]
fn a_cluster_removed_by_force_leaves_debts() {
    let mut case = Case::with(policy(), shown(), Some(run()));
    case.give(Input::Contact(Contact::Lost(case.now)));
    case.answer(Outcome::Done);
    case.later(1);
    case.give(Input::Policy(Box::new(Policy { abandoned: true, ..policy() })));
    assert_eq!(case.orders(), ["debt", "Mirror"]);
    assert!(matches!(case.effect(), Effect::Mirror(patch) if patch["status"]["reason"] == "ClusterRemoved"));
    case.answer(Outcome::Done);
    case.give(Input::Home(Box::new(HomePod { deletion: deleting(30), resource_version: "2".into(), ..shown() })));
    assert_eq!(case.orders(), ["Confirm"]);
}

#[test]
fn placements_are_answered_once() {
    let place = |resumes| Input::Place { key: key(), uid: uid(), node: "n1".into(), attempt: 1, resumes, earlier_binding: None };
    let mut case = Case::new(policy());
    case.give(place(false));
    assert_eq!(*case.effect(), Effect::Bind(decision(1)));
    case.answer(Outcome::Done);
    assert_eq!(case.orders(), ["ok", "CreateRun"]);

    let mut case = Case::new(policy());
    case.give(place(false));
    case.answer(Outcome::BoundElsewhere);
    assert_eq!(case.out, [Command::Answer(uid(), Err(BindFailure::BoundElsewhere))]);

    let mut case = Case::new(policy());
    case.give(place(true));
    assert_eq!(case.orders(), ["CreateRun"], "an intent is resumed as it began");
    case.answer(Outcome::Run(Box::new(RunPod { node: None, started: false, phase: Phase::Pending, ..run() })));
    assert!(case.orders().is_empty());
    case.later(21);
    assert!(matches!(case.effect(), Effect::DeleteRun { resource_version: Some(_), release: true, .. }));
    case.answer(Outcome::Conflict);
    case.give(Input::Run(Box::new(RunPod { resource_version: "2".into(), started: false, ..run() })));
    assert_eq!(case.orders(), ["Bind"], "it was bound in that very moment");
    case.out.clear();
    case.give(Input::Leading(false));
    assert_eq!(case.out, [Command::Answer(uid(), Err(BindFailure::NotSent))]);
}

/// A binding that was not answered may come as late as 30 s: until then the pod goes nowhere else, whether the cluster answers or not.
#[test]
fn a_binding_that_may_come_late_keeps_the_pod_from_going_elsewhere() {
    let place = |earlier_binding| Input::Place { key: key(), uid: uid(), node: "n1".into(), attempt: 1, resumes: false, earlier_binding };
    let mut case = Case::new(policy());
    case.give(place(None));
    case.answer(Outcome::Retry("no answer".to_owned()));
    case.give(Input::Contact(Contact::Lost(case.now)));
    assert!(case.orders().is_empty(), "{:?}", case.out);
    case.later(29);
    assert!(case.orders().is_empty(), "{:?}", case.out);
    case.later(2);
    assert!(matches!(&case.out[..], [Command::Answer(_, Err(BindFailure::Failed(_)))]), "{:?}", case.out);

    // With CreateFirst the run would start before its binding meets the other one.
    let mut case = Case::new(Policy { commit: Commit::CreateFirst, ..policy() });
    case.give(place(Some(case.now)));
    case.later(29);
    assert!(case.orders().is_empty(), "{:?}", case.out);
    case.later(2);
    assert_eq!(case.orders(), ["Intend"]);
    let mut case = Case::new(policy());
    case.give(place(Some(case.now)));
    assert_eq!(case.orders(), ["Bind"], "one binding excludes the other");
}

#[test]
fn patience_is_set_once_and_keeps_nothing_else_waiting() {
    let mut case = Case::with(policy(), HomePod { patience_seconds: Some(0), generation: 2, ..shown() }, Some(run()));
    assert_eq!(*case.effect(), Effect::SetPatience);
    case.answer(Outcome::Done);
    assert_eq!(case.orders(), ["Propagate"]);
    // One that was bound a moment before contact was lost has no run yet.
    let mut case = Case::with(policy(), HomePod { patience_seconds: Some(300), ..home() }, None);
    case.give(Input::Contact(Contact::Lost(case.now)));
    case.answer(Outcome::Retry("no answer".to_owned()));
    assert_eq!(case.orders(), ["SetPatience"]);
}

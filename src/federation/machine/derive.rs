//! The heart: what is to be done next for a pod, from what both sides say. In: its record, and what is around it. Out: one step. It changes nothing.
//!
//! | home pod | run | step |
//! |---|---|---|
//! | bound, live, never had this run | none | create it |
//! | bound, live, had it | none, read live | batch: failed, lost; otherwise: another run, on whichever node |
//! | bound, live | failed before it started | the next attempt on another node of the cluster |
//! | bound, live | being deleted by others | show its last status, delete the home pod |
//! | bound, live | live | show its status |
//! | being deleted | live | delete it with the grace that is left |
//! | being deleted | ended | show its status, copy the logs if somebody waits for them, reap it |
//! | being deleted | none, read live | confirm |
//! | ended | ended | copy the logs, wait, reap it |
//! | ended | live | delete it: it has outlived its pod |
//! | none, read live | any | delete it |

use serde_json::{Value, json};

use super::{
    Around, drain, homeless, lost, place,
    record::{NextNode, Record, Run},
};
use crate::{
    federation::{
        effect::{Contact, Effect},
        facts::{Decision, Deletion, HomePod, RunName},
        names, status,
    },
    model::time::{DurationMs, Timestamp},
    scheduler::input::BindFailure,
};

/// How long the name of an ended run stays taken: a creation that comes late from an earlier leader, or that timed out, must find it.
const TOMBSTONE: DurationMs = DurationMs(60_000);
/// How late an order of an earlier leader, or one that was not answered, can still take effect: lease and time-out, and something on top.
pub(super) const LATE: DurationMs = DurationMs(30_000);
/// How long a home pod that we have bound may stay unseen before it is looked up.
pub(super) const UNSEEN: DurationMs = DurationMs(30_000);
/// Attempts in a row that nodes may refuse.
const REFUSALS_MAX: usize = 8;
/// How long after its grace a home pod that waits for its logs keeps its ended run.
const LOGS_PATIENCE: DurationMs = DurationMs(60_000);
/// A status that does not take although it was written so often is let be.
const REPEATS_MAX: u32 = 3;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Step {
    Order(Effect),
    Answer(Result<(), BindFailure>),
    /// Once: reason and text.
    Tell(&'static str, String),
    Debt,
    Until(Timestamp),
    Rest,
}

pub(super) fn step(r: &Record, around: &Around, now: Timestamp) -> Step {
    if r.order.is_some() || !around.leading {
        return Step::Rest;
    }
    let bound_home = r.home.as_ref().filter(|home| home.bound);
    if bound_home.is_some_and(|home| r.notes.home_outdated.as_ref() == Some(&home.resource_version)) {
        return Step::Order(Effect::CheckHome);
    }
    if around.policy.abandoned {
        return lost::abandoned(r, now);
    }
    match (&r.placing, &r.home) {
        (Some(placing), Some(home)) if home.bound => {
            let is_ours = home.decision.as_ref() == Some(&placing.decision);
            Step::Answer(if is_ours { Ok(()) } else { Err(BindFailure::BoundElsewhere) })
        }
        (Some(placing), _) => place::step(r, placing, around, now),
        (None, Some(home)) if home.bound => bound(r, home, around, now),
        (None, home) => homeless::step(r, home.as_ref(), around, now),
    }
}

fn bound(r: &Record, home: &HomePod, around: &Around, now: Timestamp) -> Step {
    let Some(decision) = &home.decision else { return foreign(r, home, around, now) };
    if decision.cluster_uid != around.policy.cluster_uid {
        let note = format!("the run was placed on cluster {} with UID {}, which is not this one", decision.cluster, decision.cluster_uid);
        return told(r, "IdentityChanged", note).unwrap_or(Step::Rest);
    }
    match around.contact {
        None => return Step::Rest,
        Some(Contact::Lost(since)) => return lost::step(r, home, around, since, now),
        Some(Contact::Reachable) if !around.runs_listed => return Step::Rest,
        Some(Contact::Reachable) => {}
    }
    if let Some(step) = strays(r, home, decision, around, now) {
        return step;
    }
    let run = r.runs.get(&decision.run);
    match (home.deletion, home.phase.is_terminal()) {
        (Some(deletion), _) => terminating(r, home, run, decision, deletion, around, now),
        (None, true) => run.map_or(Step::Rest, |run| ended(r, home, run, decision, around, now)),
        (None, false) => live(r, home, run, decision, around, now),
    }
}

/// Somebody else put it on the virtual Node: nothing runs, and its deletion is confirmed.
fn foreign(r: &Record, home: &HomePod, around: &Around, now: Timestamp) -> Step {
    let note = "it was bound to a node that stands for a compute cluster by something else than this scheduler: nothing runs it".to_owned();
    match (home.deletion, r.runs.values().next()) {
        (None, _) => told(r, "NotPlaced", note).unwrap_or(Step::Rest),
        (Some(_), None) => Step::Order(Effect::Confirm),
        (Some(_), Some(run)) if around.reachable() => dispose(r, run, around, now),
        (Some(_), Some(_)) => Step::Rest,
    }
}

/// Runs beside the one that the decision names. Numbers only grow, so that a smaller one is past; a larger one means that we are behind.
fn strays(r: &Record, home: &HomePod, decision: &Decision, around: &Around, now: Timestamp) -> Option<Step> {
    let stray = r.runs.iter().find(|(name, _)| **name != decision.run).map(|(_, run)| run)?;
    if stray.facts.attempt < decision.attempt || home.deletion.is_some() {
        return Some(dispose(r, stray, around, now));
    }
    if r.notes.home_judged.as_ref() != Some(&home.resource_version) {
        return Some(Step::Order(Effect::CheckHome));
    }
    let note = format!("run {} exists, which is not the one that the pod's annotations name; it is left alone", stray.facts.name.name);
    told(r, "UnexpectedRun", note)
}

fn terminating(
    r: &Record,
    home: &HomePod,
    run: Option<&Run>,
    decision: &Decision,
    deletion: Deletion,
    around: &Around,
    now: Timestamp,
) -> Step {
    let Some(run) = run else {
        return unsettled(r, &decision.run, around, now).unwrap_or(Step::Order(Effect::Confirm));
    };
    if run.facts.phase.is_terminal() {
        if let Some(step) = mirror(r, home, run, decision, now) {
            return step;
        }
        let saves = home.waits_for_logs && now < deletion.due + LOGS_PATIENCE;
        return if saves { archived(r, run, around) } else { None }.unwrap_or_else(|| reap(r, run, around, now, now));
    }
    let is_idle = run.facts.node.is_none() && !run.facts.started;
    let is_told = run.facts.deletion.is_some() && r.notes.grace_told.is_none_or(|told| told <= deletion.grace);
    if is_told && !(is_idle && run.facts.is_held) {
        return mirror(r, home, run, decision, now).unwrap_or(Step::Rest);
    }
    // Grace 0 would delete the object without asking the kubelet.
    let left_ms = deletion.due.since(now).0.min(deletion.grace.0);
    Step::Order(Effect::DeleteRun {
        run: run.facts.name.clone(),
        uid: run.facts.uid.clone(),
        resource_version: is_idle.then(|| run.facts.resource_version.clone()),
        grace_seconds: Some(left_ms.div_ceil(1_000).max(1)),
        release: is_idle,
    })
}

/// The home pod has ended and stays; its run goes.
fn ended(r: &Record, home: &HomePod, run: &Run, decision: &Decision, around: &Around, now: Timestamp) -> Step {
    if !run.facts.phase.is_terminal() {
        return dispose(r, run, around, now);
    }
    if let Some(step) = mirror(r, home, run, decision, now) {
        return step;
    }
    archived(r, run, around).unwrap_or_else(|| reap(r, run, around, now, r.notes.ended.unwrap_or(now) + TOMBSTONE))
}

/// What is still to be done until the logs of a run that has ended are kept.
fn archived(r: &Record, run: &Run, around: &Around) -> Option<Step> {
    let wanted = around.policy.archive_logs && run.facts.started && !r.notes.is_archived;
    wanted.then(|| Step::Order(Effect::ArchiveLogs(run.facts.name.clone())))
}

fn live(r: &Record, home: &HomePod, run: Option<&Run>, decision: &Decision, around: &Around, now: Timestamp) -> Step {
    let is_batch_started = home.started && !home.restarts_always;
    let Some(run) = run else {
        if r.notes.refused.is_none() && !home.mirrored && !is_batch_started {
            return create(r, decision, around, now).unwrap_or_else(|| Step::Order(Effect::CreateRun(decision.clone())));
        }
        return vanished(r, home, decision, around, now);
    };
    if r.is_presumed {
        return if now < run.seen + UNSEEN { Step::Until(run.seen + UNSEEN) } else { Step::Order(Effect::CheckHome) };
    }
    if let Some(reason) = run.facts.rejected.as_ref().filter(|_| !is_batch_started) {
        return place_again(r, home, decision, Some(reason), around, now);
    }
    if let Some(step) = mirror(r, home, run, decision, now) {
        return step;
    }
    if run.facts.phase.is_terminal() {
        return Step::Rest;
    }
    if run.facts.deletion.is_some() {
        // What never started is placed again when it is gone.
        return if run.facts.started { Step::Order(Effect::DeleteHome) } else { Step::Rest };
    }
    upkeep(r, home, run).unwrap_or_else(|| drain::step(r, home, around, now))
}

/// What a live run gets besides.
fn upkeep(r: &Record, home: &HomePod, run: &Run) -> Option<Step> {
    let is_behind = home.generation > run.facts.home_generation && r.notes.not_propagated != Some(home.generation);
    outlast(r, home).or_else(|| is_behind.then(|| Step::Order(Effect::Propagate(run.facts.name.clone()))))
}

/// Admission gave the home pod tolerations of 300 s: nobody but this machine is to evict it when the virtual Node is not ready.
pub(super) fn outlast(r: &Record, home: &HomePod) -> Option<Step> {
    (home.patience_seconds.is_some() && !r.notes.no_patience).then_some(Step::Order(Effect::SetPatience))
}

/// What has to be known before a run may be created: the one before it is gone.
pub(super) fn create(r: &Record, decision: &Decision, around: &Around, now: Timestamp) -> Option<Step> {
    let uid_and_key = decision.run.name.rsplit_once('-').map(|(beginning, _)| beginning)?;
    let before = decision.attempt.checked_sub(1).filter(|before| *before > 0)?;
    let name = RunName { namespace: decision.run.namespace.clone(), name: format!("{uid_and_key}-{before}").into() };
    unsettled(r, &name, around, now)
}

/// What is still to be done until a run is known to be gone and to stay gone: the first live read counts after which nothing can come late any more.
pub(super) fn unsettled(r: &Record, run: &RunName, around: &Around, now: Timestamp) -> Option<Step> {
    let quiet = quiet(r, around);
    if now < quiet {
        return Some(Step::Until(quiet));
    }
    r.absent_since(run).is_none_or(|at| at < quiet).then(|| Step::Order(Effect::CheckRun(run.clone())))
}

/// The run is not there, although it was, or cannot be created.
fn vanished(r: &Record, home: &HomePod, decision: &Decision, around: &Around, now: Timestamp) -> Step {
    if let Some(step) = unsettled(r, &decision.run, around, now) {
        return step;
    }
    if let Some(refused) = &r.notes.refused {
        return write(home, status::failed("RunRefused", refused, now));
    }
    if home.restarts_always {
        return place_again(r, home, decision, None, around, now);
    }
    let note = format!("run {} has vanished from cluster {} and is not started a second time", decision.run.name, decision.cluster);
    write(home, status::failed("RemoteRunLost", &note, now))
}

/// The next attempt, on a node of the same cluster. The number is counted first: whoever comes next knows by it that the run before is past, deletes that and
/// sees it gone before it creates the next.
fn place_again(r: &Record, home: &HomePod, decision: &Decision, refusal: Option<&str>, around: &Around, now: Timestamp) -> Step {
    let quiet = quiet(r, around);
    if now < quiet {
        return Step::Until(quiet);
    }
    let mut not_on = r.notes.not_on.clone();
    if r.notes.no_fit_since.is_some() {
        not_on.clear();
    } else if refusal.is_some() && !not_on.contains(&decision.node) {
        not_on.push(decision.node.clone());
    }
    let next = if not_on.len() < REFUSALS_MAX { &r.notes.next_node } else { &NextNode::None };
    match next {
        NextNode::Unasked => Step::Order(Effect::PlaceAgain { not_on }),
        NextNode::None => {
            let why = refusal.unwrap_or("the run has vanished");
            let note = format!("no node of cluster {} takes it; on {} it ended before it started: {why}", decision.cluster, decision.node);
            write(home, status::failed("NoFitOnCluster", &note, now))
        }
        NextNode::Node(node) => Step::Order(Effect::CountAttempt {
            resource_version: home.resource_version.clone(),
            decision: next_attempt(r, home, decision, node.clone()),
        }),
    }
}

fn next_attempt(r: &Record, home: &HomePod, decision: &Decision, node: Box<str>) -> Decision {
    let attempt = decision.attempt.saturating_add(1);
    let run = RunName { namespace: decision.run.namespace.clone(), name: names::run_name(&r.key, &home.uid, attempt).into() };
    Decision { cluster: decision.cluster.clone(), cluster_uid: decision.cluster_uid.clone(), node, attempt, run }
}

/// Shows the run's status at home if it does not show there.
fn mirror(r: &Record, home: &HomePod, run: &Run, decision: &Decision, now: Timestamp) -> Option<Step> {
    if r.is_presumed {
        return None;
    }
    let shows = home.mirrored && home.status_digest == run.digest;
    // An end is final: one that we declared ourselves, or that somebody else did, is not written over by another.
    let is_other_end = home.phase.is_terminal() && (home.phase != run.facts.phase || !run.facts.started || !home.mirrored);
    if shows || is_other_end {
        return None;
    }
    if run.facts.status.is_null() {
        return Some(Step::Order(Effect::CheckRun(run.facts.name.clone())));
    }
    let effect = versioned(home, status::mirror(&run.facts.status, &home.restarts, decision, now));
    let is_vain = r.notes.done.as_ref().is_some_and(|done| done.until(&effect).is_some() && done.repeats >= REPEATS_MAX);
    let persisted = home.phase == run.facts.phase;
    (!(is_vain && persisted)).then_some(Step::Order(effect))
}

/// A patch of the status that only takes if the home pod is as we know it.
pub(super) fn write(home: &HomePod, patch: Value) -> Step {
    Step::Order(versioned(home, patch))
}

fn versioned(home: &HomePod, mut patch: Value) -> Effect {
    if !home.resource_version.is_empty() {
        patch["metadata"] = json!({ "resourceVersion": &*home.resource_version });
    }
    Effect::Mirror(patch)
}

/// An ended run goes, not before `at`.
fn reap(r: &Record, run: &Run, around: &Around, now: Timestamp, at: Timestamp) -> Step {
    let at = run.cut_off.map_or(at, |since| at.max(since + TOMBSTONE));
    let at = at.max(quiet(r, around));
    if now < at {
        return Step::Until(at);
    }
    Step::Order(Effect::Reap { run: run.facts.name.clone(), uid: run.facts.uid.clone() })
}

/// A run that nobody wants goes. While a creation of it may still come late, the finalizer keeps its name taken.
pub(super) fn dispose(r: &Record, run: &Run, around: &Around, now: Timestamp) -> Step {
    let quiet = quiet(r, around);
    let keeps_name = run.facts.is_held && now < quiet;
    if keeps_name && (run.facts.deletion.is_some() || run.facts.phase.is_terminal()) {
        return Step::Until(quiet);
    }
    Step::Order(Effect::DeleteRun {
        run: run.facts.name.clone(),
        uid: run.facts.uid.clone(),
        resource_version: None,
        grace_seconds: None,
        release: !keeps_name,
    })
}

/// When no write of an earlier leader, nor one of ours that was not answered, can come late any more.
pub(super) fn quiet(r: &Record, around: &Around) -> Timestamp {
    around.leading_since.max(r.notes.unclear.unwrap_or_default()) + LATE
}

pub(super) fn told(r: &Record, reason: &'static str, note: String) -> Option<Step> {
    (!r.notes.told.contains(&reason)).then_some(Step::Tell(reason, note))
}

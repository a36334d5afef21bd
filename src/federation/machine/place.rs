//! A placement under way, until the home pod is bound. In: what the engine decided and how far it came. Out: the next step.
//!
//! BindFirst is one write: the binding is intent and decision at once, and the run is created as for every bound pod. CreateFirst records the intent, creates
//! the run, waits until its cluster has bound it, and binds. Whatever goes wrong on that way is undone: the run is seen gone, the intent withdrawn, and only
//! then may the pod go elsewhere.
//!
//! A run that is created before the binding may start although another binding of the pod wins. So an intent is written only when none can come late any
//! more: from then on a binding finds the run, and before that the intent finds the binding.

use super::{
    Around,
    derive::{LATE, Step, create, dispose, quiet, unsettled},
    record::{Placing, Record, Run},
};
use crate::{
    federation::{effect::Effect, spec::Commit},
    model::time::{DurationMs, Timestamp},
    scheduler::input::BindFailure,
};

/// How long the cluster's own scheduler may take to bind a run.
pub(super) const BIND_WAIT: DurationMs = DurationMs(20_000);

pub(super) fn step(r: &Record, placing: &Placing, around: &Around, now: Timestamp) -> Step {
    if let Some(failure) = &placing.undo {
        return undo(r, placing, failure, around, now);
    }
    let reachable = around.reachable() && around.runs_listed;
    let begun = placing.commit == Commit::CreateFirst && placing.is_intended;
    if !reachable {
        // What may exist over there cannot be judged now; what was not begun is not begun.
        return if begun { waiting_for_contact(placing) } else { give_back(r, &unreachable(around), now) };
    }
    let stray = r.runs.iter().find(|(name, _)| **name != placing.decision.run).map(|(_, run)| run);
    if let Some(stray) = stray.filter(|stray| stray.facts.attempt < placing.decision.attempt) {
        return dispose(r, stray, around, now);
    }
    match (placing.commit, placing.is_intended, r.runs.get(&placing.decision.run)) {
        (Commit::BindFirst, ..) => Step::Order(Effect::Bind(placing.decision.clone())),
        (Commit::CreateFirst, false, _) => match may_come_until(placing.earlier_binding, now) {
            Some(until) => Step::Until(until),
            None => Step::Order(Effect::Intend(placing.decision.clone())),
        },
        (Commit::CreateFirst, true, None) => {
            create(r, &placing.decision, around, now).unwrap_or_else(|| Step::Order(Effect::CreateRun(placing.decision.clone())))
        }
        (Commit::CreateFirst, true, Some(run)) => existing(r, placing, run, (run.seen + BIND_WAIT).max(quiet(r, around)), around, now),
    }
}

fn unreachable(around: &Around) -> BindFailure {
    BindFailure::Failed(format!("compute cluster {} cannot be reached", around.policy.cluster))
}

fn waiting_for_contact(placing: &Placing) -> Step {
    if placing.may_exist { Step::Rest } else { Step::Order(Effect::Withdraw) }
}

/// The run is there: it is bound to, unless it cannot start any more. One that its cluster has not bound until then goes; if it is bound in the very moment, it
/// fails the precondition, and stays.
fn existing(r: &Record, placing: &Placing, run: &Run, until: Timestamp, around: &Around, now: Timestamp) -> Step {
    if run.facts.rejected.is_some() {
        return dispose(r, run, around, now);
    }
    match (run.facts.started, run.facts.node.is_some(), run.facts.deletion.is_some()) {
        (true, ..) | (false, true, false) => Step::Order(Effect::Bind(placing.decision.clone())),
        // It is gone soon.
        (false, true, true) => Step::Rest,
        (false, false, _) if now < until => Step::Until(until),
        (false, false, _) => Step::Order(Effect::DeleteRun {
            run: run.facts.name.clone(),
            uid: run.facts.uid.clone(),
            resource_version: Some(run.facts.resource_version.clone()),
            grace_seconds: None,
            release: true,
        }),
    }
}

fn undo(r: &Record, placing: &Placing, failure: &BindFailure, around: &Around, now: Timestamp) -> Step {
    let run = r.runs.get(&placing.decision.run);
    let is_home_lost = matches!(failure, BindFailure::PodGone | BindFailure::BoundElsewhere);
    if run.is_some() || placing.may_exist {
        if !around.reachable() {
            return Step::Rest;
        }
        match run {
            Some(run) if is_home_lost => return dispose(r, run, around, now),
            // A creation that was given up has been done all the same.
            Some(run) => return existing(r, placing, run, quiet(r, around), around, now),
            None => {
                if let Some(step) = unsettled(r, &placing.decision.run, around, now) {
                    return step;
                }
            }
        }
    }
    if placing.is_intended && !placing.is_withdrawn && !is_home_lost {
        return Step::Order(Effect::Withdraw);
    }
    if is_home_lost { Step::Answer(Err(failure.clone())) } else { give_back(r, failure, now) }
}

/// The pod may go elsewhere. A write that may still come late must not meet the next placement.
pub(super) fn give_back(r: &Record, failure: &BindFailure, now: Timestamp) -> Step {
    match may_come_until(r.notes.unclear, now) {
        Some(until) => Step::Until(until),
        None => Step::Answer(Err(failure.clone())),
    }
}

/// Until when a write that was ordered then, or before, may still take effect; `None` when that is over.
fn may_come_until(ordered: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    ordered.map(|at| at + LATE).filter(|until| now < *until)
}

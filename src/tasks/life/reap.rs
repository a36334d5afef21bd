//! Deleting the pod of an attempt that has ended, and knowing that it is gone. In: the run and its pods. Out: one step; in the end the result of the deletion.

use super::{
    Around, Follower, Step, Subject,
    finish::{self, GRACE, STUCK_AFTER, seconds},
    writing,
};
use crate::{
    model::time::Timestamp,
    tasks::{
        effect::Effect,
        facts::{Pod, written},
        run::{Outcome, Phase, Reap, ReapResult},
    },
};

/// How far a pod's deletion has come.
enum Reaping {
    /// This is next.
    Step(Step),
    /// It is over.
    Over(ReapResult, String),
}

/// Recycling: the pod goes, then the next attempt or the end.
pub(super) fn step(of: Subject, around: &Around) -> Step {
    if let Some(step) = strays(of, around) {
        return step;
    }
    let kept = kept_until(of).filter(|until| *until > around.now && of.pod().is_some_and(Pod::is_over));
    let (result, message) = match kept {
        Some(_) => (ReapResult::Kept, String::new()),
        None => match reaping(of, around) {
            Reaping::Step(step) => return step,
            Reaping::Over(result, message) => (result, message),
        },
    };
    let is_gone = !matches!(result, ReapResult::Kept | ReapResult::Stuck | ReapResult::Forbidden | ReapResult::Replaced);
    let mut status = of.run.status.clone();
    if let Some(attempt) = status.attempts.last_mut() {
        let reap = attempt.reap.get_or_insert_default();
        record(reap, of, around, result, message, is_gone);
    }
    if status.outcome.is_some() {
        status.phase = Some(Phase::Reaped);
        writing::condition(&mut status, "Reaped", is_gone, &format!("{result:?}"), around.now);
        return Step::Write(Box::new(status));
    }
    if !is_gone && !around.rules.allow_overlap && result != ReapResult::Replaced {
        // Two writers on one output are worse than one that waits.
        return told_stuck(of, status);
    }
    if of.run.cancel || around.replaced_by.is_some() {
        status.outcome = Some(Outcome::Cancelled);
        status.finished_at = written(around.now);
        status.phase = Some(Phase::Reaped);
        status.next_attempt_at = None;
        writing::say(&mut status, "Cancelled", "it was stopped before it was tried again");
        writing::condition(&mut status, "Finished", true, Outcome::Cancelled.name(), around.now);
        return Step::Write(Box::new(status));
    }
    status.phase = Some(Phase::Queued);
    status.queued_at = written(around.now);
    status.node.clear();
    status.late.retain(|clock| clock == "deadline");
    for kind in ["Launched", "Started", "LogsSaved"] {
        status.conditions.retain(|condition| condition.kind != kind);
    }
    Step::Write(Box::new(status))
}

fn told_stuck(of: Subject, status: crate::tasks::run::TaskRunStatus) -> Step {
    let result = |status: &crate::tasks::run::TaskRunStatus| status.current().and_then(|attempt| attempt.reap.as_ref()?.result);
    if result(&of.run.status) == result(&status) { Step::Rest } else { Step::Write(Box::new(status)) }
}

fn record(reap: &mut Reap, of: Subject, around: &Around, result: ReapResult, message: String, is_gone: bool) {
    reap.result = Some(result);
    reap.message = message;
    reap.tries = reap.tries.max(of.notes.tries);
    if is_gone {
        let name = of.run.status.current().map(|attempt| attempt.pod_name.as_str()).unwrap_or_default();
        reap.gone_at = of.notes.absent.get(name).copied().or(Some(around.now)).and_then(written);
    }
}

/// Until when people may look at the pod.
fn kept_until(of: Subject) -> Option<Timestamp> {
    let frozen = of.run.frozen.as_ref()?;
    let span = match of.run.status.outcome? {
        Outcome::Succeeded => frozen.keep_pod.succeeded.ms(),
        _ => frozen.keep_pod.failed.ms(),
    };
    Some(of.run.status.finished_at?.0 + span.filter(|span| span.0 > 0)?)
}

fn reaping(of: Subject, around: &Around) -> Reaping {
    let Some(attempt) = of.run.status.current() else { return Reaping::Over(ReapResult::AlreadyGone, String::new()) };
    let reap = attempt.reap.clone().unwrap_or_default();
    if reap.result == Some(ReapResult::Replaced) {
        return Reaping::Over(ReapResult::Replaced, reap.message);
    }
    let Some(pod) = of.pod() else { return gone(of, around, &reap) };
    if let Some(why) = &of.notes.forbidden {
        return Reaping::Over(ReapResult::Forbidden, why.clone());
    }
    if let Some(step) = delete(of, around, pod) {
        return Reaping::Step(step);
    }
    let grace = of.run.frozen.as_ref().map_or(GRACE, |frozen| frozen.limits.grace.or(GRACE));
    let due = pod.deletion.unwrap_or(around.now).max(reap.requested_at.map_or(around.now, |time| time.0 + grace)) + STUCK_AFTER;
    if due > around.now {
        return Reaping::Step(Step::Until(due));
    }
    if around.rules.force_stuck && around.node_lost && of.notes.deleted.as_ref().is_none_or(|(_, grace)| *grace != 0) {
        return Reaping::Step(Step::Order(Effect::DeletePod { pod: pod.key.name.clone(), uid: pod.uid.clone(), grace_seconds: 0 }));
    }
    Reaping::Over(ReapResult::Stuck, format!("the pod does not go: look at node {} and at the pod's finalizers", pod.node))
}

/// What is still to be ordered for a pod that is there. The finalizer keeps its name taken while a creation of it may come late.
fn delete(of: Subject, around: &Around, pod: &Pod) -> Option<Step> {
    let is_deleted = pod.deletion.is_some() || of.notes.deleted.as_ref().is_some_and(|(uid, _)| *uid == pod.uid);
    if !is_deleted {
        let grace = of.run.frozen.as_ref().map_or(GRACE, |frozen| frozen.limits.grace.or(GRACE));
        return Some(Step::Order(Effect::DeletePod { pod: pod.key.name.clone(), uid: pod.uid.clone(), grace_seconds: seconds(grace) }));
    }
    if !pod.held {
        return None;
    }
    // A pod that is seen as it was before its deletion may have begun since, and have something to be saved.
    if pod.deletion.is_none() {
        return Some(Step::Rest);
    }
    let quiet = of.quiet(around);
    if quiet > around.now {
        return Some(Step::Until(quiet));
    }
    if let Some(step) = save(of, around, pod) {
        return Some(step);
    }
    Some(Step::Order(Effect::ReleasePod { pod: pod.key.name.clone(), uid: pod.uid.clone() }))
}

/// A pod of this attempt that became known only now, when it had been written off: its logs are still to be saved.
fn save(of: Subject, around: &Around, pod: &Pod) -> Option<Step> {
    if of.pod().is_none_or(|own| own.uid != pod.uid) {
        return None;
    }
    let (logs, step) = finish::logs(of, around);
    if let Some(step) = step {
        return finish::stop(of, around).or(Some(step));
    }
    let mut status = of.run.status.clone();
    let attempt = status.attempts.last_mut()?;
    attempt.logs = Some(logs?);
    attempt.pod_uid = pod.uid.to_string();
    writing::logs_saved(&mut status, around.now);
    Some(Step::Write(Box::new(status)))
}

/// The pod is not there: a look that is late enough makes sure.
fn gone(of: Subject, around: &Around, reap: &Reap) -> Reaping {
    let name = of.run.status.current().map(|attempt| attempt.pod_name.as_str()).unwrap_or_default();
    let quiet = of.quiet(around);
    match of.notes.absent.get(name) {
        Some(at) if *at >= quiet => {
            let result = match (reap.requested_at, of.notes.deleted.as_ref()) {
                (Some(_), Some((_, 0))) => ReapResult::Forced,
                (Some(_), _) => ReapResult::Deleted,
                (None, _) => ReapResult::AlreadyGone,
            };
            Reaping::Over(result, String::new())
        }
        _ if quiet > around.now => Reaping::Step(Step::Until(quiet)),
        _ => Reaping::Step(Step::Order(Effect::ReadPod(name.into()))),
    }
}

/// Pods of earlier attempts are past, whatever they do.
fn strays(of: Subject, around: &Around) -> Option<Step> {
    let current = of.run.status.current().map(|attempt| attempt.pod_name.as_str()).unwrap_or_default();
    of.pods.values().filter(|pod| *pod.key.name != *current).find_map(|pod| delete(of, around, pod))
}

/// All is over; what was left of pods still goes, then the run itself.
pub(super) fn after(of: Subject, around: &Around) -> Step {
    if let Some(step) = strays(of, around) {
        return step;
    }
    let attempt = of.run.status.current();
    let result = attempt.and_then(|attempt| attempt.reap.as_ref()?.result);
    let is_left = matches!(result, Some(ReapResult::Kept | ReapResult::Stuck | ReapResult::Forbidden));
    if let Some(until) = kept_until(of).filter(|until| *until > around.now && result == Some(ReapResult::Kept) && of.pod().is_some()) {
        return Step::Until(until);
    }
    if is_left || of.pod().is_some() {
        match reaping(of, around) {
            Reaping::Step(step) => return step,
            Reaping::Over(now, message) if Some(now) != result => {
                let is_gone = matches!(now, ReapResult::Deleted | ReapResult::AlreadyGone | ReapResult::Forced);
                let now = if now == ReapResult::AlreadyGone && of.notes.tries > 0 { ReapResult::Deleted } else { now };
                let mut status = of.run.status.clone();
                if let Some(attempt) = status.attempts.last_mut() {
                    record(attempt.reap.get_or_insert_default(), of, around, now, message, is_gone);
                }
                writing::condition(&mut status, "Reaped", is_gone, &format!("{now:?}"), around.now);
                return Step::Write(Box::new(status));
            }
            Reaping::Over(..) => {}
        }
    }
    announce(of, around)
}

fn announce(of: Subject, around: &Around) -> Step {
    let status = &of.run.status;
    match &around.follower {
        Some(Follower::Create(next)) => return Step::Order(Effect::CreateRun(next.clone())),
        Some(Follower::Wait) => return Step::Rest,
        None if !status.followed => {
            let mut status = status.clone();
            writing::followed(&mut status, of.notes, around.now);
            return Step::Write(Box::new(status));
        }
        None => {}
    }
    if around.rules.announce && status.announced != "Reaped" {
        let is_heard = of.notes.announced == Some("Reaped");
        let is_due = status.finished_at.is_none_or(|at| at.0 + around.rules.announce_within > around.now);
        if !is_heard && (is_due || of.notes.failures == 0) {
            return Step::Order(Effect::Announce("Reaped"));
        }
        let mut status = status.clone();
        "Reaped".clone_into(&mut status.announced);
        if !is_heard {
            writing::condition(&mut status, "Announced", false, "GivenUp", around.now);
        }
        return Step::Write(Box::new(status));
    }
    if around.expired && of.pods.is_empty() { Step::Order(Effect::DeleteRun { uid: of.run.uid.clone() }) } else { Step::Rest }
}

//! The end of an attempt. In: how it ended. Out: what is written down of it before anything is done, and then followers, announcement and logs.

use super::{Around, Follower, Step, Subject, writing};
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        effect::Effect,
        facts::{PodPhase, written},
        run::{Ended, Outcome, Phase, Reap, ReapResult, SavedLogs, TaskRunStatus},
        time::Time,
    },
};

/// Default of the time that logs may take.
const LOGS_DEADLINE: DurationMs = DurationMs(120_000);
/// Default of the grace.
pub(super) const GRACE: DurationMs = DurationMs(30_000);
/// How long after its grace a pod may be there before it counts as stuck.
pub(super) const STUCK_AFTER: DurationMs = DurationMs(60_000);

/// The attempt has ended, or is to be ended: how, and whether another one follows, is decided once and written down.
pub(super) fn ended(of: Subject, around: &Around, ended: Ended, reason: &str, text: &str) -> Step {
    let (run, now) = (of.run, around.now);
    let mut status = run.status.clone();
    let pod = of.pod();
    if let Some(pod) = pod {
        writing::observe(&mut status, pod, now);
    }
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.ended = Some(ended);
        attempt.finished = pod.and_then(|pod| pod.finished).map(Time::from).or(written(now));
        reason.clone_into(&mut attempt.reason);
        text[..text.floor_char_boundary(1_024)].clone_into(&mut attempt.message);
        if let Some(exit) = pod.and_then(|pod| pod.exit.as_ref()) {
            attempt.exit_code = Some(exit.code);
            attempt.signal = exit.signal;
        } else if pod.is_some_and(|pod| pod.phase == PodPhase::Succeeded) {
            attempt.exit_code = Some(0);
        }
        if of.notes.foreign {
            attempt.reap = Some(Reap { result: Some(ReapResult::Replaced), message: text.to_owned(), ..Reap::default() });
        }
    }
    status.outcome = outcome(of, ended, &mut status, around);
    status.phase = Some(Phase::Finishing);
    status.pending = None;
    writing::say(&mut status, reason, text);
    if let Some(outcome) = status.outcome {
        status.finished_at = written(now);
        writing::condition(&mut status, "Finished", true, outcome.name(), now);
    }
    Step::Write(Box::new(status))
}

/// How the run ends with this attempt; `None`: another one follows, and the status says when.
fn outcome(of: Subject, ended: Ended, status: &mut TaskRunStatus, around: &Around) -> Option<Outcome> {
    let Some(frozen) = &of.run.frozen else { return Some(Outcome::Failed) };
    let retry = &frozen.retry;
    let (used, most, otherwise) = match ended {
        Ended::Succeeded => return Some(Outcome::Succeeded),
        Ended::Fatal | Ended::Refused => return Some(Outcome::Failed),
        Ended::TimedOut => return Some(Outcome::TimedOut),
        Ended::Cancelled => return Some(Outcome::Cancelled),
        Ended::Application => (&mut status.budget.application, retry.application, Outcome::Failed),
        Ended::Infrastructure => (&mut status.budget.infrastructure, retry.infrastructure, Outcome::Lost),
        Ended::Requeued => (&mut status.budget.requeues, retry.requeues, Outcome::TimedOut),
    };
    if of.stopped(around).is_some() {
        return Some(Outcome::Cancelled);
    }
    if *used >= most {
        return Some(otherwise);
    }
    *used += 1;
    let times = *used;
    status.next_attempt_at = written(around.now + writing::wait_of(&retry.backoff, times, &of.run.uid));
    None
}

pub(super) fn step(of: Subject, around: &Around) -> Step {
    let run = of.run;
    if run.status.outcome.is_some() {
        if around.rules.announce && run.status.announced.is_empty() && of.notes.announced.is_none() && !of.notes.unheard {
            return Step::Order(Effect::Announce("Finished"));
        }
        match &around.follower {
            Some(Follower::Create(next)) => return Step::Order(Effect::CreateRun(next.clone())),
            Some(Follower::Wait) => return Step::Rest,
            None => {}
        }
    }
    if let Some(step) = stop(of, around) {
        return step;
    }
    let (logs, step) = logs(of, around);
    if let Some(step) = step {
        return step;
    }
    let mut status = run.status.clone();
    status.phase = Some(Phase::Recycling);
    if run.status.outcome.is_some() {
        writing::followed(&mut status, of.notes, around.now);
    }
    if of.notes.announced.is_some() || (run.status.outcome.is_some() && !around.rules.announce) {
        "Finished".clone_into(&mut status.announced);
    }
    let is_there = of.pod().is_some();
    if let Some(attempt) = status.attempts.last_mut() {
        if let Some(pod) = of.pod().filter(|_| attempt.pod_uid.is_empty()) {
            attempt.pod_uid = pod.uid.to_string();
        }
        if let Some(logs) = logs {
            attempt.logs = Some(logs);
        }
        let reap = attempt.reap.get_or_insert_default();
        if is_there && reap.result.is_none() {
            reap.requested_at = written(around.now);
        }
    }
    writing::logs_saved(&mut status, around.now);
    Step::Write(Box::new(status))
}

/// A pod that still runs although its attempt has ended is stopped; its logs are read when it is.
pub(super) fn stop(of: Subject, around: &Around) -> Option<Step> {
    let pod = of.pod().filter(|pod| !pod.is_over())?;
    let grace = of.run.frozen.as_ref().map_or(GRACE, |frozen| frozen.limits.grace.or(GRACE));
    if pod.deletion.is_none() {
        if of.notes.forbidden.is_some() || of.notes.deleted.as_ref().is_some_and(|(uid, _)| *uid == pod.uid) {
            return of.notes.forbidden.is_none().then_some(Step::Rest);
        }
        return Some(Step::Order(Effect::DeletePod { pod: pod.key.name.clone(), uid: pod.uid.clone(), grace_seconds: seconds(grace) }));
    }
    let given_up = pod.deletion.unwrap_or(around.now) + STUCK_AFTER;
    let starts = !pod.node.is_empty();
    (starts && !around.node_lost && given_up > around.now).then_some(Step::Until(given_up))
}

pub(super) fn seconds(span: DurationMs) -> u64 {
    span.0.div_ceil(1_000).max(1)
}

/// What is known of the logs, or the step that saves them. An attempt that never ran has none.
pub(super) fn logs(of: Subject, around: &Around) -> (Option<SavedLogs>, Option<Step>) {
    let Some(attempt) = of.run.status.current() else { return (None, None) };
    // It may have begun to run after it was written off.
    let ran = attempt.started.is_some() || of.pod().is_some_and(|pod| pod.started.is_some());
    if !ran || attempt.logs.is_some() {
        return (None, None);
    }
    if let Some(logs) = &of.notes.logs {
        return (Some(logs.clone()), None);
    }
    let span = of.run.frozen.as_ref().map_or(LOGS_DEADLINE, |frozen| frozen.logs.deadline.or(LOGS_DEADLINE));
    let ended = attempt.finished.map_or(Timestamp(0), |time| time.0);
    // A pod that had to be stopped ends later than its attempt.
    let ended =
        of.pod().and_then(|pod| pod.finished).map_or(ended, |finished| finished.max(ended)).max(around.leading_since.min(ended + GRACE));
    if of.notes.failures > 0 && ended + span <= around.now {
        let message = format!("given up after {}: {}", crate::config::duration::format(span), of.notes.failure);
        return (Some(SavedLogs { message, ..SavedLogs::default() }), None);
    }
    // The pod that is there, if its creation became known only after the attempt had been written off.
    let uid = of.pod().map_or(attempt.pod_uid.as_str(), |pod| &*pod.uid);
    let bytes_max = of.run.frozen.as_ref().map_or(0, |frozen| frozen.logs.bytes_max);
    (None, Some(Step::Order(Effect::SaveLogs { pod: attempt.pod_name.as_str().into(), uid: uid.into(), bytes_max })))
}

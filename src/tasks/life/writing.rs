//! Statuses of runs as they are to be written. In: a run, and what has happened. Out: its next status; and what of it people are told.

use super::{Notes, Step};
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        facts::{Pod, PodPhase, Run, written},
        names,
        run::{Attempt, Outcome, Pending, Phase, TaskRunStatus},
        spec::{Backoff, Condition, set_condition},
        time::Time,
    },
};

/// Attempts that a status tells of.
const ATTEMPTS_MAX: usize = 5;
/// Characters of a message.
const MESSAGE_CHARS_MAX: usize = 1_024;
/// The same of one about logs or a deletion, which quotes what an API server or an archive has said.
const TROUBLE_CHARS_MAX: usize = 256;

/// A status has an end, whatever others say: with five attempts it stays below 16 kB.
pub(super) fn bound(status: &mut TaskRunStatus) {
    for attempt in &mut status.attempts {
        let messages = attempt.logs.as_mut().map(|logs| &mut logs.message).into_iter();
        for message in messages.chain(attempt.reap.as_mut().map(|reap| &mut reap.message)) {
            message.truncate(message.floor_char_boundary(TROUBLE_CHARS_MAX));
        }
    }
}

pub(super) fn condition(status: &mut TaskRunStatus, kind: &str, value: bool, reason: &str, now: Timestamp) {
    let condition = Condition {
        kind: kind.to_owned(),
        status: if value { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        last_transition_time: Time::from(now),
    };
    set_condition(&mut status.conditions, condition);
}

/// Those that follow a run exist, but for those that the API server does not take.
pub(super) fn followed(status: &mut TaskRunStatus, notes: &Notes, now: Timestamp) {
    status.followed = true;
    if notes.unfollowed.is_empty() {
        return;
    }
    condition(status, "Followed", false, "Refused", now);
    let refused: Vec<String> = notes.unfollowed.iter().map(|(task, why)| format!("no run of task {task} follows: {why}")).collect();
    let text = refused.join("; ");
    if let Some(condition) = status.conditions.iter_mut().find(|condition| condition.kind == "Followed") {
        text[..text.floor_char_boundary(MESSAGE_CHARS_MAX)].clone_into(&mut condition.message);
    }
}

pub(super) fn say(status: &mut TaskRunStatus, reason: &str, text: &str) {
    reason.clone_into(&mut status.reason);
    text[..text.floor_char_boundary(MESSAGE_CHARS_MAX)].clone_into(&mut status.message);
}

fn write(status: TaskRunStatus) -> Step {
    Step::Write(Box::new(status))
}

/// All is over before anything began.
pub(super) fn end(run: &Run, outcome: Outcome, reason: &str, text: &str, now: Timestamp) -> Step {
    let mut status = run.status.clone();
    status.phase = Some(Phase::Reaped);
    status.outcome = Some(outcome);
    status.finished_at = written(now);
    status.pending = None;
    // What was not to start starts nothing.
    status.followed = outcome == Outcome::Skipped;
    say(&mut status, reason, text);
    condition(&mut status, "Finished", true, outcome.name(), now);
    write(status)
}

pub(super) fn arrived(run: &Run, news: &[&String], now: Timestamp) -> Step {
    let mut status = run.status.clone();
    status.arrived.extend(news.iter().map(|one| (*one).clone()));
    if status.phase.is_none() {
        status.phase = Some(Phase::Waiting);
        say(&mut status, "Incomplete", "");
        condition(&mut status, "Queued", false, "Incomplete", now);
    }
    write(status)
}

/// An alarm went off.
pub(super) fn late(run: &Run, clock: &str, now: Timestamp) -> Step {
    let mut status = run.status.clone();
    status.late.push(clock.to_owned());
    if status.phase.is_none() {
        status.phase = Some(Phase::Waiting);
        condition(&mut status, "Queued", false, "Incomplete", now);
    }
    write(status)
}

pub(super) fn wait(run: &Run, reason: &str, text: &str, now: Timestamp) -> Step {
    let mut status = run.status.clone();
    status.phase = Some(Phase::Waiting);
    say(&mut status, reason, text);
    condition(&mut status, "Queued", false, reason, now);
    write(status)
}

pub(super) fn queue(run: &Run, blocked: Option<&(String, String)>, now: Timestamp) -> Step {
    let mut status = run.status.clone();
    status.phase = Some(Phase::Queued);
    status.queued_at = written(now);
    say(&mut status, "Queued", "");
    condition(&mut status, "Queued", true, "Queued", now);
    if let Some(why) = blocked {
        pend(&mut status, why, now);
    }
    write(status)
}

fn pend(status: &mut TaskRunStatus, (reason, detail): &(String, String), now: Timestamp) {
    let since = status.pending.as_ref().map_or(Time::from(now), |pending| pending.since);
    status.pending = Some(Pending { since, reason: reason.clone(), detail: detail.clone() });
    say(status, reason, detail);
}

/// Whether it is not what people can read already.
pub(super) fn is_news(run: &Run, (reason, detail): &(String, String)) -> bool {
    run.status.pending.as_ref().is_none_or(|pending| pending.reason != *reason || pending.detail != *detail)
}

pub(super) fn blocked(run: &Run, why: &(String, String), now: Timestamp) -> Step {
    let mut status = run.status.clone();
    pend(&mut status, why, now);
    write(status)
}

/// The intent: attempt n, before its pod. One that never got its pod keeps its number.
pub(super) fn launch(run: &Run, now: Timestamp) -> Step {
    let mut status = run.status.clone();
    status.phase = Some(Phase::Launching);
    status.queued_at = status.queued_at.or(written(now));
    status.next_attempt_at = None;
    status.pending = None;
    if status.current().is_none_or(|attempt| attempt.ended.is_some()) {
        status.attempt += 1;
        let pod_name = names::pod_name(&run.key.name, status.attempt);
        status.attempts.push(Attempt { number: status.attempt, pod_name, ..Attempt::default() });
        let surplus = status.attempts.len().saturating_sub(ATTEMPTS_MAX);
        status.attempts.drain(..surplus);
    }
    say(&mut status, "Launching", "");
    condition(&mut status, "Queued", true, "Admitted", now);
    condition(&mut status, "Launched", false, "Launching", now);
    write(status)
}

/// Back to the queue: no pod was made, for the time being.
pub(super) fn hold(run: &Run, reason: &str, text: &str, now: Timestamp) -> Step {
    let mut status = run.status.clone();
    status.phase = Some(Phase::Queued);
    status.refusals = status.refusals.saturating_add(1);
    let backoff = run.frozen.as_ref().map(|frozen| frozen.retry.backoff.clone()).unwrap_or_default();
    status.next_attempt_at = written(now + wait_of(&backoff, status.refusals, &run.uid) + DurationMs(999));
    pend(&mut status, &(reason.to_owned(), text.to_owned()), now);
    write(status)
}

/// How long is waited before the n-th time. The spread follows from the run, so that every leader comes to the same.
pub(super) fn wait_of(backoff: &Backoff, times: u32, uid: &str) -> DurationMs {
    let initial = backoff.initial.or(DurationMs(30_000)).0;
    let max = backoff.max.or(DurationMs(600_000)).0;
    let factor = u64::from(backoff.factor.max(1)).saturating_pow(times.saturating_sub(1).min(64));
    let wait = initial.saturating_mul(factor).min(max);
    let spread = wait / 100 * u64::from(backoff.jitter_percent.min(100));
    let draw = crate::model::fnv::fnv1a(u64::from(times), uid.bytes()) % 1_000;
    DurationMs(wait - spread / 2 + spread / 1_000 * draw)
}

/// The pod is there: what it says goes into the attempt.
pub(super) fn adopt(run: &Run, pod: &Pod, now: Timestamp) -> Step {
    let mut status = run.status.clone();
    observe(&mut status, pod, now);
    write(status)
}

/// Brings phase and attempt up to what the pod says, short of its end.
pub(super) fn observe(status: &mut TaskRunStatus, pod: &Pod, now: Timestamp) {
    let runs = pod.phase != PodPhase::Pending && pod.started.is_some();
    status.node = pod.node.to_string();
    if let Some(attempt) = status.attempts.last_mut() {
        attempt.pod_uid = pod.uid.to_string();
        attempt.node = pod.node.to_string();
        attempt.created = attempt.created.or(pod.created.map(Time::from));
        if !pod.node.is_empty() {
            attempt.bound = attempt.bound.or(written(now));
        }
        attempt.started = attempt.started.or(pod.started.filter(|_| runs).map(Time::from));
    }
    condition(status, "Launched", true, "PodCreated", now);
    if runs {
        status.phase = Some(Phase::Running);
        status.pending = None;
        say(status, "Running", "");
        condition(status, "Started", true, "Running", now);
        return;
    }
    status.phase = Some(Phase::Pending);
    match &pod.waiting {
        Some((reason, detail)) => pend(status, &(reason.to_string(), detail.to_string()), now),
        None if pod.node.is_empty() => say(status, "Pending", ""),
        None => {
            status.pending = None;
            say(status, "Starting", "");
        }
    }
}

/// Whether the logs of the attempt are saved, and whole.
pub(super) fn logs_saved(status: &mut TaskRunStatus, now: Timestamp) {
    let saved = status.current().and_then(|attempt| attempt.logs.as_ref()).map(|logs| logs.complete);
    if let Some(complete) = saved {
        condition(status, "LogsSaved", complete, if complete { "Complete" } else { "Incomplete" }, now);
    }
}

/// What people are told of a change: one word and a text.
pub fn transitions(before: &TaskRunStatus, after: &TaskRunStatus) -> Vec<(&'static str, String, String)> {
    let mut news = Vec::new();
    for clock in after.late.iter().filter(|clock| !before.late.contains(clock)) {
        news.push(("Warning", "Late".to_owned(), format!("the alarm of its {clock} clock went off")));
    }
    // By the attempt, not by the phase: a short run is over before it was ever seen running.
    let started = |status: &TaskRunStatus| status.current().is_some_and(|attempt| attempt.started.is_some());
    if started(after) && !(started(before) && before.attempt == after.attempt) {
        news.push(("Normal", "Started".to_owned(), format!("attempt {} on {}", after.attempt, after.node)));
    }
    if before.outcome != after.outcome
        && let Some(outcome) = after.outcome
    {
        let kind = if matches!(outcome, Outcome::Succeeded | Outcome::Skipped | Outcome::Cancelled) { "Normal" } else { "Warning" };
        news.push((kind, outcome.name().to_owned(), format!("{}: {}", after.reason, after.message)));
    }
    if before.phase != after.phase {
        match after.phase {
            Some(Phase::Launching) => news.push(("Normal", "Launching".to_owned(), format!("attempt {}", after.attempt))),
            Some(Phase::Queued) if before.phase.is_some() => {
                news.push(("Warning", "Requeued".to_owned(), format!("{}: {}", after.reason, after.message)));
            }
            _ => {}
        }
    }
    let reaped = |status: &TaskRunStatus| status.current().and_then(|attempt| attempt.reap.as_ref()?.result);
    if let Some(result) = reaped(after).filter(|_| reaped(before) != reaped(after)) {
        news.push(("Normal", "PodReaped".to_owned(), format!("pod of attempt {}: {result:?}", after.attempt)));
    }
    news
}

//! A run whose pod exists: its clocks, its end. In: the run and its pod. Out: one step.

use super::{Around, Step, Subject, TELL_EVERY, finish, writing};
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        effect::Effect,
        facts::{Pod, PodPhase, Run},
        run::{Ended, Phase},
        spec::{Clock, LimitAction},
    },
};

/// How long after its grace a pod that others delete may still be there as if it ran.
const DELETED_MAX: DurationMs = DurationMs(60_000);
/// Default of the start clock's limit.
const START_LIMIT: DurationMs = DurationMs(900_000);
/// Default of the queue clock's alarm.
const QUEUE_ALARM: DurationMs = DurationMs(300_000);

/// A pod that has just been created mostly has a node and runs within a second, and one write tells all of that.
const FRESH: DurationMs = DurationMs(1_000);

/// The pod is there, and that is not written down yet. Name and finalizer make sure of it for the second in which nothing is written.
pub(super) fn begun(of: Subject, around: &Around, pod: &Pod) -> Step {
    if pod.is_over() || of.stopped(around).is_some() {
        return step(of, around);
    }
    let waits = pod.phase == PodPhase::Pending && pod.deletion.is_none();
    match of.notes.created.map(|created| created + FRESH) {
        Some(until) if waits && until > around.now => Step::Until(until),
        _ => writing::adopt(of.run, pod, around.now),
    }
}

pub(super) fn step(of: Subject, around: &Around) -> Step {
    let Some(pod) = of.pod() else { return vanished(of, around) };
    let run = of.run;
    if pod.is_over() {
        return end(of, around, pod);
    }
    if let Some((ended, reason, text)) = of.stopped(around) {
        return finish::ended(of, around, ended, &reason, &text);
    }
    if let Some(step) = deleted(of, around, pod) {
        return step;
    }
    let mut seen = run.status.clone();
    writing::observe(&mut seen, pod, around.now);
    let told = |status: &crate::tasks::run::TaskRunStatus| (status.phase, status.node.clone(), status.attempts.clone());
    if told(&seen) != told(&run.status) {
        return Step::Write(Box::new(seen));
    }
    clocks(of, around, pod).unwrap_or_else(|| {
        // Only why it waits has changed: that may be told a little later.
        let at = of.notes.told.map_or(Timestamp(0), |told| told + TELL_EVERY);
        let news = seen.pending != run.status.pending;
        match (news, at <= around.now) {
            (true, true) => Step::Write(Box::new(seen)),
            (true, false) => Step::Until(at),
            (false, _) => Step::Rest,
        }
    })
}

/// How a pod that is over has ended.
fn end(of: Subject, around: &Around, pod: &Pod) -> Step {
    let fatal = |code: i32| of.run.frozen.as_ref().is_some_and(|frozen| frozen.retry.fatal_exit_codes.contains(&code));
    if pod.phase == PodPhase::Succeeded {
        return finish::ended(of, around, Ended::Succeeded, "Completed", "");
    }
    // Somebody who deletes a pod ends its containers with a signal: that is not the program's doing.
    let disruption = pod.disruption.clone().or_else(|| pod.deletion.map(|_| ("PodDeleted".into(), "the pod was deleted by others".into())));
    if let Some((reason, message)) = disruption {
        return match of.stopped(around) {
            Some((ended, reason, text)) => finish::ended(of, around, ended, &reason, &text),
            None => finish::ended(of, around, Ended::Infrastructure, &reason, &message),
        };
    }
    let (ended, reason, text) = match &pod.exit {
        Some(exit) if fatal(exit.code) => {
            (Ended::Fatal, exit.reason.to_string(), format!("exit code {} is fatal. {}", exit.code, exit.message))
        }
        Some(exit) => (Ended::Application, exit.reason.to_string(), format!("exit code {}. {}", exit.code, exit.message)),
        None => (Ended::Infrastructure, "PodFailed".to_owned(), "the pod failed and no container says why".to_owned()),
    };
    finish::ended(of, around, ended, &reason, &text)
}

/// Others delete the pod.
fn deleted(of: Subject, around: &Around, pod: &Pod) -> Option<Step> {
    let due = pod.deletion?;
    let given_up = due + DELETED_MAX;
    if pod.node.is_empty() || given_up <= around.now {
        return Some(finish::ended(of, around, Ended::Infrastructure, "PodDeleted", "the pod was deleted by others"));
    }
    Some(Step::Until(given_up))
}

/// The pod is not there. Only a look that is later than whatever could still create it tells that it is gone.
fn vanished(of: Subject, around: &Around) -> Step {
    let Some(attempt) = of.run.status.current() else {
        return finish::ended(of, around, Ended::Infrastructure, "PodLost", "the attempt is not written down");
    };
    if !of.notes.absent.contains_key(attempt.pod_name.as_str()) {
        return Step::Order(Effect::ReadPod(attempt.pod_name.as_str().into()));
    }
    match of.stopped(around) {
        Some((ended, reason, text)) => finish::ended(of, around, ended, &reason, &text),
        None => finish::ended(of, around, Ended::Infrastructure, "PodLost", "the pod has vanished"),
    }
}

fn clocks(of: Subject, around: &Around, pod: &Pod) -> Option<Step> {
    let run = of.run;
    let (frozen, attempt) = (run.frozen.as_ref()?, run.status.current()?);
    let limits = &frozen.limits;
    let mut wake: Option<Timestamp> = None;
    let running = run.phase() == Some(Phase::Running);
    let (name, clock, since) = match (running, pod.node.is_empty()) {
        (true, _) => ("run", &limits.run, attempt.started),
        (false, true) => ("queue", &limits.queue, run.status.queued_at),
        (false, false) => ("start", &limits.start, attempt.bound),
    };
    let since = since.map_or(around.now, |time| time.0);
    let default = if name == "start" { Some(START_LIMIT) } else { None };
    if let Some(limit) = clock.limit.ms().or(default).filter(|limit| limit.0 > 0) {
        if since + limit <= around.now {
            let fails = if name == "run" { LimitAction::Fail } else { LimitAction::Requeue };
            let ended = if clock.action.unwrap_or(fails) == LimitAction::Fail { Ended::TimedOut } else { Ended::Requeued };
            let why = pod.waiting.as_ref().map(|(reason, text)| format!(" ({reason}: {text})")).unwrap_or_default();
            let text = format!("its {name} clock reached its limit of {}{why}", crate::config::duration::format(limit));
            let reason =
                ["QueueLimit", "StartLimit", "RunLimit"][["queue", "start", "run"].iter().position(|one| *one == name).unwrap_or(0)];
            return Some(finish::ended(of, around, ended, reason, &text));
        }
        wake = Some(since + limit);
    }
    if around.node_lost && !pod.node.is_empty() {
        return Some(finish::ended(
            of,
            around,
            Ended::Infrastructure,
            "NodeLost",
            &format!("node {} is gone or does not answer", pod.node),
        ));
    }
    match alarm(run, name, clock, Some(since), around.now) {
        Some(Step::Until(at)) => wake = Some(wake.map_or(at, |wake| wake.min(at))),
        Some(step) => return Some(step),
        None => {}
    }
    // Why it waits may be news as well; that is for the caller.
    let news = pod.waiting.as_ref().is_some_and(|why| writing::is_news(run, &(why.0.to_string(), why.1.to_string())));
    if news { None } else { wake.map(Step::Until) }
}

/// An alarm that is due, or when it will be.
pub(super) fn alarm(run: &Run, name: &str, clock: &Clock, since: Option<Timestamp>, now: Timestamp) -> Option<Step> {
    let default = if name == "queue" { Some(QUEUE_ALARM) } else { None };
    let alarm = clock.alarm.ms().or(default).filter(|alarm| alarm.0 > 0)?;
    if run.status.late.iter().any(|late| late == name) {
        return None;
    }
    let at = since? + alarm;
    Some(if at <= now { writing::late(run, name, now) } else { Step::Until(at) })
}

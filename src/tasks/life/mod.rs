//! What is to be done next for a run. In: the run and its pods as the API server has them, the time, what is around it. Out: one step. It changes nothing and
//! remembers nothing: after a crash the next leader comes to the same step.
//!
//! | phase | what is waited for | then |
//! |---|---|---|
//! | none, Waiting | other runs, data, its turn | Queued, or Reaped as Skipped or Cancelled |
//! | Queued | the time of its next attempt, quota, pace | Launching: attempt n is written first |
//! | Launching | the pod, created or adopted | Pending, Running or Finishing; Queued after 403, 429, when the API server fails; Finishing after 400, 422 |
//! | Pending | a node, and that it runs | Running; Finishing at a limit, when it ends or is lost |
//! | Running | its end | Finishing: how it ended is written, and whether it is tried again |
//! | Finishing | followers, announcement, logs | Recycling |
//! | Recycling | that the pod is gone | Queued for attempt n+1, or Reaped |

mod finish;
mod pods;
mod reap;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    effect::{Effect, settled_after},
    facts::{Pod, Run},
    names,
    rules::Rules,
    run::{Ended, Outcome, Phase, TaskRunStatus},
    spec::OnDeadline,
};
use crate::model::time::{DurationMs, Timestamp};

pub use writing::transitions;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The status shall be this: an intent before an effect, or a record after it.
    Write(Box<TaskRunStatus>),
    /// Do this.
    Order(Effect),
    /// What it takes from its task is to be filled in.
    FillIn,
    /// Nothing before then.
    Until(Timestamp),
    /// Nothing until a fact comes.
    Rest,
}

/// Whether it is a run's turn among those that count together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may be queued.
    Go,
    /// Not yet: why.
    Wait(String),
    /// It is not to start: why.
    Skip(String),
}

/// What is around a run.
#[derive(Clone, Debug)]
pub struct Around<'a> {
    /// The time.
    pub now: Timestamp,
    /// The rules.
    pub rules: &'a Rules,
    /// We lead since then.
    pub leading_since: Timestamp,
    /// Whether it is its turn.
    pub turn: Turn,
    /// A newer run takes its place.
    pub replaced_by: Option<&'a str>,
    /// Quota and pace let it start now.
    pub admitted: bool,
    /// Why they do not: one word and a text.
    pub blocked: Option<&'a (String, String)>,
    /// A run that follows this one and is to be created, or has been told that this one is there.
    pub follower: Option<Follower>,
    /// The node of its pod is gone or has not answered for long.
    pub node_lost: bool,
    /// It is to be deleted: it has been kept long enough.
    pub expired: bool,
}

/// What stands between the end of a run and those that follow it.
#[derive(Clone, Debug, PartialEq)]
pub enum Follower {
    /// This run is to be created.
    Create(Box<Value>),
    /// It exists and has to record that this one is there; it does so itself.
    Wait,
}

/// What saves questions; all of it may be forgotten at any time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// An answer to a creation of a pod was unclear.
    pub unclear: Option<Timestamp>,
    /// The pod was created, and that is not written down yet.
    pub created: Option<Timestamp>,
    /// Orders in a row that failed.
    pub failures: u32,
    /// Not ordered again before.
    pub not_before: Option<Timestamp>,
    /// The last failure.
    pub failure: String,
    /// A pod was seen to be gone.
    pub absent: BTreeMap<Box<str>, Timestamp>,
    /// The launch was refused for the time being.
    pub held: Option<(String, String)>,
    /// It was refused for good.
    pub refused: Option<String>,
    /// A pod that is not ours has the name.
    pub foreign: bool,
    /// The deletion was accepted: of which pod, with which grace.
    pub deleted: Option<(Box<str>, u64)>,
    /// Deletions that were ordered.
    pub tries: u32,
    /// We may not delete it.
    pub forbidden: Option<String>,
    /// What was announced.
    pub announced: Option<&'static str>,
    /// Nobody heard that it is finished.
    pub unheard: bool,
    /// Logs are saved: the next write says so.
    pub logs: Option<super::run::SavedLogs>,
    /// Things that arrived and are to be recorded.
    pub arriving: std::collections::BTreeSet<String>,
    /// Tasks of which no run follows, as the API server does not take it: why.
    pub unfollowed: BTreeMap<Box<str>, String>,
    /// The last write that only told why it waits.
    pub told: Option<Timestamp>,
}

/// A run and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its pods by name, those that it owns.
    pub pods: &'a BTreeMap<Box<str>, Pod>,
    /// What is remembered.
    pub notes: &'a Notes,
}

/// Launches in a row that the API server may fail before the run goes back to the queue.
const LAUNCH_FAILURES_MAX: u32 = 5;
/// How often a write may tell why a run waits.
const TELL_EVERY: DurationMs = DurationMs(10_000);

impl Subject<'_> {
    /// Pod of the attempt under way.
    fn pod(&self) -> Option<&Pod> {
        let attempt = self.run.status.current()?;
        self.pods.get(attempt.pod_name.as_str()).filter(|pod| attempt.pod_uid.is_empty() || *pod.uid == *attempt.pod_uid)
    }

    /// When nothing of an earlier leader, nor a creation that was not answered, can come late any more.
    fn quiet(&self, around: &Around) -> Timestamp {
        settled_after(around.leading_since).max(self.notes.unclear.map_or(Timestamp(0), settled_after))
    }

    /// Whether somebody or something stops it: how the attempt ends then, one word, a text.
    fn stopped(&self, around: &Around) -> Option<(Ended, String, String)> {
        if self.run.cancel {
            return Some((Ended::Cancelled, "Cancelled".to_owned(), "it was cancelled".to_owned()));
        }
        let by = around.replaced_by?;
        Some((Ended::Cancelled, "Replaced".to_owned(), format!("run {by} has taken its place")))
    }
}

/// The next step of a run.
pub fn step(of: Subject, around: &Around) -> Step {
    match next(of, around) {
        Step::Write(mut status) => {
            writing::bound(&mut status);
            Step::Write(status)
        }
        other => other,
    }
}

fn next(of: Subject, around: &Around) -> Step {
    let run = of.run;
    if run.deleting {
        return Step::Rest;
    }
    if let Some(at) = of.notes.not_before.filter(|at| *at > around.now) {
        return Step::Until(at);
    }
    if let Some(why) = run.unreadable.as_ref().filter(|_| !run.is_reaped()) {
        return writing::end(run, Outcome::Failed, "Unreadable", why, around.now);
    }
    if run.frozen.is_none() && !run.is_reaped() {
        return if run.cancel { writing::end(run, Outcome::Cancelled, "Cancelled", "it was cancelled", around.now) } else { Step::FillIn };
    }
    match run.phase() {
        None | Some(Phase::Waiting) => waiting(of, around),
        Some(Phase::Queued) => queued(of, around),
        Some(Phase::Launching) => launching(of, around),
        Some(Phase::Pending | Phase::Running) => pods::step(of, around),
        Some(Phase::Finishing) => finish::step(of, around),
        Some(Phase::Recycling) => reap::step(of, around),
        Some(Phase::Reaped) => reap::after(of, around),
    }
}

/// What a run still waits for, and until when.
pub fn is_complete(run: &Run, now: Timestamp) -> bool {
    let Some(waits) = run.frozen.as_ref().and_then(|frozen| frozen.waits_for.as_ref()) else { return true };
    let all = waits.all_of.iter().all(|one| run.status.arrived.contains(one));
    let overdue = waits.deadline.is_some_and(|deadline| deadline.0 <= now);
    all || (overdue && waits.on_deadline == OnDeadline::Run)
}

fn waiting(of: Subject, around: &Around) -> Step {
    let run = of.run;
    if let Some((_, reason, text)) = of.stopped(around) {
        return writing::end(run, Outcome::Cancelled, &reason, &text, around.now);
    }
    let news: Vec<&String> = of.notes.arriving.iter().filter(|one| !run.status.arrived.contains(*one)).collect();
    if !news.is_empty() {
        return writing::arrived(run, &news, around.now);
    }
    let deadline =
        run.frozen.as_ref().and_then(|frozen| frozen.waits_for.as_ref()).and_then(|waits| Some((waits.deadline?.0, waits.on_deadline)));
    if !is_complete(run, around.now) {
        return match deadline {
            Some((at, OnDeadline::Skip)) if at <= around.now => {
                writing::end(run, Outcome::Skipped, "Deadline", &format!("not all was there in time: {}", missing(run)), around.now)
            }
            Some((at, _)) if at <= around.now && !run.status.late.iter().any(|late| late == "deadline") => {
                writing::late(run, "deadline", around.now)
            }
            _ if run.phase().is_none() => writing::wait(run, "Incomplete", &format!("it waits for {}", missing(run)), around.now),
            Some((at, _)) if at > around.now => Step::Until(at),
            _ => Step::Rest,
        };
    }
    match &around.turn {
        Turn::Go if around.admitted => writing::launch(run, around.now),
        // Mostly it is admitted at once, which saves a write.
        Turn::Go if run.phase().is_none() && around.blocked.is_none() => Step::Rest,
        Turn::Go => writing::queue(run, around.blocked, around.now),
        Turn::Wait(why) if run.phase().is_none() => writing::wait(run, "Concurrency", why, around.now),
        Turn::Wait(_) => Step::Rest,
        Turn::Skip(why) => writing::end(run, Outcome::Skipped, "Concurrency", why, around.now),
    }
}

fn missing(run: &Run) -> String {
    let waits = run.frozen.as_ref().and_then(|frozen| frozen.waits_for.as_ref());
    let missing = waits.into_iter().flat_map(|waits| &waits.all_of).filter(|one| !run.status.arrived.contains(one));
    missing.cloned().collect::<Vec<_>>().join(", ")
}

fn queued(of: Subject, around: &Around) -> Step {
    let run = of.run;
    if let Some(pod) = of.pod().filter(|_| is_open(run)) {
        // A creation that was taken for failed has come late.
        return writing::adopt(run, pod, around.now);
    }
    if let Some((ended, reason, text)) = of.stopped(around) {
        if !is_open(run) {
            return writing::end(run, Outcome::Cancelled, &reason, &text, around.now);
        }
        return finish::ended(of, around, ended, &reason, &text);
    }
    if around.admitted {
        return writing::launch(run, around.now);
    }
    let clock = run.frozen.as_ref().map(|frozen| &frozen.limits.queue);
    if let Some(step) = clock.and_then(|clock| pods::alarm(run, "queue", clock, run.status.queued_at.map(|time| time.0), around.now)) {
        return step;
    }
    if let Some(blocked) = around.blocked.filter(|blocked| writing::is_news(run, blocked)) {
        let at = of.notes.told.map_or(Timestamp(0), |told| told + TELL_EVERY);
        return if at <= around.now { writing::blocked(run, blocked, around.now) } else { Step::Until(at) };
    }
    run.status.next_attempt_at.map(|time| time.0).filter(|at| *at > around.now).map_or(Step::Rest, Step::Until)
}

/// Whether the attempt that is written down may still get its pod.
fn is_open(run: &Run) -> bool {
    run.status.current().is_some_and(|attempt| attempt.ended.is_none())
}

fn launching(of: Subject, around: &Around) -> Step {
    let run = of.run;
    if let Some(pod) = of.pod() {
        return pods::begun(of, around, pod);
    }
    if let Some((ended, reason, text)) = of.stopped(around) {
        return finish::ended(of, around, ended, &reason, &text);
    }
    if of.notes.foreign {
        let text =
            format!("a pod that is not of this run has the name {}; it is left alone", names::pod_name(&run.key.name, run.status.attempt));
        return finish::ended(of, around, Ended::Refused, "NameTaken", &text);
    }
    if let Some(text) = &of.notes.refused {
        return finish::ended(of, around, Ended::Refused, "PodRefused", text);
    }
    if let Some((reason, text)) = &of.notes.held {
        return writing::hold(run, reason, text, around.now);
    }
    if of.notes.failures >= LAUNCH_FAILURES_MAX {
        return writing::hold(run, "ApiServer", &of.notes.failure, around.now);
    }
    Step::Order(Effect::CreatePod { attempt: run.status.attempt })
}

/// A run of which no pod can be made ends before anything began.
pub fn refused(run: &Run, reason: &str, text: &str, now: Timestamp) -> Step {
    writing::end(run, Outcome::Failed, reason, text, now)
}

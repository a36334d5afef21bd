//! What a status that was accepted tells of its run. In: the status before and after. Out: metrics, and one line of the log for each run that is over, under a
//! target of its own.

use serde_json::{Value, json};

use crate::{
    kubernetes::runs::port::text,
    metrics::TaskMetrics,
    tasks::{
        run::{Attempt, Outcome, Phase, TaskRunStatus},
        time::Time,
    },
};

/// Target of the lines about runs that are over: `ISOBAR_LOG=warn,isobar::task_runs=info` leaves nothing else of what is well.
pub(super) const TARGET: &str = "isobar::task_runs";

/// A status of `run` was accepted.
pub(super) fn written(metrics: &TaskMetrics, run: &Value, before: &TaskRunStatus, after: &TaskRunStatus) {
    if before.outcome.is_none()
        && let Some(outcome) = after.outcome
    {
        let (namespace, task) = (text(run, "/metadata/namespace"), text(run, "/spec/taskRef/name"));
        metrics.finished(&format!("{namespace}/{task}"), outcome.name(), text(run, "/spec/trigger/type"));
    }
    if after.phase == Some(Phase::Reaped) && before.phase != Some(Phase::Reaped) {
        tell(run, after);
    }
    if after.announced == "Reaped" && before.announced != "Reaped" && after.conditions.iter().any(|one| one.kind == "Announced") {
        metrics.report("given_up");
    }
    let (namespace, task) = (text(run, "/metadata/namespace"), text(run, "/spec/taskRef/name"));
    for clock in after.late.iter().filter(|clock| !before.late.contains(clock)) {
        metrics.late(&format!("{namespace}/{task}"), clock);
    }
    let Some(attempt) = after.current() else { return };
    let same = before.current().filter(|was| was.number == attempt.number);
    if let (Some(ended), None) = (attempt.ended, same.and_then(|was| was.ended)) {
        let clocks = [
            ("queue", seconds(after.queued_at.or(before.queued_at), attempt.bound)),
            ("start", seconds(attempt.bound, attempt.started)),
            ("run", seconds(attempt.started, attempt.finished)),
        ];
        metrics.attempt(&format!("{ended:?}"), clocks);
    }
    let reaped = |attempt: &Attempt| attempt.reap.as_ref().and_then(|reap| reap.result);
    if let Some(result) = reaped(attempt).filter(|result| same.and_then(reaped) != Some(*result)) {
        let reap = attempt.reap.as_ref();
        metrics.reaped(&format!("{result:?}"), reap.and_then(|reap| seconds(reap.requested_at, reap.gone_at)));
    }
    if let (Some(logs), None) = (&attempt.logs, same.and_then(|was| was.logs.as_ref())) {
        metrics.logs(logs.bytes, logs.complete);
    }
}

fn seconds(from: Option<Time>, to: Option<Time>) -> Option<f64> {
    Some(to?.0.since(from?.0).as_secs_f64())
}

/// What is told of a run to people and programs.
pub(super) fn summary(run: &Value, status: &TaskRunStatus) -> Value {
    let attempt = status.current().cloned().unwrap_or_default();
    let logs = attempt.logs.unwrap_or_default();
    let mut summary = json!({
        "namespace": text(run, "/metadata/namespace"),
        "run": text(run, "/metadata/name"),
        "uid": text(run, "/metadata/uid"),
        "task": text(run, "/spec/taskRef/name"),
        "account": text(run, "/spec/frozen/account"),
        "trigger": text(run, "/spec/trigger/type"),
        "key": text(run, "/spec/trigger/key"),
        "cycle": text(run, "/spec/cycle"),
        "outcome": status.outcome.map(Outcome::name),
        "reason": status.reason,
        "message": status.message,
        "attempts": status.attempt,
        "node": attempt.node,
        "exitCode": attempt.exit_code,
        "queueSeconds": seconds(status.queued_at, attempt.bound),
        "startSeconds": seconds(attempt.bound, attempt.started),
        "runSeconds": seconds(attempt.started, attempt.finished),
        "finishedAt": status.finished_at,
        "logs": logs.uri,
        "logBytes": logs.bytes,
        "logSha256": logs.sha256,
        "logComplete": logs.complete,
        "pod": attempt.reap.and_then(|reap| reap.result),
    });
    if let Some(fields) = summary.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && *value != "");
    }
    summary
}

/// The one line: its message, and everything as one JSON object.
fn tell(run: &Value, status: &TaskRunStatus) {
    let name = format!("{}/{}", text(run, "/metadata/namespace"), text(run, "/metadata/name"));
    let outcome = status.outcome.map_or("", Outcome::name);
    tracing::info!(target: TARGET, run = name, outcome, summary = %summary(run, status), "run is over");
}

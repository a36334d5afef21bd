//! What a status that was accepted tells of its run. In: the status before and after. Out: metrics, and one line of the log for each run that is over, which
//! with `--logging-format=json` is one line of JSON.

use serde_json::Value;

use crate::{
    kubernetes::runs::port::text,
    metrics::TaskMetrics,
    tasks::{
        run::{Attempt, Phase, TaskRunStatus},
        time::Time,
    },
};

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
        metrics.reaped(&format!("{result:?}"));
    }
    if let (Some(logs), None) = (&attempt.logs, same.and_then(|was| was.logs.as_ref())) {
        metrics.logs(logs.bytes, logs.complete);
    }
}

fn seconds(from: Option<Time>, to: Option<Time>) -> Option<f64> {
    Some(to?.0.since(from?.0).as_secs_f64())
}

/// The one line.
fn tell(run: &Value, status: &TaskRunStatus) {
    let attempt = status.current().cloned().unwrap_or_default();
    let logs = attempt.logs.unwrap_or_default();
    tracing::info!(
        namespace = text(run, "/metadata/namespace"),
        run = text(run, "/metadata/name"),
        uid = text(run, "/metadata/uid"),
        task = text(run, "/spec/taskRef/name"),
        account = text(run, "/spec/frozen/account"),
        trigger = text(run, "/spec/trigger/type"),
        cycle = text(run, "/spec/cycle"),
        outcome = status.outcome.map(crate::tasks::run::Outcome::name),
        reason = status.reason,
        attempts = status.attempt,
        node = attempt.node,
        exit_code = attempt.exit_code,
        run_seconds = seconds(attempt.started, attempt.finished),
        logs = logs.uri,
        log_bytes = logs.bytes,
        log_sha256 = logs.sha256,
        pod = attempt.reap.and_then(|reap| reap.result).map(|result| format!("{result:?}")),
        "run is over"
    );
}

//! What people are told of tasks. In: what was seen. Out: a table with a row for each task, attempts that did not end well, and the counts that must be zero.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::audit::{Wanted, faults};
use super::ledger::{PodSeen, RunSeen};
use crate::demo::cluster::HOME;
use crate::demo::history::History;
use crate::demo::report::{percentile, seconds, shown, table};
use crate::tasks::run::{Ended, Outcome, ReapResult};

/// How runs end, in the order of the columns.
const OUTCOMES: [Outcome; 6] =
    [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Cancelled, Outcome::Lost, Outcome::Skipped];

/// The part of the report.
pub fn render(text: &mut String, history: &History, wanted: &Wanted) {
    let ledger = &history.tasks;
    let mut tasks: BTreeMap<&str, Vec<&RunSeen>> = BTreeMap::new();
    for run in ledger.runs.values() {
        tasks.entry(&run.task).or_default().push(run);
    }
    let occur: BTreeSet<&str> = ledger.runs.values().filter_map(|run| run.outcome).map(Outcome::name).collect();
    let outcomes: Vec<&str> = OUTCOMES.map(Outcome::name).into_iter().filter(|name| occur.contains(name)).collect();
    let head = ["TASK", "RUNS"].into_iter().map(str::to_owned).chain(outcomes.iter().map(|name| name.to_uppercase()));
    let tail = ["ATTEMPTS", "ABROAD", "START P50", "MAX", "LOGS", "BYTES", "REAPED"].map(str::to_owned);
    let mut rows = table(head.chain(tail));
    for (task, runs) in &tasks {
        let mut row = vec![(*task).to_owned(), runs.len().to_string()];
        row.extend(
            outcomes.iter().map(|name| runs.iter().filter(|run| run.outcome.is_some_and(|one| one.name() == *name)).count().to_string()),
        );
        row.extend(what_it_took(history, wanted, runs));
        rows.add_row(row);
    }
    _ = writeln!(
        text,
        "Tasks (manifests/examples, run by the room of tasks; from order to start in simulated time)\n{}\n",
        shown(&mut rows)
    );
    otherwise(text, ledger.runs.values());
    let counted: Vec<String> = faults(ledger, wanted).iter().map(|(what, count)| format!("{what}: {count}")).collect();
    let (runs, pods) = (ledger.runs.len(), ledger.pods.len());
    _ = writeln!(
        text,
        "Checked from the watch history of tasks: {runs} runs of {} that had to come, {pods} pods, {}\n",
        wanted.runs.len(),
        counted.join(", ")
    );
}

/// Attempts, those on compute clusters, waits, logs, pods that were reaped.
fn what_it_took(history: &History, wanted: &Wanted, runs: &[&RunSeen]) -> Vec<String> {
    let pods: Vec<(&str, &PodSeen)> = runs.iter().flat_map(|run| history.tasks.pods_of(&run.name)).collect();
    let is_abroad = |uid: &str| history.pods.get(uid).is_some_and(|life| life.bound.is_some() && !life.is_in(HOME));
    let abroad = pods.iter().filter(|(uid, _)| is_abroad(uid)).count();
    let started = |run: &&&RunSeen| history.tasks.pods_of(&run.name).iter().filter_map(|(_, pod)| pod.ran_ms).min();
    let mut waits: Vec<u64> = runs.iter().filter_map(|run| Some(started(&run)?.saturating_sub(run.ordered_ms))).collect();
    waits.sort_unstable();
    let archived = pods.iter().filter_map(|(uid, _)| wanted.archived.get(*uid));
    let (logs, bytes) = archived.fold((0, 0), |all, size| (all.0 + size.0, all.1 + size.1));
    let attempts = || runs.iter().flat_map(|run| run.attempts.values());
    let is_reaped = |result: Option<ReapResult>| matches!(result, Some(ReapResult::Deleted | ReapResult::AlreadyGone));
    let reaped = attempts().filter(|attempt| attempt.reap.as_ref().is_some_and(|reap| is_reaped(reap.result))).count();
    let numbers = [attempts().count(), abroad].map(|count| count.to_string());
    let wait = |percent: usize| if waits.is_empty() { "-".to_owned() } else { seconds(percentile(&waits, percent)) };
    numbers.into_iter().chain([wait(50), wait(100)]).chain([logs, bytes, reaped].map(|count| count.to_string())).collect()
}

/// Attempts that did not succeed, and what they said.
fn otherwise<'a>(text: &mut String, runs: impl Iterator<Item = &'a RunSeen>) {
    let mut lines: Vec<String> = runs
        .flat_map(|run| run.attempts.values().map(move |attempt| (run, attempt)))
        .filter(|(_, attempt)| attempt.ended.is_some_and(|ended| ended != Ended::Succeeded))
        .map(|(run, attempt)| {
            let ended = attempt.ended.map(|ended| format!("{ended:?}")).unwrap_or_default();
            format!("  {} attempt {} of {}: {ended}: {}", run.name, attempt.number, run.attempts.len(), attempt.message)
        })
        .collect();
    lines.sort_unstable();
    if !lines.is_empty() {
        _ = writeln!(text, "Attempts that ended otherwise than well\n{}\n", lines.join("\n"));
    }
}

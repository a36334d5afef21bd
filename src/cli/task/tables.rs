//! What `isobar task` prints. In: objects. Out: tables and pages for people.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{
    cli::cluster::show::{table, trimmed},
    config::duration,
    kubernetes::clock::Clock,
    model::time::{DurationMs, Timestamp},
};

/// Runs that the page of a task shows.
const RUNS_MAX: usize = 10;
/// Characters of a text in a table.
const TEXT_CHARS_MAX: usize = 60;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text(value, pointer))
}

/// A span as people read it: its two largest units.
fn rough(span: DurationMs) -> String {
    let seconds = span.0 / 1_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m{}s", seconds / 60, seconds % 60),
        7_200..172_800 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn age(value: &Value, pointer: &str) -> String {
    time(value, pointer).map(|at| rough(Clock::system().now().since(at))).unwrap_or_default()
}

fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= TEXT_CHARS_MAX {
        line.to_owned()
    } else {
        line.chars().take(TEXT_CHARS_MAX - 3).chain("...".chars()).collect()
    }
}

/// What starts a task, in a few words.
fn triggers(task: &Value) -> String {
    let one = |trigger: &Value| {
        if trigger["cron"].is_object() {
            let zone = text(trigger, "/cron/timeZone");
            return format!("cron {}{}{zone}", text(trigger, "/cron/schedule"), if zone.is_empty() { "" } else { " " });
        }
        if trigger["after"].is_object() {
            let names = trigger["after"]["tasks"].as_array().into_iter().flatten().map(|task| text(task, "/name"));
            return format!("after {}", names.collect::<Vec<_>>().join("+"));
        }
        format!("data {}", text(trigger, "/data/source"))
    };
    let all: Vec<String> = task["spec"]["triggers"].as_array().into_iter().flatten().map(one).collect();
    if all.is_empty() { "by hand".to_owned() } else { all.join(", ") }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// How a run stands, in a word.
fn state(run: &Value) -> &str {
    let outcome = text(run, "/status/outcome");
    if outcome.is_empty() { text(run, "/status/phase") } else { outcome }
}

pub(super) fn tasks(tasks: &[Value], all_runs: &[Value]) -> String {
    if tasks.is_empty() {
        return "there is no task in this namespace; isobar task apply -f FILE registers one\n".to_owned();
    }
    let mut table = table(&["NAME", "TRIGGERS", "VALID", "SUSPENDED", "NEXT", "LIVE", "LAST", "AGO"]);
    for task in tasks {
        let mine: Vec<&Value> = all_runs.iter().filter(|run| run["spec"]["taskRef"]["name"] == task["metadata"]["name"]).collect();
        let live = mine.iter().filter(|run| !run["status"]["outcome"].is_string()).count();
        let last = mine.iter().filter(|run| run["status"]["outcome"].is_string()).max_by_key(|run| text(run, "/status/finishedAt"));
        table.add_row([
            text(task, "/metadata/name").to_owned(),
            shortened(&triggers(task)),
            condition(task, "Valid").map(|valid| text(valid, "/status").to_owned()).unwrap_or_default(),
            if task["spec"]["suspend"] == true { "yes" } else { "" }.to_owned(),
            text(task, "/status/nextScheduled").to_owned(),
            live.to_string(),
            last.map(|run| text(run, "/status/outcome").to_owned()).unwrap_or_default(),
            last.map(|run| age(run, "/status/finishedAt")).unwrap_or_default(),
        ]);
    }
    trimmed(&table)
}

pub(super) fn runs(runs: &[Value]) -> String {
    if runs.is_empty() {
        return "there is no run; isobar task run TASK starts one\n".to_owned();
    }
    let mut table = table(&["NAME", "TASK", "TRIGGER", "CYCLE", "STATE", "ATTEMPT", "NODE", "AGE", "WHY"]);
    for run in runs {
        let pending = text(run, "/status/pending/detail");
        let why = if pending.is_empty() {
            format!("{} {}", text(run, "/status/reason"), text(run, "/status/message"))
        } else {
            pending.to_owned()
        };
        table.add_row([
            text(run, "/metadata/name").to_owned(),
            text(run, "/spec/taskRef/name").to_owned(),
            text(run, "/spec/trigger/type").to_owned(),
            text(run, "/spec/cycle").to_owned(),
            state(run).to_owned(),
            run["status"]["attempt"].as_u64().unwrap_or(0).to_string(),
            text(run, "/status/node").to_owned(),
            age(run, "/metadata/creationTimestamp"),
            shortened(why.trim()),
        ]);
    }
    trimmed(&table)
}

/// Lines of a page: what, and its value unless that is empty.
struct Page(String);

impl Page {
    fn line(&mut self, what: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            _ = writeln!(self.0, "{what:<14}{}", value.as_ref());
        }
    }
}

pub(super) fn task(task: &Value, all_runs: &[Value]) -> String {
    let mut page = Page(String::new());
    page.line("Name", text(task, "/metadata/name"));
    page.line("Account", text(task, "/spec/account"));
    page.line("Triggers", triggers(task));
    page.line("Suspended", if task["spec"]["suspend"] == true { "yes" } else { "" });
    page.line("Next", text(task, "/status/nextScheduled"));
    page.line("Settled until", text(task, "/status/lastScheduled"));
    if let Some(valid) = condition(task, "Valid") {
        let why = format!("{} {}", text(valid, "/reason"), text(valid, "/message"));
        page.line("Valid", format!("{} {}", text(valid, "/status"), if text(valid, "/status") == "True" { "" } else { &why }).trim_end());
    }
    for param in task["spec"]["params"].as_array().into_iter().flatten() {
        let default = if param["required"] == true { "required".to_owned() } else { format!("default {:?}", text(param, "/default")) };
        page.line("Parameter", format!("{} ({default}) {}", text(param, "/name"), text(param, "/description")).trim_end());
    }
    let newest = &all_runs[all_runs.len().saturating_sub(RUNS_MAX)..];
    format!("{}\n{}", page.0, runs(newest))
}

pub(super) fn run(run: &Value) -> String {
    let mut page = Page(String::new());
    page.line("Name", text(run, "/metadata/name"));
    page.line("Task", text(run, "/spec/taskRef/name"));
    page.line("Trigger", format!("{} {}", text(run, "/spec/trigger/type"), text(run, "/spec/trigger/key")).trim_end());
    page.line("Cycle", text(run, "/spec/cycle"));
    page.line("Rerun of", text(run, "/spec/rerunOf"));
    for (name, value) in run["spec"]["params"].as_object().into_iter().flatten() {
        page.line("Parameter", format!("{name}={}", value.as_str().unwrap_or_default()));
    }
    page.line("State", state(run));
    page.line("Why", format!("{} {}", text(run, "/status/reason"), text(run, "/status/message")).trim());
    page.line("Pending", format!("{} {}", text(run, "/status/pending/reason"), text(run, "/status/pending/detail")).trim());
    page.line("Next attempt", if state(run) == "Queued" { text(run, "/status/nextAttemptAt") } else { "" });
    let late: Vec<&str> = run["status"]["late"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    page.line("Late", late.join(", "));
    page.line("Finished", text(run, "/status/finishedAt"));
    let mut table = table(&["ATTEMPT", "POD", "NODE", "STARTED", "RAN", "ENDED", "EXIT", "LOGS", "POD NOW"]);
    for attempt in run["status"]["attempts"].as_array().into_iter().flatten() {
        let ran = time(attempt, "/started").zip(time(attempt, "/finished")).map(|(from, to)| duration::format(to.since(from)));
        let logs = match (attempt["logs"].is_object(), attempt["logs"]["complete"] == true) {
            (false, _) => String::new(),
            (true, true) => format!("{} bytes", attempt["logs"]["bytes"]),
            (true, false) => format!("incomplete: {}", shortened(text(attempt, "/logs/message"))),
        };
        table.add_row([
            attempt["number"].to_string(),
            text(attempt, "/podName").to_owned(),
            text(attempt, "/node").to_owned(),
            text(attempt, "/started").to_owned(),
            ran.unwrap_or_default(),
            text(attempt, "/ended").to_owned(),
            attempt["exitCode"].as_i64().map(|code| code.to_string()).unwrap_or_default(),
            logs,
            text(attempt, "/reap/result").to_owned(),
        ]);
    }
    format!("{}\n{}", page.0, trimmed(&table))
}

pub(super) fn events(events: &[Value]) -> String {
    if events.is_empty() {
        return "there are no events; the API server keeps them for an hour\n".to_owned();
    }
    let mut table = table(&["AGO", "TYPE", "KIND", "REASON", "NOTE"]);
    for event in events {
        table.add_row([
            age(event, "/eventTime"),
            text(event, "/type").to_owned(),
            text(event, "/regarding/kind").to_owned(),
            text(event, "/reason").to_owned(),
            text(event, "/note").to_owned(),
        ]);
    }
    trimmed(&table)
}

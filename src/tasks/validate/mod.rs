//! What is wrong with a task beyond what the API server can see. In: its spec, the rules, the other tasks of its namespace. Out: faults, each with one word,
//! the path of the field and what to do; they become the condition `Valid`.

mod template;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    params,
    rules::Rules,
    spec::{Clock, Condition, Limits, TaskSpec},
    time::{Span, Time},
    trigger::pattern,
};
use crate::model::time::{DurationMs, Timestamp};

/// Something wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One word.
    pub reason: &'static str,
    /// Where.
    pub path: String,
    /// What, and what to do.
    pub message: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(reason: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason, path: path.into(), message: message.into() }
    }
}

/// Faults that a condition tells.
const TOLD_MAX: usize = 8;
/// The longest span that a limit may have.
const SPAN_MAX: DurationMs = DurationMs(366 * 86_400_000);

/// Everything wrong with a task. `others` are the tasks of its namespace, itself among them.
pub fn task(name: &str, spec: &TaskSpec, rules: &Rules, others: &BTreeMap<&str, &TaskSpec>) -> Vec<Fault> {
    let mut faults = declared_params(spec);
    faults.extend(template::faults(spec));
    faults.extend(triggers::faults(name, spec, rules, others));
    faults.extend(scope(spec));
    faults.extend(spans(spec));
    if spec.limits.run.limit.ms().is_none_or(|limit| limit == DurationMs(0)) && !spec.limits.run.limit.is_bad() {
        faults.push(Fault::new("NoRunLimit", "spec.limits.run.limit", "say how long a run may take, such as 20m"));
    }
    if !rules.sinks.contains(&spec.logs.sink) {
        let known = rules.sinks.join(", ");
        faults.push(Fault::new("UnknownSink", "spec.logs.sink", format!("there is no log sink {:?}; there are: {known}", spec.logs.sink)));
    }
    faults
}

/// The condition that tells faults, or that there are none.
pub fn condition(faults: &[Fault], now: Timestamp) -> Condition {
    let told = faults.iter().take(TOLD_MAX).map(|fault| format!("{}: {}", fault.path, fault.message));
    let more = faults.len().checked_sub(TOLD_MAX).filter(|more| *more > 0).map(|more| format!("and {more} more"));
    let message = told.chain(more).collect::<Vec<_>>().join("; ");
    Condition {
        kind: "Valid".to_owned(),
        status: if faults.is_empty() { "True" } else { "False" }.to_owned(),
        reason: faults.first().map_or("Valid", |fault| fault.reason).to_owned(),
        message,
        last_transition_time: Time::from(now),
    }
}

fn declared_params(spec: &TaskSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for (at, param) in spec.params.iter().enumerate() {
        let place = |field: &str| format!("spec.params[{at}].{field}");
        let first = param.name.chars().next();
        let is_name =
            first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && param.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || param.name.len() > 63 {
            faults.push(Fault::new(
                "BadParamName",
                place("name"),
                format!("{:?} is no name: letters, digits and _, not a digit first", param.name),
            ));
        }
        if params::BUILT_IN.contains(&param.name.as_str()) {
            faults.push(Fault::new(
                "BadParamName",
                place("name"),
                format!("{} stands for something of the run itself: choose another", param.name),
            ));
        }
        if !names.insert(&param.name) {
            faults.push(Fault::new("DuplicateParam", place("name"), format!("{} is there twice", param.name)));
        }
        if !param.pattern.is_empty()
            && let Err(message) = pattern::whole(&param.pattern)
        {
            faults.push(Fault::new("BadPattern", place("pattern"), message));
            continue;
        }
        if let Some(default) = &param.default {
            if param.required {
                faults.push(Fault::new("RequiredWithDefault", place("default"), "a parameter that is required has no use for a default"));
            }
            if let Err((_, message)) = params::check(param, default) {
                faults.push(Fault::new("BadDefault", place("default"), message));
            }
        }
    }
    faults
}

fn scope(spec: &TaskSpec) -> Option<Fault> {
    let scope = &spec.concurrency.scope;
    let known = scope == "task" || scope.strip_prefix("param:").is_some_and(|name| spec.params.iter().any(|param| param.name == name));
    (!known).then(|| {
        Fault::new("UnknownScope", "spec.concurrency.scope", format!("{scope:?} is neither task nor param: with a parameter's name"))
    })
}

fn spans(spec: &TaskSpec) -> Vec<Fault> {
    let Limits { queue, start, run, grace } = &spec.limits;
    let clock = |name: &str, clock: &Clock| {
        [(format!("limits.{name}.alarm"), clock.alarm.clone()), (format!("limits.{name}.limit"), clock.limit.clone())]
    };
    let one = |path: &str, span: &Span| (path.to_owned(), span.clone());
    let mut all: Vec<(String, Span)> = [clock("queue", queue), clock("start", start), clock("run", run)].into_iter().flatten().collect();
    all.extend([
        one("limits.grace", grace),
        one("retry.backoff.initial", &spec.retry.backoff.initial),
        one("retry.backoff.max", &spec.retry.backoff.max),
        one("retention.succeeded.ttl", &spec.retention.succeeded.ttl),
        one("retention.failed.ttl", &spec.retention.failed.ttl),
        one("retention.pod.succeeded", &spec.retention.pod.succeeded),
        one("retention.pod.failed", &spec.retention.pod.failed),
        one("logs.deadline", &spec.logs.deadline),
    ]);
    for (at, trigger) in spec.triggers.iter().enumerate() {
        let place = |rest: &str| format!("triggers[{at}].{rest}");
        all.extend(trigger.cron.iter().map(|cron| (place("cron.missed.deadline"), cron.missed.deadline.clone())));
        all.extend(trigger.after.iter().map(|after| (place("after.deadline"), after.deadline.clone())));
        all.extend(trigger.data.iter().map(|data| (place("data.deadline"), data.deadline.clone())));
    }
    let fault = |(path, span): (String, Span)| {
        let path = format!("spec.{path}");
        if span.is_bad() {
            return Some(Fault::new("BadSpan", path, format!("{:?} is no span of time: write it as 90s, 5m or 1h30m", span.0)));
        }
        let long = span.ms().is_some_and(|ms| ms > SPAN_MAX);
        long.then(|| Fault::new("BadSpan", path, format!("{} is longer than a year", span.0)))
    };
    all.into_iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests;

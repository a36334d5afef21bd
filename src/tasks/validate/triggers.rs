//! What is wrong with a task's triggers. In: the spec, the rules, the other tasks. Out: faults.

use std::collections::BTreeMap;

use super::Fault;
use crate::{
    config::duration,
    tasks::{
        rules::Rules,
        spec::{After, ConcurrencyPolicy, Cron, Data, MissedPolicy, TaskSpec},
        trigger::{
            after,
            calendar::{BadSchedule, Schedule},
            pattern,
        },
    },
};

/// The most that a cycle may be away from its scheduled time, in nanoseconds: 31 days.
const OFFSET_NANOS_MAX: u64 = 31 * 86_400 * 1_000_000_000;

pub(super) fn faults(name: &str, spec: &TaskSpec, rules: &Rules, others: &BTreeMap<&str, &TaskSpec>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, trigger) in spec.triggers.iter().enumerate() {
        let place = format!("spec.triggers[{at}]");
        let given = [trigger.cron.is_some(), trigger.after.is_some(), trigger.data.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            faults.push(Fault::new("NotOneTrigger", &place, "a trigger is exactly one of cron, after and data"));
        }
        faults.extend(trigger.cron.iter().flat_map(|one| cron(&place, one)));
        let makes_up = trigger.cron.as_ref().is_some_and(|cron| cron.missed.policy == MissedPolicy::All);
        if makes_up && spec.concurrency.policy == Some(ConcurrencyPolicy::Forbid) {
            let message = "All that was missed starts at once, of which Forbid skips all but one: use Queue";
            faults.push(Fault::new("AllWithForbid", format!("{place}.cron.missed.policy"), message));
        }
        faults.extend(trigger.after.iter().flat_map(|one| upstreams(&place, name, one)));
        faults.extend(trigger.data.iter().flat_map(|one| data(&place, spec, one, rules)));
        faults.extend(unfilled(&place, spec, trigger.data.as_ref()));
    }
    if let Some(circle) = after::circle(others, name) {
        faults.push(Fault::new("AfterCircle", "spec.triggers", format!("the tasks wait for each other: {circle}")));
    }
    faults
}

fn cron(place: &str, cron: &Cron) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Err(error) = Schedule::parse(&cron.schedule, &cron.time_zone) {
        let (reason, field) = match &error {
            BadSchedule::Zone(_) => ("UnknownTimeZone", "timeZone"),
            BadSchedule::Text(..) | BadSchedule::Never(_) => ("BadSchedule", "schedule"),
        };
        faults.push(Fault::new(reason, format!("{place}.cron.{field}"), error.to_string()));
    }
    if !cron.cycle_offset.is_empty()
        && duration::parse_signed(&cron.cycle_offset).is_ok_and(|nanos| nanos.unsigned_abs() <= OFFSET_NANOS_MAX)
    {
        return faults;
    }
    if !cron.cycle_offset.is_empty() {
        let message = format!("{:?} is no offset within 31 days: write it as -6m or 3h", cron.cycle_offset);
        faults.push(Fault::new("BadOffset", format!("{place}.cron.cycleOffset"), message));
    }
    faults
}

fn upstreams(place: &str, name: &str, after: &After) -> Vec<Fault> {
    let mut faults = Vec::new();
    if after.tasks.is_empty() {
        faults.push(Fault::new("NoUpstream", format!("{place}.after.tasks"), "name the tasks that are waited for"));
    }
    for (at, one) in after.tasks.iter().enumerate() {
        let place = format!("{place}.after.tasks[{at}].name");
        if one.name.is_empty() || one.name == name {
            faults.push(Fault::new("BadUpstream", &place, "name another task of the namespace"));
        }
        if after.tasks[..at].iter().any(|other| other.name == one.name) {
            faults.push(Fault::new("DuplicateUpstream", place, format!("{} is there twice", one.name)));
        }
    }
    faults
}

fn data(place: &str, spec: &TaskSpec, data: &Data, rules: &Rules) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !rules.sources.contains(&data.source) {
        let known = if rules.sources.is_empty() { "none".to_owned() } else { rules.sources.join(", ") };
        let message = format!("there is no data source {:?}; there are: {known}", data.source);
        faults.push(Fault::new("UnknownSource", format!("{place}.data.source"), message));
    }
    let expressions = std::iter::once((format!("{place}.data.match"), &data.matches));
    let all = expressions.chain(data.all_of.iter().enumerate().map(|(at, one)| (format!("{place}.data.allOf[{at}]"), one)));
    for (path, text) in all {
        let expression = match pattern::part(text) {
            Ok(expression) if !text.is_empty() => expression,
            Ok(_) => {
                faults.push(Fault::new("BadMatch", path, "an empty expression matches everything: write .* if that is meant"));
                continue;
            }
            Err(message) => {
                faults.push(Fault::new("BadMatch", path, message));
                continue;
            }
        };
        for group in expression.capture_names().flatten().filter(|group| *group != pattern::CYCLE) {
            if !spec.params.iter().any(|param| param.name == group) {
                faults.push(Fault::new("UnknownGroup", &path, format!("the group {group} is neither cycle nor a parameter of the task")));
            }
        }
        if !data.all_of.is_empty() && !expression.capture_names().flatten().any(|group| group == pattern::CYCLE) {
            faults.push(Fault::new(
                "NoCycle",
                path,
                "with allOf there is one run for each cycle: every expression needs a group (?<cycle>...)",
            ));
        }
    }
    faults
}

/// Required parameters that a trigger does not give.
fn unfilled(place: &str, spec: &TaskSpec, data: Option<&Data>) -> Vec<Fault> {
    let given: Vec<String> = match data {
        Some(data) => pattern::part(&data.matches)
            .ok()
            .into_iter()
            .flat_map(|one| one.capture_names().flatten().map(str::to_owned).collect::<Vec<_>>())
            .collect(),
        None => Vec::new(),
    };
    let missing = spec.params.iter().filter(|param| param.required && !given.contains(&param.name));
    missing
        .map(|param| Fault::new("ParamMissing", place, format!("{} is required, and this trigger gives it no value", param.name)))
        .collect()
}

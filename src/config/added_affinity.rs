//! `addedAffinity` of `NodeAffinity`. In: node affinity as written. Out: the engine's form, or findings.
//!
//! Source: `component-helpers` v1.37.1 `nodeaffinity.NewNodeSelector` and `labels.NewRequirement`: a term without requirements is skipped there, and so here.

use super::names;
use super::path::Path;
use super::report::Report;
use super::wire_args as written;
use crate::model::affinity::{NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredTerm};

const OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
const FIELD_OPERATORS: [&str; 2] = ["In", "NotIn"];

/// Checks and converts. `path` is that of the arguments.
pub fn resolve(args: written::NodeAffinityArgs, path: &Path, report: &mut Report) -> Option<NodeAffinity> {
    let added = args.added_affinity?;
    let path = path.field("addedAffinity");
    let required = added.required_during_scheduling_ignored_during_execution.map(|selector| {
        let path = path.field("requiredDuringSchedulingIgnoredDuringExecution").field("nodeSelectorTerms");
        if selector.node_selector_terms.is_empty() {
            report.warning(&path, "no term at all matches no node").help("add a term, or remove the requirement");
        }
        let terms = selector.node_selector_terms.into_iter().enumerate().map(|(i, t)| term(t, &path.index(i), report)).collect();
        NodeSelector { terms }
    });
    let preferred = added.preferred_during_scheduling_ignored_during_execution.into_iter().enumerate();
    // A weight of 0 is skipped without a look at its term, as upstream does.
    let preferred = preferred.filter(|(_, preference)| preference.weight != 0).map(|(i, preference)| {
        let path = path.field("preferredDuringSchedulingIgnoredDuringExecution").index(i);
        if !(1..=100).contains(&preference.weight) {
            report.invalid(&path.field("weight"), preference.weight, "must be in the range 1-100");
        }
        PreferredTerm { weight: preference.weight, term: term(preference.preference, &path.field("preference"), report) }
    });
    let preferred = preferred.collect();
    Some(NodeAffinity { required, preferred })
}

fn term(term: written::NodeSelectorTerm, path: &Path, report: &mut Report) -> NodeSelectorTerm {
    for (i, requirement) in term.match_expressions.iter().enumerate() {
        check_expression(requirement, &path.field("matchExpressions").index(i), report);
    }
    for (i, requirement) in term.match_fields.iter().enumerate() {
        check_field(requirement, &path.field("matchFields").index(i), report);
    }
    let convert = |requirement: written::NodeSelectorRequirement| NodeSelectorRequirement {
        key: requirement.key.into(),
        operator: requirement.operator.into(),
        values: requirement.values.into_iter().map(Into::into).collect(),
    };
    NodeSelectorTerm {
        match_expressions: term.match_expressions.into_iter().map(convert).collect(),
        match_fields: term.match_fields.into_iter().map(convert).collect(),
    }
}

fn check_expression(requirement: &written::NodeSelectorRequirement, path: &Path, report: &mut Report) {
    let (key, values) = (requirement.key.as_str(), &requirement.values);
    let operator = requirement.operator.as_str();
    if !OPERATORS.contains(&operator) {
        report.unsupported(&path.field("operator"), operator, &OPERATORS);
        return;
    }
    for wrong in names::qualified_name(key) {
        report.invalid_text(&path.field("key"), key, &wrong);
    }
    let shown = format!("[{}]", values.join(" "));
    let values_path = path.field("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            report.invalid(&values_path, shown, "for 'in', 'notin' operators, values set can't be empty").help("list at least one value");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "values set must be empty for exists and does not exist";
            report.invalid(&values_path, shown, detail).help("remove the values, or write In");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            report
                .invalid(&values_path, shown, "for 'Gt', 'Lt' operators, exactly one value is required")
                .help("write one number in quotes");
        }
        _ => {}
    }
    for (i, value) in values.iter().enumerate() {
        let path = values_path.index(i);
        if matches!(operator, "Gt" | "Lt") && value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            report.invalid_text(&path, value, detail).help("write a whole number in quotes");
        } else if let Some(wrong) = names::label_value(value) {
            report.invalid_text(&path, value, &wrong);
        }
    }
}

fn check_field(requirement: &written::NodeSelectorRequirement, path: &Path, report: &mut Report) {
    let operator = requirement.operator.as_str();
    if !FIELD_OPERATORS.contains(&operator) {
        report.unsupported(&path.field("operator"), operator, &FIELD_OPERATORS);
    } else if requirement.values.len() != 1 {
        let shown = format!("[{}]", requirement.values.join(" "));
        report
            .invalid(&path.field("values"), shown, "must have one element")
            .help("write one node name; use several terms for several nodes");
    }
    if requirement.key != "metadata.name" {
        report.invalid_text(&path.field("key"), &requirement.key, "not a valid field selector key").help("the only field is metadata.name");
    }
}

//! The answer for people: an explanation and the kinds of its nodes in; text out: why the pod stays pending, or why it goes where it goes.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::case::{Answer, NodeKind};
use crate::scheduler::explain::{Explanation, Refused};

/// Nodes named for each reason.
const EXAMPLES_MAX: usize = 3;
/// Kinds of nodes named for each reason.
const KINDS_MAX: usize = 4;
/// Nodes after the chosen one that are compared with it.
const NEXT_BEST: usize = 2;
/// Names shown of nodes that tie.
const TIED_MAX: usize = 5;

/// The text, ending in a line break.
pub fn render(answer: &Answer) -> String {
    let explanation = &answer.explanation;
    let mut text = format!("Pod      {}\nProfile  {}\n", explanation.pod, explanation.profile);
    if let Some(node) = &answer.runs_on {
        _ = writeln!(text, "Runs on  {node} already; below it is decided upon as if it were still to be placed");
    }
    text.push('\n');
    if let Some(error) = &explanation.error {
        _ = writeln!(text, "There is no decision: {error}.");
    } else if let Some(plugin) = &explanation.gated {
        let why = explanation.message.as_deref().unwrap_or("no node is looked at before the pod's scheduling gates are removed.");
        _ = writeln!(text, "Held back by {plugin}: {why}");
    } else if let Some(node) = &explanation.chosen {
        placed(&mut text, answer, node);
    } else {
        pending(&mut text, answer);
    }
    text
}

// === pending ===

fn pending(text: &mut String, answer: &Answer) {
    let explanation = &answer.explanation;
    _ = writeln!(text, "Stays pending: {}", explanation.message.as_deref().unwrap_or("no node takes it"));
    if let Some(Refused { plugin, reasons, .. }) = &explanation.prefilter {
        _ = writeln!(text, "\n{plugin} refuses the pod before any node is looked at: {}", reasons.join(", "));
    }
    refusals(text, answer);
    if let Some(preemption) = &explanation.preemption {
        let victims = preemption.victims.join(", ");
        _ = writeln!(text, "\nPreemption would make room on {} by ending {victims}.", preemption.nominated);
    }
}

/// Nodes that do not take the pod, by plugin and reason, the most frequent first.
fn refusals(text: &mut String, answer: &Answer) {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (node, refused) in &answer.explanation.infeasible {
        for reason in &refused.reasons {
            groups.entry((&refused.plugin, reason)).or_default().push(node);
        }
    }
    if groups.is_empty() {
        return;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    let mut table = table(["NODES", "REFUSED BY", "REASON", "KINDS", "FOR EXAMPLE"]);
    for ((plugin, reason), nodes) in groups {
        let examples = listed(nodes.iter().map(|node| (*node).to_owned()), EXAMPLES_MAX);
        table.add_row([&nodes.len().to_string(), plugin, reason, &kinds(answer, &nodes), &examples]);
    }
    right(&mut table, 0);
    _ = writeln!(text, "\n{}", trimmed(&table));
}

/// `3 arm64, 1 amd64+NVIDIA-L4`, the most frequent first.
fn kinds(answer: &Answer, nodes: &[&str]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        *counts.entry(answer.kinds.get(*node).map_or_else(|| "?".to_owned(), NodeKind::short)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    listed(counts.into_iter().map(|(kind, count)| format!("{count} {kind}")), KINDS_MAX)
}

// === placed ===

fn placed(text: &mut String, answer: &Answer, node: &str) {
    let explanation = &answer.explanation;
    let nodes = explanation.feasible.len() + explanation.infeasible.len();
    _ = writeln!(text, "Goes to  {node}");
    if let Some(kind) = answer.kinds.get(node) {
        _ = writeln!(text, "         {}", described(kind));
    }
    let total = explanation.total.get(node).copied().unwrap_or_default();
    _ = writeln!(
        text,
        "         {total} points; {} of {nodes} nodes {} the pod",
        explanation.feasible.len(),
        if explanation.feasible.len() == 1 { "takes" } else { "take" }
    );
    if explanation.best.len() > 1 {
        let names = listed(explanation.best.iter().cloned(), TIED_MAX);
        _ = writeln!(text, "         one of {} with that total: {names}", explanation.best.len());
    }
    points(text, explanation, node);
    next_best(text, answer, node);
    refusals(text, answer);
}

fn described(kind: &NodeKind) -> String {
    let known = |name: &str, value: &str| (!value.is_empty()).then(|| format!("{name}{value}"));
    let parts = [
        known("", &kind.architecture),
        known("", &kind.operating_system),
        known("GPU ", &kind.gpu_model),
        known("zone ", &kind.zone),
        known("cluster ", &kind.cluster),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn points(text: &mut String, explanation: &Explanation, node: &str) {
    let scored = explanation.scores.iter().filter_map(|(plugin, by_node)| Some((plugin, by_node.get(node)?)));
    let mut table = table(["PLUGIN", "RAW", "NORMALISED", "POINTS"]);
    for (plugin, score) in scored {
        table.add_row([plugin.clone(), score.raw.to_string(), score.normalized.to_string(), score.weighted.to_string()]);
    }
    if table.is_empty() {
        return;
    }
    for column in 1..4 {
        right(&mut table, column);
    }
    _ = writeln!(text, "\n{}", trimmed(&table));
}

/// The nodes that come next, and where they lost points against the chosen one.
fn next_best(text: &mut String, answer: &Answer, node: &str) {
    let explanation = &answer.explanation;
    let mut others: Vec<(&String, i64)> =
        explanation.total.iter().filter(|(name, _)| *name != node).map(|(name, total)| (name, *total)).collect();
    others.sort_by_key(|(name, total)| (std::cmp::Reverse(*total), *name));
    others.truncate(NEXT_BEST);
    if others.is_empty() {
        return;
    }
    let mut table = table(["NEXT BEST", "POINTS", "KIND", "AGAINST THE CHOSEN NODE"]);
    for (name, total) in others {
        let kind = answer.kinds.get(name).map_or_else(|| "?".to_owned(), NodeKind::short);
        table.add_row([name.clone(), total.to_string(), kind, differences(explanation, name, node)]);
    }
    right(&mut table, 1);
    _ = writeln!(text, "\n{}", trimmed(&table));
}

/// `NodeResourcesFit -12, ImageLocality +3`, losses first.
fn differences(explanation: &Explanation, name: &str, chosen: &str) -> String {
    let weighted =
        |plugin: &str, node: &str| explanation.scores.get(plugin).and_then(|by_node| by_node.get(node)).map_or(0, |score| score.weighted);
    let mut lost: Vec<(i64, &String)> = explanation
        .scores
        .keys()
        .map(|plugin| (weighted(plugin, name) - weighted(plugin, chosen), plugin))
        .filter(|(points, _)| *points != 0)
        .collect();
    lost.sort();
    if lost.is_empty() {
        return "equally good; the tie-break decided".to_owned();
    }
    lost.iter().map(|(points, plugin)| format!("{plugin} {points:+}")).collect::<Vec<_>>().join(", ")
}

// === form ===

fn listed(items: impl Iterator<Item = String>, shown_max: usize) -> String {
    let items: Vec<String> = items.collect();
    let more = items.len().saturating_sub(shown_max);
    let shown = items[..items.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

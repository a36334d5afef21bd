//! What people are told at the end. In: what happened. Out: text: what ran where, utilisation, waiting, refusals, and whether anything was lost or doubled.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::cluster::SITES;
use super::history::{Amount, End, History, PodLife};
use super::run::Outcome;
use super::tasks;
use super::workloads::{KINDS, MINUTE};

/// The report.
pub fn render(outcome: &Outcome) -> String {
    let history = &outcome.history;
    let mut text = String::new();
    _ = writeln!(
        text,
        "Isobar scheduled {} pods on {} nodes of {} clusters in {} simulated minutes (seed {}).\n",
        history.placements().len(),
        history.nodes.len(),
        SITES.len(),
        outcome.end_ms / MINUTE,
        outcome.options.seed
    );
    what_ran_where(&mut text, history);
    utilisation(&mut text, history, outcome.options.minutes * MINUTE);
    waiting(&mut text, history);
    refusals(&mut text, history);
    pending(&mut text, history);
    tasks::render(&mut text, history, &outcome.wanted);
    cut(&mut text, outcome);
    checks(&mut text, outcome);
    text
}

fn what_ran_where(text: &mut String, history: &History) {
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (life, (_, node)) in history.pods.values().filter_map(|life| Some((life, life.bound.as_ref()?))) {
        let kind = history.nodes.get(node).map_or("unknown", |node| &node.kind);
        *counts.entry(kind).or_default().entry(&life.kind).or_default() += 1;
    }
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| counts.values().any(|by_kind| by_kind.contains_key(kind))).collect();
    let mut table = table(["NODES".to_owned()].into_iter().chain(kinds.iter().map(|kind| kind.to_uppercase())).chain(["ALL".to_owned()]));
    for (node, by_kind) in &counts {
        let cells = kinds.iter().map(|kind| by_kind.get(kind).map_or_else(|| "-".to_owned(), ToString::to_string));
        table.add_row([(*node).to_owned()].into_iter().chain(cells).chain([by_kind.values().sum::<usize>().to_string()]));
    }
    _ = writeln!(text, "What ran where (pods bound)\n{}\n", shown(&mut table));
}

fn utilisation(text: &mut String, history: &History, until_ms: u64) {
    let mut table = table(["NODES", "COUNT", "CPU MEAN", "PEAK", "MEMORY MEAN", "PEAK", "GPU MEAN", "PEAK"].map(str::to_owned));
    let kinds: Vec<&String> = history.moments.last().map(|moment| moment.shares.keys().collect()).unwrap_or_default();
    let parts: [fn(&Amount) -> i64; 3] = [|amount| amount.cpu_milli, |amount| amount.memory_bytes, |amount| amount.gpus];
    for kind in kinds {
        let count = history.moments.last().and_then(|moment| moment.shares.get(kind)).map_or(0, |share| share.nodes);
        let mut row = vec![kind.clone(), count.to_string()];
        for part in parts {
            match mean_and_peak(history, kind, part, until_ms) {
                Some((mean, peak)) => row.extend([format!("{mean:.0}%"), format!("{peak:.0}%")]),
                None => row.extend(["-".to_owned(), "-".to_owned()]),
            }
        }
        table.add_row(row);
    }
    _ = writeln!(
        text,
        "Utilisation (requested of allocatable, over the {} minutes of arrivals)\n{}\n",
        until_ms / MINUTE,
        shown(&mut table)
    );
}

/// In percent, the mean weighted by time. `None` where there is nothing of it.
fn mean_and_peak(history: &History, kind: &str, part: fn(&Amount) -> i64, until_ms: u64) -> Option<(f64, f64)> {
    let (mut area, mut room_area, mut peak) = (0.0, 0.0, 0.0_f64);
    let ends = history.moments.iter().skip(1).map(|moment| moment.at_ms).chain([until_ms]);
    for (moment, end) in history.moments.iter().zip(ends) {
        let Some(share) = moment.shares.get(kind) else { continue };
        let span = float(end.min(until_ms).saturating_sub(moment.at_ms).cast_signed());
        let (used, room) = (float(part(&share.used)), float(part(&share.room)));
        if room > 0.0 && span > 0.0 {
            (area, room_area, peak) = (area + used * span, room_area + room * span, peak.max(100.0 * used / room));
        }
    }
    (room_area > 0.0).then(|| (100.0 * area / room_area, peak))
}

#[allow(clippy::cast_precision_loss)] // percentages
fn float(number: i64) -> f64 {
    number as f64
}

fn waiting(text: &mut String, history: &History) {
    let mut waits: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for life in history.pods.values() {
        if let (Some(ready), Some((bound, _))) = (life.ready_ms, &life.bound) {
            waits.entry(&life.kind).or_default().push(bound.saturating_sub(ready));
        }
    }
    let mut table = table(["WORK", "PODS", "P50", "P95", "MAX"].map(str::to_owned));
    for kind in KINDS {
        let Some(waits) = waits.get_mut(kind) else { continue };
        waits.sort_unstable();
        let at = |percent| seconds(percentile(waits, percent));
        table.add_row([kind.to_owned(), waits.len().to_string(), at(50), at(95), at(100)]);
    }
    _ = writeln!(text, "Waiting (from ready to bound, in simulated time, in which a decision takes none)\n{}\n", shown(&mut table));
}

/// The smallest value that so many percent do not exceed; of a sorted list.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

pub(super) fn seconds(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

fn refusals(text: &mut String, history: &History) {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for life in history.pods.values() {
        for reason in &life.refusals {
            let (pods, later) = counts.entry(reason).or_default();
            *pods += 1;
            *later += usize::from(life.bound.is_some());
        }
    }
    if counts.is_empty() {
        return;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (pods, _))| std::cmp::Reverse(*pods));
    let mut table = table(["REASON", "PODS", "PLACED LATER"].map(str::to_owned));
    for (reason, (pods, later)) in counts {
        table.add_row([reason.to_owned(), pods.to_string(), later.to_string()]);
    }
    _ = writeln!(text, "Refusals (pods that had to wait, by what nodes lacked)\n{}\n", shown(&mut table));
}

fn pending(text: &mut String, history: &History) {
    let mut left: Vec<&PodLife> = history.pods.values().filter(|life| life.bound.is_none() && life.ended.is_none()).collect();
    if left.is_empty() {
        return;
    }
    left.sort_by(|a, b| a.name.cmp(&b.name));
    _ = writeln!(text, "Still pending, and why");
    for life in left {
        let why = if life.ready_ms.is_none() {
            "held back by a scheduling gate"
        } else {
            life.message.split(" preemption: ").next().unwrap_or_default()
        };
        _ = writeln!(text, "  {}: {why}", life.name);
    }
    text.push('\n');
}

fn cut(text: &mut String, outcome: &Outcome) {
    let cut = &outcome.abroad.cut;
    if cut.cluster.is_empty() {
        return;
    }
    let (from, to) = (minutes(cut.from_ms), minutes(cut.to_ms));
    _ = writeln!(text, "The line to {} was cut from minute {from} to minute {to}", cut.cluster);
    _ = writeln!(
        text,
        "  {} pods were there: {} evicted; {} ended later or meanwhile, and {} of these ends came home within a minute of healing",
        cut.there, cut.evicted, cut.ended.0, cut.ended.1
    );
    _ = writeln!(text, "  {} pods were bound to other clusters while it was cut\n", cut.elsewhere);
}

fn minutes(ms: u64) -> String {
    format!("{}.{}", ms / MINUTE, ms % MINUTE * 10 / MINUTE)
}

/// Counts that must be zero, and what they are counts of: of pods, then of tasks.
pub fn faults(outcome: &Outcome) -> Vec<(&'static str, usize)> {
    let mut all = faults_of_pods(outcome);
    all.extend(tasks::faults(&outcome.history.tasks, &outcome.wanted));
    all
}

fn faults_of_pods(outcome: &Outcome) -> Vec<(&'static str, usize)> {
    let lives = || outcome.history.pods.values();
    let silent = |life: &&PodLife| life.bound.is_none() && life.ended.is_none() && life.ready_ms.is_some() && life.message.is_empty();
    let without_code = |life: &&PodLife| life.exit_code.is_none() && life.ended.is_some_and(|(_, how)| how != End::Deleted);
    vec![
        ("bound more than once", lives().filter(|life| life.bindings > 1).count()),
        ("lost (neither bound nor told why not)", lives().filter(silent).count()),
        ("nodes over capacity", outcome.history.overfull as usize),
        ("started in two places", outcome.abroad.started_twice),
        ("evicted by the cut", outcome.abroad.cut.evicted),
        ("ended without an exit code at home", lives().filter(without_code).count()),
        ("left on compute clusters", outcome.abroad.leftovers),
        ("gaps in the history", outcome.history.gaps as usize),
    ]
}

fn checks(text: &mut String, outcome: &Outcome) {
    let history = &outcome.history;
    let ended = |end| history.pods.values().filter(|life| life.ended.is_some_and(|(_, how)| how == end)).count();
    let counted: Vec<String> = faults_of_pods(outcome).iter().map(|(what, count)| format!("{what}: {count}")).collect();
    _ = writeln!(text, "Checked from the API's watch history: {} pods, {}", history.pods.len(), counted.join(", "));
    _ = writeln!(
        text,
        "Ended: {} succeeded, {} failed by themselves, {} deleted by their users",
        ended(End::Succeeded),
        ended(End::Failed),
        ended(End::Deleted)
    );
    let events: Vec<String> = outcome.events.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let starts: Vec<String> = outcome.abroad.starts.iter().map(|(cluster, count)| format!("{count} in {cluster}")).collect();
    _ = writeln!(text, "Starts that the kubelets recorded: {}", starts.join(", "));
    _ = writeln!(text, "Logs copied home from compute clusters: {} of {} bytes", outcome.abroad.logs.0, outcome.abroad.logs.1);
    _ = writeln!(text, "Events recorded: {}", events.join(", "));
    _ = writeln!(text, "Digest of all placements: {:016x} (the same for the same seed)", history.digest());
}

/// What the machine's clock says: never the same twice.
pub fn measured(outcome: &Outcome) -> String {
    let at = |percent: usize| microseconds(percentile(&outcome.laps, percent));
    format!(
        "Measured on this machine: {} decisions, p50 {}, p95 {}, p99 {}, max {} each; the whole run took {:.1} s\n",
        outcome.laps.len(),
        at(50),
        at(95),
        at(99),
        at(100),
        outcome.took.as_secs_f64()
    )
}

fn microseconds(nanos: u64) -> String {
    format!("{}.{} us", nanos / 1000, nanos % 1000 / 100)
}

pub(super) fn table(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// The first column to the left, numbers to the right.
pub(super) fn shown(table: &mut Table) -> String {
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((2, 0));
        if at > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

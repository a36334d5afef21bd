//! `isobar cluster list` and `show`. In: objects. Out: tables.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};

use crate::kubernetes::cluster::{object::ClusterObject, status::kind};

/// An empty table without lines.
pub(in crate::cli) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
}

fn state(object: &ClusterObject) -> String {
    if object.deleting {
        return "Removing".to_owned();
    }
    object.spec.as_ref().map_or_else(|_| "?".to_owned(), |spec| format!("{:?}", spec.state))
}

/// One line a cluster.
pub(super) fn list(objects: &[ClusterObject]) -> String {
    if objects.is_empty() {
        return "there is no compute cluster yet; isobar cluster add adds one\n".to_owned();
    }
    let mut table = table(&["NAME", "STATE", "READY", "NODES", "RUNS", "VERSION", "REASON"]);
    for object in objects {
        let status = &object.status;
        let ready = status.condition(kind::READY);
        table.add_row([
            object.name.to_string(),
            state(object),
            ready.map(|ready| ready.status.clone()).unwrap_or_default(),
            status.nodes.to_string(),
            status.runs.active.to_string(),
            status.server_version.clone().unwrap_or_default(),
            ready.map(|ready| ready.reason.clone()).unwrap_or_default(),
        ]);
    }
    trimmed(&table)
}

/// All about one.
pub(super) fn one(object: &ClusterObject) -> String {
    let status = &object.status;
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        if !value.is_empty() {
            _ = writeln!(text, "{what:<14}{value}");
        }
    };
    line("Name", object.name.to_string());
    line("State", state(object));
    line("Cluster UID", status.cluster_uid.clone().unwrap_or_default());
    line("Version", status.server_version.clone().unwrap_or_default());
    line("Architectures", status.architectures.join(", "));
    line("Nodes", status.nodes.to_string());
    if let Some(capacity) = &status.capacity {
        line("Capacity", format!("{} cpu, {} memory, {} pods, {} GPUs", capacity.cpu, capacity.memory, capacity.pods, capacity.gpus));
    }
    let runs = status.runs;
    line(
        "Runs",
        format!("{} active ({} pending), {} ended and not yet wiped, {} owed", runs.active, runs.pending, runs.ended, status.debts),
    );
    line("Last contact", status.last_contact.clone().unwrap_or_default());
    line("Silent since", status.not_ready_since.clone().unwrap_or_default());
    if let Err(why) = &object.spec {
        line("Problem", why.clone());
    }
    let mut table = table(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"]);
    for condition in &status.conditions {
        table.add_row([
            condition.kind.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            condition.last_transition_time.clone().unwrap_or_default(),
            condition.message.clone(),
        ]);
    }
    format!("{text}\n{}", trimmed(&table))
}

/// Its text.
pub(in crate::cli) fn trimmed(table: &Table) -> String {
    table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

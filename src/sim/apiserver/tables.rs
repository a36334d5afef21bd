//! Server-side printing for kubectl. In: an object. Out: the cells of its row in a `Table`, as kubectl shows them.

use serde_json::{Value, json};

use super::resources::ResourceType;

/// Column name, type, format, priority (1: only with `-o wide`).
type Column = (&'static str, &'static str, &'static str, u8);

/// The cells of an object's row; the number is the present moment in seconds since 1970.
type Cells = fn(&Value, i64) -> Vec<Value>;

/// How a type is printed.
pub(super) struct Printer {
    columns: &'static [Column],
    pub(super) cells: Cells,
}

const NAME: Column = ("Name", "string", "name", 0);
const AGE: Column = ("Age", "string", "", 0);

const fn text(name: &'static str) -> Column {
    (name, "string", "", 0)
}

const fn wide(name: &'static str) -> Column {
    (name, "string", "", 1)
}

const POD: &[Column] = &[
    NAME,
    text("Ready"),
    text("Status"),
    text("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];
const NODE: &[Column] = &[
    NAME,
    text("Status"),
    text("Roles"),
    AGE,
    text("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];
const EVENT: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    wide("Subobject"),
    wide("Source"),
    text("Message"),
    wide("First Seen"),
    wide("Count"),
    ("Name", "string", "name", 1),
];
const NAMESPACE: &[Column] = &[NAME, text("Status"), AGE];
const LEASE: &[Column] = &[NAME, text("Holder"), AGE];
const PRIORITY_CLASS: &[Column] = &[NAME, ("Value", "integer", "", 0), ("Global-Default", "boolean", "", 0), AGE, text("PreemptionPolicy")];
const PLAIN: &[Column] = &[NAME, ("Created At", "date", "", 0)];

/// The printer of a type; those without one of their own print name and creation time, as custom resources do.
pub(super) fn printer(resource: &ResourceType) -> Printer {
    let (columns, cells): (&'static [Column], Cells) = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => (POD, pod),
        ("", "nodes") => (NODE, node),
        ("" | "events.k8s.io", "events") => (EVENT, event),
        ("", "namespaces") => (NAMESPACE, namespace),
        ("coordination.k8s.io", "leases") => (LEASE, lease),
        ("scheduling.k8s.io", "priorityclasses") => (PRIORITY_CLASS, priority_class),
        _ => (PLAIN, plain),
    };
    Printer { columns, cells }
}

/// `columnDefinitions` of a table.
pub(super) fn columns(printer: &Printer) -> Value {
    let column = |&(name, kind, format, priority): &Column| json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority});
    printer.columns.iter().map(column).collect()
}

fn plain(object: &Value, _now: i64) -> Vec<Value> {
    vec![object["metadata"]["name"].clone(), object["metadata"]["creationTimestamp"].clone()]
}

fn or_none(value: &Value) -> Value {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or("<none>").into()
}

fn age(value: &Value, now: i64) -> Value {
    let Some(moment) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else { return "<unknown>".into() };
    human_duration(now - moment.as_second()).into()
}

/// kubectl's `HumanDuration`: two units while they say something.
fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |whole: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{small}") }
    };
    match seconds {
        ..=-2 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn namespace(object: &Value, now: i64) -> Vec<Value> {
    vec![object["metadata"]["name"].clone(), object["status"]["phase"].clone(), age(&object["metadata"]["creationTimestamp"], now)]
}

fn lease(object: &Value, now: i64) -> Vec<Value> {
    let holder = object["spec"]["holderIdentity"].as_str().unwrap_or_default();
    vec![object["metadata"]["name"].clone(), holder.into(), age(&object["metadata"]["creationTimestamp"], now)]
}

fn priority_class(object: &Value, now: i64) -> Vec<Value> {
    let global = object["globalDefault"] == true;
    vec![
        object["metadata"]["name"].clone(),
        object["value"].clone(),
        global.into(),
        age(&object["metadata"]["creationTimestamp"], now),
        object["preemptionPolicy"].clone(),
    ]
}

fn event(object: &Value, now: i64) -> Vec<Value> {
    let first = if object["firstTimestamp"].is_null() { &object["eventTime"] } else { &object["firstTimestamp"] };
    let series = &object["series"];
    let last = match (series.is_object(), object["lastTimestamp"].is_null()) {
        (true, _) => &series["lastObservedTime"],
        (false, true) => first,
        (false, false) => &object["lastTimestamp"],
    };
    let count = series["count"].as_i64().or(object["count"].as_i64()).filter(|count| *count > 0).unwrap_or(1);
    let involved = &object["involvedObject"];
    let kind = involved["kind"].as_str().unwrap_or_default().to_lowercase();
    let target = involved["name"].as_str().filter(|name| !name.is_empty()).map_or(kind.clone(), |name| format!("{kind}/{name}"));
    vec![
        age(last, now),
        object["type"].clone(),
        object["reason"].clone(),
        target.into(),
        involved["fieldPath"].as_str().unwrap_or_default().into(),
        event_source(object).into(),
        object["message"].as_str().unwrap_or_default().trim().into(),
        age(first, now),
        count.into(),
        object["metadata"]["name"].clone(),
    ]
}

fn event_source(object: &Value) -> String {
    let source = &object["source"];
    let given = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_string);
    let component = given(&source["component"]).or_else(|| given(&object["reportingComponent"])).unwrap_or_default();
    match given(&source["host"]).or_else(|| given(&object["reportingInstance"])) {
        Some(host) => format!("{component}, {host}"),
        None => component,
    }
}

fn node(object: &Value, now: i64) -> Vec<Value> {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|condition| condition["status"] == "True") {
        Some(true) => "Ready".to_string(),
        Some(false) => "NotReady".to_string(),
        None => "Unknown".to_string(),
    };
    if object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object["metadata"]["labels"].as_object();
    let mut roles: Vec<&str> = labels.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    roles.sort_unstable();
    let roles = if roles.is_empty() { "<none>".to_string() } else { roles.join(",") };
    let info = &object["status"]["nodeInfo"];
    let known = |value: &Value| value.as_str().filter(|text| !text.is_empty()).unwrap_or("<unknown>").to_string();
    let architecture = info["architecture"].as_str().filter(|text| !text.is_empty());
    let kernel = architecture
        .map_or_else(|| known(&info["kernelVersion"]), |architecture| format!("{} ({architecture})", known(&info["kernelVersion"])));
    let address = |kind: &str| {
        let found = object["status"]["addresses"].as_array().into_iter().flatten().find(|address| address["type"] == kind);
        found.map_or("<none>".into(), |address| address["address"].clone())
    };
    vec![
        object["metadata"]["name"].clone(),
        status.into(),
        roles.into(),
        age(&object["metadata"]["creationTimestamp"], now),
        info["kubeletVersion"].as_str().unwrap_or_default().into(),
        address("InternalIP"),
        address("ExternalIP"),
        known(&info["osImage"]).into(),
        kernel.into(),
        known(&info["containerRuntimeVersion"]).into(),
    ]
}

fn pod(object: &Value, now: i64) -> Vec<Value> {
    let statuses = object["status"]["containerStatuses"].as_array();
    let ready = statuses.into_iter().flatten().filter(|status| status["ready"] == true && status["state"]["running"].is_object()).count();
    let restarts: i64 = statuses.into_iter().flatten().filter_map(|status| status["restartCount"].as_i64()).sum();
    let total = object["spec"]["containers"].as_array().map_or(0, Vec::len);
    let addresses = &object["status"]["podIPs"][0]["ip"];
    vec![
        object["metadata"]["name"].clone(),
        format!("{ready}/{total}").into(),
        pod_reason(object).into(),
        restarts.to_string().into(),
        age(&object["metadata"]["creationTimestamp"], now),
        or_none(addresses),
        or_none(&object["spec"]["nodeName"]),
        or_none(&object["status"]["nominatedNodeName"]),
        "<none>".into(),
    ]
}

/// The STATUS column: the phase, unless something says more.
fn pod_reason(object: &Value) -> String {
    let status = &object["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    let mut reason = status["reason"].as_str().filter(|reason| !reason.is_empty()).unwrap_or(phase).to_string();
    let gated = |condition: &Value| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated";
    if status["conditions"].as_array().into_iter().flatten().any(gated) {
        reason = "SchedulingGated".into();
    }
    for container in status["containerStatuses"].as_array().into_iter().flatten().rev() {
        let (waiting, ended) = (&container["state"]["waiting"], &container["state"]["terminated"]);
        if let Some(why) = waiting["reason"].as_str().filter(|why| !why.is_empty()) {
            reason = why.into();
        } else if ended.is_object() {
            let code = ended["exitCode"].as_i64().unwrap_or(0);
            reason = ended["reason"].as_str().filter(|why| !why.is_empty()).map_or_else(|| format!("ExitCode:{code}"), str::to_string);
        }
    }
    let over = matches!(phase, "Succeeded" | "Failed");
    if object["metadata"]["deletionTimestamp"].is_string() && !over { "Terminating".into() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations() {
        let table = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (-5, "<invalid>"),
        ];
        for (seconds, wanted) in table {
            assert_eq!(human_duration(seconds), wanted, "{seconds}");
        }
    }
}

//! Requests of every form against what nodes have left: containers, init containers, sidecars, overhead, pod-level resources, resizes, extended resources.
//! In: a cluster. Out: the same with amounts that often meet exactly, or miss by one.

use serde_json::{Map, Value, json};

use super::{
    cluster::{World, all_pods},
    draw::Draw,
};

const GPU: &str = "example.com/gpu";
const FPGA: &str = "vendor.example/fpga";
const HUGE: &str = "hugepages-2Mi";
const MI: i64 = 1 << 20;

/// Coarse steps, so that sums meet what is allocatable; one off in some cases.
fn off_by_one(draw: &mut Draw, amount: i64) -> i64 {
    if draw.chance(12) { (amount + draw.pick(&[-1, 1])).max(0) } else { amount }
}

fn cpu(draw: &mut Draw, steps_max: i64) -> Value {
    let millis = draw.between(0, steps_max) * 250;
    let millis = off_by_one(draw, millis);
    if millis % 1000 == 0 && draw.chance(70) { (millis / 1000).to_string().into() } else { format!("{millis}m").into() }
}

fn memory(draw: &mut Draw, steps_max: i64) -> Value {
    let bytes = draw.between(0, steps_max) * 256 * MI;
    let bytes = off_by_one(draw, bytes);
    if bytes % MI == 0 && draw.chance(70) { format!("{}Mi", bytes / MI).into() } else { bytes.to_string().into() }
}

fn amounts(draw: &mut Draw, steps_max: i64, rare: i64) -> Map<String, Value> {
    let mut map = Map::new();
    if draw.chance(75) {
        map.insert("cpu".into(), cpu(draw, steps_max));
    }
    if draw.chance(75) {
        map.insert("memory".into(), memory(draw, steps_max));
    }
    if draw.chance(rare) {
        map.insert("ephemeral-storage".into(), memory(draw, 2));
    }
    if draw.chance(rare) {
        map.insert(GPU.into(), draw.between(0, 2).to_string().into());
    }
    if draw.chance(rare / 2) {
        map.insert(FPGA.into(), draw.between(0, 1).to_string().into());
    }
    if draw.chance(rare / 2) {
        map.insert(HUGE.into(), format!("{}Mi", draw.between(0, 2) * 2).into());
    }
    map
}

pub fn dress(draw: &mut Draw, world: &mut World) {
    for node in &mut world.nodes {
        node["status"]["allocatable"] = allocatable(draw);
    }
    all_pods(world).for_each(|pod| dress_pod(draw, pod));
    match draw.between(0, 9) {
        0..=3 => meet_exactly(draw, world),
        4 => fill_up(draw, world),
        5 => share(draw, world),
        _ => {}
    }
}

fn allocatable(draw: &mut Draw) -> Value {
    let mut map = amounts(draw, 12, 60);
    for (name, amount) in [("cpu", cpu(draw, 16)), ("memory", memory(draw, 16))] {
        if draw.chance(90) {
            map.entry(name).or_insert(amount);
        }
    }
    map.insert("pods".into(), draw.pick(&["110", "110", "110", "0", "1", "2", "3"]).into());
    map.into()
}

fn container(draw: &mut Draw, name: String) -> Value {
    let mut requests = draw.maybe(85, |draw| amounts(draw, 4, 12));
    let limits = draw.maybe(20, |draw| amounts(draw, 6, 6));
    // As the API server stores it: what is limited and not requested is requested.
    for (name, limit) in limits.iter().flatten() {
        requests.get_or_insert_default().entry(name).or_insert_with(|| limit.clone());
    }
    json!({"name": name, "resources": {"requests": requests, "limits": limits}})
}

fn dress_pod(draw: &mut Draw, pod: &mut Value) {
    let containers: Vec<Value> = (0..draw.between(1, 3)).map(|number| container(draw, format!("c{number}"))).collect();
    pod["spec"]["containers"] = containers.into();
    if draw.chance(35) {
        let count = draw.between(1, 3);
        let mut init: Vec<Value> = (0..count).map(|number| container(draw, format!("i{number}"))).collect();
        for container in &mut init {
            if draw.chance(50) {
                container["restartPolicy"] = "Always".into();
            }
        }
        pod["spec"]["initContainers"] = init.into();
    }
    if draw.chance(20) {
        pod["spec"]["overhead"] = json!({"cpu": cpu(draw, 1), "memory": memory(draw, 1)});
    }
    if draw.chance(15) {
        pod["spec"]["resources"] = json!({"requests": pod_level(draw)});
    }
    // Before a pod is on a node, nobody reports what it has.
    if pod["spec"]["nodeName"].is_string() && draw.chance(20) {
        resize(draw, pod);
    }
}

/// Small nodes, and pods that request one resource as a whole and the other in one container of two: what the second one counts for shows in scores.
fn share(draw: &mut Draw, world: &mut World) {
    let (whole, single) = draw.pick(&[("memory", "cpu"), ("cpu", "memory")]);
    for node in &mut world.nodes {
        node["status"]["allocatable"]["cpu"] = "2".into();
        node["status"]["allocatable"]["memory"] = "2Gi".into();
    }
    for pod in all_pods(world) {
        let requests: Map<String, Value> = [(single.to_owned(), amount(draw, single))].into_iter().collect();
        pod["spec"]["containers"] = json!([{"name": "c0", "resources": {"requests": requests}}, {"name": "c1", "resources": {}}]);
        let requests: Map<String, Value> = [(whole.to_owned(), amount(draw, whole))].into_iter().collect();
        pod["spec"]["resources"] = json!({"requests": requests});
    }
}

fn amount(draw: &mut Draw, name: &str) -> Value {
    if name == "cpu" { cpu(draw, 1) } else { memory(draw, 1) }
}

fn pod_level(draw: &mut Draw) -> Map<String, Value> {
    let mut map = amounts(draw, 8, 0);
    if draw.chance(15) {
        map.insert(HUGE.into(), format!("{}Mi", draw.between(0, 2) * 2).into());
    }
    map
}

/// What the kubelet reports of containers whose resources change in place.
fn resize(draw: &mut Draw, pod: &mut Value) {
    for (list, statuses) in [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")] {
        let containers = pod["spec"][list].as_array().cloned().unwrap_or_default();
        let mut reported = Vec::new();
        for container in containers {
            if !draw.chance(85) {
                continue;
            }
            let allocated = draw.maybe(80, |draw| reported_amounts(draw, 5));
            let actual = draw.maybe(80, |draw| json!({"requests": reported_amounts(draw, 5)}));
            reported.push(json!({"name": container["name"], "allocatedResources": allocated, "resources": actual}));
        }
        if !reported.is_empty() {
            pod["status"][statuses] = reported.into();
        }
    }
    if draw.chance(25) {
        pod["status"]["allocatedResources"] = json!(draw.maybe(80, |draw| reported_amounts(draw, 6)));
        pod["status"]["resources"] = json!({"requests": draw.maybe(80, |draw| reported_amounts(draw, 6))});
    }
    if draw.chance(50) {
        let reason = draw.pick(&["Infeasible", "Deferred"]);
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "status": "True", "reason": reason}]);
    }
}

/// Never an empty list: the API server does not store one.
fn reported_amounts(draw: &mut Draw, steps_max: i64) -> Map<String, Value> {
    let mut map = amounts(draw, steps_max, 0);
    if map.is_empty() {
        map.insert("cpu".into(), cpu(draw, steps_max));
    }
    map
}

/// One node has exactly as much left as the pod wants of one resource, one more, or one less.
fn meet_exactly(draw: &mut Draw, world: &mut World) {
    let at = draw.index(world.nodes.len());
    let name = world.nodes[at]["metadata"]["name"].clone();
    world.pods.retain(|pod| pod["spec"]["nodeName"] != name);
    let (resource, unit) = draw.pick(&[("cpu", 250), ("memory", 64 * MI), ("ephemeral-storage", 64 * MI), (GPU, 1)]);
    let (total, used) = (draw.between(4, 12) * unit, draw.between(0, 3) * unit);
    let wanted = total - used + draw.between(-1, 1);
    let written = |amount: i64| if resource == "cpu" { format!("{amount}m") } else { amount.to_string() };
    let mut allocatable = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "256Gi", "pods": "10"});
    allocatable[resource] = written(total).into();
    world.nodes[at]["status"]["allocatable"] = allocatable;
    if used > 0 {
        world.pods.push(json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "user", "namespace": "default"},
            "spec": {"nodeName": name, "containers": [{"name": "c", "resources": {"requests": {resource: written(used)}}}]},
            "status": {"phase": "Running"},
        }));
    }
    let mut split = [wanted, 0];
    if draw.chance(40) {
        split = [wanted / 2, wanted - wanted / 2];
    }
    let containers = split.map(|amount| json!({"name": format!("c{amount}"), "resources": {"requests": {resource: written(amount)}}}));
    for field in ["initContainers", "overhead", "resources"] {
        world.asked["spec"][field] = Value::Null;
    }
    world.asked["spec"]["containers"] = json!(containers);
    world.asked["status"] = json!({});
}

/// A node has as many pods as it may have, or one less.
fn fill_up(draw: &mut Draw, world: &mut World) {
    let at = draw.index(world.nodes.len());
    let name = world.nodes[at]["metadata"]["name"].clone();
    let ended = |pod: &Value| ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase);
    let there = world.pods.iter().filter(|pod| pod["spec"]["nodeName"] == name && !ended(pod)).count();
    let mut allocatable = json!({"cpu": "64", "memory": "256Gi"});
    allocatable["pods"] = (there + draw.index(2)).to_string().into();
    world.nodes[at]["status"]["allocatable"] = allocatable;
}

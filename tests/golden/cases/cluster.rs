//! A plain cluster, which families then dress. In: choices. Out: nodes, pods that run, and the pod that is asked about.

use serde_json::{Map, Value, json};

use super::draw::Draw;

/// Values that several families select by.
pub const APPS: [&str; 3] = ["a", "b", "c"];
pub const NAMESPACES: [&str; 3] = ["default", "web", "db"];
pub const ZONES: [&str; 3] = ["z0", "z1", "z2"];
pub const HOSTNAME: &str = "kubernetes.io/hostname";
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// Name and namespace of the pod that is asked about; see [`World::into_case`].
const ASKED: &str = "asked";

/// What a case is made of, while it is made.
#[derive(Default)]
pub struct World {
    /// A `KubeSchedulerConfiguration`; without one the default profile decides.
    pub config: Option<Value>,
    pub nodes: Vec<Value>,
    pub pods: Vec<Value>,
    /// Namespaces, Services, claims.
    pub others: Vec<Value>,
    pub asked: Value,
}

/// Most clusters are small, so that a difference can be read; some are as large as the issue wants.
fn size(draw: &mut Draw) -> i64 {
    match draw.between(0, 99) {
        0..=69 => draw.between(1, 5),
        70..=94 => draw.between(4, 12),
        _ => draw.between(13, 60),
    }
}

impl World {
    pub fn plain(draw: &mut Draw) -> Self {
        let nodes: Vec<Value> = (0..size(draw)).map(|number| node(draw, number)).collect();
        let per_node = draw.between(0, 2);
        let count = (i64::try_from(nodes.len()).expect("few") * per_node).min(60);
        let pods = (0..count).map(|number| placed(draw, number, nodes.len())).collect();
        Self { nodes, pods, asked: pod(draw, ASKED.to_owned()), ..Self::default() }
    }

    /// The line that both schedulers get.
    pub fn into_case(self, id: &str) -> Value {
        let namespace = self.asked["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let mut objects = self.nodes;
        objects.extend(self.others);
        objects.extend(self.pods);
        objects.push(self.asked);
        let mut case = json!({"id": id, "config": self.config, "objects": objects, "pod": format!("{namespace}/{ASKED}")});
        prune(&mut case);
        case
    }
}

/// Leaves out what is null. What is empty stays: an empty selector says something else than none.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn node(draw: &mut Draw, number: i64) -> Value {
    let name = format!("n{number:02}");
    let mut labels = Map::new();
    if draw.chance(95) {
        labels.insert(HOSTNAME.into(), name.clone().into());
    }
    if draw.chance(85) {
        labels.insert(ZONE.into(), draw.pick(&ZONES).into());
    }
    if draw.chance(40) {
        labels.insert("rack".into(), draw.pick(&["r0", "r1"]).into());
    }
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"}},
    })
}

fn pod(draw: &mut Draw, name: String) -> Value {
    let mut labels = Map::new();
    if draw.chance(85) {
        labels.insert("app".into(), draw.pick(&APPS).into());
    }
    if draw.chance(40) {
        labels.insert("tier".into(), draw.pick(&["front", "back"]).into());
    }
    let labels = (!labels.is_empty()).then_some(labels);
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": draw.pick(&NAMESPACES), "labels": labels},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "resources": {"requests": plain_requests(draw)}}]},
        "status": {},
    })
}

fn plain_requests(draw: &mut Draw) -> Option<Value> {
    draw.maybe(60, |draw| json!({"cpu": format!("{}m", draw.between(1, 12) * 100), "memory": format!("{}Mi", draw.between(1, 24) * 64)}))
}

fn placed(draw: &mut Draw, number: i64, nodes: usize) -> Value {
    let mut pod = pod(draw, format!("p{number:02}"));
    pod["spec"]["nodeName"] = format!("n{:02}", draw.index(nodes)).into();
    pod["status"]["phase"] = match draw.between(0, 19) {
        0 => "Succeeded",
        1 => "Failed",
        2 => "Pending",
        _ => "Running",
    }
    .into();
    if draw.chance(6) {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    pod
}

/// The pods that run, and the one that is asked about.
pub fn all_pods(world: &mut World) -> impl Iterator<Item = &mut Value> {
    world.pods.iter_mut().chain(std::iter::once(&mut world.asked))
}

/// The list at a place of an object, made if it is not there.
pub fn list_at<'a>(object: &'a mut Value, place: &[&str]) -> &'a mut Vec<Value> {
    let mut at = object;
    for key in place {
        at = &mut at[*key];
    }
    if !at.is_array() {
        *at = json!([]);
    }
    at.as_array_mut().expect("a list stands here now")
}

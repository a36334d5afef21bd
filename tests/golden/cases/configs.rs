//! `KubeSchedulerConfiguration`s. In: choices. Out: profiles that score by other strategies, resources, weights and arguments.
//!
//! A configuration costs far more than a case, so a family has some dozens, which its cases take in turn.

use serde_json::{Map, Value, json};

use super::{cluster::World, draw::Draw};

/// Different ones for a seed.
pub const VARIANTS: i64 = 48;

pub fn dress(draw: &mut Draw, world: &mut World) {
    let mut plugin_config = vec![arguments("NodeResourcesFit", fit(draw)), arguments("NodeResourcesBalancedAllocation", balanced(draw))];
    if draw.chance(30) {
        plugin_config.push(arguments("NodeAffinity", json!({"addedAffinity": added_affinity(draw)})));
    }
    world.config = Some(configuration(&json!({"multiPoint": {"enabled": weights(draw), "disabled": disabled(draw)}}), &plugin_config));
}

/// Arguments of the two plugins that compare pods with pods.
pub fn dress_topology(draw: &mut Draw, world: &mut World) {
    let spread = match draw.between(0, 3) {
        0 => json!({"defaultingType": "List", "defaultConstraints": []}),
        1 | 2 => json!({"defaultingType": "List", "defaultConstraints": default_constraints(draw)}),
        _ => json!({"defaultingType": "System"}),
    };
    let affinity = json!({
        "hardPodAffinityWeight": draw.pick(&[0, 1, 5, 100]), "ignorePreferredTermsOfExistingPods": draw.maybe(50, |draw| draw.chance(50)),
    });
    let plugin_config = [arguments("PodTopologySpread", spread), arguments("InterPodAffinity", affinity)];
    world.config = Some(configuration(&json!({}), &plugin_config));
}

fn default_constraints(draw: &mut Draw) -> Vec<Value> {
    let mut constraints = Vec::new();
    for key in draw.some(60, &["topology.kubernetes.io/zone", "kubernetes.io/hostname", "rack"]) {
        let when = draw.pick(&["DoNotSchedule", "ScheduleAnyway"]);
        constraints.push(json!({"maxSkew": draw.between(1, 3), "topologyKey": key, "whenUnsatisfiable": when}));
    }
    constraints
}

fn configuration(plugins: &Value, plugin_config: &[Value]) -> Value {
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "profiles": [{"schedulerName": "default-scheduler", "plugins": plugins, "pluginConfig": plugin_config}],
    })
}

fn arguments(plugin: &str, args: Value) -> Value {
    let mut args = args;
    args["apiVersion"] = "kubescheduler.config.k8s.io/v1".into();
    args["kind"] = format!("{plugin}Args").into();
    json!({"name": plugin, "args": args})
}

fn resources(draw: &mut Draw, weight_max: i64) -> Vec<Value> {
    let mut names = draw.some(60, &["cpu", "memory", "example.com/gpu", "ephemeral-storage", "vendor.example/fpga"]);
    if names.is_empty() {
        names.push("cpu");
    }
    names.into_iter().map(|name| json!({"name": name, "weight": draw.between(1, weight_max)})).collect()
}

fn fit(draw: &mut Draw) -> Value {
    let strategy = draw.pick(&["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio", "RequestedToCapacityRatio"]);
    let shape = (strategy == "RequestedToCapacityRatio").then(|| json!({"shape": shape(draw)}));
    let ignored = draw.maybe(25, |_| ["example.com/gpu"]);
    let groups = draw.maybe(25, |_| ["vendor.example"]);
    json!({
        "scoringStrategy": {"type": strategy, "resources": resources(draw, 100), "requestedToCapacityRatio": shape},
        "ignoredResources": ignored, "ignoredResourceGroups": groups,
    })
}

fn shape(draw: &mut Draw) -> Vec<Value> {
    let mut utilization = draw.pick(&[0, 0, 10]);
    let mut points = Vec::new();
    while utilization <= 100 && points.len() < 4 {
        points.push(json!({"utilization": utilization, "score": draw.pick(&[0, 0, 1, 3, 7, 10])}));
        utilization += draw.between(1, 100);
    }
    points
}

fn balanced(draw: &mut Draw) -> Value {
    json!({"resources": resources(draw, 1)})
}

fn added_affinity(draw: &mut Draw) -> Value {
    let expression = |draw: &mut Draw| json!({"matchExpressions": [{"key": draw.pick(&["disk", "gpu"]), "operator": draw.pick(&["Exists", "DoesNotExist"])}]});
    let required = draw.maybe(60, |draw| json!({"nodeSelectorTerms": draw.list(1, 2, expression)}));
    let preferred = draw.maybe(60, |draw| draw.list(1, 2, |draw| json!({"weight": draw.between(1, 100), "preference": expression(draw)})));
    json!({"requiredDuringSchedulingIgnoredDuringExecution": required, "preferredDuringSchedulingIgnoredDuringExecution": preferred})
}

fn weights(draw: &mut Draw) -> Vec<Value> {
    let scoring = ["NodeResourcesFit", "NodeResourcesBalancedAllocation", "ImageLocality", "TaintToleration", "NodeAffinity"];
    draw.some(40, &scoring).into_iter().map(|name| json!({"name": name, "weight": draw.pick(&[1, 2, 10, 100])})).collect()
}

/// One that is named in both lists is enabled, with the weight of the first.
fn disabled(draw: &mut Draw) -> Vec<Value> {
    let mut names: Vec<Value> = Vec::new();
    if draw.chance(20) {
        let name = draw.pick(&["TaintToleration", "NodePorts", "NodeUnschedulable", "ImageLocality", "NodeName"]);
        let mut entry = Map::new();
        entry.insert("name".into(), name.into());
        names.push(entry.into());
    }
    names
}

//! Full nodes and a pod that is more important. In: a cluster. Out: the same with priorities, budgets and nominations, and no room.

use serde_json::{Map, Value, json};

use super::{
    cluster::{APPS, HOSTNAME, World, ZONE},
    draw::Draw,
};

pub fn dress(draw: &mut Draw, world: &mut World) {
    world.pods.clear();
    for at in 0..world.nodes.len() {
        let name = world.nodes[at]["metadata"]["name"].clone();
        world.nodes[at]["status"]["allocatable"] = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        for number in 0..draw.between(1, 5) {
            let pod = victim(draw, &name, number);
            world.pods.push(pod);
        }
    }
    world.asked["metadata"]["namespace"] = "web".into();
    world.asked["spec"]["priority"] = draw.pick(&[0, 5, 10, 1000]).into();
    world.asked["spec"]["preemptionPolicy"] = json!(draw.maybe(8, |_| "Never"));
    world.asked["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": draw.pick(&["2", "3", "4", "5"])}}}]);
    for number in 0..draw.between(0, 2) {
        let budget = budget(draw, number, &world.pods);
        world.others.push(budget);
    }
    if draw.chance(30) {
        for number in 0..draw.between(1, 3) {
            nominate(draw, world, number);
        }
    }
    if draw.chance(25) {
        nominate_asked(draw, world);
    }
    if draw.chance(10) {
        world.config = Some(few_candidates(draw));
    }
}

/// Nodes that hardly differ, so that the last rules tell one from another; nobody who has to go is spared.
pub fn dress_alike(draw: &mut Draw, world: &mut World) {
    let pattern = draw.list(1, 3, |draw| draw.pick(&[0, 5, 5]));
    world.pods.clear();
    for at in 0..world.nodes.len() {
        let name = world.nodes[at]["metadata"]["name"].clone();
        world.nodes[at]["status"]["allocatable"] = json!({"cpu": pattern.len().to_string(), "memory": "8Gi", "pods": "110"});
        for (number, priority) in (0..).zip(&pattern) {
            let mut pod = victim(draw, &name, number);
            pod["metadata"]["namespace"] = "web".into();
            pod["metadata"]["labels"] = json!({"app": draw.pick(&APPS[..2])});
            pod["spec"]["priority"] = if draw.chance(92) { *priority } else { draw.pick(&[0, 5]) }.into();
            pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1".into();
            world.pods.push(pod);
        }
    }
    world.asked["metadata"]["namespace"] = "web".into();
    world.asked["spec"]["priority"] = 10.into();
    world.asked["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": pattern.len().to_string()}}}]);
    if draw.chance(60) {
        let mut budget = budget(draw, 0, &world.pods);
        budget["metadata"]["namespace"] = "web".into();
        budget["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
        let name = |draw: &mut Draw| world.pods[draw.index(world.pods.len())]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let gone = draw.maybe(50, |draw| draw.list(1, 4, name));
        let gone = gone.map(|names| names.into_iter().map(|name| (name, json!("2026-01-02T00:00:00Z"))).collect::<Map<_, _>>());
        budget["status"] = json!({"disruptionsAllowed": draw.between(0, 1), "disruptedPods": gone});
        world.others.push(budget);
    }
}

/// What would be if pods moved: victims that count in a constraint or a term, nominated pods that come with their own.
pub fn dress_moved(draw: &mut Draw, world: &mut World) {
    dress(draw, world);
    let near = |draw: &mut Draw| json!({"topologyKey": draw.pick(&[ZONE, ZONE, HOSTNAME]), "labelSelector": {"matchLabels": {"app": "a"}}});
    world.asked["metadata"]["labels"] = json!({"app": if draw.chance(85) { "a" } else { "b" }});
    // Few others of the kind, or the last of them never goes.
    let many = draw.chance(50);
    match draw.between(0, 2) {
        0 => {
            let mut constraint = near(draw);
            constraint["maxSkew"] = draw.pick(&[1, 1, 2]).into();
            constraint["whenUnsatisfiable"] = "DoNotSchedule".into();
            constraint["minDomains"] = json!(draw.maybe(50, |draw| draw.between(1, 4)));
            world.asked["spec"]["topologySpreadConstraints"] = json!([constraint]);
        }
        1 => {
            world.asked["spec"]["affinity"]["podAffinity"] =
                json!({"requiredDuringSchedulingIgnoredDuringExecution": draw.list(1, 2, near)});
        }
        _ => {}
    }
    for pod in &mut world.pods {
        pod["metadata"]["labels"] = json!({"app": if draw.chance(if many { 60 } else { 12 }) { "a" } else { "b" }});
    }
    for number in 0..draw.between(0, 3) {
        nominate(draw, world, 10 + number);
        let Some(pod) = world.pods.last_mut() else { continue };
        pod["metadata"]["namespace"] = draw.pick(&["web", "web", "db"]).into();
        pod["metadata"]["labels"] = json!({"app": draw.pick(&["a", "a", "b"])});
        pod["spec"]["priority"] = 2000.into();
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = draw.pick(&["0", "500m"]).into();
        if draw.chance(40) {
            let mut term = near(draw);
            term["namespaces"] = json!(["web", "db"]);
            pod["spec"]["affinity"]["podAntiAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        }
    }
}

fn victim(draw: &mut Draw, node: &Value, number: i64) -> Value {
    let started = draw.maybe(95, |draw| format!("2026-01-01T0{}:00:00Z", draw.between(0, 5)));
    let deleted = draw.maybe(8, |_| "2026-01-02T00:00:00Z");
    let reason = draw.pick(&["PreemptionByScheduler", "PreemptionByScheduler", "EvictionByEvictionAPI"]);
    let conditions = draw.maybe(70, |_| json!([{"type": "DisruptionTarget", "status": "True", "reason": reason}]));
    let labels = draw.maybe(92, |draw| json!({"app": draw.pick(&APPS), "tier": draw.maybe(30, |_| "front")}));
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": format!("p{}-{number}", node.as_str().unwrap_or_default()), "namespace": draw.pick(&["web", "web", "web", "db"]),
            "labels": labels, "deletionTimestamp": deleted},
        "spec": {"nodeName": node, "priority": draw.pick(&[-5, 0, 0, 5, 10]), "containers": [{"name": "c",
            "resources": {"requests": {"cpu": draw.pick(&["500m", "1", "2"])}}}]},
        "status": {"phase": "Running", "startTime": started, "conditions": deleted.and(conditions)},
    })
}

/// Budgets may overlap, but never by halves: upstream goes through them in the order of a map, and stops at the first that breaks.
fn budget(draw: &mut Draw, number: i64, pods: &[Value]) -> Value {
    let selector = draw.maybe(95, |draw| match draw.between(0, 9) {
        0 => json!({}),
        1 => json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["a"]}]}),
        _ => json!({"matchLabels": {"app": draw.pick(&APPS)}}),
    });
    let disrupted = draw.maybe(20, |draw| {
        let name = pods[draw.index(pods.len())]["metadata"]["name"].as_str().unwrap_or_default();
        json!({name: "2026-01-02T00:00:00Z"})
    });
    json!({
        "kind": "PodDisruptionBudget", "apiVersion": "policy/v1",
        "metadata": {"name": format!("b{number}"), "namespace": draw.pick(&["web", "web", "web", "db"])},
        "spec": {"selector": selector}, "status": {"disruptionsAllowed": draw.between(-1, 2), "disruptedPods": disrupted},
    })
}

fn nominate(draw: &mut Draw, world: &mut World, number: i64) {
    let node = world.nodes[draw.index(world.nodes.len())]["metadata"]["name"].clone();
    let labels = json!({"app": draw.pick(&APPS)});
    world.pods.push(json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": format!("nominated{number}"), "namespace": "web", "labels": labels},
        "spec": {"priority": draw.pick(&[0, 10, 2000]), "schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": draw.pick(&["1", "3"])}}}]},
        "status": {"phase": "Pending", "nominatedNodeName": draw.maybe(95, |_| node).unwrap_or_else(|| "gone".into())},
    }));
}

/// The pod has preempted before. Where its node would do, upstream would try it alone, which the oracle does not, so there it is none.
fn nominate_asked(draw: &mut Draw, world: &mut World) {
    let node = world.nodes[draw.index(world.nodes.len())]["metadata"]["name"].clone();
    world.asked["status"]["nominatedNodeName"] = draw.maybe(90, |_| node).unwrap_or_else(|| "gone".into());
}

/// One candidate is not enough to choose from, but the oracle begins anywhere: only a share of all that is all of them is the same everywhere.
fn few_candidates(draw: &mut Draw) -> Value {
    let args = json!({"kind": "DefaultPreemptionArgs", "apiVersion": "kubescheduler.config.k8s.io/v1",
        "minCandidateNodesPercentage": 100, "minCandidateNodesAbsolute": draw.between(0, 1)});
    json!({"kind": "KubeSchedulerConfiguration", "apiVersion": "kubescheduler.config.k8s.io/v1",
        "profiles": [{"schedulerName": "default-scheduler", "pluginConfig": [{"name": "DefaultPreemption", "args": args}]}]})
}

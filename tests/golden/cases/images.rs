//! Images that some nodes have already. In: a cluster. Out: the same with images of sizes around the thresholds, and a pod that wants several.

use serde_json::{Value, json};

use super::{
    cluster::{World, list_at},
    draw::Draw,
};

const MB: i64 = 1 << 20;
/// With and without tag, digest and registry.
const NAMES: [&str; 7] = [
    "registry.example/app:1",
    "registry.example/app",
    "app:latest",
    "app",
    "registry.example/big@sha256:0a",
    "registry.example:5000/db",
    "db:latest",
];

pub fn dress(draw: &mut Draw, world: &mut World) {
    // An image has one size wherever it is. Of several, the real scheduler takes that of the node it saw first.
    let sizes = NAMES.map(|_| size(draw));
    for node in &mut world.nodes {
        let mut images = Vec::new();
        for (at, name) in NAMES.iter().enumerate() {
            if draw.chance(45) {
                let mirrored = draw.maybe(30, |_| format!("mirror.example/{name}"));
                let names: Vec<String> = std::iter::once((*name).to_owned()).chain(mirrored).collect();
                images.push(json!({"names": names, "sizeBytes": sizes[at]}));
            }
        }
        if !images.is_empty() {
            node["status"]["images"] = images.into();
        }
    }
    let spec = &mut world.asked["spec"];
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        container["image"] = json!(draw.maybe(92, |draw| draw.pick(&NAMES)));
    }
    let more = (0..draw.between(0, 2)).map(|number| container(draw, "more", number));
    list_at(spec, &["containers"]).extend(more);
    if draw.chance(40) {
        spec["initContainers"] = (0..draw.between(1, 2)).map(|number| container(draw, "i", number)).collect::<Vec<_>>().into();
    }
    if draw.chance(20) {
        spec["volumes"] = json!([{"name": "v", "image": {"reference": draw.pick(&NAMES)}}]);
    }
}

fn container(draw: &mut Draw, prefix: &str, number: i64) -> Value {
    json!({"name": format!("{prefix}{number}"), "image": draw.maybe(92, |draw| draw.pick(&NAMES))})
}

fn size(draw: &mut Draw) -> i64 {
    let around = draw.pick(&[1, 23, 23, 46, 69, 100, 300, 1000, 2000, 3000]) * MB;
    (around + draw.pick(&[-1, 0, 0, 1])).max(0)
}

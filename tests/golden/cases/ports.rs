//! Host ports with addresses and protocols. In: a cluster. Out: the same with pods that hold ports and one that wants some.

use serde_json::{Map, Value, json};

use super::{
    cluster::{World, all_pods},
    draw::Draw,
};

pub fn dress(draw: &mut Draw, world: &mut World) {
    for pod in all_pods(world) {
        let count = draw.between(0, 3);
        if count > 0 {
            pod["spec"]["containers"][0]["ports"] = (0..count).map(|_| port(draw)).collect::<Vec<_>>().into();
        }
        if draw.chance(15) {
            let restart = draw.maybe(60, |_| "Always");
            pod["spec"]["initContainers"] = json!([{"name": "i", "restartPolicy": restart, "ports": [port(draw)]}]);
        }
        if draw.chance(8) {
            on_the_host(pod);
        }
    }
}

fn port(draw: &mut Draw) -> Value {
    let number = draw.pick(&[80, 80, 443, 53]);
    let mut port = Map::new();
    port.insert("containerPort".into(), number.into());
    if draw.chance(85) {
        port.insert("hostPort".into(), draw.pick(&[number, number, 0]).into());
    }
    for (field, values) in [("hostIP", &["", "", "0.0.0.0", "127.0.0.1", "10.0.0.1"]), ("protocol", &["", "TCP", "TCP", "UDP", "SCTP"])] {
        let value = draw.pick(values);
        if !value.is_empty() {
            port.insert(field.into(), value.into());
        }
    }
    port.into()
}

/// As the API server stores it: on the host's network a port of a container is the host's.
fn on_the_host(pod: &mut Value) {
    pod["spec"]["hostNetwork"] = true.into();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            for port in container["ports"].as_array_mut().into_iter().flatten() {
                port["hostPort"] = port["containerPort"].clone();
            }
        }
    }
}

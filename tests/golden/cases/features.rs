//! Features that nodes declare and pods need. In: a cluster. Out: the same with both.

use serde_json::json;

use super::{cluster::World, draw::Draw};

/// Those that scheduling asks for, one that only updates ask for, and one that nobody knows.
const FEATURES: [&str; 5] = [
    "RestartAllContainersOnContainerExits",
    "UserNamespacesHostNetworkSupport",
    "VolumeBindMountOptions",
    "InPlacePodVerticalScalingInitContainers",
    "SomethingNewer",
];

pub fn dress(draw: &mut Draw, world: &mut World) {
    for node in &mut world.nodes {
        let declared: Vec<&str> = FEATURES.into_iter().filter(|_| draw.chance(60)).collect();
        if !declared.is_empty() {
            node["status"]["declaredFeatures"] = declared.into();
        }
    }
    let spec = &mut world.asked["spec"];
    if draw.chance(40) {
        spec["hostUsers"] = draw.chance(30).into();
        spec["hostNetwork"] = draw.chance(70).into();
    }
    if draw.chance(40) {
        let action = draw.pick(&["RestartAllContainers", "RestartAllContainers", "Restart"]);
        let rule = json!({"action": action, "exitCodes": {"operator": "In", "values": [42]}});
        spec["containers"][0]["restartPolicy"] = "Never".into();
        spec["containers"][0]["restartPolicyRules"] = json!([rule]);
    }
    if draw.chance(40) {
        let options = if draw.chance(80) { json!(["noexec"]) } else { json!([]) };
        spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data", "bindMountOptions": options}]);
        spec["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    }
}

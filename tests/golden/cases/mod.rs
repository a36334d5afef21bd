//! The cases. In: a seed. Out: by family, as many as are wanted, always the same; and what each family must have reached to count.

mod affinity;
mod cluster;
mod configs;
pub mod draw;
mod features;
mod images;
mod pod_affinity;
mod ports;
mod preemption;
mod reach;
mod resources;
mod spread;
mod taints;
mod volumes;

use serde_json::{Value, json};

use cluster::World;
use draw::Draw;

/// Plugins that the engine may leave out of the scores while the real one gives 0 to every node.
pub const NOT_SCORED: [&str; 2] = ["DynamicResources", "VolumeBinding"];

/// Families whose rules the engine does not have yet: the real plugins answer them, and nothing is compared. The place to switch one on.
pub const NOT_BUILT: [&str; 0] = [];

type Dress = fn(&mut Draw, &mut World);

/// Cases of one kind.
pub struct Family {
    pub name: &'static str,
    /// What makes a plain cluster one of this family, in order.
    dresses: &'static [Dress],
    /// More of that, each by chance, so that rules meet in all combinations.
    spices: &'static [Dress],
    /// Drawn from a few seeds only; see [`configs`].
    config: Option<Dress>,
    /// What the answers of the real plugins must have had: beginnings of what [`super::coverage`] counts.
    pub reach: &'static [&'static str],
}

const fn family(name: &'static str, dresses: &'static [Dress], reach: &'static [&'static str]) -> Family {
    Family { name, dresses, spices: &[], config: None, reach }
}

/// Every family, and what its answers must have had.
pub const FAMILIES: [Family; 18] = [
    family("resources", &[resources::dress], reach::RESOURCES),
    family("taints", &[taints::dress], reach::TAINTS),
    family("affinity", &[affinity::dress], reach::AFFINITY),
    family("ports", &[ports::dress], reach::PORTS),
    family("images", &[images::dress], reach::IMAGES),
    Family { spices: &[resources::dress], ..family("gates", &[gates], reach::GATES) },
    Family {
        spices: &[taints::dress, affinity::dress],
        config: Some(configs::dress),
        ..family("scoring", &[resources::dress, images::dress], reach::SCORING)
    },
    Family {
        spices: &[resources::dress, taints::dress, affinity::dress, ports::dress, images::dress, gates],
        ..family("mixed", &[], reach::MIXED)
    },
    Family { spices: &[taints::dress, affinity::dress], ..family("spread", &[spread::dress], reach::SPREAD) },
    Family {
        config: Some(configs::dress_topology),
        ..family("spread-defaults", &[spread::dress, spread::dress_owners], reach::SPREAD_DEFAULTS)
    },
    family("pod-affinity", &[pod_affinity::dress], reach::POD_AFFINITY),
    Family {
        spices: &[spread::dress_owners, pod_affinity::dress, taints::dress, affinity::dress, resources::dress],
        config: Some(configs::dress_topology),
        ..family("topology", &[spread::dress], reach::TOPOLOGY)
    },
    Family { spices: &[taints::dress], ..family("features", &[features::dress], reach::FEATURES) },
    family("volumes", &[volumes::dress], reach::VOLUMES),
    Family {
        spices: &[ports::dress, spread::dress, pod_affinity::dress, taints::dress],
        ..family("preemption", &[preemption::dress], reach::PREEMPTION)
    },
    family("volume-room", &[volumes::dress_room], reach::VOLUME_ROOM),
    family("alike-victims", &[preemption::dress_alike], reach::ALIKE_VICTIMS),
    family("moved-pods", &[preemption::dress_moved], reach::MOVED_PODS),
];

impl Family {
    /// Whether the engine has all rules of the family.
    pub fn built(&self) -> bool {
        !NOT_BUILT.contains(&self.name)
    }

    /// Case number so and so of a seed.
    pub fn case(&self, seed: u64, number: u64) -> Value {
        let mut draw = Draw::new(seed, self.name, number);
        let mut world = World::plain(&mut draw);
        self.dresses.iter().for_each(|dress| dress(&mut draw, &mut world));
        for spice in self.spices {
            if draw.chance(45) {
                spice(&mut draw, &mut world);
            }
        }
        if let Some(config) = self.config {
            let variant = u64::try_from(draw.between(0, configs::VARIANTS - 1)).expect("not negative");
            config(&mut Draw::new(seed, "config", variant), &mut world);
        }
        // A pod on its node is asked about only by `explain`, which takes what the kubelet reports for what the pod needs; the real one is never asked.
        if let Some(asked) = world.asked.as_object_mut().filter(|asked| asked["spec"]["nodeName"].is_string()) {
            asked.remove("status");
        }
        world.into_case(&format!("{}-{seed}-{number}", self.name))
    }
}

/// A pod that may not be scheduled yet.
fn gates(draw: &mut Draw, world: &mut World) {
    world.asked["spec"]["schedulingGates"] = json!(draw.maybe(60, |draw| draw.list(0, 2, |draw| json!({"name": draw.pick(&["a", "b"])}))));
}

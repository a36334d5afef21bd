//! The cases. In: a seed. Out: by family, as many as are wanted, always the same; and what each family must have reached to count.

mod affinity;
mod cluster;
mod configs;
pub mod draw;
mod images;
mod pod_affinity;
mod ports;
mod preemption;
mod resources;
mod spread;
mod taints;
mod volumes;

use serde_json::{Value, json};

use cluster::World;
use draw::Draw;

/// Plugins that the engine may leave out of the scores while the real one gives 0 to every node.
pub const NOT_SCORED: [&str; 4] = ["DynamicResources", "VolumeBinding", "PodTopologySpread", "InterPodAffinity"];

/// Families whose rules the engine does not have yet: the real plugins answer them, and nothing is compared. The place to switch one on.
pub const NOT_BUILT: [&str; 6] = ["spread", "spread-defaults", "pod-affinity", "topology", "volumes", "preemption"];

type Dress = fn(&mut Draw, &mut World);

/// Cases of one kind.
pub struct Family {
    pub name: &'static str,
    /// What makes a plain cluster one of this family, in order.
    dresses: &'static [Dress],
    /// Drawn from a few seeds only; see [`configs`].
    config: Option<Dress>,
    /// Each dress only by chance, so that rules meet in all combinations.
    mixed: bool,
    /// What the answers of the real plugins must have had, as [`super::coverage`] writes it.
    pub reach: &'static [&'static str],
}

const fn family(name: &'static str, dresses: &'static [Dress], reach: &'static [&'static str]) -> Family {
    Family { name, dresses, config: None, mixed: false, reach }
}

/// Every family, and what its answers must have had.
pub const FAMILIES: [Family; 14] = [
    family("resources", &[resources::dress], &[]),
    family("taints", &[taints::dress], &[]),
    family("affinity", &[affinity::dress], &[]),
    family("ports", &[ports::dress], &[]),
    family("images", &[images::dress], &[]),
    family("gates", &[gates, resources::dress], &[]),
    Family { config: Some(configs::dress), ..family("scoring", &[resources::dress, taints::dress, affinity::dress, images::dress], &[]) },
    Family {
        mixed: true,
        ..family("mixed", &[resources::dress, taints::dress, affinity::dress, ports::dress, images::dress, gates], &[])
    },
    family("spread", &[taints::dress, affinity::dress, spread::dress], &[]),
    Family { config: Some(configs::dress_topology), ..family("spread-defaults", &[spread::dress, spread::dress_owners], &[]) },
    family("pod-affinity", &[pod_affinity::dress], &[]),
    Family {
        mixed: true,
        config: Some(configs::dress_topology),
        ..family("topology", &[spread::dress, spread::dress_owners, pod_affinity::dress, taints::dress, affinity::dress, resources::dress], &[])
    },
    family("volumes", &[volumes::dress], &[]),
    family("preemption", &[preemption::dress], &[]),
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
        for dress in self.dresses {
            if !self.mixed || draw.chance(55) {
                dress(&mut draw, &mut world);
            }
        }
        if let Some(config) = self.config {
            let variant = u64::try_from(draw.between(0, configs::VARIANTS - 1)).expect("not negative");
            config(&mut Draw::new(seed, "config", variant), &mut world);
        }
        world.into_case(&format!("{}-{seed}-{number}", self.name))
    }
}

/// A pod that may not be scheduled yet.
fn gates(draw: &mut Draw, world: &mut World) {
    world.asked["spec"]["schedulingGates"] = json!(draw.maybe(60, |draw| draw.list(0, 2, |draw| json!({"name": draw.pick(&["a", "b"])}))));
}

//! The rules, one file each. In: a name of the registry and the profile's arguments. Out: the plugin.
//!
//! A rule's file holds what upstream calls by the same name: its filter, its score, its queueing hints, and a table of what it says.

mod cluster_fit;
mod default_binder;
mod default_preemption;
mod dynamic_resources;
mod extender;
mod gang_scheduling;
mod image_locality;
mod image_platform;
mod inter_pod_affinity;
mod inter_pod_affinity_score;
mod node_affinity;
mod node_declared_features;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_resources_score;
mod node_unschedulable;
mod node_volume_limits;
mod not_built;
mod pod_topology_spread;
mod pod_topology_spread_score;
mod priority_sort;
mod resource_shares;
mod scheduling_gates;
mod storage_rules;
mod sweep;
mod taint_toleration;
mod topology;
mod volume_binding;
mod volume_restrictions;
mod volume_search;
mod volume_zone;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod volume_tests;

pub(in crate::scheduler) use extender::Extender;
pub(in crate::scheduler) use image_platform::matters as platforms_matter;

use super::{framework::Plugin, profile::PluginArgs, registry::IN_TREE};
use crate::model::intern::Interner;

/// Builds a plugin by its name; `None` if the registry has none of that name. One that this version does not have yet refuses the pods that need it.
pub fn build(name: &str, args: &PluginArgs, symbols: &mut Interner) -> Option<Box<dyn Plugin>> {
    let info = IN_TREE.iter().find(|info| info.name == name)?;
    Some(match name {
        "SchedulingGates" => Box::new(scheduling_gates::SchedulingGates),
        "PrioritySort" => Box::new(priority_sort::PrioritySort),
        "NodeName" => Box::new(node_name::NodeName),
        "NodeUnschedulable" => Box::new(node_unschedulable::NodeUnschedulable::new(symbols)),
        "TaintToleration" => Box::new(taint_toleration::TaintToleration),
        "NodeAffinity" => Box::new(node_affinity::NodeAffinity::new(&args.node_affinity, symbols)),
        "NodePorts" => Box::new(node_ports::NodePorts),
        "NodeResourcesFit" => Box::new(node_resources_fit::NodeResourcesFit::new(&args.node_resources_fit, symbols)),
        "NodeResourcesBalancedAllocation" => Box::new(node_resources_balanced_allocation::NodeResourcesBalancedAllocation::new(
            &args.node_resources_balanced_allocation,
            symbols,
        )),
        "VolumeRestrictions" => Box::new(volume_restrictions::VolumeRestrictions),
        "NodeVolumeLimits" => Box::new(node_volume_limits::NodeVolumeLimits),
        "VolumeBinding" => Box::new(volume_binding::VolumeBinding::new(&args.volume_binding)),
        "VolumeZone" => Box::new(volume_zone::VolumeZone),
        "PodTopologySpread" => Box::new(pod_topology_spread::PodTopologySpread::new(&args.pod_topology_spread, symbols)),
        "InterPodAffinity" => Box::new(inter_pod_affinity::InterPodAffinity::new(args.inter_pod_affinity)),
        "ImageLocality" => Box::new(image_locality::ImageLocality),
        "ClusterFit" => Box::new(cluster_fit::ClusterFit),
        "ImagePlatform" => Box::new(image_platform::ImagePlatform),
        "NodeDeclaredFeatures" => Box::new(node_declared_features::NodeDeclaredFeatures),
        "DynamicResources" => Box::new(dynamic_resources::DynamicResources),
        "DefaultBinder" => Box::new(default_binder::DefaultBinder),
        "DefaultPreemption" => Box::new(default_preemption::DefaultPreemption::new(args.default_preemption)),
        "GangScheduling" => Box::new(gang_scheduling::GangScheduling),
        _ => Box::new(not_built::NotBuilt::new(info)),
    })
}

//! What the engine is given for one profile. In: nothing but resolved configuration (`config::load` made it). Out: ordered plugins, typed arguments.
//!
//! Everything here is complete and checked: defaults are filled in, lists are expanded, numbers are in range. The engine asks no further questions.

use std::collections::BTreeMap;

use super::registry::ExtensionPoint;
use crate::model::{affinity::NodeAffinity, time::DurationMs};

/// One scheduling profile: pods whose `spec.schedulerName` is its name are scheduled by its plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileSpec {
    /// Unique over all profiles, never empty.
    pub scheduler_name: String,
    /// Percent of nodes (1..=100) after which the search for feasible nodes ends; `None` looks at all of them.
    pub percentage_of_nodes_to_score: Option<u8>,
    /// Which of several best nodes is taken.
    pub tie_break: TieBreak,
    /// Seed of the tie-break; `None`: drawn once at start.
    pub seed: Option<u64>,
    /// Plugins at each extension point.
    pub plugins: PluginPoints,
    /// Arguments of plugins.
    pub args: PluginArgs,
}

/// Which of several nodes with the same best score is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TieBreak {
    /// Uniform over the best nodes, seeded (upstream's rule).
    #[default]
    Random,
    /// A random but fixed order of all nodes, so that packing fills one node before it opens the next.
    StableRank,
    /// The first in node order.
    First,
}

/// A plugin with the weight of its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightedPlugin {
    /// As in the registry.
    pub name: &'static str,
    /// At least 1.
    pub weight: u32,
}

/// The plugins at each extension point, in call order, after `multiPoint` has been expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // One field for each `ExtensionPoint`, documented there.
pub struct PluginPoints {
    pub pre_enqueue: Vec<&'static str>,
    pub queue_sort: Vec<&'static str>,
    pub pre_filter: Vec<&'static str>,
    pub filter: Vec<&'static str>,
    pub post_filter: Vec<&'static str>,
    pub pre_score: Vec<&'static str>,
    pub score: Vec<WeightedPlugin>,
    pub reserve: Vec<&'static str>,
    pub permit: Vec<&'static str>,
    pub pre_bind: Vec<&'static str>,
    pub bind: Vec<&'static str>,
    pub post_bind: Vec<&'static str>,
    pub placement_generate: Vec<&'static str>,
    pub placement_score: Vec<WeightedPlugin>,
    pub pod_group_post_filter: Vec<&'static str>,
}

impl PluginPoints {
    /// The names at one point, in call order.
    pub fn names(&self, point: ExtensionPoint) -> Vec<&'static str> {
        match point {
            ExtensionPoint::Score => self.score.iter().map(|plugin| plugin.name).collect(),
            ExtensionPoint::PlacementScore => self.placement_score.iter().map(|plugin| plugin.name).collect(),
            ExtensionPoint::PreEnqueue => self.pre_enqueue.clone(),
            ExtensionPoint::QueueSort => self.queue_sort.clone(),
            ExtensionPoint::PreFilter => self.pre_filter.clone(),
            ExtensionPoint::Filter => self.filter.clone(),
            ExtensionPoint::PostFilter => self.post_filter.clone(),
            ExtensionPoint::PreScore => self.pre_score.clone(),
            ExtensionPoint::Reserve => self.reserve.clone(),
            ExtensionPoint::Permit => self.permit.clone(),
            ExtensionPoint::PreBind => self.pre_bind.clone(),
            ExtensionPoint::Bind => self.bind.clone(),
            ExtensionPoint::PostBind => self.post_bind.clone(),
            ExtensionPoint::PlacementGenerate => self.placement_generate.clone(),
            ExtensionPoint::PodGroupPostFilter => self.pod_group_post_filter.clone(),
        }
    }

    /// Whether the plugin is active anywhere.
    pub fn contains(&self, name: &str) -> bool {
        ExtensionPoint::ALL.into_iter().any(|point| self.names(point).contains(&name))
    }

    /// Sets the plugins of one point; weights count where the point has them.
    pub fn set(&mut self, point: ExtensionPoint, plugins: Vec<WeightedPlugin>) {
        let names = || plugins.iter().map(|plugin| plugin.name).collect();
        match point {
            ExtensionPoint::Score => self.score = plugins,
            ExtensionPoint::PlacementScore => self.placement_score = plugins,
            ExtensionPoint::PreEnqueue => self.pre_enqueue = names(),
            ExtensionPoint::QueueSort => self.queue_sort = names(),
            ExtensionPoint::PreFilter => self.pre_filter = names(),
            ExtensionPoint::Filter => self.filter = names(),
            ExtensionPoint::PostFilter => self.post_filter = names(),
            ExtensionPoint::PreScore => self.pre_score = names(),
            ExtensionPoint::Reserve => self.reserve = names(),
            ExtensionPoint::Permit => self.permit = names(),
            ExtensionPoint::PreBind => self.pre_bind = names(),
            ExtensionPoint::Bind => self.bind = names(),
            ExtensionPoint::PostBind => self.post_bind = names(),
            ExtensionPoint::PlacementGenerate => self.placement_generate = names(),
            ExtensionPoint::PodGroupPostFilter => self.pod_group_post_filter = names(),
        }
    }
}

/// Arguments of all plugins that take some; upstream's defaults where the file is silent.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // One field for each plugin, documented at its type.
pub struct PluginArgs {
    pub node_resources_fit: NodeResourcesFitArgs,
    pub node_resources_balanced_allocation: NodeResourcesBalancedAllocationArgs,
    pub node_affinity: NodeAffinityArgs,
    pub inter_pod_affinity: InterPodAffinityArgs,
    pub pod_topology_spread: PodTopologySpreadArgs,
    pub volume_binding: VolumeBindingArgs,
    pub default_preemption: DefaultPreemptionArgs,
    pub dynamic_resources: DynamicResourcesArgs,
    /// Arguments of out-of-tree plugins, by plugin name, as the file has them.
    pub out_of_tree: BTreeMap<String, serde_json::Value>,
}

/// A resource and how much its share counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceWeight {
    /// `cpu`, `memory`, `nvidia.com/gpu`, ...
    pub name: String,
    /// 1..=100.
    pub weight: u32,
}

impl ResourceWeight {
    /// Upstream's default for scoring: cpu and memory, equally.
    pub fn cpu_and_memory() -> Vec<Self> {
        ["cpu", "memory"].into_iter().map(|name| Self { name: name.to_owned(), weight: 1 }).collect()
    }
}

/// One corner of a piecewise linear score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapePoint {
    /// Percent in use, 0..=100.
    pub utilization: u8,
    /// 0..=10, as in files; a plugin scales it to 0..=100.
    pub score: u8,
}

/// Arguments of `NodeResourcesFit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeResourcesFitArgs {
    /// Extended resources that the filter does not look at.
    pub ignored_resources: Vec<String>,
    /// Prefixes (before `/`) of extended resources that the filter does not look at.
    pub ignored_resource_groups: Vec<String>,
    /// How nodes are ranked.
    pub strategy: ScoringStrategy,
    /// What is ranked by; never empty.
    pub resources: Vec<ResourceWeight>,
}

impl Default for NodeResourcesFitArgs {
    fn default() -> Self {
        Self {
            ignored_resources: Vec::new(),
            ignored_resource_groups: Vec::new(),
            strategy: ScoringStrategy::LeastAllocated,
            resources: ResourceWeight::cpu_and_memory(),
        }
    }
}

/// How `NodeResourcesFit` ranks nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoringStrategy {
    /// Emptier is better: spreads.
    LeastAllocated,
    /// Fuller is better: packs.
    MostAllocated,
    /// By this shape over the share in use; at least one point, utilization strictly increasing.
    RequestedToCapacityRatio(Vec<ShapePoint>),
}

/// Arguments of `NodeResourcesBalancedAllocation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeResourcesBalancedAllocationArgs {
    /// Names are unique; weights are always 1.
    pub resources: Vec<ResourceWeight>,
}

impl Default for NodeResourcesBalancedAllocationArgs {
    fn default() -> Self {
        Self { resources: ResourceWeight::cpu_and_memory() }
    }
}

/// Arguments of `NodeAffinity`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAffinityArgs {
    /// Applies to every pod of the profile, in addition to the pod's own.
    pub added_affinity: Option<NodeAffinity>,
}

/// Arguments of `InterPodAffinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterPodAffinityArgs {
    /// Score of an existing pod's required affinity that matches the incoming pod, 0..=100.
    pub hard_pod_affinity_weight: u32,
    /// Skips preferred terms of existing pods unless the incoming pod has affinity itself.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

/// Arguments of `PodTopologySpread`: constraints for pods that have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodTopologySpreadArgs {
    /// Upstream's: hostname with skew 3 and zone with skew 5, both soft.
    #[default]
    System,
    /// These, possibly none.
    List(Vec<DefaultConstraint>),
}

/// A default topology spread constraint; its selector is deduced for each pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultConstraint {
    /// At least 1.
    pub max_skew: u32,
    /// A node label key.
    pub topology_key: String,
    /// Refuses (`DoNotSchedule`) instead of only ranking (`ScheduleAnyway`).
    pub hard: bool,
    /// Fewer domains than this count as an empty one; at least 1.
    pub min_domains: Option<u32>,
    /// Counts only nodes that the pod's node affinity admits (`Honor`, the default).
    pub honor_node_affinity: bool,
    /// Counts only nodes whose taints the pod tolerates (`Honor`; the default is `Ignore`).
    pub honor_node_taints: bool,
    /// Pod label keys whose values are added to the selector.
    pub match_label_keys: Vec<String>,
}

/// Arguments of `VolumeBinding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeBindingArgs {
    /// How long a volume may take to be bound or provisioned; zero: no waiting.
    pub bind_timeout: DurationMs,
    /// Score over the share of storage in use.
    pub shape: Vec<ShapePoint>,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        let shape = vec![ShapePoint { utilization: 0, score: 10 }, ShapePoint { utilization: 100, score: 0 }];
        Self { bind_timeout: DurationMs::from_secs(600), shape }
    }
}

/// Arguments of `DefaultPreemption`: how many nodes are tried at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultPreemptionArgs {
    /// Percent of all nodes, 0..=100.
    pub min_candidate_nodes_percentage: u32,
    /// Nodes; not zero together with the percentage.
    pub min_candidate_nodes_absolute: u32,
}

impl Default for DefaultPreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

/// Arguments of `DynamicResources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicResourcesArgs {
    /// Longest search for devices on one node; zero: no limit.
    pub filter_timeout: DurationMs,
    /// Longest wait for device binding conditions; at least 1 s.
    pub binding_timeout: DurationMs,
}

impl Default for DynamicResourcesArgs {
    fn default() -> Self {
        Self { filter_timeout: DurationMs::from_secs(10), binding_timeout: DurationMs::from_secs(600) }
    }
}

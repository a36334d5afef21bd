//! The one table of in-tree plugins. In: a name. Out: what that plugin is: its extension points, default weight, and whether this version has it.
//!
//! The table's order is the order of upstream's default `multiPoint` list, so filters run and scores add up in the order people know.
//! The two that are not upstream's stand before its filters: they are the cheapest, and say nothing without a compute cluster.
//! Source: kube-scheduler v1.37.1 `getDefaultPlugins`, `applyFeatureGates` and each plugin's interfaces.

use std::fmt;

/// A place in a pod's way where plugins are called, in call order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtensionPoint {
    /// Before a pod enters the queue.
    PreEnqueue,
    /// Which pod comes first; exactly one plugin, the same in all profiles.
    QueueSort,
    /// Once for a pod, before nodes are looked at.
    PreFilter,
    /// Whether a node can take the pod.
    Filter,
    /// When no node can.
    PostFilter,
    /// Once for a pod, before feasible nodes are ranked.
    PreScore,
    /// How good a feasible node is; weighted.
    Score,
    /// The node is chosen, resources are set aside.
    Reserve,
    /// The last word before binding.
    Permit,
    /// What must be true at the API server before the binding.
    PreBind,
    /// The binding itself.
    Bind,
    /// After the binding.
    PostBind,
    /// Pod groups: which sets of nodes to try; at most one plugin.
    PlacementGenerate,
    /// Pod groups: how good a set of nodes is; weighted.
    PlacementScore,
    /// Pod groups: when a group cannot be scheduled.
    PodGroupPostFilter,
}

impl ExtensionPoint {
    /// All points, in call order.
    pub const ALL: [Self; 15] = [
        Self::PreEnqueue,
        Self::QueueSort,
        Self::PreFilter,
        Self::Filter,
        Self::PostFilter,
        Self::PreScore,
        Self::Score,
        Self::Reserve,
        Self::Permit,
        Self::PreBind,
        Self::Bind,
        Self::PostBind,
        Self::PlacementGenerate,
        Self::PlacementScore,
        Self::PodGroupPostFilter,
    ];

    /// The name as configuration files spell it (`preEnqueue`).
    pub fn field(self) -> &'static str {
        match self {
            Self::PreEnqueue => "preEnqueue",
            Self::QueueSort => "queueSort",
            Self::PreFilter => "preFilter",
            Self::Filter => "filter",
            Self::PostFilter => "postFilter",
            Self::PreScore => "preScore",
            Self::Score => "score",
            Self::Reserve => "reserve",
            Self::Permit => "permit",
            Self::PreBind => "preBind",
            Self::Bind => "bind",
            Self::PostBind => "postBind",
            Self::PlacementGenerate => "placementGenerate",
            Self::PlacementScore => "placementScore",
            Self::PodGroupPostFilter => "podGroupPostFilter",
        }
    }

    /// Whether plugins at this point have a weight.
    pub fn weighted(self) -> bool {
        matches!(self, Self::Score | Self::PlacementScore)
    }
}

impl fmt::Display for ExtensionPoint {
    /// The name as metrics and messages spell it (`PreEnqueue`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Whether a plugin is enabled without being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByDefault {
    /// In the default `multiPoint` list.
    Enabled,
    /// Known, but in the default list only with this upstream feature gate, which is off in v1.37.
    Gated(&'static str),
    /// Registered in Rust at start; used where a profile names it.
    OutOfTree,
}

/// What is known of a plugin without constructing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// As configuration, events and metrics spell it.
    pub name: &'static str,
    /// The points it implements, in call order.
    pub points: &'static [ExtensionPoint],
    /// Weight of its score when the file names none; 0 in a list that upstream leaves without weight, which counts as 1.
    pub default_weight: u32,
    /// Whether it is enabled without being named.
    pub by_default: ByDefault,
    /// One line for the reference page and `isobar config show`.
    pub doc: &'static str,
    /// Whether this version decides by it. A plugin not built is accepted in a configuration, and a pod that needs it is kept pending with its name.
    pub built: bool,
}

impl PluginInfo {
    /// Whether the plugin can be listed at `point`.
    pub fn implements(&self, point: ExtensionPoint) -> bool {
        self.points.contains(&point)
    }
}

use ExtensionPoint as P;

const fn plugin(name: &'static str, points: &'static [P], default_weight: u32, built: bool, doc: &'static str) -> PluginInfo {
    PluginInfo { name, points, default_weight, by_default: ByDefault::Enabled, doc, built }
}

const fn gated(gate: &'static str, info: PluginInfo) -> PluginInfo {
    PluginInfo { by_default: ByDefault::Gated(gate), ..info }
}

/// Every in-tree plugin of kube-scheduler v1.37, in default order, and our own two about compute clusters, which say nothing where there is none.
pub static IN_TREE: &[PluginInfo] = &[
    plugin("SchedulingGates", &[P::PreEnqueue], 0, true, "holds a pod back while it has scheduling gates"),
    plugin("PrioritySort", &[P::QueueSort], 0, true, "higher priority first, then longer waiting"),
    plugin(
        "ClusterFit",
        &[P::PreFilter, P::Filter, P::PreScore, P::Score],
        1,
        true,
        "clusters that the pod may go to and that take it; preferred ones and those near its data are better",
    ),
    plugin("ImagePlatform", &[P::PreFilter, P::Filter], 0, true, "no node on whose platform an image of the pod does not run"),
    plugin("NodeName", &[P::PreFilter, P::Filter], 0, true, "only the node that the pod names"),
    plugin("NodeUnschedulable", &[P::PreFilter, P::Filter], 0, true, "no cordoned nodes"),
    plugin(
        "TaintToleration",
        &[P::PreFilter, P::Filter, P::PreScore, P::Score],
        3,
        true,
        "no node with a taint that the pod does not tolerate; fewer PreferNoSchedule taints are better",
    ),
    plugin(
        "NodeAffinity",
        &[P::PreFilter, P::Filter, P::PreScore, P::Score],
        2,
        true,
        "node selector, node affinity and the profile's addedAffinity",
    ),
    plugin("NodePorts", &[P::PreFilter, P::Filter], 0, true, "no node where a host port is taken"),
    gated(
        "InPlacePodVerticalScalingSchedulerPreemption",
        plugin("DeferredPodScheduling", &[P::PreFilter, P::Filter, P::Permit], 0, false, "preempts for a deferred in-place resize"),
    ),
    plugin(
        "NodeResourcesFit",
        &[P::PreFilter, P::Filter, P::PreScore, P::Score, P::PlacementScore],
        1,
        true,
        "enough of every resource; emptier, fuller or a given shape is better",
    ),
    plugin("VolumeRestrictions", &[P::PreFilter, P::Filter], 0, true, "volumes that only one node or pod may use"),
    plugin("NodeVolumeLimits", &[P::PreFilter, P::Filter], 0, true, "CSI volumes that a node can attach"),
    plugin(
        "VolumeBinding",
        &[P::PreFilter, P::Filter, P::PreScore, P::Score, P::Reserve, P::PreBind],
        0,
        true,
        "volumes that are, or can be, bound or provisioned for the node",
    ),
    plugin("VolumeZone", &[P::PreFilter, P::Filter], 0, true, "bound volumes are in the node's zone"),
    plugin(
        "PodTopologySpread",
        &[P::PreFilter, P::Filter, P::PreScore, P::Score],
        2,
        true,
        "topology spread constraints of the pod, or default ones",
    ),
    plugin("InterPodAffinity", &[P::PreFilter, P::Filter, P::PreScore, P::Score], 2, true, "affinity and anti-affinity between pods"),
    plugin(
        "DynamicResources",
        &[P::PreEnqueue, P::PreFilter, P::Filter, P::PostFilter, P::Score, P::Reserve, P::PreBind, P::PodGroupPostFilter],
        2,
        false,
        "devices of resource claims: allocated ones are honoured, none are allocated",
    ),
    plugin(
        "DefaultPreemption",
        &[P::PreEnqueue, P::PostFilter, P::PodGroupPostFilter],
        0,
        true,
        "makes room by evicting pods of lower priority",
    ),
    plugin(
        "NodeResourcesBalancedAllocation",
        &[P::PreScore, P::Score],
        1,
        true,
        "prefers nodes whose resources the pod brings into balance",
    ),
    plugin("ImageLocality", &[P::Score], 1, true, "prefers nodes that have the pod's images"),
    plugin("DefaultBinder", &[P::Bind], 0, true, "posts the binding to the API server"),
    plugin("NodeDeclaredFeatures", &[P::PreFilter, P::Filter], 0, true, "node features that the pod's specification needs"),
    gated("GenericWorkload", plugin("GangScheduling", &[P::PreEnqueue, P::Permit], 0, true, "all pods of a PodGroup or none")),
    gated(
        "TopologyAwareWorkloadScheduling",
        plugin("TopologyPlacementGenerator", &[P::PlacementGenerate], 0, false, "one placement for each value of a topology key"),
    ),
    gated(
        "TopologyAwareWorkloadScheduling",
        plugin("PodGroupPodsCount", &[P::PlacementScore], 1, false, "prefers placements that take more pods of the group"),
    ),
];

/// Plugins that kube-scheduler had once; a file that enables one is refused by upstream too.
pub static REMOVED: &[&str] = &["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

/// The plugins that a program knows: the in-tree ones and those it registered.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    out_of_tree: Vec<PluginInfo>,
}

/// Why an out-of-tree plugin was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// As upstream's `Registry.Register`.
    #[error("a plugin named {0} already exists: give yours another name")]
    AlreadyExists(&'static str),
    /// A plugin that is called nowhere.
    #[error("plugin {0} implements no extension point: list at least one in PluginInfo.points")]
    NoPoints(&'static str),
}

impl Registry {
    /// The in-tree plugins alone.
    pub fn in_tree() -> Self {
        Self::default()
    }

    /// Adds an out-of-tree plugin.
    pub fn register(&mut self, info: PluginInfo) -> Result<(), RegisterError> {
        if self.find(info.name).is_some() {
            return Err(RegisterError::AlreadyExists(info.name));
        }
        if info.points.is_empty() {
            return Err(RegisterError::NoPoints(info.name));
        }
        self.out_of_tree.push(PluginInfo { by_default: ByDefault::OutOfTree, ..info });
        Ok(())
    }

    /// All plugins: the in-tree ones in default order, then the others in the order they were registered.
    pub fn iter(&self) -> impl Iterator<Item = &PluginInfo> {
        IN_TREE.iter().chain(&self.out_of_tree)
    }

    /// The plugin of that name.
    pub fn find(&self, name: &str) -> Option<&PluginInfo> {
        self.iter().find(|info| info.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_points_in_call_order() {
        for (i, info) in IN_TREE.iter().enumerate() {
            assert!(IN_TREE[..i].iter().all(|other| other.name != info.name), "{} twice", info.name);
            assert!(info.points.is_sorted() && !info.points.is_empty(), "{}", info.name);
            assert!(!REMOVED.contains(&info.name));
        }
    }

    #[test]
    fn the_default_list_is_upstreams() {
        let default: Vec<_> =
            IN_TREE.iter().filter(|info| info.by_default == ByDefault::Enabled).map(|info| (info.name, info.default_weight)).collect();
        assert_eq!(
            default,
            [
                ("SchedulingGates", 0),
                ("PrioritySort", 0),
                // Ours.
                ("ClusterFit", 1),
                ("ImagePlatform", 0),
                ("NodeName", 0),
                ("NodeUnschedulable", 0),
                ("TaintToleration", 3),
                ("NodeAffinity", 2),
                ("NodePorts", 0),
                ("NodeResourcesFit", 1),
                ("VolumeRestrictions", 0),
                ("NodeVolumeLimits", 0),
                ("VolumeBinding", 0),
                ("VolumeZone", 0),
                ("PodTopologySpread", 2),
                ("InterPodAffinity", 2),
                ("DynamicResources", 2),
                ("DefaultPreemption", 0),
                ("NodeResourcesBalancedAllocation", 1),
                ("ImageLocality", 1),
                ("DefaultBinder", 0),
                ("NodeDeclaredFeatures", 0),
            ]
        );
    }

    #[test]
    fn a_taken_name_is_refused() {
        let mut registry = Registry::in_tree();
        let mine =
            PluginInfo { name: "Mine", points: &[P::Score], default_weight: 1, by_default: ByDefault::OutOfTree, doc: "mine", built: true };
        assert_eq!(registry.register(mine), Ok(()));
        assert_eq!(registry.register(mine), Err(RegisterError::AlreadyExists("Mine")));
        assert_eq!(registry.register(PluginInfo { name: "NodePorts", ..mine }), Err(RegisterError::AlreadyExists("NodePorts")));
        assert_eq!(registry.register(PluginInfo { name: "Idle", points: &[], ..mine }), Err(RegisterError::NoPoints("Idle")));
        assert_eq!(registry.find("Mine").map(|info| info.by_default), Some(ByDefault::OutOfTree));
    }
}

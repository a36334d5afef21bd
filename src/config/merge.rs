//! From a profile's `plugins` to the plugins that run. In: lists of enabled and disabled plugins. Out: one ordered list for each extension point.
//!
//! Two steps, as upstream: the file's sets are merged with the default ones (which live in `multiPoint` alone), then `multiPoint` is expanded to the points
//! that each plugin implements. Source: kube-scheduler v1.37.1 `mergePluginSet`, `expandMultiPointPlugins`, `getValidScoreWeights`.

use super::wire::{Plugin, PluginSet, Plugins};
use crate::scheduler::profile::{PluginPoints, WeightedPlugin};
use crate::scheduler::registry::{ByDefault, ExtensionPoint, IN_TREE, PluginInfo, Registry};

/// In a disabled list: every default plugin.
pub const ALL: &str = "*";

impl Plugins {
    /// The set of one extension point.
    pub fn at(&self, point: ExtensionPoint) -> &PluginSet {
        match point {
            ExtensionPoint::PreEnqueue => &self.pre_enqueue,
            ExtensionPoint::QueueSort => &self.queue_sort,
            ExtensionPoint::PreFilter => &self.pre_filter,
            ExtensionPoint::Filter => &self.filter,
            ExtensionPoint::PostFilter => &self.post_filter,
            ExtensionPoint::PreScore => &self.pre_score,
            ExtensionPoint::Score => &self.score,
            ExtensionPoint::Reserve => &self.reserve,
            ExtensionPoint::Permit => &self.permit,
            ExtensionPoint::PreBind => &self.pre_bind,
            ExtensionPoint::Bind => &self.bind,
            ExtensionPoint::PostBind => &self.post_bind,
            ExtensionPoint::PlacementGenerate => &self.placement_generate,
            ExtensionPoint::PlacementScore => &self.placement_score,
            ExtensionPoint::PodGroupPostFilter => &self.pod_group_post_filter,
        }
    }

    /// The set of one extension point, to be written.
    pub fn at_mut(&mut self, point: ExtensionPoint) -> &mut PluginSet {
        match point {
            ExtensionPoint::PreEnqueue => &mut self.pre_enqueue,
            ExtensionPoint::QueueSort => &mut self.queue_sort,
            ExtensionPoint::PreFilter => &mut self.pre_filter,
            ExtensionPoint::Filter => &mut self.filter,
            ExtensionPoint::PostFilter => &mut self.post_filter,
            ExtensionPoint::PreScore => &mut self.pre_score,
            ExtensionPoint::Score => &mut self.score,
            ExtensionPoint::Reserve => &mut self.reserve,
            ExtensionPoint::Permit => &mut self.permit,
            ExtensionPoint::PreBind => &mut self.pre_bind,
            ExtensionPoint::Bind => &mut self.bind,
            ExtensionPoint::PostBind => &mut self.post_bind,
            ExtensionPoint::PlacementGenerate => &mut self.placement_generate,
            ExtensionPoint::PlacementScore => &mut self.placement_score,
            ExtensionPoint::PodGroupPostFilter => &mut self.pod_group_post_filter,
        }
    }
}

/// Upstream's default `multiPoint` list.
pub fn default_multi_point() -> Vec<Plugin> {
    let weight = |info: &PluginInfo| i32::try_from(info.default_weight).ok().filter(|weight| *weight > 0);
    let defaults = IN_TREE.iter().filter(|info| info.by_default == ByDefault::Enabled);
    defaults.map(|info| Plugin { name: info.name.to_owned(), weight: weight(info) }).collect()
}

/// The `multiPoint` list of a profile: default plugins less the disabled ones, one named again in place with its new weight, new ones at the end.
pub fn multi_point(custom: &PluginSet) -> Vec<Plugin> {
    let disabled = |name: &str| custom.disabled.iter().any(|plugin| plugin.name == name || plugin.name == ALL);
    // Of a plugin that is named twice the last one takes the place; the other is found to be a double registration.
    let named = |name: &str| custom.enabled.iter().rposition(|plugin| plugin.name == name);
    let mut replaced = Vec::new();
    let mut enabled: Vec<_> = default_multi_point().into_iter().filter(|plugin| !disabled(&plugin.name)).collect();
    for plugin in &mut enabled {
        if let Some(i) = named(&plugin.name) {
            replaced.push(i);
            plugin.clone_from(&custom.enabled[i]);
        }
    }
    enabled.extend(custom.enabled.iter().enumerate().filter(|(i, _)| !replaced.contains(i)).map(|(_, plugin)| plugin.clone()));
    enabled
}

/// The plugins that run at each point. Names that are unknown, or do not implement the point, are left out: `plugins.rs` has refused them.
pub fn expand(plugins: &Plugins, registry: &Registry) -> PluginPoints {
    let multi_point = multi_point(&plugins.multi_point);
    let mut points = PluginPoints::default();
    for point in ExtensionPoint::ALL {
        points.set(point, expand_point(point, plugins.at(point), &multi_point, registry));
    }
    points
}

fn expand_point(point: ExtensionPoint, set: &PluginSet, multi_point: &[Plugin], registry: &Registry) -> Vec<WeightedPlugin> {
    let disabled = |name: &str| set.disabled.iter().any(|plugin| plugin.name == name);
    let specific = |name: &str| set.enabled.iter().any(|plugin| plugin.name == name);
    let expanded: Vec<&Plugin> = if disabled(ALL) {
        Vec::new()
    } else {
        multi_point.iter().filter(|plugin| implements(registry, &plugin.name, point) && !disabled(&plugin.name)).collect()
    };
    let overrides = |plugin: &&Plugin| expanded.iter().any(|other| other.name == plugin.name);
    // Specific ones that are also in multiPoint, then the rest of multiPoint, then specific ones that are nowhere else.
    let first = set.enabled.iter().filter(overrides);
    let second = expanded.iter().copied().filter(|plugin| !specific(&plugin.name));
    let third = set.enabled.iter().filter(|plugin| !overrides(plugin));
    let mut list: Vec<WeightedPlugin> = Vec::new();
    for plugin in first.chain(second).chain(third) {
        let Some(info) = registry.find(&plugin.name).filter(|info| info.implements(point)) else { continue };
        if list.iter().all(|other| other.name != info.name) {
            list.push(WeightedPlugin { name: info.name, weight: weight(plugin) });
        }
    }
    list
}

fn implements(registry: &Registry, name: &str, point: ExtensionPoint) -> bool {
    registry.find(name).is_some_and(|info| info.implements(point))
}

/// Nothing and 0 count as 1.
fn weight(plugin: &Plugin) -> u32 {
    u32::try_from(plugin.weight.unwrap_or(1)).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(enabled: &[(&str, i32)], disabled: &[&str]) -> PluginSet {
        let plugin = |(name, weight): &(&str, i32)| Plugin { name: (*name).to_owned(), weight: (*weight != 0).then_some(*weight) };
        PluginSet {
            enabled: enabled.iter().map(plugin).collect(),
            disabled: disabled.iter().map(|name| Plugin { name: (*name).to_owned(), weight: None }).collect(),
        }
    }

    fn scores(plugins: &Plugins) -> Vec<(&'static str, u32)> {
        expand(plugins, &Registry::in_tree()).score.iter().map(|plugin| (plugin.name, plugin.weight)).collect()
    }

    fn filters(plugins: &Plugins) -> Vec<&'static str> {
        expand(plugins, &Registry::in_tree()).filter
    }

    const DEFAULT_SCORES: [(&str, u32); 10] = [
        ("ClusterFit", 1),
        ("TaintToleration", 3),
        ("NodeAffinity", 2),
        ("NodeResourcesFit", 1),
        ("VolumeBinding", 1),
        ("PodTopologySpread", 2),
        ("InterPodAffinity", 2),
        ("DynamicResources", 2),
        ("NodeResourcesBalancedAllocation", 1),
        ("ImageLocality", 1),
    ];

    #[test]
    fn defaults_expand_to_upstreams_lists_and_ours() {
        let points = expand(&Plugins::default(), &Registry::in_tree());
        assert_eq!(scores(&Plugins::default()), DEFAULT_SCORES);
        assert_eq!(points.pre_enqueue, ["SchedulingGates", "DynamicResources", "DefaultPreemption"]);
        assert_eq!(points.queue_sort, ["PrioritySort"]);
        let filter = [
            "ClusterFit",
            "ImagePlatform",
            "NodeName",
            "NodeUnschedulable",
            "TaintToleration",
            "NodeAffinity",
            "NodePorts",
            "NodeResourcesFit",
            "VolumeRestrictions",
            "NodeVolumeLimits",
            "VolumeBinding",
            "VolumeZone",
            "PodTopologySpread",
            "InterPodAffinity",
            "DynamicResources",
            "NodeDeclaredFeatures",
        ];
        assert_eq!(points.filter, filter);
        assert_eq!(points.pre_filter, filter);
        assert_eq!(points.post_filter, ["DynamicResources", "DefaultPreemption"]);
        assert_eq!(points.pod_group_post_filter, ["DynamicResources", "DefaultPreemption"]);
        let pre_score = [
            "ClusterFit",
            "TaintToleration",
            "NodeAffinity",
            "NodeResourcesFit",
            "VolumeBinding",
            "PodTopologySpread",
            "InterPodAffinity",
            "NodeResourcesBalancedAllocation",
        ];
        assert_eq!(points.pre_score, pre_score);
        assert_eq!(points.reserve, ["VolumeBinding", "DynamicResources"]);
        assert_eq!(points.pre_bind, ["VolumeBinding", "DynamicResources"]);
        assert_eq!(points.bind, ["DefaultBinder"]);
        assert_eq!(points.placement_score, [WeightedPlugin { name: "NodeResourcesFit", weight: 1 }]);
        assert!(points.permit.is_empty() && points.post_bind.is_empty() && points.placement_generate.is_empty());
    }

    #[test]
    fn a_point_can_disable_some_or_all() {
        let none = Plugins { score: set(&[], &["*"]), ..Plugins::default() };
        assert_eq!(scores(&none), []);
        assert!(!filters(&none).is_empty(), "other points are not touched");
        let one = Plugins { score: set(&[("ImageLocality", 7)], &["*"]), ..Plugins::default() };
        assert_eq!(scores(&one), [("ImageLocality", 7)]);
        let less = Plugins { score: set(&[], &["ImageLocality"]), ..Plugins::default() };
        assert_eq!(scores(&less), DEFAULT_SCORES[..9]);
    }

    #[test]
    fn multi_point_can_disable_some_or_all() {
        let gone = Plugins { multi_point: set(&[], &["ImageLocality", "NodePorts"]), ..Plugins::default() };
        assert_eq!(scores(&gone), DEFAULT_SCORES[..9]);
        assert!(!filters(&gone).contains(&"NodePorts"));
        let own = Plugins { multi_point: set(&[("NodeAffinity", 4), ("NodeName", 0)], &["*"]), ..Plugins::default() };
        assert_eq!((scores(&own), filters(&own)), (vec![("NodeAffinity", 4)], vec!["NodeAffinity", "NodeName"]));
        let both = Plugins { multi_point: set(&[("NodePorts", 0)], &["NodePorts"]), ..Plugins::default() };
        assert_eq!(filters(&both).last(), Some(&"NodePorts"), "enabled beats disabled, and goes to the end");
    }

    #[test]
    fn weights_are_replaced_in_place_by_multi_point_and_in_front_by_the_point() {
        let in_place = Plugins { multi_point: set(&[("NodeAffinity", 9)], &[]), ..Plugins::default() };
        let mut expected = DEFAULT_SCORES.to_vec();
        expected[2].1 = 9;
        assert_eq!(scores(&in_place), expected);
        let in_front = Plugins { score: set(&[("NodeAffinity", 9)], &[]), ..Plugins::default() };
        let mut expected = vec![("NodeAffinity", 9)];
        expected.extend(DEFAULT_SCORES.iter().copied().filter(|(name, _)| *name != "NodeAffinity"));
        assert_eq!(scores(&in_front), expected);
        let both =
            Plugins { score: set(&[("ImageLocality", 5)], &[]), multi_point: set(&[("ImageLocality", 8)], &[]), ..Plugins::default() };
        assert_eq!(scores(&both)[0], ("ImageLocality", 5), "the point wins over multiPoint");
        let unsaid = Plugins { multi_point: set(&[("TaintToleration", 0)], &[]), ..Plugins::default() };
        assert_eq!(scores(&unsaid)[1], ("TaintToleration", 1), "named without weight is 1, not the default weight");
    }

    #[test]
    fn enabled_at_the_point_beats_disabled_there() {
        let plugins = Plugins { score: set(&[("NodeAffinity", 3)], &["NodeAffinity"]), ..Plugins::default() };
        assert_eq!(scores(&plugins).last(), Some(&("NodeAffinity", 3)), "last, as it is not taken from multiPoint");
        let order = Plugins { filter: set(&[("NodePorts", 0), ("NodeName", 0)], &[]), ..Plugins::default() };
        assert_eq!(filters(&order)[..3], ["NodePorts", "NodeName", "ClusterFit"]);
    }

    #[test]
    fn gated_plugins_run_where_they_are_named() {
        let plugins = Plugins { multi_point: set(&[("GangScheduling", 0)], &[]), ..Plugins::default() };
        let points = expand(&plugins, &Registry::in_tree());
        assert_eq!(points.permit, ["GangScheduling"]);
        assert_eq!(points.pre_enqueue.last(), Some(&"GangScheduling"));
    }
}

//! Plugins that this version knows but does not have: what a pod wants in; a refusal that names the plugin and the field out, or nothing.
//!
//! A pod that such a plugin would *filter* for is never placed as if the rule were absent. It stays pending until a version that has the rule, or until
//! the profile disables the plugin, which then is ignored as upstream ignores it. What a plugin would only *rank* by is not counted.

use crate::{
    model::{class::PodClass, pod::Wants},
    scheduler::{
        change::Changes,
        framework::{CompiledFilter, FilterPlugin, Plugin, PodInHand, PreEnqueue, Refusal},
        nodes::Nodes,
        registry::{ExtensionPoint, PluginInfo},
    },
};

/// See the module.
pub struct NotBuilt {
    info: &'static PluginInfo,
}

impl NotBuilt {
    /// Stands in for a plugin of the registry.
    pub fn new(info: &'static PluginInfo) -> Self {
        Self { info }
    }

    /// What of the pod the plugin would judge.
    fn judges(&self, wants: Wants) -> Option<&'static str> {
        let found = [("GangScheduling", wants.pod_group, "the pod has a schedulingGroup")];
        found.into_iter().find(|(plugin, wanted, _)| *plugin == self.info.name && *wanted).map(|(_, _, what)| what)
    }

    fn refusal(&self, wants: Wants) -> Option<Refusal> {
        let what = self.judges(wants)?;
        Some(Refusal::unresolvable(format!("plugin {} is not built into this version: {what}", self.info.name)))
    }
}

impl Plugin for NotBuilt {
    fn name(&self) -> &'static str {
        self.info.name
    }

    /// A plugin that never filters can only hold the pod before the queue.
    fn pre_enqueue(&self) -> Option<&dyn PreEnqueue> {
        (self.info.implements(ExtensionPoint::PreEnqueue) && !self.info.implements(ExtensionPoint::Filter)).then_some(self)
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        self.info.implements(ExtensionPoint::Filter).then_some(self)
    }

    /// Only another version or another profile helps.
    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl PreEnqueue for NotBuilt {
    fn gate(&self, pod: PodInHand<'_>) -> Option<Refusal> {
        self.refusal(pod.class.wants)
    }
}

impl FilterPlugin for NotBuilt {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledFilter {
        self.refusal(class.wants).map_or(CompiledFilter::Skip, CompiledFilter::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::pod::PodSpecFacts,
        scheduler::{
            plugins::fixtures::{World, pod},
            profile::PluginArgs,
        },
    };

    fn wanting(wants: Wants) -> PodSpecFacts {
        PodSpecFacts { wants, ..pod(&[]) }
    }

    #[test]
    fn a_plugin_that_never_filters_holds_the_pod_before_the_queue() {
        let mut world = World::default();
        let plugin = world.plugin("GangScheduling", &PluginArgs::default());
        assert!(plugin.filter().is_none());
        let class = world.class(&wanting(Wants { pod_group: true, ..Wants::default() }));
        let (key, uid) = (crate::model::ids::PodKey::new("d", "p"), crate::model::ids::PodUid::from("u"));
        let refusal = plugin.pre_enqueue().and_then(|gate| gate.gate(PodInHand { key: &key, uid: &uid, class: &class, gates: &[] }));
        let want = "plugin GangScheduling is not built into this version: the pod has a schedulingGroup";
        assert_eq!(refusal, Some(Refusal::unresolvable(want)));
    }
}

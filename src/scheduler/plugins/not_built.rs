//! Plugins that this version knows but does not have: what a pod wants in; a refusal that names the plugin and the field out, or nothing.
//!
//! A pod that such a plugin would *filter* for is never placed as if the rule were absent. It stays pending until a version that has the rule, or until
//! the profile disables the plugin, which then is ignored as upstream ignores it. What a plugin would only *rank* by is not counted.
//!
//! One thing cannot be seen from the pod: features that `NodeDeclaredFeatures` would look for.

use crate::{
    model::{class::PodClass, pod::Wants},
    scheduler::{
        change::Changes,
        framework::{CompiledFilter, FilterPlugin, Plugin, Refusal},
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
        (self.info.name == "DynamicResources" && wants.resource_claims).then_some("the pod has resourceClaims")
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

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        self.info.implements(ExtensionPoint::Filter).then_some(self)
    }

    /// Only another version or another profile helps.
    fn curing_changes(&self) -> Changes {
        Changes::NONE
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
        scheduler::plugins::fixtures::{World, node, pod},
    };

    fn wanting(wants: Wants) -> PodSpecFacts {
        PodSpecFacts { wants, ..pod(&[]) }
    }

    #[test]
    fn names_the_plugin_and_the_field() {
        let none = Wants::default();
        for (plugin, wants, want) in [
            ("DynamicResources", Wants { resource_claims: true, ..none }, "all!* the pod has resourceClaims"),
            ("DynamicResources", Wants { pod_group: true, ..none }, "skip"),
            ("NodeDeclaredFeatures", Wants { pod_group: true, ..none }, "skip"),
        ] {
            let got = World::new([node("a")]).ask(plugin, &wanting(wants));
            assert_eq!(got, [want.replace('*', &format!("plugin {plugin} is not built into this version:"))], "{plugin}");
        }
    }
}

//! Plugins that this version knows but does not have. In: their names. Out: nothing; what they would judge is judged, or refused, by those who have the pods.

use crate::scheduler::{change::Changes, framework::Plugin, registry::PluginInfo};

/// See the module.
pub struct NotBuilt {
    info: &'static PluginInfo,
}

impl NotBuilt {
    /// Stands in for a plugin of the registry.
    pub fn new(info: &'static PluginInfo) -> Self {
        Self { info }
    }
}

impl Plugin for NotBuilt {
    fn name(&self) -> &'static str {
        self.info.name
    }

    /// Only another version or another profile helps.
    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

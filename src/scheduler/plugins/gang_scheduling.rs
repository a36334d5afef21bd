//! `GangScheduling`: pods of a `PodGroup` are held to quorum and placed together. Named in a profile in; `PodGroup`s heeded for its pods out.
//!
//! Source: kube-scheduler v1.37 `GangScheduling` (KEP-4671). What it does concerns many pods at once, so the engine does it (`engine/members.rs`,
//! `engine/together.rs`); here is only that a profile asks for it. Gangs by annotations need no plugin.

use crate::scheduler::{change::Changes, framework::Plugin};

/// See the module.
pub struct GangScheduling;

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        "GangScheduling"
    }

    /// Members that come, and changes of the group, are looked at where members are known.
    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

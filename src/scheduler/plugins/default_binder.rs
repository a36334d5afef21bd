//! `DefaultBinder`: claims every pod's binding; the edge posts it to `pods/<name>/binding`.
//!
//! Source: kube-scheduler v1.37 `DefaultBinder`.

use crate::scheduler::{
    change::Changes,
    framework::{Bind, Plugin, PodInHand},
};

/// See the module.
pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn bind(&self) -> Option<&dyn Bind> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl Bind for DefaultBinder {
    fn handles(&self, _pod: PodInHand<'_>) -> bool {
        true
    }
}

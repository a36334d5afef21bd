//! What is blamed where an extender refused. In: nothing. Out: a name for metrics, and the answer that any change may help, as nobody can know what an
//! extender looks at.
//!
//! Source: kube-scheduler v1.37.1 `ExtenderName` with its `defaultEnqueueExtension`.

use crate::scheduler::framework::Plugin;

/// See the module. At no extension point; nothing enables or disables it.
pub struct Extender;

impl Plugin for Extender {
    fn name(&self) -> &'static str {
        "Extender"
    }
}

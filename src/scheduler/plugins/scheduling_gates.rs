//! `SchedulingGates`: holds a pod back while `spec.schedulingGates` names any. Gates in, a refusal out.
//!
//! Source: kube-scheduler v1.37 `SchedulingGates` (KEP-3521). No change of the cluster cures it: only the pod's own update does.

use crate::scheduler::{
    change::Changes,
    framework::{Plugin, PodInHand, PreEnqueue, Refusal},
};

/// See the module.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self) -> Option<&dyn PreEnqueue> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl PreEnqueue for SchedulingGates {
    fn gate(&self, pod: PodInHand<'_>) -> Option<Refusal> {
        (!pod.gates.is_empty()).then(|| Refusal::unresolvable(format!("waiting for scheduling gates: [{}]", pod.gates.join(" "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ids::{PodKey, PodUid},
        scheduler::plugins::fixtures::{World, pod},
    };

    #[test]
    fn names_every_gate() {
        let (class, key, uid) = (World::default().class(&pod(&[])), PodKey::new("default", "a"), PodUid::from("u"));
        for (gates, want) in [
            (&[][..], None),
            (&["a.io/x".into()], Some("waiting for scheduling gates: [a.io/x]")),
            (&["a.io/x".into(), "b".into()], Some("waiting for scheduling gates: [a.io/x b]")),
        ] {
            let refusal = SchedulingGates.gate(PodInHand { key: &key, uid: &uid, class: &class, gates });
            assert_eq!(refusal, want.map(Refusal::unresolvable));
        }
    }
}

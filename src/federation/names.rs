//! Every label, annotation, taint and finalizer of the federation, and the names that are made of others. In: ids and names. Out: keys and names that
//! mean the same in every release: objects in clusters bear them.

use crate::model::ids::{PodKey, PodUid};

pub use crate::model::placement::{
    ATTEMPT, CLUSTER, CLUSTER_UID, DATA, HOME_CLUSTER, INTENT, NODE, PLACEMENT, RUN_HOME_UID, VIRTUAL_NODE, virtual_node,
};

// === annotations of a home pod: the record of the decision, written with the binding; the others are above ===

/// `namespace/name` of the run over there.
pub const RUN: &str = "isobar.dev/run";

// === labels, annotations and finalizer of a run ===

/// Label: UID of the home cluster's `kube-system` namespace. Only runs with our own are ours.
pub const RUN_HOME_CLUSTER: &str = "isobar.dev/home-cluster";
/// Annotation: namespace of the home pod.
pub const RUN_HOME_NAMESPACE: &str = "isobar.dev/home-namespace";
/// Annotation: name of the home pod.
pub const RUN_HOME_NAME: &str = "isobar.dev/home-name";
/// Annotation: `metadata.generation` of the home pod that the run reflects.
pub const RUN_HOME_GENERATION: &str = "isobar.dev/home-generation";
/// Finalizer of a run that must not vanish before its exit codes and logs are at home.
pub const RUN_FINALIZER: &str = "isobar.dev/run";
/// Label of everything we create over there.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "isobar";
/// Finalizer of a `ComputeCluster`: nothing of ours is left over there when it is dropped.
pub const WIPE_FINALIZER: &str = "isobar.dev/wipe";

/// Finalizer of a home pod that goes when its logs are saved; the room of tasks sets it.
pub const LOGS_FINALIZER: &str = "isobar.dev/logs";

/// Condition of a home pod: where it was placed.
pub const PLACED_CONDITION: &str = "isobar.dev/RemotePlaced";

/// Characters of a home pod's name that a run's name keeps.
const NAME_CHARS_MAX: usize = 60;

/// The run's name: the same for the same pod and attempt, so that creating it again meets `AlreadyExists`.
pub fn run_name(home: &PodKey, uid: &PodUid, attempt: u32) -> String {
    let beginning = &home.name[..home.name.floor_char_boundary(NAME_CHARS_MAX)];
    let uid: String = uid.0.chars().filter(|c| *c != '-').collect();
    format!("{}-{uid}-{attempt}", beginning.trim_end_matches(['-', '.']))
}

/// The run namespace unless the admin chose one: unique to this home cluster.
pub fn run_namespace(home_cluster_uid: &str) -> String {
    format!("isobar-{}", &home_cluster_uid[..home_cluster_uid.floor_char_boundary(8)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_pod_and_attempt() {
        let uid = PodUid::from("0a1b-2c");
        assert_eq!(run_name(&PodKey::new("ns", "web-0"), &uid, 1), "web-0-0a1b2c-1");
        let long = format!("{}-{}", "a".repeat(59), "b".repeat(30));
        assert_eq!(run_name(&PodKey::new("ns", &long), &uid, 12), format!("{}-0a1b2c-12", "a".repeat(59)));
        assert_eq!(run_namespace("12345678-9abc"), "isobar-12345678");
        assert_eq!(virtual_node("cloud"), "isobar-cloud");
    }
}

//! Every label, annotation, taint and finalizer of the federation, and the names that are made of others. In: ids and names. Out: keys and names that
//! mean the same in every release: objects in clusters bear them.

use crate::model::ids::{PodKey, PodUid};

/// On nodes as rules see them, and on virtual Nodes: the name of the compute cluster. Also the key of the virtual Node's taint and, on a placed home pod,
/// the annotation with the cluster that was decided.
pub const CLUSTER: &str = "isobar.dev/cluster";
/// Marks a Node object at home that stands for a compute cluster: no place for pods by itself.
pub const VIRTUAL_NODE: &str = "isobar.dev/virtual-node";
/// Value of [`CLUSTER`] on the nodes of the home cluster, so that `nodeSelector` can ask for home. No compute cluster may have this name.
pub const HOME_CLUSTER: &str = "home";

/// Annotation of a pod, label of a namespace: where its pods may go: `home`, `remote`, `any`, or names of clusters, separated by `,` or `_`.
pub const PLACEMENT: &str = "isobar.dev/placement";
/// Annotation of a pod: names of data sets it reads, separated by commas; clusters that list one of them are better.
pub const DATA: &str = "isobar.dev/data";

// === annotations of a home pod: the record of the decision, written with the binding ===

/// UID of the chosen cluster's `kube-system` namespace.
pub const CLUSTER_UID: &str = "isobar.dev/cluster-uid";
/// The chosen node over there.
pub const NODE: &str = "isobar.dev/node";
/// How often a run was created for this pod, this one included; from 1.
pub const ATTEMPT: &str = "isobar.dev/attempt";
/// `namespace/name` of the run over there.
pub const RUN: &str = "isobar.dev/run";
/// Present while the decision is an intent only (`commit: CreateFirst`): the binding is still to come.
pub const INTENT: &str = "isobar.dev/intent";

// === labels, annotations and finalizer of a run ===

/// Label: UID of the home cluster's `kube-system` namespace. Only runs with our own are ours.
pub const RUN_HOME_CLUSTER: &str = "isobar.dev/home-cluster";
/// Label: UID of the home pod.
pub const RUN_HOME_UID: &str = "isobar.dev/home-pod-uid";
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

/// The virtual Node that stands for a cluster.
pub fn virtual_node(cluster: &str) -> String {
    format!("isobar-{cluster}")
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

//! Where a pod may go and where it was decided to go, as objects say it. In: labels and annotations of the federation. Out: what filters, scores and the
//! accounting of home pods read.

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

/// UID of the chosen cluster's `kube-system` namespace.
pub const CLUSTER_UID: &str = "isobar.dev/cluster-uid";
/// The chosen node over there.
pub const NODE: &str = "isobar.dev/node";
/// How often a run was created for this pod, this one included; from 1.
pub const ATTEMPT: &str = "isobar.dev/attempt";
/// Present while the decision is an intent only (`commit: CreateFirst`): the binding is still to come.
pub const INTENT: &str = "isobar.dev/intent";
/// Label of a run: UID of its home pod.
pub const RUN_HOME_UID: &str = "isobar.dev/home-pod-uid";

/// Stands for the part of a pod's name that differs between replicas, in [`TravelFacts::claims`]. No name of Kubernetes has this character.
pub const REPLICA: char = '#';

/// The virtual Node that stands for a cluster.
pub fn virtual_node(cluster: &str) -> String {
    format!("isobar-{cluster}")
}

/// Whether `node` is the virtual Node of `cluster`.
pub fn is_virtual_node(node: &str, cluster: &str) -> bool {
    node.strip_prefix("isobar-").is_some_and(|name| name == cluster)
}

/// Whether a placement (of a pod or a namespace) leaves a cluster to choose. An empty one leaves all.
pub fn placement_admits(placement: &str, cluster: &str) -> bool {
    let mut words = placement.split([',', '_']).map(str::trim).filter(|word| !word.is_empty()).peekable();
    let is_home = cluster == HOME_CLUSTER;
    words.peek().is_none() || words.any(|word| word == "any" || word == cluster || (word == "remote" && !is_home))
}

/// The decision that a home pod's annotations record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedPlacement {
    /// Name of the cluster.
    pub cluster: Box<str>,
    /// The node over there.
    pub node: Box<str>,
    /// Whether the binding is still to come.
    pub intent: bool,
}

/// What of a pod matters only where it may leave home. Absent where there is nothing to say, which is the common case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // a set of independent flags
pub struct TravelFacts {
    /// Annotation [`PLACEMENT`].
    pub placement: Option<Box<str>>,
    /// Annotation [`DATA`], split.
    pub data: Vec<Box<str>>,
    /// Claims of its volumes; the part of the pod's own name that differs between replicas is [`REPLICA`], or every replica would be a class of its own.
    pub claims: Vec<Box<str>>,
    /// Drivers of inline CSI volumes.
    pub csi_drivers: Vec<Box<str>>,
    /// Servers of inline NFS volumes.
    pub nfs_servers: Vec<Box<str>>,
    /// Field of the first volume that is of no kind that can travel.
    pub fixed_volume: Option<Box<str>>,
    /// `spec.runtimeClassName`.
    pub runtime_class: Option<Box<str>>,
    /// Host network, host PIDs or host IPC.
    pub host_namespaces: bool,
    /// A volume of kind `hostPath`.
    pub host_path: bool,
    /// A service-account token that the pod itself asks for in a projected volume; the one that the API server adds does not count.
    pub token: bool,
    /// A DaemonSet owns it, or it is the mirror of a static pod.
    pub tied_to_node: bool,
    /// How many of its images are volumes, which have no platform; they stand last.
    pub image_volumes: usize,
}

/// Whether a text matches a pattern in which `*` stands for any text; an empty pattern matches everything.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern.is_empty() || pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// A claim's name with the pod's own name in it generalised: `data-web-0` of pod `web-0` becomes `data-web-#`.
pub fn generalised_claim(claim: &str, pod: &str) -> String {
    let Some(at) = claim.find(pod).filter(|_| !pod.is_empty()) else { return claim.to_owned() };
    let kept = pod.rfind('-').map_or(0, |dash| dash + 1);
    format!("{}{}{REPLICA}{}", &claim[..at], &pod[..kept], &claim[at + pod.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_placement() {
        for (placement, home, cloud) in [
            ("", true, true),
            ("any", true, true),
            ("home", true, false),
            ("remote", false, true),
            ("cloud", false, true),
            ("home,cloud", true, true),
            ("arm_home", true, false),
            (" arm , gpu ", false, false),
        ] {
            assert_eq!((placement_admits(placement, "home"), placement_admits(placement, "cloud")), (home, cloud), "{placement:?}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("", "x", true),
            ("*", "x", true),
            ("ws-*", "ws-anna", true),
            ("ws-*", "data-ws-anna", false),
            ("*-anna", "ws-anna", true),
            ("ws", "ws-anna", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn replicas_share_the_name_of_their_claims() {
        assert_eq!(generalised_claim("data-web-0", "web-0"), "data-web-#");
        assert_eq!(generalised_claim("data-web-0", "job"), "data-web-0");
        assert_eq!(generalised_claim("bare", "bare"), "#");
        assert!(is_virtual_node(&virtual_node("cloud"), "cloud") && !is_virtual_node("isobar-cloud", "clou"));
    }
}

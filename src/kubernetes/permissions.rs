//! Every kind of call that the program makes on an API server, and why. The one list: manifests are tested to grant exactly this.
//!
//! A call that is added anywhere in `kubernetes/` gets its line here; then the tests say which manifest to change.

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In all namespaces, or on what has none.
    Cluster,
    /// In the namespace of the lease, on any name: Kubernetes cannot limit `create` to a name.
    LeaseNamespace,
    /// In the namespace of the lease, on the lease's name alone.
    Lease,
    /// In `kube-node-lease`.
    NodeLeases,
    /// In our own namespace.
    OwnNamespace,
    /// In our own namespace, on the name of the object with the debts alone.
    Debts,
    /// In the run namespace of a compute cluster.
    RunNamespace,
}

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Resource, with its subresource: `pods/binding`.
    pub resource: &'static str,
    /// Kubernetes' verb.
    pub verb: &'static str,
    /// Where.
    pub scope: Scope,
    /// What for.
    pub why: &'static str,
}

const fn call(group: &'static str, resource: &'static str, verb: &'static str, scope: Scope, why: &'static str) -> Permission {
    Permission { group, resource, verb, scope, why }
}

/// All of them.
pub static PERMISSIONS: &[Permission] = &[
    call("", "nodes", "list", Scope::Cluster, "where pods can go: labels, taints, capacity, images"),
    call("", "nodes", "watch", Scope::Cluster, "changes of nodes"),
    call("", "pods", "list", Scope::Cluster, "what waits, and what runs where"),
    call("", "pods", "watch", Scope::Cluster, "changes of pods"),
    call("", "pods", "get", Scope::Cluster, "what became of a binding without an answer"),
    call("", "namespaces", "list", Scope::Cluster, "labels that pod affinity chooses namespaces by; placement labels"),
    call("", "namespaces", "watch", Scope::Cluster, "changes of these labels"),
    call("", "services", "list", Scope::Cluster, "whose pods belong together, for default topology spread"),
    call("", "services", "watch", Scope::Cluster, "changes of that"),
    call("", "replicationcontrollers", "list", Scope::Cluster, "as of services"),
    call("", "replicationcontrollers", "watch", Scope::Cluster, "changes of that"),
    call("apps", "replicasets", "list", Scope::Cluster, "as of services"),
    call("apps", "replicasets", "watch", Scope::Cluster, "changes of that"),
    call("apps", "statefulsets", "list", Scope::Cluster, "as of services"),
    call("apps", "statefulsets", "watch", Scope::Cluster, "changes of that"),
    call("", "persistentvolumeclaims", "list", Scope::Cluster, "what the claims of a pod are bound to; which claims clusters map"),
    call("", "persistentvolumeclaims", "watch", Scope::Cluster, "changes of claims"),
    call("", "persistentvolumeclaims", "patch", Scope::Cluster, "near which node the volume of a claim is to be made"),
    call("", "persistentvolumes", "list", Scope::Cluster, "which volumes there are, and which nodes reach them"),
    call("", "persistentvolumes", "watch", Scope::Cluster, "changes of volumes"),
    call("", "persistentvolumes", "patch", Scope::Cluster, "which claim a volume is given to"),
    call("storage.k8s.io", "storageclasses", "list", Scope::Cluster, "when claims of a class are bound, and where volumes can be made"),
    call("storage.k8s.io", "storageclasses", "watch", Scope::Cluster, "changes of that"),
    call("storage.k8s.io", "csinodes", "list", Scope::Cluster, "how many volumes of a driver a node takes"),
    call("storage.k8s.io", "csinodes", "watch", Scope::Cluster, "changes of that"),
    call("storage.k8s.io", "csidrivers", "list", Scope::Cluster, "whether a driver counts its room"),
    call("storage.k8s.io", "csidrivers", "watch", Scope::Cluster, "changes of that"),
    call("storage.k8s.io", "csistoragecapacities", "list", Scope::Cluster, "how much room a driver has near which nodes"),
    call("storage.k8s.io", "csistoragecapacities", "watch", Scope::Cluster, "changes of that"),
    call("storage.k8s.io", "volumeattachments", "list", Scope::Cluster, "what is attached to a node beside what its pods use"),
    call("storage.k8s.io", "volumeattachments", "watch", Scope::Cluster, "changes of that"),
    call("resource.k8s.io", "resourceclaims", "list", Scope::Cluster, "which claims of devices are allocated, and where they can be used"),
    call("resource.k8s.io", "resourceclaims", "watch", Scope::Cluster, "changes of that"),
    call("resource.k8s.io", "resourceclaims/status", "patch", Scope::Cluster, "for which pods an allocated claim is reserved"),
    call("resource.k8s.io", "resourceclaims/binding", "patch", Scope::Cluster, "the same, where the API server asks for this as well"),
    call("policy", "poddisruptionbudgets", "list", Scope::Cluster, "whom preemption would rather spare"),
    call("policy", "poddisruptionbudgets", "watch", Scope::Cluster, "changes of that"),
    call("", "pods/binding", "create", Scope::Cluster, "the decision"),
    call("", "pods/status", "patch", Scope::Cluster, "why a pod waits, which node it is to get, why one is preempted"),
    call(
        "",
        "pods",
        "delete",
        Scope::Cluster,
        "preemption; in a federation also the end of placed pods, drain and loss; of tasks, pods whose logs are saved",
    ),
    call("events.k8s.io", "events", "create", Scope::Cluster, "Scheduled, FailedScheduling, and news of our own"),
    call("events.k8s.io", "events", "patch", Scope::Cluster, "the count of an event that repeats"),
    call("authentication.k8s.io", "tokenreviews", "create", Scope::Cluster, "whose token a caller of /metrics shows"),
    call("authorization.k8s.io", "subjectaccessreviews", "create", Scope::Cluster, "whether that caller may read it"),
    call("coordination.k8s.io", "leases", "create", Scope::LeaseNamespace, "the first replica makes the lease"),
    call("coordination.k8s.io", "leases", "get", Scope::Lease, "who leads"),
    call("coordination.k8s.io", "leases", "update", Scope::Lease, "take, renew and give back the lead"),
];

/// What the federation asks of the home cluster beside [`PERMISSIONS`].
pub static FEDERATION: &[Permission] = &[
    call("isobar.dev", "computeclusters", "get", Scope::Cluster, "whether a cluster's object is really gone"),
    call("isobar.dev", "computeclusters", "list", Scope::Cluster, "which clusters there are"),
    call("isobar.dev", "computeclusters", "watch", Scope::Cluster, "changes of clusters"),
    call("isobar.dev", "computeclusters", "patch", Scope::Cluster, "the finalizer that waits for the wipe"),
    call("isobar.dev", "computeclusters/status", "patch", Scope::Cluster, "conditions and counts"),
    call("", "nodes", "get", Scope::Cluster, "whether the virtual Node is there, and cordoned"),
    call("", "nodes", "create", Scope::Cluster, "the virtual Node of a cluster"),
    call("", "nodes", "patch", Scope::Cluster, "labels and taint of a virtual Node"),
    call("", "nodes", "delete", Scope::Cluster, "the virtual Node of a cluster that was removed"),
    call("", "nodes/status", "patch", Scope::Cluster, "capacity, address and readiness of a virtual Node"),
    call("coordination.k8s.io", "leases", "get", Scope::NodeLeases, "the Lease of a virtual Node before it is deleted"),
    call("coordination.k8s.io", "leases", "create", Scope::NodeLeases, "the Lease of a virtual Node"),
    call("coordination.k8s.io", "leases", "patch", Scope::NodeLeases, "its renewal"),
    call("coordination.k8s.io", "leases", "delete", Scope::NodeLeases, "the Lease of a cluster that was removed"),
    call("", "namespaces", "get", Scope::Cluster, "who we are: the UID of kube-system"),
    call("", "persistentvolumeclaims", "get", Scope::Cluster, "labels of a claim that is mapped"),
    call("", "configmaps", "get", Scope::Cluster, "keys that a placed pod references travel with its run"),
    call("", "secrets", "get", Scope::Cluster, "keys and pull secrets that a placed pod references; kubeconfigs of clusters"),
    call("", "serviceaccounts", "get", Scope::Cluster, "pull secrets of a placed pod's account"),
    call("", "events", "create", Scope::Cluster, "events of a run, told on its home pod with their own source"),
    call("", "events", "patch", Scope::Cluster, "the count of one that repeats"),
    call("", "pods", "patch", Scope::Cluster, "the decision's annotations, patience of placed pods"),
    call("", "pods/eviction", "create", Scope::Cluster, "drains a cluster, budgets respected"),
    call("", "configmaps", "create", Scope::OwnNamespace, "what clusters that were removed by force still hold"),
    call("", "configmaps", "patch", Scope::Debts, "more of it, and less"),
    call("certificates.k8s.io", "certificatesigningrequests", "create", Scope::Cluster, "the serving certificate of the kubelet endpoint"),
    call("certificates.k8s.io", "certificatesigningrequests", "get", Scope::Cluster, "whether it is signed"),
    call("certificates.k8s.io", "certificatesigningrequests", "delete", Scope::Cluster, "the request once it is answered"),
    call("certificates.k8s.io", "certificatesigningrequests/approval", "update", Scope::Cluster, "approves our own request"),
];

/// What `PodGroup`s ask of the home cluster beside [`PERMISSIONS`].
pub static POD_GROUPS: &[Permission] = &[
    call("scheduling.k8s.io", "podgroups", "list", Scope::Cluster, "which pods are placed together or not at all"),
    call("scheduling.k8s.io", "podgroups", "watch", Scope::Cluster, "changes of that"),
    call("scheduling.k8s.io", "podgroups/status", "patch", Scope::Cluster, "whether the group could be scheduled"),
];

/// What tasks ask of the home cluster beside [`PERMISSIONS`].
pub static TASKS: &[Permission] = &[
    call("isobar.dev", "tasks", "get", Scope::Cluster, "a task whose status was written by somebody else"),
    call("isobar.dev", "tasks", "list", Scope::Cluster, "which tasks there are"),
    call("isobar.dev", "tasks", "watch", Scope::Cluster, "changes of tasks"),
    call("isobar.dev", "tasks", "create", Scope::Cluster, "a task that a caller of the HTTP API registers, who may"),
    call("isobar.dev", "tasks", "patch", Scope::Cluster, "one that a caller of the HTTP API changes, suspends or resumes"),
    call("events.k8s.io", "events", "list", Scope::Cluster, "what happened to a task or a run, for callers of the HTTP API"),
    call("isobar.dev", "tasks/status", "update", Scope::Cluster, "whether it is valid; the watermark of its clock"),
    call("isobar.dev", "taskruns", "get", Scope::Cluster, "a run before its pod is made, and after a write that was overtaken"),
    call("isobar.dev", "taskruns", "list", Scope::Cluster, "which runs there are"),
    call("isobar.dev", "taskruns", "watch", Scope::Cluster, "changes of runs"),
    call("isobar.dev", "taskruns", "create", Scope::Cluster, "the run of a firing"),
    call("isobar.dev", "taskruns", "patch", Scope::Cluster, "what a run of people takes from its task"),
    call("isobar.dev", "taskruns", "delete", Scope::Cluster, "runs that were kept long enough"),
    call("isobar.dev", "taskruns/status", "update", Scope::Cluster, "what becomes of a run"),
    call("", "pods", "create", Scope::Cluster, "the pod of an attempt"),
    call("", "pods", "patch", Scope::Cluster, "takes our finalizer from a pod whose logs are saved"),
    call("", "pods/log", "get", Scope::Cluster, "its logs, before it goes"),
    call("scheduling.k8s.io", "priorityclasses", "list", Scope::Cluster, "which run starts first"),
    call("scheduling.k8s.io", "priorityclasses", "watch", Scope::Cluster, "changes of that"),
];

/// A call on a compute cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemotePermission {
    /// What, where and what for.
    pub call: Permission,
    /// What is missing without it; `None`: without it no pod is placed.
    pub without: Option<&'static str>,
}

const fn needed(resource: &'static str, verb: &'static str, scope: Scope, why: &'static str) -> RemotePermission {
    RemotePermission { call: call("", resource, verb, scope, why), without: None }
}

const fn useful(resource: &'static str, verb: &'static str, scope: Scope, why: &'static str, without: &'static str) -> RemotePermission {
    RemotePermission { call: call("", resource, verb, scope, why), without: Some(without) }
}

const OTHERS_PODS: &str =
    "pods of other namespaces are not seen (pods list, watch): capacity is what nodes say less our own runs; pin: Affinity fits";
const STREAMS: &str = "kubectl exec, cp, attach or port-forward will not work (pods/exec, pods/attach, pods/portforward create)";
const CHANGES: &str = "changes of running pods will not arrive (pods/ephemeralcontainers, pods/resize patch)";
const EVENTS: &str = "events of runs are not seen at home, and stay until they age out (events list, watch, delete)";
const QUOTAS: &str = "the run namespace's quota is not seen (resourcequotas list): placements may be refused";

/// What is asked of a compute cluster. `manifests/remote-cluster` and `isobar cluster role` grant exactly this.
pub static REMOTE: &[RemotePermission] = &[
    needed("nodes", "list", Scope::Cluster, "where runs can go"),
    needed("nodes", "watch", Scope::Cluster, "changes of nodes"),
    needed("namespaces", "get", Scope::Cluster, "who it is: the UID of kube-system; whether the run namespace exists"),
    useful("pods", "list", Scope::Cluster, "what others use of the nodes", OTHERS_PODS),
    useful("pods", "watch", Scope::Cluster, "changes of that", OTHERS_PODS),
    needed("pods", "get", Scope::RunNamespace, "what became of a run"),
    needed("pods", "list", Scope::RunNamespace, "our runs"),
    needed("pods", "watch", Scope::RunNamespace, "changes of runs"),
    needed("pods", "create", Scope::RunNamespace, "starts a run"),
    needed("pods", "patch", Scope::RunNamespace, "finalizer and images of a run"),
    needed("pods", "delete", Scope::RunNamespace, "ends a run"),
    needed("pods/log", "get", Scope::RunNamespace, "logs, which are kept at home"),
    useful("pods/exec", "create", Scope::RunNamespace, "kubectl exec and cp", STREAMS),
    useful("pods/exec", "get", Scope::RunNamespace, "the same over WebSocket", STREAMS),
    useful("pods/attach", "create", Scope::RunNamespace, "kubectl attach", STREAMS),
    useful("pods/attach", "get", Scope::RunNamespace, "the same over WebSocket", STREAMS),
    useful("pods/portforward", "create", Scope::RunNamespace, "kubectl port-forward", STREAMS),
    useful("pods/portforward", "get", Scope::RunNamespace, "the same over WebSocket", STREAMS),
    useful("pods/ephemeralcontainers", "patch", Scope::RunNamespace, "kubectl debug", CHANGES),
    useful("pods/resize", "patch", Scope::RunNamespace, "resources that change in place", CHANGES),
    needed("secrets", "get", Scope::RunNamespace, "whether a bundle is there"),
    needed("secrets", "list", Scope::RunNamespace, "whether nothing of ours is left"),
    needed("secrets", "create", Scope::RunNamespace, "what a pod references"),
    needed("secrets", "patch", Scope::RunNamespace, "ties a bundle to its run"),
    needed("secrets", "delete", Scope::RunNamespace, "wipes it"),
    useful("events", "list", Scope::RunNamespace, "what happened to a run", EVENTS),
    useful("events", "watch", Scope::RunNamespace, "what happens to it", EVENTS),
    useful("events", "delete", Scope::RunNamespace, "wipes it", EVENTS),
    useful("resourcequotas", "list", Scope::RunNamespace, "what may still be requested", QUOTAS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_listed_once_with_a_reason() {
        let home: Vec<Permission> = PERMISSIONS.iter().chain(FEDERATION).copied().collect();
        let remote: Vec<Permission> = REMOTE.iter().map(|remote| remote.call).collect();
        let tasks = PERMISSIONS.iter().chain(TASKS).copied().collect();
        for list in [home, remote, tasks] {
            for (index, call) in list.iter().enumerate() {
                assert!(!call.why.is_empty());
                let named = |call: &Permission| (call.group, call.resource, call.verb, call.scope);
                // `create` of leases is granted in two places, for two reasons.
                assert!(!list[..index].iter().any(|other| named(other) == named(call)), "{call:?} twice");
            }
        }
    }
}

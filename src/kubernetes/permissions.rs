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
    call("", "pods/binding", "create", Scope::Cluster, "the decision"),
    call("", "pods/status", "patch", Scope::Cluster, "condition PodScheduled: why a pod waits"),
    call("events.k8s.io", "events", "create", Scope::Cluster, "Scheduled, FailedScheduling, and news of our own"),
    call("events.k8s.io", "events", "patch", Scope::Cluster, "the count of an event that repeats"),
    call("authentication.k8s.io", "tokenreviews", "create", Scope::Cluster, "whose token a caller of /metrics shows"),
    call("authorization.k8s.io", "subjectaccessreviews", "create", Scope::Cluster, "whether that caller may read it"),
    call("coordination.k8s.io", "leases", "create", Scope::LeaseNamespace, "the first replica makes the lease"),
    call("coordination.k8s.io", "leases", "get", Scope::Lease, "who leads"),
    call("coordination.k8s.io", "leases", "update", Scope::Lease, "take, renew and give back the lead"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_listed_once_with_a_reason() {
        for (index, call) in PERMISSIONS.iter().enumerate() {
            assert!(!call.why.is_empty());
            let same = |other: &Permission| (other.group, other.resource, other.verb) == (call.group, call.resource, call.verb);
            assert!(!PERMISSIONS[..index].iter().any(same), "{call:?} twice");
        }
    }
}

//! What Isobar may do on a compute cluster, as manifests. In: the list of calls. Out: the objects that the remote side's admin applies; they grant exactly the
//! list.

use serde_json::{Map, Value, json};

use super::wipe::POD_SECURITY;
use crate::kubernetes::permissions::{Permission, REMOTE, Scope};

/// Name of the account over there, and of its roles.
pub const ACCOUNT: &str = "isobar";
/// Namespace of the account: not that of the runs, in which pods could otherwise name it as theirs.
pub const ACCOUNT_NAMESPACE: &str = "isobar-access";

/// All objects, in the order in which they are applied.
pub fn objects(run_namespace: &str) -> Vec<Value> {
    vec![
        namespace(ACCOUNT_NAMESPACE, "restricted"),
        namespace(run_namespace, POD_SECURITY),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": ACCOUNT_NAMESPACE},
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {
                "name": format!("{ACCOUNT}-token"), "namespace": ACCOUNT_NAMESPACE,
                "annotations": {"kubernetes.io/service-account.name": ACCOUNT},
            },
        }),
        role("ClusterRole", None, Scope::Cluster),
        binding("ClusterRole", None),
        role("Role", Some(run_namespace), Scope::RunNamespace),
        binding("Role", Some(run_namespace)),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny-ingress", "namespace": run_namespace},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        }),
        // Runs bring no account of their own; this one is nobody's.
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": run_namespace},
            "automountServiceAccountToken": false,
        }),
    ]
}

/// The objects as one YAML file.
pub fn text(run_namespace: &str) -> Result<String, serde_saphyr::ser_error::Error> {
    let documents: Result<Vec<String>, _> = objects(run_namespace).iter().map(serde_saphyr::to_string).collect();
    Ok(format!(
        "# What Isobar may do on this cluster: read nodes and pods, and run pods in {run_namespace}; nothing else. Apply it, then make a kubeconfig of the\n\
         # token in Secret {ACCOUNT_NAMESPACE}/{ACCOUNT}-token and give that to `isobar cluster add`.\n{}",
        documents?.join("---\n")
    ))
}

fn namespace(name: &str, level: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": level}}})
}

fn named(namespace: Option<&str>) -> Value {
    let mut metadata = Map::from_iter([("name".to_owned(), json!(ACCOUNT))]);
    if let Some(namespace) = namespace {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    metadata.into()
}

/// Verbs of one resource together, resources with the same verbs together.
fn role(kind: &str, namespace: Option<&str>, scope: Scope) -> Value {
    let calls: Vec<&Permission> = REMOTE.iter().map(|remote| &remote.call).filter(|call| call.scope == scope).collect();
    let mut rules: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
    for call in &calls {
        if rules.iter().any(|(group, resources, _)| *group == call.group && resources.contains(&call.resource)) {
            continue;
        }
        let same = |other: &&&Permission| (other.group, other.resource) == (call.group, call.resource);
        let verbs: Vec<&str> = calls.iter().filter(same).map(|call| call.verb).collect();
        match rules.iter_mut().find(|(group, _, known)| *group == call.group && *known == verbs) {
            Some((_, resources, _)) => resources.push(call.resource),
            None => rules.push((call.group, vec![call.resource], verbs)),
        }
    }
    let rules: Vec<Value> =
        rules.into_iter().map(|(group, resources, verbs)| json!({"apiGroups": [group], "resources": resources, "verbs": verbs})).collect();
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": named(namespace), "rules": rules})
}

fn binding(kind: &str, namespace: Option<&str>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"), "metadata": named(namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": ACCOUNT_NAMESPACE}],
    })
}

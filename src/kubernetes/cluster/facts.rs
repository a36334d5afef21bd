//! What others are told of a cluster. In: its spec, its quota, why it is closed. Out: facts for the engine, the policy for the machine of its runs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    config::duration,
    federation::{
        effect::Policy,
        names,
        spec::{ClusterState, ComputeClusterSpec, Drain, LogCopy},
    },
    model::{
        cluster::{ClaimRule, ClusterFacts},
        ids::ClusterId,
        labels::LabelFacts,
        quantity::Quantity,
        resources::{ResourceKind, ResourceList},
        time::DurationMs,
    },
};

/// The run namespace: what the admin chose, or the one that is unique to us.
pub fn run_namespace(spec: &ComputeClusterSpec, home_uid: &str) -> Box<str> {
    let chosen = spec.run_namespace.clone().filter(|name| !name.is_empty());
    chosen.unwrap_or_else(|| names::run_namespace(home_uid)).into()
}

/// A span of the spec; `None` when it is empty or no span, which the definition's patterns exclude.
pub fn span(text: &str) -> Option<DurationMs> {
    if text.is_empty() { None } else { duration::parse(text) }
}

/// What in a spec means nothing although it could be read.
pub fn problem(spec: &ComputeClusterSpec) -> Option<String> {
    let spans = [
        ("drain.deadline", &spec.drain.deadline),
        ("lost.notReadyAfter", &spec.lost.not_ready_after),
        ("lost.evictAfter", &spec.lost.evict_after),
        ("lost.forgetAfter", &spec.lost.forget_after),
    ];
    if let Some((field, text)) = spans.iter().find(|(_, text)| !text.is_empty() && span(text).is_none()) {
        return Some(format!("spec.{field}: {text:?} is not a span of time; write for example 90s or 10m"));
    }
    for (field, list) in [("reserve", &spec.reserve), ("resourceCap", &spec.resource_cap)] {
        if let Err(why) = resources(list) {
            return Some(format!("spec.{field}: {why}"));
        }
    }
    let reference = &spec.access.kubeconfig_secret_ref;
    (reference.name.is_empty() || reference.namespace.is_empty())
        .then(|| "spec.access.kubeconfigSecretRef: name and namespace are needed".to_owned())
}

fn resources(list: &BTreeMap<String, String>) -> Result<ResourceList, String> {
    let parsed = list.iter().map(|(name, text)| Ok((name.as_str().into(), Quantity::parse(text).map_err(|error| error.to_string())?)));
    parsed.collect()
}

/// Facts for the engine. Amounts that mean nothing were refused before.
pub fn cluster_facts(id: ClusterId, name: &str, spec: &ComputeClusterSpec, quota: &ResourceList, closed: Option<&str>) -> ClusterFacts {
    let boxed = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    let claims = spec.volumes.iter().map(|rule| ClaimRule {
        namespace: rule.matches.namespace.as_str().into(),
        name: rule.matches.claim_name.as_str().into(),
        labels: labels(&rule.matches.labels),
    });
    ClusterFacts {
        id,
        name: name.into(),
        closed: closed.map(Into::into),
        node_selector: labels(&spec.node_selector),
        excluded_taints: boxed(&spec.excluded_taints),
        reserve: resources(&spec.reserve).unwrap_or_default(),
        runs_max: spec.runs_max,
        resource_cap: resources(&spec.resource_cap).unwrap_or_default(),
        quota_left: quota.clone(),
        preference: spec.preference.0,
        data: boxed(&spec.data),
        claims: claims.collect(),
        host_ports: spec.allow.host_ports,
        csi_drivers: boxed(&spec.allow.csi_drivers),
        nfs_servers: boxed(&spec.allow.nfs_servers),
        runtime_classes: spec.maps.runtime_classes.keys().map(|name| name.as_str().into()).collect(),
    }
}

fn labels(map: &BTreeMap<String, String>) -> LabelFacts {
    map.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// What the machine of the runs is told.
pub fn policy(name: &str, cluster_uid: &str, home_uid: &str, spec: &ComputeClusterSpec, removal: Removal) -> Policy {
    let drains = removal != Removal::None || spec.state == ClusterState::Draining;
    Policy {
        cluster: name.into(),
        cluster_uid: cluster_uid.into(),
        run_namespace: run_namespace(spec, home_uid),
        commit: spec.commit_order(),
        lost: spec.lost.clone(),
        drain: drains.then(|| Drain { ..spec.drain.clone() }),
        abandoned: removal == Removal::Forced,
        // Either way they are read to their end before a run is reaped.
        archive_logs: matches!(spec.logs, LogCopy::Follow | LogCopy::AtEnd),
    }
}

/// Whether the cluster is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It stays.
    None,
    /// Drained, wiped, gone.
    Orderly,
    /// It does not answer, and goes all the same.
    Forced,
}

/// What quotas of the run namespace leave for requests: the least of what each of them has left. Quotas that are limited to some pods are left out, as
/// whether they count for a run is not known.
pub fn quota_left(quotas: &[Value]) -> ResourceList {
    let mut left = ResourceList::default();
    for quota in quotas.iter().filter(|quota| quota["spec"]["scopes"].is_null() && quota["spec"]["scopeSelector"].is_null()) {
        for (name, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
            let Some(resource) = requested(name) else { continue };
            let amount = |value: &Value| value.as_str().and_then(|text| Quantity::parse(text).ok());
            let Some(hard) = amount(hard) else { continue };
            let used = amount(&quota["status"]["used"][name]).unwrap_or_default();
            let free = if ResourceKind::of(resource) == ResourceKind::Cpu {
                Quantity::from_milli(hard.milli().saturating_sub(used.milli()).max(0))
            } else {
                Quantity::from_units(hard.units().saturating_sub(used.units()).max(0))
            };
            if left.get(resource).is_none_or(|known| free < known) {
                left.set(resource, free);
            }
        }
    }
    left
}

/// The resource whose requests a quota's name bounds.
fn requested(name: &str) -> Option<&str> {
    match name {
        "cpu" | "memory" | "ephemeral-storage" | "pods" => Some(name),
        "count/pods" => Some("pods"),
        _ => name.strip_prefix("requests.").filter(|resource| ResourceKind::of(resource) != ResourceKind::Ignored),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tightest_quota_counts() {
        let quotas = [
            json!({"spec": {}, "status": {"hard": {"requests.cpu": "4", "limits.cpu": "1", "pods": "10"}, "used": {"requests.cpu": "1500m", "pods": "3"}}}),
            json!({"spec": {}, "status": {"hard": {"cpu": "2", "requests.nvidia.com/gpu": "1", "count/pods": "20"}, "used": {"cpu": "3"}}}),
            json!({"spec": {"scopes": ["BestEffort"]}, "status": {"hard": {"pods": "0"}}}),
        ];
        let left = quota_left(&quotas);
        assert_eq!(left.get("cpu"), Some(Quantity::ZERO), "over its quota is nothing left");
        assert_eq!(left.get("pods"), Some(Quantity::from_units(7)));
        assert_eq!(left.get("nvidia.com/gpu"), Some(Quantity::from_units(1)));
        assert_eq!(left.iter().count(), 3);
    }

    #[test]
    fn what_means_nothing_is_said() {
        let mut spec = ComputeClusterSpec::default();
        assert!(problem(&spec).unwrap().contains("kubeconfigSecretRef"));
        spec.access.kubeconfig_secret_ref.name = "n".into();
        spec.access.kubeconfig_secret_ref.namespace = "n".into();
        assert_eq!(problem(&spec), None);
        spec.reserve.insert("cpu".into(), "much".into());
        assert!(problem(&spec).unwrap().starts_with("spec.reserve: \"much\" is not a quantity"));
        spec.lost.evict_after = "soon".into();
        assert!(problem(&spec).unwrap().starts_with("spec.lost.evictAfter"));
    }
}

//! The rules of placement, once more and as plainly as possible, for the audit. In: a node and a pod. Out: what the pod takes, and which rule the
//! node breaks for it. Nothing here is shared with the scheduler under test.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::core::v1::{Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    quantity::nanos,
    workload::{ARCH_LABEL, EXPECT_ARCH_LABEL, EXPECT_GPU_LABEL, GPU_RESOURCE},
};

/// Resource name to nanos of its unit.
pub type Amounts = BTreeMap<String, i128>;
/// Protocol, address, port.
pub type HostPort = (String, String, i32);

const ANY_ADDRESS: &str = "0.0.0.0";

pub fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Result<Amounts> {
    quantities.into_iter().flatten().map(|(name, quantity)| Ok((name.clone(), nanos(&quantity.0)?))).collect()
}

fn requests(container: &Container) -> Result<Amounts> {
    amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

fn add(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        *into.entry(name.clone()).or_default() += amount;
    }
}

fn raise(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let have = into.entry(name.clone()).or_default();
        *have = (*have).max(*amount);
    }
}

/// What a pod takes of its node: the larger of all containers together and each init container on its way (sidecars started before it run
/// beside it), pod-level requests instead of both where given, plus overhead, plus the pod itself.
pub fn demand(pod: &Pod) -> Result<Amounts> {
    let spec = pod.spec.as_ref().context("a pod without spec")?;
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &requests(container)?);
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let own = requests(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut here = sidecars.clone();
            add(&mut here, &own);
            raise(&mut starting, &here);
        }
    }
    raise(&mut running, &starting);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        running.extend(amounts(Some(pod_level))?);
    }
    add(&mut running, &amounts(spec.overhead.as_ref())?);
    running.insert("pods".to_owned(), nanos("1")?);
    Ok(running)
}

pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let containers = pod.spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    });
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let address = port.host_ip.clone().filter(|address| !address.is_empty()).unwrap_or_else(|| ANY_ADDRESS.to_owned());
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), address, port.host_port.filter(|port| *port > 0)?))
        })
        .collect()
}

pub fn ports_conflict(one: &HostPort, other: &HostPort) -> bool {
    one.0 == other.0 && one.2 == other.2 && (one.1 == other.1 || one.1 == ANY_ADDRESS || other.1 == ANY_ADDRESS)
}

/// Each rule of `pod` that `node` breaks, by the rule's name. Capacity and ports depend on the node's other pods and are not judged here.
pub fn broken_rules(node: &Node, pod: &Pod) -> Vec<String> {
    let mut broken = Vec::new();
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let Some(spec) = pod.spec.as_ref() else { return vec!["a pod without spec".to_owned()] };
    for (key, value) in spec.node_selector.iter().flatten() {
        if labels.get(key) != Some(value) {
            broken.push(format!("node selector {key}={value}"));
        }
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    if let Some(required) = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
        && !required.node_selector_terms.iter().any(|term| term_matches(term, node, labels))
    {
        broken.push("required node affinity".to_owned());
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    for taint in node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()) {
        if taint.effect != "PreferNoSchedule" && !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            broken.push(format!("taint {}={}:{}", taint.key, taint.value.as_deref().unwrap_or_default(), taint.effect));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        broken.push("unschedulable node".to_owned());
    }
    broken.extend(broken_promises(node, pod, labels));
    broken
}

/// What the workload's template says of its node, compared with the node's own labels and resources.
fn broken_promises(node: &Node, pod: &Pod, labels: &BTreeMap<String, String>) -> Vec<String> {
    let mut broken = Vec::new();
    let Some(promises) = pod.metadata.labels.as_ref() else { return broken };
    if let Some(arch) = promises.get(EXPECT_ARCH_LABEL)
        && labels.get(ARCH_LABEL) != Some(arch)
    {
        broken.push(format!("architecture {arch}"));
    }
    let gpus = node.status.as_ref().and_then(|status| status.allocatable.as_ref()?.get(GPU_RESOURCE));
    if promises.contains_key(EXPECT_GPU_LABEL) && gpus.is_none() {
        broken.push("GPU".to_owned());
    }
    broken
}

fn term_matches(term: &NodeSelectorTerm, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without any requirement matches nothing.
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        && fields.iter().all(|requirement| requirement.key == "metadata.name" && holds(requirement, node.metadata.name.as_deref()))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |value: &str| values.iter().any(|candidate| candidate == value);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = values.first().and_then(|bound| number(bound));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) || given(&toleration.key).is_some_and(|key| key != taint.key)
    {
        return false;
    }
    match given(&toleration.operator).as_deref() {
        Some("Exists") => true,
        None | Some("Equal") => {
            given(&toleration.key).is_some()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value) -> Result<Pod> {
        Ok(serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec }))?)
    }

    #[test]
    fn what_a_pod_takes() -> Result<()> {
        let takes = |cpu: &str| json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
        let sidecar = |cpu: &str| json!({ "name": "s", "restartPolicy": "Always", "resources": { "requests": { "cpu": cpu } } });
        let cases = [
            ("two containers", json!({ "containers": [takes("1"), takes("2")] }), "3"),
            ("a small init container", json!({ "containers": [takes("2")], "initContainers": [takes("1")] }), "2"),
            ("a large init container", json!({ "containers": [takes("1")], "initContainers": [takes("1"), takes("4")] }), "4"),
            ("a sidecar runs beside", json!({ "containers": [takes("1")], "initContainers": [sidecar("2")] }), "3"),
            ("init after sidecar", json!({ "containers": [takes("1")], "initContainers": [sidecar("2"), takes("3")] }), "5"),
            ("init before sidecar", json!({ "containers": [takes("1")], "initContainers": [takes("3"), sidecar("2")] }), "3"),
            ("overhead", json!({ "containers": [takes("1")], "overhead": { "cpu": "250m" } }), "1250m"),
            ("pod level", json!({ "containers": [takes("1")], "resources": { "requests": { "cpu": "4" } } }), "4"),
        ];
        for (case, spec, cpu) in cases {
            let taken = demand(&pod(&spec)?)?;
            assert_eq!(taken.get("cpu"), Some(&nanos(cpu)?), "{case}");
            assert_eq!(taken.get("pods"), Some(&nanos("1")?), "{case}");
        }
        Ok(())
    }

    #[test]
    fn what_a_node_refuses() -> Result<()> {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "n", "labels": { "zone": "a", "generation": "7" } },
            "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }, { "key": "soft", "effect": "PreferNoSchedule" }] },
        }))?;
        let requires = |key: &str, operator: &str, values: &[&str]| {
            let terms = json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]);
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } })
        };
        let accepted = [
            requires("zone", "In", &["b", "a"]),
            requires("zone", "NotIn", &["b"]),
            requires("rack", "NotIn", &["b"]),
            requires("zone", "Exists", &[]),
            requires("rack", "DoesNotExist", &[]),
            requires("generation", "Gt", &["6"]),
            requires("generation", "Lt", &["8"]),
        ];
        let refused = [
            requires("zone", "In", &["b"]),
            requires("rack", "In", &["b"]),
            requires("zone", "NotIn", &["a"]),
            requires("rack", "Exists", &[]),
            requires("zone", "DoesNotExist", &[]),
            requires("generation", "Gt", &["7"]),
            requires("generation", "Lt", &["7"]),
            requires("zone", "Gt", &["1"]),
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{}] } } }),
        ];
        let everything = json!([{ "operator": "Exists" }]);
        for (affinity, expected) in accepted.iter().map(|case| (case, 0)).chain(refused.iter().map(|case| (case, 1))) {
            let pod = pod(&json!({ "containers": [], "tolerations": everything, "affinity": affinity }))?;
            assert_eq!(broken_rules(&node, &pod).len(), expected, "{affinity}");
        }
        for (toleration, tolerated) in [
            (json!({ "key": "k", "operator": "Exists" }), true),
            (json!({ "key": "k", "value": "v" }), true),
            (json!({ "key": "k", "value": "v", "effect": "NoSchedule" }), true),
            (json!({ "key": "k", "value": "v", "effect": "NoExecute" }), false),
            (json!({ "key": "k", "value": "w" }), false),
            (json!({ "key": "other", "operator": "Exists" }), false),
            (json!({ "value": "v" }), false),
        ] {
            let pod = pod(&json!({ "containers": [], "tolerations": [toleration] }))?;
            assert_eq!(broken_rules(&node, &pod).is_empty(), tolerated, "{toleration}");
        }
        Ok(())
    }

    #[test]
    fn which_ports_meet() {
        let port = |protocol: &str, address: &str, port| (protocol.to_owned(), address.to_owned(), port);
        let any = port("TCP", ANY_ADDRESS, 80);
        assert!(ports_conflict(&any, &port("TCP", "10.0.0.1", 80)));
        assert!(!ports_conflict(&any, &port("UDP", ANY_ADDRESS, 80)));
        assert!(!ports_conflict(&any, &port("TCP", ANY_ADDRESS, 81)));
        assert!(!ports_conflict(&port("TCP", "10.0.0.1", 80), &port("TCP", "10.0.0.2", 80)));
    }
}

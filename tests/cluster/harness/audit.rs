//! The audit: is everything where it may be? In: all nodes and pods, read from the API. Out: each violation in words, and how many pods each rule
//! bore on, so that an audit of nothing is seen to be one.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};
use serde::Serialize;

use super::placement_rules::{Amounts, HostPort, amounts, broken_rules, demand, host_ports, ports_conflict};

/// A page small enough not to be the largest thing in memory.
const PAGE: u32 = 2000;

#[derive(Debug, Default, Serialize)]
pub struct Audit {
    pub nodes: usize,
    pub pods: usize,
    pub bound: usize,
    /// Pods per template of the workload.
    pub templates: BTreeMap<String, usize>,
    /// The highest use of any node per resource, in percent, rounded down.
    pub fullest_percent: BTreeMap<String, i128>,
    pub violations: Vec<String>,
}

impl Audit {
    /// An error with the first violations, where there are any.
    pub fn ensure_clean(&self) -> Result<()> {
        let shown: Vec<_> = self.violations.iter().take(10).map(String::as_str).collect();
        ensure!(self.violations.is_empty(), "{} violations, first:\n  {}", self.violations.len(), shown.join("\n  "));
        Ok(())
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "audit: {} nodes, {} of {} pods bound, {} violations", self.nodes, self.bound, self.pods, self.violations.len())?;
        let list = |map: Vec<String>| map.join(", ");
        write!(f, "; pods {}", list(self.templates.iter().map(|(name, count)| format!("{name} {count}")).collect()))?;
        write!(f, "; fullest node {}", list(self.fullest_percent.iter().map(|(name, percent)| format!("{name} {percent}%")).collect()))
    }
}

/// Reads the whole cluster and judges it.
pub async fn audit(client: &Client) -> Result<Audit> {
    let nodes: Vec<Node> = list_all(&Api::all(client.clone())).await?;
    let pods: Vec<Pod> = list_all(&Api::all(client.clone())).await?;
    judge(&nodes, &pods)
}

/// Every object, page by page.
pub async fn list_all<K>(api: &Api<K>) -> Result<Vec<K>>
where
    K: kube::Resource + Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

#[derive(Default)]
struct Load {
    used: Amounts,
    ports: Vec<(HostPort, String)>,
}

fn judge(nodes: &[Node], pods: &[Pod]) -> Result<Audit> {
    let mut audit = Audit { nodes: nodes.len(), pods: pods.len(), ..Audit::default() };
    let by_name: BTreeMap<_, _> = nodes.iter().filter_map(|node| Some((node.metadata.name.as_deref()?, node))).collect();
    let mut loads: BTreeMap<&str, Load> = BTreeMap::new();
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let Some(node_name) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else { continue };
        audit.bound += 1;
        let template = pod.metadata.labels.as_ref().and_then(|labels| labels.get("template")).map_or("other", String::as_str);
        *audit.templates.entry(template.to_owned()).or_default() += 1;
        let name =
            format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
        let Some(node) = by_name.get(node_name) else {
            audit.violations.push(format!("pod {name} is on node {node_name}, which does not exist"));
            continue;
        };
        audit
            .violations
            .extend(broken_rules(node, pod).into_iter().map(|rule| format!("pod {name} is on node {node_name} against its {rule}")));
        if matches!(phase, Some("Succeeded" | "Failed")) {
            continue;
        }
        take(loads.entry(node_name).or_default(), node_name, &name, pod, &mut audit.violations)?;
    }
    for (name, load) in &loads {
        if let Some(node) = by_name.get(name) {
            judge_capacity(name, node, load, &mut audit)?;
        }
    }
    Ok(audit)
}

fn take(load: &mut Load, node: &str, name: &str, pod: &Pod, violations: &mut Vec<String>) -> Result<()> {
    for (resource, amount) in demand(pod)? {
        *load.used.entry(resource).or_default() += amount;
    }
    for port in host_ports(pod) {
        if let Some((_, other)) = load.ports.iter().find(|(taken, _)| ports_conflict(taken, &port)) {
            violations.push(format!("pods {name} and {other} both want host port {}/{} of node {node}", port.2, port.0));
        }
        load.ports.push((port, name.to_owned()));
    }
    Ok(())
}

fn judge_capacity(name: &str, node: &Node, load: &Load, audit: &mut Audit) -> Result<()> {
    let allocatable = amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))?;
    for (resource, used) in &load.used {
        let have = allocatable.get(resource).copied().unwrap_or_default();
        if *used > have {
            audit.violations.push(format!("node {name} is over its {resource}: {used} of {have} nanos"));
        }
        if have > 0 {
            let fullest = audit.fullest_percent.entry(resource.clone()).or_default();
            *fullest = (*fullest).max(used * 100 / have);
        }
    }
    Ok(())
}

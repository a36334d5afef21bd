//! Between a cluster's watches and the engine. In: facts of its nodes and pods. Out: the same facts, and a count of its usable nodes for people.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    federation::spec::ComputeClusterSpec,
    model::{
        node::{ARCH_LABEL, NodeFacts},
        quantity::Quantity,
        resources::{ResourceKind, ResourceList},
    },
    scheduler::input::Input,
};

use super::object::Capacity;

/// Heartbeats of nodes come every few seconds each: the sums are made this often at most.
const SUM_EVERY: Duration = Duration::from_secs(2);
/// Facts that may wait between a watch and us.
pub const FEED_MAX: usize = 64;

/// What there is to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Usable nodes.
    pub nodes: u32,
    /// Their sum.
    pub capacity: Capacity,
    /// Their architectures.
    pub architectures: Vec<String>,
    /// Nodes and pods were listed whole since the watches began.
    pub is_listed: bool,
}

/// Passes facts on until the watches end or nobody listens.
pub async fn pass_on(
    mut received: mpsc::Receiver<Input>,
    inputs: mpsc::Sender<Input>,
    spec: Arc<ComputeClusterSpec>,
    fleet: watch::Sender<Fleet>,
) {
    let mut tally = Tally { spec, nodes: BTreeMap::new(), nodes_listed: false, pods_listed: false };
    let mut dirty = false;
    let mut ticks = interval_at(Instant::now() + SUM_EVERY, SUM_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let input = tokio::select! {
            biased;
            input = received.recv() => match input {
                Some(input) => input,
                None => return,
            },
            _ = ticks.tick(), if dirty => {
                fleet.send_replace(tally.sum());
                dirty = false;
                continue;
            }
        };
        let listed = matches!(input, Input::NodesListed(..) | Input::PodsListed(..));
        dirty |= tally.take_in(&input);
        if inputs.send(input).await.is_err() {
            return;
        }
        if listed {
            // Told only after the engine has it.
            fleet.send_replace(tally.sum());
        }
    }
}

struct Tally {
    spec: Arc<ComputeClusterSpec>,
    /// Usable ones.
    nodes: BTreeMap<Box<str>, Summary>,
    nodes_listed: bool,
    pods_listed: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Summary {
    allocatable: ResourceList,
    architecture: Box<str>,
}

impl Tally {
    /// Whether the sums changed.
    fn take_in(&mut self, input: &Input) -> bool {
        match input {
            Input::Node(node) if is_usable(node, &self.spec) => {
                let architecture = node.label(ARCH_LABEL).map_or_else(|| node.architecture.clone(), Into::into);
                let summary = Summary { allocatable: node.allocatable.clone(), architecture };
                let before = self.nodes.insert(node.name.clone(), summary);
                before.as_ref() != self.nodes.get(&node.name)
            }
            Input::Node(node) => self.nodes.remove(&node.name).is_some(),
            Input::NodeGone(key) => self.nodes.remove(&key.name).is_some(),
            Input::NodesListed(_, names) => {
                self.nodes.retain(|name, _| names.contains(name));
                self.nodes_listed = true;
                true
            }
            Input::PodsListed(..) => {
                self.pods_listed = true;
                true
            }
            _ => false,
        }
    }

    fn sum(&self) -> Fleet {
        let (mut total, mut architectures, mut gpus) = (ResourceList::default(), Vec::new(), 0);
        for node in self.nodes.values() {
            total.add(&node.allocatable);
            for (name, amount) in node.allocatable.iter() {
                if ResourceKind::of(name) == ResourceKind::Scalar && name.ends_with("gpu") {
                    gpus += amount.units();
                }
            }
            let architecture = node.architecture.to_string();
            if !architecture.is_empty() && !architectures.contains(&architecture) {
                architectures.push(architecture);
            }
        }
        architectures.sort();
        let amount = |name| total.get(name).unwrap_or_default();
        let capacity = Capacity {
            cpu: amount("cpu").to_string(),
            memory: binary(amount("memory")),
            pods: u32::try_from(amount("pods").units()).unwrap_or(u32::MAX),
            gpus: u32::try_from(gpus).unwrap_or_default(),
        };
        Fleet {
            nodes: u32::try_from(self.nodes.len()).unwrap_or(u32::MAX),
            capacity,
            architectures,
            is_listed: self.nodes_listed && self.pods_listed,
        }
    }
}

fn is_usable(node: &NodeFacts, spec: &ComputeClusterSpec) -> bool {
    is_selected(node, spec) && !node.unschedulable
}

/// As the engine's filter has it.
pub fn is_selected(node: &NodeFacts, spec: &ComputeClusterSpec) -> bool {
    let matches = spec.node_selector.iter().all(|(key, value)| node.label(key) == Some(value.as_str()));
    let excluded = node.taints.iter().any(|taint| spec.excluded_taints.iter().any(|key| **key == *taint.key));
    matches && !excluded
}

/// Whole mebibytes, as people read memory.
fn binary(amount: Quantity) -> String {
    format!("{}Mi", amount.units() >> 20)
}

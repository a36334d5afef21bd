//! What happened, as the API server told it. In: pods and nodes as they were seen, with the time. Out: the life of every pod, use and capacity over time,
//! and what must never happen, counted.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{fnv::fnv1a, node::NodeFacts, pod::PodFacts, quantity::Quantity, resources::ResourceList};

use super::cluster::{GPU, HOME};
use super::tasks::Ledger;
use super::workloads::TASK;
use crate::federation::names::VIRTUAL_NODE;
use crate::tasks::names;

/// Reason of condition `PodScheduled` of a pod with scheduling gates.
const GATED: &str = "SchedulingGated";

/// An amount of what is shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Whole GPUs.
    pub gpus: i64,
    /// Pods.
    pub pods: i64,
}

impl Amount {
    fn of(list: &ResourceList) -> Self {
        let units = |name: &str| list.get(name).map_or(0, Quantity::units);
        Self { cpu_milli: list.get("cpu").map_or(0, Quantity::milli), memory_bytes: units("memory"), gpus: units(GPU), pods: units("pods") }
    }

    fn plus(self, other: Self, sign: i64) -> Self {
        Self {
            cpu_milli: self.cpu_milli + sign * other.cpu_milli,
            memory_bytes: self.memory_bytes + sign * other.memory_bytes,
            gpus: self.gpus + sign * other.gpus,
            pods: self.pods + sign * other.pods,
        }
    }

    fn fits(self, room: Self) -> bool {
        self.cpu_milli <= room.cpu_milli && self.memory_bytes <= room.memory_bytes && self.gpus <= room.gpus && self.pods <= room.pods
    }
}

/// How a pod's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Exit code 0.
    Succeeded,
    /// Another exit code.
    Failed,
    /// By its user.
    Deleted,
}

/// The life of a pod. Times are milliseconds from the start.
#[derive(Clone, Debug)]
pub struct PodLife {
    /// Its name.
    pub name: String,
    /// Its label `app`, or that it is a task's.
    pub kind: String,
    /// What it asks for.
    pub asks: Amount,
    /// Since when it may be scheduled: from its creation, or from when its gates were removed.
    pub ready_ms: Option<u64>,
    /// When it was bound, and the node that runs it, as `cluster/node`.
    pub bound: Option<(u64, String)>,
    /// `spec.nodeName`.
    node_name: String,
    /// Its exit code as home knows it.
    pub exit_code: Option<i64>,
    /// How often a node name came where there was none or another one.
    pub bindings: u32,
    /// When and how it ended.
    pub ended: Option<(u64, End)>,
    /// Reasons for which nodes were refused while it waited.
    pub refusals: BTreeSet<String>,
    /// The last refusal as a whole.
    pub message: String,
}

impl PodLife {
    /// Whether it is bound to a node of a cluster.
    pub fn is_in(&self, cluster: &str) -> bool {
        self.bound.as_ref().and_then(|(_, place)| place.split_once('/')).is_some_and(|(known, _)| known == cluster)
    }
}

/// A node as last seen.
#[derive(Clone, Debug)]
pub struct NodeSeen {
    /// Architecture, and GPU model if it has any.
    pub kind: String,
    /// What pods may use.
    pub room: Amount,
    /// What they use.
    pub used: Amount,
}

/// Use and capacity of one kind of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What pods use.
    pub used: Amount,
    /// What they may use.
    pub room: Amount,
    /// How many nodes.
    pub nodes: u32,
}

/// The cluster from one moment to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds from the start.
    pub at_ms: u64,
    /// By kind of nodes.
    pub shares: BTreeMap<String, Share>,
    /// Pods that may be scheduled and are not bound.
    pub waiting: usize,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By uid.
    pub pods: BTreeMap<String, PodLife>,
    /// By name.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// In the order of time, one for each change.
    pub moments: Vec<Moment>,
    /// Runs of tasks and their pods.
    pub tasks: Ledger,
    /// How often a node was seen to hold more than it takes.
    pub overfull: u32,
    /// How often a part of the history was not to be had: then the audit says nothing.
    pub gaps: u32,
}

impl History {
    /// A node was added or changed.
    pub fn see_node(&mut self, at_ms: u64, cluster: &str, facts: &NodeFacts) {
        if facts.label(VIRTUAL_NODE).is_some() {
            return;
        }
        let name = place(cluster, &facts.name);
        let architecture = facts.label("kubernetes.io/arch").unwrap_or("unknown");
        let kind = facts
            .label("nvidia.com/gpu.product")
            .map_or_else(|| architecture.to_owned(), |model| format!("{architecture} + {}", short(model)));
        let kind = format!("{cluster}: {kind}");
        let room = Amount::of(&facts.allocatable);
        let used = self.nodes.get(&name).map(|node| node.used).unwrap_or_default();
        self.nodes.insert(name, NodeSeen { kind, room, used });
        self.note(at_ms);
    }

    /// A pod was added or changed; `phase` is `status.phase`.
    pub fn see_pod(&mut self, at_ms: u64, facts: &PodFacts, phase: &str, exit_code: Option<i64>) {
        let label = |key: &str| facts.labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value);
        let kind = if label(names::RUN).is_some() { TASK } else { label("app").unwrap_or("other") };
        let life = self.pods.entry(facts.uid.0.to_string()).or_insert_with(|| PodLife {
            name: facts.key.name.to_string(),
            kind: kind.to_owned(),
            asks: Amount { pods: 1, ..Amount::of(&facts.spec.requests.effective) },
            ready_ms: None,
            bound: None,
            node_name: String::new(),
            exit_code: None,
            bindings: 0,
            ended: None,
            refusals: BTreeSet::new(),
            message: String::new(),
        });
        if facts.gates.is_empty() && life.ready_ms.is_none() {
            life.ready_ms = Some(at_ms);
        }
        // A gate is no refusal: no node was asked.
        if let Some((reason, message)) = &facts.unscheduled_condition
            && life.bound.is_none()
            && **reason != *GATED
        {
            life.message = message.to_string();
            life.refusals.extend(reasons(message));
        }
        life.exit_code = life.exit_code.or(exit_code);
        if let Some(node) = facts.node_name.as_deref() {
            self.see_bound(at_ms, facts, node);
        }
        match phase {
            "Succeeded" => self.end(at_ms, &facts.uid.0, End::Succeeded),
            "Failed" => self.end(at_ms, &facts.uid.0, End::Failed),
            _ => {}
        }
        self.note(at_ms);
    }

    /// A bound pod: counted when it is bound, and moved when a run is refused before it starts and goes to another node.
    fn see_bound(&mut self, at_ms: u64, facts: &PodFacts, node: &str) {
        let Some(life) = self.pods.get_mut(&*facts.uid.0) else { return };
        if life.node_name != node {
            node.clone_into(&mut life.node_name);
            life.bindings += 1;
        }
        let there = facts.recorded.as_ref().map_or_else(|| place(HOME, node), |recorded| place(&recorded.cluster, &recorded.node));
        let before = life.bound.clone().filter(|_| life.ended.is_none());
        if before.as_ref().is_some_and(|(_, known)| *known == there) || life.ended.is_some() {
            return;
        }
        let asks = life.asks;
        life.bound = Some((before.as_ref().map_or(at_ms, |(at, _)| *at), there.clone()));
        if let Some((_, left)) = before {
            self.use_node(&left, asks, -1);
        }
        self.use_node(&there, asks, 1);
    }

    /// A pod is gone.
    pub fn lose_pod(&mut self, at_ms: u64, uid: &str) {
        self.end(at_ms, uid, End::Deleted);
        self.note(at_ms);
    }

    fn end(&mut self, at_ms: u64, uid: &str, end: End) {
        let Some(life) = self.pods.get_mut(uid).filter(|life| life.ended.is_none()) else { return };
        life.ended = Some((at_ms, end));
        if let Some((_, node)) = life.bound.clone() {
            let asks = life.asks;
            self.use_node(&node, asks, -1);
        }
    }

    fn use_node(&mut self, name: &str, asks: Amount, sign: i64) {
        let Some(node) = self.nodes.get_mut(name) else {
            self.overfull += 1;
            return;
        };
        node.used = node.used.plus(asks, sign);
        self.overfull += u32::from(!node.used.fits(node.room));
    }

    /// Remembers how things stand now.
    fn note(&mut self, at_ms: u64) {
        let mut shares: BTreeMap<String, Share> = BTreeMap::new();
        for node in self.nodes.values() {
            let share = shares.entry(node.kind.clone()).or_default();
            *share = Share { used: share.used.plus(node.used, 1), room: share.room.plus(node.room, 1), nodes: share.nodes + 1 };
        }
        let waiting = self.pods.values().filter(|life| life.ready_ms.is_some() && life.bound.is_none() && life.ended.is_none()).count();
        let moment = Moment { at_ms, shares, waiting };
        match self.moments.last_mut() {
            Some(last) if last.at_ms == at_ms => *last = moment,
            _ => self.moments.push(moment),
        }
    }

    /// Name, node and time of every binding, by name.
    pub fn placements(&self) -> Vec<(&str, &str, u64)> {
        let mut placements: Vec<_> =
            self.pods.values().filter_map(|life| life.bound.as_ref().map(|(at, node)| (&*life.name, &**node, *at))).collect();
        placements.sort_unstable();
        placements
    }

    /// A number that stands for all placements: FNV-1a over names, nodes and times.
    pub fn digest(&self) -> u64 {
        let lines = self.placements().into_iter().map(|(name, node, at)| format!("{name} {node} {at}\n"));
        fnv1a(0, lines.flat_map(String::into_bytes))
    }
}

/// How a node of a cluster is called here.
fn place(cluster: &str, node: &str) -> String {
    format!("{cluster}/{node}")
}

/// A model without its maker and memory: `A100`.
fn short(model: &str) -> &str {
    model.split('-').nth(1).unwrap_or(model)
}

/// The reasons in `0/5 nodes are available: 3 Insufficient cpu, 2 node(s) were unschedulable. preemption: …`, without their counts.
fn reasons(message: &str) -> Vec<String> {
    let listed = message.split_once(" nodes are available: ").map_or(message, |(_, rest)| rest);
    let listed = listed.split(" preemption: ").next().unwrap_or_default().trim_end_matches('.');
    listed.split(", ").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ids::{PodKey, PodUid},
        quantity::Quantity,
    };

    fn node(name: &str, cpu: i64) -> NodeFacts {
        let allocatable =
            [("cpu", cpu), ("pods", 10)].map(|(name, amount)| (name.into(), Quantity::from_units(amount))).into_iter().collect();
        NodeFacts { name: name.into(), allocatable, ..NodeFacts::default() }
    }

    fn pod(name: &str, cpu: i64, node: Option<&str>) -> PodFacts {
        let mut pod =
            PodFacts { key: PodKey::new("x", name), uid: PodUid::from(name), node_name: node.map(Into::into), ..PodFacts::default() };
        pod.spec.requests.effective.set("cpu", Quantity::from_units(cpu));
        pod
    }

    #[test]
    fn a_life_is_followed_and_use_given_back() {
        let mut history = History::default();
        history.see_node(0, HOME, &node("n", 4));
        history.see_pod(5, &pod("a", 3, None), "Pending", None);
        assert_eq!(history.moments.last().unwrap().waiting, 1);
        history.see_pod(8, &pod("a", 3, Some("n")), "Pending", None);
        history.see_pod(9, &pod("a", 3, Some("n")), "Running", None);
        assert_eq!(history.nodes["home/n"].used.cpu_milli, 3000);
        history.see_pod(20, &pod("a", 3, Some("n")), "Succeeded", None);
        history.lose_pod(30, "a");
        assert_eq!(history.nodes["home/n"].used, Amount::default());
        let life = &history.pods["a"];
        assert_eq!(
            (life.ready_ms, life.bound.clone(), life.bindings, life.ended),
            (Some(5), Some((8, "home/n".to_owned())), 1, Some((20, End::Succeeded)))
        );
        assert_eq!((history.overfull, history.placements()), (0, vec![("a", "home/n", 8)]));
    }

    #[test]
    fn what_must_not_happen_is_counted() {
        let mut history = History::default();
        history.see_node(0, HOME, &node("n", 4));
        history.see_node(0, HOME, &node("m", 4));
        history.see_pod(1, &pod("a", 3, Some("n")), "Running", None);
        history.see_pod(2, &pod("b", 2, Some("n")), "Running", None);
        assert_eq!(history.overfull, 1);
        history.see_pod(3, &pod("a", 3, Some("m")), "Running", None);
        assert_eq!(history.pods["a"].bindings, 2);
    }

    #[test]
    fn reasons_lose_their_counts() {
        let message = "0/5 nodes are available: 2 node(s) were unschedulable, 3 Insufficient cpu. preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.";
        assert_eq!(reasons(message), ["node(s) were unschedulable", "Insufficient cpu"]);
        assert_eq!(reasons("no nodes available to schedule pods"), ["no nodes available to schedule pods"]);
    }
}

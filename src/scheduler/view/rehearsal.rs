//! What the rules would say of a node if pods had come to it or left it. In: a view that is up to date, a node, pods that move. Out: a refusal, or none.
//!
//! Upstream's `AddPod` and `RemovePod` of PreFilter, and `RunFilterPluginsWithNominatedPods`: a node on which others are nominated is asked twice, with
//! them and without. Rules about single nodes are asked about a copy of the node's record, rules over domains about what would move.

use smallvec::SmallVec;

use super::{ClassView, Reads, Rule, Verdict};
use crate::{
    model::{
        class::ClassTable,
        ids::{ClassIx, NodeIx},
        node::NodeRecord,
    },
    scheduler::{
        framework::{Moved, Refusal, Rehearse, Stage},
        nodes::Nodes,
        preemption::{Guests, Memo},
        profiles::PluginIx,
    },
};

/// See the module.
pub struct Rehearsal<'a> {
    view: &'a ClassView,
    nodes: &'a Nodes,
    classes: &'a ClassTable,
    guests: &'a Guests,
}

impl<'a> Rehearsal<'a> {
    /// Guests are pods that are nominated and count for the pod in question.
    pub fn new(view: &'a ClassView, nodes: &'a Nodes, classes: &'a ClassTable, guests: &'a Guests) -> Self {
        Self { view, nodes, classes, guests }
    }

    /// What the guests of a node lead to, on the node as it is.
    pub fn with_guests(&self, ix: NodeIx) -> Option<(PluginIx, Refusal)> {
        let mut stage = self.set(ix);
        self.welcome(&mut stage);
        self.first_refusal(&stage)
    }

    fn welcome(&self, stage: &mut Stage) {
        let guests = self.guests.get(&stage.ix).into_iter().flat_map(|party| &party.classes);
        guests.for_each(|class| self.put(stage, *class));
    }

    fn moved(&self, stage: &Stage) -> SmallVec<[Moved<'a>; 4]> {
        let real = stage.moved.iter().filter(|(_, pods)| *pods != 0);
        real.filter_map(|(ix, pods)| Some(Moved { ix: *ix, class: self.classes.get(*ix)?, pods: *pods })).collect()
    }

    fn first_refusal(&self, stage: &Stage) -> Option<(PluginIx, Refusal)> {
        let moved = self.moved(stage);
        self.view.rules.iter().find_map(|(plugin, rule)| {
            let refusal = match rule {
                Rule::Node(rule) => rule.refuses(&stage.node, self.nodes),
                Rule::Domains(rule) => rule.refuses_with(stage.ix, &moved, self.nodes),
            };
            Some((*plugin, refusal?))
        })
    }

    /// Rules that read only the object say what they said.
    fn is_admitted(&self, stage: &Stage) -> bool {
        if !self.view.passes_object_rules.contains(stage.ix.at()) {
            return false;
        }
        let mut moved = None;
        self.view.rules.iter().all(|(_, rule)| match rule {
            Rule::Node(rule) => rule.reads() == Reads::Object || rule.admits(&stage.node, self.nodes),
            Rule::Domains(rule) => {
                let moved = moved.get_or_insert_with(|| self.moved(stage));
                rule.refuses_with(stage.ix, moved, self.nodes).is_none()
            }
        })
    }

    fn shift(stage: &mut Stage, class: ClassIx, pods: i64) {
        match stage.moved.iter_mut().find(|(known, _)| *known == class) {
            Some((_, count)) => *count += pods,
            None => stage.moved.push((class, pods)),
        }
    }
}

impl Rehearse for Rehearsal<'_> {
    fn set(&self, ix: NodeIx) -> Stage {
        Stage { ix, node: self.nodes.get(ix).clone(), moved: SmallVec::new() }
    }

    fn guests_stamp(&self, ix: NodeIx) -> Option<u64> {
        self.guests.get(&ix).map_or(Some(0), |party| party.stamp)
    }

    fn take(&self, stage: &mut Stage, class: ClassIx) {
        let Some(record) = self.classes.get(class) else { return };
        stage.node.uncount_pod(record);
        // Ports in use are a set: one pod that goes frees them, whoever else has them.
        free_ports(&mut stage.node, &record.host_ports);
        Self::shift(stage, class, -1);
    }

    fn put(&self, stage: &mut Stage, class: ClassIx) {
        let Some(record) = self.classes.get(class) else { return };
        stage.node.count_pod(record);
        Self::shift(stage, class, 1);
    }

    fn refusal(&self, stage: &Stage) -> Option<Refusal> {
        if self.guests.contains_key(&stage.ix) {
            let mut crowded = stage.clone();
            self.welcome(&mut crowded);
            if let Some((_, refusal)) = self.first_refusal(&crowded) {
                return Some(refusal);
            }
        }
        self.first_refusal(stage).map(|(_, refusal)| refusal)
    }

    fn admits(&self, stage: &Stage) -> bool {
        if self.guests.contains_key(&stage.ix) {
            let mut crowded = stage.clone();
            self.welcome(&mut crowded);
            if !self.is_admitted(&crowded) {
                return false;
            }
        }
        self.is_admitted(stage)
    }
}

fn free_ports(node: &mut NodeRecord, ports: &[crate::model::ports::HostPort]) {
    if !ports.is_empty() {
        node.ports.retain(|used| !ports.contains(used));
    }
}

impl ClassView {
    /// Whether the class fits a node, guests left aside.
    pub fn is_feasible(&self, ix: NodeIx) -> bool {
        self.feasible.contains(ix.at())
    }

    /// Whether compiling left it to nodes to decide.
    pub fn asks_nodes(&self) -> bool {
        matches!(self.verdict, Verdict::AskNodes)
    }

    /// What dry runs have found, to be given back; none where rules look beyond single nodes.
    pub fn take_memo(&mut self) -> Option<Memo> {
        self.wide.is_none().then(|| std::mem::take(&mut self.memo))
    }

    /// See [`Self::take_memo`].
    pub fn give_memo(&mut self, memo: Memo) {
        self.memo = memo;
    }

    /// Whether rules are asked about a node at all.
    pub fn considers(&self, ix: NodeIx, nodes: &Nodes) -> bool {
        self.only.as_ref().is_none_or(|(names, _)| names.contains(&nodes.get(ix).name))
    }
}

//! Why no node takes a pod: the refusals of all nodes in, upstream's message and the plugins to blame out.

use std::{collections::BTreeMap, sync::Arc};

use super::{ClassView, Verdict};
use crate::{
    model::ids::NodeIx,
    scheduler::{
        framework::{Nomination, Plight, Reason, Refusal, RoomMade},
        nodes::Nodes,
        profiles::{PluginIx, Profile},
        queue::Rejectors,
    },
};

/// The reasons for one class at one moment.
#[derive(Debug)]
pub struct Diagnosis {
    /// `0/5 nodes are available: …` without what PostFilter plugins add.
    pub text: Arc<str>,
    /// Plugins that refused at least one node, or all at once.
    pub rejectors: Rejectors,
    /// When a PreFilter plugin refused the class everywhere.
    pub pre_filter: Option<(PluginIx, Refusal)>,
    /// First refusing plugin and its reasons, by node index; `None` for absent and feasible nodes.
    pub refusals: Vec<Option<(PluginIx, Refusal)>>,
    reasons: Reasons,
}

/// What some nodes refuse a pod for beside what all pods of its class are refused for: others are nominated there.
pub type Crowded = BTreeMap<NodeIx, (PluginIx, Refusal)>;

/// How many nodes refuse for which reason.
#[derive(Clone, Debug, Default)]
pub struct Reasons(BTreeMap<Reason, usize>);

impl Reasons {
    /// One node more: a node with several reasons counts for each.
    pub fn add(&mut self, refusal: &Refusal) {
        refusal.reasons.iter().for_each(|reason| self.add_times(reason, 1));
    }

    /// So many nodes more.
    pub fn add_times(&mut self, reason: &Reason, nodes: usize) {
        match self.0.get_mut(reason) {
            Some(count) => *count += nodes,
            None if nodes > 0 => drop(self.0.insert(reason.clone(), nodes)),
            None => {}
        }
    }

    fn sub(&mut self, refusal: &Refusal) {
        for reason in &refusal.reasons {
            if let Some(count) = self.0.get_mut(reason) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(reason);
                }
            }
        }
    }

    /// Upstream's `FitError` text: reasons with their counts, sorted as strings.
    pub fn text(&self, nodes: usize) -> String {
        let mut parts: Vec<String> = self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort_unstable();
        format!("0/{nodes} nodes are available: {}.", parts.join(", "))
    }
}

/// Upstream's error when there is no node at all.
pub const NO_NODES: &str = "no nodes available to schedule pods";

impl Diagnosis {
    /// Asks every rule about every node, in order, until one refuses.
    pub fn new(view: &ClassView, profile: &Profile, nodes: &Nodes) -> Self {
        let mut rejectors = Rejectors::default();
        let reasons = Reasons::default();
        if nodes.present() == 0 {
            return Self { text: NO_NODES.into(), rejectors, pre_filter: None, refusals: Vec::new(), reasons };
        }
        if let Verdict::Refused(plugin, refusal) = &view.verdict {
            rejectors.insert(*plugin);
            let text = format!("0/{} nodes are available: {}.", nodes.present(), refusal.message());
            return Self { text: text.into(), rejectors, pre_filter: Some((*plugin, refusal.clone())), refusals: Vec::new(), reasons };
        }
        let mut refusals: Vec<Option<(PluginIx, Refusal)>> = vec![None; nodes.slots()];
        let left_out = view.left_out(profile);
        for (ix, node) in nodes.iter() {
            let excluded = view.only.as_ref().filter(|(names, _)| !names.contains(&node.name)).and(left_out.as_ref());
            let first = || view.rules.iter().find_map(|(plugin, rule)| Some((*plugin, rule.refuses(ix, nodes)?)));
            refusals[ix.at()] = excluded.cloned().or_else(first);
        }
        for (plugin, _) in refusals.iter().flatten() {
            rejectors.insert(*plugin);
        }
        // Plugins that narrowed the set are to blame even when the nodes they left failed for other reasons.
        view.only.iter().flat_map(|(_, plugins)| plugins).for_each(|plugin| rejectors.insert(*plugin));
        let mut reasons = reasons;
        refusals.iter().flatten().for_each(|(_, refusal)| reasons.add(refusal));
        let text = reasons.text(nodes.present());
        Self { text: text.into(), rejectors, pre_filter: None, refusals, reasons }
    }

    /// The refusal of a node.
    pub fn of(&self, ix: NodeIx) -> Option<&(PluginIx, Refusal)> {
        self.refusals.get(ix.at())?.as_ref()
    }

    /// The text and the plugins to blame when some nodes are crowded.
    pub fn when(&self, crowded: &Crowded, nodes: &Nodes) -> (Arc<str>, Rejectors) {
        if crowded.is_empty() || self.pre_filter.is_some() {
            return (self.text.clone(), self.rejectors);
        }
        let (mut reasons, mut rejectors) = (self.reasons.clone(), self.rejectors);
        for (ix, (plugin, refusal)) in crowded {
            self.of(*ix).into_iter().for_each(|(_, known)| reasons.sub(known));
            reasons.add(refusal);
            rejectors.insert(*plugin);
        }
        (reasons.text(nodes.present()).into(), rejectors)
    }
}

impl ClassView {
    fn left_out(&self, profile: &Profile) -> Option<(PluginIx, Refusal)> {
        let (_, plugins) = self.only.as_ref()?;
        let mut by: Vec<&str> = plugins.iter().map(|plugin| profile.plugin_name(*plugin)).collect();
        by.sort_unstable();
        Some((*plugins.first()?, Refusal::unresolvable(format!("node(s) didn't satisfy plugin(s) [{}]", by.join(" ")))))
    }
}

/// Lets PostFilter plugins make room, in order: the first one that does has the last word. Its message is what all of them say.
pub fn make_room(profile: &mut Profile, plight: &Plight<'_>) -> RoomMade {
    // Where nobody makes room, nobody keeps any.
    let nomination = if profile.post_filter.is_empty() { Nomination::Clear } else { Nomination::Keep };
    let mut all = RoomMade { nomination, ..RoomMade::default() };
    for at in 0..profile.post_filter.len() {
        let plugin = profile.post_filter[at];
        let Some(plugin) = profile.plugins[plugin].post_filter() else { continue };
        let room = plugin.make_room(plight);
        if matches!(room.nomination, Nomination::Node(_)) {
            return room;
        }
        if room.nomination != Nomination::Keep {
            all.nomination = room.nomination;
        }
        let between = if all.message.is_empty() || room.message.is_empty() { "" } else { ", " };
        all.message = format!("{}{between}{}", all.message, room.message);
    }
    all
}

/// The whole message of a pod that no node takes: the reasons, then what PostFilter plugins say.
pub fn whole_message(reasons: &str, made: &str) -> String {
    if made.is_empty() { reasons.to_owned() } else { format!("{reasons} {made}") }
}

/// Upstream's `FitError` text for these reasons, each of one node.
pub fn message<'a>(nodes: usize, reasons: impl Iterator<Item = &'a Reason>) -> String {
    let mut all = Reasons::default();
    reasons.for_each(|reason| all.add_times(reason, 1));
    all.text(nodes)
}

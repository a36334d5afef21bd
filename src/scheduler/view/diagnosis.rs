//! Why no node takes a pod: the refusals of all nodes in, upstream's message and the plugins to blame out.

use std::{collections::BTreeMap, sync::Arc};

use super::{ClassView, Verdict};
use crate::{
    model::ids::NodeIx,
    scheduler::{
        framework::{PodInHand, Reason, Refusal},
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
}

impl Diagnosis {
    /// The refusals without the plugins, as PostFilter plugins get them.
    pub fn refusals_by_node(&self) -> Vec<Option<Refusal>> {
        self.refusals.iter().map(|refused| refused.as_ref().map(|(_, refusal)| refusal.clone())).collect()
    }
}

/// Upstream's error when there is no node at all.
pub const NO_NODES: &str = "no nodes available to schedule pods";

impl Diagnosis {
    /// Asks every rule about every node, in order, until one refuses.
    pub fn new(view: &ClassView, profile: &Profile, nodes: &Nodes) -> Self {
        let mut rejectors = Rejectors::default();
        if nodes.present() == 0 {
            return Self { text: NO_NODES.into(), rejectors, pre_filter: None, refusals: Vec::new() };
        }
        if let Verdict::Refused(plugin, refusal) = &view.verdict {
            rejectors.insert(*plugin);
            let text = format!("0/{} nodes are available: {}.", nodes.present(), refusal.message());
            return Self { text: text.into(), rejectors, pre_filter: Some((*plugin, refusal.clone())), refusals: Vec::new() };
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
        let text = message(nodes.present(), refusals.iter().flatten().flat_map(|(_, refusal)| &refusal.reasons));
        Self { text: text.into(), rejectors, pre_filter: None, refusals }
    }

    /// The refusal of a node.
    pub fn of(&self, ix: NodeIx) -> Option<&(PluginIx, Refusal)> {
        self.refusals.get(ix.at())?.as_ref()
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

/// The whole message of a pod that no node takes: the reasons, then what PostFilter plugins say.
pub fn failure_message(
    diagnosis: &Diagnosis,
    refusals: &[Option<Refusal>],
    profile: &mut Profile,
    pod: PodInHand<'_>,
    nodes: &Nodes,
) -> String {
    let mut said: Vec<String> = Vec::new();
    for at in 0..profile.post_filter.len() {
        let plugin = profile.post_filter[at];
        if let Some(plugin) = profile.plugins[plugin].post_filter() {
            said.push(plugin.make_room(pod, refusals, nodes).message);
        }
    }
    said.retain(|text| !text.is_empty());
    if said.is_empty() || nodes.present() == 0 {
        return diagnosis.text.to_string();
    }
    format!("{} {}", diagnosis.text, said.join(", "))
}

/// Upstream's `FitError` text: reasons with their counts, sorted as strings.
pub fn message<'a>(nodes: usize, reasons: impl Iterator<Item = &'a Reason>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort_unstable();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

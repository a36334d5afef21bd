//! Why no node takes a pod: the refusals of all nodes in, upstream's message and the plugins to blame out.

use std::{collections::BTreeMap, sync::Arc};

use smallvec::SmallVec;

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
#[derive(Clone, Debug)]
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
    /// How many nodes each plugin refused as the first one.
    blamed: SmallVec<[(PluginIx, usize); 4]>,
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
        let mut made = Self {
            text: NO_NODES.into(),
            rejectors: Rejectors::default(),
            pre_filter: None,
            refusals: Vec::new(),
            reasons: Reasons::default(),
            blamed: SmallVec::new(),
        };
        if nodes.present() == 0 {
            return made;
        }
        if let Verdict::Refused(plugin, refusal) = &view.verdict {
            made.rejectors.insert(*plugin);
            made.text = format!("0/{} nodes are available: {}.", nodes.present(), refusal.message()).into();
            made.pre_filter = Some((*plugin, refusal.clone()));
            return made;
        }
        made.ask(view, profile, nodes, nodes.iter().map(|(ix, _)| ix));
        made
    }

    /// Asks about these nodes again; what was said of the others still holds.
    fn ask(&mut self, view: &ClassView, profile: &Profile, nodes: &Nodes, asked: impl Iterator<Item = NodeIx>) {
        self.refusals.resize(nodes.slots(), None);
        let left_out = view.left_out(profile);
        for ix in asked {
            let node = nodes.get(ix);
            let excluded = view.only.as_ref().filter(|(names, _)| !names.contains(&node.name)).and(left_out.as_ref());
            let first = || view.rules.iter().find_map(|(plugin, rule)| Some((*plugin, rule.refuses(ix, nodes)?)));
            let refusal = if node.present { excluded.cloned().or_else(first) } else { None };
            self.count(refusal.as_ref(), 1);
            let old = std::mem::replace(&mut self.refusals[ix.at()], refusal);
            self.count(old.as_ref(), -1);
        }
        self.rejectors = Rejectors::default();
        self.blamed.iter().filter(|(_, nodes)| *nodes > 0).for_each(|(plugin, _)| self.rejectors.insert(*plugin));
        // Plugins that narrowed the set are to blame even when the nodes they left failed for other reasons.
        view.only.iter().flat_map(|(_, plugins)| plugins).for_each(|plugin| self.rejectors.insert(*plugin));
        self.text = self.reasons.text(nodes.present()).into();
    }

    /// A refusal of one node comes or goes.
    fn count(&mut self, refusal: Option<&(PluginIx, Refusal)>, nodes: isize) {
        let Some((plugin, refusal)) = refusal else { return };
        if nodes > 0 {
            self.reasons.add(refusal);
        } else {
            self.reasons.sub(refusal);
        }
        match self.blamed.iter_mut().find(|(known, _)| known == plugin) {
            Some((_, count)) => *count = count.saturating_add_signed(nodes),
            None => self.blamed.push((*plugin, 1)),
        }
    }

    /// Accounts for nodes that changed after change number `since`; false if everything is to be asked anew.
    fn catch_up(&mut self, view: &ClassView, profile: &Profile, nodes: &Nodes, since: u64) -> bool {
        // Rules over domains can change their mind about any node.
        if view.wide.is_some() || self.refusals.is_empty() || nodes.present() == 0 {
            return false;
        }
        let Some(changed) = nodes.few_changed_since(since) else { return false };
        self.ask(view, profile, nodes, changed);
        true
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
    /// Why no node takes the class. Kept, so that the thousands of other pods of the class cost a look-up, and a node that changed one question.
    pub fn diagnosis(&mut self, profile: &Profile, nodes: &Nodes) -> Arc<Diagnosis> {
        let made = match self.diagnosis.take() {
            Some((since, kept)) if since == nodes.changed() => kept,
            Some((since, mut kept)) => {
                if Arc::make_mut(&mut kept).catch_up(self, profile, nodes, since) {
                    kept
                } else {
                    Arc::new(Diagnosis::new(self, profile, nodes))
                }
            }
            None => Arc::new(Diagnosis::new(self, profile, nodes)),
        };
        self.diagnosis = Some((nodes.changed(), made.clone()));
        made
    }

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

//! What is known of all nodes for one pod class: the change log of the nodes in, the feasible set and the best nodes out.
//!
//! A view remembers, per node, whether the class fits and how well, and a cursor into the change log. Before a decision it asks again only about
//! the nodes that changed since, which is mostly the one that was used last. The kept answer of a node is used only while nothing that it depends
//! on has changed, so the result equals asking every rule about every node each time; a property test holds it to that.
//!
//! A view with rules or scores over domains is *wide*: what single nodes say is kept as ever (`local`), and before a decision the domains have their
//! word over all nodes, in straight loops. [`wide`] has that part.

mod best;
mod diagnosis;
mod lane;
mod rehearsal;
mod store;
mod wide;

use std::sync::Arc;

use best::BestIndex;
pub use diagnosis::{Crowded, Diagnosis, NO_NODES, Reasons, make_room, message, whole_message};
use fixedbitset::FixedBitSet;
pub use lane::Lane;
pub use rehearsal::Rehearsal;
pub use store::Views;

use smallvec::SmallVec;

use self::{lane::Score, wide::Wide};
use super::{
    framework::{CompiledFilter, CompiledScore, DomainRule, NodeRule, Premise, Reads, Refusal},
    nodes::Nodes,
    preemption::Memo,
    profiles::{PluginIx, Profile},
    queue::Rejectors,
};
use crate::model::{class::PodClass, ids::NodeIx, intern::Sym};

/// The default profile scores with seven plugins; so many extremes are compared without an allocation.
const LANES_INLINE: usize = 8;
/// A view that is used often has one or two changes to catch up with.
const CHANGES_INLINE: usize = 8;

/// Kept answers of one profile's rules about one class.
pub struct ClassView {
    /// Filters in order, those that skip the class left out.
    rules: Vec<(PluginIx, Rule)>,
    /// What those that skip it rest on.
    premises: Vec<Box<dyn Premise>>,
    lanes: Vec<Lane>,
    /// The only nodes that PreFilter leaves, and the plugins that said so.
    only: Option<(Vec<Sym>, Vec<PluginIx>)>,
    verdict: Verdict,
    /// PreScore is broken: an error unless one node alone is feasible.
    score_failure: Option<(PluginIx, String)>,
    /// Whether there were compute clusters when it was compiled: rules about them keep silent without any.
    federated: bool,
    /// Number of the last change that is accounted for.
    cursor: u64,
    passes_object_rules: FixedBitSet,
    feasible: FixedBitSet,
    feasible_count: usize,
    /// Weighted sums, valid where feasible.
    totals: Vec<i64>,
    /// What domains add, if the class has rules or scores over them.
    wide: Option<Wide>,
    /// Made at the second use: most classes of one pod never need it.
    best: Option<BestIndex>,
    uses: u32,
    diagnosis: Option<(u64, Arc<Diagnosis>)>,
    /// The whole message with what PostFilter plugins said, and when it was made.
    message: Option<(Moment, Arc<str>, Rejectors)>,
    memo: Memo,
}

/// Numbers of the last changes of everything that a message depends on: nodes, nominations, budgets.
pub type Moment = (u64, u64, u64);

/// A compiled filter.
enum Rule {
    /// Asked about single nodes.
    Node(Box<dyn NodeRule>),
    /// Answers for all nodes at once.
    Domains(Box<dyn DomainRule>),
}

impl Rule {
    fn of_nodes(&self, reads: Reads) -> Option<&dyn NodeRule> {
        match self {
            Self::Node(rule) if rule.reads() == reads => Some(&**rule),
            Self::Node(_) | Self::Domains(_) => None,
        }
    }

    fn refuses(&self, ix: NodeIx, nodes: &Nodes) -> Option<Refusal> {
        match self {
            Self::Node(rule) => rule.refuses(nodes.get(ix), nodes),
            Self::Domains(rule) => rule.refuses(ix),
        }
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        match self {
            Self::Node(rule) => rule.outdated(nodes),
            Self::Domains(rule) => rule.outdated(nodes),
        }
    }
}

/// Memory of a view that is gone.
#[derive(Debug, Default)]
pub struct Spare {
    sets: [FixedBitSet; 2],
    totals: Vec<i64>,
    lanes: Vec<Vec<i64>>,
}

/// What compiling the class said before any node was looked at.
enum Verdict {
    AskNodes,
    /// A PreFilter plugin refuses the class everywhere.
    Refused(PluginIx, Refusal),
    /// A PreFilter plugin is broken.
    Failed(PluginIx, String),
}

/// What a view knows now.
pub enum Outlook<'v> {
    /// At least one node takes the class.
    Feasible(&'v ClassView),
    /// No node does.
    Infeasible,
    /// A plugin is broken: its place and what it said.
    Broken(PluginIx, &'v str),
}

/// How much work bringing a view up to date was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Nodes asked about.
    pub nodes: usize,
    /// Whether everything was asked anew.
    pub from_scratch: bool,
}

impl ClassView {
    /// Compiles the profile's plugins for a class and asks about all nodes.
    pub fn new(profile: &Profile, class: &PodClass, nodes: &Nodes) -> Self {
        Self::with(Spare::default(), profile, class, nodes)
    }

    /// As [`Self::new`], in the memory of a view that is no longer needed: fresh memory for every new class would cost more than the asking.
    pub fn with(mut spare: Spare, profile: &Profile, class: &PodClass, nodes: &Nodes) -> Self {
        let mut view = Self {
            rules: Vec::with_capacity(profile.filter.len()),
            premises: Vec::new(),
            lanes: Vec::with_capacity(profile.score.len()),
            only: None,
            verdict: Verdict::AskNodes,
            score_failure: None,
            federated: nodes.clusters.any(),
            cursor: nodes.changed(),
            passes_object_rules: std::mem::take(&mut spare.sets[0]),
            feasible: std::mem::take(&mut spare.sets[1]),
            feasible_count: 0,
            totals: std::mem::take(&mut spare.totals),
            wide: None,
            best: None,
            uses: 0,
            diagnosis: None,
            message: None,
            memo: Memo::default(),
        };
        view.compile_filters(profile, class, nodes);
        if matches!(view.verdict, Verdict::AskNodes) {
            view.compile_scores(profile, class, nodes, &mut spare);
            view.widen();
            view.ask_all(nodes);
        }
        view
    }

    /// Gives the memory back for the next view.
    pub fn into_spare(self) -> Spare {
        let lanes = self.lanes.into_iter().map(Lane::into_memory).collect();
        let mut sets = [self.passes_object_rules, self.feasible];
        sets.iter_mut().for_each(FixedBitSet::clear);
        Spare { sets, totals: self.totals, lanes }
    }

    fn compile_filters(&mut self, profile: &Profile, class: &PodClass, nodes: &Nodes) {
        for &plugin in &profile.filter {
            let Some(filter) = profile.plugins[plugin].filter() else { continue };
            if !self.take_filter(plugin, filter.compile(class, nodes)) {
                return;
            }
        }
        if let (Verdict::AskNodes, Some((names, plugins))) = (&self.verdict, &self.only)
            && names.is_empty()
        {
            let mut by: Vec<&str> = plugins.iter().map(|plugin| profile.plugin_name(*plugin)).collect();
            by.sort_unstable();
            let reason = match by.as_slice() {
                [one] => format!("node(s) didn't satisfy plugin {one}"),
                many => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", many.join(" ")),
            };
            self.verdict = Verdict::Refused(plugins[0], Refusal::unresolvable(reason));
        }
    }

    /// False when nothing further is to be asked.
    fn take_filter(&mut self, plugin: PluginIx, outcome: CompiledFilter) -> bool {
        match outcome {
            CompiledFilter::Skip => {}
            CompiledFilter::SkipUntil(premise) => self.premises.push(premise),
            CompiledFilter::Until(premise, outcome) => {
                self.premises.push(premise);
                return self.take_filter(plugin, *outcome);
            }
            CompiledFilter::Rule(rule) => self.rules.push((plugin, Rule::Node(rule))),
            CompiledFilter::Domains(rule) => self.rules.push((plugin, Rule::Domains(rule))),
            CompiledFilter::Only(names, rule) => {
                self.restrict(plugin, &names);
                self.rules.push((plugin, Rule::Node(rule)));
            }
            // An unresolvable refusal ends PreFilter at once; a later one wins over a resolvable one. Upstream's rules.
            CompiledFilter::Refused(refusal) => {
                let resolvable = refusal.code == super::framework::RefusalCode::Unschedulable;
                self.verdict = Verdict::Refused(plugin, refusal);
                return resolvable;
            }
            CompiledFilter::Failed(why) => {
                self.verdict = Verdict::Failed(plugin, why);
                return false;
            }
        }
        true
    }

    fn restrict(&mut self, plugin: PluginIx, names: &[Sym]) {
        let (kept, plugins) = self.only.get_or_insert_with(|| (names.to_vec(), Vec::new()));
        kept.retain(|name| names.contains(name));
        plugins.push(plugin);
    }

    fn compile_scores(&mut self, profile: &Profile, class: &PodClass, nodes: &Nodes, spare: &mut Spare) {
        for &(plugin, weight) in &profile.score {
            let Some(score) = profile.plugins[plugin].score() else { continue };
            let score = match score.compile(class, nodes) {
                CompiledScore::Skip => continue,
                CompiledScore::SkipUntil(premise) => {
                    self.premises.push(premise);
                    continue;
                }
                CompiledScore::Failed(why) => {
                    self.score_failure.get_or_insert((plugin, why));
                    continue;
                }
                CompiledScore::Score(score) => Score::Node(score),
                CompiledScore::Domains(score) => Score::Domains(score),
            };
            self.lanes.push(Lane::new(plugin, weight, score, spare.lanes.pop().unwrap_or_default()));
        }
    }

    /// Whether something that compiling read has changed, so that the view must be made anew.
    pub fn outdated(&self, nodes: &Nodes) -> bool {
        self.federated != nodes.clusters.any()
            || self.rules.iter().any(|(_, rule)| rule.outdated(nodes))
            || self.lanes.iter().any(|lane| lane.outdated(nodes))
            || self.premises.iter().any(|premise| premise.outdated(nodes))
    }

    /// Accounts for every change since the last time.
    pub fn catch_up(&mut self, nodes: &Nodes) -> Effort {
        self.uses = self.uses.saturating_add(1);
        if !matches!(self.verdict, Verdict::AskNodes) || self.cursor == nodes.changed() {
            return Effort::default();
        }
        let since = self.cursor;
        let Some(changed) = nodes.few_changed_since(since) else {
            self.ask_all(nodes);
            return Effort { nodes: nodes.slots(), from_scratch: true };
        };
        let behind = changed.len();
        self.grow(nodes.slots());
        if self.wide.is_some() {
            let changed: SmallVec<[NodeIx; CHANGES_INLINE]> = changed.collect();
            self.catch_up_wide(&changed, since, nodes);
            return Effort { nodes: behind, from_scratch: false };
        }
        let before: SmallVec<[_; LANES_INLINE]> = self.lanes.iter().map(Lane::extremes).collect();
        for ix in changed {
            self.ask_again(ix, since, nodes);
        }
        self.cursor = nodes.changed();
        if !before.into_iter().eq(self.lanes.iter().map(Lane::extremes)) {
            self.sum_all();
        }
        Effort { nodes: behind, from_scratch: false }
    }

    fn grow(&mut self, slots: usize) {
        self.passes_object_rules.grow(slots);
        self.feasible.grow(slots);
        if self.totals.len() < slots {
            self.totals.resize(slots, 0);
        }
    }

    /// Asks everything about every node.
    fn ask_all(&mut self, nodes: &Nodes) {
        match &self.only {
            Some((names, _)) => {
                self.passes_object_rules.clear();
                self.passes_object_rules.grow(nodes.slots());
                let wanted = names.iter().flat_map(|name| nodes.named(*name));
                wanted.filter(|ix| nodes.get(*ix).present).for_each(|ix| self.passes_object_rules.insert(ix.at()));
            }
            None => self.passes_object_rules.clone_from(nodes.present_set()),
        }
        self.grow(nodes.slots());
        for reads in [Reads::Object, Reads::Usage] {
            let set = if reads == Reads::Object { &mut self.passes_object_rules } else { &mut self.feasible };
            self.rules.iter().filter_map(|(_, rule)| rule.of_nodes(reads)).for_each(|rule| rule.keep_admitted(nodes, set));
            if reads == Reads::Object {
                self.feasible.clone_from(&self.passes_object_rules);
            }
        }
        self.feasible_count = self.feasible.count_ones(..);
        for lane in &mut self.lanes {
            lane.fill(nodes, &self.feasible);
        }
        self.cursor = nodes.changed();
        if self.wide.is_some() {
            return self.resolve_all(nodes);
        }
        self.sum_all();
    }

    /// Asks about one node that changed after `since`.
    fn ask_again(&mut self, ix: NodeIx, since: u64, nodes: &Nodes) {
        let node = nodes.get(ix);
        let object_changed = node.object_changed > since;
        if object_changed {
            let passes = self.passes_object(ix, nodes);
            self.passes_object_rules.set(ix.at(), passes);
        }
        let was = self.feasible.contains(ix.at());
        let is = self.passes_object_rules.contains(ix.at()) && self.admitted(Reads::Usage, node, nodes);
        self.feasible.set(ix.at(), is);
        self.feasible_count = self.feasible_count + usize::from(is) - usize::from(was);
        match (was, is) {
            (false, false) => return,
            (true, false) => self.lanes.iter_mut().for_each(|lane| lane.drop_node(ix)),
            (_, true) => {
                let stale = self.lanes.iter_mut().filter(|lane| object_changed || !was || lane.reads_usage());
                stale.for_each(|lane| lane.refresh(ix, node, nodes, was));
            }
        }
        let old = self.totals[ix.at()];
        if is {
            self.totals[ix.at()] = self.total_of(ix);
        }
        if let Some(best) = &mut self.best {
            if was {
                best.remove(ix, old);
            }
            if is {
                best.insert(ix, self.totals[ix.at()]);
            }
        }
    }

    fn passes_object(&self, ix: NodeIx, nodes: &Nodes) -> bool {
        let node = nodes.get(ix);
        let wanted = node.present && self.only.as_ref().is_none_or(|(names, _)| names.contains(&node.name));
        wanted && self.admitted(Reads::Object, node, nodes)
    }

    fn admitted(&self, reads: Reads, node: &crate::model::node::NodeRecord, nodes: &Nodes) -> bool {
        self.rules.iter().filter_map(|(_, rule)| rule.of_nodes(reads)).all(|rule| rule.admits(node, nodes))
    }

    /// The sum of the scores about single nodes.
    fn total_of(&self, ix: NodeIx) -> i64 {
        let weighted = |lane: &Lane| lane.weight.saturating_mul(lane.normalised(lane.raw(ix), lane.extremes()));
        self.lanes.iter().filter(|lane| !lane.is_of_domains()).map(weighted).fold(0, i64::saturating_add)
    }

    /// Sums the lanes for every feasible node; what stands at the others means nothing.
    fn sum_all(&mut self) {
        self.totals.fill(0);
        for lane in &self.lanes {
            lane.add_to(&mut self.totals, &self.feasible);
        }
        self.best = None;
    }

    /// Where the class stands.
    pub fn outlook(&self) -> Outlook<'_> {
        match (&self.verdict, &self.score_failure) {
            (Verdict::Failed(plugin, why), _) => Outlook::Broken(*plugin, why),
            (Verdict::Refused(..), _) => Outlook::Infeasible,
            (Verdict::AskNodes, _) if self.feasible_count == 0 => Outlook::Infeasible,
            (Verdict::AskNodes, Some((plugin, why))) if self.feasible_count > 1 => Outlook::Broken(*plugin, why),
            (Verdict::AskNodes, _) => Outlook::Feasible(self),
        }
    }

    /// The nodes with the highest total, in no order that means anything; empty when no node is feasible.
    pub fn best(&mut self) -> &[NodeIx] {
        if self.best.is_none() {
            let feasible = self.feasible.ones().map(|at| (NodeIx(u32::try_from(at).unwrap_or(u32::MAX)), self.totals[at]));
            self.best = Some(BestIndex::new(self.totals.len(), feasible));
        }
        self.best.as_ref().map_or(&[], BestIndex::best)
    }

    /// As [`Self::best`] without keeping an index: for a class that is seen for the first time, and often the last.
    pub fn best_once(&self) -> Vec<NodeIx> {
        best::highest(&self.totals, &self.feasible)
    }

    /// Whether an index of the best nodes is worth its making.
    pub fn is_repeated(&self) -> bool {
        self.uses > 1 && self.wide.is_none()
    }

    /// The feasible nodes.
    pub fn feasible(&self) -> &FixedBitSet {
        &self.feasible
    }

    /// How many nodes are feasible.
    pub fn feasible_count(&self) -> usize {
        self.feasible_count
    }

    /// The weighted sum of a feasible node.
    pub fn total(&self, ix: NodeIx) -> i64 {
        self.totals.get(ix.at()).copied().unwrap_or(0)
    }

    /// The scores that apply to the class, in profile order.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|lane| lane.is_present())
    }

    /// The message that was kept for this moment, and whom it blames.
    pub fn kept_message(&self, now: Moment) -> Option<(Arc<str>, Rejectors)> {
        self.message.as_ref().filter(|(at, ..)| *at == now).map(|(_, message, rejectors)| (message.clone(), *rejectors))
    }

    /// Keeps the whole message until something changes.
    pub fn keep_message(&mut self, now: Moment, message: Arc<str>, rejectors: Rejectors) {
        self.message = Some((now, message, rejectors));
    }

    /// Whether PreFilter left only named nodes: such a class is mostly a single pod of a DaemonSet.
    pub fn is_restricted(&self) -> bool {
        self.only.is_some()
    }

    /// Bytes held, for the bound on all views.
    pub fn bytes(&self) -> usize {
        let best = self.best.as_ref().map_or(0, BestIndex::bytes);
        let wide = self.wide.as_ref().map_or(0, Wide::bytes);
        let rules = self.rules.iter().map(|(_, rule)| if let Rule::Domains(rule) = rule { rule.bytes() } else { 0 });
        let kept = rules.chain(self.lanes.iter().map(Lane::bytes)).sum::<usize>();
        self.totals.len() * 8 + self.feasible.len() / 4 + best + wide + kept + self.memo.bytes() + 512
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

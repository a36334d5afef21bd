//! The part of a view that domains decide: what single nodes say in, the feasible set and the totals after rules and scores over domains out.
//!
//! Where a rule counts over zones, one placed pod can open or close a third of all nodes. So nothing here moves node by node: masks are laid over each other
//! word by word, extremes and totals come from straight loops over arrays, and the best nodes are read off in one more. At 5,000 nodes each loop takes some
//! microseconds.

use fixedbitset::FixedBitSet;

use super::{ClassView, Rule};
use crate::{
    model::ids::NodeIx,
    scheduler::{framework::Changed, nodes::Nodes},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Wide {
    /// Nodes that all rules about single nodes admit. The view's `feasible` has those of them that domains leave.
    local: FixedBitSet,
    /// Sums of the scores that ask about single nodes, valid where `local`; not kept when no score is over domains.
    base: Vec<i64>,
    /// Whether a score is over domains.
    scores: bool,
}

impl Wide {
    pub(super) fn bytes(&self) -> usize {
        self.local.len() / 8 + self.base.len() * 8
    }
}

impl ClassView {
    /// Makes the view a wide one if anything in it is over domains.
    pub(super) fn widen(&mut self) {
        let scores = self.lanes.iter().any(super::Lane::is_of_domains);
        if scores || self.rules.iter().any(|(_, rule)| matches!(rule, Rule::Domains(_))) {
            self.wide = Some(Wide { scores, ..Wide::default() });
            self.lanes.iter_mut().for_each(super::Lane::look_up_extremes);
        }
    }

    /// After all nodes were asked: `feasible` holds what single nodes say.
    pub(super) fn resolve_all(&mut self, nodes: &Nodes) {
        if let Some(wide) = &mut self.wide {
            std::mem::swap(&mut wide.local, &mut self.feasible);
        }
        self.tell_domains(Changed::All, nodes);
        self.resolve();
        self.sum_local(nodes);
        self.sum_domains();
    }

    /// Accounts for nodes that changed after `since`.
    pub(super) fn catch_up_wide(&mut self, changed: &[NodeIx], since: u64, nodes: &Nodes) {
        self.cursor = nodes.changed();
        for ix in changed {
            self.ask_locally(*ix, since, nodes);
        }
        self.tell_domains(Changed::Nodes(changed), nodes);
        let moved = self.resolve();
        if moved {
            self.sum_local(nodes);
        } else {
            changed.iter().for_each(|ix| self.sum_one(*ix));
        }
        self.sum_domains();
    }

    fn tell_domains(&mut self, changed: Changed<'_>, nodes: &Nodes) {
        for (_, rule) in &mut self.rules {
            if let Rule::Domains(rule) = rule {
                rule.catch_up(changed, nodes);
            }
        }
        self.lanes.iter_mut().for_each(|lane| lane.catch_up(changed, nodes));
    }

    /// What single nodes say about one of them.
    fn ask_locally(&mut self, ix: NodeIx, since: u64, nodes: &Nodes) {
        let node = nodes.get(ix);
        let object_changed = node.object_changed > since;
        if object_changed {
            let passes = self.passes_object(ix, nodes);
            self.passes_object_rules.set(ix.at(), passes);
        }
        let is = self.passes_object_rules.contains(ix.at()) && self.admitted(super::Reads::Usage, node, nodes);
        let Some(wide) = &mut self.wide else { return };
        wide.local.grow(nodes.slots());
        let was = wide.local.contains(ix.at());
        wide.local.set(ix.at(), is);
        if is {
            let stale = self.lanes.iter_mut().filter(|lane| object_changed || !was || lane.reads_usage());
            stale.for_each(|lane| lane.refresh(ix, node, nodes, was));
        }
    }

    /// The feasible nodes, the answers of scores over domains, and extremes. True if the extremes of a score about single nodes moved.
    fn resolve(&mut self) -> bool {
        let Some(wide) = &self.wide else { return false };
        self.best = None;
        self.feasible.clone_from(&wide.local);
        for (_, rule) in &self.rules {
            if let Rule::Domains(rule) = rule {
                rule.keep_admitted(&mut self.feasible);
            }
        }
        self.feasible_count = self.feasible.count_ones(..);
        let mut moved = false;
        for lane in &mut self.lanes {
            lane.answer(&self.feasible);
            moved |= lane.find_extremes(&self.feasible) && !lane.is_of_domains();
        }
        moved
    }

    /// Sums the scores about single nodes, for all that these admit.
    fn sum_local(&mut self, nodes: &Nodes) {
        let Some(wide) = &mut self.wide else { return };
        let sums = if wide.scores { &mut wide.base } else { &mut self.totals };
        sums.resize(nodes.slots(), 0);
        sums.fill(0);
        self.lanes.iter().filter(|lane| !lane.is_of_domains()).for_each(|lane| lane.add_to(sums, &wide.local));
    }

    /// The same for one node.
    fn sum_one(&mut self, ix: NodeIx) {
        let total = self.total_of(ix);
        let Some(wide) = &mut self.wide else { return };
        let sums = if wide.scores { &mut wide.base } else { &mut self.totals };
        if sums.len() <= ix.at() {
            sums.resize(ix.at() + 1, 0);
        }
        sums[ix.at()] = total;
    }

    /// Asks scores over domains about these nodes alone, as if no other were feasible. The next catching up undoes it.
    pub fn answer_for(&mut self, sample: &[NodeIx]) {
        if self.wide.as_ref().is_some_and(|wide| wide.scores) {
            let mut set = FixedBitSet::with_capacity(self.feasible.len());
            sample.iter().for_each(|ix| set.insert(ix.at()));
            self.lanes.iter_mut().for_each(|lane| lane.answer(&set));
        }
    }

    /// Adds what scores over domains say about the feasible nodes.
    fn sum_domains(&mut self) {
        let Some(wide) = self.wide.as_ref().filter(|wide| wide.scores) else { return };
        let mut lanes = self.lanes.iter().filter(|lane| lane.is_of_domains() && lane.is_present());
        match lanes.next() {
            Some(first) => first.put_over(&wide.base, &mut self.totals, &self.feasible),
            None => self.totals.clone_from(&wide.base),
        }
        lanes.for_each(|lane| lane.add_to(&mut self.totals, &self.feasible));
    }
}

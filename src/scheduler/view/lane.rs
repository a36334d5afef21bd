//! One score of one class over all nodes: raw scores kept per node, and their extremes over the feasible nodes where normalising needs them.
//!
//! Extremes come from counts of each raw score, which move with single nodes. In a view whose feasible set moves by whole domains they are looked up
//! anew each time, in one straight loop, which is cheaper than to count thousands of nodes in and out.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;

use crate::{
    model::{ids::NodeIx, node::NodeRecord},
    scheduler::{
        framework::{Changed, DomainScore, Extremes, NodeScore, Normalise, Reads, UNSCORED},
        nodes::Nodes,
        profiles::PluginIx,
    },
};

/// A compiled score with its kept answers.
pub struct Lane {
    /// Whose score.
    pub plugin: PluginIx,
    /// Its weight.
    pub weight: i64,
    score: Score,
    /// The raw score of every node, when all share one: then nothing is kept per node.
    uniform: Option<i64>,
    raw: Vec<i64>,
    extremes: Kept,
    /// Whether the score has something to say now.
    present: bool,
}

/// The score itself.
pub(super) enum Score {
    /// Asked about single nodes.
    Node(Box<dyn NodeScore>),
    /// Answers for all nodes at once.
    Domains(Box<dyn DomainScore>),
}

/// How extremes are known.
enum Kept {
    /// Nobody needs them.
    Unneeded,
    /// How many feasible nodes have each raw score.
    Counts(BTreeMap<i64, u32>),
    /// As of the last look over all feasible nodes.
    Found(Option<Extremes>),
}

impl Score {
    pub(super) fn outdated(&self, nodes: &Nodes) -> bool {
        match self {
            Self::Node(score) => score.outdated(nodes),
            Self::Domains(score) => score.outdated(nodes),
        }
    }

    fn normalise(&self) -> Normalise {
        match self {
            Self::Node(score) => score.normalise(),
            Self::Domains(score) => score.normalise(),
        }
    }
}

impl Lane {
    /// A lane without answers yet, in memory that may have served another.
    pub(super) fn new(plugin: PluginIx, weight: i64, score: Score, memory: Vec<i64>) -> Self {
        let uniform = if let Score::Node(score) = &score { score.uniform() } else { None };
        let needed = uniform.is_none() && matches!(score.normalise(), Normalise::Extremes(_));
        let extremes = if needed { Kept::Counts(BTreeMap::new()) } else { Kept::Unneeded };
        Self { plugin, weight, score, uniform, raw: memory, extremes, present: true }
    }

    /// Extremes are to be looked up with [`Self::find_extremes`] from now on.
    pub(super) fn look_up_extremes(&mut self) {
        if let Kept::Counts(_) = self.extremes {
            self.extremes = Kept::Found(None);
        }
    }

    /// Gives the memory back.
    pub fn into_memory(self) -> Vec<i64> {
        self.raw
    }

    /// Whether the score has something to say about the class now.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// Whether it answers for all nodes at once.
    pub fn is_of_domains(&self) -> bool {
        matches!(self.score, Score::Domains(_))
    }

    /// Adds the weighted score to the total of every node of the set. Totals of other nodes may be changed too; they mean nothing.
    pub fn add_to(&self, totals: &mut [i64], set: &FixedBitSet) {
        let weighted = |score: i64| self.weight.wrapping_mul(score);
        match (self.uniform, self.score.normalise()) {
            _ if !self.present => {}
            (Some(raw), _) => {
                let same = weighted(self.normalised(raw, None));
                totals.iter_mut().for_each(|total| *total = total.wrapping_add(same));
            }
            // Straight over all nodes, so that the compiler makes vectors of it.
            (None, Normalise::AsIs) => {
                totals.iter_mut().zip(&self.raw).for_each(|(total, raw)| *total = total.wrapping_add(weighted(*raw)));
            }
            (None, Normalise::Extremes(_)) => self.each(set, |at, score| totals[at] = totals[at].wrapping_add(score)),
        }
    }

    /// The weighted score on top of what `base` has, for every node of the set. Totals of other nodes mean nothing.
    pub fn put_over(&self, base: &[i64], totals: &mut Vec<i64>, set: &FixedBitSet) {
        totals.resize(base.len(), 0);
        self.each(set, |at, score| totals[at] = base[at].wrapping_add(score));
    }

    /// Tells the weighted score of each node of the set.
    fn each(&self, set: &FixedBitSet, mut tell: impl FnMut(usize, i64)) {
        let extremes = self.extremes();
        let mut memo = Memo::default();
        for at in set.ones() {
            let raw = self.raw[at];
            tell(at, memo.of(raw, || self.weight.wrapping_mul(self.normalised(raw, extremes))));
        }
    }

    /// Whether every node gets the same from this lane, so that it cannot tell nodes apart.
    pub fn is_uniform(&self) -> bool {
        self.uniform.is_some()
    }

    /// Whether a pod that comes or goes can change a node's answer.
    pub fn reads_usage(&self) -> bool {
        matches!(&self.score, Score::Node(score) if score.reads() == Reads::Usage)
    }

    /// Whether what was compiled does not hold any more.
    pub(super) fn outdated(&self, nodes: &Nodes) -> bool {
        self.score.outdated(nodes)
    }

    /// Asks about all nodes of the set, unless the score answers for all at once.
    pub fn fill(&mut self, nodes: &Nodes, set: &FixedBitSet) {
        let Score::Node(score) = &self.score else { return };
        if self.uniform.is_some() {
            return;
        }
        self.raw.resize(nodes.slots(), 0);
        score.raw_all(nodes, set, &mut self.raw);
        if let Kept::Counts(counts) = &mut self.extremes {
            counts.clear();
            for at in set.ones() {
                *counts.entry(self.raw[at]).or_default() += 1;
            }
        }
    }

    /// Tells a score that answers for all nodes at once what has changed.
    pub(super) fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes) {
        if let Score::Domains(score) = &mut self.score {
            score.catch_up(changed, nodes);
        }
    }

    /// Asks such a score about the feasible nodes.
    pub(super) fn answer(&mut self, feasible: &FixedBitSet) {
        if let Score::Domains(score) = &mut self.score {
            self.raw.resize(feasible.len(), 0);
            self.present = score.raw_all(feasible, &mut self.raw);
        }
    }

    /// Looks extremes up over the feasible nodes. True if they have changed.
    pub(super) fn find_extremes(&mut self, feasible: &FixedBitSet) -> bool {
        let Kept::Found(known) = &mut self.extremes else { return false };
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        let mut see = |raw: i64| {
            min = min.min(if raw == UNSCORED { i64::MAX } else { raw });
            max = max.max(raw);
        };
        for (word, raws) in feasible.as_slice().iter().zip(self.raw.chunks(usize::BITS as usize)) {
            if *word == usize::MAX {
                raws.iter().for_each(|raw| see(*raw));
                continue;
            }
            let mut left = *word;
            while left != 0 {
                see(raws[left.trailing_zeros() as usize]);
                left &= left - 1;
            }
        }
        let found = if max == UNSCORED { Extremes { min: 0, max: 0 } } else { Extremes { min, max } };
        known.replace(found) != Some(found)
    }

    /// A node left the feasible set.
    pub fn drop_node(&mut self, ix: NodeIx) {
        if let (Kept::Counts(counts), Some(raw)) = (&mut self.extremes, self.raw.get(ix.at())) {
            leave(counts, *raw);
        }
    }

    /// Asks about one feasible node again; `was_feasible` says whether its old answer still counts in the extremes.
    pub fn refresh(&mut self, ix: NodeIx, node: &NodeRecord, nodes: &Nodes, was_feasible: bool) {
        let Score::Node(score) = &self.score else { return };
        if self.uniform.is_some() {
            return;
        }
        if self.raw.len() <= ix.at() {
            self.raw.resize(nodes.slots(), 0);
        }
        let (old, new) = (self.raw[ix.at()], score.raw(node, nodes));
        self.raw[ix.at()] = new;
        if let Kept::Counts(counts) = &mut self.extremes {
            if was_feasible {
                leave(counts, old);
            }
            *counts.entry(new).or_default() += 1;
        }
    }

    /// Extremes over the feasible nodes, if normalising needs any.
    pub fn extremes(&self) -> Option<Extremes> {
        match &self.extremes {
            Kept::Unneeded => None,
            Kept::Found(extremes) => *extremes,
            Kept::Counts(counts) => {
                let min = counts.keys().find(|raw| **raw != UNSCORED).copied().unwrap_or(0);
                let max = counts.keys().next_back().copied().filter(|raw| *raw != UNSCORED).unwrap_or(0);
                Some(Extremes { min, max })
            }
        }
    }

    /// The raw score of a feasible node.
    pub fn raw(&self, ix: NodeIx) -> i64 {
        self.uniform.unwrap_or_else(|| self.raw.get(ix.at()).copied().unwrap_or(0))
    }

    /// Raw to 0..=100 under the given extremes (those of [`Self::extremes`], or of a sample).
    pub fn normalised(&self, raw: i64, extremes: Option<Extremes>) -> i64 {
        match self.score.normalise() {
            _ if !self.present => 0,
            Normalise::AsIs => raw,
            Normalise::Extremes(_) if raw == UNSCORED => 0,
            Normalise::Extremes(by) => {
                by(raw, extremes.or(self.uniform.map(|raw| Extremes { min: raw, max: raw })).unwrap_or(Extremes { min: raw, max: raw }))
            }
        }
    }

    /// Asks the score about one node, without what is kept: for tests.
    #[cfg(test)]
    pub(super) fn asked(&self, node: &NodeRecord, nodes: &Nodes) -> Option<i64> {
        if let Score::Node(score) = &self.score { Some(score.raw(node, nodes)) } else { None }
    }

    /// Bytes held, for the bound on all views.
    pub fn bytes(&self) -> usize {
        let counts = if let Kept::Counts(counts) = &self.extremes { counts.len() * 24 } else { 0 };
        let own = if let Score::Domains(score) = &self.score { score.bytes() } else { 0 };
        self.raw.len() * 8 + counts + own + 128
    }
}

fn leave(counts: &mut BTreeMap<i64, u32>, raw: i64) {
    match counts.get_mut(&raw) {
        Some(1) => drop(counts.remove(&raw)),
        Some(count) => *count -= 1,
        None => debug_assert!(false, "a raw score left that was not counted"),
    }
}

/// Answers for raw scores that were seen just now: thousands of nodes share a few, and normalising divides.
struct Memo([(i64, i64); MEMO_LEN]);

const MEMO_LEN: usize = 64;

impl Default for Memo {
    fn default() -> Self {
        // A raw score that does not belong to its place, so that nothing is known.
        Self(std::array::from_fn(|at| (i64::from(at == 0), 0)))
    }
}

impl Memo {
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // only the low bits matter
    fn of(&mut self, raw: i64, answer: impl FnOnce() -> i64) -> i64 {
        let place = &mut self.0[raw as usize % MEMO_LEN];
        if place.0 != raw {
            *place = (raw, answer());
        }
        place.1
    }
}

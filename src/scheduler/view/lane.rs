//! One score of one class over all nodes: raw scores kept per node, and their extremes over the feasible nodes where normalising needs them.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;

use crate::{
    model::{ids::NodeIx, node::NodeRecord},
    scheduler::{
        framework::{Extremes, NodeScore, Normalise, Reads, UNSCORED},
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
    /// The score itself.
    pub score: Box<dyn NodeScore>,
    /// The raw score of every node, when all share one: then nothing is kept per node.
    uniform: Option<i64>,
    raw: Vec<i64>,
    /// How many feasible nodes have each raw score; only where normalising needs extremes.
    spread: Option<BTreeMap<i64, u32>>,
}

impl Lane {
    /// A lane without answers yet, in memory that may have served another.
    pub fn new(plugin: PluginIx, weight: i64, score: Box<dyn NodeScore>, memory: Vec<i64>) -> Self {
        let uniform = score.uniform();
        let spread = (uniform.is_none() && matches!(score.normalise(), Normalise::Extremes(_))).then(BTreeMap::new);
        Self { plugin, weight, score, uniform, raw: memory, spread }
    }

    /// Gives the memory back.
    pub fn into_memory(self) -> Vec<i64> {
        self.raw
    }

    /// Adds the weighted score to the total of every feasible node. Totals of other nodes may be changed too; they mean nothing.
    pub fn add_to(&self, totals: &mut [i64], feasible: &FixedBitSet) {
        let weighted = |score: i64| self.weight.wrapping_mul(score);
        match (self.uniform, self.score.normalise()) {
            (Some(raw), _) => {
                let same = weighted(self.normalised(raw, None));
                totals.iter_mut().for_each(|total| *total = total.wrapping_add(same));
            }
            // Straight over all nodes, so that the compiler makes vectors of it.
            (None, Normalise::AsIs) => {
                totals.iter_mut().zip(&self.raw).for_each(|(total, raw)| *total = total.wrapping_add(weighted(*raw)));
            }
            (None, Normalise::Extremes(_)) => {
                let extremes = self.extremes();
                for at in feasible.ones() {
                    totals[at] = totals[at].wrapping_add(weighted(self.normalised(self.raw[at], extremes)));
                }
            }
        }
    }

    /// Whether every node gets the same from this lane, so that it cannot tell nodes apart.
    pub fn is_uniform(&self) -> bool {
        self.uniform.is_some()
    }

    /// Whether a pod that comes or goes can change a node's answer.
    pub fn reads_usage(&self) -> bool {
        self.score.reads() == Reads::Usage
    }

    /// Asks about all feasible nodes.
    pub fn fill(&mut self, nodes: &Nodes, feasible: &FixedBitSet) {
        if self.is_uniform() {
            return;
        }
        self.raw.resize(nodes.slots(), 0);
        self.score.raw_all(nodes, feasible, &mut self.raw);
        if let Some(spread) = &mut self.spread {
            spread.clear();
            for at in feasible.ones() {
                *spread.entry(self.raw[at]).or_default() += 1;
            }
        }
    }

    /// A node left the feasible set.
    pub fn drop_node(&mut self, ix: NodeIx) {
        if let (Some(spread), Some(raw)) = (&mut self.spread, self.raw.get(ix.at())) {
            leave(spread, *raw);
        }
    }

    /// Asks about one feasible node again; `was_feasible` says whether its old answer still counts in the extremes.
    pub fn refresh(&mut self, ix: NodeIx, node: &NodeRecord, nodes: &Nodes, was_feasible: bool) {
        if self.is_uniform() {
            return;
        }
        if self.raw.len() <= ix.at() {
            self.raw.resize(nodes.slots(), 0);
        }
        let (old, new) = (self.raw[ix.at()], self.score.raw(node, nodes));
        self.raw[ix.at()] = new;
        if let Some(spread) = &mut self.spread {
            if was_feasible {
                leave(spread, old);
            }
            *spread.entry(new).or_default() += 1;
        }
    }

    /// Extremes over the feasible nodes, if normalising needs any.
    pub fn extremes(&self) -> Option<Extremes> {
        let spread = self.spread.as_ref()?;
        let min = spread.keys().find(|raw| **raw != UNSCORED).copied().unwrap_or(0);
        let max = spread.keys().next_back().copied().filter(|raw| *raw != UNSCORED).unwrap_or(0);
        Some(Extremes { min, max })
    }

    /// The raw score of a feasible node.
    pub fn raw(&self, ix: NodeIx) -> i64 {
        self.uniform.unwrap_or_else(|| self.raw.get(ix.at()).copied().unwrap_or(0))
    }

    /// Raw to 0..=100 under the given extremes (those of [`Self::extremes`], or of a sample).
    pub fn normalised(&self, raw: i64, extremes: Option<Extremes>) -> i64 {
        match self.score.normalise() {
            Normalise::AsIs => raw,
            Normalise::Extremes(_) if raw == UNSCORED => 0,
            Normalise::Extremes(by) => {
                by(raw, extremes.or(self.uniform.map(|raw| Extremes { min: raw, max: raw })).unwrap_or(Extremes { min: raw, max: raw }))
            }
        }
    }

    /// Bytes held, for the bound on all views.
    pub fn bytes(&self) -> usize {
        self.raw.len() * 8 + self.spread.as_ref().map_or(0, |spread| spread.len() * 24) + 128
    }
}

fn leave(spread: &mut BTreeMap<i64, u32>, raw: i64) {
    match spread.get_mut(&raw) {
        Some(1) => drop(spread.remove(&raw)),
        Some(count) => *count -= 1,
        None => debug_assert!(false, "a raw score left that was not counted"),
    }
}

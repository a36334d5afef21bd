//! Pods over the domains of a topology key: a label key and tallies in, for each domain how many pods are on those of its nodes that count.
//!
//! A domain is all nodes with the same value of the label. Domains have dense numbers, so that a verdict for each is a look-up in a short table, and all
//! nodes are gone over in one straight loop.

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashMap;

use crate::{
    model::{
        ids::NodeIx,
        intern::Sym,
        node::{HOSTNAME_LABEL, NodeRecord},
    },
    scheduler::{nodes::Nodes, terms::TallyIx},
};

/// The number of the nodes that do not have the label, or do not exist.
pub const NOWHERE: usize = 0;
/// More numbers than this times the nodes are forgotten when everything is counted anew.
const NUMBERS_PER_NODE_MAX: usize = 2;
/// Up to so many domains have their nodes as a set each, so that a whole domain opens or closes in some words.
const SETS_MAX: usize = 16;
const WORD_BITS: usize = usize::BITS as usize;

/// See the module.
pub struct Topology {
    /// The label.
    pub key: Sym,
    numbers: FxHashMap<Sym, u32>,
    /// Domain of each node.
    domain: Vec<u32>,
    /// Nodes that have the label.
    labelled: FixedBitSet,
    /// Nodes whose pods count for their domain.
    counts: FixedBitSet,
    /// How many such nodes each domain has.
    nodes: Vec<u32>,
    /// All nodes of each domain; empty when there are too many domains.
    sets: Vec<FixedBitSet>,
    /// Grows when a node changes its domain.
    moves: u64,
    sums: Vec<Sum>,
}

/// Pods of one tally.
pub struct Sum {
    tally: Option<TallyIx>,
    on: Vec<u32>,
    by_domain: Vec<u32>,
    total: u64,
}

impl Sum {
    /// What is counted; `None`: nothing is.
    pub fn tally(&self) -> Option<TallyIx> {
        self.tally
    }

    /// Pods on each node, whether it counts or not.
    pub fn on(&self) -> &[u32] {
        &self.on
    }

    /// Pods on counting nodes, by domain.
    pub fn by_domain(&self) -> &[u32] {
        &self.by_domain
    }

    /// Pods on all counting nodes.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// Whether the API calls this key the name of the host: the domain is the node itself.
pub fn is_hostname(key: Sym, nodes: &Nodes) -> bool {
    nodes.symbols.text(key) == HOSTNAME_LABEL
}

impl Topology {
    /// Nothing is counted yet.
    pub fn new(key: Sym) -> Self {
        Self {
            key,
            numbers: FxHashMap::default(),
            domain: Vec::new(),
            labelled: FixedBitSet::new(),
            counts: FixedBitSet::new(),
            nodes: vec![0],
            sets: Vec::new(),
            moves: 0,
            sums: Vec::new(),
        }
    }

    /// Counts a tally as well; its place among the sums. Of a tally that there is not, there are no pods.
    pub fn add(&mut self, tally: Option<TallyIx>) -> usize {
        if let Some(at) = self.sums.iter().position(|sum| sum.tally == tally) {
            return at;
        }
        self.sums.push(Sum { tally, on: Vec::new(), by_domain: vec![0], total: 0 });
        self.sums.len() - 1
    }

    /// Counts everything anew. `counts` says whether a node with the label counts, and one without it.
    pub fn restart(&mut self, nodes: &Nodes, counts: impl Fn(&NodeRecord) -> bool) {
        let slots = nodes.slots();
        if self.numbers.len() > NUMBERS_PER_NODE_MAX * slots {
            self.numbers.clear();
        }
        self.domain.clear();
        self.domain.resize(slots, 0);
        for set in [&mut self.labelled, &mut self.counts] {
            set.clear();
            set.grow(slots);
        }
        self.nodes.fill(0);
        let mut near = 0;
        for (at, node) in nodes.records().iter().enumerate() {
            let value = if node.present { node.labels.get_near(self.key, &mut near) } else { None };
            let domain = value.map_or(NOWHERE, |value| self.number(value));
            self.domain[at] = u32::try_from(domain).unwrap_or(u32::MAX);
            self.labelled.set(at, domain != NOWHERE);
            if node.present && counts(node) {
                self.counts.insert(at);
                self.nodes[domain] += 1;
            }
        }
        self.make_sets();
        self.moves += 1;
        for sum in &mut self.sums {
            sum.on.clear();
            sum.on.resize(slots, 0);
            sum.by_domain.clear();
            sum.by_domain.resize(self.nodes.len(), 0);
            sum.total = 0;
            let Some(tally) = sum.tally else { continue };
            for (ix, pods) in nodes.terms.all_on(tally) {
                sum.on[ix.at()] = pods;
                if self.counts.contains(ix.at()) {
                    sum.by_domain[self.domain[ix.at()] as usize] += pods;
                    sum.total += u64::from(pods);
                }
            }
        }
    }

    /// Counts one node anew.
    pub fn touch(&mut self, ix: NodeIx, nodes: &Nodes, counts: impl Fn(&NodeRecord) -> bool) {
        let (at, node) = (ix.at(), nodes.get(ix));
        if self.domain.len() <= at {
            self.domain.resize(at + 1, 0);
            self.counts.grow(at + 1);
            self.labelled.grow(at + 1);
            self.sums.iter_mut().for_each(|sum| sum.on.resize(at + 1, 0));
        }
        let value = if node.present { node.labels.get(self.key) } else { None };
        let domain = value.map_or(NOWHERE, |value| self.number(value));
        let (old, counted) = (self.domain[at] as usize, self.counts.contains(at));
        let is_counted = node.present && counts(node);
        if old != domain || self.sets.first().is_some_and(|set| set.len() <= at) {
            self.domain[at] = u32::try_from(domain).unwrap_or(u32::MAX);
            self.labelled.set(at, domain != NOWHERE);
            self.moves += 1;
            self.make_sets();
        }
        self.counts.set(at, is_counted);
        self.nodes[old] -= u32::from(counted);
        self.nodes[domain] += u32::from(is_counted);
        for sum in &mut self.sums {
            let pods = sum.tally.map_or(0, |tally| nodes.terms.on(tally, ix));
            let before = std::mem::replace(&mut sum.on[at], pods);
            if counted {
                sum.by_domain[old] -= before;
                sum.total -= u64::from(before);
            }
            if is_counted {
                sum.by_domain[domain] += pods;
                sum.total += u64::from(pods);
            }
        }
    }

    fn make_sets(&mut self) {
        self.sets.clear();
        if self.nodes.len() <= SETS_MAX {
            self.sets.resize_with(self.nodes.len(), || FixedBitSet::with_capacity(self.domain.len()));
            self.domain.iter().enumerate().for_each(|(at, domain)| self.sets[*domain as usize].insert(at));
        }
    }

    fn number(&mut self, value: Sym) -> usize {
        let next = self.nodes.len();
        let number = *self.numbers.entry(value).or_insert_with(|| u32::try_from(next).unwrap_or(u32::MAX)) as usize;
        if number >= next {
            self.nodes.resize(number + 1, 0);
            self.sums.iter_mut().for_each(|sum| sum.by_domain.resize(number + 1, 0));
        }
        number
    }

    /// The domain of a node.
    pub fn domain(&self, at: usize) -> usize {
        self.domain.get(at).map_or(NOWHERE, |domain| *domain as usize)
    }

    /// Domains of all nodes.
    pub fn domains(&self) -> &[u32] {
        &self.domain
    }

    /// Grows when a node changes its domain.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// The domain of all nodes with this value of the label, if there ever was one.
    pub fn numbered(&self, value: Sym) -> Option<usize> {
        self.numbers.get(&value).map(|number| *number as usize)
    }

    /// Counting nodes by domain; its length is one more than the highest number of a domain.
    pub fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// A sum.
    pub fn sum(&self, at: usize) -> &Sum {
        &self.sums[at]
    }

    /// Clears the nodes whose domain is not admitted.
    pub fn keep(&self, set: &mut FixedBitSet, admitted: &[bool]) {
        if admitted.iter().all(|admitted| *admitted) {
            return;
        }
        if !self.sets.is_empty() {
            let closed = self.sets.iter().zip(admitted).filter(|(_, admitted)| !**admitted);
            return closed.for_each(|(nodes, _)| set.difference_with(nodes));
        }
        for (word, domains) in set.as_mut_slice().iter_mut().zip(self.domain.chunks(WORD_BITS)) {
            if *word != 0 {
                let pass = |(bit, domain): (usize, &u32)| usize::from(admitted[*domain as usize]) << bit;
                *word &= domains.iter().enumerate().map(pass).fold(0, |mask, bit| mask | bit);
            }
        }
    }

    /// Clears the nodes that do not have the label.
    pub fn keep_labelled(&self, set: &mut FixedBitSet) {
        set.intersect_with(&self.labelled);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let domains = self.numbers.len() * 16 + self.nodes.len() * 4 + self.sets.len() * self.domain.len() / 8;
        self.domain.len() * 4 + self.counts.len() / 4 + domains + self.sums.len() * (self.domain.len() + self.nodes.len()) * 4
    }
}

//! The best nodes of a class at once: total scores in, the set of nodes that share the highest out.
//!
//! Nodes lie in one bucket per total score. Moving a node costs a look-up in a small tree; the best set is the tree's last entry.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;

use crate::model::ids::NodeIx;

/// Marks a node that is in no bucket.
const NOWHERE: u32 = u32::MAX;
const WORD_BITS: usize = usize::BITS as usize;
/// Emptied buckets that are kept, and the most places that one of them has: a pod moves a node from total to total, mostly to one that no other node has.
const SPARE_MAX: usize = 16;
const SPARE_PLACES_MAX: usize = 16;

/// The nodes of a set with the highest total, without an index: one pass over the set.
pub fn highest(totals: &[i64], set: &FixedBitSet) -> Vec<NodeIx> {
    let (mut highest, mut found) = (i64::MIN, Vec::new());
    for (at, (word, totals)) in set.as_slice().iter().zip(totals.chunks(WORD_BITS)).enumerate() {
        let mut left = *word;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            let total = totals[bit];
            if total < highest {
                continue;
            }
            if total > highest {
                highest = total;
                found.clear();
            }
            found.push(NodeIx(u32::try_from(at * WORD_BITS + bit).unwrap_or(u32::MAX)));
        }
    }
    found
}

/// Nodes by total score.
#[derive(Debug, Default)]
pub struct BestIndex {
    buckets: BTreeMap<i64, Vec<NodeIx>>,
    /// Place of each node in its bucket.
    places: Vec<u32>,
    spare: Vec<Vec<NodeIx>>,
}

impl BestIndex {
    /// An index of these nodes.
    pub fn new(slots: usize, totals: impl Iterator<Item = (NodeIx, i64)>) -> Self {
        let mut index = Self { buckets: BTreeMap::new(), places: vec![NOWHERE; slots], spare: Vec::new() };
        totals.for_each(|(node, total)| index.insert(node, total));
        index
    }

    /// Adds a node that is not in it.
    pub fn insert(&mut self, node: NodeIx, total: i64) {
        if self.places.len() <= node.at() {
            self.places.resize(node.at() + 1, NOWHERE);
        }
        let spare = &mut self.spare;
        let bucket = self.buckets.entry(total).or_insert_with(|| spare.pop().unwrap_or_default());
        self.places[node.at()] = u32::try_from(bucket.len()).unwrap_or(NOWHERE);
        bucket.push(node);
    }

    /// Removes a node that lies under `total`.
    pub fn remove(&mut self, node: NodeIx, total: i64) {
        let place = self.places.get(node.at()).copied().unwrap_or(NOWHERE);
        let Some(bucket) = self.buckets.get_mut(&total).filter(|bucket| (place as usize) < bucket.len()) else {
            debug_assert!(false, "a node was not in its bucket");
            return;
        };
        bucket.swap_remove(place as usize);
        if let Some(moved) = bucket.get(place as usize) {
            self.places[moved.at()] = place;
        }
        if bucket.is_empty() {
            let emptied = self.buckets.remove(&total);
            let is_kept = |bucket: &Vec<NodeIx>| self.spare.len() < SPARE_MAX && bucket.capacity() <= SPARE_PLACES_MAX;
            self.spare.extend(emptied.filter(is_kept));
        }
        self.places[node.at()] = NOWHERE;
    }

    /// The nodes with the highest total.
    pub fn best(&self) -> &[NodeIx] {
        self.buckets.last_key_value().map_or(&[], |(_, bucket)| bucket)
    }

    /// Bytes held, for the bound on all views.
    pub fn bytes(&self) -> usize {
        self.places.len() * 8 + self.buckets.len() * 48 + self.spare.len() * (24 + 4 * SPARE_PLACES_MAX)
    }
}

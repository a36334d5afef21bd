//! Loops over whole clusters: a set of nodes and a question in, a smaller set or a filled lane out.
//!
//! Sets are walked word by word. A word that is full, as most are for a class that fits nearly everywhere, becomes a straight loop over 64 records
//! without look-ups, and answers are gathered in a register.

use fixedbitset::FixedBitSet;

use crate::{model::node::NodeRecord, scheduler::nodes::Nodes};

const WORD_BITS: usize = usize::BITS as usize;

/// Clears the nodes of the set that are not admitted.
pub fn keep(nodes: &Nodes, set: &mut FixedBitSet, admits: impl Fn(&NodeRecord) -> bool) {
    for (word, records) in set.as_mut_slice().iter_mut().zip(nodes.records().chunks(WORD_BITS)) {
        if *word == usize::MAX {
            *word = records.iter().enumerate().fold(0, |kept, (bit, node)| kept | (usize::from(admits(node)) << bit));
            continue;
        }
        let mut left = *word;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            if records.get(bit as usize).is_some_and(|node| !admits(node)) {
                *word &= !(1 << bit);
            }
        }
    }
}

/// Writes the score of every node of the set at its place.
pub fn fill(nodes: &Nodes, set: &FixedBitSet, lane: &mut [i64], score: impl Fn(&NodeRecord) -> i64) {
    let places = lane.chunks_mut(WORD_BITS).zip(nodes.records().chunks(WORD_BITS));
    for (word, (places, records)) in set.as_slice().iter().zip(places) {
        if *word == usize::MAX {
            places.iter_mut().zip(records).for_each(|(place, node)| *place = score(node));
            continue;
        }
        let mut left = *word;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            if let (Some(place), Some(node)) = (places.get_mut(bit), records.get(bit)) {
                *place = score(node);
            }
        }
    }
}

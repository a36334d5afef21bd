//! In: all records. Out: the numbers of the cluster's status and metrics, and whether the books balance.

use super::{Machine, after::TELL_AT};

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs that have not ended.
    pub live: usize,
    /// Runs that have ended and wait to be reaped.
    pub finished: usize,
    /// Home pods that are being deleted.
    pub terminating: usize,
    /// Of these, those whose end cannot be confirmed as the cluster does not answer.
    pub unconfirmed: usize,
    /// Pods whose next step failed repeatedly, or is not taken as something is not as it should be.
    pub held_up: usize,
}

impl Counts {
    /// Nothing of ours is there, and nothing is left to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Machine {
    /// Counts anew.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        let reachable = self.around.reachable();
        for record in self.pods.values() {
            let finished = record.runs.values().filter(|run| run.facts.phase.is_terminal()).count();
            counts.finished += finished;
            counts.live += record.runs.len() - finished;
            let is_terminating = record.home.as_ref().is_some_and(|home| home.bound && home.deletion.is_some());
            counts.terminating += usize::from(is_terminating);
            counts.unconfirmed += usize::from(is_terminating && !reachable);
            counts.held_up += usize::from(record.notes.failures.is_stuck(TELL_AT) || !record.notes.told.is_empty());
        }
        counts
    }

    /// Whether what is kept twice agrees.
    pub fn consistency_check(&self) -> Result<(), String> {
        let orders = self.pods.iter().filter_map(|(uid, record)| record.order.as_ref().map(|(id, _)| (*id, uid.clone())));
        let orders: std::collections::BTreeMap<_, _> = orders.collect();
        if orders != self.orders {
            return Err(format!("orders by pod {orders:?}, by id {:?}", self.orders));
        }
        let wakes = self.pods.iter().filter_map(|(uid, record)| record.wake.map(|at| (at, uid.clone())));
        let wakes: std::collections::BTreeSet<_> = wakes.collect();
        if wakes != self.wakes {
            return Err(format!("wakes by pod {wakes:?}, by time {:?}", self.wakes));
        }
        if let Some((uid, _)) = self.pods.iter().find(|(_, record)| record.is_empty()) {
            return Err(format!("the record of {uid} is empty"));
        }
        for (uid, record) in &self.pods {
            for run in record.runs.values() {
                if self.run_owners.get(&run.facts.uid) != Some(uid) {
                    return Err(format!("run {} of {uid} has no owner", run.facts.name.name));
                }
            }
        }
        Ok(())
    }
}

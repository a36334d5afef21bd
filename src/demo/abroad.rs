//! What became of pods on compute clusters. In: the audits of all clusters, and the history as it stood when a line was cut and healed. Out: the numbers the
//! report gives, and those that must be zero.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::HOME;
use super::history::{End, History};
use crate::sim::federation::SimFederation;

/// News of what ended during a cut should come home within this time after it.
const NEWS_MS: u64 = 60_000;

/// After a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abroad {
    /// Pods whose containers were started in more than one place.
    pub started_twice: usize,
    /// Objects of ours that are left on compute clusters.
    pub leftovers: usize,
    /// Starts of pods, by cluster.
    pub starts: BTreeMap<String, usize>,
    /// Logs that were copied home, and their bytes.
    pub logs: (usize, usize),
    /// What the cut did.
    pub cut: CutOutcome,
}

impl Abroad {
    /// Looks at everything when all is over.
    pub fn of(federation: &SimFederation, cut: CutOutcome) -> Self {
        let mut starts: BTreeMap<String, usize> = BTreeMap::new();
        let mut there = BTreeSet::new();
        for (cluster, start) in federation.starts() {
            if cluster != HOME {
                there.insert(start.home_uid);
            }
            *starts.entry(cluster).or_default() += 1;
        }
        // Logs of tasks' pods at home are in the same archive.
        let copied = federation.logs().sizes().into_iter().filter(|(uid, _)| there.contains(uid));
        let logs = copied.fold((0, 0), |all, (_, size)| (all.0 + size.0, all.1 + size.1));
        Self {
            started_twice: federation.started_twice().len(),
            leftovers: federation.clusters().keys().map(|name| federation.leftovers(name).len()).sum(),
            starts,
            logs,
            cut,
        }
    }
}

/// A line that was cut, while it is.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    cluster: String,
    from_ms: u64,
    to_ms: u64,
    /// UIDs of the pods that were there.
    there: BTreeSet<String>,
}

/// What it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutOutcome {
    /// The cluster; empty if nothing was cut.
    pub cluster: String,
    /// When it was cut, in milliseconds from the start.
    pub from_ms: u64,
    /// When it was healed.
    pub to_ms: u64,
    /// Pods that were there.
    pub there: usize,
    /// Of these, how many had ended by the end, and how many of these ends became known within a minute of healing.
    pub ended: (usize, usize),
    /// Of these, how many are gone though nobody deleted them.
    pub evicted: usize,
    /// Pods that were bound elsewhere meanwhile.
    pub elsewhere: usize,
}

impl Cut {
    /// The line is cut, or healed.
    pub fn note(&mut self, history: &History, cluster: &str, is_cut: bool, at_ms: u64) {
        if !is_cut {
            self.to_ms = at_ms;
            return;
        }
        cluster.clone_into(&mut self.cluster);
        self.from_ms = at_ms;
        let there = history.pods.iter().filter(|(_, life)| life.ended.is_none() && life.is_in(cluster));
        self.there = there.map(|(uid, _)| uid.clone()).collect();
    }

    /// What became of it.
    pub fn outcome(&self, history: &History) -> CutOutcome {
        let lives = || self.there.iter().filter_map(|uid| history.pods.get(uid));
        let ends = || lives().filter_map(|life| life.ended);
        let during = |at_ms: u64| at_ms >= self.from_ms && at_ms < self.to_ms;
        let elsewhere =
            history.pods.values().filter(|life| !life.is_in(&self.cluster) && life.bound.as_ref().is_some_and(|(at, _)| during(*at)));
        CutOutcome {
            cluster: self.cluster.clone(),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            there: self.there.len(),
            ended: (ends().count(), ends().filter(|(at, _)| *at >= self.to_ms && *at < self.to_ms + NEWS_MS).count()),
            // People close notebooks; nobody deletes anything else.
            evicted: lives().filter(|life| life.kind != "notebook" && life.ended.is_some_and(|(_, how)| how == End::Deleted)).count(),
            elsewhere: elsewhere.count(),
        }
    }
}

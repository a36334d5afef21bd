//! Runs: pods of a compute cluster that run for a home pod. In: what that cluster's watch sees, and where home pods count. Out: of each pair exactly one
//! counts in that cluster: the home pod if it is known there, else the run.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::Cache;
use crate::model::{
    ids::{ClassIx, ClusterId, PodUid},
    intern::Sym,
};

/// All runs that watches have shown on nodes, counted or not.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: FxHashMap<PodUid, Run>,
    /// Runs of each home pod: one, but for the time between two attempts.
    by_home: FxHashMap<PodUid, SmallVec<[PodUid; 1]>>,
}

/// A run. Holds its class, whether it counts or not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    home: PodUid,
    cluster: ClusterId,
    node: Sym,
    class: ClassIx,
}

impl Runs {
    pub(super) fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.runs.values().for_each(|run| mark(run.node));
    }
}

impl Cache {
    /// The watch of a cluster shows a run on a node. Takes over one hold of `class`.
    pub fn observe_run(&mut self, uid: &PodUid, home: &PodUid, cluster: ClusterId, node: Sym, class: ClassIx) {
        let run = Run { home: home.clone(), cluster, node, class };
        if self.runs.runs.get(uid) == Some(&run) {
            self.release(class);
        } else {
            self.forget_run(uid);
            self.runs.runs.insert(uid.clone(), run);
            self.runs.by_home.entry(home.clone()).or_default().push(uid.clone());
        }
        self.settle_run(uid);
    }

    /// A run is gone. False if the pod was none.
    pub fn forget_run(&mut self, uid: &PodUid) -> bool {
        let Some(run) = self.runs.runs.remove(uid) else { return false };
        self.remove(uid);
        self.release(run.class);
        if let Some(list) = self.runs.by_home.get_mut(&run.home) {
            list.retain(|other| other != uid);
            if list.is_empty() {
                self.runs.by_home.remove(&run.home);
            }
        }
        true
    }

    /// Runs of a cluster that are not in a complete list; sorted.
    pub fn runs_missing_from(&self, cluster: ClusterId, listed: impl Fn(&PodUid) -> bool) -> Vec<PodUid> {
        let gone = self.runs.runs.iter().filter(|(uid, run)| run.cluster == cluster && !listed(uid));
        let mut gone: Vec<PodUid> = gone.map(|(uid, _)| uid.clone()).collect();
        gone.sort_unstable();
        gone
    }

    /// The class of a run.
    pub fn class_of_run(&self, uid: &PodUid) -> Option<ClassIx> {
        self.runs.runs.get(uid).map(|run| run.class)
    }

    /// A run has another class. Takes over one hold of it, and gives that of the old one to the caller.
    pub fn recast_run(&mut self, uid: &PodUid, class: ClassIx) -> Option<ClassIx> {
        let run = self.runs.runs.get_mut(uid)?;
        Some(std::mem::replace(&mut run.class, class))
    }

    /// How many runs hold a class although they may not count; a walk, for checks.
    pub fn runs_of_class(&self, class: ClassIx) -> usize {
        self.runs.runs.values().filter(|run| run.class == class).count()
    }

    /// A home pod begins or ceases to count in a cluster: its runs there cease or begin.
    pub(super) fn settle_runs_of(&mut self, home: &PodUid, cluster: ClusterId) {
        let Some(list) = self.runs.by_home.get(home).cloned() else { return };
        for uid in list {
            if self.runs.runs.get(&uid).is_some_and(|run| run.cluster == cluster) {
                self.settle_run(&uid);
            }
        }
    }

    fn settle_run(&mut self, uid: &PodUid) {
        let Some(run) = self.runs.runs.get(uid).cloned() else { return };
        if self.is_shadow(&run) {
            self.remove(uid);
        } else {
            self.classes.hold(run.class);
            self.observe(uid, run.cluster, run.node, run.class);
        }
    }

    fn is_shadow(&self, run: &Run) -> bool {
        self.pods.get(&run.home).is_some_and(|home| self.abroad(home) == Some(run.cluster))
    }

    pub(super) fn check_runs(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (uid, run) in &self.runs.runs {
            if self.pods.contains_key(uid) == self.is_shadow(run) {
                faults.push(format!("run {uid} and its home pod both count, or neither"));
            }
            if self.runs.by_home.get(&run.home).is_none_or(|list| !list.contains(uid)) {
                faults.push(format!("run {uid} is not filed under its home pod"));
            }
        }
        if self.runs.by_home.values().map(SmallVec::len).sum::<usize>() != self.runs.runs.len() {
            faults.push("a run that is gone is still filed under its home pod".into());
        }
        faults
    }
}

//! Facts of watches and lists enter the records. In: home pods and runs. Out: the next steps of the pods that they are about.

use rustc_hash::FxHashSet;

use super::{Machine, record::Record};
use crate::{
    federation::{
        effect::Command,
        facts::{HomePod, RunName, RunPod},
    },
    model::{ids::PodUid, time::Timestamp},
};

impl Machine {
    pub(super) fn home(&mut self, now: Timestamp, home: HomePod, out: &mut Vec<Command>) {
        let uid = home.uid.clone();
        self.pods.entry(uid.clone()).or_insert_with(|| Record::new(home.key.clone())).see_home(home);
        self.advance(now, &uid, out);
    }

    pub(super) fn home_gone(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        if let Some(record) = self.pods.get_mut(uid) {
            record.doubt_home();
        }
        self.advance(now, uid, out);
    }

    pub(super) fn homes_listed(&mut self, now: Timestamp, listed: &FxHashSet<PodUid>, out: &mut Vec<Command>) {
        self.around.homes_listed = true;
        for (uid, record) in &mut self.pods {
            // A list may be older than a binding that we have just made.
            if !listed.contains(uid) && !record.is_presumed && record.home.as_ref().is_some_and(|home| home.bound) {
                record.doubt_home();
            }
        }
        self.advance_all(now, out);
    }

    pub(super) fn run(&mut self, now: Timestamp, run: RunPod, out: &mut Vec<Command>) {
        let uid = run.home_uid.clone();
        self.see_run(now, run);
        self.advance(now, &uid, out);
    }

    pub(super) fn see_run(&mut self, now: Timestamp, run: RunPod) {
        self.run_owners.insert(run.uid.clone(), run.home_uid.clone());
        self.pods.entry(run.home_uid.clone()).or_insert_with(|| Record::new(run.home.clone())).see_run(now, run);
    }

    pub(super) fn run_gone(&mut self, now: Timestamp, name: &RunName, run_uid: &str, out: &mut Vec<Command>) {
        let Some(uid) = self.run_owners.remove(run_uid) else { return };
        if let Some(record) = self.pods.get_mut(&uid)
            && record.runs.get(name).is_some_and(|run| &*run.facts.uid == run_uid)
        {
            record.lose_run(name);
        }
        self.advance(now, &uid, out);
    }

    pub(super) fn runs_listed(&mut self, now: Timestamp, listed: &FxHashSet<Box<str>>, out: &mut Vec<Command>) {
        self.around.runs_listed = true;
        self.run_owners.retain(|uid, _| listed.contains(uid));
        for record in self.pods.values_mut() {
            record.runs.retain(|_, run| listed.contains(&run.facts.uid));
        }
        self.advance_all(now, out);
    }
}

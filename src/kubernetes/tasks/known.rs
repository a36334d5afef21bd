//! What watches have shown, beside the machine: which objects there are, which nodes are lost, how runs stand. In: what was seen and answered. Out: lists that
//! are complete, and what is news.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::watched::{Kind, SeenPod, Speaking};
use crate::{
    model::time::Timestamp,
    tasks::{
        effect::Listing,
        facts::{Key, Run},
        run::Phase,
    },
};

/// An object that an answer showed and no watch within this is not there any more: a list takes no longer.
const UNSEEN_MAX: Duration = Duration::from_secs(120);
/// A node that has not been ready for so long has lost its pods.
const NOT_READY_MAX: Duration = Duration::from_secs(300);

/// Objects of one kind by UID.
#[derive(Debug, Default)]
struct Objects {
    listed: bool,
    seen: BTreeSet<Box<str>>,
    /// Known from an answer alone: a list that was begun before the object was made does not have it.
    answered: BTreeMap<Box<str>, Instant>,
}

/// A run, as far as people count it and logs need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub phase: Option<Phase>,
    pub queued_at: Option<Timestamp>,
    pub log_bytes_max: u64,
}

/// A pod with containers that run.
#[derive(Clone, Debug)]
pub(super) struct Speakers {
    pub pod: Key,
    pub owner: Box<str>,
    pub speaking: Speaking,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    objects: [Objects; 3],
    /// Runs by UID.
    pub runs: FxHashMap<Box<str>, Standing>,
    /// Pods with containers that run, by UID.
    pub speaking: FxHashMap<Box<str>, Speakers>,
    nodes: BTreeMap<Box<str>, Node>,
}

/// A node, and since when it is not ready.
#[derive(Debug, Default)]
struct Node {
    not_ready: Option<Instant>,
    lost: bool,
}

impl Known {
    pub(super) fn saw(&mut self, kind: Kind, uid: &str) {
        let objects = &mut self.objects[kind as usize];
        objects.answered.remove(uid);
        objects.seen.insert(uid.into());
    }

    pub(super) fn answered(&mut self, kind: Kind, uid: &str, now: Instant) {
        let objects = &mut self.objects[kind as usize];
        if !uid.is_empty() && !objects.seen.contains(uid) {
            objects.answered.entry(uid.into()).or_insert(now);
        }
    }

    pub(super) fn saw_run(&mut self, run: &Run) {
        let log_bytes_max = run.frozen.as_ref().map_or(0, |frozen| frozen.logs.bytes_max);
        self.runs
            .insert(run.uid.clone(), Standing { phase: run.phase(), queued_at: run.status.queued_at.map(|time| time.0), log_bytes_max });
    }

    pub(super) fn saw_pod(&mut self, seen: &SeenPod) {
        if seen.speaking.is_empty() {
            self.speaking.remove(&seen.pod.uid);
            return;
        }
        let speakers = Speakers { pod: seen.pod.key.clone(), owner: seen.pod.owner.clone(), speaking: seen.speaking.clone() };
        self.speaking.insert(seen.pod.uid.clone(), speakers);
    }

    pub(super) fn gone(&mut self, kind: Kind, uid: &str) {
        let objects = &mut self.objects[kind as usize];
        objects.answered.remove(uid);
        objects.seen.remove(uid);
        self.runs.remove(uid);
        self.speaking.remove(uid);
    }

    /// A list is complete. Out: all that there is, once all three are.
    pub(super) fn listed(&mut self, kind: Kind, uids: BTreeSet<Box<str>>) -> Option<Listing> {
        match kind {
            Kind::Task => {}
            Kind::Run => self.runs.retain(|uid, _| uids.contains(uid)),
            Kind::Pod => self.speaking.retain(|uid, _| uids.contains(uid)),
        }
        let objects = &mut self.objects[kind as usize];
        objects.listed = true;
        objects.answered.retain(|uid, _| !uids.contains(uid));
        objects.seen = uids;
        self.listing()
    }

    fn listing(&self) -> Option<Listing> {
        let all = |kind: Kind| {
            let objects = &self.objects[kind as usize];
            objects.seen.iter().chain(objects.answered.keys()).cloned().collect()
        };
        let complete = self.objects.iter().all(|objects| objects.listed);
        complete.then(|| Listing { tasks: all(Kind::Task), runs: all(Kind::Run), pods: all(Kind::Pod) })
    }

    /// Forgets what no watch has shown for long. Out: all that there is, if something was forgotten.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Listing> {
        let mut expired = false;
        for objects in &mut self.objects {
            let before = objects.answered.len();
            objects.answered.retain(|_, at| now.duration_since(*at) < UNSEEN_MAX);
            expired |= objects.answered.len() < before;
        }
        if expired { self.listing() } else { None }
    }

    /// A node was seen. Out: whether it is lost, if that is news.
    pub(super) fn node(&mut self, name: &str, ready: bool, now: Instant) -> Option<bool> {
        let node = self.nodes.entry(name.into()).or_default();
        if ready {
            node.not_ready = None;
            return std::mem::take(&mut node.lost).then_some(false);
        }
        node.not_ready.get_or_insert(now);
        None
    }

    /// A node is gone. Out: whether that is news.
    pub(super) fn node_gone(&mut self, name: &str) -> bool {
        // Its name may come back.
        self.nodes.get_mut(name).is_some_and(|node| !std::mem::replace(&mut node.lost, true))
    }

    /// Nodes that a complete list does not have.
    pub(super) fn nodes_listed(&mut self, names: &BTreeSet<Box<str>>) -> Vec<Box<str>> {
        let gone: Vec<Box<str>> = self.nodes.keys().filter(|name| !names.contains(*name)).cloned().collect();
        gone.into_iter().filter(|name| self.node_gone(name)).collect()
    }

    /// Nodes that have not been ready for too long, each told once.
    pub(super) fn nodes_lost(&mut self, now: Instant) -> Vec<Box<str>> {
        let is_lost = |node: &Node| !node.lost && node.not_ready.is_some_and(|since| now.duration_since(since) >= NOT_READY_MAX);
        let lost = self.nodes.iter_mut().filter(|(_, node)| is_lost(node));
        lost.map(|(name, node)| {
            node.lost = true;
            name.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(uids: &[&str]) -> BTreeSet<Box<str>> {
        uids.iter().map(|uid| Box::from(*uid)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_answer_showed_is_not_gone_because_an_older_list_does_not_have_it() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(known.listed(Kind::Task, set(&[])).is_none() && known.listed(Kind::Run, set(&["r"])).is_none());
        known.answered(Kind::Pod, "new", now);
        assert_eq!(known.listed(Kind::Pod, set(&["old"])).unwrap().pods, set(&["new", "old"]));
        assert!(known.expire(now + UNSEEN_MAX / 2).is_none());
        assert_eq!(known.expire(now + UNSEEN_MAX).unwrap().pods, set(&["old"]), "no watch has shown it");
        known.answered(Kind::Pod, "next", now);
        known.saw(Kind::Pod, "next");
        assert!(known.expire(now + UNSEEN_MAX).is_none());
        assert_eq!(known.listed(Kind::Pod, set(&["old"])).unwrap().pods, set(&["old"]), "a watch has, and the list has not");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_lost_after_a_while_and_found_again() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert_eq!((known.node("n", true, now), known.node("n", false, now)), (None, None));
        assert!(known.nodes_lost(now + NOT_READY_MAX / 2).is_empty());
        assert_eq!(known.nodes_lost(now + NOT_READY_MAX), [Box::from("n")]);
        assert!(known.nodes_lost(now + NOT_READY_MAX).is_empty() && !known.node_gone("n"), "told once");
        known.node("m", true, now);
        assert_eq!(known.nodes_listed(&set(&[])), [Box::from("m")]);
        assert_eq!(known.node("m", true, now), Some(false), "a node of that name is there again");
    }
}

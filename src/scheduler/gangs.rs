//! Groups of pods that are placed together or not at all. In: which pods say they are members, and `PodGroup` objects. Out: who is held back and why, how
//! many members a group asks for, who waits for whom.
//!
//! Sources: `GangScheduling` and the pod-group state of kube-scheduler v1.37. The annotation form is ours, and works where the API server knows no
//! `PodGroup`. What is placed is not known here: the engine asks its cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use rustc_hash::FxHashMap;

use crate::model::{
    gang::{Membership, PodGroupFacts, TIMEOUT_DEFAULT},
    ids::PodUid,
    time::{DurationMs, Timestamp},
};

/// A pod that is held for its gang says so after this long: the members of one come one after the other, and most are complete before.
pub const TELL_AFTER: DurationMs = DurationMs::from_secs(2);

/// Names a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Namespace of the group and all its pods.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Where it is declared.
    pub form: Form,
}

/// Where a group is declared: equal names of two forms are two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// By annotations of its pods.
    Annotated,
    /// By a `PodGroup`.
    PodGroup,
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.form == Form::Annotated { "gang" } else { "pod group" };
        write!(f, "{kind} {:?}", self.name)
    }
}

/// What a group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its `PodGroup` is not there (yet).
    Missing,
    /// Nothing.
    Basic,
    /// So many members at once, at least; and how long decided ones may wait for others.
    Gang {
        /// At least so many.
        min: usize,
        /// Decided members wait this long.
        timeout: DurationMs,
    },
    /// Something that this version does not do.
    NotFollowed(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    min_count: u32,
    timeout: DurationMs,
    is_ready: bool,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<PodUid, Member>,
    /// Kept out of the queue until the group is complete.
    held: BTreeSet<PodUid>,
    tell_at: Option<Timestamp>,
    /// When gathered members give their nodes back.
    deadline: Option<Timestamp>,
}

/// What the sight of a pod changes.
#[derive(Debug, Default)]
pub struct Touched {
    /// Groups that may be complete now, or not any more.
    pub groups: Vec<Arc<GroupKey>>,
    /// The pod says another thing about its group than before.
    pub is_another: bool,
}

/// All groups that have a pod.
#[derive(Debug, Default)]
pub struct Gangs {
    groups: BTreeMap<Arc<GroupKey>, Group>,
    of: FxHashMap<PodUid, Arc<GroupKey>>,
    faults: FxHashMap<PodUid, Arc<str>>,
    pod_groups: BTreeMap<GroupKey, PodGroupFacts>,
    /// Pods that have a node and all else, and wait for others of their group before they are bound.
    gathered: BTreeSet<PodUid>,
    untold: BTreeSet<(Timestamp, Arc<GroupKey>)>,
}

impl Gangs {
    /// Whether no pod says anything about groups.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && self.faults.is_empty()
    }

    /// A pod of home was seen. `is_ready`: it is on a node, or waits for nothing but one. What this touches.
    pub fn see(&mut self, uid: &PodUid, namespace: &str, said: Option<&Membership>, is_ready: bool) -> Touched {
        if said.is_none() && self.is_empty() {
            return Touched::default();
        }
        let key = said.and_then(|said| key_of(namespace, said));
        let (min_count, timeout) = match said {
            Some(Membership::Gang { min_count, timeout, .. }) => (*min_count, *timeout),
            _ => (0, TIMEOUT_DEFAULT),
        };
        let mut touched = Touched { groups: Vec::new(), is_another: self.of.get(uid).map(|key| &**key) != key.as_ref() };
        if touched.is_another {
            touched.groups.extend(self.forget(uid));
        }
        touched.is_another |= match said {
            Some(Membership::Faulty(why)) => self.faults.insert(uid.clone(), Arc::from(&**why)).is_none(),
            _ => self.faults.remove(uid).is_some(),
        };
        if let Some(key) = key {
            let key = self.groups.get_key_value(&key).map_or_else(|| Arc::new(key), |(known, _)| known.clone());
            let member = Member { min_count, timeout, is_ready };
            let before = self.groups.entry(key.clone()).or_default().members.insert(uid.clone(), member);
            self.of.insert(uid.clone(), key.clone());
            if before != Some(member) {
                touched.groups.push(key);
            }
        }
        touched
    }

    /// A pod is gone. The group that it was a member of.
    pub fn forget(&mut self, uid: &PodUid) -> Option<Arc<GroupKey>> {
        self.faults.remove(uid);
        self.ungather(uid);
        let key = self.of.remove(uid)?;
        let group = self.groups.get_mut(&key)?;
        group.members.remove(uid);
        group.held.remove(uid);
        if group.members.is_empty() {
            let tell_at = group.tell_at;
            self.groups.remove(&key);
            if let Some(at) = tell_at {
                self.untold.remove(&(at, key.clone()));
            }
        }
        Some(key)
    }

    /// Members that are not in a complete list of pods.
    pub fn missing_from(&self, listed: impl Fn(&PodUid) -> bool) -> Vec<PodUid> {
        let mut gone: Vec<PodUid> = self.of.keys().chain(self.faults.keys()).filter(|uid| !listed(uid)).cloned().collect();
        gone.sort_unstable();
        gone
    }

    /// The group of a pod. `with_api`: `PodGroup`s count.
    pub fn of(&self, uid: &PodUid, with_api: bool) -> Option<&Arc<GroupKey>> {
        self.of.get(uid).filter(|key| with_api || key.form == Form::Annotated)
    }

    /// What the group asks for.
    pub fn policy(&self, key: &GroupKey) -> Policy {
        match key.form {
            Form::Annotated => {
                let members = || self.groups.get(key).into_iter().flat_map(|group| group.members.values());
                let min = members().map(|member| member.min_count as usize).max().unwrap_or_default();
                Policy::Gang { min, timeout: members().map(|member| member.timeout).min().unwrap_or(TIMEOUT_DEFAULT) }
            }
            Form::PodGroup => match self.pod_groups.get(key) {
                None => Policy::Missing,
                Some(PodGroupFacts { not_followed: Some(why), .. }) => Policy::NotFollowed(Arc::from(&**why)),
                Some(PodGroupFacts { min_count: None, .. }) => Policy::Basic,
                Some(PodGroupFacts { min_count: Some(min), .. }) => Policy::Gang { min: *min as usize, timeout: TIMEOUT_DEFAULT },
            },
        }
    }

    /// The members that count: those that are on a node, or wait for nothing but one. Sorted.
    pub fn ready(&self, key: &GroupKey) -> impl Iterator<Item = &PodUid> {
        let members = self.groups.get(key).into_iter().flat_map(|group| &group.members);
        members.filter(|(_, member)| member.is_ready).map(|(uid, _)| uid)
    }

    /// All members that are known. Sorted.
    pub fn members(&self, key: &GroupKey) -> impl Iterator<Item = &PodUid> {
        self.groups.get(key).into_iter().flat_map(|group| group.members.keys())
    }

    /// Why a pod is not let into the queue.
    pub fn hold(&self, uid: &PodUid, with_api: bool) -> Option<Arc<str>> {
        if let Some(why) = self.faults.get(uid) {
            return Some(why.clone());
        }
        let key = self.of(uid, with_api)?;
        self.shortage(key, self.ready(key).count())
    }

    /// The same of a pod that is not known, as one more of those that wait.
    pub fn hold_newcomer(&self, namespace: &str, said: &Membership, with_api: bool) -> Option<Arc<str>> {
        if let Membership::Faulty(why) = said {
            return Some(Arc::from(&**why));
        }
        let key = key_of(namespace, said).filter(|key| with_api || key.form == Form::Annotated)?;
        let ready = self.ready(&key).count() + 1;
        match said {
            Membership::Gang { min_count, .. } if ready < *min_count as usize => Some(waiting(&key, *min_count as usize)),
            _ => self.shortage(&key, ready),
        }
    }

    /// Why nobody of the group may be tried.
    pub fn shortage(&self, key: &GroupKey, ready: usize) -> Option<Arc<str>> {
        match self.policy(key) {
            Policy::Missing => Some(format!("waiting for pods's pod group {:?} to appear in scheduling queue", key.name).into()),
            Policy::NotFollowed(why) => Some(why),
            Policy::Gang { min, .. } if ready < min => Some(waiting(key, min)),
            Policy::Gang { .. } | Policy::Basic => None,
        }
    }

    // === held back ===

    /// A pod is held back because of its group.
    pub fn put_held(&mut self, uid: &PodUid, now: Timestamp) {
        let Some(key) = self.of.get(uid) else { return };
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.held.insert(uid.clone()) && group.tell_at.is_none() {
            let at = now + TELL_AFTER;
            group.tell_at = Some(at);
            self.untold.insert((at, key.clone()));
        }
    }

    /// Those that were held back, to be let in.
    pub fn take_held(&mut self, key: &GroupKey) -> BTreeSet<PodUid> {
        let Some((key, _)) = self.groups.get_key_value(key) else { return BTreeSet::new() };
        let key = key.clone();
        let Some(group) = self.groups.get_mut(&key) else { return BTreeSet::new() };
        if let Some(at) = group.tell_at.take() {
            self.untold.remove(&(at, key));
        }
        std::mem::take(&mut group.held)
    }

    /// Those that have been held back for long enough to say so.
    pub fn take_untold(&mut self, now: Timestamp) -> Vec<PodUid> {
        let mut due = Vec::new();
        while let Some((_, key)) = self.untold.first().filter(|(at, _)| *at <= now).cloned().and_then(|first| self.untold.take(&first)) {
            if let Some(group) = self.groups.get_mut(&key) {
                group.tell_at = None;
                due.extend(group.held.iter().cloned());
            }
        }
        due
    }

    /// When somebody has been held back for long enough.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.untold.first().map(|(at, _)| *at)
    }

    /// Whether what the pod says about its group cannot be followed.
    pub fn is_faulty(&self, uid: &PodUid) -> bool {
        self.faults.contains_key(uid)
    }

    // === gathered ===

    /// A pod waits for the others with all else done. Until when.
    pub fn gather(&mut self, uid: &PodUid, key: &GroupKey, now: Timestamp, timeout: DurationMs) -> Timestamp {
        self.gathered.insert(uid.clone());
        let deadline = now + timeout;
        self.groups.get_mut(key).map_or(deadline, |group| *group.deadline.get_or_insert(deadline))
    }

    /// A pod does not wait for the others any more.
    pub fn ungather(&mut self, uid: &PodUid) {
        if !self.gathered.remove(uid) {
            return;
        }
        let Some(group) = self.of.get(uid).and_then(|key| self.groups.get_mut(key)) else { return };
        if group.deadline.is_some() && !group.members.keys().any(|member| self.gathered.contains(member)) {
            group.deadline = None;
        }
    }

    /// Those of a group that wait for the others. Sorted.
    pub fn gathered_of(&self, key: &GroupKey) -> impl Iterator<Item = &PodUid> {
        self.members(key).filter(|uid| self.gathered.contains(*uid))
    }

    /// The same, which wait no more.
    pub fn take_gathered(&mut self, key: &GroupKey) -> Vec<PodUid> {
        let all: Vec<PodUid> = self.gathered_of(key).cloned().collect();
        self.gathered.retain(|uid| all.binary_search(uid).is_err());
        self.groups.get_mut(key).into_iter().for_each(|group| group.deadline = None);
        all
    }

    /// Whether the pod waits for the others.
    pub fn is_gathered(&self, uid: &PodUid) -> bool {
        self.gathered.contains(uid)
    }

    /// How many pods do.
    pub fn gathered(&self) -> usize {
        self.gathered.len()
    }

    // === PodGroups ===

    /// A `PodGroup` was seen. Its key, and what was known of it.
    pub fn set_pod_group(&mut self, facts: PodGroupFacts) -> (GroupKey, Option<PodGroupFacts>) {
        let key = GroupKey { namespace: facts.namespace.clone(), name: facts.name.clone(), form: Form::PodGroup };
        let old = self.pod_groups.insert(key.clone(), facts);
        (key, old)
    }

    /// A `PodGroup` is gone.
    pub fn remove_pod_group(&mut self, namespace: &str, name: &str) {
        self.pod_groups.remove(&GroupKey { namespace: namespace.into(), name: name.into(), form: Form::PodGroup });
    }

    /// `PodGroup`s that are not in a complete list of `namespace/name`.
    pub fn pod_groups_missing_from(&self, listed: impl Fn(&str) -> bool) -> Vec<(Box<str>, Box<str>)> {
        let gone = self.pod_groups.keys().filter(|key| !listed(&format!("{}/{}", key.namespace, key.name)));
        gone.map(|key| (key.namespace.clone(), key.name.clone())).collect()
    }

    /// The object of a group.
    pub fn pod_group(&self, key: &GroupKey) -> Option<&PodGroupFacts> {
        self.pod_groups.get(key)
    }

    /// The same, to remember what was written.
    pub fn pod_group_mut(&mut self, key: &GroupKey) -> Option<&mut PodGroupFacts> {
        self.pod_groups.get_mut(key)
    }

    /// The other pods that go when this one is ended to make room.
    pub fn ended_with(&self, uid: &PodUid) -> impl Iterator<Item = &PodUid> {
        let key = self.of.get(uid).filter(|key| self.pod_groups.get(&***key).is_some_and(|facts| facts.is_disrupted_whole));
        let others = key.and_then(|key| self.groups.get(key)).into_iter().flat_map(|group| group.members.keys());
        others.filter(move |other| *other != uid)
    }

    /// Compares what is kept twice. Empty when all is well.
    pub fn consistency_check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let members: usize = self.groups.values().map(|group| group.members.len()).sum();
        if members != self.of.len() || self.groups.values().any(|group| group.members.is_empty()) {
            faults.push("members of groups are not those that say so".to_owned());
        }
        let told = self.groups.values().filter(|group| group.tell_at.is_some()).count();
        if told != self.untold.len() {
            faults.push("groups to be told of are not those that wait for it".to_owned());
        }
        for (key, group) in &self.groups {
            if group.held.iter().any(|uid| !group.members.contains_key(uid)) {
                faults.push(format!("{key} holds back a pod that is no member"));
            }
            if group.deadline.is_some() != group.members.keys().any(|uid| self.gathered.contains(uid)) {
                faults.push(format!("{key} has a deadline for nobody, or none for somebody"));
            }
        }
        faults
    }
}

fn key_of(namespace: &str, said: &Membership) -> Option<GroupKey> {
    let (name, form) = match said {
        Membership::Gang { name, .. } => (name, Form::Annotated),
        Membership::PodGroup(name) => (name, Form::PodGroup),
        Membership::Faulty(_) => return None,
    };
    Some(GroupKey { namespace: namespace.into(), name: name.clone(), form })
}

fn waiting(key: &GroupKey, min: usize) -> Arc<str> {
    match key.form {
        Form::Annotated => format!("waiting for members of {key}: at least {min} have to be there before any is placed").into(),
        Form::PodGroup => "waiting for minCount pods from a gang to appear in scheduling queue".into(),
    }
}

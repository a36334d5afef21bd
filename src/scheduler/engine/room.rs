//! What nominated pods change for one decision, and the search for room when no node is left. In: a view that is up to date, nominations, budgets. Out:
//! nodes that are crowded for the pod; the message, the plugins to blame and what PostFilter plugins made.

use std::{cell::RefCell, sync::Arc};

use fixedbitset::FixedBitSet;

use crate::{
    model::{
        class::PodClass,
        ids::{NodeIx, PodUid},
    },
    scheduler::{
        cache::Cache,
        extenders::Cleared,
        framework::{Nomination, Plight, PodInHand, Refusal, RoomMade},
        preemption::{Budgets, Guests, Nominations, Party},
        profiles::{PluginIx, Profile},
        queue::Rejectors,
        view::{ClassView, Crowded, Rehearsal, make_room, whole_message},
    },
};

/// Pods that a pod must make way for, and the nodes that refuse it because of them.
#[derive(Default)]
pub(in crate::scheduler) struct Crowd {
    guests: Guests,
    crowded: Crowded,
    /// The same nodes: few, so that most are told by one bit.
    mask: FixedBitSet,
    /// How many nodes are closed to the pod that would otherwise take it.
    pub(in crate::scheduler) closed: usize,
}

impl Crowd {
    /// Looks at every node on which somebody is nominated.
    pub(in crate::scheduler) fn new(
        view: &mut ClassView,
        class: &PodClass,
        uid: &PodUid,
        nominations: &Nominations,
        cache: &Cache,
    ) -> Self {
        if !view.asks_nodes() || nominations.is_empty() {
            return Self::default();
        }
        let guests = nominations.guests(class.priority, uid, &cache.nodes);
        let mut memo = view.take_memo();
        let rehearsal = Rehearsal::new(view, &cache.nodes, &cache.classes, &guests);
        let mut asked = |ix: NodeIx, party: &Party| match (&mut memo, party.stamp) {
            (Some(memo), Some(stamp)) => memo.crowd(ix, cache.nodes.get(ix), stamp, || rehearsal.with_guests(ix)),
            _ => rehearsal.with_guests(ix),
        };
        let considered = guests.iter().filter(|(ix, _)| view.considers(**ix, &cache.nodes));
        let crowded: Crowded = considered.filter_map(|(ix, party)| Some((*ix, asked(*ix, party)?))).collect();
        memo.into_iter().for_each(|memo| view.give_memo(memo));
        let closed = crowded.keys().filter(|ix| view.is_feasible(**ix)).count();
        let mut mask = FixedBitSet::with_capacity(cache.nodes.slots());
        crowded.keys().for_each(|ix| mask.insert(ix.at()));
        Self { guests, crowded, mask, closed }
    }

    /// Why a node refuses the pod because of others.
    pub(in crate::scheduler) fn refusal(&self, ix: NodeIx) -> Option<&(PluginIx, Refusal)> {
        if self.mask.contains(ix.at()) { self.crowded.get(&ix) } else { None }
    }

    /// Whether the node takes the pod, others that are nominated there counted and not.
    pub(in crate::scheduler) fn leaves(&self, view: &ClassView, ix: NodeIx) -> bool {
        view.asks_nodes() && view.is_feasible(ix) && !self.mask.contains(ix.at())
    }

    /// The nodes that are left.
    pub(in crate::scheduler) fn open(&self, view: &ClassView) -> Vec<NodeIx> {
        let feasible = view.feasible().ones().filter_map(|at| u32::try_from(at).ok().map(NodeIx));
        feasible.filter(|ix| !self.mask.contains(ix.at())).collect()
    }

    /// Takes a node out that was left.
    pub(in crate::scheduler) fn close(&mut self, ix: NodeIx, refusal: (PluginIx, Refusal)) {
        self.mask.grow_and_insert(ix.at());
        if self.crowded.insert(ix, refusal).is_none() {
            self.closed += 1;
        }
    }

    /// Whether no node refuses the pod because of others.
    pub(in crate::scheduler) fn is_empty(&self) -> bool {
        self.crowded.is_empty()
    }
}

/// Why a pod waits, and what is done about it.
pub(in crate::scheduler) struct Verdict {
    pub(in crate::scheduler) message: Arc<str>,
    pub(in crate::scheduler) rejectors: Rejectors,
    pub(in crate::scheduler) room: RoomMade,
}

/// What bears on a search for room beside the pod itself.
pub(in crate::scheduler) struct Scene<'a> {
    pub(in crate::scheduler) cache: &'a Cache,
    pub(in crate::scheduler) budgets: &'a Budgets,
    pub(in crate::scheduler) crowd: &'a Crowd,
    /// The present node for which the pod was nominated before.
    pub(in crate::scheduler) nominated: Option<NodeIx>,
    pub(in crate::scheduler) draw: u64,
    /// What extenders let pass of an earlier search.
    pub(in crate::scheduler) cleared: Option<Result<&'a [Cleared], &'a str>>,
    /// Extenders will be asked about what is found.
    pub(in crate::scheduler) wants_offers: bool,
}

/// Why no node takes the class, and who says so.
pub(in crate::scheduler) fn refusal(view: &mut ClassView, profile: &Profile, cache: &Cache, crowd: &Crowd) -> (Arc<str>, Rejectors) {
    view.diagnosis(profile, &cache.nodes).when(&crowd.crowded, &cache.nodes)
}

impl Rejectors {
    /// These; every filter if there is none, as with no node at all any new one may help. Upstream blames nobody then and waits for its backoff.
    pub(in crate::scheduler) fn or_all(mut self, profile: &Profile) -> Self {
        if self.is_empty() {
            profile.filter.iter().for_each(|plugin| self.insert(*plugin));
        }
        self
    }
}

/// Lets PostFilter plugins look for room.
pub(in crate::scheduler) fn seek(view: &mut ClassView, profile: &mut Profile, pod: PodInHand<'_>, scene: &Scene<'_>) -> Verdict {
    let Scene { cache, crowd, .. } = scene;
    let diagnosis = view.diagnosis(profile, &cache.nodes);
    let (text, rejectors) = diagnosis.when(&crowd.crowded, &cache.nodes);
    if cache.nodes.present() == 0 {
        let room = RoomMade { nomination: Nomination::Clear, ..RoomMade::default() };
        return Verdict { message: text, rejectors, room };
    }
    let refused = |ix: NodeIx| crowd.refusal(ix).or_else(|| diagnosis.of(ix)).map(|(_, refusal)| refusal);
    let memo = view.take_memo().map(RefCell::new);
    let rules = Rehearsal::new(view, &cache.nodes, &cache.classes, &crowd.guests);
    let plight = Plight {
        pod,
        nominated: scene.nominated,
        refused: &refused,
        cache,
        budgets: scene.budgets,
        rules: &rules,
        draw: scene.draw,
        memo: memo.as_ref(),
        cleared: scene.cleared,
        wants_offers: scene.wants_offers,
    };
    let room = make_room(profile, &plight);
    memo.into_iter().for_each(|memo| view.give_memo(memo.into_inner()));
    Verdict { message: whole_message(&text, &room.message).into(), rejectors, room }
}

//! `DefaultPreemption`: room for a pod that no node takes, at the cost of less important ones. A pod and why each node refuses it in; whom to nominate,
//! who must go, and upstream's text out.
//!
//! Source: kube-scheduler v1.37 `DefaultPreemption`. Pods of home alone can be victims, on whatever node they are: what other people run in a compute
//! cluster is not ours to end.

use std::borrow::Cow;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::{
    model::ids::{ClusterId, NodeIx, PodKey},
    scheduler::{
        cache::Resident,
        change::Changes,
        extenders::{Cleared, Offer},
        framework::{Nomination, Plight, Plugin, PostFilter, Reason, Refusal, RefusalCode, RoomMade, Victim},
        preemption::{Candidate, DryRun, best, dry_run},
        profile::DefaultPreemptionArgs,
        view::Reasons,
    },
};

const NEVER: &str = "not eligible due to preemptionPolicy=Never.";
const TERMINATING: &str = "not eligible due to a terminating pod on the nominated node.";
const NO_CANDIDATE: &str = "no candidate node for preemption";
const NOT_HELPFUL: Reason = Cow::Borrowed("Preemption is not helpful for scheduling");

/// See the module.
pub struct DefaultPreemption {
    args: DefaultPreemptionArgs,
}

impl DefaultPreemption {
    /// With the profile's arguments.
    pub fn new(args: DefaultPreemptionArgs) -> Self {
        Self { args }
    }

    /// So many candidates are enough to choose from.
    fn candidates_wanted(&self, nodes: usize) -> usize {
        let share = nodes * self.args.min_candidate_nodes_percentage as usize / 100;
        share.max(self.args.min_candidate_nodes_absolute as usize).min(nodes)
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn post_filter(&mut self) -> Option<&mut dyn PostFilter> {
        Some(self)
    }

    /// Who waits for victims to go has been refused by other plugins as well, and those say when it is to be tried again.
    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl PostFilter for DefaultPreemption {
    fn make_room(&mut self, plight: &Plight<'_>) -> RoomMade {
        let mut room = if let Some(why) = not_eligible(plight) {
            RoomMade { message: why.to_owned(), ..RoomMade::default() }
        } else {
            match plight.cleared {
                None => self.found(plight),
                Some(Ok(cleared)) => among(plight, cleared),
                Some(Err(why)) => RoomMade { message: why.to_owned(), ..RoomMade::default() },
            }
        };
        room.message.insert_str(0, "preemption: ");
        room
    }
}

/// Why the pod may not preempt now.
fn not_eligible(plight: &Plight<'_>) -> Option<&'static str> {
    if plight.pod.class.never_preempts {
        return Some(NEVER);
    }
    let node = plight.nominated?;
    // What evicting does not resolve there it may resolve elsewhere.
    (plight.refused)(node).filter(|refusal| refusal.code == RefusalCode::Unschedulable)?;
    let awaited = |resident: &Resident| resident.is_leaving && resident.is_home && resident.priority < plight.pod.class.priority;
    plight.cache.residents(node).iter().any(awaited).then_some(TERMINATING)
}

/// What dry runs have found.
#[derive(Default)]
struct Found<'a> {
    /// Those that violate no budget first.
    candidates: Vec<Candidate<'a>>,
    refused: Vec<Refusal>,
    broken: Vec<NodeIx>,
}

impl DefaultPreemption {
    fn found(&self, plight: &Plight<'_>) -> RoomMade {
        let found = self.search(plight);
        let mut room = match best(&found.candidates).as_slice() {
            [] => found.nothing(plight),
            [first, others @ ..] => chosen(plight, &found.candidates, *first, others),
        };
        if plight.wants_offers {
            room.offers = found.candidates.iter().map(|candidate| offer(plight, candidate)).collect();
        }
        room
    }

    /// Dry runs from a node that is drawn on, round the ring of those where pods that go could help, until there are enough candidates.
    fn search<'a>(&self, plight: &Plight<'a>) -> Found<'a> {
        let is_resolvable = |ix: &NodeIx| (plight.refused)(*ix).is_some_and(|refusal| refusal.code == RefusalCode::Unschedulable);
        let nodes: Vec<NodeIx> = plight.cache.nodes.iter().map(|(ix, _)| ix).filter(is_resolvable).collect();
        let mut found = Found::default();
        if nodes.is_empty() {
            return found;
        }
        let wanted = self.candidates_wanted(nodes.len());
        let offset = Pcg64Mcg::seed_from_u64(plight.draw).random_range(0..nodes.len());
        let (mut clean, mut violating) = (Vec::new(), Vec::new());
        for at in 0..nodes.len() {
            match dry_run(plight, nodes[(offset + at) % nodes.len()]) {
                DryRun::Refused(refusal) => found.refused.push(refusal),
                DryRun::NobodyToGo => found.broken.push(nodes[(offset + at) % nodes.len()]),
                DryRun::Cleared(candidate) => {
                    let list = if candidate.violations == 0 { &mut clean } else { &mut violating };
                    if list.len() < wanted {
                        list.push(candidate);
                    }
                    if !clean.is_empty() && clean.len() + violating.len() >= wanted {
                        break;
                    }
                }
            }
        }
        clean.append(&mut violating);
        found.candidates = clean;
        found
    }
}

impl Found<'_> {
    /// No node could be cleared.
    fn nothing(&self, plight: &Plight<'_>) -> RoomMade {
        let nodes = &plight.cache.nodes;
        if let Some(ix) = self.broken.first() {
            let message = format!("expected at least one victim pod on node {:?}", nodes.name(*ix));
            return RoomMade { message, ..RoomMade::default() };
        }
        let mut reasons = Reasons::default();
        self.refused.iter().for_each(|refusal| reasons.add(refusal));
        reasons.add_times(&NOT_HELPFUL, nodes.present() - self.refused.len());
        RoomMade { nomination: Nomination::Clear, message: reasons.text(nodes.present()), ..RoomMade::default() }
    }
}

fn chosen(plight: &Plight<'_>, candidates: &[Candidate<'_>], first: usize, others: &[usize]) -> RoomMade {
    let victims = |at: usize| candidates[at].victims.iter().map(|resident| victim(plight, resident)).collect::<Vec<_>>();
    let (ix, count) = (candidates[first].ix, candidates[first].victims.len());
    let node = plight.cache.nodes.full_name(ix);
    RoomMade {
        nomination: Nomination::Node(ix),
        victims: victims(first),
        offers: Vec::new(),
        equally_good: others.iter().map(|at| (candidates[*at].ix, victims(*at))).collect(),
        message: format!("found a potential placement for pod on node {node}, preempting {count} victims"),
    }
}

fn offer(plight: &Plight<'_>, candidate: &Candidate<'_>) -> Offer {
    Offer {
        node: plight.cache.nodes.name(candidate.ix).into(),
        victims: candidate.victims.iter().map(|resident| victim(plight, resident)).collect(),
        violations: candidate.violations,
    }
}

/// The best of what extenders let pass. Who is not on the node any more need not go; where nobody is left to go, nothing is to be cleared.
fn among(plight: &Plight<'_>, cleared: &[Cleared]) -> RoomMade {
    let candidate = |cleared: &Cleared| {
        let ix = plight.cache.nodes.find(ClusterId::HOME, &cleared.node)?;
        let residents = plight.cache.residents(ix);
        let victims = cleared.victims.iter().filter_map(|uid| residents.iter().find(|resident| resident.uid == *uid)).collect();
        Some(Candidate { ix, victims, violations: cleared.violations })
    };
    let candidates: Vec<_> = cleared.iter().filter_map(candidate).filter(|candidate| !candidate.victims.is_empty()).collect();
    match best(&candidates).as_slice() {
        [] => RoomMade { message: NO_CANDIDATE.to_owned(), ..RoomMade::default() },
        [first, others @ ..] => chosen(plight, &candidates, *first, others),
    }
}

fn victim(plight: &Plight<'_>, resident: &Resident) -> Victim {
    let class = plight.cache.classes.get(resident.class);
    let namespace = class.map_or("", |class| plight.cache.nodes.symbols.text(class.namespace));
    Victim {
        key: PodKey::new(namespace, plight.cache.name_of(&resident.uid)),
        uid: resident.uid.clone(),
        is_terminating: class.is_some_and(|class| class.is_terminating),
    }
}

//! `InterPodAffinity`: near some pods and far from others. A class's required terms, and those of pods that are there, in; a rule out. Preferred terms are
//! the score ([`score`](super::inter_pod_affinity_score)).
//!
//! Source: kube-scheduler v1.37 `InterPodAffinity`. A pod of a group that requires to be near itself may be the first one: where no pod matches all terms
//! anywhere, and it does itself, a node only needs the labels.

use std::cell::Cell;

use fixedbitset::FixedBitSet;

use super::{
    inter_pod_affinity_score::{Near, weighted},
    topology::{NOWHERE, Topology},
};
use crate::{
    model::{
        class::PodClass,
        ids::NodeIx,
        intern::Sym,
        labels::Labels,
        node::NodeRecord,
        selector::Selector,
        terms::{AffinityTerm, Parsed, PodSelector, PodTerms},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{Changed, CompiledFilter, CompiledScore, DomainRule, FilterPlugin, Moved, Plugin, Premise, Refusal, ScorePlugin},
        nodes::Nodes,
        profile::InterPodAffinityArgs,
        terms::{Counted, Role, TallyIx},
    },
};

const REASON_AFFINITY: &str = "node(s) didn't match pod affinity rules";
const REASON_ANTI: &str = "node(s) didn't match pod anti-affinity rules";
const REASON_EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// See the module.
pub struct InterPodAffinity {
    args: InterPodAffinityArgs,
}

impl InterPodAffinity {
    /// With the profile's arguments.
    pub fn new(args: InterPodAffinityArgs) -> Self {
        Self { args }
    }
}

/// Terms of other pods that speak of a class, those of the wanted roles: that they are still the same.
pub(super) struct HeldTowards {
    class: PodClass,
    wanted: fn(Role) -> bool,
    found: Vec<TallyIx>,
    version: Cell<u64>,
    /// State of the labels of namespaces, where a term of the class reads them: tallies follow by themselves, whether the pod finds itself does not.
    namespaces: Option<u64>,
}

impl HeldTowards {
    pub(super) fn new(class: &PodClass, wanted: fn(Role) -> bool, nodes: &Nodes) -> Self {
        let version = Cell::new(nodes.terms.held_version());
        let namespaces = selects_namespaces(class).then(|| nodes.terms.namespaces_version());
        Self { class: class.clone(), wanted, found: Self::find(class, wanted, nodes), version, namespaces }
    }

    fn find(class: &PodClass, wanted: fn(Role) -> bool, nodes: &Nodes) -> Vec<TallyIx> {
        nodes.terms.held_towards(class).into_iter().filter(|(_, _, role)| wanted(*role)).map(|(tally, ..)| tally).collect()
    }
}

impl Premise for HeldTowards {
    fn outdated(&self, nodes: &Nodes) -> bool {
        let now = nodes.terms.held_version();
        if self.version.get() == now {
            return false;
        }
        let same_namespaces = self.namespaces.is_none_or(|version| version == nodes.terms.namespaces_version());
        let same = same_namespaces && Self::find(&self.class, self.wanted, nodes) == self.found;
        if same {
            self.version.set(now);
        }
        !same
    }
}

/// Whether a term of the class chooses namespaces by their labels.
fn selects_namespaces(class: &PodClass) -> bool {
    let by_labels = |pods: &PodSelector| pods.namespace_selector != Selector::Nothing && !pods.namespace_selector.is_everything();
    class.pod_terms.iter().flat_map(|terms| terms.iter()).any(|term| by_labels(&term.pods))
}

fn own<'a>(class: &'a PodClass, list: fn(&'a PodTerms) -> &'a Parsed<AffinityTerm>) -> &'a [AffinityTerm] {
    class.pod_terms.as_deref().and_then(|terms| list(terms).as_deref().ok()).unwrap_or_default()
}

fn required(class: &PodClass) -> &[AffinityTerm] {
    own(class, |terms| &terms.required)
}

fn anti_required(class: &PodClass) -> &[AffinityTerm] {
    own(class, |terms| &terms.anti_required)
}

/// Whether all the terms, of which there are some, find a pod.
fn all_find(terms: &[AffinityTerm], pod: &PodClass, nodes: &Nodes) -> bool {
    !terms.is_empty() && terms.iter().all(|term| finds(term, pod, nodes))
}

fn finds(term: &AffinityTerm, pod: &PodClass, nodes: &Nodes) -> bool {
    nodes.terms.finds(std::slice::from_ref(&term.pods), pod)
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        let pods = Changes::POD_ADD | Changes::POD_LABEL | Changes::POD_DELETE;
        pods | Changes::NODE_ADD | Changes::NODE_LABEL | Changes::NAMESPACE | Changes::CLUSTER
    }

    /// As upstream, but namespace selectors are resolved, and labels of a namespace that change are a cause.
    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        let (terms, anti) = (required(class), anti_required(class));
        let any_finds = |terms: &[AffinityTerm], pod: &PodClass| terms.iter().any(|term| finds(term, pod, nodes));
        match change {
            Change::PodAdd { class: other, .. } => all_find(terms, other, nodes),
            Change::PodLabels { old, new, .. } => {
                (!all_find(terms, old, nodes) && all_find(terms, new, nodes)) || (any_finds(anti, old) && !any_finds(anti, new))
            }
            Change::PodDelete { class: other, .. } => {
                any_finds(anti, other) || anti_required(other).iter().any(|term| nodes.terms.meets(&term.pods, class))
            }
            Change::Node { old, new, .. } => node_cures(terms, anti, old.map(|old| &old.labels), &new.labels),
            _ => true,
        }
    }
}

fn node_cures(terms: &[AffinityTerm], anti: &[AffinityTerm], old: Option<&Labels>, new: &Labels) -> bool {
    let Some(old) = old else { return !anti.is_empty() || terms.iter().any(|term| new.get(term.topology_key).is_some()) };
    let values = |term: &AffinityTerm| (old.get(term.topology_key), new.get(term.topology_key));
    let gains = |term: &AffinityTerm| matches!(values(term), (before, Some(now)) if before != Some(now));
    let frees = |term: &AffinityTerm| matches!(values(term), (Some(before), now) if now != Some(before));
    terms.iter().any(gains) || anti.iter().any(frees)
}

// === filter ===

impl FilterPlugin for InterPodAffinity {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        if let Some(fault) = class.pod_terms.as_deref().and_then(PodTerms::fault) {
            return CompiledFilter::Refused(Refusal::unresolvable(format!("parsing pod: {fault}")));
        }
        let premise = HeldTowards::new(class, |role| role == Role::AntiRequired, nodes);
        let (terms, anti) = (required(class), anti_required(class));
        if terms.is_empty() && anti.is_empty() && premise.found.is_empty() {
            return CompiledFilter::SkipUntil(Box::new(premise));
        }
        let mut topologies = Topologies::default();
        let near = (!terms.is_empty()).then(|| {
            let tally = nodes.terms.tally(&Counted::found_by(terms.iter()));
            Together {
                sums: terms.iter().map(|term| topologies.add(term.topology_key, tally)).collect(),
                is_own: all_find(terms, class, nodes),
            }
        });
        let far = |term: &AffinityTerm| nodes.terms.tally(&Counted::found_by(std::iter::once(term)));
        let anti = anti.iter().map(|term| topologies.add(term.topology_key, far(term))).collect();
        let towards = nodes.terms.held_towards(class).into_iter().filter(|(.., role)| *role == Role::AntiRequired);
        let existing = towards.map(|(tally, term, _)| topologies.add(term.topology_key, Some(tally))).collect();
        CompiledFilter::Domains(Box::new(Hard { topologies, near, anti, existing, admitted: Vec::new(), premise }))
    }
}

/// Topologies by key, each with the sums that somebody wants over it.
#[derive(Default)]
pub(super) struct Topologies(pub(super) Vec<Topology>);

/// A sum over a topology: the places of both.
pub(super) type SumAt = (usize, usize);

impl Topologies {
    pub(super) fn add(&mut self, key: Sym, tally: Option<TallyIx>) -> SumAt {
        let at = self.0.iter().position(|topology| topology.key == key).unwrap_or_else(|| {
            self.0.push(Topology::new(key));
            self.0.len() - 1
        });
        (at, self.0[at].add(tally))
    }

    /// Every node that has the label counts.
    pub(super) fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes) {
        for topology in &mut self.0 {
            let key = topology.key;
            let counts = |node: &NodeRecord| node.labels.get(key).is_some();
            match changed {
                Changed::All => topology.restart(nodes, counts),
                Changed::Nodes(list) => list.iter().for_each(|ix| topology.touch(*ix, nodes, counts)),
            }
        }
    }

    fn by_domain(&self, (topology, sum): SumAt) -> &[u32] {
        self.0[topology].sum(sum).by_domain()
    }

    fn pods(&self, (topology, sum): SumAt, ix: NodeIx) -> Option<u32> {
        let domain = self.0[topology].domain(ix.at());
        (domain != NOWHERE).then(|| self.0[topology].sum(sum).by_domain()[domain])
    }

    pub(super) fn total(&self, (topology, sum): SumAt) -> u64 {
        self.0[topology].sum(sum).total()
    }

    fn has_label(&self, (topology, _): SumAt, ix: NodeIx) -> bool {
        self.0[topology].domain(ix.at()) != NOWHERE
    }

    /// Pods that would be more in a sum.
    fn more(&self, (topology, sum): SumAt, moved: &[Moved<'_>], nodes: &Nodes) -> i64 {
        let Some(tally) = self.0[topology].sum(sum).tally() else { return 0 };
        moved.iter().map(|moved| moved.pods * nodes.terms.times_in(moved.ix, tally)).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Topology::bytes).sum()
    }
}

/// Required affinity: pods that all terms find, over the key of each term.
struct Together {
    sums: Box<[SumAt]>,
    /// The pod itself is one that all terms find.
    is_own: bool,
}

struct Hard {
    topologies: Topologies,
    near: Option<Together>,
    anti: Box<[SumAt]>,
    existing: Box<[SumAt]>,
    /// By topology and domain.
    admitted: Vec<Vec<bool>>,
    premise: HeldTowards,
}

impl Hard {
    /// Whether the pod may be the first of its group.
    fn may_be_first(&self) -> bool {
        self.near.as_ref().is_some_and(|near| near.is_own && near.sums.iter().all(|sum| self.topologies.total(*sum) == 0))
    }

    fn judge(&mut self) {
        let first = self.may_be_first();
        let mut admitted = std::mem::take(&mut self.admitted);
        admitted.resize_with(self.topologies.0.len(), Vec::new);
        for (admitted, topology) in admitted.iter_mut().zip(&self.topologies.0) {
            admitted.clear();
            admitted.resize(topology.nodes().len(), true);
        }
        for sum in self.near.iter().flat_map(|near| &near.sums) {
            let admitted = &mut admitted[sum.0];
            admitted.iter_mut().zip(self.topologies.by_domain(*sum)).for_each(|(admitted, pods)| *admitted &= first || *pods > 0);
            admitted[NOWHERE] = false;
        }
        for sum in self.anti.iter().chain(&self.existing) {
            let pods = self.topologies.by_domain(*sum);
            admitted[sum.0].iter_mut().zip(pods).for_each(|(admitted, pods)| *admitted &= *pods == 0);
        }
        self.admitted = admitted;
    }
}

impl DomainRule for Hard {
    fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes) {
        self.topologies.catch_up(changed, nodes);
        self.judge();
    }

    fn keep_admitted(&self, set: &mut FixedBitSet) {
        self.topologies.0.iter().zip(&self.admitted).for_each(|(topology, admitted)| topology.keep(set, admitted));
    }

    fn refuses(&self, ix: NodeIx) -> Option<Refusal> {
        let is_near = |near: &Together| {
            let pods = || near.sums.iter().map(|sum| self.topologies.pods(*sum, ix));
            pods().all(|pods| pods.is_some()) && (pods().all(|pods| pods > Some(0)) || self.may_be_first())
        };
        let meets = |sums: &[SumAt]| sums.iter().any(|sum| self.topologies.pods(*sum, ix) > Some(0));
        if !self.near.as_ref().is_none_or(is_near) {
            return Some(Refusal::unresolvable(REASON_AFFINITY));
        }
        if meets(&self.anti) {
            return Some(Refusal::unschedulable(REASON_ANTI));
        }
        meets(&self.existing).then(|| Refusal::unschedulable(REASON_EXISTING))
    }

    fn refuses_with(&self, ix: NodeIx, moved: &[Moved<'_>], nodes: &Nodes) -> Option<Refusal> {
        // Upstream's PreFilter skips the pod where no term of a pod that is there speaks of it; then it does not see those of pods that come, either.
        if self.near.is_none() && self.anti.is_empty() && self.existing.iter().all(|sum| self.topologies.total(*sum) == 0) {
            return None;
        }
        let more = |sum: SumAt| self.topologies.more(sum, moved, nodes);
        let pods = |sum: SumAt| Some(i64::from(self.topologies.pods(sum, ix)?) + more(sum));
        let all = |sum: SumAt| {
            let total = i64::try_from(self.topologies.total(sum)).unwrap_or(i64::MAX);
            if self.topologies.has_label(sum, ix) { total + more(sum) } else { total }
        };
        let is_near = |near: &Together| {
            let here = || near.sums.iter().map(|sum| pods(*sum));
            let is_first = || near.is_own && near.sums.iter().all(|sum| all(*sum) == 0);
            here().all(|pods| pods.is_some()) && (here().all(|pods| pods > Some(0)) || is_first())
        };
        if !self.near.as_ref().is_none_or(is_near) {
            return Some(Refusal::unresolvable(REASON_AFFINITY));
        }
        let meets = |sums: &[SumAt]| sums.iter().any(|sum| pods(*sum) > Some(0));
        if meets(&self.anti) {
            return Some(Refusal::unschedulable(REASON_ANTI));
        }
        meets(&self.existing).then(|| Refusal::unschedulable(REASON_EXISTING))
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        self.premise.outdated(nodes)
    }

    fn bytes(&self) -> usize {
        self.topologies.bytes() + self.admitted.iter().map(Vec::len).sum::<usize>()
    }
}

// === score ===

impl ScorePlugin for InterPodAffinity {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledScore {
        let own = class.pod_terms.as_deref();
        let prefers = |list: &Parsed<(i32, AffinityTerm)>| list.as_ref().map_or(true, |list| !list.is_empty());
        let has_own = own.is_some_and(|terms| prefers(&terms.preferred) || prefers(&terms.anti_preferred));
        if self.args.ignore_preferred_terms_of_existing_pods && !has_own {
            return CompiledScore::Skip;
        }
        if let Some(fault) = own.and_then(PodTerms::fault) {
            return CompiledScore::Failed(format!("failed to parse pod: {fault}"));
        }
        let premise = HeldTowards::new(class, |role| role != Role::AntiRequired, nodes);
        let mut topologies = Topologies::default();
        let terms: Box<[(i64, SumAt)]> = weighted(class, i64::from(self.args.hard_pod_affinity_weight), nodes)
            .into_iter()
            .map(|(weight, key, tally)| (weight, topologies.add(key, tally)))
            .collect();
        if terms.is_empty() {
            return CompiledScore::SkipUntil(Box::new(premise));
        }
        CompiledScore::Domains(Box::new(Near::new(topologies, terms, premise)))
    }
}

#[cfg(test)]
#[path = "inter_pod_affinity_tests.rs"]
mod tests;

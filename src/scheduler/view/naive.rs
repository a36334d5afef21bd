//! What upstream's `PodTopologySpread` and `InterPodAffinity` say, by a walk over all nodes and all pods for each question. For tests: slow, and as close to
//! the Go source (v1.37.1) as it goes. Nothing here uses tallies, domains or anything that is kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{
        class::PodClass,
        ids::NodeIx,
        intern::Sym,
        labels::Labels,
        node::{HOSTNAME_LABEL, NodeRecord, ZONE_LABEL},
        selector::Selector,
        taints::Effect,
        terms::{AffinityTerm, Spread, WhenUnsatisfiable},
    },
    scheduler::{
        framework::{Refusal, UNSCORED},
        nodes::Nodes,
    },
};

/// A class, and the cluster that it comes to.
pub(super) struct Naive<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) pods: &'a [(NodeIx, &'a PodClass)],
    pub(super) class: &'a PodClass,
}

type Constraint = (Spread, Selector);

impl Naive<'_> {
    fn on(&self, ix: NodeIx) -> impl Iterator<Item = &PodClass> {
        self.pods.iter().filter(move |(at, _)| *at == ix).map(|(_, class)| *class)
    }

    fn value(&self, ix: NodeIx, key: Sym) -> Option<Sym> {
        self.nodes.get(ix).labels.get(key)
    }

    // === spread ===

    /// Own constraints, or upstream's default ones.
    fn constraints(&self, when: WhenUnsatisfiable) -> Vec<Constraint> {
        let own = self.class.spread.iter().filter(|spread| spread.when == when);
        let own: Vec<Constraint> = own.map(|spread| (spread.clone(), spread.selector.clone().expect("it parses"))).collect();
        if !self.class.spread.is_empty() || when == WhenUnsatisfiable::DoNotSchedule {
            return own;
        }
        let Some(selector) = self.nodes.terms.default_selector(self.class) else { return Vec::new() };
        let default = |key: &str, max_skew| Spread {
            max_skew,
            topology_key: self.nodes.symbols.get(key).unwrap_or(Sym::EMPTY),
            when,
            min_domains: 1,
            honor_node_affinity: true,
            honor_node_taints: false,
            selector: Ok(selector.clone()),
        };
        [default(HOSTNAME_LABEL, 3), default(ZONE_LABEL, 5)].map(|spread| (spread, selector.clone())).into()
    }

    fn has_all(constraints: &[Constraint], node: &NodeRecord) -> bool {
        constraints.iter().all(|(spread, _)| node.labels.get(spread.topology_key).is_some())
    }

    fn included(&self, spread: &Spread, node: &NodeRecord) -> bool {
        let class = self.class;
        let selected = class.node_selector.iter().all(|(key, value)| node.labels.get(*key) == Some(*value));
        let required = class.required_affinity.as_ref().is_none_or(|terms| terms.matches(node.name, &node.labels, &self.nodes.symbols));
        let hard = node.taints.iter().filter(|taint| taint.effect != Effect::PreferNoSchedule);
        let tolerated = hard.clone().all(|taint| class.tolerations.iter().any(|toleration| toleration.tolerates(taint)));
        (!spread.honor_node_affinity || (selected && required)) && (!spread.honor_node_taints || tolerated)
    }

    fn matching(&self, ix: NodeIx, selector: &Selector) -> i64 {
        if selector.is_everything() {
            return 0;
        }
        let pods = self.on(ix).filter(|pod| !pod.is_terminating && pod.namespace == self.class.namespace && selector.matches(&pod.labels));
        i64::try_from(pods.count()).expect("few pods")
    }

    /// PreFilter and Filter.
    pub(super) fn spread(&self, ix: NodeIx) -> Option<Refusal> {
        const REASON: &str = "node(s) didn't match pod topology spread constraints";
        let constraints = self.constraints(WhenUnsatisfiable::DoNotSchedule);
        for (spread, selector) in &constraints {
            let mut counts: BTreeMap<Sym, i64> = BTreeMap::new();
            for (other, node) in self.nodes.iter().filter(|(_, node)| Self::has_all(&constraints, node) && self.included(spread, node)) {
                let value = node.labels.get(spread.topology_key).expect("it has all");
                *counts.entry(value).or_default() += self.matching(other, selector);
            }
            let Some(value) = self.value(ix, spread.topology_key) else {
                return Some(Refusal::unresolvable(format!("{REASON} (missing required label)")));
            };
            let few = i32::try_from(counts.len()).expect("few") < spread.min_domains;
            let least = if few { 0 } else { counts.values().copied().min().expect("at least one domain") };
            let own = i64::from(selector.matches(&self.class.labels));
            let skew = counts.get(&value).copied().unwrap_or(0) + own - least;
            if skew > i64::from(spread.max_skew) {
                return Some(Refusal::unschedulable(REASON));
            }
        }
        None
    }

    /// PreScore and Score over the feasible nodes; `None` where upstream skips.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // small numbers
    pub(super) fn spread_raw(&self, feasible: &[NodeIx]) -> Option<Vec<i64>> {
        let constraints = self.constraints(WhenUnsatisfiable::ScheduleAnyway);
        if constraints.is_empty() {
            return None;
        }
        let needs_all = !self.class.spread.is_empty();
        let ignored = |node: &NodeRecord| needs_all && !Self::has_all(&constraints, node);
        let scored: Vec<NodeIx> = feasible.iter().copied().filter(|ix| !ignored(self.nodes.get(*ix))).collect();
        let hostname = self.nodes.symbols.get(HOSTNAME_LABEL);
        let mut scores = vec![0.0; feasible.len()];
        for (spread, selector) in &constraints {
            let by_node = Some(spread.topology_key) == hostname;
            let text = |ix: NodeIx| self.value(ix, spread.topology_key).unwrap_or(Sym::EMPTY);
            let mut counts: BTreeMap<Sym, i64> = BTreeMap::new();
            if !by_node {
                counts.extend(scored.iter().map(|ix| (text(*ix), 0)));
            }
            let size = if by_node { scored.len() } else { counts.len() };
            let weight = ((size + 2) as f64).ln();
            for (ix, node) in self.nodes.iter().filter(|(_, node)| !ignored(node) && self.included(spread, node)) {
                let _ = node;
                if let Some(count) = counts.get_mut(&text(ix)) {
                    *count += self.matching(ix, selector);
                }
            }
            for (score, ix) in scores.iter_mut().zip(feasible) {
                if ignored(self.nodes.get(*ix)) {
                    *score = f64::NAN;
                } else if let Some(value) = self.value(*ix, spread.topology_key) {
                    let count = if by_node { self.matching(*ix, selector) } else { counts[&value] };
                    *score += count as f64 * weight + f64::from(spread.max_skew - 1);
                }
            }
        }
        Some(scores.into_iter().map(|score: f64| if score.is_nan() { UNSCORED } else { score.round() as i64 }).collect())
    }

    // === affinity ===

    fn namespace_labels(&self, namespace: Sym) -> Option<Labels> {
        self.nodes.terms.namespace_labels(namespace).cloned()
    }

    /// A term of the incoming pod about one that is there.
    fn finds(&self, term: &AffinityTerm, pod: &PodClass) -> bool {
        let selector = &term.pods.namespace_selector;
        let labels = self.namespace_labels(pod.namespace);
        let named = term.pods.namespaces.contains(&pod.namespace);
        let chosen = selector.is_everything() || labels.is_some_and(|labels| selector.matches(&labels));
        (named || chosen) && term.pods.selector.matches(&pod.labels)
    }

    /// A term of a pod that is there about the incoming one.
    fn meets(&self, term: &AffinityTerm) -> bool {
        let labels = self.namespace_labels(self.class.namespace).unwrap_or_default();
        let named = term.pods.namespaces.contains(&self.class.namespace);
        (named || term.pods.namespace_selector.matches(&labels)) && term.pods.selector.matches(&self.class.labels)
    }

    /// Every pod on a present node, with that node.
    fn everywhere(&self) -> impl Iterator<Item = (NodeIx, &PodClass)> {
        self.pods.iter().filter(|(ix, _)| self.nodes.get(*ix).present).map(|(ix, pod)| (*ix, *pod))
    }

    /// PreFilter and Filter.
    pub(super) fn affinity(&self, ix: NodeIx) -> Option<Refusal> {
        let terms = |pod: &PodClass, anti: bool| {
            let own = pod.pod_terms.as_deref();
            own.map(|own| if anti { &own.anti_required } else { &own.required })
                .map_or_else(Vec::new, |list| list.clone().expect("parses").into_vec())
        };
        let (with, without) = (terms(self.class, false), terms(self.class, true));
        let mut near: BTreeMap<(Sym, Sym), i64> = BTreeMap::new();
        let mut far: BTreeSet<(Sym, Sym)> = BTreeSet::new();
        let mut existing: BTreeSet<(Sym, Sym)> = BTreeSet::new();
        for (at, pod) in self.everywhere() {
            let pair = |term: &AffinityTerm| Some((term.topology_key, self.value(at, term.topology_key)?));
            if !with.is_empty() && with.iter().all(|term| self.finds(term, pod)) {
                with.iter().filter_map(pair).for_each(|pair| *near.entry(pair).or_default() += 1);
            }
            far.extend(without.iter().filter(|term| self.finds(term, pod)).filter_map(pair));
            existing.extend(terms(pod, true).iter().filter(|term| self.meets(term)).filter_map(pair));
        }
        let here = |term: &AffinityTerm| Some((term.topology_key, self.value(ix, term.topology_key)?));
        if !with.is_empty() {
            let has_labels = with.iter().all(|term| here(term).is_some());
            let has_pods = with.iter().all(|term| here(term).is_some_and(|pair| near.contains_key(&pair)));
            let first = near.is_empty() && with.iter().all(|term| self.finds(term, self.class));
            if !has_labels || (!has_pods && !first) {
                return Some(Refusal::unresolvable("node(s) didn't match pod affinity rules"));
            }
        }
        if without.iter().filter_map(here).any(|pair| far.contains(&pair)) {
            return Some(Refusal::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        let meets = self.nodes.get(ix).labels.iter().any(|pair| existing.contains(&pair));
        meets.then(|| Refusal::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"))
    }

    /// PreScore and Score over the feasible nodes with a hard weight of 1; `None` where upstream skips.
    pub(super) fn affinity_raw(&self, feasible: &[NodeIx]) -> Option<Vec<i64>> {
        let mut sums: BTreeMap<(Sym, Sym), i64> = BTreeMap::new();
        let mut note = |at: NodeIx, term: &AffinityTerm, weight: i64, speaks: bool| {
            if let Some(value) = self.value(at, term.topology_key).filter(|_| speaks) {
                *sums.entry((term.topology_key, value)).or_default() += weight;
            }
        };
        for (at, pod) in self.everywhere() {
            for (own, incoming) in [(self.class, true), (pod, false)] {
                let Some(terms) = own.pod_terms.as_deref() else { continue };
                for (list, sign) in [(&terms.preferred, 1), (&terms.anti_preferred, -1)] {
                    for (weight, term) in list.as_ref().expect("parses") {
                        let speaks = if incoming { self.finds(term, pod) } else { self.meets(term) };
                        note(at, term, sign * i64::from(*weight), speaks);
                    }
                }
                if !incoming {
                    terms.required.as_ref().expect("parses").iter().for_each(|term| note(at, term, 1, self.meets(term)));
                }
            }
        }
        if sums.is_empty() {
            return None;
        }
        let score = |ix: &NodeIx| self.nodes.get(*ix).labels.iter().map(|pair| sums.get(&pair).copied().unwrap_or(0)).sum();
        Some(feasible.iter().map(score).collect())
    }
}

//! `PodTopologySpread`: pods of a kind even over domains. Hard constraints in, a rule out; soft ones are its score
//! ([`pod_topology_spread_score`](super::pod_topology_spread_score)).
//!
//! Source: kube-scheduler v1.37 `PodTopologySpread`. A pod without constraints gets the profile's default ones, with the selector that Services and its
//! controller give. A node counts if it has the keys of all constraints and passes the constraint's inclusion policies; that depends on the pod's class,
//! so each class sums over domains by itself, from counts by node that all classes share.

use std::cell::Cell;

use fixedbitset::FixedBitSet;

use super::{
    pod_topology_spread_score::Soft,
    taint_toleration::has_untolerated,
    topology::{NOWHERE, Topology},
};
use crate::{
    model::{
        affinity::SelectorMatcher,
        class::PodClass,
        ids::NodeIx,
        intern::{Interner, Sym},
        labels::Labels,
        node::{HOSTNAME_LABEL, NodeRecord, ZONE_LABEL},
        selector::Selector,
        taints::Toleration,
        terms::{Spread, WhenUnsatisfiable},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{Changed, CompiledFilter, CompiledScore, DomainRule, FilterPlugin, Moved, Plugin, Premise, Refusal, ScorePlugin},
        nodes::Nodes,
        profile::{DefaultConstraint, PodTopologySpreadArgs},
        terms::{Counted, TallyIx},
    },
};

const REASON: &str = "node(s) didn't match pod topology spread constraints";
const REASON_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// See the module.
pub struct PodTopologySpread {
    /// Their selectors say nothing.
    defaults: Box<[Spread]>,
    /// The defaults are upstream's own: nodes that lack one of the keys take part in the score all the same.
    system: bool,
}

impl PodTopologySpread {
    /// Pins the keys of the default constraints: no sweep walks a plugin.
    pub fn new(args: &PodTopologySpreadArgs, symbols: &mut Interner) -> Self {
        let mut soft = |key: &str, max_skew| Spread {
            max_skew,
            topology_key: symbols.pin(key),
            when: WhenUnsatisfiable::ScheduleAnyway,
            min_domains: 1,
            honor_node_affinity: true,
            honor_node_taints: false,
            selector: Ok(Selector::Nothing),
        };
        match args {
            PodTopologySpreadArgs::System => Self { defaults: [soft(HOSTNAME_LABEL, 3), soft(ZONE_LABEL, 5)].into(), system: true },
            PodTopologySpreadArgs::List(list) => Self { defaults: list.iter().map(|facts| given(facts, symbols)).collect(), system: false },
        }
    }

    /// The constraints of a class for one way to fail, with their selectors; the error is the first selector that does not parse.
    fn constraints(&self, class: &PodClass, when: WhenUnsatisfiable, nodes: &Nodes) -> Result<Vec<(Spread, Selector)>, Box<str>> {
        let of = |list: &[Spread]| list.iter().filter(|spread| spread.when == when).cloned().collect::<Vec<_>>();
        if !class.spread.is_empty() {
            return of(&class.spread).into_iter().map(|spread| Ok((spread.clone(), spread.selector?))).collect();
        }
        let defaults = of(&self.defaults);
        if defaults.is_empty() {
            return Ok(Vec::new());
        }
        let selector = nodes.terms.default_selector(class);
        Ok(selector.map_or_else(Vec::new, |selector| defaults.into_iter().map(|spread| (spread, selector.clone())).collect()))
    }

    /// What to watch where the defaults apply to a class.
    fn premise(&self, class: &PodClass, when: WhenUnsatisfiable, nodes: &Nodes) -> Option<DefaultSelector> {
        let applies = class.spread.is_empty() && self.defaults.iter().any(|spread| spread.when == when);
        applies.then(|| DefaultSelector {
            class: class.clone(),
            selector: nodes.terms.default_selector(class),
            version: Cell::new(nodes.terms.selectors_version()),
        })
    }
}

fn given(facts: &DefaultConstraint, symbols: &mut Interner) -> Spread {
    Spread {
        max_skew: i32::try_from(facts.max_skew).unwrap_or(i32::MAX),
        topology_key: symbols.pin(&facts.topology_key),
        when: if facts.hard { WhenUnsatisfiable::DoNotSchedule } else { WhenUnsatisfiable::ScheduleAnyway },
        min_domains: facts.min_domains.map_or(1, |least| i32::try_from(least).unwrap_or(i32::MAX)),
        honor_node_affinity: facts.honor_node_affinity,
        honor_node_taints: facts.honor_node_taints,
        selector: Ok(Selector::Nothing),
    }
}

/// That the default selector of a class is still the one it was.
pub(super) struct DefaultSelector {
    class: PodClass,
    selector: Option<Selector>,
    version: Cell<u64>,
}

impl Premise for DefaultSelector {
    fn outdated(&self, nodes: &Nodes) -> bool {
        let now = nodes.terms.selectors_version();
        if self.version.get() == now {
            return false;
        }
        let same = nodes.terms.default_selector(&self.class) == self.selector;
        if same {
            self.version.set(now);
        }
        !same
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        let pods = Changes::POD_ADD | Changes::POD_LABEL | Changes::POD_DELETE;
        pods | Changes::NODE_ADD | Changes::NODE_DELETE | Changes::NODE_LABEL | Changes::NODE_TAINT | Changes::CLUSTER
    }

    /// As upstream. A compute cluster that comes brings nodes.
    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        let Ok(constraints) = self.constraints(class, WhenUnsatisfiable::DoNotSchedule, nodes) else { return true };
        let matching = |labels: &Labels| constraints.iter().any(|(_, selector)| selector.matches(labels));
        let has_keys = |node: &NodeRecord| constraints.iter().all(|(spread, _)| node.labels.get(spread.topology_key).is_some());
        match change {
            Change::PodAdd { class: other, .. } | Change::PodDelete { class: other, .. } => {
                other.namespace == class.namespace && matching(&other.labels)
            }
            Change::PodLabels { old, new, .. } => {
                let flips = |(_, selector): &(Spread, Selector)| selector.matches(&old.labels) != selector.matches(&new.labels);
                new.namespace == class.namespace && constraints.iter().any(flips)
            }
            Change::Node { old: None, new, .. } => has_keys(new),
            Change::Node { old: Some(old), new, .. } => {
                let moves = |(spread, _): &(Spread, Selector)| old.labels.get(spread.topology_key) != new.labels.get(spread.topology_key);
                has_keys(old) != has_keys(new) || (has_keys(new) && (constraints.iter().any(moves) || old.taints != new.taints))
            }
            Change::NodeDelete(Some(node)) => has_keys(node),
            _ => true,
        }
    }
}

// === which nodes count ===

/// The part of a class that inclusion policies read.
pub(super) struct Inclusion {
    selector: Box<[(Sym, Sym)]>,
    required: Option<SelectorMatcher>,
    tolerations: Box<[Toleration]>,
}

impl Inclusion {
    pub(super) fn new(class: &PodClass) -> Self {
        Self { selector: class.node_selector.clone(), required: class.required_affinity.clone(), tolerations: class.tolerations.clone() }
    }

    /// Whether the policies of a constraint let a node count.
    pub(super) fn includes(&self, spread: &Spread, node: &NodeRecord, nodes: &Nodes) -> bool {
        let wanted = || {
            self.selector.iter().all(|(key, value)| node.labels.get(*key) == Some(*value))
                && self.required.as_ref().is_none_or(|required| required.matches(node.name, &node.labels, &nodes.symbols))
        };
        (!spread.honor_node_affinity || wanted()) && (!spread.honor_node_taints || !has_untolerated(node, &self.tolerations))
    }
}

/// The tally of a constraint; none for a selector that matches everything, for which upstream counts nobody.
pub(super) fn tally(class: &PodClass, selector: &Selector, nodes: &Nodes) -> Option<TallyIx> {
    let counted = (!selector.is_everything()).then(|| Counted::spread(class.namespace, selector.clone()))?;
    nodes.terms.tally(&counted)
}

/// Whether a node has the labels of all constraints.
pub(super) fn has_all(keys: &[Sym], node: &NodeRecord) -> bool {
    keys.iter().all(|key| node.labels.get(*key).is_some())
}

// === filter ===

impl FilterPlugin for PodTopologySpread {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        let when = WhenUnsatisfiable::DoNotSchedule;
        let constraints = match self.constraints(class, when, nodes) {
            Ok(constraints) => constraints,
            Err(why) => {
                return CompiledFilter::Failed(format!(
                    "get constraints from pod: obtaining pod's hard topology spread constraints: {why}"
                ));
            }
        };
        let premise = self.premise(class, when, nodes);
        if constraints.is_empty() {
            return premise.map_or(CompiledFilter::Skip, |premise| CompiledFilter::SkipUntil(Box::new(premise)));
        }
        CompiledFilter::Domains(Box::new(Hard {
            keys: constraints.iter().map(|(spread, _)| spread.topology_key).collect(),
            constraints: constraints.into_iter().map(|(spread, selector)| Constraint::new(class, spread, &selector, nodes)).collect(),
            inclusion: Inclusion::new(class),
            namespace: class.namespace,
            premise,
        }))
    }
}

struct Hard {
    keys: Box<[Sym]>,
    constraints: Box<[Constraint]>,
    inclusion: Inclusion,
    namespace: Sym,
    premise: Option<DefaultSelector>,
}

struct Constraint {
    spread: Spread,
    selector: Selector,
    /// One if the pod itself is one of those that are counted.
    own: i64,
    topology: Topology,
    /// By domain.
    admitted: Vec<bool>,
    /// Looked up when somebody asks what would be if pods moved.
    fewest: Cell<Option<Fewest>>,
}

/// The two domains with the fewest pods.
#[derive(Clone, Copy)]
struct Fewest {
    domain: usize,
    pods: i64,
    second: i64,
    /// How many domains count.
    domains: usize,
}

impl Constraint {
    fn new(class: &PodClass, spread: Spread, selector: &Selector, nodes: &Nodes) -> Self {
        let mut topology = Topology::new(spread.topology_key);
        topology.add(tally(class, selector, nodes));
        let own = i64::from(selector.matches(&class.labels));
        Self { spread, selector: selector.clone(), own, topology, admitted: Vec::new(), fewest: Cell::new(None) }
    }

    fn judge(&mut self) {
        let pods = self.topology.sum(0).by_domain();
        let domains = || self.topology.nodes().iter().zip(pods).filter(|(nodes, _)| **nodes > 0);
        let is_few = domains().count() < usize::try_from(self.spread.min_domains).unwrap_or(0);
        let least = if is_few { 0 } else { domains().map(|(_, pods)| i64::from(*pods)).min().unwrap_or(i64::from(i32::MAX)) };
        let most = i64::from(self.spread.max_skew) + least - self.own;
        self.admitted.clear();
        self.admitted.extend(pods.iter().map(|pods| i64::from(*pods) <= most));
        self.admitted[NOWHERE] = false;
        self.fewest.set(None);
    }

    fn fewest(&self) -> Fewest {
        if let Some(known) = self.fewest.get() {
            return known;
        }
        let none = i64::from(i32::MAX);
        let mut fewest = Fewest { domain: usize::MAX, pods: none, second: none, domains: 0 };
        let pods = self.topology.sum(0).by_domain().iter().zip(self.topology.nodes()).enumerate();
        for (domain, (pods, _)) in pods.filter(|(_, (_, nodes))| **nodes > 0) {
            let pods = i64::from(*pods);
            fewest.domains += 1;
            if pods < fewest.pods {
                fewest = Fewest { domain, pods, second: fewest.pods, ..fewest };
            } else {
                fewest.second = fewest.second.min(pods);
            }
        }
        self.fewest.set(Some(fewest));
        fewest
    }

    /// Whether the domain of counting nodes would do with so many pods more.
    fn admits_with(&self, domain: usize, more: i64) -> bool {
        let pods = i64::from(self.topology.sum(0).by_domain()[domain]) + more;
        let fewest = self.fewest();
        let is_few = fewest.domains < usize::try_from(self.spread.min_domains).unwrap_or(0);
        let beside = if fewest.domain == domain { fewest.second } else { fewest.pods };
        let least = if is_few { 0 } else { pods.min(beside) };
        pods + self.own - least <= i64::from(self.spread.max_skew)
    }
}

impl DomainRule for Hard {
    fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes) {
        for constraint in &mut self.constraints {
            let Constraint { spread, topology, .. } = constraint;
            let counts = |node: &NodeRecord| has_all(&self.keys, node) && self.inclusion.includes(spread, node, nodes);
            match changed {
                Changed::All => topology.restart(nodes, counts),
                Changed::Nodes(list) => list.iter().for_each(|ix| topology.touch(*ix, nodes, counts)),
            }
            constraint.judge();
        }
    }

    fn keep_admitted(&self, set: &mut FixedBitSet) {
        self.constraints.iter().for_each(|constraint| constraint.topology.keep(set, &constraint.admitted));
    }

    fn refuses(&self, ix: NodeIx) -> Option<Refusal> {
        self.constraints.iter().find_map(|constraint| match constraint.topology.domain(ix.at()) {
            NOWHERE => Some(Refusal::unresolvable(REASON_LABEL)),
            domain => (!constraint.admitted[domain]).then(|| Refusal::unschedulable(REASON)),
        })
    }

    /// Unlike the count of what is there, upstream's count of what moves takes pods that are being deleted, and a selector that matches everything.
    fn refuses_with(&self, ix: NodeIx, moved: &[Moved<'_>], nodes: &Nodes) -> Option<Refusal> {
        let node = nodes.get(ix);
        let has_all = has_all(&self.keys, node);
        self.constraints.iter().find_map(|constraint| {
            let domain = constraint.topology.domain(ix.at());
            if domain == NOWHERE {
                return Some(Refusal::unresolvable(REASON_LABEL));
            }
            let counts = has_all && self.inclusion.includes(&constraint.spread, node, nodes);
            let matching = moved
                .iter()
                .filter(|moved| counts && moved.class.namespace == self.namespace && constraint.selector.matches(&moved.class.labels));
            let more: i64 = matching.map(|moved| moved.pods).sum();
            let admitted = if more == 0 { constraint.admitted[domain] } else { constraint.admits_with(domain, more) };
            (!admitted).then(|| Refusal::unschedulable(REASON))
        })
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        self.premise.as_ref().is_some_and(|premise| premise.outdated(nodes))
    }

    fn bytes(&self) -> usize {
        self.constraints.iter().map(|constraint| constraint.topology.bytes() + constraint.admitted.len() + 128).sum()
    }
}

// === score ===

impl ScorePlugin for PodTopologySpread {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledScore {
        let when = WhenUnsatisfiable::ScheduleAnyway;
        let constraints = match self.constraints(class, when, nodes) {
            Ok(constraints) => constraints,
            Err(why) => {
                let why = format!("calculating preScoreState: obtaining pod's soft topology spread constraints: {why}");
                return CompiledScore::Failed(why);
            }
        };
        let premise = self.premise(class, when, nodes);
        if constraints.is_empty() {
            return premise.map_or(CompiledScore::Skip, |premise| CompiledScore::SkipUntil(Box::new(premise)));
        }
        let needs_all = !class.spread.is_empty() || !self.system;
        CompiledScore::Domains(Box::new(Soft::new(class, constraints, needs_all, premise, nodes)))
    }
}

#[cfg(test)]
#[path = "pod_topology_spread_tests.rs"]
mod tests;

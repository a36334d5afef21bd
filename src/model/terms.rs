//! What pods want of other pods: pod affinity and topology spread constraints, as objects say them and interned.
//!
//! Source: `framework.AffinityTerm`, `podtopologyspread.topologySpreadConstraint` v1.37. `matchLabelKeys` of affinity is the API server's work, which
//! merges it into the selector when a pod is made; that of spreading is merged where the object is read.

use super::{
    intern::{Interner, Sym},
    labels::Labels,
    selector::{LabelSelectorFacts, Requirement, Selector, aggregated},
};

// === as objects say it ===

/// `spec.affinity.podAffinity` and `podAntiAffinity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodAffinityFacts {
    /// Required affinity.
    pub required: Vec<AffinityTermFacts>,
    /// Required anti-affinity.
    pub anti_required: Vec<AffinityTermFacts>,
    /// Preferred affinity with weights.
    pub preferred: Vec<(i32, AffinityTermFacts)>,
    /// Preferred anti-affinity with weights.
    pub anti_preferred: Vec<(i32, AffinityTermFacts)>,
}

/// A `PodAffinityTerm`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityTermFacts {
    /// `namespaces`.
    pub namespaces: Vec<Box<str>>,
    /// `namespaceSelector`.
    pub namespace_selector: Option<LabelSelectorFacts>,
    /// `labelSelector`.
    pub label_selector: Option<LabelSelectorFacts>,
    /// `topologyKey`.
    pub topology_key: Box<str>,
}

/// A `TopologySpreadConstraint`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpreadFacts {
    /// `maxSkew`.
    pub max_skew: i32,
    /// `topologyKey`.
    pub topology_key: Box<str>,
    /// What happens when it cannot be met.
    pub when: WhenUnsatisfiable,
    /// `minDomains`.
    pub min_domains: Option<i32>,
    /// `nodeAffinityPolicy: Honor`, the default.
    pub honor_node_affinity: bool,
    /// `nodeTaintsPolicy: Honor`; the default is `Ignore`.
    pub honor_node_taints: bool,
    /// `labelSelector`, `matchLabelKeys` merged in.
    pub selector: Option<LabelSelectorFacts>,
}

/// `whenUnsatisfiable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenUnsatisfiable {
    /// `DoNotSchedule`.
    DoNotSchedule,
    /// `ScheduleAnyway`.
    ScheduleAnyway,
    /// A word that we do not know: such a constraint does nothing, as upstream has it.
    Unknown,
}

/// The object whose controller made the pod, of the kinds whose selectors count for default spreading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerFacts {
    /// What it is.
    pub kind: SelectingKind,
    /// Its name, in the pod's namespace.
    pub name: Box<str>,
}

/// Kinds of objects whose selectors choose pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SelectingKind {
    /// `v1`; chooses pods that it does not own.
    Service,
    /// `v1`.
    ReplicationController,
    /// `apps/v1`.
    ReplicaSet,
    /// `apps/v1`.
    StatefulSet,
}

impl SelectingKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::ReplicationController, Self::ReplicaSet, Self::StatefulSet];

    /// The kind of an owner reference, if its selector counts.
    pub fn of_owner(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("v1", "ReplicationController") => Some(Self::ReplicationController),
            ("apps/v1", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps/v1", "StatefulSet") => Some(Self::StatefulSet),
            _ => None,
        }
    }
}

// === interned ===

/// Labels of namespaces that exist.
pub type NamespaceLabels = rustc_hash::FxHashMap<Sym, Labels>;

/// Which pods a term speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodSelector {
    /// Named namespaces, sorted.
    pub namespaces: Box<[Sym]>,
    /// Namespaces by their labels.
    pub namespace_selector: Selector,
    /// Pods by their labels.
    pub selector: Selector,
}

impl PodSelector {
    /// Pods of one namespace.
    pub fn within(namespace: Sym, selector: Selector) -> Self {
        Self { namespaces: [namespace].into(), namespace_selector: Selector::Nothing, selector }
    }

    /// Whether a term of a pod that is to be placed speaks of a pod that is there. Its namespace selector finds namespaces that exist.
    pub fn finds(&self, namespace: Sym, labels: &Labels, namespaces: &NamespaceLabels) -> bool {
        let by_label = || {
            self.namespace_selector.is_everything()
                || namespaces.get(&namespace).is_some_and(|labels| self.namespace_selector.matches(labels))
        };
        (self.namespaces.contains(&namespace) || by_label()) && self.selector.matches(labels)
    }

    /// Whether a term of a pod that is there speaks of a pod that is to be placed: a namespace that nobody knows counts as one without labels.
    pub fn meets(&self, namespace: Sym, labels: &Labels, namespaces: &NamespaceLabels) -> bool {
        let none = Labels::default();
        let by_label = || self.namespace_selector.matches(namespaces.get(&namespace).unwrap_or(&none));
        (self.namespaces.contains(&namespace) || by_label()) && self.selector.matches(labels)
    }

    /// The only namespaces that it can speak of; `None` when labels decide.
    pub fn only_namespaces(&self) -> Option<&[Sym]> {
        (self.namespace_selector == Selector::Nothing).then_some(&*self.namespaces)
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.namespaces.iter().for_each(|namespace| mark(*namespace));
        self.namespace_selector.symbols(mark);
        self.selector.symbols(mark);
    }
}

/// An affinity term.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AffinityTerm {
    /// Which pods.
    pub pods: PodSelector,
    /// How near: nodes with the same value of this label.
    pub topology_key: Sym,
}

impl AffinityTerm {
    fn parse(facts: &AffinityTermFacts, own: Sym, table: &mut Interner) -> Result<Self, Box<str>> {
        let selector = Selector::parse(facts.label_selector.as_ref(), table)?;
        let namespace_selector = Selector::parse(facts.namespace_selector.as_ref(), table)?;
        let mut namespaces: Vec<Sym> = facts.namespaces.iter().map(|name| table.intern(name)).collect();
        if namespaces.is_empty() && facts.namespace_selector.is_none() {
            namespaces.push(own);
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        let pods = PodSelector { namespaces: namespaces.into(), namespace_selector, selector };
        Ok(Self { pods, topology_key: table.intern(&facts.topology_key) })
    }
}

/// A list of terms, or why one of them does not parse.
pub type Parsed<T> = Result<Box<[T]>, Box<str>>;

/// Pod affinity of a class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodTerms {
    /// Required affinity.
    pub required: Parsed<AffinityTerm>,
    /// Required anti-affinity.
    pub anti_required: Parsed<AffinityTerm>,
    /// Preferred affinity, with weights.
    pub preferred: Parsed<(i32, AffinityTerm)>,
    /// Preferred anti-affinity, with weights.
    pub anti_preferred: Parsed<(i32, AffinityTerm)>,
}

impl PodTerms {
    /// Interns the terms of a pod.
    pub fn new(facts: &PodAffinityFacts, namespace: Sym, table: &mut Interner) -> Self {
        let mut hard = |list: &[AffinityTermFacts]| list.iter().map(|term| AffinityTerm::parse(term, namespace, table)).collect();
        let (required, anti_required) = (hard(&facts.required), hard(&facts.anti_required));
        let mut soft = |list: &[(i32, AffinityTermFacts)]| {
            list.iter().map(|(weight, term)| Ok((*weight, AffinityTerm::parse(term, namespace, table)?))).collect()
        };
        Self { required, anti_required, preferred: soft(&facts.preferred), anti_preferred: soft(&facts.anti_preferred) }
    }

    /// Everything that does not parse, as upstream's `NewPodInfo` says it.
    pub fn fault(&self) -> Option<String> {
        let fault = |list: &str, error: Option<&Box<str>>| error.map(|error| format!("{list}: {error}"));
        let faults = [
            fault("requiredAffinityTerms", self.required.as_ref().err()),
            fault("requiredAntiAffinityTerms", self.anti_required.as_ref().err()),
            fault("preferredAffinityTerms", self.preferred.as_ref().err()),
            fault("preferredAntiAffinityTerms", self.anti_preferred.as_ref().err()),
        ];
        let faults: Vec<String> = faults.into_iter().flatten().collect();
        (!faults.is_empty()).then(|| aggregated(faults))
    }

    /// Every term that parses.
    pub fn iter(&self) -> impl Iterator<Item = &AffinityTerm> {
        let hard = [&self.required, &self.anti_required].into_iter().flatten().flatten();
        let soft = [&self.preferred, &self.anti_preferred].into_iter().flatten().flatten();
        hard.chain(soft.map(|(_, term)| term))
    }
}

/// A topology spread constraint of a class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    /// `maxSkew`.
    pub max_skew: i32,
    /// `topologyKey`.
    pub topology_key: Sym,
    /// What happens when it cannot be met.
    pub when: WhenUnsatisfiable,
    /// Fewer domains than this count as an empty one.
    pub min_domains: i32,
    /// Counts only nodes that the pod's node affinity admits.
    pub honor_node_affinity: bool,
    /// Counts only nodes whose taints the pod tolerates.
    pub honor_node_taints: bool,
    /// Which pods of the namespace; or why that cannot be told.
    pub selector: Result<Selector, Box<str>>,
}

impl Spread {
    /// Interns a constraint.
    pub fn new(facts: &SpreadFacts, table: &mut Interner) -> Self {
        Self {
            max_skew: facts.max_skew,
            topology_key: table.intern(&facts.topology_key),
            when: facts.when,
            min_domains: facts.min_domains.unwrap_or(1),
            honor_node_affinity: facts.honor_node_affinity,
            honor_node_taints: facts.honor_node_taints,
            selector: Selector::parse(facts.selector.as_ref(), table),
        }
    }
}

/// The labels that a list of selectors reads.
pub fn keys_of(selector: &Selector) -> impl Iterator<Item = Sym> + '_ {
    selector.requirements().iter().map(Requirement::key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_named_selected_or_the_pods_own() {
        let mut table = Interner::default();
        let [own, other, new] = ["own", "other", "new"].map(|name| table.intern(name));
        let team = Labels::intern(&[("team".into(), "a".into())], &mut table);
        let namespaces: NamespaceLabels = [(own, Labels::default()), (other, team)].into_iter().collect();
        let label = |key: &str, operator: &str| LabelSelectorFacts {
            match_expressions: vec![crate::model::affinity::NodeSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Vec::new(),
            }],
            ..LabelSelectorFacts::default()
        };
        let all = || Some(LabelSelectorFacts::default());
        for (named, selector, finds, meets) in [
            (&[][..], None, [true, false, false], [true, false, false]),
            (&["other"], None, [false, true, false], [false, true, false]),
            (&[], all(), [true, true, true], [true, true, true]),
            (&[], Some(label("team", "Exists")), [false, true, false], [false, true, false]),
            (&["own"], Some(label("team", "Exists")), [true, true, false], [true, true, false]),
            // A namespace that is not known is not found, but counts as one without labels.
            (&[], Some(label("team", "DoesNotExist")), [true, false, false], [true, false, true]),
        ] {
            let facts = AffinityTermFacts {
                namespaces: named.iter().map(|name| Box::from(*name)).collect(),
                namespace_selector: selector,
                label_selector: all(),
                topology_key: "zone".into(),
            };
            let pods = AffinityTerm::parse(&facts, own, &mut table).unwrap().pods;
            let none = Labels::default();
            assert_eq!([own, other, new].map(|name| pods.finds(name, &none, &namespaces)), finds, "{facts:?}");
            assert_eq!([own, other, new].map(|name| pods.meets(name, &none, &namespaces)), meets, "{facts:?}");
        }
    }
}

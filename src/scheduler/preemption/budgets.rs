//! Disruption budgets, and whose end would break one. In: facts of budgets; victims in order of importance. Out: for each, whether it violates.
//!
//! Source: `FilterVictimsWithPDBViolation` v1.37. Budgets are not a law here but a preference: a node where none breaks is taken first. A budget whose
//! selector is absent, empty or does not parse counts for nobody.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use crate::model::{
    budget::BudgetFacts,
    intern::{Interner, Sym},
    labels::Labels,
    selector::Selector,
};

/// Budgets by namespace and name.
type ByName = BTreeMap<Box<str>, Budget>;

/// All budgets of the home cluster.
#[derive(Debug, Default)]
pub struct Budgets {
    by_namespace: BTreeMap<Sym, ByName>,
    version: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Budget {
    selector: Selector,
    allowed: i32,
    disrupted: FxHashSet<Box<str>>,
}

impl Budgets {
    /// A budget was listed, added or changed.
    pub fn apply(&mut self, facts: BudgetFacts, table: &mut Interner) {
        let selector = Selector::parse(facts.selector.as_ref(), table).unwrap_or_else(|why| {
            tracing::warn!(namespace = &*facts.namespace, name = &*facts.name, "a PodDisruptionBudget protects nobody: {why}");
            Selector::Nothing
        });
        // The one that matches everything matches nothing here, as upstream has it.
        let selector = if selector.is_everything() { Selector::Nothing } else { selector };
        let budget = Budget { selector, allowed: facts.allowed, disrupted: facts.disrupted.into_iter().collect() };
        let here = self.by_namespace.entry(table.intern(&facts.namespace)).or_default();
        if here.get(&facts.name) != Some(&budget) {
            here.insert(facts.name, budget);
            self.version += 1;
        }
    }

    /// A budget is gone.
    pub fn remove(&mut self, namespace: &str, name: &str, table: &Interner) {
        let Some(namespace) = table.get(namespace) else { return };
        let Some(here) = self.by_namespace.get_mut(&namespace) else { return };
        if here.remove(name).is_some() {
            self.version += 1;
        }
        if here.is_empty() {
            self.by_namespace.remove(&namespace);
        }
    }

    /// The list is complete: `namespace/name` of each that there is.
    pub fn retain(&mut self, listed: &FxHashSet<Box<str>>, table: &Interner) {
        for (namespace, here) in &mut self.by_namespace {
            let before = here.len();
            here.retain(|name, _| listed.contains(&*format!("{}/{name}", table.text(*namespace))));
            self.version += u64::from(here.len() != before);
        }
        self.by_namespace.retain(|_, here| !here.is_empty());
    }

    /// Grows when a verdict may be another one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What may still be disrupted, to be used up by the victims of one node.
    pub fn ledger(&self) -> Ledger<'_> {
        Ledger { budgets: self, used: BTreeMap::new() }
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        for (namespace, here) in &self.by_namespace {
            mark(*namespace);
            here.values().for_each(|budget| budget.selector.symbols(mark));
        }
    }
}

/// See [`Budgets::ledger`].
pub struct Ledger<'a> {
    budgets: &'a Budgets,
    used: BTreeMap<(Sym, &'a str), i32>,
}

impl Ledger<'_> {
    /// Whether the namespace has a budget at all.
    pub fn concerns(&self, namespace: Sym) -> bool {
        self.budgets.by_namespace.contains_key(&namespace)
    }

    /// Whether the end of a pod violates a budget, those before it counted. Budgets after the first violated one are not used up.
    pub fn violates(&mut self, namespace: Sym, name: &str, labels: &Labels) -> bool {
        let Some(here) = self.budgets.by_namespace.get(&namespace) else { return false };
        if labels.is_empty() {
            return false;
        }
        for (at, budget) in here {
            if !budget.selector.matches(labels) || budget.disrupted.contains(name) {
                continue;
            }
            let used = self.used.entry((namespace, at)).or_default();
            *used = used.saturating_add(1);
            if *used > budget.allowed {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{affinity::NodeSelectorRequirement, selector::LabelSelectorFacts};

    fn labels(text: &str) -> Vec<(Box<str>, Box<str>)> {
        text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
    }

    fn budget(name: &str, selector: Option<&str>, allowed: i32) -> BudgetFacts {
        let selector = selector.map(|text| LabelSelectorFacts { match_labels: labels(text), match_expressions: Vec::new() });
        BudgetFacts { namespace: "a".into(), name: name.into(), selector, allowed, disrupted: vec!["gone".into()] }
    }

    /// Which of the pods, in their order, violate.
    fn violating(budgets: Vec<BudgetFacts>, pods: &[(&str, &str, &str)]) -> Vec<bool> {
        let (mut all, mut table) = (Budgets::default(), Interner::default());
        budgets.into_iter().for_each(|facts| all.apply(facts, &mut table));
        let pods: Vec<_> = pods
            .iter()
            .map(|(namespace, name, text)| (table.intern(namespace), *name, Labels::intern(&labels(text), &mut table)))
            .collect();
        let mut ledger = all.ledger();
        pods.iter().map(|(namespace, name, labels)| ledger.violates(*namespace, name, labels)).collect()
    }

    #[test]
    fn a_budget_is_used_up_pod_by_pod() {
        let pods = [("a", "p", "x=1"), ("a", "gone", "x=1"), ("b", "q", "x=1"), ("a", "r", "y=1"), ("a", "s", ""), ("a", "t", "x=1 y=1")];
        for (selector, allowed, want) in [
            (Some("x=1"), 0, [true, false, false, false, false, true]),
            (Some("x=1"), 1, [false, false, false, false, false, true]),
            (Some("x=1"), 2, [false; 6]),
            (Some("x=1"), -1, [true, false, false, false, false, true]),
            (Some(""), 0, [false; 6]),
            (None, 0, [false; 6]),
        ] {
            assert_eq!(violating(vec![budget("b", selector, allowed)], &pods), want, "{selector:?} {allowed}");
        }
    }

    #[test]
    fn where_budgets_overlap_the_first_that_breaks_spares_those_behind_it() {
        let two = |first, second| vec![budget("1", Some("x=1"), first), budget("2", Some("y=1"), second)];
        let pods = [("a", "p", "x=1 y=1"), ("a", "q", "y=1"), ("a", "r", "y=1")];
        assert_eq!(violating(two(0, 1), &pods), [true, false, true]);
        assert_eq!(violating(two(1, 1), &pods), [false, true, true]);
    }

    #[test]
    fn a_selector_that_does_not_parse_protects_nobody() {
        let bad = NodeSelectorRequirement { key: "x".into(), operator: "Like".into(), values: Vec::new() };
        let selector = LabelSelectorFacts { match_labels: Vec::new(), match_expressions: vec![bad] };
        let facts = BudgetFacts { selector: Some(selector), ..budget("b", None, 0) };
        assert_eq!(violating(vec![facts], &[("a", "p", "x=1")]), [false]);
    }
}

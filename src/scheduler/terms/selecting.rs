//! Selectors of Services and of controllers. In: objects as they come and go. Out: for a pod, the selector that default spread constraints count by.
//!
//! Source: `helper.DefaultSelector` v1.37: the selectors of all Services that choose the pod, and that of the controller that owns it, all together.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::model::{
    class::PodClass,
    intern::{Interner, Sym},
    selector::{LabelSelectorFacts, Requirement, Selector},
    terms::SelectingKind,
};

/// All of them, by namespace.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    by_namespace: FxHashMap<Sym, BTreeMap<(SelectingKind, Sym), Selector>>,
    version: u64,
}

impl Selectors {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = Sym> + '_ {
        self.by_namespace.keys().copied()
    }

    pub(super) fn of(&self, namespace: Sym) -> impl Iterator<Item = &Selector> {
        self.by_namespace.get(&namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn set(
        &mut self,
        kind: SelectingKind,
        namespace: Sym,
        name: Sym,
        facts: Option<&LabelSelectorFacts>,
        table: &mut Interner,
    ) -> bool {
        // One that does not parse or asks for nothing adds nothing.
        let selector = facts.and_then(|facts| Selector::parse(Some(facts), table).ok()).filter(|selector| !selector.is_everything());
        let here = self.by_namespace.entry(namespace).or_default();
        let is_news = match selector {
            Some(selector) => here.insert((kind, name), selector.clone()).as_ref() != Some(&selector),
            None => here.remove(&(kind, name)).is_some(),
        };
        if here.is_empty() {
            self.by_namespace.remove(&namespace);
        }
        self.version += u64::from(is_news);
        is_news
    }

    pub(super) fn retain(&mut self, kind: SelectingKind, listed: impl Fn(Sym, Sym) -> bool) {
        let mut gone = 0;
        for (namespace, here) in &mut self.by_namespace {
            let before = here.len();
            here.retain(|(of, name), _| *of != kind || listed(*namespace, *name));
            gone += before - here.len();
        }
        self.by_namespace.retain(|_, here| !here.is_empty());
        self.version += u64::from(gone > 0);
    }

    pub(super) fn default_of(&self, class: &PodClass) -> Option<Selector> {
        let here = self.by_namespace.get(&class.namespace)?;
        let services = here.iter().take_while(|((kind, _), _)| *kind == SelectingKind::Service).map(|(_, selector)| selector);
        let mut all: Vec<Requirement> = Vec::new();
        for service in services.filter(|service| service.matches(&class.labels)) {
            all.extend_from_slice(service.requirements());
        }
        if let Some(owner) = class.owner.and_then(|owner| here.get(&owner)) {
            // The labels of a ReplicationController take the place of those that Services name.
            if class.owner.is_some_and(|(kind, _)| kind == SelectingKind::ReplicationController) {
                all.retain(|requirement| owner.requirements().iter().all(|other| other.key() != requirement.key()));
            }
            all.extend_from_slice(owner.requirements());
        }
        (!all.is_empty()).then(|| Selector::all(all))
    }

    pub(super) fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        for (namespace, here) in &self.by_namespace {
            mark(*namespace);
            for ((_, name), selector) in here {
                mark(*name);
                selector.symbols(mark);
            }
        }
    }
}

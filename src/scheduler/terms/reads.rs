//! Which labels of pods a live selector reads. In: selectors of classes, Services and controllers. Out: of a pod's labels those that are part of its class.
//!
//! What nobody reads must not tell pods apart: replicas of a `StatefulSet` differ in a label. A label that begins to be read is told once; then classes of
//! pods that have it are made anew.

use rustc_hash::{FxHashMap, FxHashSet};

use super::selecting::Selectors;
use crate::model::{
    class::PodClass,
    intern::Sym,
    labels::Labels,
    selector::Selector,
    terms::{PodSelector, keys_of},
};

/// Keys by namespace; under `None` those that are read in all.
#[derive(Debug, Default)]
pub(super) struct Reads {
    keys: FxHashMap<Option<Sym>, FxHashSet<Sym>>,
    new: Vec<(Option<Sym>, Sym)>,
}

impl Reads {
    pub(super) fn of(&self, namespace: Sym, labels: &Labels) -> Labels {
        let [here, everywhere] = [Some(namespace), None].map(|place| self.keys.get(&place));
        labels.only(|key| [here, everywhere].into_iter().flatten().any(|keys| keys.contains(&key)))
    }

    pub(super) fn take_new(&mut self) -> Vec<(Option<Sym>, Sym)> {
        std::mem::take(&mut self.new)
    }

    pub(super) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    fn note(&mut self, place: Option<Sym>, selector: &Selector) {
        for key in keys_of(selector) {
            if self.keys.entry(place).or_default().insert(key) {
                self.new.push((place, key));
            }
        }
    }

    fn note_pods(&mut self, pods: &PodSelector) {
        match pods.only_namespaces() {
            Some(names) => names.iter().for_each(|name| self.note(Some(*name), &pods.selector)),
            None => self.note(None, &pods.selector),
        }
    }

    pub(super) fn note_class(&mut self, class: &PodClass) {
        for spread in &class.spread {
            spread.selector.iter().for_each(|selector| self.note(Some(class.namespace), selector));
        }
        for term in class.pod_terms.iter().flat_map(|terms| terms.iter()) {
            self.note_pods(&term.pods);
        }
    }

    pub(super) fn note_selectors(&mut self, namespace: Sym, selectors: &Selectors) {
        selectors.of(namespace).for_each(|selector| self.note(Some(namespace), selector));
    }

    /// Begins anew with what is alive. Nothing is new then: it was read before.
    pub(super) fn restart<'a>(&mut self, classes: impl Iterator<Item = &'a PodClass>, selectors: &Selectors) {
        let new = std::mem::take(&mut self.new);
        self.keys.clear();
        classes.for_each(|class| self.note_class(class));
        selectors.namespaces().for_each(|namespace| self.note_selectors(namespace, selectors));
        self.new = new;
    }

    pub(super) fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        for (place, keys) in &self.keys {
            place.iter().chain(keys).for_each(|sym| mark(*sym));
        }
        self.new.iter().for_each(|(place, key)| place.iter().chain([key]).for_each(|sym| mark(*sym)));
    }
}

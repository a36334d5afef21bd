//! From pods to classes. In: what a pod's object says. Out: the class it has, held once more.
//!
//! Labels are part of a class only where a live selector reads them. All labels of a pod are kept beside, for the day a selector comes that reads more: then
//! the pods that have such a label are recast.

use super::{Cache, Placed};
use crate::model::{
    class::PodClass,
    ids::{ClassIx, PodUid},
    labels::Labels,
    pod::PodFacts,
};

impl Cache {
    /// The class of a pod that may be decided about, with one hold for the caller.
    pub fn class_of(&mut self, facts: &PodFacts) -> ClassIx {
        let class = PodClass::new(&facts.key.namespace, &facts.spec, &mut self.nodes.symbols);
        self.with_labels(facts, class)
    }

    /// The class of a pod that is only counted, with one hold for the caller.
    pub fn counted_class_of(&mut self, facts: &PodFacts) -> ClassIx {
        let class = PodClass::counted(&facts.key.namespace, &facts.spec, &mut self.nodes.symbols);
        self.with_labels(facts, class)
    }

    fn with_labels(&mut self, facts: &PodFacts, mut class: PodClass) -> ClassIx {
        let labels = Labels::intern(&facts.labels, &mut self.nodes.symbols);
        class.is_terminating = facts.deleting;
        class.labels = self.nodes.terms.read(&class, &labels);
        self.note(facts, labels);
        self.acquire(class)
    }

    /// The index of a class, made if it is new; one more pod holds it.
    pub fn acquire(&mut self, class: PodClass) -> ClassIx {
        let ix = self.classes.acquire(class);
        if let (1, Some(class)) = (self.classes.holds(ix), self.classes.get(ix)) {
            self.nodes.terms.enter(ix, class);
        }
        ix
    }

    /// One pod less holds the class. True when it was the last and the class is gone.
    pub fn release(&mut self, ix: ClassIx) -> bool {
        let last = self.classes.release(ix);
        if last {
            self.nodes.terms.leave(ix);
        }
        last
    }

    /// A pod is gone for good: what is kept of it beside its place goes too.
    pub fn forget_labels(&mut self, uid: &PodUid) {
        self.known.swap_remove(uid);
    }

    /// Pods that have a label which began to be read, sorted: their classes may not be what they should be. Asked once for each label.
    pub fn take_miscast(&mut self) -> Vec<PodUid> {
        if !self.nodes.terms.has_newly_read() {
            return Vec::new();
        }
        let keys = self.nodes.terms.take_newly_read();
        let has = |labels: &Labels| keys.iter().any(|key| labels.get(*key).is_some());
        let mut miscast: Vec<PodUid> = self.known.iter().filter(|(_, known)| has(&known.labels)).map(|(uid, _)| uid.clone()).collect();
        miscast.sort_unstable();
        miscast
    }

    /// The class that a pod of this class should have by the labels that are read now, with one hold for the caller; `None` if it has it.
    pub fn recast(&mut self, uid: &PodUid, ix: ClassIx) -> Option<ClassIx> {
        let (class, labels) = (self.classes.get(ix)?, self.labels_of(uid)?);
        let read = self.nodes.terms.readable(class.namespace, labels);
        let class = (class.labels != read).then(|| PodClass { labels: read, ..class.clone() })?;
        Some(self.acquire(class))
    }

    /// A placed pod has another class. Takes over one hold of it, and gives that of the old one to the caller.
    pub fn recast_placed(&mut self, uid: &PodUid, known: Placed, class: ClassIx) -> ClassIx {
        self.recount(uid, known, class);
        known.class
    }
}

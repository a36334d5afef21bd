//! Which pods match which terms, counted by node. In: classes as they come and go, pods of a class on a node, labels of namespaces, selectors of Services
//! and controllers. Out: for a term, how many pods each node has that match it, or that have it.
//!
//! A *tally* is one such count. Whether a class belongs to a tally is decided once, when either is new; a pod that comes or goes then only moves numbers
//! of the tallies that its class belongs to. No decision ever walks over pods.

mod reads;
mod selecting;

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use self::{reads::Reads, selecting::Selectors};
use crate::model::{
    class::PodClass,
    ids::{ClassIx, NodeIx},
    intern::{Interner, Sym},
    labels::Labels,
    selector::{LabelSelectorFacts, Selector},
    terms::{AffinityTerm, NamespaceLabels, PodSelector, SelectingKind, WhenUnsatisfiable},
};

/// Tallies that are kept whether a class needs them or not, so that a sweep is rare.
const TALLIES_MIN: usize = 64;

/// Names a tally. Never means another one, also when the first is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TallyIx {
    at: u32,
    born: u32,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Pods that all of these find.
    Matching {
        /// At least one.
        all_of: Box<[PodSelector]>,
        /// Not those that are being deleted.
        staying: bool,
    },
    /// Pods that have this term.
    Holding(AffinityTerm, Role),
}

/// In which of its lists a pod has a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Required anti-affinity.
    AntiRequired,
    /// Required affinity.
    Required,
    /// Preferred, with its weight; that of anti-affinity is negative.
    Preferred(i64),
}

impl Counted {
    /// Pods that a spread constraint counts.
    pub fn spread(namespace: Sym, selector: Selector) -> Self {
        Self::Matching { all_of: [PodSelector::within(namespace, selector)].into(), staying: true }
    }

    /// Pods that all the terms find.
    pub fn found_by<'a>(terms: impl Iterator<Item = &'a AffinityTerm>) -> Self {
        let mut all_of: Vec<PodSelector> = terms.map(|term| term.pods.clone()).collect();
        all_of.sort_unstable();
        all_of.dedup();
        Self::Matching { all_of: all_of.into(), staying: false }
    }

    /// The namespaces of the pods that can be meant: those that match, or those that the term speaks of. `None`: any.
    fn only_namespaces(&self) -> Option<&[Sym]> {
        match self {
            Self::Matching { all_of, .. } => all_of.iter().find_map(PodSelector::only_namespaces),
            Self::Holding(term, _) => term.pods.only_namespaces(),
        }
    }

    fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        match self {
            Self::Matching { all_of, .. } => all_of.iter().for_each(|pods| pods.symbols(mark)),
            Self::Holding(term, _) => {
                mark(term.topology_key);
                term.pods.symbols(mark);
            }
        }
    }
}

/// One count.
#[derive(Debug)]
struct Tally {
    counted: Counted,
    on: FxHashMap<NodeIx, u32>,
}

/// What is remembered of a live class.
#[derive(Debug)]
struct Entry {
    namespace: Sym,
    labels: Labels,
    is_terminating: bool,
    /// Its pods by node.
    on: FxHashMap<NodeIx, u32>,
    /// Tallies that its pods count in because they match.
    matches: SmallVec<[TallyIx; 4]>,
    /// Tallies that its pods count in because they have the term.
    holds: SmallVec<[TallyIx; 2]>,
    /// Tallies that a decision about it reads, and for which state of the selectors they were made.
    asks: Option<(u64, SmallVec<[TallyIx; 4]>)>,
}

/// Tallies by the namespaces of the pods that they can concern.
#[derive(Debug, Default)]
struct ByNamespace {
    named: FxHashMap<Sym, Vec<TallyIx>>,
    any: Vec<TallyIx>,
}

impl ByNamespace {
    fn insert(&mut self, ix: TallyIx, counted: &Counted) {
        match counted.only_namespaces() {
            Some(names) => names.iter().for_each(|name| self.named.entry(*name).or_default().push(ix)),
            None => self.any.push(ix),
        }
    }

    fn retain(&mut self, alive: impl Fn(&TallyIx) -> bool) {
        self.any.retain(&alive);
        self.named.values_mut().for_each(|list| list.retain(&alive));
        self.named.retain(|_, list| !list.is_empty());
    }

    fn of(&self, namespace: Sym) -> impl Iterator<Item = TallyIx> + '_ {
        self.named.get(&namespace).into_iter().flatten().chain(&self.any).copied()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Terms {
    tallies: Vec<Option<(u32, Tally)>>,
    free: Vec<u32>,
    by_counted: FxHashMap<Counted, TallyIx>,
    matching: ByNamespace,
    holding: ByNamespace,
    /// How often a tally was made.
    births: u32,
    /// How many were alive after the last sweep.
    kept: usize,
    classes: Vec<Option<Entry>>,
    by_namespace: FxHashMap<Sym, BTreeSet<ClassIx>>,
    namespaces: NamespaceLabels,
    selectors: Selectors,
    reads: Reads,
    /// Grows when a term that pods can have appears or goes, or the labels of a namespace change.
    held_version: u64,
    /// Grows when the labels of a namespace change.
    namespaces_version: u64,
}

impl Terms {
    // === classes and their pods ===

    /// The labels of a pod that its class is to have: those that a live selector reads, those of the class itself included.
    pub fn read(&mut self, class: &PodClass, labels: &Labels) -> Labels {
        self.reads.note_class(class);
        self.reads.of(class.namespace, labels)
    }

    /// Labels of a pod that are to be in its class as things stand.
    pub fn readable(&self, namespace: Sym, labels: &Labels) -> Labels {
        self.reads.of(namespace, labels)
    }

    /// Labels that are read since the last look in namespaces that have pods; classes of pods that have one of them may not be what they should be.
    pub fn take_newly_read(&mut self) -> Vec<Sym> {
        let new = self.reads.take_new().into_iter();
        new.filter(|(place, _)| place.is_none_or(|namespace| self.by_namespace.contains_key(&namespace))).map(|(_, key)| key).collect()
    }

    /// Whether there are such labels.
    pub fn has_newly_read(&self) -> bool {
        self.reads.has_new()
    }

    /// A class that was not there.
    pub fn enter(&mut self, ix: ClassIx, class: &PodClass) {
        if self.classes.len() <= ix.at() {
            self.classes.resize_with(ix.at() + 1, || None);
        }
        debug_assert!(self.classes[ix.at()].is_none(), "a class came twice");
        let mut entry = Entry {
            namespace: class.namespace,
            labels: class.labels.clone(),
            is_terminating: class.is_terminating,
            on: FxHashMap::default(),
            matches: SmallVec::new(),
            holds: SmallVec::new(),
            asks: None,
        };
        for (term, role) in held_by(class) {
            let tally = self.tally_of(Counted::Holding(term.clone(), role));
            // A pod that has a term twice counts twice.
            entry.holds.push(tally);
        }
        entry.matches = self.matched_by(&entry);
        self.by_namespace.entry(class.namespace).or_default().insert(ix);
        self.classes[ix.at()] = Some(entry);
    }

    /// A class is gone; none of its pods is on a node.
    pub fn leave(&mut self, ix: ClassIx) {
        let Some(entry) = self.classes.get_mut(ix.at()).and_then(Option::take) else { return };
        debug_assert!(entry.on.is_empty(), "a class with pods is gone");
        if let Some(here) = self.by_namespace.get_mut(&entry.namespace) {
            here.remove(&ix);
            if here.is_empty() {
                self.by_namespace.remove(&entry.namespace);
            }
        }
    }

    /// A pod of the class is on a node now.
    pub fn count(&mut self, class: ClassIx, node: NodeIx) {
        self.shift(class, node, true);
    }

    /// A pod of the class left a node.
    pub fn uncount(&mut self, class: ClassIx, node: NodeIx) {
        self.shift(class, node, false);
    }

    fn shift(&mut self, class: ClassIx, node: NodeIx, more: bool) {
        let Some(entry) = self.classes.get_mut(class.at()).and_then(Option::as_mut) else {
            debug_assert!(false, "a pod of an unknown class");
            return;
        };
        add(&mut entry.on, node, 1, more);
        for tally in entry.matches.iter().chain(&entry.holds) {
            if let Some((_, tally)) = self.tallies[tally.at as usize].as_mut() {
                add(&mut tally.on, node, 1, more);
            }
        }
    }

    // === what decisions read ===

    /// Makes the tallies that a decision about the class reads. Without them its rules find nothing.
    pub fn prepare(&mut self, ix: Option<ClassIx>, class: &PodClass) {
        let version = self.selectors.version();
        let entry = ix.and_then(|ix| self.classes.get(ix.at())?.as_ref());
        if entry.is_some_and(|entry| entry.asks.as_ref().is_some_and(|(at, _)| *at == version)) {
            return;
        }
        self.sweep();
        let asked: SmallVec<[TallyIx; 4]> = asked_by(class, self).into_iter().map(|counted| self.tally_of(counted)).collect();
        if let Some(entry) = ix.and_then(|ix| self.classes.get_mut(ix.at())?.as_mut()) {
            entry.asks = Some((version, asked));
        }
    }

    /// The tally of something that was prepared.
    pub fn tally(&self, counted: &Counted) -> Option<TallyIx> {
        self.by_counted.get(counted).copied()
    }

    /// Pods of a tally on a node.
    pub fn on(&self, tally: TallyIx, node: NodeIx) -> u32 {
        self.get(tally).and_then(|tally| tally.on.get(&node)).copied().unwrap_or(0)
    }

    /// How often a pod of the class counts in a tally.
    pub fn times_in(&self, class: ClassIx, tally: TallyIx) -> i64 {
        let Some(entry) = self.classes.get(class.at()).and_then(Option::as_ref) else { return 0 };
        let times = entry.matches.iter().chain(&entry.holds).filter(|known| **known == tally).count();
        i64::try_from(times).unwrap_or(0)
    }

    /// Pods of a tally by node, in no order: for sums.
    pub fn all_on(&self, tally: TallyIx) -> impl Iterator<Item = (NodeIx, u32)> + '_ {
        self.get(tally).into_iter().flat_map(|tally| tally.on.iter().map(|(node, pods)| (*node, *pods)))
    }

    /// Whether the pod itself is one that all of these find.
    pub fn finds(&self, all_of: &[PodSelector], class: &PodClass) -> bool {
        all_of.iter().all(|pods| pods.finds(class.namespace, &class.labels, &self.namespaces))
    }

    /// Whether a term of a pod that is there, or was, speaks of the pod.
    pub fn meets(&self, pods: &PodSelector, class: &PodClass) -> bool {
        pods.meets(class.namespace, &class.labels, &self.namespaces)
    }

    /// The terms of other pods that speak of the class, in an order that stays.
    pub fn held_towards(&self, class: &PodClass) -> Vec<(TallyIx, &AffinityTerm, Role)> {
        let held = |ix| match &self.get(ix)?.counted {
            Counted::Holding(term, role) => Some((ix, term, *role)),
            Counted::Matching { .. } => None,
        };
        let mut found: Vec<_> = self.holding.of(class.namespace).filter_map(held).collect();
        found.retain(|(_, term, _)| self.meets(&term.pods, class));
        found.sort_unstable_by_key(|(ix, ..)| *ix);
        found
    }

    /// Grows when [`Self::held_towards`] may say something else.
    pub fn held_version(&self) -> u64 {
        self.held_version
    }

    /// The labels of a home namespace that is known.
    pub fn namespace_labels(&self, namespace: Sym) -> Option<&Labels> {
        self.namespaces.get(&namespace)
    }

    /// Grows when the labels of a namespace change.
    pub fn namespaces_version(&self) -> u64 {
        self.namespaces_version
    }

    /// Grows when [`Self::default_selector`] may say something else.
    pub fn selectors_version(&self) -> u64 {
        self.selectors.version()
    }

    /// The selector of default spread constraints: what Services and the controller of the pod say together. `None`: nothing chooses the pod.
    pub fn default_selector(&self, class: &PodClass) -> Option<Selector> {
        self.selectors.default_of(class)
    }

    // === facts ===

    /// The labels of a home namespace; `None` when it is gone. The nodes whose counts have changed because of that.
    pub fn set_namespace(&mut self, namespace: Sym, labels: Option<Labels>) -> Vec<NodeIx> {
        if self.namespaces.get(&namespace) == labels.as_ref() {
            return Vec::new();
        }
        match labels {
            Some(labels) => drop(self.namespaces.insert(namespace, labels)),
            None => drop(self.namespaces.remove(&namespace)),
        }
        self.held_version += 1;
        self.namespaces_version += 1;
        let mut touched = Vec::new();
        for class in self.by_namespace.get(&namespace).cloned().unwrap_or_default() {
            self.match_anew(class, &mut touched);
        }
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// Home namespaces that are not in a complete list.
    pub fn namespaces_missing_from(&self, listed: impl Fn(Sym) -> bool) -> Vec<Sym> {
        let mut gone: Vec<Sym> = self.namespaces.keys().copied().filter(|name| !listed(*name)).collect();
        gone.sort_unstable();
        gone
    }

    /// The selector of a Service or a controller; `None` when it is gone. True if that is news.
    pub fn set_selector(
        &mut self,
        kind: SelectingKind,
        namespace: &str,
        name: &str,
        selector: Option<&LabelSelectorFacts>,
        table: &mut Interner,
    ) -> bool {
        let namespace = table.intern(namespace);
        let is_news = self.selectors.set(kind, namespace, table.intern(name), selector, table);
        if is_news {
            self.reads.note_selectors(namespace, &self.selectors);
        }
        is_news
    }

    /// A list of a kind is complete: what it does not have is gone.
    pub fn retain_selectors(&mut self, kind: SelectingKind, listed: impl Fn(Sym, Sym) -> bool) {
        self.selectors.retain(kind, listed);
    }

    // === inside ===

    fn get(&self, ix: TallyIx) -> Option<&Tally> {
        let (born, tally) = self.tallies.get(ix.at as usize)?.as_ref()?;
        (*born == ix.born).then_some(tally)
    }

    /// The tally that counts this, made and filled if it is new.
    fn tally_of(&mut self, counted: Counted) -> TallyIx {
        if let Some(&ix) = self.by_counted.get(&counted) {
            return ix;
        }
        self.births = self.births.wrapping_add(1);
        let at = self.free.pop().unwrap_or_else(|| {
            self.tallies.push(None);
            u32::try_from(self.tallies.len() - 1).unwrap_or(u32::MAX)
        });
        let ix = TallyIx { at, born: self.births };
        let mut on = FxHashMap::default();
        if let Counted::Matching { .. } = counted {
            self.matching.insert(ix, &counted);
            self.fill(ix, &counted, &mut on);
        } else {
            self.holding.insert(ix, &counted);
            self.held_version += 1;
        }
        self.by_counted.insert(counted.clone(), ix);
        self.tallies[at as usize] = Some((ix.born, Tally { counted, on }));
        ix
    }

    /// Counts the pods that are there, class by class.
    fn fill(&mut self, ix: TallyIx, counted: &Counted, on: &mut FxHashMap<NodeIx, u32>) {
        let classes: Vec<ClassIx> = match counted.only_namespaces() {
            Some(names) => names.iter().filter_map(|name| self.by_namespace.get(name)).flatten().copied().collect(),
            None => (0..self.classes.len()).filter_map(|at| u32::try_from(at).ok().map(ClassIx)).collect(),
        };
        for class in classes {
            let Some(entry) = self.classes.get_mut(class.at()).and_then(Option::as_mut) else { continue };
            if belongs(counted, entry, &self.namespaces) {
                entry.matches.push(ix);
                entry.on.iter().for_each(|(node, pods)| add(on, *node, *pods, true));
            }
        }
    }

    fn matched_by(&self, entry: &Entry) -> SmallVec<[TallyIx; 4]> {
        let known = self.matching.of(entry.namespace);
        known.filter(|ix| self.get(*ix).is_some_and(|tally| belongs(&tally.counted, entry, &self.namespaces))).collect()
    }

    /// Decides again in which tallies a class belongs, and moves its pods.
    fn match_anew(&mut self, class: ClassIx, touched: &mut Vec<NodeIx>) {
        let Some(mut entry) = self.classes.get_mut(class.at()).and_then(Option::take) else { return };
        let (old, new) = (std::mem::take(&mut entry.matches), self.matched_by(&entry));
        for (from, other, more) in [(&old, &new, false), (&new, &old, true)] {
            for ix in from.iter().filter(|ix| !other.contains(ix)) {
                if let Some((_, tally)) = self.tallies[ix.at as usize].as_mut() {
                    entry.on.iter().for_each(|(node, pods)| add(&mut tally.on, *node, *pods, more));
                    touched.extend(entry.on.keys());
                }
            }
        }
        entry.matches = new;
        self.classes[class.at()] = Some(entry);
    }

    /// Drops tallies that no live class reads or has, when it is worth its while.
    fn sweep(&mut self) {
        if self.by_counted.len() < TALLIES_MIN.max(2 * self.kept) {
            return;
        }
        let mut alive = vec![false; self.tallies.len()];
        for entry in self.classes.iter().flatten() {
            let asked = entry.asks.iter().flat_map(|(_, asked)| asked);
            entry.holds.iter().chain(asked).for_each(|ix| alive[ix.at as usize] = true);
        }
        for (at, _) in alive.iter().enumerate().filter(|(_, alive)| !**alive) {
            let Some((_, tally)) = self.tallies[at].take() else { continue };
            self.by_counted.remove(&tally.counted);
            self.held_version += u64::from(matches!(tally.counted, Counted::Holding(..)));
            self.free.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let is_alive = |ix: &TallyIx| alive[ix.at as usize];
        self.classes.iter_mut().flatten().for_each(|entry| entry.matches.retain(|ix| is_alive(ix)));
        [&mut self.matching, &mut self.holding].into_iter().for_each(|index| index.retain(is_alive));
        self.kept = self.by_counted.len();
    }

    /// Forgets what was read for classes and selectors that are gone. Called when symbols are swept.
    pub fn forget_reads<'a>(&mut self, classes: impl Iterator<Item = &'a PodClass>) {
        self.reads.restart(classes, &self.selectors);
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.tallies.iter().flatten().for_each(|(_, tally)| tally.counted.symbols(mark));
        self.namespaces.iter().for_each(|(name, labels)| {
            mark(*name);
            labels.symbols(mark);
        });
        self.selectors.symbols(mark);
        self.reads.symbols(mark);
    }

    /// Recounts everything from pods and compares. Empty when all is well.
    pub fn consistency_check(
        &self,
        classes: &crate::model::class::ClassTable,
        placed: impl Iterator<Item = (ClassIx, NodeIx)>,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let mut again: FxHashMap<TallyIx, FxHashMap<NodeIx, u32>> = FxHashMap::default();
        let mut pods: FxHashMap<(ClassIx, NodeIx), u32> = FxHashMap::default();
        placed.for_each(|place| *pods.entry(place).or_default() += 1);
        let known: usize = self.classes.iter().flatten().map(|entry| entry.on.len()).sum();
        if known != pods.len() {
            faults.push("pods of classes by node are not those that are placed".into());
        }
        for ((ix, node), pods) in pods {
            let (Some(class), Some(entry)) = (classes.get(ix), self.classes.get(ix.at()).and_then(Option::as_ref)) else {
                faults.push(format!("class {} has pods and is not known to terms", ix.0));
                continue;
            };
            if entry.on.get(&node) != Some(&pods) || entry.labels != class.labels {
                faults.push(format!("class {} has other pods or labels than terms know", ix.0));
            }
            let mut expect = |ix: TallyIx| *again.entry(ix).or_default().entry(node).or_default() += pods;
            held_by(class).filter_map(|(term, role)| self.tally(&Counted::Holding(term.clone(), role))).for_each(&mut expect);
            let all = self.by_counted.iter().filter(|(counted, _)| belongs(counted, entry, &self.namespaces));
            all.for_each(|(_, ix)| expect(*ix));
        }
        for (counted, ix) in &self.by_counted {
            let recounted = again.remove(ix).unwrap_or_default();
            if self.get(*ix).is_none_or(|tally| tally.on != recounted) {
                faults.push(format!("a tally does not count what there is: {counted:?}"));
            }
        }
        faults.extend((!again.is_empty()).then(|| "a term that pods have is not counted".to_owned()));
        faults
    }
}

fn add(on: &mut FxHashMap<NodeIx, u32>, node: NodeIx, pods: u32, more: bool) {
    let count = on.entry(node).or_default();
    debug_assert!(more || *count >= pods, "more pods left than there were");
    *count = if more { *count + pods } else { count.saturating_sub(pods) };
    if *count == 0 {
        on.remove(&node);
    }
}

fn belongs(counted: &Counted, entry: &Entry, namespaces: &NamespaceLabels) -> bool {
    let Counted::Matching { all_of, staying } = counted else { return false };
    !(*staying && entry.is_terminating) && all_of.iter().all(|pods| pods.finds(entry.namespace, &entry.labels, namespaces))
}

/// The terms of a class with their roles.
fn held_by(class: &PodClass) -> impl Iterator<Item = (&AffinityTerm, Role)> {
    class.pod_terms.iter().flat_map(|terms| {
        let anti = terms.anti_required.iter().flatten().map(|term| (term, Role::AntiRequired));
        let with = terms.required.iter().flatten().map(|term| (term, Role::Required));
        let soft = |list, sign: i64| list_of(list).map(move |(weight, term)| (term, Role::Preferred(sign * i64::from(*weight))));
        anti.chain(with).chain(soft(&terms.preferred, 1)).chain(soft(&terms.anti_preferred, -1))
    })
}

fn list_of(list: &crate::model::terms::Parsed<(i32, AffinityTerm)>) -> impl Iterator<Item = &(i32, AffinityTerm)> {
    list.iter().flatten()
}

/// Everything that rules about the class look up.
fn asked_by(class: &PodClass, terms: &Terms) -> Vec<Counted> {
    let mut asked = Vec::new();
    if class.spread.is_empty() {
        asked.extend(terms.default_selector(class).map(|selector| Counted::spread(class.namespace, selector)));
    }
    for spread in class.spread.iter().filter(|spread| spread.when != WhenUnsatisfiable::Unknown) {
        // Upstream counts nobody for a selector that matches everything.
        asked.extend(
            spread
                .selector
                .iter()
                .filter(|selector| !selector.is_everything())
                .map(|selector| Counted::spread(class.namespace, selector.clone())),
        );
    }
    let Some(own) = &class.pod_terms else { return asked };
    if let Ok(required) = &own.required
        && !required.is_empty()
    {
        asked.push(Counted::found_by(required.iter()));
    }
    let one_by_one = own.anti_required.iter().flatten();
    let soft = [&own.preferred, &own.anti_preferred].into_iter().flatten().flatten().map(|(_, term)| term);
    asked.extend(one_by_one.chain(soft).map(|term| Counted::found_by(std::iter::once(term))));
    asked
}

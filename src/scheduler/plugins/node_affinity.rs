//! `NodeAffinity`: node selector, node affinity and the profile's `addedAffinity`. A class's selectors in, a rule and a score out.
//!
//! Source: kube-scheduler v1.37 `NodeAffinity`. When every required term pins `metadata.name`, only those nodes are asked at all, which makes the
//! pods of a `DaemonSet` cheap.

use std::cell::Cell;

use fixedbitset::FixedBitSet;

use super::sweep;
use crate::{
    model::{
        affinity::{PreferredTerms, SelectorMatcher, TermMatcher, preferred_terms},
        class::PodClass,
        intern::{Interner, Sym},
        node::NodeRecord,
    },
    scheduler::{
        change::{Change, Changes},
        framework::{
            CompiledFilter, CompiledScore, FilterPlugin, NodeRule, NodeScore, Normalise, Plugin, Reads, Refusal, ScorePlugin, by_max,
        },
        nodes::Nodes,
        profile::NodeAffinityArgs,
    },
};

const REASON_POD: &str = "node(s) didn't match Pod's node affinity/selector";
const REASON_ADDED: &str = "node(s) didn't match scheduler-enforced node affinity";
const REASON_CONFLICT: &str = "pod affinity terms conflict";

/// See the module.
#[derive(Default)]
pub struct NodeAffinity {
    added_required: Option<SelectorMatcher>,
    added_preferred: Option<PreferredTerms>,
}

impl NodeAffinity {
    /// Interns the added affinity, for good: no sweep walks a plugin.
    pub fn new(args: &NodeAffinityArgs, symbols: &mut Interner) -> Self {
        let Some(added) = &args.added_affinity else { return Self::default() };
        let plugin = Self {
            added_required: added.required.as_ref().map(|required| SelectorMatcher::new(required, symbols)),
            added_preferred: (!added.preferred.is_empty()).then(|| preferred_terms(&added.preferred, symbols)),
        };
        let mut held: Vec<Sym> = Vec::new();
        plugin.added_required.iter().for_each(|required| required.symbols(&mut |sym| held.push(sym)));
        plugin.added_preferred.iter().flatten().flatten().for_each(|(_, term)| term.symbols(&mut |sym| held.push(sym)));
        for sym in held {
            let text = symbols.text(sym).to_owned();
            symbols.pin(&text);
        }
        plugin
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_LABEL
    }

    /// As upstream, but a node that begins to match the added affinity cures too; there its pods wait for the five-minute flush.
    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        let wanted = Wanted::new(self, class);
        match change {
            Change::Node { old, new, .. } => {
                wanted.refusal(new, nodes).is_none() && old.is_none_or(|old| wanted.refusal(old, nodes).is_some())
            }
            _ => true,
        }
    }
}

// === filter ===

impl FilterPlugin for NodeAffinity {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledFilter {
        let wanted = Wanted::new(self, class);
        if wanted.is_empty() {
            return CompiledFilter::Skip;
        }
        match class.required_affinity.as_ref().and_then(|required| required.only_names.as_deref()) {
            Some([]) => CompiledFilter::Refused(Refusal::unresolvable(REASON_CONFLICT)),
            Some(names) => CompiledFilter::Only(names.into(), Box::new(wanted)),
            None => CompiledFilter::Rule(Box::new(wanted)),
        }
    }
}

struct Wanted {
    added: Option<SelectorMatcher>,
    selector: Box<[(Sym, Sym)]>,
    required: Option<SelectorMatcher>,
}

impl Wanted {
    fn new(plugin: &NodeAffinity, class: &PodClass) -> Self {
        Self { added: plugin.added_required.clone(), selector: class.node_selector.clone(), required: class.required_affinity.clone() }
    }

    fn is_empty(&self) -> bool {
        self.added.is_none() && self.selector.is_empty() && self.required.is_none()
    }

    fn refusal(&self, node: &NodeRecord, nodes: &Nodes) -> Option<&'static str> {
        let refuses = |matcher: &SelectorMatcher| !matcher.matches(node.name, &node.labels, &nodes.symbols);
        if self.added.as_ref().is_some_and(refuses) {
            return Some(REASON_ADDED);
        }
        let selected = self.selector.iter().all(|(key, value)| node.labels.get(*key) == Some(*value));
        (!selected || self.required.as_ref().is_some_and(refuses)).then_some(REASON_POD)
    }
}

impl NodeRule for Wanted {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn admits(&self, node: &NodeRecord, nodes: &Nodes) -> bool {
        self.refusal(node, nodes).is_none()
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        self.refusal(node, nodes).map(Refusal::unresolvable)
    }

    /// The node selector, which most pods that choose have, label by label over all nodes; then the rest for those that are left.
    fn keep_admitted(&self, nodes: &Nodes, set: &mut FixedBitSet) {
        for (key, value) in &self.selector {
            let near = Cell::new(0);
            sweep::keep(nodes, set, |node| {
                let mut place = near.get();
                let found = node.labels.get_near(*key, &mut place);
                near.set(place);
                found == Some(*value)
            });
        }
        if self.added.is_some() || self.required.is_some() {
            sweep::keep(nodes, set, |node| self.refusal(node, nodes).is_none());
        }
    }
}

// === score ===

impl ScorePlugin for NodeAffinity {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledScore {
        let lists = [&self.added_preferred, &class.preferred_affinity];
        if lists.iter().all(|list| list.is_none()) {
            return CompiledScore::Skip;
        }
        let mut terms = Vec::new();
        for list in lists.into_iter().flatten() {
            match list {
                Ok(list) => terms.extend(list.iter().map(|(weight, term)| (i64::from(*weight), term.clone()))),
                Err(why) => return CompiledScore::Failed(why.to_string()),
            }
        }
        CompiledScore::Score(Box::new(Preferred(terms.into_boxed_slice())))
    }
}

struct Preferred(Box<[(i64, TermMatcher)]>);

impl NodeScore for Preferred {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn raw(&self, node: &NodeRecord, nodes: &Nodes) -> i64 {
        let matching = self.0.iter().filter(|(_, term)| term.matches(node.name, &node.labels, &nodes.symbols));
        matching.map(|(weight, _)| weight).sum()
    }

    fn raw_all(&self, nodes: &Nodes, set: &FixedBitSet, lane: &mut [i64]) {
        sweep::fill(nodes, set, lane, |node| self.raw(node, nodes));
    }

    fn normalise(&self) -> Normalise {
        Normalise::Extremes(by_max)
    }

    /// Terms that never count still make a score upstream: zero for all.
    fn uniform(&self) -> Option<i64> {
        self.0.is_empty().then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            affinity::{self, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredTerm},
            pod::PodSpecFacts,
        },
        scheduler::{
            plugins::fixtures::{World, labelled, node, pod},
            profile::PluginArgs,
        },
    };

    const NO: &str = "!node(s) didn't match Pod's node affinity/selector";
    const NOT_ADDED: &str = "!node(s) didn't match scheduler-enforced node affinity";

    fn requirement((key, operator, values): (&str, &str, &[&str])) -> NodeSelectorRequirement {
        let values = values.iter().map(|value| Box::from(*value)).collect();
        NodeSelectorRequirement { key: key.into(), operator: operator.into(), values }
    }

    fn term(labels: &[(&str, &str, &[&str])], fields: &[(&str, &str, &[&str])]) -> NodeSelectorTerm {
        let all = |list: &[(&str, &str, &[&str])]| list.iter().map(|one| requirement(*one)).collect();
        NodeSelectorTerm { match_expressions: all(labels), match_fields: all(fields) }
    }

    fn label(key: &str, operator: &str, values: &[&str]) -> NodeSelectorTerm {
        term(&[(key, operator, values)], &[])
    }

    fn named(operator: &str, values: &[&str]) -> NodeSelectorTerm {
        term(&[], &[("metadata.name", operator, values)])
    }

    fn affinity(terms: &[NodeSelectorTerm], preferred: &[(i32, NodeSelectorTerm)]) -> affinity::NodeAffinity {
        let preferred = preferred.iter().map(|(weight, term)| PreferredTerm { weight: *weight, term: term.clone() }).collect();
        affinity::NodeAffinity { required: (!terms.is_empty()).then(|| NodeSelector { terms: terms.to_vec() }), preferred }
    }

    fn requiring(terms: &[NodeSelectorTerm]) -> PodSpecFacts {
        PodSpecFacts { node_affinity: Some(Box::new(affinity(terms, &[]))), ..pod(&[]) }
    }

    fn preferring(preferred: &[(i32, NodeSelectorTerm)]) -> PodSpecFacts {
        PodSpecFacts { node_affinity: Some(Box::new(affinity(&[], preferred))), ..pod(&[]) }
    }

    fn adding(added: affinity::NodeAffinity) -> PluginArgs {
        PluginArgs { node_affinity: NodeAffinityArgs { added_affinity: Some(added) }, ..PluginArgs::default() }
    }

    fn world() -> World {
        World::new([labelled("a", &[("zone", "1"), ("cores", "8")]), labelled("b", &[("zone", "2"), ("cores", "many")]), node("c")])
    }

    #[test]
    fn node_selectors_must_all_be_equal() {
        let mut world = world();
        for (selector, want) in [
            (&[][..], &["skip"][..]),
            (&[("zone", "1")], &["ok", NO, NO]),
            (&[("zone", "1"), ("cores", "9")], &[NO, NO, NO]),
            (&[("unheard-of", "")], &[NO, NO, NO]),
        ] {
            let node_selector = selector.iter().map(|(key, value)| (Box::from(*key), Box::from(*value))).collect();
            assert_eq!(world.ask("NodeAffinity", &PodSpecFacts { node_selector, ..pod(&[]) }), want, "{selector:?}");
        }
    }

    #[test]
    fn one_required_term_must_match() {
        for (terms, want) in [
            (vec![label("zone", "In", &["1", "3"])], ["ok", NO, NO]),
            (vec![label("zone", "NotIn", &["1"])], [NO, "ok", "ok"]),
            (vec![label("zone", "Exists", &[])], ["ok", "ok", NO]),
            (vec![label("zone", "DoesNotExist", &[])], [NO, NO, "ok"]),
            (vec![label("cores", "Gt", &["7"])], ["ok", NO, NO]),
            (vec![label("cores", "Gt", &["8"])], [NO, NO, NO]),
            (vec![label("cores", "Lt", &["9"])], ["ok", NO, NO]),
            (vec![label("zone", "In", &["1"]), label("zone", "In", &["2"])], ["ok", "ok", NO]),
            (vec![term(&[("zone", "In", &["1"]), ("cores", "In", &["9"])], &[])], [NO, NO, NO]),
            (vec![named("NotIn", &["a"])], [NO, "ok", "ok"]),
            (vec![term(&[], &[])], [NO, NO, NO]),
            (vec![label("cores", "Gt", &["x"]), label("zone", "In", &["2"])], [NO, "ok", NO]),
            (vec![label("zone", "In", &["1", "not a value"])], [NO, NO, NO]),
            // A number with a sign is no label value, so upstream does not take it here either.
            (vec![label("cores", "Gt", &["-4"])], [NO, NO, NO]),
            (vec![label("cores", "Lt", &["+9"])], [NO, NO, NO]),
        ] {
            assert_eq!(world().ask("NodeAffinity", &requiring(&terms)), want, "{terms:?}");
        }
    }

    #[test]
    fn pinned_names_narrow_the_search() {
        let both = term(&[], &[("metadata.name", "In", &["a"]), ("metadata.name", "In", &["b"])]);
        for (terms, only) in [
            (vec![named("In", &["a"])], Some(vec!["a"])),
            (vec![named("In", &["a"]), named("In", &["c"])], Some(vec!["a", "c"])),
            (vec![named("In", &["a"]), label("zone", "In", &["1"])], None),
            (vec![both.clone(), named("In", &["b"])], Some(vec!["b"])),
        ] {
            let mut world = world();
            let class = world.class(&requiring(&terms));
            let got = match FilterPlugin::compile(&NodeAffinity::default(), &class, &world.nodes) {
                CompiledFilter::Only(names, _) => Some(names.iter().map(|name| world.nodes.symbols.text(*name)).collect()),
                _ => None,
            };
            assert_eq!(got, only, "{terms:?}");
        }
        assert_eq!(world().ask("NodeAffinity", &requiring(&[both])), ["all!pod affinity terms conflict"]);
    }

    #[test]
    fn added_affinity_is_asked_first() {
        let args = adding(affinity(&[label("zone", "In", &["1"])], &[(5, label("zone", "Exists", &[]))]));
        let mut world = world();
        let plugin = world.plugin("NodeAffinity", &args);
        let class = world.class(&requiring(&[label("zone", "In", &["2"])]));
        assert_eq!(world.ask_with(&*plugin, &class), [NO, NOT_ADDED, NOT_ADDED]);
        let class = world.class(&pod(&[]));
        assert_eq!(world.ask_with(&*plugin, &class), ["ok", NOT_ADDED, NOT_ADDED]);
        assert_eq!(world.score("NodeAffinity", &args, &preferring(&[(10, label("zone", "In", &["2"]))])), [5, 15, 0]);
    }

    #[test]
    fn weights_of_matching_terms_add_up() {
        let one = || label("zone", "In", &["1"]);
        for (preferred, want) in [
            (vec![], vec![]),
            (vec![(7, one())], vec![7, 0, 0]),
            (vec![(7, one()), (2, label("zone", "Exists", &[]))], vec![9, 2, 0]),
            (vec![(0, one())], vec![0, 0, 0]),
            (vec![(9, term(&[], &[]))], vec![0, 0, 0]),
            (vec![(0, label("zone", "Gt", &["x"])), (1, one())], vec![1, 0, 0]),
        ] {
            assert_eq!(world().score("NodeAffinity", &PluginArgs::default(), &preferring(&preferred)), want, "{preferred:?}");
        }
    }

    #[test]
    fn a_preferred_term_that_does_not_parse_is_an_error() {
        let mut world = world();
        let class = world.class(&preferring(&[(1, label("zone", "In", &["1"])), (1, label("zone", "Gt", &["x"]))]));
        let CompiledScore::Failed(why) = ScorePlugin::compile(&NodeAffinity::default(), &class, &world.nodes) else { panic!("no error") };
        assert_eq!(why, r#"[1].matchExpressions[0].values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#);
    }

    #[test]
    fn a_node_cures_when_it_begins_to_match() {
        let mut world = world();
        let class = world.class(&requiring(&[label("zone", "In", &["1"])]));
        let (yes, no) = (world.nodes.at(0), world.nodes.at(1));
        for (old, new, want) in
            [(None, yes, true), (None, no, false), (Some(no), yes, true), (Some(yes), yes, false), (Some(yes), no, false)]
        {
            let change = Change::Node { old, new, what: Changes::NODE_LABEL };
            assert_eq!(NodeAffinity::default().cures(&class, &change, &world.nodes), want);
        }
    }

    #[test]
    fn a_sweep_leaves_the_added_affinity_alone() {
        let mut world = World::default();
        let plugin = world.plugin("NodeAffinity", &adding(affinity(&[label("zone", "In", &["1"])], &[])));
        world.nodes.symbols.sweep(|_| {});
        world.add(&labelled("x", &[("other", "2")]));
        world.add(&labelled("a", &[("zone", "1")]));
        let class = world.class(&pod(&[]));
        assert_eq!(world.ask_with(&*plugin, &class), [NOT_ADDED, "ok"]);
    }
}

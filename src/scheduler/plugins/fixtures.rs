//! Small worlds for the tests of rules: nodes and classes in a line each, and one way to ask a rule that checks its batch forms as well.

#![allow(clippy::expect_used)] // a broken fixture should stop its test

use fixedbitset::FixedBitSet;

use super::build;
use crate::{
    model::{
        class::{ClassTable, PodClass},
        cluster::ClusterFacts,
        ids::{ClusterId, NodeIx},
        labels::Labels,
        node::{ImageFacts, NodeFacts},
        pod::PodSpecFacts,
        quantity::Quantity,
        resources::ResourceList,
        storage::StorageFacts,
        taints::{Effect, TaintFacts, TolerationFacts},
    },
    scheduler::{
        framework::{Changed, CompiledFilter, CompiledScore, DomainRule, DomainScore, NodeRule, NodeScore, Plugin, Refusal, RefusalCode},
        nodes::Nodes,
        profile::PluginArgs,
    },
};

/// Mebibytes.
pub const MI: i64 = 1 << 20;

/// Nodes, and pods on them.
#[derive(Default)]
pub struct World {
    pub nodes: Nodes,
    classes: ClassTable,
}

impl World {
    pub fn new(nodes: impl IntoIterator<Item = NodeFacts>) -> Self {
        let mut world = Self::default();
        nodes.into_iter().for_each(|node| {
            world.add(&node);
        });
        world
    }

    pub fn add(&mut self, node: &NodeFacts) -> NodeIx {
        self.nodes.apply(node).0
    }

    /// An object of storage.
    pub fn store(&mut self, facts: StorageFacts) {
        self.nodes.apply_storage(facts);
    }

    /// Connects a compute cluster, or changes it.
    pub fn cluster(&mut self, facts: ClusterFacts) {
        self.nodes.clusters.apply(facts, &mut self.nodes.symbols);
    }

    pub fn class(&mut self, spec: &PodSpecFacts) -> PodClass {
        self.class_in("default", &[], spec)
    }

    /// A class of pods with labels, all of which are read, and what its rules ask for counted.
    pub fn class_in(&mut self, namespace: &str, labels: &[(&str, &str)], spec: &PodSpecFacts) -> PodClass {
        let mut class = PodClass::new(namespace, spec, &mut self.nodes.symbols);
        let labels: Vec<_> = labels.iter().map(|(key, value)| (Box::from(*key), Box::from(*value))).collect();
        class.labels = Labels::intern(&labels, &mut self.nodes.symbols);
        self.nodes.terms.prepare(None, &class);
        class
    }

    /// Runs one pod on a node.
    pub fn run(&mut self, node: &str, spec: &PodSpecFacts) {
        let class = self.class(spec);
        self.run_class(node, &class);
    }

    /// Runs a pod of a class on a node.
    pub fn run_class(&mut self, node: &str, class: &PodClass) {
        let ix = self.classes.acquire(class.clone());
        if self.classes.holds(ix) == 1 {
            self.nodes.terms.enter(ix, class);
        }
        let name = self.nodes.symbols.intern(node);
        let node = self.nodes.add_pod(ClusterId::HOME, name, class);
        self.nodes.terms.count(ix, node);
    }

    pub fn plugin(&mut self, name: &str, args: &PluginArgs) -> Box<dyn Plugin> {
        build(name, args, &mut self.nodes.symbols).expect("a plugin of the registry")
    }

    /// What the default form of a plugin says about every node: `ok`, or the reasons behind `-` or, if unresolvable, `!`.
    pub fn ask(&mut self, plugin: &str, spec: &PodSpecFacts) -> Vec<String> {
        let (plugin, class) = (self.plugin(plugin, &PluginArgs::default()), self.class(spec));
        self.ask_with(&*plugin, &class)
    }

    pub fn ask_with(&self, plugin: &dyn Plugin, class: &PodClass) -> Vec<String> {
        self.ask_compiled(plugin.filter().expect("a filter").compile(class, &self.nodes))
    }

    fn ask_compiled(&self, outcome: CompiledFilter) -> Vec<String> {
        match outcome {
            CompiledFilter::Until(premise, outcome) => {
                assert!(!premise.outdated(&self.nodes));
                self.ask_compiled(*outcome)
            }
            CompiledFilter::Skip | CompiledFilter::SkipUntil(_) => vec!["skip".into()],
            CompiledFilter::Domains(mut rule) => self.ask_domains(&mut *rule),
            CompiledFilter::Rule(rule) | CompiledFilter::Only(_, rule) => self.ask_rule(&*rule),
            CompiledFilter::Refused(refusal) => vec![format!("all{}", text(Some(&refusal)))],
            CompiledFilter::Failed(why) => vec![format!("failed: {why}")],
        }
    }

    /// Asks about all present nodes, and holds the three ways of asking to the same answer.
    pub fn ask_rule(&self, rule: &dyn NodeRule) -> Vec<String> {
        let mut kept = self.present();
        rule.keep_admitted(&self.nodes, &mut kept);
        let present = self.nodes.iter();
        present
            .map(|(ix, node)| {
                let refusal = rule.refuses(node, &self.nodes);
                assert_eq!(refusal.is_none(), rule.admits(node, &self.nodes), "{refusal:?}");
                assert_eq!(refusal.is_none(), kept.contains(ix.at()), "in a batch: {refusal:?}");
                text(refusal.as_ref())
            })
            .collect()
    }

    /// The same of a rule that answers for all nodes at once.
    pub fn ask_domains(&self, rule: &mut dyn DomainRule) -> Vec<String> {
        rule.catch_up(Changed::All, &self.nodes);
        let mut kept = self.present();
        rule.keep_admitted(&mut kept);
        let refusals = self.nodes.iter().map(|(ix, _)| {
            let refusal = rule.refuses(ix);
            assert_eq!(refusal.is_none(), kept.contains(ix.at()), "in a batch: {refusal:?}");
            text(refusal.as_ref())
        });
        refusals.collect()
    }

    /// Raw scores of all present nodes; empty if the plugin skips the class.
    pub fn score(&mut self, plugin: &str, args: &PluginArgs, spec: &PodSpecFacts) -> Vec<i64> {
        let (plugin, class) = (self.plugin(plugin, args), self.class(spec));
        self.score_class(&*plugin, &class)
    }

    /// The same of a class.
    pub fn score_class(&self, plugin: &dyn Plugin, class: &PodClass) -> Vec<i64> {
        match plugin.score().expect("a score").compile(class, &self.nodes) {
            CompiledScore::Skip | CompiledScore::SkipUntil(_) => Vec::new(),
            CompiledScore::Domains(mut score) => self.score_domains(&mut *score),
            CompiledScore::Score(score) => self.score_with(&*score),
            CompiledScore::Failed(why) => panic!("{why}"),
        }
    }

    /// Scores all present nodes, and holds the ways of asking to the same answer.
    pub fn score_with(&self, score: &dyn NodeScore) -> Vec<i64> {
        let present = self.present();
        let mut lane = vec![i64::MAX; self.nodes.slots()];
        score.raw_all(&self.nodes, &present, &mut lane);
        for at in (0..lane.len()).filter(|at| !present.contains(*at)) {
            assert_eq!(lane[at], i64::MAX, "wrote beside the set");
        }
        let each = self.nodes.iter().map(|(ix, node)| {
            let raw = score.raw(node, &self.nodes);
            assert_eq!(raw, lane[ix.at()], "in a batch");
            assert_eq!(raw, score.uniform().unwrap_or(raw), "uniform");
            raw
        });
        each.collect()
    }

    /// Scores all present nodes, as if all were feasible; empty while there is no score.
    pub fn score_domains(&self, score: &mut dyn DomainScore) -> Vec<i64> {
        score.catch_up(Changed::All, &self.nodes);
        let present = self.present();
        let mut lane = vec![i64::MAX; self.nodes.slots()];
        if !score.raw_all(&present, &mut lane) {
            return Vec::new();
        }
        present.ones().map(|at| lane[at]).collect()
    }

    fn present(&self) -> FixedBitSet {
        let mut set = FixedBitSet::with_capacity(self.nodes.slots());
        self.nodes.iter().for_each(|(ix, _)| set.insert(ix.at()));
        set
    }
}

fn text(refusal: Option<&Refusal>) -> String {
    refusal.map_or("ok".into(), |refusal| {
        let code = if refusal.code == RefusalCode::Unschedulable { '-' } else { '!' };
        format!("{code}{}", refusal.message())
    })
}

/// A node with 4 cores, 8 GiB and room for 110 pods.
pub fn node(name: &str) -> NodeFacts {
    let allocatable = list(&[("cpu", "4"), ("memory", "8Gi"), ("pods", "110")]);
    NodeFacts { name: name.into(), uid: name.into(), allocatable, ..NodeFacts::default() }
}

/// A node with more, or other, resources.
pub fn node_with(name: &str, resources: &[(&str, &str)]) -> NodeFacts {
    let mut facts = node(name);
    for (name, amount) in resources {
        facts.allocatable.set(name, Quantity::parse(amount).expect("a quantity"));
    }
    facts
}

pub fn labelled(name: &str, labels: &[(&str, &str)]) -> NodeFacts {
    NodeFacts { labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(), ..node(name) }
}

pub fn tainted(name: &str, taints: &[(&str, &str, Effect)]) -> NodeFacts {
    let taint = |(key, value, effect): &(&str, &str, Effect)| TaintFacts { key: (*key).into(), value: (*value).into(), effect: *effect };
    NodeFacts { taints: taints.iter().map(taint).collect(), ..node(name) }
}

pub fn with_images(name: &str, images: &[(&str, i64)]) -> NodeFacts {
    let image = |(name, size): &(&str, i64)| ImageFacts { names: vec![(*name).into()], size_bytes: *size };
    NodeFacts { images: images.iter().map(image).collect(), ..node(name) }
}

pub fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> TolerationFacts {
    TolerationFacts { key: key.into(), operator: operator.into(), value: value.into(), effect: effect.into() }
}

pub fn list(amounts: &[(&str, &str)]) -> ResourceList {
    amounts.iter().map(|(name, amount)| (Box::from(*name), Quantity::parse(amount).expect("a quantity"))).collect()
}

/// A pod that requests this much, with the small-pod defaults where scores count them.
pub fn pod(requests: &[(&str, &str)]) -> PodSpecFacts {
    let mut spec = PodSpecFacts { scheduler_name: "isobar".into(), ..PodSpecFacts::default() };
    let effective = list(requests);
    let mut nonzero = list(&[("cpu", "100m"), ("memory", "200Mi")]);
    effective.iter().for_each(|(name, amount)| nonzero.set(name, amount));
    spec.requests.nonzero = nonzero.clone();
    spec.requests.nonzero_incoming = nonzero;
    spec.requests.effective = effective;
    spec
}

/// Numbers for random worlds: the same seed, the same world.
pub struct Dice(pub u64);

impl Dice {
    /// Below `n`.
    pub fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).expect("small")]
    }
}

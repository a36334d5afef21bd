//! `NodeResourcesFit`: enough of every resource, and room for one more pod. Requests in, a rule out; how nodes are ranked is `node_resources_score`.
//!
//! Source: kube-scheduler v1.37 `NodeResourcesFit`. Scalar resources are checked in the order of their names, where upstream's order is random.
//! No resource is left to dynamic resource allocation, as no `DeviceClass` is known.

use fixedbitset::FixedBitSet;
use smallvec::SmallVec;

use super::{
    node_resources_score,
    resource_shares::{Scored, scored, shares},
    sweep,
};
use crate::{
    model::{
        class::PodClass,
        intern::{Interner, Sym},
        node::NodeRecord,
        resources::{ResourceVec, is_extended},
    },
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, CompiledScore, FilterPlugin, NodeRule, Plugin, Reads, Reason, Refusal, RefusalCode, ScorePlugin},
        nodes::Nodes,
        profile::{NodeResourcesFitArgs, ScoringStrategy},
    },
};

/// See the module.
pub struct NodeResourcesFit {
    ignored_resources: Vec<String>,
    ignored_groups: Vec<String>,
    strategy: ScoringStrategy,
    resources: Box<[Scored]>,
}

impl NodeResourcesFit {
    /// Interns the profile's resources.
    pub fn new(args: &NodeResourcesFitArgs, symbols: &mut Interner) -> Self {
        Self {
            ignored_resources: args.ignored_resources.clone(),
            ignored_groups: args.ignored_resource_groups.clone(),
            strategy: args.strategy.clone(),
            resources: scored(&args.resources, symbols),
        }
    }

    fn ignores(&self, name: &str) -> bool {
        let group = name.split('/').next().unwrap_or(name);
        is_extended(name)
            && (self.ignored_resources.iter().any(|known| known == name) || self.ignored_groups.iter().any(|known| known == group))
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_ALLOCATABLE | Changes::POD_DELETE | Changes::POD_SCALE_DOWN
    }

    /// As upstream for nodes. For pods that free something upstream tries every refused pod again; here only if the pod has room on that node now,
    /// or could get it by preemption: a queue of thousands is not turned over for each pod that ends.
    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        let wanted = Demand::new(self, class, nodes);
        let helps = |node: &NodeRecord| {
            let may_evict = !class.never_preempts && node.has_pods_below(class.priority) && wanted.fits_empty(node);
            node.present && (wanted.fits(node) || may_evict)
        };
        match change {
            Change::Node { old, new, .. } => wanted.fits_empty(new) && old.is_none_or(|old| wanted.grew(old, new)),
            Change::PodDelete { node, .. } => helps(nodes.get(*node)),
            Change::PodScaleDown { old, new, node } => wanted.frees(&old.requests, &new.requests) && helps(nodes.get(*node)),
            _ => true,
        }
    }
}

// === filter ===

impl FilterPlugin for NodeResourcesFit {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        CompiledFilter::Rule(Box::new(Demand::new(self, class, nodes)))
    }
}

/// What a pod must find free. Nothing wanted is less than anything that can be free, also on a node that others have overfilled.
struct Demand {
    cpu_milli: i64,
    memory_bytes: i64,
    ephemeral_bytes: i64,
    /// Sorted by name.
    scalars: Box<[ScalarDemand]>,
}

struct ScalarDemand {
    name: Sym,
    amount: i64,
    reason: String,
}

const NOTHING: i64 = i64::MIN;

impl Demand {
    fn new(plugin: &NodeResourcesFit, class: &PodClass, nodes: &Nodes) -> Self {
        let demand = |amount: i64| if amount > 0 { amount } else { NOTHING };
        let requests = &class.requests;
        let wanted = requests.scalars.iter().filter(|(name, amount)| *amount > 0 && !plugin.ignores(nodes.symbols.text(*name)));
        let scalar = |(name, amount): &(Sym, i64)| {
            let reason = format!("Insufficient {}", nodes.symbols.text(*name));
            ScalarDemand { name: *name, amount: *amount, reason }
        };
        let mut scalars: Box<[ScalarDemand]> = wanted.map(scalar).collect();
        scalars.sort_unstable_by(|a, b| a.reason.cmp(&b.reason));
        Self {
            cpu_milli: demand(requests.cpu_milli),
            memory_bytes: demand(requests.memory_bytes),
            ephemeral_bytes: demand(requests.ephemeral_bytes),
            scalars,
        }
    }

    fn fits(&self, node: &NodeRecord) -> bool {
        let (total, used) = (&node.allocatable, &node.requested);
        // Not `&&`: four comparisons cost less than a branch that cannot be predicted.
        (node.pods_used < node.pods_max)
            & (self.cpu_milli <= total.cpu_milli.saturating_sub(used.cpu_milli))
            & (self.memory_bytes <= total.memory_bytes.saturating_sub(used.memory_bytes))
            & (self.ephemeral_bytes <= total.ephemeral_bytes.saturating_sub(used.ephemeral_bytes))
            && self.scalars.iter().all(|scalar| scalar.amount <= total.scalar(scalar.name).saturating_sub(used.scalar(scalar.name)))
    }

    /// Whether the node would do with no pods on it.
    fn fits_empty(&self, node: &NodeRecord) -> bool {
        node.pods_max > 0 && self.amounts(&node.allocatable).all(|(wanted, total)| wanted <= total)
    }

    /// Wanted and there, resource by resource.
    fn amounts<'a>(&'a self, of: &'a ResourceVec) -> impl Iterator<Item = (i64, i64)> + 'a {
        let fixed = [(self.cpu_milli, of.cpu_milli), (self.memory_bytes, of.memory_bytes), (self.ephemeral_bytes, of.ephemeral_bytes)];
        fixed.into_iter().chain(self.scalars.iter().map(|scalar| (scalar.amount, of.scalar(scalar.name))))
    }

    /// Whether the node has more of something wanted, or takes more pods, than before.
    fn grew(&self, old: &NodeRecord, new: &NodeRecord) -> bool {
        new.pods_max > old.pods_max || self.frees(&new.allocatable, &old.allocatable)
    }

    /// Whether something wanted is less in `new` than in `old`.
    fn frees(&self, old: &ResourceVec, new: &ResourceVec) -> bool {
        self.amounts(old).zip(self.amounts(new)).any(|((wanted, old), (_, new))| wanted != NOTHING && old > new)
    }
}

impl NodeRule for Demand {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        self.fits(node)
    }

    fn refuses(&self, node: &NodeRecord, _nodes: &Nodes) -> Option<Refusal> {
        let mut reasons: SmallVec<[Reason; 1]> = SmallVec::new();
        let mut code = RefusalCode::Unschedulable;
        if node.pods_used >= node.pods_max {
            reasons.push("Too many pods".into());
        }
        let fixed = ["Insufficient cpu", "Insufficient memory", "Insufficient ephemeral-storage"].map(Reason::Borrowed);
        let texts = fixed.into_iter().chain(self.scalars.iter().map(|scalar| Reason::Owned(scalar.reason.clone())));
        let amounts = self.amounts(&node.allocatable).zip(self.amounts(&node.requested));
        for (((wanted, total), (_, used)), reason) in amounts.zip(texts) {
            if wanted > total.saturating_sub(used) {
                reasons.push(reason);
                if wanted > total {
                    code = RefusalCode::Unresolvable;
                }
            }
        }
        (!reasons.is_empty()).then_some(Refusal { code, reasons })
    }

    fn keep_admitted(&self, nodes: &Nodes, set: &mut FixedBitSet) {
        sweep::keep(nodes, set, |node| self.fits(node));
    }
}

// === score ===

impl ScorePlugin for NodeResourcesFit {
    fn compile(&self, class: &PodClass, _nodes: &Nodes) -> CompiledScore {
        CompiledScore::Score(node_resources_score::score(&self.strategy, shares(&self.resources, &class.score_requests)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ids::NodeIx, pod::PodSpecFacts},
        scheduler::{
            plugins::fixtures::{World, node, node_with, pod},
            profile::PluginArgs,
        },
    };

    /// 4 cores, 8 GiB, 10 GiB of ephemeral storage, 2 GPUs and 3 pods; one pod uses half of each.
    fn world() -> World {
        let mut world = World::new([node_with("a", &[("pods", "3"), ("ephemeral-storage", "10Gi"), ("example.com/gpu", "2")])]);
        world.run("a", &pod(&[("cpu", "2"), ("memory", "4Gi"), ("ephemeral-storage", "5Gi"), ("example.com/gpu", "1")]));
        world
    }

    #[test]
    fn up_to_the_last_unit() {
        for (requests, want) in [
            (&[][..], "ok"),
            (&[("cpu", "2")], "ok"),
            (&[("cpu", "2001m")], "-Insufficient cpu"),
            (&[("cpu", "4")], "-Insufficient cpu"),
            (&[("cpu", "4001m")], "!Insufficient cpu"),
            (&[("memory", "4Gi")], "ok"),
            (&[("memory", "4294967297")], "-Insufficient memory"),
            (&[("memory", "8589934593")], "!Insufficient memory"),
            (&[("ephemeral-storage", "5Gi")], "ok"),
            (&[("ephemeral-storage", "6Gi")], "-Insufficient ephemeral-storage"),
            (&[("ephemeral-storage", "11Gi")], "!Insufficient ephemeral-storage"),
            (&[("example.com/gpu", "1")], "ok"),
            (&[("example.com/gpu", "2")], "-Insufficient example.com/gpu"),
            (&[("example.com/gpu", "3")], "!Insufficient example.com/gpu"),
            (&[("example.com/gpu", "0")], "ok"),
            (&[("example.com/other", "1")], "!Insufficient example.com/other"),
            (&[("hugepages-2Mi", "2Mi")], "!Insufficient hugepages-2Mi"),
            (&[("unheard-of", "1")], "ok"),
            (&[("cpu", "3"), ("memory", "9Gi")], "!Insufficient cpu, Insufficient memory"),
            (
                &[("z.com/z", "1"), ("a.com/a", "1"), ("ephemeral-storage", "6Gi"), ("memory", "5Gi"), ("cpu", "3")],
                "!Insufficient cpu, Insufficient memory, Insufficient ephemeral-storage, Insufficient a.com/a, Insufficient z.com/z",
            ),
        ] {
            assert_eq!(world().ask("NodeResourcesFit", &pod(requests)), [want], "{requests:?}");
        }
    }

    #[test]
    fn pods_are_counted_and_come_first() {
        let mut world = world();
        world.run("a", &pod(&[]));
        assert_eq!(world.ask("NodeResourcesFit", &pod(&[("cpu", "1")])), ["ok"]);
        world.run("a", &pod(&[]));
        assert_eq!(world.ask("NodeResourcesFit", &pod(&[])), ["-Too many pods"]);
        assert_eq!(world.ask("NodeResourcesFit", &pod(&[("cpu", "3")])), ["-Too many pods, Insufficient cpu"]);
        assert_eq!(world.ask("NodeResourcesFit", &pod(&[("cpu", "5")])), ["!Too many pods, Insufficient cpu"]);
    }

    #[test]
    fn nothing_wanted_fits_an_overfull_node() {
        let mut world = World::new([node("a")]);
        world.run("a", &pod(&[("cpu", "9"), ("memory", "7Gi")]));
        assert_eq!(world.ask("NodeResourcesFit", &pod(&[("memory", "1Gi")])), ["ok"]);
        assert_eq!(world.ask("NodeResourcesFit", &pod(&[("cpu", "1m")])), ["-Insufficient cpu"]);
    }

    #[test]
    fn ignored_resources_are_not_looked_at() {
        let fit = |ignored: &[&str], groups: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
            let args =
                NodeResourcesFitArgs { ignored_resources: owned(ignored), ignored_resource_groups: owned(groups), ..Default::default() };
            PluginArgs { node_resources_fit: args, ..PluginArgs::default() }
        };
        for (args, requests, want) in [
            (fit(&["a.com/x"], &[]), ("a.com/x", "1"), "ok"),
            (fit(&["a.com/x"], &[]), ("a.com/y", "1"), "!Insufficient a.com/y"),
            (fit(&[], &["a.com"]), ("a.com/y", "1"), "ok"),
            (fit(&[], &["a"]), ("a.com/y", "1"), "!Insufficient a.com/y"),
            (fit(&["hugepages-2Mi"], &["hugepages-2Mi"]), ("hugepages-2Mi", "2Mi"), "!Insufficient hugepages-2Mi"),
        ] {
            let mut world = world();
            let (plugin, class) = (world.plugin("NodeResourcesFit", &args), world.class(&pod(&[requests])));
            assert_eq!(world.ask_with(&*plugin, &class), [want], "{requests:?}");
        }
    }

    #[test]
    fn a_node_cures_when_it_would_do_empty_and_grew() {
        let mut world = World::new([
            node("old"),
            node_with("same", &[("memory", "9Gi")]),
            node_with("more", &[("cpu", "5")]),
            node_with("pods", &[("pods", "111"), ("cpu", "5")]),
        ]);
        let (fit, class) = (world.plugin("NodeResourcesFit", &PluginArgs::default()), world.class(&pod(&[("cpu", "4500m")])));
        let at = |at: usize| world.nodes.at(at);
        for (old, new, want) in [
            (None, at(0), false),
            (None, at(2), true),
            (Some(at(0)), at(1), false),
            (Some(at(0)), at(2), true),
            (Some(at(2)), at(2), false),
            (Some(at(2)), at(3), true),
        ] {
            assert_eq!(fit.cures(&class, &Change::Node { old, new, what: Changes::NODE_ALLOCATABLE }, &world.nodes), want);
        }
    }

    #[test]
    fn a_pod_that_goes_cures_where_there_is_room_or_would_be() {
        for (priority, never, running, wanted, want) in [
            (0, false, "2", "2", true),
            (0, false, "3", "2", false),
            (1, false, "3", "2", true),
            (1, true, "3", "2", false),
            (1, false, "3", "5", false),
        ] {
            let mut world = World::new([node("a")]);
            world.run("a", &pod(&[("cpu", running)]));
            let fit = world.plugin("NodeResourcesFit", &PluginArgs::default());
            let class = world.class(&PodSpecFacts { priority, never_preempts: never, ..pod(&[("cpu", wanted)]) });
            let gone = world.class(&pod(&[("cpu", "1")]));
            let change = Change::PodDelete { class: &gone, node: NodeIx(0) };
            assert_eq!(fit.cures(&class, &change, &world.nodes), want, "{priority} {running} {wanted}");
        }
    }

    #[test]
    fn a_smaller_pod_cures_when_it_frees_what_is_wanted() {
        let mut world = World::new([node("a")]);
        let fit = world.plugin("NodeResourcesFit", &PluginArgs::default());
        let (cpu, memory) = (world.class(&pod(&[("cpu", "2")])), world.class(&pod(&[("memory", "2Gi")])));
        let (old, new) = (world.class(&pod(&[("cpu", "2"), ("memory", "1Gi")])), world.class(&pod(&[("cpu", "1"), ("memory", "1Gi")])));
        let change = Change::PodScaleDown { old: &old, new: &new, node: NodeIx(0) };
        assert_eq!((fit.cures(&cpu, &change, &world.nodes), fit.cures(&memory, &change, &world.nodes)), (true, false));
    }
}

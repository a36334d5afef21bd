//! `ClusterFit`: which clusters may take a pod, and which are better. In: a class, the clusters, the placement labels and claims of home. Out: one verdict
//! for all nodes of a cluster, and one score.
//!
//! Not of kube-scheduler. Without a compute cluster it says nothing about anything, so that one cluster alone is decided upon as upstream does.
//! The score is [`Clusters::score`]: the admin's preference, or half of it and half the share of the pod's data sets that are near.

use std::cell::Cell;

use fixedbitset::FixedBitSet;
use smallvec::SmallVec;

use super::sweep;
use crate::{
    model::{class::PodClass, ids::ClusterId, node::NodeRecord},
    scheduler::{
        change::{Change, Changes},
        clusters::Clusters,
        framework::{
            CompiledFilter, CompiledScore, FilterPlugin, NodeRule, NodeScore, Normalise, Plugin, Reads, Reason, Refusal, RefusalCode,
            ScorePlugin,
        },
        nodes::Nodes,
    },
};

/// See the module.
pub struct ClusterFit;

impl Plugin for ClusterFit {
    fn name(&self) -> &'static str {
        "ClusterFit"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::CLUSTER | Changes::CLAIM | Changes::NAMESPACE | Changes::NODE_ADD | Changes::POD_DELETE | Changes::POD_SCALE_DOWN
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        let admits = |id: ClusterId| Verdict::of(&nodes.clusters, id, class, nodes).is_ok();
        match change {
            Change::Cluster(id) => admits(*id),
            Change::Claim { namespace } | Change::Namespace(namespace) => nodes.symbols.text(class.namespace) == *namespace,
            Change::Node { new, .. } => admits(new.cluster),
            Change::PodDelete { node, .. } | Change::PodScaleDown { node, .. } => {
                let id = nodes.get(*node).cluster;
                id != ClusterId::HOME && admits(id)
            }
            _ => true,
        }
    }
}

/// What a cluster as a whole says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    obstacles: SmallVec<[Reason; 1]>,
    full: Option<Reason>,
}

impl Verdict {
    fn of(clusters: &Clusters, id: ClusterId, class: &PodClass, nodes: &Nodes) -> Self {
        Self { obstacles: clusters.obstacles(id, class, &nodes.symbols), full: clusters.full(id, class) }
    }

    fn is_ok(&self) -> bool {
        self.obstacles.is_empty() && self.full.is_none()
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.is_ok() {
            return None;
        }
        // What only more room would cure other pods can make room for; the rest they cannot.
        let code = if self.obstacles.is_empty() { RefusalCode::Unschedulable } else { RefusalCode::Unresolvable };
        Some(Refusal { code, reasons: self.obstacles.iter().chain(&self.full).cloned().collect() })
    }
}

/// Every cluster that is known, home first.
fn all(clusters: &Clusters) -> impl Iterator<Item = ClusterId> {
    std::iter::once(ClusterId::HOME).chain(clusters.iter().map(|(id, _)| id))
}

/// Whether no compute cluster can ever take the class as things stand.
pub fn stays_home(class: &PodClass, nodes: &Nodes) -> bool {
    nodes.clusters.iter().all(|(id, _)| !nodes.clusters.obstacles(id, class, &nodes.symbols).is_empty())
}

// === filter ===

impl FilterPlugin for ClusterFit {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        if !nodes.clusters.any() {
            return CompiledFilter::Skip;
        }
        CompiledFilter::Rule(Box::new(Fit::new(class, nodes)))
    }
}

struct Fit {
    class: PodClass,
    /// By cluster number; `None` for numbers that no cluster has now.
    verdicts: Vec<Option<Verdict>>,
    policy: Cell<u64>,
}

impl Fit {
    fn new(class: &PodClass, nodes: &Nodes) -> Self {
        Self { class: class.clone(), verdicts: verdicts(class, nodes), policy: Cell::new(nodes.clusters.policy()) }
    }

    fn admits_cluster(&self, id: ClusterId) -> bool {
        self.verdicts.get(usize::from(id.0)).and_then(Option::as_ref).is_some_and(Verdict::is_ok)
    }
}

fn verdicts(class: &PodClass, nodes: &Nodes) -> Vec<Option<Verdict>> {
    let mut verdicts = vec![None; nodes.clusters.slots()];
    for id in all(&nodes.clusters) {
        verdicts[usize::from(id.0)] = Some(Verdict::of(&nodes.clusters, id, class, nodes));
    }
    verdicts
}

impl NodeRule for Fit {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        self.admits_cluster(node.cluster)
    }

    fn refuses(&self, node: &NodeRecord, _nodes: &Nodes) -> Option<Refusal> {
        match self.verdicts.get(usize::from(node.cluster.0)).and_then(Option::as_ref) {
            Some(verdict) => verdict.refusal(),
            None => Some(Refusal::unresolvable("node(s) in a cluster that is gone")),
        }
    }

    fn keep_admitted(&self, nodes: &Nodes, set: &mut FixedBitSet) {
        if !all(&nodes.clusters).all(|id| self.admits_cluster(id)) {
            sweep::keep(nodes, set, |node| self.admits_cluster(node.cluster));
        }
    }

    /// Usage is looked at every time, but only where a cluster has limits; the rest only after it has changed.
    fn outdated(&self, nodes: &Nodes) -> bool {
        let clusters = &nodes.clusters;
        if self.policy.get() != clusters.policy() {
            if verdicts(&self.class, nodes) != self.verdicts {
                return true;
            }
            self.policy.set(clusters.policy());
        }
        let full = |id: ClusterId| self.verdicts.get(usize::from(id.0)).and_then(|known| known.as_ref()?.full.as_ref());
        clusters.any_limits() && clusters.iter().any(|(id, _)| clusters.full(id, &self.class).as_ref() != full(id))
    }
}

// === score ===

impl ScorePlugin for ClusterFit {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledScore {
        if !nodes.clusters.any() {
            return CompiledScore::Skip;
        }
        let score = Preference { class: class.clone(), scores: scores(class, nodes), policy: Cell::new(nodes.clusters.policy()) };
        CompiledScore::Score(Box::new(score))
    }
}

struct Preference {
    class: PodClass,
    /// By cluster number.
    scores: Vec<i64>,
    policy: Cell<u64>,
}

fn scores(class: &PodClass, nodes: &Nodes) -> Vec<i64> {
    let mut scores = vec![0; nodes.clusters.slots()];
    for id in all(&nodes.clusters) {
        scores[usize::from(id.0)] = nodes.clusters.score(id, class);
    }
    scores
}

impl NodeScore for Preference {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn raw(&self, node: &NodeRecord, _nodes: &Nodes) -> i64 {
        self.scores.get(usize::from(node.cluster.0)).copied().unwrap_or(0)
    }

    fn raw_all(&self, nodes: &Nodes, set: &FixedBitSet, lane: &mut [i64]) {
        sweep::fill(nodes, set, lane, |node| self.raw(node, nodes));
    }

    fn normalise(&self) -> Normalise {
        Normalise::AsIs
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        if self.policy.get() == nodes.clusters.policy() {
            return false;
        }
        let same = scores(&self.class, nodes) == self.scores;
        if same {
            self.policy.set(nodes.clusters.policy());
        }
        !same
    }
}

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

    /// Usage is looked at every time, which costs little where a cluster has no limits; the rest only after it has changed.
    fn outdated(&self, nodes: &Nodes) -> bool {
        let clusters = &nodes.clusters;
        if self.policy.get() != clusters.policy() {
            if verdicts(&self.class, nodes) != self.verdicts {
                return true;
            }
            self.policy.set(clusters.policy());
        }
        let full = |id: ClusterId| self.verdicts.get(usize::from(id.0)).and_then(|known| known.as_ref()?.full.as_ref());
        clusters.iter().any(|(id, _)| clusters.full(id, &self.class).as_ref() != full(id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            cluster::{ClaimRule, ClusterFacts},
            node::NodeFacts,
            placement::TravelFacts,
            pod::{PodSpecFacts, Wants},
            ports::{HostPort, Protocol},
        },
        scheduler::{
            plugins::fixtures::{World, list, node, pod},
            profile::PluginArgs,
        },
    };

    /// One node at home and one in cluster `cloud`.
    fn world(facts: ClusterFacts) -> World {
        let mut world = World::new([node("a"), NodeFacts { cluster: ClusterId(1), ..node("b") }]);
        world.cluster(ClusterFacts { id: ClusterId(1), name: "cloud".into(), ..facts });
        world
    }

    fn travelling(travel: TravelFacts) -> PodSpecFacts {
        PodSpecFacts { travel: Some(Box::new(travel)), ..pod(&[]) }
    }

    #[test]
    fn silent_without_compute_clusters() {
        let mut world = World::new([node("a")]);
        assert_eq!(
            world.ask("ClusterFit", &travelling(TravelFacts { placement: Some("remote".into()), ..TravelFacts::default() })),
            ["skip"]
        );
        assert!(world.score("ClusterFit", &PluginArgs::default(), &pod(&[])).is_empty());
    }

    #[test]
    fn every_obstacle_has_its_reason() {
        let facts = || TravelFacts::default();
        let text = |text: &str| Some(Box::from(text));
        for (spec, want) in [
            (pod(&[]), "ok"),
            (travelling(TravelFacts { placement: text("home"), ..facts() }), "!node(s) outside the placement \"home\" of the pod"),
            (
                travelling(TravelFacts { tied_to_node: true, ..facts() }),
                "!node(s) in compute clusters, where pods of a DaemonSet and static pods cannot go",
            ),
            (
                travelling(TravelFacts { host_namespaces: true, ..facts() }),
                "!node(s) in compute clusters, where the pod cannot have the host's network, PIDs or IPC",
            ),
            (travelling(TravelFacts { host_path: true, ..facts() }), "!node(s) in compute clusters, where a hostPath volume cannot go"),
            (
                travelling(TravelFacts { token: true, ..facts() }),
                "!node(s) in compute clusters, where a service-account token of home cannot go",
            ),
            (
                travelling(TravelFacts { fixed_volume: text("glusterfs"), ..facts() }),
                "!node(s) in compute clusters, where a volume of type glusterfs cannot go",
            ),
            (
                travelling(TravelFacts { csi_drivers: vec!["x.csi".into()], ..facts() }),
                "!node(s) in a cluster that does not allow inline volumes of the CSI driver x.csi",
            ),
            (
                travelling(TravelFacts { nfs_servers: vec!["nas".into()], ..facts() }),
                "!node(s) in a cluster that does not allow volumes of the NFS server nas",
            ),
            (
                travelling(TravelFacts { runtime_class: text("kata"), ..facts() }),
                "!node(s) in a cluster where runtime class \"kata\" is not mapped",
            ),
            (
                travelling(TravelFacts { claims: vec!["ws-anna".into()], ..facts() }),
                "!node(s) in a cluster where claim \"ws-anna\" is not mapped",
            ),
            (
                PodSpecFacts { host_ports: vec![HostPort::new("", Protocol::Tcp, 80)], ..pod(&[]) },
                "!node(s) in a cluster that does not allow host ports",
            ),
            (
                PodSpecFacts { wants: Wants { resource_claims: true, pod_group: true }, ..pod(&[]) },
                "!node(s) in compute clusters, where resourceClaims cannot go, \
                 node(s) in compute clusters, where a member of a pod group cannot go",
            ),
        ] {
            let got = world(ClusterFacts::default()).ask("ClusterFit", &spec);
            assert_eq!(got, ["ok", want], "{spec:?}");
        }
        let remote = travelling(TravelFacts { placement: text("remote"), ..facts() });
        let got = world(ClusterFacts::default()).ask("ClusterFit", &remote);
        assert_eq!(got, ["!node(s) outside the placement \"remote\" of the pod", "ok"]);
    }

    #[test]
    fn what_a_cluster_allows_passes() {
        let all = travelling(TravelFacts {
            csi_drivers: vec!["x.csi".into()],
            nfs_servers: vec!["nas".into()],
            runtime_class: Some("kata".into()),
            claims: vec!["ws-anna".into(), "data-web-#".into()],
            ..TravelFacts::default()
        });
        let all = PodSpecFacts { host_ports: vec![HostPort::new("", Protocol::Tcp, 80)], ..all };
        let rule = |namespace: &str, name: &str| ClaimRule { namespace: namespace.into(), name: name.into(), labels: Vec::new() };
        let mut world = world(ClusterFacts {
            csi_drivers: vec!["x.csi".into()],
            nfs_servers: vec!["nas".into()],
            runtime_classes: vec!["kata".into()],
            claims: vec![rule("other", ""), rule("def*", "ws-*"), rule("", "data-*")],
            host_ports: true,
            ..ClusterFacts::default()
        });
        assert_eq!(world.ask("ClusterFit", &all), ["ok", "ok"]);
    }

    #[test]
    fn labels_of_a_claim_are_wanted_on_every_replica() {
        let shared = || vec![(Box::from("kind"), Box::from("shared"))];
        let rule = ClaimRule { labels: shared(), ..ClaimRule::default() };
        let mut world = world(ClusterFacts { claims: vec![rule], ..ClusterFacts::default() });
        let with = |claim: &str| travelling(TravelFacts { claims: vec![claim.into()], ..TravelFacts::default() });
        let asks = |world: &mut World, claim: &str| world.ask("ClusterFit", &with(claim))[1] == "ok";
        assert!(!asks(&mut world, "a") && !asks(&mut world, "data-web-#"), "nothing is known of them");
        world.nodes.clusters.set_claim("default", "a".into(), Some(shared()));
        world.nodes.clusters.set_claim("default", "data-web-0".into(), Some(shared()));
        assert!(asks(&mut world, "a") && asks(&mut world, "data-web-#"));
        world.nodes.clusters.set_claim("default", "data-web-1".into(), Some(Vec::new()));
        world.nodes.clusters.set_claim("other", "a".into(), Some(shared()));
        assert!(!asks(&mut world, "data-web-#") && !asks(&mut world, "b"));
        world.nodes.clusters.set_claim("default", "a".into(), None);
        assert!(!asks(&mut world, "a"));
    }

    #[test]
    fn a_namespace_chooses_where_its_pods_do_not() {
        let mut world = world(ClusterFacts::default());
        world.nodes.clusters.set_namespace("default", Some("cloud".into()));
        let home = "!node(s) outside the placement \"cloud\" of the namespace";
        assert_eq!(world.ask("ClusterFit", &pod(&[])), [home, "ok"]);
        assert_eq!(
            world.ask("ClusterFit", &travelling(TravelFacts { placement: Some("any".into()), ..TravelFacts::default() })),
            ["ok", "ok"]
        );
        world.nodes.clusters.set_namespace("default", None);
        assert_eq!(world.ask("ClusterFit", &pod(&[])), ["ok", "ok"]);
    }

    #[test]
    fn closed_and_full_clusters() {
        let gpus = pod(&[("cpu", "1"), ("nvidia.com/gpu", "2")]);
        for (facts, runs, want) in [
            (
                ClusterFacts { closed: Some("cluster is cordoned".into()), ..ClusterFacts::default() },
                0,
                "!node(s) in cluster cloud: cluster is cordoned",
            ),
            (ClusterFacts { runs_max: Some(2), ..ClusterFacts::default() }, 1, "ok"),
            (
                ClusterFacts { runs_max: Some(2), ..ClusterFacts::default() },
                2,
                "-node(s) in cluster cloud, which has as many runs as it may",
            ),
            (ClusterFacts { resource_cap: list(&[("nvidia.com/gpu", "5"), ("memory", "0")]), ..ClusterFacts::default() }, 1, "ok"),
            (
                ClusterFacts { resource_cap: list(&[("nvidia.com/gpu", "5")]), ..ClusterFacts::default() },
                2,
                "-node(s) in cluster cloud, whose cap of nvidia.com/gpu is reached",
            ),
            (
                ClusterFacts { quota_left: list(&[("cpu", "1500m")]), ..ClusterFacts::default() },
                1,
                "-node(s) in cluster cloud, whose quota of cpu is used up",
            ),
            (
                ClusterFacts { quota_left: list(&[("pods", "1")]), ..ClusterFacts::default() },
                1,
                "-node(s) in cluster cloud, whose quota of pods is used up",
            ),
        ] {
            let mut world = world(facts);
            let class = world.class(&gpus);
            for _ in 0..runs {
                world.nodes.clusters.count(ClusterId(1), &class, true);
            }
            assert_eq!(world.ask("ClusterFit", &gpus), ["ok", want]);
        }
    }

    #[test]
    fn a_quota_counts_down_until_it_is_told_anew() {
        let facts = |left: &str| ClusterFacts { quota_left: list(&[("cpu", left)]), ..ClusterFacts::default() };
        let mut world = world(facts("2"));
        let spec = pod(&[("cpu", "1")]);
        let class = world.class(&spec);
        let told = world.nodes.clusters.count(ClusterId(1), &class, true);
        world.nodes.clusters.count(ClusterId(1), &class, false);
        let fit = Fit::new(&class, &world.nodes);
        world.nodes.clusters.count(ClusterId(1), &class, true);
        assert!(fit.outdated(&world.nodes), "the last place is taken");
        world.nodes.clusters.uncount(ClusterId(1), &class, told);
        assert!(!fit.outdated(&world.nodes), "and given back");
        world.cluster(ClusterFacts { id: ClusterId(1), name: "cloud".into(), ..facts("1") });
        world.nodes.clusters.uncount(ClusterId(1), &class, told);
        assert!(!fit.outdated(&world.nodes), "a pod of before gives nothing back");
        world.nodes.clusters.count(ClusterId(1), &class, true);
        assert!(fit.outdated(&world.nodes));
    }

    #[test]
    fn preference_and_data() {
        let data = |names: &[&str]| {
            travelling(TravelFacts { data: names.iter().map(|name| Box::from(*name)).collect(), ..TravelFacts::default() })
        };
        for (preference, spec, want) in [
            (50, pod(&[]), [50, 50]),
            (80, pod(&[]), [50, 80]),
            (0, data(&["icon", "era5"]), [25, 25]),
            (50, data(&["icon"]), [25, 75]),
            (100, data(&["elsewhere"]), [25, 50]),
        ] {
            let mut world = world(ClusterFacts { preference, data: vec!["icon".into()], ..ClusterFacts::default() });
            assert_eq!(world.score("ClusterFit", &PluginArgs::default(), &spec), want);
        }
    }
}

//! The compute clusters of these worlds: their nodes, what others run there, the runs of home pods, and the runs worker in a few lines.

use std::collections::BTreeMap;

use isobar::model::{
    cluster::ClusterFacts,
    image::Platforms,
    placement::{RUN_HOME_UID, RecordedPlacement, virtual_node},
    resources::ResourceList,
};
use rand::RngExt;

use super::*;

const NODES_ABROAD: u64 = 3;
/// Images and the platforms that they have.
pub const IMAGES: [(&str, &[&str]); 2] = [("multi:1", &["linux/amd64", "linux/arm64"]), ("x86:1", &["linux/amd64"])];

/// A cluster as it is in truth.
pub struct Cluster {
    facts: ClusterFacts,
    arm: bool,
    create_first: bool,
    nodes: BTreeMap<Box<str>, NodeFacts>,
    pods: BTreeMap<PodUid, PodFacts>,
}

/// What is left of a decision for a cluster is gone with a binding at home.
pub fn bind_at_home(pod: &mut PodFacts, order: &BindOrder) {
    pod.node_name = Some(order.node.name.clone());
}

fn cpu(pod: &PodFacts) -> i64 {
    pod.spec.requests.effective.get("cpu").unwrap_or_default().milli()
}

impl World {
    /// Clusters and nodes to begin with, or most worlds would be over before a pod goes abroad.
    pub(super) fn begin_abroad(&mut self) {
        // The control plane's own node: what home's platform is stays known.
        let control = node(NODES, true);
        self.nodes.insert(control.name.clone(), control.clone());
        self.tell(Input::Node(Box::new(control)));
        (0..3).for_each(|_| self.connect());
        (0..4).for_each(|_| self.change_node_abroad());
        (0..4).for_each(|_| self.deliver_abroad());
    }

    pub(super) fn step_abroad(&mut self) {
        match self.rng.random_range(0..24) {
            0 => self.connect(),
            1..=2 => self.change_cluster(),
            3..=5 => self.change_node_abroad(),
            6 => self.run_foreign_pod(),
            7..=11 => self.deliver_abroad(),
            12..=14 => self.place_again(),
            15 => self.withdraw(),
            16..=17 => self.reap(),
            18..=22 => self.serve_order(),
            _ => self.relist_abroad(),
        }
    }

    fn pick(&mut self) -> Option<ClusterId> {
        let at = self.rng.random_range(0..self.clusters.len().max(1));
        self.clusters.keys().nth(at).copied()
    }

    /// A cluster of one of two names appears, or goes. What its watches say afterwards finds nobody.
    fn connect(&mut self) {
        let name = if self.rng.random_bool(0.5) { "east" } else { "west" };
        if let Some(id) = self.clusters.iter().find(|(_, cluster)| &*cluster.facts.name == name).map(|(id, _)| *id) {
            if self.rng.random_bool(0.5) {
                self.clusters.remove(&id);
                self.tell(Input::ClusterGone(id));
            }
            return;
        }
        self.connected += 1;
        let runs_max = self.rng.random_bool(0.3).then_some(3);
        let facts = ClusterFacts { id: ClusterId(self.connected), name: name.into(), runs_max, preference: 60, ..ClusterFacts::default() };
        self.tell(Input::Cluster(Box::new(facts.clone())));
        let mut cluster =
            Cluster { facts, arm: name == "east", create_first: self.rng.random_bool(0.5), nodes: BTreeMap::new(), pods: BTreeMap::new() };
        // Runs outlive the connection.
        let here = self.pods.values().filter(|pod| pod.recorded.as_ref().is_some_and(|recorded| &*recorded.cluster == name));
        here.filter(|pod| pod.node_name.is_some()).for_each(|pod| drop(cluster.run(pod)));
        for facts in cluster.pods.values() {
            self.cluster_events.push_back(Input::Pod(Box::new(facts.clone())));
        }
        self.clusters.insert(ClusterId(self.connected), cluster);
    }

    fn change_cluster(&mut self) {
        let Some(id) = self.pick() else { return };
        let closed = self.rng.random_bool(0.3).then(|| "cluster is cordoned".into());
        let quota_left = if self.rng.random_bool(0.3) {
            [("cpu".into(), Quantity::from_units(1))].into_iter().collect()
        } else {
            ResourceList::default()
        };
        let selector = if self.rng.random_bool(0.2) { vec![("pool".into(), "a".into())] } else { Vec::new() };
        let Some(cluster) = self.clusters.get_mut(&id) else { return };
        cluster.facts = ClusterFacts { closed, quota_left, node_selector: selector, ..cluster.facts.clone() };
        let facts = cluster.facts.clone();
        self.tell(Input::Cluster(Box::new(facts)));
    }

    fn change_node_abroad(&mut self) {
        let (number, gone, cordoned) = (self.rng.random_range(0..NODES_ABROAD), self.rng.random_bool(0.25), self.rng.random_bool(0.2));
        let Some(id) = self.pick() else { return };
        let Some(cluster) = self.clusters.get_mut(&id) else { return };
        let facts = NodeFacts {
            cluster: id,
            architecture: if cluster.arm { "arm64" } else { "amd64" }.into(),
            operating_system: "linux".into(),
            labels: vec![("pool".into(), if number == 0 { "a" } else { "b" }.into())],
            ..node(number, cordoned)
        };
        let event = if gone && cluster.nodes.remove(&facts.name).is_some() {
            Input::NodeGone(NodeKey { cluster: id, name: facts.name })
        } else {
            cluster.nodes.insert(facts.name.clone(), facts.clone());
            Input::Node(Box::new(facts))
        };
        self.cluster_events.push_back(event);
    }

    fn run_foreign_pod(&mut self) {
        let (number, amount) = (self.rng.random_range(0..NODES_ABROAD), self.rng.random_range(1..6) * 100);
        let Some(id) = self.pick() else { return };
        self.created += 1;
        let facts = PodFacts { cluster: id, node_name: Some(format!("n{number}").into()), ..pod(self.created, amount, false) };
        self.cluster_events.push_back(Input::Pod(Box::new(facts.clone())));
        self.clusters.get_mut(&id).into_iter().for_each(|cluster| drop(cluster.pods.insert(facts.uid.clone(), facts.clone())));
    }

    pub(super) fn deliver_abroad(&mut self) {
        for _ in 0..2 {
            if let Some(event) = self.cluster_events.pop_front() {
                self.tell(event);
            }
        }
    }

    fn relist_abroad(&mut self) {
        let Some(id) = self.pick() else { return };
        self.cluster_events.retain(|event| match event {
            Input::Node(facts) => facts.cluster != id,
            Input::NodeGone(key) => key.cluster != id,
            Input::Pod(facts) => facts.cluster != id,
            Input::PodGone(cluster, _) => *cluster != id,
            _ => true,
        });
        let Some(cluster) = self.clusters.get(&id) else { return };
        let nodes: Vec<NodeFacts> = cluster.nodes.values().cloned().collect();
        let pods: Vec<PodFacts> = cluster.pods.values().cloned().collect();
        let (names, uids) = (cluster.nodes.keys().cloned().collect(), cluster.pods.keys().cloned().collect());
        nodes.into_iter().for_each(|facts| self.tell(Input::Node(Box::new(facts))));
        self.tell(Input::NodesListed(id, names));
        pods.into_iter().for_each(|facts| self.tell(Input::Pod(Box::new(facts))));
        self.tell(Input::PodsListed(id, uids));
    }

    /// Runs whose home pod is gone, or runs elsewhere, are deleted.
    pub(super) fn reap(&mut self) {
        for (id, cluster) in &mut self.clusters {
            let stale = |run: &PodFacts| {
                let home = run.labels.first().and_then(|(_, uid)| self.pods.get(&PodUid::from(&**uid)));
                let wanted = home.is_some_and(|home| {
                    let at = home.recorded.as_ref().filter(|recorded| recorded.cluster == cluster.facts.name);
                    let elsewhere = home.node_name.as_ref().is_some_and(|node| !is_virtual_node(node, &cluster.facts.name));
                    !elsewhere && at.is_some_and(|recorded| Some(&recorded.node) == run.node_name.as_ref())
                });
                !run.labels.is_empty() && !wanted
            };
            let gone: Vec<PodUid> = cluster.pods.values().filter(|run| stale(run)).map(|run| run.uid.clone()).collect();
            for uid in gone {
                cluster.pods.remove(&uid);
                self.cluster_events.push_back(Input::PodGone(*id, uid));
            }
        }
    }

    /// The runs worker of a cluster: it may die between the intent and the binding, and its answer may get lost.
    pub(super) fn serve_abroad(&mut self, order: &BindOrder, honestly: bool) {
        let uid = order.pod.uid.clone();
        let fate = if honestly { 9 } else { self.rng.random_range(0..10) };
        let Some(cluster) = self.clusters.get_mut(&order.node.cluster).filter(|_| fate > 0) else {
            return self.answers.push(Input::BindFailed(uid, BindFailure::NotSent));
        };
        let Some(pod) = self.pods.get_mut(&uid) else {
            return self.answers.push(Input::BindFailed(uid, BindFailure::PodGone));
        };
        let intended = pod.recorded.as_ref().filter(|recorded| recorded.intent);
        let is_same = intended.is_some_and(|intent| intent.cluster == cluster.facts.name && intent.node == order.node.name);
        if pod.node_name.is_some() {
            let same =
                pod.recorded.as_ref().is_some_and(|recorded| recorded.cluster == cluster.facts.name && recorded.node == order.node.name);
            let known = same && honestly;
            return self.answers.push(if known { Input::Bound(uid) } else { Input::BindFailed(uid, BindFailure::BoundElsewhere) });
        }
        let attempt = if is_same { pod.run_attempt } else { pod.run_attempt + 1 };
        if order.run_attempt != attempt || (intended.is_some() && !is_same) || (order.resumes && !is_same) {
            // Somebody has written meanwhile: the precondition fails, and what is there is settled first.
            if !is_same && intended.is_some() {
                pod.recorded = None;
                self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
            }
            return self.answers.push(Input::BindFailed(uid, BindFailure::Failed("conflict".into())));
        }
        let recorded = RecordedPlacement { cluster: cluster.facts.name.clone(), node: order.node.name.clone(), intent: true };
        pod.run_attempt = order.run_attempt;
        pod.recorded = Some(Box::new(recorded));
        if cluster.create_first {
            self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
            self.cluster_events.push_back(Input::Pod(Box::new(cluster.run(pod))));
            if fate <= 2 {
                return self.answers.push(Input::BindFailed(uid, BindFailure::NotSent));
            }
        }
        pod.recorded.iter_mut().for_each(|recorded| recorded.intent = false);
        pod.node_name = Some(virtual_node(&cluster.facts.name).into());
        *self.bindings.entry(uid.clone()).or_default() += 1;
        self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
        self.cluster_events.push_back(Input::Pod(Box::new(cluster.run(pod))));
        let lost = Input::BindFailed(uid.clone(), BindFailure::Failed("500 after the effect".into()));
        self.answers.push(if fate == 3 { lost } else { Input::Bound(uid) });
    }

    /// A run is refused before it started: its pod is given another node of the cluster.
    fn place_again(&mut self) {
        let bound = self.pods.values().filter(|pod| pod.node_name.is_some());
        let abroad: Vec<(PodKey, PodUid, RecordedPlacement)> =
            bound.filter_map(|pod| Some((pod.key.clone(), pod.uid.clone(), pod.recorded.as_deref()?.clone()))).collect();
        if abroad.is_empty() {
            return;
        }
        let (key, uid, recorded) = abroad[self.rng.random_range(0..abroad.len())].clone();
        let Some(id) = self.clusters.iter().find(|(_, cluster)| cluster.facts.name == recorded.cluster).map(|(id, _)| *id) else { return };
        self.tell(Input::PlaceAgain { key, uid: uid.clone(), cluster: id, not_on: vec![recorded.node.clone()] });
        let (answered, cluster, node) = self.placed_again.pop().expect("it is answered at once");
        assert_eq!((answered, cluster), (uid.clone(), id));
        let (Some(node), Some(pod)) = (node, self.pods.get_mut(&uid)) else { return };
        assert_ne!(node, recorded.node, "seed {}: the node that refused it", self.seed);
        pod.run_attempt += 1;
        pod.recorded = Some(Box::new(RecordedPlacement { node, ..recorded }));
        self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
        let Some(cluster) = self.clusters.get_mut(&id) else { return };
        self.cluster_events.push_back(Input::Pod(Box::new(cluster.run(pod))));
    }

    /// An intent is taken back once its run is known not to have started.
    fn withdraw(&mut self) {
        let flying: Vec<PodUid> = self.orders.iter().map(|order| order.pod.uid.clone()).collect();
        let intended = |pod: &&mut PodFacts| pod.recorded.as_ref().is_some_and(|recorded| recorded.intent) && !flying.contains(&pod.uid);
        if let Some(pod) = self.pods.values_mut().find(intended) {
            pod.recorded = None;
            self.pod_events.push_back(Input::Pod(Box::new(pod.clone())));
        }
    }

    /// Registries answer wrong only by not answering.
    pub(super) fn resolve(&mut self, images: Vec<Box<str>>) {
        for image in images {
            let known = IMAGES.iter().find(|(name, _)| **name == *image).map(|(_, platforms)| *platforms).expect("an image of ours");
            let known = Platforms::Known(known.iter().map(|name| Box::from(*name)).collect());
            match self.rng.random_range(0..6) {
                0 => {}
                1 => self.answers.push(Input::ImagePlatforms(image, Platforms::Unknown("the registry is down".into()))),
                _ => self.answers.push(Input::ImagePlatforms(image, known)),
            }
        }
    }

    // === the end ===

    pub(super) fn open_clusters(&mut self) {
        for id in self.clusters.keys().copied().collect::<Vec<_>>() {
            let Some(cluster) = self.clusters.get_mut(&id) else { continue };
            cluster.facts =
                ClusterFacts { closed: None, quota_left: ResourceList::default(), node_selector: Vec::new(), ..cluster.facts.clone() };
            let facts = cluster.facts.clone();
            self.tell(Input::Cluster(Box::new(facts)));
        }
    }

    /// A pending pod whose intent speaks of a cluster that is not connected.
    pub(super) fn awaits_cluster(&self, pod: &PodFacts) -> bool {
        let intent = pod.recorded.as_ref().filter(|recorded| recorded.intent);
        intent.is_some_and(|intent| self.clusters.values().all(|cluster| cluster.facts.name != intent.cluster))
    }

    /// Everything that runs on a node of a cluster: others' pods, and one for each home pod that is recorded there.
    fn on_node_abroad<'a>(&'a self, cluster: &'a Cluster, node: &'a str) -> impl Iterator<Item = &'a PodFacts> {
        let foreign = cluster.pods.values().filter(move |pod| pod.labels.is_empty() && pod.node_name.as_deref() == Some(node));
        foreign.chain(self.home_pods_of(cluster).filter(move |pod| pod.recorded.as_ref().is_some_and(|recorded| &*recorded.node == node)))
    }

    fn home_pods_of<'a>(&'a self, cluster: &'a Cluster) -> impl Iterator<Item = &'a PodFacts> {
        let bound = |pod: &&PodFacts| pod.node_name.as_deref().is_some_and(|node| is_virtual_node(node, &cluster.facts.name));
        self.pods.values().filter(bound)
    }

    pub(super) fn has_room_abroad(&self, pod: &PodFacts) -> bool {
        self.clusters.values().any(|cluster| {
            let may = cluster.facts.runs_max.is_none_or(|most| self.home_pods_of(cluster).count() < most as usize);
            // Where no registry answered an image runs on the platform of home alone.
            let runs = !cluster.arm || pod.spec.images.is_empty();
            let takes = |node: &NodeFacts| {
                let there = || self.on_node_abroad(cluster, &node.name);
                !node.unschedulable && there().count() < 5 && there().map(cpu).sum::<i64>() + cpu(pod) <= 2000
            };
            may && runs && cluster.nodes.values().any(takes)
        })
    }

    pub(super) fn audit_abroad(&self) {
        let (seed, nodes) = (self.seed, &self.engine.cache().nodes);
        for (id, cluster) in &self.clusters {
            let runs = nodes.clusters.get(*id).map(isobar::scheduler::clusters::Cluster::runs);
            assert_eq!(runs, u32::try_from(self.home_pods_of(cluster).count()).ok(), "seed {seed}: runs of {}", cluster.facts.name);
            for name in (0..NODES_ABROAD).map(|number| format!("n{number}")) {
                let counted = nodes.find(*id, &name).map_or(0, |ix| nodes.get(ix).pods_used as usize);
                let there: Vec<_> = self.on_node_abroad(cluster, &name).map(|pod| &pod.uid).collect();
                assert_eq!(counted, there.len(), "seed {seed}: pods on {}/{name}: {there:?}", cluster.facts.name);
            }
            for pod in self.home_pods_of(cluster) {
                assert!(
                    !cluster.arm || pod.spec.images.iter().all(|image| &**image != "x86:1"),
                    "seed {seed}: {} cannot run there",
                    pod.key
                );
            }
        }
    }
}

impl Cluster {
    /// The run of a home pod, made again if it is there.
    fn run(&mut self, home: &PodFacts) -> PodFacts {
        let run = PodFacts {
            cluster: self.facts.id,
            uid: PodUid::from(&*format!("run-of-{}-{}", home.uid, home.run_attempt)),
            labels: vec![(RUN_HOME_UID.into(), home.uid.0.clone().into())],
            node_name: home.recorded.as_ref().map(|recorded| recorded.node.clone()),
            recorded: None,
            ..home.clone()
        };
        self.pods.insert(run.uid.clone(), run.clone());
        run
    }
}

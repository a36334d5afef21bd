//! The compute clusters, and what of the home cluster decides whether a pod may go there. In: what supervisors say, and every run that is counted or gone.
//! Out: for a class and a cluster, why not; how good the cluster is otherwise.
//!
//! Usage counts the home pods that are placed in a cluster, from the decision on. A quota of the run namespace is told with what ran when it was told: only
//! what was decided since counts against it, which each placed pod remembers as the number of the telling ([`Told`]).

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::framework::Reason;
use crate::model::{
    class::PodClass,
    cluster::{ClaimRule, ClusterFacts},
    ids::{ClusterId, NodeKey},
    intern::{Interner, Sym},
    labels::LabelFacts,
    node::NodeFacts,
    placement::{self, HOME_CLUSTER, REPLICA, TravelFacts},
    resources::{ResourceKind, ResourceList, ResourceVec},
};

/// Which telling of a cluster's quota a pod counts against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told(u32);

impl Told {
    /// Part of whatever was told.
    pub const BEFORE: Self = Self(0);
}

/// All compute clusters that are known, and the labels of home objects that choose among them.
#[derive(Debug, Default)]
pub struct Clusters {
    by_id: BTreeMap<ClusterId, Cluster>,
    /// Placement labels of home namespaces.
    namespaces: FxHashMap<Box<str>, Box<str>>,
    /// Labels of home claims by namespace and name.
    claims: FxHashMap<Box<str>, BTreeMap<Box<str>, LabelFacts>>,
    /// Grows when anything but usage and quotas changes.
    policy: u64,
}

/// A compute cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    facts: ClusterFacts,
    cap: Vec<Bound>,
    quota_left: Vec<Bound>,
    told: Told,
    /// Runs counted, and what they request.
    runs: u32,
    requested: ResourceVec,
    /// The part of both that is decided since the quota was told.
    runs_since: u32,
    requested_since: ResourceVec,
    /// Its nodes as their objects are, without images: what a change of selector, taints or reserve applies to.
    nodes: FxHashMap<Box<str>, NodeFacts>,
}

/// A limit of one resource.
#[derive(Debug)]
struct Bound {
    name: Box<str>,
    kind: ResourceKind,
    sym: Sym,
    most: i64,
}

impl Bound {
    fn all(list: &ResourceList, symbols: &mut Interner) -> Vec<Self> {
        let bound = |(name, quantity): (&str, crate::model::quantity::Quantity)| {
            let kind = ResourceKind::of(name);
            let most = if kind == ResourceKind::Cpu { quantity.milli() } else { quantity.units() };
            Self { name: name.into(), kind, sym: symbols.intern(name), most }
        };
        list.iter().map(bound).filter(|bound| bound.kind != ResourceKind::Ignored).collect()
    }

    /// Whether one more pod of the class goes beyond.
    fn is_exceeded(&self, used: &ResourceVec, runs: u32, class: &ResourceVec) -> bool {
        let of = |vec: &ResourceVec| match self.kind {
            ResourceKind::Cpu => vec.cpu_milli,
            ResourceKind::Memory => vec.memory_bytes,
            ResourceKind::EphemeralStorage => vec.ephemeral_bytes,
            ResourceKind::Scalar => vec.scalar(self.sym),
            ResourceKind::Pods | ResourceKind::Ignored => 0,
        };
        if self.kind == ResourceKind::Pods {
            return i64::from(runs) + 1 > self.most;
        }
        let asked = of(class);
        asked > 0 && of(used).saturating_add(asked) > self.most
    }
}

impl Cluster {
    /// As it was told.
    pub fn facts(&self) -> &ClusterFacts {
        &self.facts
    }

    /// How many home pods are placed there.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// The node as rules are to see it: with the cluster's name as a label, without the reserve. `None` if it is not to be used.
    fn usable(&self, node: &NodeFacts) -> Option<NodeFacts> {
        let selected = self.facts.node_selector.iter().all(|(key, value)| node.label(key) == Some(value));
        let excluded = node.taints.iter().any(|taint| self.facts.excluded_taints.contains(&taint.key));
        if !selected || excluded {
            return None;
        }
        let mut usable = labelled(node.clone(), &self.facts.name);
        for (name, reserve) in self.facts.reserve.iter() {
            if let Some(whole) = usable.allocatable.get(name) {
                usable.allocatable.set(name, whole.saturating_less(reserve));
            }
        }
        Some(usable)
    }

    /// Why one more pod of the class is too much for the whole cluster.
    fn full(&self, class: &PodClass) -> Option<Reason> {
        let name = &self.facts.name;
        if self.facts.runs_max.is_some_and(|most| self.runs >= most) {
            return Some(format!("node(s) in cluster {name}, which has as many runs as it may").into());
        }
        if let Some(bound) = self.cap.iter().find(|bound| bound.is_exceeded(&self.requested, self.runs, &class.requests)) {
            return Some(format!("node(s) in cluster {name}, whose cap of {} is reached", bound.name).into());
        }
        let spent = self.quota_left.iter().find(|bound| bound.is_exceeded(&self.requested_since, self.runs_since, &class.requests));
        spent.map(|bound| format!("node(s) in cluster {name}, whose quota of {} is used up", bound.name).into())
    }

    fn has_limits(&self) -> bool {
        self.facts.runs_max.is_some() || !self.cap.is_empty() || !self.quota_left.is_empty()
    }
}

/// A node with the name of its cluster as a label, whatever the object says under that key.
pub fn labelled(mut node: NodeFacts, cluster: &str) -> NodeFacts {
    node.labels.retain(|(key, _)| **key != *placement::CLUSTER);
    node.labels.push((placement::CLUSTER.into(), cluster.into()));
    node
}

// === what supervisors say ===

/// What a change of a cluster's facts asks of its nodes.
#[derive(Debug, Default)]
pub struct Reselected {
    /// Nodes to be taken over as they are here. Their images are missing, as these are not kept: those known stay.
    pub apply: Vec<NodeFacts>,
    /// Nodes that are not used any more.
    pub remove: Vec<NodeKey>,
}

impl Clusters {
    /// A cluster is there, or has changed.
    pub fn apply(&mut self, facts: ClusterFacts, symbols: &mut Interner) -> Reselected {
        let id = facts.id;
        let is_new = !self.by_id.contains_key(&id);
        let cluster = self.by_id.entry(id).or_default();
        let old = std::mem::replace(&mut cluster.facts, facts);
        let facts = &cluster.facts;
        // A quota that was not told anew goes on counting down.
        if is_new || old.quota_left != facts.quota_left {
            cluster.quota_left = Bound::all(&facts.quota_left, symbols);
            cluster.told = Told(cluster.told.0.wrapping_add(1).max(1));
            cluster.runs_since = 0;
            cluster.requested_since = ResourceVec::default();
        }
        if is_new || old.resource_cap != facts.resource_cap {
            cluster.cap = Bound::all(&facts.resource_cap, symbols);
        }
        if is_new || (ClusterFacts { quota_left: facts.quota_left.clone(), ..old.clone() }) != *facts {
            self.policy += 1;
        }
        let same = (&old.name, &old.node_selector, &old.excluded_taints, &old.reserve)
            == (&facts.name, &facts.node_selector, &facts.excluded_taints, &facts.reserve);
        let mut reselected = Reselected::default();
        if !same {
            let mut nodes: Vec<&NodeFacts> = cluster.nodes.values().collect();
            nodes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            for node in nodes {
                match cluster.usable(node) {
                    Some(usable) => reselected.apply.push(usable),
                    None => reselected.remove.push(node.key()),
                }
            }
        }
        reselected
    }

    /// A cluster is gone. False if it was not known.
    pub fn remove(&mut self, id: ClusterId) -> Option<ClusterFacts> {
        let cluster = self.by_id.remove(&id)?;
        self.policy += 1;
        Some(cluster.facts)
    }

    /// A node of a compute cluster was seen: as rules are to see it. `None` if it is not to be used, or its cluster is not known (any more).
    pub fn admit(&mut self, node: NodeFacts) -> Option<NodeFacts> {
        let cluster = self.by_id.get_mut(&node.cluster)?;
        let usable = cluster.usable(&node);
        cluster.nodes.insert(node.name.clone(), NodeFacts { images: Vec::new(), ..node });
        usable
    }

    /// A node of a compute cluster is gone.
    pub fn forget_node(&mut self, key: &NodeKey) {
        if let Some(cluster) = self.by_id.get_mut(&key.cluster) {
            cluster.nodes.remove(&key.name);
        }
    }

    /// A list of a cluster's nodes is complete.
    pub fn retain_nodes(&mut self, id: ClusterId, listed: impl Fn(&str) -> bool) {
        if let Some(cluster) = self.by_id.get_mut(&id) {
            cluster.nodes.retain(|name, _| listed(name));
        }
    }

    /// The placement label of a home namespace. True if that is news.
    pub fn set_namespace(&mut self, namespace: &str, placement: Option<Box<str>>) -> bool {
        let is_news = self.namespaces.get(namespace) != placement.as_ref();
        self.policy += u64::from(is_news);
        match placement {
            Some(placement) => drop(self.namespaces.insert(namespace.into(), placement)),
            None => drop(self.namespaces.remove(namespace)),
        }
        is_news
    }

    /// The labels of a home claim; `None` when it is gone. True if that is news.
    pub fn set_claim(&mut self, namespace: &str, name: Box<str>, labels: Option<LabelFacts>) -> bool {
        let claims = self.claims.entry(namespace.into()).or_default();
        let is_news = claims.get(&name) != labels.as_ref();
        self.policy += u64::from(is_news);
        match labels {
            Some(labels) => drop(claims.insert(name, labels)),
            None => drop(claims.remove(&name)),
        }
        if claims.is_empty() {
            self.claims.remove(namespace);
        }
        is_news
    }

    // === usage ===

    /// A home pod is placed in a cluster; `decided` if it was decided now, not found there. Which telling of the quota it counts against.
    pub fn count(&mut self, id: ClusterId, class: &PodClass, decided: bool) -> Told {
        let Some(cluster) = self.by_id.get_mut(&id) else { return Told::BEFORE };
        let told = if decided { cluster.told } else { Told::BEFORE };
        self.add(id, class, told);
        told
    }

    /// As [`Self::count`], for a pod that counted before and still counts against the same telling.
    pub fn add(&mut self, id: ClusterId, class: &PodClass, told: Told) {
        let Some(cluster) = self.by_id.get_mut(&id) else { return };
        cluster.runs += 1;
        cluster.requested.add(&class.requests);
        if told != Told::BEFORE && told == cluster.told {
            cluster.runs_since += 1;
            cluster.requested_since.add(&class.requests);
        }
    }

    /// A home pod left a cluster.
    pub fn uncount(&mut self, id: ClusterId, class: &PodClass, told: Told) {
        let Some(cluster) = self.by_id.get_mut(&id) else { return };
        cluster.runs = cluster.runs.saturating_sub(1);
        cluster.requested.sub(&class.requests);
        if told != Told::BEFORE && told == cluster.told {
            cluster.runs_since = cluster.runs_since.saturating_sub(1);
            cluster.requested_since.sub(&class.requests);
        }
    }

    // === questions ===

    /// Whether there is any compute cluster. Without one everything is decided as if there were no federation.
    pub fn any(&self) -> bool {
        !self.by_id.is_empty()
    }

    /// One more than the highest number of a cluster.
    pub fn slots(&self) -> usize {
        self.by_id.keys().next_back().map_or(1, |id| usize::from(id.0) + 1)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (ClusterId, &Cluster)> {
        self.by_id.iter().map(|(id, cluster)| (*id, cluster))
    }

    /// A cluster.
    pub fn get(&self, id: ClusterId) -> Option<&Cluster> {
        self.by_id.get(&id)
    }

    /// A cluster by name.
    pub fn named(&self, name: &str) -> Option<ClusterId> {
        self.iter().find(|(_, cluster)| *cluster.facts.name == *name).map(|(id, _)| id)
    }

    /// The name of a cluster, home included.
    pub fn name(&self, id: ClusterId) -> Option<&str> {
        if id == ClusterId::HOME { Some(HOME_CLUSTER) } else { self.get(id).map(|cluster| &*cluster.facts.name) }
    }

    /// Number of the last change of anything but usage and quotas.
    pub fn policy(&self) -> u64 {
        self.policy
    }

    /// Why one more pod of the class is too much for a cluster as a whole; changes with every placement.
    pub fn full(&self, id: ClusterId, class: &PodClass) -> Option<Reason> {
        self.get(id).filter(|cluster| cluster.has_limits())?.full(class)
    }

    /// Why the class may not go to a cluster, every reason; changes only with [`Self::policy`].
    pub fn obstacles(&self, id: ClusterId, class: &PodClass, symbols: &Interner) -> SmallVec<[Reason; 1]> {
        let mut reasons = SmallVec::new();
        let namespace = symbols.text(class.namespace);
        let of_pod = class.travel.as_ref().and_then(|travel| travel.placement.as_deref());
        let of_namespace = self.namespaces.get(namespace).map(|placement| &**placement);
        if let Some(placement) = of_pod.or(of_namespace)
            && !placement::placement_admits(placement, self.name(id).unwrap_or_default())
        {
            let whose = if of_pod.is_some() { "pod" } else { "namespace" };
            reasons.push(format!("node(s) outside the placement {placement:?} of the {whose}").into());
        }
        if id == ClusterId::HOME {
            return reasons;
        }
        let Some(cluster) = self.get(id) else {
            reasons.push("node(s) in a cluster that is gone".into());
            return reasons;
        };
        if let Some(why) = &cluster.facts.closed {
            reasons.push(format!("node(s) in cluster {}: {why}", cluster.facts.name).into());
        }
        self.immobility(cluster, class, namespace, &mut reasons);
        reasons
    }

    /// Makes a cluster take pods, whatever keeps them away; that is to be given back to [`close`](Self::close) before anything else is asked.
    pub fn open(&mut self, id: ClusterId) -> Option<Box<str>> {
        self.by_id.get_mut(&id).and_then(|cluster| cluster.facts.closed.take())
    }

    /// Puts back what [`open`](Self::open) took.
    pub fn close(&mut self, id: ClusterId, closed: Option<Box<str>>) {
        if let Some(cluster) = self.by_id.get_mut(&id) {
            cluster.facts.closed = closed;
        }
    }

    /// What keeps the pod from travelling.
    fn immobility(&self, cluster: &Cluster, class: &PodClass, namespace: &str, reasons: &mut SmallVec<[Reason; 1]>) {
        let facts = &cluster.facts;
        let none = TravelFacts::default();
        let travel = class.travel.as_deref().unwrap_or(&none);
        for (is, what) in [
            (travel.tied_to_node, "node(s) in compute clusters, where pods of a DaemonSet and static pods cannot go"),
            (travel.host_namespaces, "node(s) in compute clusters, where the pod cannot have the host's network, PIDs or IPC"),
            (travel.host_path, "node(s) in compute clusters, where a hostPath volume cannot go"),
            (travel.token, "node(s) in compute clusters, where a service-account token of home cannot go"),
            (class.wants.resource_claims, "node(s) in compute clusters, where resourceClaims cannot go"),
            (class.wants.pod_group, "node(s) in compute clusters, where a member of a pod group cannot go"),
            (!facts.host_ports && !class.host_ports.is_empty(), "node(s) in a cluster that does not allow host ports"),
        ] {
            if is {
                reasons.push(what.into());
            }
        }
        if let Some(kind) = &travel.fixed_volume {
            reasons.push(format!("node(s) in compute clusters, where a volume of type {kind} cannot go").into());
        }
        for driver in travel.csi_drivers.iter().filter(|driver| !facts.csi_drivers.contains(driver)) {
            reasons.push(format!("node(s) in a cluster that does not allow inline volumes of the CSI driver {driver}").into());
        }
        for server in travel.nfs_servers.iter().filter(|server| !facts.nfs_servers.contains(server)) {
            reasons.push(format!("node(s) in a cluster that does not allow volumes of the NFS server {server}").into());
        }
        if let Some(class) = travel.runtime_class.as_ref().filter(|class| !facts.runtime_classes.contains(class)) {
            reasons.push(format!("node(s) in a cluster where runtime class {class:?} is not mapped").into());
        }
        for claim in travel.claims.iter().filter(|claim| !facts.claims.iter().any(|rule| self.covers(rule, namespace, claim))) {
            reasons.push(format!("node(s) in a cluster where claim {claim:?} is not mapped").into());
        }
    }

    /// Whether a rule maps a claim. A rule that asks for labels wants them on every known replica of the claim, and on one at least.
    fn covers(&self, rule: &ClaimRule, namespace: &str, claim: &str) -> bool {
        if !placement::matches(&rule.namespace, namespace) || !placement::matches(&rule.name, claim) {
            return false;
        }
        if rule.labels.is_empty() {
            return true;
        }
        let has_all = |labels: &LabelFacts| rule.labels.iter().all(|wanted| labels.contains(wanted));
        let Some(known) = self.claims.get(namespace) else { return false };
        let Some((before, after)) = claim.split_once(REPLICA) else { return known.get(claim).is_some_and(has_all) };
        let from = known.range::<str, _>((std::ops::Bound::Included(before), std::ops::Bound::Unbounded));
        let mut replicas = from
            .take_while(|(name, _)| name.starts_with(before))
            .filter(|(name, _)| name.len() > before.len() + after.len() && name.ends_with(after))
            .peekable();
        replicas.peek().is_some() && replicas.all(|(_, labels)| has_all(labels))
    }

    /// How good a cluster is for a class, 0..=100: the admin's preference (home has 50); for a pod that names data sets half of it, and the other half is the
    /// share of these that the cluster has near.
    pub fn score(&self, id: ClusterId, class: &PodClass) -> i64 {
        let cluster = self.get(id);
        let preference = cluster.map_or(50, |cluster| i64::from(cluster.facts.preference.min(100)));
        let Some(wanted) = class.travel.as_ref().map(|travel| &travel.data).filter(|data| !data.is_empty()) else { return preference };
        let near = wanted.iter().filter(|name| cluster.is_some_and(|cluster| cluster.facts.data.contains(name))).count();
        let share = i64::try_from(100 * near / wanted.len()).unwrap_or(0);
        i64::midpoint(preference, share)
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        for cluster in self.by_id.values() {
            cluster.cap.iter().chain(&cluster.quota_left).for_each(|bound| mark(bound.sym));
            for requested in [&cluster.requested, &cluster.requested_since] {
                requested.scalars.iter().for_each(|(name, _)| mark(*name));
            }
        }
    }

    /// Compares what is counted with what the caller has recounted: runs with their class and telling, by cluster. Empty when all is well.
    pub fn consistency_check<'a>(&self, placed: impl Iterator<Item = (ClusterId, &'a PodClass, Told)>) -> Vec<String> {
        let mut recounted = Self { by_id: self.by_id.iter().map(|(id, known)| (*id, known.uncounted())).collect(), ..Self::default() };
        placed.for_each(|(id, class, told)| recounted.add(id, class, told));
        let differ = |(id, known): (&ClusterId, &Cluster)| {
            let again = recounted.by_id.get(id).map(Cluster::counts);
            (again.as_ref() != Some(&known.counts()))
                .then(|| format!("cluster {} does not count what its runs sum up to", known.facts.name))
        };
        self.by_id.iter().filter_map(differ).collect()
    }
}

impl Cluster {
    fn uncounted(&self) -> Self {
        Self { told: self.told, ..Self::default() }
    }

    fn counts(&self) -> (u32, ResourceVec, u32, ResourceVec) {
        let named = |amounts: &ResourceVec| {
            let mut amounts = amounts.clone();
            amounts.scalars.retain(|(_, amount)| *amount != 0);
            amounts
        };
        (self.runs, named(&self.requested), self.runs_since, named(&self.requested_since))
    }
}

//! `VolumeBinding`: volumes that are bound and within reach, or can be bound or made near the node. Claims of the pod in; a rule, a score, and what is
//! booked and written for them on the chosen node, out.
//!
//! Source: kube-scheduler v1.37.1 `VolumeBinding`, with `StorageCapacityScoring` on as there; how a node is searched is [`Search`].

use crate::{
    model::{
        class::PodClass,
        ids::{ClusterId, NodeIx},
        node::NodeRecord,
        time::DurationMs,
        volumes::PodVolume,
    },
    scheduler::{
        change::{Change, Changes},
        framework::{
            CompiledFilter, CompiledScore, FilterPlugin, NodeRule, NodeScore, Normalise, Plugin, PodInHand, PreBind, PreBindWork, Reads,
            Refusal, Reserve, ScorePlugin,
        },
        nodes::Nodes,
        plugins::{
            node_resources_score::Shape,
            storage_rules::{at_home, nowhere_at_home, until_changed},
            volume_search::{Lacks, Refused, Search},
        },
        profile::VolumeBindingArgs,
        storage::{Found, Settled, StorageChange},
    },
};

const REACH: &str = "node(s) didn't match PersistentVolume's node affinity";
const VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const ROOM: &str = "node(s) did not have enough free storage";
const BOUND_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
/// What Go says when a wait is over.
const OVERDUE: &str = "context deadline exceeded";
/// Utilisation of what is not enough, in percent.
const UTILIZATION_MAX: i64 = 100;

/// See the module.
pub struct VolumeBinding {
    bind_timeout: DurationMs,
    shape: Shape,
}

impl VolumeBinding {
    /// With a profile's arguments.
    pub fn new(args: &VolumeBindingArgs) -> Self {
        Self { bind_timeout: args.bind_timeout, shape: Shape::new(&args.shape) }
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn reserve(&mut self) -> Option<&mut dyn Reserve> {
        Some(self)
    }

    fn pre_bind(&mut self) -> Option<&mut dyn PreBind> {
        Some(self)
    }

    /// Upstream's, and pods that go: one may have given back what was booked for it, of which no object tells.
    fn curing_changes(&self) -> Changes {
        Changes::NODE_ADD | Changes::NODE_LABEL | Changes::STORAGE | Changes::POD_DELETE
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, nodes: &Nodes) -> bool {
        match change {
            Change::PodDelete { class: gone, .. } => gone.volumes.as_ref().is_some_and(|volumes| volumes.has_claims()),
            Change::Storage(change) => cures(class, change, nodes),
            _ => true,
        }
    }
}

fn cures(class: &PodClass, change: &StorageChange, nodes: &Nodes) -> bool {
    let Some(volumes) = &class.volumes else { return false };
    match change {
        StorageChange::Class(None, _) | StorageChange::Volume(..) | StorageChange::CsiNode(None, _) | StorageChange::Capacity(None, _) => {
            true
        }
        StorageChange::Class(Some(old), new) => old.allowed_topologies != new.allowed_topologies,
        StorageChange::Claim(_, claim) => {
            *claim.namespace == *nodes.symbols.text(class.namespace) && volumes.all_claims().any(|(name, _)| *name == *claim.name)
        }
        StorageChange::CsiNode(Some(old), new) => old.migrated != new.migrated,
        StorageChange::CsiDriver(Some(old), new) => {
            let is_own = volumes.list.iter().any(|volume| matches!(volume, PodVolume::Csi(driver) if *driver == new.name));
            is_own && old.storage_capacity && !new.storage_capacity
        }
        StorageChange::Capacity(Some(old), new) => match (old.limit_bytes(), new.limit_bytes()) {
            (Some(old), Some(new)) => new > old,
            (None, new) => new.is_some(),
            (Some(_), None) => false,
        },
        StorageChange::CsiDriver(None, _) | StorageChange::Detached(_) | StorageChange::DeviceClaim(..) => false,
    }
}

// === filter ===

impl FilterPlugin for VolumeBinding {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        match Search::new(class, nodes) {
            Ok(None) => CompiledFilter::Skip,
            Ok(Some(search)) => until_changed(at_home(search), nodes),
            Err(Refused::Unresolvable(why)) => until_changed(nowhere_at_home(Refusal::unresolvable(why), nodes), nodes),
            Err(Refused::Broken(why)) => until_changed(CompiledFilter::Failed(why), nodes),
        }
    }
}

impl NodeRule for Search {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal> {
        self.on(node, nodes).err().map(refusal)
    }
}

fn refusal(lacks: Lacks) -> Refusal {
    let reasons = [(lacks.reach, REACH), (lacks.volume, VOLUME), (lacks.room, ROOM), (lacks.bound_volume, BOUND_VOLUME)];
    let reasons = reasons.into_iter().filter(|(is, _)| *is).map(|(_, reason)| reason.into()).collect();
    Refusal { reasons, ..Refusal::unresolvable("") }
}

// === score ===

impl ScorePlugin for VolumeBinding {
    /// Upstream scores pods without claims as well, each node with 0, which ranks nothing.
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledScore {
        if class.volumes.as_ref().is_none_or(|volumes| !volumes.has_claims()) {
            return CompiledScore::Skip;
        }
        let search = Search::new(class, nodes).ok().flatten();
        CompiledScore::Score(Box::new(Utilization { search, shape: self.shape.clone(), version: nodes.storage.version() }))
    }
}

struct Utilization {
    /// `None`: the filter says more.
    search: Option<Search>,
    shape: Shape,
    version: u64,
}

impl NodeScore for Utilization {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn raw(&self, node: &NodeRecord, nodes: &Nodes) -> i64 {
        let search = self.search.as_ref().filter(|_| node.cluster == ClusterId::HOME);
        let shares = search.and_then(|search| search.on(node, nodes).ok()).map_or_else(Vec::new, |fit| fit.shares);
        mean(shares.iter().map(|(_, requested, capacity)| self.shape.at(utilization(*requested, *capacity))))
    }

    fn normalise(&self) -> Normalise {
        Normalise::AsIs
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        nodes.storage.version() != self.version
    }
}

fn utilization(requested: i64, capacity: i64) -> i64 {
    if capacity == 0 || requested > capacity { UTILIZATION_MAX } else { requested.wrapping_mul(UTILIZATION_MAX) / capacity }
}

/// Rounded to the nearest, halves up; no score is negative.
fn mean(scores: impl Iterator<Item = i64>) -> i64 {
    let (sum, count) = scores.fold((0, 0), |(sum, count), score| (sum + score, count + 1));
    if count == 0 { 0 } else { (2 * sum + count) / (2 * count) }
}

// === after the choice ===

impl Reserve for VolumeBinding {
    fn reserve(&mut self, pod: PodInHand<'_>, node: NodeIx, nodes: &mut Nodes) -> Result<(), Refusal> {
        if nodes.get(node).cluster != ClusterId::HOME {
            return Ok(());
        }
        let search = match Search::new(pod.class, nodes) {
            Ok(None) => return Ok(()),
            Ok(Some(search)) => search,
            Err(Refused::Unresolvable(why) | Refused::Broken(why)) => return Err(Refusal::unresolvable(why)),
        };
        let fit = search.on(nodes.get(node), nodes).map_err(refusal)?;
        if fit.found == Found::default() {
            return Ok(());
        }
        nodes.book_volumes(pod.uid, node, &fit.found).map_err(Refusal::unresolvable)
    }

    fn unreserve(&mut self, pod: PodInHand<'_>, _node: NodeIx, nodes: &mut Nodes) {
        nodes.storage.give_back(pod.uid);
    }
}

impl PreBind for VolumeBinding {
    fn work(&mut self, pod: PodInHand<'_>, _node: NodeIx, nodes: &Nodes) -> Option<PreBindWork> {
        let patches = nodes.storage.patches_for(pod.uid)?;
        Some(PreBindWork { plugin: "VolumeBinding", patches, settles_within: Some(self.bind_timeout) })
    }

    fn written(&mut self, pod: PodInHand<'_>, versions: &[Box<str>], nodes: &mut Nodes) {
        nodes.storage.note_written(pod.uid, versions);
    }

    fn settled(&self, pod: PodInHand<'_>, is_overdue: bool, nodes: &Nodes) -> Settled {
        match nodes.volumes_settled(pod.uid) {
            Settled::NotYet if is_overdue => Settled::Failed(format!("binding volumes: {OVERDUE}")),
            Settled::Failed(why) => Settled::Failed(format!("binding volumes: {why}")),
            settled => settled,
        }
    }
}

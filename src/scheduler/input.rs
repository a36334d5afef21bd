//! The two sides of the engine: facts enter as [`Input`], effects leave as [`Command`]. Nothing else crosses.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{
    extenders::{Answer, ExtenderAt, ExtenderSpec, Question},
    framework::PreBindWork,
    profile::ProfileSpec,
};
use crate::model::{
    budget::BudgetFacts,
    cluster::ClusterFacts,
    gang::PodGroupFacts,
    ids::{ClusterId, NodeKey, PodKey, PodUid},
    image::Platforms,
    labels::LabelFacts,
    node::NodeFacts,
    pod::PodFacts,
    selector::LabelSelectorFacts,
    storage::{StorageFacts, StorageKind},
    terms::SelectingKind,
    time::Timestamp,
};

/// A fact. Order matters within one cluster and kind; inputs of different kinds may overtake each other.
#[derive(Debug)]
pub enum Input {
    /// A node was listed, added or changed.
    Node(Box<NodeFacts>),
    /// A node was deleted.
    NodeGone(NodeKey),
    /// A list of nodes is complete: whatever else is known of the cluster is gone.
    NodesListed(ClusterId, FxHashSet<Box<str>>),
    /// A pod was listed, added or changed.
    Pod(Box<PodFacts>),
    /// A pod was deleted.
    PodGone(ClusterId, PodUid),
    /// A list of pods is complete: whatever else is known of the cluster is gone. Nothing is scheduled before the first one of home has come.
    PodsListed(ClusterId, FxHashSet<PodUid>),
    /// The API server took the binding (or had it already, with our node).
    Bound(PodUid),
    /// The binding did not happen.
    BindFailed(PodUid, BindFailure),
    /// The work of a PreBind plugin was carried out, as far as the outcome says.
    PreBound(PodUid, PreBindDone),
    /// A waiting pod was allowed or refused by the plugin that held it.
    Permit(PodUid, PermitVerdict),
    /// We became leader, or ceased to be. A standby keeps everything in memory and decides nothing.
    Leading(bool),
    /// A new configuration is in force from the next pod on.
    Profiles(Vec<ProfileSpec>),
    /// Extenders in force from the next pod on, in the order in which they are asked, and the number of this state.
    Extenders(u64, Vec<ExtenderSpec>),
    /// Answer to [`Command::AskExtenders`], with the question's number.
    Extended(PodUid, u64, Answer),
    /// A compute cluster was added or changed. Comes before its nodes.
    Cluster(Box<ClusterFacts>),
    /// A compute cluster was removed, and its nodes and pods with it.
    ClusterGone(ClusterId),
    /// Lists of what selects pods, of namespaces and of storage are to come: nothing is decided before they are complete.
    AwaitLists,
    /// The labels of a home namespace; `None` when it is gone.
    Namespace(Box<str>, Option<LabelFacts>),
    /// The list of home namespaces is complete.
    NamespacesListed(FxHashSet<Box<str>>),
    /// The selector of a Service or a controller of home: namespace, name; `None` when it is gone.
    Selects(SelectingKind, Box<str>, Box<str>, Option<LabelSelectorFacts>),
    /// The list of such a kind is complete: `namespace/name` of each.
    SelectsListed(SelectingKind, FxHashSet<Box<str>>),
    /// An object of storage of the home cluster was listed, added or changed.
    Storage(StorageFacts),
    /// An object of storage is gone: its name, behind its namespace if it has one.
    StorageGone(StorageKind, Box<str>),
    /// A list of such a kind is complete: whatever else is known of it is gone.
    StorageListed(StorageKind, FxHashSet<Box<str>>),
    /// A disruption budget of the home cluster was listed, added or changed.
    Budget(Box<BudgetFacts>),
    /// A disruption budget is gone: namespace and name.
    BudgetGone(Box<str>, Box<str>),
    /// The list of disruption budgets is complete: `namespace/name` of each.
    BudgetsListed(FxHashSet<Box<str>>),
    /// A `PodGroup` of the home cluster was listed, added or changed.
    PodGroup(Box<PodGroupFacts>),
    /// A `PodGroup` is gone: namespace and name.
    PodGroupGone(Box<str>, Box<str>),
    /// The list of `PodGroup`s is complete: `namespace/name` of each.
    PodGroupsListed(FxHashSet<Box<str>>),
    /// Answer to [`Command::Evict`]: the API server has taken all deletions, or why it did not take one of them.
    Evicted(PodUid, Result<(), String>),
    /// Which platforms an image has.
    ImagePlatforms(Box<str>, Platforms),
    /// A pod that is bound to a compute cluster needs another node there, as these refused it. Answered by [`Command::PlacedAgain`].
    PlaceAgain {
        /// The home pod's name.
        key: PodKey,
        /// The home pod.
        uid: PodUid,
        /// The cluster that it is bound to.
        cluster: ClusterId,
        /// Nodes that refused it.
        not_on: Vec<Box<str>>,
    },
    /// Time has passed: backoffs, time-outs, the five-minute flush.
    Tick,
    /// Decide about at most so many pods.
    Schedule {
        /// Bound on the work of one call, so that facts are never kept waiting long.
        attempts_max: u32,
    },
}

/// A list of home objects beside pods and nodes that decisions rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Namespaces.
    Namespaces,
    /// Services or controllers.
    Selecting(SelectingKind),
    /// Objects of storage.
    Storage(StorageKind),
    /// Disruption budgets.
    Budgets,
}

impl List {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let selecting = SelectingKind::ALL.into_iter().map(Self::Selecting);
        [Self::Namespaces, Self::Budgets].into_iter().chain(selecting).chain(StorageKind::ALL.into_iter().map(Self::Storage))
    }
}

/// What became of the work of a PreBind plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreBindDone {
    /// Whose work it was.
    pub plugin: &'static str,
    /// `resourceVersion` of each object whose patch was taken, in the order of the patches.
    pub versions: Vec<Box<str>>,
    /// Why the next patch was not.
    pub failure: Option<BindFailure>,
}

/// Why a binding did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindFailure {
    /// The pod is gone, or another incarnation took its name.
    PodGone,
    /// Somebody bound it to another node.
    BoundElsewhere,
    /// The API server said no: tried again with backoff. The text says what.
    Failed(String),
    /// It gave no clear answer, and the pod was not bound when it was read afterwards: tried again likewise, and the binding may still come.
    Unclear(String),
    /// Never sent, as we lost the lease: the pod stays for the next leader.
    NotSent,
}

/// What became of a pod that a Permit plugin held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitVerdict {
    /// Go on to binding.
    Allowed(&'static str),
    /// Give the node back: plugin and reason.
    Refused(&'static str, String),
}

/// An effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write the binding.
    Bind(Box<BindOrder>),
    /// Do a plugin's work first; answer with [`Input::PreBound`].
    PreBind(PodRef, PreBindWork),
    /// Write condition `PodScheduled=False` and the nominated node into the pod's status.
    Condition(Box<ConditionOrder>),
    /// Write condition `PodGroupInitiallyScheduled` into the status of a `PodGroup`.
    GroupCondition(Box<GroupConditionOrder>),
    /// Record an event.
    Event(Box<EventOrder>),
    /// End pods to make room for another one. Answered by one [`Input::Evicted`].
    Evict(Box<EvictOrder>),
    /// Answer to [`Input::PlaceAgain`]: where the pod is counted now, or that no node of the cluster takes it.
    PlacedAgain(PodUid, ClusterId, Option<Box<str>>),
    /// Ask extenders about a pod; answer with one [`Input::Extended`], in bounded time.
    AskExtenders(Box<Question>),
    /// As [`Self::Bind`], by the extender; by the API server if the extender fails and can be ignored.
    BindThrough(ExtenderAt, Box<BindOrder>),
    /// Find out which platforms these images of the pod have; answer each with [`Input::ImagePlatforms`], in bounded time.
    ResolveImages(PodRef, Vec<Box<str>>),
}

/// Which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Namespace and name.
    pub key: PodKey,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `spec.schedulerName`: the reporter of its events.
    pub scheduler_name: Arc<str>,
}

/// A decision to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindOrder {
    /// The pod.
    pub pod: PodRef,
    /// The chosen node.
    pub node: NodeKey,
    /// How often this pod has been tried, this time included.
    pub attempt: u32,
    /// Number of the run to be, when the node is in a compute cluster: one more than the pod's annotations say.
    pub run_attempt: u32,
    /// The pod's annotations record this very placement as an intent: an earlier leader began it.
    pub resumes: bool,
    /// Another binding of the pod, ordered until then by an earlier leader or by us, may still take effect: nothing may start before that is over.
    pub earlier_binding: Option<Timestamp>,
}

/// What the status of a pod that waits is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionOrder {
    /// The pod.
    pub pod: PodRef,
    /// Condition `PodScheduled=False`, if it is to be written: `Unschedulable` or `SchedulerError`, and why, in upstream's words.
    pub condition: Option<(&'static str, Arc<str>)>,
    /// `status.nominatedNodeName`: unchanged, or set (empty clears).
    pub nominated_node: Option<Box<str>>,
}

/// What the status of a `PodGroup` is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConditionOrder {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// The generation that was decided about.
    pub generation: i64,
    /// Whether it could be scheduled.
    pub is_scheduled: bool,
    /// Whether that is another answer than the status has.
    pub is_turn: bool,
    /// `Scheduled`, `Unschedulable` or `SchedulerError`.
    pub reason: &'static str,
    /// Why not.
    pub message: Arc<str>,
}

/// Pods that are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictOrder {
    /// For whom.
    pub preemptor: PodRef,
    /// From which node, as people name it.
    pub node: Box<str>,
    /// Who goes; the last one only when the API server has taken the others.
    pub victims: Vec<(PodKey, PodUid)>,
}

/// An event for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventOrder {
    /// The pod that it is about.
    pub pod: PodRef,
    /// `Scheduled`, `FailedScheduling` or `Preempted`.
    pub reason: &'static str,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// `Binding`, `Scheduling` or `Preempting`.
    pub action: &'static str,
    /// Another pod that the event has to do with.
    pub related: Option<Box<PodRef>>,
    /// The text, at most 1,024 bytes on the wire.
    pub note: Arc<str>,
}

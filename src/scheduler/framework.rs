//! The contract between the scheduling cycle and the rules: what a plugin is asked, when, and what it may answer.
//!
//! Extension points carry upstream's names (KEP-624). Two of them are cut differently, for speed: what upstream calls PreFilter and PreScore is
//! *compiling* a plugin for a pod class ([`FilterPlugin::compile`], [`ScorePlugin::compile`]), and Filter and Score are questions about one node
//! put to what came out. A class is compiled once for all its pods; a node is asked again only when it has changed.
//!
//! Rules that look beyond single nodes are of another form ([`DomainRule`], [`DomainScore`]): they count over domains, are told which nodes have changed,
//! and answer for all nodes at once.

use std::{borrow::Cow, cell::RefCell};

use fixedbitset::FixedBitSet;
use serde::Serialize;
use smallvec::SmallVec;

use super::{
    cache::Cache,
    change::{Change, Changes},
    extenders::{Cleared, Offer},
    nodes::Nodes,
    preemption::{Budgets, Memo},
    storage::Settled,
};
use crate::model::{
    class::PodClass,
    ids::{ClassIx, NodeIx, PodKey, PodUid},
    intern::Sym,
    node::NodeRecord,
    time::{DurationMs, Timestamp},
};

/// A scheduling rule, built once for each profile from its arguments. Every extension point that it does not serve stays `None`.
pub trait Plugin: Send {
    /// Upstream's name, as in configuration files.
    fn name(&self) -> &'static str;
    /// Before a pod may enter the active queue.
    fn pre_enqueue(&self) -> Option<&dyn PreEnqueue> {
        None
    }
    /// The order of the active queue; one per profile, the same in all.
    fn queue_sort(&self) -> Option<&dyn QueueSort> {
        None
    }
    /// PreFilter and Filter.
    fn filter(&self) -> Option<&dyn FilterPlugin> {
        None
    }
    /// After no node was found.
    fn post_filter(&mut self) -> Option<&mut dyn PostFilter> {
        None
    }
    /// PreScore and Score.
    fn score(&self) -> Option<&dyn ScorePlugin> {
        None
    }
    /// Once a node is chosen.
    fn reserve(&mut self) -> Option<&mut dyn Reserve> {
        None
    }
    /// Whether the pod may go on to binding now.
    fn permit(&mut self) -> Option<&mut dyn Permit> {
        None
    }
    /// Work at the API server that must be done before the binding.
    fn pre_bind(&mut self) -> Option<&mut dyn PreBind> {
        None
    }
    /// Who writes the binding.
    fn bind(&self) -> Option<&dyn Bind> {
        None
    }
    /// After the binding was acknowledged.
    fn post_bind(&mut self) -> Option<&mut dyn PostBind> {
        None
    }
    /// Which changes can make schedulable what this plugin refused.
    fn curing_changes(&self) -> Changes {
        Changes::ALL
    }
    /// Whether this change can make a pod of the class schedulable (upstream's `QueueingHintFn`). Asked only for [`Self::curing_changes`].
    fn cures(&self, _class: &PodClass, _change: &Change<'_>, _nodes: &Nodes) -> bool {
        true
    }
}

/// A reason in upstream's words: people and dashboards search for them.
pub type Reason = Cow<'static, str>;

/// Why a rule says no. Not an error: it is counted, shown, and decides which events may cure it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether removing other pods could help.
    pub code: RefusalCode,
    /// Every reason that this plugin has.
    pub reasons: SmallVec<[Reason; 1]>,
}

/// Upstream's status codes for a rejection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum RefusalCode {
    /// `Unschedulable`: preemption may help.
    #[default]
    Unschedulable,
    /// `UnschedulableAndUnresolvable`: preemption cannot help.
    #[serde(rename = "UnschedulableAndUnresolvable")]
    Unresolvable,
}

impl Refusal {
    /// A refusal that preemption may resolve.
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self { code: RefusalCode::Unschedulable, reasons: SmallVec::from_iter([reason.into()]) }
    }

    /// A refusal that preemption cannot resolve.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self { code: RefusalCode::Unresolvable, reasons: SmallVec::from_iter([reason.into()]) }
    }

    /// The reasons as one text.
    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }
}

/// A pod in the hands of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct PodInHand<'a> {
    /// Namespace and name.
    pub key: &'a PodKey,
    /// `metadata.uid`.
    pub uid: &'a PodUid,
    /// Its class.
    pub class: &'a PodClass,
    /// Names of its scheduling gates.
    pub gates: &'a [Box<str>],
}

// === queue ===

/// Keeps a pod out of the active queue until something outside changes.
pub trait PreEnqueue {
    /// `None` lets the pod in.
    fn gate(&self, pod: PodInHand<'_>) -> Option<Refusal>;
}

/// Orders the active queue: the smaller key is scheduled first; equal keys keep their order of arrival.
pub trait QueueSort {
    /// Priority and the time at which the pod was last added to a queue are what upstream gives.
    fn key(&self, priority: i32, queued_at: Timestamp) -> SortKey;
}

/// Rank in the active queue.
pub type SortKey = (i64, u64);

// === filter ===

/// Compiles a filter for a class.
pub trait FilterPlugin {
    /// PreFilter. Everything read from `nodes` here must be covered by the rule's [`NodeRule::outdated`].
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter;
}

/// What compiling a filter yields.
pub enum CompiledFilter {
    /// Nothing to say about this class (upstream's Skip).
    Skip,
    /// As `Skip`, until something beyond single nodes changes.
    SkipUntil(Box<dyn Premise>),
    /// A rule to ask about every node.
    Rule(Box<dyn NodeRule>),
    /// A rule that answers for all nodes at once.
    Domains(Box<dyn DomainRule>),
    /// A rule, and the only node names that can pass it.
    Only(Box<[Sym]>, Box<dyn NodeRule>),
    /// One of the others, until something beyond single nodes changes.
    Until(Box<dyn Premise>, Box<CompiledFilter>),
    /// No node can take the class.
    Refused(Refusal),
    /// The question itself is broken; the attempt ends in error.
    Failed(String),
}

/// A filter compiled for one pod class.
pub trait NodeRule: Send {
    /// Which changes of a node can change the answer.
    fn reads(&self) -> Reads;
    /// Whether the node can take one more pod of the class. The hot path.
    fn admits(&self, node: &NodeRecord, nodes: &Nodes) -> bool {
        self.refuses(node, nodes).is_none()
    }
    /// Why not, with every reason. `None` exactly when `admits`.
    fn refuses(&self, node: &NodeRecord, nodes: &Nodes) -> Option<Refusal>;
    /// Clears the nodes that are not admitted. One virtual call for all nodes: the loop is compiled per rule.
    fn keep_admitted(&self, nodes: &Nodes, set: &mut FixedBitSet) {
        for at in 0..set.len() {
            if set.contains(at) && !self.admits(nodes.at(at), nodes) {
                set.set(at, false);
            }
        }
    }
    /// Whether something beyond single nodes that was read at compile time has changed: then the class is compiled anew.
    fn outdated(&self, _nodes: &Nodes) -> bool {
        false
    }
}

/// What an answer without a rule rests on.
pub trait Premise: Send {
    /// Whether it has changed, so that the class is compiled anew.
    fn outdated(&self, nodes: &Nodes) -> bool;
}

/// Which nodes changed since the last time.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// Everything may have.
    All,
    /// These, with repetitions.
    Nodes(&'a [NodeIx]),
}

/// A filter compiled for one pod class whose answer about a node depends on pods elsewhere, by the domains that the node is in. It keeps counts of its own,
/// and is told of every node that changed, by its object or by a pod that came or went.
pub trait DomainRule: Send {
    /// Brings its counts up to date. Called with [`Changed::All`] before anything is asked.
    fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes);
    /// Clears the nodes that are not admitted.
    fn keep_admitted(&self, set: &mut FixedBitSet);
    /// Why not, as of the last [`Self::catch_up`]. `None` exactly for what [`Self::keep_admitted`] keeps.
    fn refuses(&self, ix: NodeIx) -> Option<Refusal>;
    /// Why not, if pods had come to the node or left it since the last [`Self::catch_up`] (upstream's `AddPod` and `RemovePod`).
    fn refuses_with(&self, ix: NodeIx, moved: &[Moved<'_>], nodes: &Nodes) -> Option<Refusal>;
    /// Whether what was compiled does not hold any more.
    fn outdated(&self, _nodes: &Nodes) -> bool {
        false
    }
    /// Bytes held, for the bound on all views.
    fn bytes(&self) -> usize;
}

/// Pods that have come to a node, or left it, in thought.
#[derive(Clone, Copy, Debug)]
pub struct Moved<'a> {
    /// Their class.
    pub ix: ClassIx,
    /// The same.
    pub class: &'a PodClass,
    /// How many have come; negative: how many have left.
    pub pods: i64,
}

/// What a rule's answer about a node depends on; decides when a kept answer is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Labels, taints, allocatable: what the Node object says.
    Object,
    /// Additionally what runs on the node: requests, ports, volumes.
    Usage,
}

// === score ===

/// Compiles a score for a class.
pub trait ScorePlugin {
    /// PreScore. Everything read from `nodes` here must be covered by the score's [`NodeScore::outdated`].
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledScore;
}

/// What compiling a score yields.
pub enum CompiledScore {
    /// Nothing to say about this class (upstream's Skip): absent from the scores.
    Skip,
    /// As `Skip`, until something beyond single nodes changes.
    SkipUntil(Box<dyn Premise>),
    /// A score to ask about every feasible node.
    Score(Box<dyn NodeScore>),
    /// A score that answers for all feasible nodes at once.
    Domains(Box<dyn DomainScore>),
    /// PreScore is broken; the attempt ends in error unless one node alone is feasible.
    Failed(String),
}

/// A score compiled for one pod class: higher is better, before normalisation.
pub trait NodeScore: Send {
    /// Which changes of a node can change the score.
    fn reads(&self) -> Reads;
    /// The raw score of a feasible node; [`UNSCORED`] keeps it out of the extremes and gives it 0.
    fn raw(&self, node: &NodeRecord, nodes: &Nodes) -> i64;
    /// Raw scores of all nodes in the set, written at their index. One virtual call for all nodes.
    fn raw_all(&self, nodes: &Nodes, set: &FixedBitSet, lane: &mut [i64]) {
        for at in set.ones() {
            lane[at] = self.raw(nodes.at(at), nodes);
        }
    }
    /// How raw scores become 0..=100 over the feasible nodes.
    fn normalise(&self) -> Normalise;
    /// When every node has the same raw score now, that score: the class then needs no lane for it. Must be covered by `outdated`.
    fn uniform(&self) -> Option<i64> {
        None
    }
    /// Whether something beyond single nodes that was read at compile time has changed.
    fn outdated(&self, _nodes: &Nodes) -> bool {
        false
    }
}

/// A score compiled for one pod class that depends on pods elsewhere and on which nodes are feasible. See [`DomainRule`].
pub trait DomainScore: Send {
    /// Brings its counts up to date. Called with [`Changed::All`] before anything is asked.
    fn catch_up(&mut self, changed: Changed<'_>, nodes: &Nodes);
    /// Raw scores of all nodes in the set, which are the feasible ones, written at their index. False: nothing to say now (upstream's Skip).
    fn raw_all(&mut self, set: &FixedBitSet, lane: &mut [i64]) -> bool;
    /// How raw scores become 0..=100 over the feasible nodes.
    fn normalise(&self) -> Normalise;
    /// Whether what was compiled does not hold any more.
    fn outdated(&self, _nodes: &Nodes) -> bool {
        false
    }
    /// Bytes held, for the bound on all views.
    fn bytes(&self) -> usize;
}

/// Raw score of a node that takes no part (upstream ignores such nodes when normalising).
pub const UNSCORED: i64 = i64::MIN;
/// Highest score after normalisation.
pub const SCORE_MAX: i64 = 100;

/// From raw to 0..=100.
#[derive(Clone, Copy, Debug)]
pub enum Normalise {
    /// Raw scores are final already.
    AsIs,
    /// A function of the raw score and the extremes over the feasible nodes.
    Extremes(fn(i64, Extremes) -> i64),
}

/// Smallest and largest raw score over the feasible nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extremes {
    /// Smallest.
    pub min: i64,
    /// Largest.
    pub max: i64,
}

/// Upstream's `DefaultNormalizeScore`: the largest becomes 100.
pub fn by_max(raw: i64, extremes: Extremes) -> i64 {
    if extremes.max == 0 { raw } else { SCORE_MAX * raw / extremes.max }
}

/// Upstream's `DefaultNormalizeScore` reversed: the largest becomes 0; all become 100 when all are 0.
pub fn by_max_reversed(raw: i64, extremes: Extremes) -> i64 {
    SCORE_MAX - by_max(raw, extremes)
}

// === after the choice ===

/// Tries to make room when no node was found (preemption).
pub trait PostFilter {
    /// What to say, whom to nominate, and who must go for that.
    fn make_room(&mut self, plight: &Plight<'_>) -> RoomMade;
}

/// A pod that no node takes, and all that bears on how that might change.
pub struct Plight<'a> {
    /// The pod.
    pub pod: PodInHand<'a>,
    /// The present node for which it was nominated before.
    pub nominated: Option<NodeIx>,
    /// Why nodes do not take it; `None` for a node that was left out.
    pub refused: &'a dyn Fn(NodeIx) -> Option<&'a Refusal>,
    /// Pods and nodes.
    pub cache: &'a Cache,
    /// Budgets.
    pub budgets: &'a Budgets,
    /// What the rules would say if pods were gone.
    pub rules: &'a dyn Rehearse,
    /// Decides what upstream draws: the same number, the same answer.
    pub draw: u64,
    /// What is remembered of the class, where it can be.
    pub memo: Option<&'a RefCell<Memo>>,
    /// What extenders have let pass of an earlier search, or why they could not be asked: nothing else is looked for then.
    pub cleared: Option<Result<&'a [Cleared], &'a str>>,
    /// Extenders will be asked which of all nodes that could be cleared may be.
    pub wants_offers: bool,
}

/// Asks the rules about a node with other pods on it than there are. Nominated pods of no lower priority are counted as upstream counts them.
pub trait Rehearse {
    /// The node as it is.
    fn set(&self, ix: NodeIx) -> Stage;
    /// What tells apart the guests of a node at different times: zero without any, `None` where nothing does.
    fn guests_stamp(&self, ix: NodeIx) -> Option<u64>;
    /// A pod of the class leaves.
    fn take(&self, stage: &mut Stage, class: ClassIx);
    /// A pod of the class comes.
    fn put(&self, stage: &mut Stage, class: ClassIx);
    /// Whether the pod in question would fit now.
    fn admits(&self, stage: &Stage) -> bool {
        self.refusal(stage).is_none()
    }
    /// Why not.
    fn refusal(&self, stage: &Stage) -> Option<Refusal>;
}

/// A node in thought.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Which node.
    pub ix: NodeIx,
    /// What its record would be.
    pub node: NodeRecord,
    /// How many pods of which classes have come; those that have left are negative.
    pub moved: SmallVec<[(ClassIx, i64); 4]>,
}

/// Answer of a [`PostFilter`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomMade {
    /// What becomes of the pod's nomination.
    pub nomination: Nomination,
    /// Who must go, the most important first.
    pub victims: Vec<Victim>,
    /// Other nodes that would have been as good, with those who would have to go there.
    pub equally_good: Vec<(NodeIx, Vec<Victim>)>,
    /// Every node that could be cleared, where extenders are to be asked.
    pub offers: Vec<Offer>,
    /// Text appended to the pod's message; may be empty.
    pub message: String,
}

/// What becomes of the node that a pod is nominated for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nomination {
    /// It stays, if there is one.
    #[default]
    Keep,
    /// There is none any more.
    Clear,
    /// This one.
    Node(NodeIx),
}

/// A pod that must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Namespace and name.
    pub key: PodKey,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// It is being deleted already.
    pub is_terminating: bool,
}

/// Books what a chosen node must keep for the pod, and gives it back.
pub trait Reserve {
    /// Books; a refusal ends the attempt, and every plugin's `unreserve` is called in reverse order.
    fn reserve(&mut self, pod: PodInHand<'_>, node: NodeIx, nodes: &mut Nodes) -> Result<(), Refusal>;
    /// Gives back; must be harmless when nothing was booked.
    fn unreserve(&mut self, pod: PodInHand<'_>, node: NodeIx, nodes: &mut Nodes);
}

/// Holds a pod with its node until others are ready.
pub trait Permit {
    /// Asked once when the pod has its node.
    fn permit(&mut self, pod: PodInHand<'_>, node: NodeIx, nodes: &Nodes) -> Permission;
}

/// Answer of a [`Permit`] plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Go on.
    Allow,
    /// Hold the pod with its node for at most this long; upstream's cap is 15 minutes.
    Wait(DurationMs),
    /// Give the node back.
    Refuse(Refusal),
}

/// Names work to be done at an API server before the binding.
pub trait PreBind {
    /// `None`: nothing to do for this pod (upstream's Skip).
    fn work(&mut self, pod: PodInHand<'_>, node: NodeIx, nodes: &Nodes) -> Option<PreBindWork>;
    /// The API server took the first patches, and answered with these versions of their objects.
    fn written(&mut self, _pod: PodInHand<'_>, _versions: &[Box<str>], _nodes: &mut Nodes) {}
    /// Whether what was written has come true, where the work says that this takes time. `is_overdue`: it was to be done by now.
    fn settled(&self, _pod: PodInHand<'_>, _is_overdue: bool, _nodes: &Nodes) -> Settled {
        Settled::Done
    }
}

/// Work that the edge does for a PreBind plugin before it writes the binding: merge patches, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreBindWork {
    /// Whose work it is.
    pub plugin: &'static str,
    /// (API path, merge patch as JSON text).
    pub patches: Vec<(String, String)>,
    /// How long others may take, once it is written, to make it true; `None`: nobody has to.
    pub settles_within: Option<DurationMs>,
}

/// Claims the binding of a pod.
pub trait Bind {
    /// Whether this plugin binds the pod (`false` is upstream's Skip).
    fn handles(&self, pod: PodInHand<'_>) -> bool;
}

/// Is told when a pod is bound.
pub trait PostBind {
    /// Informational.
    fn bound(&mut self, pod: PodInHand<'_>, node: NodeIx);
}

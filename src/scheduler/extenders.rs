//! HTTP extenders as the engine knows them: who takes part for which pods, what they are asked, and what they answer. No URL, no client: these are the
//! edge's.
//!
//! Source: kube-scheduler v1.37.1 `extender.go`, `findNodesThatPassExtenders`, `prioritizeNodes`, `callExtenders`.

use super::{
    framework::{Refusal, Victim},
    input::PodRef,
};
use crate::model::{class::PodClass, ids::PodUid, intern::Interner, time::DurationMs};

/// One extender. Its place in the list is its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // a set of independent verbs
pub struct ExtenderSpec {
    /// Refuses nodes.
    pub filters: bool,
    /// Scores nodes.
    pub prioritizes: bool,
    /// Has a word in whom preemption evicts.
    pub preempts: bool,
    /// Writes bindings.
    pub binds: bool,
    /// Only pods that want one of these are its business; empty: all are.
    pub managed_resources: Vec<Box<str>>,
    /// Longest call.
    pub timeout: DurationMs,
}

impl ExtenderSpec {
    /// Whether a pod is its business. A resource that is named with the amount zero counts for upstream and not here: nothing is wanted of it.
    pub fn is_interested_in(&self, class: &PodClass, table: &Interner) -> bool {
        let wanted = |name: &str| self.managed_resources.iter().any(|managed| **managed == *name);
        self.managed_resources.is_empty() || class.requests.scalars.iter().any(|(name, _)| wanted(table.text(*name)))
    }
}

/// An extender of one state of the configuration: numbers mean nothing across a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtenderAt {
    /// Of which state.
    pub generation: u64,
    /// Its number.
    pub at: usize,
}

/// What the edge is to ask. Answered by one `Input::Extended` with the same pod and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The pod in question.
    pub pod: PodRef,
    /// Tells questions about one pod apart.
    pub number: u64,
    /// Of which state of the configuration.
    pub generation: u64,
    /// Numbers of those whose business the pod is, in the order in which they are asked.
    pub extenders: Vec<usize>,
    /// What about.
    pub topic: Topic,
    /// Number of the last change of a node's object that the engine knew of: what extenders are shown must not be older.
    pub nodes_changed: u64,
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Which of these nodes may take the pod, and how good they are. Names of nodes of home.
    Nodes(Vec<Box<str>>),
    /// Which of these nodes may be cleared for it, and of whom.
    Room(Vec<Offer>),
}

/// A node that could be cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub node: Box<str>,
    /// Who would have to go, the most important first.
    pub victims: Vec<Victim>,
    /// How many of them violate a budget.
    pub violations: usize,
}

/// What extenders say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Topic::Nodes`].
    Nodes(NodesVerdict),
    /// To [`Topic::Room`]; the error is of one that cannot be ignored.
    Room(Result<Vec<Cleared>, String>),
    /// One that cannot be ignored could not be asked, or made no sense: the attempt is broken.
    Failed(String),
}

/// What is left of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodesVerdict {
    /// Those that all let pass.
    pub left: Vec<Box<str>>,
    /// Why others were not; a node may be gone without a word.
    pub refused: Vec<(Box<str>, Refusal)>,
    /// What scores of extenders add to the total of a node.
    pub scores: Vec<(Box<str>, i64)>,
}

/// A node that may be cleared of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// Its name.
    pub node: Box<str>,
    /// Who has to go.
    pub victims: Vec<PodUid>,
    /// How many of them violate a budget.
    pub violations: usize,
}

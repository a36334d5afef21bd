//! The two sides of the machine: facts enter as [`Input`], effects leave as [`Command`].
//!
//! At most one order for a run, a task, an arrival or an orphan is under way at any time; its [`Outcome`] comes back under the same [`OrderId`]. Who carries
//! them out asks before each write whether we lead, and no write of it takes effect more than [`LATE`] after it was ordered.

use serde_json::Value;

use super::{
    facts::{Key, Pod, Run, Task},
    rules::Rules,
    run::{SavedLogs, TaskRunStatus},
    spec::TaskStatus,
    trigger::arrival::Arrival,
};
use crate::model::time::{DurationMs, Timestamp};

/// How late an effect of an earlier leader, or one that was not answered, can still come: lease and time-out, and something on top.
pub const LATE: DurationMs = DurationMs(30_000);

/// A fact.
#[derive(Clone, Debug)]
pub enum Input {
    /// A task was listed, added or changed.
    Task(Box<Task>),
    /// It is gone.
    TaskGone(Key),
    /// A run was listed, added or changed.
    Run(Box<Run>),
    /// It is gone: its key and UID.
    RunGone(Key, Box<str>),
    /// A pod with our label was listed, added or changed.
    Pod(Box<Pod>),
    /// It is gone: its key and UID.
    PodGone(Key, Box<str>),
    /// The lists of all three kinds are complete: what is known and was not listed since is gone.
    Listed(Box<Listing>),
    /// Something arrived; answered by [`Command::Answer`].
    Arrival(ArrivalId, Box<Arrival>),
    /// What became of an order.
    Done(OrderId, Outcome),
    /// We became leader, or ceased to be.
    Leading(bool),
    /// What the admin wants.
    Rules(Box<Rules>),
    /// A node is gone or does not answer for long, or is there again.
    NodeLost(Box<str>, bool),
    /// Time has passed.
    Tick,
}

/// UIDs of everything there is.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Tasks.
    pub tasks: std::collections::BTreeSet<Box<str>>,
    /// Runs.
    pub runs: std::collections::BTreeSet<Box<str>>,
    /// Pods.
    pub pods: std::collections::BTreeSet<Box<str>>,
}

/// Names an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrivalId(pub u64);

/// Names an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// An effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Do this; answer with [`Input::Done`].
    Order(OrderId, Subject, Effect),
    /// What became of an arrival: tell its sender.
    Answer(ArrivalId, Answer),
    /// Tell people, as an event on the object. Not answered.
    Tell(News),
    /// So many scheduled times of a task went by and are not made up for: to be counted. Not answered.
    Missed(Key, usize),
}

/// What an order is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A task.
    Task(Key),
    /// A run.
    Run(Key),
    /// An arrival.
    Arrival(ArrivalId),
    /// A pod without a run.
    Orphan(Key),
}

/// What is done. Each can come late and do no harm: names and UIDs keep it from meeting something else, versions from undoing what came after.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Create a run. `Run` with it, or with what has its name; `Refused`, `Retry`.
    CreateRun(Box<Value>),
    /// Merge this into a run, with the version as precondition. `Run`, `Conflict`, `Gone`, `Refused`, `Retry`.
    FillIn {
        /// The version that was judged.
        resource_version: Box<str>,
        /// `{"metadata": ..., "spec": {"frozen": ...}}`.
        patch: Box<Value>,
    },
    /// Replace a run's status, with the version as precondition. `Run`, `Conflict`, `Gone`, `Refused`, `Retry`.
    WriteRun {
        /// The version that was judged.
        resource_version: Box<str>,
        /// What it was.
        before: Box<TaskRunStatus>,
        /// What it shall be.
        status: Box<TaskRunStatus>,
    },
    /// Replace a task's status, with the version as precondition. `Task`, `Conflict`, `Gone`, `Refused`, `Retry`.
    WriteTask {
        /// The version that was judged.
        resource_version: Box<str>,
        /// What it shall be.
        status: Box<TaskStatus>,
    },
    /// Read a run live. `Run`, `Absent`, `Retry`.
    ReadRun,
    /// Read a task live. `Task`, `Absent`, `Retry`.
    ReadTask,
    /// Read the run; if it is launching this very attempt, create the pod of [`super::freeze::pod`]. `Pod` with what has the name, `Conflict` when the run says
    /// otherwise, `Gone`, `Refused` (400, 422), `Wait` (403, 429), `Retry` (also unclear).
    CreatePod {
        /// The attempt.
        attempt: u32,
    },
    /// Read a pod live. `Pod`, `Absent`, `Retry`.
    ReadPod(Box<str>),
    /// Copy the logs of every container to their end, or what was followed of them. `Logs`, `Retry`.
    SaveLogs {
        /// The pod.
        pod: Box<str>,
        /// Its UID.
        uid: Box<str>,
        /// Bytes of a container's log; 0 is as many as usual.
        bytes_max: u64,
    },
    /// Delete a pod of this UID. `Done`, `Absent`, `Refused` (403), `Retry`.
    DeletePod {
        /// The pod.
        pod: Box<str>,
        /// Its UID.
        uid: Box<str>,
        /// Grace; 0 does not ask the node.
        grace_seconds: u64,
    },
    /// Take our finalizer from a pod of this UID. `Done`, `Absent`, `Refused`, `Retry`.
    ReleasePod {
        /// The pod.
        pod: Box<str>,
        /// Its UID.
        uid: Box<str>,
    },
    /// Announce that the run has reached this state: `Finished` or `Reaped`. `Done`, `Retry`.
    Announce(&'static str),
    /// Delete a run of this UID. `Done`, `Absent`, `Retry`.
    DeleteRun {
        /// Its UID.
        uid: Box<str>,
    },
}

impl Effect {
    /// Its name, for metrics and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateRun(_) => "CreateRun",
            Self::FillIn { .. } => "FillIn",
            Self::WriteRun { .. } => "WriteRun",
            Self::WriteTask { .. } => "WriteTask",
            Self::ReadRun => "ReadRun",
            Self::ReadTask => "ReadTask",
            Self::CreatePod { .. } => "CreatePod",
            Self::ReadPod(_) => "ReadPod",
            Self::SaveLogs { .. } => "SaveLogs",
            Self::DeletePod { .. } => "DeletePod",
            Self::ReleasePod { .. } => "ReleasePod",
            Self::Announce(_) => "Announce",
            Self::DeleteRun { .. } => "DeleteRun",
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done, or done already.
    Done,
    /// The run as it is.
    Run(Box<Value>),
    /// The task as it is.
    Task(Box<Task>),
    /// The pod as it is.
    Pod(Box<Pod>),
    /// What was saved.
    Logs(Box<SavedLogs>),
    /// There is none of that name and UID.
    Absent,
    /// The run or the task is gone, or another one has its name.
    Gone,
    /// A precondition failed: the object has changed.
    Conflict,
    /// Not yet: reason and text.
    Wait(String, String),
    /// Repeating it unchanged will not help.
    Refused(String),
    /// It may have happened or not; repeating it may help.
    Retry(String),
}

/// What became of an arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its runs exist: their names. Acknowledge it.
    Accepted(Vec<Key>),
    /// All of its runs were there, or had been. Acknowledge it.
    Duplicate,
    /// No task wants it. Acknowledge it.
    Unwanted,
    /// It must not be sent again unchanged: why.
    Refused(String),
    /// It must be sent again: why.
    Again(String),
}

/// News for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What it is about.
    pub subject: Subject,
    /// UID of that.
    pub uid: Box<str>,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// One word.
    pub reason: String,
    /// The text.
    pub note: String,
}

/// A point in time that is reached unless told otherwise: nothing of before comes after it.
pub fn settled_after(at: Timestamp) -> Timestamp {
    at + LATE
}

//! The two sides of the federation's machine: facts enter as [`Input`], effects leave as [`Command`]. One machine for each compute cluster.
//!
//! At most one order for a home pod is under way at any time; its [`Outcome`] comes back under the same [`OrderId`]. An order that cannot be sent, as we do
//! not lead any more, comes back as [`Outcome::NotSent`].

use rustc_hash::FxHashSet;
use serde_json::Value;

use super::{
    facts::{Decision, HomePod, RunName, RunPod},
    spec::{Commit, Drain, Lost},
};
use crate::{
    model::{
        ids::{PodKey, PodUid},
        time::Timestamp,
    },
    scheduler::input::BindFailure,
};

/// A fact. Order matters within one kind.
#[derive(Clone, Debug)]
pub enum Input {
    /// The engine decided: place this pod on that node over there. Answered by exactly one [`Command::Answer`]. `attempt` is one more than the pod's
    /// annotations say, or the same when an intent that they record is resumed.
    Place {
        /// The pod.
        key: PodKey,
        /// Its UID.
        uid: PodUid,
        /// The node.
        node: Box<str>,
        /// Number of the run to be.
        attempt: u32,
        /// The home pod records this very intent already: an earlier leader began.
        resumes: bool,
        /// Another binding of the pod, ordered until then, may still take effect.
        earlier_binding: Option<Timestamp>,
    },
    /// A home pod on our virtual Node was listed, added or changed.
    Home(Box<HomePod>),
    /// It is gone, or not on our virtual Node.
    HomeGone(PodUid),
    /// The list of home pods on our virtual Node is complete; whatever else is known is to be looked up before anything is believed of it.
    HomesListed(FxHashSet<PodUid>),
    /// A run of ours was listed, added or changed.
    Run(Box<RunPod>),
    /// A run is gone.
    RunGone {
        /// Which.
        name: RunName,
        /// Its UID.
        uid: Box<str>,
    },
    /// The list of our runs is complete: whatever else was known is gone.
    RunsListed(FxHashSet<Box<str>>),
    /// What became of an order.
    Done(OrderId, Outcome),
    /// We became leader, or ceased to be. A standby takes in facts and orders nothing.
    Leading(bool),
    /// The cluster answers, or does not.
    Contact(Contact),
    /// What the admin wants.
    Policy(Box<Policy>),
    /// More than half of all clusters were lost at once: it is rather us. Nothing is evicted until this is taken back.
    Suspicion(bool),
    /// Time has passed.
    Tick,
}

/// Whether the cluster can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// It answers, and our watches of it are complete.
    Reachable,
    /// It does not, since then.
    Lost(Timestamp),
}

/// What the admin wants of the cluster, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name of the `ComputeCluster`.
    pub cluster: Box<str>,
    /// UID of its `kube-system`.
    pub cluster_uid: Box<str>,
    /// The run namespace.
    pub run_namespace: Box<str>,
    /// Which write comes first.
    pub commit: Commit,
    /// Partition policy.
    pub lost: Lost,
    /// Present while the cluster is drained.
    pub drain: Option<Drain>,
    /// Runs that cannot be reached count as gone: the cluster is removed by force.
    pub abandoned: bool,
    /// Logs are copied before a run is reaped.
    pub archive_logs: bool,
}

/// Names an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// An effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Do this for a pod; answer with [`Input::Done`].
    Order(Box<Order>),
    /// What became of [`Input::Place`]: tell the engine.
    Answer(PodUid, Result<(), BindFailure>),
    /// Tell people, as an event on the home pod. Not answered.
    Tell(Box<News>),
    /// A run that could not be wiped: keep (cluster UID, home pod) so that it is wiped when the cluster comes back. Not answered.
    Debt(PodKey, PodUid),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// Home pod: namespace and name.
    pub home: PodKey,
    /// Home pod: UID.
    pub uid: PodUid,
    /// What to do.
    pub effect: Effect,
}

/// What is done. Each carries what it needs to be harmless when it comes late: UIDs and versions as preconditions.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write the intent into the home pod's annotations, if it is unbound and not being deleted. `Done`, `Gone`, `BoundElsewhere`, `Retry`.
    Intend(Decision),
    /// Take the intent back (the attempt's number stays). `Done`, `Gone`, `Retry`.
    Withdraw,
    /// POST the binding to the virtual Node, with the decision as annotations; read back when unclear. `Done`, `Gone`, `BoundElsewhere`, `Refused`, `Retry`.
    Bind(Decision),
    /// Read the home pod and what it references, project, create the bundle and the run. `Run` with the run as it is then (created or adopted), `Gone` when the
    /// home pod is gone or being deleted, `Conflict` when [`HomePod::may_create`] says no otherwise, `NameTaken`, `Refused`, `Retry` (also while something
    /// that it references is missing at home).
    CreateRun(Decision),
    /// Read the run live. `Run`, `Absent` (also when something that is not ours has its name), `Retry`.
    CheckRun(RunName),
    /// Read the home pod live. `Home`, `Absent` (also for another UID), `Retry`.
    CheckHome,
    /// Compare-and-swap the annotations to the next attempt. `Done`, `Gone`, `Conflict`, `Retry`.
    CountAttempt {
        /// The version that was judged.
        resource_version: Box<str>,
        /// What they shall say.
        decision: Decision,
    },
    /// Ask the engine for another node of the same cluster. `Node`.
    PlaceAgain {
        /// Nodes that refused it.
        not_on: Vec<Box<str>>,
    },
    /// Patch the home pod's status: `{"metadata": {"resourceVersion": ...}, "status": ...}`, strategic merge, the UID to be added. The version keeps a late
    /// patch from writing an older status over a newer one. `Done`, `Gone`, `Conflict`, `Refused`, `Retry`.
    Mirror(Value),
    /// Let the not-ready and unreachable tolerations hold for ever: only the lost policy evicts. `Done`, `Gone`, `Refused`, `Retry`.
    SetPatience,
    /// Carry over images, resources and ephemeral containers that changed at home. `Done`, `Gone`, `Refused`, `Retry`.
    Propagate(RunName),
    /// Delete the run; `Done` when it is accepted. `Done`, `Absent`, `Conflict`, `Retry`.
    DeleteRun {
        /// Which.
        run: RunName,
        /// Its UID.
        uid: Box<str>,
        /// Its version, when a run that was bound since must not be touched.
        resource_version: Option<Box<str>>,
        /// Grace; `None` is the run's own.
        grace_seconds: Option<u64>,
        /// Drop our finalizer and the bundle too: nothing of it is needed.
        release: bool,
    },
    /// Copy the logs of every container to their end. `Done` (also when there are none any more, which is told), `Retry`.
    ArchiveLogs(RunName),
    /// Delete bundles, finalizer, events and run, and see that nothing is left. `Done` when it is gone, `Retry`.
    Reap {
        /// Which.
        run: RunName,
        /// Its UID.
        uid: Box<str>,
    },
    /// Confirm the deletion at home: DELETE with grace 0 and the UID. `Done`, `Gone`, `Retry`.
    Confirm,
    /// Delete the home pod as a user would, since its run was deleted over there or its cluster is drained or lost. `Done`, `Gone`, `Retry`.
    DeleteHome,
    /// Evict the home pod through the eviction API. `Done`, `Gone`, `Retry`.
    EvictHome,
}

impl Effect {
    /// Its name, for metrics and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Intend(_) => "Intend",
            Self::Withdraw => "Withdraw",
            Self::Bind(_) => "Bind",
            Self::CreateRun(_) => "CreateRun",
            Self::CheckRun(_) => "CheckRun",
            Self::CheckHome => "CheckHome",
            Self::CountAttempt { .. } => "CountAttempt",
            Self::PlaceAgain { .. } => "PlaceAgain",
            Self::Mirror(_) => "Mirror",
            Self::SetPatience => "SetPatience",
            Self::Propagate(_) => "Propagate",
            Self::DeleteRun { .. } => "DeleteRun",
            Self::ArchiveLogs(_) => "ArchiveLogs",
            Self::Reap { .. } => "Reap",
            Self::Confirm => "Confirm",
            Self::DeleteHome => "DeleteHome",
            Self::EvictHome => "EvictHome",
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done, or done already.
    Done,
    /// The run as it is.
    Run(Box<RunPod>),
    /// The home pod as it is.
    Home(Box<HomePod>),
    /// There is no such run, or no such home pod.
    Absent,
    /// The home pod is gone, or another incarnation has its name.
    Gone,
    /// The home pod runs somewhere else.
    BoundElsewhere,
    /// A precondition failed: the object has changed.
    Conflict,
    /// Something that is not ours has the run's name.
    NameTaken,
    /// Repeating it unchanged will not help: what people are to be told.
    Refused(String),
    /// Repeating it may help.
    Retry(String),
    /// Another node of the cluster, or none.
    Node(Option<Box<str>>),
    /// We do not lead any more.
    NotSent,
}

/// News of a pod for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The home pod.
    pub home: PodKey,
    /// Its UID.
    pub uid: PodUid,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// One word.
    pub reason: &'static str,
    /// The text.
    pub note: String,
}

//! `TaskRun.spec` and `TaskRun.status` as they are written. In: serde. Out: plain structs; the CRD's schema is made of them, so the comments here are what
//! `kubectl explain taskrun` says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    spec::{ConcurrencyPolicy, Condition, KeepPod, Limits, Logs, OnDeadline, PodTemplate, Retry},
    time::{Span, Time},
};

/// One run of a task. People give the task and parameters; the rest is filled in once, from the task as it is then, and never changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TaskRunSpec {
    /// The task.
    pub task_ref: TaskRef,
    /// What started it.
    pub trigger: TriggerRef,
    /// The time that its data is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycle: Option<Time>,
    /// When the clock was to start it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
    /// Values of parameters.
    pub params: BTreeMap<String, String>,
    /// Stop it. It cannot be taken back.
    pub cancel: bool,
    /// The run that this one repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<String>,
    /// What was filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
}

/// The task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TaskRef {
    /// Its name.
    pub name: String,
}

/// What started a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TriggerRef {
    /// Manual, Cron, After or Data.
    #[serde(rename = "type")]
    pub kind: TriggerKind,
    /// The whole key that the run's name is made of.
    pub key: String,
}

/// See [`TriggerRef`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TriggerKind {
    /// Somebody.
    #[default]
    Manual,
    /// The clock.
    Cron,
    /// Another task's run.
    After,
    /// Data that arrived.
    Data,
}

/// What a run takes from its task, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Frozen {
    /// UID of the task.
    pub task_uid: String,
    /// Generation of its spec.
    pub task_generation: i64,
    /// Whose quota counts.
    pub account: String,
    /// Scheduling profile.
    pub profile: String,
    /// The pod of each attempt, parameters filled in.
    pub template: PodTemplate,
    /// SHA-256 of the template: no attempt is started of one that was changed.
    pub template_hash: String,
    /// What it waits for before it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// What happens while others are live.
    pub concurrency: RunConcurrency,
    /// The three clocks.
    pub limits: Limits,
    /// How often it is tried.
    pub retry: Retry,
    /// What becomes of logs.
    pub logs: Logs,
    /// How long its pod is kept.
    pub keep_pod: KeepPod,
    /// Its place in the queue, whatever happens to it.
    pub priority_time: Time,
}

/// What a run waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WaitsFor {
    /// Names of tasks, or expressions over what arrives.
    pub all_of: Vec<String>,
    /// Until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// What happens when it passes.
    pub on_deadline: OnDeadline,
}

/// What happens while others are live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RunConcurrency {
    /// See `Task`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ConcurrencyPolicy>,
    /// Most live runs; 0: no bound.
    pub max: u32,
    /// Runs of the task with the same scope count together.
    pub scope: String,
}

/// What became of a run so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskRunStatus {
    /// Waiting, Queued, Launching, Pending, Running, Finishing, Recycling, Reaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// One word why it is where it is.
    pub reason: String,
    /// The text.
    pub message: String,
    /// Queued, Launched, Started, Finished, `LogsSaved`, Reaped.
    pub conditions: Vec<Condition>,
    /// Number of the attempt under way, or the last one.
    pub attempt: u32,
    /// What was used up of the retries.
    pub budget: Budget,
    /// Not tried again before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    /// How often a launch was refused for the time being.
    pub refusals: u32,
    /// Into the queue, for this attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<Time>,
    /// The end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Node of the attempt.
    pub node: String,
    /// The last five attempts.
    pub attempts: Vec<Attempt>,
    /// What it waits for of `waitsFor` and what is there.
    pub arrived: Vec<String>,
    /// Why it is not on a node yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// Clocks whose alarm went off: queue, start, run, deadline.
    pub late: Vec<String>,
    /// Runs that follow this one exist.
    pub followed: bool,
    /// The last state that was announced: Finished, Reaped.
    pub announced: String,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// For other runs, for data, for its turn.
    Waiting,
    /// For quota and pace, or for the time of its next attempt.
    Queued,
    /// Its pod is about to be created.
    Launching,
    /// Its pod exists and does not run yet.
    Pending,
    /// Its pod runs.
    Running,
    /// The attempt has ended or is being ended; logs are saved.
    Finishing,
    /// Its pod is being deleted.
    Recycling,
    /// All is over.
    Reaped,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Every container ended well.
    Succeeded,
    /// A container did not, or no pod could be made of it.
    Failed,
    /// A limit was reached.
    TimedOut,
    /// Somebody stopped it.
    Cancelled,
    /// The cluster failed it too often.
    Lost,
    /// It was not to start.
    Skipped,
}

impl Outcome {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::TimedOut => "TimedOut",
            Self::Cancelled => "Cancelled",
            Self::Lost => "Lost",
            Self::Skipped => "Skipped",
        }
    }
}

/// What was used up of the retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Budget {
    /// After exit codes.
    pub application: u32,
    /// After the cluster failed it.
    pub infrastructure: u32,
    /// After limits.
    pub requeues: u32,
}

/// One attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// Its pod.
    pub pod_name: String,
    /// UID of its pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Where it ran.
    pub node: String,
    /// Its pod was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// It had a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Time>,
    /// It ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// It ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Exit code of the container that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// One word.
    pub reason: String,
    /// The text.
    pub message: String,
    /// Where the logs are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<SavedLogs>,
    /// What became of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reap: Option<Reap>,
}

/// How an attempt ended, as far as retries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ended {
    /// Well.
    Succeeded,
    /// With an exit code.
    Application,
    /// With an exit code after which it is not tried again.
    Fatal,
    /// The cluster failed it.
    Infrastructure,
    /// A limit was reached that fails it.
    TimedOut,
    /// A limit was reached that puts it back into the queue.
    Requeued,
    /// Somebody stopped it.
    Cancelled,
    /// No pod can be made of it.
    Refused,
}

/// Where the logs are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SavedLogs {
    /// Address in the sink.
    pub uri: String,
    /// Bytes of all containers.
    pub bytes: u64,
    /// SHA-256 of the log in hexadecimal digits. Of several: that of the list that `sha256sum` would write of them, in the order of the containers.
    pub sha256: String,
    /// Every container to its end.
    pub complete: bool,
    /// What is missing.
    pub message: String,
}

/// What became of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Reap {
    /// Deleted, `AlreadyGone`, Replaced, Forbidden, Stuck, Forced, Kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ReapResult>,
    /// The deletion was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Time>,
    /// It was seen gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Time>,
    /// How often it was asked for.
    pub tries: u32,
    /// What stood in the way.
    pub message: String,
}

/// See [`Reap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReapResult {
    /// We asked, and it is gone.
    Deleted,
    /// It was gone before we asked.
    AlreadyGone,
    /// Its name belongs to a pod that is not ours, which was left alone.
    Replaced,
    /// We may not delete it.
    Forbidden,
    /// It does not go.
    Stuck,
    /// It was deleted without its node's word.
    Forced,
    /// It is kept for people to look at.
    Kept,
}

/// Why a run is not on a node yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Pending {
    /// Since when.
    pub since: Time,
    /// One word.
    pub reason: String,
    /// The text.
    pub detail: String,
}

impl Frozen {
    /// Bound of a limit's grace.
    pub fn grace(&self) -> &Span {
        &self.limits.grace
    }
}

impl TaskRunStatus {
    /// The attempt under way, or the last one.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}

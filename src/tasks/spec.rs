//! `Task.spec` and `Task.status` (`isobar.dev/v1alpha1`) as they are written. In: serde. Out: plain structs with every default filled in; the CRD's schema is
//! made of them, so the comments here are what `kubectl explain task.spec` says.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::{Span, Time};

/// A task: what is to run, when, and what becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TaskSpec {
    /// Whose quota its runs count against; it becomes a label. Empty: the namespace's own.
    pub account: String,
    /// No trigger starts a run; people still can. What the clock would have started meanwhile is not made up for.
    pub suspend: bool,
    /// Parameters of a run.
    pub params: Vec<Param>,
    /// The pod of each attempt, whole: containers, init containers, volumes, all that a pod template has. $(name) stands for a parameter in args, in values of
    /// env and in annotations, nowhere else.
    pub template: PodTemplate,
    /// Architectures that its images run on, as kubernetes.io/arch has them; empty: any that the images have.
    pub architectures: Vec<String>,
    /// Scheduling profile, which is the scheduler's name in the pod. Empty: what the template says, else isobar-scheduler.
    pub profile: String,
    /// What starts a run, besides people.
    pub triggers: Vec<Trigger>,
    /// What happens when a run is to start while others are live.
    pub concurrency: Concurrency,
    /// The three clocks.
    pub limits: Limits,
    /// How often a run is tried.
    pub retry: Retry,
    /// How long runs that have ended are kept.
    pub retention: Retention,
    /// What becomes of logs.
    pub logs: Logs,
}

/// A parameter of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Param {
    /// Its name.
    pub name: String,
    /// String, Integer or Boolean.
    #[serde(rename = "type")]
    pub kind: ParamKind,
    /// What it is when a run does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Regular expression that the whole value must match.
    pub pattern: String,
    /// A run without it is refused.
    pub required: bool,
    /// What it means, for people.
    pub description: String,
}

/// See [`Param::kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParamKind {
    /// Any text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// true or false.
    Boolean,
}

/// A pod template, opaque: the API server judges it when the first pod is made of it. Its full schema would weigh as much as all other kinds together and
/// would freeze the fields of one Kubernetes version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodTemplate(pub Value);

impl JsonSchema for PodTemplate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["spec"],
            "properties": {
                "metadata": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                "spec": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                    "required": ["containers"],
                    "properties": {
                        "containers": {
                            "type": "array", "minItems": 1, "maxItems": 32,
                            "items": {
                                "type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["name"],
                                "properties": { "name": { "type": "string", "minLength": 1, "maxLength": 63 } },
                            },
                        },
                    },
                },
            },
        })
    }
}

/// What starts a run. Exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Trigger {
    /// The clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// Runs of other tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Data that arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
}

/// A start by the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Cron {
    /// Minute, hour, day of month, month, day of week.
    pub schedule: String,
    /// IANA zone of the schedule. Default: UTC.
    pub time_zone: String,
    /// Added to the scheduled time, it gives the cycle: -6m, or 3h. Default: none.
    pub cycle_offset: String,
    /// What happens with times that went by.
    pub missed: Missed,
}

/// What happens with scheduled times at which nobody could start a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Missed {
    /// Skip: none is made up for. Latest: the last one is. All: the last `max` are.
    pub policy: MissedPolicy,
    /// Times that are longer ago are not made up for. Default: 1m with Skip, else none.
    pub deadline: Span,
    /// Most runs that are made up for at once with All. Default: 24.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// See [`Missed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MissedPolicy {
    /// None is made up for.
    Skip,
    /// The last one is.
    #[default]
    Latest,
    /// The last `max` are.
    All,
}

/// A start after runs of other tasks of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct After {
    /// All of these. With one, each of its runs starts a run here; with several, there is one run here for each cycle.
    pub tasks: Vec<Upstream>,
    /// How long after the first of them the others may take. Default: no bound.
    pub deadline: Span,
    /// What happens when the deadline passes.
    pub on_deadline: OnDeadline,
}

/// A task that is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// How its run must have ended.
    pub when: When,
}

/// How a run must have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum When {
    /// It succeeded.
    #[default]
    Succeeded,
    /// It ended without having succeeded.
    Failed,
    /// It ended.
    Finished,
}

/// What happens when not all has come in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDeadline {
    /// The run is skipped.
    #[default]
    Skip,
    /// It starts with what is there.
    Run,
    /// It goes on waiting, and people are told.
    Alarm,
}

/// A start because data arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Data {
    /// Name of a data source of the configuration.
    pub source: String,
    /// Regular expression over the name of what arrived. Its groups `(?<name>...)` are parameters; the group `cycle` is the cycle, its digits being year,
    /// month, day, hour and minute.
    #[serde(rename = "match")]
    pub matches: String,
    /// Further expressions. With some, there is one run for each cycle, which waits for `match` and all of these.
    pub all_of: Vec<String>,
    /// How long after the first of them the others may take. Default: no bound.
    pub deadline: Span,
    /// What happens when the deadline passes.
    pub on_deadline: OnDeadline,
}

/// What happens when a run is to start while others are live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Concurrency {
    /// Forbid: it is skipped. Allow: it starts, up to `max`. Replace: the oldest is cancelled. Queue: it waits its turn. Default: Queue for data and
    /// where All that was missed is made up for, else Forbid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ConcurrencyPolicy>,
    /// Most live runs. Default: 1, with Allow no bound.
    #[schemars(range(min = 1, max = 10000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// task: all its runs count together. param:NAME: those with the same value of a parameter.
    pub scope: String,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { policy: None, max: None, scope: "task".to_owned() }
    }
}

/// See [`Concurrency`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It is skipped.
    Forbid,
    /// It starts.
    Allow,
    /// The oldest is cancelled.
    Replace,
    /// It waits its turn.
    Queue,
}

/// The three clocks of each attempt. A limit or an alarm of 0s is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// From the queue to a node. Default: alarm after 5m, no limit.
    pub queue: Clock,
    /// From there until it runs: pulling images, mounting. Default: limit 15m, Requeue.
    pub start: Clock,
    /// From there to the end. Its limit must be given; default Fail.
    pub run: Clock,
    /// How long containers have to end when they are stopped. Default: 30s.
    pub grace: Span,
}

/// One clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Clock {
    /// People are told after so long.
    pub alarm: Span,
    /// The attempt is stopped after so long.
    pub limit: Span,
    /// Whether the run goes back to the queue then, or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<LimitAction>,
}

/// What becomes of a run whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LimitAction {
    /// Back to the queue, in its old place.
    Requeue,
    /// It has timed out.
    Fail,
}

/// How often a run is tried, by what went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// Attempts more after an exit code. Default: 0.
    #[schemars(range(max = 100))]
    pub application: u32,
    /// Attempts more after the cluster failed it: evicted, node lost, pod deleted. Default: 10.
    #[schemars(range(max = 100))]
    pub infrastructure: u32,
    /// How often a limit may put it back into the queue. Default: 10.
    #[schemars(range(max = 100))]
    pub requeues: u32,
    /// Exit codes after which it is not tried again.
    pub fatal_exit_codes: Vec<i32>,
    /// How long it waits in between.
    pub backoff: Backoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self { application: 0, infrastructure: 10, requeues: 10, fatal_exit_codes: Vec::new(), backoff: Backoff::default() }
    }
}

/// How long a run waits before it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Backoff {
    /// The first time. Default: 30s.
    pub initial: Span,
    /// By so much longer each time. Default: 2.
    #[schemars(range(min = 1, max = 10))]
    pub factor: u32,
    /// At most. Default: 10m.
    pub max: Span,
    /// Spread by so many percent. Default: 20.
    #[schemars(range(max = 100))]
    pub jitter_percent: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Span::default(), factor: 2, max: Span::default(), jitter_percent: 20 }
    }
}

/// How long runs that have ended are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Retention {
    /// Those that succeeded. Default: 20, 24h.
    pub succeeded: Keep,
    /// All others. Default: 20, 168h.
    pub failed: Keep,
    /// How long their pods are kept.
    pub pod: KeepPod,
}

/// So many, and so long after their end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Keep {
    /// At most so many.
    #[schemars(range(max = 10000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// For so long.
    pub ttl: Span,
}

/// How long pods of runs that have ended are kept, for those who want to look. Default: not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct KeepPod {
    /// Of runs that succeeded.
    pub succeeded: Span,
    /// Of all others.
    pub failed: Span,
}

/// What becomes of logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Logs {
    /// Name of a log sink of the configuration. Default: default.
    pub sink: String,
    /// More than so many bytes of a container are cut off. Default: 64 MiB.
    #[schemars(range(min = 0))]
    pub bytes_max: u64,
    /// A pod waits until its logs are saved, for at most so long. Default: 2m.
    pub deadline: Span,
}

impl Default for Logs {
    fn default() -> Self {
        Self { sink: "default".to_owned(), bytes_max: 64 << 20, deadline: Span::default() }
    }
}

/// What is known of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskStatus {
    /// Generation of the spec that this is about.
    pub observed_generation: i64,
    /// Valid: whether runs can be made of the spec, and if not, why.
    pub conditions: Vec<Condition>,
    /// Scheduled times up to this one are settled: a run exists, or was not to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scheduled: Option<Time>,
    /// The next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_scheduled: Option<Time>,
    /// It was suspended when we looked last.
    pub suspended: bool,
    /// Arrivals that are settled: seconds since 1970 in base 36, a colon, ten hexadecimal digits of the key's hash.
    pub remembered: Vec<String>,
    /// Arrivals up to this time are not remembered any more, and refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten_until: Option<Time>,
}

/// A condition as Kubernetes has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// What is said.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word.
    pub reason: String,
    /// The text.
    pub message: String,
    /// Since when.
    pub last_transition_time: Time,
}

/// Sets a condition; the time changes only with the status.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|old| old.kind == new.kind) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time;
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

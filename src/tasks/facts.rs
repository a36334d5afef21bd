//! What the machine knows of runs, pods and tasks. In: their JSON objects. Out: the few fields that its rules read; templates are left with the API server.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize as _;
use serde_json::Value;

use super::{
    names,
    run::{Frozen, Phase, TaskRunSpec, TaskRunStatus, TriggerRef},
    spec::{TaskSpec, TaskStatus},
    time::Time,
};
use crate::model::{quantity::Quantity, time::Timestamp};

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
}

impl Key {
    /// A key from its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    fn read(metadata: &Value) -> Option<Self> {
        let name = metadata["name"].as_str().filter(|name| !name.is_empty())?;
        Some(Self::new(metadata["namespace"].as_str().unwrap_or_default(), name))
    }
}

fn text(value: &Value) -> Box<str> {
    value.as_str().unwrap_or_default().into()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(Timestamp::parse_rfc3339)
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// What is wanted, or why that cannot be read.
    pub spec: Result<Arc<TaskSpec>, String>,
    /// What is known.
    pub status: TaskStatus,
}

impl Task {
    /// Reads an object; `None` for one without a name.
    pub fn read(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        Some(Self {
            key: Key::read(metadata)?,
            uid: text(&metadata["uid"]),
            resource_version: text(&metadata["resourceVersion"]),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            created: time(&metadata["creationTimestamp"]).unwrap_or_default(),
            deleting: !metadata["deletionTimestamp"].is_null(),
            spec: TaskSpec::deserialize(&object["spec"]).map(Arc::new).map_err(|error| error.to_string()),
            status: TaskStatus::deserialize(&object["status"]).unwrap_or_default(),
        })
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// The task.
    pub task: Box<str>,
    /// What started it.
    pub trigger: TriggerRef,
    /// The time that its data is about.
    pub cycle: Option<Timestamp>,
    /// When it was to start.
    pub scheduled: Option<Timestamp>,
    /// Values of parameters as they were given, until the rest is filled in.
    pub given: BTreeMap<String, String>,
    /// Somebody stops it.
    pub cancel: bool,
    /// What it took from its task, without the template.
    pub frozen: Option<Arc<Frozen>>,
    /// What admission reads of the template.
    pub demand: Arc<Demand>,
    /// What cannot be read of it.
    pub unreadable: Option<String>,
    /// What became of it.
    pub status: TaskRunStatus,
}

/// What admission reads of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// `priorityClassName`.
    pub priority_class: Box<str>,
    /// Requests of all containers, in thousandths, by resource.
    pub requests: BTreeMap<String, u64>,
}

impl Run {
    /// Reads an object; `None` for one without a name.
    pub fn read(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        let (mut spec, unreadable) = match TaskRunSpec::deserialize(&object["spec"]) {
            Ok(spec) => (spec, None),
            Err(error) => (TaskRunSpec::default(), Some(error.to_string())),
        };
        let template = spec.frozen.as_mut().map(|frozen| std::mem::take(&mut frozen.template));
        Some(Self {
            key: Key::read(metadata)?,
            uid: text(&metadata["uid"]),
            resource_version: text(&metadata["resourceVersion"]),
            created: time(&metadata["creationTimestamp"]).unwrap_or_default(),
            deleting: !metadata["deletionTimestamp"].is_null(),
            task: spec.task_ref.name.into(),
            trigger: spec.trigger,
            cycle: spec.cycle.map(|time| time.0),
            scheduled: spec.scheduled_time.map(|time| time.0),
            given: if spec.frozen.is_some() { BTreeMap::new() } else { spec.params },
            cancel: spec.cancel,
            demand: Arc::new(template.map(|template| Demand::of(&template.0["spec"])).unwrap_or_default()),
            frozen: spec.frozen.map(Arc::new),
            unreadable,
            status: TaskRunStatus::deserialize(&object["status"]).unwrap_or_default(),
        })
    }

    /// Where it stands; `None`: nobody has looked at it yet.
    pub fn phase(&self) -> Option<Phase> {
        self.status.phase
    }

    /// Whether it is over but for what is left to be deleted.
    pub fn is_reaped(&self) -> bool {
        self.status.phase == Some(Phase::Reaped)
    }

    /// Its place in the queue.
    pub fn order(&self) -> (Timestamp, &Key) {
        (self.frozen.as_ref().map_or(self.created, |frozen| frozen.priority_time.0), &self.key)
    }
}

impl Demand {
    fn of(spec: &Value) -> Self {
        let mut requests = BTreeMap::new();
        let containers = spec["containers"].as_array().into_iter().flatten();
        for (resource, amount) in containers.flat_map(|one| one["resources"]["requests"].as_object().into_iter().flatten()) {
            let shown = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            let milli = Quantity::parse(&shown).ok().and_then(|quantity| u64::try_from(quantity.milli()).ok()).unwrap_or(0);
            let sum = requests.entry(resource.clone()).or_insert(0_u64);
            *sum = sum.saturating_add(milli);
        }
        Self { priority_class: text(&spec["priorityClassName"]), requests }
    }
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Also what is not said.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// All ended with 0.
    Succeeded,
    /// One did not.
    Failed,
}

/// A pod of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// Name of the run, by its label.
    pub run: Box<str>,
    /// UID of the run that owns it.
    pub owner: Box<str>,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp`: when the grace is over.
    pub deletion: Option<Timestamp>,
    /// Our finalizer is there.
    pub held: bool,
    /// `spec.nodeName`.
    pub node: Box<str>,
    /// Where it stands.
    pub phase: PodPhase,
    /// A container ran since.
    pub started: Option<Timestamp>,
    /// The last container ended.
    pub finished: Option<Timestamp>,
    /// The container that failed.
    pub exit: Option<Exit>,
    /// The cluster ended it: `Evicted` and the like.
    pub disruption: Option<(Box<str>, Box<str>)>,
    /// Why it has no node, or what its containers wait for.
    pub waiting: Option<(Box<str>, Box<str>)>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: i32,
    /// Signal.
    pub signal: Option<i32>,
    /// One word.
    pub reason: Box<str>,
    /// The text.
    pub message: Box<str>,
}

impl Pod {
    /// Reads an object; `None` for one without a name.
    pub fn read(object: &Value) -> Option<Self> {
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let owner =
            owners.filter(|owner| owner["kind"] == "TaskRun" && owner["controller"] == true).map(|owner| text(&owner["uid"])).next();
        let lists = ["initContainerStatuses", "containerStatuses"];
        let states: Vec<&Value> = lists.iter().flat_map(|list| status[*list].as_array().into_iter().flatten()).collect();
        let ended = |one: &&Value| !one["state"]["terminated"].is_null();
        let starts = states.iter().flat_map(|one| [&one["state"]["running"]["startedAt"], &one["state"]["terminated"]["startedAt"]]);
        let phase = match status["phase"].as_str() {
            Some("Running") => PodPhase::Running,
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            _ => PodPhase::Pending,
        };
        let started = starts.filter_map(time).min();
        Some(Self {
            key: Key::read(metadata)?,
            uid: text(&metadata["uid"]),
            resource_version: text(&metadata["resourceVersion"]),
            run: text(&metadata["labels"][names::RUN]),
            owner: owner.unwrap_or_default(),
            created: time(&metadata["creationTimestamp"]),
            deletion: time(&metadata["deletionTimestamp"]),
            held: metadata["finalizers"].as_array().into_iter().flatten().any(|one| one == names::LOGS_FINALIZER),
            node: text(&spec["nodeName"]),
            phase,
            started: started.or_else(|| time(&status["startTime"]).filter(|_| phase != PodPhase::Pending)),
            finished: states.iter().filter_map(|one| time(&one["state"]["terminated"]["finishedAt"])).max(),
            exit: states.iter().filter(|one| ended(one)).map(|one| Exit::read(&one["state"]["terminated"])).find(|exit| exit.code != 0),
            disruption: disruption(status),
            waiting: waiting(status, &states),
        })
    }

    /// Whether it never runs again.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
}

impl Exit {
    fn read(terminated: &Value) -> Self {
        let number = |key: &str| terminated[key].as_i64().and_then(|number| i32::try_from(number).ok());
        let message = terminated["message"].as_str().unwrap_or_default();
        Self {
            code: number("exitCode").unwrap_or(-1),
            signal: number("signal").filter(|signal| *signal != 0),
            reason: text(&terminated["reason"]),
            message: message[..message.floor_char_boundary(1_024)].into(),
        }
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|one| one["type"] == kind)
}

/// Why the cluster ended a pod: it says so by a condition, or by a reason that no container gives.
fn disruption(status: &Value) -> Option<(Box<str>, Box<str>)> {
    let target = condition(status, "DisruptionTarget").filter(|one| one["status"] == "True");
    let reason = status["reason"].as_str().filter(|reason| !matches!(*reason, "" | "DeadlineExceeded"));
    match (target, reason) {
        (Some(target), _) => Some((text(&target["reason"]), text(&target["message"]))),
        (None, Some(reason)) => Some((reason.into(), text(&status["message"]))),
        (None, None) => None,
    }
}

fn waiting(status: &Value, states: &[&Value]) -> Option<(Box<str>, Box<str>)> {
    let held = states.iter().map(|one| &one["state"]["waiting"]).find(|waiting| waiting["reason"].is_string());
    let unscheduled = condition(status, "PodScheduled").filter(|one| one["status"] == "False");
    let found = unscheduled.or(held)?;
    let message = found["message"].as_str().unwrap_or_default();
    Some((text(&found["reason"]), message[..message.floor_char_boundary(512)].into()))
}

/// Whether a version is older than another of the same object; versions are numbers that grow.
pub fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

/// A time as statuses bear it.
pub fn written(at: Timestamp) -> Option<Time> {
    Some(Time::from(at))
}

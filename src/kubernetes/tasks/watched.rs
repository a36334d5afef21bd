//! What the room watches: tasks, runs, pods of runs, readiness of nodes. In: JSON objects, of which nothing is kept but the facts. Out: [`Seen`].

use std::{borrow::Cow, collections::BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    federation::names::CLUSTER,
    kubernetes::{
        runs::{logs::logged, watched::Whole},
        wire::{MetaWire, Watched},
    },
    model::ids::ClusterId,
    tasks::facts::{Key, Pod, Run, Task},
};

/// A kind that the machine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Task.
    Task,
    /// `TaskRun`.
    Run,
    /// Pod of a run.
    Pod,
}

/// What a watch tells the worker.
#[derive(Debug)]
pub enum Seen {
    /// A task.
    Task(Box<Task>),
    /// A run.
    Run(Box<Run>),
    /// A pod of a run.
    Pod(Box<SeenPod>),
    /// An object of this key and UID is gone.
    Gone(Kind, Key, Box<str>),
    /// The list is complete: UIDs.
    Listed(Kind, BTreeSet<Box<str>>),
    /// A node is ready, or not.
    Node(Box<str>, bool),
    /// A node is gone.
    NodeGone(Box<str>),
    /// The list of nodes is complete: names.
    NodesListed(BTreeSet<Box<str>>),
}

/// A pod, and who speaks in it.
#[derive(Debug)]
pub struct SeenPod {
    /// The pod.
    pub pod: Pod,
    /// Containers that run: name and which life. None of a pod that runs on a compute cluster: the federation copies those logs.
    pub speaking: Speaking,
}

/// Containers that run: name and which life.
pub type Speaking = Vec<(Box<str>, Box<str>)>;

/// An object is known by UID, namespace and name; no part of the three has a slash.
fn key(meta: &MetaWire<'_>) -> Box<str> {
    format!("{}/{}/{}", meta.uid.as_str(), meta.namespace.as_str(), meta.name.as_str()).into()
}

fn gone(kind: Kind, key: &str) -> Seen {
    let mut parts = key.splitn(3, '/');
    let (uid, namespace, name) = (parts.next(), parts.next(), parts.next());
    Seen::Gone(kind, Key::new(namespace.unwrap_or_default(), name.unwrap_or_default()), uid.unwrap_or_default().into())
}

fn listed(kind: Kind, keys: &[Box<str>]) -> Seen {
    Seen::Listed(kind, keys.iter().map(|key| key.split('/').next().unwrap_or_default().into()).collect())
}

macro_rules! watched {
    ($type:ty, $kind:expr, $name:literal, $resource:literal, $path:literal, $read:expr, $seen:expr) => {
        impl Watched for $type {
            const KIND: &'static str = $name;
            const RESOURCE: &'static str = $resource;
            const PATH: &'static str = $path;
            const FIELD_SELECTOR: &'static str = "";
            type Wire<'a> = Whole;
            type Input = Seen;

            fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
                wire.meta()
            }
            fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
                $read(&wire.take()).ok_or(Cow::Borrowed("it has no name"))
            }
            fn of(self, _: ClusterId) -> Self {
                self
            }
            fn key(meta: &MetaWire<'_>) -> Box<str> {
                key(meta)
            }
            fn seen(self) -> Seen {
                $seen(Box::new(self))
            }
            fn gone(_: ClusterId, key: Box<str>) -> Seen {
                gone($kind, &key)
            }
            fn listed(_: ClusterId, keys: Vec<Box<str>>) -> Seen {
                listed($kind, &keys)
            }
        }
    };
}

watched!(Task, Kind::Task, "Task", "tasks", "/apis/isobar.dev/v1alpha1/tasks", Task::read, Seen::Task);
watched!(Run, Kind::Run, "TaskRun", "taskruns", "/apis/isobar.dev/v1alpha1/taskruns", Run::read, Seen::Run);
watched!(SeenPod, Kind::Pod, "Pod", "pods", "/api/v1/pods", SeenPod::read, Seen::Pod);

impl SeenPod {
    fn read(object: &Value) -> Option<Self> {
        let is_abroad = object["metadata"]["annotations"][CLUSTER].as_str().is_some_and(|cluster| !cluster.is_empty());
        let speaking = if is_abroad { Vec::new() } else { logged(&object["status"]) };
        let speaking = speaking.into_iter().filter(|one| one.running).map(|one| (one.name.into(), one.id.into())).collect();
        Some(Self { pod: Pod::read(object)?, speaking })
    }
}

/// A node, as far as it says whether its pods are lost.
#[derive(Debug)]
pub struct NodeReadiness {
    name: Box<str>,
    ready: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeWire<'a> {
    #[serde(borrow)]
    metadata: MetaWire<'a>,
    status: NodeStatusWire,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatusWire {
    conditions: Option<Vec<ConditionWire>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionWire {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Watched for NodeReadiness {
    const KIND: &'static str = "Node";
    const RESOURCE: &'static str = "nodes";
    const PATH: &'static str = "/api/v1/nodes";
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = NodeWire<'a>;
    type Input = Seen;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.metadata
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        let ready = wire.status.conditions.iter().flatten().find(|condition| condition.kind == "Ready");
        // A node that has said nothing yet has lost nothing.
        Ok(Self { name: wire.metadata.name.boxed(), ready: ready.is_none_or(|ready| ready.status == "True") })
    }
    fn of(self, _: ClusterId) -> Self {
        self
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.name.boxed()
    }
    fn seen(self) -> Seen {
        Seen::Node(self.name, self.ready)
    }
    fn gone(_: ClusterId, key: Box<str>) -> Seen {
        Seen::NodeGone(key)
    }
    fn listed(_: ClusterId, keys: Vec<Box<str>>) -> Seen {
        Seen::NodesListed(keys.into_iter().collect())
    }
}

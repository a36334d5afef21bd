//! The three watches of a cluster's runs: home pods on the virtual Node, runs over there, events of runs. In: whole JSON objects, of which nothing is kept but
//! the facts. Out: [`Seen`] for the worker.

use std::{borrow::Cow, cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::port::text;
use crate::{
    federation::{
        effect::Input,
        facts::{HomePod, RunName, RunPod},
    },
    kubernetes::wire::{MetaWire, Watched},
    model::ids::{ClusterId, PodUid},
};

/// What a watch tells the worker.
#[derive(Debug)]
pub enum Seen {
    /// Something for the machine.
    Fact(Input),
    /// An event over there.
    Event(Box<RunEvent>),
    /// Events that expired, or were there all along.
    Nothing,
}

/// An event about a pod in the run namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEvent {
    /// Its own UID.
    pub uid: Box<str>,
    /// UID of the pod that it is about.
    pub run: Box<str>,
    /// Name of the container, when it is about one.
    pub container: Option<Box<str>>,
    /// `Normal` or `Warning`.
    pub kind: Box<str>,
    /// One word.
    pub reason: Box<str>,
    /// The text.
    pub message: Box<str>,
    /// Who says so: `kubelet`.
    pub component: Box<str>,
    /// How often.
    pub count: u64,
    /// When first and last, as they were written.
    pub seen: [Box<str>; 2],
}

/// An object read as a whole.
#[derive(Debug)]
pub struct Whole {
    meta: MetaWire<'static>,
    /// Taken when facts are made of it.
    object: RefCell<Value>,
}

impl Whole {
    /// Its metadata, as far as watches need them.
    pub fn meta(&self) -> &MetaWire<'static> {
        &self.meta
    }

    /// The object itself, once.
    pub fn take(&self) -> Value {
        self.object.take()
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let named = ["name", "namespace", "uid", "resourceVersion"].map(|field| (field, object["metadata"][field].clone()));
        let meta = json!(named.into_iter().filter(|(_, value)| value.is_string()).collect::<BTreeMap<_, _>>());
        // Only texts are left, and none is required.
        Ok(Self { meta: MetaWire::deserialize(meta).unwrap_or_default(), object: RefCell::new(object) })
    }
}

impl Watched for HomePod {
    const KIND: &'static str = "Pod";
    const RESOURCE: &'static str = "pods";
    const PATH: &'static str = "/api/v1/pods";
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = Whole;
    type Input = Seen;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.meta
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        // The selection shows pods on the virtual Node alone.
        let pod = wire.object.take();
        Self::read(&pod, text(&pod, "/spec/nodeName")).map_err(|bad| bad.what.into())
    }
    fn of(self, _: ClusterId) -> Self {
        self
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.uid.boxed()
    }
    fn seen(self) -> Seen {
        Seen::Fact(Input::Home(Box::new(self)))
    }
    fn gone(_: ClusterId, key: Box<str>) -> Seen {
        Seen::Fact(Input::HomeGone(key.into()))
    }
    fn listed(_: ClusterId, keys: Vec<Box<str>>) -> Seen {
        Seen::Fact(Input::HomesListed(keys.into_iter().map(PodUid::from).collect()))
    }
}

impl Watched for RunPod {
    const KIND: &'static str = "run";
    const RESOURCE: &'static str = "pods";
    const PATH: &'static str = "/api/v1/pods";
    const FIELD_SELECTOR: &'static str = "";
    type Wire<'a> = Whole;
    type Input = Seen;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.meta
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        Self::read(wire.object.take()).map_err(|bad| bad.what.into())
    }
    fn of(self, _: ClusterId) -> Self {
        self
    }
    /// A run that is gone is named as well; no part of the three has a slash.
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        format!("{}/{}/{}", meta.uid.as_str(), meta.namespace.as_str(), meta.name.as_str()).into()
    }
    fn seen(self) -> Seen {
        Seen::Fact(Input::Run(Box::new(self)))
    }
    fn gone(_: ClusterId, key: Box<str>) -> Seen {
        let (uid, rest) = key.split_once('/').unwrap_or((&key, ""));
        let (namespace, name) = rest.split_once('/').unwrap_or_default();
        Seen::Fact(Input::RunGone { name: RunName { namespace: namespace.into(), name: name.into() }, uid: uid.into() })
    }
    fn listed(_: ClusterId, keys: Vec<Box<str>>) -> Seen {
        Seen::Fact(Input::RunsListed(keys.iter().map(|key| key.split('/').next().unwrap_or_default().into()).collect()))
    }
}

impl Watched for RunEvent {
    const KIND: &'static str = "Event";
    const RESOURCE: &'static str = "events";
    const PATH: &'static str = "/api/v1/events";
    const FIELD_SELECTOR: &'static str = "involvedObject.kind%3DPod";
    type Wire<'a> = Whole;
    type Input = Seen;

    fn meta<'w, 'a>(wire: &'w Self::Wire<'a>) -> &'w MetaWire<'a> {
        &wire.meta
    }
    fn facts(wire: &Self::Wire<'_>) -> Result<Self, Cow<'static, str>> {
        let event = &wire.object.take();
        let some = |pointers: [&str; 2]| {
            Box::from(pointers.iter().map(|pointer| text(event, pointer)).find(|text| !text.is_empty()).unwrap_or(""))
        };
        // `spec.containers{web}`.
        let path = text(event, "/involvedObject/fieldPath");
        let container = path.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}')).map(Box::from);
        let count = ["/series/count", "/count"].iter().find_map(|pointer| event.pointer(pointer)?.as_u64());
        Ok(Self {
            uid: text(event, "/metadata/uid").into(),
            run: text(event, "/involvedObject/uid").into(),
            container,
            kind: text(event, "/type").into(),
            reason: text(event, "/reason").into(),
            message: text(event, "/message").into(),
            component: some(["/source/component", "/reportingComponent"]),
            count: count.unwrap_or(1),
            seen: [some(["/firstTimestamp", "/eventTime"]), some(["/lastTimestamp", "/series/lastObservedTime"])],
        })
    }
    fn of(self, _: ClusterId) -> Self {
        self
    }
    fn key(meta: &MetaWire<'_>) -> Box<str> {
        meta.uid.boxed()
    }
    fn seen(self) -> Seen {
        Seen::Event(Box::new(self))
    }
    fn gone(_: ClusterId, _: Box<str>) -> Seen {
        Seen::Nothing
    }
    fn listed(_: ClusterId, _: Vec<Box<str>>) -> Seen {
        Seen::Nothing
    }
}

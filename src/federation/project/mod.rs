//! A home pod becomes a run. In: the pod, what it references as it is now, the cluster's wishes. Out: the run and the Secrets that travel with it, or the
//! obstacle, with the field's path.
//!
//! What travels is a list of what may; a field that is not on it is refused by name, so that nothing of a newer Kubernetes is dropped in silence. Never on
//! the way: tokens, annotations, keys that nothing references.

mod bundle;
mod container;
mod env;
mod fields;
mod pod;
mod references;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub(super) use container::rewritten;
pub use references::references;

use self::bundle::Bundles;
use super::{
    facts::Decision,
    names,
    spec::{ComputeClusterSpec, Pin},
};

/// Why a pod cannot travel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It cannot as it is.
    #[error("{path}: {what}")]
    Field {
        /// The field.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something that it references is not there yet.
    #[error("{path}: {what}")]
    Missing {
        /// The field.
        path: String,
        /// What is missing.
        what: String,
    },
}

impl Obstacle {
    fn field(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Field { path: path.into(), what: what.into() }
    }

    fn missing(path: &str, what: String) -> Self {
        Self::Missing { path: path.to_owned(), what }
    }

    /// Whether trying again later can help: as on any node, the pod waits for what it references.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// Kinds of objects that pods reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `ConfigMap`.
    ConfigMap,
    /// Secret.
    Secret,
    /// `PersistentVolumeClaim`.
    Claim,
}

/// An object of the pod's namespace that has to be read before the pod can travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Box<str>,
    /// The pod does without it.
    pub optional: bool,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Objects(BTreeMap<(Kind, Box<str>), Value>);

impl Objects {
    /// Takes in an object.
    pub fn insert(&mut self, kind: Kind, name: Box<str>, object: Value) {
        self.0.insert((kind, name), object);
    }

    fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.0.get(&(kind, name.into()))
    }
}

/// Where a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The cluster as it is configured.
    pub spec: &'a ComputeClusterSpec,
    /// What was decided.
    pub decision: &'a Decision,
    /// UID of the home cluster's `kube-system`.
    pub home_cluster_uid: &'a str,
}

/// What is created over there: the bundles first.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// The run.
    pub run: Value,
    /// Secrets that it reads.
    pub bundles: Vec<Value>,
}

/// What all parts of the transformation read, and what they collect.
struct Travel<'a> {
    home: &'a Value,
    namespace: &'a str,
    target: Target<'a>,
    bundles: Bundles<'a>,
    /// Annotations of the run that volumes of the downward API show.
    annotations: Map<String, Value>,
}

/// The run of a home pod.
pub fn project(home: &Value, objects: &Objects, target: &Target<'_>) -> Result<Projection, Obstacle> {
    let text = |pointer: &str| home.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let named = |pointer: &str| text(pointer).ok_or_else(|| Obstacle::field(pointer[1..].replace('/', "."), "is missing"));
    let (namespace, name, uid) = (named("/metadata/namespace")?, named("/metadata/name")?, named("/metadata/uid")?);
    let run = &target.decision.run;
    let bundles = Bundles::new(objects, &run.name);
    let mut travel = Travel { home, namespace, target: *target, bundles, annotations: Map::new() };
    let spec = pod::spec(&mut travel)?;
    let labels = labels(target, uid);
    let whose = [(names::RUN_HOME_NAMESPACE, namespace), (names::RUN_HOME_NAME, name)];
    let whose: Map<String, Value> = whose.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let bundles = travel.bundles.finish(&run.namespace, &labels, &whose);
    let mut annotations = travel.annotations;
    annotations.extend(whose);
    annotations.insert(names::RUN_HOME_GENERATION.to_owned(), generation(home).to_string().into());
    let mut metadata = json!({ "namespace": &*run.namespace, "name": &*run.name, "annotations": annotations });
    let mut all_labels = exported(home, target.spec);
    all_labels.extend(labels);
    metadata["labels"] = Value::Object(all_labels);
    if text("/spec/restartPolicy").is_some_and(|policy| policy != "Always") {
        metadata["finalizers"] = json!([names::RUN_FINALIZER]);
    }
    Ok(Projection { run: json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }), bundles })
}

/// The generation that the run reflects when it is created: ephemeral containers can be added to it only afterwards.
fn generation(home: &Value) -> i64 {
    let generation = home["metadata"]["generation"].as_i64().unwrap_or_default();
    let has_ephemeral = home["spec"]["ephemeralContainers"].as_array().is_some_and(|list| !list.is_empty());
    generation - i64::from(has_ephemeral)
}

fn labels(target: &Target<'_>, uid: &str) -> Map<String, Value> {
    let pairs = [
        (names::RUN_HOME_CLUSTER, target.home_cluster_uid.to_owned()),
        (names::RUN_HOME_UID, uid.to_owned()),
        (names::ATTEMPT, target.decision.attempt.to_string()),
        (names::MANAGED_BY, names::MANAGER.to_owned()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

fn exported(home: &Value, spec: &ComputeClusterSpec) -> Map<String, Value> {
    let labels = &home["metadata"]["labels"];
    let keys = spec.exported_labels.iter().filter(|key| !key.starts_with("isobar.dev/"));
    keys.filter_map(|key| Some((key.clone(), labels.get(key)?.as_str()?.into()))).collect()
}

/// Ties the run to its node.
fn pin(spec: &mut Map<String, Value>, target: &Target<'_>) {
    let node = &*target.decision.node;
    match target.spec.pin {
        Pin::NodeName => spec.insert("nodeName".to_owned(), node.into()),
        Pin::Affinity => {
            let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
            let terms = json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] });
            spec.insert("affinity".to_owned(), json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } }))
        }
    };
}

//! Kubernetes objects as people have them: a List, YAML documents, a JSON array or a JSON stream in; nodes, pods and what chooses pods out, or everything
//! that is wrong with its place and name. Objects of other kinds are counted and left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kubernetes::wire::{
    NamespaceFacts, ReplicaSet, ReplicationController, SelectingFacts, Service, StatefulSet, Watched, read_value,
};
use crate::model::{
    budget::BudgetFacts,
    devices::DeviceClaimFacts,
    gang::PodGroupFacts,
    ids::{ClusterId, PodUid},
    node::NodeFacts,
    pod::PodFacts,
    storage::{AttachmentFacts, CapacityFacts, ClaimFacts, ClassFacts, CsiDriverFacts, CsiNodeFacts, VolumeFacts},
};
use crate::scheduler::input::Input;

/// Faults shown of one file; a wrong file has them by the thousand, and twenty tell as much.
const FAULTS_SHOWN_MAX: usize = 20;
/// Where classes and drivers are.
const STORAGE: &str = "storage.k8s.io/v1";
/// Where a pod lives that does not say, as kubectl has it.
const DEFAULT_NAMESPACE: &str = "default";

/// What a file holds.
#[derive(Debug, Default)]
pub struct Objects {
    /// Nodes, names unique.
    pub nodes: Vec<NodeFacts>,
    /// Pods, names and uids unique.
    pub pods: Vec<PodObject>,
    /// Namespaces, Services and controllers, which choose pods by labels; claims, volumes and what else there is of storage.
    pub others: Vec<Input>,
    /// How many objects of which other kinds there were.
    pub ignored: BTreeMap<String, usize>,
    /// Compute clusters with their nodes and pods, and what of home chooses among them: for the engine as it is.
    pub abroad: Vec<Input>,
    /// What else is not seen, and why.
    pub remarks: Vec<String>,
}

/// A pod with what only `explain` wants to know of it.
#[derive(Debug)]
pub struct PodObject {
    /// What scheduling reads.
    pub facts: PodFacts,
    /// Condition `PodScheduled` is True: a scheduler put it where it is. A node name without that is a wish.
    pub scheduled: bool,
}

/// A file that cannot be used: each line is one fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.0))]
pub struct BadObjects(pub Vec<String>);

fn shown(faults: &[String]) -> String {
    let mut lines: Vec<&str> = faults.iter().take(FAULTS_SHOWN_MAX).map(String::as_str).collect();
    let more = faults.len().saturating_sub(FAULTS_SHOWN_MAX);
    let rest = format!("... and {more} more");
    if more > 0 {
        lines.push(&rest);
    }
    lines.join("\n")
}

/// Reads a file. `name` is shown in faults.
pub fn read(name: &str, content: &[u8]) -> Result<Objects, BadObjects> {
    let one = |fault: String| BadObjects(vec![format!("{name}: {fault}")]);
    let text = std::str::from_utf8(content).map_err(|error| one(format!("not text: byte {} is not UTF-8", error.valid_up_to())))?;
    let documents = if text.trim_start().starts_with(['{', '[']) { json_stream(text) } else { yaml_documents(text) }.map_err(one)?;
    if documents.is_empty() {
        return Err(one("holds no objects; expected a List, YAML documents, or a JSON array or stream of Kubernetes objects".to_owned()));
    }
    let mut reader = Reader::default();
    for (at, document) in documents.iter().enumerate() {
        reader.document(&format!("{name}: document {}", at + 1), document, None);
    }
    reader.finish()
}

/// Reads objects that were parsed before: a List, an array, or one object.
pub fn from_value(name: &str, value: &Value) -> Result<Objects, BadObjects> {
    let mut reader = Reader::default();
    reader.document(name, value, None);
    reader.finish()
}

fn json_stream(text: &str) -> Result<Vec<Value>, String> {
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().map_err(|error| format!("not valid JSON: {error}"))
}

fn yaml_documents(text: &str) -> Result<Vec<Value>, String> {
    // The file is the user's own and may be as long as a cluster is large. What aliases multiply stays bounded.
    // `n` and `on` are names of things more often than booleans.
    let options = serde_saphyr::options! { budget: None, with_snippet: false, strict_booleans: true };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| format!("not valid YAML: {error}"))
}

#[derive(Default)]
struct Reader {
    objects: Objects,
    faults: Vec<String>,
    names: BTreeMap<String, String>,
    uids: BTreeSet<PodUid>,
}

impl Reader {
    /// `item_kind` is what a typed list (`PodList`) says about items that do not say it themselves.
    fn document(&mut self, place: &str, value: &Value, item_kind: Option<&str>) {
        if let Value::Array(items) = value {
            return self.items(place, items, None);
        }
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let Some(kind) = text("kind").or(item_kind) else {
            let what = if value.is_object() { "has no kind" } else { "is no Kubernetes object" };
            return self.faults.push(format!("{place}: {what}; expected a Pod, a Node, or a List of them"));
        };
        if let (Some(of), Some(items)) = (kind.strip_suffix("List"), value.get("items")) {
            let item_kind = Some(of).filter(|of| !of.is_empty());
            return match items {
                Value::Array(items) => self.items(&format!("{place}, items"), items, item_kind),
                Value::Null => {}
                _ => self.faults.push(format!("{place}: items of the {kind} is no list")),
            };
        }
        let version = text("apiVersion").unwrap_or("v1");
        match kind {
            "Node" if version == "v1" => self.node(place, value),
            "Pod" if version == "v1" => self.pod(place, value),
            "Namespace" if version == "v1" => self.others::<NamespaceFacts>(place, value, false),
            "Service" if version == "v1" => self.others::<SelectingFacts<Service>>(place, value, true),
            "ReplicationController" if version == "v1" => self.others::<SelectingFacts<ReplicationController>>(place, value, true),
            "ReplicaSet" if version == "apps/v1" => self.others::<SelectingFacts<ReplicaSet>>(place, value, true),
            "PersistentVolumeClaim" if version == "v1" => self.others::<ClaimFacts>(place, value, true),
            "PersistentVolume" if version == "v1" => self.others::<VolumeFacts>(place, value, false),
            "StorageClass" if version == STORAGE => self.others::<ClassFacts>(place, value, false),
            "CSINode" if version == STORAGE => self.others::<CsiNodeFacts>(place, value, false),
            "CSIDriver" if version == STORAGE => self.others::<CsiDriverFacts>(place, value, false),
            "CSIStorageCapacity" if version == STORAGE => self.others::<CapacityFacts>(place, value, true),
            "ResourceClaim" if version == "resource.k8s.io/v1" => self.others::<DeviceClaimFacts>(place, value, true),
            "VolumeAttachment" if version == STORAGE => self.others::<AttachmentFacts>(place, value, false),
            "StatefulSet" if version == "apps/v1" => self.others::<SelectingFacts<StatefulSet>>(place, value, true),
            "PodDisruptionBudget" if version == "policy/v1" => self.others::<BudgetFacts>(place, value, true),
            "PodGroup" if version == "scheduling.k8s.io/v1beta1" => self.others::<PodGroupFacts>(place, value, true),
            _ => *self.objects.ignored.entry(kind.to_owned()).or_default() += 1,
        }
    }

    fn items(&mut self, place: &str, items: &[Value], kind: Option<&str>) {
        for (at, item) in items.iter().enumerate() {
            self.document(&format!("{place}[{at}]"), item, kind);
        }
    }

    fn node(&mut self, place: &str, value: &Value) {
        match read_value::<NodeFacts>(value, ClusterId::HOME) {
            Err(bad) => self.faults.push(format!("{place}: {}", refusal("Node", &bad.name, &bad.why))),
            Ok(facts) => {
                if self.is_new(place, format!("Node {:?}", facts.name)) {
                    self.objects.nodes.push(facts);
                }
            }
        }
    }

    fn others<K: Watched<Input = Input>>(&mut self, place: &str, value: &Value, namespaced: bool) {
        let mut value = value.clone();
        let meta = value.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(meta) = meta.filter(|_| namespaced) {
            meta.entry("namespace").or_insert_with(|| DEFAULT_NAMESPACE.into());
        }
        let text = |field: &str| value.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default();
        let name = if namespaced { format!("{}/{}", text("namespace"), text("name")) } else { text("name").to_owned() };
        match read_value::<K>(&value, ClusterId::HOME) {
            Err(bad) => self.faults.push(format!("{place}: {}", refusal(K::KIND, &bad.name, &bad.why))),
            Ok(facts) => {
                if self.is_new(place, format!("{} {name:?}", K::KIND)) {
                    self.objects.others.push(facts.seen());
                }
            }
        }
    }

    fn pod(&mut self, place: &str, value: &Value) {
        let mut facts = match read_value::<PodFacts>(value, ClusterId::HOME) {
            Err(bad) => return self.faults.push(format!("{place}: {}", refusal("Pod", &bad.name, &bad.why))),
            Ok(facts) => facts,
        };
        if facts.key.name.is_empty() {
            return self.faults.push(format!("{place}: a Pod has no name"));
        }
        if facts.key.namespace.is_empty() {
            facts.key.namespace = DEFAULT_NAMESPACE.into();
        }
        if !self.is_new(place, format!("Pod {:?}", facts.key.to_string())) {
            return;
        }
        if facts.uid.0.is_empty() {
            facts.uid = PodUid(facts.key.to_string().into());
        }
        if !self.uids.insert(facts.uid.clone()) {
            return self.faults.push(format!("{place}: Pod {:?} has the uid {} of another pod", facts.key.to_string(), facts.uid));
        }
        self.objects.pods.push(PodObject { facts, scheduled: is_scheduled(value) });
    }

    fn is_new(&mut self, place: &str, name: String) -> bool {
        if let Some(first) = self.names.get(&name) {
            self.faults.push(format!("{place}: {name} is there already, at {first}"));
            return false;
        }
        self.names.insert(name, place.to_owned());
        true
    }

    fn finish(self) -> Result<Objects, BadObjects> {
        if self.faults.is_empty() { Ok(self.objects) } else { Err(BadObjects(self.faults)) }
    }
}

fn refusal(kind: &str, name: &str, why: &str) -> String {
    if name.is_empty() { format!("a {kind} cannot be read: {why}") } else { format!("{kind} {name:?} cannot be read: {why}") }
}

/// Whether condition `PodScheduled` is True.
pub fn is_scheduled(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let is = |condition: &Value, field: &str, text: &str| condition.get(field).and_then(Value::as_str) == Some(text);
    conditions.is_some_and(|all| all.iter().any(|condition| is(condition, "type", "PodScheduled") && is(condition, "status", "True")))
}

impl Objects {
    /// What was left out, a line each.
    pub fn notes(&self) -> Vec<String> {
        let kinds: Vec<String> = self.ignored.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let ignored = (!kinds.is_empty()).then(|| format!("left out, as nothing is decided by it: {}", kinds.join(", ")));
        ignored.iter().chain(&self.remarks).map(|note| format!("note: {note}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(objects: &Objects) -> String {
        let nodes = objects.nodes.iter().map(|node| node.name.to_string());
        let pods = objects.pods.iter().map(|pod| pod.facts.key.to_string());
        nodes.chain(pods).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_form_is_read() {
        let forms = [
            "{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[{\"kind\":\"Node\",\"metadata\":{\"name\":\"n\"}},{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"}}]}",
            "[{\"kind\":\"Node\",\"metadata\":{\"name\":\"n\"}},{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"}}]",
            "{\"kind\":\"Node\",\"metadata\":{\"name\":\"n\"}}\n{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"}}",
            "{\"kind\":\"NodeList\",\"items\":[{\"metadata\":{\"name\":\"n\"}}]} {\"kind\":\"PodList\",\"items\":[{\"metadata\":{\"name\":\"p\"}}]}",
            "kind: Node\nmetadata: {name: n}\n---\n# nothing\n---\nkind: Pod\nmetadata:\n  name: p\n",
            "---\nkind: List\nitems:\n- kind: Node\n  metadata: {name: n}\n- kind: Pod\n  metadata: {name: p}\n",
            "- kind: Node\n  metadata: {name: n}\n- kind: Pod\n  metadata: {name: p}\n",
        ];
        for form in forms {
            assert_eq!(read("f", form.as_bytes()).map(|objects| names(&objects)).as_deref(), Ok("n default/p"), "{form}");
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_place() {
        let text = "kind: List
items:
- kind: Pod
  metadata: {name: a, namespace: x}
  spec: {containers: [{name: c, resources: {requests: {cpu: lots}}}]}
- kind: Node
  metadata: {labels: {a: b}}
- kind: Pod
  metadata: {namespace: x}
- metadata: {name: what}
- 17
---
kind: Node
metadata: {name: n}
---
kind: Node
metadata: {name: n}
";
        insta::assert_snapshot!(read("f.yaml", text.as_bytes()).unwrap_err());
    }

    #[test]
    fn text_that_is_nothing_is_refused() {
        for (text, want) in [
            (&b""[..], "f: holds no objects; expected a List, YAML documents, or a JSON array or stream of Kubernetes objects"),
            (b"{\"kind\": ", "f: not valid JSON: EOF while parsing a value at line 1 column 9"),
            (b"\xff", "f: not text: byte 0 is not UTF-8"),
            (b"just words", "f: document 1: is no Kubernetes object; expected a Pod, a Node, or a List of them"),
        ] {
            assert_eq!(read("f", text).unwrap_err().to_string(), want);
        }
        let error = read("f", b"a: b\n  c: : d").unwrap_err().to_string();
        assert!(error.starts_with("f: not valid YAML: ") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn other_kinds_are_counted_and_uids_made_up() {
        let text = "kind: Deployment\n---\nkind: Ingress\n---\nkind: Ingress\n---\nkind: Node\napiVersion: example.org/v1\n---\nkind: Pod\nmetadata: {name: p, namespace: x}\nstatus: {conditions: [{type: PodScheduled, status: 'True'}]}";
        let objects = read("f", text.as_bytes()).unwrap();
        assert_eq!(objects.notes().join(""), "note: left out, as nothing is decided by it: 1 Deployment, 2 Ingress, 1 Node");
        assert_eq!(&*objects.pods[0].facts.uid.0, "x/p");
        assert!(objects.pods[0].scheduled);
    }
}

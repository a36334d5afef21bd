//! Bodies in Kubernetes' protobuf form, as kubectl's own commands send them (`kubectl create namespace`, `auth can-i`, `drain`). In: bytes. Out: the same
//! object as JSON, or a refusal that names what is not known. Answers are always JSON, which such clients accept as well.
//!
//! Only the kinds that kubectl builds itself, with the fields that it sets. Field numbers are those of Kubernetes' published `generated.proto` files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::status::ApiError;

/// What leads every body.
const MAGIC: &[u8] = b"k8s\0";

/// How a field is read. Go sends fields that are no pointers even when they are empty; `Text`, `Int` and `Flag` leave those out again.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Int,
    Flag,
    /// A number or flag behind a pointer: there when it is sent.
    SetInt,
    SetFlag,
    Bytes,
    Quantity,
    IntOrText,
    Message(&'static [Field]),
    /// Written by the server alone.
    Skip,
}

#[derive(Clone, Copy)]
enum Shape {
    One,
    List,
    Map,
}

use Kind::{Bytes, Flag, Int, IntOrText, Message, Quantity, SetFlag, SetInt, Skip, Text};
use Shape::{List, Map as Keyed, One};

/// Number, JSON name, kind, shape.
type Field = (u64, &'static str, Kind, Shape);

#[rustfmt::skip]
const METADATA: &[Field] = &[
    (1, "name", Text, One), (2, "generateName", Text, One), (3, "namespace", Text, One), (4, "selfLink", Skip, One), (5, "uid", Text, One),
    (6, "resourceVersion", Text, One), (7, "generation", Skip, One), (8, "creationTimestamp", Skip, One), (9, "deletionTimestamp", Skip, One),
    (10, "deletionGracePeriodSeconds", Skip, One), (11, "labels", Text, Keyed), (12, "annotations", Text, Keyed), (14, "finalizers", Text, List),
    (17, "managedFields", Skip, List),
];
const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", SetInt, One),
    (2, "preconditions", Message(&[(1, "uid", Text, One), (2, "resourceVersion", Text, One)]), One),
    (3, "orphanDependents", SetFlag, One),
    (4, "propagationPolicy", Text, One),
    (5, "dryRun", Text, List),
];
const SELECTOR: &[Field] = &[
    (1, "matchLabels", Text, Keyed),
    (2, "matchExpressions", Message(&[(1, "key", Text, One), (2, "operator", Text, One), (3, "values", Text, List)]), List),
];
const RESOURCES: &[Field] = &[(1, "limits", Quantity, Keyed), (2, "requests", Quantity, Keyed)];
const PORT: &[Field] = &[
    (1, "name", Text, One),
    (2, "hostPort", Int, One),
    (3, "containerPort", Int, One),
    (4, "protocol", Text, One),
    (5, "hostIP", Text, One),
];
#[rustfmt::skip]
const CONTAINER: &[Field] = &[
    (1, "name", Text, One), (2, "image", Text, One), (3, "command", Text, List), (4, "args", Text, List), (5, "workingDir", Text, One),
    (6, "ports", Message(PORT), List), (7, "env", Message(&[(1, "name", Text, One), (2, "value", Text, One)]), List),
    (8, "resources", Message(RESOURCES), One), (13, "terminationMessagePath", Text, One), (14, "imagePullPolicy", Text, One),
    (16, "stdin", Flag, One), (17, "stdinOnce", Flag, One), (18, "tty", Flag, One), (20, "terminationMessagePolicy", Text, One),
];
#[rustfmt::skip]
const POD_SPEC: &[Field] = &[
    (2, "containers", Message(CONTAINER), List), (3, "restartPolicy", Text, One), (4, "terminationGracePeriodSeconds", SetInt, One),
    (6, "dnsPolicy", Text, One), (7, "nodeSelector", Text, Keyed), (8, "serviceAccountName", Text, One), (9, "serviceAccount", Text, One),
    (10, "nodeName", Text, One), (11, "hostNetwork", Flag, One), (12, "hostPID", Flag, One), (13, "hostIPC", Flag, One), (14, "securityContext", Message(&[]), One),
    (16, "hostname", Text, One), (17, "subdomain", Text, One), (19, "schedulerName", Text, One), (24, "priorityClassName", Text, One),
    (20, "initContainers", Message(CONTAINER), List),
];
const TEMPLATE: &[Field] = &[(1, "metadata", Message(METADATA), One), (2, "spec", Message(POD_SPEC), One)];
const DEPLOYMENT: &[Field] = &[
    (1, "replicas", SetInt, One),
    (2, "selector", Message(SELECTOR), One),
    (3, "template", Message(TEMPLATE), One),
    (4, "strategy", Message(&[(1, "type", Text, One)]), One),
    (5, "minReadySeconds", Int, One),
    (7, "paused", Flag, One),
];
const JOB: &[Field] = &[
    (1, "parallelism", SetInt, One),
    (2, "completions", SetInt, One),
    (4, "selector", Message(SELECTOR), One),
    (6, "template", Message(TEMPLATE), One),
    (7, "backoffLimit", SetInt, One),
    (8, "ttlSecondsAfterFinished", SetInt, One),
];
const BUDGET: &[Field] =
    &[(1, "minAvailable", IntOrText, One), (2, "selector", Message(SELECTOR), One), (3, "maxUnavailable", IntOrText, One)];
#[rustfmt::skip]
const ATTRIBUTES: &[Field] = &[
    (1, "namespace", Text, One), (2, "verb", Text, One), (3, "group", Text, One), (4, "version", Text, One), (5, "resource", Text, One),
    (6, "subresource", Text, One), (7, "name", Text, One),
];
const ACCESS: &[Field] = &[
    (1, "resourceAttributes", Message(ATTRIBUTES), One),
    (2, "nonResourceAttributes", Message(&[(1, "path", Text, One), (2, "verb", Text, One)]), One),
];

/// An object with metadata, a spec and a status.
macro_rules! object {
    ($spec:expr) => {
        &[(1, "metadata", Message(METADATA), One), (2, "spec", Message($spec), One), (3, "status", Skip, One)]
    };
}

/// The fields of a kind, or `None` for one that is not known here.
fn fields_of(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Namespace" => object!(&[(1, "finalizers", Text, List)]),
        "ConfigMap" => &[
            (1, "metadata", Message(METADATA), One),
            (2, "data", Text, Keyed),
            (3, "binaryData", Bytes, Keyed),
            (4, "immutable", SetFlag, One),
        ],
        "Secret" => &[
            (1, "metadata", Message(METADATA), One),
            (2, "data", Bytes, Keyed),
            (3, "type", Text, One),
            (4, "stringData", Text, Keyed),
            (5, "immutable", SetFlag, One),
        ],
        "ServiceAccount" => &[(1, "metadata", Message(METADATA), One), (4, "automountServiceAccountToken", SetFlag, One)],
        "PriorityClass" => &[
            (1, "metadata", Message(METADATA), One),
            (2, "value", Int, One),
            (3, "globalDefault", Flag, One),
            (4, "description", Text, One),
            (5, "preemptionPolicy", Text, One),
        ],
        "Deployment" => object!(DEPLOYMENT),
        "Job" => object!(JOB),
        "PodDisruptionBudget" => object!(BUDGET),
        "SelfSubjectAccessReview" => object!(ACCESS),
        "SelfSubjectReview" => &[(1, "metadata", Message(METADATA), One), (2, "status", Skip, One)],
        "Eviction" => &[(1, "metadata", Message(METADATA), One), (2, "deleteOptions", Message(DELETE_OPTIONS), One)],
        "DeleteOptions" => DELETE_OPTIONS,
        _ => return None,
    })
}

/// Reads a body: an envelope with apiVersion and kind, and the object in it.
pub(super) fn read(body: &[u8]) -> Result<Value, ApiError> {
    let envelope = body.strip_prefix(MAGIC).ok_or_else(|| bad("the body does not begin as Kubernetes' protobuf does"))?;
    let (mut type_meta, mut raw): (&[u8], &[u8]) = (&[], &[]);
    for field in Wire(envelope) {
        match field? {
            (1, Payload::Bytes(bytes)) => type_meta = bytes,
            (2, Payload::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let types = message("TypeMeta", &[(1, "apiVersion", Text, One), (2, "kind", Text, One)], type_meta)?;
    let kind = types["kind"].as_str().unwrap_or_default();
    let fields = fields_of(kind).ok_or_else(|| bad(&format!("the in-memory server reads {kind} only as JSON or YAML")))?;
    let mut object = types.clone();
    if let (Some(object), Value::Object(read)) = (object.as_object_mut(), message(kind, fields, raw)?) {
        object.extend(read);
    }
    Ok(object)
}

fn bad(why: &str) -> ApiError {
    ApiError::bad_request(format!("unable to decode protobuf: {why}"))
}

fn message(name: &str, fields: &[Field], bytes: &[u8]) -> Result<Value, ApiError> {
    let mut object = Map::new();
    for part in Wire(bytes) {
        let (number, payload) = part?;
        let known = fields.iter().find(|(known, ..)| *known == number);
        let &(_, field, kind, shape) =
            known.ok_or_else(|| bad(&format!("field {number} of {name} is not known to the in-memory server")))?;
        match shape {
            One => {
                if let Some(value) = value_of(field, kind, payload)? {
                    object.insert(field.into(), value);
                }
            }
            List => {
                let value = value_of(field, kind, payload)?.unwrap_or_else(|| json!(""));
                let list = object.entry(field).or_insert_with(|| json!([]));
                list.as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
            }
            Keyed => {
                let (key, value) = entry(field, kind, payload)?;
                object.entry(field).or_insert_with(|| json!({}))[key] = value;
            }
        }
    }
    object.retain(|_, value| *value != json!([]));
    Ok(Value::Object(object))
}

/// One entry of a map: field 1 is the key, field 2 the value.
fn entry(field: &str, kind: Kind, payload: Payload<'_>) -> Result<(String, Value), ApiError> {
    let Payload::Bytes(bytes) = payload else { return Err(bad(&format!("{field} is not a map"))) };
    let (mut key, mut value) = (String::new(), None);
    for part in Wire(bytes) {
        match part? {
            (1, payload) => key = value_of(field, Text, payload)?.and_then(|key| key.as_str().map(str::to_string)).unwrap_or_default(),
            (_, payload) => value = value_of(field, kind, payload)?,
        }
    }
    Ok((key, value.unwrap_or_else(|| json!(""))))
}

/// The value, or `None` for what Go sends though nobody set it.
fn value_of(field: &str, kind: Kind, payload: Payload<'_>) -> Result<Option<Value>, ApiError> {
    Ok(match (kind, payload) {
        (Skip, _) => None,
        (Text, Payload::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| bad(&format!("{field} is not UTF-8")))?;
            (!text.is_empty()).then(|| text.into())
        }
        (Bytes, Payload::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
        (Int, Payload::Number(number)) => (number != 0).then(|| signed(number)),
        (SetInt, Payload::Number(number)) => Some(signed(number)),
        (Flag, Payload::Number(number)) => (number != 0).then_some(Value::Bool(true)),
        (SetFlag, Payload::Number(number)) => Some(Value::Bool(number != 0)),
        (Quantity, Payload::Bytes(bytes)) => Some(message(field, &[(1, "text", Text, One)], bytes)?["text"].take()),
        (IntOrText, Payload::Bytes(bytes)) => {
            let both = message(field, &[(1, "type", Int, One), (2, "number", SetInt, One), (3, "text", Text, One)], bytes)?;
            Some(if both["type"] == 1 { both["text"].clone() } else { both["number"].clone() })
        }
        (Message(fields), Payload::Bytes(bytes)) => Some(message(field, fields, bytes)?),
        _ => return Err(bad(&format!("{field} has another wire type"))),
    })
}

/// Negative numbers are sent as 64 bits in two's complement.
fn signed(number: u64) -> Value {
    number.cast_signed().into()
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Payload<'a>)> {
        let tag = self.varint()?;
        let payload = match tag & 7 {
            0 => Payload::Number(self.varint()?),
            1 => Payload::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, payload))
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<(u64, Payload<'a>), ApiError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Nothing behind a broken field can be trusted.
            self.0 = &[];
        }
        Some(field.ok_or_else(|| bad("the body ends in the middle of a field")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `kubectl create namespace foo`, as it goes over the wire.
    const NAMESPACE: &[u8] =
        b"k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x1b\n\x13\n\x03foo\x12\0\x1a\0\"\0*\x002\x008\x00B\0\x12\0\x1a\x02\n\0\x1a\0\"\0";

    #[test]
    fn a_namespace() {
        assert_eq!(read(NAMESPACE), Ok(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}, "spec": {}})));
    }

    #[test]
    fn what_is_not_known_is_named() {
        let unknown = b"k8s\0\n\x09\n\x02v1\x12\x03Pod\x12\0";
        let refused = read(unknown).map_err(|error| error.message);
        assert_eq!(refused, Err("unable to decode protobuf: the in-memory server reads Pod only as JSON or YAML".into()));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>, cut in 0..NAMESPACE.len()) {
            let _ = read(&bytes);
            let _ = read(&[MAGIC, &bytes].concat());
            let _ = read(&NAMESPACE[..cut]);
        }
    }
}

//! The Secrets that travel with a run. In: references to keys. Out: immutable Secrets that hold these keys and no others, named like the run.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{Kind, Objects, Obstacle};

/// Bytes of one bundle: an object must stay below 1 MiB, names and labels included.
const BUNDLE_BYTES_MAX: usize = 900 * 1024;
/// Longest key of a Secret.
const KEY_CHARS_MAX: usize = 253;
/// Secrets that nobody's run may see.
const TOKEN: &str = "kubernetes.io/service-account-token";
/// Types of pull secrets, and their only key.
const PULL_TYPES: [(&str, &str); 2] = [("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")];

/// Where a key is over there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub secret: String,
    pub key: String,
}

pub(super) struct Bundles<'a> {
    objects: &'a Objects,
    run: &'a str,
    parts: Vec<(usize, Map<String, Value>)>,
    places: BTreeMap<(Kind, String, String), Place>,
    pull_secrets: Vec<(String, &'static str, Map<String, Value>)>,
}

impl<'a> Bundles<'a> {
    pub fn new(objects: &'a Objects, run: &'a str) -> Self {
        Self { objects, run, parts: Vec::new(), places: BTreeMap::new(), pull_secrets: Vec::new() }
    }

    /// An object that was read.
    pub fn object(&self, kind: Kind, name: &str) -> Option<&'a Value> {
        self.objects.get(kind, name)
    }

    /// The source of keys. `Ok(None)`: it is not there, and the pod does without it.
    pub fn source(&self, kind: Kind, name: &str, optional: bool, path: &str) -> Result<Option<&'a Value>, Obstacle> {
        let object = self.objects.get(kind, name);
        if kind == Kind::Secret && object.is_some_and(|secret| secret["type"] == TOKEN) {
            return Err(Obstacle::field(path, format!("secret {name} is a service-account token of home, which never travels")));
        }
        if object.is_none() && !optional {
            let kind = if kind == Kind::ConfigMap { "ConfigMap" } else { "Secret" };
            return Err(Obstacle::missing(path, format!("{kind} {name} does not exist")));
        }
        Ok(object)
    }

    /// Takes a key along; `None` if the object does not have it.
    pub fn key(&mut self, kind: Kind, name: &str, key: &str, object: &Value) -> Option<Place> {
        let id = (kind, name.to_owned(), key.to_owned());
        if let Some(place) = self.places.get(&id) {
            return Some(place.clone());
        }
        let plain = object["data"].get(key).and_then(Value::as_str);
        let encoded = match (kind, plain) {
            (Kind::ConfigMap, Some(text)) => STANDARD.encode(text),
            (Kind::ConfigMap, None) => object["binaryData"].get(key)?.as_str()?.to_owned(),
            (_, text) => text?.to_owned(),
        };
        let bytes = encoded.len() / 4 * 3 + key.len();
        if self.parts.last().is_none_or(|(used, _)| used + bytes > BUNDLE_BYTES_MAX) {
            self.parts.push((0, Map::new()));
        }
        let secret = bundle_name(self.run, self.parts.len());
        // Names of objects have no underscore, so that two keys never meet.
        let prefix = if kind == Kind::ConfigMap { "c" } else { "s" };
        let readable = format!("{prefix}_{name}_{key}");
        let new_key = if readable.len() <= KEY_CHARS_MAX { readable } else { format!("k{}", self.places.len()) };
        let (used, data) = self.parts.last_mut()?;
        *used += bytes;
        data.insert(new_key.clone(), encoded.into());
        let place = Place { secret, key: new_key };
        self.places.insert(id, place.clone());
        Some(place)
    }

    /// A pull secret travels as one of its own, as kubelets read it; its new name.
    pub fn pull_secret(&mut self, name: &str) -> Option<String> {
        let secret = self.objects.get(Kind::Secret, name)?;
        let (kind, key) = PULL_TYPES.iter().find(|(kind, _)| secret["type"] == *kind)?;
        let value = secret["data"].get(key)?.as_str()?;
        let new_name = format!("{}-pull-{}", self.run, self.pull_secrets.len() + 1);
        self.pull_secrets.push((new_name.clone(), kind, Map::from_iter([((*key).to_owned(), value.into())])));
        Some(new_name)
    }

    /// `annotations` say whose it is: without a run, only they do.
    pub fn finish(self, namespace: &str, labels: &Map<String, Value>, annotations: &Map<String, Value>) -> Vec<Value> {
        let secret = |name: String, kind: &str, data: Map<String, Value>| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind, "immutable": true, "data": data,
                "metadata": { "namespace": namespace, "name": name, "labels": labels, "annotations": annotations },
            })
        };
        let run = self.run;
        let parts = self.parts.into_iter().enumerate().map(|(at, (_, data))| secret(bundle_name(run, at + 1), "Opaque", data));
        parts.chain(self.pull_secrets.into_iter().map(|(name, kind, data)| secret(name, kind, data))).collect()
    }
}

/// Named like the run; further ones are counted from 2.
fn bundle_name(run: &str, number: usize) -> String {
    if number == 1 { run.to_owned() } else { format!("{run}-{number}") }
}

/// The keys of an object, sorted.
pub(super) fn keys_of(object: &Value) -> Vec<&str> {
    let of = |map: &'static str| object[map].as_object().into_iter().flat_map(|map| map.keys().map(String::as_str));
    let mut keys: Vec<&str> = of("data").chain(of("binaryData")).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

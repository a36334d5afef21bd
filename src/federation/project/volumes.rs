//! Volumes. In: volumes of the home pod. Out: what they are over there: configuration from the bundles, claims by the cluster's rules, nothing else that
//! holds data.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Kind, Obstacle, Travel,
    bundle::keys_of,
    container::{Volumes, rewritten},
    env::field_of_home,
    fields,
};
use crate::{
    federation::spec::{VolumeRule, VolumeSource},
    model::placement::matches,
};

/// Beginning of the annotations that volumes of the downward API show.
const FIELD_ANNOTATION: &str = "isobar.dev/field-";
/// Beginning of the name of the volume that the API server adds for the service account.
const INJECTED: &str = "kube-api-access-";

/// The volume with the service account's token that every pod gets: what is in it would be of no use over there.
pub(super) fn is_injected(volume: &Value) -> bool {
    let is_token = |source: &Value| !source["serviceAccountToken"].is_null();
    volume["name"].as_str().is_some_and(|name| name.starts_with(INJECTED))
        && volume["projected"]["sources"].as_array().is_some_and(|sources| sources.iter().any(is_token))
}

pub(super) fn volumes(travel: &mut Travel<'_>, home: &Map<String, Value>, path: &str) -> Result<(Vec<Value>, Volumes), Obstacle> {
    let (mut list, mut meaning) = (Vec::new(), Volumes::default());
    for (volume, path) in fields::objects(home, "volumes", path)? {
        let name = fields::text(volume, "name", &path)?;
        if is_injected(&Value::Object(volume.clone())) {
            meaning.dropped.insert(name.to_owned());
            continue;
        }
        let mut kinds = volume.iter().filter(|(field, value)| *field != "name" && !value.is_null());
        let Some((kind, source)) = kinds.next() else { return Err(Obstacle::field(path, "says nothing of its source")) };
        let (source, path) = fields::object(source, format!("{path}.{kind}"))?;
        let (kind, there, read_only) = translated(travel, kind, source, &path)?;
        if read_only {
            meaning.read_only.insert(name.to_owned());
        }
        list.push(json!({ "name": name, kind: there }));
    }
    Ok((list, meaning))
}

/// Kind and source over there, and whether mounts must be read-only.
fn translated<'k>(
    travel: &mut Travel<'_>,
    kind: &'k str,
    source: &Map<String, Value>,
    path: &str,
) -> Result<(&'k str, Value, bool), Obstacle> {
    let allow = &travel.target.spec.allow;
    let known = |field: &str, list: &[String]| {
        let name = fields::text(source, field, path)?;
        if list.iter().any(|allowed| allowed == name) {
            Ok(())
        } else {
            Err(Obstacle::field(path, format!("the cluster does not allow {name}")))
        }
    };
    let same = || Value::Object(source.clone());
    Ok(match kind {
        "emptyDir" => (kind, same(), false),
        "nfs" => {
            known("server", &allow.nfs_servers)?;
            (kind, same(), false)
        }
        "csi" => {
            known("driver", &allow.csi_drivers)?;
            if fields::says(source, "nodePublishSecretRef") {
                return Err(Obstacle::field(format!("{path}.nodePublishSecretRef"), "secrets of drivers cannot travel"));
            }
            (kind, same(), false)
        }
        "image" => {
            let mut image = source.clone();
            image.insert(
                "reference".to_owned(),
                rewritten(fields::text(source, "reference", path)?, &travel.target.spec.maps.images).into(),
            );
            (kind, image.into(), false)
        }
        "downwardAPI" => {
            let mut volume = fields::Fields { kept: &["defaultMode"], handled: &["items"] }.copy(source, path)?;
            volume.insert("items".to_owned(), downward(travel, source, path)?.into());
            (kind, volume.into(), false)
        }
        "configMap" | "secret" | "projected" => {
            let (kind, there) = configuration(travel, kind, source, path)?;
            (kind, there, false)
        }
        "persistentVolumeClaim" => claim(travel, source, path)?,
        _ => return Err(Obstacle::field(path, "a volume of this kind cannot travel")),
    })
}

/// Configuration of all three forms becomes one: sources from the bundles.
fn configuration(travel: &mut Travel<'_>, kind: &str, source: &Map<String, Value>, path: &str) -> Result<(&'static str, Value), Obstacle> {
    let mut sources = Vec::new();
    match kind {
        "configMap" => sources = files(travel, Kind::ConfigMap, "name", source, path)?,
        "secret" => sources = files(travel, Kind::Secret, "secretName", source, path)?,
        _ => {
            fields::Fields { kept: &[], handled: &["defaultMode", "sources"] }.copy(source, path)?;
            for (part, path) in fields::objects(source, "sources", path)? {
                sources.extend(projected(travel, part, &path)?);
            }
        }
    }
    // A volume without sources would show all keys, or none exist.
    if sources.is_empty() {
        return Ok(("emptyDir", json!({})));
    }
    let mut volume = json!({ "sources": sources });
    if let Some(mode) = source.get("defaultMode").filter(|mode| mode.is_number()) {
        volume["defaultMode"] = mode.clone();
    }
    Ok(("projected", volume))
}

fn projected(travel: &mut Travel<'_>, part: &Map<String, Value>, path: &str) -> Result<Vec<Value>, Obstacle> {
    let Some((kind, source)) = part.iter().find(|(_, value)| !value.is_null()) else { return Ok(Vec::new()) };
    let (source, path) = fields::object(source, format!("{path}.{kind}"))?;
    match kind.as_str() {
        "configMap" => files(travel, Kind::ConfigMap, "name", source, &path),
        "secret" => files(travel, Kind::Secret, "name", source, &path),
        "downwardAPI" => Ok(vec![json!({ "downwardAPI": { "items": downward(travel, source, &path)? } })]),
        "serviceAccountToken" => Err(Obstacle::field(path, "a service-account token of home never travels")),
        _ => Err(Obstacle::field(path, "a source of this kind cannot travel")),
    }
}

/// The files of one object, by the bundle that they are in.
fn files(travel: &mut Travel<'_>, kind: Kind, name: &str, source: &Map<String, Value>, path: &str) -> Result<Vec<Value>, Obstacle> {
    fields::Fields { kept: &[], handled: &["name", "secretName", "items", "defaultMode", "optional"] }.copy(source, path)?;
    let name = fields::text(source, name, path)?;
    let optional = fields::is_on(source, "optional");
    let Some(object) = travel.bundles.source(kind, name, optional, path)? else { return Ok(Vec::new()) };
    let mut by_bundle: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let items = fields::objects(source, "items", path)?;
    if items.is_empty() {
        for key in keys_of(object) {
            if let Some(place) = travel.bundles.key(kind, name, key, object) {
                by_bundle.entry(place.secret).or_default().push(json!({ "key": place.key, "path": key }));
            }
        }
    }
    for (item, path) in items {
        let (key, file) = (fields::text(item, "key", &path)?, fields::text(item, "path", &path)?);
        let mut there = fields::Fields { kept: &["mode"], handled: &["key", "path"] }.copy(item, &path)?;
        let Some(place) = travel.bundles.key(kind, name, key, object) else {
            if optional {
                continue;
            }
            return Err(Obstacle::missing(&path, format!("{name} has no key {key}")));
        };
        there.insert("key".to_owned(), place.key.into());
        there.insert("path".to_owned(), file.into());
        by_bundle.entry(place.secret).or_default().push(there.into());
    }
    Ok(by_bundle.into_iter().map(|(secret, items)| json!({ "secret": { "name": secret, "items": items } })).collect())
}

/// Items of the downward API: what is said of the home pod is shown from annotations of the run.
fn downward(travel: &mut Travel<'_>, source: &Map<String, Value>, path: &str) -> Result<Vec<Value>, Obstacle> {
    let mut items = Vec::new();
    for (item, path) in fields::objects(source, "items", path)? {
        let mut there = fields::Fields { kept: &["path", "mode", "resourceFieldRef"], handled: &["fieldRef"] }.copy(item, &path)?;
        if let Some(reference) = item.get("fieldRef").filter(|value| !value.is_null()) {
            let (reference, path) = fields::object(reference, format!("{path}.fieldRef"))?;
            let field = fields::text(reference, "fieldPath", &path)?;
            let text =
                field_of_home(travel.home, field).ok_or_else(|| Obstacle::field(&path, format!("{field} cannot be told over there")))?;
            let annotation = format!("{FIELD_ANNOTATION}{}", travel.annotations.len());
            there.insert("fieldRef".to_owned(), json!({ "fieldPath": format!("metadata.annotations['{annotation}']") }));
            travel.annotations.insert(annotation, text.into());
        }
        items.push(there.into());
    }
    Ok(items)
}

/// A claim of home is whatever the first matching rule says.
fn claim(travel: &Travel<'_>, source: &Map<String, Value>, path: &str) -> Result<(&'static str, Value, bool), Obstacle> {
    fields::Fields { kept: &[], handled: &["claimName", "readOnly"] }.copy(source, path)?;
    let claim = fields::text(source, "claimName", path)?;
    if [claim, travel.namespace].iter().any(|name| name.contains('/') || name.contains("..")) {
        return Err(Obstacle::field(path, "is no name of a claim"));
    }
    let object = travel.bundles.object(Kind::Claim, claim);
    let no_rule = || Obstacle::field(path, format!("the cluster has no rule for claim {claim}"));
    let rule = travel.target.spec.volumes.iter().find(|rule| is_match(rule, travel.namespace, claim, object)).ok_or_else(no_rule)?;
    let read_only = rule.read_only.0 || fields::is_on(source, "readOnly");
    let filled = |text: &str| text.replace("{namespace}", travel.namespace).replace("{claim}", claim);
    let (kind, mut there) = match &rule.source {
        VolumeSource { nfs: Some(nfs), .. } => ("nfs", json!({ "server": nfs.server, "path": filled(&nfs.path) })),
        VolumeSource { csi: Some(csi), .. } => {
            let attributes: Map<String, Value> =
                csi.volume_attributes.iter().map(|(key, value)| (key.clone(), filled(value).into())).collect();
            let mut there = json!({ "driver": csi.driver, "volumeAttributes": attributes });
            if !csi.node_publish_secret.is_empty() {
                there["nodePublishSecretRef"] = json!({ "name": csi.node_publish_secret });
            }
            ("csi", there)
        }
        VolumeSource { claim: Some(other), .. } => ("persistentVolumeClaim", json!({ "claimName": filled(&other.name) })),
        _ => return Err(no_rule()),
    };
    there["readOnly"] = read_only.into();
    Ok((kind, there, read_only))
}

fn is_match(rule: &VolumeRule, namespace: &str, claim: &str, object: Option<&Value>) -> bool {
    let has = |(key, value): (&String, &String)| {
        object.and_then(|object| object["metadata"]["labels"].get(key)).and_then(Value::as_str) == Some(value.as_str())
    };
    matches(&rule.matches.namespace, namespace) && matches(&rule.matches.claim_name, claim) && rule.matches.labels.iter().all(has)
}

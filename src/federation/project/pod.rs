//! `spec` of the run. In: `spec` of the home pod. Out: what may travel of it, tied to the chosen node.

use serde_json::{Map, Value, json};

use super::{Obstacle, Travel, container, fields, pin, volumes};
use crate::federation::{LOST_TAINTS, names, spec::PullSecretMode};

const FIELDS: fields::Fields = fields::Fields {
    kept: &[
        "restartPolicy",
        "terminationGracePeriodSeconds",
        "activeDeadlineSeconds",
        "dnsPolicy",
        "dnsConfig",
        "hostAliases",
        "hostname",
        "subdomain",
        "setHostnameAsFQDN",
        "hostnameOverride",
        "securityContext",
        "shareProcessNamespace",
        "os",
        "hostUsers",
    ],
    handled: &[
        // Made anew below.
        "containers",
        "initContainers",
        "volumes",
        "imagePullSecrets",
        "tolerations",
        "priorityClassName",
        "runtimeClassName",
        "resources",
        // Refused when they say something.
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "readinessGates",
        "resourceClaims",
        // Added to the run afterwards.
        "ephemeralContainers",
        // The decision was taken at home, and names of home mean nothing there.
        "nodeName",
        "nodeSelector",
        "affinity",
        "topologySpreadConstraints",
        "schedulingGates",
        "schedulerName",
        "priority",
        "preemptionPolicy",
        "overhead",
        "serviceAccount",
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
    ],
};
const REFUSED: [(&str, &str); 5] = [
    ("hostNetwork", "the host's network cannot travel"),
    ("hostPID", "the host's processes cannot travel"),
    ("hostIPC", "the host's IPC cannot travel"),
    ("readinessGates", "nobody sets the conditions of readiness gates over there"),
    ("resourceClaims", "resource claims cannot travel"),
];
/// Longest `hostname`.
const HOSTNAME_CHARS_MAX: usize = 63;

pub(super) fn spec(travel: &mut Travel<'_>) -> Result<Value, Obstacle> {
    let (home, path) = fields::object(&travel.home["spec"], "spec".to_owned())?;
    let mut spec = FIELDS.copy(home, &path)?;
    if let Some((field, why)) = REFUSED.iter().find(|(field, _)| fields::says(home, field)) {
        return Err(Obstacle::field(format!("{path}.{field}"), *why));
    }
    let (list, volumes) = volumes::volumes(travel, home, &path)?;
    if !list.is_empty() {
        spec.insert("volumes".to_owned(), list.into());
    }
    for field in ["initContainers", "containers"] {
        let from = fields::objects(home, field, &path)?;
        let containers = from.iter().map(|(from, path)| container::container(travel, &volumes, from, path));
        let containers = containers.collect::<Result<Vec<_>, _>>()?;
        if !containers.is_empty() {
            spec.insert(field.to_owned(), containers.into());
        }
    }
    if let Some(resources) = home.get("resources").filter(|_| fields::says(home, "resources")) {
        spec.insert("resources".to_owned(), resources.clone());
    }
    pull_secrets(travel, home, &path, &mut spec)?;
    classes(travel, home, &path, &mut spec)?;
    spec.insert("tolerations".to_owned(), tolerations(home, &path)?.into());
    if !fields::says(home, "hostname") {
        spec.insert("hostname".to_owned(), hostname(travel.home["metadata"]["name"].as_str().unwrap_or_default()).into());
    }
    spec.insert("automountServiceAccountToken".to_owned(), false.into());
    spec.insert("enableServiceLinks".to_owned(), false.into());
    pin(&mut spec, &travel.target);
    Ok(spec.into())
}

/// A name of a pod may have dots and 253 characters, a host name not.
fn hostname(pod: &str) -> String {
    let cut = &pod[..pod.floor_char_boundary(HOSTNAME_CHARS_MAX)];
    cut.trim_end_matches(['-', '.']).replace('.', "-")
}

/// The pod's own: by these its node was chosen.
fn tolerations(home: &Map<String, Value>, path: &str) -> Result<Vec<Value>, Obstacle> {
    let own = fields::objects(home, "tolerations", path)?.into_iter();
    let travels = |toleration: &Map<String, Value>| {
        let key = toleration.get("key").and_then(Value::as_str).unwrap_or_default();
        let for_ever = toleration.get("tolerationSeconds").is_none_or(Value::is_null);
        // Without a time we have set it ourselves, for the virtual Node.
        key != names::CLUSTER && !(LOST_TAINTS.contains(&key) && for_ever)
    };
    Ok(own.filter(|(toleration, _)| travels(toleration)).map(|(toleration, _)| Value::Object(toleration.clone())).collect())
}

fn classes(travel: &Travel<'_>, home: &Map<String, Value>, path: &str, spec: &mut Map<String, Value>) -> Result<(), Obstacle> {
    let maps = &travel.target.spec.maps;
    let class = |field: &str| home.get(field).and_then(Value::as_str).filter(|name| !name.is_empty());
    if let Some(there) = class("priorityClassName").and_then(|name| maps.priority_classes.get(name)) {
        spec.insert("priorityClassName".to_owned(), there.as_str().into());
    }
    if let Some(name) = class("runtimeClassName") {
        let refusal = || Obstacle::field(format!("{path}.runtimeClassName"), format!("the cluster has no counterpart of {name}"));
        spec.insert("runtimeClassName".to_owned(), maps.runtime_classes.get(name).ok_or_else(refusal)?.as_str().into());
    }
    Ok(())
}

fn pull_secrets(travel: &mut Travel<'_>, home: &Map<String, Value>, path: &str, spec: &mut Map<String, Value>) -> Result<(), Obstacle> {
    let ours = &travel.target.spec.maps.pull_secrets;
    let mut secrets: Vec<Value> = ours.names.iter().map(|name| json!({ "name": name })).collect();
    if ours.mode == PullSecretMode::Copy {
        for (secret, path) in fields::objects(home, "imagePullSecrets", path)? {
            let name = fields::text(secret, "name", &path)?;
            secrets.extend(travel.bundles.pull_secret(name).map(|name| json!({ "name": name })));
        }
    }
    if !secrets.is_empty() {
        spec.insert("imagePullSecrets".to_owned(), secrets.into());
    }
    Ok(())
}

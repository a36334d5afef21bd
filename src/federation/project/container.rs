//! Containers. In: a container of the home pod. Out: the same for the run.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Obstacle, Travel, env, fields};
use crate::federation::spec::ImageRewrite;

const FIELDS: fields::Fields = fields::Fields {
    kept: &[
        "name",
        "command",
        "args",
        "workingDir",
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
    ],
    handled: &["image", "env", "envFrom", "volumeMounts", "volumeDevices"],
};
const RESOURCES: fields::Fields = fields::Fields { kept: &["requests", "limits"], handled: &["claims"] };
const MOUNTS: fields::Fields = fields::Fields {
    kept: &["name", "mountPath", "subPath", "subPathExpr", "readOnly", "recursiveReadOnly", "mountPropagation"],
    handled: &[],
};

/// What the pod's volumes mean for mounts.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    /// Left at home.
    pub dropped: BTreeSet<String>,
    /// Only for reading.
    pub read_only: BTreeSet<String>,
}

pub(super) fn container(travel: &mut Travel<'_>, volumes: &Volumes, from: &Map<String, Value>, path: &str) -> Result<Value, Obstacle> {
    let mut container = FIELDS.copy(from, path)?;
    container.insert("image".to_owned(), rewritten(fields::text(from, "image", path)?, &travel.target.spec.maps.images).into());
    if fields::says(from, "volumeDevices") {
        return Err(Obstacle::field(format!("{path}.volumeDevices"), "block devices cannot travel"));
    }
    for (port, path) in fields::objects(from, "ports", path)? {
        if fields::says(port, "hostPort") && !travel.target.spec.allow.host_ports {
            return Err(Obstacle::field(format!("{path}.hostPort"), "the cluster does not allow host ports"));
        }
    }
    if let Some(resources) = from.get("resources").filter(|resources| !resources.is_null()) {
        let (resources, path) = fields::object(resources, format!("{path}.resources"))?;
        if fields::says(resources, "claims") {
            return Err(Obstacle::field(format!("{path}.claims"), "resource claims cannot travel"));
        }
        container.insert("resources".to_owned(), RESOURCES.copy(resources, &path)?.into());
    }
    let variables = env::variables(travel, from, path)?;
    if !variables.is_empty() {
        container.insert("env".to_owned(), variables.into());
    }
    let mounts = mounts(volumes, from, path)?;
    if !mounts.is_empty() {
        container.insert("volumeMounts".to_owned(), mounts.into());
    }
    Ok(container.into())
}

fn mounts(volumes: &Volumes, from: &Map<String, Value>, path: &str) -> Result<Vec<Value>, Obstacle> {
    let mut mounts = Vec::new();
    for (mount, path) in fields::objects(from, "volumeMounts", path)? {
        let name = fields::text(mount, "name", &path)?;
        if volumes.dropped.contains(name) {
            continue;
        }
        let mut copy = MOUNTS.copy(mount, &path)?;
        if volumes.read_only.contains(name) {
            copy.insert("readOnly".to_owned(), true.into());
        }
        mounts.push(copy.into());
    }
    Ok(mounts)
}

/// The image's name over there.
pub(crate) fn rewritten(image: &str, rules: &[ImageRewrite]) -> String {
    let matching = rules.iter().find_map(|rule| Some((rule, image.strip_prefix(rule.prefix.as_str())?)));
    matching.map_or_else(|| image.to_owned(), |(rule, rest)| format!("{}{rest}", rule.replacement))
}

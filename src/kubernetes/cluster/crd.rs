//! The definition of `ComputeCluster`, made of the structs. In: their schemas. Out: the manifest, as committed in `manifests/crds/`; a test holds it current.

use serde_json::{Value, json};

use super::object::{ComputeClusterStatus, KIND, PLURAL};
use crate::{
    config::structural::{self, SPAN, bound, schema_of, set},
    federation::spec::ComputeClusterSpec,
};

const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const QUANTITY: &str = r"^\+?[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?$";

/// The manifest.
pub fn definition() -> Value {
    let names =
        json!({"kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL, "singular": KIND.to_lowercase(), "shortNames": ["cc"]});
    structural::definition(&names, "Cluster", &columns(), &schema())
}

/// The manifest as text, as committed.
pub fn text() -> Result<String, serde_saphyr::ser_error::Error> {
    let yaml = serde_saphyr::to_string(&definition())?;
    Ok(format!(
        "# Generated from src/federation/spec.rs and src/kubernetes/cluster/{{object,crd}}.rs: change it there, then run\n\
         # `ISOBAR_UPDATE=1 cargo test --test suite compute_cluster`.\n{yaml}"
    ))
}

fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let ready = |field: &str| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
    json!([
        column("State", "string", ".spec.state"),
        column("Ready", "string", &ready("status")),
        column("Nodes", "integer", ".status.nodes"),
        column("Runs", "integer", ".status.runs.active"),
        column("Version", "string", ".status.serverVersion"),
        column("Age", "date", ".metadata.creationTimestamp"),
        column("Reason", "string", &ready("reason")),
    ])
}

fn schema() -> Value {
    let mut spec = schema_of::<ComputeClusterSpec>();
    bound(&mut spec);
    refine(&mut spec);
    json!({
        "type": "object",
        "description": "A cluster that Isobar places pods on, beside its own.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": schema_of::<ComputeClusterStatus>(),
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
                "message": "the name is part of names and labels: a lower-case letter, then at most 39 letters, digits and inner hyphens",
            },
            {"rule": "self.metadata.name != 'home'", "message": "home stands for the home cluster: choose another name"},
        ],
    })
}

/// What the structs cannot say.
fn refine(spec: &mut Value) {
    spec["required"] = json!(["access"]);
    set(spec, "/properties/state", "default", &json!("Active"));
    set(spec, "/properties/access", "required", &json!(["kubeconfigSecretRef"]));
    let reference = "/properties/access/properties/kubeconfigSecretRef";
    set(spec, reference, "required", &json!(["namespace", "name"]));
    for field in ["namespace", "name"] {
        set(spec, &format!("{reference}/properties/{field}"), "minLength", &json!(1));
    }
    set(spec, &format!("{reference}/properties/key"), "default", &json!("kubeconfig"));
    set(spec, "/properties/runNamespace", "maxLength", &json!(63));
    set(spec, "/properties/runNamespace", "pattern", &json!(DNS_LABEL));
    for span in ["drain/properties/deadline", "lost/properties/notReadyAfter", "lost/properties/evictAfter", "lost/properties/forgetAfter"]
    {
        set(spec, &format!("/properties/{span}"), "pattern", &json!(SPAN));
        set(spec, &format!("/properties/{span}"), "maxLength", &json!(32));
    }
    for list in ["reserve", "resourceCap"] {
        set(spec, &format!("/properties/{list}/additionalProperties"), "pattern", &json!(QUANTITY));
    }
    refine_volumes(spec);
    spec["x-kubernetes-validations"] = json!([{
        "rule": "has(self.runNamespace) == has(oldSelf.runNamespace) && (!has(self.runNamespace) || self.runNamespace == oldSelf.runNamespace)",
        "message": "runNamespace cannot be changed: runs are in it; remove the cluster and add it again",
    }]);
}

fn refine_volumes(spec: &mut Value) {
    let rule = "/properties/volumes/items";
    let source = format!("{rule}/properties/source");
    set(spec, rule, "required", &json!(["source"]));
    set(
        spec,
        &source,
        "x-kubernetes-validations",
        &json!([{
            "rule": "(has(self.nfs) ? 1 : 0) + (has(self.csi) ? 1 : 0) + (has(self.claim) ? 1 : 0) == 1",
            "message": "a volume's source is exactly one of nfs, csi and claim",
        }]),
    );
    for (kind, fields) in [("nfs", &["server", "path"][..]), ("csi", &["driver"]), ("claim", &["name"])] {
        let kind = format!("{source}/properties/{kind}");
        set(spec, &kind, "required", &json!(fields));
        for field in fields {
            set(spec, &format!("{kind}/properties/{field}"), "minLength", &json!(1));
        }
    }
    let path = format!("{source}/properties/nfs/properties/path");
    set(spec, &path, "pattern", &json!("^/"));
    set(spec, &path, "maxLength", &json!(4096));
    set(spec, &format!("{source}/properties/csi/properties/volumeAttributes/additionalProperties"), "maxLength", &json!(4096));
}

#[cfg(test)]
#[path = "crd_tests.rs"]
mod tests;

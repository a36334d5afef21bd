//! The definition of `ComputeCluster` on the real API server: it is taken, its rules cost little enough, and they refuse what they should.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::harness::{
    assets::{Program, available},
    control_plane::{ControlPlane, Options},
    creation::post,
};

const COLLECTION: &str = "/apis/isobar.dev/v1alpha1/computeclusters";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_definition_takes_good_clusters_and_refuses_bad_ones() -> Result<()> {
    let test = "the_definition_takes_good_clusters_and_refuses_bad_ones";
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) {
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crds/computecluster.yaml"))?;
    let definition: Value = serde_saphyr::from_str(&text)?;
    post(&client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
    served(&client).await?;
    let created: Value =
        client.request(get(&format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", "computeclusters.isobar.dev"))?).await?;
    let structural = created["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "NonStructuralSchema");
    ensure!(structural.is_none(), "{structural:?}");

    for (name, spec) in good() {
        let answer = create(&client, name, spec).await;
        ensure!(answer.is_ok(), "{name}: {answer:?}");
    }
    let stored: Value = client.request(get(&format!("{COLLECTION}/minimal"))?).await?;
    ensure!(
        stored["spec"]["state"] == "Active" && stored["spec"]["access"]["kubeconfigSecretRef"]["key"] == "kubeconfig",
        "defaults: {stored}"
    );
    for (name, spec, wanted) in bad() {
        match create(&client, name, spec).await {
            Ok(taken) => anyhow::bail!("{wanted}: taken: {taken}"),
            Err(text) => ensure!(text.contains(wanted), "{text}\nwanted: {wanted}"),
        }
    }
    for (name, patch, wanted) in [
        ("minimal", json!({"spec": {"runNamespace": "late"}}), "runNamespace cannot be changed"),
        ("full", json!({"spec": {"runNamespace": "other"}}), "runNamespace cannot be changed"),
        ("full", json!({"spec": {"runNamespace": null}}), "runNamespace cannot be changed"),
    ] {
        let request = http::Request::patch(format!("{COLLECTION}/{name}")).header("Content-Type", "application/merge-patch+json");
        let answer = client.request_text(request.body(patch.to_string().into_bytes())?).await;
        ensure!(answer.as_ref().is_err_and(|error| error.to_string().contains(wanted)), "{name}: {answer:?}");
    }
    Ok(())
}

fn access() -> Value {
    json!({"kubeconfigSecretRef": {"namespace": "isobar-system", "name": "arm"}})
}

fn good() -> Vec<(&'static str, Value)> {
    let volumes = json!([
        {"match": {"claimName": "ws-*"}, "source": {"nfs": {"server": "nfs", "path": "/export/{namespace}/{claim}"}}},
        {"match": {"labels": {"data": "set"}}, "source": {"csi": {"driver": "d", "volumeAttributes": {"share": "{claim}"}}}, "readOnly": true},
        {"match": {}, "source": {"claim": {"name": "shared"}}},
    ]);
    vec![
        ("minimal", json!({"access": access()})),
        (
            "full",
            json!({
                "access": access(), "state": "Draining", "drain": {"mode": "Evict", "deadline": "30m"}, "force": false,
                "nodeSelector": {"pool": "batch"}, "excludedTaints": ["gpu"], "pin": "Affinity", "commit": "BindFirst", "runNamespace": "runs",
                "reserve": {"cpu": "500m", "memory": "1Gi"}, "runsMax": 100, "resourceCap": {"cpu": "100"}, "preference": 100, "data": ["imagenet"],
                "maps": {"priorityClasses": {"a": "b"}, "images": [{"prefix": "a/", "replacement": "b/"}], "pullSecrets": {"mode": "Local", "names": ["p"]}},
                "volumes": volumes, "allow": {"hostPorts": true, "csiDrivers": ["d"], "nfsServers": ["n"]}, "exportedLabels": ["team"], "logs": "Follow",
                "lost": {"notReadyAfter": "15s", "evictAfter": "5m", "forgetAfter": ""}, "limits": {"inFlight": 8, "perSecond": 20},
            }),
        ),
    ]
}

fn bad() -> Vec<(&'static str, Value, &'static str)> {
    let with = |key: &str, value: Value| {
        let mut spec = json!({"access": access()});
        spec[key] = value;
        spec
    };
    let two = json!([{"source": {"nfs": {"server": "s", "path": "/p"}, "claim": {"name": "c"}}}]);
    vec![
        ("home", with("state", json!("Active")), "home stands for the home cluster"),
        ("dots.in.name", with("state", json!("Active")), "lower-case letter"),
        ("forty-one-characters-are-one-more-than-fit", with("state", json!("Active")), "at most 39 letters"),
        ("a", json!({}), "spec.access: Required"),
        ("a", json!({"access": {"kubeconfigSecretRef": {"namespace": "n"}}}), "name: Required"),
        ("a", with("state", json!("Gone")), "supported values: \"Active\", \"Cordoned\", \"Draining\""),
        ("a", with("preference", json!(101)), "less than or equal to 100"),
        ("a", with("lost", json!({"evictAfter": "soon"})), "spec.lost.evictAfter"),
        ("a", with("reserve", json!({"cpu": "much"})), "spec.reserve"),
        ("a", with("runNamespace", json!("Not A Label")), "spec.runNamespace"),
        ("a", with("limits", json!({"inFlight": 0})), "greater than or equal to 1"),
        ("a", with("volumes", two), "exactly one of nfs, csi and claim"),
        ("a", with("volumes", json!([{"source": {}}])), "exactly one of nfs, csi and claim"),
        ("a", with("volumes", json!([{"source": {"nfs": {"server": "s", "path": "p"}}}])), "path"),
        ("a", with("misspelt", json!(1)), "unknown field \"spec.misspelt\""),
    ]
}

fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

/// As kubectl does: strict about fields.
async fn create(client: &kube::Client, name: &str, spec: Value) -> std::result::Result<String, String> {
    let object = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": name}, "spec": spec});
    let request = http::Request::post(format!("{COLLECTION}?fieldValidation=Strict")).header("Content-Type", "application/json");
    let request = request.body(object.to_string().into_bytes()).map_err(|error| error.to_string())?;
    client.request_text(request).await.map_err(|error| error.to_string())
}

async fn served(client: &kube::Client) -> Result<()> {
    for _ in 0..100 {
        if client.request_text(get(COLLECTION)?).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{COLLECTION} is not served")
}

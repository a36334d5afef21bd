//! What people apply is what the API server takes: every kustomization under `manifests/` is rendered by kubectl and sent to the real API server
//! as a server-side dry run, object by object.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::harness::{
    assets::{Program, available, skip},
    control_plane::{ControlPlane, Options},
    creation::post,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kustomization_is_accepted() -> Result<()> {
    let test = "every_kustomization_is_accepted";
    if !available(test, &[Program::Etcd, Program::KubeApiserver, Program::Kubectl]) {
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut folders = Vec::new();
    if root.is_dir() {
        find_kustomizations(&root, &mut folders)?;
    }
    if folders.is_empty() {
        skip(test, "there is no kustomization under manifests/");
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    let mut problems = Vec::new();
    for folder in &folders {
        let shown = folder.strip_prefix(&root).unwrap_or(folder).display();
        match accepts(&plane, folder).await {
            Ok(objects) => println!("{shown}: {} objects accepted: {}", objects.len(), objects.join(", ")),
            Err(problem) => problems.push(format!("{shown}: {problem:#}")),
        }
    }
    ensure!(problems.is_empty(), "{} of {} kustomizations are refused\n{}", problems.len(), folders.len(), problems.join("\n"));
    Ok(())
}

fn find_kustomizations(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    if entries.iter().any(|path| path.file_name().is_some_and(|name| name == "kustomization.yaml")) {
        found.push(folder.to_path_buf());
    }
    for path in entries.iter().filter(|path| path.is_dir()) {
        find_kustomizations(path, found)?;
    }
    Ok(())
}

/// The objects of one kustomization, or what the server says of the first that it refuses.
async fn accepts(plane: &ControlPlane, folder: &Path) -> Result<Vec<String>> {
    let objects = render(plane, folder)?;
    ensure!(!objects.is_empty(), "renders to nothing");
    prepare(plane, &objects).await?;
    let mut accepted = Vec::new();
    for object in objects {
        let (resource, namespace, name) = address(&object)?;
        let client = plane.client();
        // As kubectl does: strict, so that a misspelt field is an error and not dropped.
        let params = PatchParams {
            dry_run: true,
            force: true,
            field_manager: Some("isobar-test".to_owned()),
            field_validation: Some(kube::api::ValidationDirective::Strict),
        };
        let api: Api<DynamicObject> = match &namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        api.patch(&name, &params, &Patch::Apply(&object)).await.with_context(|| format!("{} {name}", resource.kind))?;
        accepted.push(format!("{} {name}", resource.kind));
    }
    Ok(accepted)
}

fn render(plane: &ControlPlane, folder: &Path) -> Result<Vec<Value>> {
    let path = folder.display().to_string();
    let answer = plane.kubectl(["kustomize", path.as_str()])?;
    ensure!(answer.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&answer.stderr));
    Ok(serde_saphyr::from_multiple(&String::from_utf8(answer.stdout)?)?)
}

/// Kinds of other projects, whose definitions a cluster with Prometheus' operator has, and namespaces, without which nothing in them can be judged.
async fn prepare(plane: &ControlPlane, objects: &[Value]) -> Result<()> {
    let client = plane.client();
    let mut namespaces = BTreeSet::new();
    for object in objects {
        let (resource, namespace, name) = address(object)?;
        namespaces.extend(namespace);
        if resource.kind == "Namespace" {
            namespaces.insert(name);
        }
        if resource.group == "monitoring.coreos.com" {
            define(plane, &resource).await?;
        }
    }
    for namespace in namespaces {
        if Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone()).get_opt(&namespace).await?.is_none() {
            plane.create_namespace(&namespace).await?;
        }
    }
    Ok(())
}

/// A definition without schema: the operator's own rules are not judged here, only that the object is one.
async fn define(plane: &ControlPlane, resource: &ApiResource) -> Result<()> {
    let client = plane.client();
    let name = format!("{}.{}", resource.plural, resource.group);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let exists = http::Request::get(format!("{definitions}/{name}")).body(Vec::new())?;
    if client.request_text(exists).await.is_err() {
        let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": name },
            "spec": {
                "group": resource.group, "scope": "Namespaced",
                "names": { "plural": resource.plural, "kind": resource.kind, "singular": resource.kind.to_lowercase() },
                "versions": [{ "name": resource.version, "served": true, "storage": true, "schema": schema }],
            },
        });
        post(&client, definitions, &definition).await?;
    }
    // Served a moment after it is established.
    for _ in 0..100 {
        let list = http::Request::get(format!("/apis/{}/{}/{}", resource.group, resource.version, resource.plural)).body(Vec::new())?;
        if client.request_text(list).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("{name} is not served")
}

/// What and where an object is.
fn address(object: &Value) -> Result<(ApiResource, Option<String>, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let api_version = text(&object["apiVersion"]).with_context(|| format!("an object without apiVersion: {object}"))?;
    let kind = text(&object["kind"]).with_context(|| format!("an object without kind: {object}"))?;
    let name = text(&object["metadata"]["name"]).with_context(|| format!("a {kind} without name"))?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    Ok((resource, text(&object["metadata"]["namespace"]), name))
}

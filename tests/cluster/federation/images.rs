//! Images and platforms, end to end: a registry that wants a password, a home cluster and a compute cluster with free nodes of ARM and a full one of x86.

use anyhow::{Context as _, Result, ensure};
use isobar::federation::names;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    NEEDS, annotation, phase,
    world::{TEAM, Wanted, World},
};
use crate::harness::{
    assets::{Program, available, isobar_available},
    images::Pusher,
    stores::Store,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_goes_only_where_it_runs() -> Result<()> {
    let test = "an_image_goes_only_where_it_runs";
    if !available(test, &NEEDS) || !available(test, &[Program::Registry]) || !isobar_available(test) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let store = Store::registry(folder.path()).await?;
    let pusher = Pusher::new(&store);
    let amd64 = pusher.push("team/both:amd64", "amd64").await?;
    let arm64 = pusher.push("team/both:arm64", "arm64").await?;
    pusher.push_index("team/both:1", &[amd64, arm64]).await?;
    let old = pusher.push("team/old:amd64", "amd64").await?;
    pusher.push_index("team/old:1", &[old]).await?;

    let wanted = Wanted { name: "mixed", nodes: vec![(2, "arm64", 0), (1, "amd64", 0)], spec: json!({}) };
    let world = World::start(&[wanted], json!({"resolve": true, "insecureRegistries": [store.address()]})).await?;
    if let Err(problem) = live_through(&world, &pusher).await {
        return Err(problem.context(world.told().await));
    }
    Ok(())
}

async fn live_through(world: &World, pusher: &Pusher) -> Result<()> {
    // Somebody over there has all of the one x86 node.
    let theirs = json!({
        "metadata": {"name": "theirs", "namespace": "default"},
        "spec": {"nodeName": "mixed-02", "containers": [{"name": "main", "image": "theirs", "resources": {"requests": {"cpu": "16"}}}],
                 "automountServiceAccountToken": false},
    });
    let over_there = Api::<Pod>::namespaced(world.clusters[0].plane.client(), "default");
    over_there.create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;

    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry", "namespace": TEAM}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": pusher.docker_config().to_string()},
    });
    // One image says its platform in its configuration, the other in its index.
    let pods = [("plain", "team/old:amd64"), ("indexed", "team/old:1"), ("both", "team/both:1")];
    let mut objects = vec![secret];
    objects.extend(pods.map(|(name, image)| pod(name, &pusher.image(image))));
    let file = world.folder.path().join("images.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    world.kubectl(&["apply", "-f", file.to_str().context("a path")?]).await?;

    runs_on(world, "both", &["mixed-00", "mixed-01"]).await?;
    for (name, image) in &pods[..2] {
        says_why_it_waits(world, name, &pusher.image(image)).await?;
    }
    // It is the image alone that keeps them away: the node that fits has room at last, and they need no help.
    over_there.delete("theirs", &DeleteParams::default().grace_period(0)).await?;
    for (name, _) in &pods[..2] {
        runs_on(world, name, &["mixed-02"]).await?;
    }
    Ok(())
}

fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": TEAM},
        "spec": {
            "schedulerName": "isobar-scheduler", "imagePullSecrets": [{"name": "registry"}], "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": image, "resources": {"requests": {"cpu": "1"}}}],
        },
    })
}

async fn runs_on(world: &World, name: &str, nodes: &[&str]) -> Result<()> {
    let pods = Api::<Pod>::namespaced(world.home.client(), TEAM);
    world
        .until(&format!("{name} runs"), || async {
            let pod = pods.get(name).await?;
            Ok((phase(&pod) != "Running").then(|| format!("{:?}", pod.status)))
        })
        .await?;
    let pod = pods.get(name).await?;
    let node = annotation(&pod, names::NODE);
    ensure!(nodes.contains(&node), "{name} is on {node}");
    let run = annotation(&pod, names::RUN).split_once('/').context("the run has a namespace")?.1.to_owned();
    let run = Api::<Pod>::namespaced(world.clusters[0].plane.client(), &world.runs).get(&run).await?;
    let node_over_there = run.spec.and_then(|spec| spec.node_name).unwrap_or_default();
    ensure!(node_over_there == node, "{name}'s run is on {node_over_there}");
    Ok(())
}

/// Its condition and its event name the full node, and the free ones with the image and their platform.
async fn says_why_it_waits(world: &World, name: &str, image: &str) -> Result<()> {
    let wanted = [
        "0/3 nodes are available".to_owned(),
        "1 Insufficient cpu".to_owned(),
        format!("2 node(s) had no matching platform of image {image:?} (linux/arm64)"),
    ];
    let told = |text: &str| wanted.iter().all(|wanted| text.contains(wanted));
    let condition = r#"jsonpath={.status.phase} {.spec.nodeName} {.status.conditions[?(@.type=="PodScheduled")]}"#;
    world
        .until(&format!("{name} says why it waits"), || async {
            let said = world.shows(&["get", "pod", name, "-n", TEAM, "-o", condition]).await?;
            let is_pending =
                said.starts_with("Pending  ") && said.contains(r#""reason":"Unschedulable""#) && said.contains(r#""status":"False""#);
            // JSON escapes the quotes around the image.
            Ok((!is_pending || !told(&said.replace('\\', ""))).then_some(said))
        })
        .await?;
    world
        .until(&format!("an event says why {name} waits"), || async {
            let of = format!("involvedObject.name={name},reason=FailedScheduling");
            let said = world.shows(&["get", "events", "-n", TEAM, "--field-selector", &of, "-o", "jsonpath={.items[*].message}"]).await?;
            Ok((!told(&said)).then_some(said))
        })
        .await
}

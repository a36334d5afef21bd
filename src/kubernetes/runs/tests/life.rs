//! Whole lives of pods with the real machine, from the engine's decision until nothing is left over there.

use serde_json::{Value, json};

use super::*;
use crate::sim::kubelet::{EXIT_CODE, RUN_MS};

#[tokio::test(start_paused = true)]
async fn a_batch_pod_ends_at_home_as_it_ended_over_there() {
    let mut world = World::new().await;
    world.kubelet();
    let _worker = world.worker();
    sleep(Duration::from_secs(1)).await;
    let pod = world.pod("job", "Never", json!({RUN_MS: "5000", EXIT_CODE: "42"})).await;
    world.tell(pod.place());
    let told = world.told.recv().await;
    assert!(matches!(&told, Some(EngineInput::Bound(uid)) if *uid == pod.uid), "{told:?}");
    world.until("the run runs", async |world| world.home_pod(&pod).await["status"]["phase"] == "Running").await;
    assert_eq!(world.run_of(&pod).await["metadata"]["finalizers"], json!([names::RUN_FINALIZER]));
    world.until("it has failed at home", async |world| world.home_pod(&pod).await["status"]["phase"] == "Failed").await;
    let state = world.home_pod(&pod).await["status"]["containerStatuses"][0]["state"].clone();
    assert_eq!(state["terminated"]["exitCode"], 42);
    world.until("nothing is left over there", async |world| world.cloud.server().objects("", "pods").is_empty()).await;
    assert_eq!(world.home_pod(&pod).await["status"]["phase"], "Failed");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_deleted_when_its_run_is_gone() {
    let mut world = World::new().await;
    world.kubelet();
    let _worker = world.worker();
    let pod = world.pod("web", "Always", json!({})).await;
    world.tell(pod.place());
    world.until("the run runs", async |world| world.home_pod(&pod).await["status"]["phase"] == "Running").await;
    world.at(&world.home, Method::DELETE, "/api/v1/namespaces/default/pods/web", &Value::Null).await;
    assert!(!world.home_pod(&pod).await.is_null(), "its end is not confirmed before the run's");
    world.until("both are gone", async |world| world.home_pod(&pod).await.is_null()).await;
    assert!(world.run_of(&pod).await.is_null());
    assert!(world.cloud.server().objects("", "pods").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let mut world = World::new().await;
    world.kubelet();
    let first = world.worker();
    let pod = world.pod("job", "Never", json!({RUN_MS: "20000"})).await;
    world.tell(pod.place());
    world.until("the run runs", async |world| world.home_pod(&pod).await["status"]["phase"] == "Running").await;
    let uid = world.run_of(&pod).await["metadata"]["uid"].clone();
    drop(first);
    world.until("the run has ended unseen", async |world| world.run_of(&pod).await["status"]["phase"] == "Succeeded").await;
    assert_eq!(world.home_pod(&pod).await["status"]["phase"], "Running");
    let _second = world.worker();
    world.until("it has ended at home", async |world| world.home_pod(&pod).await["status"]["phase"] == "Succeeded").await;
    let run = world.run_of(&pod).await;
    assert!(run.is_null() || run["metadata"]["uid"] == uid, "it ran once");
    world.until("nothing is left over there", async |world| world.cloud.server().objects("", "pods").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_pod_is_gone_at_home_is_killed_on_sight() {
    let mut world = World::new().await;
    world.kubelet();
    let pod = world.running("gone").await;
    let now = json!({"gracePeriodSeconds": 0});
    world.at(&world.home, Method::DELETE, "/api/v1/namespaces/default/pods/gone", &now).await;
    assert!(world.home_pod(&pod).await.is_null());
    let _worker = world.worker();
    world.until("nothing is left over there", async |world| world.cloud.server().objects("", "pods").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_happens_over_there_is_told_at_home() {
    let mut world = World::new().await;
    world.kubelet();
    let _worker = world.worker();
    let pod = world.pod("web", "Always", json!({})).await;
    world.tell(pod.place());
    world.until("the run runs", async |world| world.home_pod(&pod).await["status"]["phase"] == "Running").await;
    let uid = world.run_of(&pod).await["metadata"]["uid"].clone();
    let about =
        json!({"kind": "Pod", "namespace": RUNS, "name": &*pod.decision.run.name, "uid": uid, "fieldPath": "spec.containers{main}"});
    for (name, reason, message) in
        [("a", "Scheduled", "not for home"), ("b", "Failed", "Failed to pull image \"x\": no match for platform in manifest")]
    {
        let event = json!({
            "metadata": {"name": name, "namespace": RUNS}, "involvedObject": about, "reason": reason, "type": "Warning", "message": message,
            "source": {"component": "kubelet"}, "count": 1, "firstTimestamp": "1970-01-01T00:00:01Z", "lastTimestamp": "1970-01-01T00:00:01Z",
        });
        world.at(&world.cloud, Method::POST, &format!("/api/v1/namespaces/{RUNS}/events"), &event).await;
    }
    let told = async |world: &World| -> Vec<Value> {
        let events = world.home.server().objects("", "events");
        events.into_iter().filter(|event| event["source"]["component"] == "isobar/cloud/kubelet").collect()
    };
    world.until("it is told", async |world| !told(world).await.is_empty()).await;
    let events = told(&world).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["reason"], &events[0]["involvedObject"]["uid"]), (&json!("Failed"), &json!(&*pod.uid.0)));
    let learnt = async {
        loop {
            if let Some(EngineInput::ImagePlatforms(image, platforms)) = world.told.recv().await {
                return (image, platforms);
            }
        }
    };
    let learnt = tokio::time::timeout(Duration::from_secs(60), learnt).await.unwrap();
    assert_eq!(learnt, ("app".into(), crate::model::image::Platforms::Lacks("linux/arm64".into())));
}

#[tokio::test(start_paused = true)]
async fn bundles_that_no_run_lives_on_are_swept() {
    let world = World::new().await;
    let (waits, lives, ended) = (world.running("waits").await, world.running("lives").await, world.running("ended").await);
    let other = world.pod("other", "Never", json!({})).await;
    for pod in [&waits, &lives, &ended, &other] {
        let metadata = json!({
            "name": format!("{}-1", pod.decision.run.name), "namespace": &*pod.decision.run.namespace,
            "labels": {names::RUN_HOME_CLUSTER: &*world.entry.home_uid, names::RUN_HOME_UID: &*pod.uid.0},
            "annotations": {names::RUN_HOME_NAMESPACE: "default", names::RUN_HOME_NAME: &*pod.key.name},
        });
        let path = format!("/api/v1/namespaces/{}/secrets", pod.decision.run.namespace);
        assert!(world.at(&world.cloud, Method::POST, &path, &json!({ "metadata": metadata })).await.is_object());
    }
    // Two runs go without anybody being told: one is to be created again, the other's pod has ended. The pod of the last bundle runs nowhere.
    for pod in [&waits, &ended] {
        world.at(&world.cloud, Method::PATCH, &run_path(pod), &json!({"metadata": {"finalizers": null}})).await;
        world.at(&world.cloud, Method::DELETE, &format!("{}?gracePeriodSeconds=0", run_path(pod)), &Value::Null).await;
    }
    let status = format!("/api/v1/namespaces/default/pods/{}/status", ended.key.name);
    world.at(&world.home, Method::PATCH, &status, &json!({"status": {"phase": "Succeeded"}})).await;
    let _sweep = tokio::spawn(super::super::sweep::run(
        world.entry.clone(),
        Port::new(&api(&world.home, &world.metrics), world.permission(), 64),
        Port::new(&world.entry.api, world.permission(), 64),
        RunsMetrics::new(&world.metrics, "cloud"),
        1,
    ));
    sleep(Duration::from_secs(1_500)).await;
    let left: Vec<Value> = world.cloud.server().objects("", "secrets").iter().map(|secret| secret["metadata"]["name"].clone()).collect();
    let mut kept = [format!("{}-1", lives.decision.run.name), format!("{}-1", waits.decision.run.name)];
    kept.sort();
    assert_eq!(left, kept);
}

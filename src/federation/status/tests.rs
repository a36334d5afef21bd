//! What of a run's status is shown at home, and that it reads back as the same.

use serde_json::{Value, json};

use super::{digest, failed, mirror, mirrored, unreachable};
use crate::{
    federation::facts::{Decision, HomePod, Phase, RunName, RunPod},
    model::time::Timestamp,
};

fn decision() -> Decision {
    let run = RunName { namespace: "runs".into(), name: "p-u-2".into() };
    Decision { cluster: "cloud".into(), cluster_uid: "cu".into(), node: "n".into(), attempt: 2, run }
}

fn status() -> Value {
    json!({
        "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }], "hostIP": "10.1.0.1", "qosClass": "Burstable",
        "nominatedNodeName": "n", "observedGeneration": 4, "startTime": "2024-01-01T00:00:00Z",
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:01Z", "lastProbeTime": null, "observedGeneration": 4 },
        ],
        "containerStatuses": [{ "name": "c", "restartCount": 1, "ready": true, "state": { "running": { "startedAt": "2024-01-01T00:00:01Z" } },
                                "lastState": {}, "newerField": 1 }],
    })
}

fn home(status: &Value) -> HomePod {
    let pod = json!({
        "metadata": { "namespace": "ns", "name": "p", "uid": "u", "annotations": {
            "isobar.dev/cluster": "cloud", "isobar.dev/cluster-uid": "cu", "isobar.dev/node": "n", "isobar.dev/attempt": "2", "isobar.dev/run": "runs/p-u-2" } },
        "spec": { "nodeName": "isobar-cloud", "restartPolicy": "Never" },
        "status": status,
    });
    HomePod::read(&pod, "isobar-cloud").unwrap()
}

#[test]
fn addresses_and_other_truths_of_there_stay_there() {
    let patch = mirror(&mirrored(&status()), &[], &decision(), Timestamp(0)).to_string();
    for word in ["10.0.0.1", "10.1.0.1", "hostIP", "PodScheduled", "qosClass", "nominated", "observedGeneration", "newerField"] {
        assert!(!patch.contains(word), "{word} travels: {patch}");
    }
    assert!(patch.contains("cloud/n, attempt 2") && patch.contains("Attempt2"));
}

#[test]
fn what_was_mirrored_reads_back_as_mirrored() {
    let shown = mirrored(&status());
    let patch = mirror(&shown, &[("c".into(), 5)], &decision(), Timestamp(0));
    let mut at_home = patch["status"].clone();
    // What the home API server adds.
    at_home["hostIP"] = "172.16.0.1".into();
    at_home["qosClass"] = "Burstable".into();
    at_home["conditions"].as_array_mut().unwrap().push(json!({ "type": "PodScheduled", "status": "True" }));
    let facts = home(&at_home);
    assert_eq!(facts.status_digest, digest(&shown));
    assert!(facts.mirrored && facts.started && facts.phase == Phase::Running);
    assert_eq!(facts.restarts, [("c".into(), 5)], "restarts never go down");
    let mut other = status();
    other["containerStatuses"][0]["ready"] = false.into();
    assert_ne!(facts.status_digest, digest(&mirrored(&other)));
}

#[test]
fn losses_are_not_the_pods_own_fault() {
    let lost = failed("RemoteRunLost", "it is gone", Timestamp(1_704_067_200_000));
    let facts = home(&lost["status"]);
    assert_eq!((facts.phase, facts.mirrored), (Phase::Failed, false));
    let condition = &lost["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["lastTransitionTime"]), (&json!("DisruptionTarget"), &json!("2024-01-01T00:00:00Z")));
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "memory" });
    let patch = mirror(&mirrored(&evicted), &[], &decision(), Timestamp(0));
    assert!(patch["status"]["conditions"].as_array().unwrap().iter().any(|condition| condition["type"] == "DisruptionTarget"));
    assert_eq!(unreachable("cloud", Timestamp(0))["status"]["conditions"][0]["reason"], "ClusterUnreachable");
}

#[test]
fn runs_tell_how_far_they_came() {
    let run = |status: Value, deletion: Option<u64>| {
        let mut pod = json!({
            "metadata": { "namespace": "runs", "name": "p-u-2", "uid": "r", "labels": { "isobar.dev/home-pod-uid": "u", "isobar.dev/attempt": "2" },
                          "annotations": { "isobar.dev/home-namespace": "ns", "isobar.dev/home-name": "p" } },
            "status": status,
        });
        if let Some(grace) = deletion {
            pod["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:30Z".into();
            pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        }
        let run = RunPod::read(pod).unwrap();
        (run.phase, run.started, run.rejected.as_deref().map(str::to_owned))
    };
    let running = json!([{ "name": "c", "state": { "running": {} } }]);
    let cases = [
        (json!({ "phase": "Pending" }), None, (Phase::Pending, false, None)),
        (json!({ "phase": "Failed", "reason": "OutOfcpu" }), None, (Phase::Failed, false, Some("OutOfcpu"))),
        (json!({ "phase": "Failed", "reason": "DeadlineExceeded" }), None, (Phase::Failed, false, None)),
        (json!({ "phase": "Failed", "reason": "Evicted", "containerStatuses": running }), None, (Phase::Failed, true, None)),
        (json!({ "phase": "Running", "containerStatuses": running }), Some(30), (Phase::Running, true, None)),
        (json!({ "phase": "Running", "containerStatuses": running }), Some(0), (Phase::Failed, true, None)),
        (json!({ "phase": "Pending" }), Some(0), (Phase::Failed, false, Some("Deleted"))),
    ];
    for (status, deletion, (phase, started, rejected)) in cases {
        assert_eq!(run(status.clone(), deletion), (phase, started, rejected.map(str::to_owned)), "{status} {deletion:?}");
    }
    let foreign = RunPod::read(json!({ "metadata": { "namespace": "runs", "name": "p", "uid": "r" } })).unwrap_err();
    assert_eq!(foreign.to_string(), "run runs/p: labels lack isobar.dev/home-pod-uid: it was not created by this scheduler");
}

//! What a run is made of, field by field; what is refused; and that nothing else ever leaves, whatever a pod says.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Kind, Objects, Projection, Target, project, references};
use crate::federation::{
    facts::{Decision, RunName, RunPod},
    spec::ComputeClusterSpec,
};

fn decision() -> Decision {
    let run = RunName { namespace: "runs".into(), name: "web-u-1".into() };
    Decision { cluster: "cloud".into(), cluster_uid: "cu".into(), node: "node-7".into(), attempt: 1, run }
}

fn pod(spec: &Value) -> Value {
    let mut pod = json!({
        "metadata": { "namespace": "ns", "name": "web", "uid": "u", "generation": 3,
                      "labels": { "app": "web", "secret": "l" }, "annotations": { "note": "a $(X)" } },
        "spec": { "restartPolicy": "Never", "serviceAccountName": "robot", "containers": [{ "name": "c", "image": "busybox" }] },
    });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn container(fields: &Value) -> Value {
    let mut container = json!({ "name": "c", "image": "busybox" });
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "containers": [container] })
}

fn objects() -> Objects {
    let mut objects = Objects::default();
    objects.insert(Kind::ConfigMap, "conf".into(), json!({ "data": { "a": "text", "b": "other" }, "binaryData": { "bin": "AAEC" } }));
    objects.insert(Kind::Secret, "key".into(), json!({ "type": "Opaque", "data": { "k": "c2VjcmV0", "unused": "bm8=" } }));
    objects.insert(
        Kind::Secret,
        "pull".into(),
        json!({ "type": "kubernetes.io/dockerconfigjson", "data": { ".dockerconfigjson": "e30=" } }),
    );
    objects.insert(Kind::Secret, "token".into(), json!({ "type": "kubernetes.io/service-account-token", "data": { "token": "dA==" } }));
    objects.insert(Kind::Claim, "ws-anna".into(), json!({ "metadata": { "labels": { "kind": "ws" } } }));
    objects.insert(Kind::Claim, "data".into(), json!({}));
    objects
}

fn spec() -> ComputeClusterSpec {
    serde_json::from_value(json!({
        "maps": { "priorityClasses": { "high": "hi" }, "runtimeClasses": { "gvisor": "runsc" },
                  "images": [{ "prefix": "registry.home/", "replacement": "mirror.cloud/" }] },
        "volumes": [
            { "match": { "claimName": "ws-*", "labels": { "kind": "ws" } }, "source": { "nfs": { "server": "nas", "path": "/x/{namespace}/{claim}" } }, "readOnly": false },
            { "match": { "claimName": "d*" }, "source": { "csi": { "driver": "s3", "volumeAttributes": { "b": "{claim}" }, "nodePublishSecret": "s3" } } },
            { "match": { "claimName": "old" }, "source": { "claim": { "name": "there" } } },
        ],
        "allow": { "csiDrivers": ["inline.csi"], "nfsServers": ["nas"] },
        "exportedLabels": ["app", "missing"],
    }))
    .unwrap()
}

fn projected(pod: &Value) -> Result<Projection, String> {
    let decision = decision();
    project(pod, &objects(), &Target { spec: &spec(), decision: &decision, home_cluster_uid: "home" })
        .map_err(|obstacle| obstacle.to_string())
}

fn run(spec: &Value) -> Value {
    projected(&pod(spec)).unwrap().run
}

#[test]
fn a_run_says_whose_it_is_and_where_it_goes() {
    let run = run(&json!({}));
    let read = RunPod::read({
        let mut made = run.clone();
        made["metadata"]["uid"] = "r".into();
        made
    });
    let read = read.unwrap();
    assert_eq!((&*read.home.name, &*read.home_uid.0, read.attempt, read.home_generation, read.is_held), ("web", "u", 1, 3, true));
    assert_eq!(run["metadata"]["labels"]["app"], "web");
    assert!(run["metadata"]["labels"].get("secret").is_none() && run["metadata"]["annotations"].get("note").is_none());
    assert_eq!(run["spec"]["nodeName"], "node-7");
    assert_eq!(run["spec"]["hostname"], "web");
    assert_eq!((&run["spec"]["automountServiceAccountToken"], &run["spec"]["enableServiceLinks"]), (&json!(false), &json!(false)));
    let always = projected(&pod(&json!({ "restartPolicy": "Always" }))).unwrap().run;
    assert!(always["metadata"].get("finalizers").is_none());
}

#[test]
fn affinity_pins_by_name() {
    let mut spec = spec();
    spec.pin = crate::federation::spec::Pin::Affinity;
    let decision = decision();
    let target = Target { spec: &spec, decision: &decision, home_cluster_uid: "home" };
    let run = project(&pod(&json!({ "affinity": { "podAffinity": {} } })), &objects(), &target).unwrap().run;
    let term = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0";
    assert_eq!(run.pointer(term).unwrap(), &json!({ "key": "metadata.name", "operator": "In", "values": ["node-7"] }));
    assert!(run["spec"].get("nodeName").is_none() && run["spec"]["affinity"].get("podAffinity").is_none());
}

#[test]
fn what_means_something_at_home_only_stays() {
    let spec = json!({
        "nodeName": "isobar-cloud", "nodeSelector": { "a": "b" }, "schedulerName": "isobar", "priority": 5, "priorityClassName": "high",
        "preemptionPolicy": "Never", "serviceAccount": "robot", "topologySpreadConstraints": [{}], "runtimeClassName": "gvisor",
        "overhead": { "cpu": "1" }, "hostNetwork": false, "activeDeadlineSeconds": 60, "terminationGracePeriodSeconds": 5,
        "tolerations": [
            { "key": "gpu", "operator": "Exists" }, { "key": "isobar.dev/cluster", "operator": "Exists" },
            { "key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "operator": "Exists" },
            { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 300 },
        ],
        "containers": [{ "name": "c", "image": "registry.home/app:1" }],
    });
    let run = run(&spec);
    let keys: Vec<&str> = run["spec"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut keys = keys.clone();
    keys.sort_unstable();
    let want = [
        "activeDeadlineSeconds",
        "automountServiceAccountToken",
        "containers",
        "enableServiceLinks",
        "hostname",
        "nodeName",
        "priorityClassName",
        "restartPolicy",
        "runtimeClassName",
        "terminationGracePeriodSeconds",
        "tolerations",
    ];
    assert_eq!(keys, want);
    assert_eq!((&run["spec"]["priorityClassName"], &run["spec"]["runtimeClassName"]), (&json!("hi"), &json!("runsc")));
    assert_eq!(run["spec"]["containers"][0]["image"], "mirror.cloud/app:1");
    let tolerations: Vec<&Value> = run["spec"]["tolerations"].as_array().unwrap().iter().map(|toleration| &toleration["key"]).collect();
    assert_eq!(tolerations, ["gpu", "node.kubernetes.io/unreachable"]);
}

#[test]
fn environment_comes_from_the_bundle_and_from_what_the_home_pod_is() {
    let from = |source: Value| json!({ "name": "V", "valueFrom": source });
    let reference = |secret: &str, key: &str| json!({ "name": "V", "valueFrom": { "secretKeyRef": { "name": secret, "key": key } } });
    let field = |path: &str| from(json!({ "fieldRef": { "fieldPath": path, "apiVersion": "v1" } }));
    let text = |text: &str| json!({ "name": "V", "value": text });
    for (variable, want) in [
        (text("x"), Some(text("x"))),
        (from(json!({ "configMapKeyRef": { "name": "conf", "key": "a" } })), Some(reference("web-u-1", "c_conf_a"))),
        (from(json!({ "secretKeyRef": { "name": "key", "key": "k" } })), Some(reference("web-u-1", "s_key_k"))),
        (from(json!({ "secretKeyRef": { "name": "none", "key": "k", "optional": true } })), None),
        (from(json!({ "configMapKeyRef": { "name": "conf", "key": "none", "optional": true } })), None),
        (field("metadata.name"), Some(text("web"))),
        (field("metadata.uid"), Some(text("u"))),
        (field("metadata.labels['app']"), Some(text("web"))),
        (field("metadata.annotations['note']"), Some(text("a $$(X)"))),
        (field("spec.serviceAccountName"), Some(text("robot"))),
        (field("status.podIP"), Some(from(json!({ "fieldRef": { "fieldPath": "status.podIP" } })))),
        (
            from(json!({ "resourceFieldRef": { "resource": "limits.cpu" } })),
            Some(from(json!({ "resourceFieldRef": { "resource": "limits.cpu" } }))),
        ),
    ] {
        let run = run(&container(&json!({ "env": [variable] })));
        assert_eq!(run["spec"]["containers"][0].get("env"), want.map(|want| json!([want])).as_ref(), "{variable}");
    }
    let all = json!({ "envFrom": [{ "prefix": "P_", "configMapRef": { "name": "conf" } }, { "secretRef": { "name": "gone", "optional": true } }] });
    let names: Vec<Value> =
        run(&container(&all))["spec"]["containers"][0]["env"].as_array().unwrap().iter().map(|v| v["name"].clone()).collect();
    assert_eq!(names, ["P_a", "P_b", "P_bin"]);
}

#[test]
fn a_bundle_holds_what_is_referenced_and_nothing_else() {
    let mut spec = container(&json!({ "env": [{ "name": "K", "valueFrom": { "secretKeyRef": { "name": "key", "key": "k" } } }] }));
    spec["volumes"] = json!([{ "name": "v", "configMap": { "name": "conf", "defaultMode": 256, "items": [{ "key": "bin", "path": "p/b", "mode": 288 }] } }]);
    spec["imagePullSecrets"] = json!([{ "name": "pull" }, { "name": "gone" }]);
    let made = projected(&pod(&spec)).unwrap();
    let [bundle, pull] = &made.bundles[..] else { panic!("{:?}", made.bundles) };
    assert_eq!(bundle["data"], json!({ "c_conf_bin": "AAEC", "s_key_k": "c2VjcmV0" }));
    assert_eq!((&bundle["immutable"], &bundle["metadata"]["name"]), (&json!(true), &json!("web-u-1")));
    assert_eq!((&pull["metadata"]["name"], &pull["type"]), (&json!("web-u-1-pull-1"), &json!("kubernetes.io/dockerconfigjson")));
    assert_eq!(made.run["spec"]["imagePullSecrets"], json!([{ "name": "web-u-1-pull-1" }]));
    let items = json!([{ "key": "c_conf_bin", "path": "p/b", "mode": 288 }]);
    let want = json!({ "sources": [{ "secret": { "name": "web-u-1", "items": items } }], "defaultMode": 256 });
    assert_eq!(made.run["spec"]["volumes"], json!([{ "name": "v", "projected": want }]));
}

#[test]
fn large_configuration_is_split() {
    let mut objects = Objects::default();
    objects.insert(Kind::ConfigMap, "big".into(), json!({ "data": { "a": "x".repeat(700_000), "b": "y".repeat(700_000) } }));
    let decision = decision();
    let pod = pod(&json!({ "volumes": [{ "name": "v", "configMap": { "name": "big" } }] }));
    let made = project(&pod, &objects, &Target { spec: &spec(), decision: &decision, home_cluster_uid: "home" }).unwrap();
    let names: Vec<&Value> = made.bundles.iter().map(|bundle| &bundle["metadata"]["name"]).collect();
    assert_eq!(names, ["web-u-1", "web-u-1-2"]);
    let sources = made.run["spec"]["volumes"][0]["projected"]["sources"].as_array().unwrap();
    assert_eq!(sources.iter().map(|source| &source["secret"]["name"]).collect::<Vec<_>>(), names);
}

#[test]
fn volumes_over_there() {
    let token = json!({ "serviceAccountToken": { "path": "token" } });
    for (volume, want) in [
        (json!({ "emptyDir": { "medium": "Memory" } }), Some(json!({ "emptyDir": { "medium": "Memory" } }))),
        (json!({ "configMap": { "name": "none", "optional": true } }), Some(json!({ "emptyDir": {} }))),
        (
            json!({ "persistentVolumeClaim": { "claimName": "ws-anna" } }),
            Some(json!({ "nfs": { "server": "nas", "path": "/x/ns/ws-anna", "readOnly": false } })),
        ),
        (
            json!({ "persistentVolumeClaim": { "claimName": "ws-anna", "readOnly": true } }),
            Some(json!({ "nfs": { "server": "nas", "path": "/x/ns/ws-anna", "readOnly": true } })),
        ),
        (
            json!({ "persistentVolumeClaim": { "claimName": "data" } }),
            Some(
                json!({ "csi": { "driver": "s3", "volumeAttributes": { "b": "data" }, "nodePublishSecretRef": { "name": "s3" }, "readOnly": true } }),
            ),
        ),
        (json!({ "nfs": { "server": "nas", "path": "/p" } }), Some(json!({ "nfs": { "server": "nas", "path": "/p" } }))),
        (json!({ "csi": { "driver": "inline.csi" } }), Some(json!({ "csi": { "driver": "inline.csi" } }))),
        (
            json!({ "downwardAPI": { "items": [{ "path": "l", "fieldRef": { "fieldPath": "metadata.labels" } }] } }),
            Some(
                json!({ "downwardAPI": { "items": [{ "path": "l", "fieldRef": { "fieldPath": "metadata.annotations['isobar.dev/field-0']" } }] } }),
            ),
        ),
        (json!({ "projected": { "sources": [token] } }), None),
    ] {
        let mut volume = volume;
        volume["name"] = if want.is_none() { "kube-api-access-x".into() } else { "v".into() };
        let mut spec = container(&json!({ "volumeMounts": [{ "name": volume["name"], "mountPath": "/m" }] }));
        spec["volumes"] = json!([volume]);
        let run = run(&spec);
        let Some(mut want) = want else {
            assert!(run["spec"].get("volumes").is_none() && run["spec"]["containers"][0].get("volumeMounts").is_none());
            continue;
        };
        want["name"] = "v".into();
        assert_eq!(run["spec"]["volumes"], json!([want]));
        let is_read_only = volume.get("persistentVolumeClaim").is_some() && want.pointer("/nfs/readOnly") != Some(&json!(false));
        assert_eq!(run["spec"]["containers"][0]["volumeMounts"][0].get("readOnly").is_some(), is_read_only, "{volume}");
    }
}

#[test]
fn obstacles_say_where_they_are() {
    let volume = |volume: Value| json!({ "volumes": [volume] });
    let env = |source: Value| container(&json!({ "env": [{ "name": "V", "valueFrom": source }] }));
    for (spec, want) in [
        (json!({ "hostNetwork": true }), "spec.hostNetwork: the host's network cannot travel"),
        (json!({ "futureField": 1 }), "spec.futureField: is not known to this version and is not dropped silently"),
        (
            container(&json!({ "futureField": 1 })),
            "spec.containers[0].futureField: is not known to this version and is not dropped silently",
        ),
        (
            container(&json!({ "ports": [{ "hostPort": 80 }] })),
            "spec.containers[0].ports[0].hostPort: the cluster does not allow host ports",
        ),
        (container(&json!({ "resources": { "claims": [{}] } })), "spec.containers[0].resources.claims: resource claims cannot travel"),
        (json!({ "readinessGates": [{}] }), "spec.readinessGates: nobody sets the conditions of readiness gates over there"),
        (json!({ "runtimeClassName": "kata" }), "spec.runtimeClassName: the cluster has no counterpart of kata"),
        (volume(json!({ "name": "v", "hostPath": {} })), "spec.volumes[0].hostPath: a volume of this kind cannot travel"),
        (volume(json!({ "name": "v", "nfs": { "server": "x" } })), "spec.volumes[0].nfs: the cluster does not allow x"),
        (
            volume(json!({ "name": "v", "persistentVolumeClaim": { "claimName": "mine" } })),
            "spec.volumes[0].persistentVolumeClaim: the cluster has no rule for claim mine",
        ),
        (
            volume(json!({ "name": "v", "projected": { "sources": [{ "serviceAccountToken": {} }] } })),
            "spec.volumes[0].projected.sources[0].serviceAccountToken: a service-account token of home never travels",
        ),
        (
            env(json!({ "secretKeyRef": { "name": "token", "key": "token" } })),
            "spec.containers[0].env[0].valueFrom.secretKeyRef: secret token is a service-account token of home, which never travels",
        ),
        (
            env(json!({ "configMapKeyRef": { "name": "conf", "key": "none" } })),
            "spec.containers[0].env[0].valueFrom.configMapKeyRef: conf has no key none",
        ),
        (
            env(json!({ "fieldRef": { "fieldPath": "status.phase" } })),
            "spec.containers[0].env[0].valueFrom.fieldRef: status.phase cannot be told over there",
        ),
        (json!({ "containers": 5 }), "spec.containers: must be a list"),
    ] {
        assert_eq!(projected(&pod(&spec)).unwrap_err(), want);
    }
}

#[test]
fn references_are_named_once_and_optional_only_if_all_are() {
    let mut spec = container(&json!({
        "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k", "optional": true } } }],
        "envFrom": [{ "secretRef": { "name": "s" } }, { "configMapRef": { "name": "m", "optional": true } }],
    }));
    spec["volumes"] = json!([
        { "name": "kube-api-access-1", "projected": { "sources": [{ "serviceAccountToken": {} }, { "configMap": { "name": "kube-root-ca.crt" } }] } },
        { "name": "p", "persistentVolumeClaim": { "claimName": "c" } },
    ]);
    spec["imagePullSecrets"] = json!([{ "name": "pull" }]);
    let found: Vec<_> =
        references(&pod(&spec)).into_iter().map(|reference| (reference.kind, reference.name.to_string(), reference.optional)).collect();
    let want = [(Kind::ConfigMap, "m", true), (Kind::Secret, "pull", true), (Kind::Secret, "s", false), (Kind::Claim, "c", false)];
    assert_eq!(found, want.map(|(kind, name, optional)| (kind, name.to_owned(), optional)));
}

/// JSON made of the words of pods, so that arbitrary values get deep into the transformation.
fn json_value() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("name"),
        Just("containers"),
        Just("volumes"),
        Just("env"),
        Just("envFrom"),
        Just("valueFrom"),
        Just("secretKeyRef"),
        Just("secret"),
        Just("configMap"),
        Just("configMapRef"),
        Just("projected"),
        Just("sources"),
        Just("items"),
        Just("key"),
        Just("path"),
        Just("image"),
        Just("fieldRef"),
        Just("fieldPath"),
        Just("metadata.annotations['note']"),
        Just("conf"),
        Just("token"),
        Just("resources"),
        Just("csi"),
        Just("downwardAPI"),
        Just("persistentVolumeClaim"),
        Just("claimName"),
        Just("ws-anna"),
        Just("tolerations"),
        Just("status"),
        Just("é"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.clone().prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..5)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_pod_makes_it_panic_or_leak(spec in json_value(), fields in json_value(), status in json_value()) {
        let mut home = pod(&json!({}));
        home["spec"] = spec.clone();
        let _ = projected(&home);
        let _ = references(&home);
        if fields.is_object() {
            home = pod(&container(&fields));
            if let Ok(made) = projected(&home) {
                let all = format!("{made:?}");
                prop_assert!(!all.contains("bm8=") && !all.contains("dA=="), "an unreferenced key or a token leaves: {all}");
                let asked = fields.to_string().contains("metadata.annotations");
                prop_assert!(asked || !all.contains("a $"), "an annotation leaves: {all}");
            }
        }
        home["status"] = status.clone();
        home["spec"] = spec;
        let _ = crate::federation::facts::HomePod::read(&home, "isobar-cloud");
        let _ = RunPod::read(home);
        let _ = crate::federation::status::digest(&crate::federation::status::mirrored(&status));
        let _ = RunPod::read(status.clone());
        let _ = crate::federation::facts::HomePod::read(&status, "x");
    }
}

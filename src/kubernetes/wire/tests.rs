//! Objects as API servers and people write them, and the facts that must come of them.

use serde_json::{Value, json};

use super::*;
use crate::model::{
    devices::{DeviceClaimFacts, PodDeviceClaim},
    features::{self, NodeFeatures},
    in_tree::InTreePlugin,
    placement::{RecordedPlacement, TravelFacts},
    pod::PodSpecFacts,
    ports::{HostPort, Protocol},
    quantity::Quantity,
    selector::LabelSelectorFacts,
    storage::{ClaimFacts, CsiNodeFacts, VolumeFacts, VolumeSource},
    taints::Effect,
    terms::{SelectingKind, WhenUnsatisfiable},
    volumes::{Disk, PodVolume},
};

const RUNNING_POD: &str = include_str!("../../../tests/data/running-pod.json");

fn pod(value: &Value) -> PodFacts {
    let from_text = read_object::<PodFacts>(value.to_string().as_bytes(), ClusterId::HOME).unwrap();
    let from_tree = read_value::<PodFacts>(value, ClusterId::HOME).unwrap();
    assert_eq!(from_text.spec, from_tree.spec, "both ways of reading must agree");
    from_text
}

fn spec(spec: &Value) -> PodSpecFacts {
    pod(&json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).spec
}

fn milli(spec: &PodSpecFacts) -> i64 {
    spec.requests.effective.get("cpu").unwrap_or_default().milli()
}

fn cpu(amount: &str) -> Value {
    json!({"name": "c", "resources": {"requests": {"cpu": amount}}})
}

#[test]
fn reads_a_running_pod() {
    let facts = read_object::<PodFacts>(RUNNING_POD.as_bytes(), ClusterId(3)).unwrap();
    assert_eq!((facts.cluster, facts.key.to_string().as_str()), (ClusterId(3), "portal/web-6d5f9c7b8-x2x7p"));
    assert_eq!(facts.uid, PodUid::from("0f9c2b1e-7a4d-4f0e-9d0a-3b6f7a1c9e55"));
    assert_eq!(facts.created.0, 1_772_352_930_000);
    assert_eq!(facts.node_name.as_deref(), Some("node-0137"));
    assert_eq!((facts.deleting, facts.finished, facts.nominated_node.as_deref()), (false, false, None));
    assert_eq!(facts.labels.len(), 5);
    assert_eq!(&*facts.spec.scheduler_name, "isobar-scheduler");
    assert_eq!(facts.spec.requests.effective.get("memory"), Some(Quantity::from_units(256 << 20)));
    assert_eq!(facts.spec.tolerations.len(), 2);
    assert_eq!(*facts.spec.images, ["registry.example.org/portal/web:2.14.0".into()]);
    assert_eq!(facts.spec.wants, crate::model::pod::Wants::default());
}

#[test]
fn an_empty_object_and_nulls_are_read() {
    assert_eq!(&*pod(&json!({})).spec.scheduler_name, "default-scheduler");
    let nulls = json!({
        "metadata": {"name": "p", "labels": null, "creationTimestamp": null, "deletionTimestamp": null},
        "spec": {"containers": null, "affinity": null, "tolerations": null, "priority": null, "nodeName": null, "volumes": null,
                 "schedulingGates": null, "topologySpreadConstraints": null, "resourceClaims": null, "schedulingGroup": null, "overhead": null},
        "status": null,
    });
    let facts = pod(&nulls);
    assert_eq!((facts.deleting, facts.node_name), (false, None));
    assert_eq!(facts.spec.wants, crate::model::pod::Wants::default());
}

#[test]
fn sums_follow_the_shape_of_the_pod() {
    let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "200m"}}});
    for (spec_json, want) in [
        (json!({"containers": [cpu("100m"), cpu("0.1")]}), 200),
        (json!({"initContainers": [cpu("500m")], "containers": [cpu("100m")]}), 500),
        (json!({"initContainers": [sidecar, cpu("500m")], "containers": [cpu("100m")]}), 700),
        (json!({"containers": [cpu("100m")], "overhead": {"cpu": "7m"}}), 107),
        (json!({"containers": [cpu("100m")], "resources": {"requests": {"cpu": "1"}}}), 1000),
        // A limit without a request is the request; a request wins over its limit.
        (json!({"containers": [{"resources": {"limits": {"cpu": "300m"}}}]}), 300),
        (json!({"containers": [{"resources": {"limits": {"cpu": "300m"}, "requests": {"cpu": "100m"}}}]}), 100),
        // People write bare numbers in files.
        (json!({"containers": [{"resources": {"requests": {"cpu": 2}}}]}), 2000),
        (json!({"containers": [{"resources": {"requests": {"cpu": 0.5}}}]}), 500),
    ] {
        assert_eq!(milli(&spec(&spec_json)), want, "{spec_json}");
    }
}

#[test]
fn a_resize_counts_only_on_a_node() {
    let status = json!({"name": "c", "allocatedResources": {"cpu": "300m"}, "resources": {"requests": {"cpu": "400m"}}});
    let infeasible = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
    let build = |node: &str, conditions: &Value, wanted: &str| json!({"spec": {"nodeName": node, "containers": [cpu(wanted)]}, "status": {"conditions": conditions, "containerStatuses": [status]}});
    for (node, conditions, wanted, want) in [
        ("n", &Value::Null, "100m", 400),
        ("", &Value::Null, "100m", 100),
        ("n", &Value::Null, "900m", 900),
        ("n", &infeasible, "900m", 400),
    ] {
        assert_eq!(milli(&pod(&build(node, conditions, wanted)).spec), want, "{node:?} {conditions} {wanted}");
    }
}

#[test]
fn statuses_that_repeat_the_spec_change_nothing() {
    let mut value: Value = serde_json::from_str(RUNNING_POD).unwrap();
    let with = pod(&value);
    value["status"]["containerStatuses"] = Value::Null;
    assert_eq!(with.spec, pod(&value).spec);
}

#[test]
fn host_ports_come_from_containers_and_sidecars() {
    let port = |number: u16| json!([{"hostPort": number, "containerPort": 80}]);
    let facts = spec(&json!({
        "initContainers": [{"ports": port(1)}, {"restartPolicy": "Always", "ports": port(2)}],
        "containers": [{"ports": [{"hostPort": 3, "protocol": "UDP", "hostIP": "10.0.0.1"}, {"containerPort": 80}]}],
    }));
    assert_eq!(facts.host_ports, [HostPort::new("10.0.0.1", Protocol::Udp, 3), HostPort::new("", Protocol::Tcp, 2)]);
    let on_host = spec(&json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}]}]}));
    assert_eq!(on_host.host_ports, [HostPort::new("", Protocol::Tcp, 80)]);
}

#[test]
fn images_are_listed_in_order_with_volumes_last() {
    let facts = spec(&json!({
        "volumes": [{"name": "m", "image": {"reference": "model:1"}}],
        "initContainers": [{"image": "init"}],
        "containers": [{"image": "b"}, {"image": "a"}],
    }));
    assert_eq!(facts.images.iter().map(|image| &**image).collect::<Vec<_>>(), ["init", "b", "a", "model:1"]);
}

type Flag = fn(&crate::model::pod::Wants) -> bool;

#[test]
fn wants_name_what_other_rules_judge() {
    let cases: [(Value, Flag, bool); 2] = [
        (json!({"resourceClaims": [{"name": "gpu"}]}), |w| w.resource_claims, true),
        (json!({"schedulingGroup": {"podGroupName": "g"}}), |w| w.pod_group, true),
    ];
    for (spec_json, flag, want) in cases {
        assert_eq!(flag(&spec(&spec_json).wants), want, "{spec_json}");
    }
}

#[test]
fn needed_features_are_read_from_the_specification() {
    let none = NodeFeatures::default();
    let rule = |action: &str| json!([{"action": action, "exitCodes": {"operator": "In", "values": [1]}}]);
    let mount = json!([{"name": "v", "mountPath": "/v", "bindMountOptions": ["noexec"]}]);
    let options = none.with(features::BIND_MOUNT_OPTIONS, true);
    for (spec_json, want) in [
        (json!({"hostNetwork": true, "hostUsers": true}), none),
        (json!({"hostNetwork": false, "hostUsers": false}), none),
        (json!({"hostNetwork": true, "hostUsers": false}), none.with(features::USER_NAMESPACES_HOST_NETWORK, true)),
        (json!({"containers": [{"restartPolicyRules": rule("Restart")}]}), none),
        (json!({"containers": [{}, {"restartPolicyRules": rule("RestartAllContainers")}]}), none.with(features::RESTART_ALL, true)),
        (json!({"initContainers": [{"restartPolicyRules": rule("RestartAllContainers")}]}), none.with(features::RESTART_ALL, true)),
        (json!({"containers": [{"volumeMounts": [{"name": "v", "bindMountOptions": []}]}]}), none),
        (json!({"containers": [{"volumeMounts": mount}]}), options),
        (json!({"initContainers": [{"volumeMounts": mount}]}), options),
        (json!({"ephemeralContainers": [{"volumeMounts": mount}]}), options),
    ] {
        assert_eq!(spec(&spec_json).features, want, "{spec_json}");
    }
    let node: NodeFacts = read_value(
        &json!({"metadata": {"name": "n"}, "status": {"declaredFeatures": ["Other", "VolumeBindMountOptions"]}}),
        ClusterId::HOME,
    )
    .unwrap();
    assert_eq!(node.features, options);
}

#[test]
fn claims_of_devices_are_read_with_what_the_status_says_of_them() {
    let entries = json!([
        {"name": "a", "resourceClaimName": "shared"},
        {"name": "b", "resourceClaimTemplateName": "t"},
        {"name": "c", "resourceClaimTemplateName": "t"},
        {"name": "d", "resourceClaimTemplateName": "t"},
        {"name": "e", "podGroupResourceClaim": "newer"},
    ]);
    let statuses = json!([{"name": "b", "resourceClaimName": "p-b-1"}, {"name": "c"}]);
    let metadata = json!({"name": "p", "uid": "u"});
    let pod = json!({"metadata": metadata, "spec": {"resourceClaims": entries}, "status": {"resourceClaimStatuses": statuses}});
    let pod: PodFacts = read_value(&pod, ClusterId::HOME).unwrap();
    let devices = pod.spec.devices.unwrap();
    use PodDeviceClaim::{Awaited, Generated, Named, NotNeeded, Unknown};
    let want = [Named("shared".into()), Generated("p-b-1".into()), NotNeeded, Awaited, Unknown("e".into())];
    assert_eq!((&*devices.claims, &*devices.pod_uid), (want.as_slice(), "u"));
    assert_eq!(devices.names().collect::<Vec<_>>(), ["shared", "p-b-1"]);
}

#[test]
fn an_allocated_claim_says_where_and_whether_its_devices_are_ready() {
    let device = json!({"driver": "d", "pool": "p", "device": "gpu-0", "request": "r", "bindingConditions": ["Ready"],
        "bindingFailureConditions": ["Broken"], "skipNodeOperations": ["NodePrepareResources"]});
    let read = |conditions: Value| -> DeviceClaimFacts {
        let status = json!({
            "allocation": {"devices": {"results": [device]}, "nodeSelector": {"nodeSelectorTerms": [{"matchFields": []}]}},
            "devices": [{"driver": "d", "pool": "p", "device": "gpu-0", "conditions": conditions}],
            "reservedFor": [{"resource": "pods", "name": "q", "uid": "u"}],
        });
        read_value(&json!({"metadata": {"name": "c"}, "status": status}), ClusterId::HOME).unwrap()
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    for (conditions, ready) in [
        (json!([]), false),
        (json!([condition("Ready", "False")]), false),
        (json!([condition("Ready", "True")]), true),
        (json!([condition("Ready", "True"), condition("Broken", "True")]), false),
    ] {
        let facts = read(conditions);
        let allocation = facts.allocation.as_ref().unwrap();
        assert_eq!(allocation.unready_device.is_none(), ready);
        assert!(allocation.skips_node_operations && allocation.node_selector.is_some() && facts.is_reserved_for("u"));
    }
    let bare: DeviceClaimFacts = read_value(&json!({"metadata": {"name": "c"}}), ClusterId::HOME).unwrap();
    assert_eq!(bare.allocation, None);
}

#[test]
fn terms_about_other_pods_are_kept_as_written() {
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["b", "a"]}]});
    let term = json!({"topologyKey": "zone", "labelSelector": selector, "namespaces": ["x"], "namespaceSelector": {}});
    let facts = spec(&json!({
        "affinity": {
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term, {"topologyKey": "host"}]},
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [],
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "podAffinityTerm": term}],
            },
        },
    }));
    let affinity = facts.pod_affinity.unwrap();
    assert_eq!((affinity.required.len(), affinity.anti_required.len(), affinity.anti_preferred.len()), (2, 0, 1));
    assert_eq!(affinity.anti_preferred[0], (7, affinity.required[0].clone()));
    let first = &affinity.required[0];
    assert_eq!((&*first.topology_key, &first.namespaces[..]), ("zone", &["x".into()][..]));
    assert_eq!(first.namespace_selector, Some(LabelSelectorFacts::default()));
    let labels = first.label_selector.as_ref().unwrap();
    assert_eq!(labels.match_labels, [("app".into(), "web".into())]);
    assert_eq!((&*labels.match_expressions[0].operator, labels.match_expressions[0].values.len()), ("NotIn", 2));
    assert_eq!(affinity.required[1].label_selector, None);
    let none = spec(&json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}, "podAffinity": null}}));
    assert_eq!(none.pod_affinity, None);
}

#[test]
fn spread_constraints_have_upstreams_defaults_and_their_keys_merged() {
    let constraint = |more: Value| {
        let mut constraint = json!({"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}});
        constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let value = json!({"metadata": {"labels": {"hash": "1", "app": "a"}}, "spec": {"topologySpreadConstraints": [constraint]}});
        pod(&value).spec.spread.remove(0)
    };
    let plain = constraint(json!({}));
    assert_eq!((plain.max_skew, plain.min_domains, plain.when), (2, None, WhenUnsatisfiable::DoNotSchedule));
    assert_eq!((plain.honor_node_affinity, plain.honor_node_taints, plain.selector), (true, false, Some(LabelSelectorFacts::default())));
    let other = constraint(json!({
        "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 3, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor",
        "matchLabelKeys": ["hash", "absent"],
    }));
    assert_eq!((other.when, other.min_domains), (WhenUnsatisfiable::ScheduleAnyway, Some(3)));
    assert_eq!((other.honor_node_affinity, other.honor_node_taints), (false, true));
    assert_eq!(other.selector.unwrap().match_labels, [("hash".into(), "1".into())]);
    assert_eq!(constraint(json!({"labelSelector": null, "matchLabelKeys": ["hash"]})).selector, None, "it goes on matching nothing");
    assert_eq!(constraint(json!({"whenUnsatisfiable": "Never"})).when, WhenUnsatisfiable::Unknown);
}

#[test]
fn only_the_controlling_owner_of_a_known_kind_counts() {
    let owner = |version: &str, kind: &str, controller: bool| {
        let value = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n"},
            {"apiVersion": version, "kind": kind, "name": "o", "controller": controller},
        ]}});
        pod(&value).spec.owner.map(|owner| (owner.kind, owner.name))
    };
    assert_eq!(owner("apps/v1", "ReplicaSet", true), Some((SelectingKind::ReplicaSet, "o".into())));
    assert_eq!(owner("apps/v1", "StatefulSet", true), Some((SelectingKind::StatefulSet, "o".into())));
    assert_eq!(owner("v1", "ReplicationController", true), Some((SelectingKind::ReplicationController, "o".into())));
    for (version, kind, controller) in [("apps/v1", "ReplicaSet", false), ("v1", "ReplicaSet", true), ("batch/v1", "Job", true)] {
        assert_eq!(owner(version, kind, controller), None);
    }
}

#[test]
fn what_selects_pods_is_read_by_its_selector() {
    let object = |selector: Value| json!({"metadata": {"namespace": "x", "name": "o"}, "spec": {"selector": selector}}).to_string();
    let labels = |input| match input {
        crate::scheduler::input::Input::Selects(kind, namespace, name, Some(selector)) => {
            assert_eq!((&*namespace, &*name), ("x", "o"));
            (kind, selector.match_labels.len(), selector.match_expressions.len())
        }
        other => panic!("{other:?}"),
    };
    let service = read_object::<SelectingFacts<Service>>(object(json!({"a": "b"})).as_bytes(), ClusterId::HOME).unwrap();
    assert_eq!(labels(service.seen()), (SelectingKind::Service, 1, 0));
    let none = read_object::<SelectingFacts<Service>>(object(Value::Null).as_bytes(), ClusterId::HOME).unwrap();
    assert_eq!(labels(none.seen()), (SelectingKind::Service, 0, 0));
    let both = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]});
    let set = read_object::<SelectingFacts<ReplicaSet>>(object(both).as_bytes(), ClusterId::HOME).unwrap();
    assert_eq!(labels(set.seen()), (SelectingKind::ReplicaSet, 1, 1));
}

#[test]
fn affinity_and_conditions_are_kept_as_written() {
    let requirement = json!([{"key": "arch", "operator": "In", "values": ["arm64"]}]);
    let facts = pod(&json!({
        "spec": {
            "schedulingGates": [{"name": "quota"}],
            "preemptionPolicy": "Never",
            "priority": 7,
            "nodeSelector": {"disk": "ssd"},
            "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": requirement}]},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 9, "preference": {"matchFields": requirement}}],
            }},
        },
        "status": {"phase": "Pending", "nominatedNodeName": "n1", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are \"available\""},
        ]},
    }));
    assert_eq!(facts.gates, ["quota".into()]);
    assert_eq!((facts.spec.never_preempts, facts.spec.priority), (true, 7));
    assert_eq!(facts.nominated_node.as_deref(), Some("n1"));
    assert_eq!(facts.unscheduled_condition, Some(("Unschedulable".into(), "0/1 nodes are \"available\"".into())));
    let affinity = facts.spec.node_affinity.unwrap();
    assert_eq!(affinity.required.unwrap().terms[0].match_expressions[0].values, ["arm64".into()]);
    assert_eq!((affinity.preferred[0].weight, &*affinity.preferred[0].term.match_fields[0].key), (9, "arch"));
}

#[test]
fn reads_a_node() {
    let value = json!({
        "metadata": {"name": "n1", "uid": "u1", "labels": {"kubernetes.io/arch": "arm64"}},
        "spec": {"unschedulable": true, "taints": [
            {"key": "gpu", "effect": "NoSchedule"}, {"key": "x", "value": "y", "effect": "FromTheFuture"}]},
        "status": {
            "capacity": {"cpu": "9"},
            "allocatable": {"cpu": "3920m", "memory": "8Gi", "pods": "110", "nvidia.com/gpu": "2"},
            "images": [{"names": ["a:1", "a@sha256:0"], "sizeBytes": 42}, {"names": null}],
            "nodeInfo": {"architecture": "arm64", "operatingSystem": "linux", "kernelVersion": "6"},
        },
    });
    let facts = read_object::<NodeFacts>(value.to_string().as_bytes(), ClusterId::HOME).unwrap();
    assert_eq!((&*facts.name, &*facts.uid, facts.unschedulable), ("n1", "u1", true));
    assert_eq!((facts.taints.len(), facts.taints[0].effect), (1, Effect::NoSchedule));
    assert_eq!(facts.allocatable.get("nvidia.com/gpu"), Some(Quantity::from_units(2)));
    assert_eq!(facts.allocatable.get("cpu"), Some(Quantity::from_milli(3920)));
    assert_eq!((facts.images[0].names.len(), facts.images[0].size_bytes), (2, 42));
    assert_eq!((&*facts.architecture, &*facts.operating_system), ("arm64", "linux"));
}

#[test]
fn a_bad_object_says_its_name_and_what_is_wrong() {
    for (spec_json, want) in [
        (json!({"containers": [{"name": "web", "resources": {"requests": {"cpu": "lots"}}}]}), "web, cpu: \"lots\" is not a quantity"),
        (json!({"containers": "none"}), "invalid type"),
        (json!({"priority": "high"}), "invalid type"),
        (json!({"containers": [{"ports": [{"hostPort": 80, "protocol": "QUIC"}]}]}), "\"QUIC\" of host port 80"),
    ] {
        let value = json!({"metadata": {"namespace": "n", "name": "p", "uid": "u", "resourceVersion": "9"}, "spec": spec_json});
        let bad = read_object::<PodFacts>(value.to_string().as_bytes(), ClusterId::HOME).unwrap_err();
        assert!(bad.to_string().contains("Pod \"n/p\" cannot be read") && bad.why.contains(want), "{bad}");
        assert_eq!((&*bad.key, &*bad.resource_version), ("u", "9"));
        let line = json!({"type": "MODIFIED", "object": value}).to_string();
        let from_line = read_happening::<PodFacts>(line.as_bytes(), ClusterId::HOME).unwrap_err();
        assert!(bad.why.starts_with(&from_line.why), "{from_line}");
        assert_eq!(BadObject { why: String::new(), ..from_line }, BadObject { why: String::new(), ..bad });
    }
}

#[test]
fn lines_of_a_watch_are_told_apart() {
    let read = |line: &str| read_happening::<PodFacts>(line.as_bytes(), ClusterId(2)).unwrap();
    let object = r#"{"metadata":{"uid":"u","name":"p","resourceVersion":"5"}}"#;
    for line in [format!(r#"{{"type":"ADDED","object":{object}}}"#), format!(r#"{{"object":{object},"type":"MODIFIED"}}"#)] {
        let Happening::Seen { facts, resource_version, key } = read(&line) else { panic!("{line}") };
        assert_eq!((facts.cluster, &*resource_version, &*key), (ClusterId(2), "5", "u"));
    }
    assert!(matches!(read(&format!(r#"{{"type":"DELETED","object":{object}}}"#)), Happening::Gone { key, .. } if &*key == "u"));
    assert!(matches!(read(&format!(r#"{{"type":"SHINY","object":{object}}}"#)), Happening::Unknown(_)));
    let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"8","creationTimestamp":null}}}"#;
    assert!(matches!(read(bookmark), Happening::Bookmark { initial_end: false, .. }));
    let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"8","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
    assert!(matches!(read(end), Happening::Bookmark { initial_end: true, resource_version } if &*resource_version == "8"));
    let gone =
        r#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"status":"Failure","message":"old","reason":"Expired","code":410}}"#;
    assert!(matches!(read(gone), Happening::Failed { code: 410, .. }));
    assert!(read_happening::<PodFacts>(b"{\"type\":", ClusterId::HOME).is_err());
}

#[test]
fn one_bad_object_does_not_spoil_its_page() {
    let good = |uid: &str| json!({"metadata": {"uid": uid, "name": uid}});
    for broken in [
        json!({"metadata": {"uid": "b", "name": "b"}, "spec": {"priority": "high"}}),
        json!({"metadata": {"uid": "b", "name": "b"}, "spec": {"overhead": {"cpu": "?"}}}),
    ] {
        let body = json!({"metadata": {"resourceVersion": "7", "continue": "token"}, "items": [good("a"), broken, good("c")]}).to_string();
        let page = read_page::<PodFacts>(body.as_bytes(), ClusterId::HOME).unwrap();
        assert_eq!((&*page.resource_version, &*page.next), ("7", "token"));
        let keys: Vec<_> = page.items.iter().map(|item| item.as_ref().map_or_else(|bad| &*bad.key, |(_, key)| key)).collect();
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!(page.items.iter().filter(|item| item.is_err()).count(), 1);
    }
    let empty = read_page::<NodeFacts>(br#"{"metadata":{},"items":null}"#, ClusterId::HOME).unwrap();
    assert!(empty.items.is_empty() && empty.next.is_empty());
    assert!(read_page::<NodeFacts>(b"<html>", ClusterId::HOME).is_err());
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "\\PC*") {
        let _ = read_happening::<PodFacts>(text.as_bytes(), ClusterId::HOME);
        let _ = read_page::<NodeFacts>(text.as_bytes(), ClusterId::HOME);
    }

    #[test]
    fn any_piece_of_a_pod_may_be_missing(at in 0_usize..4000, len in 1_usize..200) {
        // Cut a piece out of the text: it is read or refused, with whatever name is left, and never panics.
        let bytes = RUNNING_POD.as_bytes();
        let cut: Vec<u8> = bytes.iter().enumerate().filter(|(i, _)| !(at..at + len).contains(i)).map(|(_, byte)| *byte).collect();
        let _ = read_object::<PodFacts>(&cut, ClusterId::HOME);
    }
}

#[test]
fn what_matters_of_a_pod_that_may_leave_home() {
    let travel =
        |spec: &Value| *pod(&json!({"metadata": {"name": "web-0", "namespace": "n"}, "spec": spec})).spec.travel.unwrap_or_default();
    let own = json!({"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
    let plain = json!([own, {"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "c"}}, {"name": "c", "secret": null}, {"name": "d"},
                       {"name": "e", "projected": {"sources": [{"configMap": {"name": "c"}}]}}, {"name": "f", "downwardAPI": {"items": []}}]);
    assert_eq!(travel(&json!({"volumes": plain})), TravelFacts::default());
    let facts = travel(&json!({
        "hostPID": true,
        "runtimeClassName": "kata",
        "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data-web-0"}},
            {"name": "b", "persistentVolumeClaim": {"claimName": "shared"}},
            {"name": "c", "nfs": {"server": "nas", "path": "/x"}},
            {"name": "d", "csi": {"driver": "x.csi"}},
            {"name": "e", "hostPath": {"path": "/"}},
            {"name": "f", "image": {"reference": "model:1"}},
            {"name": "g", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "h", "brandNewInSomeRelease": {"x": 1}},
            {"name": "i", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ],
    }));
    let want = TravelFacts {
        claims: vec!["data-web-#".into(), "shared".into()],
        nfs_servers: vec!["nas".into()],
        csi_drivers: vec!["x.csi".into()],
        fixed_volume: Some("ephemeral".into()),
        runtime_class: Some("kata".into()),
        host_namespaces: true,
        host_path: true,
        token: true,
        image_volumes: 1,
        ..TravelFacts::default()
    };
    assert_eq!(facts, want);
}

#[test]
fn annotations_of_ours_and_no_others() {
    let facts = pod(&json!({"metadata": {
        "name": "p",
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{\"long\": \"and quoted\"}",
            "isobar.dev/cluster": "cloud", "isobar.dev/node": "n1", "isobar.dev/attempt": "3", "isobar.dev/intent": "true",
            "isobar.dev/placement": "remote", "isobar.dev/data": "icon, era5,", "odd": null,
        },
        "ownerReferences": [{"kind": "DaemonSet", "name": "d"}],
    }}));
    assert_eq!(facts.recorded.as_deref(), Some(&RecordedPlacement { cluster: "cloud".into(), node: "n1".into(), intent: true }));
    assert_eq!(facts.run_attempt, 3);
    let travel = facts.spec.travel.unwrap();
    assert_eq!((travel.placement.as_deref(), travel.data), (Some("remote"), vec!["icon".into(), "era5".into()]));
    assert!(travel.tied_to_node);
    let half = pod(
        &json!({"metadata": {"name": "p", "annotations": {"isobar.dev/cluster": "cloud", "isobar.dev/node": "", "isobar.dev/attempt": "x"}}}),
    );
    assert_eq!((half.recorded, half.run_attempt, half.spec.travel), (None, 0, None));
    let node: NodeFacts =
        read_value(&json!({"metadata": {"name": "v", "labels": {"isobar.dev/virtual-node": "cloud"}}}), ClusterId::HOME).unwrap();
    assert!(node.is_virtual);
}

#[test]
fn volumes_are_claims_and_disks() {
    let volumes = |volumes: &Value| {
        let facts = pod(&json!({"metadata": {"name": "web-0", "namespace": "n", "uid": "u"}, "spec": {"volumes": volumes}}));
        facts.spec.volumes.map(|volumes| (volumes.list.to_vec(), volumes.owner.clone()))
    };
    assert_eq!(
        volumes(&json!([{"name": "a", "emptyDir": {}}, {"name": "b", "nfs": {"server": "s"}}, {"name": "c", "gcePersistentDisk": null}])),
        None
    );
    let disk = |plugin, id: &str, read_only| PodVolume::Disk(Disk::InTree { plugin, id: id.into(), read_only });
    let all = volumes(&json!([
        {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "own", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "c", "gcePersistentDisk": {"pdName": "d", "readOnly": true}},
        {"name": "d", "awsElasticBlockStore": {"volumeID": "v"}},
        {"name": "e", "azureDisk": {"diskURI": "/d", "kind": "managed"}},
        {"name": "f", "azureDisk": {"diskURI": "/d", "kind": "Dedicated"}},
        {"name": "g", "iscsi": {"iqn": "q", "readOnly": null}},
        {"name": "h", "rbd": {"monitors": ["m"], "image": "i"}},
        {"name": "i", "csi": {"driver": "x.csi"}},
    ]));
    let want = vec![
        PodVolume::Claim("data".into()),
        PodVolume::Ephemeral("web-0-own".into()),
        disk(InTreePlugin::GcePd, "d", true),
        disk(InTreePlugin::AwsEbs, "v", false),
        disk(InTreePlugin::AzureDisk, "/d", false),
        PodVolume::Disk(Disk::Iscsi { iqn: "q".into(), read_only: false }),
        PodVolume::Disk(Disk::Rbd { monitors: ["m".into()].into(), pool: "rbd".into(), image: "i".into(), read_only: false }),
        PodVolume::Csi("x.csi".into()),
    ];
    assert_eq!(all, Some((want, Some(("web-0".into(), "u".into())))));
}

#[test]
fn objects_of_storage_are_read_or_say_what_is_wrong() {
    let claim: ClaimFacts = read_value(
        &json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7", "annotations": {
                "volume.beta.kubernetes.io/storage-class": "old", "pv.kubernetes.io/bind-completed": "", "volume.kubernetes.io/selected-node": "a",
                "other": "x"}, "ownerReferences": [{"kind": "Pod", "uid": "p", "controller": true}]},
            "spec": {"storageClassName": "new", "resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOncePod"], "volumeName": "v"},
            "status": {"phase": "Lost"},
        }),
        ClusterId::HOME,
    )
    .unwrap();
    let want = ClaimFacts {
        namespace: "n".into(),
        name: "c".into(),
        uid: "u".into(),
        resource_version: "7".into(),
        controller_uid: Some("p".into()),
        class: "old".into(),
        volume: "v".into(),
        access_modes: vec!["ReadWriteOncePod".into()],
        requested: Some(Quantity::from_units(1 << 30)),
        volume_mode: "Filesystem".into(),
        is_lost: true,
        bind_completed: true,
        selected_node: Some("a".into()),
        ..ClaimFacts::default()
    };
    assert_eq!(claim, want);
    let volume: VolumeFacts = read_value(
        &json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": 5}, "gcePersistentDisk": {"pdName": "d"}, "claimRef": null,
            "nodeAffinity": {"required": {"nodeSelectorTerms": []}}}, "status": {"phase": "Available"}}),
        ClusterId::HOME,
    )
    .unwrap();
    assert_eq!(volume.source, VolumeSource::InTree { plugin: InTreePlugin::GcePd, id: "d".into() });
    assert!(
        volume.is_available && volume.claim_ref.is_none() && volume.node_affinity.is_some() && volume.capacity == Quantity::from_units(5)
    );
    let bad = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"resources": {"requests": {"storage": "much"}}}});
    let error = read_value::<ClaimFacts>(&bad, ClusterId::HOME).unwrap_err().to_string();
    assert!(
        error.starts_with("PersistentVolumeClaim \"n/c\" cannot be read and is ignored: spec.resources.requests, storage: \"much\""),
        "{error}"
    );
    let node: CsiNodeFacts = read_value(
        &json!({"metadata": {"name": "a", "annotations": {"storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/cinder,x"}},
            "spec": {"drivers": [{"name": "d", "allocatable": {"count": 3}}, {"name": "e", "allocatable": null}]}}),
        ClusterId::HOME,
    )
    .unwrap();
    assert!(node.has_migrated(InTreePlugin::Cinder) && !node.has_migrated(InTreePlugin::GcePd));
    assert_eq!((node.limit("d"), node.limit("e"), node.has("e"), node.has("f")), (Some(3), None, true, false));
}

//! Pods with volumes: claims bound, immediate and waiting, classes, capacity, limits of drivers, zones, and disks that only one may use. In: a cluster.
//! Out: the same with the objects of storage.

use serde_json::{Value, json};

use super::{
    cluster::{World, ZONE, ZONES, list_at},
    draw::Draw,
};

const DRIVER: &str = "csi.example.com";
const LOCAL: &str = "kubernetes.io/no-provisioner";

pub fn dress(draw: &mut Draw, world: &mut World) {
    world.asked["metadata"]["namespace"] = "web".into();
    classes(draw, world);
    for at in 0..world.nodes.len() {
        node_storage(draw, world, at);
    }
    volumes(draw, world);
    claims(draw, world);
    for pod in &mut world.pods {
        if draw.chance(50) {
            pod["metadata"]["namespace"] = "web".into();
            mount(draw, pod, 2);
        }
    }
    mount(draw, &mut world.asked, 3);
}

fn classes(draw: &mut Draw, world: &mut World) {
    for (name, provisioner, mode) in
        [("wait", DRIVER, "WaitForFirstConsumer"), ("now", DRIVER, "Immediate"), ("local", LOCAL, "WaitForFirstConsumer")]
    {
        let topologies = draw.maybe(20, |draw| json!([{"matchLabelExpressions": [{"key": ZONE, "values": draw.some(60, &ZONES)}]}]));
        world.others.push(json!({
            "kind": "StorageClass", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": name}, "provisioner": provisioner,
            "volumeBindingMode": mode, "allowedTopologies": topologies,
        }));
    }
    if draw.chance(60) {
        world.others.push(json!({
            "kind": "CSIDriver", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": DRIVER}, "spec": {"storageCapacity": draw.chance(60)},
        }));
    }
    for number in 0..draw.between(0, 3) {
        world.others.push(json!({
            "kind": "CSIStorageCapacity", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": format!("cap{number}"), "namespace": "web"},
            "storageClassName": "wait", "capacity": format!("{}Gi", draw.between(0, 20)),
            "nodeTopology": {"matchLabels": {ZONE: draw.pick(&ZONES)}},
            "maximumVolumeSize": draw.maybe(30, |draw| format!("{}Gi", draw.between(1, 10))),
        }));
    }
}

fn node_storage(draw: &mut Draw, world: &mut World, at: usize) {
    if draw.chance(15) {
        return;
    }
    let name = world.nodes[at]["metadata"]["name"].clone();
    let count = draw.maybe(60, |draw| json!({"count": draw.between(0, 3)}));
    let drivers = json!([{"name": DRIVER, "nodeID": name, "topologyKeys": [ZONE], "allocatable": count}]);
    world
        .others
        .push(json!({"kind": "CSINode", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": name}, "spec": {"drivers": drivers}}));
}

fn volumes(draw: &mut Draw, world: &mut World) {
    let nodes = world.nodes.len();
    for number in 0..6 {
        let affinity = draw.maybe(40, |draw| {
            let values = draw.some(60, &ZONES);
            let expression = if draw.chance(60) && !values.is_empty() {
                json!({"key": ZONE, "operator": "In", "values": values})
            } else {
                json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [format!("n{:02}", draw.index(nodes))]})
            };
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
        });
        let labels = draw.maybe(35, |draw| json!({ZONE: draw.pick(&["z0", "z1", "z0__z1"])}));
        world.others.push(json!({
            "kind": "PersistentVolume", "apiVersion": "v1", "metadata": {"name": format!("v{number}"), "labels": labels},
            "spec": {
                "capacity": {"storage": format!("{}Gi", draw.pick(&[1, 5, 10]))}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": draw.pick(&["wait", "local", "now"]), "nodeAffinity": affinity,
                "csi": {"driver": DRIVER, "volumeHandle": format!("h{number}")},
            },
            "status": {"phase": "Available"},
        }));
    }
}

fn claims(draw: &mut Draw, world: &mut World) {
    for number in 0..5_usize {
        let bound = draw.chance(50);
        let volume = bound.then(|| format!("v{number}"));
        let class = draw.maybe(92, |draw| draw.pick(&["wait", "wait", "local", "now", "gone"]));
        let annotations = bound.then(|| json!({"pv.kubernetes.io/bind-completed": "yes"}));
        let mode = draw.pick(&["ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod"]);
        world.others.push(json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "metadata": {"name": format!("claim{number}"), "namespace": "web", "uid": format!("uid{number}"), "annotations": annotations,
                "deletionTimestamp": draw.maybe(3, |_| "2026-01-01T00:00:00Z")},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": format!("{}Gi", draw.pick(&[1, 5, 8]))}},
                "storageClassName": class, "volumeName": volume},
            "status": {"phase": if bound { "Bound" } else { "Pending" }},
        }));
        let Some(name) = volume.filter(|_| draw.chance(95)) else { continue };
        if let Some(volume) =
            world.others.iter_mut().find(|object| object["kind"] == "PersistentVolume" && object["metadata"]["name"] == name)
        {
            let claim = json!({"kind": "PersistentVolumeClaim", "namespace": "web", "name": format!("claim{number}"), "uid": format!("uid{number}")});
            volume["spec"]["claimRef"] = claim;
            volume["spec"]["storageClassName"] = json!(class);
            volume["status"]["phase"] = "Bound".into();
        }
    }
}

fn mount(draw: &mut Draw, pod: &mut Value, count_max: i64) {
    for number in 0..draw.between(0, count_max) {
        let source = match draw.between(0, 9) {
            0 => json!({"gcePersistentDisk": {"pdName": draw.pick(&["d1", "d2"]), "readOnly": draw.chance(50)}}),
            1 => json!({"awsElasticBlockStore": {"volumeID": draw.pick(&["d1", "d2"])}}),
            2 => json!({"rbd": {"monitors": ["m1"], "image": "i", "pool": "p", "readOnly": draw.chance(50)}}),
            3 => json!({"iscsi": {"targetPortal": "t", "iqn": draw.pick(&["q1", "q2"]), "lun": 0, "readOnly": draw.chance(50)}}),
            4 => json!({"emptyDir": {}}),
            _ => json!({"persistentVolumeClaim": {"claimName": format!("claim{}", draw.between(0, 5))}}),
        };
        let mut volume = source;
        volume["name"] = format!("v{number}").into();
        list_at(pod, &["spec", "volumes"]).push(volume);
    }
}

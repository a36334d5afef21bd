//! Pods with volumes: claims bound, immediate, waiting and reserved, classes, capacity, limits of drivers, zones, plugins that were built in, and disks that
//! only one may use. In: a cluster. Out: the same with the objects of storage.
//!
//! Where the real plugins take the first of a map, cases leave no choice: no two volumes of a class are of one size, no two capacities of a class in a zone.

use serde_json::{Value, json};

use super::{
    cluster::{HOSTNAME, World, ZONE, ZONES, list_at},
    draw::Draw,
};

const DRIVER: &str = "csi.example.com";
const LOCAL: &str = "kubernetes.io/no-provisioner";
const GCE: &str = "kubernetes.io/gce-pd";
const GCE_DRIVER: &str = "pd.csi.storage.gke.io";
const EBS: &str = "kubernetes.io/aws-ebs";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE_BETA: &str = "failure-domain.beta.kubernetes.io/zone";
/// Zones of nodes as the drivers that replaced a plugin call them.
const DRIVER_ZONES: [&str; 2] = ["topology.gke.io/zone", "topology.ebs.csi.aws.com/zone"];
const VOLUMES: i64 = 8;
const CLAIMS: i64 = 7;
/// With one that does not exist.
const CLASSES: [&str; 8] = ["wait", "wait", "wait", "local", "local", "gce", "now", "gone"];

pub fn dress(draw: &mut Draw, world: &mut World) {
    world.asked["metadata"]["namespace"] = "web".into();
    world.asked["metadata"]["uid"] = "asked-uid".into();
    classes(draw, world);
    for at in 0..world.nodes.len() {
        node_storage(draw, world, at);
    }
    volumes(draw, world);
    claims(draw, world);
    attachments(draw, world);
    for pod in &mut world.pods {
        if draw.chance(50) {
            pod["metadata"]["namespace"] = "web".into();
            mount(draw, pod, 2);
        }
    }
    mount(draw, &mut world.asked, 3);
    ephemeral(draw, world);
    if draw.chance(20) {
        disputed_disk(draw, world);
    }
    if draw.chance(12) {
        replaced_plugin(draw, world);
    }
}

/// Claims that wait for their pod, with volumes and room of about their size: which volume a claim gets, and how full that leaves what it comes from.
pub fn dress_room(draw: &mut Draw, world: &mut World) {
    world.asked["metadata"]["namespace"] = "web".into();
    let mut add_object = |version: &str, kind: &str, name: &str, fields: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        fields.as_object().into_iter().flatten().for_each(|(key, value)| object[key] = value.clone());
        world.others.push(object);
    };
    for (class, provisioner) in [("wait", DRIVER), ("wait2", DRIVER), ("local", LOCAL), ("local2", LOCAL)] {
        add_object(
            "storage.k8s.io/v1",
            "StorageClass",
            class,
            json!({"provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"}),
        );
    }
    add_object("storage.k8s.io/v1", "CSIDriver", DRIVER, json!({"spec": {"storageCapacity": true}}));
    for (class, zone) in ["wait", "wait2"].into_iter().flat_map(|class| ZONES.map(|zone| (class, zone))) {
        let (capacity, most) = (draw.between(0, 12), draw.maybe(40, |draw| draw.between(1, 12)));
        let name = format!("{class}-{zone}");
        add_object(
            "storage.k8s.io/v1",
            "CSIStorageCapacity",
            &name,
            json!({
                "metadata": {"name": name, "namespace": "web"}, "storageClassName": class, "nodeTopology": {"matchLabels": {ZONE: zone}},
                "capacity": format!("{capacity}Gi"), "maximumVolumeSize": most.map(|most| format!("{most}Gi")),
            }),
        );
    }
    for number in 0..draw.between(1, 5) {
        let name = format!("v{number}");
        let goes = draw.maybe(20, |_| "2026-01-01T00:00:00Z");
        let near = draw.maybe(60, |draw| {
            json!({"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": ZONE, "operator": "In", "values": draw.some(60, &ZONES)}]}]}})
        });
        add_object(
            "v1",
            "PersistentVolume",
            &name,
            json!({
                "metadata": {"name": name, "deletionTimestamp": goes}, "status": {"phase": "Available"},
                "spec": {"capacity": {"storage": format!("{}Mi", 1024 * draw.between(1, 9) + number)}, "accessModes": ["ReadWriteOnce"],
                    "storageClassName": draw.pick(&["local", "local", "local2"]), "nodeAffinity": near, "nfs": {"server": "s", "path": "/"}},
            }),
        );
    }
    let classes = if draw.chance(50) { ["local", "local", "local2"] } else { ["wait", "wait", "wait2"] };
    for number in 0..draw.between(1, 3) {
        let name = format!("claim{number}");
        let class = if draw.chance(90) { draw.pick(&classes) } else { "wait" };
        add_object(
            "v1",
            "PersistentVolumeClaim",
            &name,
            json!({
                "metadata": {"name": name, "namespace": "web", "uid": format!("uid{number}")}, "status": {"phase": "Pending"},
                "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
                    "resources": {"requests": {"storage": format!("{}Gi", draw.between(1, 6))}}},
            }),
        );
        add(&mut world.asked, &name, json!({"persistentVolumeClaim": {"claimName": name}}));
    }
}

fn classes(draw: &mut Draw, world: &mut World) {
    let kinds = [
        ("wait", DRIVER, "WaitForFirstConsumer"),
        ("now", DRIVER, "Immediate"),
        ("local", LOCAL, "WaitForFirstConsumer"),
        ("gce", GCE, "WaitForFirstConsumer"),
    ];
    for (name, provisioner, mode) in kinds {
        let topologies = draw.maybe(20, |draw| {
            json!(draw.list(1, 2, |draw| json!({"matchLabelExpressions": draw.list(0, 2, |draw| {
                json!({"key": draw.pick(&[ZONE, ZONE, HOSTNAME]), "values": draw.some(60, &ZONES)})
            })})))
        });
        world.others.push(json!({
            "kind": "StorageClass", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": name}, "provisioner": provisioner,
            "volumeBindingMode": mode, "allowedTopologies": topologies,
        }));
    }
    if draw.chance(60) {
        world.others.push(json!({
            "kind": "CSIDriver", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": DRIVER},
            "spec": {"storageCapacity": draw.chance(60), "preventPodSchedulingIfMissing": draw.maybe(30, |draw| draw.chance(70))},
        }));
    }
    for zone in draw.some(60, &ZONES) {
        world.others.push(json!({
            "kind": "CSIStorageCapacity", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": zone, "namespace": "web"},
            "storageClassName": draw.pick(&["wait", "wait", "now"]), "capacity": format!("{}Gi", draw.between(0, 20)),
            "nodeTopology": draw.maybe(92, |_| json!({"matchLabels": {ZONE: zone}})),
            "maximumVolumeSize": draw.maybe(30, |draw| format!("{}Gi", draw.between(1, 10))),
        }));
    }
}

fn node_storage(draw: &mut Draw, world: &mut World, at: usize) {
    let node = &mut world.nodes[at];
    if let Some(zone) = node["metadata"]["labels"][ZONE].as_str().map(str::to_owned) {
        for key in DRIVER_ZONES {
            if draw.chance(70) {
                node["metadata"]["labels"][key] = zone.clone().into();
            }
        }
        if draw.chance(10) {
            node["metadata"]["labels"][REGION] = "r1".into();
        }
    }
    if draw.chance(15) {
        return;
    }
    let name = node["metadata"]["name"].clone();
    let mut drivers = Vec::new();
    for driver in [DRIVER, GCE_DRIVER] {
        if draw.chance(75) {
            let count = draw.maybe(60, |draw| json!({"count": draw.between(0, 3)}));
            drivers.push(json!({"name": driver, "nodeID": name, "topologyKeys": [ZONE], "allocatable": count}));
        }
    }
    let migrated = draw.maybe(50, |draw| draw.some(70, &[GCE, EBS]).join(","));
    world.others.push(json!({
        "kind": "CSINode", "apiVersion": "storage.k8s.io/v1",
        "metadata": {"name": name, "annotations": migrated.map(|names| json!({"storage.alpha.kubernetes.io/migrated-plugins": names}))},
        "spec": {"drivers": drivers},
    }));
}

/// Where a volume can be reached from.
fn affinity(draw: &mut Draw, nodes: usize) -> Value {
    let host = |draw: &mut Draw| format!("n{:02}", draw.index(nodes));
    let expression = match draw.between(0, 9) {
        0..=4 => {
            let values = draw.some(60, &ZONES);
            // One without values does not parse.
            json!({"key": draw.pick(&[ZONE, ZONE, ZONE, ZONE_BETA]), "operator": "In", "values": values})
        }
        5 => json!({"key": ZONE, "operator": draw.pick(&["Exists", "DoesNotExist"])}),
        _ => json!({"key": HOSTNAME, "operator": "In", "values": draw.list(1, 2, host)}),
    };
    let fields = draw.maybe(10, |draw| json!([{"key": "metadata.name", "operator": "In", "values": [host(draw)]}]));
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression], "matchFields": fields}]}})
}

fn volumes(draw: &mut Draw, world: &mut World) {
    let nodes = world.nodes.len();
    for number in 0..VOLUMES {
        let labels = draw.maybe(35, |draw| {
            let place = draw.pick(&["z0", "z1", "z0__z1", "z1__ z2", "z0__"]);
            let mut labels = json!({draw.pick(&[ZONE, ZONE, ZONE_BETA]): place});
            if draw.chance(20) {
                labels[REGION] = draw.pick(&["r1", "r2"]).into();
            }
            labels
        });
        let labels = labels.or_else(|| draw.maybe(30, |_| json!({"tier": "fast"})));
        let mut spec = json!({
            "capacity": {"storage": format!("{}Mi", 1024 * draw.pick(&[1, 5, 10]) + number)},
            "accessModes": draw.pick(&[&["ReadWriteOnce"][..], &["ReadWriteOnce"], &["ReadWriteOnce", "ReadWriteOncePod"], &["ReadWriteMany"]]),
            "storageClassName": draw.pick(&["wait", "local", "local", "gce", "now"]),
            "volumeMode": draw.maybe(8, |_| "Block"), "volumeAttributesClassName": draw.maybe(5, |_| "gold"),
            "nodeAffinity": draw.maybe(45, |draw| affinity(draw, nodes)),
            // Reserved by name, also for a claim of another namespace.
            "claimRef": draw.maybe(10, |draw| {
                json!({"kind": "PersistentVolumeClaim", "namespace": draw.pick(&["web", "web", "db"]), "name": format!("claim{}", draw.between(0, CLAIMS - 1))})
            }),
        });
        match draw.between(0, 9) {
            // One in several zones has the handle of its region, which only names of zones as that cloud has them tell.
            0 if !labels.as_ref().is_some_and(|labels| labels.to_string().contains("__")) => {
                spec["gcePersistentDisk"] = json!({"pdName": draw.pick(&["d1", "d2"])});
            }
            0 | 1 => spec["awsElasticBlockStore"] = json!({"volumeID": draw.pick(&["vol-d1", "aws://z0/vol-d2"])}),
            2 => spec["nfs"] = json!({"server": "s", "path": "/"}),
            _ => spec["csi"] = json!({"driver": DRIVER, "volumeHandle": format!("h{number}")}),
        }
        world.others.push(json!({
            "kind": "PersistentVolume", "apiVersion": "v1",
            "metadata": {"name": format!("v{number}"), "labels": labels, "deletionTimestamp": draw.maybe(3, |_| "2026-01-01T00:00:00Z")},
            "spec": spec, "status": {"phase": draw.pick(&["Available", "Available", "Available", "Available", "Released"])},
        }));
    }
}

fn claims(draw: &mut Draw, world: &mut World) {
    for number in 0..CLAIMS {
        let bound = draw.chance(45);
        let volume = bound.then(|| format!("v{number}"));
        let class = draw.maybe(94, |draw| draw.pick(&CLASSES));
        let mut annotations = json!({});
        if draw.chance(if bound { 95 } else { 3 }) {
            annotations["pv.kubernetes.io/bind-completed"] = "yes".into();
        }
        if !bound && draw.chance(12) {
            annotations["volume.kubernetes.io/selected-node"] = format!("n{:02}", draw.index(world.nodes.len())).into();
        }
        let mode = draw.pick(&["ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod"]);
        let phase = if draw.chance(2) {
            "Lost"
        } else if bound {
            "Bound"
        } else {
            "Pending"
        };
        world.others.push(json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "metadata": {"name": format!("claim{number}"), "namespace": "web", "uid": format!("uid{number}"), "annotations": annotations,
                "deletionTimestamp": draw.maybe(2, |_| "2026-01-01T00:00:00Z")},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": format!("{}Gi", draw.pick(&[1, 1, 5, 8]))}},
                "storageClassName": class, "volumeName": volume, "volumeMode": draw.maybe(5, |_| "Block"),
                "volumeAttributesClassName": draw.maybe(4, |_| "gold"),
                "selector": draw.maybe(12, |draw| match draw.between(0, 2) {
                    0 => json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}),
                    _ => json!({"matchLabels": {"tier": "fast"}}),
                })},
            "status": {"phase": phase},
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
    // A claim whose volume is gone.
    if draw.chance(10) {
        world.others.retain(|object| object["metadata"]["name"] != "v0");
    }
}

fn attachments(draw: &mut Draw, world: &mut World) {
    for number in 0..draw.between(0, 2) {
        world.others.push(json!({
            "kind": "VolumeAttachment", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": format!("attached{number}")},
            "spec": {"attacher": draw.pick(&[DRIVER, DRIVER, GCE_DRIVER]), "nodeName": format!("n{:02}", draw.index(world.nodes.len())),
                "source": {"persistentVolumeName": format!("v{}", draw.between(0, VOLUMES))}},
            "status": {"attached": draw.chance(80)},
        }));
    }
}

fn mount(draw: &mut Draw, pod: &mut Value, count_max: i64) {
    for number in 0..draw.between(0, count_max) {
        let source = match draw.between(0, 19) {
            kind @ 0..=3 => disk(draw, kind),
            4 => json!({"emptyDir": {}}),
            5 => json!({"csi": {"driver": DRIVER}}),
            6 => {
                let kind = draw.between(0, 4);
                replaced(draw, kind).2
            }
            // The last one does not exist.
            _ => json!({"persistentVolumeClaim": {"claimName": format!("claim{}", draw.between(0, 28) / 4)}}),
        };
        add(pod, &format!("v{number}"), source);
    }
}

fn add(pod: &mut Value, name: &str, mut volume: Value) {
    volume["name"] = name.into();
    list_at(pod, &["spec", "volumes"]).push(volume);
}

/// Of the four kinds that one pod may keep another from.
fn disk(draw: &mut Draw, kind: i64) -> Value {
    match kind {
        0 => json!({"gcePersistentDisk": {"pdName": draw.pick(&["d1", "d2"]), "readOnly": draw.chance(50)}}),
        1 => json!({"awsElasticBlockStore": {"volumeID": draw.pick(&["vol-d1", "aws://z0/vol-d1", "vol-d2"])}}),
        2 => json!({"rbd": {"monitors": draw.pick(&[&["m1"][..], &["m1", "m2"], &["m2"]]), "image": draw.pick(&["i", "i", "j"]),
            "pool": draw.pick(&["p", "p", "rbd"]), "readOnly": draw.chance(50)}}),
        _ => json!({"iscsi": {"targetPortal": "t", "iqn": draw.pick(&["q1", "q2"]), "lun": 0, "readOnly": draw.chance(50)}}),
    }
}

/// A volume of a plugin that a driver replaced: the plugin, the driver, the volume.
fn replaced(draw: &mut Draw, kind: i64) -> (&'static str, &'static str, Value) {
    let number = draw.between(1, 3);
    match kind {
        0 => {
            let volume = json!({"azureDisk": {"diskName": "d", "diskURI": format!("/d{number}"), "kind": "Managed"}});
            ("kubernetes.io/azure-disk", "disk.csi.azure.com", volume)
        }
        1 => ("kubernetes.io/cinder", "cinder.csi.openstack.org", json!({"cinder": {"volumeID": format!("c{number}")}})),
        2 => {
            let volume = json!({"azureFile": {"secretName": "s", "shareName": format!("f{number}")}});
            ("kubernetes.io/azure-file", "file.csi.azure.com", volume)
        }
        3 => {
            let volume = json!({"vsphereVolume": {"volumePath": format!("[d] v{number}")}});
            ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com", volume)
        }
        _ => ("kubernetes.io/portworx-volume", "pxd.portworx.com", json!({"portworxVolume": {"volumeID": format!("p{number}")}})),
    }
}

/// One kind of disk in all pods, so that what lets two of them share one shows.
fn disputed_disk(draw: &mut Draw, world: &mut World) {
    let kind = draw.pick(&[0, 1, 2, 2, 3]);
    // Alone, or what it has of claims decides first.
    if draw.chance(70) {
        world.asked["spec"]["volumes"] = json!([]);
    }
    add(&mut world.asked, "disputed", disk(draw, kind));
    for pod in &mut world.pods {
        if draw.chance(60) {
            add(pod, "disputed", disk(draw, kind));
        }
    }
}

/// One replaced plugin in most pods and in the limits of most nodes.
fn replaced_plugin(draw: &mut Draw, world: &mut World) {
    let kind = draw.between(0, 4);
    let (plugin, driver, volume) = replaced(draw, kind);
    add(&mut world.asked, "replaced", volume);
    for pod in &mut world.pods {
        if draw.chance(40) {
            add(pod, "replaced", replaced(draw, kind).2);
        }
    }
    for object in world.others.iter_mut().filter(|object| object["kind"] == "CSINode") {
        if draw.chance(85) {
            let count = draw.between(0, 2);
            let name = object["metadata"]["name"].clone();
            let limit = json!({"name": driver, "nodeID": name, "topologyKeys": [], "allocatable": {"count": count}});
            list_at(object, &["spec", "drivers"]).push(limit);
        }
        if draw.chance(85) {
            object["metadata"]["annotations"] = json!({"storage.alpha.kubernetes.io/migrated-plugins": plugin});
        }
    }
}

/// A claim that is made for the pod, or is still to be made, or was made for another one.
fn ephemeral(draw: &mut Draw, world: &mut World) {
    if !draw.chance(20) {
        return;
    }
    let template =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "wait", "resources": {"requests": {"storage": "1Gi"}}}});
    list_at(&mut world.asked, &["spec", "volumes"]).push(json!({"name": "own", "ephemeral": {"volumeClaimTemplate": template}}));
    if draw.chance(85) {
        let uid = if draw.chance(70) { "asked-uid" } else { "other-uid" };
        let class = draw.pick(&["wait", "local"]);
        // Of a volume that is gone VolumeZone asks nothing here, so that VolumeBinding has its word.
        let volume = draw.maybe(15, |draw| draw.pick(&["lost", "v7"]));
        world.others.push(json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "metadata": {"name": "asked-own", "namespace": "web", "uid": "own-uid",
                "annotations": volume.map(|_| json!({"pv.kubernetes.io/bind-completed": "yes"})),
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "asked", "uid": uid, "controller": true}]},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class, "volumeName": volume},
            "status": {"phase": "Pending"},
        }));
    }
}

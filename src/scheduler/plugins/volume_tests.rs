//! The rules about volumes: what each says in small worlds, nodes without some of their pods, nodes of other clusters, and which changes help. What they
//! say in all combinations is compared with the real plugins (`tests/golden`).

use std::sync::Arc;

use super::fixtures::{World, labelled, node, pod};
use crate::{
    model::{
        class::PodClass,
        cluster::ClusterFacts,
        ids::{ClusterId, NodeIx},
        in_tree::{InTreePlugin, ZONE},
        node::NodeFacts,
        pod::PodSpecFacts,
        quantity::Quantity,
        storage::{
            AttachmentFacts, BindingMode, CapacityFacts, ClaimFacts, ClassFacts, CsiDriverFacts, CsiNodeFacts, StorageFacts, VolumeFacts,
            VolumeSource,
        },
        volumes::{Disk, PodVolume, PodVolumes},
    },
    scheduler::{
        change::Change,
        framework::{CompiledFilter, NodeRule, Plugin},
        profile::PluginArgs,
        storage::StorageChange,
    },
};

const DRIVER: &str = "csi.example.com";

fn with(volumes: &[PodVolume]) -> PodSpecFacts {
    PodSpecFacts { volumes: Some(Arc::new(PodVolumes { list: volumes.into(), owner: None })), ..pod(&[]) }
}

fn claims(names: &[&str]) -> PodSpecFacts {
    with(&names.iter().map(|name| PodVolume::Claim((*name).into())).collect::<Vec<_>>())
}

fn disk(id: &str, read_only: bool) -> PodVolume {
    PodVolume::Disk(Disk::InTree { plugin: InTreePlugin::GcePd, id: id.into(), read_only })
}

fn claim(name: &str, class: &str) -> ClaimFacts {
    let requested = Some(Quantity::from_units(1 << 30));
    ClaimFacts { namespace: "default".into(), name: name.into(), class: class.into(), requested, ..ClaimFacts::default() }
}

fn bound(name: &str, volume: &str) -> ClaimFacts {
    ClaimFacts { volume: volume.into(), bind_completed: true, ..claim(name, "made") }
}

fn volume(name: &str) -> VolumeFacts {
    let source = VolumeSource::Csi { driver: DRIVER.into(), handle: name.into() };
    VolumeFacts { name: name.into(), source, is_available: true, capacity: Quantity::from_units(1 << 30), ..VolumeFacts::default() }
}

fn class(name: &str, provisioner: &str) -> ClassFacts {
    let binding_mode = BindingMode::WaitForFirstConsumer;
    ClassFacts { name: name.into(), provisioner: provisioner.into(), binding_mode, ..ClassFacts::default() }
}

fn csi_node(name: &str, limit: i32) -> CsiNodeFacts {
    CsiNodeFacts { name: name.into(), drivers: vec![(DRIVER.into(), Some(limit))], migrated: "".into() }
}

trait Store {
    fn store_in(self, world: &mut World);
}

macro_rules! store {
    ($($facts:ident $of:ident),*) => {$(
        impl Store for $facts {
            fn store_in(self, world: &mut World) {
                world.store(StorageFacts::$of(Box::new(self)));
            }
        }
    )*};
}
store!(ClaimFacts Claim, VolumeFacts Volume, ClassFacts Class, CsiNodeFacts CsiNode, CsiDriverFacts CsiDriver, AttachmentFacts Attachment);

/// The rule about nodes that a plugin makes of a class.
fn rule(plugin: &dyn Plugin, class: &PodClass, world: &World) -> Box<dyn NodeRule> {
    let mut outcome = plugin.filter().unwrap().compile(class, &world.nodes);
    loop {
        outcome = match outcome {
            CompiledFilter::Until(_, inner) => *inner,
            CompiledFilter::Rule(rule) => return rule,
            _ => panic!("no rule"),
        }
    }
}

#[test]
fn a_disk_is_mounted_once_unless_all_only_read() {
    let busy = "-node(s) had no available disk";
    for (used, wanted, want) in [
        (disk("d", false), disk("d", false), busy),
        (disk("d", true), disk("d", false), busy),
        (disk("d", true), disk("d", true), "ok"),
        (disk("d", false), disk("e", false), "ok"),
    ] {
        let mut world = World::new([node("a")]);
        world.run("a", &with(std::slice::from_ref(&used)));
        assert_eq!(world.ask("VolumeRestrictions", &with(&[wanted])), [want], "{used:?}");
    }
}

#[test]
fn a_claim_for_one_pod_is_refused_everywhere_while_it_is_used_and_asked_about_without_that_pod() {
    let mut world = World::new([node("a"), node("b")]);
    ClaimFacts { access_modes: vec!["ReadWriteOncePod".into()], ..bound("c", "v") }.store_in(&mut world);
    assert_eq!(world.ask("VolumeRestrictions", &claims(&["c"])), ["skip"]);
    world.run("a", &claims(&["c"]));
    let used = "-node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    assert_eq!(world.ask("VolumeRestrictions", &claims(&["c"])), [used, used]);
    // As preemption asks: node a without its pod has room, node b has not become better by itself.
    let (plugin, class) = (world.plugin("VolumeRestrictions", &PluginArgs::default()), world.class(&claims(&["c"])));
    let rule = rule(&*plugin, &class, &world);
    let mut without = world.nodes.at(0).clone();
    without.volumes.clear();
    assert!(rule.admits(&without, &world.nodes) && !rule.admits(world.nodes.at(1), &world.nodes));
    world.nodes.remove_pod(NodeIx(0), &class);
    assert_eq!(world.ask("VolumeRestrictions", &claims(&["c"])), ["skip"]);
}

#[test]
fn volumes_count_once_per_node_whoever_uses_them() {
    let too_many = "-node(s) exceed max volume count";
    let mut world = World::new([node("a"), node("b")]);
    csi_node("a", 2).store_in(&mut world);
    for name in ["c1", "c2", "c3"] {
        bound(name, name).store_in(&mut world);
        volume(name).store_in(&mut world);
    }
    class("made", DRIVER).store_in(&mut world);
    claim("open", "made").store_in(&mut world);
    world.run("a", &claims(&["c1"]));
    for (wanted, want) in
        [(&["c2"][..], "ok"), (&["c1", "c2"], "ok"), (&["c2", "c3"], too_many), (&["c2", "open"], too_many), (&["open"], "ok")]
    {
        assert_eq!(world.ask("NodeVolumeLimits", &claims(wanted)), [want, "ok"], "{wanted:?}");
    }
    AttachmentFacts { name: "t".into(), attacher: DRIVER.into(), node: "a".into(), volume: Some("c3".into()) }.store_in(&mut world);
    assert_eq!(world.ask("NodeVolumeLimits", &claims(&["c2"])), [too_many, "ok"]);
    CsiDriverFacts { name: DRIVER.into(), needed_on_node: true, ..CsiDriverFacts::default() }.store_in(&mut world);
    let missing = "-csi.example.com CSI driver is not installed on the node";
    assert_eq!(world.ask("NodeVolumeLimits", &claims(&["c2"])), [too_many, missing]);
}

#[test]
fn a_volume_is_in_the_zone_of_its_node() {
    let mut world = World::new([labelled("a", &[(ZONE, "z1")]), labelled("b", &[(ZONE, "z2")]), node("c")]);
    bound("c", "v").store_in(&mut world);
    VolumeFacts { labels: vec![(ZONE.into(), "z1__z3".into())], ..volume("v") }.store_in(&mut world);
    assert_eq!(world.ask("VolumeZone", &claims(&["c"])), ["ok", "!node(s) had no available volume zone", "ok"]);
}

/// What is asked about a node of a compute cluster is asked by `ClusterFit`.
#[test]
fn nodes_of_compute_clusters_are_not_judged() {
    let mut world = World::new([node("a")]);
    world.cluster(ClusterFacts { id: ClusterId(1), name: "cloud".into(), ..ClusterFacts::default() });
    world.add(&NodeFacts { cluster: ClusterId(1), ..node("n") });
    let missing = "!persistentvolumeclaim \"c\" not found";
    for plugin in ["VolumeRestrictions", "VolumeBinding", "VolumeZone"] {
        assert_eq!(world.ask(plugin, &claims(&["c"])), [missing, "ok"], "{plugin}");
    }
    let looked_up = "!looking up PVC default/c: persistentvolumeclaim \"c\" not found";
    assert_eq!(world.ask("NodeVolumeLimits", &claims(&["c"])), [looked_up, "ok"]);
}

#[test]
fn which_changes_of_storage_help_whom() {
    let mut world = World::new([node("a")]);
    let waiting = world.class(&with(&[PodVolume::Claim("c".into()), disk("d", false), PodVolume::Csi(DRIVER.into())]));
    let new = |facts: ClaimFacts| StorageChange::Claim(None, Arc::new(facts));
    let changed = |facts: ClaimFacts| StorageChange::Claim(Some(Arc::new(claim("c", "x"))), Arc::new(facts));
    let elsewhere = ClaimFacts { namespace: "other".into(), ..claim("c", "") };
    let zoned = |zone: &str| Arc::new(VolumeFacts { labels: vec![(ZONE.into(), zone.into())], ..volume("v") });
    let limited = |limit| Arc::new(csi_node("a", limit));
    let counting = |is| Arc::new(CsiDriverFacts { name: DRIVER.into(), storage_capacity: is, needed_on_node: false });
    let room = |units| Arc::new(CapacityFacts { capacity: Some(Quantity::from_units(units)), ..CapacityFacts::default() });
    let detached =
        |attacher: &str| StorageChange::Detached(Arc::new(AttachmentFacts { attacher: attacher.into(), ..AttachmentFacts::default() }));
    let at_once = ClassFacts { binding_mode: BindingMode::Immediate, ..class("s", "x") };
    // VolumeRestrictions, NodeVolumeLimits, VolumeBinding, VolumeZone.
    for (change, want) in [
        (new(claim("c", "")), [true, true, true, true]),
        (changed(claim("c", "")), [false, false, true, true]),
        (new(claim("other", "")), [false, false, false, false]),
        (new(elsewhere), [false, false, false, false]),
        (StorageChange::Volume(None, zoned("a")), [false, false, true, true]),
        (StorageChange::Volume(Some(zoned("a")), zoned("a")), [false, false, true, false]),
        (StorageChange::Volume(Some(zoned("a")), zoned("b")), [false, false, true, true]),
        (StorageChange::Class(None, Arc::new(class("s", "x"))), [false, false, true, true]),
        (StorageChange::Class(None, Arc::new(at_once)), [false, false, true, false]),
        (StorageChange::Class(Some(Arc::new(class("s", "x"))), Arc::new(class("s", "y"))), [false, false, false, false]),
        (StorageChange::CsiNode(None, limited(1)), [false, true, true, false]),
        (StorageChange::CsiNode(Some(limited(1)), limited(2)), [false, true, false, false]),
        (StorageChange::CsiNode(Some(limited(2)), limited(1)), [false, false, false, false]),
        (StorageChange::CsiDriver(Some(counting(true)), counting(false)), [false, false, true, false]),
        (StorageChange::CsiDriver(Some(counting(false)), counting(true)), [false, false, false, false]),
        (StorageChange::Capacity(None, room(1)), [false, false, true, false]),
        (StorageChange::Capacity(Some(room(1)), room(2)), [false, false, true, false]),
        (StorageChange::Capacity(Some(room(2)), room(1)), [false, false, false, false]),
        (detached("any"), [false, true, false, false]),
    ] {
        for (name, want) in ["VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone"].into_iter().zip(want) {
            let plugin = world.plugin(name, &PluginArgs::default());
            let asked = plugin.curing_changes().intersects(Change::Storage(&change).kinds());
            let got = asked && plugin.cures(&waiting, &Change::Storage(&change), &world.nodes);
            assert_eq!(got, want, "{name}: {change:?}");
        }
    }
}

#[test]
fn which_pods_that_go_help_whom() {
    let mut world = World::new([node("a")]);
    let waiting = world.class(&with(&[PodVolume::Claim("c".into()), disk("d", false)]));
    let none = world.class(&pod(&[]));
    let same = world.class(&claims(&["c"]));
    let other = world.class(&claims(&["x"]));
    let same_disk = world.class(&with(&[disk("d", true)]));
    let other_disk = world.class(&with(&[disk("e", true)]));
    let elsewhere = world.class_in("other", &[], &claims(&["c"]));
    for (gone, want) in [
        (none, [false, false, false]),
        (same, [true, true, true]),
        (other, [false, true, true]),
        (same_disk, [true, true, false]),
        (other_disk, [false, true, false]),
        (elsewhere, [false, true, true]),
    ] {
        for (name, want) in ["VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding"].into_iter().zip(want) {
            let plugin = world.plugin(name, &PluginArgs::default());
            let change = Change::PodDelete { class: &gone, node: NodeIx(0) };
            assert_eq!(plugin.cures(&waiting, &change, &world.nodes), want, "{name}: {:?}", gone.volumes);
        }
    }
}

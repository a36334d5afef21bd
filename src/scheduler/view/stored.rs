//! What happens to storage in random histories, and pods with volumes to be asked about.

use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    model::{
        affinity::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        ids::{ClusterId, PodUid},
        in_tree::InTreePlugin,
        node::{HOSTNAME_LABEL, ZONE_LABEL},
        quantity::Quantity,
        selector::LabelSelectorFacts,
        storage::{
            AttachmentFacts, BindingMode, CapacityFacts, ClaimFacts, ClaimRef, ClassFacts, CsiDriverFacts, CsiNodeFacts, StorageFacts,
            StorageKind, VolumeFacts, VolumeSource,
        },
        volumes::{Disk, PodVolume, PodVolumes},
    },
    scheduler::{nodes::Nodes, storage::Found},
};

/// How many classes have volumes.
pub const CLASSES: u8 = 4;
const DRIVER: &str = "d";
const CLAIMS: u8 = 4;

#[derive(Clone, Debug)]
pub enum Step {
    Seen(StorageFacts),
    Gone(StorageKind, String),
    /// A claim gets a volume, or a node, by a decision.
    Book {
        claim: u8,
        volume: Option<u8>,
        node: u8,
    },
    GiveBack {
        claim: u8,
    },
}

/// Volumes of the pods of a class.
pub fn volumes(number: u8) -> Arc<PodVolumes> {
    let claim = |at: u8| PodVolume::Claim(format!("c{at}").into());
    let disk = PodVolume::Disk(Disk::InTree { plugin: InTreePlugin::GcePd, id: "disk".into(), read_only: false });
    let list: Vec<PodVolume> = match number {
        0 => vec![claim(0)],
        1 => vec![claim(0), claim(1)],
        2 => vec![claim(2), disk],
        _ => vec![claim(3)],
    };
    Arc::new(PodVolumes { list: list.into(), owner: None })
}

pub fn step() -> impl Strategy<Value = Step> {
    let kinds = prop::sample::select(StorageKind::ALL.to_vec());
    prop_oneof![
        8 => facts().prop_map(Step::Seen),
        1 => (kinds, 0..6_u8).prop_map(|(kind, at)| Step::Gone(kind, key(kind, at))),
        2 => (0..CLAIMS, prop::option::of(0..3_u8), 0..3_u8).prop_map(|(claim, volume, at)| Step::Book { claim, volume, node: 2 * at }),
        1 => (0..CLAIMS).prop_map(|claim| Step::GiveBack { claim }),
    ]
}

/// Under which name such an object is known.
fn key(kind: StorageKind, at: u8) -> String {
    match kind {
        StorageKind::Claim => format!("ns/c{at}"),
        StorageKind::Volume => format!("v{at}"),
        StorageKind::Class => ["wait", "local"][usize::from(at % 2)].into(),
        StorageKind::CsiNode => format!("n{at}"),
        StorageKind::CsiDriver => DRIVER.into(),
        StorageKind::Capacity => format!("ns/r{at}"),
        StorageKind::Attachment => format!("a{at}"),
    }
}

fn within(key: &str, values: &[&str]) -> NodeSelector {
    let values = values.iter().map(|value| Box::from(*value)).collect();
    let requirement = NodeSelectorRequirement { key: key.into(), operator: "In".into(), values };
    NodeSelector { terms: vec![NodeSelectorTerm { match_expressions: vec![requirement], match_fields: Vec::new() }] }
}

fn owner(claim: u8) -> ClaimRef {
    ClaimRef { namespace: "ns".into(), name: format!("c{claim}").into(), uid: format!("u{claim}").into() }
}

fn claim() -> impl Strategy<Value = StorageFacts> {
    (0..CLAIMS, 0..3_u8, 0..3_usize, prop::option::of(0..3_u8), any::<bool>(), prop::option::weighted(0.2, 0..3_u8)).prop_map(
        |(at, version, class, volume, done, chosen)| {
            StorageFacts::Claim(Box::new(ClaimFacts {
                namespace: "ns".into(),
                name: format!("c{at}").into(),
                uid: format!("u{at}").into(),
                resource_version: version.to_string().into(),
                class: ["wait", "local", ""][class].into(),
                volume: volume.filter(|_| done).map_or_else(Box::default, |volume| format!("v{volume}").into()),
                bind_completed: done,
                requested: Some(Quantity::from_units(1)),
                access_modes: if at == 3 { vec!["ReadWriteOncePod".into()] } else { Vec::new() },
                selected_node: chosen.map(|at| format!("n{}", 2 * at).into()),
                ..ClaimFacts::default()
            }))
        },
    )
}

fn volume() -> impl Strategy<Value = StorageFacts> {
    (0..3_u8, 0..3_u8, any::<bool>(), 0..4_u8, prop::option::of(0..CLAIMS), any::<bool>()).prop_map(
        |(at, version, local, place, claim, zoned)| {
            let host = format!("n{}", 2 * place);
            StorageFacts::Volume(Box::new(VolumeFacts {
                name: format!("v{at}").into(),
                resource_version: version.to_string().into(),
                labels: if zoned { vec![(ZONE_LABEL.into(), format!("z{}", place % 3).into())] } else { Vec::new() },
                class: if local { "local" } else { "wait" }.into(),
                claim_ref: claim.map(owner),
                capacity: Quantity::from_units(i64::from(at)),
                access_modes: vec!["ReadWriteOncePod".into()],
                node_affinity: (place < 3).then(|| within(HOSTNAME_LABEL, &[&host])),
                is_available: claim.is_none(),
                source: VolumeSource::Csi { driver: DRIVER.into(), handle: format!("h{at}").into() },
                ..VolumeFacts::default()
            }))
        },
    )
}

fn facts() -> impl Strategy<Value = StorageFacts> {
    let class = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(local, at_once, bounded)| {
        StorageFacts::Class(Box::new(ClassFacts {
            name: if local { "local" } else { "wait" }.into(),
            provisioner: if local { "kubernetes.io/no-provisioner" } else { DRIVER }.into(),
            binding_mode: if at_once { BindingMode::Immediate } else { BindingMode::WaitForFirstConsumer },
            allowed_topologies: if bounded { within(ZONE_LABEL, &["z0", "z1"]) } else { NodeSelector::default() },
        }))
    });
    let csi_node = (0..3_u8, prop::option::of(0..3_i32)).prop_map(|(at, limit)| {
        let drivers = vec![(DRIVER.into(), limit)];
        StorageFacts::CsiNode(Box::new(CsiNodeFacts { name: format!("n{}", 2 * at).into(), drivers, migrated: Box::default() }))
    });
    let csi_driver = (any::<bool>(), any::<bool>()).prop_map(|(storage_capacity, needed_on_node)| {
        StorageFacts::CsiDriver(Box::new(CsiDriverFacts { name: DRIVER.into(), storage_capacity, needed_on_node }))
    });
    let capacity = (0..2_u8, 0..4_i64, 0..3_u8).prop_map(|(at, room, zone)| {
        let match_labels = vec![(ZONE_LABEL.into(), format!("z{zone}").into())];
        StorageFacts::Capacity(Box::new(CapacityFacts {
            namespace: "ns".into(),
            name: format!("r{at}").into(),
            class: "wait".into(),
            node_topology: Some(LabelSelectorFacts { match_labels, ..LabelSelectorFacts::default() }),
            capacity: Some(Quantity::from_units(room)),
            volume_max: None,
        }))
    });
    let attachment = (0..2_u8, 0..3_u8, 0..3_u8).prop_map(|(at, node, volume)| {
        StorageFacts::Attachment(Box::new(AttachmentFacts {
            name: format!("a{at}").into(),
            attacher: DRIVER.into(),
            node: format!("n{}", 2 * node).into(),
            volume: Some(format!("v{volume}").into()),
        }))
    });
    prop_oneof![4 => claim(), 4 => volume(), 2 => class, 2 => csi_node, 1 => csi_driver, 1 => capacity, 1 => attachment]
}

/// Does it. What is booked for a claim is booked for a pod of its name.
pub fn apply(nodes: &mut Nodes, step: Step) {
    match step {
        Step::Seen(facts) => drop(nodes.apply_storage(facts)),
        Step::Gone(kind, key) => drop(nodes.remove_storage(kind, &key)),
        Step::Book { claim, volume, node } => {
            let Some(ix) = nodes.find(ClusterId::HOME, &format!("n{node}")) else { return };
            let claim: Box<str> = format!("ns/c{claim}").into();
            let found = match volume {
                Some(volume) => Found { bindings: vec![(format!("v{volume}").into(), claim.clone())], provisions: Vec::new() },
                None => Found { bindings: Vec::new(), provisions: vec![claim.clone()] },
            };
            // One of them may not be there.
            let _ = nodes.book_volumes(&PodUid(claim), ix, &found);
        }
        Step::GiveBack { claim } => drop(nodes.storage.give_back(&PodUid(format!("ns/c{claim}").into()))),
    }
}

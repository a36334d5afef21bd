//! `DynamicResources`: what it says of claims in every state, what wakes whom, and what is written before a binding.

use super::*;
use crate::{
    model::{
        affinity::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        devices::{DeviceAllocation, DeviceConsumer},
        features::NodeFeatures,
        ids::{PodKey, PodUid},
        node::NodeFacts,
        pod::PodSpecFacts,
        storage::StorageFacts,
    },
    scheduler::{
        nodes::Nodes,
        plugins::fixtures::{World, labelled, node, pod},
    },
};

const UID: &str = "pod-uid";

fn claiming(claims: &[PodDeviceClaim]) -> PodSpecFacts {
    let devices = PodDevices { claims: claims.into(), pod_name: "p".into(), pod_uid: UID.into() };
    PodSpecFacts { devices: Some(Arc::new(devices)), ..pod(&[]) }
}

fn named(name: &str) -> PodDeviceClaim {
    PodDeviceClaim::Named(name.into())
}

fn claim(name: &str) -> DeviceClaimFacts {
    let version = "7".into();
    DeviceClaimFacts { namespace: "default".into(), name: name.into(), uid: "c".into(), resource_version: version, ..Default::default() }
}

fn allocated_claim(name: &str, allocation: DeviceAllocation) -> DeviceClaimFacts {
    DeviceClaimFacts { allocation: Some(allocation), ..claim(name) }
}

fn in_zone(zone: &str) -> DeviceAllocation {
    let requirement = NodeSelectorRequirement { key: "zone".into(), operator: "In".into(), values: vec![zone.into()] };
    let terms = vec![NodeSelectorTerm { match_expressions: vec![requirement], match_fields: Vec::new() }];
    DeviceAllocation { node_selector: Some(NodeSelector { terms }), ..DeviceAllocation::default() }
}

fn world(claims: impl IntoIterator<Item = DeviceClaimFacts>) -> World {
    let features = NodeFeatures::declared(["DRAOptionalNodeOperations"].into_iter());
    let mut world = World::new([labelled("a", &[("zone", "1")]), NodeFacts { features, ..labelled("b", &[("zone", "2")]) }, node("c")]);
    claims.into_iter().for_each(|claim| world.store(StorageFacts::DeviceClaim(Box::new(claim))));
    world
}

fn users(count: usize) -> Vec<DeviceConsumer> {
    let user = |at: usize| DeviceConsumer { resource: "pods".into(), name: "q".into(), uid: at.to_string().into(), ..Default::default() };
    (0..count).map(user).collect()
}

#[test]
fn a_claim_is_usable_where_its_devices_are() {
    let nowhere = "!resourceclaim not available on the node";
    let skips = DeviceAllocation { skips_node_operations: true, ..DeviceAllocation::default() };
    let mut world = world([
        allocated_claim("anywhere", DeviceAllocation::default()),
        allocated_claim("one", in_zone("1")),
        allocated_claim("two", in_zone("2")),
        allocated_claim("skips", skips),
        DeviceClaimFacts { controller_uid: Some(UID.into()), ..allocated_claim("own", in_zone("2")) },
    ]);
    let own = PodDeviceClaim::Generated("own".into());
    for (claims, want) in [
        (vec![PodDeviceClaim::NotNeeded], ["skip"].as_slice()),
        (vec![named("anywhere")], &["ok", "ok", "ok"]),
        (vec![named("one")], &["ok", nowhere, nowhere]),
        (vec![named("anywhere"), PodDeviceClaim::NotNeeded, own], &[nowhere, "ok", nowhere]),
        (vec![named("one"), named("two")], &[nowhere, nowhere, nowhere]),
        (vec![named("skips")], &[nowhere, "ok", nowhere]),
    ] {
        assert_eq!(world.ask("DynamicResources", &claiming(&claims)), want, "{claims:?}");
    }
}

#[test]
fn what_a_claim_lacks_is_said() {
    let unready = DeviceAllocation { unready_device: Some("gpu-0".into()), ..DeviceAllocation::default() };
    let mut world = world([
        claim("unallocated"),
        DeviceClaimFacts { deleting: true, ..claim("going") },
        DeviceClaimFacts { controller_uid: Some("another".into()), ..claim("foreign") },
        DeviceClaimFacts { reserved_for: users(CONSUMERS_MAX), ..allocated_claim("full", DeviceAllocation::default()) },
        DeviceClaimFacts { reserved_for: users(CONSUMERS_MAX - 1), ..allocated_claim("nearly", DeviceAllocation::default()) },
        allocated_claim("unready", unready),
    ]);
    for (entry, want) in [
        (named("absent"), "could not find ResourceClaim \"default/absent\""),
        (named("unallocated"), "resourceclaim \"unallocated\" has no devices, and allocating them is not built into this version"),
        (named("going"), "resourceclaim \"going\" is being deleted"),
        (PodDeviceClaim::Generated("foreign".into()), "ResourceClaim default/foreign was not created for Pod default/p (Pod is not owner)"),
        (named("full"), "resourceclaim in use"),
        (named("unready"), "resourceclaim \"unready\": device \"gpu-0\" does not meet its binding conditions"),
        (PodDeviceClaim::Awaited, "pod \"default/p\": ResourceClaim not created yet"),
        (PodDeviceClaim::Unknown("gpu".into()), "pod \"default/p\", spec.resourceClaim \"gpu\": none of the supported fields are set"),
    ] {
        assert_eq!(world.ask("DynamicResources", &claiming(std::slice::from_ref(&entry))), [format!("all!{want}")], "{entry:?}");
    }
    assert_eq!(world.ask("DynamicResources", &claiming(&[named("nearly")])), ["ok", "ok", "ok"]);
    assert_eq!(world.ask("DynamicResources", &pod(&[])), ["skip"]);
}

#[test]
fn an_answer_holds_until_a_claim_changes() {
    let mut world = world([claim("x")]);
    let class = world.class(&claiming(&[named("x")]));
    let CompiledFilter::Until(premise, _) = DynamicResources.compile(&class, &world.nodes) else { panic!("no premise") };
    world.store(StorageFacts::DeviceClaim(Box::new(claim("x"))));
    assert!(!premise.outdated(&world.nodes), "the same object again");
    world.store(StorageFacts::DeviceClaim(Box::new(allocated_claim("x", DeviceAllocation::default()))));
    assert!(premise.outdated(&world.nodes));
    assert_eq!(world.ask("DynamicResources", &claiming(&[named("x")])), ["ok", "ok", "ok"]);
    world.nodes.remove_storage(crate::model::storage::StorageKind::DeviceClaim, "default/x");
    assert_eq!(world.ask("DynamicResources", &claiming(&[named("x")])), ["all!could not find ResourceClaim \"default/x\""]);
}

#[test]
fn only_a_claim_of_its_own_wakes_a_pod() {
    let mut world = world([]);
    let class = world.class(&claiming(&[named("x")]));
    let cures = |facts: DeviceClaimFacts, nodes: &Nodes| {
        let change = StorageChange::DeviceClaim(None, Arc::new(facts));
        DynamicResources.cures(&class, &Change::Storage(&change), nodes)
    };
    assert!(cures(claim("x"), &world.nodes));
    assert!(!cures(claim("y"), &world.nodes));
    assert!(!cures(DeviceClaimFacts { namespace: "elsewhere".into(), ..claim("x") }, &world.nodes));
}

#[test]
fn a_claim_is_reserved_for_the_pod_once_beside_its_other_users() {
    let mut world = world([
        DeviceClaimFacts { reserved_for: users(1), ..allocated_claim("shared", DeviceAllocation::default()) },
        DeviceClaimFacts {
            reserved_for: vec![DeviceConsumer { uid: UID.into(), ..DeviceConsumer::default() }],
            ..allocated_claim("reserved", DeviceAllocation::default())
        },
    ]);
    let work = |claims: &[PodDeviceClaim], world: &mut World| {
        let class = world.class(&claiming(claims));
        let (key, uid) = (PodKey::new("default", "p"), PodUid::from(UID));
        DynamicResources.work(PodInHand { key: &key, uid: &uid, class: &class, gates: &[] }, NodeIx(0), &world.nodes)
    };
    assert_eq!(work(&[named("reserved")], &mut world), None);
    let Some(work) = work(&[named("shared"), named("reserved"), named("shared")], &mut world) else { panic!("nothing to write") };
    let [(path, patch)] = &*work.patches else { panic!("{work:?}") };
    assert_eq!(path, "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/shared/status");
    let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
    assert_eq!(patch["metadata"], json!({"uid": "c", "resourceVersion": "7"}));
    let other = json!({"apiGroup": "", "resource": "pods", "name": "q", "uid": "0"});
    assert_eq!(patch["status"]["reservedFor"], json!([other, {"resource": "pods", "name": "p", "uid": UID}]));
}

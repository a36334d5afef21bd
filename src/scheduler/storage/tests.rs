//! Booking over time: what is booked is seen at once, given back when it fails, and gives way to what the API server shows.

use rustc_hash::FxHashSet;

use super::{Found, Settled, StorageChange};
use crate::{
    model::{
        ids::{ClusterId, NodeIx, PodUid},
        node::NodeFacts,
        quantity::Quantity,
        storage::{AttachmentFacts, ClaimFacts, ClaimRef, StorageFacts, StorageKind, VolumeFacts},
    },
    scheduler::nodes::Nodes,
};

const UID: &str = "pod";

fn claim(version: &str) -> ClaimFacts {
    let requested = Some(Quantity::from_units(1));
    ClaimFacts {
        namespace: "d".into(),
        name: "c".into(),
        uid: "cu".into(),
        resource_version: version.into(),
        requested,
        ..ClaimFacts::default()
    }
}

fn volume(version: &str) -> VolumeFacts {
    VolumeFacts { name: "v".into(), uid: "vu".into(), resource_version: version.into(), class: "local".into(), ..VolumeFacts::default() }
}

fn given(version: &str) -> VolumeFacts {
    let claim_ref = Some(ClaimRef { namespace: "d".into(), name: "c".into(), uid: "cu".into() });
    VolumeFacts { claim_ref, bound_by_controller: true, ..volume(version) }
}

fn bound(version: &str) -> ClaimFacts {
    ClaimFacts { volume: "v".into(), bind_completed: true, ..claim(version) }
}

struct World(Nodes);

impl World {
    /// Node `a`, claim `d/c` in version 5, volume `v` in version 7.
    fn new() -> Self {
        let mut nodes = Nodes::default();
        nodes.apply(&NodeFacts { name: "a".into(), ..NodeFacts::default() });
        let mut world = Self(nodes);
        world.tell_claim(claim("5"));
        world.tell_volume(volume("7"));
        world
    }

    fn tell_claim(&mut self, facts: ClaimFacts) -> Option<StorageChange> {
        self.0.apply_storage(StorageFacts::Claim(Box::new(facts)))
    }

    fn tell_volume(&mut self, facts: VolumeFacts) -> Option<StorageChange> {
        self.0.apply_storage(StorageFacts::Volume(Box::new(facts)))
    }

    fn book_binding(&mut self) {
        let found = Found { bindings: vec![("v".into(), "d/c".into())], provisions: Vec::new() };
        self.0.book_volumes(&PodUid::from(UID), NodeIx(0), &found).unwrap();
    }

    fn book_provision(&mut self) {
        let found = Found { bindings: Vec::new(), provisions: vec!["d/c".into()] };
        self.0.book_volumes(&PodUid::from(UID), NodeIx(0), &found).unwrap();
    }

    fn written(&mut self, version: &str) {
        self.0.storage.note_written(&PodUid::from(UID), &[version.into()]);
    }

    fn settled(&self) -> Settled {
        self.0.volumes_settled(&PodUid::from(UID))
    }

    /// Whose the volume is, and which node the claim has.
    fn state(&self) -> (Option<String>, Option<String>) {
        let owner = self.0.storage.volumes_of("local").next().and_then(|(_, owner)| owner.map(|owner| owner.name.to_string()));
        let node = self.0.storage.claim("d/c").and_then(|(_, node)| node).map(|node| self.0.symbols.text(node).to_owned());
        (owner, node)
    }
}

#[test]
fn what_is_booked_is_seen_and_given_back() {
    let mut world = World::new();
    let before = world.0.storage.version();
    world.book_binding();
    assert_eq!(world.state(), (Some("c".to_owned()), None));
    assert!(world.0.storage.version() > before, "who compiled before must look again");
    assert!(world.0.storage.give_back(&PodUid::from(UID)));
    assert_eq!(world.state(), (None, None));
    assert!(!world.0.storage.give_back(&PodUid::from(UID)), "once");
    world.book_provision();
    assert_eq!(world.state(), (None, Some("a".to_owned())));
    world.0.storage.give_back(&PodUid::from(UID));
    assert_eq!(world.state(), (None, None));
}

#[test]
fn patches_change_one_version_of_an_object() {
    let mut world = World::new();
    world.book_binding();
    let patches = world.0.storage.patches_for(&PodUid::from(UID)).unwrap();
    let [(path, patch)] = patches.as_slice() else { panic!("{patches:?}") };
    assert_eq!(path, "/api/v1/persistentvolumes/v");
    let want = serde_json::json!({
        "metadata": {"resourceVersion": "7", "uid": "vu", "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
        "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "d", "name": "c", "uid": "cu", "resourceVersion": "5"}},
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(patch).unwrap(), want);
    world.book_provision();
    let patches = world.0.storage.patches_for(&PodUid::from(UID)).unwrap();
    let want = serde_json::json!({"metadata": {"resourceVersion": "5", "annotations": {"volume.kubernetes.io/selected-node": "a"}}});
    assert_eq!(patches[0].0, "/api/v1/namespaces/d/persistentvolumeclaims/c");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&patches[0].1).unwrap(), want);
}

#[test]
fn a_volume_that_somebody_reserved_keeps_his_mark_and_one_that_is_given_is_not_written_again() {
    let mut world = World::new();
    let reserved = ClaimRef { namespace: "d".into(), name: "c".into(), uid: "".into() };
    world.tell_volume(VolumeFacts { claim_ref: Some(reserved), ..volume("8") });
    world.book_binding();
    let patches = world.0.storage.patches_for(&PodUid::from(UID)).unwrap();
    assert!(patches[0].1.contains("\"cu\"") && !patches[0].1.contains("annotations"), "{patches:?}");
    world.tell_volume(given("9"));
    world.book_binding();
    assert_eq!(world.0.storage.patches_for(&PodUid::from(UID)), Some(Vec::new()));
}

#[test]
fn another_version_has_the_last_word() {
    let mut world = World::new();
    world.book_binding();
    // The same version again, as after a new list: nothing is lost.
    assert_eq!(world.tell_volume(volume("7")), None);
    assert_eq!(world.state().0, Some("c".to_owned()));
    // Changed by somebody else: what we booked is void, and who waited for the volume hears of it.
    assert!(matches!(world.tell_volume(volume("8")), Some(StorageChange::Volume(Some(_), _))));
    assert_eq!(world.state().0, None);
    // What was given back in another version than it was booked in is somebody else's.
    world.book_binding();
    world.tell_volume(volume("9"));
    let found = Found { bindings: vec![("v".into(), "d/c".into())], provisions: Vec::new() };
    world.0.book_volumes(&PodUid::from("other"), NodeIx(0), &found).unwrap();
    world.0.storage.give_back(&PodUid::from(UID));
    assert_eq!(world.state().0, Some("c".to_owned()));
}

#[test]
fn what_is_written_stays_booked_until_it_shows() {
    let mut world = World::new();
    world.book_binding();
    world.written("10");
    assert!(!world.0.storage.give_back(&PodUid::from(UID)));
    assert_eq!(world.state().0, Some("c".to_owned()), "another pod must not take the volume meanwhile");
    world.tell_volume(given("10"));
    assert_eq!(world.state().0, Some("c".to_owned()));
}

#[test]
fn a_binding_settles_when_the_claim_is_bound() {
    let mut world = World::new();
    world.book_binding();
    world.written("10");
    assert_eq!(world.settled(), Settled::NotYet, "version 7 is older than what was written");
    world.tell_volume(given("10"));
    assert_eq!(world.settled(), Settled::NotYet, "the controller has its part to do");
    world.tell_claim(bound("11"));
    assert_eq!(world.settled(), Settled::Done);
    world.tell_volume(volume("12"));
    assert_eq!(world.settled(), Settled::Failed("ClaimRef got reset for pv \"v\"".into()));
    world.0.remove_storage(StorageKind::Volume, "v");
    assert_eq!(world.settled(), Settled::Failed("failed to check binding: persistentvolumes \"v\" not found".into()));
}

#[test]
fn a_provision_settles_when_its_volume_is_there_and_near() {
    let mut world = World::new();
    world.book_provision();
    world.written("8");
    assert_eq!(world.settled(), Settled::NotYet);
    let chosen = |facts: ClaimFacts, node: &str| ClaimFacts { selected_node: Some(node.into()), ..facts };
    world.tell_claim(chosen(claim("8"), "a"));
    assert_eq!(world.settled(), Settled::NotYet);
    world.0.remove_storage(StorageKind::Volume, "v");
    world.tell_claim(chosen(bound("9"), "a"));
    assert_eq!(world.settled(), Settled::NotYet, "the volume is not seen yet");
    world.tell_volume(given("9"));
    assert_eq!(world.settled(), Settled::Done);
    // The provisioner gave up.
    world.tell_claim(claim("10"));
    assert_eq!(world.settled(), Settled::Failed("provisioning failed for PVC \"c\"".into()));
    world.tell_claim(chosen(bound("11"), "a"));
    let terms = vec![crate::model::affinity::NodeSelectorTerm {
        match_expressions: vec![crate::model::affinity::NodeSelectorRequirement {
            key: "x".into(),
            operator: "Exists".into(),
            values: Vec::new(),
        }],
        ..Default::default()
    }];
    world.tell_volume(VolumeFacts { node_affinity: Some(crate::model::affinity::NodeSelector { terms }), ..given("12") });
    let want = "pv \"v\" node affinity doesn't match node \"a\": no matching NodeSelectorTerms";
    assert_eq!(world.settled(), Settled::Failed(want.into()));
    let ix = world.0.find(ClusterId::HOME, "a").unwrap();
    world.0.remove(ix);
    assert_eq!(world.settled(), Settled::Failed("failed to get node \"a\": node \"a\" not found".into()));
}

#[test]
fn a_list_names_what_is_gone_and_attachments_count_on_their_node() {
    let mut world = World::new();
    let attached = |node: &str| {
        StorageFacts::Attachment(Box::new(AttachmentFacts {
            name: "t".into(),
            node: node.into(),
            volume: Some("v".into()),
            ..AttachmentFacts::default()
        }))
    };
    let (version, changed) = (world.0.storage.version(), world.0.changed());
    assert_eq!(world.0.apply_storage(attached("a")), None);
    assert_eq!(world.0.storage.version(), version, "one node alone is asked again");
    assert_eq!(world.0.changed_since(changed).map(Iterator::count), Some(1));
    world.0.apply_storage(attached("b"));
    assert_eq!((world.0.storage.attached_to("a").count(), world.0.storage.attached_to("b").count()), (0, 1));
    let listed: FxHashSet<Box<str>> = FxHashSet::default();
    assert_eq!(world.0.storage_missing_from(StorageKind::Claim, &listed), ["d/c".into()]);
    assert!(matches!(world.0.remove_storage(StorageKind::Attachment, "t"), Some(StorageChange::Detached(_))));
    assert_eq!(world.0.storage.attached_to("b").count(), 0);
    world.0.remove_storage(StorageKind::Volume, "v");
    assert_eq!(world.0.consistency_check(), Vec::<String>::new());
}

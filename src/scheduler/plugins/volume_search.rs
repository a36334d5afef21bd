//! How the claims of a pod get volumes on a node: what is known of them in, once for a class; for each node what fits, or why nothing does, out.
//!
//! Everything that does not depend on the node is settled beforehand: which volumes a claim could have at all, smallest first, and whether its class can
//! make one. Volumes that only one host can reach are kept by host, so that a node looks at its own. Source: `binder.go` of kube-scheduler v1.37.1 and
//! `FindMatchingVolume` of `component-helpers` v0.37.1.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{
    model::{
        affinity::SelectorMatcher,
        class::PodClass,
        intern::Sym,
        node::{HOSTNAME_LABEL, NodeRecord},
        quantity::Quantity,
        selector::Selector,
        storage::{BindingMode, ClaimFacts},
    },
    scheduler::{
        nodes::Nodes,
        plugins::node_volume_limits::not_own,
        storage::{CapacityRecord, ClaimRecord, Found, Storage, VolumeRecord},
    },
};

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The claims of a class, as far as no node is concerned.
pub struct Search {
    /// Volumes of bound claims, in the pod's order; none where it does not exist.
    bound: Vec<Option<Arc<VolumeRecord>>>,
    /// Unbound claims with a node chosen for them, in the pod's order.
    chosen: Vec<(Sym, Waiting)>,
    /// Other unbound claims, smallest first.
    open: Vec<Waiting>,
    hostname: Option<Sym>,
}

/// A claim that gets its volume when the pod has its node.
struct Waiting {
    key: Box<str>,
    class: Box<str>,
    requested: Quantity,
    /// Volumes that are reserved for it.
    reserved: Vec<Arc<VolumeRecord>>,
    candidates: Candidates,
    make: Option<Make>,
}

/// Volumes that a claim could have, smallest first.
#[derive(Default)]
struct Candidates {
    all: Vec<Arc<VolumeRecord>>,
    /// Places in `all` by the one host that reaches them.
    by_host: FxHashMap<Sym, SmallVec<[usize; 2]>>,
    /// The other places.
    anywhere: Vec<usize>,
}

/// A class that can make a volume.
struct Make {
    topologies: Option<SelectorMatcher>,
    /// Where there is room enough, and how much in bytes; none if nobody counts.
    room: Option<Vec<(Selector, i64)>>,
}

/// Why a class goes nowhere at all.
pub enum Refused {
    /// In upstream's words.
    Unresolvable(String),
    /// The question itself is broken.
    Broken(String),
}

/// What a node lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // a set of independent flags
pub struct Lacks {
    /// A bound volume cannot be reached.
    pub reach: bool,
    /// No volume fits, and none can be made.
    pub volume: bool,
    /// Too little room to make one.
    pub room: bool,
    /// A bound volume does not exist.
    pub bound_volume: bool,
}

/// What a node has for the claims.
#[derive(Default)]
pub struct Fit {
    /// Volumes and claims.
    pub found: Found,
    /// Storage by class: requested, and capacity, of volumes that are there; else of those to be made that somebody counts.
    pub shares: Vec<(Box<str>, i64, i64)>,
}

impl Search {
    /// Sorts the claims of a class; `None` if it has none.
    pub fn new(class: &PodClass, nodes: &Nodes) -> Result<Option<Self>, Refused> {
        let Some(volumes) = class.volumes.as_ref().filter(|volumes| volumes.has_claims()) else { return Ok(None) };
        let (namespace, storage) = (nodes.symbols.text(class.namespace), &nodes.storage);
        for (claim, is_ephemeral) in volumes.all_claims() {
            let facts = storage.claim_object(&format!("{namespace}/{claim}"));
            unfit(claim, is_ephemeral, facts).map_or(Ok(()), |why| Err(Refused::Unresolvable(why)))?;
            let foreign = facts.filter(|_| is_ephemeral).and_then(|facts| not_own(volumes, facts, namespace));
            foreign.map_or(Ok(()), |why| Err(Refused::Unresolvable(why)))?;
        }
        let hostname = nodes.symbols.get(HOSTNAME_LABEL);
        let mut search = Self { bound: Vec::new(), chosen: Vec::new(), open: Vec::new(), hostname };
        let mut open = Vec::new();
        for (claim, _) in volumes.all_claims() {
            let Some((record, chosen)) = storage.claim(&format!("{namespace}/{claim}")) else { continue };
            let facts = &record.facts;
            if facts.is_fully_bound() {
                search.bound.push(storage.volume(&facts.volume).cloned());
            } else if !facts.volume.is_empty() || !waits(facts, storage) {
                return Err(Refused::Unresolvable("pod has unbound immediate PersistentVolumeClaims".into()));
            } else if let Some(node) = chosen {
                search.chosen.push((node, Waiting::new(record, storage)));
            } else {
                open.push(record);
            }
        }
        for record in open {
            search.open.push(Waiting::with_candidates(record, storage, hostname)?);
        }
        search.open.sort_by_key(|waiting| waiting.requested);
        Ok(Some(search))
    }

    /// What a node has for the claims. The error says what it lacks.
    pub fn on(&self, node: &NodeRecord, nodes: &Nodes) -> Result<Fit, Lacks> {
        let mut lacks = Lacks::default();
        for volume in &self.bound {
            match volume {
                None => lacks.bound_volume = true,
                Some(volume) => lacks.reach = !nodes.reaches(node, volume),
            }
            if lacks != Lacks::default() {
                break;
            }
        }
        let mut fit = Fit::default();
        if self.chosen.iter().any(|(chosen, _)| *chosen != node.name) {
            return Err(Lacks { volume: true, ..lacks });
        }
        let mut to_make: SmallVec<[&Waiting; 2]> = self.chosen.iter().map(|(_, waiting)| waiting).collect();
        let mut taken: SmallVec<[&VolumeRecord; 2]> = SmallVec::new();
        let host = self.hostname.and_then(|key| node.labels.get(key));
        for waiting in &self.open {
            match waiting.volume_near(node, host, &taken, nodes) {
                Some(volume) => {
                    taken.push(volume);
                    fit.found.bindings.push((volume.facts.name.clone(), waiting.key.clone()));
                    fit.count(&volume.facts.class, waiting.requested, Share::Sum(volume.facts.capacity.units()));
                }
                None => to_make.push(waiting),
            }
        }
        let is_static = !fit.found.bindings.is_empty();
        for waiting in to_make {
            let Some(make) = waiting.make.as_ref().filter(|make| make.is_allowed_on(node, nodes)) else {
                lacks.volume = true;
                break;
            };
            match make.room_near(node) {
                Room::Bytes(bytes) if !is_static => fit.count(&waiting.class, waiting.requested, Share::Same(bytes)),
                Room::Bytes(_) | Room::Uncounted => {}
                Room::TooLittle => {
                    lacks.room = true;
                    break;
                }
            }
            fit.found.provisions.push(waiting.key.clone());
        }
        if lacks == Lacks::default() { Ok(fit) } else { Err(lacks) }
    }
}

/// How capacities of one class come together.
#[derive(Clone, Copy)]
enum Share {
    /// Each volume has its own.
    Sum(i64),
    /// All are made from the same.
    Same(i64),
}

impl Fit {
    fn count(&mut self, class: &str, requested: Quantity, share: Share) {
        let at = self.shares.iter().position(|(known, ..)| **known == *class).unwrap_or_else(|| {
            self.shares.push((class.into(), 0, 0));
            self.shares.len() - 1
        });
        let (_, sum, capacity) = &mut self.shares[at];
        *sum = sum.saturating_add(requested.units());
        *capacity = match share {
            Share::Sum(bytes) => capacity.saturating_add(bytes),
            Share::Same(bytes) => bytes,
        };
    }
}

/// Why a claim is of no use to any pod now.
fn unfit(claim: &str, is_ephemeral: bool, facts: Option<&ClaimFacts>) -> Option<String> {
    match facts {
        None if is_ephemeral => Some(format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {claim:?}")),
        None => Some(format!("persistentvolumeclaim {claim:?} not found")),
        Some(facts) if facts.is_lost => {
            Some(format!("persistentvolumeclaim {claim:?} bound to non-existent persistentvolume {:?}", facts.volume))
        }
        Some(facts) if facts.deleting => Some(format!("persistentvolumeclaim {claim:?} is being deleted")),
        Some(_) => None,
    }
}

/// Whether a claim is bound only when a pod that uses it has its node.
fn waits(claim: &ClaimFacts, storage: &Storage) -> bool {
    let class = storage.class(&claim.class).filter(|_| !claim.class.is_empty());
    class.is_some_and(|class| class.facts.binding_mode == BindingMode::WaitForFirstConsumer)
}

impl Waiting {
    fn new(record: &ClaimRecord, storage: &Storage) -> Self {
        let facts = &record.facts;
        Self {
            key: facts.key().into(),
            class: facts.class.clone(),
            requested: facts.requested.unwrap_or_default(),
            reserved: Vec::new(),
            candidates: Candidates::default(),
            make: Make::new(facts, storage),
        }
    }

    fn with_candidates(record: &ClaimRecord, storage: &Storage, hostname: Option<Sym>) -> Result<Self, Refused> {
        let facts = &record.facts;
        if let Some(Err(why)) = &record.selector {
            let why = format!("error creating internal label selector for claim: {}: {why}", facts.key());
            return Err(Refused::Broken(why));
        }
        let mut waiting = Self::new(record, storage);
        let mut all = Vec::new();
        for (volume, owner) in storage.volumes_of(&facts.class) {
            if !could_hold(volume, facts, waiting.requested) {
                continue;
            }
            match owner {
                Some(owner) if owner.is_for(facts) => waiting.reserved.push(volume.clone()),
                None if is_candidate(volume, record) => all.push(volume.clone()),
                Some(_) | None => {}
            }
        }
        waiting.candidates = Candidates::new(all, hostname);
        Ok(waiting)
    }

    /// The volume that it gets on a node. One that is reserved for it is taken, or none.
    fn volume_near<'s>(&'s self, node: &NodeRecord, host: Option<Sym>, taken: &[&VolumeRecord], nodes: &Nodes) -> Option<&'s VolumeRecord> {
        let is_free = |volume: &VolumeRecord| !taken.iter().any(|other| other.facts.name == volume.facts.name);
        let is_near = |volume: &VolumeRecord| volume.is_near(&node.labels, &nodes.symbols);
        if let Some(reserved) = self.reserved.iter().find(|volume| is_free(volume)) {
            return Some(&**reserved).filter(|volume| is_near(volume));
        }
        let Candidates { all, by_host, anywhere } = &self.candidates;
        let first = |places: &[usize]| places.iter().copied().find(|at| is_free(&all[*at]) && is_near(&all[*at]));
        let own = host.and_then(|host| by_host.get(&host)).and_then(|places| first(places));
        let place = own.into_iter().chain(first(anywhere)).min();
        place.map(|at| &*all[at])
    }
}

/// What is asked of every volume, reserved or not.
fn could_hold(volume: &VolumeRecord, claim: &ClaimFacts, requested: Quantity) -> bool {
    let facts = &volume.facts;
    facts.capacity >= requested
        && facts.volume_mode == claim.volume_mode
        && facts.attributes_class == claim.attributes_class
        && !facts.deleting
}

/// What is asked of a volume that nobody has.
fn is_candidate(volume: &VolumeRecord, claim: &ClaimRecord) -> bool {
    let facts = &volume.facts;
    let is_selected = |selector: &Result<Selector, Box<str>>| selector.as_ref().is_ok_and(|selector| selector.matches(&volume.labels));
    facts.is_available
        && claim.selector.as_ref().is_none_or(is_selected)
        && claim.facts.access_modes.iter().all(|mode| facts.access_modes.contains(mode))
}

impl Candidates {
    fn new(mut all: Vec<Arc<VolumeRecord>>, hostname: Option<Sym>) -> Self {
        // Names are in order already, and this keeps them so among equals.
        all.sort_by_key(|volume| volume.facts.capacity);
        let mut candidates = Self { all, ..Self::default() };
        for (at, volume) in candidates.all.iter().enumerate() {
            match hostname.and_then(|key| volume.only_value_of(key)) {
                Some(host) => candidates.by_host.entry(host).or_default().push(at),
                None => candidates.anywhere.push(at),
            }
        }
        candidates
    }
}

impl Make {
    fn new(claim: &ClaimFacts, storage: &Storage) -> Option<Self> {
        let class = storage.class(&claim.class)?;
        let provisioner = &*class.facts.provisioner;
        if provisioner.is_empty() || provisioner == NO_PROVISIONER {
            return None;
        }
        let is_counted = storage.csi_driver(provisioner).is_some_and(|driver| driver.storage_capacity);
        let room = claim.requested.filter(|_| is_counted).map(|requested| {
            let enough = |record: &&Arc<CapacityRecord>| record.facts.limit_bytes().is_some_and(|limit| limit >= requested.units());
            let rooms = storage.capacities_of(&claim.class).filter(enough);
            rooms.map(|record| (record.topology.clone(), record.facts.capacity.unwrap_or_default().units())).collect()
        });
        Some(Self { topologies: class.topologies.clone(), room })
    }

    fn is_allowed_on(&self, node: &NodeRecord, nodes: &Nodes) -> bool {
        self.topologies.as_ref().is_none_or(|topologies| topologies.matches_labels(&node.labels, &nodes.symbols))
    }

    fn room_near(&self, node: &NodeRecord) -> Room {
        let Some(rooms) = &self.room else { return Room::Uncounted };
        let near = rooms.iter().find(|(topology, _)| topology.matches(&node.labels));
        near.map_or(Room::TooLittle, |(_, bytes)| Room::Bytes(*bytes))
    }
}

/// What there is near a node to make a volume from.
enum Room {
    /// Enough, as far as anybody knows.
    Uncounted,
    /// Enough; so many bytes.
    Bytes(i64),
    /// Not enough.
    TooLittle,
}

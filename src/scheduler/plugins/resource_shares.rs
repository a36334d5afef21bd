//! What resource scores look at: the profile's list of resources and a class in; for each node how much there is, and how much is in use, out.
//!
//! Source: kube-scheduler v1.37 `resourceAllocationScorer`. A scalar resource that the pod does not request is left out, and so, node by node, is one
//! that the node does not have.

use crate::{
    model::{
        intern::{Interner, Sym},
        node::NodeRecord,
        resources::{ResourceKind, ResourceVec},
    },
    scheduler::profile::ResourceWeight,
};

/// A resource that a profile scores by.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    kind: Kind,
    weight: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cpu,
    Memory,
    EphemeralStorage,
    Scalar(Sym),
}

/// Interns a profile's list. Names that no node can have count for nothing upstream, and are dropped here.
pub fn scored(resources: &[ResourceWeight], symbols: &mut Interner) -> Box<[Scored]> {
    let mut kind = |name: &str| match ResourceKind::of(name) {
        ResourceKind::Cpu => Some(Kind::Cpu),
        ResourceKind::Memory => Some(Kind::Memory),
        ResourceKind::EphemeralStorage => Some(Kind::EphemeralStorage),
        ResourceKind::Scalar => Some(Kind::Scalar(symbols.pin(name))),
        ResourceKind::Pods | ResourceKind::Ignored => None,
    };
    resources.iter().filter_map(|resource| Some(Scored { kind: kind(&resource.name)?, weight: i64::from(resource.weight) })).collect()
}

/// A scored resource with what one more pod of a class wants of it.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    kind: Kind,
    /// 1..=100.
    pub weight: i64,
    /// Millicores or units.
    pub wanted: i64,
}

/// The shares of a class, in the profile's order.
pub fn shares(scored: &[Scored], requests: &ResourceVec) -> Box<[Share]> {
    let wanted = |kind| match kind {
        Kind::Cpu => requests.cpu_milli,
        Kind::Memory => requests.memory_bytes,
        Kind::EphemeralStorage => requests.ephemeral_bytes,
        Kind::Scalar(name) => requests.scalar(name),
    };
    let shares = scored.iter().map(|scored| Share { kind: scored.kind, weight: scored.weight, wanted: wanted(scored.kind) });
    shares.filter(|share| share.wanted != 0 || !matches!(share.kind, Kind::Scalar(_))).collect()
}

impl Share {
    /// What the node has, and what its pods use of it with the small-pod defaults.
    pub fn nonzero(&self, node: &NodeRecord) -> (i64, i64) {
        match self.kind {
            Kind::Cpu => (node.allocatable.cpu_milli, node.nonzero_cpu_milli),
            Kind::Memory => (node.allocatable.memory_bytes, node.nonzero_memory_bytes),
            _ => self.requested(node),
        }
    }

    /// What the node has, and what its pods request of it.
    pub fn requested(&self, node: &NodeRecord) -> (i64, i64) {
        let (total, used) = (&node.allocatable, &node.requested);
        match self.kind {
            Kind::Cpu => (total.cpu_milli, used.cpu_milli),
            Kind::Memory => (total.memory_bytes, used.memory_bytes),
            Kind::EphemeralStorage => (total.ephemeral_bytes, used.ephemeral_bytes),
            Kind::Scalar(name) => (total.scalar(name), used.scalar(name)),
        }
    }
}

/// Cpu and memory if the shares are just these, in this order whatever the profile's: by far the most common list, worth loops of its own.
pub fn cpu_and_memory(shares: &[Share]) -> Option<[Share; 2]> {
    let &[one, other] = shares else { return None };
    match (one.kind, other.kind) {
        (Kind::Cpu, Kind::Memory) => Some([one, other]),
        (Kind::Memory, Kind::Cpu) => Some([other, one]),
        _ => None,
    }
}

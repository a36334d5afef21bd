//! Typed identifiers: small integers inside, names outside.

use std::fmt;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::short_text::ShortText;

/// Which cluster a node or pod lives in. Home is 0; compute clusters follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u16);

impl ClusterId {
    /// The cluster whose pods are scheduled.
    pub const HOME: Self = Self(0);
}

/// Dense index of a node in the cache. Reused after a node is gone and its last pod left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIx(pub u32);

impl NodeIx {
    /// As an index into per-node arrays.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// Index of a pod class in the class table. Reused when its last pod is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassIx(pub u32);

impl ClassIx {
    /// As an index into per-class arrays.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// Index of a profile in the configuration in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileIx(pub u16);

impl ProfileIx {
    /// As an index into the list of profiles.
    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

/// `metadata.uid`: names one incarnation of a pod for all time.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(pub ShortText);

/// Something for each of many pods. Entries lie one behind the other beside a table of their places, so that a table that has to grow moves eight bytes a
/// pod: with everything in the table, the pod that makes it grow would wait for some ten megabytes to be moved.
pub type ByPodUid<V> = IndexMap<PodUid, V, FxBuildHasher>;

/// An empty [`ByPodUid`] with places for the pods of a large cluster: it costs 64 KiB of memory that is touched, and below that many no table grows while
/// pods come in.
pub fn by_pod_uid<V>() -> ByPodUid<V> {
    ByPodUid::with_capacity_and_hasher(PODS_EXPECTED, FxBuildHasher)
}

/// Seven eighths of a power of two: as many as a table of that size takes.
const PODS_EXPECTED: usize = 57_344;

impl From<Box<str>> for PodUid {
    fn from(uid: Box<str>) -> Self {
        Self(uid.into())
    }
}

impl From<&str> for PodUid {
    fn from(uid: &str) -> Self {
        Self(uid.into())
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Namespace and name of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// `metadata.namespace`.
    pub namespace: ShortText,
    /// `metadata.name`.
    pub name: ShortText,
}

impl PodKey {
    /// A key from its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Cluster and name of a node: names alone are unique only within one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey {
    /// The cluster that the node belongs to.
    pub cluster: ClusterId,
    /// `metadata.name`.
    pub name: Box<str>,
}

impl NodeKey {
    /// A node of the home cluster.
    pub fn home(name: &str) -> Self {
        Self { cluster: ClusterId::HOME, name: name.into() }
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster {
            ClusterId::HOME => f.write_str(&self.name),
            ClusterId(n) => write!(f, "{n}/{}", self.name),
        }
    }
}

//! Amounts of resources as integers: cpu in millicores, everything else in whole units.
//!
//! Upstream's `framework.Resource`: three fixed lanes and a short list of scalar resources (extended resources, huge pages, attachable volumes).

use smallvec::SmallVec;

use super::{intern::Sym, quantity::Quantity};

/// What a resource name counts as, by upstream's rules (`schedutil.IsScalarResourceName`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// `cpu`, in millicores.
    Cpu,
    /// `memory`, in bytes.
    Memory,
    /// `ephemeral-storage`, in bytes.
    EphemeralStorage,
    /// `pods`, a count; only nodes have it.
    Pods,
    /// Extended resources, huge pages, attachable volumes and prefixed native names: counted one by one.
    Scalar,
    /// Anything else is ignored entirely.
    Ignored,
}

impl ResourceKind {
    /// Classifies a resource name.
    pub fn of(name: &str) -> Self {
        match name {
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            "ephemeral-storage" => Self::EphemeralStorage,
            "pods" => Self::Pods,
            _ if name.starts_with("hugepages-") || name.starts_with("attachable-volumes-") => Self::Scalar,
            _ if name.contains("kubernetes.io/") || is_extended(name) => Self::Scalar,
            _ => Self::Ignored,
        }
    }
}

/// Whether a name is an extended resource: with a domain that is not Kubernetes' own, and not a quota name.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// A sum of resources with names as text, exact: what pods and nodes say before rounding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceList {
    entries: SmallVec<[(Box<str>, Quantity); 4]>,
}

impl ResourceList {
    /// The amount under a name, if the list has it (an explicit zero is not absence).
    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.entries.iter().find(|(key, _)| **key == *name).map(|(_, quantity)| *quantity)
    }

    /// Sets the amount under a name.
    pub fn set(&mut self, name: &str, quantity: Quantity) {
        match self.entries.iter_mut().find(|(key, _)| **key == *name) {
            Some((_, old)) => *old = quantity,
            None => self.entries.push((name.into(), quantity)),
        }
    }

    /// Adds every amount of another list.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, |mine, theirs| mine + theirs);
    }

    /// Raises every amount to at least that of another list.
    pub fn max(&mut self, other: &Self) {
        self.merge(other, Ord::max);
    }

    fn merge(&mut self, other: &Self, combine: impl Fn(Quantity, Quantity) -> Quantity) {
        for (name, theirs) in other.iter() {
            match self.entries.iter_mut().find(|(key, _)| **key == *name) {
                Some((_, mine)) => *mine = combine(*mine, theirs),
                None => self.entries.push((name.into(), theirs)),
            }
        }
    }

    /// Names and amounts, in order of first mention.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.entries.iter().map(|(name, quantity)| (&**name, *quantity))
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FromIterator<(Box<str>, Quantity)> for ResourceList {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Quantity)>>(iter: I) -> Self {
        let mut list = Self::default();
        for (name, quantity) in iter {
            list.set(&name, quantity);
        }
        list
    }
}

/// Rounded amounts with interned names: what records hold and rules compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceVec {
    /// Millicores.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Bytes of ephemeral storage.
    pub ephemeral_bytes: i64,
    /// Scalar resources, sorted by symbol.
    pub scalars: SmallVec<[(Sym, i64); 1]>,
}

impl ResourceVec {
    /// Rounds a list. `pods` and ignored names are left out.
    pub fn from_list(list: &ResourceList, mut intern: impl FnMut(&str) -> Sym) -> Self {
        let mut vec = Self::default();
        for (name, quantity) in list.iter() {
            match ResourceKind::of(name) {
                ResourceKind::Cpu => vec.cpu_milli = quantity.milli(),
                ResourceKind::Memory => vec.memory_bytes = quantity.units(),
                ResourceKind::EphemeralStorage => vec.ephemeral_bytes = quantity.units(),
                ResourceKind::Scalar => *vec.scalar_mut(intern(name)) = quantity.units(),
                ResourceKind::Pods | ResourceKind::Ignored => {}
            }
        }
        vec
    }

    /// The amount of a scalar resource, zero if absent.
    pub fn scalar(&self, name: Sym) -> i64 {
        self.scalars.iter().find(|(key, _)| *key == name).map_or(0, |(_, amount)| *amount)
    }

    /// A place for the amount of a scalar resource.
    pub fn scalar_mut(&mut self, name: Sym) -> &mut i64 {
        let at = match self.scalars.binary_search_by_key(&name, |(key, _)| *key) {
            Ok(at) => at,
            Err(at) => {
                self.scalars.insert(at, (name, 0));
                at
            }
        };
        &mut self.scalars[at].1
    }

    /// Adds another vector, saturating.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes another vector away, saturating. A scalar that reaches zero leaves the list, so that equal states are equal values.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.scalars.retain(|(_, amount)| *amount != 0);
    }

    fn combine(&mut self, other: &Self, op: impl Fn(i64, i64) -> i64) {
        self.cpu_milli = op(self.cpu_milli, other.cpu_milli);
        self.memory_bytes = op(self.memory_bytes, other.memory_bytes);
        self.ephemeral_bytes = op(self.ephemeral_bytes, other.ephemeral_bytes);
        for &(name, amount) in &other.scalars {
            let mine = self.scalar_mut(name);
            *mine = op(*mine, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::intern::Interner;

    #[test]
    fn kinds_follow_upstream() {
        for (name, kind) in [
            ("cpu", ResourceKind::Cpu),
            ("nvidia.com/gpu", ResourceKind::Scalar),
            ("hugepages-2Mi", ResourceKind::Scalar),
            ("attachable-volumes-csi-x", ResourceKind::Scalar),
            ("foo.kubernetes.io/bar", ResourceKind::Scalar),
            ("storage", ResourceKind::Ignored),
            ("requests.example.com/x", ResourceKind::Ignored),
        ] {
            assert_eq!(ResourceKind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn adding_and_taking_away_restores_the_value() {
        let mut table = Interner::default();
        let gpu = table.intern("nvidia.com/gpu");
        let one = ResourceVec { cpu_milli: 10, scalars: [(gpu, 2)].into_iter().collect(), ..ResourceVec::default() };
        let mut sum = ResourceVec::default();
        sum.add(&one);
        assert_eq!(sum.scalar(gpu), 2);
        sum.sub(&one);
        assert_eq!(sum, ResourceVec::default());
    }
}

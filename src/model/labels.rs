//! Label sets with interned keys and values.

use super::intern::{Interner, Sym};

/// Text form of labels: key and value, in the order that the object gives.
pub type LabelFacts = Vec<(Box<str>, Box<str>)>;

/// Labels of an object, sorted by key symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Box<[(Sym, Sym)]>);

impl Labels {
    /// Interns a set of labels; of a repeated key the last value counts, as in a JSON object.
    pub fn intern(facts: &[(Box<str>, Box<str>)], table: &mut Interner) -> Self {
        let mut pairs: Vec<(Sym, Sym)> = Vec::with_capacity(facts.len());
        for (key, value) in facts {
            let (key, value) = (table.intern(key), table.intern(value));
            match pairs.binary_search_by_key(&key, |pair| pair.0) {
                Ok(at) => pairs[at].1 = value,
                Err(at) => pairs.insert(at, (key, value)),
            }
        }
        Self(pairs.into_boxed_slice())
    }

    /// The value under a key.
    pub fn get(&self, key: Sym) -> Option<Sym> {
        self.0.binary_search_by_key(&key, |pair| pair.0).ok().map(|at| self.0[at].1)
    }

    /// As [`Self::get`] for a loop over many nodes: most have the same keys, and so a key in the same place, which `near` remembers.
    pub fn get_near(&self, key: Sym, near: &mut usize) -> Option<Sym> {
        if let Some((known, value)) = self.0.get(*near)
            && *known == key
        {
            return Some(*value);
        }
        *near = self.0.binary_search_by_key(&key, |pair| pair.0).ok()?;
        Some(self.0[*near].1)
    }

    /// Those whose key is wanted.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(Sym) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|(key, _)| wanted(*key)).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.iter().for_each(|(key, value)| {
            mark(key);
            mark(value);
        });
    }

    /// All pairs, by key symbol.
    pub fn iter(&self) -> impl Iterator<Item = (Sym, Sym)> + '_ {
        self.0.iter().copied()
    }
}

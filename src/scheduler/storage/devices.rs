//! Claims of devices as they come and go: facts in; records for rules, and what has changed for whoever waits, out.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::{
    affinity::SelectorMatcher,
    devices::DeviceClaimFacts,
    intern::{Interner, Sym},
};

/// All claims of the home cluster, by `namespace/name`.
#[derive(Debug, Default)]
pub struct DeviceClaims {
    version: u64,
    claims: FxHashMap<Box<str>, DeviceClaimRecord>,
}

/// A claim, interned where rules ask it about nodes.
#[derive(Debug)]
pub struct DeviceClaimRecord {
    /// As the object says it.
    pub facts: Arc<DeviceClaimFacts>,
    /// Where its devices can be used; absent: everywhere.
    pub usable_on: Option<Arc<SelectorMatcher>>,
}

impl DeviceClaims {
    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A claim.
    pub fn get(&self, key: &str) -> Option<&DeviceClaimRecord> {
        self.claims.get(key)
    }

    /// The keys of all.
    pub fn keys(&self) -> impl Iterator<Item = &Box<str>> {
        self.claims.keys()
    }

    /// Takes over an object: what was known, and what is now, if that is news.
    pub(super) fn apply(
        &mut self,
        facts: DeviceClaimFacts,
        table: &mut Interner,
    ) -> Option<(Option<Arc<DeviceClaimFacts>>, Arc<DeviceClaimFacts>)> {
        let selector = facts.allocation.as_ref().and_then(|allocation| allocation.node_selector.as_ref());
        let usable_on = selector.map(|selector| Arc::new(SelectorMatcher::new(selector, table)));
        let new = Arc::new(facts);
        let old = self.claims.insert(new.key().into(), DeviceClaimRecord { facts: new.clone(), usable_on }).map(|record| record.facts);
        let is_news = old.as_ref() != Some(&new);
        self.version += u64::from(is_news);
        is_news.then_some((old, new))
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.version += u64::from(self.claims.remove(key).is_some());
    }

    pub(super) fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.claims.values().flat_map(|record| &record.usable_on).for_each(|selector| selector.symbols(mark));
    }
}

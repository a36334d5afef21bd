//! What clusters have to agree on among each other. In: claims of identities, losses. Out: whether a claim holds, and whether so many were lost at once that it
//! is rather us.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::model::ids::ClusterId;

/// Losses within so long of each other count as one.
const AT_ONCE: Duration = Duration::from_secs(60);
/// One cluster alone may well be lost.
const LOSSES_MIN: usize = 2;

/// The common knowledge.
pub struct Census {
    state: Mutex<State>,
    suspicion: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// UID of a cluster to the name of the object that has it.
    claims: BTreeMap<Box<str>, Box<str>>,
    /// Clusters that answered once, and when they were lost.
    contacts: BTreeMap<ClusterId, Option<Instant>>,
}

impl Default for Census {
    fn default() -> Self {
        Self { state: Mutex::default(), suspicion: watch::Sender::new(false) }
    }
}

impl Census {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a cluster's UID for an object. The error is the name of the object that has it.
    pub fn claim(&self, uid: &str, name: &str) -> Result<(), Box<str>> {
        let mut state = self.lock();
        let holder = state.claims.entry(uid.into()).or_insert_with(|| name.into());
        if **holder == *name { Ok(()) } else { Err(holder.clone()) }
    }

    /// The object is gone: what it claimed is free, and it is no loss any more.
    pub fn forget(&self, id: ClusterId, name: &str) {
        let mut state = self.lock();
        state.claims.retain(|_, holder| **holder != *name);
        state.contacts.remove(&id);
        self.judge(&state);
    }

    /// A cluster answers, or has been lost.
    pub fn report(&self, id: ClusterId, reachable: bool, now: Instant) {
        let mut state = self.lock();
        match state.contacts.get_mut(&id) {
            Some(lost) if reachable => *lost = None,
            Some(lost) => *lost = lost.or(Some(now)),
            None => {
                state.contacts.insert(id, (!reachable).then_some(now));
            }
        }
        self.judge(&state);
    }

    /// Whether we suspect ourselves.
    pub fn suspicion(&self) -> watch::Receiver<bool> {
        self.suspicion.subscribe()
    }

    fn judge(&self, state: &State) {
        let threshold = state.contacts.len().div_ceil(2).max(LOSSES_MIN);
        let mut lost: Vec<Instant> = state.contacts.values().flatten().copied().collect();
        lost.sort_unstable();
        let at_once = || lost.windows(threshold).any(|window| window[threshold - 1].duration_since(window[0]) <= AT_ONCE);
        self.suspicion.send_if_modified(|suspected| {
            let now = if *suspected { lost.len() >= threshold } else { at_once() };
            if now != *suspected {
                tracing::warn!(lost = lost.len(), of = state.contacts.len(), suspected = now, "many compute clusters at once: is it us?");
            }
            std::mem::replace(suspected, now) != now
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_claim_holds() {
        let census = Census::default();
        assert_eq!(census.claim("u", "a"), Ok(()));
        assert_eq!(census.claim("u", "a"), Ok(()));
        assert_eq!(census.claim("u", "b"), Err("a".into()));
        census.forget(ClusterId(1), "a");
        assert_eq!(census.claim("u", "b"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_clusters_at_once_is_rather_us() {
        let (census, start) = (Census::default(), Instant::now());
        let suspected = || *census.suspicion().borrow();
        for id in 1..=4 {
            census.report(ClusterId(id), true, start);
        }
        census.report(ClusterId(1), false, start);
        census.report(ClusterId(2), false, start + Duration::from_secs(90));
        assert!(!suspected(), "one after the other");
        census.report(ClusterId(3), false, start + Duration::from_secs(100));
        assert!(suspected(), "two of four within a minute");
        census.report(ClusterId(3), true, start + Duration::from_secs(120));
        assert!(suspected(), "half are still lost");
        census.report(ClusterId(2), true, start + Duration::from_secs(130));
        assert!(!suspected());
    }
}

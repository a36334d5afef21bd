//! Arrivals that are settled: the ring in a task's status. In: keys with the times of their events. Out: whether one is new, known, or too old to tell.
//!
//! It holds the newest by the time of the event, whatever the order in which they came. What falls out moves the time before which nothing is accepted: an
//! event from then may have been settled, so it is refused, and its sender told so, rather than run twice.

use std::collections::BTreeMap;

use crate::{
    model::time::Timestamp,
    tasks::{names::base36, spec::TaskStatus, time::Time},
};

/// Keys that are kept.
pub const KEYS_MAX: usize = 500;

/// The ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    keys: BTreeMap<String, Timestamp>,
    forgotten_until: Option<Timestamp>,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is new.
    New,
    /// It is settled.
    Settled,
    /// It is from a time that is not remembered.
    TooOld,
}

impl Remembered {
    /// From a task's status; entries that cannot be read are left out.
    pub fn read(status: &TaskStatus) -> Self {
        let entry = |text: &String| {
            let (seconds, key) = text.split_once(':')?;
            Some((key.to_owned(), Timestamp(u64::from_str_radix(seconds, 36).ok()?.checked_mul(1_000)?)))
        };
        let keys = status.remembered.iter().filter_map(entry).collect();
        Self { keys, forgotten_until: status.forgotten_until.map(|time| time.0) }
    }

    /// Into a task's status, oldest first.
    pub fn write(&self, status: &mut TaskStatus) {
        let mut entries: Vec<(Timestamp, &String)> = self.keys.iter().map(|(key, at)| (*at, key)).collect();
        entries.sort();
        status.remembered = entries.into_iter().map(|(at, key)| format!("{}:{key}", base36(at.0 / 1_000))).collect();
        status.forgotten_until = self.forgotten_until.map(Time);
    }

    /// What is known of a key.
    pub fn ask(&self, hash: &str, event_time: Timestamp) -> Known {
        match self.keys.contains_key(hash) {
            true => Known::Settled,
            false if self.forgotten_until.is_some_and(|until| event_time.floor_to_second() <= until) => Known::TooOld,
            false => Known::New,
        }
    }

    /// A key is settled.
    pub fn settle(&mut self, hash: String, event_time: Timestamp) {
        self.keys.insert(hash, event_time.floor_to_second());
        while self.keys.len() > KEYS_MAX {
            let oldest = self.keys.iter().min_by_key(|(key, at)| (**at, (*key).clone())).map(|(key, at)| (key.clone(), *at));
            let Some((key, at)) = oldest else { return };
            self.keys.remove(&key);
            self.forgotten_until = self.forgotten_until.max(Some(at));
        }
    }

    /// Whether a run with this key may be deleted: nothing can start it again.
    pub fn holds(&self, hash: &str) -> bool {
        self.keys.contains_key(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_settled_once_and_outlive_a_restart() {
        let mut ring = Remembered::default();
        assert_eq!(ring.ask("a", Timestamp(5_500)), Known::New);
        ring.settle("a".into(), Timestamp(5_500));
        let mut status = TaskStatus::default();
        ring.write(&mut status);
        assert_eq!(status.remembered, ["5:a"]);
        let ring = Remembered::read(&status);
        assert_eq!(ring.ask("a", Timestamp(5_500)), Known::Settled);
        status.remembered.push("not an entry".into());
        assert_eq!(Remembered::read(&status), ring);
    }

    #[test]
    fn what_fell_out_is_refused_and_not_run_again() {
        let mut ring = Remembered::default();
        // The newest comes first: order of arrival does not matter.
        for n in (0..=KEYS_MAX as u64).rev() {
            ring.settle(format!("k{n}"), Timestamp((n + 10) * 1_000));
        }
        assert_eq!(ring.ask("k0", Timestamp(10_000)), Known::TooOld);
        assert_eq!(ring.ask("k1", Timestamp(11_000)), Known::Settled);
        assert_eq!(ring.ask("new", Timestamp(10_999)), Known::TooOld, "it may have been k0's neighbour");
        assert_eq!(ring.ask("new", Timestamp(11_000)), Known::New);
        let mut status = TaskStatus::default();
        ring.write(&mut status);
        assert_eq!(status.remembered.len(), KEYS_MAX);
        assert!(serde_json::to_string(&status).unwrap().len() < 16 << 10);
        assert_eq!(Remembered::read(&status), ring);
    }
}

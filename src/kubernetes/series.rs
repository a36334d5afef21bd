//! Which events are new and which repeat: event orders in, what to write out. Pure; told the time.
//!
//! As client-go's events recorder: the first repetition within six minutes turns an event into a series of two; later ones are only counted, and the
//! count is written every half hour and when the series is over. Upstream's key holds the pod's resourceVersion, which changes with every new
//! condition text; ours holds the text instead.

use std::{collections::VecDeque, hash::BuildHasher};

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{api::beginning, events::OBJECT_NAME_BYTES_MAX};
use crate::{
    model::time::{DurationMs, Timestamp},
    scheduler::input::EventOrder,
};

/// A series ends after so long without a repetition (client-go's `finishTime`).
const FINISHED_AFTER: DurationMs = DurationMs::from_secs(6 * 60);
/// A long series is written again this often (client-go's `refreshTime`).
const REFRESHED_AFTER: DurationMs = DurationMs::from_secs(30 * 60);
/// Events remembered, some 500 bytes each; beyond it the oldest is forgotten and would start a new series.
const REMEMBERED_MAX: usize = 4096;
/// A pod is bound once: such an event never repeats and need not be remembered.
const NEVER_REPEATS: &str = "Scheduled";

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A new event.
    Create {
        /// Its name.
        name: String,
    },
    /// The count of an event that repeats.
    Series {
        /// Its name.
        name: String,
        /// How often and when last.
        series: Series,
    },
    /// Only counted.
    Nothing,
}

/// How often an event was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The first time included.
    pub count: u32,
    /// When last.
    pub last_seen: Timestamp,
}

/// Events of the last minutes.
#[derive(Debug, Default)]
pub struct SeriesTable {
    entries: FxHashMap<u64, Entry>,
    /// Keys in the order of their first event.
    order: VecDeque<u64>,
    last_name: u64,
}

#[derive(Debug)]
struct Entry {
    name: String,
    order: Box<EventOrder>,
    series: Series,
    written: Series,
}

impl SeriesTable {
    /// Takes in an event and says what to write.
    pub fn record(&mut self, order: &EventOrder, now: Timestamp) -> Write {
        let key = FxBuildHasher.hash_one((&order.pod.uid, &order.pod.scheduler_name, order.reason, order.kind, order.action, &order.note));
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| now.since(entry.series.last_seen) < FINISHED_AFTER) {
            entry.series = Series { count: entry.series.count.saturating_add(1), last_seen: now };
            let first_repetition = entry.written.count == 1;
            return if first_repetition || now.since(entry.written.last_seen) >= REFRESHED_AFTER { entry.write() } else { Write::Nothing };
        }
        let name = self.name(&order.pod.key.name, now);
        if order.reason != NEVER_REPEATS {
            self.remember(key, &name, order, now);
        }
        Write::Create { name }
    }

    /// Forgets what is over, and says which counts are still to be written.
    pub fn sweep(&mut self, now: Timestamp) -> Vec<(Write, Box<EventOrder>)> {
        let mut last_words = Vec::new();
        let entries = &mut self.entries;
        self.order.retain(|key| {
            let over = entries.get(key).is_none_or(|entry| now.since(entry.series.last_seen) >= FINISHED_AFTER);
            if over && let Some(mut entry) = entries.remove(key).filter(|entry| entry.series != entry.written) {
                last_words.push((entry.write(), entry.order));
            }
            !over
        });
        last_words
    }

    fn remember(&mut self, key: u64, name: &str, order: &EventOrder, now: Timestamp) {
        let series = Series { count: 1, last_seen: now };
        let entry = Entry { name: name.to_owned(), order: Box::new(order.clone()), series, written: series };
        if self.entries.insert(key, entry).is_none() {
            self.order.push_back(key);
        }
        while self.entries.len() > REMEMBERED_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// A name for an event: the pod's name and a number that is the time in nanoseconds, and never twice the same.
    pub fn name(&mut self, pod: &str, now: Timestamp) -> String {
        self.last_name = now.0.saturating_mul(1_000_000).max(self.last_name + 1);
        let pod = beginning(pod, OBJECT_NAME_BYTES_MAX);
        format!("{}.{:x}", pod.trim_end_matches(['.', '-']), self.last_name)
    }
}

impl Entry {
    fn write(&mut self) -> Write {
        self.written = self.series;
        Write::Series { name: self.name.clone(), series: self.series }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ids::{PodKey, PodUid},
        scheduler::input::PodRef,
    };

    fn event(uid: &str, reason: &'static str, note: &str) -> EventOrder {
        let pod = PodRef { key: PodKey::new("ns", uid), uid: PodUid::from(uid), scheduler_name: "s".into() };
        EventOrder { pod, reason, kind: "Warning", action: "Scheduling", related: None, note: note.into() }
    }

    fn minute(minutes: u64) -> Timestamp {
        Timestamp(minutes * 60_000)
    }

    fn counted(write: &Write) -> u32 {
        match write {
            Write::Create { .. } => 1,
            Write::Series { series, .. } => series.count,
            Write::Nothing => 0,
        }
    }

    #[test]
    fn repetitions_become_a_series() {
        let mut table = SeriesTable::default();
        let event = event("a", "FailedScheduling", "no room");
        // (minute, what is written: 1 a new event, n a series of n, 0 nothing)
        for (at, want) in [(0, 1), (5, 2), (10, 0), (15, 0), (20, 0), (25, 0), (30, 0), (35, 8), (40, 0), (47, 1), (48, 2)] {
            assert_eq!(counted(&table.record(&event, minute(at))), want, "minute {at}");
        }
    }

    #[test]
    fn another_text_pod_or_reason_is_another_event() {
        let mut table = SeriesTable::default();
        let events = [
            event("a", "FailedScheduling", "x"),
            event("a", "FailedScheduling", "y"),
            event("b", "FailedScheduling", "x"),
            event("a", "Other", "x"),
        ];
        let names: std::collections::BTreeSet<_> = events
            .iter()
            .map(|event| match table.record(event, minute(0)) {
                Write::Create { name } => name,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names.len(), 4);
    }

    #[test]
    fn the_end_of_a_series_is_written_once() {
        let mut table = SeriesTable::default();
        for (uid, times) in [("once", 1), ("twice", 2), ("thrice", 3)] {
            for _ in 0..times {
                table.record(&event(uid, "FailedScheduling", "x"), minute(0));
            }
        }
        assert!(table.sweep(minute(5)).is_empty());
        let last_words = table.sweep(minute(6));
        assert_eq!(last_words.iter().map(|(write, order)| (counted(write), &*order.pod.key.name)).collect::<Vec<_>>(), [(3, "thrice")]);
        assert!(table.sweep(minute(7)).is_empty() && table.entries.is_empty() && table.order.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_bindings_take_none() {
        let mut table = SeriesTable::default();
        for n in 0..=REMEMBERED_MAX {
            table.record(&event(&n.to_string(), "FailedScheduling", "x"), minute(0));
            table.record(&event(&n.to_string(), "Scheduled", "x"), minute(0));
        }
        assert_eq!((table.entries.len(), table.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }

    #[test]
    fn names_fit_the_api() {
        let mut table = SeriesTable::default();
        let Write::Create { name } = table.record(&event(&"x".repeat(253), "Scheduled", ""), Timestamp(1_772_352_930_000)) else {
            panic!()
        };
        assert!(name.len() <= 253, "{}", name.len());
    }
}

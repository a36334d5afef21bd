//! Whether a cluster counts as reachable. In: answers and misses of probes, with the time. Out: lost and healed, and how long no pods are placed after that.
//! Pure.

use crate::model::time::{DurationMs, Timestamp};

/// Misses in a row before contact is doubted.
const MISSES_MAX: u32 = 3;
/// Contact has to be stable for so long before pods are placed again.
const HOLD_FIRST: DurationMs = DurationMs::from_secs(30);
/// Longest wait of a cluster that comes and goes.
const HOLD_MAX: DurationMs = DurationMs::from_secs(600);
/// A loss so long after the last one begins anew with the short wait.
const CALM: DurationMs = DurationMs::from_secs(1800);

/// What a probe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It answers, for the first time or again.
    Healed,
    /// It does not answer any more; last contact was then.
    Lost(Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is known since the start.
    Unknown,
    Reachable,
    Lost,
}

/// What probes said so far.
#[derive(Clone, Debug)]
pub struct Contact {
    state: State,
    misses: u32,
    /// Last answer; before the first one, since when none came.
    last: Timestamp,
    answered_once: bool,
    /// No pods are placed before.
    hold_until: Timestamp,
    hold: DurationMs,
    lost_at: Option<Timestamp>,
}

impl Contact {
    /// Nothing is known yet. `not_ready_since` is what an earlier leader noted.
    pub fn new(now: Timestamp, not_ready_since: Option<Timestamp>) -> Self {
        Self {
            state: if not_ready_since.is_some() { State::Lost } else { State::Unknown },
            misses: 0,
            last: not_ready_since.unwrap_or(now),
            answered_once: false,
            hold_until: now,
            hold: HOLD_FIRST,
            lost_at: not_ready_since,
        }
    }

    /// An answer came.
    pub fn answered(&mut self, now: Timestamp) -> Option<Change> {
        let before = std::mem::replace(&mut self.state, State::Reachable);
        (self.misses, self.last, self.answered_once) = (0, now, true);
        if before == State::Lost {
            self.hold_until = now + self.hold;
        }
        (before != State::Reachable).then_some(Change::Healed)
    }

    /// None came.
    pub fn missed(&mut self, now: Timestamp, not_ready_after: DurationMs) -> Option<Change> {
        self.misses = self.misses.saturating_add(1);
        if self.state == State::Lost || self.misses < MISSES_MAX || now.since(self.last) < not_ready_after {
            return None;
        }
        let flaps = self.lost_at.is_some_and(|before| now.since(before) < CALM);
        self.hold = if flaps { DurationMs((self.hold.0 * 2).min(HOLD_MAX.0)) } else { HOLD_FIRST };
        (self.state, self.lost_at) = (State::Lost, Some(now));
        Some(Change::Lost(self.last))
    }

    /// Whether it answers, as far as is known.
    pub fn is_reachable(&self) -> bool {
        self.state == State::Reachable
    }

    /// Whether it has been silent for some probes in a row, or has never been heard.
    pub fn is_doubtful(&self) -> bool {
        self.misses >= MISSES_MAX || !self.answered_once
    }

    /// Since when it has been lost, if it is.
    pub fn lost_since(&self) -> Option<Timestamp> {
        (self.state == State::Lost).then_some(self.last)
    }

    /// Last answer since the start.
    pub fn last_answer(&self) -> Option<Timestamp> {
        self.answered_once.then_some(self.last)
    }

    /// How long contact still has to be stable.
    pub fn held_for(&self, now: Timestamp) -> Option<DurationMs> {
        let left = self.hold_until.since(now);
        (self.is_reachable() && left.0 > 0).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }
    fn takes_pods(contact: &Contact, now: Timestamp) -> bool {
        contact.is_reachable() && !contact.is_doubtful() && contact.held_for(now).is_none()
    }
    const AFTER: DurationMs = DurationMs::from_secs(15);

    #[test]
    fn three_misses_and_the_time_make_a_loss() {
        let mut contact = Contact::new(at(0), None);
        assert_eq!(contact.answered(at(0)), Some(Change::Healed));
        assert!(takes_pods(&contact, at(0)), "the first contact needs no hold");
        assert_eq!(contact.missed(at(5), AFTER), None);
        assert_eq!(contact.missed(at(10), AFTER), None);
        assert!(takes_pods(&contact, at(10)));
        assert_eq!(contact.missed(at(14), AFTER), None);
        assert!(contact.is_reachable() && !takes_pods(&contact, at(14)), "in doubt nothing is placed");
        assert_eq!(contact.missed(at(15), AFTER), Some(Change::Lost(at(0))));
        assert_eq!(contact.missed(at(20), AFTER), None);
        assert_eq!(contact.lost_since(), Some(at(0)));
    }

    #[test]
    fn who_comes_and_goes_waits_longer_each_time() {
        let mut contact = Contact::new(at(0), None);
        contact.answered(at(0));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..7 {
            for _ in 0..4 {
                now += 5;
                contact.missed(at(now), AFTER);
            }
            now += 5;
            assert_eq!(contact.answered(at(now)), Some(Change::Healed));
            waits.push(contact.held_for(at(now)).unwrap().0 / 1000);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        now += 4000;
        contact.answered(at(now));
        for _ in 0..4 {
            now += 5;
            contact.missed(at(now), AFTER);
        }
        contact.answered(at(now));
        assert_eq!(contact.held_for(at(now)).unwrap(), HOLD_FIRST);
        assert!(takes_pods(&contact, at(now + 30)));
    }

    #[test]
    fn a_restart_goes_on_counting() {
        let contact = Contact::new(at(1000), Some(at(400)));
        assert_eq!((contact.lost_since(), contact.last_answer()), (Some(at(400)), None));
        let mut contact = contact;
        assert_eq!(contact.answered(at(1001)), Some(Change::Healed));
        assert!(!takes_pods(&contact, at(1002)) && takes_pods(&contact, at(1031)));
    }
}

//! Time and identity of a simulated cluster. In: tokio's clock (which tests may pause) and a seed. Out: timestamps, uids and name suffixes
//! that are the same for the same seed and order of requests.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::time::{Duration, Instant};

/// Wall-clock time that advances with tokio's clock.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    epoch: Timestamp,
    start: Instant,
}

impl SimClock {
    /// A clock that shows `epoch` now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        let elapsed = self.start.elapsed();
        self.epoch.checked_add(elapsed).unwrap_or(self.epoch)
    }

    /// The present as `metav1.Time` prints it.
    pub fn now_text(&self) -> String {
        seconds_text(self.now())
    }

    /// The moment `seconds` from now as `metav1.Time` prints it.
    pub fn later_text(&self, seconds: i64) -> String {
        later(self.now(), seconds)
    }
}

/// A timestamp shifted by seconds, printed without fraction.
pub fn later(from: Timestamp, seconds: i64) -> String {
    let shifted = jiff::SignedDuration::from_secs(seconds);
    seconds_text(from.checked_add(shifted).unwrap_or(from))
}

fn seconds_text(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}

/// Gives out uids and name suffixes.
#[derive(Debug)]
pub struct Ids {
    random: Mutex<Pcg64Mcg>,
}

/// Letters of generated names: upstream leaves out vowels and what looks alike, so that no words appear.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

impl Ids {
    /// A generator for one server.
    pub fn new(seed: u64) -> Self {
        Self { random: Mutex::new(Pcg64Mcg::seed_from_u64(seed)) }
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Pcg64Mcg) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A random (version 4) uuid.
    pub fn uid(&self) -> String {
        let mut bytes = [0_u8; 16];
        self.with(|random| random.fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// Five letters behind a generateName.
    pub fn suffix(&self) -> String {
        self.with(|random| (0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX_LETTERS[random.random_range(0..SUFFIX_LETTERS.len())])).collect())
    }

    /// A duration between `low` and twice `low`.
    pub fn up_to_double(&self, low: Duration) -> Duration {
        let low_ms = u64::try_from(low.as_millis()).unwrap_or(u64::MAX / 2);
        self.with(|random| low + Duration::from_millis(random.random_range(0..=low_ms)))
    }
}

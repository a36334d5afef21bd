//! How long to wait before another try: growing, jittered, and repeatable from a seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// First wait after a failure; client-go's reflector starts there too.
const FIRST: Duration = Duration::from_millis(800);
/// Longest wait before jitter.
const LONGEST: Duration = Duration::from_secs(30);
/// A wait is stretched by up to this share, so that clients that failed together do not come back together.
const JITTER: f64 = 1.0;

/// A growing wait.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    rng: Pcg64Mcg,
}

impl Backoff {
    /// Starts small. Equal seeds give equal waits.
    pub fn seeded(seed: u64) -> Self {
        Self { next: FIRST, rng: Pcg64Mcg::seed_from_u64(seed) }
    }

    /// The next wait: 0.8 s to 30 s, doubling, each stretched by up to its own length.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        self.jittered(wait, JITTER)
    }

    /// A wait stretched at random by up to `share` of it.
    pub fn jittered(&mut self, wait: Duration, share: f64) -> Duration {
        wait.mul_f64(1.0 + share * self.rng.random_range(0.0..1.0))
    }

    /// Something worked: the next wait is the first one again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_starts_anew() {
        let mut backoff = Backoff::seeded(7);
        for want in [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] {
            let wait = backoff.next_wait().as_secs_f64();
            assert!((want..=2.0 * want).contains(&wait), "{wait} after {want}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= 2 * FIRST);
        assert_eq!(Backoff::seeded(7).next_wait(), Backoff::seeded(7).next_wait());
    }
}

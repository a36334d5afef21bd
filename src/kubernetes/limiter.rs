//! A token bucket: so many a second, so many at once.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// Hands out permissions at a bounded rate.
#[derive(Debug)]
pub struct TokenBucket {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    per_second: f64,
    burst: f64,
    /// Below zero when callers wait for tokens that are still to come.
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket. Rate and burst are at least a thousandth and one.
    pub fn new(per_second: f64, burst: f64) -> Self {
        let (per_second, burst) = (per_second.max(0.001), burst.max(1.0));
        Self { state: Mutex::new(State { per_second, burst, tokens: burst, at: Instant::now() }) }
    }

    /// Another rate from now on; who waits already is not asked to wait anew.
    pub async fn set(&self, per_second: f64, burst: f64) {
        let mut state = self.state.lock().await;
        (state.per_second, state.burst) = (per_second.max(0.001), burst.max(1.0));
        state.tokens = state.tokens.min(state.burst);
    }

    /// Waits for a token, in the order of the calls.
    pub async fn take(&self) {
        let wait = {
            let mut state = self.state.lock().await;
            let now = Instant::now();
            let earned = now.duration_since(state.at).as_secs_f64() * state.per_second;
            state.tokens = (state.tokens + earned).min(state.burst) - 1.0;
            state.at = now;
            Duration::from_secs_f64((-state.tokens / state.per_second).max(0.0))
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lets_a_burst_pass_and_then_keeps_the_rate() {
        let bucket = TokenBucket::new(10.0, 3.0);
        let start = Instant::now();
        for (n, want_ms) in [(1, 0), (2, 0), (3, 0), (4, 100), (5, 200)] {
            bucket.take().await;
            assert_eq!(start.elapsed().as_millis(), want_ms, "token {n}");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..4 {
            bucket.take().await;
        }
        assert!(start.elapsed().as_millis().abs_diff(100) <= 1, "a rest fills the bucket to its burst, no further");
    }
}

//! News for all who wait for it. In: that something has changed. Out: everybody who waits goes on, in the order in which they began to wait.
//!
//! `tokio::sync::watch` wakes its receivers in an order that is drawn anew in each process, so that what happens within one moment of paused time would differ
//! from run to run with the same seed.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// Says that something has changed. Cheap to clone; all clones are the same signal.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    raised: AtomicU64,
    waiting: Notify,
}

/// Waits for a signal.
#[derive(Debug)]
pub struct Listener {
    signal: Signal,
    /// How often it was raised when we looked last.
    seen: u64,
}

impl Signal {
    /// Something has changed.
    pub fn raise(&self) {
        self.0.raised.fetch_add(1, Ordering::AcqRel);
        self.0.waiting.notify_waiters();
    }

    /// Somebody who has seen everything up to now.
    pub fn listen(&self) -> Listener {
        Listener { signal: self.clone(), seen: self.count() }
    }

    fn count(&self) -> u64 {
        self.0.raised.load(Ordering::Acquire)
    }
}

impl Listener {
    /// What has changed up to now is seen.
    pub fn catch_up(&mut self) {
        self.seen = self.signal.count();
    }

    /// The next wait ends at once.
    pub fn look_again(&mut self) {
        self.seen = self.seen.wrapping_sub(1);
    }

    /// Ends when something has changed that was not seen.
    pub async fn changed(&mut self) {
        let mut woken = pin!(self.signal.0.waiting.notified());
        // Listens from here on, so that nothing is missed between the look and the wait.
        woken.as_mut().enable();
        if self.signal.count() == self.seen {
            woken.await;
        }
        self.seen = self.signal.count();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::{
        task::JoinSet,
        time::{Duration, sleep, timeout},
    };

    use super::*;

    async fn is_told(listener: &mut Listener) -> bool {
        timeout(Duration::from_secs(1), listener.changed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_missed_and_nothing_told_twice() {
        let signal = Signal::default();
        let mut listener = signal.listen();
        assert!(!is_told(&mut listener).await);
        signal.raise();
        signal.raise();
        assert!(is_told(&mut listener).await && !is_told(&mut listener).await);
        signal.raise();
        listener.catch_up();
        assert!(!is_told(&mut listener).await);
        listener.look_again();
        assert!(is_told(&mut listener).await && !is_told(&mut listener).await);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_go_on_in_their_order() {
        let (signal, told, mut tasks) = (Signal::default(), Arc::new(Mutex::new(Vec::new())), JoinSet::new());
        for number in 0..100 {
            let (mut listener, told) = (signal.listen(), told.clone());
            tasks.spawn(async move {
                listener.changed().await;
                told.lock().unwrap().push(number);
            });
        }
        // Paused time goes on when all of them wait.
        sleep(Duration::from_millis(1)).await;
        signal.raise();
        while tasks.join_next().await.is_some() {}
        assert_eq!(*told.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }
}

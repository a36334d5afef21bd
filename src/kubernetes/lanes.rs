//! Orders on their way. In: orders. Out: for each, once, what became of it; so many at a time by what they need, so that a server that does not answer holds
//! up no other, and a long log no creation.

use std::{collections::VecDeque, future::Future, hash::Hash, sync::Arc};

use rustc_hash::FxHashMap;
use tokio::task::{Id, JoinSet};

/// What the outcome says of a step that panicked.
const BUG: &str = "a step failed by a bug; see the log";

/// Carries orders out.
pub(super) trait Carrier: Send + Sync + 'static {
    /// What is to be done.
    type Order: Send + Sync + 'static;
    /// Names an order.
    type OrderId: Copy + Eq + Hash;
    /// What became of it.
    type Outcome: Send + 'static;
    /// Kinds of need.
    const LANES: usize;

    /// The order's name.
    fn id(order: &Self::Order) -> Self::OrderId;
    /// What it needs: a number below [`Self::LANES`].
    fn lane(order: &Self::Order) -> usize;
    /// Orders of a lane at once.
    fn at_once_max(&self, lane: usize) -> usize;
    /// Carries one out.
    fn execute(&self, order: &Self::Order) -> impl Future<Output = Self::Outcome> + Send;
    /// The outcome of an order that may have been carried out or not.
    fn unclear(why: String) -> Self::Outcome;
    /// How many orders have no outcome yet.
    fn in_flight(&self, count: usize);
}

/// Orders that wait and orders under way. Dropping it stops all of them.
pub(super) struct Lanes<C: Carrier> {
    carrier: Arc<C>,
    waiting: Vec<VecDeque<C::Order>>,
    busy: Vec<usize>,
    under_way: JoinSet<C::Outcome>,
    orders: FxHashMap<Id, (C::OrderId, usize)>,
}

impl<C: Carrier> Lanes<C> {
    pub(super) fn new(carrier: C) -> Self {
        let waiting = (0..C::LANES).map(|_| VecDeque::new()).collect();
        Self { carrier: Arc::new(carrier), waiting, busy: vec![0; C::LANES], under_way: JoinSet::new(), orders: FxHashMap::default() }
    }

    /// What orders that begin from now on are carried out with.
    pub(super) fn exchange(&mut self, carrier: C) {
        self.carrier = Arc::new(carrier);
    }

    pub(super) fn carrier(&self) -> &C {
        &self.carrier
    }

    pub(super) fn put(&mut self, order: C::Order) {
        let lane = C::lane(&order);
        self.waiting[lane].push_back(order);
        self.begin(lane);
    }

    /// The next outcome; pends while nothing is under way. Can be dropped and asked again.
    pub(super) async fn done(&mut self) -> (C::OrderId, C::Outcome) {
        loop {
            let (id, outcome) = match self.under_way.join_next_with_id().await {
                Some(Ok(done)) => done,
                Some(Err(error)) => {
                    tracing::error!("an order's task panicked; this is a bug: {error}");
                    (error.id(), C::unclear(BUG.to_owned()))
                }
                None => std::future::pending().await,
            };
            let Some((order, lane)) = self.orders.remove(&id) else { continue };
            self.busy[lane] -= 1;
            self.begin(lane);
            return (order, outcome);
        }
    }

    fn begin(&mut self, lane: usize) {
        while self.busy[lane] < self.carrier.at_once_max(lane) {
            let Some(order) = self.waiting[lane].pop_front() else { break };
            let (carrier, id) = (self.carrier.clone(), C::id(&order));
            let task = self.under_way.spawn(async move { carrier.execute(&order).await });
            self.orders.insert(task.id(), (id, lane));
            self.busy[lane] += 1;
        }
        self.carrier.in_flight(self.under_way.len() + self.waiting.iter().map(VecDeque::len).sum::<usize>());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    /// Order n takes n seconds and goes by lane n modulo 2, of which the second carries one at a time; 13 panics.
    #[derive(Default)]
    struct Clockwork {
        in_flight: AtomicUsize,
    }

    impl Carrier for Clockwork {
        type Order = u64;
        type OrderId = u64;
        type Outcome = String;
        const LANES: usize = 2;

        fn id(order: &u64) -> u64 {
            *order
        }
        fn lane(order: &u64) -> usize {
            usize::from(order % 2 == 1)
        }
        fn at_once_max(&self, lane: usize) -> usize {
            [8, 1][lane]
        }
        async fn execute(&self, order: &u64) -> String {
            tokio::time::sleep(Duration::from_secs(*order)).await;
            assert!(*order != 13, "a bug");
            "done".to_owned()
        }
        fn unclear(why: String) -> String {
            why
        }
        fn in_flight(&self, count: usize) {
            self.in_flight.store(count, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_order_has_one_outcome_and_a_slow_lane_holds_up_no_other() {
        let mut lanes = Lanes::new(Clockwork::default());
        for order in [13, 1, 8, 2, 4] {
            lanes.put(order);
        }
        assert_eq!(lanes.carrier().in_flight.load(Ordering::Relaxed), 5);
        let mut done = Vec::new();
        for _ in 0..5 {
            done.push(lanes.done().await);
        }
        let outcomes: Vec<(u64, &str)> = done.iter().map(|(order, outcome)| (*order, outcome.as_str())).collect();
        assert_eq!(outcomes, [(2, "done"), (4, "done"), (8, "done"), (13, BUG), (1, "done")]);
        assert_eq!(lanes.carrier().in_flight.load(Ordering::Relaxed), 0);
    }
}

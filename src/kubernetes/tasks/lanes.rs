//! Orders on their way. In: orders. Out: for each, once, what became of it; so many at a time, logs apart from the rest, so that a long log holds up no run.

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::FxHashMap;
use tokio::{
    task::{Id, JoinSet},
    time::Instant,
};

use super::execute::{Executor, Order};
use crate::tasks::effect::{Effect, OrderId, Outcome};

/// Orders at the API server at once.
pub(super) const CALLS_MAX: usize = 64;
/// Pods whose logs are saved at once.
const LOGS_MAX: usize = 16;
const LANES: usize = 2;

/// Orders that wait and orders under way. Dropping it stops all of them.
pub(super) struct Lanes {
    executor: Arc<Executor>,
    waiting: [VecDeque<Order>; LANES],
    busy: [usize; LANES],
    under_way: JoinSet<Outcome>,
    orders: FxHashMap<Id, (OrderId, usize)>,
}

impl Lanes {
    pub(super) fn new(executor: Executor) -> Self {
        let waiting = [const { VecDeque::new() }; LANES];
        Self { executor: Arc::new(executor), waiting, busy: [0; LANES], under_way: JoinSet::new(), orders: FxHashMap::default() }
    }

    pub(super) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(super) fn put(&mut self, order: Order) {
        let lane = usize::from(matches!(order.effect, Effect::SaveLogs { .. }));
        self.waiting[lane].push_back(order);
        self.begin(lane);
    }

    /// The next outcome; pends while nothing is under way. Can be dropped and asked again.
    pub(super) async fn done(&mut self) -> (OrderId, Outcome) {
        loop {
            let (id, outcome) = match self.under_way.join_next_with_id().await {
                Some(Ok(done)) => done,
                Some(Err(error)) => {
                    tracing::error!("an order's task panicked; this is a bug: {error}");
                    (error.id(), Outcome::Retry("a step failed by a bug; see the log".to_owned()))
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
        while self.busy[lane] < [CALLS_MAX, LOGS_MAX][lane] {
            let Some(order) = self.waiting[lane].pop_front() else { break };
            let (executor, order_id) = (self.executor.clone(), order.id);
            let task = self.under_way.spawn(async move { carry_out(&executor, &order).await });
            self.orders.insert(task.id(), (order_id, lane));
            self.busy[lane] += 1;
        }
        self.executor.metrics.in_flight(self.under_way.len() + self.waiting.iter().map(VecDeque::len).sum::<usize>());
    }
}

async fn carry_out(executor: &Executor, order: &Order) -> Outcome {
    let started = Instant::now();
    let outcome = executor.carry_out(order).await;
    executor.metrics.order(order.effect.name(), name(&outcome), started.elapsed());
    let why = if let Outcome::Retry(why) | Outcome::Refused(why) | Outcome::Wait(_, why) = &outcome { why } else { "carried out" };
    tracing::debug!(subject = ?order.subject, effect = order.effect.name(), outcome = name(&outcome), "{why}");
    outcome
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "Done",
        Outcome::Run(_) => "Run",
        Outcome::Task(_) => "Task",
        Outcome::Pod(_) => "Pod",
        Outcome::Logs(_) => "Logs",
        Outcome::Absent => "Absent",
        Outcome::Gone => "Gone",
        Outcome::Conflict => "Conflict",
        Outcome::Wait(..) => "Wait",
        Outcome::Refused(_) => "Refused",
        Outcome::Retry(_) => "Retry",
    }
}

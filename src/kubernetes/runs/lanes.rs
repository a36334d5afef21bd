//! Orders on their way. In: orders. Out: for each, once, what became of it; so many at a time by what they need, so that a cluster that does not answer
//! holds up nothing at home, and a long log no creation.

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::FxHashMap;
use tokio::{
    task::{Id, JoinSet},
    time::Instant,
};

use super::execute::Executor;
use crate::federation::effect::{Effect, Order, OrderId, Outcome};

/// What an order needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Home's API server.
    Home,
    /// The cluster's.
    Remote,
    /// A long read of the cluster.
    Logs,
    /// The engine alone.
    Engine,
}

const LANES: usize = 4;
/// Orders at home at once.
const HOME_MAX: usize = 64;
/// Orders over there at once, as a multiple of the calls at once: a part of each is at home.
const REMOTE_ORDERS_PER_CALL: usize = 4;
/// Runs whose logs are copied at once.
const LOGS_MAX: usize = 16;
/// Questions to the engine at once: they cost nothing.
const ENGINE_MAX: usize = 4096;

fn lane(effect: &Effect) -> Lane {
    match effect {
        Effect::Intend(_)
        | Effect::Withdraw
        | Effect::Bind(_)
        | Effect::CheckHome
        | Effect::CountAttempt { .. }
        | Effect::Mirror(_)
        | Effect::SetPatience
        | Effect::Confirm
        | Effect::DeleteHome
        | Effect::EvictHome => Lane::Home,
        Effect::CreateRun(_) | Effect::CheckRun(_) | Effect::Propagate(_) | Effect::DeleteRun { .. } | Effect::Reap { .. } => Lane::Remote,
        Effect::ArchiveLogs(_) => Lane::Logs,
        Effect::PlaceAgain { .. } => Lane::Engine,
    }
}

/// Orders that wait and orders under way. Dropping it stops all of them.
pub(super) struct Lanes {
    executor: Arc<Executor>,
    waiting: [VecDeque<Box<Order>>; LANES],
    busy: [usize; LANES],
    under_way: JoinSet<Outcome>,
    orders: FxHashMap<Id, (OrderId, Lane)>,
}

impl Lanes {
    pub(super) fn new(executor: Executor) -> Self {
        let waiting = [const { VecDeque::new() }; LANES];
        Self { executor: Arc::new(executor), waiting, busy: [0; LANES], under_way: JoinSet::new(), orders: FxHashMap::default() }
    }

    /// What orders that begin from now on are carried out with.
    pub(super) fn exchange(&mut self, executor: Executor) {
        self.executor = Arc::new(executor);
    }

    pub(super) fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Orders without an outcome.
    pub(super) fn len(&self) -> usize {
        self.under_way.len() + self.waiting.iter().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn put(&mut self, order: Box<Order>) {
        let lane = lane(&order.effect);
        self.waiting[lane as usize].push_back(order);
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
            self.busy[lane as usize] -= 1;
            self.begin(lane);
            return (order, outcome);
        }
    }

    fn begin(&mut self, lane: Lane) {
        let calls = usize::try_from(self.executor.entry.spec.limits.in_flight).unwrap_or(1).max(1);
        let busy_max = [HOME_MAX, calls * REMOTE_ORDERS_PER_CALL, LOGS_MAX, ENGINE_MAX][lane as usize];
        while self.busy[lane as usize] < busy_max {
            let Some(order) = self.waiting[lane as usize].pop_front() else { break };
            let (executor, order_id) = (self.executor.clone(), order.id);
            let task = self.under_way.spawn(async move { carry_out(&executor, &order).await });
            self.orders.insert(task.id(), (order_id, lane));
            self.busy[lane as usize] += 1;
        }
        self.executor.metrics.in_flight(self.len());
    }
}

async fn carry_out(executor: &Executor, order: &Order) -> Outcome {
    let started = Instant::now();
    let outcome = executor.carry_out(order).await;
    executor.metrics.order(order.effect.name(), name(&outcome), started.elapsed());
    let why = if let Outcome::Retry(why) | Outcome::Refused(why) = &outcome { why } else { "carried out" };
    tracing::debug!(pod = %order.home, effect = order.effect.name(), outcome = name(&outcome), "{why}");
    outcome
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "Done",
        Outcome::Run(_) => "Run",
        Outcome::Home(_) => "Home",
        Outcome::Absent => "Absent",
        Outcome::Gone => "Gone",
        Outcome::BoundElsewhere => "BoundElsewhere",
        Outcome::Conflict => "Conflict",
        Outcome::NameTaken => "NameTaken",
        Outcome::Refused(_) => "Refused",
        Outcome::Retry(_) => "Retry",
        Outcome::Node(_) => "Node",
        Outcome::NotSent => "NotSent",
    }
}

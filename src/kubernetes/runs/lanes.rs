//! Which order of the machine needs what. In: an order. Out: its lane, and its outcome counted; a cluster that does not answer holds up nothing at home, and a
//! long log no creation.

use tokio::time::Instant;

use super::execute::Executor;
use crate::{
    federation::effect::{Effect, Order, OrderId, Outcome},
    kubernetes::lanes::Carrier,
};

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

impl Carrier for Executor {
    type Order = Box<Order>;
    type OrderId = OrderId;
    type Outcome = Outcome;
    const LANES: usize = 4;

    fn id(order: &Box<Order>) -> OrderId {
        order.id
    }

    fn lane(order: &Box<Order>) -> usize {
        lane(&order.effect) as usize
    }

    fn at_once_max(&self, lane: usize) -> usize {
        let calls = usize::try_from(self.entry.spec.limits.in_flight).unwrap_or(1).max(1);
        [HOME_MAX, calls * REMOTE_ORDERS_PER_CALL, LOGS_MAX, ENGINE_MAX][lane]
    }

    async fn execute(&self, order: &Box<Order>) -> Outcome {
        let started = Instant::now();
        let outcome = self.carry_out(order).await;
        self.metrics.order(order.effect.name(), name(&outcome), started.elapsed());
        let why = if let Outcome::Retry(why) | Outcome::Refused(why) = &outcome { why } else { "carried out" };
        tracing::debug!(pod = %order.home, effect = order.effect.name(), outcome = name(&outcome), "{why}");
        outcome
    }

    fn unclear(why: String) -> Outcome {
        Outcome::Retry(why)
    }

    fn in_flight(&self, count: usize) {
        self.metrics.in_flight(count);
    }
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

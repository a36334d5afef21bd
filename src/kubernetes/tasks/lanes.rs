//! Which order of the machine needs what. In: an order. Out: its lane, and its outcome counted; logs and reports go apart from
//! the rest, so that a long log or a dead receiver holds up no run.

use tokio::time::Instant;

use super::execute::{Executor, Order};
use crate::{
    kubernetes::lanes::Carrier,
    tasks::effect::{Effect, OrderId, Outcome},
};

/// Orders at the API server at once.
pub(super) const CALLS_MAX: usize = 64;
/// Pods whose logs are saved at once; most of them wait for the end of what is followed, few read ([`LogDesk`](super::logs::LogDesk)).
const LOGS_MAX: usize = 256;
/// Reports at once.
const REPORTS_MAX: usize = 16;

impl Carrier for Executor {
    type Order = Order;
    type OrderId = OrderId;
    type Outcome = Outcome;
    const LANES: usize = 3;

    fn id(order: &Order) -> OrderId {
        order.id
    }

    fn lane(order: &Order) -> usize {
        match order.effect {
            Effect::SaveLogs { .. } => 1,
            Effect::Announce(_) => 2,
            _ => 0,
        }
    }

    fn at_once_max(&self, lane: usize) -> usize {
        [CALLS_MAX, LOGS_MAX, REPORTS_MAX][lane]
    }

    async fn execute(&self, order: &Order) -> Outcome {
        let started = Instant::now();
        let outcome = self.carry_out(order).await;
        self.metrics.order(order.effect.name(), name(&outcome), started.elapsed());
        let why = if let Outcome::Retry(why) | Outcome::Refused(why) | Outcome::Wait(_, why) = &outcome { why } else { "carried out" };
        tracing::debug!(subject = ?order.subject, effect = order.effect.name(), outcome = name(&outcome), "{why}");
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

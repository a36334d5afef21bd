//! A cluster that is drained. In: a live home pod. Out: its eviction, as the admin wants it.

use super::{Around, derive::Step, lost, record::Record};
use crate::{
    federation::{effect::Effect, facts::HomePod, spec::DrainMode},
    model::time::Timestamp,
};

/// Last of all that a live pod may get. Pods that wait for their budget do not keep anything else waiting.
pub(super) fn step(_: &Record, home: &HomePod, around: &Around, now: Timestamp) -> Step {
    let Some((drain, since)) = around.policy.drain.as_ref().zip(around.drain_since) else { return Step::Rest };
    if home.deletion.is_some() {
        return Step::Rest;
    }
    let deadline = lost::span(&drain.deadline).map(|span| since + span);
    match (deadline, drain.mode) {
        (Some(at), _) if now >= at => Step::Order(Effect::DeleteHome),
        (_, DrainMode::Evict) => Step::Order(Effect::EvictHome),
        (Some(at), DrainMode::Wait) => Step::Until(at),
        (None, DrainMode::Wait) => Step::Rest,
    }
}

//! A cluster that does not answer, or that is removed by force. In: home pods there. Out: what can be done at home alone. The rule is to freeze: whatever the
//! run does, nothing is started in its place unless the policy says so, for owners that replace pods.

use super::{
    Around,
    derive::{Step, outlast, write},
    place,
    record::Record,
};
use crate::{
    config::duration,
    federation::{effect::Effect, facts::HomePod, status},
    model::time::{DurationMs, Timestamp},
    scheduler::input::BindFailure,
};

/// A duration of the policy; empty and unreadable ones are never.
pub(super) fn span(text: &str) -> Option<DurationMs> {
    if text.is_empty() { None } else { duration::parse(text) }
}

pub(super) fn step(r: &Record, home: &HomePod, around: &Around, since: Timestamp, now: Timestamp) -> Step {
    if r.is_presumed {
        return Step::Rest;
    }
    let policy = &around.policy.lost;
    if home.deletion.is_some() {
        return match span(&policy.forget_after).map(|span| since + span) {
            None => Step::Rest,
            Some(at) if now < at => Step::Until(at),
            Some(_) if !r.notes.is_debt => Step::Debt,
            Some(_) => Step::Order(Effect::Confirm),
        };
    }
    if home.phase.is_terminal() {
        return Step::Rest;
    }
    if let Some(step) = outlast(r, home) {
        return step;
    }
    if home.mirrored && !r.notes.shows_unreachable {
        return write(home, status::unreachable(&around.policy.cluster, now));
    }
    let evicts = home.is_replaced && !around.suspicion;
    match span(&policy.evict_after).filter(|_| evicts).map(|span| since.max(around.suspicion_ended) + span) {
        None => Step::Rest,
        Some(at) if now < at => Step::Until(at),
        Some(_) => Step::Order(Effect::DeleteHome),
    }
}

/// The cluster is removed although it cannot be wiped: its pods end at home, and a debt is left for each.
pub(super) fn abandoned(r: &Record, now: Timestamp) -> Step {
    let lives = r.home.as_ref().filter(|home| home.bound && (home.deletion.is_some() || !home.phase.is_terminal()));
    let owes = !r.runs.is_empty() || r.placing.as_ref().is_some_and(|placing| placing.may_exist) || lives.is_some();
    if owes && !r.notes.is_debt {
        return Step::Debt;
    }
    if r.placing.is_some() {
        return place::give_back(r, &BindFailure::Failed("the compute cluster is removed".to_owned()), now);
    }
    match lives {
        None => Step::Rest,
        Some(home) if home.deletion.is_some() => Step::Order(Effect::Confirm),
        Some(home) => {
            let note = "its compute cluster was removed by force; what may still run there is wiped when it comes back";
            write(home, status::failed("ClusterRemoved", note, now))
        }
    }
}

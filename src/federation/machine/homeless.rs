//! Runs whose home pod is not on the virtual Node as far as we know. In: runs, and what a live look at the home pod said. Out: the next step. No list and no
//! silence of a watch counts as an answer here.

use super::{
    Around,
    derive::{Step, UNSEEN, dispose},
    record::Record,
};
use crate::{
    federation::{effect::Effect, facts::HomePod},
    model::time::Timestamp,
};

pub(super) fn step(r: &Record, unbound: Option<&HomePod>, around: &Around, now: Timestamp) -> Step {
    let Some(run) = r.runs.values().next() else { return Step::Rest };
    if !around.reachable() || !around.runs_listed || !around.homes_listed {
        return Step::Rest;
    }
    if r.home_absent {
        return dispose(r, run, around, now);
    }
    let Some((home, read)) = unbound.zip(r.home_read) else { return Step::Order(Effect::CheckHome) };
    let intended = home.decision.as_ref().and_then(|decision| r.runs.get(&decision.run));
    let fresh = read + UNSEEN;
    match intended {
        // An intent of an earlier leader: the engine resumes it. Nothing tells us of unbound pods, so it is looked up now and then.
        Some(_) if now < fresh => Step::Until(fresh),
        // Read after the run was last taken for possible: nobody has an intent for it.
        None if read >= run.seen => dispose(r, run, around, now),
        Some(_) | None => Step::Order(Effect::CheckHome),
    }
}

//! What became of an order. In: its outcome. Out: the record brought up to date, an answer to the engine where one is due, and the next step.

use super::{
    Machine, place,
    record::{NextNode, Record},
    retry::LastDone,
    tell,
};
use crate::{
    federation::{
        effect::{Command, Effect, OrderId, Outcome},
        facts::{Decision, HomePod, Phase},
        spec::Commit,
    },
    model::{
        ids::PodUid,
        time::{DurationMs, Timestamp},
    },
    scheduler::input::BindFailure,
};

/// Failures in a row after which people are told.
pub(super) const TELL_AT: u32 = 3;
/// Tries of a write that begins a placement, before the engine may think anew.
const TRIES_MAX: u32 = 4;
/// How long another node of the cluster is asked for before the pod is given up.
const NO_FIT_PATIENCE: DurationMs = DurationMs(300_000);

impl Machine {
    pub(super) fn done(&mut self, now: Timestamp, id: OrderId, outcome: Outcome, out: &mut Vec<Command>) {
        // Orders of an earlier term: what they did, the watches tell.
        let Some(uid) = self.orders.remove(&id) else { return };
        let Some(record) = self.pods.get_mut(&uid) else { return };
        let Some((_, effect)) = record.order.take_if(|(order, _)| *order == id) else { return };
        match outcome {
            Outcome::Retry(text) => self.failed(now, &uid, &effect, Some(&text), out),
            Outcome::Conflict => {
                if matches!(effect, Effect::Mirror(_) | Effect::CountAttempt { .. } | Effect::CreateRun(_)) {
                    record.notes.home_outdated = record.home.as_ref().map(|home| home.resource_version.clone());
                }
                self.failed(now, &uid, &effect, None, out);
            }
            Outcome::Refused(text) => self.refused(now, &uid, &effect, text, out),
            Outcome::NameTaken => {
                let text = "something that is not ours has the name of its run; it is left alone".to_owned();
                self.refused(now, &uid, &effect, text, out);
            }
            Outcome::NotSent => {
                record.notes.failures.add(&effect, now, &mut self.rng);
                if record.placing.take().is_some() {
                    out.push(Command::Answer(uid.clone(), Err(BindFailure::NotSent)));
                }
            }
            Outcome::Gone => {
                // Gone, or being deleted: a look says which.
                record.notes.failures.add(&effect, now, &mut self.rng);
                record.notes.home_outdated = record.home.as_ref().map(|home| home.resource_version.clone());
                give_up(record, BindFailure::PodGone);
            }
            Outcome::BoundElsewhere => {
                give_up(record, BindFailure::BoundElsewhere);
            }
            Outcome::Run(run) => {
                record.notes.failures.clear_of(&effect);
                self.see_run(now, *run);
            }
            Outcome::Home(home) => {
                record.notes.failures.clear_of(&effect);
                record.notes.home_judged = Some(home.resource_version.clone());
                record.notes.home_outdated = None;
                record.home_read = Some(now);
                record.see_home(*home);
            }
            Outcome::Absent => absent(record, &effect),
            Outcome::Node(node) => {
                if let Effect::PlaceAgain { not_on } = &effect {
                    record.notes.not_on.clone_from(not_on);
                }
                self.another_node(now, &uid, &effect, node, out);
            }
            Outcome::Done => success(now, &uid, record, effect, out),
        }
        self.advance(now, &uid, out);
    }

    /// That no node takes it now may pass: the cluster has just come back, or others are about to end.
    fn another_node(&mut self, now: Timestamp, uid: &PodUid, effect: &Effect, node: Option<Box<str>>, out: &mut Vec<Command>) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        let since = record.notes.no_fit_since;
        if since.is_none() && node.is_some() {
            record.notes.failures.clear_of(effect);
        } else {
            // Others may refuse it as well: each question waits longer than the last one.
            record.notes.failures.add(effect, now, &mut self.rng);
        }
        record.notes.next_node = match node {
            _ if since.is_some_and(|since| now >= since + NO_FIT_PATIENCE) => NextNode::None,
            Some(node) => NextNode::Node(node),
            None => NextNode::Unasked,
        };
        if since.is_none() && matches!(record.notes.next_node, NextNode::Unasked) {
            record.notes.no_fit_since = Some(now);
            let minutes = NO_FIT_PATIENCE.0 / 60_000;
            let note = format!("no other node of its cluster takes it now; that is asked again for {minutes} min, of all nodes");
            out.push(tell(record, uid, "NoFitOnCluster", note));
        }
    }

    fn failed(&mut self, now: Timestamp, uid: &PodUid, effect: &Effect, text: Option<&str>, out: &mut Vec<Command>) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        let count = record.notes.failures.add(effect, now, &mut self.rng);
        if let Some(text) = text.filter(|_| count == TELL_AT) {
            out.push(tell(record, uid, "ComputeClusterFailing", format!("{}: {text}; it is tried again", effect.name())));
        }
        let places = matches!(effect, Effect::CreateRun(_) | Effect::Bind(_) | Effect::Intend(_) | Effect::Withdraw);
        if places && text.is_some() {
            record.notes.unclear = Some(now);
        }
        let Some(placing) = &mut record.placing else { return };
        placing.tries += 1;
        // A run that waits for its binding is bound as soon as that is possible.
        let waits = matches!(effect, Effect::Bind(_)) && placing.commit == Commit::CreateFirst;
        if placing.tries >= TRIES_MAX && placing.undo.is_none() && !waits {
            let text = text.unwrap_or("the object has changed");
            // An intent that was not answered clearly may stand there.
            placing.is_intended |= matches!(effect, Effect::Intend(_));
            placing.undo = Some(BindFailure::Failed(format!("{}: {text}", effect.name())));
        }
    }

    fn refused(&mut self, now: Timestamp, uid: &PodUid, effect: &Effect, text: String, out: &mut Vec<Command>) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        record.notes.failures.add_long(effect, now, &mut self.rng);
        out.push(tell(record, uid, "Refused", format!("{}: {text}", effect.name())));
        // In the end a run that may have started is bound to, or its home pod goes.
        let binds = matches!(effect, Effect::Bind(_)) && !record.runs.is_empty();
        if binds || give_up(record, BindFailure::Failed(text.clone())) {
            return;
        }
        match effect {
            Effect::CreateRun(_) if !text.contains("is left alone") => record.notes.refused = Some(text),
            Effect::SetPatience => record.notes.no_patience = true,
            Effect::Propagate(_) => record.notes.not_propagated = record.home.as_ref().map(|home| home.generation),
            _ => {}
        }
    }
}

/// A placement under way is taken back. Whether there is one.
fn give_up(record: &mut Record, failure: BindFailure) -> bool {
    let Some(placing) = &mut record.placing else { return false };
    if placing.undo.is_none() || failure == BindFailure::PodGone {
        placing.undo = Some(failure);
    }
    true
}

fn absent(record: &mut Record, effect: &Effect) {
    record.notes.failures.clear_of(effect);
    match effect {
        Effect::CheckRun(run) | Effect::DeleteRun { run, .. } => {
            let run = run.clone();
            deleted_unbound(record, effect);
            record.note_absent(&run);
        }
        Effect::CheckHome => {
            record.doubt_home();
            record.home_absent = true;
        }
        _ => {}
    }
}

/// The run of a placement was deleted, as it could not start: the placement is taken back.
fn deleted_unbound(record: &mut Record, effect: &Effect) {
    let Effect::DeleteRun { run, .. } = effect else { return };
    let rejected = record.runs.get(run).and_then(|run| run.facts.rejected.clone());
    if let Some(placing) = record.placing.as_mut().filter(|placing| placing.decision.run == *run && placing.undo.is_none()) {
        let (node, seconds) = (&placing.decision.node, place::BIND_WAIT.0 / 1_000);
        let note = match rejected {
            Some(reason) => format!("the run ended on {node} before it started: {reason}"),
            None => format!("the cluster's scheduler did not bind the run to {node} within {seconds} s"),
        };
        placing.undo = Some(BindFailure::Failed(note));
    }
}

fn success(now: Timestamp, uid: &PodUid, record: &mut Record, effect: Effect, out: &mut Vec<Command>) {
    record.notes.failures.clear_of(&effect);
    match &effect {
        Effect::Intend(_) => {
            if let Some(placing) = &mut record.placing {
                placing.is_intended = true;
            }
        }
        Effect::Withdraw => {
            if let Some(placing) = &mut record.placing {
                placing.is_withdrawn = true;
                let why = BindFailure::Failed("the compute cluster cannot be reached".to_owned());
                placing.undo.get_or_insert(why);
            }
        }
        Effect::Bind(decision) => {
            if record.placing.take().is_some() {
                out.push(Command::Answer(uid.clone(), Ok(())));
            }
            if record.home.as_ref().is_none_or(|home| !home.bound) {
                record.home = Some(presumed(record, uid, decision));
                record.is_presumed = true;
            }
        }
        Effect::CountAttempt { decision, .. } => {
            record.notes.next_node = NextNode::Unasked;
            if let Some(home) = &mut record.home {
                home.decision = Some(decision.clone());
                home.mirrored = false;
            }
        }
        Effect::Mirror(patch) => {
            record.notes.mirrored_at = Some(now);
            record.notes.shows_unreachable |= patch["status"]["conditions"][0]["reason"] == "ClusterUnreachable";
        }
        Effect::ArchiveLogs(_) => record.notes.is_archived = true,
        // Once is enough: a pod without such tolerations would be asked for ever.
        Effect::SetPatience => record.notes.no_patience = true,
        Effect::DeleteRun { .. } => deleted_unbound(record, &effect),
        Effect::Reap { run, .. } => record.note_absent(&run.clone()),
        _ => {}
    }
    record.notes.done = Some(LastDone::after(record.notes.done.take(), effect, now));
}

/// The home pod as it is right after our binding, until a watch shows it.
fn presumed(record: &Record, uid: &PodUid, decision: &Decision) -> HomePod {
    HomePod {
        key: record.key.clone(),
        uid: uid.clone(),
        resource_version: "".into(),
        generation: 0,
        decision: Some(decision.clone()),
        bound: true,
        deletion: None,
        phase: Phase::Pending,
        started: false,
        mirrored: false,
        restarts_always: false,
        waits_for_logs: false,
        is_replaced: false,
        status_digest: 0,
        patience_seconds: None,
        restarts: Vec::new(),
    }
}

//! The machine of one compute cluster. In: facts ([`Input`]) in any order, also late and twice. Out: at most one order at a time for each home pod
//! ([`Command`]), such that nothing is started twice, nothing lost and nothing left over.
//!
//! The next step of a pod is derived from what both objects say (`derive.rs` and its neighbours), never from what was done before. What is remembered
//! besides (`record.rs`) only saves questions: all of it may be forgotten at any time, as when the next leader takes over.

mod after;
mod counts;
mod derive;
mod drain;
mod facts;
mod homeless;
mod lost;
mod place;
mod record;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rustc_hash::FxHashMap;

pub use counts::Counts;

use self::{
    derive::Step,
    record::{Placing, Record},
};
use super::{
    effect::{Command, Contact, Effect, Input, News, Order, OrderId, Policy},
    status,
};
use crate::{
    model::{
        ids::{PodKey, PodUid},
        time::Timestamp,
    },
    scheduler::input::BindFailure,
};

/// Steps that need no order (answers, news, debts) taken for one pod in a row; more is a circle in the rules.
const STEPS_MAX: usize = 16;

/// The machine.
#[derive(Debug)]
pub struct Machine {
    around: Around,
    pods: BTreeMap<PodUid, Record>,
    /// Whose the runs are, by their UID.
    run_owners: FxHashMap<Box<str>, PodUid>,
    orders: BTreeMap<OrderId, PodUid>,
    wakes: BTreeSet<(Timestamp, PodUid)>,
    next_order: u64,
    rng: Pcg64Mcg,
}

/// What is the same for every pod.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts, read one by one
struct Around {
    policy: Policy,
    leading: bool,
    leading_since: Timestamp,
    /// Nothing is known before it is said.
    contact: Option<Contact>,
    suspicion: bool,
    suspicion_ended: Timestamp,
    drain_since: Option<Timestamp>,
    homes_listed: bool,
    runs_listed: bool,
}

impl Around {
    fn reachable(&self) -> bool {
        self.contact == Some(Contact::Reachable)
    }
}

impl Machine {
    /// A machine that knows nothing yet and does not lead. Equal seeds and inputs give equal commands.
    pub fn new(policy: Policy, seed: u64) -> Self {
        let around = Around {
            policy,
            leading: false,
            leading_since: Timestamp::default(),
            contact: None,
            suspicion: false,
            suspicion_ended: Timestamp::default(),
            drain_since: None,
            homes_listed: false,
            runs_listed: false,
        };
        Self {
            around,
            pods: BTreeMap::new(),
            run_owners: FxHashMap::default(),
            orders: BTreeMap::new(),
            wakes: BTreeSet::new(),
            next_order: 0,
            rng: Pcg64Mcg::seed_from_u64(seed),
        }
    }

    /// Takes in one fact and appends what is to be done.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>) {
        match input {
            Input::Place { key, uid, node, attempt, resumes, earlier_binding } => {
                let placing = Placing::new(&self.around.policy, &key, &uid, node, attempt, resumes);
                self.place(now, key, uid, Placing { earlier_binding, ..placing }, out);
            }
            Input::Home(home) => self.home(now, *home, out),
            Input::HomeGone(uid) => self.home_gone(now, &uid, out),
            Input::HomesListed(uids) => self.homes_listed(now, &uids, out),
            Input::Run(run) => self.run(now, *run, out),
            Input::RunGone { name, uid } => self.run_gone(now, &name, &uid, out),
            Input::RunsListed(uids) => self.runs_listed(now, &uids, out),
            Input::Done(id, outcome) => self.done(now, id, outcome, out),
            Input::Leading(leading) => self.leading(now, leading, out),
            Input::Contact(contact) => self.contact(now, contact, out),
            Input::Policy(policy) => {
                let drain_since = self.around.drain_since.unwrap_or(now);
                self.around.drain_since = policy.drain.as_ref().map(|_| drain_since);
                self.around.policy = *policy;
                self.advance_all(now, out);
            }
            Input::Suspicion(suspicion) => {
                if self.around.suspicion && !suspicion {
                    self.around.suspicion_ended = now;
                }
                self.around.suspicion = suspicion;
                self.advance_all(now, out);
            }
            Input::Tick => self.tick(now, out),
        }
    }

    /// When [`Input::Tick`] is due.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        while let Some((at, uid)) = self.wakes.first().cloned().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, uid.clone()));
            if let Some(record) = self.pods.get_mut(&uid) {
                record.wake = None;
            }
            self.advance(now, &uid, out);
        }
    }

    fn advance_all(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let uids: Vec<PodUid> = self.pods.keys().cloned().collect();
        for uid in uids {
            self.advance(now, &uid, out);
        }
    }

    /// Takes the steps that are due for one pod.
    fn advance(&mut self, now: Timestamp, uid: &PodUid, out: &mut Vec<Command>) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        if let Some(at) = record.wake.take() {
            self.wakes.remove(&(at, uid.clone()));
        }
        record.observe(now);
        for _ in 0..STEPS_MAX {
            match derive::step(record, &self.around, now) {
                Step::Order(effect) => {
                    if let Some(until) = record.held_back(&effect, now) {
                        record.wake = Some(until);
                        break;
                    }
                    let id = OrderId(self.next_order);
                    self.next_order += 1;
                    record.begin(id, &effect, now);
                    self.orders.insert(id, uid.clone());
                    out.push(Command::Order(Box::new(Order { id, home: record.key.clone(), uid: uid.clone(), effect })));
                    break;
                }
                Step::Answer(answer) => {
                    record.placing = None;
                    out.push(Command::Answer(uid.clone(), answer));
                }
                Step::Tell(reason, note) => {
                    record.notes.told.push(reason);
                    out.push(tell(record, uid, reason, note));
                }
                Step::Debt => {
                    record.notes.is_debt = true;
                    out.push(Command::Debt(record.key.clone(), uid.clone()));
                }
                Step::Until(at) => {
                    record.wake = Some(at);
                    break;
                }
                Step::Rest => {
                    // All is as it should be, however often something failed on the way.
                    if record.order.is_none() && record.notes.no_fit_since.is_none() {
                        record.notes.failures.clear();
                    }
                    break;
                }
            }
        }
        if let Some(at) = record.wake {
            // Never at once: a rule that waits for a time which has come would spin.
            let at = Timestamp(at.0.max(now.0 + 1));
            record.wake = Some(at);
            self.wakes.insert((at, uid.clone()));
        }
        if record.is_empty() {
            self.forget(uid);
        }
    }

    fn forget(&mut self, uid: &PodUid) {
        if let Some(at) = self.pods.remove(uid).and_then(|record| record.wake) {
            self.wakes.remove(&(at, uid.clone()));
        }
    }

    fn place(&mut self, now: Timestamp, key: PodKey, uid: PodUid, placing: Placing, out: &mut Vec<Command>) {
        if !self.around.leading {
            out.push(Command::Answer(uid, Err(BindFailure::NotSent)));
            return;
        }
        let record = self.pods.entry(uid.clone()).or_insert_with(|| Record::new(key));
        if record.placing.is_some() {
            out.push(Command::Answer(uid, Err(BindFailure::Failed("it is being placed already".to_owned()))));
            return;
        }
        record.placing = Some(placing);
        record.home_absent = false;
        self.advance(now, &uid, out);
    }

    fn leading(&mut self, now: Timestamp, leading: bool, out: &mut Vec<Command>) {
        if self.around.leading == leading {
            return;
        }
        self.around.leading = leading;
        self.around.leading_since = now;
        self.orders.clear();
        for (uid, record) in &mut self.pods {
            record.order = None;
            record.notes = record::Notes::default();
            record.home_absent = false;
            if record.placing.take().is_some() {
                out.push(Command::Answer(uid.clone(), Err(BindFailure::NotSent)));
            }
        }
        self.advance_all(now, out);
    }

    fn contact(&mut self, now: Timestamp, contact: Contact, out: &mut Vec<Command>) {
        if self.around.contact == Some(contact) {
            return;
        }
        self.around.contact = Some(contact);
        for record in self.pods.values_mut() {
            record.notes.absent.clear();
            record.notes.failures.clear();
            record.notes.shows_unreachable &= contact != Contact::Reachable;
        }
        self.advance_all(now, out);
    }
}

fn tell(record: &Record, uid: &PodUid, reason: &'static str, note: String) -> Command {
    Command::Tell(Box::new(News { home: record.key.clone(), uid: uid.clone(), kind: "Warning", reason, note }))
}

/// Whether a repeated order asks for the same thing.
fn is_same(a: &Effect, b: &Effect) -> bool {
    match (a, b) {
        // The time of a transition makes no difference.
        (Effect::Mirror(a), Effect::Mirror(b)) => a == b || status::digest(&a["status"]) == status::digest(&b["status"]),
        (Effect::DeleteRun { uid: a, release: c, .. }, Effect::DeleteRun { uid: b, release: d, .. }) => a == b && c == d,
        _ => a == b,
    }
}

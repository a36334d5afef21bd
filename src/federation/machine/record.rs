//! What the machine keeps of one home pod: the facts of both sides as last seen, the order under way, and notes that save questions.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::retry::{Failures, LastDone};
use crate::{
    federation::{
        effect::{Effect, OrderId, Policy},
        facts::{Decision, HomePod, RunName, RunPod},
        names,
        spec::Commit,
        status,
    },
    model::{
        ids::{PodKey, PodUid},
        time::{DurationMs, Timestamp},
    },
    scheduler::input::BindFailure,
};

/// Between two patches of one pod's status.
const MIRROR_GAP: DurationMs = DurationMs(250);

/// Runs of one pod that are remembered as gone.
const GONE_MAX: usize = 8;

/// A home pod and its runs.
#[derive(Debug)]
pub(super) struct Record {
    pub key: PodKey,
    pub home: Option<HomePod>,
    /// The home pod is known by our own binding only: no watch or read has shown it yet.
    pub is_presumed: bool,
    /// When it was read live.
    pub home_read: Option<Timestamp>,
    /// It was read live, and is not there.
    pub home_absent: bool,
    pub runs: BTreeMap<RunName, Run>,
    /// UIDs of runs that are gone: a read or a watch that is behind may still speak of them.
    pub gone: VecDeque<Box<str>>,
    pub placing: Option<Placing>,
    pub order: Option<(OrderId, Effect)>,
    /// When the last order was given.
    pub ordered: Timestamp,
    pub wake: Option<Timestamp>,
    pub notes: Notes,
}

/// A run, and the digest of what it says; the text itself is dropped when the home pod shows it.
#[derive(Debug)]
pub(super) struct Run {
    pub facts: RunPod,
    pub digest: u64,
    pub seen: Timestamp,
    /// Since when it counts as ended only because it was deleted by force: its kubelet may still say how it ended.
    pub cut_off: Option<Timestamp>,
}

/// Forgotten when leadership changes: each entry is found again by asking.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent notes, read one by one
pub(super) struct Notes {
    /// Runs that a live read did not find, and when that was ordered.
    pub absent: Vec<(RunName, Timestamp)>,
    pub failures: Failures,
    pub done: Option<LastDone>,
    pub told: Vec<&'static str>,
    pub is_debt: bool,
    pub is_archived: bool,
    pub shows_unreachable: bool,
    /// The run cannot be created as it is.
    pub refused: Option<String>,
    /// Nodes that refused runs.
    pub not_on: Vec<Box<str>>,
    /// The engine's answer to the last refusal.
    pub next_node: NextNode,
    /// Since when its answer was first that there is none. Until the run starts, no node counts as having refused it since then.
    pub no_fit_since: Option<Timestamp>,
    /// The last write to do with a placement that was not answered clearly.
    pub unclear: Option<Timestamp>,
    /// When the home pod was seen to have ended.
    pub ended: Option<Timestamp>,
    pub mirrored_at: Option<Timestamp>,
    /// Grace at home when the run was told to end.
    pub grace_told: Option<DurationMs>,
    pub no_patience: bool,
    pub not_propagated: Option<i64>,
    /// Version of the home pod that a precondition has shown to be past.
    pub home_outdated: Option<Box<str>>,
    /// Version of the home pod that was read live since a run did not fit to it.
    pub home_judged: Option<Box<str>>,
}

/// Whether the engine has found another node of the cluster.
#[derive(Clone, Debug, Default)]
pub(super) enum NextNode {
    #[default]
    Unasked,
    None,
    Node(Box<str>),
}

/// A placement under way.
#[derive(Debug)]
pub(super) struct Placing {
    pub decision: Decision,
    pub commit: Commit,
    /// CreateFirst: the intent stands in the home pod.
    pub is_intended: bool,
    /// A creation was sent, by us or by an earlier leader.
    pub may_exist: bool,
    pub tries: u32,
    /// It is taken back, for this reason.
    pub undo: Option<BindFailure>,
    /// The intent was taken back.
    pub is_withdrawn: bool,
    /// Another binding of the pod, ordered until then, may still take effect.
    pub earlier_binding: Option<Timestamp>,
}

impl Placing {
    pub fn new(policy: &Policy, key: &PodKey, uid: &PodUid, node: Box<str>, attempt: u32, resumes: bool) -> Self {
        let run = RunName { namespace: policy.run_namespace.clone(), name: names::run_name(key, uid, attempt).into() };
        let decision = Decision { cluster: policy.cluster.clone(), cluster_uid: policy.cluster_uid.clone(), node, attempt, run };
        // What an earlier leader began with an intent ends as it began.
        let commit = if resumes { Commit::CreateFirst } else { policy.commit };
        Self {
            decision,
            commit,
            is_intended: resumes,
            may_exist: resumes,
            tries: 0,
            undo: None,
            is_withdrawn: false,
            earlier_binding: None,
        }
    }
}

impl Record {
    pub fn new(key: PodKey) -> Self {
        Self {
            key,
            home: None,
            is_presumed: false,
            home_read: None,
            home_absent: false,
            runs: BTreeMap::new(),
            gone: VecDeque::new(),
            placing: None,
            order: None,
            ordered: Timestamp::default(),
            wake: None,
            notes: Notes::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.home.is_none() && self.runs.is_empty() && self.placing.is_none() && self.order.is_none()
    }

    /// Notes what follows from the facts alone.
    pub fn observe(&mut self, now: Timestamp) {
        let ended = self.home.as_ref().is_some_and(|home| home.bound && home.phase.is_terminal());
        self.notes.ended = ended.then(|| self.notes.ended.unwrap_or(now));
        let Some(home) = self.home.as_ref().filter(|home| home.mirrored) else { return };
        let run = home.decision.as_ref().and_then(|decision| self.runs.get_mut(&decision.run));
        if let Some(run) = run.filter(|run| run.digest == home.status_digest) {
            run.facts.status = Value::Null;
        }
    }

    /// When the live read was ordered that did not find the run.
    pub fn absent_since(&self, run: &RunName) -> Option<Timestamp> {
        self.notes.absent.iter().find(|(absent, _)| absent == run).map(|(_, at)| *at)
    }

    /// A live read did not find it.
    pub fn note_absent(&mut self, run: &RunName) {
        self.lose_run(run);
        self.notes.absent.retain(|(absent, _)| absent != run);
        self.notes.absent.push((run.clone(), self.ordered));
    }

    /// The run is gone, for ever: UIDs do not come back.
    pub fn lose_run(&mut self, run: &RunName) {
        if let Some(run) = self.runs.remove(run) {
            self.gone.truncate(GONE_MAX - 1);
            self.gone.push_front(run.facts.uid);
        }
    }

    /// Takes in a run unless a newer version of it is known.
    pub fn see_run(&mut self, now: Timestamp, facts: RunPod) {
        if self.gone.contains(&facts.uid) {
            return;
        }
        let known = self.runs.get(&facts.name);
        if known.is_some_and(|known| known.facts.uid == facts.uid && is_older(&facts.resource_version, &known.facts.resource_version)) {
            return;
        }
        let known = known.filter(|known| known.facts.uid == facts.uid);
        let seen = known.map_or(now, |known| known.seen);
        let is_cut_off = facts.status["reason"] == status::RUN_DELETED;
        let cut_off = is_cut_off.then(|| known.and_then(|known| known.cut_off).unwrap_or(now));
        self.notes.absent.retain(|(absent, _)| *absent != facts.name);
        self.notes.refused = None;
        if facts.started {
            self.notes.no_fit_since = None;
        }
        self.runs.insert(facts.name.clone(), Run { digest: status::digest(&facts.status), facts, seen, cut_off });
    }

    /// Takes in the home pod unless a newer version of it is known.
    pub fn see_home(&mut self, home: HomePod) {
        if self.home.as_ref().is_some_and(|known| is_older(&home.resource_version, &known.resource_version)) {
            return;
        }
        if self.home.as_ref().is_some_and(|known| known.decision != home.decision) {
            self.notes.next_node = NextNode::Unasked;
        }
        self.home = Some(home);
        self.is_presumed = false;
        self.home_absent = false;
    }

    /// The home pod is to be looked up before anything is believed of it.
    pub fn doubt_home(&mut self) {
        self.home = None;
        self.is_presumed = false;
        self.home_absent = false;
    }

    pub fn begin(&mut self, id: OrderId, effect: &Effect, now: Timestamp) {
        match effect {
            Effect::CreateRun(decision) => {
                self.notes.absent.retain(|(absent, _)| *absent != decision.run);
                if let Some(placing) = &mut self.placing {
                    placing.may_exist = true;
                }
            }
            Effect::DeleteRun { release: false, .. } => {
                self.notes.grace_told = self.home.as_ref().and_then(|home| home.deletion).map(|deletion| deletion.grace);
            }
            _ => {}
        }
        self.order = Some((id, effect.clone()));
        self.ordered = now;
    }

    /// Until when this order has to wait: what failed is repeated later, what was done is given time to show.
    pub fn held_back(&self, effect: &Effect, now: Timestamp) -> Option<Timestamp> {
        let gap = self.notes.mirrored_at.filter(|_| matches!(effect, Effect::Mirror(_))).map(|at| at + MIRROR_GAP);
        let done = self.notes.done.as_ref().and_then(|done| done.until(effect));
        [gap, done, self.notes.failures.until(effect)].into_iter().flatten().max().filter(|until| *until > now)
    }
}

/// Whether a version is known to be before another one of the same object; versions that are no numbers cannot be compared.
fn is_older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

//! Extenders in an attempt. In: a pod that is their business, their answers. Out: a question that leaves, a place in the line before it, and the attempt
//! taken up again where it was left.
//!
//! The engine does not wait for an answer: the pod is held in the queue and others go on. An extender is asked about one pod at a time, in the order of
//! the queue, and hears of the next one when the last is decided: so it sees each decision assumed before the next question, as with upstream. Nothing is
//! held for a pod that is being asked about; when the answer comes, it counts for those nodes that still take the pod.

use std::collections::{BTreeMap, BTreeSet};

use super::{Engine, room::Crowd};
use crate::{
    model::{
        class::PodClass,
        ids::{ClusterId, NodeIx, PodUid},
        time::{DurationMs, Timestamp},
    },
    scheduler::{
        extenders::{Answer, Cleared, ExtenderAt, ExtenderSpec, NodesVerdict, Offer, Question, Topic},
        framework::{Refusal, RefusalCode, SortKey},
        input::Command,
        nodes::Nodes,
        profiles::PluginIx,
        queue::QueuedPod,
        view::ClassView,
    },
};

const ABROAD: &str = "node(s) in compute clusters, which extenders know nothing of";

/// So far back in the line somebody is looked for whose extenders are free while those of the first are not.
const LOOKED_AT_MAX: usize = 64;

/// Extenders, and the pods that they are being asked about.
#[derive(Default)]
pub(super) struct Extenders {
    generation: u64,
    specs: Vec<ExtenderSpec>,
    /// Number of the last question.
    last: u64,
    asking: BTreeMap<PodUid, Asking>,
    /// Those of them that wait for their turn.
    line: BTreeMap<(SortKey, u64), PodUid>,
}

/// A pod that is held for extenders.
struct Asking {
    /// Whose business it is.
    extenders: Vec<usize>,
    stage: Stage,
    heard: Heard,
    started: u64,
}

enum Stage {
    InLine((SortKey, u64)),
    Asked { number: u64, since: Timestamp, about: About },
}

/// What a question that is out is about.
enum About {
    /// The node that the pod was nominated for.
    Own,
    /// Nodes by name; whether some that take the pod were left out.
    Nodes(Vec<Box<str>>, bool),
    Room,
}

/// What an attempt has heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The node that the pod was nominated for did not pass: it is compared with the others.
    pub(super) own_refused: bool,
    nodes: Option<HeardOfNodes>,
    /// What may be cleared.
    pub(super) room: Option<Result<Vec<Cleared>, String>>,
}

#[derive(Debug)]
struct HeardOfNodes {
    asked: Vec<Box<str>>,
    is_sample: bool,
    verdict: NodesVerdict,
}

/// What extenders have to do with a class.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Those that are asked.
    pub(super) asked: Vec<usize>,
    pub(super) filters: bool,
    pub(super) prioritizes: bool,
    pub(super) preempts: bool,
    pub(super) binder: Option<usize>,
}

impl Extenders {
    pub(super) fn interest(&self, class: &PodClass, nodes: &Nodes) -> Interest {
        let mut interest = Interest::default();
        for (at, spec) in self.specs.iter().enumerate().filter(|(_, spec)| spec.is_interested_in(class, &nodes.symbols)) {
            if spec.filters || spec.prioritizes || spec.preempts {
                interest.asked.push(at);
            }
            interest.filters |= spec.filters;
            interest.prioritizes |= spec.prioritizes;
            interest.preempts |= spec.preempts;
            if spec.binds {
                interest.binder.get_or_insert(at);
            }
        }
        interest
    }

    /// Who binds a pod of the class in the place of the API server.
    pub(super) fn binder(&self, class: &PodClass, nodes: &Nodes) -> Option<ExtenderAt> {
        self.interest(class, nodes).binder.map(|at| ExtenderAt { generation: self.generation, at })
    }

    /// How many pods are held.
    pub(super) fn held(&self) -> usize {
        self.asking.len()
    }

    /// Forgets a pod: an answer finds nobody.
    pub(super) fn withdraw(&mut self, uid: &PodUid) {
        if let Some(Asking { stage: Stage::InLine(place), .. }) = self.asking.remove(uid) {
            self.line.remove(&place);
        }
    }

    /// Those that are busy with a pod.
    fn busy(&self) -> BTreeSet<usize> {
        let asked = self.asking.values().filter(|asking| matches!(asking.stage, Stage::Asked { .. }));
        asked.flat_map(|asking| asking.extenders.iter().copied()).collect()
    }

    /// The first in line that nobody before it holds up.
    fn next_turn(&self) -> Option<&PodUid> {
        if self.line.is_empty() {
            return None;
        }
        let mut taken = self.busy();
        for uid in self.line.values().take(LOOKED_AT_MAX) {
            if taken.len() == self.specs.len() {
                return None;
            }
            let wanted = &self.asking.get(uid)?.extenders;
            if wanted.iter().all(|at| !taken.contains(at)) {
                return Some(uid);
            }
            taken.extend(wanted);
        }
        None
    }

    /// Whether somebody's turn has come.
    pub(super) fn has_turn(&self) -> bool {
        self.next_turn().is_some()
    }

    /// When the first question is overdue.
    pub(super) fn next_wake(&self, overdue: DurationMs) -> Option<Timestamp> {
        let since = |asking: &Asking| if let Stage::Asked { since, .. } = asking.stage { Some(since) } else { None };
        self.asking.values().filter_map(since).min().map(|since| since + self.patience(overdue))
    }

    /// All calls that one question can cost, and some.
    fn patience(&self, overdue: DurationMs) -> DurationMs {
        DurationMs(self.specs.iter().fold(overdue.0, |sum, spec| sum.saturating_add(spec.timeout.0.saturating_mul(2))))
    }

    pub(super) fn consistency_check(&self, is_gated: impl Fn(&PodUid) -> bool) -> Vec<String> {
        let mut faults: Vec<String> = Vec::new();
        faults.extend(
            self.asking.keys().filter(|uid| !is_gated(uid)).map(|uid| format!("pod {uid} is held for extenders and not queued so")),
        );
        let waiting = self.asking.iter().filter(|(uid, asking)| match &asking.stage {
            Stage::InLine(place) => self.line.get(place) == Some(*uid),
            Stage::Asked { .. } => false,
        });
        if waiting.count() != self.line.len() {
            faults.push("the line before extenders is not that of the pods that wait in it".into());
        }
        faults
    }
}

impl Heard {
    /// Whether extenders had their say about nodes.
    pub(super) fn knows_nodes(&self) -> bool {
        self.nodes.is_some()
    }

    /// Takes the nodes out of a decision that extenders do not let pass.
    pub(super) fn close(&self, crowd: &mut Crowd, view: &ClassView, interest: &Interest, extender: PluginIx, nodes: &Nodes) {
        if !interest.filters || !view.asks_nodes() {
            return;
        }
        let silent = Refusal { code: RefusalCode::Unresolvable, reasons: smallvec::SmallVec::new() };
        for ix in crowd.open(view) {
            if nodes.get(ix).cluster != ClusterId::HOME {
                crowd.close(ix, (extender, Refusal::unresolvable(ABROAD)));
            }
        }
        let Some(heard) = &self.nodes else { return };
        let left: BTreeSet<&str> = heard.verdict.left.iter().map(|name| &**name).collect();
        let refused: BTreeMap<&str, &Refusal> = heard.verdict.refused.iter().map(|(name, refusal)| (&**name, refusal)).collect();
        for ix in crowd.open(view) {
            let name = nodes.name(ix);
            if !left.contains(name) {
                crowd.close(ix, (extender, refused.get(name).map_or_else(|| silent.clone(), |refusal| (*refusal).clone())));
            }
        }
    }

    /// Whether nodes have come to take the pod that nobody was asked about: then nothing is known yet.
    pub(super) fn is_outdated(&self, view: &ClassView, nodes: &Nodes) -> bool {
        let Some(heard) = self.nodes.as_ref().filter(|heard| !heard.is_sample && view.asks_nodes()) else { return false };
        let asked: BTreeSet<&str> = heard.asked.iter().map(|name| &**name).collect();
        let feasible = view.feasible().ones().map(|at| nodes.at(at));
        feasible.filter(|node| node.cluster == ClusterId::HOME).any(|node| !asked.contains(nodes.symbols.text(node.name)))
    }

    /// What extenders add to the totals of nodes.
    pub(super) fn scores(&self, nodes: &Nodes) -> BTreeMap<NodeIx, i64> {
        let scores = self.nodes.iter().flat_map(|heard| &heard.verdict.scores);
        scores.filter_map(|(name, score)| Some((nodes.find(ClusterId::HOME, name)?, *score))).collect()
    }
}

impl Interest {
    /// Whether extenders have to be heard before one of so many nodes is chosen.
    pub(super) fn has_say(&self, heard: &Heard, nodes: usize) -> bool {
        !heard.knows_nodes() && (self.filters || (self.prioritizes && nodes > 1))
    }
}

/// What an attempt has to know before it can go on.
pub(super) enum Wanted {
    Own(NodeIx),
    /// Whether some nodes that take the pod were left out.
    Nodes(Vec<NodeIx>, bool),
    Room(Vec<Offer>),
}

impl Engine {
    pub(super) fn on_extenders(&mut self, now: Timestamp, generation: u64, specs: Vec<ExtenderSpec>) {
        let held: Vec<PodUid> = self.extenders.asking.keys().cloned().collect();
        self.extenders.specs = specs;
        self.extenders.generation = generation;
        for uid in held {
            if let Some(pod) = self.unqueue(&uid) {
                self.admit(now, pod, "ConfigurationReload", false);
            }
        }
    }

    /// Puts a pod into the line if an extender whose business it is has another one to think of, or if others wait for it already.
    pub(super) fn line_up(&mut self, pod: QueuedPod) -> Option<QueuedPod> {
        if self.extenders.specs.is_empty() {
            return Some(pod);
        }
        let (Some(profile), Some(class)) = (self.profiles.get(pod.profile), self.cache.classes.get(pod.class)) else { return Some(pod) };
        let extenders = self.extenders.interest(class, &self.cache.nodes).asked;
        let is_taken = |asking: &Asking| asking.extenders.iter().any(|at| extenders.contains(at));
        if extenders.is_empty() || !self.extenders.asking.values().any(is_taken) {
            return Some(pod);
        }
        let sort = profile.plugins[profile.queue_sort].queue_sort();
        let key = sort.map_or((0, pod.queued.0), |sort| sort.key(pod.priority, pod.queued));
        self.extenders.last += 1;
        let place = (key, self.extenders.last);
        self.extenders.line.insert(place, pod.uid.clone());
        let asking = Asking { extenders, stage: Stage::InLine(place), heard: Heard::default(), started: 0 };
        self.extenders.asking.insert(pod.uid.clone(), asking);
        self.queue.push_gated(pod);
        None
    }

    /// The pod whose turn has come.
    pub(super) fn take_turn(&mut self) -> Option<QueuedPod> {
        let uid = self.extenders.next_turn()?.clone();
        self.unqueue(&uid)
    }

    /// Asks, and holds the pod meanwhile.
    pub(super) fn ask_extenders(
        &mut self,
        now: Timestamp,
        pod: QueuedPod,
        heard: Heard,
        wanted: Wanted,
        started: u64,
        out: &mut Vec<Command>,
    ) {
        let Some(class) = self.cache.classes.get(pod.class) else { return self.observer.impossible("asked_pod_without_class") };
        let extenders = self.extenders.interest(class, &self.cache.nodes).asked;
        let name = |ix: NodeIx| -> Box<str> { self.cache.nodes.name(ix).into() };
        let changed = |ix: &NodeIx| self.cache.nodes.get(*ix).object_changed;
        let nodes_changed = match &wanted {
            Wanted::Own(ix) => changed(ix),
            Wanted::Nodes(nodes, _) => nodes.iter().map(changed).max().unwrap_or(0),
            Wanted::Room(_) => 0,
        };
        let (topic, about) = match wanted {
            Wanted::Own(ix) => (Topic::Nodes(vec![name(ix)]), About::Own),
            Wanted::Nodes(nodes, is_sample) => {
                let names: Vec<Box<str>> = nodes.into_iter().map(name).collect();
                (Topic::Nodes(names.clone()), About::Nodes(names, is_sample))
            }
            Wanted::Room(offers) => (Topic::Room(offers), About::Room),
        };
        self.extenders.last += 1;
        let (number, generation) = (self.extenders.last, self.extenders.generation);
        let question = Question { pod: self.pod_ref(&pod), number, generation, extenders: extenders.clone(), topic, nodes_changed };
        let asking = Asking { extenders, stage: Stage::Asked { number, since: now, about }, heard, started };
        self.extenders.asking.insert(pod.uid.clone(), asking);
        self.queue.push_gated(pod);
        out.push(Command::AskExtenders(Box::new(question)));
    }

    pub(super) fn on_extended(&mut self, now: Timestamp, uid: &PodUid, answered: u64, answer: Answer, out: &mut Vec<Command>) {
        let is_awaited = |asking: &Asking| matches!(asking.stage, Stage::Asked { number, .. } if number == answered);
        if self.extenders.asking.get(uid).is_none_or(|asking| !is_awaited(asking)) {
            // The pod is gone or another one by now, or extenders have changed.
            return;
        }
        let Some(Asking { stage: Stage::Asked { about, .. }, mut heard, started, .. }) = self.extenders.asking.remove(uid) else { return };
        let Some(pod) = self.unqueue(uid) else { return self.observer.impossible("asked_pod_not_queued") };
        if !self.may_decide() {
            return self.admit(now, pod, "ExtendersAnswered", false);
        }
        match (answer, about) {
            (Answer::Failed(why), _) => return self.fail_with_error(now, pod, &why, started, out),
            (Answer::Nodes(verdict), About::Own) if verdict.left.is_empty() => heard.own_refused = true,
            (Answer::Nodes(verdict), About::Own) => {
                // If it is full by now, others that take the pod were not asked about.
                heard.nodes = Some(HeardOfNodes { asked: verdict.left.clone(), is_sample: false, verdict });
            }
            (Answer::Nodes(verdict), About::Nodes(asked, is_sample)) => {
                heard.nodes = Some(HeardOfNodes { asked, is_sample, verdict });
            }
            (Answer::Room(cleared), About::Room) => heard.room = Some(cleared),
            (Answer::Nodes(_), About::Room) | (Answer::Room(_), _) => self.observer.impossible("answer_to_another_question"),
        }
        self.proceed(now, pod, heard, started, out);
    }

    /// Questions that are never answered, which only a bug can cause, must not hold a pod for ever.
    pub(super) fn time_out_questions(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let patience = self.extenders.patience(self.settings.answer_overdue);
        let late = |asking: &Asking| match asking.stage {
            Stage::Asked { number, since, .. } if now.since(since) >= patience => Some(number),
            _ => None,
        };
        let late: Vec<(PodUid, u64)> =
            self.extenders.asking.iter().filter_map(|(uid, asking)| Some((uid.clone(), late(asking)?))).collect();
        for (uid, number) in late {
            self.observer.impossible("question_without_answer");
            self.on_extended(now, &uid, number, Answer::Failed("extenders gave no answer in time".to_owned()), out);
        }
    }
}

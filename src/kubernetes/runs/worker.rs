//! The loop around one cluster's machine. In: messages, what the watches see, outcomes, time. Out: orders into the lanes, answers to the engine, news of pods.
//!
//! The machine is synchronous and never waits; this loop waits for it. Dropping the future stops the watches and every order; the next worker derives from both
//! sides' objects where each pod stands.

use std::{sync::Arc, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Message, RunsContext,
    events::{EventMirror, Happened, event_mirror},
    execute::Executor,
    logs::LogDesk,
    placing::Placings,
    port::Port,
    sweep,
    watched::{RunEvent, Seen},
};
use crate::{
    federation::{
        effect::{Command, Input, News, OrderId, Outcome},
        facts::{HomePod, Phase, RunPod},
        machine, names,
        spec::LogCopy,
    },
    kubernetes::{
        clock::Clock,
        cluster::{RunCounts, directory::ClusterEntry},
        events::EventDesk,
        lanes::Lanes,
        leadership::{Leadership, Permission},
        watch::Watch,
    },
    metrics::RunsMetrics,
    model::{
        ids::{ClusterId, PodKey, PodUid},
        time::Timestamp,
    },
    scheduler::input::{self as engine, EventOrder, PodRef},
};

/// What watches have seen and the machine has not; then they stop reading and the API servers keep the rest.
const SEEN_MAX: usize = 1024;
/// Messages taken in before orders are looked at again.
const MESSAGES_PER_TURN: usize = 256;
/// Calls at home at once: half of what bindings alone may take.
const HOME_CALLS_MAX: usize = 64;
/// How often sizes are told. Counting walks over all runs.
const COUNTS_PERIOD: Duration = Duration::from_secs(1);
/// Who reports news of pods.
const REPORTER: &str = "isobar";

/// What the worker drives: the federation's machine, or a stand-in in tests.
pub trait Machine: Send {
    /// Takes in one fact and appends the effects.
    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>);
    /// When time alone will have something to do.
    fn next_wake(&self) -> Option<Timestamp>;
}

impl Machine for machine::Machine {
    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>) {
        machine::Machine::handle(self, now, input, out);
    }
    fn next_wake(&self) -> Option<Timestamp> {
        machine::Machine::next_wake(self)
    }
}

/// Works with the federation's machine until the engine is gone, or for ever.
pub async fn run(context: RunsContext) {
    let machine = machine::Machine::new(context.policy.clone(), context.seed);
    run_machine(context, machine).await;
}

/// The same with this machine.
pub async fn run_machine<M: Machine>(context: RunsContext, machine: M) {
    Worker::start(context, machine).run().await;
}

struct Worker<M> {
    machine: M,
    clock: Clock,
    inputs: mpsc::UnboundedReceiver<Message>,
    seen: mpsc::Receiver<Seen>,
    seen_sender: mpsc::Sender<Seen>,
    leadership: watch::Receiver<Leadership>,
    leads: bool,
    engine: mpsc::Sender<engine::Input>,
    lanes: Lanes<Executor>,
    permission: Permission,
    events: EventDesk,
    mirror: EventMirror,
    counts: watch::Sender<RunCounts>,
    metrics: RunsMetrics,
    known: Known,
    seed: u64,
    /// Watches, followers of logs, the teller of events, the sweep.
    helpers: JoinSet<()>,
    events_watched: bool,
}

/// The little that the worker itself remembers: whose run an event is about, and since when a pod waits for its run.
#[derive(Default)]
struct Known {
    homes: FxHashSet<PodUid>,
    runs: FxHashMap<Box<str>, Arc<KnownRun>>,
    decided: FxHashMap<PodUid, Timestamp>,
    debts: FxHashSet<PodUid>,
}

struct KnownRun {
    home: PodKey,
    home_uid: PodUid,
    node: Option<Box<str>>,
    phase: Phase,
}

impl<M: Machine> Worker<M> {
    fn start(context: RunsContext, machine: M) -> Self {
        let RunsContext {
            home,
            entry,
            inputs,
            engine,
            logs,
            events,
            binder,
            permission,
            leadership,
            clock,
            counts,
            metrics,
            seed,
            policy: _,
        } = context;
        let home_port = Port::new(&home, permission.clone(), HOME_CALLS_MAX);
        let remote = remote_port(&entry, &permission);
        let (seen_sender, seen) = mpsc::channel(SEEN_MAX);
        let mut helpers = JoinSet::new();
        let homes = Watch::<HomePod>::new(home, ClusterId::HOME, &watch_name(&entry, "home"), seen_sender.clone(), seed)
            .with_fields(&format!("spec.nodeName={}", entry.virtual_node));
        let runs = Watch::<RunPod>::new(entry.api.clone(), entry.id, &watch_name(&entry, "runs"), seen_sender.clone(), seed ^ 1)
            .in_namespace(&entry.run_namespace)
            .with_labels(&format!("{}={}", names::RUN_HOME_CLUSTER, entry.home_uid));
        helpers.spawn(homes.run());
        helpers.spawn(runs.run());
        let (mirror, teller) = event_mirror(entry.clone(), home_port.clone(), remote.clone(), engine.clone(), metrics.clone());
        helpers.spawn(teller.run());
        helpers.spawn(sweep::run(entry.clone(), home_port.clone(), remote.clone(), metrics.clone(), seed));
        let executor = Executor {
            entry,
            home: home_port,
            remote,
            binder,
            placings: Placings::new(engine.clone()),
            logs: LogDesk::new(logs, metrics.clone()),
            metrics: metrics.clone(),
        };
        Self {
            machine,
            clock,
            inputs,
            seen,
            seen_sender,
            leadership,
            leads: false,
            engine,
            lanes: Lanes::new(executor),
            permission,
            events,
            mirror,
            counts,
            metrics,
            known: Known::default(),
            seed,
            helpers,
            events_watched: false,
        }
    }

    async fn run(mut self) {
        let mut messages = Vec::with_capacity(MESSAGES_PER_TURN);
        let mut seen = Vec::with_capacity(MESSAGES_PER_TURN);
        let mut out = Vec::new();
        let mut count = interval(COUNTS_PERIOD);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.lead(&mut out);
            if !self.dispatch(&mut out).await {
                return;
            }
            let wake = self.machine.next_wake().map(|time| self.clock.instant_of(time));
            tokio::select! {
                biased;
                (id, outcome) = self.lanes.done() => self.done(id, outcome, &mut out),
                // The election is over only when the process ends.
                Ok(()) = self.leadership.changed() => {}
                _ = self.inputs.recv_many(&mut messages, MESSAGES_PER_TURN) => {
                    messages.drain(..).for_each(|message| self.hear(message, &mut out));
                }
                _ = self.seen.recv_many(&mut seen, MESSAGES_PER_TURN) => {
                    seen.drain(..).for_each(|seen| self.see(seen, &mut out));
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.handle(Input::Tick, &mut out),
                Some(_) = self.helpers.join_next() => {}
                _ = count.tick() => self.publish(),
            }
        }
    }

    fn handle(&mut self, input: Input, out: &mut Vec<Command>) {
        self.machine.handle(self.clock.now(), input, out);
    }

    fn lead(&mut self, out: &mut Vec<Command>) {
        let leads = self.leadership.borrow_and_update().allows(Instant::now());
        if leads != self.leads {
            self.leads = leads;
            self.handle(Input::Leading(leads), out);
        }
    }

    fn done(&mut self, id: OrderId, outcome: Outcome, out: &mut Vec<Command>) {
        if let Outcome::Run(run) = &outcome {
            self.remember(run);
        }
        self.handle(Input::Done(id, outcome), out);
    }

    fn hear(&mut self, message: Message, out: &mut Vec<Command>) {
        match message {
            // What the election says is heard at first hand.
            Message::Fact(Input::Leading(_)) => {}
            Message::Fact(fact) => {
                if let Input::Place { uid, .. } = &fact {
                    self.known.decided.insert(uid.clone(), self.clock.now());
                }
                self.handle(fact, out);
            }
            Message::Placed(uid, node) => self.lanes.carrier().placings.answer(&uid, node),
            Message::Entry(entry) => {
                let before = self.lanes.carrier();
                let same = before.entry.spec.limits == entry.spec.limits;
                let remote = if same { before.remote.clone() } else { remote_port(&entry, &self.permission) };
                let executor = Executor { entry, remote, ..before.clone() };
                self.lanes.exchange(executor);
            }
        }
    }

    fn see(&mut self, seen: Seen, out: &mut Vec<Command>) {
        match seen {
            Seen::Fact(fact) => {
                self.take_note(&fact);
                self.handle(fact, out);
            }
            Seen::Event(event) => self.tell(event),
            Seen::Nothing => {}
        }
    }

    fn take_note(&mut self, fact: &Input) {
        let known = &mut self.known;
        match fact {
            Input::Home(home) => {
                known.homes.insert(home.uid.clone());
            }
            Input::HomeGone(uid) => {
                known.homes.remove(uid);
                known.decided.remove(uid);
            }
            Input::RunGone { uid, .. } => {
                if let Some(run) = known.runs.remove(uid) {
                    known.debts.remove(&run.home_uid);
                }
            }
            Input::HomesListed(uids) => {
                known.homes.retain(|uid| uids.contains(uid));
            }
            Input::Run(run) => self.remember(run),
            Input::RunsListed(uids) => {
                known.runs.retain(|uid, _| uids.contains(uid));
                self.watch_events();
            }
            _ => {}
        }
    }

    fn remember(&mut self, run: &RunPod) {
        let same = |known: &Arc<KnownRun>| known.node == run.node && known.phase == run.phase;
        if !self.known.runs.get(&run.uid).is_some_and(same) {
            let known = KnownRun { home: run.home.clone(), home_uid: run.home_uid.clone(), node: run.node.clone(), phase: run.phase };
            self.known.runs.insert(run.uid.clone(), Arc::new(known));
        }
        if let Some(since) = self.known.decided.remove(&run.home_uid) {
            self.metrics.decision_to_run(self.clock.now().since(since).as_secs_f64());
        }
        let executor = self.lanes.carrier();
        if self.leads && executor.logs.keeps() && executor.entry.spec.logs == LogCopy::Follow {
            for follower in executor.logs.follow(&executor.remote, run) {
                self.helpers.spawn(follower);
            }
        }
    }

    /// Events are watched only when it is known whose runs they are about.
    fn watch_events(&mut self) {
        if std::mem::replace(&mut self.events_watched, true) {
            return;
        }
        let entry = &self.lanes.carrier().entry;
        let name = watch_name(entry, "runs");
        let watch = Watch::<RunEvent>::new(entry.api.clone(), entry.id, &name, self.seen_sender.clone(), self.seed ^ 2);
        self.helpers.spawn(watch.in_namespace(&entry.run_namespace).run());
    }

    fn tell(&self, event: Box<RunEvent>) {
        let Some(run) = self.known.runs.get(&event.run).filter(|_| self.leads) else { return };
        self.mirror.put(Happened { home: run.home.clone(), uid: run.home_uid.clone(), node: run.node.clone(), event });
    }

    /// Hands on what the machine wants. False when the engine is gone.
    async fn dispatch(&mut self, out: &mut Vec<Command>) -> bool {
        for command in out.drain(..) {
            match command {
                Command::Order(order) => self.lanes.put(order),
                Command::Answer(uid, answer) => {
                    if answer.is_err() {
                        self.known.decided.remove(&uid);
                    }
                    let told = match answer {
                        Ok(()) => engine::Input::Bound(uid),
                        Err(failure) => engine::Input::BindFailed(uid, failure),
                    };
                    if self.engine.send(told).await.is_err() {
                        return false;
                    }
                }
                Command::Tell(news) => self.events.put(Box::new(event(*news))),
                Command::Debt(pod, uid) => {
                    let cluster = &self.lanes.carrier().entry.name;
                    tracing::warn!(%pod, %uid, %cluster, "its run could not be wiped; it is wiped when the cluster comes back");
                    self.metrics.debt();
                    self.known.debts.insert(uid);
                }
            }
        }
        true
    }

    fn publish(&self) {
        let Known { homes, runs, debts, .. } = &self.known;
        let count = |phase: fn(Phase) -> bool| u32::try_from(runs.values().filter(|run| phase(run.phase)).count()).unwrap_or(u32::MAX);
        let (ended, pending) = (count(Phase::is_terminal), count(|phase| phase == Phase::Pending));
        let total = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let debts = u32::try_from(debts.len()).unwrap_or(u32::MAX);
        let now = RunCounts { active: total - ended, pending, ended, debts };
        self.counts.send_if_modified(|counts| std::mem::replace(counts, now) != now);
        self.metrics.counts(homes.len(), runs.len());
    }
}

fn remote_port(entry: &ClusterEntry, permission: &Permission) -> Port {
    Port::new(&entry.api, permission.clone(), usize::try_from(entry.spec.limits.in_flight).unwrap_or(1))
}

/// How a watch of this room is named in metrics and logs: the engine watches pods of the same cluster.
fn watch_name(entry: &ClusterEntry, side: &str) -> String {
    format!("{}/{side}", entry.name)
}

fn event(News { home, uid, kind, reason, note }: News) -> EventOrder {
    let pod = PodRef { key: home, uid, scheduler_name: REPORTER.into() };
    EventOrder { pod, reason, kind, action: "Federating", related: None, note: note.into() }
}

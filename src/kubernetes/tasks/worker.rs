//! The loop around the machine of tasks. In: what the watches see, arrivals, outcomes, time. Out: orders into the lanes, answers to senders, news for people.
//!
//! The machine is synchronous and never waits; this loop waits for it. Dropping the future stops the watches and every order; the next leader derives from the
//! objects where each run stands.

use std::{collections::BTreeMap, time::Duration};

use rustc_hash::FxHashMap;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Arriving, TasksContext,
    events::{NewsDesk, news_desk},
    execute::{Executor, Order},
    known::Known,
    lanes::CALLS_MAX,
    logs::LogDesk,
    watched::{Kind, NodeReadiness, Seen, SeenPod},
};
use crate::{
    kubernetes::{
        api::Api,
        clock::Clock,
        cluster::{changes, rest::Rest},
        lanes::Lanes,
        leadership::Leadership,
        runs::port::Port,
        watch::Watch,
        wire::Watched,
    },
    metrics::TaskMetrics,
    model::ids::ClusterId,
    tasks::{
        effect::{Answer, ArrivalId, Command, Input, OrderId, Outcome},
        facts::{Run, Task},
        machine::Machine,
        names,
        rules::Rules,
        run::Phase,
    },
};

/// What watches have seen and the machine has not; then they stop reading and the API server keeps the rest.
const SEEN_MAX: usize = 1024;
/// Messages taken in before orders are looked at again.
const SEEN_PER_TURN: usize = 256;
/// How often sizes are told, nodes and what no watch has shown are looked through.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How watches are named in metrics and logs.
const WATCH_NAME: &str = "home/tasks";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

pub(super) struct Worker {
    machine: Machine,
    clock: Clock,
    rules: Rules,
    seen: mpsc::Receiver<Seen>,
    arrivals: mpsc::Receiver<Arriving>,
    classes: watch::Receiver<Option<Vec<Value>>>,
    leadership: watch::Receiver<Leadership>,
    leads: bool,
    lanes: Lanes<Executor>,
    news: NewsDesk,
    metrics: TaskMetrics,
    known: Known,
    asked: FxHashMap<ArrivalId, oneshot::Sender<Answer>>,
    arrivals_count: u64,
    /// Watches, followers of logs, the teller of events.
    helpers: JoinSet<()>,
}

impl Worker {
    pub(super) fn start(context: TasksContext) -> Self {
        let permission = super::permission(&context);
        let TasksContext { home, leadership, clock, rules, arrivals, logs, receivers, metrics, hostname, seed } = context;
        let rules = Rules { announce: !receivers.is_empty(), ..rules };
        if logs.is_none() {
            tracing::warn!("no archive of logs is configured: what runs of tasks have written goes with their pods");
        }
        let (sender, seen) = mpsc::channel(SEEN_MAX);
        let (lists, classes) = watch::channel(None);
        let mut helpers = JoinSet::new();
        helpers.spawn(watch_all::<Task>(&home, &sender, seed).run());
        helpers.spawn(watch_all::<Run>(&home, &sender, seed ^ 1).run());
        helpers.spawn(watch_all::<SeenPod>(&home, &sender, seed ^ 2).with_labels(names::RUN).run());
        helpers.spawn(watch_all::<NodeReadiness>(&home, &sender, seed ^ 3).run());
        helpers.spawn(changes::follow(Rest::new(home.clone()), PRIORITY_CLASSES.to_owned(), lists, seed ^ 4));
        let (news, teller) = news_desk(home.while_permitted(permission.clone()), clock, &hostname);
        helpers.spawn(teller.run());
        let metrics = TaskMetrics::new(&metrics);
        let port = Port::new(&home, permission, CALLS_MAX);
        let lanes = Lanes::new(Executor { port, logs: LogDesk::new(logs), receivers, metrics: metrics.clone() });
        Self {
            machine: Machine::new(rules.clone(), 1),
            clock,
            rules,
            seen,
            arrivals,
            classes,
            leadership,
            leads: false,
            lanes,
            news,
            metrics,
            known: Known::default(),
            asked: FxHashMap::default(),
            arrivals_count: 0,
            helpers,
        }
    }

    pub(super) async fn run(mut self) {
        let mut seen = Vec::with_capacity(SEEN_PER_TURN);
        let mut out = Vec::new();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.lead(&mut out);
            self.dispatch(&mut out);
            let wake = self.machine.next_wake().map(|time| self.clock.instant_of(time));
            tokio::select! {
                biased;
                (id, outcome) = self.lanes.done() => self.done(id, outcome, &mut out),
                // The election is over only when the process ends.
                Ok(()) = self.leadership.changed() => {}
                Some(arriving) = self.arrivals.recv() => self.arrived(arriving, &mut out),
                _ = self.seen.recv_many(&mut seen, SEEN_PER_TURN) => {
                    seen.drain(..).for_each(|seen| self.see(seen, &mut out));
                }
                Ok(()) = self.classes.changed() => self.priorities(&mut out),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.handle(Input::Tick, &mut out),
                Some(_) = self.helpers.join_next() => {}
                _ = look.tick() => self.look(&mut out),
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
            let speaking: Vec<Box<str>> = self.known.speaking.keys().cloned().collect();
            speaking.iter().for_each(|uid| self.follow(uid));
            self.handle(Input::Leading(leads), out);
        }
    }

    fn done(&mut self, id: OrderId, outcome: Outcome, out: &mut Vec<Command>) {
        let now = Instant::now();
        match &outcome {
            Outcome::Run(run) => {
                self.known.answered(Kind::Run, run["metadata"]["uid"].as_str().unwrap_or_default(), now);
            }
            Outcome::Pod(pod) => self.known.answered(Kind::Pod, &pod.uid, now),
            _ => {}
        }
        self.handle(Input::Done(id, outcome), out);
    }

    fn arrived(&mut self, arriving: Arriving, out: &mut Vec<Command>) {
        self.arrivals_count += 1;
        let id = ArrivalId(self.arrivals_count);
        self.asked.insert(id, arriving.answer);
        self.handle(Input::Arrival(id, Box::new(arriving.arrival)), out);
    }

    fn see(&mut self, seen: Seen, out: &mut Vec<Command>) {
        let now = Instant::now();
        match seen {
            Seen::Task(task) => {
                self.known.saw(Kind::Task, &task.uid);
                self.handle(Input::Task(task), out);
            }
            Seen::Run(run) => {
                self.known.saw(Kind::Run, &run.uid);
                self.known.saw_run(&run);
                self.handle(Input::Run(run), out);
            }
            Seen::Pod(seen) => {
                self.known.saw(Kind::Pod, &seen.pod.uid);
                self.known.saw_pod(&seen);
                self.follow(&seen.pod.uid);
                self.handle(Input::Pod(Box::new(seen.pod)), out);
            }
            Seen::Gone(kind, key, uid) => {
                self.known.gone(kind, &uid);
                let fact = match kind {
                    Kind::Task => Input::TaskGone(key),
                    Kind::Run => Input::RunGone(key, uid),
                    Kind::Pod => {
                        self.lanes.carrier().logs.forget(&uid);
                        Input::PodGone(key, uid)
                    }
                };
                self.handle(fact, out);
            }
            Seen::Listed(kind, uids) => {
                if let Some(listing) = self.known.listed(kind, uids) {
                    self.handle(Input::Listed(Box::new(listing)), out);
                }
            }
            Seen::Node(name, ready) => {
                if let Some(lost) = self.known.node(&name, ready, now) {
                    self.handle(Input::NodeLost(name, lost), out);
                }
            }
            Seen::NodeGone(name) => {
                if self.known.node_gone(&name) {
                    self.handle(Input::NodeLost(name, true), out);
                }
            }
            Seen::NodesListed(names) => {
                for name in self.known.nodes_listed(&names) {
                    self.handle(Input::NodeLost(name, true), out);
                }
            }
        }
    }

    /// Follows logs of a pod, if it speaks and we lead.
    fn follow(&mut self, uid: &str) {
        let Some(speakers) = self.known.speaking.get(uid).filter(|_| self.leads) else { return };
        let bytes_max = self.known.runs.get(&speakers.owner).map_or(0, |run| run.log_bytes_max);
        let executor = self.lanes.carrier();
        for follower in executor.logs.follow(&executor.port, &speakers.pod, uid, &speakers.speaking, bytes_max) {
            self.helpers.spawn(follower);
        }
    }

    fn priorities(&mut self, out: &mut Vec<Command>) {
        let value = |class: &Value| {
            let value = i32::try_from(class["value"].as_i64()?).ok()?;
            Some((class["metadata"]["name"].as_str()?.to_owned(), value))
        };
        let priorities: BTreeMap<String, i32> = self.classes.borrow_and_update().iter().flatten().filter_map(value).collect();
        if priorities != self.rules.priorities {
            self.rules.priorities = priorities;
            self.handle(Input::Rules(Box::new(self.rules.clone())), out);
        }
    }

    fn look(&mut self, out: &mut Vec<Command>) {
        let now = Instant::now();
        for name in self.known.nodes_lost(now) {
            self.handle(Input::NodeLost(name, true), out);
        }
        if let Some(listing) = self.known.expire(now) {
            self.handle(Input::Listed(Box::new(listing)), out);
        }
        let waiting = self.known.runs.values().filter(|run| matches!(run.phase, Some(Phase::Queued | Phase::Launching | Phase::Pending)));
        let oldest = waiting.filter_map(|run| run.queued_at).min().map_or(0, |since| self.clock.now().since(since).0);
        self.metrics.oldest_waiting(Duration::from_millis(oldest));
        self.metrics.phases(self.known.runs.values().map(|run| run.phase.map(|phase| phase as usize)));
    }

    /// Hands on what the machine wants.
    fn dispatch(&mut self, out: &mut Vec<Command>) {
        for command in out.drain(..) {
            match command {
                Command::Order(id, subject, effect) => self.lanes.put(Order { id, subject, effect, ordered: Instant::now() }),
                Command::Answer(id, answer) => {
                    self.metrics.arrival(match &answer {
                        Answer::Accepted(_) => "accepted",
                        Answer::Duplicate => "duplicate",
                        Answer::Unwanted => "unwanted",
                        Answer::Refused(_) => "refused",
                        Answer::Again(_) => "again",
                    });
                    if let Some(asked) = self.asked.remove(&id) {
                        // Whoever asked has gone away; it will ask again.
                        let _ = asked.send(answer);
                    }
                }
                Command::Tell(news) => self.news.put(news),
                Command::Missed(task, count) => self.metrics.missed(&format!("{}/{}", task.namespace, task.name), count),
            }
        }
    }
}

fn watch_all<K: Watched<Input = Seen>>(home: &Api, seen: &mpsc::Sender<Seen>, seed: u64) -> Watch<K> {
    Watch::new(home.clone(), ClusterId::HOME, WATCH_NAME, seen.clone(), seed)
}

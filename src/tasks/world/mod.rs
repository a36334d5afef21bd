//! Worlds that go wrong: machines of one leader, or of two at once with clocks that differ, on an API server in memory, with kubelets, people, events, faults
//! and deaths by seed. In: a seed. Out: nothing, or a panic when a firing becomes two runs or none, a run has two pods, a pod goes before its logs.
//!
//! `ISOBAR_TASK_SEEDS=n` lives so many, or those `from..to`; `ISOBAR_SEED=n`: this one, which tells its story.

mod executor;
mod judge;
mod kills;
mod server;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};

use self::{
    executor::Flight,
    server::{Change, Kind, NAMESPACE, Server, end, is_over, name_of},
};
use super::{
    effect::{Answer, ArrivalId, Command, Input, Listing},
    facts::{Key, Pod, Run, Task},
    machine::Machine,
    rules::{Quota, Rules},
    trigger::arrival::Arrival,
};
use crate::model::time::{DurationMs, Timestamp};

/// Worlds that are lived through unless told otherwise.
const SEEDS: u64 = 10;
const STEPS: usize = 400;
/// 2026-11-28, noon and a bit.
pub const START: Timestamp = Timestamp(1_795_867_230_000);
/// How far clocks differ.
const SKEW_MAX_MS: i64 = 20_000;
/// Versions of objects that are kept as they were read.
const FACTS_MAX: usize = 2_000;
/// Two may believe that they lead for so long.
const OVERLAP_MS: u64 = 15_000;

/// One process that believes it leads.
struct Leader {
    id: u64,
    machine: Machine,
    skew_ms: i64,
    watch: VecDeque<Change>,
    /// Another one leads already; it will notice then.
    until: Option<Timestamp>,
}

pub struct World {
    seed: u64,
    rng: Pcg64Mcg,
    pub now: Timestamp,
    pub server: Server,
    leaders: Vec<Leader>,
    pub flights: Vec<Flight>,
    pub calm: bool,
    /// UIDs of pods whose logs are saved.
    pub saved: BTreeSet<String>,
    /// Every firing that has become a run.
    pub ever: BTreeSet<(String, String, String)>,
    pub announced: BTreeSet<(String, String)>,
    ended: BTreeSet<(String, String, String)>,
    /// Events and who was promised a run of them.
    promised: BTreeSet<(String, String)>,
    asked: BTreeMap<ArrivalId, Arrival>,
    /// Events that were not acknowledged are sent again.
    unsent: Vec<Arrival>,
    /// Objects that were read, by version.
    facts: BTreeMap<String, Input>,
    next: u64,
    kill: Option<kills::Kill>,
    killed: bool,
    tells: bool,
}

fn rules() -> Rules {
    Rules {
        sources: vec!["s".to_owned(), "t".to_owned()],
        accounts: BTreeMap::from([("a".to_owned(), Quota { running_max: Some(4), ..Quota::default() })]),
        announce: true,
        pods_per_second: 5,
        pods_burst: 5,
        ..Rules::default()
    }
}

fn tasks() -> Vec<Value> {
    let base = |name: &str, triggers: Value, more: Value| {
        let mut spec = json!({
            "account": "a", "triggers": triggers,
            "template": {"spec": {"containers": [{"name": "main", "image": "i", "args": ["$(cycle)"]}]}},
            "limits": {"run": {"limit": "4m"}, "start": {"limit": "3m"}, "queue": {"limit": "10m"}},
            "retry": {"application": 1, "infrastructure": 3, "requeues": 2, "backoff": {"initial": "10s", "max": "1m"}},
            "retention": {"succeeded": {"count": 3, "ttl": "20m"}, "failed": {"count": 3, "ttl": "20m"}, "pod": {"failed": "30s"}},
        });
        more.as_object().unwrap().iter().for_each(|(key, value)| spec[key] = value.clone());
        json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec})
    };
    let cron = json!([{"cron": {"schedule": "*/5 * * * *", "missed": {"policy": "All", "max": 1000}}}]);
    vec![
        base("clock", cron, json!({"concurrency": {"policy": "Allow"}})),
        base("follow", json!([{"after": {"tasks": [{"name": "clock"}]}}]), json!({"concurrency": {"policy": "Queue", "max": 2}})),
        base(
            "join",
            json!([{"after": {"tasks": [{"name": "clock", "when": "Finished"}, {"name": "follow", "when": "Finished"}], "deadline": "20m", "onDeadline": "Run"}}]),
            json!({"concurrency": {"policy": "Replace"}}),
        ),
        base("file", json!([{"data": {"source": "s", "match": "^f"}}]), json!({})),
        base(
            "pair",
            json!([{"data": {"source": "t", "match": "^a_(?<cycle>\\d{12})", "allOf": ["^b_(?<cycle>\\d{12})"], "deadline": "8m"}}]),
            json!({}),
        ),
        base("hand", json!([]), json!({"concurrency": {"policy": "Forbid"}})),
    ]
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &["clock", "follow", "join", "file", "pair", "hand"])
    }

    /// A world with some of the tasks.
    fn with(seed: u64, names: &[&str]) -> Self {
        let mut world = Self {
            seed,
            rng: Pcg64Mcg::seed_from_u64(seed),
            now: START,
            server: Server::default(),
            leaders: Vec::new(),
            flights: Vec::new(),
            calm: false,
            saved: BTreeSet::new(),
            ever: BTreeSet::new(),
            announced: BTreeSet::new(),
            ended: BTreeSet::new(),
            promised: BTreeSet::new(),
            asked: BTreeMap::new(),
            unsent: Vec::new(),
            facts: BTreeMap::new(),
            next: 1,
            kill: None,
            killed: false,
            tells: number("ISOBAR_SEED").is_some(),
        };
        for task in tasks().into_iter().filter(|task| names.contains(&name_of(task).as_str())) {
            world.server.create(Kind::Task, task, START).unwrap();
        }
        world.take_over(false);
        world
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// Told only when one seed is looked at: most of a world's time would go into it.
    pub fn note(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>8} {}", self.now.0 - START.0, what());
        }
    }

    /// One fact for a leader, and what it does about it.
    pub fn give(&mut self, leader: u64, input: Input) {
        let Some(at) = self.leaders.iter().position(|one| one.id == leader) else { return };
        let mut out = Vec::new();
        let now = self.now.0.saturating_add_signed(self.leaders[at].skew_ms);
        self.leaders[at].machine.handle(Timestamp(now), input, &mut out);
        for command in out {
            match command {
                Command::Order(id, subject, effect) => {
                    let busy = self.flights.iter().any(|flight| flight.awaited && flight.leader == leader && flight.subject == subject);
                    assert!(!busy, "two orders at once for {subject:?}");
                    self.take_off(leader, id, subject, effect);
                }
                Command::Answer(id, answer) => self.answered(id, &answer),
                Command::Missed(..) => {}
                Command::Tell(news) => self.note(|| format!("tell {:?} {} {}", news.subject, news.reason, news.note)),
            }
        }
    }

    fn answered(&mut self, id: ArrivalId, answer: &Answer) {
        let Some(arrival) = self.asked.remove(&id) else { return };
        self.note(|| format!("{arrival:?} -> {answer:?}"));
        match answer {
            Answer::Again(_) => self.unsent.push(arrival),
            Answer::Accepted(_) | Answer::Duplicate => {
                let promise = if arrival.source == "s" {
                    ("file".to_owned(), format!("s/{}", arrival.id))
                } else {
                    let cycle = super::trigger::pattern::cycle(&arrival.name).unwrap();
                    ("pair".to_owned(), format!("t/cycle/{}", cycle.to_rfc3339()))
                };
                self.promised.insert(promise);
            }
            Answer::Unwanted => panic!("nobody wants {arrival:?}"),
            // It is from a time that is not remembered, and its sender knows.
            Answer::Refused(_) => {}
        }
    }

    /// A new leader that knows nothing. `overlap`: the old one does not know yet.
    pub fn take_over(&mut self, overlap: bool) {
        self.note(|| format!("a new leader, the old one {}", if overlap { "goes on for a while" } else { "is dead" }));
        let until = self.now + DurationMs(self.rng.random_range(1..OVERLAP_MS));
        for at in (0..self.leaders.len()).rev() {
            if overlap && self.leaders[at].until.is_none() {
                self.leaders[at].until = Some(until);
            } else if self.leaders[at].until.is_none() {
                self.bury(at);
            }
        }
        self.next += 1;
        let skew_ms = self.rng.random_range(-SKEW_MAX_MS..SKEW_MAX_MS);
        let machine = Machine::new(rules(), self.next * 1_000_000);
        self.leaders.push(Leader { id: self.next, machine, skew_ms, watch: VecDeque::new(), until: None });
        let id = self.next;
        self.give(id, Input::Leading(true));
        self.list(id);
    }

    fn bury(&mut self, at: usize) {
        let leader = self.leaders.remove(at);
        self.orphan_flights(leader.id);
        // Whoever sent something to it has no answer.
        if self.leaders.is_empty() || leader.until.is_none() {
            let unanswered: Vec<Arrival> = std::mem::take(&mut self.asked).into_values().collect();
            self.unsent.extend(unanswered);
        }
    }

    fn list(&mut self, leader: u64) {
        self.collect();
        if let Some(one) = self.leaders.iter_mut().find(|one| one.id == leader) {
            one.watch.clear();
        }
        let mut listing = Listing::default();
        for (kind, object) in self.server.list() {
            let uid: Box<str> = object["metadata"]["uid"].as_str().unwrap().into();
            match kind {
                Kind::Task => listing.tasks.insert(uid),
                Kind::Run => listing.runs.insert(uid),
                Kind::Pod => listing.pods.insert(uid),
            };
            let fact = self.read(kind, &object);
            self.give(leader, fact);
        }
        self.give(leader, Input::Listed(Box::new(listing)));
    }

    /// What a watch makes of an object. Several leaders read each version, and each takeover all of them: it is read once.
    fn read(&mut self, kind: Kind, object: &Value) -> Input {
        let version = object["metadata"]["resourceVersion"].as_str().unwrap();
        if let Some(fact) = self.facts.get(version) {
            return fact.clone();
        }
        let fact = match kind {
            Kind::Task => Input::Task(Box::new(Task::read(object).unwrap())),
            Kind::Run => Input::Run(Box::new(Run::read(object).unwrap())),
            Kind::Pod => Input::Pod(Box::new(Pod::read(object).unwrap())),
        };
        if self.facts.len() >= FACTS_MAX {
            self.facts.clear();
        }
        self.facts.insert(version.to_owned(), fact.clone());
        fact
    }

    fn collect(&mut self) {
        let changes = std::mem::take(&mut self.server.changes);
        for leader in &mut self.leaders {
            leader.watch.extend(changes.iter().cloned());
        }
    }

    fn deliver(&mut self, share: u32) {
        self.collect();
        for id in self.leaders.iter().map(|one| one.id).collect::<Vec<_>>() {
            while self.chance(share) {
                let Some(change) = self.leaders.iter_mut().find(|one| one.id == id).and_then(|one| one.watch.pop_front()) else { break };
                let input = match change {
                    Change::Set(kind, object) => self.read(kind, &object),
                    Change::Gone(kind, name, uid) => {
                        let (key, uid) = (Key::new(NAMESPACE, &name), uid.into());
                        match kind {
                            Kind::Task => Input::TaskGone(key),
                            Kind::Run => Input::RunGone(key, uid),
                            Kind::Pod => Input::PodGone(key, uid),
                        }
                    }
                };
                self.give(id, input);
            }
        }
    }

    /// Schedulers, kubelets and programs.
    fn live(&mut self) {
        let now = self.now;
        for name in self.server.all(Kind::Pod).map(name_of).collect::<Vec<_>>() {
            let Some(pod) = self.server.get(Kind::Pod, &name) else { continue };
            if is_over(pod) {
                continue;
            }
            let deletion = pod["metadata"]["deletionTimestamp"].as_str().and_then(Timestamp::parse_rfc3339);
            let (bound, running) = (!pod["spec"]["nodeName"].is_null(), pod["status"]["phase"] == "Running");
            let roll = self.rng.random_range(0..100);
            let wild = !self.calm;
            if roll >= 50 && deletion.is_none() {
                continue;
            }
            self.server.update(Kind::Pod, &name, |pod| match (deletion, bound, running) {
                (Some(due), true, _) if due <= now => end(pod, 137, "", now),
                (None, false, _) if roll < 40 => pod["spec"]["nodeName"] = "n".into(),
                (None, false, _) if roll < 50 => {
                    pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]);
                }
                (None, true, false) if roll < 40 => {
                    pod["status"] = json!({"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": now.to_rfc3339()}}}]});
                }
                (None, true, true) if roll < 18 => end(pod, 0, "", now),
                (None, true, true) if wild && roll < 22 => end(pod, 1, "", now),
                (None, true, true) if wild && roll < 24 => end(pod, 137, "Evicted", now),
                _ => {}
            });
        }
    }

    /// People, data and fate.
    fn act(&mut self) {
        match self.rng.random_range(0..100) {
            0..6 => self.arrive(),
            6..9 => self.user_runs(),
            9..11 => self.on_any(Kind::Run, |server, name, _| server.update(Kind::Run, name, |run| run["spec"]["cancel"] = true.into())),
            11..13 => self.on_any(Kind::Pod, |server, name, now| server.delete_pod(name, 10, now)),
            13..14 => self.on_any(Kind::Run, |server, name, now| {
                // Only what no trigger could start again.
                if name.starts_with("hand-") {
                    server.delete_run(name, now);
                }
            }),
            14..16 => self.take_over(false),
            16..18 => self.take_over(true),
            18..20 => self.leaders.iter().map(|one| one.id).collect::<Vec<_>>().into_iter().for_each(|id| self.list(id)),
            20..21 => {
                // An outage: nobody leads for a while.
                while !self.leaders.is_empty() {
                    self.bury(0);
                }
                self.now = self.now + DurationMs(self.rng.random_range(60_000..1_500_000));
                self.take_over(false);
            }
            _ => {}
        }
    }

    fn arrive(&mut self) {
        let cycle = super::names::cycle_label(Timestamp(self.now.0 / 600_000 * 600_000));
        let cycle: String = cycle.chars().filter(char::is_ascii_digit).collect();
        let file = self.rng.random_range(0..40);
        let name = [format!("f{file}"), format!("a_{cycle}"), format!("b_{cycle}")][self.rng.random_range(0..3)].clone();
        let source = if name.starts_with('f') { "s" } else { "t" };
        let time = Some(START + DurationMs(file * 1_000));
        self.unsent.push(Arrival { source: source.to_owned(), id: name.clone(), name, time });
    }

    /// What was not acknowledged is sent again, to whoever leads.
    fn send(&mut self) {
        for arrival in std::mem::take(&mut self.unsent) {
            let Some(leader) = self.leaders.last().map(|one| one.id) else {
                self.unsent.push(arrival);
                continue;
            };
            self.next += 1;
            let id = ArrivalId(self.next);
            self.asked.insert(id, arrival.clone());
            self.give(leader, Input::Arrival(id, Box::new(arrival)));
        }
    }

    fn user_runs(&mut self) {
        self.next += 1;
        let name = format!("hand-{}", self.next);
        let task = if self.chance(90) { "hand" } else { "missing" };
        let run = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"name": name}, "spec": {"taskRef": {"name": task}}});
        let _ = self.server.create(Kind::Run, run, self.now);
    }

    fn on_any(&mut self, kind: Kind, act: impl FnOnce(&mut Server, &str, Timestamp)) {
        let names: Vec<String> = self.server.all(kind).map(name_of).collect();
        if !names.is_empty() {
            let name = names[self.rng.random_range(0..names.len())].clone();
            self.note(|| format!("somebody acts on {name}"));
            act(&mut self.server, &name, self.now);
        }
    }

    pub fn step(&mut self) {
        self.now = self.now + DurationMs(self.rng.random_range(1..if self.calm { 4_000 } else { 20_000 }));
        if !self.calm {
            self.act();
        }
        for at in (0..self.leaders.len()).rev() {
            if self.leaders[at].until.is_some_and(|until| until <= self.now) {
                self.bury(at);
            }
        }
        self.live();
        self.land();
        self.send();
        self.deliver(if self.calm { 100 } else { 75 });
        if self.chance(10) {
            self.remember_ends();
        }
        for id in self.leaders.iter().map(|one| one.id).collect::<Vec<_>>() {
            let Some(leader) = self.leaders.iter().find(|one| one.id == id) else { continue };
            let now = Timestamp(self.now.0.saturating_add_signed(leader.skew_ms));
            if leader.machine.next_wake().is_some_and(|at| at <= now) {
                self.give(id, Input::Tick);
            }
        }
        assert!(self.leaders.iter().all(|leader| leader.machine.counts_right()), "a run counts as what it is not");
    }

    /// Faults stop; the clock is suspended, and everything comes to rest.
    pub fn calm_down(&mut self) {
        self.calm = true;
        for leader in &mut self.leaders {
            leader.skew_ms = 0;
        }
        // The last cycle that is due is started, then no more.
        let last = Timestamp(self.now.0 / 300_000 * 300_000 + 300_000 + 60_000);
        while self.now < last {
            self.step();
        }
        self.server.update(Kind::Task, "clock", |task| {
            task["spec"]["suspend"] = true.into();
            task["metadata"]["generation"] = 2.into();
        });
        let until = self.now + DurationMs(4 * 3_600_000);
        let frozen = self.now;
        while self.now < until {
            self.step();
            let over = self.server.all(Kind::Run).all(|run| run["status"]["phase"] == "Reaped" && run["status"]["announced"] == "Reaped");
            if over
                && self.flights.is_empty()
                && self.server.all(Kind::Pod).next().is_none()
                && self.unsent.is_empty()
                && self.asked.is_empty()
            {
                break;
            }
        }
        self.now = frozen;
        self.remember_ends();
        self.judge_calm();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ISOBAR_SEED={} of the tasks' world failed; with it in the environment the world tells its story", self.seed);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// `n` is `0..n`.
fn range(name: &str) -> Option<std::ops::Range<u64>> {
    let text = std::env::var(name).ok()?;
    let (from, to) = text.split_once("..").unwrap_or(("0", &text));
    Some(from.parse().unwrap()..to.parse().unwrap())
}

#[test]
fn each_firing_is_one_run_with_one_pod_in_worlds_that_go_wrong() {
    let seeds = match number("ISOBAR_SEED") {
        Some(seed) => seed..seed + 1,
        None => range("ISOBAR_TASK_SEEDS").unwrap_or(0..SEEDS),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm_down();
    }
}

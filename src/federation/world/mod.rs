//! A world for the machine: two API servers, a kubelet, users, admins, a leader that dies, orders that fail in every way. In: a seed. Out: nothing, if what
//! must never be was not; else a panic that tells the seed and the last things that happened.
//!
//! `ISOBAR_SEEDS=10000 cargo test --lib federation::world` tries more (from `ISOBAR_SEED_FIRST` on), `ISOBAR_SEED=n` one again, with its whole story.

mod executor;
mod judge;
mod kubelet;
mod server;
mod table;

use std::collections::{BTreeSet, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};

use self::{
    executor::Flight,
    judge::Judge,
    server::{Change, Server},
};
use crate::{
    federation::{
        effect::{Command, Contact, Input, Policy},
        facts::{HomePod, RunName, RunPod},
        machine::Machine,
        names,
        spec::{Commit, Lost},
    },
    model::{
        ids::{PodKey, PodUid},
        time::{DurationMs, Timestamp},
    },
};

const VIRTUAL_NODE: &str = "isobar-cloud";
const RUNS: &str = "runs";
/// Seeds tried in a normal test run.
const SEEDS: u64 = 150;
/// Steps under faults, and steps of calm after them.
const STEPS: u32 = 260;
/// Simulated time of a calm, enough for every wait of the protocol.
const CALM: DurationMs = DurationMs(20 * 60_000);

#[allow(clippy::struct_excessive_bools)] // switches of a test
struct World {
    now: Timestamp,
    rng: Pcg64Mcg,
    seed: u64,
    home: Server,
    compute: Server,
    machine: Machine,
    judge: Judge,
    flights: Vec<Flight>,
    home_watch: VecDeque<Change>,
    run_watch: VecDeque<Change>,
    partitioned: bool,
    lost_since: Option<Timestamp>,
    calm: bool,
    pins: bool,
    forgets: bool,
    policy: Policy,
    unbindable: BTreeSet<String>,
    /// Pods that the engine has handed over, until it has the answer.
    placing: BTreeSet<String>,
    next_uid: u64,
    tells: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let pins = rng.random_range(0..2) == 0;
        let commit = if rng.random_range(0..2) == 0 { Commit::BindFirst } else { Commit::CreateFirst };
        let evict_after = if rng.random_range(0..3) == 0 { "40s" } else { "" };
        let policy = Policy {
            cluster: "cloud".into(),
            cluster_uid: "cu".into(),
            run_namespace: RUNS.into(),
            commit,
            lost: Lost { evict_after: evict_after.to_owned(), ..Lost::default() },
            drain: None,
            abandoned: false,
            archive_logs: rng.random_range(0..2) == 0,
        };
        let mut world = Self {
            now: Timestamp(1_700_000_000_000),
            seed,
            home: Server::default(),
            compute: Server::default(),
            machine: Machine::new(policy.clone(), seed),
            judge: Judge::default(),
            flights: Vec::new(),
            home_watch: VecDeque::new(),
            run_watch: VecDeque::new(),
            partitioned: false,
            lost_since: None,
            calm: false,
            pins,
            forgets: false,
            policy,
            unbindable: BTreeSet::new(),
            placing: BTreeSet::new(),
            next_uid: 0,
            tells: number("ISOBAR_SEED").is_some(),
            rng,
        };
        world.take_over();
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// Told only when one seed is looked at: most of a world's time would go into it.
    fn note(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>8} {}", self.now.0 - 1_700_000_000_000, what());
        }
    }

    /// One fact for the machine, and what it does about it.
    fn give(&mut self, input: Input) {
        if let Input::Home(_) | Input::Run(_) | Input::Tick = input {
        } else {
            self.note(|| format!("<- {input:?}"));
        }
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        self.machine.consistency_check().unwrap();
        for command in out {
            match command {
                Command::Order(order) => {
                    self.note(|| format!("-> {} {:?}", order.home.name, order.effect));
                    let busy = self.flights.iter().any(|flight| flight.is_awaited && flight.order.uid == order.uid);
                    assert!(!busy, "two orders for one pod");
                    self.take_off(*order);
                }
                Command::Answer(uid, answer) => {
                    self.note(|| format!("-> answer {uid} {answer:?}"));
                    assert!(self.placing.remove(&*uid.0), "an answer that nobody waits for");
                }
                Command::Tell(news) => self.note(|| format!("-> tell {} {}", news.reason, news.note)),
                Command::Debt(..) => self.note(|| "-> debt".to_owned()),
            }
        }
    }

    /// A new leader that knows nothing, after the old one has died.
    fn take_over(&mut self) {
        self.note(|| "a new leader".to_owned());
        self.orphan_flights();
        self.placing.clear();
        self.next_uid += 1;
        self.machine = Machine::new(self.policy.clone(), self.next_uid);
        self.give(Input::Leading(true));
        self.list_homes();
        if let Some(since) = self.lost_since {
            self.give(Input::Contact(Contact::Lost(since)));
        } else if !self.partitioned {
            self.give(Input::Contact(Contact::Reachable));
            self.list_runs();
        }
    }

    fn list_homes(&mut self) {
        self.collect();
        self.home_watch.clear();
        let pods: Vec<HomePod> =
            self.home.pods.values().map(|pod| HomePod::read(pod, VIRTUAL_NODE).unwrap()).filter(|home| home.bound).collect();
        let uids = pods.iter().map(|home| home.uid.clone()).collect();
        pods.into_iter().for_each(|home| self.give(Input::Home(Box::new(home))));
        self.give(Input::HomesListed(uids));
    }

    fn list_runs(&mut self) {
        self.collect();
        self.run_watch.clear();
        let runs: Vec<RunPod> = self.compute.pods.values().map(|pod| RunPod::read(pod.clone()).unwrap()).collect();
        let uids = runs.iter().map(|run| run.uid.clone()).collect();
        runs.into_iter().for_each(|run| self.give(Input::Run(Box::new(run))));
        self.give(Input::RunsListed(uids));
    }

    /// Changes of both servers enter the watches.
    fn collect(&mut self) {
        self.home_watch.extend(self.home.changes.drain(..));
        self.run_watch.extend(self.compute.changes.drain(..));
    }

    fn deliver(&mut self, share: u32) {
        self.collect();
        while !self.home_watch.is_empty() && self.chance(share) {
            let input = match self.home_watch.pop_front() {
                Some(Change::Set(pod)) => {
                    let home = HomePod::read(&pod, VIRTUAL_NODE).unwrap();
                    if home.bound { Some(Input::Home(Box::new(home))) } else { None }
                }
                Some(Change::Gone(_, uid)) => Some(Input::HomeGone(PodUid::from(&*uid))),
                None => None,
            };
            input.into_iter().for_each(|input| self.give(input));
        }
        while !self.run_watch.is_empty() && !self.partitioned && self.chance(share) {
            let input = match self.run_watch.pop_front() {
                Some(Change::Set(pod)) => Input::Run(Box::new(RunPod::read(pod).unwrap())),
                Some(Change::Gone(name, uid)) => {
                    Input::RunGone { name: RunName { namespace: RUNS.into(), name: name.into() }, uid: uid.into() }
                }
                None => return,
            };
            self.give(input);
        }
    }

    /// The engine hands over what is unbound.
    fn schedule(&mut self) {
        let unbound: Vec<Value> = self.home.pods.values().filter(|pod| pod["spec"]["nodeName"].is_null()).cloned().collect();
        for pod in unbound {
            let (name, uid) = (pod["metadata"]["name"].as_str().unwrap(), pod["metadata"]["uid"].as_str().unwrap());
            if self.placing.contains(uid) || !(self.calm || self.chance(30)) {
                continue;
            }
            let notes = &pod["metadata"]["annotations"];
            let before: u32 = notes[names::ATTEMPT].as_str().map_or(0, |text| text.parse().unwrap());
            let resumes = !notes[names::CLUSTER].is_null();
            self.placing.insert(uid.to_owned());
            let key = PodKey::new("ns", name);
            let attempt = if resumes { before } else { before + 1 };
            let node = notes[names::NODE].as_str().unwrap_or("n0").into();
            self.give(Input::Place { key, uid: PodUid::from(uid), node, attempt, resumes, earlier_binding: None });
        }
    }

    /// People do things.
    fn act(&mut self) {
        match self.rng.random_range(0..100) {
            0..14 => self.user_creates(),
            14..19 => self.with_home(|world, name, uid| act(world.home.delete(name, uid, None, Some(30), world.now))),
            19..21 => self.with_home(|world, name, uid| act(world.home.delete(name, uid, None, Some(0), world.now))),
            21..24 => self.with_home(|world, name, uid| {
                let _ = world.home.update(name, uid, |pod| {
                    pod["metadata"]["generation"] = (pod["metadata"]["generation"].as_i64().unwrap() + 1).into();
                });
            }),
            24..27 => self.with_run(|world, name, uid| act(world.compute.delete(name, uid, None, None, world.now))),
            27..28 => self.with_run(|world, name, uid| act(world.compute.delete(name, uid, None, Some(0), world.now))),
            28..30 => self.with_run(|world, name, uid| {
                if world.compute.pods[name]["status"]["phase"] == "Running" {
                    world.end(name, uid, Some(137), "Failed", "Evicted");
                }
            }),
            30..34 => self.take_over(),
            34..36 => self.list_homes(),
            36..38 if !self.partitioned => self.list_runs(),
            38..41 => self.toggle_link(),
            41..42 => {
                // A pause in leading, with the same machine.
                self.give(Input::Leading(false));
                self.orphan_flights();
                self.placing.clear();
                self.give(Input::Leading(true));
            }
            _ => {}
        }
    }

    fn user_creates(&mut self) {
        self.next_uid += 1;
        let name = format!("p{}", self.rng.random_range(0..4));
        let policy = ["Never", "OnFailure", "Always"][self.rng.random_range(0..3)];
        let owners = if policy == "Always" && self.chance(50) { json!([{ "kind": "ReplicaSet", "controller": true }]) } else { json!([]) };
        let pod = json!({
            "metadata": { "namespace": "ns", "name": name, "annotations": {}, "ownerReferences": owners },
            "spec": { "restartPolicy": policy, "tolerations": executor::tolerations(Some(300)) },
            "status": { "phase": "Pending" },
        });
        let uid = format!("h{}", self.next_uid);
        let _ = self.home.create(pod, &uid);
    }

    fn with_home(&mut self, act: impl FnOnce(&mut Self, &str, &str)) {
        if let Some((name, uid)) = picked(&self.home, &mut self.rng) {
            self.note(|| format!("user acts on {name}"));
            act(self, &name, &uid);
        }
    }

    fn with_run(&mut self, act: impl FnOnce(&mut Self, &str, &str)) {
        if let Some((name, uid)) = picked(&self.compute, &mut self.rng) {
            self.note(|| format!("admin acts on {name}"));
            act(self, &name, &uid);
        }
    }

    fn toggle_link(&mut self) {
        self.partitioned = !self.partitioned;
        self.note(|| format!("partitioned {}", self.partitioned));
        if !self.partitioned {
            self.lost_since = None;
            self.give(Input::Contact(Contact::Reachable));
            self.list_runs();
        }
    }

    fn step(&mut self) {
        let most = match (self.calm, self.flights.is_empty()) {
            (true, false) => 300,
            (true, true) => 3_000,
            (false, _) => 2_500,
        };
        self.now = self.now + DurationMs(self.rng.random_range(1..most));
        if !self.calm {
            self.act();
        }
        if self.partitioned && self.lost_since.is_none() && self.chance(30) {
            self.lost_since = Some(self.now);
            self.give(Input::Contact(Contact::Lost(self.now)));
        }
        self.schedule();
        for _ in 0..if self.calm { self.compute.pods.len() } else { 1 } {
            self.live();
        }
        self.land();
        self.deliver(if self.calm { 100 } else { 70 });
        if self.machine.next_wake().is_some_and(|at| at <= self.now) {
            self.give(Input::Tick);
        }
    }

    /// Faults stop; everything comes to rest.
    fn calm_down(&mut self) {
        self.calm = true;
        if self.partitioned {
            self.toggle_link();
        }
        let until = self.now + CALM;
        while self.now < until {
            self.step();
            // Nothing is under way: on to what is due next.
            let idle = self.flights.is_empty() && self.home_watch.is_empty() && self.run_watch.is_empty() && self.placing.is_empty();
            let rests = |run: &Value| {
                run["status"]["phase"] == "Running"
                    && run["spec"]["restartPolicy"] == "Always"
                    && run["metadata"]["deletionTimestamp"].is_null()
            };
            let placed = self.home.pods.values().all(|pod| !pod["spec"]["nodeName"].is_null());
            let settled = placed && self.compute.pods.values().all(rests);
            if idle && self.chance(if settled { 50 } else { 3 }) {
                let soon = self.now + DurationMs(30_000);
                self.now = self.machine.next_wake().unwrap_or(until).clamp(self.now, if settled { until } else { soon });
            }
        }
        self.judge_calm();
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.calm_down();
        let all: Vec<(String, String)> =
            self.home.pods.iter().map(|(name, pod)| (name.clone(), pod["metadata"]["uid"].as_str().unwrap().to_owned())).collect();
        for (name, uid) in all {
            self.home.delete(&name, &uid, None, Some(30), self.now).unwrap();
        }
        self.calm_down();
        assert!(self.home.pods.is_empty() && self.compute.pods.is_empty(), "left: {:?} {:?}", self.home.pods, self.compute.pods);
        assert!(self.machine.counts().is_empty(), "{:?}", self.machine.counts());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ISOBAR_SEED={} of the federation's world failed; with it in the environment the world tells its story", self.seed);
        }
    }
}

/// It may have happened already.
fn act(_: Result<(), server::Refusal>) {}

fn picked(server: &Server, rng: &mut Pcg64Mcg) -> Option<(String, String)> {
    let at = rng.random_range(0..server.pods.len().max(1));
    let (name, pod) = server.pods.iter().nth(at)?;
    Some((name.clone(), pod["metadata"]["uid"].as_str()?.to_owned()))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn nothing_starts_twice_gets_lost_or_is_left_in_worlds_that_go_wrong() {
    let seeds = match number("ISOBAR_SEED") {
        Some(seed) => seed..seed + 1,
        None => number("ISOBAR_SEED_FIRST").unwrap_or(0)..number("ISOBAR_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        World::new(seed).run();
    }
}

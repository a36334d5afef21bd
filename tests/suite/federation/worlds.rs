//! Federations in which everything goes wrong at once: requests to every API server fail, hang or take effect late, lines are cut, leaders are killed, pods are
//! deleted here and there. A seed decides what happens when; only in which order several waiters of one channel wake up is tokio's choice, so that a failing
//! seed may have to be replayed some times: `ISOBAR_SEED=n ISOBAR_LOG=1 cargo test --test suite federation::worlds`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isobar::{
    federation::names,
    sim::{
        faults::{Fault, Faults, Target},
        link::LinkState,
    },
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    expect::{broken, unfinished},
    file::{ClusterDef, Pods},
    stage::{Stage, text},
};
use crate::simulated::{in_paused_time, on_all_cores};

/// Worlds of a normal test run, some twenty seconds unoptimised.
const SEEDS: u64 = 8;
/// Things that happen in one world before it calms down.
const HAPPENINGS: usize = 30;
/// How long a calm world may take until everything is as it should be: the hold-down of a line that flapped, a lease, retries, tombstones.
const CALM_MAX: Duration = Duration::from_secs(1800);
/// Late requests are as late as a time-out and the socket's buffer may make them.
const LATE_MAX_MS: u64 = 15_000;
const POD_NAMES: u64 = 12;

/// What is known of a pod that somebody created.
#[allow(clippy::struct_excessive_bools)] // independent facts, read one by one
struct Known {
    name: String,
    exit: i64,
    /// Somebody deleted it at home, or its run over there.
    deleted: bool,
    ends: bool,
    may_start_again: bool,
    /// The first node that gets it refuses it.
    rejects: bool,
}

struct World {
    seed: u64,
    rng: Pcg64Mcg,
    stage: Stage,
    clusters: Vec<String>,
    created: u64,
    /// By UID.
    known: BTreeMap<String, Known>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut defs = BTreeMap::new();
        for name in ["east", "north", "west"].iter().take(rng.random_range(1..4)) {
            let (pin, commit) =
                [("NodeName", "BindFirst"), ("NodeName", "CreateFirst"), ("Affinity", "CreateFirst"), ("Affinity", "BindFirst")]
                    [rng.random_range(0..4)];
            let logs = if rng.random_bool(0.3) { "Follow" } else { "AtEnd" };
            defs.insert(
                (*name).to_owned(),
                ClusterDef { spec: json!({"pin": pin, "commit": commit, "logs": logs}), ..ClusterDef::default() },
            );
        }
        let history_max = if rng.random_bool(0.3) { 64 } else { 8192 };
        let mut stage = Stage::new(seed, &defs, rng.random_bool(0.3).then_some("2"), history_max).await;
        (0..rng.random_range(1..3)).for_each(|_| stage.start_replica());
        let clusters: Vec<String> = defs.into_keys().collect();
        // Half of the worlds begin in trouble already.
        if rng.random_bool(0.5) {
            stage.until_ready(&clusters.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        for name in clusters.iter().map(String::as_str).chain(["home"]) {
            make_trouble(stage.cluster(name).faults(), &mut rng);
        }
        Self { seed, rng, stage, clusters, created: 0, known: BTreeMap::new() }
    }

    async fn happen(&mut self) {
        let cluster = self.clusters[self.rng.random_range(0..self.clusters.len())].clone();
        match self.rng.random_range(0..24) {
            0..=9 => self.create().await,
            10 | 11 => self.delete_home(false).await,
            12 => self.delete_home(true).await,
            13 => self.delete_run(&cluster).await,
            14 | 15 => self.stage.kill_leader(),
            16 => {
                let span = Duration::from_secs(self.rng.random_range(1..90));
                self.stage.leave(span);
            }
            17 | 18 => {
                let state = [LinkState::Refused, LinkState::Silent][self.rng.random_range(0..2)];
                self.stage.cluster(&cluster).link().set(state);
            }
            19..=21 => self.stage.cluster(&cluster).link().set(LinkState::Up),
            22 => self.stage.cluster(&cluster).server().store().compact(),
            _ => self.stage.cluster("home").server().store().compact(),
        }
        let wait_ms = if self.rng.random_bool(0.3) { self.rng.random_range(0..60_000) } else { self.rng.random_range(0..3_000) };
        self.pass(Duration::from_millis(wait_ms)).await;
    }

    async fn pass(&mut self, span: Duration) {
        let until = Instant::now() + span;
        self.stage.pass(until).await;
        self.look();
    }

    async fn create(&mut self) {
        self.created += 1;
        // Names come again, as those of a StatefulSet do.
        let name = format!("p{}", self.created % POD_NAMES);
        let restart = ["Never", "Never", "Never", "OnFailure", "Always"][self.rng.random_range(0..5)];
        let exit: i64 = [0, 0, 3, 42][self.rng.random_range(0..4)];
        let ends = restart != "Always" && self.rng.random_bool(0.8);
        let exit = if restart == "Never" { exit } else { 0 };
        let mut sim = BTreeMap::new();
        let rejects = self.rng.random_bool(0.15);
        if rejects {
            sim.insert("SIM_REJECT".to_owned(), "OutOfcpu".to_owned());
            sim.insert("SIM_REJECT_TIMES".to_owned(), "1".to_owned());
        }
        let pods = Pods {
            name: name.clone(),
            run: if ends { format!("{}s", self.rng.random_range(1..60)) } else { String::new() },
            exit: exit.to_string(),
            restart: restart.to_owned(),
            secret: if self.rng.random_bool(0.4) { "shared".to_owned() } else { String::new() },
            owner: if restart == "Always" { "ReplicaSet".to_owned() } else { String::new() },
            anywhere: self.rng.random_bool(0.2),
            sim,
            ..Pods::default()
        };
        let there = self.stage.federation.home().server().object("", "pods", "default", &name).is_some();
        if there {
            return;
        }
        self.stage.create(&pods).await;
        let uid = self.stage.uids.get(&name).and_then(|uids| uids.last()).cloned().expect("created");
        self.known.insert(uid, Known { name, exit, deleted: false, ends, may_start_again: restart == "Always", rejects });
    }

    async fn delete_home(&mut self, force: bool) {
        let name = format!("p{}", self.rng.random_range(0..POD_NAMES));
        let Some(uid) = self.stage.uids.get(&name).and_then(|uids| uids.last()).cloned() else { return };
        if let Some(known) = self.known.get_mut(&uid) {
            known.deleted = true;
        }
        let query = if force { "?gracePeriodSeconds=0" } else { "" };
        let _ = self.stage.ask("home", "DELETE", &format!("/api/v1/namespaces/default/pods/{name}{query}"), &Value::Null).await;
    }

    /// The admin over there deletes a run.
    async fn delete_run(&mut self, cluster: &str) {
        let pods = self.stage.cluster(cluster).server().objects("", "pods");
        let runs: Vec<Value> = pods.into_iter().filter(|pod| !text(&pod["metadata"]["labels"][names::RUN_HOME_UID]).is_empty()).collect();
        if runs.is_empty() {
            return;
        }
        let run = &runs[self.rng.random_range(0..runs.len())];
        if let Some(known) = self.known.get_mut(&text(&run["metadata"]["labels"][names::RUN_HOME_UID])) {
            known.deleted = true;
        }
        let path = format!("/api/v1/namespaces/{}/pods/{}", text(&run["metadata"]["namespace"]), text(&run["metadata"]["name"]));
        let _ = self.stage.ask(cluster, "DELETE", &path, &Value::Null).await;
    }

    /// What must hold at any time.
    fn look(&self) {
        let seed = self.seed;
        let may: BTreeSet<&String> = self.known.iter().filter(|(_, known)| known.may_start_again).map(|(uid, _)| uid).collect();
        let twice: Vec<_> = self.stage.federation.started_twice().into_iter().filter(|(uid, _)| !may.contains(uid)).collect();
        assert!(twice.is_empty(), "seed {seed}: started twice: {twice:?}");
        let home = self.stage.home_pods();
        for (uid, known) in self.known.iter().filter(|(_, known)| !known.deleted) {
            let pod = home.get(uid);
            assert!(pod.is_some(), "seed {seed}: {} is gone and nobody deleted it", known.name);
            assert!(
                pod.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_null()),
                "seed {seed}: {} is being deleted and nobody did it",
                known.name
            );
        }
        assert!(broken(&self.stage, true).is_empty(), "seed {seed}");
    }

    /// What must hold once nothing goes wrong any more.
    fn unsettled(&self) -> Vec<String> {
        let home = self.stage.home_pods();
        let mut missing = unfinished(&self.stage);
        for (uid, known) in &self.known {
            let Some(pod) = home.get(uid) else { continue };
            let (phase, reason) = (text(&pod["status"]["phase"]), text(&pod["status"]["reason"]));
            let exit = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
            let is_abroad = text(&pod["spec"]["nodeName"]).starts_with("isobar-");
            // Two nodes refuse it at most once each, so that a cluster of two always has one left, unless the admin takes a run away.
            let right = match &*phase {
                "Running" => !known.ends || known.deleted,
                // A node of home that refuses a pod is final, as in any cluster: a run over there gets another node.
                "Failed" if reason == "OutOfcpu" && !is_abroad => known.rejects || known.deleted,
                "Succeeded" | "Failed" if !reason.is_empty() => known.deleted,
                "Succeeded" | "Failed" => known.ends && exit == Some(known.exit) || known.deleted,
                _ => false,
            };
            if !right {
                let (name, expected, node) = (&known.name, known.exit, &pod["spec"]["nodeName"]);
                let said = [&pod["metadata"]["annotations"][names::ATTEMPT], &pod["status"]["message"]];
                missing.push(format!("{name} ({uid}): {phase} {reason} {exit:?} {said:?}, expected {expected} on {node}"));
            }
        }
        missing
    }

    async fn calm_down(&mut self) {
        for name in self.clusters.iter().map(String::as_str).chain(["home"]) {
            self.stage.cluster(name).faults().clear();
            self.stage.cluster(name).link().set(LinkState::Up);
        }
        let until = Instant::now() + CALM_MAX;
        loop {
            self.pass(Duration::from_secs(5)).await;
            let missing = self.unsettled();
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "seed {}: {}", self.seed, missing.join("\n"));
        }
    }
}

/// A few kinds of trouble for one API server.
fn make_trouble(faults: &Faults, rng: &mut Pcg64Mcg) {
    let slow = Fault::Slow { low: Duration::from_millis(1), high: Duration::from_secs(12) };
    let late = Fault::Late(Duration::from_millis(rng.random_range(1..LATE_MAX_MS)));
    let all: [(Target, Fault, f64); 24] = [
        (Target::ANY, Fault::ErrorBefore, 0.1),
        (Target::ANY, Fault::ErrorAfter, 0.1),
        (Target::ANY, Fault::LostAfter, 0.1),
        (Target::ANY, Fault::Refused, 0.1),
        (Target::ANY, Fault::HangAfter, 0.03),
        (Target::ANY, slow.clone(), 0.1),
        (Target::of("create", "pods"), Fault::LostAfter, 0.4),
        (Target::of("create", "pods"), Fault::HangAfter, 0.3),
        (Target::of("create", "pods"), late.clone(), 0.3),
        (Target::of("create", "pods"), Fault::ErrorBefore, 0.4),
        (Target::of("create", "pods/binding"), Fault::LostAfter, 0.4),
        (Target::of("create", "pods/binding"), late.clone(), 0.3),
        (Target::of("create", "pods/binding"), Fault::ErrorBefore, 0.3),
        (Target::of("create", "secrets"), Fault::ErrorAfter, 0.4),
        (Target::of("patch", "pods"), Fault::LostAfter, 0.4),
        (Target::of("patch", "pods"), late.clone(), 0.2),
        (Target::of("patch", "pods/status"), Fault::ErrorAfter, 0.3),
        (Target::of("delete", "pods"), late, 0.2),
        (Target::of("delete", "pods"), Fault::ErrorAfter, 0.3),
        (Target::of("get", "pods"), Fault::Hang, 0.2),
        (Target::of("get", "pods/log"), Fault::ErrorBefore, 0.3),
        (Target::verb("watch"), Fault::WatchDropped { after_frames: 3 }, 0.5),
        (Target::verb("watch"), Fault::WatchExpired, 0.3),
        (Target::verb("list"), Fault::ListExpired, 0.3),
    ];
    for _ in 0..rng.random_range(0..6) {
        let (target, fault, probability) = all[rng.random_range(0..all.len())].clone();
        faults.often(target, fault, probability);
    }
}

/// How often faults struck.
fn live_one(seed: u64) -> u64 {
    in_paused_time(async {
        let mut world = World::new(seed).await;
        for _ in 0..HAPPENINGS {
            world.happen().await;
        }
        let names = world.clusters.iter().map(String::as_str).chain(["home"]);
        let struck = names.map(|name| world.stage.cluster(name).faults().struck()).sum();
        world.calm_down().await;
        world.stage.end();
        struck
    })
}

/// `ISOBAR_SEED=n` lives one, `ISOBAR_FEDERATION_SEEDS` so many, or those `from..to`.
fn seeds() -> std::ops::Range<u64> {
    let said = |name: &str| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text:?} is no number of a seed"));
    if let Some(seed) = said("ISOBAR_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    let seeds = said("ISOBAR_FEDERATION_SEEDS").unwrap_or_else(|| SEEDS.to_string());
    match seeds.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&seeds),
    }
}

#[test]
fn nothing_runs_twice_and_nothing_is_lost_whatever_goes_wrong() {
    let seeds = seeds();
    let lived = on_all_cores(seeds.clone(), |seed| std::panic::catch_unwind(|| live_one(seed)).map_err(|_| seed));
    let struck: u64 = lived.iter().flatten().sum();
    let failed: Vec<u64> = lived.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} of {seeds:?} failed, what each says is above: {failed:?}", failed.len());
    assert!(seeds.end - seeds.start < 4 || struck > 50, "the faults hardly struck: {struck}");
}

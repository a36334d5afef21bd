//! From a pod at home to its run in a compute cluster 50 ms away, in real time, API servers in memory. In: nothing. Out: runs a second and cluster, and the
//! time from creation to start, with three clusters that answer and with one that hangs, in turn.
//!
//! ```text
//! cargo bench --bench federation
//! ```
//! `--test` does one small round, for the harness's own sake.
#![allow(clippy::disallowed_methods)] // it measures real time
#![allow(clippy::cast_precision_loss)] // small numbers

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use isobar::{
    config::defaults::OWN_SCHEDULER_NAME,
    model::time::Timestamp,
    sim::{
        audit::Start,
        federation::{SimFederation, create},
        kubelet::KubeletOptions,
        link::LinkState,
    },
};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

const CLUSTERS: [&str; 3] = ["one", "two", "three"];
/// The first two are measured; the third answers or hangs.
const MEASURED: usize = 2;
const ROUND_TRIP: Duration = Duration::from_millis(50);
const HISTORY_MAX: usize = 65_536;
/// Creations at home at once.
const PUTS: usize = 8;
/// Longest wait for anything.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// How much of everything.
struct Size {
    nodes: usize,
    /// Pods of a burst, by cluster.
    burst: usize,
    /// Pods one after another, and how many a second.
    paced: usize,
    per_second: u64,
    rounds: usize,
}

/// What one round gave.
#[derive(Clone, Copy)]
struct Round {
    runs_per_second: f64,
    p50_ms: u64,
    p99_ms: u64,
}

fn main() -> Result<()> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let size = if is_test {
        Size { nodes: 5, burst: 40, paced: 40, per_second: 40, rounds: 1 }
    } else {
        Size { nodes: 100, burst: 2_000, paced: 2_000, per_second: 100, rounds: 3 }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut rounds: BTreeMap<bool, Vec<Round>> = BTreeMap::new();
    for number in 0..size.rounds {
        for hangs in [false, true] {
            let round = runtime.block_on(measure(&size, hangs)).with_context(|| format!("round {number}, third cluster hangs: {hangs}"))?;
            println!(
                "third cluster {}: {:.0} runs/s in each of two clusters; created to started p50 {} ms, p99 {} ms",
                if hangs { "hangs  " } else { "answers" },
                round.runs_per_second,
                round.p50_ms,
                round.p99_ms
            );
            rounds.entry(hangs).or_default().push(round);
        }
    }
    let (answers, hangs) = (median(&rounds[&false]), median(&rounds[&true]));
    println!(
        "medians of {}: {:.0} and {:.0} runs/s; p99 {} and {} ms, {:+.1} %",
        size.rounds,
        answers.runs_per_second,
        hangs.runs_per_second,
        answers.p99_ms,
        hangs.p99_ms,
        100.0 * (hangs.p99_ms as f64 / answers.p99_ms as f64 - 1.0)
    );
    Ok(())
}

fn median(rounds: &[Round]) -> Round {
    let mut by_rate: Vec<f64> = rounds.iter().map(|round| round.runs_per_second).collect();
    by_rate.sort_by(f64::total_cmp);
    let middle = |of: fn(&Round) -> u64| {
        let mut all: Vec<u64> = rounds.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    Round { runs_per_second: by_rate[by_rate.len() / 2], p50_ms: middle(|round| round.p50_ms), p99_ms: middle(|round| round.p99_ms) }
}

async fn measure(size: &Size, hangs: bool) -> Result<Round> {
    let names: Vec<String> = CLUSTERS.iter().map(|name| (*name).to_owned()).collect();
    let mut federation = SimFederation::new(1, Timestamp(1_772_344_800_000), &names, HISTORY_MAX).await?;
    for name in CLUSTERS {
        for number in 0..size.nodes {
            create(&federation.clusters()[name], "/api/v1/nodes", &node(number)).await?;
        }
        federation.register(name, &json!({})).await?;
        federation.clusters()[name].link().set(LinkState::Slow { round_trip: ROUND_TRIP });
    }
    federation.start_world(&KubeletOptions { start_delay: Duration::ZERO, ..KubeletOptions::default() });
    let replica = federation.start_scheduler("bench", 1, true)?;
    until("the clusters are ready", || CLUSTERS.iter().all(|name| is_ready(&federation, name))).await?;
    if hangs {
        // It hangs with work under way.
        for number in 0..size.burst / 4 {
            put(&federation, format!("hung-{number}"), "three").await?;
        }
        sleep(Duration::from_millis(200)).await;
        federation.clusters()["three"].link().set(LinkState::Silent);
    }
    // First, so that nothing of the burst is still under way.
    let (p50_ms, p99_ms) = paced(&federation, size).await?;
    let before = started(&federation);
    let begun = Instant::now();
    let puts = (0..size.burst * MEASURED).map(|number| (format!("burst-{number}"), CLUSTERS[number % MEASURED]));
    futures::stream::iter(puts).map(|(name, cluster)| put(&federation, name, cluster)).buffer_unordered(PUTS).try_collect::<()>().await?;
    let created = begun.elapsed();
    until("all of the burst have started", || started(&federation) >= before + size.burst * MEASURED).await?;
    let runs_per_second = size.burst as f64 / begun.elapsed().as_secs_f64();
    println!("  {} pods created at home in {created:.1?}, all started after {:.1?}", size.burst * MEASURED, begun.elapsed());
    replica.shut_down().await;
    Ok(Round { runs_per_second, p50_ms, p99_ms })
}

/// Pods one after another: from creation to start, in milliseconds.
async fn paced(federation: &SimFederation, size: &Size) -> Result<(u64, u64)> {
    let before = started(federation);
    let mut ticks = interval(Duration::from_millis(1_000 / size.per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut created: BTreeMap<String, Timestamp> = BTreeMap::new();
    for number in 0..size.paced {
        ticks.tick().await;
        let name = format!("paced-{number}");
        let at = federation.clock().now();
        put(federation, name.clone(), CLUSTERS[number % MEASURED]).await?;
        let pod = federation.home().server().object("", "pods", "default", &name).context("a pod that was just created")?;
        created.insert(pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), at);
    }
    until("all that were paced have started", || started(federation) >= before + size.paced).await?;
    let starts = federation.starts().into_iter();
    let at = |start: &Start| Timestamp(u64::try_from(start.at.as_millisecond()).unwrap_or_default());
    let mut waits: Vec<u64> =
        starts.filter_map(|(_, start)| created.get(&start.home_uid).map(|created| at(&start).since(*created).0)).collect();
    ensure!(waits.len() == size.paced, "{} of {} starts are known", waits.len(), size.paced);
    waits.sort_unstable();
    Ok((waits[waits.len() / 2], waits[waits.len() * 99 / 100]))
}

/// Starts in the measured clusters.
fn started(federation: &SimFederation) -> usize {
    CLUSTERS[..MEASURED].iter().map(|name| federation.clusters()[*name].audit().starts().len()).sum()
}

fn is_ready(federation: &SimFederation, name: &str) -> bool {
    let object = federation.home().server().object("isobar.dev", "computeclusters", "", name).unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        ensure!(begun.elapsed() < WAIT_MAX, "not within {} s: {what}", WAIT_MAX.as_secs());
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn put(federation: &SimFederation, name: String, cluster: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": {"isobar.dev/placement": cluster}},
        "spec": {"schedulerName": OWN_SCHEDULER_NAME, "containers": [
            {"name": "main", "image": "registry.example/work:1", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}
    });
    Ok(create(federation.home(), "/api/v1/namespaces/default/pods", &pod).await?)
}

fn node(number: usize) -> Value {
    let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "250"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("n{number}"), "labels": {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}},
        "status": {"capacity": resources, "allocatable": resources, "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux"}}
    })
}

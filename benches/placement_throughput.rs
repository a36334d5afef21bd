//! Decisions per second of the engine, all nodes scored for every pod, one thread: cluster sizes x how many pod classes take turns.
//!
//! `cargo bench --bench placement_throughput`. Each measured step is a whole life in the engine: queued, filtered, scored, selected, assumed,
//! ordered, acknowledged. "hopeless" has 20,000 pods in the queue that fit nowhere.
//! "federation" has its nodes in three compute clusters. "distinct" gives every pod a class of its own, which no kept answer can help.

mod world;

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use isobar::{
    model::{pod::PodFacts, time::Timestamp},
    scheduler::{
        engine::{Engine, EngineSettings},
        input::{Command, Input},
    },
};
use world::Together;

const PODS_PER_STEP: usize = 1000;

/// Queues pods, decides about each, acknowledges each binding; returns how many were bound. What one pod costs the engine in a live cluster,
/// without the API server: seen, decided, assumed, ordered, acknowledged, reported.
fn drain(engine: &mut Engine, pods: impl Iterator<Item = PodFacts>) -> usize {
    let mut out: Vec<Command> = Vec::new();
    for pod in pods {
        engine.handle(Timestamp(0), Input::Pod(Box::new(pod)), &mut out);
    }
    let mut bound = 0;
    while engine.wants_schedule() {
        engine.handle(Timestamp(0), Input::Schedule { attempts_max: 64 }, &mut out);
        let orders: Vec<_> =
            out.drain(..).filter_map(|command| if let Command::Bind(order) = command { Some(order) } else { None }).collect();
        for order in orders {
            bound += 1;
            engine.handle(Timestamp(0), Input::Bound(order.pod.uid), &mut out);
        }
        out.clear();
    }
    bound
}

/// Pods that fit, while others wait that do not: both worlds in turn, so that whatever else the machine does meets both.
fn hopeless(c: &mut Criterion) {
    const ROUNDS: usize = 7;
    let is_test = std::env::args().any(|arg| arg == "--test");
    let (nodes, waiting, step, rounds) = if is_test { (300, 200, 100, 1) } else { (5000, 20_000, 10_000, ROUNDS) };
    let make = |waiting: usize| {
        let mut engine = world::engine(nodes, EngineSettings::default());
        assert_eq!(drain(&mut engine, (0..waiting).map(world::hopeless)), 0);
        assert_eq!(engine.gauges().unschedulable, waiting);
        engine
    };
    let pods = || (0..step).map(|number| world::pod(number, number % 10)).collect::<Vec<_>>();
    let before = resident_bytes();
    let without = make(0);
    let between = resident_bytes();
    let with = make(waiting);
    let mib = |from: usize, to: usize| to.saturating_sub(from) >> 20;
    println!("hopeless: {} MiB for an engine, {} with {waiting} pods that wait", mib(before, between), mib(between, resident_bytes()));
    drop((without, with));
    let once = |waiting| {
        let (mut engine, pods) = (make(waiting), pods());
        let before = cpu_nanos();
        assert_eq!(drain(&mut engine, pods.into_iter()), step);
        micros_each(before, step)
    };
    let (mut without, mut with): (Vec<_>, Vec<_>) = (0..rounds).map(|_| (once(0), once(waiting))).unzip();
    println!("hopeless: us of CPU a decision by round, without {without:.2?}, with {with:.2?}");
    let [without, with] = [&mut without, &mut with].map(|rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    println!("hopeless: medians {without:.2} and {with:.2}, {:+.1} %, {step} decisions", (with / without - 1.0) * 100.0);
    let mut group = c.benchmark_group(format!("hopeless/{nodes}_nodes"));
    group.sample_size(10).measurement_time(Duration::from_secs(4)).throughput(Throughput::Elements(step as u64));
    for waiting in [0, waiting] {
        group.bench_function(BenchmarkId::from_parameter(format!("{waiting}_wait")), |bencher| {
            let world = || (make(waiting), pods());
            bencher.iter_batched_ref(world, |(engine, pods)| assert_eq!(drain(engine, pods.drain(..)), step), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn placement(c: &mut Criterion) {
    for nodes in [100, 1000, 5000, 15000] {
        let mut group = c.benchmark_group(format!("placement/{nodes}_nodes"));
        group.throughput(Throughput::Elements(PODS_PER_STEP as u64)).sample_size(10).measurement_time(Duration::from_secs(4));
        for (name, classes) in [("one_class", 1), ("ten_classes", 10), ("distinct_classes", usize::MAX)] {
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                let mut engine = world::engine(nodes, EngineSettings::default());
                let mut next = 0;
                bencher.iter_batched_ref(
                    || {
                        let first = next;
                        next += PODS_PER_STEP;
                        (first..first + PODS_PER_STEP).map(|number| world::pod(number, number % classes)).collect::<Vec<_>>()
                    },
                    |pods| {
                        // A full cluster would measure refusals: start over before it is.
                        if engine.gauges().pods + PODS_PER_STEP > nodes * 100 {
                            engine = world::engine(nodes, EngineSettings::default());
                        }
                        assert_eq!(drain(&mut engine, pods.drain(..)), PODS_PER_STEP);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

/// One class of pods that want something of each other, among 10,000 others on 5,000 nodes.
#[allow(clippy::cast_precision_loss)] // a figure for people
fn together(c: &mut Criterion) {
    const NODES: usize = 5000;
    const PODS: usize = 10_000;
    let is_test = std::env::args().any(|arg| arg == "--test");
    let (nodes, pods) = if is_test { (300, 600) } else { (NODES, PODS) };
    for (name, kinds) in [
        (
            "spread",
            &[
                ("nothing", Together::Nothing),
                ("hard_over_3_zones", Together::HardSpread),
                ("soft_over_zones_and_hosts", Together::SoftSpread),
            ][..],
        ),
        ("affinity", &[("required_in_zone", Together::Affinity), ("anti_on_host", Together::AntiAffinity)]),
    ] {
        let mut group = c.benchmark_group(format!("{name}/{nodes}_nodes_{pods}_pods"));
        group.sample_size(10).measurement_time(Duration::from_secs(4));
        for (name, kind) in kinds.iter().copied() {
            // Anti-affinity has one node for each pod.
            let step = if is_test { 100 } else { PODS_PER_STEP };
            group.throughput(Throughput::Elements(step as u64));
            // The first pod makes the counts and, when its selectors read labels that nobody read, the classes of those who have them: once.
            let make = || {
                let mut engine = world::engine_with_pods(nodes, pods);
                let before = cpu_nanos();
                assert_eq!(drain(&mut engine, std::iter::once(world::member(step, kind))), 1);
                let first_nanos = cpu_nanos().saturating_sub(before);
                (engine, (0..step).map(|number| world::member(number, kind)).collect::<Vec<_>>(), first_nanos)
            };
            let (mut engine, members, first_nanos) = make();
            let before = cpu_nanos();
            assert_eq!(drain(&mut engine, members.into_iter()), step);
            let each = micros_each(before, step);
            println!("{name}: {:.1} ms of CPU for the first pod, then {each:.1} us of CPU a decision", first_nanos as f64 / 1e6);
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_batched_ref(
                    make,
                    |(engine, pods, _)| assert_eq!(drain(engine, pods.drain(..)), step),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

/// Important pods over full nodes: each finds its victims among all of them. Nobody is deleted meanwhile, so that no node opens.
fn preemption(c: &mut Criterion) {
    let is_test = std::env::args().any(|arg| arg == "--test");
    let (nodes, step) = if is_test { (150, 50) } else { (5000, PODS_PER_STEP) };
    let mut group = c.benchmark_group(format!("preemption/{nodes}_full_nodes"));
    group.sample_size(10).measurement_time(Duration::from_secs(4)).throughput(Throughput::Elements(step as u64));
    for (name, classes) in [("one_class", 1), ("hundred_classes", 100)] {
        let make = || {
            let pods = (0..step).map(|number| world::important(number, number % classes)).collect::<Vec<_>>();
            (world::full_engine(nodes), pods)
        };
        let (mut engine, pods) = make();
        let before = cpu_nanos();
        assert_eq!(evict(&mut engine, pods.into_iter()), step);
        println!("preempt_{name}: {:.1} us of CPU a decision", micros_each(before, step));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched_ref(make, |(engine, pods)| assert_eq!(evict(engine, pods.drain(..)), step), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// Queues pods and decides about each; how many evictions were ordered.
fn evict(engine: &mut Engine, pods: impl Iterator<Item = PodFacts>) -> usize {
    let mut out: Vec<Command> = Vec::new();
    pods.for_each(|pod| engine.handle(Timestamp(0), Input::Pod(Box::new(pod)), &mut out));
    while engine.wants_schedule() {
        engine.handle(Timestamp(0), Input::Schedule { attempts_max: 64 }, &mut out);
    }
    out.iter().filter(|command| matches!(command, Command::Evict(_))).count()
}

/// Three compute clusters and a home without nodes: what the engine holds is said beside what it decides.
fn federation(c: &mut Criterion) {
    const CLUSTERS: u16 = 3;
    // A single pass in test mode need not be large.
    let is_test = std::env::args().any(|arg| arg == "--test");
    let (nodes, running) = if is_test { (50, 600) } else { (5000, 50_000) };
    let make = || world::federation(CLUSTERS, nodes, running);
    let before = resident_bytes();
    let mut engine = make();
    let machines = world::machines(CLUSTERS, nodes, running);
    println!("federation: {} MiB for {:?}", (resident_bytes().saturating_sub(before)) >> 20, engine.gauges());
    let mut group = c.benchmark_group(format!("federation/{CLUSTERS}x{nodes}_nodes"));
    group.throughput(Throughput::Elements(PODS_PER_STEP as u64)).sample_size(10).measurement_time(Duration::from_secs(4));
    for (name, classes) in [("one_class", 1), ("ten_classes", 10)] {
        // Criterion calls the closure many times with the one engine: a pod must not come twice.
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let first = next;
                    next += PODS_PER_STEP;
                    (first..first + PODS_PER_STEP).map(|number| world::pod(number, number % classes)).collect::<Vec<_>>()
                },
                |pods| {
                    if engine.gauges().pods + PODS_PER_STEP > usize::from(CLUSTERS) * nodes * 100 {
                        engine = make();
                    }
                    assert_eq!(drain(&mut engine, pods.drain(..)), PODS_PER_STEP);
                },
                BatchSize::PerIteration,
            );
        });
        engine = make();
    }
    group.finish();
    drop(machines);
}

/// Processor time since then for each of so many decisions.
#[allow(clippy::cast_precision_loss)] // a figure for people
fn micros_each(before_nanos: u64, decisions: usize) -> f64 {
    cpu_nanos().saturating_sub(before_nanos) as f64 / 1e3 / decisions as f64
}

/// Time that this thread ran, which others on the machine do not lengthen; nothing where the system does not say.
#[allow(clippy::disallowed_methods)] // there is no runtime
fn cpu_nanos() -> u64 {
    // It is brought up to date by the tick, which may be a thousand decisions, and whenever a thread rests.
    std::thread::sleep(Duration::from_micros(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

/// What the process holds in memory; nothing where the system does not say.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok()).map_or(0, |pages| pages * 4096)
}

// What waits comes first, as memory that another world gave back would hide what it holds.
criterion_group!(benches, hopeless, placement, together, preemption, federation);
criterion_main!(benches);

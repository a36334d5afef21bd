//! Decisions per second of the engine, all nodes scored for every pod, one thread: cluster sizes x how many pod classes take turns.
//!
//! `cargo bench --bench placement_throughput`. Each measured step is a whole life in the engine: queued, filtered, scored, selected, assumed,
//! ordered, acknowledged. "distinct" gives every pod a class of its own, which no kept answer can help.

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

fn placement(c: &mut Criterion) {
    for nodes in [100, 1000, 5000, 15000] {
        let mut group = c.benchmark_group(format!("placement/{nodes}_nodes"));
        group.throughput(Throughput::Elements(PODS_PER_STEP as u64)).sample_size(10).measurement_time(Duration::from_secs(4));
        for (name, classes) in [("one_class", 1), ("ten_classes", 10), ("distinct_classes", usize::MAX)] {
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                let mut engine = world::engine(nodes, EngineSettings::default());
                let mut next = 0;
                bencher.iter_batched(
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
                        assert_eq!(drain(&mut engine, pods.into_iter()), PODS_PER_STEP);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, placement);
criterion_main!(benches);

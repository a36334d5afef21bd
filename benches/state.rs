//! What single facts cost the engine: a node's heartbeat, a node's change, a pod that comes and goes, a pod queued and taken out again.
//!
//! `cargo bench --bench state`. 5,000 nodes, no pod to schedule but where it says so.

#[allow(dead_code)] // each bench uses its part of the world
mod world;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use isobar::{
    model::{
        ids::{ClassIx, ClusterId, ProfileIx},
        time::Timestamp,
    },
    scheduler::{
        engine::EngineSettings,
        input::Input,
        queue::{Backoff, Queue, QueuedPod, Rejectors},
    },
};

const NODES: usize = 5000;
/// Pods that wait while one comes and goes.
const WAITING: usize = 10_000;

fn cache(c: &mut Criterion) {
    let mut engine = world::engine(NODES, EngineSettings::default());
    let mut out = Vec::new();
    let mut next = 0;
    c.bench_function("cache/node_heartbeat_5000_nodes", |bencher| {
        bencher.iter_batched(
            || {
                next = (next + 1) % NODES;
                Input::Node(Box::new(world::node(next)))
            },
            |input| engine.handle(Timestamp(0), input, &mut out),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("cache/node_cordoned_and_back", |bencher| {
        bencher.iter_batched(
            || {
                next = (next + 1) % NODES;
                let mut cordoned = world::node(next);
                cordoned.unschedulable = true;
                [cordoned, world::node(next)].map(|facts| Input::Node(Box::new(facts)))
            },
            |inputs| inputs.into_iter().for_each(|input| engine.handle(Timestamp(0), input, &mut out)),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("cache/bound_pod_seen_and_gone", |bencher| {
        bencher.iter_batched(
            || {
                next = (next + 1) % NODES;
                let mut pod = world::pod(next, 0);
                pod.node_name = Some(world::node(next).name);
                let gone = Input::PodGone(ClusterId::HOME, pod.uid.clone());
                [Input::Pod(Box::new(pod)), gone]
            },
            |inputs| inputs.into_iter().for_each(|input| engine.handle(Timestamp(0), input, &mut out)),
            BatchSize::SmallInput,
        );
    });
}

fn queued(number: usize) -> QueuedPod {
    let facts = world::pod(number, 0);
    QueuedPod {
        key: facts.key,
        uid: facts.uid,
        class: ClassIx(0),
        profile: ProfileIx(0),
        priority: 0,
        gates: Box::default(),
        condition: None,
        first_queued: None,
        queued: Timestamp(0),
        attempts: 0,
        unschedulable_count: 1,
        errors_in_a_row: 0,
        flushed: false,
        nominated: None,
        nominated_seen: Box::default(),
        run_attempt: 0,
        created: Timestamp(0),
        unclear_binding: None,
    }
}

fn queue(c: &mut Criterion) {
    let mut active = Queue::new(Backoff::default());
    (0..WAITING).for_each(|number| active.push_active(queued(number), (0, number as u64), Timestamp(0)));
    let mut next = WAITING;
    c.bench_function("queue/push_and_pop_among_10000", |bencher| {
        bencher.iter_batched(
            || {
                next += 1;
                (queued(next), next as u64)
            },
            |(pod, rank)| {
                active.push_active(pod, (0, rank), Timestamp(0));
                active.pop()
            },
            BatchSize::SmallInput,
        );
    });
    let mut unschedulable = Queue::new(Backoff::default());
    let blamed = |plugin: usize| {
        let mut rejectors = Rejectors::default();
        rejectors.insert(plugin);
        rejectors
    };
    (0..WAITING).for_each(|number| unschedulable.push_unschedulable(queued(number), blamed(number % 10)));
    c.bench_function("queue/groups_of_10000_unschedulable", |bencher| bencher.iter(|| unschedulable.groups().len()));
}

criterion_group!(benches, cache, queue);
criterion_main!(benches);

//! What reading a pod costs: our slim types beside the typed Pod. Out: microseconds a pod, and bytes that 10,000 pods hold (resident memory of this
//! process, with the program's allocator, as the kernel counts it).
//!
//! ```text
//! cargo bench --bench wire_decode
//! ```

#![allow(clippy::disallowed_methods)] // a bench measures real time

use std::{env, fs, hint::black_box, process::Command, time::Instant};

use isobar::{
    kubernetes::wire::{Happening, read_happening, read_object},
    model::{ids::ClusterId, pod::PodFacts},
};
use k8s_openapi::api::core::v1::Pod;

/// One container, two managedFields entries, five conditions.
const RUNNING_POD: &[u8] = include_bytes!("../tests/data/running-pod.json");
const PODS_HELD: usize = 10_000;
const ROUNDS: u32 = 20_000;
/// The best of so many, as others use the machine, too.
const REPEATS: usize = 5;
/// Page size of every platform we measure on.
const PAGE_BYTES: usize = 4096;

const ROWS: [&str; 3] = ["PodFacts, one object", "PodFacts, a line of a watch", "k8s_openapi Pod"];

/// Without an argument: a process of its own for each row, as memory that one row gave back would serve the next.
fn main() {
    if let Some(row) = env::args().skip(1).find(|argument| ROWS.contains(&argument.as_str())) {
        return run(&row);
    }
    println!("{} bytes of JSON a pod", RUNNING_POD.trim_ascii().len());
    println!("{:<28} {:>10} {:>14}", "decoded as", "us a pod", "bytes held");
    for row in ROWS {
        let status = env::current_exe().and_then(|program| Command::new(program).arg(row).status());
        assert!(status.is_ok_and(|status| status.success()), "{row}");
    }
}

fn run(row: &str) {
    let line = [br#"{"type":"MODIFIED","object":"#, RUNNING_POD.trim_ascii(), b"}"].concat();
    match row {
        "k8s_openapi Pod" => report(row, || serde_json::from_slice::<Pod>(RUNNING_POD).ok()),
        "PodFacts, one object" => report(row, || read_object::<PodFacts>(RUNNING_POD, ClusterId::HOME).ok()),
        _ => report(row, || match read_happening::<PodFacts>(&line, ClusterId::HOME) {
            Ok(Happening::Seen { facts, .. }) => Some(facts),
            _ => None,
        }),
    }
}

fn report<T>(name: &str, decode: impl Fn() -> Option<T>) {
    assert!(decode().is_some(), "{name}: the sample is read");
    let before = resident_bytes();
    let held: Vec<Option<T>> = (0..PODS_HELD).map(|_| decode()).collect();
    let bytes = resident_bytes().saturating_sub(before) / PODS_HELD;
    drop(held);
    let round = || {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            black_box(decode());
        }
        started.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
    };
    let best = (0..REPEATS).map(|_| round()).fold(f64::INFINITY, f64::min);
    println!("{name:<28} {best:>10.2} {bytes:>14}");
}

fn resident_bytes() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * PAGE_BYTES
}

//! Schedulers side by side on the real API server. In: which, how many nodes and pods, how often. Out: a line a run and the medians; `--json FILE`
//! keeps every run. Runs alternate (ours, theirs, ours, theirs), each on a fresh control plane; with `--hopeless 0,20000` each is measured without and
//! with pods in its queue that fit nowhere.
//!
//! ```text
//! cargo bench --bench real_cluster -- --nodes 1000 --pods 5000 --mode backlog --repeat 3
//! ```
#![allow(clippy::disallowed_methods)] // real programs are measured in real time

#[path = "../tests/cluster/harness/mod.rs"]
mod harness;

use std::{fs::File, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use harness::{
    assets::{Program, available},
    experiment::{self, Hold, Measured, Mode},
    scheduler,
    workload::{self, Workload},
};

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum SchedulerArgument {
    Isobar,
    KubeScheduler,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum WorkloadArgument {
    /// Both architectures, GPUs, zones, taints, host ports.
    Mixed,
    /// One node shape, one pod shape.
    Basic,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ModeArgument {
    /// Pods arrive while the scheduler runs.
    Stream,
    /// All pods wait before a frozen scheduler is let go.
    Backlog,
    /// All pods wait before the scheduler is started.
    BacklogWithStart,
}

/// Bound pods per second, CPU per bound pod and peak memory of schedulers on the real API server.
#[derive(Parser)]
struct Arguments {
    /// Which, in turn.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["isobar", "kube-scheduler"])]
    scheduler: Vec<SchedulerArgument>,
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    #[arg(long, default_value_t = 5000)]
    pods: usize,
    #[arg(long, value_enum, default_value = "backlog")]
    mode: ModeArgument,
    /// Of a stream; without it as fast as the API server takes pods.
    #[arg(long)]
    pods_per_second: Option<f64>,
    #[arg(long, value_enum, default_value = "mixed")]
    workload: WorkloadArgument,
    /// Pods that fit nowhere and are in the queue before; several numbers are measured in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [0])]
    hopeless: Vec<usize>,
    /// Runs of each scheduler.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Writes every run here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A small run that only shows that everything works.
    #[arg(long)]
    test: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn workload(&self) -> Workload {
        Workload {
            kind: if self.workload == WorkloadArgument::Mixed { workload::Kind::Mixed } else { workload::Kind::Basic },
            nodes: if self.test { 50 } else { self.nodes },
            pods: if self.test { 200 } else { self.pods },
            namespace: "workload".to_owned(),
            scheduler_name: "measured-scheduler".to_owned(),
        }
    }

    fn mode(&self) -> Mode {
        match self.mode {
            ModeArgument::Stream => Mode::Stream { pods_per_second: self.pods_per_second },
            ModeArgument::Backlog => Mode::Backlog { hold: Hold::Frozen },
            ModeArgument::BacklogWithStart => Mode::Backlog { hold: Hold::NotStarted },
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !available("real_cluster", &[Program::Etcd, Program::KubeApiserver]) {
        return Ok(());
    }
    let kinds: Vec<_> = arguments
        .scheduler
        .iter()
        .map(|which| match which {
            SchedulerArgument::Isobar => scheduler::Kind::Isobar,
            SchedulerArgument::KubeScheduler => scheduler::Kind::KubeScheduler,
        })
        .filter(|kind| kind.available("real_cluster"))
        .collect();
    let mut runs: Vec<Measured> = Vec::new();
    for _ in 0..arguments.repeat {
        for (kind, hopeless) in kinds.iter().flat_map(|kind| arguments.hopeless.iter().map(move |count| (*kind, *count))) {
            let measured = experiment::run(kind, &arguments.workload(), arguments.mode(), hopeless).await?;
            println!("{measured}");
            measured.audit.ensure_clean()?;
            runs.push(measured);
        }
    }
    if arguments.repeat > 1 {
        for (kind, hopeless) in kinds.iter().flat_map(|kind| arguments.hopeless.iter().map(move |count| (*kind, *count))) {
            print_medians(kind.name(), hopeless, &runs);
        }
    }
    if let Some(path) = &arguments.json {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        serde_json::to_writer_pretty(file, &runs)?;
    }
    Ok(())
}

fn print_medians(scheduler: &str, hopeless: usize, runs: &[Measured]) {
    let median = |value: fn(&Measured) -> f64| {
        let mut values: Vec<_> = runs.iter().filter(|run| run.scheduler == scheduler && run.hopeless == hopeless).map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        "median of {scheduler} with {hopeless} more that wait: {:.0} bound pods/s, {:.2} ms CPU per bound pod, peak memory {:.0} MiB",
        median(|run| run.bound_per_second),
        median(|run| run.cpu_ms_per_bound_pod),
        median(|run| run.peak_memory_mib),
    );
}

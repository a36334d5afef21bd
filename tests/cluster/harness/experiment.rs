//! One measured run. In: a scheduler, a workload, a mode. Out: bound pods per second, CPU per bound pod and peak memory of the scheduler's process
//! alone, and the audit of what it did.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde::Serialize;

use super::{
    audit::{Audit, audit, list_all},
    bindings::{BindingWatch, Seen},
    control_plane::{ControlPlane, Options},
    creation::{create_hopeless, create_nodes, create_pods},
    measure::Usage,
    process::Signal,
    scheduler::{self, Scheduler},
    workload::Workload,
};

/// A scheduler that binds nothing for so long has stopped: the longest backoff is 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// For the conditions of pods that fit nowhere. It is less than the five minutes after which they are all tried again.
const REFUSED_WITHIN: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Pods are created by another client while the scheduler runs, at this many a second or as fast as the server takes them.
    Stream { pods_per_second: Option<f64> },
    /// All pods exist before the scheduler is let go: the rate is the scheduler's (and the API server's) own, not the creator's.
    Backlog { hold: Hold },
}

/// How a backlog is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Synced with the nodes, then frozen by SIGSTOP. Its start is not measured.
    Frozen,
    /// Not started. Its start, lists included, is measured.
    NotStarted,
}

#[derive(Debug, Serialize)]
pub struct Measured {
    pub scheduler: &'static str,
    pub nodes: usize,
    pub pods: usize,
    /// Pods that fit nowhere and waited in the queue all the time.
    pub hopeless: usize,
    pub mode: String,
    pub bound: usize,
    /// Stream: from the first POST; backlog: from when the scheduler was let go. Until the last pod was seen bound.
    pub seconds: f64,
    pub bound_per_second: f64,
    /// Backlog: between the first and the last binding, so without the start.
    pub bound_per_second_once_going: f64,
    pub cpu_ms_per_bound_pod: f64,
    pub peak_memory_mib: f64,
    /// Stream: from the pod's POST until it was seen bound.
    pub latency_ms_p50: Option<f64>,
    pub latency_ms_p99: Option<f64>,
    pub audit: Audit,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} of {} pods on {} nodes, {} more wait, {}: {:.0} bound pods/s in {:.1} s ({:.0}/s once going), {:.2} ms CPU per bound pod, peak memory {:.0} MiB",
            self.scheduler,
            self.bound,
            self.pods,
            self.nodes,
            self.hopeless,
            self.mode,
            self.bound_per_second,
            self.seconds,
            self.bound_per_second_once_going,
            self.cpu_ms_per_bound_pod,
            self.peak_memory_mib,
        )?;
        if let (Some(p50), Some(p99)) = (self.latency_ms_p50, self.latency_ms_p99) {
            write!(f, ", created to bound p50 {p50:.1} ms, p99 {p99:.1} ms")?;
        }
        write!(f, "\n  {}", self.audit)
    }
}

/// Runs it on a control plane of its own, so that runs do not inherit each other's objects, with so many pods in the queue that fit nowhere, which the
/// scheduler has looked at before anything is measured. Fails where another pod stays unbound; the audit is the caller's to judge.
pub async fn run(kind: scheduler::Kind, workload: &Workload, mode: Mode, hopeless: usize) -> Result<Measured> {
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    if workload.namespace != "default" {
        plane.create_namespace(&workload.namespace).await?;
    }
    create_nodes(&client, workload).await.context("create nodes")?;
    let mut watch = BindingWatch::start(client.clone(), &workload.namespace).await?;
    let options = scheduler::Options::new(kind.name(), &workload.scheduler_name);

    let (mut scheduler, begin, sent) = match mode {
        Mode::Stream { pods_per_second } => {
            let scheduler = Scheduler::start(&plane, kind, &options).await?;
            refuse(&client, workload, hopeless).await?;
            let begin = (Instant::now(), scheduler.usage()?);
            let sent = create_pods(&client, workload, pods_per_second).await.context("create pods")?;
            (scheduler, begin, Some(sent))
        }
        Mode::Backlog { hold: Hold::Frozen } => {
            let scheduler = Scheduler::start(&plane, kind, &options).await?;
            refuse(&client, workload, hopeless).await?;
            scheduler.process.signal(Signal::Stop)?;
            create_pods(&client, workload, None).await.context("create pods")?;
            let begin = (Instant::now(), scheduler.usage()?);
            scheduler.process.signal(Signal::Continue)?;
            (scheduler, begin, None)
        }
        Mode::Backlog { hold: Hold::NotStarted } => {
            ensure!(hopeless == 0, "a scheduler that is not started cannot have refused pods");
            create_pods(&client, workload, None).await.context("create pods")?;
            let begin = (Instant::now(), Usage::default());
            (Scheduler::launch(&plane, kind, &options)?, begin, None)
        }
    };
    let drained = watch.wait_for(workload.pods, PATIENCE).await;
    drained.with_context(|| format!("{} log:\n{}", kind.name(), scheduler.process.log_tail()))?;
    let end = settled_usage(&scheduler).await?;
    scheduler.process.kill()?;

    let seen = watch.seen().await;
    ensure!(seen.moved.is_empty(), "pods changed their node: {:?}", seen.moved);
    let times = Times::of(&seen, begin.0, sent.as_deref());
    let audit = audit(&client).await?;
    let measured = report(kind, workload, mode, &times, end.cpu.saturating_sub(begin.1.cpu), end.peak_memory_bytes, audit);
    Ok(Measured { hopeless, ..measured })
}

/// Makes pods that fit nowhere, and waits until each says so.
async fn refuse(client: &Client, workload: &Workload, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    create_hopeless(client, workload, count).await.context("create pods that fit nowhere")?;
    let pods = Api::<Pod>::namespaced(client.clone(), &workload.namespace);
    let begin = Instant::now();
    loop {
        let known = list_all(&pods).await?;
        let refused = known.iter().filter(|pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
        });
        let refused = refused.count();
        if refused == count {
            println!("{count} pods that fit nowhere wait and say so");
            return Ok(());
        }
        ensure!(begin.elapsed() < REFUSED_WITHIN, "{refused} of {count} pods that fit nowhere say so after {REFUSED_WITHIN:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Events are still written when the last pod is bound; they belong to the cost. Waits until the process rests, which may never quite be.
async fn settled_usage(scheduler: &Scheduler) -> Result<Usage> {
    const SAMPLE: Duration = Duration::from_millis(500);
    const AT_REST: Duration = Duration::from_millis(20);
    const SAMPLES: usize = 20;
    let mut before = scheduler.usage()?;
    for _ in 0..SAMPLES {
        tokio::time::sleep(SAMPLE).await;
        let now = scheduler.usage()?;
        if now.cpu.saturating_sub(before.cpu) <= AT_REST {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}

struct Times {
    bound: usize,
    whole: Duration,
    going: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Times {
    fn of(seen: &Seen, begin: Instant, sent: Option<&[Instant]>) -> Self {
        let first = seen.bound.values().map(|bound| bound.at).min().unwrap_or(begin);
        let last = seen.bound.values().map(|bound| bound.at).max().unwrap_or(begin);
        // Names are numbered, so the map is in the order of creation.
        let pairs = sent.into_iter().flat_map(|sent| seen.bound.values().zip(sent));
        let mut latencies: Vec<_> = pairs.map(|(bound, sent)| bound.at.saturating_duration_since(*sent)).collect();
        latencies.sort_unstable();
        Self {
            bound: seen.bound.len(),
            whole: last.saturating_duration_since(begin),
            going: last.saturating_duration_since(first),
            latencies,
        }
    }

    fn percentile(&self, percent: usize) -> Option<f64> {
        self.latencies.get(self.latencies.len() * percent / 100).map(|latency| latency.as_secs_f64() * 1000.0)
    }
}

#[allow(clippy::cast_precision_loss)] // counts and bytes far below 2^52
fn report(
    kind: scheduler::Kind,
    workload: &Workload,
    mode: Mode,
    times: &Times,
    cpu: Duration,
    peak_memory_bytes: u64,
    audit: Audit,
) -> Measured {
    let bound = times.bound as f64;
    let mode = match mode {
        Mode::Stream { pods_per_second: None } => "stream".to_owned(),
        Mode::Stream { pods_per_second: Some(rate) } => format!("stream of {rate}/s"),
        Mode::Backlog { hold: Hold::Frozen } => "backlog".to_owned(),
        Mode::Backlog { hold: Hold::NotStarted } => "backlog with start".to_owned(),
    };
    Measured {
        scheduler: kind.name(),
        nodes: workload.nodes,
        pods: workload.pods,
        hopeless: 0,
        mode,
        bound: times.bound,
        seconds: times.whole.as_secs_f64(),
        bound_per_second: bound / times.whole.as_secs_f64(),
        bound_per_second_once_going: bound / times.going.as_secs_f64(),
        cpu_ms_per_bound_pod: cpu.as_secs_f64() * 1000.0 / bound,
        peak_memory_mib: peak_memory_bytes as f64 / f64::from(1 << 20),
        latency_ms_p50: times.percentile(50),
        latency_ms_p99: times.percentile(99),
        audit,
    }
}

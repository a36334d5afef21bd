//! Two replicas and what becomes of the work when the leader dies or freezes. The API server's audit log is the witness: it knows who wrote the
//! lease and who bound which pod.
//!
//! `ISOBAR_FAILOVER_PODS` and `ISOBAR_FAILOVER_KILLS` set the size; the full show is 20,000 and 20.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, Client};

use crate::{
    harness::{
        apiserver::ApiserverOptions,
        assets::{Program, available},
        audit::{audit, list_all},
        audit_log::AuditLog,
        bindings::BindingWatch,
        control_plane::{ControlPlane, Options},
        creation::{create_nodes, create_pods},
        process::Signal,
        scheduler::{self, LEASE_NAME, LeaseTimings, Scheduler},
        workload::{Kind, Workload},
    },
    placement::sized,
};

/// A machine that is busy with something else delays a takeover, too.
const SLACK: Duration = Duration::from_secs(1);
/// Bindings that show that a leader is at work.
const AT_WORK: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);
/// Twenty kills, the two at the beginning, and as many again for a busy machine.
const MOST_STARTS: usize = 44;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isobar_loses_its_leader_again_and_again() -> Result<()> {
    loses_its_leader_again_and_again("isobar_loses_its_leader_again_and_again", scheduler::Kind::Isobar).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "checks this test against kube-scheduler"]
async fn kube_scheduler_loses_its_leader_again_and_again() -> Result<()> {
    loses_its_leader_again_and_again("kube_scheduler_loses_its_leader_again_and_again", scheduler::Kind::KubeScheduler).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_isobar_leader_binds_nothing_when_it_wakes() -> Result<()> {
    let test = "a_frozen_isobar_leader_binds_nothing_when_it_wakes";
    let Some(attempts) = bindings_of_a_woken_leader(test, scheduler::Kind::Isobar).await? else { return Ok(()) };
    // Not even tried: whether an attempt succeeds depends on whether the new leader was quicker.
    ensure!(attempts.is_empty(), "the woken leader sent bindings: {attempts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "checks this test against kube-scheduler"]
async fn a_frozen_kube_scheduler_leader_wakes() -> Result<()> {
    let attempts = bindings_of_a_woken_leader("a_frozen_kube_scheduler_leader_wakes", scheduler::Kind::KubeScheduler).await?;
    println!("kube-scheduler, woken: {attempts:?}");
    Ok(())
}

/// Replicas under one lease, each its own user.
struct Replicas {
    plane: ControlPlane,
    kind: scheduler::Kind,
    leases: LeaseTimings,
    log: AuditLog,
    alive: Vec<Scheduler>,
    started: usize,
    scheduler_name: String,
}

impl Replicas {
    async fn start(kind: scheduler::Kind, leases: LeaseTimings, workload: &Workload) -> Result<Self> {
        let apiserver = ApiserverOptions { audit_log: true, ..ApiserverOptions::default() };
        let plane = ControlPlane::start(Options { apiserver, ..Options::default() }).await?;
        plane.create_namespace(&workload.namespace).await?;
        create_nodes(&plane.client(), workload).await?;
        let log = AuditLog::of(plane.folder());
        let scheduler_name = workload.scheduler_name.clone();
        let mut replicas = Self { plane, kind, leases, log, alive: Vec::new(), started: 0, scheduler_name };
        replicas.add()?;
        replicas.add()?;
        Ok(replicas)
    }

    fn add(&mut self) -> Result<()> {
        let identity = format!("{}-{}", self.kind.name(), self.started);
        self.started += 1;
        let options = scheduler::Options::new(&identity, &self.scheduler_name).with_leases(self.leases);
        self.alive.push(Scheduler::launch(&self.plane, self.kind, &options)?);
        Ok(())
    }

    /// What a kubelet does: a replica that ended by itself, as one does whose lease ran out on a busy machine, is replaced.
    fn tend(&mut self) -> Result<()> {
        for index in (0..self.alive.len()).rev() {
            if let Some(status) = self.alive[index].process.has_ended()? {
                let ended = self.alive.remove(index);
                println!("{} ended with {status}: {}", ended.identity, ended.process.log().lines().last().unwrap_or_default());
                // One that cannot run at all would be started for ever.
                ensure!(self.started < MOST_STARTS, "{MOST_STARTS} replicas have ended\n{}", ended.process.log_tail());
                self.add()?;
            }
        }
        Ok(())
    }

    async fn tending<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(Duration::from_millis(100)) => self.tend()?,
            }
        }
    }

    /// The replica that wrote the lease last and has bound `AT_WORK` pods; `not` is one that has been killed or frozen.
    async fn wait_for_leader(&mut self, not: Option<&str>) -> Result<String> {
        let begin = Instant::now();
        loop {
            self.tend()?;
            self.log.refresh()?;
            let leader = self.log.leader(LEASE_NAME).map(|request| request.user().to_owned());
            if let Some(leader) = leader.filter(|leader| Some(leader.as_str()) != not && self.lives(leader)) {
                let bound = self.log.bindings().filter(|request| request.user() == leader && request.succeeded()).count();
                if bound >= AT_WORK {
                    return Ok(leader);
                }
            }
            if begin.elapsed() > PATIENCE {
                let logs: Vec<_> = self.alive.iter().map(|replica| replica.process.log_tail()).collect();
                bail!("no leader at work (but {not:?}) within {PATIENCE:?}\n{}", logs.join("\n--\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn lives(&self, identity: &str) -> bool {
        self.alive.iter().any(|replica| replica.identity == identity)
    }

    fn take(&mut self, identity: &str) -> Result<Scheduler> {
        let index = self.alive.iter().position(|replica| replica.identity == identity);
        Ok(self.alive.remove(index.with_context(|| format!("{identity} is not one of the living"))?))
    }

    /// When another than `before` first wrote the lease with success after `since`.
    fn taken_over(&self, before: &str, since: Timestamp) -> Option<Timestamp> {
        let mut writes = self.log.requests.iter().filter(|request| request.is_lease_write(LEASE_NAME) && request.succeeded());
        writes.find(|write| write.user() != before && write.answered > since).map(|write| write.answered)
    }
}

fn stream_of(pods: usize) -> Workload {
    Workload {
        kind: Kind::Basic,
        // A node holds 40 of these pods.
        nodes: pods / 25 + 1,
        pods,
        namespace: "stream".to_owned(),
        scheduler_name: "replicated-scheduler".to_owned(),
    }
}

async fn loses_its_leader_again_and_again(test: &str, kind: scheduler::Kind) -> Result<()> {
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) || !kind.available(test) {
        return Ok(());
    }
    let leases = LeaseTimings::from_environment()?;
    let (pods, kills) = (sized("ISOBAR_FAILOVER_PODS", 1000)?, sized("ISOBAR_FAILOVER_KILLS", 4)?);
    let workload = stream_of(pods);
    let mut replicas = Replicas::start(kind, leases, &workload).await?;
    let client = replicas.plane.client();
    let mut watch = BindingWatch::start(client.clone(), &workload.namespace).await?;

    // As long as the kills last, so that there is always work to lose.
    #[allow(clippy::cast_precision_loss)]
    let pace = pods as f64 / (leases.duration + Duration::from_secs(2)).mul_f64(kills as f64).as_secs_f64();
    let creation = tokio::spawn({
        let (client, workload) = (client.clone(), workload.clone());
        async move { create_pods(&client, &workload, Some(pace)).await }
    });
    let mut takeovers = Vec::new();
    let mut killed: Option<(String, Timestamp)> = None;
    for _ in 0..kills {
        let leader = replicas.wait_for_leader(killed.as_ref().map(|(name, _)| name.as_str())).await?;
        takeovers.extend(killed.as_ref().and_then(|(name, at)| Some(replicas.taken_over(name, *at)?.duration_since(*at).unsigned_abs())));
        let mut process = replicas.take(&leader)?.process;
        process.kill()?;
        killed = Some((leader, Timestamp::now()));
        replicas.add()?;
    }
    let last = replicas.wait_for_leader(killed.as_ref().map(|(name, _)| name.as_str())).await;
    replicas.tending(async { creation.await? }).await?;
    replicas.tending(watch.wait_for(pods, PATIENCE)).await.with_context(|| format!("after the last kill: {last:?}"))?;
    takeovers.extend(killed.as_ref().and_then(|(name, at)| Some(replicas.taken_over(name, *at)?.duration_since(*at).unsigned_abs())));

    ensure!(watch.seen().await.moved.is_empty(), "pods changed their node: {:?}", watch.seen().await.moved);
    bound_exactly_once(&mut replicas.log, pods).await?;
    announced_at_most_once(&client, &workload.namespace).await?;
    let audit = audit(&client).await?;
    audit.ensure_clean()?;
    takeovers.sort_unstable();
    println!("{kind:?}: {pods} pods, {kills} kills, takeovers after {takeovers:?}; lease {leases:?}\n  {audit}");
    ensure!(takeovers.len() == kills, "{} takeovers seen of {kills}", takeovers.len());
    let slowest = takeovers.last().copied().unwrap_or_default();
    ensure!(slowest <= leases.takeover_bound() + SLACK, "a takeover took {slowest:?}, the rules allow {:?}", leases.takeover_bound());
    Ok(())
}

/// The server logs a request after it has been answered, so the last ones are waited for.
async fn bound_exactly_once(log: &mut AuditLog, pods: usize) -> Result<()> {
    let begin = Instant::now();
    loop {
        log.refresh()?;
        let times = log.times_bound();
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(twice.is_empty(), "bound more than once: {twice:?}");
        // A binding whose sender was killed before the answer may be done and yet be logged as failed. Such a pod is bound (that was checked) and
        // nobody bound it with success again (that is checked here), so once, too.
        let unanswered =
            log.bindings().filter(|request| !request.succeeded() && request.code() != 409 && !times.contains_key(&request.object()));
        let unanswered = unanswered.count();
        if times.len() + unanswered >= pods {
            let conflicts = log.bindings().filter(|request| request.code() == 409).count();
            println!("{} pods bound by an answered request, {unanswered} by a cut one; {conflicts} attempts met a conflict", times.len());
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(10), "the audit log knows {} bindings of {pods}", times.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A killed leader may take the event of its last bindings with it, but nobody announces a pod that another has bound.
async fn announced_at_most_once(client: &Client, namespace: &str) -> Result<()> {
    let events: Vec<Event> = list_all(&Api::namespaced(client.clone(), namespace)).await?;
    let mut times = BTreeMap::<String, usize>::new();
    for event in events.iter().filter(|event| event.reason.as_deref() == Some("Scheduled")) {
        *times.entry(event.regarding.as_ref().and_then(|pod| pod.name.clone()).unwrap_or_default()).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    println!("{} pods have a Scheduled event", times.len());
    ensure!(twice.is_empty(), "announced more than once: {twice:?}");
    Ok(())
}

/// What a leader sent after it had been frozen past its lease and woken: pod and answer of each binding. `None`: cannot run here.
async fn bindings_of_a_woken_leader(test: &str, kind: scheduler::Kind) -> Result<Option<Vec<(String, u16)>>> {
    if !available(test, &[Program::Etcd, Program::KubeApiserver]) || !kind.available(test) {
        return Ok(None);
    }
    let leases = LeaseTimings::from_environment()?;
    let pods = 2000;
    let workload = stream_of(pods);
    let mut replicas = Replicas::start(kind, leases, &workload).await?;
    let client = replicas.plane.client();
    let mut watch = BindingWatch::start(client.clone(), &workload.namespace).await?;
    // Fast enough that the leader is frozen in the middle of work, and lasting until well after it wakes.
    let creation = tokio::spawn({
        let (client, workload) = (client.clone(), workload.clone());
        async move { create_pods(&client, &workload, Some(150.0)).await }
    });
    let leader = replicas.wait_for_leader(None).await?;
    let frozen = replicas.take(&leader)?;
    frozen.process.signal(Signal::Stop)?;
    let next = replicas.wait_for_leader(Some(&leader)).await?;
    tokio::time::sleep(leases.retry_period).await;
    let woken = Timestamp::now();
    frozen.process.signal(Signal::Continue)?;
    replicas.tending(async { creation.await? }).await?;
    replicas.tending(watch.wait_for(pods, PATIENCE)).await?;
    // Long enough for anything that the woken one still had in mind.
    tokio::time::sleep(leases.duration).await;
    bound_exactly_once(&mut replicas.log, pods).await?;
    ensure!(watch.seen().await.moved.is_empty(), "pods changed their node: {:?}", watch.seen().await.moved);
    // Should the new leader have lost its lease on a busy machine, the woken one may lead by right from then on.
    let mut writes = replicas.log.requests.iter().filter(|request| request.is_lease_write(LEASE_NAME) && request.succeeded());
    let led_again = writes.find(|write| write.user() == leader && write.received > woken).map_or(Timestamp::MAX, |write| write.received);
    println!("{leader} frozen, {next} took over, {leader} woken at {woken}");
    let late =
        replicas.log.bindings().filter(|request| request.user() == leader && request.received > woken && request.received < led_again);
    Ok(Some(late.map(|request| (request.object(), request.code())).collect()))
}

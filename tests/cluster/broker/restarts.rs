//! Many events, each several times, over HTTP and by a broker, while everything is restarted: the room of tasks with its way in, and the broker. In: how many
//! (`ISOBAR_EVENTS`, else few). Out: one run for each key.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use isobar::{
    http::{
        CertificateSource, Decision, EventIntake, GateOptions, HealthChecks, HttpOptions, HttpState, Reviewer, Reviewing, Target, User,
        serve,
    },
    kubernetes::{
        api::Api,
        leadership::Leadership,
        tasks::{self, Receivers, ReportOptions, TasksContext, broker::Inbox},
    },
    metrics::{ApiMetrics, BrokerMetrics, Metrics},
    model::time::Timestamp,
    sim::{
        federation::{SimFederation, create},
        kubelet::KubeletOptions,
    },
    tasks::{crd, rules::Rules},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{CONSUMER, STREAM, client, make_stream, settings, until_nothing_is_outstanding};
use crate::harness::{
    assets::{Program, available},
    ports::free_port,
    stores::Store,
};

/// Each key comes so often: half of the times over HTTP, half by the broker.
const TIMES: usize = 4;
const EVENTS: usize = 2_000;
const TASKS: usize = 10;
const RESTARTS: usize = 4;
/// Senders over HTTP at once, and events in a body of theirs.
const SENDERS: usize = 8;
const BATCH: usize = 10;

struct Everybody;

impl Reviewer for Everybody {
    fn authenticate<'a>(&'a self, _: &'a str) -> Reviewing<'a, Option<User>> {
        Box::pin(async { Ok(None) })
    }

    fn authorize<'a>(&'a self, _: &'a User, _: &'a str, _: &'a Target) -> Reviewing<'a, Decision> {
        Box::pin(async { Ok(Decision::Allowed) })
    }
}

/// What dies together.
struct Process {
    parts: [JoinHandle<()>; 2],
    server: (JoinHandle<()>, CancellationToken),
    metrics: Metrics,
    /// While it is there the room hears of it.
    _leadership: watch::Sender<Leadership>,
}

impl Process {
    async fn start(federation: &SimFederation, store: &Store, port: u16, number: u64) -> Result<Self> {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let (arrivals, arriving) = mpsc::channel(tasks::ARRIVALS_MAX);
        let (leads, leadership) = watch::channel(Leadership::Unlimited);
        let state = HttpState {
            health: HealthChecks::default(),
            metrics: metrics.clone(),
            configuration: Arc::new(|| json!({})),
            events: Some(EventIntake { sources: vec!["radar-in".to_owned()], arrivals: arrivals.clone() }),
            api: None,
            reviewer: Arc::new(Everybody),
            draining: CancellationToken::new(),
            stop: stop.clone(),
        };
        let options = HttpOptions {
            address: ([127, 0, 0, 1], port).into(),
            certificate: CertificateSource::SelfSigned { names: Vec::new() },
            gate: GateOptions { anonymous: true, ..GateOptions::default() },
            ..HttpOptions::default()
        };
        let (_, served) = serve(options, state).await?;
        let inbox = Inbox {
            source: "radar-in".to_owned(),
            settings: settings(store),
            arrivals,
            leadership: leadership.clone(),
            metrics: BrokerMetrics::new(&metrics),
            seed: number,
        };
        let room = TasksContext {
            home: Api::new(federation.home().client(), "home.sim:443", ApiMetrics::new(&metrics)),
            leadership,
            clock: federation.clock(),
            rules: Rules { sources: vec!["radar-in".to_owned()], live_runs_max: u32::MAX, ..Rules::default() },
            arrivals: arriving,
            receivers: Receivers::new(&ReportOptions::default())?,
            logs: None,
            metrics: metrics.clone(),
            hostname: format!("replica-{number}"),
            seed: number,
        };
        let parts = [tokio::spawn(inbox.run()), tokio::spawn(tasks::run(room))];
        Ok(Self { parts, server: (tokio::spawn(served), stop), metrics, _leadership: leads })
    }

    /// As a crash would; connections end with it. Out: what it has counted.
    async fn kill(self) -> String {
        self.parts.iter().for_each(JoinHandle::abort);
        for part in self.parts {
            let _ = part.await;
        }
        self.server.1.cancel();
        let _ = self.server.0.await;
        let counted = self.metrics.render();
        let told =
            counted.lines().filter(|line| line.starts_with("isobar_task_arrivals_total") || line.starts_with("isobar_task_broker_m"));
        told.collect::<Vec<_>>().join(", ")
    }
}

fn event(key: usize) -> Value {
    json!({"specversion": "1.0", "type": "t", "source": "/radar", "id": key.to_string(), "subject": format!("t{}/{key}", key % TASKS)})
}

async fn stage() -> Result<SimFederation> {
    let mut federation = SimFederation::new(6, Timestamp(1_795_867_230_000), &[], 1 << 18).await?;
    federation.start_world(&KubeletOptions::default());
    let home = federation.home();
    let capacity = json!({"cpu": "1000", "memory": "1000Gi", "pods": "10000"});
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": ready}});
    create(home, "/api/v1/nodes", &node).await?;
    for definition in [crd::task(), crd::task_run()] {
        create(home, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
    }
    for number in 0..TASKS {
        let data = json!([{"data": {"source": "radar-in", "match": format!("^t{number}/")}}]);
        let template = json!({"spec": {"containers": [{"name": "main", "image": "i", "resources": {"requests": {"cpu": "10m"}}}]}});
        let keep = json!({"count": 10_000, "ttl": "24h"});
        let spec = json!({"triggers": data, "limits": {"run": {"limit": "5m"}}, "template": template, "concurrency": {"policy": "Allow"},
            "retention": {"succeeded": keep, "failed": keep}});
        let metadata = json!({"name": format!("t{number}"), "namespace": "default"});
        let task = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "metadata": metadata, "spec": spec});
        create(home, "/apis/isobar.dev/v1alpha1/namespaces/default/tasks", &task).await?;
    }
    Ok(federation)
}

/// Sends bodies over HTTP as a patient sender does: each until it is acknowledged.
async fn over_http(port: u16, events: Vec<usize>) -> Result<usize> {
    let mut config = kube::Config::new(format!("https://127.0.0.1:{port}").parse()?);
    config.accept_invalid_certs = true;
    let (mut tries, client) = (0, kube::Client::try_from(config)?);
    for batch in events.chunks(BATCH) {
        let body = Value::Array(batch.iter().map(|key| event(*key)).collect()).to_string().into_bytes();
        loop {
            tries += 1;
            let request = http::Request::post("/events/radar-in").header("content-type", "application/cloudevents-batch+json");
            match client.send(request.body(kube::client::Body::from(body.clone()))?).await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => ensure!(answer.status() == http::StatusCode::SERVICE_UNAVAILABLE, "{}", answer.status()),
                // It has been killed.
                Err(_) => {}
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(tries)
}

/// Publishes as a patient publisher does, without telling the server which messages are the same.
async fn by_broker(port: u16, events: Vec<usize>) -> Result<()> {
    let context = jetstream::new(async_nats::connect(format!("nats://127.0.0.1:{port}")).await?);
    for batch in events.chunks(100) {
        loop {
            let mut kept = Vec::new();
            for key in batch {
                kept.push(context.publish("radar.in.data", event(*key).to_string().into()).await);
            }
            let mut all = true;
            for one in kept {
                all &= match one {
                    Ok(kept) => kept.await.is_ok(),
                    Err(_) => false,
                };
            }
            // Those of the batch that were kept come once more: what duplicates are for.
            if all {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_over_http_and_by_a_broker_start_one_run_a_key_over_restarts() -> Result<()> {
    if !available("events_over_http_and_by_a_broker_start_one_run_a_key_over_restarts", &[Program::Nats]) {
        return Ok(());
    }
    let events = std::env::var("ISOBAR_EVENTS").map_or(Ok(EVENTS), |text| text.parse().context("ISOBAR_EVENTS"))?;
    let keys = events / TIMES;
    let folder = tempfile::tempdir()?;
    let mut store = Store::nats(folder.path(), None, "").await?;
    make_stream(&client(&store, None).await?).await?;
    let federation = stage().await?;
    let port = free_port()?;
    let mut process = Process::start(&federation, &store, port, 0).await?;

    let begin = Instant::now();
    let (mut http, mut broker) = (JoinSet::new(), JoinSet::new());
    // Times 0 and 2 of each key go over HTTP, 1 and 3 by the broker; the latter in the opposite order, so that either may be first.
    for sender in 0..SENDERS {
        let mine: Vec<usize> = (0..events / 2).filter(|at| at / BATCH % SENDERS == sender).map(|at| at % keys).collect();
        http.spawn(over_http(port, mine));
    }
    broker.spawn(by_broker(store.port, (0..events / 2).rev().map(|at| at % keys).collect()));
    let runs = || federation.home().server().objects("isobar.dev", "taskruns");
    let mut told = Vec::new();
    for restart in 1..=RESTARTS {
        // So many runs later, or when all are there.
        while runs().len() < keys * restart / (RESTARTS + 1) {
            sleep(Duration::from_millis(100)).await;
        }
        told.push(process.kill().await);
        if restart % 2 == 0 {
            store.process.kill()?;
            store = Store::nats(folder.path(), Some(store.port), "").await?;
        }
        process = Process::start(&federation, &store, port, restart as u64).await?;
    }
    let mut tries = 0;
    while let Some(sent) = http.join_next().await {
        tries += sent??;
    }
    broker.join_next().await.context("a publisher")???;
    let context = client(&store, None).await?;
    until_nothing_is_outstanding(&context).await?;
    let took = begin.elapsed();
    told.push(process.kill().await);

    let mut by_key: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs() {
        *by_key.entry(run["spec"]["trigger"]["key"].as_str().context("a key")?.to_owned()).or_default() += 1;
    }
    let kept = context.get_stream(STREAM).await?.get_info().await?.state.messages;
    println!(
        "{events} events of {keys} keys, {tries} bodies of up to {BATCH} over HTTP, {kept} messages ({CONSUMER}), {RESTARTS} restarts: {took:?}"
    );
    told.iter().for_each(|told| println!("  {told}"));
    ensure!(kept >= (events / 2) as u64, "the broker has half of them at least");
    let several: Vec<_> = by_key.iter().filter(|(_, runs)| **runs != 1).collect();
    ensure!(several.is_empty(), "more than one run: {several:?}");
    let missing: Vec<_> = (0..keys).filter(|key| !by_key.contains_key(&format!("radar-in//radar#{key}"))).collect();
    ensure!(missing.is_empty() && by_key.len() == keys, "no run: {missing:?} ({} of {keys})", by_key.len());
    Ok(())
}

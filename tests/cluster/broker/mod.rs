//! Messages of a real NATS server with JetStream. In: streams, messages good and bad, servers that end or do not know us. Out: what reaches the machine,
//! and what the server is told of each message.

mod restarts;

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::{self, consumer::PullConsumer, stream};
use isobar::{
    config::resolved::{NatsServerSettings, NatsStreamSettings},
    kubernetes::{
        leadership::Leadership,
        tasks::{Arriving, broker::Inbox},
    },
    metrics::{BrokerMetrics, Metrics},
    tasks::effect::Answer,
};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use crate::harness::{
    assets::{Program, available},
    certificates::Authority,
    stores::Store,
};

const STREAM: &str = "RADAR";
const CONSUMER: &str = "isobar-radar-in";
/// How long anything may take on two busy cores.
const PATIENCE: Duration = Duration::from_secs(90);
/// Settings of a server that wants a token.
const WITH_TOKEN: &str = "authorization { token: 'secret' }";

async fn client(store: &Store, token: Option<&str>) -> Result<jetstream::Context> {
    let options = token.map_or_else(async_nats::ConnectOptions::new, |token| async_nats::ConnectOptions::with_token(token.to_owned()));
    Ok(jetstream::new(options.connect(format!("nats://{}", store.address())).await?))
}

async fn make_stream(context: &jetstream::Context) -> Result<()> {
    let config =
        stream::Config { name: STREAM.to_owned(), subjects: vec!["radar.>".to_owned()], max_message_size: -1, ..Default::default() };
    context.create_stream(config).await?;
    Ok(())
}

fn settings(store: &Store) -> NatsStreamSettings {
    NatsStreamSettings {
        servers: NatsServerSettings { urls: vec![format!("nats://{}", store.address())], ..NatsServerSettings::default() },
        stream: STREAM.to_owned(),
        subjects: vec!["radar.in.>".to_owned()],
        consumer: CONSUMER.to_owned(),
    }
}

fn event(id: &str) -> String {
    json!({"specversion": "1.0", "type": "t", "source": "s", "id": id, "subject": id}).to_string()
}

/// An inbox with a machine that takes down what arrives, and says what it is told to.
struct Reading {
    seen: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
    leadership: watch::Sender<Leadership>,
    metrics: Metrics,
    parts: Vec<JoinHandle<()>>,
}

impl Reading {
    fn start(settings: NatsStreamSettings) -> Self {
        let (arrivals, mut arriving) = mpsc::channel::<Arriving>(8);
        let (leadership, leads) = watch::channel(Leadership::Unlimited);
        let (seen, answer, metrics) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new(Answer::Unwanted)), Metrics::new());
        let inbox =
            Inbox { source: "radar-in".to_owned(), settings, arrivals, leadership: leads, metrics: BrokerMetrics::new(&metrics), seed: 1 };
        let (saw, say) = (seen.clone(), answer.clone());
        let machine = tokio::spawn(async move {
            while let Some(Arriving { arrival, answer }) = arriving.recv().await {
                saw.lock().unwrap_or_else(PoisonError::into_inner).push(arrival.name);
                let _ = answer.send(say.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
        });
        Self { seen, answer, leadership, metrics, parts: vec![machine, tokio::spawn(inbox.run())] }
    }

    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counted(&self, result: &str) -> u64 {
        let start = format!("isobar_task_broker_messages_total{{source=\"radar-in\",result=\"{result}\"}} ");
        self.metrics.render().lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
    }

    fn is_up(&self) -> bool {
        self.metrics.render().contains("isobar_task_broker_up{source=\"radar-in\"} 1")
    }

    async fn until(&self, what: &str, mut wanted: impl FnMut(&Self) -> bool) -> Result<()> {
        let begin = Instant::now();
        while !wanted(self) {
            ensure!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; seen {:?}\n{}", self.seen(), self.metrics.render());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.parts.iter().for_each(JoinHandle::abort);
    }
}

/// What the server still waits for: delivered and not acknowledged, and not delivered yet.
async fn outstanding(context: &jetstream::Context) -> Result<(usize, u64)> {
    let consumer: PullConsumer = context.get_consumer_from_stream(CONSUMER, STREAM).await?;
    let info = consumer.get_info().await?;
    Ok((info.num_ack_pending, info.num_pending))
}

async fn until_nothing_is_outstanding(context: &jetstream::Context) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = outstanding(context).await?;
        if left == (0, 0) {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "still outstanding: {left:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_acknowledged_asked_for_again_or_told_of() -> Result<()> {
    if !available("each_message_is_acknowledged_asked_for_again_or_told_of", &[Program::Nats]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let store = Store::nats(folder.path(), None, "").await?;
    let context = client(&store, None).await?;
    make_stream(&context).await?;
    context.publish("radar.in.a", event("before").into()).await?.await?;
    context.publish("radar.other", event("other").into()).await?.await?;
    let reading = Reading::start(settings(&store));
    reading.until("what was there before", |reading| reading.seen() == ["before"]).await?;
    reading.until("its acknowledgement", |reading| reading.counted("acknowledged") == 1).await?;

    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "s"), ("ce-id", "binary")] {
        headers.insert(name, value);
    }
    context.publish_with_headers("radar.in.a", headers, "anything".into()).await?.await?;
    let s3 = json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]});
    context.publish("radar.in.a", s3.to_string().into()).await?.await?;
    reading.until("three forms", |reading| reading.counted("acknowledged") == 3).await?;
    let mut seen = reading.seen();
    seen.sort();
    ensure!(seen == ["b/k", "before", "binary"], "{seen:?}");

    let too_long = vec![b' '; 10 << 20];
    for bad in [b"{".to_vec(), Vec::new(), b"{\"specversion\": \"1.0\"}".to_vec(), b"\xff\xfe".to_vec(), too_long] {
        context.publish("radar.in.a", bad.into()).await?.await?;
    }
    reading.until("what cannot be read", |reading| reading.counted("unreadable") == 5).await?;
    ensure!(reading.seen().len() == 3, "none of it reaches the machine");

    reading.says(Answer::Refused("too old".to_owned()));
    context.publish("radar.in.a", event("refused").into()).await?.await?;
    reading.until("a refusal", |reading| reading.counted("refused") == 1).await?;

    reading.says(Answer::Again("not now".to_owned()));
    context.publish("radar.in.a", event("again").into()).await?.await?;
    reading.until("that it is asked for again", |reading| reading.counted("again") == 1).await?;
    sleep(Duration::from_millis(500)).await;
    ensure!(outstanding(&context).await? == (1, 0), "nothing else is left: {:?}", outstanding(&context).await?);
    reading.says(Answer::Duplicate);
    reading.until("its second delivery", |reading| reading.counted("acknowledged") == 4).await?;
    until_nothing_is_outstanding(&context).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_or_is_not_as_it_should_be_costs_nothing_but_time() -> Result<()> {
    if !available("a_server_that_ends_or_is_not_as_it_should_be_costs_nothing_but_time", &[Program::Nats]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut store = Store::nats(folder.path(), None, WITH_TOKEN).await?;
    let token = folder.path().join("token");
    fs::write(&token, "wrong\n")?;
    let mut wanted = settings(&store);
    wanted.servers.token_file = Some(token.to_str().context("a path that is text")?.to_owned());
    let reading = Reading::start(wanted);
    sleep(Duration::from_secs(2)).await;
    ensure!(!reading.is_up(), "with a wrong token");
    let log = store.process.log();
    ensure!(log.contains("authentication error"), "{log}");

    // The file is read anew; and then there is no stream.
    fs::write(&token, "secret\n")?;
    sleep(Duration::from_secs(4)).await;
    ensure!(!reading.is_up(), "without a stream");
    let context = client(&store, Some("secret")).await?;
    make_stream(&context).await?;
    context.publish("radar.in.a", event("one").into()).await?.await?;
    reading.until("the first message", |reading| reading.counted("acknowledged") == 1 && reading.is_up()).await?;

    store.process.kill()?;
    reading.until("that it is gone", |reading| !reading.is_up()).await?;
    sleep(Duration::from_secs(1)).await;
    let store = Store::nats(folder.path(), Some(store.port), WITH_TOKEN).await?;
    let context = client(&store, Some("secret")).await?;
    context.publish("radar.in.a", event("two").into()).await?.await?;
    reading.until("the second message", |reading| reading.counted("acknowledged") == 2 && reading.is_up()).await?;

    // Somebody deletes the consumer: it is made anew, and everything comes again, as duplicates.
    context.delete_consumer_from_stream(CONSUMER, STREAM).await?;
    reading.until("both once more", |reading| reading.counted("acknowledged") == 4).await?;

    // Who does not lead reads nothing.
    reading.leadership.send(Leadership::Standby)?;
    reading.until("that it stops", |reading| !reading.is_up()).await?;
    sleep(Duration::from_millis(500)).await;
    context.publish("radar.in.a", event("three").into()).await?.await?;
    sleep(Duration::from_secs(2)).await;
    ensure!(outstanding(&context).await? == (0, 1) && reading.seen().len() == 4, "{:?}", reading.seen());
    reading.leadership.send(Leadership::Unlimited)?;
    reading.until("the third message", |reading| reading.counted("acknowledged") == 5).await?;
    until_nothing_is_outstanding(&context).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_believed_by_its_authority_alone() -> Result<()> {
    if !available("tls_is_believed_by_its_authority_alone", &[Program::Nats]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (right, wrong) = (Authority::new()?, Authority::new()?);
    right.server("nats", &["localhost"])?.write(folder.path(), "nats")?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    fs::write(file("right.pem"), right.pem())?;
    fs::write(file("wrong.pem"), wrong.pem())?;
    let tls = format!("tls {{ cert_file: '{}', key_file: '{}' }}", file("nats.crt"), file("nats.key"));
    let store = Store::nats(folder.path(), None, &tls).await?;
    let mut wanted = settings(&store);
    wanted.servers.urls = vec![format!("tls://localhost:{}", store.port)];
    wanted.servers.ca_file = Some(file("wrong.pem"));
    let stranger = Reading::start(wanted.clone());
    let options = async_nats::ConnectOptions::new().add_root_certificates(file("right.pem").into());
    let context = jetstream::new(options.connect(&*wanted.servers.urls[0]).await?);
    make_stream(&context).await?;
    context.publish("radar.in.a", event("one").into()).await?.await?;
    wanted.servers.ca_file = Some(file("right.pem"));
    let reading = Reading::start(wanted);
    reading.until("a message over TLS", |reading| reading.counted("acknowledged") == 1).await?;
    ensure!(!stranger.is_up() && stranger.seen().is_empty(), "by another authority it is not believed");
    Ok(())
}

//! Messages of a stream, as arrivals. In: a durable consumer of the stream, while we lead. Out: arrivals for the machine; each message is acknowledged when the
//! runs that it starts exist.
//!
//! | what became of a message | what the server is told |
//! |---|---|
//! | its runs exist, existed before, or no task wants it | acknowledged |
//! | the machine cannot say now | to deliver it again, in a while |
//! | it cannot be read, or no run can be made of it | never to deliver it again; a line of the log and a metric tell of it |
//! | we die, or the connection does | nothing: it delivers it again |

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        self, AckKind, Message,
        consumer::{AckPolicy, pull},
    },
};
use futures::StreamExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::connect;
use crate::{
    config::resolved::NatsStreamSettings,
    kubernetes::{
        backoff::Backoff,
        leadership::Leadership,
        tasks::{Arriving, settle},
    },
    metrics::BrokerMetrics,
    tasks::trigger::arrival::{self, Arrival, BODY_BYTES_MAX, BadBody},
};

/// Messages of a source that are not settled yet; the server delivers no more than that. It bounds what they take in memory.
const UNSETTLED_MAX: usize = 256;
/// Messages asked for at once.
const BATCH: usize = 128;
/// How long the machine may take for all arrivals of one message.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// When the server delivers again what it has heard nothing of; more than we take.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long it waits before it delivers again what could not be settled.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a request for messages holds, and how often the server has to say that it lives.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether we lead.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The way in for the messages of one source.
pub struct Inbox {
    /// Name of the source.
    pub source: String,
    /// Where its messages are.
    pub settings: NatsStreamSettings,
    /// To the machine.
    pub arrivals: mpsc::Sender<Arriving>,
    /// Whether we lead: only the leader reads.
    pub leadership: watch::Receiver<Leadership>,
    /// Where messages are counted.
    pub metrics: BrokerMetrics,
    /// Equal seeds wait equally.
    pub seed: u64,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Settled,
    Again(String),
    Refused(String),
    Unreadable(String),
}

impl Inbox {
    /// Works for ever. A server that is not there, or ends, costs nothing but its messages.
    pub async fn run(self) {
        let mut backoff = Backoff::seeded(self.seed);
        let mut troubled = false;
        self.metrics.up(&self.source, false);
        loop {
            while !self.leads() {
                sleep(LOOK_EVERY).await;
            }
            let outcome = self.read(&mut backoff, &mut troubled).await;
            self.metrics.up(&self.source, false);
            let Err(why) = outcome else { continue };
            if !std::mem::replace(&mut troubled, true) {
                tracing::warn!(source = self.source, stream = self.settings.stream, "messages are not read, which is tried again: {why}");
            }
            sleep(backoff.next_wait()).await;
        }
    }

    fn leads(&self) -> bool {
        self.leadership.borrow().allows(Instant::now())
    }

    /// Reads until we do not lead any more, or for as long as that is possible.
    async fn read(&self, backoff: &mut Backoff, troubled: &mut bool) -> Result<(), String> {
        let mut messages = self.open().await?;
        *troubled = false;
        backoff.reset();
        self.metrics.up(&self.source, true);
        tracing::info!(source = self.source, stream = self.settings.stream, "messages are read");
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unsettled = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = unsettled.join_next() => {}
                message = messages.next(), if unsettled.len() < UNSETTLED_MAX => match message {
                    Some(Ok(message)) => {
                        unsettled.spawn(answer(self.source.clone(), self.arrivals.clone(), self.metrics.clone(), message));
                    }
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("the connection has ended".to_owned()),
                },
                _ = looks.tick() => if !self.leads() {
                    // The machine answers at once that we do not lead: the server hears it, and the next leader has not to wait.
                    let _ = timeout(LOOK_EVERY, async { while unsettled.join_next().await.is_some() {} }).await;
                    return Ok(());
                },
            }
        }
    }

    async fn open(&self) -> Result<pull::Stream, String> {
        let NatsStreamSettings { servers, stream, subjects, consumer } = &self.settings;
        let context = jetstream::new(connect(servers).await?);
        let stream = context.get_stream(stream).await.map_err(|error| format!("stream {stream}: {error}"))?;
        let wanted = pull::Config {
            durable_name: Some(consumer.clone()),
            description: Some(format!("Isobar, data source {}", self.source)),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: i64::try_from(UNSETTLED_MAX).unwrap_or(i64::MAX),
            filter_subjects: subjects.clone(),
            ..pull::Config::default()
        };
        let made = stream.create_consumer(wanted).await.map_err(|error| format!("consumer {consumer}: {error}"))?;
        let messages = made.stream().max_messages_per_batch(BATCH).expires(PULL_EXPIRES).heartbeat(HEARTBEAT).messages();
        messages.await.map_err(|error| format!("consumer {consumer}: {error}"))
    }
}

async fn answer(source: String, arrivals: mpsc::Sender<Arriving>, metrics: BrokerMetrics, message: Message) {
    let verdict = match read(&source, message.headers.as_ref(), &message.payload) {
        Ok(read) => judge(&arrivals, read).await,
        Err(bad) => Verdict::Unreadable(bad.to_string()),
    };
    let sequence = message.info().map_or(0, |info| info.stream_sequence);
    let (kind, result) = match &verdict {
        Verdict::Settled => (AckKind::Ack, "acknowledged"),
        Verdict::Again(why) => {
            tracing::debug!(source, sequence, "a message is asked for again: {why}");
            (AckKind::Nak(Some(AGAIN_AFTER)), "again")
        }
        Verdict::Refused(why) => {
            tracing::warn!(source, subject = %message.subject, sequence, "a message starts no run: {why}");
            (AckKind::Term, "refused")
        }
        Verdict::Unreadable(why) => {
            tracing::warn!(source, subject = %message.subject, sequence, "a message cannot be read, and is not asked for again: {why}");
            (AckKind::Term, "unreadable")
        }
    };
    metrics.message(&source, result);
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(source, sequence, "the server does not hear what became of a message, and will deliver it again: {error}");
    }
}

async fn judge(arrivals: &mpsc::Sender<Arriving>, read: Vec<Arrival>) -> Verdict {
    match timeout(SETTLE_TIMEOUT, settle(arrivals, read)).await {
        Ok(Ok(settled)) if settled.refused.is_empty() => Verdict::Settled,
        Ok(Ok(settled)) => Verdict::Refused(settled.refused.join("; ")),
        Ok(Err(why)) => Verdict::Again(why),
        Err(_) => Verdict::Again(format!("no answer within {} s", SETTLE_TIMEOUT.as_secs())),
    }
}

/// As over HTTP: attributes in headers, or all of it in the body.
fn read(source: &str, headers: Option<&HeaderMap>, body: &[u8]) -> Result<Vec<Arrival>, BadBody> {
    if body.len() > BODY_BYTES_MAX {
        return Err(BadBody::TooLong(body.len()));
    }
    let all = headers.into_iter().flat_map(HeaderMap::iter).filter_map(|(name, values)| {
        let name = name.to_string().to_ascii_lowercase();
        Some((name.strip_prefix("ce-")?.to_owned(), values.first()?.as_str().to_owned()))
    });
    let attributes: Vec<(String, String)> = all.collect();
    if attributes.iter().any(|(name, _)| name == "specversion") {
        let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        return Ok(vec![arrival::from_headers(source, attributes)?]);
    }
    arrival::read(source, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_a_body_over_http_is() {
        let event = |id: &str| format!("{{\"specversion\": \"1.0\", \"type\": \"t\", \"source\": \"s\", \"id\": \"{id}\"}}");
        let mut binary = HeaderMap::new();
        for (name, value) in [("ce-specversion", "1.0"), ("Ce-Type", "t"), ("CE-SOURCE", "s"), ("ce-id", "1"), ("other", "x")] {
            binary.insert(name, value);
        }
        let of_headers = read("in", Some(&binary), b"anything").unwrap();
        assert_eq!(of_headers, read("in", None, event("1").as_bytes()).unwrap(), "the same event");
        assert_eq!(read("in", None, format!("[{}, {}]", event("1"), event("2")).as_bytes()).unwrap().len(), 2);
        assert_eq!(read("in", Some(&binary), &vec![0; BODY_BYTES_MAX + 1]), Err(BadBody::TooLong(BODY_BYTES_MAX + 1)));
        assert!(matches!(read("in", None, b"{"), Err(BadBody::NotJson(_))));
        binary.insert("ce-id", "");
        assert!(matches!(read("in", Some(&binary), b""), Err(BadBody::Field(..))));
    }
}

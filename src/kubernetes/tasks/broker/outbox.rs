//! Ends of runs, told to a subject of a broker. In: an event and its ID. Out: that a stream keeps it, or why not.

use async_nats::jetstream::{self, Context, context::PublishErrorKind, message::PublishMessage};
use tokio::sync::Mutex;

use super::connect;
use crate::{
    config::resolved::NatsSubjectSettings,
    kubernetes::tasks::announce::{EVENT_TYPE, Failure},
};

/// Where events go.
pub(in crate::kubernetes::tasks) struct Outbox {
    settings: NatsSubjectSettings,
    /// Made when there is something to tell.
    connection: Mutex<Option<Context>>,
}

impl Outbox {
    pub(in crate::kubernetes::tasks) fn new(settings: NatsSubjectSettings) -> Self {
        Self { settings, connection: Mutex::default() }
    }

    /// How it is called in messages.
    pub(in crate::kubernetes::tasks) fn name(&self) -> String {
        format!("subject {} of {}", self.settings.subject, self.settings.servers.urls.join(","))
    }

    /// A stream that has the event already, as far back as it looks, keeps it once.
    pub(in crate::kubernetes::tasks) async fn tell(&self, id: &str, event: Vec<u8>) -> Result<(), Failure> {
        let context = self.context().await.map_err(Failure::OfReceiver)?;
        let message = PublishMessage::build().payload(event.into()).message_id(id).header("Content-Type", EVENT_TYPE);
        let sent = match context.send_publish(self.settings.subject.clone(), message).await {
            Ok(kept) => kept.await,
            Err(error) => Err(error),
        };
        let Err(error) = sent else { return Ok(()) };
        Err(match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Failure::OfThisEvent(error.to_string()),
            PublishErrorKind::StreamNotFound => Failure::OfReceiver("no stream there takes this subject: make one".to_owned()),
            _ => {
                self.forget().await;
                Failure::OfReceiver(error.to_string())
            }
        })
    }

    /// The connection may be what is wrong: the next call makes a new one.
    pub(in crate::kubernetes::tasks) async fn forget(&self) {
        self.connection.lock().await.take();
    }

    async fn context(&self) -> Result<Context, String> {
        let mut connection = self.connection.lock().await;
        if let Some(context) = connection.as_ref() {
            return Ok(context.clone());
        }
        let context = jetstream::new(connect(&self.settings.servers).await?);
        Ok(connection.insert(context).clone())
    }
}

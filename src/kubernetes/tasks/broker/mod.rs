//! NATS JetStream: messages that arrive ([`Inbox`]), and ends of runs that are told. In: addresses, files that say who we are. Out: a connection, or why not.
//!
//! A connection that is lost is not mended by the client: its user notices, says so once, and makes a new one when its own pauses allow, with files read anew.

mod inbox;
mod outbox;

use std::{path::Path, time::Duration};

use async_nats::{Client, ConnectErrorKind, ConnectOptions};

pub use self::inbox::Inbox;
pub(super) use self::outbox::Outbox;
use crate::config::resolved::NatsServerSettings;

/// How long a connection may take, and a request over it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a quiet connection is asked whether it lives; the second time without an answer it does not.
const PING_EVERY: Duration = Duration::from_secs(10);

/// How we are called in lists of connections.
const CLIENT_NAME: &str = "isobar";

async fn connect(servers: &NatsServerSettings) -> Result<Client, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = ConnectOptions::new()
        .name(CLIENT_NAME)
        .connection_timeout(ANSWER_TIMEOUT)
        .request_timeout(Some(ANSWER_TIMEOUT))
        .ping_interval(PING_EVERY)
        // Each server is tried once.
        .max_reconnects(servers.urls.len())
        .reconnect_delay_callback(|_| Duration::ZERO);
    if let Some(file) = &servers.token_file {
        options = options.token(secret(file).await?);
    }
    if let Some((user, file)) = &servers.user {
        options = options.user_and_password(user.clone(), secret(file).await?);
    }
    if let Some(file) = &servers.ca_file {
        options = options.add_root_certificates(file.into()).require_tls(true);
    }
    if let Some((certificate, key)) = &servers.certificate {
        options = options.add_client_certificate(certificate.into(), key.into());
    }
    let client = options.connect(&servers.urls[..]).await.map_err(|error| match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            format!("{error}: the server does not know us; see tokenFile, user and passwordFile")
        }
        _ => error.to_string(),
    })?;
    Ok(client)
}

async fn secret(file: &str) -> Result<String, String> {
    let text = tokio::fs::read_to_string(Path::new(file)).await.map_err(|error| format!("{file}: {error}"))?;
    Ok(text.trim().to_owned())
}

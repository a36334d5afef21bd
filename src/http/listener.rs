//! Connections. In: sockets, a router, the certificate. Out: requests answered, each phase of a connection bounded in time, all together in number.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    routes::Peer,
    tls::{Tls, client_of},
};
use crate::metrics::HttpMetrics;

/// A TLS handshake that takes longer is not one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may wait for the (next) request's head. Prometheus scrapes every 15 to 60 s: idle ones come again.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The head of a request: room for a long token, and for little else.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 32;

/// How often a quiet HTTP/2 connection is asked whether it lives, and for how long the answer is awaited.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long open connections may finish what they do at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Out of file descriptors or the like: wait for some to be given back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One address that is served.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) router: Router,
    /// Without it the listener is plain.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) connections_max: usize,
    pub(super) metrics: HttpMetrics,
    pub(super) stop: CancellationToken,
}

impl Listener {
    /// Serves until stopped, then until open connections are done.
    pub(super) async fn run(self) {
        let places = Arc::new(Semaphore::new(self.connections_max));
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                self.metrics.over_limit.increment(1);
                continue;
            };
            let (router, tls, metrics, stop) = (self.router.clone(), self.tls.clone(), self.metrics.clone(), self.stop.clone());
            tasks.spawn(async move {
                metrics.connections.increment(1.0);
                connection(stream, router, tls, &metrics, stop).await;
                metrics.connections.decrement(1.0);
                drop(place);
            });
        }
        drop(self.socket);
        tasks.close();
        if timeout(DRAIN_TIMEOUT, tasks.wait()).await.is_err() {
            tracing::info!(connections = tasks.len(), "closed connections that were still busy");
        }
    }
}

async fn connection(stream: TcpStream, router: Router, tls: Option<Arc<Tls>>, metrics: &HttpMetrics, stop: CancellationToken) {
    // Answers are small and complete: waiting to fill a packet only adds delay. A failure means that the peer is gone already.
    let _gone = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve_http1(stream, router, Peer(None), stop).await };
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls.current()).accept(stream)).await else {
        metrics.bad_handshakes.increment(1);
        return;
    };
    let session = stream.get_ref().1;
    let (peer, http2) = (Peer(client_of(session)), session.alpn_protocol() == Some(b"h2"));
    if http2 { serve_http2(stream, router, peer, stop).await } else { serve_http1(stream, router, peer, stop).await }
}

async fn serve_http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, peer: Peer, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    until_stopped(connection, http1::Connection::graceful_shutdown, stop).await;
}

async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, peer: Peer, stop: CancellationToken) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_TIMEOUT).max_concurrent_streams(STREAMS_MAX);
    builder.max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    until_stopped(connection, http2::Connection::graceful_shutdown, stop).await;
}

/// Runs a connection; told to stop, it ends after the requests under way. Errors are the peer's: a broken or slow connection is closed, no more.
async fn until_stopped<C: Future<Output = hyper::Result<()>>>(connection: C, shut_down: fn(Pin<&mut C>), stop: CancellationToken) {
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            shut_down(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        time::Instant,
    };

    use super::*;

    fn served() -> (DuplexStream, tokio::task::JoinHandle<()>, CancellationToken) {
        let (client, server) = tokio::io::duplex(4 * HEAD_BYTES_MAX);
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "hello"));
        (client, tokio::spawn(serve_http1(server, router, Peer(None), stop.clone())), stop)
    }

    /// Seconds until the server hangs up on a client that sends this and then nothing more.
    async fn seconds_until_closed(sent: &[u8]) -> u64 {
        let (mut client, task, _stop) = served();
        let began = Instant::now();
        client.write_all(sent).await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        task.await.unwrap();
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_no_head_or_half_of_one_or_no_further_one_is_closed() {
        for sent in ["", "GET / HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            assert_eq!(seconds_until_closed(sent.as_bytes()).await, HEAD_TIMEOUT.as_secs(), "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_beyond_the_bound_is_refused_at_once() {
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
        let (mut client, task, _stop) = served();
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ended = client.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_stop_an_idle_connection_ends_at_once() {
        let (client, task, stop) = served();
        stop.cancel();
        let began = Instant::now();
        task.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(client);
    }
}

//! Sessions: exec, attach, port-forward. In: a request to change protocol. Out: the compute cluster's answer to the same request, then bytes both ways.
//!
//! SPDY and WebSocket pass alike, as nothing is read. An end of input travels inside those protocols; an end of the connection itself is passed on, and
//! the other direction may then finish what it says.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answer::{Body, Refused},
    path::Stream,
    place::Run,
};
use crate::metrics::KubeletMetrics;

/// How long the cluster may take to begin a session: its kubelet asks the container runtime.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What is read at once in one direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Once one side has hung up, the other may be silent for this long before the session ends.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long open sessions live on once we are told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// WebSocket clients may bring a token as a protocol; it is for the home cluster alone.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// All sessions.
pub(super) struct Tunnels {
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    metrics: KubeletMetrics,
    stop: CancellationToken,
}

impl Tunnels {
    pub(super) fn new(tunnels_max: usize, metrics: KubeletMetrics, stop: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(tunnels_max)), tasks: TaskTracker::new(), metrics, stop }
    }

    /// Begins a session, or passes on why there is none.
    pub(super) async fn open(
        &self,
        mut request: Request<Incoming>,
        stream: Stream,
        run: &Run,
        container: &str,
    ) -> Result<Response<Body>, Refused> {
        if !request.headers().contains_key(header::UPGRADE) {
            return Err(Refused::new(StatusCode::BAD_REQUEST, "a session needs a connection that changes its protocol (Upgrade)"));
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(Refused::unavailable("too many sessions are open on the virtual nodes; try again later"));
        };
        let asked = ask(&request, stream, run, container)?;
        let mut answer = run.cluster.api.forward(asked, Some(HEAD_TIMEOUT)).await.map_err(|error| run.unreachable(&error.to_string()))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()));
        }
        let mut switched = Response::new(super::answer::empty());
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        copy_headers(answer.headers(), switched.headers_mut());
        let (client, remote) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
        self.spawn(place, async move {
            // The client's side is ours once the answer that follows has been written.
            if let (Ok(client), Ok(remote)) = tokio::join!(client, remote) {
                join(TokioIo::new(client), TokioIo::new(remote)).await;
            }
        });
        Ok(switched)
    }

    fn spawn(&self, place: OwnedSemaphorePermit, session: impl Future<Output = ()> + Send + 'static) {
        let (open, stop) = (Open::new(self.metrics.clone()), self.stop.clone());
        self.tasks.spawn(async move {
            let _held = (place, open);
            let stopped = async {
                stop.cancelled().await;
                sleep(DRAIN_TIMEOUT).await;
            };
            tokio::select! {
                () = session => {}
                () = stopped => {}
            }
        });
    }

    /// Waits for all sessions; to be called once told to stop.
    pub(super) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An open session in the gauge.
struct Open(KubeletMetrics);

impl Open {
    fn new(metrics: KubeletMetrics) -> Self {
        metrics.tunnels.increment(1.0);
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.tunnels.decrement(1.0);
    }
}

/// The same request for the API server over there, with nothing of the caller's credentials.
fn ask(request: &Request<Incoming>, stream: Stream, run: &Run, container: &str) -> Result<Request<kube::client::Body>, Refused> {
    let query = stream.query(request.uri().query().unwrap_or_default(), container);
    let target = format!("{}/{}?{query}", run.path, stream.subresource());
    let uri: Uri =
        target.parse().map_err(|error| Refused::new(StatusCode::BAD_REQUEST, format!("the request cannot be passed on: {error}")))?;
    let mut asked = Request::new(kube::client::Body::empty());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = uri;
    copy_headers(request.headers(), asked.headers_mut());
    Ok(asked)
}

/// What belongs to the change of protocol.
fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if *name == header::SEC_WEBSOCKET_PROTOCOL {
            to.extend(without_token(value).map(|value| (name.clone(), value)));
        } else if is_of_the_upgrade(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

fn is_of_the_upgrade(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::UPGRADE
        || name.as_str() == "x-stream-protocol-version"
        || name.as_str().starts_with("sec-websocket-")
}

/// The protocols that a WebSocket client offers, less its token. Nothing, if nothing is left.
fn without_token(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let kept: Vec<&str> =
        text.split(',').map(str::trim).filter(|protocol| !protocol.starts_with(TOKEN_PROTOCOL) && !protocol.is_empty()).collect();
    if kept.is_empty() { None } else { HeaderValue::from_str(&kept.join(", ")).ok() }
}

/// Copies bytes both ways until both sides have hung up, one of them broke, or nothing comes any more from the one that is left.
pub(super) async fn join(client: impl AsyncRead + AsyncWrite, remote: impl AsyncRead + AsyncWrite) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_remote, mut to_remote) = split(remote);
    let (progress, seen) = watch::channel(Instant::now());
    let mut up = pin!(pump(&mut from_client, &mut to_remote, &progress));
    let mut down = pin!(pump(&mut from_remote, &mut to_client, &progress));
    let (ended, up_ended) = tokio::select! {
        ended = &mut up => (ended, true),
        ended = &mut down => (ended, false),
    };
    if ended.is_err() {
        // A side is gone: the drop tells whoever is left.
        return;
    }
    let rest = async { if up_ended { down.await } else { up.await } };
    let silence = async {
        loop {
            let silent_until = *seen.borrow() + HALF_OPEN_TIMEOUT;
            if silent_until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(silent_until).await;
        }
    };
    tokio::select! {
        _ended = rest => {}
        () = silence => {}
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    progress: &watch::Sender<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        progress.send_replace(Instant::now());
        if read == 0 {
            // The other side may have gone first; then there is nobody to tell.
            let _told = timeout(DRAIN_TIMEOUT, to.shutdown()).await;
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

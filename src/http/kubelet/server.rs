//! Connections and requests. In: a socket. Out: each request led to what answers it, with who asks known and allowed first.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ServerConfig, crypto::ring};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    KubeletLimits,
    answer::{self, Body, Refused, text},
    archived::ArchivedLogs,
    callers::{AnyHolder, Callers},
    certificate::Certificates,
    log,
    path::{Route, verb},
    place::{Located, locate},
    tunnel::Tunnels,
};
use crate::{
    http::{
        gate::Gate,
        review::{Target, User},
        tls::TlsError,
    },
    kubernetes::{api::Api, clock::Clock, cluster::directory::ClusterDirectory},
    metrics::KubeletMetrics,
};

/// A TLS handshake that takes longer is not one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may wait for the next request's head: API servers keep theirs for a while.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The head of a request: a command may be a whole script. What API servers take as well.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// How long open connections may finish what they do at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Out of file descriptors or the like: wait for some to be given back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Stands for a virtual Node while there is none.
const NO_NODE: &str = "isobar";

/// What a server is made of.
pub(super) struct Parts {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) callers: Arc<Callers>,
    pub(super) gate: Gate,
    pub(super) home: Api,
    pub(super) directory: ClusterDirectory,
    pub(super) archive: Option<Arc<dyn ArchivedLogs>>,
    pub(super) clock: Clock,
    pub(super) metrics: KubeletMetrics,
    pub(super) stop: CancellationToken,
}

/// Serves all virtual Nodes.
pub(super) struct Server {
    parts: Parts,
    connections: Arc<Semaphore>,
    tunnels: Tunnels,
}

/// Connections that the kernel has accepted and we have not.
const BACKLOG: u32 = 1024;

/// A socket whose connections inherit keep-alive: an idle session whose peer is dead does not stay for ever.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// TLS as a kubelet speaks it: HTTP/1.1 only, as sessions change the protocol of a whole connection; a client certificate if there is one.
pub(super) fn tls_config(certificates: &Certificates) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(Arc::new(AnyHolder(provider))).with_cert_resolver(certificates.resolver());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Server {
    pub(super) fn new(parts: Parts, limits: KubeletLimits) -> Arc<Self> {
        let tunnels = Tunnels::new(limits.tunnels_max, parts.metrics.clone(), parts.stop.clone());
        Arc::new(Self { parts, connections: Arc::new(Semaphore::new(limits.connections_max)), tunnels })
    }

    /// Serves until stopped, then until open connections and sessions are done, 5 s at most.
    pub(super) async fn run(self: Arc<Self>, socket: TcpListener) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.parts.stop.cancelled() => break,
                accepted = socket.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the virtual nodes");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = self.connections.clone().try_acquire_owned() else {
                self.parts.metrics.over_limit.increment(1);
                continue;
            };
            let server = self.clone();
            tasks.spawn(async move {
                server.connection(stream).await;
                drop(place);
            });
        }
        drop(socket);
        tasks.close();
        let _late = timeout(DRAIN_TIMEOUT, async { tokio::join!(tasks.wait(), self.tunnels.drained()) }).await;
    }

    async fn connection(self: &Arc<Self>, stream: TcpStream) {
        // Keys that somebody types are sent one by one. A failure means that the peer is gone already.
        let _gone = stream.set_nodelay(true);
        let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(self.parts.tls.clone()).accept(stream)).await else {
            self.parts.metrics.bad_handshakes.increment(1);
            return;
        };
        let caller = self.parts.callers.of(stream.get_ref().1).map(Arc::new);
        let service = service_fn(|request| {
            let (server, caller) = (self.clone(), caller.clone());
            async move { Ok::<_, Infallible>(server.respond(request, caller.as_deref()).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.parts.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // A log that is followed would never end by itself.
                timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "a connection to a virtual node ended early");
        }
    }

    async fn respond(&self, request: Request<Incoming>, caller: Option<&User>) -> Response<Body> {
        let route = Route::of(request.uri().path());
        let kind = route.kind();
        let response = self.answer(request, &route, caller).await.unwrap_or_else(Into::into);
        self.parts.metrics.answered(kind, response.status().as_u16());
        response
    }

    async fn answer(&self, request: Request<Incoming>, route: &Route, caller: Option<&User>) -> Result<Response<Body>, Refused> {
        let user = self.parts.gate.identify(request.headers(), caller).await?;
        let located = match route.pod() {
            Some(pod) => Some(locate(&self.parts.home, &self.parts.directory, pod).await),
            None => None,
        };
        self.authorize(user, &request, route, located.as_ref().and_then(|located| located.as_ref().ok())).await?;
        let located = located.transpose()?;
        match (route, located) {
            (Route::Log(pod), Some(located)) => {
                let (uri, now) = (request.uri(), self.parts.clock.wall());
                log::answer(&located, &pod.container, uri, now, self.parts.archive.as_deref()).await
            }
            (Route::Stream(stream, pod), Some(located)) => {
                let run = located.run?;
                run.check().await?;
                self.tunnels.open(request, *stream, &run, &pod.container).await
            }
            (Route::Healthz, _) => Ok(text(StatusCode::OK, "ok")),
            (Route::Pods, _) => Ok(answer::json(r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":null}"#.to_owned())),
            _ => Err(Refused::not_found(format!("a virtual node of isobar has nothing at {}", request.uri().path()))),
        }
    }

    /// Whether the user may, on the Node that the pod is bound to. A pod that is nowhere stands under the first virtual Node: whoever may not even ask
    /// there does not learn whether it exists.
    async fn authorize(&self, user: User, request: &Request<Incoming>, route: &Route, located: Option<&Located>) -> Result<(), Refused> {
        let node = located.map(|located| located.node.clone()).filter(|node| !node.is_empty()).unwrap_or_else(|| self.first_node());
        let mut refused = None;
        for subresource in route.subresources() {
            let target = Target::Node { name: node.clone(), subresource };
            match self.parts.gate.authorize(user.clone(), verb(request.method()), target).await {
                Ok(()) => return Ok(()),
                Err(refusal) => refused = Some(refusal),
            }
        }
        Err(refused.map_or_else(|| Refused::new(StatusCode::FORBIDDEN, "forbidden"), Into::into))
    }

    fn first_node(&self) -> String {
        self.parts.directory.all().first().map_or_else(|| NO_NODE.to_owned(), |cluster| cluster.virtual_node.to_string())
    }
}

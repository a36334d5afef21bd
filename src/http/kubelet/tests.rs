//! The whole endpoint over loopback: a home API server and a compute cluster that are made up, both asked through the program's own client.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    answer::{Body, empty, json as json_answer, text},
    *,
};
use crate::{
    federation::{names, spec::ComputeClusterSpec},
    http::review::{Decision, Reviewing, Target, User},
    kubernetes::{
        client::{ConnectionOptions, connect},
        cluster::directory::ClusterEntry,
    },
    metrics::ApiMetrics,
    model::ids::ClusterId,
};

/// Requests as a stand-in saw them: method, target, then headers that matter.
type Seen = Arc<Mutex<Vec<String>>>;

async fn api_server(answer: impl Fn(Request<Incoming>) -> Response<Body> + Clone + Send + Sync + 'static) -> Api {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ended = connection.with_upgrades().await;
            });
        }
    });
    api_at(&format!("http://{address}")).await
}

/// Through the program's own client.
async fn api_at(url: &str) -> Api {
    let file = tempfile::NamedTempFile::new().unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "ours"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
    connect(Some(file.path()), &ConnectionOptions::default(), ApiMetrics::new(&Metrics::new())).await.unwrap()
}

fn home_pod(name: &str) -> Option<Value> {
    let run = format!("isobar-home/{name}-run");
    let (node, cluster, run, phase) = match name {
        "web" | "busy" | "waits" => ("isobar-cloud", Some("cloud"), run.as_str(), "Running"),
        "done" => ("isobar-cloud", Some("cloud"), run.as_str(), "Succeeded"),
        "lost" => ("isobar-lost", Some("lost"), run.as_str(), "Running"),
        "lostdone" => ("isobar-lost", Some("lost"), run.as_str(), "Failed"),
        "removed" => ("isobar-removed", Some("removed"), run.as_str(), "Running"),
        "local" => ("node-1", None, "", "Running"),
        "claims" => ("node-1", Some("cloud"), run.as_str(), "Running"),
        "thief" => ("isobar-cloud", Some("cloud"), "isobar-home/web-run", "Running"),
        "prowler" => ("isobar-cloud", Some("cloud"), "kube-system/web-run", "Running"),
        "unplaced" => ("", Some("cloud"), run.as_str(), "Pending"),
        _ => return None,
    };
    let mut annotations = json!({names::RUN: run});
    if let Some(cluster) = cluster {
        annotations[names::CLUSTER] = cluster.into();
        annotations[names::CLUSTER_UID] = format!("uid-of-{cluster}").into();
    }
    let metadata = json!({"name": name, "uid": format!("uid-of-{name}"), "annotations": annotations});
    Some(json!({"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}))
}

fn home(request: &Request<Incoming>) -> Response<Body> {
    let name = request.uri().path().strip_prefix("/api/v1/namespaces/ns/pods/").unwrap_or_default();
    home_pod(name).map_or_else(|| text(StatusCode::NOT_FOUND, "{}"), |pod| json_answer(pod.to_string()))
}

/// The compute cluster: runs of `web`, `busy` and `waits`; sessions echo, and say `bye` once the client has hung up.
fn cluster(mut request: Request<Incoming>, seen: &Seen) -> Response<Body> {
    let header = |name: &str| request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join("+");
    let headers = ["authorization", "upgrade", "x-stream-protocol-version", "sec-websocket-protocol", "cookie"].map(header).join("|");
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{} {} {headers}", request.method(), request.uri()));
    let path = request.uri().path().strip_prefix("/api/v1/namespaces/isobar-home/pods/").unwrap_or_default().to_owned();
    let (run, subresource) = path.split_once('/').unwrap_or((&path, ""));
    let name = run.trim_end_matches("-run");
    if !["web", "busy", "waits"].contains(&name) {
        return text(StatusCode::NOT_FOUND, "{}");
    }
    match (subresource, name) {
        ("", _) => {
            let labels = json!({names::RUN_HOME_UID: format!("uid-of-{name}"), names::RUN_HOME_CLUSTER: "uid-of-home"});
            json_answer(json!({"metadata": {"uid": "r", "labels": labels}}).to_string())
        }
        ("log", "waits") => {
            let status = json!({"kind": "Status", "message": "container \"c\" in pod \"waits-run\" is waiting to start", "code": 400});
            text(StatusCode::BAD_REQUEST, status.to_string())
        }
        ("log", _) => text(StatusCode::OK, "from the cluster\n"),
        (_, "busy") => text(StatusCode::FORBIDDEN, "not by you"),
        _ => {
            let mut switched = Response::new(empty());
            *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for (name, value) in [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v5.channel.k8s.io")] {
                switched.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            tokio::spawn(async move {
                let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut buffer = vec![0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..read]).await.unwrap();
                }
                // After the end of input there may still be output.
                let _gone = stream.write_all(b"bye").await;
                let _gone = stream.shutdown().await;
            });
            switched
        }
    }
}

/// Tokens `admin` and `stranger` are somebody's; `admin`, and whoever has that name, may use the proxy of virtual Nodes.
struct Scripted;

impl Reviewer for Scripted {
    fn authenticate<'a>(&'a self, token: &'a str) -> Reviewing<'a, Option<User>> {
        let known = ["admin", "stranger"].contains(&token);
        Box::pin(async move { Ok(known.then(|| User { name: token.into(), ..User::default() })) })
    }

    fn authorize<'a>(&'a self, user: &'a User, _: &'a str, target: &'a Target) -> Reviewing<'a, Decision> {
        let proxy = matches!(target, Target::Node { subresource: "proxy", .. });
        let may = user.name == "admin" && proxy;
        Box::pin(async move { Ok(if may { Decision::Allowed } else { Decision::Denied(String::new()) }) })
    }
}

/// Holds container `c` of `done` and `lostdone`.
struct Archive;

impl ArchivedLogs for Archive {
    fn read<'a>(
        &'a self,
        wanted: &'a ArchivedLog,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Option<LogStream>, ArchiveError>> + Send + 'a>> {
        let known = ["uid-of-done", "uid-of-lostdone"].contains(&&wanted.uid[..]) && wanted.container == "c" && !wanted.previous;
        let lines = b"2026-01-01T00:00:00Z one\n2026-01-01T00:00:01Z two\n";
        Box::pin(async move { Ok(known.then(|| stream::iter([Ok(Bytes::from_static(lines))]).boxed())) })
    }
}

fn entry(id: u16, name: &str, api: Api) -> Arc<ClusterEntry> {
    Arc::new(ClusterEntry {
        id: ClusterId(id),
        name: name.into(),
        uid: format!("uid-of-{name}").into(),
        home_uid: "uid-of-home".into(),
        virtual_node: names::virtual_node(name).into(),
        run_namespace: "isobar-home".into(),
        spec: Arc::new(ComputeClusterSpec::default()),
        api,
        runs: tokio::sync::mpsc::unbounded_channel().0,
    })
}

struct World {
    address: SocketAddr,
    metrics: Metrics,
    seen: Seen,
    _stop: tokio_util::sync::DropGuard,
    _silent: tokio::net::TcpListener,
}

async fn world(client_ca: ClientCa, tunnels_max: usize) -> World {
    let (seen, metrics, stop) = (Seen::default(), Metrics::new(), CancellationToken::new());
    let noted = seen.clone();
    // Accepts connections and says nothing: a cluster behind a broken link.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = ClusterDirectory::default();
    directory.enter(entry(1, "cloud", api_server(move |request| cluster(request, &noted)).await));
    directory.enter(entry(2, "lost", api_at(&format!("http://{}", silent.local_addr().unwrap())).await));
    let options = KubeletOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        home: api_server(|request| home(&request)).await,
        directory,
        archive: Some(Arc::new(Archive)),
        reviewer: Arc::new(Scripted),
        certificate: KubeletCertificate::SelfSigned { names: Vec::new() },
        client_ca,
        limits: KubeletLimits { tunnels_max, ..KubeletLimits::default() },
        clock: Clock::system(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let (BoundAddress(address), run) = serve(options).await.unwrap();
    tokio::spawn(run);
    World { address, metrics, seen, _stop: stop.drop_guard(), _silent: silent }
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl World {
    async fn connect(&self, identity: Option<Identity>) -> TlsStream<TcpStream> {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer));
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    /// Code and everything after the head.
    async fn get(&self, target: &str, token: &str, identity: Option<Identity>) -> (u16, String) {
        let mut stream = self.connect(identity).await;
        let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _closed = stream.read_to_string(&mut answer).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Begins a session; the head of the answer.
    async fn upgrade(&self, target: &str, headers: &str) -> (TlsStream<TcpStream>, String) {
        let mut stream = self.connect(None).await;
        let request = format!("POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Length: 0\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap().to_ascii_lowercase())
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    async fn tunnels_become(&self, count: usize) {
        let line = format!("isobar_kubelet_tunnels {count}\n");
        let begun = Instant::now();
        while !self.metrics.render().contains(&line) {
            assert!(begun.elapsed() < Duration::from_secs(5), "never {count} sessions");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v5.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";

#[tokio::test]
async fn who_may_see_what() {
    let world = world(ClientCa::None, 8).await;
    for (target, token, code, said) in [
        ("/containerLogs/ns/web/c", "", 401, "a bearer token is needed"),
        ("/containerLogs/ns/web/c", "forged", 401, "does not accept the bearer token"),
        ("/containerLogs/ns/web/c", "stranger", 403, "resource nodes/proxy of \"isobar-cloud\""),
        ("/exec/ns/none/c", "stranger", 403, "cannot get resource nodes/proxy"),
        ("/containerLogs/ns/web/c", "admin", 200, "from the cluster\n"),
        ("/containerLogs/ns/none/c", "admin", 404, "pod ns/none does not exist"),
        ("/containerLogs/ns/local/c", "admin", 404, "does not run on a compute cluster"),
        ("/containerLogs/ns/claims/c", "admin", 404, "does not run on a compute cluster"),
        ("/containerLogs/ns/unplaced/c", "admin", 404, "is not placed yet"),
        ("/containerLogs/ns/thief/c", "admin", 400, "the run is gone"),
        ("/exec/ns/thief/c?command=id", "admin", 404, "the run is gone"),
        ("/exec/ns/prowler/c?command=id", "admin", 404, "has no run"),
        ("/exec/ns/web/another-uid/c", "admin", 404, "it is another one now"),
        ("/exec/ns/web/uid-of-web/c", "admin", 400, "Upgrade"),
        ("/attach/ns/removed/c", "admin", 503, "compute cluster removed is not connected"),
        ("/containerLogs/ns/removed/c", "admin", 500, "compute cluster removed is not connected"),
        ("/containerLogs/ns/waits/c", "admin", 400, "container \"c\" in pod \"waits\" is waiting to start"),
        ("/run/ns/web/c", "admin", 404, "has nothing at /run/ns/web/c"),
        ("/stats/summary", "admin", 403, "nodes/stats"),
        ("/healthz", "admin", 200, "ok"),
        ("/healthz", "", 401, "token"),
        ("/pods", "admin", 200, "PodList"),
    ] {
        let (got, body) = world.get(target, token, None).await;
        assert!(got == code && body.contains(said), "{target} as {token:?}: {got} {body}");
    }
    let text = world.metrics.render();
    assert!(text.contains("isobar_kubelet_requests_total{path=\"containerLogs\",code=\"200\"} 1\n"), "{text}");
}

#[tokio::test]
async fn certificates_of_the_clusters_authority_are_believed_and_others_are_nobodys() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), params.self_signed(&key).unwrap().pem()).unwrap();
    let ours = rcgen::Issuer::new(params.clone(), key);
    let foreign = rcgen::Issuer::new(params, rcgen::KeyPair::generate().unwrap());
    let world = world(ClientCa::File(file.path().to_owned()), 8).await;
    let identity = |issuer: &rcgen::Issuer<'_, rcgen::KeyPair>, name: &str| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    for (issuer, name, token, code) in
        [(&ours, "admin", "", 200), (&ours, "stranger", "", 403), (&foreign, "admin", "", 401), (&foreign, "stranger", "admin", 200)]
    {
        let (got, body) = world.get("/containerLogs/ns/web/c", token, Some(identity(issuer, name))).await;
        assert_eq!(got, code, "{name} {token}: {body}");
    }
}

#[tokio::test]
async fn a_session_passes_bytes_both_ways_and_outlives_the_end_of_input() {
    let world = world(ClientCa::None, 8).await;
    let cookies = format!("{SPDY}Cookie: secret\r\n");
    let (mut stream, head) = world.upgrade("/exec/ns/web/uid-of-web/c?command=sh&command=-c%20x&input=1&output=1&tty=1", &cookies).await;
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: spdy/3.1") && head.contains("v5.channel.k8s.io"), "{head}");
    let wanted = "POST /api/v1/namespaces/isobar-home/pods/web-run/exec?container=c&command=sh&command=-c%20x&stdin=true&stdout=true&tty=true \
                  Bearer ours|SPDY/3.1|v5.channel.k8s.io+v4.channel.k8s.io||";
    assert_eq!(world.seen().last().unwrap(), wanted);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.flush().await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    // However it was closed.
    let ((), _) = tokio::join!(write, from.read_to_end(&mut got));
    assert!(got.len() == sent.len() + 3 && got.starts_with(&sent) && got.ends_with(b"bye"), "{} bytes", got.len());
    world.tunnels_become(0).await;
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_session_and_sessions_are_bounded() {
    let world = world(ClientCa::None, 2).await;
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Protocol: v5.channel.k8s.io, \
                     base64url.bearer.authorization.k8s.io.c2VjcmV0\r\n";
    let (first, head) = world.upgrade("/portForward/ns/web?port=80", websocket).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let wanted = "POST /api/v1/namespaces/isobar-home/pods/web-run/portforward?ports=80 Bearer ours|websocket||v5.channel.k8s.io|";
    assert_eq!(world.seen().last().unwrap(), wanted);
    let (_second, head) = world.upgrade("/attach/ns/web/c?input=1", SPDY).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    world.tunnels_become(2).await;
    let (_, head) = world.upgrade("/attach/ns/web/c?input=1", SPDY).await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    drop(first);
    world.tunnels_become(1).await;
    let (_, head) = world.upgrade("/exec/ns/busy/c?command=id", SPDY).await;
    assert!(head.starts_with("http/1.1 403 "), "the cluster's refusal is passed on: {head}");
    world.tunnels_become(1).await;
}

#[tokio::test]
async fn logs_of_runs_that_are_gone_come_from_the_archive() {
    let world = world(ClientCa::None, 8).await;
    for (target, code, said) in [
        ("/containerLogs/ns/done/c", 200, "one\ntwo\n"),
        ("/containerLogs/ns/done/c?tailLines=1&timestamps=true", 200, "2026-01-01T00:00:01Z two\n"),
        ("/containerLogs/ns/done/c?follow=true&limitBytes=2", 200, "\r\non\r\n"),
        ("/containerLogs/ns/done/other", 400, "the archive holds no log of that container"),
        ("/containerLogs/ns/done/c?previous=true", 400, "the archive holds no log of that container"),
        ("/containerLogs/ns/done/c?tailLines=x", 400, "tailLines cannot be read"),
    ] {
        let (got, body) = world.get(target, "admin", None).await;
        assert!(got == code && body.contains(said), "{target}: {got} {body}");
    }
    let options = "follow=true&tailLines=3&sinceTime=2026-01-01T00%3A00%3A00Z&container=other";
    world.seen();
    world.get(&format!("/containerLogs/ns/web/c?{options}"), "admin", None).await;
    let wanted = "GET /api/v1/namespaces/isobar-home/pods/web-run/log?container=c&follow=true&tailLines=3&sinceTime=2026-01-01T00%3A00%3A00Z Bearer ours||||";
    assert_eq!(world.seen().last().unwrap(), wanted);
}

#[tokio::test]
async fn a_cluster_that_is_silent_is_said_to_be_so_within_five_seconds() {
    let world = world(ClientCa::None, 8).await;
    let begun = Instant::now();
    let (lost, done, session) = tokio::join!(
        world.get("/containerLogs/ns/lost/c", "admin", None),
        world.get("/containerLogs/ns/lostdone/c", "admin", None),
        world.upgrade("/exec/ns/lost/c?command=id", SPDY),
    );
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(lost.0 == 500 && lost.1.contains("compute cluster lost cannot be reached"), "{lost:?}");
    assert!(done.0 == 200 && done.1.contains("one\ntwo\n"), "{done:?}");
    assert!(session.1.starts_with("http/1.1 503 "), "{}", session.1);
}

#[tokio::test(start_paused = true)]
async fn once_one_side_hung_up_silence_ends_a_session() {
    let (client, server) = tokio::io::duplex(1024);
    let (remote, _far) = tokio::io::duplex(1024);
    let begun = Instant::now();
    let session = tokio::spawn(tunnel::join(server, remote));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!session.is_finished(), "an idle session of an hour stays");
    drop(client);
    session.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(3_660));
}

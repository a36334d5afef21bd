//! The whole server over real sockets: TLS, HTTP/1.1 and h2, who is let in, and a real Prometheus that scrapes it.
#![allow(clippy::disallowed_methods)] // real sockets are waited for in real time

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use isobar::{
    http::{
        Bound, CertificateSource, Decision, EventIntake, HealthChecks, HttpOptions, HttpState, PlainOptions, Probe, ReviewError, Reviewer,
        Reviewing, Target, User, serve,
    },
    metrics::{
        ApiMetrics, BrokerMetrics, CallType, ClusterMetrics, ConfigMetrics, EngineGauges, EngineMetrics, EventDrop, ExtenderMetrics,
        ImageMetrics, KubeletMetrics, LeaderMetrics, Lookup, Metrics, NodeGauges, NodeGroup, RunCreation, RunsMetrics, TaskMetrics,
        WatchRestart, table::TABLE,
    },
    model::time::{DurationMs, Timestamp},
    scheduler::observe::{AttemptResult, Gauges, Observer},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls};
use tokio_util::sync::CancellationToken;

use super::tools;

/// `scraper` may get /metrics, `stranger` nothing, `broken` cannot be checked; other tokens are nobody's.
struct Scripted;

impl Reviewer for Scripted {
    fn authenticate<'a>(&'a self, token: &'a str) -> Reviewing<'a, Option<User>> {
        Box::pin(async move {
            match token {
                "scraper" | "stranger" => Ok(Some(User { name: token.into(), ..User::default() })),
                "broken" => Err(ReviewError { doing: "asking whose token it is", source: "connection refused".into() }),
                _ => Ok(None),
            }
        })
    }

    fn authorize<'a>(&'a self, user: &'a User, verb: &'a str, target: &'a Target) -> Reviewing<'a, Decision> {
        let paths = if verb == "get" { &["/metrics", "/nothing", "/version"][..] } else { &["/events/radar-in"] };
        let may = user.name == "scraper" && paths.iter().any(|path| *target == Target::Path((*path).into()));
        Box::pin(async move { Ok(if may { Decision::Allowed } else { Decision::Denied(String::new()) }) })
    }
}

struct Server {
    bound: Bound,
    metrics: Metrics,
    health: HealthChecks,
    draining: CancellationToken,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(options: HttpOptions) -> Server {
    let (metrics, health) = (Metrics::new(), HealthChecks::default());
    let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
    let state = HttpState {
        health: health.clone(),
        metrics: metrics.clone(),
        configuration: Arc::new(|| json!({"profiles": []})),
        events: Some(EventIntake { sources: vec!["radar-in".to_owned()], arrivals: tokio::sync::mpsc::channel(1).0 }),
        api: None,
        reviewer: Arc::new(Scripted),
        draining: draining.clone(),
        stop: stop.clone(),
    };
    let options = HttpOptions { address: "127.0.0.1:0".parse().unwrap(), ..options };
    let (bound, run) = serve(options, state).await.unwrap();
    Server { bound, metrics, health, draining, stop, task: tokio::spawn(run) }
}

/// Accepts whatever certificate the server made for itself.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

async fn connect(
    address: SocketAddr,
    alpn: &[u8],
    identity: Option<Identity>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), TcpStream::connect(address).await?).await
}

/// One request and everything that comes back until the end: head and body.
async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &str) -> (u16, String) {
    stream.write_all(format!("{request}Host: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A peer that closes without TLS's goodbye is an error of no interest here: what it sent is what counts.
    let _ended = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no answer to {request}: {answer}"));
    (code, answer)
}

async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    exchange(connect(address, b"http/1.1", None).await.unwrap(), &format!("GET {path} HTTP/1.1\r\n{authorization}")).await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn who_gets_what() {
    let server = start(HttpOptions::default()).await;
    server.health.add("informer-sync", &[Probe::Readyz], || Err("pods are not listed yet".into()));
    for (path, token, code, text) in [
        ("/healthz", None, 200, "\r\n\r\nok"),
        ("/livez?verbose", None, 200, "[+]ping ok\nlivez check passed\n"),
        ("/readyz", None, 500, "[-]informer-sync failed: pods are not listed yet\nreadyz check failed\n"),
        ("/readyz?exclude=informer-sync", None, 200, "ok"),
        ("/metrics", None, 401, "Unauthorized: a bearer token is needed"),
        ("/metrics", Some("nobody"), 401, "www-authenticate: Bearer"),
        ("/metrics", Some("stranger"), 403, r#"forbidden: User \"stranger\" cannot get path \"/metrics\""#),
        ("/metrics", Some("broken"), 500, "cannot check the caller: asking whose token it is: connection refused"),
        ("/metrics", Some("scraper"), 200, "isobar_build_info{"),
        ("/configz", Some("scraper"), 403, "cannot get path"),
        ("/version", Some("scraper"), 200, "\"version\":\""),
        ("/nothing", Some("scraper"), 404, "the server has nothing at /nothing"),
        ("/nothing", None, 401, "Unauthorized"),
    ] {
        let (got, answer) = get(server.bound.secure, path, token).await;
        assert_eq!(got, code, "{path} {token:?}: {answer}");
        assert!(answer.contains(text), "{path} {token:?}: missing {text} in {answer}");
        if code != 200 && !path.starts_with("/readyz") {
            let status: Value = serde_json::from_str(body(&answer)).unwrap();
            assert!(status["kind"] == "Status" && status["code"] == code && status["status"] == "Failure", "{status}");
        }
    }
    let text = server.metrics.render();
    assert!(text.contains("isobar_http_requests_total{path=\"/metrics\",code=\"200\"} 1\n"), "{text}");
}

#[tokio::test]
async fn shutting_down_fails_readiness_first_and_then_ends() {
    let server = start(HttpOptions::default()).await;
    assert_eq!(get(server.bound.secure, "/readyz", None).await.0, 200);
    server.draining.cancel();
    assert_eq!(get(server.bound.secure, "/readyz", None).await.0, 500);
    assert_eq!(get(server.bound.secure, "/livez", None).await.0, 200);
    let idle = connect(server.bound.secure, b"http/1.1", None).await.unwrap();
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(4), server.task).await.expect("an idle connection does not hold up the end").unwrap();
    drop(idle);
    assert!(TcpStream::connect(server.bound.secure).await.is_err());
}

#[tokio::test]
async fn http2_is_spoken_and_a_plain_request_on_the_secure_port_is_not() {
    let server = start(HttpOptions::default()).await;
    let stream = connect(server.bound.secure, b"h2", None).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/livez").body(axum::body::Body::empty()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);

    let mut plain = TcpStream::connect(server.bound.secure).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ended = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "answered without TLS");
    assert!(server.metrics.render().contains("isobar_http_connections_refused_total{reason=\"tls\"} 1\n"));
}

#[tokio::test]
async fn the_plain_listener_shows_metrics_only_when_told_to() {
    for (metrics, code) in [(false, 404), (true, 200)] {
        let plain = Some(PlainOptions { address: "127.0.0.1:0".parse().unwrap(), metrics });
        let server = start(HttpOptions { plain, ..HttpOptions::default() }).await;
        let address = server.bound.plain.unwrap();
        let ask = async |path: &str| exchange(TcpStream::connect(address).await.unwrap(), &format!("GET {path} HTTP/1.1\r\n")).await.0;
        assert_eq!((ask("/livez").await, ask("/metrics").await, ask("/configz").await), (200, code, 404));
        let post = exchange(TcpStream::connect(address).await.unwrap(), "POST /livez HTTP/1.1\r\nContent-Length: 0\r\n").await;
        assert_eq!(post.0, 405, "{}", post.1);
    }
}

#[tokio::test]
async fn too_many_connections_are_closed_and_places_come_back() {
    let plain = Some(PlainOptions { address: "127.0.0.1:0".parse().unwrap(), metrics: true });
    let server = start(HttpOptions { plain, ..HttpOptions::default() }).await;
    let address = server.bound.plain.unwrap();
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let mut one_more = TcpStream::connect(address).await.unwrap();
    let mut nothing = [0];
    assert!(matches!(one_more.read(&mut nothing).await, Ok(0) | Err(_)), "the 257th is closed at once");
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _closed = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let mut answer = String::new();
        let _ended = stream.read_to_string(&mut answer).await;
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(Instant::now() < deadline, "places do not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn signed(authority: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>, name: &str, group: &str) -> Identity {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap())
}

fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn client_certificates_of_the_given_authority_are_believed() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, others) = (authority(), authority());
    let client_ca_file = directory.path().join("ca.crt");
    std::fs::write(&client_ca_file, ours.pem()).unwrap();
    let server = start(HttpOptions { client_ca_file: Some(client_ca_file), ..HttpOptions::default() }).await;
    for (authority, name, group, code) in [
        (&ours, "scraper", "", Some(200)),
        (&ours, "stranger", "", Some(403)),
        (&ours, "stranger", "system:masters", Some(200)),
        (&others, "scraper", "system:masters", None),
    ] {
        // With TLS 1.3 a client learns of its refusal only when it reads.
        let stream = connect(server.bound.secure, b"http/1.1", Some(signed(authority, name, group))).await;
        let got = match (stream, code) {
            (Ok(stream), Some(_)) => Some(exchange(stream, "GET /metrics HTTP/1.1\r\n").await.0),
            (Ok(mut stream), None) => stream.read(&mut [0]).await.map(|_| 0).ok(),
            (Err(_), _) => None,
        };
        assert_eq!(got, code, "{name} {group}");
    }
    assert_eq!(get(server.bound.secure, "/metrics", Some("scraper")).await.0, 200, "a token still does");
}

/// Reports everything that can be reported, so that every metric of the table has a series.
fn record_everything(metrics: &Metrics) {
    let mut engine = EngineMetrics::new(metrics, ["default-scheduler"]);
    engine.algorithm(30_000);
    engine.attempt("default-scheduler", AttemptResult::Scheduled, 2_000_000);
    engine.extension_point("default-scheduler", "Filter", "Success", 20_000);
    engine.plugin("default-scheduler", "NodeResourcesFit", "Filter", Some(5_000));
    engine.queued("active", "UnscheduledPodAdd");
    engine.scheduled("default-scheduler", 1, DurationMs(12));
    engine.unschedulable_pods("default-scheduler", "NodeAffinity", 1);
    engine.hint("NodeAffinity", "NodeAdd", true);
    engine.view(1000, true);
    engine.permit_wait("allowed", 1_000);
    engine.scheduled_after_flush();
    engine.preemption(Some(2));
    engine.impossible("none, this is a test");
    engine.fact("NodeAdd", 1_000);
    EngineGauges::new(metrics).set(&Gauges { nodes: 3, ..Gauges::default() });
    let api = ApiMetrics::new(metrics);
    api.request("127.0.0.1:6443", "POST", Some(201), Duration::from_millis(3));
    api.limited("127.0.0.1:6443", "POST", Duration::from_millis(1));
    api.call_began(CallType::PodBinding);
    api.call_ended(CallType::PodBinding, true, Duration::from_millis(3));
    api.binds_in_flight(1);
    api.watch_restarted("home", "pods", WatchRestart::Closed);
    api.watch_synced("home", "pods", true);
    api.decode_rejected("home", "pods");
    api.event_sent();
    api.event_dropped(EventDrop::Rate);
    ConfigMetrics::new(metrics).loaded(Timestamp(1_800_000_000_000), 7);
    LeaderMetrics::new(metrics, "isobar-scheduler").set(true);
    KubeletMetrics::new(metrics).answered("containerLogs", 200);
    let group = NodeGroup { cluster: "home".into(), architecture: "arm64".into(), os: "linux".into(), gpu: "NVIDIA \"A100\"\\80GB".into() };
    NodeGauges::new(metrics).set(&[(group, 3)].into());
    let images = ImageMetrics::new(metrics);
    images.lookup(Lookup::Known);
    images.took(Lookup::Known, Duration::from_millis(80));
    let extender = ExtenderMetrics::new(metrics, "http://127.0.0.1:1/scheduler");
    extender.called("filter", true, Duration::from_millis(2));
    extender.refused("filter");
    record_federation(metrics);
}

fn record_federation(metrics: &Metrics) {
    let cluster = ClusterMetrics::new(metrics, "cloud");
    cluster.state(true, true);
    cluster.sizes(3, [2, 1, 0], 1);
    cluster.probed(true, Duration::from_millis(20));
    cluster.answered(Timestamp(1_800_000_000_000));
    cluster.watches_restarted();
    cluster.worker_restarted();
    cluster.tree_restarted();
    let runs = RunsMetrics::new(metrics, "cloud");
    runs.creation(RunCreation::Created);
    runs.mirrored();
    runs.reaped();
    runs.in_flight(1);
    runs.order("CreateRun", "Run", Duration::from_millis(60));
    runs.decision_to_run(0.2);
    runs.logs_kept(1024);
    runs.orphan_deleted();
    runs.debt();
    runs.event_told();
    runs.event_dropped(EventDrop::Rate);
    runs.counts(7, 6);
    let tasks = TaskMetrics::new(metrics);
    tasks.started("Cron");
    tasks.finished("ns/radar", "Succeeded", "Cron");
    tasks.attempt("Succeeded", [("queue", Some(1.0)), ("start", Some(1.0)), ("run", Some(3.0))]);
    tasks.reaped("Deleted", Some(2.0));
    tasks.late("ns/radar", "queue");
    tasks.missed("ns/radar", 1);
    tasks.report("delivered");
    tasks.oldest_waiting(Duration::from_secs(1));
    tasks.logs(1024, true);
    tasks.arrival("accepted");
    tasks.order("CreatePod", "Pod", Duration::from_millis(6));
    tasks.in_flight(1);
    tasks.phases([Some(4), None].into_iter());
    let broker = BrokerMetrics::new(metrics);
    broker.message("radar-in", "unreadable");
    broker.up("radar-in", true);
}

#[tokio::test]
async fn every_metric_of_the_table_is_recorded_by_something() {
    let server = start(HttpOptions::default()).await;
    record_everything(&server.metrics);
    get(server.bound.secure, "/metrics", Some("scraper")).await;
    let (_, answer) = get(server.bound.secure, "/metrics", Some("scraper")).await;
    for spec in TABLE {
        assert!(answer.contains(&format!("# TYPE {} {}\n", spec.name, spec.kind.word())), "nothing records {}", spec.name);
        assert!(answer.contains(&format!("# HELP {} [{}] ", spec.name, spec.stability.word())), "no help for {}", spec.name);
    }
    let Some(promtool) = tools::find("promtool", "promtool check metrics") else { return };
    let mut child = Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), server.metrics.render().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Ends the process when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn prometheus(program: &Path, directory: &Path, target: SocketAddr, certificate: &Path) -> (Running, SocketAddr) {
    let job = |name: &str, token: &str| {
        json!({
            "job_name": name, "scheme": "https", "authorization": {"credentials": token}, "static_configs": [{"targets": [target.to_string()]}],
            "tls_config": {"ca_file": certificate, "server_name": "localhost"},
        })
    };
    let config = json!({"global": {"scrape_interval": "1s"}, "scrape_configs": [job("permitted", "scraper"), job("refused", "stranger")]});
    std::fs::write(directory.join("prometheus.yaml"), config.to_string()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let log = std::fs::File::create(directory.join("log")).unwrap();
    let child = Command::new(program)
        .arg(format!("--config.file={}", directory.join("prometheus.yaml").display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    (Running(child), address)
}

async fn query(prometheus: SocketAddr, expression: &str) -> Option<Value> {
    let stream = TcpStream::connect(prometheus).await.ok()?;
    let (code, answer) = exchange(stream, &format!("GET /api/v1/query?query={expression} HTTP/1.0\r\n")).await;
    let answer: Value = serde_json::from_str(body(&answer)).ok()?;
    (code == 200).then(|| answer["data"]["result"].clone())
}

async fn until(prometheus: SocketAddr, expression: &str, job: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(45);
    loop {
        let result = query(prometheus, expression).await;
        let found = result
            .iter()
            .filter_map(Value::as_array)
            .flatten()
            .any(|series| series["metric"]["job"] == job && series["value"][1] == wanted);
        if found {
            return;
        }
        assert!(Instant::now() < deadline, "{expression} for {job} is not {wanted}: {result:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test]
async fn a_real_prometheus_scrapes_with_a_permitted_token_only() {
    let Some(program) = tools::find("prometheus", "a_real_prometheus_scrapes_with_a_permitted_token_only") else { return };
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let source = CertificateSource::Files { certificate: certificate.clone(), key };
    let server = start(HttpOptions { certificate: source, ..HttpOptions::default() }).await;
    record_everything(&server.metrics);

    let (_prometheus, address) = prometheus(&program, directory.path(), server.bound.secure, &certificate);
    until(address, "up", "permitted", "1").await;
    until(address, "scheduler_schedule_attempts_total%7Bresult=%22scheduled%22%7D", "permitted", "1").await;
    until(address, "scheduler_pod_scheduling_attempts_count", "permitted", "1").await;
    until(address, "up", "refused", "0").await;
}

/// What is too long is read on and thrown away: a stream that is cut off would hide the answer from its sender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_ten_megabytes_is_refused_in_words_by_both_protocols() {
    if tools::find("curl", "a_body_of_ten_megabytes_is_refused_in_words_by_both_protocols").is_none() {
        return;
    }
    let server = start(HttpOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b' '; 10 << 20]).unwrap();
    let url = format!("https://{}/events/radar-in", server.bound.secure);
    for protocol in ["--http1.1", "--http2"] {
        // Without the header curl does not ask first.
        for expect in ["Expect:", "Expect: 100-continue"] {
            let arguments =
                ["--silent", "--show-error", "--insecure", protocol, "--max-time", "60", "--write-out", "\n%{http_code} %{http_version}"];
            let mut command = tokio::process::Command::new("curl");
            command.args(arguments).args(["-H", "Authorization: Bearer scraper", "-H", expect, "--data-binary"]);
            let output = command.arg(format!("@{}", file.display())).arg(&url).output().await;
            let output = output.unwrap();
            let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let version = if protocol == "--http2" { "413 2" } else { "413 1.1" };
            assert!(output.status.success() && text.ends_with(version), "{protocol} {expect}: {text} {error}");
            assert!(text.contains("10485760 bytes") && text.contains("RequestEntityTooLarge"), "{protocol} {expect}: {text}");
        }
    }
    server.stop.cancel();
    server.task.await.unwrap();
}

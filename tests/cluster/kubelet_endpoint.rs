//! kubectl at home, a run on a second cluster: logs, exec, attach, cp and port-forward through the endpoint of the virtual Nodes, by real API servers on
//! both sides. The home API server checks the endpoint's certificate, so it is one that its own signer gave.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream};
use isobar::{
    federation::{names, spec::ComputeClusterSpec},
    http::kubelet::{
        ArchiveError, ArchivedLog, ArchivedLogs, BoundAddress, ClientCa, KubeletCertificate, KubeletLimits, KubeletOptions, LogStream,
        serve,
    },
    kubernetes::{
        client::{ConnectionOptions, connect},
        clock::Clock,
        cluster::directory::{ClusterDirectory, ClusterEntry},
        review::ApiReviewer,
    },
    metrics::{ApiMetrics, Metrics},
    model::ids::ClusterId,
};
use k8s_openapi::api::{
    core::v1::{Node, Pod, ServiceAccount},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{
        apiserver::ApiserverOptions,
        assets::{Program, available, skip},
        certificates::KUBELET_CLIENT,
        control_plane::{ControlPlane, Options},
        kwok,
        ports::free_port,
        process::Process,
    },
    serving::{curl, token},
};

const RUNS: &str = "isobar-12345678";
const LOG: &str = "2026-01-01T00:00:00.000000000Z stdout F one\n2026-01-01T00:00:01.000000000Z stderr F two\n";
/// What of a step takes longer hangs.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Holds every log.
struct Archive;

impl ArchivedLogs for Archive {
    fn read<'a>(&'a self, _: &'a ArchivedLog) -> Pin<Box<dyn Future<Output = Result<Option<LogStream>, ArchiveError>> + Send + 'a>> {
        Box::pin(async { Ok(Some(stream::iter([Ok(bytes::Bytes::from("2026-01-01T00:00:00Z kept\n"))]).boxed() as LogStream)) })
    }
}

/// Two control planes, a run over there, its home pod, and the endpoint between them.
struct World {
    home: ControlPlane,
    remote: ControlPlane,
    /// The pod's world over there: it is this machine.
    folder: tempfile::TempDir,
    address: SocketAddr,
    metrics: Metrics,
    run: Api<Pod>,
    _kwok: Process,
    _stop: tokio_util::sync::DropGuard,
}

async fn create<K>(api: Api<K>, object: Value) -> Result<K>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await.context("create an object of the test")
}

async fn create_node(client: Client, name: &str, port: u16) -> Result<()> {
    let nodes = Api::<Node>::all(client);
    create(nodes.clone(), json!({"metadata": {"name": name}})).await?;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": null, "lastTransitionTime": null}],
    }});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

fn pod(name: &str, node: &str, labels: &Value, annotations: &Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "busybox"}], "automountServiceAccountToken": false},
    })
}

/// What kwok answers with: a log in a file, commands on this machine, and port 80 here.
fn write_answers(folder: &Path, port: u16) -> Result<PathBuf> {
    std::fs::write(folder.join("main.log"), LOG)?;
    let log = folder.join("main.log");
    let object =
        |kind: &str, spec: Value| json!({"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": {"name": "all"}, "spec": spec});
    let objects = [
        object("ClusterLogs", json!({"logs": [{"logsFile": log, "follow": true}]})),
        object("ClusterAttach", json!({"attaches": [{"logsFile": log}]})),
        object("ClusterExec", json!({"execs": [{"local": {"workDir": folder}}]})),
        object("ClusterPortForward", json!({"forwards": [{"ports": [80], "target": {"port": port, "address": "127.0.0.1"}}]})),
    ];
    let path = folder.join("kwok-answers.yaml");
    std::fs::write(&path, objects.map(|object| object.to_string()).join("\n---\n"))?;
    Ok(path)
}

/// Sends back whatever comes.
async fn start_echo() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    Ok(port)
}

impl World {
    async fn start() -> Result<Self> {
        let apiserver = ApiserverOptions { kubelets: true, ..ApiserverOptions::default() };
        let home = Options { apiserver: apiserver.clone(), controllers: Some("csrsigning".to_owned()), ..Options::default() };
        let [home, remote] = ControlPlane::start_many([home, Options { apiserver, ..Options::default() }]).await?;
        let folder = tempfile::tempdir()?;

        let kwok_port = free_port()?;
        let answers = write_answers(folder.path(), start_echo().await?)?;
        let serving = remote.authority().server("kwok", &["127.0.0.1"])?;
        let kwok = kwok::start_answering(remote.admin_kubeconfig(), remote.folder(), &serving, kwok_port, &answers)?;
        remote.create_namespace(RUNS).await?;
        create_node(remote.client(), "gpu-1", kwok_port).await?;

        let metrics = Metrics::new();
        let stop = CancellationToken::new();
        let address = start_endpoint(&home, &remote, &metrics, stop.clone()).await?;
        create_node(home.client(), "isobar-cloud", address.port()).await?;
        home.create_namespace("team").await?;
        let annotations = json!({names::CLUSTER: "cloud", names::CLUSTER_UID: "uid-of-cloud", names::RUN: format!("{RUNS}/train-run")});
        let pods = Api::<Pod>::namespaced(home.client(), "team");
        let train = create(pods.clone(), pod("train", "isobar-cloud", &json!({}), &annotations)).await?;
        let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
        pods.patch_status("train", &PatchParams::default(), &running).await?;
        create(pods, pod("forger", "isobar-cloud", &json!({}), &annotations)).await?;
        let labels = json!({names::RUN_HOME_UID: train.metadata.uid, names::RUN_HOME_CLUSTER: "uid-of-home"});
        let run = Api::<Pod>::namespaced(remote.client(), RUNS);
        create(run.clone(), pod("train-run", "gpu-1", &labels, &json!({}))).await?;
        let binding = json!({
            "metadata": {"name": "kubelets"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": KUBELET_CLIENT}],
        });
        create(Api::<ClusterRoleBinding>::all(home.client()), binding).await?;
        Ok(Self { home, remote, folder, address, metrics, run, _kwok: kwok, _stop: stop.drop_guard() })
    }

    fn kubectl(&self, arguments: &str) -> Result<Command> {
        let mut command = Command::new(Program::Kubectl.path()?);
        command.env("KUBECONFIG", self.home.admin_kubeconfig()).args(["--namespace", "team"]).args(arguments.split(' '));
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// What kubectl says of these words, with this input.
    async fn run(&self, arguments: &str, more: &[&str], input: &[u8]) -> Result<Output> {
        let mut command = self.kubectl(arguments)?;
        command.args(more);
        output(command, input).await.with_context(|| format!("kubectl {arguments} {more:?}"))
    }

    async fn says(&self, arguments: &str, expected: &str) -> Result<()> {
        let output = self.run(arguments, &[], b"").await?;
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success() && said == expected, "kubectl {arguments}: {said:?} {error}");
        Ok(())
    }
}

async fn start_endpoint(home: &ControlPlane, remote: &ControlPlane, metrics: &Metrics, stop: CancellationToken) -> Result<SocketAddr> {
    let api_metrics = || ApiMetrics::new(metrics);
    let options = ConnectionOptions::default();
    let directory = ClusterDirectory::default();
    directory.enter(Arc::new(ClusterEntry {
        id: ClusterId(1),
        name: "cloud".into(),
        uid: "uid-of-cloud".into(),
        home_uid: "uid-of-home".into(),
        virtual_node: "isobar-cloud".into(),
        run_namespace: RUNS.into(),
        spec: Arc::new(ComputeClusterSpec::default()),
        api: connect(Some(remote.admin_kubeconfig()), &options, api_metrics()).await?,
        runs: tokio::sync::mpsc::unbounded_channel().0,
    }));
    let options = KubeletOptions {
        address: "127.0.0.1:0".parse()?,
        home: connect(Some(home.admin_kubeconfig()), &options, api_metrics()).await?,
        directory,
        archive: Some(Arc::new(Archive)),
        reviewer: Arc::new(ApiReviewer::new(home.client())),
        certificate: KubeletCertificate::Csr { node: "isobar-cloud".into(), names: vec!["127.0.0.1".into()] },
        client_ca: ClientCa::ConfigMap,
        limits: KubeletLimits::default(),
        clock: Clock::system(),
        metrics: metrics.clone(),
        stop,
    };
    let (BoundAddress(address), run) = serve(options).await?;
    tokio::spawn(run);
    Ok(address)
}

async fn output(command: Command, input: &[u8]) -> Result<Output> {
    tokio::time::timeout(STEP_TIMEOUT, patient_output(command, input)).await?
}

async fn patient_output(mut command: Command, input: &[u8]) -> Result<Output> {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    let write = async move {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    Ok(output?)
}

async fn until<T, F: Future<Output = Result<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> Result<T> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > STEP_TIMEOUT => return Err(error.context(format!("never: {what}"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A megabyte that no compression and no missing piece leaves as it is.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    };
    std::iter::repeat_with(|| next(&mut state)).flat_map(|word| [word[4], word[5], word[6], word[7]]).take(bytes).collect()
}

async fn logs(world: &World) -> Result<()> {
    world.says("logs train", "one\ntwo\n").await?;
    world.says("logs train --tail=1 --timestamps", "2026-01-01T00:00:01.000000000Z two\n").await?;
    world.says("logs train --since-time=2026-01-01T00:00:01Z", "two\n").await?;
    world.says("logs train --limit-bytes=5", "one\nt").await?;
    let mut child = world.kubectl("logs -f train")?.stdout(Stdio::piped()).spawn()?;
    let mut lines = lines_of(&mut child)?;
    ensure!(next_line(&mut lines).await? == "one" && next_line(&mut lines).await? == "two");
    let path = world.folder.path().join("main.log");
    let mut file = tokio::fs::OpenOptions::new().append(true).open(path).await?;
    file.write_all(b"2026-01-01T00:00:02.000000000Z stdout F three\n").await?;
    file.flush().await?;
    ensure!(next_line(&mut lines).await? == "three");
    child.kill().await?;
    Ok(())
}

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

fn lines_of(child: &mut Child) -> Result<Lines> {
    Ok(BufReader::new(child.stdout.take().context("no output")?).lines())
}

async fn next_line(lines: &mut Lines) -> Result<String> {
    tokio::time::timeout(STEP_TIMEOUT, lines.next_line()).await??.context("the output ended")
}

async fn exec(world: &World) -> Result<()> {
    // What `cat` says ends when its input does: the end of the input has travelled too.
    let sent = noise(1 << 20);
    for websockets in ["true", "false"] {
        let mut command = world.kubectl("exec -i train -- cat")?;
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let got = output(command, &sent).await.with_context(|| format!("cat, WebSocket {websockets}"))?;
        ensure!(got.stdout == sent, "{websockets}: {} bytes, {}", got.stdout.len(), String::from_utf8_lossy(&got.stderr));
    }
    let got = world.run("exec -i train -c main -- sh -c", &["cat >/dev/null; echo out; echo err >&2; exit 7"], b"input").await?;
    ensure!(!got.status.success() && got.stdout == b"out\n" && got.stderr.starts_with(b"err\n"), "{got:?}");
    terminal(world).await.context("exec -it")?;
    let mut child = world.kubectl("attach train")?.stdout(Stdio::piped()).spawn()?;
    let mut lines = lines_of(&mut child)?;
    let path = world.folder.path().join("main.log");
    let attached = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let mut file = tokio::fs::OpenOptions::new().append(true).open(&path).await?;
            file.write_all(b"2026-01-01T00:00:03.000000000Z stdout F attached\n").await?;
            file.flush().await?;
        }
    };
    tokio::select! {
        line = next_line(&mut lines) => ensure!(line.context("attach")? == "attached"),
        failed = attached => return failed,
    }
    Ok(child.kill().await?)
}

/// Someone at a terminal, which script(1) plays: types when the other side has said something, and sees what becomes of it.
async fn terminal(world: &World) -> Result<()> {
    let is_there = Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    if is_there.is_err() {
        skip("kubectl exec -it", "there is no script(1), which plays a terminal");
        return Ok(());
    }
    // It ends by a line that it reads, not by itself, as kwok drops what a command says last on a terminal.
    let there = "tty; read line; echo typed: $line; read end";
    let kubectl = format!("{} -n team exec -it train -- sh -c '{there}'", Program::Kubectl.path()?.display());
    let mut script = Command::new("script");
    script.env("KUBECONFIG", world.home.admin_kubeconfig()).args(["--quiet", "--return", "--command", &kubectl, "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let (mut keys, mut screen) = (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
    let mut said = String::new();
    for (awaited, typed) in [("/dev/pts/", "hello\n"), ("typed: hello", "\n")] {
        let read = async {
            while !said.contains(awaited) {
                let mut bytes = [0; 1024];
                let count = screen.read(&mut bytes).await?;
                ensure!(count > 0, "the session ended");
                said.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            Ok(())
        };
        let read = tokio::time::timeout(STEP_TIMEOUT, read).await.unwrap_or_else(|_| Err(anyhow::anyhow!("nothing more comes")));
        read.with_context(|| format!("{awaited:?} did not come: {said:?}"))?;
        keys.write_all(typed.as_bytes()).await?;
        keys.flush().await?;
    }
    let status = tokio::time::timeout(STEP_TIMEOUT, child.wait()).await.context("the session does not end")??;
    ensure!(status.success(), "{status}: {said:?}");
    Ok(())
}

/// `ISOBAR_CLUSTER_COPY_MIB` makes it more than 20.
async fn copy(world: &World) -> Result<()> {
    let mebibytes = std::env::var("ISOBAR_CLUSTER_COPY_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(20_u32);
    let path = |name: &str| world.folder.path().join(name).display().to_string();
    let sent = noise(usize::try_from(mebibytes)? << 20);
    std::fs::write(path("sent"), &sent)?;
    // A machine that is busy with other things still does two megabytes in a second.
    let limit = STEP_TIMEOUT + Duration::from_millis(500) * mebibytes;
    let mut took = Vec::new();
    for (from, to, name) in
        [(path("sent"), format!("train:{}", path("there")), "there"), (format!("train:{}", path("there")), path("back"), "back")]
    {
        let begun = Instant::now();
        let output = tokio::time::timeout(limit, patient_output(world.kubectl(&format!("cp {from} {to}"))?, b""));
        let output = output.await.with_context(|| format!("kubectl cp {from} {to}"))??;
        took.push(begun.elapsed());
        ensure!(output.status.success() && std::fs::read(path(name))? == sent, "the copy {name} differs: {output:?}");
    }
    println!("kubectl cp of {mebibytes} MiB: {took:?} there and back");
    Ok(())
}

async fn port_forward(world: &World) -> Result<()> {
    let sent = noise(2 << 20);
    for websockets in ["true", "false"] {
        let mut command = world.kubectl("port-forward --address=127.0.0.1 pod/train :80")?;
        let mut child = command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets).stdout(Stdio::piped()).spawn()?;
        // Kept open: kubectl tells of each connection there.
        let mut lines = lines_of(&mut child)?;
        let line = next_line(&mut lines).await?;
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).with_context(|| line.clone())?;
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await?;
        let (mut from, mut to) = stream.split();
        let mut got = vec![0; sent.len()];
        let both = async { tokio::join!(to.write_all(&sent), from.read_exact(&mut got)) };
        let (written, read) = tokio::time::timeout(STEP_TIMEOUT, both).await?;
        written?;
        read?;
        ensure!(got == sent, "{websockets}: {} of {} bytes came back", got.len(), sent.len());
        child.kill().await?;
    }
    Ok(())
}

/// Whoever is nobody gets 401, whoever may not 403, and an annotation opens nobody else's run.
async fn callers(world: &World) -> Result<()> {
    let path = "/containerLogs/team/train/main";
    create(Api::<ServiceAccount>::namespaced(world.home.client(), "team"), json!({"metadata": {"name": "stranger"}})).await?;
    let stranger = token(&world.home.service_account_kubeconfig("team", "stranger").await?)?;
    for (token, code) in [(None, "401"), (Some("forged"), "401"), (Some(&stranger[..]), "403")] {
        let (got, body) = curl(world.address, path, token).await?;
        ensure!(got == code, "{token:?}: {got} {body}");
    }
    let folder = world.folder.path();
    world.remote.authority().client(KUBELET_CLIENT, &["system:masters"])?.write(folder, "foreign")?;
    world.home.authority().client("somebody", &[])?.write(folder, "somebody")?;
    world.home.authority().client(KUBELET_CLIENT, &[])?.write(folder, "apiserver")?;
    for (name, code) in [("foreign", "401"), ("somebody", "403"), ("apiserver", "200")] {
        let mut command = Command::new("curl");
        let file = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
        command.args(["--silent", "--cacert", &world.home.folder().join("ca.crt").display().to_string()]);
        command.args(["--cert", &file("crt"), "--key", &file("key"), "--write-out", "\n%{http_code}"]);
        let got = output(
            {
                command.arg(format!("https://{}{path}", world.address));
                command
            },
            b"",
        )
        .await?;
        let said = String::from_utf8_lossy(&got.stdout).into_owned();
        ensure!(said.ends_with(code), "{name}: {said} {}", String::from_utf8_lossy(&got.stderr));
    }
    let forged = world.run("exec forger -- id", &[], b"").await?;
    ensure!(!forged.status.success() && String::from_utf8_lossy(&forged.stderr).contains("the run is gone"), "{forged:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reaches_a_pod_that_runs_on_another_cluster() -> Result<()> {
    let programs = [Program::Etcd, Program::KubeApiserver, Program::KubeControllerManager, Program::Kwok, Program::Kubectl];
    if !available("kubectl_reaches_a_pod_that_runs_on_another_cluster", &programs) {
        return Ok(());
    }
    let world = World::start().await?;
    // Until the signer has signed and RBAC knows its new binding, the home API server and the endpoint refuse each other.
    until("the first log", async || world.says("logs train", "one\ntwo\n").await).await?;
    ensure!(world.metrics.render().contains("isobar_kubelet_certificates_total{result=\"applied\"} 1\n"));
    logs(&world).await.context("logs")?;
    exec(&world).await.context("exec and attach")?;
    copy(&world).await.context("cp")?;
    port_forward(&world).await.context("port-forward")?;
    callers(&world).await.context("callers")?;
    until("all sessions are over", async || {
        ensure!(world.metrics.render().contains("isobar_kubelet_tunnels 0\n"), "{}", world.metrics.render());
        Ok(())
    })
    .await?;
    world.run.delete("train-run", &DeleteParams::default().grace_period(0)).await?;
    until("the archive's answer", async || world.says("logs train", "kept\n").await).await?;
    let gone = world.run("exec train -- id", &[], b"").await?;
    ensure!(String::from_utf8_lossy(&gone.stderr).contains("the run is gone from compute cluster cloud"), "{gone:?}");
    Ok(())
}

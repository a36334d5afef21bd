//! A home control plane and compute control planes, each with nodes that kwok plays, and the real `isobar` between them. In: which clusters and nodes. Out:
//! clusters that were added as an admin adds them: with the rights that the manifests give, by `isobar cluster add`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use isobar::federation::names;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    harness::{
        apiserver::ApiserverOptions,
        assets::isobar,
        command::{kubectl, succeeded},
        control_plane::{ControlPlane, Options},
        kwok,
        ports::free_port,
        process::Process,
    },
    serving::{NAMESPACE, apply},
};

pub const TEAM: &str = "team";

/// A compute cluster as a test wants it.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub name: &'static str,
    /// Its nodes: how many, of which architecture, with how many GPUs each. They are named after the cluster and counted through.
    pub nodes: Vec<(usize, &'static str, u32)>,
    /// What an admin writes into the `ComputeCluster`.
    pub spec: Value,
}
/// What every container over there writes, line by line, as the container runtime's file has it.
const LOG: &str = "2026-01-01T00:00:00.000000000Z stdout F one\n2026-01-01T00:00:01.000000000Z stderr F two\n";
/// Of each list, when a test fails.
const TOLD_LINES: usize = 40;
/// How long anything may take that waits for several control planes on two busy cores, and what each pod adds to that: the programs of four control planes and
/// Isobar make some twenty requests for it.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_PER_POD: Duration = Duration::from_millis(200);
/// How often is looked at what is waited for; a look that takes long is repeated less often.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
const LOOK_SHARE: u32 = 5;

/// A compute cluster.
pub struct Compute {
    pub name: &'static str,
    pub plane: ControlPlane,
    _kwok: Process,
}

pub struct World {
    /// Dropped first: it talks to all.
    pub isobar: Option<Process>,
    pub home: ControlPlane,
    pub clusters: Vec<Compute>,
    pub folder: tempfile::TempDir,
    /// The run namespace on every compute cluster.
    pub runs: String,
    kubeconfig: PathBuf,
    /// The section `federation.images` of the configuration.
    images: Value,
    /// The section `tasks`, if there is to be one.
    tasks: Value,
    patience: Duration,
}

impl World {
    /// Everything up, and all clusters ready.
    pub async fn start(wanted: &[Wanted], images: Value) -> Result<Self> {
        Self::start_with(wanted, images, Value::Null).await
    }

    /// The same with tasks.
    pub async fn start_with(wanted: &[Wanted], images: Value, tasks: Value) -> Result<Self> {
        let apiserver = ApiserverOptions { kubelets: true, ..ApiserverOptions::default() };
        let controllers = Some("*,-persistentvolume-binder-controller".to_owned());
        let mut options = vec![Options { apiserver: apiserver.clone(), controllers, ..Options::default() }];
        options.resize_with(wanted.len() + 1, || Options { apiserver: apiserver.clone(), ..Options::default() });
        let mut planes = ControlPlane::start_all(options).await?.into_iter();
        let home = planes.next().context("a home cluster")?;
        let folder = tempfile::tempdir()?;
        let runs = names::run_namespace(&uid_of(&home).await?);
        let mut clusters = Vec::new();
        for (wanted, plane) in wanted.iter().zip(planes) {
            clusters.push(compute(wanted, plane, folder.path()).await?);
        }
        home.create_namespace(TEAM).await?;
        kwok::let_apiserver_ask(&home).await?;
        let kubeconfig = home_rights(&home).await?;
        if !tasks.is_null() {
            for file in ["crds/task.yaml", "crds/taskrun.yaml", "overlays/tasks/rbac.yaml"] {
                apply(&home, file)?;
            }
        }
        let mut world = Self { home, clusters, folder, runs, isobar: None, kubeconfig, images, tasks, patience: PATIENCE };
        world.start_isobar()?;
        for (cluster, wanted) in world.clusters.iter().zip(wanted) {
            world.add_cluster(cluster, &wanted.spec).await?;
        }
        for Wanted { name, .. } in wanted {
            world.wait_for_cluster(name, "Ready").await?;
        }
        Ok(world)
    }

    /// As patient as so many pods need it.
    pub fn with_pods(mut self, pods: usize) -> Self {
        self.patience = PATIENCE + PATIENCE_PER_POD * u32::try_from(pods).unwrap_or(u32::MAX);
        self
    }

    /// What the flag `--timeout` of kubectl says.
    pub fn timeout_flag(&self) -> String {
        format!("--timeout={}s", self.patience.as_secs())
    }

    /// Waits until something holds; what is in the way is said when it does not.
    pub async fn until<F: Future<Output = Result<Option<String>>>>(&self, what: &str, mut problem: impl FnMut() -> F) -> Result<()> {
        let begin = Instant::now();
        loop {
            let look = Instant::now();
            let Some(problem) = problem().await? else { return Ok(()) };
            ensure!(begin.elapsed() < self.patience, "{what}: not within {:?}: {problem}", self.patience);
            tokio::time::sleep(LOOK_PERIOD.max(look.elapsed() * LOOK_SHARE)).await;
        }
    }

    /// Starts `isobar run` with what the service account of the manifests may do, and the federation on.
    pub fn start_isobar(&mut self) -> Result<()> {
        let port = free_port()?;
        let config = self.folder.path().join("isobar.yaml");
        fs::write(&config, self.configuration(port))?;
        let arguments = [
            "run".to_owned(),
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            "--secure-port=0".to_owned(),
        ];
        self.isobar = Some(Process::start("isobar", &isobar(), arguments, self.home.folder())?);
        Ok(())
    }

    fn configuration(&self, port: u16) -> String {
        let scheduler = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": false}, "profiles": [{"schedulerName": "isobar-scheduler"}],
        });
        let mut own = json!({
            "apiVersion": "isobar.dev/v1alpha1", "kind": "IsobarConfiguration",
            "federation": {
                "enabled": true,
                "kubeletEndpoint": {"bindAddress": "127.0.0.1", "port": port, "advertiseAddress": "127.0.0.1"},
                "archive": {"folder": self.folder.path().join("archive")},
                "images": self.images,
            },
        });
        if !self.tasks.is_null() {
            own["tasks"] = self.tasks.clone();
        }
        format!("{scheduler:#}\n---\n{own:#}\n")
    }

    async fn add_cluster(&self, Compute { name, plane, .. }: &Compute, spec: &Value) -> Result<()> {
        let role = self.isobar(&["cluster", "role", "--run-namespace", &self.runs]).await?;
        let file = self.folder.path().join(format!("{name}-role.yaml"));
        fs::write(&file, role.stdout)?;
        let applied = plane.kubectl(["apply", "-f", file.to_str().context("a path")?])?;
        ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let access = plane.service_account_kubeconfig("isobar-access", "isobar").await?;
        self.isobar(&["cluster", "add", name, "--kubeconfig", access.to_str().context("a path")?]).await?;
        let patch = json!({ "spec": spec }).to_string();
        self.kubectl(&["patch", "computecluster", name, "--type=merge", "-p", &patch]).await?;
        Ok(())
    }

    /// Waits for a condition of a `ComputeCluster`.
    pub async fn wait_for_cluster(&self, name: &str, condition: &str) -> Result<()> {
        let wanted = format!("--for=condition={condition}");
        let waited = self.kubectl(&["wait", &wanted, &format!("computecluster/{name}"), &self.timeout_flag()]).await;
        let told = || self.isobar.as_ref().map(Process::log_tail).unwrap_or_default();
        waited.map(|_| ()).with_context(|| format!("{name} is not {condition}\n{}", told()))
    }

    /// `isobar` as the admin of home.
    pub async fn isobar(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(isobar());
        command.env("KUBECONFIG", self.home.admin_kubeconfig()).args(arguments);
        succeeded(command, arguments).await
    }

    /// kubectl at home.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        kubectl(&self.home, arguments).await
    }

    /// What kubectl at home prints.
    pub async fn shows(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8(self.kubectl(arguments).await?.stdout)?)
    }

    /// What helps to find out why something did not happen.
    pub async fn told(&self) -> String {
        let mut told = self.isobar.as_ref().map(Process::log_tail).unwrap_or_default();
        for arguments in
            [&["get", "pods", "-A", "-o", "wide"][..], &["get", "events", "-n", TEAM], &["get", "computeclusters", "-o", "yaml"]]
        {
            let shown = self.shows(arguments).await.unwrap_or_else(|error| format!("{error:#}"));
            let lines: Vec<&str> = shown.lines().take(TOLD_LINES).collect();
            told = format!("{told}\n--- {arguments:?}\n{}", lines.join("\n"));
        }
        told
    }

    /// Everything that bears our label over there.
    pub async fn leftovers(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for Compute { name, plane, .. } in &self.clusters {
            let listed = kubectl(plane, &["get", "pods,secrets", "-A", "-l", names::RUN_HOME_CLUSTER, "-o", "name"]).await?;
            left.extend(String::from_utf8(listed.stdout)?.lines().map(|line| format!("{name}: {line}")));
        }
        Ok(left)
    }
}

async fn uid_of(plane: &ControlPlane) -> Result<String> {
    let namespaces: Api<Namespace> = Api::all(plane.client());
    namespaces.get("kube-system").await?.metadata.uid.context("kube-system has a UID")
}

/// The account of the manifests, with a token.
async fn home_rights(home: &ControlPlane) -> Result<PathBuf> {
    for file in
        ["crds/computecluster.yaml", "base/namespace.yaml", "base/serviceaccount.yaml", "base/rbac.yaml", "overlays/federated/rbac.yaml"]
    {
        apply(home, file)?;
    }
    // This one says its namespace itself.
    let leases = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/overlays/federated/node-lease-role.yaml");
    kubectl(home, &["apply", "-f", leases.to_str().context("a path")?]).await?;
    home.service_account_kubeconfig(NAMESPACE, "isobar").await
}

async fn compute(wanted: &Wanted, plane: ControlPlane, folder: &Path) -> Result<Compute> {
    let port = free_port()?;
    let name = wanted.name;
    let answers = write_answers(folder, name)?;
    let serving = plane.authority().server("kwok", &["127.0.0.1"])?;
    let kwok = kwok::start_answering(plane.admin_kubeconfig(), plane.folder(), &serving, port, &answers)?;
    let nodes = wanted.nodes.iter().flat_map(|(count, architecture, gpus)| (0..*count).map(move |_| (*architecture, *gpus)));
    for (number, (architecture, gpus)) in nodes.enumerate() {
        create_node(&plane, &format!("{name}-{number:02}"), architecture, gpus, port).await?;
    }
    Ok(Compute { name, plane, _kwok: kwok })
}

/// What kwok answers with: the same log for every container, and commands that run here.
fn write_answers(folder: &Path, name: &str) -> Result<PathBuf> {
    let work = folder.join(name);
    fs::create_dir_all(&work)?;
    let log = work.join("container.log");
    fs::write(&log, LOG)?;
    let object =
        |kind: &str, spec: Value| json!({"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": {"name": "all"}, "spec": spec});
    let objects = [
        object("ClusterLogs", json!({"logs": [{"logsFile": log, "follow": false}]})),
        object("ClusterExec", json!({"execs": [{"local": {"workDir": work}}]})),
    ];
    let path = work.join("kwok-answers.yaml");
    fs::write(&path, objects.map(|object| object.to_string()).join("\n---\n"))?;
    Ok(path)
}

async fn create_node(plane: &ControlPlane, name: &str, architecture: &str, gpus: u32, port: u16) -> Result<()> {
    let mut resources = json!({"cpu": "16", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let mut labels = json!({
        "kubernetes.io/arch": architecture, "kubernetes.io/os": "linux", "kubernetes.io/hostname": name,
    });
    if gpus > 0 {
        resources["nvidia.com/gpu"] = gpus.to_string().into();
        labels["nvidia.com/gpu.product"] = "A100".into();
    }
    let nodes: Api<Node> = Api::all(plane.client());
    let object = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
    nodes.create(&PostParams::default(), &object).await?;
    let status = json!({"status": {
        "capacity": resources, "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {"architecture": architecture, "operatingSystem": "linux", "kubeletVersion": "v1.37.1", "kernelVersion": "", "osImage": "",
            "containerRuntimeVersion": "kwok", "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": ""},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": null, "lastTransitionTime": null}],
    }});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

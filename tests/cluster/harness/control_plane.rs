//! A whole control plane. In: options. Out: etcd and kube-apiserver answering on loopback within seconds, a client and kubeconfigs for them,
//! and, where asked for, kube-controller-manager and kwok. Dropping it ends every child and removes its files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    apiserver::{Apiserver, ApiserverOptions},
    assets::Program,
    certificates::Authority,
    etcd::Etcd,
    kubeconfig::{Credential, render},
    kwok,
    process::Process,
};

/// A cold page cache and two busy cores made it 20 s once; idle it is 4 s.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Another program may take a port between our look and the child's.
const START_ATTEMPTS: u32 = 3;
/// tmpfs is worth it only where the store fits: a run of 20,000 pods writes about 1 GiB.
const TMPFS_ROOM_KIB: u64 = 2 * 1024 * 1024;

/// One test at a time has control planes: two tests would measure each other on a small machine.
static SLOT: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub apiserver: ApiserverOptions,
    /// Runs kube-controller-manager with this `--controllers` list.
    pub controllers: Option<String>,
    /// Runs kwok with fast stages, which carries bound pods to Running, Jobs' pods to Succeeded and deleted pods away.
    pub kwok: bool,
}

pub struct ControlPlane {
    client: Client,
    admin: PathBuf,
    authority: Authority,
    // Dropped in this order: whoever talks goes before whom it talks to.
    kwok: Option<Process>,
    controller_manager: Option<Process>,
    apiserver: Apiserver,
    etcd: Etcd,
    folder: TempDir,
    slot: Arc<OwnedMutexGuard<()>>,
}

impl ControlPlane {
    pub async fn start(options: Options) -> Result<Self> {
        Self::start_in(options, Arc::new(Arc::clone(&SLOT).lock_owned().await)).await
    }

    /// Several side by side, each with its own authority: a home cluster and compute clusters.
    pub async fn start_many<const N: usize>(options: [Options; N]) -> Result<[Self; N]> {
        let planes = Self::start_all(options.to_vec()).await?;
        planes.try_into().map_err(|_| anyhow::anyhow!("as many control planes as options"))
    }

    /// The same for a number that is not known beforehand.
    pub async fn start_all(options: Vec<Options>) -> Result<Vec<Self>> {
        let slot = Arc::new(Arc::clone(&SLOT).lock_owned().await);
        futures::future::try_join_all(options.into_iter().map(|options| Self::start_in(options, Arc::clone(&slot)))).await
    }

    async fn start_in(options: Options, slot: Arc<OwnedMutexGuard<()>>) -> Result<Self> {
        let folder = working_folder()?;
        let authority = Authority::new()?;
        authority.write_server_files(folder.path())?;
        let (etcd, apiserver, client, admin) = start_servers(folder.path(), &authority, &options.apiserver).await?;
        let mut plane = Self { client, admin, authority, kwok: None, controller_manager: None, apiserver, etcd, folder, slot };
        if let Some(controllers) = &options.controllers {
            plane.controller_manager = Some(plane.start_controller_manager(controllers)?);
        }
        if options.kwok {
            plane.kwok = Some(kwok::start(&plane.admin, plane.folder())?);
        }
        Ok(plane)
    }

    /// The administrator's client (`system:masters`).
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Who signs this control plane's certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// Where logs, configurations and kubeconfigs of this control plane lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        self.apiserver.url()
    }

    /// A kubeconfig with a client certificate for `user`; the audit log then tells its requests from all others.
    pub fn user_kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        write_kubeconfig(self.folder(), user, &self.url(), &self.authority, &Credential::Certificate(self.authority.client(user, groups)?))
    }

    /// A kubeconfig with a token of a service account, as a pod of it would have. The account must exist.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let request =
            TokenRequest { spec: Some(TokenRequestSpec { expiration_seconds: Some(3600), ..Default::default() }), ..Default::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await.context("request a token")?;
        let token = answer.status.and_then(|status| status.token).context("the token request has no token")?;
        write_kubeconfig(self.folder(), &format!("{namespace}-{name}"), &self.url(), &self.authority, &Credential::Token(token))
    }

    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let namespace = Namespace { metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, ..Default::default() };
        Api::all(self.client()).create(&PostParams::default(), &namespace).await.with_context(|| format!("create namespace {name}"))?;
        Ok(())
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Output> {
        let mut command = Command::new(Program::Kubectl.path()?);
        command.env("KUBECONFIG", &self.admin).args(arguments).stdin(Stdio::null());
        command.output().context("run kubectl")
    }

    fn start_controller_manager(&self, controllers: &str) -> Result<Process> {
        let kubeconfig = self.user_kubeconfig("system:kube-controller-manager", &["system:masters"])?;
        let file = |name: &str| self.folder().join(name).display().to_string();
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--authentication-kubeconfig={}", kubeconfig.display()),
            format!("--authorization-kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", super::ports::free_port()?),
            format!("--cert-dir={}", file("controller-manager-certificates")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--service-account-private-key-file={}", file("service-accounts.key")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            "--kube-api-qps=5000".to_owned(),
            "--kube-api-burst=10000".to_owned(),
            format!("--controllers={controllers}"),
        ];
        Process::start("kube-controller-manager", &Program::KubeControllerManager.path()?, arguments, self.folder())
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::env::var_os("ISOBAR_CLUSTER_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept {}", self.folder.path().display());
        }
    }
}

/// `ISOBAR_CLUSTER_FOLDER`, else tmpfs where there is room, else the system's own temporary folder.
fn working_folder() -> Result<TempDir> {
    let parent = match std::env::var_os("ISOBAR_CLUSTER_FOLDER") {
        Some(folder) => PathBuf::from(folder),
        None if tmpfs_has_room() => PathBuf::from("/dev/shm"),
        None => std::env::temp_dir(),
    };
    tempfile::Builder::new().prefix("isobar-cluster-").tempdir_in(&parent).with_context(|| format!("make a folder in {}", parent.display()))
}

fn tmpfs_has_room() -> bool {
    let Ok(answer) = Command::new("df").args(["--output=avail", "-k", "/dev/shm"]).output() else { return false };
    let text = String::from_utf8_lossy(&answer.stdout);
    text.lines().last().and_then(|line| line.trim().parse::<u64>().ok()).is_some_and(|free| free >= TMPFS_ROOM_KIB)
}

async fn start_servers(folder: &Path, authority: &Authority, options: &ApiserverOptions) -> Result<(Etcd, Apiserver, Client, PathBuf)> {
    let mut attempt = 1;
    loop {
        let mut etcd = Etcd::start(folder)?;
        let mut apiserver = Apiserver::start(folder, &etcd.url(), options)?;
        let admin = Credential::Certificate(authority.client("admin", &["system:masters"])?);
        let kubeconfig = write_kubeconfig(folder, "admin", &apiserver.url(), authority, &admin)?;
        let client = client_for(&kubeconfig).await?;
        match wait_ready(&client, &mut etcd, &mut apiserver).await {
            Ok(()) => return Ok((etcd, apiserver, client, kubeconfig)),
            Err(problem) if attempt < START_ATTEMPTS && problem.to_string().contains("address already in use") => attempt += 1,
            Err(problem) => return Err(problem),
        }
        drop((apiserver, etcd));
        fs::remove_dir_all(folder.join("etcd")).context("remove the failed store")?;
    }
}

async fn wait_ready(client: &Client, etcd: &mut Etcd, apiserver: &mut Apiserver) -> Result<()> {
    let begin = Instant::now();
    loop {
        etcd.process.ensure_running()?;
        apiserver.process.ensure_running()?;
        let request = http::Request::get("/readyz").body(Vec::new())?;
        // `default` comes from a start hook that readiness does not wait for.
        if client.request_text(request).await.is_ok() && Api::<Namespace>::all(client.clone()).get("default").await.is_ok() {
            return Ok(());
        }
        if begin.elapsed() > READY_WITHIN {
            bail!("kube-apiserver not ready within {READY_WITHIN:?}\n{}", apiserver.process.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn write_kubeconfig(folder: &Path, name: &str, url: &str, authority: &Authority, credential: &Credential) -> Result<PathBuf> {
    let path = folder.join(format!("{}.kubeconfig", name.replace(':', "-")));
    fs::write(&path, render(url, &authority.pem(), credential)).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// A client with the timeouts of a test, for any kubeconfig.
pub async fn client_for(kubeconfig: &Path) -> Result<Client> {
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

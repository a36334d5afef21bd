//! Stores on loopback: a real S3 server over a folder, a real registry, a real NATS server. In: a folder. Out: a running program and its address.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::net::TcpStream;

use super::{assets::Program, ports::free_port, process::Process};

/// Idle it is a tenth of a second.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Who may use the S3 server.
pub const S3_KEY: (&str, &str) = ("isobar-test", "a-secret-for-tests");

/// Who may use the registry; the line is what `htpasswd -nbB` says of them.
pub const REGISTRY_USER: (&str, &str) = ("user", "secret");
const REGISTRY_HTPASSWD: &str = "user:$2a$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

pub struct Store {
    pub process: Process,
    pub port: u16,
}

impl Store {
    /// versitygw: each folder in its root is a bucket.
    pub async fn s3(folder: &Path, bucket: &str) -> Result<Self> {
        let (root, meta) = (folder.join("buckets"), folder.join("meta"));
        fs::create_dir_all(root.join(bucket))?;
        fs::create_dir_all(&meta)?;
        let port = free_port()?;
        let (key, secret) = S3_KEY;
        let arguments = [
            format!("--access={key}"),
            format!("--secret={secret}"),
            format!("--port=127.0.0.1:{port}"),
            "posix".to_owned(),
            // Not every file system of a test machine has extended attributes.
            format!("--sidecar={}", meta.display()),
            root.display().to_string(),
        ];
        Self { process: Process::start("s3", &Program::S3.path()?, arguments, folder)?, port }.ready().await
    }

    /// The reference implementation of a registry, for one user.
    pub async fn registry(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let (passwords, config) = (folder.join("htpasswd"), folder.join("registry.yaml"));
        fs::write(&passwords, REGISTRY_HTPASSWD)?;
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{ level: warn }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n\
                 auth: {{ htpasswd: {{ realm: tests, path: {} }} }}\n",
                folder.join("images").display(),
                passwords.display()
            ),
        )?;
        let arguments = ["serve".to_owned(), config.display().to_string()];
        Self { process: Process::start("registry", &Program::Registry.path()?, arguments, folder)?, port }.ready().await
    }

    /// nats-server, on this port if it had one before. What its streams hold stays in the folder. `more` is added to its configuration.
    pub async fn nats(folder: &Path, port: Option<u16>, more: &str) -> Result<Self> {
        let port = port.map_or_else(free_port, Ok)?;
        let config = folder.join("nats.conf");
        let store = folder.join("jetstream");
        // Messages of more than 8 MiB are allowed, so that our own bound is tested and not the server's.
        let text = format!(
            "listen: '127.0.0.1:{port}'\njetstream {{ store_dir: '{}' }}\nmax_payload: 16MB\nmax_pending: 64MB\n{more}\n",
            store.display()
        );
        fs::write(&config, text)?;
        let arguments = ["--config".to_owned(), config.display().to_string()];
        Self { process: Process::start("nats", &Program::Nats.path()?, arguments, folder)?, port }.ready().await
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn ready(mut self) -> Result<Self> {
        let begin = Instant::now();
        while TcpStream::connect(self.address()).await.is_err() {
            self.process.ensure_running()?;
            if begin.elapsed() > READY_WITHIN {
                bail!("{} does not listen after {READY_WITHIN:?}\n{}", self.address(), self.process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self)
    }
}

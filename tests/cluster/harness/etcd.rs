//! etcd on loopback. In: a data folder. Out: a running store and its client address.

use std::path::Path;

use anyhow::Result;

use super::{assets::Program, ports::free_port, process::Process};

pub struct Etcd {
    pub process: Process,
    pub port: u16,
}

impl Etcd {
    pub fn start(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let data = folder.join("etcd");
        let arguments = [
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // A test's data need not survive a power cut.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            // 4 GiB: 20,000 pods with all their versions are far below, the default of 2 GiB is not far above.
            "--quota-backend-bytes=4294967296".to_owned(),
        ];
        let process = Process::start("etcd", &Program::Etcd.path()?, arguments, folder)?;
        Ok(Self { process, port })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

//! The three commands of `manifests/adapters/ecflow` with a real ecFlow server: a task that ends well, one that does not, one that is killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::harness::{
    assets::{isobar, skip},
    command::succeeded,
    ports::free_port,
    process::Process,
};

/// How long anything may take on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// Programs of Debian's `ecflow-server` and `ecflow-client`.
fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

struct Suite {
    client: PathBuf,
    port: String,
    _server: Process,
}

impl Suite {
    async fn start(folder: &Path, kubeconfig: &Path, server: &Path, client: PathBuf) -> Result<Self> {
        let port = free_port()?.to_string();
        let adapters = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/adapters/ecflow");
        for (task, variables) in [
            ("good", "ISOBAR_TASK=job ISOBAR_PARAMS=\"p=ecflow\" ISOBAR_CYCLE=%CYCLE%"),
            ("bad", "ISOBAR_TASK=job ISOBAR_PARAMS=\"q=1\""),
            ("long", "ISOBAR_TASK=never"),
        ] {
            let own = "ECF_NAME=%ECF_NAME% ECF_PASS=%ECF_PASS% ECF_TRYNO=%ECF_TRYNO% ECF_HOST=127.0.0.1 ECF_PORT=%ECF_PORT%";
            fs::create_dir_all(folder.join("s"))?;
            fs::write(folder.join(format!("s/{task}.ecf")), format!("{own}\n{variables}\n"))?;
        }
        let (folder_text, adapters) = (folder.display(), adapters.display());
        let suite = format!(
            "suite s\n  edit ECF_HOME '{folder_text}'\n  edit ECF_FILES '{folder_text}/s'\n  edit ECF_TRIES '1'\n  edit CYCLE '2026-11-28T06:00:00Z'\n  \
             edit ECF_JOB_CMD '{adapters}/isobar-submit %ECF_JOB% %ECF_JOBOUT%'\n  edit ECF_KILL_CMD '{adapters}/isobar-kill %ECF_RID% %ISOBAR_NAMESPACE:%'\n  \
             edit ECF_STATUS_CMD '{adapters}/isobar-status %ECF_RID% %ECF_JOB%.stat %ISOBAR_NAMESPACE:%'\n  task good\n  task bad\n  task long\nendsuite\n"
        );
        fs::write(folder.join("s.def"), suite)?;
        let arguments = [
            format!("ECF_PORT={port}"),
            format!("ECF_HOME={folder_text}"),
            format!("KUBECONFIG={}", kubeconfig.display()),
            format!("ISOBAR={}", isobar().display()),
            format!("ECFLOW_CLIENT={}", client.display()),
            server.display().to_string(),
        ];
        let server = Process::start("ecflow_server", Path::new("/usr/bin/env"), arguments, folder)?;
        let suite = Self { client, port, _server: server };
        let begin = Instant::now();
        while suite.ask(&["--ping"]).await.is_err() {
            ensure!(begin.elapsed() < PATIENCE, "ecflow_server does not answer");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        suite.ask(&[&format!("--load={folder_text}/s.def")]).await?;
        suite.ask(&["--restart"]).await?;
        suite.ask(&["--begin=s"]).await?;
        Ok(suite)
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.client);
        command.env("ECF_HOST", "127.0.0.1").env("ECF_PORT", &self.port).args(arguments);
        Ok(String::from_utf8(succeeded(command, arguments).await?.stdout)?)
    }

    async fn until(&self, task: &str, wanted: &str) -> Result<()> {
        let begin = Instant::now();
        loop {
            let state = self.ask(&["--query", "state", &format!("/s/{task}")]).await?;
            if state.trim() == wanted {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{task} is {state}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Needs the tasks `job` (with a parameter `p`, many at once) and `never`, which no node takes.
pub async fn suite(folder: &Path, kubeconfig: &Path) -> Result<()> {
    let (Some(server), Some(client)) = (program("ecflow_server"), program("ecflow_client")) else {
        skip("the ecFlow adapter", "not found: ecflow_server and ecflow_client; install Debian's ecflow-server and ecflow-client");
        return Ok(());
    };
    let folder = folder.join("ecflow");
    fs::create_dir_all(&folder)?;
    let suite = Suite::start(&folder, kubeconfig, &server, client).await?;
    suite.until("good", "complete").await?;
    suite.until("bad", "aborted").await?;
    let output = fs::read_to_string(folder.join("s/good.1")).context("the job's output")?;
    ensure!(output.contains("one\ntwo\n") && output.contains("p=ecflow"), "{output}");

    suite.until("long", "active").await?;
    suite.ask(&["--status=/s/long"]).await?;
    let begin = Instant::now();
    let file = folder.join("s/long.job1.stat");
    while !fs::read_to_string(&file).unwrap_or_default().contains("Task          never") {
        ensure!(begin.elapsed() < PATIENCE, "{}: {:?}", file.display(), fs::read_to_string(&file));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    suite.ask(&["--kill=/s/long"]).await?;
    suite.until("long", "aborted").await?;
    Ok(())
}

//! `isobar demo --serve` with the real kubectl: what a newcomer does in another terminal.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::harness::{
    assets::{Program, available, isobar, isobar_available},
    process::Process,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Terminal {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    // kubectl keeps what it discovered in the home folder; the next run of this test may get the same port.
    home: TempDir,
}

impl Terminal {
    fn run(&self, program: &Path, line: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.home.path()).args(line.split(' ')).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{line}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    fn kubectl(&self, line: &str) -> Result<String> {
        self.run(&self.kubectl, line)
    }

    /// Repeats the line until it says `wanted`.
    async fn until(&self, line: &str, wanted: &str) -> Result<String> {
        let begin = Instant::now();
        loop {
            let said = self.kubectl(line);
            match &said {
                Ok(text) if text.contains(wanted) => return said,
                _ if begin.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(200)).await,
                _ => anyhow::bail!("{line} never said {wanted:?}: {said:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works_on_the_served_demo() -> Result<()> {
    let test = "kubectl_works_on_the_served_demo";
    if !available(test, &[Program::Kubectl]) || !isobar_available(test) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    let arguments = ["demo".to_owned(), "--serve".to_owned(), format!("--out={}", out.display())];
    let mut demo = Process::start("demo", &isobar(), arguments, folder.path())?;
    let terminal = Terminal { kubectl: Program::Kubectl.path()?, kubeconfig: out.join("kubeconfig"), home: tempfile::tempdir()? };

    let nodes = terminal.until("get nodes", "Ready").await.with_context(|| demo.log_tail())?;
    ensure!(nodes.lines().count() > 3, "{nodes}");
    // The lines that the program prints, then the rest of what people do.
    terminal.kubectl("get nodes,pods -o wide")?;
    terminal.kubectl("run hello --image=registry.example/hello:1")?;
    let described = terminal.until("describe pod hello", "Successfully assigned default/hello to").await?;
    ensure!(described.contains("Node:") && described.contains("default-scheduler"), "{described}");
    terminal.until("get pod hello", "Running").await?;
    let why = terminal.run(&isobar(), "explain default/wants-riscv")?;
    ensure!(why.contains("node(s) didn't match Pod's node affinity/selector"), "{why}");
    terminal.until("get events --field-selector reason=FailedScheduling", "wants-riscv").await?;
    // Tasks are there as well: one that the clock starts, and one that a person has begun and runs.
    let tasks = terminal.run(&isobar(), "task list")?;
    ensure!(tasks.contains("radar-volume") && tasks.contains("*/6 * * * *"), "{tasks}");
    terminal.until("get taskruns -o jsonpath={.items[*].status.phase}", "Running").await?;
    terminal.kubectl("label pod hello tier=demo")?;
    ensure!(terminal.kubectl("get pods -l tier=demo -o name")?.trim() == "pod/hello");
    terminal.kubectl("delete pod hello --wait=true")?;
    ensure!(!terminal.kubectl("get pods -o name")?.contains("pod/hello"));

    let status = demo.stop(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", demo.log_tail());
    Ok(())
}

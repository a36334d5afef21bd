//! The job runner of `manifests/adapters/cylc` under a real Cylc scheduler: a job that ends well, one that is refused, one that is looked at and killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::harness::{
    assets::{Program, available, isobar},
    command::succeeded,
    process::Process,
    waiting::eventually,
};

/// How long anything may take on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);
const CYCLE: &str = "20261128T0600Z";
const WORKFLOW: &str = r#"
[scheduler]
    UTC mode = True
[scheduling]
    initial cycle point = 20261128T0600Z
    final cycle point = 20261128T0600Z
    [[graph]]
        R1 = good & bad & long
[runtime]
    [[root]]
        platform = isobar
        script = eval "$ISOBAR_WAIT"
    [[good]]
        [[[directives]]]
            task = job
            cycle = 2026-11-28T06:00:00Z
            param.p = cylc
    [[bad]]
        [[[directives]]]
            task = job
            param.q = 1
    [[long]]
        [[[directives]]]
            task = never
"#;

struct Workflow {
    /// `HOME` of Cylc, below which it keeps everything.
    home: PathBuf,
    variables: Vec<(&'static str, String)>,
    scheduler: Process,
}

impl Workflow {
    fn start(home: PathBuf, kubeconfig: &Path) -> Result<Self> {
        let programs = Program::Cylc.path()?.parent().context("a folder of programs")?.to_path_buf();
        let source = home.join("cylc-run/s");
        fs::create_dir_all(source.join("lib/python"))?;
        fs::write(source.join("flow.cylc"), WORKFLOW)?;
        let adapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/adapters/cylc/isobar.py");
        fs::copy(&adapter, source.join("lib/python/isobar.py"))?;
        let site = format!(
            "[scheduler]\n    [[host self-identification]]\n        method = hardwired\n        host = localhost\n[platforms]\n    [[isobar]]\n        \
             hosts = localhost\n        install target = localhost\n        job runner = isobar\n        cylc path = {}\n",
            programs.display()
        );
        fs::write(home.join("global.cylc"), site)?;
        let path = std::env::var("PATH").context("PATH")?;
        let variables = vec![
            ("HOME", home.display().to_string()),
            ("CYLC_CONF_PATH", home.display().to_string()),
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("ISOBAR", isobar().display().to_string()),
            ("PATH", format!("{}:{path}", programs.display())),
        ];
        let assignments = variables.iter().map(|(name, value)| format!("{name}={value}"));
        let play = ["cylc", "play", "--no-detach", "s"].map(str::to_owned);
        let scheduler = Process::start("cylc", Path::new("/usr/bin/env"), assignments.chain(play), &home)?;
        Ok(Self { home, variables, scheduler })
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(Program::Cylc.path()?);
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).args(arguments);
        Ok(String::from_utf8(succeeded(command, arguments).await?.stdout)?)
    }

    async fn until(&self, task: &str, state: &str) -> Result<()> {
        let wanted = format!("{CYCLE}/{task}:{state}");
        let look = async || {
            // Until the scheduler has made its database the command fails.
            let states = self.ask(&["workflow-state", "--max-polls=1", "s"]).await.unwrap_or_else(|error| error.to_string());
            Ok(if states.lines().any(|line| line == wanted) { Ok(()) } else { Err(states) })
        };
        let told = || format!("{}\n{:?} {:?}", self.scheduler.log_tail(), self.job(task, "job.out"), self.job(task, "job.err"));
        eventually(PATIENCE, &wanted, look).await.with_context(told)
    }

    /// Jobs would be lost if a cluster that does not answer looked like one without runs.
    async fn polls_nothing_without_a_cluster(&self) -> Result<()> {
        let mut command = Command::new("python3");
        command.arg(self.home.join("cylc-run/s/lib/python/isobar.py")).arg("never-1").env("ISOBAR", "false");
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains("does not answer"), "{said}");
        Ok(())
    }

    fn job(&self, task: &str, file: &str) -> Result<String> {
        let path = self.home.join("cylc-run/s/log/job").join(CYCLE).join(task).join("01").join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

/// Needs the tasks `job` (with a parameter `p`, many at once) and `never`, which no node takes. Out: whether Cylc is there.
pub async fn suite(folder: &Path, kubeconfig: &Path) -> Result<bool> {
    if !available("the Cylc job runner", &[Program::Cylc]) {
        return Ok(false);
    }
    let mut workflow = Workflow::start(folder.join("cylc"), kubeconfig)?;
    workflow.until("good", "succeeded").await?;
    let output = workflow.job("good", "job.out")?;
    ensure!(output.contains("one\ntwo\n"), "the log of the run is in the job's: {output}");
    workflow.until("bad", "failed").await?;
    let told = workflow.job("bad", "job.out")? + &workflow.job("bad", "job.err")?;
    ensure!(told.contains("no parameter q"), "the reason is told: {told}");

    workflow.until("long", "running").await?;
    let long = format!("s//{CYCLE}/long");
    workflow.ask(&["poll", &long]).await?;
    let look = async || {
        let told = workflow.job("long", "job-activity.log")?;
        Ok(if told.contains("\"job_runner_exit_polled\": 0") { Ok(()) } else { Err(told) })
    };
    eventually(PATIENCE, "what polling finds", look).await?;
    workflow.polls_nothing_without_a_cluster().await?;
    workflow.ask(&["kill", &long]).await?;
    workflow.until("long", "failed").await?;
    ensure!(workflow.job("long", "job.status")?.contains("CYLC_JOB_ID=never-"), "{}", workflow.job("long", "job.status")?);
    workflow.scheduler.kill()?;
    Ok(true)
}

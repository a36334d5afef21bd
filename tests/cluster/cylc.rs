//! The job runner of `manifests/adapters/cylc` under a real Cylc scheduler: a job that ends well, one that is killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::harness::{assets::isobar, command::succeeded, process::Process};

/// How long anything may take on two busy cores: each job starts several Python programs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Everything on loopback, and a platform whose jobs are runs of tasks.
const GLOBAL: &str = "[scheduler]
    [[host self-identification]]
        method = hardwired
        host = 127.0.0.1
[platforms]
    [[isobar]]
        hosts = localhost
        job runner = isobar
";

/// `long` may fail: it is killed.
const FLOW: &str = "[scheduling]
    [[graph]]
        R1 = \"\"\"
            good
            long?
        \"\"\"
[runtime]
    [[root]]
        platform = isobar
        script = eval \"$ISOBAR_WAIT\"
    [[good]]
        [[[directives]]]
            task = hand
            cycle = 2026-11-28T06:00:00Z
            param.p = cylc
    [[long]]
        [[[directives]]]
            task = never
";

/// Cylc, if it is installed.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("cylc")).find(|program| program.is_file())
}

struct Workflow {
    cylc: PathBuf,
    /// Its home, with `cylc-run`.
    home: PathBuf,
    environment: Vec<String>,
    kubeconfig: PathBuf,
}

impl Workflow {
    fn new(folder: &Path, kubeconfig: &Path, cylc: PathBuf) -> Result<Self> {
        let home = folder.join("cylc");
        let source = home.join("source");
        fs::create_dir_all(source.join("lib/python"))?;
        fs::create_dir_all(home.join("conf"))?;
        fs::write(home.join("conf/global.cylc"), GLOBAL)?;
        fs::write(source.join("flow.cylc"), FLOW)?;
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/adapters/cylc/isobar.py");
        fs::copy(module, source.join("lib/python/isobar.py"))?;
        let environment = vec![
            format!("HOME={}", home.display()),
            format!("CYLC_CONF_PATH={}", home.join("conf").display()),
            format!("KUBECONFIG={}", kubeconfig.display()),
            format!("ISOBAR={}", isobar().display()),
        ];
        Ok(Self { cylc, home, environment, kubeconfig: kubeconfig.to_owned() })
    }

    async fn cylc(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("/usr/bin/env");
        command.args(&self.environment).arg(&self.cylc).args(arguments);
        Ok(String::from_utf8(succeeded(command, arguments).await?.stdout)?)
    }

    /// The run whose key ends so, once there is one.
    async fn run(&self, key: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let begin = Instant::now();
        loop {
            let mut command = Command::new(isobar());
            command.env("KUBECONFIG", &self.kubeconfig).args(["task", "runs", "-o", "json"]);
            let runs: Value = serde_json::from_slice(&succeeded(command, &["runs"]).await?.stdout)?;
            let of_key = |run: &&Value| run["spec"]["trigger"]["key"].as_str().is_some_and(|found| found.ends_with(key));
            if let Some(run) = runs["items"].as_array().into_iter().flatten().find(of_key).filter(|run| wanted(run)) {
                return Ok(run.clone());
            }
            ensure!(begin.elapsed() < PATIENCE, "{key}: {}\n{}", runs["items"], self.told());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.join("cylc-run/w/log").join(name)
    }

    fn told(&self) -> String {
        [
            "scheduler/log",
            "job/1/good/NN/job.out",
            "job/1/good/NN/job.err",
            "job/1/good/NN/job-activity.log",
            "job/1/long/NN/job-activity.log",
        ]
        .map(|name| format!("--- {name}\n{}", fs::read_to_string(self.file(name)).unwrap_or_default()))
        .join("\n")
    }
}

/// Needs the tasks `hand` (with a parameter `p`) and `never`, which no node takes.
pub async fn workflow(folder: &Path, kubeconfig: &Path) -> Result<()> {
    let Some(cylc) = program() else {
        eprintln!("SKIPPED the Cylc adapter: cylc is not there");
        return Ok(());
    };
    let workflow = Workflow::new(folder, kubeconfig, cylc)?;
    let source = workflow.home.join("source");
    workflow.cylc(&["install", "--no-run-name", "--workflow-name=w", source.to_str().context("a path")?]).await?;
    let play = workflow.environment.iter().cloned();
    let play = play.chain([workflow.cylc.display().to_string(), "play".into(), "--no-detach".into(), "w".into()]);
    let mut scheduler = Process::start("cylc", Path::new("/usr/bin/env"), play, &workflow.home)?;

    let good = workflow.run("/1/good/1", |run| run["status"]["outcome"] == "Succeeded").await?;
    ensure!(good["spec"]["params"]["p"] == "cylc" && good["spec"]["cycle"] == "2026-11-28T06:00:00Z", "{good:#}");
    workflow.run("/1/long/1", |run| run["status"]["phase"] == "Pending").await?;
    // Only a job that Cylc has heard of can be killed.
    let begin = Instant::now();
    while !fs::read_to_string(workflow.file("scheduler/log")).unwrap_or_default().contains("1/long/01:submitted] => running") {
        ensure!(begin.elapsed() < PATIENCE, "{}", workflow.told());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    workflow.cylc(&["kill", "w//1/long"]).await?;
    let long = workflow.run("/1/long/1", |run| run["status"]["outcome"].is_string()).await?;
    ensure!(long["status"]["outcome"] == "Cancelled", "{long:#}");

    let begin = Instant::now();
    let status = loop {
        if let Some(status) = scheduler.has_ended()? {
            break status;
        }
        ensure!(begin.elapsed() < PATIENCE, "the workflow does not end\n{}\n{}", scheduler.log_tail(), workflow.told());
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    ensure!(status.success(), "{status}\n{}\n{}", scheduler.log_tail(), workflow.told());
    let log = fs::read_to_string(workflow.file("scheduler/log"))?;
    ensure!(log.contains("1/good/01:running] => succeeded") && log.contains("1/long/01:running] => failed"), "{log}");
    let output = fs::read_to_string(workflow.file("job/1/good/01/job.out"))?;
    ensure!(output.contains("one\ntwo\n"), "{output}");
    Ok(())
}

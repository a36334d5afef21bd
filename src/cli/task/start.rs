//! `isobar task apply`, `run` and `rerun`. In: files, parameters. Out: objects; with `--wait` the run's end, and its exit code as ours.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use super::{Format, print_one, server::Server, tables};
use crate::{
    cli::cluster::span,
    model::time::Timestamp,
    tasks::{
        manual::{Manual, There},
        names::API_VERSION,
    },
};

/// Between two looks at a run.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// Files with Task objects, YAML or JSON; - is standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl ApplyArgs {
    pub(super) async fn act(self, server: &Server) -> anyhow::Result<()> {
        let mut tasks = Vec::new();
        for file in &self.files {
            let text = if file.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
                text
            } else {
                std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?
            };
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML", file.display()))?;
            tasks.extend(objects.into_iter().filter(|object| !object.is_null()));
        }
        // All are looked at before the first one is sent.
        for task in &tasks {
            let (kind, name) = (task["kind"].as_str().unwrap_or_default(), task["metadata"]["name"].as_str().unwrap_or_default());
            if (task["apiVersion"] != API_VERSION) || kind != "Task" || name.is_empty() {
                bail!(
                    "{kind} {name:?} is not a Task of {API_VERSION} with a name; isobar task run starts runs, kubectl apply takes anything"
                );
            }
        }
        for task in &tasks {
            let name = task["metadata"]["name"].as_str().unwrap_or_default();
            let namespace = task["metadata"]["namespace"].as_str().unwrap_or(&server.namespace);
            let known = server.rest.get(&format!("/apis/isobar.dev/v1alpha1/namespaces/{namespace}/tasks/{name}")).await;
            let before = known.ok().flatten();
            let after = server.apply_task(name, namespace, task).await.with_context(|| format!("task {name}"))?;
            let same = before.as_ref().is_some_and(|before| before["metadata"]["generation"] == after["metadata"]["generation"]);
            println!(
                "{name}: {}",
                if same {
                    "unchanged"
                } else if before.is_some() {
                    "changed"
                } else {
                    "registered"
                }
            );
        }
        Ok(())
    }
}

/// Whether a command waits for the run's end.
#[derive(Clone, Copy, Debug, Args)]
struct Waiting {
    /// Wait for the run's end. Exit code: 0 if it succeeded, that of the container that failed, else 1
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = span)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The task
    task: String,
    /// A parameter; may be given again for others
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// The time that its data is about, in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time)]
    cycle: Option<Timestamp>,
    /// Makes it the same run when it is started again with the same key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() { Err("the name is missing before =".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "write for example 2026-11-28T06:00:00Z".to_owned())
}

impl RunArgs {
    pub(super) async fn act(self, server: &Server, output: Option<Format>) -> anyhow::Result<ExitCode> {
        server.task(&self.task).await?;
        let mut params = BTreeMap::new();
        for (name, value) in self.params {
            if params.insert(name.clone(), value).is_some() {
                bail!("parameter {name} is given twice");
            }
        }
        let (key, is_given) = key_or_new(self.key);
        let manual = Manual { task: self.task, params, cycle: self.cycle.map(Timestamp::to_rfc3339), key, rerun_of: None };
        finish(server, start(server, &manual, is_given).await?, self.waiting, output).await
    }
}

#[derive(Debug, Args)]
pub(super) struct RerunArgs {
    /// The run
    run: String,
    /// Makes it the same run when it is started again with the same key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

impl RerunArgs {
    pub(super) async fn act(self, server: &Server, output: Option<Format>) -> anyhow::Result<ExitCode> {
        let run = server.run(&self.run).await?;
        let (key, is_given) = key_or_new(self.key);
        let manual = Manual::repeat(&run, key);
        server.task(&manual.task).await?;
        finish(server, start(server, &manual, is_given).await?, self.waiting, output).await
    }
}

/// A run that was started, and whether it is new.
struct Started {
    run: Value,
    is_new: bool,
}

async fn start(server: &Server, manual: &Manual, is_given: bool) -> anyhow::Result<Started> {
    // If another key has the short name, it gets the longer one.
    for longer in [false, true] {
        if let Some(run) = server.create_run(&manual.run(longer)).await? {
            return Ok(Started { run, is_new: true });
        }
        let name = manual.name(longer);
        let run = server.run(&name).await?;
        match manual.compare(&run) {
            There::OtherKey => {}
            There::Same => return Ok(Started { run, is_new: !is_given }),
            There::OtherContent => bail!("run {name} has this key, with other parameters or another cycle: choose another key"),
        }
    }
    bail!("both names for this key are taken by runs of other keys: choose another key")
}

fn key_or_new(key: Option<String>) -> (String, bool) {
    let is_given = key.is_some();
    (key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()), is_given)
}

async fn finish(server: &Server, started: Started, waiting: Waiting, output: Option<Format>) -> anyhow::Result<ExitCode> {
    let name = started.run["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if !waiting.wait {
        print_one(output, &started.run, || format!("{name}: {}\n", if started.is_new { "started" } else { "was started before" }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let begin = tokio::time::Instant::now();
    loop {
        let run = server.run(&name).await?;
        if run["status"]["outcome"].is_string() {
            print_one(output, &run, || tables::run(&run))?;
            return Ok(exit_code(&run));
        }
        if waiting.timeout.is_some_and(|timeout| begin.elapsed() > timeout) {
            let status = &run["status"];
            let text = |field: &str| status[field].as_str().unwrap_or_default();
            bail!("{name}: not over in time; it is {} ({} {})", text("phase"), text("reason"), text("message"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn exit_code(run: &Value) -> ExitCode {
    if run["status"]["outcome"] == "Succeeded" {
        return ExitCode::SUCCESS;
    }
    let last = run["status"]["attempts"].as_array().and_then(|attempts| attempts.last());
    let code = last.and_then(|attempt| u8::try_from(attempt["exitCode"].as_u64()?).ok()).filter(|code| *code != 0);
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

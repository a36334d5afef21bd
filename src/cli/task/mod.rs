//! `isobar task`: by command what kubectl can do with `Task` and `TaskRun` objects. In: a connection to the cluster. Out: objects, or what they say.

mod logs;
mod server;
mod start;
mod tables;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use self::server::Server;

/// Register tasks, run them, look at their runs and logs.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// Reaches the cluster. Default: the first file of $KUBECONFIG, ~/.kube/config, or the pod's service account
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of tasks and runs. Default: the kubeconfig's, or default
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Print objects instead of tables
    #[arg(short, long, global = true, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Register tasks from files, or change them
    Apply(start::ApplyArgs),
    /// List tasks: what starts them, when next, how the last run ended
    List,
    /// Show one task or one run, with all attempts
    Show {
        /// Name of a task or of a run
        name: String,
    },
    /// Start a run of a task
    Run(start::RunArgs),
    /// List runs, the newest last
    Runs {
        /// Only of this task
        task: Option<String>,
    },
    /// Print the log of a run, also when its pod is gone
    Logs(logs::LogsArgs),
    /// Stop a run: its pod is ended and deleted
    Cancel {
        /// The run
        run: String,
    },
    /// Start a run with the parameters and the cycle of another one
    Rerun(start::RerunArgs),
    /// Start no runs by themselves; what the clock would have started is not made up for
    Suspend {
        /// The task
        task: String,
    },
    /// Start runs again
    Resume {
        /// The task
        task: String,
    },
    /// List what happened to a task or a run
    Events {
        /// Name of a task or of a run
        name: String,
    },
}

impl TaskArgs {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot be started")?;
        runtime.block_on(self.act())
    }

    async fn act(self) -> anyhow::Result<ExitCode> {
        let server = Server::connect(self.kubeconfig, self.namespace).await?;
        let output = self.output;
        match self.command {
            TaskCommand::Apply(args) => args.act(&server).await?,
            TaskCommand::List => {
                let (tasks, runs) = (server.tasks().await?, server.runs(None).await?);
                print(output, &tasks, || tables::tasks(&tasks, &runs))?;
            }
            TaskCommand::Show { name } => {
                if let Some(run) = server.find_run(&name).await? {
                    print_one(output, &run, || tables::run(&run))?;
                } else {
                    let task = server.task(&name).await?;
                    let runs = server.runs(Some(&name)).await?;
                    print_one(output, &task, || tables::task(&task, &runs))?;
                }
            }
            TaskCommand::Run(args) => return args.act(&server, output).await,
            TaskCommand::Runs { task } => {
                let runs = server.runs(task.as_deref()).await?;
                print(output, &runs, || tables::runs(&runs))?;
            }
            TaskCommand::Logs(args) => args.act(&server).await?,
            TaskCommand::Cancel { run } => server.change_run(&run, &json!({"spec": {"cancel": true}}), "is being stopped").await?,
            TaskCommand::Rerun(args) => return args.act(&server, output).await,
            TaskCommand::Suspend { task } => server.change_task(&task, &json!({"spec": {"suspend": true}}), "suspended").await?,
            TaskCommand::Resume { task } => server.change_task(&task, &json!({"spec": {"suspend": false}}), "resumed").await?,
            TaskCommand::Events { name } => {
                let events = server.events(&name).await?;
                print(output, &events, || tables::events(&events))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(format: Option<Format>, objects: &[Value], table: impl FnOnce() -> String) -> anyhow::Result<()> {
    print_one(format, &json!({"apiVersion": "v1", "kind": "List", "items": objects}), table)
}

fn print_one(format: Option<Format>, object: &Value, table: impl FnOnce() -> String) -> anyhow::Result<()> {
    match format {
        None => print!("{}", table()),
        Some(Format::Json) => println!("{object:#}"),
        Some(Format::Yaml) => println!("{}", serde_saphyr::to_string(object)?.trim_end()),
    }
    Ok(())
}

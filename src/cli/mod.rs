//! The command line. In: arguments. Out: an exit code; one file a subcommand.
//!
//! A subcommand is a module with a `clap::Args` struct and `fn run(self) -> anyhow::Result<ExitCode>`, a variant of [`Command`], and a line in [`run()`].
//! Errors that reach [`main`] are printed with their causes; what a subcommand finds wrong with its input, it prints itself.

mod cluster;
mod config;
mod demo;
mod explain;
mod files;
mod run;
mod task;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A standalone Kubernetes scheduler: one decision over every node of every cluster.
#[derive(Debug, Parser)]
#[command(name = "isobar", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Schedule pods on a cluster
    Run(Box<run::RunArgs>),
    /// Show Isobar at work on a cluster in memory
    Demo(demo::DemoArgs),
    /// Check, describe and write out configuration files
    Config(config::ConfigArgs),
    /// Explain why a pod is pending, or why it goes where it goes
    Explain(explain::ExplainArgs),
    /// Add, list, drain and remove compute clusters
    Cluster(cluster::ClusterArgs),
    /// Register tasks, run them, look at their runs and logs
    Task(task::TaskArgs),
}

/// Runs the program: 0 is success, 1 a refusal or failure that was explained, 2 a wrong command line.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => args.run(),
        Command::Demo(args) => args.run(),
        Command::Config(args) => args.run(),
        Command::Explain(args) => args.run(),
        Command::Cluster(args) => args.run(),
        Command::Task(args) => args.run(),
    }
}

//! `isobar explain`. In: a pod's name and the objects around it, from a file or from a cluster. Out: why it is pending, or why it goes where it goes,
//! for people or as JSON.

mod batch;
mod case;
mod cluster;
mod objects;
mod table;
#[cfg(test)]
mod tests;

use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, ValueEnum};

use super::files;
use crate::config::{self, defaults};
use crate::scheduler::profile::ProfileSpec;
use crate::scheduler::registry::Registry;

/// Explain why a pod is pending, or why it goes where it goes
///
/// Without --objects the pod is looked up in the cluster of the kubeconfig. It is explained as if it were still to be placed: where it runs already
/// does not count as used.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["pod_name", "pod", "batch"])))]
pub struct ExplainArgs {
    /// The pod, as namespace/name
    #[arg(value_name = "POD")]
    pod_name: Option<String>,
    /// The pod, as namespace/name
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Take nodes and pods from a file: a List, YAML documents, a JSON array or stream; - is standard input
    #[arg(long, value_name = "FILE")]
    objects: Option<PathBuf>,
    /// Answer many questions: one {"id", "config"?, "objects", "pod"} a line; - is standard input
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["objects", "output", "kubeconfig"])]
    batch: Option<PathBuf>,
    /// Configuration files; without any, the default profile answers for default-scheduler and isobar-scheduler
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// The cluster to ask; without it, that of KUBECONFIG, of ~/.kube/config, or the one this runs in
    #[arg(long, value_name = "FILE", conflicts_with = "objects")]
    kubeconfig: Option<PathBuf>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Decides ties: the same seed, the same node
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

impl ExplainArgs {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Some(profiles) = self.profiles()? else { return Ok(ExitCode::FAILURE) };
        if let Some(file) = &self.batch {
            return self.batch(file, profiles);
        }
        let name = self.pod_name.as_deref().or(self.pod.as_deref()).unwrap_or_default();
        let pod = case::pod_key(name)?;
        let objects = match &self.objects {
            Some(path) => {
                let file = files::read(path)?;
                let objects = objects::read(&file.name, &file.content)?;
                if let Some(note) = objects.note() {
                    eprintln!("{note}");
                }
                objects
            }
            None => cluster::objects(self.kubeconfig.as_deref(), &pod)?,
        };
        let answer = case::World::new(&profiles, objects, &pod)?.answer(self.seed, "");
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Table => write!(out, "{}", table::render(&answer))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&answer.explanation)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// `None` when the configuration is wrong, which has been said then.
    fn profiles(&self) -> anyhow::Result<Option<Vec<ProfileSpec>>> {
        if self.config.is_empty() {
            return default_profiles().map(Some);
        }
        match files::load(&files::read_all(&self.config)?) {
            Ok(configuration) => Ok(Some(configuration.profiles)),
            Err(problems) => {
                eprintln!("{problems}");
                Ok(None)
            }
        }
    }

    fn batch(&self, file: &std::path::Path, profiles: Vec<ProfileSpec>) -> anyhow::Result<ExitCode> {
        let mut batch = batch::Batch::new(profiles, self.seed);
        let mut out = BufWriter::new(std::io::stdout().lock());
        let failures = if file.as_os_str() == "-" {
            batch.run(std::io::stdin().lock(), &mut out)
        } else {
            let opened = std::fs::File::open(file).with_context(|| format!("reading {}", file.display()))?;
            batch.run(BufReader::new(opened), &mut out)
        };
        let failures = failures.with_context(|| format!("answering {}", file.display()))?;
        out.flush()?;
        if failures > 0 {
            eprintln!("note: {failures} lines could not be answered; they have an \"error\" and no \"pod\"");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Upstream's profile under both names that pods are likely to ask for.
fn default_profiles() -> anyhow::Result<Vec<ProfileSpec>> {
    let Ok(configuration) = config::load(&[], &Registry::in_tree()) else { bail!("the default configuration is wrong; this is a bug") };
    let named =
        |name: &str| configuration.profiles.iter().map(|profile| ProfileSpec { scheduler_name: name.to_owned(), ..profile.clone() }).next();
    Ok([defaults::SCHEDULER_NAME, defaults::OWN_SCHEDULER_NAME].into_iter().filter_map(named).collect())
}

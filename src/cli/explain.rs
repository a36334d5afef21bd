//! `isobar explain`. In: a pod's name and the objects around it, from a file or from a cluster. Out: why it is pending, or why it goes where it goes,
//! for people or as JSON.

#[cfg(test)]
mod abroad_tests;
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

use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args, ValueEnum};

use self::objects::Objects;
use super::files;
use crate::config::{self, Configuration, defaults, resolved::FederationSettings};
use crate::model::{ids::PodKey, image::Platforms};
use crate::scheduler::profile::ProfileSpec;
use crate::scheduler::registry::Registry;

/// Explain why a pod is pending, or why it goes where it goes
///
/// Without --objects the pod is looked up in the cluster of the kubeconfig, and its compute clusters are asked, too. It is explained as if it were still to
/// be placed: where it runs already does not count as used.
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
        let Some((profiles, federation)) = self.configuration()? else { return Ok(ExitCode::FAILURE) };
        if let Some(file) = &self.batch {
            return self.batch(file, profiles);
        }
        let name = self.pod_name.as_deref().or(self.pod.as_deref()).unwrap_or_default();
        let pod = case::pod_key(name)?;
        let answer = match &self.objects {
            Some(path) => {
                let file = files::read(path)?;
                world(&profiles, objects::read(&file.name, &file.content)?, &pod)?
            }
            None => self.live_world(&profiles, &federation, &pod)?,
        }
        .answer(self.seed, "");
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Table => write!(out, "{}", table::render(&answer))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&answer.explanation)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Home and all its compute clusters.
    fn live_world(&self, profiles: &[ProfileSpec], federation: &FederationSettings, pod: &PodKey) -> anyhow::Result<case::World> {
        let home = cluster::Home::connect(self.kubeconfig.as_deref())?;
        let mut world = world(profiles, home.objects(pod)?, pod)?;
        if let Some(question) = world.images() {
            for (image, platforms) in home.platforms(federation, question) {
                if let Platforms::Unknown(why) = &platforms {
                    eprintln!("note: the platforms of image {image} are not known: {why}");
                }
                world.learn(image, platforms);
            }
        }
        Ok(world)
    }

    /// `None` when the configuration is wrong, which has been said then.
    fn configuration(&self) -> anyhow::Result<Option<(Vec<ProfileSpec>, FederationSettings)>> {
        if self.config.is_empty() {
            return Ok(Some((default_profiles()?, default_configuration()?.isobar.federation)));
        }
        match files::load(&files::read_all(&self.config)?) {
            Ok(configuration) => Ok(Some((configuration.profiles, configuration.isobar.federation))),
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

fn world(profiles: &[ProfileSpec], objects: Objects, pod: &PodKey) -> anyhow::Result<case::World> {
    for note in objects.notes() {
        eprintln!("{note}");
    }
    Ok(case::World::new(profiles, objects, pod)?)
}

fn default_configuration() -> anyhow::Result<Configuration> {
    config::load(&[], &Registry::in_tree()).map_err(|problems| anyhow!("the default configuration is wrong; this is a bug: {problems}"))
}

/// Upstream's profile under both names that pods are likely to ask for.
fn default_profiles() -> anyhow::Result<Vec<ProfileSpec>> {
    let profiles = default_configuration()?.profiles;
    let named = |name: &str| profiles.first().map(|profile| ProfileSpec { scheduler_name: name.to_owned(), ..profile.clone() });
    Ok([defaults::SCHEDULER_NAME, defaults::OWN_SCHEDULER_NAME].into_iter().filter_map(named).collect())
}

//! `isobar cluster`: by command what kubectl can do with `ComputeCluster` objects. In: a connection to the home cluster. Out: objects, or what they say.

mod add;
mod change;
pub(super) mod show;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    config::duration,
    kubernetes::{
        client::{ConnectionOptions, connect},
        cluster::{
            object::{self, ClusterObject},
            rest::{Rest, RestError},
            role,
        },
    },
    metrics::{ApiMetrics, Metrics},
};

/// Between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Add, list, drain and remove the compute clusters that pods are placed on beside the home cluster.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Reaches the home cluster. Default: the first file of $KUBECONFIG, ~/.kube/config, or the pod's service account
    #[arg(long, global = true, value_name = "FILE")]
    home_kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Add a cluster: check its kubeconfig, then create Secret and object
    Add(add::AddArgs),
    /// Print what Isobar has to be allowed over there, as YAML for that cluster's admin
    Role {
        /// Namespace of all runs. Default: the one that is unique to the home cluster
        #[arg(long, value_name = "NAMESPACE")]
        run_namespace: Option<String>,
    },
    /// List all clusters
    List,
    /// Show one cluster: conditions, capacity, runs
    Show {
        /// The cluster
        name: String,
    },
    /// Place no further pods on a cluster; those on it stay
    Cordon {
        /// The cluster
        name: String,
    },
    /// Place pods on it again
    Uncordon {
        /// The cluster
        name: String,
    },
    /// Place no further pods on a cluster and get rid of those on it
    Drain(change::DrainArgs),
    /// Drain, wipe and forget a cluster
    Remove(change::RemoveArgs),
}

/// Whether and how long a command waits for what it started.
#[derive(Clone, Copy, Debug, Args)]
struct Waiting {
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = span)]
    timeout: Duration,
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).map(|span| Duration::from_millis(span.0)).ok_or_else(|| "write for example 90s or 10m".to_owned())
}

impl ClusterArgs {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot be started")?;
        runtime.block_on(self.act())
    }

    async fn act(self) -> anyhow::Result<ExitCode> {
        if let ClusterCommand::Role { run_namespace: Some(namespace) } = &self.command {
            print!("{}", role::text(namespace)?);
            return Ok(ExitCode::SUCCESS);
        }
        let home = Home::connect(self.home_kubeconfig.as_deref()).await?;
        match self.command {
            ClusterCommand::Add(args) => args.act(&home).await?,
            ClusterCommand::Role { .. } => print!("{}", role::text(&home.run_namespace().await?)?),
            ClusterCommand::List => print!("{}", show::list(&home.all().await?)),
            ClusterCommand::Show { name } => print!("{}", show::one(&home.cluster(&name).await?)),
            ClusterCommand::Cordon { name } => home.change(&name, &json!({"spec": {"state": "Cordoned"}}), "cordoned").await?,
            ClusterCommand::Uncordon { name } => home.change(&name, &json!({"spec": {"state": "Active"}}), "takes pods again").await?,
            ClusterCommand::Drain(args) => args.act(&home).await?,
            ClusterCommand::Remove(args) => args.act(&home).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The home cluster.
struct Home(Rest);

impl Home {
    async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        let file = kubeconfig.map(Path::to_path_buf).or_else(usual_kubeconfig);
        let api = connect(file.as_deref(), &ConnectionOptions::default(), ApiMetrics::new(&Metrics::new())).await;
        Ok(Self(Rest::new(api.context("the home cluster cannot be reached")?)))
    }

    async fn run_namespace(&self) -> anyhow::Result<String> {
        let system = self.0.get("/api/v1/namespaces/kube-system").await.context("the home cluster's UID cannot be read")?;
        let uid = system.as_ref().and_then(|system| system["metadata"]["uid"].as_str()).context("kube-system has no UID")?;
        Ok(crate::federation::names::run_namespace(uid))
    }

    async fn all(&self) -> anyhow::Result<Vec<ClusterObject>> {
        let objects = self.0.list(object::COLLECTION, "").await.map_err(explained)?;
        Ok(objects.iter().filter_map(ClusterObject::read).collect())
    }

    async fn found(&self, name: &str) -> anyhow::Result<Option<ClusterObject>> {
        Ok(self.0.get(&object::path(name)).await.map_err(explained)?.as_ref().and_then(ClusterObject::read))
    }

    async fn cluster(&self, name: &str) -> anyhow::Result<ClusterObject> {
        if let Some(found) = self.found(name).await? {
            return Ok(found);
        }
        let names: Vec<String> = self.all().await?.iter().map(|object| object.name.to_string()).collect();
        let others = if names.is_empty() { "there is none yet".to_owned() } else { format!("there are: {}", names.join(", ")) };
        bail!("there is no compute cluster {name:?}; {others}")
    }

    async fn change(&self, name: &str, patch: &Value, done: &str) -> anyhow::Result<()> {
        self.cluster(name).await?;
        self.0.merge(&object::path(name), patch).await.map_err(explained)?;
        println!("{name}: {done}");
        Ok(())
    }

    /// Waits until an object is as it should be; `None` is one that is gone.
    async fn wait(&self, name: &str, waiting: Waiting, is_done: impl Fn(Option<&ClusterObject>) -> bool, kind: &str) -> anyhow::Result<()> {
        if !waiting.wait {
            return Ok(());
        }
        let begin = tokio::time::Instant::now();
        loop {
            let found = self.found(name).await?;
            if is_done(found.as_ref()) {
                println!("{name}: done");
                return Ok(());
            }
            if begin.elapsed() > waiting.timeout {
                let condition = found.as_ref().and_then(|object| object.status.condition(kind));
                let said = condition.map(|condition| format!("{}: {}", condition.reason, condition.message)).unwrap_or_default();
                bail!("{name}: not done after {} s; condition {kind} says {said:?}", waiting.timeout.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn explained(error: RestError) -> anyhow::Error {
    if error.is(http::StatusCode::NOT_FOUND) {
        return anyhow::anyhow!("the home cluster does not know ComputeCluster: apply manifests/crds first ({error})");
    }
    error.into()
}

#[allow(clippy::disallowed_methods)] // a command line looks where kubectl looks
pub(super) fn usual_kubeconfig() -> Option<PathBuf> {
    let named =
        std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).next()).filter(|path| !path.as_os_str().is_empty());
    let usual = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")).filter(|path| path.is_file());
    named.or_else(usual)
}

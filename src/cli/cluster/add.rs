//! `isobar cluster add`. In: a name and a kubeconfig. Out: the Secret and the `ComputeCluster`, or what is wrong with the file.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Home, Waiting, explained};
use crate::{
    cli::files,
    kubernetes::cluster::{access, object, status::kind},
};

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Name of the cluster: pods can ask for it, nodes are labelled with it
    name: String,
    /// Its kubeconfig, credentials inline; - is standard input
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Namespace of the Secret at home
    #[arg(long, value_name = "NAMESPACE", default_value = "isobar-system")]
    namespace: String,
    /// Namespace of all runs over there. Default: one that is unique to the home cluster
    #[arg(long, value_name = "NAMESPACE")]
    run_namespace: Option<String>,
    /// `NodeName` for clusters that are ours alone, Affinity for shared ones
    #[arg(long, value_enum, default_value_t = PinName::NodeName)]
    pin: PinName,
    /// How much it is preferred, 0 to 100; the home cluster has 50
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=100))]
    preference: Option<u8>,
    /// Print the objects instead of creating them
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PinName {
    #[value(name = "NodeName")]
    NodeName,
    #[value(name = "Affinity")]
    Affinity,
}

impl AddArgs {
    pub(super) async fn act(self, home: &Home) -> anyhow::Result<()> {
        let file = files::read(&self.kubeconfig)?;
        let text = String::from_utf8(file.content).with_context(|| format!("{} is not text", file.name))?;
        access::check(&text).with_context(|| file.name.clone())?;
        let (secret, cluster) = self.objects(&text);
        if self.print {
            print!("{}---\n{}", serde_saphyr::to_string(&secret)?, serde_saphyr::to_string(&cluster)?);
            return Ok(());
        }
        if home.found(&self.name).await?.is_some() {
            bail!("there is a compute cluster {} already: remove it first, or change its Secret to rotate credentials", self.name);
        }
        self.store(home, &secret).await?;
        home.0.create(object::COLLECTION, &cluster).await.map_err(explained)?;
        println!("{}: added; isobar cluster show {0} says how it goes", self.name);
        home.wait(&self.name, self.waiting, |found| found.is_some_and(|object| object.status.is(kind::READY)), kind::READY).await
    }

    fn secret_name(&self) -> String {
        format!("isobar-cluster-{}", self.name)
    }

    fn objects(&self, text: &str) -> (Value, Value) {
        let pin = match self.pin {
            PinName::NodeName => "NodeName",
            PinName::Affinity => "Affinity",
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.secret_name(), "namespace": self.namespace},
            "data": {"kubeconfig": STANDARD.encode(text)},
        });
        let mut spec = json!({
            "access": {"kubeconfigSecretRef": {"namespace": self.namespace, "name": self.secret_name()}},
            "pin": pin,
        });
        if let Some(namespace) = &self.run_namespace {
            spec["runNamespace"] = namespace.as_str().into();
        }
        if let Some(preference) = self.preference {
            spec["preference"] = preference.into();
        }
        let api_version = format!("{}/{}", object::GROUP, object::VERSION);
        (secret, json!({"apiVersion": api_version, "kind": object::KIND, "metadata": {"name": self.name}, "spec": spec}))
    }

    /// One that is left from before is overwritten.
    async fn store(&self, home: &Home, secret: &Value) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let failed = || format!("the Secret cannot be written in namespace {}: does it exist, and may you?", self.namespace);
        if home.0.create(&path, secret).await.with_context(failed)?.is_none() {
            home.0.merge(&format!("{path}/{}", self.secret_name()), &json!({"data": secret["data"]})).await.with_context(failed)?;
        }
        Ok(())
    }
}

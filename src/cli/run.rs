//! `isobar run`: schedules for a cluster. In: configuration files and kube-scheduler's flags. Out: a scheduler that runs until it is told to stop.

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::{ArgAction, Args, ValueEnum};

use crate::{
    app::{self, AppOptions, ElectionOverrides},
    config::duration,
    telemetry::{self, LogFormat},
};

/// Threads that may block: name resolution, credential plugins, the engine's keeper.
const BLOCKING_THREADS_MAX: usize = 4;

/// Schedule pods on a cluster
///
/// Flags are kube-scheduler's own where they mean the same, so that its manifests work after a change of image and command.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file; may be repeated. Read again while running
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// How to reach the API server; without it, the pod's service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Stand in an election, so that of several replicas one schedules
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    leader_elect: Option<bool>,
    /// How long others wait for a leader that is silent
    #[arg(long, value_name = "DURATION", value_parser = span)]
    leader_elect_lease_duration: Option<Duration>,
    /// How long a leader tries to renew before it gives up
    #[arg(long, value_name = "DURATION", value_parser = span)]
    leader_elect_renew_deadline: Option<Duration>,
    /// Time between two tries
    #[arg(long, value_name = "DURATION", value_parser = span)]
    leader_elect_retry_period: Option<Duration>,
    /// Name of the Lease
    #[arg(long, value_name = "NAME")]
    leader_elect_resource_name: Option<String>,
    /// Namespace of the Lease
    #[arg(long, value_name = "NAMESPACE")]
    leader_elect_resource_namespace: Option<String>,
    /// Kind of the lock; there is only one
    #[arg(long, value_name = "KIND", value_parser = ["leases"], hide = true)]
    leader_elect_resource_lock: Option<String>,
    /// Port of probes, metrics and configuration, over HTTPS; 0 for none
    #[arg(long, value_name = "PORT")]
    secure_port: Option<u16>,
    /// Address of that port
    #[arg(long, value_name = "ADDRESS")]
    bind_address: Option<IpAddr>,
    /// Certificate for it (PEM, followed by those above it); made at start if absent
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Private key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Believe client certificates signed by these
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Paths that need no authorisation
    #[arg(long, value_name = "PATHS", value_delimiter = ',')]
    authorization_always_allow_paths: Option<Vec<String>>,
    /// Accepted for kubeadm's manifest; callers are reviewed over the connection of --kubeconfig
    #[arg(long, value_name = "FILE", hide = true)]
    authentication_kubeconfig: Option<PathBuf>,
    /// Accepted for kubeadm's manifest
    #[arg(long, value_name = "FILE", hide = true)]
    authorization_kubeconfig: Option<PathBuf>,
    /// How much to log: up to 3 what happens, 4 and 5 details, more everything
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 2, action = ArgAction::Set)]
    verbosity: u8,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LoggingFormat::Text)]
    logging_format: LoggingFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LoggingFormat {
    Text,
    Json,
}

/// Go's notation of durations, as all Kubernetes flags take it.
fn span(text: &str) -> Result<Duration, String> {
    let span = duration::parse(text).ok_or("write for example 15s or 1m30s")?;
    Ok(Duration::from_millis(span.0))
}

impl RunArgs {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let format = match self.logging_format {
            LoggingFormat::Text => LogFormat::Text,
            LoggingFormat::Json => LogFormat::Json,
        };
        telemetry::start(format, self.verbosity)?;
        let options = self.options()?;
        // One thread does all network work beside the engine's own: less memory and less handing over than a pool, and far faster than the API server.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .context("the runtime cannot be started")?;
        let code = runtime.block_on(app::run(options));
        // A name resolution that hangs must not hold up the end.
        runtime.shutdown_background();
        code
    }

    fn options(self) -> anyhow::Result<AppOptions> {
        if self.secure_port.is_some_and(|port| port != 0) && self.always_allow_is_bad() {
            bail!("--authorization-always-allow-paths: every path begins with /");
        }
        Ok(AppOptions {
            config_files: self.config,
            kubeconfig: self.kubeconfig,
            election: ElectionOverrides {
                leader_elect: self.leader_elect,
                lease_duration: self.leader_elect_lease_duration,
                renew_deadline: self.leader_elect_renew_deadline,
                retry_period: self.leader_elect_retry_period,
                resource_name: self.leader_elect_resource_name,
                resource_namespace: self.leader_elect_resource_namespace,
            },
            secure_port: self.secure_port,
            bind_address: self.bind_address,
            certificate: self.tls_cert_file.zip(self.tls_private_key_file),
            client_ca_file: self.client_ca_file,
            always_allow_paths: self.authorization_always_allow_paths,
        })
    }

    fn always_allow_is_bad(&self) -> bool {
        self.authorization_always_allow_paths.iter().flatten().any(|path| !path.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn options(line: &str) -> Result<AppOptions, String> {
        let parsed = Line::try_parse_from(std::iter::once("isobar").chain(line.split_whitespace())).map_err(|error| error.to_string())?;
        parsed.args.options().map_err(|error| error.to_string())
    }

    #[test]
    fn takes_kubeadms_command_line() {
        let options = options(
            "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf --authorization-kubeconfig=/etc/kubernetes/scheduler.conf \
             --bind-address=127.0.0.1 --kubeconfig=/etc/kubernetes/scheduler.conf --leader-elect=true",
        )
        .unwrap();
        assert_eq!(options.kubeconfig, Some(PathBuf::from("/etc/kubernetes/scheduler.conf")));
        assert_eq!((options.bind_address.unwrap().to_string().as_str(), options.election.leader_elect), ("127.0.0.1", Some(true)));
    }

    #[test]
    fn flags_mean_what_they_mean_to_kube_scheduler() {
        let options = options(
            "--leader-elect --leader-elect-lease-duration=1m30s --leader-elect-resource-name=x --secure-port=0 \
             --authorization-always-allow-paths=/healthz,/metrics --config a.yaml --config b.yaml -v=4 --logging-format=json",
        )
        .unwrap();
        assert_eq!(options.election.lease_duration, Some(Duration::from_secs(90)));
        assert_eq!(options.always_allow_paths.unwrap(), ["/healthz", "/metrics"]);
        assert_eq!((options.secure_port, options.config_files.len()), (Some(0), 2));
    }

    #[test]
    fn wrong_flags_are_refused() {
        for line in
            ["--leader-elect-lease-duration=soon", "--tls-cert-file=a", "--leader-elect-resource-lock=endpoints", "--bind-address=here"]
        {
            assert!(options(line).is_err(), "{line}");
        }
        assert!(options("--secure-port=1 --authorization-always-allow-paths=metrics").is_err());
    }
}

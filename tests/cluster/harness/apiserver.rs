//! kube-apiserver on loopback. In: etcd's address, the certificate files, what to admit and to record. Out: a running server.

use std::{fs, path::Path};

use anyhow::Result;

use super::{assets::Program, audit_log, ports::free_port, process::Process};

/// What a test wants different from the plain server.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent switches
pub struct ApiserverOptions {
    /// Record bindings, lease writes and everything else that `audit_log` reads.
    pub audit_log: bool,
    /// Keep the `ServiceAccount` admission plugin: needs kube-controller-manager, which makes the `default` accounts.
    pub service_accounts: bool,
    /// Keep the `Priority` admission plugin, which turns class names into numbers and refuses numbers of a pod's own.
    pub priority: bool,
    /// Shows kubelets a client certificate, and believes only serving certificates of this control plane's authority.
    pub kubelets: bool,
    /// Further flags, after ours.
    pub flags: Vec<String>,
}

pub struct Apiserver {
    pub process: Process,
    pub port: u16,
}

impl Apiserver {
    pub fn start(folder: &Path, etcd_url: &str, options: &ApiserverOptions) -> Result<Self> {
        let port = free_port()?;
        let file = |name: &str| folder.join(name).display().to_string();
        // Nobody is a kubelet here: taints of the node life cycle, classes and accounts are what a test sets itself.
        let mut disabled = vec!["TaintNodesByCondition"];
        if !options.priority {
            disabled.push("Priority");
        }
        if !options.service_accounts {
            disabled.push("ServiceAccount");
        }
        let mut arguments = vec![
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", file("apiserver-certificates")),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--service-account-issuer=https://127.0.0.1/".to_owned(),
            format!("--service-account-key-file={}", file("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", file("service-accounts.key")),
            format!("--disable-admission-plugins={}", disabled.join(",")),
            "--endpoint-reconciler-type=none".to_owned(),
            "--allow-privileged=true".to_owned(),
            // Measured schedulers shall meet the server's own speed, not its fairness queues.
            "--enable-priority-and-fairness=false".to_owned(),
            "--max-requests-inflight=0".to_owned(),
            "--max-mutating-requests-inflight=0".to_owned(),
        ];
        if options.audit_log {
            let policy = folder.join("audit-policy.json");
            fs::write(&policy, audit_log::policy())?;
            arguments.push(format!("--audit-policy-file={}", policy.display()));
            arguments.push(format!("--audit-log-path={}", file(audit_log::FILE)));
        }
        if options.kubelets {
            arguments.push(format!("--kubelet-client-certificate={}", file("kubelet-client.crt")));
            arguments.push(format!("--kubelet-client-key={}", file("kubelet-client.key")));
            arguments.push(format!("--kubelet-certificate-authority={}", file("ca.crt")));
        }
        arguments.extend(options.flags.iter().cloned());
        let process = Process::start("kube-apiserver", &Program::KubeApiserver.path()?, arguments, folder)?;
        Ok(Self { process, port })
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

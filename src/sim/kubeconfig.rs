//! A kubeconfig for the in-memory API server. In: its address. Out: a file that kubectl and kube read.

use std::net::SocketAddr;
use std::path::Path;

/// The kubeconfig's text: one cluster, one user without credentials, one current context.
pub fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: isobar-demo
  cluster:
    server: http://{address}
users:
- name: isobar-demo
  user: {{}}
contexts:
- name: isobar-demo
  context:
    cluster: isobar-demo
    user: isobar-demo
    namespace: default
current-context: isobar-demo
"
    )
}

/// Writes it to a file.
pub fn write_kubeconfig(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    std::fs::write(path, kubeconfig(address))
}

#[cfg(test)]
mod tests {
    #[test]
    fn kube_reads_it() {
        let text = super::kubeconfig(([127, 0, 0, 1], 8080).into());
        let parsed = kube::config::Kubeconfig::from_yaml(&text);
        let server = parsed.ok().and_then(|config| config.clusters.first()?.cluster.as_ref()?.server.clone());
        assert_eq!(server.as_deref(), Some("http://127.0.0.1:8080"));
    }
}

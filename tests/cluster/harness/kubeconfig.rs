//! A kubeconfig as text. In: the server's address, the authority, who. Out: JSON, which every kubeconfig reader takes as YAML.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::certificates::Identity;

/// Who the kubeconfig speaks for.
pub enum Credential {
    Certificate(Identity),
    Token(String),
}

/// Everything inline, so that the file can be moved or put into a Secret.
pub fn render(server: &str, authority_pem: &str, credential: &Credential) -> String {
    let user = match credential {
        Credential::Certificate(identity) => {
            json!({ "client-certificate-data": base64(&identity.certificate), "client-key-data": base64(&identity.key) })
        }
        Credential::Token(token) => json!({ "token": token }),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{ "name": "testbed", "cluster": { "server": server, "certificate-authority-data": base64(authority_pem) } }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "user" } }],
    });
    format!("{config:#}\n")
}

/// `ByteString` is how Kubernetes objects carry bytes: base64 when serialised.
fn base64(text: &str) -> Value {
    serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap_or_default()
}

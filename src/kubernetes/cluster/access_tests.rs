//! Kubeconfigs that are taken, and those that are refused with their reason.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

fn authority_data() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    STANDARD.encode(rcgen::CertificateParams::default().self_signed(&key).unwrap().pem())
}

/// A kubeconfig with one good cluster and user, more lines for each, and some at the end.
fn kubeconfig(cluster: &str, user: &str, end: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    {cluster}\ncontexts:\n- name: x\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  user:\n    {user}\n{end}"
    )
}

const SERVER: &str = "server: https://10.0.0.1:6443";
const TOKEN: &str = "token: t";

#[test]
fn what_is_inline_is_taken() {
    let ca = format!("{SERVER}\n    certificate-authority-data: {}", authority_data());
    let certificate = "client-certificate-data: YQ==\n    client-key-data: YQ==";
    for text in [
        kubeconfig(SERVER, TOKEN, ""),
        kubeconfig(&ca, TOKEN, "current-context: x\n"),
        kubeconfig(&ca, certificate, "current-context: x\n"),
        kubeconfig(&format!("{ca}\n    tls-server-name: api.example"), TOKEN, ""),
        // Others in the file may be as they like: they are not used.
        kubeconfig(&ca, TOKEN, "- name: other\n  user: {exec: {apiVersion: v1, command: rm}}\ncurrent-context: x\n"),
    ] {
        assert_eq!(check(&text), Ok(()), "{text}");
    }
}

#[test]
fn everything_else_is_refused_with_its_reason() {
    let cluster = |more: &str| kubeconfig(&format!("{SERVER}\n    {more}"), TOKEN, "");
    let user = |user: &str| kubeconfig(SERVER, user, "");
    for (text, wanted) in [
        (cluster("insecure-skip-tls-verify: true"), "insecure-skip-tls-verify is refused: give the cluster's certificate-authority-data"),
        (cluster("certificate-authority: /ca.pem"), "certificate-authority (a file) is refused: write its content inline"),
        (cluster("proxy-url: http://proxy"), "proxy-url is refused"),
        (cluster("certificate-authority-data: '*'"), "certificate-authority-data: is not base64"),
        (cluster("certificate-authority-data: YQ=="), "certificate-authority-data: holds no certificate"),
        (user("exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}"), "exec (a program) is refused"),
        (user("auth-provider: {name: gcp}"), "auth-provider is refused"),
        (user("tokenFile: /token"), "tokenFile is refused"),
        (user("client-certificate: /c.pem"), "client-certificate (a file) is refused"),
        (user("token: t\n    client-key: /k.pem"), "client-key (a file) is refused"),
        (user("username: u\n    password: p"), "username and password is refused"),
        (user("token: t\n    as: root"), "as (impersonation) is refused"),
        (user("client-certificate-data: YQ=="), "client-key-data: is missing"),
        (user("client-key-data: YQ=="), "client-certificate-data: is missing"),
        (user("{}"), "user: has no token and no client certificate"),
        (kubeconfig("server: http://10.0.0.1", TOKEN, ""), "server: \"http://10.0.0.1\" is not https"),
        (kubeconfig("server: ''", TOKEN, ""), "server: \"\" is not an address"),
        (kubeconfig(SERVER, TOKEN, "current-context: y\n"), "context \"y\" is not in the kubeconfig"),
        ("apiVersion: v1\nkind: Config\n".to_owned(), "current-context is not in the kubeconfig"),
        ("[".to_owned(), "the kubeconfig cannot be read"),
        ("x".repeat(300 << 10), "the kubeconfig has 307200 bytes, more than 262144"),
    ] {
        let error = check(&text).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}\nwanted: {wanted}\n{text}");
    }
}

#[test]
fn no_program_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("ran");
    let exec = format!("exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: [{}]}}", trace.display());
    for user in [exec.clone(), format!("{TOKEN}\n    {exec}")] {
        assert!(check(&kubeconfig(SERVER, &user, "")).is_err());
    }
    assert!(!trace.exists());
}

//! A kubelet's paths and queries. In: the head of a request. Out: what is asked for, and how an API server names it.

use http::Method;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A container's log.
    Log(PodPath),
    /// A session with a container or a pod.
    Stream(Stream, PodPath),
    /// Whether we live.
    Healthz,
    /// The pods of this Node.
    Pods,
    /// Something else; the first part of its path.
    Other(String),
}

/// A session whose bytes we do not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Exec,
    Attach,
    PortForward,
}

/// A pod as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodPath {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: Option<String>,
    /// Empty for a port-forward.
    pub(super) container: String,
}

/// Names of objects hold nothing that could lead a path elsewhere.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

impl Route {
    /// Reads a path. A pod path that is not well formed is something else.
    pub(super) fn of(path: &str) -> Self {
        let mut parts = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
        let first = parts.remove(0);
        let other = || Self::Other(first.to_owned());
        if parts.last() == Some(&"") {
            parts.pop();
        }
        let pod = |namespace: &str, pod: &str, uid: Option<&str>, container: &str| PodPath {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: uid.map(str::to_owned),
            container: container.to_owned(),
        };
        let session = match first {
            "exec" => Some(Stream::Exec),
            "attach" => Some(Stream::Attach),
            "portForward" => Some(Stream::PortForward),
            _ => None,
        };
        if !parts.iter().all(|part| is_name(part)) {
            return other();
        }
        match (first, session, &parts[..]) {
            ("healthz", _, []) => Self::Healthz,
            ("pods", _, []) => Self::Pods,
            ("containerLogs", _, [namespace, name, container]) => Self::Log(pod(namespace, name, None, container)),
            (_, Some(Stream::PortForward), [namespace, name]) => Self::Stream(Stream::PortForward, pod(namespace, name, None, "")),
            (_, Some(Stream::PortForward), [namespace, name, uid]) => {
                Self::Stream(Stream::PortForward, pod(namespace, name, Some(uid), ""))
            }
            (_, Some(Stream::PortForward), _) => other(),
            (_, Some(stream), [namespace, name, container]) => Self::Stream(stream, pod(namespace, name, None, container)),
            (_, Some(stream), [namespace, name, uid, container]) => Self::Stream(stream, pod(namespace, name, Some(uid), container)),
            _ => other(),
        }
    }

    /// Its name among the metrics: one of a few.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Log(_) => "containerLogs",
            Self::Stream(Stream::Exec, _) => "exec",
            Self::Stream(Stream::Attach, _) => "attach",
            Self::Stream(Stream::PortForward, _) => "portForward",
            Self::Healthz => "healthz",
            Self::Pods => "pods",
            Self::Other(_) => "other",
        }
    }

    /// The subresources of a Node of which one must be permitted, as a kubelet maps its paths.
    pub(super) fn subresources(&self) -> &'static [&'static str] {
        match self {
            Self::Healthz => &["healthz", "proxy"],
            Self::Pods => &["pods", "proxy"],
            Self::Other(first) => match &first[..] {
                "stats" => &["stats"],
                "metrics" => &["metrics"],
                "logs" => &["log"],
                "configz" => &["configz", "proxy"],
                "runningpods" => &["pods", "proxy"],
                _ => &["proxy"],
            },
            Self::Log(_) | Self::Stream(..) => &["proxy"],
        }
    }

    /// The pod, where there is one.
    pub(super) fn pod(&self) -> Option<&PodPath> {
        match self {
            Self::Log(pod) | Self::Stream(_, pod) => Some(pod),
            _ => None,
        }
    }
}

/// Kubernetes' verb of a method.
pub(super) fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

impl Stream {
    /// The pod's subresource.
    pub(super) fn subresource(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }

    /// The query for an API server from that for a kubelet. Values stay encoded as they came.
    pub(super) fn query(self, query: &str, container: &str) -> String {
        let mut pairs = Vec::new();
        if self != Self::PortForward {
            pairs.push(format!("container={container}"));
        }
        for (key, value) in raw_pairs(query) {
            let set = |name: &str| (value == "1" || value == "true").then(|| format!("{name}=true"));
            pairs.extend(match (self, key) {
                (Self::PortForward, "port" | "ports") => Some(format!("ports={value}")),
                (Self::Exec, "command") => Some(format!("command={value}")),
                (Self::Exec | Self::Attach, "input") => set("stdin"),
                (Self::Exec | Self::Attach, "output") => set("stdout"),
                (Self::Exec | Self::Attach, "error") => set("stderr"),
                (Self::Exec | Self::Attach, "tty") => set("tty"),
                _ => None,
            });
        }
        pairs.join("&")
    }
}

/// Options of a log that both sides name alike.
const LOG_OPTIONS: [&str; 8] = ["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"];

/// The query of a log for an API server. Values stay encoded as they came.
pub(super) fn log_query(query: &str, container: &str) -> String {
    let kept = raw_pairs(query).filter(|(key, value)| LOG_OPTIONS.contains(key) && !value.is_empty());
    kept.fold(format!("container={container}"), |query, (key, value)| format!("{query}&{key}={value}"))
}

fn raw_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: Option<&str>, container: &str) -> PodPath {
        PodPath { namespace: "ns".into(), pod: "web-0.x".into(), uid: uid.map(str::to_owned), container: container.into() }
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/containerLogs/ns/web-0.x/c", Route::Log(pod(None, "c"))),
            ("/exec/ns/web-0.x/c", Route::Stream(Stream::Exec, pod(None, "c"))),
            ("/exec/ns/web-0.x/u-1/c", Route::Stream(Stream::Exec, pod(Some("u-1"), "c"))),
            ("/attach/ns/web-0.x/u-1/c", Route::Stream(Stream::Attach, pod(Some("u-1"), "c"))),
            ("/portForward/ns/web-0.x", Route::Stream(Stream::PortForward, pod(None, ""))),
            ("/portForward/ns/web-0.x/u-1", Route::Stream(Stream::PortForward, pod(Some("u-1"), ""))),
            ("/healthz", Route::Healthz),
            ("/pods", Route::Pods),
            ("/pods/", Route::Pods),
            ("/", Route::Other(String::new())),
            ("/metrics/resource", Route::Other("metrics".into())),
            ("/containerLogs/ns/web-0.x", Route::Other("containerLogs".into())),
            ("/exec/ns/../../c", Route::Other("exec".into())),
            ("/exec/ns/a%2Fb/c", Route::Other("exec".into())),
            ("/exec/ns//c", Route::Other("exec".into())),
            ("/portForward/ns/web-0.x/u-1/c", Route::Other("portForward".into())),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }

    #[test]
    fn options_of_sessions() {
        for (stream, query, expected) in [
            (
                Stream::Exec,
                "command=sh&command=-c&command=echo%20a%26b&input=1&output=1&error=1&tty=1",
                "container=c&command=sh&command=-c&command=echo%20a%26b&stdin=true&stdout=true&stderr=true&tty=true",
            ),
            (Stream::Exec, "command=&input=0&output=true&container=other", "container=c&command=&stdout=true"),
            (Stream::Attach, "input=1&output=1&command=sh", "container=c&stdin=true&stdout=true"),
            (Stream::PortForward, "port=80&port=443&x=1", "ports=80&ports=443"),
            (Stream::PortForward, "", ""),
        ] {
            assert_eq!(stream.query(query, "c"), expected, "{query}");
        }
    }

    #[test]
    fn options_of_logs_pass_by_name() {
        for (query, expected) in [
            ("", "container=c"),
            ("follow=true&previous=true&timestamps=true", "container=c&follow=true&previous=true&timestamps=true"),
            (
                "sinceSeconds=5&tailLines=10&limitBytes=20&stream=Stdout",
                "container=c&sinceSeconds=5&tailLines=10&limitBytes=20&stream=Stdout",
            ),
            ("sinceTime=2026-01-01T00%3A00%3A00Z&tailLines=", "container=c&sinceTime=2026-01-01T00%3A00%3A00Z"),
            ("container=other&insecureSkipTLSVerifyBackend=true", "container=c"),
        ] {
            assert_eq!(log_query(query, "c"), expected, "{query}");
        }
    }

    #[test]
    fn permissions_are_a_kubelets() {
        for (path, expected) in [
            ("/exec/ns/p/c", &["proxy"][..]),
            ("/containerLogs/ns/p/c", &["proxy"]),
            ("/logs/syslog", &["log"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/stats/summary", &["stats"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/run/ns/p/c", &["proxy"]),
        ] {
            assert_eq!(Route::of(path).subresources(), expected, "{path}");
        }
    }
}

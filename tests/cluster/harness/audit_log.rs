//! The API server's own record of who did what. In: its audit log. Out: the bindings and lease writes, with user, answer and time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

pub const FILE: &str = "audit.log";

/// Bindings with their body, as it names the node; everything else that a scheduler asks for without.
pub fn policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            { "level": "Request", "resources": [{ "group": "", "resources": ["pods/binding"] }] },
            { "level": "Metadata", "resources": [{ "group": "coordination.k8s.io", "resources": ["leases"] }] },
            // The administrator is the test itself.
            { "level": "None", "users": ["admin", "system:apiserver"] },
            { "level": "Metadata" },
        ],
    })
    .to_string()
}

/// One finished request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub verb: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default, rename = "requestObject")]
    body: Option<Body>,
    #[serde(rename = "requestReceivedTimestamp")]
    pub received: Timestamp,
    /// When it had been answered.
    #[serde(rename = "stageTimestamp")]
    pub answered: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

#[derive(Clone, Debug, Deserialize)]
struct Body {
    target: Option<Target>,
}

#[derive(Clone, Debug, Deserialize)]
struct Target {
    name: Option<String>,
}

impl Request {
    pub fn user(&self) -> &str {
        &self.user.username
    }

    pub fn code(&self) -> u16 {
        self.response_status.code
    }

    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code())
    }

    pub fn is_binding(&self) -> bool {
        self.object_ref.resource == "pods" && self.object_ref.subresource == "binding" && self.verb == "create"
    }

    pub fn is_lease_write(&self, lease: &str) -> bool {
        self.object_ref.resource == "leases"
            && (self.object_ref.name == lease || self.verb == "create")
            && matches!(self.verb.as_str(), "create" | "update" | "patch")
    }

    /// `namespace/name` of the object.
    pub fn object(&self) -> String {
        format!("{}/{}", self.object_ref.namespace, self.object_ref.name)
    }

    /// The node that a binding names.
    pub fn target(&self) -> Option<&str> {
        self.body.as_ref()?.target.as_ref()?.name.as_deref()
    }

    /// `group/resource[/subresource]` and verb: what a role must permit.
    pub fn permission(&self) -> String {
        let object = &self.object_ref;
        let slash = if object.subresource.is_empty() { "" } else { "/" };
        format!("{} {}/{}{slash}{}", self.verb, object.api_group, object.resource, object.subresource)
    }
}

/// Reads on from where it stopped, as the server appends.
pub struct AuditLog {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    partial: String,
    pub requests: Vec<Request>,
}

impl AuditLog {
    pub fn of(folder: &Path) -> Self {
        Self { path: folder.join(FILE), reader: None, partial: String::new(), requests: Vec::new() }
    }

    /// Takes up what was written since. The server writes a request's line when it has been answered, so the newest may still be missing.
    pub fn refresh(&mut self) -> Result<()> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => empty.insert(BufReader::new(File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?)),
        };
        while reader.read_line(&mut self.partial)? > 0 {
            if !self.partial.ends_with('\n') {
                break;
            }
            self.requests.push(serde_json::from_str(&self.partial).with_context(|| format!("audit event {}", self.partial))?);
            self.partial.clear();
        }
        Ok(())
    }

    /// Who wrote the lease last, with success: the leader, or the last one there was.
    pub fn leader(&self, lease: &str) -> Option<&Request> {
        self.requests.iter().rev().find(|request| request.is_lease_write(lease) && request.succeeded())
    }

    pub fn bindings(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| request.is_binding())
    }

    /// How often each pod was bound with success; the right answer is once.
    pub fn times_bound(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for request in self.bindings().filter(|request| request.succeeded()) {
            *times.entry(request.object()).or_default() += 1;
        }
        times
    }

    /// Everything a user asked for, to be held against its role.
    pub fn permissions_used(&self, user: &str) -> BTreeSet<String> {
        self.requests.iter().filter(|request| request.user() == user).map(Request::permission).collect()
    }

    /// What a user was refused.
    pub fn refused(&self, user: &str) -> BTreeSet<String> {
        self.requests.iter().filter(|request| request.user() == user && request.code() == 403).map(Request::permission).collect()
    }
}

//! Questions about callers that only an API server can answer. The trait is here; asking a real one is in `kubernetes::review`.

use std::{collections::BTreeMap, future::Future, pin::Pin};

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// `system:serviceaccount:monitoring:prometheus`, or a certificate's common name.
    pub name: String,
    /// Unique for all time, when known.
    pub uid: String,
    /// Groups, or a certificate's organisations.
    pub groups: Vec<String>,
    /// Whatever else the authenticator said; authorisers may want it.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a caller wants to use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A path of ours: `/metrics`.
    Path(String),
    /// What a kubelet's API is in the eyes of the authoriser: a subresource of its Node.
    Node {
        /// Name of the Node.
        name: String,
        /// `proxy`, `log`, `metrics`.
        subresource: &'static str,
    },
    /// An object, or with no name all of a kind; with no namespace in all of them.
    Resource {
        /// API group; empty for the core.
        group: &'static str,
        /// In the plural.
        resource: &'static str,
        /// May be empty.
        subresource: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
}

/// Whether a caller may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allowed,
    /// No, with the authoriser's words, which may be empty.
    Denied(String),
}

/// Nobody could say. Callers are then refused.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct ReviewError {
    /// What was asked.
    pub doing: &'static str,
    /// What went wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A future that a trait object can return.
pub type Reviewing<'a, T> = Pin<Box<dyn Future<Output = Result<T, ReviewError>> + Send + 'a>>;

/// Answers who a token belongs to and what its owner may. Answers are remembered by the caller; each call is one question.
pub trait Reviewer: Send + Sync {
    /// Whose token it is; `None` when it is nobody's (unknown, expired, for another audience).
    fn authenticate<'a>(&'a self, token: &'a str) -> Reviewing<'a, Option<User>>;

    /// Whether the user may do `verb` (`get`) there.
    fn authorize<'a>(&'a self, user: &'a User, verb: &'a str, target: &'a Target) -> Reviewing<'a, Decision>;
}

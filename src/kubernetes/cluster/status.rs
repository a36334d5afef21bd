//! What people are told of a cluster. In: what was found out at each stage. Out: the conditions, with their reasons.

use super::object::{ComputeClusterStatus, Condition};
use crate::{federation::spec::ClusterState, model::time::DurationMs};

/// Types of conditions.
pub mod kind {
    /// Its kubeconfig is good and its API server knows us.
    pub const AUTHENTICATED: &str = "Authenticated";
    /// We may do what we need.
    pub const AUTHORIZED: &str = "Authorized";
    /// It answers.
    pub const REACHABLE: &str = "Reachable";
    /// Its nodes and pods are known.
    pub const SYNCED: &str = "Synced";
    /// Pods can be placed there, unless it is cordoned.
    pub const READY: &str = "Ready";
    /// No pod of ours is left, while draining or being removed.
    pub const DRAINED: &str = "Drained";
    /// Nothing of ours is left over there, while being removed.
    pub const WIPED: &str = "Wiped";
}

/// What one stage found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Finding {
    /// Nothing yet.
    #[default]
    Unknown,
    /// All is well; a remark, or nothing.
    Good(String),
    /// One word, and the text.
    Bad(&'static str, String),
}

impl Finding {
    /// Whether all is well.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }
}

/// Why pods are not placed on a cluster, `obstacle` being the reason why it is not ready, if it is not.
pub fn closed(state: ClusterState, cordoned: bool, deleting: bool, obstacle: Option<&str>) -> Option<String> {
    if deleting {
        return Some("cluster is being removed".to_owned());
    }
    match state {
        ClusterState::Draining => Some("cluster is draining".to_owned()),
        ClusterState::Cordoned => Some("cluster is cordoned".to_owned()),
        ClusterState::Active if cordoned => Some("cluster is cordoned".to_owned()),
        ClusterState::Active => obstacle.map(|reason| format!("cluster is not ready ({reason})")),
    }
}

/// What all stages found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What the admin wrote.
    pub spec: Finding,
    /// Kubeconfig and credentials.
    pub authenticated: Finding,
    /// Contact.
    pub reachable: Finding,
    /// Whether it is the cluster that it was, and nobody else's.
    pub identity: Finding,
    /// Permissions and the run namespace.
    pub authorized: Finding,
    /// Watches.
    pub synced: Finding,
    /// What it owes from before.
    pub debts: Finding,
    /// The name of the virtual Node, which may be another's.
    pub node: Finding,
    /// Contact has to be stable for so much longer.
    pub held_for: Option<DurationMs>,
    /// No pod of ours is left; `None` when it is not draining.
    pub drained: Option<Finding>,
    /// Nothing of ours is left; `None` when it is not being removed.
    pub wiped: Option<Finding>,
}

impl Findings {
    /// The first thing that keeps the cluster from being ready.
    pub fn obstacle(&self) -> Option<(&'static str, String)> {
        let stages =
            [&self.spec, &self.authenticated, &self.reachable, &self.identity, &self.authorized, &self.synced, &self.debts, &self.node];
        let bad = stages.into_iter().find_map(|stage| match stage {
            Finding::Bad(reason, text) => Some((*reason, text.clone())),
            _ => None,
        });
        if bad.is_some() {
            return bad;
        }
        if stages.iter().any(|stage| !stage.is_good()) {
            return Some(("Connecting", "not everything is known yet".to_owned()));
        }
        let left = self.held_for?;
        Some((
            "Settling",
            format!("contact was lost and is back; pods are placed again once it has been stable for {} s more", left.0.div_ceil(1000)),
        ))
    }

    /// Why pods are not placed there, in words for pods' messages; `None` when they are.
    pub fn closed(&self, state: ClusterState, cordoned: bool, deleting: bool, lacks_node: bool) -> Option<String> {
        // The reason only: texts of other servers change from try to try, and each change would make work.
        let obstacle = self.obstacle().map(|(reason, _)| reason).or(lacks_node.then_some("NoNode"));
        closed(state, cordoned, deleting, obstacle)
    }

    /// The conditions. Times of those whose status is the same are kept.
    pub fn conditions(&self, before: &ComputeClusterStatus, generation: i64, now: &str) -> Vec<Condition> {
        let ready = match self.obstacle() {
            None => Finding::Good("pods can be placed".to_owned()),
            Some(("Connecting", _)) => Finding::Unknown,
            Some((reason, text)) => Finding::Bad(reason, text),
        };
        let not_asked = |what: &str| Finding::Bad("NotAsked", what.to_owned());
        let drained = self.drained.clone().unwrap_or_else(|| not_asked("the cluster is not draining"));
        let wiped = self.wiped.clone().unwrap_or_else(|| not_asked("the cluster is not being removed"));
        let all = [
            (kind::READY, &ready),
            (kind::AUTHENTICATED, &self.authenticated),
            (kind::REACHABLE, &self.reachable),
            (kind::AUTHORIZED, &self.authorized),
            (kind::SYNCED, &self.synced),
            (kind::DRAINED, &drained),
            (kind::WIPED, &wiped),
        ];
        let condition = |(kind, finding): (&str, &Finding)| {
            let (status, reason, message) = match finding {
                Finding::Unknown => ("Unknown", "Connecting", String::new()),
                Finding::Good(remark) => ("True", kind, remark.clone()),
                Finding::Bad(reason, text) => ("False", *reason, text.clone()),
            };
            let same = before.condition(kind).filter(|condition| condition.status == status);
            let since = same.and_then(|condition| condition.last_transition_time.clone()).unwrap_or_else(|| now.to_owned());
            Condition {
                kind: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                last_transition_time: Some(since),
                observed_generation: generation,
            }
        };
        all.into_iter().map(condition).collect()
    }
}

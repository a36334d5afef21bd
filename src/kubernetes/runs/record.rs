//! The record of a decision as annotations of the home pod. In: a decision. Out: what is written.

use crate::{
    federation::{facts::Decision, names},
    kubernetes::bind::Annotations,
};

/// All that are taken back with an intent. The attempt's number stays: no number is ever used twice.
pub const TAKEN_BACK: [&str; 5] = [names::CLUSTER, names::CLUSTER_UID, names::NODE, names::RUN, names::INTENT];

/// What a home pod says of where it was placed.
pub fn annotations(decision: &Decision) -> Annotations {
    let run = format!("{}/{}", decision.run.namespace, decision.run.name);
    [
        (names::CLUSTER, decision.cluster.to_string()),
        (names::CLUSTER_UID, decision.cluster_uid.to_string()),
        (names::NODE, decision.node.to_string()),
        (names::ATTEMPT, decision.attempt.to_string()),
        (names::RUN, run),
    ]
    .into()
}

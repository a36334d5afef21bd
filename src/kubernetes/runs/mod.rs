//! The runs of one compute cluster: what the machine of [`crate::federation`] orders is carried out on both API servers. In: decisions of the engine, home pods
//! on the virtual Node, runs and their events over there. Out: bindings, runs, mirrored statuses, copied logs, and nothing left behind.
//!
//! ```text
//! home pods, runs, events --watched--> worker + machine --Order--> lanes --> execute --> home and compute API servers
//! engine --Place, Placed--------------^     ^                                  |
//!                                           +------------- outcome ------------+
//! ```

use std::sync::Arc;

use super::cluster::directory::ClusterEntry;
use crate::{federation::effect::Input, model::ids::PodUid};

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// A fact for the machine: placements, contact, policy.
    Fact(Input),
    /// The engine's answer to [`PlaceAgain`](crate::scheduler::input::Input::PlaceAgain).
    Placed(PodUid, Option<Box<str>>),
    /// The cluster's object or credentials changed: this entry counts from now on.
    Entry(Arc<ClusterEntry>),
}

impl From<Input> for Message {
    fn from(fact: Input) -> Self {
        Self::Fact(fact)
    }
}

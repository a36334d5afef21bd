//! The federation: what becomes of a home pod that was placed on a compute cluster. Facts about both sides in; the next effect out.
//!
//! ```text
//! engine --Place--> machine (one a cluster) --Order--> kubernetes/runs --> home and compute API servers
//!                     ^  ^                                |
//!                     |  +---- Done(outcome) -------------+
//!                     +------- Home, Run: what watches of both sides say
//! ```
//!
//! Nothing is remembered that the objects do not say: the home pod's binding and annotations are the record of the decision, the run's labels say whose it
//! is. After a crash the next step follows from what both say.

pub mod effect;
pub mod facts;
pub mod machine;
pub mod names;
pub mod project;
pub mod propagate;
mod read;
pub mod spec;
pub mod status;
#[cfg(test)]
mod world;

pub use read::{BadPod, LOST_TAINTS, tolerates};

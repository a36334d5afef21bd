//! All talk to API servers. In: JSON of watches and answers; out: [`Input`](crate::scheduler::input::Input) for the engine.
//! In: [`Command`](crate::scheduler::input::Command) of the engine; out: bindings, status patches, events.
//!
//! ```text
//! watch  -> wire -> Input ----\                      /--> bind    (never dropped, never repeated blindly)
//!                              driver + engine ------+--> patch   (newest wins per pod)
//! lease  -> Leading, deadline -/                      \--> events  (dropped before a bind is delayed)
//! ```

pub mod api;
pub mod backoff;
pub mod bind;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod election;
pub mod events;
pub mod evict;
mod fence;
pub mod images;
mod lanes;
pub mod leadership;
pub mod lease;
pub mod limiter;
mod lines;
pub mod patch;
pub mod permissions;
pub mod pod_groups;
pub mod review;
pub mod runs;
#[cfg(test)]
mod script;
pub mod series;
pub mod serving_certificate;
pub mod tasks;
pub mod watch;
pub mod wire;

//! Isobar: a standalone Kubernetes scheduler.

#[cfg(feature = "live")]
pub mod sim;

//! Isobar: a standalone Kubernetes scheduler.
//!
//! ```text
//! API server --watch--> kubernetes --Input--> scheduler::engine --Command--> kubernetes --> API server
//!                       (slim types,          cache, queue, class views,     (bind, status,
//!                        facts)               plugins: pure, synchronous      events)
//! ```
//!
//! The rooms in the order that data flows through them: [`model`] holds the nouns, [`config`] reads what people want and [`scheduler`] decides;
//! all are pure, synchronous and deterministic: no I/O, no clock, no async, no Kubernetes types. Everything that talks stands around them.

#[cfg(feature = "live")]
pub mod app;
#[cfg(feature = "live")]
pub mod archive;
#[cfg(feature = "live")]
pub mod cli;
pub mod config;
#[cfg(feature = "live")]
pub mod demo;
#[cfg(feature = "live")]
pub mod driver;
#[cfg(feature = "live")]
pub mod extenders;
pub mod federation;
#[cfg(feature = "live")]
pub mod http;
#[cfg(feature = "live")]
pub mod kubernetes;
#[cfg(feature = "live")]
pub mod live;
#[cfg(feature = "live")]
pub mod metrics;
pub mod model;
pub mod scheduler;
#[cfg(feature = "live")]
pub mod sim;
pub mod tasks;
#[cfg(feature = "live")]
pub mod telemetry;

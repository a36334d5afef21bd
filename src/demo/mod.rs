//! `isobar demo`: a weather service's cluster in memory, an hour of its work in seconds. In: a seed. Out: a report that people understand, and a picture.
//!
//! ```text
//! scenario --objects--> Author --kube client--> SimCluster <--watch, bind-- Live (what `isobar run` runs)
//!                                                   |  ^--status-- fake kubelet
//!                                                   v watch
//!                                                History --> report, picture
//! ```
//!
//! Time is tokio's, paused: it leaps to the next timer when all is done, so an hour costs what its work costs, and the same seed gives the same placements.

mod author;
mod cluster;
mod history;
mod observe;
mod picture;
mod report;
mod run;
mod scenario;
mod serve;
mod stopwatch;
mod workloads;

pub use picture::svg;
pub use report::{faults, measured, render};
pub use run::{DemoError, DemoOptions, Outcome, Progress, run};
pub use serve::{ServeOptions, serve};

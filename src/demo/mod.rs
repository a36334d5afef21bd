//! `isobar demo`: a weather service's home cluster and three compute clusters in memory, an hour of their work in seconds, pods and tasks. In: a seed. Out: a
//! report that people understand, and a picture.
//!
//! ```text
//! scenario --objects--> Author --kube client--> home <--watch, bind-- Live (what `isobar run` runs) --runs--> arm-hall, x86-cloud, gpu-cloud
//!                                                |  ^--status-- fake kubelets, there and here                       |
//!                                                |  ^--TaskRuns, pods, logs--> the room of tasks (tasks/)            |
//!                                                v watch                                                            v audit
//!                                             History -----------------> report, picture <---------------------- Abroad
//! ```
//!
//! Time is tokio's, paused: it leaps to the next timer when all is done, so an hour costs what its work costs, and the same seed gives the same placements.

mod abroad;
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
mod tasks;
mod workloads;

pub use picture::svg;
pub use report::{faults, measured, render};
pub use run::{DemoError, DemoOptions, Outcome, Progress, run};
pub use serve::{ServeOptions, serve};

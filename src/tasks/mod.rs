//! Tasks: what becomes of a firing, from its trigger to the pod's deletion. Facts about tasks, runs, pods and arrivals in; the next effect out.
//!
//! ```text
//! clock, arrivals, runs that end --> trigger/ --Firing--> freeze --TaskRun--> API server
//!                                                                               |
//! pods, answers ----------> life/ (run, pods, clock, rules) <---- watch --------+
//!                             |--> one effect at a time for each run --> executor
//! ```
//!
//! Nothing is remembered that the objects do not say: names follow from keys, so that whoever fires again meets the run that is there; each effect on a pod
//! is preceded by a write of the run's status, at which a leader that is behind fails.

pub mod admission;
pub mod concurrency;
pub mod crd;
pub mod effect;
pub mod facts;
pub mod freeze;
pub mod life;
pub mod machine;
pub mod manual;
pub mod names;
pub mod params;
pub mod rules;
pub mod run;
pub mod spec;
pub mod time;
pub mod trigger;
pub mod validate;
#[cfg(test)]
mod world;

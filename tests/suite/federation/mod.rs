//! The federation whole: the real schedulers with supervisors and workers, on clusters in memory under paused time. Scenario files, one for each failure mode,
//! and worlds in which everything goes wrong at once.
//!
//! `ISOBAR_SCENARIO=05` plays the files whose name begins so.

mod expect;
mod file;
mod scenarios;
mod stage;
mod worlds;
